/* Request URI, From and To of the INVITE to the callee: names and numbers as its side writes them, hosts that
 * mean something there, and no name where privacy is asked for. */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/identity.h"
#include "b2bua/route/numbers.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "b2bua/sip/uri.h"

#define USER_SIZE KG_IDENTITY_USER

static const char *side_of(const struct kg_leg *leg)
{
    if (leg->trunk)
        return kg_trunk_config(leg->trunk)->name;
    return leg->pbx ? "pbx" : "phone";
}

/* As the leg's side writes it. own: what it was made on its way in; NULL: url has it. Returns a text that is
 * escaped as in a URI: url's own, or out. */
static const char *user_for(const struct kg_leg *leg, enum kg_number_of of, const char *own, const url_t *url,
                            char out[static USER_SIZE])
{
    const struct kg_config *config = &leg->call->calls->server->config;
    const char *came = url->url_type == url_tel ? url->url_host : url->url_user;
    char plain[128] = "", written[KG_NUMBER_SIZE];
    if (config->number_count > 0 && (own || (came && strlen(came) < sizeof plain))) {
        if (own)
            snprintf(plain, sizeof plain, "%s", own);
        else
            url_unescape(plain, came);
        if (kg_number_rewrite(config, KG_NUMBER_TO, side_of(leg), of, plain, written)) {
            kg_uri_escape_user(written, out, USER_SIZE);
            return out;
        }
    }
    if (!own)
        return came;
    kg_uri_escape_user(own, out, USER_SIZE);
    return out;
}

/* Whom the INVITE is for: where the call was diverted to, or what `numbers` made of the number. */
static const char *called_by(const struct kg_leg *leg)
{
    const struct kg_call *call = leg->call;
    const struct kg_call_target *target = call->target ? &call->target[kg_branch_target(leg)] : NULL;
    return target && target->diverted ? target->user : call->called_number;
}

/* The host in From and To toward a phone: a numeric one would show an address of the other side's network,
 * and one of a provider could not be called back. */
static const char *shown_host(const struct kg_leg *leg, const url_t *url, const char *own)
{
    const struct kg_leg *caller = &leg->call->leg[KG_SIDE_A];
    const char *domain = leg->call->calls->server->config.sip.domain;
    struct kg_addr numeric;
    if (caller->pbx && !caller->trunk && url->url_host && kg_addr_parse_host(url->url_host, 0, &numeric))
        return url->url_host; /* the PBX's domain */
    return domain[0] ? domain : own;
}

/* A URI of plain SIP with this user and host. */
static url_t plain_url(const char *user, const char *host)
{
    return (url_t){.url_type = url_sip, .url_scheme = "sip", .url_user = user, .url_host = host};
}

static void bracketed(const struct kg_addr *addr, char out[static KG_ADDR_STR + 2])
{
    char host[KG_ADDR_STR];
    kg_addr_format_host(addr, host);
    snprintf(out, KG_ADDR_STR + 2, strchr(host, ':') ? "[%s]" : "%s", host);
}

static void to_trunk(const struct kg_leg *leg, const sip_t *sip, const char *caller, const char *called,
                     sip_from_t *from, sip_to_t *to)
{
    const struct kg_trunk_config *config = kg_trunk_config(leg->trunk);
    const char *domain = kg_trunk_domain(leg->trunk);
    bool account = config->from == KG_CALLER_ID_ACCOUNT && config->user[0];
    from->a_display = account ? NULL : sip->sip_from->a_display;
    *from->a_url = plain_url(account ? config->user : caller, domain);
    *to->a_url = plain_url(called, domain);
}

/* What a PBX routes and checks digests by: scheme, user, host and port. */
static url_t as_it_came(const url_t *url)
{
    return (url_t){.url_type = url->url_type,
                   .url_scheme = url->url_scheme,
                   .url_user = url->url_user,
                   .url_host = url->url_host,
                   .url_port = url->url_port};
}

