/* One leg: its dialog, its flow, and the requests that its peer sends inside of the dialog. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/call/talk.h"
#include "b2bua/call/transfer.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/sip.h"
#include "conf/log.h"

static int on_ack_or_cancel(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip);

/* ---- opening and closing ---- */

int kg_leg_accept(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    char param[KG_TAG_LEN + 5] = "tag=", session[KG_SESSION_TEXT];
    const char *tag = param + 4, *params[] = {param, NULL}, *given = nta_incoming_gettag(irq);
    if (given)
        snprintf(param + 4, KG_TAG_LEN + 1, "%s", given);
    else
        kg_calls_random_hex(leg->call->calls, param + 4, KG_TAG_LEN);
    leg->local = kg_name_addr(sip->sip_to->a_display, sip->sip_to->a_url);
    leg->remote = kg_name_addr(sip->sip_from->a_display, sip->sip_from->a_url);
    /* Our tag from the start and not by nta_leg_tag: nta would hand INVITEs without a To tag to this dialog
     * too. */
    sip_to_t us = *sip->sip_to;
    us.a_params = params;
    us.a_tag = tag;
    /* Ours, since nta would begin somewhere with the first request: a snapshot from before that, and what
     * goes on from it, has to know where. */
    sip_cseq_t cseq[1];
    sip_cseq_init(cseq)->cs_seq = 1;
    leg->dialog =
        nta_leg_tcreate(leg->call->calls->agent, kg_leg_request, leg, SIPTAG_CALL_ID(sip->sip_call_id),
                        SIPTAG_FROM((sip_from_t *)&us), SIPTAG_TO((sip_to_t *)sip->sip_from),
                        SIPTAG_CSEQ(cseq), NTATAG_REMOTE_CSEQ(sip->sip_cseq->cs_seq), TAG_END());
    if (!leg->local || !leg->remote || !leg->dialog || !nta_incoming_tag(irq, tag))
        return ENOMEM;
    if (nta_leg_server_route(leg->dialog, sip->sip_record_route, sip->sip_contact) < 0)
        return ENOMEM;
    nta_incoming_bind(irq, on_ack_or_cancel, leg);
    leg->irq = irq;
    leg->rcseq = sip->sip_cseq->cs_seq;
    kg_leg_learn(leg, sip);
    kg_session_ask(leg, sip);
    kg_session_serve(leg, session); /* the snapshot that goes with the answer is made before it */
    kg_leg_set_flow(leg, flow);
    return 0;
}

int kg_leg_open(struct kg_leg *leg, const sip_from_t *from, const sip_to_t *to)
{
    char call_id[KG_CALL_ID_HEX + 1], param[KG_TAG_LEN + 5] = "tag=";
    const char *params[] = {param, NULL};
    kg_calls_random_hex(leg->call->calls, call_id, KG_CALL_ID_HEX);
    kg_calls_random_hex(leg->call->calls, param + 4, KG_TAG_LEN);
    free(leg->local);
    free(leg->remote);
    leg->local = kg_name_addr(from->a_display, from->a_url);
    leg->remote = kg_name_addr(to->a_display, to->a_url);
    sip_from_t us = *from;
    us.a_params = params;
    us.a_tag = param + 4;
    leg->dialog = nta_leg_tcreate(leg->call->calls->agent, kg_leg_request, leg, SIPTAG_CALL_ID_STR(call_id),
                                  SIPTAG_FROM(&us), SIPTAG_TO(to), TAG_END());
    if (!leg->local || !leg->remote || !leg->dialog)
        return ENOMEM;
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    free(record->call_id);
    record->call_id = strdup(call_id);
    /* A new dialog starts a new o= line. */
    leg->origin = kg_calls_new_origin(leg->call->calls);
    return 0;
}

void kg_leg_close(struct kg_leg *leg)
{
    kg_reliable_close(leg);
    kg_branch_drop_others(leg, NULL);
    if (leg->irq)
        nta_incoming_destroy(leg->irq);
    if (leg->invite)
        nta_outgoing_destroy(leg->invite);
    if (leg->bye)
        nta_outgoing_destroy(leg->bye);
    if (leg->bye_irq)
        nta_incoming_destroy(leg->bye_irq);
    if (leg->refresh)
        nta_outgoing_destroy(leg->refresh);
    if (leg->doubt)
        nta_outgoing_destroy(leg->doubt);
    if (leg->dialog)
        nta_leg_destroy(leg->dialog);
    if (leg->arrived)
        nta_incoming_destroy(leg->arrived);
    leg->irq = leg->arrived = NULL;
    leg->bye_irq = NULL;
    leg->invite = leg->bye = leg->refresh = leg->doubt = NULL;
    leg->dialog = NULL;
    msg_destroy(leg->made);
    leg->made = NULL;
    kg_early_forget(leg);
    kg_flow_clear(&leg->flow);
}

