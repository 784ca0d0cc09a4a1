/* The peer's description (RFC 8839), again and again: the first one, trickled candidates (RFC 8838), updated
 * offers, restarts (RFC 8445 9). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ice/agent/agent_state.h"

#define TA_MAX_MS    1000 /* of a peer's a=ice-pacing: it slows only itself down, but within reason */
#define TA_UNTOLD_MS 50   /* RFC 8839 5.7: who says nothing means the default */

static bool is_restart(const struct kg_ice_stream *stream, const struct kg_ice_description *remote)
{
    return !stream->described || strcmp(stream->session.remote->ufrag, remote->ufrag) != 0 ||
           strcmp(stream->session.remote->pwd, remote->pwd) != 0;
}

static bool is_useful(const struct kg_ice_stream *stream, const struct kg_candidate *candidate)
{
    return candidate->component >= 1 && candidate->component <= KG_ICE_COMPONENTS_MAX &&
           stream->component[candidate->component - 1].active && kg_addr_is_usable(&candidate->addr);
}

/* The session until now becomes the one before: of it only the selected pairs are kept. */
static void put_aside(struct kg_ice_agent *agent, struct kg_ice_stream *stream)
{
    bool keeps = false;

    for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
        uint16_t selected = stream->component[c].selected;
        keeps |= selected != KG_ICE_NONE && !agent->pair[selected].old;
    }
    if (keeps)
        kg_ice_end_session(agent, stream);
    for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL; p = kg_ice_pair_next(agent, p)) {
        if (p->stream != stream->number || p->old)
            continue;
        if (stream->component[p->component - 1].selected != p - agent->pair) {
            kg_ice_pair_drop(agent, p);
            continue;
        }
        kg_ice_check_stop(p);
        p->old = true;
        p->ticket = 0;
        p->nominate = p->roaming = false;
        agent->remote[p->remote].old = true;
    }
    for (uint16_t i = 0; i < agent->remote_size; i++)
        if (agent->remote[i].stream == stream->number && !agent->remote[i].old)
            agent->remote[i].used = false;
    if (keeps) {
        stream->before = stream->session;
        stream->session = (struct kg_ice_session){0};
    } else {
        kg_ice_session_free(agent, &stream->session);
    }
    for (int c = 0; c < KG_ICE_COMPONENTS_MAX; c++) {
        stream->component[c].unproven = 0;
        stream->component[c].first_valid_ms = INT64_MAX;
        stream->component[c].nominated_ms = INT64_MAX;
        stream->component[c].doubt_ms = INT64_MIN;
        stream->component[c].repeat_ms = INT64_MAX;
        stream->component[c].lost = false;
    }
}

static bool is_known(const struct kg_ice_agent *agent, const struct kg_ice_stream *stream,
                     const struct kg_candidate *candidate)
{
    return kg_ice_remote_find(agent, stream->number, candidate->component, &candidate->addr) != KG_ICE_NONE;
}

static void add_candidate(struct kg_ice_agent *agent, const struct kg_ice_stream *stream,
                          const struct kg_candidate *candidate, size_t *room)
{
    uint16_t known = kg_ice_remote_find(agent, stream->number, candidate->component, &candidate->addr);

    if (known == KG_ICE_NONE) {
        if (*room > 0 && kg_ice_remote_put(agent, stream->number, candidate) != KG_ICE_NONE)
            --*room;
    } else if (agent->remote[known].candidate.type == KG_CANDIDATE_PRFLX) {
        /* Its checks were faster than its description (RFC 8838 11.4): what is told counts. */
        agent->remote[known].candidate = *candidate;
        kg_ice_prioritize(agent);
    }
}

/* a=remote-candidates (RFC 8839 4.4.2.2.1): the controlling peer says which pair it has selected. Ours may
 * not have heard the nomination yet. */
