/* The servers that kedge sends requests to, in groups: the PBXes, and those of each trunk. Where they are
 * (DNS), whether they answer (OPTIONS, and what becomes of requests), and whose turn it is. Signalling thread
 * only. */
#ifndef KG_ROUTE_PEERS_H
#define KG_ROUTE_PEERS_H

#include <jansson.h>
#include <sofia-sip/sip.h>

#include "b2bua/route/health.h"
#include "b2bua/sip/flow.h"

struct kg_peers;
struct kg_server;

/* A group's number: 0, or that of its trunk in the configuration + 1, as in struct kg_leg. */
#define KG_GROUP_PBX  0u
#define KG_GROUP_NONE UINT32_MAX
/* A server at one address has a number that is the same after a restart of kedge, and of nobody else. A
 * number whose server is gone is harmless everywhere. */
#define KG_PEER_NONE 0u

struct kg_peers *kg_peers_new(struct kg_server *server); /* after server->sip; NULL: no memory */
void kg_peers_free(struct kg_peers *peers);              /* before server->sip */
/* server->config has new trunks or PBXes. Those that stay keep their state. */
void kg_peers_reload(struct kg_peers *peers);

/* Whom to ask, best first: `preferred` if it can serve (KG_PEER_NONE: none), then by priority and weight.
 * Those known to be down are left out; so none may be left: 503. At most KG_FAILOVER_SERVERS are worth
 * asking. */
size_t kg_peers_pick(struct kg_peers *peers, uint32_t group, uint32_t preferred, uint32_t *out, size_t max);
/* The way to it, to be copied; NULL if there is none. */
const struct kg_flow *kg_peers_flow(struct kg_peers *peers, uint32_t id);
/* What the caller tells of each request: it was sent; the first response of any kind came, or it is given up
 * or not wanted any more (each asked has one heard); and what became of it. retry_after_s: of a 503, 0: it
 * had none. */
void kg_peers_asked(struct kg_peers *peers, uint32_t id);
void kg_peers_heard(struct kg_peers *peers, uint32_t id);
void kg_peers_outcome(struct kg_peers *peers, uint32_t id, enum kg_outcome outcome, uint32_t retry_after_s);

/* Whose server sends from this address (its port does not count); KG_GROUP_NONE: nobody's. */
uint32_t kg_peers_source(const struct kg_peers *peers, const struct kg_addr *source);
bool kg_peers_is_up(const struct kg_peers *peers, uint32_t id);
/* Grows whenever the server may have been restarted: what it knew before is in doubt. */
uint32_t kg_peers_epoch(const struct kg_peers *peers, uint32_t id);
/* "udp 192.0.2.10:5060", "(gone)" */
const char *kg_peers_name(const struct kg_peers *peers, uint32_t id);
/* The server that a flow leads to, or KG_PEER_NONE. */
uint32_t kg_peers_of_flow(const struct kg_peers *peers, const struct kg_flow *flow);

/* An answer without a transaction; true if it was to a probe. */
bool kg_peers_answer(struct kg_peers *peers, const sip_t *sip);
/* Whether a stream may be opened to this address (kg_sip_handlers.on_connect), and as whom it must prove
 * itself. */
bool kg_peers_may_connect(const struct kg_peers *peers, enum kg_transport transport,
                          const struct kg_addr *addr, const char **name, bool *verify);

/* [{group, server, address, state, why, since, error, error_at, priority, weight, waiting}]; times are wall
 * clock. */
json_t *kg_peers_json(const struct kg_peers *peers);

#endif
