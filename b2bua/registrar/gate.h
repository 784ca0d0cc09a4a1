/* How many may come in a time, and when those who are too many shall come back: each gets a place in the
 * queue, told by Retry-After, so that all of a crowd are in as soon as the pace allows. Pure: now is handed
 * in. */
#ifndef KG_GATE_H
#define KG_GATE_H

#include <stdbool.h>
#include <stdint.h>

/* So many at once, then so many a second. */
#define KG_GATE_BURST 2500
#define KG_GATE_RATE  156

/* All zero at the start. */
struct kg_gate {
    int64_t tokens; /* what may pass, in thousandths of a request */
    int64_t at_ms;  /* as of; 0: not begun */
    int64_t booked; /* places given: KG_GATE_RATE times a time in ms */
};

/* True: one more may pass. */
bool kg_gate_take(struct kg_gate *gate, int64_t now_ms);
/* The next place, in seconds from now: at least 1. Beyond two minutes it is anywhere in the second of them.
 */
uint32_t kg_gate_retry_after(struct kg_gate *gate, int64_t now_ms, uint32_t chance);

#endif