/* ---- where it is ---- */

void kg_leg_set_flow(struct kg_leg *leg, const struct kg_flow *flow)
{
    struct kg_flow old = leg->flow;
    kg_flow_copy(&leg->flow, flow);
    kg_flow_clear(&old);
    leg->lost = false;
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    record->transport = flow->transport;
    record->remote = flow->remote;
    record->lost = false;
}

/* A phone whose connection is gone may have registered again over another one, with the same Contact. */
static void find_again(struct kg_leg *leg)
{
    struct kg_target target[KG_TARGETS_MAX];
    const sip_contact_t *contact = NULL;
    const char *user = leg->call->record->leg[leg->side].user;
    if (leg->pbx || !user || nta_leg_get_route(leg->dialog, NULL, &contact) < 0 || !contact)
        return;
    size_t count = kg_registrar_lookup(leg->call->calls->server->registrar, user, target, KG_TARGETS_MAX);
    char *url = kg_url_text(contact->m_url);
    for (size_t i = 0; i < count; i++) {
        if (url && leg->lost && strcmp(target[i].contact, url) == 0 && kg_flow_is_up(&target[i].flow))
            kg_leg_set_flow(leg, &target[i].flow);
        kg_flow_clear(&target[i].flow);
    }
    free(url);
}

bool kg_leg_is_reachable(struct kg_leg *leg)
{
    if (!leg->dialog)
        return false;
    if (!leg->lost && !leg->pbx && !kg_flow_is_up(&leg->flow))
        leg->lost = true;
    if (leg->lost)
        find_again(leg);
    return !leg->lost;
}

/* Down the flow, whatever Contact and Via say. */
const char *kg_leg_route_url(const struct kg_leg *leg, char buf[static KG_HOP_URL])
{
    return leg->pbx ? kg_flow_hop_url(&leg->flow, leg->dialog, buf) : kg_flow_route_url(&leg->flow, buf);
}

void kg_leg_contact(const struct kg_leg *leg, sip_contact_t contact[1], char buf[static KG_CONTACT_URL])
{
    const struct kg_call *call = leg->call;
    sip_contact_init(contact);
    kg_flow_contact_url(&call->calls->server->config, &leg->flow, call->record->id, buf);
    url_d(contact->m_url, buf);
}

static void go_to(struct kg_leg *leg, const struct kg_flow *flow)
{
    char old[KG_ADDR_STR], new[KG_ADDR_STR];
    kg_info("call", "call %s: %s moved from %s to %s; requests follow it there", leg->call->record->id,
            leg->call->record->leg[leg->side].user, kg_addr_format(&leg->flow.remote, old),
            kg_addr_format(&flow->remote, new));
    kg_leg_set_flow(leg, flow);
    if (leg->call->fsm.state == KG_CALL_TALK)
        kg_talk_save(leg->call);
}

/* After go_to, when the request that showed it has been served: an offer of ours that meets one of the peer's
 * would be refused. */
static void settle(struct kg_leg *leg, const struct kg_addr *before, bool restarted)
{
    leg->call->holds++;
    kg_out_follow(leg);
    if (!leg->call->over && leg->call->fsm.state != KG_CALL_ENDING)
        kg_path_moved(leg, before, restarted);
    kg_call_unhold(leg->call);
}

void kg_leg_move(struct kg_leg *leg, const struct kg_flow *flow)
{
    struct kg_call *call = leg->call;
    struct kg_addr before = leg->flow.remote;
    go_to(leg, flow);
    call->holds++;
    settle(leg, &before, false);
    if (kg_transport_is_web(flow->transport) && leg->agreed.use[0] != KG_ICE_UNUSED && !call->over &&
        call->fsm.state == KG_CALL_TALK)
        kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_RETURNED, .side = leg->side});
    kg_call_unhold(call);
}

/* A phone behind a NAT may come from a new port or connection in the middle of a call. The dialog matched by
 * Call-ID and our 64-bit tag, which only the two ends know: requests go to the new place from now on. True if
 * it moved; *before is where it was. */
