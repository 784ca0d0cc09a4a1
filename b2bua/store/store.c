/* The store's two connections: one of the caller's thread (start, accounts), one of the writer's. */
#include "b2bua/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "b2bua/store/queue.h"
#include "conf/clock.h"
#include "conf/log.h"

#define SCHEMA_VERSION 1
/* How long an admin's own write may wait for the writer's transaction. */
#define BUSY_MS 500
/* Writes waiting at once; some 20 MB at the worst. Registrations of 30,000 phones in one go fit. */
#define QUEUE_MAX 32768
/* Writes in one transaction: one fsync-free WAL append of about 1 MB at the most. */
#define BATCH_MAX 1024
/* A first write waits so long for others to share its transaction: that is also what a kill -9 may lose. */
#define GATHER_MS 100
/* After a failed transaction the next try comes so much later. */
#define RETRY_MS 2000
/* kg_store_close gives a failing disk this many tries. */
#define CLOSE_TRIES 2

struct kg_store {
    char path[256];
    sqlite3 *db;     /* the caller's thread */
    sqlite3 *writer; /* the writer's thread, and so its statements */
    sqlite3_stmt *put, *del;
    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t wake;
    struct kg_store_queue queue;
    bool closing, writing;  /* a batch is taken from the queue and is not in the file yet */
    char sick[200];         /* why the queue's writes fail; "" while they don't */
    char account_sick[200]; /* why the last write of an account failed */
};

static const char schema_sql[] =
    "CREATE TABLE account(name TEXT PRIMARY KEY, realm TEXT NOT NULL, ha1_md5 TEXT NOT NULL,"
    " ha1_sha256 TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE binding(key TEXT PRIMARY KEY, user TEXT NOT NULL, json TEXT NOT NULL,"
    " expires_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE setting(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* The first column of the first row as a number; -1 on failure. */
static int64_t one_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int64_t number = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
        number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return number;
}

static int open_connection(const char *path, sqlite3 **db)
{
    int rc = sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return rc;
    sqlite3_busy_timeout(*db, BUSY_MS);
    sqlite3_extended_result_codes(*db, 0);
    rc = run(*db, "PRAGMA journal_mode = WAL");
    return rc == SQLITE_OK ? run(*db, "PRAGMA synchronous = NORMAL") : rc;
}

/* SQLite's own text for "is it a database, is it whole": "ok" or what is wrong. */
static bool is_whole(sqlite3 *db, char *why, size_t size)
{
    sqlite3_stmt *stmt = NULL;
    bool whole = false;

    if (sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);

        whole = text && strcmp(text, "ok") == 0;
        snprintf(why, size, "%s", text ? text : "no answer");
    } else {
        snprintf(why, size, "%s", sqlite3_errmsg(db));
    }
    sqlite3_finalize(stmt);
    return whole;
}

static int make_schema(struct kg_store *store, char *error, size_t size)
{
    int64_t version;
    int rc = run(store->db, "BEGIN IMMEDIATE");

    if (rc != SQLITE_OK) {
        snprintf(error, size,
                 "the store %s cannot be written: %s. Check its owner, the free disk space and that no "
                 "other kedge uses it",
                 store->path, sqlite3_errmsg(store->db));
        return EIO;
    }
    version = one_number(store->db, "PRAGMA user_version");
    if (version == 0)
        rc = run(store->db, schema_sql);
    if (rc == SQLITE_OK)
        rc = run(store->db, "COMMIT");
    if (rc != SQLITE_OK) {
        snprintf(error, size, "the store %s cannot be set up: %s", store->path, sqlite3_errmsg(store->db));
        run(store->db, "ROLLBACK");
        return EIO;
    }
    if (version > SCHEMA_VERSION) {
        snprintf(error, size,
                 "the store %s was made by a newer kedge (schema %lld, this one knows %d): use that "
                 "version, or another file",
                 store->path, (long long)version, SCHEMA_VERSION);
        return EIO;
    }
    return 0;
}

