/* From the first INVITE to the ACK of its 200. */
#include "b2bua/call/fsm_inside.h"
#include "b2bua/route/failover.h"

bool kg_setup_is_asking(const struct kg_fsm *fsm, enum kg_side side)
{
    return fsm->state == KG_CALL_CALLING &&
           (fsm->leg[side] == KG_LEG_INVITING || fsm->leg[side] == KG_LEG_RINGING);
}

bool kg_fsm_takes_18x(const struct kg_fsm *fsm)
{
    return fsm->late && fsm->state == KG_CALL_CALLING && fsm->reliable != KG_RELIABLE_NONE &&
           fsm->late_18x == KG_18X_NONE;
}

bool kg_fsm_awaits_prack(const struct kg_fsm *fsm)
{
    return fsm->late_18x == KG_18X_TOLD && fsm->unacked && fsm->unacked_sdp && fsm->state == KG_CALL_CALLING;
}

int kg_fsm_map_status(int status, bool from_pbx)
{
    if (status >= 300 && status < 400)
        return 480; /* of a request inside of a dialog: nobody follows it there */
    switch (status) {
    case 401:
    case 407:
        return from_pbx ? status : 480; /* a phone has nobody here to challenge */
    case 420: /* about extensions, session timers and dialogs of B's leg: nothing A could act on */
    case 421:
    case 422:
    case 423:
    case 481:
    case 494:
        return 500;
    default:
        return status < 300 || status > 699 ? 500 : status;
    }
}

static void invite_b(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms)
{
    kg_fsm_add(out, KG_DO_INVITE, KG_SIDE_B);
    fsm->settled[KG_SIDE_B] = false;
    fsm->late_18x = KG_18X_NONE;
    fsm->held_status = 0; /* it was of the contacts before */
    fsm->held_sdp = false;
    fsm->next_status = 0;
    fsm->leg[KG_SIDE_B] = KG_LEG_INVITING;
    fsm->state = KG_CALL_CALLING;
    if (fsm->asked_ms == 0)
        fsm->asked_ms = now_ms;
    fsm->deadline_ms = now_ms + (fsm->to_pbx ? kg_failover_wait_ms(now_ms - fsm->asked_ms, fsm->rounds_left)
                                             : KG_CALL_UNHEARD_MS);
}

/* Contacts of the user that are to be tried later may do (RFC 3261 16.7 step 5), unless it is wanted nowhere.
 * Of a PBX only: it is not there. */
static bool is_retryable(const struct kg_fsm *fsm, int status)
{
    return fsm->to_pbx ? status == 503 : status < 600;
}

static void b_failed(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms, int status, const char *why)
{
    /* A caller that has a late offer can get no other one. */
    if (is_retryable(fsm, status) && fsm->rounds_left > 0 && fsm->late_18x < KG_18X_TOLD) {
        fsm->rounds_left--;
        fsm->applying = false; /* early media of the contact that failed */
        kg_pre_end(fsm, out);
        invite_b(fsm, out, now_ms);
        return;
    }
    fsm->leg[KG_SIDE_B] = KG_LEG_DOWN;
    /* RFC 3261 16.7 step 6: 503 would say that kedge itself is unavailable; nta also makes it of an ICMP
     * error. */
    int mapped = status == 503 && !fsm->to_pbx ? 480 : kg_fsm_map_status(status, fsm->to_pbx);
    if (status >= 300 && status < 400) /* who follows what was decided before this (redirect.c) */
        mapped = status;
    kg_fsm_finish(fsm, out, now_ms, mapped, mapped == 503 ? KG_CALL_RETRY_AFTER : 0, why);
}

/* ---- what A is told ---- */

/* RFC 3262 3: nothing reliable follows before PRACK. What is held meanwhile is said in the end: the newest
 * status, and with it the description of that time. */
static void progress(struct kg_fsm *fsm, struct kg_fsm_out *out, int status, bool sdp)
{
    if (fsm->unacked) {
        fsm->held_status = status;
        fsm->held_sdp |= sdp;
        return;
    }
    struct kg_fsm_action *action = kg_fsm_add(out, KG_DO_PROGRESS, KG_SIDE_A);
    action->status = status;
    action->sdp = sdp;
    action->ok = fsm->reliable == KG_RELIABLE_ALL || (fsm->reliable == KG_RELIABLE_SDP && sdp);
    fsm->unacked = action->ok;
    fsm->unacked_sdp = action->ok && sdp;
}

