#include "b2bua/sip/edge.h"

#include <errno.h>
#include <event2/listener.h>
#include <event2/thread.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "b2bua/control/mailbox.h"
#include "b2bua/sip/connection.h"
#include "b2bua/sip/tls.h"
#include "conf/clock.h"
#include "conf/log.h"

#define BACKLOG 512
/* Without descriptors a listener rests this long instead of spinning on a connection it cannot accept. */
#define ACCEPT_PAUSE_MS 200
/* Refusals are logged once in this time. */
#define WARN_INTERVAL_MS 10000
/* Connects and reloads waiting for the edge thread. */
#define COMMANDS 256

struct listener {
    struct kg_edge_whole *edge;
    unsigned transports; /* a set */
    struct kg_addr addr;
    struct evconnlistener *socket;
    struct event *resume;
};

/* The edge as its thread sees it, with what only this file needs around it. */
struct kg_edge_whole {
    struct kg_edge edge; /* first: kg_edge.h's handle points here */
    struct listener listeners[KG_LISTEN_MAX];
    size_t listener_count;
    struct kg_mailbox *commands;
    struct event *on_command;
    pthread_t thread;
    bool running;
};

struct connect_command {
    struct kg_edge *edge;
    struct kg_edge_stream stream;
};

struct ban_command {
    struct kg_edge *edge;
    struct kg_addr source;
    int64_t until_ms;
};

struct reload_command {
    struct kg_edge *edge;
    typeof(((struct kg_config *)0)->limits) limits;
    struct kg_web_config web;
    struct kg_edge_means means;
};

static struct kg_edge_whole *whole(struct kg_edge *edge)
{
    return (struct kg_edge_whole *)edge;
}

/* ---- limits ---- */

void kg_edge_note_refusal(struct kg_edge *edge, const struct kg_addr *remote, const char *why)
{
    char text[KG_ADDR_STR];
    int64_t now_ms = kg_mono_ms();
    atomic_fetch_add(&edge->refused, 1);
    if (edge->warned_ms && now_ms - edge->warned_ms < WARN_INTERVAL_MS)
        return;
    edge->warned_ms = now_ms;
    if (!kg_addr_is_set(remote)) {
        kg_warn(
            "edge",
            "cannot accept connections: %s. Close some, or raise the limit of open files (LimitNOFILE in the "
            "service file)",
            why);
        return;
    }
    kg_warn("edge",
            "closed a connection from %s: %s (%llu closed so far; further ones within %d s are only counted)",
            kg_addr_format(remote, text), why, (unsigned long long)atomic_load(&edge->refused),
            WARN_INTERVAL_MS / 1000);
}

/* Found, or made without connections. NULL: no memory. */
static struct kg_source *source_of(struct kg_edge *edge, const struct kg_addr *remote)
{
    struct kg_source *source = NULL;
    uint8_t key[16] = {0};
    if (kg_addr_family(remote) == AF_INET6) {
        memcpy(key, &remote->in6.sin6_addr, 8);
        key[15] = 6;
    } else {
        memcpy(key, &remote->in4.sin_addr, 4);
        key[15] = 4;
    }
    HASH_FIND(hh, edge->sources, key, sizeof key, source);
    if (!source) {
        source = calloc(1, sizeof *source);
        if (!source)
            return NULL;
        memcpy(source->key, key, sizeof key);
        HASH_ADD(hh, edge->sources, key, sizeof source->key, source);
    }
    return source;
}

static bool is_banned(const struct kg_source *source)
{
    return source->banned_until_ms && kg_mono_ms() < source->banned_until_ms;
}

static void forget_source(struct kg_edge *edge, struct kg_source *source)
{
    if (source->connections > 0 || is_banned(source))
        return;
    HASH_DEL(edge->sources, source);
    free(source);
}

void kg_edge_release_source(struct kg_edge *edge, struct kg_source *source)
{
    source->connections--;
    forget_source(edge, source);
}

/* ---- accepting ---- */

