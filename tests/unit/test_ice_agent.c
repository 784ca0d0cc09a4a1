/* Two ICE agents on a network of numbers: connecting, roles, trickle, patience, loss (RFC 8445, 8838, 8863).
 * What becomes of them then: test_ice_life.c. One agent against a scripted peer: test_ice_checks.c; an
 * attacker: test_ice_attack.c. */
#include "ice_pair.h"

/* ---- connecting ---- */

static void test_two_agents_connect(void **state)
{
    (void)state;
    struct world *w = two(2);

    assert_state(&w->a, KG_ICE_NEW);
    connect_both(w);
    assert_state(&w->a, KG_ICE_CHECKING);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    assert_selected(&w->a, 1, A1, B1);
    assert_selected(&w->b, 1, B1, A1);
    assert_selected(&w->a, 2, "192.0.2.1:5001", "198.51.100.1:6001");
    assert_selected(&w->b, 2, "198.51.100.1:6001", "192.0.2.1:5001");
    /* RFC 8445 14.2: Ta over the whole agent. A controlled agent nominates nothing (7.2.1). */
    assert_true(w->a.closest_ms >= 50 && w->b.closest_ms >= 50);
    assert_int_equal(w->b.nominations, 0);
    assert_int_equal(w->a.nominations, 2);
    /* Then both sleep until consent is due. */
    assert_true(kg_ice_next_ms(w->a.agent) > w->now_ms + 2000);
    assert_true(w->a.states & 1u << KG_ICE_CHECKING);
    assert_true(w->a.states & 1u << KG_ICE_COMPLETED);
    assert_int_equal(w->a.events[KG_ICE_EV_SELECTED], 2);
    world_free(w);
}

static void test_rfc8445_7_3_early_checks_are_answered_and_remembered(void **state)
{
    (void)state;
    struct world *w = two(1);

    /* B has A's description, A does not have B's yet. */
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    world_run(w, 300);
    assert_state(&w->a, KG_ICE_NEW);
    assert_state(&w->b, KG_ICE_CONNECTED);
    assert_int_equal(kg_ice_counters(w->a.agent)->responses_out, 1);
    assert_int_equal(w->a.requests, 0);
    /* The answer comes, without any candidate: the remembered check is enough. */
    struct kg_candidate none;
    tell(w, &w->a, &w->b, (struct kg_ice_description){.candidate = &none});
    world_run(w, 50);
    assert_state(&w->a, KG_ICE_CONNECTED);
    world_run(w, 500);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    struct kg_ice_pair pair;
    assert_true(kg_ice_selected(w->a.agent, 0, 1, &pair));
    assert_int_equal(pair.remote.type, KG_CANDIDATE_PRFLX);
    assert_int_equal(pair.remote.priority, kg_candidate_priority(KG_CANDIDATE_PRFLX, 65535, 1));
    world_free(w);
}

/* B is behind a NAT: its packets come from 203.0.113.9. */
static bool one_way(const struct world *world, const struct kg_addr *from, const struct kg_addr *to)
{
    struct kg_addr a = at(A1), b = at(B1);

    (void)world;
    (void)from;
    return kg_addr_equal(to, &b) && !kg_addr_equal(from, &a);
}

