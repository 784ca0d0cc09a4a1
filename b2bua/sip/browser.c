#include "b2bua/sip/browser.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "b2bua/sip/handshake.h"
#include "b2bua/sip/shim.h"
#include "b2bua/sip/sip.h"

/* Taken from the input at once: what one piece makes of itself (pongs) is weighed before the next. */
#define PIECE 4096

/* A page may run its own scripts, speak to where it came from, and be framed by nobody. */
#define POLICY                                                                                               \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "      \
    "data:; "                                                                                                \
    "media-src 'self' blob:; font-src 'self'; manifest-src 'self'; connect-src 'self' ws: wss:; base-uri "   \
    "'none'; "                                                                                               \
    "form-action 'self'; frame-ancestors 'none'\r\n"                                                         \
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"

static struct evbuffer *output(struct kg_connection *connection)
{
    return bufferevent_get_output(connection->net);
}

/* ---- HTTP ---- */

/* The status line and what is in every response. */
static void begin_response(struct kg_connection *connection, int status)
{
    char date[40];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc); /* RFC 9110 5.6.7 */
    evbuffer_add_printf(output(connection), "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: " KG_SIP_SERVER "\r\n",
                        status, kg_http_phrase(status), date);
}

/* Says no, in a line of text. The connection ends with it if it must: what follows cannot be told. */
static void refuse_request(struct kg_connection *connection, int status, bool closes, bool body)
{
    const char *phrase = kg_http_phrase(status);
    begin_response(connection, status);
    if (status == 405)
        evbuffer_add_printf(output(connection), "Allow: GET, HEAD\r\n");
    if (status == 426) /* RFC 9110 15.5.22, RFC 6455 4.4 */
        evbuffer_add_printf(output(connection), "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    evbuffer_add_printf(output(connection),
                        "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
                        "Content-Length: %zu\r\n%s\r\n%s%s",
                        strlen(phrase) + 1,
                        closes          ? "Connection: close\r\n"
                        : status == 426 ? "Connection: Upgrade\r\n"
                                        : "",
                        body ? phrase : "", body ? "\n" : "");
    if (closes)
        kg_connection_finish(connection);
}

static void forget_file(const void *data, size_t len, void *files)
{
    (void)data;
    (void)len;
    kg_files_unref(files);
}

static void serve_file(struct kg_connection *connection, const struct kg_http_request *request,
                       const struct kg_file *file)
{
    struct kg_files *files = connection->edge->files;
    bool known = request->none_match.at &&
                 memmem(request->none_match.at, request->none_match.len, file->etag, strlen(file->etag));
    begin_response(connection, known ? 304 : 200);
    evbuffer_add_printf(output(connection), "ETag: %s\r\nCache-Control: no-cache\r\n" POLICY "%s", file->etag,
                        request->closes ? "Connection: close\r\n" : "");
    if (!known)
        evbuffer_add_printf(output(connection), "Content-Type: %s\r\nContent-Length: %zu\r\n", file->type,
                            file->len);
    evbuffer_add(output(connection), "\r\n", 2);
    if (!known && request->method == KG_HTTP_GET && file->len > 0 &&
        evbuffer_add_reference(output(connection), file->data, file->len, forget_file, kg_files_ref(files)) !=
            0)
        kg_files_unref(files);
    if (request->closes)
        kg_connection_finish(connection);
}

static void serve_page(struct kg_connection *connection, const struct kg_http_request *request)
{
    const struct kg_file *file = kg_files_find(connection->edge->files, request->path);
    bool body = request->method != KG_HTTP_HEAD;
    if (request->method == KG_HTTP_OTHER)
        refuse_request(connection, 405, true, true);
    else if (file)
        serve_file(connection, request, file);
    else /* where the WebSocket is, but not asked for as one */
        refuse_request(connection,
                       kg_span_is(request->path, "/") || kg_span_is(request->path, "/ws") ? 426 : 404,
                       request->closes, body);
}

/* ---- the WebSocket ---- */

static void on_ping(evutil_socket_t fd, short what, void *arg)
{
    struct kg_connection *connection = arg;
    uint32_t ms = connection->edge->web.ping_ms;
    struct timeval after = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    (void)fd;
    (void)what;
    if (connection->asked && !connection->heard) {
        kg_connection_refuse(connection, "no answer to a WebSocket ping");
        return;
    }
    kg_websocket_ping(connection->websocket, output(connection));
    connection->asked = true;
    connection->heard = false;
    event_add(connection->ping, &after);
}

static void upgrade(struct kg_connection *connection, const struct kg_http_request *request)
{
    struct kg_edge *edge = connection->edge;
    const char *why;
    char accept[KG_HANDSHAKE_ACCEPT];
    int status = kg_handshake_judge(request, connection->secure, &edge->web, edge->domain, &why);
    if (status != 101) {
        atomic_fetch_add(&edge->handshakes_refused, 1);
        kg_edge_note_refusal(edge, &connection->stream.remote, why);
        refuse_request(connection, status, true, true);
        return;
    }
    struct timeval after = {.tv_sec = edge->web.ping_ms / 1000, .tv_usec = (edge->web.ping_ms % 1000) * 1000};
    connection->websocket = kg_websocket_new();
    connection->ping = evtimer_new(edge->base, on_ping, connection);
    if (!connection->websocket || !connection->ping || kg_handshake_accept(request->key, accept) != 0) {
        kg_connection_finish(connection);
        return;
    }
    atomic_fetch_add(&edge->websockets, 1);
    begin_response(connection, status);
    evbuffer_add_printf(output(connection),
                        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                        "Sec-WebSocket-Protocol: sip\r\n\r\n",
                        accept);
    connection->wire = KG_WIRE_WEBSOCKET;
    connection->stream.transport = connection->secure ? KG_WSS : KG_WS;
    event_add(connection->ping, &after);
}

