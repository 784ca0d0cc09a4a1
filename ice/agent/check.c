/* The scheduler of connectivity checks (RFC 8445 6.1.4.2, 14). */
#include "ice/agent/agent_state.h"

/* A challenge: few and quick requests, since nobody may be there (agent.h). */
#define CHALLENGE_RC 3
#define CHALLENGE_RM 4
/* A nomination: 3.5 s of requests, then anew. */
#define NOMINATION_RC 4
#define NOMINATION_RM 4

void kg_ice_check_stop(struct kg_ice_entry *pair)
{
    pair->running = false;
    pair->check.next_ms = INT64_MAX;
}

static void send_check(struct kg_ice_agent *agent, struct kg_ice_entry *pair, struct kg_ice_datagram *out)
{
    kg_ice_compose_check(agent, pair, pair->check.id, pair->check_controlling, pair->check_nominates, out);
    kg_stun_transaction_sent(&pair->check, agent->now_ms);
    pair->requests++;
}

/* A triggered check of a pair whose check is under way is the same request once more, outside of its
 * retransmissions. RFC 8445 7.3.1.4 has a new transaction in its place; where the way is longer than Ta, both
 * sides would replace theirs before any answer came, for ever. */
static void send_triggered_again(struct kg_ice_agent *agent, struct kg_ice_entry *pair,
                                 struct kg_ice_datagram *out)
{
    pair->ticket = 0;
    pair->check.sent_ms = agent->now_ms;
    kg_ice_compose_check(agent, pair, pair->check.id, pair->check_controlling, pair->check_nominates, out);
    pair->requests++;
}

bool kg_ice_poll_again(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        if (p->running && kg_stun_transaction_due(&p->check, agent->now_ms) == KG_STUN_SEND_AGAIN) {
            send_check(agent, p, out);
            return true;
        }
    return false;
}

/* RFC 8445 14.3, with N = 1: see ice/README.md. */
static uint32_t rto(const struct kg_ice_agent *agent)
{
    uint32_t active = 0;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p))
        active += p->state == KG_PAIR_WAITING || p->state == KG_PAIR_IN_PROGRESS;
    uint32_t paced = agent->ta_ms * active;
    return paced > agent->settings.rto_ms ? paced : agent->settings.rto_ms;
}

/* A nomination that gets no answer is made anew as long as consent lives: it is consent that says when the
 * pair has died. */
static bool is_renewed(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair)
{
    return pair->nominate && !agent->settings.no_consent && kg_ice_pair_alive(agent, pair);
}

static void start_check(struct kg_ice_agent *agent, struct kg_ice_entry *pair)
{
    uint8_t id[KG_STUN_ID];

    kg_ice_id(agent, id);
    if (pair->challenged)
        kg_stun_transaction_start(&pair->check, id, KG_ICE_CHALLENGE_MS, CHALLENGE_RC, CHALLENGE_RM,
                                  agent->now_ms);
    else if (is_renewed(agent, pair))
        kg_stun_transaction_start(&pair->check, id, agent->settings.rto_ms, NOMINATION_RC, NOMINATION_RM,
                                  agent->now_ms);
    else
        kg_stun_transaction_start(&pair->check, id, rto(agent), 0, 0, agent->now_ms);
    pair->running = true;
    pair->ticket = 0;
    pair->reason = NULL;
    pair->check_controlling = agent->controlling;
    pair->check_nominates = pair->nominate;
    if (pair->state != KG_PAIR_SUCCEEDED)
        pair->state = KG_PAIR_IN_PROGRESS;
}

/* Of that checklist: the head of the triggered-check queue, else the waiting pair of highest priority. */
static struct kg_ice_entry *pick(const struct kg_ice_agent *agent, uint8_t stream)
{
    struct kg_ice_entry *triggered = NULL, *waiting = NULL;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->old || p->stream != stream)
            continue;
        if (p->ticket != 0 && (triggered == NULL || p->ticket < triggered->ticket))
            triggered = p;
        if (!p->running && p->state == KG_PAIR_WAITING &&
            (waiting == NULL || p->priority > waiting->priority ||
             (p->priority == waiting->priority && p->component < waiting->component)))
            waiting = p;
    }
    return triggered != NULL ? triggered : waiting;
}

/* With nothing else to check, a frozen pair costs no time: the best one is checked. RFC 8445 6.1.4.2 leaves
 * it frozen as long as another of its foundation is being tried, which is 39.5 s where that one's NAT does
 * not let it pass. */
static void use_idle_slot(struct kg_ice_agent *agent)
{
    struct kg_ice_entry *best = NULL;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (!p->old && (p->ticket != 0 || (!p->running && p->state == KG_PAIR_WAITING)))
            return;
        if (!p->old && p->state == KG_PAIR_FROZEN && (best == NULL || p->priority > best->priority))
            best = p;
    }
    if (best != NULL)
        best->state = KG_PAIR_WAITING;
}

bool kg_ice_poll_check(struct kg_ice_agent *agent, struct kg_ice_datagram *out)
{
    use_idle_slot(agent);
    for (uint16_t i = 0; i < agent->stream_size; i++) {
        const struct kg_ice_stream *stream = &agent->stream[(agent->turn + i) % agent->stream_size];
        if (!stream->used || !stream->described)
            continue;
        struct kg_ice_entry *pair = pick(agent, stream->number);
        if (pair == NULL)
            continue;
        agent->turn = (uint8_t)((agent->turn + i + 1) % agent->stream_size);
        if (pair->running) {
            send_triggered_again(agent, pair, out);
            return true;
        }
        start_check(agent, pair);
        send_check(agent, pair, out);
        return true;
    }
    return false;
}

/* What was sent before the peer was there may have been in vain, and now it is there: the retransmissions
 * start afresh instead of waiting for up to 16 s. A callee that answers late would else punch its hole late.
 */
void kg_ice_check_afresh(struct kg_ice_agent *agent, uint8_t stream)
{
    int64_t at_ms = agent->now_ms;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->old || !p->running || p->stream != stream || p->state != KG_PAIR_IN_PROGRESS ||
            p->check.sent < 2)
            continue;
        p->check.sent = 0;
        p->check.next_ms = at_ms;
        at_ms += agent->ta_ms;
    }
}

void kg_ice_expire_checks(struct kg_ice_agent *agent)
{
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (!p->running || kg_stun_transaction_due(&p->check, agent->now_ms) != KG_STUN_TIMED_OUT)
            continue;
        if (is_renewed(agent, p))
            kg_ice_check_stop(p);
        else
            kg_ice_pair_fail(agent, p, p->valid ? "answers no more" : "no answer");
    }
}

int64_t kg_ice_checks_due(const struct kg_ice_agent *agent)
{
    int64_t due = INT64_MAX;

    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->running && p->check.next_ms < due)
            due = p->check.next_ms;
        bool has_more =
            p->ticket != 0 || (!p->running && (p->state == KG_PAIR_WAITING || p->state == KG_PAIR_FROZEN));
        if (!p->old && has_more && agent->slot_ms < due)
            due = agent->slot_ms;
    }
    return due;
}
