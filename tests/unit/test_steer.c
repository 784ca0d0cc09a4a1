/* Steering as it should be: who is learnt, what passes, consent, roles, moves. Vouching:
 * test_steer_vouching.c; restarts and forks: test_steer_restart.c; attackers: test_steer_attack.c. */
#include "tests/unit/steer_world.h"

/* ---- as it should be ---- */

static void test_the_first_check_each_way_is_enough(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    assert_target(&w, A, "none");
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), -1);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
    /* B is asked by a check of ours, named as A's. Its own waits for A. */
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    assert_string_equal(w.phone[B].last_user, "fragB:fragA");
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].requests, 0);
    w.moved = false;
    /* A's goes to B at once and is answered; A answers ours, and B's that was kept. */
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_true(w.moved);
    assert_target(&w, A, ADDR_A);
    assert_int_equal(w.phone[A].requests, 2);
    assert_int_equal(w.phone[A].success[0], A);
    assert_int_equal(w.phone[B].success[0], B);
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), 0);
    assert_int_equal(w.phone[A].conflicts + w.phone[B].conflicts, 0);
    assert_false(kg_steer_is_nominated(w.steer));
    CHECK(&w, A, .nominate = true);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

static void test_both_orders(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_KEPT);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_target(&w, A, ADDR_A);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].success[0], A);
    assert_int_equal(w.phone[A].success[1], 0);
    end(&w);
}

/* B answers the offer with checks before kedge has seen its answer. */
static void test_checks_before_the_answer(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, CONSENT_MS);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_DROP); /* nothing to verify it with */
    describe(&w, A);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    assert_int_equal(CHECK(&w, B, .pwd = "not A's password 12345678"), KG_STEER_DROP);
    assert_int_equal(w.sent, 0);
    w.now += 300;
    describe(&w, B);
    run(&w);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[B].requests, 1);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].success[0], B); /* to the check that was kept all the time */
    assert_int_equal(w.phone[B].success[1], 1);
    end(&w);
}

static void test_a_kept_request_gets_too_old(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    w.now += KG_STEER_KEPT_MS + 1;
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[A].requests, 1); /* ours alone */
    end(&w);
}

/* The checks that would have proven B are lost: whatever valid comes next tries again. */
static void test_lost_checks_of_ours_are_made_up_for(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].requests, 1);
    /* Once more because A has answered B's check. */
    run_until(&w, w.now + 400);
    assert_int_equal(w.phone[B].requests, 2);
    assert_target(&w, B, "none");
    w.phone[B].answers = true;
    run_until(&w, w.now + 400);
    assert_target(&w, B, "none");
    CHECK(&w, A, 0); /* a retransmission of A's */
    assert_int_equal(w.phone[B].requests, 4);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].success[0], A);
    end(&w);
}

/* A long way: answers take longer than the time between two checks of ours. */
static void test_late_answers(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    struct packet answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    for (int i = 0; i < 6; i++) {
        w.now += 250;
        CHECK(&w, B, 0);
    }
    assert_int_equal(w.phone[B].requests, 7);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &answer), KG_STEER_KEPT);
    assert_target(&w, B, ADDR_B);
    /* Repeated checks do not go on for ever under one id. */
    kg_steer_free(w.steer);
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    for (int i = 0; i < 30; i++) {
        w.now += 250;
        CHECK(&w, B, 0);
    }
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &answer), KG_STEER_DROP);
    end(&w);
}

static void test_one_source_several_checks_one_of_ours(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    for (int i = 0; i < 50; i++) {
        CHECK(&w, B, 0);
        w.now += 2;
    }
    assert_int_equal(w.phone[B].requests, 1);
    run_until(&w, w.now + 60000); /* nor later: without a valid request there is no check */
    assert_int_equal(w.phone[B].requests, 1);
    end(&w);
}

static void test_nomination_and_media_choose_among_sources(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr first = w.phone[A].addr, second = addr("192.0.2.10:5001");
    /* A second candidate of A: verified, but not the target. */
    w.phone[A].addr = second;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_true(kg_steer_is_verified(w.steer, A, &second, w.now));
    assert_target(&w, A, ADDR_A);
    /* Media from there moves it, not while the nomination is fresh. */
    assert_false(kg_steer_media(w.steer, A, &second, w.now));
    w.now += KG_STEER_SETTLE_MS;
    assert_true(kg_steer_media(w.steer, A, &second, w.now));
    assert_false(kg_steer_media(w.steer, A, &second, w.now));
    assert_target(&w, A, "192.0.2.10:5001");
    assert_true(kg_steer_media(w.steer, A, &first, w.now));
    /* Nominated too (aggressively): the newest nomination wins at first, then media again. */
    w.moved = false;
    CHECK(&w, A, .nominate = true);
    assert_true(w.moved);
    assert_target(&w, A, "192.0.2.10:5001");
    assert_true(kg_steer_media(w.steer, A, &first, w.now));
    /* It was nominated already: said again, it moves nothing. */
    CHECK(&w, A, .nominate = true);
    assert_target(&w, A, ADDR_A);
    struct kg_addr stranger = addr("198.18.0.1:9");
    assert_false(kg_steer_media(w.steer, A, &stranger, w.now));
    end(&w);
}

