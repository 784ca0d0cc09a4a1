/* Keepalive intervals, learnt over simulated NATs: a day of virtual time each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/registrar/keepalive_learn.h"

#define S          1000LL
#define HOUR       (3600 * S)
#define DAY        (24 * HOUR)
#define ROUND_TRIP 180LL
/* Wall clock and monotonic clock are not the same. */
#define WALL 1700000000000LL

static const struct kg_learn_bounds udp = {25000, 15000, 120000, false};
static const struct kg_learn_bounds stream = {90000, 15000, 120000, true};

/* A phone behind a NAT that forgets it `timeout` after its last packet. Its REGISTER makes a new mapping, on
 * another port if the NAT is such a one. Both ways may lose packets. */
struct world {
    struct kg_learn_bounds b;
    struct kg_learn l;
    int64_t timeout, rhythm, now;
    bool keeps_port, mute;
    unsigned loss_percent, random;

    int64_t mapped_until, next_register, next_ask, next_answer;
    int64_t unreachable; /* so long in all */
    int64_t asks, longest_outage, outage;
    bool was_mapped;
};

static bool is_lost(struct world *w)
{
    w->random = w->random * 1103515245u + 12345u;
    return (w->random >> 16) % 100 < w->loss_percent;
}

static void do_register(struct world *w)
{
    bool gone = w->now >= w->mapped_until;

    /* What is granted is up to a tenth shorter by chance (kg_register_grant); the phone takes nine tenths. */
    int64_t granted = w->rhythm * 10 / 9;

    w->random = w->random * 1103515245u + 12345u;
    granted -= (w->random >> 8) % (granted / 10 + 1);
    w->next_ask =
        kg_learn_registered(&w->l, &w->b, gone && !w->keeps_port, (uint32_t)granted, w->now, WALL + w->now);
    w->mapped_until = w->now + w->timeout;
    w->next_register = w->now + granted * 9 / 10;
}

static void do_ask(struct world *w)
{
    bool arrives = w->now < w->mapped_until && !w->mute && !is_lost(w);

    w->asks++;
    w->next_ask = kg_learn_ask(&w->l, &w->b, w->now);
    if (!arrives)
        return;
    w->mapped_until = w->now + w->timeout;
    if (!is_lost(w))
        w->next_answer = w->now + ROUND_TRIP;
}

static void do_answer(struct world *w)
{
    w->next_answer = INT64_MAX;
    w->next_ask = kg_learn_answered(&w->l, &w->b, w->now, WALL + w->now);
}

static void run(struct world *w, int64_t until)
{
    while (w->now < until) {
        int64_t next = w->next_ask < w->next_register ? w->next_ask : w->next_register;

        next = w->next_answer < next ? w->next_answer : next;
        assert_true(next > w->now);
        if (next > w->mapped_until) {
            int64_t from = w->mapped_until > w->now ? w->mapped_until : w->now;

            w->unreachable += next - from;
            w->outage += next - from;
            if (w->outage > w->longest_outage)
                w->longest_outage = w->outage;
        } else {
            w->outage = 0;
        }
        w->now = next;
        if (next == w->next_register)
            do_register(w);
        else if (next == w->next_answer)
            do_answer(w);
        else
            do_ask(w);
    }
}

static struct world world_new(const struct kg_learn_bounds *b, int64_t timeout, int64_t rhythm)
{
    struct world w = {.b = *b,
                      .timeout = timeout,
                      .rhythm = rhythm,
                      .next_register = S,
                      .next_ask = INT64_MAX,
                      .next_answer = INT64_MAX};

    w.mapped_until = S;
    kg_learn_start(&w.l, b);
    return w;
}

static void finds_what_each_nat_bears(void **state)
{
    static const struct {
        int64_t timeout, least, most; /* of the interval */
    } nats[] = {{30, 20, 30}, {45, 30, 45}, {60, 45, 60}, {120, 85, 120}, {300, 90, 121}, {3600, 90, 121}};
    static const int64_t rhythms[] = {55, 60, 90, 108, 115, 500};

    (void)state;
    for (unsigned i = 0; i < sizeof nats / sizeof nats[0]; i++) {
        for (unsigned k = 0; k < 12; k++) {
            int64_t rhythm = rhythms[k / 2];
            struct world w = world_new(&udp, nats[i].timeout * S, rhythm * S);
            int64_t least = nats[i].least * S;

            w.keeps_port = k % 2;
            if (least > (rhythm - 4) * 3 / 5 * S)
                least = (rhythm - 4) * 3 / 5 * S; /* a longer silence never happens */
            run(&w, DAY);
            if (w.l.interval_ms < least || w.l.interval_ms >= nats[i].most * S || w.unreachable > 60 * S ||
                w.longest_outage > 20 * S)
                fail_msg("timeout %lld, REGISTER every %lld s: interval %u ms, unreachable %lld ms, at most "
                         "%lld ms at once",
                         (long long)nats[i].timeout, (long long)rhythm, w.l.interval_ms,
                         (long long)w.unreachable, (long long)w.longest_outage);
        }
    }
}

/* 5 % of the packets lost, each way: nothing breaks by that. */
static void loss_is_not_taken_for_the_nat(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct world w = world_new(&udp, 300 * S, 110 * S);

        w.loss_percent = 5;
        w.random = seed;
        run(&w, DAY);
        assert_in_range(w.l.interval_ms, 75000, 120000);
        assert_int_equal(w.unreachable, 0);
    }
}

