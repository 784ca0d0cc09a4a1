/* The life of an agent: what its owner tells it, restart included, and the order in which poll works. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ice/agent/agent_state.h"

#define TA_MS        50    /* RFC 8445 14.2 */
#define RTO_MS       500   /* RFC 8445 14.3 */
#define PATIENCE_MS  39500 /* RFC 8863 4 */
#define NOMINATE_MS  400
#define CONSENT_MS   5000  /* RFC 7675 5.1 */
#define EXPIRY_MS    30000 /* RFC 7675 5.1 */
#define KEEPALIVE_MS 15000 /* RFC 8445 11 */
/* What the peer sent before it heard of a nomination has arrived so long after it. */
#define NOMINATION_HEARD_MS 1000

static void set_default(uint32_t *value, uint32_t standard)
{
    if (*value == 0)
        *value = standard;
}

struct kg_ice_agent *kg_ice_agent_new(const struct kg_ice_settings *settings)
{
    struct kg_ice_agent *agent = calloc(1, sizeof *agent);

    if (agent == NULL)
        return NULL;
    agent->settings = *settings;
    set_default(&agent->settings.ta_ms, TA_MS);
    set_default(&agent->settings.rto_ms, RTO_MS);
    set_default(&agent->settings.patience_ms, PATIENCE_MS);
    set_default(&agent->settings.nominate_ms, NOMINATE_MS);
    set_default(&agent->settings.consent_ms, CONSENT_MS);
    set_default(&agent->settings.consent_expiry_ms, EXPIRY_MS);
    set_default(&agent->settings.keepalive_ms, KEEPALIVE_MS);
    agent->ta_ms = agent->settings.ta_ms;
    agent->controlling = settings->controlling;
    agent->due_ms = INT64_MAX;
    agent->slot_ms = INT64_MIN;
    settings->random(settings->random_ctx, &agent->tie_breaker, sizeof agent->tie_breaker);
    return agent;
}

void kg_ice_agent_free(struct kg_ice_agent *agent)
{
    if (agent == NULL)
        return;
    for (uint16_t i = 0; i < agent->stream_size; i++) {
        kg_ice_session_free(agent, &agent->stream[i].session);
        kg_ice_session_free(agent, &agent->stream[i].before);
    }
    free(agent->local_credentials);
    free(agent->stream);
    free(agent->local);
    free(agent->remote);
    free(agent->pair);
    free(agent->query);
    free(agent);
}

void kg_ice_touch(struct kg_ice_agent *agent)
{
    agent->due_ms = agent->now_ms;
}

static void set_now(struct kg_ice_agent *agent, int64_t now_ms)
{
    if (now_ms > agent->now_ms)
        agent->now_ms = now_ms;
}

/* ---- credentials ---- */

static struct kg_ice_credentials *credentials_new(const char *ufrag, const char *pwd)
{
    size_t ufrag_size = strlen(ufrag) + 1, pwd_size = strlen(pwd) + 1;
    struct kg_ice_credentials *c = malloc(sizeof *c + ufrag_size + pwd_size);

    if (c == NULL)
        return NULL;
    memcpy(c->text, ufrag, ufrag_size);
    memcpy(c->text + ufrag_size, pwd, pwd_size);
    c->keepers = 1;
    c->ufrag = c->text;
    c->pwd = c->text + ufrag_size;
    return c;
}

/* Responses that wait for the next poll must not be signed with a password that is gone. */
static void credentials_free(struct kg_ice_agent *agent, struct kg_ice_credentials *credentials)
{
    if (credentials == NULL || --credentials->keepers > 0)
        return;
    for (uint8_t i = 0; i < agent->reply_count; i++)
        if (agent->reply[(agent->reply_first + i) % KG_ICE_REPLIES].local == credentials)
            agent->reply_count = i;
    free(credentials);
}

int kg_ice_session_new(struct kg_ice_agent *agent, struct kg_ice_session *session,
                       const struct kg_ice_description *remote)
{
    session->remote = credentials_new(remote->ufrag, remote->pwd);
    if (session->remote == NULL)
        return ENOMEM;
    session->local = agent->local_credentials;
    session->local->keepers++;
    return 0;
}

