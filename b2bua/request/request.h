/* Requests outside of calls, and the dialogs they make: MESSAGE, PUBLISH, OPTIONS and what else the
 * allow-list passes; SUBSCRIBE and NOTIFY (RFC 6665), REFER outside of a call. Two transactions, or two
 * dialogs, back to back. Signalling thread only. */
#ifndef KG_REQUEST_H
#define KG_REQUEST_H

#include <sofia-sip/sip.h>

#include "b2bua/server.h"
#include "b2bua/sip/flow.h"

struct kg_requests;

struct kg_requests *kg_requests_new(struct kg_server *server);
void kg_requests_free(struct kg_requests *requests);
/* kg_sip_handlers.on_request: owns the irq. */
void kg_requests_serve(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                       const struct kg_flow *flow);
/* kg_sip_handlers.on_flow_lost */
void kg_requests_flow_lost(struct kg_requests *requests, tport_t *tport);

#endif
