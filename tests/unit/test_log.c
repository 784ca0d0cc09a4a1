/* conf/log: one escaped line an event. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/log.h"

static int saved_stderr, reader;

static int capture(void **state)
{
    int ends[2];

    (void)state;
    saved_stderr = dup(STDERR_FILENO);
    if (saved_stderr < 0 || pipe2(ends, O_NONBLOCK) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
        return -1;
    close(ends[1]);
    reader = ends[0];
    return 0;
}

static int release(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(reader);
    return 0;
}

/* What was logged since the last call. */
static const char *logged(void)
{
    static char text[16384];
    ssize_t len = read(reader, text, sizeof text - 1);

    text[len > 0 ? len : 0] = '\0';
    return text;
}

static void one_line(void **state)
{
    const char *line;

    (void)state;
    kg_log_init("signalling", KG_LOG_INFO);
    kg_warn("call", "call %s ended: %d", "ab12", 7);
    line = logged();
    /* 2026-11-21 12:10:11.123 warn  signalling call: ... */
    assert_int_equal(strcspn(line, "w"), 24);
    assert_string_equal(line + 24, "warn  signalling call: call ab12 ended: 7\n");
}

static void levels(void **state)
{
    (void)state;
    kg_log_init("media", KG_LOG_WARN);
    kg_info("latch", "not shown");
    assert_string_equal(logged(), "");
    kg_error("latch", "shown");
    assert_non_null(strstr(logged(), "error media latch: shown\n"));
    kg_log_set_level(KG_LOG_DEBUG);
    kg_debug("latch", "shown now");
    assert_non_null(strstr(logged(), "debug media latch: shown now\n"));
}

static void forged_lines(void **state)
{
    const char *line;

    (void)state;
    kg_log_init("signalling", KG_LOG_INFO);
    kg_info("sip", "agent %s", "x\r\n<0>root: \x1b[2J\x7f\xff\t%n%s");
    line = logged();
    assert_non_null(strstr(line, "agent x\\r\\n<0>root: \\x1b[2J\\x7f\\xff\\t%n%s\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void utf8(void **state)
{
    (void)state;
    kg_log_init("signalling", KG_LOG_INFO);
    kg_info("sip", "%s", "J\xc3\xb6rg \xe2\x82\xac \xf0\x9f\x93\x9e");
    assert_non_null(strstr(logged(), "sip: J\xc3\xb6rg \xe2\x82\xac \xf0\x9f\x93\x9e\n"));
    /* C1 control, overlong NUL, surrogate, right-to-left override, line separator, cut short */
    kg_info("sip", "%s", "\xc2\x9b \xc0\x80 \xed\xa0\x80 \xe2\x80\xae \xe2\x80\xa8 \xe2\x82");
    assert_non_null(strstr(logged(),
                           "sip: \\xc2\\x9b \\xc0\\x80 \\xed\\xa0\\x80 \\xe2\\x80\\xae \\xe2\\x80\\xa8 "
                           "\\xe2\\x82\n"));
}

static void long_lines(void **state)
{
    static char text[9000];
    const char *line;

    (void)state;
    memset(text, 1, sizeof text - 1);
    kg_info("sip", "%s", text);
    line = logged();
    assert_true(strlen(line) > 4 * 2000);
    assert_int_equal(line[strlen(line) - 1], '\n');
}

static void escaped_for_others(void **state)
{
    char out[16];

    (void)state;
    assert_int_equal(kg_log_escape("a\x1b[m", out, sizeof out), 7);
    assert_string_equal(out, "a\\x1b[m");
    kg_log_escape("\x01\x01\x01\x01\x01", out, sizeof out); /* cut between two, never within one */
    assert_string_equal(out, "\\x01\\x01\\x01");
    assert_int_equal(kg_log_escape("", out, sizeof out), 0);
}

static void journal(void **state)
{
    char stream[64];
    struct stat st;

    (void)state;
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    kg_log_init("media", KG_LOG_INFO);
    kg_error("latch", "no ports");
    assert_string_equal(logged(), "<3>media latch: no ports\n");
    /* inherited, but stderr goes elsewhere */
    setenv("JOURNAL_STREAM", "1:1", 1);
    kg_log_init("media", KG_LOG_INFO);
    kg_error("latch", "no ports");
    assert_null(strstr(logged(), "<3>"));
    unsetenv("JOURNAL_STREAM");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaped_for_others),
        cmocka_unit_test_setup_teardown(one_line, capture, release),
        cmocka_unit_test_setup_teardown(levels, capture, release),
        cmocka_unit_test_setup_teardown(forged_lines, capture, release),
        cmocka_unit_test_setup_teardown(utf8, capture, release),
        cmocka_unit_test_setup_teardown(long_lines, capture, release),
        cmocka_unit_test_setup_teardown(journal, capture, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
