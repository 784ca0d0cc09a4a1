/* The table of registered contacts: by user, by token, by flow, and by when something is due. No sockets, no
 * clock: now (monotonic) is handed in. */
#ifndef KG_BINDINGS_H
#define KG_BINDINGS_H

#include <sofia-sip/url.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "b2bua/registrar/keepalive_learn.h"
#include "b2bua/sip/flow.h"

#define KG_TOKEN_SIZE 25 /* 24 hex digits and NUL */
#define KG_DUE_NEVER  INT64_MAX

struct kg_bindings;

/* One Contact of a REGISTER, ready to be looked for or kept. Strings are borrowed, never NULL. */
struct kg_contact {
    const char *user;
    const char *uri;      /* as the phone wrote it */
    const char *key;      /* kg_contact_key of it */
    bool private_host;    /* two homes may use the same one */
    const char *instance; /* +sip.instance (RFC 5626), "" if none */
    uint32_t reg_id;      /* 0: none */
    uint16_t q;           /* thousandths */
    const char *call_id;
    uint32_t cseq;
    const char *user_agent;
    const struct kg_flow *flow;
    const char *device; /* name of the phone toward the PBX, NULL: the token */
    const char *path;   /* Route header of requests to it (RFC 3327), "" if none */
};

struct kg_binding {
    char token[KG_TOKEN_SIZE];  /* its name in the store, and toward the PBX */
    char device[KG_TOKEN_SIZE]; /* shared by the flows of one phone (RFC 5626); else the token */
    char *user, *uri, *key, *instance, *call_id, *user_agent;
    char *path; /* Route header of requests to it, "" if none */
    uint32_t reg_id;
    uint32_t cseq;
    uint16_t q;
    struct kg_flow flow;
    int64_t expires_ms;    /* monotonic */
    int64_t registered_ms; /* wall clock: its first REGISTER, for people */

    bool nat;
    char *nat_reasons; /* sentences, a line each */

    /* embedded: the nonce and count last used, for the store */
    char nonce[65];
    uint32_t nc;

    /* keepalive.c */
    int64_t keepalive_ms;  /* when the next is due; KG_DUE_NEVER */
    struct kg_learn learn; /* interval_ms 0: not begun */

    /* front.c */
    int64_t pbx_until_ms; /* monotonic: the PBX forgets our contact then */
    int64_t pbx_renew_ms; /* the first REGISTER after this goes to the PBX */
    uint32_t pbx;         /* which one */
    uint32_t pbx_epoch;
    char *service_route; /* Route header of the phone's requests to that PBX (RFC 3608), "" if none */
    char *gruu;          /* Contact parameters ";pub-gruu=...;temp-gruu=..." that it gave (RFC 5627), "" */
    char *auth_user;     /* digest user name of the REGISTER the PBX accepted; "" if it asked for none */

    /* bindings.c */
    struct kg_binding *user_prev, *user_next; /* most recently registered first */
    struct kg_binding *flow_prev, *flow_next;
    struct kg_binding *device_prev, *device_next; /* most recently made first */
    size_t heap_at;
    UT_hash_handle hh; /* by token */
};

struct kg_bindings *kg_bindings_new(void);
void kg_bindings_free(struct kg_bindings *table);
size_t kg_bindings_count(const struct kg_bindings *table);

/* The binding that this contact is a refresh of, or NULL. RFC 5626 6: the same instance and reg-id, whatever
 * the URI; else RFC 3261 10.2.4: the same URI. A URI with a private host says little: there it takes the same
 * Call-ID or the same source host as well, so that two phones of one user in two homes, both 192.168.1.10,
 * keep apart. */
struct kg_binding *kg_bindings_find(const struct kg_bindings *table, const struct kg_contact *contact);
/* Adds a binding under this token, or brings `binding` up to date, with a new expiry. It becomes the user's
 * first. NULL: no memory, nothing changed. */
struct kg_binding *kg_bindings_put(struct kg_bindings *table, struct kg_binding *binding, const char *token,
                                   const struct kg_contact *contact, int64_t expires_ms);
void kg_bindings_remove(struct kg_bindings *table, struct kg_binding *binding);

/* Heads of lists; follow user_next or flow_next. NULL if none. */
struct kg_binding *kg_bindings_of_user(const struct kg_bindings *table, const char *user);
size_t kg_bindings_count_of_user(const struct kg_bindings *table, const char *user);
struct kg_binding *kg_bindings_by_token(const struct kg_bindings *table, const char *token);
/* Follow device_next. */
struct kg_binding *kg_bindings_of_device(const struct kg_bindings *table, const char *device);
struct kg_binding *kg_bindings_on_flow(const struct kg_bindings *table, const struct kg_flow *flow);
struct kg_binding *kg_bindings_on_stream(const struct kg_bindings *table, const tport_t *tport);
/* All of them, in no order: start with NULL. Not while removing. */
struct kg_binding *kg_bindings_next(const struct kg_bindings *table, struct kg_binding *binding);

/* A binding whose expiry or keepalive is due, or NULL. It stays first until one of its times is moved. */
struct kg_binding *kg_bindings_due(const struct kg_bindings *table, int64_t now_ms);
/* After a change of expires_ms or keepalive_ms. */
void kg_bindings_moved(struct kg_bindings *table, struct kg_binding *binding);
/* Copies a string into a field of the binding; false without memory, the old one stays. */
bool kg_binding_set(char **field, const char *text);

/* What of a Contact URI counts in comparisons (RFC 3261 19.1.4): scheme, user, host, port, transport, maddr;
 * schemes and hosts in lower case. 0 or E2BIG. */
int kg_contact_key(const url_t *url, char *out, size_t size);

#endif