static bool follow(struct kg_leg *leg, nta_incoming_t *irq, struct kg_addr *before)
{
    struct kg_flow flow;
    if (leg->pbx || kg_flow_of_incoming(leg->call->calls->agent, irq, &flow) != 0)
        return false;
    bool moved = leg->lost || !kg_flow_same(&flow, &leg->flow);
    if (moved) {
        *before = leg->flow.remote;
        go_to(leg, &flow);
    }
    kg_flow_clear(&flow);
    return moved;
}

/* ---- requests inside of the dialog ---- */

void kg_leg_learn(struct kg_leg *leg, const sip_t *sip)
{
    if (sip->sip_allow) /* without one, what it said before holds */
    {
        leg->allows_update = SIP_IS_ALLOWED(sip->sip_allow, sip_method_update);
        leg->refuses_refer = !SIP_IS_ALLOWED(sip->sip_allow, sip_method_refer);
    }
    kg_options_learn(leg, sip);
    leg->trickles = leg->trickles || kg_trickle_is_announced(sip);
}

msg_t *kg_leg_invite(const struct kg_leg *leg)
{
    if (leg->made)
        return msg_ref_create(leg->made);
    return leg->irq ? nta_incoming_getrequest(leg->irq) : NULL;
}

void kg_leg_serve(struct kg_leg *leg)
{
    leg->irq = leg->arrived;
    leg->arrived = NULL;
    if (nta_incoming_method(leg->irq) == sip_method_invite)
        nta_incoming_bind(leg->irq, on_ack_or_cancel, leg);
}

/* Hands leg->arrived, whose message is sip, to the state machine. moved_from NULL: it did not move. */
static void offer(struct kg_leg *leg, const sip_t *sip, const struct kg_addr *moved_from)
{
    char error[160];
    bool update = sip->sip_request->rq_method != sip_method_invite; /* or PRACK */
    bool free_to_serve = leg->call->fsm.state == KG_CALL_TALK && leg->call->fsm.re == KG_RE_NONE;
    enum kg_sdp_found found = KG_SDP_NONE;
    if (update && kg_fsm_takes_pre_offer(&leg->call->fsm)) { /* the first exchange is complete */
        kg_talk_commit(leg->call);
        free_to_serve = true;
    }
    if (free_to_serve) /* else it must not touch what is pending */
        found = kg_talk_take(leg, sip, error, sizeof error);
    if (found == KG_SDP_BAD) {
        nta_incoming_t *irq = leg->arrived;
        leg->arrived = NULL;
        kg_reply_refuse(irq, leg, &(struct kg_fsm_action){.status = 488, .why = error});
        return;
    }
    /* From another place it is more than a refresh: the engine has to hear that media may come from there. */
    bool same = found == KG_SDP_OK && !moved_from && leg->call->stream_count > 0 && leg->sdp_agreed &&
                strcmp(leg->sdp_pending, leg->sdp_agreed) == 0 &&
                leg->call->leg[kg_other_side(leg->side)].sdp_agreed;
    struct kg_fsm_event event = {.type = update ? KG_EV_UPDATE : KG_EV_REINVITE,
                                 .same = same,
                                 .side = leg->side,
                                 .sdp = found == KG_SDP_OK,
                                 .passes = kg_pre_can_pass(leg),
                                 .absorb = found == KG_SDP_OK && kg_talk_is_absorbed(leg)};
    bool restarted = moved_from && found == KG_SDP_OK && kg_talk_is_restart(leg);
    leg->call->holds++;
    kg_call_event(leg->call, &event);
    if (moved_from && !leg->call->over)
        settle(leg, moved_from, restarted);
    kg_call_unhold(leg->call);
}

void kg_leg_pre_offer(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_flow flow = {0};
    bool near = kg_flow_of_incoming(leg->call->calls->agent, irq, &flow) == 0 &&
                kg_addr_same_host(&flow.remote, &leg->flow.remote);
    kg_flow_clear(&flow);
    if (near && !leg->arrived && kg_fsm_takes_pre_offer(&leg->call->fsm)) {
        leg->arrived = irq;
        offer(leg, sip, NULL);
        return;
    }
    nta_incoming_treply(irq, SIP_488_NOT_ACCEPTABLE, TAG_END());
    nta_incoming_destroy(irq);
}

