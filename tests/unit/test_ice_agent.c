/* The ICE agent on a network of numbers (RFC 8445, 7675, 8838, 8863). */
#include "ice_world.h"

static struct world *two(uint8_t components)
{
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true}, "192.0.2.1:5000", components);
    peer_new(w, &w->b, (struct kg_ice_settings){0}, "198.51.100.1:6000", components);
    return w;
}

static void connect_both(struct world *w)
{
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b, (struct kg_ice_description){0});
}

static void assert_selected(const struct peer *peer, uint8_t component, const char *local, const char *remote)
{
    struct kg_ice_pair pair;
    char text[KG_ADDR_STR];

    assert_true(kg_ice_selected(peer->agent, 0, component, &pair));
    assert_string_equal(kg_addr_format(&pair.local.addr, text), local);
    assert_string_equal(kg_addr_format(&pair.remote.addr, text), remote);
}

static void test_two_agents_connect(void **state)
{
    (void)state;
    struct world *w = two(2);

    assert_int_equal(kg_ice_state(w->a.agent), KG_ICE_NEW);
    connect_both(w);
    assert_int_equal(kg_ice_state(w->a.agent), KG_ICE_CHECKING);
    world_run(w, 1000);
    assert_int_equal(kg_ice_state(w->a.agent), KG_ICE_COMPLETED);
    assert_int_equal(kg_ice_state(w->b.agent), KG_ICE_COMPLETED);
    assert_selected(&w->a, 1, "192.0.2.1:5000", "198.51.100.1:6000");
    assert_selected(&w->b, 1, "198.51.100.1:6000", "192.0.2.1:5000");
    assert_selected(&w->a, 2, "192.0.2.1:5001", "198.51.100.1:6001");
    assert_selected(&w->b, 2, "198.51.100.1:6001", "192.0.2.1:5001");
    assert_true(w->a.closest_ms >= 50 && w->b.closest_ms >= 50);
    assert_int_equal(w->b.nominations, 0);
    assert_int_equal(w->a.nominations, 2);
    assert_true(kg_ice_next_ms(w->a.agent) > w->now_ms + 2000);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_agents_connect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
