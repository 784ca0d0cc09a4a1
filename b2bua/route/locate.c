#include "b2bua/route/locate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* RFC 3261 19.1.2 */
#define SIP_PORT  5060
#define SIPS_PORT 5061

/* One run. */
struct search {
    const struct kg_server_at *server;
    const struct kg_reach *reach;
    kg_locate_ask *ask;
    void *ctx;
    struct kg_place *out;
    size_t count;
};

/* RFC 3263 4.1 and 4.2: what NAPTR calls a transport, and where its SRV records are. */
static const struct service {
    enum kg_transport transport;
    const char *naptr, *srv;
    bool sips; /* good for a sips: URI */
} services[] = {
    {KG_UDP, "SIP+D2U", "_sip._udp.", false},
    {KG_TCP, "SIP+D2T", "_sip._tcp.", false},
    {KG_TLS, "SIPS+D2T", "_sips._tcp.", true},
};
#define SERVICES (sizeof services / sizeof services[0])

static uint16_t default_port(enum kg_transport transport)
{
    return transport == KG_TLS ? SIPS_PORT : SIP_PORT;
}

static void add(struct search *s, enum kg_transport transport, struct kg_addr addr, uint16_t port,
                const struct kg_dns_srv *srv)
{
    struct kg_place *place = &s->out[s->count];

    kg_addr_set_port(&addr, port);
    if (s->count == KG_PLACES_MAX || !kg_addr_is_usable(&addr))
        return;
    for (size_t i = 0; i < s->count; i++)
        if (s->out[i].at.transport == transport && kg_addr_equal(&s->out[i].at.addr, &addr))
            return;
    *place = (struct kg_place){.at = {transport, addr},
                               .priority = srv != NULL ? srv->priority : 0,
                               .weight = srv != NULL ? srv->weight : 0};
    s->count++;
}

/* The addresses of one host; its weight is the first one's, or a host of two would get two shares. 0 or
 * EAGAIN. IPv4 first: where both work, it is the one that PBXes are tested with. */
static int add_host(struct search *s, enum kg_transport transport, const char *host, uint16_t port,
                    const struct kg_dns_srv *srv)
{
    const struct kg_dns_answer *v4, *v6;
    struct kg_dns_srv share = {0};
    struct kg_addr numeric;

    if (kg_addr_parse_host(host, port, &numeric) == 0) {
        add(s, transport, numeric, port, srv);
        return 0;
    }
    if (srv != NULL)
        share = *srv;
    v4 = s->reach->v4 ? s->ask(s->ctx, KG_DNS_A, host) : NULL;
    v6 = s->reach->v6 ? s->ask(s->ctx, KG_DNS_AAAA, host) : NULL;
    for (size_t i = 0; v4 != NULL && i < v4->count; i++, share.weight = 0)
        add(s, transport, v4->addr[i], port, &share);
    for (size_t i = 0; v6 != NULL && i < v6->count; i++, share.weight = 0)
        add(s, transport, v6->addr[i], port, &share);
    return (s->reach->v4 && v4 == NULL) || (s->reach->v6 && v6 == NULL) ? EAGAIN : 0;
}

/* Places by the SRV records of a name. 0 with or without places, or EAGAIN when nothing is known yet. */
static int add_srv(struct search *s, enum kg_transport transport, const char *name, bool *exists)
{
    const struct kg_dns_answer *answer = s->ask(s->ctx, KG_DNS_SRV, name);
    size_t before = s->count;
    bool waits = false;

    if (answer == NULL)
        return EAGAIN;
    *exists = answer->count > 0;
    for (size_t i = 0; i < answer->count; i++) {
        const struct kg_dns_srv *srv = &answer->srv[i];
        if (srv->target[0] != '\0' && srv->port != 0)
            waits = add_host(s, transport, srv->target, srv->port, srv) != 0 || waits;
    }
    /* One host of several is enough to begin with. */
    return waits && s->count == before ? EAGAIN : 0;
}

static bool fits(const struct search *s, const struct service *service)
{
    return s->reach->transport[service->transport] && (service->sips || s->server->transport != KG_TLS);
}

static const struct service *service_of(const struct search *s, const struct kg_dns_naptr *naptr)
{
    if (strcasecmp(naptr->flags, "s") != 0)
        return NULL;
    for (size_t i = 0; i < SERVICES; i++)
        if (strcasecmp(naptr->service, services[i].naptr) == 0)
            return fits(s, &services[i]) ? &services[i] : NULL;
    return NULL;
}

