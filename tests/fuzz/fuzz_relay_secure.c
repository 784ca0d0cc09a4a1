/* A relay with keys under any sequence of descriptions, genuine packets, replays, garbage, handshake messages
 * (whole, lost, said twice, changed), other engine's lives and pauses, from four places on each side. Always:
 * nothing that was not sealed by a phone leaves a leg with keys, and nothing twice; what leaves toward a
 * phone with keys is something that it can read and has not had, so no keystream is used twice; a leg that
 * never was without keys is latched to a place only after a fresh genuine packet, or the phone's handshake,
 * came from there. */
#include <stdlib.h>
#include <string.h>

#include "media/dtls_hello.h"
#include "media/secure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLACES 4
#define SAID   512 /* packets of a run */

static const uint8_t secret[KG_DTLS_SECRET] = {7};

struct phone {
    uint8_t use, key; /* as described; number of its keys */
    bool bare;        /* it was without keys at some time */
    struct kg_srtp *srtp;
    struct kg_dtls *dtls;
    bool dtls_done;
    bool proven[PLACES];
    uint16_t sequence, restarted_at;
    uint32_t association;
    size_t last_len; /* the latest it sent, to be replayed */
    uint8_t last[KG_DTLS_DATAGRAM_MAX];
};

struct world {
    const uint8_t *data;
    size_t left;
    struct kg_limits limits;
    struct kg_relay *relay;
    struct kg_dtls_identity *ours, *theirs;
    struct phone phone[2];
    bool heard[2][SAID]; /* by speaker and number */
    int64_t now_ms;
};

static void require(int truth)
{
    if (!truth)
        abort();
}

static uint8_t next(struct world *w)
{
    if (w->left == 0)
        return 0;
    w->left--;
    return *w->data++;
}

static struct kg_addr addr_of(unsigned side, unsigned place)
{
    static const char *const host[2][PLACES] = {
        {"192.0.2.1", "192.0.2.1", "192.0.2.1", "198.51.100.9"},
        {"203.0.113.2", "203.0.113.2", "203.0.113.2", "198.51.100.9"}};
    struct kg_addr addr;
    require(kg_addr_parse_host(host[side][place], (uint16_t)(1000 + place), &addr) == 0);
    return addr;
}

static bool is_keyed(const struct phone *p)
{
    return p->use == KG_SECURE_SDES || p->use == KG_SECURE_DTLS;
}

/* ---- what the relay sends ---- */

static void hear(struct world *w, unsigned side, const uint8_t *data, size_t len)
{
    struct phone *p = &w->phone[side];
    _Alignas(8) uint8_t clear[2200];
    memcpy(clear, data, len);
    if (data[0] >= 20 && data[0] <= 63 && is_keyed(p)) {
        if (p->dtls)
            kg_dtls_receive(p->dtls, data, len, "kedge", 5, w->now_ms);
        return;
    }
    bool speaker_keyed = is_keyed(&w->phone[1 - side]);
    if (is_keyed(p)) {
        bool reads = kg_srtp_can_receive(p->srtp) && (p->use != KG_SECURE_DTLS || p->dtls_done);
        require(!reads || kg_srtp_unprotect(p->srtp, clear, &len, w->now_ms) == KG_SRTP_OK);
        if (!reads)
            return;
    }
    if (!speaker_keyed)
        return;
    require(len == 16); /* what a phone sealed, once */
    unsigned number = clear[12] | (unsigned)clear[13] << 8;
    /* another engine knows nothing of what was received before it */
    require(number < SAID && (!w->heard[1 - side][number] || number < w->phone[1 - side].restarted_at));
    w->heard[1 - side][number] = true;
}

static void drain(struct world *w)
{
    struct kg_secure_out out;
    for (unsigned i = 0; i < 200 && kg_secure_poll(w->relay, &w->limits, w->now_ms, &out); i++)
        hear(w, out.flow->leg->side, out.data, out.len);
}

static void check_latch(struct world *w, unsigned side)
{
    const struct kg_leg *leg = &w->relay->stream[0]->leg[side];
    const struct phone *p = &w->phone[side];
    if (p->bare || leg->rtp.latch.proof == KG_PROOF_NONE)
        return;
    bool there = false;
    for (unsigned place = 0; place < PLACES; place++) {
        struct kg_addr addr = addr_of(side, place);
        there |= p->proven[place] && kg_addr_equal(&addr, &leg->rtp.latch.remote);
    }
    require(there && leg->rtp.latch.proof == KG_PROOF_SRTP);
}

