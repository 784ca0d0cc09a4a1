/* Which candidates an agent has, what it pairs with what, and at which pace it asks (RFC 8445 5, 6.1.2; RFC
 * 8839). */
#include "ice_play.h"

static void test_rfc8445_5_1_1_2_server_reflexive(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr server = at("192.0.2.99:3478"), mapped = at("203.0.113.5:40000");
    struct kg_candidate locals[4];
    struct kg_stun_message m;
    struct kg_ice_event e;

    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &server), 0);
    collect(&p);
    assert_true(kg_ice_is_gathering(p.w->a.agent));
    assert_check(&p, 0, "192.0.2.99:3478", &m);
    /* From elsewhere it is no answer. */
    assert_false(answer_as(&p, 0, THIRD, "203.0.113.5:40000", 0, NULL));
    p.count = 1;
    assert_true(answer_as(&p, 0, "192.0.2.99:3478", "203.0.113.5:40000", 0, NULL));
    assert_false(kg_ice_is_gathering(p.w->a.agent));
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 4), 2);
    assert_int_equal(locals[1].type, KG_CANDIDATE_SRFLX);
    assert_true(kg_addr_equal(&locals[1].addr, &mapped));
    assert_true(kg_addr_equal(&locals[1].related, &locals[0].addr));
    assert_int_equal(locals[1].priority, kg_candidate_priority(KG_CANDIDATE_SRFLX, 65535, 1));
    assert_string_not_equal(locals[0].foundation, locals[1].foundation);
    bool told = false;
    while (kg_ice_poll_event(p.w->a.agent, &e))
        told |= e.type == KG_ICE_EV_LOCAL;
    assert_true(told);
    /* 6.1.2.4: its pairs are the host candidate's. */
    describe(&p, (const char *const[]){PEER}, 1);
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    assert_int_equal(pairs(&p, list), 1);
    /* And a peer that sees us there sees the server-reflexive candidate. */
    pass(&p, 50);
    assert_true(answer_as(&p, 0, PEER, "203.0.113.5:40000", 0, THEIRS));
    assert_int_equal(pairs(&p, list), 1);
    assert_int_equal(list[0].local.type, KG_CANDIDATE_SRFLX);
    end(&p);
}

static void test_silent_stun_server(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr server = at("192.0.2.99:3478");

    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &server), 0);
    for (int i = 0; i < 500; i++)
        pass(&p, 100);
    assert_false(kg_ice_is_gathering(p.w->a.agent));
    struct kg_candidate locals[4];
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 4), 1);
    end(&p);
}

static void test_two_stun_servers_and_a_line_that_goes(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr one = at("192.0.2.99:3478"), two = at("192.0.2.98:3478"), six = at("[2001:db8::99]:3478");
    struct kg_addr us = at(US);
    struct kg_candidate locals[8];

    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &one), 0);
    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &two), 0);
    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &six), 0); /* no socket of that family */
    collect(&p);
    assert_int_equal(p.count, 1); /* Ta */
    struct kg_ice_datagram first = p.sent[0];
    pass(&p, 50);
    assert_int_equal(p.count, 1);
    struct kg_ice_datagram second = p.sent[0];
    assert_false(kg_addr_equal(&first.to, &second.to));
    pass(&p, 50);
    assert_int_equal(p.count, 0);
    /* Both see the same: one candidate. */
    p.sent[0] = first;
    p.count = 1;
    char text[KG_ADDR_STR];
    assert_true(answer_as(&p, 0, kg_addr_format(&first.to, text), "203.0.113.5:40000", 0, NULL));
    p.sent[0] = second;
    p.count = 1;
    assert_true(answer_as(&p, 0, kg_addr_format(&second.to, text), "203.0.113.5:40000", 0, NULL));
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 8), 2);
    /* The line goes and comes: its socket is queried again. */
    kg_ice_drop_stream(p.w->a.agent, 0);
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 8), 0);
    assert_int_equal(kg_ice_add_stream(p.w->a.agent, 0, 1), 0);
    assert_int_equal(kg_ice_add_local(p.w->a.agent, 0, 1, KG_CANDIDATE_HOST, &us, &us, 65535, NULL), 0);
    assert_true(kg_ice_is_gathering(p.w->a.agent));
    pass(&p, 50);
    assert_int_equal(p.count, 1);
    kg_ice_drop_stream(p.w->a.agent, 0);
    assert_int_equal(kg_ice_restart(p.w->a.agent, "AAAA", OURS, p.w->now_ms), 0);
    pass(&p, 50);
    assert_int_equal(p.count, 0);
    end(&p);
}

static void test_public_host_needs_no_server_reflexive(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr server = at("192.0.2.99:3478");
    struct kg_candidate locals[4];

    assert_int_equal(kg_ice_add_stun_server(p.w->a.agent, &server), 0);
    collect(&p);
    assert_true(answer_as(&p, 0, "192.0.2.99:3478", US, 0, NULL));
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 4), 1);
    assert_int_equal(locals[0].type, KG_CANDIDATE_HOST);
    end(&p);
}

static int gap_of(uint16_t pacing_ms, uint32_t ta_ms)
{
    struct play p = start((struct kg_ice_settings){.ta_ms = ta_ms});
    struct kg_candidate list[2] = {
        {.component = 1, .priority = 2, .foundation = "0", .addr = at(PEER)},
        {.component = 1, .priority = 1, .foundation = "1", .addr = at(OTHER)},
    };
    struct kg_ice_description d = {
        .ufrag = "bbbb", .pwd = THEIRS, .candidate = list, .candidate_count = 2, .pacing_ms = pacing_ms};

    assert_int_equal(kg_ice_set_remote(p.w->a.agent, 0, &d, p.w->now_ms), 0);
    collect(&p);
    assert_int_equal(p.count, 1);
    int gap = (int)(kg_ice_next_ms(p.w->a.agent) - p.w->now_ms);
    if (gap > 500) /* the retransmission comes first */
        gap = 500;
    end(&p);
    return gap;
}

