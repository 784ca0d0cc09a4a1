/* The state machine: which part of a call's life an event belongs to. setup.c: until the ACK; renegotiate.c
 * and preanswer.c: changes of the session in talk and before; ending.c. */
#include "b2bua/call/fsm_inside.h"

const char *kg_call_state_name(enum kg_call_state state)
{
    static const char *const name[] = {
        [KG_CALL_NEW] = "new",         [KG_CALL_SETUP] = "setup",        [KG_CALL_CALLING] = "ringing",
        [KG_CALL_ANSWERING] = "setup", [KG_CALL_CONFIRMING] = "confirm", [KG_CALL_TALK] = "talk",
        [KG_CALL_ENDING] = "ending",   [KG_CALL_ENDED] = "ended",
    };
    return name[state];
}

struct kg_fsm_action *kg_fsm_add(struct kg_fsm_out *out, enum kg_fsm_action_type type, enum kg_side side)
{
    /* The last slot is overwritten rather than overrun; tests show that no event needs more. */
    if (out->count == KG_FSM_ACTIONS_MAX)
        out->count--;
    struct kg_fsm_action *action = &out->action[out->count++];
    *action = (struct kg_fsm_action){.type = type, .side = side};
    return action;
}

void kg_fsm_refuse(struct kg_fsm_out *out, enum kg_side side, int status, int retry_after, const char *why)
{
    struct kg_fsm_action *action = kg_fsm_add(out, KG_DO_REFUSE, side);
    action->status = status;
    action->retry_after = retry_after;
    action->why = why;
}

void kg_fsm_turn_away(struct kg_fsm_out *out, enum kg_side side, int status, int retry_after, const char *why)
{
    kg_fsm_refuse(out, side, status, retry_after, why);
    out->action[out->count - 1].type = KG_DO_TURN_AWAY;
}

void kg_fsm_apply(struct kg_fsm *fsm, struct kg_fsm_out *out, enum kg_apply purpose, enum kg_side side)
{
    struct kg_fsm_action *action = kg_fsm_add(out, KG_DO_APPLY, side);
    fsm->apply = action->purpose = purpose;
    action->seq = ++fsm->apply_seq;
    fsm->applying = true;
}

const char *kg_fsm_media_why(const struct kg_fsm_event *ev)
{
    return ev->why ? ev->why : "media could not be set up";
}

int kg_fsm_media_status(const struct kg_fsm_event *ev, int *retry_after)
{
    bool blamed = ev->status >= 400;
    *retry_after = blamed ? 0 : KG_CALL_RETRY_AFTER;
    return blamed ? ev->status : 503;
}

bool kg_fsm_awaits_answer(const struct kg_fsm *fsm, enum kg_side side)
{
    if (fsm->state == KG_CALL_CONFIRMING)
        return fsm->late && fsm->leg[side] == KG_LEG_ANSWERED;
    return fsm->state == KG_CALL_TALK && kg_re_awaits_answer(fsm, side);
}

/* ---- events of more than one part ---- */

static bool awaits_ack(const struct kg_fsm *fsm, enum kg_side side)
{
    return fsm->state == KG_CALL_CONFIRMING && fsm->leg[side] == KG_LEG_ANSWERED;
}

static void on_media(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    if (!fsm->applying || ev->seq != fsm->apply_seq)
        return;
    fsm->applying = false;
    if (fsm->re != KG_RE_NONE)
        kg_re_on_media(fsm, ev, now_ms, out);
    else if (fsm->pre != KG_PRE_NONE)
        kg_pre_on_media(fsm, ev, now_ms, out);
    else
        kg_setup_on_media(fsm, ev, now_ms, out);
}

static void on_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    enum kg_leg_state leg = fsm->leg[ev->side];
    if (leg == KG_LEG_OFFERED) /* the same once more */
        return;
    if (leg == KG_LEG_CANCELLING)
        kg_end_on_answer(fsm, ev, now_ms, out);
    else if (kg_setup_is_asking(fsm, ev->side))
        kg_setup_on_answer(fsm, ev, now_ms, out);
    else
        kg_re_on_answer(fsm, ev, now_ms, out);
}

static void on_reject(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_CANCELLING)
        kg_end_on_reject(fsm, ev, now_ms, out);
    else if (kg_setup_is_asking(fsm, ev->side))
        kg_setup_on_reject(fsm, ev, now_ms, out);
    else
        kg_re_on_reject(fsm, ev, now_ms, out);
}

static void on_ack(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_BYE_AFTER_ACK)
        kg_end_on_ack(fsm, ev, now_ms, out);
    else if (awaits_ack(fsm, ev->side))
        kg_setup_on_ack(fsm, ev, now_ms, out);
    else
        kg_re_on_ack(fsm, ev, now_ms, out);
}

