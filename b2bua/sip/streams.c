#include "b2bua/sip/streams.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "b2bua/control/mailbox.h"
#include "b2bua/server.h"
#include "b2bua/sip/edge.h"
#include "b2bua/sip/files.h"
#include "b2bua/sip/tls.h"
#include "b2bua/sip/tport_abi.h"
#include "conf/log.h"

/* New connections waiting for the signalling thread; when it is full the edge refuses. */
#define INBOX 1024

struct kg_streams {
    struct kg_sip *sip;
    struct kg_edge *edge;
    struct kg_mailbox *inbox; /* of struct arrival */
    int inbox_index;          /* su_root's; 0: not registered */
    struct loss *losses;      /* connections whose end was noticed in the middle of something else */
};

struct loss {
    struct loss *next;
    tport_t *tport;
};

struct arrival {
    struct kg_streams *streams;
    struct kg_edge_stream stream;
};

/* The library keeps transport types, and so this, for the life of the process. */
static struct kg_tport_type edge_type;
static enum kg_transport binding;
/* Whose connect() the library calls; one stack a process. */
static struct kg_streams *current;
/* The connection that woke the library, while no message of its is being served. */
static tport_t *awake;

static struct kg_tport_head *head_of(void *tport)
{
    return tport;
}

/* ---- the transport type ---- */

/* The library looks a type up by name before this and takes the new transport's name from it after this. */
static int init_primary(void *primary, tp_name_t *name, su_addrinfo_t *info, tagi_t const *tags,
                        char const **culprit)
{
    (void)name;
    (void)info;
    (void)tags;
    struct kg_tport_type const *type;
    memcpy(&type, (char *)primary + KG_TPORT_SECONDARY_SIZE, sizeof type);
    struct kg_tport_head *head = head_of(primary);
    head->is_connected = 1;
    bool right = type == &edge_type && tport_is_connected(primary) && !tport_is_closed(primary);
    head->is_connected = 0;
    if (!right || tport_is_connected(primary)) {
        *culprit = "layout";
        errno = ENOSYS;
        return -1;
    }
    head->connection_oriented = 1;
    /* Upper case: a Via is compared by case. "tcp" the library knows. */
    static const char *const names[] = {[KG_TLS] = "TLS", [KG_WS] = "WS", [KG_WSS] = "WSS"};
    if (names[binding])
        edge_type.name = names[binding];
    return 0;
}

static int init_secondary(tport_t *tport, int socket, int accepted, char const **culprit)
{
    (void)socket;
    (void)accepted;
    (void)culprit;
    head_of(tport)->has_connection = 1;
    return 0;
}

static void wake_up(void *nothing)
{
    (void)nothing;
}

/* Tells it with the next round of the loop. False: out of memory. */
static bool put_off(struct kg_streams *streams, tport_t *tport)
{
    struct loss *loss = malloc(sizeof *loss);
    if (!loss)
        return false;
    *loss = (struct loss){streams->losses, tport_ref(tport)};
    streams->losses = loss;
    (void)kg_mailbox_post(streams->inbox, wake_up, NULL); /* full: the loop comes by anyhow */
    return true;
}

static void take_loss(struct kg_streams *streams, bool tell)
{
    struct loss *loss = streams->losses;
    struct kg_sip *sip = streams->sip;
    streams->losses = loss->next;
    if (tell)
        sip->handlers.on_flow_lost(sip->handlers.ctx, loss->tport);
    tport_unref(loss->tport);
    free(loss);
}

/* Whoever sends over a connection that is gone may be the one to find that out, and holds what goes with it:
 * he is not told in the middle of his work. */
static void on_lost(tp_stack_t *stack, tp_client_t *client, tport_t *tport, msg_t *msg, int error)
{
    (void)stack;
    (void)msg;
    (void)error;
    struct kg_sip *sip = (struct kg_sip *)client;
    if (tport == awake || !sip->streams->inbox_index || !put_off(sip->streams, tport))
        sip->handlers.on_flow_lost(sip->handlers.ctx, tport);
}

static int wake(su_root_magic_t *magic, su_wait_t *wait, tport_t *tport)
{
    awake = tport;
    int done = tport_wakeup(magic, wait, tport);
    awake = NULL;
    return done;
}

static void deliver(tport_t *tport, msg_t *msg, su_time_t now)
{
    tport_t *outer = awake;
    awake = NULL;
    kg_sip_admit_stream(tport, msg, now);
    awake = outer;
}

