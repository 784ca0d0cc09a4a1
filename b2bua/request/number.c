/* A request outside of calls that may come from a trunk, or be for a number behind one: it goes where a call
 * would (route/route.h). */
#include "b2bua/request/inside.h"

#include <errno.h>
#include <stdio.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_status.h>

#include "b2bua/call/party.h"
#include "b2bua/guard/guard.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/failover.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/route.h"
#include "b2bua/sip/sip.h"
#include "b2bua/sip/uri.h"
#include "conf/clock.h"
#include "conf/log.h"

/* RFC 3261 21.5.4: when to come back after a 503. Seconds. */
#define RETRY_AFTER 5

struct asking {
    struct kg_requests *requests;
    nta_incoming_t *irq;
    const sip_t *sip;
    const struct kg_flow *flow;
    struct kg_way *way;
    struct kg_route_facts facts;
    char user[128], from_user[128]; /* called, as `numbers` made it; the sender, as it came */
    bool rewritten;                 /* user is not the request URI's */
};

static void take_names(struct asking *a)
{
    const struct kg_config *config = &a->requests->server->config;
    const char *side =
        kg_party_side_name((struct kg_party_side){.kind = a->way->from.kind, .trunk = a->way->trunk});
    struct kg_way *way = a->way;
    kg_uri_user(a->sip->sip_request->rq_url, a->user, sizeof a->user);
    kg_uri_user(a->sip->sip_from->a_url, a->from_user, sizeof a->from_user);
    if (way->trunk && kg_trunk_is_line(way->trunk, a->user)) { /* its Contact: To says who */
        kg_uri_user(a->sip->sip_to->a_url, a->user, sizeof a->user);
        a->rewritten = true;
    }
    if (kg_number_rewrite(config, KG_NUMBER_FROM, side, KG_NUMBER_CALLED, a->user, way->called)) {
        snprintf(a->user, sizeof a->user, "%s", way->called);
        a->rewritten = true;
    } else if (a->rewritten) {
        snprintf(way->called, sizeof way->called, "%.*s", (int)sizeof way->called - 1, a->user);
    }
    if (!kg_number_rewrite(config, KG_NUMBER_FROM, side, KG_NUMBER_CALLER, a->from_user, way->caller))
        way->caller[0] = '\0';
}

static void look_up(struct asking *a, const struct kg_route_decision *found)
{
    struct kg_registrar *registrar = a->requests->server->registrar;
    struct kg_way *way = a->way;
    bool embedded = a->requests->server->config.pbx_count == 0;
    bool as_it_came = embedded && !a->rewritten && found->user == a->user;
    if (found->look_by == KG_LOOKED_BY_TOKEN || as_it_came)
        way->count = kg_registrar_find(registrar, a->sip->sip_request->rq_url, a->sip->sip_route, way->target,
                                       KG_WAY_MAX);
    else
        way->count = kg_registrar_lookup(registrar, found->user, way->target, KG_WAY_MAX);
    a->facts.looked = found->look_by;
    a->facts.contacts = way->count;
    a->facts.account_exists = way->count > 0 || (embedded && found->look_by == KG_LOOKED_BY_USER &&
                                                 kg_registrar_has_account(registrar, found->user));
}

/* The servers of one group, in the order in which they are asked. */
static void add_servers(struct asking *a, uint32_t group, struct kg_trunk *trunk)
{
    struct kg_peers *peers = a->requests->server->peers;
    struct kg_way *way = a->way;
    uint32_t peer[KG_FAILOVER_SERVERS];
    size_t count = kg_peers_pick(peers, group, KG_PEER_NONE, peer, KG_FAILOVER_SERVERS);
    for (size_t i = 0; i < count && way->count < KG_WAY_MAX; i++) {
        const struct kg_flow *to = kg_peers_flow(peers, peer[i]);
        if (!to)
            continue;
        size_t n = way->count++;
        way->target[n] = (struct kg_target){.path = trunk ? kg_trunk_service_route(trunk) : NULL};
        kg_flow_copy(&way->target[n].flow, to);
        way->over[n] = kg_trunk_hold(trunk);
    }
}

