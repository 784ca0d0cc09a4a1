/* The ICE part of relays at work: checks in and out, latches moved, what became of each stream. */
#include "media/relay_ice.h"

#include <string.h>

#include "ice/stun/message.h"
#include "media/relay_ice_setup.h"

static struct kg_relay_ice *ice_of(const struct kg_flow *flow)
{
    return flow->leg->stream->relay->ice;
}

static struct kg_stream_ice *stream_of(const struct kg_flow *flow)
{
    struct kg_relay_ice *ice = ice_of(flow);
    return ice ? ice->stream[flow->leg->stream->index] : NULL;
}

static uint8_t component_of(const struct kg_flow *flow)
{
    return flow->rtcp ? 2 : 1;
}

static struct kg_flow *flow_of(struct kg_leg *leg, uint8_t component)
{
    return component == 2 ? &leg->rtcp : &leg->rtp;
}

static struct kg_steer *steer_of(const struct kg_flow *flow)
{
    const struct kg_stream_ice *stream = stream_of(flow);
    return stream ? stream->steer[component_of(flow) - 1] : NULL;
}

/* The agent, if it serves this flow. */
static struct kg_ice_agent *agent_of(const struct kg_flow *flow)
{
    const struct kg_stream_ice *stream = stream_of(flow);
    return stream && stream->in_agent[flow->leg->side] ? ice_of(flow)->agent[flow->leg->side] : NULL;
}

/* ---- latches ---- */

static void hold(struct kg_flow *flow, const struct kg_addr *remote, int64_t now_ms)
{
    struct kg_leg *leg = flow->leg;
    struct kg_latch *latch = &flow->latch;
    bool same = kg_latch_same_source(&latch->remote, remote);
    struct kg_stream_ice *stream = stream_of(flow);
    if (!flow->rtcp && stream->connected_ms[leg->side] == 0)
        stream->connected_ms[leg->side] = now_ms;
    flow->borrowed = false;
    if (latch->proof == KG_PROOF_ICE && same)
        return;
    if (latch->proof != KG_PROOF_NONE && !same) {
        int64_t gap_ms = now_ms - leg->last_packet_ms;
        kg_relay_count_move(flow, gap_ms > stream->gap_ms[leg->side] ? gap_ms : stream->gap_ms[leg->side]);
    }
    stream->gap_ms[leg->side] = 0;
    kg_latch_restore(latch, remote, KG_PROOF_ICE, now_ms);
    flow->untold = leg->stream->relay->untold = true;
}

static void release(struct kg_flow *flow)
{
    flow->latch = (struct kg_latch){.state = KG_LATCH_OPEN};
    flow->borrowed = flow->untold = false;
}

static void sync_agent(struct kg_relay_ice *ice, unsigned side, int64_t now_ms)
{
    for (uint8_t i = 0; i < ice->relay->stream_count; i++) {
        if (ice->stream[i] == NULL || !ice->stream[i]->in_agent[side])
            continue;
        for (uint8_t component = 1; component <= 2; component++) {
            struct kg_flow *flow = flow_of(&ice->relay->stream[i]->leg[side], component);
            struct kg_ice_pair pair;
            if (kg_ice_selected(ice->agent[side], i, component, &pair))
                hold(flow, &pair.remote.addr, now_ms);
            else if (!flow->borrowed)
                release(flow);
        }
    }
}

static void sync_steer(struct kg_stream *stream, uint8_t component, int64_t now_ms)
{
    const struct kg_steer *steer = stream->relay->ice->stream[stream->index]->steer[component - 1];
    for (unsigned side = 0; side < 2; side++) {
        struct kg_flow *flow = flow_of(&stream->leg[side], component);
        const struct kg_addr *target = kg_steer_target(steer, side, now_ms);
        if (target)
            hold(flow, target, now_ms);
        else if (!flow->borrowed)
            release(flow);
    }
}

/* Asks that source to prove itself. */
static void challenge(struct kg_flow *flow, const struct kg_addr *source, int64_t now_ms)
{
    const struct kg_leg *leg = flow->leg;
    struct kg_addr bound = kg_relay_ice_bound(flow);
    leg->stream->relay->touched = true;
    if (agent_of(flow))
        kg_ice_challenge(agent_of(flow), leg->stream->index, component_of(flow), &bound, source, now_ms);
    else if (steer_of(flow))
        kg_steer_suspect(steer_of(flow), leg->side, source, now_ms);
}