static bool pass(struct world *w, unsigned side, unsigned place, const uint8_t *data, size_t len)
{
    _Alignas(8) uint8_t bytes[2200];
    struct kg_addr from = addr_of(side, place);
    const struct kg_addr *to;
    memcpy(bytes, data, len);
    struct kg_datagram d = {.data = bytes, .len = len, .room = sizeof bytes, .source = &from};
    struct kg_flow *out =
        kg_relay_packet(&w->relay->stream[0]->leg[side].rtp, &d, &w->limits, w->now_ms * 1000, &to);
    if (out)
        hear(w, 1 - side, bytes, d.len);
    drain(w);
    return out != NULL;
}

/* ---- what happens ---- */

static struct kg_srtp_keys keys_of(unsigned side, unsigned number)
{
    struct kg_srtp_keys keys = {.suite = (uint8_t)(KG_SRTP_AEAD_AES_256_GCM + number % 6), .count = 1};
    memset(keys.key[0].bytes, (int)(1 + 64 * side + number), KG_SRTP_KEY_MAX);
    return keys;
}

static void describe(struct world *w, unsigned side, bool restored)
{
    struct phone *p = &w->phone[side];
    struct kg_media_side what = {.stream_count = 1, .signalling = addr_of(side, 0)};
    struct kg_media_side *told[2] = {side ? NULL : &what, side ? &what : NULL};
    struct kg_media_stream *line = &what.stream[0];
    struct kg_media_secure secure = {.use = p->use,
                                     .setup = KG_SETUP_PASSIVE,
                                     .fingerprint_count = 1,
                                     .fingerprint = {*kg_dtls_identity_fingerprint(w->theirs)},
                                     .ours = *kg_dtls_identity_fingerprint(w->ours),
                                     .association = p->association};
    struct kg_secure_change change = {.restored = restored};
    line->enabled = line->rtcp_mux = true;
    line->direction = KG_SENDRECV;
    line->rtp = line->rtcp = addr_of(side, 1);
    line->secure = &secure;
    if (p->use == KG_SECURE_SDES) {
        secure.send = keys_of(2 + side, p->key);
        secure.receive = keys_of(side, p->key);
        kg_srtp_set_send(p->srtp, &secure.receive, w->now_ms);
        kg_srtp_set_receive(p->srtp, &secure.send, w->now_ms);
    }
    change.identity[side][0] = w->ours;
    p->bare |= !is_keyed(p);
    require(kg_relay_describe(w->relay, (enum kg_side)side, &what, w->now_ms) == 0);
    require(kg_relay_change_secure(w->relay, &change, told, w->now_ms) == 0);
    drain(w);
}

static void new_relay(struct world *w)
{
    struct kg_stream *stream = kg_stream_new(0, "audio");
    kg_relay_free(w->relay);
    w->relay = kg_relay_new(NULL, w->now_ms);
    require(stream && w->relay);
    kg_relay_add_stream(w->relay, stream);
    for (unsigned i = 0; i < 2; i++) {
        stream->leg[i].rtp.fd = stream->leg[i].rtcp.fd = 1000;
        w->phone[i].bare = false;
        memset(w->phone[i].proven, 0, sizeof w->phone[i].proven);
    }
}

/* An SDES call goes on in another engine; one of DTLS waits for a new association. */
static void restart(struct world *w)
{
    new_relay(w);
    for (unsigned side = 0; side < 2; side++) {
        w->phone[side].association++;
        w->phone[side].restarted_at = w->phone[side].sequence;
        w->phone[side].dtls_done = false;
        describe(w, side, true);
    }
}

static void speak(struct world *w, unsigned side, unsigned place)
{
    struct phone *p = &w->phone[side];
    if (p->sequence >= SAID || (is_keyed(p) && !kg_srtp_can_send(p->srtp)))
        return;
    _Alignas(8) uint8_t data[100] = {0x80, 0, (uint8_t)(p->sequence >> 8), (uint8_t)p->sequence};
    data[11] = (uint8_t)(1 + side);
    data[12] = (uint8_t)p->sequence;
    data[13] = (uint8_t)(p->sequence >> 8);
    p->sequence++;
    size_t len = 16;
    require(!is_keyed(p) || kg_srtp_protect(p->srtp, data, &len, sizeof data) == KG_SRTP_OK);
    memcpy(p->last, data, len);
    p->last_len = len;
    p->proven[place] |= is_keyed(p);
    pass(w, side, place, data, len);
}

