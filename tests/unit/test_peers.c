/* route: whether a server answers (probes, circuit breaker, Retry-After), and how long each is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "b2bua/route/failover.h"
#include "b2bua/route/health.h"

#define PROBE_MS 500

static struct kg_health h;
static int64_t now;

static int start(void **state)
{
    (void)state;
    now = 1000000;
    kg_health_init(&h, PROBE_MS, now);
    return 0;
}

/* Time goes on in steps of a tick; each probe is answered with `status` (0: not). Returns how many were sent.
 */
static unsigned pass(int64_t ms, int status)
{
    unsigned sent = 0;
    for (int64_t end = now + ms; now < end; now += 100) {
        if (!kg_health_tick(&h, now))
            continue;
        sent++;
        if (status != 0)
            kg_health_probe_answered(&h, h.cseq, status, 0, now + 20);
    }
    return sent;
}

static void request(enum kg_outcome outcome)
{
    kg_health_asked(&h, now);
    kg_health_heard(&h);
    kg_health_outcome(&h, outcome, 0, now);
}

/* ---- probes ---- */

static void answered_probes(void **state)
{
    (void)state;
    assert_int_equal(pass(10000, 200), 20);
    assert_int_equal(h.state, KG_HEALTH_UP);
    assert_int_equal(h.epoch, 0);
    pass(1000, 404); /* any answer is a sign of life */
    assert_int_equal(h.state, KG_HEALTH_UP);
    assert_null(h.error);
}

static void silence_is_down_after_four_seconds(void **state)
{
    (void)state;
    pass(5000, 200);
    pass(2100, 0);
    assert_int_equal(h.state, KG_HEALTH_DOUBT);
    assert_int_equal(h.epoch, 1);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    pass(2000, 0);
    assert_int_equal(h.state, KG_HEALTH_DOWN);
    assert_int_equal(h.cause, KG_CAUSE_SILENCE);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    assert_non_null(h.error);
    pass(500, 200); /* and up with the first answer */
    assert_int_equal(h.state, KG_HEALTH_UP);
    assert_int_equal(h.epoch, 1);
}

/* A PBX that is restarted misses a probe: what it knew is in doubt, though it answers the next one. */
static void one_lost_probe_is_a_doubt(void **state)
{
    (void)state;
    pass(5000, 200);
    pass(500, 0);
    pass(2500, 200);
    assert_int_equal(h.epoch, 1);
    assert_int_equal(h.state, KG_HEALTH_UP);
    pass(10000, 200);
    assert_int_equal(h.epoch, 1);
}

static void late_answers_count(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) { /* each answer 1.5 s late: two others are under way */
        uint32_t late = h.cseq - 2;
        assert_int_equal(pass(PROBE_MS, 0), 1);
        if (i >= 2)
            kg_health_probe_answered(&h, late, 200, 0, now);
    }
    assert_int_equal(h.state, KG_HEALTH_UP);
    assert_int_equal(h.epoch, 0);
}

/* A trunk is probed seldom; once in doubt, quickly. */
static void slow_probes_become_fast(void **state)
{
    (void)state;
    kg_health_init(&h, 30000, now);
    assert_int_equal(pass(60000, 200), 2);
    assert_int_equal(pass(2000, 0), 1);
    pass(4000, 0);
    assert_int_equal(h.state, KG_HEALTH_DOWN);
    assert_in_range(pass(10000, 0), 19, 21);
    pass(1000, 200);
    assert_int_equal(h.state, KG_HEALTH_UP);
    pass(1000, 200);
    assert_int_equal(pass(28000, 200), 0);
}

static void no_probes(void **state)
{
    (void)state;
    kg_health_init(&h, 0, now);
    assert_int_equal(pass(60000, 0), 0);
    assert_int_equal(h.state, KG_HEALTH_UP);
    kg_health_init(&h, 1, now);
    assert_int_equal(pass(1000, 200), 4); /* not more often than KG_PROBE_MIN_MS */
}

