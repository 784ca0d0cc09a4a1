#include "b2bua/call/habits.h"

#include <stdlib.h>
#include <string.h>

struct habit {
    uint64_t key;                       /* 0: nobody's */
    int64_t until_ms, refused_until_ms; /* all of it; what it refused */
    uint8_t refused, shown, taken;
};

struct kg_habits {
    struct habit habit[KG_HABITS_MAX];
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

static struct habit *at(struct kg_habits *habits, uint64_t key)
{
    return &habits->habit[(key ^ key >> 32) % KG_HABITS_MAX];
}

/* Its own, begun anew if it was somebody else's or is too old. */
static struct habit *take(struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                          int64_t now_ms)
{
    uint64_t key = key_of(transport, addr);
    struct habit *habit = at(habits, key);
    if (habit->key != key || now_ms >= habit->until_ms)
        *habit = (struct habit){.key = key};
    return habit;
}

void kg_habits_recall(const struct kg_habits *habits, enum kg_transport transport, const struct kg_addr *addr,
                      int64_t now_ms, struct kg_shape_facts *facts)
{
    uint64_t key = key_of(transport, addr);
    const struct habit *habit = at((struct kg_habits *)(uintptr_t)habits, key);
    bool known = habit->key == key && now_ms < habit->until_ms;
    facts->refused = known && now_ms < habit->refused_until_ms ? habit->refused : 0;
    facts->shown = known ? habit->shown : 0;
    facts->taken = known ? habit->taken : 0;
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
