/* The ICE part of relays as signalling shapes it: who does ICE on which leg, agents and steers made and
 * freed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "media/relay_ice_setup.h"

struct kg_addr kg_relay_ice_bound(const struct kg_flow *flow)
{
    const struct kg_leg *leg = flow->leg;
    struct kg_addr bound = leg->stream->relay->ice->stream[leg->stream->index]->bound[leg->side];
    if (flow->rtcp)
        kg_addr_set_port(&bound, (uint16_t)(kg_addr_port(&bound) + 1));
    return bound;
}

static void free_stream(struct kg_stream_ice *stream)
{
    if (stream == NULL)
        return;
    kg_steer_free(stream->steer[0]);
    kg_steer_free(stream->steer[1]);
    free(stream);
}

void kg_relay_ice_free(struct kg_relay *relay)
{
    struct kg_relay_ice *ice = relay->ice;
    if (ice == NULL)
        return;
    for (unsigned side = 0; side < 2; side++)
        kg_ice_agent_free(ice->agent[side]);
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        free_stream(ice->stream[i]);
    free(ice);
    relay->ice = NULL;
}

/* ---- which use ---- */

struct uses {
    uint8_t of[KG_MEDIA_STREAMS_MAX][2]; /* enum kg_ice_use */
};

static enum kg_ice_use described_use(const struct kg_media_side *what, unsigned i)
{
    if (i >= what->stream_count || !what->stream[i].enabled || what->stream[i].ice == NULL)
        return KG_ICE_UNUSED;
    if (what->stream[i].bundle != 0 &&
        what->stream[i].bundle != i + 1) /* checks go by the line that carries it */
        return KG_ICE_UNUSED;
    return (enum kg_ice_use)what->stream[i].ice_use;
}

/* What each leg does after this change. A side that has said nothing yet may already send checks, to us or
 * through us: it heard of us in the offer. */
static bool decide(const struct kg_relay *relay, const struct kg_ice_change *change,
                   struct kg_media_side *const side[2], struct uses *uses)
{
    bool any = false;
    for (unsigned i = 0; i < relay->stream_count; i++) {
        const struct kg_stream *stream = relay->stream[i];
        for (unsigned s = 0; stream && s < 2; s++) {
            if (side[s])
                uses->of[i][s] = (uint8_t)described_use(side[s], i);
            else if (stream->leg[s].described)
                uses->of[i][s] = stream->leg[s].rtp.ice;
        }
        for (unsigned s = 0; stream && s < 2; s++) {
            if (!side[s] && !stream->leg[s].described && uses->of[i][1 - s] == KG_ICE_STEER)
                uses->of[i][s] = KG_ICE_STEER;
            else if (!side[s] && !stream->leg[s].described && change && change->local[s].ufrag[0] != '\0')
                uses->of[i][s] = KG_ICE_AGENT;
            any |= uses->of[i][s] != KG_ICE_UNUSED;
        }
    }
    return any;
}

static void use_flow(struct kg_flow *flow, enum kg_ice_use use)
{
    if (flow->ice == use)
        return;
    struct kg_latch *latch = &flow->latch;
    flow->ice = (uint8_t)use;
    flow->borrowed = false;
    if (use == KG_ICE_UNUSED)
        return; /* the description has opened the latch again, by its own rules */
    flow->rules = (struct kg_latch_rules){.sdp_host_plausible = false};
    /* In talk no leg falls silent for the sake of better proof; before, checks come first. */
    bool lend =
        latch->proof == KG_PROOF_ICE || (latch->proof != KG_PROOF_NONE && flow->leg->stream->relay->answered);
    flow->borrowed = lend;
    if (lend) {
        latch->state = KG_LATCH_LOCKED;
        return;
    }
    *latch = (struct kg_latch){.state = KG_LATCH_OPEN};
    if (!flow->rtcp) /* what it counted is nothing that a moved phone could continue */
        flow->leg->quality = (struct kg_quality){.begun = false};
}