static void another_interval_holds_at_once(void **state)
{
    (void)state;
    kg_health_init(&h, 3600000, now);
    assert_int_equal(pass(60000, 200), 1);
    kg_health_set_probe(&h, 3600000, now);
    assert_int_equal(pass(60000, 200), 0);
    kg_health_set_probe(&h, PROBE_MS, now);
    assert_int_equal(pass(5000, 200), 10);
    pass(5000, 0);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    kg_health_set_probe(&h, 0, now); /* nobody but a request can tell any more */
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
}

static void a_503_to_a_probe(void **state)
{
    (void)state;
    pass(1000, 503);
    assert_int_equal(h.state, KG_HEALTH_DOWN);
    assert_int_equal(h.cause, KG_CAUSE_ASKED);
    pass(600, 200);
    assert_int_equal(h.state, KG_HEALTH_UP);
}

/* ---- requests ---- */

static void the_breaker_opens_and_closes(void **state)
{
    (void)state;
    for (int i = 0; i < KG_BREAKER_FAILURES - 1; i++)
        request(KG_OUTCOME_SILENT);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    request(KG_OUTCOME_SILENT);
    assert_int_equal(h.state, KG_HEALTH_DOWN);
    assert_int_equal(h.cause, KG_CAUSE_BREAKER);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    pass(KG_BREAKER_MIN_MS - 200, 200); /* probes are answered, but that is not what failed */
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    pass(800, 200);
    assert_int_equal(h.state, KG_HEALTH_DOUBT); /* half-open: one request tries it */
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    kg_health_asked(&h, now);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    kg_health_heard(&h);
    kg_health_outcome(&h, KG_OUTCOME_GOOD, 0, now);
    assert_int_equal(h.state, KG_HEALTH_UP);
    request(KG_OUTCOME_SILENT); /* and it counts from the beginning */
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
}

static void the_breaker_stays_open_longer_each_time(void **state)
{
    int64_t expected = KG_BREAKER_MIN_MS;
    (void)state;
    for (int i = 0; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_SILENT);
    for (int round = 0; round < 8; round++) {
        int64_t opened = now;
        while (kg_health_use(&h, now) != KG_USE_NOW)
            pass(100, 200);
        assert_in_range(now - opened, expected, expected + PROBE_MS + 200);
        request(KG_OUTCOME_SILENT);
        assert_int_equal(h.state, KG_HEALTH_DOWN);
        expected = expected * 2 > KG_BREAKER_MAX_MS ? KG_BREAKER_MAX_MS : expected * 2;
    }
}

/* What could not be reached, or was silent altogether, serves again as soon as a probe is answered; nobody
 * has to try. */
static void a_server_that_comes_back(void **state)
{
    (void)state;
    for (int i = 0; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_UNREACHABLE);
    assert_int_equal(h.cause, KG_CAUSE_REFUSED);
    pass(KG_BREAKER_MIN_MS + 600, 200);
    assert_int_equal(h.state, KG_HEALTH_UP);
    for (int i = 0; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_SILENT);
    assert_int_equal(h.cause, KG_CAUSE_BREAKER);
    pass(3000, 0);
    assert_int_equal(h.cause, KG_CAUSE_SILENCE);
    pass(4000, 200);
    assert_int_equal(h.state, KG_HEALTH_UP);
}

/* The caller of the request that tried it hung up before anything was heard. */
static void a_trial_without_an_end(void **state)
{
    (void)state;
    for (int i = 0; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_SILENT);
    pass(KG_BREAKER_MIN_MS + 1000, 200);
    kg_health_asked(&h, now);
    kg_health_heard(&h);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    pass(KG_TRIAL_MS, 200);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
}

static void without_probes_a_request_tries(void **state)
{
    (void)state;
    kg_health_init(&h, 0, now);
    for (int i = 0; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_SILENT);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    now += KG_BREAKER_MIN_MS;
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    kg_health_asked(&h, now);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    kg_health_outcome(&h, KG_OUTCOME_SILENT, 0, now);
    now += KG_BREAKER_MIN_MS;
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT); /* twice as long now */
    now += KG_BREAKER_MIN_MS;
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    request(KG_OUTCOME_GOOD);
    assert_int_equal(h.state, KG_HEALTH_UP);
}

