/* Who is due next: a binary min-heap whose nodes live inside what is due. Pure. */
#ifndef KG_MEDIA_DEADLINES_H
#define KG_MEDIA_DEADLINES_H

#include <stdint.h>

/* Zeroed: not in a heap. */
struct kg_deadline {
    int64_t at_ms;
    uint32_t place; /* in the heap, from 1; 0: in none */
};

struct kg_deadlines {
    struct kg_deadline **node;
    uint32_t count, capacity;
};

/* Adds or moves; at_ms INT64_MAX: takes it out. Returns 0, or ENOMEM (then it is in the heap as before). */
int kg_deadlines_set(struct kg_deadlines *heap, struct kg_deadline *node, int64_t at_ms);
void kg_deadlines_remove(struct kg_deadlines *heap, struct kg_deadline *node); /* also one that is in none */
/* NULL: nobody. */
static inline struct kg_deadline *kg_deadlines_first(const struct kg_deadlines *heap)
{
    return heap->count > 0 ? heap->node[0] : (struct kg_deadline *)0;
}
void kg_deadlines_clear(struct kg_deadlines *heap); /* frees; the nodes are left alone */

#endif
