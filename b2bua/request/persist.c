/* Subscriptions in the store, so that lamps go on after a restart of signalling: nobody would notice before
 * its next refresh that kedge has forgotten them, and that may be an hour. Written at every refresh and move;
 * a NOTIFY that a phone could not be given is not. */
#include "b2bua/request/subscription.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>

#include "b2bua/store/store.h"
#include "conf/clock.h"
#include "conf/log.h"

/* NOTIFYs since the last refresh used numbers that the store does not know: a gap does no harm (RFC 3261
 * 12.2.2), a number used twice does. */
#define CSEQ_GAP 100000

static const char *const end_name[] = {"subscriber", "notifier"};

/* ---- writing ---- */

/* The route set as one header value; malloc'd, NULL without memory. */
static char *routes_of(const sip_route_t *route)
{
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    char *text = "";
    for (; route && text; route = route->r_next) {
        char *url = url_as_string(home, route->r_url);
        text = url ? su_sprintf(home, "%s%s<%s>", text, *text ? ", " : "", url) : NULL;
    }
    char *copy = text ? strdup(text) : NULL;
    su_home_deinit(home);
    return copy;
}

static json_t *end_json(const struct kg_end *end)
{
    if (!end->dialog) /* of kedge's own package */
        return json_pack("{s:i, s:s}", "peer", (int)end->peer.kind, "user", end->user ? end->user->name : "");
    const sip_route_t *route = NULL;
    const sip_contact_t *contact = NULL;
    char remote[KG_ADDR_STR], local[KG_ADDR_STR];
    const char *tag = nta_leg_get_tag(end->dialog), *remote_tag = nta_leg_get_rtag(end->dialog);
    nta_leg_get_route(end->dialog, &route, &contact);
    char *routes = routes_of(route), *target = contact ? kg_compose_text(contact->m_url) : strdup("");
    json_t *json = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "peer", (int)end->peer.kind,
        "call_id", end->call_id, "tag", tag, "remote_tag", remote_tag, "local", end->local, "remote",
        end->remote, "cseq", (json_int_t)nta_leg_get_seq(end->dialog), "remote_cseq",
        (json_int_t)nta_leg_get_rseq(end->dialog), "routes", routes, "target", target, "transport",
        kg_transport_name(end->flow.transport), "at", kg_addr_format(&end->flow.remote, remote), "from",
        kg_addr_format(&end->flow.local, local), "user", end->user ? end->user->name : "");
    free(routes);
    free(target);
    return json;
}

void kg_subscription_save(const struct kg_subscription *s)
{
    struct kg_store *store = s->requests->server->store;
    struct kg_store_binding row;
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o}", "event", s->event, "by", s->by, "of", s->of,
                             "version", (json_int_t)s->version, end_name[0], end_json(&s->end[0]),
                             end_name[1], end_json(&s->end[1]));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    snprintf(row.key, sizeof row.key, "%s", s->id);
    snprintf(row.user, sizeof row.user, "%s", s->by);
    row.expires_ms = s->expires_ms - kg_mono_ms() + kg_wall_ms();
    /* What is not UTF-8, or too long, is not stored: both sides subscribe anew after a restart (481). */
    if (store && text && (size_t)snprintf(row.json, sizeof row.json, "%s", text) < sizeof row.json)
        kg_store_put_subscription(store, &row);
    free(text);
    json_decref(json);
}

void kg_subscription_forget(const struct kg_subscription *s)
{
    if (s->requests->server->store)
        kg_store_delete_subscription(s->requests->server->store, s->id);
}

/* ---- reading ---- */

static const char *get_string(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));
    return value ? value : "";
}

static struct kg_peer peer_of(const json_t *end)
{
    return (struct kg_peer){.kind = (enum kg_peer_kind)json_integer_value(json_object_get(end, "peer"))};
}

static uint32_t get_number(const json_t *json, const char *name)
{
    return (uint32_t)json_integer_value(json_object_get(json, name));
}