/* 503 may be about one callee: such a server is left out only while there are others. */
static void busy_servers_are_the_last_resort(void **state)
{
    (void)state;
    request(KG_OUTCOME_BUSY);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    for (int i = 1; i < KG_BREAKER_FAILURES; i++)
        request(KG_OUTCOME_BUSY);
    assert_int_equal(h.cause, KG_CAUSE_BUSY);
    assert_int_equal(kg_health_use(&h, now), KG_USE_LAST);
    request(KG_OUTCOME_BUSY); /* asked all the same */
    assert_int_equal(kg_health_use(&h, now), KG_USE_LAST);
    request(KG_OUTCOME_GOOD);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    assert_int_equal(h.state, KG_HEALTH_UP);
}

static void rfc3261_21_5_4_retry_after(void **state)
{
    (void)state;
    kg_health_asked(&h, now);
    kg_health_heard(&h);
    kg_health_outcome(&h, KG_OUTCOME_BUSY, 7, now);
    assert_int_equal(h.cause, KG_CAUSE_PAUSE);
    assert_int_equal(kg_health_use(&h, now), KG_USE_LAST); /* a callee's 503 must not cut everybody off */
    kg_health_outcome(&h, KG_OUTCOME_GOOD, 0, now); /* an answer to an earlier request changes nothing */
    pass(6500, 200);
    assert_int_equal(kg_health_use(&h, now), KG_USE_LAST);
    pass(1200, 200);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    assert_int_equal(h.state, KG_HEALTH_UP);
    kg_health_probe_answered(&h, h.cseq, 503, 5, now);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT); /* of itself ... */
    kg_health_outcome(&h, KG_OUTCOME_BUSY, 1, now);
    pass(3000, 200);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT); /* ... and a callee's says nothing more */
    pass(3000, 200);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    kg_health_outcome(&h, KG_OUTCOME_BUSY, 86400, now); /* a day: no */
    pass((KG_RETRY_AFTER_MAX_S + 1) * 1000, 200);
    assert_int_equal(h.state, KG_HEALTH_UP);
}

static void unheard_requests_have_a_bound(void **state)
{
    (void)state;
    for (int i = 0; i < KG_PEER_UNHEARD_MAX; i++)
        kg_health_asked(&h, now);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOT);
    kg_health_heard(&h);
    assert_int_equal(kg_health_use(&h, now), KG_USE_NOW);
    for (int i = 0; i < 2 * KG_PEER_UNHEARD_MAX; i++)
        kg_health_heard(&h);
    assert_int_equal(h.unheard, 0);
}

/* ---- the time for each ---- */

static void all_within_four_seconds(void **state)
{
    (void)state;
    for (unsigned servers = 1; servers <= KG_FAILOVER_SERVERS; servers++) {
        int64_t elapsed = 0;
        for (unsigned i = 0; i < servers; i++) {
            int64_t wait = kg_failover_wait_ms(elapsed, servers - 1 - i);
            assert_true(wait >= KG_FAILOVER_MIN_MS);
            elapsed += wait;
            if (servers > 1 && i + 1 < servers) /* the last one is asked while there is time */
                assert_true(elapsed <= KG_FAILOVER_MS - KG_FAILOVER_MIN_MS);
        }
        assert_int_equal(elapsed, KG_FAILOVER_MS);
    }
    assert_int_equal(kg_failover_wait_ms(60000, 2), KG_FAILOVER_MIN_MS); /* it rang for long, and then 503 */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, start)
    const struct CMUnitTest tests[] = {
        TEST(answered_probes),
        TEST(silence_is_down_after_four_seconds),
        TEST(one_lost_probe_is_a_doubt),
        TEST(late_answers_count),
        TEST(slow_probes_become_fast),
        TEST(no_probes),
        TEST(another_interval_holds_at_once),
        TEST(a_503_to_a_probe),
        TEST(the_breaker_opens_and_closes),
        TEST(the_breaker_stays_open_longer_each_time),
        TEST(a_server_that_comes_back),
        TEST(a_trial_without_an_end),
        TEST(without_probes_a_request_tries),
        TEST(busy_servers_are_the_last_resort),
        TEST(rfc3261_21_5_4_retry_after),
        TEST(unheard_requests_have_a_bound),
        TEST(all_within_four_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