void kg_ice_session_renew(struct kg_ice_agent *agent, struct kg_ice_session *session)
{
    credentials_free(agent, session->local);
    session->local = agent->local_credentials;
    session->local->keepers++;
}

void kg_ice_session_free(struct kg_ice_agent *agent, struct kg_ice_session *session)
{
    credentials_free(agent, session->local);
    credentials_free(agent, session->remote);
    session->local = session->remote = NULL;
}

int kg_ice_set_local(struct kg_ice_agent *agent, const char *ufrag, const char *pwd)
{
    if (!kg_ice_is_ufrag(ufrag, strlen(ufrag)) || !kg_ice_is_pwd(pwd, strlen(pwd)))
        return EINVAL;
    struct kg_ice_credentials *c = credentials_new(ufrag, pwd);
    if (c == NULL)
        return ENOMEM;
    credentials_free(agent, agent->local_credentials);
    agent->local_credentials = c;
    return 0;
}

void kg_ice_set_peer(struct kg_ice_agent *agent, const struct kg_addr *signalling)
{
    agent->peer = *signalling;
}

int kg_ice_restart(struct kg_ice_agent *agent, const char *ufrag, const char *pwd, int64_t now_ms)
{
    set_now(agent, now_ms);
    kg_ice_gather_again(agent);
    kg_ice_touch(agent);
    return kg_ice_set_local(agent, ufrag, pwd);
}

/* ---- streams and sockets ---- */

static void component_init(struct kg_ice_component *component, bool active)
{
    *component = (struct kg_ice_component){
        .active = active,
        .selected = KG_ICE_NONE,
        .asked = KG_ICE_NONE,
        .first_valid_ms = INT64_MAX,
        .nominated_ms = INT64_MAX,
        .doubt_ms = INT64_MIN,
        .repeat_ms = INT64_MAX,
        .challenge_ms = INT64_MIN,
    };
}

int kg_ice_add_stream(struct kg_ice_agent *agent, uint8_t stream, uint8_t components)
{
    struct kg_ice_stream *slot = NULL;

    if (stream >= KG_ICE_STREAMS_MAX || components < 1 || components > KG_ICE_COMPONENTS_MAX)
        return ENOSPC;
    if (kg_ice_stream_find(agent, stream) != NULL)
        return 0;
    for (uint16_t i = 0; i < agent->stream_size && slot == NULL; i++)
        if (!agent->stream[i].used)
            slot = &agent->stream[i];
    if (slot == NULL) {
        struct kg_ice_stream *larger = realloc(agent->stream, (agent->stream_size + 1u) * sizeof *larger);
        if (larger == NULL)
            return ENOMEM;
        agent->stream = larger;
        slot = &agent->stream[agent->stream_size++];
    }
    memset(slot, 0, sizeof *slot);
    slot->used = true;
    slot->number = stream;
    slot->moved_ms = INT64_MIN;
    component_init(&slot->component[0], true);
    component_init(&slot->component[1], components == 2 && !agent->settings.rtcp_mux);
    return 0;
}

int kg_ice_add_local(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                     enum kg_candidate_type type, const struct kg_addr *addr, const struct kg_addr *base,
                     uint16_t preference, const struct kg_addr *server)
{
    struct kg_ice_stream *s = kg_ice_stream_find(agent, stream);
    struct kg_candidate candidate = {
        .type = (uint8_t)type,
        .component = component,
        .priority = kg_candidate_priority(type, preference, component),
        .addr = *addr,
        .related = *base,
    };

    if (kg_ice_component_find(agent, stream, component) == NULL)
        return 0; /* rtcp-mux, or a line that was rejected: nothing to do with this socket */
    if (kg_ice_local_by_addr(agent, stream, component, addr, base) != KG_ICE_NONE)
        return 0;
    int error = kg_ice_reserve(agent, 1, 0, kg_ice_count_remotes(agent, stream));
    if (error != 0)
        return error;
    kg_candidate_foundation(type, base, server, candidate.foundation);
    if (kg_ice_local_put(agent, stream, &candidate) == KG_ICE_NONE)
        return ENOSPC;
    if (s->described)
        kg_ice_form_pairs(agent, s);
    error = agent->started ? kg_ice_gather(agent) : 0;
    kg_ice_touch(agent);
    return error;
}

