/* The engine's end of media/control.proto: one signalling process at a time, the newest. */
#ifndef KG_MEDIA_LINK_H
#define KG_MEDIA_LINK_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "media/session.h"

struct kg_link;

/* listen_fd stays the caller's. instance: Hello.instance. on_configure: settings from signalling. Returns
 * NULL without memory. */
struct kg_link *kg_link_new(struct event_base *base, int listen_fd, uint64_t instance,
                            struct kg_arena *arena);
void kg_link_free(struct kg_link *link);
/* Once, before the loop runs; the sessions' handlers are those below with this link. */
void kg_link_serve(struct kg_link *link, struct kg_sessions *sessions);

/* The engine does DTLS with this certificate from now on: in Hello, and an event to whoever is connected. */
void kg_link_set_identity(struct kg_link *link, const struct kg_fingerprint *identity);
bool kg_link_is_owned(const struct kg_link *link);
/* For struct kg_sessions_handlers; ctx is the link. */
void kg_link_report(void *ctx, uint32_t request, void *asked_by, Kg__Session *session);
void kg_link_event(void *ctx, const Kg__Event *event);
void kg_link_wake_soon(void *ctx);
/* After kg_sessions_collect: go on with whatever waited for room. */
void kg_link_resume(struct kg_link *link);

#endif
