/* STUN messages: the vectors of RFC 5769 and RFC 8489 B.1 exactly, both ways; integrity; what a message says
 * and how it is written; retransmission. What is broken: test_stun_broken.c. */
#include "ice/stun/transaction.h"
#include "tests/unit/stun_vectors.h"

/* ---- RFC 5769, RFC 8489 B.1: reading ---- */

static void test_rfc5769_2_1_request(void **state)
{
    (void)state;
    struct kg_stun_message m;
    uint32_t priority;
    uint64_t tie;
    parse(request, sizeof request, &m);
    assert_int_equal(m.class, KG_STUN_REQUEST);
    assert_int_equal(m.method, KG_STUN_BINDING);
    assert_true(m.has_fingerprint);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_RIGHT);
    assert_true(kg_stun_get_u32(&m, KG_STUN_PRIORITY, &priority));
    assert_int_equal(priority, 0x6e0001ff);
    assert_true(kg_stun_get_u64(&m, KG_STUN_ICE_CONTROLLED, &tie));
    assert_true(tie == 0x932ff9b151263b36);
    const struct kg_stun_value *user = kg_stun_find(&m, KG_STUN_USERNAME);
    assert_int_equal(user->len, 9);
    assert_memory_equal(user->data, "evtj:h6vY", 9);
    assert_null(kg_stun_find(&m, KG_STUN_REALM));
    uint16_t unknown[4];
    assert_int_equal(kg_stun_unknown(&m, unknown, 4), 0);
}

static void test_rfc5769_2_2_and_2_3_responses(void **state)
{
    (void)state;
    struct kg_stun_message m;
    struct kg_addr addr;
    char text[KG_ADDR_STR];
    parse(response4, sizeof response4, &m);
    assert_int_equal(m.class, KG_STUN_SUCCESS);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_RIGHT);
    assert_true(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &addr));
    assert_string_equal(kg_addr_format(&addr, text), "192.0.2.1:32853");
    parse(response6, sizeof response6, &m);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_RIGHT);
    assert_true(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &addr));
    assert_string_equal(kg_addr_format(&addr, text), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
}

static void test_rfc5769_2_4_long_term(void **state)
{
    (void)state;
    struct kg_stun_message m;
    uint8_t key[KG_STUN_KEY_MAX];
    parse(long_term, sizeof long_term, &m);
    size_t len = kg_stun_long_term_key(KG_STUN_MD5, matrix, "example.org", "TheMatrIX", key);
    assert_int_equal(len, 16);
    assert_int_equal(kg_stun_check_integrity(&m, key, len), KG_STUN_INTEGRITY_RIGHT);
    assert_false(m.has_fingerprint);
}

static void test_rfc8489_b_1_sha256(void **state)
{
    (void)state;
    struct kg_stun_message m;
    uint8_t key[KG_STUN_KEY_MAX], hash[32];
    parse(sha256_request, sizeof sha256_request, &m);
    size_t len = kg_stun_long_term_key(KG_STUN_SHA256, matrix, "example.org", "TheMatrIX", key);
    assert_int_equal(len, 32);
    assert_int_equal(kg_stun_check_integrity(&m, key, len), KG_STUN_INTEGRITY_RIGHT);
    assert_true(kg_stun_userhash(matrix, "example.org", hash));
    assert_memory_equal(kg_stun_find(&m, KG_STUN_USERHASH)->data, hash, 32);
}

/* ---- RFC 5769, RFC 8489 B.1: writing ---- */

/* The samples of RFC 5769 pad with blanks; we pad with zero, as RFC 8489 14 wants. */
static void pad_with_blanks(struct kg_stun_writer *w, size_t count)
{
    memset(w->data + w->len - count, ' ', count);
}

static void test_rfc5769_2_1_is_written(void **state)
{
    (void)state;
    uint8_t buf[200];
    struct kg_stun_writer w;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, request + 8);
    kg_stun_put(&w, KG_STUN_SOFTWARE, "STUN test client", 16);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 0x6e0001ff);
    kg_stun_put_u64(&w, KG_STUN_ICE_CONTROLLED, 0x932ff9b151263b36);
    kg_stun_put(&w, KG_STUN_USERNAME, "evtj:h6vY", 9);
    pad_with_blanks(&w, 3);
    kg_stun_put_integrity(&w, PWD);
    kg_stun_put_fingerprint(&w);
    assert_int_equal(kg_stun_end(&w), sizeof request);
    assert_memory_equal(buf, request, sizeof request);
}

