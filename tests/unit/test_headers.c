/* b2bua/call/headers, identity: what passes from which side to which, and what privacy asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg.h>
#include <sofia-sip/msg_header.h>
#include <sofia-sip/msg_parser.h>
#include <sofia-sip/sip_parser.h>

#include "b2bua/call/headers.h"
#include "b2bua/call/identity.h"

static const struct kg_peer phone = {.kind = KG_PEER_PHONE}, pbx = {.kind = KG_PEER_PBX},
                            itsp = {.kind = KG_PEER_TRUNK},
                            carrier = {.kind = KG_PEER_TRUNK, .trusted = true};

static struct kg_config config;

/* headers: lines ending in \r\n */
static msg_t *message(const char *headers)
{
    static char text[65536];
    int len = snprintf(text, sizeof text,
                       "INVITE sip:2@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
                       "From: <sip:1@example.org>;tag=1\r\nTo: <sip:2@example.org>\r\nCall-ID: 1\r\n"
                       "CSeq: 1 INVITE\r\n%sContent-Length: 0\r\n\r\n",
                       headers);
    msg_t *msg = msg_make(sip_default_mclass(), 0, text, len);
    assert_non_null(msg);
    assert_non_null(sip_object(msg)->sip_request);
    return msg;
}

static char passed[16384]; /* as lines "Name: value\n" */
static size_t left_out;

static const char *pass(const char *headers, struct kg_peer from, struct kg_peer to)
{
    struct kg_passed out;
    size_t used = 0;
    msg_t *msg = message(headers);
    left_out = kg_headers_pass(&config, sip_object(msg), from, to, &out);
    passed[0] = '\0';
    for (const tagi_t *tag = out.tag; tag->t_tag; tag++) {
        issize_t len = msg_header_e(passed + used, (isize_t)(sizeof passed - used),
                                    (const msg_header_t *)tag->t_value, 0);
        assert_true(len > 0 && used + (size_t)len < sizeof passed);
        used += (size_t)len;
    }
    passed[used] = '\0';
    msg_destroy(msg);
    return passed;
}

static bool passes(const char *header, struct kg_peer from, struct kg_peer to)
{
    char line[512];
    snprintf(line, sizeof line, "%s\r\n", header);
    return strcmp(pass(line, from, to), line) == 0;
}

static void test_identity_of_untrusted_sides_stays_there(void **state)
{
    (void)state;
    static const char *const forged[] = {"P-Asserted-Identity: <sip:boss@example.org>",
                                         "Remote-Party-ID: <sip:boss@example.org>",
                                         "Diversion: <sip:boss@example.org>;reason=unconditional",
                                         "History-Info: <sip:boss@example.org>;index=1"};
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        assert_false(passes(forged[i], phone, pbx));
        assert_false(passes(forged[i], phone, phone));
        assert_false(passes(forged[i], phone, carrier));
        assert_false(passes(forged[i], itsp, pbx));
        assert_false(passes(forged[i], itsp, phone));
        assert_true(passes(forged[i], pbx, carrier));
        assert_true(passes(forged[i], pbx, phone));
        assert_true(passes(forged[i], carrier, pbx));
        assert_true(passes(forged[i], carrier, phone));
    }
    assert_false(passes(forged[0], pbx, itsp));
    assert_true(passes("P-Preferred-Identity: <sip:1@example.org>", phone, pbx));
    assert_false(passes("P-Preferred-Identity: <sip:1@example.org>", phone, carrier));
}

