/* The NAT itself, as RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP) describe one. Pure: packet and `now`
 * in, the same packet translated and a verdict out; no socket, no clock, no randomness but the seed.
 *
 * A mapping joins an inside address and port to an external one (with APDM: for one remote only). A flow is a
 * mapping together with one remote; flows carry the filter state and the counters, and are numbered in the
 * order they appear. IPv6 is not translated: its mappings are identities, and the same filter makes a
 * stateful firewall of them. */
#ifndef KG_NATLAB_NAT_H
#define KG_NATLAB_NAT_H

#include <stdlib.h>

#include "packet.h"

enum nat_mapping_rule { NAT_EIM, NAT_ADM, NAT_APDM };
enum nat_filter_rule { NAT_EIF, NAT_ADF, NAT_APDF };
enum nat_port_rule { NAT_RANDOM, NAT_SEQUENTIAL, NAT_PRESERVING };
enum nat_ipv6 { NAT_IPV6_OFF, NAT_IPV6_OPEN, NAT_IPV6_FIREWALL };

struct nat_config {
    enum nat_mapping_rule mapping;
    enum nat_filter_rule filtering;
    enum nat_port_rule ports;
    enum nat_ipv6 ipv6;
    bool hairpin;
    bool inbound_refresh; /* RFC 4787 REQ-6: outbound packets always refresh, inbound ones may */
    bool block_udp;
    bool drop_fragments;
    int64_t timeout_us; /* UDP and ICMP mappings and filters, since the last refresh */
    int64_t tcp_timeout_us;
    uint64_t seed;
    struct endpoint external; /* IPv4; the port is not used */
};

enum nat_verdict {
    NAT_TO_OUTSIDE,
    NAT_TO_INSIDE,
    NAT_FILTERED,
    NAT_NO_MAPPING,
    NAT_UDP_BLOCKED,
    NAT_NO_HAIRPIN,
    NAT_FRAGMENT,
    NAT_TTL,
    NAT_FULL,
    NAT_MALFORMED,
    NAT_UNSUPPORTED,
    NAT_VERDICTS
};
static const char *const nat_verdict_name[NAT_VERDICTS] = {
    "to-outside", "to-inside", "filtered", "no-mapping", "udp-blocked", "no-hairpin",
    "fragment",   "ttl",       "full",     "malformed",  "unsupported"};

#define NAT_MAPPINGS  16384
#define NAT_FLOWS     32768
#define NAT_BUCKETS   16384 /* a power of two */
#define NAT_FRAGMENTS 64
#define NAT_NONE      UINT32_MAX
#define NAT_PORT_MIN  1024

enum nat_direction { NAT_UP, NAT_DOWN };

struct nat_mapping {
    bool used, alive; /* used and not alive: history, kept for the counters until room is needed */
    uint8_t proto;
    struct endpoint inside, external;
    struct endpoint remote; /* ADM: port 0; EIM: all zero */
    int64_t refreshed;
    uint32_t next_inside, next_external; /* hash chains */
};

struct nat_flow {
    bool used;
    uint32_t number, mapping;
    struct endpoint remote;
    int64_t sent; /* last outbound packet, which opens the filter; INT64_MIN: never */
    uint64_t packets[2], bytes[2], lost[2], filtered; /* [direction]; lost: by impairment */
    uint32_t next;
};

/* What the first fragment of a packet was turned into. */
struct nat_fragment {
    bool used;
    bool from_inside;
    uint8_t proto;
    uint32_t id, flow;
    struct endpoint src, dst, new_src, new_dst;
    enum nat_verdict verdict;
};

struct nat {
    struct nat_config config;
    uint64_t random;
    uint32_t flow_numbers, next_port, next_fragment;
    uint64_t verdicts[NAT_VERDICTS];
    uint32_t mapping_top, flow_top; /* slots ever used */
    uint32_t by_inside[NAT_BUCKETS], by_external[NAT_BUCKETS], by_flow[NAT_BUCKETS];
    struct nat_fragment fragments[NAT_FRAGMENTS];
    struct nat_mapping mappings[NAT_MAPPINGS];
    struct nat_flow flows[NAT_FLOWS];
};

