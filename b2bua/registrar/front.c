/* The front of a PBX's registrar: which REGISTERs go to the PBX, which are answered here, and what is kept.
 */
#include "b2bua/registrar/front.h"

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/tport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/clock.h"
#include "conf/log.h"

struct kg_front *kg_front_new(struct kg_registrar *registrar)
{
    struct kg_front *front = calloc(1, sizeof *front);

    if (!front)
        return NULL;
    front->registrar = registrar;
    return front;
}

void kg_front_free(struct kg_front *front)
{
    if (!front)
        return;
    while (front->forwards)
        kg_forward_free(front->forwards);
    free(front);
}

void kg_front_tick(struct kg_front *front, int64_t now_ms)
{
    kg_forward_tick(front, now_ms);
}

void kg_front_auth_user(const sip_t *sip, char *out, size_t size)
{
    const sip_authorization_t *auth =
        sip->sip_authorization ? sip->sip_authorization : sip->sip_proxy_authorization;
    const char *name = auth ? msg_params_find(auth->au_params, "username=") : NULL;
    size_t len = name ? strlen(name) : 0;

    if (len >= 2 && name[0] == '"' && name[len - 1] == '"') {
        name++;
        len -= 2;
    }
    snprintf(out, size, "%.*s", (int)len, name ? name : "");
}

/* --- answering here ---------------------------------------------------------------------------------------
 */

/* The rules, one a line. What the PBX authenticated is the pair of contact and flow: a request that comes
 * over the same flow for the same contact, next in the same row of REGISTERs, is that phone's refresh. Over
 * UDP a flow is only a pair of addresses, so the request must also look the same in all that a neighbour
 * behind the same NAT would get wrong. */
static bool is_refresh(const struct kg_binding *b, const struct kg_exchange *x, const struct kg_register *r)
{
    char auth_user[128];

    kg_front_auth_user(x->sip, auth_user, sizeof auth_user);
    return kg_flow_same(&b->flow, x->flow) && kg_flow_is_up(&b->flow) &&
           strcmp(b->uri, r->wish[0].uri) == 0 && strcmp(b->path, r->path) == 0 && b->q == r->wish[0].q &&
           strcmp(b->call_id, r->call_id) == 0 && r->cseq >= b->cseq &&
           (!auth_user[0] || !b->auth_user[0] || strcmp(auth_user, b->auth_user) == 0);
}

/* The PBX still has the registration, as far as anybody can know: it has not been silent since, less than
 * half of its time is over, and the rest outlives the phone's next refresh. */
static bool is_sure_of_pbx(const struct kg_front *front, const struct kg_binding *b, uint32_t granted_s,
                           int64_t now_ms)
{
    const struct kg_peers *peers = front->registrar->server->peers;

    return kg_peers_is_up(peers, b->pbx) && b->pbx_epoch == kg_peers_epoch(peers, b->pbx) &&
           now_ms < b->pbx_renew_ms &&
           b->pbx_until_ms - now_ms > (int64_t)(granted_s + KG_PBX_MARGIN_S) * 1000;
}

bool kg_front_is_blocked(struct kg_front *front, struct kg_exchange *x)
{
    char user[128];

    kg_front_auth_user(x->sip, user, sizeof user);
    if (!user[0] || !kg_standing_is_blocked(front->registrar, x->flow, user))
        return false;
    kg_exchange_drop(x);
    return true;
}

bool kg_front_refresh(struct kg_front *front, struct kg_exchange *x)
{
    struct kg_registrar *registrar = front->registrar;
    int64_t now_ms = kg_mono_ms();
    struct kg_register r;
    struct kg_contact contact;
    struct kg_binding *b;
    const char *phrase;
    uint32_t granted_s;

    if (kg_register_parse(x->sip, true, &r, &phrase) || r.count != 1 || r.wish[0].expires_s == 0)
        return false;
    contact = kg_register_contact(&r, &r.wish[0], x->flow);
    b = kg_bindings_find(registrar->bindings, &contact);
    if (!b || !is_refresh(b, x, &r))
        return false;
    granted_s = kg_register_grant(r.wish[0].expires_s, kg_registrar_ceiling(registrar, x->flow, b->nat),
                                  kg_random_u32());
    if (!is_sure_of_pbx(front, b, granted_s, now_ms))
        return false;
    /* The same CSeq again is a retransmission: answered alike, nothing prolonged. */
    if (r.cseq > b->cseq) {
        if (!kg_bindings_put(registrar->bindings, b, b->token, &contact, now_ms + (int64_t)granted_s * 1000))
            return false;
        kg_keepalive_registered(registrar, b, &(struct kg_flow){0}, now_ms);
        kg_persist_put(registrar, b);
        kg_standing_registered(registrar, b);
    }
    kg_counters.registers_local++;
    kg_register_ok(registrar, x, &r, NULL, now_ms);
    return true;
}