static void test_rfc5769_2_2_and_2_3_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        const uint8_t *data;
        size_t len;
    } cases[] = {
        {"192.0.2.1:32853", response4, sizeof response4},
        {"[2001:db8:1234:5678:11:2233:4455:6677]:32853", response6, sizeof response6},
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t buf[200];
        struct kg_stun_writer w;
        struct kg_addr addr;
        assert_int_equal(kg_addr_parse(cases[i].addr, &addr), 0);
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_SUCCESS, KG_STUN_BINDING, cases[i].data + 8);
        kg_stun_put(&w, KG_STUN_SOFTWARE, "test vector", 11);
        pad_with_blanks(&w, 1);
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &addr);
        kg_stun_put_integrity(&w, PWD);
        kg_stun_put_fingerprint(&w);
        assert_int_equal(kg_stun_end(&w), cases[i].len);
        assert_memory_equal(buf, cases[i].data, cases[i].len);
    }
}

static void test_long_term_vectors_are_written(void **state)
{
    (void)state;
    uint8_t buf[200], key[KG_STUN_KEY_MAX], hash[32];
    struct kg_stun_writer w;
    size_t len = kg_stun_long_term_key(KG_STUN_MD5, matrix, "example.org", "TheMatrIX", key);
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, long_term + 8);
    kg_stun_put(&w, KG_STUN_USERNAME, matrix, sizeof matrix - 1);
    kg_stun_put(&w, KG_STUN_NONCE, "f//499k954d6OL34oL9FSTvy64sA", 28);
    kg_stun_put(&w, KG_STUN_REALM, "example.org", 11);
    kg_stun_put_integrity(&w, key, len);
    assert_int_equal(kg_stun_end(&w), sizeof long_term);
    assert_memory_equal(buf, long_term, sizeof long_term);

    len = kg_stun_long_term_key(KG_STUN_SHA256, matrix, "example.org", "TheMatrIX", key);
    assert_true(kg_stun_userhash(matrix, "example.org", hash));
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, sha256_request + 8);
    kg_stun_put(&w, KG_STUN_USERHASH, hash, 32);
    kg_stun_put(&w, KG_STUN_NONCE, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA", 41);
    kg_stun_put(&w, KG_STUN_REALM, "example.org", 11);
    kg_stun_put(&w, KG_STUN_PASSWORD_ALGORITHM, "\0\2\0\0", 4);
    kg_stun_put_integrity_sha256(&w, key, len);
    assert_int_equal(kg_stun_end(&w), sizeof sha256_request);
    assert_memory_equal(buf, sha256_request, sizeof sha256_request);
}

/* ---- integrity ---- */

static void test_every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    uint8_t copy[sizeof long_term];
    struct kg_stun_message m;
    for (size_t bit = 0; bit < 8 * sizeof request; bit++) {
        memcpy(copy, request, sizeof request);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* It may hide the fingerprint (its type, a length before it), but never agree with it. */
        if (kg_stun_parse(copy, sizeof request, &m) == KG_STUN_OK)
            assert_false(m.has_fingerprint);
    }
    /* Without a fingerprint the integrity tells, but for its own and the header's first bits. */
    for (size_t bit = 8 * 8; bit < 8 * sizeof long_term; bit++) {
        uint8_t key[KG_STUN_KEY_MAX];
        size_t len = kg_stun_long_term_key(KG_STUN_MD5, matrix, "example.org", "TheMatrIX", key);
        memcpy(copy, long_term, sizeof long_term);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (kg_stun_parse(copy, sizeof long_term, &m) == KG_STUN_OK)
            assert_int_not_equal(kg_stun_check_integrity(&m, key, len), KG_STUN_INTEGRITY_RIGHT);
    }
}