static void on_accept(struct evconnlistener *socket, evutil_socket_t fd, struct sockaddr *peer, int len,
                      void *arg)
{
    struct listener *listener = arg;
    struct kg_edge *edge = &listener->edge->edge;
    struct kg_edge_stream stream = {.remote = kg_addr_from_sockaddr(peer), .fd = -1};
    struct sockaddr_storage local;
    socklen_t local_len = sizeof local;
    (void)socket;
    (void)len;
    if (edge->count >= edge->limits.streams) {
        kg_edge_note_refusal(edge, &stream.remote, "limits.streams connections are open");
        close(fd);
        return;
    }
    struct kg_source *source = source_of(edge, &stream.remote);
    if (source && is_banned(source)) {
        atomic_fetch_add(&edge->refused, 1);
        close(fd);
        return;
    }
    if (source)
        source->connections++;
    if (!source || source->connections > edge->limits.streams_per_source) {
        kg_edge_note_refusal(edge, &stream.remote,
                             "limits.streams_per_source connections are open from there");
        if (source)
            kg_edge_release_source(edge, source);
        close(fd);
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (getsockname(fd, (struct sockaddr *)&local, &local_len) == 0)
        stream.local = kg_addr_from_sockaddr((struct sockaddr *)&local);
    kg_connection_new(edge, fd, &stream, listener->transports, source);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;
    (void)fd;
    (void)what;
    evconnlistener_enable(listener->socket);
}

/* EMFILE and its kin leave the connection in the queue, ready for ever. */
static void on_accept_error(struct evconnlistener *socket, void *arg)
{
    struct listener *listener = arg;
    struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};
    struct kg_addr none = {0};
    int error = EVUTIL_SOCKET_ERROR();
    evconnlistener_disable(socket);
    event_add(listener->resume, &pause);
    kg_edge_note_refusal(&listener->edge->edge, &none, strerror(error));
}

