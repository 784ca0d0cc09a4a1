#include "media/relay.h"

#include "conf/bytes.h"
#include "ice/stun/message.h"
#include "media/bundle.h"
#include "media/demux.h"
#include "media/relay_ice.h"
#include "media/rtcp.h"
#include "media/rtp.h"
#include "media/secure.h"

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

const struct kg_media_codec *kg_leg_negotiated(const struct kg_leg *leg, uint8_t payload_type)
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
        leg->clock_rate = sampling_clock(kg_leg_negotiated(leg, rtp->payload_type));
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

void kg_relay_moved(struct kg_flow *flow, int64_t now_ms)
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

/* looks_right: the packet may move the latch. */
static bool believed(struct kg_flow *in, const struct kg_datagram *d, const struct kg_limits *limits,
                     bool looks_right, int64_t now_ms)
{
    enum kg_latch_verdict verdict;
    if (d->genuine && !in->ice)
        verdict = kg_latch_genuine(&in->latch, &limits->latch, d->source, looks_right, now_ms);
    else
        verdict = kg_latch_packet(&in->latch, &in->rules, &limits->latch, d->source, looks_right, now_ms);
    switch (verdict) {
    case KG_LATCH_REFUSED:
        if (!in->ice || !kg_relay_ice_is_proven(in, d->source, now_ms))
            return false;
        break;
    case KG_LATCH_MOVED:
        kg_relay_moved(in, now_ms);
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

/* Is the compound one that we cannot read? SRTCP is opaque but for its first words (RFC 3711 3.4). */
static bool is_sealed(const struct kg_flow *in)
{
    const struct kg_leg_secure *secure = in->leg->secure;
    return secure ? secure->sealed : in->latch.proof == KG_PROOF_ICE;
}

/* May this RTCP packet move the latch? Reports come seconds apart, so on a socket of its own one is enough.
 * On the RTP socket it must come from where RTP was proven, and only what is genuine moves a latch that is
 * idle. */
static bool rtcp_moves(const struct kg_flow *in, const struct kg_datagram *d, const struct kg_rtcp *rtcp,
                       int64_t now_ms)
{
    if (d->genuine)
        return in->rtcp || now_ms - in->latch.last_ms >= KG_LATCH_QUIET_MS;
    return in->rtcp && rtcp->starts_with_report;
}

static struct kg_flow *relay_rtcp(struct kg_flow *in, const struct kg_datagram *d,
                                  const struct kg_limits *limits, int64_t now_us)
{
    struct kg_rtcp rtcp = {.starts_with_report = false};
    bool readable = kg_rtcp_parse(d->data, d->len, &rtcp) == 0;
    if (!readable && (d->len < KG_RTCP_HEADER || !is_sealed(in)))
        return NULL;
    if (!readable) /* its type is in the clear */
        rtcp.starts_with_report = in->leg->secure && (d->data[1] == 200 || d->data[1] == 201);
    struct kg_limits once = *limits;
    if (in->rtcp)
        once.latch.packets = 1;
    if (!believed(in, d, &once, rtcp_moves(in, d, &rtcp, now_us / 1000), now_us / 1000)) {
        if (in->ice && in->rtcp && d->len >= KG_RTCP_HEADER)
            kg_relay_ice_doubt_rtcp(in, kg_read32(d->data + 4), d->source, now_us / 1000);
        return NULL;
    }
    if (limits->on_rtcp && readable && rtcp.starts_with_report)
        limits->on_rtcp(limits->on_rtcp_ctx, in, d->source, d->data, d->len);
    struct kg_leg *leg = in->leg->carries ? kg_bundle_rtcp(in->leg, d->data, d->len) : in->leg;
    struct kg_leg *to = other_leg(leg);
    measure_round_trip(leg, &rtcp, now_us);
    if (rtcp.has_sr) {
        to->sr_ntp_middle = rtcp.sr_ntp_middle;
        to->sr_us = now_us;
    }
    /* Steered: whether they mux is between the two. */
    bool mux = in->ice == KG_ICE_STEER ? !in->rtcp : to->rtcp_mux;
    return mux ? &to->rtp : &to->rtcp;
}

/* Goes on where this sender was, or is a new one: no packet that was late on its way from an older place. */
static bool is_newest(const struct kg_leg *leg, const struct kg_rtp *rtp)
{
    const struct kg_quality *heard = &leg->quality;
    return !heard->begun || heard->ssrc != rtp->ssrc || (int16_t)(rtp->sequence - heard->highest) > 0;
}

static struct kg_flow *relay_rtp(struct kg_flow *in, const struct kg_datagram *d, size_t wire_len,
                                 const struct kg_limits *limits, int64_t now_us)
{
    struct kg_rtp rtp;
    if (kg_rtp_parse(d->data, d->len, &rtp) != 0)
        return NULL;
    struct kg_leg *leg = in->leg->carries ? kg_bundle_rtp(in->leg, d->data, &rtp) : in->leg;
    if (leg == NULL)
        return NULL;
    bool locked = in->latch.state == KG_LATCH_LOCKED && kg_latch_same_source(&in->latch.remote, d->source);
    bool right = d->genuine ? is_newest(leg, &rtp) : locked || kg_leg_negotiated(leg, rtp.payload_type);
    if (!believed(in, d, limits, right, now_us / 1000)) {
        if (in->ice)
            kg_relay_ice_doubt(in, &rtp, d->source, now_us / 1000);
        return NULL;
    }
    if (in->leg->carries)
        kg_bundle_heard(in->leg, rtp.ssrc, leg);
    count_rtp(leg, &rtp, wire_len, now_us);
    return &other_leg(leg)->rtp;
}

/* DTLS and ZRTP between two phones: of a steered stream, or where signalling says that they have keys of
 * their own. Only there a handshake may be the first that is heard of a phone. */
static struct kg_flow *relay_sealed(struct kg_flow *in, const struct kg_datagram *d,
                                    const struct kg_limits *limits, enum kg_packet_kind kind, int64_t now_us)
{
    struct kg_leg *to = other_leg(in->leg);
    bool ours = in->leg->secure && in->leg->secure->sealed;
    if ((in->ice != KG_ICE_STEER && !ours) ||
        !believed(in, d, limits, ours && kg_demux_is_handshake(d->data, d->len, kind), now_us / 1000))
        return NULL;
    return in->rtcp ? &to->rtcp : &to->rtp;
}

static struct kg_flow *relay_any(struct kg_flow *in, const struct kg_datagram *d,
                                 const struct kg_limits *limits, int64_t now_us)
{
    struct kg_leg *leg = in->leg;
    int64_t now_ms = now_us / 1000;
    if (d->len == 0 || (!in->ice && kg_latch_rank(&in->rules, d->source) < KG_PROOF_SAME_ADDRESS) ||
        !believed(in, d, limits, true, now_ms))
        return NULL;
    leg->packets_in++;
    leg->bytes_in += d->len;
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

/* Where it goes if its source is believed. */
static struct kg_flow *route(struct kg_flow *in, const struct kg_datagram *d, enum kg_packet_kind kind,
                             size_t wire_len, const struct kg_limits *limits, int64_t now_us)
{
    if (in->leg->stream->any_payload && !in->rtcp)
        return in->ice && is_stun(d->data, d->len) ? NULL : relay_any(in, d, limits, now_us);
    if (kind == KG_PACKET_RTCP)
        return relay_rtcp(in, d, limits, now_us);
    if (kind == KG_PACKET_RTP && !in->rtcp)
        return relay_rtp(in, d, wire_len, limits, now_us);
    if (kind == KG_PACKET_DTLS || kind == KG_PACKET_ZRTP)
        return relay_sealed(in, d, limits, kind, now_us);
    return NULL;
}

struct kg_flow *kg_relay_packet(struct kg_flow *in, struct kg_datagram *d, const struct kg_limits *limits,
                                int64_t now_us, const struct kg_addr **to)
{
    struct kg_leg *leg = in->leg;
    struct kg_flow *out = NULL;
    enum kg_packet_kind kind = kg_demux(d->data, d->len);
    size_t wire_len = d->len;
    d->genuine = false;
    d->to = other_leg(leg);
    if (leg->described && leg->enabled) {
        enum kg_opened opened = leg->secure ? kg_secure_open(in, d, kind, limits, now_us / 1000) : KG_OPEN;
        if (opened == KG_OPEN_TAKEN)
            return NULL;
        if (opened == KG_OPEN)
            out = route(in, d, kind, wire_len, limits, now_us);
    }
    if (!leg->described && kind == KG_PACKET_DTLS && kg_secure_keep_hello(in, d))
        return NULL;
    if (out == NULL) {
        if (in->ice && is_stun(d->data, d->len))
            return kg_relay_ice_stun(in, d->data, d->len, d->source, limits, now_us / 1000, to);
        leg->dropped++;
        return NULL;
    }
    struct kg_leg *to_leg = d->to = out->leg;
    if (to_leg->carrier)
        out = out->rtcp && !to_leg->carrier->rtcp_mux ? &to_leg->carrier->rtcp : &to_leg->carrier->rtp;
    if (out->fd < 0 || !to_leg->described || !to_leg->enabled)
        return NULL;
    *to = kg_latch_target(&out->latch, &out->rules);
    if (*to == NULL || kg_addr_family(*to) != (out->ipv6 ? AF_INET6 : AF_INET))
        return NULL;
    if ((leg->secure || to_leg->secure || out->leg->secure) && !kg_secure_seal(leg, out, d, kind))
        return NULL;
    return out;
}

void kg_relay_sent(struct kg_flow *out, struct kg_leg *to, const uint8_t *data, size_t len)
{
    /* checks and handshakes between two phones are no media */
    if (out->rtcp || (out->leg->stream->any_payload ? out->ice && is_stun(data, len) : data[0] < 128))
        return;
    to->packets_out++;
    to->bytes_out += len;
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
