/* b2bua/registrar/bindings and the pure parts of request: RFC 3261 10, RFC 5626 6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/registrar/bindings.h"
#include "b2bua/registrar/request.h"

static struct kg_flow udp(const char *remote)
{
    struct kg_flow flow = {.transport = KG_UDP};

    assert_int_equal(kg_addr_parse(remote, &flow.remote), 0);
    assert_int_equal(kg_addr_parse("192.0.2.1:5060", &flow.local), 0);
    return flow;
}

static struct kg_contact contact(const char *uri, const struct kg_flow *flow)
{
    static char keys[8][256];
    static unsigned next;
    char copy[256];
    char *key = keys[next++ % 8];
    struct kg_addr host;
    url_t url;

    snprintf(copy, sizeof copy, "%s", uri);
    assert_int_equal(url_d(&url, copy), 0);
    assert_int_equal(kg_contact_key(&url, key, 256), 0);
    return (struct kg_contact){.user = "alice",
                               .uri = uri,
                               .key = key,
                               .private_host = kg_addr_parse_host(url.url_host, 0, &host) == 0 &&
                                               kg_addr_is_private(&host),
                               .instance = "",
                               .call_id = "a@phone",
                               .cseq = 1,
                               .user_agent = "test",
                               .path = "",
                               .flow = flow};
}

static void same_uri_is_the_same_contact(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow flow = udp("198.51.100.7:5060"), moved = udp("203.0.113.9:4000");
    struct kg_contact c = contact("sip:alice@198.51.100.7:5060", &flow), again, other;
    struct kg_binding *b = kg_bindings_put(table, NULL, "t1", &c, 1000);

    (void)state;
    assert_non_null(b);
    again =
        contact("SIP:alice@198.51.100.7:5060;ob", &moved); /* 19.1.4: an unknown parameter does not count */
    again.call_id = "rebooted@phone";
    assert_ptr_equal(kg_bindings_find(table, &again), b);
    other = contact("sip:alice@198.51.100.7:5062", &flow);
    assert_null(kg_bindings_find(table, &other));
    other = contact("sip:alice@198.51.100.7:5060;transport=tcp", &flow);
    assert_null(kg_bindings_find(table, &other));
    other = c;
    other.user = "bob";
    assert_null(kg_bindings_find(table, &other));

    /* It registers from a new place: the flow is replaced, by_flow follows. */
    assert_ptr_equal(kg_bindings_put(table, b, "t1", &again, 2000), b);
    assert_ptr_equal(kg_bindings_on_flow(table, &moved), b);
    assert_null(kg_bindings_on_flow(table, &flow));
    assert_int_equal(kg_bindings_count(table), 1);
    kg_bindings_free(table);
}

static void private_uris_of_two_homes_keep_apart(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow home = udp("198.51.100.7:1024"), office = udp("203.0.113.9:1024"),
                   rebound = udp("198.51.100.7:2048"), elsewhere = udp("203.0.113.77:1024");
    struct kg_contact at_home = contact("sip:alice@192.168.1.10:5060", &home);
    struct kg_contact at_office = contact("sip:alice@192.168.1.10:5060", &office), later = at_home;
    struct kg_binding *b = kg_bindings_put(table, NULL, "t1", &at_home, 1000);

    (void)state;
    at_office.call_id = "b@phone";
    assert_null(kg_bindings_find(table, &at_office));
    assert_non_null(kg_bindings_put(table, NULL, "t2", &at_office, 1000));
    /* The NAT gave another port, the phone restarted: still the phone at home. */
    later.flow = &rebound;
    later.call_id = "c@phone";
    assert_ptr_equal(kg_bindings_find(table, &later), b);
    /* The same row of REGISTERs from another network: it moved. */
    later.flow = &elsewhere;
    assert_null(kg_bindings_find(table, &later));
    later.call_id = "a@phone";
    assert_ptr_equal(kg_bindings_find(table, &later), b);
    kg_bindings_free(table);
}