static int bind_socket(struct kg_addr *addr)
{
    int one = 1;
    socklen_t len = kg_addr_len(addr);
    int fd = socket(kg_addr_family(addr), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
               sizeof one); /* ports in TIME_WAIT; never one that is in use */
    if (kg_addr_family(addr) == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, &addr->sa, len) == 0 && listen(fd, BACKLOG) == 0 && getsockname(fd, &addr->sa, &len) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int kg_edge_listen(struct kg_edge *edge, enum kg_transport transport, struct kg_addr *addr)
{
    struct kg_edge_whole *all = whole(edge);
    for (size_t i = 0; i < all->listener_count; i++)
        if (kg_addr_port(addr) != 0 && kg_addr_equal(&all->listeners[i].addr, addr)) {
            all->listeners[i].transports |= KG_TRANSPORT_BIT(transport);
            return 0;
        }
    if (all->listener_count == KG_LISTEN_MAX)
        return ENOSPC;
    int fd = bind_socket(addr);
    if (fd < 0)
        return errno;
    struct listener *listener = &all->listeners[all->listener_count];
    *listener = (struct listener){.edge = all, .transports = KG_TRANSPORT_BIT(transport), .addr = *addr};
    listener->socket =
        evconnlistener_new(edge->base, on_accept, listener,
                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
    if (!listener->socket) {
        close(fd);
        return ENOMEM;
    }
    listener->resume = evtimer_new(edge->base, on_resume, listener);
    evconnlistener_set_error_cb(listener->socket, on_accept_error);
    all->listener_count++;
    return listener->resume ? 0 : ENOMEM;
}

/* ---- commands from other threads ---- */

static void on_command(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    kg_mailbox_run(arg);
}

static void do_connect(void *arg)
{
    struct connect_command *command = arg;
    kg_connection_new(command->edge, -1, &command->stream, 0, NULL);
    free(command);
}

int kg_edge_connect(struct kg_edge *edge, const struct kg_edge_stream *stream)
{
    struct connect_command *command = malloc(sizeof *command);
    int failed = command ? 0 : EAGAIN;
    if (command) {
        *command = (struct connect_command){edge, *stream};
        failed = kg_mailbox_post(whole(edge)->commands, do_connect, command);
    }
    if (failed) {
        free(command);
        close(stream->fd);
    }
    return failed;
}

static void do_ban(void *arg)
{
    struct ban_command *command = arg;
    struct kg_edge *edge = command->edge;
    struct kg_source *source = source_of(edge, &command->source), *each, *next_source;
    struct kg_connection *next;
    if (source)
        source->banned_until_ms = command->until_ms;
    for (struct kg_connection *c = edge->connections; source && is_banned(source) && c; c = next) {
        next = c->next;
        if (c->source == source)
            kg_connection_free(c);
    }
    /* Nobody else looks for bans that are over: their number stays that of kg_guard's. */
    HASH_ITER(hh, edge->sources, each, next_source)
    {
        forget_source(edge, each);
    }
    free(command);
}

int kg_edge_ban(struct kg_edge *edge, const struct kg_addr *source, int64_t until_ms)
{
    struct ban_command *command = malloc(sizeof *command);
    int failed = command ? 0 : ENOMEM;
    if (command) {
        *command = (struct ban_command){edge, *source, until_ms};
        failed = kg_mailbox_post(whole(edge)->commands, do_ban, command);
    }
    if (failed)
        free(command);
    return failed;
}

static void do_reload(void *arg)
{
    struct reload_command *command = arg;
    struct kg_edge *edge = command->edge;
    edge->limits = command->limits;
    edge->web = command->web;
    if (command->means.server) {
        SSL_CTX_free(edge->server); /* open connections hold their own reference */
        edge->server = command->means.server;
    }
    SSL_CTX_free(edge->client);
    edge->client = command->means.client;
    kg_files_unref(edge->files); /* so do answers under way */
    edge->files = command->means.files;
    free(command);
}

void kg_edge_means_free(struct kg_edge_means *means)
{
    SSL_CTX_free(means->server);
    SSL_CTX_free(means->client);
    kg_files_unref(means->files);
    *means = (struct kg_edge_means){0};
}

int kg_edge_reload(struct kg_edge *edge, const struct kg_config *config, struct kg_edge_means means)
{
    struct reload_command *command = malloc(sizeof *command);
    int failed = command ? 0 : ENOMEM;
    if (command) {
        command->edge = edge;
        command->limits = config->limits;
        command->web = config->web;
        command->means = means;
        failed = kg_mailbox_post(whole(edge)->commands, do_reload, command);
    }
    if (failed) {
        free(command);
        kg_edge_means_free(&means);
    }
    return failed;
}

static void do_stop(void *arg)
{
    event_base_loopbreak(arg);
}

/* ---- the object ---- */

struct kg_edge *kg_edge_new(const struct kg_config *config, struct kg_edge_means means, kg_edge_offer *offer,
                            void *ctx)
{
    evthread_use_pthreads(); /* control/ adds its HTTP server to this loop from the signalling thread */
    struct kg_edge_whole *all = calloc(1, sizeof *all);
    if (!all) {
        kg_edge_means_free(&means);
        return NULL;
    }
    struct kg_edge *edge = &all->edge;
    edge->limits = config->limits;
    edge->web = config->web;
    snprintf(edge->domain, sizeof edge->domain, "%s", config->sip.domain);
    edge->server = means.server;
    edge->client = means.client;
    edge->files = means.files;
    edge->offer = offer;
    edge->ctx = ctx;
    edge->base = event_base_new();
    all->commands = kg_mailbox_new(COMMANDS);
    if (edge->base && all->commands)
        all->on_command = event_new(edge->base, kg_mailbox_fd(all->commands), EV_READ | EV_PERSIST,
                                    on_command, all->commands);
    if (!all->on_command || event_add(all->on_command, NULL) != 0) {
        kg_edge_free(edge);
        return NULL;
    }
    return edge;
}

static void *run(void *arg)
{
    struct kg_edge *edge = arg;
    event_base_loop(edge->base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

int kg_edge_start(struct kg_edge *edge)
{
    struct kg_edge_whole *all = whole(edge);
    sigset_t every, before;
    for (size_t i = 0; i < all->listener_count; i++)
        evconnlistener_enable(all->listeners[i].socket);
    sigfillset(&every); /* signals are the main thread's; a blocked SIGPIPE is an EPIPE */
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int failed = pthread_create(&all->thread, NULL, run, edge);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    all->running = !failed;
    if (!failed)
        pthread_setname_np(all->thread, "edge");
    return failed;
}

void kg_edge_free(struct kg_edge *edge)
{
    if (!edge)
        return;
    struct kg_edge_whole *all = whole(edge);
    if (all->running) {
        while (kg_mailbox_post(all->commands, do_stop, edge->base) == EAGAIN)
            usleep(1000);
        pthread_join(all->thread, NULL);
    }
    for (size_t i = 0; i < all->listener_count; i++) {
        evconnlistener_free(all->listeners[i].socket);
        if (all->listeners[i].resume)
            event_free(all->listeners[i].resume);
    }
    if (all->commands)
        kg_mailbox_run(all->commands); /* what was posted after the stop owns things */
    while (edge->connections)
        kg_connection_free(edge->connections);
    struct kg_source *source, *next;
    HASH_ITER(hh, edge->sources, source, next)
    {
        HASH_DEL(edge->sources, source);
        free(source);
    }
    if (all->on_command)
        event_free(all->on_command);
    kg_mailbox_free(all->commands);
    if (edge->base)
        event_base_free(edge->base);
    SSL_CTX_free(edge->server);
    SSL_CTX_free(edge->client);
    kg_files_unref(edge->files);
    free(all);
}

struct event_base *kg_edge_base(struct kg_edge *edge)
{
    return edge->base;
}

struct kg_edge_counts kg_edge_counts(const struct kg_edge *edge)
{
    return (struct kg_edge_counts){.refused = atomic_load(&edge->refused),
                                   .websockets = atomic_load(&edge->websockets),
                                   .handshakes_refused = atomic_load(&edge->handshakes_refused)};
}
