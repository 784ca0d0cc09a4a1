/* What ICE adds to what is told: kedge's own credentials, and for each m-line who does ICE with whom. */
#include "b2bua/call/talk.h"

#include <stdlib.h>
#include <string.h>

#include "conf/log.h"

/* 6 bits each: 48 bits of ufrag and 144 of password (RFC 8839 5.4 wants 24 and 128). */
static void write_secret(struct kg_calls *calls, char *out, size_t size)
{
    static const char ice_char[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t byte[KG_ICE_OUR_PWD];
    kg_calls_random(calls, byte, size);
    for (size_t i = 0; i + 1 < size; i++)
        out[i] = ice_char[byte[i] & 63];
    out[size - 1] = '\0';
}

void kg_talk_credentials(struct kg_leg *leg, bool new_ones, bool controlling)
{
    if (leg->ice.ufrag[0] && !new_ones)
        return;
    write_secret(leg->call->calls, leg->ice.ufrag, sizeof leg->ice.ufrag);
    write_secret(leg->call->calls, leg->ice.pwd, sizeof leg->ice.pwd);
    leg->ice.controlling = controlling;
}

static bool says_mismatch(const struct kg_leg *leg)
{
    const char *text = leg->sdp_pending ? leg->sdp_pending : leg->sdp_agreed;
    return text && strstr(text, "a=ice-mismatch");
}

static struct kg_path_rules rules_of(const struct kg_call *call, enum kg_apply purpose)
{
    const struct kg_config *config = &call->calls->server->config;
    return (struct kg_path_rules){.ice = config->media.ice,
                                  .policy = kg_call_policy(call),
                                  .trusted = {call->leg[KG_SIDE_A].pbx, call->leg[KG_SIDE_B].pbx},
                                  .apart = call->path.fell_back,
                                  .upgrade =
                                      purpose == KG_APPLY_UPGRADE ||
                                      (call->fsm.re != KG_RE_NONE && call->fsm.re_kind == KG_RE_UPGRADE)};
}

static struct kg_path_facts facts_of(const struct kg_call *call, uint8_t i, const bool mismatch[2])
{
    struct kg_path_facts facts;
    memset(&facts, 0, sizeof facts);
    for (int side = 0; side < 2; side++) {
        const struct kg_leg *leg = &call->leg[side];
        facts.enabled[side] = leg->lines.enabled >> i & 1;
        facts.known[side] = leg->sdp || leg->sdp_agreed;
        facts.ice[side] = (leg->lines.ice >> i & 1) && !call->path.leg[side].plain;
        facts.mismatch[side] = mismatch[side] || (leg->lines.mismatch >> i & 1);
        facts.use[side] = leg->agreed.use[i];
        facts.told[side] = leg->told[i];
        facts.web[side] = leg->keys.shape[i] == KG_SHAPE_WEB;
    }
    facts.terminated = kg_talk_is_terminated(call, i);
    return facts;
}

static struct kg_path_line decide_line(const struct kg_path_rules *rules, const struct kg_path_facts *facts,
                                       enum kg_side from, enum kg_apply purpose)
{
    switch (purpose) {
    case KG_APPLY_PROGRESS:
    case KG_APPLY_ANSWER:
    case KG_APPLY_RE_ANSWER:
        return kg_path_answer(rules, facts, from);
    case KG_APPLY_RENEWED:
        return kg_path_renewal(rules, facts, from);
    case KG_APPLY_OFFER:
    case KG_APPLY_RE_OFFER:
    case KG_APPLY_ABSORBED:
    case KG_APPLY_UPGRADE:
        break;
    }
    return kg_path_offer(rules, facts, from);
}

static bool is_agent(const struct kg_leg *leg)
{
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        if (leg->agreed.use[i] == KG_ICE_AGENT)
            return true;
    return false;
}

/* Who offers is controlling (RFC 8445 6.1.1) in an ICE session that begins. */
static void take_role(struct kg_leg *leg, bool we_offer)
{
    bool ours = false;
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        ours |= leg->told[i] == KG_SDP_ICE_OURS;
    if (ours && !is_agent(leg) && leg->ice.ufrag[0] && leg->ice.controlling != we_offer)
        kg_talk_credentials(leg, true, we_offer);
}

bool kg_talk_is_restart(const struct kg_leg *leg)
{
    char error[160];
    struct kg_sdp *before = leg->sdp_agreed && leg->sdp
                                ? kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error)
                                : NULL;
    bool restart = before && kg_sdp_is_ice_restart(before, leg->sdp);
    kg_sdp_free(before);
    return restart;
}