static void say_held(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    int status = fsm->held_status;
    bool sdp = fsm->held_sdp;
    fsm->held_status = 0;
    fsm->held_sdp = false;
    if (fsm->state == KG_CALL_CALLING && status)
        progress(fsm, out, status, sdp);
}

/* The engine takes a moment for a description: a 18x without one waits, or the caller would hear a state that
 * is over as the last one. */
static bool is_behind(const struct kg_fsm *fsm)
{
    return fsm->applying && fsm->pre == KG_PRE_NONE;
}

static void say_next(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    int status = fsm->next_status;
    fsm->next_status = 0;
    if (fsm->state == KG_CALL_CALLING && status)
        progress(fsm, out, status, false);
}

/* A 2xx has to wait for the PRACK of a description (RFC 3262 3), and waits for any: PRACKs that cross it
 * confuse phones. */
static void answered(struct kg_fsm *fsm, struct kg_fsm_out *out, int64_t now_ms)
{
    int ack_ms = fsm->late ? KG_CALL_LATE_MS : KG_CALL_FINAL_MS;
    fsm->held_answer = fsm->unacked;
    if (fsm->held_answer) {
        fsm->deadline_ms = now_ms + KG_CALL_FINAL_MS;
        return;
    }
    /* What was answered in PRACK is not said again: it would be another offer. */
    kg_fsm_add(out, fsm->late ? KG_DO_OFFER : KG_DO_ANSWER, KG_SIDE_A)->sdp = fsm->late_18x != KG_18X_DONE;
    fsm->leg[KG_SIDE_A] = KG_LEG_ANSWERED;
    fsm->state = KG_CALL_CONFIRMING;
    fsm->deadline_ms = now_ms + ack_ms;
}

static void begin_talk(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    fsm->state = KG_CALL_TALK;
    fsm->deadline_ms = INT64_MAX;
    fsm->deferred = false;
    kg_fsm_add(out, KG_DO_ANSWERED, KG_SIDE_A);
}

/* ---- one handler an event ---- */

void kg_setup_on_invite(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                        struct kg_fsm_out *out)
{
    if (fsm->state != KG_CALL_NEW || ev->side != KG_SIDE_A)
        return;
    fsm->leg[KG_SIDE_A] = KG_LEG_INVITED;
    fsm->invited_ms = now_ms;
    fsm->late = !ev->sdp;
    if (fsm->late) { /* kedge has no session of its own to offer: B makes the offer */
        invite_b(fsm, out, now_ms);
        return;
    }
    fsm->state = KG_CALL_SETUP;
    fsm->deadline_ms = now_ms + KG_CALL_MEDIA_MS;
    kg_fsm_apply(fsm, out, KG_APPLY_OFFER, KG_SIDE_A);
}

static void apply_18x(struct kg_fsm *fsm, struct kg_fsm_out *out, int status, enum kg_apply purpose)
{
    fsm->progress_status = status;
    fsm->next_status = 0;
    kg_fsm_apply(fsm, out, purpose, KG_SIDE_B);
}

static void settle_18x(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    kg_fsm_add(out, KG_DO_PRACK, KG_SIDE_B);
    kg_fsm_add(out, KG_DO_AGREED, KG_SIDE_B);
    fsm->late_18x = KG_18X_DONE;
    fsm->late = false;
    fsm->settled[KG_SIDE_A] = fsm->settled[KG_SIDE_B] = true;
    say_held(fsm, out);
}

