/* A request on its way: sent on, perhaps to several places, until one answer goes back. */
#include "b2bua/request/inside.h"

#include <stdio.h>
#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <utlist.h>

#include "b2bua/request/subscription.h"
#include "b2bua/route/peers.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"

/* RFC 3261 16.6 step 3: where the request has none. */
#define MAX_FORWARDS 70
/* In a dialog: as many hops as any way through a PBX has. */
#define RETRY_AFTER 5

static int on_response(struct kg_transit *t, nta_outgoing_t *orq, const sip_t *sip);

/* ---- life ---- */

/* Takes request over. */
static struct kg_transit *transit_new(struct kg_requests *requests, nta_incoming_t *irq, msg_t *request,
                                      const struct kg_flow *flow)
{
    struct kg_transit *t = calloc(1, sizeof *t);
    if (!t) {
        msg_destroy(request);
        return NULL;
    }
    t->requests = requests;
    t->irq = irq;
    t->request = request;
    t->sip = request ? sip_object(request) : NULL;
    if (flow)
        kg_flow_copy(&t->flow, flow);
    DL_APPEND(requests->transits, t);
    requests->transit_count++;
    return t;
}

void kg_transit_free(struct kg_transit *t)
{
    DL_DELETE(t->requests->transits, t);
    t->requests->transit_count--;
    if (t->subscription)
        t->subscription->transits--;
    for (size_t i = 0; i < KG_WAY_MAX; i++)
        if (t->orq[i])
            nta_outgoing_destroy(t->orq[i]);
    if (t->irq)
        nta_incoming_destroy(t->irq); /* 500 unless it was answered */
    msg_destroy(t->best);
    msg_destroy(t->request);
    kg_way_clear(&t->way);
    kg_flow_clear(&t->flow);
    free(t);
}

/* ---- there ---- */

static void fill_hops(const struct kg_transit *t, sip_max_forwards_t hops[1])
{
    const sip_max_forwards_t *left = t->sip->sip_max_forwards;
    sip_max_forwards_init(hops)->mf_count = left && left->mf_count > 0 ? left->mf_count - 1 : MAX_FORWARDS;
}

/* Outside of dialogs: Call-ID, tags and CSeq of our own for each. */
static nta_outgoing_t *send_alone(struct kg_transit *t, size_t i)
{
    const sip_t *sip = t->sip;
    const struct kg_target *target = &t->way.target[i];
    const char *name = sip->sip_request->rq_method_name, *path = t->way.path[i];
    const struct kg_party_passage passage = {.config = &t->requests->server->config,
                                             .from = {t->way.from.kind, t->way.trunk},
                                             .to = {t->way.to.kind, t->way.over[i]}};
    struct kg_composed made;
    struct kg_addressed who;
    char route[KG_FLOW_URL], call_id[KG_REQUEST_ID + 1], tag[KG_REQUEST_TAG + 1];
    sip_max_forwards_t hops[1];
    nta_outgoing_t *orq = NULL;
    msg_t *msg = nta_msg_create(t->requests->agent, 0);
    if (!msg)
        return NULL;
    kg_compose(&made, t->requests, sip, t->way.from, t->way.to);
    kg_party_identify(&passage, sip, t->way.by, &made.passed);
    bool addressed = kg_compose_addresses(made.home, t->requests, sip, &t->way, i, &who);
    sip_request_t *request = addressed ? sip_request_create(msg_home(msg), sip->sip_request->rq_method, name,
                                                            (url_string_t *)who.where, NULL)
                                       : NULL;
    if (request) {
        t->requests->sending++;
        kg_requests_random_hex(call_id, KG_REQUEST_ID);
        kg_requests_random_hex(tag, KG_REQUEST_TAG);
        fill_hops(t, hops);
        sip_header_insert(msg, sip_object(msg), (sip_header_t *)request);
        orq = nta_outgoing_mcreate(
            t->requests->agent, on_response, t, URL_STRING_MAKE(kg_flow_route_url(&target->flow, route)), msg,
            NTATAG_TPORT(target->flow.tport),
            SIPTAG_FROM_STR(su_sprintf(made.home, "%s;tag=%s", who.from, tag)), SIPTAG_TO_STR(who.to),
            SIPTAG_CALL_ID_STR(call_id), SIPTAG_CSEQ_STR(su_sprintf(made.home, "1 %s", name)),
            SIPTAG_MAX_FORWARDS(hops), TAG_IF(path, SIPTAG_ROUTE_STR(path)), TAG_NEXT(made.tag));
        t->requests->sending--;
    }
    kg_compose_done(&made);
    if (!orq)
        msg_destroy(msg);
    return orq;
}

