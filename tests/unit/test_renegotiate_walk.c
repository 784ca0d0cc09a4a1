/* Changes of a session in talk: every event in every state of every kind. */
#include "tests/unit/fsm_script.h"

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
        cmocka_unit_test(test_every_event_in_every_state_of_a_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
