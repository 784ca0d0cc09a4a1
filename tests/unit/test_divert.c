/* Diversion (RFC 5806) and History-Info (RFC 7044) of a call that was diverted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/divert.h"

static void test_one_step(void **state)
{
    (void)state;
    const struct kg_divert_step step[] = {{"bob", "unconditional", 302}, {"carol", NULL, 0}};
    char *text = kg_divert_headers(step, 2, "kedge.test", NULL);
    assert_string_equal(text, "Diversion: <sip:bob@kedge.test>;reason=unconditional;counter=1\r\n"
                              "History-Info: <sip:bob@kedge.test?Reason=SIP%3Bcause%3D302>;index=1, "
                              "<sip:carol@kedge.test>;index=1.1;mp=1");
    free(text);
}

static void test_steps_follow_what_came(void **state)
{
    (void)state;
    const struct kg_divert_step step[] = {{"a b", "user-busy", 302}, {"+49", "unknown", 301}, {"x", NULL, 0}};
    char *text = kg_divert_headers(step, 3, "h", "<sip:z@h>;index=1, <sip:a@h>;index=1.2;rc=1");
    assert_string_equal(text, "Diversion: <sip:+49@h>;reason=unknown;counter=1\r\n"
                              "Diversion: <sip:a%20b@h>;reason=user-busy;counter=1\r\n"
                              "History-Info: <sip:a%20b@h?Reason=SIP%3Bcause%3D302>;index=1.2.1, "
                              "<sip:+49@h?Reason=SIP%3Bcause%3D301>;index=1.2.1.1;mp=1.2.1, "
                              "<sip:x@h>;index=1.2.1.1.1;mp=1.2.1.1");
    free(text);
}

/* Nothing that came can break out of the header, or grow it without end. */
static void test_hostile_texts(void **state)
{
    (void)state;
    const struct kg_divert_step step[] = {{"a>\r\nX: y;<", "unknown", 302}, {"b", NULL, 0}};
    char long_index[400] = ";index=", *text;
    for (size_t i = strlen(long_index); i + 2 < sizeof long_index; i += 2)
        memcpy(long_index + i, "1.", 3);
    text = kg_divert_headers(step, 2, "h", long_index);
    assert_non_null(strstr(text, "Diversion: <sip:a%3E%0D%0AX%3A%20y%3B%3C@h>"));
    assert_non_null(strstr(text, ";index=1, "));
    free(text);
}

static void test_reason_of_a_phone(void **state)
{
    (void)state;
    assert_string_equal(kg_divert_reason("<sip:b@h>;counter=1;reason=no-answer"), "no-answer");
    assert_string_equal(kg_divert_reason("<sip:b@h>;REASON=\"User-Busy\";x"), "user-busy");
    assert_string_equal(kg_divert_reason("<sip:b@h>;reason=\r\nX: y"), "unknown");
    assert_string_equal(kg_divert_reason("<sip:b@h>"), "unknown");
    assert_string_equal(kg_divert_reason(NULL), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_step),
        cmocka_unit_test(test_steps_follow_what_came),
        cmocka_unit_test(test_hostile_texts),
        cmocka_unit_test(test_reason_of_a_phone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
