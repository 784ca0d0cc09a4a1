#include "conf/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "conf/digits.h"

/* Decimal digits only, no sign, no blanks, at most `max`. */
static int parse_number(const char *text, size_t len, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;

    if (len == 0 || len > 10)
        return EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return EINVAL;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > max)
        return EINVAL;
    *out = (uint32_t)value;
    return 0;
}

static struct kg_addr from_in4(struct in_addr host, uint16_t port)
{
    struct kg_addr addr = {0};

    addr.in4.sin_family = AF_INET;
    addr.in4.sin_addr = host;
    addr.in4.sin_port = htons(port);
    return addr;
}

static struct kg_addr from_in6(const struct in6_addr *host, uint16_t port, uint32_t scope)
{
    struct kg_addr addr = {0};

    if (IN6_IS_ADDR_V4MAPPED(host)) {
        struct in_addr v4;
        memcpy(&v4, &host->s6_addr[12], sizeof v4);
        return from_in4(v4, port);
    }
    addr.in6.sin6_family = AF_INET6;
    addr.in6.sin6_addr = *host;
    addr.in6.sin6_port = htons(port);
    addr.in6.sin6_scope_id = scope;
    return addr;
}

/* The host without brackets; an IPv6 zone only as an interface index (no look-up of names). */
static int parse_host(const char *host, size_t len, uint16_t port, struct kg_addr *out)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    uint32_t scope = 0;
    const char *zone = memchr(host, '%', len);

    if (zone != NULL) {
        size_t before = (size_t)(zone - host);
        if (parse_number(zone + 1, len - before - 1, UINT32_MAX, &scope) != 0)
            return EINVAL;
        len = before;
    }
    if (len == 0 || len >= sizeof text)
        return EINVAL;
    memcpy(text, host, len);
    text[len] = '\0';
    if (zone == NULL && inet_pton(AF_INET, text, &v4) == 1)
        *out = from_in4(v4, port);
    else if (inet_pton(AF_INET6, text, &v6) == 1)
        *out = from_in6(&v6, port, scope);
    else
        return EINVAL;
    return 0;
}

int kg_addr_parse(const char *text, struct kg_addr *out)
{
    const char *host = text, *end = text + strlen(text), *port_text = NULL;
    const char *host_end = end;
    uint32_t port = 0;

    if (text[0] == '[') {
        host = text + 1;
        host_end = strchr(host, ']');
        if (host_end == NULL || memchr(host, ':', (size_t)(host_end - host)) == NULL)
            return EINVAL;
        if (host_end[1] == ':')
            port_text = host_end + 2;
        else if (host_end[1] != '\0')
            return EINVAL;
    } else {
        const char *colon = strchr(text, ':');
        /* One colon separates a port; more than one is IPv6 without brackets and so without a port. */
        if (colon != NULL && strchr(colon + 1, ':') == NULL) {
            host_end = colon;
            port_text = colon + 1;
        }
    }
    if (port_text != NULL && parse_number(port_text, (size_t)(end - port_text), UINT16_MAX, &port) != 0)
        return EINVAL;
    return parse_host(host, (size_t)(host_end - host), (uint16_t)port, out);
}

int kg_addr_parse_host(const char *host, uint16_t port, struct kg_addr *out)
{
    size_t len = strlen(host);

    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        if (memchr(host, ':', len) == NULL)
            return EINVAL;
        return parse_host(host + 1, len - 2, port, out);
    }
    return parse_host(host, len, port, out);
}

struct kg_addr kg_addr_from_sockaddr(const struct sockaddr *sa)
{
    struct kg_addr none = {0};

    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, sa, sizeof in4);
        return from_in4(in4.sin_addr, ntohs(in4.sin_port));
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        return from_in6(&in6.sin6_addr, ntohs(in6.sin6_port), in6.sin6_scope_id);
    }
    return none;
}

/* Returns the end of the text. No printf: a call formats some twenty addresses. */
static char *put_host(const struct kg_addr *addr, char *out)
{
    if (addr->sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &addr->in6.sin6_addr, out, INET6_ADDRSTRLEN);
        out += strlen(out);
        if (addr->in6.sin6_scope_id != 0) {
            *out++ = '%';
            out += kg_decimal(out, addr->in6.sin6_scope_id);
        }
        return out;
    }
    const uint8_t *byte = (const uint8_t *)&addr->in4.sin_addr;
    for (int i = 0; i < 4; i++) {
        if (i > 0)
            *out++ = '.';
        out += kg_decimal(out, byte[i]);
    }
    return out;
}