/* What a phone wrote, it wrote for the PBX; what a trunk wrote means kedge. */
static void to_pbx(const struct kg_leg *leg, const sip_t *sip, const char *caller, const char *called,
                   const char *there, struct kg_sip_host text[static 2], sip_from_t *from, sip_to_t *to)
{
    bool rewritten = called != sip->sip_request->rq_url->url_user;
    const struct kg_sip *stack = leg->call->calls->server->sip;
    *from->a_url = as_it_came(sip->sip_from->a_url);
    *to->a_url = as_it_came(sip->sip_to->a_url);
    if (!leg->call->leg[KG_SIDE_A].pbx) {
        kg_sip_mean_server(stack, from->a_url, &leg->flow.remote, &text[0]);
        kg_sip_mean_server(stack, to->a_url, &leg->flow.remote, &text[1]);
    }
    if (from->a_url->url_type != url_tel)
        from->a_url->url_user = caller;
    if (leg->call->leg[KG_SIDE_A].trunk)
        *to->a_url = plain_url(called, there);
    else if (rewritten && to->a_url->url_type != url_tel)
        to->a_url->url_user = called;
}

static void to_phone(const struct kg_leg *leg, const sip_t *sip, const char *caller, const char *own,
                     sip_from_t *from, sip_to_t *to)
{
    const char *user = leg->call->record->leg[KG_SIDE_B].user;
    from->a_display = sip->sip_from->a_display;
    *from->a_url = plain_url(caller, shown_host(leg, sip->sip_from->a_url, own));
    *to->a_url =
        plain_url(user ? user : sip->sip_to->a_url->url_user, shown_host(leg, sip->sip_to->a_url, own));
}

int kg_parties_open(struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_call *call = leg->call;
    char caller_text[USER_SIZE], called_text[USER_SIZE], own[KG_ADDR_STR + 2], there[KG_ADDR_STR + 2];
    struct kg_sip_host text[2];
    sip_from_t from[1];
    sip_to_t to[1];
    sip_from_init(from);
    sip_to_init(to);
    bracketed(&leg->flow.local, own);
    bracketed(&leg->flow.remote, there);
    const char *caller =
        user_for(leg, KG_NUMBER_CALLER, call->caller_number, sip->sip_from->a_url, caller_text);
    const char *called =
        user_for(leg, KG_NUMBER_CALLED, called_by(leg), sip->sip_request->rq_url, called_text);
    from->a_display = sip->sip_from->a_display;
    to->a_display = leg->trunk ? NULL : sip->sip_to->a_display;
    if (leg->trunk)
        to_trunk(leg, sip, caller, called, from, to);
    else if (leg->pbx)
        to_pbx(leg, sip, caller, called, there, text, from, to);
    else
        to_phone(leg, sip, caller, own, from, to);
    bool as_is = leg->pbx && !leg->trunk; /* a PBX gets what its phone wrote */
    if (kg_privacy_hides_caller(kg_privacy_of(sip), kg_leg_peer(leg)) ||
        (kg_identity_is_anonymous(sip->sip_from->a_url) && !as_is)) {
        from->a_display = KG_ANONYMOUS_DISPLAY;
        *from->a_url = plain_url(KG_ANONYMOUS_USER, KG_ANONYMOUS_HOST);
    }
    return kg_leg_open(leg, from, to);
}

