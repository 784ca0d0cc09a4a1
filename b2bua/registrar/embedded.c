/* The embedded registrar: REGISTER in the step order of RFC 3261 10.3. */
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* A retransmission (nothing is kept of an answered REGISTER): the same request over the same flow, whose
 * contacts are all registered by it. Anything else with a used nonce count is a replay, and is asked again.
 */
static bool is_retransmission(struct kg_registrar *registrar, const struct kg_exchange *x,
                              const struct kg_register *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct kg_contact contact = kg_register_contact(r, &r->wish[i], x->flow);
        const struct kg_binding *b = kg_bindings_find(registrar->bindings, &contact);

        if (!b || strcmp(b->call_id, r->call_id) != 0 || b->cseq != r->cseq ||
            !kg_flow_same(&b->flow, x->flow))
            return false;
    }
    return r->count > 0;
}

/* Step 7, looked at for every contact before anything changes: all or nothing. */
static bool is_any_late(struct kg_registrar *registrar, const struct kg_exchange *x,
                        const struct kg_register *r)
{
    if (r->all) {
        for (const struct kg_binding *b = kg_bindings_of_user(registrar->bindings, r->user); b;
             b = b->user_next)
            if (kg_register_is_late(r, b))
                return true;
    }
    for (unsigned i = 0; i < r->count; i++) {
        const struct kg_contact contact = kg_register_contact(r, &r->wish[i], x->flow);
        const struct kg_binding *b = kg_bindings_find(registrar->bindings, &contact);

        if (b && kg_register_is_late(r, b))
            return true;
    }
    return false;
}

static bool apply_wish(struct kg_registrar *registrar, const struct kg_exchange *x,
                       const struct kg_register *r, const struct kg_wish *wish,
                       const struct kg_credentials *cred, int64_t now_ms)
{
    struct kg_contact contact = kg_register_contact(r, wish, x->flow);
    struct kg_binding *b = kg_bindings_find(registrar->bindings, &contact);
    bool changed = !b || !kg_flow_same(&b->flow, x->flow) || strcmp(b->uri, wish->uri) != 0;
    struct kg_flow before = {0};
    bool is_new = !b;
    bool nat = changed ? kg_registrar_is_behind_nat(x->sip, x->flow, NULL) : b->nat;
    char token[KG_TOKEN_SIZE] = "", device[KG_TOKEN_SIZE] = "";
    uint32_t granted_s;

    if (wish->expires_s == 0) {
        if (b)
            kg_registrar_drop(registrar, b, NULL);
        return true;
    }
    if (is_new)
        kg_registrar_name(registrar, &contact, token, device);
    granted_s =
        kg_register_grant(wish->expires_s, kg_registrar_ceiling(registrar, x->flow, nat), kg_random_u32());
    contact.device = device;
    if (b && changed)
        kg_flow_copy(&before, &b->flow);
    b = kg_bindings_put(registrar->bindings, b, token, &contact, now_ms + (int64_t)granted_s * 1000);
    if (!b) {
        kg_flow_clear(&before);
        return false;
    }
    if (is_new)
        b->registered_ms = kg_wall_ms();
    if (changed)
        kg_registrar_assess(b, x->sip);
    kg_keepalive_registered(registrar, b, &before, now_ms);
    memcpy(b->nonce, cred->nonce, sizeof b->nonce); /* one of ours: just as long */
    b->nc = cred->nc;
    kg_persist_put(registrar, b);
    kg_standing_registered(registrar, b);
    kg_registrar_tell_moved(registrar, b, &before);
    if (is_new) {
        char from[KG_ADDR_STR];

        kg_info("registrar", "%s registered from %s %s%s", r->user, kg_transport_name(x->flow->transport),
                kg_addr_format(&x->flow->remote, from), nat ? ", behind a NAT" : "");
        kg_registrar_tell_new(registrar, b);
        kg_registrar_limit(registrar, r->user);
    }
    return true;
}

static void apply(struct kg_registrar *registrar, struct kg_exchange *x, const struct kg_register *r,
                  const struct kg_credentials *cred)
{
    int64_t now_ms = kg_mono_ms();
    struct kg_binding *b;
    bool ok = true;

    while (r->all && (b = kg_bindings_of_user(registrar->bindings, r->user)))
        kg_registrar_drop(registrar, b, NULL);
    for (unsigned i = 0; i < r->count && ok; i++)
        ok = apply_wish(registrar, x, r, &r->wish[i], cred, now_ms);
    if (ok)
        kg_register_ok(registrar, x, r, NULL, now_ms);
    else
        kg_exchange_reply(x, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR("30"), TAG_END());
}

static void deny(struct kg_registrar *registrar, struct kg_exchange *x, const char *what, const char *user)
{
    kg_counters.auth_failures++;
    kg_registrar_complain(registrar, what, user, x->flow);
    kg_exchange_reply(x, SIP_403_FORBIDDEN, TAG_END());
}

void kg_embedded_register(struct kg_registrar *registrar, struct kg_exchange *x)
{
    const sip_t *sip = x->sip;
    struct kg_credentials cred;
    struct kg_register r;
    const char *phrase;
    enum kg_check check;
    int status;

    /* Step 1: is it for our domain? */
    if (!kg_sip_is_us(registrar->server->sip, sip->sip_request->rq_url)) {
        kg_exchange_reply(x, 404, "Not This Domain", TAG_END());
        return;
    }
    /* Step 3. */
    check = kg_authorize_check(registrar, sip->sip_authorization, sip, x->flow, true, &cred);
    if (check == KG_CHECK_CHALLENGE || check == KG_CHECK_STALE) {
        kg_authorize_challenge(registrar, x, 401, check == KG_CHECK_STALE);
        return;
    }
    if (check == KG_CHECK_BLOCKED) {
        kg_exchange_drop(x);
        return;
    }
    if (check == KG_CHECK_DENIED) {
        deny(registrar, x, "wrong password or unknown user", cred.username);
        return;
    }
    status = kg_register_parse(sip, false, &r, &phrase);
    if (status) {
        kg_exchange_reply(x, status, phrase,
                          TAG_IF(status == 423, SIPTAG_MIN_EXPIRES_STR(KG_EXPIRES_MIN_TEXT)), TAG_END());
        return;
    }
    /* Step 4: a user registers only itself. Step 5: at one of our names. */
    if (strcmp(r.user, cred.username) != 0) {
        deny(registrar, x, "tried to register somebody else's address", cred.username);
        return;
    }
    if (!kg_sip_is_us(registrar->server->sip, sip->sip_to->a_url)) {
        kg_exchange_reply(x, SIP_404_NOT_FOUND, TAG_END());
        return;
    }
    if (check == KG_CHECK_REPEATED) {
        if (is_retransmission(registrar, x, &r))
            kg_register_ok(registrar, x, &r, NULL, kg_mono_ms());
        else
            kg_authorize_challenge(registrar, x, 401, true);
        return;
    }
    /* Steps 6 to 8. */
    if (is_any_late(registrar, x, &r)) {
        kg_exchange_reply(x, 500, "Out Of Order", TAG_END());
        return;
    }
    apply(registrar, x, &r, &cred);
}
