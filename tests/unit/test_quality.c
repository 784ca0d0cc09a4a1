/* Loss and jitter by RFC 3550 A.1, A.3 and A.8; opinion score by ITU-T G.107. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "media/quality.h"

static void hear(struct kg_quality *q, uint16_t sequence, int64_t now_us)
{
    kg_quality_packet(q, 7, sequence, 160u * sequence, 8000, now_us);
}

static void test_loss_over_the_wrap(void **state)
{
    (void)state;
    struct kg_quality q = {0};
    for (uint32_t i = 65530; i < 65550; i++) {
        if (i % 5 != 0) /* 65530, 65535, 65540, 65545 are lost; the first can't be known */
            hear(&q, (uint16_t)i, i * 20000);
    }
    assert_int_equal(kg_quality_expected(&q), 19);
    assert_int_equal(kg_quality_lost(&q), 3);
}

static void test_reordering_and_duplicates_are_no_loss(void **state)
{
    (void)state;
    struct kg_quality q = {0};
    static const uint16_t order[] = {10, 12, 11, 11, 14, 13, 13};
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++)
        hear(&q, order[i], i * 20000);
    assert_int_equal(kg_quality_expected(&q), 5);
    assert_int_equal(kg_quality_lost(&q), 0);
}

static void test_new_ssrc_keeps_the_old_loss(void **state)
{
    (void)state;
    struct kg_quality q = {0};
    hear(&q, 1, 0);
    hear(&q, 4, 60000);
    kg_quality_packet(&q, 8, 40000, 0, 8000, 80000);
    kg_quality_packet(&q, 8, 40002, 320, 8000, 120000);
    assert_int_equal(kg_quality_lost(&q), 3);
    assert_int_equal(kg_quality_expected(&q), 7);
}

/* A.1: a single stray sequence number changes nothing; two in a row are a restart of the sender, not loss. */
static void test_restart_of_the_sender(void **state)
{
    (void)state;
    struct kg_quality q = {0};
    hear(&q, 100, 0);
    hear(&q, 101, 20000);
    hear(&q, 30000, 30000);
    hear(&q, 102, 40000);
    assert_int_equal(kg_quality_lost(&q), 0);
    assert_int_equal(kg_quality_expected(&q), 3);
    hear(&q, 50000, 60000);
    hear(&q, 50001, 80000);
    hear(&q, 50002, 100000);
    assert_int_equal(kg_quality_lost(&q), 0);
    assert_int_equal(kg_quality_expected(&q), 5);
}

static void test_jitter(void **state)
{
    (void)state;
    struct kg_quality steady = {0}, shaky = {0};
    for (uint16_t i = 0; i < 500; i++) {
        hear(&steady, i, 5000000 + i * 20000);
        hear(&shaky, i,
             5000000 + i * 20000 + (i % 2) * 8000); /* each transit differs by 8 ms from the one before */
    }
    assert_true(kg_quality_jitter_ms(&steady) < 0.01);
    assert_true(kg_quality_jitter_ms(&shaky) > 7.5 && kg_quality_jitter_ms(&shaky) < 8.1);
}

static void test_a_pause_of_the_sender_is_no_jitter(void **state)
{
    (void)state;
    struct kg_quality q = {0};
    hear(&q, 1, 0);
    hear(&q, 2, 20000);
    kg_quality_packet(&q, 7, 3, 4000000000u, 8000, 40000); /* a new timestamp origin */
    assert_true(kg_quality_jitter_ms(&q) < 0.01);
    kg_quality_packet(&q, 7, 4, 4000000160u, 0, 990000); /* an event: not measured */
    assert_true(kg_quality_jitter_ms(&q) < 0.01);
}

static void test_mos(void **state)
{
    (void)state;
    double clean = kg_quality_mos("PCMU", 0, 0, 0);
    assert_true(clean > 4.35 && clean < 4.45);
    double far = kg_quality_mos("PCMU", 0, 0, 800);
    assert_true(far < 3.6);
    assert_true(kg_quality_mos("pcma", 0.05, 0, 0) < clean);
    assert_true(kg_quality_mos("G729", 0, 0, 0) < 4.2);
    assert_true(kg_quality_mos("PCMU", 0, 60, 0) < clean);
    assert_true(kg_quality_mos("PCMU", 1, 500, 5000) >= 1.0);
    assert_true(kg_quality_mos("", 0, 0, -1) > 3.5);
    for (int loss = 0; loss < 100; loss++)
        assert_true(kg_quality_mos("PCMU", loss / 100.0, 0, 0) >=
                    kg_quality_mos("PCMU", (loss + 1) / 100.0, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_over_the_wrap),
        cmocka_unit_test(test_reordering_and_duplicates_are_no_loss),
        cmocka_unit_test(test_new_ssrc_keeps_the_old_loss),
        cmocka_unit_test(test_restart_of_the_sender),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_a_pause_of_the_sender_is_no_jitter),
        cmocka_unit_test(test_mos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
