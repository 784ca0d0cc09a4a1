/* The head of an HTTP/1.1 request (RFC 9112), strictly: what is doubtful is refused. Pure. */
#ifndef KG_SIP_HTTP_H
#define KG_SIP_HTTP_H

#include <stdbool.h>
#include <stddef.h>

/* Request line and headers; more is answered 431. */
#define KG_HTTP_HEAD_MAX 8192

/* In the buffer that was parsed. at NULL: absent. */
struct kg_span {
    const char *at;
    size_t len;
};

enum kg_http_method { KG_HTTP_GET, KG_HTTP_HEAD, KG_HTTP_OTHER };

struct kg_http_request {
    enum kg_http_method method;
    struct kg_span path; /* of the target, without the query */
    struct kg_span host, origin, key, version, none_match;
    bool upgrades;   /* Upgrade: websocket, and Connection: upgrade */
    bool offers_sip; /* among Sec-WebSocket-Protocol */
    bool closes;     /* Connection: close */
};

enum kg_http_parsed { KG_HTTP_MORE, KG_HTTP_REQUEST, KG_HTTP_BAD };

/* data: everything received and not used yet. KG_HTTP_REQUEST: the first *used bytes were it. KG_HTTP_BAD:
 * *status is what to answer before the connection is closed. */
enum kg_http_parsed kg_http_parse(const char *data, size_t len, struct kg_http_request *out, size_t *used,
                                  int *status);
/* "Not Found" */
const char *kg_http_phrase(int status);
bool kg_span_is(struct kg_span span, const char *text);
/* Letters in either case. */
bool kg_span_is_like(struct kg_span span, const char *text);

#endif
