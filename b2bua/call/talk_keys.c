/* kedge's own keys: what is written of them in the SDP for a leg's peer, and what the engine is told. A
 * peer's keys stay in its SDP and are read from there whenever they are needed; kedge's are made of one
 * secret a leg. */
#include "b2bua/call/talk.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/digits.h"

/* ---- how they are made ---- */

/* Offered in this order; RFC 4568 6.2, 6188, 7714. */
static const enum kg_srtp_suite suites[] = {KG_SRTP_AEAD_AES_256_GCM, KG_SRTP_AEAD_AES_128_GCM,
                                            KG_SRTP_AES_CM_256_SHA1_80, KG_SRTP_AES_CM_128_SHA1_80,
                                            KG_SRTP_AES_CM_128_SHA1_32};
#define SUITES (sizeof suites / sizeof suites[0])

/* A peer hears the same keys until they are made anew: all come from one secret, by HMAC-SHA-512 as a PRF,
 * each with its own label. */
static void derive(struct kg_leg *leg, const char *label, uint8_t line, uint8_t suite, uint8_t out[static 64])
{
    uint8_t text[32];
    unsigned len = 64;
    size_t n = (size_t)snprintf((char *)text, sizeof text, "%s %u %u", label, line, suite);
    if (!leg->keys.has_secret) {
        kg_calls_random(leg->call->calls, leg->keys.secret, sizeof leg->keys.secret);
        leg->keys.has_secret = true;
    }
    HMAC(EVP_sha512(), leg->keys.secret, sizeof leg->keys.secret, text, n, out, &len);
}

static struct kg_srtp_keys our_keys(struct kg_leg *leg, uint8_t line, uint8_t suite)
{
    uint8_t material[64];
    struct kg_srtp_keys keys = {.suite = suite, .count = 1};
    derive(leg, "srtp", line, suite, material);
    memcpy(keys.key[0].bytes, material, kg_srtp_suite_key_len((enum kg_srtp_suite)suite));
    OPENSSL_cleanse(material, sizeof material);
    return keys;
}

static const char *our_tls_id(struct kg_leg *leg, uint8_t line, char out[static KG_TLS_ID])
{
    uint8_t material[64];
    derive(leg, "tls-id", line, 0, material);
    return kg_hex(out, material, (KG_TLS_ID - 1) / 2);
}

/* The certificate that this peer was told of, or is told of now. */
static const struct kg_fingerprint *our_fingerprint(struct kg_leg *leg)
{
    const struct kg_fingerprint *now = kg_media_fingerprint(leg->call->calls->server->media);
    if (leg->keys.ours.hash == KG_FINGERPRINT_NONE && now)
        leg->keys.ours = *now;
    return &leg->keys.ours;
}

void kg_talk_new_keys(struct kg_leg *leg)
{
    OPENSSL_cleanse(leg->keys.secret, sizeof leg->keys.secret);
    leg->keys.has_secret = false;
    leg->keys.ours = (struct kg_fingerprint){0};
}

/* ---- what is written ---- */

/* Without feedback: who knows none refuses it, and who knows it takes the profile without. */
static const uint8_t profile[KG_SHAPE_COUNT] = {
    [KG_SHAPE_PLAIN] = KG_SDP_AVP,     [KG_SHAPE_OPPORTUNISTIC] = KG_SDP_AVP, [KG_SHAPE_SDES] = KG_SDP_SAVP,
    [KG_SHAPE_DTLS] = KG_SDP_TLS_SAVP, [KG_SHAPE_WEB] = KG_SDP_TLS_SAVPF,
};

/* The crypto line that counts of what the peer said last, or of what was agreed: the first (RFC 4568 5.1.2).
 */
static bool find_crypto(const struct kg_leg *leg, bool agreed, uint8_t line, uint32_t *tag, uint8_t *suite)
{
    char error[160];
    struct kg_sdp *made = NULL;
    struct kg_sdp_secure said;
    const struct kg_sdp *sdp = agreed ? NULL : kg_talk_said(leg, &made);
    if (agreed && leg->sdp_agreed)
        sdp = made = kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error);
    bool found = sdp && kg_sdp_secure(sdp, line, &said) == 0;
    if (found) {
        found = said.crypto_count > 0;
        if (found) {
            *tag = said.crypto[0].tag;
            *suite = said.crypto[0].keys.suite;
        }
        kg_sdp_secure_clear(&said);
    }
    kg_sdp_free(made);
    return found;
}

/* An answer has one line. So has an offer in talk: what is in use goes on, or is followed by another key for
 * the same suite (RFC 4568 7.1.4). */
static void put_crypto(struct kg_leg *leg, uint8_t line, bool answers, struct kg_talk_keys *out)
{
    uint32_t tag = 0;
    uint8_t suite = KG_SRTP_NONE, count = 0;
    bool goes_on = !answers && leg->agreed.secure[line] == KG_SECURE_SDES;
    if ((answers || goes_on) && find_crypto(leg, goes_on, line, &tag, &suite))
        out->crypto[count++] = (struct kg_sdp_crypto){tag, our_keys(leg, line, suite)};
    for (; !answers && !suite && count < SUITES; count++)
        out->crypto[count] = (struct kg_sdp_crypto){count + 1u, our_keys(leg, line, (uint8_t)suites[count])};
    out->sdp.crypto = out->crypto;
    out->sdp.crypto_count = count;
}

