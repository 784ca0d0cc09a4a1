/* Names of parties as header texts, and what passes to a leg. */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/url.h>

#include "conf/log.h"

struct kg_peer kg_leg_peer(const struct kg_leg *leg)
{
    return (struct kg_peer){.kind = leg->pbx ? KG_PEER_PBX : KG_PEER_PHONE};
}

void kg_leg_pass(const struct kg_leg *leg, const sip_t *sip, struct kg_passed *out)
{
    const struct kg_call *call = leg->call;
    const struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    size_t left_out =
        kg_headers_pass(&call->calls->server->config, sip, kg_leg_peer(from), kg_leg_peer(leg), out);
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
