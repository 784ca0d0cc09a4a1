/* b2bua/sip: when new calls are refused because all that is read is old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "b2bua/sip/overload.h"

#define LATE (KG_OVERLOAD_LATE_MS + 1)

/* Reads one datagram every step_ms that waited_ms each, for so long; returns how often the verdict changed.
 */
static int read_for(struct kg_overload *overload, struct kg_overload_queue *queue, int64_t *now_ms,
                    int64_t for_ms, int64_t step_ms, int64_t waited_ms)
{
    int changes = 0;
    for (int64_t end = *now_ms + for_ms; *now_ms < end; *now_ms += step_ms)
        changes += kg_overload_read(overload, queue, waited_ms, *now_ms);
    return changes;
}

/* Each time another transaction. */
static bool refuses(struct kg_overload *overload, int64_t now_ms)
{
    static uint32_t transaction;
    return kg_overload_refuses(overload, ++transaction, now_ms);
}

static void test_what_comes_in_time_is_no_overload(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    assert_int_equal(read_for(&overload, &queue, &now, 60000, 10, KG_OVERLOAD_LATE_MS), 0);
    assert_false(overload.is_on);
}

static void test_a_queue_that_stays_old_is_one(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    read_for(&overload, &queue, &now, 100, 10, 0);
    assert_int_equal(read_for(&overload, &queue, &now, KG_OVERLOAD_AFTER_MS, 10, LATE), 0);
    assert_false(refuses(&overload, now));
    assert_int_equal(read_for(&overload, &queue, &now, 60000, 10, 4000), 1);
    assert_true(refuses(&overload, now));
}

/* While it lasts what comes in time is served, and what is late is refused without another second of it. */
static void test_only_what_is_old_is_refused(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    read_for(&overload, &queue, &now, 2 * KG_OVERLOAD_AFTER_MS, 10, 4000);
    for (int i = 0; i < 20; i++, now += 10) {
        assert_false(kg_overload_read(&overload, &queue, KG_OVERLOAD_LATE_MS, now));
        assert_false(refuses(&overload, now));
        assert_false(kg_overload_read(&overload, &queue, LATE, now));
        assert_true(refuses(&overload, now));
    }
    assert_int_equal(read_for(&overload, &queue, &now, KG_OVERLOAD_OVER_MS - 10, 10, 0), 0);
    assert_int_equal(read_for(&overload, &queue, &now, 100, 10, 0), 1);
    assert_false(kg_overload_read(&overload, &queue, LATE, now));
    assert_false(refuses(&overload, now));
}

/* Its sender repeated it every half second while it waited: all of them stand behind it. */
static void test_copies_of_what_was_refused_are_refused(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    read_for(&overload, &queue, &now, 2 * KG_OVERLOAD_AFTER_MS, 10, 4000);
    assert_true(kg_overload_refuses(&overload, 77, now));
    for (int64_t waited = LATE; waited > 0; waited -= 500, now++) {
        kg_overload_read(&overload, &queue, waited, now);
        assert_true(kg_overload_refuses(&overload, 77, now));
        assert_int_equal(kg_overload_refuses(&overload, 1000 + (uint32_t)waited, now), waited == LATE);
    }
    now += KG_OVERLOAD_OVER_MS;
    kg_overload_read(&overload, &queue, 0, now);
    assert_false(kg_overload_refuses(&overload, 77, now));
}

static void test_one_that_came_in_time_begins_it_anew(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(read_for(&overload, &queue, &now, KG_OVERLOAD_AFTER_MS - 10, 10, 4000), 0);
        assert_false(kg_overload_read(&overload, &queue, 0, now));
    }
    assert_false(overload.is_on);
}

/* Answers of a PBX come to a port of their own, and in time. */
static void test_what_comes_to_another_port_in_time_changes_nothing(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0}, other = {0};
    int64_t now = 5000;
    for (int64_t end = now + KG_OVERLOAD_AFTER_MS; now < end; now += 10) {
        kg_overload_read(&overload, &queue, 4000, now);
        kg_overload_read(&overload, &other, 0, now);
    }
    assert_true(kg_overload_read(&overload, &queue, 4000, now));
    assert_true(refuses(&overload, now));
    kg_overload_read(&overload, &other, 0, now);
    assert_false(refuses(&overload, now));
}

/* The machine stood still for three seconds; what came meanwhile is read within half of one. */
static void test_a_standstill_is_caught_up_with(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    read_for(&overload, &queue, &now, 100, 10, 0);
    now += 3000;
    for (int64_t waited = 3000; waited > 0; waited -= 6, now++)
        assert_false(kg_overload_read(&overload, &queue, waited, now));
    assert_false(overload.is_on);
}

/* Two such moments with nothing between them are no second of lateness. */
static void test_what_came_to_an_empty_queue_begins_it_anew(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    for (int i = 0; i < 20; i++) {
        assert_false(kg_overload_read(&overload, &queue, LATE, now));
        now += LATE + 400;
    }
    assert_false(overload.is_on);
}

static void test_a_clock_that_is_set_does_no_harm(void **state)
{
    (void)state;
    struct kg_overload overload = {0};
    struct kg_overload_queue queue = {0};
    int64_t now = 5000;
    assert_false(kg_overload_read(&overload, &queue, -3600 * 1000, now));
    assert_false(kg_overload_read(&overload, &queue, 3600 * 1000, now + 10));
    assert_false(kg_overload_read(&overload, &queue, 0, now + 20));
    assert_false(overload.is_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_in_time_is_no_overload),
        cmocka_unit_test(test_a_queue_that_stays_old_is_one),
        cmocka_unit_test(test_only_what_is_old_is_refused),
        cmocka_unit_test(test_copies_of_what_was_refused_are_refused),
        cmocka_unit_test(test_one_that_came_in_time_begins_it_anew),
        cmocka_unit_test(test_what_comes_to_another_port_in_time_changes_nothing),
        cmocka_unit_test(test_a_standstill_is_caught_up_with),
        cmocka_unit_test(test_what_came_to_an_empty_queue_begins_it_anew),
        cmocka_unit_test(test_a_clock_that_is_set_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
