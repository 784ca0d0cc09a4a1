/* b2bua/nat/assess: who is behind a NAT, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/nat/assess.h"

struct row {
    const char *name;
    enum kg_transport transport;
    const char *source, *via_host;
    uint16_t via_port;
    const char *contact_host;
    uint16_t contact_port;
    const char *sdp;
    bool behind_nat;
    const char *reasons; /* joined by "; " */
};

static const struct row rows[] = {
    {"a phone on the LAN", KG_UDP, "192.168.1.5:5060", "192.168.1.5", 5060, "192.168.1.5", 5060,
     "192.168.1.5", false, ""},
    {"default ports not written", KG_UDP, "192.168.1.5:5060", "192.168.1.5", 0, "192.168.1.5", 0, NULL, false,
     ""},
    {"behind a home NAT", KG_UDP, "203.0.113.9:31044", "192.168.1.5", 5060, "192.168.1.5", 5060,
     "192.168.1.5", true,
     "Contact says 192.168.1.5, packets come from 203.0.113.9; Via says 192.168.1.5, packets come from "
     "203.0.113.9; SDP says 192.168.1.5, packets come from 203.0.113.9"},
    {"NAT between two private networks", KG_UDP, "10.0.0.7:5060", "192.168.1.5", 5060, "192.168.1.5", 5060,
     NULL, true,
     "Contact says 192.168.1.5, packets come from 10.0.0.7; Via says 192.168.1.5, packets come from "
     "10.0.0.7"},
    {"names in Via and Contact", KG_UDP, "203.0.113.9:31044", "phone.lan", 5060, "phone.lan", 5060, NULL,
     false, ""},
    {"names, but SDP tells", KG_UDP, "203.0.113.9:31044", "phone.lan", 5060, "a.invalid", 0, "192.168.1.5",
     true, "SDP says 192.168.1.5, packets come from 203.0.113.9"},
    {"other port over UDP", KG_UDP, "192.168.1.5:62000", "192.168.1.5", 5060, "192.168.1.5", 5060, NULL, true,
     "Contact says port 5060, packets come from port 62000; Via says port 5060, packets come from port "
     "62000"},
    {"ephemeral port over TCP", KG_TCP, "192.168.1.5:62000", "192.168.1.5", 5060, "192.168.1.5", 5060, NULL,
     false, ""},
    {"ephemeral port over TLS", KG_TLS, "192.168.1.5:62000", "192.168.1.5", 0, "192.168.1.5", 0, NULL, false,
     ""},
    {"NAT before a TCP phone", KG_TCP, "203.0.113.9:62000", "10.1.1.1", 0, NULL, 0, NULL, true,
     "Via says 10.1.1.1, packets come from 203.0.113.9"},
    {"a PBX with its phone's Contact, one LAN", KG_UDP, "192.168.1.2:5060", "192.168.1.2", 5060,
     "192.168.1.77", 5060, "192.168.1.77", false,
     "Contact says 192.168.1.77, packets come from 192.168.1.2 (not taken for a NAT); SDP says 192.168.1.77, "
     "packets come from 192.168.1.2 (not taken for a NAT)"},
    {"a public media gateway beside its SIP", KG_UDP, "203.0.113.9:5060", "203.0.113.9", 5060, "203.0.113.9",
     5060, "203.0.113.10", false,
     "SDP says 203.0.113.10, packets come from 203.0.113.9 (not taken for a NAT)"},
    {"an ALG or STUN mended Contact and Via but not SDP", KG_UDP, "203.0.113.9:5060", "203.0.113.9", 5060,
     "203.0.113.9", 5060, "192.168.1.5", true, "SDP says 192.168.1.5, packets come from 203.0.113.9"},
    {"Contact mended by STUN, Via not", KG_UDP, "203.0.113.9:5062", "192.168.1.5", 5060, "203.0.113.9", 5062,
     NULL, true, "Via says 192.168.1.5, packets come from 203.0.113.9"},
    {"listens elsewhere than it sends from, Via right", KG_UDP, "192.168.1.5:5070", "192.168.1.5", 5070,
     "192.168.1.5", 5060, NULL, false,
     "Contact says port 5060, packets come from port 5070 (not taken for a NAT)"},
    {"IPv6 without NAT, in brackets", KG_UDP, "[2001:db8::5]:5060", "[2001:db8::5]", 5060, "[2001:db8::5]",
     5060, "2001:db8::5", false, ""},
    {"IPv6 in other letters", KG_UDP, "[2001:db8::a]:5060", "[2001:DB8:0:0::A]", 5060, "2001:db8::a", 5060,
     NULL, false, ""},
    {"NAT64 in between", KG_UDP, "203.0.113.9:5060", "[2001:db8::5]", 5060, "[2001:db8::5]", 5060, NULL, true,
     "Contact says 2001:db8::5, packets come from 203.0.113.9; Via says 2001:db8::5, packets come from "
     "203.0.113.9"},
    {"0.0.0.0 in SDP is hold, not an address", KG_UDP, "192.168.1.5:5060", "192.168.1.5", 5060, "192.168.1.5",
     5060, "0.0.0.0", false, ""},
    {"nothing to compare", KG_UDP, "203.0.113.9:5060", NULL, 0, "", 0, NULL, false, ""},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct kg_nat_seen seen = {.via_host = row->via_host,
                                   .via_port = row->via_port,
                                   .contact_host = row->contact_host,
                                   .contact_port = row->contact_port,
                                   .transport = row->transport};
        struct kg_nat_verdict verdict;
        char joined[700] = "";
        assert_int_equal(kg_addr_parse(row->source, &seen.source), 0);
        if (row->sdp)
            assert_int_equal(kg_addr_parse_host(row->sdp, 0, &seen.sdp), 0);
        memset(&verdict, 0xff, sizeof(verdict));
        kg_nat_assess(&seen, &verdict);
        for (unsigned j = 0; j < verdict.reason_count; j++) {
            size_t len = strlen(joined);
            snprintf(joined + len, sizeof(joined) - len, "%s%s", j ? "; " : "", verdict.reason[j]);
        }
        if (verdict.behind_nat != row->behind_nat || strcmp(joined, row->reasons) != 0)
            fail_msg("%s: %s, because %s", row->name, verdict.behind_nat ? "NAT" : "no NAT", joined);
    }
}

/* The longest words fit, and no source is no verdict. */
static void test_limits(void **state)
{
    (void)state;
    struct kg_nat_seen seen = {.via_host = "fd00:1111:2222:3333:4444:5555:6666:7777"};
    struct kg_nat_verdict verdict;
    kg_nat_assess(&seen, &verdict);
    assert_false(verdict.behind_nat);
    assert_int_equal(verdict.reason_count, 0);
    assert_int_equal(kg_addr_parse("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:5060", &seen.source), 0);
    seen.contact_host = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff";
    kg_nat_assess(&seen, &verdict);
    assert_string_equal(verdict.reason[0],
                        "Via says fd00:1111:2222:3333:4444:5555:6666:7777, packets come from "
                        "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests_name("nat", tests, NULL, NULL);
}
