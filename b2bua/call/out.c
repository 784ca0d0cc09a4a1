/* Requests that kedge sends on a leg, and the responses to them. Always down the leg's flow. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/refer.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "conf/log.h"

void kg_out_heard(struct kg_call *call)
{
    if (!call->unheard)
        return;
    call->unheard = false;
    kg_peers_heard(call->calls->server->peers, call->asked);
}

void kg_out_judge(struct kg_leg *leg, enum kg_outcome outcome, uint32_t retry_after_s)
{
    if (leg->side == KG_SIDE_B && leg->peer != KG_PEER_NONE && leg->call->fsm.state == KG_CALL_CALLING)
        kg_peers_outcome(leg->call->calls->server->peers, leg->peer, outcome, retry_after_s);
}

/* What a response to the first INVITE says of the server that was asked. */
static void judge_response(struct kg_leg *leg, const sip_t *sip, int status)
{
    bool own = !sip || nta_sip_is_internal(sip); /* nta's words for a request that it could not send */
    uint32_t retry_after_s = sip && sip->sip_retry_after ? (uint32_t)sip->sip_retry_after->af_delta : 0;
    if (own && status == 408)
        kg_out_judge(leg, KG_OUTCOME_SILENT, 0);
    else if (own)
        kg_out_judge(leg, KG_OUTCOME_UNREACHABLE, 0);
    else if (status == 503)
        kg_out_judge(leg, KG_OUTCOME_BUSY, retry_after_s);
    else if (status > 100) /* 100 is said by the stack of a server that has not looked at it yet */
        kg_out_judge(leg, KG_OUTCOME_GOOD, 0);
}

/* A PBX checks the password of who calls. */
static void judge_caller(struct kg_call *call, const struct kg_leg *leg, const sip_t *sip, int status)
{
    const struct kg_leg *caller = &call->leg[KG_SIDE_A];
    if (status >= 200 && sip && !nta_sip_is_internal(sip) && leg->side == KG_SIDE_B && leg->pbx &&
        !leg->trunk && caller->irq && !caller->pbx && nta_incoming_method(caller->irq) == sip_method_invite)
        kg_registrar_judge(call->calls->server->registrar, &caller->flow, caller->irq, sip);
}

/* ---- responses to our INVITE or UPDATE ---- */

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
    if (initial && leg->sdp_agreed) /* before the answer */
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

static void offer_anew(struct kg_leg *leg, nta_outgoing_t *refused);
static void give_up(struct kg_leg *leg, const char *what);

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

static const char *send_again(struct kg_leg *leg);

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
    const char *problem = send_again(leg);
    if (problem)
        give_up(leg, problem);
}

/* Its dialog stands, and nothing comes of the call. */
static void leave(struct kg_leg *leg)
{
    char route[KG_HOP_URL];
    if (!leg->standing || !leg->dialog)
        return;
    leg->standing = false;
    nta_outgoing_t *bye =
        nta_outgoing_tcreate(leg->dialog, NULL, NULL, (url_string_t *)kg_leg_route_url(leg, route),
                             SIP_METHOD_BYE, NULL, NTATAG_TPORT(leg->flow.tport), TAG_END());
    if (bye)
        nta_outgoing_destroy(bye); /* nta goes on sending it */
}

/* What the contact said before it refused is no answer to what it is asked next. */
static void forget_answers(struct kg_leg *leg)
{
    const char *call_id = leg->call->record->leg[leg->side].call_id;
    const sip_t *early = kg_early_newest(leg);
    if (early && call_id && strcmp(early->sip_call_id->i_id, call_id) == 0)
        kg_talk_forget(leg);
    if (call_id)
        kg_early_forget_call(leg, call_id);
}

/* ---- proofs to a trunk ---- */

/* Whose password answers a challenge to a request on this leg: a trunk's that of its provider, a PBX's that
 * of the trunk on the other side. NULL: nobody's; a phone's password is the phone's. */
static struct kg_trunk *prover_of(const struct kg_leg *leg, enum kg_trunk_account *account)
{
    *account = leg->trunk ? KG_ACCOUNT_PROVIDER : KG_ACCOUNT_PBX;
    if (leg->trunk || !leg->pbx)
        return leg->trunk;
    return leg->call->leg[kg_other_side(leg->side)].trunk;
}

