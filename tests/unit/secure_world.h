/* A relay with keys and its two phones in virtual time, without sockets: each phone speaks plain RTP, SRTP
 * with keys of SDP, or DTLS-SRTP, with kg_srtp and kg_dtls of its own. A is public at 198.51.100.1, B is
 * behind a NAT at 203.0.113.2 and tells a private address. */
#ifndef KG_TESTS_SECURE_WORLD_H
#define KG_TESTS_SECURE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/relay_ice.h"
#include "media/secure.h"

#define HEARD_MAX 64

struct sphone {
    enum kg_secure_use use;
    bool mux, sealed, feedback;
    struct kg_addr rtp, rtcp; /* where its packets come from */
    struct kg_addr told;      /* in its SDP */
    struct kg_srtp *srtp[2];  /* RTP, RTCP; of SDES both the same */
    struct kg_srtp_keys ours, theirs;
    struct kg_dtls_identity *identity;
    struct kg_dtls *dtls[2];
    bool active; /* it begins the handshake */
    bool silent_dtls;
    uint32_t association;
    uint16_t sequence;
    uint32_t ssrc;
    unsigned heard, heard_rtcp, garbled;
    uint16_t last_sequence;
    uint8_t last_rtcp[256];
    size_t last_rtcp_len;
};

struct sworld {
    int64_t now;
    struct kg_limits limits;
    struct kg_relay *relay;
    struct sphone phone[2];
    struct kg_dtls_identity *identity; /* the engine's */
    unsigned stray;                    /* datagrams to addresses that are nobody's */
    struct kg_addr stray_at;
};

static const uint8_t sworld_secret[32] = {1, 2, 3};

static inline struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static inline struct kg_srtp_keys some_keys(uint8_t seed, enum kg_srtp_suite suite)
{
    struct kg_srtp_keys keys = {.suite = (uint8_t)suite, .count = 1};
    for (size_t i = 0; i < kg_srtp_suite_key_len(suite); i++)
        keys.key[0].bytes[i] = (uint8_t)(seed + 7 * i);
    return keys;
}

static inline struct kg_leg *leg_of(struct sworld *w, unsigned side)
{
    return &w->relay->stream[0]->leg[side];
}

static inline struct kg_flow *sflow(struct sworld *w, unsigned side, bool rtcp)
{
    return rtcp ? &leg_of(w, side)->rtcp : &leg_of(w, side)->rtp;
}

/* ---- phones hear ---- */

static inline void phone_take(struct sworld *w, struct sphone *p, bool rtcp_port, const uint8_t *data,
                              size_t len)
{
    _Alignas(8) uint8_t bytes[1600];
    memcpy(bytes, data, len);
    if (data[0] >= 20 && data[0] <= 63) {
        struct kg_addr kedge = at("192.0.2.1:20000");
        if (p->dtls[rtcp_port])
            kg_dtls_receive(p->dtls[rtcp_port], data, len, &kedge, kg_addr_len(&kedge), w->now);
        return;
    }
    bool rtcp = data[1] >= 192 && data[1] <= 223;
    if (p->use == KG_SECURE_SDES || p->use == KG_SECURE_DTLS) {
        struct kg_srtp *srtp = p->srtp[rtcp_port];
        enum kg_srtp_result result = srtp == NULL ? KG_SRTP_NO_KEYS
                                     : rtcp       ? kg_srtp_unprotect_rtcp(srtp, bytes, &len, w->now)
                                                  : kg_srtp_unprotect(srtp, bytes, &len, w->now);
        if (result != KG_SRTP_OK) {
            p->garbled++;
            return;
        }
    }
    if (rtcp) {
        struct kg_rtp;
        p->heard_rtcp++;
        memcpy(p->last_rtcp, bytes, len < sizeof p->last_rtcp ? len : sizeof p->last_rtcp);
        p->last_rtcp_len = len;
        return;
    }
    p->last_sequence = (uint16_t)(bytes[2] << 8 | bytes[3]);
    /* what phones say is their sequence number, over and over */
    if (len != 172 || bytes[12] != bytes[3] || bytes[171] != bytes[3])
        p->garbled++;
    else
        p->heard++;
}

