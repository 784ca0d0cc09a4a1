#include "ice/stun/transaction.h"

#include <string.h>

/* Doubling ends here: with rc above the RFC's, waits stay below 2^52 ms. */
#define DOUBLINGS_MAX 20

void kg_stun_transaction_start(struct kg_stun_transaction *t, const uint8_t id[static KG_STUN_ID],
                               uint32_t rto_ms, uint8_t rc, uint8_t rm, int64_t now_ms)
{
    *t = (struct kg_stun_transaction){
        .rc = rc != 0 ? rc : KG_STUN_RC,
        .rm = rm != 0 ? rm : KG_STUN_RM,
        .rto_ms = rto_ms,
        .next_ms = now_ms,
        .started_ms = now_ms,
        .sent_ms = now_ms,
    };
    memcpy(t->id, id, KG_STUN_ID);
}

enum kg_stun_due kg_stun_transaction_due(const struct kg_stun_transaction *t, int64_t now_ms)
{
    if (t->next_ms == INT64_MAX || now_ms < t->next_ms)
        return KG_STUN_WAIT;
    return t->sent < t->rc ? KG_STUN_SEND_AGAIN : KG_STUN_TIMED_OUT;
}

void kg_stun_transaction_sent(struct kg_stun_transaction *t, int64_t now_ms)
{
    int doublings = t->sent < DOUBLINGS_MAX ? t->sent : DOUBLINGS_MAX;

    if (t->sent == 0)
        t->started_ms = now_ms;
    t->sent_ms = now_ms;
    if (t->sent < UINT8_MAX)
        t->sent++;
    t->next_ms = now_ms + (t->sent < t->rc ? (int64_t)t->rto_ms << doublings : (int64_t)t->rto_ms * t->rm);
}
