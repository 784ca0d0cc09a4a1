/* The server side of connectivity checks (RFC 8445 7.3). Nothing happens before the integrity is right, and a
 * request without it is not answered at all. */
#include <string.h>

#include "ice/agent/agent_state.h"

/* Whom the USERNAME names. */
enum whose {
    STRANGER,
    CURRENT, /* both ufrags of this session */
    BEFORE,  /* of the session before the restart */
    EARLY,   /* our ufrag, and a peer's that no description has told yet */
};

struct user {
    const char *ours, *theirs;
    size_t ours_len, theirs_len;
};

static bool is(const char *ufrag, const char *text, size_t len)
{
    return strlen(ufrag) == len && memcmp(ufrag, text, len) == 0;
}

static bool names(const struct kg_ice_session *session, const struct user *user)
{
    return session->local != NULL && is(session->local->ufrag, user->ours, user->ours_len) &&
           is(session->remote->ufrag, user->theirs, user->theirs_len);
}

static enum whose identify(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream,
                           const struct user *user, const struct kg_ice_credentials **local)
{
    if (names(&stream->session, user)) {
        *local = stream->session.local;
        return CURRENT;
    }
    if (names(&stream->before, user)) {
        *local = stream->before.local;
        return BEFORE;
    }
    *local = agent->local_credentials;
    if (*local != NULL && is((*local)->ufrag, user->ours, user->ours_len))
        return EARLY;
    *local = stream->session.local;
    return *local != NULL && is((*local)->ufrag, user->ours, user->ours_len) ? EARLY : STRANGER;
}

static void reply(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                  const struct kg_stun_message *message, const struct kg_ice_credentials *credentials,
                  uint16_t code, uint16_t unknown)
{
    if (agent->reply_count == KG_ICE_REPLIES) { /* nobody polled: the oldest goes */
        agent->reply_first = (uint8_t)((agent->reply_first + 1) % KG_ICE_REPLIES);
        agent->reply_count--;
    }
    struct kg_ice_reply *r = &agent->reply[(agent->reply_first + agent->reply_count++) % KG_ICE_REPLIES];
    *r = (struct kg_ice_reply){
        .stream = agent->local[local].stream,
        .component = agent->local[local].candidate.component,
        .code = code,
        .unknown = unknown,
        .base = agent->local[local].candidate.related,
        .to = *source,
        .local = credentials,
    };
    memcpy(r->id, message->id, sizeof r->id);
}

void kg_ice_switch_role(struct kg_ice_agent *agent, bool controlling)
{
    if (agent->controlling == controlling)
        return;
    agent->controlling = controlling;
    agent->tell_role = true;
    kg_ice_prioritize(agent);
    /* A controlled agent nominates nothing. Checks under way told the other role, and to repeat them with a
     * new tie-breaker would raise the conflict again: they begin anew. */
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        p->nominate = false;
        if (!p->running || p->old)
            continue;
        kg_ice_check_stop(p);
        if (p->state != KG_PAIR_SUCCEEDED)
            kg_ice_trigger(agent, p);
    }
}

/* RFC 8445 7.3.1.1. False: 487. */
static bool settle_roles(struct kg_ice_agent *agent, const struct kg_stun_message *message)
{
    uint64_t theirs;

    if (agent->settings.lite && !agent->controlling)
        return true;
    if (agent->controlling && kg_stun_get_u64(message, KG_STUN_ICE_CONTROLLING, &theirs)) {
        agent->counters.role_conflicts++;
        if (agent->tie_breaker >= theirs)
            return false;
        kg_ice_switch_role(agent, false);
    } else if (!agent->controlling && kg_stun_get_u64(message, KG_STUN_ICE_CONTROLLED, &theirs)) {
        agent->counters.role_conflicts++;
        if (agent->tie_breaker < theirs)
            return false;
        kg_ice_switch_role(agent, true);
    }
    return true;
}

/* An authenticated check of this session: peer-reflexive candidate (7.3.1.3), triggered check (7.3.1.4),
 * nomination (7.3.1.5). */