int kg_ice_add_stun_server(struct kg_ice_agent *agent, const struct kg_addr *server)
{
    if (agent->server_count == KG_ICE_STUN_MAX)
        return ENOSPC;
    if (!kg_addr_is_usable(server))
        return EINVAL;
    agent->server[agent->server_count++] = *server;
    kg_ice_touch(agent);
    return agent->started ? kg_ice_gather(agent) : 0;
}

int kg_ice_start(struct kg_ice_agent *agent, int64_t now_ms)
{
    if (agent->started)
        return 0;
    set_now(agent, now_ms);
    int error = agent->settings.lite ? 0 : kg_ice_gather(agent);
    if (error != 0)
        return error;
    agent->started = true;
    agent->start_ms = agent->now_ms;
    for (uint16_t i = 0; i < agent->stream_size; i++)
        agent->stream[i].since_ms = agent->now_ms;
    kg_ice_touch(agent);
    return 0;
}

static bool is_of(const struct kg_ice_agent *agent, uint16_t local, uint8_t stream, uint8_t component)
{
    return agent->local[local].used && agent->local[local].stream == stream &&
           agent->local[local].candidate.component == component;
}

void kg_ice_drop_component(struct kg_ice_agent *agent, uint8_t stream, uint8_t component)
{
    struct kg_ice_component *c = kg_ice_component_find(agent, stream, component);

    if (c == NULL)
        return;
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->stream == stream && p->component == component)
            kg_ice_pair_drop(agent, p);
    component_init(c, false);
    for (uint16_t i = 0; i < agent->query_size;)
        if (is_of(agent, agent->query[i].local, stream, component))
            agent->query[i] = agent->query[--agent->query_size];
        else
            i++;
    for (uint16_t i = 0; i < agent->local_size; i++)
        if (is_of(agent, i, stream, component))
            agent->local[i].used = false;
    for (uint16_t i = 0; i < agent->remote_size; i++)
        if (agent->remote[i].stream == stream && agent->remote[i].candidate.component == component)
            agent->remote[i].used = false;
    for (int i = 0; i < KG_ICE_EARLY; i++)
        if (agent->early[i].stream == stream && agent->early[i].component == component)
            agent->early[i].component = 0;
    kg_ice_touch(agent);
}

void kg_ice_drop_stream(struct kg_ice_agent *agent, uint8_t stream)
{
    struct kg_ice_stream *s = kg_ice_stream_find(agent, stream);

    if (s == NULL)
        return;
    for (uint8_t c = 1; c <= KG_ICE_COMPONENTS_MAX; c++)
        kg_ice_drop_component(agent, stream, c);
    kg_ice_session_free(agent, &s->session);
    kg_ice_session_free(agent, &s->before);
    s->used = false;
}

void kg_ice_remove_local(struct kg_ice_agent *agent, const struct kg_addr *base, int64_t now_ms)
{
    set_now(agent, now_ms);
    for (uint16_t i = 0; i < agent->local_size; i++) {
        if (!agent->local[i].used || !kg_addr_equal(&agent->local[i].candidate.related, base))
            continue;
        agent->local[i].gone = true;
        for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL;
             p = kg_ice_pair_next(agent, p))
            if (p->local == i)
                kg_ice_pair_fail(agent, p, "the local address is gone");
    }
    kg_ice_touch(agent);
}

/* ---- datagrams ---- */

