#include "b2bua/registrar/bindings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Over UDP a flow is a pair of addresses; a stream is itself. A stream's binding from before a restart is on
 * no flow. */
struct path_key {
    const tport_t *stream;
    struct kg_addr remote, local;
};

struct path {
    struct path_key key;
    struct kg_binding *list;
    UT_hash_handle hh;
};

struct aor {
    char *user;
    struct kg_binding *list;
    size_t count;
    UT_hash_handle hh;
};

struct device {
    char name[KG_TOKEN_SIZE];
    struct kg_binding *list;
    UT_hash_handle hh;
};

struct kg_bindings {
    struct aor *aors;
    struct device *devices;
    struct path *paths;
    struct kg_binding *tokens;
    struct kg_binding **heap; /* least due time first */
    size_t heap_count, heap_size;
};

/* --- due times: a binary heap ------------------------------------------------------------------------------
 */

static int64_t due_ms(const struct kg_binding *b)
{
    return b->keepalive_ms < b->expires_ms ? b->keepalive_ms : b->expires_ms;
}

static void heap_place(struct kg_bindings *t, size_t at, struct kg_binding *b)
{
    t->heap[at] = b;
    b->heap_at = at;
}

static void heap_settle(struct kg_bindings *t, struct kg_binding *b)
{
    size_t at = b->heap_at;

    while (at > 0 && due_ms(b) < due_ms(t->heap[(at - 1) / 2])) {
        heap_place(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < t->heap_count && due_ms(t->heap[child + 1]) < due_ms(t->heap[child]))
            child++;
        if (child >= t->heap_count || due_ms(b) <= due_ms(t->heap[child]))
            break;
        heap_place(t, at, t->heap[child]);
        at = child;
    }
    heap_place(t, at, b);
}

static bool heap_reserve(struct kg_bindings *t)
{
    size_t size = t->heap_size ? t->heap_size * 2 : 64;
    struct kg_binding **heap;

    if (t->heap_count < t->heap_size)
        return true;
    heap = realloc(t->heap, size * sizeof(*heap));
    if (!heap)
        return false;
    t->heap = heap;
    t->heap_size = size;
    return true;
}

static void heap_add(struct kg_bindings *t, struct kg_binding *b)
{
    heap_place(t, t->heap_count++, b);
    heap_settle(t, b);
}

static void heap_remove(struct kg_bindings *t, struct kg_binding *b)
{
    struct kg_binding *last = t->heap[--t->heap_count];

    if (last == b)
        return;
    heap_place(t, b->heap_at, last);
    heap_settle(t, last);
}

struct kg_binding *kg_bindings_due(const struct kg_bindings *t, int64_t now_ms)
{
    return t->heap_count > 0 && due_ms(t->heap[0]) <= now_ms ? t->heap[0] : NULL;
}

void kg_bindings_moved(struct kg_bindings *t, struct kg_binding *b)
{
    heap_settle(t, b);
}

/* --- users and flows --------------------------------------------------------------------------------------
 */

static struct aor *find_aor(const struct kg_bindings *t, const char *user)
{
    struct aor *aor;

    HASH_FIND_STR(t->aors, user, aor);
    return aor;
}

static struct aor *make_aor(struct kg_bindings *t, const char *user)
{
    struct aor *aor = find_aor(t, user);

    if (aor)
        return aor;
    aor = calloc(1, sizeof *aor);
    if (!aor || !(aor->user = strdup(user))) {
        free(aor);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, t->aors, aor->user, strlen(aor->user), aor);
    return aor;
}

static void drop_aor_if_empty(struct kg_bindings *t, struct aor *aor)
{
    if (aor->list)
        return;
    HASH_DEL(t->aors, aor);
    free(aor->user);
    free(aor);
}

static void copy_addr(struct kg_addr *to, const struct kg_addr *from)
{
    /* Hashed byte by byte: what does not count must be zero. */
    if (kg_addr_family(from) == AF_INET) {
        to->in4.sin_family = AF_INET;
        to->in4.sin_port = from->in4.sin_port;
        to->in4.sin_addr = from->in4.sin_addr;
    } else if (kg_addr_family(from) == AF_INET6) {
        to->in6.sin6_family = AF_INET6;
        to->in6.sin6_port = from->in6.sin6_port;
        to->in6.sin6_addr = from->in6.sin6_addr;
        to->in6.sin6_scope_id = from->in6.sin6_scope_id;
    }
}

/* False: this flow is on no path (a stream lost in a restart). */
static bool make_path_key(const struct kg_flow *flow, struct path_key *key)
{
    memset(key, 0, sizeof *key);
    if (flow->transport == KG_UDP) {
        copy_addr(&key->remote, &flow->remote);
        copy_addr(&key->local, &flow->local);
        return true;
    }
    key->stream = flow->tport;
    return flow->tport != NULL;
}

