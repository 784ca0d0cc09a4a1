/* The routes of the control API, and what each does on the signalling thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/calls.h"
#include "b2bua/control/exchange.h"
#include "b2bua/guard/guard.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/request/request.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "b2bua/store/store.h"
#include "conf/clock.h"
#include "conf/log.h"
#include "media/client.h"

static void get_version(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    json_t *json =
        json_pack("{s:s, s:I}", "version", KG_VERSION, "started", (json_int_t)request->server->started_ms);

    kg_exchange_answer(exchange, 200, json);
}

static void get_registrations(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_exchange_answer(exchange, 200, kg_registrar_json(request->server->registrar));
}

static void get_subscriptions(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_exchange_answer(exchange, 200, kg_requests_subscriptions_json(request->server->requests));
}

static void calls_done(void *ctx, json_t *json)
{
    kg_exchange_answer(ctx, 200, json != NULL ? json : json_array());
}

static void get_calls(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_calls_list(request->server->calls, request->recent, calls_done, exchange);
}

static void explain_done(void *ctx, json_t *json)
{
    if (json != NULL)
        kg_exchange_answer(ctx, 200, json);
    else
        kg_exchange_refuse(ctx, 404, "no current or recent call has this id, or several ids begin like it");
}

static void get_call(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_calls_explain(request->server->calls, request->name, explain_done, exchange);
}

static void delete_call(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    if (kg_calls_hangup(request->server->calls, request->name) == 0)
        kg_exchange_answer(exchange, 200, json_pack("{s:b}", "ok", 1));
    else
        kg_exchange_refuse(exchange, 404, "no current call has the id %s", request->name);
}

static void get_trunks(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_exchange_answer(exchange, 200, kg_trunks_json(request->server->trunks));
}

static void set_number(json_t *json, const char *name, uint64_t value)
{
    json_object_set_new(json, name, json_integer((json_int_t)value));
}

/* Gauges first, then every counter under the name it has in counters.inc. */
static void get_stats(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    struct kg_server *server = request->server;
    json_t *json = json_object(), *registrations = kg_registrar_json(server->registrar);
    char why[200] = "";
    bool healthy = kg_store_is_healthy(server->store, why, sizeof why);

    set_number(json, "uptime_s", (uint64_t)(kg_wall_ms() - server->started_ms) / 1000);
    set_number(json, "calls", kg_calls_count(server->calls));
    set_number(json, "registrations", json_array_size(registrations));
    struct kg_sip_gauges sip = kg_sip_gauges(server->sip);
    set_number(json, "dialogs", sip.dialogs);
    set_number(json, "transactions_in", sip.transactions_in);
    set_number(json, "transactions_out", sip.transactions_out);
    set_number(json, "subscriptions", kg_requests_subscriptions(server->requests));
    json_object_set_new(json, "media_up", json_boolean(kg_media_client_is_up(server->media)));
    json_object_set_new(json, "store_healthy", json_boolean(healthy));
    set_number(json, "store_waiting", kg_store_waiting(server->store));
    if (!healthy)
        json_object_set_new(json, "store_problem", json_string(why));
#define C(name, doc) set_number(json, #name, kg_counters.name);
#include "b2bua/counters.inc"
#undef C
    json_decref(registrations);
    kg_exchange_answer(exchange, 200, json);
}

static void reload_done(void *ctx, const char *text)
{
    json_t *json = json_loads(text, 0, NULL);

    if (json == NULL)
        kg_exchange_refuse(ctx, 500, "the supervisor's answer cannot be read; see the log");
    else
        kg_exchange_answer(ctx, json_is_true(json_object_get(json, "ok")) ? 200 : 422, json);
}

static void get_peers(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    kg_exchange_answer(exchange, 200, kg_peers_json(request->server->peers));
}

static void post_reload(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    request->reload(request->reload_ctx, reload_done, exchange);
}

static void account_failed(struct kg_exchange *exchange, int error, const char *name)
{
    switch (error) {
    case EEXIST:
        kg_exchange_refuse(exchange, 409, "the account %s exists already", name);
        break;
    case ENOENT:
        kg_exchange_refuse(exchange, 404, "there is no account %s", name);
        break;
    case ENOTSUP:
        kg_exchange_refuse(exchange, 409, "this kedge stands in front of a PBX: its accounts are there");
        break;
    case EINVAL:
        kg_exchange_refuse(exchange, 400, "%s cannot be an account: use letters, digits and . _ - +", name);
        break;
    default:
        kg_exchange_refuse(exchange, 500, "the store cannot be written; kedge's log says why");
    }
}

