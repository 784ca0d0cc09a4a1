/* route: from a configured server to addresses (RFC 3263, 2782), with hand-made records; DNS answers as
 * bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "b2bua/route/locate.h"

/* ---- a zone ---- */

/* "A pbx.example 192.0.2.1", "SRV _sip._udp.example 10 5 5060 pbx.example", "NAPTR example 10 50 s SIP+D2U
 * _sip._udp.example";
 * "? TYPE name": not known yet. */
struct zone {
    const char *const *line;
    struct kg_dns_answer answer; /* the last one given */
    char asked[1024];
};

static const char *type_name(enum kg_dns_type type)
{
    return type == KG_DNS_A ? "A" : type == KG_DNS_AAAA ? "AAAA" : type == KG_DNS_SRV ? "SRV" : "NAPTR";
}

static void add_record(struct kg_dns_answer *answer, const char *data)
{
    size_t n = answer->count++;
    unsigned a = 0, b = 0, c = 0;
    switch (answer->type) {
    case KG_DNS_A:
    case KG_DNS_AAAA:
        assert_int_equal(kg_addr_parse_host(data, 0, &answer->addr[n]), 0);
        break;
    case KG_DNS_SRV:
        assert_true(sscanf(data, "%u %u %u %255s", &a, &b, &c, answer->srv[n].target) >= 3);
        answer->srv[n].priority = (uint16_t)a;
        answer->srv[n].weight = (uint16_t)b;
        answer->srv[n].port = (uint16_t)c;
        break;
    case KG_DNS_NAPTR:
        assert_int_equal(sscanf(data, "%u %u %3s %15s %255s", &a, &b, answer->naptr[n].flags,
                                answer->naptr[n].service, answer->naptr[n].replacement),
                         5);
        answer->naptr[n].order = (uint16_t)a;
        answer->naptr[n].preference = (uint16_t)b;
        break;
    }
}

static const struct kg_dns_answer *ask(void *ctx, enum kg_dns_type type, const char *name)
{
    static struct kg_dns_answer kept[16]; /* a run holds several at once */
    static unsigned next;
    struct zone *zone = ctx;
    struct kg_dns_answer *answer = &kept[next++ % 16];
    char prefix[300], unknown[300];
    size_t used = strlen(zone->asked);

    memset(answer, 0, sizeof *answer);
    answer->type = type;
    snprintf(zone->asked + used, sizeof zone->asked - used, "%s %s;", type_name(type), name);
    snprintf(prefix, sizeof prefix, "%s %s ", type_name(type), name);
    snprintf(unknown, sizeof unknown, "? %s %s", type_name(type), name);
    for (size_t i = 0; zone->line[i] != NULL; i++) {
        if (strcmp(zone->line[i], unknown) == 0)
            return NULL;
        if (strncmp(zone->line[i], prefix, strlen(prefix)) == 0)
            add_record(answer, zone->line[i] + strlen(prefix));
    }
    return answer;
}

static const struct kg_reach everything = {.transport = {true, true, true}, .v4 = true, .v6 = true};
static const struct kg_reach only_v4 = {.transport = {true, true, true}, .v4 = true};

static struct kg_server_at server(enum kg_transport transport, bool located, const char *host, uint16_t port)
{
    struct kg_server_at at = {.transport = transport, .located = located, .port = port};
    snprintf(at.host, sizeof at.host, "%s", host);
    return at;
}

/* "udp 192.0.2.1:5060 p10 w5, ..." */
static const char *locate(const struct kg_server_at *at, const struct kg_reach *reach,
                          const char *const *line)
{
    static struct zone zone;
    static char out[1024];
    struct kg_place place[KG_PLACES_MAX];
    size_t count, used = 0;
    zone.line = line;
    zone.asked[0] = '\0';
    int error = kg_locate(at, reach, ask, &zone, place, &count);
    out[0] = '\0';
    if (error != 0)
        return error == EAGAIN ? "waits" : "?";
    for (size_t i = 0; i < count; i++) {
        char addr[KG_ADDR_STR];
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%s %s", i > 0 ? ", " : "",
                                 kg_transport_name(place[i].at.transport),
                                 kg_addr_format(&place[i].at.addr, addr));
        if (place[i].priority != 0 || place[i].weight != 0)
            used += (size_t)snprintf(out + used, sizeof out - used, " p%u w%u", place[i].priority,
                                     place[i].weight);
    }
    return out;
}

static void must(struct kg_server_at at, const struct kg_reach *reach, const char *expected,
                 const char *const *line)
{
    assert_string_equal(locate(&at, reach, line), expected);
}
#define ZONE(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- RFC 3263 ---- */

