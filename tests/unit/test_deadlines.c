/* The heap of deadlines against a list that is searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "media/deadlines.h"

#define NODES 200

static uint32_t seed = 1;

static uint32_t any(uint32_t below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}

static void test_first_is_always_the_earliest(void **state)
{
    (void)state;
    struct kg_deadlines heap = {0};
    struct kg_deadline node[NODES] = {0};
    for (unsigned turn = 0; turn < 20000; turn++) {
        struct kg_deadline *n = &node[any(NODES)];
        if (any(4) == 0)
            kg_deadlines_remove(&heap, n);
        else
            assert_int_equal(kg_deadlines_set(&heap, n, any(20) ? any(1000) : INT64_MAX), 0);
        int64_t earliest = INT64_MAX;
        uint32_t count = 0;
        for (unsigned i = 0; i < NODES; i++) {
            if (node[i].place == 0)
                continue;
            count++;
            assert_ptr_equal(heap.node[node[i].place - 1], &node[i]);
            if (node[i].at_ms < earliest)
                earliest = node[i].at_ms;
        }
        assert_int_equal(heap.count, count);
        const struct kg_deadline *first = kg_deadlines_first(&heap);
        assert_true(first ? first->at_ms == earliest : count == 0);
    }
    kg_deadlines_clear(&heap);
}

static void test_in_order(void **state)
{
    (void)state;
    struct kg_deadlines heap = {0};
    struct kg_deadline node[NODES] = {0}, *first;
    for (unsigned i = 0; i < NODES; i++)
        kg_deadlines_set(&heap, &node[i], (int64_t)(i * 7919 % NODES));
    for (int64_t want = 0; (first = kg_deadlines_first(&heap)); want++) {
        assert_int_equal(first->at_ms, want);
        kg_deadlines_remove(&heap, first);
        kg_deadlines_remove(&heap, first); /* once more does no harm */
    }
    kg_deadlines_clear(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_is_always_the_earliest),
        cmocka_unit_test(test_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
