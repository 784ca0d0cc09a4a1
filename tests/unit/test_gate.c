/* A crowd of phones at a gate: simulated seconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "b2bua/registrar/gate.h"

#define S      1000LL
#define PHONES 10000

/* All come within the first second; who is refused comes back when told. Returns when the last one is in. */
static int64_t let_in(unsigned phones, unsigned *most_in_a_second, unsigned *refusals)
{
    static int64_t due[PHONES * 2];
    struct kg_gate pace = {0};
    unsigned left = phones, in_second = 0, random = 7;
    int64_t now = S;

    *most_in_a_second = *refusals = 0;
    for (unsigned i = 0; i < phones; i++)
        due[i] = S + i * S / phones;
    for (; left > 0 && now < 1000 * S; now += 10) {
        if (now % S == 0)
            in_second = 0;
        for (unsigned i = 0; i < phones; i++) {
            if (due[i] == 0 || due[i] > now)
                continue;
            if (kg_gate_take(&pace, now)) {
                due[i] = 0;
                left--;
                if (++in_second > *most_in_a_second)
                    *most_in_a_second = in_second;
            } else {
                random = random * 1103515245u + 12345u;
                due[i] = now + kg_gate_retry_after(&pace, now, random >> 8) * S;
                ++*refusals;
            }
        }
    }
    return now;
}

static void crowd_is_in_within_a_minute(void **state)
{
    unsigned most, refusals;
    int64_t end = let_in(PHONES, &most, &refusals);

    (void)state;
    assert_in_range(end, 40 * S, 60 * S);
    assert_in_range(most, KG_GATE_BURST, KG_GATE_BURST + 2 * KG_GATE_RATE);
    /* Nearly everybody who is told when to come is let in then. */
    assert_in_range(refusals, PHONES - KG_GATE_BURST - 2 * KG_GATE_RATE, PHONES);
}

static void twice_as_many_are_in_within_two_minutes(void **state)
{
    unsigned most, refusals;

    (void)state;
    assert_in_range(let_in(PHONES * 2, &most, &refusals), 100 * S, 130 * S);
}

static void queue_has_an_end(void **state)
{
    struct kg_gate pace = {0};
    uint32_t after, highest = 0;

    (void)state;
    for (unsigned i = 0; i < KG_GATE_BURST; i++)
        assert_true(kg_gate_take(&pace, S));
    assert_false(kg_gate_take(&pace, S));
    for (unsigned i = 0; i < 100000; i++) {
        after = kg_gate_retry_after(&pace, S, i);
        assert_in_range(after, 1, 121);
        highest = after > highest ? after : highest;
    }
    assert_in_range(highest, 120, 121);
    /* And is forgotten. */
    assert_true(kg_gate_take(&pace, 200 * S));
    assert_int_equal(kg_gate_retry_after(&pace, 300 * S, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crowd_is_in_within_a_minute),
        cmocka_unit_test(twice_as_many_are_in_within_two_minutes),
        cmocka_unit_test(queue_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
