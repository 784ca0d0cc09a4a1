/* Who sends an INVITE, and where it goes: collects what route.h decides by. */
#include "b2bua/call/inquiry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/call/identity.h"
#include "b2bua/guard/guard.h"
#include "b2bua/route/numbers.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "b2bua/sip/uri.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ---- who ---- */

static const char *side_of(const struct kg_inquiry *in)
{
    if (in->trunk)
        return kg_trunk_config(in->trunk)->name;
    return in->facts.source == KG_FROM_PBX ? "pbx" : "phone";
}

/* Names as they came, and as `numbers` makes them. */
static void take_names(struct kg_inquiry *in)
{
    const struct kg_config *config = &in->calls->server->config;
    char written[KG_NUMBER_SIZE];
    kg_uri_user(in->sip->sip_request->rq_url, in->user, sizeof in->user);
    kg_uri_user(in->sip->sip_from->a_url, in->from_user, sizeof in->from_user);
    if (in->trunk &&
        kg_trunk_is_line(in->trunk, in->user)) { /* the Contact that was registered: To says who */
        kg_uri_user(in->sip->sip_to->a_url, in->user, sizeof in->user);
        in->rewritten = true;
    }
    if (kg_number_rewrite(config, KG_NUMBER_FROM, side_of(in), KG_NUMBER_CALLED, in->user, written)) {
        snprintf(in->user, sizeof in->user, "%s", written);
        in->rewritten = true;
    }
    if (!kg_number_rewrite(config, KG_NUMBER_FROM, side_of(in), KG_NUMBER_CALLER, in->from_user, in->shown))
        in->shown[0] = '\0';
    snprintf(in->caller, sizeof in->caller, "%s", in->shown[0] ? in->shown : in->from_user);
}

static void take_facts(struct kg_inquiry *in)
{
    const struct kg_server *server = in->calls->server;
    const url_t *url = in->sip->sip_request->rq_url;
    in->trunk = kg_trunks_of(server->trunks, in->flow, url);
    in->facts = (struct kg_route_facts){
        .config = &server->config,
        .source = in->trunk                                                           ? KG_FROM_TRUNK
                  : kg_peers_source(server->peers, &in->flow->remote) == KG_GROUP_PBX ? KG_FROM_PBX
                                                                                      : KG_FROM_PHONE,
        .trunk = in->trunk ? kg_trunk_index(in->trunk) : 0,
        .to_us = url->url_type == url_tel || kg_sip_is_us(server->sip, url),
        .user = in->user,
        .from_user = in->from_user};
    take_names(in);
    if (in->trunk) /* whatever address it comes from */
        kg_guard_proved(server->guard, &in->flow->remote, kg_mono_ms());
    if (in->trunk && server->config.pbx_count == 0)
        in->facts.user_exists = kg_registrar_has_account(server->registrar, in->user);
}

/* Embedded mode: the digest. 0, or an errno when the INVITE was answered. */
static int authenticate(struct kg_inquiry *in)
{
    struct kg_registrar *registrar = in->calls->server->registrar;
    if (in->authorized) {
        snprintf(in->caller, sizeof in->caller, "%s", in->authorized);
    } else if (kg_registrar_authorize(registrar, in->irq, in->sip, in->flow, in->caller, sizeof in->caller) !=
               KG_AUTH_OK) {
        return EACCES;
    }
    in->facts.auth_user = in->caller;
    if (kg_identity_is_anonymous(in->sip->sip_from->a_url)) /* it hides its name, not its password */
        in->facts.from_user = in->caller;
    in->facts.user_exists = kg_registrar_has_account(registrar, in->user);
    return 0;
}

/* ---- where ---- */

/* An INVITE that replaces a dialog (RFC 3891) is for the phone that has it: no other phone of the user could
 * do anything with it. Returns 1, or 0: it names none of that user's. */
static size_t find_replaced(struct kg_inquiry *in)
{
    struct kg_dialog_id id;
    struct kg_leg *leg;
    const sip_contact_t *contact = NULL;
    su_home_t home[1] = {SU_HOME_INIT(home)};
    struct kg_target *out = &in->target[0];
    size_t found = 0;
    if (!in->sip->sip_replaces)
        return 0;
    su_home_init(home);
    const char *text = sip_header_as_string(home, (const sip_header_t *)in->sip->sip_replaces);
    enum kg_dialog_place place =
        text && kg_dialog_parse(text, &id) == 0 ? kg_dialog_find(in->calls, &id, &leg) : KG_DIALOG_FOREIGN;
    if (place == KG_DIALOG_NEAR) /* who is behind kedge there */
        leg = &leg->call->leg[kg_other_side(leg->side)];
    const char *user = place == KG_DIALOG_FOREIGN ? NULL : leg->call->record->leg[leg->side].user;
    if (user && strcmp(user, in->user) == 0 && !leg->pbx && !leg->fork && kg_leg_is_reachable(leg) &&
        nta_leg_get_route(leg->dialog, NULL, &contact) >= 0 && contact &&
        url_e(out->contact, sizeof out->contact, contact->m_url) < (issize_t)sizeof out->contact) {
        snprintf(out->user, sizeof out->user, "%s", user);
        kg_flow_copy(&out->flow, &leg->flow);
        out->nat = leg->call->record->leg[leg->side].nat;
        out->path = "";
        out->q = 1000;
        out->device = 0;
        found = 1;
    }
    su_home_deinit(home);
    return found;
}

