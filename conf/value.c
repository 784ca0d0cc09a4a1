/* The types of configuration values: text to field and back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "conf/schema.h"

#define DEFAULT_PORT     5060 /* RFC 3261 19.1.2 */
#define DEFAULT_TLS_PORT 5061

static const char *const transports[] = {[KG_UDP] = "udp", [KG_TCP] = "tcp", [KG_TLS] = "tls"};
static const char *const policies[] = {
    [KG_POLICY_AUTO] = "auto",
    [KG_POLICY_STEER] = "steer",
    [KG_POLICY_ANCHOR] = "anchor",
    [KG_POLICY_BYPASS] = "bypass",
};
static const char *const digests[] = {
    [KG_DIGEST_OFFER_MD5] = "md5",
    [KG_DIGEST_OFFER_SHA256] = "sha-256",
    [KG_DIGEST_OFFER_BOTH] = "both",
};
static const char *const log_levels[] = {"error", "warn", "info", "debug"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *kg_transport_name(enum kg_transport transport)
{
    return transports[transport];
}

/* Index of text in names, or `count`. */
static size_t find(const char *const *names, size_t count, const char *text)
{
    size_t i = 0;

    while (i < count && strcmp(names[i], text) != 0)
        i++;
    return i;
}

static int refuse(char *why, size_t size, const char *text, const char *must)
{
    snprintf(why, size, "%s, not \"%.60s\"", must, text);
    return EINVAL;
}

static const void *field(const struct kg_conf_row *row, const struct kg_config *config)
{
    return (const char *)config + row->offset;
}

/* "auto" or one address without a port. */

static int address_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                       size_t size)
{
    struct kg_addr addr = {0}, probe;

    if (strcmp(text, "auto") != 0) {
        if (kg_addr_parse_host(text, 0, &addr) != 0)
            return refuse(why, size, text, "must be auto or a numeric address such as 192.0.2.1");
        probe = addr;
        kg_addr_set_port(&probe, 1);
        if (!kg_addr_is_usable(&probe))
            return refuse(why, size, text, "must be auto or one address of this machine or its NAT");
    }
    memcpy(kg_conf_field(row, config), &addr, sizeof addr);
    return 0;
}

static bool address_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                           char *out, size_t size)
{
    const struct kg_addr *addr = field(row, config);
    char text[KG_ADDR_STR];

    snprintf(out, size, "%s", kg_addr_is_set(addr) ? kg_addr_format_host(addr, text) : "auto");
    return index == 0;
}

const struct kg_conf_type kg_conf_address = {"address or auto", false, address_set, address_format};

/* Lists of endpoints: "udp:192.0.2.10:5060". */

static int parse_endpoint(const char *text, struct kg_endpoint *out, char *why, size_t size)
{
    const char *colon = strchr(text, ':');
    size_t transport, len = colon != NULL ? (size_t)(colon - text) : 0;

    for (transport = 0; transport < COUNT(transports); transport++)
        if (len == strlen(transports[transport]) && memcmp(text, transports[transport], len) == 0)
            break;
    if (transport == COUNT(transports))
        return refuse(why, size, text, "must begin with udp:, tcp: or tls:, as in udp:192.0.2.10:5060");
    if (kg_addr_parse(colon + 1, &out->addr) != 0)
        return refuse(
            why, size, text,
            "needs a numeric address and a port, as in udp:192.0.2.10:5060 or tls:[2001:db8::1]:5061 "
            "(host names are not supported yet)");
    out->transport = (enum kg_transport)transport;
    if (kg_addr_port(&out->addr) == 0)
        kg_addr_set_port(&out->addr, out->transport == KG_TLS ? DEFAULT_TLS_PORT : DEFAULT_PORT);
    return 0;
}

