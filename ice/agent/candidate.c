#include "ice/agent/candidate.h"

#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {
    [KG_CANDIDATE_HOST] = "host",
    [KG_CANDIDATE_SRFLX] = "srflx",
    [KG_CANDIDATE_PRFLX] = "prflx",
    [KG_CANDIDATE_RELAY] = "relay",
};

const char *kg_candidate_type_name(enum kg_candidate_type type)
{
    return (unsigned)type < sizeof type_names / sizeof type_names[0] ? type_names[type] : "?";
}

uint32_t kg_candidate_priority(enum kg_candidate_type type, uint16_t local_preference, uint8_t component)
{
    /* RFC 8445 5.1.2.2 */
    static const uint8_t type_preference[] = {
        [KG_CANDIDATE_HOST] = 126,
        [KG_CANDIDATE_PRFLX] = 110,
        [KG_CANDIDATE_SRFLX] = 100,
        [KG_CANDIDATE_RELAY] = 0,
    };
    return (uint32_t)type_preference[type] << 24 | (uint32_t)local_preference << 8 | (256u - component);
}

uint64_t kg_pair_priority(uint32_t controlling, uint32_t controlled)
{
    uint64_t low = controlling < controlled ? controlling : controlled;
    uint64_t high = controlling < controlled ? controlled : controlling;
    return (low << 32) + 2 * high + (controlling > controlled ? 1 : 0);
}

/* FNV-1a, 32 bits. */
static uint32_t hash_bytes(uint32_t hash, const void *data, size_t len)
{
    const uint8_t *byte = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ byte[i]) * 16777619u;
    return hash;
}

static uint32_t hash_host(uint32_t hash, const struct kg_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return hash_bytes(hash, &addr->in4.sin_addr, sizeof addr->in4.sin_addr);
    if (addr->sa.sa_family == AF_INET6)
        return hash_bytes(hash, &addr->in6.sin6_addr, sizeof addr->in6.sin6_addr);
    return hash_bytes(hash, "", 1);
}

void kg_candidate_foundation(enum kg_candidate_type type, const struct kg_addr *base,
                             const struct kg_addr *server, char out[static KG_ICE_FOUNDATION_MAX + 1])
{
    uint8_t kind = (uint8_t)type;
    uint32_t hash = hash_bytes(2166136261u, &kind, 1);

    hash = hash_host(hash, base);
    if (server != NULL)
        hash = hash_host(hash, server);
    else
        hash = hash_bytes(hash, "", 1);
    snprintf(out, KG_ICE_FOUNDATION_MAX + 1, "%u", hash);
}

/* ice-char = ALPHA / DIGIT / "+" / "/" (RFC 8839 5.1) */
static bool is_ice_chars(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '+' && c != '/')
            return false;
    }
    return true;
}

bool kg_ice_is_ufrag(const char *text, size_t len)
{
    return len >= KG_ICE_UFRAG_MIN && len <= KG_ICE_CREDENTIAL_MAX && is_ice_chars(text, len);
}

bool kg_ice_is_pwd(const char *text, size_t len)
{
    return len >= KG_ICE_PWD_MIN && len <= KG_ICE_CREDENTIAL_MAX && is_ice_chars(text, len);
}
