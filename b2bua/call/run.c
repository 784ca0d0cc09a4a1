/* Carries out what the state machine decides. */
#include "b2bua/call/call.h"

#include "b2bua/call/talk.h"
#include "b2bua/call/transfer.h"
#include "conf/clock.h"
#include "conf/log.h"

typedef void act(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action);

static void do_apply(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    bool asked = call->fsm.re != KG_RE_NONE && call->fsm.re_kind == KG_RE_LATE; /* no request of its own */
    asked |= call->fsm.pre != KG_PRE_NONE;                                      /* it waits elsewhere */
    if ((action->purpose == KG_APPLY_RE_OFFER || action->purpose == KG_APPLY_ABSORBED) && !asked)
        kg_leg_serve(leg);
    kg_talk_apply(call, action);
}

static void do_restore(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)leg;
    (void)action;
    kg_talk_restore(call);
}

static void do_invite(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_out_invite(leg);
}

static void do_update(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_out_update(leg);
}

static void do_ask(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)action;
    struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    if (call->fsm.re_kind == KG_RE_LATE)
        kg_leg_serve(from);
    kg_out_ask(leg);
}

static void do_serve(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_leg_serve(leg);
}

static void do_renew(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_talk_renew(leg);
}

static void do_drop(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_out_drop(leg);
}

static void do_progress(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    if (action->status >= 180 && !call->record->ringing_ms)
        call->record->ringing_ms = kg_wall_ms();
    kg_reply_progress(leg, action->status, action->sdp, action->ok);
}

static void do_answer(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    if (leg->made) { /* nobody is there yet who would have to acknowledge it */
        kg_talk_commit(call);
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_ACK, .side = leg->side});
        return;
    }
    kg_reply_answer(leg, action->sdp);
    kg_talk_commit(call);
    if (call->fsm.state == KG_CALL_TALK && leg->session.expires_s) /* refreshed */
        kg_talk_save(call);
}

static void do_offer(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_reply_answer(leg, true);
}

static void do_agreed(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)leg;
    (void)action;
    kg_talk_commit(call);
}

static void do_prack(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_reliable_answer(leg);
}

static void do_pre_update(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_pre_update(leg);
}

static void do_pre_answer(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)action;
    kg_pre_answer(leg);
    kg_talk_commit(call);
}

static void do_refuse(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    nta_incoming_t *irq = leg->irq;
    leg->irq = NULL;
    kg_reply_refuse(irq, leg, action);
}

static void do_turn_away(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    nta_incoming_t *irq = leg->arrived;
    leg->arrived = NULL;
    kg_reply_refuse(irq, leg, action);
}

/* The irq stays where it is: leg->arrived. */
static void do_defer(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)leg;
    (void)action;
}

static void do_ack(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    kg_out_ack(leg, action->ok);
}

static void do_cancel(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    (void)action;
    kg_out_cancel(leg);
}

static void do_bye(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)call;
    kg_bye_send(leg, action->status, action->why);
}

static void do_answered(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)leg;
    (void)action;
    struct kg_record *record = call->record;
    record->answered_ms = kg_wall_ms();
    kg_counters.calls_answered++;
    kg_info("call", "call %s: answered by %s after %.1f s", record->id, record->leg[KG_SIDE_B].user,
            (double)(record->answered_ms - record->started_ms) / 1000);
    if (call->leg[KG_SIDE_A].made)
        kg_transfer_answered(call);
    kg_leg_resume(&call->leg[KG_SIDE_B]);
}

static void do_done(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    const struct kg_record *record = call->record;
    if (action->ok)
        kg_talk_commit(call);
    if (action->what == KG_EV_REFRESH && call->joining) {
        kg_transfer_refreshed(call, leg, action->ok);
        return;
    }
    if (action->what == KG_EV_REFRESH) {
        if (!action->ok && !kg_session_challenged(leg, action->status))
            kg_info("call", "call %s: %s refused to refresh its session (%d); it is tried again", record->id,
                    record->leg[leg->side].user, action->status);
        return;
    }
    kg_info("call", "call %s: %s %s %s", record->id,
            action->what == KG_EV_RENEW ? "a new offer of kedge's own to" : "a direct path, first asked of",
            record->leg[leg->side].user, action->ok ? "was answered" : "came to nothing");
    kg_path_done(call, action->what, leg->side, action->ok, action->status);
}

