/* Steering as it should be: who is learnt, what passes, consent, restarts, forks, moves. */
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

/* ---- vouching ---- */

static void start_at(struct world *w, int64_t after_start)
{
    run_until(w, START + after_start);
}

static void assert_mapped(struct world *w, enum kg_side side, const char *expected)
{
    char text[KG_ADDR_STR];
    assert_string_equal(kg_addr_format(&w->phone[side].mapped, text), expected);
}

/* B checks one pair after another and sends each check four times; A is still busy with dead pairs. */
static void test_vouching_for_who_has_not_come_yet(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    const struct packet check = write_check(&w, B, &(struct check){0});
    const int64_t sent_ms[] = {0, 100, 300};
    for (int i = 0; i < 3; i++) {
        start_at(&w, sent_ms[i]);
        assert_int_equal(arrive(&w, B, &w.phone[B].addr, &check), KG_STEER_KEPT);
    }
    run_until(&w, START + 300 + KG_STEER_VOUCH_AFTER_MS - 1);
    assert_int_equal(w.phone[B].successes, 0);
    run_until(&w, START + 300 + KG_STEER_VOUCH_AFTER_MS);
    assert_int_equal(w.phone[B].successes, 1);
    assert_memory_equal(w.phone[B].success, check.data + 8, KG_STUN_ID);
    assert_mapped(&w, B, port[A]); /* as A would see it */
    assert_true(w.to_phone[B].len <= check.len);
    /* Repeated because the response was lost: once more. Nothing without a request. */
    run_until(&w, START + 2000);
    arrive(&w, B, &w.phone[B].addr, &check);
    run_until(&w, w.now + KG_STEER_VOUCH_AFTER_MS);
    assert_int_equal(w.phone[B].successes, 2);
    run_until(&w, START + 4000);
    assert_int_equal(w.phone[B].successes, 2);
    /* That proves nobody. */
    assert_target(&w, A, "none");
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), -1);
    assert_false(kg_steer_is_nominated(w.steer));
    /* A comes: it gets B's check, and answers it too. Then B gets A's answers alone. */
    CHECK(&w, A, 0);
    assert_target(&w, A, ADDR_A);
    assert_int_equal(w.phone[A].requests, 2);
    assert_int_equal(w.phone[B].successes, 3);
    assert_memory_equal(w.phone[B].success, check.data + 8, KG_STUN_ID);
    w.phone[A].answers = false;
    CHECK(&w, B, 0);
    run_until(&w, w.now + 2000);
    assert_int_equal(w.phone[B].successes, 3);
    assert_int_equal(w.to_strangers, 0);
    end(&w);
}

static void test_no_vouching_for_who_comes_in_time(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_AFTER_MS - 1);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[A].requests, 2); /* ours, and B's that it answered */
    assert_int_equal(w.phone[B].successes, 1);
    run_until(&w, START + 3000);
    assert_int_equal(w.phone[B].successes, 1);
    end(&w);
}

/* The mapped address is A's view of our port; where nobody told it, B's own address. */
static void test_how_vouching_names_our_port(void **state)
{
    (void)state;
    static const struct {
        const char *bound, *advertised, *mapped;
    } cases[] = {
        {"10.0.0.5:30000", "198.51.100.1", "198.51.100.1:30000"},
        {"10.0.0.5:30000", NULL, "10.0.0.5:30000"},
        {"0.0.0.0:30000", NULL, ADDR_B},
        {"0.0.0.0:30000", "198.51.100.1", "198.51.100.1:30000"},
        {NULL, NULL, ADDR_B},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        start(&w);
        struct kg_addr bound = {0}, advertised = {0};
        if (cases[i].bound)
            bound = addr(cases[i].bound);
        if (cases[i].advertised)
            advertised = addr(cases[i].advertised);
        kg_steer_local(w.steer, A, &bound, &advertised);
        CHECK(&w, B, 0);
        start_at(&w, KG_STEER_VOUCH_AFTER_MS);
        assert_int_equal(w.phone[B].successes, 1);
        assert_mapped(&w, B, cases[i].mapped);
        end(&w);
    }
}

/* Those nominate aggressively, or conclude: only A itself may say yes to that. */
static void test_no_vouching_for_a_nomination(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, .nominate = true);
    start_at(&w, 700);
    CHECK(&w, B, .nominate = true);
    start_at(&w, 3000);
    assert_int_equal(w.phone[B].successes, 0);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].successes, 1);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* Who has not answered us gets no answer either: it may be somebody who sends B's request again. */
