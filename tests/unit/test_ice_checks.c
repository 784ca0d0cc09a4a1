/* One ICE agent against a peer that a test plays, word by word, and against attackers (RFC 8445 7, 16). */
#include "ice/agent/agent_state.h"
#include "ice_world.h"

#define US     "192.0.2.1:5000"
#define PEER   "198.51.100.1:6000"
#define OTHER  "198.51.100.1:6002"
#define THIRD  "203.0.113.66:7000"
#define OURS   "aaaaaaaaaaaaaaaaaaaaaa" /* pwd */
#define THEIRS "bbbbbbbbbbbbbbbbbbbbbb"

/* What the played peer puts into a request. */
struct ask {
    const char *user, *pwd;
    bool controlling, use_candidate, no_priority, no_integrity, unknown;
    uint64_t tie_breaker;
    uint8_t id;
};

struct play {
    struct world *w; /* only a is an agent */
    struct kg_ice_datagram sent[16];
    size_t count;
};

static void collect(struct play *p)
{
    p->count = 0;
    while (p->count < 16 && kg_ice_poll(p->w->a.agent, p->w->now_ms, &p->sent[p->count]))
        p->count++;
}

static void pass(struct play *p, int ms)
{
    p->w->now_ms += ms;
    collect(p);
}

static struct play start(struct kg_ice_settings settings)
{
    struct play p = {.w = world_new()};

    peer_new(p.w, &p.w->a, settings, US, 1);
    return p;
}

static void describe(struct play *p, const char *const *addr, uint8_t count)
{
    struct kg_candidate list[16] = {0};

    for (uint8_t i = 0; i < count; i++) {
        list[i] = (struct kg_candidate){.component = 1, .priority = 2130706431u - i, .addr = at(addr[i])};
        snprintf(list[i].foundation, sizeof list[i].foundation, "%u", i);
    }
    struct kg_ice_description d = {
        .ufrag = "bbbb", .pwd = THEIRS, .candidate = list, .candidate_count = count};
    assert_int_equal(kg_ice_set_remote(p->w->a.agent, 0, &d, p->w->now_ms), 0);
}

static size_t write_request(struct ask ask, uint8_t out[static KG_ICE_DATAGRAM_MAX])
{
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];
    const char *user = ask.user != NULL ? ask.user : "aaaa:bbbb";
    const char *pwd = ask.pwd != NULL ? ask.pwd : OURS;

    memset(id, ask.id + 1, sizeof id);
    kg_stun_begin(&w, out, KG_ICE_DATAGRAM_MAX, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    kg_stun_put(&w, KG_STUN_USERNAME, user, strlen(user));
    if (!ask.no_priority)
        kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1862270975);
    kg_stun_put_u64(&w, ask.controlling ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED, ask.tie_breaker);
    if (ask.use_candidate)
        kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    if (ask.unknown)
        kg_stun_put_u32(&w, 0x7eee, 0);
    if (!ask.no_integrity)
        kg_stun_put_integrity(&w, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

/* The agent hears the request and says all it wants to. True: it was taken. */
static bool hear(struct play *p, const char *source, struct ask ask)
{
    uint8_t data[KG_ICE_DATAGRAM_MAX];
    size_t len = write_request(ask, data);
    struct kg_addr us = at(US), from = at(source);

    bool taken = kg_ice_receive(p->w->a.agent, &us, &from, data, len, p->w->now_ms);
    collect(p);
    return taken;
}

static void read_sent(const struct play *p, size_t i, struct kg_stun_message *m)
{
    assert_true(i < p->count);
    assert_int_equal(kg_stun_parse(p->sent[i].data, p->sent[i].len, m), KG_STUN_OK);
}

/* The only datagram sent now is a check to `to`. */
static void assert_check(const struct play *p, size_t i, const char *to, struct kg_stun_message *m)
{
    char text[KG_ADDR_STR];

    read_sent(p, i, m);
    assert_int_equal(m->class, KG_STUN_REQUEST);
    assert_string_equal(kg_addr_format(&p->sent[i].to, text), to);
}

static void assert_reply(const struct play *p, size_t i, const char *to, int code)
{
    struct kg_stun_message m;
    struct kg_addr mapped;
    char text[KG_ADDR_STR];
    int got = 0;

    read_sent(p, i, &m);
    assert_string_equal(kg_addr_format(&p->sent[i].to, text), to);
    assert_int_equal(m.class, code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR);
    assert_int_equal(kg_stun_check_integrity(&m, OURS, strlen(OURS)), KG_STUN_INTEGRITY_RIGHT);
    assert_true(m.has_fingerprint);
    if (code == 0) {
        assert_true(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &mapped));
        assert_string_equal(kg_addr_format(&mapped, text), to);
        return;
    }
    assert_true(kg_stun_get_error(&m, &got, NULL, NULL));
    assert_int_equal(got, code);
}

/* The peer answers the i-th datagram sent, from `source`, having seen us at `mapped`. code 0: success. */
static bool answer_as(struct play *p, size_t i, const char *source, const char *mapped, int code,
                      const char *pwd)
{
    struct kg_stun_message m;
    struct kg_stun_writer w;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
    struct kg_addr us = at(US), from = at(source), seen = at(mapped);

    read_sent(p, i, &m);
    kg_stun_begin(&w, data, sizeof data, code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR, KG_STUN_BINDING, m.id);
    if (code == 0)
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &seen);
    else
        kg_stun_put_error(&w, code, "no");
    if (pwd != NULL)
        kg_stun_put_integrity(&w, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&w);
    bool taken = kg_ice_receive(p->w->a.agent, &us, &from, data, kg_stun_end(&w), p->w->now_ms);
    collect(p);
    return taken;
}

static bool answer(struct play *p, size_t i)
{
    char text[KG_ADDR_STR];

    return answer_as(p, i, kg_addr_format(&p->sent[i].to, text), US, 0, THEIRS);
}

static size_t pairs(const struct play *p, struct kg_ice_pair *out)
{
    return kg_ice_pairs(p->w->a.agent, out, KG_ICE_PAIRS_MAX);
}

static enum kg_pair_state state_of(const struct play *p, const char *remote)
{
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    struct kg_addr addr = at(remote);

    for (size_t i = 0, n = pairs(p, list); i < n; i++)
        if (kg_addr_equal(&list[i].remote.addr, &addr))
            return (enum kg_pair_state)list[i].state;
    return (enum kg_pair_state)99;
}

static void end(struct play *p)
{
    world_free(p->w);
}

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

/* ---- attackers ---- */

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

/* ---- gathering, updated offers ---- */

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
        cmocka_unit_test(test_several_answers_between_polls),
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
