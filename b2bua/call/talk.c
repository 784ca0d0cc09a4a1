/* SDP between the legs and the media engine. Each side's description goes to the engine, the engine's ports
 * go into the description that the other side is sent. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"

/* ---- what a leg says ---- */

void kg_talk_forget(struct kg_leg *leg)
{
    kg_sdp_free(leg->sdp);
    free(leg->sdp_pending);
    free(leg->frame);
    leg->sdp = NULL;
    leg->sdp_pending = NULL;
    leg->frame = NULL;
}

/* The offer under way goes into a 2xx of ours, and the answer comes in its ACK. */
static bool is_late(const struct kg_call *call)
{
    return call->fsm.re != KG_RE_NONE ? call->fsm.re_kind == KG_RE_LATE : call->fsm.late;
}

/* The side that made the offer under way, or in whose name kedge makes it. */
static enum kg_side offerer(const struct kg_call *call)
{
    if (call->fsm.re != KG_RE_NONE)
        return call->fsm.re_from;
    if (call->fsm.pre != KG_PRE_NONE)
        return call->fsm.pre_from;
    return call->fsm.late ? KG_SIDE_B : KG_SIDE_A;
}

const struct kg_sdp *kg_talk_said(const struct kg_leg *leg, struct kg_sdp **made)
{
    char error[160];
    *made = NULL;
    if (leg->sdp)
        return leg->sdp;
    if (leg->sdp_agreed)
        *made = kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error);
    return *made;
}

/* RFC 3264 6: the answer fits the offer, be it the other side's or, in kedge's name, what that one said
 * before. */
static int check_answer(struct kg_leg *leg, const struct kg_sdp *answer, char *error, size_t size)
{
    struct kg_sdp *made;
    const struct kg_sdp *offer = kg_talk_said(&leg->call->leg[kg_other_side(leg->side)], &made);
    int failed = offer ? kg_sdp_check_answer(offer, answer, error, size) : 0;
    if (offer && !failed &&
        !kg_sdp_have_common_codec(offer, "the other side", answer, "this one", error, size))
        failed = EINVAL;
    kg_sdp_free(made);
    if (failed)
        return failed;
    leg->bad_keys = kg_talk_check_keys(leg, answer, true, error, size) != 0;
    return leg->bad_keys ? EINVAL : 0;
}

struct kg_sdp *kg_talk_parse(const sip_t *sip, char *error, size_t size)
{
    struct kg_multipart at;
    if (!sip || kg_body_find(sip, &at, error, size) != KG_SDP_OK)
        return NULL;
    return kg_sdp_parse(sip->sip_payload->pl_data + at.sdp_at, at.sdp_len, error, size);
}

enum kg_sdp_found kg_talk_take(struct kg_leg *leg, const sip_t *sip, char *error, size_t size)
{
    leg->bad_keys = false;
    struct kg_multipart at;
    struct kg_frame *frame = NULL;
    enum kg_sdp_found found = kg_body_find(sip, &at, error, size);
    if (found != KG_SDP_OK)
        return found;
    const char *body = sip->sip_payload->pl_data + at.sdp_at;
    struct kg_sdp *sdp = kg_sdp_parse(body, at.sdp_len, error, size);
    if (!sdp)
        return KG_SDP_BAD;
    bool may_offer =
        sip->sip_request && sip->sip_request->rq_method != sip_method_ack &&
        sip->sip_request->rq_method != sip_method_prack; /* of who offered, it is one all the same */
    bool is_answer = !may_offer && offerer(leg->call) != leg->side;
    if (is_answer ? check_answer(leg, sdp, error, size) != 0
                  : kg_talk_check_keys(leg, sdp, false, error, size) != 0) {
        kg_sdp_free(sdp);
        return KG_SDP_BAD;
    }
    char *text = strndup(body, at.sdp_len);
    if (!text || kg_body_keep(sip, &at, &frame) != 0) {
        free(text);
        kg_sdp_free(sdp);
        snprintf(error, size, "out of memory");
        return KG_SDP_BAD;
    }
    kg_talk_forget(leg);
    leg->sdp = sdp;
    leg->sdp_pending = text;
    leg->frame = frame;
    return KG_SDP_OK;
}