static void test_several_candidates_best_wins(void **state)
{
    (void)state;
    struct world *w = two(1);
    struct kg_candidate list[11] = {0};

    /* Ten addresses where nobody is, better than the one that works. */
    for (uint8_t i = 0; i < 10; i++) {
        list[i] =
            (struct kg_candidate){.component = 1, .priority = 2130706431u - i, .addr = at("10.9.9.9:1")};
        kg_addr_set_port(&list[i].addr, (uint16_t)(1000 + i));
        snprintf(list[i].foundation, sizeof list[i].foundation, "%u", i);
    }
    list[10] = (struct kg_candidate){.component = 1, .priority = 16777215, .foundation = "r", .addr = at(B1)};
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b, (struct kg_ice_description){.candidate = list, .candidate_count = 11});
    int64_t start = w->now_ms;
    while (kg_ice_state(w->a.agent) != KG_ICE_COMPLETED && w->now_ms < start + 5000)
        world_run(w, 10);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_selected(&w->a, 1, A1, B1);
    assert_in_range(w->now_ms - start, 400, 1000); /* waited for the better ones, but not for ever */
    struct kg_ice_pair pairs[KG_ICE_PAIRS_MAX];
    assert_int_equal(kg_ice_pairs(w->a.agent, pairs, KG_ICE_PAIRS_MAX), 11);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pairs[i].state, KG_PAIR_FAILED);
        assert_non_null(pairs[i].reason);
        assert_true(pairs[i].priority >= pairs[i + 1].priority);
    }
    assert_true(pairs[10].selected && pairs[10].nominated && pairs[10].valid);
    assert_int_equal(kg_ice_pairs(w->a.agent, pairs, 3), 3);
    assert_int_equal(kg_addr_port(&pairs[0].remote.addr), 1000);
    uint32_t before = w->a.requests;
    world_run(w, 3000);
    assert_true(w->a.requests - before <= 1); /* nothing but consent */
    world_free(w);
}

static void test_rfc8445_6_1_2_5_no_more_than_100_pairs(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct kg_candidate list[32] = {0};
    struct kg_ice_pair pairs[KG_ICE_PAIRS_MAX];

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true}, A1, 1);
    w->b.ufrag = "bbbb";
    w->b.pwd = "bbbbbbbbbbbbbbbbbbbbbb";
    for (uint8_t i = 1; i < 6; i++) {
        struct kg_addr addr = at(A1);
        kg_addr_set_port(&addr, (uint16_t)(5000 + i));
        assert_int_equal(kg_ice_add_local(w->a.agent, 0, 1, KG_CANDIDATE_HOST, &addr, &addr, 65535 - i, NULL),
                         0);
    }
    for (uint8_t i = 0; i < 32; i++) {
        list[i] =
            (struct kg_candidate){.component = 1, .priority = 1000u + i, .foundation = "x", .addr = at(B1)};
        kg_addr_set_port(&list[i].addr, (uint16_t)(1000 + i));
    }
    tell(w, &w->a, &w->b, (struct kg_ice_description){.candidate = list, .candidate_count = 32});
    assert_int_equal(kg_ice_pairs(w->a.agent, pairs, KG_ICE_PAIRS_MAX), 100);
    /* 6 locals x 32 remotes; the remotes' priorities decide: the best 16 2/3 of them are kept. */
    assert_int_equal(pairs[0].remote.priority, 1031);
    assert_in_range(pairs[99].remote.priority, 1015, 1016);
    world_free(w);
}

static void test_rfc8445_6_1_2_6_one_check_per_foundation_until_it_succeeds(void **state)
{
    (void)state;
    struct world *w = two(2);
    struct kg_ice_pair pairs[8];
    size_t waiting = 0, frozen = 0;

    connect_both(w);
    size_t count = kg_ice_pairs(w->a.agent, pairs, 8);
    assert_int_equal(count, 2);
    world_run(w, 0);
    count = kg_ice_pairs(w->a.agent, pairs, 8);
    for (size_t i = 0; i < count; i++) {
        waiting += pairs[i].state == KG_PAIR_IN_PROGRESS;
        frozen += pairs[i].state == KG_PAIR_FROZEN;
        if (pairs[i].state == KG_PAIR_IN_PROGRESS)
            assert_int_equal(pairs[i].component, 1); /* lowest component first */
    }
    assert_int_equal(waiting, 1);
    assert_int_equal(frozen, 1);
    world_free(w);
}

/* ---- roles ---- */

static void test_rfc8445_7_3_1_1_role_conflicts_end(void **state)
{
    (void)state;
    for (int both = 0; both <= 1; both++)
        for (uint64_t seed = 1; seed <= 6; seed++) { /* either side has the larger tie-breaker */
            struct world *w = world_new();
            w->seed = seed;
            peer_new(w, &w->a, (struct kg_ice_settings){.controlling = both == 1}, A1, 1);
            peer_new(w, &w->b, (struct kg_ice_settings){.controlling = both == 1}, B1, 1);
            connect_both(w);
            world_run(w, 3000);
            assert_state(&w->a, KG_ICE_COMPLETED);
            assert_state(&w->b, KG_ICE_COMPLETED);
            assert_int_not_equal(kg_ice_is_controlling(w->a.agent), kg_ice_is_controlling(w->b.agent));
            assert_int_equal(w->a.events[KG_ICE_EV_ROLE] + w->b.events[KG_ICE_EV_ROLE], 1);
            assert_selected(&w->a, 1, A1, B1);
            assert_selected(&w->b, 1, B1, A1);
            world_free(w);
        }
}

