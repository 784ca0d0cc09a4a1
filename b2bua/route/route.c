#include "b2bua/route/route.h"

#include <string.h>

static struct kg_route_decision refuse(int status, const char *why)
{
    return (struct kg_route_decision){KG_ROUTE_REFUSE, status, why};
}

/* The PBX authenticates callers end to end, so every phone's INVITE may go there (b2bua/route/README.md). */
static struct kg_route_decision decide_with_pbx(const struct kg_route_facts *facts)
{
    if (facts->source == KG_FROM_PHONE)
        return (struct kg_route_decision){.verdict = KG_ROUTE_PBX};
    if (facts->contacts == 0)
        return refuse(404, "the PBX called a contact that is not registered through kedge (any more)");
    return (struct kg_route_decision){.verdict = KG_ROUTE_PHONE};
}

/* RFC 3261 16.5 for the one domain that kedge serves; the caller is known before it learns who exists. */
static struct kg_route_decision decide_embedded(const struct kg_route_facts *facts)
{
    if (!facts->auth_user)
        return (struct kg_route_decision){.verdict = KG_ROUTE_AUTHENTICATE};
    if (strcmp(facts->auth_user, facts->from_user) != 0)
        return refuse(403, "the caller authenticated as another user than its From header names");
    if (!facts->to_us)
        return refuse(403, "the called domain is not served here; kedge calls only its own accounts");
    if (!facts->user[0])
        return refuse(404, "the request URI names no user");
    if (facts->contacts > 0)
        return (struct kg_route_decision){.verdict = KG_ROUTE_PHONE};
    if (!facts->user_exists)
        return refuse(404, "no account has this name");
    return refuse(480, "the called user has no phone registered at the moment");
}

struct kg_route_decision kg_route_decide(const struct kg_route_facts *facts)
{
    return facts->has_pbx ? decide_with_pbx(facts) : decide_embedded(facts);
}
