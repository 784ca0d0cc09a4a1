/* The state machine of a call: every event in every state. */
#include "tests/unit/fsm_script.h"

/* ---- every event in every state ----
 * A seeded walk over all events with all variants. Watched: nothing is done twice that may be done once, an
 * INVITE is refused or answered once, nothing follows FREE, and from any state the call ends when the timers
 * fire. */

struct watch {
    bool a_final, released, freed, bye[2];
    bool unacked[2]; /* a 2xx of it waits for its ACK */
    int re_open[2];
    bool pre_open; /* an offer before the answer waits */
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void check_actions(const struct kg_fsm *fsm, struct watch *watch, const struct kg_fsm_event *event,
                          const struct kg_fsm_action *action, size_t count)
{
    assert_true(count < KG_FSM_ACTIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct kg_fsm_action *a = &action[i];
        assert_false(watch->freed);
        switch (a->type) {
        case KG_DO_REFUSE:
        case KG_DO_ANSWER:
        case KG_DO_OFFER:
            assert_true(a->type != KG_DO_REFUSE || (a->status >= 300 && a->status <= 699));
            if (a->side == A && !watch->a_final) {
                watch->a_final = true;
            } else { /* of a re-INVITE: there must be one */
                assert_true(watch->re_open[a->side] > 0);
                watch->re_open[a->side]--;
            }
            break;
        case KG_DO_APPLY:
            if (a->purpose == KG_APPLY_RE_OFFER && fsm->pre != KG_PRE_NONE)
                watch->pre_open = true;
            else if ((a->purpose == KG_APPLY_RE_OFFER && fsm->re_kind != KG_RE_LATE) ||
                     a->purpose == KG_APPLY_ABSORBED)
                watch->re_open[a->side]++;
            break;
        case KG_DO_ASK:
            if (fsm->re_kind == KG_RE_LATE)
                watch->re_open[kg_other_side(a->side)]++;
            break;
        case KG_DO_BYE:
            assert_false(watch->bye[a->side]);
            watch->bye[a->side] = true;
            break;
        case KG_DO_RELEASE:
            assert_false(watch->released);
            watch->released = true;
            break;
        case KG_DO_FREE:
            watch->freed = true;
            assert_int_equal(i, count - 1);
            break;
        case KG_DO_TURN_AWAY:
            assert_true(event->type == KG_EV_REINVITE || event->type == KG_EV_UPDATE || watch->pre_open);
            watch->pre_open &= event->type == KG_EV_REINVITE || event->type == KG_EV_UPDATE;
            break;
        case KG_DO_ACK:
            assert_true(watch->unacked[a->side]);
            watch->unacked[a->side] = false;
            break;
        case KG_DO_PRE_ANSWER:
            assert_true(watch->pre_open);
            watch->pre_open = false;
            break;
        default:
            break;
        }
    }
}

static void feed(struct kg_fsm *fsm, struct watch *watch, const struct kg_fsm_event *event, int64_t now)
{
    struct kg_fsm_action action[KG_FSM_ACTIONS_MAX];
    if (event->type == KG_EV_ANSWER && fsm->state != KG_CALL_ENDED)
        watch->unacked[event->side] = true;
    size_t count = kg_fsm_run(fsm, event, now, action);
    check_actions(fsm, watch, event, action, count);
    /* A re-INVITE is served or turned away, never neither, while there is a call. */
    if ((event->type == KG_EV_REINVITE || event->type == KG_EV_UPDATE) && !watch->freed)
        assert_true(count > 0);
}

static void test_every_event_in_every_state(void **state)
{
    (void)state;
    bool seen[KG_CALL_ENDED + 1][KG_EV_COUNT] = {{false}};
    for (uint64_t walk = 1; walk <= 60000; walk++) {
        uint64_t seed = walk * 0x9E3779B97F4A7C15u;
        struct kg_fsm fsm;
        struct watch watch = {0};
        int64_t now = 0;
        kg_fsm_init(&fsm, (unsigned)(next_random(&seed) % 3), next_random(&seed) % 2);
        bool late = walk % 4 == 0;
        fsm.reliable = (enum kg_reliable)(walk / 4 % 3);
        feed(&fsm, &watch, &(struct kg_fsm_event){.type = KG_EV_INVITE, .sdp = !late}, now);
        for (int i = 0; i < 24; i++) {
            uint64_t r = next_random(&seed);
            struct kg_fsm_event event = {.type = (enum kg_fsm_event_type)(r % KG_EV_COUNT),
                                         .side = (enum kg_side)(r >> 8 & 1),
                                         .status =
                                             (int)((const int[]){100, 180, 183, 302, 401, 408, 480, 481, 486,
                                                                 487, 491, 503, 603}[(r >> 16) % 13]),
                                         .sdp = (r >> 24) % 4 != 0,
                                         .ok = (r >> 28) % 8 != 0,
                                         .absorb = (r >> 36) % 4 == 0,
                                         .reliable = (r >> 45) % 2,
                                         .passes = (r >> 46) % 4 != 0,
                                         .chance = (unsigned)(r >> 44),
                                         .seq = fsm.apply_seq - ((r >> 32) % 8 == 0)};
            if (late && i < 5 && r >> 60)
                event = (struct kg_fsm_event[]){{.type = KG_EV_PROVISIONAL, .side = B, .status = 180},
                                                {.type = KG_EV_ANSWER, .side = B, .sdp = true},
                                                {.type = KG_EV_MEDIA, .seq = fsm.apply_seq, .ok = true},
                                                {.type = KG_EV_ACK, .side = A, .sdp = true},
                                                {.type = KG_EV_MEDIA, .seq = fsm.apply_seq, .ok = true}}[i];
            if (!late && i < 4 &&
                r >> 60) /* most walks get as far as talk: else the late states are rarely met */
                event = (struct kg_fsm_event[]){{.type = KG_EV_MEDIA, .seq = fsm.apply_seq, .ok = true},
                                                {.type = KG_EV_ANSWER, .side = B, .sdp = true},
                                                {.type = KG_EV_MEDIA, .seq = fsm.apply_seq, .ok = true},
                                                {.type = KG_EV_ACK, .side = A}}[i];
            now += (int64_t)((r >> 40) % 3000);
            seen[fsm.state][event.type] = true;
            feed(&fsm, &watch, &event, now);
        }
        /* Silence of everybody: an admin's hangup and the clock end it. */
        feed(&fsm, &watch, &(struct kg_fsm_event){.type = KG_EV_HANGUP}, now);
        for (int i = 0; i < 4 && fsm.state != KG_CALL_ENDED; i++) {
            now += KG_CALL_FINAL_MS + 1;
            feed(&fsm, &watch, &(struct kg_fsm_event){.type = KG_EV_TIMER}, now);
        }
        assert_int_equal(fsm.state, KG_CALL_ENDED);
        assert_true(watch.freed && watch.released && watch.a_final);
        assert_int_equal(watch.re_open[A] + watch.re_open[B], 0);
        assert_false(watch.pre_open);
        assert_false(watch.unacked[A] || watch.unacked[B]);
    }
    for (int s = KG_CALL_SETUP; s <= KG_CALL_ENDED; s++)
        for (int e = 0; e < KG_EV_COUNT; e++)
            if (!seen[s][e])
                fail_msg("%s was never tried in state %d", event_names[e], s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_in_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