bool kg_talk_is_empty(const struct kg_leg *leg)
{
    struct kg_media_side side;
    memset(&side, 0, sizeof side);
    if (!leg->sdp || kg_sdp_describe(leg->sdp, &side) != 0)
        return false;
    for (uint8_t i = 0; i < side.stream_count; i++)
        if (side.stream[i].enabled)
            return false;
    return true;
}

bool kg_talk_take_agreed(struct kg_leg *leg)
{
    char error[160];
    char *text = leg->sdp_agreed ? strdup(leg->sdp_agreed) : NULL;
    struct kg_sdp *sdp = text ? kg_sdp_parse(text, strlen(text), error, sizeof error) : NULL;
    if (!sdp) {
        free(text);
        return false;
    }
    kg_talk_forget(leg);
    leg->sdp = sdp;
    leg->sdp_pending = text;
    return true;
}

void kg_talk_commit(struct kg_call *call)
{
    struct kg_leg *a = &call->leg[KG_SIDE_A], *b = &call->leg[KG_SIDE_B];
    uint8_t before = a->agreed.enabled & b->agreed.enabled, now = a->lines.enabled & b->lines.enabled;
    for (int side = 0; side < 2; side++) {
        struct kg_leg *leg = &call->leg[side];
        kg_talk_end_associations(leg, before & (uint8_t)~now);
        if (leg->sdp_pending) {
            free(leg->sdp_agreed);
            leg->sdp_agreed = leg->sdp_pending;
            leg->sdp_pending = NULL;
        }
        leg->agreed = leg->lines;
        leg->placed = (struct kg_addr){0};
        kg_talk_forget(leg);
    }
    kg_path_agreed(call);
}

static void abandon(struct kg_call *call)
{
    for (int side = 0; side < 2; side++) {
        kg_talk_forget(&call->leg[side]);
        call->leg[side].lines = call->leg[side].agreed;
    }
}

/* ---- to the engine ---- */

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
    bool is_answer = offerer(leg->call) != leg->side;
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

