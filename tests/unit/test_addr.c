/* conf/addr: transport addresses as values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "conf/addr.h"

static struct kg_addr addr(const char *text)
{
    struct kg_addr out = {0};

    if (kg_addr_parse(text, &out) != 0)
        fail_msg("%s does not parse", text);
    return out;
}

static void parse_and_format(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"192.0.2.1:5060", "192.0.2.1:5060"},
        {"192.0.2.1", "192.0.2.1:0"},
        {"192.0.2.1:65535", "192.0.2.1:65535"},
        {"[2001:db8::1]:5061", "[2001:db8::1]:5061"},
        {"[2001:db8::1]", "[2001:db8::1]:0"},
        {"2001:DB8:0::1", "[2001:db8::1]:0"},
        {"::", "[::]:0"},
        {"[::]:5060", "[::]:5060"},
        {"[::ffff:192.0.2.1]:7", "192.0.2.1:7"}, /* unmapped */
        {"[fe80::1%3]:5060", "[fe80::1%3]:5060"},
    };
    char buf[KG_ADDR_STR];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_addr got = addr(rows[i].in);
        assert_string_equal(kg_addr_format(&got, buf), rows[i].out);
    }
}

static void refuses(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        ":5060",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2",
        "192.0.2.1.5:1",
        "192.0.2.256:1",
        "example.org:5060",
        "[192.0.2.1]:5060",
        "[::1",
        "[::1]5060",
        "[::1]:",
        "[]:5060",
        "[::1%eth0]:5060",
        "[::1%]:1",
        "192.0.2.1%1:5060",
        " 192.0.2.1:5060",
        "192.0.2.1:5060 ",
        "192.0.2.1:506012345678901234567890",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999",
    };
    struct kg_addr before = {0}, out;

    (void)state;
    before.in4.sin_family = AF_INET;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        out = before;
        if (kg_addr_parse(rows[i], &out) == 0)
            fail_msg("\"%s\" was accepted", rows[i]);
        assert_memory_equal(&out, &before, sizeof out); /* untouched */
    }
    assert_int_not_equal(kg_addr_parse_host("192.0.2.1:5060", 1, &out), 0);
    assert_int_not_equal(kg_addr_parse_host("[192.0.2.1]", 1, &out), 0);
}

static void hosts(void **state)
{
    struct kg_addr out;
    char buf[KG_ADDR_STR];

    (void)state;
    assert_int_equal(kg_addr_parse_host("2001:db8::1", 7000, &out), 0);
    assert_string_equal(kg_addr_format(&out, buf), "[2001:db8::1]:7000");
    assert_string_equal(kg_addr_format_host(&out, buf), "2001:db8::1");
    assert_int_equal(kg_addr_parse_host("[2001:db8::1]", 7000, &out), 0);
    assert_int_equal(kg_addr_port(&out), 7000);
    kg_addr_set_port(&out, 9);
    assert_int_equal(kg_addr_port(&out), 9);
    assert_int_equal(kg_addr_len(&out), sizeof(struct sockaddr_in6));
    out = addr("192.0.2.1:1");
    assert_int_equal(kg_addr_len(&out), sizeof(struct sockaddr_in));
}

static void none(void **state)
{
    struct kg_addr a = {0}, b = {0};
    struct sockaddr_storage unix_address = {.ss_family = AF_UNIX};
    char buf[KG_ADDR_STR];

    (void)state;
    assert_false(kg_addr_is_set(&a));
    assert_string_equal(kg_addr_format(&a, buf), "none");
    assert_int_equal(kg_addr_len(&a), 0);
    assert_true(kg_addr_equal(&a, &b));
    assert_false(kg_addr_same_host(&a, &b)); /* two unknown places are not the same place */
    assert_false(kg_addr_is_private(&a));
    assert_false(kg_addr_is_any(&a));
    assert_false(kg_addr_is_usable(&a));
    a = kg_addr_from_sockaddr((struct sockaddr *)&unix_address);
    assert_false(kg_addr_is_set(&a));
}

