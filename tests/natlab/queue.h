/* Packets on their way: a bounded heap by due time, equal times in order of arrival. */
#ifndef KG_NATLAB_QUEUE_H
#define KG_NATLAB_QUEUE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX 16384 /* packets; more are refused */

struct queued {
    int64_t due;
    uint64_t order;
    int fd;
    uint32_t len;
    uint8_t *data;
};

struct queue {
    uint64_t order;
    uint32_t count;
    struct queued heap[QUEUE_MAX];
};

static inline int queue_before(const struct queued *a, const struct queued *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

/* Copies the packet. Returns 0, ENOBUFS when full, or ENOMEM. */
static inline int queue_push(struct queue *q, int64_t due, int fd, const uint8_t *data, size_t len)
{
    if (q->count == QUEUE_MAX)
        return ENOBUFS;
    struct queued item = {due, q->order++, fd, (uint32_t)len, malloc(len)};
    if (!item.data)
        return ENOMEM;
    memcpy(item.data, data, len);
    uint32_t i = q->count++;
    while (i && queue_before(&item, &q->heap[(i - 1) / 2])) {
        q->heap[i] = q->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    q->heap[i] = item;
    return 0;
}

/* Takes the first packet that is due; the caller frees its data. False: none is. */
static inline int queue_pop(struct queue *q, int64_t now, struct queued *out)
{
    if (!q->count || q->heap[0].due > now)
        return 0;
    *out = q->heap[0];
    struct queued last = q->heap[--q->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= q->count)
            break;
        if (child + 1 < q->count && queue_before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!queue_before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = last;
    return 1;
}

#endif
