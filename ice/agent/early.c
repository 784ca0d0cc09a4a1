/* Checks that come before the description they belong to: answered at once, and remembered, so that they
 * cause a triggered check as soon as the description is there (RFC 8445 7.3, RFC 8838 14). */
#include <string.h>

#include "ice/agent/agent_state.h"

void kg_ice_early_put(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                      uint32_t priority, bool use_candidate, const char *peer, size_t peer_len)
{
    struct kg_ice_early *slot = NULL;
    uint32_t who = kg_ice_hash(peer, peer_len);

    for (int i = 0; i < KG_ICE_EARLY; i++) {
        struct kg_ice_early *e = &agent->early[i];
        if (e->component == 0) {
            slot = slot == NULL ? e : slot;
        } else if (e->local == local && e->peer == who && kg_addr_equal(&e->source, source)) {
            e->use_candidate |= use_candidate;
            return;
        }
    }
    if (slot == NULL) {
        /* Full: the peer checks again, so the oldest goes; but it nominates only once (a lite agent hears of
         * it nowhere else). */
        size_t oldest = 0;
        while (oldest < KG_ICE_EARLY && agent->early[oldest].use_candidate)
            oldest++;
        oldest = oldest < KG_ICE_EARLY ? oldest : 0;
        memmove(&agent->early[oldest], &agent->early[oldest + 1],
                (KG_ICE_EARLY - 1 - oldest) * sizeof agent->early[0]);
        slot = &agent->early[KG_ICE_EARLY - 1];
    }
    *slot = (struct kg_ice_early){
        .stream = agent->local[local].stream,
        .component = agent->local[local].candidate.component,
        .use_candidate = use_candidate,
        .local = local,
        .priority = priority,
        .peer = who,
        .source = *source,
    };
}

void kg_ice_early_replay(struct kg_ice_agent *agent, struct kg_ice_stream *stream)
{
    uint32_t who = kg_ice_hash(stream->session.remote->ufrag, strlen(stream->session.remote->ufrag));

    for (int i = 0; i < KG_ICE_EARLY; i++) {
        struct kg_ice_early early = agent->early[i];
        if (early.component == 0 || early.stream != stream->number || early.peer != who)
            continue;
        memset(&agent->early[i], 0, sizeof agent->early[i]);
        if (stream->component[early.component - 1].active && !agent->local[early.local].gone)
            kg_ice_heard(agent, stream, early.local, &early.source, early.priority, early.use_candidate);
    }
}