void kg_setup_on_media(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                       struct kg_fsm_out *out)
{
    if (!ev->ok) {
        int retry_after, status = kg_fsm_media_status(ev, &retry_after);
        kg_fsm_finish(fsm, out, now_ms, status, retry_after, kg_fsm_media_why(ev));
        return;
    }
    switch (fsm->apply) {
    case KG_APPLY_OFFER:
        if (fsm->late_18x == KG_18X_OFFER) {
            fsm->late_18x = KG_18X_TOLD;
            progress(fsm, out, fsm->progress_status, true);
            say_next(fsm, out);
        } else if (fsm->late) {
            answered(fsm, out, now_ms);
        } else {
            invite_b(fsm, out, now_ms);
        }
        break;
    case KG_APPLY_PROGRESS:
        if (fsm->late_18x == KG_18X_ANSWER)
            settle_18x(fsm, out);
        else
            progress(fsm, out, fsm->progress_status, true);
        say_next(fsm, out);
        break;
    case KG_APPLY_ANSWER:
        if (!fsm->late) {
            answered(fsm, out, now_ms);
            break;
        }
        kg_fsm_add(out, KG_DO_ACK, KG_SIDE_B)->ok = true;
        kg_fsm_add(out, KG_DO_AGREED, KG_SIDE_B);
        fsm->leg[KG_SIDE_B] = KG_LEG_UP;
        begin_talk(fsm, out);
        break;
    default: /* renegotiate.c's */
        break;
    }
}

void kg_setup_on_provisional(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                             struct kg_fsm_out *out)
{
    (void)now_ms;
    enum kg_leg_state *b = &fsm->leg[KG_SIDE_B];
    if (ev->side != KG_SIDE_B || !kg_setup_is_asking(fsm, KG_SIDE_B))
        return;
    if (*b == KG_LEG_INVITING) {
        *b = KG_LEG_RINGING;
        fsm->deadline_ms = fsm->invited_ms + KG_CALL_RINGING_MS;
    }
    if (ev->status <= 100)
        return;
    if (ev->sdp && ev->reliable && kg_fsm_takes_18x(fsm)) {
        fsm->late_18x = KG_18X_OFFER;
        apply_18x(fsm, out, ev->status, KG_APPLY_OFFER);
    } else if (ev->sdp && !fsm->late && fsm->late_18x == KG_18X_NONE && fsm->pre == KG_PRE_NONE) {
        fsm->settled[KG_SIDE_B] = ev->reliable;
        apply_18x(fsm, out, ev->status, KG_APPLY_PROGRESS);
    } else if (is_behind(fsm)) {
        fsm->next_status = ev->status;
    } else {
        progress(fsm, out, ev->status, false);
    }
}

void kg_setup_on_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                        struct kg_fsm_out *out)
{
    enum kg_leg_state *leg = &fsm->leg[ev->side];
    bool unanswered = fsm->late_18x != KG_18X_NONE && fsm->late_18x != KG_18X_DONE;
    bool offers = fsm->late && ev->sdp && !unanswered; /* its ACK waits for A's */
    *leg = offers ? KG_LEG_OFFERED : KG_LEG_UP;
    if (!offers)
        kg_fsm_add(out, KG_DO_ACK, ev->side);
    if (unanswered) { /* RFC 3262 3 forbids it */
        kg_fsm_finish(fsm, out, now_ms, 502, 0, "the callee answered before its offer was");
        return;
    }
    if (!ev->sdp) {
        kg_fsm_finish(fsm, out, now_ms, ev->why ? 488 : 502, 0,
                      ev->why ? ev->why : "the callee answered without SDP");
        return;
    }
    fsm->state = KG_CALL_ANSWERING;
    fsm->deadline_ms = now_ms + KG_CALL_MEDIA_MS;
    kg_fsm_apply(fsm, out, offers ? KG_APPLY_OFFER : KG_APPLY_ANSWER, KG_SIDE_B);
}

void kg_setup_on_reject(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                        struct kg_fsm_out *out)
{
    b_failed(fsm, out, now_ms, ev->status, ev->why);
}

static void on_late_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                           struct kg_fsm_out *out)
{
    if (!ev->sdp) {
        kg_fsm_finish(fsm, out, now_ms, 488, 0, "the caller's ACK has no answer to the callee's offer");
        return;
    }
    fsm->deadline_ms = now_ms + KG_CALL_MEDIA_MS;
    kg_fsm_apply(fsm, out, KG_APPLY_ANSWER, ev->side);
}

void kg_setup_on_ack(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    fsm->leg[ev->side] = KG_LEG_UP;
    if (!fsm->late)
        begin_talk(fsm, out);
    else
        on_late_answer(fsm, ev, now_ms, out);
}

