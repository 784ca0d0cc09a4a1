#include "b2bua/route/route.h"

#include <string.h>

#include "b2bua/route/numbers.h"

static struct kg_route_decision refuse(int status, const char *why)
{
    return (struct kg_route_decision){.verdict = KG_ROUTE_REFUSE, .status = status, .why = why};
}

/* ---- routes ---- */

/* "*" means the inside: what comes from a trunk goes on only where an entry names that trunk, lest a stranger
 * calls out through another one. */
static bool is_from(const struct kg_route_config *route, const struct kg_route_facts *facts)
{
    switch (facts->source) {
    case KG_FROM_TRUNK:
        return strcmp(route->from, facts->config->trunk[facts->trunk].name) == 0;
    case KG_FROM_PBX:
        return strcmp(route->from, "pbx") == 0 || strcmp(route->from, "*") == 0;
    case KG_FROM_PHONE:
        return strcmp(route->from, "phone") == 0 || strcmp(route->from, "*") == 0;
    }
    return false;
}

static bool is_open(const char *pattern)
{
    size_t len = strlen(pattern);
    return len > 0 && pattern[len - 1] == '*';
}

static const struct kg_route_config *find(const struct kg_route_facts *facts)
{
    char number[KG_NUMBER_SIZE];
    if (facts->config->route_count == 0)
        return NULL;
    kg_number_plain(facts->user, number);
    for (size_t i = 0; i < facts->config->route_count; i++) {
        const struct kg_route_config *route = &facts->config->route[i];
        if (!is_from(route, facts) || !kg_number_fits(route->number, number))
            continue;
        if (facts->user_exists && is_open(route->number))
            continue; /* an account of that name is nearer than all numbers that begin so */
        return route;
    }
    return NULL;
}

static bool server_of(const struct kg_config *config, const char *name, int *index)
{
    *index = KG_ROUTE_PBX_INDEX;
    if (strcmp(name, "pbx") == 0)
        return true;
    for (size_t i = 0; i < config->trunk_count; i++)
        if (strcmp(config->trunk[i].name, name) == 0) {
            *index = (int)i;
            return true;
        }
    return false;
}

/* The route's own policy, else the trunk's, where it goes before where it comes from. */
static enum kg_policy policy_of(const struct kg_route_facts *facts, const struct kg_route_config *route,
                                const struct kg_route_decision *way)
{
    const struct kg_trunk_config *trunk = facts->config->trunk;
    if (route && route->policy != KG_POLICY_DEFAULT)
        return route->policy;
    if (way->to_count > 0 && way->to[0] >= 0 && trunk[way->to[0]].policy != KG_POLICY_DEFAULT)
        return trunk[way->to[0]].policy;
    return facts->source == KG_FROM_TRUNK ? trunk[facts->trunk].policy : KG_POLICY_DEFAULT;
}

static struct kg_route_decision follow(const struct kg_route_facts *facts,
                                       const struct kg_route_config *route)
{
    struct kg_route_decision way = {.verdict = KG_ROUTE_SERVERS};
    for (size_t i = 0; i < route->to_count; i++) {
        int index;
        if (server_of(facts->config, route->to[i], &index))
            way.to[way.to_count++] = index;
    }
    if (way.to_count == 0)
        way = (struct kg_route_decision){
            .verdict = KG_ROUTE_LOOK_UP, .look_by = KG_LOOKED_BY_USER, .user = route->to[0]};
    way.policy = policy_of(facts, route, &way);
    way.profile = route->profile;
    return way;
}

static struct kg_route_decision look(const struct kg_route_facts *facts, enum kg_route_looked by,
                                     const char *user)
{
    struct kg_route_decision way = {
        .verdict = KG_ROUTE_LOOK_UP, .look_by = by, .user = user, .profile = KG_PROFILE_DEFAULT};
    way.policy = policy_of(facts, NULL, &way);
    return way;
}

static struct kg_route_decision to_pbx(const struct kg_route_facts *facts)
{
    struct kg_route_decision way = {.verdict = KG_ROUTE_SERVERS,
                                    .to = {KG_ROUTE_PBX_INDEX},
                                    .to_count = 1,
                                    .profile = KG_PROFILE_DEFAULT};
    way.policy = policy_of(facts, NULL, &way);
    return way;
}

/* ---- the two modes ---- */

/* The PBX authenticates callers end to end, so every phone's INVITE may go there, and nowhere else
 * (b2bua/route/README.md). */
static struct kg_route_decision decide_with_pbx(const struct kg_route_facts *facts)
{
    if (facts->source == KG_FROM_PBX && facts->looked == KG_LOOKED_NOWHERE)
        return look(facts, KG_LOOKED_BY_TOKEN, facts->user);
    const struct kg_route_config *route = find(facts);
    if (route)
        return follow(facts, route);
    if (facts->source != KG_FROM_PBX)
        return to_pbx(facts);
    return refuse(404, "the PBX called a contact that is not registered through kedge (any more)");
}

/* RFC 3261 16.5 for the one domain that kedge serves; the caller is known before it learns who exists. */
static struct kg_route_decision decide_embedded(const struct kg_route_facts *facts)
{
    if (facts->source == KG_FROM_PHONE) {
        if (!facts->auth_user)
            return (struct kg_route_decision){.verdict = KG_ROUTE_AUTHENTICATE};
        if (strcmp(facts->auth_user, facts->from_user) != 0)
            return refuse(403, "the caller authenticated as another user than its From header names");
        if (!facts->to_us)
            return refuse(403, "the called domain is not served here; kedge calls only its own accounts");
    }
    if (!facts->user[0])
        return refuse(404, "the request URI names no user");
    const struct kg_route_config *route = find(facts);
    if (route)
        return follow(facts, route);
    if (facts->source == KG_FROM_TRUNK && facts->config->trunk[facts->trunk].ring[0])
        return look(facts, KG_LOOKED_BY_USER, facts->config->trunk[facts->trunk].ring);
    return look(facts, KG_LOOKED_BY_USER, facts->user);
}

struct kg_route_decision kg_route_decide(const struct kg_route_facts *facts)
{
    bool embedded = facts->config->pbx_count == 0;
    struct kg_route_decision way = embedded ? decide_embedded(facts) : decide_with_pbx(facts);
    if (facts->looked == KG_LOOKED_BY_TOKEN && facts->contacts > 0)
        return (struct kg_route_decision){
            .verdict = KG_ROUTE_PHONE, .policy = KG_POLICY_DEFAULT, .profile = KG_PROFILE_DEFAULT};
    if (facts->looked == KG_LOOKED_BY_USER && facts->contacts > 0) {
        way.verdict = KG_ROUTE_PHONE;
        return way;
    }
    if (way.verdict != KG_ROUTE_LOOK_UP || way.look_by != facts->looked)
        return way;
    if (embedded && !facts->account_exists && facts->source == KG_FROM_TRUNK && way.user == facts->user)
        return refuse(404, "no route is for it, the trunk has no `ring`, and no account has this name");
    if (embedded && !facts->account_exists)
        return refuse(404, "no account has this name");
    return refuse(480, "the called user has no phone registered at the moment");
}
