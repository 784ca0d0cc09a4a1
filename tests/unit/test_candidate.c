/* Candidates as values and as text (RFC 8445 5.1, RFC 8839 5.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ice/agent/candidate.h"

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static enum kg_candidate_verdict parse(const char *text, struct kg_candidate *out)
{
    return kg_candidate_parse(text, strlen(text), out);
}

static void test_rfc8445_5_1_2_priorities(void **state)
{
    (void)state;
    assert_int_equal(kg_candidate_priority(KG_CANDIDATE_HOST, 65535, 1), 2130706431);
    assert_int_equal(kg_candidate_priority(KG_CANDIDATE_HOST, 65535, 2), 2130706430);
    assert_int_equal(kg_candidate_priority(KG_CANDIDATE_SRFLX, 65535, 1), 1694498815);
    assert_int_equal(kg_candidate_priority(KG_CANDIDATE_PRFLX, 65535, 1), 1862270975);
    assert_int_equal(kg_candidate_priority(KG_CANDIDATE_RELAY, 65535, 1), 16777215);
    /* A higher number is better, and peer-reflexive ranks above server-reflexive. */
    assert_true(kg_candidate_priority(KG_CANDIDATE_PRFLX, 0, 2) >
                kg_candidate_priority(KG_CANDIDATE_SRFLX, 65535, 1));
}

static void test_rfc8445_6_1_2_3_pair_priority(void **state)
{
    (void)state;
    assert_true(kg_pair_priority(2, 1) == (1ull << 32) + 4 + 1);
    assert_true(kg_pair_priority(1, 2) == (1ull << 32) + 4);
    assert_true(kg_pair_priority(7, 7) == (7ull << 32) + 14);
    assert_true(kg_pair_priority(UINT32_MAX >> 1, UINT32_MAX >> 1) ==
                ((uint64_t)(UINT32_MAX >> 1) << 32) + 2 * (uint64_t)(UINT32_MAX >> 1));
}

static void test_rfc8445_5_1_1_3_foundations(void **state)
{
    (void)state;
    char one[KG_ICE_FOUNDATION_MAX + 1], two[KG_ICE_FOUNDATION_MAX + 1];
    struct kg_addr rtp = at("192.0.2.1:5000"), rtcp = at("192.0.2.1:5001"), other = at("192.0.2.2:5000"),
                   server = at("198.51.100.1:3478"), server2 = at("198.51.100.2:3478"), none = {0};

    kg_candidate_foundation(KG_CANDIDATE_HOST, &rtp, NULL, one);
    kg_candidate_foundation(KG_CANDIDATE_HOST, &rtcp, NULL, two);
    assert_string_equal(one, two);
    kg_candidate_foundation(KG_CANDIDATE_HOST, &rtcp, &none, two);
    assert_string_equal(one, two);
    kg_candidate_foundation(KG_CANDIDATE_HOST, &other, NULL, two);
    assert_string_not_equal(one, two);
    kg_candidate_foundation(KG_CANDIDATE_SRFLX, &rtp, &server, two);
    assert_string_not_equal(one, two);
    kg_candidate_foundation(KG_CANDIDATE_SRFLX, &rtp, &server2, one);
    assert_string_not_equal(one, two);
    kg_candidate_foundation(KG_CANDIDATE_RELAY, &rtp, &server2, two);
    assert_string_not_equal(one, two);
    assert_in_range(strlen(one), 1, KG_ICE_FOUNDATION_MAX);
}

static void test_rfc8839_5_4_credentials(void **state)
{
    (void)state;
    char longest[KG_ICE_CREDENTIAL_MAX + 1];

    memset(longest, 'a', sizeof longest);
    assert_true(kg_ice_is_ufrag("aB0+", 4));
    assert_false(kg_ice_is_ufrag("aB0", 3));
    assert_false(kg_ice_is_ufrag("aB0:", 4));
    assert_false(kg_ice_is_ufrag("aB0 ", 4));
    assert_true(kg_ice_is_ufrag(longest, KG_ICE_CREDENTIAL_MAX));
    assert_false(kg_ice_is_ufrag(longest, KG_ICE_CREDENTIAL_MAX + 1));
    assert_true(kg_ice_is_pwd("0123456789abcdefghij/+", 22));
    assert_false(kg_ice_is_pwd("0123456789abcdefghij/", 21));
    assert_false(kg_ice_is_pwd("0123456789abcdefghij\r\n", 22));
    assert_false(kg_ice_is_pwd(longest, KG_ICE_CREDENTIAL_MAX + 1));
}