static void numeric_needs_no_dns(void **state)
{
    (void)state;
    const char *const dead[] = {"? A 192.0.2.1", NULL};
    must(server(KG_UDP, false, "192.0.2.1", 0), &everything, "udp 192.0.2.1:5060", dead);
    must(server(KG_TLS, false, "2001:db8::1", 0), &everything, "tls [2001:db8::1]:5061", dead);
    must(server(KG_TCP, false, "192.0.2.1", 5070), &everything, "tcp 192.0.2.1:5070", dead);
    must(server(KG_UDP, true, "192.0.2.1", 0), &everything, "udp 192.0.2.1:5060", dead);
    must(server(KG_TLS, true, "192.0.2.1", 0), &everything, "tls 192.0.2.1:5061", dead);
}

static void with_a_port_only_addresses_count(void **state)
{
    (void)state;
    const char *const *zone =
        ZONE("NAPTR pbx.example 1 1 s SIP+D2T _sip._tcp.pbx.example",
             "SRV _sip._udp.pbx.example 1 1 7000 other.example", "A pbx.example 192.0.2.1",
             "A pbx.example 192.0.2.2", "AAAA pbx.example 2001:db8::1");
    must(server(KG_UDP, false, "pbx.example", 5070), &everything,
         "udp 192.0.2.1:5070, udp 192.0.2.2:5070, udp [2001:db8::1]:5070", zone);
    must(server(KG_UDP, true, "pbx.example", 5070), &only_v4, "udp 192.0.2.1:5070, udp 192.0.2.2:5070", zone);
}

/* 4.2: transport without port */
static void srv_of_the_transport(void **state)
{
    (void)state;
    const char *const *zone =
        ZONE("SRV _sip._tcp.pbx.example 20 0 5080 b.example", "SRV _sip._tcp.pbx.example 10 7 5070 a.example",
             "A a.example 192.0.2.1", "A b.example 192.0.2.2", "A pbx.example 192.0.2.9");
    must(server(KG_TCP, false, "pbx.example", 0), &only_v4,
         "tcp 192.0.2.2:5080 p20 w0, tcp 192.0.2.1:5070 p10 w7", zone);
    must(server(KG_UDP, false, "pbx.example", 0), &only_v4, "udp 192.0.2.9:5060", zone);
    must(server(KG_TLS, false, "pbx.example", 0), &only_v4, "tls 192.0.2.9:5061", zone);
    must(server(KG_UDP, false, "nobody.example", 0), &only_v4, "", zone);
}

/* Two addresses are not two shares. */
static void weight_of_a_host(void **state)
{
    (void)state;
    must(server(KG_UDP, false, "pbx.example", 0), &everything,
         "udp 192.0.2.1:5060 p1 w60, udp 192.0.2.2:5060 p1 w0, udp [2001:db8::1]:5060 p1 w0, udp "
         "192.0.2.3:5060 p1 w40",
         ZONE("SRV _sip._udp.pbx.example 1 60 5060 a.example",
              "SRV _sip._udp.pbx.example 1 40 5060 b.example", "A a.example 192.0.2.1",
              "A a.example 192.0.2.2", "AAAA a.example 2001:db8::1", "A b.example 192.0.2.3"));
}

/* RFC 2782: a target of "." says that the service is decidedly not there */
static void a_service_that_is_not_there(void **state)
{
    (void)state;
    must(server(KG_UDP, false, "pbx.example", 0), &only_v4, "",
         ZONE("SRV _sip._udp.pbx.example 0 0 0 ", "A pbx.example 192.0.2.9"));
}

static void naptr_by_order_and_what_we_can(void **state)
{
    (void)state;
    const char *const *zone = ZONE(
        "NAPTR example 20 10 s SIP+D2U _sip._udp.example", "NAPTR example 10 20 s SIP+D2T _sip._tcp.example",
        "NAPTR example 10 10 s SIPS+D2T _sips._tcp.example", "NAPTR example 1 1 u E2U+sip x.example",
        "NAPTR example 1 1 s SIP+D2S _sip._sctp.example", "SRV _sip._udp.example 0 0 5060 u.example",
        "SRV _sip._tcp.example 0 0 5062 t.example", "SRV _sips._tcp.example 0 0 5063 s.example",
        "A u.example 192.0.2.1", "A t.example 192.0.2.2", "A s.example 192.0.2.3", "A example 192.0.2.9");
    struct kg_reach no_tls = {.transport = {true, true, false}, .v4 = true};
    struct kg_reach only_udp = {.transport = {true, false, false}, .v4 = true};
    must(server(KG_UDP, true, "example", 0), &only_v4, "tls 192.0.2.3:5063", zone);
    must(server(KG_UDP, true, "example", 0), &no_tls, "tcp 192.0.2.2:5062", zone);
    must(server(KG_UDP, true, "example", 0), &only_udp, "udp 192.0.2.1:5060", zone);
    must(server(KG_TLS, true, "example", 0), &only_v4, "tls 192.0.2.3:5063", zone); /* sips: nothing less */
}

