#include "b2bua/registrar/request.h"

#include <ctype.h>
#include <errno.h>
#include <sofia-sip/msg_header.h>
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/su_tagarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sip/sip.h"

#define USER_MAX 127 /* bytes of a user part: names of accounts have room for as many */

void kg_exchange_reply(struct kg_exchange *x, int status, const char *phrase, tag_type_t tag,
                       tag_value_t value, ...)
{
    ta_list ta;

    ta_start(ta, tag, value);
    if (x->irq) {
        nta_incoming_treply(x->irq, status, phrase, SIPTAG_SERVER_STR(KG_SIP_SERVER), ta_tags(ta));
        nta_incoming_destroy(x->irq);
    } else {
        nta_msg_treply(x->agent, x->msg, status, phrase, SIPTAG_SERVER_STR(KG_SIP_SERVER), ta_tags(ta));
    }
    (void)ta_end(ta);
    x->irq = NULL;
    x->msg = NULL;
}

void kg_exchange_drop(struct kg_exchange *x)
{
    if (x->irq)
        nta_incoming_destroy(x->irq);
    else
        nta_msg_discard(x->agent, x->msg);
    x->irq = NULL;
    x->msg = NULL;
}

/* RFC 3261 20.19: a number of seconds; malformed counts as absent, too large as the largest. -1: none. */
static int64_t parse_seconds(const char *text)
{
    char *end;
    unsigned long long seconds;

    if (!text || *text < '0' || *text > '9')
        return -1;
    seconds = strtoull(text, &end, 10);
    return *end ? -1 : seconds > UINT32_MAX ? (int64_t)UINT32_MAX : (int64_t)seconds;
}

static const char *param_of(const sip_contact_t *contact, const char *name)
{
    return msg_params_find(contact->m_params, name);
}

/* "<urn:uuid:...>" without its quotes. */
static bool copy_instance(const char *value, char *out, size_t size)
{
    size_t len;

    out[0] = '\0';
    if (!value)
        return true;
    len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value++;
        len -= 2;
    }
    if (len >= size)
        return false;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

/* RFC 3261 25.1 qvalue in thousandths; what is none counts as absent. */
static uint16_t parse_q(const char *text)
{
    unsigned q = 0, digit = 1000;

    if (!text || (text[0] != '0' && text[0] != '1') || (text[1] && text[1] != '.'))
        return KG_Q_DEFAULT;
    if (text[0] == '1')
        return 1000;
    for (text += text[1] ? 2 : 1; *text; text++) {
        if (*text < '0' || *text > '9' || digit == 1)
            return KG_Q_DEFAULT;
        digit /= 10;
        q += (unsigned)(*text - '0') * digit;
    }
    return (uint16_t)q;
}

/* It will be put into requests, and must be a URI then, too. */
static bool is_sound(const char *text)
{
    char copy[KG_ROUTE_SIZE];
    url_t again;

    for (const char *c = text; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || strchr("<>\"", *c))
            return false;
    snprintf(copy, sizeof copy, "%s", text);
    return url_d(&again, copy) == 0 && (again.url_type == url_sip || again.url_type == url_sips) &&
           again.url_host && again.url_host[0];
}

int kg_route_text(const sip_route_t *list, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (const sip_route_t *route = list; route; route = route->r_next) {
        char url[KG_ROUTE_SIZE];
        ssize_t len = url_e(url, sizeof url, route->r_url);
        int n;

        if (len < 0 || (size_t)len >= sizeof url)
            return E2BIG;
        if (!is_sound(url))
            return EINVAL;
        n = snprintf(out + used, size - used, "%s<%s>", used ? ", " : "", url);
        if (n < 0 || (size_t)n >= size - used)
            return E2BIG;
        used += (size_t)n;
    }
    return 0;
}

static bool has_option(const sip_supported_t *supported, const sip_require_t *require, const char *option)
{
    for (const sip_supported_t *s = supported; s; s = s->k_next)
        if (msg_header_find_item((const msg_common_t *)s, option))
            return true;
    return require && msg_header_find_item((const msg_common_t *)require, option);
}

/* RFC 5626 6: the phone says that it does outbound, and its first hop does: us, or a proxy that put itself
 * into the Path with ob. Else reg-id counts for nothing. */
static bool is_outbound(const sip_t *sip)
{
    const sip_path_t *first = sip->sip_path;

    if (!has_option(sip->sip_supported, sip->sip_require, "outbound"))
        return false;
    if (!sip->sip_via->v_next)
        return true;
    while (first && first->r_next)
        first = first->r_next;
    return first && first->r_url->url_params && url_has_param(first->r_url, "ob");
}

