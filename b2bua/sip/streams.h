/* Sofia's side of the streams (TCP, TLS, WS, WSS): a transport type of our own whose connections are
 * socketpairs to the edge, which accepts, encrypts, frames and limits. Signalling thread. */
#ifndef KG_SIP_STREAMS_H
#define KG_SIP_STREAMS_H

#include "b2bua/sip/stack.h"

struct kg_streams;

/* Prepares the edge; reads or makes the certificate if a listener needs one. 0 or an errno (and a sentence).
 */
int kg_streams_new(struct kg_sip *sip, struct kg_streams **out, char *error, size_t size);
/* Binds and listens; connections wait until kg_streams_start. A zero port is filled in. 0 or an errno. */
int kg_streams_listen(struct kg_streams *streams, enum kg_transport transport, struct kg_addr *addr);
/* The kind of the transport that nta_agent_add_tport is about to create. */
void kg_streams_bind_as(enum kg_transport transport);
/* Starts the edge thread. 0 or an errno. */
int kg_streams_start(struct kg_streams *streams);
/* Ends the edge thread; the object stays until the agent is gone. Both take NULL. */
void kg_streams_stop(struct kg_streams *streams);
void kg_streams_free(struct kg_streams *streams);

struct event_base *kg_streams_base(struct kg_streams *streams);
/* New limits and certificate for new connections. 0, or EINVAL and a sentence. */
int kg_streams_reload(struct kg_streams *streams, const struct kg_config *config, char *error, size_t size);
/* See kg_edge_ban. */
void kg_streams_ban(struct kg_streams *streams, const struct kg_addr *source, int64_t until_ms);
/* Into kg_counters. */
void kg_streams_count(const struct kg_streams *streams);

#endif
