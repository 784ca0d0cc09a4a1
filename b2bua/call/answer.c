/* Responses to our INVITE or UPDATE. */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <string.h>

#include "b2bua/call/talk.h"
#include "conf/log.h"

static void on_answered(struct kg_leg *leg, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    bool initial = leg->side == KG_SIDE_B && call->fsm.leg[KG_SIDE_B] != KG_LEG_UP;
    if (sip->sip_to && sip->sip_to->a_tag)
        nta_leg_rtag(leg->dialog, sip->sip_to->a_tag);
    nta_leg_client_reroute(leg->dialog, sip->sip_record_route, sip->sip_contact, initial && !leg->standing);
    if (initial && !leg->pbx) {
        struct kg_record_leg *record = &call->record->leg[leg->side];
        if (kg_addr_is_set(&leg->flow.remote) && record->nat && !record->nat_reasons)
            record->nat_reasons = strdup("its registration came from another address than it names");
    }
}

/* Takes the SDP of a 1xx or 2xx. True if there is a description now. *why: why one that is there is none. */
static bool take_sdp(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip, const char **why)
{
    struct kg_call *call = leg->call;
    bool initial = call->fsm.leg[leg->side] != KG_LEG_UP, final = sip->sip_status->st_status >= 200;
    char error[160], text[240];
    if (call->fsm.late && !final && !(kg_reliable_is(sip) && kg_fsm_takes_18x(&call->fsm))) {
        kg_early_remember(leg, orq, false); /* what is not reliable is no offer */
        return false;
    }
    enum kg_sdp_found found = kg_talk_take(leg, sip, error, sizeof error);
    if (found == KG_SDP_BAD) {
        snprintf(text, sizeof text, "the SDP of %s's answer cannot be used: %s",
                 call->record->leg[leg->side].user, error);
        kg_warn("call", "call %s: %s", call->record->id, text);
        *why = final ? kg_record_keep(call->record, text) : NULL;
    }
    if (initial && !final)
        kg_early_remember(leg, orq, found == KG_SDP_OK);
    if (found != KG_SDP_NONE || !final)
        return found == KG_SDP_OK;
    /* RFC 3261 13.2.1: SDP of a 18x is the answer when the 200 does not repeat it; of a fork, its own 18x */
    const sip_t *early = kg_early_of(leg, sip);
    if (initial && leg->sdp_agreed && kg_early_is_agreed(leg, sip)) /* an UPDATE may have changed it */
        return kg_talk_take_agreed(leg);
    if (!initial || !kg_early_newest(leg))
        return leg->sdp_pending != NULL;
    return early && kg_talk_take(leg, early, error, sizeof error) == KG_SDP_OK;
}

/* The peer has taken back what it announced: a re-INVITE then. */
static bool is_update_unknown(const nta_outgoing_t *orq, int status)
{
    return nta_outgoing_method(orq) == sip_method_update && (status == 405 || status == 501);
}

/* It is the INVITE that begins the call. */
static bool is_first(const struct kg_leg *leg, const nta_outgoing_t *orq)
{
    return leg->side == KG_SIDE_B && leg->call->fsm.state == KG_CALL_CALLING && !leg->call->fsm.late &&
           nta_outgoing_method(orq) == sip_method_invite;
}

/* A 2xx without anything that can be used, though its sender may take another shape. */
static bool is_useless(struct kg_leg *leg, const nta_outgoing_t *orq, const sip_t *sip, bool wanted, bool sdp)
{
    return wanted && is_first(leg, orq) && sip && kg_body_has_sdp(sip) &&
           (leg->bad_keys || (sdp && kg_talk_is_empty(leg))) && kg_talk_next_shape(leg, 488, sip);
}

/* Whoever is there has picked up already: it is asked again in the dialog that stands, and rings no second
 * time. */
static void ask_inside(struct kg_leg *leg, const sip_t *sip)
{
    kg_branch_win(leg);
    kg_fsm_set_rounds(&leg->call->fsm, 0); /* nobody else is asked any more */
    on_answered(leg, sip);
    kg_early_forget(leg);
    kg_talk_forget(leg);
    kg_out_ack(leg, false);
    leg->standing = true;
    kg_leg_tell(leg, KG_EV_PROVISIONAL, 100, false); /* it is there */
    kg_out_inside(leg);
}