void kg_talk_recall(struct kg_leg *leg)
{
    struct kg_sdp *made;
    struct kg_media_side side;
    const struct kg_sdp *sdp = kg_talk_said(leg, &made);
    memset(&side, 0, sizeof side);
    if (sdp && kg_sdp_describe(sdp, &side) == 0)
        kg_record_set_candidates(leg->call->record, leg->side, sdp, &side);
    kg_sdp_free(made);
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

/* The local host for this leg's media: of the family that its SDP speaks, else of its signalling. */
static struct kg_addr bind_host(const struct kg_leg *leg, const struct kg_media_side *side)
{
    const struct kg_addr *configured = &leg->call->calls->server->config.media.address;
    struct kg_addr host = kg_addr_is_set(configured) ? *configured : leg->flow.local;
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
    free(waiting);
    kg_call_unhold(call);
}

int kg_talk_send(struct kg_call *call, struct kg_media_change *change, unsigned seq)
{
    char snapshot[KG_MEDIA_SNAPSHOT_MAX];
    struct waiting *waiting = NULL;
    snprintf(change->id, sizeof change->id, "%s", call->record->id);
    if (change->answered) {
        change->snapshot_len = kg_snapshot_write(call, snapshot, sizeof snapshot);
        change->snapshot = change->snapshot_len ? snapshot : NULL;
    }
    if (seq) {
        waiting = malloc(sizeof *waiting);
        if (!waiting)
            return ENOMEM;
        *waiting = (struct waiting){call, seq};
    }
    int failed = kg_media_apply(call->calls->server->media, change, waiting ? on_applied : NULL, waiting);
    if (failed)
        free(waiting);
    else if (waiting)
        call->holds++;
    return failed;
}

/* Behind a 1:1 NAT the advertised address is for those outside; a peer with a private address is inside and
 * reaches the one we are bound to. */
static struct kg_addr advertised(const struct kg_leg *leg, const struct kg_addr *remote,
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

/* kedge's own ICE toward both sides; host and advertised address as the first description finds them. */
static void offer_ourselves(struct kg_call *call, struct kg_media_change *change,
                            const struct kg_addr *remote_b)
{
    const struct kg_addr remote[2] = {call->leg[KG_SIDE_A].flow.remote, *remote_b};
    if (!call->calls->server->config.media.ice)
        return;
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        kg_talk_credentials(leg, false, offerer(call) != leg->side);
        if (kg_addr_is_set(&change->bind[i])) {
            leg->ice.advertised = advertised(leg, &remote[i], &change->bind[i]);
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
        struct kg_leg first = *other;
        if (!kg_addr_is_set(&first.flow.local) && call->target_count > 0)
            first.flow = call->target[0].flow;
        if (call->stream_count == 0 || call->fsm.state == KG_CALL_TALK) {
            change.bind[leg->side] = bind_host(leg, &side[leg->side]);
            change.bind[other->side] = bind_host(&first, NULL);
        } else { /* the ports are known to somebody: they move only to where this one was told */
            change.bind[leg->side] = leg->placed;
        }
        if (changed)
            made = describe_again(other, &side[other->side], keys[other->side], &change);
        offer_ourselves(call, &change, leg->side == KG_SIDE_A ? &first.flow.remote : &leg->flow.remote);
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

/* Both agreed descriptions once more. */
void kg_talk_restore(struct kg_call *call)
{
    struct kg_media_side side[2];
    struct kg_media_secure keys[2][KG_MEDIA_STREAMS_MAX];
    struct kg_media_change change = {.answered = call->fsm.state != KG_CALL_CALLING};
    struct kg_sdp *made[2];
    kg_talk_keep_restart(call);
    abandon(call);
    memset(side, 0, sizeof side);
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        made[i] = describe_again(leg, &side[i], keys[i], &change);
        if (change.side[i])
            change.bind[i] = bind_host(leg, &side[i]);
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
    abandon(call);
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

/* ---- to the other side ---- */

/* RFC 3261 18.1.1: a request over UDP stays below this, or goes over TCP. */
#define UDP_REQUEST_MAX 1300
/* Even so, that much of a description is written: what a phone needs at least. */
#define SDP_LEAST 200

/* 0: as long as it likes. Only an offer travels in a request. */
static size_t budget(const struct kg_leg *leg, bool is_offer)
{
    if (!is_offer || leg->flow.transport != KG_UDP)
        return 0;
    size_t headers = kg_out_header_estimate(leg, NULL);
    return headers + SDP_LEAST < UDP_REQUEST_MAX ? UDP_REQUEST_MAX - headers : SDP_LEAST;
}

bool kg_talk_are_apart(const struct kg_leg *a, const struct kg_leg *b)
{
    const struct kg_addr *at = &a->flow.remote, *bt = &b->flow.remote;
    return !a->pbx && !b->pbx && kg_addr_family(at) == kg_addr_family(bt) && !kg_addr_same_host(at, bt) &&
           !(kg_addr_is_private(at) && kg_addr_is_private(bt));
}

/* Whether the two phones of a steered call talk to each other without our relay, as far as the offer under
 * way tells: who updates its offer after the selection writes its end of the selected pair as the default
 * destination, and the peer's end as a=remote-candidates (RFC 8839 4.4.1.2.2, 4.4.1.3). Where the offer does
 * not tell, what flowed last decides. */
static bool is_direct(const struct kg_leg *from, uint8_t i)
{
    const struct kg_call *call = from->call;
    const struct kg_leg *to = &call->leg[kg_other_side(from->side)];
    struct kg_media_side side;
    if (call->fsm.state != KG_CALL_TALK || !call->path.steered || call->restarts)
        return false;
    if (from->sdp && i == 0 && kg_sdp_describe(from->sdp, &side) == 0 && side.stream[i].ice) {
        const struct kg_addr *at = &side.stream[i].rtp, *peer = &side.stream[i].ice->remote_candidate[0];
        struct kg_addr near = advertised(from, &from->flow.remote, &call->local[from->side][i].rtp);
        struct kg_addr far = advertised(to, &to->flow.remote, &call->local[to->side][i].rtp);
        if (kg_addr_equal(at, &near) || kg_addr_equal(at, &far))
            return false;
        if (kg_addr_is_set(peer))
            return !kg_addr_equal(peer, &near);
        if (kg_addr_is_set(at) && kg_addr_is_set(&from->seen[0]) && !kg_addr_equal(at, &from->seen[0]))
            return true;
    }
    return !call->path.relayed;
}

/* Where a contact of the callee is told to send. One that is reached from another address of ours than the
 * first, for which the ports were opened, is told the same ports there: if it answers, the engine moves them
 * (media/client.h). */
static struct kg_addr port_for(const struct kg_leg *leg, const struct kg_addr *ours)
{
    struct kg_addr at = *ours;
    if (kg_addr_is_set(ours) && kg_addr_is_set(&leg->placed)) {
        at = leg->placed;
        kg_addr_set_port(&at, kg_addr_port(ours));
    }
    return at;
}

/* m-lines that its peer, a browser, is asked for; they have no media without rtcp-mux (RFC 8834 4.4). */
static uint8_t web_lines(const struct kg_leg *leg)
{
    uint8_t lines = 0;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        lines |= leg->keys.shape[i] == KG_SHAPE_WEB ? (uint8_t)(1u << i) : 0;
    return lines;
}

/* Whether keys end at kedge. */
static bool is_terminated(const struct kg_leg *leg)
{
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        if (leg->keys.shape[i] != KG_SHAPE_AS_IT_CAME)
            return true;
    return false;
}

enum kg_sdp_kind kg_talk_reader(const struct kg_leg *leg)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    bool from_web = false;
    for (uint8_t i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        from_web |= other->lines.said[i] == KG_SHAPE_WEB;
    if (web_lines(leg))
        return KG_SDP_WEB;
    return is_terminated(leg) && from_web ? KG_SDP_LEGACY : KG_SDP_LIKE_WRITER;
}

char *kg_talk_text(struct kg_leg *leg, size_t *len)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *other = &call->leg[kg_other_side(leg->side)];
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX];
    struct kg_talk_keys keys[KG_MEDIA_STREAMS_MAX];
    struct kg_sdp_pruned pruned = {0};
    struct kg_sdp *made, *made_own = NULL;
    const struct kg_sdp *said = kg_talk_said(other, &made);
    char *text = NULL;
    memset(local, 0, sizeof local);
    if (!said || call->stream_count > KG_MEDIA_STREAMS_MAX)
        goto out;
    bool is_offer = offerer(call) != leg->side && !leg->asked; /* asked: the answer in our ACK */
    if (leg->fork && call->fsm.state == KG_CALL_CALLING)
        leg->placed = bind_host(leg, NULL);
    /* An offer of ours has rtcp-mux where the other side offered it, an answer where this side did. */
    uint8_t mux = is_offer ? other->lines.mux | web_lines(leg) : leg->lines.mux;
    struct kg_sdp_reader reader = {.kind = kg_talk_reader(leg), .answers = !is_offer};
    /* Where keys are ours the answer has the profile of the offer (RFC 3264 6), whatever the writer's is. */
    if (reader.kind != KG_SDP_LIKE_WRITER || (reader.answers && is_terminated(leg)))
        reader.said = kg_talk_said(leg, &made_own);
    for (uint8_t i = 0; i < call->stream_count; i++) {
        const struct kg_media_local *ours = &call->local[leg->side][i],
                                    *theirs = &call->local[other->side][i];
        struct kg_sdp_local *line = &local[i];
        struct kg_addr rtp = port_for(leg, &ours->rtp), rtcp = port_for(leg, &ours->rtcp);
        line->rtp = advertised(leg, &leg->flow.remote, &rtp);
        line->rtcp = advertised(leg, &leg->flow.remote, &rtcp);
        line->rtcp_mux = mux >> i & 1;
        line->ice = leg->told[i];
        line->trickle = leg->trickles;
        line->mismatch = !is_offer && leg->sdp && kg_sdp_ice_is_mismatch(leg->sdp, i);
        if (line->ice == KG_SDP_ICE_OURS) {
            line->ufrag = leg->ice.ufrag;
            line->pwd = leg->ice.pwd;
        } else if (line->ice == KG_SDP_ICE_KEEP) {
            if (!is_offer) /* the two agree on it, or have it not (RFC 5761 5.1.1) */
                line->rtcp_mux = mux & other->lines.mux & 1u << i;
            line->apart = kg_talk_are_apart(leg, other);
            line->selected = is_direct(is_offer ? other : leg, i);
            line->peer[0].from = advertised(other, &other->flow.remote, &theirs->rtp);
            line->peer[1].from = advertised(other, &other->flow.remote, &theirs->rtcp);
            for (int c = 0; c < 2 && i == 0; c++)
                line->peer[c].to = leg->seen[c];
        }
        line->mux_agreed = !is_offer && line->rtcp_mux;
        if (kg_talk_write_keys(leg, i, !is_offer, &keys[i])) {
            line->keys = KG_SDP_KEYS_OURS;
            line->ours = &keys[i].sdp;
        }
    }
    kg_talk_plan_bundle(leg, said, &reader, local, call->stream_count);
    if (is_offer)
        leg->mux_offered = mux;
    text = kg_sdp_rewrite_within(said, local, call->stream_count, &reader, &leg->origin,
                                 budget(leg, is_offer && !is_late(call)), &pruned, len);
    kg_path_note_pruned(leg, &pruned);
    for (uint8_t i = 0; i < call->stream_count; i++)
        if (local[i].ours)
            kg_talk_forget_keys(&keys[i], 1);
    kg_sdp_free(made_own);
out:
    kg_sdp_free(made);
    return text;
}

char *kg_talk_answer(struct kg_leg *leg, const sip_t *offer, size_t *len)
{
    char error[160];
    char *text = kg_talk_text(leg, len);
    struct kg_sdp *asked = kg_talk_parse(offer, error, sizeof error), *answer = NULL;
    if (asked && text)
        answer = kg_sdp_parse(text, *len, error, sizeof error);
    if (asked && (!answer || kg_sdp_check_answer(asked, answer, error, sizeof error) != 0)) {
        free(text);
        text = kg_talk_refusal(leg, offer, len);
    }
    kg_sdp_free(asked);
    kg_sdp_free(answer);
    return text;
}

char *kg_talk_refusal(struct kg_leg *leg, const sip_t *offer, size_t *len)
{
    char error[160];
    struct kg_sdp_local local[KG_SDP_MEDIA_MAX];
    struct kg_sdp *sdp = kg_talk_parse(offer, error, sizeof error);
    char *text = NULL;
    memset(local, 0, sizeof local);
    if (sdp) {
        local[0].rtp = leg->flow.local; /* for o= and c=; no line gets a port */
        kg_addr_set_port(&local[0].rtp, 0);
        text = kg_sdp_rewrite(sdp, local, KG_SDP_MEDIA_MAX, &leg->origin, len);
    }
    kg_sdp_free(sdp);
    return text;
}