bool kg_front_turn_away(struct kg_front *front, struct kg_exchange *x)
{
    struct kg_registrar *registrar = front->registrar;
    int64_t now_ms = kg_mono_ms();
    struct kg_gate *gate;

    if (kg_bindings_on_flow(registrar->bindings, x->flow))
        return false;
    /* Forged addresses do not use up what is left for phones that answered their challenge. */
    gate = kg_standing_is_proven(registrar, x->flow) ? &front->proven : &front->strangers;
    if (kg_gate_take(gate, now_ms))
        return false;
    kg_registrar_complain(registrar,
                          "registration refused: too many at once from where no phone is registered",
                          "unknown", x->flow);
    kg_counters.registers_put_off++;
    kg_forward_put_off(x, kg_gate_retry_after(gate, now_ms, kg_random_u32()));
    return true;
}

/* --- asking the PBX ---------------------------------------------------------------------------------------
 */

/* The names of this contact, now or if it becomes one. */
static void name_of(struct kg_registrar *registrar, const struct kg_binding *b,
                    const struct kg_contact *contact, struct kg_names *out)
{
    if (!b) {
        kg_registrar_name(registrar, contact, out->token, out->device);
        return;
    }
    memcpy(out->token, b->token, KG_TOKEN_SIZE);
    memcpy(out->device, b->device, KG_TOKEN_SIZE);
}

void kg_front_register(struct kg_front *front, struct kg_exchange *x)
{
    struct kg_registrar *registrar = front->registrar;
    struct kg_names names[KG_WISHES_MAX];
    uint32_t pbx = KG_PEER_NONE;
    struct kg_register r;
    const char *phrase;
    int status = kg_register_parse(x->sip, true, &r, &phrase);

    if (status) {
        kg_exchange_reply(x, status, phrase,
                          TAG_IF(status == 423, SIPTAG_MIN_EXPIRES_STR(KG_EXPIRES_MIN_TEXT)), TAG_END());
        return;
    }
    for (unsigned i = 0; i < r.count; i++) {
        const struct kg_contact contact = kg_register_contact(&r, &r.wish[i], x->flow);
        const struct kg_binding *b = kg_bindings_find(registrar->bindings, &contact);

        name_of(registrar, b, &contact, &names[i]);
        if (b)
            pbx = b->pbx;
    }
    kg_forward_start(front, x, &r, names, pbx);
}

/* What the PBX's answer says of the contact that we registered for this wish; NULL: nothing. */
static const sip_contact_t *contact_of(const struct kg_forward *f, unsigned i, const sip_t *answer)
{
    char key[512];

    for (const sip_contact_t *c = answer->sip_contact; c; c = c->m_next) {
        if (f->own_contact
                ? kg_contact_key(c->m_url, key, sizeof key) == 0 && strcmp(key, f->wanted.wish[i].key) == 0
                : c->m_url->url_user && strcmp(c->m_url->url_user, f->names[i].device) == 0)
            return c;
    }
    return NULL;
}

/* Seconds. */
static uint32_t granted_by_pbx(const struct kg_front *front, const sip_t *answer, const sip_contact_t *c)
{
    if (c && c->m_expires)
        return (uint32_t)strtoul(c->m_expires, NULL, 10);
    return answer->sip_expires ? (uint32_t)answer->sip_expires->ex_delta : front->expires_s;
}

/* RFC 5627 5.3: as the PBX wrote them. What is not a quoted string of printable ASCII is left out. */
static bool keep_gruu(struct kg_binding *b, const sip_contact_t *c)
{
    static const char *const names[] = {"pub-gruu", "temp-gruu"};
    char text[768] = "", with_mark[16];
    size_t used = 0;

    for (unsigned i = 0; c && i < sizeof names / sizeof names[0]; i++) {
        const char *value = NULL;
        size_t len = 0;

        snprintf(with_mark, sizeof with_mark, "%s=", names[i]);
        value = msg_params_find(c->m_params, with_mark);
        while (value && value[len] >= 0x20 && value[len] < 0x7f)
            len++;
        if (len < 2 || len > 300 || value[len] || value[0] != '"' || strcspn(value + 1, "\"\\<>") != len - 2)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, ";%s=%s", names[i], value);
    }
    return kg_binding_set(&b->gruu, text);
}

/* RFC 3608: for later requests of this phone to this PBX. One too long to be kept whole is not kept. */
static bool keep_service_route(struct kg_binding *b, const sip_t *answer)
{
    char text[KG_ROUTE_SIZE];

    if (kg_route_text(answer->sip_service_route, text, sizeof text))
        text[0] = '\0';
    return kg_binding_set(&b->service_route, text);
}

static void remove_wish(struct kg_registrar *registrar, struct kg_binding *b)
{
    if (b)
        kg_registrar_drop(registrar, b, NULL);
}

