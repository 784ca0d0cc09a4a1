#include "b2bua/sip/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "b2bua/sip/browser.h"
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
/* A peer that was told good-bye closes within this (RFC 6455 7.1.1: the client first). */
#define CLOSE_WAIT_MS 2000
/* RFC 8446 5.1: a TLS record with a ClientHello. No SIP and no HTTP begins so. */
#define TLS_HANDSHAKE 0x16

#define SECURE (KG_TRANSPORT_BIT(KG_TLS) | KG_TRANSPORT_BIT(KG_WSS))
#define WEB    (KG_TRANSPORT_BIT(KG_WS) | KG_TRANSPORT_BIT(KG_WSS))

static const char pong[] = "\r\n"; /* RFC 5626 3.5.1 */

static void read_net(struct kg_connection *connection);

void kg_connection_free(struct kg_connection *connection)
{
    struct kg_edge *edge = connection->edge;
    SSL *ssl = connection->net ? bufferevent_openssl_get_ssl(connection->net) : NULL;
    if (ssl && connection->state != KG_CONNECTION_OPENING && !connection->said_all) {
        SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN); /* send close_notify, wait for none */
        SSL_shutdown(ssl);
    }
    if (connection->net)
        bufferevent_free(connection->net);
    if (connection->sip)
        bufferevent_free(connection->sip);
    if (connection->stream.fd >= 0)
        close(connection->stream.fd);
    if (connection->fd >= 0)
        close(connection->fd);
    if (connection->deadline)
        event_free(connection->deadline);
    if (connection->ping)
        event_free(connection->ping);
    kg_websocket_free(connection->websocket);
    if (connection->source)
        kg_edge_release_source(edge, connection->source);
    DL_DELETE(edge->connections, connection);
    edge->count--;
    free(connection);
}

void kg_connection_refuse(struct kg_connection *connection, const char *why)
{
    kg_edge_note_refusal(connection->edge, &connection->stream.remote, why);
    kg_connection_free(connection);
}

static struct timeval interval(uint32_t ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

void kg_connection_deadline(struct kg_connection *connection, uint32_t ms)
{
    struct timeval after = interval(ms);
    event_add(connection->deadline, &after);
}

static size_t waiting(struct bufferevent *bev)
{
    return bev ? evbuffer_get_length(bufferevent_get_output(bev)) : 0;
}

bool kg_connection_is_full(struct kg_connection *connection)
{
    return waiting(connection->net) > HIGH_WATER || waiting(connection->sip) > HIGH_WATER;
}

/* ---- a last word ---- */

static void say_end(struct kg_connection *connection)
{
    SSL *ssl = bufferevent_openssl_get_ssl(connection->net);
    if (ssl)
        SSL_shutdown(ssl);
    shutdown(bufferevent_getfd(connection->net), SHUT_WR);
    connection->said_all = true;
}

/* Closing at once, with bytes of the peer unread, would take the last word back from its system. */
void kg_connection_finish(struct kg_connection *connection)
{
    connection->state = KG_CONNECTION_CLOSING;
    if (connection->sip)
        bufferevent_disable(connection->sip, EV_READ);
    if (connection->ping)
        event_del(connection->ping);
    bufferevent_setwatermark(connection->net, EV_WRITE, 0, 0);
    bufferevent_enable(connection->net, EV_READ);
    kg_connection_deadline(connection, CLOSE_WAIT_MS);
    if (waiting(connection->net) == 0)
        say_end(connection);
}

/* ---- the side of signalling ---- */

static void on_sip_read(struct bufferevent *bev, void *arg)
{
    struct kg_connection *connection = arg;
    if (connection->wire == KG_WIRE_WEBSOCKET)
        kg_browser_send(connection);
    else
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
    } else if (connection->state == KG_CONNECTION_OPEN &&
               !(bufferevent_get_enabled(connection->net) & EV_READ)) {
        bufferevent_enable(connection->net, EV_READ);
        read_net(connection);
    }
}

