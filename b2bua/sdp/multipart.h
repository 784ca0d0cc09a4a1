/* Multipart bodies (RFC 2046 5.1, RFC 5621): where the session description is, and the same body with another
 * one in its place. Pure. Strict: what two readers might read differently is refused, since one of them would
 * be us. */
#ifndef KG_SDP_MULTIPART_H
#define KG_SDP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

/* Parts in all, multiparts within multiparts, headers of a part, bytes of one header. Nobody sends more. */
#define KG_MULTIPART_PARTS_MAX   16
#define KG_MULTIPART_DEPTH_MAX   3
#define KG_MULTIPART_HEADERS_MAX 16
#define KG_MULTIPART_HEADER_MAX  512

enum kg_multipart_found {
    KG_MULTIPART_BAD,  /* and a sentence: it cannot be read, or has more than one session description */
    KG_MULTIPART_NONE, /* well-formed, without a session description */
    KG_MULTIPART_SDP,
};

/* Offsets into the body. */
struct kg_multipart {
    size_t sdp_at, sdp_len; /* the description */
    size_t length_at,
        length_len; /* the Content-Length line of its part, which a new text makes wrong; len 0: none */
};

/* Whether a Content-Type is multipart/anything. */
bool kg_multipart_is(const char *content_type);
/* content_type: the header's value, with its boundary. The description is the one part of type
 * application/sdp whose Content-Disposition is session, which is what none means (RFC 3261 20.11), at
 * whatever depth. */
enum kg_multipart_found kg_multipart_find(const char *content_type, const char *body, size_t len,
                                          struct kg_multipart *out, char *error, size_t size);
/* The body with sdp in that place; every other byte stays (but a Content-Length of that part, which is
 * dropped). malloc'd; NULL without memory. */
char *kg_multipart_put(const char *body, size_t len, const struct kg_multipart *at, const char *sdp,
                       size_t sdp_len, size_t *out_len);

#endif
