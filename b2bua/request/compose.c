/* The message for the other side: which headers go with it, whose addresses it names, its body. */
#include "b2bua/request/inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"

/* What a request outside of calls is about, and its body: passes in every direction. Who speaks and who may
 * know it is the business of call/headers.h. */
static msg_hclass_t *const meaning[] = {
    sip_event_class,
    sip_expires_class,
    sip_min_expires_class,
    sip_subscription_state_class,
    sip_etag_class,
    sip_if_match_class,
    sip_accept_class,
    sip_accept_encoding_class,
    sip_allow_events_class,
    sip_content_type_class,
    sip_content_encoding_class,
    sip_content_language_class,
    sip_content_disposition_class,
    sip_mime_version_class,
    sip_refer_to_class,
    sip_referred_by_class,
    sip_unsupported_class,
    sip_warning_class,
};
/* Of these the library has no class. */
static const char *const meaning_unknown[] = {
    "Suppress-If-Match",                  /* RFC 5839 */
    "Refer-Sub",         "Target-Dialog", /* RFC 4488, RFC 4538 */
    "P-Associated-URI",  "Content-ID",    /* RFC 8262 */
};
_Static_assert(sizeof meaning / sizeof meaning[0] + sizeof meaning_unknown / sizeof meaning_unknown[0] + 3 <=
                   KG_COMPOSED_MAX,
               "each header of the tables, Supported, Require and the body have a place");

void kg_requests_random_hex(char *out, size_t len)
{
    static const char digit[] = "0123456789abcdef";
    uint8_t byte[32];
    kg_random(byte, len);
    for (size_t i = 0; i < len; i++)
        out[i] = digit[byte[i] & 15];
    out[len] = '\0';
}

/* The options of Supported or Require that are between the two ends, as "a, b"; NULL: none. */
static const char *passing_options(su_home_t *home, const msg_list_t *list)
{
    char *text = NULL;
    for (; list; list = list->k_next)
        for (size_t i = 0; list->k_items && list->k_items[i]; i++)
            if (kg_sip_option_passes(list->k_items[i]))
                text = su_sprintf(home, "%s%s%s", text ? text : "", text ? ", " : "", list->k_items[i]);
    return text;
}

static size_t add_unknown(struct kg_composed *out, const struct kg_requests *requests, size_t count,
                          const sip_t *sip, struct kg_peer to)
{
    for (const sip_unknown_t *header = sip->sip_unknown; header && count < KG_COMPOSED_MAX;
         header = header->un_next)
        for (size_t i = 0; i < sizeof meaning_unknown / sizeof meaning_unknown[0]; i++) {
            if (strcasecmp(header->un_name, meaning_unknown[i]) != 0)
                continue;
            const char *value = header->un_value ? header->un_value : "";
            if (strcasecmp(header->un_name, "Target-Dialog") == 0)
                value = kg_dialog_target(out->home, requests->server->calls, value, to.kind != KG_PEER_PHONE);
            const char *text = value ? su_sprintf(out->home, "%s: %s", header->un_name, value) : NULL;
            if (!text)
                break;
            out->tag[count++] = (tagi_t){siptag_header_str, (tag_value_t)text};
            break;
        }
    return count;
}

/* "refer;id=93" names the CSeq of a REFER, which is another one on the other side. A REFER outside of a call
 * is the only one of its dialog and needs no id (RFC 3515 2.4.6). */
static const sip_event_t *event_for(su_home_t *home, const sip_event_t *event)
{
    bool refer = event->o_id && event->o_type && strcasecmp(event->o_type, "refer") == 0;
    return refer ? sip_event_make(home, "refer") : event;
}

