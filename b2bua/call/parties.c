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

#include "b2bua/call/party.h"
#include "b2bua/sip/sip.h"

#define USER_SIZE KG_IDENTITY_USER

static struct kg_party_side side_of(const struct kg_leg *leg)
{
    enum kg_peer_kind kind = leg->trunk ? KG_PEER_TRUNK : leg->pbx ? KG_PEER_PBX : KG_PEER_PHONE;
    return (struct kg_party_side){.kind = kind, .trunk = leg->trunk};
}

/* From the other side of the call to leg's. */
static struct kg_party_passage passage_to(const struct kg_leg *leg)
{
    const struct kg_call *call = leg->call;
    return (struct kg_party_passage){.config = &call->calls->server->config,
                                     .from = side_of(&call->leg[kg_other_side(leg->side)]),
                                     .to = side_of(leg)};
}

/* Whom the INVITE is for: where the call was diverted to, or what `numbers` made of the number. */
static const char *called_by(const struct kg_leg *leg)
{
    const struct kg_call *call = leg->call;
    const struct kg_call_target *target = call->target ? &call->target[kg_branch_target(leg)] : NULL;
    return target && target->diverted ? target->user : call->called_number;
}

static void bracketed(const struct kg_addr *addr, char out[static KG_ADDR_STR + 2])
{
    char host[KG_ADDR_STR];
    kg_addr_format_host(addr, host);
    snprintf(out, KG_ADDR_STR + 2, strchr(host, ':') ? "[%s]" : "%s", host);
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
        *to->a_url = kg_party_url(called, there);
    else if (rewritten && to->a_url->url_type != url_tel)
        to->a_url->url_user = called;
}

static void to_phone(const struct kg_leg *leg, const struct kg_party_passage *p, const sip_t *sip,
                     const char *caller, const char *own, sip_from_t *from, sip_to_t *to)
{
    const char *user = leg->call->record->leg[KG_SIDE_B].user;
    from->a_display = sip->sip_from->a_display;
    *from->a_url = kg_party_url(caller, kg_party_shown_host(p, sip->sip_from->a_url, own));
    *to->a_url = kg_party_url(user ? user : sip->sip_to->a_url->url_user,
                              kg_party_shown_host(p, sip->sip_to->a_url, own));
}

int kg_parties_open(struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_call *call = leg->call;
    const struct kg_party_passage p = passage_to(leg);
    char caller_text[USER_SIZE], called_text[USER_SIZE], own[KG_ADDR_STR + 2], there[KG_ADDR_STR + 2];
    struct kg_sip_host text[2];
    sip_from_t from[1];
    sip_to_t to[1];
    sip_from_init(from);
    sip_to_init(to);
    bracketed(&leg->flow.local, own);
    bracketed(&leg->flow.remote, there);
    const char *caller =
        kg_party_user(&p, KG_NUMBER_CALLER, call->caller_number, sip->sip_from->a_url, caller_text);
    const char *called =
        kg_party_user(&p, KG_NUMBER_CALLED, called_by(leg), sip->sip_request->rq_url, called_text);
    from->a_display = sip->sip_from->a_display;
    to->a_display = leg->trunk ? NULL : sip->sip_to->a_display;
    if (leg->trunk)
        kg_party_to_trunk(leg->trunk, sip, caller, called, from, to);
    else if (leg->pbx)
        to_pbx(leg, sip, caller, called, there, text, from, to);
    else
        to_phone(leg, &p, sip, caller, own, from, to);
    kg_party_hide(&p, sip, from);
    return kg_leg_open(leg, from, to);
}

/* To a server whose numeric address nobody else writes: the trunk's domain, the PBX's address. */
char *kg_parties_target(const struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_call *call = leg->call;
    const struct kg_party_passage p = passage_to(leg);
    const url_t *came = sip->sip_request->rq_url;
    char text[USER_SIZE], there[KG_ADDR_STR + 2];
    const char *called = kg_party_user(&p, KG_NUMBER_CALLED, called_by(leg), came, text);
    struct kg_sip_host host;
    char port[8];
    url_t url = *came;
    if (leg->trunk) {
        url = kg_party_url(called, kg_trunk_domain(leg->trunk));
        url.url_port = kg_trunk_port(leg->trunk);
    } else if (call->leg[KG_SIDE_A].trunk) {
        bracketed(&leg->flow.remote, there);
        snprintf(port, sizeof port, "%u", (unsigned)kg_addr_port(&leg->flow.remote));
        url = kg_party_url(called, there);
        url.url_port = port;
    } else if (came->url_type != url_tel) {
        url.url_user = called;
        kg_sip_mean_server(call->calls->server->sip, &url, &leg->flow.remote, &host);
    }
    return kg_url_text(&url);
}

void kg_parties_identify(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *passed)
{
    const struct kg_party_passage p = passage_to(leg);
    const struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    kg_party_identify(&p, sip, leg->call->record->leg[from->side].user, passed);
}
