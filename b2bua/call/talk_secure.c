/* What secures media, added to talk.c: what the sides said of it, kedge's own keys, and for each m-line who
 * has which with whom (secure.h decides). A peer's keys stay in its SDP and are read from there whenever they
 * are needed; kedge's are made of one secret a leg. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/route/trunks.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ---- what a leg says ---- */

static uint8_t kind_of(const struct kg_sdp_secure *said)
{
    if (said->profile == KG_SDP_NOT_RTP || (said->says_mikey && !said->sdes && !said->dtls))
        return KG_SECURE_PASS;
    if (said->dtls && (kg_sdp_profile_is_dtls(said->profile) || !said->sdes))
        return KG_SECURE_DTLS;
    if (said->sdes)
        return KG_SECURE_SDES;
    return kg_sdp_profile_is_secure(said->profile) ? KG_SECURE_PASS : KG_SECURE_PLAIN;
}

static uint8_t shape_of(const struct kg_sdp_secure *said, uint8_t kind, bool web)
{
    if (kind == KG_SECURE_PASS)
        return KG_SHAPE_AS_IT_CAME;
    if (!kg_sdp_profile_is_secure(said->profile))
        return kind == KG_SECURE_PLAIN ? KG_SHAPE_PLAIN : KG_SHAPE_OPPORTUNISTIC;
    if (kind == KG_SECURE_SDES)
        return KG_SHAPE_SDES;
    return web ? KG_SHAPE_WEB : KG_SHAPE_DTLS;
}