static void test_wrong_keys(void **state)
{
    (void)state;
    struct kg_stun_message m;
    parse(request, sizeof request, &m);
    assert_int_equal(kg_stun_check_integrity(&m, pwd, sizeof pwd - 2), KG_STUN_INTEGRITY_WRONG);
    assert_int_equal(kg_stun_check_integrity(&m, "", 0), KG_STUN_INTEGRITY_WRONG);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_RIGHT);
    /* An empty key is not the one used before. */
    assert_int_equal(kg_stun_check_integrity(&m, NULL, 0), KG_STUN_INTEGRITY_WRONG);
    uint8_t buf[100];
    struct kg_stun_writer w;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    parse(buf, kg_stun_end(&w), &m);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_NONE);
    kg_stun_put_integrity(&w, "", 0);
    assert_int_equal(kg_stun_end(&w), 0);
}

/* RFC 8489 14.6: 16 to 32 bytes in steps of 4. */
static void test_truncated_sha256(void **state)
{
    (void)state;
    struct kg_stun_message m;
    uint8_t key[KG_STUN_KEY_MAX], copy[sizeof sha256_request];
    size_t key_len = kg_stun_long_term_key(KG_STUN_SHA256, matrix, "example.org", "TheMatrIX", key);
    for (uint8_t cut = 0; cut <= 40; cut++) {
        struct kg_stun_writer w;
        uint8_t full[sizeof copy + 8], hmac[40] = {0};
        /* The length in the header counts the truncated attribute, so that the hash is another one. */
        kg_stun_begin(&w, full, sizeof full, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
        kg_stun_put(&w, KG_STUN_MESSAGE_INTEGRITY_SHA256, hmac, cut);
        assert_int_not_equal(kg_stun_end(&w), 0);
        struct kg_stun_span span = {full, KG_STUN_HEADER};
        assert_true(kg_stun_hmac(KG_STUN_HASH_SHA256, key, key_len, &span, 1, hmac));
        memcpy(full + KG_STUN_HEADER + 4, hmac, cut);
        enum kg_stun_verdict verdict = kg_stun_parse(full, w.len, &m);
        if (cut < 16 || cut > 32 || cut % 4 != 0) {
            assert_int_equal(verdict, KG_STUN_MALFORMED);
            continue;
        }
        assert_int_equal(verdict, KG_STUN_OK);
        assert_int_equal(kg_stun_check_integrity(&m, key, key_len), KG_STUN_INTEGRITY_RIGHT);
        full[KG_STUN_HEADER + 4 + cut - 1] ^= 1;
        assert_int_equal(kg_stun_check_integrity(&m, key, key_len), KG_STUN_INTEGRITY_WRONG);
    }
}

/* A right SHA1 does not excuse a wrong SHA256 (bid-down). */
static void test_sha256_decides_where_both_are(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 2; wrong++) {
        uint8_t buf[200];
        struct kg_stun_writer w;
        struct kg_stun_message m;
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
        kg_stun_put(&w, KG_STUN_USERNAME, "a:b", 3);
        kg_stun_put_integrity(&w, PWD);
        kg_stun_put_integrity_sha256(&w, PWD);
        if (wrong)
            buf[w.len - 1] ^= 1;
        kg_stun_put_fingerprint(&w);
        parse(buf, kg_stun_end(&w), &m);
        assert_int_equal(m.count, 4);
        assert_int_equal(kg_stun_check_integrity(&m, PWD),
                         wrong ? KG_STUN_INTEGRITY_WRONG : KG_STUN_INTEGRITY_RIGHT);
    }
}

