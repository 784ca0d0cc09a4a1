/* b2bua/registrar/digest and nonces: RFC 7616, RFC 8760. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "b2bua/registrar/digest.h"
#include "b2bua/registrar/nonces.h"

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

/* RFC 7616 3.9.1, the worked example: right responses by both algorithms. Its nonce is not ours, so right
 * means STALE and anything else WRONG. */
static void rfc7616_3_9_1_vectors(void **state)
{
    const char *response[] = {"8ca523f5e9506fed4657c9700eebdbec",
                              "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"};
    struct kg_credentials cred = {.username = "Mufasa",
                                  .realm = "http-auth@example.org",
                                  .nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                                  .uri = "/dir/index.html",
                                  .cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                                  .nc_text = "00000001",
                                  .nc = 1};
    struct kg_ha1 ha1;

    kg_digest_ha1(*state, "Mufasa", "http-auth@example.org", "Circle of Life", &ha1);
    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++) {
        cred.algorithm = (enum kg_digest_algorithm)i;
        snprintf(cred.response, sizeof cred.response, "%s", response[i]);
        assert_int_equal(kg_digest_check(*state, &cred, "GET", &ha1, NOW, LIFETIME), KG_DIGEST_STALE);
        cred.response[5] ^= 1;
        assert_int_equal(kg_digest_check(*state, &cred, "GET", &ha1, NOW, LIFETIME), KG_DIGEST_WRONG);
    }
}

/* What a phone answers to a nonce; the response is computed here from hashes alone (RFC 7616 3.4.1). */
static struct kg_credentials answer(struct kg_digest *digest, enum kg_digest_algorithm algorithm,
                                    const char *nonce, uint32_t nc)
{
    struct kg_credentials cred = {.algorithm = algorithm,
                                  .username = "alice",
                                  .realm = "example.org",
                                  .uri = "sip:example.org",
                                  .cnonce = "xyz",
                                  .nc = nc};
    struct kg_ha1 ha1, ha2, response;
    char rest[512];

    snprintf(cred.nonce, sizeof cred.nonce, "%s", nonce);
    snprintf(cred.nc_text, sizeof cred.nc_text, "%08x", nc);
    kg_digest_ha1(digest, "alice", "example.org", "secret", &ha1);
    /* H(a:b:c) is all that kg_digest_ha1 is; "REGISTER:sip:example.org" happens to have three parts. */
    kg_digest_ha1(digest, "REGISTER", "sip", "example.org", &ha2);
    snprintf(rest, sizeof rest, "%s:xyz:auth:%s", cred.nc_text, ha2.hex[algorithm]);
    kg_digest_ha1(digest, ha1.hex[algorithm], nonce, rest, &response);
    memcpy(cred.response, response.hex[algorithm], sizeof cred.response);
    return cred;
}

static enum kg_digest_verdict check(struct kg_digest *digest, const struct kg_credentials *cred, int64_t now)
{
    struct kg_ha1 ha1;
    enum kg_digest_verdict verdict;

    kg_digest_ha1(digest, "alice", "example.org", "secret", &ha1);
    verdict = kg_digest_check(digest, cred, "REGISTER", &ha1, now, LIFETIME);
    return verdict == KG_DIGEST_GOOD ? kg_digest_use(digest, cred) : verdict;
}

static void good_once_then_repeated(void **state)
{
    char nonce[KG_NONCE_HEX];

    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++) {
        struct kg_credentials cred;

        kg_digest_nonce(*state, NOW, nonce);
        cred = answer(*state, (enum kg_digest_algorithm)i, nonce, 1);
        assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_GOOD);
        assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_REPEATED);
        cred = answer(*state, (enum kg_digest_algorithm)i, nonce, 2);
        assert_int_equal(check(*state, &cred, NOW + LIFETIME), KG_DIGEST_GOOD);
    }
}

