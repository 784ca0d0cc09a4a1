#include "b2bua/call/identity.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/url.h>

struct kg_privacy kg_privacy_of(const sip_t *sip)
{
    struct kg_privacy asked = {0};
    bool critical = false, unknown = false;
    const struct {
        const char *name;
        bool *flag;
    } values[] = {{"id", &asked.id},           {"user", &asked.user},       {"header", &asked.header},
                  {"session", &asked.session}, {"history", &asked.history}, {"critical", &critical}};
    const char *const *value = sip->sip_privacy ? (const char *const *)sip->sip_privacy->priv_values : NULL;
    for (; value && *value; value++) {
        size_t i = 0, count = sizeof values / sizeof values[0];
        if (strcasecmp(*value, "none") == 0) /* RFC 3323 4.2: alone, and the user's explicit wish */
            return (struct kg_privacy){0};
        while (i < count && strcasecmp(*value, values[i].name) != 0)
            i++;
        if (i < count)
            *values[i].flag = true;
        else
            unknown = true;
    }
    asked.unmet = critical && unknown;
    return asked;
}

bool kg_identity_is_anonymous(const url_t *from)
{
    return from->url_host && strcasecmp(from->url_host, KG_ANONYMOUS_HOST) == 0;
}

bool kg_privacy_hides_caller(struct kg_privacy privacy, struct kg_peer to)
{
    return (privacy.user || privacy.header) && !kg_peer_is_trusted(to);
}

/* Bytes of the scheme that a URI begins with here; 0: none does. */
static size_t scheme_at(const char *text)
{
    static const char *const schemes[] = {"sip:", "sips:", "tel:"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            return strlen(schemes[i]);
    return 0;
}

/* What follows the scheme and names somebody. 0: only a host. */
static size_t user_len(const char *rest, bool tel)
{
    size_t all = strcspn(rest, "<>, \t");
    const char *at = memchr(rest, '@', all);
    if (tel)
        return strcspn(rest, ";<>, \t");
    return at ? (size_t)(at - rest) : 0;
}

bool kg_identity_rewrite(const char *value, kg_identity_number *number, void *ctx, char *out, size_t size)
{
    size_t used = 0;
    bool quoted = false, changed = false, fresh = true; /* fresh: a URI may begin here */
    while (*value) {
        size_t scheme = !quoted && fresh ? scheme_at(value) : 0, step = scheme ? scheme : 1;
        if (quoted && *value == '\\' && value[1])
            step = 2;
        else if (*value == '"')
            quoted = !quoted;
        fresh = strchr("<, \t", *value) != NULL;
        if (used + step >= size)
            return false;
        memcpy(out + used, value, step);
        used += step;
        bool tel = scheme && (*value == 't' || *value == 'T');
        value += step;
        size_t len = scheme ? user_len(value, tel) : 0;
        char user[128], plain[128], written[KG_IDENTITY_USER];
        if (len == 0 || len >= sizeof user)
            continue;
        snprintf(user, sizeof user, "%.*s", (int)len, value);
        url_unescape(plain, user);
        if (!number(ctx, plain, written))
            continue;
        if (used + strlen(written) >= size)
            return false;
        used += (size_t)snprintf(out + used, size - used, "%s", written);
        value += len;
        changed = true;
    }
    out[used] = '\0';
    return changed;
}
