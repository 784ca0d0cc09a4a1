/* The client side of connectivity checks: answers (RFC 8445 7.2.5). An answer without right integrity is
 * none. */
#include <string.h>

#include "ice/agent/agent_state.h"

/* A peer that refuses both roles would have us check for ever. */
#define ROLE_REFUSALS_MAX 20

static struct kg_ice_entry *find(struct kg_ice_agent *agent, const uint8_t *id)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->running && memcmp(p->check.id, id, KG_STUN_ID) == 0)
            return p;
    }
    return NULL;
}

/* Discovers a peer-reflexive local candidate (7.2.5.3.1): what the peer saw is none of ours. */
uint16_t kg_ice_seen_as(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                        const struct kg_addr *mapped)
{
    const struct kg_addr *base = &agent->local[pair->local].candidate.related;
    uint16_t seen = kg_ice_local_by_addr(agent, pair->stream, pair->component, mapped, base);

    if (seen != KG_ICE_NONE)
        return seen;
    struct kg_candidate candidate = {
        .type = KG_CANDIDATE_PRFLX,
        .component = pair->component,
        .priority = kg_ice_prflx_priority(agent, pair->local),
        .addr = *mapped,
        .related = *base,
    };
    kg_candidate_foundation(KG_CANDIDATE_PRFLX, base, NULL, candidate.foundation);
    return kg_ice_local_put(agent, pair->stream, &candidate);
}

/* The peer saw us as `mapped` on this pair. */
static void won(struct kg_ice_agent *agent, struct kg_ice_entry *pair, const struct kg_addr *mapped,
                int64_t sent_ms)
{
    struct kg_ice_component *component = kg_ice_component_find(agent, pair->stream, pair->component);
    bool nominated = agent->controlling
                         ? pair->running && pair->check_nominates && pair->nominate
                         : pair->peer_nominates && !pair->nominated; /* each nomination counts once */
    bool moved = pair->won_ms < 0 || nominated || pair->challenged;

    kg_ice_check_stop(pair);
    pair->ticket = 0;
    pair->state = KG_PAIR_SUCCEEDED;
    pair->valid = true;
    pair->demoted = false;
    pair->challenged = false;
    pair->reason = NULL;
    pair->proven_ms = agent->now_ms;
    pair->rtt_ms = (int32_t)(agent->now_ms - sent_ms);
    pair->responses++;
    if (pair->won_ms < 0)
        pair->won_ms = (int32_t)(agent->now_ms - agent->start_ms);
    pair->seen = kg_ice_seen_as(agent, pair, mapped);
    if (agent->remote[pair->remote].candidate.type == KG_CANDIDATE_PRFLX)
        component->unproven = 0;
    if (component->first_valid_ms == INT64_MAX)
        component->first_valid_ms = agent->now_ms;
    agent->thaw = true; /* 7.2.5.3.3 */
    if (nominated) {
        pair->nominate = false;
        kg_ice_nominated(agent, pair);
    }
    bool follows = pair->sends && kg_ice_follow(agent, pair);
    if (pair->roaming && !follows)
        kg_ice_doubt(agent, pair, moved);
    pair->roaming = pair->sends = false;
}

static void refused(struct kg_ice_agent *agent, struct kg_ice_entry *pair, int code)
{
    switch (code) {
    case 487: /* 7.2.5.1 */
        if (++agent->refusals > ROLE_REFUSALS_MAX) {
            kg_ice_pair_fail(agent, pair, "the peer accepts us in neither role (487)");
            break;
        }
        kg_ice_check_stop(pair);
        if (pair->check_controlling == agent->controlling) {
            agent->counters.role_conflicts++;
            kg_ice_switch_role(agent, !agent->controlling);
            agent->settings.random(agent->settings.random_ctx, &agent->tie_breaker,
                                   sizeof agent->tie_breaker);
        }
        if (pair->state != KG_PAIR_SUCCEEDED)
            kg_ice_trigger(agent, pair);
        break;
    case 400:
        kg_ice_pair_fail(agent, pair, "the peer calls our check malformed (400)");
        break;
    case 401:
        kg_ice_pair_fail(agent, pair, "the peer does not accept our user name or password (401)");
        break;
    case 420:
        kg_ice_pair_fail(agent, pair, "the peer does not know an attribute of our check (420)");
        break;
    default:
        kg_ice_pair_fail(agent, pair, "the peer answered with an error");
    }
}

static bool is_right(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                     const struct kg_stun_message *message)
{
    const struct kg_ice_stream *stream = kg_ice_stream_find(agent, pair->stream);
    const char *pwd = (pair->old ? &stream->before : &stream->session)->remote->pwd;

    if (kg_stun_check_integrity(message, pwd, strlen(pwd)) == KG_STUN_INTEGRITY_RIGHT)
        return true;
    agent->counters.bad_integrity++;
    return false;
}

bool kg_ice_answer(struct kg_ice_agent *agent, const struct kg_addr *base, const struct kg_addr *source,
                   const struct kg_stun_message *message)
{
    struct kg_ice_entry *pair = find(agent, message->id);
    struct kg_addr mapped;
    uint16_t unknown;
    int code;

    if (pair == NULL)
        return kg_ice_consent_answer(agent, base, source, message) ||
               kg_ice_gather_answer(agent, source, message);
    if (!is_right(agent, pair, message))
        return false;
    /* An answer that needs what we do not know is none (RFC 8489 6.3.3). */
    if (kg_stun_unknown(message, &unknown, 1) > 0)
        return false;
    agent->counters.responses_in++;
    if (message->class == KG_STUN_ERROR && kg_stun_get_error(message, &code, NULL, NULL) && code == 487) {
        refused(agent, pair, code); /* 7.2.5.1: before the way it came is looked at */
        return true;
    }
    /* 7.2.5.2.1: it must come back the way it went. */
    if (!kg_addr_equal(source, &agent->remote[pair->remote].candidate.addr) ||
        !kg_addr_equal(base, &agent->local[pair->local].candidate.related)) {
        kg_ice_pair_fail(agent, pair, "answered from another address than was asked");
        return true;
    }
    if (message->class == KG_STUN_ERROR) {
        if (kg_stun_get_error(message, &code, NULL, NULL))
            refused(agent, pair, code);
        return true;
    }
    if (!kg_stun_get_address(message, KG_STUN_XOR_MAPPED_ADDRESS, &mapped) || !kg_addr_is_usable(&mapped))
        return false;
    won(agent, pair, &mapped, pair->check.sent_ms);
    return true;
}
