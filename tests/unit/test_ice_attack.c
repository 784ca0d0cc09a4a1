/* One ICE agent against attackers (RFC 8445 19): forged, replayed and endless messages. */
#include "ice/agent/agent_state.h"
#include "ice_play.h"

static void test_nothing_without_integrity(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    static const struct ask asks[] = {
        {.pwd = "wrongwrongwrongwrongwrong", .controlling = true, .use_candidate = true},
        {.no_integrity = true, .controlling = true, .use_candidate = true},
        {.user = "xxxx:bbbb", .controlling = true},
        {.user = "aaaa", .controlling = true},
        {.user = "aaaaa:bbbb", .controlling = true},
        {.user = ":", .controlling = true},
        {.user = "", .controlling = true},
        {.pwd = THEIRS, .controlling = true}, /* the wrong side's */
        {.pwd = "wrongwrongwrongwrongwrong", .controlling = false, .tie_breaker = UINT64_MAX},
    };

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    struct kg_ice_counters before = *kg_ice_counters(p.w->a.agent);
    for (int round = 0; round < 1000; round++)
        for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
            assert_false(hear(&p, THIRD, asks[i]));
            assert_int_equal(p.count, 0); /* 0 packets to a stranger */
        }
    const struct kg_ice_counters *after = kg_ice_counters(p.w->a.agent);
    assert_int_equal(after->bad_integrity + after->unknown_user - before.bad_integrity - before.unknown_user,
                     9000);
    assert_int_equal(after->role_conflicts, 0);
    assert_false(kg_ice_is_controlling(p.w->a.agent));
    assert_int_equal(state_of(&p, THIRD), 99);
    assert_int_equal(state_of(&p, PEER), KG_PAIR_IN_PROGRESS);
    end(&p);
}

static void test_forged_487_changes_nothing(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){.controlling = true});

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_false(answer_as(&p, 0, PEER, US, 487, NULL));
    p.count = 1;
    assert_false(answer_as(&p, 0, PEER, US, 487, OURS));
    assert_true(kg_ice_is_controlling(p.w->a.agent));
    assert_int_equal(state_of(&p, PEER), KG_PAIR_IN_PROGRESS);
    end(&p);
}

static void test_replayed_request_is_not_answered(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_ice_pair pair;
    struct kg_addr third = at(THIRD);
    struct ask overheard = {.controlling = true, .use_candidate = true, .id = 7};
    char text[KG_ADDR_STR];

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(answer(&p, 0));
    assert_true(hear(&p, PEER, overheard));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    uint32_t requests = kg_ice_counters(p.w->a.agent)->requests_in;
    /* Somebody on the path sends the very request again from elsewhere, for a minute: not one packet to him.
     */
    for (int i = 0; i < 600; i++) {
        p.w->now_ms += 100;
        assert_false(hear(&p, THIRD, overheard));
        for (size_t k = 0; k < p.count; k++)
            assert_false(kg_addr_equal(&p.sent[k].to, &third));
        if (p.count > 0)
            assert_true(answer(&p, 0)); /* consent: the real peer is there */
        assert_false(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &third));
        assert_true(kg_ice_selected(p.w->a.agent, 0, 1, &pair));
        assert_string_equal(kg_addr_format(&pair.remote.addr, text), PEER);
    }
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    assert_int_equal(kg_ice_counters(p.w->a.agent)->replays, 600);
    assert_int_equal(kg_ice_counters(p.w->a.agent)->requests_in, requests);
    assert_true(hear(&p, PEER, overheard)); /* the peer's own retransmission */
    end(&p);
}

static void test_what_is_no_replay(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    /* The stranger was faster, with the peer's request: the peer, whom the description told, is answered. */
    assert_true(hear(&p, THIRD, (struct ask){.controlling = true, .id = 1}));
    assert_true(hear(&p, PEER, (struct ask){.controlling = true, .id = 1}));
    assert_reply(&p, 0, PEER, 0);
    /* A NAT gives another port in mid-transaction: the next request tells. */
    assert_false(hear(&p, OTHER, (struct ask){.controlling = true, .id = 1}));
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true, .id = 2}));
    assert_reply(&p, 0, OTHER, 0);
    assert_int_equal(kg_ice_counters(p.w->a.agent)->replays, 1);
    /* Without right integrity nothing is remembered: nobody can make the peer's request a replay. */
    assert_false(
        hear(&p, THIRD, (struct ask){.controlling = true, .id = 3, .pwd = "wrong wrong wrong wrong"}));
    assert_true(hear(&p, "198.51.100.1:6004", (struct ask){.controlling = true, .id = 3}));
    end(&p);
}

