/* Lines that share a transport on one side and have their own on the other (RFC 9143): A bundles audio and
 * video with SRTP, B has two plain ports. */
#include "tests/unit/secure_world.h"

#include "media/bundle.h"

enum { AUDIO, VIDEO };

struct bundled {
    struct kg_relay *relay;
    struct kg_limits limits;
    struct kg_srtp *phone; /* A's */
    struct kg_srtp_keys ours, theirs;
    struct kg_addr a, b[2];
    int64_t now;
    uint16_t sequence;
    /* the latest packet that left, opened if it is A's */
    struct kg_flow *out;
    struct kg_addr to;
    _Alignas(8) uint8_t bytes[1600];
    size_t len;
};

static struct kg_media_stream line(const char *kind, uint8_t type, const struct kg_addr *rtp)
{
    struct kg_media_stream s = {
        .enabled = true, .direction = KG_SENDRECV, .codec_count = 1, .rtp = *rtp, .rtcp = *rtp};
    snprintf(s.kind, sizeof s.kind, "%s", kind);
    s.codec[0] = (struct kg_media_codec){.payload_type = type, .clock_rate = 8000, .name = "X"};
    s.rtcp_mux = true;
    return s;
}

/* with: bundle of the second line. */
static void describe_a(struct bundled *w, uint8_t video_type, uint8_t with)
{
    struct kg_media_secure keys = {
        .use = KG_SECURE_SDES, .feedback = true, .send = w->theirs, .receive = w->ours};
    struct kg_media_side side = {.signalling = w->a, .stream_count = 2};
    side.stream[AUDIO] = line("audio", 0, &w->a);
    side.stream[VIDEO] = line("video", video_type, &w->a);
    for (unsigned i = 0; i < 2; i++) {
        side.stream[i].secure = &keys;
        side.stream[i].mid_extension = 4;
        snprintf(side.stream[i].mid, sizeof side.stream[i].mid, "%u", i);
    }
    side.stream[VIDEO].bundle = with;
    struct kg_media_side *sides[2] = {&side, NULL};
    assert_int_equal(kg_relay_describe(w->relay, KG_SIDE_A, &side, w->now), 0);
    assert_int_equal(kg_relay_change_secure(w->relay, NULL, sides, w->now), 0);
}

static struct bundled *world(uint8_t video_type)
{
    assert_int_equal(kg_srtp_init(), 0);
    struct bundled *w = calloc(1, sizeof *w);
    w->now = 1000;
    w->limits.latch = (struct kg_latch_limits){.packets = 4, .window_ms = 3000};
    w->a = at("198.51.100.1:5000");
    w->b[AUDIO] = at("203.0.113.2:6000");
    w->b[VIDEO] = at("203.0.113.2:6002");
    w->ours = some_keys(3, KG_SRTP_AEAD_AES_128_GCM);
    w->theirs = some_keys(9, KG_SRTP_AEAD_AES_128_GCM);
    w->phone = kg_srtp_new();
    kg_srtp_set_send(w->phone, &w->ours, w->now);
    kg_srtp_set_receive(w->phone, &w->theirs, w->now);
    w->relay = kg_relay_new(NULL, w->now);
    for (uint8_t i = 0; i < 2; i++) {
        struct kg_stream *stream = kg_stream_new(i, i ? "video" : "audio");
        kg_relay_add_stream(w->relay, stream);
        for (unsigned s = 0; s < 2; s++)
            stream->leg[s].rtp.fd = stream->leg[s].rtcp.fd = 1;
    }
    struct kg_media_secure plain = {.use = KG_SECURE_PLAIN, .feedback = true};
    struct kg_media_side side = {.signalling = w->b[0], .stream_count = 2};
    side.stream[AUDIO] = line("audio", 0, &w->b[AUDIO]);
    side.stream[VIDEO] = line("video", video_type, &w->b[VIDEO]);
    side.stream[AUDIO].secure = side.stream[VIDEO].secure = &plain;
    struct kg_media_side *sides[2] = {NULL, &side};
    assert_int_equal(kg_relay_describe(w->relay, KG_SIDE_B, &side, w->now), 0);
    assert_int_equal(kg_relay_change_secure(w->relay, NULL, sides, w->now), 0);
    describe_a(w, video_type, 1);
    return w;
}

