/* Candidates as text: the a=candidate line (RFC 8839 5.1). */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ice/agent/candidate.h"

const char *kg_candidate_verdict_text(enum kg_candidate_verdict verdict)
{
    static const char *const text[] = {
        [KG_CANDIDATE_OK] = "it can be used",
        [KG_CANDIDATE_BAD] = "it does not follow the grammar of RFC 8839",
        [KG_CANDIDATE_NOT_UDP] = "it is not for UDP",
        [KG_CANDIDATE_MDNS] = "it is an mDNS name, which only its own network can resolve",
        [KG_CANDIDATE_NAME] = "it is a host name, not an address",
        [KG_CANDIDATE_UNKNOWN_TYPE] = "its type is none of host, srflx, prflx, relay",
        [KG_CANDIDATE_COMPONENT] = "its component is neither 1 (RTP) nor 2 (RTCP)",
        [KG_CANDIDATE_UNUSABLE] = "nothing can be sent to its address or port",
    };
    return text[verdict];
}

struct word {
    const char *s;
    size_t len;
};

/* Tabs and several blanks between words are tolerated. */
static struct word next(const char **p, const char *end)
{
    while (*p < end && (**p == ' ' || **p == '\t'))
        (*p)++;
    struct word word = {.s = *p};
    while (*p < end && **p != ' ' && **p != '\t')
        (*p)++;
    word.len = (size_t)(*p - word.s);
    return word;
}

static bool is(struct word word, const char *text)
{
    return word.len == strlen(text) && strncasecmp(word.s, text, word.len) == 0;
}

/* Digits, at most max. */
static bool number(struct word word, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (word.len == 0 || word.len > 10)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        if (word.s[i] < '0' || word.s[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(word.s[i] - '0');
    }
    *out = (uint32_t)value;
    return value <= max;
}

static bool is_foundation(struct word word)
{
    if (word.len == 0 || word.len > KG_ICE_FOUNDATION_MAX)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
              c == '/'))
            return false;
    }
    return true;
}

/* A zone (fe80::1%2) means an interface of the writer's, never one of ours. */
static bool address(struct word word, uint32_t port, struct kg_addr *out)
{
    char text[INET6_ADDRSTRLEN];
    if (word.len == 0 || word.len >= sizeof text || memchr(word.s, '%', word.len) ||
        memchr(word.s, '[', word.len))
        return false;
    memcpy(text, word.s, word.len);
    text[word.len] = '\0';
    return kg_addr_parse_host(text, (uint16_t)port, out) == 0;
}

static enum kg_candidate_verdict host_name(struct word word)
{
    static const char local[] = ".local";
    size_t len = sizeof local - 1;
    if (word.len > len && strncasecmp(word.s + word.len - len, local, len) == 0)
        return KG_CANDIDATE_MDNS;
    for (size_t i = 0; i < word.len; i++) { /* an address with a fault is no name */
        char c = word.s[i];
        if (c == ':' || c == '%' || c == '[')
            return KG_CANDIDATE_BAD;
    }
    return KG_CANDIDATE_NAME;
}

/* Behind the type: raddr and rport if they are understood; extensions come in pairs. */
static void related(const char *p, const char *end, struct kg_candidate *out)
{
    struct word host = {0}, key;
    uint32_t port = 0;
    while ((key = next(&p, end)).len > 0) {
        struct word value = next(&p, end);
        if (is(key, "raddr"))
            host = value;
        else if (is(key, "rport") && !number(value, UINT16_MAX, &port))
            return;
    }
    struct kg_addr addr;
    if (address(host, port, &addr) && !kg_addr_is_any(&addr))
        out->related = addr;
}

enum kg_candidate_verdict kg_candidate_parse(const char *text, size_t len, struct kg_candidate *out)
{
    const char *p = text, *end = text + len;
    struct word foundation = next(&p, end), component = next(&p, end), transport = next(&p, end),
                priority = next(&p, end), host = next(&p, end), port = next(&p, end), typ = next(&p, end),
                type = next(&p, end);
    uint32_t component_is, port_is;
    struct kg_candidate c = {0};
    if (!is_foundation(foundation) || !number(component, 256, &component_is) || component_is == 0 ||
        !number(priority, INT32_MAX, &c.priority) || c.priority == 0 || !number(port, UINT16_MAX, &port_is) ||
        !is(typ, "typ") || type.len == 0)
        return KG_CANDIDATE_BAD;
    if (!is(transport, "UDP"))
        return KG_CANDIDATE_NOT_UDP;
    if (component_is > 2)
        return KG_CANDIDATE_COMPONENT;
    if (!address(host, port_is, &c.addr))
        return host_name(host);
    while (c.type <= KG_CANDIDATE_RELAY && !is(type, kg_candidate_type_name(c.type)))
        c.type++;
    if (c.type > KG_CANDIDATE_RELAY)
        return KG_CANDIDATE_UNKNOWN_TYPE;
    if (!kg_addr_is_usable(&c.addr))
        return KG_CANDIDATE_UNUSABLE;
    c.component = (uint8_t)component_is;
    memcpy(c.foundation, foundation.s, foundation.len);
    related(p, end, &c);
    *out = c;
    return KG_CANDIDATE_OK;
}

/* Hosts without a zone, which means nothing to a reader. */
static void host_text(const struct kg_addr *addr, char out[static KG_ADDR_STR])
{
    kg_addr_format_host(addr, out);
    out[strcspn(out, "%")] = '\0';
}

size_t kg_candidate_format(const struct kg_candidate *c, char out[static KG_CANDIDATE_STR])
{
    char host[KG_ADDR_STR], base[KG_ADDR_STR];
    host_text(&c->addr, host);
    int n =
        snprintf(out, KG_CANDIDATE_STR, "candidate:%s %u UDP %u %s %u typ %s", c->foundation, c->component,
                 c->priority, host, kg_addr_port(&c->addr), kg_candidate_type_name(c->type));
    if (kg_addr_is_set(&c->related)) {
        host_text(&c->related, base);
        n += snprintf(out + n, (size_t)(KG_CANDIDATE_STR - n), " raddr %s rport %u", base,
                      kg_addr_port(&c->related));
    } else if (c->type != KG_CANDIDATE_HOST) {
        n += snprintf(out + n, (size_t)(KG_CANDIDATE_STR - n), " raddr %s rport 9",
                      kg_addr_family(&c->addr) == AF_INET6 ? "::" : "0.0.0.0");
    }
    return (size_t)n;
}
