/* The client's memory of every session it made: enough to make it again in a restarted engine. */
#ifndef KG_MEDIA_MIRROR_H
#define KG_MEDIA_MIRROR_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "media/wire.h"

struct kg_mirror_place {
    struct kg_addr local;
    struct kg_addr latched[2]; /* RTP, RTCP */
    uint8_t proof[2];
};

struct kg_mirror_session {
    char id[KG_MEDIA_ID_MAX];
    UT_hash_handle hh;
    bool answered;
    bool seen;      /* in the list the engine is sending */
    bool confirmed; /* the engine has had it */
    bool deleting;
    const char *lost; /* static sentence: to be told and forgotten */
    uint8_t line_count;
    struct kg_addr bind[2];
    struct kg_blob side[2];
    struct kg_media_ice_local *ice[2]; /* NULL: never told of us as an ICE agent */
    struct kg_blob snapshot;
    struct kg_mirror_place (*place)[2]; /* [line_count][side] */
};

/* Keyed by id. */
struct kg_mirror {
    struct kg_mirror_session *sessions;
};

struct kg_mirror_session *kg_mirror_find(const struct kg_mirror *mirror, const char *id);
/* Found or new. NULL without memory. */
struct kg_mirror_session *kg_mirror_get(struct kg_mirror *mirror, const char *id);
void kg_mirror_remove(struct kg_mirror *mirror, struct kg_mirror_session *session);
void kg_mirror_clear(struct kg_mirror *mirror);

/* Each returns 0 or ENOMEM. */
int kg_mirror_take_apply(struct kg_mirror_session *session,
                         const Kg__Apply *apply); /* with its places, if any */
int kg_mirror_take_local(struct kg_mirror_session *session, const Kg__Reply *reply);
void kg_mirror_take_latched(struct kg_mirror_session *session, const Kg__Event *event);
/* Consent of that stream was lost: what was proven is not to be used in another engine's life. */
void kg_mirror_forget_latched(struct kg_mirror_session *session, unsigned side, unsigned stream);
/* The request that makes it again, in the arena, pointing into the session. NULL: arena full. */
Kg__Apply *kg_mirror_apply(const struct kg_mirror_session *session, struct kg_arena *arena);

#endif
