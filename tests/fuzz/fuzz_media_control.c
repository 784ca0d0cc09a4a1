/* Messages of the media control protocol, as a confused peer might send them. */
#include <stdlib.h>

#include "media/mirror.h"
#include "media/wire.h"

static void take_side(struct kg_arena *arena, ProtobufCBinaryData packed)
{
    static struct kg_media_side side;
    Kg__Side *wire = kg__side__unpack(&arena->allocator, packed.len, packed.data);
    if (wire && kg_wire_to_side(arena, wire, &side) == 0) {
        if (side.stream_count > KG_MEDIA_STREAMS_MAX)
            abort();
        kg_media_side_free(kg_media_side_copy(&side));
    }
}

static void take_apply(struct kg_arena *arena, const Kg__Apply *apply)
{
    struct kg_mirror mirror = {0};
    struct kg_mirror_session *session = kg_mirror_get(&mirror, apply->id);
    take_side(arena, apply->side_a);
    take_side(arena, apply->side_b);
    if (session && kg_mirror_take_apply(session, apply) == 0)
        kg_mirror_apply(session, arena);
    kg_mirror_clear(&mirror);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kg_arena *arena;
    if (arena == NULL && (arena = kg_arena_new()) == NULL)
        abort();
    const Kg__Message *message = size > KG_WIRE_MESSAGE_MAX ? NULL : kg_wire_parse(arena, data, size);
    if (message == NULL)
        return 0;
    if (message->body_case == KG__MESSAGE__BODY_APPLY)
        take_apply(arena, message->apply);
    if (message->body_case == KG__MESSAGE__BODY_REPLY && message->reply->session) {
        const Kg__Session *session = message->reply->session;
        struct kg_media_stats stats;
        for (size_t i = 0; i < session->n_a; i++)
            kg_wire_to_stats(session->a[i], &stats);
        struct kg_media_pair pair;
        for (size_t i = 0; i < session->n_pair; i++)
            kg_wire_to_pair(session->pair[i], &pair);
        if (session->apply)
            take_apply(arena, session->apply);
    }
    return 0;
}