static inline uint64_t nat_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static bool nat_same(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && a->v6 == b->v6 && memcmp(a->ip, b->ip, 16) == 0;
}
static bool nat_same_host(const struct endpoint *a, const struct endpoint *b)
{
    return a->v6 == b->v6 && memcmp(a->ip, b->ip, 16) == 0;
}
static uint32_t nat_bucket(uint64_t key, const struct endpoint *e)
{
    uint64_t part[2];
    memcpy(part, e->ip, 16);
    return (uint32_t)(nat_mix(nat_mix(part[0] ^ nat_mix(part[1])) ^ key << 17 ^ e->port) & (NAT_BUCKETS - 1));
}

static void nat_clear_tables(struct nat *n)
{
    memset(n->by_inside, 0xff, sizeof n->by_inside);
    memset(n->by_external, 0xff, sizeof n->by_external);
    memset(n->by_flow, 0xff, sizeof n->by_flow);
}

static inline struct nat *nat_new(const struct nat_config *config)
{
    struct nat *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->config = *config;
    n->random = nat_mix(config->seed);
    n->next_port = NAT_PORT_MIN + (uint32_t)(nat_mix(config->seed + 1) % 40000);
    nat_clear_tables(n);
    return n;
}
static inline void nat_free(struct nat *n)
{
    free(n);
}

static int64_t nat_timeout(const struct nat *n, uint8_t proto)
{
    return proto == PROTO_TCP ? n->config.tcp_timeout_us : n->config.timeout_us;
}

static void nat_unlink(struct nat *n, uint32_t index)
{
    struct nat_mapping *m = &n->mappings[index];
    uint32_t *at = &n->by_inside[nat_bucket(m->proto, &m->inside)];
    while (*at != index)
        at = &n->mappings[*at].next_inside;
    *at = m->next_inside;
    at = &n->by_external[nat_bucket(m->proto, &m->external)];
    while (*at != index)
        at = &n->mappings[*at].next_external;
    *at = m->next_external;
    m->alive = false;
}

static bool nat_expired(const struct nat *n, const struct nat_mapping *m, int64_t now)
{
    return now - m->refreshed > nat_timeout(n, m->proto);
}

/* Forgets every mapping, as a NAT that restarts does. Counters stay readable. */
static inline void nat_flush(struct nat *n)
{
    for (uint32_t i = 0; i < n->mapping_top; i++)
        if (n->mappings[i].used && n->mappings[i].alive)
            nat_unlink(n, i);
    memset(n->fragments, 0, sizeof n->fragments);
}

/* Makes room: history goes first. */
static void nat_sweep(struct nat *n, int64_t now)
{
    for (uint32_t i = 0; i < n->mapping_top; i++) {
        struct nat_mapping *m = &n->mappings[i];
        if (m->used && m->alive && nat_expired(n, m, now))
            nat_unlink(n, i);
    }
    memset(n->by_flow, 0xff, sizeof n->by_flow);
    for (uint32_t i = 0; i < n->flow_top; i++) {
        struct nat_flow *f = &n->flows[i];
        if (!f->used || !n->mappings[f->mapping].alive) {
            f->used = false;
            continue;
        }
        uint32_t *head = &n->by_flow[nat_bucket(f->mapping, &f->remote)];
        f->next = *head;
        *head = i;
    }
    for (uint32_t i = 0; i < n->mapping_top; i++)
        n->mappings[i].used = n->mappings[i].alive;
}

static uint32_t nat_mapping_slot(struct nat *n, int64_t now)
{
    if (n->mapping_top < NAT_MAPPINGS)
        return n->mapping_top++;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < NAT_MAPPINGS; i++)
            if (!n->mappings[i].used)
                return i;
        nat_sweep(n, now);
    }
    return NAT_NONE;
}
static uint32_t nat_flow_slot(struct nat *n, int64_t now)
{
    if (n->flow_top < NAT_FLOWS)
        return n->flow_top++;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < NAT_FLOWS; i++)
            if (!n->flows[i].used)
                return i;
        nat_sweep(n, now);
    }
    return NAT_NONE;
}

static struct nat_mapping *nat_find_external(struct nat *n, uint8_t proto, const struct endpoint *external,
                                             int64_t now)
{
    uint32_t next;
    for (uint32_t i = n->by_external[nat_bucket(proto, external)]; i != NAT_NONE; i = next) {
        struct nat_mapping *m = &n->mappings[i];
        next = m->next_external;
        if (m->proto != proto || !nat_same(&m->external, external))
            continue;
        if (!nat_expired(n, m, now))
            return m;
        nat_unlink(n, i);
    }
    return NULL;
}