/* The peer's ICE restart wants one of ours (RFC 8839 4.4.1.1.1). */
static bool look_for_restart(struct kg_leg *leg)
{
    bool restart = kg_talk_is_restart(leg);
    if (restart)
        kg_path_restarted(leg);
    if (restart && is_agent(leg))
        kg_talk_credentials(leg, true, false);
    return restart;
}

bool kg_talk_decide(struct kg_leg *leg, enum kg_apply purpose)
{
    struct kg_call *call = leg->call;
    struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_path_rules rules = rules_of(call, purpose);
    const bool mismatch[2] = {says_mismatch(&call->leg[KG_SIDE_A]), says_mismatch(&call->leg[KG_SIDE_B])};
    bool changed = false, decided = false;
    if (purpose == KG_APPLY_UPGRADE) /* whoever is asked for an offer restarts; nothing is lost by that yet */
        call->restarts = true;
    else if (kg_apply_is_offer(purpose))
        call->restarts = look_for_restart(leg);
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        changed |= kg_talk_decide_keys(leg, i, purpose);
        struct kg_path_facts facts = facts_of(call, i, mismatch);
        struct kg_path_line line = decide_line(&rules, &facts, leg->side, purpose);
        leg->lines.use[i] = line.use[leg->side];
        if (kg_apply_is_offer(purpose))
            leg->told[i] = line.text[leg->side];
        if (purpose == KG_APPLY_ABSORBED)
            continue;
        changed |= other->lines.use[i] != line.use[other->side];
        changed |= line.use[leg->side] == KG_ICE_STEER && line.use[other->side] == KG_ICE_STEER &&
                   ((leg->lines.mux ^ other->lines.mux) >> i & 1);
        other->lines.use[i] = line.use[other->side];
        if (purpose != KG_APPLY_RENEWED)
            other->told[i] = line.text[other->side];
        if (!decided && facts.enabled[leg->side] && line.why != KG_WHY_UNDECIDED) {
            call->why = line.why;
            decided = true;
        }
    }
    if (kg_apply_is_offer(purpose)) {
        take_role(leg, false);
        if (purpose != KG_APPLY_ABSORBED)
            take_role(other, true);
    } else if (purpose == KG_APPLY_RENEWED) {
        call->stubborn = !kg_talk_is_restart(leg);
        call->latches = true;
        for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
            call->latches &= leg->lines.use[i] == KG_ICE_UNUSED;
        call->latches &= leg->rekeys;
    } else {
        take_role(other, false);
    }
    return changed;
}

void kg_talk_aim(struct kg_leg *leg)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_path_rules rules = rules_of(call, KG_APPLY_OFFER);
    const bool mismatch[2] = {says_mismatch(&call->leg[KG_SIDE_A]), says_mismatch(&call->leg[KG_SIDE_B])};
    for (uint8_t i = 0; other->sdp && i < KG_MEDIA_STREAMS_MAX; i++) {
        kg_talk_aim_keys(leg, i);
        struct kg_path_facts facts = facts_of(call, i, mismatch);
        leg->told[i] = kg_path_offer(&rules, &facts, other->side).text[leg->side];
    }
}

/* The security of each m-line in use ends at kedge: keys and transport of one side are not the other one's.
 */
static bool ends_here(const struct kg_leg *leg)
{
    const struct kg_leg_lines *agreed = &leg->agreed;
    bool any = false;
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        if (!(agreed->enabled >> i & 1))
            continue;
        if (agreed->secure[i] == KG_SECURE_PASS)
            return false;
        any = true;
    }
    return any;
}

