/* Which contacts of a callee are called at once, and what their refusals mean together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/fork.h"

static void call(struct kg_fork_contact *contact, unsigned count, bool parallel, const char *expected)
{
    uint8_t out[KG_TARGETS_MAX];
    char got[KG_TARGETS_MAX + 1] = "";
    unsigned found = kg_fork_round(contact, count, parallel, out);
    for (unsigned i = 0; i < found; i++)
        got[i] = (char)('a' + out[i]);
    assert_string_equal(got, expected);
}

static void test_rounds_by_q(void **state)
{
    (void)state;
    struct kg_fork_contact contact[] = {{1, 1000, 0}, {4, 0, 0}, {3, 500, 0}, {2, 1000, 0}, {5, 0, 0}},
                           again[5];
    memcpy(again, contact, sizeof contact);
    assert_int_equal(kg_fork_rounds(contact, 5, true), 3);
    call(contact, 5, true, "ad");
    call(contact, 5, true, "c");
    call(contact, 5, true, "be");
    call(contact, 5, true, "");
    assert_int_equal(kg_fork_rounds(again, 5, false), 5);
    call(again, 5, false, "a");
    call(again, 5, false, "d");
    assert_int_equal(kg_fork_rounds(again, 0, false), 0);
}

/* RFC 5626 5.3: one flow of a phone at a time, the next only when that one leads nowhere. */
static void test_ways_to_one_phone(void **state)
{
    (void)state;
    struct kg_fork_contact contact[] = {{1, 1000, 0}, {2, 1000, 0}, {1, 1000, 0}, {1, 500, 0}, {2, 500, 0}};
    assert_int_equal(kg_fork_rounds(contact, 5, true), 1);
    assert_int_equal(kg_fork_rounds(contact, 5, false), 2);
    call(contact, 5, true, "ab");
    assert_int_equal(kg_fork_other_way(contact, 5, 0), 2);
    assert_int_equal(kg_fork_other_way(contact, 5, 2), 3);
    assert_int_equal(kg_fork_other_way(contact, 5, 3), -1);
    kg_fork_reached(contact, 5, 1); /* it is busy */
    assert_int_equal(kg_fork_other_way(contact, 5, 1), -1);
    call(contact, 5, true, "");
    assert_true(kg_fork_is_lost_way(408, false) && kg_fork_is_lost_way(430, true));
    assert_false(kg_fork_is_lost_way(486, true) || kg_fork_is_lost_way(480, true));
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
        cmocka_unit_test(test_rounds_by_q),
        cmocka_unit_test(test_ways_to_one_phone),
        cmocka_unit_test(test_best_response),
        cmocka_unit_test(test_one_refusal_and_what_it_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