static int open_file(struct kg_store *store, char *error, size_t size)
{
    char why[160];
    /* HA1s are as good as passwords: the file is nobody else's to read. */
    int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0) {
        snprintf(error, size,
                 "the store %s cannot be opened: %s. Make its directory, or set `store:` to a file that "
                 "kedge may write",
                 store->path, strerror(errno));
        return EIO;
    }
    close(fd);
    rc = open_connection(store->path, &store->db);
    if (rc != SQLITE_OK || !is_whole(store->db, why, sizeof why)) {
        if (rc != SQLITE_OK)
            snprintf(why, sizeof why, "%s", store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc));
        if (rc == SQLITE_OK || rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT)
            snprintf(error, size,
                     "the store %s is damaged or no SQLite file (%s): restore it from a backup, or move "
                     "it away and add the accounts again",
                     store->path, why);
        else
            snprintf(error, size,
                     "the store %s cannot be opened: %s. Check its owner, the free disk space and that "
                     "no other kedge uses it",
                     store->path, why);
        return EIO;
    }
    return make_schema(store, error, size);
}

/* --- the writer -------------------------------------------------------------------------------------------
 */

static int write_one(sqlite3_stmt *put, sqlite3_stmt *del, const struct kg_store_write *op)
{
    sqlite3_stmt *stmt = op->json ? put : del;
    int rc;

    sqlite3_bind_text(stmt, 1, op->key, -1, SQLITE_STATIC);
    if (op->json) {
        sqlite3_bind_text(stmt, 2, op->user, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 3, op->json, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 4, op->expires_ms);
    }
    rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* One transaction. On failure nothing of it is written. */
static int write_batch(struct kg_store *store, const struct kg_store_write *first)
{
    int rc = run(store->writer, "BEGIN IMMEDIATE");

    if (rc != SQLITE_OK)
        return rc;
    for (const struct kg_store_write *op = first; op && rc == SQLITE_OK; op = op->next)
        rc = write_one(store->put, store->del, op);
    if (rc == SQLITE_OK)
        rc = run(store->writer, "COMMIT");
    if (rc != SQLITE_OK)
        run(store->writer, "ROLLBACK");
    return rc;
}

/* Called with the lock. */
static void note_outcome(struct kg_store *store, int rc)
{
    if (rc == SQLITE_OK)
        store->account_sick[0] = '\0';
    if (rc == SQLITE_OK && store->sick[0]) {
        kg_warn("store", "the store %s can be written again: registrations kept in memory are being saved",
                store->path);
        store->sick[0] = '\0';
    } else if (rc != SQLITE_OK && !store->sick[0]) {
        snprintf(store->sick, sizeof store->sick, "%s", sqlite3_errstr(rc));
        kg_error(
            "store",
            "the store %s cannot be written (%s): registrations go on from memory but would be lost in a "
            "restart. Free disk space or make the file writable",
            store->path, store->sick);
    }
}

static void wait_a_while(struct kg_store *store, int ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(&store->wake, &store->lock, &until);
}

static void *writer_main(void *arg)
{
    struct kg_store *store = arg;
    int tries_left = CLOSE_TRIES;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        struct kg_store_write *batch;
        int rc;

        while (!store->closing && kg_store_queue_count(&store->queue) == 0)
            pthread_cond_wait(&store->wake, &store->lock);
        if (!store->closing)
            wait_a_while(store, GATHER_MS);
        batch = kg_store_queue_take(&store->queue, BATCH_MAX);
        if (!batch)
            break; /* closing, and all is written */
        store->writing = true;
        pthread_mutex_unlock(&store->lock);
        rc = write_batch(store, batch);
        pthread_mutex_lock(&store->lock);
        store->writing = false;
        note_outcome(store, rc);
        if (rc == SQLITE_OK) {
            kg_store_write_free_all(batch);
        } else {
            kg_store_queue_give_back(&store->queue, batch);
            if (store->closing && --tries_left <= 0) {
                kg_error("store", "%zu registrations could not be saved in %s",
                         kg_store_queue_count(&store->queue), store->path);
                break;
            }
            wait_a_while(store, store->closing ? 100 : RETRY_MS);
        }
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

static int start_writer(struct kg_store *store, char *error, size_t size)
{
    int rc = open_connection(store->path, &store->writer);

    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(store->writer, "INSERT OR REPLACE INTO binding VALUES(?,?,?,?)", -1,
                                &store->put, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(store->writer, "DELETE FROM binding WHERE key = ?", -1, &store->del, NULL);
    if (rc != SQLITE_OK) {
        snprintf(error, size, "the store %s cannot be opened twice: %s", store->path, sqlite3_errstr(rc));
        return EIO;
    }
    rc = pthread_create(&store->thread, NULL, writer_main, store);
    if (rc) {
        snprintf(error, size, "no thread for the store: %s", strerror(rc));
        return EIO;
    }
    store->thread_runs = true;
    return 0;
}

/* --- the interface ----------------------------------------------------------------------------------------
 */

struct kg_store *kg_store_open(const char *path, char *error, size_t size)
{
    pthread_condattr_t attr;
    struct kg_store *store = calloc(1, sizeof *store);

    if (!store) {
        snprintf(error, size, "no memory for the store");
        return NULL;
    }
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &attr);
    pthread_condattr_destroy(&attr);
    kg_store_queue_init(&store->queue, QUEUE_MAX);
    snprintf(store->path, sizeof store->path, "%s", path);
    if (open_file(store, error, size) || start_writer(store, error, size)) {
        kg_store_close(store);
        return NULL;
    }
    return store;
}

void kg_store_close(struct kg_store *store)
{
    if (!store)
        return;
    if (store->thread_runs) {
        pthread_mutex_lock(&store->lock);
        store->closing = true;
        pthread_cond_signal(&store->wake);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->thread, NULL);
    }
    kg_store_queue_clear(&store->queue);
    sqlite3_finalize(store->put);
    sqlite3_finalize(store->del);
    sqlite3_close(store->writer);
    sqlite3_close(store->db);
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static void column(sqlite3_stmt *stmt, int index, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(stmt, index);

    snprintf(out, size, "%s", text ? text : "");
}

static int finish(struct kg_store *store, sqlite3_stmt *stmt, int rc, const char *what)
{
    sqlite3_finalize(stmt);
    if (rc == SQLITE_DONE)
        return 0;
    kg_error("store", "%s in %s: %s", what, store->path, sqlite3_errmsg(store->db));
    return EIO;
}

int kg_store_each_account(struct kg_store *store, void (*row)(void *, const struct kg_store_account *),
                          void *ctx)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, "SELECT name, realm, ha1_md5, ha1_sha256, created_ms FROM account",
                                -1, &stmt, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        struct kg_store_account account;

        rc = sqlite3_step(stmt);
        if (rc != SQLITE_ROW)
            break;
        column(stmt, 0, account.name, sizeof account.name);
        column(stmt, 1, account.realm, sizeof account.realm);
        column(stmt, 2, account.ha1_md5, sizeof account.ha1_md5);
        column(stmt, 3, account.ha1_sha256, sizeof account.ha1_sha256);
        account.created_ms = sqlite3_column_int64(stmt, 4);
        row(ctx, &account);
    }
    return finish(store, stmt, rc, "accounts cannot be read");
}

