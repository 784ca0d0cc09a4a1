/* Changes of a session in talk: re-INVITE and UPDATE that pass or are absorbed, and what kedge itself offers:
 * renewals of one leg and upgrades. One at a time; kedge's own wishes wait for their turn. */
#include "b2bua/call/fsm_inside.h"

/* The side that is sent an offer, of whatever kind. */
static enum kg_side answerer(const struct kg_fsm *fsm)
{
    return kg_other_side(fsm->re_from);
}

/* Whose request began it, unless kedge did. */
static enum kg_side requester(const struct kg_fsm *fsm)
{
    return fsm->re_kind == KG_RE_LATE ? answerer(fsm) : fsm->re_from;
}

static bool is_ours(const struct kg_fsm *fsm)
{
    return fsm->re_kind == KG_RE_RENEWAL || fsm->re_kind == KG_RE_REFRESH || fsm->re_kind == KG_RE_UPGRADE;
}

/* The requester's request waits for its final response. */
static bool owes_response(const struct kg_fsm *fsm)
{
    if (fsm->re_kind == KG_RE_LATE)
        return fsm->re == KG_RE_ASKED || fsm->re == KG_RE_OFFER;
    return !is_ours(fsm) && (fsm->re == KG_RE_OFFER || fsm->re == KG_RE_SENT || fsm->re == KG_RE_ANSWER);
}

/* re_from's 2xx to an INVITE without SDP waits for its ACK, which must have the answer. */
static bool owes_ack(const struct kg_fsm *fsm)
{
    return (fsm->re_kind == KG_RE_UPGRADE || fsm->re_kind == KG_RE_LATE) &&
           (fsm->re == KG_RE_OFFER || fsm->re == KG_RE_SENT || fsm->re == KG_RE_ANSWER);
}

bool kg_re_awaits_answer(const struct kg_fsm *fsm, enum kg_side side)
{
    return fsm->re_kind == KG_RE_LATE && fsm->re == KG_RE_SENT && side == answerer(fsm);
}

static void set_state(struct kg_fsm *fsm, enum kg_re_state re, int64_t deadline_ms)
{
    fsm->re = re;
    fsm->re_deadline_ms = deadline_ms;
}

static void begin(struct kg_fsm *fsm, enum kg_re_kind kind, enum kg_side from, bool update)
{
    fsm->re_kind = kind;
    fsm->re_from = from;
    fsm->re_update = update;
    fsm->re_cancelled = false;
}

/* ---- what kedge itself wants ---- */

static int wish_of(const struct kg_fsm *fsm)
{
    if (fsm->re_kind == KG_RE_UPGRADE)
        return KG_WISH_UPGRADE;
    return (fsm->re_kind == KG_RE_REFRESH ? KG_WISH_REFRESH_A : KG_WISH_RENEW_A) + (int)answerer(fsm);
}

static void done(struct kg_fsm *fsm, struct kg_fsm_out *out, bool ok)
{
    int which = wish_of(fsm);
    struct kg_fsm_action *action =
        kg_fsm_add(out, KG_DO_DONE, which == KG_WISH_UPGRADE ? fsm->re_from : answerer(fsm));
    action->what = fsm->re_kind == KG_RE_UPGRADE   ? KG_EV_UPGRADE
                   : fsm->re_kind == KG_RE_REFRESH ? KG_EV_REFRESH
                                                   : KG_EV_RENEW;
    action->ok = ok;
    fsm->wish[which].wanted = false;
    set_state(fsm, KG_RE_NONE, INT64_MAX);
}

static void want(struct kg_fsm *fsm, int which, int64_t now_ms)
{
    if (!fsm->wish[which].wanted)
        fsm->wish[which] = (struct kg_fsm_wish){.wanted = true, .due_ms = now_ms};
}

/* RFC 3261 14.1: the owner of the Call-ID, on leg B that is kedge, waits 2.1 to 4 s, the other one 0 to 2 s,
 * in units of 10 ms. */
static int64_t glare_ms(enum kg_side side, unsigned chance)
{
    return side == KG_SIDE_B ? 2100 + chance % 191 * 10 : chance % 201 * 10;
}

/* `ev` refused an offer of kedge's own. Later again, if that helps. */
static void failed(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    struct kg_fsm_wish *wish = &fsm->wish[wish_of(fsm)];
    bool glare = ev->type == KG_EV_REJECT && (ev->status == 491 || ev->status == 500);
    if (!glare || fsm->re_cancelled || wish->tries >= KG_CALL_TRIES) {
        done(fsm, out, false);
        out->action[out->count - 1].status = ev->type == KG_EV_REJECT ? ev->status : 0;
        return;
    }
    wish->due_ms = now_ms + glare_ms(ev->side, ev->chance);
    set_state(fsm, KG_RE_NONE, INT64_MAX);
}

