/* Accounts of the embedded registrar, in memory as in the store: names and HA1s, never passwords. */
#ifndef KG_ACCOUNTS_H
#define KG_ACCOUNTS_H

#include <stdint.h>
#include <uthash.h>

#include "b2bua/registrar/digest.h"
#include "b2bua/store/store.h"

struct kg_account {
    char *name;
    struct kg_ha1 ha1;
    int64_t created_ms;
    UT_hash_handle hh;
};

struct kg_accounts;

/* Reads the store's. Accounts made for another realm cannot be used: a warning names them. store NULL: none.
 */
struct kg_accounts *kg_accounts_new(struct kg_store *store, struct kg_digest *digest, const char *realm);
void kg_accounts_free(struct kg_accounts *accounts);
const struct kg_account *kg_accounts_find(const struct kg_accounts *accounts, const char *name);
/* All of them by name: start with NULL. */
const struct kg_account *kg_accounts_next(const struct kg_accounts *accounts,
                                          const struct kg_account *account);
/* 0, EEXIST, EINVAL (a name that is no SIP user part without escapes, an empty password), EIO, ENOMEM. */
int kg_accounts_add(struct kg_accounts *accounts, const char *name, const char *password, int64_t now_ms);
int kg_accounts_remove(struct kg_accounts *accounts, const char *name); /* 0, ENOENT, EIO */

#endif
