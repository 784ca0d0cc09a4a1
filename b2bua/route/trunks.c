#include "b2bua/route/trunks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/su_wait.h>
#include <sofia-sip/url.h>
#include <utlist.h>

#include "b2bua/route/caps.h"
#include "b2bua/route/numbers.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/trunk.h"
#include "conf/clock.h"
#include "conf/log.h"

/* How often it is looked whose time has come. */
#define TICK_MS 250

/* ---- one ---- */

static void name_domain(struct kg_trunk *trunk)
{
    const struct kg_trunk_config *config = &trunk->config;
    const struct kg_server_at *at = &config->server[0];
    bool bare = strchr(at->host, ':') != NULL;
    snprintf(trunk->domain, sizeof trunk->domain, bare ? "[%s]" : "%s", at->host);
    if (config->domain[0])
        snprintf(trunk->domain, sizeof trunk->domain, "%s", config->domain);
    else if (at->port && at->port != 5060)
        snprintf(trunk->port, sizeof trunk->port, "%u", (unsigned)at->port);
}

static struct kg_trunk *trunk_new(struct kg_trunks *trunks, const struct kg_trunk_config *config,
                                  size_t index)
{
    struct kg_trunk *trunk = calloc(1, sizeof *trunk);
    if (!trunk)
        return NULL;
    trunk->trunks = trunks;
    trunk->config = *config;
    trunk->index = index;
    trunk->refs = 1;
    /* The same after a restart: what the provider remembers of us is still right. */
    kg_digest_name(trunks->digest, "trunk-line", config->name, trunk->line, sizeof trunk->line);
    kg_random_hex(trunk->call_id, sizeof trunk->call_id - 1);
    kg_random_hex(trunk->tag, sizeof trunk->tag - 1);
    name_domain(trunk);
    DL_APPEND(trunks->list, trunk);
    if (config->registers && config->user[0])
        kg_enrol_start(&trunk->enrol, config->expires_ms / 1000, kg_mono_ms(), kg_random_u16());
    return trunk;
}

static void trunk_free(struct kg_trunk *trunk)
{
    DL_DELETE(trunk->trunks->list, trunk);
    kg_trunk_drop(trunk);
    kg_flow_clear(&trunk->flow);
    free(trunk->service_route);
    explicit_bzero(&trunk->config, sizeof trunk->config); /* the password */
    free(trunk);
}

struct kg_trunk *kg_trunk_hold(struct kg_trunk *trunk)
{
    if (trunk)
        trunk->refs++;
    return trunk;
}

void kg_trunk_release(struct kg_trunk *trunk)
{
    if (trunk && --trunk->refs == 0)
        trunk_free(trunk);
}

const struct kg_trunk_config *kg_trunk_config(const struct kg_trunk *trunk)
{
    return &trunk->config;
}

size_t kg_trunk_index(const struct kg_trunk *trunk)
{
    return trunk->index;
}

const char *kg_trunk_domain(const struct kg_trunk *trunk)
{
    return trunk->domain;
}

bool kg_trunk_is_line(const struct kg_trunk *trunk, const char *user)
{
    return strcmp(user, trunk->line) == 0;
}

bool kg_trunk_permits(const struct kg_trunk *trunk, const char *user, const char *number)
{
    const struct kg_server *server = trunk->trunks->server;
    char written[KG_NUMBER_SIZE];
    return !kg_number_rewrite(&server->config, KG_NUMBER_TO, trunk->config.name, KG_NUMBER_CALLED, number,
                              written) ||
           kg_caps_permit(server->caps, user, written);
}

const char *kg_trunk_service_route(const struct kg_trunk *trunk)
{
    return trunk->enrol.state == KG_ENROL_REGISTERED ? trunk->service_route : NULL;
}

const char *kg_trunk_port(const struct kg_trunk *trunk)
{
    return trunk->port[0] ? trunk->port : NULL;
}

bool kg_trunk_is_full(const struct kg_trunk *trunk)
{
    return trunk->config.calls && trunk->calls >= trunk->config.calls;
}

void kg_trunk_begin_call(struct kg_trunk *trunk)
{
    kg_trunk_hold(trunk)->calls++;
}

void kg_trunk_end_call(struct kg_trunk *trunk)
{
    trunk->calls--;
    kg_trunk_release(trunk);
}

/* ---- all ---- */

/* The next one of a walk that sends: a connection that breaks meanwhile ends what waits on it at once, and a
 * removed trunk that was only waiting to be unregistered is gone then. The walk holds where it is. */
