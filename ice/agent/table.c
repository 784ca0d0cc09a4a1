/* Slots of candidates, and how the tables grow. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ice/agent/agent_state.h"

static int grow(void **table, uint16_t *size, size_t wanted, size_t item)
{
    if (wanted <= *size)
        return 0;
    if (wanted >= KG_ICE_NONE)
        return ENOMEM;
    char *larger = realloc(*table, wanted * item);
    if (larger == NULL)
        return ENOMEM;
    memset(larger + *size * item, 0, (wanted - *size) * item);
    *table = larger;
    *size = (uint16_t)wanted;
    return 0;
}

/* What the peer causes lives in the spare slots: were it counted, each description would add more of them,
 * and a peer that fills them between two would make the tables grow without end. */
static bool is_counted(const struct kg_ice_remote *remote)
{
    return remote->used && (remote->old || remote->candidate.type != KG_CANDIDATE_PRFLX);
}

int kg_ice_reserve(struct kg_ice_agent *agent, size_t locals, size_t remotes, size_t pairs)
{
    size_t used_locals = 0, used_remotes = 0, used_pairs = 0, components = 0;

    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++)
            components += agent->stream[i].used && agent->stream[i].component[c].active;
    for (uint16_t i = 0; i < agent->local_size; i++)
        used_locals += agent->local[i].used && agent->local[i].candidate.type != KG_CANDIDATE_PRFLX;
    for (uint16_t i = 0; i < agent->remote_size; i++)
        used_remotes += is_counted(&agent->remote[i]);
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        used_pairs += is_counted(&agent->remote[p->remote]);
    size_t wanted_pairs = used_pairs + pairs + components * KG_ICE_SPARE;
    if (wanted_pairs > KG_ICE_PAIRS_MAX)
        wanted_pairs = KG_ICE_PAIRS_MAX;
    int error = grow((void **)&agent->local, &agent->local_size,
                     used_locals + locals + components * KG_ICE_SPARE, sizeof *agent->local);
    if (error == 0)
        error = grow((void **)&agent->remote, &agent->remote_size,
                     used_remotes + remotes + components * KG_ICE_SPARE, sizeof *agent->remote);
    if (error == 0)
        error = grow((void **)&agent->pair, &agent->pair_size, wanted_pairs, sizeof *agent->pair);
    return error;
}

struct kg_ice_stream *kg_ice_stream_find(const struct kg_ice_agent *agent, uint8_t stream)
{
    for (uint16_t i = 0; i < agent->stream_size; i++)
        if (agent->stream[i].used && agent->stream[i].number == stream)
            return &agent->stream[i];
    return NULL;
}

struct kg_ice_component *kg_ice_component_find(const struct kg_ice_agent *agent, uint8_t stream,
                                               uint8_t component)
{
    struct kg_ice_stream *s = kg_ice_stream_find(agent, stream);

    if (s == NULL || component < 1 || component > KG_ICE_COMPONENTS_MAX)
        return NULL;
    return s->component[component - 1].active ? &s->component[component - 1] : NULL;
}

uint16_t kg_ice_local_by_addr(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                              const struct kg_addr *addr, const struct kg_addr *base)
{
    for (uint16_t i = 0; i < agent->local_size; i++) {
        const struct kg_ice_local *l = &agent->local[i];
        if (l->used && !l->gone && l->stream == stream && l->candidate.component == component &&
            kg_addr_equal(&l->candidate.addr, addr) && kg_addr_equal(&l->candidate.related, base))
            return i;
    }
    return KG_ICE_NONE;
}

uint16_t kg_ice_local_by_base(const struct kg_ice_agent *agent, const struct kg_addr *base)
{
    uint16_t found = KG_ICE_NONE;

    for (uint16_t i = 0; i < agent->local_size; i++) {
        const struct kg_ice_local *l = &agent->local[i];
        if (!l->used || l->gone || !kg_addr_equal(&l->candidate.related, base))
            continue;
        if (l->candidate.type == KG_CANDIDATE_HOST || l->candidate.type == KG_CANDIDATE_RELAY)
            return i;
        if (found == KG_ICE_NONE && l->candidate.type == KG_CANDIDATE_SRFLX)
            found = i;
    }
    return found;
}

/* Peer-reflexive local candidates make room: first those that no pair is seen as any more, then those of
 * pairs that are not in use, which count as their base's from then on. */
static bool is_in_use(const struct kg_ice_agent *agent, uint16_t local, bool only_nominated)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->local == local || (p->seen == local && (p->nominated || !only_nominated)))
            return true;
    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
            uint16_t selected = agent->stream[i].component[c].selected;
            if (agent->stream[i].used && selected != KG_ICE_NONE && agent->pair[selected].seen == local)
                return true;
        }
    return false;
}

