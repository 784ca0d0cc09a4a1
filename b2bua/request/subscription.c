/* Subscriptions: how they begin, what passes in their dialogs, how they end. */
#include "b2bua/request/subscription.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/route/peers.h"
#include "b2bua/sip/hush.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Where nobody names a time: RFC 6665 leaves the default to the package, dialog (RFC 4235 3.4), presence (RFC
 * 3856 6.4) and message-summary (RFC 3842 3.4) have an hour. Of a REFER the notifier says it (RFC
 * 3515 2.4.4). Seconds. */
#define DEFAULT_EXPIRES 3600
/* A kept NOTIFY is tried again after this, then after twice as long; a phone that comes back tells before. */
#define RETRY_MS     30000
#define RETRY_MAX_MS 480000
/* Requests of one phone in one dialog: at once, and then a second. A lamp
 * changes a few times a call, a typist's presence some times a minute. */
#define BURST       20
#define RATE        5
#define RETRY_AFTER 30 /* seconds, RFC 3261 21.5.4 */

/* ---- life ---- */

static int remember(char **field, const char *text)
{
    *field = strdup(text ? text : "");
    return *field ? 0 : ENOMEM;
}

struct kg_subscription *kg_subscription_new(struct kg_requests *requests, const char *id, struct kg_peer from,
                                            struct kg_peer to)
{
    struct kg_subscription *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->requests = requests;
    if (id)
        snprintf(s->id, sizeof s->id, "%s", id);
    else
        kg_requests_random_hex(s->id, KG_REQUEST_ID);
    s->expires_ms = KG_NEVER;
    s->retry_ms = KG_NEVER;
    for (unsigned i = 0; i < 2; i++) {
        s->end[i].subscription = s;
        s->end[i].index = i;
    }
    s->end[KG_SUBSCRIBER].peer = from;
    s->end[KG_NOTIFIER].peer = to;
    HASH_ADD_STR(requests->subscriptions, id, s);
    return s;
}

static void drop_transits(struct kg_subscription *s)
{
    struct kg_transit *t, *next;
    DL_FOREACH_SAFE(s->requests->transits, t, next)
    {
        if (s->transits == 0)
            break;
        if (t->subscription == s)
            kg_transit_free(t);
    }
}

void kg_subscription_free(struct kg_subscription *s)
{
    drop_transits(s);
    s->requests->lamps -= s->own;
    if (s->stored && !s->requests->closing) /* what ends with the process goes on in the next */
        kg_subscription_forget(s);
    HASH_DEL(s->requests->subscriptions, s);
    kg_end_close(&s->end[KG_SUBSCRIBER]);
    kg_end_close(&s->end[KG_NOTIFIER]);
    msg_destroy(s->kept);
    free(s->event);
    free(s->by);
    free(s->of);
    free(s);
}

/* ---- beginning ---- */

/* What the request lacks: a status and its phrase, or 0. */
static int check_first(const sip_t *sip, const char **phrase)
{
    bool refer = sip->sip_request->rq_method == sip_method_refer;
    int status = 0;
    if (!sip->sip_contact || sip->sip_contact->m_url->url_type == url_any) {
        status = 400; /* RFC 3261 8.1.1.8: it makes a dialog */
        *phrase = "Contact Missing";
    } else if (refer && !sip->sip_refer_to) {
        status = 400; /* RFC 3515 2.4.2 */
        *phrase = "Refer-To Missing";
    } else if (!refer && (!sip->sip_event || !sip->sip_event->o_type)) {
        status = 489; /* RFC 6665 8.2.1 */
        *phrase = "Bad Event";
    }
    return status;
}

static const char *event_of(const sip_t *sip)
{
    return sip->sip_event && sip->sip_event->o_type ? sip->sip_event->o_type : "refer";
}

/* A phone that was restarted has forgotten its subscriptions and makes them again. When the user has as many
 * as he may, the one that is asked for once more goes, the oldest first; the notifier hears 481 with its next
 * NOTIFY. */
