/* b2bua/store: what was written is there after a restart; a store that cannot be used says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "b2bua/store/queue.h"
#include "b2bua/store/store.h"
#include "conf/clock.h"

struct world {
    char dir[64], path[96], error[400];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    snprintf(w->dir, sizeof w->dir, "/tmp/kedge-test-store-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->path, sizeof w->path, "%s/kedge.db", w->dir);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char file[128];

    for (const char *const *end = (const char *const[]){"", "-wal", "-shm", NULL}; *end; end++) {
        snprintf(file, sizeof file, "%s%s", w->path, *end);
        unlink(file);
    }
    rmdir(w->dir);
    free(w);
    return 0;
}

static struct kg_store *open_store(struct world *w)
{
    struct kg_store *store = kg_store_open(w->path, w->error, sizeof w->error);

    if (!store)
        fail_msg("%s", w->error);
    return store;
}

struct rows {
    unsigned count;
    struct kg_store_binding last;
    struct kg_store_account account;
};

static void on_binding(void *ctx, const struct kg_store_binding *row)
{
    struct rows *rows = ctx;

    rows->count++;
    rows->last = *row;
}

static void on_account(void *ctx, const struct kg_store_account *row)
{
    struct rows *rows = ctx;

    rows->count++;
    rows->account = *row;
}

static struct kg_store_binding binding(unsigned number, const char *json)
{
    struct kg_store_binding b = {.user = "alice", .expires_ms = 123456789012345};

    snprintf(b.key, sizeof b.key, "key%u", number);
    snprintf(b.json, sizeof b.json, "%s", json);
    return b;
}

static void bindings_survive(void **state)
{
    struct kg_store *store = open_store(*state);
    struct kg_store_binding b = binding(1, "{\"a\":1}");
    struct rows rows = {0};

    assert_int_equal(kg_store_put_binding(store, &b), 0);
    b = binding(1, "{\"a\":2}");
    assert_int_equal(kg_store_put_binding(store, &b), 0);
    b = binding(2, "{}");
    assert_int_equal(kg_store_put_binding(store, &b), 0);
    assert_int_equal(kg_store_delete_binding(store, "key2"), 0);
    kg_store_close(store);

    store = open_store(*state);
    assert_int_equal(kg_store_each_binding(store, on_binding, &rows), 0);
    assert_int_equal(rows.count, 1);
    assert_string_equal(rows.last.key, "key1");
    assert_string_equal(rows.last.user, "alice");
    assert_string_equal(rows.last.json, "{\"a\":2}");
    assert_int_equal(rows.last.expires_ms, 123456789012345);
    kg_store_close(store);
}

/* They are rows of the same table, and neither sees the other's. */
static void subscriptions_beside_bindings(void **state)
{
    struct kg_store *store = open_store(*state);
    struct kg_store_binding b = binding(1, "{}"), s = binding(1, "{\"s\":1}");
    struct rows rows = {0}, subscriptions = {0};

    assert_int_equal(kg_store_put_binding(store, &b), 0);
    assert_int_equal(kg_store_put_subscription(store, &s), 0);
    s = binding(2, "{\"s\":2}");
    assert_int_equal(kg_store_put_subscription(store, &s), 0);
    assert_int_equal(kg_store_delete_subscription(store, "key1"), 0);
    kg_store_close(store);

    store = open_store(*state);
    assert_int_equal(kg_store_each_binding(store, on_binding, &rows), 0);
    assert_int_equal(kg_store_each_subscription(store, on_binding, &subscriptions), 0);
    assert_int_equal(rows.count, 1);
    assert_string_equal(rows.last.json, "{}");
    assert_int_equal(subscriptions.count, 1);
    assert_string_equal(subscriptions.last.key, "key2");
    assert_string_equal(subscriptions.last.json, "{\"s\":2}");
    kg_store_close(store);
}

static void many_bindings(void **state)
{
    enum { N = 5000 };
    struct kg_store *store = open_store(*state);
    struct rows rows = {0};

    for (unsigned i = 0; i < N; i++) {
        struct kg_store_binding b = binding(i, "{}");

        assert_int_equal(kg_store_put_binding(store, &b), 0);
    }
    kg_store_close(store);
    store = open_store(*state);
    assert_int_equal(kg_store_each_binding(store, on_binding, &rows), 0);
    assert_int_equal(rows.count, N);
    kg_store_close(store);
}

static void accounts(void **state)
{
    struct kg_store *store = open_store(*state);
    struct kg_store_account account = {"alice", "example.org", "md5", "sha", 42};
    struct rows rows = {0};

    assert_int_equal(kg_store_add_account(store, &account), 0);
    assert_int_equal(kg_store_add_account(store, &account), EEXIST);
    kg_store_close(store);
    store = open_store(*state);
    assert_int_equal(kg_store_each_account(store, on_account, &rows), 0);
    assert_int_equal(rows.count, 1);
    assert_string_equal(rows.account.name, "alice");
    assert_string_equal(rows.account.realm, "example.org");
    assert_string_equal(rows.account.ha1_md5, "md5");
    assert_string_equal(rows.account.ha1_sha256, "sha");
    assert_int_equal(rows.account.created_ms, 42);
    assert_int_equal(kg_store_remove_account(store, "alice"), 0);
    assert_int_equal(kg_store_remove_account(store, "alice"), ENOENT);
    kg_store_close(store);
}

