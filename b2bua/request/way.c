/* Where a request outside of calls goes: who sends it, whether he may, and to whom. */
#include "b2bua/request/inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/route/caps.h"
#include "b2bua/route/peers.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/sip.h"
#include "b2bua/sip/uri.h"
#include "conf/log.h"

/* RFC 3261 21.5.4: when to come back after a 503. Seconds. */
#define RETRY_AFTER 5

/* The rules: who may send what to whom. A method without a row is as the last one. */
static const struct rule {
    const char *method;
    enum kg_manner to_pbx, from_pbx, between_phones;
    bool by_number; /* goes where a call would: over trunks, and from them */
    int status;     /* what between_phones says where it refuses */
    const char *phrase;
} rules[] = {
    {"MESSAGE", KG_MANNER_ONE, KG_MANNER_ONE, KG_MANNER_ALL, true, 0, NULL},
    {"OPTIONS", KG_MANNER_ONE, KG_MANNER_ONE, KG_MANNER_ONE, false, 0, NULL},
    {"SUBSCRIBE", KG_MANNER_DIALOG, KG_MANNER_DIALOG, KG_MANNER_DIALOG, false, 0, NULL},
    /* kedge keeps no states of presence */
    {"PUBLISH", KG_MANNER_ONE, KG_MANNER_REFUSE, KG_MANNER_REFUSE, false, SIP_489_BAD_EVENT},
    /* A phone obeys both without asking a person, and lets nobody but its PBX say so: they restart it, light
     * its lamps, make it dial. */
    {"NOTIFY", KG_MANNER_REFUSE, KG_MANNER_ONE, KG_MANNER_REFUSE, false, SIP_403_FORBIDDEN},
    {"REFER", KG_MANNER_DIALOG, KG_MANNER_DIALOG, KG_MANNER_REFUSE, false, SIP_403_FORBIDDEN},
    {"", KG_MANNER_ONE, KG_MANNER_ONE, KG_MANNER_ONE, false, 0, NULL}, /* sip.pass_methods */
};

static const struct rule *rule_of(const sip_t *sip)
{
    const struct rule *rule = rules;
    while (rule->method[0] && strcmp(rule->method, sip->sip_request->rq_method_name) != 0)
        rule++;
    return rule;
}

void kg_way_clear(struct kg_way *way)
{
    for (size_t i = 0; i < way->count; i++) {
        kg_flow_clear(&way->target[i].flow);
        free(way->path[i]);
        way->path[i] = NULL;
        kg_trunk_release(way->over[i]);
        way->over[i] = NULL;
    }
    way->count = 0;
    kg_trunk_release(way->trunk);
    way->trunk = NULL;
}

/* They are the registrar's. One that there is no memory for is left out: without, many a way leads there,
 * too.
 */
static void keep_paths(struct kg_way *way)
{
    for (size_t i = 0; i < way->count; i++) {
        const char *path = way->target[i].path;
        way->path[i] = path && *path ? strdup(path) : NULL;
        way->target[i].path = NULL;
    }
}

void kg_way_move(struct kg_way *to, struct kg_way *from)
{
    *to = *from;
    from->count = 0;
    from->trunk = NULL;
}

void kg_request_refuse(nta_incoming_t *irq, int status, const char *phrase, unsigned retry_after)
{
    sip_retry_after_t after[1];
    sip_retry_after_init(after)->af_delta = retry_after;
    nta_incoming_treply(irq, status, phrase, TAG_IF(retry_after, SIPTAG_RETRY_AFTER(after)),
                        TAG_IF(status == 423, SIPTAG_MIN_EXPIRES_STR(KG_LAMP_MIN_EXPIRES)),
                        TAG_IF(status == 489, SIPTAG_ALLOW_EVENTS_STR(KG_ALLOW_EVENTS)),
                        TAG_IF(status == 405, SIPTAG_ALLOW_STR(KG_SIP_ALLOW)), TAG_END());
    nta_incoming_destroy(irq);
}

/* ---- in front of a PBX ---- */

/* Whom a REFER names the PBX calls in the name of who sends it (route/caps.h). */
static bool may_refer(const struct kg_server *server, const sip_t *sip, const char *by)
{
    char number[128] = "";
    if (sip->sip_request->rq_method != sip_method_refer || !sip->sip_refer_to ||
        server->config.caps_count == 0)
        return true;
    const url_t *url = sip->sip_refer_to->r_url;
    kg_uri_user(url, number, sizeof number);
    bool says = url->url_type == url_tel || url->url_user;
    return kg_caps_permit(server->caps, by, number[0] || !says ? number : KG_CAPS_UNREADABLE);
}

