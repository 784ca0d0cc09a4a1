/* Is the peer still there, and does it still want what we send (RFC 7675)? On selected pairs only. Where
 * consent is off: keepalives (RFC 8445 11). */
#include <string.h>

#include "ice/agent/agent_state.h"

/* When the peer is found on another pair, the selected one is asked every KG_DOUBT_INTERVAL_MS, and given up
 * if nothing is answered within that and two round trips. A peer that nominates there or was never seen there
 * has probably moved; one that only checks a pair that worked before has so only if consent was not answered
 * either, and is given more time. */
#define KG_DOUBT_INTERVAL_MS  150
#define KG_DOUBT_MOVED        5 /* questions */
#define KG_DOUBT_SEEN         12
#define KG_DOUBT_MOVED_AGE_MS 1000 /* not while the latest answer is younger */

/* A consent check without answer is repeated so often, RTO and twice RTO later: on a line that loses a third
 * of all packets each way, six checks in 30 s would otherwise all be lost in one of a hundred. */
#define KG_CONSENT_REPEATS 2

static bool is_on(const struct kg_ice_agent *agent)
{
    return !agent->settings.no_consent && !agent->settings.lite;
}

/* RFC 7675 5.1: 0.8 to 1.2 times the period. */
static int64_t jittered(struct kg_ice_agent *agent, uint32_t period)
{
    uint32_t random;

    agent->settings.random(agent->settings.random_ctx, &random, sizeof random);
    return (int64_t)period * (800 + random % 401) / 1000;
}

void kg_ice_consent_begin(struct kg_ice_agent *agent, struct kg_ice_component *component)
{
    component->doubt_ms = INT64_MIN;
    component->repeat_ms = INT64_MAX;
    component->consent_ms = agent->now_ms + agent->settings.keepalive_ms;
    if (!is_on(agent))
        return;
    /* The period runs from the latest answer, which may be old: then the first question is due at once. */
    component->consent_ms =
        agent->pair[component->selected].proven_ms + jittered(agent, agent->settings.consent_ms);
    if (component->consent_ms < agent->now_ms)
        component->consent_ms = agent->now_ms;
}

void kg_ice_doubt(struct kg_ice_agent *agent, struct kg_ice_entry *found, bool moved)
{
    struct kg_ice_component *component = kg_ice_component_find(agent, found->stream, found->component);
    if (kg_ice_follows(agent, found) && kg_ice_follow(agent, found))
        return;
    int64_t age_ms = moved ? KG_DOUBT_MOVED_AGE_MS : (int64_t)agent->settings.consent_ms * 3 / 2;

    if (component->selected == KG_ICE_NONE || &agent->pair[component->selected] == found ||
        agent->settings.lite || agent->now_ms - agent->pair[component->selected].proven_ms < age_ms)
        return;
    if (component->doubt_ms == INT64_MIN) {
        component->doubt_ms = agent->now_ms;
        component->doubts = 0;
        component->doubts_max = KG_DOUBT_SEEN;
        component->found = (uint16_t)(found - agent->pair);
    }
    if (moved) {
        component->doubts_max = KG_DOUBT_MOVED;
        component->found = (uint16_t)(found - agent->pair);
    }
}

static int64_t question_at(const struct kg_ice_component *component)
{
    if (component->doubt_ms == INT64_MIN || component->doubts >= component->doubts_max)
        return INT64_MAX;
    return component->doubt_ms + component->doubts * KG_DOUBT_INTERVAL_MS;
}

static int64_t doubt_end(const struct kg_ice_agent *agent, const struct kg_ice_component *component)
{
    if (component->doubt_ms == INT64_MIN)
        return INT64_MAX;
    int64_t round_trips = 2 * (int64_t)agent->pair[component->selected].rtt_ms;
    int64_t last = component->doubts_max * KG_DOUBT_INTERVAL_MS;
    return component->doubt_ms + last +
           (round_trips > KG_DOUBT_INTERVAL_MS ? round_trips : KG_DOUBT_INTERVAL_MS);
}