static struct kg_trunk *step(struct kg_trunk *trunk)
{
    struct kg_trunk *next = kg_trunk_hold(trunk->next);
    kg_trunk_release(trunk);
    return next;
}

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_trunks *trunks = (struct kg_trunks *)arg;
    int64_t now_ms = kg_mono_ms();
    (void)magic;
    for (struct kg_trunk *trunk = kg_trunk_hold(trunks->list); trunk; trunk = step(trunk))
        kg_trunk_tick(trunk, now_ms);
    su_timer_set_interval(timer, on_tick, arg, TICK_MS);
}

struct kg_trunks *kg_trunks_new(struct kg_server *server)
{
    uint8_t secret[32];
    struct kg_trunks *trunks = calloc(1, sizeof *trunks);
    if (!trunks)
        return NULL;
    trunks->server = server;
    if (kg_store_secret(server->store, secret) != 0)
        kg_random(secret, sizeof secret);
    trunks->digest = kg_digest_new(secret, kg_wall_ms());
    explicit_bzero(secret, sizeof secret);
    trunks->timer = su_timer_create(su_root_task(server->root), TICK_MS);
    if (!trunks->digest || !trunks->timer ||
        su_timer_set_interval(trunks->timer, on_tick, (su_timer_arg_t *)trunks, TICK_MS) != 0) {
        kg_trunks_free(trunks);
        return NULL;
    }
    kg_trunks_reload(trunks);
    return trunks;
}

void kg_trunks_free(struct kg_trunks *trunks)
{
    if (!trunks)
        return;
    struct kg_trunk *trunk, *next;
    DL_FOREACH_SAFE(trunks->list, trunk, next)
    {
        trunk_free(trunk);
    }
    if (trunks->timer)
        su_timer_destroy(trunks->timer);
    kg_digest_free(trunks->digest);
    free(trunks);
}

struct kg_trunk *kg_trunks_at(struct kg_trunks *trunks, size_t index)
{
    struct kg_trunk *trunk;
    DL_SEARCH_SCALAR(trunks->list, trunk, index, index);
    return trunk;
}

struct kg_trunk *kg_trunks_named(struct kg_trunks *trunks, const char *name)
{
    struct kg_trunk *trunk;
    DL_FOREACH(trunks->list, trunk)
    {
        if (trunk->index != SIZE_MAX && strcmp(trunk->config.name, name) == 0)
            return trunk;
    }
    return NULL;
}

static bool are_same_servers(const struct kg_trunk_config *a, const struct kg_trunk_config *b)
{
    bool same = a->server_count == b->server_count;
    for (size_t i = 0; same && i < a->server_count; i++) {
        const struct kg_server_at *one = &a->server[i], *other = &b->server[i];
        same = kg_server_at_same(one, other) && one->unverified == other->unverified &&
               one->priority == other->priority && one->weight == other->weight;
    }
    return same;
}

/* What a registration depends on. The rest of a trunk may change under it. */
static bool is_same_account(const struct kg_trunk_config *a, const struct kg_trunk_config *b)
{
    return are_same_servers(a, b) && strcmp(a->user, b->user) == 0 &&
           strcmp(a->auth_user, b->auth_user) == 0 && strcmp(a->password, b->password) == 0 &&
           strcmp(a->domain, b->domain) == 0 && strcmp(a->realm, b->realm) == 0 &&
           a->registers == b->registers && a->expires_ms == b->expires_ms;
}

static void remove_trunk(struct kg_trunk *trunk, bool unregister)
{
    trunk->index = SIZE_MAX;
    if (unregister) {
        kg_trunk_leave(trunk);
    } else { /* a call may hold it still */
        kg_trunk_drop(trunk);
        trunk->enrol.state = KG_ENROL_OFF;
    }
    if (trunk->enrol.state == KG_ENROL_LEAVING)
        trunk->leaving = true; /* its own reference goes with the answer */
    else
        kg_trunk_release(trunk);
}

void kg_trunks_reload(struct kg_trunks *trunks)
{
    const struct kg_config *config = &trunks->server->config;
    bool kept[KG_TRUNKS_MAX] = {false}, renewed[KG_TRUNKS_MAX] = {false};
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list has a reference, too */
    for (struct kg_trunk *trunk = kg_trunk_hold(trunks->list); trunk; trunk = step(trunk)) {
        size_t i = 0;
        if (trunk->index == SIZE_MAX)
            continue;
        while (i < config->trunk_count && strcmp(config->trunk[i].name, trunk->config.name) != 0)
            i++;
        if (i < config->trunk_count && is_same_account(&trunk->config, &config->trunk[i])) {
            trunk->config = config->trunk[i];
            trunk->index = i;
            kept[i] = true;
        } else if (i < config->trunk_count) { /* the new one's Contact is the same: it replaces this one's */
            renewed[i] = strcmp(config->trunk[i].user, trunk->config.user) == 0 && config->trunk[i].registers;
            remove_trunk(trunk, !renewed[i]);
        } else {
            kg_info("trunk", "trunk %s was removed from the configuration", trunk->config.name);
            remove_trunk(trunk, true);
        }
    }
    for (size_t i = 0; i < config->trunk_count; i++)
        if (!kept[i] && !trunk_new(trunks, &config->trunk[i], i))
            kg_error("trunk", "trunk %s: out of memory", config->trunk[i].name);
}

