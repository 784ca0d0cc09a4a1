/* URIs from the network: which are sound, and how their parameters are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sip/uri.h"

static bool sound(const char *text)
{
    char copy[2000];
    url_t url;
    strncpy(copy, text, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    return url_d(&url, copy) == 0 && kg_uri_is_sound(&url);
}

static void soundness(void **state)
{
    static const char *const good[] = {"sip:a@example.com",
                                       "sips:a@[2001:db8::1]:5061;transport=tls",
                                       "tel:+1-201-555-0123",
                                       "sip:%00@example.com",
                                       "sip:user;par=u%40example.net@example.com?Subject=x",
                                       "sip:192.0.2.1"};
    static const char *const bad[] = {"%00sp/:[1\300%00sp/:[1\300", "sip:[::1"};
    char longest[600] = "sip:";
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!sound(good[i]))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (sound(bad[i]))
            fail_msg("%s", bad[i]);
    memset(longest + 4, 'a', KG_SIP_URI_MAX - 4);
    assert_true(sound(longest));
    strcat(longest, "a");
    assert_false(sound(longest));
}

/* What stands behind the end of the text must not count, nor be read. */
static void parameters(void **state)
{
    static const struct {
        const char *params, *name, *value; /* NULL: it is not there */
    } rows[] = {
        {"transport=tcp;lr", "transport", "tcp"},
        {"transport=tcp;lr", "lr", ""},
        {"transport=tcp;lr", "lr=", ""},
        {"lr;TRANSPORT=udp", "transport=", "udp"},
        {"transportx=1", "transport", NULL},
        {"transportx;transport=tls", "transport", "tls"},
        {"transportx", "transport", NULL},
        {"transpor", "transport", NULL},
        {"transport=", "transport", ""},
        {"", "lr", NULL},
        {";;lr", "lr", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char value[16] = "untouched";
        size_t len = strlen(rows[i].params);
        char *text = malloc(len + 32); /* what follows in memory looks like more of it */
        memcpy(text, rows[i].params, len + 1);
        memcpy(text + len + 1, ";transport=sctp;lr", 19);
        isize_t n = url_param(text, rows[i].name, value, sizeof value);
        if (rows[i].value) {
            assert_int_equal(n, strlen(rows[i].value) + 1);
            assert_string_equal(value, rows[i].value);
        } else {
            assert_int_equal(n, 0);
            assert_string_equal(value, "untouched");
        }
        free(text);
    }
    char small[3] = "xy";
    assert_int_equal(url_param("transport=sctp", "transport", small, sizeof small), 5);
    assert_string_equal(small, "xy");
    assert_int_equal(url_param(NULL, "lr", NULL, 0), 0);
    assert_int_equal(url_param("lr", "lr", NULL, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(soundness), cmocka_unit_test(parameters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