static inline void sdeliver(struct sworld *w, const struct kg_addr *to, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < 2; i++) {
        struct sphone *p = &w->phone[i];
        if (kg_addr_equal(to, &p->rtp)) {
            phone_take(w, p, false, data, len);
            return;
        }
        if (kg_addr_equal(to, &p->rtcp)) {
            phone_take(w, p, true, data, len);
            return;
        }
    }
    w->stray++;
    w->stray_at = *to;
}

/* ---- the relay speaks ---- */

static inline void sworld_drain(struct sworld *w)
{
    struct kg_secure_out out;
    for (int i = 0; i < 100 && kg_secure_poll(w->relay, &w->limits, w->now, &out); i++)
        sdeliver(w, &out.to, out.data, out.len);
    w->relay->touched = false;
}

/* Returns true if the relay passed it on. */
static inline bool to_relay(struct sworld *w, unsigned side, bool rtcp_port, const struct kg_addr *from,
                            const uint8_t *data, size_t len)
{
    _Alignas(8) uint8_t bytes[1600];
    memcpy(bytes, data, len);
    struct kg_datagram d = {.data = bytes, .len = len, .room = sizeof bytes, .source = from};
    const struct kg_addr *to = NULL;
    struct kg_flow *out = kg_relay_packet(sflow(w, side, rtcp_port), &d, &w->limits, w->now * 1000, &to);
    if (out) {
        struct kg_addr where = *to;
        kg_relay_sent(out, d.to, bytes, d.len);
        sdeliver(w, &where, bytes, d.len);
    }
    sworld_drain(w);
    return out != NULL;
}

/* ---- phones speak ---- */

static inline size_t rtp_of(struct sphone *p, uint8_t *out)
{
    uint16_t sequence = p->sequence++;
    memset(out, sequence & 0xff, 172);
    out[0] = 0x80;
    out[1] = 8;
    out[2] = (uint8_t)(sequence >> 8);
    out[3] = (uint8_t)sequence;
    memset(out + 4, 0, 4);
    for (int i = 0; i < 4; i++)
        out[8 + i] = (uint8_t)(p->ssrc >> (24 - 8 * i));
    return 172;
}

static inline size_t seal(struct sphone *p, bool rtcp_port, bool rtcp, uint8_t *data, size_t len)
{
    if (p->use != KG_SECURE_SDES && p->use != KG_SECURE_DTLS)
        return len;
    enum kg_srtp_result result = rtcp ? kg_srtp_protect_rtcp(p->srtp[rtcp_port], data, &len, 1600)
                                      : kg_srtp_protect(p->srtp[rtcp_port], data, &len, 1600);
    assert_int_equal(result, KG_SRTP_OK);
    return len;
}

static inline bool phone_talks(struct sworld *w, unsigned side)
{
    _Alignas(8) uint8_t data[1600];
    struct sphone *p = &w->phone[side];
    size_t len = seal(p, false, false, data, rtp_of(p, data));
    w->now += 20;
    return to_relay(w, side, false, &p->rtp, data, len);
}

static inline bool phone_reports(struct sworld *w, unsigned side, const uint8_t *compound, size_t len)
{
    _Alignas(8) uint8_t data[1600];
    struct sphone *p = &w->phone[side];
    memcpy(data, compound, len);
    len = seal(p, !p->mux, true, data, len);
    return to_relay(w, side, !p->mux, p->mux ? &p->rtp : &p->rtcp, data, len);
}

/* Handshake messages both ways until nobody has any. */
static inline void shake_hands(struct sworld *w)
{
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    bool more = true;
    sworld_drain(w);
    for (int i = 0; more && i < 50; i++) {
        more = false;
        for (unsigned n = 0; n < 4; n++) {
            struct sphone *p = &w->phone[n / 2];
            unsigned c = n % 2;
            while (p->dtls[c] && kg_dtls_poll(p->dtls[c], w->now, data, &len)) {
                more = true;
                if (!p->silent_dtls)
                    to_relay(w, n / 2, c == 1, c == 1 ? &p->rtcp : &p->rtp, data, len);
            }
        }
    }
    for (unsigned n = 0; n < 4; n++) {
        struct sphone *p = &w->phone[n / 2];
        struct kg_srtp_keys send, receive;
        if (p->dtls[n % 2] && kg_dtls_keys(p->dtls[n % 2], &send, &receive)) {
            kg_srtp_begin_anew(p->srtp[n % 2]);
            kg_srtp_set_send(p->srtp[n % 2], &send, w->now);
            kg_srtp_set_receive(p->srtp[n % 2], &receive, w->now);
        }
    }
}