nta_outgoing_t *kg_out_prove(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *response,
                             nta_response_f *on_answer)
{
    char route[KG_HOP_URL];
    int status = response ? response->sip_status->st_status : 0;
    enum kg_trunk_account account;
    struct kg_trunk *trunk = prover_of(leg, &account);
    if (!trunk || (status != 401 && status != 407)) {
        leg->proofs = status >= 200 ? 0 : leg->proofs;
        return NULL;
    }
    msg_t *msg = kg_trunk_prove(trunk, account, leg->dialog, orq, response, leg->proofs++);
    nta_outgoing_t *proven = msg ? nta_outgoing_mcreate(leg->call->calls->agent, on_answer, leg,
                                                        (url_string_t *)kg_leg_route_url(leg, route), msg,
                                                        NTATAG_TPORT(leg->flow.tport), TAG_END())
                                 : NULL;
    if (msg && !proven)
        msg_destroy(msg);
    return proven;
}

static void say_unproven(const struct kg_leg *leg)
{
    enum kg_trunk_account account;
    const char *name = kg_trunk_config(prover_of(leg, &account))->name;
    if (account == KG_ACCOUNT_PROVIDER)
        kg_warn("call", "call %s: the trunk %s does not take kedge's password for it", leg->call->record->id,
                name);
    else
        kg_warn("call",
                "call %s: the PBX asks for a password, which calls from the trunk %s do not have, or not the "
                "right one: "
                "set its pbx_user and pbx_password, or let the PBX take calls from kedge's address",
                leg->call->record->id, name);
}

/* Who is being cancelled need not be asked again. */
static bool is_proof_wanted(const struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_fsm *fsm = &leg->call->fsm;
    enum kg_trunk_account account;
    return prover_of(leg, &account) && sip && fsm->leg[leg->side] != KG_LEG_CANCELLING &&
           fsm->state != KG_CALL_ENDING && fsm->re != KG_RE_WITHDRAWN;
}

/* It is asked once more in another way, if there is one left. wanted: what it says is heard. */
static void on_refused(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip, int status, bool wanted)
{
    leg->invite = NULL;
    leg->asked = leg->fork && leg->asked; /* so are the others */
    if (is_update_unknown(orq, status)) {
        leg->allows_update = false;
        kg_out_update(leg);
    } else if (wanted && kg_session_too_short(leg, sip)) {
        offer_anew(leg, orq);
    } else if (wanted && is_first(leg, orq) && kg_talk_next_shape(leg, status, NULL)) {
        forget_answers(leg);
        kg_branch_asked_again(leg, status, orq);
        offer_anew(leg, orq);
    } else {
        if (leg->standing && status < 400)
            status = 480; /* nobody follows it inside of a dialog */
        leave(leg);
        kg_branch_fail(leg, status, is_first(leg, orq) ? kg_talk_why_refused(leg, status, sip) : NULL, orq);
    }
}

static int on_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    int status = sip ? sip->sip_status->st_status : 408;
    if (!kg_branch_turn(leg, orq))
        return 0;
    if (leg->peer == call->asked)
        kg_out_heard(call);
    judge_response(leg, sip, status);
    judge_caller(call, leg, sip, status);
    kg_branch_heard(leg);
    if (is_proof_wanted(leg, sip)) {
        nta_outgoing_t *proven = kg_out_prove(leg, orq, sip, on_response);
        if (proven) {
            leg->invite = proven;
            kg_branch_settle(leg);
            nta_outgoing_destroy(orq);
            return 0;
        }
        if (status == 401 || status == 407) {
            say_unproven(leg);
            status = 503; /* to the caller it is one server that fails: it has no password for it either */
        }
    }
    const sip_t *outer = call->cause;
    /* The ACK gives the transaction back, and its response with it; but what follows looks at the cause. */
    msg_t *held = status >= 200 ? nta_outgoing_getresponse(orq) : NULL;
    call->cause = sip;
    call->holds++; /* keeps the memory for the lines after the event */
    if (status >= 200 && call->fsm.pre != KG_PRE_NONE)
        kg_leg_tell(leg, KG_EV_PRE_OVER, 0, false);
    /* A callee that is being cancelled has nothing to say that anybody would hear. */
    bool wanted = call->fsm.leg[leg->side] != KG_LEG_CANCELLING && call->fsm.state != KG_CALL_ENDING &&
                  call->fsm.re != KG_RE_WITHDRAWN;
    bool sdp = false;
    const char *why = NULL;
    if (sip && status > 100 && status < 200 && !kg_reliable_take(leg, orq, sip))
        status = 100; /* as if it said nothing */
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
            kg_talk_learn_shape(leg);
        kg_branch_win(leg);
        on_answered(leg, sip);
        kg_session_heard(leg, sip);
        kg_early_forget(leg);
        kg_call_event(call,
                      &(struct kg_fsm_event){
                          .type = KG_EV_ANSWER, .side = leg->side, .status = status, .sdp = sdp, .why = why});
    } else {
        on_refused(leg, orq, sip, status, wanted);
    }
    kg_branch_settle(leg);
    call->cause = outer;
    if (status >= 300) /* not before: sip goes with it, and what ends the call looks at its cause */
        nta_outgoing_destroy(orq);
    msg_destroy(held);
    kg_call_unhold(call);
    return 0;
}