static void use_leg(struct kg_leg *leg, enum kg_ice_use use, int64_t now_ms)
{
    if (leg->rtp.ice == use)
        return;
    struct kg_relay_ice *ice = leg->stream->relay->ice;
    use_flow(&leg->rtp, use);
    use_flow(&leg->rtcp, use);
    ice->borrowed_until_ms[leg->side] = now_ms + ice->expiry_ms;
}

/* ---- agents ---- */

/* The stream's sockets become the agent's, or leave it. */
static int join(struct kg_relay_ice *ice, unsigned side, uint8_t i)
{
    struct kg_stream_ice *stream = ice->stream[i];
    const struct kg_leg *leg = &ice->relay->stream[i]->leg[side];
    int error = kg_ice_add_stream(ice->agent[side], i, 2);
    for (uint8_t component = 1; error == 0 && component <= 2; component++) {
        struct kg_addr base = kg_relay_ice_bound(component == 1 ? &leg->rtp : &leg->rtcp), told = base;
        if (kg_addr_is_set(&ice->local[side].advertised)) {
            told = ice->local[side].advertised;
            kg_addr_set_port(&told, kg_addr_port(&base));
        }
        error = kg_ice_add_local(ice->agent[side], i, component, KG_CANDIDATE_HOST, &told, &base, UINT16_MAX,
                                 &(struct kg_addr){.sa = {.sa_family = AF_UNSPEC}});
    }
    stream->in_agent[side] = error == 0;
    return error;
}

static void leave(struct kg_relay_ice *ice, unsigned side, uint8_t i)
{
    struct kg_stream_ice *stream = ice->stream[i];
    if (stream == NULL || !stream->in_agent[side])
        return;
    kg_ice_drop_stream(ice->agent[side], i);
    stream->in_agent[side] = stream->without_rtcp[side] = false;
    stream->connected_ms[side] = 0;
}

static int new_agent(struct kg_relay_ice *ice, unsigned side, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_ice_settings settings = limits->ice;
    settings.controlling = ice->local[side].controlling;
    struct kg_ice_agent *agent = kg_ice_agent_new(&settings);
    if (agent == NULL)
        return ENOMEM;
    int error = kg_ice_set_local(agent, ice->local[side].ufrag, ice->local[side].pwd);
    if (error == 0)
        error = kg_ice_start(agent, now_ms);
    if (error != 0) {
        kg_ice_agent_free(agent);
        return error;
    }
    ice->agent[side] = agent;
    return 0;
}

int kg_relay_ice_need_agent(struct kg_relay *relay, enum kg_side side, const struct kg_limits *limits,
                            int64_t now_ms)
{
    struct kg_relay_ice *ice = relay->ice;
    int error = ice->agent[side] ? 0 : new_agent(ice, side, limits, now_ms);
    for (uint8_t i = 0; error == 0 && i < relay->stream_count; i++) {
        const struct kg_stream_ice *stream = ice->stream[i];
        if (stream && !stream->in_agent[side] && relay->stream[i]->leg[side].rtp.ice == KG_ICE_AGENT)
            error = join(ice, side, i);
    }
    return error;
}

/* A phone that muxes, or that has no candidate for RTCP and will not send any, has one component. */
static bool has_rtcp(const struct kg_media_stream *line)
{
    if (line->rtcp_mux)
        return false;
    bool more = line->ice->candidate_count == 0 || (line->ice->trickle && !line->ice->end_of_candidates);
    for (unsigned i = 0; i < line->ice->candidate_count; i++)
        more |= line->ice->candidate[i].component == 2;
    return more;
}

