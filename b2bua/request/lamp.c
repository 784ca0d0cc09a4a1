/* Lamps without a PBX: who subscribes to the calls of an account (event package dialog, RFC 4235) is told by
 * kedge itself. */
#include "b2bua/request/subscription.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/lamp.h"
#include "b2bua/request/dialog_info.h"
#include "conf/clock.h"

/* RFC 4235 3.4; below the least a phone would do nothing else (423). Seconds. */
#define EXPIRES_MAX 3600
#define EXPIRES_MIN 30
/* Calls of one user in a document, about 20; more are not shown. */
#define CALLS_SIZE    12288
#define DOCUMENT_SIZE (CALLS_SIZE + 512)
#define RETRY_MS      30000
#define TYPE          "application/dialog-info+xml"

/* ---- what there is to tell ---- */

/* FNV-1a */
static uint64_t hash_of(const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}

static void write_uri(const struct kg_requests *requests, const char *user, char *out, size_t size)
{
    snprintf(out, size, "sip:%.128s@%.110s", user, requests->server->config.sip.domain);
}

static void on_call(void *ctx, const struct kg_lamp *lamp)
{
    static const char *const state[] = {"trying", "early", "confirmed"};
    struct kg_requests *requests = ctx;
    struct kg_subscriber *user = NULL;
    struct kg_dialog_info_entry entry = {
        .id = lamp->id, .state = state[lamp->state], .initiator = lamp->initiator, .named = lamp->named};
    char local[256], remote[256];
    HASH_FIND_STR(requests->subscribers, lamp->user, user);
    if (!user || !user->calls)
        return;
    write_uri(requests, lamp->user, local, sizeof local);
    write_uri(requests, lamp->other, remote, sizeof remote);
    entry.local = local;
    entry.remote = remote;
    if (lamp->named) { /* Replaces for the other party's phone: its own tag is the to-tag */
        memcpy(entry.dialog.call_id, lamp->dialog.call_id, sizeof entry.dialog.call_id);
        memcpy(entry.dialog.remote_tag, lamp->dialog.to_tag, sizeof entry.dialog.remote_tag);
        memcpy(entry.dialog.local_tag, lamp->dialog.from_tag, sizeof entry.dialog.local_tag);
    }
    user->calls_len = kg_dialog_info_append(user->calls, CALLS_SIZE, user->calls_len, &entry);
}

/* ---- telling it ---- */

static void notify(struct kg_subscription *s, const char *state)
{
    const struct kg_subscriber *user = s->end[KG_NOTIFIER].user;
    char document[DOCUMENT_SIZE], entity[256];
    write_uri(s->requests, s->of, entity, sizeof entity);
    size_t len = kg_dialog_info_document(document, sizeof document, entity, s->version, s->of,
                                         user && user->calls ? user->calls : "");
    if (len == 0 || kg_transit_notify(s, state, TYPE, document, len) != 0)
        return; /* still due: tried again at the next tick */
    s->version++;
    s->due = false;
    s->told = user && user->calls ? hash_of(user->calls, user->calls_len) : 0;
}

static void notify_active(struct kg_subscription *s)
{
    char state[48];
    int64_t left = (s->expires_ms - kg_mono_ms()) / 1000;
    snprintf(state, sizeof state, "active;expires=%d", (int)(left > 0 ? left : 0));
    notify(s, state);
}

static bool can_be_told(const struct kg_subscription *s)
{
    const struct kg_end *end = &s->end[KG_SUBSCRIBER];
    return s->state == KG_SUBSCRIPTION_UP && s->transits == 0 && !end->away && kg_end_is_reachable(end);
}

void kg_lamps_tick(struct kg_requests *requests)
{
    struct kg_subscription *s, *next;
    for (struct kg_subscriber *user = requests->subscribers; user; user = user->hh.next) {
        user->calls_len = 0;
        if (user->calls)
            user->calls[0] = '\0';
    }
    kg_calls_each_lamp(requests->server->calls, on_call, requests);
    HASH_ITER(hh, requests->subscriptions, s, next)
    {
        const struct kg_subscriber *user = s->own ? s->end[KG_NOTIFIER].user : NULL;
        if (user && user->calls && can_be_told(s) &&
            (s->due || s->told != hash_of(user->calls, user->calls_len)))
            notify_active(s);
    }
}

/* ---- the subscription ---- */

static int watch(struct kg_subscription *s)
{
    struct kg_subscriber *user = s->end[KG_NOTIFIER].user;
    if (user && !user->calls)
        user->calls = calloc(1, CALLS_SIZE);
    return user && user->calls ? 0 : ENOMEM;
}

int kg_lamp_restored(struct kg_subscription *s)
{
    return watch(s);
}

int kg_lamp_subscribed(struct kg_subscription *s, nta_incoming_t *irq, const sip_t *sip)
{
    unsigned long expires = sip->sip_expires ? sip->sip_expires->ex_delta : EXPIRES_MAX;
    sip_contact_t contact[1];
    sip_expires_t granted[1];
    char buf[KG_CONTACT_URL];
    if (expires > 0 && expires < EXPIRES_MIN)
        return 423;
    if (watch(s) != 0)
        return 503;
    if (expires > EXPIRES_MAX)
        expires = EXPIRES_MAX;
    sip_expires_init(granted)->ex_delta = expires;
    kg_end_contact(&s->end[KG_SUBSCRIBER], contact, buf);
    nta_incoming_treply(irq, SIP_200_OK, SIPTAG_CONTACT(contact), SIPTAG_EXPIRES(granted), TAG_END());
    nta_incoming_destroy(irq);
    if (s->state == KG_SUBSCRIPTION_ASKED)
        kg_counters.subscriptions_made++;
    s->end[KG_SUBSCRIBER].away = false;
    if (expires == 0) {
        kg_subscription_end_soon(s);
        notify(s, "terminated;reason=timeout");
        return 0;
    }
    s->state = KG_SUBSCRIPTION_UP;
    s->expires_ms = kg_mono_ms() + (int64_t)expires * 1000;
    s->due = true; /* RFC 6665 4.2.1.2: at once, that is with the next tick */
    s->stored = true;
    kg_subscription_save(s);
    return 0;
}

void kg_lamp_expired(struct kg_subscription *s)
{
    kg_subscription_end_soon(s);
    notify(s, "terminated;reason=timeout");
}

void kg_lamp_answered(struct kg_subscription *s, int status, const sip_t *sip)
{
    struct kg_end *end = &s->end[KG_SUBSCRIBER];
    if (kg_subscription_is_fatal(status) || s->state == KG_SUBSCRIPTION_ENDING) {
        s->state = KG_SUBSCRIPTION_OVER;
    } else if (!sip) { /* told when it comes back, or is asked again */
        end->away = s->due = true;
        s->retry_after_ms = s->retry_after_ms ? s->retry_after_ms * 2 : RETRY_MS;
        s->retry_ms = kg_mono_ms() + s->retry_after_ms;
    } else {
        s->retry_after_ms = 0;
    }
}
