/* A 3xx to leg B's INVITE: passed to the caller, or followed in the name of who diverts (RFC 3261 16.7 step
 * 4, 8.1.3.4). */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_mime.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/url.h>

#include "b2bua/call/divert.h"
#include "b2bua/call/identity.h"
#include "b2bua/call/refer.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "b2bua/sip/uri.h"
#include "conf/log.h"

/* Contacts of one 3xx that are looked at, in the order in which they stand. */
#define CONTACTS_MAX 4
/* Of a user part, with NUL; longer ones are nobody's. */
#define USER_SIZE 128

static const char *user_of(const struct kg_call *call, unsigned n)
{
    const char *user = call->target[n].user;
    return user ? user : call->called;
}

/* ---- may it be followed ---- */

/* Whoever was called in this call before was called at all contacts: once more would be a circle. */
static bool was_called(const struct kg_call *call, const char *user)
{
    bool found = call->called && strcmp(call->called, user) == 0;
    for (uint8_t i = 0; i < call->target_count && !found; i++)
        found = strcmp(user_of(call, i), user) == 0;
    return found;
}

static unsigned hops(const struct kg_call *call, unsigned n)
{
    unsigned count = 0;
    for (; call->target[n].diverted; n = call->target[n].by)
        count++;
    return count;
}

/* How often it had been diverted before it came here: a circle may lead through a provider and back. Who lies
 * about it loses a diversion. */
static unsigned came_diverted(const struct kg_call *call)
{
    msg_t *msg = kg_leg_invite(&call->leg[KG_SIDE_A]);
    unsigned count = 0;
    for (const sip_unknown_t *h = msg ? sip_object(msg)->sip_unknown : NULL; h; h = h->un_next)
        count += strcasecmp(h->un_name, "Diversion") == 0;
    msg_destroy(msg);
    return count;
}

/* A PBX may send the call elsewhere on itself, by an address of its own or by the name that was called. */
static bool is_of_pbx(const struct kg_leg *leg, const url_t *url)
{
    const struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    struct kg_addr host;
    const char *name = url->url_host ? url->url_host : "";
    msg_t *msg = kg_leg_invite(from);
    const sip_t *sip = msg ? sip_object(msg) : NULL;
    bool found = kg_addr_parse_host(name, 0, &host) == 0 && kg_addr_same_host(&host, &leg->flow.remote);
    found = found || (sip && sip->sip_request->rq_url->url_host &&
                      strcasecmp(sip->sip_request->rq_url->url_host, name) == 0);
    msg_destroy(msg);
    return found || kg_sip_is_us(leg->call->calls->server->sip, url);
}

/* ---- following ---- */

/* One diversion under way. */
struct diversion {
    struct kg_leg *leg;
    unsigned by;         /* the contact that diverts: call->target[] */
    int cause;           /* its status */
    const char *reason;  /* of its Diversion header */
    const char *refused; /* why the last Contact was not followed */
};

static struct kg_call_target *add_target(struct diversion *d, const char *user, uint16_t q)
{
    struct kg_call *call = d->leg->call;
    if (call->target_count == KG_TARGETS_MAX || kg_call_reserve(call, call->target_count + 1u) != 0)
        return NULL;
    struct kg_call_target *target = &call->target[call->target_count];
    *target =
        (struct kg_call_target){.user = strdup(user),
                                .pbx = d->leg->pbx,
                                .trunk = kg_trunk_hold(d->leg->trunk),
                                .diverted = true,
                                .by = (uint8_t)d->by,
                                .cause = (uint16_t)d->cause,
                                .reason = d->reason,
                                .order = {.q = q, .device = KG_TARGETS_MAX * (call->target_count + 1u) + 1}};
    if (!target->user) {
        kg_trunk_release(target->trunk);
        return NULL;
    }
    call->target_count++;
    return target;
}

/* To where the PBX sends the call: over the same way. */
static int follow_pbx(struct diversion *d, const sip_contact_t *contact, const char *user, uint16_t q)
{
    if (!is_of_pbx(d->leg, contact->m_url)) {
        d->refused = "it leads away from the PBX";
        return EPERM;
    }
    struct kg_call_target *target = add_target(d, user, q);
    url_t url = *contact->m_url;
    url.url_headers = url.url_fragment = NULL; /* no part of a request URI (RFC 3261 19.1.1), nor obeyed */
    if (!target || !(target->url = kg_url_text(&url)))
        return ENOMEM;
    target->peer = d->leg->peer;
    kg_flow_copy(&target->flow, &d->leg->flow);
    return 0;
}

