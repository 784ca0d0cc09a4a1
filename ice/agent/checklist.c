/* Pairs: forming, ordering, pruning, freezing (RFC 8445 6.1.2). All checklists are one table of at most
 * KG_ICE_PAIRS_MAX; a pair's checklist is its stream. */
#include <string.h>

#include "ice/agent/agent_state.h"
#include "ice/agent/target.h"

static uint64_t with_remote(const struct kg_ice_agent *agent, uint32_t ours, uint16_t remote)
{
    uint32_t theirs = agent->remote[remote].candidate.priority;

    return agent->controlling ? kg_pair_priority(ours, theirs) : kg_pair_priority(theirs, ours);
}

static uint64_t priority_of(const struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    return with_remote(agent, agent->local[local].candidate.priority, remote);
}

uint64_t kg_ice_pair_value(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    /* Valid, but no room for how the peer saw us: as something peer-reflexive. */
    if (pair->valid && pair->seen == KG_ICE_NONE && !agent->settings.lite)
        return with_remote(agent, kg_ice_prflx_priority(agent, pair->local), pair->remote);
    return priority_of(agent, pair->seen != KG_ICE_NONE ? pair->seen : pair->local, pair->remote);
}

bool kg_ice_pair_alive(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    if (!pair->valid)
        return false;
    if (agent->settings.no_consent || agent->settings.lite)
        return true;
    return agent->now_ms - pair->proven_ms < agent->settings.consent_expiry_ms;
}

void kg_ice_prioritize(struct kg_ice_agent *agent)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        p->priority = priority_of(agent, p->local, p->remote);
}

static struct kg_ice_entry *find(const struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->remote == remote && p->local == local)
            return p;
    return NULL;
}

void kg_ice_pair_drop(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    uint16_t index = (uint16_t)(pair - agent->pair);

    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
            struct kg_ice_component *component = &agent->stream[i].component[c];
            if (component->asked == index)
                component->asked = KG_ICE_NONE;
            if (component->selected == index) {
                component->selected = KG_ICE_NONE;
                component->tell_selected = true;
            }
        }
    memset(pair, 0, sizeof *pair);
    agent->thaw = true;
}

void kg_ice_pair_fail(struct kg_ice_agent *agent, struct kg_ice_entry *pair, const char *reason)
{
    kg_ice_check_stop(pair);
    pair->state = KG_PAIR_FAILED;
    pair->valid = false;
    pair->nominated = false;
    pair->nominate = pair->sends = false;
    pair->ticket = 0;
    pair->seen = KG_ICE_NONE;
    pair->reason = reason;
    agent->thaw = true;
}

/* A free slot, or that of the pair that is missed least: failed ones first, then by priority; never one that
 * works or is being checked, nor that of a signalled candidate for one that was only heard of. NULL: every
 * pair is worth more than a new one of that priority. */
static struct kg_ice_entry *room(struct kg_ice_agent *agent, uint64_t priority, bool signalled)
{
    struct kg_ice_entry *worst = NULL;

    for (uint16_t i = 0; i < agent->pair_size; i++) {
        struct kg_ice_entry *p = &agent->pair[i];
        if (!p->used)
            return p;
        if (p->old || p->valid || p->running || p->expired)
            continue;
        bool failed = p->state == KG_PAIR_FAILED;
        bool heard = agent->remote[p->remote].candidate.type == KG_CANDIDATE_PRFLX;
        if (!failed && (p->priority >= priority || (!signalled && !heard)))
            continue;
        if (worst == NULL || (failed && worst->state != KG_PAIR_FAILED) ||
            (failed == (worst->state == KG_PAIR_FAILED) && p->priority < worst->priority))
            worst = p;
    }
    if (worst != NULL)
        kg_ice_pair_drop(agent, worst);
    return worst;
}

static uint16_t group_of(struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    const char *ours = agent->local[local].candidate.foundation;
    const char *theirs = agent->remote[remote].candidate.foundation;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (!p->old && strcmp(agent->local[p->local].candidate.foundation, ours) == 0 &&
            strcmp(agent->remote[p->remote].candidate.foundation, theirs) == 0)
            return p->group;
    return agent->next_group++;
}

static enum kg_ice_target target_of(const struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    const struct kg_candidate *ours = &agent->local[local].candidate;
    struct kg_ice_targets targets = {.peer = agent->peer,
                                     .ours = {ours->related, ours->addr},
                                     .avoid = agent->settings.avoid,
                                     .avoid_count = agent->settings.avoid_count};

    return kg_ice_target(&targets, &agent->remote[remote].candidate.addr);
}

