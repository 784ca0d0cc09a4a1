/* STUN messages: the vectors of RFC 5769 and RFC 8489 B.1 exactly, both ways; what is broken is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "ice/stun/transaction.h"

/* RFC 5769 2.1 */
static const uint8_t request[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
};
/* RFC 5769 2.2 */
static const uint8_t response4[] = {
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9,
    0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
};
/* RFC 5769 2.3 */
static const uint8_t response6[] = {
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa,
    0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14,
    0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75,
    0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c,
};
/* RFC 5769 2.4 */
static const uint8_t long_term[] = {
    0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29,
    0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88, 0xe3, 0x83, 0xaa, 0xe3,
    0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00, 0x15, 0x00, 0x1c, 0x66, 0x2f, 0x2f,
    0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46,
    0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d, 0x70,
    0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x08, 0x00, 0x14, 0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6,
    0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2, 0x8c, 0xa8, 0x96, 0x66,
};
/* RFC 8489 B.1 with erratum 6268: length, nonce and PASSWORD-ALGORITHM as they must be. */
static const uint8_t sha256_request[] = {
    0x00, 0x01, 0x00, 0x90, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29,
    0xda, 0x41, 0x2e, 0x00, 0x1e, 0x00, 0x20, 0x4a, 0x3c, 0xf3, 0x8f, 0xef, 0x69, 0x92, 0xbd, 0xa9, 0x52,
    0xc6, 0x78, 0x04, 0x17, 0xda, 0x0f, 0x24, 0x81, 0x94, 0x15, 0x56, 0x9e, 0x60, 0xb2, 0x05, 0xc4, 0x6e,
    0x41, 0x40, 0x7f, 0x17, 0x04, 0x00, 0x15, 0x00, 0x29, 0x6f, 0x62, 0x4d, 0x61, 0x74, 0x4a, 0x6f, 0x73,
    0x32, 0x41, 0x41, 0x41, 0x43, 0x66, 0x2f, 0x2f, 0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36,
    0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46, 0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00,
    0x00, 0x00, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67,
    0x00, 0x00, 0x1d, 0x00, 0x04, 0x00, 0x02, 0x00, 0x00, 0x00, 0x1c, 0x00, 0x20, 0xb5, 0xc7, 0xbf, 0x00,
    0x5b, 0x6c, 0x52, 0xa2, 0x1c, 0x51, 0xc5, 0xe8, 0x92, 0xf8, 0x19, 0x24, 0x13, 0x62, 0x96, 0xcb, 0x92,
    0x7c, 0x43, 0x14, 0x93, 0x09, 0x27, 0x8c, 0xc6, 0x51, 0x8e, 0x65,
};

static const char pwd[] = "VOkJxbRl1RmTxUk/WvJxBt";
#define PWD pwd, sizeof pwd - 1
/* U+30DE U+30C8 U+30EA U+30C3 U+30AF U+30B9 */
static const char matrix[] = "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9";
static const uint8_t some_id[KG_STUN_ID] = "transaction"; /* and its NUL */

static void parse(const uint8_t *data, size_t len, struct kg_stun_message *message)
{
    assert_int_equal(kg_stun_parse(data, len, message), KG_STUN_OK);
}

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

/* ---- what is broken ---- */

static void test_behind_the_fingerprint_is_malformed(void **state)
{
    (void)state;
    uint8_t buf[200];
    struct kg_stun_writer w;
    struct kg_stun_message m;
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    kg_stun_put_fingerprint(&w);
    parse(buf, w.len, &m);
    /* The length in the header is part of what the fingerprint covers: one made for the longer message. */
    buf[3] = 16;
    uint32_t crc = kg_stun_fingerprint(buf, KG_STUN_HEADER);
    for (size_t i = 0; i < 4; i++)
        buf[24 + i] = (uint8_t)(crc >> (24 - 8 * i));
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1);
    assert_int_equal(kg_stun_end(&w), 36);
    assert_int_equal(kg_stun_parse(buf, 36, &m), KG_STUN_MALFORMED);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct kg_stun_message m;
    uint8_t copy[sizeof long_term];
    for (size_t len = 0; len < sizeof request; len++)
        assert_int_equal(kg_stun_parse(request, len, &m), KG_STUN_NOT_STUN);
    /* ... also where the header's length agrees: then an attribute is cut, or it is a shorter whole message.
     */
    for (size_t len = KG_STUN_HEADER; len < sizeof long_term; len += 4) {
        memcpy(copy, long_term, len);
        copy[3] = (uint8_t)(len - KG_STUN_HEADER);
        bool whole = len == 20 || len == 44 || len == 76 || len == 92;
        assert_int_equal(kg_stun_parse(copy, len, &m), whole ? KG_STUN_OK : KG_STUN_MALFORMED);
    }
}