static void naptr_that_leads_nowhere(void **state)
{
    (void)state;
    must(server(KG_UDP, true, "example", 0), &only_v4, "udp 192.0.2.1:5060",
         ZONE("NAPTR example 10 10 s SIP+D2T _sip._tcp.example",
              "NAPTR example 20 10 s SIP+D2U _sip._udp.example", "SRV _sip._udp.example 0 0 5060 u.example",
              "A u.example 192.0.2.1"));
}

/* 4.1 without NAPTR: SRV of each transport; 4.2 without SRV: the host itself */
static void without_naptr(void **state)
{
    (void)state;
    must(server(KG_UDP, true, "example", 0), &only_v4, "tcp 192.0.2.2:5062",
         ZONE("SRV _sip._tcp.example 0 0 5062 t.example", "A t.example 192.0.2.2", "A example 192.0.2.9"));
    must(server(KG_UDP, true, "example", 0), &only_v4, "udp 192.0.2.9:5060", ZONE("A example 192.0.2.9"));
    must(server(KG_TLS, true, "example", 0), &only_v4, "tls 192.0.2.9:5061",
         ZONE("SRV _sip._udp.example 0 0 5062 t.example", "A example 192.0.2.9"));
}

static void what_is_awaited(void **state)
{
    (void)state;
    must(server(KG_UDP, true, "example", 0), &only_v4, "waits", ZONE("? NAPTR example"));
    must(server(KG_UDP, true, "example", 0), &only_v4, "waits", ZONE("? SRV _sip._udp.example"));
    must(server(KG_UDP, false, "example", 5060), &only_v4, "waits", ZONE("? A example"));
    /* One of two hosts, one of two families is enough to begin with. */
    must(server(KG_UDP, false, "example", 0), &only_v4, "udp 192.0.2.2:2 p2 w0",
         ZONE("SRV _sip._udp.example 1 0 1 a.example", "SRV _sip._udp.example 2 0 2 b.example",
              "? A a.example", "A b.example 192.0.2.2"));
    must(server(KG_UDP, false, "example", 5060), &everything, "udp 192.0.2.2:5060",
         ZONE("? AAAA example", "A example 192.0.2.2"));
}

static void addresses_that_cannot_be(void **state)
{
    (void)state;
    must(server(KG_UDP, false, "example", 5060), &everything, "udp 192.0.2.2:5060",
         ZONE("A example 0.0.0.0", "A example 224.0.0.1", "A example 255.255.255.255", "A example 192.0.2.2",
              "A example 192.0.2.2", "AAAA example ::", "AAAA example ff02::1"));
    must(server(KG_UDP, false, "example", 0), &only_v4, "", ZONE("SRV _sip._udp.example 1 0 0 a.example"));
}

static void no_more_than_fit(void **state)
{
    (void)state;
    static char text[20][40];
    const char *line[21] = {NULL};
    struct kg_server_at at = server(KG_UDP, false, "example", 5060);
    for (int i = 0; i < 16; i++) {
        snprintf(text[i], sizeof text[i], i < 10 ? "A example 192.0.2.%d" : "AAAA example 2001:db8::%d",
                 i + 1);
        line[i] = text[i];
    }
    assert_non_null(strstr(locate(&at, &everything, line), "[2001:db8::16]:5060"));
    snprintf(text[16], sizeof text[16], "A example 192.0.2.99");
    line[16] = text[16];
    assert_null(strstr(locate(&at, &everything, line), "[2001:db8::16]:5060"));
}

/* ---- RFC 2782: order ---- */

static uint32_t chance;

static uint32_t given(void *ctx)
{
    (void)ctx;
    return chance;
}

static void must_order(const struct kg_weighted *item, size_t count, uint32_t random, const char *expected)
{
    uint8_t order[KG_WEIGHTED_MAX];
    char out[KG_WEIGHTED_MAX + 1] = "";
    chance = random;
    kg_order(item, count, given, NULL, order);
    for (size_t i = 0; i < count; i++)
        out[i] = (char)('a' + order[i]);
    out[count] = '\0';
    assert_string_equal(out, expected);
}

