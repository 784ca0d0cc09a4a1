/* Which pair is used: regular nomination where we are controlling (RFC 8445 8.1.1), tolerance of aggressive
 * peers where we are not, selection, and the state of the whole agent that follows from it. */
#include "ice/agent/agent_state.h"

/* The better pairs of a path whose answers take long get two round trips, not only nominate_ms. */
#define WAIT_ROUND_TRIPS 2
/* While only a relay works each better pair is asked three times, not once: the first request of one side
 * falls into the NAT that the other has not opened yet, so holes are punched by retransmissions. The third
 * leaves three times RTO after the first (RFC 8489 6.2.1). */
#define THIRD_REQUEST 3
/* But all that waiting ends after so many times nominate_ms. Media flows meanwhile (RFC 8445 12.1.1), but
 * there are peers that say nothing before the nomination. */
#define LONGEST_WAITS 10

#define AGGRESSIVE_MS                                                                                        \
    5000 /* so long after its first nomination a peer that nominates another pair means it instead */

static bool of(const struct kg_ice_entry *pair, const struct kg_ice_stream *stream, int component)
{
    return pair->stream == stream->number && pair->component == component + 1;
}

static bool is_unfinished(const struct kg_ice_entry *pair)
{
    return pair->state == KG_PAIR_FROZEN || pair->state == KG_PAIR_WAITING ||
           pair->state == KG_PAIR_IN_PROGRESS;
}

void kg_ice_end_session(struct kg_ice_agent *agent, struct kg_ice_stream *stream)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->old && p->stream == stream->number)
            kg_ice_pair_drop(agent, p);
    for (uint16_t i = 0; i < agent->remote_size; i++)
        if (agent->remote[i].old && agent->remote[i].stream == stream->number)
            agent->remote[i].used = false;
    kg_ice_session_free(agent, &stream->before);
}

/* RFC 8445 8.1.2: nothing else of this component is checked. Where the peer nominates aggressively, better
 * pairs go on (RFC 5245 8.1.2). */
void kg_ice_nominated(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    uint64_t value = kg_ice_pair_value(agent, pair);

    struct kg_ice_component *component = kg_ice_component_find(agent, pair->stream, pair->component);

    component->unproven = 0;
    if (component->nominated_ms == INT64_MAX)
        component->nominated_ms = agent->now_ms;
    /* Aggressive peers nominate several at first, of which the best counts (RFC 5245 8.1.1.2). Later it is
     * the latest that counts, and always before those that were found to be dead. */
    bool later = agent->now_ms - component->nominated_ms > AGGRESSIVE_MS;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if ((later || p->inherited || p->demoted) && p->stream == pair->stream &&
            p->component == pair->component)
            p->nominated = p->inherited = p->peer_nominates = false;
    pair->nominated = true;
    pair->peer_nominates = !agent->controlling;
    pair->demoted = false;
    pair->reason = NULL;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p == pair || p->old || p->stream != pair->stream || p->component != pair->component ||
            p->roaming || !is_unfinished(p) || (!agent->controlling && p->priority > value))
            continue;
        kg_ice_pair_fail(agent, p, "another pair was chosen before this one was answered");
    }
}

void kg_ice_pair_revive(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    pair->demoted = false;
    pair->reason = NULL;
    if (!agent->controlling && pair->peer_nominates)
        kg_ice_nominated(agent, pair);
}

/* ---- choosing ---- */

/* Nominated ones first, then those of this session, then by priority. */
static int rank(const struct kg_ice_entry *pair)
{
    if (pair->old)
        return 0;
    return pair->nominated ? 2 : 1;
}

static uint16_t best(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int component)
{
    uint16_t found = KG_ICE_NONE;
    int found_rank = 0;
    uint64_t found_value = 0;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (!of(p, stream, component) || p->demoted || !kg_ice_pair_alive(agent, p))
            continue;
        uint64_t value = kg_ice_pair_value(agent, p);
        if (found == KG_ICE_NONE || rank(p) > found_rank || (rank(p) == found_rank && value > found_value)) {
            found = (uint16_t)(p - agent->pair);
            found_rank = rank(p);
            found_value = value;
        }
    }
    return found;
}