static void collect(struct asking *a, struct kg_route_decision *found)
{
    struct kg_way *way = a->way;
    bool capped = false;
    way->to.kind = found->to[0] == KG_ROUTE_PBX_INDEX ? KG_PEER_PBX : KG_PEER_TRUNK;
    for (size_t i = 0; i < found->to_count; i++) {
        struct kg_trunk *trunk = found->to[i] == KG_ROUTE_PBX_INDEX
                                     ? NULL
                                     : kg_trunks_at(a->requests->server->trunks, (size_t)found->to[i]);
        if (found->to[i] == KG_ROUTE_PBX_INDEX)
            add_servers(a, KG_GROUP_PBX, NULL);
        else if (trunk && way->from.kind == KG_PEER_PHONE && !kg_trunk_permits(trunk, way->by, a->user))
            capped = true;
        else if (trunk)
            add_servers(a, (uint32_t)found->to[i] + 1, trunk);
    }
    if (way->count > 0)
        return;
    found->verdict = KG_ROUTE_REFUSE;
    found->status = capped ? 403 : 503;
    found->why = capped ? "caps do not allow what the number becomes on the trunk"
                        : "no server there is up (kedgectl peers)";
}

/* What goes over a trunk costs as a call does. 0, or an errno when it was answered. */
static int ask_caps(struct asking *a)
{
    const struct kg_server *server = a->requests->server;
    if (server->config.caps_count == 0 || a->way->from.kind != KG_PEER_PHONE)
        return 0;
    const char *number = a->user[0] ? a->user : KG_CAPS_UNREADABLE;
    struct kg_caps_answer answer = kg_caps_ask_once(server->caps, a->way->by, number, kg_mono_ms());
    if (answer.verdict == KG_CAPS_OK)
        return 0;
    kg_counters.calls_capped++;
    if (answer.say)
        kg_warn("request",
                "%s cannot send a message to %s: %s (caps; %u more were refused since the last such line)",
                a->way->by, a->user, kg_caps_why(answer.verdict), answer.held_back);
    kg_request_refuse(a->irq, (int)answer.status, NULL, answer.retry_after_s);
    return EPERM;
}

static void take_facts(struct asking *a)
{
    const struct kg_server *server = a->requests->server;
    struct kg_way *way = a->way;
    bool embedded = server->config.pbx_count == 0, phone = way->from.kind == KG_PEER_PHONE;
    a->facts = (struct kg_route_facts){.config = &server->config,
                                       .source = way->trunk                      ? KG_FROM_TRUNK
                                                 : way->from.kind == KG_PEER_PBX ? KG_FROM_PBX
                                                                                 : KG_FROM_PHONE,
                                       .trunk = way->trunk ? kg_trunk_index(way->trunk) : 0,
                                       .to_us = kg_sip_is_us(server->sip, a->sip->sip_request->rq_url),
                                       .user = a->user,
                                       .from_user = phone ? way->by : a->from_user,
                                       .auth_user = phone ? way->by : NULL};
    take_names(a);
    a->facts.user_exists = embedded && kg_registrar_has_account(server->registrar, a->user);
    if (way->trunk) { /* whatever address it comes from */
        kg_guard_proved(server->guard, &a->flow->remote, kg_mono_ms());
        snprintf(way->by, sizeof way->by, "%s", a->from_user);
    }
    snprintf(way->of, sizeof way->of, "%s", a->user);
}

int kg_way_by_number(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                     const struct kg_flow *flow, struct kg_way *way)
{
    struct asking a = {.requests = requests, .irq = irq, .sip = sip, .flow = flow, .way = way};
    struct kg_route_decision found;
    if (kg_privacy_of(sip).unmet) { /* RFC 3323 5 */
        kg_request_refuse(irq, 500, "Privacy Not Available", 0);
        return EPERM;
    }
    take_facts(&a);
    way->to.kind = KG_PEER_PHONE;
    for (found = kg_route_decide(&a.facts); found.verdict == KG_ROUTE_LOOK_UP;
         found = kg_route_decide(&a.facts))
        look_up(&a, &found);
    if (found.verdict == KG_ROUTE_SERVERS) {
        way->manner = KG_MANNER_ONE;
        if (ask_caps(&a) != 0)
            return EPERM;
        collect(&a, &found);
    } else if (found.verdict == KG_ROUTE_PHONE) {
        way->manner = found.look_by == KG_LOOKED_BY_TOKEN ? KG_MANNER_ONE : KG_MANNER_ALL;
    }
    if (found.verdict == KG_ROUTE_SERVERS || found.verdict == KG_ROUTE_PHONE)
        return 0;
    if (found.verdict == KG_ROUTE_AUTHENTICATE) /* whoever comes here is known */
        found.status = 500;
    kg_debug("request", "%s cannot send %s to %s: %d, %s", way->by, sip->sip_request->rq_method_name, a.user,
             found.status, found.why ? found.why : "");
    kg_request_refuse(irq, found.status, NULL, found.status == 503 ? RETRY_AFTER : 0);
    return EHOSTUNREACH;
}
