/* A relay and its two phones in virtual time, without sockets: ICE phones are agents of their own, the
 * network is a function call. Phone A is at 198.51.100.1, B at 203.0.113.2, kedge at 192.0.2.1. */
#ifndef KG_TESTS_RELAY_WORLD_H
#define KG_TESTS_RELAY_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "media/relay_ice.h"
#include "media/secure.h"

#define WORLD_STEP_MS 5

struct vphone {
    bool ice, mux, talking;
    bool deaf;    /* nothing reaches it */
    bool retired; /* it ignores what comes from kedge: its ICE chose another pair */
    struct kg_ice_agent *agent;
    char ufrag[16], pwd[32];
    struct kg_addr base[2];   /* by component - 1 */
    struct kg_addr public[2]; /* where its packets come from: a NAT may change it */
    struct kg_candidate candidate[4];
    struct kg_ice_description description;
    struct kg_addr media; /* a phone without ICE sends its RTP there */
    uint16_t sequence;
    uint32_t ssrc;
    const struct kg_media_secure *secure; /* as signalling says; NULL: nothing */
    struct kg_dtls *dtls;                 /* NULL: it does none */
    struct kg_srtp *srtp;                 /* NULL: it speaks in the clear */
    unsigned garbled;
    unsigned heard, heard_rtcp; /* packets of the other phone */
    unsigned direct;            /* of heard: not from kedge */
};

struct world {
    int64_t now;
    struct kg_limits limits;
    struct kg_relay *relay;
    struct vphone phone[2];
    struct kg_addr bound[2][2]; /* side, component - 1 */
    struct kg_media_ice_local local[2];
    struct kg_addr
        outside[2]; /* by side: kedge's host as that phone sees it, behind a 1:1 NAT; none: as bound */
    struct kg_dtls_identity *identity; /* the engine's; NULL: none needed */
    bool blocked;                      /* nothing passes between the phones directly */
    unsigned stray;                    /* datagrams to addresses that are nobody's */
    int64_t tick_ms;
    const char *silence;
    uint32_t random;
};

static inline struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static inline void world_random(void *ctx, void *out, size_t len)
{
    struct world *w = ctx;
    for (size_t i = 0; i < len; i++) {
        w->random = w->random * 1103515245u + 12345u;
        ((uint8_t *)out)[i] = (uint8_t)(w->random >> 16);
    }
}

static inline struct kg_flow *world_flow(struct world *w, unsigned side, unsigned component)
{
    struct kg_leg *leg = &w->relay->stream[0]->leg[side];
    return component == 2 ? &leg->rtcp : &leg->rtp;
}

/* ---- the network ---- */

static inline void world_drain(struct world *w);

static inline void phone_take(struct world *w, struct vphone *p, unsigned component,
                              const struct kg_addr *from, const uint8_t *data, size_t len)
{
    struct kg_addr kedge = at("192.0.2.1");
    if (p->deaf || (p->retired && kg_addr_same_host(from, &kedge)))
        return;
    if (data[0] <= 3) {
        if (p->agent)
            kg_ice_receive(p->agent, &p->base[component - 1], from, data, len, w->now);
        return;
    }
    if (p->dtls && data[0] >= 20 && data[0] <= 63) {
        kg_dtls_receive(p->dtls, data, len, from, kg_addr_len(from), w->now);
        return;
    }
    if (data[1] >= 192 && data[1] <= 223) {
        p->heard_rtcp++;
        return;
    }
    _Alignas(8) uint8_t clear[1600];
    memcpy(clear, data, len);
    if (p->srtp && kg_srtp_unprotect(p->srtp, clear, &len, w->now) != KG_SRTP_OK) {
        p->garbled++;
        return;
    }
    p->heard++;
    p->direct += !kg_addr_same_host(from, &kedge);
}

static inline void deliver(struct world *w, const struct kg_addr *from, const struct kg_addr *to,
                           const uint8_t *data, size_t len);

