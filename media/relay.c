#include "media/relay.h"

#include "conf/bytes.h"
#include "ice/stun/message.h"
#include "media/demux.h"
#include "media/relay_ice.h"
#include "media/rtcp.h"
#include "media/rtp.h"

static struct kg_leg *other_leg(const struct kg_leg *leg)
{
    return &leg->stream->leg[kg_other_side(leg->side)];
}

static const struct kg_media_codec *codec_of(const struct kg_leg *leg, uint8_t payload_type)
{
    for (unsigned i = 0; i < leg->codec_count; i++) {
        if (leg->codec[i].payload_type == payload_type)
            return &leg->codec[i];
    }
    return NULL;
}

/* A payload type in SDP is what its author receives (RFC 3264 5.1), and mostly also what it sends: either
 * list names it. */
static const struct kg_media_codec *negotiated(const struct kg_leg *leg, uint8_t payload_type)
{
    const struct kg_media_codec *codec = codec_of(leg, payload_type);
    return codec ? codec : codec_of(other_leg(leg), payload_type);
}

/* RFC 4733 events keep one timestamp and comfort noise comes when it likes: neither measures jitter. */
static uint32_t sampling_clock(const struct kg_media_codec *codec)
{
    if (codec == NULL || __builtin_strcmp(codec->name, "telephone-event") == 0 ||
        __builtin_strcmp(codec->name, "CN") == 0)
        return 0;
    return codec->clock_rate;
}

static void count_rtp(struct kg_leg *leg, const struct kg_rtp *rtp, size_t len, int64_t now_us)
{
    if (!leg->has_type || leg->last_type != rtp->payload_type) {
        leg->clock_rate = sampling_clock(negotiated(leg, rtp->payload_type));
        leg->last_type = rtp->payload_type;
        leg->has_type = true;
    }
    kg_quality_packet(&leg->quality, rtp->ssrc, rtp->sequence, rtp->timestamp, leg->clock_rate, now_us);
    leg->packets_in++;
    leg->bytes_in += len;
    leg->last_packet_ms = now_us / 1000;
    if (leg->first_packet_ms == 0)
        leg->first_packet_ms = leg->last_packet_ms;
}

void kg_relay_count_move(struct kg_flow *flow, int64_t gap_ms)
{
    struct kg_leg *leg = flow->leg;
    if (flow->rtcp || !leg->stream->relay->answered || leg->packets_in == 0)
        return;
    leg->moves++;
    leg->move_gap_ms = gap_ms < INT32_MAX ? (int32_t)gap_ms : INT32_MAX;
}

static void moved(struct kg_flow *flow, int64_t now_ms)
{
    struct kg_leg *leg = flow->leg;
    flow->untold = true;
    kg_relay_count_move(flow, now_ms - leg->last_packet_ms);
    if (flow == &leg->rtp) {
        /* RTCP of a phone behind a NAT comes from the host that its RTP came from, and from no other. */
        struct kg_latch_rules *rules = &leg->rtcp.rules;
        bool elsewhere = !kg_addr_same_host(&rules->host, &flow->latch.remote);
        rules->host = flow->latch.remote;
        rules->send_early |= kg_addr_same_host(&rules->sdp, &flow->latch.remote);
        if (elsewhere)
            kg_latch_reopen(&leg->rtcp.latch, rules, false, true, now_ms);
    }
}

static bool believed(struct kg_flow *in, const struct kg_limits *limits, const struct kg_addr *source,
                     bool looks_right, int64_t now_ms)
{
    switch (kg_latch_packet(&in->latch, &in->rules, &limits->latch, source, looks_right, now_ms)) {
    case KG_LATCH_REFUSED:
        if (!in->ice || !kg_relay_ice_is_proven(in, source, now_ms))
            return false;
        break;
    case KG_LATCH_MOVED:
        moved(in, now_ms);
        break;
    case KG_LATCH_ACCEPTED:
        break;
    }
    struct kg_relay *relay = in->leg->stream->relay;
    relay->alive_ms = now_ms;
    relay->silent = false;
    return true;
}