static void test_privacy_keeps_identity_in_the_domain(void **state)
{
    (void)state;
    static const char pai[] = "P-Asserted-Identity: <sip:1@example.org>\r\n";
    char text[256];
    snprintf(text, sizeof text, "Privacy: id\r\n%s", pai);
    assert_null(strstr(pass(text, pbx, phone), "Asserted"));
    assert_null(strstr(pass(text, carrier, phone), "Asserted"));
    assert_non_null(strstr(pass(text, pbx, carrier), "Asserted"));
    assert_non_null(strstr(pass(text, pbx, carrier), "Privacy: id"));
    assert_null(strstr(pass(text, pbx, itsp), "Asserted"));
    snprintf(text, sizeof text, "Privacy: none\r\n%s", pai);
    assert_non_null(strstr(pass(text, pbx, phone), "Asserted"));
    assert_null(
        strstr(pass("Privacy: history\r\nHistory-Info: <sip:1@a>;index=1\r\n", pbx, itsp), "History"));
    assert_null(strstr(pass("Privacy: header\r\nDiversion: <sip:1@a>\r\n", pbx, phone), "Diversion"));
    assert_non_null(strstr(pass("Privacy: id\r\nDiversion: <sip:1@a>\r\n", pbx, phone), "Diversion"));
    assert_false(passes("Remote-Party-ID: <sip:1@a>;party=calling;privacy=full", pbx, phone));
    assert_true(passes("Remote-Party-ID: <sip:1@a>;party=calling;privacy=off", pbx, phone));
    assert_false(passes("Diversion: <sip:1@a>;reason=no-answer;privacy=full", pbx, itsp));
    assert_true(passes("Diversion: <sip:1@a>;reason=no-answer;privacy=full", pbx, carrier));
    assert_false(passes("History-Info: <sip:1@a?Privacy=history>;index=1", pbx, phone));
    snprintf(text, sizeof text, "Privacy: user\r\n%sP-Preferred-Identity: <sip:1@a>\r\n", pai);
    assert_null(strstr(pass(text, pbx, phone), "Identity"));
    assert_null(strstr(pass(text, pbx, itsp), "Identity"));
    assert_non_null(strstr(pass(text, pbx, carrier), "Preferred"));
}

static void test_signatures_pass_as_they_are(void **state)
{
    (void)state;
    static const char lines[] =
        "Date: Sat, 21 Nov 2026 18:00:00 GMT\r\n"
        "Identity: "
        "eyJhbGciOiJFUzI1NiJ9.e30.c2ln;info=<https://cert.example.org/a.pem>;alg=ES256;ppt=shaken\r\n"
        "Identity: eyJhbGciOiJFUzI1NiJ9.e31.c2ln;info=<https://cert.example.org/b.pem>\r\n";
    static const struct kg_peer peers[] = {phone, pbx, itsp, carrier};
    for (size_t from = 0; from < 4; from++)
        for (size_t to = 0; to < 4; to++)
            assert_string_equal(pass(lines, peers[from], peers[to]), lines);
}

/* CVE-2021-41158 */
static void test_credentials_go_only_to_the_pbx(void **state)
{
    (void)state;
    static const struct kg_peer peers[] = {phone, pbx, itsp, carrier};
    static const char proof[] =
        "Authorization: Digest username=\"1\", realm=\"a\", nonce=\"n\", uri=\"sip:a\", "
        "response=\"0\"\r\n";
    static const char challenge[] = "WWW-Authenticate: Digest realm=\"a\", nonce=\"n\"\r\n";
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++) {
            assert_int_equal(strstr(pass(proof, peers[from], peers[to]), "Digest") != NULL,
                             from == 0 && to == 1);
            assert_int_equal(strstr(pass(challenge, peers[from], peers[to]), "Digest") != NULL,
                             from == 1 && to == 0);
        }
}

static void test_networks_stay_apart(void **state)
{
    (void)state;
    static const char *const inner[] = {"Contact: <sip:1@10.0.0.1>",
                                        "Record-Route: <sip:10.0.0.1;lr>",
                                        "User-Agent: secret",
                                        "Path: <sip:10.0.0.1;lr>",
                                        "Supported: 100rel",
                                        "X-Mine: 1",
                                        "Replaces: a;to-tag=b;from-tag=c"};
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        assert_false(passes(inner[i], phone, pbx));
        assert_false(passes(inner[i], pbx, carrier));
    }
    assert_true(passes("Alert-Info: <http://a/ring>", pbx, phone));
    assert_false(passes("Alert-Info: <http://a/auto-answer>", phone, phone));
    assert_false(passes("Call-Info: <sip:a>;answer-after=0", phone, phone));
    assert_true(passes("Call-Info: <sip:a>;answer-after=0", pbx, phone));
    assert_true(passes("Call-Info: <sip:a>;appearance-index=1", phone, pbx));
    assert_false(passes("Geolocation: <sip:1@a>", phone, phone));
    assert_true(passes("Geolocation: <sip:1@a>", phone, itsp));
}