/* RFC 3311 5.2: without an offer it only says where its sender is now. */
static void answer_refresh(struct kg_leg *leg, nta_incoming_t *irq)
{
    sip_contact_t contact[1];
    char buf[KG_CONTACT_URL], session[KG_SESSION_TEXT], options[KG_OPTIONS_TEXT];
    kg_leg_contact(leg, contact, buf);
    kg_session_serve(leg, session);
    nta_incoming_treply(irq, SIP_200_OK, SIPTAG_CONTACT(contact), SIPTAG_ALLOW(leg->call->calls->allow),
                        SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)),
                        TAG_IF(session[0], SIPTAG_SESSION_EXPIRES_STR(session)), TAG_END());
    if (session[0] && leg->call->fsm.state == KG_CALL_TALK)
        kg_talk_save(leg->call);
}

static bool is_empty(const sip_t *sip)
{
    return !sip->sip_payload || sip->sip_payload->pl_len == 0;
}

/* An UPDATE without an offer is answered by kedge alone: its body would get lost. That of an INVITE passes.
 */
static bool is_body_lost(const sip_t *sip)
{
    char error[160];
    struct kg_multipart at;
    return sip->sip_request->rq_method == sip_method_update && !is_empty(sip) &&
           kg_body_find(sip, &at, error, sizeof error) == KG_SDP_NONE;
}

static int on_offer(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_addr before;
    if (sip->sip_require) { /* RFC 3261 8.2.2.3 */
        su_home_t home[1] = {SU_HOME_INIT(home)};
        su_home_init(home);
        sip_unsupported_t *unknown =
            kg_sip_unsupported(home, sip, leg->call->calls->server->config.media.ice);
        if (unknown)
            nta_incoming_treply(irq, SIP_420_BAD_EXTENSION, SIPTAG_UNSUPPORTED(unknown), TAG_END());
        su_home_deinit(home);
        if (unknown)
            return 420;
    }
    if (is_body_lost(sip)) { /* RFC 3261 8.2.3 */
        nta_incoming_treply(irq, SIP_415_UNSUPPORTED_MEDIA, SIPTAG_ACCEPT_STR("application/sdp"), TAG_END());
        return 415;
    }
    if (kg_session_refuse(leg->call->calls, irq, sip))
        return 422;
    bool moved = follow(leg, irq, &before);
    /* Target refresh (RFC 3261 12.2.2). Before the answer leg B's may be one of several dialogs, of which
     * each has the Contact of its 18x. */
    bool early = leg->side == KG_SIDE_B && leg->call->fsm.state == KG_CALL_CALLING && !leg->standing;
    if (sip->sip_contact && !early)
        nta_leg_server_route(leg->dialog, sip->sip_record_route, sip->sip_contact);
    kg_leg_learn(leg, sip);
    kg_session_ask(leg, sip);
    if (sip->sip_request->rq_method == sip_method_update && is_empty(sip)) {
        answer_refresh(leg, irq);
        if (moved)
            settle(leg, &before, false);
        return 200;
    }
    if (leg->arrived && leg->arrived != irq) { /* one waits already: this one's turn does not come */
        nta_incoming_treply(irq, SIP_500_INTERNAL_SERVER_ERROR, SIPTAG_RETRY_AFTER_STR("1"), TAG_END());
        return 500;
    }
    leg->arrived = irq;
    offer(leg, sip, moved ? &before : NULL);
    return 0;
}

/* The re-INVITE that waited for the other side's ACK. */
void kg_leg_resume(struct kg_leg *leg)
{
    msg_t *msg = leg->arrived ? nta_incoming_getrequest(leg->arrived) : NULL;
    if (!msg)
        return;
    offer(leg, sip_object(msg), NULL);
    msg_destroy(msg);
}

/* What passes to the other side, and INFO. */
static int on_passing(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_addr before;
    int status;
    if (follow(leg, irq, &before))
        settle(leg, &before, false);
    if (leg->call->over)
        return 481;
    if (sip->sip_request->rq_method == sip_method_info && kg_trickle_request(leg, irq, sip, &status))
        return status;
    return kg_relay_request(leg, irq, sip);
}

/* By the table of methods. */
static int on_other(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    const struct kg_method *method = kg_method_of(sip);
    if (method && method->inside == KG_METHOD_PASS)
        return on_passing(leg, irq, sip);
    int status = method ? 405 : 501;
    nta_incoming_treply(irq, status, NULL, SIPTAG_ALLOW(leg->call->calls->allow), TAG_END());
    return status;
}

