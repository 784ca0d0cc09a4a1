/* Does an answer match its offer (RFC 3264 6)? */
#include <errno.h>
#include <stdio.h>

#include "b2bua/sdp/model.h"

int kg_sdp_check_answer(const struct kg_sdp *offer, const struct kg_sdp *answer, char *error, size_t size)
{
    if (offer->media_count != answer->media_count) {
        snprintf(error, size, "the answer has %zu m= lines, the offer has %zu", answer->media_count,
                 offer->media_count);
        return EINVAL;
    }
    for (size_t i = 0; i < offer->media_count; i++) {
        const struct kg_sdp_media *o = &offer->media[i], *a = &answer->media[i];
        if (!kg_sdp_text_equal(o->kind, a->kind)) {
            snprintf(error, size, "m= line %zu of the answer is %.*s, the offer's is %.*s", i + 1,
                     a->kind.len > 32 ? 32 : a->kind.len, a->kind.s, o->kind.len > 32 ? 32 : o->kind.len,
                     o->kind.s);
            return EINVAL;
        }
        /* A bundle-only line is offered with port 0 (RFC 9143 6). */
        if (!o->enabled && a->enabled && !o->bundle_only) {
            snprintf(error, size, "m= line %zu was offered with port 0 and answered with port %u", i + 1,
                     a->port);
            return EINVAL;
        }
    }
    return 0;
}