static void test_media_leads_only_to_a_peer_that_sees_us_alike(void **state)
{
    (void)state;
    static const char *const seen[] = {US, "192.0.2.1:5999", "203.0.113.99:5000"};

    for (int i = 0; i < 3; i++) {
        struct play p = start((struct kg_ice_settings){0});
        struct kg_addr us = at(US), third = at(THIRD);
        struct kg_ice_pair pair;
        struct kg_stun_message m;
        char text[KG_ADDR_STR];

        describe(&p, (const char *const[]){PEER}, 1);
        collect(&p);
        assert_true(answer(&p, 0));
        assert_true(hear(&p, PEER, (struct ask){.controlling = true, .use_candidate = true}));
        pass(&p, 1500);
        kg_ice_challenge(p.w->a.agent, 0, 1, &us, &third, p.w->now_ms);
        pass(&p, 50);
        assert_check(&p, 0, THIRD, &m);
        pass(&p, 20);
        assert_int_equal(p.count, 0);
        pass(&p, 180); /* the challenge's second request */
        assert_check(&p, 0, THIRD, &m);
        assert_true(answer_as(&p, 0, THIRD, seen[i], 0, THEIRS));
        assert_true(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &third));
        assert_true(kg_ice_selected(p.w->a.agent, 0, 1, &pair));
        /* Who passes our checks on cannot hide that the peer sees him in our place: the old pair is asked. */
        assert_string_equal(kg_addr_format(&pair.remote.addr, text), i < 2 ? THIRD : PEER);
        if (i == 2)
            assert_check(&p, 0, PEER, &m);
        end(&p);
    }
}

static void test_tables_are_bounded(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    struct kg_addr us = at(US), from = at(THIRD);
    uint8_t data[KG_ICE_DATAGRAM_MAX];

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    size_t before = pairs(&p, list);
    for (int i = 0; i < 5000; i++) { /* with right integrity, even */
        kg_addr_set_port(&from, (uint16_t)(1024 + i));
        size_t len = write_request((struct ask){.controlling = true, .id = (uint8_t)i}, data);
        assert_true(kg_ice_receive(p.w->a.agent, &us, &from, data, len, p.w->now_ms));
        if (i % 100 == 0)
            pass(&p, 1);
    }
    assert_true(pairs(&p, list) <= before + 6);
    assert_int_not_equal(state_of(&p, PEER), 99); /* what was signalled stays */
    pass(&p, 0);
    end(&p);
}

/* Candidates that name others (RFC 8445 19.5.1): not one packet, and a reason for people. */
static void test_candidates_that_name_others(void **state)
{
    (void)state;
    struct kg_addr pbx = at("10.0.0.3:5060"), signalling = at("198.51.100.1:5060"), third = at(THIRD);
    struct play p = start((struct kg_ice_settings){.controlling = true, .avoid = &pbx, .avoid_count = 1});
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];

    kg_ice_set_peer(p.w->a.agent, &signalling);
    describe(&p,
             (const char *const[]){PEER, "10.0.0.3:5060", "10.0.0.77:161", "127.0.0.1:53", "192.0.2.1:5060",
                                   "169.254.169.254:80", "203.0.113.66:7000"},
             7);
    for (int i = 0; i < 4000; i++) { /* 200 s */
        collect(&p);
        for (size_t k = 0; k < p.count; k++)
            assert_true(kg_addr_same_host(&p.sent[k].to, &signalling) ||
                        kg_addr_same_host(&p.sent[k].to, &third));
        p.w->now_ms += 50;
    }
    size_t count = pairs(&p, list);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list[i].state, KG_PAIR_FAILED);
        bool asked = strncmp(list[i].reason, "never asked: ", 13) != 0;
        assert_true(asked == (list[i].requests > 0));
    }
    end(&p);
}

/* A check of the peer's from a private address shows that it has a way from there; from our own host or
 * loopback it can only be forged. */
