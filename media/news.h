/* What relays owe signalling, as notices of their worker. What has no room stays untold, and is said again by
 * the tick. Worker thread only. */
#ifndef KG_MEDIA_NEWS_H
#define KG_MEDIA_NEWS_H

#include "media/worker.h"

void kg_news_latched(struct kg_worker *worker, struct kg_flow *flow);   /* where this latch is now */
void kg_news_latches(struct kg_worker *worker, struct kg_relay *relay); /* those that are untold */
/* The same, and what is new of ICE and keys; relay->untold says afterwards whether something is left. */
void kg_news_tell(struct kg_worker *worker, struct kg_relay *relay);

#endif