static inline void deliver_to_relay(struct world *w, unsigned side, unsigned component,
                                    const struct kg_addr *from, const uint8_t *data, size_t len)
{
    const struct kg_addr *next = NULL;
    struct kg_flow *in = world_flow(w, side, component);
    _Alignas(8) uint8_t bytes[1500 + KG_SRTP_GROWTH];
    memcpy(bytes, data, len);
    struct kg_datagram d = {.data = bytes, .len = len, .room = sizeof bytes, .source = from};
    struct kg_flow *out = kg_relay_packet(in, &d, &w->limits, w->now * 1000, &next);
    if (out == NULL) {
        world_drain(w);
        return;
    }
    struct kg_addr to = *next;
    kg_relay_sent(out, d.to, bytes, d.len);
    deliver(w, &w->bound[out->leg->side][out->rtcp ? 1 : 0], &to, bytes, d.len);
}

static inline void deliver(struct world *w, const struct kg_addr *from, const struct kg_addr *to,
                           const uint8_t *data, size_t len)
{
    for (unsigned side = 0; side < 2; side++) {
        struct vphone *p = &w->phone[side];
        for (unsigned c = 1; c <= 2; c++) {
            struct kg_addr outside = w->outside[side];
            kg_addr_set_port(&outside, kg_addr_port(&w->bound[side][c - 1]));
            if (kg_addr_equal(to, &w->bound[side][c - 1]) || kg_addr_equal(to, &outside)) {
                deliver_to_relay(w, side, c, from, data, len);
                return;
            }
            if (!kg_addr_equal(to, &p->public[c - 1]))
                continue;
            struct kg_addr seen = *from;
            if (kg_addr_is_set(&w->outside[side]) && kg_addr_same_host(from, &w->bound[side][0])) {
                seen = w->outside[side];
                kg_addr_set_port(&seen, kg_addr_port(from));
            }
            if (!w->blocked || !kg_addr_same_host(from, &w->phone[1 - side].public[0]))
                phone_take(w, p, c, &seen, data, len);
            return;
        }
    }
    w->stray++;
}

static inline void world_drain(struct world *w)
{
    struct kg_ice_out out;
    for (int i = 0; i < 200 && kg_relay_ice_poll(w->relay, w->now, &out); i++) {
        struct kg_addr to = *out.to;
        uint8_t bytes[1500];
        memcpy(bytes, out.data, out.len);
        deliver(w, &w->bound[out.flow->leg->side][out.flow->rtcp ? 1 : 0], &to, bytes, out.len);
    }
    struct kg_secure_out own;
    for (int i = 0; i < 200 && kg_secure_poll(w->relay, &w->limits, w->now, &own); i++)
        deliver(w, &w->bound[own.flow->leg->side][own.flow->rtcp ? 1 : 0], &own.to, own.data, own.len);
}

static inline size_t rtp_packet(uint8_t *out, uint8_t payload_type, uint16_t sequence, uint32_t ssrc)
{
    memset(out, 0, 172);
    out[0] = 0x80;
    out[1] = payload_type;
    out[2] = (uint8_t)(sequence >> 8);
    out[3] = (uint8_t)sequence;
    for (int i = 0; i < 4; i++)
        out[8 + i] = (uint8_t)(ssrc >> (24 - 8 * i));
    return 172;
}

static inline void phone_speak(struct world *w, struct vphone *p)
{
    _Alignas(8) uint8_t packet[172 + KG_SRTP_GROWTH];
    struct kg_ice_pair pair;
    struct kg_addr to = p->media;
    if (p->agent) {
        if (!kg_ice_selected(p->agent, 0, 1, &pair))
            return;
        to = pair.remote.addr;
    }
    size_t len = rtp_packet(packet, 8, p->sequence, p->ssrc);
    if (p->srtp && kg_srtp_protect(p->srtp, packet, &len, sizeof packet) != KG_SRTP_OK)
        return;
    p->sequence++;
    deliver(w, &p->public[0], &to, packet, len);
}

