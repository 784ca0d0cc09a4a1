/* Shared by relay_ice_setup.c and relay_ice.c alone. */
#ifndef KG_MEDIA_RELAY_ICE_SETUP_H
#define KG_MEDIA_RELAY_ICE_SETUP_H

#include "media/relay_ice.h"

/* Where the flow's socket is bound. */
struct kg_addr kg_relay_ice_bound(const struct kg_flow *flow);
/* The side's agent exists and has every stream of that side that wants it. Returns 0 or ENOMEM. */
int kg_relay_ice_need_agent(struct kg_relay *relay, enum kg_side side, const struct kg_limits *limits,
                            int64_t now_ms);

#endif
