/* Which contacts a name, a token or a GRUU stands for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/registrar/inside.h"

/* Contacts that one lookup tells of at the most. */
#define FIND_MAX 32

bool kg_registrar_is_reachable(const struct kg_binding *b)
{
    return b->flow.tport && kg_flow_is_up(&b->flow);
}

bool kg_registrar_is_user(const struct kg_registrar *registrar, const struct kg_binding *b, const char *user)
{
    size_t len = kg_registrar_user_part(registrar, b);

    return strlen(user) == len && memcmp(user, b->user, len) == 0;
}

static void fill_target(const struct kg_registrar *registrar, const struct kg_binding *b,
                        struct kg_target *out)
{
    snprintf(out->user, sizeof out->user, "%.*s", (int)kg_registrar_user_part(registrar, b), b->user);
    snprintf(out->contact, sizeof out->contact, "%s", b->uri);
    out->path = b->path;
    kg_flow_copy(&out->flow, &b->flow);
    out->nat = b->nat;
    out->q = b->q;
}

/* Reachable contacts on their way into the caller's array, best first. */
struct finding {
    const struct kg_registrar *registrar;
    struct kg_target *out;
    size_t max, count;
    const struct kg_binding *found[FIND_MAX];
};

static struct finding start(const struct kg_registrar *registrar, struct kg_target *out, size_t max)
{
    return (struct finding){.registrar = registrar, .out = out, .max = max < FIND_MAX ? max : FIND_MAX};
}

static void note(struct finding *f, const struct kg_binding *b)
{
    size_t at;

    if (!kg_registrar_is_reachable(b) || f->max == 0)
        return;
    if (f->count == f->max && f->found[--f->count]->q >= b->q) {
        f->count++;
        return;
    }
    for (at = f->count++; at > 0 && f->found[at - 1]->q < b->q; at--)
        f->found[at] = f->found[at - 1];
    f->found[at] = b;
}

/* RFC 5626 6: contacts of one instance are flows of one phone. */
static size_t device_of(const struct finding *f, size_t i)
{
    for (size_t k = 0; k < i && f->found[i]->instance[0]; k++)
        if (strcmp(f->found[k]->instance, f->found[i]->instance) == 0 &&
            strcmp(f->found[k]->user, f->found[i]->user) == 0)
            return k;
    return i;
}

static size_t tell(const struct finding *f)
{
    for (size_t i = 0; i < f->count; i++) {
        fill_target(f->registrar, f->found[i], &f->out[i]);
        f->out[i].device = (uint32_t)device_of(f, i);
    }
    return f->count;
}

/* In front of a PBX, rarely: the only address of record with this user part, or none. */
static const char *find_aor(const struct kg_registrar *registrar, const char *user)
{
    const char *aor = NULL;

    for (struct kg_binding *b = kg_bindings_next(registrar->bindings, NULL); b;
         b = kg_bindings_next(registrar->bindings, b)) {
        if (!kg_registrar_is_user(registrar, b, user))
            continue;
        if (aor && strcmp(aor, b->user) != 0)
            return "";
        aor = b->user;
    }
    return aor ? aor : "";
}

bool kg_registrar_is_at(const struct kg_registrar *registrar, const char *user, const struct kg_flow *flow)
{
    for (const struct kg_binding *b = kg_bindings_on_flow(registrar->bindings, flow); b; b = b->flow_next)
        if (kg_registrar_is_user(registrar, b, user))
            return true;
    return false;
}

size_t kg_registrar_lookup(struct kg_registrar *registrar, const char *user, struct kg_target *out,
                           size_t max)
{
    const char *aor = registrar->front ? find_aor(registrar, user) : user;
    struct finding f = start(registrar, out, max);

    for (const struct kg_binding *b = kg_bindings_of_user(registrar->bindings, aor); b; b = b->user_next)
        note(&f, b);
    return tell(&f);
}

/* The URI's user is a token of ours that a contact is registered by. */
static const struct kg_binding *by_token(const struct kg_registrar *registrar, const url_t *url)
{
    return url->url_user ? kg_bindings_of_device(registrar->bindings, url->url_user) : NULL;
}

static size_t find_by_token(struct kg_registrar *registrar, const url_t *url, const sip_route_t *route,
                            struct kg_target *out, size_t max)
{
    struct finding f = start(registrar, out, max);
    const struct kg_binding *b = route ? by_token(registrar, route->r_url) : NULL;

    if (!b)
        b = by_token(registrar, url);
    for (; b; b = b->device_next)
        note(&f, b);
    return tell(&f);
}

/* RFC 5627 3.1: the value of the gr parameter is the instance, escaped as URI parameters are. */
static bool is_named_by(const char *gr, const struct kg_binding *b)
{
    size_t len = strlen(b->instance);
    const char *instance = b->instance;

    if (len >= 2 && instance[0] == '<' && instance[len - 1] == '>') {
        instance++;
        len -= 2;
    }
    return strlen(gr) == len && memcmp(gr, instance, len) == 0;
}

static size_t find_by_user(struct kg_registrar *registrar, const url_t *url, struct kg_target *out,
                           size_t max)
{
    struct finding f = start(registrar, out, max);
    char user[128] = "", escaped[256] = "", gr[256] = "";
    const char *name = url->url_type == url_tel ? url->url_host : url->url_user;

    if (!name || strlen(name) >= sizeof user ||
        (url->url_params &&
         url_param(url->url_params, "gr", escaped, sizeof escaped) > (isize_t)sizeof escaped))
        return 0;
    url_unescape(user, name);
    url_unescape(gr, escaped);
    for (const struct kg_binding *b = kg_bindings_of_user(registrar->bindings, user); b; b = b->user_next)
        if (!gr[0] || is_named_by(gr, b))
            note(&f, b);
    return tell(&f);
}

size_t kg_registrar_find(struct kg_registrar *registrar, const url_t *url, const sip_route_t *route,
                         struct kg_target *out, size_t max)
{
    return registrar->front ? find_by_token(registrar, url, route, out, max)
                            : find_by_user(registrar, url, out, max);
}

int kg_registrar_by_flow(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user,
                         struct kg_target *out)
{
    const struct kg_binding *first = kg_bindings_on_flow(registrar->bindings, flow), *b = first;

    while (b && !kg_registrar_is_user(registrar, b, user))
        b = b->flow_next;
    if (!b)
        b = first;
    if (!b)
        return ENOENT;
    fill_target(registrar, b, out);
    return 0;
}