/* 14.5, 14.6: nothing that is not covered by the hash may be believed. */
static void test_attributes_behind_integrity_are_ignored(void **state)
{
    (void)state;
    uint8_t buf[400];
    struct kg_stun_writer w;
    struct kg_stun_message m;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1);
    kg_stun_put_integrity(&w, PWD);
    kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 2);
    kg_stun_put(&w, KG_STUN_PRIORITY, "x", 1); /* not even its shape is looked at */
    kg_stun_put(&w, 0x7ffe, NULL, 0);
    kg_stun_put_integrity(&w, "another", 7);
    kg_stun_put_fingerprint(&w);
    parse(buf, kg_stun_end(&w), &m);
    uint32_t priority;
    uint16_t unknown;
    assert_int_equal(m.count, 3);
    assert_null(kg_stun_find(&m, KG_STUN_USE_CANDIDATE));
    assert_true(kg_stun_get_u32(&m, KG_STUN_PRIORITY, &priority));
    assert_int_equal(priority, 1);
    assert_int_equal(kg_stun_unknown(&m, &unknown, 1), 0);
    assert_int_equal(kg_stun_check_integrity(&m, PWD), KG_STUN_INTEGRITY_RIGHT);

    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    kg_stun_put_integrity_sha256(&w, PWD);
    kg_stun_put_integrity(&w, PWD);
    kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    parse(buf, kg_stun_end(&w), &m);
    assert_int_equal(m.count, 1);
    assert_int_equal(m.integrity, 0);
}

static void test_getters_refuse_other_shapes(void **state)
{
    (void)state;
    uint8_t buf[200];
    struct kg_stun_writer w;
    struct kg_stun_message m;
    struct kg_addr addr;
    uint32_t u32;
    uint64_t u64;
    int code;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_ERROR, KG_STUN_BINDING, some_id);
    kg_stun_put(&w, KG_STUN_MAPPED_ADDRESS, "\0\2\0\1abcd", 8);     /* IPv6 of four bytes */
    kg_stun_put(&w, KG_STUN_XOR_MAPPED_ADDRESS, "\0\3\0\1abcd", 8); /* no such family */
    kg_stun_put(&w, KG_STUN_ERROR_CODE, "\0\0\2\1", 4);             /* 201 */
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 7);
    parse(buf, kg_stun_end(&w), &m);
    assert_false(kg_stun_get_address(&m, KG_STUN_MAPPED_ADDRESS, &addr));
    assert_false(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &addr));
    assert_false(kg_stun_get_address(&m, KG_STUN_OTHER_ADDRESS, &addr));
    assert_false(kg_stun_get_error(&m, &code, NULL, NULL));
    assert_false(kg_stun_get_u64(&m, KG_STUN_PRIORITY, &u64));
    assert_false(kg_stun_get_u32(&m, KG_STUN_LIFETIME, &u32));
}

static void test_error_codes(void **state)
{
    (void)state;
    static const int codes[] = {300, 400, 401, 403, 420, 438, 487, 500, 699};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        uint8_t buf[200];
        struct kg_stun_writer w;
        struct kg_stun_message m;
        const char *reason;
        size_t len;
        int code;
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_ERROR, KG_STUN_ALLOCATE, some_id);
        kg_stun_put_error(&w, codes[i], "Role Conflict");
        parse(buf, kg_stun_end(&w), &m);
        assert_int_equal(m.class, KG_STUN_ERROR);
        assert_int_equal(m.method, KG_STUN_ALLOCATE);
        assert_true(kg_stun_get_error(&m, &code, &reason, &len));
        assert_int_equal(code, codes[i]);
        assert_int_equal(len, 13);
        assert_memory_equal(reason, "Role Conflict", 13);
    }
}

static void test_addresses_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {"0.0.0.0:0", "255.255.255.255:65535", "[::]:1", "[2001:db8::9]:65535",
                                        "[fe80::1]:3478"};
    static const uint16_t types[] = {KG_STUN_MAPPED_ADDRESS, KG_STUN_XOR_MAPPED_ADDRESS,
                                     KG_STUN_XOR_PEER_ADDRESS, KG_STUN_XOR_RELAYED_ADDRESS,
                                     KG_STUN_ALTERNATE_SERVER};
    for (size_t i = 0; i < 5; i++) {
        uint8_t buf[200];
        struct kg_stun_writer w;
        struct kg_stun_message m;
        struct kg_addr in, out;
        assert_int_equal(kg_addr_parse(texts[i], &in), 0);
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_INDICATION, KG_STUN_DATA, some_id);
        for (size_t t = 0; t < 5; t++)
            kg_stun_put_address(&w, types[t], &in);
        parse(buf, kg_stun_end(&w), &m);
        for (size_t t = 0; t < 5; t++) {
            assert_true(kg_stun_get_address(&m, types[t], &out));
            assert_true(kg_addr_equal(&in, &out));
        }
    }
}