/* Subscriptions and servers are rows of the same table, so that one queue and two statements write all. No
 * token of a contact begins like their keys. */
#define SUBSCRIPTION "sub:"
#define SERVER       "srv:"

static int each_row(struct kg_store *store, const char *sql, size_t skip,
                    void (*row)(void *, const struct kg_store_binding *), void *ctx)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        struct kg_store_binding binding;
        char key[sizeof binding.key];

        rc = sqlite3_step(stmt);
        if (rc != SQLITE_ROW)
            break;
        column(stmt, 0, key, sizeof key);
        snprintf(binding.key, sizeof binding.key, "%s", key + skip);
        column(stmt, 1, binding.user, sizeof binding.user);
        column(stmt, 2, binding.json, sizeof binding.json);
        binding.expires_ms = sqlite3_column_int64(stmt, 3);
        row(ctx, &binding);
    }
    return finish(store, stmt, rc, "registrations cannot be read");
}

int kg_store_each_binding(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                          void *ctx)
{
    return each_row(store,
                    "SELECT key, user, json, expires_ms FROM binding WHERE key NOT GLOB '" SUBSCRIPTION
                    "*' AND key NOT GLOB '" SERVER "*'",
                    0, row, ctx);
}

int kg_store_each_subscription(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                               void *ctx)
{
    return each_row(store,
                    "SELECT key, user, json, expires_ms FROM binding WHERE key GLOB '" SUBSCRIPTION "*'",
                    sizeof SUBSCRIPTION - 1, row, ctx);
}

int kg_store_each_server(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                         void *ctx)
{
    return each_row(store, "SELECT key, user, json, expires_ms FROM binding WHERE key GLOB '" SERVER "*'",
                    sizeof SERVER - 1, row, ctx);
}