void kg_ice_heard(struct kg_ice_agent *agent, struct kg_ice_stream *stream, uint16_t local,
                  const struct kg_addr *source, uint32_t priority, bool use_candidate)
{
    uint8_t component_number = agent->local[local].candidate.component;
    struct kg_ice_component *component = &stream->component[component_number - 1];
    uint16_t remote = kg_ice_remote_find(agent, stream->number, component_number, source);

    if (remote == KG_ICE_NONE && component->unproven < KG_ICE_UNPROVEN) {
        component->unproven++;
        remote = kg_ice_remote_prflx(agent, stream->number, component_number, source, priority);
    }
    if (remote == KG_ICE_NONE)
        return;
    struct kg_ice_entry *pair = kg_ice_pair_put(agent, local, remote);
    if (pair == NULL || pair->expired || !kg_ice_pair_admit(agent, pair))
        return;
    if (agent->settings.lite) {
        kg_ice_lite_heard(agent, pair, use_candidate);
        return;
    }
    if (!stream->heard)
        kg_ice_check_afresh(agent, stream->number);
    stream->heard = true;
    bool settled = component->selected != KG_ICE_NONE && agent->pair[component->selected].nominated &&
                   &agent->pair[component->selected] != pair;
    bool nominates = use_candidate && !agent->controlling;
    if (kg_ice_pair_alive(agent, pair) && !pair->demoted) {
        if (nominates && !pair->nominated)
            kg_ice_nominated(agent, pair);
        if (settled)
            kg_ice_doubt(agent, pair, nominates);
        return;
    }
    if (settled)
        pair->roaming = true;
    pair->challenged = false;
    if (nominates)
        pair->peer_nominates = true;
    kg_ice_trigger(agent, pair);
}

static bool split_username(const struct kg_stun_message *message, struct user *user)
{
    const struct kg_stun_value *name = kg_stun_find(message, KG_STUN_USERNAME);

    if (name == NULL)
        return false;
    const char *text = (const char *)name->data;
    const char *colon = memchr(text, ':', name->len);
    if (colon == NULL)
        return false;
    *user = (struct user){.ours = text, .ours_len = (size_t)(colon - text), .theirs = colon + 1};
    user->theirs_len = name->len - user->ours_len - 1;
    return true;
}

bool kg_ice_respond(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                    const struct kg_stun_message *message)
{
    struct kg_ice_stream *stream = kg_ice_stream_find(agent, agent->local[local].stream);
    uint8_t component = agent->local[local].candidate.component;
    const struct kg_ice_credentials *credentials;
    struct user user;
    uint16_t unknown;
    uint32_t priority;

    if (stream == NULL || !stream->component[component - 1].active || !kg_addr_is_usable(source))
        return false;
    enum whose whose = STRANGER;
    if (split_username(message, &user))
        whose = identify(agent, stream, &user, &credentials);
    if (whose == STRANGER) {
        agent->counters.unknown_user++;
        return false;
    }
    if (kg_stun_check_integrity(message, credentials->pwd, strlen(credentials->pwd)) !=
        KG_STUN_INTEGRITY_RIGHT) {
        agent->counters.bad_integrity++;
        return false;
    }
    if (kg_ice_is_replayed(agent, local, source, message->id)) {
        agent->counters.replays++;
        return false;
    }
    agent->counters.requests_in++;
    if (kg_stun_unknown(message, &unknown, 1) > 0) {
        reply(agent, local, source, message, credentials, 420, unknown);
        return true;
    }
    if (!kg_stun_get_u32(message, KG_STUN_PRIORITY, &priority) || priority == 0) {
        reply(agent, local, source, message, credentials, 400, 0);
        return true;
    }
    if (whose != BEFORE && !settle_roles(agent, message)) {
        reply(agent, local, source, message, credentials, 487, 0);
        return true;
    }
    /* The peer's description came before ours was changed (a candidate in INFO overtook the offer): now it is
     * known that both new ones belong together. */
    if (whose == EARLY && credentials == agent->local_credentials && stream->described &&
        is(stream->session.remote->ufrag, user.theirs, user.theirs_len)) {
        kg_ice_session_renew(agent, &stream->session);
        whose = CURRENT;
    }
    reply(agent, local, source, message, credentials, 0, 0);
    bool use_candidate = kg_stun_find(message, KG_STUN_USE_CANDIDATE) != NULL;
    if (whose == CURRENT)
        kg_ice_heard(agent, stream, local, source, priority, use_candidate);
    else if (whose == EARLY)
        kg_ice_early_put(agent, local, source, priority, use_candidate, user.theirs, user.theirs_len);
    return true;
}
