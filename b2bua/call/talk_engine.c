/* What the media engine is told of the two sides, and which ports it has for them. */
#include "b2bua/call/talk.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"

/* Fills what the engine is told of this side, but for ice_use, and the leg's lines. Returns 0 or E2BIG. */
static int describe(struct kg_leg *leg, const struct kg_sdp *sdp, struct kg_media_side *out)
{
    struct kg_leg_lines *lines = &leg->lines;
    int failed = kg_sdp_describe(sdp, out);
    if (failed)
        return failed;
    out->signalling = leg->flow.remote;
    out->trusted = leg->pbx;
    out->first_packets = !leg->pbx && leg->call->calls->server->config.media.first_packets;
    bool is_answer = kg_talk_offerer(leg->call) != leg->side;
    kg_talk_note_keys(leg, sdp, out->stream_count);
    lines->enabled = 0; /* whom it is for depends on it (talk_secure.c), and so whether lines are bundled */
    for (uint8_t i = 0; i < out->stream_count; i++)
        lines->enabled |= out->stream[i].enabled ? (uint8_t)(1u << i) : 0;
    kg_talk_bundle(leg, sdp, !is_answer, out);
    lines->enabled = lines->mux = lines->ice = lines->mismatch = lines->flows = 0;
    for (uint8_t i = 0; i < out->stream_count; i++) {
        struct kg_media_stream *stream = &out->stream[i];
        uint8_t bit = (uint8_t)(1u << i);
        if (is_answer && !(leg->mux_offered & bit)) /* RFC 5761 5.1.1: not without an offer of it */
            stream->rtcp_mux = false;
        lines->enabled |= stream->enabled ? bit : 0;
        lines->mux |= stream->rtcp_mux ? bit : 0;
        lines->ice |= stream->enabled && stream->ice ? bit : 0;
        lines->mismatch |= kg_sdp_ice_is_mismatch(sdp, i) ? bit : 0;
        lines->flows |= stream->direction == KG_SENDRECV ? bit : 0;
    }
    return 0;
}

/* What was decided goes into the descriptions. */
static void set_use(struct kg_leg *leg, const struct kg_sdp *sdp, struct kg_media_side *side,
                    struct kg_media_secure keys[static KG_MEDIA_STREAMS_MAX])
{
    kg_talk_fill_keys(leg, sdp, side, keys);
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    for (uint8_t i = 0; i < side->stream_count; i++) {
        side->stream[i].ice_use = leg->lines.use[i];
        /* Steered, the two sides share every component: both have rtcp-mux, or neither. */
        if (leg->lines.use[i] == KG_ICE_STEER && other->lines.use[i] == KG_ICE_STEER)
            side->stream[i].rtcp_mux = leg->lines.mux & other->lines.mux & 1u << i;
    }
}

static bool has_candidate_of(const struct kg_ice_description *ice, int family)
{
    for (uint8_t i = 0; ice && i < ice->candidate_count; i++)
        if (kg_addr_family(&ice->candidate[i].addr) == family)
            return true;
    return false;
}

static struct kg_addr bind_host(const struct kg_call *call, const struct kg_flow *flow,
                                const struct kg_media_side *side)
{
    const struct kg_addr *configured = &call->calls->server->config.media.address;
    struct kg_addr host = kg_addr_is_set(configured) ? *configured : flow->local;
    for (uint8_t i = 0; side && i < side->stream_count; i++) {
        const struct kg_addr *rtp = &side->stream[i].rtp;
        if (!side->stream[i].enabled || !kg_addr_is_set(rtp))
            continue;
        /* With ICE, c= is one address of several: linphone writes its IPv6 one there, which may lead nowhere.
         */
        struct kg_addr other;
        if (has_candidate_of(side->stream[i].ice, kg_addr_family(&host)))
            break;
        if (kg_addr_family(rtp) != kg_addr_family(&host) && kg_addr_local_for(rtp, &other) == 0)
            host = other;
        break;
    }
    kg_addr_set_port(&host, 0);
    return host;
}

struct kg_addr kg_talk_bind_host(const struct kg_leg *leg, const struct kg_media_side *side)
{
    return bind_host(leg->call, &leg->flow, side);
}

struct kg_addr kg_talk_advertised(const struct kg_leg *leg, const struct kg_addr *remote,
                                  const struct kg_addr *local)
{
    const struct kg_addr *advertise = &leg->call->calls->server->config.media.advertise;
    if (!kg_addr_is_set(local) || !kg_addr_is_set(advertise) ||
        kg_addr_family(advertise) != kg_addr_family(local) || kg_addr_is_private(remote))
        return *local;
    struct kg_addr out = *advertise;
    kg_addr_set_port(&out, kg_addr_port(local));
    return out;
}

