/* conf/records, conf/net: trunks, routes, numbers and caps as they stand in the file; networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "conf/config.h"

static struct kg_config config;
static struct kg_config_errors errors;

static void must_parse(const char *text)
{
    if (kg_config_parse(text, strlen(text), &config, &errors) != 0)
        fail_msg("line %d: %s", errors.item[0].line, errors.item[0].text);
}

static void must_fail(const char *text, int line, const char *words)
{
    if (kg_config_parse(text, strlen(text), &config, &errors) == 0)
        fail_msg("taken: %s", text);
    if (errors.item[0].line != line || !strstr(errors.item[0].text, words))
        fail_msg("%s\nline %d: %s", text, errors.item[0].line, errors.item[0].text);
}

#define ITSP "trunks:\n- { name: itsp, server: udp:192.0.2.1, user: me }\n"

static void everything(void **state)
{
    (void)state;
    must_parse("pbx: udp:192.0.2.9:5060\n"
               "trunks:\n"
               "- name: itsp\n"
               "  server: udp:192.0.2.1\n"
               "  user: kedge\n"
               "  auth_user: \"4711\"\n"
               "  password: x\n"
               "  domain: itsp.example\n"
               "  match: [ 198.51.100.0/24, \"2001:db8::/32\" ]\n"
               "  trusted: yes\n"
               "  from: caller\n"
               "  policy: anchor\n"
               "  calls: 20\n"
               "- { name: other, server: udp:192.0.2.2, register: no, line: no }\n"
               "routes:\n"
               "- { from: pbx, number: \"00*\", to: other }\n"
               "- { from: pbx, to: [ itsp, other ], policy: bypass }\n"
               "- { from: itsp, number: \"+493012340\", to: \"1001\" }\n"
               "- { to: pbx }\n"
               "numbers:\n"
               "- { where: to-itsp, match: \"0*\", becomes: \"+49*\" }\n"
               "- { where: to-itsp, of: caller, match: \"*\", becomes: \"+493012340\" }\n"
               "- { where: from-phone, match: \"*97\", becomes: voicemail }\n"
               "caps:\n"
               "- { user: \"*\", calls: 4, rate: 10, deny: [ \"00\", \"+\" ], allow: [ \"+49\" ] }\n"
               "- { user: boss }\n");
    const struct kg_trunk_config *trunk = &config.trunk[0];
    assert_string_equal(trunk->auth_user, "4711");
    assert_int_equal(trunk->match_count, 2);
    assert_true(trunk->registers && trunk->line && trunk->trusted);
    assert_int_equal(trunk->from, KG_CALLER_ID_CALLER);
    assert_int_equal(trunk->policy, KG_POLICY_ANCHOR);
    assert_int_equal(trunk->expires_ms, 600000);
    assert_int_equal(config.trunk[1].policy, KG_POLICY_DEFAULT);
    assert_false(config.trunk[1].registers || config.trunk[1].line);
    assert_int_equal(config.route_count, 4);
    assert_int_equal(config.route[1].to_count, 2);
    assert_string_equal(config.route[1].to[1], "other");
    assert_string_equal(config.route[1].number, "*");
    assert_string_equal(config.route[3].from, "*");
    assert_int_equal(config.number_count, 3);
    assert_int_equal(config.number[1].of, KG_NUMBER_CALLER);
    assert_string_equal(config.number[0].becomes, "+49*");
    assert_int_equal(config.caps_count, 2);
    assert_int_equal(config.caps[0].deny_count, 2);
    assert_string_equal(config.caps[0].deny[1].text, "+");
    assert_int_equal(config.caps[1].calls, 0);
}

static void errors_have_lines(void **state)
{
    (void)state;
    must_fail("trunks:\n- { name: pbx, server: udp:192.0.2.1 }\n", 2, "another side");
    must_fail("trunks:\n- { name: a, server: udp:192.0.2.1, password: x }\n", 2, "no user");
    must_fail("trunks:\n- { name: a, server: udp:192.0.2.1, match: 192.0.2.1/33 }\n", 2, "networks");
    must_fail("trunks:\n- { name: a, server: udp:192.0.2.1, policy: fast }\n", 2, "must be auto");
    must_fail("routes:\n- { to: pbx }\n", 1, "none is configured");
    must_fail("routes:\n- { from: ipst, to: \"1\" }\n", 1, "entry 1: there is no trunk called ipst");
    must_fail("routes:\n- { from: phone, number: \"a b\", to: \"1\" }\n", 2, "number must be");
    must_fail("routes:\n- { from: phone }\n", 2, "needs a to");
    must_fail(ITSP "routes:\n- { to: [ itsp, \"1\" ] }\n", 3, "an account must be alone");
    must_fail(ITSP "pbx: udp:192.0.2.9:5060\nroutes:\n- { from: phone, to: itsp }\n", 4, "past it");
    must_fail(ITSP "pbx: udp:192.0.2.9:5060\nroutes:\n- { to: itsp }\n", 4, "past it");
    must_fail("numbers:\n- { where: itsp, match: \"1\", becomes: \"2\" }\n", 2, "from- or to-");
    must_fail("numbers:\n- { where: to-itsp, match: \"1\", becomes: \"2\" }\n", 1, "no trunk called itsp");
    must_fail("numbers:\n- { where: from-phone, match: \"1\", becomes: \"2*\" }\n", 2, "leaves none");
    must_fail("numbers:\n- { where: from-phone, match: \"1\\\" <\", becomes: \"2\" }\n", 2, "match must be");
    must_fail("routes:\n- { from: pbx, to: \"1001\" }\n", 1, "nothing comes from the pbx");
    must_fail("numbers:\n- { where: to-pbx, match: \"0*\", becomes: \"+49*\" }\n", 1, "is for the pbx");
    must_fail("caps:\n- { user: a }\n- { user: a }\n", 3, "a second entry of caps");
    must_fail("caps:\n- { user: a, allow: [ \"0123456789012345678901234567\" ] }\n", 2, "longer");
    must_fail("caps:\n- { user: a, deny: [ \"0900*\" ] }\n", 2, "without *");
    must_fail("caps:\n- { user: a, deny: [ \"00\", \"+49-900\" ] }\n", 2, "caps.deny");
    must_fail("caps:\n- { user: a, allow: [ \"+49 900\" ], deny: [ \"\" ] }\n", 2, "caps.allow");
    must_fail("caps:\n- { user: \"\" }\n", 2, "user is empty");
    /* one error, however far beyond */
    must_fail("caps:\n- { user: a, deny: [0,1,2,3,4,5,6,7,8,9,00,01,02,03,04,05,06,07,08] }\n", 2,
              "more than 16");
    assert_int_equal(errors.count, 1);
}

