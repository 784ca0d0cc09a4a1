/* Listeners: each configured one becomes a transport of nta for each local address it covers. */
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include <sofia-sip/tport_tag.h>

#include "b2bua/sip/stack.h"
#include "b2bua/sip/streams.h"

#define UDP_BUFFER_BYTES (4 * 1024 * 1024)
#define SEND_QUEUE       1024
#define MESSAGE_TIMEOUT  10000 /* ms; the edge's own deadline comes first */

static tport_t *find_tport(nta_agent_t *agent, const char *ident)
{
    for (tport_t *tp = tport_primaries(nta_agent_tports(agent)); tp; tp = tport_next(tp))
        if (tport_ident(tp) && strcmp(tport_ident(tp), ident) == 0)
            return tp;
    return NULL;
}

/* "sip:192.0.2.1:5060;transport=udp"; with sip.advertise the public host, and maddr what is really bound.
 * Streams are all bound as "tcp": streams.c gives TLS, WS and WSS their names. */
static void bind_url(const struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *addr,
                     char *out, size_t size)
{
    const struct kg_addr *advertise = &sip->config.sip.advertise;
    struct kg_addr shown = *addr;
    char text[KG_ADDR_STR], host[KG_ADDR_STR], maddr[KG_ADDR_STR + 16] = "";
    if (kg_addr_is_set(advertise) && kg_addr_family(advertise) == kg_addr_family(addr) &&
        !kg_addr_is_loopback(addr)) {
        shown = *advertise;
        kg_addr_set_port(&shown, kg_addr_port(addr));
        bool v6 = kg_addr_family(addr) == AF_INET6;
        snprintf(maddr, sizeof maddr, ";maddr=%s%s%s", v6 ? "[" : "", kg_addr_format_host(addr, host),
                 v6 ? "]" : "");
    }
    snprintf(out, size, "sip:%s%s;transport=%s", kg_addr_format(&shown, text), maddr,
             transport == KG_UDP ? "udp" : "tcp");
}

/* Creates an nta transport on addr (port set) and appends it to locals. 0 or an errno. */
static int add_local(struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *addr)
{
    if (sip->local_count == KG_SIP_LOCALS_MAX)
        return ENOSPC;
    char url[2 * KG_ADDR_STR + 64], ident[KG_SIP_IDENT];
    bind_url(sip, transport, addr, url, sizeof url);
    /* Every transport has a name: NTATAG_TPORT of a primary selects by it. */
    snprintf(ident, sizeof ident, "k%u", (unsigned)sip->local_count & 0xfff);
    kg_streams_bind_as(transport);
    errno = 0;
    int failed = nta_agent_add_tport(
        sip->agent, (const url_string_t *)url, TPTAG_IDENT(ident), TPTAG_UDP_RMEM(UDP_BUFFER_BYTES),
        TPTAG_UDP_WMEM(UDP_BUFFER_BYTES), TPTAG_QUEUESIZE(SEND_QUEUE), TPTAG_IDLE(UINT_MAX),
        TPTAG_TIMEOUT(MESSAGE_TIMEOUT), TPTAG_PONG2PING(1), TPTAG_SDWN_ERROR(1), TPTAG_LOG(0), TAG_END());
    if (failed)
        return errno ? errno : EINVAL;
    tport_t *tport = find_tport(sip->agent, ident);
    if (!tport)
        return EPROTO;
    sip->locals[sip->local_count++] = (struct kg_local){transport, *addr, tport};
    return 0;
}

struct kg_local *kg_sip_local(struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *addr)
{
    struct kg_local *fallback = NULL;
    for (size_t i = 0; i < sip->local_count; i++) {
        struct kg_local *local = &sip->locals[i];
        if (local->transport != transport || kg_addr_family(&local->addr) != kg_addr_family(addr))
            continue;
        if (kg_addr_same_host(&local->addr, addr) &&
            (kg_addr_port(addr) == 0 || kg_addr_port(addr) == kg_addr_port(&local->addr)))
            return local;
        if (!fallback)
            fallback = local;
    }
    return fallback;
}

static bool have_local(const struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *addr)
{
    for (size_t i = 0; i < sip->local_count; i++)
        if (sip->locals[i].transport == transport && kg_addr_equal(&sip->locals[i].addr, addr))
            return true;
    return false;
}