static void look_up(struct kg_inquiry *in, const struct kg_route_decision *way)
{
    struct kg_registrar *registrar = in->calls->server->registrar;
    const url_t *url = in->sip->sip_request->rq_url;
    bool as_it_came = !in->rewritten && way->user == in->user;
    if (in->facts.auth_user && as_it_came)
        in->target_count = find_replaced(in);
    bool by_url =
        way->look_by == KG_LOOKED_BY_TOKEN || (as_it_came && in->calls->server->config.pbx_count == 0);
    if (in->target_count == 0 && by_url)
        in->target_count = kg_registrar_find(registrar, url, in->sip->sip_route, in->target, KG_TARGETS_MAX);
    else if (in->target_count == 0)
        in->target_count = kg_registrar_lookup(registrar, way->user, in->target, KG_TARGETS_MAX);
    in->facts.looked = way->look_by;
    in->facts.contacts = in->target_count;
    in->facts.account_exists = in->target_count > 0 || (way->look_by == KG_LOOKED_BY_USER &&
                                                        in->calls->server->config.pbx_count == 0 &&
                                                        kg_registrar_has_account(registrar, way->user));
}

/* The servers of one group, in the order in which they are asked. False: none can be. */
static bool pick_servers(struct kg_inquiry *in, uint32_t group, struct kg_trunk *trunk)
{
    const struct kg_server *server = in->calls->server;
    uint32_t peer[KG_FAILOVER_SERVERS];
    size_t before = in->target_count;
    size_t count = kg_peers_pick(server->peers, group, kg_registrar_pbx_of(server->registrar, in->flow), peer,
                                 KG_FAILOVER_SERVERS);
    for (size_t i = 0; i < count && in->target_count < KG_TARGETS_MAX; i++) {
        const struct kg_flow *flow = kg_peers_flow(server->peers, peer[i]);
        if (!flow) {
            kg_peers_outcome(server->peers, peer[i], KG_OUTCOME_UNREACHABLE, 0);
            continue;
        }
        size_t n = in->target_count++;
        kg_flow_copy(&in->target[n].flow, flow);
        in->target[n].path =
            trunk ? NULL : kg_registrar_service_route(server->registrar, in->flow, in->from_user, flow);
        in->peer[n] = peer[i];
        in->over[n] = trunk;
    }
    return in->target_count > before;
}

#define CAPPED "caps do not allow what the number becomes on the trunk"

static const char *add_trunk(struct kg_inquiry *in, size_t index)
{
    struct kg_trunk *trunk = kg_trunks_at(in->calls->server->trunks, index);
    if (!trunk)
        return "the trunk is not there any more";
    if (in->facts.source == KG_FROM_PHONE && !kg_trunk_permits(trunk, in->caller, in->user))
        return CAPPED;
    if (kg_trunk_is_full(trunk))
        return "the trunk has as many calls as it may have";
    return pick_servers(in, (uint32_t)index + 1, trunk) ? NULL
                                                        : "no server of the trunk is up (kedgectl peers)";
}

static void collect_servers(struct kg_inquiry *in, struct kg_route_decision *way)
{
    const char *problem = "it has nowhere to go";
    in->server = true;
    for (size_t i = 0; i < way->to_count; i++) {
        if (way->to[i] != KG_ROUTE_PBX_INDEX)
            problem = add_trunk(in, (size_t)way->to[i]);
        else if (!pick_servers(in, KG_GROUP_PBX, NULL))
            problem = "no PBX is up (kedgectl peers)";
    }
    if (in->target_count > 0)
        return;
    way->verdict = KG_ROUTE_REFUSE;
    way->status = strcmp(problem, CAPPED) == 0 ? 403 : 503;
    way->why = problem;
}

/* ---- diverted calls ---- */