static void world_free(struct bundled *w)
{
    kg_srtp_free(w->phone);
    kg_relay_free(w->relay);
    free(w);
}

/* mid: "": without the extension; profile 0xbede or 0x1000. */
static size_t rtp(struct bundled *w, uint8_t *out, uint8_t type, uint32_t ssrc, const char *mid,
                  unsigned profile)
{
    size_t at_byte = 12;
    memset(out, 0, 200);
    out[0] = mid[0] ? 0x90 : 0x80;
    out[1] = type;
    out[3] = (uint8_t)++w->sequence;
    for (int i = 0; i < 4; i++)
        out[8 + i] = (uint8_t)(ssrc >> (24 - 8 * i));
    if (mid[0]) {
        out[12] = (uint8_t)(profile >> 8);
        out[13] = (uint8_t)profile;
        out[15] = 2; /* words: an unknown element of two bytes, then the mid, then padding */
        bool two = profile == 0x1000;
        uint8_t *e = out + 16;
        *e++ = two ? 1 : 0x11;
        if (two)
            *e++ = 2;
        e += 2;
        *e++ = two ? 4 : 0x40;
        if (two)
            *e++ = 1;
        *e++ = (uint8_t)mid[0];
        at_byte = 24;
    }
    memset(out + at_byte, type, 100);
    return at_byte + 100;
}

static bool give(struct bundled *w, struct kg_flow *in, const struct kg_addr *from, size_t len)
{
    const struct kg_addr *to = NULL;
    struct kg_datagram d = {.data = w->bytes, .len = len, .room = sizeof w->bytes, .source = from};
    w->now += 20;
    w->out = kg_relay_packet(in, &d, &w->limits, w->now * 1000, &to);
    w->len = d.len;
    if (w->out == NULL)
        return false;
    w->to = *to;
    kg_relay_sent(w->out, d.to, d.data, d.len);
    return true;
}

static bool a_sends(struct bundled *w, uint8_t type, uint32_t ssrc, const char *mid, unsigned profile)
{
    size_t len = rtp(w, w->bytes, type, ssrc, mid, profile);
    assert_int_equal(kg_srtp_protect(w->phone, w->bytes, &len, sizeof w->bytes), KG_SRTP_OK);
    return give(w, &w->relay->stream[AUDIO]->leg[0].rtp, &w->a, len);
}

static bool b_sends(struct bundled *w, unsigned i, uint8_t type)
{
    size_t len = rtp(w, w->bytes, type, 70 + i, "", 0);
    return give(w, &w->relay->stream[i]->leg[1].rtp, &w->b[i], len);
}

static void assert_left_to(struct bundled *w, unsigned i)
{
    assert_ptr_equal(w->out, &w->relay->stream[i]->leg[1].rtp);
    assert_true(kg_addr_equal(&w->to, &w->b[i]));
}

static void rfc9143_9_2_to_the_line_that_is_meant(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    assert_true(b_sends(w, AUDIO, 0) || w->out == NULL);
    b_sends(w, VIDEO, 96);
    for (unsigned n = 0; n < 10; n++) {
        assert_true(a_sends(w, 0, 11, "0", n % 2 ? 0xbede : 0x1000)); /* by MID */
        assert_left_to(w, AUDIO);
        assert_true(a_sends(w, 96, 12, "1", n % 2 ? 0x1000 : 0xbede));
        assert_left_to(w, VIDEO);
        assert_true(a_sends(w, 0, 21, "", 0)); /* by payload type */
        assert_left_to(w, AUDIO);
        assert_true(a_sends(w, 96, 22, "", 0));
        assert_left_to(w, VIDEO);
    }
    assert_int_equal(w->relay->stream[AUDIO]->leg[0].packets_in, 20);
    assert_int_equal(w->relay->stream[VIDEO]->leg[0].packets_in, 20);
    assert_int_equal(w->relay->stream[VIDEO]->leg[1].packets_out, 20);
    /* the SSRC is known by now, whatever the payload type; a type that nobody has belongs to nobody */
    assert_true(a_sends(w, 13, 12, "", 0));
    assert_left_to(w, VIDEO);
    assert_false(a_sends(w, 99, 33, "", 0));
    assert_false(a_sends(w, 99, 33, "7", 0xbede)); /* a MID of no line */
    assert_true(a_sends(w, 96, 11, "1", 0xbede));  /* the same SSRC says that it is another line's now */
    assert_left_to(w, VIDEO);
    world_free(w);
}

