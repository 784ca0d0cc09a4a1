/* Steering: strangers who try to get in, and what is no check. */
#include "tests/unit/steer_world.h"

static void test_wrong_integrity(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned sent = w.sent;
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    const struct check bad[] = {
        {.pwd = "somebody else's password"},
        {.no_integrity = true},
        {.user = "fragA:fragB"},
        {.user = "fragB"},
        {.user = "fragB:"},
        {.user = "fragB:fragAx"},
        {.user = "fragBx:fragA"},
        {.user = ""},
        {.pwd = w.phone[A].pwd},
        {.pwd = w.phone[A].pwd, .user = "fragA:fragB"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int from = 0; from < 2; from++) {
            struct check c = bad[i];
            c.from = from ? &stranger : NULL;
            assert_int_equal(send_check(&w, A, c), KG_STEER_DROP);
        }
    }
    assert_int_equal(w.sent, sent);
    assert_target(&w, A, ADDR_A);
    end(&w);
}

/* Somebody overheard a request and sends it again from his own address: he gets a check that he cannot
 * answer, and the answer to what he asked, and that is all. */
static void test_a_replayed_request_moves_nothing(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    struct packet heard = write_check(&w, A, &(struct check){.nominate = true});
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &heard), KG_STEER_FORWARD);
    w.moved = false;
    for (int i = 0; i < 10; i++)
        arrive(&w, A, &stranger, &heard);
    assert_false(w.moved);
    assert_target(&w, A, ADDR_A);
    assert_false(kg_steer_is_verified(w.steer, A, &stranger, w.now));
    assert_false(kg_steer_media(w.steer, A, &stranger, w.now));
    assert_int_equal(w.to_strangers, 0);
    /* Later than any transaction lasts kedge has forgotten it: a check of ours, and B's responses. */
    run_until(&w, w.now + KG_STEER_PENDING_MS);
    for (int i = 0; i < 10; i++)
        arrive(&w, A, &stranger, &heard);
    assert_false(w.moved);
    assert_int_equal(w.to_strangers, 1 + 10);
    run_until(&w, w.now + 60000);
    assert_in_range(w.to_strangers, 11, 12); /* the check once more, because B had answered */
    assert_target(&w, A, ADDR_A);
    end(&w);
}

/* ... and before anybody else is known. */
static void test_a_replay_comes_first(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    CHECK(&w, A, .from = &stranger);
    CHECK(&w, B, 0);
    assert_target(&w, A, "none");
    assert_target(&w, B, ADDR_B);
    w.now += 50;
    CHECK(&w, A, 0);
    assert_target(&w, A, ADDR_A);
    assert_int_equal(w.phone[A].success[0], A);
    end(&w);
}

static void answer_last(struct world *w, enum kg_side side, const struct kg_addr *from, const char *pwd,
                        const char *mapped, enum kg_steer_verdict expected)
{
    struct kg_stun_message m;
    assert_int_equal(kg_stun_parse(w->stranger.data, w->stranger.len, &m), KG_STUN_OK);
    struct packet p = write_response(m.id, 0, pwd, mapped);
    assert_int_equal(arrive(w, side, from, &p), expected);
}

static void test_forged_successes(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    run(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000"), another = addr("198.18.0.1:9001");
    kg_steer_suspect(w.steer, A, &stranger, w.now);
    run(&w);
    assert_true(kg_addr_equal(&w.last_stranger, &stranger));
    answer_last(&w, A, &stranger, NULL, port[A], KG_STEER_DROP);           /* without integrity */
    answer_last(&w, A, &stranger, w.phone[B].pwd, port[A], KG_STEER_DROP); /* with the other's */
    answer_last(&w, A, &another, w.phone[A].pwd, port[A], KG_STEER_DROP);  /* from elsewhere */
    answer_last(&w, B, &stranger, w.phone[A].pwd, port[A], KG_STEER_DROP); /* to the other port */
    assert_target(&w, A, ADDR_A);
    w.now += KG_STEER_ANSWER_MS + 1;
    answer_last(&w, A, &stranger, w.phone[A].pwd, port[A], KG_STEER_DROP); /* too late */
    assert_false(kg_steer_is_verified(w.steer, A, &stranger, w.now));
    end(&w);
}

/* A response to a passed request that does not come from where that went, or is not B's. */
static void test_forged_successes_to_passed_requests(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    struct packet heard = write_check(&w, A, &(struct check){.nominate = true});
    arrive(&w, A, &w.phone[A].addr, &heard);
    memset(w.phone[A].success, 0, KG_STUN_ID);
    struct kg_stun_message m;
    assert_int_equal(kg_stun_parse(heard.data, heard.len, &m), KG_STUN_OK);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    struct packet right = write_response(m.id, 0, w.phone[B].pwd, port[B]);
    struct packet wrong = write_response(m.id, 0, w.phone[A].pwd, port[B]);
    assert_int_equal(arrive(&w, B, &stranger, &right), KG_STEER_DROP);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &wrong), KG_STEER_DROP);
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &right), KG_STEER_DROP);
    assert_int_equal(w.phone[A].success[2], 0);
    /* The true one goes through, once. */
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &right), KG_STEER_FORWARD);
    assert_int_equal(w.phone[A].success[2], 7);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &right), KG_STEER_DROP);
    end(&w);
}