static int store_ports(struct kg_call *call, const struct kg_media_reply *reply)
{
    size_t size = reply->stream_count * sizeof *call->local[0];
    for (int side = 0; side < 2 && size; side++) {
        struct kg_media_local *local = realloc(call->local[side], size);
        if (!local)
            return ENOMEM;
        memcpy(local, reply->local[side], size);
        call->local[side] = local;
    }
    call->stream_count = reply->stream_count;
    return 0;
}

struct waiting {
    struct kg_call *call;
    unsigned seq;
};

static void on_applied(void *ctx, const struct kg_media_reply *reply)
{
    struct waiting *waiting = ctx;
    struct kg_call *call = waiting->call;
    bool ok = reply->error == KG_MEDIA_OK && !call->over;
    bool taken_over = call->fsm.state == KG_CALL_TALK && call->stream_count == 0;
    if (reply->error != KG_MEDIA_OK && !call->over)
        kg_warn("call", "call %s: no media: %s", call->record->id, kg_media_error_text(reply->error));
    if (ok && store_ports(call, reply) != 0)
        ok = false;
    if (!call->over)
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_MEDIA,
                                                   .seq = waiting->seq,
                                                   .ok = ok,
                                                   .why = reply->error == KG_MEDIA_NO_PORTS
                                                              ? "every media port is in use"
                                                              : NULL});
    if (ok && taken_over && !call->over) /* what is due may have waited for the ports */
        kg_path_tick(call);
    free(waiting);
    kg_call_unhold(call);
}

int kg_talk_send(struct kg_call *call, struct kg_media_change *change, unsigned seq)
{
    char snapshot[KG_MEDIA_SNAPSHOT_MAX]; /* it has keys in it */
    struct waiting *waiting = NULL;
    snprintf(change->id, sizeof change->id, "%s", call->record->id);
    if (change->answered) {
        change->snapshot_len = kg_snapshot_write(call, snapshot, sizeof snapshot);
        change->snapshot = change->snapshot_len ? snapshot : NULL;
    }
    if (seq && (waiting = malloc(sizeof *waiting)))
        *waiting = (struct waiting){call, seq};
    int failed = seq && !waiting ? ENOMEM
                                 : kg_media_apply(call->calls->server->media, change,
                                                  waiting ? on_applied : NULL, waiting);
    if (change->answered)
        explicit_bzero(snapshot, sizeof snapshot);
    change->snapshot = NULL;
    if (failed)
        free(waiting);
    else if (waiting)
        call->holds++;
    return failed;
}

/* kedge's own ICE toward both sides; host and advertised address as the first description finds them. */
static void offer_ourselves(struct kg_call *call, struct kg_media_change *change,
                            const struct kg_addr *remote_b)
{
    const struct kg_addr remote[2] = {call->leg[KG_SIDE_A].flow.remote, *remote_b};
    if (!call->calls->server->config.media.ice)
        return;
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        kg_talk_credentials(leg, false, kg_talk_offerer(call) != leg->side);
        if (kg_addr_is_set(&change->bind[i])) {
            leg->ice.advertised = kg_talk_advertised(leg, &remote[i], &change->bind[i]);
            if (kg_addr_same_host(&leg->ice.advertised, &change->bind[i]))
                leg->ice.advertised = (struct kg_addr){0};
        }
        change->ice[i] = leg->ice;
    }
}

/* What a side said last, with what was decided since; its lines stay as they are. */
static struct kg_sdp *describe_again(struct kg_leg *other, struct kg_media_side *side,
                                     struct kg_media_secure keys[static KG_MEDIA_STREAMS_MAX],
                                     struct kg_media_change *change)
{
    struct kg_sdp *made;
    struct kg_leg_lines lines = other->lines;
    const struct kg_sdp *sdp = kg_talk_said(other, &made);
    if (sdp && describe(other, sdp, side) == 0) {
        other->lines = lines;
        set_use(other, sdp, side, keys);
        for (uint8_t i = 0; i < side->stream_count; i++)
            side->stream[i].rtcp_mux &= lines.mux >> i & 1;
        change->side[other->side] = side;
    }
    return made;
}

static const char too_many[] = "its SDP has more m-lines than kedge carries";

