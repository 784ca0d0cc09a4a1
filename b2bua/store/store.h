/* The embedded store: accounts and registrations in SQLite (WAL). Reads happen at start; writes go through a
 * bounded queue to a thread of the store's own, batched in transactions, so that the signalling loop never
 * waits for a disk. */
#ifndef KG_STORE_H
#define KG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kg_store;

struct kg_store_account {
    char name[128];
    char realm[256];
    char ha1_md5[33]; /* RFC 7616 A1 hashed, lower-case hex: never a password */
    char ha1_sha256[65];
    int64_t created_ms;
};

struct kg_store_binding {
    char key[160];      /* the registrar's own key of a contact */
    char user[384];     /* its address of record */
    char json[4096];    /* what the registrar needs to serve it again; its own business */
    int64_t expires_ms; /* wall clock */
};

/* Opens or creates the file and brings its schema up to date. NULL and a sentence in error. */
struct kg_store *kg_store_open(const char *path, char *error, size_t size);
void kg_store_close(struct kg_store *store); /* writes what is queued first */

/* At start: every row to the callback. Return 0 or EIO. */
int kg_store_each_account(struct kg_store *store, void (*row)(void *, const struct kg_store_account *),
                          void *ctx);
int kg_store_each_binding(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                          void *ctx);
int kg_store_each_server(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                         void *ctx);
/* The same of subscriptions; a row's key and json are request/'s own business. */
int kg_store_each_subscription(struct kg_store *store, void (*row)(void *, const struct kg_store_binding *),
                               void *ctx);
/* A random secret of this installation, made at first use (for stateless nonces that survive a restart). */
int kg_store_secret(struct kg_store *store, uint8_t secret[static 32]);

/* Synchronous, rare, by hand of an admin: 0, EEXIST, ENOENT, EIO. */
int kg_store_add_account(struct kg_store *store, const struct kg_store_account *account);
int kg_store_remove_account(struct kg_store *store, const char *name);

/* Queued. When the queue is full the oldest write of the same key is replaced, else ENOBUFS (memory stays
 * right; the row is written at the next refresh). */
int kg_store_put_binding(struct kg_store *store, const struct kg_store_binding *binding);
int kg_store_delete_binding(struct kg_store *store, const char *key);
/* Where servers were found last; the same, route/'s own business. */
int kg_store_put_server(struct kg_store *store, const struct kg_store_binding *server);
int kg_store_delete_server(struct kg_store *store, const char *key);
int kg_store_put_subscription(struct kg_store *store, const struct kg_store_binding *subscription);
int kg_store_delete_subscription(struct kg_store *store, const char *key);
/* What is queued or being written: 0 when all is in the file. A batch that is being written counts as one. */
size_t kg_store_waiting(struct kg_store *store);
/* False while writes fail (disk full, read-only); why in words. Registrations go on from memory. */
bool kg_store_is_healthy(struct kg_store *store, char *why, size_t size);

#endif