/* ... nor does one from another place of B's count. */
static void test_a_response_comes_from_where_the_request_went(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr first = w.phone[B].addr, second = addr("203.0.113.20:6001");
    w.phone[B].addr = second;
    CHECK(&w, B, 0);
    assert_true(kg_steer_is_verified(w.steer, B, &second, w.now));
    w.phone[B].addr = first;
    w.phone[B].answers = false;
    struct packet request = write_check(&w, A, &(struct check){0});
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &request), KG_STEER_FORWARD);
    struct packet response = write_response(request.data + 8, 0, w.phone[B].pwd, port[B]);
    assert_int_equal(arrive(&w, B, &second, &response), KG_STEER_DROP);
    assert_int_equal(arrive(&w, B, &first, &response), KG_STEER_FORWARD);
    end(&w);
}

/* Who asked has been forgotten for others: its response goes to none of them. */
static void test_a_response_to_a_forgotten_source(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    const struct kg_addr asker = addr("198.18.0.1:9000");
    struct packet request = write_check(&w, A, &(struct check){0});
    assert_int_equal(arrive(&w, A, &asker, &request), KG_STEER_FORWARD);
    for (unsigned i = 0; i < KG_STEER_SOURCES; i++) {
        struct kg_addr other = addr("198.18.0.2:9000");
        kg_addr_set_port(&other, (uint16_t)(9000 + i));
        w.now += 10;
        CHECK(&w, A, .from = &other);
    }
    unsigned sent = w.to_strangers;
    struct packet response = write_response(request.data + 8, 0, w.phone[B].pwd, port[B]);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &response), KG_STEER_DROP);
    assert_int_equal(w.to_strangers, sent);
    end(&w);
}

static void test_more_verified_sources_than_there_is_room_for(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr first = w.phone[A].addr;
    for (unsigned i = 1; i <= 2 * KG_STEER_SOURCES; i++) {
        w.now += 10;
        kg_addr_set_port(&w.phone[A].addr, (uint16_t)(5000 + i));
        CHECK(&w, A, 0);
        assert_true(kg_steer_is_verified(w.steer, A, &w.phone[A].addr, w.now));
        assert_target(&w, A, ADDR_A);
    }
    assert_true(kg_steer_is_verified(w.steer, A, &first, w.now));
    struct kg_ice_pair pair[100];
    assert_int_equal(kg_steer_pairs(w.steer, A, pair, 100), KG_STEER_SOURCES);
    end(&w);
}

static void test_forged_role_conflict(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    struct packet heard = write_check(&w, A, &(struct check){0});
    arrive(&w, A, &w.phone[A].addr, &heard);
    struct kg_stun_message m;
    assert_int_equal(kg_stun_parse(heard.data, heard.len, &m), KG_STUN_OK);
    struct packet forged[] = {
        write_response(m.id, 487, NULL, port[B]),
        write_response(m.id, 487, "somebody else's password", port[B]),
        write_response(m.id, 401, NULL, port[B]),
    };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(arrive(&w, B, &w.phone[B].addr, &forged[i]), KG_STEER_DROP);
    /* To a check of ours: neither believed nor answered by another check. */
    run_until(&w, w.now + 7000);
    unsigned sent = w.sent;
    assert_int_equal(kg_stun_parse(w.to_phone[B].data, w.to_phone[B].len, &m), KG_STUN_OK);
    struct packet conflict = write_response(m.id, 487, NULL, port[B]);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &conflict), KG_STEER_DROP);
    assert_int_equal(w.sent, sent);
    /* A true one passes: the two have to settle it. */
    conflict = write_response(heard.data + 8, 487, w.phone[B].pwd, port[B]);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &conflict), KG_STEER_FORWARD);
    end(&w);
}

/* Our check of a stranger is made with A's password, as B's checks of A are. Sent back to our other port it
 * would be a valid check of B's, and A's answer to it would be the proof that the stranger needs. */
static void test_our_check_reflected_to_the_other_port(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    w.now += 1000;
    kg_steer_suspect(w.steer, A, &stranger, w.now);
    run(&w);
    unsigned sent = w.sent;
    struct packet ours = w.stranger;
    assert_int_equal(arrive(&w, B, &stranger, &ours), KG_STEER_DROP);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &ours), KG_STEER_DROP);
    assert_int_equal(arrive(&w, A, &stranger, &ours), KG_STEER_DROP);
    assert_int_equal(w.sent, sent);
    end(&w);
}

/* ... or handed on to A itself, if A can be reached, and A's answer back to us: A saw the stranger's address.
 */