static void unknown_user_is_wrong(void **state)
{
    char nonce[KG_NONCE_HEX];
    struct kg_credentials cred;

    kg_digest_nonce(*state, NOW, nonce);
    cred = answer(*state, KG_DIGEST_MD5, nonce, 1);
    assert_int_equal(kg_digest_check(*state, &cred, "REGISTER", NULL, NOW, LIFETIME), KG_DIGEST_WRONG);
    /* Another method than the one that was signed. */
    assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_GOOD);
    cred = answer(*state, KG_DIGEST_MD5, nonce, 2);
    struct kg_ha1 ha1;
    kg_digest_ha1(*state, "alice", "example.org", "secret", &ha1);
    assert_int_equal(kg_digest_check(*state, &cred, "INVITE", &ha1, NOW, LIFETIME), KG_DIGEST_WRONG);
}

static void old_future_and_forged_nonces(void **state)
{
    char nonce[KG_NONCE_HEX];
    struct kg_credentials cred;

    kg_digest_nonce(*state, NOW, nonce);
    cred = answer(*state, KG_DIGEST_SHA256, nonce, 1);
    assert_int_equal(check(*state, &cred, NOW + LIFETIME + 1), KG_DIGEST_STALE);
    assert_int_equal(check(*state, &cred, NOW - 61000), KG_DIGEST_STALE);
    nonce[10] = nonce[10] == '0' ? '1' : '0';
    cred = answer(*state, KG_DIGEST_SHA256, nonce, 1);
    assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_STALE);
    /* A wrong password over a forged nonce is no free guess: it is WRONG, not a new challenge. */
    cred.response[0] ^= 1;
    assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_WRONG);
    cred = answer(*state, KG_DIGEST_SHA256, "short", 1);
    assert_int_equal(check(*state, &cred, NOW), KG_DIGEST_STALE);
}

/* Another process with the same secret: what was restored goes on, a recorded request is a replay, what was
 * not restored is asked again. */
static void survives_a_restart(void **state)
{
    struct kg_digest *again = kg_digest_new(secret, NOW + 5000);
    char nonce[KG_NONCE_HEX], other[KG_NONCE_HEX], fresh[KG_NONCE_HEX];
    struct kg_credentials cred;

    assert_non_null(again);
    kg_digest_nonce(*state, NOW, nonce);
    kg_digest_nonce(*state, NOW, other);
    assert_string_not_equal(nonce, other);
    kg_digest_restore(again, nonce, 7);
    kg_digest_restore(again, "nonsense", 7);
    cred = answer(again, KG_DIGEST_MD5, nonce, 7);
    assert_int_equal(check(again, &cred, NOW + 6000), KG_DIGEST_REPEATED);
    cred = answer(again, KG_DIGEST_MD5, nonce, 3);
    assert_int_equal(check(again, &cred, NOW + 6000), KG_DIGEST_REPEATED);
    cred = answer(again, KG_DIGEST_MD5, nonce, 8);
    assert_int_equal(check(again, &cred, NOW + 6000), KG_DIGEST_GOOD);
    cred = answer(again, KG_DIGEST_MD5, other, 1);
    assert_int_equal(check(again, &cred, NOW + 6000), KG_DIGEST_STALE);
    kg_digest_nonce(again, NOW + 6000, fresh);
    cred = answer(again, KG_DIGEST_MD5, fresh, 1);
    assert_int_equal(check(again, &cred, NOW + 6000), KG_DIGEST_GOOD);
    kg_digest_free(again);
}

/* Counts that overtook each other on the way are good once each (RFC 7616 3.4.5 wants them checked, not
 * ordered). */
static void counts_out_of_order(void **state)
{
    struct kg_nonces *nonces = kg_nonces_new(0);

    (void)state;
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 5), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 7), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 6), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 6), KG_NONCE_SEEN);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 5), KG_NONCE_SEEN);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 100), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 36), KG_NONCE_SEEN); /* 64 back: too far to know */
    assert_int_equal(kg_nonces_use(nonces, 1, 10, 37), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 10, UINT32_MAX), KG_NONCE_FRESH);
    kg_nonces_free(nonces);
}

