/* Steering: two phones with a small ICE each, kedge's two ports between them, and strangers who try to get
 * in.
 *
 * The phones check nothing but what they are told to; they answer every check that is theirs. Time is counted
 * by the test; datagrams arrive at once unless the test holds them back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "media/steer.h"

#define CONSENT_MS 5000
#define PROOF_MS   30000
#define START      INT64_C(1000000)
#define A          KG_SIDE_A
#define B          KG_SIDE_B

/* ---- the world ---- */

struct phone {
    char ufrag[40], pwd[40], old_ufrag[40], old_pwd[40];
    struct kg_addr addr;
    bool controlling, answers;
    uint64_t tie;
    unsigned requests, role_changes, conflicts; /* seen */
    uint8_t success[KG_STUN_ID];                /* id of the latest success it got */
    unsigned successes;
    struct kg_addr mapped; /* in the latest one */
    char last_user[100];
};

struct packet {
    uint8_t data[KG_ICE_DATAGRAM_MAX];
    size_t len;
};

struct world {
    struct kg_steer *steer;
    struct phone phone[2];
    int64_t now;
    uint32_t dice;
    uint8_t next_id;
    unsigned to_strangers, sent; /* datagrams that kedge sent: not to the phones; at all */
    struct kg_addr last_stranger;
    struct packet stranger; /* the latest to a stranger */
    struct packet to_phone[2];
    bool moved;
};

static void dice(void *ctx, void *out, size_t len)
{
    struct world *w = ctx;
    for (size_t i = 0; i < len; i++) {
        w->dice = w->dice * 1103515245 + 12345;
        ((uint8_t *)out)[i] = (uint8_t)(w->dice >> 16);
    }
}

static struct kg_addr addr(const char *text)
{
    struct kg_addr out;
    assert_int_equal(kg_addr_parse(text, &out), 0);
    return out;
}

/* What the phones see as kedge's ports. */
static const char *const port[2] = {"198.51.100.1:30000", "198.51.100.1:30002"};

static void describe(struct world *w, enum kg_side side)
{
    const struct kg_ice_description ice = {.ufrag = w->phone[side].ufrag, .pwd = w->phone[side].pwd};
    assert_int_equal(kg_steer_describe(w->steer, side, &ice, w->now), 0);
}

static void start_with(struct world *w, uint32_t consent_ms)
{
    memset(w, 0, sizeof *w);
    w->now = START;
    w->steer = kg_steer_new(consent_ms, PROOF_MS, dice, w);
    assert_non_null(w->steer);
    for (unsigned s = 0; s < 2; s++) {
        const struct kg_addr bound = addr(port[s]), none = {0};
        kg_steer_local(w->steer, s, &bound, &none);
        snprintf(w->phone[s].ufrag, sizeof w->phone[s].ufrag, "frag%c", s ? 'B' : 'A');
        snprintf(w->phone[s].pwd, sizeof w->phone[s].pwd, "a password of side %c 123", s ? 'B' : 'A');
        w->phone[s].addr = addr(s ? "203.0.113.20:6000" : "192.0.2.10:5000");
        w->phone[s].controlling = s == A;
        w->phone[s].answers = true;
        w->phone[s].tie = 0x1000 + s;
    }
}

static void start(struct world *w)
{
    start_with(w, CONSENT_MS);
    describe(w, A);
    describe(w, B);
}

/* ---- a phone ---- */

struct check {
    const char *user, *pwd; /* NULL: as it should be */
    bool nominate;
    const struct kg_addr *from; /* NULL: the phone's */
    bool no_integrity;
};

