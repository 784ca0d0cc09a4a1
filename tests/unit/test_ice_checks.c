/* What an agent's checks carry, what it answers to a peer's and what it makes of answers (RFC 8445 7, 14). */
#include "ice_play.h"

/* ---- what a check looks like ---- */

static void test_rfc8445_7_1_a_check_carries(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){.controlling = true});
    struct kg_stun_message m;
    uint32_t priority;
    uint64_t tie;

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_int_equal(p.count, 1);
    assert_check(&p, 0, PEER, &m);
    const struct kg_stun_value *user = kg_stun_find(&m, KG_STUN_USERNAME);
    assert_non_null(user);
    assert_int_equal(user->len, 9);
    assert_memory_equal(user->data, "bbbb:aaaa", 9);
    assert_true(kg_stun_get_u32(&m, KG_STUN_PRIORITY, &priority));
    assert_int_equal(priority, kg_candidate_priority(KG_CANDIDATE_PRFLX, 65535, 1));
    assert_true(kg_stun_get_u64(&m, KG_STUN_ICE_CONTROLLING, &tie));
    assert_null(kg_stun_find(&m, KG_STUN_ICE_CONTROLLED));
    assert_null(kg_stun_find(&m, KG_STUN_USE_CANDIDATE));
    assert_int_equal(kg_stun_check_integrity(&m, THEIRS, strlen(THEIRS)), KG_STUN_INTEGRITY_RIGHT);
    assert_true(m.has_fingerprint);
    /* 7.2.5.3 and 8.1.1: the only pair cannot be beaten, so it is nominated with the next check. */
    assert_true(answer(&p, 0));
    assert_int_equal(p.count, 0); /* Ta */
    pass(&p, 50);
    assert_check(&p, 0, PEER, &m);
    assert_non_null(kg_stun_find(&m, KG_STUN_USE_CANDIDATE));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_CONNECTED);
    assert_true(answer(&p, 0));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    end(&p);
}

static void test_rfc8445_14_retransmission(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    static const int64_t times[] = {0, 500, 1500, 3500, 7500, 15500, 31500};
    int64_t begin = p.w->now_ms;
    size_t sent = 0;

    describe(&p, (const char *const[]){PEER}, 1);
    for (collect(&p); p.w->now_ms < begin + 60000; collect(&p)) {
        if (p.count > 0) {
            assert_true(sent < 7);
            assert_int_equal(p.w->now_ms - begin, times[sent++]);
        }
        int64_t next = kg_ice_next_ms(p.w->a.agent);
        if (next == INT64_MAX)
            break;
        assert_true(next > p.w->now_ms);
        p.w->now_ms = next;
    }
    assert_int_equal(sent, 7);
    assert_int_equal(p.w->now_ms - begin, 31500 + 8000);
    assert_int_equal(state_of(&p, PEER), KG_PAIR_FAILED);
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_FAILED);
    end(&p);
}

/* ---- server side ---- */

static void test_rfc8445_7_3_1_3_unknown_source_becomes_peer_reflexive(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_stun_message m;
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true}));
    assert_int_equal(p.count, 1);
    assert_reply(&p, 0, OTHER, 0);
    pass(&p, 50); /* the triggered check is paced too */
    assert_int_equal(p.count, 1);
    assert_check(&p, 0, OTHER, &m);
    assert_int_equal(pairs(&p, list), 2);
    assert_int_equal(list[1].remote.type, KG_CANDIDATE_PRFLX);
    assert_int_equal(list[1].remote.priority, 1862270975);
    assert_false(list[1].valid); /* a request alone proves nothing */
    struct kg_addr source = at(OTHER);
    assert_false(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &source));
    assert_true(answer(&p, 0));
    assert_true(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &source));
    end(&p);
}

static void test_rfc8445_7_3_1_5_nomination(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    /* USE-CANDIDATE while our own check is under way: nominated when that succeeds. */
    struct kg_ice_datagram check = p.sent[0];
    assert_true(hear(&p, PEER, (struct ask){.controlling = true, .use_candidate = true}));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_CHECKING);
    p.sent[0] = check;
    p.count = 1;
    assert_true(answer(&p, 0));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    end(&p);

    /* After it has succeeded: nominated at once. */
    p = start((struct kg_ice_settings){0});
    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(answer(&p, 0));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_CONNECTED);
    assert_true(hear(&p, PEER, (struct ask){.controlling = true, .use_candidate = true}));
    assert_reply(&p, 0, PEER, 0);
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    end(&p);

    /* Not by a controlled peer. */
    p = start((struct kg_ice_settings){.controlling = true});
    describe(&p, (const char *const[]){PEER, OTHER}, 2);
    collect(&p);
    assert_true(hear(&p, OTHER, (struct ask){.use_candidate = true}));
    pass(&p, 50);
    assert_true(answer(&p, 0));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_CONNECTED);
    end(&p);
}