/* Nothing is left to send on: every other pair is asked (again), those that worked once first. Whichever
 * answers takes over; RFC 7675 5.1 forbids only the expired one. */
static void look_for_another(struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int number)
{
    for (int valid = 1; valid >= 0; valid--)
        for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL;
             p = kg_ice_pair_next(agent, p))
            if (of(p, stream, number) && p->valid == (valid == 1) && !agent->local[p->local].gone)
                kg_ice_trigger(agent, p);
}

static void select_component(struct kg_ice_agent *agent, struct kg_ice_stream *stream, int number)
{
    struct kg_ice_component *component = &stream->component[number];
    uint16_t found = best(agent, stream, number);

    if (found == component->selected)
        return;
    /* The pair of the session before does not count: this one is still being checked. */
    component->lost = found == KG_ICE_NONE && component->first_valid_ms != INT64_MAX;
    component->selected = found;
    component->tell_selected = true;
    if (found != KG_ICE_NONE)
        kg_ice_consent_begin(agent, component);
    else if (!agent->settings.lite)
        look_for_another(agent, stream, number);
}

/* ---- nominating ---- */

static bool is_nominating(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int component)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (!p->old && of(p, stream, component) &&
            ((p->nominated && !p->demoted && kg_ice_pair_alive(agent, p)) ||
             (p->nominate && (p->running || p->ticket != 0))))
            return true;
    return false;
}

static bool is_relayed(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    return agent->remote[pair->remote].candidate.type == KG_CANDIDATE_RELAY ||
           agent->local[pair->local].candidate.type == KG_CANDIDATE_RELAY;
}

/* How long a better pair than the best valid one is waited for: each has had a request and the time for its
 * answer. INT64_MIN: there is no better one. */
static int64_t wait_until(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int number,
                          const struct kg_ice_entry *pair)
{
    int64_t first = stream->component[number].first_valid_ms, wait = agent->settings.nominate_ms;
    int64_t longest = wait * LONGEST_WAITS;
    uint64_t value = kg_ice_pair_value(agent, pair);
    bool more = stream->trickle && !stream->ended, relayed = is_relayed(agent, pair);
    int64_t until = first;

    if (pair->rtt_ms * WAIT_ROUND_TRIPS > wait)
        wait = pair->rtt_ms * WAIT_ROUND_TRIPS;
    longest = longest > wait ? longest : wait;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->old || !of(p, stream, number) || !is_unfinished(p) || p->priority <= value)
            continue;
        more = true;
        int64_t asked = p->requests == 0 ? first + longest
                        : relayed        ? p->check.started_ms + (int64_t)p->check.rto_ms * THIRD_REQUEST
                                         : p->check.started_ms;
        until = asked > until ? asked : until;
    }
    if (!more)
        return INT64_MIN;
    if (relayed && stream->trickle && !stream->ended)
        return first + longest;
    return until + wait < first + longest ? until + wait : first + longest;
}

/* When the best pair of a component is to be nominated; INT64_MAX: not now. */
static int64_t nominate_at(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int number,
                           uint16_t *pair)
{
    const struct kg_ice_component *component = &stream->component[number];

    if (!agent->controlling || agent->settings.lite || !stream->used || !stream->described ||
        !component->active || component->first_valid_ms == INT64_MAX || is_nominating(agent, stream, number))
        return INT64_MAX;
    *pair = best(agent, stream, number);
    if (*pair == KG_ICE_NONE || agent->pair[*pair].old)
        return INT64_MAX;
    return wait_until(agent, stream, number, &agent->pair[*pair]);
}

void kg_ice_nominate(struct kg_ice_agent *agent)
{
    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
            uint16_t pair;
            if (nominate_at(agent, &agent->stream[i], c, &pair) > agent->now_ms)
                continue;
            agent->pair[pair].nominate = true;
            kg_ice_trigger(agent, &agent->pair[pair]);
        }
}