static void order_by_priority_and_weight(void **state)
{
    (void)state;
    const struct kg_weighted plain[] = {{0, 0}, {0, 0}, {0, 0}};
    const struct kg_weighted ranked[] = {{30, 0}, {10, 0}, {20, 0}};
    const struct kg_weighted heavy[] = {{1, 10}, {1, 0}, {1, 30}, {0, 5}};
    must_order(plain, 3, 12345, "abc"); /* without weight: as they stand */
    must_order(ranked, 3, 7, "bca");
    must_order(heavy, 4, 0, "dbac"); /* 0: the one without weight, which comes first in the running sum */
    must_order(heavy, 4, 1, "dacb"); /* 1 to 10 is the first one with weight */
    must_order(heavy, 4, 10, "dacb");
    must_order(heavy, 4, 40, "dcab");
    must_order(plain, 0, 0, "");
}

static uint32_t lcg(void *ctx)
{
    uint32_t *seed = ctx;
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void weights_are_shares(void **state)
{
    (void)state;
    const struct kg_weighted item[] = {{1, 70}, {1, 20}, {1, 10}};
    unsigned first[3] = {0};
    uint32_t seed = 1;
    for (int i = 0; i < 10000; i++) {
        uint8_t order[KG_WEIGHTED_MAX];
        kg_order(item, 3, lcg, &seed, order);
        assert_int_equal((1u << order[0]) | (1u << order[1]) | (1u << order[2]), 7);
        first[order[0]]++;
    }
    assert_in_range(first[0], 6700, 7300);
    assert_in_range(first[1], 1800, 2200);
    assert_in_range(first[2], 850, 1150);
}

/* ---- DNS as bytes ---- */

static struct kg_dns_answer answer;

struct bytes {
    uint8_t data[1500];
    size_t len;
};

static void put(struct bytes *b, const void *data, size_t len)
{
    assert_true(b->len + len <= sizeof b->data);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}
#define PUT(b, text) put((b), text, sizeof(text) - 1)

/* A header with these counts, and the question "a.b" of a type nobody looks at. */
static struct bytes response(uint8_t rcode, uint8_t answers, uint8_t authorities)
{
    struct bytes b = {.len = 0};
    uint8_t header[12] = {1, 2, 0x81, (uint8_t)(0x80 | rcode), 0, 1, 0, answers, 0, authorities, 0, 0};
    put(&b, header, sizeof header);
    PUT(&b, "\1a\1b\0\0\1\0\1");
    return b;
}

static int parse(const struct bytes *b, enum kg_dns_type type)
{
    return kg_dns_parse(b->data, b->len, type, &answer);
}

static void records_of_each_type(void **state)
{
    (void)state;
    struct bytes b = response(0, 3, 0);
    PUT(&b, "\xc0\x0c\0\5\0\1\0\0\0\x14\0\2\xc0\x0e");   /* a.b CNAME b, 20 s */
    PUT(&b, "\xc0\x0e\0\1\0\1\0\0\1\0\0\4\xc0\0\2\1");   /* b A 192.0.2.1, 256 s */
    PUT(&b, "\xc0\x0e\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\2"); /* b A 192.0.2.2, 30 s */
    assert_int_equal(parse(&b, KG_DNS_A), 0);
    char text[KG_ADDR_STR];
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.ttl_s, 20);
    assert_string_equal(kg_addr_format_host(&answer.addr[1], text), "192.0.2.2");
    assert_int_equal(parse(&b, KG_DNS_SRV), 0);
    assert_int_equal(answer.count, 0);

    b = response(0, 1, 0);
    PUT(&b, "\xc0\x0c\0\x1c\0\1\0\0\0\x1e\0\x10\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1");
    assert_int_equal(parse(&b, KG_DNS_AAAA), 0);
    assert_string_equal(kg_addr_format_host(&answer.addr[0], text), "2001:db8::1");

    b = response(0, 2, 0);
    PUT(&b, "\xc0\x0c\0\x21\0\1\0\0\0\x1e\0\x0c\0\1\0\2\x13\xc4\3pbx\xc0\x0e");
    PUT(&b, "\xc0\x0c\0\x21\0\1\0\0\0\x1e\0\7\0\1\0\2\x13\xc4\0");
    assert_int_equal(parse(&b, KG_DNS_SRV), 0);
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.srv[0].port, 5060);
    assert_int_equal(answer.srv[0].weight, 2);
    assert_string_equal(answer.srv[0].target, "pbx.b");
    assert_string_equal(answer.srv[1].target, "");

    b = response(0, 1, 0);
    PUT(&b, "\xc0\x0c\0\x23\0\1\0\0\0\x1e\0\x1b\0\x0a\0\x14\1s\7SIP+D2U\0\4_sip\4_udp\xc0\x0e");
    assert_int_equal(parse(&b, KG_DNS_NAPTR), 0);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.naptr[0].order, 10);
    assert_int_equal(answer.naptr[0].preference, 20);
    assert_string_equal(answer.naptr[0].flags, "s");
    assert_string_equal(answer.naptr[0].service, "SIP+D2U");
    assert_string_equal(answer.naptr[0].replacement, "_sip._udp.b");
}