static void test_aggressive_peer_best_nominated_pair_is_selected(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_ice_pair pair;
    char text[KG_ADDR_STR];

    describe(&p, (const char *const[]){PEER, OTHER}, 2);
    collect(&p);
    struct kg_ice_datagram first = p.sent[0];
    assert_true(hear(&p, PEER, (struct ask){.controlling = true, .use_candidate = true, .id = 1}));
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true, .use_candidate = true, .id = 2}));
    struct kg_stun_message m;
    do
        pass(&p, 50);
    while (p.count == 0 || kg_addr_port(&p.sent[0].to) != 6002);
    assert_check(&p, 0, OTHER, &m);
    assert_true(answer(&p, 0));
    assert_true(kg_ice_selected(p.w->a.agent, 0, 1, &pair));
    assert_string_equal(kg_addr_format(&pair.remote.addr, text), OTHER);
    assert_true(pair.nominated);
    /* The better one, nominated as well, is answered later. */
    p.sent[0] = first;
    p.count = 1;
    assert_true(answer(&p, 0));
    assert_true(kg_ice_selected(p.w->a.agent, 0, 1, &pair));
    assert_string_equal(kg_addr_format(&pair.remote.addr, text), PEER);
    end(&p);
}

static void test_rfc8445_7_3_1_1_role_conflict_answers(void **state)
{
    (void)state;
    /* We control, with the larger tie-breaker: 487, and no triggered check. */
    struct play p = start((struct kg_ice_settings){.controlling = true});
    describe(&p, (const char *const[]){PEER}, 1);
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true, .tie_breaker = 0}));
    assert_reply(&p, 0, OTHER, 487);
    assert_true(kg_ice_is_controlling(p.w->a.agent));
    assert_int_equal(state_of(&p, OTHER), 99);
    /* With the smaller one: we switch, and answer with success. */
    assert_true(hear(&p, PEER, (struct ask){.controlling = true, .tie_breaker = UINT64_MAX, .id = 1}));
    assert_reply(&p, 0, PEER, 0);
    assert_false(kg_ice_is_controlling(p.w->a.agent));
    /* Controlled, and so says the peer, with a smaller one: we take over. */
    assert_true(hear(&p, PEER, (struct ask){.tie_breaker = 0, .id = 2}));
    assert_reply(&p, 0, PEER, 0);
    assert_true(kg_ice_is_controlling(p.w->a.agent));
    end(&p);

    p = start((struct kg_ice_settings){0});
    describe(&p, (const char *const[]){PEER}, 1);
    assert_true(hear(&p, PEER, (struct ask){.tie_breaker = UINT64_MAX}));
    assert_reply(&p, 0, PEER, 487);
    assert_false(kg_ice_is_controlling(p.w->a.agent));
    end(&p);
}

static void test_rfc8445_7_2_5_1_487(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){.controlling = true});
    struct kg_stun_message m;

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(answer_as(&p, 0, PEER, US, 487, THEIRS));
    assert_false(kg_ice_is_controlling(p.w->a.agent));
    pass(&p, 50);
    assert_check(&p, 0, PEER, &m);
    assert_non_null(kg_stun_find(&m, KG_STUN_ICE_CONTROLLED));
    /* A peer that refuses everything is given up in the end. */
    for (int i = 0; i < 100 && state_of(&p, PEER) != KG_PAIR_FAILED; i++) {
        if (p.count > 0)
            assert_true(answer_as(&p, 0, PEER, US, 487, THEIRS));
        pass(&p, 50);
    }
    assert_int_equal(state_of(&p, PEER), KG_PAIR_FAILED);
    end(&p);
}

static void test_malformed_requests(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true, .unknown = true}));
    assert_reply(&p, 0, OTHER, 420);
    struct kg_stun_message m;
    read_sent(&p, 0, &m);
    const struct kg_stun_value *list = kg_stun_find(&m, KG_STUN_UNKNOWN_ATTRIBUTES);
    assert_non_null(list);
    assert_int_equal(list->len, 2);
    assert_memory_equal(list->data, "\x7e\xee", 2);
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true, .no_priority = true}));
    assert_reply(&p, 0, OTHER, 400);
    assert_int_equal(state_of(&p, OTHER), 99);
    end(&p);
}

/* ---- client side ---- */

