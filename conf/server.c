/* The servers that kedge sends requests to, as text:
 * "transport:host[:port][;priority=N][;weight=N][;verify=no]". */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "conf/schema.h"

/* Digits of a port, a priority and a weight. */
#define NUMBER_DIGITS 5

/* sip: and sips: leave transport and port to DNS (RFC 3263 4.1). */
static const struct scheme {
    const char *text;
    enum kg_transport transport;
    bool located;
} schemes[] = {
    {"udp", KG_UDP, false}, {"tcp", KG_TCP, false}, {"tls", KG_TLS, false},
    {"sip", KG_UDP, true},  {"sips", KG_TLS, true},
};
#define SCHEMES (sizeof schemes / sizeof schemes[0])

/* "5060" up to `most`; anything else is false. */
static bool number(const char *text, size_t len, uint32_t most, uint16_t *out)
{
    uint32_t value = 0;

    if (len == 0 || len > NUMBER_DIGITS)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *out = (uint16_t)value;
    return value <= most;
}

/* "host", "host:port", "[2001:db8::1]:port" of len bytes. */
static bool parse_host(const char *text, size_t len, struct kg_server_at *out)
{
    const char *end = text + len, *host = text, *host_end, *port = NULL;

    if (len > 0 && text[0] == '[') {
        host++;
        host_end = memchr(text, ']', len);
        if (host_end == NULL || (host_end + 1 < end && host_end[1] != ':'))
            return false;
        if (host_end + 1 < end)
            port = host_end + 2;
    } else {
        host_end = memchr(text, ':', len);
        if (host_end == NULL)
            host_end = end;
        else
            port = host_end + 1;
    }
    if (host_end == host || (size_t)(host_end - host) >= sizeof out->host)
        return false;
    memcpy(out->host, host, (size_t)(host_end - host));
    return port == NULL || (number(port, (size_t)(end - port), UINT16_MAX, &out->port) && out->port > 0);
}

/* ";name=value" of len bytes behind the semicolon. */
static bool parse_parameter(const char *text, size_t len, struct kg_server_at *out)
{
    static const char priority[] = "priority=", weight[] = "weight=", verify[] = "verify=no";

    if (len > strlen(priority) && memcmp(text, priority, strlen(priority)) == 0)
        return number(text + strlen(priority), len - strlen(priority), UINT16_MAX, &out->priority);
    if (len > strlen(weight) && memcmp(text, weight, strlen(weight)) == 0)
        return number(text + strlen(weight), len - strlen(weight), UINT16_MAX, &out->weight);
    if (len == strlen(verify) && memcmp(text, verify, len) == 0 && out->transport == KG_TLS) {
        out->unverified = true;
        return true;
    }
    return false;
}

static int check_host(const char *text, const struct kg_server_at *at, bool bracket, char *why, size_t size)
{
    struct kg_addr addr;

    if (kg_addr_parse_host(at->host, 1, &addr) == 0) {
        if (kg_addr_family(&addr) == AF_INET6 && !bracket)
            return kg_conf_refuse(why, size, text,
                                  "needs brackets around an IPv6 address, as in udp:[2001:db8::1]:5060");
        if (!kg_addr_is_usable(&addr))
            return kg_conf_refuse(why, size, text, "must be the address of one machine");
        return 0;
    }
    /* A name whose last label is digits would be taken for a mistyped address by half of all software. */
    const char *last = strrchr(at->host, '.');
    last = last != NULL ? last + 1 : at->host;
    if (bracket || !kg_conf_is_host_name(at->host) || strstr(at->host, "..") != NULL ||
        (last[0] != '\0' && last[strspn(last, "0123456789")] == '\0'))
        return kg_conf_refuse(why, size, text,
                              "needs a host name or an address, as in udp:192.0.2.10:5060 or "
                              "tls:pbx.example.org");
    return 0;
}

static int parse(const char *text, struct kg_server_at *out, char *why, size_t size)
{
    const char *colon = strchr(text, ':');
    size_t i = 0, len = colon != NULL ? (size_t)(colon - text) : 0;

    memset(out, 0, sizeof *out);
    while (i < SCHEMES && (len != strlen(schemes[i].text) || memcmp(text, schemes[i].text, len) != 0))
        i++;
    if (colon == NULL || i == SCHEMES)
        return kg_conf_refuse(why, size, text,
                              "must begin with udp:, tcp:, tls: or sip:, as in udp:192.0.2.10:5060 or "
                              "sip:example.org");
    out->transport = schemes[i].transport;
    out->located = schemes[i].located;
    const char *host = colon + 1;
    len = strcspn(host, ";");
    if (!parse_host(host, len, out))
        return kg_conf_refuse(why, size, text,
                              "needs a host and perhaps a port, as in udp:192.0.2.10:5060 or "
                              "sip:example.org");
    for (const char *at = host + len; *at != '\0'; at += len) {
        len = strcspn(++at, ";");
        if (!parse_parameter(at, len, out))
            return kg_conf_refuse(
                why, size, text,
                "knows only ;priority= and ;weight= (0 to 65535) behind the host, and ;verify=no "
                "with tls: and sips:");
    }
    return check_host(text, out, host[0] == '[', why, size);
}

bool kg_server_at_same(const struct kg_server_at *a, const struct kg_server_at *b)
{
    return a->transport == b->transport && a->located == b->located && a->port == b->port &&
           strcasecmp(a->host, b->host) == 0;
}

static int set(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size)
{
    struct kg_server_at *list = kg_conf_field(row, base), one;
    size_t *count = kg_conf_list_count(row, base);
    int error = parse(text, &one, why, size);

    if (error != 0)
        return error;
    for (size_t i = 0; i < *count; i++) {
        if (kg_server_at_same(&list[i], &one)) {
            snprintf(why, size, "names \"%.60s\" twice", text);
            return EINVAL;
        }
    }
    if (kg_conf_is_full(row, *count, why, size))
        return EINVAL;
    memcpy(&list[(*count)++], &one, sizeof one);
    return 0;
}

char *kg_server_at_format(const struct kg_server_at *at, char out[static KG_SERVER_AT_STR])
{
    bool bracket = strchr(at->host, ':') != NULL;
    char port[8] = "", priority[20] = "", weight[20] = "";
    const char *scheme = "";

    for (size_t i = 0; i < SCHEMES; i++)
        if (schemes[i].transport == at->transport && schemes[i].located == at->located)
            scheme = schemes[i].text;
    if (at->port != 0)
        snprintf(port, sizeof port, ":%u", at->port);
    if (at->priority != 0)
        snprintf(priority, sizeof priority, ";priority=%u", at->priority);
    if (at->weight != 0)
        snprintf(weight, sizeof weight, ";weight=%u", at->weight);
    snprintf(out, KG_SERVER_AT_STR, "%s:%s%s%s%s%s%s%s", scheme, bracket ? "[" : "", at->host,
             bracket ? "]" : "", port, priority, weight, at->unverified ? ";verify=no" : "");
    return out;
}

static bool format(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size)
{
    const struct kg_server_at *list = kg_conf_value(row, base);
    char text[KG_SERVER_AT_STR];

    if (index >= kg_conf_items(row, base))
        return false;
    snprintf(out, size, "%s", kg_server_at_format(&list[index], text));
    return true;
}

const struct kg_conf_type kg_conf_servers = {
    .name = "list of transport:host:port", .list = true, .set = set, .format = format};
