/* b2bua/sip/framing: where messages in a stream end (RFC 3261 18.3, 20.14; RFC 5626 3.5.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sip/framing.h"
#include "b2bua/sip/shim.h"

#define HEAD "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP y\r\n"

/* Feeds `text` byte by byte; writes one letter an event: m(essage) b(lank) p(ing) X(bad). Every byte arrives
 * in a buffer of its own size, so that reading one too many is seen by a sanitizer. */
static void events(const char *text, size_t len, char *out, size_t size, size_t *used_in_all)
{
    struct kg_framing framing = {0};
    size_t start = 0, n = 0;
    *used_in_all = 0;
    for (size_t end = 1; end <= len; end++) {
        size_t used = 0, have = end - start;
        const char *why = NULL;
        char *copy = malloc(have);
        assert_non_null(copy);
        memcpy(copy, text + start, have);
        enum kg_frame frame = kg_framing_next(&framing, copy, have, &used, &why);
        free(copy);
        if (frame == KG_FRAME_MORE)
            continue;
        assert_true(n + 1 < size);
        out[n++] = "?mbpX"[frame];
        if (frame == KG_FRAME_BAD) {
            assert_non_null(why);
            break;
        }
        assert_int_equal(used, have); /* byte by byte, a thing ends with its last byte */
        start = end;
        *used_in_all = end;
    }
    out[n] = '\0';
}

static void streams(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {HEAD "Content-Length: 0\r\n\r\n", "m"},
        {HEAD "l: 3\r\n\r\nabc", "m"},
        {HEAD "CONTENT-LENGTH \t:  3  \r\n\r\nabc" HEAD "L:0\r\n\r\n", "mm"},
        {HEAD "Content-Length: 5\r\n\r\n\r\n\r\nx" HEAD "l: 0\r\n\r\n", "mm"},
        {HEAD "Subject: a\r\n b\r\nl: 0\r\n\r\n", "m"},
        {HEAD "Label: 7\r\nl: 0\r\n\r\n", "m"},
        {"\r\n\r\n", "bp"},
        {"\r\n\r\n\r\n\r\n", "bpbp"},
        {"\r\n" HEAD "l: 0\r\n\r\n\r\n\r\n", "bmbp"},
        {"SIP/2.0 200 OK\r\nl: 1\r\n\r\nx", "m"},
        /* what has another end for another reader */
        {HEAD "\r\n", "X"},
        {HEAD "Content-Length: 0\n\r\n", "X"},
        {HEAD "l: 0\r\n\n", "X"},
        {HEAD "a: \rb\r\nl: 0\r\n\r\n", "X"},
        {HEAD "l: 0\r\nContent-Length: 5\r\n\r\n", "X"},
        {HEAD "l: 5\r\nl: 5\r\n\r\n", "X"},
        {HEAD "l:\r\n 5\r\n\r\n", "X"},
        {HEAD "l: 5\r\n 5\r\n\r\n", "X"},
        {HEAD "l: -1\r\n\r\n", "X"},
        {HEAD "l: +1\r\n\r\n", "X"},
        {HEAD "l: 1 1\r\n\r\n", "X"},
        {HEAD "l: 0x10\r\n\r\n", "X"},
        {HEAD "l: 2147483648\r\n\r\n", "X"},
        {HEAD "l: 4294967295\r\n\r\n", "X"},
        {HEAD "l: 4294967297\r\n\r\n", "X"},
        {HEAD "l: 18446744073709551617\r\n\r\n", "X"},
        {HEAD "l: 65535\r\n\r\n", "X"}, /* with its head it is over 64 KB */
        {"\x16\x03\x01", "X"},
        {"\r\r", "X"},
        {"\n", "X"},
        {" OPTIONS", "X"},
        {HEAD "l: 0\r\n\r\n-", "mX"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char seen[64];
        size_t used;
        events(rows[i].text, strlen(rows[i].text), seen, sizeof seen, &used);
        if (strcmp(seen, rows[i].expected) != 0)
            fail_msg("row %zu: %s instead of %s: %s", i, seen, rows[i].expected, rows[i].text);
    }
}

static void nul_in_a_header(void **state)
{
    static const char text[] = HEAD "a: \0b\r\nl: 0\r\n\r\n";
    char seen[8];
    size_t used;
    (void)state;
    events(text, sizeof text - 1, seen, sizeof seen, &used);
    assert_string_equal(seen, "X");
}

/* In one piece the result is the same, and what follows is left alone. */
static void pipelined(void **state)
{
    static const char text[] = HEAD "l: 2\r\n\r\nab" HEAD "l: 0\r\n\r\n";
    struct kg_framing framing = {0};
    const char *why;
    size_t used;
    (void)state;
    assert_int_equal(kg_framing_next(&framing, text, sizeof text - 1, &used, &why), KG_FRAME_MESSAGE);
    assert_int_equal(used, strlen(HEAD "l: 2\r\n\r\nab"));
    size_t rest = sizeof text - 1 - used;
    assert_int_equal(kg_framing_next(&framing, text + used, rest, &used, &why), KG_FRAME_MESSAGE);
    assert_int_equal(used, rest);
}

/* RFC 3261 18.1.1 lets a message be large; ours are at most KG_SIP_MESSAGE_MAX. */
static void size_limit(void **state)
{
    size_t size = KG_SIP_MESSAGE_MAX + 2, used;
    char *text = malloc(size);
    const char *why;
    (void)state;
    assert_non_null(text);
    memset(text, 'a', size);
    struct kg_framing framing = {0};
    assert_int_equal(kg_framing_next(&framing, text, KG_SIP_MESSAGE_MAX, &used, &why), KG_FRAME_MORE);
    assert_int_equal(kg_framing_next(&framing, text, KG_SIP_MESSAGE_MAX + 1, &used, &why), KG_FRAME_BAD);

    int head = snprintf(text, size, HEAD "l: %d\r\n\r\n", 65000);
    size_t whole = (size_t)head + 65000;
    assert_true(whole <= KG_SIP_MESSAGE_MAX);
    memset(text + head, 'b', size - (size_t)head);
    framing = (struct kg_framing){0};
    assert_int_equal(kg_framing_next(&framing, text, whole - 1, &used, &why), KG_FRAME_MORE);
    assert_int_equal(kg_framing_next(&framing, text, whole, &used, &why), KG_FRAME_MESSAGE);
    assert_int_equal(used, whole);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams),
        cmocka_unit_test(nul_in_a_header),
        cmocka_unit_test(pipelined),
        cmocka_unit_test(size_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