/* RFC 4787 4.1: which part of the remote a mapping depends on. */
static struct endpoint nat_mapping_remote(const struct nat *n, const struct packet *p,
                                          const struct endpoint *remote)
{
    struct endpoint key = {0};
    if (p->v6 || n->config.mapping == NAT_EIM)
        return key;
    key = *remote;
    if (n->config.mapping == NAT_ADM)
        key.port = 0;
    return key;
}

static struct nat_mapping *nat_find_inside(struct nat *n, uint8_t proto, const struct endpoint *inside,
                                           const struct endpoint *remote, int64_t now)
{
    uint32_t next;
    for (uint32_t i = n->by_inside[nat_bucket(proto, inside)]; i != NAT_NONE; i = next) {
        struct nat_mapping *m = &n->mappings[i];
        next = m->next_inside;
        if (m->proto != proto || !nat_same(&m->inside, inside) || !nat_same(&m->remote, remote))
            continue;
        if (!nat_expired(n, m, now))
            return m;
        nat_unlink(n, i);
    }
    return NULL;
}

static uint16_t nat_wanted_port(struct nat *n, const struct endpoint *inside, uint32_t attempt)
{
    switch (n->config.ports) {
    case NAT_RANDOM:
        n->random = nat_mix(n->random);
        return (uint16_t)(NAT_PORT_MIN + n->random % (65536 - NAT_PORT_MIN));
    case NAT_SEQUENTIAL:
        if (n->next_port > 65535)
            n->next_port = NAT_PORT_MIN;
        return (uint16_t)n->next_port++;
    case NAT_PRESERVING:
    default:
        return (uint16_t)(NAT_PORT_MIN + (inside->port + attempt - NAT_PORT_MIN) % (65536 - NAT_PORT_MIN));
    }
}

static int nat_choose_external(struct nat *n, struct nat_mapping *m, int64_t now)
{
    m->external = m->inside;
    if (m->inside.v6)
        return 0;
    m->external = n->config.external;
    for (uint32_t attempt = 0; attempt < 65536; attempt++) {
        m->external.port = nat_wanted_port(n, &m->inside, attempt);
        if (!nat_find_external(n, m->proto, &m->external, now))
            return 0;
    }
    return EADDRINUSE;
}

static struct nat_mapping *nat_map(struct nat *n, const struct packet *p, int64_t now)
{
    struct endpoint remote = nat_mapping_remote(n, p, &p->dst);
    struct nat_mapping *m = nat_find_inside(n, p->proto, &p->src, &remote, now);
    if (m)
        return m;
    uint32_t index = nat_mapping_slot(n, now);
    if (index == NAT_NONE)
        return NULL;
    m = &n->mappings[index];
    *m = (struct nat_mapping){.proto = p->proto, .inside = p->src, .remote = remote, .refreshed = now};
    if (nat_choose_external(n, m, now))
        return NULL;
    m->used = m->alive = true;
    uint32_t *head = &n->by_inside[nat_bucket(m->proto, &m->inside)];
    m->next_inside = *head;
    *head = index;
    head = &n->by_external[nat_bucket(m->proto, &m->external)];
    m->next_external = *head;
    *head = index;
    return m;
}

static struct nat_flow *nat_find_flow(struct nat *n, const struct nat_mapping *m,
                                      const struct endpoint *remote)
{
    uint32_t mapping = (uint32_t)(m - n->mappings);
    for (uint32_t i = n->by_flow[nat_bucket(mapping, remote)]; i != NAT_NONE; i = n->flows[i].next)
        if (n->flows[i].used && n->flows[i].mapping == mapping && nat_same(&n->flows[i].remote, remote))
            return &n->flows[i];
    return NULL;
}

static struct nat_flow *nat_flow(struct nat *n, const struct nat_mapping *m, const struct endpoint *remote,
                                 int64_t now)
{
    struct nat_flow *f = nat_find_flow(n, m, remote);
    if (f)
        return f;
    uint32_t index = nat_flow_slot(n, now), mapping = (uint32_t)(m - n->mappings);
    if (index == NAT_NONE)
        return NULL;
    f = &n->flows[index];
    *f = (struct nat_flow){
        .used = true, .number = ++n->flow_numbers, .mapping = mapping, .remote = *remote, .sent = INT64_MIN};
    uint32_t *head = &n->by_flow[nat_bucket(mapping, remote)];
    f->next = *head;
    *head = index;
    return f;
}