static uint32_t rto(const struct kg_ice_agent *agent, const struct kg_ice_component *component)
{
    int32_t longer = agent->pair[component->selected].rtt_ms * 3 / 2;

    return longer > (int32_t)agent->settings.rto_ms ? (uint32_t)longer : agent->settings.rto_ms;
}

/* When anything is to be sent on the selected pair: consent, its repetition, a question of doubt. */
static int64_t ask_at(const struct kg_ice_agent *agent, const struct kg_ice_component *component)
{
    int64_t at = question_at(component);

    if (component->repeat_ms < at)
        at = component->repeat_ms;
    return component->consent_ms < at && is_on(agent) ? component->consent_ms : at;
}

/* Where the peer answers on another pair that worked before, the selected one need not expire first: that
 * pair raises doubt when it succeeds. */
static void look_elsewhere(struct kg_ice_agent *agent, const struct kg_ice_entry *selected)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p == selected || !p->valid || p->old || p->running || p->stream != selected->stream ||
            p->component != selected->component)
            continue;
        p->roaming = true;
        kg_ice_trigger(agent, p);
    }
}

/* Sends the latest check once more, or a new one. The first sending counts for the round trip. */
static void ask(struct kg_ice_agent *agent, struct kg_ice_component *component, struct kg_ice_datagram *out)
{
    struct kg_ice_entry *pair = &agent->pair[component->selected];
    bool doubts = question_at(component) <= agent->now_ms;
    bool repeats = doubts ? component->doubts > 0 : component->consent_ms > agent->now_ms;

    if (component->asked != component->selected) {
        component->asked = component->selected;
        memset(component->sent_ms, 0xff, sizeof component->sent_ms); /* -1: no question */
        repeats = false;
    }
    if (!repeats) {
        uint8_t fresh = component->next_id++ % KG_ICE_CONSENT_IDS;
        kg_ice_id(agent, component->id[fresh]);
        component->sent_ms[fresh] = agent->now_ms;
    }
    uint8_t slot = (uint8_t)(component->next_id - 1) % KG_ICE_CONSENT_IDS;
    kg_ice_compose_check(agent, pair, component->id[slot], agent->controlling, false, out);
    pair->requests++;
    if (doubts) {
        component->doubts++;
    } else if (repeats) {
        component->repeats++;
        component->repeat_ms = component->repeats < KG_CONSENT_REPEATS
                                   ? agent->now_ms + 2 * (int64_t)rto(agent, component)
                                   : INT64_MAX;
    } else {
        if (agent->now_ms - pair->proven_ms > (int64_t)agent->settings.consent_ms * 3 / 2)
            look_elsewhere(agent, pair);
        component->consent_ms = agent->now_ms + jittered(agent, agent->settings.consent_ms);
        component->repeats = 0;
        component->repeat_ms = agent->now_ms + rto(agent, component);
    }
}

/* The next component that has a selected pair, from index *at on; NULL: none. */
static struct kg_ice_component *next_selected(const struct kg_ice_agent *agent, uint16_t *at)
{
    while (*at < agent->stream_size * KG_ICE_COMPONENTS_MAX) {
        struct kg_ice_stream *stream = &agent->stream[*at / KG_ICE_COMPONENTS_MAX];
        struct kg_ice_component *component = &stream->component[(*at)++ % KG_ICE_COMPONENTS_MAX];
        if (stream->used && component->active && component->selected != KG_ICE_NONE)
            return component;
    }
    return NULL;
}

bool kg_ice_poll_consent(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    struct kg_ice_component *component;

    for (uint16_t at = 0; (component = next_selected(agent, &at)) != NULL;) {
        if (ask_at(agent, component) > agent->now_ms)
            continue;
        ask(agent, component, out);
        return true;
    }
    return false;
}

bool kg_ice_poll_keepalive(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    struct kg_ice_component *component;

    if (is_on(agent))
        return false;
    for (uint16_t at = 0; (component = next_selected(agent, &at)) != NULL;)
        if (component->consent_ms <= agent->now_ms) {
            component->consent_ms = agent->now_ms + agent->settings.keepalive_ms;
            kg_ice_compose_keepalive(agent, &agent->pair[component->selected], out);
            return true;
        }
    return false;
}

