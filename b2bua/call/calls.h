/* Calls: a true B2BUA. Each call has two legs; the pure state machine is in call/fsm.h, this is its table and
 * glue. */
#ifndef KG_CALLS_H
#define KG_CALLS_H

#include <jansson.h>
#include <sofia-sip/sip.h>

#include "b2bua/server.h"
#include "b2bua/sip/flow.h"
#include "media/client.h"

struct kg_calls;

struct kg_calls *kg_calls_new(struct kg_server *server);
void kg_calls_free(struct kg_calls *calls);
/* kg_sip_handlers.on_invite */
void kg_calls_invite(struct kg_calls *calls, nta_incoming_t *irq, const sip_t *sip,
                     const struct kg_flow *flow);
/* From the media client: latched, silence, lost, recovered (a call is taken over from its snapshot). */
void kg_calls_media_event(struct kg_calls *calls, const struct kg_media_event *event);
/* kg_sip_handlers.on_flow_lost */
void kg_calls_flow_lost(struct kg_calls *calls, tport_t *tport);
/* kg_registrar_moved: the phone's calls follow it. */
void kg_calls_moved(struct kg_calls *calls, const char *user, const struct kg_flow *before,
                    const struct kg_flow *after);
/* Ends every call with BYE/CANCEL/503 (SIGTERM). */
void kg_calls_shutdown(struct kg_calls *calls);
/* No call is left, and the record of the last one is complete. */
bool kg_calls_are_done(const struct kg_calls *calls);
size_t kg_calls_count(const struct kg_calls *calls);

/* Asynchronous, since the statistics are the engine's: done gets a new reference it owns.
 * list: `calls --json` of the issue; recent: ended ones (a bounded ring) instead of current ones. */
typedef void kg_calls_json_done(void *ctx, json_t *json);
void kg_calls_list(struct kg_calls *calls, bool recent, kg_calls_json_done *done, void *ctx);
/* One call by id or unique prefix, current or recent, with "explain": an array of sentences. NULL json: no
 * such. */
void kg_calls_explain(struct kg_calls *calls, const char *id, kg_calls_json_done *done, void *ctx);
/* By id or unique prefix of a current call. 0 or ENOENT. */
int kg_calls_hangup(struct kg_calls *calls, const char *id);

#endif