/* ---- the state of all ---- */

static bool has_hope(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream, int component)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (!p->old && of(p, stream, component) && (is_unfinished(p) || p->running || p->ticket != 0))
            return true;
    return false;
}

/* Of one component, as if it were alone. */
static enum kg_ice_state component_state(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream,
                                         int number)
{
    const struct kg_ice_component *component = &stream->component[number];

    if (component->selected != KG_ICE_NONE && !agent->pair[component->selected].old)
        return agent->pair[component->selected].nominated ? KG_ICE_COMPLETED : KG_ICE_CONNECTED;
    if (component->lost)
        return KG_ICE_DISCONNECTED;
    /* RFC 8863: not before patience ends, and not while anything is being tried, but for no more than as long
     * again: a peer that hears no answers could make us try for ever. A lite agent never fails: it does not
     * know. */
    int64_t waited = agent->now_ms - stream->since_ms;
    if (agent->settings.lite || waited < agent->settings.patience_ms ||
        (waited < 2 * (int64_t)agent->settings.patience_ms && has_hope(agent, stream, number)))
        return KG_ICE_CHECKING;
    return KG_ICE_FAILED;
}

static void update_state(struct kg_ice_agent *agent)
{
    /* The worst of all components, in this order. */
    static const enum kg_ice_state order[] = {KG_ICE_FAILED, KG_ICE_DISCONNECTED, KG_ICE_CHECKING,
                                              KG_ICE_CONNECTED, KG_ICE_COMPLETED};
    static const char *const reasons[] = {
        [KG_ICE_FAILED] = "no pair of candidates works",
        [KG_ICE_DISCONNECTED] = "the peer answers no more (consent expired)",
        [KG_ICE_COMPLETED] = NULL,
    };
    bool seen[KG_ICE_FAILED + 1] = {false};
    enum kg_ice_state state = KG_ICE_NEW;

    for (uint16_t i = 0; agent->started && i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++)
            if (agent->stream[i].used && agent->stream[i].described && agent->stream[i].component[c].active)
                seen[component_state(agent, &agent->stream[i], c)] = true;
    for (size_t i = sizeof order / sizeof order[0]; i-- > 0;)
        if (seen[order[i]])
            state = order[i];
    if (state == agent->state)
        return;
    agent->state = (uint8_t)state;
    agent->reason = reasons[state];
    agent->tell_state = true;
}

void kg_ice_select(struct kg_ice_agent *agent)
{
    for (uint16_t i = 0; i < agent->stream_size; i++) {
        struct kg_ice_stream *stream = &agent->stream[i];
        bool renewed = stream->before.local != NULL;
        for (int c = 0; stream->used && c < KG_ICE_COMPONENTS_MAX; c++) {
            if (!stream->component[c].active)
                continue;
            select_component(agent, stream, c);
            uint16_t selected = stream->component[c].selected;
            renewed &=
                selected != KG_ICE_NONE && !agent->pair[selected].old && agent->pair[selected].nominated;
        }
        if (renewed)
            kg_ice_end_session(agent, stream);
    }
    update_state(agent);
}

int64_t kg_ice_nominate_due(const struct kg_ice_agent *agent)
{
    int64_t due = INT64_MAX;

    for (uint16_t i = 0; i < agent->stream_size; i++) {
        const struct kg_ice_stream *stream = &agent->stream[i];
        for (int c = 0; stream->used && stream->described && c < KG_ICE_COMPONENTS_MAX; c++) {
            uint16_t pair;
            int64_t at = nominate_at(agent, stream, c, &pair);
            if (at < due)
                due = at;
            int64_t patience = stream->since_ms + agent->settings.patience_ms;
            if (patience <= agent->now_ms)
                patience += agent->settings.patience_ms;
            if (stream->component[c].active && component_state(agent, stream, c) == KG_ICE_CHECKING &&
                agent->now_ms < patience && patience < due && !agent->settings.lite)
                due = patience;
        }
    }
    return due;
}