/* Headers that it asks for, and dialogs that they name: as within a call (call/dialogs.h). */
static const sip_refer_to_t *refer_to_for(su_home_t *home, const struct kg_requests *requests,
                                          const sip_refer_to_t *refer_to, struct kg_peer to)
{
    sip_refer_to_t *out = sip_refer_to_dup(home, refer_to);
    const char *headers = out ? kg_dialog_uri_headers(home, requests->server->calls, out->r_url->url_headers,
                                                      to.kind != KG_PEER_PHONE)
                              : NULL;
    if (out)
        out->r_url->url_headers = headers && *headers ? headers : NULL;
    return out;
}

void kg_compose(struct kg_composed *out, const struct kg_requests *requests, const sip_t *sip,
                struct kg_peer from, struct kg_peer to)
{
    size_t count = 0;
    su_home_init(memset(out->home, 0, sizeof out->home));
    kg_headers_pass(&requests->server->config, sip, from, to, &out->passed);
    for (size_t i = 0; i < sizeof meaning / sizeof meaning[0]; i++) {
        const msg_header_t *header = msg_header_access((const msg_pub_t *)sip, meaning[i]);
        if (header && meaning[i] == sip_event_class)
            header = (const msg_header_t *)event_for(out->home, sip->sip_event);
        if (header && meaning[i] == sip_refer_to_class)
            header = (const msg_header_t *)refer_to_for(out->home, requests, sip->sip_refer_to, to);
        if (header)
            out->tag[count++] = (tagi_t){siptag_header, (tag_value_t)header};
    }
    const char *supported = passing_options(out->home, sip->sip_supported);
    const char *require = passing_options(out->home, sip->sip_require);
    if (supported)
        out->tag[count++] = (tagi_t){siptag_supported_str, (tag_value_t)supported};
    if (require)
        out->tag[count++] = (tagi_t){siptag_require_str, (tag_value_t)require};
    if (sip->sip_payload && sip->sip_payload->pl_len > 0) {
        const sip_payload_t *body = kg_body_translate(out->home, requests, sip, to);
        out->tag[count++] = (tagi_t){siptag_payload, (tag_value_t)body};
    }
    count = add_unknown(out, requests, count, sip, to);
    out->tag[count] = (tagi_t){tag_next, (tag_value_t)out->passed.tag};
}

void kg_compose_done(struct kg_composed *composed)
{
    su_home_deinit(composed->home);
}

/* ---- addresses ---- */

char *kg_compose_name(su_home_t *home, const char *display, const url_t *url)
{
    bool named = display && *display;
    char *text = url_as_string(home, url);
    return text ? su_sprintf(home, "%s%s<%s>", named ? display : "", named ? " " : "", text) : NULL;
}

char *kg_compose_text(const url_t *url)
{
    isize_t size = url_len(url) + 1;
    char *text = malloc((size_t)size);
    if (text)
        url_e(text, size, url);
    return text;
}

static url_t *with_host(su_home_t *home, const url_t *url, const char *user, const char *host,
                        const char *port)
{
    url_t made = {.url_type = url->url_type,
                  .url_scheme = url->url_scheme,
                  .url_user = user ? user : url->url_user,
                  .url_host = host,
                  .url_port = port};
    return url_hdup(home, &made);
}

/* As in REGISTER. */
static url_t *toward_server(su_home_t *home, const struct kg_requests *requests, const url_t *url,
                            const struct kg_flow *flow)
{
    struct kg_sip_host text;
    url_t made = *url;
    kg_sip_mean_server(requests->server->sip, &made, &flow->remote, &text);
    return url_hdup(home, &made);
}

url_t *kg_compose_uri(su_home_t *home, const struct kg_requests *requests, const url_t *url, const char *user,
                      struct kg_peer from, struct kg_peer to, const struct kg_flow *flow)
{
    const char *domain = requests->server->config.sip.domain;
    struct kg_addr numeric;
    char own[KG_ADDR_STR];
    if (to.kind != KG_PEER_PHONE)
        return toward_server(home, requests, url, flow);
    if (from.kind == KG_PEER_PBX && url->url_host && kg_addr_parse_host(url->url_host, 0, &numeric))
        return with_host(home, url, user, url->url_host, NULL); /* the PBX's domain */
    kg_addr_format_host(&flow->local, own);
    return with_host(home, url, user,
                     domain[0] ? domain : su_sprintf(home, strchr(own, ':') ? "[%s]" : "%s", own), NULL);
}