static void test_our_check_handed_on_by_a_stranger(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    w.now += 1000;
    kg_steer_suspect(w.steer, A, &stranger, w.now);
    run(&w);
    answer_last(&w, A, &stranger, w.phone[A].pwd, "198.18.0.1:9000", KG_STEER_DROP);
    answer_last(&w, A, &stranger, w.phone[A].pwd, "198.18.0.1:30000", KG_STEER_DROP);
    answer_last(&w, A, &stranger, w.phone[A].pwd, "198.51.100.1:30001", KG_STEER_DROP);
    assert_false(kg_steer_is_verified(w.steer, A, &stranger, w.now));
    assert_target(&w, A, ADDR_A);
    end(&w);
}

static void test_how_a_phone_may_see_our_port(void **state)
{
    (void)state;
    static const struct {
        const char *bound, *advertised, *mapped;
        bool right;
    } cases[] = {
        {"10.0.0.5:30000", "198.51.100.1", "198.51.100.1:30000", true}, /* 1:1 NAT before kedge */
        {"10.0.0.5:30000", "198.51.100.1", "10.0.0.5:30000", true},     /* the phone is inside */
        {"10.0.0.5:30000", "198.51.100.1", "198.51.100.2:30000", false},
        {"10.0.0.5:30000", "198.51.100.1", "[64:ff9b::c633:6401]:30000", true}, /* NAT64 */
        {"10.0.0.5:30000", "198.51.100.1", "[64:ff9b::c633:6402]:30000", false},
        {"0.0.0.0:30000", NULL, "198.51.100.1:30000", true},
        {"0.0.0.0:30000", NULL, "198.51.100.1:30001", false},
        {"[2001:db8::1]:30000", NULL, "[2001:db8::1]:30000", true},
        {"[2001:db8::1]:30000", NULL, "[2001:db8::2]:30000", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        connect_phones(&w);
        struct kg_addr bound = addr(cases[i].bound), advertised = {0}, there = addr("198.18.0.1:9000");
        if (cases[i].advertised)
            advertised = addr(cases[i].advertised);
        kg_steer_local(w.steer, A, &bound, &advertised);
        w.now += 1000;
        kg_steer_suspect(w.steer, A, &there, w.now);
        run(&w);
        answer_last(&w, A, &there, w.phone[A].pwd, cases[i].mapped,
                    cases[i].right ? KG_STEER_KEPT : KG_STEER_DROP);
        assert_int_equal(kg_steer_is_verified(w.steer, A, &there, w.now), cases[i].right);
        end(&w);
    }
}

/* Ten thousand valid requests from as many addresses: tables stay bounded, the phones' path stays. */
static void test_a_flood_of_valid_requests(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 100;
    w.sent = w.to_strangers = 0;
    for (int i = 0; i < 10000; i++) {
        char text[40];
        snprintf(text, sizeof text, "198.18.%d.%d:%d", i / 250 % 250, i % 250 + 1, 9000 + i / 1000);
        struct kg_addr from = addr(text);
        CHECK(&w, A, .from = &from);
        w.now += i % 10 == 0;
    }
    assert_in_range(w.to_strangers, 1, 2 * 10000); /* of each its check and its response, at most */
    assert_target(&w, A, ADDR_A);
    assert_target(&w, B, ADDR_B);
    struct kg_ice_pair pair[100];
    assert_int_equal(kg_steer_pairs(w.steer, A, pair, 100), 1);
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    end(&w);
}

static void test_what_is_no_check_is_dropped(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned sent = w.sent;
    struct packet p = write_check(&w, A, &(struct check){0});
    for (size_t len = 0; len < p.len; len++) {
        struct packet cut = p;
        cut.len = len;
        assert_int_equal(arrive(&w, A, &w.phone[A].addr, &cut), KG_STEER_DROP);
    }
    struct packet allocate = p;
    allocate.data[1] = KG_STUN_ALLOCATE;
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &allocate), KG_STEER_DROP);
    struct kg_addr no_port = addr("192.0.2.10:0");
    assert_int_equal(arrive(&w, A, &no_port, &p), KG_STEER_DROP);
    assert_int_equal(w.sent, sent);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_integrity),
        cmocka_unit_test(test_a_replayed_request_moves_nothing),
        cmocka_unit_test(test_a_replay_comes_first),
        cmocka_unit_test(test_forged_successes),
        cmocka_unit_test(test_forged_successes_to_passed_requests),
        cmocka_unit_test(test_a_response_comes_from_where_the_request_went),
        cmocka_unit_test(test_a_response_to_a_forgotten_source),
        cmocka_unit_test(test_more_verified_sources_than_there_is_room_for),
        cmocka_unit_test(test_forged_role_conflict),
        cmocka_unit_test(test_our_check_reflected_to_the_other_port),
        cmocka_unit_test(test_our_check_handed_on_by_a_stranger),
        cmocka_unit_test(test_how_a_phone_may_see_our_port),
        cmocka_unit_test(test_a_flood_of_valid_requests),
        cmocka_unit_test(test_what_is_no_check_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
