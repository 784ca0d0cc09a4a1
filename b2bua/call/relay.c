/* Requests that pass from one dialog to the other and back: what the table of methods lets pass, and INFO
 * (DTMF by RFC 6086's legacy use, and the candidates of trickle.c). Bodies are not touched; headers are those
 * of headers.c and of the tables below; REFER and what goes with it is rewritten by refer.c. */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_extra.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>
#include <utlist.h>

#include "b2bua/call/explain.h"
#include "b2bua/call/refer.h"
#include "b2bua/call/transfer.h"
#include "conf/log.h"

/* A key press is tens of bytes, a message a few hundred (RFC 3428 8: 1300 where nothing controls
 * congestion). */
#define BODY_MAX 8192
/* Waiting at once in one call. */
#define RELAYS_MAX 16

struct kg_relay {
    struct kg_relay *prev, *next;
    struct kg_leg *to;
    const nta_leg_t *dialog; /* that orq is in: to's, or that of a branch of it. To compare only */
    nta_incoming_t *irq;     /* NULL: kedge's own request, nobody waits for the answer */
    nta_outgoing_t *orq;
    bool taken; /* kedge has made use of it: 200 whatever the other side says */
};

/* What describes the body and the package goes with it in either direction. */
static msg_hclass_t *const request_headers[] = {
    sip_content_type_class,     sip_content_disposition_class,
    sip_content_encoding_class, sip_content_language_class,
    sip_mime_version_class,     sip_subscription_state_class,
    sip_accept_class,           sip_require_class,
    sip_refer_sub_class,
};
static msg_hclass_t *const response_headers[] = {
    sip_content_type_class,     sip_content_disposition_class, sip_content_encoding_class,
    sip_content_language_class, sip_mime_version_class,        sip_accept_class, /* of 415 */
    sip_allow_events_class,                                                      /* of 489 */
    sip_unsupported_class,                                                       /* of 420 */
};
/* libsofia has no class for these (RFC 6086, RFC 8262). */
static const char *const plain_headers[] = {"Info-Package", "Content-ID"};