/* Round trip between us and `leg`, from its report on an SR that we passed to it (RFC 3550 6.4.1, LSR and
 * DLSR). */
static void measure_round_trip(struct kg_leg *leg, const struct kg_rtcp *rtcp, int64_t now_us)
{
    for (unsigned i = 0; i < rtcp->reports; i++) {
        const struct kg_rtcp_report *report = &rtcp->report[i];
        if (report->last_sr == 0 || leg->sr_us == 0 || report->last_sr != leg->sr_ntp_middle)
            continue;
        int64_t held_us = (int64_t)((uint64_t)report->since_sr * 1000000 / 65536);
        int64_t rtt = now_us - leg->sr_us - held_us;
        if (rtt >= 0)
            leg->rtt_us = rtt;
    }
}

static struct kg_flow *relay_rtcp(struct kg_flow *in, const uint8_t *data, size_t len,
                                  const struct kg_addr *source, const struct kg_limits *limits,
                                  int64_t now_us)
{
    struct kg_rtcp rtcp = {.starts_with_report = false};
    /* SRTCP is opaque but for its first words (RFC 3711 3.4). It moves nothing. */
    bool sealed = in->latch.proof == KG_PROOF_ICE && len >= KG_RTCP_HEADER;
    if (kg_rtcp_parse(data, len, &rtcp) != 0 && !sealed)
        return NULL;
    /* A socket of its own: reports come seconds apart, so one is the whole window. On the RTP socket, RTCP
     * moves nothing: it must come from where RTP was proven. */
    struct kg_limits once = *limits;
    if (in->rtcp)
        once.latch.packets = 1;
    if (!believed(in, &once, source, in->rtcp && rtcp.starts_with_report, now_us / 1000)) {
        if (in->ice && in->rtcp && len >= KG_RTCP_HEADER)
            kg_relay_ice_doubt_rtcp(in, kg_read32(data + 4), source, now_us / 1000);
        return NULL;
    }
    if (limits->on_rtcp && rtcp.starts_with_report)
        limits->on_rtcp(limits->on_rtcp_ctx, in, source, data, len);
    struct kg_leg *to = other_leg(in->leg);
    measure_round_trip(in->leg, &rtcp, now_us);
    if (rtcp.has_sr) {
        to->sr_ntp_middle = rtcp.sr_ntp_middle;
        to->sr_us = now_us;
    }
    /* Steered: whether they mux is between the two. */
    bool mux = in->ice == KG_ICE_STEER ? !in->rtcp : to->rtcp_mux;
    return mux ? &to->rtp : &to->rtcp;
}

static struct kg_flow *relay_rtp(struct kg_flow *in, const uint8_t *data, size_t len,
                                 const struct kg_addr *source, const struct kg_limits *limits, int64_t now_us)
{
    struct kg_rtp rtp;
    if (kg_rtp_parse(data, len, &rtp) != 0)
        return NULL;
    struct kg_leg *leg = in->leg;
    bool locked = in->latch.state == KG_LATCH_LOCKED && kg_latch_same_source(&in->latch.remote, source);
    if (!believed(in, limits, source, locked || negotiated(leg, rtp.payload_type), now_us / 1000)) {
        if (in->ice)
            kg_relay_ice_doubt(in, &rtp, source, now_us / 1000);
        return NULL;
    }
    count_rtp(leg, &rtp, len, now_us);
    return &other_leg(leg)->rtp;
}

/* DTLS and ZRTP are between the two phones of a steered stream. */
static struct kg_flow *relay_sealed(struct kg_flow *in, const struct kg_addr *source,
                                    const struct kg_limits *limits, int64_t now_us)
{
    struct kg_leg *to = other_leg(in->leg);
    if (!believed(in, limits, source, false, now_us / 1000))
        return NULL;
    return in->rtcp ? &to->rtcp : &to->rtp;
}