static void test_nomination_that_fails_counts_for_nothing(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    w.phone[B].answers = false;
    CHECK(&w, A, .nominate = true);
    assert_false(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* Nominated from a place whose answer to our check was lost: it is asked once more when B has said yes. */
static void test_a_nominated_source_is_asked_again(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 1000;
    w.phone[A].addr = addr("192.0.2.10:5001");
    w.phone[A].answers = false;
    CHECK(&w, A, .nominate = true);
    assert_target(&w, A, ADDR_A);
    w.phone[A].answers = true;
    run_until(&w, w.now + KG_ICE_CHALLENGE_MS);
    assert_target(&w, A, "192.0.2.10:5001");
    end(&w);
}

static void test_keepalive_indications(void **state)
{
    (void)state;
    struct world w;
    struct packet p;
    struct kg_stun_writer writer;
    const uint8_t id[KG_STUN_ID] = {9};
    kg_stun_begin(&writer, p.data, sizeof p.data, KG_STUN_INDICATION, KG_STUN_BINDING, id);
    kg_stun_put_fingerprint(&writer);
    p.len = kg_stun_end(&writer);
    start(&w);
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &p), KG_STEER_DROP);
    kg_steer_free(w.steer);
    connect_phones(&w);
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &p), KG_STEER_FORWARD);
    struct kg_addr stranger = addr("192.0.2.10:5001");
    assert_int_equal(arrive(&w, A, &stranger, &p), KG_STEER_DROP);
    end(&w);
}

static void test_pairs(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    const struct kg_addr other = addr("203.0.113.20:6001");
    CHECK(&w, B, .from = &other);
    struct kg_ice_pair pair[KG_STEER_SOURCES];
    assert_int_equal(kg_steer_pairs(w.steer, B, pair, KG_STEER_SOURCES), 1);
    assert_true(kg_addr_equal(&pair[0].remote.addr, &w.phone[B].addr));
    assert_true(pair[0].valid && pair[0].nominated && pair[0].selected);
    assert_int_equal(pair[0].rtt_ms, 0);
    assert_int_equal(pair[0].responses, 1);
    assert_int_equal(kg_steer_pairs(w.steer, B, pair, 0), 0);
    end(&w);
}

/* ---- RFC 7675 ---- */

static void test_consent_of_both_sides(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned before[2] = {w.phone[A].requests, w.phone[B].requests};
    int64_t from = w.now;
    run_until(&w, from + 120000);
    for (unsigned s = 0; s < 2; s++) {
        unsigned asked = w.phone[s].requests - before[s];
        assert_in_range(asked, 20, 30); /* every 4 to 6 s */
        assert_true(kg_steer_silence(w.steer, s, w.now) <= 6000);
    }
    assert_int_equal(w.phone[A].conflicts + w.phone[B].conflicts, 0);
    assert_int_equal(w.to_strangers, 0);
    end(&w);
}

static void test_consent_expires(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    int64_t gone = w.now;
    run_until(&w, gone + PROOF_MS - 1);
    assert_target(&w, B, ADDR_B);
    unsigned asked = w.phone[B].requests;
    run_until(&w, gone + PROOF_MS);
    assert_target(&w, B, "none");
    assert_target(&w, A, ADDR_A);
    assert_false(kg_steer_is_verified(w.steer, B, &w.phone[B].addr, w.now));
    run_until(&w, gone + 90000);
    assert_int_equal(w.phone[B].requests, asked); /* RFC 7675 5.1: nothing more is sent there */
    assert_int_equal(kg_steer_silence(w.steer, B, w.now), 90000);
    /* A valid request alone does not bring it back, an answer does. */
    CHECK(&w, B, 0);
    assert_target(&w, B, "none");
    w.now += 1000;
    w.phone[B].answers = true;
    CHECK(&w, B, 0);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

static void test_another_verified_source_takes_over(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    run_until(&w, w.now + 20000);
    const struct kg_addr first = w.phone[A].addr;
    w.phone[A].addr = addr("192.0.2.10:5001");
    CHECK(&w, A, 0);
    assert_target(&w, A, ADDR_A);
    assert_true(kg_steer_is_verified(w.steer, A, &first, w.now));
    int64_t from = w.now;
    while (kg_steer_is_verified(w.steer, A, &first, w.now)) {
        run_until(&w, w.now + 1000);
        CHECK(&w, B, 0);
        CHECK(&w, A, 0);
        if (w.now - from > 25000)
            break;
    }
    run_until(&w, from + 29000);
    assert_target(&w, A, "192.0.2.10:5001");
    end(&w);
}

static void test_without_consent_proof_stays(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, 0);
    describe(&w, A);
    describe(&w, B);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
    run_until(&w, w.now + 3600000);
    assert_target(&w, A, ADDR_A);
    end(&w);
}

