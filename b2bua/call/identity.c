#include "b2bua/call/identity.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

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

bool kg_privacy_hides_caller(struct kg_privacy privacy, struct kg_peer to)
{
    return (privacy.user || privacy.header) && !kg_peer_is_trusted(to);
}
