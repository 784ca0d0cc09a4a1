#include "media/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/log.h"
#include "media/client_state.h"

#define REQUESTS_MAX 4096
#define RECONNECT_MS 50
#define RUN_EVERY_MS 500 /* so that a request made between runs expires in time */
#define READ_BURST   256

/* ---- construction ---- */

struct kg_media_client *kg_media_client_new(const char *path, kg_media_on_event *on_event, void *ctx)
{
    struct kg_media_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->fd = -1;
    client->on_event = on_event;
    client->ctx = ctx;
    client->in_arena = kg_arena_new();
    client->out_arena = kg_arena_new();
    snprintf(client->path, sizeof client->path, "%s", path);
    if (client->in_arena == NULL || client->out_arena == NULL) {
        kg_media_client_free(client);
        return NULL;
    }
    return client;
}

void kg_media_client_free(struct kg_media_client *client)
{
    if (client == NULL)
        return;
    if (client->fd >= 0)
        close(client->fd);
    kg_requests_clear(&client->requests);
    kg_mirror_clear(&client->mirror);
    kg_arena_free(client->in_arena);
    kg_arena_free(client->out_arena);
    free(client);
}

int kg_media_client_fd(const struct kg_media_client *client)
{
    return client->fd;
}

bool kg_media_client_wants_write(const struct kg_media_client *client)
{
    return client->fd >= 0 && client->blocked;
}

bool kg_media_client_is_up(const struct kg_media_client *client)
{
    return client->state == KG_CLIENT_UP;
}

void kg_client_tell(struct kg_media_client *client, const struct kg_media_event *event)
{
    if (client->on_event)
        client->on_event(client->ctx, event);
}

void kg_client_tell_plain(struct kg_media_client *client, enum kg_media_event_type type)
{
    kg_client_tell(client, &(struct kg_media_event){.type = type});
}

/* ---- sending ---- */

/* False: not sent; blocked or broken says why. */
static bool put(struct kg_media_client *client, const uint8_t *data, size_t len)
{
    if (client->blocked || client->broken)
        return false;
    if (send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS)
        client->blocked = true;
    else
        client->broken = true;
    return false;
}

static void put_request(struct kg_media_client *client, struct kg_request *request)
{
    request->sent = put(client, request->packed, request->len);
    request->ever_sent |= request->sent;
}

void kg_client_put_message(struct kg_media_client *client, const Kg__Message *message)
{
    uint8_t packed[2048]; /* Hello and Configure, which may list KG_MEDIA_AVOID_MAX addresses */
    if (kg__message__get_packed_size(message) <= sizeof packed)
        put(client, packed, kg__message__pack(message, packed));
}

static void put_configure(struct kg_media_client *client)
{
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_CONFIGURE;
    message.configure = &client->configure;
    kg_client_put_message(client, &message);
    client->configure_due = client->blocked;
}

static bool may_send(const struct kg_media_client *client, const struct kg_request *request)
{
    if (request->sent || request->not_before_ms > client->now_ms)
        return false;
    return client->state == KG_CLIENT_UP ||
           (client->state == KG_CLIENT_RECOVERING && kg_request_is_recovery(request));
}

/* Sends what may be sent now, in order. */
void kg_client_flush(struct kg_media_client *client)
{
    if (client->state < KG_CLIENT_RECOVERING)
        return;
    if (client->configure_due)
        put_configure(client);
    struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        if (client->blocked || client->broken)
            return;
        if (may_send(client, request))
            put_request(client, request);
    }
}

/* One new request at the end of the queue: all before it were sent unless the socket is blocked. */
static void send_new(struct kg_media_client *client, struct kg_request *request)
{
    if (may_send(client, request))
        put_request(client, request);
}

/* ---- requests ---- */

static bool is_full(const struct kg_media_client *client)
{
    return kg_requests_count(&client->requests) >= REQUESTS_MAX;
}

static int pack_side(struct kg_arena *arena, const struct kg_media_side *side, ProtobufCBinaryData *out)
{
    if (side == NULL)
        return 0;
    Kg__Side *wire = kg_wire_from_side(arena, side);
    size_t len = wire ? kg__side__get_packed_size(wire) : 0;
    out->data = wire ? kg_arena_take(arena, len ? len : 1) : NULL;
    if (out->data == NULL)
        return ENOMEM;
    out->len = kg__side__pack(wire, out->data);
    return 0;
}

/* False: the arena is full. */
static bool add_ice_local(struct kg_arena *arena, const struct kg_media_ice_local *local, Kg__IceLocal **out)
{
    if (local->ufrag[0] != '\0')
        *out = kg_wire_from_ice_local(arena, local);
    return local->ufrag[0] == '\0' || *out;
}