static void test_rfc8839_5_7_the_slower_side_sets_the_pace(void **state)
{
    (void)state;
    assert_int_equal(gap_of(0, 0), 50);
    assert_int_equal(gap_of(0, 20), 50); /* who says nothing means 50 */
    assert_int_equal(gap_of(20, 20), 20);
    assert_int_equal(gap_of(80, 20), 80);
    assert_int_equal(gap_of(20, 80), 80);
    assert_int_equal(gap_of(65535, 0), 500);
}

static void test_rfc8445_6_1_2_2_families_and_link_local(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr six = at("[2001:db8::1]:5000"), link = at("[fe80::1]:5000");
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];

    assert_int_equal(kg_ice_add_local(p.w->a.agent, 0, 1, KG_CANDIDATE_HOST, &six, &six, 65534, NULL), 0);
    assert_int_equal(kg_ice_add_local(p.w->a.agent, 0, 1, KG_CANDIDATE_HOST, &link, &link, 65533, NULL), 0);
    describe(&p, (const char *const[]){PEER, "[2001:db8::2]:6000", "[fe80::2]:6000"}, 3);
    size_t count = pairs(&p, list);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kg_addr_family(&list[i].local.addr), kg_addr_family(&list[i].remote.addr));
        assert_int_equal(kg_addr_is_private(&list[i].local.addr), kg_addr_is_private(&list[i].remote.addr));
    }
    end(&p);
}

static void test_socket_added_late_is_paired_with_every_candidate(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr more = at("192.0.2.77:5000");
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    static const char *const addr[] = {"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1",
                                       "10.0.0.5:1", "10.0.0.6:1", "10.0.0.7:1", "10.0.0.8:1",
                                       "10.0.0.9:1", "10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"};

    describe(&p, addr, 12);
    assert_int_equal(pairs(&p, list), 12);
    assert_int_equal(kg_ice_add_local(p.w->a.agent, 0, 1, KG_CANDIDATE_HOST, &more, &more, 5, NULL), 0);
    assert_int_equal(pairs(&p, list), 24);
    end(&p);
}

static void test_relayed_local_candidate_pairs_by_itself(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_addr relay = at("203.0.113.99:50000"), server = at("203.0.113.99:3478");
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    struct kg_candidate locals[4];

    assert_int_equal(kg_ice_add_local(p.w->a.agent, 0, 1, KG_CANDIDATE_RELAY, &relay, &relay, 65535, &server),
                     0);
    describe(&p, (const char *const[]){PEER}, 1);
    assert_int_equal(pairs(&p, list), 2);
    assert_int_equal(list[1].local.type, KG_CANDIDATE_RELAY);
    assert_true(kg_addr_equal(&list[1].local.related, &relay)); /* send from there */
    assert_int_equal(kg_ice_locals(p.w->a.agent, 0, locals, 4), 2);
    assert_false(kg_addr_is_set(&locals[1].related));
    end(&p);
}

static void test_rfc8839_4_4_2_remote_candidates(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_candidate list[] = {
        {.component = 1, .priority = 2130706431u, .foundation = "0", .addr = at(PEER)},
    };
    struct kg_ice_description d = {.ufrag = "bbbb", .pwd = THEIRS, .candidate = list, .candidate_count = 1};

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(answer(&p, 0));
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_CONNECTED);
    /* The updated offer overtook the check with USE-CANDIDATE. */
    d.remote_candidate[0] = at(US);
    assert_int_equal(kg_ice_set_remote(p.w->a.agent, 0, &d, p.w->now_ms), 0);
    assert_int_equal(kg_ice_state(p.w->a.agent), KG_ICE_COMPLETED);
    struct kg_ice_pair pair;
    assert_int_equal(kg_ice_pairs(p.w->a.agent, &pair, 1), 1);
    end(&p);
}

static void test_rfc8838_peer_reflexive_is_told_later(void **state)
{
    (void)state;
    struct play p = start((struct kg_ice_settings){0});
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];

    describe(&p, (const char *const[]){PEER}, 1);
    collect(&p);
    assert_true(hear(&p, OTHER, (struct ask){.controlling = true}));
    assert_int_equal(pairs(&p, list), 2);
    describe(&p, (const char *const[]){PEER, OTHER}, 2);
    assert_int_equal(pairs(&p, list), 2);
    assert_int_equal(list[1].remote.type, KG_CANDIDATE_HOST);
    assert_int_equal(list[1].remote.priority, 2130706430);
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8445_5_1_1_2_server_reflexive),
        cmocka_unit_test(test_silent_stun_server),
        cmocka_unit_test(test_two_stun_servers_and_a_line_that_goes),
        cmocka_unit_test(test_public_host_needs_no_server_reflexive),
        cmocka_unit_test(test_rfc8839_5_7_the_slower_side_sets_the_pace),
        cmocka_unit_test(test_rfc8445_6_1_2_2_families_and_link_local),
        cmocka_unit_test(test_socket_added_late_is_paired_with_every_candidate),
        cmocka_unit_test(test_relayed_local_candidate_pairs_by_itself),
        cmocka_unit_test(test_rfc8839_4_4_2_remote_candidates),
        cmocka_unit_test(test_rfc8838_peer_reflexive_is_told_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
