/* RTCP (RFC 3550 6.4, A.2): what is whole is read, what is not is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "media/rtcp.h"

/* SR with one report block, then SDES with a CNAME. */
static const uint8_t compound[] = {
    0x81, 200,  0,   12, 0, 0, 0,  1, 0xaa, 0xbb, 0x11, 0x22, 0x33, 0x44, 0xcc, 0xdd, 0,
    0,    0,    9,   0,  0, 0, 10, 0, 0,    6,    64,   0,    0,    0,    2,    0x40, 0xff,
    0xff, 0xfe, 0,   1,  0, 5, 0,  0, 0,    80,   0x12, 0x34, 0x56, 0x78, 0,    0,    0x80,
    0,    0x81, 202, 0,  3, 0, 0,  0, 1,    1,    4,    'a',  '@',  'b',  'c',  0,    0,
};

static void test_sender_report(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    assert_int_equal(kg_rtcp_parse(compound, sizeof compound, &rtcp), 0);
    assert_true(rtcp.starts_with_report);
    assert_true(rtcp.has_sr);
    assert_false(rtcp.has_bye);
    assert_int_equal(rtcp.sr_ssrc, 1);
    assert_int_equal(rtcp.sr_ntp_middle, 0x11223344);
    assert_int_equal(rtcp.reports, 1);
    assert_int_equal(rtcp.report[0].ssrc, 2);
    assert_int_equal(rtcp.report[0].fraction, 0x40);
    assert_int_equal(rtcp.report[0].lost, -2); /* duplicates */
    assert_int_equal(rtcp.report[0].highest, 0x00010005);
    assert_int_equal(rtcp.report[0].jitter, 80);
    assert_int_equal(rtcp.report[0].last_sr, 0x12345678);
    assert_int_equal(rtcp.report[0].since_sr, 0x8000);
}

/* AST-2017-008 */
static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    for (size_t len = 0; len < sizeof compound; len++)
        assert_int_equal(kg_rtcp_parse(compound, len, &rtcp), len == 52 ? 0 : EINVAL); /* 52: the SR alone */
}

static void test_count_beyond_length_is_refused(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    uint8_t copy[sizeof compound];
    for (unsigned count = 2; count < 32; count++) {
        memcpy(copy, compound, sizeof copy);
        copy[0] = (uint8_t)(0x80 | count);
        assert_int_equal(kg_rtcp_parse(copy, sizeof copy, &rtcp), EINVAL);
    }
    memcpy(copy, compound, sizeof copy);
    copy[52] = 0x83; /* three SDES chunks in two words */
    assert_int_equal(kg_rtcp_parse(copy, sizeof copy, &rtcp), EINVAL);
    static const uint8_t empty_rr[] = {0x80, 201, 0, 0};
    assert_int_equal(kg_rtcp_parse(empty_rr, sizeof empty_rr, &rtcp), EINVAL);
}

static void test_reduced_size_is_valid_but_no_report(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    static const uint8_t pli[] = {0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2};
    assert_int_equal(kg_rtcp_parse(pli, sizeof pli, &rtcp), 0);
    assert_false(rtcp.starts_with_report);
    static const uint8_t bye[] = {0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 203, 0, 1, 0, 0, 0, 1};
    assert_int_equal(kg_rtcp_parse(bye, sizeof bye, &rtcp), 0);
    assert_true(rtcp.has_bye);
}

static void test_padding_in_the_last_packet_only(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    uint8_t packet[] = {0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0x80, 201, 0, 1, 0, 0, 0, 1};
    assert_int_equal(kg_rtcp_parse(packet, 12, &rtcp), 0);
    assert_int_equal(kg_rtcp_parse(packet, sizeof packet, &rtcp), EINVAL);
    packet[11] = 0;
    assert_int_equal(kg_rtcp_parse(packet, 12, &rtcp), EINVAL);
    packet[11] = 3;
    assert_int_equal(kg_rtcp_parse(packet, 12, &rtcp), EINVAL);
    packet[11] = 8; /* eats the SSRC */
    assert_int_equal(kg_rtcp_parse(packet, 12, &rtcp), EINVAL);
}

static void test_wrong_version_or_type(void **state)
{
    (void)state;
    struct kg_rtcp rtcp;
    uint8_t rr[] = {0x80, 201, 0, 1, 0, 0, 0, 1};
    rr[0] = 0x40;
    assert_int_equal(kg_rtcp_parse(rr, sizeof rr, &rtcp), EINVAL);
    rr[0] = 0x80;
    for (unsigned type = 0; type < 256; type++) {
        rr[1] = (uint8_t)type;
        int want = type >= 192 && type <= 223 && type != 200 ? 0 : EINVAL;
        assert_int_equal(kg_rtcp_parse(rr, sizeof rr, &rtcp), want);
    }
}

/* RR, NACK, SDES, PLI with padding, in every selection and order of removal. */
static void test_feedback_is_taken_out(void **state)
{
    (void)state;
    static const uint8_t part[4][16] = {{0x80, 201, 0, 1, 0, 0, 0, 1},
                                        {0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2},
                                        {0x81, 202, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0},
                                        {0xa1, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4}};
    static const size_t size[4] = {8, 12, 12, 16};
    for (unsigned with = 1; with < 16; with++) {
        uint8_t packets[64], want[64];
        size_t len = 0, want_len = 0;
        for (unsigned i = 0; i < 4; i++) {
            if (!(with >> i & 1))
                continue;
            memcpy(packets + len, part[i], size[i]);
            len += size[i];
            if (i % 2 == 0 && with & 1) { /* without a report in front nothing is left */
                memcpy(want + want_len, part[i], size[i]);
                want_len += size[i];
            }
        }
        struct kg_rtcp rtcp;
        assert_int_equal(kg_rtcp_parse(packets, len, &rtcp), 0);
        assert_int_equal(kg_rtcp_without_feedback(packets, len), want_len);
        assert_memory_equal(packets, want, want_len);
    }
}

/* RFC 3611: extended reports, and types that nobody knows, are for the receiver to ignore. */
static void test_other_types_stay(void **state)
{
    (void)state;
    for (unsigned type = 192; type < 224; type++) {
        uint8_t packets[16] = {0x80, 201, 0, 1, 0, 0, 0, 1, 0x80, (uint8_t)type, 0, 1, 0, 0, 0, 1};
        size_t want = type == 205 || type == 206 ? 8 : 16;
        assert_int_equal(kg_rtcp_without_feedback(packets, sizeof packets), want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sender_report),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_count_beyond_length_is_refused),
        cmocka_unit_test(test_reduced_size_is_valid_but_no_report),
        cmocka_unit_test(test_padding_in_the_last_packet_only),
        cmocka_unit_test(test_wrong_version_or_type),
        cmocka_unit_test(test_feedback_is_taken_out),
        cmocka_unit_test(test_other_types_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
