/* Which contacts of a callee are called at once, and what their refusals mean together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "b2bua/call/fork.h"

static void test_rounds(void **state)
{
    (void)state;
    const uint16_t q[] = {1000, 1000, 500, 0, 0};
    assert_int_equal(kg_fork_rounds(q, 5, true), 3);
    assert_int_equal(kg_fork_round(q, 0, 5, true), 2);
    assert_int_equal(kg_fork_round(q, 2, 5, true), 1);
    assert_int_equal(kg_fork_round(q, 3, 5, true), 2);
    assert_int_equal(kg_fork_round(q, 5, 5, true), 0);
    assert_int_equal(kg_fork_rounds(q, 5, false), 5);
    assert_int_equal(kg_fork_round(q, 0, 5, false), 1);
    assert_int_equal(kg_fork_rounds(q, 0, true), 0);
}

/* RFC 3261 16.7 step 6; from the best to the worst. */
static void test_best_response(void **state)
{
    (void)state;
    static const int order[] = {603, 302, 484, 486, 480, 500, 503};
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++) {
        assert_true(kg_fork_is_better(order[i], 0));
        for (unsigned j = 0; j < sizeof order / sizeof order[0]; j++)
            assert_int_equal(kg_fork_is_better(order[i], order[j]), i < j);
    }
    /* Of two that are alike the first stands. */
    assert_false(kg_fork_is_better(404, 486));
    assert_false(kg_fork_is_better(486, 404));
    assert_false(kg_fork_is_better(600, 603));
    assert_false(kg_fork_is_better(407, 401));
    assert_true(kg_fork_is_better(486, 408));
    assert_true(kg_fork_is_better(503, 0));
}

static void test_one_refusal_and_what_it_means(void **state)
{
    (void)state;
    enum kg_branch_state branch[] = {KG_BRANCH_OVER, KG_BRANCH_HEARD, KG_BRANCH_UNHEARD};
    assert_int_equal(kg_fork_judge(branch, 3, 486), KG_FORK_GOES_ON);
    assert_int_equal(kg_fork_judge(branch, 3, 600), KG_FORK_STOPS);
    branch[1] = KG_BRANCH_OVER;
    assert_int_equal(kg_fork_judge(branch, 3, 408), KG_FORK_GOES_ON);
    branch[2] = KG_BRANCH_OVER;
    assert_int_equal(kg_fork_judge(branch, 3, 408), KG_FORK_FAILED);
    assert_int_equal(kg_fork_judge(branch, 1, 603), KG_FORK_STOPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_best_response),
        cmocka_unit_test(test_one_refusal_and_what_it_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