static int endpoint_append(const struct kg_conf_row *row, struct kg_config *config,
                           const struct kg_endpoint *endpoint, const char *text, char *why, size_t size)
{
    struct kg_endpoint *list = kg_conf_field(row, config);
    size_t *count = kg_conf_list_count(row, config);

    for (size_t i = 0; i < *count; i++) {
        if (list[i].transport == endpoint->transport && kg_addr_equal(&list[i].addr, &endpoint->addr)) {
            snprintf(why, size, "names \"%.60s\" twice", text);
            return EINVAL;
        }
    }
    if (*count >= row->max) {
        snprintf(why, size, "has more than %u entries", row->max);
        return EINVAL;
    }
    list[(*count)++] = *endpoint;
    return 0;
}

static int listen_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                      size_t size)
{
    struct kg_endpoint endpoint;
    int error = parse_endpoint(text, &endpoint, why, size);

    if (error == 0 && kg_addr_is_multicast(&endpoint.addr))
        error = refuse(why, size, text, "must be an address of this machine");
    return error != 0 ? error : endpoint_append(row, config, &endpoint, text, why, size);
}

static int peers_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                     size_t size)
{
    struct kg_endpoint endpoint;
    int error = parse_endpoint(text, &endpoint, why, size);

    if (error == 0 && !kg_addr_is_usable(&endpoint.addr))
        error = refuse(why, size, text, "must be the address of one machine");
    return error != 0 ? error : endpoint_append(row, config, &endpoint, text, why, size);
}

static bool endpoints_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                             char *out, size_t size)
{
    const struct kg_endpoint *list = field(row, config);
    const size_t *count = (const size_t *)((const char *)config + row->count_offset);
    char text[KG_ADDR_STR];

    if (index >= *count)
        return false;
    snprintf(out, size, "%s:%s", kg_transport_name(list[index].transport),
             kg_addr_format(&list[index].addr, text));
    return true;
}

const struct kg_conf_type kg_conf_listen = {"list of transport:address:port", true, listen_set,
                                            endpoints_format};
const struct kg_conf_type kg_conf_peers = {"list of transport:address:port", true, peers_set,
                                           endpoints_format};

/* Texts. */

static int text_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                    size_t size)
{
    size_t len = strlen(text);

    if (len >= row->size) {
        snprintf(why, size, "is longer than %zu bytes", row->size - 1);
        return EINVAL;
    }
    memset(kg_conf_field(row, config), 0, row->size);
    memcpy(kg_conf_field(row, config), text, len);
    return 0;
}

static bool text_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                        char *out, size_t size)
{
    const char *text = field(row, config);

    snprintf(out, size, "%s", text);
    return index == 0 && text[0] != '\0';
}

/* It stands in realms and URIs: a host as in RFC 3261 25.1. */
static int domain_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                      size_t size)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    struct kg_addr addr;
    bool name = text[0] != '\0' && text[0] != '-' && text[0] != '.' && text[strspn(text, allowed)] == '\0';

    if (!name && (text[0] != '[' || kg_addr_parse_host(text, 0, &addr) != 0))
        return refuse(why, size, text, "must be a domain such as example.org or an address");
    return text_set(row, config, text, why, size);
}

const struct kg_conf_type kg_conf_domain = {"domain", false, domain_set, text_format};

static int path_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                    size_t size)
{
    if (text[0] != '/' || text[strlen(text) - 1] == '/')
        return refuse(why, size, text, "must be the whole path of a file, beginning with /");
    return text_set(row, config, text, why, size);
}

const struct kg_conf_type kg_conf_path = {"file", false, path_set, text_format};

static int socket_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                      size_t size)
{
    static const char scheme[] = "unix:";
    struct sockaddr_un un;

    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return refuse(why, size, text, "must be unix: and a path, as in unix:/run/kedge/control.sock");
    if (strlen(text + strlen(scheme)) >= sizeof un.sun_path) {
        snprintf(why, size, "is longer than the %zu bytes that a socket's path may have",
                 sizeof un.sun_path - 1);
        return EINVAL;
    }
    return path_set(row, config, text + strlen(scheme), why, size);
}