static int explain(const struct kg_endpoint *at, int failed, char *error, size_t size)
{
    char text[KG_ADDR_STR];
    const char *name = kg_transport_name(at->transport);
    kg_addr_format(&at->addr, text);
    switch (failed) {
    case EADDRINUSE:
        snprintf(error, size,
                 "kedge cannot listen on %s:%s: the port is in use by another program (another SIP server?). "
                 "Find it "
                 "with `ss -lpn 'sport = :%u'`, stop it, or change sip.listen.",
                 name, text, (unsigned)kg_addr_port(&at->addr));
        break;
    case EADDRNOTAVAIL:
        snprintf(error, size,
                 "kedge cannot listen on %s:%s: this machine does not have that address. Correct sip.listen "
                 "(`ip addr` shows the addresses).",
                 name, text);
        break;
    case EACCES:
        snprintf(error, size,
                 "kedge cannot listen on %s:%s: not permitted. Ports below 1024 need root or "
                 "CAP_NET_BIND_SERVICE.",
                 name, text);
        break;
    default:
        snprintf(error, size, "kedge cannot listen on %s:%s: %s.", name, text, strerror(failed));
    }
    return failed;
}

/* Link-local IPv6 addresses are left out: a SIP header has no place for their zone. */
static bool is_offered(const struct kg_addr *addr)
{
    return !(kg_addr_family(addr) == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr));
}

/* 0.0.0.0 and :: as one transport for each address of that family, so that answers leave from the address
 * that was asked, and Via and Contact are right on a host with several networks. */
static int add_all(struct kg_sip *sip, const struct kg_endpoint *at, const struct ifaddrs *interfaces)
{
    int added = 0;
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || i->ifa_addr->sa_family != kg_addr_family(&at->addr))
            continue;
        struct kg_addr addr = kg_addr_from_sockaddr(i->ifa_addr);
        kg_addr_set_port(&addr, kg_addr_port(&at->addr));
        if (!is_offered(&addr))
            continue;
        int failed = have_local(sip, at->transport, &addr) ? 0 : add_local(sip, at->transport, &addr);
        if (failed)
            return failed;
        added++;
    }
    return added ? 0 : EADDRNOTAVAIL;
}

/* A listener for browsers has a transport of both kinds: behind an HTTPS proxy a page says WSS (in its Via)
 * on a plain connection. */
static int add_transports(struct kg_sip *sip, const struct kg_endpoint *at, const struct ifaddrs *interfaces)
{
    static const enum kg_transport web[] = {KG_WS, KG_WSS};
    bool is_web = kg_transport_is_web(at->transport);
    int failed = 0;
    for (size_t i = 0; !failed && i < (is_web ? 2 : 1); i++) {
        struct kg_endpoint one = {is_web ? web[i] : at->transport, at->addr};
        failed = kg_addr_is_any(&one.addr)                   ? add_all(sip, &one, interfaces)
                 : have_local(sip, one.transport, &one.addr) ? 0
                                                             : add_local(sip, one.transport, &one.addr);
    }
    return failed;
}

static int add_listener(struct kg_sip *sip, const struct kg_endpoint *configured,
                        const struct ifaddrs *interfaces, char *error, size_t size)
{
    struct kg_endpoint at = *configured;
    int failed = 0;
    if (!is_offered(&at.addr)) {
        char text[KG_ADDR_STR];
        snprintf(error, size,
                 "kedge cannot listen on the link-local address %s: SIP has no way to name it. Use a global "
                 "or unique "
                 "local (fd00::/8) address in sip.listen.",
                 kg_addr_format(&at.addr, text));
        return EINVAL;
    }
    if (at.transport != KG_UDP)
        failed = kg_streams_listen(sip->streams, at.transport, &at.addr);
    if (!failed)
        failed = add_transports(sip, &at, interfaces);
    return failed ? explain(&at, failed, error, size) : 0;
}

/* agent_init_via puts a transport's name into its Via as a comment; that is nobody's business on the wire. */
static void hide_idents(struct kg_sip *sip)
{
    for (size_t i = 0; i < sip->local_count; i++) {
        sip_via_t *via = (sip_via_t *)tport_magic(sip->locals[i].tport);
        if (via)
            via->v_comment = NULL;
    }
}

int kg_sip_provide(struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *remote)
{
    struct kg_addr local;
    if (transport == KG_UDP || kg_sip_local(sip, transport, remote))
        return 0;
    if (kg_addr_local_for(remote, &local) != 0)
        return 0; /* no route now: calls will say so */
    kg_addr_set_port(&local, transport == KG_TLS ? 5061 : 5060);
    int failed = add_local(sip, transport, &local);
    hide_idents(sip);
    return failed;
}

int kg_sip_listen(struct kg_sip *sip, char *error, size_t size)
{
    const struct kg_config *config = &sip->config;
    struct ifaddrs *interfaces = NULL;
    if (getifaddrs(&interfaces) != 0)
        return errno;
    int failed = kg_streams_new(sip, &sip->streams, error, size);
    for (size_t i = 0; !failed && i < config->sip.listen_count; i++)
        failed = add_listener(sip, &config->sip.listen[i], interfaces, error, size);
    freeifaddrs(interfaces);
    if (!failed)
        hide_idents(sip);
    return failed;
}
