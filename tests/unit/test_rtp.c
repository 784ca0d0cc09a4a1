/* RTP headers (RFC 3550 5.1) and telling protocols apart (RFC 7983, RFC 5761). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "media/demux.h"
#include "media/rtp.h"

static void test_plain_header(void **state)
{
    (void)state;
    static const uint8_t packet[] = {0x80, 0xe5, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, 0xaa, 0xbb};
    struct kg_rtp rtp;
    assert_int_equal(kg_rtp_parse(packet, sizeof packet, &rtp), 0);
    assert_true(rtp.marker);
    assert_int_equal(rtp.payload_type, 101);
    assert_int_equal(rtp.sequence, 0x1234);
    assert_int_equal(rtp.timestamp, 0x01020304);
    assert_int_equal(rtp.ssrc, 0x05060708);
    assert_int_equal(rtp.header_len, 12);
}

static void test_csrc_and_extension(void **state)
{
    (void)state;
    /* padded; two CSRCs, one word of extension, three bytes of payload and what may be an SRTP tag */
    uint8_t packet[12 + 8 + 8 + 4] = {0xb2};
    packet[12 + 8 + 3] = 1;
    struct kg_rtp rtp;
    assert_int_equal(kg_rtp_parse(packet, sizeof packet, &rtp), 0);
    assert_int_equal(rtp.header_len, 28);
    for (size_t len = 0; len < 28; len++)
        assert_int_equal(kg_rtp_parse(packet, len, &rtp), EINVAL);
    for (unsigned last = 0; last < 256; last++) {
        packet[sizeof packet - 1] = (uint8_t)last;
        assert_int_equal(kg_rtp_parse(packet, sizeof packet, &rtp), 0);
    }
    packet[12 + 8 + 2] = 0xff; /* extension longer than the packet */
    assert_int_equal(kg_rtp_parse(packet, sizeof packet, &rtp), EINVAL);
}

static void test_lengths_that_hold_only_part_of_a_header(void **state)
{
    (void)state;
    struct kg_rtp rtp = {.ssrc = 42};
    uint8_t packet[16] = {0x80};
    for (size_t len = 0; len < 12; len++)
        assert_int_equal(kg_rtp_parse(packet, len, &rtp), EINVAL);
    assert_int_equal(kg_rtp_parse(packet, 12, &rtp), 0);
    packet[0] = 0x81;
    assert_int_equal(kg_rtp_parse(packet, 15, &rtp), EINVAL);
    packet[0] = 0x90;
    assert_int_equal(kg_rtp_parse(packet, 15, &rtp), EINVAL);
    for (unsigned version = 0; version < 4; version++) {
        packet[0] = (uint8_t)(version << 6);
        assert_int_equal(kg_rtp_parse(packet, 12, &rtp), version == 2 ? 0 : EINVAL);
    }
}

static void test_first_byte_decides(void **state)
{
    (void)state;
    uint8_t packet[2] = {0};
    assert_int_equal(kg_demux(packet, 0), KG_PACKET_OTHER);
    for (unsigned first = 0; first < 256; first++) {
        packet[0] = (uint8_t)first;
        enum kg_packet_kind want = first <= 3                    ? KG_PACKET_STUN
                                   : first >= 16 && first <= 19  ? KG_PACKET_ZRTP
                                   : first >= 20 && first <= 63  ? KG_PACKET_DTLS
                                   : first >= 64 && first <= 79  ? KG_PACKET_TURN_CHANNEL
                                   : first >= 128 && first < 192 ? KG_PACKET_RTP
                                                                 : KG_PACKET_OTHER;
        assert_int_equal(kg_demux(packet, 2), want);
        assert_int_equal(kg_demux(packet, 1), want);
    }
}

static void test_rtcp_types(void **state)
{
    (void)state;
    for (unsigned second = 0; second < 256; second++) {
        uint8_t packet[2] = {0x80, (uint8_t)second};
        assert_int_equal(kg_demux(packet, 2),
                         second >= 192 && second <= 223 ? KG_PACKET_RTCP : KG_PACKET_RTP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_header),
        cmocka_unit_test(test_csrc_and_extension),
        cmocka_unit_test(test_lengths_that_hold_only_part_of_a_header),
        cmocka_unit_test(test_first_byte_decides),
        cmocka_unit_test(test_rtcp_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
