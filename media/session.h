/* The control thread's sessions: what signalling said, which ports and worker each has. */
#ifndef KG_MEDIA_SESSION_H
#define KG_MEDIA_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "media/identities.h"
#include "media/wire.h"
#include "media/worker.h"

struct kg_sessions;

/* A report asked for by kg_sessions_report or kg_sessions_remove, or a notice, has come. Called from
 * kg_sessions_collect. */
struct kg_sessions_handlers {
    /* message: whole reply, to be sent now. ctx: as given to report/remove. */
    void (*report)(void *link, uint32_t request, void *ctx, Kg__Session *session);
    void (*event)(void *link, const Kg__Event *event);
    /* Workers have commands: call kg_sessions_wake soon. Waking a thread costs more than most commands do,
     * and the sockets already hold what arrives, so several commands share one wake-up. */
    void (*wake_soon)(void *link);
    void *link;
};

/* Hosts that kedge's ICE agents never check. Grows only, and workers know of so many as there were when they
 * were told. */
#define KG_AVOID_MAX 128
struct kg_avoid {
    struct kg_addr addr[KG_AVOID_MAX];
    size_t count;
};
/* A host that is there already, or does not fit any more, changes nothing. */
void kg_avoid_add(struct kg_avoid *avoid, const struct kg_addr *addr);

struct kg_sessions *kg_sessions_new(const struct kg_config *config, struct kg_worker **workers,
                                    unsigned worker_count, const struct kg_sessions_handlers *handlers,
                                    struct kg_arena *arena, struct kg_avoid *avoid,
                                    const struct kg_identities *identities);
void kg_sessions_free(struct kg_sessions *sessions);
void kg_sessions_configure(struct kg_sessions *sessions, const Kg__Configure *configure);
unsigned kg_sessions_count(const struct kg_sessions *sessions);
/* True while every worker can take a few more commands; ask before each of the calls below. */
bool kg_sessions_have_room(const struct kg_sessions *sessions);

/* Creates or changes. Fills reply (error, a, b) in the arena. */
void kg_sessions_apply(struct kg_sessions *sessions, const Kg__Apply *apply, int64_t now_ms,
                       Kg__Reply *reply);
/* KG_MEDIA_OK: handlers.report follows. */
enum kg_media_error kg_sessions_remove(struct kg_sessions *sessions, const char *id, uint32_t request,
                                       void *ctx);
enum kg_media_error kg_sessions_report(struct kg_sessions *sessions, const char *id, bool whole,
                                       uint32_t request, void *ctx);
/* The session in the first used slot at or after *slot; advances *slot behind it. NULL: no more. */
const char *kg_sessions_next(const struct kg_sessions *sessions, uint32_t *slot);

void kg_sessions_wake(struct kg_sessions *sessions);
/* Takes every notice of the workers. owned: signalling is connected, so events have a reader. */
void kg_sessions_collect(struct kg_sessions *sessions, bool owned, int64_t now_ms);

#endif
