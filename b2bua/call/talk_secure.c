/* What secures media, added to what is told: what the sides said of it, whether that can be used, and for
 * each m-line who has keys with whom (secure.h decides). */
#include "b2bua/call/talk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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

/* Beside others that can be used. */
static void tell_unused(const struct kg_leg *leg, const struct kg_sdp *sdp, uint8_t line)
{
    struct kg_sdp_bad_key bad[4];
    size_t count = kg_sdp_bad_keys(sdp, line, bad, sizeof bad / sizeof bad[0]);
    for (size_t i = 0; i < count; i++)
        kg_debug("call", "call %s: %s of the %s is not used: %s", leg->call->record->id, bad[i].text,
                 leg->side == KG_SIDE_A ? "caller" : "callee", bad[i].reason);
}

void kg_talk_note_keys(struct kg_leg *leg, const struct kg_sdp *sdp, uint8_t count)
{
    struct kg_leg_lines *lines = &leg->lines;
    bool web = kg_sdp_is_web(sdp);
    lines->feedback = lines->zrtp = 0;
    for (uint8_t i = 0; i < count && i < KG_MEDIA_STREAMS_MAX; i++) {
        struct kg_sdp_secure said;
        if (kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        lines->kind[i] = kind_of(&said);
        lines->said[i] = shape_of(&said, lines->kind[i], web);
        lines->setup_said[i] = said.setup;
        lines->zrtp |= said.says_zrtp && lines->kind[i] == KG_SECURE_PLAIN ? (uint8_t)(1u << i) : 0;
        if (said.crypto_count > 0)
            tell_unused(leg, sdp, i);
        lines->feedback |= kg_sdp_profile_has_feedback(said.profile) ? (uint8_t)(1u << i) : 0;
        kg_sdp_secure_clear(&said);
    }
}

/* ---- whether what was said can be used ---- */

/* Which of its lines is of no use, and why. */
static int name_problem(const struct kg_sdp *sdp, size_t line, const struct kg_sdp_secure *said, char *error,
                        size_t size)
{
    char kind[12];
    struct kg_sdp_bad_key bad;
    bool named = kg_sdp_bad_keys(sdp, line, &bad, 1) > 0;
    snprintf(error, size, named ? "%s: %s (%s: %s)" : "%s: %s",
             kg_sdp_media_kind(sdp, line, kind, sizeof kind), said->problem, named ? bad.text : "",
             named ? bad.reason : "");
    return EINVAL;
}

/* An offer that nobody could answer, as far as kedge understands it. */
static int check_offer(const struct kg_leg *leg, const struct kg_sdp *sdp, char *error, size_t size)
{
    char kind[12];
    struct kg_sdp_secure said;
    int failed = 0;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX && !failed; i++) { /* more lines are refused elsewhere */
        if (!kg_sdp_is_enabled(sdp, i) || kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        if (said.problem && !said.says_mikey)
            failed = name_problem(sdp, i, &said, error, size);
        else if (kind_of(&said) == KG_SECURE_PLAIN && kg_talk_bars_clear(leg)) {
            snprintf(error, size, "%s: it would be in the clear, and the configured profile demands keys",
                     kg_sdp_media_kind(sdp, i, kind, sizeof kind));
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
    struct kg_talk_keys ours;
    struct kg_sdp_secure said;
    struct kg_sdp_agreed agreed;
    int failed = 0;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX && !failed; i++) { /* more lines are refused elsewhere */
        if (!kg_sdp_is_enabled(sdp, i))
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
    for (uint8_t i = 0; failed && i < KG_MEDIA_STREAMS_MAX; i++) {
        if (!kg_sdp_is_enabled(sdp, i) || kg_sdp_secure(sdp, i, &said) != 0)
            continue;
        if (said.problem && !said.says_mikey)
            name_problem(sdp, i, &said, error, size);
        kg_sdp_secure_clear(&said);
    }
    kg_sdp_free(made);
    return failed;
}

int kg_talk_check_keys(struct kg_leg *leg, const struct kg_sdp *sdp, bool answers, char *error, size_t size)
{
    return answers ? check_answer(leg, sdp, error, size) : check_offer(leg, sdp, error, size);
}

/* ---- who has which keys with whom ---- */

static struct kg_secure_facts facts_of(const struct kg_call *call, uint8_t i)
{
    struct kg_secure_facts facts;
    memset(&facts, 0, sizeof facts);
    for (int side = 0; side < 2; side++) {
        const struct kg_leg *leg = &call->leg[side];
        facts.enabled[side] = leg->lines.enabled >> i & 1;
        facts.said[side] = leg->lines.said[i];
        facts.kind[side] = leg->lines.kind[i];
        facts.zrtp[side] = leg->lines.zrtp >> i & 1;
        facts.feedback[side] = leg->lines.feedback >> i & 1;
        facts.told[side] = leg->keys.shape[i];
        facts.use[side] = leg->agreed.secure[i];
    }
    facts.known = call->leg[KG_SIDE_A].agreed.enabled & call->leg[KG_SIDE_B].agreed.enabled & 1u << i;
    return facts;
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
    enum kg_shape want =
        kg_apply_is_offer(purpose) ? kg_talk_wanted_shape(other, &ours) : KG_SHAPE_AS_IT_CAME;
    facts.demanded = kg_apply_is_offer(purpose) && other->keys.asks.demanded;
    struct kg_secure_line line = kg_apply_is_offer(purpose) ? kg_secure_offer(&facts, leg->side, want, ours)
                                 : purpose == KG_APPLY_RENEWED ? kg_secure_renewal(&facts, leg->side)
                                                               : kg_secure_answer(&facts, leg->side);
    set_line(leg, i, &line);
    if (kg_apply_is_offer(purpose)) {
        bool settled = purpose == KG_APPLY_ABSORBED || leg->agreed.secure[i] == KG_SECURE_DTLS;
        leg->keys.shape[i] = line.text[leg->side];
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
        other->keys.shape[i] = line.text[other->side];
    if (purpose == KG_APPLY_ANSWER || purpose == KG_APPLY_RE_ANSWER || purpose == KG_APPLY_PROGRESS)
        changed |= set_role(other, i, role_of(other, i));
    if (line.why != KG_SECURED_UNDECIDED && (i == 0 || call->secured == KG_SECURED_UNDECIDED))
        call->secured = line.why;
    return changed;
}

bool kg_talk_is_terminated(const struct kg_call *call, uint8_t i)
{
    const struct kg_leg *a = &call->leg[KG_SIDE_A], *b = &call->leg[KG_SIDE_B];
    if (a->agreed.enabled & b->agreed.enabled & 1u << i)
        return a->agreed.secure[i] != KG_SECURE_PASS;
    return a->keys.shape[i] != KG_SHAPE_AS_IT_CAME || b->keys.shape[i] != KG_SHAPE_AS_IT_CAME;
}

/* ---- one contact of several ---- */

void kg_talk_aim_keys(struct kg_leg *leg, uint8_t i)
{
    struct kg_secure_facts facts = facts_of(leg->call, i);
    facts.known = false;
    bool ours;
    enum kg_shape want = kg_talk_wanted_shape(leg, &ours);
    leg->keys.shape[i] = kg_secure_offer(&facts, kg_other_side(leg->side), want, ours).text[leg->side];
}
