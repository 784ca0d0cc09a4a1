/* Where a side is: its sources, which of them is the target. */
#include "media/steer_state.h"

#include <string.h>

bool kg_steer_is_live(const struct kg_steer *steer, const struct kg_steer_source *source, int64_t now_ms)
{
    return source->state == KG_STEER_VERIFIED &&
           (steer->consent_ms == 0 || now_ms - source->proven_ms < steer->proof_ms);
}

int kg_steer_find(const struct kg_steer_peer *peer, const struct kg_addr *addr)
{
    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (peer->source[i].state != KG_STEER_FREE && kg_addr_equal(&peer->source[i].addr, addr))
            return i;
    return KG_STEER_NONE;
}

/* Which of the two is worth less. Never the target. */
static bool is_lesser(const struct kg_steer_source *a, const struct kg_steer_source *b)
{
    if (a->state != b->state)
        return a->state < b->state;
    return a->state == KG_STEER_VERIFIED ? a->proven_ms < b->proven_ms : a->seen_ms < b->seen_ms;
}

int kg_steer_find_or_add(struct kg_steer *steer, enum kg_side side, const struct kg_addr *addr)
{
    struct kg_steer_peer *peer = &steer->peer[side];
    int at = kg_steer_find(peer, addr);

    if (at != KG_STEER_NONE)
        return at;
    for (int i = 0; i < KG_STEER_SOURCES; i++)
        if (i != peer->target && (at == KG_STEER_NONE || is_lesser(&peer->source[i], &peer->source[at])))
            at = i;
    for (size_t i = 0; i < KG_STEER_PENDING; i++) {
        struct kg_steer_pending *p = &steer->pending[i];
        if ((p->side == side ? p->from : p->to) == at)
            *p = (struct kg_steer_pending){0};
    }
    peer->source[at] = (struct kg_steer_source){
        .addr = *addr, .state = KG_STEER_SEEN, .rtt_ms = -1, .asked_ms = INT64_MIN / 2, .ask_ms = INT64_MAX};
    return at;
}

void kg_steer_ask(struct kg_steer_source *source, int64_t now_ms)
{
    int64_t at_ms = source->asked_ms + KG_ICE_CHALLENGE_MS;

    source->again = false;
    if (source->ask_ms == INT64_MAX)
        source->ask_ms = at_ms > now_ms ? at_ms : now_ms;
}

void kg_steer_ask_if_quiet(struct kg_steer_source *source, int64_t now_ms)
{
    if (now_ms - source->asked_ms >= KG_ICE_CHALLENGE_MS)
        kg_steer_ask(source, now_ms);
}

int64_t kg_steer_consent_at(struct kg_steer *steer, int64_t now_ms)
{
    uint32_t dice = 0;

    if (steer->consent_ms == 0)
        return INT64_MAX;
    steer->random(steer->random_ctx, &dice, sizeof dice);
    return now_ms + steer->consent_ms * (INT64_C(800) + dice % 401) / 1000;
}

bool kg_steer_aim(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int64_t now_ms)
{
    if (peer->target == at)
        return false;
    if (peer->target == KG_STEER_NONE) /* otherwise it goes on in its rhythm */
        peer->consent_ms = kg_steer_consent_at(steer, now_ms);
    peer->target = at;
    return true;
}

bool kg_steer_replace_expired(struct kg_steer *steer, struct kg_steer_peer *peer, int64_t now_ms)
{
    int best = KG_STEER_NONE;

    if (peer->target == KG_STEER_NONE || kg_steer_is_live(steer, &peer->source[peer->target], now_ms))
        return false;
    for (int i = 0; i < KG_STEER_SOURCES; i++) {
        const struct kg_steer_source *s = &peer->source[i],
                                     *b = &peer->source[best == KG_STEER_NONE ? 0 : best];
        if (kg_steer_is_live(steer, s, now_ms) &&
            (best == KG_STEER_NONE || s->nominated > b->nominated ||
             (s->nominated == b->nominated && s->proven_ms > b->proven_ms)))
            best = i;
    }
    return kg_steer_aim(steer, peer, best, now_ms);
}

bool kg_steer_prove(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int generation,
                    int64_t now_ms)
{
    struct kg_steer_source *source = &peer->source[at];
    bool first = !kg_steer_is_live(steer, source, now_ms);
    bool moves = peer->target == KG_STEER_NONE || (first && (source->nominated || source->suspect));

    peer->came |= generation == KG_STEER_NOW;
    source->state = KG_STEER_VERIFIED;
    source->suspect = false;
    source->proven_ms = peer->proven_ms = now_ms;
    return moves && kg_steer_aim(steer, peer, at, now_ms);
}

bool kg_steer_nominate(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int64_t now_ms)
{
    struct kg_steer_source *source = &peer->source[at];
    bool first = !source->nominated;

    source->nominated = true;
    if (!first || !kg_steer_is_live(steer, source, now_ms))
        return false;
    peer->nominated_ms = now_ms;
    return kg_steer_aim(steer, peer, at, now_ms);
}
