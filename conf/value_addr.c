/* Configuration values that are addresses: text to field and back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/schema.h"

#define DEFAULT_PORT     5060 /* RFC 3261 19.1.2 */
#define DEFAULT_TLS_PORT 5061
#define DEFAULT_WS_PORT  80 /* RFC 6455 3 */
#define DEFAULT_WSS_PORT 443
#define DNS_PORT         53 /* RFC 1035 4.2 */

static const char *const transports[] = {
    [KG_UDP] = "udp", [KG_TCP] = "tcp", [KG_TLS] = "tls", [KG_WS] = "ws", [KG_WSS] = "wss"};
_Static_assert(sizeof transports / sizeof transports[0] == KG_TRANSPORTS, "each transport has a name");

const char *kg_transport_name(enum kg_transport transport)
{
    return transports[transport];
}

bool kg_transport_is_web(enum kg_transport transport)
{
    return transport == KG_WS || transport == KG_WSS;
}

bool kg_transport_is_secure(enum kg_transport transport)
{
    return transport == KG_TLS || transport == KG_WSS;
}

/* "auto" or one address without a port. */

static int address_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_addr addr = {0}, probe;

    if (strcmp(text, "auto") != 0) {
        if (kg_addr_parse_host(text, 0, &addr) != 0)
            return kg_conf_refuse(why, size, text, "must be auto or a numeric address such as 192.0.2.1");
        probe = addr;
        kg_addr_set_port(&probe, 1);
        if (!kg_addr_is_usable(&probe))
            return kg_conf_refuse(why, size, text, "must be auto or one address of this machine or its NAT");
    }
    memcpy(kg_conf_field(row, base), &addr, sizeof addr);
    return 0;
}

static bool address_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                           size_t size)
{
    const struct kg_addr *addr = kg_conf_value(row, base);
    char text[KG_ADDR_STR];

    snprintf(out, size, "%s", kg_addr_is_set(addr) ? kg_addr_format_host(addr, text) : "auto");
    return index == 0;
}

const struct kg_conf_type kg_conf_address = {
    .name = "address or auto", .set = address_set, .format = address_format};

/* "off" or one address with a port. */

static int place_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_addr addr = {0};

    if (strcmp(text, "off") != 0 && (kg_addr_parse(text, &addr) != 0 || !kg_addr_is_usable(&addr)))
        return kg_conf_refuse(why, size, text,
                              "must be off or a numeric address and a port such as 192.0.2.1:9060");
    memcpy(kg_conf_field(row, base), &addr, sizeof addr);
    return 0;
}

static bool place_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                         size_t size)
{
    const struct kg_addr *addr = kg_conf_value(row, base);
    char text[KG_ADDR_STR];

    snprintf(out, size, "%s", kg_addr_is_set(addr) ? kg_addr_format(addr, text) : "off");
    return index == 0;
}

const struct kg_conf_type kg_conf_place = {
    .name = "address:port or off", .set = place_set, .format = place_format};

/* Lists of endpoints: "udp:192.0.2.10:5060". */

static int parse_endpoint(const char *text, struct kg_endpoint *out, char *why, size_t size)
{
    const char *colon = strchr(text, ':');
    static const uint16_t default_port[] = {DEFAULT_PORT, DEFAULT_PORT, DEFAULT_TLS_PORT, DEFAULT_WS_PORT,
                                            DEFAULT_WSS_PORT};
    size_t transport, len = colon != NULL ? (size_t)(colon - text) : 0;

    for (transport = 0; transport < KG_TRANSPORTS; transport++)
        if (len == strlen(transports[transport]) && memcmp(text, transports[transport], len) == 0)
            break;
    if (transport == KG_TRANSPORTS)
        return kg_conf_refuse(why, size, text,
                              "must begin with udp:, tcp:, tls:, ws: or wss:, as in udp:192.0.2.10:5060");
    if (kg_addr_parse(colon + 1, &out->addr) != 0)
        return kg_conf_refuse(
            why, size, text,
            "needs a numeric address and a port, as in udp:192.0.2.10:5060 or tls:[2001:db8::1]:5061");
    out->transport = (enum kg_transport)transport;
    if (kg_addr_port(&out->addr) == 0)
        kg_addr_set_port(&out->addr, default_port[transport]);
    return 0;
}

static int endpoint_append(const struct kg_conf_row *row, void *base, const struct kg_endpoint *endpoint,
                           const char *text, char *why, size_t size)
{
    struct kg_endpoint *list = kg_conf_field(row, base);
    size_t *count = kg_conf_list_count(row, base);

    for (size_t i = 0; i < *count; i++) {
        if (list[i].transport == endpoint->transport && kg_addr_equal(&list[i].addr, &endpoint->addr)) {
            snprintf(why, size, "names \"%.60s\" twice", text);
            return EINVAL;
        }
    }
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    list[(*count)++] = *endpoint;
    return 0;
}

static int listen_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_endpoint endpoint;
    int error = parse_endpoint(text, &endpoint, why, size);

    if (error == 0 && kg_addr_is_multicast(&endpoint.addr))
        error = kg_conf_refuse(why, size, text, "must be an address of this machine");
    return error != 0 ? error : endpoint_append(row, base, &endpoint, text, why, size);
}

static bool endpoints_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                             size_t size)
{
    const struct kg_endpoint *list = kg_conf_value(row, base);
    char text[KG_ADDR_STR];

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s:%s", kg_transport_name(list[index].transport),
             kg_addr_format(&list[index].addr, text));
    return true;
}

const struct kg_conf_type kg_conf_listen = {
    .name = "list of transport:address:port", .list = true, .set = listen_set, .format = endpoints_format};

/* Addresses of DNS servers. */

static int dns_servers_set(const struct kg_conf_row *row, void *base, const char *text, char *why,
                           size_t size)
{
    struct kg_addr *list = kg_conf_field(row, base), addr;
    size_t *count = kg_conf_list_count(row, base);

    if (kg_addr_parse(text, &addr) != 0 && kg_addr_parse_host(text, 0, &addr) != 0)
        return kg_conf_refuse(why, size, text,
                              "must be numeric addresses, as 192.0.2.53 or [2001:db8::53]:5353");
    if (kg_addr_port(&addr) == 0)
        kg_addr_set_port(&addr, DNS_PORT);
    if (!kg_addr_is_usable(&addr))
        return kg_conf_refuse(why, size, text, "must be the address of one machine");
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    list[(*count)++] = addr;
    return 0;
}

static bool dns_servers_format(const struct kg_conf_row *row, const void *base, size_t index, char *out,
                               size_t size)
{
    const struct kg_addr *list = kg_conf_value(row, base);
    char text[KG_ADDR_STR];

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", kg_addr_format(&list[index], text));
    return true;
}

const struct kg_conf_type kg_conf_dns_servers = {
    .name = "list of addresses", .list = true, .set = dns_servers_set, .format = dns_servers_format};

/* Networks. */

static int nets_set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_net *list = kg_conf_field(row, base);
    size_t *count = kg_conf_list_count(row, base);

    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    if (kg_net_parse(text, &list[*count]) != 0)
        return kg_conf_refuse(why, size, text, "must be addresses or networks such as 198.51.100.0/24");
    ++*count;
    return 0;
}

static bool nets_format(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size)
{
    const struct kg_net *list = kg_conf_value(row, base);
    char text[KG_NET_STR];

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", kg_net_format(&list[index], text));
    return true;
}

const struct kg_conf_type kg_conf_nets = {
    .name = "list of addresses and networks", .list = true, .set = nets_set, .format = nets_format};
