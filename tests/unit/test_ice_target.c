/* Whom an agent's checks may be sent to: the rule as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "ice/agent/target.h"

static struct kg_addr host(const char *text)
{
    struct kg_addr addr = {0};
    if (text[0] != '\0')
        assert_int_equal(kg_addr_parse_host(text, 5060, &addr), 0);
    return addr;
}

/* kedge is bound to 10.0.0.2 and told as 198.51.100.10; the PBX is 10.0.0.3, another of its hosts
 * 2001:db8::2. */
static const struct {
    const char *peer, *to;
    enum kg_ice_target target;
} table[] = {
    /* a phone on the Internet, seen at its NAT's address */
    {"203.0.113.5", "203.0.113.5", KG_TARGET_ALLOWED},
    {"203.0.113.5", "203.0.113.99", KG_TARGET_ALLOWED},
    {"203.0.113.5", "2001:db8:1::7", KG_TARGET_ALLOWED},
    {"203.0.113.5", "192.168.1.5", KG_TARGET_PRIVATE},
    {"203.0.113.5", "10.0.0.77", KG_TARGET_PRIVATE},
    {"203.0.113.5", "172.16.0.1", KG_TARGET_PRIVATE},
    {"203.0.113.5", "100.64.0.1", KG_TARGET_PRIVATE},
    {"203.0.113.5", "fd00::1", KG_TARGET_PRIVATE},
    {"203.0.113.5", "169.254.169.254", KG_TARGET_LINK_LOCAL},
    {"203.0.113.5", "fe80::1", KG_TARGET_LINK_LOCAL},
    {"203.0.113.5", "127.0.0.1", KG_TARGET_LOOPBACK},
    {"203.0.113.5", "127.1.2.3", KG_TARGET_LOOPBACK},
    {"203.0.113.5", "::1", KG_TARGET_LOOPBACK},
    /* ours and the PBX, wherever the phone is */
    {"203.0.113.5", "10.0.0.2", KG_TARGET_OURS},
    {"203.0.113.5", "198.51.100.10", KG_TARGET_OURS},
    {"203.0.113.5", "10.0.0.3", KG_TARGET_OURS},
    {"203.0.113.5", "2001:db8::2", KG_TARGET_OURS},
    {"10.0.0.9", "10.0.0.3", KG_TARGET_OURS},
    {"10.0.0.9", "10.0.0.2", KG_TARGET_OURS},
    {"10.0.0.3", "10.0.0.3", KG_TARGET_ALLOWED}, /* a phone on the PBX's own host */
    /* what stands for an IPv4 address counts as that */
    {"203.0.113.5", "64:ff9b::10.0.0.77", KG_TARGET_PRIVATE},
    {"203.0.113.5", "64:ff9b::127.0.0.1", KG_TARGET_LOOPBACK},
    {"203.0.113.5", "64:ff9b::10.0.0.3", KG_TARGET_OURS},
    {"203.0.113.5", "64:ff9b::203.0.113.99", KG_TARGET_ALLOWED},
    {"203.0.113.5", "2002:a00:4d::1", KG_TARGET_PRIVATE},
    {"203.0.113.5", "2002:7f00:1::1", KG_TARGET_LOOPBACK},
    {"203.0.113.5", "::10.0.0.77", KG_TARGET_PRIVATE},
    {"203.0.113.5", "::ffff:10.0.0.77", KG_TARGET_PRIVATE},
    /* a phone in the same network may have several addresses there, but not elsewhere */
    {"10.1.2.3", "10.1.2.4", KG_TARGET_ALLOWED},
    {"10.1.2.3", "192.168.1.5", KG_TARGET_PRIVATE},
    {"192.168.1.5", "192.168.1.6", KG_TARGET_ALLOWED},
    {"172.16.3.4", "172.31.0.1", KG_TARGET_ALLOWED},
    {"100.64.0.9", "100.127.0.1", KG_TARGET_ALLOWED},
    {"100.64.0.9", "10.0.0.77", KG_TARGET_PRIVATE},
    {"192.168.1.5", "fd00::5", KG_TARGET_ALLOWED},
    {"fd00::5", "192.168.1.5", KG_TARGET_ALLOWED},
    {"2001:db8:1::7", "192.168.1.5", KG_TARGET_PRIVATE},
    {"192.168.1.5", "169.254.1.1", KG_TARGET_LINK_LOCAL},
    {"169.254.1.2", "169.254.1.1", KG_TARGET_ALLOWED},
    {"192.168.1.5", "127.0.0.1", KG_TARGET_LOOPBACK},
    /* a phone on this machine, as in tests */
    {"127.0.0.1", "127.0.0.2", KG_TARGET_ALLOWED},
    {"127.0.0.1", "192.168.1.5", KG_TARGET_ALLOWED},
    {"127.0.0.1", "10.0.0.2", KG_TARGET_ALLOWED},
    /* nothing is known of the peer */
    {"", "127.0.0.1", KG_TARGET_ALLOWED},
};

static void test_table(void **state)
{
    (void)state;
    const struct kg_addr avoid[] = {{.sa = {.sa_family = AF_UNSPEC}}, host("10.0.0.3"), host("2001:db8::2")};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct kg_ice_targets targets = {.peer = host(table[i].peer),
                                         .ours = {host("10.0.0.2"), host("198.51.100.10")},
                                         .avoid = avoid,
                                         .avoid_count = 3};
        struct kg_addr to = host(table[i].to);
        enum kg_ice_target target = kg_ice_target(&targets, &to);
        if (target != table[i].target)
            print_error("a phone at %s names %s\n", table[i].peer, table[i].to);
        assert_int_equal(target, table[i].target);
    }
}

static void test_every_refusal_has_a_reason(void **state)
{
    (void)state;
    assert_null(kg_ice_target_reason(KG_TARGET_ALLOWED));
    for (int target = KG_TARGET_PRIVATE; target <= KG_TARGET_OURS; target++)
        assert_non_null(kg_ice_target_reason((enum kg_ice_target)target));
    assert_true(kg_ice_target_if_heard(KG_TARGET_PRIVATE));
    assert_true(kg_ice_target_if_heard(KG_TARGET_LINK_LOCAL));
    assert_false(kg_ice_target_if_heard(KG_TARGET_LOOPBACK));
    assert_false(kg_ice_target_if_heard(KG_TARGET_OURS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_refusal_has_a_reason),
    };
    return cmocka_run_group_tests_name("ice target", tests, NULL, NULL);
}
