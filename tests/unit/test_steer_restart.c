/* Steering: ICE restarts and forks (RFC 8445 9): whose credentials count, what stays proven. */
#include "tests/unit/steer_world.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_restart_from_end_to_end),
        cmocka_unit_test(test_the_same_description_again_changes_nothing),
        cmocka_unit_test(test_consent_when_the_old_password_is_forgotten),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_a_fork_before_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
