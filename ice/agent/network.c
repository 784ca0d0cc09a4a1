#include "ice/agent/network.h"

#include <ctype.h>
#include <string.h>

/* Names of interfaces, by how they begin; # is a hexadecimal digit. */
static const struct {
    const char *prefix;
    const char *reason;
} useless_names[] = {
    {"docker", "a bridge of Docker: its addresses exist on this host only"},
    {"br-############", "a bridge of Docker: its addresses exist on this host only"},
    {"podman", "a bridge of Podman: its addresses exist on this host only"},
    {"cni", "a bridge of containers: its addresses exist on this host only"},
    {"flannel", "an overlay network of containers"},
    {"cali", "an overlay network of containers"},
    {"kube", "an overlay network of containers"},
    {"weave", "an overlay network of containers"},
    {"veth", "one end of a container's cable"},
    {"lxc", "a bridge of containers: its addresses exist on this host only"},
    {"lxd", "a bridge of containers: its addresses exist on this host only"},
    {"virbr", "a bridge of virtual machines: its addresses exist on this host only"},
    {"vnet", "a cable of a virtual machine"},
    {"vmnet", "a network of virtual machines on this host only"},
    {"vboxnet", "a network of virtual machines on this host only"},
    {"tun", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"tap", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"utun", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"wg", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"tailscale", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"zt", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"ipsec", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"vti", "a tunnel of a VPN: a detour, and its peers cannot be reached by others"},
    {"gre", "a tunnel"},
    {"sit", "a tunnel of IPv6 over IPv4"},
    {"ip6tnl", "a tunnel over IPv6"},
    {"teredo", "a Teredo tunnel: the path through its relay is slow and often broken"},
    {"dummy", "an interface that leads nowhere"},
    {"ifb", "an interface that leads nowhere"},
};

/* Ranges of addresses (RFC 8445 5.1.1.1 and the RFCs beside the rows). */
static const struct {
    int family;
    uint8_t prefix[16];
    uint8_t bits;
    const char *reason;
} useless_ranges[] = {
    {AF_INET, {0}, 8, "not an address"},
    {AF_INET, {127}, 8, "loopback: exists on this host only"},
    {AF_INET, {169, 254}, 16, "link-local: nobody behind a router can reach it"},  /* RFC 3927 */
    {AF_INET, {192, 0, 0}, 29, "the inside of DS-Lite: exists on this host only"}, /* RFC 6333 5.7 */
    {AF_INET6, {[15] = 1}, 128, "loopback: exists on this host only"},
    {AF_INET6, {0}, 96, "an IPv4-compatible address, which is deprecated"}, /* RFC 4291 2.5.5.1 */
    {AF_INET6, {[10] = 0xff, [11] = 0xff}, 96, "an IPv4-mapped address"},
    {AF_INET6, {0xfe, 0x80}, 10, "link-local: nobody behind a router can reach it"},
    {AF_INET6, {0xfe, 0xc0}, 10, "site-local, which is deprecated"},     /* RFC 3879 */
    {AF_INET6, {0x20, 0x02}, 16, "a 6to4 address: its relays are gone"}, /* RFC 7526 */
    {AF_INET6,
     {0x20, 0x01, 0, 0},
     32,
     "a Teredo address: the path through its relay is slow and often broken"},
    {AF_INET6, {0x20, 0x01, 0, 0x10}, 28, "an identifier (ORCHID), not an address"},   /* RFC 4843 */
    {AF_INET6, {0x20, 0x01, 0, 0x20}, 28, "an identifier (ORCHIDv2), not an address"}, /* RFC 7343 */
};

/* Point-to-point links that lead to the Internet itself: PPPoE and mobile modems. */
static const char *const uplinks[] = {"ppp", "wwan", "rmnet", "wwp", "usb"};

static bool begins(const char *name, const char *prefix)
{
    for (; *prefix != '\0'; name++, prefix++)
        if (*prefix == '#' ? !isxdigit((unsigned char)*name) : *name != *prefix)
            return false;
    return true;
}

static bool in_range(const struct kg_addr *addr, size_t row)
{
    const uint8_t *host = (const uint8_t *)&addr->in4.sin_addr;
    unsigned bits = useless_ranges[row].bits;

    if (addr->sa.sa_family != useless_ranges[row].family)
        return false;
    if (addr->sa.sa_family == AF_INET6)
        host = addr->in6.sin6_addr.s6_addr;
    if (memcmp(host, useless_ranges[row].prefix, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return rest == 0 || ((host[bits / 8] ^ useless_ranges[row].prefix[bits / 8]) & mask) == 0;
}

const char *kg_network_useless(const struct kg_network *network)
{
    if (!network->up)
        return "the interface is down";
    if (!kg_addr_is_set(&network->addr))
        return "has no address";
    if (kg_addr_is_multicast(&network->addr))
        return "a multicast address";
    for (size_t i = 0; i < sizeof useless_ranges / sizeof useless_ranges[0]; i++)
        if (in_range(&network->addr, i))
            return useless_ranges[i].reason;
    for (size_t i = 0; i < sizeof useless_names / sizeof useless_names[0]; i++)
        if (begins(network->name, useless_names[i].prefix))
            return useless_names[i].reason;
    for (size_t i = 0; network->point_to_point && i < sizeof uplinks / sizeof uplinks[0]; i++)
        if (begins(network->name, uplinks[i]))
            return NULL;
    return network->point_to_point ? "a point-to-point tunnel" : NULL;
}

/* The next network of that family that has no preference yet: useful ones in the order given, then others. */
static size_t next_of(const struct kg_network *network, size_t count, const uint16_t *out, bool v6,
                      bool useless)
{
    for (size_t i = 0; i < count; i++)
        if (out[i] == 0 && (kg_addr_family(&network[i].addr) == AF_INET6) == v6 &&
            (kg_network_useless(&network[i]) != NULL) == useless)
            return i;
    return count;
}

void kg_network_preferences(const struct kg_network *network, size_t count, uint16_t *out)
{
    uint16_t preference = UINT16_MAX;

    memset(out, 0, count * sizeof *out);
    for (int useless = 0; useless <= 1; useless++) {
        size_t total = 0, v4 = 0, v4_placed = 0;
        for (size_t i = 0; i < count; i++)
            if ((kg_network_useless(&network[i]) != NULL) == (useless == 1)) {
                total++;
                v4 += kg_addr_family(&network[i].addr) != AF_INET6;
            }
        /* RFC 8421 4: IPv6 first, IPv4 spread evenly among it, so that a broken family costs one check. */
        for (size_t k = 0; k < total && preference > 0; k++) {
            bool v6 = v4_placed >= (k + 1) * v4 / total;
            size_t i = next_of(network, count, out, v6, useless == 1);
            if (i == count)
                return;
            out[i] = preference--;
            v4_placed += !v6;
        }
    }
}
