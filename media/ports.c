#include "media/ports.h"

#include <errno.h>
#include <stdlib.h>

#define PAIRS      32768 /* pair i is ports 2i and 2i + 1 */
#define WAKE_EARLY 64

enum pair_state { OUTSIDE, FREE, USED, RESTING };

struct kg_ports {
    uint16_t first, end; /* pairs of the range */
    uint32_t quarantine_ms;
    size_t in_use;
    uint8_t state[PAIRS];
    uint16_t free[PAIRS];  /* free[0..free_count): the free pairs in any order */
    uint16_t place[PAIRS]; /* of a free pair in free[] */
    size_t free_count;
    /* Resting pairs, oldest first. The entry of a pair that was taken out of turn stays behind; at worst it
     * ends that pair's next rest early. */
    struct rest {
        uint16_t pair;
        int64_t since, until;
    } resting[PAIRS];
    size_t rest_head, rest_count;
};

static void add_free(struct kg_ports *p, uint16_t pair)
{
    p->state[pair] = FREE;
    p->place[pair] = (uint16_t)p->free_count;
    p->free[p->free_count++] = pair;
}

static void remove_free(struct kg_ports *p, uint16_t pair)
{
    uint16_t last = p->free[--p->free_count];
    p->free[p->place[pair]] = last;
    p->place[last] = p->place[pair];
}

static bool in_range(const struct kg_ports *p, uint16_t pair)
{
    return pair >= p->first && pair < p->end;
}

void kg_ports_configure(struct kg_ports *p, uint16_t min, uint16_t max, uint32_t quarantine_ms)
{
    p->first = (uint16_t)((min + 1u) / 2);
    p->end = (uint16_t)((max + 1u) / 2);
    if (p->first == 0)
        p->first = 1;
    p->quarantine_ms = quarantine_ms;
    p->free_count = 0;
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint16_t pair = (uint16_t)i;
        if (p->state[pair] == USED || p->state[pair] == RESTING)
            continue;
        if (in_range(p, pair))
            add_free(p, pair);
        else
            p->state[pair] = OUTSIDE;
    }
}

struct kg_ports *kg_ports_new(uint16_t min, uint16_t max, uint32_t quarantine_ms)
{
    struct kg_ports *p = calloc(1, sizeof *p);
    if (p)
        kg_ports_configure(p, min, max, quarantine_ms);
    return p;
}

void kg_ports_free(struct kg_ports *ports)
{
    free(ports);
}

static void wake(struct kg_ports *p, uint16_t pair)
{
    if (p->state[pair] != RESTING)
        return; /* taken out of turn meanwhile */
    if (in_range(p, pair))
        add_free(p, pair);
    else
        p->state[pair] = OUTSIDE;
}

static void wake_oldest(struct kg_ports *p)
{
    uint16_t pair = p->resting[p->rest_head].pair;
    p->rest_head = (p->rest_head + 1) % PAIRS;
    p->rest_count--;
    wake(p, pair);
}

static void wake_rested(struct kg_ports *p, int64_t now_ms)
{
    while (p->rest_count > 0 && p->resting[p->rest_head].until <= now_ms)
        wake_oldest(p);
}

/* No pair has had its whole rest: a few of the oldest, so that the choice stays a random one. */
static void wake_early(struct kg_ports *p, int64_t now_ms)
{
    while (p->rest_count > 0 && p->free_count < WAKE_EARLY &&
           now_ms - p->resting[p->rest_head].since >= KG_PORTS_REST_MIN_MS)
        wake_oldest(p);
}

uint16_t kg_ports_take(struct kg_ports *p, uint32_t random, int64_t now_ms)
{
    wake_rested(p, now_ms);
    if (p->free_count == 0)
        wake_early(p, now_ms);
    if (p->free_count == 0)
        return 0;
    uint16_t pair = p->free[random % p->free_count];
    remove_free(p, pair);
    p->state[pair] = USED;
    p->in_use++;
    return (uint16_t)(pair * 2);
}

int kg_ports_take_exactly(struct kg_ports *p, uint16_t port)
{
    if (port == 0 || port % 2 != 0)
        return EINVAL;
    uint16_t pair = port / 2;
    if (p->state[pair] == USED)
        return EADDRINUSE;
    if (p->state[pair] == FREE)
        remove_free(p, pair);
    p->state[pair] = USED;
    p->in_use++;
    return 0;
}

void kg_ports_release(struct kg_ports *p, uint16_t port, int64_t now_ms)
{
    uint16_t pair = port / 2;
    if (p->state[pair] != USED)
        return;
    p->in_use--;
    p->state[pair] = RESTING;
    if (p->rest_count == PAIRS) /* entries that stayed behind: end the oldest rest */
        wake_oldest(p);
    p->resting[(p->rest_head + p->rest_count++) % PAIRS] =
        (struct rest){pair, now_ms, now_ms + p->quarantine_ms};
}

size_t kg_ports_in_use(const struct kg_ports *ports)
{
    return ports->in_use;
}
