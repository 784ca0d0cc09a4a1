/* Changes of a session in talk: re-INVITE and UPDATE, absorbed offers, and what kedge itself offers. */
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

/* ---- every event in every state of every kind ----
 * From each state that a change in talk can be in, every event with every variant: what a peer is owed (a
 * final response, an ACK of its 2xx) it gets once, and the call ends when the timers fire. */

struct watch {
    bool served[2];  /* its request waits for a final response */
    bool unacked[2]; /* its 2xx waits for an ACK */
    bool freed;
};

static void look(const struct kg_fsm *fsm, struct watch *watch, const struct kg_fsm_action *action,
                 size_t count)
{
    assert_true(count < KG_FSM_ACTIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct kg_fsm_action *a = &action[i];
        assert_false(watch->freed);
        bool late = fsm->re_kind == KG_RE_LATE;
        enum kg_side from = late ? kg_other_side(a->side) : a->side;
        if (late ? a->type == KG_DO_ASK
                 : a->type == KG_DO_APPLY &&
                       (a->purpose == KG_APPLY_RE_OFFER || a->purpose == KG_APPLY_ABSORBED)) {
            assert_false(watch->served[from]);
            watch->served[from] = true;
        } else if (a->type == KG_DO_ANSWER || a->type == KG_DO_OFFER || a->type == KG_DO_REFUSE) {
            assert_true(watch->served[a->side]);
            watch->served[a->side] = false;
        } else if (a->type == KG_DO_ACK) {
            assert_true(watch->unacked[a->side]);
            watch->unacked[a->side] = false;
        } else if (a->type == KG_DO_BYE) {
            assert_false(watch->unacked[a->side]);
        } else if (a->type == KG_DO_FREE) {
            watch->freed = true;
        }
    }
}

static void feed(struct kg_fsm *fsm, struct watch *watch, const struct kg_fsm_event *event, int64_t now)
{
    struct kg_fsm_action action[KG_FSM_ACTIONS_MAX];
    bool ended = fsm->state == KG_CALL_ENDED;
    if (event->type == KG_EV_ANSWER && !ended)
        watch->unacked[event->side] = true;
    size_t count = kg_fsm_run(fsm, event, now, action);
    look(fsm, watch, action, count);
}

static void try_all(const struct run *base, const struct watch *before)
{
    static const int statuses[] = {180, 404, 408, 481, 487, 491, 500, 503};
    for (int type = 0; type < KG_EV_COUNT; type++)
        for (unsigned variant = 0; variant < 16u * 8; variant++) {
            struct kg_fsm fsm = base->fsm;
            struct watch watch = *before;
            int64_t now = base->now + (variant & 8 ? 40000 : 0);
            struct kg_fsm_event event = {.type = (enum kg_fsm_event_type)type,
                                         .side = variant & 1 ? B : A,
                                         .sdp = variant & 2,
                                         .absorb = variant & 4,
                                         .ok = variant & 4,
                                         .seq = fsm.apply_seq,
                                         .status = statuses[variant >> 4]};
            feed(&fsm, &watch, &event, now);
            feed(&fsm, &watch, &(struct kg_fsm_event){.type = KG_EV_HANGUP}, now);
            for (int i = 0; i < 4 && !watch.freed; i++) {
                now += KG_CALL_FINAL_MS + 1;
                feed(&fsm, &watch, &(struct kg_fsm_event){.type = KG_EV_TIMER}, now);
            }
            assert_true(watch.freed);
            assert_false(watch.served[A] || watch.served[B] || watch.unacked[A] || watch.unacked[B]);
        }
}

static void test_every_event_in_every_state_of_a_change(void **state)
{
    (void)state;
    static const char *const scripts[][6] = {
        {"A reinvite sdp", "media", "B 2xx sdp", "media"},
        {"A reinvite sdp", "media", "A cancel"},
        {"B update sdp", "media", "A 2xx sdp", "media"},
        {"B update sdp", "media", "timer +20000"},
        {"A reinvite absorb", "media"},
        {"B update absorb", "media"},
        {"A renew", "A 2xx sdp", "media"},
        {"B renew", "timer +32000"},
        {"B renew", "B reject 491"},
        {"A upgrade", "A 2xx sdp", "media", "B 2xx sdp", "media"},
        {"B upgrade", "B 2xx sdp", "media", "timer +8000"},
        {"A upgrade", "timer +32000"},
        {"A reinvite", "B 2xx sdp", "media", "A ack sdp", "media"},
        {"B reinvite", "B cancel", "A 2xx sdp", "media", "B ack sdp"},
    };
    bool seen[KG_RE_LATE + 1][KG_RE_WITHDRAWN + 1] = {{false}};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct run run = start(1, false);
        struct watch watch = {.served = {false}};
        talking(&run);
        try_all(&run, &watch);
        for (size_t j = 0; j < 6 && scripts[i][j]; j++) {
            struct kg_fsm_event event = parse_event(&run, scripts[i][j]);
            feed(&run.fsm, &watch, &event, run.now);
            run.last_seq = run.fsm.apply_seq;
            seen[run.fsm.re_kind][run.fsm.re] = true;
            assert_int_equal(run.fsm.state, KG_CALL_TALK);
            try_all(&run, &watch);
        }
    }
    static const bool possible[KG_RE_LATE + 1][KG_RE_WITHDRAWN + 1] = {
        [KG_RE_PASSES] = {[KG_RE_OFFER] = true,
                          [KG_RE_SENT] = true,
                          [KG_RE_ANSWER] = true,
                          [KG_RE_CONFIRMING] = true,
                          [KG_RE_WITHDRAWN] = true},
        [KG_RE_ABSORBED] = {[KG_RE_ANSWER] = true, [KG_RE_CONFIRMING] = true},
        [KG_RE_RENEWAL] = {[KG_RE_SENT] = true, [KG_RE_ANSWER] = true},
        [KG_RE_UPGRADE] = {[KG_RE_ASKED] = true,
                           [KG_RE_OFFER] = true,
                           [KG_RE_SENT] = true,
                           [KG_RE_ANSWER] = true,
                           [KG_RE_WITHDRAWN] = true},
        [KG_RE_LATE] =
            {[KG_RE_ASKED] = true, [KG_RE_OFFER] = true, [KG_RE_SENT] = true, [KG_RE_ANSWER] = true},
    };
    for (int kind = 0; kind <= KG_RE_LATE; kind++)
        for (int re = KG_RE_ASKED; re <= KG_RE_WITHDRAWN; re++)
            assert_int_equal(seen[kind][re], possible[kind][re]);
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
        cmocka_unit_test(test_every_event_in_every_state_of_a_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