/* It fails after re_from made the offer that it was asked for: its ACK says what was agreed before. */
static void take_back_asked(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    kg_fsm_add(out, KG_DO_RESTORE, fsm->re_from);
    kg_fsm_add(out, KG_DO_ACK, fsm->re_from)->ok = true;
}

/* What the engine and, of a late offer, re_from were told of a change that comes to nothing. */
static void take_back(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    if (owes_ack(fsm))
        take_back_asked(fsm, out);
    else
        kg_fsm_add(out, KG_DO_RESTORE, fsm->re_from);
}

static void begin_wish(struct kg_fsm *fsm, int which, int64_t now_ms, struct kg_fsm_out *out)
{
    fsm->wish[which].tries++;
    if (which == KG_WISH_UPGRADE) {
        begin(fsm, KG_RE_UPGRADE, fsm->upgrade_first, false);
        kg_fsm_add(out, KG_DO_ASK, fsm->re_from);
        set_state(fsm, KG_RE_ASKED, now_ms + KG_CALL_RENEWAL_MS);
        return;
    }
    if (which == KG_WISH_REFRESH_A || which == KG_WISH_REFRESH_B) {
        begin(fsm, KG_RE_REFRESH, kg_other_side((enum kg_side)(which - KG_WISH_REFRESH_A)), false);
        kg_fsm_add(out, KG_DO_INVITE, answerer(fsm));
        set_state(fsm, KG_RE_SENT, now_ms + KG_CALL_RENEWAL_MS);
        return;
    }
    begin(fsm, KG_RE_RENEWAL, kg_other_side((enum kg_side)which), false);
    kg_fsm_add(out, KG_DO_RENEW, answerer(fsm));
    kg_fsm_add(out, KG_DO_UPDATE, answerer(fsm));
    set_state(fsm, KG_RE_SENT, now_ms + KG_CALL_RENEWAL_MS);
}

void kg_re_on_wish(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    (void)out;
    if (fsm->state == KG_CALL_NEW || fsm->state == KG_CALL_ENDING)
        return;
    if (ev->type == KG_EV_RENEW) {
        want(fsm, KG_WISH_RENEW_A + (int)ev->side, now_ms);
    } else if (ev->type == KG_EV_REFRESH) {
        want(fsm, KG_WISH_REFRESH_A + (int)ev->side, now_ms);
    } else if (!fsm->wish[KG_WISH_UPGRADE].wanted) {
        fsm->upgrade_first = ev->side;
        want(fsm, KG_WISH_UPGRADE, now_ms);
    }
}

void kg_re_settle(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out)
{
    for (int which = 0; which < KG_WISH_COUNT && fsm->re == KG_RE_NONE; which++)
        if (fsm->wish[which].wanted && now_ms >= fsm->wish[which].due_ms)
            begin_wish(fsm, which, now_ms, out);
    fsm->deadline_ms = fsm->re == KG_RE_NONE ? INT64_MAX : fsm->re_deadline_ms;
    for (int which = 0; which < KG_WISH_COUNT && fsm->re == KG_RE_NONE; which++)
        if (fsm->wish[which].wanted && fsm->wish[which].due_ms < fsm->deadline_ms)
            fsm->deadline_ms = fsm->wish[which].due_ms;
}

/* ---- offers of the peers ---- */

static void answer(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    kg_fsm_add(out, KG_DO_ANSWER, fsm->re_from)->sdp = true;
    set_state(fsm, fsm->re_update ? KG_RE_NONE : KG_RE_CONFIRMING, INT64_MAX);
}