bool kg_ice_pair_admit(const struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    if (pair->refused && kg_ice_target_if_heard(target_of(agent, pair->local, pair->remote))) {
        pair->refused = false;
        pair->reason = NULL;
    }
    return !pair->refused;
}

struct kg_ice_entry *kg_ice_pair_put(struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    struct kg_ice_entry *pair = find(agent, local, remote);

    if (pair != NULL)
        return pair;
    uint64_t priority = priority_of(agent, local, remote);
    pair = room(agent, priority, agent->remote[remote].candidate.type != KG_CANDIDATE_PRFLX);
    if (pair == NULL)
        return NULL;
    *pair = (struct kg_ice_entry){
        .local = local,
        .remote = remote,
        .seen = KG_ICE_NONE,
        .group = group_of(agent, local, remote),
        .stream = agent->local[local].stream,
        .component = agent->local[local].candidate.component,
        .state = KG_PAIR_FROZEN,
        .used = true,
        .priority = priority,
        .proven_ms = INT64_MIN,
        .rtt_ms = -1,
        .won_ms = -1,
    };
    pair->check.next_ms = INT64_MAX;
    pair->reason = kg_ice_target_reason(target_of(agent, local, remote));
    pair->refused = pair->reason != NULL;
    if (pair->refused)
        pair->state = KG_PAIR_FAILED;
    agent->thaw = true;
    return pair;
}

static bool is_link_local(const struct kg_addr *addr)
{
    return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr);
}

/* RFC 8445 6.1.2.2, and 6.1.2.4: checks go out from bases, so a reflexive candidate's pair would be the same
 * as its base's. */
static bool may_pair(const struct kg_ice_agent *agent, uint16_t local, uint16_t remote)
{
    const struct kg_ice_local *l = &agent->local[local];
    const struct kg_ice_remote *r = &agent->remote[remote];

    return l->candidate.component == r->candidate.component &&
           kg_addr_family(&l->candidate.related) == kg_addr_family(&r->candidate.addr) &&
           is_link_local(&l->candidate.related) == is_link_local(&r->candidate.addr) &&
           kg_ice_local_by_base(agent, &l->candidate.related) == local;
}

/* Peer-reflexive candidates are paired only with the one that heard them (RFC 8445 7.3.1.3). */
void kg_ice_form_pairs(struct kg_ice_agent *agent, struct kg_ice_stream *stream)
{
    for (uint16_t l = 0; l < agent->local_size; l++) {
        if (!agent->local[l].used || agent->local[l].stream != stream->number)
            continue;
        for (uint16_t r = 0; r < agent->remote_size; r++)
            if (agent->remote[r].used && !agent->remote[r].old && agent->remote[r].stream == stream->number &&
                agent->remote[r].candidate.type != KG_CANDIDATE_PRFLX && may_pair(agent, l, r))
                kg_ice_pair_put(agent, l, r);
    }
}

/* Which of two frozen pairs of one foundation is woken first: lowest component, then priority, then the first
 * checklist (RFC 8445 6.1.2.6). */
static bool before(const struct kg_ice_entry *a, const struct kg_ice_entry *b)
{
    if (a->component != b->component)
        return a->component < b->component;
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->stream != b->stream ? a->stream < b->stream : a < b;
}

/* A frozen pair wakes when one of its foundation has succeeded (7.2.5.3.3), or none is being tried (6.1.2.6,
 * 6.1.4.2). */
static bool wakes(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    bool alone = true;

    for (struct kg_ice_entry *q = kg_ice_pair_next(agent, NULL); q != NULL; q = kg_ice_pair_next(agent, q)) {
        if (q->old || q->group != pair->group || q == pair)
            continue;
        if (q->state == KG_PAIR_SUCCEEDED)
            return true;
        if (q->state == KG_PAIR_WAITING || q->state == KG_PAIR_IN_PROGRESS ||
            (q->state == KG_PAIR_FROZEN && before(q, pair)))
            alone = false;
    }
    return alone;
}

void kg_ice_thaw(struct kg_ice_agent *agent)
{
    if (!agent->thaw)
        return;
    agent->thaw = false;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (!p->old && p->state == KG_PAIR_FROZEN && wakes(agent, p))
            p->state = KG_PAIR_WAITING;
}

void kg_ice_trigger(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    if (pair->expired || pair->old || pair->refused)
        return;
    if (pair->running && pair->state == KG_PAIR_SUCCEEDED)
        return;
    if (!pair->running && pair->state != KG_PAIR_SUCCEEDED)
        pair->state = KG_PAIR_WAITING;
    if (pair->ticket == 0)
        pair->ticket = ++agent->next_ticket;
}
