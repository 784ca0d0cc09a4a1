/* b2bua/route/route: where calls go, by who calls, what is called, and the configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/route/route.h"

static struct kg_config config;
static struct kg_config_errors errors;

static void configure(const char *text)
{
    if (kg_config_parse(text, strlen(text), &config, &errors) != 0)
        fail_msg("line %d: %s", errors.item[0].line, errors.item[0].text);
}

/* Who is there: accounts 1001 (with a phone) and 1002 (without); tokens T1. */
static bool exists(const char *user)
{
    return strcmp(user, "1001") == 0 || strcmp(user, "1002") == 0;
}

/* Goes through the whole conversation as call/in.c does, and writes down how it ended. */
static const char *call(enum kg_route_source source, size_t trunk, const char *auth, const char *user)
{
    static char out[200];
    struct kg_route_facts facts = {.config = &config,
                                   .source = source,
                                   .trunk = trunk,
                                   .to_us = strncmp(user, "away:", 5) != 0,
                                   .user = user,
                                   .from_user = "1001",
                                   .user_exists = exists(user)};
    for (int i = 0; i < 5; i++) {
        struct kg_route_decision way = kg_route_decide(&facts);
        size_t used = 0;
        switch (way.verdict) {
        case KG_ROUTE_AUTHENTICATE:
            assert_null(facts.auth_user);
            if (!auth)
                return "401";
            facts.auth_user = auth;
            break;
        case KG_ROUTE_LOOK_UP:
            assert_int_not_equal(way.look_by, facts.looked);
            facts.looked = way.look_by;
            facts.account_exists = exists(way.user);
            facts.contacts = strcmp(way.user, way.look_by == KG_LOOKED_BY_TOKEN ? "T1" : "1001") == 0;
            break;
        case KG_ROUTE_PHONE:
            return way.policy == KG_POLICY_DEFAULT ? "phone" : "phone, with a policy";
        case KG_ROUTE_SERVERS:
            for (size_t n = 0; n < way.to_count; n++)
                used += (size_t)snprintf(out + used, sizeof out - used, "%s%s", n ? " " : "",
                                         way.to[n] < 0 ? "pbx" : config.trunk[way.to[n]].name);
            if (way.policy != KG_POLICY_DEFAULT)
                snprintf(out + used, sizeof out - used, ", policy %d", way.policy);
            return out;
        case KG_ROUTE_REFUSE:
            assert_non_null(way.why);
            snprintf(out, sizeof out, "%d", way.status);
            return out;
        }
    }
    fail_msg("it goes round and round");
    return "";
}

static void embedded(void **state)
{
    (void)state;
    configure("store: /x\n");
    assert_string_equal(call(KG_FROM_PHONE, 0, NULL, "1001"), "401");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1002", "1001"), "403");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "away:1001"), "403");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1001"), "phone");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1002"), "480");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1003"), "404");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", ""), "404");
}

#define TRUNKS                                                                                               \
    "trunks:\n- { name: itsp, server: udp:192.0.2.1, policy: anchor }\n- { name: other, server: "            \
    "udp:192.0.2.2, ring: \"1001\" }\n"

static void embedded_with_trunks(void **state)
{
    (void)state;
    configure(TRUNKS "routes:\n"
                     "- { number: \"112\", to: [ other, itsp ] }\n"
                     "- { from: phone, number: \"0*\", to: itsp }\n"
                     "- { from: itsp, number: \"+4930*\", to: \"1001\" }\n"
                     "- { from: itsp, number: \"77*\", to: other, policy: steer }\n"
                     "- { from: phone, number: \"1*\", to: other, policy: bypass }\n"
                     "- { from: phone, number: \"97\", to: \"1002\" }\n");
    assert_string_equal(call(KG_FROM_PHONE, 0, NULL, "030"), "401"); /* strangers get nowhere */
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "030"), "itsp, policy 2");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "(0) 30-1"), "itsp, policy 2");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "112"), "other itsp");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1001"), "phone"); /* nearer than 1* */
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1002"), "480");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "1003"), "other, policy 3");
    assert_string_equal(call(KG_FROM_PHONE, 0, "1001", "97"), "480");
    /* trunks: no password is asked, and only what names them takes them out again */
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "+49301"), "phone, with a policy");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "030"), "404");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "112"), "404");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "771"), "other, policy 1");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "1001"), "phone, with a policy");
    assert_string_equal(call(KG_FROM_TRUNK, 1, NULL, "+49301"), "phone"); /* ring */
    assert_string_equal(call(KG_FROM_TRUNK, 1, NULL, "away:1"), "phone");
}

static void in_front_of_a_pbx(void **state)
{
    (void)state;
    configure("pbx: udp:192.0.2.9:5060\n");
    assert_string_equal(call(KG_FROM_PHONE, 0, NULL, "030"), "pbx");
    assert_string_equal(call(KG_FROM_PBX, 0, NULL, "T1"), "phone");
    assert_string_equal(call(KG_FROM_PBX, 0, NULL, "1001"), "404");
    configure("pbx: udp:192.0.2.9:5060\n" TRUNKS "routes:\n"
              "- { from: pbx, number: \"0*\", to: [ itsp, other ] }\n"
              "- { from: pbx, number: \"T*\", to: itsp }\n"
              "- { from: itsp, number: \"1001\", to: \"1001\" }\n"
              "- { from: phone, number: \"9*\", to: pbx, policy: anchor }\n");
    assert_string_equal(call(KG_FROM_PHONE, 0, NULL, "030"), "pbx");
    assert_string_equal(call(KG_FROM_PHONE, 0, NULL, "9"), "pbx, policy 2");
    assert_string_equal(call(KG_FROM_PBX, 0, NULL, "T1"), "phone"); /* a token is nearer */
    assert_string_equal(call(KG_FROM_PBX, 0, NULL, "030"), "itsp other, policy 2");
    assert_string_equal(call(KG_FROM_PBX, 0, NULL, "1001"), "404");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "4711"), "pbx, policy 2");
    assert_string_equal(call(KG_FROM_TRUNK, 0, NULL, "1001"), "phone, with a policy");
    assert_string_equal(call(KG_FROM_TRUNK, 1, NULL, "4711"), "pbx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedded),
        cmocka_unit_test(embedded_with_trunks),
        cmocka_unit_test(in_front_of_a_pbx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