static struct packet write_check(struct world *w, enum kg_side side, const struct check *c)
{
    struct phone *me = &w->phone[side], *peer = &w->phone[kg_other_side(side)];
    struct packet p;
    struct kg_stun_writer writer;
    uint8_t id[KG_STUN_ID] = {(uint8_t)side, w->next_id++, 7};
    char user[100];
    snprintf(user, sizeof user, "%s:%s", peer->ufrag, me->ufrag);
    kg_stun_begin(&writer, p.data, sizeof p.data, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    kg_stun_put(&writer, KG_STUN_USERNAME, c->user ? c->user : user, strlen(c->user ? c->user : user));
    kg_stun_put_u32(&writer, KG_STUN_PRIORITY, 1845501695);
    kg_stun_put_u64(&writer, me->controlling ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED, me->tie);
    if (c->nominate)
        kg_stun_put(&writer, KG_STUN_USE_CANDIDATE, NULL, 0);
    const char *pwd = c->pwd ? c->pwd : peer->pwd;
    if (!c->no_integrity)
        kg_stun_put_integrity(&writer, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&writer);
    p.len = kg_stun_end(&writer);
    assert_int_not_equal(p.len, 0);
    return p;
}

static struct packet write_response(const uint8_t *id, int code, const char *pwd, const char *mapped)
{
    struct packet p;
    struct kg_stun_writer writer;
    struct kg_addr seen = addr(mapped);
    kg_stun_begin(&writer, p.data, sizeof p.data, code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR,
                  KG_STUN_BINDING, id);
    if (code == 0)
        kg_stun_put_address(&writer, KG_STUN_XOR_MAPPED_ADDRESS, &seen);
    else
        kg_stun_put_error(&writer, code, "said the test");
    if (pwd)
        kg_stun_put_integrity(&writer, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&writer);
    p.len = kg_stun_end(&writer);
    return p;
}

static enum kg_steer_verdict arrive(struct world *w, enum kg_side side, const struct kg_addr *from,
                                    const struct packet *p);

static bool names_me(const struct kg_stun_value *user, const char *ufrag)
{
    size_t len = strlen(ufrag);
    return len > 0 && user->len > len && memcmp(user->data, ufrag, len) == 0 && user->data[len] == ':';
}

/* RFC 8445 7.3, as far as it matters here. */
static void phone_receives(struct world *w, enum kg_side side, const struct packet *p)
{
    struct phone *me = &w->phone[side];
    struct kg_stun_message m;
    uint64_t tie;
    int code = 0;
    w->to_phone[side] = *p;
    assert_int_equal(kg_stun_parse(p->data, p->len, &m), KG_STUN_OK);
    if (m.class == KG_STUN_SUCCESS) {
        const char *its = w->phone[kg_other_side(side)].pwd, *old = w->phone[kg_other_side(side)].old_pwd;
        assert_true(kg_stun_check_integrity(&m, its, strlen(its)) == KG_STUN_INTEGRITY_RIGHT ||
                    kg_stun_check_integrity(&m, old, strlen(old)) == KG_STUN_INTEGRITY_RIGHT);
        assert_true(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &me->mapped));
        memcpy(me->success, m.id, KG_STUN_ID);
        me->successes++;
        return;
    }
    if (m.class != KG_STUN_REQUEST)
        return;
    const struct kg_stun_value *user = kg_stun_find(&m, KG_STUN_USERNAME);
    assert_non_null(user);
    snprintf(me->last_user, sizeof me->last_user, "%.*s", (int)user->len, (const char *)user->data);
    bool now = names_me(user, me->ufrag);
    const char *pwd = now ? me->pwd : me->old_pwd;
    me->requests++;
    if (!me->answers || !(now || names_me(user, me->old_ufrag)))
        return;
    assert_int_equal(kg_stun_check_integrity(&m, pwd, strlen(pwd)), KG_STUN_INTEGRITY_RIGHT);
    if (me->controlling && kg_stun_get_u64(&m, KG_STUN_ICE_CONTROLLING, &tie)) {
        me->conflicts++;
        if (me->tie >= tie)
            code = 487;
        else
            me->controlling = false, me->role_changes++;
    } else if (!me->controlling && kg_stun_get_u64(&m, KG_STUN_ICE_CONTROLLED, &tie)) {
        me->conflicts++;
        if (me->tie >= tie)
            me->controlling = true, me->role_changes++;
        else
            code = 487;
    }
    struct packet answer = write_response(m.id, code, pwd, port[side]);
    arrive(w, side, &me->addr, &answer);
}

static void deliver(struct world *w, enum kg_side side, const struct kg_addr *to, const struct packet *p)
{
    w->sent++;
    if (kg_addr_equal(to, &w->phone[side].addr)) {
        phone_receives(w, side, p);
    } else {
        w->to_strangers++;
        w->last_stranger = *to;
        w->stranger = *p;
    }
}

static void run(struct world *w)
{
    struct kg_steer_datagram out;
    for (int i = 0; i < 100; i++) {
        if (!kg_steer_poll(w->steer, w->now, &out)) {
            assert_true(kg_steer_next_ms(w->steer) > w->now);
            return;
        }
        struct packet p = {.len = out.len};
        memcpy(p.data, out.data, out.len);
        deliver(w, out.side, &out.to, &p);
    }
    fail_msg("kg_steer_poll has no end");
}

static void run_until(struct world *w, int64_t ms)
{
    while (kg_steer_next_ms(w->steer) <= ms) {
        int64_t next = kg_steer_next_ms(w->steer);
        w->now = next > w->now ? next : w->now;
        run(w);
    }
    w->now = ms;
    run(w);
}

static enum kg_steer_verdict arrive(struct world *w, enum kg_side side, const struct kg_addr *from,
                                    const struct packet *p)
{
    const struct kg_addr *to = NULL;
    bool moved;
    enum kg_steer_verdict verdict =
        kg_steer_receive(w->steer, side, from, p->data, p->len, w->now, &to, &moved);
    w->moved |= moved;
    struct kg_addr there = verdict == KG_STEER_FORWARD ? *to : (struct kg_addr){0};
    run(w); /* what is due goes out before any answer can come */
    if (verdict == KG_STEER_FORWARD)
        deliver(w, kg_other_side(side), &there, p);
    run(w);
    return verdict;
}

static enum kg_steer_verdict send_check(struct world *w, enum kg_side side, struct check c)
{
    struct packet p = write_check(w, side, &c);
    return arrive(w, side, c.from ? c.from : &w->phone[side].addr, &p);
}
#define CHECK(w, side, ...) send_check(w, side, (struct check){__VA_ARGS__})

static void assert_target(struct world *w, enum kg_side side, const char *expected)
{
    char text[KG_ADDR_STR];
    const struct kg_addr *target = kg_steer_target(w->steer, side, w->now);
    assert_string_equal(target ? kg_addr_format(target, text) : "none", expected);
}

#define ADDR_A "192.0.2.10:5000"
#define ADDR_B "203.0.113.20:6000"