/* In a dialog, or (target not NULL) as the request that makes it, by this path. */
static nta_outgoing_t *send_inside(struct kg_transit *t, const struct kg_target *target, const char *path)
{
    struct kg_end *end = &t->subscription->end[t->to_end];
    const sip_request_t *request = t->sip->sip_request;
    struct kg_composed made;
    char route[KG_HOP_URL], contact_buf[KG_CONTACT_URL];
    sip_contact_t contact[1];
    sip_max_forwards_t hops[1];
    if (target && kg_end_open(end, t->sip, t->way.from, target) != 0)
        return NULL;
    fill_hops(t, hops);
    kg_end_contact(end, contact, contact_buf);
    kg_compose(&made, t->requests, t->sip, t->way.from, t->way.to);
    t->requests->sending++;
    nta_outgoing_t *orq = nta_outgoing_tcreate(
        end->dialog, on_response, t, (url_string_t *)kg_end_route_url(end, route), request->rq_method,
        request->rq_method_name, target ? (url_string_t *)end->target : NULL, NTATAG_TPORT(end->flow.tport),
        SIPTAG_CONTACT(contact), SIPTAG_MAX_FORWARDS(hops), TAG_IF(path, SIPTAG_ROUTE_STR(path)),
        TAG_NEXT(made.tag));
    t->requests->sending--;
    kg_compose_done(&made);
    return orq;
}

static bool is_last(const struct kg_transit *t)
{
    return t->next_target >= t->way.count;
}

static void set_patience(struct kg_transit *t)
{
    t->give_up_ms = kg_mono_ms() + (t->way.to.kind == KG_PEER_PHONE ? KG_PHONE_ANSWER_MS
                                    : is_last(t)                    ? KG_LAST_PBX_ANSWER_MS
                                                                    : KG_PBX_ANSWER_MS);
}

static bool send_to(struct kg_transit *t, size_t i)
{
    const struct kg_target *target = &t->way.target[i];
    t->tried |= 1u << i;
    t->proofs = 0;
    if (t->way.to.kind != KG_PEER_PHONE)
        t->way.to = kg_party_peer(
            (struct kg_party_side){t->way.over[i] ? KG_PEER_TRUNK : KG_PEER_PBX, t->way.over[i]});
    set_patience(t);
    t->orq[i] = t->subscription ? send_inside(t, target, t->way.path[i]) : send_alone(t, i);
    return t->orq[i] != NULL;
}

/* RFC 5626 5.3: the flow to target i has failed, and its phone has another one. */
static bool send_other_flow(struct kg_transit *t, size_t i)
{
    for (size_t k = 0; t->way.to.kind == KG_PEER_PHONE && k < t->way.count; k++)
        if (!(t->tried >> k & 1) && t->way.target[k].device == t->way.target[i].device && send_to(t, k))
            return true;
    return false;
}

/* A flow of a phone that was already sent to over another one. */
static bool is_spare(const struct kg_transit *t, size_t i)
{
    for (size_t k = 0; t->way.to.kind == KG_PEER_PHONE && k < i; k++)
        if (t->way.target[k].device == t->way.target[i].device)
            return true;
    return false;
}

/* To the next place that can be reached. False: there is none. */
static bool send_next(struct kg_transit *t)
{
    while (!is_last(t)) {
        size_t i = t->next_target++;
        if (!is_spare(t, i) && (send_to(t, i) || send_other_flow(t, i)))
            return true;
    }
    return false;
}

/* ---- and back ---- */

static struct kg_peer asked(const struct kg_transit *t)
{
    return t->way.to;
}