static void on_sip_event(struct bufferevent *bev, short what, void *arg)
{
    struct kg_connection *connection = arg;
    (void)what;
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    if (connection->state == KG_CONNECTION_CLOSING)
        return;
    if (connection->state == KG_CONNECTION_OPEN && connection->wire == KG_WIRE_WEBSOCKET) {
        kg_websocket_close(connection->websocket, KG_WEBSOCKET_GOING_AWAY,
                           bufferevent_get_output(connection->net));
        kg_connection_finish(connection);
    } else if (connection->state == KG_CONNECTION_OPEN && waiting(connection->net) > 0) {
        connection->state = KG_CONNECTION_FLUSH_NET;
        bufferevent_disable(connection->net, EV_READ);
        bufferevent_setwatermark(connection->net, EV_WRITE, 0, 0);
        kg_connection_deadline(connection, connection->edge->limits.stream_message_ms);
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

int kg_connection_hand_over(struct kg_connection *connection)
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
static void read_sip(struct kg_connection *connection)
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
            kg_connection_refuse(connection, data ? why : "out of memory");
            return;
        }
        event_del(connection->deadline);
        if (frame == KG_FRAME_MESSAGE) {
            if (!connection->sip && kg_connection_hand_over(connection) != 0) {
                kg_connection_refuse(connection, "signalling is too busy");
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
        kg_connection_deadline(connection, connection->edge->limits.stream_message_ms);
}

/* A port for both: no method of SIP that anybody uses begins with the name of one of these of HTTP. */
static enum kg_wire tell_wire(struct evbuffer *in)
{
    static const char *const methods[] = {"GET ", "HEAD "};
    char begin[5];
    ev_ssize_t len = evbuffer_copyout(in, begin, sizeof begin);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        size_t whole = strlen(methods[i]), n = (size_t)len < whole ? (size_t)len : whole;
        if (memcmp(begin, methods[i], n) == 0)
            return n == whole ? KG_WIRE_HTTP : KG_WIRE_UNKNOWN;
    }
    return KG_WIRE_SIP;
}

/* May free the connection. */
static void read_net(struct kg_connection *connection)
{
    struct evbuffer *in = bufferevent_get_input(connection->net);
    if (connection->state == KG_CONNECTION_CLOSING) {
        evbuffer_drain(in, evbuffer_get_length(in));
        return;
    }
    if (connection->wire == KG_WIRE_UNKNOWN && evbuffer_get_length(in) > 0) {
        connection->wire = tell_wire(in);
        if (connection->wire != KG_WIRE_SIP && !event_pending(connection->deadline, EV_TIMEOUT, NULL))
            kg_connection_deadline(connection, connection->edge->limits.handshake_ms);
    }
    if (connection->wire == KG_WIRE_SIP)
        read_sip(connection);
    else if (connection->wire != KG_WIRE_UNKNOWN)
        kg_browser_read(connection);
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
        return;
    }
    if (connection->state == KG_CONNECTION_CLOSING) {
        if (waiting(bev) == 0 && !connection->said_all)
            say_end(connection);
        return;
    }
    if (connection->state != KG_CONNECTION_OPEN)
        return;
    if (connection->sip && !(bufferevent_get_enabled(connection->sip) & EV_READ))
        bufferevent_enable(connection->sip, EV_READ);
    if (connection->wire == KG_WIRE_HTTP && !event_pending(connection->deadline, EV_TIMEOUT, NULL))
        kg_connection_deadline(connection, connection->edge->limits.handshake_ms); /* the next request */
    if (connection->wire > KG_WIRE_SIP && !(bufferevent_get_enabled(bev) & EV_READ)) {
        bufferevent_enable(bev, EV_READ);
        read_net(connection);
    }
}