static bool make_room(struct kg_subscription *s)
{
    struct kg_subscriber *user = NULL;
    struct kg_end *end;
    HASH_FIND_STR(s->requests->subscribers, s->by, user);
    for (end = user ? user->ends : NULL; end; end = end->next) {
        struct kg_subscription *old = end->subscription;
        if (end->index == KG_SUBSCRIBER && strcmp(old->event, s->event) == 0 && strcmp(old->of, s->of) == 0) {
            kg_subscription_free(old);
            return true;
        }
    }
    return false;
}

static int fill(struct kg_subscription *s, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow,
                const struct kg_way *way)
{
    int failed = remember(&s->event, event_of(sip)) || remember(&s->by, way->by) || remember(&s->of, way->of)
                     ? ENOMEM
                     : kg_end_accept(&s->end[KG_SUBSCRIBER], irq, sip, flow);
    if (!failed && way->from.kind == KG_PEER_PHONE)
        failed = kg_end_belongs(&s->end[KG_SUBSCRIBER], way->by);
    if (failed == EDQUOT && make_room(s))
        failed = kg_end_belongs(&s->end[KG_SUBSCRIBER], way->by);
    if (!failed && way->to.kind == KG_PEER_PHONE)
        failed = kg_end_belongs(&s->end[KG_NOTIFIER], way->of);
    return failed;
}

void kg_subscription_start(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                           const struct kg_flow *flow, struct kg_way *way)
{
    const struct kg_config *config = &requests->server->config;
    const char *phrase = NULL;
    int status = check_first(sip, &phrase), failed = 0;
    struct kg_subscription *s = NULL;
    if (!status && HASH_COUNT(requests->subscriptions) >= config->limits.subscriptions)
        status = 503;
    if (!status && !(s = kg_subscription_new(requests, NULL, way->from, way->to)))
        status = 503;
    if (!status && (failed = fill(s, irq, sip, flow, way)) != 0)
        status = failed == EDQUOT ? 403 : 503;
    if (!status && way->manner == KG_MANNER_OWN) {
        s->own = true;
        requests->lamps++;
        status = kg_lamp_subscribed(s, irq, sip);
        if (!status)
            return;
    }
    if (!status) {
        kg_transit_start(requests, irq, sip, flow, way, s);
        return;
    }
    if (failed == EDQUOT) {
        kg_counters.requests_refused++;
        kg_debug("request",
                 "%s has all the subscriptions that one user may have (limits.subscriptions_per_user)",
                 way->by);
        phrase = "Too Many Subscriptions";
    }
    if (s)
        kg_subscription_free(s);
    kg_way_clear(way);
    kg_request_refuse(irq, status, phrase, status == 503 ? RETRY_AFTER : 0);
}

/* ---- what answers mean ---- */

static void expire_in(struct kg_subscription *s, uint64_t seconds)
{
    if (seconds > UINT32_MAX)
        seconds = UINT32_MAX;
    /* Both sides count for themselves; the last NOTIFY may come when the time is over. */
    s->expires_ms = kg_mono_ms() + (int64_t)seconds * 1000 + KG_TIMER_N_MS;
}

void kg_subscription_end_soon(struct kg_subscription *s)
{
    s->state = KG_SUBSCRIPTION_ENDING;
    s->expires_ms = kg_mono_ms() + KG_TIMER_N_MS;
}

/* RFC 4488: the one who was asked sends no NOTIFY. */
static bool is_without_notify(const sip_t *sip)
{
    for (const sip_unknown_t *header = sip->sip_unknown; header; header = header->un_next)
        if (strcasecmp(header->un_name, "Refer-Sub") == 0)
            return strncasecmp(header->un_value, "false", 5) == 0;
    return false;
}

static void follow(struct kg_end *end, const struct kg_flow *flow);

