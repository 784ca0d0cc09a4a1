/* Server-reflexive candidates: one query of each STUN server from each host candidate of its family (RFC 8445
 * 5.1.1.2), paced with everything else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ice/agent/agent_state.h"

static bool is_asked(const struct kg_ice_agent *agent, uint16_t local, uint8_t server)
{
    for (uint16_t i = 0; i < agent->query_size; i++)
        if (agent->query[i].local == local && agent->query[i].server == server)
            return true;
    return false;
}

static bool wants(const struct kg_ice_agent *agent, uint16_t local, uint8_t server)
{
    const struct kg_ice_local *l = &agent->local[local];

    return l->used && !l->gone && l->candidate.type == KG_CANDIDATE_HOST &&
           kg_addr_family(&l->candidate.related) == kg_addr_family(&agent->server[server]) &&
           !is_asked(agent, local, server);
}

int kg_ice_gather(struct kg_ice_agent *agent)
{
    size_t count = 0;

    for (uint16_t l = 0; l < agent->local_size; l++)
        for (uint8_t s = 0; s < agent->server_count; s++)
            count += wants(agent, l, s);
    if (count == 0)
        return 0;
    int error = kg_ice_reserve(agent, count, 0, 0); /* for what is found */
    if (error != 0)
        return error;
    struct kg_ice_query *larger = realloc(agent->query, (agent->query_size + count) * sizeof *larger);
    if (larger == NULL)
        return ENOMEM;
    agent->query = larger;
    for (uint16_t l = 0; l < agent->local_size; l++)
        for (uint8_t s = 0; s < agent->server_count; s++)
            if (wants(agent, l, s)) {
                struct kg_ice_query *query = &agent->query[agent->query_size++];
                *query = (struct kg_ice_query){
                    .local = l, .server = s, .state = KG_ICE_QUERY_WAITING, .found = KG_ICE_NONE};
            }
    return 0;
}

/* After a restart: the NAT may have forgotten what it told before. */
void kg_ice_gather_again(struct kg_ice_agent *agent)
{
    for (uint16_t i = 0; i < agent->query_size; i++)
        if (agent->query[i].state == KG_ICE_QUERY_DONE && !agent->local[agent->query[i].local].gone)
            agent->query[i].state = KG_ICE_QUERY_WAITING;
}

bool kg_ice_poll_gather(struct kg_ice_agent *agent, bool may_start, struct kg_ice_datagram *out)
{
    for (uint16_t i = 0; i < agent->query_size; i++) {
        struct kg_ice_query *query = &agent->query[i];
        if (query->state == KG_ICE_QUERY_DONE)
            continue;
        if (agent->local[query->local].gone) {
            query->state = KG_ICE_QUERY_DONE;
            continue;
        }
        if (query->state == KG_ICE_QUERY_WAITING) {
            uint8_t id[KG_STUN_ID];
            if (!may_start)
                continue;
            kg_ice_id(agent, id);
            kg_stun_transaction_start(&query->transaction, id, agent->settings.rto_ms, 0, 0, agent->now_ms);
            query->state = KG_ICE_QUERY_RUNNING;
        }
        enum kg_stun_due due = kg_stun_transaction_due(&query->transaction, agent->now_ms);
        if (due == KG_STUN_TIMED_OUT) {
            query->state = KG_ICE_QUERY_DONE;
            agent->tell_local = !kg_ice_is_gathering(agent);
        }
        if (due != KG_STUN_SEND_AGAIN)
            continue;
        kg_ice_compose_query(agent, query, out);
        kg_stun_transaction_sent(&query->transaction, agent->now_ms);
        return true;
    }
    return false;
}

int64_t kg_ice_gather_due(const struct kg_ice_agent *agent)
{
    int64_t due = INT64_MAX;

    for (uint16_t i = 0; i < agent->query_size; i++) {
        const struct kg_ice_query *query = &agent->query[i];
        int64_t at = INT64_MAX;
        if (query->state == KG_ICE_QUERY_RUNNING)
            at = query->transaction.next_ms;
        else if (query->state == KG_ICE_QUERY_WAITING)
            at = agent->slot_ms;
        due = at < due ? at : due;
    }
    return due;
}

bool kg_ice_is_gathering(const struct kg_ice_agent *agent)
{
    for (uint16_t i = 0; i < agent->query_size; i++)
        if (agent->query[i].state != KG_ICE_QUERY_DONE)
            return true;
    return false;
}

/* No password: the transaction id and the server's address are all the proof there is (RFC 8445 5.1.1.2). A
 * false address would only be a candidate that does not work. */
bool kg_ice_gather_answer(struct kg_ice_agent *agent, const struct kg_addr *source,
                          const struct kg_stun_message *message)
{
    for (uint16_t i = 0; i < agent->query_size; i++) {
        struct kg_ice_query *query = &agent->query[i];
        struct kg_addr mapped;
        if (query->state != KG_ICE_QUERY_RUNNING ||
            memcmp(query->transaction.id, message->id, KG_STUN_ID) != 0 ||
            !kg_addr_equal(source, &agent->server[query->server]))
            continue;
        const struct kg_ice_local *local = &agent->local[query->local];
        query->state = KG_ICE_QUERY_DONE;
        agent->tell_local = !kg_ice_is_gathering(agent);
        agent->counters.responses_in++;
        if (message->class != KG_STUN_SUCCESS ||
            (!kg_stun_get_address(message, KG_STUN_XOR_MAPPED_ADDRESS, &mapped) &&
             !kg_stun_get_address(message, KG_STUN_MAPPED_ADDRESS, &mapped)) ||
            !kg_addr_is_usable(&mapped))
            return true;
        struct kg_candidate candidate = local->candidate;
        uint16_t known =
            kg_ice_local_by_addr(agent, local->stream, candidate.component, &mapped, &candidate.related);
        if (known != KG_ICE_NONE && agent->local[known].candidate.type != KG_CANDIDATE_PRFLX)
            return true; /* redundant (RFC 8445 5.1.3): not behind a NAT, or two servers saw the same */
        candidate.type = KG_CANDIDATE_SRFLX;
        candidate.addr = mapped;
        candidate.priority = kg_candidate_priority(
            KG_CANDIDATE_SRFLX, (uint16_t)(local->candidate.priority >> 8), candidate.component);
        kg_candidate_foundation(KG_CANDIDATE_SRFLX, &candidate.related, &agent->server[query->server],
                                candidate.foundation);
        if (known == KG_ICE_NONE)
            known = query->found;
        if (known == KG_ICE_NONE)
            known = kg_ice_local_put(agent, local->stream, &candidate);
        else
            agent->local[known].candidate = candidate;
        if (known == KG_ICE_NONE)
            return true;
        query->found = known;
        agent->tell_local = true;
        return true;
    }
    return false;
}
