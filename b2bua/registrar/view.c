/* Registrations and accounts as JSON, for kedgectl and the API. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/route/peers.h"
#include "conf/clock.h"

/* SIP strings need not be UTF-8, JSON's must be: anything else is shown as '?'. */
static json_t *string_of(const char *text)
{
    json_t *json = json_string(text);
    char *copy;

    if (json)
        return json;
    copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json = json_string(copy ? copy : "");
    free(copy);
    return json;
}

static json_t *lines_of(const char *text)
{
    json_t *list = json_array();

    while (*text) {
        size_t len = strcspn(text, "\n");

        json_array_append_new(list, json_stringn(text, len));
        text += len + (text[len] == '\n');
    }
    return list;
}

static json_t *keepalive_of(const struct kg_registrar *registrar, const struct kg_binding *b)
{
    const struct kg_learn_bounds bounds = kg_keepalive_bounds(registrar, &b->flow);
    char words[128];

    kg_learn_words(&b->learn, &bounds, words, sizeof words);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "state", kg_learn_state_name(b->learn.state),
                     "words", words, "interval_ms", (json_int_t)b->learn.interval_ms, "proven_ms",
                     (json_int_t)b->learn.proven_ms, "broken_ms", (json_int_t)b->learn.broken_ms, "min_ms",
                     (json_int_t)bounds.min_ms, "max_ms", (json_int_t)bounds.max_ms);
}

static json_t *binding_of(const struct kg_registrar *registrar, const struct kg_binding *b, int64_t now_ms)
{
    char remote[KG_ADDR_STR], local[KG_ADDR_STR];
    char user[KG_AOR_SIZE];
    size_t user_len = kg_registrar_user_part(registrar, b);
    snprintf(user, sizeof user, "%.*s", (int)user_len, b->user);
    json_t *json = json_pack(
        "{s:o, s:o, s:s, s:s, s:s, s:b, s:o, s:o, s:I, s:I, s:i, s:b, s:i}", "user", string_of(user),
        "contact", string_of(b->uri), "transport", kg_transport_name(b->flow.transport), "remote",
        kg_addr_format(&b->flow.remote, remote), "local", kg_addr_format(&b->flow.local, local), "nat",
        b->nat, "nat_reasons", lines_of(b->nat_reasons), "user_agent", string_of(b->user_agent), "expires_in",
        (json_int_t)((b->expires_ms - now_ms) / 1000), "registered", (json_int_t)b->registered_ms,
        "keepalive_s", b->keepalive_ms == KG_DUE_NEVER ? 0 : (int)((b->learn.interval_ms + 500) / 1000),
        "reachable", b->flow.tport && kg_flow_is_up(&b->flow), "unanswered", (int)b->learn.unanswered);

    if (json && b->keepalive_ms != KG_DUE_NEVER)
        json_object_set_new(json, "keepalive", keepalive_of(registrar, b));
    if (json && b->instance[0])
        json_object_set_new(json, "instance", string_of(b->instance));
    if (json && b->reg_id > 0)
        json_object_set_new(json, "reg_id", json_integer(b->reg_id));
    if (json && b->path[0])
        json_object_set_new(json, "path", string_of(b->path));
    if (json && registrar->front) {
        json_object_set_new(json, "domain", string_of(b->user[user_len] ? b->user + user_len + 1 : ""));
        json_object_set_new(json, "token", string_of(b->device));
        json_object_set_new(json, "pbx", string_of(kg_peers_name(registrar->server->peers, b->pbx)));
        json_object_set_new(json, "pbx_expires_in", json_integer((b->pbx_until_ms - now_ms) / 1000));
    }
    return json;
}

json_t *kg_registrar_json(const struct kg_registrar *registrar)
{
    json_t *list = json_array();
    int64_t now_ms = kg_mono_ms();

    for (const struct kg_binding *b = kg_bindings_next(registrar->bindings, NULL); b;
         b = kg_bindings_next(registrar->bindings, (struct kg_binding *)b))
        json_array_append_new(list, binding_of(registrar, b, now_ms));
    return list;
}

json_t *kg_registrar_accounts_json(const struct kg_registrar *registrar)
{
    json_t *list = json_array();

    if (!registrar->accounts)
        return list;
    for (const struct kg_account *a = kg_accounts_next(registrar->accounts, NULL); a;
         a = kg_accounts_next(registrar->accounts, a))
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I}", "name", a->name, "contacts",
                                        (json_int_t)kg_bindings_count_of_user(registrar->bindings, a->name),
                                        "created", (json_int_t)a->created_ms));
    return list;
}