/* 2xx to SUBSCRIBE or REFER. */
static void granted(struct kg_subscription *s, const struct kg_transit *t, const sip_t *sip)
{
    struct kg_end *end = &s->end[KG_NOTIFIER];
    bool refer = t->sip->sip_request->rq_method == sip_method_refer;
    const sip_expires_t *expires = sip->sip_expires ? sip->sip_expires : t->sip->sip_expires;
    /* A NOTIFY may have come before (RFC 6665 4.1.2.4); of a forked SUBSCRIBE the first one counts. */
    if (!nta_leg_get_rtag(end->dialog) && sip->sip_to->a_tag) {
        nta_leg_rtag(end->dialog, sip->sip_to->a_tag);
        nta_leg_client_route(end->dialog, sip->sip_record_route, sip->sip_contact);
    } else {
        nta_leg_client_reroute(end->dialog, NULL, sip->sip_contact, 0);
    }
    if (s->state == KG_SUBSCRIPTION_ASKED) {
        s->state = KG_SUBSCRIPTION_UP;
        kg_counters.subscriptions_made++;
    }
    if (refer && is_without_notify(sip))
        s->state = KG_SUBSCRIPTION_OVER;
    else if (!refer && expires && expires->ex_delta == 0)
        kg_subscription_end_soon(s);
    else
        expire_in(s, !refer && expires ? expires->ex_delta : DEFAULT_EXPIRES);
    /* Whom the notifier believes is at the place that the request came from. */
    if (s->end[KG_SUBSCRIBER].peer.kind == KG_PEER_PHONE && kg_addr_is_set(&t->flow.remote))
        follow(&s->end[KG_SUBSCRIBER], &t->flow);
    if (s->state == KG_SUBSCRIPTION_UP) {
        s->stored = true;
        kg_subscription_save(s);
    }
}

/* What ends the subscription and not only the request in it (RFC 5057 5.1). */
bool kg_subscription_is_fatal(int status)
{
    return status == 404 || status == 405 || status == 410 || status == 416 || status == 481 ||
           status == 489 || status == 501 || status == 604;
}

static void keep(struct kg_subscription *s, msg_t *request)
{
    msg_t *kept = msg_ref_create(request);
    msg_destroy(s->kept);
    s->kept = kept;
    s->end[KG_SUBSCRIBER].away = true;
    s->retry_after_ms = s->retry_after_ms ? s->retry_after_ms * 2 : RETRY_MS;
    if (s->retry_after_ms > RETRY_MAX_MS)
        s->retry_after_ms = RETRY_MAX_MS;
    s->retry_ms = kg_mono_ms() + s->retry_after_ms;
}

static bool is_terminated(const sip_t *sip)
{
    const sip_subscription_state_t *state = sip->sip_subscription_state;
    return state && state->ss_substate && strcasecmp(state->ss_substate, "terminated") == 0;
}

int kg_subscription_answered(struct kg_subscription *s, struct kg_transit *t, int status, const sip_t *sip)
{
    struct kg_end *end = &s->end[t->to_end];
    if (s->own) {
        kg_lamp_answered(s, status, sip);
        return status;
    }
    if (t->to_end == KG_NOTIFIER) {
        if (sip && status < 300)
            granted(s, t, sip);
        else if (s->state == KG_SUBSCRIPTION_ASKED || kg_subscription_is_fatal(status))
            s->state = KG_SUBSCRIPTION_OVER;
        return status;
    }
    if (!sip && end->peer.kind == KG_PEER_PHONE) {
        keep(s, t->request);
        return 200;
    }
    if (sip && status < 300) {
        nta_leg_client_reroute(end->dialog, NULL, sip->sip_contact, 0);
        end->away = false;
        s->retry_after_ms = 0;
    }
    if (is_terminated(t->sip) || kg_subscription_is_fatal(status))
        s->state = KG_SUBSCRIPTION_OVER;
    return status;
}