/* Both have checked each other through kedge, and A has nominated. */
static void connect_phones(struct world *w)
{
    start(w);
    CHECK(w, B, 0);
    CHECK(w, A, 0);
    CHECK(w, B, 0);
    CHECK(w, A, .nominate = true);
    assert_target(w, A, ADDR_A);
    assert_target(w, B, ADDR_B);
    assert_true(kg_steer_is_nominated(w->steer));
    assert_int_equal(w->to_strangers, 0);
}

static void restart(struct world *w, enum kg_side side, const char *ufrag, const char *pwd)
{
    struct phone *me = &w->phone[side];
    memcpy(me->old_ufrag, me->ufrag, sizeof me->ufrag);
    memcpy(me->old_pwd, me->pwd, sizeof me->pwd);
    snprintf(me->ufrag, sizeof me->ufrag, "%s", ufrag);
    snprintf(me->pwd, sizeof me->pwd, "%s", pwd);
}

static void end(struct world *w)
{
    /* Whatever happened, our checks changed nobody's role. */
    assert_int_equal(w->phone[A].role_changes + w->phone[B].role_changes, 0);
    kg_steer_free(w->steer);
}

/* ---- as it should be ---- */

static void test_the_first_check_each_way_is_enough(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    assert_target(&w, A, "none");
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), -1);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
    /* B is asked by a check of ours, named as A's. Its own waits for A. */
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    assert_string_equal(w.phone[B].last_user, "fragB:fragA");
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].requests, 0);
    w.moved = false;
    /* A's goes to B at once and is answered; A answers ours, and B's that was kept. */
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_true(w.moved);
    assert_target(&w, A, ADDR_A);
    assert_int_equal(w.phone[A].requests, 2);
    assert_int_equal(w.phone[A].success[0], A);
    assert_int_equal(w.phone[B].success[0], B);
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), 0);
    assert_int_equal(w.phone[A].conflicts + w.phone[B].conflicts, 0);
    assert_false(kg_steer_is_nominated(w.steer));
    CHECK(&w, A, .nominate = true);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

static void test_both_orders(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_KEPT);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_target(&w, A, ADDR_A);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].success[0], A);
    assert_int_equal(w.phone[A].success[1], 0);
    end(&w);
}

/* B answers the offer with checks before kedge has seen its answer. */
static void test_checks_before_the_answer(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, CONSENT_MS);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_DROP); /* nothing to verify it with */
    describe(&w, A);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    assert_int_equal(CHECK(&w, B, .pwd = "not A's password 12345678"), KG_STEER_DROP);
    assert_int_equal(w.sent, 0);
    w.now += 300;
    describe(&w, B);
    run(&w);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[B].requests, 1);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].success[0], B); /* to the check that was kept all the time */
    assert_int_equal(w.phone[B].success[1], 1);
    end(&w);
}

static void test_a_kept_request_gets_too_old(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    w.now += KG_STEER_KEPT_MS + 1;
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[A].requests, 1); /* ours alone */
    end(&w);
}

/* The checks that would have proven B are lost: whatever valid comes next tries again. */
static void test_lost_checks_of_ours_are_made_up_for(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].requests, 1);
    /* Once more because A has answered B's check. */
    run_until(&w, w.now + 400);
    assert_int_equal(w.phone[B].requests, 2);
    assert_target(&w, B, "none");
    w.phone[B].answers = true;
    run_until(&w, w.now + 400);
    assert_target(&w, B, "none");
    CHECK(&w, A, 0); /* a retransmission of A's */
    assert_int_equal(w.phone[B].requests, 4);
    assert_target(&w, B, ADDR_B);
    assert_int_equal(w.phone[A].success[0], A);
    end(&w);
}

/* A long way: answers take longer than the time between two checks of ours. */
static void test_late_answers(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    struct packet answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    for (int i = 0; i < 6; i++) {
        w.now += 250;
        CHECK(&w, B, 0);
    }
    assert_int_equal(w.phone[B].requests, 7);
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &answer), KG_STEER_KEPT);
    assert_target(&w, B, ADDR_B);
    /* Repeated checks do not go on for ever under one id. */
    kg_steer_free(w.steer);
    start(&w);
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    for (int i = 0; i < 30; i++) {
        w.now += 250;
        CHECK(&w, B, 0);
    }
    assert_int_equal(arrive(&w, B, &w.phone[B].addr, &answer), KG_STEER_DROP);
    end(&w);
}

static void test_one_source_several_checks_one_of_ours(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[B].answers = false;
    for (int i = 0; i < 50; i++) {
        CHECK(&w, B, 0);
        w.now += 2;
    }
    assert_int_equal(w.phone[B].requests, 1);
    run_until(&w, w.now + 60000); /* nor later: without a valid request there is no check */
    assert_int_equal(w.phone[B].requests, 1);
    end(&w);
}

