#include "b2bua/route/probe.h"

#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>

#include "b2bua/sip/sip.h"
#include "conf/clock.h"

#define PREFIX "probe-"

void kg_probe_call_id(char out[static KG_PROBE_CALL_ID])
{
    char random[25];

    kg_random_hex(random, 24);
    snprintf(out, KG_PROBE_CALL_ID, PREFIX "%s", random);
}

void kg_probe_send(nta_agent_t *agent, const struct kg_config *config, const struct kg_flow *flow,
                   const char *call_id, uint32_t cseq_number)
{
    char route[KG_FLOW_URL], from[KG_CONTACT_URL], from_header[KG_CONTACT_URL + 40],
        to_header[KG_FLOW_URL + 2];
    char cseq[32];
    msg_t *msg = nta_msg_create(agent, 0);
    sip_t *sip = msg ? sip_object(msg) : NULL;
    sip_request_t *request;

    kg_flow_route_url(flow, route);
    request = sip ? sip_request_create(msg_home(msg), SIP_METHOD_OPTIONS, (url_string_t *)route, NULL) : NULL;
    if (!request) {
        msg_destroy(msg);
        return;
    }
    sip_header_insert(msg, sip, (sip_header_t *)request);
    kg_flow_contact_url(config, flow, NULL, from);
    snprintf(from_header, sizeof from_header, "<%s>;tag=%.8s", from, call_id + sizeof PREFIX - 1);
    snprintf(to_header, sizeof to_header, "<%s>", route);
    snprintf(cseq, sizeof cseq, "%u OPTIONS", cseq_number);
    if (sip_add_tl(msg, sip, SIPTAG_FROM_STR(from_header), SIPTAG_TO_STR(to_header),
                   SIPTAG_CALL_ID_STR(call_id), SIPTAG_CSEQ_STR(cseq), SIPTAG_MAX_FORWARDS_STR("70"),
                   SIPTAG_USER_AGENT_STR(KG_SIP_SERVER), TAG_END()) < 0)
        msg_destroy(msg);
    else
        kg_flow_send_once(flow, agent, msg);
}