bool kg_talk_is_absorbed(const struct kg_leg *leg)
{
    char error[160];
    bool agent = false, steered = false;
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        agent |= leg->agreed.use[i] == KG_ICE_AGENT;
        steered |= leg->agreed.use[i] == KG_ICE_STEER;
    }
    if ((!agent && !ends_here(leg)) || steered || !leg->sdp || !leg->sdp_agreed ||
        strcmp(leg->sdp_pending, leg->sdp_agreed) == 0)
        return false;
    struct kg_sdp *before = kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error);
    bool same =
        before &&
        (ends_here(leg) ? kg_sdp_same_but_keys(before, leg->sdp,
                                               kg_talk_reader(&leg->call->leg[kg_other_side(leg->side)]))
                        : kg_sdp_same_but_transport(before, leg->sdp));
    kg_sdp_free(before);
    return same;
}

void kg_talk_keep_restart(struct kg_call *call)
{
    for (int side = 0; side < 2; side++) {
        struct kg_leg *leg = &call->leg[side], *other = &call->leg[kg_other_side(leg->side)];
        if (!leg->asked || !kg_talk_is_absorbed(leg))
            continue;
        kg_talk_forget(other);
        other->lines = other->agreed;
        kg_talk_decide(leg, KG_APPLY_ABSORBED);
        free(leg->sdp_agreed);
        leg->sdp_agreed = leg->sdp_pending;
        leg->sdp_pending = NULL;
        kg_talk_forget(leg);
        leg->agreed = leg->lines;
    }
}

/* Before the peer hears of them: its first checks may overtake its answer. */
static void tell_engine(struct kg_leg *leg)
{
    struct kg_media_change change = {.answered = leg->call->fsm.state == KG_CALL_TALK};
    change.ice[leg->side] = leg->ice;
    if (kg_talk_send(leg->call, &change, 0) != 0)
        kg_warn("call", "call %s: the media engine could not be told of new ICE credentials toward %s",
                leg->call->record->id, leg->call->record->leg[leg->side].user);
}

void kg_talk_renew(struct kg_leg *leg)
{
    bool plain = leg->call->path.leg[leg->side].plain, any = false;
    if (leg->rekeys)
        kg_talk_new_keys(leg);
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        bool wanted = !leg->rekeys || leg->agreed.use[i] != KG_ICE_UNUSED;
        leg->told[i] = wanted && !plain && leg->agreed.enabled >> i & 1 ? KG_SDP_ICE_OURS : KG_SDP_ICE_NONE;
        any |= leg->told[i] == KG_SDP_ICE_OURS;
    }
    if (!any)
        return;
    kg_talk_credentials(leg, true, true);
    tell_engine(leg);
}

void kg_talk_seat(struct kg_leg *seat, const struct kg_leg *from)
{
    const struct kg_leg *other = &seat->call->leg[kg_other_side(seat->side)];
    bool web = false;
    kg_talk_new_keys(seat);
    seat->keys.asks = (struct kg_leg_asks){0};
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        bool plain = from->lines.said[i] == KG_SHAPE_PLAIN && other->lines.said[i] == KG_SHAPE_PLAIN;
        seat->keys.shape[i] = plain ? (uint8_t)KG_SHAPE_AS_IT_CAME : from->lines.said[i];
        seat->told[i] = seat->keys.shape[i] == KG_SHAPE_WEB ? KG_SDP_ICE_OURS : KG_SDP_ICE_NONE;
        web |= seat->keys.shape[i] == KG_SHAPE_WEB;
    }
    if (!web)
        return;
    kg_talk_credentials(seat, true, true);
    tell_engine(seat);
}

void kg_talk_next_contact(struct kg_leg *leg)
{
    if (!leg->ice.ufrag[0])
        return;
    kg_talk_credentials(leg, true, true);
    tell_engine(leg);
}
