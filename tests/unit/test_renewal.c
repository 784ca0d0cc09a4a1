/* What kedge itself offers in talk: renewals of one side's session, upgrades of both. */
#include "tests/unit/fsm_script.h"

/* ---- renewal ---- */

static void test_renewal(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B renew", "renew B, UPDATE B");
    STEP("B renew", ""); /* it is under way */
    STEP("A reinvite sdp", "away A 491");
    STEP("B reinvite sdp", "away B 491");
    STEP("B 1xx 180", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "done B renewal");
    STEP("A renew", "renew A, UPDATE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "done A renewal");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    assert_int_equal(run.fsm.deadline_ms, INT64_MAX);
}

static void test_renewals_wait_for_their_turn(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B renew", ""); /* asked for before the call stands */
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "talk, renew B, UPDATE B");
    STEP("A renew", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "done B renewal, renew A, UPDATE A");
    STEP("A reject 480", "restore, done A renewal failed");
    STEP("B reinvite sdp", "apply B");
    STEP("A renew", "");
    STEP("media", "INVITE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "200 B");
    STEP("B ack", "renew A, UPDATE A");
}

/* RFC 3261 14.1: leg B's Call-ID is ours, leg A's is not. */
static void test_renewal_meets_glare(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B renew", "renew B, UPDATE B");
    STEP("B reject 491 #190", "restore");
    STEP("B reinvite sdp", "apply B"); /* what it met */
    STEP("media", "INVITE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "200 B");
    STEP("timer +3000", "");
    STEP("B ack", "");
    assert_int_equal(run.fsm.deadline_ms, run.now + 1000);
    STEP("timer +1000", "renew B, UPDATE B");
    STEP("B reject 491", "restore");
    STEP("timer +2099", "");
    STEP("timer +1", "renew B, UPDATE B");
    STEP("B reject 491", "restore, done B renewal failed"); /* three times are enough */
    STEP("A renew", "renew A, UPDATE A");
    STEP("A reject 491 #200", "restore");
    STEP("timer +1999", "");
    STEP("timer +1", "renew A, UPDATE A");
    STEP("A reject 491 #0", "restore, renew A, UPDATE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "done A renewal");
}

static void test_renewal_of_a_dead_phone(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B renew", "renew B, UPDATE B");
    STEP("B reject 408", "BYE A, BYE B, release");
    run = start(1, false);
    talking(&run);
    STEP("B renew", "renew B, UPDATE B");
    STEP("B 1xx 180", "");
    STEP("timer +32000", "CANCEL B");
    STEP("B reject 487", "restore, done B renewal failed");
    STEP("B renew", "renew B, UPDATE B");
    STEP("timer +32000", "CANCEL B");
    STEP("B 2xx sdp", "ACK B, apply B"); /* it crossed, and is welcome */
    STEP("media", "done B renewal");
    STEP("B renew", "renew B, UPDATE B");
    STEP("timer +32000", "CANCEL B");
    STEP("timer +35000", "BYE A, BYE B, release");
}

static void test_renewal_answered_badly(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A renew", "renew A, UPDATE A");
    STEP("A 2xx", "ACK A, restore, done A renewal failed");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

/* ---- upgrade ---- */

static void asked(struct run *run_)
{
    talking(run_);
    struct run run = *run_;
    STEP("A upgrade", "ask A");
    STEP("A 2xx sdp", "apply A"); /* no ACK before the answer is known */
    STEP("A 2xx sdp", "");        /* so it comes again */
    STEP("media", "INVITE B");
    *run_ = run;
}

static void test_upgrade(void **state)
{
    (void)state;
    struct run run = start(1, false);
    asked(&run);
    STEP("A reinvite sdp", "away A 491");
    STEP("B reinvite sdp", "away B 491");
    STEP("B 1xx 180", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "ACK A answer, done A upgrade");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    STEP("B upgrade", "ask B");
    STEP("B 2xx sdp", "apply B");
    STEP("media", "INVITE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "ACK B answer, done B upgrade");
}

static void test_upgrade_that_the_first_side_refuses(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A upgrade", "ask A");
    STEP("A reject 488", "done A upgrade failed");
    STEP("A upgrade", "ask A");
    STEP("A reject 491 #100", ""); /* glare */
    STEP("timer +1000", "ask A");
    STEP("A 2xx", "ACK A, done A upgrade failed"); /* no offer: no upgrade */
    STEP("A upgrade", "ask A");
    STEP("timer +32000", "CANCEL A");
    STEP("A reject 487", "done A upgrade failed");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

/* The first side is ACKed with what was agreed before. */
static void test_upgrade_that_the_second_side_refuses(void **state)
{
    (void)state;
    struct run run = start(1, false);
    asked(&run);
    STEP("B reject 488", "restore, ACK A answer, done A upgrade failed");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
    run = start(1, false);
    asked(&run);
    STEP("B 2xx", "ACK B, restore, ACK A answer, done A upgrade failed");
    run = start(1, false);
    asked(&run);
    STEP("B reject 491", "restore, ACK A answer");
    STEP("timer +2100", "ask A");
}

/* Before the first side gives its 2xx up. */
static void test_upgrade_that_the_second_side_leaves_open(void **state)
{
    (void)state;
    struct run run = start(1, false);
    asked(&run);
    STEP("timer +8000", "restore, ACK A answer, CANCEL B");
    STEP("B reject 487", "done A upgrade failed");
    run = start(1, false);
    asked(&run);
    STEP("timer +8000", "restore, ACK A answer, CANCEL B");
    STEP("B 2xx sdp", "ACK B, done A upgrade failed, renew B, UPDATE B");
}

static void test_upgrade_without_ports(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A upgrade", "ask A");
    STEP("A 2xx sdp", "apply A");
    STEP("media fail", "restore, ACK A answer, done A upgrade failed");
}

/* A 2xx is ACKed before the BYE. */
static void test_upgrade_crosses_bye(void **state)
{
    (void)state;
    struct run run = start(1, false);
    asked(&run);
    STEP("B bye", "ACK A, BYE A, release");
    run = start(1, false);
    talking(&run);
    STEP("A upgrade", "ask A");
    STEP("B bye", "BYE A, release");
    STEP("A 2xx sdp", "ACK A");
    STEP("A byedone", "free");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_renewals_wait_for_their_turn),
        cmocka_unit_test(test_renewal_meets_glare),
        cmocka_unit_test(test_renewal_of_a_dead_phone),
        cmocka_unit_test(test_renewal_answered_badly),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_upgrade_that_the_first_side_refuses),
        cmocka_unit_test(test_upgrade_that_the_second_side_refuses),
        cmocka_unit_test(test_upgrade_that_the_second_side_leaves_open),
        cmocka_unit_test(test_upgrade_without_ports),
        cmocka_unit_test(test_upgrade_crosses_bye),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