/* The first of those after *last in the sequence (order, preference, place in the answer) that we can use. */
static const struct kg_dns_naptr *next_naptr(const struct search *s, const struct kg_dns_answer *answer,
                                             const struct kg_dns_naptr *last)
{
    const struct kg_dns_naptr *best = NULL;
    uint64_t best_rank = UINT64_MAX, last_rank = 0;

    for (size_t i = 0; i < answer->count; i++) {
        const struct kg_dns_naptr *naptr = &answer->naptr[i];
        uint64_t rank = ((uint64_t)naptr->order << 32 | (uint64_t)naptr->preference << 16 | i) + 1;
        if (last != NULL)
            last_rank = ((uint64_t)last->order << 32 | (uint64_t)last->preference << 16 |
                         (uint64_t)(last - answer->naptr)) +
                        1;
        if (rank > last_rank && rank < best_rank && service_of(s, naptr) != NULL) {
            best = naptr;
            best_rank = rank;
        }
    }
    return best;
}

/* RFC 3263 4.1 with NAPTR: the best one that leads somewhere. */
static int by_naptr(struct search *s, const struct kg_dns_answer *answer)
{
    const struct kg_dns_naptr *naptr = NULL;

    while (s->count == 0 && (naptr = next_naptr(s, answer, naptr)) != NULL) {
        bool exists;
        int error = add_srv(s, service_of(s, naptr)->transport, naptr->replacement, &exists);
        if (error != 0)
            return error;
    }
    return 0;
}

static int by_srv(struct search *s, const struct service *service, bool *exists)
{
    char name[KG_DOMAIN_MAX + 16];
    int len = snprintf(name, sizeof name, "%s%s", service->srv, s->server->host);

    return len < KG_DOMAIN_MAX ? add_srv(s, service->transport, name, exists) : 0;
}

/* sip: and sips: without a port. */
static int by_domain(struct search *s)
{
    const struct kg_dns_answer *naptr = s->ask(s->ctx, KG_DNS_NAPTR, s->server->host);
    bool exists = false, any = false;
    int error = 0;

    if (naptr == NULL)
        return EAGAIN;
    error = by_naptr(s, naptr);
    /* "If no NAPTR records are found, the client constructs SRV queries for those transports it supports." */
    for (size_t i = 0; error == 0 && s->count == 0 && i < SERVICES; i++) {
        if (!fits(s, &services[i]))
            continue;
        error = by_srv(s, &services[i], &exists);
        any = any || exists;
    }
    if (error != 0 || s->count > 0 || any)
        return error;
    return add_host(s, s->server->transport, s->server->host, default_port(s->server->transport), NULL);
}

/* The transport is given, the port is not (RFC 3263 4.2). */
static int by_transport(struct search *s)
{
    bool exists = false;
    int error = by_srv(s, &services[s->server->transport], &exists);

    if (error != 0 || exists)
        return error;
    return add_host(s, s->server->transport, s->server->host, default_port(s->server->transport), NULL);
}

int kg_locate(const struct kg_server_at *server, const struct kg_reach *reach, kg_locate_ask *ask, void *ctx,
              struct kg_place out[static KG_PLACES_MAX], size_t *count)
{
    struct search s = {.server = server, .reach = reach, .ask = ask, .ctx = ctx, .out = out};
    struct kg_addr numeric;
    int error;

    if (server->port != 0 || kg_addr_parse_host(server->host, 1, &numeric) == 0)
        error = add_host(&s, server->transport, server->host,
                         server->port != 0 ? server->port : default_port(server->transport), NULL);
    else if (server->located)
        error = by_domain(&s);
    else
        error = by_transport(&s);
    *count = s.count;
    return s.count > 0 ? 0 : error; /* what is missing comes with the next news */
}

/* ---- order ---- */

/* One step of RFC 2782: of the items of this priority that are not taken, one by weight. Those of weight 0
 * come first in the running sum, "a very small chance" when others have weight. */
static size_t draw(const struct kg_weighted *item, size_t count, uint64_t taken, uint16_t priority,
                   uint32_t chance)
{
    uint32_t sum = 0, running = 0;
    size_t last = count;

    for (size_t i = 0; i < count; i++)
        if (!(taken >> i & 1) && item[i].priority == priority)
            sum += item[i].weight;
    chance = sum > 0 ? chance % (sum + 1) : 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            if ((taken >> i & 1) || item[i].priority != priority || (item[i].weight != 0) != (pass == 1))
                continue;
            running += item[i].weight;
            last = i;
            if (running >= chance)
                return i;
        }
    }
    return last;
}

void kg_order(const struct kg_weighted *item, size_t count, uint32_t (*random)(void *ctx), void *ctx,
              uint8_t order[static KG_WEIGHTED_MAX])
{
    uint64_t taken = 0;

    for (size_t done = 0; done < count; done++) {
        unsigned priority = UINT16_MAX + 1u, alike = 0;
        for (size_t i = 0; i < count; i++) {
            if (taken >> i & 1)
                continue;
            if (item[i].priority < priority) {
                priority = item[i].priority;
                alike = 0;
            }
            alike += item[i].priority == priority;
        }
        size_t next = draw(item, count, taken, (uint16_t)priority, alike > 1 ? random(ctx) : 0);
        taken |= 1ull << next;
        order[done] = (uint8_t)next;
    }
}
