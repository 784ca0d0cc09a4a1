/* Writes on their way to the store: in order, one a key (a newer write replaces the waiting one), bounded.
 * Not locked: the store does that. */
#ifndef KG_STORE_QUEUE_H
#define KG_STORE_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

struct kg_store_write {
    char *key;
    char *user; /* NULL in a delete */
    char *json; /* NULL: delete the row */
    int64_t expires_ms;
    struct kg_store_write *prev, *next;
    UT_hash_handle hh;
};

struct kg_store_queue {
    struct kg_store_write *list; /* oldest first */
    struct kg_store_write *by_key;
    size_t max;
};

void kg_store_queue_init(struct kg_store_queue *queue, size_t max);
void kg_store_queue_clear(struct kg_store_queue *queue);
size_t kg_store_queue_count(const struct kg_store_queue *queue);
/* Copies its arguments. 0, ENOBUFS when full and the key is new, or ENOMEM. */
int kg_store_queue_put(struct kg_store_queue *queue, const char *key, const char *user, const char *json,
                       int64_t expires_ms);
/* Up to max writes, oldest first, linked by next; the caller's now. NULL when empty. */
struct kg_store_write *kg_store_queue_take(struct kg_store_queue *queue, size_t max);
/* A batch that failed: back in front, except where a newer write of the same key waits. */
void kg_store_queue_give_back(struct kg_store_queue *queue, struct kg_store_write *batch);
void kg_store_write_free_all(struct kg_store_write *batch);

#endif