static void test_nomination_and_media_choose_among_sources(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    const struct kg_addr first = w.phone[A].addr, second = addr("192.0.2.10:5001");
    /* A second candidate of A: verified, but not the target. */
    w.phone[A].addr = second;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_true(kg_steer_is_verified(w.steer, A, &second, w.now));
    assert_target(&w, A, ADDR_A);
    /* Media from there moves it, not while the nomination is fresh. */
    assert_false(kg_steer_media(w.steer, A, &second, w.now));
    w.now += KG_STEER_SETTLE_MS;
    assert_true(kg_steer_media(w.steer, A, &second, w.now));
    assert_false(kg_steer_media(w.steer, A, &second, w.now));
    assert_target(&w, A, "192.0.2.10:5001");
    assert_true(kg_steer_media(w.steer, A, &first, w.now));
    /* Nominated too (aggressively): the newest nomination wins at first, then media again. */
    w.moved = false;
    CHECK(&w, A, .nominate = true);
    assert_true(w.moved);
    assert_target(&w, A, "192.0.2.10:5001");
    assert_true(kg_steer_media(w.steer, A, &first, w.now));
    /* It was nominated already: said again, it moves nothing. */
    CHECK(&w, A, .nominate = true);
    assert_target(&w, A, ADDR_A);
    struct kg_addr stranger = addr("198.18.0.1:9");
    assert_false(kg_steer_media(w.steer, A, &stranger, w.now));
    end(&w);
}

static void test_nomination_that_fails_counts_for_nothing(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    w.phone[B].answers = false;
    CHECK(&w, A, .nominate = true);
    assert_false(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* Nominated from a place whose answer to our check was lost: it is asked once more when B has said yes. */
static void test_a_nominated_source_is_asked_again(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 1000;
    w.phone[A].addr = addr("192.0.2.10:5001");
    w.phone[A].answers = false;
    CHECK(&w, A, .nominate = true);
    assert_target(&w, A, ADDR_A);
    w.phone[A].answers = true;
    run_until(&w, w.now + KG_ICE_CHALLENGE_MS);
    assert_target(&w, A, "192.0.2.10:5001");
    end(&w);
}

static void test_keepalive_indications(void **state)
{
    (void)state;
    struct world w;
    struct packet p;
    struct kg_stun_writer writer;
    const uint8_t id[KG_STUN_ID] = {9};
    kg_stun_begin(&writer, p.data, sizeof p.data, KG_STUN_INDICATION, KG_STUN_BINDING, id);
    kg_stun_put_fingerprint(&writer);
    p.len = kg_stun_end(&writer);
    start(&w);
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &p), KG_STEER_DROP);
    kg_steer_free(w.steer);
    connect_phones(&w);
    assert_int_equal(arrive(&w, A, &w.phone[A].addr, &p), KG_STEER_FORWARD);
    struct kg_addr stranger = addr("192.0.2.10:5001");
    assert_int_equal(arrive(&w, A, &stranger, &p), KG_STEER_DROP);
    end(&w);
}

static void test_pairs(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    const struct kg_addr other = addr("203.0.113.20:6001");
    CHECK(&w, B, .from = &other);
    struct kg_ice_pair pair[KG_STEER_SOURCES];
    assert_int_equal(kg_steer_pairs(w.steer, B, pair, KG_STEER_SOURCES), 1);
    assert_true(kg_addr_equal(&pair[0].remote.addr, &w.phone[B].addr));
    assert_true(pair[0].valid && pair[0].nominated && pair[0].selected);
    assert_int_equal(pair[0].rtt_ms, 0);
    assert_int_equal(pair[0].responses, 1);
    assert_int_equal(kg_steer_pairs(w.steer, B, pair, 0), 0);
    end(&w);
}

/* ---- vouching ---- */

static void start_at(struct world *w, int64_t after_start)
{
    run_until(w, START + after_start);
}

static void assert_mapped(struct world *w, enum kg_side side, const char *expected)
{
    char text[KG_ADDR_STR];
    assert_string_equal(kg_addr_format(&w->phone[side].mapped, text), expected);
}

/* B checks one pair after another and sends each check four times; A is still busy with dead pairs. */
static void test_vouching_for_who_has_not_come_yet(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    const struct packet check = write_check(&w, B, &(struct check){0});
    const int64_t sent_ms[] = {0, 100, 300};
    for (int i = 0; i < 3; i++) {
        start_at(&w, sent_ms[i]);
        assert_int_equal(arrive(&w, B, &w.phone[B].addr, &check), KG_STEER_KEPT);
    }
    run_until(&w, START + 300 + KG_STEER_VOUCH_AFTER_MS - 1);
    assert_int_equal(w.phone[B].successes, 0);
    run_until(&w, START + 300 + KG_STEER_VOUCH_AFTER_MS);
    assert_int_equal(w.phone[B].successes, 1);
    assert_memory_equal(w.phone[B].success, check.data + 8, KG_STUN_ID);
    assert_mapped(&w, B, port[A]); /* as A would see it */
    assert_true(w.to_phone[B].len <= check.len);
    /* Repeated because the response was lost: once more. Nothing without a request. */
    run_until(&w, START + 2000);
    arrive(&w, B, &w.phone[B].addr, &check);
    run_until(&w, w.now + KG_STEER_VOUCH_AFTER_MS);
    assert_int_equal(w.phone[B].successes, 2);
    run_until(&w, START + 4000);
    assert_int_equal(w.phone[B].successes, 2);
    /* That proves nobody. */
    assert_target(&w, A, "none");
    assert_int_equal(kg_steer_silence(w.steer, A, w.now), -1);
    assert_false(kg_steer_is_nominated(w.steer));
    /* A comes: it gets B's check, and answers it too. Then B gets A's answers alone. */
    CHECK(&w, A, 0);
    assert_target(&w, A, ADDR_A);
    assert_int_equal(w.phone[A].requests, 2);
    assert_int_equal(w.phone[B].successes, 3);
    assert_memory_equal(w.phone[B].success, check.data + 8, KG_STUN_ID);
    w.phone[A].answers = false;
    CHECK(&w, B, 0);
    run_until(&w, w.now + 2000);
    assert_int_equal(w.phone[B].successes, 3);
    assert_int_equal(w.to_strangers, 0);
    end(&w);
}