static int describe_agent(struct kg_relay_ice *ice, unsigned side, uint8_t i,
                          const struct kg_media_side *what, int64_t now_ms)
{
    struct kg_stream_ice *stream = ice->stream[i];
    const struct kg_media_stream *line = &what->stream[i];
    if (!what->trusted) /* a PBX may have a phone of its own network speak for itself */
        kg_ice_set_peer(ice->agent[side], &what->signalling);
    if (!stream->without_rtcp[side] && !has_rtcp(line)) {
        kg_ice_drop_component(ice->agent[side], i, 2);
        stream->without_rtcp[side] = true;
    }
    return kg_ice_set_remote(ice->agent[side], i, line->ice, now_ms);
}

/* New credentials of ours: the next description of the side belongs to them. */
static int take_local(struct kg_relay_ice *ice, unsigned side, const struct kg_media_ice_local *local,
                      int64_t now_ms)
{
    bool same =
        strcmp(local->ufrag, ice->local[side].ufrag) == 0 && strcmp(local->pwd, ice->local[side].pwd) == 0;
    ice->local[side] = *local;
    if (same || ice->agent[side] == NULL)
        return 0;
    return kg_ice_restart(ice->agent[side], local->ufrag, local->pwd, now_ms);
}

static void drop_unused_agent(struct kg_relay_ice *ice, unsigned side)
{
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        if (ice->stream[i] && ice->stream[i]->in_agent[side])
            return;
    }
    kg_ice_agent_free(ice->agent[side]);
    ice->agent[side] = NULL;
    ice->state_untold[side] = false;
}

/* ---- steers ---- */

static bool both_mux(const struct kg_stream *stream)
{
    return stream->leg[0].described && stream->leg[0].rtcp_mux && stream->leg[1].described &&
           stream->leg[1].rtcp_mux;
}

/* Our ports as the phones see them. */
static void locate_steers(struct kg_relay_ice *ice, uint8_t i)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct kg_leg *leg = &ice->relay->stream[i]->leg[side];
        struct kg_addr rtp = kg_relay_ice_bound(&leg->rtp), rtcp = kg_relay_ice_bound(&leg->rtcp);
        for (unsigned c = 0; c < 2; c++) {
            if (ice->stream[i]->steer[c])
                kg_steer_local(ice->stream[i]->steer[c], side, c ? &rtcp : &rtp,
                               &ice->local[side].advertised);
        }
    }
}

static int need_steers(struct kg_relay_ice *ice, uint8_t i, const struct kg_limits *limits)
{
    struct kg_stream_ice *stream = ice->stream[i];
    if (stream->steer[0])
        return 0;
    for (unsigned c = 0; c < 2; c++) {
        stream->steer[c] = kg_steer_new(limits->ice.consent_ms, limits->ice.consent_expiry_ms,
                                        limits->ice.random, limits->ice.random_ctx);
        if (stream->steer[c] == NULL)
            return ENOMEM;
    }
    return 0;
}

static int describe_steers(struct kg_relay_ice *ice, enum kg_side side, uint8_t i,
                           const struct kg_ice_description *said, int64_t now_ms)
{
    struct kg_stream_ice *stream = ice->stream[i];
    int error = 0;
    stream->since_ms = now_ms;
    stream->answers[0] = stream->answers[1] = stream->left[0] = stream->left[1] = false;
    for (unsigned c = 0; error == 0 && c < 2; c++)
        error = stream->steer[c] ? kg_steer_describe(stream->steer[c], side, said, now_ms) : 0;
    return error;
}

static void drop_steers(struct kg_stream_ice *stream)
{
    for (unsigned c = 0; c < 2; c++) {
        kg_steer_free(stream->steer[c]);
        stream->steer[c] = NULL;
    }
    stream->path = KG_PATH_UNKNOWN;
    stream->path_untold = stream->left_untold[0] = stream->left_untold[1] = false;
}

/* ---- a change ---- */