/* Begins when its ICE has selected a pair, if it is the active one; takes its keys. */
static inline void phone_shakes_hands(struct world *w, struct vphone *p)
{
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    struct kg_ice_pair pair;
    if (!kg_ice_selected(p->agent, 0, 1, &pair))
        return;
    kg_dtls_start(p->dtls, w->now);
    while (kg_dtls_poll(p->dtls, w->now, data, &len))
        deliver(w, &p->public[0], &pair.remote.addr, data, len);
    struct kg_srtp_keys send, receive;
    if (kg_srtp_can_send(p->srtp) || !kg_dtls_keys(p->dtls, &send, &receive))
        return;
    assert_int_equal(kg_srtp_set_send(p->srtp, &send, w->now), 0);
    assert_int_equal(kg_srtp_set_receive(p->srtp, &receive, w->now), 0);
}

static inline void world_step(struct world *w)
{
    w->now += WORLD_STEP_MS;
    for (unsigned side = 0; side < 2; side++) {
        struct vphone *p = &w->phone[side];
        struct kg_ice_datagram d;
        struct kg_ice_event event;
        for (int i = 0; p->agent && i < 50 && kg_ice_poll(p->agent, w->now, &d); i++)
            deliver(w, &p->public[d.component - 1], &d.to, d.data, d.len);
        while (p->agent && kg_ice_poll_event(p->agent, &event))
            ;
        if (p->dtls && p->agent)
            phone_shakes_hands(w, p);
        if (p->talking && w->now % 20 == 0)
            phone_speak(w, p);
    }
    world_drain(w);
    /* Nothing is left to do now, or a worker would never rest. */
    if (w->relay->ice)
        assert_true(kg_relay_ice_next_ms(w->relay) > w->now);
    assert_true(kg_secure_next_ms(w->relay) > w->now);
    if (w->now >= w->tick_ms) {
        w->tick_ms = w->now + 500;
        if (w->relay->ice)
            kg_relay_ice_tick(w->relay, &w->limits, w->now);
        const char *why = kg_relay_silence(w->relay, &w->limits, w->now);
        w->silence = why ? why : w->silence;
    }
}

static inline void world_run(struct world *w, int64_t ms)
{
    for (int64_t end = w->now + ms; w->now < end;)
        world_step(w);
}

/* At most ms; the condition must come true. */
#define world_until(w, ms, condition)                                                                        \
    do {                                                                                                     \
        int64_t end_ = (w)->now + (ms);                                                                      \
        while (!(condition) && (w)->now < end_)                                                              \
            world_step(w);                                                                                   \
        assert_true(condition);                                                                              \
    } while (0)

/* ---- phones ---- */

static inline void phone_credentials(struct vphone *p, const char *ufrag)
{
    snprintf(p->ufrag, sizeof p->ufrag, "%s", ufrag);
    snprintf(p->pwd, sizeof p->pwd, "passwordOf%s0123456", ufrag);
}

static inline void phone_describe(struct vphone *p)
{
    uint8_t components = p->mux ? 1 : 2;
    for (uint8_t c = 1; c <= components; c++) {
        struct kg_candidate *k = &p->candidate[c - 1];
        *k = (struct kg_candidate){.type = KG_CANDIDATE_HOST, .component = c, .addr = p->base[c - 1]};
        k->priority = kg_candidate_priority(KG_CANDIDATE_HOST, UINT16_MAX, c);
        snprintf(k->foundation, sizeof k->foundation, "1");
    }
    p->description = (struct kg_ice_description){.ufrag = p->ufrag,
                                                 .pwd = p->pwd,
                                                 .ice2 = true,
                                                 .end_of_candidates = true,
                                                 .candidate_count = components,
                                                 .candidate = p->candidate};
}