static void test_rfc8839_5_1_lines_are_read_and_written(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "1 1 UDP 2130706431 192.0.2.1 5000 typ host",
        "1 2 UDP 2130706430 2001:db8::1 5001 typ host",
        "2 1 UDP 1694498815 198.51.100.7 40000 typ srflx raddr 10.0.1.1 rport 8998",
        "3 1 UDP 16777215 203.0.113.1 50000 typ relay raddr 198.51.100.7 rport 40000",
        "0123456789abcdef0123456789abcdef 1 UDP 1862270975 198.51.100.7 40000 typ prflx raddr ::1 rport 1",
        "4 1 UDP 1694498815 198.51.100.7 40000 typ srflx raddr 0.0.0.0 rport 9",
        "4 1 UDP 1694498815 2001:db8::7 40000 typ srflx raddr :: rport 9",
    };

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct kg_candidate candidate;
        char text[KG_CANDIDATE_STR];
        assert_int_equal(parse(lines[i], &candidate), KG_CANDIDATE_OK);
        assert_int_equal(kg_candidate_format(&candidate, text), strlen(lines[i]) + strlen("candidate:"));
        assert_string_equal(text + strlen("candidate:"), lines[i]);
    }
}

static void test_what_is_read(void **state)
{
    (void)state;
    struct kg_candidate candidate;
    struct kg_addr addr = at("198.51.100.7:40000"), related = at("10.0.1.1:8998");

    assert_int_equal(
        parse("2 2 udp 1694498814 198.51.100.7 40000 typ srflx raddr 10.0.1.1 rport 8998", &candidate),
        KG_CANDIDATE_OK);
    assert_int_equal(candidate.type, KG_CANDIDATE_SRFLX);
    assert_int_equal(candidate.component, 2);
    assert_int_equal(candidate.priority, 1694498814);
    assert_string_equal(candidate.foundation, "2");
    assert_true(kg_addr_equal(&candidate.addr, &addr));
    assert_true(kg_addr_equal(&candidate.related, &related));
}

