/* What registrations and passwords say of where they come from, to the guard (b2bua/guard/guard.h). */
#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_protos.h>
#include <string.h>
#include <strings.h>

#include "b2bua/guard/guard.h"
#include "b2bua/registrar/front.h"
#include "conf/clock.h"

void kg_standing_registered(struct kg_registrar *registrar, const struct kg_binding *b)
{
    if (registrar->server->guard)
        kg_guard_registered(registrar->server->guard, &b->flow.remote, b->expires_ms, kg_mono_ms());
}

void kg_standing_good(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user)
{
    if (registrar->server->guard)
        kg_guard_good(registrar->server->guard, &flow->remote, user, kg_mono_ms());
}

void kg_standing_wrong(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user)
{
    if (registrar->server->guard)
        kg_guard_fault(registrar->server->guard, &flow->remote, user, KG_FAULT_PASSWORD, kg_mono_ms());
}

bool kg_standing_is_blocked(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user)
{
    if (!registrar->server->guard ||
        !kg_guard_is_blocked(registrar->server->guard, &flow->remote, user, kg_mono_ms()))
        return false;
    /* Who works from there goes on: a neighbour, or somebody who forges the address, must not lock it out. */
    for (const struct kg_binding *b = kg_bindings_on_flow(registrar->bindings, flow); b; b = b->flow_next)
        if (strcmp(b->user, user) == 0 || (b->auth_user && strcmp(b->auth_user, user) == 0))
            return false;
    return true;
}

bool kg_standing_is_proven(struct kg_registrar *registrar, const struct kg_flow *flow)
{
    return registrar->server->guard &&
           kg_guard_is_open(registrar->server->guard, &flow->remote, kg_mono_ms());
}

/* The challenge once more, without "stale" (RFC 7616 3.3). A phone whose nonce has become old gets that once,
 * too, and then its 200: only a row counts. */
static bool is_challenged_again(const sip_t *answer)
{
    const sip_www_authenticate_t *challenge =
        answer->sip_www_authenticate ? answer->sip_www_authenticate : answer->sip_proxy_authenticate;
    const char *stale = challenge ? msg_params_find(challenge->au_params, "stale=") : NULL;
    int status = answer->sip_status->st_status;
    return (status == 401 || status == 407) &&
           (!stale || strncasecmp(stale + (*stale == '"'), "true", 4) != 0);
}

void kg_standing_judge(struct kg_registrar *registrar, const struct kg_flow *flow, const sip_t *asked,
                       const sip_t *answer)
{
    int status = answer->sip_status->st_status;
    bool is_register = asked->sip_request->rq_method == sip_method_register;
    char user[128];
    kg_front_auth_user(asked, user, sizeof user);
    if (!user[0])
        return;
    /* To a call, 403 may also mean "not that number". */
    if (is_challenged_again(answer) || (is_register && status == 403)) {
        kg_counters.auth_failures++;
        if (status != 403)
            kg_registrar_complain(registrar, "wrong password or unknown user, says the PBX", user, flow);
        kg_standing_wrong(registrar, flow, user);
    } else if (status < 300) {
        kg_standing_good(registrar, flow, user);
    }
}

void kg_registrar_judge(struct kg_registrar *registrar, const struct kg_flow *flow, nta_incoming_t *irq,
                        const sip_t *answer)
{
    msg_t *msg = registrar->front ? nta_incoming_getrequest(irq) : NULL;
    if (msg)
        kg_standing_judge(registrar, flow, sip_object(msg), answer);
    msg_destroy(msg);
}
