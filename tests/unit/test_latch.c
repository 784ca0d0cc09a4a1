/* Latching: who is believed (media/README.md). Every time is handed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "media/latch.h"

static const struct kg_latch_limits limits = {.packets = 4, .window_ms = 3000};

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static enum kg_latch_verdict hear(struct kg_latch *latch, const struct kg_latch_rules *rules,
                                  const char *source, int64_t now_ms)
{
    struct kg_addr from = at(source);
    return kg_latch_packet(latch, rules, &limits, &from, true, now_ms);
}

/* A phone behind a NAT: private SDP, signalling from the NAT's public address. */
static struct kg_latch_rules behind_nat(void)
{
    return (struct kg_latch_rules){.sdp = at("192.168.1.20:5004"), .host = at("198.51.100.7:0")};
}

/* A phone on a public address. */
static struct kg_latch_rules in_public(void)
{
    return (struct kg_latch_rules){.sdp = at("198.51.100.7:5004"),
                                   .host = at("198.51.100.7:0"),
                                   .sdp_host_plausible = true,
                                   .send_early = true};
}

static void assert_target(const struct kg_latch *latch, const struct kg_latch_rules *rules,
                          const char *expected)
{
    const struct kg_addr *target = kg_latch_target(latch, rules);
    if (expected == NULL) {
        assert_null(target);
        return;
    }
    struct kg_addr want = at(expected);
    assert_non_null(target);
    assert_true(kg_addr_equal(target, &want));
}

static void test_ranks(void **state)
{
    (void)state;
    struct kg_latch_rules nat = behind_nat(), open = in_public();
    struct kg_addr sdp = at("192.168.1.20:5004"), lan = at("192.168.1.20:6000"),
                   wan = at("198.51.100.7:40000"), stranger = at("203.0.113.66:5004"), none = {0},
                   multicast = at("224.0.0.1:5004");
    assert_int_equal(kg_latch_rank(&nat, &sdp), KG_PROOF_SDP);
    assert_int_equal(kg_latch_rank(&nat, &lan), KG_PROOF_NONE); /* a private host proves nothing by itself */
    assert_int_equal(kg_latch_rank(&nat, &wan), KG_PROOF_SAME_ADDRESS);
    assert_int_equal(kg_latch_rank(&nat, &stranger), KG_PROOF_NONE);
    assert_int_equal(kg_latch_rank(&open, &wan), KG_PROOF_SAME_ADDRESS);
    nat.first_packets = true;
    assert_int_equal(kg_latch_rank(&nat, &stranger), KG_PROOF_FIRST_PACKETS);
    assert_int_equal(kg_latch_rank(&nat, &none), KG_PROOF_NONE);
    assert_int_equal(kg_latch_rank(&nat, &multicast), KG_PROOF_NONE);
}

static void test_nothing_is_sent_before_proof(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat(), open = in_public();
    assert_target(&latch, &nat, NULL);
    assert_target(&latch, &open, "198.51.100.7:5004");
    open.sdp = at("0.0.0.0:5004"); /* the old notation of hold */
    assert_target(&latch, &open, NULL);
}

static void test_first_packet_of_a_phone_behind_nat_latches_at_once(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat();
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40000", 100), KG_LATCH_MOVED);
    assert_target(&latch, &nat, "198.51.100.7:40000");
    assert_int_equal(latch.proof, KG_PROOF_SAME_ADDRESS);
}

static void test_lock_after_four_packets_or_three_seconds(void **state)
{
    (void)state;
    struct kg_latch_rules nat = behind_nat();
    struct kg_latch latch = {0};
    for (int i = 0; i < 4; i++) {
        assert_int_not_equal(latch.state, KG_LATCH_LOCKED);
        assert_int_not_equal(hear(&latch, &nat, "198.51.100.7:40000", 100 + i), KG_LATCH_REFUSED);
    }
    assert_int_equal(latch.state, KG_LATCH_LOCKED);

    latch = (struct kg_latch){0};
    hear(&latch, &nat, "198.51.100.7:40000", 100);
    hear(&latch, &nat, "198.51.100.7:40000", 3099);
    assert_int_equal(latch.state, KG_LATCH_LEARNT);
    hear(&latch, &nat, "198.51.100.7:40000", 3100);
    assert_int_equal(latch.state, KG_LATCH_LOCKED);
}

