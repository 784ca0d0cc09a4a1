/* The state machine of a call: ordinary calls, late offers, the races of RFC 3261, failures. Every event in
 * every state: test_fsm_walk.c; changes in talk: test_renegotiate.c. */
#include "tests/unit/fsm_script.h"

static void assert_ended(const struct run *run)
{
    assert_int_equal(run->fsm.state, KG_CALL_ENDED);
}

/* ---- ordinary calls ---- */

static void test_call_and_bye_by_caller(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A bye", "BYE B, release");
    STEP("B byedone", "free");
    assert_ended(&run);
}

static void test_call_and_bye_by_callee(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B bye", "BYE A, release");
    STEP("A byedone", "free");
    assert_ended(&run);
}

static void test_early_media_then_changed_answer(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 100", "");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("media", "progress A 183 sdp");
    STEP("B 1xx 180", "progress A 180");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "talk");
}

/* The engine still works on the 183: what rings after it is told after it, the newest of it once. */
static void test_ringing_does_not_overtake_early_media(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("B 1xx 180", "");
    STEP("B 1xx 182", "");
    STEP("media", "progress A 183 sdp, progress A 182");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("B 1xx 180", "");
    STEP("B 1xx 183 sdp", "apply B"); /* newer than that */
    STEP("media old", "");
    STEP("media", "progress A 183 sdp");
    STEP("B 1xx 180", "progress A 180");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("B 1xx 180", "");
    STEP("B 2xx sdp", "ACK B, apply B"); /* it rings no more */
    STEP("media", "200 A");
    STEP("A ack", "talk");
}

/* The 200 comes while the engine still works on the 183: only the 200's reply counts. */
static void test_answer_overtakes_early_media(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media old", "");
    STEP("media", "200 A");
    STEP("A ack", "talk");
}

/* ---- late offer (RFC 3261 13.2.1): B makes it in its 2xx, A answers it in its ACK ---- */

static void late(struct run *run_)
{
    struct run run = *run_;
    STEP("A invite", "INVITE B");
    STEP("B 1xx 183 sdp", "progress A 183"); /* not reliable, so no offer */
    STEP("B 2xx sdp", "apply B");            /* its ACK waits for A's */
    *run_ = run;
}

static void test_late_offer(void **state)
{
    (void)state;
    struct run run = start(1, false);
    late(&run);
    STEP("B 2xx sdp", ""); /* once more */
    STEP("media", "200 offer A");
    assert_false(kg_fsm_awaits_answer(&run.fsm, B));
    assert_true(kg_fsm_awaits_answer(&run.fsm, A));
    STEP("B reinvite sdp", "defer B");
    STEP("A reinvite sdp", "away A 500 later");
    STEP("A ack sdp", "apply A");
    assert_false(kg_fsm_awaits_answer(&run.fsm, A));
    STEP("media", "ACK B answer, agreed, talk");
    STEP("A bye", "BYE B, release");
    STEP("B byedone", "free");
    assert_ended(&run);
}

static void test_late_offer_without_answer(void **state)
{
    (void)state;
    struct run run = start(1, false);
    late(&run);
    STEP("media", "200 offer A");
    STEP("A ack", "BYE A, ACK B, BYE B, release");
    run = start(1, false);
    late(&run);
    STEP("media", "200 offer A");
    STEP("timer +19999", "");
    STEP("timer +1", "ACK B, BYE B, release"); /* B waits no longer */
    STEP("A ack sdp", "BYE A");                /* not before its ACK (RFC 3261 15) */
    run = start(1, false);
    STEP("A invite", "INVITE B");
    STEP("B 2xx", "ACK B, refuse A 502, BYE B, release");
}

