/* A bad line: delay, jitter, loss, reordering, duplication. Every decision is a hash of (seed, direction,
 * flow number, packet number), so that a run can be repeated whatever else the machine does. Pure. */
#ifndef KG_NATLAB_IMPAIR_H
#define KG_NATLAB_IMPAIR_H

#include "nat.h"

/* Probabilities are in parts per million. */
struct impair_config {
    int64_t delay_us, jitter_us, reorder_us;
    uint32_t loss, reorder, duplicate;
    bool lose_once; /* what comes again with the same contents is not lost again */
};

struct impair_decision {
    bool lost, duplicated, reordered;
    int64_t delay_us;
};

static inline struct impair_decision impair_decide(const struct impair_config *c, uint64_t seed,
                                                   enum nat_direction direction, uint32_t flow,
                                                   uint64_t packet)
{
    uint64_t h = nat_mix(nat_mix(nat_mix(seed) ^ (uint64_t)flow << 1 ^ (uint64_t)direction) ^ packet);
    struct impair_decision d = {.delay_us = c->delay_us};
    d.lost = nat_mix(h ^ 1) % 1000000 < c->loss;
    d.duplicated = nat_mix(h ^ 2) % 1000000 < c->duplicate;
    d.reordered = nat_mix(h ^ 3) % 1000000 < c->reorder;
    if (c->jitter_us)
        d.delay_us += (int64_t)(nat_mix(h ^ 4) % (uint64_t)c->jitter_us);
    if (d.reordered)
        d.delay_us += c->reorder_us;
    return d;
}

#endif
