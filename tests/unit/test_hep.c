/* conf/hep: packets byte by byte as the HEP3 specification has them; keys that do not leave kedge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sip/capture.h"
#include "conf/bytes.h"
#include "conf/hep.h"

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static void test_ipv4(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {
        'H', 'E', 'P', '3', 0, 110,                        /* all of it */
        0,   0,   0,   1,   0, 7,   2,                     /* IPv4 */
        0,   0,   0,   2,   0, 7,   17,                    /* UDP */
        0,   0,   0,   3,   0, 10,  192,  0,    2,   1,    /* source */
        0,   0,   0,   4,   0, 10,  198,  51,   100, 9,    /* destination */
        0,   0,   0,   7,   0, 8,   0x13, 0xc4,            /* 5060 */
        0,   0,   0,   8,   0, 8,   0x13, 0xc5,            /* 5061 */
        0,   0,   0,   9,   0, 10,  0,    0,    0,   3,    /* seconds */
        0,   0,   0,   10,  0, 10,  0,    0,    0,   7,    /* microseconds */
        0,   0,   0,   11,  0, 7,   1,                     /* SIP */
        0,   0,   0,   12,  0, 10,  0,    0,    7,   0xd1, /* 2001 */
        0,   0,   0,   17,  0, 8,   'i',  'd',             /* correlation */
        0,   0,   0,   15,  0, 9,   'S',  'I',  'P',
    };
    struct kg_hep_packet packet = {.kind = KG_HEP_SIP,
                                   .source = at("192.0.2.1:5060"),
                                   .destination = at("198.51.100.9:5061"),
                                   .wall_us = 3000007,
                                   .correlation = "id",
                                   .payload = "SIP",
                                   .len = 3};
    uint8_t out[1000];
    assert_int_equal(kg_hep_encode(&packet, 2001, out, sizeof out), sizeof wanted);
    assert_memory_equal(out, wanted, sizeof wanted);
}

static void test_ipv6_and_tcp(void **state)
{
    (void)state;
    struct kg_hep_packet packet = {.kind = KG_HEP_RTCP,
                                   .source = at("[2001:db8::1]:5060"),
                                   .destination = at("[2001:db8::2]:5060"),
                                   .tcp = true,
                                   .payload = "{}",
                                   .len = 2};
    uint8_t out[1000];
    size_t len = kg_hep_encode(&packet, 1, out, sizeof out);
    assert_int_equal(kg_read16(out + 4), len);
    assert_int_equal(out[12], 10); /* family */
    assert_int_equal(out[19], 6);  /* protocol */
    assert_int_equal(kg_read16(out + 22), 5);
    assert_int_equal(kg_read16(out + 24), 22);
    assert_int_equal(out[26], 0x20);
    assert_int_equal(kg_read16(out + 44), 6);
    assert_memory_equal(out + len - 2, "{}", 2);
}

static void test_what_does_not_fit_is_cut(void **state)
{
    (void)state;
    static char payload[70000], correlation[600];
    static uint8_t out[70000];
    memset(payload, 'p', sizeof payload);
    memset(correlation, 'c', sizeof correlation - 1);
    struct kg_hep_packet packet = {.kind = KG_HEP_SIP,
                                   .source = at("192.0.2.1:5060"),
                                   .destination = at("192.0.2.2:5060"),
                                   .correlation = correlation,
                                   .payload = payload,
                                   .len = sizeof payload};
    assert_int_equal(kg_hep_encode(&packet, 1, out, sizeof out), KG_HEP_MAX);
    assert_int_equal(kg_read16(out + 4), KG_HEP_MAX);
    assert_int_equal(kg_hep_encode(&packet, 1, out, KG_HEP_HEAD_MAX), KG_HEP_HEAD_MAX);
    assert_int_equal(kg_hep_encode(&packet, 1, out, KG_HEP_HEAD_MAX - 1), 0);
}

static void test_keys_are_overwritten(void **state)
{
    (void)state;
    char text[] =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^20|1:4\r\na=crypto:2 X inline:YWdhaW4=\r\nm=";
    kg_capture_hide_keys(text, strlen(text));
    assert_string_equal(
        text,
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:xxxxxxxx|2^20|1:4\r\na=crypto:2 X inline:xxxxxxxx\r\nm=");
    char capitals[] = "a=acap:1 crypto:1 X INLINE:c2Vj;Inline:YWdh\r\n";
    kg_capture_hide_keys(capitals, strlen(capitals));
    assert_string_equal(capitals, "a=acap:1 crypto:1 X INLINE:xxxxxxxxxxxxxxxx\r\n");
    char end[] = "inline:abc";
    kg_capture_hide_keys(end, 9); /* not beyond */
    assert_string_equal(end, "inline:xxc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6_and_tcp),
        cmocka_unit_test(test_what_does_not_fit_is_cut),
        cmocka_unit_test(test_keys_are_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
