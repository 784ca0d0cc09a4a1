/* What waits for PRACK (RFC 3262) in the call's state machine: one reliable response at a time, then the
 * newest of what came in between, then the answer. */
#include "tests/unit/fsm_script.h"

static struct run reliable(enum kg_reliable how)
{
    struct run run = start(2, false);
    run.fsm.reliable = how;
    return run;
}

static void test_supported_means_those_with_sdp(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_SDP);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("media", "progress A 183 sdp reliable");
    STEP("A prack", "");
    STEP("A prack", "");
    STEP("B 1xx 180", "progress A 180");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "talk");
}

static void test_required_means_all(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 100", "");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("A prack", "");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B prack", ""); /* not its business */
    STEP("B 1xx 181", "");
    STEP("A prack", "progress A 181 reliable");
}

static void test_the_newest_is_said_after_prack(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("media", "");
    STEP("B 1xx 182", "");
    STEP("A prack", "progress A 182 sdp reliable"); /* with the description that A has not heard */
    STEP("A prack", "");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 1xx 183", "");
    STEP("B reject 480", "INVITE B"); /* another contact: what the first one said is of no interest */
    STEP("A prack", "");
}

static void test_the_answer_waits(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 183 sdp", "apply B");
    STEP("media", "progress A 183 sdp reliable");
    STEP("B 1xx 180", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "");
    STEP("timer +34999", "");
    STEP("A prack", "200 A"); /* and no 180 any more */
    STEP("A ack", "talk");
}

static void test_prack_while_the_answer_is_with_the_engine(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 1xx 182", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("A prack", "");
    STEP("media", "200 A");
}

static void test_no_prack(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("A noprack", "refuse A 504, CANCEL B, release");
    run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "");
    STEP("A noprack", "refuse A 504, BYE B, release");
    run = reliable(KG_RELIABLE_ALL);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "");
    STEP("timer +35000", "refuse A 504, BYE B, release"); /* should nta be late */
}

static void test_ended_while_the_answer_waits(void **state)
{
    (void)state;
    const char *const event[] = {"A cancel", "A bye", "B bye"};
    const char *const expected[] = {"refuse A 487, BYE B, release", "refuse A 487, BYE B, release",
                                    "refuse A 480, release, free"};
    for (int i = 0; i < 3; i++) {
        struct run run = reliable(KG_RELIABLE_ALL);
        STEP("A invite sdp", "apply A");
        STEP("media", "INVITE B");
        STEP("B 1xx 180", "progress A 180 reliable");
        STEP("B 2xx sdp", "ACK B, apply B");
        STEP("media", "");
        STEP(event[i], expected[i]);
        STEP("A prack", "");
    }
}

static void test_a_late_offer_waits(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite", "INVITE B");
    STEP("B 1xx 183 sdp", "progress A 183 reliable");
    STEP("B 2xx sdp", "apply B");
    STEP("media", "");
    STEP("A prack", "200 offer A");
    STEP("A ack sdp", "apply A");
    STEP("media", "ACK B answer, agreed, talk");
}

/* ---- the late offer in a reliable 18x ---- */

static struct run offered(enum kg_reliable how)
{
    struct run run = reliable(how);
    STEP("A invite", "INVITE B");
    assert_true(kg_fsm_takes_18x(&run.fsm));
    STEP("B 1xx 183 sdp reliable", "apply B");
    assert_false(kg_fsm_takes_18x(&run.fsm));
    STEP("media", "progress A 183 sdp reliable");
    assert_true(kg_fsm_awaits_prack(&run.fsm));
    return run;
}

static void test_a_late_offer_in_18x(void **state)
{
    (void)state;
    struct run run = offered(KG_RELIABLE_SDP);
    STEP("B 1xx 180", "");
    STEP("A prack sdp", "apply A");
    STEP("B 1xx 181", ""); /* not before the engine has the answer */
    STEP("media", "PRACK B, agreed, progress A 180, progress A 181");
    STEP("B 1xx 183 sdp reliable", "progress A 183"); /* the offer again, which A would have to answer */
    assert_true(kg_fsm_takes_pre_offer(&run.fsm));
    STEP("A update sdp passes", "apply A");
    STEP("media", "pre UPDATE B");
    STEP("B pre2xx sdp", "apply B");
    STEP("media", "pre 200 A");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    assert_false(kg_fsm_awaits_answer(&run.fsm, A));
    STEP("A ack", "talk");
}

static void test_a_late_offer_waits_for_an_earlier_prack(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_ALL);
    STEP("A invite", "INVITE B");
    STEP("B 1xx 180", "progress A 180 reliable");
    STEP("B 1xx 183 sdp reliable", "apply B");
    STEP("media", "");
    assert_false(kg_fsm_awaits_prack(&run.fsm));
    STEP("A prack", "progress A 183 sdp reliable");
    STEP("A prack sdp", "apply A");
    STEP("media", "PRACK B, agreed");
}

static void test_a_late_offer_in_18x_that_comes_to_nothing(void **state)
{
    (void)state;
    struct run run = offered(KG_RELIABLE_ALL);
    STEP("A prack", "refuse A 488, CANCEL B, release"); /* without the answer */
    run = offered(KG_RELIABLE_ALL);
    STEP("A noprack", "refuse A 504, CANCEL B, release");
    run = offered(KG_RELIABLE_ALL);
    STEP("B 2xx sdp", "ACK B, refuse A 502, BYE B, release"); /* too early */
    run = offered(KG_RELIABLE_ALL);
    STEP("A prack sdp", "apply A");
    STEP("media fail", "refuse A 503 later, CANCEL B, release");
    run = offered(KG_RELIABLE_ALL);
    STEP("B reject 480", "refuse A 480, release, free"); /* no other contact: A has its offer */
    run = reliable(KG_RELIABLE_NONE);
    STEP("A invite", "INVITE B");
    STEP("B 1xx 183 sdp reliable", "progress A 183"); /* nobody asked for that */
    STEP("B 2xx sdp", "apply B");
    STEP("media", "200 offer A");
}

