/* Relays as signalling shapes them: construction, descriptions, statistics. The packet path is relay.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/bundle.h"
#include "media/relay_ice.h"
#include "media/secure.h"

static const struct kg_addr none;

struct kg_relay *kg_relay_new(void *owner, int64_t now_ms)
{
    struct kg_relay *relay = calloc(1, sizeof *relay);
    if (relay) {
        relay->owner = owner;
        relay->created_ms = relay->alive_ms = now_ms;
    }
    return relay;
}

void kg_stream_free(struct kg_stream *stream)
{
    if (stream == NULL)
        return;
    for (unsigned side = 0; side < 2; side++) {
        free(stream->leg[side].codec);
        kg_leg_secure_free(stream->leg[side].secure);
    }
    free(stream);
}

void kg_relay_free(struct kg_relay *relay)
{
    if (relay == NULL)
        return;
    kg_relay_ice_free(relay);
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        kg_stream_free(relay->stream[i]);
    free(relay->bundle[0]);
    free(relay->bundle[1]);
    free(relay);
}

struct kg_stream *kg_stream_new(uint8_t index, const char *kind)
{
    struct kg_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->index = index;
    snprintf(stream->kind, sizeof stream->kind, "%s", kind);
    for (unsigned side = 0; side < 2; side++) {
        struct kg_leg *leg = &stream->leg[side];
        leg->stream = stream;
        leg->side = (uint8_t)side;
        leg->rtt_us = -1;
        leg->move_gap_ms = -1;
        leg->rtp = (struct kg_flow){.leg = leg, .fd = -1};
        leg->rtcp = (struct kg_flow){.leg = leg, .fd = -1, .rtcp = true};
    }
    return stream;
}

void kg_relay_add_stream(struct kg_relay *relay, struct kg_stream *stream)
{
    stream->relay = relay;
    relay->stream[stream->index] = stream;
    if (relay->stream_count <= stream->index)
        relay->stream_count = (uint8_t)(stream->index + 1);
}

/* Where SDP says it receives. c=0.0.0.0, the hold of RFC 2543, and a reserved line say nothing new. */
static struct kg_addr told_addr(const struct kg_addr *told, const struct kg_addr *before)
{
    return kg_addr_is_usable(told) ? *told : *before;
}

/* media/README.md, "Who is believed": what this side's SDP and the source of its SIP make plausible. */
static struct kg_latch_rules rtp_rules(const struct kg_media_side *side, const struct kg_addr *sdp)
{
    bool at_signalling = kg_addr_is_set(sdp) && kg_addr_same_host(sdp, &side->signalling);
    return (struct kg_latch_rules){
        .sdp = *sdp,
        .host = side->signalling,
        /* A private host in SDP means nothing to us unless signalling comes from it: it could be any
           machine's. */
        .sdp_host_plausible = at_signalling || side->trusted || !kg_addr_is_private(sdp),
        .first_packets = side->first_packets,
        .send_early = at_signalling || side->trusted,
    };
}

static struct kg_latch_rules rtcp_rules(const struct kg_leg *leg, const struct kg_addr *sdp)
{
    const struct kg_latch_rules *rtp = &leg->rtp.rules;
    bool latched = leg->rtp.latch.proof != KG_PROOF_NONE;
    const struct kg_addr *remote = &leg->rtp.latch.remote;
    return (struct kg_latch_rules){
        .sdp = *sdp,
        .host = latched ? *remote : none,
        .send_early = (rtp->send_early && kg_addr_same_host(sdp, &rtp->sdp)) ||
                      (latched && kg_addr_same_host(sdp, remote)),
    };
}

/* ice: only checks move the latch, so nothing is plausible and nothing opens it (relay_ice.h). */
static void describe_flow(struct kg_flow *flow, const struct kg_latch_rules *rules, bool ice, int64_t now_ms)
{
    bool moved = !kg_addr_equal(&rules->sdp, &flow->rules.sdp);
    /* A leg that did ICE had no rules: wherever it was found, it may have gone since. */
    bool elsewhere = !kg_addr_same_host(&rules->host, &flow->rules.host);
    flow->rules = ice ? (struct kg_latch_rules){.sdp = none} : *rules;
    if (!ice)
        kg_latch_reopen(&flow->latch, rules, moved, elsewhere, now_ms);
}

/* A line may become another one in talk (a fax machine answered: audio becomes image). As long as either side
 * still says so it is no RTP; what a side said last before it closed the line holds. */
static void describe_kind(struct kg_leg *leg, const struct kg_media_stream *line)
{
    struct kg_stream *stream = leg->stream;
    if (!line->enabled)
        return;
    snprintf(stream->kind, sizeof stream->kind, "%s", line->kind);
    /* T.38 (ITU-T T.38 annex D) runs over UDPTL, which has no header to check. */
    leg->any_payload = strcmp(line->kind, "image") == 0;
    stream->any_payload = stream->leg[0].any_payload || stream->leg[1].any_payload;
}

static void describe_leg(struct kg_leg *leg, const struct kg_media_side *side,
                         const struct kg_media_stream *line, struct kg_media_codec *codec, int64_t now_ms)
{
    struct kg_addr rtp_at = told_addr(&line->rtp, &leg->rtp.rules.sdp);
    struct kg_addr rtcp_at = told_addr(&line->rtcp, &leg->rtcp.rules.sdp);
    /* Nothing is plausible on sockets of a line whose media comes over another one's. */
    bool ice = leg->carrier || (line->enabled && line->ice && line->ice_use != KG_ICE_UNUSED);
    struct kg_latch_rules rtp = rtp_rules(side, &rtp_at);
    describe_flow(&leg->rtp, &rtp, ice, now_ms);
    struct kg_latch_rules rtcp = rtcp_rules(leg, &rtcp_at);
    describe_flow(&leg->rtcp, &rtcp, ice, now_ms);
    leg->described = true;
    leg->enabled = line->enabled;
    describe_kind(leg, line);
    leg->rtcp_mux = line->rtcp_mux;
    leg->direction = (uint8_t)line->direction;
    free(leg->codec);
    leg->codec = codec;
    leg->codec_count = codec ? line->codec_count : 0;
    leg->has_type = false; /* look its clock up again */
}