static void test_locked_latch_refuses_every_other_source_of_its_rank(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat();
    for (int i = 0; i < 4; i++)
        hear(&latch, &nat, "198.51.100.7:40000", 100 + i);
    /* mid-call NAT rebinding looks just like this: signalling has to tell */
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40001", 200), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40001", 900000), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &nat, "203.0.113.66:40000", 900000), KG_LATCH_REFUSED);
    assert_target(&latch, &nat, "198.51.100.7:40000");
}

static void test_window_refuses_a_second_source_of_the_same_rank(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat();
    hear(&latch, &nat, "198.51.100.7:40000", 100);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40001", 101), KG_LATCH_REFUSED);
}

static void test_better_proof_moves_even_a_locked_latch(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules open = in_public();
    for (int i = 0; i < 20; i++)
        hear(&latch, &open, "198.51.100.7:40000", 100 + 20 * i);
    assert_int_equal(latch.proof, KG_PROOF_SAME_ADDRESS);
    assert_int_equal(latch.state, KG_LATCH_LOCKED);
    assert_int_equal(hear(&latch, &open, "198.51.100.7:5004", 900), KG_LATCH_MOVED);
    assert_int_equal(latch.proof, KG_PROOF_SDP);
    assert_int_equal(hear(&latch, &open, "198.51.100.7:40000", 901), KG_LATCH_REFUSED);
}

/* threats.md, latching race: attacker first and faster, same address, other port. */
static void test_another_port_of_sdp_host_is_doubted_first(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules open = in_public();
    for (int i = 0; i < 500; i++) /* 10,000 packets/s for 50 ms */
        assert_int_equal(hear(&latch, &open, "198.51.100.7:666", 100 + i / 10), KG_LATCH_REFUSED);
    assert_target(&latch, &open, "198.51.100.7:5004");
    assert_int_equal(hear(&latch, &open, "198.51.100.7:5004", 151), KG_LATCH_MOVED);
    for (int i = 0; i < 500; i++)
        assert_int_equal(hear(&latch, &open, "198.51.100.7:666", 152 + i), KG_LATCH_REFUSED);
}

static void test_doubt_ends_for_a_phone_whose_nat_changed_the_port(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules open = in_public();
    int heard = 0;
    for (int i = 0; i < 8 && heard == 0; i++) {
        if (hear(&latch, &open, "198.51.100.7:40000", 100 + 20 * i) == KG_LATCH_MOVED)
            heard = i;
    }
    assert_int_equal(heard, 5); /* KG_LATCH_DOUBT_MS at 20 ms a packet */
}

static void test_doubted_source_keeps_its_place_until_it_is_quiet(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules any = {.first_packets = true};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(hear(&latch, &any, "203.0.113.1:1000", 20 * i), KG_LATCH_REFUSED);
        assert_int_equal(hear(&latch, &any, "203.0.113.2:1000", 20 * i + 1), KG_LATCH_REFUSED);
    }
    assert_int_equal(hear(&latch, &any, "203.0.113.1:1000", 100), KG_LATCH_MOVED);

    latch = (struct kg_latch){0};
    hear(&latch, &any, "203.0.113.1:1000", 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(hear(&latch, &any, "203.0.113.2:1000", 200 + 20 * i), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &any, "203.0.113.2:1000", 300), KG_LATCH_MOVED);
}

static void test_wrong_packet_moves_nothing_but_passes_once_locked(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat();
    struct kg_addr wan = at("198.51.100.7:40000");
    assert_int_equal(kg_latch_packet(&latch, &nat, &limits, &wan, false, 100), KG_LATCH_REFUSED);
    assert_target(&latch, &nat, NULL);
    for (int i = 0; i < 4; i++)
        hear(&latch, &nat, "198.51.100.7:40000", 100);
    assert_int_equal(kg_latch_packet(&latch, &nat, &limits, &wan, false, 101), KG_LATCH_ACCEPTED);
}

