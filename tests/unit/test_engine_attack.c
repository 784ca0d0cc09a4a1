/* RTP Bleed and injection (threats.md) against a real engine: nothing is sent to a stranger, nothing of his
 * is relayed. */
#include "tests/unit/media_fixture.h"

#define STRANGER "127.0.0.66"

struct scene {
    struct fixture *f;
    int a, b, stranger;
    struct kg_addr a_at, b_at, stranger_at;
    struct kg_media_side *side_a, *side_b;
    struct kg_addr to_a, to_b; /* the engine's ports for either side */
};

/* B's SDP is known only after the answer. */
static void scene_open(struct scene *s)
{
    s->f = fixture_new();
    s->a = phone_open("127.0.0.1", &s->a_at);
    s->b = phone_open("127.0.0.2", &s->b_at);
    s->stranger = phone_open(STRANGER, &s->stranger_at);
    s->side_a = describe(&s->a_at, "127.0.0.1");
    s->side_b = describe(&s->b_at, "127.0.0.2");
}

static void scene_offer(struct scene *s)
{
    assert_int_equal(apply(s->f, "call", s->side_a, NULL, false, NULL), KG_MEDIA_OK);
    s->to_a = s->f->reply.local[KG_SIDE_A][0].rtp;
    s->to_b = s->f->reply.local[KG_SIDE_B][0].rtp;
}

static void scene_answer(struct scene *s)
{
    assert_int_equal(apply(s->f, "call", NULL, s->side_b, true, NULL), KG_MEDIA_OK);
}

static void scene_close(struct scene *s)
{
    close(s->a);
    close(s->b);
    close(s->stranger);
    free(s->side_a);
    free(s->side_b);
    fixture_free(s->f);
}

/* Valid RTP and RTCP with the stranger's mark to every port of the range. */
static void spray(struct scene *s, int fd)
{
    uint8_t rtp[172], rtcp[8] = {0x80, 201, 0, 1, 0xde, 0xad, 0xbe, 0xef};
    for (unsigned port = s->f->config.media.port_min; port <= s->f->config.media.port_max; port++) {
        struct kg_addr to = at(s->f->host);
        kg_addr_set_port(&to, (uint16_t)port);
        sendto(fd, rtp, rtp_packet(rtp, 0, (uint16_t)port, 0xdeadbeef), 0, &to.sa, kg_addr_len(&to));
        sendto(fd, rtcp, sizeof rtcp, 0, &to.sa, kg_addr_len(&to));
    }
}

/* A and B exchange a packet, so the engine has worked through all that was sent before. Neither hears the
 * stranger. */
static void talk(struct scene *s, uint16_t sequence)
{
    uint8_t heard[256];
    phone_talk(s->a, &s->to_a, sequence, 1);
    phone_talk(s->b, &s->to_b, sequence, 2);
    int from_peer = 0;
    while (from_peer < 2) {
        ssize_t len = phone_hear(from_peer ? s->a : s->b, heard, sizeof heard, WAIT_MS);
        assert_true(len > 0);
        if (len < 12) /* RTCP: the peer's RTCP port may be the port of this socket by chance */
            continue;
        assert_memory_not_equal(heard + 8, "\xde\xad\xbe\xef", 4);
        if (len == 172 && heard[3] == (sequence & 0xff))
            from_peer++;
    }
}

static void assert_silence(int fd)
{
    uint8_t heard[256];
    assert_int_equal(phone_hear(fd, heard, sizeof heard, 0), -1);
}

static uint64_t dropped(struct scene *s, enum kg_side side)
{
    query(s->f, "call");
    return s->f->info.stats[side][0].dropped;
}

static void test_spray_before_during_and_after_answer(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    spray(&s, s.stranger);
    scene_offer(&s);
    spray(&s, s.stranger);
    phone_talk(s.a, &s.to_a, 1, 1); /* early media of A: B is not known, nothing goes anywhere */
    scene_answer(&s);
    spray(&s, s.stranger);
    talk(&s, 2);
    spray(&s, s.stranger);
    talk(&s, 3);
    scene_answer(&s); /* re-INVITE */
    spray(&s, s.stranger);
    talk(&s, 4);
    spray(&s, s.stranger);
    talk(&s, 5);
    assert_silence(s.stranger);
    assert_silence(s.a);
    assert_silence(s.b);
    assert_true(dropped(&s, KG_SIDE_A) >= 8);
    assert_int_equal(s.f->info.stats[KG_SIDE_A][0].packets_in, 5);
    assert_int_equal(s.f->info.stats[KG_SIDE_B][0].packets_in, 4);
    scene_close(&s);
}