void kg_relay_ice_restored(struct kg_flow *flow, int64_t now_ms)
{
    struct kg_relay_ice *ice = ice_of(flow);
    flow->borrowed = true;
    flow->latch.state = KG_LATCH_LOCKED;
    ice->borrowed_until_ms[flow->leg->side] = now_ms + ice->expiry_ms;
    challenge(flow, &flow->latch.remote, now_ms);
}

/* ---- packets ---- */

/* Without an agent yet: a check that names us is worth making one for. */
static bool names_us(const struct kg_relay_ice *ice, unsigned side, const uint8_t *data, size_t len)
{
    struct kg_stun_message message;
    const char *ufrag = ice->local[side].ufrag;
    size_t ufrag_len = strlen(ufrag);
    const struct kg_stun_value *user =
        kg_stun_parse(data, len, &message) == KG_STUN_OK ? kg_stun_find(&message, KG_STUN_USERNAME) : NULL;
    return user && ufrag_len > 0 && user->len > ufrag_len && memcmp(user->data, ufrag, ufrag_len) == 0 &&
           user->data[ufrag_len] == ':';
}

static bool to_agent(struct kg_flow *in, const uint8_t *data, size_t len, const struct kg_addr *source,
                     const struct kg_limits *limits, int64_t now_ms)
{
    unsigned side = in->leg->side;
    const struct kg_relay_ice *ice = ice_of(in);
    if (ice == NULL)
        return false;
    if (agent_of(in) == NULL &&
        (!names_us(ice, side, data, len) || kg_relay_ice_need_agent(ice->relay, side, limits, now_ms) != 0))
        return false;
    struct kg_addr bound = kg_relay_ice_bound(in);
    return kg_ice_receive(agent_of(in), &bound, source, data, len, now_ms);
}

struct kg_flow *kg_relay_ice_stun(struct kg_flow *in, const uint8_t *data, size_t len,
                                  const struct kg_addr *source, const struct kg_limits *limits,
                                  int64_t now_ms, const struct kg_addr **to)
{
    struct kg_leg *leg = in->leg;
    leg->stream->relay->touched = true;
    if (in->ice == KG_ICE_AGENT) {
        if (!to_agent(in, data, len, source, limits, now_ms))
            leg->dropped++;
        return NULL;
    }
    bool moved = false;
    enum kg_steer_verdict verdict = KG_STEER_DROP;
    if (steer_of(in))
        verdict = kg_steer_receive(steer_of(in), leg->side, source, data, len, now_ms, to, &moved);
    if (moved)
        sync_steer(leg->stream, component_of(in), now_ms);
    if (verdict == KG_STEER_DROP)
        leg->dropped++;
    struct kg_flow *out = flow_of(&leg->stream->leg[kg_other_side(leg->side)], component_of(in));
    bool sendable = verdict == KG_STEER_FORWARD && out->fd >= 0 &&
                    kg_addr_family(*to) == (out->ipv6 ? AF_INET6 : AF_INET);
    return sendable ? out : NULL;
}

static bool is_proven(const struct kg_flow *in, const struct kg_addr *source, int64_t now_ms)
{
    const struct kg_leg *leg = in->leg;
    const struct kg_ice_agent *agent = agent_of(in);
    const struct kg_steer *steer = steer_of(in);
    if (in->ice == KG_ICE_AGENT)
        return agent && kg_ice_is_valid_source(agent, leg->stream->index, component_of(in), source);
    return steer && kg_steer_is_verified(steer, leg->side, source, now_ms);
}

