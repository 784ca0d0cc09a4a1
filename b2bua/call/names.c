/* Names of parties as header texts, and what passes to a leg. */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/url.h>

#include "b2bua/route/trunks.h"
#include "conf/log.h"

void kg_leg_name_trunk(struct kg_leg *leg)
{
    char **name = &leg->call->record->leg[leg->side].trunk;
    const char *now = leg->trunk ? kg_trunk_config(leg->trunk)->name : NULL;
    if ((!*name && !now) || (*name && now && strcmp(*name, now) == 0))
        return;
    free(*name);
    *name = now ? strdup(now) : NULL;
}

void kg_leg_set_trunk(struct kg_leg *leg, struct kg_trunk *trunk)
{
    if (trunk == leg->trunk)
        return;
    if (leg->trunk)
        kg_trunk_end_call(leg->trunk);
    leg->trunk = trunk;
    if (!trunk)
        return; /* the record keeps the name */
    kg_trunk_begin_call(trunk);
    kg_leg_name_trunk(leg);
}

struct kg_peer kg_leg_peer(const struct kg_leg *leg)
{
    if (leg->trunk)
        return (struct kg_peer){.kind = KG_PEER_TRUNK, .trusted = kg_trunk_config(leg->trunk)->trusted};
    return (struct kg_peer){.kind = leg->pbx ? KG_PEER_PBX : KG_PEER_PHONE};
}

void kg_leg_pass(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *out)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    size_t left_out =
        kg_headers_pass(&call->calls->server->config, sip, kg_leg_peer(from), kg_leg_peer(leg), out);
    kg_parties_identify(leg, sip, out);
    if (left_out > 0)
        kg_info("call", "call %s: %zu headers of %s do not pass: more than %d, or with control characters",
                call->record->id, left_out, call->record->leg[from->side].user, KG_PASSED_MAX);
}

char *kg_url_text(const url_t *url)
{
    isize_t len = url_len(url) + 1;
    char *text = malloc((size_t)len);
    if (text)
        url_e(text, len, url);
    return text;
}

char *kg_name_addr(const char *display, const url_t *url)
{
    bool has_name = display && *display;
    size_t name_len = has_name ? strlen(display) : 0;
    isize_t url_size = url_len(url) + 1;
    size_t size = name_len + (size_t)url_size + 4;
    char *text = malloc(size);
    if (!text)
        return NULL;
    size_t n = (size_t)snprintf(text, size, "%s%s<", has_name ? display : "", has_name ? " " : "");
    n += (size_t)url_e(text + n, url_size, url);
    snprintf(text + n, size - n, ">");
    return text;
}
