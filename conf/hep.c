#include "conf/hep.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/bytes.h"

/* Chunks of vendor 0 (HEP3 specification, section 3.2): id, and each is a vendor, an id, a length with these
 * six bytes, a value. */
enum {
    FAMILY = 0x01,
    PROTOCOL = 0x02,
    SOURCE4 = 0x03,
    DESTINATION4 = 0x04,
    SOURCE6 = 0x05,
    DESTINATION6 = 0x06,
    SOURCE_PORT = 0x07,
    DESTINATION_PORT = 0x08,
    SECONDS = 0x09,
    MICROSECONDS = 0x0a,
    KIND = 0x0b,
    AGENT = 0x0c,
    PAYLOAD = 0x0f,
    CORRELATION = 0x11,
};
#define CHUNK 6 /* bytes before a value */
#define HEAD  6 /* "HEP3" and the length of all */
/* Families and protocols are those of IP and of Linux: 2, 10; 6, 17. */
#define IPV4 2
#define IPV6 10

static const uint8_t magic[] = {'H', 'E', 'P', '3'};

struct writer {
    uint8_t *out;
    size_t len;
};

static void put(struct writer *w, uint16_t id, const void *value, size_t len)
{
    uint8_t *at = w->out + w->len;
    kg_write16(at, 0);
    kg_write16(at + 2, id);
    kg_write16(at + 4, (uint16_t)(CHUNK + len));
    memcpy(at + CHUNK, value, len);
    w->len += CHUNK + len;
}

static void put8(struct writer *w, uint16_t id, uint8_t value)
{
    put(w, id, &value, 1);
}

static void put16(struct writer *w, uint16_t id, uint16_t value)
{
    uint8_t text[2];
    kg_write16(text, value);
    put(w, id, text, sizeof text);
}

static void put32(struct writer *w, uint16_t id, uint32_t value)
{
    uint8_t text[4];
    kg_write32(text, value);
    put(w, id, text, sizeof text);
}

static void put_addr(struct writer *w, const struct kg_addr *addr, uint16_t id4, uint16_t id6)
{
    if (kg_addr_family(addr) == AF_INET6)
        put(w, id6, &addr->in6.sin6_addr, 16);
    else
        put(w, id4, &addr->in4.sin_addr, 4);
}

size_t kg_hep_encode(const struct kg_hep_packet *packet, uint32_t agent, uint8_t *out, size_t size)
{
    struct writer w = {.out = out, .len = HEAD};
    if (size < KG_HEP_HEAD_MAX)
        return 0;
    bool ipv6 = kg_addr_family(&packet->source) == AF_INET6;
    put8(&w, FAMILY, ipv6 ? IPV6 : IPV4);
    put8(&w, PROTOCOL, packet->tcp ? IPPROTO_TCP : IPPROTO_UDP);
    put_addr(&w, &packet->source, SOURCE4, SOURCE6);
    put_addr(&w, &packet->destination, DESTINATION4, DESTINATION6);
    put16(&w, SOURCE_PORT, kg_addr_port(&packet->source));
    put16(&w, DESTINATION_PORT, kg_addr_port(&packet->destination));
    put32(&w, SECONDS, (uint32_t)(packet->wall_us / 1000000));
    put32(&w, MICROSECONDS, (uint32_t)(packet->wall_us % 1000000));
    put8(&w, KIND, (uint8_t)packet->kind);
    put32(&w, AGENT, agent);
    if (packet->correlation)
        put(&w, CORRELATION, packet->correlation, strnlen(packet->correlation, KG_HEP_CORRELATION_MAX));
    size_t room = (size < KG_HEP_MAX ? size : KG_HEP_MAX) - w.len - CHUNK;
    put(&w, PAYLOAD, packet->payload, packet->len < room ? packet->len : room);
    memcpy(out, magic, sizeof magic);
    kg_write16(out + 4, (uint16_t)w.len);
    return w.len;
}

int kg_hep_open(const struct kg_addr *server)
{
    int fd = socket(kg_addr_family(server), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &server->sa, kg_addr_len(server))) {
        close(fd);
        return -1;
    }
    return fd;
}