static void comparison(void **state)
{
    struct kg_addr a = addr("192.0.2.1:1"), b = addr("192.0.2.1:2"), c = addr("192.0.2.2:1");
    struct kg_addr six = addr("[2001:db8::1]:1"), mapped;
    struct sockaddr_in6 raw = {.sin6_family = AF_INET6, .sin6_port = htons(1)};

    (void)state;
    assert_true(kg_addr_same_host(&a, &b));
    assert_false(kg_addr_equal(&a, &b));
    assert_false(kg_addr_same_host(&a, &c));
    assert_false(kg_addr_equal(&a, &six));
    raw.sin6_addr.s6_addr[10] = raw.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&raw.sin6_addr.s6_addr[12], &a.in4.sin_addr, 4);
    mapped = kg_addr_from_sockaddr((struct sockaddr *)&raw);
    assert_true(kg_addr_equal(&a, &mapped));
}

enum { PRIVATE = 1, LOOPBACK = 2, MULTICAST = 4, ANY = 8, USABLE = 16 };

static void classes(void **state)
{
    static const struct {
        const char *text;
        int flags;
    } rows[] = {
        {"8.8.8.8:1", USABLE},
        {"8.8.8.8:0", 0},
        {"0.0.0.0:1", ANY},
        {"0.1.2.3:1", 0},
        {"[::]:1", ANY},
        {"127.0.0.1:1", PRIVATE | LOOPBACK | USABLE},
        {"127.255.0.1:1", PRIVATE | LOOPBACK | USABLE},
        {"[::1]:1", PRIVATE | LOOPBACK | USABLE},
        {"10.255.0.1:1", PRIVATE | USABLE},
        {"11.0.0.1:1", USABLE},
        {"172.15.255.255:1", USABLE},
        {"172.16.0.1:1", PRIVATE | USABLE},
        {"172.31.255.255:1", PRIVATE | USABLE},
        {"172.32.0.1:1", USABLE},
        {"192.168.1.1:1", PRIVATE | USABLE},
        {"192.169.1.1:1", USABLE},
        {"100.63.255.255:1", USABLE},
        {"100.64.0.1:1", PRIVATE | USABLE},
        {"100.127.255.255:1", PRIVATE | USABLE},
        {"100.128.0.1:1", USABLE},
        {"169.254.1.1:1", PRIVATE | USABLE},
        {"224.0.0.1:1", MULTICAST},
        {"239.255.255.255:1", MULTICAST},
        {"255.255.255.255:1", MULTICAST},
        {"[ff02::1]:1", MULTICAST},
        {"[fe80::1%2]:1", PRIVATE | USABLE},
        {"[febf::1]:1", PRIVATE | USABLE},
        {"[fec0::1]:1", USABLE},
        {"[fc00::1]:1", PRIVATE | USABLE},
        {"[fdff::1]:1", PRIVATE | USABLE},
        {"[2001:db8::1]:1", USABLE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_addr a = addr(rows[i].text);
        int flags = (kg_addr_is_private(&a) ? PRIVATE : 0) | (kg_addr_is_loopback(&a) ? LOOPBACK : 0) |
                    (kg_addr_is_multicast(&a) ? MULTICAST : 0) | (kg_addr_is_any(&a) ? ANY : 0) |
                    (kg_addr_is_usable(&a) ? USABLE : 0);
        if (flags != rows[i].flags)
            fail_msg("%s: %d instead of %d", rows[i].text, flags, rows[i].flags);
    }
}

static void local_for(void **state)
{
    struct kg_addr remote = addr("127.0.0.9:5060"), local;
    char buf[KG_ADDR_STR];

    (void)state;
    assert_int_equal(kg_addr_local_for(&remote, &local), 0);
    assert_string_equal(kg_addr_format(&local, buf), "127.0.0.1:0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_and_format),
        cmocka_unit_test(refuses),
        cmocka_unit_test(hosts),
        cmocka_unit_test(none),
        cmocka_unit_test(comparison),
        cmocka_unit_test(classes),
        cmocka_unit_test(local_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