static void test_no_vouching_for_who_comes_in_time(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_AFTER_MS - 1);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[A].requests, 2); /* ours, and B's that it answered */
    assert_int_equal(w.phone[B].successes, 1);
    run_until(&w, START + 3000);
    assert_int_equal(w.phone[B].successes, 1);
    end(&w);
}

/* The mapped address is A's view of our port; where nobody told it, B's own address. */
static void test_how_vouching_names_our_port(void **state)
{
    (void)state;
    static const struct {
        const char *bound, *advertised, *mapped;
    } cases[] = {
        {"10.0.0.5:30000", "198.51.100.1", "198.51.100.1:30000"},
        {"10.0.0.5:30000", NULL, "10.0.0.5:30000"},
        {"0.0.0.0:30000", NULL, ADDR_B},
        {"0.0.0.0:30000", "198.51.100.1", "198.51.100.1:30000"},
        {NULL, NULL, ADDR_B},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        start(&w);
        struct kg_addr bound = {0}, advertised = {0};
        if (cases[i].bound)
            bound = addr(cases[i].bound);
        if (cases[i].advertised)
            advertised = addr(cases[i].advertised);
        kg_steer_local(w.steer, A, &bound, &advertised);
        CHECK(&w, B, 0);
        start_at(&w, KG_STEER_VOUCH_AFTER_MS);
        assert_int_equal(w.phone[B].successes, 1);
        assert_mapped(&w, B, cases[i].mapped);
        end(&w);
    }
}

/* Those nominate aggressively, or conclude: only A itself may say yes to that. */
static void test_no_vouching_for_a_nomination(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, .nominate = true);
    start_at(&w, 700);
    CHECK(&w, B, .nominate = true);
    start_at(&w, 3000);
    assert_int_equal(w.phone[B].successes, 0);
    CHECK(&w, A, 0);
    assert_int_equal(w.phone[B].successes, 1);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* Who has not answered us gets no answer either: it may be somebody who sends B's request again. */
static void test_vouching_to_verified_sources_only(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    const struct kg_addr stranger = addr("198.18.0.1:9000");
    struct packet heard = write_check(&w, B, &(struct check){0});
    for (int i = 0; i < 10; i++) {
        arrive(&w, B, &stranger, &heard);
        run_until(&w, w.now + 400);
    }
    assert_in_range(w.to_strangers, 1, 10); /* checks of ours, one a request */
    struct kg_stun_message m;
    assert_int_equal(kg_stun_parse(w.stranger.data, w.stranger.len, &m), KG_STUN_OK);
    assert_int_equal(m.class, KG_STUN_REQUEST);
    CHECK(&w, B, .pwd = "not A's password 12345678");
    CHECK(&w, B, .user = "fragA:fork");
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 0);
    /* B was there all the time; its answer to our check was late. */
    w.phone[B].answers = false;
    CHECK(&w, B, 0);
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 0);
    struct packet answer = write_response(w.to_phone[B].data + 8, 0, w.phone[B].pwd, port[B]);
    arrive(&w, B, &w.phone[B].addr, &answer);
    assert_int_equal(w.phone[B].successes, 1);
    end(&w);
}

static void test_vouching_ends(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_MS - KG_STEER_VOUCH_AFTER_MS - 1);
    CHECK(&w, B, 0);
    start_at(&w, KG_STEER_VOUCH_MS);
    assert_int_equal(w.phone[B].successes, 2);
    start_at(&w, KG_STEER_VOUCH_MS);
    CHECK(&w, B, 0);
    run_until(&w, w.now + 20000);
    assert_int_equal(w.phone[B].successes, 2);
    /* The same description again is no new beginning. */
    describe(&w, A);
    describe(&w, B);
    CHECK(&w, B, 0);
    run_until(&w, w.now + 1200);
    assert_int_equal(w.phone[B].successes, 2);
    end(&w);
}

/* Who did not come in all that time will not because of a restart; unless it comes. */
static void test_no_more_vouching_after_a_restart_in_vain(void **state)
{
    (void)state;
    for (int waited = 0; waited < 2; waited++) {
        struct world w;
        start(&w);
        CHECK(&w, B, 0);
        start_at(&w, waited ? KG_STEER_VOUCH_MS : KG_STEER_VOUCH_MS - 1);
        assert_int_equal(w.phone[B].successes, 1);
        restart(&w, B, "newB", "another password of side B");
        describe(&w, B);
        w.now += 100;
        restart(&w, A, "newA", "another password of side A");
        if (!waited)
            w.now = START + KG_STEER_VOUCH_MS - 1;
        describe(&w, A);
        CHECK(&w, B, 0);
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, waited ? 1 : 2);
        CHECK(&w, A, 0);
        assert_target(&w, A, ADDR_A);
        /* It goes elsewhere and restarts once more. */
        unsigned before = w.phone[B].successes;
        w.now += 20000;
        run(&w);
        restart(&w, A, "thirdA", "the third password of side A");
        w.phone[A].answers = false;
        describe(&w, A);
        CHECK(&w, B, 0);
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, before + 1);
        end(&w);
    }
}

