/* The grammar of a=candidate (RFC 8839 5.1). */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ice/agent/candidate.h"

const char *kg_candidate_verdict_text(enum kg_candidate_verdict verdict)
{
    static const char *const text[] = {
        [KG_CANDIDATE_OK] = "usable",
        [KG_CANDIDATE_BAD] = "does not follow the grammar of a=candidate",
        [KG_CANDIDATE_NOT_UDP] = "not UDP: ICE over TCP is not spoken",
        [KG_CANDIDATE_MDNS] = "a .local name, which only the phone's own network can resolve",
        [KG_CANDIDATE_NAME] = "a host name instead of an address",
        [KG_CANDIDATE_UNKNOWN_TYPE] = "of an unknown type",
        [KG_CANDIDATE_COMPONENT] = "for a component other than RTP and RTCP",
        [KG_CANDIDATE_UNUSABLE] = "an address that nothing can be sent to",
    };
    return (unsigned)verdict < sizeof text / sizeof text[0] ? text[verdict] : "?";
}

struct token {
    const char *text;
    size_t len;
};

/* The next word; false at the end. Several blanks count as one. */
static bool next_token(const char **at, const char *end, struct token *out)
{
    const char *p = *at;

    while (p < end && *p == ' ')
        p++;
    out->text = p;
    while (p < end && *p != ' ')
        p++;
    out->len = (size_t)(p - out->text);
    *at = p;
    return out->len > 0;
}

static bool token_is(const struct token *token, const char *word)
{
    return token->len == strlen(word) && strncasecmp(token->text, word, token->len) == 0;
}

static bool token_number(const struct token *token, size_t digits, uint64_t max, uint32_t *out)
{
    uint64_t value = 0;

    if (token->len == 0 || token->len > digits)
        return false;
    for (size_t i = 0; i < token->len; i++) {
        if (token->text[i] < '0' || token->text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(token->text[i] - '0');
    }
    if (value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static bool is_foundation(const struct token *token)
{
    if (token->len > KG_ICE_FOUNDATION_MAX)
        return false;
    for (size_t i = 0; i < token->len; i++) {
        char c = token->text[i];
        /* ice-char, and what peers write besides it ("Host_0", "srflx-1"): it is only compared. */
        if (c <= ' ' || c >= 0x7f)
            return false;
    }
    return true;
}

static enum kg_candidate_verdict parse_host(const struct token *token, uint16_t port, struct kg_addr *out)
{
    char host[INET6_ADDRSTRLEN];

    if (token->len < sizeof host && memchr(token->text, '%', token->len) == NULL) {
        memcpy(host, token->text, token->len);
        host[token->len] = '\0';
        if (host[0] != '[' && kg_addr_parse_host(host, port, out) == 0)
            return KG_CANDIDATE_OK;
    }
    if (token->len > 6 && strncasecmp(token->text + token->len - 6, ".local", 6) == 0)
        return KG_CANDIDATE_MDNS;
    for (size_t i = 0; i < token->len; i++) {
        char c = token->text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
            return KG_CANDIDATE_BAD;
    }
    return KG_CANDIDATE_NAME;
}

/* [raddr A] [rport P] and extension attributes, which are skipped. A related address that is hidden or a name
 * is none. */
static void parse_rest(const char *at, const char *end, struct kg_addr *related)
{
    struct token name, value, host = {0};
    uint32_t port = 0;

    while (next_token(&at, end, &name) && next_token(&at, end, &value)) {
        if (token_is(&name, "raddr"))
            host = value;
        else if (token_is(&name, "rport") && !token_number(&value, 5, UINT16_MAX, &port))
            port = 0;
    }
    if (host.len > 0 &&
        (parse_host(&host, (uint16_t)port, related) != KG_CANDIDATE_OK || kg_addr_is_any(related)))
        memset(related, 0, sizeof *related);
}

static bool parse_type(const struct token *token, uint8_t *out)
{
    for (unsigned type = KG_CANDIDATE_HOST; type <= KG_CANDIDATE_RELAY; type++)
        if (token_is(token, kg_candidate_type_name(type))) {
            *out = (uint8_t)type;
            return true;
        }
    return false;
}

enum kg_candidate_verdict kg_candidate_parse(const char *text, size_t len, struct kg_candidate *out)
{
    const char *at = text, *end = text + len;
    struct token foundation, component, transport, priority, host, port, typ, type;
    struct kg_candidate candidate = {0};
    uint32_t component_number, port_number;

    if (!next_token(&at, end, &foundation) || !next_token(&at, end, &component) ||
        !next_token(&at, end, &transport) || !next_token(&at, end, &priority) ||
        !next_token(&at, end, &host) || !next_token(&at, end, &port) || !next_token(&at, end, &typ) ||
        !next_token(&at, end, &type))
        return KG_CANDIDATE_BAD;
    if (!is_foundation(&foundation) || !token_number(&component, 3, 999, &component_number) ||
        !token_number(&priority, 10, INT32_MAX, &candidate.priority) || candidate.priority == 0 ||
        !token_number(&port, 5, UINT16_MAX, &port_number) || !token_is(&typ, "typ"))
        return KG_CANDIDATE_BAD;
    if (!token_is(&transport, "UDP"))
        return KG_CANDIDATE_NOT_UDP;
    enum kg_candidate_verdict verdict = parse_host(&host, (uint16_t)port_number, &candidate.addr);
    if (verdict != KG_CANDIDATE_OK)
        return verdict;
    if (!parse_type(&type, &candidate.type))
        return KG_CANDIDATE_UNKNOWN_TYPE;
    if (component_number < 1 || component_number > 2)
        return KG_CANDIDATE_COMPONENT;
    if (!kg_addr_is_usable(&candidate.addr))
        return KG_CANDIDATE_UNUSABLE;
    candidate.component = (uint8_t)component_number;
    memcpy(candidate.foundation, foundation.text, foundation.len);
    parse_rest(at, end, &candidate.related);
    *out = candidate;
    return KG_CANDIDATE_OK;
}

/* Zones have no meaning outside this host. */
static char *format_host(const struct kg_addr *addr, char buf[static KG_ADDR_STR])
{
    struct kg_addr plain = *addr;

    if (plain.sa.sa_family == AF_INET6)
        plain.in6.sin6_scope_id = 0;
    return kg_addr_format_host(&plain, buf);
}

size_t kg_candidate_format(const struct kg_candidate *candidate, char out[static KG_CANDIDATE_STR])
{
    char host[KG_ADDR_STR], related[KG_ADDR_STR], tail[KG_ADDR_STR + 32] = "";

    if (candidate->type != KG_CANDIDATE_HOST) {
        bool told = kg_addr_is_set(&candidate->related);
        const char *hidden = kg_addr_family(&candidate->addr) == AF_INET6 ? "::" : "0.0.0.0";
        snprintf(tail, sizeof tail, " raddr %s rport %u",
                 told ? format_host(&candidate->related, related) : hidden,
                 told ? kg_addr_port(&candidate->related) : 9u);
    }
    int len = snprintf(out, KG_CANDIDATE_STR, "candidate:%s %u UDP %u %s %u typ %s%s", candidate->foundation,
                       candidate->component, candidate->priority, format_host(&candidate->addr, host),
                       kg_addr_port(&candidate->addr), kg_candidate_type_name(candidate->type), tail);
    return len > 0 && len < KG_CANDIDATE_STR ? (size_t)len : 0;
}
