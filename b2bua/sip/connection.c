#include "b2bua/sip/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "b2bua/sip/shim.h"
#include "b2bua/sip/tls.h"
#include "conf/clock.h"
#include "conf/log.h"

/* More than this waiting in one direction stops the reading of the other end; it goes on below the low mark.
 */
#define HIGH_WATER (128 * 1024)
#define LOW_WATER  (32 * 1024)
/* A PBX that vanished without a word is noticed after about two minutes of silence. */
#define PROBE_IDLE_S     60
#define PROBE_INTERVAL_S 20
#define PROBE_COUNT      3

static const char pong[] = "\r\n"; /* RFC 5626 3.5.1 */

static void read_net(struct kg_connection *connection);

void kg_connection_free(struct kg_connection *connection)
{
    struct kg_edge *edge = connection->edge;
    SSL *ssl = connection->net ? bufferevent_openssl_get_ssl(connection->net) : NULL;
    if (ssl && connection->state != KG_CONNECTION_OPENING) {
        SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN); /* send close_notify, wait for none */
        SSL_shutdown(ssl);
    }
    if (connection->net)
        bufferevent_free(connection->net);
    if (connection->sip)
        bufferevent_free(connection->sip);
    if (connection->stream.fd >= 0)
        close(connection->stream.fd);
    if (connection->deadline)
        event_free(connection->deadline);
    if (connection->source)
        kg_edge_release_source(edge, connection->source);
    DL_DELETE(edge->connections, connection);
    edge->count--;
    free(connection);
}

static void refuse(struct kg_connection *connection, const char *why)
{
    kg_edge_note_refusal(connection->edge, &connection->stream.remote, why);
    kg_connection_free(connection);
}

static struct timeval interval(uint32_t ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static void set_deadline(struct kg_connection *connection, uint32_t ms)
{
    struct timeval after = interval(ms);
    event_add(connection->deadline, &after);
}

static size_t waiting(struct bufferevent *bev)
{
    return bev ? evbuffer_get_length(bufferevent_get_output(bev)) : 0;
}

/* ---- the side of signalling ---- */

static void on_sip_read(struct bufferevent *bev, void *arg)
{
    struct kg_connection *connection = arg;
    evbuffer_add_buffer(bufferevent_get_output(connection->net), bufferevent_get_input(bev));
    if (waiting(connection->net) > HIGH_WATER)
        bufferevent_disable(bev, EV_READ);
}

static void on_sip_written(struct bufferevent *bev, void *arg)
{
    struct kg_connection *connection = arg;
    if (connection->state == KG_CONNECTION_FLUSH_SIP) {
        if (waiting(bev) == 0)
            kg_connection_free(connection);
    } else if (!(bufferevent_get_enabled(connection->net) & EV_READ)) {
        bufferevent_enable(connection->net, EV_READ);
        read_net(connection);
    }
}

static void on_sip_event(struct bufferevent *bev, short what, void *arg)
{
    struct kg_connection *connection = arg;
    (void)what;
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    if (connection->state == KG_CONNECTION_OPEN && waiting(connection->net) > 0) {
        connection->state = KG_CONNECTION_FLUSH_NET;
        bufferevent_disable(connection->net, EV_READ);
        bufferevent_setwatermark(connection->net, EV_WRITE, 0, 0);
        set_deadline(connection, connection->edge->limits.stream_message_ms);
    } else {
        kg_connection_free(connection);
    }
}

static int join_sip(struct kg_connection *connection, int fd)
{
    int bytes = KG_SIP_PAIR_BYTES;
    bool bounded = setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0;
    connection->sip =
        bounded ? bufferevent_socket_new(connection->edge->base, fd, BEV_OPT_CLOSE_ON_FREE) : NULL;
    if (!connection->sip) {
        close(fd);
        return ENOMEM;
    }
    bufferevent_setcb(connection->sip, on_sip_read, on_sip_written, on_sip_event, connection);
    bufferevent_setwatermark(connection->sip, EV_READ, 0, HIGH_WATER);
    bufferevent_setwatermark(connection->sip, EV_WRITE, LOW_WATER, 0);
    return bufferevent_enable(connection->sip, EV_READ | EV_WRITE) == 0 ? 0 : ENOMEM;
}

/* The first whole message: from now on the signalling thread knows this connection. */
static int hand_over(struct kg_connection *connection)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return errno;
    int failed = join_sip(connection, pair[0]);
    connection->stream.fd = pair[1];
    failed = failed ? failed : connection->edge->offer(connection->edge->ctx, &connection->stream);
    if (!failed)
        connection->stream.fd = -1;
    return failed;
}