static int to_pbx(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                  const struct kg_flow *flow, struct kg_way *way)
{
    struct kg_registrar *registrar = requests->server->registrar;
    struct kg_peers *peers = requests->server->peers;
    uint32_t pbx[KG_WAY_MAX];
    struct kg_target sender;
    char named[128], from[KG_ADDR_STR];
    way->from.kind = KG_PEER_PHONE;
    way->to.kind = KG_PEER_PBX;
    way->manner = rule_of(sip)->to_pbx;
    kg_uri_user(sip->sip_from->a_url, named, sizeof named);
    if (kg_registrar_by_flow(registrar, flow, named, &sender) == 0) {
        snprintf(way->by, sizeof way->by, "%s", sender.user);
        kg_flow_clear(&sender.flow);
    } else { /* how many of these there are is the registrar's care (kg_registrar_answer) */
        kg_addr_format_host(&flow->remote, from);
        snprintf(way->by, sizeof way->by, "@%s", from);
    }
    if (!may_refer(requests->server, sip, way->by)) {
        kg_info("request", "%s may not have that number called (caps)", way->by);
        kg_request_refuse(irq, SIP_403_FORBIDDEN, 0);
        return EPERM;
    }
    size_t count = kg_peers_pick(peers, KG_GROUP_PBX, kg_registrar_pbx_of(registrar, flow), pbx, KG_WAY_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct kg_flow *to = kg_peers_flow(peers, pbx[i]);
        if (!to)
            continue;
        way->target[way->count] = (struct kg_target){0};
        way->target[way->count].path = kg_registrar_service_route(registrar, flow, named, to);
        kg_flow_copy(&way->target[way->count++].flow, to);
    }
    if (way->count > 0)
        return 0;
    kg_request_refuse(irq, SIP_503_SERVICE_UNAVAILABLE, RETRY_AFTER);
    return EHOSTUNREACH;
}

static int from_pbx(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                    const struct kg_flow *flow, struct kg_way *way)
{
    way->from.kind = KG_PEER_PBX;
    way->to.kind = KG_PEER_PHONE;
    way->manner = rule_of(sip)->from_pbx;
    way->count = kg_registrar_find(requests->server->registrar, sip->sip_request->rq_url, sip->sip_route,
                                   way->target, KG_WAY_MAX);
    if (way->count == 0 && rule_of(sip)->by_number)
        return kg_way_by_number(requests, irq, sip, flow, way);
    if (way->count == 0) {
        kg_debug("request", "the PBX sends %s to a contact that is not registered through kedge (any more)",
                 sip->sip_request->rq_method_name);
        kg_request_refuse(irq, SIP_404_NOT_FOUND, 0);
        return ENOENT;
    }
    snprintf(way->of, sizeof way->of, "%.127s", way->target[0].user);
    snprintf(way->by, sizeof way->by, "%.127s", way->target[0].user);
    return 0;
}

/* ---- embedded registrar ---- */

/* The first, with all its flows (RFC 5626). */
static void keep_one_phone(struct kg_way *way)
{
    size_t kept = 0;
    for (size_t i = 0; i < way->count; i++) {
        if (way->target[i].device != way->target[0].device) {
            kg_flow_clear(&way->target[i].flow);
        } else {
            if (kept < i) {
                way->target[kept] = way->target[i];
                way->target[i].flow = (struct kg_flow){0};
            }
            kept++;
        }
    }
    way->count = kept;
}

/* Who is in a call kedge knows best. */
static bool is_lamp(const struct kg_requests *requests, const sip_t *sip, const struct kg_way *way)
{
    const sip_event_t *event = sip->sip_event;
    return sip->sip_request->rq_method == sip_method_subscribe && requests->server->config.sip.lamps &&
           event && event->o_type && strcasecmp(event->o_type, "dialog") == 0 &&
           kg_registrar_has_account(requests->server->registrar, way->of);
}