static void test_refused_candidate_that_asks(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){.controlling = true});
    struct kg_addr signalling = at("198.51.100.1:5060"), us = at(US);
    struct kg_stun_message m;

    kg_ice_set_peer(p.w->a.agent, &signalling);
    describe(&p, (const char *const[]){"10.0.0.77:6000", "192.0.2.1:5060"}, 2);
    collect(&p);
    assert_int_equal(p.count, 0);
    pass(&p, 50);
    assert_true(hear(&p, "10.0.0.77:6000", (struct ask){.id = 1}));
    assert_int_equal(p.count, 2);
    assert_reply(&p, 0, "10.0.0.77:6000", 0);
    assert_check(&p, 1, "10.0.0.77:6000", &m);
    assert_true(answer(&p, 1));
    assert_int_equal(state_of(&p, "10.0.0.77:6000"), KG_PAIR_SUCCEEDED);
    pass(&p, 50);
    assert_true(hear(&p, "192.0.2.1:5060", (struct ask){.id = 2}));
    for (size_t i = 0; i < p.count; i++) {
        read_sent(&p, i, &m);
        assert_true(m.class != KG_STUN_REQUEST || !kg_addr_same_host(&p.sent[i].to, &us));
    }
    assert_int_equal(state_of(&p, "192.0.2.1:5060"), KG_PAIR_FAILED);
    end(&p);
}

/* A peer that answers from ever new places, sees us at ever new ones and describes itself again and again
 * makes no table grow: what it causes uses the spare slots. */
static void test_tables_do_not_grow_by_what_a_peer_causes(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){.controlling = true});
    uint16_t locals = 0, remotes = 0, pairs_size = 0, answers = 0;

    for (int round = 0; round < 20; round++) {
        describe(&p, (const char *const[]){PEER}, 1);
        for (int i = 0; i < 10; i++) {
            char source[40], mapped[40];
            snprintf(source, sizeof source, "203.0.113.%d:%d", 1 + i, 10000 + round);
            snprintf(mapped, sizeof mapped, "198.18.%d.%d:7000", round, 1 + i);
            hear(&p, source, (struct ask){.id = (uint8_t)(round * 10 + i)});
            struct kg_addr from = at(source);
            bool answered = false; /* the triggered check */
            for (int tries = 0; tries < 5 && !answered; tries++) {
                for (size_t k = 0; k < p.count && !answered; k++) {
                    struct kg_stun_message m;
                    read_sent(&p, k, &m);
                    if (m.class == KG_STUN_REQUEST && kg_addr_equal(&p.sent[k].to, &from))
                        answered = answer_as(&p, k, source, mapped, 0, THEIRS);
                }
                pass(&p, 60);
            }
            answers += answered;
        }
        if (round == 0) {
            locals = p.w->a.agent->local_size;
            remotes = p.w->a.agent->remote_size;
            pairs_size = p.w->a.agent->pair_size;
        }
    }
    assert_true(answers >= 6);
    assert_int_equal(p.w->a.agent->local_size, locals);
    assert_int_equal(p.w->a.agent->remote_size, remotes);
    assert_int_equal(p.w->a.agent->pair_size, pairs_size);
    end(&p);
}

static void test_rubbish(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr us = at(US), from = at(PEER);
    uint8_t data[KG_ICE_DATAGRAM_MAX];

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    size_t len = write_request((struct ask){.controlling = true}, data);
    for (size_t cut = 0; cut < len; cut++)
        assert_false(kg_ice_receive(p.w->a.agent, &us, &from, data, cut, p.w->now_ms));
    for (size_t i = 0; i < len * 8;
         i++) { /* every bit flipped, but those that make FINGERPRINT another word */
        if (i / 8 >= len - 8 && i / 8 < len - 4)
            continue;
        data[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_false(kg_ice_receive(p.w->a.agent, &us, &from, data, len, p.w->now_ms));
        data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    collect(&p);
    assert_int_equal(p.count, 0);
    struct kg_addr elsewhere = at("192.0.2.1:5999");
    assert_false(kg_ice_receive(p.w->a.agent, &elsewhere, &from, data, len, p.w->now_ms));
    assert_true(kg_ice_receive(p.w->a.agent, &us, &from, data, len, p.w->now_ms));
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_without_integrity),
        cmocka_unit_test(test_forged_487_changes_nothing),
        cmocka_unit_test(test_replayed_request_is_not_answered),
        cmocka_unit_test(test_what_is_no_replay),
        cmocka_unit_test(test_media_leads_only_to_a_peer_that_sees_us_alike),
        cmocka_unit_test(test_tables_are_bounded),
        cmocka_unit_test(test_candidates_that_name_others),
        cmocka_unit_test(test_refused_candidate_that_asks),
        cmocka_unit_test(test_tables_do_not_grow_by_what_a_peer_causes),
        cmocka_unit_test(test_rubbish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
