/* How a call ends: each leg by what it is in the middle of, then what is awaited until it is gone; and the
 * events that end it. */
#include "b2bua/call/fsm_inside.h"

static bool is_over(enum kg_leg_state leg)
{
    return leg == KG_LEG_IDLE || leg == KG_LEG_DOWN;
}

static bool awaits_final_or_ack(enum kg_leg_state leg)
{
    return leg == KG_LEG_CANCELLING || leg == KG_LEG_BYE_AFTER_ACK;
}

/* In ENDING: sets the deadline by what is still awaited, or ends. */
static void settle(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms)
{
    if (is_over(fsm->leg[KG_SIDE_A]) && is_over(fsm->leg[KG_SIDE_B])) {
        fsm->state = KG_CALL_ENDED;
        fsm->deadline_ms = INT64_MAX;
        kg_fsm_add(out, KG_DO_FREE, KG_SIDE_A);
    } else if (awaits_final_or_ack(fsm->leg[KG_SIDE_A]) || awaits_final_or_ack(fsm->leg[KG_SIDE_B])) {
        fsm->deadline_ms = now_ms + KG_CALL_FINAL_MS;
    } else {
        fsm->deadline_ms = now_ms + KG_CALL_BYE_MS;
    }
}

static void bye(struct kg_fsm *fsm, struct kg_fsm_out *out, enum kg_side side, int status, const char *why)
{
    struct kg_fsm_action *action = kg_fsm_add(out, KG_DO_BYE, side);
    action->status = status;
    action->why = why;
    fsm->leg[side] = KG_LEG_BYE_SENT;
}

/* Ends whatever a leg is in the middle of. */
static void end_leg(struct kg_fsm *fsm, struct kg_fsm_out *out, enum kg_side side, int status,
                    int retry_after, const char *why)
{
    switch (fsm->leg[side]) {
    case KG_LEG_INVITED:
        kg_fsm_refuse(out, side, status, retry_after, why);
        fsm->leg[side] = KG_LEG_DOWN;
        break;
    case KG_LEG_ANSWERED:
        fsm->leg[side] = KG_LEG_BYE_AFTER_ACK;
        break;
    case KG_LEG_INVITING:
    case KG_LEG_RINGING:
        kg_fsm_add(out, KG_DO_CANCEL, side)->why = why;
        fsm->leg[side] = KG_LEG_CANCELLING;
        break;
    case KG_LEG_OFFERED:
        kg_fsm_add(out, KG_DO_ACK, side);
        bye(fsm, out, side, status, why);
        break;
    case KG_LEG_UP:
        bye(fsm, out, side, status, why);
        break;
    case KG_LEG_IDLE:
    case KG_LEG_BYE_AFTER_ACK:
    case KG_LEG_CANCELLING:
    case KG_LEG_BYE_SENT:
    case KG_LEG_DOWN:
        break;
    }
}

void kg_fsm_finish(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms, int status, int retry_after,
                   const char *why)
{
    if (fsm->state == KG_CALL_ENDED)
        return;
    if (fsm->state != KG_CALL_ENDING) {
        fsm->state = KG_CALL_ENDING;
        fsm->applying = false;
        kg_re_end(fsm, out);
        kg_pre_end(fsm, out);
        end_leg(fsm, out, KG_SIDE_A, status, retry_after, why);
        end_leg(fsm, out, KG_SIDE_B, status, retry_after, why);
        struct kg_fsm_action *action = kg_fsm_add(out, KG_DO_RELEASE, KG_SIDE_A);
        action->status = status;
        action->why = why;
    }
    settle(fsm, out, now_ms);
}

/* ---- what ends it ---- */

void kg_end_on_bye(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    if (fsm->state == KG_CALL_NEW || fsm->state == KG_CALL_ENDED)
        return;
    enum kg_leg_state *leg = &fsm->leg[ev->side];
    if (*leg == KG_LEG_INVITED) /* the caller may end an early dialog with BYE (RFC 3261 15) */
        kg_fsm_refuse(out, ev->side, 487, 0, NULL);
    else if (*leg == KG_LEG_INVITING || *leg == KG_LEG_RINGING)
        kg_fsm_add(out, KG_DO_DROP, ev->side);
    else if (*leg == KG_LEG_OFFERED)
        kg_fsm_add(out, KG_DO_ACK, ev->side);
    *leg = KG_LEG_DOWN;
    kg_fsm_finish(fsm, out, now_ms, 480, 0,
                  ev->side == KG_SIDE_A ? "the caller hung up" : "the callee hung up");
}

void kg_end_on_silence(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                       struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->state != KG_CALL_NEW)
        kg_fsm_finish(fsm, out, now_ms, 480, 0, "no media came from either side");
}

void kg_end_on_media_lost(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                          struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->state != KG_CALL_NEW)
        kg_fsm_finish(fsm, out, now_ms, 503, KG_CALL_RETRY_AFTER, "the media engine lost the call");
}

void kg_end_on_path_lost(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                         struct kg_fsm_out *out)
{
    if (fsm->state != KG_CALL_NEW)
        kg_fsm_finish(fsm, out, now_ms, 480, 0,
                      ev->side == KG_SIDE_A ? "the media path to the caller was lost and no other was found"
                                            : "the media path to the callee was lost and no other was found");
}

void kg_end_on_expired(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                       struct kg_fsm_out *out)
{
    if (fsm->state == KG_CALL_TALK)
        kg_fsm_finish(fsm, out, now_ms, 408, 0, ev->why);
}

void kg_end_on_hangup(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->state != KG_CALL_NEW)
        kg_fsm_finish(fsm, out, now_ms, 480, 0, ev->why ? ev->why : "the administrator ended it");
}

void kg_end_on_shutdown(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                        struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->state != KG_CALL_NEW)
        kg_fsm_finish(fsm, out, now_ms, 503, KG_CALL_RETRY_AFTER, "kedge is being stopped");
}

/* ---- what was awaited ---- */

void kg_end_on_bye_done(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                        struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] != KG_LEG_BYE_SENT)
        return;
    fsm->leg[ev->side] = KG_LEG_DOWN;
    settle(fsm, out, now_ms);
}

/* Our CANCEL crossed it. */
void kg_end_on_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    kg_fsm_add(out, KG_DO_ACK, ev->side);
    bye(fsm, out, ev->side, 0, NULL);
    settle(fsm, out, now_ms);
}

void kg_end_on_reject(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    fsm->leg[ev->side] = KG_LEG_DOWN;
    settle(fsm, out, now_ms);
}

void kg_end_on_ack(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    bye(fsm, out, ev->side, 0, NULL);
    settle(fsm, out, now_ms);
}

/* Nothing more is awaited; nta finishes what it has. */
void kg_end_on_timer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    (void)ev;
    for (int side = 0; side < 2; side++) {
        if (fsm->leg[side] == KG_LEG_BYE_AFTER_ACK)
            bye(fsm, out, (enum kg_side)side, 0, NULL);
        fsm->leg[side] = KG_LEG_DOWN;
    }
    settle(fsm, out, now_ms);
}