/* What the phone gets: its own short time, and never more than the PBX gave us. Seconds. */
static uint32_t granted_to_phone(struct kg_registrar *registrar, const struct kg_forward *f, int64_t wish_s,
                                 bool nat, uint32_t pbx_s)
{
    uint32_t granted_s =
        kg_register_grant(wish_s, kg_registrar_ceiling(registrar, &f->flow, nat), kg_random_u32());

    return granted_s < pbx_s ? granted_s : pbx_s;
}

static bool keep_wish(struct kg_front *front, const struct kg_forward *f, unsigned i, const sip_t *answer,
                      int64_t now_ms)
{
    struct kg_registrar *registrar = front->registrar;
    const struct kg_wish *wish = &f->wanted.wish[i];
    const sip_contact_t *kept = contact_of(f, i, answer);
    struct kg_contact contact = kg_register_contact(&f->wanted, wish, &f->flow);
    struct kg_binding *b = kg_bindings_find(registrar->bindings, &contact);
    uint32_t pbx_s = granted_by_pbx(front, answer, kept), phone_s;
    bool changed = !b || !kg_flow_same(&b->flow, &f->flow) || strcmp(b->uri, wish->uri) != 0;
    bool nat = changed ? kg_registrar_is_behind_nat(f->sip, &f->flow, NULL) : b->nat;
    struct kg_flow before = {0};
    bool is_new = !b;

    if (wish->expires_s == 0 || pbx_s == 0) {
        remove_wish(registrar, b);
        return true;
    }
    /* Two REGISTERs crossed: what counts is the name the PBX has just accepted. */
    if (b && strcmp(b->token, f->names[i].token) != 0) {
        kg_registrar_drop(registrar, b, "makes room for its newer self");
        b = NULL;
    }
    if (!b)
        b = kg_bindings_by_token(registrar->bindings, f->names[i].token);
    phone_s = granted_to_phone(registrar, f, wish->expires_s, nat, pbx_s);
    if (b && changed)
        kg_flow_copy(&before, &b->flow);
    contact.device = f->names[i].device;
    b = kg_bindings_put(registrar->bindings, b, f->names[i].token, &contact,
                        now_ms + (int64_t)phone_s * 1000);
    if (!b || !kg_binding_set(&b->auth_user, f->auth_user) || !keep_gruu(b, kept) ||
        !keep_service_route(b, answer)) {
        kg_flow_clear(&before);
        return false;
    }
    b->pbx = f->pbx;
    b->pbx_epoch = kg_peers_epoch(registrar->server->peers, f->pbx);
    b->pbx_until_ms = now_ms + (int64_t)pbx_s * 1000;
    b->pbx_renew_ms = now_ms + (int64_t)pbx_s * 500;
    if (!b->registered_ms)
        b->registered_ms = kg_wall_ms();
    if (changed)
        kg_registrar_assess(b, f->sip);
    kg_keepalive_registered(registrar, b, &before, now_ms);
    kg_persist_put(registrar, b);
    kg_standing_registered(registrar, b);
    kg_registrar_tell_moved(registrar, b, &before);
    if (is_new) {
        char from[KG_ADDR_STR];

        kg_info("registrar", "%s registered from %s %s%s, with the PBX at %s for %u s", b->user,
                kg_transport_name(f->flow.transport), kg_addr_format(&f->flow.remote, from),
                nat ? ", behind a NAT" : "", kg_peers_name(registrar->server->peers, f->pbx), pbx_s);
        kg_registrar_tell_new(registrar, b);
        kg_registrar_limit(registrar, f->wanted.user);
    }
    return true;
}

bool kg_front_accept(struct kg_front *front, const struct kg_forward *f, const sip_t *answer, int64_t now_ms)
{
    struct kg_binding *b;

    while (f->wanted.all && (b = kg_bindings_of_user(front->registrar->bindings, f->wanted.user)))
        kg_registrar_drop(front->registrar, b, NULL);
    for (unsigned i = 0; i < f->wanted.count; i++)
        if (!keep_wish(front, f, i, answer, now_ms))
            return false;
    return true;
}

uint32_t kg_registrar_pbx_of(const struct kg_registrar *registrar, const struct kg_flow *phone)
{
    const struct kg_binding *b = kg_bindings_on_flow(registrar->bindings, phone);

    return b ? b->pbx : KG_PEER_NONE;
}

const char *kg_registrar_service_route(const struct kg_registrar *registrar, const struct kg_flow *phone,
                                       const char *user, const struct kg_flow *pbx)
{
    const struct kg_binding *b = registrar->front ? kg_bindings_on_flow(registrar->bindings, phone) : NULL;
    const struct kg_flow *registered;

    for (; b; b = b->flow_next) {
        if (!b->service_route[0] || !kg_registrar_is_user(registrar, b, user))
            continue;
        registered = kg_peers_flow(registrar->server->peers, b->pbx);
        if (registered && kg_addr_equal(&registered->remote, &pbx->remote))
            return b->service_route;
    }
    return "";
}
