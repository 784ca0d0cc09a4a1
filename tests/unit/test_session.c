/* One session's packet side without sockets: where packets go, what is counted, when it falls silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/relay.h"

static const struct kg_limits limits = {
    .latch = {.packets = 4, .window_ms = 3000},
    .silence_timeout_ms = 60000,
    .hold_timeout_ms = 1800000,
    .unanswered_timeout_ms = 180000,
};

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static struct kg_media_side side_at(const char *rtp, const char *signalling, const char *kind)
{
    struct kg_media_side side = {.signalling = at(signalling), .stream_count = 1};
    struct kg_media_stream *s = &side.stream[0];
    s->enabled = true;
    snprintf(s->kind, sizeof s->kind, "%s", kind);
    s->rtp = s->rtcp = at(rtp);
    kg_addr_set_port(&s->rtcp, (uint16_t)(kg_addr_port(&s->rtp) + 1));
    s->direction = KG_SENDRECV;
    s->codec_count = 1;
    s->codec[0] = (struct kg_media_codec){.payload_type = 8, .clock_rate = 8000, .name = "PCMA"};
    return side;
}

/* A is public at 198.51.100.1:4000, B is behind a NAT at 203.0.113.2. */
static struct kg_relay *make(const char *kind, int64_t now_ms)
{
    struct kg_relay *relay = kg_relay_new(NULL, now_ms);
    struct kg_stream *stream = kg_stream_new(0, kind);
    assert_non_null(relay);
    assert_non_null(stream);
    kg_relay_add_stream(relay, stream);
    for (int i = 0; i < 2; i++)
        stream->leg[i].rtp.fd = stream->leg[i].rtcp.fd = 1000; /* "open" */
    struct kg_media_side a = side_at("198.51.100.1:4000", "198.51.100.1", kind);
    struct kg_media_side b = side_at("192.168.0.2:4000", "203.0.113.2", kind);
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_A, &a, now_ms), 0);
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &b, now_ms), 0);
    kg_relay_set_answered(relay, true, now_ms);
    return relay;
}

static struct kg_leg *leg(struct kg_relay *relay, enum kg_side side)
{
    return &relay->stream[0]->leg[side];
}

static struct kg_flow *receive(struct kg_flow *in, const void *data, size_t len, const char *source,
                               int64_t now_ms, const char *expected_to)
{
    struct kg_addr from = at(source);
    const struct kg_addr *to = NULL;
    uint8_t bytes[256];
    assert_true(len <= sizeof bytes);
    memcpy(bytes, data, len);
    struct kg_datagram d = {.data = bytes, .len = len, .room = sizeof bytes, .source = &from};
    struct kg_flow *out = kg_relay_packet(in, &d, &limits, now_ms * 1000, &to);
    if (expected_to && out) {
        struct kg_addr want = at(expected_to);
        assert_true(kg_addr_equal(&want, to));
    }
    return out;
}

static const uint8_t rtp[] = {0x80, 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9, 0xd5};
static const uint8_t rr[] = {0x80, 201, 0, 1, 0, 0, 0, 9};

static void test_both_ways_once_both_are_proven(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    /* B has not been heard and its SDP is private: A's packet is counted and ends here */
    assert_null(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1000, NULL));
    assert_int_equal(a->packets_in, 1);
    assert_ptr_equal(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1010, "198.51.100.1:4000"),
                     &a->rtp);
    assert_ptr_equal(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1020, "203.0.113.2:33000"),
                     &b->rtp);
    assert_null(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.66:33000", 1030, NULL));
    assert_int_equal(b->dropped, 1);
    kg_relay_free(relay);
}

static void test_rtcp_follows_the_host_of_latched_rtp(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    assert_null(
        receive(&b->rtcp, rr, sizeof rr, "203.0.113.2:33001", 1000, NULL)); /* RTP is not proven yet */
    receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1010, NULL);
    assert_null(receive(&b->rtcp, rr, sizeof rr, "203.0.113.3:33001", 1020, NULL));
    assert_ptr_equal(receive(&b->rtcp, rr, sizeof rr, "203.0.113.2:59999", 1030, "198.51.100.1:4001"),
                     &a->rtcp);
    assert_int_equal(b->rtcp.latch.state, KG_LATCH_LOCKED);
    assert_null(receive(&b->rtcp, rr, sizeof rr, "203.0.113.2:59998", 1040, NULL));
    assert_ptr_equal(receive(&a->rtcp, rr, sizeof rr, "198.51.100.1:4001", 1050, "203.0.113.2:59999"),
                     &b->rtcp);
    kg_relay_free(relay);
}

static void test_mux_on_one_side_alone(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    struct kg_media_side mux = side_at("192.168.0.2:4000", "203.0.113.2", "audio");
    mux.stream[0].rtcp = mux.stream[0].rtp;
    mux.stream[0].rtcp_mux = true;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &mux, 1000), 0);
    receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1010, NULL);
    assert_ptr_equal(receive(&b->rtp, rr, sizeof rr, "203.0.113.2:33000", 1020, "198.51.100.1:4001"),
                     &a->rtcp);
    assert_ptr_equal(receive(&a->rtcp, rr, sizeof rr, "198.51.100.1:4001", 1030, "203.0.113.2:33000"),
                     &b->rtp);
    kg_relay_free(relay);
}

