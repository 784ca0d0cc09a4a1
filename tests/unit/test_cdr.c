/* b2bua/cdr: lines whole or not at all, rotation by size and by age, and what waits while the disk refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "b2bua/cdr/cdr.h"
#include "b2bua/cdr/file.h"

/* 21 November 2026, 18:00:00 UTC */
#define START 1795284000000

struct world {
    char dir[64];
    struct kg_cdr_file file;
    struct kg_cdr_settings settings;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/kedge-test-cdr-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->settings.path, sizeof w->settings.path, "%s/cdr.jsonl", w->dir);
    kg_cdr_file_init(&w->file);
    kg_cdr_file_configure(&w->file, &w->settings);
    *state = w;
    return 0;
}

/* Calls each(path) for what is in the folder; returns how many. */
static int in_folder(const struct world *w, int (*each)(const char *))
{
    char path[512];
    int count = 0;
    DIR *dir = opendir(w->dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", w->dir, entry->d_name);
        if (each)
            each(path);
        count++;
    }
    closedir(dir);
    return count;
}

static int teardown(void **state)
{
    struct world *w = *state;
    kg_cdr_file_close(&w->file);
    in_folder(w, unlink);
    rmdir(w->dir);
    free(w);
    return 0;
}

static const char *content(const char *path)
{
    static char text[4096];
    FILE *f = fopen(path, "r");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[len] = '\0';
    if (f)
        fclose(f);
    return text;
}