int kg_media_apply(struct kg_media_client *client, const struct kg_media_change *change, kg_media_done *done,
                   void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    if (change->snapshot && change->snapshot_len > KG_MEDIA_SNAPSHOT_MAX)
        return EMSGSIZE;
    kg_arena_reset(client->out_arena);
    Kg__Apply apply = KG__APPLY__INIT;
    char id[KG_MEDIA_ID_MAX];
    snprintf(id, sizeof id, "%s", change->id);
    apply.id = id;
    apply.bind_a = kg_wire_from_addr(client->out_arena, &change->bind[KG_SIDE_A]);
    apply.bind_b = kg_wire_from_addr(client->out_arena, &change->bind[KG_SIDE_B]);
    apply.answered = change->answered;
    apply.has_snapshot = change->snapshot != NULL;
    apply.snapshot.len = change->snapshot ? change->snapshot_len : 0;
    apply.snapshot.data = (uint8_t *)(uintptr_t)change->snapshot;
    if (pack_side(client->out_arena, change->side[KG_SIDE_A], &apply.side_a) != 0 ||
        pack_side(client->out_arena, change->side[KG_SIDE_B], &apply.side_b) != 0 ||
        !add_ice_local(client->out_arena, &change->ice[KG_SIDE_A], &apply.ice_a) ||
        !add_ice_local(client->out_arena, &change->ice[KG_SIDE_B], &apply.ice_b))
        return ENOMEM;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_APPLY;
    message.apply = &apply;
    struct kg_request *request = kg_requests_add(&client->requests, KG_REQUEST_APPLY, id, &message);
    if (request == NULL)
        return errno;
    struct kg_mirror_session *session = kg_mirror_get(&client->mirror, id);
    if (session == NULL || kg_mirror_take_apply(session, &apply) != 0) {
        if (session && !session->confirmed)
            kg_mirror_remove(&client->mirror, session);
        kg_requests_remove(&client->requests, request);
        return ENOMEM;
    }
    session->deleting = false;
    request->creates = !session->confirmed;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    kg_arena_reset(client->out_arena); /* keys do not wait there for the next request */
    return 0;
}

struct kg_request *kg_client_add_delete(struct kg_media_client *client, const char *id)
{
    Kg__Delete body = KG__DELETE__INIT;
    body.id = (char *)(uintptr_t)id;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_DELETION;
    message.deletion = &body;
    struct kg_request *request = kg_requests_add(&client->requests, KG_REQUEST_DELETE, id, &message);
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, id);
    if (request && session)
        session->deleting = true;
    return request;
}

int kg_media_delete(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    struct kg_request *request = kg_client_add_delete(client, id);
    if (request == NULL)
        return errno;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    return 0;
}

struct kg_request *kg_client_add_query(struct kg_media_client *client, enum kg_request_kind kind,
                                       const char *id, bool whole)
{
    Kg__Query body = KG__QUERY__INIT;
    body.id = (char *)(uintptr_t)id;
    body.whole = whole;
    Kg__Message message = KG__MESSAGE__INIT;
    message.body_case = KG__MESSAGE__BODY_QUERY;
    message.query = &body;
    return kg_requests_add(&client->requests, kind, id, &message);
}

int kg_media_query(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx)
{
    if (is_full(client))
        return ENOBUFS;
    struct kg_request *request =
        kg_client_add_query(client, id ? KG_REQUEST_QUERY : KG_REQUEST_QUERY_ALL, id ? id : "", false);
    if (request == NULL)
        return errno;
    request->done = done;
    request->ctx = ctx;
    send_new(client, request);
    return 0;
}

static void list_avoided(struct kg_media_client *client)
{
    for (size_t i = 0; i < client->avoid_count; i++) {
        struct kg_addr *addr = &client->avoid_addr[i];
        bool v6 = kg_addr_family(addr) == AF_INET6;
        Kg__Address *to = client->avoid_list[i] = &client->avoid[i];
        kg__address__init(to);
        to->host.data = v6 ? (uint8_t *)&addr->in6.sin6_addr : (uint8_t *)&addr->in4.sin_addr;
        to->host.len = v6 ? sizeof addr->in6.sin6_addr : sizeof addr->in4.sin_addr;
        to->port = kg_addr_port(addr);
    }
    client->configure.avoid = client->avoid_list;
    client->configure.n_avoid = client->avoid_count;
}

static void send_configure(struct kg_media_client *client)
{
    list_avoided(client);
    if (client->state >= KG_CLIENT_RECOVERING)
        put_configure(client);
}

void kg_media_avoid(struct kg_media_client *client, const struct kg_addr *addr, size_t count)
{
    client->avoid_count = count < KG_MEDIA_AVOID_MAX ? count : KG_MEDIA_AVOID_MAX;
    memcpy(client->avoid_addr, addr, client->avoid_count * sizeof *addr);
    if (client->has_configure)
        send_configure(client);
}

int kg_media_configure(struct kg_media_client *client, const struct kg_config *config)
{
    Kg__Configure *c = &client->configure;
    kg__configure__init(c);
    c->port_min = config->media.port_min;
    c->port_max = config->media.port_max;
    c->latch_packets = config->media.latch_packets;
    c->latch_window_ms = config->media.latch_window_ms;
    c->silence_timeout_ms = config->media.silence_timeout_ms;
    c->hold_timeout_ms = config->media.hold_timeout_ms;
    c->unanswered_timeout_ms = config->media.unanswered_timeout_ms;
    c->port_quarantine_ms = config->media.port_quarantine_ms;
    c->ice_pacing_ms = config->ice.pacing_ms;
    c->ice_rto_ms = config->ice.rto_ms;
    c->ice_patience_ms = config->ice.patience_ms;
    c->ice_keepalive_ms = config->ice.keepalive_ms;
    c->ice_consent_ms = config->ice.consent_ms;
    c->ice_consent_expiry_ms = config->ice.consent_expiry_ms;
    c->tell_rtcp = kg_addr_is_set(&config->hep.server);
    client->has_configure = true;
    send_configure(client);
    return 0;
}