static void get_accounts(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    if (request->server->config.pbx_count > 0)
        account_failed(exchange, ENOTSUP, "");
    else
        kg_exchange_answer(exchange, 200, kg_registrar_accounts_json(request->server->registrar));
}

static void post_account(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    const char *name = json_string_value(json_object_get(request->body, "name"));
    const char *password = json_string_value(json_object_get(request->body, "password"));
    int error;

    if (name == NULL || password == NULL || password[0] == '\0' || strlen(name) >= KG_CONTROL_NAME_MAX) {
        kg_exchange_refuse(exchange, 400, "an account needs a name and a password that is not empty");
        return;
    }
    error = kg_registrar_account_add(request->server->registrar, name, password);
    if (error == 0)
        kg_exchange_answer(exchange, 201, json_pack("{s:s}", "name", name));
    else
        account_failed(exchange, error, name);
}

static void delete_account(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    int error = kg_registrar_account_remove(request->server->registrar, request->name);

    if (error == 0)
        kg_exchange_answer(exchange, 200, json_pack("{s:b}", "ok", 1));
    else
        account_failed(exchange, error, request->name);
}

/* A table of bans is small; a flood may make many. */
#define BANS_SHOWN 1024

static void get_bans(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    struct kg_guard_ban *bans = calloc(BANS_SHOWN, sizeof *bans);
    int64_t now_ms = kg_mono_ms(), wall_ms = kg_wall_ms();
    size_t count = bans ? kg_guard_bans(request->server->guard, now_ms, bans, BANS_SHOWN) : 0;
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        char address[KG_ADDR_STR], user[4 * KG_GUARD_USER_MAX]; /* bytes of a stranger's, perhaps cut */
        kg_log_escape(bans[i].user, user, sizeof user);
        json_int_t since_ms = wall_ms - now_ms + bans[i].since_ms;
        json_int_t left_s = (bans[i].until_ms - now_ms + 999) / 1000;
        kg_addr_format_host(&bans[i].source, address);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:b}", "address", address, "user",
                                        user, "why", kg_guard_why(bans[i].why), "since", since_ms, "left_s",
                                        left_s, "times", (int)bans[i].times, "proven", bans[i].proven));
    }
    free(bans);
    kg_exchange_answer(exchange, 200, list);
}

static void delete_ban(struct kg_exchange *exchange, const struct kg_api_request *request)
{
    struct kg_addr source;

    if (kg_addr_parse_host(request->name, 0, &source) != 0)
        kg_exchange_refuse(exchange, 400, "%s is no address: kedgectl bans shows those that are banned",
                           request->name);
    else if (kg_guard_unban(request->server->guard, &source, kg_mono_ms()) == 0)
        kg_exchange_refuse(exchange, 404, "%s is not banned", request->name);
    else
        kg_exchange_answer(exchange, 200, json_pack("{s:b}", "ok", 1));
}

/* A path that ends in "/" takes a name behind it. */
static const struct {
    const char *method, *path;
    kg_api_fn *fn;
} routes[] = {
    {"GET", "/v1/version", get_version},
    {"GET", "/v1/registrations", get_registrations},
    {"GET", "/v1/subscriptions", get_subscriptions},
    {"GET", "/v1/trunks", get_trunks},
    {"GET", "/v1/calls", get_calls},
    {"GET", "/v1/calls/", get_call},
    {"DELETE", "/v1/calls/", delete_call},
    {"GET", "/v1/stats", get_stats},
    {"GET", "/v1/peers", get_peers},
    {"POST", "/v1/reload", post_reload},
    {"GET", "/v1/accounts", get_accounts},
    {"POST", "/v1/accounts", post_account},
    {"DELETE", "/v1/accounts/", delete_account},
    {"GET", "/v1/bans", get_bans},
    {"DELETE", "/v1/bans/", delete_ban},
};

int kg_api_find(const char *method, const char *path, kg_api_fn **fn, char name[static KG_CONTROL_NAME_MAX])
{
    int error = ENOENT;

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!kg_api_fits(routes[i].path, path, name))
            continue;
        error = EPERM;
        if (strcmp(method, routes[i].method) != 0)
            continue;
        *fn = routes[i].fn;
        return 0;
    }
    name[0] = '\0';
    return error;
}
