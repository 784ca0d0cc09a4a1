#include "b2bua/sip/websocket.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "b2bua/sip/framing.h"
#include "b2bua/sip/shim.h"
#include "conf/bytes.h"

/* RFC 6455 5.5 */
#define CONTROL_MAX 125
/* CRLF CRLF; no piece of a message needs to be so short */
#define KEEPALIVE_MAX 4
/* Without a message under way no more than this is kept for the next one. */
#define KEEP_BYTES 2048

struct kg_websocket {
    wslay_frame_context_ptr frames;
    const uint8_t *input; /* during kg_websocket_receive: not yet read by libwslay */
    size_t input_len;
    struct evbuffer *out; /* during a call */
    uint64_t fed, taken;  /* bytes: received; of frames as far as they were read */
    struct {
        bool open; /* its header was read, its payload is not complete */
        uint8_t opcode;
        bool fin;
        uint64_t left;
    } frame;
    uint8_t control[CONTROL_MAX]; /* payload of a control frame */
    size_t control_len;
    uint8_t kind; /* of the message under way: text or binary; 0: none is */
    char *message;
    size_t message_len, message_size;
    unsigned idle_words; /* since our last ping */
    bool closed;         /* a Close was sent */
};

/* ---- libwslay's side ---- */

static ssize_t on_read(uint8_t *buf, size_t len, int flags, void *arg)
{
    struct kg_websocket *socket = arg;
    size_t n = len < socket->input_len ? len : socket->input_len;
    (void)flags;
    if (n == 0)
        return -1; /* would block */
    memcpy(buf, socket->input, n);
    socket->input += n;
    socket->input_len -= n;
    return (ssize_t)n;
}

static ssize_t on_write(const uint8_t *data, size_t len, int flags, void *arg)
{
    struct kg_websocket *socket = arg;
    (void)flags;
    return evbuffer_add(socket->out, data, len) == 0 ? (ssize_t)len : -1;
}

struct kg_websocket *kg_websocket_new(void)
{
    const struct wslay_frame_callbacks calls = {on_write, on_read, NULL}; /* a server does not mask */
    struct kg_websocket *socket = calloc(1, sizeof *socket);
    if (socket && wslay_frame_context_init(&socket->frames, &calls, socket) != 0) {
        free(socket);
        return NULL;
    }
    return socket;
}

void kg_websocket_free(struct kg_websocket *socket)
{
    if (!socket)
        return;
    wslay_frame_context_free(socket->frames);
    free(socket->message);
    free(socket);
}

/* ---- sending ---- */

static int send_frame(struct kg_websocket *socket, uint8_t opcode, const void *data, size_t len,
                      struct evbuffer *out)
{
    struct wslay_frame_iocb frame = {
        .fin = 1, .opcode = opcode, .payload_length = len, .data = data, .data_length = len};
    if (socket->closed)
        return ESHUTDOWN;
    socket->out = out;
    ssize_t sent = wslay_frame_send(socket->frames, &frame);
    socket->out = NULL;
    return sent == (ssize_t)len ? 0 : ENOMEM;
}

/* RFC 3629 4 */
static bool is_utf8(const char *text, size_t len)
{
    const uint8_t *at = (const uint8_t *)text, *end = at + len;
    while (at < end) {
        uint8_t first = *at++, low = 0x80, high = 0xbf;
        size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if (more > (size_t)(end - at) || (first >= 0x80 && first < 0xc2) || first > 0xf4)
            return false;
        if (first == 0xe0) /* no longer than needed */
            low = 0xa0;
        else if (first == 0xed) /* no surrogates */
            high = 0x9f;
        else if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4) /* up to U+10FFFF */
            high = 0x8f;
        for (; more > 0; more--, low = 0x80, high = 0xbf, at++)
            if (*at < low || *at > high)
                return false;
    }
    return true;
}

int kg_websocket_send(struct kg_websocket *socket, const char *message, size_t len, struct evbuffer *out)
{
    return send_frame(socket, is_utf8(message, len) ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, message, len,
                      out);
}

int kg_websocket_ping(struct kg_websocket *socket, struct evbuffer *out)
{
    socket->idle_words = 0;
    return send_frame(socket, WSLAY_PING, NULL, 0, out);
}