static struct kg_latch locked_behind_nat(const struct kg_latch_rules *nat)
{
    struct kg_latch latch = {0};
    for (int i = 0; i < 50; i++)
        hear(&latch, nat, "198.51.100.7:40000", 20 * i);
    assert_int_equal(latch.state, KG_LATCH_LOCKED);
    return latch;
}

static void test_signalling_without_change_lets_a_rebound_phone_in_once_the_old_source_is_quiet(void **state)
{
    (void)state;
    struct kg_latch_rules nat = behind_nat();
    struct kg_latch latch = locked_behind_nat(&nat);
    kg_latch_reopen(&latch, &nat, false, false, 1000);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40000", 1020), KG_LATCH_ACCEPTED);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:50000", 1030), KG_LATCH_REFUSED);
    assert_target(&latch, &nat, "198.51.100.7:40000");
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:50000", 1220), KG_LATCH_MOVED);

    latch = locked_behind_nat(&nat);
    kg_latch_reopen(&latch, &nat, false, false, 1000);
    for (int i = 0; i < 200; i++)
        hear(&latch, &nat, "198.51.100.7:40000", 1000 + 20 * i);
    assert_int_equal(latch.state, KG_LATCH_LOCKED); /* the window is over */
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:50000", 9000), KG_LATCH_REFUSED);
}

static void test_new_sdp_address_moves_at_the_first_packet(void **state)
{
    (void)state;
    struct kg_latch_rules nat = behind_nat();
    struct kg_latch latch = locked_behind_nat(&nat);
    nat.sdp = at("192.168.1.20:5010");
    kg_latch_reopen(&latch, &nat, true, false, 1000);
    assert_target(&latch, &nat, "198.51.100.7:40000"); /* until then: where it was */
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40000", 1010), KG_LATCH_ACCEPTED);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:50000", 1020), KG_LATCH_MOVED);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40000", 1030), KG_LATCH_REFUSED);
}

static void test_new_public_sdp_address_is_sent_to_at_once(void **state)
{
    (void)state;
    struct kg_latch_rules open = in_public();
    struct kg_latch latch = {0};
    for (int i = 0; i < 5; i++)
        hear(&latch, &open, "198.51.100.7:5004", 20 * i);
    open.sdp = at("198.51.100.7:6004");
    kg_latch_reopen(&latch, &open, true, false, 1000);
    assert_target(&latch, &open, "198.51.100.7:6004");
    /* and stays so, although the phone (on hold) sends nothing for long */
    hear(&latch, &open, "203.0.113.66:1", 60000);
    assert_target(&latch, &open, "198.51.100.7:6004");
}

static void test_phone_that_moved_to_another_network_is_found_again(void **state)
{
    (void)state;
    struct kg_latch_rules nat = behind_nat();
    struct kg_latch latch = locked_behind_nat(&nat);
    struct kg_latch_rules moved = {.sdp = at("10.0.0.9:5004"), .host = at("203.0.113.50:0")};
    kg_latch_reopen(&latch, &moved, true, false, 1000);
    assert_int_equal(hear(&latch, &moved, "192.0.2.99:1", 1010), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &moved, "203.0.113.50:33000", 30000),
                     KG_LATCH_MOVED); /* late, but plausible */
    assert_int_equal(hear(&latch, &moved, "198.51.100.7:40000", 30001), KG_LATCH_REFUSED);
}

/* Its SDP told a public address, by STUN, that is gone with the old network: signalling says where it is. */
static void test_phone_whose_sdp_is_out_of_date_is_found_by_its_signalling(void **state)
{
    (void)state;
    struct kg_latch_rules rules = in_public();
    for (int again = 0; again < 2; again++) { /* described once or twice before its packets come */
        struct kg_latch latch = {0};
        for (int i = 0; i < 5; i++)
            hear(&latch, &rules, "198.51.100.7:5004", 20 * i);
        struct kg_latch_rules moved = rules;
        moved.host = at("203.0.113.50:0");
        kg_latch_reopen(&latch, &moved, false, true, 1000);
        if (again)
            kg_latch_reopen(&latch, &moved, false, false, 1001);
        assert_int_equal(hear(&latch, &moved, "192.0.2.99:1", 30000), KG_LATCH_REFUSED);
        assert_int_equal(hear(&latch, &moved, "203.0.113.50:33000", 30001), KG_LATCH_MOVED);
        assert_target(&latch, &moved, "203.0.113.50:33000");
        assert_false(latch.elsewhere);
    }
}