static void test_vouching_to_verified_sources_only(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    struct packet heard = write_check(&w, B, &(struct check){0});
    for (int i = 0; i < 10; i++) {
        arrive(&w, B, &stranger, &heard);
        run_until(&w, w.now + 400);
    }
    assert_in_range(w.to_strangers, 1, 10); /* checks of ours, one a request */
    struct kg_stun_message m;
    assert_int_equal(kg_stun_parse(w.stranger.data, w.stranger.len, &m), KG_STUN_OK);
    assert_int_equal(m.class, KG_STUN_REQUEST);
    CHECK(&w, B, .pwd = "not A's password 12345678");
    CHECK(&w, B, .user = "fragA:fork");
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 0);
    /* B was there all the time; its answer to our check was late. */
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 0);
    struct packet answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    arrive(&w, B, &w.phone[B].addr, &answer);
    assert_int_equal(w.phone[B].successes, 1);
    end(&w);
}

static void test_vouching_ends(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_MS - KG_STEER_VOUCH_AFTER_MS - 1);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_MS);
    assert_int_equal(w.phone[B].successes, 2);
    start_at(&w, KG_STEER_VOUCH_MS);
    CHECK(&w, B, 0);
    run_until(&w, w.now + 20000);
    assert_int_equal(w.phone[B].successes, 2);
    /* The same description again is no new beginning. */
    describe(&w, A);
    describe(&w, B);
    CHECK(&w, B, 0);
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 2);
    end(&w);
}

/* Who did not come in all that time will not because of a restart; unless it comes. */
static void test_no_more_vouching_after_a_restart_in_vain(void **state)
{
    (void)state;
    for (int waited = 0; waited < 2; waited++) {
        struct world w;
        start(&w);
        CHECK(&w, B, 0);
        start_at(&w, waited ? KG_STEER_VOUCH_MS : KG_STEER_VOUCH_MS - 1);
        assert_int_equal(w.phone[B].successes, 1);
        restart(&w, B, "newB", "another password of side B");
        describe(&w, B);
        w.now += 100;
        restart(&w, A, "newA", "another password of side A");
        if (!waited)
            w.now = START + KG_STEER_VOUCH_MS - 1;
        describe(&w, A);
        CHECK(&w, B, 0);
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, waited ? 1 : 2);
        CHECK(&w, A, 0);
        assert_target(&w, A, ADDR_A);
        /* It goes elsewhere and restarts once more. */
        unsigned before = w.phone[B].successes;
        w.now += 20000;
        run(&w);
        restart(&w, A, "thirdA", "the third password of side A");
        w.phone[A].answers = false;
        describe(&w, A);
        CHECK(&w, B, 0);
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, before + 1);
        end(&w);
    }
}

/* Consent that has expired is not given again by us. */
static void test_no_vouching_for_who_has_left(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned before = w.phone[B].successes;
    w.phone[A].answers = false;
    run_until(&w, START + PROOF_MS);
    assert_target(&w, A, "none");
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    run_until(&w, w.now + 5000);
    assert_int_equal(w.phone[B].successes, before);
    /* Nor by what B does alone: A has to begin anew. */
    CHECK(&w, B, 0);
    run_until(&w, w.now + 5000);
    assert_int_equal(w.phone[B].successes, before);
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

/* ---- restarts and forks ---- */

static void test_a_restart_from_end_to_end(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    /* A's offer is out: consent goes on under the old names, also A's old checks. */
    restart(&w, A, "newA", "another password of side A");
    describe(&w, A);
    assert_target(&w, A, ADDR_A);
    run_until(&w, w.now + 6000);
    assert_string_equal(w.phone[A].last_user, "fragA:fragB");
    assert_string_equal(w.phone[B].last_user, "fragB:fragA");
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA"), KG_STEER_FORWARD);
    /* B's answer. */
    restart(&w, B, "newB", "another password of side B");
    describe(&w, B);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_false(kg_steer_is_nominated(w.steer));
    CHECK(&w, A, .nominate = true);
    assert_true(kg_steer_is_nominated(w.steer));
    run_until(&w, w.now + 6000);
    assert_string_equal(w.phone[A].last_user, "newA:newB");
    assert_string_equal(w.phone[B].last_user, "newB:newA");
    /* The old names count for 30 s after they were replaced. */
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA", .pwd = w.phone[B].old_pwd), KG_STEER_FORWARD);
    run_until(&w, w.now + KG_STEER_OVERLAP_MS);
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA", .pwd = w.phone[B].old_pwd), KG_STEER_DROP);
    assert_target(&w, A, ADDR_A);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

/* A has restarted from another place: what it had proven before says nothing of where it is now. */
static void test_vouching_after_a_restart(void **state)
{
    (void)state;
    for (int there = 0; there < 2; there++) {
        struct world w;
        connect_phones(&w);
        w.now += 10000;
        run(&w);
        const struct kg_addr old = w.phone[A].addr;
        restart(&w, A, "newA", "another password of side A");
        restart(&w, B, "newB", "another password of side B");
        if (!there)
            w.phone[A].addr = addr("192.0.2.77:7777");
        describe(&w, A);
        describe(&w, B);
        int64_t begin = w.now;
        unsigned before = w.phone[B].successes;
        assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD); /* to the old place */
        assert_int_equal(w.phone[B].successes, before + (there ? 1 : 0));
        run_until(&w, begin + KG_STEER_VOUCH_AFTER_MS);
        assert_int_equal(w.phone[B].successes, before + 1);
        /* Checks of the time before are A's to answer. */
        CHECK(&w, B, .user = "fragA:fragB", .pwd = "a password of side A 123");
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, before + 1 + (there ? 1 : 0));
        if (!there) {
            assert_true(kg_addr_equal(kg_steer_target(w.steer, A, w.now), &old));
            CHECK(&w, A, 0);
            CHECK(&w, A, .nominate = true);
            assert_target(&w, A, "192.0.2.77:7777");
            w.phone[A].answers = false;
            before = w.phone[B].successes;
            CHECK(&w, B, 0);
            run_until(&w, w.now + 1200);
            assert_int_equal(w.phone[B].successes, before);
        }
        end(&w);
    }
}