static void types_that_both_lines_have_tell_nothing(void **state)
{
    (void)state;
    struct bundled *w = world(0);
    b_sends(w, AUDIO, 0);
    b_sends(w, VIDEO, 0);
    assert_false(a_sends(w, 0, 41, "", 0));
    assert_true(a_sends(w, 0, 41, "1", 0xbede));
    assert_left_to(w, VIDEO);
    assert_true(a_sends(w, 0, 41, "", 0)); /* browsers leave the MID out once it was heard */
    assert_left_to(w, VIDEO);
    world_free(w);
}

static void both_lines_leave_by_one_socket(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    assert_true(a_sends(w, 0, 11, "0", 0xbede)); /* where A is, is known now */
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned n = 0; n < 5; n++) {
            assert_true(b_sends(w, i, i ? 96 : 0));
            assert_ptr_equal(w->out, &w->relay->stream[AUDIO]->leg[0].rtp);
            assert_true(kg_addr_equal(&w->to, &w->a));
            assert_int_equal(kg_srtp_unprotect(w->phone, w->bytes, &w->len, w->now), KG_SRTP_OK);
            assert_int_equal(w->bytes[1], i ? 96 : 0);
        }
        assert_int_equal(w->relay->stream[i]->leg[0].packets_out, 5);
    }
    struct kg_media_stats stats;
    kg_leg_stats(&w->relay->stream[VIDEO]->leg[0], w->now, &stats);
    assert_int_equal(stats.proof, KG_PROOF_SRTP);
    assert_true(kg_addr_equal(&stats.remote, &w->a));
    assert_int_equal(stats.suite, KG_SRTP_AEAD_AES_128_GCM);
    world_free(w);
}

static void reports_find_their_line(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    a_sends(w, 0, 11, "0", 0xbede);
    a_sends(w, 96, 12, "1", 0xbede);
    b_sends(w, AUDIO, 0);
    b_sends(w, VIDEO, 96);
    uint8_t sr[28] = {0x80, 200, 0, 6, 0, 0, 0, 12};               /* of A's video */
    uint8_t pli[12] = {0x81, 206, 0, 2, 0, 0, 0, 99, 0, 0, 0, 71}; /* about B's video, whose SSRC is 71 */
    const struct {
        const uint8_t *data;
        size_t len;
    } sent[] = {{sr, sizeof sr}, {pli, sizeof pli}};
    for (unsigned n = 0; n < 2; n++) {
        size_t len = sent[n].len;
        memcpy(w->bytes, sent[n].data, len);
        assert_int_equal(kg_srtp_protect_rtcp(w->phone, w->bytes, &len, sizeof w->bytes), KG_SRTP_OK);
        assert_true(give(w, &w->relay->stream[AUDIO]->leg[0].rtp, &w->a, len));
        assert_left_to(w, VIDEO);
        assert_int_equal(w->len, sent[n].len);
    }
    world_free(w);
}

