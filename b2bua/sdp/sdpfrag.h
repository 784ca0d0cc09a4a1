/* application/trickle-ice-sdpfrag (RFC 8840 9): candidates on their way in an INFO. Pure. */
#ifndef KG_SDP_SDPFRAG_H
#define KG_SDP_SDPFRAG_H

#include "b2bua/sdp/sdp.h"

struct kg_sdpfrag_line {
    int index; /* m-line it belongs to: by a=mid of `sdp`, else by order; -1: unknown, ignored */
    struct kg_ice_description ice; /* ufrag and pwd: of the generation the candidates belong to */
};
struct kg_sdpfrag {
    uint8_t count;
    struct kg_sdpfrag_line line[KG_MEDIA_STREAMS_MAX];
    bool end_of_candidates; /* at session level: of all */
    /* inside: text and candidates the pointers above point into */
    void *memory;
};
/* sdp: what the sender said last in its offer or answer (for mid). NULL with a sentence in error. */
struct kg_sdpfrag *kg_sdpfrag_parse(const char *text, size_t len, const struct kg_sdp *sdp, char *error,
                                    size_t size);
void kg_sdpfrag_free(struct kg_sdpfrag *frag);
/* The text for the other side: useless candidates (mDNS, TCP ..., and private ones if it is apart, as in
 * kg_sdp_local) left out, nothing else touched. malloc'd, NUL-terminated; NULL: nothing is left to say, or no
 * memory. */
char *kg_sdpfrag_rewrite(const struct kg_sdpfrag *frag, bool apart, size_t *len);

#endif