/* A connection object of the library around fd, which it owns from here on. NULL and errno. */
static tport_t *wrap(struct kg_sip *sip, tport_t *primary, int fd, bool accepted,
                     const struct kg_addr *remote, const char *canonical)
{
    const char *why = NULL;
    struct kg_addr peer = *remote;
    su_addrinfo_t info = *tport_get_address(primary);
    info.ai_next = NULL;
    info.ai_canonname = NULL;
    info.ai_addr = &peer.sa;
    info.ai_addrlen = kg_addr_len(&peer);
    tport_t *tport = tport_alloc_secondary(primary, fd, accepted, &why);
    if (!tport) {
        errno = ENOMEM;
        return NULL;
    }
    if (tport_setname(tport, tport_name(primary)->tpn_proto, &info, canonical) < 0 ||
        tport_register_secondary(tport, (su_wakeup_f)wake, SU_WAIT_IN | SU_WAIT_ERR | SU_WAIT_HUP) < 0) {
        tport_close(tport);
        tport_zap_secondary(tport);
        errno = ENOMEM;
        return NULL;
    }
    head_of(tport)->connection_oriented = 1;
    head_of(tport)->is_connected = 1;
    tport_pend(tport, NULL, on_lost, (tp_client_t *)sip);
    return tport;
}

/* kedge opens streams toward its servers only. A phone whose connection is gone comes back by itself, and an
 * answer must not make kedge connect to wherever a Via points. */
static bool may_connect(const struct kg_sip *sip, struct kg_edge_stream *out)
{
    const char *name = "";
    if (!sip->handlers.on_connect ||
        !sip->handlers.on_connect(sip->handlers.ctx, out->transport, &out->remote, &name, &out->verify))
        return false;
    snprintf(out->name, sizeof out->name, "%s", name);
    return true;
}

