/* STUN messages that are broken, at every place: refused, and never read or written beyond their end. */
#include "tests/unit/stun_vectors.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_the_fingerprint_is_malformed),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_attribute_lengths_near_64k),
        cmocka_unit_test(test_overruns),
        cmocka_unit_test(test_attribute_count),
        cmocka_unit_test(test_every_first_byte_at_lengths_0_to_20),
        cmocka_unit_test(test_lengths_by_the_table),
        cmocka_unit_test(test_a_full_buffer_is_told_and_not_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