/* ---- the side of the network ---- */

/* Passes on every whole message. May free the connection. */
static void read_net(struct kg_connection *connection)
{
    struct evbuffer *in = bufferevent_get_input(connection->net);
    size_t used, len;
    while ((len = evbuffer_get_length(in)) > 0) {
        if (waiting(connection->sip) > HIGH_WATER) {
            bufferevent_disable(connection->net, EV_READ);
            event_del(connection->deadline);
            return;
        }
        const char *why = "";
        size_t window = len > KG_SIP_MESSAGE_MAX + 1 ? KG_SIP_MESSAGE_MAX + 1 : len;
        const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)window);
        enum kg_frame frame =
            data ? kg_framing_next(&connection->framing, data, window, &used, &why) : KG_FRAME_BAD;
        if (frame == KG_FRAME_MORE)
            break;
        if (frame == KG_FRAME_BAD) {
            refuse(connection, data ? why : "out of memory");
            return;
        }
        event_del(connection->deadline);
        if (frame == KG_FRAME_MESSAGE) {
            if (!connection->sip && hand_over(connection) != 0) {
                refuse(connection, "signalling is too busy");
                return;
            }
            evbuffer_remove_buffer(in, bufferevent_get_output(connection->sip), used);
            continue;
        }
        evbuffer_drain(in, used);
        if (frame == KG_FRAME_PING)
            bufferevent_write(connection->net, pong, sizeof pong - 1);
    }
    if (len > 0 && !event_pending(connection->deadline, EV_TIMEOUT, NULL))
        set_deadline(connection, connection->edge->limits.stream_message_ms);
}

static void on_net_read(struct bufferevent *bev, void *arg)
{
    (void)bev;
    read_net(arg);
}

static void on_net_written(struct bufferevent *bev, void *arg)
{
    struct kg_connection *connection = arg;
    if (connection->state == KG_CONNECTION_FLUSH_NET) {
        if (waiting(bev) == 0)
            kg_connection_free(connection);
    } else if (connection->sip && !(bufferevent_get_enabled(connection->sip) & EV_READ)) {
        bufferevent_enable(connection->sip, EV_READ);
    }
}

