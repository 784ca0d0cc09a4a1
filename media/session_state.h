/* Inside session.c and session_news.c: one session and the table of all. Control thread only. */
#ifndef KG_MEDIA_SESSION_STATE_H
#define KG_MEDIA_SESSION_STATE_H

#include <uthash.h>

#include "media/session.h"

struct kg_session {
    char id[KG_MEDIA_ID_MAX];
    UT_hash_handle hh;
    uint32_t slot;
    bool answered;
    bool ice_spoken; /* some description was about ICE */
    bool removed;    /* gone for signalling; the worker still has the relay */
    uint8_t line_count;
    struct kg_worker *worker;
    struct kg_relay *relay; /* the worker's, after the first command */
    struct kg_addr bind[2];
    struct kg_blob side[2];            /* packed Side, as it came */
    struct kg_media_ice_local *ice[2]; /* NULL: never told of us as an ICE agent */
    struct kg_blob snapshot;
    struct kg_session_line {
        bool made; /* has a kg_stream */
        bool audio;
        struct kg_addr local[2]; /* RTP; none: no sockets */
    } * line;                    /* [line_count] */
};

struct kg_sessions {
    struct kg_worker **worker;
    unsigned worker_count, next_worker;
    struct kg_sessions_handlers handlers;
    struct kg_arena *arena;
    struct kg_ports *ports;
    struct kg_session *by_id;
    struct kg_session **slot;
    uint32_t slot_count;
    bool waking; /* wake_soon was called */
    struct kg_media_side scratch;
    struct kg_avoid *avoid; /* the engine's, and so are they: */
    const struct kg_identities *identities;
};

/* A question to a worker and who asked. */
struct kg_question {
    struct kg_session *session;
    uint32_t request;
    bool whole;
    void *ctx;
};

/* Not its relay, which is the worker's, nor its ports. */
void kg_session_free(struct kg_session *session);

#endif
