/* The rows of the lists of records: trunks, routes, numbers, caps; and what they must agree on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/fill.h"

#define IN(type, member)      .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define COUNTED(type, member) .count_offset = offsetof(type, member)
#define TRUNK(member)         IN(struct kg_trunk_config, member)
#define ROUTE(member)         IN(struct kg_route_config, member)
#define NUMBER(member)        IN(struct kg_number_config, member)
#define CAP(member)           IN(struct kg_cap, member)
#define ROWS(rows)            (rows), sizeof(rows) / sizeof(rows)[0]

#define DAY 86400u /* s */

/* Beside the names of trunks. */
static const char *const sides[] = {"phone", "pbx"};

static bool is_side(const char *name)
{
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++)
        if (strcmp(sides[i], name) == 0)
            return true;
    return false;
}

/* ---- trunks ---- */

static const struct kg_conf_row trunk_rows[] = {
    {"name", &kg_conf_name, "", TRUNK(name), .required = true,
     .doc = "What the trunk is called in logs, in kedgectl and in other settings."},
    {"server", &kg_conf_servers, "", TRUNK(server), .required = true,
     COUNTED(struct kg_trunk_config, server_count), .max = KG_TRUNK_SERVERS_MAX, .min = 1,
     .doc = "Where the provider takes calls and registrations, as in pbx."},
    {"probe", &kg_conf_seconds, "30", TRUNK(probe_ms), .min = 0, .max = 3600,
     .doc =
         "How often its servers are asked by OPTIONS whether they are up. 0: never; then only calls tell."},
    {"user", &kg_conf_text, "", TRUNK(user),
     .doc = "The account at the provider: the user part of what is registered."},
    {"auth_user", &kg_conf_text, "", TRUNK(auth_user),
     .doc = "The name to prove the password with, where it is not `user`."},
    {"password", &kg_conf_secret, "", TRUNK(password),
     .doc = "What kedge proves itself to the provider with."},
    {"password_file", &kg_conf_secret_file, "", TRUNK(password),
     .doc = "The same from a file that holds nothing else, and that only kedge's user and root can read."},
    {"domain", &kg_conf_domain, "", TRUNK(domain),
     .doc = "The provider's domain. Without it the server's name or address."},
    {"realm", &kg_conf_text, "", TRUNK(realm),
     .doc = "The realm that the password is proven to; `*`: any. Without it the first one that asks, until "
            "the next restart."},
    {"register", &kg_conf_yes, "yes", TRUNK(registers),
     .doc = "Register there, where there is a `user`. no: the provider knows kedge by its address."},
    {"expires", &kg_conf_seconds, "600", TRUNK(expires_ms), .min = 60, .max = DAY,
     .doc = "How long a registration is asked for."},
    {"line", &kg_conf_yes, "yes", TRUNK(line),
     .doc = "Take a call to the Contact that kedge registered for the provider's, wherever it comes from: "
            "the Contact has a "
            "secret in it."},
    {"match", &kg_conf_nets, "", TRUNK(match), COUNTED(struct kg_trunk_config, match_count),
     .max = KG_TRUNK_NETS_MAX,
     .doc = "Calls from these addresses are the provider's, besides those from the addresses of its servers. "
            "Over UDP a source "
            "can be forged."},
    {"trusted", &kg_conf_yes, "no", TRUNK(trusted),
     .doc = "It belongs to the trust domain (RFC 3325): is told who calls even if the caller wants privacy, "
            "and is believed who "
            "calls."},
    {"from", &kg_conf_caller_id, "account", TRUNK(from),
     .doc = "Whom From names on calls to the provider: account, the trunk's `user` where it has one; caller, "
            "the caller's "
            "number."},
    {"calls", &kg_conf_count, "0", TRUNK(calls), .max = 1000000,
     .doc = "Calls at once, both directions. 0: no limit."},
    {"policy", &kg_conf_own_policy, "default", TRUNK(policy),
     .doc = "As media.policy, for calls over this trunk. Its own servers seldom do ICE."},
    {"profile", &kg_conf_profile, "auto", TRUNK(profile),
     .doc = "As media.profile, for calls to this trunk. plain: whatever the caller does, the provider gets "
            "RTP."},
    {"pbx_user", &kg_conf_text, "", TRUNK(pbx_user),
     .doc = "With a PBX that asks for a password of calls from the trunk too: the account there, and"},
    {"pbx_password", &kg_conf_secret, "", TRUNK(pbx_password), .doc = "its password,"},
    {"pbx_password_file", &kg_conf_secret_file, "", TRUNK(pbx_password), .doc = "or a file that holds it."},
    {"ring", &kg_conf_text, "", TRUNK(ring),
     .doc = "Embedded registrar: the account that rings where no route says so. Without it the account named "
            "as the called "
            "number."},
};