/* Every class and method survives the way its bits are mixed (RFC 8489 5). */
static void test_types(void **state)
{
    (void)state;
    for (uint16_t method = 0; method < 0x1000; method++) {
        for (unsigned class = 0; class < 4; class ++) {
            uint8_t buf[KG_STUN_HEADER];
            struct kg_stun_writer w;
            struct kg_stun_message m;
            kg_stun_begin(&w, buf, sizeof buf, (enum kg_stun_class) class, method, some_id);
            parse(buf, kg_stun_end(&w), &m);
            assert_int_equal(m.method, method);
            assert_int_equal(m.class, class);
            assert_memory_equal(m.id, some_id, KG_STUN_ID);
        }
    }
}

/* ---- RFC 8489 6.2.1 ---- */

static void test_retransmissions_of_6_2_1(void **state)
{
    (void)state;
    static const int64_t at[] = {0, 500, 1500, 3500, 7500, 15500, 31500};
    struct kg_stun_transaction t;
    int64_t now = 1000;
    kg_stun_transaction_start(&t, some_id, 500, 0, 0, now);
    for (size_t i = 0; i < 7; i++) {
        if (i > 0)
            assert_int_equal(kg_stun_transaction_due(&t, 1000 + at[i] - 1), KG_STUN_WAIT);
        assert_int_equal(kg_stun_transaction_due(&t, 1000 + at[i]), KG_STUN_SEND_AGAIN);
        kg_stun_transaction_sent(&t, 1000 + at[i]);
        assert_int_equal(t.sent_ms, 1000 + at[i]);
    }
    assert_int_equal(t.started_ms, 1000);
    assert_int_equal(kg_stun_transaction_due(&t, 1000 + 39499), KG_STUN_WAIT);
    assert_int_equal(kg_stun_transaction_due(&t, 1000 + 39500), KG_STUN_TIMED_OUT);
    t.next_ms = INT64_MAX;
    assert_int_equal(kg_stun_transaction_due(&t, INT64_MAX), KG_STUN_WAIT);
}

static void test_a_transaction_of_one_request(void **state)
{
    (void)state;
    struct kg_stun_transaction t;
    kg_stun_transaction_start(&t, some_id, 100, 1, 5, 7);
    assert_int_equal(kg_stun_transaction_due(&t, 7), KG_STUN_SEND_AGAIN);
    kg_stun_transaction_sent(&t, 9);
    assert_int_equal(t.started_ms, 9);
    assert_int_equal(kg_stun_transaction_due(&t, 508), KG_STUN_WAIT);
    assert_int_equal(kg_stun_transaction_due(&t, 509), KG_STUN_TIMED_OUT);
    /* Absurd settings still give times. */
    kg_stun_transaction_start(&t, some_id, UINT32_MAX, UINT8_MAX, UINT8_MAX, 0);
    for (int i = 0; i < 300; i++)
        kg_stun_transaction_sent(&t, 0);
    assert_true(t.next_ms > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc5769_2_1_request),
        cmocka_unit_test(test_rfc5769_2_2_and_2_3_responses),
        cmocka_unit_test(test_rfc5769_2_4_long_term),
        cmocka_unit_test(test_rfc8489_b_1_sha256),
        cmocka_unit_test(test_rfc5769_2_1_is_written),
        cmocka_unit_test(test_rfc5769_2_2_and_2_3_are_written),
        cmocka_unit_test(test_long_term_vectors_are_written),
        cmocka_unit_test(test_every_flipped_bit_is_noticed),
        cmocka_unit_test(test_wrong_keys),
        cmocka_unit_test(test_truncated_sha256),
        cmocka_unit_test(test_sha256_decides_where_both_are),
        cmocka_unit_test(test_attributes_behind_integrity_are_ignored),
        cmocka_unit_test(test_getters_refuse_other_shapes),
        cmocka_unit_test(test_error_codes),
        cmocka_unit_test(test_addresses_round_trip),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_retransmissions_of_6_2_1),
        cmocka_unit_test(test_a_transaction_of_one_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