/* CVE-2023-22741: a length that wraps when it is padded. */
static void test_attribute_lengths_near_64k(void **state)
{
    (void)state;
    struct kg_stun_message m;
    static uint8_t big[KG_STUN_HEADER + 0xFFFC];
    for (unsigned len = 0xFFEC; len <= 0xFFFF; len++) {
        for (uint16_t type = 0; type < 2; type++) {
            uint8_t data[] = {0,
                              1,
                              0,
                              8,
                              0x21,
                              0x12,
                              0xa4,
                              0x42,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0x80,
                              type == 0 ? 0x22 : 0xff,
                              (uint8_t)(len >> 8),
                              (uint8_t)len,
                              0,
                              0,
                              0,
                              0};
            assert_int_equal(kg_stun_parse(data, sizeof data, &m), KG_STUN_MALFORMED);
            data[2] = (uint8_t)(len >> 8); /* and the same length in the header */
            data[3] = (uint8_t)len;
            assert_int_equal(kg_stun_parse(data, sizeof data, &m), KG_STUN_NOT_STUN);
            memcpy(big, data, sizeof data);
            big[2] = 0xFF;
            big[3] = 0xFC;
            /* The longest message there can be: a value that leaves room for its own header fits. */
            bool fits = ((len + 3) & ~3u) <= 0xFFFC - 4;
            assert_int_equal(kg_stun_parse(big, sizeof big, &m),
                             fits && type == 1 ? KG_STUN_OK : KG_STUN_MALFORMED);
        }
    }
}

static void test_overruns(void **state)
{
    (void)state;
    struct kg_stun_message m;
    /* 8 bytes behind the header: an attribute of 0-4 bytes fits, everything else runs over the end. */
    for (unsigned len = 0; len < 300; len++) {
        uint8_t data[] = {0,
                          1,
                          0,
                          8,
                          0x21,
                          0x12,
                          0xa4,
                          0x42,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0xff,
                          0xff,
                          (uint8_t)(len >> 8),
                          (uint8_t)len,
                          0xff,
                          0xfe,
                          0,
                          0};
        assert_int_equal(kg_stun_parse(data, sizeof data, &m), len <= 4 ? KG_STUN_OK : KG_STUN_MALFORMED);
    }
    /* "Bad padding": the value ends within the message, its padding would not. */
    uint8_t data[] = {0, 1, 0, 5, 0x21, 0x12, 0xa4, 0x42, 0,    0, 0, 0,  0,
                      0, 0, 0, 0, 0,    0,    0,    0xff, 0xff, 0, 1, 'x'};
    assert_int_equal(kg_stun_parse(data, sizeof data, &m), KG_STUN_NOT_STUN);
}

static void test_attribute_count(void **state)
{
    (void)state;
    static uint8_t buf[KG_STUN_HEADER + 4 * 1001];
    struct kg_stun_message m;
    static const struct {
        size_t count;
        enum kg_stun_verdict verdict;
    } cases[] = {{0, KG_STUN_OK}, {64, KG_STUN_OK}, {65, KG_STUN_MALFORMED}, {1000, KG_STUN_MALFORMED}};
    for (size_t i = 0; i < 4; i++) {
        struct kg_stun_writer w;
        kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
        for (size_t n = 0; n < cases[i].count; n++)
            kg_stun_put(&w, (uint16_t)(0x7000 + n / 2), NULL, 0);
        assert_int_equal(kg_stun_parse(buf, kg_stun_end(&w), &m), cases[i].verdict);
    }
    /* The 64 are 32 unknown types, twice each. */
    struct kg_stun_writer w;
    uint16_t unknown[KG_STUN_ATTRIBUTES_MAX];
    kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
    for (size_t n = 0; n < 64; n++)
        kg_stun_put(&w, (uint16_t)(0x7000 + n / 2), NULL, 0);
    parse(buf, kg_stun_end(&w), &m);
    assert_int_equal(kg_stun_unknown(&m, unknown, KG_STUN_ATTRIBUTES_MAX), 32);
    assert_int_equal(kg_stun_unknown(&m, unknown, 3), 3);
    assert_int_equal(unknown[2], 0x7002);
}

