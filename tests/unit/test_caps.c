/* b2bua/route/caps: calls at once, calls a minute, numbers; by user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/route/caps.h"

static struct kg_config config;
static struct kg_caps *caps;

static int set_up(void **state)
{
    (void)state;
    memset(&config, 0, sizeof config);
    caps = kg_caps_new(&config);
    return caps ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    kg_caps_free(caps);
    return 0;
}

static struct kg_cap *add(const char *user, uint32_t calls, uint32_t rate)
{
    struct kg_cap *cap = &config.caps[config.caps_count++];
    snprintf(cap->user, sizeof cap->user, "%s", user);
    cap->calls = calls;
    cap->rate = rate;
    return cap;
}

static void test_nothing_configured(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct kg_caps_answer answer = kg_caps_ask(caps, "1001", "0900123", 0);
        assert_int_equal(answer.verdict, KG_CAPS_OK);
        assert_null(answer.user);
        kg_caps_done(caps, answer.user, false);
    }
}

static void test_calls_at_once(void **state)
{
    (void)state;
    add("*", 2, 0);
    add("1002", 0, 0);
    struct kg_caps_answer first = kg_caps_ask(caps, "1001", "1", 0);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 0).verdict, KG_CAPS_OK);
    struct kg_caps_answer third = kg_caps_ask(caps, "1001", "1", 0);
    assert_int_equal(third.verdict, KG_CAPS_CALLS);
    assert_int_equal(third.status, 503);
    assert_true(third.retry_after_s > 0);
    assert_null(third.user);
    assert_int_equal(kg_caps_ask(caps, "1003", "1", 0).verdict, KG_CAPS_OK); /* each its own */
    for (int i = 0; i < 10; i++)
        assert_int_equal(kg_caps_ask(caps, "1002", "1", 0).verdict, KG_CAPS_OK);
    kg_caps_done(caps, first.user, false);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 0).verdict, KG_CAPS_OK);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 0).verdict, KG_CAPS_CALLS);
    /* after a restart the calls that are up count, however many */
    assert_int_equal(kg_caps_ask(caps, "1001", NULL, 0).verdict, KG_CAPS_OK);
}

static void test_calls_a_minute(void **state)
{
    (void)state;
    add("*", 0, 6);
    for (int i = 0; i < 6; i++)
        kg_caps_done(caps, kg_caps_ask(caps, "1001", "1", 1000).user, false);
    struct kg_caps_answer answer = kg_caps_ask(caps, "1001", "1", 1000);
    assert_int_equal(answer.verdict, KG_CAPS_RATE);
    assert_int_equal(answer.retry_after_s, 10);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 10999).verdict, KG_CAPS_RATE);
    answer = kg_caps_ask(caps, "1001", "1", 11000);
    assert_int_equal(answer.verdict, KG_CAPS_OK);
    kg_caps_done(caps, answer.user, true); /* it was challenged: its second INVITE is the call */
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 11000).verdict, KG_CAPS_OK);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 11000).verdict, KG_CAPS_RATE);
    /* a minute of silence buys a minute's worth and not more */
    for (int i = 0; i < 6; i++)
        assert_int_equal(kg_caps_ask(caps, "1001", "1", 10000000).verdict, KG_CAPS_OK);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 10000000).verdict, KG_CAPS_RATE);
}

static void prefixes(struct kg_prefix *list, size_t *count, const char *const *texts)
{
    for (; *texts; texts++)
        snprintf(list[(*count)++].text, sizeof list->text, "%s", *texts);
}

static void test_a_message_counts_for_the_rate_alone(void **state)
{
    (void)state;
    snprintf(add("1001", 1, 3)->deny[0].text, sizeof config.caps[0].deny[0].text, "0900");
    config.caps[0].deny_count = 1;
    struct kg_caps_answer call = kg_caps_ask(caps, "1001", "1", 0);
    assert_non_null(call.user);
    for (int i = 0; i < 2; i++) {
        struct kg_caps_answer message = kg_caps_ask_once(caps, "1001", "1", 0);
        assert_int_equal(message.verdict, KG_CAPS_OK);
        assert_null(message.user);
    }
    assert_int_equal(kg_caps_ask_once(caps, "1001", "1", 0).verdict, KG_CAPS_RATE);
    assert_int_equal(kg_caps_ask_once(caps, "1001", "0900", 30000).verdict, KG_CAPS_NUMBER);
    kg_caps_done(caps, call.user, false);
    assert_int_equal(kg_caps_ask(caps, "1001", "1", 30000).verdict, KG_CAPS_OK); /* none is left over */
}