static int between_phones(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                          const struct kg_flow *flow, struct kg_way *way)
{
    struct kg_registrar *registrar = requests->server->registrar;
    const struct rule *rule = rule_of(sip);
    char account[128];
    way->from.kind = way->to.kind = KG_PEER_PHONE;
    way->manner = rule->between_phones;
    if (kg_registrar_authorize(registrar, irq, sip, flow, account, sizeof account) != KG_AUTH_OK)
        return EACCES;
    kg_uri_user(sip->sip_from->a_url, way->by, sizeof way->by);
    if (kg_identity_is_anonymous(sip->sip_from->a_url)) /* it hides its name, not its password */
        snprintf(way->by, sizeof way->by, "%s", account);
    if (strcmp(account, way->by) != 0 || !kg_sip_is_us(requests->server->sip, sip->sip_request->rq_url)) {
        kg_request_refuse(irq, SIP_403_FORBIDDEN, 0);
        return EACCES;
    }
    if (way->manner == KG_MANNER_REFUSE) {
        kg_request_refuse(irq, rule->status, rule->phrase, 0);
        return EACCES;
    }
    if (is_lamp(requests, sip, way)) {
        way->manner = KG_MANNER_OWN;
        return 0;
    }
    if (way->manner == KG_MANNER_DIALOG && strcmp(way->of, way->by) == 0) {
        /* Its mailbox, its profile: of its server, and kedge has none (RFC 6665 4.2.1.1). */
        kg_request_refuse(irq, SIP_489_BAD_EVENT, 0);
        return EACCES;
    }
    if (rule->by_number)
        return kg_way_by_number(requests, irq, sip, flow, way);
    way->count = kg_registrar_find(registrar, sip->sip_request->rq_url, NULL, way->target, KG_WAY_MAX);
    if (way->manner != KG_MANNER_ALL)
        keep_one_phone(way);
    if (way->count > 0)
        return 0;
    if (kg_registrar_has_account(registrar, way->of))
        kg_request_refuse(irq, SIP_480_TEMPORARILY_UNAVAILABLE, 0);
    else
        kg_request_refuse(irq, SIP_404_NOT_FOUND, 0);
    return EHOSTUNREACH;
}

int kg_way_find(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                const struct kg_flow *flow, struct kg_way *way)
{
    const struct kg_config *config = &requests->server->config;
    int failed;
    memset(way, 0, sizeof *way);
    kg_uri_user(sip->sip_request->rq_url, way->of, sizeof way->of);
    uint32_t source = kg_peers_source(requests->server->peers, &flow->remote);
    way->trunk = kg_trunk_hold(kg_trunks_of(requests->server->trunks, flow, sip->sip_request->rq_url));
    if (way->trunk)
        way->from = kg_party_peer((struct kg_party_side){KG_PEER_TRUNK, way->trunk});
    bool trunk = way->trunk || (source != KG_GROUP_NONE && source != KG_GROUP_PBX);
    if (trunk && (!way->trunk || !rule_of(sip)->by_number)) { /* nothing that anybody waits for */
        kg_way_clear(way);
        kg_request_refuse(irq, SIP_403_FORBIDDEN, 0);
        return EACCES;
    }
    if (trunk)
        failed = kg_way_by_number(requests, irq, sip, flow, way);
    else if (config->pbx_count == 0)
        failed = between_phones(requests, irq, sip, flow, way);
    else if (source == KG_GROUP_PBX)
        failed = from_pbx(requests, irq, sip, flow, way);
    else
        failed = to_pbx(requests, irq, sip, flow, way);
    keep_paths(way);
    if (failed)
        kg_way_clear(way);
    if (!failed && way->manner == KG_MANNER_REFUSE) {
        kg_way_clear(way);
        kg_request_refuse(irq, SIP_403_FORBIDDEN, 0);
        failed = EACCES;
    }
    return failed;
}

bool kg_requests_pass_options(struct kg_requests *requests, const sip_t *sip, const struct kg_flow *flow)
{
    const struct kg_server *server = requests->server;
    struct kg_target target;
    char user[128], named[128];
    bool passes;
    kg_uri_user(sip->sip_request->rq_url, user, sizeof user);
    kg_uri_user(sip->sip_from->a_url, named, sizeof named);
    if (!user[0])
        return false;
    if (server->config.pbx_count > 0 && kg_peers_source(server->peers, &flow->remote) == KG_GROUP_PBX)
        passes = kg_registrar_find(server->registrar, sip->sip_request->rq_url, sip->sip_route, &target, 1);
    else /* a phone that names itself asks whether kedge is there */
        passes =
            strcmp(user, named) != 0 && kg_registrar_by_flow(server->registrar, flow, named, &target) == 0;
    if (passes)
        kg_flow_clear(&target.flow);
    return passes;
}