static struct kg_flow *relay_any(struct kg_flow *in, size_t len, const struct kg_addr *source,
                                 const struct kg_limits *limits, int64_t now_us)
{
    struct kg_leg *leg = in->leg;
    int64_t now_ms = now_us / 1000;
    if (len == 0 || (!in->ice && kg_latch_rank(&in->rules, source) < KG_PROOF_SAME_ADDRESS) ||
        !believed(in, limits, source, true, now_ms))
        return NULL;
    leg->packets_in++;
    leg->bytes_in += len;
    leg->last_packet_ms = now_ms;
    if (leg->first_packet_ms == 0)
        leg->first_packet_ms = now_ms;
    return &other_leg(leg)->rtp;
}

/* By its cookie: UDPTL may begin with any byte. */
static bool is_stun(const uint8_t *data, size_t len)
{
    return len >= KG_STUN_HEADER && data[0] <= 3 && kg_read32(data + 4) == KG_STUN_COOKIE;
}

struct kg_flow *kg_relay_packet(struct kg_flow *in, const uint8_t *data, size_t len,
                                const struct kg_addr *source, const struct kg_limits *limits, int64_t now_us,
                                const struct kg_addr **to)
{
    struct kg_leg *leg = in->leg;
    struct kg_flow *out = NULL;
    if (leg->described && leg->enabled) {
        enum kg_packet_kind kind = kg_demux(data, len);
        if (leg->stream->any_payload && !in->rtcp)
            out = in->ice && is_stun(data, len) ? NULL : relay_any(in, len, source, limits, now_us);
        else if (kind == KG_PACKET_RTCP)
            out = relay_rtcp(in, data, len, source, limits, now_us);
        else if (kind == KG_PACKET_RTP && !in->rtcp)
            out = relay_rtp(in, data, len, source, limits, now_us);
        else if (in->ice == KG_ICE_STEER && (kind == KG_PACKET_DTLS || kind == KG_PACKET_ZRTP))
            out = relay_sealed(in, source, limits, now_us);
    }
    if (out == NULL) {
        if (in->ice && is_stun(data, len))
            return kg_relay_ice_stun(in, data, len, source, limits, now_us / 1000, to);
        leg->dropped++;
        return NULL;
    }
    const struct kg_leg *to_leg = out->leg;
    if (out->fd < 0 || !to_leg->described || !to_leg->enabled)
        return NULL;
    *to = kg_latch_target(&out->latch, &out->rules);
    if (*to == NULL || kg_addr_family(*to) != (out->ipv6 ? AF_INET6 : AF_INET))
        return NULL;
    return out;
}

void kg_relay_sent(struct kg_flow *out, const uint8_t *data, size_t len)
{
    /* checks and handshakes of a steered stream are no media */
    if (out->rtcp || (out->ice && (out->leg->stream->any_payload ? is_stun(data, len) : data[0] < 128)))
        return;
    out->leg->packets_out++;
    out->leg->bytes_out += len;
}

const char *kg_relay_silence(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms)
{
    const char *why;
    int64_t since = relay->alive_ms;
    uint32_t limit;
    if (!relay->answered) {
        since = relay->created_ms;
        limit = limits->unanswered_timeout_ms;
        why = "the call was not answered in time";
    } else if (relay->on_hold) {
        limit = limits->hold_timeout_ms;
        why = "no packet from either side while on hold";
    } else {
        limit = limits->silence_timeout_ms;
        why = "no packet from either side";
    }
    if (relay->answered && relay->ice) {
        enum kg_steered steered = kg_relay_ice_steered(relay);
        if (steered == KG_STEERED_UNASKED)
            return NULL; /* they may talk where we cannot see them */
        if (steered == KG_STEERED_ASKED)
            why = "neither phone answers checks any more, and no packet passed the relay";
    }
    if (relay->silent || limit == 0 || now_ms - since < limit)
        return NULL;
    relay->silent = true;
    relay->silent_ms = now_ms;
    return why;
}
