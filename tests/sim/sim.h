/* What every part of the simulation shares: addresses as numbers and randomness by hashing. */
#ifndef KG_TESTS_SIM_H
#define KG_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

/* A transport address of the simulated world: bits 0-15 port, 16-47 host, 48 set for IPv6 (2001:db8::host).
 * 0: none. */
typedef uint64_t sim_addr;
#define SIM_V6 ((uint64_t)1 << 32) /* in a host as sim_host() gives it */

static inline sim_addr sim_addr_make(uint64_t host, uint16_t port)
{
    return host << 16 | port;
}
static inline uint64_t sim_host(sim_addr addr)
{
    return addr >> 16;
}
static inline uint16_t sim_port(sim_addr addr)
{
    return (uint16_t)addr;
}
static inline bool sim_is_v6(sim_addr addr)
{
    return addr >> 48 & 1;
}
struct kg_addr sim_to_kg(sim_addr addr);
sim_addr sim_from_kg(const struct kg_addr *addr); /* 0: not an address of this world */
char *sim_addr_text(sim_addr addr, char buf[static KG_ADDR_STR]);

/* splitmix64's finalizer. */
static inline uint64_t sim_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}
static inline uint64_t sim_hash(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return sim_mix(a ^ sim_mix(b ^ sim_mix(c ^ sim_mix(d))));
}

struct sim_random {
    uint64_t state;
};
static inline uint64_t sim_next(struct sim_random *random)
{
    return sim_mix(random->state++ * 0xD1342543DE82EF95u);
}
/* 0..n-1 */
static inline uint32_t sim_below(struct sim_random *random, uint32_t n)
{
    return (uint32_t)((sim_next(random) >> 32) * n >> 32);
}
static inline bool sim_chance(struct sim_random *random, uint32_t percent)
{
    return sim_below(random, 100) < percent;
}
void sim_random_bytes(void *ctx, void *out, size_t len); /* ctx: struct sim_random; as agent.h wants it */

#endif
