/* What registrations and passwords say of where they come from, to the guard (b2bua/guard/guard.h). */
#include <string.h>

#include "b2bua/guard/guard.h"
#include "b2bua/registrar/inside.h"
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