bool kg_relay_ice_is_proven(struct kg_flow *in, const struct kg_addr *source, int64_t now_ms)
{
    struct kg_leg *leg = in->leg;
    if (!is_proven(in, source, now_ms))
        return false;
    int64_t gap_ms = now_ms - leg->last_packet_ms;
    if (!in->rtcp && leg->packets_in > 0 && gap_ms >= KG_CHALLENGE_QUIET_MS)
        stream_of(in)->gap_ms[leg->side] = gap_ms;
    if (in->ice == KG_ICE_AGENT && !in->rtcp && now_ms - in->latch.last_ms >= KG_CHALLENGE_QUIET_MS)
        challenge(in, source, now_ms); /* it has moved there: is the selected pair still alive? */
    if (in->ice == KG_ICE_STEER && kg_steer_media(steer_of(in), leg->side, source, now_ms))
        sync_steer(leg->stream, component_of(in), now_ms);
    return true;
}

void kg_relay_ice_doubt(struct kg_flow *in, const struct kg_rtp *rtp, const struct kg_addr *source,
                        int64_t now_ms)
{
    const struct kg_leg *leg = in->leg;
    const struct kg_quality *heard = &leg->quality;
    uint16_t ahead = (uint16_t)(rtp->sequence - heard->highest);
    if (!heard->begun || rtp->ssrc != heard->ssrc || ahead == 0 || ahead > KG_CHALLENGE_AHEAD ||
        now_ms - leg->last_packet_ms < KG_CHALLENGE_QUIET_MS)
        return;
    challenge(in, source, now_ms);
}

/* Reports are seconds apart, so that silence says nothing: nothing came from the old place since RTP has
 * moved. */
void kg_relay_ice_doubt_rtcp(struct kg_flow *in, uint32_t ssrc, const struct kg_addr *source, int64_t now_ms)
{
    const struct kg_leg *leg = in->leg;
    const struct kg_latch *rtp = &leg->rtp.latch;
    if (!leg->quality.begun || ssrc != leg->quality.ssrc || rtp->proof != KG_PROOF_ICE ||
        !kg_addr_same_host(&rtp->remote, source) || in->latch.last_ms >= rtp->since_ms)
        return;
    challenge(in, source, now_ms);
}

/* ---- what is to be done ---- */

static void take_events(struct kg_relay_ice *ice, unsigned side, int64_t now_ms)
{
    struct kg_ice_event event;
    bool any = false;
    while (kg_ice_poll_event(ice->agent[side], &event)) {
        any = true;
        if (event.type != KG_ICE_EV_STATE || event.stream >= ice->relay->stream_count ||
            ice->stream[event.stream] == NULL)
            continue;
        ice->state_untold[side] = ice->relay->untold = true;
        ice->state_stream[side] = event.stream;
        ice->state_reason[side] = event.reason;
    }
    if (any)
        sync_agent(ice, side, now_ms);
}

static bool poll_agents(struct kg_relay_ice *ice, int64_t now_ms, struct kg_ice_out *out)
{
    struct kg_ice_datagram *datagram = &out->held.agent;
    for (unsigned side = 0; side < 2; side++) {
        if (ice->agent[side] == NULL)
            continue;
        while (kg_ice_poll(ice->agent[side], now_ms, datagram)) {
            if (datagram->stream >= ice->relay->stream_count || ice->relay->stream[datagram->stream] == NULL)
                continue;
            out->flow = flow_of(&ice->relay->stream[datagram->stream]->leg[side], datagram->component);
            out->to = &datagram->to;
            out->data = datagram->data;
            out->len = datagram->len;
            return true;
        }
        take_events(ice, side, now_ms);
    }
    return false;
}

static bool poll_steers(struct kg_relay_ice *ice, int64_t now_ms, struct kg_ice_out *out)
{
    struct kg_steer_datagram *datagram = &out->held.steer;
    for (unsigned i = 0; i < ice->relay->stream_count; i++) {
        for (uint8_t component = 1; ice->stream[i] && component <= 2; component++) {
            struct kg_steer *steer = ice->stream[i]->steer[component - 1];
            if (steer == NULL || !kg_steer_poll(steer, now_ms, datagram))
                continue;
            out->flow = flow_of(&ice->relay->stream[i]->leg[datagram->side], component);
            out->to = &datagram->to;
            out->data = datagram->data;
            out->len = datagram->len;
            return true;
        }
    }
    return false;
}

