#include "b2bua/registrar/registrar.h"

#include <errno.h>
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/sip_status.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/route/peers.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Expiries and keepalives are looked at so often; they need no better precision. */
#define TICK_MS 100
/* Work done in one tick at the most: 10,000 keepalives a second, and the loop stays free for calls. */
#define TICK_WORK_MAX 1000
/* Lines a second about what strangers send. */
#define COMPLAINTS_MAX 5
/* RFC 3261 21.5.4: when a caller beyond limits.unregistered_calls may come back. Seconds. */
#define RETRY_AFTER "5"

nta_agent_t *kg_registrar_agent(const struct kg_registrar *registrar)
{
    return registrar->server->sip ? kg_sip_agent(registrar->server->sip) : NULL;
}

/* --- the clock --------------------------------------------------------------------------------------------
 */

static void expire(struct kg_registrar *registrar, struct kg_binding *b)
{
    kg_counters.bindings_expired++;
    kg_registrar_drop(registrar, b, "expired");
}

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_registrar *registrar = (struct kg_registrar *)arg;
    int64_t now_ms = kg_mono_ms();
    struct kg_binding *b;

    (void)magic;
    (void)timer;
    for (int i = 0; i < TICK_WORK_MAX && (b = kg_bindings_due(registrar->bindings, now_ms)); i++) {
        if (b->expires_ms <= now_ms)
            expire(registrar, b);
        else
            kg_keepalive_due(registrar, b, now_ms);
    }
    if (registrar->front)
        kg_front_tick(registrar->front, now_ms);
}

/* Answers that belong to no transaction: to keepalives and probes, which have none. */
static int on_stray(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_registrar *registrar = (struct kg_registrar *)magic;
    const char *call_id = sip && sip->sip_status && sip->sip_call_id ? sip->sip_call_id->i_id : "";

    if (!kg_keepalive_answer(registrar, call_id))
        kg_peers_answer(registrar->server->peers, sip);
    kg_sip_ack_stray(kg_registrar_agent(registrar), orq);
    return 0;
}

/* --- making and ending ------------------------------------------------------------------------------------
 */

static bool make_parts(struct kg_registrar *registrar)
{
    struct kg_server *server = registrar->server;
    uint8_t secret[32];

    if (!server->store || kg_store_secret(server->store, secret))
        kg_random(secret,
                  sizeof secret); /* phones are asked for their password again after a restart, no more */
    registrar->bindings = kg_bindings_new();
    registrar->digest = kg_digest_new(secret, kg_wall_ms());
    memset(secret, 0, sizeof secret);
    if (!registrar->bindings || !registrar->digest)
        return false;
    if (server->config.pbx_count > 0)
        return (registrar->front = kg_front_new(registrar)) != NULL;
    registrar->accounts = kg_accounts_new(server->store, registrar->digest, server->config.sip.domain);
    return registrar->accounts != NULL;
}

struct kg_registrar *kg_registrar_new(struct kg_server *server)
{
    struct kg_registrar *registrar = calloc(1, sizeof *registrar);

    if (!registrar)
        return NULL;
    registrar->server = server;
    registrar->keepalive_cseq = kg_random_u32() >> 2;
    registrar->timer = su_timer_create(su_root_task(server->root), TICK_MS);
    if (!registrar->timer || !make_parts(registrar)) {
        kg_registrar_free(registrar);
        return NULL;
    }
    kg_persist_load(registrar);
    if (kg_registrar_agent(registrar))
        registrar->strays =
            nta_outgoing_default(kg_registrar_agent(registrar), on_stray, (nta_outgoing_magic_t *)registrar);
    su_timer_set_for_ever(registrar->timer, on_tick, (su_timer_arg_t *)registrar);
    return registrar;
}

void kg_registrar_free(struct kg_registrar *registrar)
{
    if (!registrar)
        return;
    su_timer_destroy(registrar->timer);
    if (registrar->strays)
        nta_outgoing_destroy(registrar->strays);
    kg_front_free(registrar->front);
    kg_bindings_free(registrar->bindings);
    kg_accounts_free(registrar->accounts);
    kg_digest_free(registrar->digest);
    kg_keepalive_free(registrar);
    kg_departed_free(registrar);
    free(registrar);
}

/* --- what embedded.c, front.c and keepalive.c share
 * --------------------------------------------------------- */