static inline void phone_ice(struct world *w, unsigned side, bool controlling, bool mux, const char *ufrag)
{
    struct vphone *p = &w->phone[side];
    struct kg_ice_settings settings = {.controlling = controlling, .random = world_random, .random_ctx = w};
    p->ice = true;
    p->mux = mux;
    p->agent = kg_ice_agent_new(&settings);
    assert_non_null(p->agent);
    phone_credentials(p, ufrag);
    assert_int_equal(kg_ice_add_stream(p->agent, 0, mux ? 1 : 2), 0);
    struct kg_addr none = {0};
    for (uint8_t c = 1; c <= (mux ? 1 : 2); c++)
        assert_int_equal(kg_ice_add_local(p->agent, 0, c, KG_CANDIDATE_HOST, &p->base[c - 1], &p->base[c - 1],
                                          UINT16_MAX, &none),
                         0);
    assert_int_equal(kg_ice_set_local(p->agent, p->ufrag, p->pwd), 0);
    assert_int_equal(kg_ice_start(p->agent, w->now), 0);
    phone_describe(p);
}

/* What the phone on `side` hears of the other end: kedge itself, or the other phone with kedge's ports as
 * relay candidates. */
static inline void phone_hears(struct world *w, unsigned side, bool steered)
{
    struct vphone *p = &w->phone[side], *other = &w->phone[1 - side];
    struct kg_candidate candidate[4];
    uint8_t count = 0;
    for (uint8_t c = 1; c <= (p->mux ? 1 : 2); c++) {
        if (steered)
            candidate[count++] = other->candidate[c - 1];
        enum kg_candidate_type type = steered ? KG_CANDIDATE_RELAY : KG_CANDIDATE_HOST;
        struct kg_candidate *k = &candidate[count++];
        *k = (struct kg_candidate){.type = (uint8_t)type, .component = c, .addr = w->bound[side][c - 1]};
        k->priority = kg_candidate_priority(type, 1, c);
        snprintf(k->foundation, sizeof k->foundation, "k");
    }
    struct kg_ice_description d = {.ufrag = steered ? other->ufrag : w->local[side].ufrag,
                                   .pwd = steered ? other->pwd : w->local[side].pwd,
                                   .ice2 = true,
                                   .end_of_candidates = true,
                                   .candidate_count = count,
                                   .candidate = candidate};
    assert_int_equal(kg_ice_set_remote(p->agent, 0, &d, w->now), 0);
}

/* ---- what signalling tells the relay ---- */

static inline struct kg_media_side world_side(struct world *w, unsigned side, enum kg_ice_use use)
{
    struct vphone *p = &w->phone[side];
    struct kg_media_side out = {.signalling = p->public[0], .stream_count = 1};
    struct kg_media_stream *s = &out.stream[0];
    s->enabled = true;
    strcpy(s->kind, "audio");
    s->rtp = p->base[0];
    s->rtcp = p->mux ? p->base[0] : p->base[1];
    s->rtcp_mux = p->mux;
    s->direction = KG_SENDRECV;
    s->codec_count = 1;
    s->codec[0] = (struct kg_media_codec){.payload_type = 8, .clock_rate = 8000, .name = "PCMA"};
    s->ice_use = (uint8_t)use;
    s->ice = p->ice ? &p->description : NULL;
    s->secure = p->secure;
    return out;
}

/* Either use may be -1: that side says nothing now. */
static inline void world_apply(struct world *w, int use_a, int use_b, bool answered)
{
    int use[2] = {use_a, use_b};
    struct kg_media_side side[2], *told[2] = {NULL, NULL};
    struct kg_ice_change change = {.local = {w->local[0], w->local[1]},
                                   .bound = {{w->bound[0][0]}, {w->bound[1][0]}}};
    for (unsigned i = 0; i < 2; i++) {
        if (use[i] < 0)
            continue;
        side[i] = world_side(w, i, (enum kg_ice_use)use[i]);
        told[i] = &side[i];
        assert_int_equal(kg_relay_describe(w->relay, i, told[i], w->now), 0);
    }
    assert_int_equal(kg_relay_change_ice(w->relay, &change, told, &w->limits, w->now), 0);
    struct kg_secure_change keys = {.identity = {{w->identity}, {w->identity}}};
    assert_int_equal(kg_relay_change_secure(w->relay, &keys, told, w->now), 0);
    kg_relay_set_answered(w->relay, answered, w->now);
    world_drain(w);
}

