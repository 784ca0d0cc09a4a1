/* Bindings in the store: one JSON object a contact, written at every change, read at start. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/store/store.h"
#include "conf/clock.h"
#include "conf/log.h"

/* --- writing: once a REGISTER, so by hand ------------------------------------------------------------------
 */

struct text {
    char *out;
    size_t size, used;
    bool fits;
};

static void put_raw(struct text *t, const char *raw, size_t len)
{
    if (t->used + len >= t->size) {
        t->fits = false;
        return;
    }
    memcpy(t->out + t->used, raw, len);
    t->used += len;
    t->out[t->used] = '\0';
}

static void put_string(struct text *t, const char *name, const char *value)
{
    char head[32], escaped[8];
    int n = snprintf(head, sizeof head, "%s\"%s\":\"", t->used > 1 ? "," : "", name);

    put_raw(t, head, (size_t)n);
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (*c >= 0x20 && *c < 0x7f && *c != '"' && *c != '\\') {
            put_raw(t, (const char *)c, 1);
        } else {
            /* Bytes beyond ASCII are written as code points of their own: what SIP sends need not be UTF-8.
             */
            n = snprintf(escaped, sizeof escaped, "\\u%04x", *c);
            put_raw(t, escaped, (size_t)n);
        }
    }
    put_raw(t, "\"", 1);
}

static void put_number(struct text *t, const char *name, int64_t value)
{
    char field[64];
    int n = snprintf(field, sizeof field, ",\"%s\":%lld", name, (long long)value);

    put_raw(t, field, (size_t)n);
}

/* Of monotonic times the wall clock's is stored: they come back in another process. */
void kg_persist_put(struct kg_registrar *registrar, const struct kg_binding *b)
{
    struct kg_store_binding row;
    struct text t = {row.json, sizeof row.json, 0, true};
    char addr[KG_ADDR_STR];
    int64_t offset_ms = kg_wall_ms() - kg_mono_ms();

    if (!registrar->server->store)
        return;
    snprintf(row.key, sizeof row.key, "%s", b->token);
    snprintf(row.user, sizeof row.user, "%s", b->user);
    row.expires_ms = b->expires_ms + offset_ms;
    put_raw(&t, "{", 1);
    put_string(&t, "uri", b->uri);
    put_string(&t, "instance", b->instance);
    put_string(&t, "call_id", b->call_id);
    put_string(&t, "agent", b->user_agent);
    put_string(&t, "transport", kg_transport_name(b->flow.transport));
    put_string(&t, "remote", kg_addr_format(&b->flow.remote, addr));
    put_string(&t, "local", kg_addr_format(&b->flow.local, addr));
    put_string(&t, "nat_reasons", b->nat_reasons);
    if (b->path[0])
        put_string(&t, "path", b->path);
    if (strcmp(b->device, b->token) != 0)
        put_string(&t, "device", b->device);
    put_number(&t, "nat", b->nat);
    put_number(&t, "reg_id", b->reg_id);
    put_number(&t, "cseq", b->cseq);
    if (b->q != KG_Q_DEFAULT)
        put_number(&t, "q", b->q);
    put_number(&t, "registered", b->registered_ms);
    if (b->learn.proven_ms > 0 || b->learn.broken_ms > 0) {
        put_number(&t, "alive_interval", b->learn.interval_ms);
        put_number(&t, "alive_proven", b->learn.proven_ms);
        put_number(&t, "alive_broken", b->learn.broken_ms);
        put_number(&t, "alive_broken_at", b->learn.broken_at_ms);
    }
    if (b->nonce[0]) {
        put_string(&t, "nonce", b->nonce);
        put_number(&t, "nc", b->nc);
    }
    if (registrar->front) {
        put_string(&t, "auth_user", b->auth_user);
        put_string(&t, "service_route", b->service_route);
        put_string(&t, "gruu", b->gruu);
        put_number(&t, "pbx", b->pbx);
        put_number(&t, "pbx_until", b->pbx_until_ms + offset_ms);
        put_number(&t, "pbx_renew", b->pbx_renew_ms + offset_ms);
    }
    put_raw(&t, "}", 1);
    if (!t.fits)
        kg_warn("registrar", "the contact %s of %s is too long to be stored: it is lost in a restart", b->uri,
                b->user);
    else if (kg_store_put_binding(registrar->server->store, &row))
        kg_registrar_complain(registrar, "registration not stored, too many are waiting", b->user, &b->flow);
}

void kg_persist_delete(struct kg_registrar *registrar, const struct kg_binding *b)
{
    if (registrar->server->store)
        kg_store_delete_binding(registrar->server->store, b->token);
}

/* --- reading ----------------------------------------------------------------------------------------------
 */

static const char *get_string(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));

    return value ? value : "";
}