static void pass_headers(struct kg_list *list, const sip_t *sip, msg_hclass_t *const known[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        kg_list_add(list, msg_header_access((const msg_pub_t *)sip, known[i]));
    for (const sip_unknown_t *h = sip->sip_unknown; h; h = h->un_next)
        for (size_t i = 0; i < sizeof plain_headers / sizeof plain_headers[0]; i++)
            if (strcasecmp(h->un_name, plain_headers[i]) == 0)
                kg_list_add(list, (const msg_header_t *)h);
}
#define PASS(list, sip, table) pass_headers(list, sip, table, sizeof(table) / sizeof((table)[0]))

/* RFC 3515 2.2, RFC 6665 4.4.1: what makes or serves a subscription says where its sender is. */
static bool has_contact(sip_method_t method)
{
    return method == sip_method_refer || method == sip_method_notify;
}

static void free_relay(struct kg_relay *relay)
{
    if (relay->irq)
        nta_incoming_destroy(relay->irq); /* 500 unless it was answered */
    if (relay->orq)
        nta_outgoing_destroy(relay->orq);
    free(relay);
}

static void close_relay(struct kg_relay *relay)
{
    DL_DELETE(relay->to->call->relays, relay);
    free_relay(relay);
}

void kg_relay_close_all(struct kg_call *call)
{
    struct kg_relay *relay, *next;
    DL_FOREACH_SAFE(call->relays, relay, next)
    {
        close_relay(relay);
    }
}

/* ---- the answer ---- */

/* A NOTIFY's 481 is about a subscription, not about the call (RFC 6665 4.1.3), and 420 and 489 say what the
 * sender may leave out. */
static int map_status(const struct kg_relay *relay, int status)
{
    bool notify = nta_outgoing_method(relay->orq) == sip_method_notify;
    if (status < 300 || status == 420 || (notify && status == 481))
        return status;
    return kg_fsm_map_status(status, relay->to->pbx);
}

static void answer(struct kg_relay *relay, int status, const sip_t *sip)
{
    const struct kg_leg *from = &relay->to->call->leg[kg_other_side(relay->to->side)];
    struct kg_passed passed;
    struct kg_list list;
    sip_contact_t contact[1];
    char buf[KG_CONTACT_URL];
    if (!relay->irq)
        return;
    if (relay->taken || !sip) {
        nta_incoming_treply(relay->irq, relay->taken ? 200 : map_status(relay, status), NULL, TAG_END());
        return;
    }
    kg_list_begin(&list);
    kg_leg_pass(from, sip, &passed);
    PASS(&list, sip, response_headers);
    kg_list_next(&list, passed.tag);
    kg_leg_contact(from, contact, buf);
    bool named = status < 300 && has_contact(nta_incoming_method(relay->irq));
    bool body = sip->sip_payload && sip->sip_payload->pl_len <= BODY_MAX;
    nta_incoming_treply(relay->irq, map_status(relay, status), NULL, TAG_IF(named, SIPTAG_CONTACT(contact)),
                        TAG_IF(status == 405, SIPTAG_ALLOW(sip->sip_allow)),
                        TAG_IF(body, SIPTAG_PAYLOAD(sip->sip_payload)), TAG_NEXT(list.tag));
    kg_list_end(&list);
}

/* A phone that takes no REFER is sent on by kedge. True: irq is answered. */
static bool is_carried_out(struct kg_relay *relay, int status)
{
    struct kg_leg *from = &relay->to->call->leg[kg_other_side(relay->to->side)];
    if (nta_outgoing_method(relay->orq) != sip_method_refer || (status != 405 && status != 501))
        return false;
    msg_t *msg = nta_incoming_getrequest(relay->irq);
    bool done = msg && kg_transfer_begin(from, relay->irq, sip_object(msg)) == 0;
    msg_destroy(msg);
    if (done)
        relay->irq = NULL;
    return done;
}

/* Of whichever branch it is. False: as kg_prove, or the branch is not there any more. */
static bool prove(struct kg_relay *relay, const sip_t *sip)
{
    struct kg_leg *to = relay->to;
    bool proven =
        kg_branch_turn_dialog(to, relay->dialog) && kg_prove(to, &relay->orq, sip, kg_relay_response);
    kg_branch_settle(to);
    return proven;
}

/* nta hands the leg that was asked; the relay is found by its transaction. */
int kg_relay_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_relay *relay;
    int status = sip ? sip->sip_status->st_status : 408;
    if (status < 200)
        return 0;
    DL_SEARCH_SCALAR(call->relays, relay, orq, orq);
    if (!relay)
        return 0;
    call->holds++;
    if (!prove(relay, sip)) {
        DL_DELETE(call->relays, relay); /* what follows may move the legs to other calls */
        if (!is_carried_out(relay, status))
            answer(relay, status, sip);
        free_relay(relay);
    }
    kg_call_unhold(call);
    return 0;
}

void kg_relay_follow(struct kg_leg *leg)
{
    struct kg_relay *relay;
    DL_FOREACH(leg->call->relays, relay)
    {
        if (relay->to == leg && relay->dialog == leg->dialog)
            kg_out_again(leg, &relay->orq, kg_relay_response);
        if (leg->call->over)
            return;
    }
}

/* ---- the request ---- */

static size_t waiting(const struct kg_call *call)
{
    const struct kg_relay *relay;
    size_t count = 0;
    DL_FOREACH(call->relays, relay)
    {
        count++;
    }
    return count;
}

/* Before B's answer its leg has no remote tag and no route set: an early dialog has. */
static nta_outgoing_t *send_early(struct kg_leg *to, const sip_t *early, tagi_t tags[])
{
    char route[KG_HOP_URL];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    sip_route_t *routes = sip_route_reverse(home, early->sip_record_route);
    nta_outgoing_t *orq = nta_outgoing_tcreate(
        to->dialog, kg_relay_response, to, (url_string_t *)kg_leg_route_url(to, route), SIP_METHOD_INFO,
        early->sip_contact ? (url_string_t *)early->sip_contact->m_url : (url_string_t *)to->target,
        NTATAG_TPORT(to->flow.tport), SIPTAG_TO(early->sip_to), TAG_IF(routes, SIPTAG_ROUTE(routes)),
        TAG_NEXT(tags));
    su_home_deinit(home);
    return orq;
}

static nta_outgoing_t *send_it(struct kg_leg *to, sip_method_t method, const char *name, tagi_t tags[])
{
    char route[KG_HOP_URL];
    if (to->side == KG_SIDE_B && to->call->fsm.leg[KG_SIDE_B] != KG_LEG_UP) {
        const sip_t *early = kg_early_here(to);
        return early ? send_early(to, early, tags) : NULL; /* only INFO comes here before the answer */
    }
    return nta_outgoing_tcreate(to->dialog, kg_relay_response, to,
                                (url_string_t *)kg_leg_route_url(to, route), method, name, NULL,
                                NTATAG_TPORT(to->flow.tport), TAG_NEXT(tags));
}