void kg_websocket_close(struct kg_websocket *socket, enum kg_websocket_code code, struct evbuffer *out)
{
    uint8_t status[2];
    kg_write16(status, (uint16_t)code);
    send_frame(socket, WSLAY_CONNECTION_CLOSE, status, sizeof status, out);
    socket->closed = true;
}

/* ---- receiving ---- */

/* What ends the connection: with a code for the peer, and words for the log. */
static int fail(struct kg_websocket *socket, enum kg_websocket_code code, const char *reason,
                struct evbuffer *out, const char **why)
{
    *why = reason;
    kg_websocket_close(socket, code, out);
    return EPROTO;
}

/* Something that says nothing came once more. 0 or EPROTO. */
static int count_idle_word(struct kg_websocket *socket, struct evbuffer *out, const char **why)
{
    if (++socket->idle_words <= KG_WEBSOCKET_IDLE_WORDS)
        return 0;
    return fail(socket, KG_WEBSOCKET_POLICY, "more pings and empty frames than anybody needs", out, why);
}

static int append(struct kg_websocket *socket, const uint8_t *data, size_t len)
{
    size_t need = socket->message_len + len;
    if (len == 0)
        return 0;
    if (need > socket->message_size) {
        size_t size = need < KEEP_BYTES ? KEEP_BYTES : 2 * need;
        char *grown = realloc(socket->message, size);
        if (!grown)
            return ENOMEM;
        socket->message = grown;
        socket->message_size = size;
    }
    memcpy(socket->message + socket->message_len, data, len);
    socket->message_len = need;
    return 0;
}

static void forget_message(struct kg_websocket *socket)
{
    socket->kind = 0;
    socket->message_len = 0;
    if (socket->message_size > KEEP_BYTES) {
        free(socket->message);
        socket->message = NULL;
        socket->message_size = 0;
    }
}

/* Nothing but CRLFs: a keepalive (RFC 7118 6 with RFC 5626 3.5.1). Their number, or 0. */
static size_t count_crlf(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != (i % 2 ? '\n' : '\r'))
            return 0;
    return len % 2 ? 0 : len / 2;
}

/* As the next reader wants it: with a Content-Length. */
static int pass_on(const char *message, size_t len, size_t headers_end, bool has_length,
                   struct evbuffer *messages)
{
    size_t body = len - headers_end - 2;
    int failed = evbuffer_add(messages, message, headers_end);
    if (!has_length)
        failed |= evbuffer_add_printf(messages, "Content-Length: %zu\r\n", body) < 0;
    failed |= evbuffer_add(messages, message + headers_end, body + 2);
    return failed ? ENOMEM : 0;
}

static int end_keepalive(struct kg_websocket *socket, size_t len, struct evbuffer *out, const char **why)
{
    if (len > KEEPALIVE_MAX && count_idle_word(socket, out, why) != 0) /* a shorter one: by its frame */
        return EPROTO;
    return len > 2 ? kg_websocket_send(socket, "\r\n", 2, out) : 0; /* CRLF: the answer to one of ours */
}

static int end_message(struct kg_websocket *socket, struct evbuffer *messages, struct evbuffer *out,
                       const char **why)
{
    const char *message = socket->message ? socket->message : "", *wrong = "";
    size_t len = socket->message_len, crlfs = count_crlf(message, len), headers_end;
    bool has_length;
    int failed = 0;
    if (crlfs > 0)
        failed = end_keepalive(socket, len, out, why);
    else if (socket->kind == WSLAY_TEXT_FRAME && !is_utf8(message, len))
        failed = fail(socket, KG_WEBSOCKET_INVALID, "a text that is not UTF-8", out, why);
    else if (kg_framing_whole(message, len, &has_length, &headers_end, &wrong) != 0)
        failed = fail(socket, KG_WEBSOCKET_INVALID, wrong, out, why);
    else
        failed = pass_on(message, len, headers_end, has_length, messages);
    forget_message(socket);
    return failed;
}

