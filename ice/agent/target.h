/* Where an agent's checks may go (RFC 8445 19.5.1: whoever describes candidates decides where an agent
 * sends). A phone names addresses of its own; one that names addresses of ours, of the PBX or of the network
 * behind us would have us knock there in its place. Pure. */
#ifndef KG_ICE_AGENT_TARGET_H
#define KG_ICE_AGENT_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/addr.h"

/* Hosts; ports are ignored. */
struct kg_ice_targets {
    struct kg_addr peer;    /* where the peer's signalling comes from; none: unknown, all is allowed */
    struct kg_addr ours[2]; /* the socket's host, and as it is told to peers */
    const struct kg_addr
        *avoid; /* signalling's hosts and the PBXes'; none and any-addresses count for nothing */
    size_t avoid_count;
};

enum kg_ice_target {
    KG_TARGET_ALLOWED,
    KG_TARGET_PRIVATE,    /* of a private network that the peer is not in */
    KG_TARGET_LINK_LOCAL, /* of a link that the peer is not on */
    KG_TARGET_LOOPBACK,
    KG_TARGET_OURS,
};
/* In this order: the peer's own host, and all for a peer on this machine; loopback; ours; private ranges, for
 * a peer in the same one. An IPv6 address that stands for an IPv4 one (NAT64, 6to4, IPv4-compatible) counts
 * as that. */
enum kg_ice_target kg_ice_target(const struct kg_ice_targets *targets, const struct kg_addr *addr);
/* Nobody who is asked by a check of the peer's from there is a stranger: the peer has a way to send from it.
 * Of loopback and of our own hosts nothing comes that way but forgeries. */
bool kg_ice_target_if_heard(enum kg_ice_target target);
const char *kg_ice_target_reason(enum kg_ice_target target); /* why a pair is not checked; constant, NULL */

#endif