bool kg_relay_ice_poll(struct kg_relay *relay, int64_t now_ms, struct kg_ice_out *out)
{
    return relay->ice && (poll_agents(relay->ice, now_ms, out) || poll_steers(relay->ice, now_ms, out));
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t kg_relay_ice_next_ms(const struct kg_relay *relay)
{
    const struct kg_relay_ice *ice = relay->ice;
    int64_t next = INT64_MAX;
    for (unsigned side = 0; side < 2; side++) {
        if (ice->agent[side])
            next = earlier(next, kg_ice_next_ms(ice->agent[side]));
    }
    for (unsigned i = 0; i < relay->stream_count; i++) {
        for (unsigned c = 0; ice->stream[i] && c < 2; c++) {
            if (ice->stream[i]->steer[c])
                next = earlier(next, kg_steer_next_ms(ice->stream[i]->steer[c]));
        }
    }
    return next;
}

/* ---- twice a second ---- */

static void end_borrowing(struct kg_relay_ice *ice, unsigned side)
{
    for (unsigned i = 0; i < ice->relay->stream_count; i++) {
        struct kg_stream *stream = ice->relay->stream[i];
        for (uint8_t component = 1; stream && component <= 2; component++) {
            struct kg_flow *flow = flow_of(&stream->leg[side], component);
            if (flow->borrowed)
                release(flow);
        }
    }
}

/* Where a steered stream flows. RTP through us says so at once; that it flows directly is seen from its
 * absence while both sides are still there. A side that found the direct path first may never come: what the
 * other one sent us before its ICE was done went nowhere, and says nothing when it has ended. */
static void find_path(struct kg_stream *stream, struct kg_stream_ice *ice, const struct kg_limits *limits,
                      int64_t now_ms)
{
    int64_t rtp_ms = stream->leg[0].last_packet_ms > stream->leg[1].last_packet_ms
                         ? stream->leg[0].last_packet_ms
                         : stream->leg[1].last_packet_ms;
    bool flows = rtp_ms != 0 && now_ms - rtp_ms < KG_PATH_DIRECT_MS;
    uint8_t path = ice->path;
    if (flows || (path == KG_PATH_UNKNOWN && kg_steer_is_nominated(ice->steer[0])))
        path = KG_PATH_RELAYED;
    int64_t answered_ms = stream->relay->ice->answered_ms;
    bool both = true, passed = stream->leg[0].packets_out || stream->leg[1].packets_out;
    bool nowhere = path == KG_PATH_RELAYED && !passed && !kg_steer_is_nominated(ice->steer[0]);
    for (unsigned side = 0; side < 2; side++) {
        int64_t silence = kg_steer_silence(ice->steer[0], side, now_ms);
        both &= silence >= 0 && silence < limits->ice.consent_expiry_ms;
    }
    if (!flows && (both || nowhere) && answered_ms != 0 && now_ms - answered_ms >= KG_PATH_DIRECT_MS &&
        now_ms - ice->since_ms >= KG_PATH_DIRECT_MS && !stream->relay->on_hold)
        path = KG_PATH_DIRECT;
    if (path == ice->path)
        return;
    ice->path = path;
    ice->path_untold = stream->relay->untold = true;
}

/* So long after the latest description, or the answer of the call, ICE counts as over: agents may stop to
 * answer on candidates that they do not use 3 s after one was selected (RFC 8445 8.3.1). With consent every 5
 * s it is 4 s: the shortest time between two checks of ours (RFC 7675 5.1), so that one falls into the next 6
 * s. */
static int64_t ice_over_ms(const struct kg_limits *limits)
{
    return (int64_t)limits->ice.consent_ms * 4 / 5;
}

/* Who still answers on the relay path. While media takes it, whoever does not has left. Otherwise the two
 * talk directly, and phones may stop to answer there once their ICE is over: who leaves is only known of
 * those that answered a check of ours later than that. */
static void find_leavers(struct kg_stream *stream, struct kg_stream_ice *ice, const struct kg_limits *limits,
                         int64_t now_ms)
{
    struct kg_relay *relay = stream->relay;
    int64_t over_ms = ice->since_ms > relay->ice->answered_ms ? ice->since_ms : relay->ice->answered_ms;
    over_ms += ice_over_ms(limits);
    for (unsigned side = 0; relay->answered && side < 2; side++) {
        int64_t silence = kg_steer_silence(ice->steer[0], side, now_ms);
        ice->answers[side] |= kg_steer_answered_ms(ice->steer[0], side) >= over_ms;
        if (silence < 0 || (!ice->answers[side] && ice->path != KG_PATH_RELAYED))
            continue;
        if (now_ms - silence > relay->alive_ms) {
            relay->alive_ms = now_ms - silence;
            relay->silent = false;
        }
        bool left = silence >= limits->ice.consent_expiry_ms &&
                    now_ms - ice->since_ms >= (int64_t)limits->ice.consent_expiry_ms;
        if (left && !ice->left[side])
            ice->left_untold[side] = relay->untold = true;
        ice->left[side] = left;
    }
}

void kg_relay_ice_tick(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_relay_ice *ice = relay->ice;
    if (relay->answered && ice->answered_ms == 0)
        ice->answered_ms = now_ms;
    for (unsigned side = 0; side < 2; side++) {
        if (now_ms >= ice->borrowed_until_ms[side])
            end_borrowing(ice, side);
    }
    for (unsigned i = 0; i < relay->stream_count; i++) {
        struct kg_stream_ice *stream = ice->stream[i];
        if (stream == NULL || stream->steer[0] == NULL)
            continue;
        sync_steer(relay->stream[i], 1, now_ms);
        if (stream->steer[1])
            sync_steer(relay->stream[i], 2, now_ms);
        find_path(relay->stream[i], stream, limits, now_ms);
        find_leavers(relay->stream[i], stream, limits, now_ms);
    }
}

/* ---- what is known ---- */

enum kg_steered kg_relay_ice_steered(const struct kg_relay *relay)
{
    enum kg_steered steered = KG_STEERED_NOT;
    for (unsigned i = 0; relay->ice && i < relay->stream_count; i++) {
        const struct kg_stream_ice *stream = relay->ice->stream[i];
        if (stream == NULL || stream->steer[0] == NULL)
            continue;
        if (stream->answers[0] || stream->answers[1])
            return KG_STEERED_ASKED;
        steered = KG_STEERED_UNASKED;
    }
    return steered;
}

void kg_relay_ice_stats(const struct kg_leg *leg, struct kg_media_stats *out)
{
    const struct kg_ice_agent *agent = agent_of(&leg->rtp);
    const struct kg_stream_ice *stream = stream_of(&leg->rtp);
    out->ice_use = leg->described ? leg->rtp.ice : KG_ICE_UNUSED;
    out->ice_state = agent ? (uint8_t)kg_ice_state(agent) : KG_ICE_NEW;
    out->ice_connected_ms = -1;
    if (stream && stream->connected_ms[leg->side] != 0)
        out->ice_connected_ms = stream->connected_ms[leg->side] - leg->stream->relay->created_ms;
}

uint8_t kg_relay_ice_pairs(const struct kg_relay *relay, struct kg_media_pair *out, uint8_t max)
{
    struct kg_ice_pair pair[KG_ICE_PAIRS_MAX];
    size_t total = 0;
    for (unsigned side = 0; relay->ice && side < 2; side++) {
        size_t limit = side == 0 ? max / 2 : max, count = 0;
        if (relay->ice->agent[side])
            count = kg_ice_pairs(relay->ice->agent[side], pair, KG_ICE_PAIRS_MAX);
        for (size_t i = 0; i < count && total < limit; i++)
            out[total++] = (struct kg_media_pair){.side = (uint8_t)side, .pair = pair[i]};
        for (uint8_t i = 0; i < 2 * relay->stream_count && total < limit; i++) {
            const struct kg_stream_ice *stream = relay->ice->stream[i / 2];
            const struct kg_steer *steer = stream ? stream->steer[i % 2] : NULL;
            count = steer ? kg_steer_pairs(steer, side, pair, KG_STEER_SOURCES) : 0;
            for (size_t n = 0; n < count && total < limit; n++) {
                pair[n].stream = i / 2;
                pair[n].component = (uint8_t)(i % 2 + 1);
                out[total++] = (struct kg_media_pair){.side = (uint8_t)side, .pair = pair[n]};
            }
        }
    }
    return (uint8_t)total;
}
