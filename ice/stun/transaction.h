/* A client transaction over UDP (RFC 8489 6.2.1): when to send again, when to give up. Pure; times in ms. */
#ifndef KG_ICE_STUN_TRANSACTION_H
#define KG_ICE_STUN_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "ice/stun/message.h"

#define KG_STUN_RC 7  /* requests sent at most (6.2.1) */
#define KG_STUN_RM 16 /* the last wait is RM times the first RTO (6.2.1) */

struct kg_stun_transaction {
    uint8_t id[KG_STUN_ID];
    uint8_t sent; /* requests so far */
    uint8_t rc;   /* at most so many; KG_STUN_RC unless told */
    uint8_t rm;
    uint32_t rto_ms;             /* the first */
    int64_t next_ms;             /* when to send again, or give up after the last; INT64_MAX: over */
    int64_t started_ms, sent_ms; /* the first request, the latest */
};

enum kg_stun_due { KG_STUN_WAIT, KG_STUN_SEND_AGAIN, KG_STUN_TIMED_OUT };

/* The first request is due at once. rc and rm 0: the RFC's. */
void kg_stun_transaction_start(struct kg_stun_transaction *t, const uint8_t id[static KG_STUN_ID],
                               uint32_t rto_ms, uint8_t rc, uint8_t rm, int64_t now_ms);
enum kg_stun_due kg_stun_transaction_due(const struct kg_stun_transaction *t, int64_t now_ms);
void kg_stun_transaction_sent(struct kg_stun_transaction *t, int64_t now_ms); /* counts and doubles */

#endif
