/* The datagrams of the agent (RFC 8445 7.1). SHA1 integrity is what every ICE peer knows; SHA256 beside it
 * would only make the message larger. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "ice/agent/agent_state.h"

void kg_ice_id(struct kg_ice_agent *agent, uint8_t out[static KG_STUN_ID])
{
    agent->settings.random(agent->settings.random_ctx, out, KG_STUN_ID);
}

static const struct kg_ice_session *session_of(const struct kg_ice_agent *agent,
                                               const struct kg_ice_entry *pair)
{
    const struct kg_ice_stream *stream = kg_ice_stream_find(agent, pair->stream);

    return pair->old ? &stream->before : &stream->session;
}

static void address(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                    struct kg_ice_datagram *out)
{
    out->stream = pair->stream;
    out->component = pair->component;
    out->from = agent->local[pair->local].candidate.related;
    out->to = agent->remote[pair->remote].candidate.addr;
}

/* USERNAME: the peer's ufrag, ours (7.2.2). */
static void put_username(struct kg_stun_writer *w, const struct kg_ice_session *session)
{
    char name[2 * KG_ICE_CREDENTIAL_MAX + 2];
    int len = snprintf(name, sizeof name, "%s:%s", session->remote->ufrag, session->local->ufrag);

    kg_stun_put(w, KG_STUN_USERNAME, name, (size_t)len);
}

void kg_ice_compose_check(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                          const uint8_t id[static KG_STUN_ID], bool controlling, bool nominate,
                          struct kg_ice_datagram *out)
{
    const struct kg_ice_session *session = session_of(agent, pair);
    struct kg_stun_writer w;

    address(agent, pair, out);
    kg_stun_begin(&w, out->data, sizeof out->data, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    put_username(&w, session);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, kg_ice_prflx_priority(agent, pair->local));
    kg_stun_put_u64(&w, controlling ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED, agent->tie_breaker);
    if (nominate && controlling)
        kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_integrity(&w, session->remote->pwd, strlen(session->remote->pwd));
    kg_stun_put_fingerprint(&w);
    out->len = kg_stun_end(&w);
    agent->counters.requests_out++;
}

void kg_ice_compose_keepalive(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                              struct kg_ice_datagram *out)
{
    const struct kg_ice_session *session = session_of(agent, pair);
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];

    kg_ice_id(agent, id);
    address(agent, pair, out);
    kg_stun_begin(&w, out->data, sizeof out->data, KG_STUN_INDICATION, KG_STUN_BINDING, id);
    put_username(&w, session);
    kg_stun_put_integrity(&w, session->remote->pwd, strlen(session->remote->pwd));
    kg_stun_put_fingerprint(&w);
    out->len = kg_stun_end(&w);
}

void kg_ice_compose_query(struct kg_ice_agent *agent, const struct kg_ice_query *query,
                          struct kg_ice_datagram *out)
{
    const struct kg_ice_local *local = &agent->local[query->local];
    struct kg_stun_writer w;

    out->stream = local->stream;
    out->component = local->candidate.component;
    out->from = local->candidate.related;
    out->to = agent->server[query->server];
    kg_stun_begin(&w, out->data, sizeof out->data, KG_STUN_REQUEST, KG_STUN_BINDING, query->transaction.id);
    kg_stun_put_fingerprint(&w);
    out->len = kg_stun_end(&w);
    agent->counters.requests_out++;
}

static const char *phrase(uint16_t code)
{
    switch (code) {
    case 400:
        return "Bad Request";
    case 420:
        return "Unknown Attribute";
    case 487:
        return "Role Conflict";
    default:
        return "Error";
    }
}

bool kg_ice_compose_reply(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    struct kg_stun_writer w;

    if (agent->reply_count == 0)
        return false;
    const struct kg_ice_reply *reply = &agent->reply[agent->reply_first];
    agent->reply_first = (uint8_t)((agent->reply_first + 1) % KG_ICE_REPLIES);
    agent->reply_count--;
    out->stream = reply->stream;
    out->component = reply->component;
    out->from = reply->base;
    out->to = reply->to;
    kg_stun_begin(&w, out->data, sizeof out->data, reply->code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR,
                  KG_STUN_BINDING, reply->id);
    if (reply->code == 0)
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &reply->to);
    else
        kg_stun_put_error(&w, reply->code, phrase(reply->code));
    if (reply->code == 420) {
        uint16_t type = htons(reply->unknown);
        kg_stun_put(&w, KG_STUN_UNKNOWN_ATTRIBUTES, &type, sizeof type);
    }
    kg_stun_put_integrity(&w, reply->local->pwd, strlen(reply->local->pwd));
    kg_stun_put_fingerprint(&w);
    out->len = kg_stun_end(&w);
    agent->counters.responses_out++;
    return true;
}