static inline void world_local(struct world *w, unsigned side, const char *ufrag, bool controlling)
{
    snprintf(w->local[side].ufrag, sizeof w->local[side].ufrag, "%s", ufrag);
    snprintf(w->local[side].pwd, sizeof w->local[side].pwd, "kedgesOwnPassword0%u%s", side, "0123");
    w->local[side].controlling = controlling;
}

/* As at the beginning of an engine's life. */
static inline void world_new_relay(struct world *w)
{
    kg_relay_free(w->relay);
    w->relay = kg_relay_new(NULL, w->now);
    struct kg_stream *stream = kg_stream_new(0, "audio");
    assert_non_null(w->relay);
    assert_non_null(stream);
    kg_relay_add_stream(w->relay, stream);
    for (unsigned i = 0; i < 2; i++)
        stream->leg[i].rtp.fd = stream->leg[i].rtcp.fd = 1000; /* "open" */
}

static inline struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->now = 1000;
    w->random = 7;
    w->limits = (struct kg_limits){
        .latch = {.packets = 4, .window_ms = 3000},
        .silence_timeout_ms = 60000,
        .hold_timeout_ms = 1800000,
        .unanswered_timeout_ms = 180000,
        .ice = {.consent_ms = 5000, .consent_expiry_ms = 30000, .random = world_random, .random_ctx = w},
        .dtls_secret = (const uint8_t *)"the cookies of this test's engine"};
    w->bound[0][0] = at("192.0.2.1:20000");
    w->bound[0][1] = at("192.0.2.1:20001");
    w->bound[1][0] = at("192.0.2.1:30000");
    w->bound[1][1] = at("192.0.2.1:30001");
    static const char *const where[2][2] = {{"198.51.100.1:4000", "198.51.100.1:4001"},
                                            {"203.0.113.2:4000", "203.0.113.2:4001"}};
    for (unsigned side = 0; side < 2; side++) {
        struct vphone *p = &w->phone[side];
        for (unsigned c = 0; c < 2; c++)
            p->base[c] = p->public[c] = at(where[side][c]);
        p->media = w->bound[side][0];
        p->ssrc = 0x1000u + side;
    }
    world_new_relay(w);
    return w;
}

static inline void world_free(struct world *w)
{
    kg_relay_free(w->relay);
    for (unsigned side = 0; side < 2; side++) {
        kg_ice_agent_free(w->phone[side].agent);
        kg_dtls_free(w->phone[side].dtls);
        kg_srtp_free(w->phone[side].srtp);
    }
    kg_dtls_identity_unref(w->identity);
    free(w);
}

/* ---- what tests ask and do ---- */

static inline struct kg_media_stats stats(struct world *w, unsigned side)
{
    struct kg_media_stats out;
    kg_leg_stats(&w->relay->stream[0]->leg[side], w->now, &out);
    return out;
}

/* Media to that side goes to where the phone is now. */
static inline bool sent_to(struct world *w, unsigned side)
{
    struct kg_media_stats s = stats(w, side);
    return kg_addr_equal(&s.remote, &w->phone[side].public[0]);
}

static inline struct kg_stream_ice *ice(struct world *w)
{
    return w->relay->ice->stream[0];
}

/* An address that is nobody's sends this to a port of ours. */
static inline void spoof(struct world *w, unsigned side, const char *from, const uint8_t *data, size_t len)
{
    struct kg_addr source = at(from);
    deliver(w, &source, &w->bound[side][0], data, len);
}

static inline void spoof_rtp(struct world *w, unsigned side, const char *from, uint16_t sequence,
                             uint32_t ssrc)
{
    uint8_t packet[172];
    spoof(w, side, from, packet, rtp_packet(packet, 8, sequence, ssrc));
}

#endif
