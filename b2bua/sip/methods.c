#include "b2bua/sip/methods.h"

#include <string.h>
#include <strings.h>

#include <sofia-sip/sip_protos.h>

static const struct kg_method methods[] = {
    {"INVITE", KG_METHOD_SERVE, KG_METHOD_SERVE},     {"ACK", KG_METHOD_DISCARD, KG_METHOD_SERVE},
    {"CANCEL", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE}, {"BYE", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE},
    {"OPTIONS", KG_METHOD_SERVE, KG_METHOD_SERVE},    {"REGISTER", KG_METHOD_SERVE, KG_METHOD_REFUSE},
    {"INFO", KG_METHOD_NO_DIALOG, KG_METHOD_PASS},    {"PRACK", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE},
    {"UPDATE", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE}, {"REFER", KG_METHOD_PASS, KG_METHOD_PASS},
    {"NOTIFY", KG_METHOD_PASS, KG_METHOD_PASS},       {"SUBSCRIBE", KG_METHOD_PASS, KG_METHOD_REFUSE},
    {"MESSAGE", KG_METHOD_PASS, KG_METHOD_PASS},      {"PUBLISH", KG_METHOD_PASS, KG_METHOD_REFUSE},
};

/* Options (RFC 3261 19.2) about what the two ends say to each other, of which kedge changes nothing. */
static const char *const passing[] = {
    "eventlist",                /* RFC 4662 */
    "norefersub",               /* RFC 4488 */
    "multiple-refer",           /* RFC 5368 */
    "recipient-list-message",   /* RFC 5365 */
    "recipient-list-subscribe", /* RFC 5367 */
    "tdialog",                  /* RFC 4538 */
    "pref",                     /* RFC 3840 */
    "geolocation",              /* RFC 6442 */
};

bool kg_sip_option_passes(const char *name)
{
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++)
        if (strcasecmp(name, passing[i]) == 0)
            return true;
    return false;
}

const struct kg_method *kg_method_of(const sip_t *sip)
{
    const char *name = sip->sip_request->rq_method_name;
    for (size_t i = 0; name && i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i].name, name) == 0) /* case-sensitive (RFC 3261 7.1) */
            return &methods[i];
    return NULL;
}

const struct kg_method *kg_method_listed(const struct kg_config *config, const sip_t *sip)
{
    static const struct kg_method listed = {"", KG_METHOD_PASS, KG_METHOD_PASS};
    const char *name = sip->sip_request->rq_method_name;
    for (size_t i = 0; name && i < config->sip.pass_methods_count; i++)
        if (strcmp(config->sip.pass_methods[i].text, name) == 0)
            return &listed;
    return NULL;
}
