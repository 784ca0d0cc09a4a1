/* The engine's certificates for DTLS: the one with which it does DTLS from now on, and those before it, for
 * legs that were told an older one. The control thread's. */
#ifndef KG_MEDIA_IDENTITIES_H
#define KG_MEDIA_IDENTITIES_H

#include "media/dtls.h"
#include "media/dtls_hello.h"

/* So many are kept: an association begins with the one that its SDP named, also some lifetimes later. */
#define KG_IDENTITIES_KEPT 4

struct kg_identities {
    struct kg_dtls_identity *kept[KG_IDENTITIES_KEPT]; /* the newest first; NULL: none */
    /* How long one is told to new calls (media.certificate_lifetime). Its key lives in memory alone, so that
     * calls of different days have nothing in common that a thief of one key could read. */
    int64_t lifetime_ms;
    int64_t made_ms;
    uint8_t secret[KG_DTLS_SECRET]; /* for cookies; of this process */
};

/* Makes the first, with the secret, or a new one when its time has come. True: there is another one now.
 * Without memory the one before goes on. */
bool kg_identities_renew(struct kg_identities *identities, int64_t now_ms);
void kg_identities_clear(struct kg_identities *identities);
/* NULL: there is none. */
const struct kg_fingerprint *kg_identities_fingerprint(const struct kg_identities *identities);
/* Of the one with that fingerprint, a reference. hash KG_FINGERPRINT_NONE: the newest. NULL: it is no more.
 */
struct kg_dtls_identity *kg_identities_find(const struct kg_identities *identities,
                                            const struct kg_fingerprint *fingerprint);

#endif
