/* Bodies that name dialogs: what stands in dialog-info (RFC 4235) for the other side. */
#include "b2bua/request/inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/url.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/request/dialog_info.h"
#include "b2bua/sip/sip.h"

struct reader {
    const struct kg_server *server;
    struct kg_peer to;
};

_Static_assert(KG_DIALOG_INFO_TEXT == KG_DIALOG_TEXT, "identifiers are copied");

/* In a Replaces header for the party that is watched, its local tag is the to-tag. */
static bool translate(void *ctx, struct kg_dialog_info_id *id)
{
    const struct reader *reader = ctx;
    struct kg_dialog_id dialog;
    if (!id->call_id[0] || !id->local_tag[0] || !id->remote_tag[0])
        return false; /* nobody can pick it up yet */
    memcpy(dialog.call_id, id->call_id, sizeof dialog.call_id);
    memcpy(dialog.to_tag, id->local_tag, sizeof dialog.to_tag);
    memcpy(dialog.from_tag, id->remote_tag, sizeof dialog.from_tag);
    if (!kg_dialog_translate(reader->server->calls, &dialog, reader->to.kind != KG_PEER_PHONE))
        return false;
    memcpy(id->call_id, dialog.call_id, sizeof dialog.call_id);
    memcpy(id->local_tag, dialog.to_tag, sizeof dialog.to_tag);
    memcpy(id->remote_tag, dialog.from_tag, sizeof dialog.from_tag);
    return true;
}

/* A target is where a phone may be called directly (RFC 4235 4.1.6.2). Toward the PBX that is a Contact of
 * kedge's, which nobody else can call: there stands who it is. */
static bool name_target(void *ctx, const char *uri, const char *name, char *out, size_t size)
{
    const struct reader *reader = ctx;
    char copy[KG_DIALOG_INFO_URI];
    url_t url;
    if (!name[0] || (size_t)snprintf(copy, sizeof copy, "%s", uri) >= sizeof copy || url_d(&url, copy) != 0 ||
        !kg_sip_is_us(reader->server->sip, &url))
        return false;
    snprintf(out, size, "%s", name);
    return true;
}

/* The boundary of a multipart Content-Type, on home. NULL: none. */
static const char *boundary_of(su_home_t *home, const sip_content_type_t *type)
{
    const char *value = msg_params_find(type->c_params, "boundary=");
    size_t len = value ? strlen(value) : 0;
    if (strncasecmp(type->c_type, "multipart/", 10) != 0 || len == 0)
        return NULL;
    bool quoted = len >= 2 && value[0] == '"' && value[len - 1] == '"';
    return quoted ? su_strndup(home, value + 1, (isize_t)len - 2) : value;
}

const sip_payload_t *kg_body_translate(su_home_t *home, const struct kg_requests *requests, const sip_t *sip,
                                       struct kg_peer to)
{
    struct reader reader = {.server = requests->server, .to = to};
    const struct kg_dialog_info_words words = {&reader, translate, name_target};
    const sip_payload_t *body = sip->sip_payload;
    const sip_content_type_t *type = sip->sip_content_type;
    size_t len = 0;
    char *text = NULL;
    if (!type || !type->c_type || kg_sip_is_encoded(sip))
        return body;
    const char *boundary = boundary_of(home, type);
    if (boundary)
        text = kg_dialog_info_rewrite_parts(body->pl_data, body->pl_len, boundary, &words, &len);
    else if (strcasecmp(type->c_type, "application/dialog-info+xml") == 0)
        text = kg_dialog_info_rewrite(body->pl_data, body->pl_len, &words, &len);
    sip_payload_t *made = text ? sip_payload_create(home, text, (isize_t)len) : NULL; /* a copy */
    free(text);
    return made ? made : body;
}
