/* b2bua/route/enrol: when a trunk registers, and what the provider's answers mean. Virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "b2bua/route/enrol.h"

#define NOW 5000000

static struct kg_enrol e;

static enum kg_enrol_act answer(struct kg_enrol_answer a, int64_t now)
{
    return kg_enrol_answered(&e, &a, now, 0);
}

static void start(void)
{
    kg_enrol_start(&e, 600, NOW, 0);
    assert_int_equal(kg_enrol_tick(&e, NOW), KG_ENROL_SEND);
    assert_int_equal(e.asked_s, 600);
    assert_int_equal(kg_enrol_tick(&e, NOW + 100000), KG_ENROL_NOTHING); /* one at a time */
}

static void registers_and_refreshes(void **state)
{
    (void)state;
    start();
    assert_int_equal(answer((struct kg_enrol_answer){.status = 100}, NOW), KG_ENROL_NOTHING);
    assert_true(e.in_flight);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 401, .provable = true}, NOW), KG_ENROL_PROVE);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 200, .granted_s = 300}, NOW),
                     KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_REGISTERED);
    assert_int_equal(e.due_ms, NOW + 240000);
    assert_int_equal(kg_enrol_tick(&e, NOW + 239999), KG_ENROL_NOTHING);
    assert_int_equal(kg_enrol_tick(&e, NOW + 240000), KG_ENROL_SEND);
    assert_int_equal(e.state, KG_ENROL_REGISTERED); /* meanwhile */
    struct kg_enrol_answer ok = {.status = 200, .granted_s = 300};
    kg_enrol_answered(&e, &ok, NOW, 65535);
    assert_in_range(e.due_ms, NOW + 269000, NOW + 270000);
    /* silent about the time: what was asked for. Far too short: not every second */
    answer((struct kg_enrol_answer){.status = 200}, NOW);
    assert_int_equal(e.granted_s, 600);
    answer((struct kg_enrol_answer){.status = 200, .granted_s = 3}, NOW);
    assert_int_equal(e.due_ms, NOW + 10000);
}

static void wrong_password(void **state)
{
    (void)state;
    start();
    assert_int_equal(answer((struct kg_enrol_answer){.status = 401, .provable = true}, NOW), KG_ENROL_PROVE);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 401, .provable = true}, NOW),
                     KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_REFUSED);
    assert_int_equal(e.status, 401);
    assert_in_range(e.due_ms, NOW + KG_ENROL_REFUSED_MS / 2, NOW + KG_ENROL_REFUSED_MS);
    assert_int_equal(kg_enrol_tick(&e, e.due_ms), KG_ENROL_SEND); /* somebody may have mended it */
    /* a foreign realm, or no password: nothing is proven */
    assert_int_equal(answer((struct kg_enrol_answer){.status = 407}, NOW), KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_REFUSED);
}

static void stale_nonces(void **state)
{
    (void)state;
    start();
    struct kg_enrol_answer stale = {.status = 401, .provable = true, .stale = true};
    for (int i = 0; i < KG_ENROL_PROOFS_MAX; i++)
        assert_int_equal(answer(stale, NOW), KG_ENROL_PROVE);
    assert_int_equal(answer(stale, NOW), KG_ENROL_NOTHING); /* not for ever */
    assert_int_equal(e.state, KG_ENROL_REFUSED);
}

static void too_brief(void **state)
{
    (void)state;
    start();
    assert_int_equal(answer((struct kg_enrol_answer){.status = 423, .min_expires_s = 1800}, NOW),
                     KG_ENROL_SEND);
    assert_int_equal(e.asked_s, 1800);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 423, .min_expires_s = 1800}, NOW),
                     KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_WAITING);
    kg_enrol_tick(&e, e.due_ms);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 423, .min_expires_s = 4000000000u}, NOW),
                     KG_ENROL_NOTHING);
    assert_int_equal(e.asked_s, 1800);
}

static void backs_off(void **state)
{
    (void)state;
    int64_t now = NOW, last = 0;
    start();
    for (int i = 0; i < 12; i++) {
        answer((struct kg_enrol_answer){.status = 408}, now);
        assert_int_equal(e.state, KG_ENROL_WAITING);
        assert_true(e.due_ms - now >= last);
        assert_true(e.due_ms - now <= KG_ENROL_RETRY_MAX_MS);
        last = e.due_ms - now;
        now = e.due_ms;
        assert_int_equal(kg_enrol_tick(&e, now), KG_ENROL_SEND);
    }
    assert_int_equal(last, KG_ENROL_RETRY_MAX_MS / 2);
    answer((struct kg_enrol_answer){.status = 200, .granted_s = 600}, now);
    kg_enrol_tick(&e, e.due_ms);
    answer((struct kg_enrol_answer){.status = 500}, now);
    assert_int_equal(e.due_ms - now, KG_ENROL_RETRY_BASE_MS / 2); /* from the beginning */
}

static void retry_after(void **state)
{
    (void)state;
    start();
    answer((struct kg_enrol_answer){.status = 503, .retry_after_s = 120}, NOW);
    assert_int_equal(e.due_ms, NOW + 120000);
    kg_enrol_tick(&e, e.due_ms);
    answer((struct kg_enrol_answer){.status = 503, .retry_after_s = 4000000}, NOW);
    assert_int_equal(e.due_ms, NOW + KG_ENROL_RETRY_AFTER_MAX_S * 1000);
}

static void a_failed_refresh_is_no_loss_yet(void **state)
{
    (void)state;
    start();
    answer((struct kg_enrol_answer){.status = 200, .granted_s = 600}, NOW);
    assert_int_equal(kg_enrol_tick(&e, NOW + 480000), KG_ENROL_SEND);
    answer((struct kg_enrol_answer){.status = 408}, NOW + 500000);
    assert_true(e.expires_ms > 0);
    kg_enrol_tick(&e, NOW + 600000);
    assert_int_equal(e.expires_ms, 0);
}

static void leaves(void **state)
{
    (void)state;
    start();
    answer((struct kg_enrol_answer){.status = 200, .granted_s = 600}, NOW);
    assert_int_equal(kg_enrol_leave(&e), KG_ENROL_SEND);
    assert_int_equal(e.asked_s, 0);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 401, .provable = true}, NOW), KG_ENROL_PROVE);
    assert_int_equal(answer((struct kg_enrol_answer){.status = 200}, NOW), KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_OFF);
    assert_int_equal(kg_enrol_tick(&e, NOW + 10000000), KG_ENROL_NOTHING);
    kg_enrol_start(&e, 600, NOW, 0); /* nothing was sent yet */
    assert_int_equal(kg_enrol_leave(&e), KG_ENROL_NOTHING);
    assert_int_equal(e.state, KG_ENROL_OFF);
}

static void flow_lost(void **state)
{
    (void)state;
    start();
    answer((struct kg_enrol_answer){.status = 200, .granted_s = 600}, NOW);
    kg_enrol_lost(&e, NOW + 1000, 32768);
    assert_in_range(e.due_ms, NOW + 1000, NOW + 1000 + KG_ENROL_RETRY_BASE_MS);
    assert_int_equal(kg_enrol_tick(&e, e.due_ms), KG_ENROL_SEND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_and_refreshes),
        cmocka_unit_test(wrong_password),
        cmocka_unit_test(stale_nonces),
        cmocka_unit_test(too_brief),
        cmocka_unit_test(backs_off),
        cmocka_unit_test(retry_after),
        cmocka_unit_test(a_failed_refresh_is_no_loss_yet),
        cmocka_unit_test(leaves),
        cmocka_unit_test(flow_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