/* RFC 2308 5 */
static void nothing_for_how_long(void **state)
{
    (void)state;
    struct bytes b = response(3, 0, 1);
    PUT(&b, "\xc0\x0e\0\6\0\1\0\0\1\x2c\0\x16\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1e");
    assert_int_equal(parse(&b, KG_DNS_A), 0);
    assert_int_equal(answer.count, 0);
    assert_int_equal(answer.ttl_s, 30); /* MINIMUM, less than the SOA's own 300 */
    b = response(0, 0, 0);
    assert_int_equal(parse(&b, KG_DNS_A), 0);
    assert_int_equal(answer.ttl_s, 60);
    b = response(2, 0, 0);
    assert_int_equal(parse(&b, KG_DNS_A), EAGAIN); /* SERVFAIL */
    b = response(5, 0, 0);
    assert_int_equal(parse(&b, KG_DNS_A), EAGAIN); /* REFUSED */
}

static void broken_messages(void **state)
{
    (void)state;
    struct bytes b = response(0, 1, 0), whole;
    PUT(&b, "\xc0\x0c\0\x23\0\1\0\0\0\x1e\0\x1b\0\x0a\0\x14\1s\7SIP+D2U\0\4_sip\4_udp\xc0\x0e");
    whole = b;
    for (size_t len = 0; len < whole.len; len++) {
        uint8_t *copy = malloc(len > 0 ? len : 1); /* so that a sanitizer sees a byte too many */
        memcpy(copy, whole.data, len);
        assert_int_equal(kg_dns_parse(copy, len, KG_DNS_NAPTR, &answer), EPROTO);
        free(copy);
    }
    b.data[2] = 0x01; /* a question */
    assert_int_equal(parse(&b, KG_DNS_NAPTR), EPROTO);
    b.data[2] = 0x83; /* truncated */
    assert_int_equal(parse(&b, KG_DNS_NAPTR), EPROTO);
    b = response(0, 1, 0);
    PUT(&b, "\xc0\x15\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\1"); /* a pointer to itself */
    assert_int_equal(parse(&b, KG_DNS_A), EPROTO);
    b = response(0, 1, 0);
    PUT(&b, "\xc0\xff\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\1"); /* forward */
    assert_int_equal(parse(&b, KG_DNS_A), EPROTO);
    b = response(0, 1, 0);
    PUT(&b, "\xc0\x0c\0\1\0\1\0\0\0\x1e\0\3\xc0\0\2\1"); /* too short for an address */
    assert_int_equal(parse(&b, KG_DNS_A), EPROTO);
    b = response(0, 1, 0);
    PUT(&b, "\xc0\x0c\0\x21\0\1\0\0\0\x1e\0\x0d\0\1\0\2\x13\xc4\4p\nx;\xc0\x0e"); /* no name for a URI */
    assert_int_equal(parse(&b, KG_DNS_SRV), 0);
    assert_int_equal(answer.count, 0);
}

static void more_records_than_fit(void **state)
{
    (void)state;
    struct bytes b = response(0, 40, 0);
    for (int i = 0; i < 40; i++)
        PUT(&b, "\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\1");
    assert_int_equal(parse(&b, KG_DNS_A), 0);
    assert_int_equal(answer.count, KG_DNS_RECORDS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numeric_needs_no_dns),
        cmocka_unit_test(with_a_port_only_addresses_count),
        cmocka_unit_test(srv_of_the_transport),
        cmocka_unit_test(weight_of_a_host),
        cmocka_unit_test(a_service_that_is_not_there),
        cmocka_unit_test(naptr_by_order_and_what_we_can),
        cmocka_unit_test(naptr_that_leads_nowhere),
        cmocka_unit_test(without_naptr),
        cmocka_unit_test(what_is_awaited),
        cmocka_unit_test(addresses_that_cannot_be),
        cmocka_unit_test(no_more_than_fit),
        cmocka_unit_test(order_by_priority_and_weight),
        cmocka_unit_test(weights_are_shares),
        cmocka_unit_test(records_of_each_type),
        cmocka_unit_test(nothing_for_how_long),
        cmocka_unit_test(broken_messages),
        cmocka_unit_test(more_records_than_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
