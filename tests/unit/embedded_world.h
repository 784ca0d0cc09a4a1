/* The embedded registrar with two accounts, and what its tests ask it. */
#ifndef KG_TESTS_EMBEDDED_WORLD_H
#define KG_TESTS_EMBEDDED_WORLD_H

#include "registrar_world.h"

static inline void add_accounts(struct world *w)
{
    assert_int_equal(kg_registrar_account_add(w->server.registrar, "alice", "secret"), 0);
    assert_int_equal(kg_registrar_account_add(w->server.registrar, "bob", "secret2"), 0);
}

static inline int setup(void **state)
{
    *state = world_new(NULL);
    add_accounts(*state);
    return 0;
}

static inline int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static const char *ask(struct phone *p, const char *request)
{
    phone_send(p, request);
    return phone_receive(p, PATIENCE_MS);
}

/* A REGISTER with credentials, after a challenge if need be. */
static inline int enroll(struct phone *p, int expires)
{
    if (!p->nonce[0]) {
        assert_int_equal(status_of(ask(p, phone_request(p, "REGISTER", p->user, expires, ""))), 401);
        phone_learn(p, p->in);
    }
    return status_of(ask(p, phone_request(p, "REGISTER", p->user, expires,
                                          phone_authorization(p, "Authorization", "REGISTER"))));
}

static inline size_t contacts_of(struct world *w, const char *user)
{
    struct kg_target target[20];
    size_t n = kg_registrar_lookup(w->server.registrar, user, target, 20);

    for (size_t i = 0; i < n; i++)
        kg_flow_clear(&target[i].flow);
    return n;
}

static inline size_t find(struct world *w, const char *text, struct kg_target *out, size_t max)
{
    char copy[256];
    url_t url;

    snprintf(copy, sizeof copy, "%s", text);
    assert_int_equal(url_d(&url, copy), 0);
    return kg_registrar_find(w->server.registrar, &url, NULL, out, max);
}

static inline void enroll_as(struct phone *p, const char *parameters)
{
    snprintf(p->contact + strlen(p->contact), sizeof p->contact - strlen(p->contact), "%s", parameters);
    assert_int_equal(enroll(p, 3600), 200);
}

#endif