static bool socket_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                          char *out, size_t size)
{
    const char *text = field(row, config);

    snprintf(out, size, "unix:%s", text);
    return index == 0;
}

const struct kg_conf_type kg_conf_socket = {"unix:/path", false, socket_set, socket_format};

static int level_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                     size_t size)
{
    if (find(log_levels, COUNT(log_levels), text) == COUNT(log_levels))
        return refuse(why, size, text, "must be error, warn, info or debug");
    return text_set(row, config, text, why, size);
}

const struct kg_conf_type kg_conf_level = {"error, warn, info or debug", false, level_set, text_format};

/* One of a few names, kept as an enum whose values count from 0. */
static int enum_set(const char *const *names, size_t count, const struct kg_conf_row *row,
                    struct kg_config *config, const char *text, char *why, size_t size)
{
    char must[120];
    size_t value = find(names, count, text);

    snprintf(must, sizeof must, "must be %s", row->type->name);
    if (value == count)
        return refuse(why, size, text, must);
    *(unsigned *)kg_conf_field(row, config) = (unsigned)value;
    return 0;
}

static bool enum_format(const char *const *names, const struct kg_conf_row *row,
                        const struct kg_config *config, size_t index, char *out, size_t size)
{
    snprintf(out, size, "%s", names[*(const unsigned *)field(row, config)]);
    return index == 0;
}

static int policy_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                      size_t size)
{
    return enum_set(policies, COUNT(policies), row, config, text, why, size);
}

static bool policy_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                          char *out, size_t size)
{
    return enum_format(policies, row, config, index, out, size);
}

const struct kg_conf_type kg_conf_policy = {"auto, steer, anchor or bypass", false, policy_set,
                                            policy_format};

static int digest_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                      size_t size)
{
    return enum_set(digests, COUNT(digests), row, config, text, why, size);
}

static bool digest_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                          char *out, size_t size)
{
    return enum_format(digests, row, config, index, out, size);
}

const struct kg_conf_type kg_conf_digest = {"md5, sha-256 or both", false, digest_set, digest_format};

static const char *const no_yes[] = {"no", "yes"};

static int yes_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                   size_t size)
{
    size_t value = find(no_yes, COUNT(no_yes), text);

    if (value == COUNT(no_yes) && strcmp(text, "true") == 0)
        value = 1;
    else if (value == COUNT(no_yes) && strcmp(text, "false") == 0)
        value = 0;
    if (value == COUNT(no_yes))
        return refuse(why, size, text, "must be yes or no");
    *(bool *)kg_conf_field(row, config) = value == 1;
    return 0;
}

static bool yes_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index, char *out,
                       size_t size)
{
    snprintf(out, size, "%s", no_yes[*(const bool *)field(row, config)]);
    return index == 0;
}

const struct kg_conf_type kg_conf_yes = {"yes or no", false, yes_set, yes_format};

/* Names of headers. */