/* ---- INVITE and UPDATE ---- */

static void give_up(struct kg_leg *leg, const char *what)
{
    leave(leg);
    kg_warn("call", "call %s: no INVITE or UPDATE to %s: %s", leg->call->record->id,
            leg->call->record->leg[leg->side].user, what);
    kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
}

/* Points the leg at a contact. */
static int take_target(struct kg_leg *leg, const sip_t *sip, struct kg_call_target *target)
{
    struct kg_call *call = leg->call;
    if (leg->dialog)
        nta_leg_destroy(leg->dialog);
    leg->dialog = NULL;
    leg->allows_update = leg->refuses_refer = leg->trickles = leg->standing = false;
    msg_destroy(leg->offer_18x);
    leg->offer_18x = NULL;
    free(leg->sdp_agreed); /* with another contact, before the answer */
    leg->sdp_agreed = NULL;
    leg->agreed = (struct kg_leg_lines){0};
    leg->keys.asks = (struct kg_leg_asks){0};
    kg_talk_new_keys(leg);
    kg_leg_set_flow(leg, &target->flow);
    leg->peer = target->peer;
    leg->pbx = call->record->leg[leg->side].pbx = target->pbx;
    leg->proofs = 0;
    kg_leg_set_trunk(leg, target->trunk);
    free(leg->target);
    leg->target = target->url ? target->url : kg_parties_target(leg, sip);
    target->url = NULL;
    call->record->leg[leg->side].nat = target->nat;
    return leg->target ? kg_parties_open(leg, sip) : ENOMEM;
}

enum offer { FIRST, AGAIN, UPDATE, ASK };

/* Of an INVITE outside of a dialog. */
struct first {
    const char *path;    /* Route; NULL: none */
    const char *history; /* header lines; NULL: none */
};