void kg_setup_on_ack_timeout(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                             struct kg_fsm_out *out)
{
    fsm->leg[ev->side] = KG_LEG_UP; /* RFC 3261 13.3.1.4: the dialog stands, the session ends with BYE */
    kg_fsm_finish(fsm, out, now_ms, 408, 0, "the answer was never acknowledged");
}

void kg_setup_on_prack(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                       struct kg_fsm_out *out)
{
    bool awaited = kg_fsm_awaits_prack(fsm);
    if (!fsm->unacked || ev->side != KG_SIDE_A)
        return;
    fsm->unacked = false;
    fsm->settled[KG_SIDE_A] |= fsm->unacked_sdp && !awaited;
    if (awaited && !ev->sdp) {
        kg_fsm_finish(fsm, out, now_ms, 488, 0, "the caller's PRACK has no answer to the callee's offer");
    } else if (awaited) { /* what is held waits for the callee's PRACK */
        fsm->late_18x = KG_18X_ANSWER;
        kg_fsm_apply(fsm, out, KG_APPLY_PROGRESS, KG_SIDE_A);
    } else if (fsm->state == KG_CALL_ANSWERING && fsm->held_answer) {
        answered(fsm, out, now_ms);
    } else {
        say_held(fsm, out);
    }
}

void kg_setup_on_prack_timeout(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                               struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_INVITED) /* RFC 3262 3: 5xx */
        kg_fsm_finish(fsm, out, now_ms, 504, 0,
                      "the caller never acknowledged a provisional response (PRACK)");
}

void kg_setup_on_flow_lost(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                           struct kg_fsm_out *out)
{
    if (fsm->leg[ev->side] == KG_LEG_INVITED) {
        kg_fsm_finish(fsm, out, now_ms, 487, 0, "the caller's connection was lost before the answer");
    } else if (kg_setup_is_asking(fsm, ev->side)) {
        kg_fsm_add(out, KG_DO_DROP, ev->side);
        b_failed(fsm, out, now_ms, 480, "the callee's connection was lost before the answer");
    }
    /* In talk the media goes on; the phone may come back over another connection. */
}

void kg_setup_set_deadline(struct kg_fsm *fsm)
{
    if (fsm->leg[KG_SIDE_B] != KG_LEG_RINGING)
        return;
    int64_t end_ms = fsm->invited_ms + KG_CALL_RINGING_MS;
    fsm->deadline_ms = fsm->pre_deadline_ms < end_ms ? fsm->pre_deadline_ms : end_ms;
}

static void on_calling_timer(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out)
{
    if (kg_pre_on_timer(fsm, now_ms, out))
        return;
    if (fsm->leg[KG_SIDE_B] == KG_LEG_INVITING) {
        kg_fsm_add(out, KG_DO_DROP, KG_SIDE_B);
        b_failed(fsm, out, now_ms, fsm->to_pbx ? 503 : 408,
                 fsm->to_pbx ? "the PBX does not answer" : "the callee's phone does not answer");
    } else {
        kg_fsm_finish(fsm, out, now_ms, 408, 0, "nobody answered the call within three minutes");
    }
}

static void on_confirming_timer(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out)
{
    if (!fsm->late) {
        kg_setup_on_ack_timeout(fsm, &(struct kg_fsm_event){.side = KG_SIDE_A}, now_ms, out);
    } else if (fsm->leg[KG_SIDE_A] == KG_LEG_ANSWERED) { /* B waits no longer; A's ACK may still come */
        kg_fsm_finish(fsm, out, now_ms, 408, 0, "the caller did not answer the callee's offer in time");
    } else {
        kg_fsm_finish(fsm, out, now_ms, 503, KG_CALL_RETRY_AFTER, "the media engine does not answer");
    }
}

void kg_setup_on_timer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                       struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->state == KG_CALL_CALLING)
        on_calling_timer(fsm, now_ms, out);
    else if (fsm->state == KG_CALL_CONFIRMING)
        on_confirming_timer(fsm, now_ms, out);
    else if (fsm->held_answer)
        kg_setup_on_prack_timeout(fsm, &(struct kg_fsm_event){.side = KG_SIDE_A}, now_ms, out);
    else
        kg_fsm_finish(fsm, out, now_ms, 503, KG_CALL_RETRY_AFTER, "the media engine does not answer");
}