/* On hold: no enabled line flows both ways. */
static void update_hold(struct kg_relay *relay, int64_t now_ms)
{
    bool any = false, talk = false;
    for (unsigned i = 0; i < relay->stream_count; i++) {
        const struct kg_stream *stream = relay->stream[i];
        if (stream == NULL || !stream->leg[0].enabled || !stream->leg[1].enabled)
            continue;
        any = true;
        talk |= stream->leg[0].direction == KG_SENDRECV && stream->leg[1].direction == KG_SENDRECV;
    }
    bool on_hold = any && !talk;
    if (on_hold != relay->on_hold) {
        relay->on_hold = on_hold;
        relay->alive_ms = now_ms;
        relay->silent = false;
    }
}

int kg_relay_describe(struct kg_relay *relay, enum kg_side side, const struct kg_media_side *what,
                      int64_t now_ms)
{
    struct kg_media_codec *codec[KG_MEDIA_STREAMS_MAX] = {0};
    if (kg_bundle_describe(relay, side, what) != 0)
        return ENOMEM;
    unsigned count = what->stream_count < relay->stream_count ? what->stream_count : relay->stream_count;
    for (unsigned i = 0; i < count; i++) {
        const struct kg_media_stream *line = &what->stream[i];
        if (line->codec_count == 0 || relay->stream[i] == NULL)
            continue;
        codec[i] = malloc(line->codec_count * sizeof *codec[i]);
        if (codec[i] == NULL) {
            while (i-- > 0)
                free(codec[i]);
            return ENOMEM;
        }
        memcpy(codec[i], line->codec, line->codec_count * sizeof *codec[i]);
    }
    for (unsigned i = 0; i < relay->stream_count; i++) {
        if (relay->stream[i] == NULL)
            continue;
        struct kg_leg *leg = &relay->stream[i]->leg[side];
        if (i < count)
            describe_leg(leg, what, &what->stream[i], codec[i], now_ms);
        else
            leg->enabled = false;
    }
    update_hold(relay, now_ms);
    return 0;
}

void kg_relay_set_answered(struct kg_relay *relay, bool answered, int64_t now_ms)
{
    if (relay->answered == answered)
        return;
    relay->answered = answered;
    relay->alive_ms = now_ms;
    relay->silent = false;
}

void kg_relay_restore(struct kg_flow *flow, const struct kg_addr *remote, enum kg_proof proof, int64_t now_ms)
{
    kg_latch_restore(&flow->latch, remote, proof, now_ms);
    if (flow->ice && flow->latch.proof != KG_PROOF_NONE)
        kg_relay_ice_restored(flow, now_ms);
    if (flow->latch.proof == KG_PROOF_NONE || flow->rtcp || flow->ice)
        return;
    struct kg_latch_rules *rtcp = &flow->leg->rtcp.rules;
    rtcp->host = *remote;
    rtcp->send_early |= kg_addr_same_host(&rtcp->sdp, remote);
}

static const char *codec_name(const struct kg_leg *leg)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct kg_leg *from = side == 0 ? leg : &leg->stream->leg[kg_other_side(leg->side)];
        for (unsigned i = 0; i < from->codec_count; i++) {
            if (from->codec[i].payload_type == leg->last_type &&
                strcmp(from->codec[i].name, "telephone-event") != 0)
                return from->codec[i].name;
        }
    }
    return "";
}

void kg_leg_stats(const struct kg_leg *leg, int64_t now_ms, struct kg_media_stats *out)
{
    const struct kg_flow *flow = leg->carrier ? &leg->carrier->rtp : &leg->rtp;
    const struct kg_addr *target = kg_latch_target(&flow->latch, &flow->rules);
    uint64_t expected = kg_quality_expected(&leg->quality), lost = kg_quality_lost(&leg->quality);
    *out = (struct kg_media_stats){
        .remote = target ? *target : none,
        .proof = flow->latch.proof,
        .packets_in = leg->packets_in,
        .packets_out = leg->packets_out,
        .bytes_in = leg->bytes_in,
        .bytes_out = leg->bytes_out,
        .dropped = leg->dropped,
        .lost = lost,
        .jitter_ms = kg_quality_jitter_ms(&leg->quality),
        .rtt_ms = leg->rtt_us < 0 ? -1 : (double)leg->rtt_us / 1000,
        .last_packet_ms_ago = leg->last_packet_ms ? now_ms - leg->last_packet_ms : -1,
        .first_packet_ms = leg->first_packet_ms ? leg->first_packet_ms - leg->stream->relay->created_ms : -1,
        .moves = leg->moves,
        .move_gap_ms = leg->move_gap_ms,
    };
    kg_relay_ice_stats(leg, out);
    kg_secure_stats(leg, out);
    snprintf(out->kind, sizeof out->kind, "%s", leg->stream->kind);
    if (leg->packets_in > 0 && !leg->stream->any_payload) {
        snprintf(out->codec, sizeof out->codec, "%s", codec_name(leg));
        if (strcmp(leg->stream->kind, "audio") == 0 && expected > 0)
            out->mos =
                kg_quality_mos(out->codec, (double)lost / (double)expected, out->jitter_ms, out->rtt_ms);
    }
}