static bool parse_wish(const sip_contact_t *contact, const sip_expires_t *expires, struct kg_wish *out)
{
    const url_t *url = contact->m_url;
    const char *reg_id = param_of(contact, "reg-id=");
    struct kg_addr host;
    ssize_t len;

    if ((url->url_type != url_sip && url->url_type != url_sips) || !url->url_host || !url->url_host[0])
        return false;
    len = url_e(out->uri, sizeof out->uri, url);
    if (len < 0 || (size_t)len >= sizeof out->uri || kg_contact_key(url, out->key, sizeof out->key))
        return false;
    if (!copy_instance(param_of(contact, "+sip.instance="), out->instance, sizeof out->instance))
        return false;
    out->private_host = kg_addr_parse_host(url->url_host, 0, &host) == 0 && kg_addr_is_private(&host);
    out->reg_id = reg_id ? (uint32_t)strtoul(reg_id, NULL, 10) : 0;
    out->q = parse_q(contact->m_q);
    out->expires_s = parse_seconds(contact->m_expires);
    if (out->expires_s < 0 && expires)
        out->expires_s = (int64_t)expires->ex_delta;
    return true;
}

/* Escapes can hide what no header, log or store should ever hold. */
static bool has_control_characters(const char *text)
{
    while (*text && (unsigned char)*text >= 0x20 && *text != 0x7f)
        text++;
    return *text != '\0';
}

/* The user part unescaped; "@" and the host in lower case behind it, if wanted (KG_AOR_SIZE). */
static bool copy_aor(const url_t *url, bool with_domain, char out[static KG_AOR_SIZE])
{
    const char *host = with_domain && url->url_host ? url->url_host : "";
    size_t len;

    if (!url->url_user || !url->url_user[0] || strlen(url->url_user) > USER_MAX ||
        strlen(host) >= KG_AOR_SIZE - USER_MAX - 1)
        return false;
    if (strstr(url->url_user, "%00")) /* what follows it could be anything */
        return false;
    url_unescape(out, url->url_user);
    if (has_control_characters(out))
        return false;
    len = strlen(out);
    if (with_domain)
        out[len++] = '@';
    do
        out[len++] = (char)tolower((unsigned char)*host);
    while (*host++);
    return true;
}

int kg_register_parse(const sip_t *sip, bool with_domain, struct kg_register *out, const char **phrase)
{
    const sip_contact_t *contact;

    out->count = 0;
    out->all = false;
    out->cseq = sip->sip_cseq->cs_seq;
    out->call_id = sip->sip_call_id->i_id;
    out->user_agent =
        sip->sip_user_agent && sip->sip_user_agent->g_string ? sip->sip_user_agent->g_string : "";
    *phrase = "Bad To Header";
    if (!copy_aor(sip->sip_to->a_url, with_domain, out->user))
        return 400;
    out->outbound = is_outbound(sip);
    out->gruu = has_option(sip->sip_supported, sip->sip_require, "gruu");
    out->knows_path = has_option(sip->sip_supported, sip->sip_require, "path");
    *phrase = "Bad Path Header";
    if (kg_route_text(sip->sip_path, out->path, sizeof out->path))
        return 400;
    *phrase = "Bad Contact Header";
    if (strlen(out->call_id) > 255)
        return 400;
    for (contact = sip->sip_contact; contact; contact = contact->m_next) {
        if (contact->m_url->url_type == url_any) {
            /* RFC 3261 10.3 step 6: alone, and only to remove. */
            if (contact != sip->sip_contact || contact->m_next || !sip->sip_expires ||
                sip->sip_expires->ex_delta != 0)
                return 400;
            out->all = true;
            return 0;
        }
        if (out->count == KG_WISHES_MAX || !parse_wish(contact, sip->sip_expires, &out->wish[out->count]))
            return 400;
        if (!out->outbound || !out->wish[out->count].instance[0])
            out->wish[out->count].reg_id = 0;
        out->count++;
    }
    for (unsigned i = 0; i < out->count; i++) {
        if (out->wish[i].expires_s > 0 && out->wish[i].expires_s < KG_EXPIRES_MIN) {
            *phrase = sip_423_Interval_too_brief;
            return 423;
        }
    }
    return 0;
}

struct kg_contact kg_register_contact(const struct kg_register *r, const struct kg_wish *wish,
                                      const struct kg_flow *flow)
{
    return (struct kg_contact){.user = r->user,
                               .uri = wish->uri,
                               .key = wish->key,
                               .private_host = wish->private_host,
                               .instance = wish->instance,
                               .reg_id = wish->reg_id,
                               .q = wish->q,
                               .call_id = r->call_id,
                               .cseq = r->cseq,
                               .user_agent = r->user_agent,
                               .path = r->path,
                               .flow = flow};
}

bool kg_register_is_late(const struct kg_register *r, const struct kg_binding *binding)
{
    return strcmp(r->call_id, binding->call_id) == 0 && r->cseq <= binding->cseq;
}

uint32_t kg_register_grant(int64_t wish_s, uint32_t ceiling_s, uint32_t chance)
{
    uint32_t spread = ceiling_s / 10;

    if (wish_s >= 0 && wish_s <= (int64_t)ceiling_s)
        return (uint32_t)wish_s;
    if (ceiling_s - spread < KG_EXPIRES_MIN)
        return ceiling_s;
    return ceiling_s - chance % (spread + 1);
}
