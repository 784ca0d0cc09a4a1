/* Which local networks are worth a host candidate, and in which order (RFC 8421, RFC 8445 5.1.1.1). Pure. */
#ifndef KG_ICE_AGENT_NETWORK_H
#define KG_ICE_AGENT_NETWORK_H

#include "ice/agent/candidate.h"

struct kg_network {
    char name[16]; /* interface: "eth0" */
    struct kg_addr addr;
    bool up, point_to_point;
};
/* NULL: useful. Otherwise why it is left out, a constant sentence from one table (docker bridges, link-local,
 * loopback, tunnels of VPNs, deprecated site-local, 6to4, Teredo ...). */
const char *kg_network_useless(const struct kg_network *network);
/* Local preferences, in place of sorting by hand: IPv6 and IPv4 interleaved (RFC 8421 4), best 65535. */
void kg_network_preferences(const struct kg_network *network, size_t count, uint16_t *out);

#endif