/* Consent that has expired is not given again by us. */
static void test_no_vouching_for_who_has_left(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned before = w.phone[B].successes;
    w.phone[A].answers = false;
    run_until(&w, START + PROOF_MS);
    assert_target(&w, A, "none");
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_KEPT);
    run_until(&w, w.now + 5000);
    assert_int_equal(w.phone[B].successes, before);
    /* Nor by what B does alone: A has to begin anew. */
    CHECK(&w, B, 0);
    run_until(&w, w.now + 5000);
    assert_int_equal(w.phone[B].successes, before);
    end(&w);
}

/* ---- RFC 7675 ---- */

static void test_consent_of_both_sides(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    unsigned before[2] = {w.phone[A].requests, w.phone[B].requests};
    int64_t from = w.now;
    run_until(&w, from + 120000);
    for (unsigned s = 0; s < 2; s++) {
        unsigned asked = w.phone[s].requests - before[s];
        assert_in_range(asked, 20, 30); /* every 4 to 6 s */
        assert_true(kg_steer_silence(w.steer, s, w.now) <= 6000);
    }
    assert_int_equal(w.phone[A].conflicts + w.phone[B].conflicts, 0);
    assert_int_equal(w.to_strangers, 0);
    end(&w);
}

static void test_consent_expires(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    int64_t gone = w.now;
    run_until(&w, gone + PROOF_MS - 1);
    assert_target(&w, B, ADDR_B);
    unsigned asked = w.phone[B].requests;
    run_until(&w, gone + PROOF_MS);
    assert_target(&w, B, "none");
    assert_target(&w, A, ADDR_A);
    assert_false(kg_steer_is_verified(w.steer, B, &w.phone[B].addr, w.now));
    run_until(&w, gone + 90000);
    assert_int_equal(w.phone[B].requests, asked); /* RFC 7675 5.1: nothing more is sent there */
    assert_int_equal(kg_steer_silence(w.steer, B, w.now), 90000);
    /* A valid request alone does not bring it back, an answer does. */
    CHECK(&w, B, 0);
    assert_target(&w, B, "none");
    w.now += 1000;
    w.phone[B].answers = true;
    CHECK(&w, B, 0);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

static void test_another_verified_source_takes_over(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    run_until(&w, w.now + 20000);
    const struct kg_addr first = w.phone[A].addr;
    w.phone[A].addr = addr("192.0.2.10:5001");
    CHECK(&w, A, 0);
    assert_target(&w, A, ADDR_A);
    assert_true(kg_steer_is_verified(w.steer, A, &first, w.now));
    int64_t from = w.now;
    while (kg_steer_is_verified(w.steer, A, &first, w.now)) {
        run_until(&w, w.now + 1000);
        CHECK(&w, B, 0);
        CHECK(&w, A, 0);
        if (w.now - from > 25000)
            break;
    }
    run_until(&w, from + 29000);
    assert_target(&w, A, "192.0.2.10:5001");
    end(&w);
}

static void test_without_consent_proof_stays(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, 0);
    describe(&w, A);
    describe(&w, B);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
    run_until(&w, w.now + 3600000);
    assert_target(&w, A, ADDR_A);
    end(&w);
}

/* ---- roles ---- */

/* After the engine was restarted nobody's role is known: the first guess may be wrong, it changes nothing. */
static void test_roles_are_found_out_without_harm(void **state)
{
    (void)state;
    for (int a_controls = 0; a_controls < 2; a_controls++) {
        struct world w;
        start(&w);
        w.phone[A].controlling = a_controls;
        w.phone[B].controlling = !a_controls;
        w.phone[A].tie = a_controls ? 0 : UINT64_MAX - 1; /* the ones that lose most easily */
        w.phone[B].tie = a_controls ? UINT64_MAX - 1 : 0;
        kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
        kg_steer_suspect(w.steer, B, &w.phone[B].addr, w.now);
        run(&w);
        assert_target(&w, A, ADDR_A);
        assert_target(&w, B, ADDR_B);
        assert_in_range(w.phone[A].conflicts + w.phone[B].conflicts, 0, 1);
        end(&w);
    }
}

/* B's role has changed behind our back (a conflict solved on the direct path): our next check does not change
 * it again. */
static void test_our_checks_lose_every_conflict(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    for (unsigned s = 0; s < 2; s++) {
        w.phone[s].controlling = !w.phone[s].controlling;
        w.phone[s].tie = w.phone[s].controlling ? 1 : UINT64_MAX - 1; /* loses most easily */
    }
    run_until(&w, w.now + 7000);
    assert_int_equal(w.phone[A].conflicts, 1);
    assert_int_equal(w.phone[B].conflicts, 1);
    assert_in_range(kg_steer_silence(w.steer, A, w.now), 0, 6000); /* asked again in the other role */
    end(&w);
}

