/* The part of the control protocol that is about ICE: descriptions, our own credentials, pairs. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/wire.h"

static Kg__Candidate *from_candidate(struct kg_arena *arena, const struct kg_candidate *candidate)
{
    Kg__Candidate *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__candidate__init(out);
    out->type = candidate->type;
    out->component = candidate->component;
    out->priority = candidate->priority;
    out->foundation = kg_arena_text(arena, candidate->foundation);
    out->addr = kg_wire_from_addr(arena, &candidate->addr);
    out->related = kg_wire_from_addr(arena, &candidate->related);
    return out->foundation ? out : NULL;
}

static void to_candidate(const Kg__Candidate *candidate, struct kg_candidate *out)
{
    *out = (struct kg_candidate){.component = (uint8_t)candidate->component,
                                 .priority = candidate->priority,
                                 .addr = kg_wire_to_addr(candidate->addr),
                                 .related = kg_wire_to_addr(candidate->related)};
    if (candidate->type <= KG_CANDIDATE_RELAY)
        out->type = (uint8_t)candidate->type;
    snprintf(out->foundation, sizeof out->foundation, "%s", candidate->foundation);
}

Kg__Ice *kg_wire_from_ice(struct kg_arena *arena, const struct kg_ice_description *ice)
{
    Kg__Ice *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__ice__init(out);
    out->ufrag = kg_arena_text(arena, ice->ufrag);
    out->pwd = kg_arena_text(arena, ice->pwd);
    out->lite = ice->lite;
    out->trickle = ice->trickle;
    out->ice2 = ice->ice2;
    out->end_of_candidates = ice->end_of_candidates;
    out->pacing_ms = ice->pacing_ms;
    out->remote_rtp = kg_wire_from_addr(arena, &ice->remote_candidate[0]);
    out->remote_rtcp = kg_wire_from_addr(arena, &ice->remote_candidate[1]);
    out->candidate = kg_arena_take(arena, KG_ICE_CANDIDATES_MAX * sizeof *out->candidate);
    if (out->ufrag == NULL || out->pwd == NULL || out->candidate == NULL)
        return NULL;
    for (; out->n_candidate < ice->candidate_count && out->n_candidate < KG_ICE_CANDIDATES_MAX;
         out->n_candidate++) {
        out->candidate[out->n_candidate] = from_candidate(arena, &ice->candidate[out->n_candidate]);
        if (out->candidate[out->n_candidate] == NULL)
            return NULL;
    }
    return out;
}

const struct kg_ice_description *kg_wire_to_ice(struct kg_arena *arena, const Kg__Ice *ice)
{
    if (!kg_ice_is_ufrag(ice->ufrag, strlen(ice->ufrag)) || !kg_ice_is_pwd(ice->pwd, strlen(ice->pwd)) ||
        ice->n_candidate > KG_ICE_CANDIDATES_MAX || ice->pacing_ms > UINT16_MAX)
        return NULL;
    struct kg_ice_description *out = kg_arena_take(arena, sizeof *out);
    struct kg_candidate *candidate = kg_arena_take(arena, ice->n_candidate * sizeof *candidate);
    if (out == NULL || candidate == NULL)
        return NULL;
    for (size_t i = 0; i < ice->n_candidate; i++)
        to_candidate(ice->candidate[i], &candidate[i]);
    *out = (struct kg_ice_description){
        .ufrag = ice->ufrag,
        .pwd = ice->pwd,
        .lite = ice->lite,
        .trickle = ice->trickle,
        .ice2 = ice->ice2,
        .end_of_candidates = ice->end_of_candidates,
        .pacing_ms = (uint16_t)ice->pacing_ms,
        .candidate_count = (uint8_t)ice->n_candidate,
        .candidate = candidate,
        .remote_candidate = {kg_wire_to_addr(ice->remote_rtp), kg_wire_to_addr(ice->remote_rtcp)},
    };
    return out;
}

Kg__IceLocal *kg_wire_from_ice_local(struct kg_arena *arena, const struct kg_media_ice_local *local)
{
    Kg__IceLocal *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__ice_local__init(out);
    out->ufrag = kg_arena_text(arena, local->ufrag);
    out->pwd = kg_arena_text(arena, local->pwd);
    out->controlling = local->controlling;
    out->advertised = kg_wire_from_addr(arena, &local->advertised);
    return out->ufrag && out->pwd ? out : NULL;
}

int kg_wire_keep_ice_local(const Kg__IceLocal *local, struct kg_media_ice_local **kept)
{
    if (local == NULL)
        return 0;
    if (*kept == NULL)
        *kept = malloc(sizeof **kept);
    if (*kept == NULL)
        return ENOMEM;
    memset(*kept, 0, sizeof **kept);
    snprintf((*kept)->ufrag, sizeof(*kept)->ufrag, "%s", local->ufrag);
    snprintf((*kept)->pwd, sizeof(*kept)->pwd, "%s", local->pwd);
    (*kept)->controlling = local->controlling;
    (*kept)->advertised = kg_wire_to_addr(local->advertised);
    return 0;
}

Kg__Pair *kg_wire_from_pair(struct kg_arena *arena, const struct kg_media_pair *pair)
{
    const struct kg_ice_pair *p = &pair->pair;
    Kg__Pair *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__pair__init(out);
    out->side = pair->side;
    out->stream = p->stream;
    out->component = p->component;
    out->state = p->state;
    out->valid = p->valid;
    out->nominated = p->nominated;
    out->selected = p->selected;
    out->priority = p->priority;
    out->local = from_candidate(arena, &p->local);
    out->remote = from_candidate(arena, &p->remote);
    out->rtt_ms = p->rtt_ms;
    out->won_ms = p->won_ms;
    out->requests = p->requests;
    out->responses = p->responses;
    if (p->reason)
        out->reason = (char *)(uintptr_t)p->reason; /* constant; protobuf-c only reads it */
    return out->local && out->remote ? out : NULL;
}

