/* One leg: its dialog, its flow, and the requests that its peer sends inside of the dialog. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/registrar/registrar.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ---- opening and closing ---- */

int kg_leg_accept(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    char param[KG_TAG_LEN + 5] = "tag=";
    const char *tag = param + 4, *params[] = {param, NULL};
    kg_calls_random_hex(leg->call->calls, param + 4, KG_TAG_LEN);
    leg->local = kg_name_addr(sip->sip_to->a_display, sip->sip_to->a_url);
    leg->remote = kg_name_addr(sip->sip_from->a_display, sip->sip_from->a_url);
    /* Our tag from the start and not by nta_leg_tag: nta would hand INVITEs without a To tag to this dialog
     * too. */
    sip_to_t us = *sip->sip_to;
    us.a_params = params;
    us.a_tag = tag;
    leg->dialog =
        nta_leg_tcreate(leg->call->calls->agent, kg_leg_request, leg, SIPTAG_CALL_ID(sip->sip_call_id),
                        SIPTAG_FROM((sip_from_t *)&us), SIPTAG_TO((sip_to_t *)sip->sip_from),
                        NTATAG_REMOTE_CSEQ(sip->sip_cseq->cs_seq), TAG_END());
    if (!leg->local || !leg->remote || !leg->dialog || !nta_incoming_tag(irq, tag))
        return ENOMEM;
    if (nta_leg_server_route(leg->dialog, sip->sip_record_route, sip->sip_contact) < 0)
        return ENOMEM;
    nta_incoming_bind(irq, kg_leg_ack_or_cancel, leg);
    leg->irq = irq;
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
    if (leg->irq)
        nta_incoming_destroy(leg->irq);
    if (leg->invite)
        nta_outgoing_destroy(leg->invite);
    if (leg->bye)
        nta_outgoing_destroy(leg->bye);
    if (leg->dialog)
        nta_leg_destroy(leg->dialog);
    if (leg->arrived)
        nta_incoming_destroy(leg->arrived);
    leg->irq = leg->arrived = NULL;
    leg->invite = leg->bye = NULL;
    leg->dialog = NULL;
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

/* Down the flow, whatever Contact and Via say. A PBX may put a proxy in between by Record-Route: its address
 * is used when it is numeric, and only from a PBX, since a phone could point us anywhere. */
const char *kg_leg_route_url(const struct kg_leg *leg, char buf[static KG_ROUTE_URL])
{
    const sip_route_t *route = NULL;
    struct kg_addr hop;
    char text[KG_ADDR_STR];
    kg_flow_route_url(&leg->flow, buf);
    if (!leg->pbx || !leg->dialog || nta_leg_get_route(leg->dialog, &route, NULL) < 0 || !route)
        return buf;
    const url_t *url = route->r_url;
    unsigned long port = url->url_port && *url->url_port ? strtoul(url->url_port, NULL, 10) : 5060;
    if (port == 0 || port > 65535 ||
        kg_addr_parse_host(url->url_host ? url->url_host : "", (uint16_t)port, &hop))
        return buf;
    snprintf(buf, KG_ROUTE_URL, "sip:%s;transport=%s", kg_addr_format(&hop, text),
             kg_transport_name(leg->flow.transport));
    return buf;
}

void kg_leg_contact(const struct kg_leg *leg, sip_contact_t contact[1], char buf[static KG_CONTACT_URL])
{
    const struct kg_call *call = leg->call;
    sip_contact_init(contact);
    kg_flow_contact_url(&call->calls->server->config, &leg->flow, call->record->id, buf);
    url_d(contact->m_url, buf);
}

/* A phone behind a NAT may come from a new port or connection in the middle of a call. The dialog matched by
 * Call-ID and our 64-bit tag, which only the two ends know: requests go to the new place from now on. */
static void follow(struct kg_leg *leg, nta_incoming_t *irq)
{
    struct kg_flow flow;
    if (leg->pbx || kg_flow_of_incoming(leg->call->calls->agent, irq, &flow) != 0)
        return;
    if (leg->lost || !kg_flow_same(&flow, &leg->flow)) {
        char before[KG_ADDR_STR], after[KG_ADDR_STR];
        kg_info("call", "call %s: %s moved from %s to %s; requests follow it there", leg->call->record->id,
                leg->call->record->leg[leg->side].user, kg_addr_format(&leg->flow.remote, before),
                kg_addr_format(&flow.remote, after));
        kg_leg_set_flow(leg, &flow);
        if (leg->call->fsm.state == KG_CALL_TALK)
            kg_talk_save(leg->call);
    }
    kg_flow_clear(&flow);
}

/* ---- requests inside of the dialog ---- */

/* Hands leg->arrived, whose message is sip, to the state machine. */
static void offer(struct kg_leg *leg, const sip_t *sip)
{
    char error[160];
    bool free_to_serve = leg->call->fsm.state == KG_CALL_TALK && leg->call->fsm.re == KG_RE_NONE;
    enum kg_sdp_found found = KG_SDP_NONE;
    if (free_to_serve) /* else it must not touch what is pending */
        found = kg_talk_take(leg, sip, error, sizeof error);
    if (found == KG_SDP_BAD) {
        nta_incoming_t *irq = leg->arrived;
        leg->arrived = NULL;
        kg_reply_refuse(irq, leg, &(struct kg_fsm_action){.status = 488, .why = error});
        return;
    }
    kg_call_event(leg->call, &(struct kg_fsm_event){
                                 .type = KG_EV_REINVITE, .side = leg->side, .sdp = found == KG_SDP_OK});
}

static int on_reinvite(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    if (sip->sip_require) { /* RFC 3261 8.2.2.3: kedge knows no extension that could be required */
        su_home_t home[1] = {SU_HOME_INIT(home)};
        nta_incoming_treply(irq, SIP_420_BAD_EXTENSION,
                            SIPTAG_UNSUPPORTED(sip_has_unsupported(home, NULL, sip->sip_require)), TAG_END());
        su_home_deinit(home);
        return 420;
    }
    follow(leg, irq);
    if (sip->sip_contact) /* target refresh (RFC 3261 12.2.2) */
        nta_leg_server_route(leg->dialog, sip->sip_record_route, sip->sip_contact);
    if (leg->arrived && leg->arrived != irq) /* one waits already: this one's turn does not come */
        return 500;
    leg->arrived = irq;
    offer(leg, sip);
    return 0;
}

/* The re-INVITE that waited for the other side's ACK. */
void kg_leg_resume(struct kg_leg *leg)
{
    msg_t *msg = leg->arrived ? nta_incoming_getrequest(leg->arrived) : NULL;
    if (!msg)
        return;
    offer(leg, sip_object(msg));
    msg_destroy(msg);
}

int kg_leg_request(struct kg_leg *leg, nta_leg_t *dialog, nta_incoming_t *irq, const sip_t *sip)
{
    (void)dialog;
    struct kg_call *call = leg->call;
    const sip_t *outer = call->cause;
    int status = 0;
    switch (sip->sip_request->rq_method) {
    case sip_method_invite:
        status = on_reinvite(leg, irq, sip);
        break;
    case sip_method_bye:
        call->cause = sip;
        call->holds++; /* keeps the memory for the line after the event */
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_BYE, .side = leg->side});
        call->cause = outer;
        kg_call_unhold(call);
        status = 200;
        break;
    case sip_method_info:
        follow(leg, irq);
        status = kg_relay_request(leg, irq, sip);
        break;
    case sip_method_ack: /* of an INVITE that is long done */
    case sip_method_options:
        status = 200;
        break;
    case sip_method_unknown:
        nta_incoming_treply(irq, SIP_501_NOT_IMPLEMENTED, SIPTAG_ALLOW(call->calls->allow), TAG_END());
        status = 501;
        break;
    default:
        nta_incoming_treply(irq, SIP_405_METHOD_NOT_ALLOWED, SIPTAG_ALLOW(call->calls->allow), TAG_END());
        status = 405;
        break;
    }
    return status;
}

int kg_leg_ack_or_cancel(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    enum kg_fsm_event_type type = KG_EV_ACK_TIMEOUT;
    if (sip && sip->sip_request->rq_method == sip_method_cancel)
        type = KG_EV_CANCEL;
    else if (sip)
        type = KG_EV_ACK;
    if (type != KG_EV_CANCEL && leg->irq == irq) { /* nothing more to expect of this INVITE */
        nta_incoming_destroy(irq);
        leg->irq = NULL;
    }
    kg_call_event(leg->call, &(struct kg_fsm_event){.type = type, .side = leg->side});
    return 0;
}
