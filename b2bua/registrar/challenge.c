#include "b2bua/registrar/challenge.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What stands between the quotes, escapes and all. */
static bool within_quotes(const char *value, char *out, size_t size)
{
    size_t len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value++;
        len -= 2;
    }
    if (len >= size)
        return false;
    bool escaped = false;
    for (size_t i = 0; i < len; i++) { /* it is sent back between quotes, and must end there */
        if (iscntrl((unsigned char)value[i]) || (value[i] == '"' && !escaped))
            return false;
        escaped = value[i] == '\\' && !escaped;
    }
    if (escaped)
        return false;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

/* "auth,auth-int": auth must be among them. */
static bool parse_qop(const char *value, struct kg_challenge *out)
{
    char list[64];
    if (!kg_digest_unquote(value, list, sizeof list))
        return false;
    for (const char *at = list; *at;) {
        size_t len = strcspn(at, ", ");
        if (len == 4 && strncasecmp(at, "auth", 4) == 0)
            out->qop = true;
        at += len;
        at += strspn(at, ", ");
    }
    return out->qop;
}

static bool is(const char *param, const char *name)
{
    size_t len = strlen(name);
    return strncasecmp(param, name, len) == 0 && param[len] == '=';
}

int kg_challenge_parse(const char *const *params, struct kg_challenge *out)
{
    struct kg_challenge c = {.algorithm = KG_DIGEST_MD5}; /* RFC 7616 3.3: MD5 when absent */
    bool ok = true, realm = false;
    for (; params && *params && ok; params++) {
        const char *value = strchr(*params, '=');
        if (!value)
            continue;
        value++;
        if (is(*params, "algorithm"))
            ok = kg_digest_parse_algorithm(value, &c.algorithm);
        else if (is(*params, "qop"))
            ok = parse_qop(value, &c);
        else if (is(*params, "realm"))
            ok = realm = within_quotes(value, c.realm, sizeof c.realm);
        else if (is(*params, "nonce"))
            ok = within_quotes(value, c.nonce, sizeof c.nonce);
        else if (is(*params, "opaque"))
            ok = within_quotes(value, c.opaque, sizeof c.opaque);
        else if (is(*params, "stale"))
            c.stale = strncasecmp(value + (*value == '"'), "true", 4) == 0;
    }
    if (!ok || !realm || !c.nonce[0])
        return EINVAL;
    *out = c;
    return 0;
}

int kg_challenge_answer(struct kg_digest *digest, const struct kg_challenge *challenge, const char *user,
                        const char *password, const char *method, const char *uri, const char *cnonce,
                        char *out, size_t size)
{
    struct kg_ha1 ha1;
    char response[KG_DIGEST_HEX];
    const struct kg_digest_said said = {method, uri, challenge->nonce, "00000001",
                                        challenge->qop ? cnonce : NULL};
    kg_digest_ha1(digest, user, challenge->realm, password,
                  &ha1); /* RFC 7616 3.4: without quotes, else as it is */
    kg_digest_response(digest, challenge->algorithm, ha1.hex[challenge->algorithm], &said, response);
    int len = snprintf(
        out, size,
        "Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", response=\"%s\", algorithm=%s", user,
        challenge->realm, challenge->nonce, uri, response, kg_digest_algorithm_name(challenge->algorithm));
    if (len > 0 && (size_t)len < size && challenge->qop)
        len += snprintf(out + len, size - (size_t)len, ", qop=auth, nc=00000001, cnonce=\"%s\"", cnonce);
    if (len > 0 && (size_t)len < size && challenge->opaque[0])
        len += snprintf(out + len, size - (size_t)len, ", opaque=\"%s\"", challenge->opaque);
    return len > 0 && (size_t)len < size ? 0 : ENOSPC;
}
