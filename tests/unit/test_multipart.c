/* Multipart bodies (RFC 2046 5.1, RFC 5621): where the SDP is, what stays when it is replaced, and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sdp/multipart.h"

#define SDP "v=0\r\ns=-\r\n"
#define ISUP                                                                                                 \
    "Content-Type: application/isup;version=itu-t92+;base=itu-t92+\r\nContent-Disposition: "                 \
    "signal;handling=optional\r\n\r\n"

static enum kg_multipart_found find(const char *type, const char *body, struct kg_multipart *at,
                                    char error[160])
{
    error[0] = '\0';
    return kg_multipart_find(type, body, strlen(body), at, error, 160);
}

/* The description is found, and with another one in its place the body is `expected`. */
static void replaces(const char *type, const char *body, const char *expected)
{
    struct kg_multipart at;
    char error[160];
    size_t len;
    enum kg_multipart_found found = find(type, body, &at, error);
    if (found != KG_MULTIPART_SDP)
        fail_msg("%s: %s", error, body);
    assert_int_equal(at.sdp_len, strlen(SDP) - 2);
    assert_memory_equal(body + at.sdp_at, SDP, at.sdp_len);
    char *out = kg_multipart_put(body, strlen(body), &at, "NEW", 3, &len);
    assert_string_equal(out, expected);
    assert_int_equal(len, strlen(expected));
    free(out);
}

static void test_sdp_with_another_part(void **state)
{
    (void)state;
    replaces("multipart/mixed;boundary=x",
             "--x\r\nContent-Type: application/sdp\r\n\r\n" SDP "--x\r\n" ISUP "\1\2\r\n--x--\r\n",
             "--x\r\nContent-Type: application/sdp\r\n\r\nNEW\r\n--x\r\n" ISUP "\1\2\r\n--x--\r\n");
    replaces("multipart/mixed; boundary=\"x y\"",
             "--x y\r\n" ISUP "\1\2\r\n--x y\r\nc : APPLICATION/SDP ; a=b\r\n\r\n" SDP "--x y--",
             "--x y\r\n" ISUP "\1\2\r\n--x y\r\nc : APPLICATION/SDP ; a=b\r\n\r\nNEW\r\n--x y--");
    replaces("Multipart/Alternative;charset=\"a;boundary=b\" ; Boundary=x",
             "--x\r\n\r\nplain\r\n--x \t\r\nContent-Type:application/sdp\r\n\r\n" SDP "--x--",
             "--x\r\n\r\nplain\r\n--x \t\r\nContent-Type:application/sdp\r\n\r\nNEW\r\n--x--");
}

static void test_everything_around_stays(void **state)
{
    (void)state;
    replaces("multipart/mixed;boundary=x",
             "a preamble\r\n-- x\n\r\n--x\r\nContent-ID: <1@a>\r\nContent-Type:\r\n "
             "application/sdp\r\nContent-Disposition: "
             "session;\r\n\thandling=required\r\nX-Any: thing\r\n\r\n" SDP "--x--\r\nan epilogue\n--y\r\n",
             "a preamble\r\n-- x\n\r\n--x\r\nContent-ID: <1@a>\r\nContent-Type:\r\n "
             "application/sdp\r\nContent-Disposition: "
             "session;\r\n\thandling=required\r\nX-Any: thing\r\n\r\nNEW\r\n--x--\r\nan epilogue\n--y\r\n");
}

/* It would be wrong now; MIME needs none. */
static void test_the_length_of_the_part_is_dropped(void **state)
{
    (void)state;
    replaces("multipart/mixed;boundary=x",
             "--x\r\nContent-Length: 8\r\nContent-Type: application/sdp\r\n\r\n" SDP
             "--x\r\nContent-Length: 1\r\n\r\na\r\n--x--",
             "--x\r\nContent-Type: application/sdp\r\n\r\nNEW\r\n--x\r\nContent-Length: 1\r\n\r\na\r\n--x--");
    replaces("multipart/mixed;boundary=x",
             "--x\r\nContent-Type: application/sdp\r\nl:\r\n 8\r\n\r\n" SDP "--x--",
             "--x\r\nContent-Type: application/sdp\r\n\r\nNEW\r\n--x--");
}

static void test_nested(void **state)
{
    (void)state;
    replaces("multipart/mixed;boundary=x",
             "--x\r\n\r\na\r\n--x\r\nContent-Type: "
             "multipart/alternative;boundary=y\r\n\r\n--y\r\n\r\nb\r\n--y\r\nContent-Type: "
             "multipart/related;boundary=z\r\n\r\n--z\r\nContent-Type: application/sdp\r\n\r\n" SDP
             "--z--\r\n--y--\r\n--x--",
             "--x\r\n\r\na\r\n--x\r\nContent-Type: "
             "multipart/alternative;boundary=y\r\n\r\n--y\r\n\r\nb\r\n--y\r\nContent-Type: "
             "multipart/related;boundary=z\r\n\r\n--z\r\nContent-Type: "
             "application/sdp\r\n\r\nNEW\r\n--z--\r\n--y--\r\n--x--");
}