static void mute_phone_stays_at_the_start(void **state)
{
    struct world w = world_new(&udp, 300 * S, 110 * S);

    (void)state;
    w.mute = true;
    run(&w, DAY);
    assert_int_equal(w.l.state, KG_LEARN_WAITING);
    assert_int_equal(w.l.interval_ms, 25000);
    assert_false(kg_learn_is_gone(&w.l, &udp));
    assert_in_range(w.asks, DAY / 28 / S, DAY / 25 / S);
}

/* Below the start value, down to the lowest. */
static void shrinks_when_the_nat_forgets_sooner(void **state)
{
    struct world w = world_new(&udp, 300 * S, 110 * S);

    (void)state;
    run(&w, 6 * HOUR);
    assert_in_range(w.l.interval_ms, 75000, 120000);
    w.timeout = 50 * S; /* another router behind the same address */
    run(&w, 7 * HOUR);
    assert_in_range(w.l.interval_ms, 15000, 49000);
    w.unreachable = 0;
    run(&w, 20 * HOUR);
    assert_int_equal(w.unreachable, 0);
    /* What broke is forgotten after a day: then it grows again, carefully. */
    w.timeout = 300 * S;
    run(&w, 6 * HOUR + DAY + 3 * HOUR);
    assert_in_range(w.l.interval_ms, 75000, 120000);
}

static void never_above_what_broke(void **state)
{
    struct world w = world_new(&udp, 60 * S, 110 * S);
    uint32_t broken = 0;

    (void)state;
    while (w.now < DAY) {
        run(&w, w.now + 60 * S);
        if (w.l.broken_ms > 0 && broken == 0)
            broken = w.l.broken_ms;
        if (broken > 0)
            assert_in_range(w.l.interval_ms, 1, broken * 8 / 10);
    }
    assert_in_range(broken, 60000, 76000);
    assert_int_equal(w.l.state, KG_LEARN_SETTLED);
}

/* Phone or network away for an hour, the mapping unharmed: nothing is learnt from that. */
static void outage_is_not_taken_for_the_nat(void **state)
{
    struct world w = world_new(&udp, 8 * HOUR, 110 * S);
    uint32_t before;

    (void)state;
    run(&w, 6 * HOUR);
    before = w.l.interval_ms;
    w.mute = true;
    w.next_register = 8 * HOUR;
    run(&w, 7 * HOUR);
    assert_int_equal(w.l.state, KG_LEARN_SILENT);
    assert_true(kg_learn_is_gone(&w.l, &udp));
    w.mute = false;
    run(&w, 7 * HOUR + 60 * S);
    assert_int_equal(w.l.state, KG_LEARN_GROWING);
    assert_int_equal(w.l.interval_ms, before);
    assert_int_equal(w.l.broken_ms, 0);
}

static void stream_grows_and_learns_from_its_end(void **state)
{
    struct world w = world_new(&stream, HOUR, 550 * S);

    (void)state;
    run(&w, 12 * HOUR);
    assert_in_range(w.l.interval_ms, 112000, 120000);
    /* Asked, and closed instead of answered. */
    w.mute = true;
    w.next_register = 13 * HOUR;
    w.now = w.next_ask;
    do_ask(&w);
    kg_learn_closed(&w.l, &stream, w.now + S, WALL + w.now + S);
    assert_in_range(w.l.broken_ms, 100000, 121000);
    assert_in_range(w.l.interval_ms, 80000, 96000);
    assert_false(kg_learn_is_gone(&w.l, &stream));
}

static void is_remembered(void **state)
{
    struct kg_learn l;
    char words[128];

    (void)state;
    kg_learn_restore(&l, &udp, 48000, 48000, 61000, WALL, WALL + HOUR);
    assert_int_equal(l.state, KG_LEARN_GROWING);
    assert_int_equal(l.interval_ms, 48000);
    kg_learn_registered(&l, &udp, true, 120000, S, WALL + HOUR);
    assert_int_equal(l.broken_ms, 61000); /* the first REGISTER after a restart says nothing */
    assert_int_equal(l.interval_ms, 48000);
    kg_learn_words(&l, &udp, words, sizeof words);
    assert_non_null(strstr(words, "every 48 s"));
    /* From a file that somebody has edited, or a clock that was wrong. */
    kg_learn_restore(&l, &udp, 4000000000u, 1, 0, 0, WALL);
    assert_int_equal(l.interval_ms, 120000);
    kg_learn_restore(&l, &udp, 0, 1, 1, WALL, WALL);
    assert_int_equal(l.interval_ms, 15000);
    kg_learn_restore(&l, &udp, 48000, 48000, 20000, WALL + DAY, WALL);
    assert_int_equal(l.broken_ms, 0);
    kg_learn_restore(&l, &udp, 48000, 0, 0, 0, WALL);
    assert_int_equal(l.state, KG_LEARN_WAITING);
    assert_int_equal(l.interval_ms, 25000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_each_nat_bears),
        cmocka_unit_test(loss_is_not_taken_for_the_nat),
        cmocka_unit_test(mute_phone_stays_at_the_start),
        cmocka_unit_test(shrinks_when_the_nat_forgets_sooner),
        cmocka_unit_test(never_above_what_broke),
        cmocka_unit_test(outage_is_not_taken_for_the_nat),
        cmocka_unit_test(stream_grows_and_learns_from_its_end),
        cmocka_unit_test(is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