/* 0: irq is answered when the other side's answer comes; else a status. */
static int begin(struct kg_leg *to, nta_incoming_t *irq, sip_method_t method, const char *name, bool taken,
                 tagi_t tags[], uint32_t *cseq)
{
    if (!kg_leg_is_reachable(to))
        return 480;
    if (waiting(to->call) >= RELAYS_MAX)
        return 500;
    struct kg_relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return 500;
    relay->to = to;
    relay->dialog = to->dialog;
    relay->taken = taken;
    relay->orq = kg_out_keep(to, send_it(to, method, name, tags));
    if (!relay->orq) {
        free(relay);
        return 500;
    }
    relay->irq = irq;
    if (cseq)
        *cseq = nta_outgoing_cseq(relay->orq);
    DL_APPEND(to->call->relays, relay);
    return 0;
}

void kg_relay_keep(struct kg_leg *leg, nta_outgoing_t *orq)
{
    orq = kg_out_keep(leg, orq);
    struct kg_relay *relay = orq && waiting(leg->call) < RELAYS_MAX ? calloc(1, sizeof *relay) : NULL;
    if (!relay) {
        if (orq)
            nta_outgoing_destroy(orq); /* nta sends it to its end all the same */
        return;
    }
    *relay = (struct kg_relay){.to = leg, .dialog = leg->dialog, .orq = orq};
    DL_APPEND(leg->call->relays, relay);
}

int kg_relay_info(struct kg_leg *to, nta_incoming_t *irq, const char *package, const sip_content_type_t *type,
                  const char *body, size_t len)
{
    char info_package[64];
    sip_payload_t payload[1];
    snprintf(info_package, sizeof info_package, "Info-Package: %s", package);
    sip_payload_init(payload)->pl_data = (char *)body;
    payload->pl_len = len;
    tagi_t tags[] = {{SIPTAG_HEADER_STR(info_package)},
                     {SIPTAG_CONTENT_DISPOSITION_STR("Info-Package")},
                     {SIPTAG_CONTENT_TYPE(type)},
                     {SIPTAG_PAYLOAD(payload)},
                     {TAG_END()}};
    return begin(to, irq, SIP_METHOD_INFO, true, tags, NULL);
}

/* What an admin looks for when a phone suddenly talks to somebody else. */
static void say_referred(const struct kg_leg *leg, const sip_t *sip)
{
    struct kg_record *record = leg->call->record;
    const sip_refer_to_t *to = sip->sip_refer_to;
    kg_record_note(record, KG_NOTE_REFERRED, leg->side, NULL);
    kg_info("call", "call %s: %s asks %s to call %s instead (REFER)", record->id,
            kg_record_name(record, leg->side), kg_record_name(record, kg_other_side(leg->side)),
            to && to->r_url->url_user ? to->r_url->url_user : "somebody else");
}

int kg_relay_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_leg *to = &call->leg[kg_other_side(leg->side)];
    const sip_request_t *request = sip->sip_request;
    const sip_payload_t *body = sip->sip_payload;
    struct kg_passed passed;
    struct kg_list list;
    sip_contact_t contact[1];
    char buf[KG_CONTACT_URL];
    uint32_t cseq = 0;
    if (call->fsm.state != KG_CALL_TALK)
        return 480;
    if (body && body->pl_len > BODY_MAX)
        return 413;
    kg_list_begin(&list);
    int status = kg_refer_pass(&list, sip, leg, to);
    kg_leg_pass(to, sip, &passed);
    PASS(&list, sip, request_headers);
    kg_leg_contact(to, contact, buf);
    if (has_contact(request->rq_method))
        kg_list_add(&list, (const msg_header_t *)contact);
    kg_list_add(&list, (const msg_header_t *)body);
    kg_list_next(&list, passed.tag);
    bool refer = request->rq_method == sip_method_refer;
    if (status == 0 && refer && !leg->pbx && !kg_transfer_can_pass(to))
        status = kg_transfer_begin(leg, irq, sip);
    else if (status == 0)
        status = begin(to, irq, request->rq_method, request->rq_method_name, false, list.tag, &cseq);
    if (status == 0 && refer && cseq) {
        kg_refer_sent(leg, sip->sip_cseq->cs_seq, cseq);
        say_referred(leg, sip);
    }
    kg_list_end(&list);
    return status;
}
