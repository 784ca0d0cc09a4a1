/* Reading a socket's packets and sending them on, several in one system call. Buffers are allocated once. */
#ifndef KG_MEDIA_BATCH_H
#define KG_MEDIA_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "media/relay.h"

struct kg_batch {
    struct kg_batch_slots *slots;
};

/* Returns 0 or ENOMEM. */
int kg_batch_init(struct kg_batch *batch);
void kg_batch_free(struct kg_batch *batch);

/* Reads what waits on flow->fd, up to one batch, and relays it. */
void kg_batch_relay(struct kg_batch *batch, struct kg_flow *flow, const struct kg_limits *limits,
                    int64_t now_us);
/* Sends what ICE and DTLS have to say for this relay, at most KG_OWN_BURST datagrams: the rest is due at once
 * again. False: there may be more. */
#define KG_OWN_BURST 64
bool kg_batch_send_own(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms);

#endif
