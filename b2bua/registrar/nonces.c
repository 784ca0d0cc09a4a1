#include "b2bua/registrar/nonces.h"

#include <stdlib.h>
#include <uthash.h>

struct entry {
    uint64_t id;
    int64_t made_ms;
    uint32_t highest;
    uint64_t window;   /* bit n: highest - n was used */
    UT_hash_handle hh; /* insertion order is order of last use */
};

struct kg_nonces {
    struct entry *by_id;
    int64_t forgotten_ms; /* unknown nonces made at or before this are forgotten ones */
};

struct kg_nonces *kg_nonces_new(int64_t now_ms)
{
    struct kg_nonces *nonces = calloc(1, sizeof *nonces);

    if (nonces)
        nonces->forgotten_ms = now_ms - 1;
    return nonces;
}

void kg_nonces_free(struct kg_nonces *nonces)
{
    struct entry *entry, *next;

    if (!nonces)
        return;
    HASH_ITER(hh, nonces->by_id, entry, next)
    {
        HASH_DEL(nonces->by_id, entry);
        free(entry);
    }
    free(nonces);
}

static struct entry *add(struct kg_nonces *nonces, uint64_t id, int64_t made_ms)
{
    struct entry *entry = NULL;

    if (HASH_COUNT(nonces->by_id) >= KG_NONCES_MAX) {
        entry = nonces->by_id;
        HASH_DEL(nonces->by_id, entry);
        if (entry->made_ms > nonces->forgotten_ms)
            nonces->forgotten_ms = entry->made_ms;
    } else {
        entry = malloc(sizeof *entry);
    }
    if (!entry)
        return NULL;
    *entry = (struct entry){.id = id, .made_ms = made_ms};
    HASH_ADD(hh, nonces->by_id, id, sizeof entry->id, entry);
    return entry;
}

enum kg_nonce_use kg_nonces_use(struct kg_nonces *nonces, uint64_t id, int64_t made_ms, uint32_t nc)
{
    struct entry *entry;

    HASH_FIND(hh, nonces->by_id, &id, sizeof id, entry);
    if (!entry) {
        if (made_ms <= nonces->forgotten_ms || !(entry = add(nonces, id, made_ms)))
            return KG_NONCE_FORGOTTEN;
        entry->highest = nc;
        entry->window = 1;
        return KG_NONCE_FRESH;
    }
    if (nc > entry->highest) {
        uint32_t step = nc - entry->highest;

        entry->window = step < 64 ? entry->window << step | 1 : 1;
        entry->highest = nc;
    } else {
        uint32_t back = entry->highest - nc;

        if (back >= 64 || entry->window >> back & 1)
            return KG_NONCE_SEEN;
        entry->window |= (uint64_t)1 << back;
    }
    /* To the end of the line. */
    HASH_DEL(nonces->by_id, entry);
    HASH_ADD(hh, nonces->by_id, id, sizeof entry->id, entry);
    return KG_NONCE_FRESH;
}

void kg_nonces_restore(struct kg_nonces *nonces, uint64_t id, int64_t made_ms, uint32_t nc)
{
    struct entry *entry;

    HASH_FIND(hh, nonces->by_id, &id, sizeof id, entry);
    if (!entry)
        entry = add(nonces, id, made_ms);
    if (entry && nc >= entry->highest) {
        entry->highest = nc;
        entry->window = UINT64_MAX;
    }
}