/* To a trunk, as if the one that diverts had dialled the number. 0, or ENOENT. */
static int follow_out(struct diversion *d, const char *user, uint16_t q)
{
    struct kg_call *call = d->leg->call;
    struct kg_outlet out[KG_FAILOVER_SERVERS];
    uint32_t device = KG_TARGETS_MAX * (call->target_count + 1u) + 1;
    size_t count = kg_way_out(call, user_of(call, d->by), user, out, &d->refused), added = 0;
    for (size_t i = 0; i < count; i++) {
        struct kg_call_target *target = add_target(d, user, q);
        if (!target)
            break;
        target->order.device = device; /* one at a time: the next one when that does not answer */
        target->pbx = true;
        target->trunk = kg_trunk_hold(out[i].trunk);
        target->peer = out[i].peer;
        kg_flow_copy(&target->flow, out[i].flow);
        added++;
    }
    return added > 0 ? 0 : ENOENT;
}

/* To another account, as if the one that diverts had called it: what it may not call it cannot divert to. */
static int follow_phone(struct diversion *d, const sip_contact_t *contact, const char *user, uint16_t q)
{
    const struct kg_server *server = d->leg->call->calls->server;
    struct kg_target found[KG_TARGETS_MAX];
    uint32_t device = KG_TARGETS_MAX * (d->leg->call->target_count + 1u) + 1;
    int failed = 0;
    if (contact->m_url->url_type != url_tel && !kg_sip_is_us(server->sip, contact->m_url)) {
        d->refused = "its domain is not served here";
        return EPERM;
    }
    size_t count = kg_registrar_find(server->registrar, contact->m_url, NULL, found, KG_TARGETS_MAX);
    if (count == 0 && follow_out(d, user, q) == 0)
        return 0;
    if (count == 0 && !d->refused)
        d->refused = kg_registrar_has_account(server->registrar, user)
                         ? "that user has no phone registered at the moment"
                         : "no account has this name";
    for (size_t i = 0; i < count; i++) {
        struct kg_call_target *target = failed ? NULL : add_target(d, user, q);
        if (target) {
            target->nat = found[i].nat;
            target->path = found[i].path && *found[i].path ? strdup(found[i].path) : NULL;
            target->order.device = device + found[i].device; /* several flows of one phone stay one */
            target->flow = found[i].flow;
            found[i].flow = (struct kg_flow){0};
            target->url = strdup(found[i].contact);
        }
        failed = target && target->url ? 0 : ENOMEM;
        kg_flow_clear(&found[i].flow);
    }
    return count == 0 ? ENOENT : failed;
}

/* 0, or why not in d->refused. */
static int follow_one(struct diversion *d, const sip_contact_t *contact)
{
    struct kg_call *call = d->leg->call;
    char user[USER_SIZE];
    kg_uri_user(contact->m_url, user, sizeof user);
    d->refused = NULL;
    if (!user[0])
        d->refused = "it names no user";
    else if (was_called(call, user))
        d->refused = "that user was called already";
    else if (hops(call, d->by) + came_diverted(call) + 2 > KG_DIVERT_STEPS_MAX)
        d->refused = "the call was diverted too often";
    if (d->refused)
        return EPERM;
    uint16_t q = contact->m_q ? (uint16_t)msg_q_value(contact->m_q) : 1000;
    int failed = d->leg->pbx ? follow_pbx(d, contact, user, q) : follow_phone(d, contact, user, q);
    if (failed == ENOMEM)
        d->refused = "out of memory, or too many contacts";
    if (!failed) {
        kg_record_divert(call->record, user_of(call, d->by), user, d->cause);
        kg_info("call", "call %s: %s diverts it to %s (%d)", call->record->id, user_of(call, d->by), user,
                d->cause);
    }
    return failed;
}