static int check_trunk(const void *element, char *why, size_t size)
{
    const struct kg_trunk_config *trunk = element;

    if (is_side(trunk->name))
        snprintf(why, size, "a trunk cannot be called %s: that word means another side", trunk->name);
    else if (strpbrk(trunk->user, "\"\\<>@;: ") != NULL || strpbrk(trunk->auth_user, "\"\\") != NULL)
        snprintf(why, size, "trunk %s: user and auth_user are plain names, without quotes, @ or a domain",
                 trunk->name);
    else if ((trunk->pbx_password[0] != '\0') != (trunk->pbx_user[0] != '\0') ||
             strpbrk(trunk->pbx_user, "\"\\") != NULL)
        snprintf(why, size, "trunk %s needs both pbx_user and pbx_password, without quotes", trunk->name);
    else if (trunk->password[0] != '\0' && trunk->user[0] == '\0' && trunk->auth_user[0] == '\0')
        snprintf(why, size, "trunk %s has a password but no user", trunk->name);
    else
        return 0;
    return EINVAL;
}

const struct kg_conf_record kg_conf_trunk = {ROWS(trunk_rows), sizeof(struct kg_trunk_config), .key = "name",
                                             .check = check_trunk};

/* ---- numbers and their beginnings ---- */

/* What can stand in a user part without escapes, and is a number or the name of an account. "*" at the end is
 * the rest. */