void kg_re_on_offer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    (void)now_ms;
    bool update = ev->type == KG_EV_UPDATE;
    bool same_side = (fsm->re != KG_RE_NONE && !is_ours(fsm) && ev->side == requester(fsm)) ||
                     (fsm->deferred && ev->side == KG_SIDE_B);
    bool early = fsm->state == KG_CALL_ANSWERING || fsm->state == KG_CALL_CONFIRMING;
    if (fsm->state == KG_CALL_ENDING || fsm->state == KG_CALL_ENDED || fsm->state == KG_CALL_NEW) {
        kg_fsm_turn_away(out, ev->side, 481, 0, NULL);
    } else if (update && fsm->state == KG_CALL_CALLING) {
        kg_pre_on_offer(fsm, ev, out);
    } else if (same_side || (fsm->state != KG_CALL_TALK && ev->side == KG_SIDE_A)) {
        /* RFC 3261 14.2, RFC 3311 5.2: a second offer before the first has its answer */
        kg_fsm_turn_away(out, ev->side, 500, 1, NULL);
    } else if (early && !update) {
        /* B was ACKed at once and may go on; for A the call does not stand before its ACK. */
        fsm->deferred = true;
        kg_fsm_add(out, KG_DO_DEFER, ev->side);
    } else if (fsm->re != KG_RE_NONE || fsm->state != KG_CALL_TALK) {
        kg_fsm_turn_away(out, ev->side, 491, 0, NULL); /* RFC 3261 14.2, RFC 3311 5.2: glare */
    } else if (!update && !ev->sdp) {
        begin(fsm, KG_RE_LATE, kg_other_side(ev->side), false);
        kg_fsm_add(out, KG_DO_ASK, fsm->re_from);
        set_state(fsm, KG_RE_ASKED, INT64_MAX);
    } else if (ev->same) { /* RFC 4028 7.4: it only refreshes; the other side's session is another one */
        begin(fsm, KG_RE_ABSORBED, ev->side, update);
        kg_fsm_add(out, KG_DO_SERVE, ev->side);
        answer(fsm, out);
    } else {
        begin(fsm, ev->absorb ? KG_RE_ABSORBED : KG_RE_PASSES, ev->side, update);
        set_state(fsm, ev->absorb ? KG_RE_ANSWER : KG_RE_OFFER, INT64_MAX);
        kg_fsm_apply(fsm, out, ev->absorb ? KG_APPLY_ABSORBED : KG_APPLY_RE_OFFER, ev->side);
    }
}

void kg_re_on_ack(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    if (fsm->re == KG_RE_CONFIRMING && ev->side == fsm->re_from) {
        set_state(fsm, KG_RE_NONE, INT64_MAX);
    } else if (kg_re_awaits_answer(fsm, ev->side) && ev->sdp) {
        set_state(fsm, KG_RE_ANSWER, INT64_MAX);
        kg_fsm_apply(fsm, out, KG_APPLY_RE_ANSWER, ev->side);
    } else if (kg_re_awaits_answer(fsm, ev->side)) {
        kg_fsm_finish(fsm, out, now_ms, 488, 0,
                      "the ACK of a re-INVITE without SDP has no answer to the other side's offer");
    }
}

void kg_re_on_ack_timeout(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                          struct kg_fsm_out *out)
{
    bool confirming = fsm->re == KG_RE_CONFIRMING && ev->side == fsm->re_from;
    if (!confirming && !kg_re_awaits_answer(fsm, ev->side))
        return;
    kg_fsm_finish(fsm, out, now_ms, 408, 0, "the answer to a re-INVITE was never acknowledged");
}

void kg_re_on_cancel(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    (void)now_ms;
    bool late = fsm->re_kind == KG_RE_LATE;
    if ((fsm->re_kind != KG_RE_PASSES && !late) || ev->side != requester(fsm) || fsm->re_update)
        return;
    if (fsm->re == KG_RE_OFFER) {
        fsm->applying = false;
        kg_fsm_refuse(out, ev->side, 487, 0, NULL);
        take_back(fsm, out);
        set_state(fsm, KG_RE_NONE, INT64_MAX);
    } else if (fsm->re == (late ? KG_RE_ASKED : KG_RE_SENT) && !fsm->re_cancelled) {
        /* No 487 yet: if the other side's 200 crosses, both sides must know of it (RFC 3261 9.2). */
        fsm->re_cancelled = true;
        kg_fsm_add(out, KG_DO_CANCEL, kg_other_side(ev->side));
    }
}

/* ---- the media engine ---- */

