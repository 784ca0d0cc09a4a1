/* What secures legs, as signalling shapes it. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "media/secure.h"

void kg_secure_change_free(struct kg_secure_change *change)
{
    for (unsigned i = 0; change && i < 2 * KG_MEDIA_STREAMS_MAX; i++)
        kg_dtls_identity_unref(change->identity[i % 2][i / 2]);
    free(change);
}

static void forget_lost(struct kg_leg_secure *secure)
{
    if (secure->lost)
        OPENSSL_cleanse(secure->lost, sizeof *secure->lost);
    free(secure->lost);
    secure->lost = NULL;
}

void kg_leg_secure_free(struct kg_leg_secure *secure)
{
    if (secure == NULL)
        return;
    forget_lost(secure);
    kg_secure_forget_hellos(secure);
    kg_srtp_free(secure->sdes);
    for (unsigned c = 0; c < 2; c++) {
        if (secure->dtls)
            kg_association_reset(&secure->dtls->by_component[c]);
        kg_srtp_free(secure->keyed[c]);
    }
    if (secure->dtls)
        kg_dtls_identity_unref(secure->dtls->identity);
    free(secure->dtls);
    free(secure);
}

/* ---- SDES ---- */

/* The key that an engine before us sent with: its index is lost, so it sends nothing. Another suite or MKI
 * does not make it another key. */
static bool sends_lost(const struct kg_srtp_keys *lost, const struct kg_srtp_keys *now)
{
    enum { SHORTEST = 16 };
    return lost->suite != KG_SRTP_NONE && now->suite != KG_SRTP_NONE &&
           CRYPTO_memcmp(lost->key[0].bytes, now->key[0].bytes, SHORTEST) == 0;
}

static int take_lost(struct kg_leg_secure *secure, const struct kg_media_secure *said, bool restored)
{
    if (restored && secure->lost == NULL) {
        secure->lost = calloc(1, sizeof *secure->lost);
        if (secure->lost == NULL)
            return ENOMEM;
        secure->lost->send = said->send;
        secure->lost->receive = said->receive;
        secure->rekey_untold = said->send.suite != KG_SRTP_NONE;
    }
    if (secure->lost == NULL)
        return 0;
    if (secure->lost->receive.suite != KG_SRTP_NONE &&
        !kg_srtp_keys_equal(&secure->lost->receive, &said->receive)) {
        kg_srtp_keys_clear(&secure->lost->receive);
        kg_srtp_forget_received(secure->sdes); /* what comes late is lost, what is replayed is not heard */
    }
    if (!sends_lost(&secure->lost->send, &said->send))
        kg_srtp_keys_clear(&secure->lost->send);
    if (secure->lost->send.suite == KG_SRTP_NONE && secure->lost->receive.suite == KG_SRTP_NONE)
        forget_lost(secure);
    return 0;
}

static int describe_sdes(struct kg_leg_secure *secure, const struct kg_media_secure *said,
                         const struct kg_addr *sdp, bool restored, int64_t now_ms)
{
    if (secure->sdes == NULL)
        secure->sdes = kg_srtp_new();
    if (secure->sdes == NULL || take_lost(secure, said, restored) != 0)
        return ENOMEM;
    if (kg_addr_is_usable(sdp)) {
        /* RFC 4568 7.1.4: who is at another address now may know nothing of the index of our packets. */
        if (kg_addr_is_set(&secure->sdp) && !kg_addr_equal(&secure->sdp, sdp) &&
            said->send.suite != KG_SRTP_NONE && !kg_srtp_sends_with(secure->sdes, &said->send))
            kg_srtp_begin_anew(secure->sdes);
        secure->sdp = *sdp;
    }
    static const struct kg_srtp_keys none;
    bool silent = secure->lost && secure->lost->send.suite != KG_SRTP_NONE;
    int error = kg_srtp_set_send(secure->sdes, silent ? &none : &said->send, now_ms);
    if (error == EINVAL) { /* keys that were used before, from index 0: others have to be told */
        secure->rekey_untold = true;
        error = kg_srtp_set_send(secure->sdes, &none, now_ms);
    }
    return error ? error : kg_srtp_set_receive(secure->sdes, &said->receive, now_ms);
}

/* ---- DTLS ---- */

