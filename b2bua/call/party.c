#include "b2bua/call/party.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/sip/uri.h"

struct kg_peer kg_party_peer(struct kg_party_side side)
{
    return (struct kg_peer){.kind = side.kind,
                            .trusted = side.kind == KG_PEER_TRUNK && kg_trunk_config(side.trunk)->trusted};
}

const char *kg_party_side_name(struct kg_party_side side)
{
    if (side.kind == KG_PEER_TRUNK)
        return kg_trunk_config(side.trunk)->name;
    return side.kind == KG_PEER_PBX ? "pbx" : "phone";
}

const char *kg_party_user(const struct kg_party_passage *p, enum kg_number_of of, const char *own,
                          const url_t *url, char out[static KG_IDENTITY_USER])
{
    const char *came = url->url_type == url_tel ? url->url_host : url->url_user;
    char plain[128] = "", written[KG_NUMBER_SIZE];
    if (p->config->number_count > 0 && (own || (came && strlen(came) < sizeof plain))) {
        if (own)
            snprintf(plain, sizeof plain, "%s", own);
        else
            url_unescape(plain, came);
        if (kg_number_rewrite(p->config, KG_NUMBER_TO, kg_party_side_name(p->to), of, plain, written)) {
            kg_uri_escape_user(written, out, KG_IDENTITY_USER);
            return out;
        }
    }
    if (!own)
        return came;
    kg_uri_escape_user(own, out, KG_IDENTITY_USER);
    return out;
}

url_t kg_party_url(const char *user, const char *host)
{
    return (url_t){.url_type = url_sip, .url_scheme = "sip", .url_user = user, .url_host = host};
}

const char *kg_party_shown_host(const struct kg_party_passage *p, const url_t *url, const char *own)
{
    const char *domain = p->config->sip.domain;
    struct kg_addr numeric;
    if (p->from.kind == KG_PEER_PBX && url->url_host && kg_addr_parse_host(url->url_host, 0, &numeric))
        return url->url_host; /* the PBX's domain */
    return domain[0] ? domain : own;
}

void kg_party_to_trunk(const struct kg_trunk *trunk, const sip_t *sip, const char *caller, const char *called,
                       sip_from_t *from, sip_to_t *to)
{
    const struct kg_trunk_config *config = kg_trunk_config(trunk);
    const char *domain = kg_trunk_domain(trunk);
    bool account = config->from == KG_CALLER_ID_ACCOUNT && config->user[0];
    from->a_display = account ? NULL : sip->sip_from->a_display;
    *from->a_url = kg_party_url(account ? config->user : caller, domain);
    *to->a_url = kg_party_url(called, domain);
}

void kg_party_hide(const struct kg_party_passage *p, const sip_t *sip, sip_from_t *from)
{
    bool as_is = p->to.kind == KG_PEER_PBX; /* a PBX gets what its phone wrote */
    if (!kg_privacy_hides_caller(kg_privacy_of(sip), kg_party_peer(p->to)) &&
        (as_is || !kg_identity_is_anonymous(sip->sip_from->a_url)))
        return;
    from->a_display = KG_ANONYMOUS_DISPLAY;
    *from->a_url = kg_party_url(KG_ANONYMOUS_USER, KG_ANONYMOUS_HOST);
}

/* ---- asserted identity ---- */

static bool write_caller(void *ctx, const char *user, char out[static KG_IDENTITY_USER])
{
    const struct kg_party_passage *p = ctx;
    char came[KG_NUMBER_SIZE], goes[KG_NUMBER_SIZE];
    bool came_so = kg_number_rewrite(p->config, KG_NUMBER_FROM, kg_party_side_name(p->from), KG_NUMBER_CALLER,
                                     user, came);
    const char *now = came_so ? came : user;
    bool goes_so =
        kg_number_rewrite(p->config, KG_NUMBER_TO, kg_party_side_name(p->to), KG_NUMBER_CALLER, now, goes);
    if (goes_so)
        now = goes;
    if (came_so || goes_so)
        kg_uri_escape_user(now, out, KG_IDENTITY_USER);
    return came_so || goes_so;
}

static void rewrite_identities(struct kg_party_passage *p, struct kg_passed *passed)
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

static void assert_identity(struct kg_party_passage *p, const char *user, struct kg_passed *passed)
{
    const char *domain = p->config->sip.domain;
    char written[KG_IDENTITY_USER];
    size_t count = 0;
    while (passed->tag[count].t_tag)
        count++;
    if (!domain[0] || count == KG_PASSED_MAX || passed->texts == KG_PASSED_TEXTS)
        return;
    if (!write_caller(p, user, written))
        kg_uri_escape_user(user, written, sizeof written);
    char *text = passed->text[passed->texts];
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

void kg_party_identify(const struct kg_party_passage *passage, const sip_t *sip, const char *account,
                       struct kg_passed *passed)
{
    struct kg_party_passage p = *passage;
    if (p.config->number_count > 0)
        rewrite_identities(&p, passed);
    if (account && sip->sip_request && p.config->pbx_count == 0 && p.from.kind == KG_PEER_PHONE &&
        kg_peer_is_trusted(kg_party_peer(p.to)))
        assert_identity(&p, account, passed);
}
