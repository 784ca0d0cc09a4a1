#include "b2bua/sip/methods.h"

#include <string.h>

#include <sofia-sip/sip_protos.h>

static const struct kg_method methods[] = {
    {"INVITE", KG_METHOD_SERVE, KG_METHOD_SERVE},     {"ACK", KG_METHOD_DISCARD, KG_METHOD_SERVE},
    {"CANCEL", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE}, {"BYE", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE},
    {"OPTIONS", KG_METHOD_SERVE, KG_METHOD_SERVE},    {"REGISTER", KG_METHOD_SERVE, KG_METHOD_REFUSE},
    {"INFO", KG_METHOD_NO_DIALOG, KG_METHOD_PASS},    {"PRACK", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE},
    {"UPDATE", KG_METHOD_NO_DIALOG, KG_METHOD_SERVE}, {"REFER", KG_METHOD_REFUSE, KG_METHOD_PASS},
    {"NOTIFY", KG_METHOD_NO_DIALOG, KG_METHOD_PASS},  {"SUBSCRIBE", KG_METHOD_REFUSE, KG_METHOD_REFUSE},
    {"MESSAGE", KG_METHOD_REFUSE, KG_METHOD_PASS},    {"PUBLISH", KG_METHOD_REFUSE, KG_METHOD_REFUSE},
};

const struct kg_method *kg_method_of(const sip_t *sip)
{
    const char *name = sip->sip_request->rq_method_name;
    for (size_t i = 0; name && i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i].name, name) == 0) /* case-sensitive (RFC 3261 7.1) */
            return &methods[i];
    return NULL;
}