static size_t add_outlets(const struct kg_server *server, struct kg_trunk *trunk,
                          struct kg_outlet out[static KG_FAILOVER_SERVERS], size_t count)
{
    uint32_t peer[KG_FAILOVER_SERVERS];
    size_t found = kg_peers_pick(server->peers, (uint32_t)kg_trunk_index(trunk) + 1, KG_PEER_NONE, peer,
                                 KG_FAILOVER_SERVERS - count);
    for (size_t i = 0; i < found; i++) {
        const struct kg_flow *flow = kg_peers_flow(server->peers, peer[i]);
        if (flow)
            out[count++] = (struct kg_outlet){flow, peer[i], trunk};
    }
    return count;
}

size_t kg_way_out(struct kg_call *call, const char *account, const char *number,
                  struct kg_outlet out[static KG_FAILOVER_SERVERS], const char **why)
{
    const struct kg_server *server = call->calls->server;
    const struct kg_route_facts facts = {.config = &server->config,
                                         .source = KG_FROM_PHONE,
                                         .to_us = true,
                                         .user = number,
                                         .from_user = account,
                                         .auth_user = account,
                                         .user_exists = kg_registrar_has_account(server->registrar, number)};
    struct kg_route_decision way = kg_route_decide(&facts);
    size_t count = 0;
    if (server->config.pbx_count > 0 || way.verdict != KG_ROUTE_SERVERS)
        return 0;
    if (call->divert_caps == KG_DIVERTERS_MAX) {
        *why = "too many phones have diverted the call";
        return 0;
    }
    struct kg_caps_answer answer = kg_caps_ask(server->caps, account, number, kg_mono_ms());
    if (answer.verdict != KG_CAPS_OK) {
        *why = kg_caps_why(answer.verdict);
        return 0;
    }
    *why = "no server of the trunk is up (kedgectl peers)";
    for (size_t i = 0; i < way.to_count && count < KG_FAILOVER_SERVERS; i++) {
        struct kg_trunk *trunk = way.to[i] >= 0 ? kg_trunks_at(server->trunks, (size_t)way.to[i]) : NULL;
        if (trunk && !kg_trunk_permits(trunk, account, number))
            *why = CAPPED;
        else if (trunk && !kg_trunk_is_full(trunk))
            count = add_outlets(server, trunk, out, count);
    }
    if (answer.user && count > 0)
        call->divert_cap[call->divert_caps++] = answer.user;
    else
        kg_caps_done(server->caps, answer.user, false);
    return count;
}

/* ---- all of it ---- */

/* sought: the account that was looked for, where a route or a trunk's `ring` named it; else NULL. */
static void say_refused(const struct kg_inquiry *in, const struct kg_route_decision *way, const char *sought)
{
    bool renamed = sought && strcmp(sought, in->user) != 0;
    kg_info("call", "%s cannot call %s%s%s: %d, %s%s%s", in->caller, in->user,
            in->trunk ? " over the trunk " : "", in->trunk ? side_of(in) : "", way->status, way->why,
            renamed ? ": " : "", renamed ? sought : "");
}

int kg_inquiry_route(struct kg_inquiry *in)
{
    struct kg_route_decision way;
    const char *sought = NULL;
    take_facts(in);
    if (in->trunk && kg_trunk_is_full(in->trunk)) {
        kg_info("call", "%s cannot call %s: the trunk %s has as many calls as it may have", in->caller,
                in->user, side_of(in));
        kg_inquiry_refuse(in, 503, KG_CALL_RETRY_AFTER);
        return EBUSY;
    }
    for (way = kg_route_decide(&in->facts);
         way.verdict == KG_ROUTE_AUTHENTICATE || way.verdict == KG_ROUTE_LOOK_UP;
         way = kg_route_decide(&in->facts)) {
        if (way.verdict == KG_ROUTE_LOOK_UP) {
            sought = way.look_by == KG_LOOKED_BY_USER ? way.user : NULL;
            look_up(in, &way);
        } else if (authenticate(in) != 0)
            return EACCES;
    }
    in->policy = way.policy;
    in->profile = way.profile;
    if (way.verdict != KG_ROUTE_REFUSE &&
        !kg_replaces_permits(in->calls, in->sip, in->facts.auth_user, in->trunk)) {
        kg_inquiry_refuse(in, 403, 0); /* RFC 3891 3 */
        return EPERM;
    }
    if (kg_inquiry_pay(in) != 0)
        return EPERM;
    if (way.verdict == KG_ROUTE_SERVERS)
        collect_servers(in, &way);
    if (way.verdict != KG_ROUTE_REFUSE)
        return 0;
    say_refused(in, &way, sought);
    kg_inquiry_refuse(in, way.status, way.status == 503 ? KG_CALL_RETRY_AFTER : 0);
    return EHOSTUNREACH;
}
