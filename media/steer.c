#include "media/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "media/steer_state.h"

/* Every component of a steered stream has one. */
_Static_assert(sizeof(struct kg_steer) <= 4096, "a page");

struct kg_steer *kg_steer_new(uint32_t consent_ms, uint32_t proof_ms,
                              void (*random)(void *ctx, void *out, size_t len), void *random_ctx)
{
    struct kg_steer *steer = calloc(1, sizeof *steer);

    if (steer == NULL)
        return NULL;
    steer->consent_ms = consent_ms;
    steer->proof_ms = proof_ms;
    steer->random = random;
    steer->random_ctx = random_ctx;
    for (size_t s = 0; s < 2; s++) {
        steer->peer[s].target = KG_STEER_NONE;
        steer->peer[s].answered_ms = -1;
        steer->peer[s].proven_ms = steer->peer[s].suspect_ms = steer->peer[s].nominated_ms = INT64_MIN / 2;
    }
    return steer;
}

void kg_steer_free(struct kg_steer *steer)
{
    if (steer == NULL)
        return;
    for (size_t s = 0; s < 2; s++)
        for (size_t g = 0; g < KG_STEER_GENERATIONS; g++)
            free(steer->peer[s].credentials[g].ufrag);
    free(steer);
}

/* ---- credentials ---- */

static bool is_same(const struct kg_steer_credentials *c, const struct kg_ice_description *ice)
{
    return c->ufrag != NULL && strcmp(c->ufrag, ice->ufrag) == 0 && strcmp(c->pwd, ice->pwd) == 0;
}

static int copy_credentials(const struct kg_ice_description *ice, struct kg_steer_credentials *out)
{
    size_t ufrag_len = strlen(ice->ufrag), pwd_len = strlen(ice->pwd);
    char *both = malloc(ufrag_len + pwd_len + 2);

    if (both == NULL)
        return ENOMEM;
    memcpy(both, ice->ufrag, ufrag_len + 1);
    memcpy(both + ufrag_len + 1, ice->pwd, pwd_len + 1);
    *out = (struct kg_steer_credentials){both, both + ufrag_len + 1, ufrag_len, pwd_len, INT64_MAX};
    return 0;
}

int kg_steer_describe(struct kg_steer *steer, enum kg_side side, const struct kg_ice_description *ice,
                      int64_t now_ms)
{
    struct kg_steer_peer *peer = &steer->peer[side], *other = &steer->peer[kg_other_side(side)];
    struct kg_steer_credentials *c = peer->credentials, fresh;
    /* The branch of a forked call that was described before this one. */
    bool back = is_same(&c[KG_STEER_BEFORE], ice);

    if (is_same(&c[KG_STEER_NOW], ice))
        return 0;
    if (back) {
        fresh = c[KG_STEER_BEFORE];
        c[KG_STEER_BEFORE] = (struct kg_steer_credentials){0};
    } else if (copy_credentials(ice, &fresh) != 0) {
        return ENOMEM;
    }
    free(c[KG_STEER_BEFORE].ufrag);
    c[KG_STEER_BEFORE] = c[KG_STEER_NOW];
    c[KG_STEER_BEFORE].until_ms = now_ms + KG_STEER_OVERLAP_MS;
    c[KG_STEER_NOW] = fresh;
    c[KG_STEER_NOW].until_ms = INT64_MAX;
    /* Of the credentials that end here. */
    peer->missed = !peer->came && (peer->missed || (kg_steer_counts(&c[KG_STEER_BEFORE], now_ms) &&
                                                    now_ms - peer->described_ms >= KG_STEER_VOUCH_MS));
    peer->described_ms = now_ms;
    peer->came = false;
    peer->vouch = other->vouch = (struct kg_steer_vouch){.owed = false};
    for (size_t i = 0; i < KG_STEER_SOURCES; i++) {
        uint8_t *own = &peer->source[i].names.own, *its = &other->source[i].names.other;

        *own = back && *own == KG_STEER_BEFORE ? KG_STEER_NOW : KG_STEER_BEFORE;
        *its = back && *its == KG_STEER_BEFORE ? KG_STEER_NOW : KG_STEER_BEFORE;
        /* The pair selected before stays in use until the next is nominated (RFC 8445 9). */
        peer->source[i].nominated = other->source[i].nominated = false;
    }
    return 0;
}