static int64_t get_number(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

/* A contact whose stream is gone waits without a transport, unreachable, until the phone connects again or it
 * expires. */
static int restore_flow(struct kg_registrar *registrar, const json_t *json, struct kg_flow *out)
{
    return kg_flow_restore(kg_registrar_agent(registrar), get_string(json, "transport"),
                           get_string(json, "remote"), get_string(json, "local"), out);
}

static int restore(struct kg_registrar *registrar, const struct kg_store_binding *row, const json_t *json,
                   const struct kg_flow *flow)
{
    const char *uri = get_string(json, "uri");
    int64_t offset_ms = kg_wall_ms() - kg_mono_ms();
    char copy[512], key[512];
    struct kg_contact contact = {.user = row->user,
                                 .uri = uri,
                                 .key = key,
                                 .instance = get_string(json, "instance"),
                                 .reg_id = (uint32_t)get_number(json, "reg_id"),
                                 .call_id = get_string(json, "call_id"),
                                 .cseq = (uint32_t)get_number(json, "cseq"),
                                 .q = json_object_get(json, "q") ? (uint16_t)get_number(json, "q")
                                                                 : KG_Q_DEFAULT,
                                 .user_agent = get_string(json, "agent"),
                                 .flow = flow,
                                 .device = get_string(json, "device"),
                                 .path = get_string(json, "path")};
    struct kg_learn_bounds bounds;
    struct kg_binding *b;
    url_t url;

    if (strlen(uri) >= sizeof copy || strlen(row->key) >= KG_TOKEN_SIZE)
        return EINVAL;
    memcpy(copy, uri, strlen(uri) + 1);
    if (url_d(&url, copy) < 0 || kg_contact_key(&url, key, sizeof key))
        return EINVAL;
    b = kg_bindings_put(registrar->bindings, NULL, row->key, &contact, row->expires_ms - offset_ms);
    if (!b)
        return ENOMEM;
    b->registered_ms = get_number(json, "registered");
    b->nat = get_number(json, "nat") != 0;
    kg_binding_set(&b->nat_reasons, get_string(json, "nat_reasons"));
    snprintf(b->nonce, sizeof b->nonce, "%s", get_string(json, "nonce"));
    b->nc = (uint32_t)get_number(json, "nc");
    if (b->nonce[0])
        kg_digest_restore(registrar->digest, b->nonce, b->nc);
    kg_binding_set(&b->auth_user, get_string(json, "auth_user"));
    kg_binding_set(&b->service_route, get_string(json, "service_route"));
    kg_binding_set(&b->gruu, get_string(json, "gruu"));
    b->pbx = (uint32_t)get_number(json, "pbx");
    b->pbx_until_ms = get_number(json, "pbx_until") - offset_ms;
    b->pbx_renew_ms = get_number(json, "pbx_renew") - offset_ms;
    bounds = kg_keepalive_bounds(registrar, &b->flow);
    kg_learn_restore(&b->learn, &bounds, (uint32_t)get_number(json, "alive_interval"),
                     (uint32_t)get_number(json, "alive_proven"), (uint32_t)get_number(json, "alive_broken"),
                     get_number(json, "alive_broken_at"), kg_wall_ms());
    kg_keepalive_restored(registrar, b, kg_mono_ms());
    kg_standing_registered(registrar, b);
    return 0;
}

/* In front of a PBX it is one that the PBX knows, without it one of an account here. After a change between
 * the two the phone must say anew who it is. */
static bool is_of_this_mode(const struct kg_registrar *registrar, const json_t *json)
{
    return (json_object_get(json, "pbx") != NULL) == (registrar->front != NULL);
}

static void on_row(void *ctx, const struct kg_store_binding *row)
{
    struct kg_registrar *registrar = ctx;
    json_t *json = json_loads(row->json, 0, NULL);
    struct kg_flow flow = {0};
    int err = EINVAL;

    if (row->expires_ms <= kg_wall_ms() || (json && !is_of_this_mode(registrar, json)))
        err = ETIME; /* silently */
    else if (json && !(err = restore_flow(registrar, json, &flow)))
        err = restore(registrar, row, json, &flow);
    kg_flow_clear(&flow);
    json_decref(json);
    if (!err)
        return;
    if (err != ETIME)
        kg_warn("registrar", "a stored contact of %s cannot be used again: %s. It must register anew",
                row->user, strerror(err));
    kg_store_delete_binding(registrar->server->store, row->key);
}

void kg_persist_load(struct kg_registrar *registrar)
{
    size_t count;

    if (!registrar->server->store)
        return;
    kg_store_each_binding(registrar->server->store, on_row, registrar);
    count = kg_bindings_count(registrar->bindings);
    if (count > 0)
        kg_info("registrar", "%zu registered contacts are back from the store", count);
}