static void rfc5626_instance_replaces(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow flow = udp("198.51.100.7:1024");
    struct kg_contact first = contact("sip:alice@198.51.100.7:1024", &flow), second, third;
    struct kg_binding *b;

    (void)state;
    first.instance = "<urn:uuid:1>";
    first.reg_id = 1;
    b = kg_bindings_put(table, NULL, "t1", &first, 1000);
    second = contact("sip:alice@198.51.100.7:9999", &flow);
    second.instance = "<urn:uuid:1>";
    second.reg_id = 1;
    assert_ptr_equal(kg_bindings_find(table, &second), b);
    third = second;
    third.reg_id = 2;
    assert_null(kg_bindings_find(table, &third));
    third.reg_id = 1;
    third.instance = "<urn:uuid:2>";
    assert_null(kg_bindings_find(table, &third));
    assert_ptr_equal(kg_bindings_put(table, b, "t1", &second, 1000), b);
    assert_string_equal(b->uri, "sip:alice@198.51.100.7:9999");
    kg_bindings_free(table);
}

/* RFC 5626 5.3: flows of one phone are found under one name, the newest first. */
static void rfc5626_flows_of_one_device(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow one = udp("198.51.100.7:5060"), two = udp("203.0.113.9:4000");
    struct kg_contact c = contact("sip:alice@198.51.100.7:5060", &one);
    struct kg_binding *first, *second;

    (void)state;
    c.instance = "<urn:uuid:1>";
    c.reg_id = 1;
    c.device = "phone";
    first = kg_bindings_put(table, NULL, "t1", &c, 1000);
    c.reg_id = 2;
    c.flow = &two;
    assert_null(kg_bindings_find(table, &c));
    second = kg_bindings_put(table, NULL, "t2", &c, 1000);
    assert_ptr_equal(kg_bindings_of_device(table, "phone"), second);
    assert_ptr_equal(second->device_next, first);
    assert_null(kg_bindings_of_device(table, "t1"));
    kg_bindings_remove(table, second);
    assert_ptr_equal(kg_bindings_of_device(table, "phone"), first);
    kg_bindings_remove(table, first);
    assert_null(kg_bindings_of_device(table, "phone"));
    c.device = NULL;
    first = kg_bindings_put(table, NULL, "t3", &c, 1000);
    assert_ptr_equal(kg_bindings_of_device(table, "t3"), first);
    kg_bindings_free(table);
}

static void most_recent_first(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow flow = udp("198.51.100.7:1024");
    struct kg_contact one = contact("sip:alice@198.51.100.7:1", &flow),
                      two = contact("sip:alice@198.51.100.7:2", &flow);
    struct kg_binding *a = kg_bindings_put(table, NULL, "t1", &one, 1000);
    struct kg_binding *b = kg_bindings_put(table, NULL, "t2", &two, 1000);

    (void)state;
    assert_ptr_equal(kg_bindings_of_user(table, "alice"), b);
    assert_ptr_equal(b->user_next, a);
    kg_bindings_put(table, a, "t1", &one, 1000);
    assert_ptr_equal(kg_bindings_of_user(table, "alice"), a);
    assert_int_equal(kg_bindings_count_of_user(table, "alice"), 2);
    assert_null(kg_bindings_of_user(table, "bob"));
    /* Two contacts on one flow: both are found by it. */
    assert_non_null(kg_bindings_on_flow(table, &flow)->flow_next);
    kg_bindings_remove(table, a);
    assert_ptr_equal(kg_bindings_on_flow(table, &flow), b);
    assert_null(kg_bindings_by_token(table, "t1"));
    assert_ptr_equal(kg_bindings_by_token(table, "t2"), b);
    kg_bindings_remove(table, b);
    assert_int_equal(kg_bindings_count_of_user(table, "alice"), 0);
    kg_bindings_free(table);
}

