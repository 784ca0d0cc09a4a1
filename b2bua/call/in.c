/* An INVITE that starts a call: who sends it, where it goes, and the call that comes of it. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/nat/assess.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/route.h"
#include "b2bua/sip/sip.h"
#include "conf/log.h"

/* RFC 3261 16.6 step 3: where the request has none. */
#define MAX_FORWARDS 70

/* One INVITE on its way to becoming a call. */
struct inquiry {
    struct kg_calls *calls;
    nta_incoming_t *irq;
    const sip_t *sip;
    const struct kg_flow *flow;
    struct kg_route_facts facts;
    uint64_t key;   /* see invite_key */
    char user[128]; /* of the request URI */
    char from_user[128];
    char caller[128]; /* account of the caller */
    struct kg_target target[KG_TARGETS_MAX];
    uint32_t peer[KG_TARGETS_MAX]; /* a target that is a server: its number in route/peers.h */
    size_t target_count;
};

static void refuse(struct inquiry *in, int status, int retry_after)
{
    sip_retry_after_t after[1];
    sip_retry_after_init(after)->af_delta = (sip_time_t)retry_after;
    nta_incoming_treply(in->irq, status, NULL, TAG_IF(retry_after, SIPTAG_RETRY_AFTER(after)), TAG_END());
    nta_incoming_destroy(in->irq);
}

static void copy_user(const url_t *url, char out[128])
{
    const char *user = url->url_user ? url->url_user : "";
    if (url->url_type == url_tel && url->url_host)
        user = url->url_host;
    if (strlen(user) >= 128)
        user = "";
    url_unescape(out, user);
}

/* ---- route ---- */

/* An INVITE that replaces a dialog (RFC 3891) is for the phone that has it: no other phone of the user could
 * do anything with it. Returns 1, or 0: it names none of that user's. */
static size_t find_replaced(struct inquiry *in)
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

static void look_up(struct inquiry *in)
{
    struct kg_registrar *registrar = in->calls->server->registrar;
    if (in->facts.has_pbx && in->facts.source == KG_FROM_PHONE)
        return;
    if (!in->facts.has_pbx && in->facts.auth_user && in->facts.to_us)
        in->target_count = find_replaced(in);
    if (in->target_count == 0 &&
        (in->facts.has_pbx || (in->facts.auth_user && in->facts.to_us && in->user[0])))
        in->target_count = kg_registrar_find(registrar, in->sip->sip_request->rq_url, in->sip->sip_route,
                                             in->target, KG_TARGETS_MAX);
    in->facts.contacts = in->target_count;
    in->facts.user_exists = in->target_count > 0 || (!in->facts.has_pbx && in->facts.auth_user &&
                                                     kg_registrar_has_account(registrar, in->user));
}

/* The servers of one group, in the order in which they are asked. False: none can be. */
static bool pick_servers(struct inquiry *in, uint32_t group)
{
    const struct kg_server *server = in->calls->server;
    uint32_t peer[KG_FAILOVER_SERVERS];
    size_t count = kg_peers_pick(server->peers, group, kg_registrar_pbx_of(server->registrar, in->flow), peer,
                                 KG_FAILOVER_SERVERS);
    for (size_t i = 0; i < count; i++) {
        const struct kg_flow *flow = kg_peers_flow(server->peers, peer[i]);
        if (!flow) {
            kg_peers_outcome(server->peers, peer[i], KG_OUTCOME_UNREACHABLE, 0);
            continue;
        }
        kg_flow_copy(&in->target[in->target_count].flow, flow);
        in->target[in->target_count].path =
            kg_registrar_service_route(server->registrar, in->flow, in->from_user, flow);
        in->peer[in->target_count++] = peer[i];
    }
    return in->target_count > 0;
}