static void test_487_without_end_is_no_storm(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.phone[B].answers = false;
    struct kg_addr there = addr("203.0.113.20:6001");
    kg_steer_suspect(w.steer, B, &there, w.now);
    run(&w);
    for (int i = 0; i < 10; i++) {
        struct kg_stun_message m;
        assert_int_equal(kg_stun_parse(w.stranger.data, w.stranger.len, &m), KG_STUN_OK);
        struct packet p = write_response(m.id, 487, w.phone[B].pwd, port[B]);
        arrive(&w, B, &there, &p);
    }
    assert_int_equal(w.to_strangers, 2);
    end(&w);
}

/* ---- restarts and forks ---- */

static void test_a_restart_from_end_to_end(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    /* A's offer is out: consent goes on under the old names, also A's old checks. */
    restart(&w, A, "newA", "another password of side A");
    describe(&w, A);
    assert_target(&w, A, ADDR_A);
    run_until(&w, w.now + 6000);
    assert_string_equal(w.phone[A].last_user, "fragA:fragB");
    assert_string_equal(w.phone[B].last_user, "fragB:fragA");
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA"), KG_STEER_FORWARD);
    /* B's answer. */
    restart(&w, B, "newB", "another password of side B");
    describe(&w, B);
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_false(kg_steer_is_nominated(w.steer));
    CHECK(&w, A, .nominate = true);
    assert_true(kg_steer_is_nominated(w.steer));
    run_until(&w, w.now + 6000);
    assert_string_equal(w.phone[A].last_user, "newA:newB");
    assert_string_equal(w.phone[B].last_user, "newB:newA");
    /* The old names count for 30 s after they were replaced. */
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA", .pwd = w.phone[B].old_pwd), KG_STEER_FORWARD);
    run_until(&w, w.now + KG_STEER_OVERLAP_MS);
    assert_int_equal(CHECK(&w, A, .user = "fragB:fragA", .pwd = w.phone[B].old_pwd), KG_STEER_DROP);
    assert_target(&w, A, ADDR_A);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

/* A has restarted from another place: what it had proven before says nothing of where it is now. */
static void test_vouching_after_a_restart(void **state)
{
    (void)state;
    for (int there = 0; there < 2; there++) {
        struct world w;
        connect_phones(&w);
        w.now += 10000;
        run(&w);
        const struct kg_addr old = w.phone[A].addr;
        restart(&w, A, "newA", "another password of side A");
        restart(&w, B, "newB", "another password of side B");
        if (!there)
            w.phone[A].addr = addr("192.0.2.77:7777");
        describe(&w, A);
        describe(&w, B);
        int64_t begin = w.now;
        unsigned before = w.phone[B].successes;
        assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD); /* to the old place */
        assert_int_equal(w.phone[B].successes, before + (there ? 1 : 0));
        run_until(&w, begin + KG_STEER_VOUCH_AFTER_MS);
        assert_int_equal(w.phone[B].successes, before + 1);
        /* Checks of the time before are A's to answer. */
        CHECK(&w, B, .user = "fragA:fragB", .pwd = "a password of side A 123");
        run_until(&w, w.now + 1200);
        assert_int_equal(w.phone[B].successes, before + 1 + (there ? 1 : 0));
        if (!there) {
            assert_true(kg_addr_equal(kg_steer_target(w.steer, A, w.now), &old));
            CHECK(&w, A, 0);
            CHECK(&w, A, .nominate = true);
            assert_target(&w, A, "192.0.2.77:7777");
            w.phone[A].answers = false;
            before = w.phone[B].successes;
            CHECK(&w, B, 0);
            run_until(&w, w.now + 1200);
            assert_int_equal(w.phone[B].successes, before);
        }
        end(&w);
    }
}

static void test_the_same_description_again_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    describe(&w, A);
    describe(&w, B);
    assert_true(kg_steer_is_nominated(w.steer));
    end(&w);
}

/* A phone that forgets its old password when it restarts is asked with the new one after the first silence.
 */
static void test_consent_when_the_old_password_is_forgotten(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    restart(&w, A, "newA", "another password of side A");
    w.phone[A].old_ufrag[0] = 0;
    describe(&w, A);
    run_until(&w, w.now + 13000);
    assert_string_equal(w.phone[A].last_user, "newA:fragB");
    assert_true(kg_steer_silence(w.steer, A, w.now) < 13000);
    end(&w);
}

/* Two phones ring for B; the first one's description is replaced by that of the one that answers. */
static void test_forks(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    const struct kg_addr loser = w.phone[B].addr;
    assert_target(&w, B, ADDR_B);
    /* The other branch is unknown as yet. */
    w.phone[B].addr = addr("203.0.113.99:7000");
    restart(&w, B, "fork", "the password of the other phone");
    w.phone[B].old_ufrag[0] = 0;
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_DROP);
    describe(&w, B);
    unsigned before = w.phone[B].requests;
    assert_int_equal(CHECK(&w, B, 0), KG_STEER_FORWARD);
    assert_int_equal(w.phone[B].requests, before + 1);
    /* A's checks for the winner go to the winner, though the loser is still verified. */
    assert_true(kg_steer_is_verified(w.steer, B, &loser, w.now));
    w.to_strangers = 0;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD);
    assert_int_equal(w.to_strangers, 0);
    assert_string_equal(w.phone[B].last_user, "fork:fragA");
    CHECK(&w, A, .nominate = true);
    assert_target(&w, B, "203.0.113.99:7000");
    /* The first branch is described again (its 200 overtook): both descriptions are still known. */
    restart(&w, B, "fragB", "a password of side B 123");
    w.phone[B].addr = loser;
    describe(&w, B);
    w.to_strangers = 0;
    assert_int_equal(CHECK(&w, A, 0), KG_STEER_FORWARD); /* to where that phone was verified */
    assert_int_equal(w.to_strangers, 0);
    CHECK(&w, A, .nominate = true);
    assert_target(&w, B, ADDR_B);
    end(&w);
}

