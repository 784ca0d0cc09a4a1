/* Which networks become candidates, and in which order (RFC 8421, RFC 8445 5.1.1.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ice/agent/network.h"

static struct kg_network net(const char *name, const char *addr)
{
    struct kg_network network = {.up = true};
    assert_int_equal(kg_addr_parse(addr, &network.addr), 0);
    snprintf(network.name, sizeof network.name, "%s", name);
    return network;
}

static void test_useful(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"eth0", "192.0.2.1"},   {"enp3s0", "10.0.0.5"},   {"wlan0", "192.168.1.20"}, {"eth0", "100.64.3.4"},
        {"eth0", "2001:db8::1"}, {"eth0", "fd00:1234::1"}, {"br-lan", "192.168.1.1"}, {"br0", "192.168.1.1"},
        {"eth0", "2001:470::1"}, {"bond0", "172.17.0.1"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_network network = net(rows[i][0], rows[i][1]);
        assert_null(kg_network_useless(&network));
    }
    struct kg_network dsl = net("ppp0", "203.0.113.9");
    dsl.point_to_point = true;
    assert_null(kg_network_useless(&dsl));
}

static void test_useless(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"docker0", "172.17.0.1", "Docker"},
        {"br-0123456789ab", "172.18.0.1", "Docker"},
        {"veth12ab", "172.18.0.2", "container"},
        {"virbr0", "192.168.122.1", "virtual"},
        {"tun0", "10.8.0.2", "VPN"},
        {"wg0", "10.9.0.2", "VPN"},
        {"tailscale0", "100.101.102.103", "VPN"},
        {"lo", "127.0.0.1", "loopback"},
        {"lo", "::1", "loopback"},
        {"eth0", "169.254.3.4", "link-local"},
        {"eth0", "fe80::1", "link-local"},
        {"eth0", "febf::1", "link-local"},
        {"eth0", "fec0::1", "site-local"},
        {"eth0", "2002:c000:201::1", "6to4"},
        {"eth0", "2001:0:1234::1", "Teredo"},
        {"eth0", "2001:2f::1", "ORCHID"},
        {"eth0", "::192.0.2.1", "IPv4-compatible"},
        {"eth0", "192.0.0.2", "DS-Lite"},
        {"eth0", "0.0.0.0", "not an address"},
        {"eth0", "239.1.2.3", "multicast"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_network network = net(rows[i][0], rows[i][1]);
        const char *reason = kg_network_useless(&network);
        if (reason == NULL || strstr(reason, rows[i][2]) == NULL)
            fail_msg("%s %s: %s", rows[i][0], rows[i][1], reason != NULL ? reason : "useful");
    }
    struct kg_network down = net("eth0", "192.0.2.1");
    down.up = false;
    assert_non_null(strstr(kg_network_useless(&down), "down"));
    struct kg_network tunnel = net("corp", "10.1.1.1");
    tunnel.point_to_point = true;
    assert_non_null(strstr(kg_network_useless(&tunnel), "tunnel"));
}

static void assert_order(const char *const *addr, size_t count, const char *expected)
{
    struct kg_network network[8] = {0};
    uint16_t preference[8];
    char order[16] = "";

    for (size_t i = 0; i < count; i++)
        network[i] = net("eth0", addr[i]);
    kg_network_preferences(network, count, preference);
    for (uint32_t want = 65535, n = 0; n < count; want--, n++)
        for (size_t i = 0; i < count; i++)
            if (preference[i] == want) {
                order[n] = (char)('0' + i);
                order[n + 1] = '\0';
            }
    assert_string_equal(order, expected);
}

static void test_rfc8421_4_families_are_interleaved(void **state)
{
    (void)state;
    assert_order((const char *const[]){"192.0.2.1"}, 1, "0");
    assert_order((const char *const[]){"192.0.2.1", "2001:db8::1"}, 2, "10");
    assert_order((const char *const[]){"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"}, 4, "2031");
    assert_order((const char *const[]){"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"}, 4, "0123");
    assert_order((const char *const[]){"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}, 4, "3012");
    /* Useless ones come last. */
    assert_order((const char *const[]){"fe80::1", "127.0.0.1", "192.0.2.1", "2001:db8::1"}, 4, "3201");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_useful),
        cmocka_unit_test(test_useless),
        cmocka_unit_test(test_rfc8421_4_families_are_interleaved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
