#include "media/mirror.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kg_mirror_session *kg_mirror_find(const struct kg_mirror *mirror, const char *id)
{
    struct kg_mirror_session *session;
    HASH_FIND_STR(mirror->sessions, id, session);
    return session;
}

struct kg_mirror_session *kg_mirror_get(struct kg_mirror *mirror, const char *id)
{
    struct kg_mirror_session *session = kg_mirror_find(mirror, id);
    if (session)
        return session;
    session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    snprintf(session->id, sizeof session->id, "%s", id);
    HASH_ADD_STR(mirror->sessions, id, session);
    return session;
}

void kg_mirror_remove(struct kg_mirror *mirror, struct kg_mirror_session *session)
{
    HASH_DEL(mirror->sessions, session);
    kg_blob_clear(&session->side[0]);
    kg_blob_clear(&session->side[1]);
    kg_blob_clear(&session->snapshot);
    free(session->ice[0]);
    free(session->ice[1]);
    free(session->place);
    free(session);
}

void kg_mirror_clear(struct kg_mirror *mirror)
{
    struct kg_mirror_session *session, *next;
    HASH_ITER(hh, mirror->sessions, session, next)
    kg_mirror_remove(mirror, session);
}

static int grow(struct kg_mirror_session *session, size_t count)
{
    if (count > KG_MEDIA_STREAMS_MAX)
        count = KG_MEDIA_STREAMS_MAX;
    if (count <= session->line_count)
        return 0;
    struct kg_mirror_place(*place)[2] = realloc(session->place, count * sizeof *place);
    if (place == NULL)
        return ENOMEM;
    memset(place + session->line_count, 0, (count - session->line_count) * sizeof *place);
    session->place = place;
    session->line_count = (uint8_t)count;
    return 0;
}

static uint8_t proof_of(uint32_t proof)
{
    return proof <= KG_PROOF_ICE ? (uint8_t)proof : KG_PROOF_NONE;
}

static int take_places(struct kg_mirror_session *session, unsigned side, Kg__Place **place, size_t count)
{
    if (grow(session, count) != 0)
        return ENOMEM;
    for (size_t i = 0; i < count && i < session->line_count; i++) {
        session->place[i][side] = (struct kg_mirror_place){
            .local = kg_wire_to_addr(place[i]->local),
            .latched = {kg_wire_to_addr(place[i]->rtp), kg_wire_to_addr(place[i]->rtcp)},
            .proof = {proof_of(place[i]->rtp_proof), proof_of(place[i]->rtcp_proof)},
        };
    }
    return 0;
}

int kg_mirror_take_apply(struct kg_mirror_session *session, const Kg__Apply *apply)
{
    int error = 0;
    session->answered = apply->answered;
    if (apply->bind_a)
        session->bind[0] = kg_wire_to_addr(apply->bind_a);
    if (apply->bind_b)
        session->bind[1] = kg_wire_to_addr(apply->bind_b);
    if (apply->side_a.len > 0)
        error |= kg_blob_set(&session->side[0], apply->side_a.data, apply->side_a.len);
    if (apply->side_b.len > 0)
        error |= kg_blob_set(&session->side[1], apply->side_b.data, apply->side_b.len);
    if (apply->has_snapshot)
        error |= kg_blob_set(&session->snapshot, apply->snapshot.data, apply->snapshot.len);
    error |= kg_wire_keep_ice_local(apply->ice_a, &session->ice[0]);
    error |= kg_wire_keep_ice_local(apply->ice_b, &session->ice[1]);
    error |= take_places(session, 0, apply->place_a, apply->n_place_a);
    error |= take_places(session, 1, apply->place_b, apply->n_place_b);
    return error ? ENOMEM : 0;
}

int kg_mirror_take_local(struct kg_mirror_session *session, const Kg__Reply *reply)
{
    if (grow(session, reply->n_a > reply->n_b ? reply->n_a : reply->n_b) != 0)
        return ENOMEM;
    for (size_t i = 0; i < session->line_count; i++) {
        if (i < reply->n_a)
            session->place[i][0].local = kg_wire_to_addr(reply->a[i]);
        if (i < reply->n_b)
            session->place[i][1].local = kg_wire_to_addr(reply->b[i]);
    }
    return 0;
}

void kg_mirror_take_latched(struct kg_mirror_session *session, const Kg__Event *event)
{
    if (event->side > 1 || event->stream >= session->line_count)
        return;
    struct kg_mirror_place *place = &session->place[event->stream][event->side];
    unsigned which = event->rtcp ? 1 : 0;
    place->latched[which] = kg_wire_to_addr(event->addr);
    place->proof[which] = proof_of(event->proof);
}

void kg_mirror_forget_latched(struct kg_mirror_session *session, unsigned side, unsigned stream)
{
    if (stream >= session->line_count)
        return;
    struct kg_mirror_place *place = &session->place[stream][side];
    *place = (struct kg_mirror_place){.local = place->local};
}

static Kg__Place *from_place(struct kg_arena *arena, const struct kg_mirror_place *place)
{
    Kg__Place *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__place__init(out);
    out->local = kg_wire_from_addr(arena, &place->local);
    out->rtp = kg_wire_from_addr(arena, &place->latched[0]);
    out->rtcp = kg_wire_from_addr(arena, &place->latched[1]);
    out->rtp_proof = place->proof[0];
    out->rtcp_proof = place->proof[1];
    return out;
}

Kg__Apply *kg_mirror_apply(const struct kg_mirror_session *session, struct kg_arena *arena)
{
    Kg__Apply *apply = kg_arena_take(arena, sizeof *apply);
    Kg__Place **list[2];
    for (unsigned side = 0; side < 2; side++) {
        list[side] = kg_arena_take(arena, KG_MEDIA_STREAMS_MAX * sizeof *list[side]);
        for (unsigned i = 0; list[side] && i < session->line_count; i++) {
            list[side][i] = from_place(arena, &session->place[i][side]);
            if (list[side][i] == NULL)
                return NULL;
        }
    }
    if (apply == NULL || list[0] == NULL || list[1] == NULL)
        return NULL;
    kg__apply__init(apply);
    apply->id = (char *)(uintptr_t)session->id;
    apply->bind_a = kg_wire_from_addr(arena, &session->bind[0]);
    apply->bind_b = kg_wire_from_addr(arena, &session->bind[1]);
    apply->side_a = (ProtobufCBinaryData){session->side[0].len, session->side[0].data};
    apply->side_b = (ProtobufCBinaryData){session->side[1].len, session->side[1].data};
    apply->answered = session->answered;
    apply->has_snapshot = session->snapshot.len > 0;
    apply->snapshot = (ProtobufCBinaryData){session->snapshot.len, session->snapshot.data};
    if ((session->ice[0] && !(apply->ice_a = kg_wire_from_ice_local(arena, session->ice[0]))) ||
        (session->ice[1] && !(apply->ice_b = kg_wire_from_ice_local(arena, session->ice[1]))))
        return NULL;
    apply->place_a = list[0];
    apply->place_b = list[1];
    apply->n_place_a = apply->n_place_b = session->line_count;
    return apply;
}