static void test_muxed_rtcp_does_not_latch(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *b = leg(relay, KG_SIDE_B);
    assert_null(receive(&b->rtp, rr, sizeof rr, "203.0.113.2:33000", 1010, NULL));
    assert_int_equal(b->rtp.latch.proof, KG_PROOF_NONE);
    kg_relay_free(relay);
}

static void test_payload_type_of_either_sdp_latches_and_any_passes_later(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *b = leg(relay, KG_SIDE_B);
    uint8_t other[sizeof rtp];
    memcpy(other, rtp, sizeof rtp);
    other[1] = 96;
    assert_null(receive(&b->rtp, other, sizeof other, "203.0.113.2:33000", 1000, NULL));
    for (int i = 0; i < 4; i++)
        assert_non_null(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1010, NULL));
    assert_non_null(receive(&b->rtp, other, sizeof other, "203.0.113.2:33000", 1020, NULL));
    kg_relay_free(relay);
}

static void test_changing_ssrc_of_the_proven_source_is_fine(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *b = leg(relay, KG_SIDE_B);
    uint8_t packet[sizeof rtp];
    memcpy(packet, rtp, sizeof rtp);
    for (uint8_t i = 0; i < 10; i++) {
        packet[11] = i;
        assert_non_null(receive(&b->rtp, packet, sizeof packet, "203.0.113.2:33000", 1000 + i, NULL));
    }
    assert_int_equal(kg_quality_lost(&b->quality), 0);
    kg_relay_free(relay);
}

static void test_rejected_line_carries_nothing(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A);
    struct kg_media_side b = side_at("203.0.113.2:4000", "203.0.113.2", "audio");
    b.stream[0].enabled = false;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &b, 1000), 0);
    assert_null(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1010, NULL));
    kg_relay_free(relay);
}

static void test_image_line_relays_any_payload_from_a_proven_source(void **state)
{
    (void)state;
    struct kg_relay *relay = make("image", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    static const uint8_t udptl[] = {0, 1, 4, 0xff, 0xc0, 0x03};
    assert_ptr_equal(receive(&b->rtp, udptl, sizeof udptl, "203.0.113.2:4000", 1000, "198.51.100.1:4000"),
                     &a->rtp);
    assert_null(receive(&a->rtp, udptl, sizeof udptl, "203.0.113.66:4000", 1000, NULL));
    kg_relay_free(relay);
}

/* A fax machine answered: a re-INVITE makes the audio line an image line, and a refusal makes it audio again.
 */
static void test_line_that_becomes_an_image_line(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    static const uint8_t udptl[] = {0, 1, 4, 0xff, 0xc0, 0x03};
    struct kg_media_side fax = side_at("203.0.113.2:4000", "203.0.113.2", "image");
    fax.stream[0].codec_count = 0;
    assert_non_null(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:4000", 1000, NULL));
    assert_null(receive(&b->rtp, udptl, sizeof udptl, "203.0.113.2:4000", 1010, NULL));
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &fax, 1020), 0);
    assert_ptr_equal(receive(&b->rtp, udptl, sizeof udptl, "203.0.113.2:4000", 1030, "198.51.100.1:4000"),
                     &a->rtp);
    assert_null(receive(&b->rtp, udptl, sizeof udptl, "203.0.113.66:4000", 1030, NULL));
    struct kg_media_side audio = side_at("203.0.113.2:4000", "203.0.113.2", "audio");
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &audio, 1040), 0);
    assert_null(receive(&b->rtp, udptl, sizeof udptl, "203.0.113.2:4000", 1050, NULL));
    assert_non_null(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:4000", 1050, NULL));
    kg_relay_free(relay);
}

static void test_trusted_side_is_sent_to_before_it_spoke(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    struct kg_media_side pbx =
        side_at("10.1.1.5:20000", "10.1.1.4", "audio"); /* its media server is another host */
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &pbx, 1000), 0);
    assert_null(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1010, NULL));
    pbx.trusted = true;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &pbx, 1020), 0);
    assert_ptr_equal(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1030, "10.1.1.5:20000"), &b->rtp);
    kg_relay_free(relay);
}

/* RFC 3550 6.4.1: B's report on A's SR gives B's round trip to us: arrival - passing - DLSR. */
static void test_round_trip_from_reports(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1000, NULL);
    uint8_t sr[28] = {0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0x11, 0x22, 0x33, 0x44, 0, 0};
    assert_null(
        receive(&a->rtcp, sr, sizeof sr, "198.51.100.1:4001", 2000, NULL)); /* B's RTCP port is not known */
    uint8_t report[32] = {0x81, 201, 0, 7, 0, 0, 0, 2, 0, 0, 0, 1};
    memcpy(report + 24, "\x11\x22\x33\x44", 4);
    memcpy(report + 28, "\x00\x00\x80\x00", 4); /* held for 0.5 s */
    assert_non_null(receive(&b->rtcp, report, sizeof report, "203.0.113.2:33001", 2540, NULL));
    struct kg_media_stats stats;
    kg_leg_stats(b, 2600, &stats);
    assert_int_equal((int)(stats.rtt_ms + 0.5), 40);
    kg_leg_stats(a, 2600, &stats);
    assert_true(stats.rtt_ms < 0);
    kg_relay_free(relay);
}