bool kg_talk_write_keys(struct kg_leg *leg, uint8_t line, bool answers, struct kg_talk_keys *out)
{
    uint8_t shape = leg->keys.shape[line];
    if (shape == KG_SHAPE_AS_IT_CAME)
        return false;
    out->sdp = (struct kg_sdp_our_keys){.profile = profile[shape]};
    uint8_t kind = answers ? leg->lines.kind[line] : shape < KG_SHAPE_DTLS ? KG_SECURE_SDES : KG_SECURE_DTLS;
    if (shape == KG_SHAPE_PLAIN)
        return true;
    if (kind == KG_SECURE_SDES)
        put_crypto(leg, line, answers, out);
    if (kind == KG_SECURE_DTLS || (!answers && shape == KG_SHAPE_SDES && leg->keys.asks.both)) {
        out->sdp.fingerprint = *our_fingerprint(leg);
        out->sdp.setup = answers ? leg->lines.setup[line] : KG_SETUP_ACTPASS;
        if (kind == KG_SECURE_DTLS) /* else DTLS is the second choice, and there is little room */
            out->sdp.tls_id = our_tls_id(leg, line, out->tls_id);
    }
    return true;
}

void kg_talk_forget_keys(struct kg_talk_keys *keys, size_t count)
{
    OPENSSL_cleanse(keys, count * sizeof *keys);
}

/* ---- what is told to the engine ---- */

static const struct kg_media_secure sealed = {.use = KG_SECURE_PASS, .sealed = true};

static uint32_t mix(uint32_t hash, const void *data, size_t len)
{
    for (const uint8_t *p = data; len > 0; p++, len--) /* FNV-1a */
        hash = (hash ^ *p) * 16777619u;
    return hash;
}

/* RFC 8842 4: other fingerprints, roles or identifiers than the engine was told of last are another
 * association. */
static uint32_t association(struct kg_leg *leg, uint8_t line, const struct kg_sdp_secure *said)
{
    uint32_t hash = mix(2166136261u, leg->keys.secret, sizeof leg->keys.secret);
    hash = mix(hash, &leg->keys.ours, sizeof leg->keys.ours);
    hash = mix(hash, said->tls_id, strlen(said->tls_id));
    for (uint8_t i = 0; i < said->fingerprint_count; i++)
        hash = mix(hash, said->fingerprint[i].bytes, said->fingerprint[i].len);
    /* Who has both roles open has not chosen another one. */
    uint8_t role = leg->lines.setup[line];
    if (role != KG_SETUP_ACTPASS)
        hash = mix(hash, &role, 1);
    if (role != KG_SETUP_ACTPASS && hash != leg->dtls[line]) {
        leg->associations[line] += leg->dtls[line] != 0;
        leg->dtls[line] = hash ? hash : 1;
    }
    return leg->associations[line];
}

void kg_talk_end_associations(struct kg_leg *leg, uint8_t lines)
{
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        if (lines >> i & 1 && leg->dtls[i] != 0)
            leg->dtls[i] = ~leg->dtls[i] ? ~leg->dtls[i] : 1; /* another one than it can be again */
}

static void fill_sdes(struct kg_leg *leg, uint8_t line, const struct kg_sdp_secure *said,
                      struct kg_media_secure *out)
{
    if (said->crypto_count == 0)
        return;
    out->receive = said->crypto[0].keys;
    out->send = our_keys(leg, line, out->receive.suite);
}

static void fill_dtls(struct kg_leg *leg, uint8_t line, const struct kg_sdp_secure *said,
                      struct kg_media_secure *out)
{
    uint8_t unused[64];
    derive(leg, "", 0, 0, unused); /* there is a secret from now on */
    out->ours = *our_fingerprint(leg);
    out->setup = leg->lines.setup[line];
    out->fingerprint_count = said->fingerprint_count;
    memcpy(out->fingerprint, said->fingerprint, said->fingerprint_count * sizeof *out->fingerprint);
    out->association = association(leg, line, said);
}

void kg_talk_fill_keys(struct kg_leg *leg, const struct kg_sdp *sdp, struct kg_media_side *side,
                       struct kg_media_secure out[static KG_MEDIA_STREAMS_MAX])
{
    for (uint8_t i = 0; i < side->stream_count; i++) {
        struct kg_sdp_secure said;
        uint8_t use = leg->lines.secure[i];
        side->stream[i].secure = NULL;
        if (use == KG_SECURE_PASS) {
            side->stream[i].secure = leg->lines.sealed >> i & 1 ? &sealed : NULL;
            continue;
        }
        memset(&out[i], 0, sizeof out[i]);
        out[i].use = use;
        out[i].feedback = leg->lines.feedback >> i & 1;
        side->stream[i].secure = &out[i];
        if (use == KG_SECURE_PLAIN || kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        if (use == KG_SECURE_SDES)
            fill_sdes(leg, i, &said, &out[i]);
        else
            fill_dtls(leg, i, &said, &out[i]);
        kg_sdp_secure_clear(&said);
    }
}

void kg_talk_clear_keys(struct kg_media_side *side)
{
    for (uint8_t i = 0; i < side->stream_count; i++) {
        struct kg_media_secure *secure = (struct kg_media_secure *)(uintptr_t)side->stream[i].secure;
        if (secure && secure != &sealed)
            OPENSSL_cleanse(secure, sizeof *secure);
        side->stream[i].secure = NULL;
    }
}