static bool nat_open(const struct nat *n, const struct nat_mapping *m, const struct nat_flow *f, int64_t now)
{
    return f->sent != INT64_MIN && now - f->sent <= nat_timeout(n, m->proto);
}

/* RFC 4787 5: may `remote` send to this mapping? */
static bool nat_admits(struct nat *n, const struct nat_mapping *m, const struct nat_flow *flow, int64_t now)
{
    if (m->inside.v6 && n->config.ipv6 == NAT_IPV6_OPEN)
        return true;
    if (!m->inside.v6 && n->config.filtering == NAT_EIF)
        return true;
    if (nat_open(n, m, flow, now))
        return true;
    if (m->inside.v6 || n->config.filtering == NAT_APDF)
        return false;
    uint32_t mapping = (uint32_t)(m - n->mappings);
    for (uint32_t i = 0; i < n->flow_top; i++) {
        const struct nat_flow *f = &n->flows[i];
        if (f->used && f->mapping == mapping && nat_same_host(&f->remote, &flow->remote) &&
            nat_open(n, m, f, now))
            return true;
    }
    return false;
}

/* What nat_packet says about one packet. flow: NULL where the packet belongs to none. */
struct nat_result {
    enum nat_verdict verdict;
    enum nat_direction direction;
    struct nat_flow *flow;
};

static enum nat_verdict nat_deliver(struct nat *n, struct packet *p, struct nat_result *r, int64_t now)
{
    struct nat_mapping *m = nat_find_external(n, p->proto, &p->dst, now);
    if (!m)
        return NAT_NO_MAPPING;
    struct nat_flow *f = nat_flow(n, m, &p->src, now);
    if (!f)
        return NAT_FULL;
    r->flow = f;
    if (!nat_admits(n, m, f, now)) {
        f->filtered++;
        return NAT_FILTERED;
    }
    if (n->config.inbound_refresh) {
        m->refreshed = now;
        if (f->sent != INT64_MIN)
            f->sent = now;
    }
    if (!p->v6)
        packet_rewrite(p, false, &m->inside);
    return NAT_TO_INSIDE;
}

/* ICMP errors carry the packet they are about; both are translated (RFC 5508 4). The quoted packet went the
 * other way: its source is ours where the error comes from outside. */
static enum nat_verdict nat_error(struct nat *n, struct packet *p, bool from_inside, struct nat_result *r,
                                  int64_t now)
{
    struct packet quoted;
    if (p->l4_len < 8 || packet_parse(&quoted, p->l4 + 8, p->l4_len - 8, true) || quoted.v6 != p->v6)
        return NAT_MALFORMED;
    if (quoted.kind != PACKET_PORTS && quoted.kind != PACKET_ECHO)
        return NAT_UNSUPPORTED;
    const struct endpoint *ours = from_inside ? &quoted.dst : &quoted.src;
    const struct endpoint *remote = from_inside ? &quoted.src : &quoted.dst;
    struct endpoint key = nat_mapping_remote(n, &quoted, remote);
    struct nat_mapping *m = from_inside ? nat_find_inside(n, quoted.proto, ours, &key, now)
                                        : nat_find_external(n, quoted.proto, ours, now);
    struct nat_flow *f = m ? nat_find_flow(n, m, remote) : NULL;
    if (!f)
        return NAT_NO_MAPPING;
    r->flow = f;
    if (!p->v6) {
        struct endpoint outer = from_inside ? n->config.external : m->inside;
        outer.port = 0;
        packet_rewrite(&quoted, !from_inside, from_inside ? &m->external : &m->inside);
        packet_rewrite(p, from_inside, &outer);
        put16(p->l4 + 2, 0);
        put16(p->l4 + 2, checksum(p->l4, p->l4_len));
    }
    return from_inside ? NAT_TO_OUTSIDE : NAT_TO_INSIDE;
}