void kg_talk_note_keys(struct kg_leg *leg, const struct kg_sdp *sdp, uint8_t count)
{
    struct kg_leg_lines *lines = &leg->lines;
    bool web = kg_sdp_is_web(sdp);
    lines->feedback = 0;
    for (uint8_t i = 0; i < count && i < KG_MEDIA_STREAMS_MAX; i++) {
        struct kg_sdp_secure said;
        if (kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        lines->kind[i] = kind_of(&said);
        lines->said[i] = shape_of(&said, lines->kind[i], web);
        lines->setup_said[i] = said.setup;
        lines->feedback |= kg_sdp_profile_has_feedback(said.profile) ? (uint8_t)(1u << i) : 0;
        kg_sdp_secure_clear(&said);
    }
}

/* ---- kedge's own keys ---- */

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
    if (!leg->has_secret) {
        kg_calls_random(leg->call->calls, leg->secret, sizeof leg->secret);
        leg->has_secret = true;
    }
    HMAC(EVP_sha512(), leg->secret, sizeof leg->secret, text, n, out, &len);
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
    for (size_t i = 0; i < (KG_TLS_ID - 1) / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", material[i]);
    return out;
}

/* The certificate that this peer was told of, or is told of now. */
static const struct kg_fingerprint *our_fingerprint(struct kg_leg *leg)
{
    const struct kg_fingerprint *now = kg_media_fingerprint(leg->call->calls->server->media);
    if (leg->ours.hash == KG_FINGERPRINT_NONE && now)
        leg->ours = *now;
    return &leg->ours;
}

void kg_talk_new_keys(struct kg_leg *leg)
{
    OPENSSL_cleanse(leg->secret, sizeof leg->secret);
    leg->has_secret = false;
    leg->ours = (struct kg_fingerprint){0};
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
        *tag = said.crypto[0].tag;
        *suite = said.crypto[0].keys.suite;
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
    uint8_t shape = leg->shape[line];
    if (shape == KG_SHAPE_AS_IT_CAME)
        return false;
    out->sdp = (struct kg_sdp_our_keys){.profile = profile[shape]};
    uint8_t kind = answers ? leg->lines.kind[line] : shape < KG_SHAPE_DTLS ? KG_SECURE_SDES : KG_SECURE_DTLS;
    if (shape == KG_SHAPE_PLAIN)
        return true;
    if (kind == KG_SECURE_SDES)
        put_crypto(leg, line, answers, out);
    if (kind == KG_SECURE_DTLS || (!answers && shape == KG_SHAPE_SDES && leg->asks.both)) {
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
    uint32_t hash = mix(2166136261u, leg->secret, sizeof leg->secret);
    hash = mix(hash, &leg->ours, sizeof leg->ours);
    hash = mix(hash, said->tls_id, strlen(said->tls_id));
    for (uint8_t i = 0; i < said->fingerprint_count; i++)
        hash = mix(hash, said->fingerprint[i].bytes, said->fingerprint[i].len);
    /* Who has both roles open has not chosen another one. */
    uint8_t role = leg->lines.setup[line];
    if (role != KG_SETUP_ACTPASS)
        hash = mix(hash, &role, 1);
    if (role != KG_SETUP_ACTPASS && hash != leg->dtls[line]) {
        leg->associations += leg->dtls[line] != 0;
        leg->dtls[line] = hash ? hash : 1;
    }
    return leg->associations;
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
    memcpy(out->fingerprint, said->fingerprint, sizeof out->fingerprint);
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

/* ---- whether what was said can be used ---- */

/* An offer that nobody could answer, as far as kedge understands it. */
static int check_offer(const struct kg_sdp *sdp, char *error, size_t size)
{
    struct kg_media_side side;
    struct kg_sdp_secure said;
    int failed = 0;
    memset(&side, 0, sizeof side);
    if (kg_sdp_describe(sdp, &side) != 0)
        return 0; /* it is refused elsewhere */
    for (uint8_t i = 0; i < side.stream_count && !failed; i++) {
        if (!side.stream[i].enabled || kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        if (said.problem && !said.says_mikey) {
            struct kg_sdp_bad_key bad;
            bool named = kg_sdp_bad_keys(sdp, i, &bad, 1) > 0;
            snprintf(error, size, named ? "%s: %s (%s: %s)" : "%s: %s", side.stream[i].kind, said.problem,
                     named ? bad.text : "", named ? bad.reason : "");
            failed = EINVAL;
        }
        kg_sdp_secure_clear(&said);
    }
    return failed;
}

/* Where the two phones agree on keys among themselves: whether they do. */
static int check_passing(const struct kg_sdp *offer, const struct kg_sdp *answer, size_t line, char *error,
                         size_t size)
{
    struct kg_sdp_secure offered, answered;
    if (!offer || kg_sdp_secure(offer, line, &offered) != 0 || kg_sdp_secure(answer, line, &answered) != 0)
        return 0;
    bool fits = kind_of(&offered) == KG_SECURE_PASS || (offered.sdes && answered.sdes) ||
                (offered.dtls && answered.dtls) || (offered.plain && answered.plain);
    kg_sdp_secure_clear(&offered);
    kg_sdp_secure_clear(&answered);
    if (!fits)
        snprintf(error, size, "its answer has other keys than the offer");
    return fits ? 0 : EINVAL;
}

/* The role that the peer has, and goes on with where it does not say (RFC 8842 5.5). */
static uint8_t chosen_before(const struct kg_leg *leg, uint8_t line)
{
    bool passive = leg->agreed.secure[line] == KG_SECURE_DTLS && leg->agreed.setup[line] == KG_SETUP_ACTIVE;
    return passive ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE;
}

static int check_answer(struct kg_leg *leg, const struct kg_sdp *sdp, char *error, size_t size)
{
    struct kg_sdp *made;
    const struct kg_sdp *offer = kg_talk_said(&leg->call->leg[kg_other_side(leg->side)], &made);
    struct kg_media_side side;
    struct kg_talk_keys ours;
    struct kg_sdp_secure said;
    struct kg_sdp_agreed agreed;
    int failed = 0;
    memset(&side, 0, sizeof side);
    if (kg_sdp_describe(sdp, &side) != 0)
        side.stream_count = 0; /* it is refused elsewhere */
    for (uint8_t i = 0; i < side.stream_count && !failed; i++) {
        if (!side.stream[i].enabled)
            continue;
        if (!kg_talk_write_keys(leg, i, false, &ours)) {
            failed = check_passing(offer, sdp, i, error, size);
            continue;
        }
        if (kg_sdp_secure(sdp, i, &said) == 0) {
            if (said.setup == KG_SETUP_ACTPASS) /* baresip 1.0 answers so: it has not chosen anew */
                said.setup = chosen_before(leg, i);
            failed = kg_sdp_check_keys(&ours.sdp, &said, &agreed, error, size);
            kg_sdp_secure_clear(&said);
        }
        kg_talk_forget_keys(&ours, 1);
    }
    kg_sdp_free(made);
    return failed;
}

int kg_talk_check_keys(struct kg_leg *leg, const struct kg_sdp *sdp, bool answers, char *error, size_t size)
{
    return answers ? check_answer(leg, sdp, error, size) : check_offer(sdp, error, size);
}

/* ---- who has which keys with whom ---- */

static bool is_offer(enum kg_apply purpose)
{
    return purpose == KG_APPLY_OFFER || purpose == KG_APPLY_RE_OFFER || purpose == KG_APPLY_ABSORBED ||
           purpose == KG_APPLY_UPGRADE;
}

static struct kg_secure_facts facts_of(const struct kg_call *call, uint8_t i)
{
    struct kg_secure_facts facts;
    memset(&facts, 0, sizeof facts);
    for (int side = 0; side < 2; side++) {
        const struct kg_leg *leg = &call->leg[side];
        facts.enabled[side] = leg->lines.enabled >> i & 1;
        facts.said[side] = leg->lines.said[i];
        facts.kind[side] = leg->lines.kind[i];
        facts.feedback[side] = leg->lines.feedback >> i & 1;
        facts.told[side] = leg->shape[i];
        facts.use[side] = leg->agreed.secure[i];
    }
    facts.known = call->leg[KG_SIDE_A].agreed.enabled & call->leg[KG_SIDE_B].agreed.enabled & 1u << i;
    return facts;
}

/* The word for a peer in the configuration. B before its INVITE: for the contact that is tried first. */
static struct kg_shape_facts shape_facts(const struct kg_leg *to, enum kg_shape offered)
{
    const struct kg_call *call = to->call;
    const struct kg_config *config = &call->calls->server->config;
    const struct kg_call_target *first =
        to->side == KG_SIDE_B && !to->dialog && call->target_count > 0 ? &call->target[0] : NULL;
    const struct kg_trunk *trunk = first ? first->trunk : to->trunk;
    bool pbx = first ? first->pbx : to->pbx;
    const struct kg_flow *flow = first ? &first->flow : &to->flow;
    struct kg_shape_facts facts = {.web = kg_transport_is_web(flow->transport), .offered = offered};
    facts.word = trunk ? kg_trunk_config(trunk)->profile
                 : pbx ? config->media.pbx_profile
                       : config->media.profile;
    if (to->side == KG_SIDE_B && call->profile != KG_PROFILE_DEFAULT)
        facts.word = call->profile;
    kg_habits_recall(call->calls->habits, flow->transport, &flow->remote, kg_mono_ms(), &facts);
    return facts;
}

/* The shapes for a contact, by the first m-line that has any. */
static void plan(struct kg_leg *to)
{
    const struct kg_leg *from = &to->call->leg[kg_other_side(to->side)];
    enum kg_shape offered = KG_SHAPE_AS_IT_CAME, out[KG_SHAPE_TRIES];
    unsigned first = 0;
    while (first < KG_MEDIA_STREAMS_MAX &&
           (!(from->lines.enabled >> first & 1) || from->lines.said[first] == KG_SHAPE_AS_IT_CAME))
        first++;
    if (first < KG_MEDIA_STREAMS_MAX)
        offered = (enum kg_shape)from->lines.said[first];
    struct kg_shape_facts facts = shape_facts(to, offered);
    facts.feedback = first < KG_MEDIA_STREAMS_MAX && (from->lines.feedback >> first & 1);
    to->asks = (struct kg_leg_asks){.count = (uint8_t)kg_shapes(&facts, out)};
    to->asks.demanded = kg_secure_is_demanded(facts.word);
    to->asks.both = facts.word == KG_PROFILE_AUTO || facts.word == KG_PROFILE_DEFAULT;
    /* Who answers begins the handshake (RFC 5763 5): behind a NAT, without ICE, who offered would never be
     * found. */
    to->asks.ours = offered == KG_SHAPE_DTLS && from->call->record->leg[from->side].nat &&
                    !(from->lines.ice >> first & 1);
    for (uint8_t i = 0; i < to->asks.count; i++)
        to->asks.shape[i] = (uint8_t)out[i];
}

/* ours: not as it came. */
static enum kg_shape wanted(struct kg_leg *to, bool *ours)
{
    if (to->asks.count == 0)
        plan(to);
    *ours = to->asks.ours || to->asks.at > 0;
    return (enum kg_shape)to->asks.shape[to->asks.at];
}

/* RFC 5763 5: the role that the side that offered is given, when the other one has answered. */
static uint8_t role_of(const struct kg_leg *leg, uint8_t i)
{
    uint8_t theirs = leg->lines.setup_said[i], before = leg->agreed.setup[i];
    bool ice = leg->lines.use[i] == KG_ICE_AGENT;
    bool nat = leg->call->record->leg[leg->side].nat;
    /* Behind a NAT without ICE it has to send first. With ICE either could: the server's order of SRTP
     * profiles counts, and browsers as servers choose AES_CM before GCM. */
    enum kg_dtls_setup preferred = ice || nat ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE;
    if (leg->agreed.secure[i] == KG_SECURE_DTLS && (before == KG_SETUP_ACTIVE || before == KG_SETUP_PASSIVE))
        preferred = (enum kg_dtls_setup)before; /* the association goes on */
    return (uint8_t)kg_sdp_answer_setup((enum kg_dtls_setup)theirs, preferred);
}

static bool set_line(struct kg_leg *leg, uint8_t i, const struct kg_secure_line *line)
{
    uint8_t bit = (uint8_t)(1u << i), seals = line->sealed ? bit : 0;
    bool changed = leg->lines.secure[i] != line->use[leg->side] || (leg->lines.sealed & bit) != seals;
    leg->lines.secure[i] = line->use[leg->side];
    leg->lines.sealed = (uint8_t)((leg->lines.sealed & ~bit) | seals);
    return changed;
}

static bool set_role(struct kg_leg *leg, uint8_t i, uint8_t role)
{
    bool changed = leg->lines.secure[i] == KG_SECURE_DTLS && leg->lines.setup[i] != role;
    leg->lines.setup[i] = role;
    return changed;
}

bool kg_talk_decide_keys(struct kg_leg *leg, uint8_t i, enum kg_apply purpose)
{
    struct kg_call *call = leg->call;
    struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_secure_facts facts = facts_of(call, i);
    bool ours = false;
    enum kg_shape want = is_offer(purpose) ? wanted(other, &ours) : KG_SHAPE_AS_IT_CAME;
    facts.demanded = is_offer(purpose) && other->asks.demanded;
    struct kg_secure_line line = is_offer(purpose) ? kg_secure_offer(&facts, leg->side, want, ours)
                                 : purpose == KG_APPLY_RENEWED ? kg_secure_renewal(&facts, leg->side)
                                                               : kg_secure_answer(&facts, leg->side);
    set_line(leg, i, &line);
    if (is_offer(purpose)) {
        bool settled = purpose == KG_APPLY_ABSORBED || leg->agreed.secure[i] == KG_SECURE_DTLS;
        leg->shape[i] = line.text[leg->side];
        set_role(leg, i, settled ? role_of(leg, i) : (uint8_t)KG_SETUP_ACTPASS);
    } else {
        uint8_t theirs = leg->lines.setup_said[i];
        if (theirs == KG_SETUP_ACTPASS)
            theirs = chosen_before(leg, i);
        set_role(leg, i, (uint8_t)kg_sdp_answer_setup((enum kg_dtls_setup)theirs, KG_SETUP_PASSIVE));
    }
    if (purpose == KG_APPLY_ABSORBED)
        return false;
    bool changed = set_line(other, i, &line);
    if (purpose != KG_APPLY_RENEWED)
        other->shape[i] = line.text[other->side];
    if (purpose == KG_APPLY_ANSWER || purpose == KG_APPLY_RE_ANSWER || purpose == KG_APPLY_PROGRESS)
        changed |= set_role(other, i, role_of(other, i));
    if (line.why != KG_SECURED_UNDECIDED && (i == 0 || call->secured == KG_SECURED_UNDECIDED))
        call->secured = line.why;
    return changed;
}

bool kg_talk_will_end(const struct kg_leg *leg)
{
    bool ours;
    return wanted(&leg->call->leg[kg_other_side(leg->side)], &ours) != KG_SHAPE_WEB || ours;
}

bool kg_talk_is_terminated(const struct kg_call *call, uint8_t i)
{
    const struct kg_leg *a = &call->leg[KG_SIDE_A], *b = &call->leg[KG_SIDE_B];
    if (a->agreed.enabled & b->agreed.enabled & 1u << i)
        return a->agreed.secure[i] != KG_SECURE_PASS;
    return a->shape[i] != KG_SHAPE_AS_IT_CAME || b->shape[i] != KG_SHAPE_AS_IT_CAME;
}

/* ---- one contact of several ---- */

void kg_talk_aim_keys(struct kg_leg *leg, uint8_t i)
{
    struct kg_secure_facts facts = facts_of(leg->call, i);
    facts.known = false;
    bool ours;
    enum kg_shape want = wanted(leg, &ours);
    leg->shape[i] = kg_secure_offer(&facts, kg_other_side(leg->side), want, ours).text[leg->side];
}

/* Whoever answers with a fingerprint where there was none to answer wants DTLS. */
static bool shows_dtls(const sip_t *answer)
{
    char error[160];
    struct kg_multipart at;
    struct kg_sdp_secure said;
    bool shows = false;
    if (!answer || kg_body_find(answer, &at, error, sizeof error) != KG_SDP_OK)
        return false;
    struct kg_sdp *sdp =
        kg_sdp_parse(answer->sip_payload->pl_data + at.sdp_at, at.sdp_len, error, sizeof error);
    for (size_t i = 0; sdp && !shows && kg_sdp_secure(sdp, i, &said) == 0; i++) {
        shows = said.dtls;
        kg_sdp_secure_clear(&said);
    }
    kg_sdp_free(sdp);
    return shows;
}

bool kg_talk_next_shape(struct kg_leg *leg, int status, const sip_t *answer)
{
    uint8_t before = leg->asks.at;
    if (!kg_shape_is_refusal(status) || leg->asks.at + 1 >= leg->asks.count)
        return false;
    leg->asks.at++;
    for (uint8_t i = leg->asks.at; shows_dtls(answer) && i < leg->asks.count; i++)
        if (leg->asks.shape[i] == KG_SHAPE_DTLS)
            leg->asks.at = i;
    kg_record_note(leg->call->record, KG_NOTE_RESHAPED, leg->side, NULL);
    kg_info("call", "call %s: %s refuses %s (%d) and is asked for %s", leg->call->record->id,
            leg->call->record->leg[leg->side].user, kg_shape_name((enum kg_shape)leg->asks.shape[before]),
            status, kg_shape_name((enum kg_shape)leg->asks.shape[leg->asks.at]));
    return true;
}

const char *kg_talk_why_refused(const struct kg_leg *leg, int status, const sip_t *sip)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    const char *name = leg->call->record->leg[leg->side].user;
    char error[160], codecs[80], why[240] = "";
    struct kg_multipart at;
    if (!kg_shape_is_refusal(status) || !other->sdp || leg->asks.count == 0)
        return NULL;
    if (sip &&
        kg_body_find(sip, &at, error, sizeof error) == KG_SDP_OK) { /* what it could do (RFC 3261 21.4.26) */
        struct kg_sdp *could =
            kg_sdp_parse(sip->sip_payload->pl_data + at.sdp_at, at.sdp_len, error, sizeof error);
        if (could && !kg_sdp_have_common_codec(other->sdp, "the caller", could, name, error, sizeof error))
            snprintf(why, sizeof why, "%s; kedge does not transcode", error);
        kg_sdp_free(could);
    }
    if (!why[0]) {
        kg_sdp_codec_names(other->sdp, codecs, sizeof codecs);
        snprintf(why, sizeof why,
                 "the callee refuses every way of media that it was offered, with the codecs %s", codecs);
    }
    return kg_record_keep(leg->call->record, why);
}

void kg_talk_learn_shape(struct kg_leg *leg)
{
    uint8_t refused = 0;
    for (uint8_t i = 0; i < leg->asks.at; i++)
        refused |= KG_SHAPE_BIT(leg->asks.shape[i]);
    refused &= (uint8_t)~KG_SHAPE_BIT(leg->asks.shape[leg->asks.at]);
    if (refused)
        kg_habits_refused(leg->call->calls->habits, leg->flow.transport, &leg->flow.remote, kg_mono_ms(),
                          refused);
}

void kg_talk_learn_offer(const struct kg_leg *leg)
{
    for (uint8_t i = 0; leg->sdp && i < KG_MEDIA_STREAMS_MAX; i++) {
        struct kg_sdp_secure said;
        if (kg_sdp_secure(leg->sdp, i, &said) != 0)
            return;
        enum kg_shape shape = (enum kg_shape)shape_of(&said, kind_of(&said), kg_sdp_is_web(leg->sdp));
        kg_sdp_secure_clear(&said);
        if (shape == KG_SHAPE_AS_IT_CAME)
            continue;
        kg_habits_shown(leg->call->calls->habits, leg->flow.transport, &leg->flow.remote, kg_mono_ms(),
                        shape);
        return;
    }
}