static void test_lines_are_appended(void **state)
{
    struct world *w = *state;
    struct stat stat_;
    assert_int_equal(kg_cdr_file_append(&w->file, "one", START), 0);
    assert_int_equal(kg_cdr_file_append(&w->file, "two", START + 1), 0);
    assert_string_equal(content(w->settings.path), "one\ntwo\n");
    assert_int_equal(stat(w->settings.path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 0007, 0); /* who called whom is nobody else's business */
}

static void test_half_line_of_a_killed_process_is_ended(void **state)
{
    struct world *w = *state;
    FILE *f = fopen(w->settings.path, "w");
    fputs("whole\nha", f);
    fclose(f);
    assert_int_equal(kg_cdr_file_append(&w->file, "next", START), 0);
    assert_string_equal(content(w->settings.path), "whole\nha\nnext\n");
}

static void test_rotation_by_size(void **state)
{
    struct world *w = *state;
    w->settings.max_bytes = 10;
    kg_cdr_file_configure(&w->file, &w->settings);
    assert_int_equal(kg_cdr_file_append(&w->file, "12345", START), 0);
    assert_int_equal(kg_cdr_file_append(&w->file, "67890", START), 0);
    assert_int_equal(kg_cdr_file_append(&w->file, "abcde", START), 0);
    assert_string_equal(content(w->settings.path), "abcde\n");
    char path[600];
    snprintf(path, sizeof path, "%s.20261121-180000", w->settings.path);
    assert_string_equal(content(path), "12345\n");
    snprintf(path, sizeof path, "%s.20261121-180000-02", w->settings.path); /* the same second */
    assert_string_equal(content(path), "67890\n");
}

static void test_rotation_by_age(void **state)
{
    struct world *w = *state;
    w->settings.max_age_ms = 60000;
    kg_cdr_file_configure(&w->file, &w->settings);
    assert_int_equal(kg_cdr_file_append(&w->file, "old", START), 0);
    assert_int_equal(kg_cdr_file_append(&w->file, "old too", START + 59999), 0);
    assert_int_equal(in_folder(w, NULL), 1);
    assert_int_equal(kg_cdr_file_append(&w->file, "new", START + 60000), 0);
    assert_int_equal(in_folder(w, NULL), 2);
    assert_string_equal(content(w->settings.path), "new\n");
}

static void test_only_so_many_files_stay(void **state)
{
    struct world *w = *state;
    char other[600], oldest[600];
    w->settings.max_bytes = 4;
    w->settings.keep = 3;
    kg_cdr_file_configure(&w->file, &w->settings);
    snprintf(other, sizeof other, "%s.notes", w->settings.path); /* somebody else's: stays */
    fclose(fopen(other, "w"));
    for (int i = 0; i < 8; i++)
        assert_int_equal(kg_cdr_file_append(&w->file, "123", START + i * 1000), 0);
    assert_int_equal(in_folder(w, NULL), 1 + 3 + 1);
    assert_int_equal(access(other, F_OK), 0);
    snprintf(oldest, sizeof oldest, "%s.20261121-180004", w->settings.path);
    assert_int_not_equal(access(oldest, F_OK), 0);
    snprintf(oldest, sizeof oldest, "%s.20261121-180005", w->settings.path);
    assert_int_equal(access(oldest, F_OK), 0);
}

/* A limit of the process on file sizes is a disk that is full. */
static void test_full_disk_leaves_no_half_line(void **state)
{
    struct world *w = *state;
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(kg_cdr_file_append(&w->file, "123", START), 0);
    limit = (struct rlimit){.rlim_cur = 6, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    int error = kg_cdr_file_append(&w->file, "56789", START);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_not_equal(error, 0);
    assert_string_equal(content(w->settings.path), "123\n");
    assert_int_equal(kg_cdr_file_append(&w->file, "56789", START), 0);
    assert_string_equal(content(w->settings.path), "123\n56789\n");
}

static void test_link_is_not_followed(void **state)
{
    struct world *w = *state;
    char victim[600];
    snprintf(victim, sizeof victim, "%s/victim", w->dir);
    fclose(fopen(victim, "w"));
    assert_int_equal(symlink(victim, w->settings.path), 0);
    assert_int_not_equal(kg_cdr_file_append(&w->file, "x", START), 0);
    assert_string_equal(content(victim), "");
}

/* ---- the writer ---- */

static struct kg_config config_of(const struct world *w)
{
    struct kg_config config;
    kg_config_defaults(&config);
    snprintf(config.cdr.file, sizeof config.cdr.file, "%s", w->settings.path);
    return config;
}

static void test_records_are_escaped_lines(void **state)
{
    struct world *w = *state;
    struct kg_config config = config_of(w);
    struct kg_cdr *cdr = kg_cdr_new(&config);
    assert_true(kg_cdr_is_on(cdr));
    kg_cdr_write(cdr, json_pack("{s:s}", "from", "a\r\nb\x1b[2J\"=cmd"));
    kg_cdr_write(cdr, json_pack("{s:i}", "n", 2));
    kg_cdr_free(cdr); /* writes what waits */
    assert_string_equal(content(w->settings.path), "{\"from\":\"a\\r\\nb\\u001B[2J\\\"=cmd\"}\n{\"n\":2}\n");
}

/* The folder is missing: records wait for it, in order, and those beyond the bound are counted. */
static void test_records_wait_for_the_disk(void **state)
{
    struct world *w = *state;
    struct kg_config config = config_of(w);
    char folder[128];
    snprintf(folder, sizeof folder, "%.64s/later", w->dir);
    snprintf(config.cdr.file, sizeof config.cdr.file, "%s/cdr", folder);
    struct kg_cdr *cdr = kg_cdr_new(&config);
    for (int i = 0; i < KG_CDR_WAITING_MAX + 500; i++)
        kg_cdr_write(cdr, json_pack("{s:i}", "n", i));
    assert_true(kg_cdr_lost(cdr) > 0);
    assert_true(kg_cdr_lost(cdr) <= 500);
    assert_int_equal(mkdir(folder, 0700), 0);
    kg_cdr_free(cdr);
    assert_int_equal(strncmp(content(config.cdr.file), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", 24), 0);
    unlink(config.cdr.file);
    rmdir(folder);
}

static void test_off_without_a_file(void **state)
{
    struct world *w = *state;
    struct kg_config config = config_of(w);
    config.cdr.file[0] = '\0';
    struct kg_cdr *cdr = kg_cdr_new(&config);
    assert_false(kg_cdr_is_on(cdr));
    kg_cdr_write(cdr, json_pack("{s:i}", "n", 1));
    struct kg_config on = config_of(w);
    kg_cdr_configure(cdr, &on);
    assert_true(kg_cdr_is_on(cdr));
    kg_cdr_write(cdr, json_pack("{s:i}", "n", 2));
    kg_cdr_free(cdr);
    assert_non_null(strstr(content(w->settings.path), "{\"n\":2}\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_are_appended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_line_of_a_killed_process_is_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_by_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_by_age, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_so_many_files_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_leaves_no_half_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_link_is_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_are_escaped_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_wait_for_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_off_without_a_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