/* Full: the one unused for longest goes and is never new again; memory stays bounded. */
static void full_table_forgets_safely(void **state)
{
    struct kg_nonces *nonces = kg_nonces_new(0);

    (void)state;
    for (uint64_t id = 0; id < KG_NONCES_MAX; id++)
        assert_int_equal(kg_nonces_use(nonces, id, (int64_t)(100 + id), 1), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 0, 100, 2), KG_NONCE_FRESH); /* in use: to the end of the line */
    assert_int_equal(kg_nonces_use(nonces, 1000000, 200000, 1), KG_NONCE_FRESH);
    assert_int_equal(kg_nonces_use(nonces, 1, 101, 1), KG_NONCE_FORGOTTEN); /* had to go */
    assert_int_equal(kg_nonces_use(nonces, 0, 100, 2), KG_NONCE_SEEN);
    assert_int_equal(kg_nonces_use(nonces, 2, 102, 2), KG_NONCE_FRESH);
    kg_nonces_free(nonces);
}

static int parse(struct kg_credentials *out, const char *changed, const char *with)
{
    const char *params[] = {"username=\"al\\\"ice\"",
                            "realm=\"r\"",
                            "nonce=\"n\"",
                            "uri=\"sip:x\"",
                            "response=\"0123456789ABCDEF0123456789abcdef\"",
                            "cnonce=\"c\"",
                            "qop=auth",
                            "nc=0000000a",
                            "algorithm=MD5",
                            NULL};

    for (size_t i = 0; params[i]; i++)
        if (strncmp(params[i], changed, strlen(changed)) == 0)
            params[i] = with;
    return kg_credentials_parse(params, out);
}

static void parses_and_refuses(void **state)
{
    struct kg_credentials cred;
    char long_name[300];

    (void)state;
    assert_int_equal(parse(&cred, "-", ""), 0);
    assert_string_equal(cred.username, "al\"ice");
    assert_string_equal(cred.response, "0123456789abcdef0123456789abcdef");
    assert_int_equal(cred.nc, 10);
    assert_int_equal(parse(&cred, "algorithm", "x=y"), 0); /* absent: MD5 (RFC 7616 3.3) */
    assert_int_equal(cred.algorithm, KG_DIGEST_MD5);
    assert_int_equal(parse(&cred, "algorithm", "algorithm=MD5-sess"), EINVAL);
    assert_int_equal(parse(&cred, "algorithm", "algorithm=SHA-256"), EINVAL); /* response too short for it */
    assert_int_equal(parse(&cred, "qop", "qop=auth-int"), EINVAL);
    assert_int_equal(parse(&cred, "qop", "x=y"), EINVAL);
    assert_int_equal(parse(&cred, "nc", "nc=1"), EINVAL);
    assert_int_equal(parse(&cred, "nc", "nc=00000000"), EINVAL);
    assert_int_equal(parse(&cred, "nc", "nc=0000000g"), EINVAL);
    assert_int_equal(parse(&cred, "response", "response=\"\""), EINVAL);
    assert_int_equal(parse(&cred, "cnonce", "cnonce"), EINVAL);
    memset(long_name, 'a', sizeof long_name - 1);
    memcpy(long_name, "username=", 9);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(parse(&cred, "username", long_name), EINVAL);
    assert_int_equal(kg_credentials_parse(NULL, &cred), EINVAL);
}

static void challenge_text(void **state)
{
    char text[256];

    (void)state;
    kg_digest_challenge(KG_DIGEST_SHA256, "example.org", "abc", true, text, sizeof text);
    assert_string_equal(
        text, "Digest realm=\"example.org\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth\", stale=true");
    kg_digest_challenge(KG_DIGEST_MD5, "example.org", "abc", false, text, sizeof text);
    assert_string_equal(text, "Digest realm=\"example.org\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rfc7616_3_9_1_vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(good_once_then_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_user_is_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(old_future_and_forged_nonces, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_restart, setup, teardown),
        cmocka_unit_test(counts_out_of_order),
        cmocka_unit_test(full_table_forgets_safely),
        cmocka_unit_test(parses_and_refuses),
        cmocka_unit_test(challenge_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
