/* The part of the state machine for changes of the session before the call is answered: an offer in an UPDATE
 * (RFC 3311 5.1) or in a PRACK (RFC 3262 5), once the first exchange is complete on both sides by reliable
 * responses. It goes to the other side as an UPDATE. Pure. */
#include "b2bua/call/fsm_inside.h"

static void set_state(struct kg_fsm *fsm, enum kg_pre_state pre)
{
    fsm->pre = pre;
    if (pre != KG_PRE_SENT)
        fsm->pre_deadline_ms = INT64_MAX;
}

static void refuse(struct kg_fsm *fsm, struct kg_fsm_out *out, int status, int retry_after, const char *why)
{
    kg_fsm_turn_away(out, fsm->pre_from, status, retry_after, why);
    kg_fsm_add(out, KG_DO_RESTORE, fsm->pre_from);
    set_state(fsm, KG_PRE_NONE);
}

bool kg_fsm_takes_pre_offer(const struct kg_fsm *fsm)
{
    return fsm->state == KG_CALL_CALLING && fsm->settled[KG_SIDE_A] && fsm->settled[KG_SIDE_B] &&
           fsm->pre == KG_PRE_NONE && !fsm->unacked && !fsm->applying;
}

void kg_pre_on_offer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, struct kg_fsm_out *out)
{
    if (!kg_fsm_takes_pre_offer(fsm)) {
        /* RFC 3311 5.2: of A an offer has no answer yet, or its last change has not; of B that is kedge's. */
        bool own = ev->side == KG_SIDE_A ? fsm->pre == KG_PRE_NONE || fsm->pre_from == KG_SIDE_A
                                         : fsm->pre != KG_PRE_NONE && fsm->pre_from == KG_SIDE_B;
        kg_fsm_turn_away(out, ev->side, own ? 500 : 491, own ? 1 : 0, NULL);
        return;
    }
    fsm->pre_from = ev->side;
    if (!ev->passes) {
        refuse(fsm, out, 488, 0, "the other side takes no change before the call is answered");
        return;
    }
    set_state(fsm, KG_PRE_OFFER);
    kg_fsm_apply(fsm, out, KG_APPLY_RE_OFFER, ev->side);
}

void kg_pre_on_media(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    int retry_after, status = kg_fsm_media_status(ev, &retry_after);
    if (!ev->ok && fsm->pre == KG_PRE_OFFER) {
        refuse(fsm, out, status, retry_after, kg_fsm_media_why(ev));
    } else if (!ev->ok) { /* both sides have agreed to what the engine cannot do */
        kg_fsm_finish(fsm, out, now_ms, status, retry_after, kg_fsm_media_why(ev));
    } else if (fsm->pre == KG_PRE_OFFER) {
        kg_fsm_add(out, KG_DO_PRE_UPDATE, kg_other_side(fsm->pre_from));
        set_state(fsm, KG_PRE_SENT);
        fsm->pre_deadline_ms = now_ms + KG_CALL_UPDATE_MS;
    } else {
        kg_fsm_add(out, KG_DO_PRE_ANSWER, fsm->pre_from);
        set_state(fsm, KG_PRE_NONE);
    }
}

void kg_pre_on_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    (void)now_ms;
    if (fsm->pre != KG_PRE_SENT || ev->side == fsm->pre_from)
        return;
    if (!ev->sdp) {
        refuse(fsm, out, 500, 0, NULL);
        return;
    }
    set_state(fsm, KG_PRE_ANSWER);
    kg_fsm_apply(fsm, out, KG_APPLY_RE_ANSWER, ev->side);
}

void kg_pre_on_reject(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                      struct kg_fsm_out *out)
{
    (void)now_ms;
    if (fsm->pre == KG_PRE_SENT && ev->side != fsm->pre_from)
        refuse(fsm, out, kg_fsm_map_status(ev->status, false), 0, NULL);
}

bool kg_pre_on_timer(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out)
{
    if (now_ms < fsm->pre_deadline_ms)
        return false;
    refuse(fsm, out, 504, 0, NULL); /* RFC 3311 5.2 */
    return true;
}

void kg_pre_end(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    if (fsm->pre == KG_PRE_NONE)
        return;
    fsm->applying = false;
    refuse(fsm, out, 500, 1, NULL);
}

void kg_pre_on_over(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    (void)ev;
    (void)now_ms;
    kg_pre_end(fsm, out);
}
