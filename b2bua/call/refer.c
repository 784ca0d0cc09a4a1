#include "b2bua/call/refer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/caps.h"
#include "b2bua/sip/sip.h"
#include "conf/log.h"

/* ---- lists ---- */

void kg_list_begin(struct kg_list *list)
{
    list->count = 0;
    list->tag[0] = (tagi_t){NULL, 0};
    *list->home = (su_home_t)SU_HOME_INIT(list->home);
    su_home_init(list->home);
}

void kg_list_end(struct kg_list *list)
{
    su_home_deinit(list->home);
}

static void add(struct kg_list *list, tag_type_t tag, tag_value_t value)
{
    if (list->count == KG_LIST_MAX)
        return;
    list->tag[list->count++] = (tagi_t){tag, value};
    list->tag[list->count] = (tagi_t){NULL, 0};
}

void kg_list_add(struct kg_list *list, const msg_header_t *header)
{
    if (!header)
        return;
    if (header->sh_class == sip_unknown_class) { /* nta would take the rest of the list too */
        sip_unknown_t *alone = su_alloc(list->home, sizeof *alone);
        if (!alone)
            return;
        *alone = *header->sh_unknown;
        alone->un_next = NULL;
        header = (const msg_header_t *)alone;
    }
    add(list, siptag_header, (tag_value_t)header);
}

void kg_list_text(struct kg_list *list, msg_hclass_t *class, const char *value)
{
    msg_header_t *made = value ? msg_header_make(list->home, class, value) : NULL;
    if (made)
        add(list, siptag_header, (tag_value_t)made);
}

void kg_list_next(struct kg_list *list, const tagi_t *more)
{
    if (list->count == KG_LIST_MAX)
        list->count--;
    add(list, tag_next, (tag_value_t)more);
}

/* ---- addresses ---- */

/* The URI of "name <sip:...>", as legs keep it. NULL: none. */
static const url_t *uri_of(su_home_t *home, const char *name_addr)
{
    const sip_from_t *addr = name_addr ? sip_from_make(home, name_addr) : NULL;
    return addr ? addr->a_url : NULL;
}

static bool is_numeric(const url_t *url)
{
    struct kg_addr host;
    return url->url_host && kg_addr_parse_host(url->url_host, 0, &host) == 0;
}

static bool is_at(const url_t *url, const struct kg_addr *place)
{
    struct kg_addr host;
    return url->url_host && kg_addr_parse_host(url->url_host, 0, &host) == 0 &&
           kg_addr_same_host(&host, place);
}

static void move_to(url_t *url, const url_t *there)
{
    url->url_host = there->url_host;
    url->url_port = there->url_port;
    url->url_params = NULL; /* transport, maddr and the like were about the other place */
}

/* A phone may name the other end of a call by the Contact that it knows, which is kedge's: the user part is
 * the call's id. leg: the one whose peer speaks. Returns the URI by which that end was called. */
static const url_t *behind_contact(su_home_t *home, const struct kg_leg *leg, const url_t *url)
{
    struct kg_calls *calls = leg->call->calls;
    struct kg_call *call = NULL;
    if (url->url_user && strlen(url->url_user) == KG_CALL_ID_LEN && kg_sip_is_us(calls->server->sip, url))
        call = kg_calls_find(calls, url->url_user);
    for (int side = 0; call && side < 2; side++) {
        const char *user = call->record->leg[side].user, *speaker = leg->call->record->leg[leg->side].user;
        bool same = kg_flow_same(&call->leg[side].flow, &leg->flow) ||
                    (user && speaker && strcmp(user, speaker) == 0);
        if (call->leg[side].pbx == leg->pbx && same)
            return uri_of(home, call->leg[!side].remote);
    }
    return NULL;
}

/* What `from`'s peer wrote, as it has to read for `to`'s peer. Addresses of kedge and of a PBX mean something
 * on one side alone; there the domain stands that `to`'s peer used for the other side. Names pass. */
static void adapt(su_home_t *home, url_t *url, const struct kg_leg *from, const struct kg_leg *to)
{
    const url_t *known = behind_contact(home, from, url);
    /* A PBX is told what its phone wrote in From and To, a phone what it dialled or was shown. */
    const url_t *there = uri_of(home, to->pbx ? to->remote : to->local);
    if (known) {
        url->url_user = known->url_user;
        move_to(url, known);
    }
    bool foreign =
        kg_sip_is_us(to->call->calls->server->sip, url) || (from->pbx && is_at(url, &from->flow.remote));
    if (there && is_numeric(url) && foreign)
        move_to(url, there);
}

/* ---- Refer-To ---- */

/* ;method=BYE and the like would be done in the name of who is asked to. */
static bool asks_for_a_call(const url_t *url)
{
    char method[16] = "INVITE";
    url_param(url->url_params, "method", method, sizeof method);
    return strcasecmp(method, "INVITE") == 0;
}

bool kg_refer_permits(const struct kg_leg *from, const url_t *target)
{
    const struct kg_server *server = from->call->calls->server;
    const char *user = kg_leg_payer(from);
    /* libsofia has a tel URI's number in either place. */
    const char *number =
        target->url_user || target->url_type != url_tel ? target->url_user : target->url_host;
    char plain[128];
    if (number && (strlen(number) >= sizeof plain || strstr(number, "%00")))
        return from->pbx;
    if (from->pbx || !server->caps || !user || !number)
        return true;
    url_unescape(plain, number);
    if (server->config.pbx_count == 0 && kg_registrar_has_account(server->registrar, plain))
        return true;
    return kg_caps_permit(server->caps, user, plain);
}

