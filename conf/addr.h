/* Transport addresses as values: IPv4 or IPv6 with a port. Copied, compared, never allocated. */
#ifndef KG_CONF_ADDR_H
#define KG_CONF_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* family AF_UNSPEC (all zero) means "none". v4-mapped IPv6 never occurs: kg_addr_from_sockaddr unmaps. */
struct kg_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
};

/* Longest text: "[ffff:...:ffff%12345]:65535" and NUL. */
#define KG_ADDR_STR 80

/* "192.0.2.1:5060", "[2001:db8::1]:5060", also without a port (port 0). Numeric only, never DNS.
 * Returns 0, or EINVAL and *out untouched. */
int kg_addr_parse(const char *text, struct kg_addr *out);
/* A bare host ("192.0.2.1", "2001:db8::1", "[2001:db8::1]") and a port. Returns 0 or EINVAL. */
int kg_addr_parse_host(const char *host, uint16_t port, struct kg_addr *out);
/* Unmaps v4-mapped addresses. Other families give "none". */
struct kg_addr kg_addr_from_sockaddr(const struct sockaddr *sa);

/* "192.0.2.1:5060" or "[::1]:5060"; "none" for AF_UNSPEC. Both return buf. */
char *kg_addr_format(const struct kg_addr *addr, char buf[static KG_ADDR_STR]);
/* The host without brackets or port. */
char *kg_addr_format_host(const struct kg_addr *addr, char buf[static KG_ADDR_STR]);

static inline int kg_addr_family(const struct kg_addr *addr)
{
    return addr->sa.sa_family;
}
static inline bool kg_addr_is_set(const struct kg_addr *addr)
{
    return addr->sa.sa_family != AF_UNSPEC;
}
uint16_t kg_addr_port(const struct kg_addr *addr); /* host order */
void kg_addr_set_port(struct kg_addr *addr, uint16_t port);
socklen_t kg_addr_len(const struct kg_addr *addr); /* of the sockaddr; 0 for none */

bool kg_addr_equal(const struct kg_addr *a, const struct kg_addr *b); /* host and port; none equals none */
bool kg_addr_same_host(const struct kg_addr *a,
                       const struct kg_addr *b); /* host only; none is nobody's host */

bool kg_addr_is_any(const struct kg_addr *addr);       /* 0.0.0.0, :: */
bool kg_addr_is_loopback(const struct kg_addr *addr);  /* 127/8, ::1 */
bool kg_addr_is_multicast(const struct kg_addr *addr); /* also 255.255.255.255 */
/* RFC 1918, 100.64/10 (RFC 6598), 169.254/16, fc00::/7, fe80::/10, loopback: not reachable from the Internet.
 */
bool kg_addr_is_private(const struct kg_addr *addr);
/* A unicast address and a port that packets may be sent to: set, not any, not multicast, 0/8 or port 0. */
bool kg_addr_is_usable(const struct kg_addr *addr);

/* A network: "198.51.100.0/24", "2001:db8::/32", or one host without "/". Bits beyond the prefix are cleared.
 * Returns 0, or EINVAL and *out untouched. */
struct kg_net {
    struct kg_addr addr; /* port 0 */
    uint8_t bits;
};
int kg_net_parse(const char *text, struct kg_net *out);
bool kg_net_has(const struct kg_net *net, const struct kg_addr *addr);
#define KG_NET_STR (KG_ADDR_STR + 4)
char *kg_net_format(const struct kg_net *net, char buf[static KG_NET_STR]);

/* The local address the kernel would send from to reach `remote` (port 0). Returns 0 or an errno. */
int kg_addr_local_for(const struct kg_addr *remote, struct kg_addr *out);

#endif