static void test_rfc8445_6_1_1_full_controls_lite(void **state)
{
    (void)state;
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){0}, A1, 1); /* the answerer, and yet */
    peer_new(w, &w->b, (struct kg_ice_settings){.lite = true, .controlling = true}, B1, 1);
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b, (struct kg_ice_description){.lite = true});
    world_run(w, 1000);
    assert_true(kg_ice_is_controlling(w->a.agent));
    assert_false(kg_ice_is_controlling(w->b.agent));
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    assert_selected(&w->b, 1, B1, A1);
    assert_int_equal(w->b.requests, 0);
    struct kg_addr a = at(A1), stranger = at("203.0.113.66:1");
    assert_true(kg_ice_is_valid_source(w->b.agent, 0, 1, &a));
    assert_false(kg_ice_is_valid_source(w->b.agent, 0, 1, &stranger));
    /* A lite agent sends keepalives, no requests (RFC 8445 11), and a full one keeps asking it for consent.
     */
    world_run(w, 60000);
    assert_int_equal(w->b.requests, 0);
    assert_state(&w->a, KG_ICE_COMPLETED);
    world_free(w);
}

static void test_rfc8445_8_2_two_lite_agents_choose_by_themselves(void **state)
{
    (void)state;
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){.lite = true, .controlling = true}, A1, 2);
    peer_new(w, &w->b, (struct kg_ice_settings){.lite = true}, B1, 2);
    tell(w, &w->b, &w->a, (struct kg_ice_description){.lite = true});
    tell(w, &w->a, &w->b, (struct kg_ice_description){.lite = true});
    world_run(w, 100);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    assert_selected(&w->a, 2, "192.0.2.1:5001", "198.51.100.1:6001");
    assert_int_equal(w->a.requests + w->b.requests, 0);
    world_free(w);
}

/* ---- trickle, patience ---- */

static void test_rfc8838_candidates_one_by_one(void **state)
{
    (void)state;
    struct world *w = two(1);
    struct kg_candidate nobody = {
        .component = 1, .priority = 2130706431, .foundation = "1", .addr = at("10.9.9.9:1000")};
    struct kg_candidate right = {.component = 1, .priority = 100, .foundation = "2", .addr = at(B1)};

    w->blocks = one_way;
    tell(w, &w->a, &w->b, (struct kg_ice_description){.trickle = true, .candidate = &nobody});
    world_run(w, 30000);
    assert_state(&w->a, KG_ICE_CHECKING); /* an empty checklist goes on */
    tell(w, &w->a, &w->b,
         (struct kg_ice_description){.trickle = true, .candidate = &nobody, .candidate_count = 1});
    world_run(w, 5000);
    assert_state(&w->a, KG_ICE_CHECKING);
    tell(w, &w->b, &w->a, (struct kg_ice_description){0});
    tell(w, &w->a, &w->b,
         (struct kg_ice_description){
             .trickle = true, .end_of_candidates = true, .candidate = &right, .candidate_count = 1});
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    assert_selected(&w->a, 1, A1, B1);
    world_free(w);
}

static void test_rfc8863_patience(void **state)
{
    (void)state;
    struct world *w = two(1);

    w->blocks = nothing_passes;
    connect_both(w);
    world_run(w, 39000);
    assert_state(&w->a, KG_ICE_CHECKING);
    world_run(w, 1000);
    assert_state(&w->a, KG_ICE_FAILED);
    assert_state(&w->b, KG_ICE_FAILED);
    assert_true(kg_ice_next_ms(w->a.agent) == INT64_MAX);
    /* Seven requests (RFC 8489 6.2.1), no more. */
    assert_int_equal(w->a.requests, 7);
    world_free(w);
}