static void lose(struct kg_ice_agent *agent, struct kg_ice_component *component)
{
    struct kg_ice_entry *pair = &agent->pair[component->selected];

    component->tell_lost = true;
    component->doubt_ms = INT64_MIN;
    kg_ice_pair_fail(agent, pair, "consent expired: the peer answers no more");
    pair->expired = true;
}

void kg_ice_expire_consent(struct kg_ice_agent *agent)
{
    struct kg_ice_component *component;

    for (uint16_t at = 0; (component = next_selected(agent, &at)) != NULL;) {
        struct kg_ice_entry *pair = &agent->pair[component->selected];
        if (is_on(agent) && pair->valid && !kg_ice_pair_alive(agent, pair)) {
            lose(agent, component);
            continue;
        }
        if (doubt_end(agent, component) > agent->now_ms)
            continue;
        if (pair->proven_ms < component->doubt_ms)
            kg_ice_demote(agent, pair, &agent->pair[component->found]);
        component->doubt_ms = INT64_MIN;
    }
}

int64_t kg_ice_consent_due(const struct kg_ice_agent *agent)
{
    const struct kg_ice_component *component;
    int64_t due = INT64_MAX;

    for (uint16_t at = 0; (component = next_selected(agent, &at)) != NULL;) {
        const struct kg_ice_entry *pair = &agent->pair[component->selected];
        int64_t ask_ms = ask_at(agent, component);
        if (!is_on(agent) && component->consent_ms < ask_ms)
            ask_ms = component->consent_ms; /* keepalive */
        if (ask_ms < agent->slot_ms)
            ask_ms = agent->slot_ms;
        int64_t end = is_on(agent) ? pair->proven_ms + agent->settings.consent_expiry_ms : INT64_MAX;
        int64_t doubt = doubt_end(agent, component);
        due = ask_ms < due ? ask_ms : due;
        due = end < due ? end : due;
        due = doubt < due ? doubt : due;
    }
    return due;
}

bool kg_ice_consent_answer(struct kg_ice_agent *agent, const struct kg_addr *base,
                           const struct kg_addr *source, const struct kg_stun_message *message)
{
    for (uint16_t i = 0; i < agent->stream_size; i++)
        for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
            struct kg_ice_stream *stream = &agent->stream[i];
            struct kg_ice_component *component = &stream->component[c];
            if (!stream->used || !component->active || component->asked == KG_ICE_NONE)
                continue;
            int slot = 0;
            while (slot < KG_ICE_CONSENT_IDS && (component->sent_ms[slot] < 0 ||
                                                 memcmp(component->id[slot], message->id, KG_STUN_ID) != 0))
                slot++;
            if (slot == KG_ICE_CONSENT_IDS)
                continue;
            struct kg_ice_entry *pair = &agent->pair[component->asked];
            struct kg_addr mapped;
            const char *pwd = (pair->old ? &stream->before : &stream->session)->remote->pwd;
            if (kg_stun_check_integrity(message, pwd, strlen(pwd)) != KG_STUN_INTEGRITY_RIGHT) {
                agent->counters.bad_integrity++;
                return false;
            }
            agent->counters.responses_in++;
            if (message->class != KG_STUN_SUCCESS || pair->expired ||
                !kg_addr_equal(source, &agent->remote[pair->remote].candidate.addr) ||
                !kg_addr_equal(base, &agent->local[pair->local].candidate.related))
                return true;
            /* Our NAT may have given us another port since (RFC 4787 4.1). */
            if (kg_stun_get_address(message, KG_STUN_XOR_MAPPED_ADDRESS, &mapped) &&
                kg_addr_is_usable(&mapped))
                pair->seen = kg_ice_seen_as(agent, pair, &mapped);
            pair->proven_ms = agent->now_ms;
            pair->rtt_ms = (int32_t)(agent->now_ms - component->sent_ms[slot]);
            pair->responses++;
            component->sent_ms[slot] = -1;
            if (component->asked == component->selected) {
                component->doubt_ms = INT64_MIN;
                component->repeat_ms = INT64_MAX;
            } else if (pair->demoted)
                kg_ice_pair_revive(agent, pair);
            return true;
        }
    return false;
}
