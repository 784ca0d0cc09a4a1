/* Carries out what path.c decides, and writes down what happened. */
#include "b2bua/call/talk.h"

#include "b2bua/call/explain.h"
#include "conf/clock.h"
#include "conf/log.h"

static bool is_free(const struct kg_call *call)
{
    return call->fsm.state == KG_CALL_TALK && call->fsm.re == KG_RE_NONE && !call->running;
}

/* Of a call that was taken over the ports have to be known first. */
static bool may_offer(const struct kg_call *call)
{
    return is_free(call) && call->stream_count > 0;
}

/* Some m-line in use is on hold. */
static bool is_held(const struct kg_call *call)
{
    const struct kg_leg_lines *a = &call->leg[KG_SIDE_A].agreed, *b = &call->leg[KG_SIDE_B].agreed;
    uint8_t used = a->enabled & b->enabled;
    return (a->flows & b->flows & used) != used;
}

/* ---- actions ---- */

static void show(struct kg_call *call)
{
    if (call->record->ended_ms) /* it says how the call ended */
        return;
    call->record->path = kg_path_name(&call->path);
    call->record->reason = kg_path_reason(&call->path);
}

static void act(struct kg_call *call, const struct kg_path_action *action)
{
    struct kg_record *record = call->record;
    enum kg_side first = call->leg[KG_SIDE_A].pbx ? KG_SIDE_B : KG_SIDE_A;
    switch (action->what) {
    case KG_PATH_NOTHING:
        break;
    case KG_PATH_FALL_BACK:
        kg_counters.ice_fallbacks++;
        kg_record_note(record, KG_NOTE_FALL_BACK, action->side, NULL);
        kg_info("call", "call %s: the path between the phones is lost on %s's side; kedge joins them again",
                record->id, kg_record_name(call->record, action->side));
        break;
    case KG_PATH_RENEW:
        if (call->leg[action->side].rekeys) {
            kg_record_note(record, KG_NOTE_REKEY, action->side, NULL);
            kg_info("call", "call %s: kedge offers %s new keys", record->id,
                    kg_record_name(call->record, action->side));
        } else if (call->path.leg[action->side].plain) {
            kg_record_note(record, KG_NOTE_PLAIN, action->side, NULL);
            kg_info("call",
                    "call %s: %s does not restart ICE, or finds no path by it; kedge offers it media without",
                    record->id, kg_record_name(call->record, action->side));
        } else {
            kg_counters.ice_renewals++;
            kg_record_note(record, KG_NOTE_RENEW, action->side, NULL);
            kg_info("call", "call %s: kedge restarts ICE with %s", record->id,
                    kg_record_name(call->record, action->side));
        }
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_RENEW, .side = action->side});
        break;
    case KG_PATH_UPGRADE:
        kg_record_note(record, KG_NOTE_UPGRADE, first, NULL);
        kg_info("call", "call %s: kedge tries to steer the phones to each other", record->id);
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_UPGRADE, .side = first});
        break;
    case KG_PATH_END:
        kg_record_note(record, KG_NOTE_NO_PATH, action->side, NULL);
        kg_info("call", "call %s: it ends: %s (%s)", record->id, action->why,
                kg_record_name(call->record, action->side));
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_PATH_LOST, .side = action->side});
        break;
    }
}

void kg_path_event(struct kg_call *call, const struct kg_path_event *event)
{
    struct kg_path_event next = *event;
    call->holds++;
    for (;;) {
        struct kg_path_action action = kg_path_run(&call->path, &next, kg_mono_ms());
        if (!call->over)
            show(call);
        act(call, &action);
        if (call->over || action.what == KG_PATH_NOTHING)
            break;
        next =
            (struct kg_path_event){.type = KG_PATH_EV_TICK, .ready = may_offer(call), .held = is_held(call)};
    }
    kg_call_unhold(call);
}

void kg_path_tick(struct kg_call *call)
{
    kg_path_event(call, &(struct kg_path_event){
                            .type = KG_PATH_EV_TICK, .ready = may_offer(call), .held = is_held(call)});
}

/* ---- offers and answers ---- */