static tport_t *connect_stream(void *primary, su_addrinfo_t *info, tp_name_t const *name)
{
    struct kg_streams *streams = current;
    struct kg_edge_stream out = {.remote = kg_addr_from_sockaddr(info->ai_addr), .fd = -1};
    int pair[2];
    const char *proto = tport_name(primary)->tpn_proto;
    out.transport = strcasecmp(proto, "tls") == 0 ? KG_TLS : KG_TCP;
    bool is_server = out.transport == KG_TLS || strcasecmp(proto, "tcp") == 0; /* not a browser */
    if (!is_server || !streams || !streams->edge || !may_connect(streams->sip, &out)) {
        errno = ENOTCONN;
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return NULL;
    tport_t *tport = wrap(streams->sip, primary, pair[0], false, &out.remote, name->tpn_canon);
    if (!tport) {
        close(pair[1]);
        return NULL;
    }
    out.fd = pair[1];
    kg_edge_connect(streams->edge, &out);
    tport_set_secondary_timer(tport);
    return tport;
}

static int register_types(char *error, size_t size)
{
    if (edge_type.name)
        return 0;
    edge_type = tport_tcp_vtable;
    if (edge_type.primary_size != KG_TPORT_PRIMARY_SIZE ||
        edge_type.secondary_size != KG_TPORT_SECONDARY_SIZE || strcmp(edge_type.name, "tcp") != 0 ||
        edge_type.public_kind != 0 || !edge_type.recv || !edge_type.send || edge_type.deliver ||
        kg_sip_admit_udp() != 0) {
        snprintf(
            error, size,
            "This libsofia-sip-ua has another layout than Debian 12's 64-bit one, for which kedge is made. "
            "Install Debian 12's libsofia-sip-ua0.");
        edge_type.name = NULL;
        return ENOSYS;
    }
    edge_type.init_primary = init_primary;
    edge_type.wakeup_primary = NULL;
    edge_type.connect = connect_stream;
    edge_type.init_secondary = init_secondary;
    edge_type.deliver = deliver;
    return tport_register_type(&edge_type) == 0 ? 0 : ENOMEM;
}

void kg_streams_bind_as(enum kg_transport transport)
{
    binding = transport;
    edge_type.name = "tcp";
}

/* ---- arrivals from the edge ---- */

static void adopt(void *arg)
{
    struct arrival *arrival = arg;
    struct kg_sip *sip = arrival->streams->sip;
    const struct kg_edge_stream *stream = &arrival->stream;
    struct kg_local *local = kg_sip_local(sip, stream->transport, &stream->local);
    kg_counters.streams_accepted++;
    if (!local)
        close(stream->fd);
    else
        wrap(sip, local->tport, stream->fd, true, &stream->remote, NULL);
    free(arrival);
}

/* Edge thread. */
static int offer(void *ctx, const struct kg_edge_stream *stream)
{
    struct kg_streams *streams = ctx;
    struct arrival *arrival = malloc(sizeof *arrival);
    if (!arrival)
        return ENOMEM;
    *arrival = (struct arrival){streams, *stream};
    int failed = kg_mailbox_post(streams->inbox, adopt, arrival);
    if (failed)
        free(arrival);
    return failed;
}

static int on_inbox(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    (void)magic;
    (void)wait;
    struct kg_streams *streams = (struct kg_streams *)arg;
    kg_mailbox_run(streams->inbox);
    while (streams->losses)
        take_loss(streams, true);
    return 0;
}

static int watch_inbox(struct kg_streams *streams)
{
    su_wait_t wait[1] = {SU_WAIT_INIT};
    if (su_wait_create(wait, kg_mailbox_fd(streams->inbox), SU_WAIT_IN) != 0)
        return errno;
    streams->inbox_index =
        su_root_register(streams->sip->root, wait, on_inbox, (su_wakeup_arg_t *)streams, 0);
    return streams->inbox_index > 0 ? 0 : ENOMEM;
}

/* ---- the object ---- */

static bool has_tls_listener(const struct kg_config *config)
{
    for (size_t i = 0; i < config->sip.listen_count; i++)
        if (kg_transport_is_secure(config->sip.listen[i].transport))
            return true;
    return false;
}

/* What the configuration names. 0, or EINVAL and a sentence. */
static int gather(const struct kg_config *config, bool wants_server, struct kg_edge_means *out, char *error,
                  size_t size)
{
    *out = (struct kg_edge_means){0};
    if (wants_server && !(out->server = kg_tls_server(config, error, size)))
        return EINVAL;
    out->client = kg_tls_client(config, error, size);
    out->files = out->client ? kg_files_load(config, error, size) : NULL;
    if (out->files)
        return 0;
    kg_edge_means_free(out);
    return EINVAL;
}

int kg_streams_new(struct kg_sip *sip, struct kg_streams **out, char *error, size_t size)
{
    struct kg_edge_means means;
    int failed = register_types(error, size);
    if (failed)
        return failed;
    if (gather(&sip->config, has_tls_listener(&sip->config), &means, error, size) != 0)
        return EINVAL;
    struct kg_streams *streams = calloc(1, sizeof *streams);
    if (!streams) {
        kg_edge_means_free(&means);
        return ENOMEM;
    }
    streams->sip = sip;
    *out = current = streams;
    streams->inbox = kg_mailbox_new(INBOX);
    streams->edge = kg_edge_new(&sip->config, means, offer, streams);
    return streams->inbox && streams->edge ? watch_inbox(streams) : ENOMEM;
}

int kg_streams_listen(struct kg_streams *streams, enum kg_transport transport, struct kg_addr *addr)
{
    return kg_edge_listen(streams->edge, transport, addr);
}

int kg_streams_start(struct kg_streams *streams)
{
    return kg_edge_start(streams->edge);
}

void kg_streams_stop(struct kg_streams *streams)
{
    if (!streams)
        return;
    kg_edge_free(streams->edge);
    streams->edge = NULL;
    if (streams->inbox)
        kg_mailbox_run(streams->inbox); /* what still waits becomes the agent's, which closes it */
    if (streams->inbox_index > 0)
        su_root_deregister(streams->sip->root, streams->inbox_index);
    streams->inbox_index = 0;
    while (streams->losses)
        take_loss(streams, false);
}

void kg_streams_free(struct kg_streams *streams)
{
    if (!streams)
        return;
    kg_mailbox_free(streams->inbox);
    if (current == streams)
        current = NULL;
    free(streams);
}

struct event_base *kg_streams_base(struct kg_streams *streams)
{
    return kg_edge_base(streams->edge);
}

int kg_streams_reload(struct kg_streams *streams, const struct kg_config *config, char *error, size_t size)
{
    struct kg_edge_means means;
    if (gather(config, has_tls_listener(&streams->sip->config), &means, error, size) != 0)
        return EINVAL;
    int failed = kg_edge_reload(streams->edge, config, means);
    if (failed)
        snprintf(error, size, "The edge is too busy to take the new limits and certificate: reload again.");
    return failed ? EINVAL : 0;
}

void kg_streams_ban(struct kg_streams *streams, const struct kg_addr *source, int64_t until_ms)
{
    if (kg_edge_ban(streams->edge, source, until_ms) != 0)
        kg_warn("edge",
                "too busy to %s connections of a banned address; its requests are dropped all the same",
                until_ms ? "close the" : "let in the");
}

void kg_streams_count(const struct kg_streams *streams)
{
    struct kg_edge_counts counts = kg_edge_counts(streams->edge);
    kg_counters.streams_refused = counts.refused;
    kg_counters.websockets_opened = counts.websockets;
    kg_counters.websockets_refused = counts.handshakes_refused;
}