void kg_registrar_complain(struct kg_registrar *registrar, const char *what, const char *user,
                           const struct kg_flow *flow)
{
    int64_t second = kg_mono_ms() / 1000;
    char from[KG_ADDR_STR];

    if (registrar->complaints.second != second) {
        if (registrar->complaints.held_back > 0)
            kg_warn("registrar", "%u more complaints like these within a second",
                    registrar->complaints.held_back);
        registrar->complaints.second = second;
        registrar->complaints.count = registrar->complaints.held_back = 0;
    }
    if (registrar->complaints.count >= COMPLAINTS_MAX) {
        registrar->complaints.held_back++;
        return;
    }
    registrar->complaints.count++;
    kg_warn("registrar", "%s: user %s, from %s %s", what, user, kg_transport_name(flow->transport),
            kg_addr_format(&flow->remote, from));
}

static uint16_t port_of(const char *text)
{
    unsigned long port = text ? strtoul(text, NULL, 10) : 0;

    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

bool kg_registrar_is_behind_nat(const sip_t *sip, const struct kg_flow *flow, struct kg_nat_verdict *verdict)
{
    const url_t *contact = sip->sip_contact ? sip->sip_contact->m_url : NULL;
    const struct kg_nat_seen seen = {.source = flow->remote,
                                     .via_host = sip->sip_via->v_host,
                                     .via_port = port_of(sip->sip_via->v_port),
                                     .contact_host = contact ? contact->url_host : NULL,
                                     .contact_port = contact ? port_of(contact->url_port) : 0,
                                     .transport = flow->transport};
    struct kg_nat_verdict own;

    if (!verdict)
        verdict = &own;
    kg_nat_assess(&seen, verdict);
    return verdict->behind_nat;
}

void kg_registrar_assess(struct kg_binding *b, const sip_t *sip)
{
    struct kg_nat_verdict verdict;
    char reasons[KG_NAT_REASONS_MAX * sizeof verdict.reason[0]] = "";
    size_t used = 0;

    b->nat = kg_registrar_is_behind_nat(sip, &b->flow, &verdict);
    for (unsigned i = 0; i < verdict.reason_count; i++)
        used +=
            (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s", i ? "\n" : "", verdict.reason[i]);
    kg_binding_set(&b->nat_reasons, reasons);
}

uint32_t kg_registrar_ceiling(const struct kg_registrar *registrar, const struct kg_flow *flow, bool nat)
{
    const struct kg_config *config = &registrar->server->config;

    if (flow->transport != KG_UDP)
        return config->registration.phone_expires_stream_ms / 1000;
    return (nat ? config->registration.phone_expires_udp_ms : config->registration.phone_expires_lan_ms) /
           1000;
}

void kg_registrar_drop(struct kg_registrar *registrar, struct kg_binding *b, const char *why)
{
    char from[KG_ADDR_STR];

    kg_addr_format(&b->flow.remote, from);
    if (why)
        kg_info("registrar", "the contact of %s at %s %s %s", b->user, kg_transport_name(b->flow.transport),
                from, why);
    else
        kg_info("registrar", "%s at %s %s unregistered", b->user, kg_transport_name(b->flow.transport), from);
    if (why)
        kg_keepalive_remember(registrar, b);
    kg_persist_delete(registrar, b);
    kg_bindings_remove(registrar->bindings, b);
}

void kg_registrar_limit(struct kg_registrar *registrar, const char *user)
{
    size_t max = registrar->server->config.registration.contacts_per_user;
    struct kg_binding *oldest;

    while (kg_bindings_count_of_user(registrar->bindings, user) > max) {
        for (oldest = kg_bindings_of_user(registrar->bindings, user); oldest->user_next;)
            oldest = oldest->user_next;
        kg_registrar_drop(registrar, oldest, "makes room for a newer one (registration.contacts_per_user)");
    }
}

void kg_registrar_name(const struct kg_registrar *registrar, const struct kg_contact *contact,
                       char token[static KG_TOKEN_SIZE], char device[static KG_TOKEN_SIZE])
{
    char text[2048];
    unsigned i = 0;

    do {
        snprintf(text, sizeof text, "%s\n%s\n%s\n%u\n%u", contact->user, contact->key, contact->instance,
                 contact->reg_id, i++);
        kg_digest_name(registrar->digest, "token", text, token, KG_TOKEN_SIZE);
    } while (kg_bindings_by_token(registrar->bindings, token));
    memcpy(device, token, KG_TOKEN_SIZE);
    if (contact->reg_id == 0)
        return;
    snprintf(text, sizeof text, "%s\n%s", contact->user, contact->instance);
    kg_digest_name(registrar->digest, "device", text, device, KG_TOKEN_SIZE);
}

/* --- requests ---------------------------------------------------------------------------------------------
 */

void kg_registrar_register(struct kg_registrar *registrar, nta_incoming_t *irq, const sip_t *sip,
                           const struct kg_flow *flow)
{
    struct kg_exchange x = {.agent = kg_registrar_agent(registrar), .irq = irq, .sip = sip, .flow = flow};

    if (registrar->front)
        kg_front_register(registrar->front, &x);
    else
        kg_embedded_register(registrar, &x);
}

/* In front of a PBX nobody can be challenged here. So that a flood of INVITEs, whose source may be anybody's
 * address, takes neither ports nor memory from those who are known, only so many a second pass. */
static bool refuse_stranger(struct kg_registrar *registrar, struct kg_exchange *x)
{
    const struct kg_config *config = &registrar->server->config;
    bool call = x->sip->sip_request->rq_method == sip_method_invite;
    uint32_t *count = call ? &registrar->strangers.calls : &registrar->strangers.others;
    int64_t second = kg_mono_ms() / 1000;

    if (kg_peers_source(registrar->server->peers, &x->flow->remote) != KG_GROUP_NONE ||
        kg_bindings_on_flow(registrar->bindings, x->flow))
        return false;
    if (registrar->strangers.second != second) {
        registrar->strangers.second = second;
        registrar->strangers.calls = registrar->strangers.others = 0;
    }
    if (*count < config->limits.unregistered_calls) {
        ++*count;
        return false;
    }
    call ? kg_counters.calls_refused++ : kg_counters.requests_refused++;
    kg_registrar_complain(registrar,
                          "request refused: too many from where no phone is registered "
                          "(limits.unregistered_calls)",
                          "unknown", x->flow);
    kg_exchange_reply(x, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR(RETRY_AFTER), TAG_END());
    return true;
}

bool kg_registrar_answer(struct kg_registrar *registrar, msg_t *msg, const sip_t *sip,
                         const struct kg_flow *flow)
{
    struct kg_exchange x = {.agent = kg_registrar_agent(registrar), .msg = msg, .sip = sip, .flow = flow};
    struct kg_credentials cred;
    enum kg_check check;

    if (sip->sip_request->rq_method == sip_method_register) {
        if (registrar->front)
            return kg_front_is_blocked(registrar->front, &x) || kg_front_refresh(registrar->front, &x) ||
                   kg_front_turn_away(registrar->front, &x);
        kg_embedded_register(registrar, &x);
        return true;
    }
    if (sip->sip_request->rq_method == sip_method_options) /* kedge is asked, see request/ */
        return false;
    if (registrar->front)
        return kg_front_is_blocked(registrar->front, &x) || refuse_stranger(registrar, &x);
    /* A 407 with a transaction would be sent again and again until its ACK: to whoever the source address
     * names. */
    check = kg_authorize_check(registrar, sip->sip_proxy_authorization, sip, flow, false, &cred);
    if (check == KG_CHECK_OK)
        return false;
    if (check == KG_CHECK_BLOCKED) {
        kg_exchange_drop(&x);
        return true;
    }
    if (check == KG_CHECK_DENIED) {
        kg_counters.auth_failures++;
        kg_registrar_complain(registrar, "refused: wrong password or unknown user", cred.username, flow);
        kg_exchange_reply(&x, SIP_403_FORBIDDEN, TAG_END());
    } else {
        kg_authorize_challenge(registrar, &x, 407, check == KG_CHECK_STALE);
    }
    return true;
}

enum kg_auth kg_registrar_authorize(struct kg_registrar *registrar, nta_incoming_t *irq, const sip_t *sip,
                                    const struct kg_flow *flow, char *user, size_t size)
{
    struct kg_exchange x = {.agent = kg_registrar_agent(registrar), .irq = irq, .sip = sip, .flow = flow};
    struct kg_credentials cred;
    enum kg_check check = registrar->front ? KG_CHECK_DENIED
                                           : kg_authorize_check(registrar, sip->sip_proxy_authorization, sip,
                                                                flow, true, &cred);

    switch (check) {
    case KG_CHECK_OK:
        snprintf(user, size, "%s", cred.username);
        return KG_AUTH_OK;
    case KG_CHECK_CHALLENGE:
        kg_authorize_challenge(registrar, &x, 407, false);
        return KG_AUTH_CHALLENGE;
    case KG_CHECK_REPEATED: /* retransmissions end in their transaction: this is a replay */
    case KG_CHECK_STALE:
        kg_authorize_challenge(registrar, &x, 407, true);
        return KG_AUTH_STALE;
    case KG_CHECK_DENIED:
    case KG_CHECK_BLOCKED:
        break;
    }
    kg_counters.auth_failures++;
    kg_registrar_complain(registrar, "refused: wrong password or unknown user",
                          registrar->front ? "(in PBX mode)" : cred.username, flow);
    kg_exchange_reply(&x, SIP_403_FORBIDDEN, TAG_END());
    return KG_AUTH_DENIED;
}

void kg_registrar_flow_lost(struct kg_registrar *registrar, tport_t *tport)
{
    struct kg_binding *b;

    while ((b = kg_bindings_on_stream(registrar->bindings, tport))) {
        kg_counters.bindings_expired++;
        kg_keepalive_closed(registrar, b);
        if (!kg_registrar_fail_over(registrar, b))
            kg_departed_note(registrar, b);
        kg_registrar_drop(registrar, b, "went with its connection. It comes back with its next REGISTER");
    }
}

/* --- who watches ------------------------------------------------------------------------------------------
 */

size_t kg_registrar_user_part(const struct kg_registrar *registrar, const struct kg_binding *b)
{
    const char *at = registrar->front ? strrchr(b->user, '@') : NULL;

    return at ? (size_t)(at - b->user) : strlen(b->user);
}

void kg_registrar_watch(struct kg_registrar *registrar, kg_registrar_moved *moved, void *ctx)
{
    registrar->moved = moved;
    registrar->moved_ctx = ctx;
}

void kg_registrar_tell_moved(struct kg_registrar *registrar, const struct kg_binding *b,
                             struct kg_flow *before)
{
    char user[128];

    if (registrar->moved && kg_addr_is_set(&before->remote) && !kg_flow_same(before, &b->flow)) {
        snprintf(user, sizeof user, "%.*s", (int)kg_registrar_user_part(registrar, b), b->user);
        registrar->moved(registrar->moved_ctx, user, before, &b->flow);
    }
    kg_flow_clear(before);
}

bool kg_registrar_fail_over(struct kg_registrar *registrar, const struct kg_binding *b)
{
    const struct kg_binding *other = kg_bindings_of_device(registrar->bindings, b->device);
    char user[128];

    while (other && (other == b || !kg_registrar_is_reachable(other)))
        other = other->device_next;
    if (!other)
        return false;
    snprintf(user, sizeof user, "%.*s", (int)kg_registrar_user_part(registrar, b), b->user);
    if (registrar->moved)
        registrar->moved(registrar->moved_ctx, user, &b->flow, &other->flow);
    return true;
}

void kg_registrar_tell_new(struct kg_registrar *registrar, const struct kg_binding *b)
{
    const struct kg_flow nowhere = {0};
    struct kg_flow before = {0};
    char user[128];
    bool was_here = kg_departed_take(registrar, b, &before);

    snprintf(user, sizeof user, "%.*s", (int)kg_registrar_user_part(registrar, b), b->user);
    if (registrar->moved && was_here)
        registrar->moved(registrar->moved_ctx, user, &before, &b->flow);
    if (registrar->moved)
        registrar->moved(registrar->moved_ctx, user, &nowhere, &b->flow);
    kg_flow_clear(&before);
}

/* --- accounts ---------------------------------------------------------------------------------------------
 */

int kg_registrar_account_add(struct kg_registrar *registrar, const char *name, const char *password)
{
    return registrar->accounts ? kg_accounts_add(registrar->accounts, name, password, kg_wall_ms()) : ENOTSUP;
}

int kg_registrar_account_remove(struct kg_registrar *registrar, const char *name)
{
    int err = registrar->accounts ? kg_accounts_remove(registrar->accounts, name) : ENOTSUP;
    struct kg_binding *b;

    while (!err && (b = kg_bindings_of_user(registrar->bindings, name)))
        kg_registrar_drop(registrar, b, "went with its account");
    return err;
}

bool kg_registrar_has_account(const struct kg_registrar *registrar, const char *name)
{
    return registrar->accounts && kg_accounts_find(registrar->accounts, name);
}
