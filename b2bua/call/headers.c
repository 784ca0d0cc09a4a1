/* Which headers pass from one leg to the other, and header texts. Everything that is not in the table stays
 * on its side: Via, Record-Route, Contact, Call-ID, User-Agent and Server tell of the network they come from.
 */
#include "b2bua/call/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

enum {
    PHONE_TO_PHONE = 1,
    PHONE_TO_PBX = 2,
    PBX_TO_PHONE = 4,
    PBX_TO_PBX = 8,
    ANY = 15,
    /* Credentials go only to the PBX they are for, challenges only come from it (CVE-2021-41158). */
};

static const struct {
    msg_hclass_t *class;
    unsigned where;
} known[] = {
    {sip_subject_class, ANY},
    {sip_priority_class, ANY},
    {sip_privacy_class, ANY},
    {sip_date_class, ANY},
    {sip_accept_language_class, ANY},
    {sip_reason_class, ANY},
    {sip_authorization_class, PHONE_TO_PBX},
    {sip_proxy_authorization_class, PHONE_TO_PBX},
    {sip_www_authenticate_class, PBX_TO_PHONE},
    {sip_proxy_authenticate_class, PBX_TO_PHONE},
    {sip_call_info_class, PBX_TO_PHONE},
    {sip_retry_after_class, PBX_TO_PHONE},
};

/* Headers that libsofia has no class for. */
static const struct {
    const char *name;
    unsigned where;
} unknown[] = {
    {"Alert-Info", PBX_TO_PHONE}, /* ring tones and automatic answer: for the PBX to say */
    {"Answer-Mode", PBX_TO_PHONE},
    {"P-Preferred-Identity", PHONE_TO_PBX},
};

static unsigned direction(const struct kg_leg *from, const struct kg_leg *to)
{
    if (from->pbx)
        return to->pbx ? PBX_TO_PBX : PBX_TO_PHONE;
    return to->pbx ? PHONE_TO_PBX : PHONE_TO_PHONE;
}

void kg_headers_pass(const sip_t *sip, const struct kg_leg *from, const struct kg_leg *to,
                     struct kg_passed *out)
{
    unsigned where = direction(from, to);
    size_t count = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0] && count < KG_PASSED_MAX; i++) {
        const msg_header_t *header =
            known[i].where & where ? msg_header_access((const msg_pub_t *)sip, known[i].class) : NULL;
        if (header)
            out->tag[count++] = (tagi_t){siptag_header, (tag_value_t)header};
    }
    for (const sip_unknown_t *header = sip->sip_unknown; header && count < KG_PASSED_MAX;
         header = header->un_next)
        for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
            if (unknown[i].where & where && strcasecmp(header->un_name, unknown[i].name) == 0) {
                sip_unknown_t *copy =
                    &out->unknown[count]; /* alone: nta would take the rest of the list too */
                *copy = *header;
                copy->un_next = NULL;
                out->tag[count++] = (tagi_t){siptag_header, (tag_value_t)copy};
                break;
            }
    out->tag[count] = (tagi_t){NULL, 0};
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