/* ---- changes before the answer (RFC 3311 5.1, RFC 3262 5) ---- */

/* The first exchange is complete on both sides. */
static struct run settled(void)
{
    struct run run = reliable(KG_RELIABLE_SDP);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("B 1xx 183 sdp reliable", "apply B");
    STEP("media", "progress A 183 sdp reliable");
    STEP("A prack", "");
    assert_true(kg_fsm_takes_pre_offer(&run.fsm));
    return run;
}

static void test_update_before_the_answer(void **state)
{
    (void)state;
    struct run run = settled();
    STEP("A update sdp passes", "apply A");
    STEP("A update sdp passes", "away A 500 later");
    STEP("B update sdp passes", "away B 491");
    STEP("media", "pre UPDATE B");
    STEP("A update sdp passes", "away A 500 later");
    STEP("B pre2xx sdp", "apply B");
    STEP("media", "pre 200 A");
    STEP("B update sdp passes", "apply B");
    STEP("A update sdp passes", "away A 491");
    STEP("media", "pre UPDATE A");
    STEP("B update sdp passes", "away B 500 later");
    STEP("A pre2xx sdp", "apply A");
    STEP("media", "pre 200 B");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    STEP("A ack", "talk");
}

static void test_update_before_the_first_exchange(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_SDP);
    STEP("A invite sdp", "apply A");
    STEP("media", "INVITE B");
    STEP("A update sdp passes", "away A 500 later");
    STEP("B update sdp passes", "away B 491");
    STEP("B 1xx 183 sdp reliable", "apply B");
    STEP("media", "progress A 183 sdp reliable");
    STEP("A update sdp passes", "away A 500 later"); /* no PRACK yet */
    STEP("A prack", "");
    STEP("B 1xx 183 sdp", "apply B"); /* of another phone, say: not reliably */
    STEP("media", "progress A 183 sdp reliable");
    STEP("A prack", "");
    STEP("A update sdp passes", "away A 500 later");
    STEP("B update sdp passes", "away B 491");
}

static void test_update_that_cannot_pass(void **state)
{
    (void)state;
    struct run run = settled();
    STEP("A update sdp", "away A 488, restore");
    STEP("A update sdp passes", "apply A");
    STEP("media fail", "away A 503 later, restore");
    STEP("A update sdp passes", "apply A");
    STEP("media", "pre UPDATE B");
    STEP("B prereject 488", "away A 488, restore");
    STEP("A update sdp passes", "apply A");
    STEP("media", "pre UPDATE B");
    STEP("B pre2xx", "away A 500, restore");
    STEP("B update sdp passes", "apply B");
    STEP("media", "pre UPDATE A");
    STEP("timer +19999", "");
    STEP("timer +1", "away B 504, restore");
    STEP("A pre2xx sdp", ""); /* too late */
    STEP("timer +160000", "refuse A 408, CANCEL B, release");
}

static void test_the_answer_comes_first(void **state)
{
    (void)state;
    struct run run = settled();
    STEP("A update sdp passes", "apply A");
    STEP("B preover", "away A 500 later, restore");
    STEP("media", "");
    STEP("B 2xx sdp", "ACK B, apply B");
    STEP("media", "200 A");
    run = settled();
    STEP("A update sdp passes", "apply A");
    STEP("media", "pre UPDATE B");
    STEP("B preover", "away A 500 later, restore");
    STEP("B pre2xx sdp", "");
    STEP("B reject 486", "INVITE B");
    run = settled();
    STEP("A update sdp passes", "apply A");
    STEP("A cancel", "away A 500 later, restore, refuse A 487, CANCEL B, release");
}

static void test_early_media_does_not_disturb_it(void **state)
{
    (void)state;
    struct run run = settled();
    STEP("A update sdp passes", "apply A");
    STEP("B 1xx 183 sdp", "progress A 183");
    STEP("media", "pre UPDATE B");
    STEP("B 1xx 180", "progress A 180");
    STEP("B pre2xx sdp", "apply B");
    STEP("media", "pre 200 A");
}

static void test_in_talk_it_means_nothing(void **state)
{
    (void)state;
    struct run run = reliable(KG_RELIABLE_NONE);
    talking(&run);
    STEP("A prack", "");
    STEP("A noprack", "");
    assert_int_equal(run.fsm.state, KG_CALL_TALK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_supported_means_those_with_sdp),
        cmocka_unit_test(test_required_means_all),
        cmocka_unit_test(test_the_newest_is_said_after_prack),
        cmocka_unit_test(test_the_answer_waits),
        cmocka_unit_test(test_prack_while_the_answer_is_with_the_engine),
        cmocka_unit_test(test_no_prack),
        cmocka_unit_test(test_ended_while_the_answer_waits),
        cmocka_unit_test(test_a_late_offer_waits),
        cmocka_unit_test(test_a_late_offer_in_18x),
        cmocka_unit_test(test_a_late_offer_waits_for_an_earlier_prack),
        cmocka_unit_test(test_a_late_offer_in_18x_that_comes_to_nothing),
        cmocka_unit_test(test_update_before_the_answer),
        cmocka_unit_test(test_update_before_the_first_exchange),
        cmocka_unit_test(test_update_that_cannot_pass),
        cmocka_unit_test(test_the_answer_comes_first),
        cmocka_unit_test(test_early_media_does_not_disturb_it),
        cmocka_unit_test(test_in_talk_it_means_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
