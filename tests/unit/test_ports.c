/* RTP port pairs: random, even, resting after use. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "media/ports.h"

#define REST_MS 30000

static void test_each_pair_once_and_even(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30001, 30020, REST_MS); /* pairs 30002 ... 30018 */
    bool taken[10] = {0};
    for (uint32_t i = 0; i < 9; i++) {
        uint16_t port = kg_ports_take(ports, i * 2654435761u, 0);
        assert_int_equal(port % 2, 0);
        assert_in_range(port, 30002, 30018);
        assert_false(taken[(port - 30002) / 2]);
        taken[(port - 30002) / 2] = true;
    }
    assert_int_equal(kg_ports_take(ports, 1, 0), 0);
    assert_int_equal(kg_ports_in_use(ports), 9);
    kg_ports_free(ports);
}

static void test_random_decides(void **state)
{
    (void)state;
    struct kg_ports *a = kg_ports_new(30000, 39999, REST_MS), *b = kg_ports_new(30000, 39999, REST_MS);
    assert_int_not_equal(kg_ports_take(a, 17, 0), kg_ports_take(b, 18, 0));
    kg_ports_free(a);
    kg_ports_free(b);
}

static void test_rest_after_use(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30000, 30003, REST_MS);
    uint16_t one = kg_ports_take(ports, 0, 0), two = kg_ports_take(ports, 0, 0);
    kg_ports_release(ports, one, 1000);
    assert_int_equal(kg_ports_take(ports, 0, 1000 + KG_PORTS_REST_MIN_MS - 1), 0);
    assert_int_equal(kg_ports_take(ports, 0, 1000 + KG_PORTS_REST_MIN_MS), one); /* no other is left */
    kg_ports_release(ports, two, 50000);
    kg_ports_release(ports, two, 50000); /* twice is harmless */
    assert_int_equal(kg_ports_in_use(ports), 1);
    assert_int_equal(kg_ports_take(ports, 0, 50000 + REST_MS), two);
    assert_int_equal(kg_ports_take(ports, 0, 50000 + REST_MS), 0);
    kg_ports_free(ports);
}

/* While another pair is free, a resting one has its whole rest. */
static void test_rest_is_kept_while_others_are_free(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30000, 30005, REST_MS);
    uint16_t used = kg_ports_take(ports, 0, 0);
    kg_ports_release(ports, used, 0);
    uint16_t other = kg_ports_take(ports, 0, REST_MS - 1), third = kg_ports_take(ports, 0, REST_MS - 1);
    assert_int_not_equal(other, used);
    assert_int_not_equal(third, used);
    assert_int_equal(kg_ports_take(ports, 0, REST_MS), used);
    kg_ports_free(ports);
}

static void test_exactly_this_pair(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30000, 30003, REST_MS);
    assert_int_equal(kg_ports_take_exactly(ports, 30001), EINVAL);
    assert_int_equal(kg_ports_take_exactly(ports, 0), EINVAL);
    assert_int_equal(kg_ports_take_exactly(ports, 30002), 0);
    assert_int_equal(kg_ports_take_exactly(ports, 30002), EADDRINUSE);
    kg_ports_release(ports, 30002, 0);
    assert_int_equal(kg_ports_take_exactly(ports, 30002), 0); /* although it rests */
    assert_int_equal(kg_ports_take_exactly(ports, 50000), 0); /* although it is outside */
    assert_int_equal(kg_ports_take(ports, 5, REST_MS), 30000);
    assert_int_equal(kg_ports_take(ports, 5, REST_MS), 0);
    kg_ports_release(ports, 50000, 0);
    assert_int_equal(kg_ports_take(ports, 5, 10 * REST_MS), 0); /* 50000 does not become ours */
    kg_ports_free(ports);
}

static void test_new_range(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30000, 30003, REST_MS);
    uint16_t old = kg_ports_take(ports, 0, 0);
    kg_ports_configure(ports, 40000, 40001, REST_MS);
    assert_int_equal(kg_ports_take(ports, 9, 0), 40000);
    assert_int_equal(kg_ports_take(ports, 9, 0), 0);
    kg_ports_release(ports, old, 0);
    assert_int_equal(kg_ports_take(ports, 9, 10 * REST_MS), 0);
    kg_ports_free(ports);
}

static void test_no_pair_is_lost_or_doubled(void **state)
{
    (void)state;
    struct kg_ports *ports = kg_ports_new(30000, 30199, 10);
    uint16_t held[100];
    size_t count = 0;
    uint32_t random = 1;
    for (int64_t now = 0; now < 20000; now++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31 && count < 100) {
            uint16_t port = kg_ports_take(ports, random, now);
            if (port == 0)
                continue;
            for (size_t i = 0; i < count; i++)
                assert_int_not_equal(held[i], port);
            held[count++] = port;
        } else if (count > 0) {
            size_t which = random % count;
            kg_ports_release(ports, held[which], now);
            held[which] = held[--count];
        }
        assert_int_equal(kg_ports_in_use(ports), count);
    }
    while (count > 0)
        kg_ports_release(ports, held[--count], 20000);
    for (int i = 0; i < 100; i++)
        assert_int_not_equal(kg_ports_take(ports, 3, 30000), 0);
    assert_int_equal(kg_ports_take(ports, 3, 30000), 0);
    kg_ports_free(ports);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_pair_once_and_even),
        cmocka_unit_test(test_random_decides),
        cmocka_unit_test(test_rest_after_use),
        cmocka_unit_test(test_rest_is_kept_while_others_are_free),
        cmocka_unit_test(test_exactly_this_pair),
        cmocka_unit_test(test_new_range),
        cmocka_unit_test(test_no_pair_is_lost_or_doubled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