static void garbage(struct world *w, unsigned side, unsigned place)
{
    uint8_t data[64] = {0};
    size_t len = next(w) % sizeof data;
    for (size_t i = 0; i < len; i++)
        data[i] = next(w);
    bool passed = pass(w, side, place, data, len);
    require(!passed || !is_keyed(&w->phone[side]));
}

static void shake(struct world *w, unsigned side, unsigned place)
{
    struct phone *p = &w->phone[side];
    if (p->use != KG_SECURE_DTLS)
        return;
    if (p->dtls == NULL) {
        p->dtls =
            kg_dtls_new(&(struct kg_dtls_settings){.identity = w->theirs, .active = true, .secret = secret});
        require(p->dtls != NULL);
        kg_dtls_expect(p->dtls, kg_dtls_identity_fingerprint(w->ours), 1);
        kg_dtls_start(p->dtls, w->now_ms);
    }
    uint8_t data[KG_DTLS_DATAGRAM_MAX], what = next(w);
    size_t len;
    for (unsigned i = 0; i < 8 && kg_dtls_poll(p->dtls, w->now_ms, data, &len); i++) {
        if (what & 1 && what >> 5 == i)
            continue;
        if (what & 2 && len > 0)
            data[next(w) % len] ^= (uint8_t)(1 << what % 8);
        p->proven[place] = true;
        for (unsigned n = what & 4 ? 2 : 1; n > 0; n--)
            pass(w, side, place, data, len);
    }
    struct kg_srtp_keys send, receive;
    if (p->dtls_done || !kg_dtls_keys(p->dtls, &send, &receive))
        return;
    p->dtls_done = true;
    kg_srtp_begin_anew(p->srtp);
    kg_srtp_set_send(p->srtp, &send, w->now_ms);
    kg_srtp_set_receive(p->srtp, &receive, w->now_ms);
}

static void change(struct world *w, unsigned side, uint8_t how)
{
    struct phone *p = &w->phone[side];
    if (how & 1) { /* keys that come back after others find no window */
        p->key = (uint8_t)(how >> 4);
        p->restarted_at = p->sequence;
    }
    if (how & 2) { /* a new phone, in effect: nothing of the old one is understood any more */
        p->use = (uint8_t)(how >> 2 & 3);
        kg_dtls_free(p->dtls);
        p->dtls = NULL;
        p->dtls_done = false;
        p->association++;
    }
    describe(w, side, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kg_dtls_identity *ours, *theirs;
    if (ours == NULL) {
        require(kg_srtp_init() == 0);
        ours = kg_dtls_identity_new();
        theirs = kg_dtls_identity_new();
    }
    struct world *w = calloc(1, sizeof *w);
    require(w != NULL);
    *w = (struct world){.data = data, .left = size, .ours = ours, .theirs = theirs, .now_ms = 1000};
    w->limits = (struct kg_limits){.latch = {.packets = 4, .window_ms = 3000}, .dtls_secret = secret};
    new_relay(w);
    for (unsigned side = 0; side < 2; side++) {
        w->phone[side].srtp = kg_srtp_new();
        w->phone[side].use = next(w) & 3;
        describe(w, side, false);
    }
    while (w->left > 0) {
        uint8_t what = next(w);
        unsigned side = what >> 3 & 1, place = what >> 4 & 3;
        struct phone *p = &w->phone[side];
        switch (what & 7) {
        case 0:
        case 1:
            speak(w, side, place);
            break;
        case 2:
            /* hear() says if it was passed twice; where it was not heard, whoever brings it is as good as
             * the phone */
            p->proven[place] |= p->sequence > 0 && !w->heard[side][p->sequence - 1];
            pass(w, side, place, p->last, p->last_len);
            break;
        case 3:
            garbage(w, side, place);
            break;
        case 4:
            shake(w, side, place);
            break;
        case 5:
            w->now_ms += 40 * next(w);
            drain(w);
            break;
        case 6:
            change(w, side, next(w));
            break;
        case 7:
            if (next(w) < 32)
                restart(w);
            break;
        }
        check_latch(w, 0);
        check_latch(w, 1);
    }
    for (unsigned side = 0; side < 2; side++) {
        kg_srtp_free(w->phone[side].srtp);
        kg_dtls_free(w->phone[side].dtls);
    }
    kg_relay_free(w->relay);
    free(w);
    return 0;
}