/* Only its SIP takes another way: whoever is at that host gets nothing while the phone speaks. */
static void test_moved_signalling_alone_moves_no_media(void **state)
{
    (void)state;
    struct kg_latch_rules moved = in_public();
    struct kg_latch latch = {0};
    for (int i = 0; i < 5; i++)
        hear(&latch, &moved, "198.51.100.7:5004", 20 * i);
    moved.host = at("203.0.113.50:0");
    kg_latch_reopen(&latch, &moved, false, true, 100);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(hear(&latch, &moved, "198.51.100.7:5004", 100 + 20 * i), KG_LATCH_ACCEPTED);
        assert_int_equal(hear(&latch, &moved, "203.0.113.50:33000", 110 + 20 * i), KG_LATCH_REFUSED);
    }
    assert_int_equal(latch.state, KG_LATCH_LOCKED);
    /* signalling that stays where the media is says nothing */
    moved.host = at("198.51.100.7:0");
    kg_latch_reopen(&latch, &moved, false, true, 5000);
    assert_false(latch.elsewhere);
    assert_int_equal(latch.standing, KG_PROOF_SDP);
}

static void test_restored_latch_is_locked(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules nat = behind_nat();
    struct kg_addr wan = at("198.51.100.7:40000"), none = {0};
    kg_latch_restore(&latch, &none, KG_PROOF_SDP, 0);
    assert_int_equal(latch.state, KG_LATCH_OPEN);
    kg_latch_restore(&latch, &wan, KG_PROOF_SAME_ADDRESS, 0);
    assert_target(&latch, &nat, "198.51.100.7:40000");
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40001", 10), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &nat, "198.51.100.7:40000", 10), KG_LATCH_ACCEPTED);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct kg_latch latch = {0};
    struct kg_latch_rules rules = {.sdp = at("[2001:db8::7]:5004"), .sdp_host_plausible = true};
    assert_int_equal(hear(&latch, &rules, "[2001:db8::8]:5004", 0), KG_LATCH_REFUSED);
    assert_int_equal(hear(&latch, &rules, "[2001:db8::7]:5004", 0), KG_LATCH_MOVED);
    for (int i = 0; i < 4; i++)
        hear(&latch, &rules, "[2001:db8::7]:5004", 0);
    assert_int_equal(hear(&latch, &rules, "[2001:db8::7]:5005", 0), KG_LATCH_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_nothing_is_sent_before_proof),
        cmocka_unit_test(test_first_packet_of_a_phone_behind_nat_latches_at_once),
        cmocka_unit_test(test_lock_after_four_packets_or_three_seconds),
        cmocka_unit_test(test_locked_latch_refuses_every_other_source_of_its_rank),
        cmocka_unit_test(test_window_refuses_a_second_source_of_the_same_rank),
        cmocka_unit_test(test_better_proof_moves_even_a_locked_latch),
        cmocka_unit_test(test_another_port_of_sdp_host_is_doubted_first),
        cmocka_unit_test(test_doubt_ends_for_a_phone_whose_nat_changed_the_port),
        cmocka_unit_test(test_doubted_source_keeps_its_place_until_it_is_quiet),
        cmocka_unit_test(test_wrong_packet_moves_nothing_but_passes_once_locked),
        cmocka_unit_test(test_signalling_without_change_lets_a_rebound_phone_in_once_the_old_source_is_quiet),
        cmocka_unit_test(test_new_sdp_address_moves_at_the_first_packet),
        cmocka_unit_test(test_new_public_sdp_address_is_sent_to_at_once),
        cmocka_unit_test(test_phone_that_moved_to_another_network_is_found_again),
        cmocka_unit_test(test_phone_whose_sdp_is_out_of_date_is_found_by_its_signalling),
        cmocka_unit_test(test_moved_signalling_alone_moves_no_media),
        cmocka_unit_test(test_restored_latch_is_locked),
        cmocka_unit_test(test_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