bool kg_subscription_is_over(const struct kg_subscription *s)
{
    return s->state == KG_SUBSCRIPTION_OVER;
}

/* ---- phones that are away, and come back ---- */

static void deliver(struct kg_subscription *s)
{
    msg_t *kept = s->kept;
    s->due = s->own;
    s->end[KG_SUBSCRIBER].away &= !s->own;
    s->kept = NULL;
    s->retry_ms = KG_NEVER;
    if (kept && kg_transit_inside(s, KG_SUBSCRIBER, NULL, kept, NULL) != 0)
        keep(s, kept);
    msg_destroy(kept);
}

/* The end's phone is at another place: what was kept for it is sent there. */
static void follow(struct kg_end *end, const struct kg_flow *flow)
{
    struct kg_subscription *s = end->subscription;
    if (!kg_flow_same(&end->flow, flow)) {
        kg_end_move(end, flow);
        if (s->stored)
            kg_subscription_save(s);
    }
    end->away = false;
    s->retry_after_ms = 0;
    if (end->index == KG_SUBSCRIBER)
        deliver(s);
}

/* A contact that is new may be the phone that was lost: from the same host, or with the Contact that the
 * dialog knows. A phone that is not meant answers 481, and both sides subscribe anew. */
static bool is_back(const struct kg_requests *requests, const struct kg_end *end, const struct kg_flow *flow)
{
    const sip_contact_t *contact = NULL;
    struct kg_target target;
    if (!end->away && kg_end_is_reachable(end))
        return false;
    if (end->flow.transport == flow->transport && kg_addr_same_host(&end->flow.remote, &flow->remote))
        return true;
    if (nta_leg_get_route(end->dialog, NULL, &contact) < 0 || !contact ||
        kg_registrar_by_flow(requests->server->registrar, flow, end->user->name, &target) != 0)
        return false;
    char *url = kg_compose_text(contact->m_url);
    bool same = url && strcmp(url, target.contact) == 0;
    free(url);
    kg_flow_clear(&target.flow);
    return same;
}

void kg_requests_moved(struct kg_requests *requests, const char *name, const struct kg_flow *before,
                       const struct kg_flow *after)
{
    struct kg_subscriber *user = NULL;
    struct kg_end *end, *next;
    HASH_FIND_STR(requests->subscribers, name, user);
    if (!user)
        return;
    DL_FOREACH_SAFE(user->ends, end, next)
    {
        if (!end->dialog) /* of a lamp of kedge's own */
            continue;
        bool was_there = kg_addr_is_set(&before->remote) && kg_flow_same(&end->flow, before);
        if (was_there || is_back(requests, end, after))
            follow(end, after);
    }
}

/* ---- requests in the dialogs ---- */

/* Who may speak in this dialog. A PBX is known by its address. Of a phone the tags say that it is the one,
 * and in front of a PBX nothing else can (call/README.md); of the embedded registrar's a new place takes the
 * password. *status: why not; 0: it was answered. */
static bool is_peer(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow,
                    int *status)
{
    const struct kg_server *server = end->subscription->requests->server;
    char account[128];
    *status = 403;
    if (end->peer.kind != KG_PEER_PHONE)
        return kg_peers_source(server->peers, &flow->remote) == KG_GROUP_PBX ||
               kg_addr_same_host(&flow->remote, &end->flow.remote);
    if (kg_addr_same_host(&flow->remote, &end->flow.remote))
        return true;
    if (server->config.pbx_count > 0)
        return end->index == KG_SUBSCRIBER; /* the PBX looks at its credentials */
    *status = 0;
    if (kg_registrar_authorize(server->registrar, irq, sip, flow, account, sizeof account) != KG_AUTH_OK)
        return false;
    *status = 403;
    return end->user && strcmp(account, end->user->name) == 0;
}