/* sip: whose headers pass; NULL: nobody's. Returns NULL, or what was wrong. */
static const char *send_offer(struct kg_leg *leg, const sip_t *sip, enum offer offer, struct first first)
{
    struct kg_call *call = leg->call;
    char route[KG_HOP_URL], contact_buf[KG_CONTACT_URL];
    sip_contact_t contact[1];
    sip_max_forwards_t max_forwards[1];
    struct kg_body body;
    struct kg_passed passed;
    struct kg_list list;
    char options[KG_OPTIONS_TEXT], session[KG_SESSION_TEXT], min[16];
    size_t len = 0;
    bool asks = offer == ASK || (offer == FIRST && call->fsm.late);
    char *text = asks ? NULL : kg_talk_text(leg, &len);
    if (!text && !asks)
        return "its SDP could not be written";
    kg_leg_contact(leg, contact, contact_buf);
    sip_max_forwards_init(max_forwards)->mf_count = (unsigned long)call->max_forwards;
    kg_body_begin(&body);
    if (text)
        kg_body_sdp(&body, leg, text, len);
    else if (sip)
        kg_body_pass(&body, sip);
    kg_headers_none(&passed);
    if (sip)
        kg_leg_pass(leg, sip, &passed);
    snprintf(min, sizeof min, "%u", (unsigned)leg->session.min_s);
    kg_list_begin(&list);
    if (offer == FIRST && sip) {
        kg_refer_pass(&list, sip, &call->leg[kg_other_side(leg->side)], leg);
        if (sip_has_feature(sip->sip_require, "replaces")) /* else who does not know it would just ring */
            kg_list_text(&list, sip_require_class, "replaces");
    }
    kg_list_next(&list, passed.tag);
    kg_size_note(leg, sip, kg_body_len(&body));
    leg->asked = asks;
    const struct kg_fork *fork = leg->fork;
    unsigned place = kg_branch_place(leg);
    nta_outgoing_t *invite = nta_outgoing_tcreate(
        leg->dialog, on_response, leg, (url_string_t *)kg_leg_route_url(leg, route),
        offer == UPDATE ? sip_method_update : sip_method_invite,
        offer == UPDATE ? "UPDATE" : sip_method_name_invite,
        offer == FIRST ? (url_string_t *)leg->target : NULL, NTATAG_TPORT(leg->flow.tport),
        TAG_IF(first.path, SIPTAG_ROUTE_STR(first.path)),
        TAG_IF(first.history, SIPTAG_HEADER_STR(first.history)), SIPTAG_CONTACT(contact),
        SIPTAG_MAX_FORWARDS(max_forwards), SIPTAG_ALLOW(call->calls->allow),
        SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)),
        TAG_IF(kg_session_text(leg, session), SIPTAG_SESSION_EXPIRES_STR(session)),
        TAG_IF(leg->session.min_s, SIPTAG_MIN_SE_STR(min)),
        KG_TRICKLE_TAGS(call->calls->server->config.media.ice), TAG_NEXT(kg_body_tags(&body, list.tag)));
    kg_list_end(&list);
    kg_body_end(&body);
    /* A connection that breaks as it is written to fails whatever waits on it at once: another branch may be
     * in front now, or nobody may want this INVITE any more. */
    if (!kg_branch_return(leg, fork, place)) {
        kg_branch_cancel(invite);
        return NULL;
    }
    leg->invite = invite;
    if (!leg->invite)
        return "the stack refused it";
    if (offer == FIRST && leg->pbx && !call->unheard) {
        call->unheard = true;
        call->asked = leg->peer;
        kg_peers_asked(call->calls->server->peers, leg->peer);
    }
    return NULL;
}

/* Of kedge's own accord, or because of the other side's request, whose headers then pass. */
static void offer_again(struct kg_leg *leg, enum offer offer)
{
    struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    enum kg_re_kind kind = leg->call->fsm.re_kind;
    bool passes = (kind == KG_RE_PASSES || kind == KG_RE_LATE) && from->irq;
    msg_t *msg = passes ? nta_incoming_getrequest(from->irq) : NULL;
    const char *problem = "its connection is gone";
    if (kg_leg_is_reachable(leg))
        problem = send_offer(leg, msg ? sip_object(msg) : NULL, offer, (struct first){0});
    if (problem)
        give_up(leg, problem);
    msg_destroy(msg);
}

static const char *send_first(struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    const struct kg_call_target *target = &leg->call->target[n];
    char *history = target->diverted ? kg_redirect_headers(leg, sip, n) : NULL;
    const char *service_route = leg->trunk ? kg_trunk_service_route(leg->trunk) : NULL; /* RFC 3608 */
    struct first first = {service_route ? service_route : target->path, history};
    kg_talk_aim(leg);
    const char *problem = send_offer(leg, sip, FIRST, first);
    free(history);
    return problem;
}

static const char *send_again(struct kg_leg *leg)
{
    kg_talk_aim(leg);
    return send_offer(leg, NULL, AGAIN, (struct first){0});
}

/* The same once more: its session was too short for the peer (RFC 4028 7.3), or its shape was refused. */
static void offer_anew(struct kg_leg *leg, nta_outgoing_t *refused)
{
    struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    msg_t *sent = nta_outgoing_getrequest(refused);
    const char *problem = "the other side's INVITE is gone";
    if (leg->call->fsm.state == KG_CALL_TALK) {
        bool update = nta_outgoing_method(refused) == sip_method_update;
        bool empty = sent && !sip_object(sent)->sip_payload;
        offer_again(leg, update ? UPDATE : empty ? ASK : AGAIN);
        problem = NULL;
    } else {
        msg_t *msg = kg_leg_invite(from);
        if (leg->standing)
            problem = send_again(leg);
        else if (msg)
            problem = send_first(leg, sip_object(msg), kg_branch_target(leg));
        msg_destroy(msg);
    }
    if (problem)
        give_up(leg, problem);
    msg_destroy(sent);
}

