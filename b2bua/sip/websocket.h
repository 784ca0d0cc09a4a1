/* SIP over WebSocket (RFC 6455, RFC 7118) on the server's side: bytes in; SIP messages, and bytes for the
 * peer, out. Frames are libwslay's, messages and closing are ours. Pure: evbuffers are queues here. */
#ifndef KG_SIP_WEBSOCKET_H
#define KG_SIP_WEBSOCKET_H

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

struct kg_websocket;

/* RFC 6455 7.4.1 */
enum kg_websocket_code {
    KG_WEBSOCKET_GOING_AWAY = 1001,
    KG_WEBSOCKET_PROTOCOL_ERROR = 1002,
    KG_WEBSOCKET_INVALID = 1007, /* a message is not of the kind it should be */
    KG_WEBSOCKET_POLICY = 1008,
    KG_WEBSOCKET_TOO_BIG = 1009
};

/* NULL: out of memory. */
struct kg_websocket *kg_websocket_new(void);
void kg_websocket_free(struct kg_websocket *socket); /* takes NULL */

/* Bytes from the peer. Each whole SIP message is added to messages, with a Content-Length where it came
 * without; what is owed to the peer (pongs, Close) to out. Returns 0: go on; ESHUTDOWN: the peer closed, and
 * the answer to that is in out; EPROTO: it broke the rules, *why says which, and a Close with the reason's
 * code is in out; ENOMEM. After anything but 0 the socket takes and gives nothing any more. */
int kg_websocket_receive(struct kg_websocket *socket, const void *data, size_t len, struct evbuffer *messages,
                         struct evbuffer *out, const char **why);
/* A message or a frame has begun and is not complete. */
bool kg_websocket_is_midway(const struct kg_websocket *socket);

/* One SIP message, or a keepalive's CRLF, as one unfragmented frame: text, or binary where that is no UTF-8.
 * 0, ENOMEM, or ESHUTDOWN after a Close. */
int kg_websocket_send(struct kg_websocket *socket, const char *message, size_t len, struct evbuffer *out);
/* What says nothing (control frames, keepalives, empty pieces) may come so often between two of our pings:
 * each costs work, and most an answer. */
#define KG_WEBSOCKET_IDLE_WORDS 1000
/* The same for an empty Ping. */
int kg_websocket_ping(struct kg_websocket *socket, struct evbuffer *out);
/* Says good-bye, once. */
void kg_websocket_close(struct kg_websocket *socket, enum kg_websocket_code code, struct evbuffer *out);

#endif