static void test_rfc8863_no_candidate_at_all(void **state)
{
    (void)state;
    struct world *w = two(1);
    struct kg_candidate none;

    tell(w, &w->a, &w->b, (struct kg_ice_description){.candidate = &none});
    world_run(w, 39000);
    assert_state(&w->a, KG_ICE_CHECKING);
    world_run(w, 600);
    assert_state(&w->a, KG_ICE_FAILED);
    world_free(w);
}

static int64_t open_ms; /* before, B1 cannot be reached */
static bool only_relay(const struct world *world, const struct kg_addr *from, const struct kg_addr *to)
{
    struct kg_addr host = at(B1);

    return world->now_ms < open_ms && (kg_addr_equal(from, &host) || kg_addr_equal(to, &host));
}

/* A direct pair is worth two requests more, since its hole may be punched by them; then the relay is
 * nominated. */
static void test_relay_is_nominated_after_two_seconds(void **state)
{
    (void)state;
    static const int64_t opens[] = {60000, 1000};
    for (int i = 0; i < 2; i++) {
        struct world *w = two(1);
        struct kg_addr relay = at("203.0.113.5:30000"), host = at(B1);
        open_ms = w->now_ms + opens[i];
        w->blocks = only_relay;
        w->b.host[1] = relay;
        assert_int_equal(kg_ice_add_local(w->b.agent, 0, 1, KG_CANDIDATE_HOST, &relay, &relay, 1, NULL), 0);
        struct kg_candidate list[2] = {
            {.component = 1, .priority = 2130706431, .foundation = "1", .addr = host},
            {.component = 1,
             .priority = 16777215,
             .foundation = "2",
             .addr = relay,
             .type = KG_CANDIDATE_RELAY},
        };
        tell(w, &w->b, &w->a, (struct kg_ice_description){0});
        tell(w, &w->a, &w->b, (struct kg_ice_description){.candidate = list, .candidate_count = 2});
        int64_t start = w->now_ms;
        world_run(w, 900);
        assert_selected(&w->a, 1, A1, "203.0.113.5:30000"); /* media flows */
        assert_int_equal(w->a.nominations, 0);
        while (w->a.nominations == 0 && w->now_ms < start + 10000)
            world_run(w, 10);
        assert_in_range(w->now_ms - start, 1000, 2300);
        world_run(w, 500);
        assert_selected(&w->a, 1, A1, i == 0 ? "203.0.113.5:30000" : B1);
        assert_state(&w->a, KG_ICE_COMPLETED);
        assert_state(&w->b, KG_ICE_COMPLETED);
        world_free(w);
    }
}

