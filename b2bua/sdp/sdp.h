/* SDP: our own model, parser and rewriter (RFC 8866, 3264, 3605, 5761). Pure: text in, text out; no sockets,
 * no clock. Unknown lines and attributes survive a rewrite in their place; so do CRLF rules and the order of
 * lines. */
#ifndef KG_SDP_H
#define KG_SDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"
#include "media/client.h"

struct kg_sdp;

/* Tolerates what phones in the field send (bare LF, missing t=, trailing blanks ...); refuses what cannot be
 * understood. Returns NULL and a sentence in error ("line 4: c= has no address"). Never more than 64 KB. */
struct kg_sdp *kg_sdp_parse(const char *text, size_t len, char *error, size_t size);
void kg_sdp_free(struct kg_sdp *sdp);

/* Fills streams and stream_count of a side (other fields untouched): addresses, a=rtcp, rtcp-mux, direction
 * with both notations of hold (a=sendonly/inactive, c=0.0.0.0 or ::), codecs with clock rates incl. static
 * payload types (RFC 3551). A c= that is a host name gives no address. A line over TCP
 * counts as rejected: the relay carries UDP. Returns 0 or E2BIG (more than KG_MEDIA_STREAMS_MAX m-lines). */
int kg_sdp_describe(const struct kg_sdp *sdp, struct kg_media_side *out);

/* The connection host of the first enabled m-line (port 0); none if it has none. For comparison with the
 * packet source. */
struct kg_addr kg_sdp_host(const struct kg_sdp *sdp);

/* An answer must match its offer (RFC 3264 6): same number and kinds of m-lines, no line revived
 * (a=bundle-only excepted, RFC 9143). Returns 0 or EINVAL and a sentence. */
int kg_sdp_check_answer(const struct kg_sdp *offer, const struct kg_sdp *answer, char *error, size_t size);

/* What one leg's o= line says, kept for the whole dialog: id constant, version grows when the text changes
 * (RFC 3264 8). */
struct kg_sdp_origin {
    /* Chosen by the caller at first, below 2^62 (RFC 3264 5); phones are surest of what fits in 31 bits. */
    uint64_t id, version;
    uint64_t hash; /* of what was last sent, without its o= line; 0: nothing yet */
};

struct kg_sdp_local {
    /* Advertised to the reader of the result. rtp none or without port: the line is written as rejected; its
     * host still serves for o= and c= where no other line has one. */
    struct kg_addr rtp, rtcp;
    bool rtcp_mux; /* put a=rtcp-mux (then a=rtcp is dropped) */
};

/* Writes the description anew for the other side: o= and c= are ours, each enabled m-line gets our port,
 * a=rtcp where it is not port + 1, rtcp-mux as told, hold by c=0.0.0.0 becomes a direction attribute, what
 * only makes sense end to end (ICE attributes until ice/ is there) is dropped. Nothing of the writer's
 * addresses survives. origin is brought up to date. Rejected lines stay rejected. count may be larger than
 * the number of m-lines: ports that a refused offer of one more line has left. Returns malloc'd
 * NUL-terminated text, or NULL (ENOMEM, or count is smaller). */
char *kg_sdp_rewrite(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                     struct kg_sdp_origin *origin, size_t *len);

#endif
