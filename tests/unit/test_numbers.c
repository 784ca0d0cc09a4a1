/* b2bua/route/numbers: patterns, separators, rewriting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/route/numbers.h"

static struct kg_config config;

static void plain(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {{"+49 (30) 123-45", "+493012345"},
                {"030/123", "030/123"},
                {"bob-1", "bob-1"},
                {"*97", "*97"},
                {"1.0.0.1", "1001"},
                {"-", "-"},
                {"", ""},
                {"#31#", "#31#"}};
    char out[KG_NUMBER_SIZE], long_one[100];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kg_number_plain(rows[i].in, out);
        assert_string_equal(out, rows[i].out);
    }
    memset(long_one, '1', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    kg_number_plain(long_one, out);
    assert_string_equal(out, "");
    long_one[KG_NUMBER_SIZE - 1] = '\0';
    kg_number_plain(long_one, out);
    assert_string_equal(out, long_one);
}

static void patterns(void **state)
{
    (void)state;
    assert_true(kg_number_fits("*", ""));
    assert_true(kg_number_fits("*", "1001"));
    assert_true(kg_number_fits("0*", "030"));
    assert_true(kg_number_fits("0*", "0"));
    assert_false(kg_number_fits("0*", "1"));
    assert_true(kg_number_fits("112", "112"));
    assert_false(kg_number_fits("112", "1123"));
    assert_false(kg_number_fits("112", "11"));
    assert_true(kg_number_fits("*97", "*97"));
    assert_false(kg_number_fits("*97", "97"));
    assert_true(kg_number_fits("*9*", "*97"));
}

static void add(const char *where, enum kg_number_of of, const char *match, const char *becomes)
{
    struct kg_number_config *rule = &config.number[config.number_count++];
    *rule = (struct kg_number_config){.of = of};
    snprintf(rule->where, sizeof rule->where, "%s", where);
    snprintf(rule->match, sizeof rule->match, "%s", match);
    snprintf(rule->becomes, sizeof rule->becomes, "%s", becomes);
}

static const char *rewrite(enum kg_number_way way, const char *side, enum kg_number_of of, const char *number)
{
    static char out[KG_NUMBER_SIZE];
    return kg_number_rewrite(&config, way, side, of, number, out) ? out : "-";
}

static void rewriting(void **state)
{
    (void)state;
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "030"), "-");
    add("to-itsp", KG_NUMBER_CALLED, "00*", "+*");
    add("to-itsp", KG_NUMBER_CALLED, "0*", "+49*");
    add("to-itsp", KG_NUMBER_CALLED, "112", "112");
    add("to-itsp", KG_NUMBER_CALLED, "110", "+49110");
    add("to-itsp", KG_NUMBER_CALLER, "*", "+493012340");
    add("from-itsp", KG_NUMBER_CALLED, "+49*", "0*");
    add("from-itsp2", KG_NUMBER_CALLED, "*", "1001");
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "0030-12 3"), "+30123");
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "030123"), "+4930123");
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "112"), "-"); /* the same */
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "110"), "+49110");
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, "1101"), "-");
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLER, "1001"), "+493012340");
    assert_string_equal(rewrite(KG_NUMBER_FROM, "itsp", KG_NUMBER_CALLED, "+4930123"), "030123");
    assert_string_equal(rewrite(KG_NUMBER_FROM, "itsp", KG_NUMBER_CALLER, "+4930123"), "-");
    assert_string_equal(rewrite(KG_NUMBER_FROM, "itsp2", KG_NUMBER_CALLED, "+4930123"), "1001");
    assert_string_equal(rewrite(KG_NUMBER_FROM, "its", KG_NUMBER_CALLED, "+4930123"), "-");
    /* what would become too long stays as it is */
    char number[KG_NUMBER_SIZE];
    memset(number, '1', sizeof number);
    number[0] = '0';
    number[KG_NUMBER_SIZE - 1] = '\0';
    assert_string_equal(rewrite(KG_NUMBER_TO, "itsp", KG_NUMBER_CALLED, number), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(patterns),
        cmocka_unit_test(rewriting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
