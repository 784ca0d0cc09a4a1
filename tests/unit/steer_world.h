/* Steering: two phones with a small ICE each, kedge's two ports between them.
 *
 * The phones check nothing but what they are told to; they answer every check that is theirs. Time is counted
 * by the test; datagrams arrive at once unless the test holds them back. */
#ifndef KG_TESTS_STEER_WORLD_H
#define KG_TESTS_STEER_WORLD_H

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

static inline void dice(void *ctx, void *out, size_t len)
{
    struct world *w = ctx;
    for (size_t i = 0; i < len; i++) {
        w->dice = w->dice * 1103515245 + 12345;
        ((uint8_t *)out)[i] = (uint8_t)(w->dice >> 16);
    }
}

static inline struct kg_addr addr(const char *text)
{
    struct kg_addr out;
    assert_int_equal(kg_addr_parse(text, &out), 0);
    return out;
}

/* What the phones see as kedge's ports. */
static const char *const port[2] = {"198.51.100.1:30000", "198.51.100.1:30002"};

static inline void describe(struct world *w, enum kg_side side)
{
    const struct kg_ice_description ice = {.ufrag = w->phone[side].ufrag, .pwd = w->phone[side].pwd};
    assert_int_equal(kg_steer_describe(w->steer, side, &ice, w->now), 0);
}

static inline void start_with(struct world *w, uint32_t consent_ms)
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

static inline void start(struct world *w)
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

static inline struct packet write_check(struct world *w, enum kg_side side, const struct check *c)
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

static inline struct packet write_response(const uint8_t *id, int code, const char *pwd, const char *mapped)
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

static inline enum kg_steer_verdict arrive(struct world *w, enum kg_side side, const struct kg_addr *from,
                                           const struct packet *p);

static inline bool names_me(const struct kg_stun_value *user, const char *ufrag)
{
    size_t len = strlen(ufrag);
    return len > 0 && user->len > len && memcmp(user->data, ufrag, len) == 0 && user->data[len] == ':';
}

/* RFC 8445 7.3, as far as it matters here. */
static inline void phone_receives(struct world *w, enum kg_side side, const struct packet *p)
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

static inline void deliver(struct world *w, enum kg_side side, const struct kg_addr *to,
                           const struct packet *p)
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

static inline void run(struct world *w)
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

static inline void run_until(struct world *w, int64_t ms)
{
    while (kg_steer_next_ms(w->steer) <= ms) {
        int64_t next = kg_steer_next_ms(w->steer);
        w->now = next > w->now ? next : w->now;
        run(w);
    }
    w->now = ms;
    run(w);
}

static inline enum kg_steer_verdict arrive(struct world *w, enum kg_side side, const struct kg_addr *from,
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

static inline enum kg_steer_verdict send_check(struct world *w, enum kg_side side, struct check c)
{
    struct packet p = write_check(w, side, &c);
    return arrive(w, side, c.from ? c.from : &w->phone[side].addr, &p);
}
#define CHECK(w, side, ...) send_check(w, side, (struct check){__VA_ARGS__})

static inline void assert_target(struct world *w, enum kg_side side, const char *expected)
{
    char text[KG_ADDR_STR];
    const struct kg_addr *target = kg_steer_target(w->steer, side, w->now);
    assert_string_equal(target ? kg_addr_format(target, text) : "none", expected);
}

#define ADDR_A "192.0.2.10:5000"
#define ADDR_B "203.0.113.20:6000"

/* Both have checked each other through kedge, and A has nominated. */
static inline void connect_phones(struct world *w)
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

static inline void restart(struct world *w, enum kg_side side, const char *ufrag, const char *pwd)
{
    struct phone *me = &w->phone[side];
    memcpy(me->old_ufrag, me->ufrag, sizeof me->ufrag);
    memcpy(me->old_pwd, me->pwd, sizeof me->pwd);
    snprintf(me->ufrag, sizeof me->ufrag, "%s", ufrag);
    snprintf(me->pwd, sizeof me->pwd, "%s", pwd);
}

static inline void end(struct world *w)
{
    /* Whatever happened, our checks changed nobody's role. */
    assert_int_equal(w->phone[A].role_changes + w->phone[B].role_changes, 0);
    kg_steer_free(w->steer);
}

#endif