/* To a server whose numeric address nobody else writes: the trunk's domain, the PBX's address. */
char *kg_parties_target(const struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_call *call = leg->call;
    const url_t *came = sip->sip_request->rq_url;
    char text[USER_SIZE], there[KG_ADDR_STR + 2];
    const char *called = user_for(leg, KG_NUMBER_CALLED, called_by(leg), came, text);
    struct kg_sip_host host;
    char port[8];
    url_t url = *came;
    if (leg->trunk) {
        url = plain_url(called, kg_trunk_domain(leg->trunk));
        url.url_port = kg_trunk_port(leg->trunk);
    } else if (call->leg[KG_SIDE_A].trunk) {
        bracketed(&leg->flow.remote, there);
        snprintf(port, sizeof port, "%u", (unsigned)kg_addr_port(&leg->flow.remote));
        url = plain_url(called, there);
        url.url_port = port;
    } else if (came->url_type != url_tel) {
        url.url_user = called;
        kg_sip_mean_server(call->calls->server->sip, &url, &leg->flow.remote, &host);
    }
    return kg_url_text(&url);
}

/* ---- asserted identity ---- */

struct passage {
    const struct kg_leg *from, *to;
};

static bool write_caller(void *ctx, const char *user, char out[static USER_SIZE])
{
    const struct passage *p = ctx;
    const struct kg_config *config = &p->to->call->calls->server->config;
    char came[KG_NUMBER_SIZE], goes[KG_NUMBER_SIZE];
    bool came_so = kg_number_rewrite(config, KG_NUMBER_FROM, side_of(p->from), KG_NUMBER_CALLER, user, came);
    const char *now = came_so ? came : user;
    bool goes_so = kg_number_rewrite(config, KG_NUMBER_TO, side_of(p->to), KG_NUMBER_CALLER, now, goes);
    if (goes_so)
        now = goes;
    if (came_so || goes_so)
        kg_uri_escape_user(now, out, USER_SIZE);
    return came_so || goes_so;
}

static void rewrite_identities(struct passage *p, struct kg_passed *passed)
{
    for (const tagi_t *tag = passed->tag; tag->t_tag && passed->texts < KG_PASSED_TEXTS; tag++) {
        sip_unknown_t *header = (sip_unknown_t *)tag->t_value;
        if (header < passed->unknown || header >= passed->unknown + KG_PASSED_MAX ||
            strcasecmp(header->un_name, "P-Asserted-Identity") != 0)
            continue;
        char *text = passed->text[passed->texts];
        if (!kg_identity_rewrite(header->un_value, write_caller, p, text, KG_PASSED_TEXT_SIZE))
            continue;
        header->un_value = text;
        passed->texts++;
    }
}

/* RFC 3325 5: kedge itself has authenticated the phone. */
static void assert_identity(struct passage *p, const sip_t *sip, struct kg_passed *passed)
{
    const struct kg_leg *from = p->from;
    const char *user = from->call->record->leg[from->side].user;
    const char *domain = from->call->calls->server->config.sip.domain;
    char written[USER_SIZE], *text = passed->text[passed->texts];
    size_t count = 0;
    while (passed->tag[count].t_tag)
        count++;
    if (!sip->sip_request || !user || !domain[0] || count == KG_PASSED_MAX ||
        passed->texts == KG_PASSED_TEXTS)
        return;
    if (!write_caller(p, user, written))
        kg_uri_escape_user(user, written, USER_SIZE);
    int len = snprintf(text, KG_PASSED_TEXT_SIZE, "<sip:%s@%s>", written, domain);
    if (len < 0 || len >= KG_PASSED_TEXT_SIZE)
        return;
    sip_unknown_t *header = sip_unknown_init(&passed->unknown[count]);
    header->un_name = "P-Asserted-Identity";
    header->un_value = text;
    passed->texts++;
    passed->tag[count] = (tagi_t){siptag_header, (tag_value_t)header};
    passed->tag[count + 1] = (tagi_t){NULL, 0};
}

void kg_parties_identify(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *passed)
{
    const struct kg_config *config = &leg->call->calls->server->config;
    struct passage p = {.from = &leg->call->leg[kg_other_side(leg->side)], .to = leg};
    if (config->number_count > 0)
        rewrite_identities(&p, passed);
    if (config->pbx_count == 0 && !p.from->pbx && kg_peer_is_trusted(kg_leg_peer(leg)))
        assert_identity(&p, sip, passed);
}