/* Returns 0 with targets, or an errno when the INVITE was answered. */
static int find_way(struct inquiry *in)
{
    const struct kg_server *server = in->calls->server;
    copy_user(in->sip->sip_request->rq_url, in->user);
    copy_user(in->sip->sip_from->a_url, in->from_user);
    in->facts = (struct kg_route_facts){
        .has_pbx = server->config.pbx_count > 0,
        .source =
            kg_peers_source(server->peers, &in->flow->remote) == KG_GROUP_PBX ? KG_FROM_PBX : KG_FROM_PHONE,
        .to_us = kg_sip_is_us(server->sip, in->sip->sip_request->rq_url),
        .user = in->user,
        .from_user = in->from_user};
    memcpy(in->caller, in->from_user, sizeof in->caller);
    struct kg_route_decision way = kg_route_decide(&in->facts);
    if (way.verdict == KG_ROUTE_AUTHENTICATE) {
        if (kg_registrar_authorize(server->registrar, in->irq, in->sip, in->flow, in->caller,
                                   sizeof in->caller) != KG_AUTH_OK) {
            nta_incoming_destroy(in->irq);
            return EACCES;
        }
        in->facts.auth_user = in->caller;
    }
    look_up(in);
    way = kg_route_decide(&in->facts);
    if (way.verdict == KG_ROUTE_PHONE)
        return 0;
    if (way.verdict == KG_ROUTE_PBX) {
        if (pick_servers(in, KG_GROUP_PBX))
            return 0;
        way.status = 503;
        way.why = "no PBX is up (kedgectl peers)";
    }
    kg_info("call", "%s cannot call %s: %d, %s", in->caller, in->user, way.status, way.why);
    refuse(in, way.status, way.status == 503 ? KG_CALL_RETRY_AFTER : 0);
    return EHOSTUNREACH;
}

/* ---- the call ---- */

static void assess(struct inquiry *in, struct kg_record_leg *record, struct kg_addr sdp)
{
    const sip_via_t *via = in->sip->sip_via;
    const url_t *contact = in->sip->sip_contact->m_url;
    struct kg_nat_verdict verdict;
    struct kg_nat_seen seen = {.source = in->flow->remote,
                               .via_host = via->v_host,
                               .via_port = (uint16_t)(via->v_port ? strtoul(via->v_port, NULL, 10) : 0),
                               .contact_host = contact->url_host,
                               .contact_port =
                                   (uint16_t)(contact->url_port ? strtoul(contact->url_port, NULL, 10) : 0),
                               .sdp = sdp,
                               .transport = in->flow->transport};
    kg_nat_assess(&seen, &verdict);
    record->nat = verdict.behind_nat;
    size_t size = verdict.reason_count * (sizeof verdict.reason[0] + 1), used = 0;
    record->nat_reasons = size ? calloc(1, size) : NULL;
    for (unsigned i = 0; record->nat_reasons && i < verdict.reason_count; i++) {
        size_t len = strnlen(verdict.reason[i], sizeof verdict.reason[i]);
        if (i > 0)
            record->nat_reasons[used++] = '\n';
        memcpy(record->nat_reasons + used, verdict.reason[i], len);
        used += len;
    }
}

static int move_targets(struct inquiry *in, struct kg_call *call)
{
    if (kg_call_reserve(call, in->target_count) != 0)
        return ENOMEM;
    for (size_t i = 0; i < in->target_count; i++) {
        struct kg_call_target *target = &call->target[i];
        struct kg_target *from = &in->target[i];
        *target =
            (struct kg_call_target){.pbx = call->leg[KG_SIDE_B].pbx, .trunk = call->leg[KG_SIDE_B].trunk};
        target->url =
            call->leg[KG_SIDE_B].pbx ? kg_url_text(in->sip->sip_request->rq_url) : strdup(from->contact);
        target->nat = from->nat;
        target->peer = in->peer[i];
        target->order = (struct kg_fork_contact){
            .q = from->q, .device = call->leg[KG_SIDE_B].pbx ? (uint32_t)i + 1 : from->device};
        target->path = from->path && *from->path ? strdup(from->path) : NULL;
        target->flow = from->flow;
        from->flow = (struct kg_flow){0};
        call->target_count++;
        if (!target->url)
            return ENOMEM;
    }
    return 0;
}

static unsigned count_rounds(const struct kg_call *call)
{
    if (call->target_count == 1)
        return 1;
    struct kg_fork_contact contact[KG_TARGETS_MAX];
    for (uint8_t i = 0; i < call->target_count; i++)
        contact[i] = call->target[i].order;
    return kg_fork_rounds(contact, call->target_count, call->parallel);
}

static int fill_record(struct inquiry *in, struct kg_call *call)
{
    struct kg_record *record = call->record;
    record->from = kg_url_text(in->sip->sip_from->a_url);
    record->to = kg_url_text(in->sip->sip_to->a_url);
    record->leg[KG_SIDE_A].user = strdup(in->caller);
    record->leg[KG_SIDE_A].call_id = strdup(in->sip->sip_call_id->i_id);
    record->leg[KG_SIDE_A].pbx = call->leg[KG_SIDE_A].pbx;
    record->leg[KG_SIDE_B].pbx = call->leg[KG_SIDE_B].pbx;
    record->leg[KG_SIDE_B].user =
        strdup(call->leg[KG_SIDE_B].pbx || !in->target[0].user[0] ? in->user : in->target[0].user);
    record->path = kg_path_name(&call->path);
    record->reason = kg_path_reason(&call->path);
    return record->from && record->to && record->leg[0].user && record->leg[0].call_id && record->leg[1].user
               ? 0
               : ENOMEM;
}

