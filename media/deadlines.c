#include "media/deadlines.h"

#include <errno.h>
#include <stdlib.h>

static void put(struct kg_deadlines *heap, uint32_t at, struct kg_deadline *node)
{
    heap->node[at] = node;
    node->place = at + 1;
}

static void rise(struct kg_deadlines *heap, uint32_t at)
{
    struct kg_deadline *node = heap->node[at];
    while (at > 0 && heap->node[(at - 1) / 2]->at_ms > node->at_ms) {
        put(heap, at, heap->node[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, node);
}

static void sink(struct kg_deadlines *heap, uint32_t at)
{
    struct kg_deadline *node = heap->node[at];
    for (uint32_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->node[child + 1]->at_ms < heap->node[child]->at_ms)
            child++;
        if (heap->node[child]->at_ms >= node->at_ms)
            break;
        put(heap, at, heap->node[child]);
    }
    put(heap, at, node);
}

static int grow(struct kg_deadlines *heap)
{
    if (heap->count < heap->capacity)
        return 0;
    uint32_t capacity = heap->capacity ? 2 * heap->capacity : 64;
    struct kg_deadline **node = realloc(heap->node, capacity * sizeof(*node));
    if (node == NULL)
        return ENOMEM;
    heap->node = node;
    heap->capacity = capacity;
    return 0;
}

int kg_deadlines_set(struct kg_deadlines *heap, struct kg_deadline *node, int64_t at_ms)
{
    if (at_ms == INT64_MAX) {
        kg_deadlines_remove(heap, node);
        return 0;
    }
    if (node->place == 0) {
        if (grow(heap) != 0)
            return ENOMEM;
        put(heap, heap->count++, node);
    }
    node->at_ms = at_ms;
    rise(heap, node->place - 1);
    sink(heap, node->place - 1);
    return 0;
}

void kg_deadlines_remove(struct kg_deadlines *heap, struct kg_deadline *node)
{
    if (node->place == 0)
        return;
    uint32_t at = node->place - 1;
    struct kg_deadline *last = heap->node[--heap->count];
    node->place = 0;
    if (last == node)
        return;
    put(heap, at, last);
    rise(heap, at);
    sink(heap, last->place - 1);
}

void kg_deadlines_clear(struct kg_deadlines *heap)
{
    free(heap->node);
    *heap = (struct kg_deadlines){0};
}