/* RFC 5806 4.3: what the phone itself says, else what can be seen. */
static const char *reason_of(const struct kg_leg *leg, const sip_t *sip)
{
    for (const sip_unknown_t *h = sip->sip_unknown; h; h = h->un_next)
        if (strcasecmp(h->un_name, "Diversion") == 0)
            return kg_divert_reason(h->un_value);
    return kg_early_newest(leg) ? "unknown" : "unconditional";
}

static bool follow(struct kg_leg *leg, unsigned by, const sip_t *sip)
{
    struct diversion d = {
        .leg = leg, .by = by, .cause = sip->sip_status->st_status, .reason = reason_of(leg, sip)};
    unsigned seen = 0, followed = 0;
    for (const sip_contact_t *c = sip->sip_contact; c && seen < CONTACTS_MAX; c = c->m_next, seen++) {
        if (follow_one(&d, c) == 0)
            followed++;
        else
            kg_info("call", "call %s: %s diverts it to %s@%s, where it does not go: %s",
                    leg->call->record->id, user_of(leg->call, by),
                    c->m_url->url_user ? c->m_url->url_user : "",
                    c->m_url->url_host ? c->m_url->url_host : "", d.refused ? d.refused : "?");
    }
    return followed > 0;
}

/* ---- policy ---- */

/* What calls.redirect means for these two sides. */
static enum kg_redirect_mode mode_of(const struct kg_leg *leg)
{
    const struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    enum kg_redirect_mode mode = leg->call->calls->server->config.calls.redirect;
    if (mode != KG_REDIRECT_FOLLOW)
        return mode;
    if (from->pbx && !from->trunk) /* a PBX knows best where its users may divert to */
        return KG_REDIRECT_PASS;
    return leg->trunk ? KG_REDIRECT_REFUSE : KG_REDIRECT_FOLLOW;
}

/* Where the other side will send the call in the name of who diverts. */
static bool caps_permit(const struct kg_leg *leg, const sip_t *sip)
{
    const sip_contact_t *c = sip->sip_contact;
    while (c && kg_refer_permits(leg, c->m_url))
        c = c->m_next;
    return !c;
}

int kg_redirect(struct kg_leg *leg, unsigned by, const sip_t *sip, const char **why)
{
    int status = sip->sip_status->st_status;
    switch (mode_of(leg)) {
    case KG_REDIRECT_FOLLOW:
        if (follow(leg, by, sip))
            return 0;
        if (leg->pbx) /* elsewhere the caller may go by itself */
            return status;
        *why = "the callee's phone diverts the call to where kedge does not send it";
        return 480;
    case KG_REDIRECT_PASS:
        if (!leg->call->leg[kg_other_side(leg->side)].pbx || caps_permit(leg, sip))
            return status;
        *why = "the callee's phone diverts the call to a number that it may not call (caps)";
        return 480;
    case KG_REDIRECT_REFUSE:
        break;
    }
    *why = "the callee's side diverts calls, which is not wanted here (calls.redirect, or a trunk)";
    return 480;
}

/* ---- what the next one is told ---- */

char *kg_redirect_headers(const struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    const struct kg_call *call = leg->call;
    const char *domain = call->calls->server->config.sip.domain, *history = NULL;
    struct kg_divert_step step[KG_DIVERT_STEPS_MAX];
    size_t at = KG_DIVERT_STEPS_MAX;
    struct kg_privacy privacy = kg_privacy_of(sip);
    if (!kg_peer_is_trusted(kg_leg_peer(leg)) && (privacy.history || privacy.header)) /* RFC 7044 10.1 */
        return NULL;
    step[--at] = (struct kg_divert_step){.user = user_of(call, n)};
    for (; call->target[n].diverted && at > 0; n = call->target[n].by)
        step[--at] = (struct kg_divert_step){.user = user_of(call, call->target[n].by),
                                             .cause = call->target[n].cause,
                                             .reason = call->target[n].reason};
    for (const sip_unknown_t *h = sip->sip_unknown; h; h = h->un_next)
        if (strcasecmp(h->un_name, "History-Info") == 0 &&
            kg_peer_is_trusted(kg_leg_peer(&call->leg[kg_other_side(leg->side)])))
            history = h->un_value;
    return kg_divert_headers(&step[at], KG_DIVERT_STEPS_MAX - at, domain[0] ? domain : "localhost", history);
}
