/* Phones whose connection closed, for a while: their contact went with it, but a call of theirs did not. When
 * the same phone registers again (RFC 5626: user and instance, whatever its Contact is called now), the
 * watcher is told that it moved. Pages in browsers come and go so. */
#include <stdlib.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "conf/clock.h"

/* A call without media ends before that (media.silence_timeout). */
#define KEPT_MS 120000
/* The oldest goes; an entry holds a closed connection of the library's. */
#define DEPARTED_MAX 1024

struct kg_departed {
    char device[KG_TOKEN_SIZE];
    struct kg_flow flow; /* a reference */
    int64_t until_ms;    /* monotonic */
    UT_hash_handle hh;   /* oldest first */
};

static void forget(struct kg_registrar *registrar, struct kg_departed *departed)
{
    HASH_DEL(registrar->departed, departed);
    kg_flow_clear(&departed->flow);
    free(departed);
}

void kg_departed_note(struct kg_registrar *registrar, const struct kg_binding *b)
{
    int64_t now_ms = kg_mono_ms();
    struct kg_departed *departed;

    HASH_FIND_STR(registrar->departed, b->device, departed);
    if (departed)
        forget(registrar, departed);
    while (registrar->departed &&
           (registrar->departed->until_ms <= now_ms || HASH_COUNT(registrar->departed) >= DEPARTED_MAX))
        forget(registrar, registrar->departed);
    departed = b->reg_id != 0 ? calloc(1, sizeof *departed) : NULL;
    if (!departed)
        return;
    memcpy(departed->device, b->device, sizeof departed->device);
    kg_flow_copy(&departed->flow, &b->flow);
    departed->until_ms = now_ms + KEPT_MS;
    HASH_ADD_STR(registrar->departed, device, departed);
}

bool kg_departed_take(struct kg_registrar *registrar, const struct kg_binding *b, struct kg_flow *before)
{
    struct kg_departed *departed;
    bool fresh;

    HASH_FIND_STR(registrar->departed, b->device, departed);
    if (!departed)
        return false;
    fresh = departed->until_ms > kg_mono_ms();
    if (fresh)
        kg_flow_copy(before, &departed->flow);
    forget(registrar, departed);
    return fresh;
}

void kg_departed_free(struct kg_registrar *registrar)
{
    while (registrar->departed)
        forget(registrar, registrar->departed);
}
