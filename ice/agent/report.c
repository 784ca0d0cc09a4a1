/* What the agent tells: state, events, pairs. */
#include <string.h>

#include "ice/agent/agent_state.h"

const char *kg_ice_state_name(enum kg_ice_state state)
{
    static const char *const names[] = {
        [KG_ICE_NEW] = "new",
        [KG_ICE_CHECKING] = "checking",
        [KG_ICE_CONNECTED] = "connected",
        [KG_ICE_COMPLETED] = "completed",
        [KG_ICE_DISCONNECTED] = "disconnected",
        [KG_ICE_FAILED] = "failed",
    };
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}

const char *kg_pair_state_name(enum kg_pair_state state)
{
    static const char *const names[] = {
        [KG_PAIR_FROZEN] = "frozen",           [KG_PAIR_WAITING] = "waiting",
        [KG_PAIR_IN_PROGRESS] = "in progress", [KG_PAIR_SUCCEEDED] = "succeeded",
        [KG_PAIR_FAILED] = "failed",
    };
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}

enum kg_ice_state kg_ice_state(const struct kg_ice_agent *agent)
{
    return (enum kg_ice_state)agent->state;
}

bool kg_ice_is_controlling(const struct kg_ice_agent *agent)
{
    return agent->controlling;
}

const struct kg_ice_counters *kg_ice_counters(const struct kg_ice_agent *agent)
{
    return &agent->counters;
}

/* Losses before what took over, selections before the state that follows from them. */
static bool poll_component_event(struct kg_ice_agent *agent, struct kg_ice_event *out)
{
    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (uint8_t c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
            struct kg_ice_component *component = &agent->stream[i].component[c];
            out->stream = agent->stream[i].number;
            out->component = (uint8_t)(c + 1);
            if (component->tell_lost) {
                component->tell_lost = false;
                out->type = KG_ICE_EV_CONSENT_LOST;
                out->reason = "consent expired: the peer answers no more";
                return true;
            }
            if (component->tell_selected) {
                component->tell_selected = false;
                out->type = KG_ICE_EV_SELECTED;
                return true;
            }
        }
    out->stream = out->component = 0;
    return false;
}

bool kg_ice_poll_event(struct kg_ice_agent *agent, struct kg_ice_event *out)
{
    *out = (struct kg_ice_event){.state = (enum kg_ice_state)agent->state};
    if (poll_component_event(agent, out))
        return true;
    if (agent->tell_state) {
        agent->tell_state = false;
        out->type = KG_ICE_EV_STATE;
        out->reason = agent->reason;
        return true;
    }
    if (agent->tell_role) {
        agent->tell_role = false;
        out->type = KG_ICE_EV_ROLE;
        return true;
    }
    if (agent->tell_local) {
        agent->tell_local = false;
        out->type = KG_ICE_EV_LOCAL;
        return true;
    }
    return false;
}

static void describe(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                     struct kg_ice_pair *out)
{
    const struct kg_ice_component *component = kg_ice_component_find(agent, pair->stream, pair->component);

    *out = (struct kg_ice_pair){
        .stream = pair->stream,
        .component = pair->component,
        .state = pair->state,
        .valid = pair->valid,
        .nominated = pair->nominated,
        .selected = component != NULL && component->selected == pair - agent->pair,
        .priority = kg_ice_pair_value(agent, pair),
        .local = agent->local[pair->seen != KG_ICE_NONE ? pair->seen : pair->local].candidate,
        .remote = agent->remote[pair->remote].candidate,
        .rtt_ms = pair->rtt_ms,
        .won_ms = pair->won_ms,
        .requests = pair->requests,
        .responses = pair->responses,
        .reason = pair->reason,
    };
}

bool kg_ice_selected(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                     struct kg_ice_pair *out)
{
    const struct kg_ice_component *c = kg_ice_component_find(agent, stream, component);

    if (c == NULL || c->selected == KG_ICE_NONE)
        return false;
    describe(agent, &agent->pair[c->selected], out);
    return true;
}

bool kg_ice_is_valid_source(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                            const struct kg_addr *source)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->stream == stream && p->component == component && kg_ice_pair_alive(agent, p) &&
            kg_addr_equal(&agent->remote[p->remote].candidate.addr, source))
            return true;
    return false;
}

size_t kg_ice_locals(const struct kg_ice_agent *agent, uint8_t stream, struct kg_candidate *out, size_t max)
{
    size_t count = 0;

    for (uint16_t i = 0; i < agent->local_size && count < max; i++) {
        const struct kg_ice_local *l = &agent->local[i];
        if (!l->used || l->gone || l->stream != stream || l->candidate.type == KG_CANDIDATE_PRFLX)
            continue;
        out[count] = l->candidate;
        /* A relayed candidate is its own base; its related address would be the mapped one, which we do not
         * know. */
        if (l->candidate.type == KG_CANDIDATE_RELAY)
            memset(&out[count].related, 0, sizeof out[count].related);
        count++;
    }
    return count;
}

size_t kg_ice_pairs(const struct kg_ice_agent *agent, struct kg_ice_pair *out, size_t max)
{
    size_t count = 0;

    /* Insertion into the best `max` so far. */
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        struct kg_ice_pair pair;
        describe(agent, p, &pair);
        size_t at = count < max ? count++ : max;
        while (at > 0 && out[at - 1].priority < pair.priority) {
            if (at < max)
                out[at] = out[at - 1];
            at--;
        }
        if (at < max)
            out[at] = pair;
    }
    return count;
}
