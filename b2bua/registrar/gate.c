#include "b2bua/registrar/gate.h"

/* Thousandths of one request. */
#define ONE 1000

#define QUEUE_S 120

bool kg_gate_take(struct kg_gate *p, int64_t now_ms)
{
    if (p->at_ms == 0)
        p->tokens = KG_GATE_BURST * ONE;
    else
        p->tokens += (now_ms - p->at_ms) * KG_GATE_RATE; /* a second's are RATE * ONE */
    p->at_ms = now_ms;
    if (p->tokens > KG_GATE_BURST * ONE)
        p->tokens = KG_GATE_BURST * ONE;
    if (p->tokens < ONE)
        return false;
    p->tokens -= ONE;
    return true;
}

uint32_t kg_gate_retry_after(struct kg_gate *p, int64_t now_ms, uint32_t chance)
{
    int64_t now = now_ms * KG_GATE_RATE; /* in thousandths of a request, too */

    if (p->booked < now)
        p->booked = now;
    if (p->booked - now > (int64_t)QUEUE_S * KG_GATE_RATE * ONE)
        return QUEUE_S / 2 + chance % (QUEUE_S / 2 + 1);
    p->booked += ONE;
    return (uint32_t)((p->booked - now) / (KG_GATE_RATE * ONE)) + 1;
}
