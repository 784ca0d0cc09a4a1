/* Bodies of messages: where the SDP of one is, and the body that the other side's message gets. What is not
 * SDP passes as it is. */
#include "b2bua/call/call.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_tag.h>

/* The multipart around a description that has not been agreed yet. */
struct kg_frame {
    struct kg_multipart at;
    char type[KG_MULTIPART_HEADER_MAX + 1]; /* its Content-Type */
    size_t len;
    char body[];
};

static bool has_body(const sip_t *sip)
{
    return sip->sip_payload && sip->sip_payload->pl_len > 0;
}

/* With its parameters. False: none, or longer than anybody's. */
static bool type_of(const sip_t *sip, char out[static KG_MULTIPART_HEADER_MAX + 1])
{
    const msg_header_t *type = (const msg_header_t *)sip->sip_content_type;
    issize_t len = type ? msg_header_field_e(out, KG_MULTIPART_HEADER_MAX + 1, type, 0) : -1;
    return len >= 0 && len <= KG_MULTIPART_HEADER_MAX;
}

enum kg_sdp_found kg_body_find(const sip_t *sip, struct kg_multipart *at, char *error, size_t size)
{
    const sip_content_type_t *type = sip->sip_content_type;
    char text[KG_MULTIPART_HEADER_MAX + 1];
    if (!has_body(sip) || !type || !type->c_type)
        return KG_SDP_NONE;
    *at = (struct kg_multipart){.sdp_len = sip->sip_payload->pl_len};
    if (strcasecmp(type->c_type, "application/sdp") == 0)
        return KG_SDP_OK;
    if (!kg_multipart_is(type->c_type))
        return KG_SDP_NONE;
    if (!type_of(sip, text)) {
        snprintf(error, size, "the Content-Type of the multipart body is too long");
        return KG_SDP_BAD;
    }
    switch (kg_multipart_find(text, sip->sip_payload->pl_data, sip->sip_payload->pl_len, at, error, size)) {
    case KG_MULTIPART_SDP:
        return KG_SDP_OK;
    case KG_MULTIPART_NONE:
        return KG_SDP_NONE;
    case KG_MULTIPART_BAD:
        break;
    }
    return KG_SDP_BAD;
}

bool kg_body_has_sdp(const sip_t *sip)
{
    char error[160];
    struct kg_multipart at;
    return kg_body_find(sip, &at, error, sizeof error) != KG_SDP_NONE;
}

int kg_body_keep(const sip_t *sip, const struct kg_multipart *at, struct kg_frame **out)
{
    size_t len = sip->sip_payload->pl_len;
    *out = NULL;
    if (at->sdp_len == len) /* it is all of the body */
        return 0;
    struct kg_frame *frame = malloc(sizeof *frame + len);
    if (!frame)
        return ENOMEM;
    frame->at = *at;
    frame->len = len;
    memcpy(frame->body, sip->sip_payload->pl_data, len);
    type_of(sip, frame->type);
    *out = frame;
    return 0;
}

void kg_body_begin(struct kg_body *body)
{
    memset(body, 0, sizeof *body);
}

void kg_body_sdp(struct kg_body *body, const struct kg_leg *leg, char *sdp, size_t len)
{
    const struct kg_frame *frame = leg->call->leg[kg_other_side(leg->side)].frame;
    size_t n = 0;
    body->text = sdp;
    if (frame && (body->text = kg_multipart_put(frame->body, frame->len, &frame->at, sdp, len, &len))) {
        free(sdp);
        snprintf(body->type, sizeof body->type, "%s", frame->type);
        body->tag[n++] = (tagi_t){SIPTAG_CONTENT_TYPE_STR(body->type)};
        body->tag[n++] = (tagi_t){SIPTAG_MIME_VERSION_STR("1.0")}; /* RFC 2045 4 */
    } else {
        body->text = sdp; /* without memory the description alone has to do */
        body->tag[n++] = (tagi_t){SIPTAG_CONTENT_TYPE(leg->call->calls->content_type)};
    }
    sip_payload_init(body->payload)->pl_data = body->text;
    body->payload->pl_len = len;
    body->tag[n] = (tagi_t){SIPTAG_PAYLOAD(body->payload)};
}

/* RFC 8262 1.2: what a part of the message (Call-Info, Geolocation) calls this body by. The library has no
 * class for it. */
static const sip_unknown_t *content_id_of(const sip_t *sip)
{
    const sip_unknown_t *header = sip->sip_unknown;
    while (header && strcasecmp(header->un_name, "Content-ID") != 0)
        header = header->un_next;
    for (const char *c = header ? header->un_value : NULL; c && *c; c++)
        if (iscntrl((unsigned char)*c))
            return NULL;
    return header;
}

void kg_body_pass_foreign(struct kg_body *body, const sip_t *sip)
{
    if (has_body(sip) && sip->sip_payload->pl_len <= KG_FOREIGN_BODY_MAX && !kg_body_has_sdp(sip))
        kg_body_pass(body, sip);
}

void kg_body_pass(struct kg_body *body, const sip_t *sip)
{
    const sip_unknown_t *content_id = content_id_of(sip);
    size_t n = 0;
    if (!has_body(sip) || !sip->sip_content_type)
        return;
    const msg_header_t *const headers[] = {
        (const msg_header_t *)sip->sip_content_type,     (const msg_header_t *)sip->sip_content_disposition,
        (const msg_header_t *)sip->sip_content_encoding, (const msg_header_t *)sip->sip_content_language,
        (const msg_header_t *)sip->sip_mime_version,     (const msg_header_t *)sip->sip_payload};
    body->payload->pl_len = sip->sip_payload->pl_len;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (headers[i])
            body->tag[n++] = (tagi_t){siptag_header, (tag_value_t)headers[i]};
    if (content_id) {
        *body->content_id = *content_id; /* alone: nta would take the rest of the list too */
        body->content_id->un_next = NULL;
        body->tag[n++] = (tagi_t){siptag_header, (tag_value_t)body->content_id};
    }
}

size_t kg_body_len(const struct kg_body *body)
{
    return body->payload->pl_len;
}

const tagi_t *kg_body_tags(struct kg_body *body, const tagi_t *more)
{
    size_t n = 0;
    while (body->tag[n].t_tag)
        n++;
    body->tag[n] = more ? (tagi_t){TAG_NEXT(more)} : (tagi_t){TAG_END()};
    return body->tag;
}

void kg_body_end(struct kg_body *body)
{
    free(body->text);
    body->text = NULL;
}
