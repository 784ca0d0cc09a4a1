/* OPTIONS to a server (RFC 3261 11): one packet without a transaction, since the next one follows soon. */
#ifndef KG_ROUTE_PROBE_H
#define KG_ROUTE_PROBE_H

#include "b2bua/sip/flow.h"

#define KG_PROBE_CALL_ID 40
/* One that nobody can guess: whoever knows it can answer in the server's stead. */
void kg_probe_call_id(char out[static KG_PROBE_CALL_ID]);
void kg_probe_send(nta_agent_t *agent, const struct kg_config *config, const struct kg_flow *flow,
                   const char *call_id, uint32_t cseq);

#endif