void kg_path_agreed(struct kg_call *call)
{
    const struct kg_leg_lines *a = &call->leg[KG_SIDE_A].agreed, *b = &call->leg[KG_SIDE_B].agreed;
    enum kg_policy policy = kg_call_policy(call);
    struct kg_path_event event = {.type = KG_PATH_EV_AGREED, .why = call->why, .held = is_held(call)};
    event.both = policy == KG_POLICY_AUTO || policy == KG_POLICY_STEER;
    unsigned lines = 0;
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        if (!(a->enabled & b->enabled & 1u << i))
            continue;
        lines++;
        event.steered |= a->use[i] == KG_ICE_STEER && b->use[i] == KG_ICE_STEER;
        event.both &=
            a->use[i] == KG_ICE_AGENT && b->use[i] == KG_ICE_AGENT && a->secure[i] == KG_SECURE_PASS;
    }
    event.both &= lines > 0;
    kg_path_event(call, &event);
    kg_secure_agreed(call);
}

void kg_path_restarted(struct kg_leg *leg)
{
    kg_counters.ice_restarts++;
    kg_record_note(leg->call->record, KG_NOTE_RESTART, leg->side, NULL);
    kg_path_event(leg->call, &(struct kg_path_event){.type = KG_PATH_EV_RESTARTED, .side = leg->side});
}

/* Nobody at the phone has decided that: its flow is gone, or its proxy finds it nowhere. */
static bool is_unreachable(int status)
{
    return status == 430 || status == 480 || status == 503;
}

void kg_path_done(struct kg_call *call, enum kg_fsm_event_type what, enum kg_side side, bool ok, int status)
{
    struct kg_path_event event = {
        .type = KG_PATH_EV_RENEWED, .side = side, .ok = ok, .stubborn = call->stubborn};
    event.unreachable = !ok && is_unreachable(status);
    event.latches = call->latches;
    if (what == KG_EV_RENEW && ok)
        call->leg[side].rekeys = false;
    if (what == KG_EV_UPGRADE) {
        event.type = KG_PATH_EV_UPGRADED;
        ok = ok && call->path.steered;
        kg_counters.ice_upgrades += ok;
        kg_record_note(call->record, ok ? KG_NOTE_UPGRADED : KG_NOTE_NOT_UPGRADED, side, NULL);
    } else if (!ok) {
        kg_record_note(call->record, KG_NOTE_RENEW_REFUSED, side, NULL);
    }
    kg_path_event(call, &event);
}

void kg_path_moved(struct kg_leg *leg, const struct kg_addr *before, bool restarted)
{
    if (kg_addr_same_host(before, &leg->flow.remote)) /* a new mapping or connection says nothing of media */
        return;
    kg_record_note(leg->call->record, KG_NOTE_MOVED, leg->side, &leg->flow.remote);
    if (is_free(leg->call) && leg->agreed.use[0] == KG_ICE_UNUSED)
        kg_talk_tell(leg); /* latching may follow it to where its SIP comes from */
    if (!restarted)
        kg_path_event(leg->call, &(struct kg_path_event){.type = KG_PATH_EV_MOVED, .side = leg->side});
}

/* ---- what the engine says ---- */

static void on_ice(struct kg_call *call, const struct kg_media_event *event)
{
    bool up = event->ice_state == KG_ICE_CONNECTED || event->ice_state == KG_ICE_COMPLETED;
    if (up && !call->path.leg[event->side].connected) {
        kg_record_note(call->record, KG_NOTE_CONNECTED, event->side, &event->addr);
    } else if (event->ice_state == KG_ICE_DISCONNECTED) {
        kg_counters.ice_consent_lost++;
        kg_record_note(call->record, KG_NOTE_CONSENT_LOST, event->side, NULL);
    } else if (event->ice_state == KG_ICE_FAILED) {
        kg_record_note(call->record, KG_NOTE_FAILED, event->side, NULL);
    }
    kg_path_event(
        call, &(struct kg_path_event){.type = KG_PATH_EV_ICE, .side = event->side, .ice = event->ice_state});
}