/* What the one who asked is told where the other side said this. */
static int map_status(const struct kg_transit *t, int status)
{
    bool phone = t->way.to.kind == KG_PEER_PHONE;
    if (!phone && (t->way.to.kind == KG_PEER_TRUNK || t->way.trunk) && (status == 401 || status == 407))
        return 503; /* kedge has no password for it, or not the right one; nobody else has */
    if (status >= 300 && status < 400)
        return 480;    /* would lead past kedge */
    if (status == 408) /* RFC 4320 4.1 */
        return phone ? 480 : 504;
    if (phone && (status == 401 || status == 407 || status == 503))
        return 480; /* a phone has nobody here to challenge, and speaks for itself alone */
    return status < 700 ? status : 500;
}

/* sip NULL: an answer of kedge's own. */
static void reply(struct kg_transit *t, int status, const sip_t *sip)
{
    struct kg_composed made;
    sip_contact_t contact[1];
    char buf[KG_CONTACT_URL];
    bool in_dialog = t->subscription && status < 300;
    if (!t->irq)
        return;
    if (in_dialog)
        kg_end_contact(&t->subscription->end[1 - t->to_end], contact, buf);
    if (sip) {
        kg_compose(&made, t->requests, sip, asked(t), t->way.from);
        nta_incoming_treply(t->irq, status, NULL, TAG_IF(in_dialog, SIPTAG_CONTACT(contact)),
                            TAG_IF(status == 405, SIPTAG_ALLOW_STR(KG_SIP_ALLOW)), TAG_NEXT(made.tag));
        kg_compose_done(&made);
    } else {
        nta_incoming_treply(t->irq, status, NULL, TAG_IF(in_dialog, SIPTAG_CONTACT(contact)),
                            TAG_IF(status == 503, SIPTAG_RETRY_AFTER_STR("5")), TAG_END());
    }
    nta_incoming_destroy(t->irq);
    t->irq = NULL;
}

/* Ends it. sip NULL: nobody answered in time. */
static void finish(struct kg_transit *t, int status, const sip_t *sip)
{
    struct kg_subscription *subscription = t->subscription;
    int told = subscription ? kg_subscription_answered(subscription, t, status, sip) : status;
    reply(t, told >= 300 ? map_status(t, told) : told, told == status ? sip : NULL);
    bool over = subscription && kg_subscription_is_over(subscription);
    kg_transit_free(t);
    if (over)
        kg_subscription_free(subscription);
}

/* RFC 3261 16.7 step 6: 6xx before all, then the lowest class; of 4xx what the sender can act on. */
static int rank(int status)
{
    if (status >= 600)
        return 0;
    if (status == 401 || status == 407 || status == 415 || status == 420 || status == 484)
        return 1;
    return status / 100;
}

static void remember(struct kg_transit *t, nta_outgoing_t *orq, int status)
{
    const sip_t *best = t->best ? sip_object(t->best) : NULL;
    if (best && rank(best->sip_status->st_status) <= rank(status))
        return;
    msg_destroy(t->best);
    t->best = nta_outgoing_getresponse(orq);
}

static bool is_waiting(const struct kg_transit *t)
{
    for (size_t i = 0; i < KG_WAY_MAX; i++)
        if (t->orq[i])
            return true;
    return false;
}

static void give_up(struct kg_transit *t)
{
    const sip_t *best = t->best ? sip_object(t->best) : NULL;
    finish(t, best ? best->sip_status->st_status : 408, best);
}

/* What an answer says of the PBX that was asked. Silence says nothing: a phone behind it may take its time.
 */
static void judge(const struct kg_transit *t, const struct kg_flow *flow, const sip_t *sip, int status)
{
    struct kg_peers *peers = t->requests->server->peers;
    bool own = !sip || !sip->sip_status || nta_sip_is_internal(sip);
    uint32_t retry_after_s = !own && sip->sip_retry_after ? (uint32_t)sip->sip_retry_after->af_delta : 0;
    if (!own || status != 408)
        kg_peers_outcome(peers, kg_peers_of_flow(peers, flow),
                         own             ? KG_OUTCOME_UNREACHABLE
                         : status == 503 ? KG_OUTCOME_BUSY
                                         : KG_OUTCOME_GOOD,
                         retry_after_s);
}

