#include "b2bua/store/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static void write_free(struct kg_store_write *op)
{
    if (!op)
        return;
    free(op->key);
    free(op->user);
    free(op->json);
    free(op);
}

static struct kg_store_write *write_new(const char *key, const char *user, const char *json,
                                        int64_t expires_ms)
{
    struct kg_store_write *op = calloc(1, sizeof *op);

    if (!op)
        return NULL;
    op->key = strdup(key);
    op->user = json ? strdup(user) : NULL;
    op->json = json ? strdup(json) : NULL;
    op->expires_ms = expires_ms;
    if (!op->key || (json && (!op->user || !op->json))) {
        write_free(op);
        return NULL;
    }
    return op;
}

void kg_store_queue_init(struct kg_store_queue *queue, size_t max)
{
    *queue = (struct kg_store_queue){.max = max};
}

size_t kg_store_queue_count(const struct kg_store_queue *queue)
{
    return HASH_COUNT(queue->by_key);
}

int kg_store_queue_put(struct kg_store_queue *queue, const char *key, const char *user, const char *json,
                       int64_t expires_ms)
{
    struct kg_store_write *old, *op;

    HASH_FIND_STR(queue->by_key, key, old);
    if (!old && kg_store_queue_count(queue) >= queue->max)
        return ENOBUFS;
    op = write_new(key, user, json, expires_ms);
    if (!op)
        return ENOMEM;
    if (old) {
        /* Only the last state of a row matters; it keeps the old write's place in line. */
        DL_REPLACE_ELEM(queue->list, old, op);
        HASH_DEL(queue->by_key, old);
        write_free(old);
    } else {
        DL_APPEND(queue->list, op);
    }
    HASH_ADD_KEYPTR(hh, queue->by_key, op->key, strlen(op->key), op);
    return 0;
}

struct kg_store_write *kg_store_queue_take(struct kg_store_queue *queue, size_t max)
{
    struct kg_store_write *batch = NULL, *op, *next;

    for (op = queue->list; op && max > 0; op = next, max--) {
        next = op->next;
        DL_DELETE(queue->list, op);
        HASH_DEL(queue->by_key, op);
        DL_APPEND(batch, op);
    }
    return batch;
}

void kg_store_queue_give_back(struct kg_store_queue *queue, struct kg_store_write *batch)
{
    struct kg_store_write *op, *last = batch ? batch->prev : NULL;

    /* From the last to the first, each to the front: the order stays. */
    while ((op = last)) {
        struct kg_store_write *newer;

        last = op == batch ? NULL : op->prev;
        HASH_FIND_STR(queue->by_key, op->key, newer);
        if (newer || kg_store_queue_count(queue) >= queue->max) {
            write_free(op);
            continue;
        }
        op->prev = op->next = NULL;
        DL_PREPEND(queue->list, op);
        HASH_ADD_KEYPTR(hh, queue->by_key, op->key, strlen(op->key), op);
    }
}

void kg_store_write_free_all(struct kg_store_write *batch)
{
    while (batch) {
        struct kg_store_write *next = batch->next;

        write_free(batch);
        batch = next;
    }
}

void kg_store_queue_clear(struct kg_store_queue *queue)
{
    kg_store_write_free_all(kg_store_queue_take(queue, SIZE_MAX));
}
