/* Requests that pass from one dialog to the other and back: INFO (DTMF by RFC 6086's legacy use). */
#include "b2bua/call/call.h"

#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
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

int kg_relay_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_leg *to = &call->leg[kg_other_side(leg->side)];
    char route[KG_ROUTE_URL];
    sip_payload_t payload[1];
    const sip_payload_t *body = sip->sip_payload;
    if (call->fsm.state != KG_CALL_TALK || !kg_leg_is_reachable(to))
        return 480;
    if (body && body->pl_len > BODY_MAX)
        return 413;
    if (waiting(call) >= RELAYS_MAX)
        return 503;
    struct kg_relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return 503;
    sip_payload_init(payload);
    if (body) {
        payload->pl_data = body->pl_data;
        payload->pl_len = body->pl_len;
    }
    relay->call = call;
    relay->orq = nta_outgoing_tcreate(
        to->dialog, on_response, to, (url_string_t *)kg_leg_route_url(to, route), SIP_METHOD_INFO, NULL,
        NTATAG_TPORT(to->flow.tport),
        TAG_IF(body && sip->sip_content_type, SIPTAG_CONTENT_TYPE(sip->sip_content_type)),
        TAG_IF(body, SIPTAG_PAYLOAD(payload)), TAG_END());
    if (!relay->orq) {
        free(relay);
        return 500;
    }
    relay->irq = irq;
    DL_APPEND(call->relays, relay);
    return 0;
}
