/* b2bua/control: routes, the control socket's file, passwords and tables. */
#include <errno.h>
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

#include "b2bua/control/exchange.h"
#include "b2bua/control/password.h"
#include "b2bua/control/socket.h"
#include "b2bua/control/table.h"

static void routes(void **state)
{
    static const struct {
        const char *method, *path;
        int error;
        const char *name;
    } rows[] = {
        {"GET", "/v1/calls", 0, ""},
        {"GET", "/v1/calls/ab12", 0, "ab12"},
        {"DELETE", "/v1/calls/ab12", 0, "ab12"},
        {"DELETE", "/v1/calls", EPERM, ""},
        {"POST", "/v1/calls/ab12", EPERM, ""},
        {"POST", "/v1/accounts", 0, ""},
        {"DELETE", "/v1/accounts/alice", 0, "alice"},
        {"", "/v1/accounts", EPERM, ""},
        {"GET", "/v1/calls/", ENOENT, ""},
        {"GET", "/v1/calls/a/b", ENOENT, ""},
        {"GET", "/v1/callsx", ENOENT, ""},
        {"GET", "/v1", ENOENT, ""},
        {"GET", "", ENOENT, ""},
        {"GET", "/v1/calls/../stats", ENOENT, ""},
    };
    char name[KG_CONTROL_NAME_MAX], path[KG_CONTROL_NAME_MAX + 32] = "/v1/calls/";
    kg_api_fn *fn;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        name[0] = '\0';
        fn = NULL;
        if (kg_api_find(rows[i].method, rows[i].path, &fn, name) != rows[i].error)
            fail_msg("%s %s", rows[i].method, rows[i].path);
        assert_string_equal(name, rows[i].name);
        assert_true((fn != NULL) == (rows[i].error == 0));
    }
    memset(path + strlen(path), 'x', KG_CONTROL_NAME_MAX - 1);
    assert_int_equal(kg_api_find("GET", path, &fn, name), 0);
    path[strlen(path)] = 'x'; /* one too long */
    assert_int_equal(kg_api_find("GET", path, &fn, name), ENOENT);
}

static void socket_file(void **state)
{
    char dir[] = "/tmp/kedge-test-XXXXXX", path[64], error[300];
    int first, second;
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    assert_int_equal(kg_control_socket_open(path, &first, error, sizeof error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);

    /* somebody serves it */
    assert_int_equal(kg_control_socket_open(path, &second, error, sizeof error), EADDRINUSE);
    assert_non_null(strstr(error, "running already"));

    /* a dead kedge left it */
    close(first);
    assert_int_equal(kg_control_socket_open(path, &second, error, sizeof error), 0);
    close(second);
    unlink(path);

    /* a file that is none of ours */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(kg_control_socket_open(path, &second, error, sizeof error), EEXIST);
    assert_int_equal(stat(path, &st), 0);
    unlink(path);
    rmdir(dir);
    assert_int_equal(kg_control_socket_open(path, &second, error, sizeof error), ENOENT);
    assert_non_null(strstr(error, path));
}

static void generated_passwords(void **state)
{
    char a[KG_PASSWORD_MAX], b[KG_PASSWORD_MAX];

    (void)state;
    assert_int_equal(kg_password_generate(a), 0);
    assert_int_equal(kg_password_generate(b), 0);
    assert_int_equal(strlen(a), 20);
    assert_int_equal(strspn(a, "abcdefghijkmnpqrstuvwxyz23456789"), 20);
    assert_string_not_equal(a, b);
}

/* What kg_table_print writes to stdout. */
static const char *printed(const json_t *rows, const struct kg_column *columns, size_t count)
{
    static char text[2048];
    FILE *file = tmpfile();
    int saved = dup(STDOUT_FILENO);
    size_t len;

    fflush(stdout);
    assert_non_null(file);
    dup2(fileno(file), STDOUT_FILENO);
    kg_table_print(rows, columns, count, "nothing");
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    rewind(file);
    len = fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    fclose(file);
    return text;
}

static void tables(void **state)
{
    static const struct kg_column columns[] = {
        {"NAME", "name", KG_SHOW_TEXT},
        {"NAT", "nat", KG_SHOW_TEXT},
        {"LEFT", "left", KG_SHOW_SECONDS},
    };
    json_t *rows = json_array();

    (void)state;
    assert_string_equal(printed(rows, columns, 3), "nothing\n");
    json_array_append_new(rows, json_pack("{s:s, s:b, s:i}", "name", "J\xc3\xb6rg", "nat", 1, "left", 5));
    json_array_append_new(rows, json_pack("{s:s, s:[s,s]}", "name", "x\x1b[2J\n", "nat", "a", "b"));
    assert_string_equal(printed(rows, columns, 3), "NAME        NAT   LEFT\n"
                                                   "J\xc3\xb6rg        yes   5 s\n"
                                                   "x\\x1b[2J\\n  a, b  -\n");
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes),
        cmocka_unit_test(socket_file),
        cmocka_unit_test(generated_passwords),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