static void test_without_sdp(void **state)
{
    (void)state;
    struct kg_multipart at;
    char error[160];
    assert_int_equal(
        find("multipart/mixed;boundary=x", "--x\r\n" ISUP "\1\r\n--x\r\n\r\n\r\n--x--", &at, error),
        KG_MULTIPART_NONE);
    assert_int_equal(find("multipart/mixed;boundary=x", "--x\r\n\r\n--x--", &at, error), KG_MULTIPART_BAD);
    assert_int_equal(find("multipart/mixed;boundary=x",
                          "--x\r\nContent-Type: application/sdpx\r\n\r\n" SDP "--x--", &at, error),
                     KG_MULTIPART_NONE);
    assert_true(kg_multipart_is(" Multipart/x"));
    assert_false(kg_multipart_is("multipart"));
    assert_false(kg_multipart_is("application/sdp"));
    assert_false(kg_multipart_is(""));
}

/* What one reader takes for this and another for that, what is broken, and what is too much of anything. */
static void test_refused(void **state)
{
    (void)state;
    static const char part[] = "--x\r\nContent-Type: application/sdp\r\n\r\n" SDP "--x--";
    static const struct {
        const char *type, *body, *why;
    } row[] = {
        {"multipart/mixed", part, "boundary"},
        {"multipart/mixed;boundary", part, "boundary"},
        {"multipart/mixed;boundary=", part, "boundary"},
        {"multipart/mixed;boundary=\"\"", part, "boundary"},
        {"multipart/mixed;boundary=\"x", part, "boundary"},
        {"multipart/mixed;boundary=\"x\\", part, "boundary"},
        {"multipart/mixed;boundary=\"x \"", part, "boundary"},
        {"multipart/mixed;boundary=\"x\ty\"", part, "boundary"},
        {"multipart/mixed;boundary=x;boundary=y", part, "boundary"},
        {"multipart/mixed;boundary=x y", part, "boundary"},
        {"multipart/mixed;;boundary=x", part, "boundary"},
        {"multipart/mixed;boundary=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         part, "boundary"},
        {"multipart/;boundary=x", part, "boundary"},
        {"application/sdp", part, "boundary"},
        {"multipart/mixed;boundary=x", "", "no end"},
        {"multipart/mixed;boundary=x", "--", "no end"},
        {"multipart/mixed;boundary=x", "--x--", "no parts"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\r\n", "no end"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\r\n--x", "not clear"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\r\n--x-", "not clear"},
        {"multipart/mixed;boundary=x", "--xy\r\n\r\na\r\n--x--", "not clear"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\r\n--x y\r\n\r\n\r\n--x--", "not clear"},
        {"multipart/mixed;boundary=x", "--x\n\r\na\r\n--x--", "not clear"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\n--x--", "not clear"},
        {"multipart/mixed;boundary=x", "--x\r\n\r\na\r\n--x--\r\n--x\r\n\r\nb\r\n--x--", "after its end"},
        {"multipart/mixed;boundary=x", "--x\r\nno header\r\n\r\na\r\n--x--", "no header"},
        {"multipart/mixed;boundary=x", "--x\r\n: a\r\n\r\na\r\n--x--", "no header"},
        {"multipart/mixed;boundary=x", "--x\r\nContent-Type: application/sdp\r\n\r\r\n--x--", "CRLF"},
        {"multipart/mixed;boundary=x", "--x\r\nA: b\n\r\na\r\n--x--", "CRLF"},
        {"multipart/mixed;boundary=x", "--x\r\nA: b\r\n--x--", "CRLF"},
        {"multipart/mixed;boundary=x", "--x\r\n--x--", "end of its headers"},
        {"multipart/mixed;boundary=x", "--x\r\nContent-Type: a/b\r\nc: application/sdp\r\n\r\n" SDP "--x--",
         "twice"},
        {"multipart/mixed;boundary=x",
         "--x\r\nContent-Type: application/sdp\r\n\r\n" SDP "--x\r\nContent-Type: application/sdp\r\n\r\n" SDP
         "--x--",
         "more than one"},
        {"multipart/mixed;boundary=x",
         "--x\r\nContent-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\n" SDP "--x--",
         "another purpose"},
        {"multipart/mixed;boundary=x",
         "--x\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0wDQo=\r\n--x--",
         "encoded"},
        {"multipart/mixed;boundary=x", "--x\r\nContent-Type: multipart/mixed\r\n\r\n--y--\r\n--x--",
         "boundary"},
        {"multipart/mixed;boundary=x",
         "--x\r\nContent-Type: multipart/mixed;boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n--x--", ""},
        {"multipart/mixed;boundary=x",
         "--x\r\nContent-Type: multipart/mixed;boundary=y\r\n\r\n--y\r\n\r\na\r\n--x--", "no end"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct kg_multipart at;
        char error[160];
        if (find(row[i].type, row[i].body, &at, error) != KG_MULTIPART_BAD || !strstr(error, row[i].why))
            fail_msg("%zu: \"%s\" instead of \"%s\" for %s", i, error, row[i].why, row[i].body);
    }
}

static void append(char *text, const char *more)
{
    memcpy(text + strlen(text), more, strlen(more) + 1);
}

static void test_limits(void **state)
{
    (void)state;
    char body[65536] = "", line[700] = "", error[160];
    struct kg_multipart at;
    for (int i = 0; i < KG_MULTIPART_PARTS_MAX; i++)
        append(body, "--x\r\nContent-Type: multipart/mixed;boundary=y\r\n\r\n--y\r\n\r\n\r\n--y--\r\n");
    append(body, "--x--");
    assert_int_equal(find("multipart/mixed;boundary=x", body, &at, error), KG_MULTIPART_BAD);
    assert_non_null(strstr(error, "too many parts"));
    body[0] = '\0';
    for (int i = 0; i < KG_MULTIPART_PARTS_MAX; i++)
        append(body, "--x\r\n\r\n\r\n");
    append(body, "--x--");
    assert_int_equal(find("multipart/mixed;boundary=x", body, &at, error), KG_MULTIPART_NONE);
    body[0] = '\0';
    append(body, "--x\r\n");
    for (int i = 0; i <= KG_MULTIPART_HEADERS_MAX; i++)
        append(body, "A: b\r\n");
    append(body, "\r\n\r\n--x--");
    assert_int_equal(find("multipart/mixed;boundary=x", body, &at, error), KG_MULTIPART_BAD);
    assert_non_null(strstr(error, "too many headers"));
    memset(line, 'a', sizeof line - 1);
    snprintf(body, sizeof body, "--x\r\nA: %s\r\n\r\n\r\n--x--", line);
    assert_int_equal(find("multipart/mixed;boundary=x", body, &at, error), KG_MULTIPART_BAD);
    assert_non_null(strstr(error, "too long"));
    body[0] = '\0';
    for (int depth = 0; depth < 4; depth++)
        append(body, (const char *const[]){"--a\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n",
                                           "--b\r\nContent-Type: multipart/mixed;boundary=c\r\n\r\n",
                                           "--c\r\nContent-Type: multipart/mixed;boundary=d\r\n\r\n",
                                           "--d\r\n\r\n\r\n--d--"}[depth]);
    append(body, "\r\n--c--\r\n--b--\r\n--a--");
    assert_int_equal(find("multipart/mixed;boundary=a", body, &at, error), KG_MULTIPART_BAD);
    assert_non_null(strstr(error, "too deep"));
}

/* Every way to cut a body short, and every byte of it made another: never more than a refusal. */
static void test_cut_and_changed(void **state)
{
    (void)state;
    static const char body[] =
        "--x\r\nContent-Type: application/sdp\r\nContent-Length: 8\r\n\r\n" SDP
        "--x\r\nContent-Type: multipart/mixed;boundary=\"y\"\r\n\r\n--y\r\n\r\n1\r\n--y--\r\n--x--\r\n";
    struct kg_multipart at;
    char error[160], changed[sizeof body];
    for (size_t len = 0; len < sizeof body; len++) {
        char *copy = malloc(len + 1); /* for the sanitizer: nothing behind its end is read */
        memcpy(copy, body, len);
        if (kg_multipart_find("multipart/mixed;boundary=x", copy, len, &at, error, sizeof error) ==
            KG_MULTIPART_SDP)
            assert_true(at.sdp_at + at.sdp_len <= len);
        free(copy);
    }
    for (size_t i = 0; i < sizeof body - 1; i++)
        for (int c = 0; c < 256; c += 3) {
            size_t len;
            memcpy(changed, body, sizeof body);
            changed[i] = (char)c;
            if (kg_multipart_find("multipart/mixed;boundary=x", changed, sizeof body - 1, &at, error,
                                  sizeof error) != KG_MULTIPART_SDP)
                continue;
            char *out = kg_multipart_put(changed, sizeof body - 1, &at, SDP, strlen(SDP) - 2, &len);
            assert_int_equal(len, sizeof body - 1 - at.length_len - at.sdp_len + strlen(SDP) - 2);
            free(out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sdp_with_another_part),
        cmocka_unit_test(test_everything_around_stays),
        cmocka_unit_test(test_the_length_of_the_part_is_dropped),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_without_sdp),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_and_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
