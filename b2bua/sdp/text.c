/* Words, numbers, and addresses inside free text. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/model.h"

struct kg_sdp_text kg_sdp_word(const char **p, const char *end)
{
    while (*p < end && (**p == ' ' || **p == '\t'))
        (*p)++;
    struct kg_sdp_text word = {.s = *p};
    while (*p < end && **p != ' ' && **p != '\t')
        (*p)++;
    word.len = (uint16_t)(*p - word.s);
    return word;
}

bool kg_sdp_number(const char *s, size_t len, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(s[i] - '0');
        if (value > max)
            return false;
    }
    *out = (uint32_t)value;
    return true;
}

bool kg_sdp_text_equal(struct kg_sdp_text a, struct kg_sdp_text b)
{
    return a.len == b.len && strncasecmp(a.s, b.s, a.len) == 0;
}

void kg_sdp_copy(char *out, size_t size, const char *s, size_t len)
{
    if (len >= size)
        len = size - 1;
    if (len > 0)
        memcpy(out, s, len);
    out[len] = '\0';
}

/* s begins a run of digits: is it a dotted quad that ends there ("1.2.3.4.5" is not)? */
static bool is_ipv4(const char *s, const char *end)
{
    for (int group = 0; group < 4; group++) {
        int value = 0, digits = 0;
        while (s < end && isdigit((unsigned char)*s) && digits < 4) {
            value = value * 10 + (*s++ - '0');
            digits++;
        }
        if (digits == 0 || digits > 3 || value > 255)
            return false;
        if (group < 3 && (s == end || *s++ != '.'))
            return false;
    }
    return s == end || (*s != '.' && !isdigit((unsigned char)*s)) ||
           (*s == '.' && (s + 1 == end || !isdigit((unsigned char)s[1])));
}

static bool holds_ipv4(const char *s, const char *end)
{
    bool inside = false; /* of a run of digits and dots */
    for (; s < end; s++) {
        if (isdigit((unsigned char)*s) && !inside && is_ipv4(s, end))
            return true;
        inside = isdigit((unsigned char)*s) || *s == '.';
    }
    return false;
}

/* [s, end) is made of hex digits, colons and dots. An address may begin at its start or behind any colon,
 * since "name:2001:db8::1" is how attributes write it. */
static bool run_holds_ipv6(const char *s, const char *end)
{
    char text[INET6_ADDRSTRLEN];
    if (end - s >= INET6_ADDRSTRLEN)
        s = end - INET6_ADDRSTRLEN + 1;
    for (; s < end; s++) {
        size_t len = (size_t)(end - s);
        struct in6_addr addr;
        memcpy(text, s, len);
        text[len] = '\0';
        if (inet_pton(AF_INET6, text, &addr) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&addr) &&
            !IN6_IS_ADDR_LOOPBACK(&addr))
            return true;
        s = memchr(s, ':', len);
        if (!s)
            break;
    }
    return false;
}

static bool holds_ipv6(const char *s, const char *end)
{
    const char *text = s;
    while (s < end) {
        const char *start = s;
        bool word_before = s > text && isalnum((unsigned char)s[-1]);
        unsigned colons = 0;
        for (; s < end && (isxdigit((unsigned char)*s) || *s == ':' || *s == '.'); s++)
            colons += *s == ':';
        bool word_behind = s < end && isalnum((unsigned char)*s); /* as in std::vector */
        if (word_before && colons > 0)
            start = (const char *)memchr(start, ':', (size_t)(s - start)) + 1;
        if (colons >= 2 && !word_behind && run_holds_ipv6(start, s))
            return true;
        while (s < end && !isxdigit((unsigned char)*s) && *s != ':')
            s++;
    }
    return false;
}

bool kg_sdp_holds_address(const char *s, size_t len)
{
    size_t dots = 0, colons = 0;
    for (size_t i = 0; i < len; i++) {
        dots += s[i] == '.';
        colons += s[i] == ':';
    }
    return (dots >= 3 && holds_ipv4(s, s + len)) || (colons >= 2 && holds_ipv6(s, s + len));
}
