/* b2bua/registrar/challenge: digest as a client, against published vectors and against kedge's own server
 * side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/registrar/challenge.h"

#define NOW      1000000000000
#define LIFETIME 600000

static const uint8_t secret[32] = "an installation's random secret";

static int setup(void **state)
{
    *state = kg_digest_new(secret, NOW);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    kg_digest_free(*state);
    return 0;
}

/* RFC 7616 3.9.1, both algorithms. */
static void rfc7616_3_9_1(void **state)
{
    static const char *const response[] = {
        "8ca523f5e9506fed4657c9700eebdbec",
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"};
    static const char *const algorithm[] = {"algorithm=MD5", "algorithm=\"sha-256\""};
    for (int i = 0; i < 2; i++) {
        const char *const params[] = {"realm=\"http-auth@example.org\"",
                                      "qop=\"auth, auth-int\"",
                                      algorithm[i],
                                      "nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\"",
                                      "opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
                                      NULL};
        struct kg_challenge challenge;
        char out[1024], expected[128];
        assert_int_equal(kg_challenge_parse(params, &challenge), 0);
        assert_int_equal(kg_challenge_answer(*state, &challenge, "Mufasa", "Circle of Life", "GET",
                                             "/dir/index.html",
                                             "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", out, sizeof out),
                         0);
        snprintf(expected, sizeof expected, "response=\"%s\"", response[i]);
        assert_non_null(strstr(out, expected));
        assert_non_null(strstr(out, ", qop=auth, nc=00000001, cnonce=\""));
        assert_non_null(strstr(out, "opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""));
    }
}

/* RFC 2617 3.5's example as a server without qop asks it (RFC 2069): computed by hand with md5sum. */
static void without_qop(void **state)
{
    const char *const params[] = {"realm=\"testrealm@host.com\"",
                                  "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"", NULL};
    struct kg_challenge challenge;
    char out[1024];
    assert_int_equal(kg_challenge_parse(params, &challenge), 0);
    assert_false(challenge.qop || challenge.stale);
    assert_int_equal(kg_challenge_answer(*state, &challenge, "Mufasa", "Circle Of Life", "GET",
                                         "/dir/index.html", "x", out, sizeof out),
                     0);
    assert_non_null(strstr(out, "response=\"670fd8c2df070c60b045671b8b24ff02\""));
    assert_null(strstr(out, "qop"));
    assert_null(strstr(out, "cnonce"));
}

/* What the client says, the server believes. */
static void round_trip(void **state)
{
    struct kg_ha1 ha1;
    kg_digest_ha1(*state, "1001", "kedge", "secret", &ha1);
    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++) {
        char nonce[KG_NONCE_HEX], header[512], out[1024], *params[16], *rest = header + 7, *param;
        size_t count = 0;
        struct kg_challenge challenge;
        struct kg_credentials cred;
        kg_digest_nonce(*state, NOW, nonce);
        kg_digest_challenge((enum kg_digest_algorithm)i, "kedge", nonce, true, header, sizeof header);
        while ((param = strsep(&rest, ",")) && count < 15)
            params[count++] = param + strspn(param, " ");
        params[count] = NULL;
        assert_int_equal(kg_challenge_parse((const char *const *)params, &challenge), 0);
        assert_true(challenge.stale);
        assert_int_equal(kg_challenge_answer(*state, &challenge, "1001", "secret", "REGISTER", "sip:kedge",
                                             "abc", out, sizeof out),
                         0);
        rest = out + 7;
        count = 0;
        while ((param = strsep(&rest, ",")) && count < 15)
            params[count++] = param + strspn(param, " ");
        params[count] = NULL;
        assert_int_equal(kg_credentials_parse((const char *const *)params, &cred), 0);
        assert_int_equal(kg_digest_check(*state, &cred, "REGISTER", &ha1, NOW, LIFETIME), KG_DIGEST_GOOD);
        assert_int_equal(kg_digest_check(*state, &cred, "INVITE", &ha1, NOW, LIFETIME), KG_DIGEST_WRONG);
    }
}

static void hostile(void **state)
{
    char huge[700] = "nonce=\"";
    struct kg_challenge challenge;
    (void)state;
    memset(huge + 7, 'x', sizeof huge - 9);
    huge[sizeof huge - 2] = '"';
    const char *const bad[][5] = {
        {NULL},
        {"realm=\"a\"", NULL},
        {"nonce=\"a\"", NULL},
        {"realm=\"a\"", "nonce=\"\"", NULL},
        {"realm=\"a\"", huge, NULL},
        {"realm=\"a\"", "nonce=\"n\"", "algorithm=MD5-sess", NULL},
        {"realm=\"a\"", "nonce=\"n\"", "algorithm=SHA-512-256", NULL},
        {"realm=\"a\"", "nonce=\"n\"", "qop=\"auth-int\"", NULL},
        {"realm=\"a\"", "nonce=\"n\r\nVia: x\"", NULL},
        {"realm=\"a\", uri=\"b\"", "nonce=\"n\"", NULL},
        {"realm=\"a\"", "nonce=\"n\\\x01\"", NULL},
        {"realm=\"a\"", "nonce=\"n\\\\\"x\"", NULL}, /* an escaped backslash, and the end */
        {"realm=\"a\"", "nonce=\"n\\\"", NULL},      /* the quote that would end it is escaped */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (kg_challenge_parse(bad[i], &challenge) == 0)
            fail_msg("challenge %zu was taken", i);
    const char *const good[] = {"REALM=a", "Nonce=n", "domain=\"sip:x\"", "unknown", NULL};
    assert_int_equal(kg_challenge_parse(good, &challenge), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rfc7616_3_9_1, setup, teardown),
        cmocka_unit_test_setup_teardown(without_qop, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