/* ---- signalling ---- */

static inline struct kg_media_secure secure_of(const struct sworld *w, unsigned side)
{
    const struct sphone *p = &w->phone[side];
    struct kg_media_secure s = {.use = (uint8_t)p->use, .sealed = p->sealed, .feedback = p->feedback};
    if (p->use == KG_SECURE_SDES) {
        s.send = p->theirs;
        s.receive = p->ours;
    } else if (p->use == KG_SECURE_DTLS) {
        s.setup = p->active ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE;
        s.fingerprint_count = 1;
        s.fingerprint[0] = *kg_dtls_identity_fingerprint(p->identity);
        s.ours = *kg_dtls_identity_fingerprint(w->identity);
        s.association = p->association;
    }
    return s;
}

static inline struct kg_media_side side_of(const struct sworld *w, unsigned side,
                                           const struct kg_media_secure *secure)
{
    const struct sphone *p = &w->phone[side];
    struct kg_media_side out = {.signalling = p->rtp, .stream_count = 1};
    struct kg_media_stream *s = &out.stream[0];
    s->enabled = true;
    strcpy(s->kind, "audio");
    s->rtp = s->rtcp = p->told;
    s->rtcp_mux = p->mux;
    if (!p->mux)
        kg_addr_set_port(&s->rtcp, (uint16_t)(kg_addr_port(&p->told) + 1));
    s->direction = KG_SENDRECV;
    s->codec_count = 1;
    s->codec[0] = (struct kg_media_codec){.payload_type = 8, .clock_rate = 8000, .name = "PCMA"};
    s->secure = secure;
    return out;
}

static inline void sworld_tell(struct sworld *w, unsigned side, const struct kg_media_secure *secure,
                               bool restored)
{
    struct kg_media_side what = side_of(w, side, secure);
    struct kg_media_side *told[2] = {side == 0 ? &what : NULL, side == 1 ? &what : NULL};
    struct kg_secure_change change = {.restored = restored};
    const struct kg_fingerprint *ours = kg_dtls_identity_fingerprint(w->identity);
    if (secure && memcmp(secure->ours.bytes, ours->bytes, ours->len) == 0)
        change.identity[side][0] = w->identity;
    assert_int_equal(kg_relay_describe(w->relay, (enum kg_side)side, &what, w->now), 0);
    assert_int_equal(kg_relay_change_secure(w->relay, &change, told, w->now), 0);
    sworld_drain(w);
}

static inline void sworld_apply(struct sworld *w, unsigned side)
{
    struct kg_media_secure secure = secure_of(w, side);
    sworld_tell(w, side, &secure, false);
}

/* ---- what it knows ---- */

static inline void assert_nothing_learnt(struct sworld *w, unsigned side)
{
    const struct kg_leg *leg = leg_of(w, side);
    assert_int_equal(leg->rtp.latch.proof, KG_PROOF_NONE);
    assert_int_equal(leg->rtp.latch.state, KG_LATCH_OPEN);
    assert_false(kg_addr_is_set(&leg->rtp.latch.doubt));
    assert_int_equal(leg->packets_in, 0);
    assert_false(leg->quality.begun);
    assert_int_equal(leg->last_packet_ms, 0);
    assert_int_equal(leg->rtt_us, -1);
}

/* ---- construction ---- */

