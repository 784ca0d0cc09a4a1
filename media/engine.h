/* The media engine as a process role. */
#ifndef KG_MEDIA_ENGINE_H
#define KG_MEDIA_ENGINE_H

#include <stdbool.h>

#include "conf/config.h"

struct kg_media_engine;

/* listen_fd: a listening UNIX seqpacket socket (control connections). Starts the worker threads.
 * heartbeat is called about once a second from the control thread while ALL workers make progress: the
 * supervisor's watchdog hears of it. Returns NULL with a logged reason. */
struct kg_media_engine *kg_media_engine_new(const struct kg_config *config, int listen_fd,
                                            void (*heartbeat)(void *), void *ctx);
/* Runs the control loop until kg_media_engine_stop (safe from a signal handler or another thread). */
void kg_media_engine_run(struct kg_media_engine *engine);
void kg_media_engine_stop(struct kg_media_engine *engine);
void kg_media_engine_free(struct kg_media_engine *engine);
/* Also watch this fd in the control loop (the supervisor's socket); the callback reads it. */
int kg_media_engine_watch(struct kg_media_engine *engine, int fd, void (*readable)(void *), void *ctx);
void kg_media_engine_unwatch(struct kg_media_engine *engine, int fd);
/* True while a signalling process is connected. Control thread only. */
bool kg_media_engine_has_owner(const struct kg_media_engine *engine);
/* Number of sessions, for the supervisor-is-gone rule (main.c). Control thread only. */
unsigned kg_media_engine_sessions(const struct kg_media_engine *engine);

#endif