static void test_numbers(void **state)
{
    (void)state;
    struct kg_cap *cap = add("*", 0, 0);
    prefixes(cap->deny, &cap->deny_count, (const char *const[]){"00", "0900", "+", NULL});
    prefixes(cap->allow, &cap->allow_count, (const char *const[]){"0049", "+49", NULL});
    cap = add("guest", 0, 0);
    prefixes(cap->allow, &cap->allow_count, (const char *const[]){"10", "112", NULL});
    static const struct {
        const char *user, *number;
        bool ok;
    } rows[] = {
        {"1001", "1002", true},
        {"1001", "030123", true},
        {"1001", "0049301", true},
        {"1001", "+49301", true},
        {"1001", "00883123", false},
        {"1001", "+883123", false},
        {"1001", "0900123", false},
        {"1001", "0-9.0(0)1", false},
        {"1001", "0 900 1", false},
        {"1001", "0049900", true},
        {"guest", "1001", true},
        {"guest", "112", true},
        {"guest", "030123", false},
        {"guest", "", false},
        {"1001", "", true},
        {"1001", "0-0883;x=1", false},
        {"1001", "1;00883", true},
        {"1001", "00001111111111111111111111111111111111111111111111111111111111111111111", false},
    };
    assert_false(kg_caps_permit(caps, "1001", KG_CAPS_UNREADABLE));
    add("free", 1, 0);
    assert_true(kg_caps_permit(caps, "free", KG_CAPS_UNREADABLE));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kg_caps_answer answer = kg_caps_ask(caps, rows[i].user, rows[i].number, 0);
        if ((answer.verdict == KG_CAPS_OK) != rows[i].ok)
            fail_msg("%s calls %s: %d", rows[i].user, rows[i].number, answer.verdict);
        assert_int_equal(kg_caps_permit(caps, rows[i].user, rows[i].number), rows[i].ok);
        if (!rows[i].ok)
            assert_int_equal(answer.status, 403);
    }
}

static void test_the_log_is_not_flooded(void **state)
{
    (void)state;
    add("*", 1, 0);
    kg_caps_ask(caps, "1001", "1", 0);
    assert_true(kg_caps_ask(caps, "1001", "1", 0).say);
    for (int i = 0; i < 100; i++)
        assert_false(kg_caps_ask(caps, "1001", "1", 100 * i).say);
    struct kg_caps_answer answer = kg_caps_ask(caps, "1001", "1", KG_CAPS_SAY_MS);
    assert_true(answer.say);
    assert_int_equal(answer.held_back, 100);
}

static void test_full_table(void **state)
{
    (void)state;
    char name[16];
    add("*", 5, 0);
    struct kg_caps_answer idle = {0}, answer;
    for (int i = 0; i < KG_CAPS_USERS_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        answer = kg_caps_ask(caps, name, "1", 0);
        assert_int_equal(answer.verdict, KG_CAPS_OK);
        if (i == 3)
            idle = answer;
    }
    assert_int_equal(kg_caps_ask(caps, "one more", "1", 0).verdict, KG_CAPS_FULL);
    assert_int_equal(kg_caps_ask(caps, "5", "1", 0).verdict, KG_CAPS_OK);
    kg_caps_done(caps, idle.user, false);
    assert_int_equal(kg_caps_ask(caps, "one more", "1", 1000).verdict,
                     KG_CAPS_FULL); /* not idle long enough */
    for (int i = 0; i < KG_CAPS_USERS_MAX; i++)
        if (kg_caps_ask(caps, "one more", "1", 70000).verdict == KG_CAPS_OK)
            return;
    fail_msg("the user who called a minute ago was not forgotten");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_configured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_calls_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_calls_a_minute, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_message_counts_for_the_rate_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_log_is_not_flooded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_table, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
