/* Changes of a session in talk that a peer begins: re-INVITE and UPDATE, passed and absorbed; refreshes. What
 * kedge itself offers: test_renewal.c; every event in every state: test_renegotiate_walk.c. */
#include "tests/unit/fsm_script.h"

/* ---- re-INVITE (RFC 3261 14) ---- */

static void test_reinvite(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    const char *const script[][2][2] = {{{"A", "B"}}, {{"B", "A"}}};
    for (size_t i = 0; i < 2; i++) {
        char event[40], expected[60];
        const char *from = script[i][0][0], *to = script[i][0][1];
        snprintf(event, sizeof event, "%s reinvite sdp", from);
        snprintf(expected, sizeof expected, "apply %s", from);
        STEP(event, expected);
        snprintf(expected, sizeof expected, "INVITE %s", to);
        STEP("media", expected);
        snprintf(event, sizeof event, "%s 1xx 180", to);
        STEP(event, "");
        snprintf(event, sizeof event, "%s 2xx sdp", to);
        snprintf(expected, sizeof expected, "ACK %s, apply %s", to, to);
        STEP(event, expected);
        snprintf(expected, sizeof expected, "200 %s", from);
        STEP("media", expected);
        snprintf(event, sizeof event, "%s ack", from);
        STEP(event, "");
        assert_int_equal(run.fsm.re, KG_RE_NONE);
    }
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_reinvite_refused_keeps_the_call(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B reject 488", "refuse A 488, restore");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
    STEP("A reinvite sdp", "apply A");
}

static void test_reinvite_to_a_lost_dialog(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B reject 481", "refuse A 500, BYE A, BYE B, release");
}

static void test_glare(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("B reinvite sdp", "away B 491");
    STEP("media", "INVITE B");
    STEP("B reinvite sdp", "away B 491");
    STEP("A reinvite sdp", "away A 500 later");
    STEP("B reject 491", "refuse A 491, restore"); /* B had the same thought */
    STEP("B reinvite sdp", "apply B");
}

static void test_reinvite_before_ack(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("B reinvite", "defer B");
    STEP("media", "200 A");
    STEP("B reinvite", "away B 500 later");
    STEP("A reinvite sdp", "away A 500 later");
    STEP("A ack", "talk");
    STEP("B reinvite sdp", "apply B");
}

static void test_reinvite_cancelled(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("A cancel", "CANCEL B");
    STEP("A cancel", "");
    STEP("B reject 487", "refuse A 487, restore");
    STEP("A reinvite sdp", "apply A");
    STEP("A cancel", "refuse A 487, restore");
    STEP("media", "");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_reinvite_cancel_crosses_200(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("A cancel", "CANCEL B");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "");
}

static void test_reinvite_crosses_bye(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B bye", "refuse A 487, BYE A, release");
    STEP("B 2xx sdp", "ACK B");
    STEP("A byedone", "free");
}

/* ---- re-INVITE without SDP: the other side makes the offer ---- */

static void test_late_reinvite(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    const char *const script[][2] = {{"A", "B"}, {"B", "A"}};
    for (size_t i = 0; i < 2; i++) {
        char event[40], expected[60];
        const char *from = script[i][0], *to = script[i][1];
        snprintf(event, sizeof event, "%s reinvite", from);
        snprintf(expected, sizeof expected, "ask %s", to);
        STEP(event, expected);
        snprintf(event, sizeof event, "%s reinvite sdp", to);
        snprintf(expected, sizeof expected, "away %s 491", to);
        STEP(event, expected);
        snprintf(event, sizeof event, "%s reinvite sdp", from);
        snprintf(expected, sizeof expected, "away %s 500 later", from);
        STEP(event, expected);
        snprintf(event, sizeof event, "%s 2xx sdp", to);
        snprintf(expected, sizeof expected, "apply %s", to);
        STEP(event, expected);
        snprintf(expected, sizeof expected, "200 offer %s", from);
        STEP("media", expected);
        assert_true(kg_fsm_awaits_answer(&run.fsm, from[0] == 'A' ? A : B));
        snprintf(event, sizeof event, "%s ack sdp", from);
        snprintf(expected, sizeof expected, "apply %s", from);
        STEP(event, expected);
        snprintf(expected, sizeof expected, "ACK %s answer, agreed", to);
        STEP("media", expected);
        assert_int_equal(run.fsm.re, KG_RE_NONE);
    }
    STEP("A reinvite sdp", "apply A");
}

static void test_late_reinvite_refused(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite", "ask B");
    STEP("B reject 491", "refuse A 491");
    STEP("A reinvite", "ask B");
    STEP("B reject 481", "refuse A 500, BYE A, BYE B, release");
    run = start(1, false);
    talking(&run);
    STEP("B reinvite", "ask A");
    STEP("A 2xx", "ACK A, refuse B 500");
    STEP("B reinvite", "ask A");
    STEP("A 2xx sdp", "apply A");
    STEP("media fail", "refuse B 503 later, restore, ACK A answer");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_late_reinvite_cancelled(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite", "ask B");
    STEP("A cancel", "CANCEL B");
    STEP("B reject 487", "refuse A 487");
    STEP("A reinvite", "ask B");
    STEP("A cancel", "CANCEL B");
    STEP("B 2xx sdp", "apply B"); /* it crossed */
    STEP("A cancel", "refuse A 487, restore, ACK B answer");
    STEP("media", "");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
}

static void test_late_reinvite_without_answer(void **state)
{
    (void)state;
    const char *const end[] = {"A ack", "A noack", "timer +20000", "A bye"};
    for (size_t i = 0; i < 4; i++) {
        struct run run = start(1, false);
        talking(&run);
        STEP("A reinvite", "ask B");
        STEP("B 2xx sdp", "apply B");
        STEP("media", "200 offer A");
        STEP("timer +10", "");
        STEP(end[i], i < 3 ? "ACK B, BYE A, BYE B, release" : "ACK B, BYE B, release");
    }
    struct run run = start(1, false);
    talking(&run);
    STEP("B reinvite", "ask A");
    STEP("A 2xx sdp", "apply A");
    STEP("B bye", "refuse B 487, ACK A, BYE A, release");
}

static void test_late_reinvite_makes_a_renewal_wait(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite", "ask B");
    STEP("B renew", "");
    STEP("B 2xx sdp", "apply B");
    STEP("media", "200 offer A");
    STEP("A ack sdp", "apply A");
    STEP("media", "ACK B answer, agreed, renew B, UPDATE B");
    STEP("A reinvite", "away A 491");
}

static void test_reinvite_without_ports(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("media fail", "refuse A 503 later, restore");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_reinvite_never_acknowledged(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B reinvite sdp", "apply B");
    STEP("media", "INVITE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "200 B");
    STEP("B noack", "BYE A, BYE B, release");
}

/* ---- UPDATE (RFC 3311) ---- */

static void test_update(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update sdp", "apply A");
    STEP("media", "UPDATE B");
    STEP("B 2xx sdp", "ACK B, apply B"); /* the ACK is for a re-INVITE, if it had to be one */
    STEP("media", "200 A");
    assert_int_equal(run.fsm.re, KG_RE_NONE); /* nothing follows the 200 of an UPDATE */
    STEP("B update sdp", "apply B");
    STEP("media", "UPDATE A");
    STEP("A reject 488", "refuse B 488, restore");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_update_meets_other_offers(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("A update sdp", "away A 500 later"); /* its offer has no answer yet */
    STEP("B update sdp", "away B 491");       /* kedge's has none */
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("B update sdp", "away B 491");
    STEP("media", "200 A");
    STEP("A ack", "talk");
    STEP("A update sdp", "apply A");
    STEP("B update sdp", "away B 491");
    STEP("B reinvite sdp", "away B 491");
    STEP("A update sdp", "away A 500 later");
    STEP("A reinvite sdp", "away A 500 later");
}

/* RFC 3311 5.2: an answer that takes a person takes too long. */
static void test_update_that_is_not_answered(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update sdp", "apply A");
    STEP("media", "UPDATE B");
    STEP("timer +19999", "");
    STEP("timer +2", "refuse A 504, restore, CANCEL B");
    STEP("A update sdp", "away A 500 later"); /* B's end of it is still open */
    STEP("B reject 487", "");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    STEP("A update sdp", "apply A");
}

/* B agreed to what A was refused: it is told once more what A agreed to. */
static void test_withdrawn_update_crosses_200(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update sdp", "apply A");
    STEP("media", "UPDATE B");
    STEP("timer +20000", "refuse A 504, restore, CANCEL B");
    STEP("B 2xx sdp", "ACK B, renew B, UPDATE B");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "done B renewal");
}

static void test_withdrawn_update_that_nobody_ends(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update sdp", "apply A");
    STEP("media", "UPDATE B");
    STEP("timer +20000", "refuse A 504, restore, CANCEL B");
    STEP("timer +35000", "BYE A, BYE B, release");
}

static void test_update_crosses_bye(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update sdp", "apply A");
    STEP("A bye", "refuse A 487, BYE B, release");
    STEP("media", "");
    STEP("B byedone", "free");
}

/* ---- offers that concern one leg alone ---- */

static void test_absorbed(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A update absorb", "apply A");
    STEP("B reinvite sdp", "away B 491");
    STEP("media", "200 A");
    STEP("B reinvite absorb", "apply B");
    STEP("media", "200 B");
    STEP("B reinvite absorb", "away B 500 later");
    STEP("B ack", "");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    STEP("B reinvite absorb", "apply B");
    STEP("media fail", "refuse B 503 later, restore");
    STEP("B reinvite absorb", "apply B");
    STEP("B cancel", ""); /* the 200 is on its way already */
    STEP("media", "200 B");
    STEP("B noack", "BYE A, BYE B, release");
}

/* An offer word by word as before: RFC 4028 7.4. The engine and the other side hear nothing. */
static void test_peers_refresh(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A reinvite same", "serve A, 200 A");
    STEP("A reinvite same", "away A 500 later");
    STEP("B reinvite same", "away B 491");
    STEP("A ack", "");
    STEP("B update same", "serve B, 200 B");
    assert_int_equal(run.fsm.re, KG_RE_NONE);
    STEP("A reinvite same", "serve A, 200 A");
    STEP("A noack", "BYE A, BYE B, release");
}

static void test_our_refresh(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B refresh", "INVITE B");
    STEP("B refresh", "");
    STEP("A reinvite sdp", "away A 491");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "done B refresh");
    STEP("A refresh", "INVITE A");
    STEP("A reject 491 #10", "");
    STEP("+100 timer", "INVITE A");
    STEP("A reject 488", "done A refresh failed");
    /* it waits for its turn */
    STEP("A reinvite sdp", "apply A");
    STEP("B refresh", "");
    STEP("media", "INVITE B");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "INVITE B");
    STEP("B reject 481", "BYE A, BYE B, release");
}

static void test_expired(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B expired", "");
    run = start(1, false);
    talking(&run);
    STEP("A reinvite sdp", "apply A");
    STEP("A expired", "refuse A 487, BYE A, BYE B, release");
    STEP("B expired", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reinvite),
        cmocka_unit_test(test_reinvite_refused_keeps_the_call),
        cmocka_unit_test(test_reinvite_to_a_lost_dialog),
        cmocka_unit_test(test_glare),
        cmocka_unit_test(test_reinvite_before_ack),
        cmocka_unit_test(test_reinvite_cancelled),
        cmocka_unit_test(test_reinvite_cancel_crosses_200),
        cmocka_unit_test(test_reinvite_crosses_bye),
        cmocka_unit_test(test_late_reinvite),
        cmocka_unit_test(test_late_reinvite_refused),
        cmocka_unit_test(test_late_reinvite_cancelled),
        cmocka_unit_test(test_late_reinvite_without_answer),
        cmocka_unit_test(test_late_reinvite_makes_a_renewal_wait),
        cmocka_unit_test(test_reinvite_without_ports),
        cmocka_unit_test(test_reinvite_never_acknowledged),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_update_meets_other_offers),
        cmocka_unit_test(test_update_that_is_not_answered),
        cmocka_unit_test(test_withdrawn_update_crosses_200),
        cmocka_unit_test(test_withdrawn_update_that_nobody_ends),
        cmocka_unit_test(test_update_crosses_bye),
        cmocka_unit_test(test_absorbed),
        cmocka_unit_test(test_peers_refresh),
        cmocka_unit_test(test_our_refresh),
        cmocka_unit_test(test_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