static int change_leg(struct kg_relay *relay, unsigned side, uint8_t i, const struct kg_media_side *what,
                      const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_relay_ice *ice = relay->ice;
    const struct kg_leg *leg = &relay->stream[i]->leg[side];
    const struct kg_media_stream *line = what && i < what->stream_count ? &what->stream[i] : NULL;
    int error = 0;
    switch ((enum kg_ice_use)leg->rtp.ice) {
    case KG_ICE_UNUSED:
        break;
    case KG_ICE_AGENT:
        if (line == NULL)
            break; /* an undescribed leg's agent is made when a check comes */
        error = kg_relay_ice_need_agent(relay, side, limits, now_ms);
        if (error == 0)
            error = describe_agent(ice, side, i, what, now_ms);
        break;
    case KG_ICE_STEER:
        error = need_steers(ice, i, limits);
        if (error == 0 && line)
            error = describe_steers(ice, side, i, line->ice, now_ms);
        break;
    }
    return error;
}

static int need_ice(struct kg_relay *relay, const struct kg_limits *limits)
{
    if (relay->ice == NULL) {
        relay->ice = calloc(1, sizeof *relay->ice);
        if (relay->ice == NULL)
            return ENOMEM;
        relay->ice->relay = relay;
    }
    relay->ice->expiry_ms = limits->ice.consent_expiry_ms;
    for (unsigned i = 0; i < relay->stream_count; i++) {
        if (relay->stream[i] == NULL || relay->ice->stream[i])
            continue;
        relay->ice->stream[i] = calloc(1, sizeof *relay->ice->stream[i]);
        if (relay->ice->stream[i] == NULL)
            return ENOMEM;
    }
    return 0;
}

int kg_relay_change_ice(struct kg_relay *relay, const struct kg_ice_change *change,
                        struct kg_media_side *const side[2], const struct kg_limits *limits, int64_t now_ms)
{
    struct uses uses = {0};
    if ((!decide(relay, change, side, &uses) && relay->ice == NULL) || change == NULL)
        return 0;
    int error = need_ice(relay, limits);
    if (error != 0)
        return error;
    struct kg_relay_ice *ice = relay->ice;
    relay->touched = true;
    for (unsigned s = 0; s < 2; s++) {
        if (change->local[s].ufrag[0] != '\0')
            error |= take_local(ice, s, &change->local[s], now_ms);
    }
    for (uint8_t i = 0; i < relay->stream_count; i++) {
        struct kg_stream *stream = relay->stream[i];
        for (unsigned s = 0; stream && s < 2; s++) {
            bool moved = !kg_addr_equal(&ice->stream[i]->bound[s], &change->bound[s][i]);
            ice->stream[i]->bound[s] = change->bound[s][i];
            if (uses.of[i][s] != KG_ICE_AGENT || moved)
                leave(ice, s, i);
            use_leg(&stream->leg[s], (enum kg_ice_use)uses.of[i][s], now_ms);
        }
        if (stream && uses.of[i][0] != KG_ICE_STEER && uses.of[i][1] != KG_ICE_STEER)
            drop_steers(ice->stream[i]);
    }
    for (uint8_t i = 0; i < relay->stream_count; i++) {
        for (unsigned s = 0; relay->stream[i] && s < 2; s++)
            error |= change_leg(relay, s, i, side[s], limits, now_ms);
        if (relay->stream[i] && both_mux(relay->stream[i]) && ice->stream[i]->steer[1]) {
            kg_steer_free(ice->stream[i]->steer[1]);
            ice->stream[i]->steer[1] = NULL;
        }
        if (relay->stream[i]) /* the advertised address may be learnt, or change, later */
            locate_steers(ice, i);
    }
    drop_unused_agent(ice, 0);
    drop_unused_agent(ice, 1);
    return error ? ENOMEM : 0;
}

bool kg_relay_ice_is_idle(const struct kg_relay *relay)
{
    for (unsigned i = 0; i < relay->stream_count; i++) {
        const struct kg_stream *stream = relay->stream[i];
        if (stream && (stream->leg[0].rtp.ice != KG_ICE_UNUSED || stream->leg[1].rtp.ice != KG_ICE_UNUSED))
            return false;
    }
    return true;
}