/* True: whole requests are served, and what is left is for later. */
static void read_requests(struct kg_connection *connection)
{
    struct evbuffer *in = bufferevent_get_input(connection->net);
    while (connection->state == KG_CONNECTION_OPEN && connection->wire == KG_WIRE_HTTP) {
        struct kg_http_request request;
        size_t len = evbuffer_get_length(in), used;
        size_t window = len < KG_HTTP_HEAD_MAX ? len : KG_HTTP_HEAD_MAX;
        int status;
        if (len > 0 && kg_connection_is_full(connection)) {
            bufferevent_disable(connection->net, EV_READ);
            return;
        }
        const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)window);
        enum kg_http_parsed parsed = kg_http_parse(data, data ? window : 0, &request, &used, &status);
        if (parsed == KG_HTTP_MORE)
            return;
        event_del(connection->deadline);
        if (parsed == KG_HTTP_BAD) {
            kg_edge_note_refusal(connection->edge, &connection->stream.remote,
                                 "no HTTP request that kedge serves");
            refuse_request(connection, status, true, true);
        } else if (request.upgrades && request.method == KG_HTTP_GET) {
            upgrade(connection, &request);
        } else {
            serve_page(connection, &request);
        }
        evbuffer_drain(in, used);
    }
}

/* A page behind an HTTPS proxy says WSS on a plain connection: signalling compares with its transport's name.
 */
static void name_transport(struct kg_connection *connection, struct evbuffer *messages)
{
    size_t len = evbuffer_get_length(messages), n;
    const char *data = (const char *)evbuffer_pullup(messages, -1);
    struct kg_span via = {.at = data ? kg_framing_via_transport(data, len, &n) : NULL};
    via.len = via.at ? n : 0;
    for (enum kg_transport t = KG_WS; t <= KG_WSS; t++)
        if (kg_span_is_like(via, kg_transport_name(t)))
            connection->stream.transport = t;
}

/* Messages that came before signalling knew the connection. False: it was refused. */
static bool introduce(struct kg_connection *connection, struct evbuffer *messages)
{
    if (evbuffer_get_length(messages) == 0)
        return true;
    name_transport(connection, messages);
    if (kg_connection_hand_over(connection) != 0) {
        kg_connection_refuse(connection, "signalling is too busy");
        return false;
    }
    evbuffer_add_buffer(bufferevent_get_output(connection->sip), messages);
    return true;
}

/* One piece of the input. False: the connection is closing, or gone. */
static bool read_piece(struct kg_connection *connection, const void *data, size_t len)
{
    struct evbuffer *first = connection->sip ? NULL : evbuffer_new();
    struct evbuffer *messages = first             ? first
                                : connection->sip ? bufferevent_get_output(connection->sip)
                                                  : NULL;
    const char *why = "out of memory";
    size_t before = messages ? evbuffer_get_length(messages) : 0;
    int ended =
        messages ? kg_websocket_receive(connection->websocket, data, len, messages, output(connection), &why)
                 : ENOMEM;
    if (messages && evbuffer_get_length(messages) > before)
        event_del(connection->deadline);
    bool there = !first || introduce(connection, first);
    if (first)
        evbuffer_free(first);
    if (!there)
        return false;
    if (ended == ENOMEM) {
        kg_connection_refuse(connection, why);
    } else if (ended) {
        if (ended == EPROTO)
            kg_edge_note_refusal(connection->edge, &connection->stream.remote, why);
        kg_connection_finish(connection);
    }
    return !ended;
}

static void read_frames(struct kg_connection *connection)
{
    struct evbuffer *in = bufferevent_get_input(connection->net);
    unsigned char piece[PIECE];
    int len;
    connection->heard = true;
    while (evbuffer_get_length(in) > 0) {
        if (kg_connection_is_full(connection)) {
            bufferevent_disable(connection->net, EV_READ);
            event_del(connection->deadline);
            return;
        }
        len = evbuffer_remove(in, piece, sizeof piece);
        if (len > 0 && !read_piece(connection, piece, (size_t)len))
            return;
    }
    if (!kg_websocket_is_midway(connection->websocket))
        event_del(connection->deadline);
    else if (!event_pending(connection->deadline, EV_TIMEOUT, NULL))
        kg_connection_deadline(connection, connection->edge->limits.stream_message_ms);
}

void kg_browser_read(struct kg_connection *connection)
{
    if (connection->wire == KG_WIRE_HTTP)
        read_requests(connection);
    if (connection->wire == KG_WIRE_WEBSOCKET && connection->state == KG_CONNECTION_OPEN)
        read_frames(connection);
}

void kg_browser_send(struct kg_connection *connection)
{
    struct evbuffer *in = bufferevent_get_input(connection->sip);
    size_t len, used;
    const char *why;
    while ((len = evbuffer_get_length(in)) > 0) {
        size_t window = len > KG_SIP_MESSAGE_MAX + 1 ? KG_SIP_MESSAGE_MAX + 1 : len;
        const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)window);
        enum kg_frame frame =
            data ? kg_framing_next(&connection->from_sip, data, window, &used, &why) : KG_FRAME_BAD;
        if (frame == KG_FRAME_MORE)
            return;
        if (frame == KG_FRAME_BAD) { /* never of nta's own writing; what is after it cannot be told apart */
            connection->from_sip = (struct kg_framing){0};
            used = len;
        } else if (frame == KG_FRAME_MESSAGE)
            kg_websocket_send(connection->websocket, data, used, output(connection));
        evbuffer_drain(in, used);
    }
}
