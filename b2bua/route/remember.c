#include "b2bua/route/remember.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/store/store.h"
#include "conf/log.h"

bool kg_remember_key(const struct kg_server_at *at, char out[static KG_REMEMBER_KEY])
{
    struct kg_server_at bare = *at;
    char text[KG_SERVER_AT_STR];

    bare.priority = bare.weight = 0;
    bare.unverified = false;
    return (size_t)snprintf(out, KG_REMEMBER_KEY, "%s", kg_server_at_format(&bare, text)) < KG_REMEMBER_KEY;
}

void kg_remember(struct kg_store *store, const struct kg_server_at *at, const struct kg_place *place,
                 size_t count)
{
    struct kg_store_binding row = {.expires_ms = INT64_MAX};
    struct kg_addr numeric;
    char key[KG_REMEMBER_KEY], addr[KG_ADDR_STR];
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:i,s:s,s:i,s:i}", "transport", (int)place[i].at.transport,
                                              "addr", kg_addr_format(&place[i].at.addr, addr), "priority",
                                              (int)place[i].priority, "weight", (int)place[i].weight));
    size_t len = json_dumpb(list, row.json, sizeof row.json - 1, JSON_COMPACT);
    json_decref(list);
    if (store == NULL || kg_addr_parse_host(at->host, 1, &numeric) == 0 || !kg_remember_key(at, key) ||
        len >= sizeof row.json)
        return;
    snprintf(row.key, sizeof row.key, "%s", key);
    kg_store_put_server(store, &row);
}

struct recalling {
    struct kg_store *store;
    bool (*found)(void *ctx, const char *server, const struct kg_place *place, size_t count);
    void *ctx;
};

static bool read_place(const json_t *json, struct kg_place *out)
{
    int transport = 0, priority = 0, weight = 0;
    const char *addr = "";

    if (json_unpack((json_t *)(uintptr_t)json, "{s:i,s:s,s:i,s:i}", "transport", &transport, "addr", &addr,
                    "priority", &priority, "weight", &weight) != 0 ||
        transport < KG_UDP || transport > KG_TLS)
        return false;
    memset(out, 0, sizeof *out);
    out->at.transport = (enum kg_transport)transport;
    out->priority = (uint16_t)priority;
    out->weight = (uint16_t)weight;
    return kg_addr_parse(addr, &out->at.addr) == 0 && kg_addr_is_usable(&out->at.addr);
}

static void on_row(void *ctx, const struct kg_store_binding *row)
{
    const struct recalling *r = ctx;
    struct kg_place place[KG_PLACES_MAX];
    json_t *list = json_loads(row->json, 0, NULL), *item;
    size_t count = 0, i;

    json_array_foreach(list, i, item)
    {
        if (count < KG_PLACES_MAX && read_place(item, &place[count]))
            count++;
    }
    json_decref(list);
    if (!r->found(r->ctx, row->key, place, count))
        kg_store_delete_server(r->store, row->key);
}

void kg_recall(struct kg_store *store,
               bool (*found)(void *ctx, const char *server, const struct kg_place *place, size_t count),
               void *ctx)
{
    struct recalling recalling = {store, found, ctx};

    if (store != NULL && kg_store_each_server(store, on_row, &recalling) != 0)
        kg_warn("route", "where servers were found last cannot be read: DNS must answer before they serve");
}