void kg_wire_to_pair(const Kg__Pair *pair, struct kg_media_pair *out)
{
    *out = (struct kg_media_pair){
        .side = pair->side == KG_SIDE_B ? KG_SIDE_B : KG_SIDE_A,
        .pair = {.stream = (uint8_t)(pair->stream % KG_MEDIA_STREAMS_MAX),
                 .component = (uint8_t)pair->component,
                 .state = pair->state <= KG_PAIR_FAILED ? (uint8_t)pair->state : KG_PAIR_FROZEN,
                 .valid = pair->valid,
                 .nominated = pair->nominated,
                 .selected = pair->selected,
                 .priority = pair->priority,
                 .rtt_ms = pair->rtt_ms,
                 .won_ms = pair->won_ms,
                 .requests = (uint16_t)pair->requests,
                 .responses = (uint16_t)pair->responses,
                 .reason = pair->reason[0] ? pair->reason : NULL}};
    if (pair->local)
        to_candidate(pair->local, &out->pair.local);
    if (pair->remote)
        to_candidate(pair->remote, &out->pair.remote);
}

/* ---- one flat allocation ---- */

static size_t aligned(size_t size)
{
    return (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
}

static size_t flat_size(const struct kg_ice_description *ice)
{
    return aligned(sizeof *ice) + aligned(ice->candidate_count * sizeof *ice->candidate) +
           aligned(strlen(ice->ufrag) + 1 + strlen(ice->pwd) + 1);
}

static struct kg_ice_description *copy_ice(const struct kg_ice_description *ice, uint8_t *at)
{
    struct kg_ice_description *out = (void *)at;
    struct kg_candidate *candidate = (void *)(at + aligned(sizeof *ice));
    char *text = (char *)candidate + aligned(ice->candidate_count * sizeof *candidate);
    size_t ufrag = strlen(ice->ufrag) + 1;
    *out = *ice;
    out->candidate = candidate;
    if (ice->candidate_count > 0)
        memcpy(candidate, ice->candidate, ice->candidate_count * sizeof *candidate);
    out->ufrag = memcpy(text, ice->ufrag, ufrag);
    out->pwd = memcpy(text + ufrag, ice->pwd, strlen(ice->pwd) + 1);
    return out;
}

struct kg_media_side *kg_media_side_copy(const struct kg_media_side *side)
{
    size_t base =
        aligned(offsetof(struct kg_media_side, stream) + side->stream_count * sizeof side->stream[0]);
    size_t size = base;
    for (unsigned i = 0; i < side->stream_count; i++) {
        size += side->stream[i].ice ? flat_size(side->stream[i].ice) : 0;
        size += side->stream[i].secure ? aligned(sizeof *side->stream[i].secure) : 0;
    }
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return NULL;
    struct kg_media_side *out = (void *)bytes;
    memcpy(out, side, offsetof(struct kg_media_side, stream) + side->stream_count * sizeof side->stream[0]);
    uint8_t *at = bytes + base;
    for (unsigned i = 0; i < side->stream_count; i++) {
        if (side->stream[i].ice) {
            out->stream[i].ice = copy_ice(side->stream[i].ice, at);
            at += flat_size(side->stream[i].ice);
        }
        if (side->stream[i].secure) {
            out->stream[i].secure = memcpy(at, side->stream[i].secure, sizeof *side->stream[i].secure);
            at += aligned(sizeof *side->stream[i].secure);
        }
    }
    return out;
}

void kg_media_side_free(struct kg_media_side *copy)
{
    for (unsigned i = 0; copy && i < copy->stream_count; i++) {
        if (copy->stream[i].secure)
            OPENSSL_cleanse((void *)(uintptr_t)copy->stream[i].secure, sizeof *copy->stream[i].secure);
    }
    free(copy);
}