char *kg_addr_format_host(const struct kg_addr *addr, char buf[static KG_ADDR_STR])
{
    if (kg_addr_is_set(addr))
        *put_host(addr, buf) = '\0';
    else
        memcpy(buf, "none", sizeof "none");
    return buf;
}

char *kg_addr_format(const struct kg_addr *addr, char buf[static KG_ADDR_STR])
{
    bool brackets = addr->sa.sa_family == AF_INET6;
    char *end = buf;

    if (!kg_addr_is_set(addr))
        return memcpy(buf, "none", sizeof "none");
    if (brackets)
        *end++ = '[';
    end = put_host(addr, end);
    if (brackets)
        *end++ = ']';
    *end++ = ':';
    end[kg_decimal(end, kg_addr_port(addr))] = '\0';
    return buf;
}

uint16_t kg_addr_port(const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return ntohs(addr->in4.sin_port);
    if (addr->sa.sa_family == AF_INET6)
        return ntohs(addr->in6.sin6_port);
    return 0;
}

void kg_addr_set_port(struct kg_addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET)
        addr->in4.sin_port = htons(port);
    else if (addr->sa.sa_family == AF_INET6)
        addr->in6.sin6_port = htons(port);
}

socklen_t kg_addr_len(const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return sizeof addr->in4;
    if (addr->sa.sa_family == AF_INET6)
        return sizeof addr->in6;
    return 0;
}

bool kg_addr_same_host(const struct kg_addr *a, const struct kg_addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
    if (a->sa.sa_family == AF_INET6)
        return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr) &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id;
    return false;
}

bool kg_addr_equal(const struct kg_addr *a, const struct kg_addr *b)
{
    if (!kg_addr_is_set(a) && !kg_addr_is_set(b))
        return true;
    return kg_addr_same_host(a, b) && kg_addr_port(a) == kg_addr_port(b);
}

static uint32_t host4(const struct kg_addr *addr)
{
    return ntohl(addr->in4.sin_addr.s_addr);
}

bool kg_addr_is_any(const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return host4(addr) == INADDR_ANY;
    return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr);
}

bool kg_addr_is_loopback(const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return host4(addr) >> 24 == 127;
    return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&addr->in6.sin6_addr);
}

bool kg_addr_is_multicast(const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return host4(addr) >> 28 == 0xe || host4(addr) == INADDR_BROADCAST;
    return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_MULTICAST(&addr->in6.sin6_addr);
}

bool kg_addr_is_private(const struct kg_addr *addr)
{
    static const struct {
        uint32_t prefix;
        unsigned bits;
    } ranges[] = {
        {0x0a000000, 8},  /* 10/8, RFC 1918 */
        {0xac100000, 12}, /* 172.16/12 */
        {0xc0a80000, 16}, /* 192.168/16 */
        {0x64400000, 10}, /* 100.64/10, RFC 6598 */
        {0xa9fe0000, 16}, /* 169.254/16, RFC 3927 */
    };

    if (kg_addr_is_loopback(addr))
        return true;
    if (addr->sa.sa_family == AF_INET6)
        return (addr->in6.sin6_addr.s6_addr[0] & 0xfe) == 0xfc || IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr);
    if (addr->sa.sa_family != AF_INET)
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if ((host4(addr) ^ ranges[i].prefix) >> (32 - ranges[i].bits) == 0)
            return true;
    return false;
}

bool kg_addr_is_usable(const struct kg_addr *addr)
{
    if (!kg_addr_is_set(addr) || kg_addr_port(addr) == 0 || kg_addr_is_any(addr) ||
        kg_addr_is_multicast(addr))
        return false;
    return addr->sa.sa_family != AF_INET || host4(addr) >> 24 != 0;
}

int kg_addr_local_for(const struct kg_addr *remote, struct kg_addr *out)
{
    struct sockaddr_storage local = {0};
    socklen_t len = sizeof local;
    struct kg_addr to = *remote;
    int error = 0;
    int fd = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    if (kg_addr_port(&to) == 0)
        kg_addr_set_port(&to, 9); /* connecting a datagram socket sends nothing */
    if (connect(fd, &to.sa, kg_addr_len(&to)) != 0 || getsockname(fd, (struct sockaddr *)&local, &len) != 0)
        error = errno;
    close(fd);
    if (error != 0)
        return error;
    *out = kg_addr_from_sockaddr((const struct sockaddr *)&local);
    kg_addr_set_port(out, 0);
    return 0;
}