static void test_the_same_description_again_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    describe(&w, A);
    describe(&w, B);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* A phone that forgets its old password when it restarts is asked with the new one after the first silence.
 */
static void test_consent_when_the_old_password_is_forgotten(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    restart(&w, A, "newA", "another password of side A");
    w.phone[A].old_ufrag[0] = 0;
    describe(&w, A);
    run_until(&w, w.now + 13000);
    assert_string_equal(w.phone[A].last_user, "newA:fragB");
    assert_true(kg_steer_silence(w.steer, A, w.now) < 13000);
    end(&w);
}

/* Two phones ring for B; the first one's description is replaced by that of the one that answers. */
static void test_forks(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    const struct kg_addr loser = w.phone[B].addr;
    assert_target(&w, B, ADDR_B);
    /* The other branch is unknown as yet. */
    w.phone[B].addr = addr("203.0.113.99:7000");
    restart(&w, B, "fork", "the password of the other phone");
    w.phone[B].old_ufrag[0] = 0;
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_DROP);
    describe(&w, B);
    unsigned before = w.phone[B].requests;
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_int_equal(w.phone[B].requests, before + 1);
    /* A's checks for the winner go to the winner, though the loser is still verified. */
    assert_true(kg_steer_is_verified(w.steer, B, &loser, w.now));
    w.to_strangers = 0;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_int_equal(w.to_strangers, 0);
    assert_string_equal(w.phone[B].last_user, "fork:fragA");
    CHECK(&w, A, .nominate = true);
    assert_target(&w, B, "203.0.113.99:7000");
    /* The first branch is described again (its 200 overtook): both descriptions are still known. */
    restart(&w, B, "fragB", "a password of side B 123");
    w.phone[B].addr = loser;
    describe(&w, B);
    w.to_strangers = 0;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD); /* to where that phone was verified */
    assert_int_equal(w.to_strangers, 0);
    CHECK(&w, A, .nominate = true);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

/* Checks of a fork that has not been described are kept, but bind nobody. */
static void test_a_fork_before_the_answer(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, CONSENT_MS);
    describe(&w, A);
    const struct kg_addr other = addr("203.0.113.99:7000");
    assert_int_equal(CHECK(&w, B, .user = "fragA:fork", .from = &other), KG_STEER_KEPT);
    describe(&w, B);
    run(&w);
    assert_int_equal(w.sent, 0);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
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
        cmocka_unit_test(test_vouching_for_who_has_not_come_yet),
        cmocka_unit_test(test_no_vouching_for_who_comes_in_time),
        cmocka_unit_test(test_how_vouching_names_our_port),
        cmocka_unit_test(test_no_vouching_for_a_nomination),
        cmocka_unit_test(test_vouching_to_verified_sources_only),
        cmocka_unit_test(test_vouching_ends),
        cmocka_unit_test(test_no_vouching_for_who_has_left),
        cmocka_unit_test(test_no_more_vouching_after_a_restart_in_vain),
        cmocka_unit_test(test_consent_of_both_sides),
        cmocka_unit_test(test_consent_expires),
        cmocka_unit_test(test_another_verified_source_takes_over),
        cmocka_unit_test(test_without_consent_proof_stays),
        cmocka_unit_test(test_roles_are_found_out_without_harm),
        cmocka_unit_test(test_our_checks_lose_every_conflict),
        cmocka_unit_test(test_487_without_end_is_no_storm),
        cmocka_unit_test(test_a_restart_from_end_to_end),
        cmocka_unit_test(test_vouching_after_a_restart),
        cmocka_unit_test(test_the_same_description_again_changes_nothing),
        cmocka_unit_test(test_consent_when_the_old_password_is_forgotten),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_a_fork_before_the_answer),
        cmocka_unit_test(test_a_suspect_that_proves_itself),
        cmocka_unit_test(test_suspects_are_asked_slowly),
        cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