/* ---- running ---- */

static void try_connect(struct kg_media_client *client)
{
    if (client->now_ms < client->reconnect_ms)
        return;
    client->reconnect_ms = client->now_ms + RECONNECT_MS;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(client->path);
    if (len >= sizeof at.sun_path)
        return;
    memcpy(at.sun_path, client->path, len);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->state = KG_CLIENT_GREETING;
    client->blocked = client->broken = false;
}

static void disconnect(struct kg_media_client *client)
{
    bool met = client->state > KG_CLIENT_GREETING;
    close(client->fd);
    client->fd = -1;
    client->state = KG_CLIENT_DOWN;
    client->blocked = client->broken = false;
    client->reconnect_ms = client->now_ms;
    if (!met)
        client->reconnect_ms += RECONNECT_MS;
    struct kg_request *request, *next;
    HASH_ITER(hh, client->requests.by_number, request, next)
    {
        request->sent = false;
        if (kg_request_is_recovery(request))
            kg_requests_remove(&client->requests, request);
    }
    if (met)
        kg_client_tell_plain(client, KG_MEDIA_DOWN);
}

static void read_all(struct kg_media_client *client)
{
    for (int i = 0; i < READ_BURST && !client->broken; i++) {
        ssize_t len = recv(client->fd, client->in, sizeof client->in, MSG_DONTWAIT);
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0)
            client->broken = true;
        else
            kg_client_on_message(client, (size_t)len);
    }
}

/* Takes the request out of the queue before its owner hears: the callback may make new ones. */
void kg_client_complete(struct kg_media_client *client, struct kg_request *request,
                        const struct kg_media_reply *reply)
{
    kg_media_done *done = request->done;
    void *ctx = request->ctx;
    kg_requests_remove(&client->requests, request);
    if (done)
        done(ctx, reply);
}

static void expire(struct kg_media_client *client, struct kg_request *request)
{
    static const struct kg_media_reply gone = {.error = KG_MEDIA_GONE};
    struct kg_mirror_session *session = kg_mirror_find(&client->mirror, request->id);
    if (request->kind == KG_REQUEST_DELETE) {
        /* Its owner hears that we cannot tell; the engine hears of it when it is back. */
        kg_media_done *done = request->done;
        request->done = NULL;
        request->deadline_ms = INT64_MAX;
        if (done)
            done(request->ctx, &gone);
        return;
    }
    if (request->kind == KG_REQUEST_APPLY && request->creates && session && !session->confirmed) {
        /* For its owner the session was never made. If the engine heard of it, it shall forget it. */
        struct kg_request *undo = NULL;
        if (!request->ever_sent)
            kg_mirror_remove(&client->mirror, session);
        else if ((undo = kg_client_add_delete(client, request->id)))
            undo->deadline_ms = INT64_MAX;
    }
    kg_client_complete(client, request, &gone);
}

/* Returns the earliest deadline left. */
static int64_t expire_due(struct kg_media_client *client)
{
    int64_t earliest;
    struct kg_request *request, *due;
    do {
        due = NULL;
        earliest = INT64_MAX;
        for (request = client->requests.by_number; request && !due; request = request->hh.next) {
            if (request->deadline_ms == 0)
                request->deadline_ms = client->now_ms + KG_REQUEST_TIMEOUT_MS;
            if (request->deadline_ms <= client->now_ms)
                due = request;
            int64_t at =
                request->not_before_ms && !request->sent ? request->not_before_ms : request->deadline_ms;
            if (at < earliest)
                earliest = at;
        }
        if (due)
            expire(client, due);
    } while (due);
    return earliest;
}

int64_t kg_media_client_run(struct kg_media_client *client, int64_t now_ms)
{
    client->now_ms = now_ms;
    if (client->state == KG_CLIENT_DOWN)
        try_connect(client);
    if (client->state != KG_CLIENT_DOWN) {
        client->blocked = false;
        kg_client_flush(client);
        read_all(client);
        kg_client_flush(client);
    }
    if (client->broken)
        disconnect(client);
    int64_t next = expire_due(client);
    if (client->state == KG_CLIENT_DOWN && client->reconnect_ms < next)
        next = client->reconnect_ms;
    int64_t wait = next - now_ms;
    return wait < 0 ? 0 : wait < RUN_EVERY_MS ? wait : RUN_EVERY_MS;
}

const struct kg_fingerprint *kg_media_fingerprint(const struct kg_media_client *client)
{
    return client->identity.hash != KG_FINGERPRINT_NONE ? &client->identity : NULL;
}
