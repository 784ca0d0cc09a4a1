#include "tests/sim/sim.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t prefix[12] = {0x20, 0x01, 0x0d, 0xb8};

struct kg_addr sim_to_kg(sim_addr addr)
{
    struct kg_addr out;
    memset(&out, 0, sizeof out);
    uint32_t host = htonl((uint32_t)sim_host(addr));
    if (sim_is_v6(addr)) {
        out.in6.sin6_family = AF_INET6;
        out.in6.sin6_port = htons(sim_port(addr));
        memcpy(out.in6.sin6_addr.s6_addr, prefix, sizeof prefix);
        memcpy(out.in6.sin6_addr.s6_addr + sizeof prefix, &host, sizeof host);
    } else if (addr) {
        out.in4.sin_family = AF_INET;
        out.in4.sin_port = htons(sim_port(addr));
        out.in4.sin_addr.s_addr = host;
    }
    return out;
}

sim_addr sim_from_kg(const struct kg_addr *addr)
{
    uint32_t host;
    if (kg_addr_family(addr) == AF_INET)
        return sim_addr_make(ntohl(addr->in4.sin_addr.s_addr), ntohs(addr->in4.sin_port));
    if (kg_addr_family(addr) != AF_INET6 || memcmp(addr->in6.sin6_addr.s6_addr, prefix, sizeof prefix) != 0)
        return 0;
    memcpy(&host, addr->in6.sin6_addr.s6_addr + sizeof prefix, sizeof host);
    return sim_addr_make(SIM_V6 | ntohl(host), ntohs(addr->in6.sin6_port));
}

char *sim_addr_text(sim_addr addr, char buf[static KG_ADDR_STR])
{
    struct kg_addr kg = sim_to_kg(addr);
    return kg_addr_format(&kg, buf);
}

void sim_random_bytes(void *ctx, void *out, size_t len)
{
    for (uint8_t *at = out; len > 0;) {
        uint64_t word = sim_next(ctx);
        size_t part = len < sizeof word ? len : sizeof word;
        memcpy(at, &word, part);
        at += part;
        len -= part;
    }
}