/* Checks of a fork that has not been described are kept, but bind nobody. */
static void test_a_fork_before_the_answer(void **state)
{
    (void)state;
    struct world w;
    start_with(&w, CONSENT_MS);
    describe(&w, A);
    const struct kg_addr other = addr("203.0.113.99:7000");
    assert_int_equal(CHECK(&w, B, .user = "fragA:fork", .from = &other), KG_STEER_KEPT);
    describe(&w, B);
    run(&w);
    assert_int_equal(w.sent, 0);
    assert_int_equal(kg_steer_next_ms(w.steer), INT64_MAX);
    end(&w);
}

/* ---- a phone that moves ---- */

static void test_a_suspect_that_proves_itself(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    w.phone[A].addr = addr("203.0.113.77:40000");
    kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
    assert_false(kg_steer_is_verified(w.steer, A, &w.phone[A].addr, w.now));
    assert_target(&w, A, ADDR_A);
    run(&w);
    assert_target(&w, A, "203.0.113.77:40000");
    assert_true(kg_steer_is_verified(w.steer, A, &w.phone[A].addr, w.now));
    end(&w);
}

static void test_suspects_are_asked_slowly(void **state)
{
    (void)state;
    struct world w;
    connect_phones(&w);
    w.now += 10000;
    run(&w);
    for (int i = 0; i < 1000; i++) { /* a packet a millisecond, each from another address */
        char text[40];
        snprintf(text, sizeof text, "198.18.%d.%d:9000", i / 250, i % 250 + 1);
        struct kg_addr from = addr(text);
        kg_steer_suspect(w.steer, A, &from, w.now);
        run(&w);
        w.now++;
    }
    assert_in_range(w.to_strangers, 1, 1000 / KG_ICE_CHALLENGE_MS + 1);
    assert_target(&w, A, ADDR_A);
    /* Before the sides are described there is nothing to ask with. */
    kg_steer_free(w.steer);
    start_with(&w, CONSENT_MS);
    describe(&w, A);
    kg_steer_suspect(w.steer, A, &w.phone[A].addr, w.now);
    run(&w);
    assert_int_equal(w.sent, 0);
    end(&w);
}

/* ---- strangers ---- */

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

static void test_families(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    w.phone[A].addr = addr("[2001:db8::10]:5000");
    CHECK(&w, B, 0);
    CHECK(&w, A, 0);
    assert_target(&w, A, "[2001:db8::10]:5000");
    assert_target(&w, B, ADDR_B);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_check_each_way_is_enough),
        cmocka_unit_test(test_both_orders),
        cmocka_unit_test(test_checks_before_the_answer),
        cmocka_unit_test(test_a_kept_request_gets_too_old),
        cmocka_unit_test(test_lost_checks_of_ours_are_made_up_for),
        cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_one_source_several_checks_one_of_ours),
        cmocka_unit_test(test_nomination_and_media_choose_among_sources),
        cmocka_unit_test(test_nomination_that_fails_counts_for_nothing),
        cmocka_unit_test(test_a_nominated_source_is_asked_again),
        cmocka_unit_test(test_keepalive_indications),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_vouching_for_who_has_not_come_yet),
        cmocka_unit_test(test_no_vouching_for_who_comes_in_time),
        cmocka_unit_test(test_how_vouching_names_our_port),
        cmocka_unit_test(test_no_vouching_for_a_nomination),
        cmocka_unit_test(test_vouching_to_verified_sources_only),
        cmocka_unit_test(test_vouching_ends),
        cmocka_unit_test(test_no_vouching_for_who_has_left),
        cmocka_unit_test(test_no_more_vouching_after_a_restart_in_vain),
        cmocka_unit_test(test_consent_of_both_sides),
        cmocka_unit_test(test_consent_expires),
        cmocka_unit_test(test_another_verified_source_takes_over),
        cmocka_unit_test(test_without_consent_proof_stays),
        cmocka_unit_test(test_roles_are_found_out_without_harm),
        cmocka_unit_test(test_our_checks_lose_every_conflict),
        cmocka_unit_test(test_487_without_end_is_no_storm),
        cmocka_unit_test(test_a_restart_from_end_to_end),
        cmocka_unit_test(test_vouching_after_a_restart),
        cmocka_unit_test(test_the_same_description_again_changes_nothing),
        cmocka_unit_test(test_consent_when_the_old_password_is_forgotten),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_a_fork_before_the_answer),
        cmocka_unit_test(test_a_suspect_that_proves_itself),
        cmocka_unit_test(test_suspects_are_asked_slowly),
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
        cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