static struct path *find_path(const struct kg_bindings *t, const struct kg_flow *flow)
{
    struct path_key key;
    struct path *path = NULL;

    if (make_path_key(flow, &key))
        HASH_FIND(hh, t->paths, &key, sizeof key, path);
    return path;
}

static void leave_path(struct kg_bindings *t, struct kg_binding *b)
{
    struct path *path = find_path(t, &b->flow);

    if (!path)
        return;
    DL_DELETE2(path->list, b, flow_prev, flow_next);
    if (path->list)
        return;
    HASH_DEL(t->paths, path);
    free(path);
}

static void join_path(struct kg_bindings *t, struct kg_binding *b, struct path *spare)
{
    struct path *path = find_path(t, &b->flow);

    if (path) {
        free(spare);
    } else if (make_path_key(&b->flow, &spare->key)) {
        path = spare;
        HASH_ADD(hh, t->paths, key, sizeof path->key, path);
    } else {
        free(spare);
        return;
    }
    DL_PREPEND2(path->list, b, flow_prev, flow_next);
}

static struct device *find_device(const struct kg_bindings *t, const char *name)
{
    struct device *device;

    HASH_FIND_STR(t->devices, name, device);
    return device;
}

static bool join_device(struct kg_bindings *t, struct kg_binding *b)
{
    struct device *device = find_device(t, b->device);

    if (!device) {
        device = calloc(1, sizeof *device);
        if (!device)
            return false;
        memcpy(device->name, b->device, sizeof device->name);
        HASH_ADD_STR(t->devices, name, device);
    }
    DL_PREPEND2(device->list, b, device_prev, device_next);
    return true;
}

static void leave_device(struct kg_bindings *t, struct kg_binding *b)
{
    struct device *device = find_device(t, b->device);

    DL_DELETE2(device->list, b, device_prev, device_next);
    if (device->list)
        return;
    HASH_DEL(t->devices, device);
    free(device);
}

/* --- bindings ---------------------------------------------------------------------------------------------
 */

bool kg_binding_set(char **field, const char *text)
{
    char *copy;

    if (*field && strcmp(*field, text) == 0)
        return true;
    copy = strdup(text);
    if (!copy)
        return false;
    free(*field);
    *field = copy;
    return true;
}

static void binding_free(struct kg_binding *b)
{
    kg_flow_clear(&b->flow);
    free(b->user);
    free(b->uri);
    free(b->key);
    free(b->instance);
    free(b->call_id);
    free(b->user_agent);
    free(b->nat_reasons);
    free(b->path);
    free(b->service_route);
    free(b->gruu);
    free(b->auth_user);
    free(b);
}

struct kg_bindings *kg_bindings_new(void)
{
    return calloc(1, sizeof(struct kg_bindings));
}

void kg_bindings_free(struct kg_bindings *t)
{
    struct kg_binding *b, *next;

    if (!t)
        return;
    HASH_ITER(hh, t->tokens, b, next)
    {
        kg_bindings_remove(t, b);
    }
    free(t->heap);
    free(t);
}

size_t kg_bindings_count(const struct kg_bindings *t)
{
    return HASH_COUNT(t->tokens);
}

static bool is_refresh_of(const struct kg_binding *b, const struct kg_contact *c)
{
    if (c->instance[0] && b->instance[0])
        return strcmp(c->instance, b->instance) == 0 && c->reg_id == b->reg_id;
    if (strcmp(c->key, b->key) != 0)
        return false;
    return !c->private_host || strcmp(c->call_id, b->call_id) == 0 ||
           kg_addr_same_host(&c->flow->remote, &b->flow.remote);
}

struct kg_binding *kg_bindings_find(const struct kg_bindings *t, const struct kg_contact *contact)
{
    struct aor *aor = find_aor(t, contact->user);

    for (struct kg_binding *b = aor ? aor->list : NULL; b; b = b->user_next)
        if (is_refresh_of(b, contact))
            return b;
    return NULL;
}

static bool set_fields(struct kg_binding *b, const struct kg_contact *c)
{
    if (!kg_binding_set(&b->uri, c->uri) || !kg_binding_set(&b->key, c->key) ||
        !kg_binding_set(&b->instance, c->instance) || !kg_binding_set(&b->call_id, c->call_id) ||
        !kg_binding_set(&b->user_agent, c->user_agent) || !kg_binding_set(&b->user, c->user) ||
        !kg_binding_set(&b->path, c->path))
        return false;
    b->reg_id = c->reg_id;
    b->q = c->q;
    b->cseq = c->cseq;
    return true;
}