void kg_steer_local(struct kg_steer *steer, enum kg_side side, const struct kg_addr *bound,
                    const struct kg_addr *advertised)
{
    steer->peer[side].bound = *bound;
    steer->peer[side].advertised = *advertised;
}

/* ---- media ---- */

bool kg_steer_is_verified(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                          int64_t now_ms)
{
    int at = kg_steer_find(&steer->peer[side], source);

    return at != KG_STEER_NONE && kg_steer_is_live(steer, &steer->peer[side].source[at], now_ms);
}

bool kg_steer_media(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms)
{
    struct kg_steer_peer *peer = &steer->peer[side];
    int at = kg_steer_find(peer, source);

    if (at == KG_STEER_NONE || !kg_steer_is_live(steer, &peer->source[at], now_ms))
        return false;
    if (!peer->source[at].nominated && now_ms - peer->nominated_ms < KG_STEER_SETTLE_MS)
        return false;
    return kg_steer_aim(steer, peer, at, now_ms);
}

void kg_steer_suspect(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms)
{
    struct kg_steer_peer *peer = &steer->peer[side];
    struct kg_steer_source *suspect;

    if (!kg_steer_is_described(peer) || !kg_steer_is_described(&steer->peer[kg_other_side(side)]) ||
        !kg_addr_is_usable(source) || now_ms - peer->suspect_ms < KG_ICE_CHALLENGE_MS ||
        kg_steer_is_verified(steer, side, source, now_ms))
        return;
    peer->suspect_ms = now_ms;
    suspect = &peer->source[kg_steer_find_or_add(steer, side, source)];
    suspect->seen_ms = now_ms;
    suspect->suspect = true;
    kg_steer_ask_if_quiet(suspect, now_ms);
}

const struct kg_addr *kg_steer_target(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    const struct kg_steer_peer *peer = &steer->peer[side];

    return peer->target != KG_STEER_NONE && kg_steer_is_live(steer, &peer->source[peer->target], now_ms)
               ? &peer->source[peer->target].addr
               : NULL;
}

/* ---- what is known ---- */

bool kg_steer_is_nominated(const struct kg_steer *steer)
{
    for (unsigned s = 0; s < 2; s++)
        if (steer->peer[s].target != KG_STEER_NONE && steer->peer[s].source[steer->peer[s].target].nominated)
            return true;
    return false;
}

int64_t kg_steer_answered_ms(const struct kg_steer *steer, enum kg_side side)
{
    return steer->peer[side].answered_ms;
}

int64_t kg_steer_silence(const struct kg_steer *steer, enum kg_side side, int64_t now_ms)
{
    return steer->peer[side].proven_ms < 0 ? -1 : now_ms - steer->peer[side].proven_ms;
}

size_t kg_steer_pairs(const struct kg_steer *steer, enum kg_side side, struct kg_ice_pair *out, size_t max)
{
    const struct kg_steer_peer *peer = &steer->peer[side];
    size_t count = 0;

    for (int i = 0; i < KG_STEER_SOURCES && count < max; i++) {
        const struct kg_steer_source *source = &peer->source[i];
        if (source->state != KG_STEER_VERIFIED)
            continue;
        out[count++] = (struct kg_ice_pair){
            .state = KG_PAIR_SUCCEEDED,
            .valid = true,
            .nominated = source->nominated,
            .selected = i == peer->target,
            .local = {.type = KG_CANDIDATE_RELAY},
            .remote = {.type = KG_CANDIDATE_PRFLX, .addr = source->addr},
            .rtt_ms = source->rtt_ms,
            .won_ms = -1,
            .requests = source->requests,
            .responses = source->responses,
        };
    }
    return count;
}