/* The same host, another port: before the rightful sender, and after. */
static void test_other_port_of_the_same_host(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    struct kg_addr rogue_at;
    int rogue = phone_open("127.0.0.1", &rogue_at);
    scene_offer(&s);
    scene_answer(&s);
    spray(&s, rogue);
    talk(&s, 1);
    for (int i = 0; i < 5; i++) {
        spray(&s, rogue);
        talk(&s, (uint16_t)(2 + i));
    }
    assert_silence(rogue);
    query(s.f, "call");
    assert_true(kg_addr_equal(&s.f->info.stats[KG_SIDE_A][0].remote, &s.a_at));
    assert_int_equal(s.f->info.stats[KG_SIDE_A][0].packets_in, 6);
    close(rogue);
    scene_close(&s);
}

/* A phone behind a NAT: private SDP. Its NAT's address is believed, and nothing is sent before it spoke. */
static void test_nothing_is_sent_to_an_unproven_sdp_address(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    struct kg_addr victim_at;
    int victim = phone_open("127.0.0.77", &victim_at); /* "my media is over there" */
    s.side_b->stream[0].rtp = victim_at;
    scene_offer(&s);
    scene_answer(&s);
    for (uint16_t i = 0; i < 20; i++)
        phone_talk(s.a, &s.to_a, i, 1);
    phone_talk(s.b, &s.to_b, 1, 2); /* B speaks from its signalling address: latched */
    fixture_until(s.f, s.f->events[KG_MEDIA_LATCHED] == 2);
    talk(&s, 30);
    assert_silence(victim);
    query(s.f, "call");
    assert_int_equal(s.f->info.stats[KG_SIDE_B][0].proof, KG_PROOF_SAME_ADDRESS);
    close(victim);
    scene_close(&s);
}

static void test_wrong_payload_does_not_latch(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    s.side_a->stream[0].rtp = at("192.168.1.5:4000");
    scene_offer(&s);
    scene_answer(&s);
    uint8_t packet[172];
    for (uint16_t i = 0; i < 10; i++) {
        rtp_packet(packet, 55, i, 1); /* not negotiated */
        phone_send(s.a, &s.to_a, packet, sizeof packet);
        packet[0] = 0x40; /* version 1 */
        phone_send(s.a, &s.to_a, packet, sizeof packet);
        phone_send(s.a, &s.to_a, "", 0);
    }
    fixture_until(s.f, dropped(&s, KG_SIDE_A) == 30);
    assert_int_equal(s.f->info.stats[KG_SIDE_A][0].proof, KG_PROOF_NONE);
    assert_silence(s.b);
    talk(&s, 11);
    scene_close(&s);
}

/* AST-2017-008 */
static void test_truncated_rtcp_is_dropped(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    scene_offer(&s);
    scene_answer(&s);
    talk(&s, 1);
    static const uint8_t report[28] = {0x80, 200, 0, 6, 0, 0, 0, 1};
    uint64_t before = dropped(&s, KG_SIDE_A);
    for (size_t len = 2; len < sizeof report; len++)
        phone_send(s.a, &s.to_a, report, len); /* RTCP on the RTP port */
    fixture_until(s.f, dropped(&s, KG_SIDE_A) == before + 26);
    assert_silence(s.b);
    talk(&s, 2);
    scene_close(&s);
}

/* RFC 7983: each first byte at each short length, from the proven source and from a stranger. */
static void test_every_first_byte_at_short_lengths(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    scene_offer(&s);
    scene_answer(&s);
    talk(&s, 1);
    uint8_t packet[20] = {0}, heard[256];
    for (unsigned first = 0; first < 256; first++) {
        packet[0] = (uint8_t)first;
        for (size_t len = 0; len <= sizeof packet; len++) {
            phone_send(s.a, &s.to_a, packet, len);
            phone_send(s.stranger, &s.to_b, packet, len);
        }
        talk(&s, (uint16_t)(2 + first)); /* lets no socket buffer overflow */
        while (phone_hear(s.b, heard, sizeof heard, 0) >= 0)
            assert_true(heard[0] >> 6 == 2); /* only what is RTP */
    }
    assert_silence(s.stranger);
    assert_silence(s.a);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spray_before_during_and_after_answer),
        cmocka_unit_test(test_other_port_of_the_same_host),
        cmocka_unit_test(test_nothing_is_sent_to_an_unproven_sdp_address),
        cmocka_unit_test(test_wrong_payload_does_not_latch),
        cmocka_unit_test(test_truncated_rtcp_is_dropped),
        cmocka_unit_test(test_every_first_byte_at_short_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