static bool is_pattern(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+*#._-";

    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

static bool has_rest(const char *pattern)
{
    return pattern[strlen(pattern) - 1] == '*';
}

/* ---- routes ---- */

static const struct kg_conf_row route_rows[] = {
    {"from", &kg_conf_text, "*", ROUTE(from),
     .doc = "Who calls: `phone`, `pbx`, the name of a trunk, or `*`: all."},
    {"number", &kg_conf_text, "*", ROUTE(number),
     .doc = "What is called, as `numbers` made it on its way in: a whole number, or its beginning and `*`."},
    {"to", &kg_conf_texts, "", ROUTE(to), COUNTED(struct kg_route_config, to_count), .max = KG_ROUTE_TO_MAX,
     .min = 1, .required = true,
     .doc = "Where it goes: `pbx`, the name of a trunk, or the name of an account. Of several servers the "
            "next one is tried when "
            "one fails."},
    {"policy", &kg_conf_own_policy, "default", ROUTE(policy), .doc = "As media.policy, for these calls."},
    {"profile", &kg_conf_own_profile, "default", ROUTE(profile),
     .doc = "As media.profile, toward whom these calls go."},
};

static int check_route(const void *element, char *why, size_t size)
{
    const struct kg_route_config *route = element;

    if (is_pattern(route->number))
        return 0;
    snprintf(why, size, "number must be digits or a name, with * at its end or without, not \"%.60s\"",
             route->number);
    return EINVAL;
}

const struct kg_conf_record kg_conf_route = {ROWS(route_rows), sizeof(struct kg_route_config), .key = "from",
                                             .ordered = true, .check = check_route};

/* ---- numbers ---- */

static const struct kg_conf_row number_rows[] = {
    {"where", &kg_conf_text, "", NUMBER(where), .required = true,
     .doc = "`from-` or `to-`, and `phone`, `pbx` or the name of a trunk: calls that come from there, before "
            "`routes` are looked "
            "at, or that go there."},
    {"of", &kg_conf_number_of, "called", NUMBER(of),
     .doc = "called: the request URI and To. caller: From and P-Asserted-Identity."},
    {"match", &kg_conf_text, "", NUMBER(match), .required = true,
     .doc = "A whole number, or its beginning and `*`: `+49*`."},
    {"becomes", &kg_conf_text, "", NUMBER(becomes), .required = true,
     .doc = "What is written instead; `*` at its end stands for the rest: `0*`."},
};

/* What follows "from-" or "to-"; NULL: neither. */
static const char *side_of(const struct kg_number_config *number)
{
    if (strncmp(number->where, "from-", 5) == 0)
        return number->where + 5;
    return strncmp(number->where, "to-", 3) == 0 ? number->where + 3 : NULL;
}

static int check_number(const void *element, char *why, size_t size)
{
    const struct kg_number_config *number = element;

    if (side_of(number) == NULL)
        snprintf(why, size, "where must be from- or to- and a side, as in to-itsp, not \"%.40s\"",
                 number->where);
    else if (strcmp(number->where, "to-phone") == 0 && number->of == KG_NUMBER_CALLED)
        snprintf(why, size, "a phone is called by its own Contact: to-phone is for numbers of: caller");
    else if (!is_pattern(number->match))
        snprintf(why, size, "match must be a number, with * at its end or without, not \"%.60s\"",
                 number->match);
    else if (!is_pattern(number->becomes))
        snprintf(why, size, "becomes must be a number, with * at its end or without, not \"%.60s\"",
                 number->becomes);
    else if (has_rest(number->becomes) && !has_rest(number->match))
        snprintf(why, size, "becomes ends with * for the rest of a number, but match %s leaves none",
                 number->match);
    else
        return 0;
    return EINVAL;
}

const struct kg_conf_record kg_conf_number = {ROWS(number_rows), sizeof(struct kg_number_config),
                                              .key = "where", .ordered = true, .check = check_number};

/* ---- caps ---- */

static const struct kg_conf_row cap_rows[] = {
    {"user", &kg_conf_text, "", CAP(user), .required = true,
     .doc = "An account, or a phone's user in front of a PBX; `*`: each one that has no entry of its own."},
    {"calls", &kg_conf_count, "0", CAP(calls), .max = 100000, .doc = "Calls at once. 0: no limit."},
    {"rate", &kg_conf_count, "0", CAP(rate), .max = 60000, .doc = "New calls a minute. 0: no limit."},
    {"allow", &kg_conf_texts, "", CAP(allow), COUNTED(struct kg_cap, allow_count), .max = KG_PREFIXES_MAX,
     .doc = "Beginnings of numbers, such as `+49`, that may be called. Without deny, no others."},
    {"deny", &kg_conf_texts, "", CAP(deny), COUNTED(struct kg_cap, deny_count), .max = KG_PREFIXES_MAX,
     .doc = "Beginnings of numbers that may not be called; \"\": all. The longest of both lists decides."},
};

/* What can stand in a number as caps compare it: without separators (b2bua/route/caps.c). "" begins them all.
 * A "*" at the end, as routes have it, would be the key of a telephone here, and the entry would deny
 * nothing. */
static bool is_beginning(const char *text)
{
    size_t len = strlen(text);

    return len == 0 || (is_pattern(text) && text[strcspn(text, "-.")] == '\0' && text[len - 1] != '*');
}

static int check_cap(const void *element, char *why, size_t size)
{
    const struct kg_cap *cap = element;

    if (cap->user[0] == '\0') {
        snprintf(why, size, "user is empty; \"*\" is each one that has no entry of its own");
        return EINVAL;
    }
    for (size_t i = 0; i < cap->allow_count + cap->deny_count; i++) {
        bool allow = i < cap->allow_count;
        const char *text = allow ? cap->allow[i].text : cap->deny[i - cap->allow_count].text;
        if (is_beginning(text))
            continue;
        snprintf(why, size,
                 "caps.%s takes beginnings of numbers such as 0900 or +49, without * and separators, not "
                 "\"%.60s\"",
                 allow ? "allow" : "deny", text);
        return EINVAL;
    }
    return 0;
}

const struct kg_conf_record kg_conf_cap = {ROWS(cap_rows), sizeof(struct kg_cap), .key = "user",
                                           .check = check_cap};

/* ---- together ---- */

static bool is_trunk(const struct kg_config *config, const char *name)
{
    for (size_t i = 0; i < config->trunk_count; i++)
        if (strcmp(config->trunk[i].name, name) == 0)
            return true;
    return false;
}

static bool is_pbx(const char *name)
{
    return strcmp(name, "pbx") == 0;
}

/* In front of a PBX kedge does not know who calls: a trunk may bill only calls that the PBX sends. */
static bool is_unpaid(const struct kg_config *config, const struct kg_route_config *route)
{
    bool phones = strcmp(route->from, "phone") == 0 || strcmp(route->from, "*") == 0;

    for (size_t i = 0; phones && config->pbx_count > 0 && i < route->to_count; i++)
        if (is_trunk(config, route->to[i]))
            return true;
    return false;
}

static void check_routes(const struct kg_config *config, int line, struct kg_config_errors *errors)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct kg_route_config *route = &config->route[i];

        if (strcmp(route->from, "*") != 0 && !is_side(route->from) && !is_trunk(config, route->from))
            kg_conf_say(errors, line, "routes, entry %zu: there is no trunk called %s", i + 1, route->from);
        if (is_pbx(route->from) && config->pbx_count == 0)
            kg_conf_say(errors, line, "routes, entry %zu: nothing comes from the pbx: none is configured",
                        i + 1);
        if (is_unpaid(config, route))
            kg_conf_say(
                errors, line,
                "routes, entry %zu: with a pbx, calls of phones cannot go to a trunk past it, since the PBX "
                "alone knows who they are: let it send them, and write from: pbx",
                i + 1);
        for (size_t j = 0; j < route->to_count; j++) {
            bool server = is_pbx(route->to[j]) || is_trunk(config, route->to[j]);
            if (is_pbx(route->to[j]) && config->pbx_count == 0)
                kg_conf_say(errors, line, "routes, entry %zu: goes to the pbx, but none is configured",
                            i + 1);
            if (!server && route->to_count > 1)
                kg_conf_say(errors, line,
                            "routes, entry %zu: there is no trunk called %s; an account must be alone", i + 1,
                            route->to[j]);
        }
    }
}

void kg_conf_check_lists(const struct kg_config *config, const struct kg_conf_lists *line,
                         struct kg_config_errors *errors)
{
    check_routes(config, line->routes, errors);
    for (size_t i = 0; i < config->number_count; i++) {
        const char *side = side_of(&config->number[i]);
        if (side != NULL && !is_side(side) && !is_trunk(config, side))
            kg_conf_say(errors, line->numbers, "numbers, entry %zu: there is no trunk called %s", i + 1,
                        side);
        if (side != NULL && is_pbx(side) && config->pbx_count == 0)
            kg_conf_say(errors, line->numbers, "numbers, entry %zu: is for the pbx, but none is configured",
                        i + 1);
    }
}