static void on_ack_timeout(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                           struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_BYE_AFTER_ACK)
        kg_end_on_ack(fsm, ev, now_ms, out);
    else if (awaits_ack(fsm, ev->side))
        kg_setup_on_ack_timeout(fsm, ev, now_ms, out);
    else
        kg_re_on_ack_timeout(fsm, ev, now_ms, out);
}

static void on_cancel(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_INVITED) {
        /* B may have answered this moment (ANSWERING): then it gets BYE instead of CANCEL. */
        kg_fsm_finish(fsm, out, now_ms, 487, 0, "the caller hung up before the answer");
    } else {
        kg_re_on_cancel(fsm, ev, now_ms, out);
    }
}

static void on_timer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    if (now_ms < fsm->deadline_ms)
        return;
    switch (fsm->state) {
    case KG_CALL_SETUP:
    case KG_CALL_CALLING:
    case KG_CALL_ANSWERING:
    case KG_CALL_CONFIRMING:
        kg_setup_on_timer(fsm, ev, now_ms, out);
        break;
    case KG_CALL_TALK:
        kg_re_on_timer(fsm, ev, now_ms, out);
        break;
    case KG_CALL_ENDING:
        kg_end_on_timer(fsm, ev, now_ms, out);
        break;
    case KG_CALL_NEW:
    case KG_CALL_ENDED:
        break;
    }
}

static kg_fsm_handler *const handlers[KG_EV_COUNT] = {
    [KG_EV_INVITE] = kg_setup_on_invite,
    [KG_EV_MEDIA] = on_media,
    [KG_EV_PROVISIONAL] = kg_setup_on_provisional,
    [KG_EV_ANSWER] = on_answer,
    [KG_EV_REJECT] = on_reject,
    [KG_EV_ACK] = on_ack,
    [KG_EV_ACK_TIMEOUT] = on_ack_timeout,
    [KG_EV_PRACK] = kg_setup_on_prack,
    [KG_EV_PRE_ANSWER] = kg_pre_on_answer,
    [KG_EV_PRE_REJECT] = kg_pre_on_reject,
    [KG_EV_PRE_OVER] = kg_pre_on_over,
    [KG_EV_PRACK_TIMEOUT] = kg_setup_on_prack_timeout,
    [KG_EV_CANCEL] = on_cancel,
    [KG_EV_REINVITE] = kg_re_on_offer,
    [KG_EV_UPDATE] = kg_re_on_offer,
    [KG_EV_RENEW] = kg_re_on_wish,
    [KG_EV_REFRESH] = kg_re_on_wish,
    [KG_EV_EXPIRED] = kg_end_on_expired,
    [KG_EV_UPGRADE] = kg_re_on_wish,
    [KG_EV_BYE] = kg_end_on_bye,
    [KG_EV_BYE_DONE] = kg_end_on_bye_done,
    [KG_EV_FLOW_LOST] = kg_setup_on_flow_lost,
    [KG_EV_SILENCE] = kg_end_on_silence,
    [KG_EV_MEDIA_LOST] = kg_end_on_media_lost,
    [KG_EV_PATH_LOST] = kg_end_on_path_lost,
    [KG_EV_HANGUP] = kg_end_on_hangup,
    [KG_EV_SHUTDOWN] = kg_end_on_shutdown,
    [KG_EV_TIMER] = on_timer,
};

void kg_fsm_init(struct kg_fsm *fsm, unsigned rounds, bool to_pbx)
{
    *fsm = (struct kg_fsm){.rounds_left = rounds > 0 ? rounds - 1 : 0,
                           .to_pbx = to_pbx,
                           .deadline_ms = INT64_MAX,
                           .pre_deadline_ms = INT64_MAX,
                           .re_deadline_ms = INT64_MAX};
}

void kg_fsm_set_rounds(struct kg_fsm *fsm, unsigned left)
{
    fsm->rounds_left = left;
}

void kg_fsm_init_talk(struct kg_fsm *fsm)
{
    *fsm = (struct kg_fsm){.state = KG_CALL_TALK,
                           .leg = {KG_LEG_UP, KG_LEG_UP},
                           .apply_seq = 1,
                           .deadline_ms = INT64_MAX,
                           .pre_deadline_ms = INT64_MAX,
                           .re_deadline_ms = INT64_MAX};
}

size_t kg_fsm_run(struct kg_fsm *fsm, const struct kg_fsm_event *event, int64_t now_ms,
                  struct kg_fsm_action out[static KG_FSM_ACTIONS_MAX])
{
    struct kg_fsm_out collected = {.action = out};
    if (fsm->state == KG_CALL_ENDED) /* FREE was given; an answer to a late request is all that may follow */
        return 0;
    handlers[event->type](fsm, event, now_ms, &collected);
    if (fsm->state == KG_CALL_TALK)
        kg_re_settle(fsm, now_ms, &collected);
    else if (fsm->state == KG_CALL_CALLING)
        kg_setup_set_deadline(fsm);
    return collected.count;
}