static void do_release(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)leg;
    struct kg_record *record = call->record;
    char why[KG_RECORD_WHY_SIZE];
    record->ended_ms = kg_wall_ms();
    record->status = action->status;
    record->why = action->why;
    kg_bye_settle(call);
    kg_talk_release(call);
    kg_transfer_over(call, action->status);
    if (!record->answered_ms) /* no path was ever chosen, and what waits for an answer waits no more */
        record->reason = record->why ? record->why : "the call ended before it was answered";
    if (record->answered_ms) {
        kg_info("call", "call %s: ended after %.1f s of talk: %s", record->id,
                (double)(record->ended_ms - record->answered_ms) / 1000, kg_record_why(record, why));
    } else if (kg_record_challenged(record)) {
        kg_info("call", "call %s: the PBX wants %s's password (%d): the phone calls again with it",
                record->id, record->leg[KG_SIDE_A].user, record->status);
    } else {
        kg_counters.calls_failed++;
        if (action->status == 503)
            kg_counters.calls_refused++;
        kg_info("call", "call %s: ended with %d before an answer: %s", record->id, record->status,
                kg_record_why(record, why));
    }
}

static void do_free(struct kg_call *call, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    (void)leg;
    (void)action;
    kg_call_end(call);
}

static act *const acts[] = {
    [KG_DO_APPLY] = do_apply,
    [KG_DO_RESTORE] = do_restore,
    [KG_DO_INVITE] = do_invite,
    [KG_DO_UPDATE] = do_update,
    [KG_DO_ASK] = do_ask,
    [KG_DO_SERVE] = do_serve,
    [KG_DO_RENEW] = do_renew,
    [KG_DO_DROP] = do_drop,
    [KG_DO_PROGRESS] = do_progress,
    [KG_DO_ANSWER] = do_answer,
    [KG_DO_PRACK] = do_prack,
    [KG_DO_PRE_UPDATE] = do_pre_update,
    [KG_DO_PRE_ANSWER] = do_pre_answer,
    [KG_DO_OFFER] = do_offer,
    [KG_DO_AGREED] = do_agreed,
    [KG_DO_REFUSE] = do_refuse,
    [KG_DO_TURN_AWAY] = do_turn_away,
    [KG_DO_DEFER] = do_defer,
    [KG_DO_ACK] = do_ack,
    [KG_DO_CANCEL] = do_cancel,
    [KG_DO_BYE] = do_bye,
    [KG_DO_ANSWERED] = do_answered,
    [KG_DO_DONE] = do_done,
    [KG_DO_RELEASE] = do_release,
    [KG_DO_FREE] = do_free,
};

static void run_one(struct kg_call *call, const struct kg_fsm_event *event)
{
    struct kg_fsm_action action[KG_FSM_ACTIONS_MAX];
    size_t count = kg_fsm_run(&call->fsm, event, kg_mono_ms(), action);
    for (size_t i = 0; i < count; i++)
        acts[action[i].type](call, &call->leg[action[i].side], &action[i]);
}

/* Actions may cause events (an INVITE that cannot be sent is a rejection): those wait until all actions of
 * the event before them are done, so that each event finds a settled state. */
void kg_call_event(struct kg_call *call, const struct kg_fsm_event *event)
{
    if (call->over)
        return;
    if (call->running) {
        if (call->queued < sizeof call->queue / sizeof call->queue[0])
            call->queue[call->queued++] = *event;
        else
            kg_error("call", "call %s: too many events at once; one was dropped", call->record->id);
        return;
    }
    call->running = true;
    call->holds++;
    run_one(call, event);
    for (uint8_t i = 0; i < call->queued && !call->over; i++) {
        struct kg_fsm_event next = call->queue[i];
        run_one(call, &next);
    }
    call->queued = 0;
    call->running = false;
    /* What an offer/answer stood in the way of: somebody hears nothing until it is done. */
    if (!call->over && kg_mono_ms() >= call->path.deadline_ms)
        kg_path_tick(call);
    kg_call_unhold(call);
}

void kg_leg_tell(struct kg_leg *leg, enum kg_fsm_event_type type, int status, bool sdp)
{
    kg_call_event(leg->call,
                  &(struct kg_fsm_event){.type = type, .side = leg->side, .status = status, .sdp = sdp});
}