static void hear_selection(struct kg_ice_agent *agent, const struct kg_ice_stream *stream,
                           const struct kg_ice_description *remote)
{
    if (agent->controlling || agent->settings.lite)
        return;
    for (uint8_t i = 0; i < remote->candidate_count; i++) {
        const struct kg_candidate *theirs = &remote->candidate[i];
        if (!is_useful(stream, theirs) || !kg_addr_is_set(&remote->remote_candidate[theirs->component - 1]))
            continue;
        uint16_t index = kg_ice_remote_find(agent, stream->number, theirs->component, &theirs->addr);
        for (struct kg_ice_entry *p = kg_ice_pair_next(agent, NULL); p != NULL;
             p = kg_ice_pair_next(agent, p)) {
            const struct kg_addr *ours = &remote->remote_candidate[theirs->component - 1];
            uint16_t seen = p->seen != KG_ICE_NONE ? p->seen : p->local;
            if (p->old || p->expired || p->remote != index ||
                !kg_addr_equal(&agent->local[seen].candidate.addr, ours))
                continue;
            if (kg_ice_pair_alive(agent, p)) {
                kg_ice_nominated(agent, p);
            } else if (!p->running && p->state != KG_PAIR_SUCCEEDED) {
                p->peer_nominates = true;
                kg_ice_trigger(agent, p);
            }
        }
    }
}

static void take_over(struct kg_ice_agent *agent, struct kg_ice_stream *stream,
                      const struct kg_ice_description *remote)
{
    uint32_t theirs = remote->pacing_ms != 0 ? remote->pacing_ms : TA_UNTOLD_MS;

    stream->described = true;
    stream->remote_lite = remote->lite;
    stream->trickle = remote->trickle;
    stream->ended = remote->end_of_candidates || !remote->trickle;
    stream->since_ms = agent->now_ms;
    theirs = theirs < TA_MAX_MS ? theirs : TA_MAX_MS;
    agent->ta_ms = agent->ta_ms > theirs ? agent->ta_ms : theirs;
    /* RFC 8445 6.1.1: the full one of a full and a lite agent controls. */
    if (remote->lite != agent->settings.lite && agent->controlling != remote->lite) {
        agent->controlling = remote->lite;
        kg_ice_prioritize(agent);
    }
}

int kg_ice_set_remote(struct kg_ice_agent *agent, uint8_t stream_number,
                      const struct kg_ice_description *remote, int64_t now_ms)
{
    struct kg_ice_stream *stream = kg_ice_stream_find(agent, stream_number);
    struct kg_ice_session session = {0};
    size_t useful = 0;

    if (stream == NULL || agent->local_credentials == NULL || remote->ufrag == NULL || remote->pwd == NULL ||
        !kg_ice_is_ufrag(remote->ufrag, strlen(remote->ufrag)) ||
        !kg_ice_is_pwd(remote->pwd, strlen(remote->pwd)))
        return EINVAL;
    bool restart = is_restart(stream, remote);
    size_t known = restart ? 0 : kg_ice_count_remotes(agent, stream_number);
    for (uint8_t i = 0; i < remote->candidate_count && known + useful < KG_ICE_CANDIDATES_MAX + KG_ICE_SPARE;
         i++)
        useful += is_useful(stream, &remote->candidate[i]) &&
                  (restart || !is_known(agent, stream, &remote->candidate[i]));
    int error = kg_ice_reserve(agent, 0, useful, useful * kg_ice_count_bases(agent, stream_number));
    if (error == 0 && restart)
        error = kg_ice_session_new(agent, &session, remote);
    if (error != 0)
        return error;

    if (now_ms > agent->now_ms)
        agent->now_ms = now_ms;
    if (restart) {
        stream->heard = false;
        if (stream->described)
            put_aside(agent, stream);
        stream->session = session;
        stream->moved_ms = INT64_MIN;
        agent->refusals = 0;
    }
    take_over(agent, stream, remote);
    for (uint8_t i = 0; i < remote->candidate_count; i++)
        if (is_useful(stream, &remote->candidate[i]))
            add_candidate(agent, stream, &remote->candidate[i], &useful);
    kg_ice_form_pairs(agent, stream);
    kg_ice_early_replay(agent, stream);
    hear_selection(agent, stream, remote);
    if (agent->settings.lite && remote->lite)
        kg_ice_lite_pairs(agent, stream);
    kg_ice_select(agent);
    kg_ice_touch(agent);
    return 0;
}
