/* IP packets for the NAT emulator: what a NAT looks at and rewrites. Pure: bytes in, bytes changed in place.
 */
#ifndef KG_NATLAB_PACKET_H
#define KG_NATLAB_PACKET_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_FRAGMENT6 = 44, PROTO_ICMP6 = 58 };

/* An address and port; IPv4 fills ip[0..3], the rest stays zero so that memcmp compares. For ICMP echo the
 * port is the identifier on the side that asks, and 0 on the side that answers. */
struct endpoint {
    uint8_t ip[16];
    uint16_t port;
    bool v6;
};

enum packet_kind { PACKET_PORTS, PACKET_ECHO, PACKET_ICMP_ERROR, PACKET_LATER_FRAGMENT, PACKET_OTHER };

/* A parsed view of a packet: pointers into it. */
struct packet {
    uint8_t *data;
    size_t len;
    bool v6;
    uint8_t proto;
    enum packet_kind kind;
    bool fragment; /* first or later */
    uint32_t fragment_id;
    uint8_t *l4;
    size_t l4_len;
    struct endpoint src, dst;
};

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline uint16_t checksum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
static inline uint16_t checksum(const uint8_t *data, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += get16(data + i);
    if (len & 1)
        sum += (uint32_t)data[len - 1] << 8;
    return (uint16_t)~checksum_fold(sum);
}
/* RFC 1624: HC' = ~(~HC + ~m + m'). len is even. */
static inline void checksum_adjust(uint8_t *field, const uint8_t *old, const uint8_t *new, size_t len)
{
    uint32_t sum = (uint16_t)~get16(field);
    for (size_t i = 0; i < len; i += 2)
        sum += (uint32_t)(uint16_t)~get16(old + i) + get16(new + i);
    put16(field, (uint16_t)~checksum_fold(sum));
}

/* Where the transport checksum is; NULL where there is none or the packet ends before it. */
static inline uint8_t *packet_l4_checksum(const struct packet *p)
{
    if (p->kind == PACKET_LATER_FRAGMENT)
        return NULL;
    if (p->proto == PROTO_UDP && p->l4_len >= 8)
        return get16(p->l4 + 6) ? p->l4 + 6 : NULL; /* 0: the sender computed none */
    if (p->proto == PROTO_TCP && p->l4_len >= 18)
        return p->l4 + 16;
    return NULL;
}

static inline int packet_parse_l4(struct packet *p, bool embedded)
{
    size_t need = p->proto == PROTO_TCP && !embedded ? 20 : 8;
    p->kind = PACKET_OTHER;
    if (p->proto != PROTO_UDP && p->proto != PROTO_TCP && p->proto != PROTO_ICMP && p->proto != PROTO_ICMP6)
        return 0;
    if (p->l4_len < need)
        return EINVAL;
    if (p->proto == PROTO_UDP || p->proto == PROTO_TCP) {
        p->kind = PACKET_PORTS;
        p->src.port = get16(p->l4);
        p->dst.port = get16(p->l4 + 2);
        return 0;
    }
    uint8_t type = p->l4[0];
    bool request = p->v6 ? type == 128 : type == 8;
    bool reply = p->v6 ? type == 129 : type == 0;
    if (request || reply) {
        p->kind = PACKET_ECHO;
        *(request ? &p->src.port : &p->dst.port) = get16(p->l4 + 4);
    } else if (!embedded &&
               (p->v6 ? type >= 1 && type <= 4 : type == 3 || type == 4 || type == 11 || type == 12)) {
        p->kind = PACKET_ICMP_ERROR;
    }
    return 0;
}

