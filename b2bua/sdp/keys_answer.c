/* What becomes of keys that kedge offered, and of a=setup. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/sdp/secure.h"

/* RFC 3264 6: the offer's transport comes back. Phones answer another one and live: what counts is that keys
 * which were demanded are there, and that there is feedback only where both say it. */
static bool profile_fits(enum kg_sdp_profile offered, enum kg_sdp_profile answered)
{
    return answered != KG_SDP_NOT_RTP &&
           (kg_sdp_profile_is_secure(answered) || !kg_sdp_profile_is_secure(offered));
}

/* RFC 4568 5.1.3 */
static int check_crypto(const struct kg_sdp_our_keys *offered, const struct kg_sdp_secure *answer,
                        struct kg_sdp_agreed *out, char *error, size_t size)
{
    const struct kg_sdp_crypto *theirs = &answer->crypto[0];
    if (answer->crypto_count != 1) {
        snprintf(error, size, "its answer has %u usable a=crypto lines instead of one", answer->crypto_count);
        return EINVAL;
    }
    for (uint8_t i = 0; i < offered->crypto_count; i++) {
        if (offered->crypto[i].tag != theirs->tag)
            continue;
        if (offered->crypto[i].keys.suite != theirs->keys.suite) {
            snprintf(error, size, "its answer has the suite %s for the tag %u, which was offered as %s",
                     kg_srtp_suite_name((enum kg_srtp_suite)theirs->keys.suite), theirs->tag,
                     kg_srtp_suite_name((enum kg_srtp_suite)offered->crypto[i].keys.suite));
            return EINVAL;
        }
        out->use = KG_SECURE_SDES;
        out->ours = i;
        out->theirs = 0;
        return 0;
    }
    snprintf(error, size, "its answer has an a=crypto line with the tag %u, which was not offered",
             theirs->tag);
    return EINVAL;
}

/* RFC 4145 4.1, RFC 5763 5 */
static int check_dtls(const struct kg_sdp_our_keys *offered, const struct kg_sdp_secure *answer,
                      struct kg_sdp_agreed *out, char *error, size_t size)
{
    enum kg_dtls_setup theirs = (enum kg_dtls_setup)answer->setup;
    if (theirs == KG_SETUP_NONE) /* RFC 4145 4.1: the answer to actpass or passive is then active */
        theirs = offered->setup == KG_SETUP_ACTIVE ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE;
    bool fits = (theirs == KG_SETUP_ACTIVE && offered->setup != KG_SETUP_ACTIVE) ||
                (theirs == KG_SETUP_PASSIVE && offered->setup != KG_SETUP_PASSIVE);
    if (!fits) {
        snprintf(error, size, "the a=setup of its answer does not fit the offer's (RFC 5763 5)");
        return EINVAL;
    }
    out->use = KG_SECURE_DTLS;
    out->setup = theirs == KG_SETUP_ACTIVE ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE;
    return 0;
}

int kg_sdp_check_keys(const struct kg_sdp_our_keys *offered, const struct kg_sdp_secure *answer,
                      struct kg_sdp_agreed *out, char *error, size_t size)
{
    enum kg_sdp_profile ours = (enum kg_sdp_profile)offered->profile,
                        theirs = (enum kg_sdp_profile)answer->profile;
    bool offered_dtls = offered->fingerprint.hash != KG_FINGERPRINT_NONE;
    memset(out, 0, sizeof(*out));
    if (!profile_fits(ours, theirs)) {
        snprintf(error, size, "its answer has %s where %s was offered", kg_sdp_profile_name(theirs),
                 kg_sdp_profile_name(ours));
        return EINVAL;
    }
    out->feedback = kg_sdp_profile_has_feedback(ours) && kg_sdp_profile_has_feedback(theirs);
    /* Both were offered and both come back: the answerer has to choose (RFC 5763 does not say which); DTLS
     * has its keys from nobody else. */
    if (offered_dtls && answer->dtls)
        return check_dtls(offered, answer, out, error, size);
    if (offered->crypto_count > 0 && answer->says_sdes)
        return check_crypto(offered, answer, out, error, size);
    if (answer->plain) { /* RFC 8643 3.1: no keys came back */
        out->use = KG_SECURE_PLAIN;
        return 0;
    }
    snprintf(error, size, "%s",
             answer->problem ? answer->problem
             : offered_dtls  ? "its answer has no a=fingerprint"
             : answer->dtls  ? "its answer has a=fingerprint where a=crypto was offered"
                             : "its answer has no a=crypto line that fits the offer's");
    return EINVAL;
}

enum kg_dtls_setup kg_sdp_answer_setup(enum kg_dtls_setup theirs, enum kg_dtls_setup preferred)
{
    switch (theirs) {
    case KG_SETUP_ACTPASS:
        return preferred;
    case KG_SETUP_PASSIVE:
        return KG_SETUP_ACTIVE;
    case KG_SETUP_NONE: /* RFC 4145 4: "active" where an offer does not say */
    case KG_SETUP_ACTIVE:
        return KG_SETUP_PASSIVE;
    default:
        return KG_SETUP_NONE;
    }
}
