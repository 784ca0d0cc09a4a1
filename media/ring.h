/* A bounded queue between exactly one writing and one reading thread, without locks. The owner provides the
 * slots; the ring says which is next. Capacity is a power of two. */
#ifndef KG_MEDIA_RING_H
#define KG_MEDIA_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kg_ring {
    uint32_t capacity;
    _Atomic uint32_t written, read; /* free-running */
};

static inline uint32_t kg_ring_room(const struct kg_ring *ring)
{
    return ring->capacity - (atomic_load_explicit(&ring->written, memory_order_relaxed) -
                             atomic_load_explicit(&ring->read, memory_order_acquire));
}

/* Writer: the slot to fill, then commit. -1: full. */
static inline int64_t kg_ring_write_slot(const struct kg_ring *ring)
{
    if (kg_ring_room(ring) == 0)
        return -1;
    return atomic_load_explicit(&ring->written, memory_order_relaxed) & (ring->capacity - 1);
}
static inline void kg_ring_commit(struct kg_ring *ring)
{
    atomic_fetch_add_explicit(&ring->written, 1, memory_order_release);
}

/* Reader: the slot to empty, then done. -1: empty. */
static inline int64_t kg_ring_read_slot(const struct kg_ring *ring)
{
    uint32_t read = atomic_load_explicit(&ring->read, memory_order_relaxed);
    if (atomic_load_explicit(&ring->written, memory_order_acquire) == read)
        return -1;
    return read & (ring->capacity - 1);
}
static inline void kg_ring_done(struct kg_ring *ring)
{
    atomic_fetch_add_explicit(&ring->read, 1, memory_order_release);
}

#endif
