/* Two ICE agents that are connected: restarts, consent, sockets and components that go, phones that move (RFC
 * 8445 9, 11, RFC 7675). */
#include "ice_pair.h"

/* ---- restart ---- */

static void test_rfc8445_9_restart_is_make_before_break(void **state)
{
    (void)state;
    struct world *w = connected(2);
    struct kg_addr b = at(B1);

    w->a.ufrag = "AAAA";
    w->a.pwd = "AAAAAAAAAAAAAAAAAAAAAA";
    assert_int_equal(kg_ice_restart(w->a.agent, w->a.ufrag, w->a.pwd, w->now_ms), 0);
    assert_selected(&w->a, 1, A1, B1);
    /* The peer's old consent checks are still answered. */
    world_run(w, 7000);
    assert_state(&w->b, KG_ICE_COMPLETED);
    w->b.ufrag = "BBBB";
    w->b.pwd = "BBBBBBBBBBBBBBBBBBBBBB";
    assert_int_equal(kg_ice_restart(w->b.agent, w->b.ufrag, w->b.pwd, w->now_ms), 0);
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    assert_state(&w->b, KG_ICE_CHECKING);
    assert_selected(&w->b, 1, B1, A1); /* make before break */
    world_run(w, 300);
    assert_selected(&w->a, 1, A1, B1);
    assert_state(&w->a, KG_ICE_COMPLETED); /* has not heard of B's answer */
    assert_true(kg_ice_is_valid_source(w->a.agent, 0, 1, &b));
    tell(w, &w->a, &w->b, (struct kg_ice_description){0});
    assert_selected(&w->a, 1, A1, B1);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    assert_selected(&w->a, 2, "192.0.2.1:5001", "198.51.100.1:6001");
    struct kg_ice_pair pairs[8];
    assert_int_equal(kg_ice_pairs(w->a.agent, pairs, 8), 2); /* nothing of before is left */
    world_run(w, 40000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_restarts_upon_restarts(void **state)
{
    (void)state;
    struct world *w = connected(1);

    for (int i = 0; i < 20; i++) {
        char ufrag[2][32], pwd[2][64];
        struct peer *peers[] = {&w->a, &w->b};
        for (int p = 0; p < 2; p++) {
            snprintf(ufrag[p], sizeof ufrag[p], "u%d%03d", p, i);
            snprintf(pwd[p], sizeof pwd[p], "password%d4567890123%03d", p, i);
            peers[p]->ufrag = ufrag[p];
            peers[p]->pwd = pwd[p];
            assert_int_equal(kg_ice_restart(peers[p]->agent, ufrag[p], pwd[p], w->now_ms), 0);
        }
        connect_both(w);
        world_run(w, i * 7); /* interrupted at every stage */
        struct kg_ice_pair pair;
        assert_true(kg_ice_selected(w->a.agent, 0, 1, &pair));
        assert_true(kg_ice_selected(w->b.agent, 0, 1, &pair));
    }
    w->a.ufrag = "AAAA", w->a.pwd = "AAAAAAAAAAAAAAAAAAAAAA";
    w->b.ufrag = "BBBB", w->b.pwd = "BBBBBBBBBBBBBBBBBBBBBB";
    assert_int_equal(kg_ice_restart(w->a.agent, w->a.ufrag, w->a.pwd, w->now_ms), 0);
    assert_int_equal(kg_ice_restart(w->b.agent, w->b.ufrag, w->b.pwd, w->now_ms), 0);
    connect_both(w);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_peer_is_described_before_our_own_restart(void **state)
{
    (void)state;
    struct world *w = connected(1);

    /* A restarts; a candidate of its new session reaches B in an INFO before the offer does. */
    w->a.ufrag = "AAAA", w->a.pwd = "AAAAAAAAAAAAAAAAAAAAAA";
    assert_int_equal(kg_ice_restart(w->a.agent, w->a.ufrag, w->a.pwd, w->now_ms), 0);
    tell(w, &w->b, &w->a, (struct kg_ice_description){.trickle = true});
    world_run(w, 200);
    w->b.ufrag = "BBBB", w->b.pwd = "BBBBBBBBBBBBBBBBBBBBBB";
    assert_int_equal(kg_ice_restart(w->b.agent, w->b.ufrag, w->b.pwd, w->now_ms), 0);
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b, (struct kg_ice_description){0});
    world_run(w, 2000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    world_run(w, 60000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    world_free(w);
}

/* ---- consent ---- */

static void test_rfc7675_5_1_consent_is_asked_every_5_s(void **state)
{
    (void)state;
    struct world *w = connected(1);
    uint32_t before = w->a.requests;

    world_run(w, 100000);
    assert_in_range(w->a.requests - before, 100 / 6, 100 / 4 + 1);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_int_equal(w->a.events[KG_ICE_EV_CONSENT_LOST], 0);
    world_free(w);
}

static void test_rfc7675_5_1_consent_expires_after_30_s(void **state)
{
    (void)state;
    struct world *w = connected(1);
    struct kg_ice_pair pair;
    struct kg_addr b = at(B1);
    int64_t cut = w->now_ms;

    w->blocks = nothing_passes;
    assert_true(kg_ice_is_valid_source(w->a.agent, 0, 1, &b));
    while (w->a.events[KG_ICE_EV_CONSENT_LOST] == 0 && w->now_ms < cut + 60000)
        world_run(w, 100);
    assert_in_range(w->now_ms - cut, 23000, 30200);
    assert_state(&w->a, KG_ICE_DISCONNECTED);
    assert_false(kg_ice_selected(w->a.agent, 0, 1, &pair));
    assert_false(kg_ice_is_valid_source(w->a.agent, 0, 1, &b));
    uint32_t before = w->a.requests;
    world_run(w, 10000);
    assert_int_equal(w->a.requests, before); /* 5.1: cease transmission */
    /* The network is back: the expired pair stays so, only a restart helps. */
    w->blocks = NULL;
    world_run(w, 20000);
    assert_state(&w->a, KG_ICE_DISCONNECTED);
    w->a.ufrag = "AAAA", w->a.pwd = "AAAAAAAAAAAAAAAAAAAAAA";
    w->b.ufrag = "BBBB", w->b.pwd = "BBBBBBBBBBBBBBBBBBBBBB";
    assert_int_equal(kg_ice_restart(w->a.agent, w->a.ufrag, w->a.pwd, w->now_ms), 0);
    assert_int_equal(kg_ice_restart(w->b.agent, w->b.ufrag, w->b.pwd, w->now_ms), 0);
    connect_both(w);
    assert_state(&w->a, KG_ICE_CHECKING);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_consent_check_without_answer_is_repeated_twice(void **state)
{
    (void)state;
    struct world *w = connected(1);
    uint32_t before = w->a.requests, ids = w->a.ids;

    w->blocks = nothing_passes;
    world_run(w, 20000); /* four or five checks, the last perhaps not repeated yet */
    assert_in_range(w->a.ids - ids, 3, 5);
    assert_in_range(w->a.requests - before, 3 * (w->a.ids - ids) - 2, 3 * (w->a.ids - ids));
    world_free(w);
}

static void test_consent_survives_a_short_outage(void **state)
{
    (void)state;
    struct world *w = connected(1);

    w->blocks = nothing_passes;
    world_run(w, 20000);
    w->blocks = NULL;
    world_run(w, 60000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_int_equal(w->a.events[KG_ICE_EV_CONSENT_LOST], 0);
    world_free(w);
}

static void test_rfc8445_11_keepalives_where_consent_is_off(void **state)
{
    (void)state;
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true, .no_consent = true}, A1, 1);
    peer_new(w, &w->b, (struct kg_ice_settings){.no_consent = true}, B1, 1);
    connect_both(w);
    world_run(w, 2000);
    uint32_t before = w->a.requests;
    w->blocks = nothing_passes;
    world_run(w, 100000);
    assert_int_equal(w->a.requests, before);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_true(kg_ice_next_ms(w->a.agent) <= w->now_ms + 15000);
    world_free(w);
}

/* ---- sockets, streams, components ---- */

static void test_rtcp_mux_drops_component_2(void **state)
{
    (void)state;
    struct world *w = two(2);
    struct kg_ice_pair pair;

    connect_both(w);
    kg_ice_drop_component(w->a.agent, 0, 2);
    kg_ice_drop_component(w->b.agent, 0, 2);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_false(kg_ice_selected(w->a.agent, 0, 2, &pair));
    assert_int_equal(kg_ice_pairs(w->a.agent, &pair, 1), 1);
    kg_ice_drop_stream(w->a.agent, 0);
    assert_int_equal(kg_ice_pairs(w->a.agent, &pair, 1), 0);
    world_run(w, 10000);
    assert_state(&w->a, KG_ICE_NEW);
    world_free(w);
}

static void test_interface_down_moves_to_the_next_pair(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct kg_addr second = at("192.0.2.77:5000"), first = at(A1);

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true}, A1, 1);
    peer_new(w, &w->b, (struct kg_ice_settings){0}, B1, 1);
    w->a.host[1] = second;
    assert_int_equal(kg_ice_add_local(w->a.agent, 0, 1, KG_CANDIDATE_HOST, &second, &second, 100, NULL), 0);
    connect_both(w);
    world_run(w, 1000);
    assert_selected(&w->a, 1, A1, B1);
    kg_ice_remove_local(w->a.agent, &first, w->now_ms);
    world_run(w, 1500);
    assert_selected(&w->a, 1, "192.0.2.77:5000", B1);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_selected(&w->b, 1, B1, "192.0.2.77:5000");
    assert_state(&w->b, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_phone_moves_without_a_restart(void **state)
{
    (void)state;
    /* a is kedge and b the phone, or the other way round in roles. */
    for (int controlling = 0; controlling <= 1; controlling++) {
        struct world *w = world_new();
        peer_new(w, &w->a, (struct kg_ice_settings){.controlling = controlling == 1}, A1, 1);
        peer_new(w, &w->b, (struct kg_ice_settings){.controlling = controlling == 0}, B1, 1);
        connect_both(w);
        world_run(w, 3000);
        assert_state(&w->a, KG_ICE_COMPLETED);
        /* A new network: the old socket is dead, and the phone's agent uses a new one. */
        struct kg_addr next = at("203.0.113.50:7000"), before = at(B1);
        w->b.host[0] = w->b.host[1] = next;
        assert_int_equal(kg_ice_add_local(w->b.agent, 0, 1, KG_CANDIDATE_HOST, &next, &next, 65535, NULL), 0);
        kg_ice_remove_local(w->b.agent, &before, w->now_ms);
        world_run(w, 2000);
        assert_selected(&w->a, 1, A1, "203.0.113.50:7000");
        assert_true(kg_ice_is_valid_source(w->a.agent, 0, 1, &next));
        assert_selected(&w->b, 1, "203.0.113.50:7000", A1);
        assert_state(&w->a, KG_ICE_COMPLETED);
        assert_state(&w->b, KG_ICE_COMPLETED);
        world_run(w, 60000);
        assert_state(&w->a, KG_ICE_COMPLETED);
        world_free(w);
    }
}

static void test_media_from_a_new_place_is_challenged(void **state)
{
    (void)state;
    struct world *w = connected(1);
    struct kg_addr next = at("203.0.113.50:7000"), a = at(A1);

    /* The phone's NAT forgot the mapping: its packets come from elsewhere now, and it does not know. */
    w->b.host[0] = next;
    assert_int_equal(kg_ice_add_local(w->b.agent, 0, 1, KG_CANDIDATE_HOST, &next, &next, 65535, NULL), 0);
    uint32_t before = w->a.requests;
    for (int i = 0; i < 5; i++) {
        kg_ice_challenge(w->a.agent, 0, 1, &a, &next, w->now_ms);
        world_run(w, 20);
    }
    /* Followed with the first answer. */
    assert_selected(&w->a, 1, A1, "203.0.113.50:7000");
    assert_true(kg_ice_is_valid_source(w->a.agent, 0, 1, &next));
    assert_in_range(w->a.requests - before, 1, 3); /* and nominated, where a controls */
    world_free(w);
}

static void test_rtcp_is_followed_to_where_rtp_went(void **state)
{
    (void)state;
    struct world *w = connected(2);
    struct kg_addr a = at(A1), next[2] = {at("203.0.113.50:7000"), at("203.0.113.50:7001")};

    w->b.host[0] = next[0];
    w->b.host[1] = next[1];
    assert_int_equal(kg_ice_add_local(w->b.agent, 0, 1, KG_CANDIDATE_HOST, &next[0], &next[0], 65535, NULL),
                     0);
    kg_ice_challenge(w->a.agent, 0, 1, &a, &next[0], w->now_ms);
    world_run(w, 100);
    assert_selected(&w->a, 1, A1, "203.0.113.50:7000");
    /* No media tells of RTCP's new place, but a check. The old place is not asked first. */
    assert_int_equal(kg_ice_add_local(w->b.agent, 0, 2, KG_CANDIDATE_HOST, &next[1], &next[1], 65535, NULL),
                     0);
    world_run(w, 200);
    assert_selected(&w->a, 2, "192.0.2.1:5001", "203.0.113.50:7001");
    world_run(w, 20000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_challenge_of_a_stranger_costs_little(void **state)
{
    (void)state;
    struct world *w = connected(1);
    struct kg_addr stranger = at("203.0.113.66:7000"), a = at(A1);
    uint32_t before = w->a.requests;

    for (int i = 0; i < 500; i++) { /* 10 s of media from there */
        kg_ice_challenge(w->a.agent, 0, 1, &a, &stranger, w->now_ms);
        world_run(w, 20);
    }
    assert_true(w->a.requests - before <= 10000 / KG_ICE_CHALLENGE_MS);
    assert_selected(&w->a, 1, A1, B1);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_false(kg_ice_is_valid_source(w->a.agent, 0, 1, &stranger));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8445_9_restart_is_make_before_break),
        cmocka_unit_test(test_restarts_upon_restarts),
        cmocka_unit_test(test_peer_is_described_before_our_own_restart),
        cmocka_unit_test(test_rfc7675_5_1_consent_is_asked_every_5_s),
        cmocka_unit_test(test_rfc7675_5_1_consent_expires_after_30_s),
        cmocka_unit_test(test_consent_check_without_answer_is_repeated_twice),
        cmocka_unit_test(test_consent_survives_a_short_outage),
        cmocka_unit_test(test_rfc8445_11_keepalives_where_consent_is_off),
        cmocka_unit_test(test_rtcp_mux_drops_component_2),
        cmocka_unit_test(test_interface_down_moves_to_the_next_pair),
        cmocka_unit_test(test_phone_moves_without_a_restart),
        cmocka_unit_test(test_media_from_a_new_place_is_challenged),
        cmocka_unit_test(test_rtcp_is_followed_to_where_rtp_went),
        cmocka_unit_test(test_challenge_of_a_stranger_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
