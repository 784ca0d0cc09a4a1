/* Candidates as values: priorities, foundations, credentials (RFC 8445 5.1, RFC 8839 5). */
#include "ice/agent/candidate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* RFC 8445 5.1.2.2 */
static const struct {
    const char *name;
    uint8_t preference;
} types[] = {
    [KG_CANDIDATE_HOST] = {"host", 126},
    [KG_CANDIDATE_SRFLX] = {"srflx", 100},
    [KG_CANDIDATE_PRFLX] = {"prflx", 110},
    [KG_CANDIDATE_RELAY] = {"relay", 0},
};

const char *kg_candidate_type_name(enum kg_candidate_type type)
{
    return types[type].name;
}

uint32_t kg_candidate_priority(enum kg_candidate_type type, uint16_t local_preference, uint8_t component)
{
    return (uint32_t)types[type].preference << 24 | (uint32_t)local_preference << 8 | (256u - component);
}

uint64_t kg_pair_priority(uint32_t controlling, uint32_t controlled)
{
    uint64_t min = controlling < controlled ? controlling : controlled;
    uint64_t max = controlling < controlled ? controlled : controlling;
    return (min << 32) + 2 * max + (controlling > controlled);
}

static uint32_t mix(uint32_t h, const void *data, size_t len) /* FNV-1a */
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < len; i++)
        h = (h ^ byte[i]) * 16777619u;
    return h;
}

static uint32_t mix_host(uint32_t h, const struct kg_addr *addr)
{
    if (kg_addr_family(addr) == AF_INET6)
        return mix(h, &addr->in6.sin6_addr, sizeof addr->in6.sin6_addr);
    return kg_addr_is_set(addr) ? mix(h, &addr->in4.sin_addr, sizeof addr->in4.sin_addr) : h;
}

void kg_candidate_foundation(enum kg_candidate_type type, const struct kg_addr *base,
                             const struct kg_addr *server, char out[static KG_ICE_FOUNDATION_MAX + 1])
{
    uint8_t kind = (uint8_t)type;
    uint32_t h = mix_host(mix(2166136261u, &kind, 1), base);
    if (server && kg_addr_is_set(server)) {
        uint16_t port = kg_addr_port(server);
        h = mix(mix_host(mix(h, "@", 1), server), &port, sizeof port);
    }
    snprintf(out, KG_ICE_FOUNDATION_MAX + 1, "%" PRIu32, h);
}

/* RFC 8839 5.1: ice-char = ALPHA / DIGIT / "+" / "/" */
static bool is_ice_text(const char *text, size_t len, size_t min, size_t max)
{
    if (len < min || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && c != '+' && c != '/')
            return false;
    }
    return true;
}

bool kg_ice_is_ufrag(const char *text, size_t len)
{
    return is_ice_text(text, len, KG_ICE_UFRAG_MIN, KG_ICE_CREDENTIAL_MAX);
}

bool kg_ice_is_pwd(const char *text, size_t len)
{
    return is_ice_text(text, len, KG_ICE_PWD_MIN, KG_ICE_CREDENTIAL_MAX);
}