static void test_several_streams_share_the_pace(void **state)
{
    (void)state;
    struct world *w = world_new();

    peer_new(w, &w->a, (struct kg_ice_settings){.controlling = true}, A1, 1);
    peer_new(w, &w->b, (struct kg_ice_settings){0}, B1, 1);
    struct kg_addr a2 = at("192.0.2.1:5010"), b2 = at("198.51.100.1:6010");
    w->a.host[1] = a2;
    w->b.host[1] = b2;
    assert_int_equal(kg_ice_add_stream(w->a.agent, 3, 1), 0);
    assert_int_equal(kg_ice_add_stream(w->b.agent, 3, 1), 0);
    assert_int_equal(kg_ice_add_local(w->a.agent, 3, 1, KG_CANDIDATE_HOST, &a2, &a2, 65535, NULL), 0);
    assert_int_equal(kg_ice_add_local(w->b.agent, 3, 1, KG_CANDIDATE_HOST, &b2, &b2, 65535, NULL), 0);
    connect_both(w);
    struct kg_candidate list[4];
    struct kg_ice_description d = {.ufrag = w->a.ufrag, .pwd = w->a.pwd, .candidate = list};
    d.candidate_count = (uint8_t)kg_ice_locals(w->a.agent, 3, list, 4);
    assert_int_equal(d.candidate_count, 1);
    assert_int_equal(kg_ice_set_remote(w->b.agent, 3, &d, w->now_ms), 0);
    d = (struct kg_ice_description){.ufrag = w->b.ufrag, .pwd = w->b.pwd, .candidate = list};
    d.candidate_count = (uint8_t)kg_ice_locals(w->b.agent, 3, list, 4);
    assert_int_equal(kg_ice_set_remote(w->a.agent, 3, &d, w->now_ms), 0);
    world_run(w, 2000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    assert_state(&w->b, KG_ICE_COMPLETED);
    struct kg_ice_pair pair;
    assert_true(kg_ice_selected(w->a.agent, 3, 1, &pair));
    assert_true(kg_addr_equal(&pair.remote.addr, &b2));
    assert_true(w->a.closest_ms >= 50 && w->b.closest_ms >= 50);
    world_free(w);
}

static void test_bad_descriptions_change_nothing(void **state)
{
    (void)state;
    struct world *w = connected(1);
    struct kg_ice_description d = {.ufrag = "abc", .pwd = "bbbbbbbbbbbbbbbbbbbbbb"};

    assert_int_equal(kg_ice_set_remote(w->a.agent, 0, &d, w->now_ms), EINVAL);
    d = (struct kg_ice_description){.ufrag = "abcd", .pwd = "short"};
    assert_int_equal(kg_ice_set_remote(w->a.agent, 0, &d, w->now_ms), EINVAL);
    d = (struct kg_ice_description){.ufrag = "abcd", .pwd = "bbbbbbbbbbbbbbbbbbbbbb"};
    assert_int_equal(kg_ice_set_remote(w->a.agent, 5, &d, w->now_ms), EINVAL);
    assert_int_equal(kg_ice_set_local(w->a.agent, "x", "y"), EINVAL);
    assert_int_equal(kg_ice_add_stream(w->a.agent, KG_ICE_STREAMS_MAX, 1), ENOSPC);
    world_run(w, 10000);
    assert_state(&w->a, KG_ICE_COMPLETED);
    world_free(w);
}

/* ---- loss ---- */

static uint64_t dice;
static bool loses_30_percent(const struct world *world, const struct kg_addr *from, const struct kg_addr *to)
{
    (void)world;
    (void)from;
    (void)to;
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (dice >> 33) % 100 < 30;
}

static void test_30_percent_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct world *w = two(2);
        dice = seed;
        w->blocks = loses_30_percent;
        w->delay_ms = 20 + (int)seed * 5;
        connect_both(w);
        int64_t start = w->now_ms;
        while (w->now_ms < start + 40000 &&
               (kg_ice_state(w->a.agent) != KG_ICE_COMPLETED || kg_ice_state(w->b.agent) != KG_ICE_COMPLETED))
            world_run(w, 100);
        assert_state(&w->a, KG_ICE_COMPLETED);
        assert_state(&w->b, KG_ICE_COMPLETED);
        assert_true(w->a.closest_ms >= 50 && w->b.closest_ms >= 50);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_agents_connect),
        cmocka_unit_test(test_rfc8445_7_3_early_checks_are_answered_and_remembered),
        cmocka_unit_test(test_several_candidates_best_wins),
        cmocka_unit_test(test_rfc8445_6_1_2_5_no_more_than_100_pairs),
        cmocka_unit_test(test_rfc8445_6_1_2_6_one_check_per_foundation_until_it_succeeds),
        cmocka_unit_test(test_rfc8445_7_3_1_1_role_conflicts_end),
        cmocka_unit_test(test_rfc8445_6_1_1_full_controls_lite),
        cmocka_unit_test(test_rfc8445_8_2_two_lite_agents_choose_by_themselves),
        cmocka_unit_test(test_rfc8838_candidates_one_by_one),
        cmocka_unit_test(test_rfc8863_patience),
        cmocka_unit_test(test_rfc8863_no_candidate_at_all),
        cmocka_unit_test(test_relay_is_nominated_after_two_seconds),
        cmocka_unit_test(test_several_streams_share_the_pace),
        cmocka_unit_test(test_bad_descriptions_change_nothing),
        cmocka_unit_test(test_30_percent_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