static void start(struct inquiry *in)
{
    char error[160] = "";
    struct kg_call *call = kg_call_new(in->calls, NULL);
    if (!call) {
        refuse(in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    struct kg_leg *a = &call->leg[KG_SIDE_A];
    a->pbx = in->facts.source == KG_FROM_PBX;
    call->leg[KG_SIDE_B].pbx = in->facts.has_pbx && !a->pbx;
    call->max_forwards =
        in->sip->sip_max_forwards ? (int)in->sip->sip_max_forwards->mf_count - 1 : MAX_FORWARDS - 1;
    if (fill_record(in, call) != 0 || move_targets(in, call) != 0 ||
        kg_leg_accept(a, in->irq, in->sip, in->flow) != 0) {
        a->irq = NULL;
        kg_call_end(call);
        refuse(in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    enum kg_sdp_found found = kg_talk_take(a, in->sip, error, sizeof error);
    if (found == KG_SDP_BAD) {
        kg_info("call", "%s cannot call %s: its SDP cannot be understood: %s", in->caller, in->user, error);
        a->irq = NULL;
        kg_reply_refuse(in->irq, a, &(struct kg_fsm_action){.status = 488, .why = error});
        kg_call_end(call);
        return;
    }
    call->invite_key = in->key;
    HASH_ADD(hh_invite, in->calls->by_invite, invite_key, sizeof call->invite_key, call);
    kg_counters.calls_started++;
    if (!a->pbx)
        assess(in, &call->record->leg[KG_SIDE_A], a->sdp ? kg_sdp_host(a->sdp) : (struct kg_addr){0});
    kg_info("call", "call %s: %s calls %s", call->record->id, in->caller, call->record->leg[KG_SIDE_B].user);
    call->parallel = !call->leg[KG_SIDE_B].pbx && in->calls->server->config.calls.fork == KG_FORK_PARALLEL;
    kg_fsm_init(&call->fsm, count_rounds(call), call->leg[KG_SIDE_B].pbx);
    call->fsm.reliable = kg_reliable_of(in->calls, in->sip);
    kg_call_event(call,
                  &(struct kg_fsm_event){.type = KG_EV_INVITE, .side = KG_SIDE_A, .sdp = found == KG_SDP_OK});
}

/* RFC 3261 8.2.2.2: what makes two INVITEs the same one that came over two paths. With the request URI: two
 * phones behind kedge are two UASes. FNV-1a over the four texts; 0 is never returned. */
static uint64_t invite_key(const sip_t *sip)
{
    char cseq[16];
    snprintf(cseq, sizeof cseq, "%u", (unsigned)sip->sip_cseq->cs_seq);
    const url_t *url = sip->sip_request->rq_url;
    const char *const text[] = {sip->sip_call_id->i_id, sip->sip_from->a_tag, cseq, url->url_user,
                                url->url_host};
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        for (const char *c = text[i] ? text[i] : ""; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        hash = (hash ^ 0xff) * 0x100000001b3u; /* between two texts */
    }
    return hash ? hash : 1;
}

void kg_calls_invite(struct kg_calls *calls, nta_incoming_t *irq, const sip_t *sip,
                     const struct kg_flow *flow)
{
    struct inquiry in = {.calls = calls, .irq = irq, .sip = sip, .flow = flow};
    if (!sip->sip_contact || sip->sip_contact->m_url->url_type == url_any) {
        refuse(&in, 400, 0); /* RFC 3261 8.1.1.8 */
        return;
    }
    if (calls->count >= calls->server->config.limits.calls || calls->unheard >= KG_UNHEARD_MAX) {
        kg_counters.calls_refused++;
        refuse(&in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    if (kg_session_refuse(calls, irq, sip)) { /* RFC 4028 9 */
        nta_incoming_destroy(irq);
        return;
    }
    struct kg_call *merged = NULL;
    in.key = invite_key(sip);
    HASH_FIND(hh_invite, calls->by_invite, &in.key, sizeof in.key, merged);
    if (merged) {
        refuse(&in, 482, 0);
        return;
    }
    if (find_way(&in) == 0)
        start(&in);
    for (size_t i = 0; i < in.target_count; i++)
        kg_flow_clear(&in.target[i].flow);
}