bool kg_ice_receive(struct kg_ice_agent *agent, const struct kg_addr *base, const struct kg_addr *source,
                    const uint8_t *data, size_t len, int64_t now_ms)
{
    struct kg_stun_message message;
    bool ours = false;

    set_now(agent, now_ms);
    uint16_t local = kg_ice_local_by_base(agent, base);
    if (local == KG_ICE_NONE)
        return false;
    switch (kg_stun_parse(data, len, &message)) {
    case KG_STUN_OK:
        break;
    case KG_STUN_MALFORMED:
        agent->counters.malformed++;
        return false;
    case KG_STUN_NOT_STUN:
        return false;
    }
    if (message.method != KG_STUN_BINDING)
        return false;
    switch (message.class) {
    case KG_STUN_REQUEST:
        ours = kg_ice_respond(agent, local, source, &message);
        break;
    case KG_STUN_SUCCESS:
    case KG_STUN_ERROR:
        ours = kg_ice_answer(agent, base, source, &message);
        break;
    case KG_STUN_INDICATION: /* a keepalive (RFC 8445 11): nothing to do */
        return false;
    }
    if (ours) {
        kg_ice_select(agent);
        kg_ice_touch(agent);
    }
    return ours;
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool poll_new(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    if (agent->slot_ms > agent->now_ms)
        return false;
    if (!kg_ice_poll_consent(agent, out) && !kg_ice_poll_gather(agent, true, out) &&
        !kg_ice_poll_check(agent, out))
        return false;
    agent->slot_ms = agent->now_ms + agent->ta_ms;
    return true;
}

bool kg_ice_poll(struct kg_ice_agent *agent, int64_t now_ms, struct kg_ice_datagram *out)
{
    set_now(agent, now_ms);
    if (kg_ice_compose_reply(agent, out))
        return true;
    if (!agent->started || agent->now_ms < agent->due_ms)
        return false;
    kg_ice_expire_checks(agent);
    kg_ice_expire_consent(agent);
    kg_ice_select(agent);
    kg_ice_nominate(agent);
    kg_ice_thaw(agent);
    if (kg_ice_poll_keepalive(agent, out))
        return true;
    if (agent->settings.lite) {
        agent->due_ms = kg_ice_consent_due(agent);
        return false;
    }
    if (kg_ice_poll_again(agent, out) || kg_ice_poll_gather(agent, false, out) || poll_new(agent, out))
        return true;
    agent->due_ms = earliest(earliest(kg_ice_checks_due(agent), kg_ice_consent_due(agent)),
                             earliest(kg_ice_gather_due(agent), kg_ice_nominate_due(agent)));
    return false;
}

int64_t kg_ice_next_ms(const struct kg_ice_agent *agent)
{
    if (agent->reply_count > 0)
        return agent->now_ms;
    return agent->started ? agent->due_ms : INT64_MAX;
}

void kg_ice_challenge(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                      const struct kg_addr *base, const struct kg_addr *source, int64_t now_ms)
{
    const struct kg_ice_stream *s = kg_ice_stream_find(agent, stream);
    struct kg_ice_component *c = kg_ice_component_find(agent, stream, component);
    uint16_t local = kg_ice_local_by_base(agent, base);

    set_now(agent, now_ms);
    if (c == NULL || !s->described || local == KG_ICE_NONE || agent->settings.lite ||
        agent->local[local].stream != stream || agent->local[local].candidate.component != component ||
        !kg_addr_is_usable(source))
        return;
    if (c->challenge_ms != INT64_MIN && agent->now_ms - c->challenge_ms < KG_ICE_CHALLENGE_MS)
        return;
    c->challenge_ms = agent->now_ms;
    uint32_t priority = kg_candidate_priority(KG_CANDIDATE_PRFLX, 0, component);
    uint16_t remote = kg_ice_remote_prflx(agent, stream, component, source, priority);
    struct kg_ice_entry *pair = remote != KG_ICE_NONE ? kg_ice_pair_put(agent, local, remote) : NULL;
    if (pair == NULL || pair->running || pair->ticket != 0)
        return;
    kg_ice_touch(agent);
    /* Until it has heard of the nomination the peer may send media on any valid pair (RFC 8445 12.1.1). */
    bool says_where = c->nominated_ms != INT64_MAX && agent->now_ms - c->nominated_ms >= NOMINATION_HEARD_MS;
    if (kg_ice_pair_alive(agent, pair) && !pair->demoted) {
        if (!says_where || !kg_ice_follow(agent, pair))
            kg_ice_doubt(agent, pair, true);
        return;
    }
    pair->challenged = pair->roaming = true;
    pair->sends = says_where;
    kg_ice_trigger(agent, pair);
}