static bool has(const char *net, const char *host)
{
    struct kg_net parsed;
    struct kg_addr addr;
    assert_int_equal(kg_net_parse(net, &parsed), 0);
    assert_int_equal(kg_addr_parse(host, &addr), 0);
    return kg_net_has(&parsed, &addr);
}

static void networks(void **state)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "192.0.2.1/",
                                      "192.0.2.1/33",
                                      "192.0.2.1/-1",
                                      "192.0.2.1/1x",
                                      "2001:db8::/129",
                                      "example.org",
                                      "192.0.2.1/0001",
                                      "192.0.2.1:5060/24"};
    struct kg_net net;
    char text[KG_NET_STR];
    (void)state;
    assert_true(has("192.0.2.1", "192.0.2.1:5060"));
    assert_false(has("192.0.2.1", "192.0.2.2:5060"));
    assert_true(has("192.0.2.77/24", "192.0.2.255"));
    assert_false(has("192.0.2.0/24", "192.0.3.0"));
    assert_true(has("192.0.2.0/23", "192.0.3.255"));
    assert_false(has("192.0.2.0/31", "192.0.2.2"));
    assert_true(has("0.0.0.0/0", "8.8.8.8:1"));
    assert_false(has("0.0.0.0/0", "[::1]:1"));
    assert_true(has("2001:db8::/33", "[2001:db8:7fff::1]:5060"));
    assert_false(has("2001:db8::/33", "[2001:db8:8000::1]:5060"));
    assert_int_equal(kg_net_parse("192.0.2.77/24", &net), 0);
    assert_string_equal(kg_net_format(&net, text), "192.0.2.0/24");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (kg_net_parse(bad[i], &net) == 0)
            fail_msg("taken: %s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(errors_have_lines),
        cmocka_unit_test(networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