int kg_store_secret(struct kg_store *store, uint8_t secret[static 32])
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    kg_random(secret, 32);
    rc = sqlite3_prepare_v2(store->db, "INSERT OR IGNORE INTO setting VALUES('secret', ?)", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_blob(stmt, 1, secret, 32, SQLITE_STATIC);
        rc = sqlite3_step(stmt);
    }
    if (finish(store, stmt, rc, "the secret for nonces cannot be written"))
        return EIO;
    rc = sqlite3_prepare_v2(store->db, "SELECT value FROM setting WHERE name = 'secret'", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 0) == 32) {
        memcpy(secret, sqlite3_column_blob(stmt, 0), 32);
        rc = SQLITE_DONE;
    }
    return finish(store, stmt, rc, "the secret for nonces cannot be read");
}

/* What became of an account's write: one that fails is the disk's doing, and kg_store_is_healthy tells. */
static int finish_account(struct kg_store *store, sqlite3_stmt *stmt, int rc, const char *what)
{
    pthread_mutex_lock(&store->lock);
    snprintf(store->account_sick, sizeof store->account_sick, "%s",
             rc == SQLITE_DONE ? "" : sqlite3_errmsg(store->db));
    pthread_mutex_unlock(&store->lock);
    return finish(store, stmt, rc, what);
}

int kg_store_add_account(struct kg_store *store, const struct kg_store_account *account)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, "INSERT INTO account VALUES(?,?,?,?,?)", -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, account->name, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, account->realm, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 3, account->ha1_md5, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 4, account->ha1_sha256, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 5, account->created_ms);
        rc = sqlite3_step(stmt);
    }
    if (rc == SQLITE_CONSTRAINT) {
        sqlite3_finalize(stmt);
        return EEXIST;
    }
    return finish_account(store, stmt, rc, "an account cannot be added");
}

int kg_store_remove_account(struct kg_store *store, const char *name)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, "DELETE FROM account WHERE name = ?", -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
        rc = sqlite3_step(stmt);
    }
    rc = finish_account(store, stmt, rc, "an account cannot be removed");
    return rc ? rc : sqlite3_changes(store->db) ? 0 : ENOENT;
}

size_t kg_store_waiting(struct kg_store *store)
{
    pthread_mutex_lock(&store->lock);
    size_t count = kg_store_queue_count(&store->queue) + store->writing;
    pthread_mutex_unlock(&store->lock);
    return count;
}

static int enqueue(struct kg_store *store, const char *key, const char *user, const char *json,
                   int64_t expires_ms)
{
    int err;

    pthread_mutex_lock(&store->lock);
    err = kg_store_queue_put(&store->queue, key, user, json, expires_ms);
    /* Later ones find the writer gathering, or asleep until its next try. */
    if (!err && kg_store_queue_count(&store->queue) == 1 && !store->sick[0])
        pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->lock);
    return err;
}

int kg_store_put_binding(struct kg_store *store, const struct kg_store_binding *binding)
{
    return enqueue(store, binding->key, binding->user, binding->json, binding->expires_ms);
}

int kg_store_delete_binding(struct kg_store *store, const char *key)
{
    return enqueue(store, key, NULL, NULL, 0);
}

static int enqueue_as(struct kg_store *store, const char *kind, const char *key,
                      const struct kg_store_binding *row)
{
    char full[sizeof row->key + sizeof SUBSCRIPTION];

    snprintf(full, sizeof full, "%s%s", kind, key);
    return enqueue(store, full, row ? row->user : NULL, row ? row->json : NULL, row ? row->expires_ms : 0);
}

int kg_store_put_subscription(struct kg_store *store, const struct kg_store_binding *subscription)
{
    return enqueue_as(store, SUBSCRIPTION, subscription->key, subscription);
}

int kg_store_delete_subscription(struct kg_store *store, const char *key)
{
    return enqueue_as(store, SUBSCRIPTION, key, NULL);
}

int kg_store_put_server(struct kg_store *store, const struct kg_store_binding *server)
{
    return enqueue_as(store, SERVER, server->key, server);
}

int kg_store_delete_server(struct kg_store *store, const char *key)
{
    return enqueue_as(store, SERVER, key, NULL);
}

bool kg_store_is_healthy(struct kg_store *store, char *why, size_t size)
{
    bool healthy;

    pthread_mutex_lock(&store->lock);
    healthy = !store->sick[0] && !store->account_sick[0];
    snprintf(why, size, "%s", store->sick[0] ? store->sick : store->account_sick);
    pthread_mutex_unlock(&store->lock);
    return healthy;
}
