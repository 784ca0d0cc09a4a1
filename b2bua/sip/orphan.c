/* A 2xx to an INVITE that nobody waits for any more: of a second branch of a fork, or after we gave up. Its
 * dialog is ACKed and ended (RFC 3261 13.2.2.4). The library's own function would send both requests to
 * whatever host the answer names, and look names up; this one takes its place and sends them down the flow
 * that the answer came over.
 * And a 2xx to a re-INVITE of a signalling process that died: its dialog lives on, so it is ACKed. The phone
 * would hang up after 32 s else (13.3.1.4). */
#include <strings.h>

#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/sip/stack.h"

/* Found before libsofia's, by libsofia too (README.md, "The shim"). */
#define INTERPOSED __attribute__((visibility("default")))

struct orphan {
    nta_agent_t *agent;
    const sip_t *sip;
    const url_string_t *target;
    const struct kg_flow *flow;
};

/* Once, without a transaction: if it is lost, the answer comes again. */
static int send_once(const struct orphan *orphan, sip_method_t method, const char *name, uint32_t number)
{
    const sip_t *sip = orphan->sip;
    msg_t *msg = nta_msg_create(orphan->agent, 0);
    su_home_t *home = msg ? msg_home(msg) : NULL;
    sip_request_t *request = msg ? sip_request_create(home, method, name, orphan->target, NULL) : NULL;
    sip_cseq_t *cseq = msg ? sip_cseq_create(home, number, method, name) : NULL;
    if (!request || !cseq) {
        msg_destroy(msg);
        return -1;
    }
    sip_route_t *routes = sip->sip_record_route ? sip_route_reverse(home, sip->sip_record_route) : NULL;
    sip_header_insert(msg, sip_object(msg), (sip_header_t *)request);
    if (sip_add_tl(msg, sip_object(msg), SIPTAG_FROM(sip->sip_from), SIPTAG_TO(sip->sip_to),
                   SIPTAG_CALL_ID(sip->sip_call_id), SIPTAG_CSEQ(cseq), SIPTAG_ROUTE(routes),
                   SIPTAG_MAX_FORWARDS_STR("70"), TAG_END()) < 0) {
        msg_destroy(msg);
        return -1;
    }
    return kg_flow_send_once(orphan->flow, orphan->agent, msg);
}

/* flow: to be cleared. Nonzero: nothing can be said to who sent it. */
static int make(struct orphan *orphan, nta_agent_t *agent, msg_t *msg, struct kg_flow *flow)
{
    const sip_t *sip = sip_object(msg);
    if (!sip || !sip->sip_to || !sip->sip_from || !sip->sip_call_id || !sip->sip_cseq ||
        kg_flow_of_message(agent, msg, flow) != 0)
        return -1;
    bool named = sip->sip_contact && sip->sip_contact->m_url->url_type != url_any;
    *orphan = (struct orphan){
        .agent = agent,
        .sip = sip,
        .target = (const url_string_t *)(named ? sip->sip_contact->m_url : sip->sip_to->a_url),
        .flow = flow};
    return 0;
}

/* Called by the library; 0: msg is consumed. */
INTERPOSED int nta_msg_ackbye(nta_agent_t *agent, msg_t *msg)
{
    struct kg_flow flow;
    struct orphan orphan;
    if (make(&orphan, agent, msg, &flow) != 0)
        return -1;
    uint32_t number = orphan.sip->sip_cseq->cs_seq;
    int failed = send_once(&orphan, SIP_METHOD_ACK, number);
    if (!failed)
        failed = send_once(&orphan, SIP_METHOD_BYE, number + 1);
    kg_flow_clear(&flow);
    if (failed)
        return -1;
    msg_destroy(msg);
    return 0;
}

static bool is_of_a_call(nta_agent_t *agent, const sip_t *sip)
{
    const char *local = sip->sip_from->a_tag, *remote = sip->sip_to->a_tag;
    if (!local || !remote)
        return false;
    const nta_leg_t *leg = nta_leg_by_dialog(agent, NULL, sip->sip_call_id, remote, NULL, local, NULL);
    const char *known = leg ? nta_leg_get_rtag(leg) : NULL;
    return known && strcasecmp(known, remote) == 0;
}

void kg_sip_ack_stray(nta_agent_t *agent, nta_outgoing_t *strays)
{
    msg_t *msg = nta_outgoing_getresponse(strays);
    const sip_t *sip = msg ? sip_object(msg) : NULL;
    struct kg_flow flow;
    struct orphan orphan;
    if (sip && sip->sip_status && sip->sip_status->st_status / 100 == 2 && sip->sip_cseq &&
        sip->sip_cseq->cs_method == sip_method_invite && make(&orphan, agent, msg, &flow) == 0) {
        if (is_of_a_call(agent, sip))
            send_once(&orphan, SIP_METHOD_ACK, sip->sip_cseq->cs_seq);
        kg_flow_clear(&flow);
    }
    msg_destroy(msg);
}