static int read_refer_to(struct kg_list *list, const sip_t *sip, const struct kg_leg *from,
                         const struct kg_leg *to, sip_refer_to_t **result)
{
    sip_refer_to_t *out;
    if (!sip->sip_refer_to) /* RFC 3515 2.4.2 */
        return 400;
    if (from->trunk && !from->call->calls->server->config.calls.refer_from_trunk)
        return 403; /* who calls in over a trunk would dial out on somebody's bill */
    const url_t *asked = sip->sip_refer_to->r_url;
    if (asked->url_type != url_sip && asked->url_type != url_sips && asked->url_type != url_tel)
        return 416;
    if (!from->pbx && !to->pbx && !asks_for_a_call(asked))
        return 403;
    out = sip_refer_to_dup(list->home, sip->sip_refer_to);
    if (!out)
        return 500;
    const char *headers =
        kg_dialog_uri_headers(list->home, to->call->calls, out->r_url->url_headers, to->pbx);
    if (!headers)
        return 400;
    adapt(list->home, out->r_url, from, to);
    if (!kg_refer_permits(from, out->r_url)) {
        kg_info("call", "call %s: %s may not have that number called (caps)", from->call->record->id,
                from->call->record->leg[from->side].user);
        return 403;
    }
    kg_replaces_hand_over(from, asked->url_headers);
    out->r_url->url_headers = *headers ? headers : NULL;
    *result = out;
    return 0;
}

const sip_refer_to_t *kg_refer_to_for(struct kg_list *list, const sip_t *sip, const struct kg_leg *from,
                                      const struct kg_leg *to, int *status)
{
    sip_refer_to_t *out = NULL;
    *status = read_refer_to(list, sip, from, to, &out);
    return *status ? NULL : out;
}

/* ---- the others ---- */

/* Who is behind an embedded registrar's call is known by password, whatever Referred-By says. */
static void pass_referred_by(struct kg_list *list, const sip_t *sip, const struct kg_leg *from,
                             const struct kg_leg *to)
{
    const struct kg_config *config = &from->call->calls->server->config;
    const char *user = from->call->record->leg[from->side].user;
    bool refer = sip->sip_request->rq_method == sip_method_refer;
    sip_referred_by_t *out =
        sip->sip_referred_by ? sip_referred_by_dup(list->home, sip->sip_referred_by) : NULL;
    if (!out)
        return;
    if (refer && !from->pbx && config->pbx_count == 0 && user) {
        out->b_display = NULL;
        out->b_url->url_user = user;
        out->b_url->url_host = config->sip.domain;
        out->b_url->url_port = out->b_url->url_params = NULL;
    }
    adapt(list->home, out->b_url, from, to);
    add(list, siptag_header, (tag_value_t)out);
}

static void pass_replaces(struct kg_list *list, const sip_t *sip, const struct kg_leg *to)
{
    const sip_replaces_t *replaces = sip->sip_replaces;
    const char *text = replaces ? sip_header_as_string(list->home, (const sip_header_t *)replaces) : NULL;
    if (text)
        kg_list_text(list, sip_replaces_class,
                     kg_dialog_replaces(list->home, to->call->calls, text, to->pbx));
}

static void pass_unknown(struct kg_list *list, const sip_t *sip, const struct kg_leg *to)
{
    for (const sip_unknown_t *h = sip->sip_unknown; h; h = h->un_next) {
        const char *value = NULL;
        if (strcasecmp(h->un_name, "Join") == 0 && h->un_value)
            value = kg_dialog_replaces(list->home, to->call->calls, h->un_value, to->pbx);
        else if (strcasecmp(h->un_name, "Target-Dialog") == 0 && h->un_value)
            value = kg_dialog_target(list->home, to->call->calls, h->un_value, to->pbx);
        if (value)
            kg_list_text(list, sip_unknown_class, su_sprintf(list->home, "%s: %s", h->un_name, value));
    }
}

/* "refer;id=93" of who was asked names kedge's REFER there, not the one that the other side sent. */
static void pass_event(struct kg_list *list, const sip_t *sip, const struct kg_leg *to)
{
    const sip_event_t *event = sip->sip_event;
    if (!event)
        return;
    unsigned long id = event->o_id ? strtoul(event->o_id, NULL, 10) : 0;
    for (size_t i = 0; id && i < KG_REFERS_MAX; i++)
        if (to->refers[i].out == id && event->o_type && strcasecmp(event->o_type, "refer") == 0) {
            kg_list_text(list, sip_event_class, su_sprintf(list->home, "refer;id=%u", to->refers[i].in));
            return;
        }
    kg_list_add(list, (const msg_header_t *)event);
}

int kg_refer_pass(struct kg_list *list, const sip_t *sip, const struct kg_leg *from, const struct kg_leg *to)
{
    sip_method_t method = sip->sip_request->rq_method;
    int status = 0;
    const sip_refer_to_t *refer_to =
        method == sip_method_refer ? kg_refer_to_for(list, sip, from, to, &status) : NULL;
    if (status)
        return status;
    kg_list_add(list, (const msg_header_t *)refer_to);
    pass_referred_by(list, sip, from, to);
    pass_unknown(list, sip, to);
    if (method == sip_method_invite)
        pass_replaces(list, sip, to);
    else
        pass_event(list, sip, to);
    return 0;
}

void kg_refer_sent(struct kg_leg *leg, uint32_t in, uint32_t out)
{
    memmove(leg->refers + 1, leg->refers, sizeof leg->refers - sizeof leg->refers[0]);
    leg->refers[0] = (struct kg_refer_seq){in, out};
}