static void test_every_first_byte_at_lengths_0_to_20(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        for (size_t len = 0; len <= 20; len++) {
            uint8_t data[20] = {(uint8_t)first, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
            struct kg_stun_message m;
            /* RFC 7983: 0-3 is STUN. What has two zero bits and the cookie is some STUN message. */
            assert_int_equal(kg_stun_parse(data, len, &m),
                             first < 64 && len == 20 ? KG_STUN_OK : KG_STUN_NOT_STUN);
            data[7] ^= 1;
            assert_int_equal(kg_stun_parse(data, len, &m), KG_STUN_NOT_STUN);
        }
    }
}

/* A known attribute of another length than its row of the table allows. */
static void test_lengths_by_the_table(void **state)
{
    (void)state;
    static const struct {
        uint16_t type, good, bad;
    } cases[] = {
        {KG_STUN_PRIORITY, 4, 3},
        {KG_STUN_USE_CANDIDATE, 0, 1},
        {KG_STUN_ICE_CONTROLLED, 8, 4},
        {KG_STUN_ICE_CONTROLLING, 8, 9},
        {KG_STUN_MESSAGE_INTEGRITY, 20, 19},
        {KG_STUN_XOR_MAPPED_ADDRESS, 20, 7},
        {KG_STUN_USERNAME, 513, 514},
        {KG_STUN_REALM, 763, 764},
        {KG_STUN_NONCE, 763, 764},
        {KG_STUN_SOFTWARE, 763, 764},
        {KG_STUN_USERHASH, 32, 31},
        {KG_STUN_ERROR_CODE, 4, 3},
        {KG_STUN_LIFETIME, 4, 5},
        {KG_STUN_EVEN_PORT, 1, 0},
        {KG_STUN_UNKNOWN_ATTRIBUTES, 2, 3},
        {KG_STUN_RESERVATION_TOKEN, 8, 7},
        {KG_STUN_ALTERNATE_DOMAIN, 255, 256},
    };
    static const uint8_t zero[800];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int bad = 0; bad < 2; bad++) {
            uint8_t buf[1000];
            struct kg_stun_writer w;
            struct kg_stun_message m;
            kg_stun_begin(&w, buf, sizeof buf, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
            kg_stun_put(&w, cases[i].type, zero, bad ? cases[i].bad : cases[i].good);
            assert_int_equal(kg_stun_parse(buf, kg_stun_end(&w), &m), bad ? KG_STUN_MALFORMED : KG_STUN_OK);
        }
    }
    assert_string_equal(kg_stun_attribute_name(KG_STUN_XOR_MAPPED_ADDRESS), "XOR-MAPPED-ADDRESS");
    assert_null(kg_stun_attribute_name(0x0000));
    assert_null(kg_stun_attribute_name(0x0046)); /* 0x0006 by its low bits */
    assert_null(kg_stun_attribute_name(0xC057));
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

static void test_a_full_buffer_is_told_and_not_passed(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof request; size++) {
        uint8_t buf[sizeof request + 1];
        struct kg_stun_writer w;
        memset(buf, 0xEE, sizeof buf);
        kg_stun_begin(&w, buf, size, KG_STUN_REQUEST, KG_STUN_BINDING, some_id);
        kg_stun_put(&w, KG_STUN_SOFTWARE, "STUN test client", 16);
        kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1);
        kg_stun_put_u64(&w, KG_STUN_ICE_CONTROLLED, 1);
        kg_stun_put(&w, KG_STUN_USERNAME, "evtj:h6vY", 9);
        kg_stun_put_integrity(&w, PWD);
        kg_stun_put_fingerprint(&w);
        assert_int_equal(kg_stun_end(&w), 0);
        for (size_t i = size; i < sizeof buf; i++)
            assert_int_equal(buf[i], 0xEE);
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
        cmocka_unit_test(test_behind_the_fingerprint_is_malformed),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_attribute_lengths_near_64k),
        cmocka_unit_test(test_overruns),
        cmocka_unit_test(test_attribute_count),
        cmocka_unit_test(test_every_first_byte_at_lengths_0_to_20),
        cmocka_unit_test(test_lengths_by_the_table),
        cmocka_unit_test(test_getters_refuse_other_shapes),
        cmocka_unit_test(test_error_codes),
        cmocka_unit_test(test_addresses_round_trip),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_a_full_buffer_is_told_and_not_passed),
        cmocka_unit_test(test_retransmissions_of_6_2_1),
        cmocka_unit_test(test_a_transaction_of_one_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