const char *kg_out_first(struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    struct kg_call_target *target = &leg->call->target[n];
    if (take_target(leg, sip, target) != 0)
        return "out of memory";
    if (!kg_leg_is_reachable(leg))
        return "its connection is gone";
    return send_first(leg, sip, n);
}

void kg_out_invite(struct kg_leg *leg)
{
    if (leg->call->fsm.state == KG_CALL_TALK)
        offer_again(leg, AGAIN);
    else
        kg_branch_call(leg);
}

void kg_out_update(struct kg_leg *leg)
{
    offer_again(leg, leg->allows_update ? UPDATE : AGAIN);
}

void kg_out_ask(struct kg_leg *leg)
{
    offer_again(leg, ASK);
}

/* Before ACK the INVITE's transaction must be there still: nta takes the branch from it. */
static void send_ack(struct kg_leg *leg, bool answer)
{
    char route[KG_HOP_URL];
    sip_cseq_t cseq[1];
    struct kg_body body;
    size_t len = 0;
    msg_t *ok = leg->asked ? nta_outgoing_getresponse(leg->invite) : NULL;
    char *text = !ok      ? NULL
                 : answer ? kg_talk_answer(leg, sip_object(ok), &len)
                          : kg_talk_refusal(leg, sip_object(ok), &len);
    msg_destroy(ok);
    kg_body_begin(&body);
    if (text)
        kg_body_sdp(&body, leg, text, len);
    sip_cseq_init(cseq)->cs_seq = nta_outgoing_cseq(leg->invite);
    cseq->cs_method = sip_method_ack;
    cseq->cs_method_name = sip_method_name_ack;
    nta_outgoing_t *ack = nta_outgoing_tcreate(
        leg->dialog, NULL, NULL, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_ACK, NULL,
        NTATAG_TPORT(leg->flow.tport), SIPTAG_CSEQ(cseq), TAG_NEXT(kg_body_tags(&body, NULL)));
    if (ack)
        nta_outgoing_destroy(ack); /* nta keeps it to answer retransmissions of the 2xx */
    kg_body_end(&body);
}

void kg_out_ack(struct kg_leg *leg, bool answer)
{
    if (!leg->invite)
        return;
    if (nta_outgoing_method(leg->invite) == sip_method_invite)
        send_ack(leg, answer);
    nta_outgoing_destroy(leg->invite);
    leg->invite = NULL;
    leg->asked = false;
}

/* nta holds it back until the first provisional response (RFC 3261 9.1). The reason of a caller's CANCEL
 * passes: a PBX that rings several phones says by it which of them missed no call (RFC 3326). */
void kg_out_cancel(struct kg_leg *leg)
{
    const sip_t *cause = leg->call->cause;
    const sip_reason_t *passed = cause && cause->sip_request ? cause->sip_reason : NULL;
    kg_branch_drop_others(leg, passed);
    if (leg->invite)
        nta_outgoing_tcancel(leg->invite, NULL, NULL, TAG_IF(passed, SIPTAG_REASON(passed)), TAG_END());
}

/* A phone that wakes up late must not ring: CANCEL follows its first response. A PBX that is dead is not
 * retransmitted to any more. */
void kg_out_drop(struct kg_leg *leg)
{
    kg_out_heard(leg->call);
    kg_out_judge(leg, KG_OUTCOME_SILENT, 0);
    kg_branch_drop_others(leg, NULL);
    leave(leg);
    if (!leg->invite)
        return;
    if (!leg->pbx)
        nta_outgoing_cancel(leg->invite);
    nta_outgoing_destroy(leg->invite);
    leg->invite = NULL;
}

/* ---- BYE ---- */