void kg_trunks_leave(struct kg_trunks *trunks)
{
    for (struct kg_trunk *trunk = kg_trunk_hold(trunks->list); trunk; trunk = step(trunk))
        kg_trunk_leave(trunk);
}

bool kg_trunks_are_gone(const struct kg_trunks *trunks)
{
    const struct kg_trunk *trunk;
    DL_FOREACH(trunks->list, trunk)
    {
        if (trunk->enrol.state == KG_ENROL_LEAVING)
            return false;
    }
    return true;
}

void kg_trunks_flow_lost(struct kg_trunks *trunks, tport_t *tport)
{
    struct kg_trunk *trunk;
    const tp_name_t *name = tport_name(tport);
    struct kg_addr peer;
    if (!name || !name->tpn_host || !name->tpn_port ||
        kg_addr_parse_host(name->tpn_host, (uint16_t)strtoul(name->tpn_port, NULL, 10), &peer) != 0)
        return;
    DL_FOREACH(trunks->list, trunk)
    {
        if (trunk->flow.transport != KG_UDP && kg_addr_equal(&trunk->flow.remote, &peer))
            kg_enrol_lost(&trunk->enrol, kg_mono_ms(), kg_random_u16());
    }
}

/* ---- whose call ---- */

static bool is_its_contact(const struct kg_trunk *trunk, const url_t *uri)
{
    char line[sizeof trunk->line + 1] = "";
    if (uri->url_user && strcmp(uri->url_user, trunk->line) == 0)
        return true;
    if (uri->url_params)
        url_param(uri->url_params, "line", line, sizeof line);
    return strcmp(line, trunk->line) == 0;
}

static bool is_its_net(const struct kg_trunk *trunk, const struct kg_addr *source)
{
    for (size_t i = 0; i < trunk->config.match_count; i++)
        if (kg_net_has(&trunk->config.match[i], source))
            return true;
    return false;
}

struct kg_trunk *kg_trunks_of(struct kg_trunks *trunks, const struct kg_flow *flow, const url_t *uri)
{
    struct kg_trunk *trunk;
    DL_FOREACH(trunks->list, trunk)
    {
        if (trunk->index != SIZE_MAX && trunk->config.line && trunk->enrol.state != KG_ENROL_OFF &&
            is_its_contact(trunk, uri))
            return trunk;
    }
    uint32_t group = trunks->list ? kg_peers_source(trunks->server->peers, &flow->remote) : KG_GROUP_NONE;
    if (group != KG_GROUP_NONE)
        return group == KG_GROUP_PBX ? NULL : kg_trunks_at(trunks, group - 1);
    DL_FOREACH(trunks->list, trunk)
    {
        if (trunk->index != SIZE_MAX && is_its_net(trunk, &flow->remote))
            return trunk;
    }
    return NULL;
}

/* ---- what people see ---- */

static json_t *seconds_until(int64_t when_ms, int64_t now_ms)
{
    return when_ms > now_ms ? json_integer((when_ms - now_ms) / 1000) : json_null();
}

json_t *kg_trunks_json(const struct kg_trunks *trunks)
{
    json_t *list = json_array();
    const struct kg_trunk *trunk;
    int64_t now_ms = kg_mono_ms();
    DL_FOREACH(trunks->list, trunk)
    {
        const struct kg_enrol *e = &trunk->enrol;
        char at[KG_SERVER_AT_STR], remote[KG_ADDR_STR];
        if (trunk->index == SIZE_MAX)
            continue;
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:s?, s:o, s:o, s:i, s:i, s:i, s:i, s:b}", "name", trunk->config.name,
                      "state", kg_enrol_state_name(e->state), "server",
                      kg_server_at_format(&trunk->config.server[0], at), "remote",
                      kg_addr_is_set(&trunk->flow.remote) ? kg_addr_format(&trunk->flow.remote, remote)
                                                          : NULL,
                      "expires_in", seconds_until(e->expires_ms, now_ms), "next_in",
                      seconds_until(e->state == KG_ENROL_OFF ? 0 : e->due_ms, now_ms), "failures",
                      (int)e->failures, "status", trunk->unasked ? 0 : e->status, "calls", (int)trunk->calls,
                      "calls_limit", (int)trunk->config.calls, "trusted", trunk->config.trusted));
    }
    return list;
}