static uint16_t free_local(struct kg_ice_agent *agent)
{
    for (uint16_t i = 0; i < agent->local_size; i++)
        if (!agent->local[i].used)
            return i;
    for (int hard = 0; hard <= 1; hard++)
        for (uint16_t i = 0; i < agent->local_size; i++) {
            if (agent->local[i].candidate.type != KG_CANDIDATE_PRFLX || is_in_use(agent, i, hard))
                continue;
            for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL;
                 p = kg_ice_pair_next(agent, p))
                if (p->seen == i)
                    p->seen = KG_ICE_NONE;
            return i;
        }
    return KG_ICE_NONE;
}

uint16_t kg_ice_local_put(struct kg_ice_agent *agent, uint8_t stream, const struct kg_candidate *candidate)
{
    uint16_t slot = free_local(agent);

    if (slot != KG_ICE_NONE)
        agent->local[slot] = (struct kg_ice_local){.candidate = *candidate, .stream = stream, .used = true};
    return slot;
}

size_t kg_ice_count_bases(const struct kg_ice_agent *agent, uint8_t stream)
{
    size_t count = 0;

    for (uint16_t i = 0; i < agent->local_size; i++) {
        const struct kg_ice_local *l = &agent->local[i];
        count += l->used && !l->gone && l->stream == stream &&
                 kg_ice_local_by_base(agent, &l->candidate.related) == i;
    }
    return count;
}

size_t kg_ice_count_remotes(const struct kg_ice_agent *agent, uint8_t stream)
{
    size_t count = 0;

    for (uint16_t i = 0; i < agent->remote_size; i++)
        count += agent->remote[i].used && !agent->remote[i].old && agent->remote[i].stream == stream;
    return count;
}

uint16_t kg_ice_remote_find(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                            const struct kg_addr *addr)
{
    for (uint16_t i = 0; i < agent->remote_size; i++) {
        const struct kg_ice_remote *r = &agent->remote[i];
        if (r->used && !r->old && r->stream == stream && r->candidate.component == component &&
            kg_addr_equal(&r->candidate.addr, addr))
            return i;
    }
    return KG_ICE_NONE;
}

/* How much would be lost with a peer-reflexive remote: 2 a living pair, 1 a check that may succeed, 0
 * nothing. */
static int worth(const struct kg_ice_agent *agent, uint16_t remote)
{
    int most = 0;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->remote == remote) {
            int one = p->valid && !p->demoted ? 2 : p->state != KG_PAIR_FAILED && !p->demoted;
            most = one > most ? one : most;
        }
    return most;
}

uint16_t kg_ice_remote_put(struct kg_ice_agent *agent, uint8_t stream, const struct kg_candidate *candidate)
{
    uint16_t slot = KG_ICE_NONE;

    for (uint16_t i = 0; i < agent->remote_size && slot == KG_ICE_NONE; i++)
        if (!agent->remote[i].used)
            slot = i;
    for (int price = 0; price <= 1 && slot == KG_ICE_NONE; price++)
        for (uint16_t i = 0; i < agent->remote_size && slot == KG_ICE_NONE; i++)
            if (!agent->remote[i].old && agent->remote[i].candidate.type == KG_CANDIDATE_PRFLX &&
                worth(agent, i) == price)
                slot = i;
    if (slot == KG_ICE_NONE)
        return slot;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->remote == slot)
            kg_ice_pair_drop(agent, p);
    agent->remote[slot] = (struct kg_ice_remote){.candidate = *candidate, .stream = stream, .used = true};
    return slot;
}

uint16_t kg_ice_remote_prflx(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                             const struct kg_addr *source, uint32_t priority)
{
    uint16_t remote = kg_ice_remote_find(agent, stream, component, source);
    struct kg_candidate candidate = {
        .type = KG_CANDIDATE_PRFLX, .component = component, .priority = priority, .addr = *source};

    if (remote != KG_ICE_NONE)
        return remote;
    /* Any foundation that no signalled candidate has (RFC 8445 7.3.1.3): "_" is not an ice-char. */
    snprintf(candidate.foundation, sizeof candidate.foundation, "_%u", ++agent->prflx_count);
    return kg_ice_remote_put(agent, stream, &candidate);
}

uint32_t kg_ice_prflx_priority(const struct kg_ice_agent *agent, uint16_t local)
{
    const struct kg_candidate *c = &agent->local[local].candidate;

    return kg_candidate_priority(KG_CANDIDATE_PRFLX, (uint16_t)(c->priority >> 8), c->component);
}
