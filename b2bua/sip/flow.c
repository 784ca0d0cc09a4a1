#include "b2bua/sip/flow.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/nta_stateless.h>

#include "b2bua/sip/uri.h"
#include "conf/clock.h"

/* How long a look at the interfaces holds. */
#define NETWORKS_MS 5000

/* ---- making ---- */

static enum kg_transport transport_of(const tport_t *tport)
{
    const char *proto = tport_name(tport)->tpn_proto;
    for (enum kg_transport t = KG_UDP; t < KG_TRANSPORTS; t++)
        if (strcasecmp(proto, kg_transport_name(t)) == 0)
            return t;
    return KG_TCP;
}

static struct kg_addr bound_address(const tport_t *primary)
{
    const su_addrinfo_t *info = tport_get_address(primary);
    return info && info->ai_addr ? kg_addr_from_sockaddr(info->ai_addr) : (struct kg_addr){0};
}

/* Takes over the reference to tport. */
static int make(tport_t *tport, msg_t *msg, struct kg_flow *out)
{
    if (!tport || !msg) {
        if (tport)
            tport_unref(tport);
        return ENOTCONN;
    }
    *out = (struct kg_flow){.transport = transport_of(tport),
                            .remote = kg_addr_from_sockaddr(&msg_addr(msg)->su_sa),
                            .local = bound_address(tport_parent(tport)),
                            .tport = tport};
    return 0;
}

int kg_flow_of_incoming(nta_agent_t *agent, nta_incoming_t *irq, struct kg_flow *out)
{
    msg_t *msg = nta_incoming_getrequest(irq);
    int failed = make(nta_incoming_transport(agent, irq, NULL), msg, out);
    msg_destroy(msg);
    return failed;
}

int kg_flow_of_message(nta_agent_t *agent, msg_t *msg, struct kg_flow *out)
{
    return make(nta_incoming_transport(agent, NULL, msg), msg, out);
}

int kg_flow_to(nta_agent_t *agent, enum kg_transport transport, const struct kg_addr *remote,
               struct kg_flow *out)
{
    struct kg_addr local, best_address = {0};
    tport_t *best = NULL;
    if (kg_addr_local_for(remote, &local) != 0)
        return EHOSTUNREACH;
    for (tport_t *tp = tport_primaries(nta_agent_tports(agent)); tp; tp = tport_next(tp)) {
        struct kg_addr bound = bound_address(tp);
        if (transport_of(tp) != transport || kg_addr_family(&bound) != kg_addr_family(remote))
            continue;
        bool exact = kg_addr_same_host(&bound, &local);
        if (!best || exact) {
            best = tp;
            best_address = bound;
        }
        if (exact)
            break;
    }
    if (!best)
        return EHOSTUNREACH;
    *out = (struct kg_flow){
        .transport = transport, .remote = *remote, .local = best_address, .tport = tport_ref(best)};
    return 0;
}

static bool parse_transport(const char *name, enum kg_transport *out)
{
    for (enum kg_transport t = KG_UDP; t < KG_TRANSPORTS; t++) {
        if (strcmp(name, kg_transport_name(t)) == 0) {
            *out = t;
            return true;
        }
    }
    return false;
}

/* The UDP socket that still has this local address. */
static tport_t *find_primary(nta_agent_t *agent, const struct kg_addr *local)
{
    for (tport_t *tp = tport_primaries(nta_agent_tports(agent)); tp; tp = tport_next(tp)) {
        struct kg_addr bound = bound_address(tp);
        if (transport_of(tp) == KG_UDP && kg_addr_equal(&bound, local))
            return tp;
    }
    return NULL;
}

int kg_flow_restore(nta_agent_t *agent, const char *transport, const char *remote, const char *local,
                    struct kg_flow *out)
{
    struct kg_flow flow = {0};
    if (!parse_transport(transport, &flow.transport) || kg_addr_parse(remote, &flow.remote) ||
        kg_addr_parse(local, &flow.local))
        return EINVAL;
    if (flow.transport == KG_UDP && agent) {
        tport_t *primary = find_primary(agent, &flow.local);
        if (!primary)
            return kg_flow_to(agent, KG_UDP, &flow.remote, out);
        flow.tport = tport_ref(primary);
    }
    *out = flow;
    return 0;
}

/* ---- holding ---- */

void kg_flow_copy(struct kg_flow *to, const struct kg_flow *from)
{
    *to = *from;
    if (to->tport)
        tport_ref(to->tport);
}

void kg_flow_clear(struct kg_flow *flow)
{
    if (flow->tport)
        tport_unref(flow->tport);
    *flow = (struct kg_flow){0};
}

/* A stream is one connection; UDP is a pair of addresses. */
bool kg_flow_same(const struct kg_flow *a, const struct kg_flow *b)
{
    if (a->transport != b->transport || !kg_addr_equal(&a->remote, &b->remote) ||
        !kg_addr_equal(&a->local, &b->local))
        return false;
    return a->transport == KG_UDP || a->tport == b->tport;
}

bool kg_flow_is_up(const struct kg_flow *flow)
{
    return flow->transport == KG_UDP || (flow->tport && tport_is_clear_to_send(flow->tport));
}

/* ---- as text ---- */

char *kg_flow_route_url(const struct kg_flow *flow, char buf[static KG_FLOW_URL])
{
    char text[KG_ADDR_STR];
    snprintf(buf, KG_FLOW_URL, "sip:%s;transport=%s", kg_addr_format(&flow->remote, text),
             kg_transport_name(flow->transport));
    return buf;
}

