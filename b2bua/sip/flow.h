/* A flow: the transport path over which a phone reached us (RFC 5626), and the way back down it. */
#ifndef KG_SIP_FLOW_H
#define KG_SIP_FLOW_H

#include <sofia-sip/nta.h>
#include <sofia-sip/nta_tport.h>
#include <sofia-sip/tport.h>

#include "conf/addr.h"
#include "conf/config.h"

struct kg_flow {
    enum kg_transport transport;
    struct kg_addr remote; /* real packet source */
    struct kg_addr local;  /* our address it was received on: never "any" */
    tport_t *tport; /* a reference we own: UDP primary, or the stream's secondary; NULL after a restart */
};

/* The flow of an incoming request. Returns 0 or ENOTCONN. The caller clears it. */
int kg_flow_of_incoming(nta_agent_t *agent, nta_incoming_t *irq, struct kg_flow *out);
/* The same for a stateless message (nta_agent's message callback). */
int kg_flow_of_message(nta_agent_t *agent, msg_t *msg, struct kg_flow *out);
/* A flow to a place known by address: UDP, or a stream that nta opens itself (PBX by TCP), local as the
 * kernel would choose. tport is found at once for UDP (the primary bound to the local address). 0 or
 * EHOSTUNREACH. */
int kg_flow_to(nta_agent_t *agent, enum kg_transport transport, const struct kg_addr *remote,
               struct kg_flow *out);

/* A flow of a process before this one: UDP by its addresses, also from another local one where the old is
 * gone. A phone's stream died with that process: the flow is not up. 0, EINVAL (transport, addresses) or
 * EHOSTUNREACH. */
int kg_flow_restore(nta_agent_t *agent, const char *transport, const char *remote, const char *local,
                    struct kg_flow *out);

void kg_flow_copy(struct kg_flow *to, const struct kg_flow *from); /* takes its own reference */
void kg_flow_clear(struct kg_flow *flow);
bool kg_flow_same(const struct kg_flow *a, const struct kg_flow *b);
/* False when the stream was closed; a UDP flow is always up. */
bool kg_flow_is_up(const struct kg_flow *flow);

/* What to hand to nta_outgoing_*: "sip:192.0.2.1:5060;transport=udp" as route_url; use together with
 * NTATAG_TPORT(flow->tport). Returns buf. */
#define KG_FLOW_URL (KG_ADDR_STR + 32)
char *kg_flow_route_url(const struct kg_flow *flow, char buf[static KG_FLOW_URL]);
/* Sends a request that is whole but for its Via, once, without a transaction. Consumes msg. 0 or -1. */
int kg_flow_send_once(const struct kg_flow *flow, nta_agent_t *agent, msg_t *msg);
/* The same for a request in a dialog with a server: a proxy of its own that it put in between by Record-Route
 * is used where its address is numeric, and not one of this machine or, for a server on the Internet, of a
 * private network. Not for phones, which could point us anywhere. Returns buf. */
#define KG_HOP_URL (KG_FLOW_URL + 16)
char *kg_flow_hop_url(const struct kg_flow *flow, nta_leg_t *dialog, char buf[static KG_HOP_URL]);
/* Our own Contact toward the peer of this flow: "sip:user@advertised-or-local:port;transport=tcp" without
 * brackets; user may be NULL. The port is that of our listener for the flow's transport. Returns buf. */
#define KG_CONTACT_URL 256
char *kg_flow_contact_url(const struct kg_config *config, const struct kg_flow *flow, const char *user,
                          char buf[static KG_CONTACT_URL]);

#endif