static void on_media_ok(struct kg_fsm *fsm, int64_t now_ms, struct kg_fsm_out *out)
{
    switch (fsm->apply) {
    case KG_APPLY_RE_OFFER:
        if (fsm->re_kind == KG_RE_LATE) {
            kg_fsm_add(out, KG_DO_OFFER, answerer(fsm));
            set_state(fsm, KG_RE_SENT, now_ms + KG_CALL_LATE_MS);
            break;
        }
        kg_fsm_add(out, fsm->re_update ? KG_DO_UPDATE : KG_DO_INVITE, answerer(fsm));
        set_state(fsm, KG_RE_SENT, fsm->re_update ? now_ms + KG_CALL_UPDATE_MS : INT64_MAX);
        break;
    case KG_APPLY_UPGRADE:
        kg_fsm_add(out, KG_DO_INVITE, answerer(fsm));
        set_state(fsm, KG_RE_SENT, now_ms + KG_CALL_UPGRADE_MS);
        break;
    case KG_APPLY_RE_ANSWER:
        if (owes_ack(fsm))
            kg_fsm_add(out, KG_DO_ACK, fsm->re_from)->ok = true;
        if (is_ours(fsm)) {
            done(fsm, out, true);
        } else if (fsm->re_kind == KG_RE_LATE) {
            kg_fsm_add(out, KG_DO_AGREED, fsm->re_from);
            set_state(fsm, KG_RE_NONE, INT64_MAX);
        } else {
            answer(fsm, out);
        }
        break;
    case KG_APPLY_ABSORBED:
        answer(fsm, out);
        break;
    case KG_APPLY_RENEWED:
        done(fsm, out, true);
        break;
    case KG_APPLY_OFFER:
    case KG_APPLY_PROGRESS:
    case KG_APPLY_ANSWER:
        break;
    }
}

void kg_re_on_media(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    const char *why = kg_fsm_media_why(ev);
    int retry_after, status = kg_fsm_media_status(ev, &retry_after);
    if (ev->ok) {
        on_media_ok(fsm, now_ms, out);
    } else if (fsm->apply == KG_APPLY_RE_OFFER || fsm->apply == KG_APPLY_ABSORBED) {
        kg_fsm_refuse(out, requester(fsm), status, retry_after, why);
        take_back(fsm, out);
        set_state(fsm, KG_RE_NONE, INT64_MAX);
    } else if (fsm->apply == KG_APPLY_UPGRADE) {
        take_back_asked(fsm, out);
        failed(fsm, ev, now_ms, out);
    } else { /* both sides have agreed to what the engine cannot do */
        kg_fsm_finish(fsm, out, now_ms, status, retry_after, why);
    }
}

/* ---- responses to kedge's offers ---- */

/* A 2xx to an offer that has no use as an answer. */
static void on_useless_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                              struct kg_fsm_out *out)
{
    if (fsm->re_kind == KG_RE_PASSES) {
        kg_fsm_finish(fsm, out, now_ms, 500, 0, "the re-INVITE was answered without SDP");
        return;
    }
    take_back(fsm, out);
    failed(fsm, ev, now_ms, out);
}

static void on_asked_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                            struct kg_fsm_out *out)
{
    bool late = fsm->re_kind == KG_RE_LATE;
    if (ev->sdp) { /* its ACK waits for the other side's answer */
        set_state(fsm, KG_RE_OFFER, INT64_MAX);
        kg_fsm_apply(fsm, out, late ? KG_APPLY_RE_OFFER : KG_APPLY_UPGRADE, ev->side);
    } else if (late) {
        kg_fsm_add(out, KG_DO_ACK, ev->side);
        kg_fsm_refuse(out, requester(fsm), 500, 0, NULL);
        set_state(fsm, KG_RE_NONE, INT64_MAX);
    } else {
        kg_fsm_add(out, KG_DO_ACK, ev->side);
        failed(fsm, ev, now_ms, out);
    }
}

void kg_re_on_answer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    if (fsm->re == KG_RE_ASKED && ev->side == fsm->re_from) {
        on_asked_answer(fsm, ev, now_ms, out);
        return;
    }
    if (owes_ack(fsm) && ev->side == fsm->re_from) /* the same once more */
        return;
    kg_fsm_add(out, KG_DO_ACK, ev->side); /* every 2xx is ACKed, wanted or not (RFC 3261 13.2.2.4) */
    if (ev->side != answerer(fsm) || fsm->re_kind == KG_RE_LATE)
        return;
    if (fsm->re == KG_RE_SENT && !ev->sdp) {
        on_useless_answer(fsm, ev, now_ms, out);
    } else if (fsm->re == KG_RE_SENT) {
        set_state(fsm, KG_RE_ANSWER, INT64_MAX);
        kg_fsm_apply(fsm, out, fsm->re_kind == KG_RE_RENEWAL ? KG_APPLY_RENEWED : KG_APPLY_RE_ANSWER,
                     ev->side);
    } else if (fsm->re == KG_RE_WITHDRAWN) {
        /* It crossed our CANCEL. This side believes in what the other one was told is not: once more. */
        if (fsm->re_kind == KG_RE_UPGRADE)
            done(fsm, out, false);
        set_state(fsm, KG_RE_NONE, INT64_MAX);
        want(fsm, (int)ev->side, now_ms);
    }
}

