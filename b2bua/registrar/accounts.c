#include "b2bua/registrar/accounts.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/log.h"

struct kg_accounts {
    struct kg_store *store;
    struct kg_digest *digest;
    char realm[256];
    struct kg_account *by_name;
};

static int keep(struct kg_accounts *accounts, const struct kg_store_account *row)
{
    struct kg_account *account = calloc(1, sizeof *account);

    if (!account || !(account->name = strdup(row->name))) {
        free(account);
        return ENOMEM;
    }
    snprintf(account->ha1.hex[KG_DIGEST_MD5], KG_DIGEST_HEX, "%s", row->ha1_md5);
    snprintf(account->ha1.hex[KG_DIGEST_SHA256], KG_DIGEST_HEX, "%s", row->ha1_sha256);
    account->created_ms = row->created_ms;
    HASH_ADD_KEYPTR(hh, accounts->by_name, account->name, strlen(account->name), account);
    return 0;
}

static void forget(struct kg_accounts *accounts, struct kg_account *account)
{
    HASH_DEL(accounts->by_name, account);
    OPENSSL_cleanse(&account->ha1, sizeof account->ha1);
    free(account->name);
    free(account);
}

static void on_row(void *ctx, const struct kg_store_account *row)
{
    struct kg_accounts *accounts = ctx;

    if (strcmp(row->realm, accounts->realm) != 0)
        kg_warn("registrar",
                "account %s was made for the domain %s and cannot register at %s: add it "
                "again, or set sip.domain back",
                row->name, row->realm, accounts->realm);
    else if (keep(accounts, row))
        kg_error("registrar", "no memory for account %s", row->name);
}

struct kg_accounts *kg_accounts_new(struct kg_store *store, struct kg_digest *digest, const char *realm)
{
    struct kg_accounts *accounts = calloc(1, sizeof *accounts);

    if (!accounts)
        return NULL;
    accounts->store = store;
    accounts->digest = digest;
    snprintf(accounts->realm, sizeof accounts->realm, "%s", realm);
    if (store)
        kg_store_each_account(store, on_row, accounts);
    return accounts;
}

void kg_accounts_free(struct kg_accounts *accounts)
{
    if (!accounts)
        return;
    while (accounts->by_name)
        forget(accounts, accounts->by_name);
    free(accounts);
}

const struct kg_account *kg_accounts_find(const struct kg_accounts *accounts, const char *name)
{
    struct kg_account *account;

    HASH_FIND_STR(accounts->by_name, name, account);
    return account;
}

static int by_name(const struct kg_account *a, const struct kg_account *b)
{
    return strcmp(a->name, b->name);
}

const struct kg_account *kg_accounts_next(const struct kg_accounts *accounts,
                                          const struct kg_account *account)
{
    return account ? account->hh.next : accounts->by_name;
}

/* RFC 3261 25.1: what a user part may hold unescaped, less what would need care in a shell, a log or a
 * header. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= sizeof((struct kg_store_account *)0)->name)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("-_.+", *name))
            return false;
    return true;
}

int kg_accounts_add(struct kg_accounts *accounts, const char *name, const char *password, int64_t now_ms)
{
    struct kg_store_account row = {.created_ms = now_ms};
    struct kg_ha1 ha1;
    int err;

    if (!is_name(name) || !password[0])
        return EINVAL;
    if (kg_accounts_find(accounts, name))
        return EEXIST;
    kg_digest_ha1(accounts->digest, name, accounts->realm, password, &ha1);
    snprintf(row.name, sizeof row.name, "%s", name);
    snprintf(row.realm, sizeof row.realm, "%s", accounts->realm);
    memcpy(row.ha1_md5, ha1.hex[KG_DIGEST_MD5], sizeof row.ha1_md5);
    memcpy(row.ha1_sha256, ha1.hex[KG_DIGEST_SHA256], sizeof row.ha1_sha256);
    err = accounts->store ? kg_store_add_account(accounts->store, &row) : 0;
    if (err == EEXIST) { /* only in the store: of another sip.domain, its password is worth nothing here */
        err = kg_store_remove_account(accounts->store, name);
        if (!err)
            err = kg_store_add_account(accounts->store, &row);
    }
    if (!err)
        err = keep(accounts, &row);
    if (!err)
        HASH_SORT(accounts->by_name, by_name);
    OPENSSL_cleanse(&row, sizeof row);
    OPENSSL_cleanse(&ha1, sizeof ha1);
    return err;
}

int kg_accounts_remove(struct kg_accounts *accounts, const char *name)
{
    struct kg_account *account;
    int err = accounts->store ? kg_store_remove_account(accounts->store, name) : 0;

    HASH_FIND_STR(accounts->by_name, name, account);
    if (!account)
        return accounts->store ? err : ENOENT;
    if (!err || err == ENOENT)
        forget(accounts, account);
    return err;
}
