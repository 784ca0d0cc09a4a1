/* Two agents that find each other without NATs between them. */
#ifndef KG_TESTS_ICE_PAIR_H
#define KG_TESTS_ICE_PAIR_H

#include "ice_world.h"

#define A1 "192.0.2.1:5000"
#define B1 "198.51.100.1:6000"

static inline struct world *two(uint8_t components)
{
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true}, A1, components);
    peer_new(w, &w->b, (struct kg_ice_settings){0}, B1, components);
    return w;
}

static inline void connect_both(struct world *w)
{
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b, (struct kg_ice_description){0});
}

static inline struct world *connected(uint8_t components)
{
    struct world *w = two(components);

    connect_both(w);
    world_run(w, 2000);
    assert_int_equal(kg_ice_state(w->a.agent), KG_ICE_COMPLETED);
    assert_int_equal(kg_ice_state(w->b.agent), KG_ICE_COMPLETED);
    return w;
}

static inline void assert_selected(const struct peer *peer, uint8_t component, const char *local,
                                   const char *remote)
{
    struct kg_ice_pair pair;
    char text[KG_ADDR_STR];

    assert_true(kg_ice_selected(peer->agent, 0, component, &pair));
    assert_string_equal(kg_addr_format(&pair.local.addr, text), local);
    assert_string_equal(kg_addr_format(&pair.remote.addr, text), remote);
}

static inline void assert_state(const struct peer *peer, enum kg_ice_state state)
{
    if (kg_ice_state(peer->agent) != state)
        fail_msg("state is %s, not %s", kg_ice_state_name(kg_ice_state(peer->agent)),
                 kg_ice_state_name(state));
}

static inline bool nothing_passes(const struct world *world, const struct kg_addr *from,
                                  const struct kg_addr *to)
{
    (void)world;
    (void)from;
    (void)to;
    return true;
}

#endif