int kg_flow_send_once(const struct kg_flow *flow, nta_agent_t *agent, msg_t *msg)
{
    char route[KG_FLOW_URL];
    int failed = nta_msg_tsend(agent, msg, URL_STRING_MAKE(kg_flow_route_url(flow, route)),
                               NTATAG_TPORT(flow->tport), TAG_END());
    if (failed) /* with no headers to add, the library fails where it has taken a reference for sending */
        msg_destroy(msg);
    return failed;
}

static bool is_link_local(const struct kg_addr *addr)
{
    if (kg_addr_family(addr) == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr);
    return ntohl(addr->in4.sin_addr.s_addr) >> 16 == 0xa9fe; /* 169.254/16 */
}

/* Record-Route is not signed, and who answers behind a proxy may write into it what he likes: it does not
 * lead from a server on the Internet into the network that kedge is in, nor to this machine or its link. */
static bool may_follow(const struct kg_addr *server, const struct kg_addr *hop)
{
    if (kg_addr_same_host(server, hop))
        return true;
    if (!kg_addr_is_usable(hop) || (kg_addr_is_loopback(hop) && !kg_addr_is_loopback(server)) ||
        is_link_local(hop))
        return false;
    return !kg_addr_is_private(hop) || kg_addr_is_private(server);
}

char *kg_flow_hop_url(const struct kg_flow *flow, nta_leg_t *dialog, char buf[static KG_HOP_URL])
{
    const sip_route_t *route = NULL;
    struct kg_addr hop;
    char text[KG_ADDR_STR];
    kg_flow_route_url(flow, buf);
    if (!dialog || nta_leg_get_route(dialog, &route, NULL) < 0 || !route)
        return buf;
    const url_t *url = route->r_url;
    unsigned long port = url->url_port && *url->url_port ? strtoul(url->url_port, NULL, 10) : 5060;
    if (port == 0 || port > 65535 ||
        kg_addr_parse_host(url->url_host ? url->url_host : "", (uint16_t)port, &hop) ||
        !may_follow(&flow->remote, &hop) || kg_addr_equal(&hop, &flow->local))
        return buf;
    snprintf(buf, KG_HOP_URL, "sip:%s;transport=%s", kg_addr_format(&hop, text),
             kg_transport_name(flow->transport));
    return buf;
}

static bool prefix_matches(const struct kg_addr *a, const struct sockaddr *b, const struct sockaddr *mask)
{
    bool v6 = kg_addr_family(a) == AF_INET6;
    const uint8_t *x = v6 ? (const uint8_t *)&a->in6.sin6_addr : (const uint8_t *)&a->in4.sin_addr;
    const uint8_t *y = v6 ? (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)b)->sin6_addr
                          : (const uint8_t *)&((const struct sockaddr_in *)(const void *)b)->sin_addr;
    const uint8_t *m = v6 ? (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr
                          : (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
    for (size_t i = 0; i < (v6 ? 16u : 4u); i++)
        if ((x[i] ^ y[i]) & m[i])
            return false;
    return true;
}

/* As a URI parameter: RFC 7118 5.2 knows only ws, with TLS or without. */
static const char *uri_transport(enum kg_transport transport)
{
    return kg_transport_name(transport == KG_WSS ? KG_WS : transport);
}

/* This machine's networks, read anew now and then. Signalling thread only. */
static const struct ifaddrs *networks(void)
{
    static struct ifaddrs *known;
    static int64_t known_ms;
    int64_t now_ms = kg_mono_ms();
    if (known && now_ms - known_ms < NETWORKS_MS)
        return known;
    struct ifaddrs *fresh = NULL;
    if (getifaddrs(&fresh) == 0) {
        if (known)
            freeifaddrs(known);
        known = fresh;
        known_ms = now_ms;
    }
    return known;
}

/* True when the peer is on a network of this machine: no 1:1 NAT lies between, so it must see the address we
 * have and not the one we advertise. */
static bool is_on_link(const struct kg_addr *remote)
{
    for (const struct ifaddrs *i = networks(); i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_netmask && i->ifa_addr->sa_family == kg_addr_family(remote) &&
            prefix_matches(remote, i->ifa_addr, i->ifa_netmask))
            return true;
    return false;
}

char *kg_flow_contact_url(const struct kg_config *config, const struct kg_flow *flow, const char *user,
                          char buf[static KG_CONTACT_URL])
{
    const struct kg_addr *advertise = &config->sip.advertise;
    struct kg_addr host = flow->local;
    char text[KG_ADDR_STR], name[KG_CONTACT_URL - KG_ADDR_STR - 32] = "";
    if (kg_addr_is_set(advertise) && kg_addr_family(advertise) == kg_addr_family(&host) &&
        !is_on_link(&flow->remote)) {
        host = *advertise;
        kg_addr_set_port(&host, kg_addr_port(&flow->local));
    }
    if (user)
        kg_uri_escape_user(user, name, sizeof name);
    snprintf(buf, KG_CONTACT_URL, "sip:%s%s%s%s%s", name, name[0] ? "@" : "", kg_addr_format(&host, text),
             flow->transport == KG_UDP ? "" : ";transport=",
             flow->transport == KG_UDP ? "" : uri_transport(flow->transport));
    return buf;
}