static int end_control(struct kg_websocket *socket, struct evbuffer *out, const char **why)
{
    uint16_t code;
    if (socket->frame.opcode == WSLAY_PING)
        return send_frame(socket, WSLAY_PONG, socket->control, socket->control_len, out);
    if (socket->frame.opcode != WSLAY_CONNECTION_CLOSE)
        return 0;
    /* RFC 6455 5.5.1, 7.4: answered with its own code, if it has one that may be on the wire */
    code = socket->control_len >= 2 ? kg_read16(socket->control) : 0;
    bool known = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
                 (code >= 3000 && code <= 4999);
    if (socket->control_len == 1 || (socket->control_len >= 2 && !known))
        return fail(socket, KG_WEBSOCKET_PROTOCOL_ERROR, "an impossible code in a Close", out, why);
    send_frame(socket, WSLAY_CONNECTION_CLOSE, socket->control, socket->control_len >= 2 ? 2 : 0, out);
    socket->closed = true;
    return ESHUTDOWN;
}

/* RFC 6455 5.2, 5.4: whether a frame with this header may come now. NULL or what is wrong. */
static const char *begin_frame(struct kg_websocket *socket, const struct wslay_frame_iocb *frame)
{
    if (!frame->mask)
        return "a frame without mask";
    if (frame->rsv)
        return "reserved bits in a frame";
    switch (frame->opcode) {
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME:
        if (socket->kind)
            return "a new message before the end of another";
        socket->kind = frame->opcode;
        break;
    case WSLAY_CONTINUATION_FRAME:
        if (!socket->kind)
            return "the continuation of no message";
        break;
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG: /* fin and length: libwslay looked at them */
        socket->control_len = 0;
        break;
    default:
        return "an unknown kind of frame";
    }
    socket->frame.open = true;
    socket->frame.opcode = frame->opcode;
    socket->frame.fin = frame->fin;
    socket->frame.left = frame->payload_length;
    socket->taken += 6 + (frame->payload_length > 65535 ? 8 : frame->payload_length > 125 ? 2 : 0);
    return NULL;
}

/* A part of a frame, or all of it. */
static int take(struct kg_websocket *socket, const struct wslay_frame_iocb *frame, struct evbuffer *messages,
                struct evbuffer *out, const char **why)
{
    const char *wrong = socket->frame.open ? NULL : begin_frame(socket, frame);
    bool control = wslay_is_ctrl_frame(frame->opcode);
    if (wrong)
        return fail(socket, KG_WEBSOCKET_PROTOCOL_ERROR, wrong, out, why);
    if (!control && socket->frame.left > KG_SIP_MESSAGE_MAX - socket->message_len)
        return fail(socket, KG_WEBSOCKET_TOO_BIG, "a message over 64 KB", out, why);
    if (control) {
        memcpy(socket->control + socket->control_len, frame->data, frame->data_length);
        socket->control_len += frame->data_length;
    } else if (append(socket, frame->data, frame->data_length) != 0) {
        return ENOMEM;
    }
    socket->taken += frame->data_length;
    socket->frame.left -= frame->data_length;
    if (socket->frame.left > 0)
        return 0;
    socket->frame.open = false;
    if ((control || frame->payload_length <= KEEPALIVE_MAX) && count_idle_word(socket, out, why) != 0)
        return EPROTO;
    if (control)
        return end_control(socket, out, why);
    return socket->frame.fin ? end_message(socket, messages, out, why) : 0;
}

int kg_websocket_receive(struct kg_websocket *socket, const void *data, size_t len, struct evbuffer *messages,
                         struct evbuffer *out, const char **why)
{
    int failed = 0;
    *why = "";
    socket->input = data;
    socket->input_len = len;
    socket->fed += len;
    while (!failed) {
        struct wslay_frame_iocb frame = {0};
        ssize_t got = socket->closed ? WSLAY_ERR_WANT_READ : wslay_frame_recv(socket->frames, &frame);
        if (socket->closed)
            failed = ESHUTDOWN;
        else if (got >= 0)
            failed = take(socket, &frame, messages, out, why);
        else if (got == WSLAY_ERR_WANT_READ)
            break;
        else
            failed = fail(socket, KG_WEBSOCKET_PROTOCOL_ERROR,
                          "an impossible length, or a control frame in pieces", out, why);
    }
    socket->input = NULL;
    socket->input_len = 0;
    return failed;
}

bool kg_websocket_is_midway(const struct kg_websocket *socket)
{
    return socket->fed != socket->taken || socket->frame.open || socket->kind;
}
