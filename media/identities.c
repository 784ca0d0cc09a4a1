#include "media/identities.h"

#include <openssl/crypto.h>
#include <string.h>

#include "conf/clock.h"

bool kg_identities_renew(struct kg_identities *identities, int64_t now_ms)
{
    if (identities->kept[0] && now_ms - identities->made_ms < identities->lifetime_ms)
        return false;
    struct kg_dtls_identity *made = kg_dtls_identity_new();
    if (made == NULL)
        return false;
    if (identities->kept[0] == NULL)
        kg_random(identities->secret, sizeof identities->secret);
    kg_dtls_identity_unref(identities->kept[KG_IDENTITIES_KEPT - 1]);
    memmove(identities->kept + 1, identities->kept,
            (KG_IDENTITIES_KEPT - 1) * sizeof(struct kg_dtls_identity *));
    identities->kept[0] = made;
    identities->made_ms = now_ms;
    return true;
}

void kg_identities_clear(struct kg_identities *identities)
{
    for (unsigned i = 0; i < KG_IDENTITIES_KEPT; i++)
        kg_dtls_identity_unref(identities->kept[i]);
    OPENSSL_cleanse(identities, sizeof *identities);
}

const struct kg_fingerprint *kg_identities_fingerprint(const struct kg_identities *identities)
{
    return identities->kept[0] ? kg_dtls_identity_fingerprint(identities->kept[0]) : NULL;
}

struct kg_dtls_identity *kg_identities_find(const struct kg_identities *identities,
                                            const struct kg_fingerprint *fingerprint)
{
    for (unsigned i = 0; i < KG_IDENTITIES_KEPT && identities->kept[i]; i++) {
        const struct kg_fingerprint *has = kg_dtls_identity_fingerprint(identities->kept[i]);
        if (fingerprint->hash == KG_FINGERPRINT_NONE ||
            (fingerprint->hash == has->hash && memcmp(fingerprint->bytes, has->bytes, has->len) == 0))
            return kg_dtls_identity_ref(identities->kept[i]);
    }
    return NULL;
}