static void test_silence_in_talk(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A);
    assert_null(kg_relay_silence(relay, &limits, 60999));
    receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 50000, NULL);
    receive(&a->rtp, rtp, sizeof rtp, "203.0.113.66:4000", 90000, NULL); /* a stranger keeps no call alive */
    assert_null(kg_relay_silence(relay, &limits, 109999));
    assert_non_null(kg_relay_silence(relay, &limits, 110000));
    assert_null(kg_relay_silence(relay, &limits, 110001)); /* once */
    receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 120000, NULL);
    assert_null(kg_relay_silence(relay, &limits, 120001));
    assert_non_null(kg_relay_silence(relay, &limits, 180000));
    kg_relay_free(relay);
}

static void test_silence_on_hold_and_before_answer(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 0);
    struct kg_media_side hold = side_at("198.51.100.1:4000", "198.51.100.1", "audio");
    hold.stream[0].direction = KG_SENDONLY;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_A, &hold, 50000), 0);
    assert_null(kg_relay_silence(relay, &limits, 1849999));
    assert_non_null(strstr(kg_relay_silence(relay, &limits, 1850000), "hold"));
    hold.stream[0].direction = KG_SENDRECV;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_A, &hold, 1850000), 0);
    assert_null(kg_relay_silence(relay, &limits, 1909999));
    assert_non_null(kg_relay_silence(relay, &limits, 1910000));
    kg_relay_free(relay);

    relay = make("audio", 0);
    relay->answered = false;
    receive(&leg(relay, KG_SIDE_A)->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 179000, NULL);
    assert_null(kg_relay_silence(relay, &limits, 179999));
    assert_non_null(strstr(kg_relay_silence(relay, &limits, 180000), "answered"));
    kg_relay_free(relay);
}

/* RFC 2543 hold: c=0.0.0.0 opens nothing to another port of the phone's host, and forgets nothing. */
static void test_old_notation_of_hold_says_nothing_new(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_leg *a = leg(relay, KG_SIDE_A), *b = leg(relay, KG_SIDE_B);
    for (int i = 0; i < 4; i++)
        receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33000", 1000, NULL);
    struct kg_media_side hold = side_at("0.0.0.0:4000", "203.0.113.2", "audio");
    hold.stream[0].direction = KG_INACTIVE;
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_B, &hold, 1010), 0);
    assert_true(relay->on_hold);
    assert_null(receive(&b->rtp, rtp, sizeof rtp, "203.0.113.2:33002", 1020, NULL));
    assert_null(
        receive(&b->rtp, rtp, sizeof rtp, "192.168.0.2:9999", 1020, NULL)); /* its SDP host, private */
    assert_ptr_equal(receive(&a->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1030, "203.0.113.2:33000"),
                     &b->rtp);
    kg_relay_free(relay);
}

static void test_description_with_fewer_lines_disables_the_rest(void **state)
{
    (void)state;
    struct kg_relay *relay = make("audio", 1000);
    struct kg_media_side nothing = {.signalling = at("198.51.100.1:5060")};
    assert_int_equal(kg_relay_describe(relay, KG_SIDE_A, &nothing, 1000), 0);
    assert_null(receive(&leg(relay, KG_SIDE_A)->rtp, rtp, sizeof rtp, "198.51.100.1:4000", 1010, NULL));
    kg_relay_free(relay);
}

static void test_a_call_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct kg_relay) + sizeof(struct kg_stream) < 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_once_both_are_proven),
        cmocka_unit_test(test_rtcp_follows_the_host_of_latched_rtp),
        cmocka_unit_test(test_mux_on_one_side_alone),
        cmocka_unit_test(test_muxed_rtcp_does_not_latch),
        cmocka_unit_test(test_payload_type_of_either_sdp_latches_and_any_passes_later),
        cmocka_unit_test(test_changing_ssrc_of_the_proven_source_is_fine),
        cmocka_unit_test(test_rejected_line_carries_nothing),
        cmocka_unit_test(test_image_line_relays_any_payload_from_a_proven_source),
        cmocka_unit_test(test_line_that_becomes_an_image_line),
        cmocka_unit_test(test_trusted_side_is_sent_to_before_it_spoke),
        cmocka_unit_test(test_round_trip_from_reports),
        cmocka_unit_test(test_silence_in_talk),
        cmocka_unit_test(test_silence_on_hold_and_before_answer),
        cmocka_unit_test(test_old_notation_of_hold_says_nothing_new),
        cmocka_unit_test(test_description_with_fewer_lines_disables_the_rest),
        cmocka_unit_test(test_a_call_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