static inline void phone_keys(struct sworld *w, unsigned side, uint8_t seed)
{
    struct sphone *p = &w->phone[side];
    static const enum kg_srtp_suite suite[2] = {KG_SRTP_AES_CM_128_SHA1_80, KG_SRTP_AEAD_AES_256_GCM};
    p->ours = some_keys((uint8_t)(seed + side), suite[side]);
    p->theirs = some_keys((uint8_t)(seed + 100 + side), suite[side]);
    assert_int_equal(kg_srtp_set_send(p->srtp[0], &p->ours, w->now), 0);
    assert_int_equal(kg_srtp_set_receive(p->srtp[0], &p->theirs, w->now), 0);
}

static inline void phone_dtls(struct sworld *w, unsigned side)
{
    struct sphone *p = &w->phone[side];
    for (unsigned c = 0; c < 2; c++) {
        kg_dtls_free(p->dtls[c]);
        p->dtls[c] = NULL;
        if (c == 1 && p->mux)
            continue;
        p->dtls[c] = kg_dtls_new(&(struct kg_dtls_settings){
            .identity = p->identity, .active = p->active, .secret = sworld_secret});
        assert_non_null(p->dtls[c]);
        kg_dtls_expect(p->dtls[c], kg_dtls_identity_fingerprint(w->identity), 1);
        kg_dtls_start(p->dtls[c], w->now);
    }
}

static inline void phone_make(struct sworld *w, unsigned side, enum kg_secure_use use)
{
    struct sphone *p = &w->phone[side];
    p->use = use;
    p->ssrc = 0x1000 + side;
    p->active = true;
    p->srtp[0] = kg_srtp_new();
    p->srtp[1] = use == KG_SECURE_DTLS ? kg_srtp_new() : p->srtp[0];
    if (use == KG_SECURE_SDES)
        phone_keys(w, side, 1);
    if (use == KG_SECURE_DTLS)
        p->identity = kg_dtls_identity_new();
}

static inline void sworld_new_relay(struct sworld *w)
{
    kg_relay_free(w->relay);
    w->relay = kg_relay_new(NULL, w->now);
    struct kg_stream *stream = kg_stream_new(0, "audio");
    assert_non_null(stream);
    kg_relay_add_stream(w->relay, stream);
    for (unsigned i = 0; i < 2; i++)
        stream->leg[i].rtp.fd = stream->leg[i].rtcp.fd = 1000; /* "open" */
    kg_relay_set_answered(w->relay, true, w->now);
}

static inline struct sworld *sworld_new(enum kg_secure_use a, enum kg_secure_use b)
{
    struct sworld *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_int_equal(kg_srtp_init(), 0);
    w->now = 1000;
    w->limits = (struct kg_limits){.latch = {.packets = 4, .window_ms = 3000}, .dtls_secret = sworld_secret};
    w->identity = kg_dtls_identity_new();
    w->phone[0].rtp = w->phone[0].told = at("198.51.100.1:4000");
    w->phone[0].rtcp = at("198.51.100.1:4001");
    w->phone[1].rtp = at("203.0.113.2:40000");
    w->phone[1].rtcp = at("203.0.113.2:40007");
    w->phone[1].told = at("192.168.0.2:4000");
    phone_make(w, 0, a);
    phone_make(w, 1, b);
    sworld_new_relay(w);
    return w;
}

static inline void sworld_free(struct sworld *w)
{
    for (unsigned i = 0; i < 2; i++) {
        struct sphone *p = &w->phone[i];
        if (p->srtp[1] != p->srtp[0])
            kg_srtp_free(p->srtp[1]);
        kg_srtp_free(p->srtp[0]);
        kg_dtls_free(p->dtls[0]);
        kg_dtls_free(p->dtls[1]);
        kg_dtls_identity_unref(p->identity);
    }
    kg_dtls_identity_unref(w->identity);
    kg_relay_free(w->relay);
    free(w);
}

/* Both sides described, handshakes done, and each has said a few words. */
static inline void sworld_connect(struct sworld *w)
{
    for (unsigned i = 0; i < 2; i++)
        if (w->phone[i].use == KG_SECURE_DTLS)
            phone_dtls(w, i);
    sworld_apply(w, 0);
    sworld_apply(w, 1);
    shake_hands(w);
    for (unsigned i = 0; i < 12; i++)
        phone_talks(w, i % 2);
}

#endif