static int headers_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                       size_t size)
{
    /* RFC 3261 25.1: token */
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%_+`'~";
    struct kg_header_name *list = kg_conf_field(row, config);
    size_t *count = kg_conf_list_count(row, config), len = strspn(text, token);

    if (len == 0 || (text[len] != '\0' && strcmp(text + len, "*") != 0))
        return refuse(why, size, text, "must be names of headers, or beginnings such as X-*");
    if (strlen(text) >= sizeof list->text)
        return refuse(why, size, text, "must be shorter names");
    if (*count >= row->max) {
        snprintf(why, size, "has more than %u entries", row->max);
        return EINVAL;
    }
    snprintf(list[(*count)++].text, sizeof list->text, "%s", text);
    return 0;
}

static bool headers_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                           char *out, size_t size)
{
    const struct kg_header_name *list = field(row, config);

    if (index >= *(const size_t *)((const char *)config + row->count_offset))
        return false;
    snprintf(out, size, "%s", list[index].text);
    return true;
}

const struct kg_conf_type kg_conf_headers = {"list of headers", true, headers_set, headers_format};

/* Numbers. */

/* Digits at *text, at most `most` of them; moves *text past them. Returns how many. */
static size_t digits(const char **text, size_t most, uint64_t *out)
{
    size_t len = 0;

    *out = 0;
    while (len < most && **text >= '0' && **text <= '9') {
        *out = *out * 10 + (uint64_t)(**text - '0');
        (*text)++;
        len++;
    }
    return len;
}

static int ports_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                     size_t size)
{
    uint16_t *range = kg_conf_field(row, config);
    uint64_t low, high;
    const char *at = text;
    size_t got_low = digits(&at, 5, &low);

    while (*at == ' ')
        at++;
    if (got_low == 0 || *at++ != '-')
        return refuse(why, size, text, "must be a range of ports such as 30000-39999");
    while (*at == ' ')
        at++;
    if (digits(&at, 5, &high) == 0 || *at != '\0')
        return refuse(why, size, text, "must be a range of ports such as 30000-39999");
    if (low < 1024 || high > UINT16_MAX || low > high)
        return refuse(why, size, text, "must lie between 1024 and 65535, the lower port first");
    /* RTP on an even port and RTCP on the next (RFC 3550 11); two sides a call. */
    if ((high + 1) / 2 - (low + 1) / 2 < 2)
        return refuse(why, size, text,
                      "must hold at least two pairs of an even port and the next, enough for one call");
    range[0] = (uint16_t)low;
    range[1] = (uint16_t)high;
    return 0;
}

static bool ports_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                         char *out, size_t size)
{
    const uint16_t *range = field(row, config);

    snprintf(out, size, "%u-%u", range[0], range[1]);
    return index == 0;
}

const struct kg_conf_type kg_conf_ports = {"range of ports", false, ports_set, ports_format};

/* "60", "60 s" or "2.5 s" into milliseconds. */
static int seconds_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                       size_t size)
{
    const char *at = text;
    uint64_t whole, part = 0;
    size_t places = 0;
    bool good = digits(&at, 9, &whole) > 0;

    if (good && *at == '.') {
        at++;
        places = digits(&at, 3, &part);
        good = places > 0;
    }
    for (; places > 0 && places < 3; places++)
        part *= 10;
    while (*at == ' ')
        at++;
    if (*at == 's')
        at++;
    if (!good || *at != '\0')
        return refuse(why, size, text, "must be a time in seconds such as 60 or 60 s");
    whole = whole * 1000 + part;
    if (whole < (uint64_t)row->min * 1000 || whole > (uint64_t)row->max * 1000) {
        snprintf(why, size, "must lie between %u and %u seconds, not \"%.60s\"", row->min, row->max, text);
        return EINVAL;
    }
    *(uint32_t *)kg_conf_field(row, config) = (uint32_t)whole;
    return 0;
}

static bool seconds_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                           char *out, size_t size)
{
    uint32_t ms = *(const uint32_t *)field(row, config);

    if (ms % 1000 != 0)
        snprintf(out, size, "%u.%03u s", ms / 1000, ms % 1000);
    else
        snprintf(out, size, "%u s", ms / 1000);
    return index == 0;
}

const struct kg_conf_type kg_conf_seconds = {"seconds", false, seconds_set, seconds_format};

static int count_set(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
                     size_t size)
{
    const char *at = text;
    uint64_t value;

    if (digits(&at, 9, &value) == 0 || *at != '\0')
        return refuse(why, size, text, "must be a whole number");
    if (value < row->min || value > row->max) {
        snprintf(why, size, "must lie between %u and %u, not %.60s", row->min, row->max, text);
        return EINVAL;
    }
    *(uint32_t *)kg_conf_field(row, config) = (uint32_t)value;
    return 0;
}

static bool count_format(const struct kg_conf_row *row, const struct kg_config *config, size_t index,
                         char *out, size_t size)
{
    snprintf(out, size, "%u", *(const uint32_t *)field(row, config));
    return index == 0;
}

const struct kg_conf_type kg_conf_count = {"number", false, count_set, count_format};
