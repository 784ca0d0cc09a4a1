/* A lite agent (RFC 8445 2.5) sends no checks: the full peer's checks choose. Two lite agents choose by
 * themselves (8.2). */
#include "ice/agent/agent_state.h"

/* Consent checks come every period +-20 % (RFC 7675 5.1): one may be lost, not two. */
#define MOVED_PERIODS 2

static void take(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    struct kg_ice_component *component = kg_ice_component_find(agent, pair->stream, pair->component);

    pair->state = KG_PAIR_SUCCEEDED;
    pair->valid = true;
    pair->nominated = true;
    pair->proven_ms = agent->now_ms;
    if (pair->won_ms < 0)
        pair->won_ms = (int32_t)(agent->now_ms - agent->start_ms);
    if (component->first_valid_ms == INT64_MAX)
        component->first_valid_ms = agent->now_ms;
}

/* The peer's consent checks come from elsewhere, and not from where it was selected any more: its NAT has
 * given it another port, and it does not know. */
static bool has_moved(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    const struct kg_ice_component *component = kg_ice_component_find(agent, pair->stream, pair->component);
    const struct kg_ice_entry *selected =
        component->selected != KG_ICE_NONE ? &agent->pair[component->selected] : NULL;

    return selected != NULL && selected != pair && !selected->old &&
           agent->now_ms - selected->proven_ms > agent->settings.consent_ms * MOVED_PERIODS;
}

/* RFC 8445 7.3.2. Of several nominated pairs the best is selected, as an aggressive peer does. */
void kg_ice_lite_heard(struct kg_ice_agent *agent, struct kg_ice_entry *pair, bool use_candidate)
{
    if (!agent->controlling && has_moved(agent, pair)) {
        struct kg_ice_entry *selected =
            &agent->pair[kg_ice_component_find(agent, pair->stream, pair->component)->selected];
        selected->nominated = selected->valid = false;
        selected->reason = "the peer asks from elsewhere";
        use_candidate = true;
    }
    pair->proven_ms = agent->now_ms;
    if (use_candidate && !agent->controlling && !pair->nominated)
        take(agent, pair);
}

void kg_ice_lite_pairs(struct kg_ice_agent *agent, struct kg_ice_stream *stream)
{
    for (uint8_t c = 1; c <= KG_ICE_COMPONENTS_MAX; c++) {
        struct kg_ice_entry *best = NULL;
        for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL;
             p = kg_ice_pair_next(agent, p))
            if (!p->old && !p->refused && p->stream == stream->number && p->component == c &&
                (best == NULL || p->priority > best->priority))
                best = p;
        if (best != NULL)
            take(agent, best);
    }
}
