/* How fast something may come: a token bucket in one number (the generic cell rate algorithm). Pure. */
#ifndef KG_PACE_H
#define KG_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: full. */
struct kg_pace {
    int64_t full_us; /* when it would be full again */
};

/* Takes one of `burst` tokens, of which `rate` a second come back. False: none is left. */
static inline bool kg_pace_take(struct kg_pace *pace, int64_t now_ms, uint32_t rate, uint32_t burst)
{
    int64_t now_us = now_ms * 1000, step_us = 1000000 / rate;
    int64_t from = pace->full_us > now_us ? pace->full_us : now_us;
    if (from - now_us > step_us * ((int64_t)burst - 1))
        return false;
    pace->full_us = from + step_us;
    return true;
}

#endif