void kg_talk_apply(struct kg_call *call, const struct kg_fsm_action *action)
{
    struct kg_leg *leg = &call->leg[action->side];
    struct kg_leg *other = &call->leg[kg_other_side(action->side)];
    struct kg_media_side side[2];
    struct kg_media_secure keys[2][KG_MEDIA_STREAMS_MAX];
    struct kg_sdp *made = NULL;
    memset(side, 0, sizeof side);
    struct kg_leg_lines before = leg->lines;
    int failed = leg->sdp ? describe(leg, leg->sdp, &side[leg->side]) : EINVAL;
    if (!failed) {
        struct kg_media_change change = {.answered = call->fsm.state != KG_CALL_CALLING &&
                                                     action->purpose != KG_APPLY_OFFER &&
                                                     action->purpose != KG_APPLY_PROGRESS};
        bool changed = kg_talk_decide(leg, action->purpose) || kg_talk_unbundles(leg);
        kg_path_note_side(leg, leg->sdp, &side[leg->side]);
        if (kg_sdp_offers_tcp(leg->sdp))
            kg_record_note(call->record, KG_NOTE_TCP, leg->side, NULL);
        if (action->purpose ==
            KG_APPLY_UPGRADE) { /* make before break: the engine hears of it at the answer */
            memcpy(leg->lines.use, before.use, sizeof before.use);
        } else {
            set_use(leg, leg->sdp, &side[leg->side], keys[leg->side]);
            change.side[leg->side] = &side[leg->side];
        }
        /* Before B's first INVITE its leg has no flow yet: the contact that is tried first has. */
        bool has_flow = kg_addr_is_set(&other->flow.local) || call->target_count == 0;
        const struct kg_flow *flow = has_flow ? &other->flow : &call->target[0].flow;
        if (call->stream_count == 0 || call->fsm.state == KG_CALL_TALK) {
            change.bind[leg->side] = kg_talk_bind_host(leg, &side[leg->side]);
            change.bind[other->side] = bind_host(call, flow, NULL);
        } else { /* the ports are known to somebody: they move only to where this one was told */
            change.bind[leg->side] = leg->placed;
        }
        if (changed)
            made = describe_again(other, &side[other->side], keys[other->side], &change);
        offer_ourselves(call, &change, leg->side == KG_SIDE_A ? &flow->remote : &leg->flow.remote);
        failed = kg_talk_send(call, &change, action->seq);
        kg_talk_clear_keys(&side[0]);
        kg_talk_clear_keys(&side[1]);
    }
    kg_sdp_free(made);
    if (failed) {
        kg_warn("call", "call %s: no media: %s", call->record->id,
                failed == E2BIG ? too_many : strerror(failed));
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_MEDIA,
                                                   .seq = action->seq,
                                                   .status = failed == E2BIG ? 488 : 0,
                                                   .why = failed == E2BIG ? too_many : NULL});
    }
}

void kg_talk_restore(struct kg_call *call)
{
    struct kg_media_side side[2];
    struct kg_media_secure keys[2][KG_MEDIA_STREAMS_MAX];
    struct kg_media_change change = {.answered = call->fsm.state != KG_CALL_CALLING};
    struct kg_sdp *made[2];
    kg_talk_keep_restart(call);
    kg_talk_abandon(call);
    memset(side, 0, sizeof side);
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        made[i] = describe_again(leg, &side[i], keys[i], &change);
        if (change.side[i])
            change.bind[i] = kg_talk_bind_host(leg, &side[i]);
        change.ice[i] = leg->ice;
    }
    kg_talk_send(call, &change, 0);
    for (int i = 0; i < 2; i++) {
        kg_talk_clear_keys(&side[i]);
        kg_sdp_free(made[i]);
    }
}

void kg_talk_tell(struct kg_leg *leg)
{
    struct kg_media_side side;
    struct kg_media_secure keys[KG_MEDIA_STREAMS_MAX];
    struct kg_media_change change = {.answered = leg->call->fsm.state == KG_CALL_TALK};
    memset(&side, 0, sizeof side);
    struct kg_sdp *made = describe_again(leg, &side, keys, &change);
    if (change.side[leg->side])
        kg_path_note_side(leg, made ? made : leg->sdp, &side);
    kg_talk_send(leg->call, &change, 0);
    kg_talk_clear_keys(&side);
    kg_sdp_free(made);
}

/* What comes back is nothing that the state machine waits for. */
void kg_talk_ask_ports(struct kg_call *call)
{
    call->ports_unknown = kg_talk_send(call, &(struct kg_media_change){.answered = true}, UINT_MAX) != 0;
}

void kg_talk_save(struct kg_call *call)
{
    kg_talk_send(call, &(struct kg_media_change){.answered = true}, 0);
}

static void on_deleted(void *ctx, const struct kg_media_reply *reply)
{
    struct kg_ending *ending = ctx;
    if (reply && reply->error == KG_MEDIA_OK && reply->info)
        kg_record_set_stats(ending->record, reply->info);
    kg_calls_file(ending);
}

void kg_talk_release(struct kg_call *call)
{
    kg_talk_abandon(call);
    if (call->record->answered_ms && !call->path.steered)
        kg_counters.calls_anchored++;
    else if (call->record->answered_ms && call->path.relayed)
        kg_counters.calls_relayed++;
    else if (call->record->answered_ms)
        kg_counters.calls_direct++;
    struct kg_ending *ending = kg_calls_ending(call);
    /* without a change the engine never heard of it */
    if (call->fsm.apply_seq == 0 || kg_media_delete(call->calls->server->media, call->record->id,
                                                    ending ? on_deleted : NULL, ending) != 0)
        kg_calls_file(ending);
}
