/* How fast requests may come: the generic cell rate algorithm, a token bucket in one number. Pure. */
#ifndef KG_CALL_PACE_H
#define KG_CALL_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: full. */
struct kg_pace {
    int64_t full_ms; /* when it would be full again */
};

/* Takes one of `burst` tokens, one of which comes back every interval_ms. False: none is left. */
static inline bool kg_pace_take(struct kg_pace *pace, int64_t now_ms, int64_t interval_ms, int64_t burst)
{
    int64_t from = pace->full_ms > now_ms ? pace->full_ms : now_ms;
    if (from - now_ms > (burst - 1) * interval_ms)
        return false;
    pace->full_ms = from + interval_ms;
    return true;
}

#endif
