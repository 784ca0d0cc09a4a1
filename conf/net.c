/* Networks: an address and how many of its bits count. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/addr.h"

static uint8_t *bytes_of(struct kg_addr *addr, unsigned *bits)
{
    bool v6 = kg_addr_family(addr) == AF_INET6;

    *bits = v6 ? 128 : 32;
    return v6 ? addr->in6.sin6_addr.s6_addr : (uint8_t *)&addr->in4.sin_addr;
}

/* Clears what comes after the first `bits` bits. */
static void cut(struct kg_addr *addr, unsigned bits)
{
    unsigned all;
    uint8_t *bytes = bytes_of(addr, &all);

    for (unsigned i = 0; i < all / 8; i++) {
        unsigned left = bits > i * 8 ? bits - i * 8 : 0;
        if (left < 8)
            bytes[i] &= (uint8_t)(0xff00u >> left);
    }
}

int kg_net_parse(const char *text, struct kg_net *out)
{
    char host[KG_ADDR_STR];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct kg_net net = {0};
    unsigned all, bits = 0;

    if (len >= sizeof host)
        return EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    if (kg_addr_parse_host(host, 0, &net.addr) != 0)
        return EINVAL;
    bytes_of(&net.addr, &all);
    if (slash == NULL)
        bits = all;
    else if (slash[1] == '\0' || strlen(slash + 1) > 3)
        return EINVAL;
    for (const char *at = slash != NULL ? slash + 1 : ""; *at != '\0'; at++) {
        if (*at < '0' || *at > '9')
            return EINVAL;
        bits = bits * 10 + (unsigned)(*at - '0');
    }
    if (bits > all)
        return EINVAL;
    net.bits = (uint8_t)bits;
    cut(&net.addr, bits);
    *out = net;
    return 0;
}

bool kg_net_has(const struct kg_net *net, const struct kg_addr *addr)
{
    struct kg_addr host = *addr;

    if (!kg_addr_is_set(&net->addr) || kg_addr_family(&net->addr) != kg_addr_family(addr))
        return false;
    cut(&host, net->bits);
    return kg_addr_same_host(&net->addr, &host);
}

char *kg_net_format(const struct kg_net *net, char buf[static KG_NET_STR])
{
    char host[KG_ADDR_STR];

    snprintf(buf, KG_NET_STR, "%s/%u", kg_addr_format_host(&net->addr, host), (unsigned)net->bits);
    return buf;
}