/* RFC 6665 4.1.3, 8.2.1. A status to refuse it with, or 0. */
static int check_notify(const struct kg_end *end, const sip_t *sip)
{
    if (end->index != KG_NOTIFIER)
        return 405;
    if (!sip->sip_subscription_state)
        return 400;
    return strcasecmp(event_of(sip), end->subscription->event) == 0 && sip->sip_event ? 0 : 489;
}

static void note_state(struct kg_subscription *s, const sip_t *sip)
{
    const sip_subscription_state_t *state = sip->sip_subscription_state;
    snprintf(s->substate, sizeof s->substate, "%s", state->ss_substate ? state->ss_substate : "");
    if (is_terminated(sip))
        kg_subscription_end_soon(s); /* should the answer to it not come */
    else if (state->ss_expires && s->state != KG_SUBSCRIPTION_ENDING)
        expire_in(s, strtoul(state->ss_expires, NULL, 10)); /* RFC 6665 4.1.2.1: it may be shorter */
}

static int on_notify(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, msg_t *msg)
{
    struct kg_subscription *s = end->subscription;
    struct kg_end *to = &s->end[KG_SUBSCRIBER];
    int status = check_notify(end, sip);
    if (status)
        return status;
    if (!nta_leg_get_rtag(end->dialog)) { /* RFC 6665 4.4.1: a NOTIFY makes the dialog */
        nta_leg_rtag(end->dialog, sip->sip_from->a_tag);
        nta_leg_server_route(end->dialog, sip->sip_record_route, sip->sip_contact);
    } else if (sip->sip_contact) {
        nta_leg_server_route(end->dialog, NULL, sip->sip_contact);
    }
    note_state(s, sip);
    if (kg_end_is_reachable(to))
        return kg_transit_inside(s, KG_SUBSCRIBER, irq, msg, NULL);
    keep(s, msg);
    return 200;
}

static int on_subscribe(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, msg_t *msg,
                        const struct kg_flow *flow)
{
    struct kg_subscription *s = end->subscription;
    if (end->index != KG_SUBSCRIBER || strcmp(s->event, "refer") == 0)
        return 405;
    if (!sip->sip_event || strcasecmp(event_of(sip), s->event) != 0)
        return 489;
    if (sip->sip_contact)
        nta_leg_server_route(end->dialog, NULL, sip->sip_contact);
    if (!s->own)
        return kg_transit_inside(s, KG_NOTIFIER, irq, msg, flow);
    if (!kg_flow_same(&end->flow, flow))
        follow(end, flow);
    return kg_lamp_subscribed(s, irq, sip);
}

static int serve(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    const struct kg_requests *requests = end->subscription->requests;
    int method = sip->sip_request->rq_method, status;
    if (method == sip_method_options)
        return 200;
    if (method != sip_method_notify && method != sip_method_subscribe)
        return 405;
    if (sip->sip_payload && sip->sip_payload->pl_len > requests->server->config.limits.request_body)
        return 413;
    if (!is_peer(end, irq, sip, flow, &status))
        return status;
    msg_t *msg = nta_incoming_getrequest(irq);
    status =
        method == sip_method_notify ? on_notify(end, irq, sip, msg) : on_subscribe(end, irq, sip, msg, flow);
    msg_destroy(msg);
    return status;
}

/* True: it was answered, and the rest of what comes so fast is not heard for a while. */
static bool is_too_fast(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip)
{
    int64_t now_ms = kg_mono_ms();
    if (end->peer.kind != KG_PEER_PHONE || kg_pace_take(&end->pace, now_ms, RATE, BURST))
        return false;
    kg_hush_refused(&end->pace_refused, sip->sip_call_id, now_ms);
    nta_incoming_treply(irq, SIP_500_INTERNAL_SERVER_ERROR, SIPTAG_RETRY_AFTER_STR("1"), TAG_END());
    return true;
}