static void test_configured_headers(void **state)
{
    (void)state;
    struct kg_config_errors errors;
    static const char yaml[] = "sip:\n  pass_headers: [ \"X-*\", P-Charge, P-Asserted-Identity ]\n";
    assert_int_equal(kg_config_parse(yaml, strlen(yaml), &config, &errors), 0);
    assert_true(passes("X-Mine: 1", phone, pbx));
    assert_true(passes("x-mine: 1", pbx, itsp));
    assert_true(passes("P-Charge: 1", pbx, phone));
    assert_false(passes("P-Charges: 1", pbx, phone));
    assert_false(passes("Y-Mine: 1", phone, pbx));
    assert_false(passes("P-Asserted-Identity: <sip:boss@a>", phone, pbx)); /* the table stands above it */
    kg_config_defaults(&config);
    static const char *const bad[] = {"\"*\"", "\"X *\"", "\"X-*-y\"", "\"A:\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[100];
        struct kg_config other;
        snprintf(text, sizeof text, "sip: { pass_headers: [ %s ] }\n", bad[i]);
        assert_int_not_equal(kg_config_parse(text, strlen(text), &other, &errors), 0);
    }
}

static void test_smuggling(void **state)
{
    (void)state;
    assert_string_equal(pass("Subject: a\x1b[2Jb\r\n", phone, pbx), "");
    assert_int_equal(left_out, 1);
    assert_string_equal(pass("User-to-User: 00\x01\r\n", phone, pbx), "");
    assert_int_equal(left_out, 1);
    /* folded over two lines it is one value still */
    pass("User-to-User: 00\r\n Via: SIP/2.0/UDP evil\r\n", phone, pbx);
    assert_null(strstr(passed, "\nVia"));
    assert_non_null(strstr(passed, "User-to-User: 00   Via"));
    pass("Subject: two\r\n lines\r\n", phone, pbx);
    assert_non_null(strstr(passed, "Subject: two   lines\r\n"));
    pass("User-to-User : 01\r\n", phone, pbx);
    assert_null(strstr(passed, " :"));
}

static void test_too_many(void **state)
{
    (void)state;
    static char many[8192];
    size_t used = 0, lines = 0;
    for (int i = 0; i < KG_PASSED_MAX + 5; i++)
        used += (size_t)snprintf(many + used, sizeof many - used, "User-to-User: %d\r\n", i);
    pass(many, phone, pbx);
    for (const char *p = passed; (p = strstr(p, "User-to-User")); p++)
        lines++;
    assert_int_equal(lines, KG_PASSED_MAX);
    assert_int_equal(left_out, 5);
}

static struct kg_privacy privacy_of(const char *headers)
{
    msg_t *msg = message(headers);
    struct kg_privacy privacy = kg_privacy_of(sip_object(msg));
    msg_destroy(msg);
    return privacy;
}

static void test_privacy(void **state)
{
    (void)state;
    assert_false(privacy_of("").user);
    assert_true(privacy_of("Privacy: id\r\n").id);
    assert_false(privacy_of("Privacy: id\r\n").user);
    assert_true(privacy_of("Privacy: USER;Session;critical\r\n").session);
    assert_false(privacy_of("Privacy: user;session;critical\r\n").unmet);
    assert_true(privacy_of("Privacy: user;invisible;critical\r\n").unmet);
    assert_false(privacy_of("Privacy: user;invisible\r\n").unmet);
    assert_false(privacy_of("Privacy: none\r\n").id);
    assert_true(kg_privacy_hides_caller(privacy_of("Privacy: user\r\n"), phone));
    assert_true(kg_privacy_hides_caller(privacy_of("Privacy: header\r\n"), itsp));
    assert_false(kg_privacy_hides_caller(privacy_of("Privacy: user\r\n"), carrier));
    assert_false(kg_privacy_hides_caller(privacy_of("Privacy: user\r\n"), pbx));
    assert_false(kg_privacy_hides_caller(privacy_of("Privacy: id\r\n"), phone));
}

int main(void)
{
    kg_config_defaults(&config);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_of_untrusted_sides_stays_there),
        cmocka_unit_test(test_privacy_keeps_identity_in_the_domain),
        cmocka_unit_test(test_signatures_pass_as_they_are),
        cmocka_unit_test(test_credentials_go_only_to_the_pbx),
        cmocka_unit_test(test_networks_stay_apart),
        cmocka_unit_test(test_configured_headers),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_privacy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