/* The carried line's own sockets believe nobody; when the bundle is given up they serve again. */
static void a_bundle_ends(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    b_sends(w, VIDEO, 96);
    size_t len = rtp(w, w->bytes, 96, 12, "", 0);
    assert_int_equal(kg_srtp_protect(w->phone, w->bytes, &len, sizeof w->bytes), KG_SRTP_OK);
    assert_false(give(w, &w->relay->stream[VIDEO]->leg[0].rtp, &w->a, len));
    describe_a(w, 96, 0);
    len = rtp(w, w->bytes, 96, 12, "", 0);
    assert_int_equal(kg_srtp_protect(w->phone, w->bytes, &len, sizeof w->bytes), KG_SRTP_OK);
    assert_true(give(w, &w->relay->stream[VIDEO]->leg[0].rtp, &w->a, len));
    assert_left_to(w, VIDEO);
    assert_false(a_sends(w, 96, 13, "", 0) && w->out == &w->relay->stream[VIDEO]->leg[1].rtp);
    world_free(w);
}

/* Signalling said of the line that shares the transport that it is in the clear, or nothing at all; or so of
 * the line that lends it: nothing leaves toward A but what its keys seal. */
static void lines_that_differ_in_keys_carry_nothing(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 4; n++) {
        struct bundled *w = world(96);
        struct kg_leg *odd = &w->relay->stream[n < 2 ? VIDEO : AUDIO]->leg[0];
        assert_true(b_sends(w, VIDEO, 96));
        uint8_t use = odd->secure->use;
        odd->secure->use = n % 2 ? KG_SECURE_PLAIN : KG_SECURE_PASS;
        assert_false(b_sends(w, VIDEO, 96));
        odd->secure->use = use;
        assert_true(b_sends(w, VIDEO, 96));
        world_free(w);
    }
}

/* A stranger's packets do not say whose an SSRC is. */
static void strangers_name_no_line(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    struct kg_leg *carrier = &w->relay->stream[AUDIO]->leg[0];
    carrier->secure->use = w->relay->stream[VIDEO]->leg[0].secure->use = KG_SECURE_PLAIN;
    struct kg_addr stranger = at("192.0.2.66:9");
    uint8_t data[200];
    size_t len = rtp(w, data, 96, 41, "1", 0xbede);
    memcpy(w->bytes, data, len);
    assert_false(give(w, &carrier->rtp, &stranger, len));
    assert_int_equal(w->relay->bundle[0]->count, 0);
    memcpy(w->bytes, data, len);
    give(w, &carrier->rtp, &w->a, len);
    assert_int_equal(w->relay->bundle[0]->count, 1);
    world_free(w);
}

/* Extension blocks of every length and content: read within the packet, and whoever is meant is a line or
 * nobody. */
static void extensions_of_every_kind(void **state)
{
    (void)state;
    struct bundled *w = world(96);
    uint32_t seed = 1;
    for (unsigned n = 0; n < 20000; n++) {
        uint8_t *data = malloc(64);
        unsigned words = n % 8;
        memset(data, 0, 64);
        data[0] = 0x90;
        data[1] = (uint8_t)(n % 128);
        data[12] = n % 3 ? 0xbe : 0x10;
        data[13] = n % 3 ? 0xde : 0x00;
        data[15] = (uint8_t)words;
        for (unsigned i = 0; i < 4 * words; i++)
            data[16 + i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
        data = realloc(data, 16 + 4 * words); /* a sanitizer sees what is read behind it */
        struct kg_rtp parsed;
        assert_int_equal(kg_rtp_parse(data, 16 + 4 * words, &parsed), 0);
        struct kg_leg *leg = kg_bundle_rtp(&w->relay->stream[AUDIO]->leg[0], data, &parsed);
        assert_true(leg == NULL || leg == &w->relay->stream[AUDIO]->leg[0] ||
                    leg == &w->relay->stream[VIDEO]->leg[0]);
        free(data);
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc9143_9_2_to_the_line_that_is_meant),
        cmocka_unit_test(types_that_both_lines_have_tell_nothing),
        cmocka_unit_test(both_lines_leave_by_one_socket),
        cmocka_unit_test(lines_that_differ_in_keys_carry_nothing),
        cmocka_unit_test(strangers_name_no_line),
        cmocka_unit_test(reports_find_their_line),
        cmocka_unit_test(a_bundle_ends),
        cmocka_unit_test(extensions_of_every_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