int kg_end_request(struct kg_end *end, nta_leg_t *dialog, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_flow flow;
    (void)dialog;
    if (is_too_fast(end, irq, sip))
        return 500;
    if (kg_flow_of_incoming(end->subscription->requests->agent, irq, &flow) != 0)
        return 500;
    int status = serve(end, irq, sip, &flow);
    kg_flow_clear(&flow);
    if (status == 200) {
        sip_contact_t contact[1];
        char buf[KG_CONTACT_URL];
        kg_end_contact(end, contact, buf);
        nta_incoming_treply(irq, SIP_200_OK, SIPTAG_CONTACT(contact), TAG_END());
    } else if (status == 405) {
        nta_incoming_treply(irq, SIP_405_METHOD_NOT_ALLOWED, SIPTAG_ALLOW_STR(KG_SIP_ALLOW), TAG_END());
    } else if (status == 489) {
        nta_incoming_treply(irq, SIP_489_BAD_EVENT, SIPTAG_ALLOW_EVENTS_STR(KG_ALLOW_EVENTS), TAG_END());
    } else if (status == 423) {
        nta_incoming_treply(irq, SIP_423_INTERVAL_TOO_BRIEF, SIPTAG_MIN_EXPIRES_STR(KG_LAMP_MIN_EXPIRES),
                            TAG_END());
    } else if (status == 503) {
        nta_incoming_treply(irq, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR("5"), TAG_END());
    }
    return status; /* nta answers with it what was not answered, and destroys irq */
}

/* ---- time ---- */

void kg_subscriptions_tick(struct kg_requests *requests, int64_t now_ms)
{
    struct kg_subscription *s, *next;
    HASH_ITER(hh, requests->subscriptions, s, next)
    {
        if (now_ms >= s->expires_ms && s->own && s->state == KG_SUBSCRIPTION_UP)
            kg_lamp_expired(s);
        else if (now_ms >= s->expires_ms)
            kg_subscription_free(s);
        else if (now_ms >= s->retry_ms && kg_end_is_reachable(&s->end[KG_SUBSCRIBER]))
            deliver(s);
    }
}

/* ---- for people ---- */

static const char *state_name(const struct kg_subscription *s)
{
    if (s->state == KG_SUBSCRIPTION_ASKED)
        return "asked";
    if (s->end[KG_SUBSCRIBER].away || s->kept)
        return "waiting for the phone";
    return s->substate[0] ? s->substate : "active";
}

/* What phones write need not be UTF-8, as JSON is. */
static json_t *text_json(const char *text)
{
    char safe[1024];
    kg_log_escape(text, safe, sizeof safe);
    return json_string(safe);
}

json_t *kg_requests_subscriptions_json(const struct kg_requests *requests)
{
    json_t *list = json_array();
    int64_t now_ms = kg_mono_ms();
    for (const struct kg_subscription *s = requests->subscriptions; s; s = s->hh.next) {
        const struct kg_end *by = &s->end[KG_SUBSCRIBER], *of = &s->end[KG_NOTIFIER];
        const struct kg_end *phone = by->peer.kind == KG_PEER_PHONE ? by : of;
        char remote[KG_ADDR_STR];
        int64_t margin = s->own ? 0 : KG_TIMER_N_MS;
        int64_t left = s->expires_ms == KG_NEVER ? 0 : (s->expires_ms - margin - now_ms) / 1000;
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o, s:I, s:s, s:s}", "id", s->id,
                                              "event", text_json(s->event), "by",
                                              text_json(by->peer.kind == KG_PEER_PHONE ? s->by : "the PBX"),
                                              "of", text_json(s->of), "state", text_json(state_name(s)),
                                              "expires_in", (json_int_t)(left > 0 ? left : 0), "transport",
                                              kg_transport_name(phone->flow.transport), "remote",
                                              kg_addr_format(&phone->flow.remote, remote)));
    }
    return list;
}

size_t kg_requests_subscriptions(const struct kg_requests *requests)
{
    return HASH_COUNT(requests->subscriptions);
}