static void test_rfc8445_7_2_5_3_1_peer_reflexive_local(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_ice_pair pair;
    struct kg_addr base = at(US), mapped = at("203.0.113.5:40000");

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(answer_as(&p, 0, PEER, "203.0.113.5:40000", 0, THEIRS));
    assert_true(kg_ice_selected(p.w->a.agent, 0, 1, &pair));
    assert_int_equal(pair.local.type, KG_CANDIDATE_PRFLX);
    assert_true(kg_addr_equal(&pair.local.addr, &mapped));
    assert_true(kg_addr_equal(&pair.local.related, &base));
    assert_int_equal(pair.local.priority, kg_candidate_priority(KG_CANDIDATE_PRFLX, 65535, 1));
    struct kg_candidate locals[4];
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 4), 1); /* is not told */
    end(&p);
}

static void test_rfc8445_7_2_5_2_1_answer_from_elsewhere(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr third = at(THIRD), peer = at(PEER);

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    /* Forged: without the password it is nothing, and the check goes on. */
    assert_false(answer_as(&p, 0, THIRD, US, 0, "wrongwrongwrongwrongwrong"));
    p.count = 1;
    assert_false(answer_as(&p, 0, THIRD, US, 0, NULL));
    p.count = 1;
    assert_false(answer_as(&p, 0, PEER, US, 0, NULL));
    p.count = 1;
    assert_int_equal(state_of(&p, PEER), KG_PAIR_IN_PROGRESS);
    assert_int_equal(kg_ice_counters(p.w->a.agent)->bad_integrity, 3);
    /* With it, but from another address: this path is not symmetric. */
    assert_true(answer_as(&p, 0, THIRD, US, 0, THEIRS));
    assert_int_equal(state_of(&p, PEER), KG_PAIR_FAILED);
    assert_false(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &third));
    assert_false(kg_ice_is_valid_source(p.w->a.agent, 0, 1, &peer));
    end(&p);
}

static void test_errors_fail_the_pair(void **state)
{
    (void)state;
    static const int codes[] = {400, 401, 420, 500};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct play p = start((struct kg_ice_settings){0});
        struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
        describe(&p, (const char *const[]){PEER}, 1);
        collect(&p);
        assert_true(answer_as(&p, 0, PEER, US, codes[i], THEIRS));
        assert_int_equal(pairs(&p, list), 1);
        assert_int_equal(list[0].state, KG_PAIR_FAILED);
        assert_non_null(list[0].reason);
        end(&p);
    }
}

static void test_duplicated_and_late_answers(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    struct kg_ice_datagram check = p.sent[0];
    assert_true(answer(&p, 0));
    p.sent[0] = check;
    p.count = 1;
    assert_false(answer(&p, 0)); /* that transaction is over */
    p.sent[0] = check;
    p.count = 1;
    assert_false(answer_as(&p, 0, THIRD, US, 0, THEIRS)); /* cannot fail the pair any more */
    assert_int_equal(state_of(&p, PEER), KG_PAIR_SUCCEEDED);
    end(&p);
}

static void test_several_answers_between_polls(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr us = at(US), from = at(PEER);
    uint8_t data[KG_ICE_DATAGRAM_MAX];

    for (uint8_t i = 0; i < 4; i++) {
        size_t len = write_request((struct ask){.controlling = true, .id = i}, data);
        assert_true(kg_ice_receive(p.w->a.agent, &us, &from, data, len, p.w->now_ms));
    }
    assert_true(kg_ice_next_ms(p.w->a.agent) <= p.w->now_ms);
    collect(&p);
    assert_int_equal(p.count, 4);
    for (uint8_t i = 0; i < 4; i++) {
        struct kg_stun_message m;
        read_sent(&p, i, &m);
        assert_int_equal(m.id[0], i + 1);
    }
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8445_7_1_a_check_carries),
        cmocka_unit_test(test_rfc8445_14_retransmission),
        cmocka_unit_test(test_rfc8445_7_3_1_3_unknown_source_becomes_peer_reflexive),
        cmocka_unit_test(test_rfc8445_7_3_1_5_nomination),
        cmocka_unit_test(test_aggressive_peer_best_nominated_pair_is_selected),
        cmocka_unit_test(test_rfc8445_7_3_1_1_role_conflict_answers),
        cmocka_unit_test(test_rfc8445_7_2_5_1_487),
        cmocka_unit_test(test_malformed_requests),
        cmocka_unit_test(test_rfc8445_7_2_5_3_1_peer_reflexive_local),
        cmocka_unit_test(test_rfc8445_7_2_5_2_1_answer_from_elsewhere),
        cmocka_unit_test(test_errors_fail_the_pair),
        cmocka_unit_test(test_duplicated_and_late_answers),
        cmocka_unit_test(test_several_answers_between_polls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