static int on_bye_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    if (sip && sip->sip_status->st_status < 200)
        return 0;
    if (orq != leg->bye)
        return 0;
    leg->bye = kg_out_prove(leg, orq, sip, on_bye_response);
    nta_outgoing_destroy(orq);
    if (leg->bye)
        return 0;
    kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
    return 0;
}

void kg_out_bye(struct kg_leg *leg, int status, const char *why)
{
    char route[KG_HOP_URL], reason[160] = "";
    if (leg->bye) /* passed on from the other side: its answer is awaited already */
        return;
    if (leg->bye_answered || !kg_leg_is_reachable(leg)) {
        kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
        return;
    }
    const sip_t *cause = leg->call->cause;
    const sip_reason_t *passed = cause && cause->sip_request ? cause->sip_reason : NULL;
    struct kg_body body;
    kg_body_begin(&body);
    if (cause && cause->sip_request && cause->sip_request->rq_method == sip_method_bye)
        kg_body_pass_foreign(&body, cause);
    if (why && !passed) /* RFC 3326 */
        snprintf(reason, sizeof reason, "SIP;cause=%d;text=\"%s\"", status, why);
    leg->bye = nta_outgoing_tcreate(
        leg->dialog, on_bye_response, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_BYE, NULL,
        NTATAG_TPORT(leg->flow.tport), TAG_IF(reason[0], SIPTAG_REASON_STR(reason)),
        TAG_IF(passed, SIPTAG_REASON(passed)), TAG_NEXT(kg_body_tags(&body, NULL)));
    kg_body_end(&body);
    leg->bye = kg_out_keep(leg, leg->bye);
    if (!leg->bye)
        kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
}

nta_outgoing_t *kg_out_keep(const struct kg_leg *leg, nta_outgoing_t *orq)
{
    if (!leg->call->over)
        return orq;
    if (orq)
        nta_outgoing_destroy(orq);
    return NULL;
}

/* ---- a peer that has moved ---- */

/* An INVITE keeps its branch: should the first one have arrived after all, to its peer this is a
 * retransmission and not an INVITE that meets another one (RFC 3261 14.1). */
nta_outgoing_t *kg_out_again(struct kg_leg *leg, nta_outgoing_t *orq, nta_response_f *on_answer)
{
    char route[KG_HOP_URL];
    msg_t *sent = nta_outgoing_getrequest(orq), *msg = sent ? msg_copy(sent) : NULL;
    sip_t *sip = msg ? sip_object(msg) : NULL;
    nta_outgoing_t *again = NULL;
    if (sip && sip->sip_via) {
        bool invite = nta_outgoing_method(orq) == sip_method_invite;
        const char *branch = sip->sip_via->v_branch;
        msg_header_remove(msg, (msg_pub_t *)sip, (msg_header_t *)sip->sip_via);
        again = nta_outgoing_mcreate(
            leg->call->calls->agent, on_answer, leg, (url_string_t *)kg_leg_route_url(leg, route), msg,
            NTATAG_TPORT(leg->flow.tport), TAG_IF(invite, NTATAG_BRANCH_KEY(branch)), TAG_END());
    }
    if (!again)
        msg_destroy(msg); /* else it is nta's */
    msg_destroy(sent);
    if (!again)
        return orq; /* it ends by itself */
    nta_outgoing_destroy(orq);
    return again;
}

static bool is_unheard(const nta_outgoing_t *orq)
{
    return orq && nta_outgoing_status(orq) < 100;
}

void kg_out_follow(struct kg_leg *leg)
{
    const struct kg_fsm *fsm = &leg->call->fsm;
    bool cancelled = fsm->re_cancelled || fsm->leg[leg->side] == KG_LEG_CANCELLING; /* better unheard */
    bool offer = is_unheard(leg->invite) && !cancelled, bye = is_unheard(leg->bye);
    if (leg->pbx || !kg_leg_is_reachable(leg))
        return;
    kg_relay_follow(leg);
    kg_session_follow(leg);
    if (!offer && !bye)
        return;
    kg_info("call", "call %s: what %s has not answered is sent to its new place", leg->call->record->id,
            leg->call->record->leg[leg->side].user);
    if (offer)
        leg->invite = kg_out_again(leg, leg->invite, on_response);
    if (bye)
        leg->bye = kg_out_again(leg, leg->bye, on_bye_response);
}