static void on_latched(struct kg_call *call, const struct kg_media_event *event)
{
    struct kg_addr *seen = &call->leg[event->side].seen[event->rtcp];
    if (event->stream != 0 || kg_addr_equal(seen, &event->addr))
        return;
    if (kg_addr_is_set(seen) && !event->rtcp && call->record->answered_ms)
        kg_record_note(call->record, KG_NOTE_MEDIA_MOVED, event->side, &event->addr);
    *seen = event->addr;
}

/* The engine tells it once: what takes the call over after us must find it in the snapshot. */
static void on_path(struct kg_call *call, bool relayed, enum kg_side side)
{
    bool changed = relayed != call->path.relayed;
    call->holds++;
    if (changed)
        kg_record_note(call->record, relayed ? KG_NOTE_RELAYED : KG_NOTE_DIRECT, side, NULL);
    kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_RELAYED, .relayed = relayed});
    if (changed && call->fsm.state == KG_CALL_TALK)
        kg_talk_save(call);
    kg_call_unhold(call);
}

void kg_path_media(struct kg_call *call, const struct kg_media_event *event)
{
    switch (event->type) {
    case KG_MEDIA_ICE:
        on_ice(call, event);
        break;
    case KG_MEDIA_PATH:
        on_path(call, event->relayed, event->side);
        break;
    case KG_MEDIA_LEFT:
        kg_record_note(call->record, KG_NOTE_LEFT, event->side, NULL);
        kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_LEFT, .side = event->side});
        break;
    case KG_MEDIA_LATCHED:
        on_latched(call, event);
        break;
    default:
        break;
    }
}

/* ---- the record ---- */

/* One of our ports toward either side, as bound or as advertised. */
static bool is_ours(const struct kg_call *call, const struct kg_addr *addr)
{
    const struct kg_addr *advertise = &call->calls->server->config.media.advertise;
    for (int side = 0; side < 2; side++) {
        for (uint8_t i = 0; call->local[side] && i < call->stream_count; i++) {
            const struct kg_addr *rtp = &call->local[side][i].rtp;
            uint16_t port = kg_addr_port(rtp), other = kg_addr_port(addr);
            if ((kg_addr_same_host(rtp, addr) || kg_addr_same_host(advertise, addr)) &&
                (other == port || other == port + 1))
                return true;
        }
    }
    return false;
}

/* What phones learn of themselves through our ports is an address of ours, not of theirs. */
static void drop_ours(struct kg_call *call, enum kg_side side)
{
    struct kg_record_leg *leg = &call->record->leg[side];
    uint8_t kept = 0;
    for (uint8_t i = 0; i < leg->candidate_count; i++)
        if (!is_ours(call, &leg->candidate[i].addr))
            leg->candidate[kept++] = leg->candidate[i];
    leg->candidate_count = kept;
}

/* The controlling phone of a steered call says which pair it selected (RFC 8839 4.4.1.2.2): its own candidate
 * is the default destination now, its peer's is in a=remote-candidates. */
static void note_selected(struct kg_leg *leg, const struct kg_media_side *side)
{
    struct kg_record *record = leg->call->record;
    if (leg->lines.use[0] != KG_ICE_STEER || side->stream_count == 0 || !side->stream[0].ice ||
        !kg_addr_is_set(&side->stream[0].ice->remote_candidate[0]) ||
        is_ours(leg->call, &side->stream[0].rtp) ||
        is_ours(leg->call, &side->stream[0].ice->remote_candidate[0]))
        return;
    record->told[leg->side] = side->stream[0].rtp;
    record->told[kg_other_side(leg->side)] = side->stream[0].ice->remote_candidate[0];
}

void kg_path_note_side(struct kg_leg *leg, const struct kg_sdp *sdp, const struct kg_media_side *side)
{
    kg_record_set_candidates(leg->call->record, leg->side, sdp, side);
    drop_ours(leg->call, leg->side);
    note_selected(leg, side);
}

void kg_path_note_pruned(struct kg_leg *leg, const struct kg_sdp_pruned *pruned)
{
    struct kg_record_leg *from = &leg->call->record->leg[kg_other_side(leg->side)];
    from->pruned = pruned->candidates;
    from->useless = pruned->useless;
    from->too_big = pruned->too_big;
}