/* ---- roles ---- */

/* After the engine was restarted nobody's role is known: the first guess may be wrong, it changes nothing. */
static void test_roles_are_found_out_without_harm(void **state)
{
    (void)state;
    for (int a_controls = 0; a_controls < 2; a_controls++) {
        struct world w;
        start(&w);
        w.phone[A].controlling = a_controls;
        w.phone[B].controlling = !a_controls;
        w.phone[A].tie = a_controls ? 0 : UINT64_MAX - 1; /* the ones that lose most easily */
        w.phone[B].tie = a_controls ? UINT64_MAX - 1 : 0;
        kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
        kg_steer_suspect(w.steer, B, &w.phone[B].addr, w.now);
        run(&w);
        assert_target(&w, A, ADDR_A);
        assert_target(&w, B, ADDR_B);
        assert_in_range(w.phone[A].conflicts + w.phone[B].conflicts, 0, 1);
        end(&w);
    }
}

/* B's role has changed behind our back (a conflict solved on the direct path): our next check does not change
 * it again. */
static void test_our_checks_lose_every_conflict(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    for (unsigned s = 0; s < 2; s++) {
        w.phone[s].controlling = !w.phone[s].controlling;
        w.phone[s].tie = w.phone[s].controlling ? 1 : UINT64_MAX - 1; /* loses most easily */
    }
    run_until(&w, w.now + 7000);
    assert_int_equal(w.phone[A].conflicts, 1);
    assert_int_equal(w.phone[B].conflicts, 1);
    assert_in_range(kg_steer_silence(w.steer, A, w.now), 0, 6000); /* asked again in the other role */
    end(&w);
}

static void test_487_without_end_is_no_storm(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    struct kg_addr there = addr("203.0.113.20:6001");
    kg_steer_suspect(w.steer, B, &there, w.now);
    run(&w);
    for (int i = 0; i < 10; i++) {
        struct kg_stun_message m;
        assert_int_equal(kg_stun_parse(w.stranger.data, w.stranger.len, &m), KG_STUN_OK);
        struct packet p = write_response(m.id, 487, w.phone[B].pwd, port[B]);
        arrive(&w, B, &there, &p);
    }
    assert_int_equal(w.to_strangers, 2);
    end(&w);
}

/* ---- a phone that moves ---- */

static void test_a_suspect_that_proves_itself(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    w.phone[A].addr = addr("203.0.113.77:40000");
    kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
    assert_false(kg_steer_is_verified(w.steer, A, &w.phone[A].addr, w.now));
    assert_target(&w, A, ADDR_A);
    run(&w);
    assert_target(&w, A, "203.0.113.77:40000");
    assert_true(kg_steer_is_verified(w.steer, A, &w.phone[A].addr, w.now));
    end(&w);
}

static void test_suspects_are_asked_slowly(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    run(&w);
    for (int i = 0; i < 1000; i++) { /* a packet a millisecond, each from another address */
        char text[40];
        snprintf(text, sizeof text, "198.18.%d.%d:9000", i / 250, i % 250 + 1);
        struct kg_addr from = addr(text);
        kg_steer_suspect(w.steer, A, &from, w.now);
        run(&w);
        w.now++;
    }
    assert_in_range(w.to_strangers, 1, 1000 / KG_ICE_CHALLENGE_MS + 1);
    assert_target(&w, A, ADDR_A);
    /* Before the sides are described there is nothing to ask with. */
    kg_steer_free(w.steer);
    start_with(&w, CONSENT_MS);
    describe(&w, A);
    kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
    run(&w);
    assert_int_equal(w.sent, 0);
    end(&w);
}

static void test_families(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[A].addr = addr("[2001:db8::10]:5000");
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_target(&w, A, "[2001:db8::10]:5000");
    assert_target(&w, B, ADDR_B);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_check_each_way_is_enough),
        cmocka_unit_test(test_both_orders),
        cmocka_unit_test(test_checks_before_the_answer),
        cmocka_unit_test(test_a_kept_request_gets_too_old),
        cmocka_unit_test(test_lost_checks_of_ours_are_made_up_for),
        cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_one_source_several_checks_one_of_ours),
        cmocka_unit_test(test_nomination_and_media_choose_among_sources),
        cmocka_unit_test(test_nomination_that_fails_counts_for_nothing),
        cmocka_unit_test(test_a_nominated_source_is_asked_again),
        cmocka_unit_test(test_keepalive_indications),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_consent_of_both_sides),
        cmocka_unit_test(test_consent_expires),
        cmocka_unit_test(test_another_verified_source_takes_over),
        cmocka_unit_test(test_without_consent_proof_stays),
        cmocka_unit_test(test_roles_are_found_out_without_harm),
        cmocka_unit_test(test_our_checks_lose_every_conflict),
        cmocka_unit_test(test_487_without_end_is_no_storm),
        cmocka_unit_test(test_a_suspect_that_proves_itself),
        cmocka_unit_test(test_suspects_are_asked_slowly),
        cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