static struct kg_binding *binding_new(struct kg_bindings *t, const char *token, const struct kg_contact *c)
{
    struct kg_binding *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    if (!set_fields(b, c) || !kg_binding_set(&b->nat_reasons, "") || !kg_binding_set(&b->auth_user, "") ||
        !kg_binding_set(&b->service_route, "") || !kg_binding_set(&b->gruu, "") || !heap_reserve(t)) {
        binding_free(b);
        return NULL;
    }
    snprintf(b->token, sizeof b->token, "%s", token);
    snprintf(b->device, sizeof b->device, "%s", c->device && c->device[0] ? c->device : token);
    if (!join_device(t, b)) {
        binding_free(b);
        return NULL;
    }
    b->keepalive_ms = KG_DUE_NEVER;
    return b;
}

static void set_flow(struct kg_bindings *t, struct kg_binding *b, const struct kg_flow *flow,
                     struct path *spare)
{
    struct kg_flow copy;

    if (kg_addr_is_set(&b->flow.remote) && kg_flow_same(&b->flow, flow)) {
        free(spare);
        return;
    }
    leave_path(t, b);
    kg_flow_copy(&copy, flow);
    kg_flow_clear(&b->flow);
    b->flow = copy;
    join_path(t, b, spare);
}

struct kg_binding *kg_bindings_put(struct kg_bindings *t, struct kg_binding *b, const char *token,
                                   const struct kg_contact *c, int64_t expires_ms)
{
    struct aor *aor = make_aor(t, c->user);
    struct path *spare = calloc(1, sizeof *spare);
    bool is_new = !b;

    if (!aor || !spare || (is_new ? !(b = binding_new(t, token, c)) : !set_fields(b, c))) {
        free(spare);
        if (aor)
            drop_aor_if_empty(t, aor);
        return NULL;
    }
    set_flow(t, b, c->flow, spare);
    b->expires_ms = expires_ms;
    if (is_new) {
        HASH_ADD_STR(t->tokens, token, b);
        heap_add(t, b);
        aor->count++;
    } else {
        DL_DELETE2(aor->list, b, user_prev, user_next);
        heap_settle(t, b);
    }
    DL_PREPEND2(aor->list, b, user_prev, user_next);
    return b;
}

void kg_bindings_remove(struct kg_bindings *t, struct kg_binding *b)
{
    struct aor *aor = find_aor(t, b->user);

    DL_DELETE2(aor->list, b, user_prev, user_next);
    aor->count--;
    drop_aor_if_empty(t, aor);
    leave_path(t, b);
    leave_device(t, b);
    heap_remove(t, b);
    HASH_DEL(t->tokens, b);
    binding_free(b);
}

struct kg_binding *kg_bindings_of_user(const struct kg_bindings *t, const char *user)
{
    struct aor *aor = find_aor(t, user);

    return aor ? aor->list : NULL;
}

size_t kg_bindings_count_of_user(const struct kg_bindings *t, const char *user)
{
    struct aor *aor = find_aor(t, user);

    return aor ? aor->count : 0;
}

struct kg_binding *kg_bindings_by_token(const struct kg_bindings *t, const char *token)
{
    struct kg_binding *b;

    HASH_FIND_STR(t->tokens, token, b);
    return b;
}

struct kg_binding *kg_bindings_of_device(const struct kg_bindings *t, const char *device)
{
    struct device *found = find_device(t, device);

    return found ? found->list : NULL;
}

struct kg_binding *kg_bindings_on_flow(const struct kg_bindings *t, const struct kg_flow *flow)
{
    struct path *path = find_path(t, flow);

    return path ? path->list : NULL;
}

struct kg_binding *kg_bindings_on_stream(const struct kg_bindings *t, const tport_t *tport)
{
    struct path_key key;
    struct path *path;

    memset(&key, 0, sizeof key);
    key.stream = tport;
    HASH_FIND(hh, t->paths, &key, sizeof key, path);
    return path ? path->list : NULL;
}

struct kg_binding *kg_bindings_next(const struct kg_bindings *t, struct kg_binding *b)
{
    return b ? b->hh.next : t->tokens;
}

/* --- URIs -------------------------------------------------------------------------------------------------
 */

static void lower(char *text)
{
    for (; *text; text++)
        *text = (char)tolower((unsigned char)*text);
}

int kg_contact_key(const url_t *url, char *out, size_t size)
{
    char transport[16] = "", maddr[64] = "", host[256];
    int n;

    if (url->url_params) {
        if (url_param(url->url_params, "transport", transport, sizeof transport) >
                (isize_t)sizeof transport ||
            url_param(url->url_params, "maddr", maddr, sizeof maddr) > (isize_t)sizeof maddr)
            return E2BIG;
    }
    n = snprintf(host, sizeof host, "%s", url->url_host ? url->url_host : "");
    if (n >= (int)sizeof host)
        return E2BIG;
    lower(host);
    lower(transport);
    lower(maddr);
    n = snprintf(out, size, "%s:%s@%s:%s;%s;%s", url->url_type == url_sips ? "sips" : "sip",
                 url->url_user ? url->url_user : "", host, url->url_port ? url->url_port : "", transport,
                 maddr);
    return n < (int)size ? 0 : E2BIG;
}