static void test_tolerated(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "1 1 UDP 2130706431 192.0.2.1 5000 typ host generation 0 ufrag abcd network-id 1 network-cost 10",
        "1 1 UDP 2130706431 192.0.2.1 5000 typ host generation",
        "1  1 udp 2130706431 192.0.2.1 5000 typ host ",
        "Host-1_a.b 1 UDP 2130706431 192.0.2.1 5000 typ host",
        "1 1 UDP 1694498815 192.0.2.1 5000 typ srflx raddr f00.local rport 0",
        "1 1 UDP 1694498815 192.0.2.1 5000 typ srflx rport 99999 raddr 10.0.0.1",
        "1 1 UDP 1694498815 192.0.2.1 5000 typ srflx raddr 0.0.0.0 rport 9",
    };

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct kg_candidate candidate;
        assert_int_equal(parse(lines[i], &candidate), KG_CANDIDATE_OK);
        if (strstr(lines[i], "f00.local") != NULL || strstr(lines[i], "raddr 0.0.0.0") != NULL)
            assert_false(kg_addr_is_set(&candidate.related)); /* hidden */
    }
}

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum kg_candidate_verdict verdict;
    } rows[] = {
        {"", KG_CANDIDATE_BAD},
        {"1", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 192.0.2.1 5000 typ", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 192.0.2.1 5000 type host", KG_CANDIDATE_BAD},
        {"1 x UDP 2130706431 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 0 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 2147483648 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 99999999999 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP -1 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 192.0.2.1 65536 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 [::1] 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 fe80::1%2 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 UDP 2130706431 a;b 5000 typ host", KG_CANDIDATE_BAD},
        {"0123456789abcdef0123456789abcdefX 1 UDP 2130706431 192.0.2.1 5000 typ host", KG_CANDIDATE_BAD},
        {"1 1 TCP 2130706431 192.0.2.1 9 typ host tcptype active", KG_CANDIDATE_NOT_UDP},
        {"1 1 TLS 2130706431 192.0.2.1 9 typ host", KG_CANDIDATE_NOT_UDP},
        {"1 1 UDP 2130706431 2f3c9b1e-6f0a-4d0e-9d1f-0a1b2c3d4e5f.local 5000 typ host", KG_CANDIDATE_MDNS},
        {"1 1 UDP 2130706431 X.LOCAL 5000 typ host", KG_CANDIDATE_MDNS},
        {"1 1 UDP 2130706431 phone.example.org 5000 typ host", KG_CANDIDATE_NAME},
        {"1 1 UDP 2130706431 192.0.2.1 5000 typ magic", KG_CANDIDATE_UNKNOWN_TYPE},
        {"1 0 UDP 2130706431 192.0.2.1 5000 typ host", KG_CANDIDATE_COMPONENT},
        {"1 3 UDP 2130706431 192.0.2.1 5000 typ host", KG_CANDIDATE_COMPONENT},
        {"1 256 UDP 2130706431 192.0.2.1 5000 typ host", KG_CANDIDATE_COMPONENT},
        {"1 1 UDP 2130706431 0.0.0.0 5000 typ host", KG_CANDIDATE_UNUSABLE},
        {"1 1 UDP 2130706431 :: 5000 typ host", KG_CANDIDATE_UNUSABLE},
        {"1 1 UDP 2130706431 224.0.0.1 5000 typ host", KG_CANDIDATE_UNUSABLE},
        {"1 1 UDP 2130706431 192.0.2.1 0 typ host", KG_CANDIDATE_UNUSABLE},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_candidate candidate = {.priority = 42};
        enum kg_candidate_verdict verdict = parse(rows[i].line, &candidate);
        if (verdict != rows[i].verdict)
            fail_msg("\"%s\": %s", rows[i].line, kg_candidate_verdict_text(verdict));
        assert_int_equal(candidate.priority, 42); /* untouched */
        assert_true(strlen(kg_candidate_verdict_text(verdict)) > 3);
    }
}

static void test_length_is_respected(void **state)
{
    (void)state;
    static const char line[] = "1 1 UDP 2130706431 192.0.2.1 5000 typ host";
    struct kg_candidate candidate;

    /* Cut anywhere it is bad; only whole it is right. */
    for (size_t len = 0; len < sizeof line - 1; len++)
        assert_int_not_equal(kg_candidate_parse(line, len, &candidate), KG_CANDIDATE_OK);
    assert_int_equal(kg_candidate_parse(line, sizeof line - 1, &candidate), KG_CANDIDATE_OK);
}

static void test_longest_line_fits(void **state)
{
    (void)state;
    struct kg_candidate candidate = {
        .type = KG_CANDIDATE_RELAY,
        .component = 255,
        .priority = UINT32_MAX,
        .addr = at("[1111:2222:3333:4444:5555:6666:7777:8888]:65535"),
        .related = at("[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535"),
    };
    char text[KG_CANDIDATE_STR];

    memset(candidate.foundation, 'f', KG_ICE_FOUNDATION_MAX);
    size_t len = kg_candidate_format(&candidate, text);
    assert_int_equal(len, strlen(text));
    assert_in_range(len, 100, KG_CANDIDATE_STR - 1);
    assert_non_null(strstr(text, " typ relay raddr 1111:2222:3333:4444:5555:6666:7777:8888 rport 65535"));
    assert_null(strchr(text, '%')); /* zones mean nothing to others */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8445_5_1_2_priorities),
        cmocka_unit_test(test_rfc8445_6_1_2_3_pair_priority),
        cmocka_unit_test(test_rfc8445_5_1_1_3_foundations),
        cmocka_unit_test(test_rfc8839_5_4_credentials),
        cmocka_unit_test(test_rfc8839_5_1_lines_are_read_and_written),
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_tolerated),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_length_is_respected),
        cmocka_unit_test(test_longest_line_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