static void on_reject_of_passing(struct kg_fsm *fsm, const struct kg_fsm_event *ev, struct kg_fsm_out *out)
{
    int status = kg_fsm_map_status(ev->status, fsm->to_pbx && ev->side == KG_SIDE_B);
    kg_fsm_refuse(out, requester(fsm), fsm->re_cancelled ? 487 : status, 0, NULL);
    if (fsm->re_kind == KG_RE_PASSES)
        kg_fsm_add(out, KG_DO_RESTORE, fsm->re_from);
    set_state(fsm, KG_RE_NONE, INT64_MAX);
}

void kg_re_on_reject(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms,
                     struct kg_fsm_out *out)
{
    bool asked = fsm->re == KG_RE_ASKED && ev->side == fsm->re_from;
    bool sent = (fsm->re == KG_RE_SENT || fsm->re == KG_RE_WITHDRAWN) && fsm->re_kind != KG_RE_LATE &&
                ev->side == answerer(fsm);
    if (!asked && !sent)
        return;
    /* RFC 3261 12.2.1.2: 408 and 481 to a request within a dialog mean that the dialog is gone. */
    if (ev->status == 408 || ev->status == 481) {
        if (owes_response(fsm)) {
            kg_fsm_refuse(out, requester(fsm), 500, 0, NULL);
            set_state(fsm, KG_RE_NONE, INT64_MAX);
        }
        kg_fsm_finish(fsm, out, now_ms, 500, 0,
                      ev->status == 481 ? "the other side no longer knows the call"
                                        : "the other side no longer answers");
    } else if (!is_ours(fsm) && fsm->re != KG_RE_WITHDRAWN) {
        on_reject_of_passing(fsm, ev, out);
    } else if (!is_ours(fsm)) { /* withdrawn: its sender has its answer */
        set_state(fsm, KG_RE_NONE, INT64_MAX);
    } else {
        if (fsm->re == KG_RE_SENT && fsm->re_kind == KG_RE_UPGRADE)
            take_back_asked(fsm, out);
        else if (fsm->re_kind == KG_RE_RENEWAL)
            kg_fsm_add(out, KG_DO_RESTORE, fsm->re_from);
        failed(fsm, ev, now_ms, out);
    }
}

/* ---- time ---- */

void kg_re_on_timer(struct kg_fsm *fsm, const struct kg_fsm_event *ev, int64_t now_ms, struct kg_fsm_out *out)
{
    (void)ev;
    if (fsm->re == KG_RE_NONE || now_ms < fsm->re_deadline_ms)
        return;
    if (fsm->re_cancelled) { /* neither an answer nor the response that a CANCEL makes certain */
        kg_fsm_finish(fsm, out, now_ms, 500, 0, "the other side no longer answers");
        return;
    }
    if (fsm->re_kind == KG_RE_LATE) { /* re_from waits for its ACK no longer */
        kg_fsm_finish(fsm, out, now_ms, 408, 0, "the answer to a re-INVITE was never acknowledged");
        return;
    }
    enum kg_re_state next = fsm->re;
    if (fsm->re_kind == KG_RE_PASSES) { /* RFC 3311 5.2 */
        kg_fsm_refuse(out, fsm->re_from, 504, 0, NULL);
        kg_fsm_add(out, KG_DO_RESTORE, fsm->re_from);
        next = KG_RE_WITHDRAWN;
    } else if (fsm->re_kind == KG_RE_UPGRADE && fsm->re == KG_RE_SENT) {
        take_back_asked(fsm, out);
        next = KG_RE_WITHDRAWN;
    }
    fsm->re_cancelled = true;
    kg_fsm_add(out, KG_DO_CANCEL, fsm->re == KG_RE_ASKED ? fsm->re_from : answerer(fsm));
    set_state(fsm, next, now_ms + KG_CALL_FINAL_MS);
}

void kg_re_end(struct kg_fsm *fsm, struct kg_fsm_out *out)
{
    if (owes_response(fsm))
        kg_fsm_refuse(out, requester(fsm), 487, 0, NULL);
    if (owes_ack(fsm))
        kg_fsm_add(out, KG_DO_ACK, fsm->re_from);
    set_state(fsm, KG_RE_NONE, INT64_MAX);
}