/* Toward a trunk, and from one to the PBX, there are numbers of the house and of the provider, and hosts that
 * each knows. */
static bool address_server(su_home_t *home, const sip_t *sip, const struct kg_party_passage *p,
                           const struct kg_way *way, size_t i, sip_from_t *from, sip_to_t *to, url_t *where)
{
    char caller[KG_IDENTITY_USER], called[KG_IDENTITY_USER], host[KG_ADDR_STR];
    const struct kg_addr *there = &way->target[i].flow.remote;
    struct kg_trunk *trunk = way->over[i];
    const char *by =
        kg_party_user(p, KG_NUMBER_CALLER, way->caller[0] ? way->caller : NULL, sip->sip_from->a_url, caller);
    const char *of = kg_party_user(p, KG_NUMBER_CALLED, way->called[0] ? way->called : NULL,
                                   sip->sip_request->rq_url, called);
    by = su_strdup(home, by ? by : "");
    of = su_strdup(home, of ? of : "");
    if (trunk) {
        kg_party_to_trunk(trunk, sip, by, of, from, to);
        *where = *to->a_url;
        where->url_port = kg_trunk_port(trunk);
        return by && of;
    }
    kg_addr_format_host(there, host);
    *where = kg_party_url(of, su_sprintf(home, strchr(host, ':') ? "[%s]" : "%s", host));
    *to->a_url = *where;
    where->url_port = su_sprintf(home, "%u", (unsigned)kg_addr_port(there));
    from->a_url->url_user = by;
    return by && of && where->url_host && where->url_port;
}

bool kg_compose_addresses(su_home_t *home, const struct kg_requests *requests, const sip_t *sip,
                          const struct kg_way *way, size_t i, struct kg_addressed *out)
{
    const struct kg_target *target = &way->target[i];
    const struct kg_party_passage p = {.config = &requests->server->config,
                                       .from = {way->from.kind, way->trunk},
                                       .to = {way->to.kind, way->over[i]}};
    const url_t *asked = sip->sip_request->rq_url;
    char text[KG_IDENTITY_USER];
    sip_from_t from[1];
    sip_to_t to[1];
    url_t where = *asked;
    sip_from_init(from)->a_display = sip->sip_from->a_display;
    sip_to_init(to)->a_display = way->over[i] ? NULL : sip->sip_to->a_display;
    *from->a_url = *sip->sip_from->a_url;
    if (way->to.kind != KG_PEER_PHONE && (way->over[i] || way->trunk)) {
        if (!address_server(home, sip, &p, way, i, from, to, &where))
            return false;
        out->where = url_hdup(home, &where);
    } else {
        const char *by = way->trunk || way->caller[0]
                             ? kg_party_user(&p, KG_NUMBER_CALLER, way->caller[0] ? way->caller : NULL,
                                             sip->sip_from->a_url, text)
                             : NULL;
        url_t *sender =
            kg_compose_uri(home, requests, sip->sip_from->a_url, by, way->from, way->to, &target->flow);
        url_t *receiver =
            kg_compose_uri(home, requests, sip->sip_to->a_url, target->user[0] ? target->user : NULL,
                           way->from, way->to, &target->flow);
        if (!sender || !receiver)
            return false;
        *from->a_url = *sender;
        *to->a_url = *receiver;
        out->where = target->contact[0]
                         ? url_hdup(home, URL_STRING_MAKE(target->contact)->us_url)
                         : kg_compose_uri(home, requests, asked, NULL, way->from, way->to, &target->flow);
    }
    kg_party_hide(&p, sip, from);
    out->from = kg_compose_name(home, from->a_display, from->a_url);
    out->to = kg_compose_name(home, to->a_display, to->a_url);
    return out->from && out->to && out->where;
}
