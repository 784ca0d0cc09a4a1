/* How fast requests may come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "conf/pace.h"

static unsigned taken(struct kg_pace *pace, int64_t from_ms, int64_t to_ms, int64_t step_ms)
{
    unsigned count = 0;
    for (int64_t now = from_ms; now < to_ms; now += step_ms)
        count += kg_pace_take(pace, now, 5, 20);
    return count;
}

static void test_burst_and_rate(void **state)
{
    (void)state;
    struct kg_pace pace = {0};
    for (int i = 0; i < 20; i++)
        assert_true(kg_pace_take(&pace, 1000000, 5, 20));
    assert_false(kg_pace_take(&pace, 1000000, 5, 20));
    assert_false(kg_pace_take(&pace, 1000199, 5, 20));
    assert_true(kg_pace_take(&pace, 1000200, 5, 20));
    assert_false(kg_pace_take(&pace, 1000200, 5, 20));
    /* who asks all the time gets the rate, and his refusals cost him nothing */
    assert_int_equal(taken(&pace, 1000201, 1010201, 1), 50);
    /* as slow as the rate: always; and after a rest the burst is there again */
    assert_int_equal(taken(&pace, 1010400, 1030400, 200), 100);
    assert_int_equal(taken(&pace, 1040000, 1040001, 1), 1);
    for (int i = 0; i < 19; i++)
        assert_true(kg_pace_take(&pace, 1040000, 5, 20));
    assert_false(kg_pace_take(&pace, 1040000, 5, 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_burst_and_rate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