/* The heap against a plain search, over many moves. */
static void due_in_order(void **state)
{
    enum { N = 300 };
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow flow = udp("198.51.100.7:1024");
    struct kg_binding *all[N];
    unsigned seed = 7;
    int64_t last = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        char uri[64], token[16];
        struct kg_contact c;

        snprintf(uri, sizeof uri, "sip:alice@198.51.100.7:%d", i + 1);
        snprintf(token, sizeof token, "t%d", i);
        c = contact(uri, &flow);
        all[i] = kg_bindings_put(table, NULL, token, &c, 1 + rand_r(&seed) % 10000);
        if (i % 3 == 0) {
            all[i]->keepalive_ms = 1 + rand_r(&seed) % 10000;
            kg_bindings_moved(table, all[i]);
        }
    }
    for (int i = 0; i < N; i += 7) {
        kg_bindings_remove(table, all[i]);
        all[i] = NULL;
    }
    assert_null(kg_bindings_due(table, 0));
    for (size_t left = kg_bindings_count(table); left > 0; left--) {
        struct kg_binding *b = kg_bindings_due(table, INT64_MAX - 1);
        int64_t due = b->keepalive_ms < b->expires_ms ? b->keepalive_ms : b->expires_ms;

        assert_true(due >= last);
        assert_null(kg_bindings_due(table, due - 1));
        last = due;
        kg_bindings_remove(table, b);
    }
    assert_null(kg_bindings_due(table, INT64_MAX - 1));
    kg_bindings_free(table);
}

/* A contact from before a restart, over a stream that is gone, is on no flow; nobody's request is taken for
 * its. */
static void lost_stream_is_on_no_flow(void **state)
{
    struct kg_bindings *table = kg_bindings_new();
    struct kg_flow flow = udp("198.51.100.7:1024");
    struct kg_contact c = contact("sip:alice@198.51.100.7:1", &flow);

    (void)state;
    flow.transport = KG_TCP;
    assert_non_null(kg_bindings_put(table, NULL, "t1", &c, 1000));
    assert_null(kg_bindings_on_flow(table, &flow));
    assert_null(kg_bindings_on_stream(table, NULL));
    kg_bindings_free(table);
}

static void rfc3261_10_3_grants(void **state)
{
    (void)state;
    assert_int_equal(kg_register_grant(40, 120, 12345), 40); /* a smaller wish is kept */
    assert_int_equal(kg_register_grant(120, 120, 12345), 120);
    assert_int_equal(kg_register_grant(0, 120, 12345), 0);
    for (uint32_t chance = 0; chance < 100; chance++) {
        uint32_t granted = kg_register_grant(3600, 120, chance);

        assert_in_range(granted, 108, 120);
        assert_in_range(kg_register_grant(-1, 600, chance), 540, 600);
        assert_int_equal(kg_register_grant(-1, 10, chance), 10);
    }
    assert_int_not_equal(kg_register_grant(3600, 120, 1), kg_register_grant(3600, 120, 2));
}

/* 10,000 phones that started in one second, each coming back after nine tenths of what it was granted: within
 * minutes they no longer come together. */
static void grants_dissolve_a_herd(void **state)
{
    static uint32_t next[10000], second[2000];
    unsigned random = 1, fullest = 0;

    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        while (next[i] < 1200) {
            random = random * 1103515245u + 12345u;
            next[i] += kg_register_grant(3600, 120, random >> 8) * 9 / 10;
            second[next[i]]++;
        }
    }
    for (unsigned t = 900; t < 1200; t++)
        fullest = second[t] > fullest ? second[t] : fullest;
    assert_in_range(fullest, 10000 / 120, 10000 / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_uri_is_the_same_contact),
        cmocka_unit_test(private_uris_of_two_homes_keep_apart),
        cmocka_unit_test(rfc5626_instance_replaces),
        cmocka_unit_test(rfc5626_flows_of_one_device),
        cmocka_unit_test(most_recent_first),
        cmocka_unit_test(due_in_order),
        cmocka_unit_test(lost_stream_is_on_no_flow),
        cmocka_unit_test(rfc3261_10_3_grants),
        cmocka_unit_test(grants_dissolve_a_herd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