static int restore_end(struct kg_end *end, const json_t *json)
{
    nta_agent_t *agent = end->subscription->requests->agent;
    const char *user = get_string(json, "user");
    struct kg_flow flow = {0};
    end->local = strdup(get_string(json, "local"));
    end->remote = strdup(get_string(json, "remote"));
    if (!end->local || !end->remote || !get_string(json, "tag")[0] || !get_string(json, "remote_tag")[0])
        return EINVAL;
    int failed = kg_flow_restore(agent, get_string(json, "transport"), get_string(json, "at"),
                                 get_string(json, "from"), &flow);
    if (!failed && end->peer.kind != KG_PEER_PHONE && !flow.tport) { /* kedge connects to its PBX itself */
        struct kg_addr remote = flow.remote;
        failed = kg_flow_to(agent, flow.transport, &remote, &flow);
    }
    if (!failed)
        kg_end_move(end, &flow);
    kg_flow_clear(&flow);
    if (!failed)
        failed = kg_end_restore(end, get_string(json, "call_id"), get_string(json, "tag"),
                                get_string(json, "remote_tag"), get_number(json, "cseq") + CSEQ_GAP,
                                get_number(json, "remote_cseq"), get_string(json, "routes"),
                                get_string(json, "target"));
    if (!failed && user[0])
        failed = kg_end_belongs(end, user);
    return failed;
}

/* Told anew at once, in a document whose version is greater than any before (RFC 4235 4.1). */
static int restore_own(struct kg_subscription *s, const json_t *json, const char *user)
{
    s->version = get_number(json, "version") + CSEQ_GAP;
    s->due = true;
    return kg_end_belongs(&s->end[KG_NOTIFIER], user) != 0 ? ENOMEM : kg_lamp_restored(s);
}

static int restore(struct kg_requests *requests, const struct kg_store_binding *row, const json_t *json)
{
    const json_t *from = json_object_get(json, end_name[0]), *to = json_object_get(json, end_name[1]);
    if (!from || !to || strlen(row->key) != KG_REQUEST_ID)
        return EINVAL;
    struct kg_subscription *s = kg_subscription_new(requests, row->key, peer_of(from), peer_of(to));
    if (!s)
        return ENOMEM;
    s->event = strdup(get_string(json, "event"));
    s->by = strdup(get_string(json, "by"));
    s->of = strdup(get_string(json, "of"));
    s->state = KG_SUBSCRIPTION_UP;
    s->expires_ms = row->expires_ms - kg_wall_ms() + kg_mono_ms();
    int failed = s->event && s->by && s->of ? restore_end(&s->end[0], from) : ENOMEM;
    s->own = !json_object_get(to, "call_id");
    requests->lamps += s->own;
    if (!failed)
        failed = s->own ? restore_own(s, json, get_string(to, "user")) : restore_end(&s->end[1], to);
    if (failed)
        kg_subscription_free(s);
    else
        s->stored = true;
    return failed;
}

static void on_row(void *ctx, const struct kg_store_binding *row)
{
    struct kg_requests *requests = ctx;
    json_t *json = json_loads(row->json, 0, NULL);
    int failed = row->expires_ms <= kg_wall_ms() ? ETIME : json ? restore(requests, row, json) : EINVAL;
    json_decref(json);
    if (!failed)
        return;
    if (failed != ETIME)
        kg_warn("request", "a stored subscription of %s cannot be used again: %s. Both sides subscribe anew",
                row->user, strerror(failed));
    kg_store_delete_subscription(requests->server->store, row->key);
}

void kg_subscriptions_load(struct kg_requests *requests)
{
    if (!requests->server->store)
        return;
    kg_store_each_subscription(requests->server->store, on_row, requests);
    if (requests->subscriptions)
        kg_info("request", "%u subscriptions are back from the store",
                (unsigned)HASH_COUNT(requests->subscriptions));
}
