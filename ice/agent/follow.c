/* The peer has moved: it sends from another place, and the old one is silent. A peer that only checks a new
 * pair may still be where it was, so the selected pair is asked first (kg_ice_doubt); one that also sends its
 * media from there is followed as soon as it has answered a check there.
 *
 * Who can make us follow? The check carries a fresh transaction id and is sent to that very source, and the
 * answer must come back from it with integrity under the peer's password: nobody but the peer, or whoever
 * carries packets between the peer and that source in both directions. The latter shows in what the peer saw
 * of us: it must be the host that it saw before. */
#include "ice/agent/agent_state.h"

/* The controlling peer has moved, not chosen anew: what it had nominated is now the pair on which it was
 * found. */
void kg_ice_demote(struct kg_ice_agent *agent, struct kg_ice_entry *pair, struct kg_ice_entry *found)
{
    pair->demoted = true;
    pair->nominated = false;
    pair->reason = "answers no more, and the peer was found elsewhere";
    if (!agent->controlling && found->used && found->stream == pair->stream &&
        found->component == pair->component && !found->old && !found->demoted &&
        kg_ice_pair_alive(agent, found))
        found->nominated = found->inherited = true;
}

static bool sees_us_alike(const struct kg_ice_agent *agent, const struct kg_ice_entry *a,
                          const struct kg_ice_entry *b)
{
    return a->seen != KG_ICE_NONE && b->seen != KG_ICE_NONE &&
           kg_addr_same_host(&agent->local[a->seen].candidate.addr, &agent->local[b->seen].candidate.addr);
}

bool kg_ice_follow(struct kg_ice_agent *agent, struct kg_ice_entry *found)
{
    struct kg_ice_stream *stream = kg_ice_stream_find(agent, found->stream);
    const struct kg_ice_component *component = &stream->component[found->component - 1];

    if (component->selected == KG_ICE_NONE || agent->settings.lite || found->old || found->demoted ||
        !kg_ice_pair_alive(agent, found))
        return false;
    const struct kg_ice_entry *selected = &agent->pair[component->selected];
    if (selected == found || selected->proven_ms > found->proven_ms || !sees_us_alike(agent, selected, found))
        return false;
    /* Others that worked once are no better than the one that was in use. */
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p != found && p->stream == found->stream && p->component == found->component && !p->demoted &&
            p->valid && p->proven_ms <= found->proven_ms)
            kg_ice_demote(agent, p, found);
    stream->moved_ms = agent->now_ms;
    kg_ice_touch(agent);
    return true;
}

/* RTP and RTCP of one stream move together: the other component is followed to the same host without being
 * doubted first, if nothing was answered at its old place since. */
bool kg_ice_follows(const struct kg_ice_agent *agent, const struct kg_ice_entry *found)
{
    const struct kg_ice_stream *stream = kg_ice_stream_find(agent, found->stream);
    const struct kg_ice_component *own = &stream->component[found->component - 1];
    const struct kg_ice_component *other = &stream->component[2 - found->component];

    if (stream->moved_ms == INT64_MIN || own->selected == KG_ICE_NONE || !other->active ||
        other->selected == KG_ICE_NONE || agent->pair[own->selected].proven_ms > stream->moved_ms)
        return false;
    return kg_addr_same_host(&agent->remote[agent->pair[other->selected].remote].candidate.addr,
                             &agent->remote[found->remote].candidate.addr);
}
