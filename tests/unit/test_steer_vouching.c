/* Steering: kedge answers checks in the name of a phone that has not come yet; when it does and when it must
 * not. */
#include "tests/unit/steer_world.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vouching_for_who_has_not_come_yet),
        cmocka_unit_test(test_no_vouching_for_who_comes_in_time),
        cmocka_unit_test(test_how_vouching_names_our_port),
        cmocka_unit_test(test_no_vouching_for_a_nomination),
        cmocka_unit_test(test_vouching_to_verified_sources_only),
        cmocka_unit_test(test_vouching_ends),
        cmocka_unit_test(test_no_vouching_for_who_has_left),
        cmocka_unit_test(test_no_more_vouching_after_a_restart_in_vain),
        cmocka_unit_test(test_vouching_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