/* Returns what nta is to answer with; 0: nothing (yet). */
static int serve(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    const sip_t *outer = call->cause;
    switch (sip->sip_request->rq_method) {
    case sip_method_invite:
    case sip_method_update:
        return on_offer(leg, irq, sip);
    case sip_method_bye:
        if (kg_transfer_left(leg))
            return 200;
        if (kg_bye_pass(leg, irq, sip))
            return 0;
        call->cause = sip;
        if (!kg_branch_leave(leg, true, "the callee hung up"))
            kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_BYE, .side = leg->side});
        call->cause = outer;
        return 200;
    case sip_method_ack: /* of an INVITE that is long done */
    case sip_method_options:
        return 200;
    default:
        return on_other(leg, irq, sip);
    }
}

int kg_leg_request(struct kg_leg *leg, nta_leg_t *dialog, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    int status = 0;
    if (kg_leg_is_too_fast(leg, irq, sip))
        return 500;
    kg_sip_proved(&leg->flow);
    call->holds++; /* what a request causes may end the call */
    kg_branch_turn_dialog(leg, dialog);
    if (sip->sip_request->rq_method == sip_method_ack || !kg_leg_is_stranger(leg, irq, sip))
        status = serve(leg, irq, sip);
    kg_branch_settle(leg);
    kg_call_unhold(call);
    return status;
}

bool kg_leg_take_answer(struct kg_leg *leg, const sip_t *sip, const struct kg_flow *flow)
{
    const struct kg_record *record = leg->call->record;
    const char *user = record->leg[leg->side].user, *method = sip->sip_request->rq_method_name;
    char error[160], text[KG_ADDR_STR];
    if (!kg_leg_knows(leg, flow)) {
        kg_warn("call", "call %s: the answer in %s's %s came from %s, where %s is not: it is not believed",
                record->id, user, method, kg_addr_format(&flow->remote, text), user);
        return false;
    }
    enum kg_sdp_found found = kg_talk_take(leg, sip, error, sizeof error);
    if (found == KG_SDP_BAD)
        kg_warn("call", "call %s: the SDP in %s's %s cannot be used: %s", record->id, user, method, error);
    return found == KG_SDP_OK;
}

/* The answer to an offer in our 2xx. True if it can be used. */
static bool take_answer(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_flow flow = {0};
    if (!kg_fsm_awaits_answer(&leg->call->fsm, leg->side))
        return false;
    msg_t *ack = nta_incoming_getrequest_ackcancel(irq);
    bool taken = ack && kg_flow_of_message(leg->call->calls->agent, ack, &flow) == 0 &&
                 kg_leg_take_answer(leg, sip, &flow);
    kg_flow_clear(&flow);
    msg_destroy(ack);
    return taken;
}

/* An ACK is found by its branch, which the sender of the INVITE chose; the tag is ours. */
static bool has_our_tag(const struct kg_leg *leg, const sip_t *sip)
{
    const char *tag = leg->dialog ? nta_leg_get_tag(leg->dialog) : NULL;
    return tag && sip->sip_to->a_tag && strcmp(tag, sip->sip_to->a_tag) == 0;
}

static int on_ack_or_cancel(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    enum kg_fsm_event_type type = KG_EV_ACK_TIMEOUT;
    if (sip && sip->sip_request->rq_method == sip_method_cancel)
        type = KG_EV_CANCEL;
    else if (!sip && nta_incoming_status(irq) < 200)
        type = KG_EV_PRACK_TIMEOUT;
    else if (sip)
        type = KG_EV_ACK;
    if (type == KG_EV_ACK && has_our_tag(leg, sip))
        kg_sip_proved(&leg->flow);
    bool sdp = type == KG_EV_ACK && leg->irq == irq && take_answer(leg, irq, sip);
    bool over = type == KG_EV_ACK || type == KG_EV_ACK_TIMEOUT;
    if (over && leg->irq == irq) { /* nothing more to expect of this INVITE */
        nta_incoming_destroy(irq);
        leg->irq = NULL;
    }
    struct kg_call *call = leg->call;
    const sip_t *outer = call->cause;
    call->holds++;
    call->cause = type == KG_EV_CANCEL ? sip : outer;
    kg_call_event(call, &(struct kg_fsm_event){.type = type, .side = leg->side, .sdp = sdp});
    call->cause = outer;
    kg_call_unhold(call);
    return 0;
}