static void open_now(struct kg_connection *connection)
{
    struct timeval idle = interval(connection->edge->limits.stream_idle_ms);
    struct timeval stuck = interval(connection->edge->limits.stream_message_ms);
    connection->state = KG_CONNECTION_OPEN;
    event_del(connection->deadline);
    if (connection->wire == KG_WIRE_HTTP)
        kg_connection_deadline(connection, connection->edge->limits.handshake_ms);
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
    if (what & BEV_EVENT_TIMEOUT && connection->state != KG_CONNECTION_CLOSING) {
        kg_connection_refuse(connection,
                             what & BEV_EVENT_WRITING ? "the peer does not read" : "silent for too long");
        return;
    }
    if (connection->outgoing && connection->state == KG_CONNECTION_OPENING)
        say_unconnected(connection);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    if ((connection->state == KG_CONNECTION_OPEN || connection->state == KG_CONNECTION_CLOSING) &&
        waiting(connection->sip) > 0) {
        connection->state = KG_CONNECTION_FLUSH_SIP;
        bufferevent_disable(connection->sip, EV_READ);
        bufferevent_setwatermark(connection->sip, EV_WRITE, 0, 0);
        kg_connection_deadline(connection, connection->edge->limits.stream_message_ms);
    } else {
        kg_connection_free(connection);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct kg_connection *connection = arg;
    (void)fd;
    (void)what;
    /* A browser keeps a connection for its next request, or opens one in advance: nobody is refused. */
    bool spare = connection->state == KG_CONNECTION_OPEN && connection->wire == KG_WIRE_HTTP &&
                 evbuffer_get_length(bufferevent_get_input(connection->net)) == 0;
    if (connection->state == KG_CONNECTION_CLOSING || spare) {
        kg_connection_free(connection);
        return;
    }
    static const char *const why[] = {[KG_CONNECTION_SILENT] = "silent for too long",
                                      [KG_CONNECTION_OPENING] = "not ready in time",
                                      [KG_CONNECTION_OPEN] = "a message was not complete in time",
                                      [KG_CONNECTION_FLUSH_NET] = "the peer does not read",
                                      [KG_CONNECTION_FLUSH_SIP] = "signalling does not read"};
    kg_connection_refuse(connection, why[connection->state]);
}

/* stream: where our own connection goes; NULL: it was accepted. */
static struct bufferevent *new_net(struct kg_edge *edge, int fd, bool secure,
                                   const struct kg_edge_stream *stream)
{
    if (!secure)
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

/* What may be spoken on it is known: TLS or not. fd: net's from here on, unless this fails. 0 or ENOMEM. */
static int begin(struct kg_connection *connection, int fd, bool secure)
{
    struct kg_edge *edge = connection->edge;
    unsigned allowed = connection->allowed & (secure ? SECURE : ~SECURE);
    connection->state = KG_CONNECTION_OPENING;
    connection->secure = secure;
    if (!connection->outgoing) {
        connection->wire = !(allowed & WEB) ? KG_WIRE_SIP : (allowed & ~WEB) ? KG_WIRE_UNKNOWN : KG_WIRE_HTTP;
        connection->stream.transport = secure ? KG_TLS : KG_TCP;
    }
    connection->net = new_net(edge, fd, secure, connection->outgoing ? &connection->stream : NULL);
    if (!connection->net)
        return ENOMEM;
    connection->fd = -1;
    bufferevent_setcb(connection->net, on_net_read, on_net_written, on_net_event, connection);
    bufferevent_setwatermark(connection->net, EV_READ, 0, HIGH_WATER);
    bufferevent_setwatermark(connection->net, EV_WRITE, LOW_WATER, 0);
    if (connection->outgoing) {
        int sip_fd = connection->stream.fd;
        connection->stream.fd = -1;
        if (join_sip(connection, sip_fd) != 0)
            return ENOMEM;
    }
    if (connection->outgoing || secure)
        kg_connection_deadline(connection, edge->limits.handshake_ms);
    else
        open_now(connection);
    return bufferevent_enable(connection->net, EV_READ | EV_WRITE) == 0 ? 0 : ENOMEM;
}

static void on_first_byte(evutil_socket_t fd, short what, void *arg)
{
    struct kg_connection *connection = arg;
    unsigned char first;
    (void)what;
    if (recv(fd, &first, 1, MSG_PEEK) != 1) {
        kg_connection_free(connection);
        return;
    }
    event_free(connection->ping);
    connection->ping = NULL;
    event_del(connection->deadline);
    if (begin(connection, fd, first == TLS_HANDSHAKE) != 0)
        kg_connection_refuse(connection, "out of memory");
}

/* On a port for TLS and for plain connections. */
static int wait_for_first_byte(struct kg_connection *connection)
{
    connection->ping = event_new(connection->edge->base, connection->fd, EV_READ, on_first_byte, connection);
    if (!connection->ping || event_add(connection->ping, NULL) != 0)
        return ENOMEM;
    kg_connection_deadline(connection, connection->edge->limits.handshake_ms);
    return 0;
}

static int prepare(struct kg_connection *connection)
{
    connection->deadline = evtimer_new(connection->edge->base, on_deadline, connection);
    if (!connection->deadline)
        return ENOMEM;
    if (connection->outgoing)
        return begin(connection, -1, connection->stream.transport == KG_TLS);
    if ((connection->allowed & SECURE) && (connection->allowed & ~SECURE))
        return wait_for_first_byte(connection);
    return begin(connection, connection->fd, connection->allowed & SECURE);
}

void kg_connection_new(struct kg_edge *edge, int fd, const struct kg_edge_stream *stream, unsigned allowed,
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
    connection->allowed = allowed;
    connection->fd = fd;
    connection->wire = KG_WIRE_SIP;
    DL_APPEND(edge->connections, connection);
    edge->count++;
    if (prepare(connection) != 0) {
        kg_connection_refuse(connection, "out of memory");
        return;
    }
    if (connection->outgoing && bufferevent_socket_connect(connection->net, &connection->stream.remote.sa,
                                                           (int)kg_addr_len(&connection->stream.remote)) != 0)
        kg_connection_free(connection);
}