/* It is asked once more in another way, if there is one left. wanted: what it says is heard. */
static void on_refused(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip, int status, bool wanted)
{
    leg->invite = NULL;
    leg->asked = leg->fork && leg->asked; /* so are the others */
    bool unknown = is_update_unknown(orq, status);
    if (unknown)
        leg->allows_update = false;
    if (wanted && unknown) {
        kg_out_update(leg);
    } else if (wanted && kg_session_too_short(leg, sip)) {
        kg_out_anew(leg, orq);
    } else if (wanted && is_first(leg, orq) && kg_talk_next_shape(leg, status, NULL)) {
        kg_early_drop(leg);
        kg_branch_asked_again(leg, status, orq);
        kg_out_anew(leg, orq);
    } else {
        if (leg->standing && status < 400)
            status = 480; /* nobody follows it inside of a dialog */
        kg_bye_leave(leg);
        kg_branch_fail(leg, status, is_first(leg, orq) ? kg_talk_why_refused(leg, status, sip) : NULL, orq);
    }
}

/* A callee that is being cancelled has nothing to say that anybody would hear, and need not be asked again.
 */
static bool is_wanted(const struct kg_leg *leg)
{
    const struct kg_fsm *fsm = &leg->call->fsm;
    return fsm->leg[leg->side] != KG_LEG_CANCELLING && fsm->state != KG_CALL_ENDING &&
           fsm->re != KG_RE_WITHDRAWN;
}

/* True: as kg_prove. *status: what it is to the caller if the password was not taken. */
static bool prove(struct kg_leg *leg, const sip_t *sip, int *status)
{
    if (!is_wanted(leg) || !kg_prove_may_be_asked(leg))
        return false;
    if (kg_prove(leg, &leg->invite, sip, kg_answer_take)) {
        kg_branch_settle(leg);
        return true;
    }
    if (*status == 401 || *status == 407) {
        kg_prove_note(leg);
        *status = 503; /* to the caller it is one server that fails: it has no password for it either */
    }
    return false;
}

/* PRACK goes over a connection that may break, and what waits there fails at once, orq too. */
static bool is_there(const struct kg_leg *leg, const nta_outgoing_t *orq)
{
    return !leg->call->over && leg->invite == orq;
}

static void take(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip, int status)
{
    struct kg_call *call = leg->call;
    bool wanted = is_wanted(leg), sdp = false;
    const char *why = NULL;
    if (sip && status > 100 && status < 200 && !kg_reliable_take(leg, orq, sip))
        status = 100; /* as if it said nothing */
    if (!is_there(leg, orq))
        return;
    if (sip && status > 100 && status < 300) {
        kg_leg_learn(leg, sip);
        sdp = wanted && take_sdp(leg, orq, sip, &why);
    }
    if (status < 200) {
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_PROVISIONAL,
                                                   .side = leg->side,
                                                   .status = status,
                                                   .sdp = sdp,
                                                   .reliable = sip && kg_reliable_is(sip)});
    } else if (status < 300 && is_useless(leg, orq, sip, wanted, sdp)) {
        ask_inside(leg, sip);
    } else if (status < 300) {
        leg->standing = false;
        if (is_first(leg, orq))
            kg_talk_learn_shapes(leg, sdp);
        kg_branch_win(leg);
        on_answered(leg, sip);
        kg_session_heard(leg, sip);
        kg_early_forget(leg);
        kg_call_event(call,
                      &(struct kg_fsm_event){
                          .type = KG_EV_ANSWER, .side = leg->side, .status = status, .sdp = sdp, .why = why});
    } else {
        on_refused(leg, orq, sip, status, wanted);
        nta_outgoing_destroy(orq);
    }
}

int kg_answer_take(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    int status = sip ? sip->sip_status->st_status : 408;
    if (!kg_branch_turn(leg, orq))
        return 0;
    /* The ACK, or who fails it while this is looked at, gives the transaction back, and its response with it;
     * but what follows looks at the cause. */
    msg_t *held = nta_outgoing_getresponse(orq);
    const sip_t *outer = call->cause;
    call->holds++;
    kg_judge_response(leg, sip, status);
    kg_branch_heard(leg);
    if (!sip || !prove(leg, sip, &status)) {
        call->cause = sip;
        if (status >= 200 && call->fsm.pre != KG_PRE_NONE)
            kg_leg_tell(leg, KG_EV_PRE_OVER, 0, false);
        take(leg, orq, sip, status);
        kg_branch_settle(leg);
        call->cause = outer;
    }
    msg_destroy(held);
    kg_call_unhold(call);
    return 0;
}
