#include "ice/agent/target.h"

#include <arpa/inet.h>
#include <string.h>

static const struct {
    const char *reason;
    bool if_heard;
} table[] = {
    [KG_TARGET_ALLOWED] = {NULL, true},
    [KG_TARGET_PRIVATE] = {"never asked: private, and not of the phone's own network", true},
    [KG_TARGET_LINK_LOCAL] = {"never asked: link-local, and the phone is not on that link", true},
    [KG_TARGET_LOOPBACK] = {"never asked: loopback is this machine itself", false},
    [KG_TARGET_OURS] = {"never asked: an address of kedge's own or of the PBX", false},
};

const char *kg_ice_target_reason(enum kg_ice_target target)
{
    return table[target].reason;
}

bool kg_ice_target_if_heard(enum kg_ice_target target)
{
    return table[target].if_heard;
}

/* RFC 6052 2.2 (well-known prefix only: others are a network's own), RFC 3056 2, RFC 4291 2.5.5.1. */
static struct kg_addr meant(const struct kg_addr *addr)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}, none[12] = {0};
    const uint8_t *byte, *in4 = NULL;
    struct kg_addr out = *addr;

    if (kg_addr_family(addr) != AF_INET6 || kg_addr_is_loopback(addr) || kg_addr_is_any(addr))
        return out;
    byte = addr->in6.sin6_addr.s6_addr;
    if (memcmp(byte, nat64, sizeof nat64) == 0 || memcmp(byte, none, sizeof none) == 0)
        in4 = byte + 12;
    else if (byte[0] == 0x20 && byte[1] == 0x02)
        in4 = byte + 2;
    if (in4 == NULL)
        return out;
    out = (struct kg_addr){.in4 = {.sin_family = AF_INET, .sin_port = addr->in6.sin6_port}};
    memcpy(&out.in4.sin_addr, in4, sizeof out.in4.sin_addr);
    return out;
}

enum range { PUBLIC, LINK, TEN, CARRIER, MIDDLE, SMALL, UNIQUE_LOCAL };

/* Of what is no loopback. */
static enum range range_of(const struct kg_addr *addr)
{
    if (!kg_addr_is_private(addr))
        return PUBLIC;
    if (kg_addr_family(addr) == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr) ? LINK : UNIQUE_LOCAL;
    switch (ntohl(addr->in4.sin_addr.s_addr) >> 24) {
    case 169:
        return LINK;
    case 10:
        return TEN;
    case 100:
        return CARRIER;
    case 172:
        return MIDDLE;
    default:
        return SMALL;
    }
}

static bool is_avoided(const struct kg_ice_targets *targets, const struct kg_addr *addr)
{
    for (size_t i = 0; i < 2; i++)
        if (kg_addr_same_host(&targets->ours[i], addr))
            return true;
    for (size_t i = 0; i < targets->avoid_count; i++)
        if (kg_addr_same_host(&targets->avoid[i], addr))
            return true;
    return false;
}

enum kg_ice_target kg_ice_target(const struct kg_ice_targets *targets, const struct kg_addr *addr)
{
    struct kg_addr to = meant(addr);
    const struct kg_addr *peer = &targets->peer;

    /* Who is on this machine needs nobody to send for him. */
    if (!kg_addr_is_set(peer) || kg_addr_is_loopback(peer) || kg_addr_same_host(peer, &to))
        return KG_TARGET_ALLOWED;
    if (kg_addr_is_loopback(&to))
        return KG_TARGET_LOOPBACK;
    if (is_avoided(targets, &to))
        return KG_TARGET_OURS;
    enum range range = range_of(&to);
    if (range == PUBLIC || range == range_of(peer))
        return KG_TARGET_ALLOWED;
    if (range == LINK)
        return KG_TARGET_LINK_LOCAL;
    /* A phone of two families in one network: which ranges go together is not known. */
    if (kg_addr_family(peer) != kg_addr_family(&to) && kg_addr_is_private(peer))
        return KG_TARGET_ALLOWED;
    return KG_TARGET_PRIVATE;
}
