/* Requests that somebody overheard and sends again from elsewhere. A request's integrity does not cover its
 * source, so without memory of it a replay would be answered, and checked back. The latest KG_ICE_SEEN
 * requests are remembered as hashes of transaction id and source. */
#include <string.h>

#include "ice/agent/agent_state.h"

/* FNV-1a */
uint32_t kg_ice_hash(const void *data, size_t len)
{
    const uint8_t *byte = data;
    uint32_t value = 2166136261u;

    for (size_t i = 0; i < len; i++)
        value = (value ^ byte[i]) * 16777619u;
    return value;
}

static uint32_t hash_addr(const struct kg_addr *addr)
{
    char text[KG_ADDR_STR];

    kg_addr_format(addr, text);
    return kg_ice_hash(text, strlen(text));
}

/* What the description told, or what has answered us, needs no protection from itself: a stranger who is
 * faster than the peer must not make the peer's own request the replay. */
static bool is_known(const struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source)
{
    uint8_t stream = agent->local[local].stream, component = agent->local[local].candidate.component;
    uint16_t remote = kg_ice_remote_find(agent, stream, component, source);

    return (remote != KG_ICE_NONE && agent->remote[remote].candidate.type != KG_CANDIDATE_PRFLX) ||
           kg_ice_is_valid_source(agent, stream, component, source);
}

bool kg_ice_is_replayed(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                        const uint8_t id[static KG_STUN_ID])
{
    struct kg_ice_seen now = {.id = kg_ice_hash(id, KG_STUN_ID), .source = hash_addr(source)};
    bool other = false;

    for (uint8_t i = 0; i < agent->seen_count; i++) {
        if (agent->seen[i].id != now.id)
            continue;
        if (agent->seen[i].source == now.source)
            return false;
        other = true;
    }
    if (other && !is_known(agent, local, source))
        return true;
    agent->seen[agent->seen_next] = now;
    agent->seen_next = (uint8_t)((agent->seen_next + 1) % KG_ICE_SEEN);
    if (agent->seen_count < KG_ICE_SEEN)
        agent->seen_count++;
    return false;
}