static bool same_fingerprint(const struct kg_fingerprint *a, const struct kg_fingerprint *b)
{
    return a->hash == b->hash && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool same_peer(const struct kg_leg_dtls *dtls, const struct kg_media_secure *said)
{
    if (dtls->fingerprint_count != said->fingerprint_count)
        return false;
    for (unsigned i = 0; i < said->fingerprint_count; i++)
        if (!same_fingerprint(&dtls->fingerprint[i], &said->fingerprint[i]))
            return false;
    return true;
}

/* The certificate that the side was told of: of a call that is older than those which the engine keeps, the
 * leg has it still. */
static void take_identity(struct kg_leg_dtls *dtls, struct kg_dtls_identity *identity)
{
    struct kg_dtls_identity *had = dtls->identity;
    if (identity == NULL && had && same_fingerprint(kg_dtls_identity_fingerprint(had), &dtls->ours))
        return;
    dtls->identity = identity ? kg_dtls_identity_ref(identity) : NULL;
    kg_dtls_identity_unref(had);
}

static int describe_dtls(struct kg_leg *leg, const struct kg_media_secure *said,
                         struct kg_dtls_identity *identity)
{
    struct kg_leg_secure *secure = leg->secure;
    if (secure->dtls == NULL && (secure->dtls = calloc(1, sizeof *secure->dtls)) == NULL)
        return ENOMEM;
    struct kg_leg_dtls *dtls = secure->dtls;
    for (unsigned c = 0; c < 2; c++) {
        if (secure->keyed[c] == NULL && (secure->keyed[c] = kg_srtp_new()) == NULL)
            return ENOMEM;
    }
    bool again = dtls->association != said->association || !same_fingerprint(&dtls->ours, &said->ours);
    bool other_peer = dtls->fingerprint_count > 0 && !same_peer(dtls, said);
    dtls->association = said->association;
    dtls->ours = said->ours;
    dtls->fingerprint_count = said->fingerprint_count;
    memcpy(dtls->fingerprint, said->fingerprint, sizeof dtls->fingerprint);
    secure->setup = said->setup;
    if (again || dtls->identity == NULL) {
        take_identity(dtls, identity);
        secure->rekey_untold = dtls->identity == NULL;
    }
    if (again || leg->rtcp_mux)
        kg_association_reset(&dtls->by_component[1]);
    if (again)
        kg_association_reset(&dtls->by_component[0]);
    else
        kg_association_described(&leg->rtp, other_peer);
    if (!again && !leg->rtcp_mux)
        kg_association_described(&leg->rtcp, other_peer);
    return 0;
}

/* ---- a change ---- */

static int describe(struct kg_leg *leg, const struct kg_media_stream *line,
                    const struct kg_secure_change *change, int64_t now_ms)
{
    const struct kg_media_secure *said = line->secure;
    const struct kg_addr *sdp = &line->rtp;
    static const struct kg_media_secure pass;
    if (said == NULL && leg->secure == NULL)
        return 0;
    if (said == NULL)
        said = &pass;
    if (leg->secure == NULL && (leg->secure = calloc(1, sizeof *leg->secure)) == NULL)
        return ENOMEM;
    struct kg_leg_secure *secure = leg->secure;
    leg->stream->relay->secured = true;
    if (leg->carrier) { /* it seals and opens; what this leg had stays for the day when it has its own again
                         */
        secure->use = said->use;
        secure->sealed = false;
        secure->feedback = said->feedback;
        return 0;
    }
    secure->use = said->use;
    secure->sealed = said->use == KG_SECURE_PASS && said->sealed;
    secure->feedback = said->feedback;
    if (said->use == KG_SECURE_SDES)
        return describe_sdes(secure, said, sdp, change && change->restored, now_ms);
    if (said->use == KG_SECURE_DTLS)
        return describe_dtls(leg, said, change ? change->identity[leg->side][leg->stream->index] : NULL);
    return 0;
}

int kg_relay_change_secure(struct kg_relay *relay, const struct kg_secure_change *change,
                           struct kg_media_side *const side[2], int64_t now_ms)
{
    int error = 0;
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; side[s] && i < side[s]->stream_count && i < relay->stream_count; i++) {
            struct kg_leg *leg = relay->stream[i] ? &relay->stream[i]->leg[s] : NULL;
            if (leg == NULL || !side[s]->stream[i].enabled)
                continue; /* what a closed line said last holds, and its indexes */
            int failed = describe(leg, &side[s]->stream[i], change, now_ms);
            if (failed != 0)
                leg->enabled = false; /* rather silent than in the clear */
            error = failed ? failed : error;
            relay->untold |= leg->secure && leg->secure->rekey_untold;
        }
    }
    relay->touched |= relay->secured;
    return error;
}

/* Nothing can be sent with what signalling told: KG_MEDIA_REKEY was told, perhaps to a process that died. */
static bool wants_keys(const struct kg_leg *leg)
{
    const struct kg_leg_secure *secure = leg->secure;
    if (leg->carrier || !leg->enabled)
        return false;
    if (secure->use == KG_SECURE_SDES)
        return secure->sdes && !kg_srtp_can_send(secure->sdes);
    return secure->use == KG_SECURE_DTLS && secure->dtls && secure->dtls->identity == NULL;
}

void kg_secure_stats(const struct kg_leg *leg, struct kg_media_stats *out)
{
    if (leg->secure == NULL)
        return;
    out->secure_use = leg->secure->use;
    out->unsent = leg->secure->unsent;
    out->wants_keys = wants_keys(leg);
    const struct kg_leg_secure *secure = leg->carrier ? leg->carrier->secure : leg->secure;
    if (secure == NULL)
        return;
    const struct kg_srtp *session[] = {secure->sdes, secure->keyed[0], secure->keyed[1]};
    for (unsigned i = 0; i < 3; i++) {
        if (session[i] == NULL)
            continue;
        struct kg_srtp_counts counts = kg_srtp_counts(session[i]);
        out->srtp_bad += counts.bad;
        out->srtp_replayed += counts.replayed;
    }
    const struct kg_srtp *serves = secure->use == KG_SECURE_SDES   ? secure->sdes
                                   : secure->use == KG_SECURE_DTLS ? secure->keyed[0]
                                                                   : NULL;
    if (serves)
        out->suite = (uint8_t)kg_srtp_send_suite(serves);
}
