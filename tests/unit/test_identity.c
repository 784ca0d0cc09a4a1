/* b2bua/call/identity: users and numbers in asserted identities are rewritten, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/identity.h"

/* 2xx becomes +49302xx; "a b" is written with an escape. */
static bool number(void *ctx, const char *user, char out[static KG_IDENTITY_USER])
{
    (void)ctx;
    if (strcmp(user, "a b") == 0) {
        snprintf(out, KG_IDENTITY_USER, "c%%20d");
        return true;
    }
    if (user[0] != '2')
        return false;
    snprintf(out, KG_IDENTITY_USER, "+4930%s", user);
    return true;
}

static void rewrites(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: unchanged */
    } rows[] = {
        {"<sip:201@pbx.test>", "<sip:+4930201@pbx.test>"},
        {"\"Two\" <sip:201@pbx.test;user=phone>", "\"Two\" <sip:+4930201@pbx.test;user=phone>"},
        {"sip:201@pbx.test", "sip:+4930201@pbx.test"},
        {"<tel:201>", "<tel:+4930201>"},
        {"<tel:201;phone-context=x>", "<tel:+4930201;phone-context=x>"},
        {"<SIPS:201@pbx.test>, <TEL:202>", "<SIPS:+4930201@pbx.test>, <TEL:+4930202>"},
        {"\"sip:201@x\" <sip:301@pbx.test>", NULL},
        {"\"a \\\" <sip:201@x>\" <sip:201@pbx.test>", "\"a \\\" <sip:201@x>\" <sip:+4930201@pbx.test>"},
        {"gossip:201@x <sip:301@y>", NULL},
        {"<sip:a%20b@x>", "<sip:c%20d@x>"},
        {"<sip:pbx.test>", NULL},
        {"<sip:@x>", NULL},
        {"<tel:>", NULL},
        {"sip:", NULL},
        {"\"open <sip:201@x>", NULL},
        {"\\", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[256];
        bool changed = kg_identity_rewrite(rows[i].in, number, NULL, out, sizeof out);
        if (changed != (rows[i].out != NULL) || (changed && strcmp(out, rows[i].out) != 0))
            fail_msg("%s became %s", rows[i].in, changed ? out : "(nothing)");
    }
}

static void never_writes_too_much(void **state)
{
    static const char value[] = "\"Two\" <sip:201@pbx.test>, <tel:202>";
    static const char expected[] = "\"Two\" <sip:+4930201@pbx.test>, <tel:+4930202>";
    (void)state;
    for (size_t size = 1; size <= sizeof expected; size++) {
        char *out = malloc(size); /* the sanitizer watches its end */
        bool fits = kg_identity_rewrite(value, number, NULL, out, size);
        assert_int_equal(fits, size >= sizeof expected);
        if (fits)
            assert_string_equal(out, expected);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewrites),
        cmocka_unit_test(never_writes_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