static inline int packet_parse4(struct packet *p)
{
    size_t header = (size_t)(p->data[0] & 15) * 4, total = get16(p->data + 2);
    if (header < 20 || p->len < header)
        return EINVAL;
    uint16_t fragment = get16(p->data + 6);
    p->proto = p->data[9];
    memcpy(p->src.ip, p->data + 12, 4);
    memcpy(p->dst.ip, p->data + 16, 4);
    p->l4 = p->data + header;
    p->l4_len = p->len - header;
    p->fragment = (fragment & 0x3fff) != 0;
    p->fragment_id = get16(p->data + 4);
    if (fragment & 0x1fff)
        p->kind = PACKET_LATER_FRAGMENT;
    return total < header ? EINVAL : 0;
}

static inline int packet_parse6(struct packet *p)
{
    if (p->len < 40)
        return EINVAL;
    p->v6 = p->src.v6 = p->dst.v6 = true;
    p->proto = p->data[6];
    memcpy(p->src.ip, p->data + 8, 16);
    memcpy(p->dst.ip, p->data + 24, 16);
    p->l4 = p->data + 40;
    p->l4_len = p->len - 40;
    if (p->proto == PROTO_FRAGMENT6) {
        if (p->l4_len < 8)
            return EINVAL;
        p->proto = p->l4[0];
        p->fragment = true;
        p->fragment_id = (uint32_t)get16(p->l4 + 4) << 16 | get16(p->l4 + 6);
        if (get16(p->l4 + 2) & 0xfff8)
            p->kind = PACKET_LATER_FRAGMENT;
        p->l4 += 8;
        p->l4_len -= 8;
    }
    return 0;
}

/* embedded: the packet quoted by an ICMP error, which may be cut off after 8 bytes of its transport header.
 * Returns 0, or EINVAL for what is no IP packet. */
static inline int packet_parse(struct packet *p, uint8_t *data, size_t len, bool embedded)
{
    memset(p, 0, sizeof *p);
    p->data = data;
    p->len = len;
    p->kind = PACKET_OTHER;
    if (len < 20)
        return EINVAL;
    int err = data[0] >> 4 == 4 ? packet_parse4(p) : data[0] >> 4 == 6 ? packet_parse6(p) : EINVAL;
    if (err || p->kind == PACKET_LATER_FRAGMENT)
        return err;
    return packet_parse_l4(p, embedded);
}

/* Puts `to` in place of the source (or destination) address and port of an IPv4 packet and mends all
 * checksums. ip_only: a later fragment, which has no ports. */
static inline void packet_rewrite(struct packet *p, bool source, const struct endpoint *to)
{
    struct endpoint *from = source ? &p->src : &p->dst;
    uint8_t *ip = p->data + (source ? 12 : 16), *sum = packet_l4_checksum(p);
    if (sum)
        checksum_adjust(sum, from->ip, to->ip, 4);
    checksum_adjust(p->data + 10, from->ip, to->ip, 4);
    memcpy(ip, to->ip, 4);
    if (p->kind == PACKET_PORTS || p->kind == PACKET_ECHO) {
        uint8_t *field = p->kind == PACKET_ECHO ? p->l4 + 4 : p->l4 + (source ? 0 : 2), port[2];
        bool has_port = p->kind == PACKET_PORTS || from->port;
        uint8_t *port_sum = p->kind == PACKET_ECHO ? p->l4 + 2 : sum;
        put16(port, to->port);
        if (has_port && port_sum)
            checksum_adjust(port_sum, field, port, 2);
        if (has_port)
            memcpy(field, port, 2);
    }
    /* RFC 768: a computed checksum of zero is sent as all ones. */
    if (sum && p->proto == PROTO_UDP && get16(sum) == 0)
        put16(sum, 0xffff);
    *from = *to;
}

/* One hop less. False: the packet ends here. */
static inline bool packet_hop(struct packet *p)
{
    uint8_t *ttl = p->data + (p->v6 ? 7 : 8);
    if (*ttl <= 1)
        return false;
    if (!p->v6) {
        uint8_t old[2] = {p->data[8], p->data[9]}, new[2] = {(uint8_t)(p->data[8] - 1), p->data[9]};
        checksum_adjust(p->data + 10, old, new, 2);
    }
    --*ttl;
    return true;
}

#endif
