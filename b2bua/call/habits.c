#include "b2bua/call/habits.h"

#include <stdlib.h>
#include <string.h>

/* Places for those whose hash is alike. */
#define WAYS 4

struct habit {
    uint64_t key;                       /* 0: nobody's */
    int64_t until_ms, refused_until_ms; /* all of it; what it refused */
    uint8_t refused, shown, taken;
};

struct kg_habits {
    struct habit habit[KG_HABITS_MAX / WAYS][WAYS];
};

struct kg_habits *kg_habits_new(void)
{
    return calloc(1, sizeof(struct kg_habits));
}

void kg_habits_free(struct kg_habits *habits)
{
    free(habits);
}

/* FNV-1a over the address as text: its bytes may have padding. */
static uint64_t key_of(enum kg_transport transport, const struct kg_addr *addr)
{
    char text[KG_ADDR_STR];
    uint64_t hash = (0xcbf29ce484222325u ^ (unsigned)transport) * 0x100000001b3u;
    for (const char *c = kg_addr_format(addr, text); *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash ? hash : 1;
}

static size_t set_of(uint64_t key)
{
    return (key ^ key >> 32) % (KG_HABITS_MAX / WAYS);
}

/* Its own; NULL: it has none. */
static const struct habit *find(const struct kg_habits *habits, uint64_t key, int64_t now_ms)
{
    const struct habit *set = habits->habit[set_of(key)];
    for (size_t i = 0; i < WAYS; i++)
        if (set[i].key == key && now_ms < set[i].until_ms)
            return &set[i];
    return NULL;
}

/* Who goes first has least: what is too old, then who is known for no keys, then the oldest. */
static int64_t worth(const struct habit *habit, int64_t now_ms)
{
    bool keys = (habit->taken | habit->shown) & KG_SHAPES_WITH_KEYS;
    return now_ms >= habit->until_ms ? 0 : habit->until_ms + (keys ? KG_HABITS_MS : 0);
}

/* Its own, in the place of who goes first if it had none. */
static struct habit *take(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                          int64_t now_ms)
{
    uint64_t key = key_of(transport, addr);
    struct habit *set = habits->habit[set_of(key)], *first = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key && now_ms < set[i].until_ms)
            return &set[i];
        if (worth(&set[i], now_ms) < worth(first, now_ms))
            first = &set[i];
    }
    *first = (struct habit){.key = key};
    return first;
}

void kg_habits_recall(const struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                      int64_t now_ms, struct kg_shape_facts *facts)
{
    const struct habit *habit = find(habits, key_of(transport, addr), now_ms);
    facts->refused = habit && now_ms < habit->refused_until_ms ? habit->refused : 0;
    facts->shown = habit ? habit->shown : 0;
    facts->taken = habit ? habit->taken : 0;
}

void kg_habits_took(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                    int64_t now_ms, uint8_t refused, enum kg_shape taken)
{
    bool keys = KG_SHAPE_BIT(taken) & KG_SHAPES_WITH_KEYS;
    bool doubtful = !kg_transport_is_secure(transport) && !keys && (refused & KG_SHAPES_WITH_KEYS);
    if (!refused && !keys)
        return;
    struct habit *habit = take(habits, transport, addr, now_ms);
    if (now_ms >= habit->refused_until_ms)
        habit->refused = 0;
    if (refused) {
        habit->refused |= refused;
        habit->refused_until_ms = now_ms + (doubtful ? KG_HABITS_DOUBT_MS : KG_HABITS_MS);
    }
    if (keys) {
        habit->taken |= KG_SHAPE_BIT(taken);
        habit->refused &= (uint8_t)~KG_SHAPE_BIT(taken);
    }
    /* A refusal alone makes nothing that was seen of it last longer. */
    if (keys || !habit->until_ms)
        habit->until_ms = now_ms + KG_HABITS_MS;
}

void kg_habits_shown(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                     int64_t now_ms, enum kg_shape shape)
{
    struct habit *habit = take(habits, transport, addr, now_ms);
    habit->shown |= KG_SHAPE_BIT(shape);
    habit->until_ms = now_ms + KG_HABITS_MS;
    habit->refused &= (uint8_t)~KG_SHAPE_BIT(shape);
}
