/* Option tags of a leg (RFC 3261 19.2). Some are kedge's own: it plays its part on each leg alone. Others are
 * about what passes through, so that kedge can only do them as far as the other side can. */
#include "b2bua/call/call.h"

#include <stdio.h>

#include <sofia-sip/sip_header.h>

static const char *const passing[] = {"replaces", "norefersub", "tdialog", "join"};

void kg_options_learn(struct kg_leg *leg, const sip_t *sip)
{
    for (size_t i = 0; sip->sip_supported && i < sizeof passing / sizeof passing[0]; i++)
        if (sip_has_feature(sip->sip_supported, passing[i]))
            leg->options |= (uint8_t)(1u << i);
}

const char *kg_options_supported(const struct kg_leg *leg, char out[static KG_OPTIONS_TEXT])
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    const struct kg_config *config = &leg->call->calls->server->config;
    /* An offer of the peer's in a reliable 18x has to be answered in PRACK: only if the caller's can. */
    bool answers = kg_fsm_takes_18x(&leg->call->fsm) && leg->side == KG_SIDE_B && !leg->fork;
    bool reliable = config->calls.reliable == KG_RELIABLE_AUTO && (!leg->asked || answers);
    size_t used = (size_t)snprintf(out, KG_OPTIONS_TEXT, "timer%s%s",
                                   config->media.ice ? ", trickle-ice" : "", reliable ? ", 100rel" : "");
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++)
        if (other->options & 1u << i)
            used += (size_t)snprintf(out + used, KG_OPTIONS_TEXT - used, ", %s", passing[i]);
    return out;
}
