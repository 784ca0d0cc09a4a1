/* Requests outside of calls, and the dialogs they make: MESSAGE, PUBLISH, OPTIONS and what else the
 * allow-list passes; SUBSCRIBE and NOTIFY (RFC 6665), REFER outside of a call. Two transactions, or two
 * dialogs, back to back. Signalling thread only. */
#ifndef KG_REQUESTS_H
#define KG_REQUESTS_H

#include <jansson.h>
#include <sofia-sip/sip.h>

#include "b2bua/server.h"
#include "b2bua/sip/flow.h"

struct kg_requests;

struct kg_requests *kg_requests_new(struct kg_server *server);
void kg_requests_free(struct kg_requests *requests);
/* kg_sip_handlers.on_request: owns the irq. */
void kg_requests_serve(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                       const struct kg_flow *flow);
/* kg_sip_handlers.pass_options: whether an OPTIONS goes further than kedge. A stranger's never does, so that
 * a scanner learns nothing of who is there. */
bool kg_requests_pass_options(struct kg_requests *requests, const sip_t *sip, const struct kg_flow *flow);
/* A contact of the user of this name has registered over `after`; `before`: the flow it was on, all zero: it
 * is new. What the phone subscribed to, or is asked about, follows it there. */
void kg_requests_moved(struct kg_requests *requests, const char *name, const struct kg_flow *before,
                       const struct kg_flow *after);
/* [{id, event, by, of, state, expires_in, waiting, remote, transport}] */
json_t *kg_requests_subscriptions_json(const struct kg_requests *requests);
size_t kg_requests_subscriptions(const struct kg_requests *requests);

#endif
