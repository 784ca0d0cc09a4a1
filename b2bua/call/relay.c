/* Requests that pass from one dialog to the other and back: INFO (DTMF by RFC 6086's legacy use, and the
 * candidates of trickle.c). */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>
#include <utlist.h>

/* A key press is tens of bytes; nothing that INFO carries today is longer. */
#define BODY_MAX 4096
/* Waiting at once in one call. */
#define RELAYS_MAX 16

struct kg_relay {
    struct kg_relay *prev, *next;
    struct kg_call *call;
    nta_incoming_t *irq;
    nta_outgoing_t *orq;
    bool taken; /* kedge has made use of it: 200 whatever the other side says */
};

static void close_relay(struct kg_relay *relay)
{
    DL_DELETE(relay->call->relays, relay);
    if (relay->irq)
        nta_incoming_destroy(relay->irq); /* 500 unless it was answered */
    if (relay->orq)
        nta_outgoing_destroy(relay->orq);
    free(relay);
}

void kg_relay_close_all(struct kg_call *call)
{
    struct kg_relay *relay, *next;
    DL_FOREACH_SAFE(call->relays, relay, next)
    {
        close_relay(relay);
    }
}

/* nta hands the leg that was asked; the relay is found by its transaction. */
static int on_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_relay *relay;
    int status = sip ? sip->sip_status->st_status : 408;
    if (status < 200)
        return 0;
    DL_FOREACH(leg->call->relays, relay)
    {
        if (relay->orq != orq)
            continue;
        if (relay->taken)
            status = 200;
        nta_incoming_treply(relay->irq, status < 300 ? status : kg_fsm_map_status(status, false), NULL,
                            TAG_END());
        close_relay(relay);
        break;
    }
    return 0;
}

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
    char route[KG_ROUTE_URL];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    sip_route_t *routes = sip_route_reverse(home, early->sip_record_route);
    nta_outgoing_t *orq = nta_outgoing_tcreate(
        to->dialog, on_response, to, (url_string_t *)kg_leg_route_url(to, route), SIP_METHOD_INFO,
        early->sip_contact ? (url_string_t *)early->sip_contact->m_url : (url_string_t *)to->target,
        NTATAG_TPORT(to->flow.tport), SIPTAG_TO(early->sip_to), TAG_IF(routes, SIPTAG_ROUTE(routes)),
        TAG_NEXT(tags));
    su_home_deinit(home);
    return orq;
}

static nta_outgoing_t *send_info(struct kg_leg *to, tagi_t tags[])
{
    char route[KG_ROUTE_URL];
    if (to->side == KG_SIDE_B && to->call->fsm.leg[KG_SIDE_B] != KG_LEG_UP) {
        const sip_t *early = kg_early_newest(to);
        return early ? send_early(to, early, tags) : NULL;
    }
    return nta_outgoing_tcreate(to->dialog, on_response, to, (url_string_t *)kg_leg_route_url(to, route),
                                SIP_METHOD_INFO, NULL, NTATAG_TPORT(to->flow.tport), TAG_NEXT(tags));
}

int kg_relay_info(struct kg_leg *to, nta_incoming_t *irq, const char *package, const sip_content_type_t *type,
                  const char *body, size_t len)
{
    struct kg_call *call = to->call;
    char info_package[64];
    sip_payload_t payload[1];
    if (!kg_leg_is_reachable(to))
        return 480;
    if (waiting(call) >= RELAYS_MAX)
        return 503;
    struct kg_relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return 503;
    snprintf(info_package, sizeof info_package, "Info-Package: %s", package ? package : "");
    sip_payload_init(payload)->pl_data = (char *)body;
    payload->pl_len = len;
    tagi_t tags[] = {{TAG_IF(package, SIPTAG_HEADER_STR(info_package))},
                     {TAG_IF(package, SIPTAG_CONTENT_DISPOSITION_STR("Info-Package"))},
                     {TAG_IF(body && type, SIPTAG_CONTENT_TYPE(type))},
                     {TAG_IF(body, SIPTAG_PAYLOAD(payload))},
                     {TAG_END()}};
    relay->call = call;
    relay->taken = package != NULL;
    relay->orq = send_info(to, tags);
    if (!relay->orq) {
        free(relay);
        return 500;
    }
    relay->irq = irq;
    DL_APPEND(call->relays, relay);
    return 0;
}

int kg_relay_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_leg *to = &call->leg[kg_other_side(leg->side)];
    const sip_payload_t *body = sip->sip_payload;
    if (call->fsm.state != KG_CALL_TALK)
        return 480;
    if (body && body->pl_len > BODY_MAX)
        return 413;
    return kg_relay_info(to, irq, NULL, sip->sip_content_type, body ? body->pl_data : NULL,
                         body ? body->pl_len : 0);
}