/* A trunk's server is given the trunk's password, the PBX that of the trunk that the request comes from.
 * True: it is asked again. */
static bool prove(struct kg_transit *t, size_t i, const sip_t *response)
{
    const struct kg_flow *flow = &t->way.target[i].flow;
    struct kg_trunk *trunk = t->way.over[i] ? t->way.over[i] : t->way.trunk;
    int status = response->sip_status->st_status;
    char route[KG_FLOW_URL];
    if (!trunk || t->way.to.kind == KG_PEER_PHONE || (status != 401 && status != 407))
        return false;
    msg_t *msg = kg_trunk_prove(trunk, t->way.over[i] ? KG_ACCOUNT_PROVIDER : KG_ACCOUNT_PBX, NULL, t->orq[i],
                                response, t->proofs++);
    t->requests->sending++;
    nta_outgoing_t *proven = msg ? nta_outgoing_mcreate(t->requests->agent, on_response, t,
                                                        URL_STRING_MAKE(kg_flow_route_url(flow, route)), msg,
                                                        NTATAG_TPORT(flow->tport), TAG_END())
                                 : NULL;
    t->requests->sending--;
    if (!proven) {
        msg_destroy(msg);
        return false;
    }
    nta_outgoing_destroy(t->orq[i]);
    t->orq[i] = proven;
    set_patience(t);
    return true;
}

/* Target i does not take it. */
static void go_on(struct kg_transit *t, size_t i, bool silence, int status)
{
    bool to_pbx = t->way.to.kind != KG_PEER_PHONE;
    nta_outgoing_destroy(t->orq[i]);
    t->orq[i] = NULL;
    if (to_pbx && (silence || status == 503) && send_next(t))
        return;
    if ((silence || status == 430) && send_other_flow(t, i))
        return;
    if (!is_waiting(t) || status >= 600)
        give_up(t);
}

static int on_response(struct kg_transit *t, nta_outgoing_t *orq, const sip_t *sip)
{
    int status = sip && sip->sip_status ? sip->sip_status->st_status : 408;
    bool silence = !sip || !sip->sip_status || nta_sip_is_internal(sip);
    size_t i = 0;
    if (status < 200)
        return 0;
    while (i < KG_WAY_MAX && t->orq[i] != orq)
        i++;
    if (i == KG_WAY_MAX)
        return 0;
    if (t->way.to.kind != KG_PEER_PHONE)
        judge(t, &t->way.target[i].flow, sip, status);
    if (t->requests->sending > 0) { /* perhaps for t itself, or for one that is walked past: with the tick */
        t->lost |= 1u << i;
        return 0;
    }
    if (!silence && status < 300) {
        finish(t, status, sip);
        return 0;
    }
    if (!silence && prove(t, i, sip))
        return 0;
    if (!silence)
        remember(t, orq, status);
    go_on(t, i, silence, status);
    return 0;
}

/* What ends a subscription ends what else is under way in it. */
static bool is_alone(const struct kg_transit *t)
{
    return !t->subscription || t->subscription->transits == 1;
}

/* One of those that failed while something was being sent. */
static void see_lost(struct kg_transit *t)
{
    size_t i = 0;
    while (!(t->lost >> i & 1))
        i++;
    t->lost &= t->lost - 1;
    if (t->orq[i])
        go_on(t, i, true, 503);
}

void kg_transits_tick(struct kg_requests *requests, int64_t now_ms)
{
    struct kg_transit *t = requests->transits, *next;
    for (; t; t = next) {
        next = t->next;
        bool goes_on = false, alone = is_alone(t);
        if (t->lost) {
            see_lost(t);
            if (!alone)
                next = requests->transits;
            continue;
        }
        if (now_ms < t->give_up_ms)
            continue;
        uint32_t silent = 0;
        for (size_t i = 0; i < KG_WAY_MAX; i++) {
            if (!t->orq[i])
                continue;
            nta_outgoing_destroy(t->orq[i]);
            t->orq[i] = NULL;
            silent |= 1u << i;
        }
        for (size_t i = 0; i < KG_WAY_MAX; i++)
            goes_on |= (silent >> i & 1) && send_other_flow(t, i);
        if (goes_on || (t->way.to.kind != KG_PEER_PHONE && send_next(t)))
            continue;
        give_up(t);
        if (!alone) /* next may be gone with it */
            next = requests->transits;
    }
}