static void secret_stays(void **state)
{
    struct kg_store *store = open_store(*state);
    uint8_t first[32], second[32], zero[32] = {0};
    struct stat st;

    assert_int_equal(kg_store_secret(store, first), 0);
    kg_store_close(store);
    store = open_store(*state);
    assert_int_equal(kg_store_secret(store, second), 0);
    kg_store_close(store);
    assert_memory_equal(first, second, 32);
    assert_memory_not_equal(first, zero, 32);
    assert_int_equal(stat(((struct world *)*state)->path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0); /* nobody else reads it */
}

static void damaged_file_is_named(void **state)
{
    struct world *w = *state;
    char garbage[8192];
    int fd = open(w->path, O_WRONLY | O_CREAT, 0600);

    memset(garbage, 'x', sizeof garbage);
    assert_int_equal(write(fd, garbage, sizeof garbage), sizeof garbage);
    close(fd);
    assert_null(kg_store_open(w->path, w->error, sizeof w->error));
    assert_non_null(strstr(w->error, w->path));
    assert_non_null(strstr(w->error, "damaged"));
}

static void missing_directory_is_named(void **state)
{
    struct world *w = *state;

    assert_null(kg_store_open("/tmp/kedge-test-store-none/kedge.db", w->error, sizeof w->error));
    assert_non_null(strstr(w->error, "No such file or directory"));
}

static void newer_schema_is_refused(void **state)
{
    struct world *w = *state;
    sqlite3 *db;

    kg_store_close(open_store(w));
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_null(kg_store_open(w->path, w->error, sizeof w->error));
    assert_non_null(strstr(w->error, "newer"));
}

static bool wait_health(struct kg_store *store, bool wanted)
{
    char why[200];
    int64_t end = kg_mono_ms() + 10000;

    while (kg_mono_ms() < end) {
        if (kg_store_is_healthy(store, why, sizeof why) == wanted)
            return true;
        usleep(2000);
    }
    return false;
}

/* Somebody holds the database: writes wait in memory, it is said, and they are done afterwards. */
static void locked_store_recovers(void **state)
{
    struct world *w = *state;
    struct kg_store *store = open_store(w);
    struct kg_store_binding b = binding(1, "{}");
    struct rows rows = {0};
    char why[200];
    sqlite3 *db;

    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(kg_store_put_binding(store, &b), 0);
    assert_true(wait_health(store, false));
    assert_false(kg_store_is_healthy(store, why, sizeof why));
    assert_string_equal(why, "database is locked");
    assert_int_equal(kg_store_put_binding(store, &b), 0); /* goes on from memory */
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_true(wait_health(store, true));
    kg_store_close(store);
    store = open_store(w);
    assert_int_equal(kg_store_each_binding(store, on_binding, &rows), 0);
    assert_int_equal(rows.count, 1);
    kg_store_close(store);
}

static void account_that_is_not_written_is_told(void **state)
{
    struct world *w = *state;
    struct kg_store *store = open_store(w);
    struct kg_store_account account = {.name = "alice", .realm = "example.org"};
    struct kg_store_binding b = binding(1, "{}");
    char why[200];
    sqlite3 *db;

    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(kg_store_add_account(store, &account), EIO);
    assert_false(kg_store_is_healthy(store, why, sizeof why));
    assert_string_equal(why, "database is locked");
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(kg_store_add_account(store, &account), 0);
    assert_true(kg_store_is_healthy(store, why, sizeof why));
    assert_int_equal(kg_store_add_account(store, &account), EEXIST);
    assert_true(kg_store_is_healthy(store, why, sizeof why));
    /* A registration that is written proves it, too. */
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(kg_store_remove_account(store, "alice"), EIO);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_false(kg_store_is_healthy(store, why, sizeof why));
    assert_int_equal(kg_store_put_binding(store, &b), 0);
    assert_true(wait_health(store, true));
    kg_store_close(store);
}

static void queue_is_bounded(void **state)
{
    struct kg_store_queue queue;
    struct kg_store_write *batch;

    (void)state;
    kg_store_queue_init(&queue, 2);
    assert_int_equal(kg_store_queue_put(&queue, "a", "u", "1", 0), 0);
    assert_int_equal(kg_store_queue_put(&queue, "b", "u", "2", 0), 0);
    assert_int_equal(kg_store_queue_put(&queue, "c", "u", "3", 0), ENOBUFS);
    assert_int_equal(kg_store_queue_put(&queue, "a", "u", "4", 0), 0); /* replaced in its place */
    batch = kg_store_queue_take(&queue, 9);
    assert_string_equal(batch->json, "4");
    assert_string_equal(batch->next->json, "2");
    assert_null(batch->next->next);
    assert_int_equal(kg_store_queue_count(&queue), 0);

    /* The batch failed while a newer write of b came in. */
    assert_int_equal(kg_store_queue_put(&queue, "b", NULL, NULL, 0), 0);
    kg_store_queue_give_back(&queue, batch);
    batch = kg_store_queue_take(&queue, 1);
    assert_string_equal(batch->key, "a");
    kg_store_write_free_all(batch);
    batch = kg_store_queue_take(&queue, 9);
    assert_string_equal(batch->key, "b");
    assert_null(batch->json);
    assert_null(batch->next);
    kg_store_write_free_all(batch);
    kg_store_queue_clear(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bindings_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(subscriptions_beside_bindings, setup, teardown),
        cmocka_unit_test_setup_teardown(many_bindings, setup, teardown),
        cmocka_unit_test_setup_teardown(accounts, setup, teardown),
        cmocka_unit_test_setup_teardown(secret_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_file_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_directory_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(newer_schema_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(locked_store_recovers, setup, teardown),
        cmocka_unit_test_setup_teardown(account_that_is_not_written_is_told, setup, teardown),
        cmocka_unit_test(queue_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