static void test_late_offer_that_ends_early(void **state)
{
    (void)state;
    struct run run = start(1, false);
    late(&run);
    STEP("media fail", "refuse A 503 later, ACK B, BYE B, release");
    run = start(1, false);
    late(&run);
    STEP("A cancel", "refuse A 487, ACK B, BYE B, release");
    run = start(1, false);
    late(&run);
    STEP("B bye", "ACK B, refuse A 480, release, free");
    run = start(1, false);
    late(&run);
    STEP("media", "200 offer A");
    STEP("A bye", "ACK B, BYE B, release");
    run = start(1, false);
    late(&run);
    STEP("media", "200 offer A");
    STEP("A ack sdp", "apply A");
    STEP("media fail", "BYE A, ACK B, BYE B, release");
    run = start(1, false);
    late(&run);
    STEP("media", "200 offer A");
    STEP("A ack sdp", "apply A");
    STEP("timer +10000", "BYE A, ACK B, BYE B, release");
}

static void test_late_offer_that_is_refused(void **state)
{
    (void)state;
    struct run run = start(2, false);
    STEP("A invite", "INVITE B");
    STEP("B reject 480", "INVITE B");
    STEP("B reject 486", "refuse A 486, release, free");
    run = start(1, false);
    STEP("A invite", "INVITE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("A cancel", "refuse A 487, CANCEL B, release");
    STEP("B 2xx sdp", "ACK B, BYE B");
}

static void test_answer_without_sdp(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx", "ACK B, refuse A 502, BYE B, release");
    STEP("B byedone", "free");
}

/* ---- CANCEL (RFC 3261 9) ---- */

static void test_cancel(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("A cancel", "refuse A 487, CANCEL B, release");
    STEP("B reject 487", "free");
    assert_ended(&run);
}

static void test_cancel_crosses_200(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("A cancel", "refuse A 487, CANCEL B, release");
    STEP("B 2xx sdp", "ACK B, BYE B");
    STEP("B byedone", "free");
}

static void test_cancel_while_answer_is_with_the_engine(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("A cancel", "refuse A 487, BYE B, release");
    STEP("media", "");
    STEP("B byedone", "free");
}

static void test_cancel_after_200_is_too_late(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A cancel", "");
    STEP("A ack", "talk");
}

static void test_cancel_before_the_engine_answers(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("A cancel", "refuse A 487, release, free");
    assert_ended(&run);
}

static void test_cancelled_callee_never_answers(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("A cancel", "refuse A 487, CANCEL B, release");
    STEP("timer", "");
    STEP("timer +36000", "free");
}

/* ---- BYE (RFC 3261 15) ---- */

static void test_byes_cross(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("A bye", "BYE B, release");
    STEP("B bye", "free");
    STEP("B byedone", "");
    assert_ended(&run);
}

/* The callee hangs up before the caller's ACK came: the caller may not be sent BYE yet. */
static void test_bye_waits_for_ack(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("B bye", "release");
    STEP("A ack", "BYE A");
    STEP("A byedone", "free");
}

static void test_bye_waits_for_ack_that_never_comes(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("B bye", "release");
    STEP("A noack", "BYE A");
    STEP("timer +5000", "free");
}

static void test_no_ack(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A noack", "BYE A, BYE B, release");
    STEP("A byedone", "");
    STEP("B byedone", "free");
}

static void test_bye_in_early_dialog(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("A bye", "refuse A 487, CANCEL B, release");
    STEP("B reject 487", "free");
}

static void test_bye_while_answer_is_with_the_engine(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("B bye", "refuse A 480, release, free");
}

static void test_unanswered_bye(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("B bye", "BYE A, release");
    STEP("timer +3999", "");
    STEP("timer +2", "free");
}

/* ---- failures ---- */

static void test_no_ports(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media fail", "refuse A 503 later, release, free");
    assert_ended(&run);

    run = start(1, false); /* what the engine said of it is what people are told */
    STEP("A invite sdp", "apply A");
    static const char why[] = "every media port is in use";
    struct kg_fsm_event event = {.type = KG_EV_MEDIA, .seq = run.last_seq, .why = why};
    struct kg_fsm_action action[KG_FSM_ACTIONS_MAX];
    assert_int_equal(kg_fsm_run(&run.fsm, &event, run.now, action), 3);
    assert_int_equal(action[0].type, KG_DO_REFUSE);
    assert_ptr_equal(action[0].why, why);
    assert_int_equal(action[1].type, KG_DO_RELEASE);
    assert_ptr_equal(action[1].why, why);
}

static void test_engine_fails_at_the_answer(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media fail", "refuse A 503 later, BYE B, release");
}

static void test_engine_silent(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("timer +10001", "refuse A 503 later, release, free");
}

static void test_next_contact(void **state)
{
    (void)state;
    struct run run = start(3, false);
    ringing(&run);
    STEP("B reject 480", "INVITE B");
    STEP("timer +4001", "drop B, INVITE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("B reject 480", "refuse A 480, release, free");
}

/* RFC 3261 16.7 step 5: who is busy at one phone may be at another; who declines wants no call anywhere. */
static void test_decline_ends_the_search(void **state)
{
    (void)state;
    struct run run = start(3, false);
    ringing(&run);
    STEP("B reject 486", "INVITE B");
    STEP("B reject 603", "refuse A 603, release, free");
}

static void test_dead_pbx(void **state)
{
    (void)state;
    struct run run = start(1, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("timer +4001", "drop B, refuse A 503 later, release, free");
}

/* Another PBX is tried when one is not there; what a PBX says of a callee is final. */
static void test_next_pbx(void **state)
{
    (void)state;
    struct run run = start(3, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("timer +4001", "drop B, INVITE B");
    STEP("B reject 503", "INVITE B");
    STEP("B 1xx 100", "");
    STEP("B reject 480", "refuse A 480, release, free");
    run = start(3, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B reject 408", "refuse A 408, release, free");
}

static void test_dead_phone(void **state)
{
    (void)state;
    struct run run = start(1, false);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("timer +4001", "drop B, refuse A 408, release, free");
}

/* threats.md: failover within 4 s, however many are silent. */
static void test_silent_pbxes_share_four_seconds(void **state)
{
    (void)state;
    struct run run = start(3, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("timer +1330", "");
    STEP("timer +10", "drop B, INVITE B");
    STEP("timer +1340", "drop B, INVITE B");
    STEP("timer +1310", "");
    STEP("timer +20", "drop B, refuse A 503 later, release, free");
    run = start(2, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("timer +2000", "drop B, INVITE B"); /* one that is there has 2 s to say so */
    STEP("B 1xx 180", "progress A 180");
    STEP("timer +60000", ""); /* from then on it has the usual time */
    STEP("B reject 486", "refuse A 486, release, free");
    run = start(4, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("timer +20000", "");
    STEP("B reject 503", "INVITE B"); /* late, and the next one all the same */
    STEP("timer +1000", "drop B, INVITE B");
    STEP("timer +1000", "drop B, INVITE B");
    STEP("timer +1000", "drop B, refuse A 503 later, release, free");
}

static void test_nobody_picks_up(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("timer +179000", "");
    STEP("timer +2000", "refuse A 408, CANCEL B, release");
    STEP("B reject 487", "free");
}

static void test_challenge_of_the_pbx_passes(void **state)
{
    (void)state;
    struct run run = start(1, true);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B reject 407", "refuse A 407, release, free");
}

static void test_status_map(void **state)
{
    (void)state;
    assert_int_equal(kg_fsm_map_status(302, false), 480);
    assert_int_equal(kg_fsm_map_status(401, false),
                     480); /* a phone's challenge never reaches the other side */
    assert_int_equal(kg_fsm_map_status(407, false), 480);
    assert_int_equal(kg_fsm_map_status(401, true), 401);
    assert_int_equal(kg_fsm_map_status(404, true), 404);
    assert_int_equal(kg_fsm_map_status(486, false), 486);
    assert_int_equal(kg_fsm_map_status(481, false), 500);
    assert_int_equal(kg_fsm_map_status(603, false), 603);
    assert_int_equal(kg_fsm_map_status(699, false), 699);
    assert_int_equal(kg_fsm_map_status(700, false), 500);
    assert_int_equal(kg_fsm_map_status(0, false), 500);
}

static void test_silence(void **state)
{
    (void)state;
    struct run run = start(1, false);
    talking(&run);
    STEP("silence", "BYE A, BYE B, release");
    STEP("B byedone", "");
    STEP("A byedone", "free");
}

static void test_lost_flows(void **state)
{
    (void)state;
    struct run run = start(2, false);
    ringing(&run);
    STEP("B flowlost", "drop B, INVITE B");
    STEP("A flowlost", "refuse A 487, CANCEL B, release");
    run = start(1, false);
    talking(&run);
    STEP("A flowlost", ""); /* media goes on; the phone may come back */
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

static void test_ended_from_outside(void **state)
{
    (void)state;
    struct run run = start(1, false);
    ringing(&run);
    STEP("shutdown", "refuse A 503 later, CANCEL B, release");
    STEP("shutdown", "");
    run = start(1, false);
    talking(&run);
    STEP("hangup", "BYE A, BYE B, release");
    run = start(1, false);
    talking(&run);
    STEP("medialost", "BYE A, BYE B, release");
}

static void test_taken_over_call(void **state)
{
    (void)state;
    struct run run = {.now = 5};
    kg_fsm_init_talk(&run.fsm);
    STEP("B reinvite sdp", "apply B");
    STEP("media", "INVITE A");
    STEP("A 2xx sdp", "ACK A, apply A");
    STEP("media", "200 B");
    STEP("B ack", "");
    STEP("A bye", "BYE B, release");
    STEP("B byedone", "free");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_and_bye_by_caller),
        cmocka_unit_test(test_call_and_bye_by_callee),
        cmocka_unit_test(test_early_media_then_changed_answer),
        cmocka_unit_test(test_ringing_does_not_overtake_early_media),
        cmocka_unit_test(test_answer_overtakes_early_media),
        cmocka_unit_test(test_late_offer),
        cmocka_unit_test(test_late_offer_without_answer),
        cmocka_unit_test(test_late_offer_that_ends_early),
        cmocka_unit_test(test_late_offer_that_is_refused),
        cmocka_unit_test(test_answer_without_sdp),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_crosses_200),
        cmocka_unit_test(test_cancel_while_answer_is_with_the_engine),
        cmocka_unit_test(test_cancel_after_200_is_too_late),
        cmocka_unit_test(test_cancel_before_the_engine_answers),
        cmocka_unit_test(test_cancelled_callee_never_answers),
        cmocka_unit_test(test_byes_cross),
        cmocka_unit_test(test_bye_waits_for_ack),
        cmocka_unit_test(test_bye_waits_for_ack_that_never_comes),
        cmocka_unit_test(test_no_ack),
        cmocka_unit_test(test_bye_in_early_dialog),
        cmocka_unit_test(test_bye_while_answer_is_with_the_engine),
        cmocka_unit_test(test_unanswered_bye),
        cmocka_unit_test(test_no_ports),
        cmocka_unit_test(test_engine_fails_at_the_answer),
        cmocka_unit_test(test_engine_silent),
        cmocka_unit_test(test_next_contact),
        cmocka_unit_test(test_decline_ends_the_search),
        cmocka_unit_test(test_dead_pbx),
        cmocka_unit_test(test_next_pbx),
        cmocka_unit_test(test_dead_phone),
        cmocka_unit_test(test_silent_pbxes_share_four_seconds),
        cmocka_unit_test(test_nobody_picks_up),
        cmocka_unit_test(test_challenge_of_the_pbx_passes),
        cmocka_unit_test(test_status_map),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_lost_flows),
        cmocka_unit_test(test_ended_from_outside),
        cmocka_unit_test(test_taken_over_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