static enum nat_verdict nat_from_inside(struct nat *n, struct packet *p, struct nat_result *r, int64_t now)
{
    bool hairpin = !p->v6 && nat_same_host(&p->dst, &n->config.external);
    if (p->kind == PACKET_ICMP_ERROR)
        return hairpin ? NAT_NO_HAIRPIN : nat_error(n, p, true, r, now);
    if (hairpin && !n->config.hairpin)
        return NAT_NO_HAIRPIN;
    struct nat_mapping *m = nat_map(n, p, now);
    struct nat_flow *f = m ? nat_flow(n, m, &p->dst, now) : NULL;
    if (!f)
        return NAT_FULL;
    m->refreshed = f->sent = now;
    r->flow = f;
    if (!p->v6)
        packet_rewrite(p, true, &m->external);
    /* RFC 4787 REQ-9: the other inside host sees the external source. */
    return hairpin ? nat_deliver(n, p, r, now) : NAT_TO_OUTSIDE;
}

static enum nat_verdict nat_from_outside(struct nat *n, struct packet *p, struct nat_result *r, int64_t now)
{
    if (!p->v6 && !nat_same_host(&p->dst, &n->config.external))
        return NAT_NO_MAPPING;
    if (p->kind == PACKET_ICMP_ERROR)
        return nat_error(n, p, false, r, now);
    enum nat_verdict verdict = nat_deliver(n, p, r, now);
    if (verdict != NAT_NO_MAPPING || !p->v6 || n->config.ipv6 != NAT_IPV6_OPEN)
        return verdict;
    return NAT_TO_INSIDE; /* no firewall: nothing to remember */
}

static enum nat_verdict nat_later_fragment(struct nat *n, struct packet *p, bool from_inside,
                                           struct nat_result *r)
{
    for (size_t i = 0; i < NAT_FRAGMENTS; i++) {
        const struct nat_fragment *f = &n->fragments[i];
        if (!f->used || f->from_inside != from_inside || f->proto != p->proto || f->id != p->fragment_id ||
            !nat_same_host(&f->src, &p->src) || !nat_same_host(&f->dst, &p->dst))
            continue;
        if (!p->v6) {
            packet_rewrite(p, true, &f->new_src);
            packet_rewrite(p, false, &f->new_dst);
        }
        r->flow = f->flow == NAT_NONE ? NULL : &n->flows[f->flow];
        return f->verdict;
    }
    return NAT_FRAGMENT;
}

static enum nat_verdict nat_translate(struct nat *n, struct packet *p, bool from_inside, struct nat_result *r,
                                      int64_t now)
{
    if (n->config.block_udp && p->proto == PROTO_UDP)
        return NAT_UDP_BLOCKED;
    if (p->fragment && n->config.drop_fragments)
        return NAT_FRAGMENT;
    if (p->kind == PACKET_LATER_FRAGMENT)
        return nat_later_fragment(n, p, from_inside, r);
    if (p->kind == PACKET_OTHER)
        return NAT_UNSUPPORTED;
    struct endpoint src = p->src, dst = p->dst;
    enum nat_verdict verdict = from_inside ? nat_from_inside(n, p, r, now) : nat_from_outside(n, p, r, now);
    if (p->fragment)
        n->fragments[n->next_fragment++ % NAT_FRAGMENTS] =
            (struct nat_fragment){.used = true,
                                  .from_inside = from_inside,
                                  .proto = p->proto,
                                  .id = p->fragment_id,
                                  .flow = r->flow ? (uint32_t)(r->flow - n->flows) : NAT_NONE,
                                  .src = src,
                                  .dst = dst,
                                  .new_src = p->src,
                                  .new_dst = p->dst,
                                  .verdict = verdict};
    return verdict;
}

/* One packet from the inside or the outside, changed in place. On NAT_TO_* parsed->dst says where it goes
 * now. */
static inline struct nat_result nat_packet(struct nat *n, bool from_inside, uint8_t *data, size_t len,
                                           int64_t now, struct packet *parsed)
{
    struct nat_result r = {.direction = from_inside ? NAT_UP : NAT_DOWN};
    if (packet_parse(parsed, data, len, false))
        r.verdict = NAT_MALFORMED;
    else if (parsed->v6 && n->config.ipv6 == NAT_IPV6_OFF)
        r.verdict = NAT_UNSUPPORTED;
    else if (!packet_hop(parsed))
        r.verdict = NAT_TTL;
    else
        r.verdict = nat_translate(n, parsed, from_inside, &r, now);
    n->verdicts[r.verdict]++;
    if (r.flow && r.verdict <= NAT_TO_INSIDE) {
        r.flow->packets[r.direction]++;
        r.flow->bytes[r.direction] += len;
    }
    return r;
}

#endif