/* ---- starting ---- */

void kg_transit_start(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                      const struct kg_flow *flow, struct kg_way *way, struct kg_subscription *subscription)
{
    struct kg_transit *t = requests->transit_count < KG_TRANSITS_MAX
                               ? transit_new(requests, irq, nta_incoming_getrequest(irq), flow)
                               : NULL;
    (void)sip;
    if (!t) {
        kg_way_clear(way);
        kg_request_refuse(irq, SIP_503_SERVICE_UNAVAILABLE, RETRY_AFTER);
        if (subscription)
            kg_subscription_free(subscription);
        return;
    }
    kg_way_move(&t->way, way);
    t->subscription = subscription;
    t->to_end = KG_NOTIFIER;
    if (subscription)
        subscription->transits++;
    kg_counters.requests_passed++;
    bool sent = send_next(t);
    while (sent && t->way.manner == KG_MANNER_ALL && send_next(t))
        ;
    if (!sent)
        give_up(t);
}

int kg_transit_notify(struct kg_subscription *subscription, const char *state, const char *type,
                      const char *body, size_t len)
{
    struct kg_requests *requests = subscription->requests;
    struct kg_end *end = &subscription->end[KG_SUBSCRIBER];
    char route[KG_HOP_URL], contact_buf[KG_CONTACT_URL];
    sip_contact_t contact[1];
    sip_payload_t payload[1];
    if (requests->transit_count >= KG_TRANSITS_MAX)
        return 503;
    struct kg_transit *t = transit_new(requests, NULL, NULL, NULL);
    if (!t)
        return 503;
    t->subscription = subscription;
    subscription->transits++;
    t->to_end = KG_SUBSCRIBER;
    t->way.to = end->peer;
    set_patience(t);
    kg_end_contact(end, contact, contact_buf);
    sip_payload_init(payload)->pl_data = (char *)body;
    payload->pl_len = len;
    t->orq[0] = nta_outgoing_tcreate(
        end->dialog, on_response, t, (url_string_t *)kg_end_route_url(end, route), SIP_METHOD_NOTIFY, NULL,
        NTATAG_TPORT(end->flow.tport), SIPTAG_CONTACT(contact), SIPTAG_MAX_FORWARDS_STR("70"),
        SIPTAG_EVENT_STR(subscription->event), SIPTAG_SUBSCRIPTION_STATE_STR(state),
        TAG_IF(len, SIPTAG_CONTENT_TYPE_STR(type)), TAG_IF(len, SIPTAG_PAYLOAD(payload)), TAG_END());
    if (t->orq[0])
        return 0;
    kg_transit_free(t);
    return 500;
}

int kg_transit_inside(struct kg_subscription *subscription, unsigned to_end, nta_incoming_t *irq,
                      msg_t *request, const struct kg_flow *flow)
{
    struct kg_requests *requests = subscription->requests;
    if (subscription->transits >= KG_TRANSITS_OF_SUBSCRIPTION_MAX ||
        requests->transit_count >= KG_TRANSITS_MAX)
        return 503;
    struct kg_transit *t = transit_new(requests, NULL, msg_ref(request), flow);
    if (!t || !t->sip) /* the second never */
        return 503;
    t->subscription = subscription;
    subscription->transits++;
    t->to_end = to_end;
    t->way.from = subscription->end[1 - to_end].peer;
    t->way.to = subscription->end[to_end].peer;
    set_patience(t);
    t->orq[0] = send_inside(t, NULL, NULL);
    if (!t->orq[0]) {
        kg_transit_free(t);
        return 500;
    }
    t->irq = irq; /* not before: who calls answers it otherwise */
    return 0;
}
