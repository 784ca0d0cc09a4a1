#include "b2bua/registrar/gate.h"

/* Thousandths of one request. */
#define ONE 1000

#define QUEUE_S 120

bool kg_gate_take(struct kg_gate *gate, int64_t now_ms)
{
    if (gate->at_ms == 0)
        gate->tokens = KG_GATE_BURST * ONE;
    else
        gate->tokens += (now_ms - gate->at_ms) * KG_GATE_RATE; /* a second's are RATE * ONE */
    gate->at_ms = now_ms;
    if (gate->tokens > KG_GATE_BURST * ONE)
        gate->tokens = KG_GATE_BURST * ONE;
    if (gate->tokens < ONE)
        return false;
    gate->tokens -= ONE;
    return true;
}

uint32_t kg_gate_retry_after(struct kg_gate *gate, int64_t now_ms, uint32_t chance)
{
    int64_t now = now_ms * KG_GATE_RATE; /* in thousandths of a request, too */

    if (gate->booked < now)
        gate->booked = now;
    if (gate->booked - now > (int64_t)QUEUE_S * KG_GATE_RATE * ONE)
        return QUEUE_S / 2 + chance % (QUEUE_S / 2 + 1);
    gate->booked += ONE;
    return (uint32_t)((gate->booked - now) / (KG_GATE_RATE * ONE)) + 1;
}