static void open_now(struct kg_connection *connection)
{
    struct timeval idle = interval(connection->edge->limits.stream_idle_ms);
    struct timeval stuck = interval(connection->edge->limits.stream_message_ms);
    connection->state = KG_CONNECTION_OPEN;
    event_del(connection->deadline);
    bufferevent_set_timeouts(connection->net, connection->outgoing ? NULL : &idle, &stuck);
    if (connection->outgoing) {
        int fd = bufferevent_getfd(connection->net), one = 1, seconds = PROBE_IDLE_S,
            every = PROBE_INTERVAL_S, count = PROBE_COUNT;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
}

/* Said once in this time: each probe tries again. */
#define DISTRUST_INTERVAL_MS 60000

/* Our own connection to a server did not come about. */
static void say_unconnected(const struct kg_connection *connection)
{
    struct kg_edge *edge = connection->edge;
    SSL *ssl = bufferevent_openssl_get_ssl(connection->net);
    long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    int64_t now_ms = kg_mono_ms();
    char text[KG_ADDR_STR];
    if (!ssl || !connection->stream.verify || verified == X509_V_OK ||
        (edge->distrusted_ms && now_ms - edge->distrusted_ms < DISTRUST_INTERVAL_MS))
        return;
    edge->distrusted_ms = now_ms;
    kg_warn(
        "tls",
        "the certificate of %s at %s is not taken: %s. Put the certificate it goes back to into tls.ca, or "
        "write ;verify=no behind the server",
        connection->stream.name, kg_addr_format(&connection->stream.remote, text),
        X509_verify_cert_error_string(verified));
}

static void on_net_event(struct bufferevent *bev, short what, void *arg)
{
    struct kg_connection *connection = arg;
    if (what & BEV_EVENT_CONNECTED) { /* for TLS: and the handshake is done */
        open_now(connection);
        return;
    }
    if (what & BEV_EVENT_TIMEOUT) {
        refuse(connection, what & BEV_EVENT_WRITING ? "the peer does not read" : "silent for too long");
        return;
    }
    if (connection->outgoing && connection->state == KG_CONNECTION_OPENING)
        say_unconnected(connection);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    if (connection->state == KG_CONNECTION_OPEN && waiting(connection->sip) > 0) {
        connection->state = KG_CONNECTION_FLUSH_SIP;
        bufferevent_disable(connection->sip, EV_READ);
        bufferevent_setwatermark(connection->sip, EV_WRITE, 0, 0);
        set_deadline(connection, connection->edge->limits.stream_message_ms);
    } else {
        kg_connection_free(connection);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct kg_connection *connection = arg;
    (void)fd;
    (void)what;
    static const char *const why[] = {[KG_CONNECTION_OPENING] = "not ready in time",
                                      [KG_CONNECTION_OPEN] = "a message was not complete in time",
                                      [KG_CONNECTION_FLUSH_NET] = "the peer does not read",
                                      [KG_CONNECTION_FLUSH_SIP] = "signalling does not read"};
    refuse(connection, why[connection->state]);
}

/* stream: where our own connection goes; NULL: it was accepted. */
static struct bufferevent *new_net(struct kg_edge *edge, int fd, enum kg_transport transport,
                                   const struct kg_edge_stream *stream)
{
    if (transport != KG_TLS)
        return bufferevent_socket_new(edge->base, fd, BEV_OPT_CLOSE_ON_FREE);
    SSL *ssl = SSL_new(stream ? edge->client : edge->server);
    if (!ssl || (stream && kg_tls_expect(ssl, stream->name, stream->verify) != 0)) {
        SSL_free(ssl);
        return NULL;
    }
    struct bufferevent *net = bufferevent_openssl_socket_new(
        edge->base, fd, ssl, stream ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING,
        BEV_OPT_CLOSE_ON_FREE);
    if (net)
        bufferevent_openssl_set_allow_dirty_shutdown(net,
                                                     1); /* SIP has its own lengths: no truncation attack */
    else
        SSL_free(ssl);
    return net;
}

static int prepare(struct kg_connection *connection, int fd)
{
    struct kg_edge *edge = connection->edge;
    connection->deadline = evtimer_new(edge->base, on_deadline, connection);
    if (!connection->deadline)
        return ENOMEM;
    connection->net =
        new_net(edge, fd, connection->stream.transport, connection->outgoing ? &connection->stream : NULL);
    if (!connection->net)
        return ENOMEM;
    bufferevent_setcb(connection->net, on_net_read, on_net_written, on_net_event, connection);
    bufferevent_setwatermark(connection->net, EV_READ, 0, HIGH_WATER);
    bufferevent_setwatermark(connection->net, EV_WRITE, LOW_WATER, 0);
    if (connection->outgoing) {
        int sip_fd = connection->stream.fd;
        connection->stream.fd = -1;
        if (join_sip(connection, sip_fd) != 0)
            return ENOMEM;
    }
    if (connection->outgoing || connection->stream.transport == KG_TLS)
        set_deadline(connection, edge->limits.handshake_ms);
    else
        open_now(connection);
    return bufferevent_enable(connection->net, EV_READ | EV_WRITE) == 0 ? 0 : ENOMEM;
}

void kg_connection_new(struct kg_edge *edge, int fd, const struct kg_edge_stream *stream,
                       struct kg_source *source)
{
    struct kg_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        if (fd >= 0)
            close(fd);
        if (stream->fd >= 0)
            close(stream->fd);
        if (source)
            kg_edge_release_source(edge, source);
        return;
    }
    connection->edge = edge;
    connection->stream = *stream;
    connection->source = source;
    connection->outgoing = fd < 0;
    DL_APPEND(edge->connections, connection);
    edge->count++;
    if (prepare(connection, fd) != 0) {
        if (!connection->net && fd >= 0)
            close(fd);
        refuse(connection, "out of memory");
        return;
    }
    if (connection->outgoing && bufferevent_socket_connect(connection->net, &connection->stream.remote.sa,
                                                           (int)kg_addr_len(&connection->stream.remote)) != 0)
        kg_connection_free(connection);
}
