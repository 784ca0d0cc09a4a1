/* The 200 to a REGISTER. */
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"

/* RFC 5627 5.4, Figure 1: the public GRUU is made of the address of record and the instance, so the same
 * phone has the same one again. In front of a PBX it is the PBX's to give. */
static void write_gruu(const struct kg_registrar *registrar, const struct kg_binding *b, char *out,
                       size_t size)
{
    const char *domain = registrar->server->config.sip.domain;
    char user[3 * 128], instance[3 * 128];

    out[0] = '\0';
    if (registrar->front) {
        snprintf(out, size, "%s", b->gruu);
    } else if (b->instance[0] && domain[0] && strlen(b->user) < 128) {
        size_t skip = b->instance[0] == '<', len = strcspn(b->instance + skip, ">");
        char bare[128];

        snprintf(bare, sizeof bare, "%.*s", (int)len, b->instance + skip);
        url_escape(user, b->user, "\"<>");
        url_escape(instance, bare, "\"<>;?=&@,");
        snprintf(out, size, ";pub-gruu=\"sip:%s@%s;gr=%s\"", user, domain, instance);
    }
}

static int write_contact(const struct kg_registrar *registrar, const struct kg_binding *b, bool gruu,
                         int64_t left_s, char *out, size_t size)
{
    char flow[200] = "", names[1200] = "";

    if (b->instance[0] && !strchr(b->instance, '"'))
        snprintf(flow, sizeof flow, ";+sip.instance=\"%s\"", b->instance);
    if (flow[0] && b->reg_id > 0)
        snprintf(flow + strlen(flow), sizeof flow - strlen(flow), ";reg-id=%u", b->reg_id);
    if (flow[0] && gruu)
        write_gruu(registrar, b, names, sizeof names);
    return snprintf(out, size, "<%s>;expires=%lld%s%s", b->uri, (long long)left_s, flow, names);
}

/* The user's contacts and their remaining seconds, as far as they fit: first those of the REGISTER that this
 * answers, which are the newest. */
static void write_contacts(const struct kg_registrar *registrar, const struct kg_register *r, int64_t now_ms,
                           char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (const struct kg_binding *b = kg_bindings_of_user(registrar->bindings, r->user); b;
         b = b->user_next) {
        int64_t left_s = (b->expires_ms - now_ms + 999) / 1000;
        int n;

        if (left_s <= 0)
            continue;
        if (used > 0 && used + 2 < size)
            used += (size_t)snprintf(out + used, size - used, ", ");
        n = write_contact(registrar, b, r->gruu, left_s, out + used, size - used);
        if (n < 0 || (size_t)n >= size - used) {
            out[used > 2 ? used - 2 : 0] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

void kg_register_ok(const struct kg_registrar *registrar, struct kg_exchange *x, const struct kg_register *r,
                    const sip_authentication_info_t *info, int64_t now_ms)
{
    const struct kg_learn_bounds bounds = kg_keepalive_bounds(registrar, x->flow);
    bool outbound = r->outbound && r->count > 0 && r->wish[0].reg_id > 0;
    bool asks = r->outbound || r->gruu || r->knows_path;
    char contacts[8192], timer[40];

    write_contacts(registrar, r, now_ms, contacts, sizeof contacts);
    kg_counters.registers_ok++;
    /* RFC 5626 4.4: the phone sends its own keepalives within this time; ours go on all the same. */
    if (outbound)
        snprintf(timer, sizeof timer, "Flow-Timer: %u", bounds.start_ms / 1000);
    kg_exchange_reply(x, SIP_200_OK, TAG_IF(contacts[0], SIPTAG_CONTACT_STR(contacts)),
                      TAG_IF(outbound, SIPTAG_REQUIRE_STR("outbound")),
                      TAG_IF(outbound && bounds.start_ms >= 1000, SIPTAG_HEADER_STR(timer)),
                      TAG_IF(r->knows_path && x->sip->sip_path, SIPTAG_PATH(x->sip->sip_path)),
                      TAG_IF(asks, SIPTAG_SUPPORTED_STR(KG_SIP_REGISTER_OPTIONS)),
                      SIPTAG_AUTHENTICATION_INFO(info), TAG_END());
}
