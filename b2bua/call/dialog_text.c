/* Header texts that name dialogs: each as it has to read on the other side. */
#include "b2bua/call/dialogs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/url.h>

/* The same dialog on the other side; NULL: text is none. */
static const char *translate(su_home_t *home, struct kg_calls *calls, const char *text, bool to_pbx,
                             struct kg_dialog_id *id)
{
    size_t size = strlen(text) + 3 * KG_DIALOG_TEXT;
    char *out = su_alloc(home, (isize_t)size);
    if (!out || kg_dialog_parse(text, id) != 0)
        return NULL;
    kg_dialog_translate(calls, id, to_pbx);
    return kg_dialog_format(id, text, out, size) ? out : NULL;
}

const char *kg_dialog_replaces(su_home_t *home, struct kg_calls *calls, const char *text, bool to_pbx)
{
    struct kg_dialog_id id;
    return translate(home, calls, text, to_pbx, &id);
}

/* RFC 4538 7: local and remote from the recipient's point of view, as to-tag and from-tag are. */
const char *kg_dialog_target(su_home_t *home, struct kg_calls *calls, const char *text, bool to_pbx)
{
    struct kg_dialog_id id;
    const sip_replaces_t *like = sip_replaces_make(home, text); /* the same grammar but for the names */
    const char *local = like ? msg_params_find(like->rp_params, "local-tag=") : NULL;
    const char *remote = like ? msg_params_find(like->rp_params, "remote-tag=") : NULL;
    if (!local || !remote)
        return NULL;
    const char *twin = su_sprintf(home, "%s;to-tag=%s;from-tag=%s", like->rp_call_id, local, remote);
    if (!twin || !translate(home, calls, twin, to_pbx, &id))
        return NULL;
    return su_sprintf(home, "%s;local-tag=%s;remote-tag=%s", id.call_id, id.to_tag, id.from_tag);
}

/* Headers of the request that a REFER asks for which may be in Refer-To's URI; others are nobody's to set
 * (RFC 3261 19.1.5). */
static const char *const uri_headers[] = {"Replaces", "Join",         "Require",
                                          "Subject",  "User-to-User", "Accept-Contact"};

static bool may_be_in_uri(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof uri_headers / sizeof uri_headers[0]; i++)
        if (strlen(uri_headers[i]) == len && strncasecmp(uri_headers[i], name, len) == 0)
            return true;
    return false;
}

/* RFC 3261 25.1, hvalue: all but the unreserved characters is escaped. */
static const char *escape(su_home_t *home, const char *text)
{
    static const char digit[] = "0123456789ABCDEF";
    char *out = su_alloc(home, (isize_t)(3 * strlen(text) + 1));
    size_t n = 0;
    for (; out && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-_.!~*'()", c)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = digit[c >> 4];
            out[n++] = digit[c & 15];
        }
    }
    if (out)
        out[n] = '\0';
    return out;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            return true;
    return false;
}

static bool is_dialog_header(const char *name, size_t len)
{
    return (len == 8 && strncasecmp(name, "Replaces", len) == 0) ||
           (len == 4 && strncasecmp(name, "Join", len) == 0);
}

/* "Replaces=...&Require=..." with each dialog as `to`'s peer has to name it. "": none is left. NULL: no
 * memory, a Replaces that is none, or control characters. */
const char *kg_dialog_uri_headers(su_home_t *home, struct kg_calls *calls, const char *headers, bool to_pbx)
{
    const char *out = "";
    while (headers && *headers) {
        size_t len = strcspn(headers, "&"), name = strcspn(headers, "=&");
        char *value = name < len ? su_strndup(home, headers + name + 1, (isize_t)(len - name - 1)) : NULL;
        if (value && may_be_in_uri(headers, name)) {
            struct kg_dialog_id id;
            const char *text = value;
            url_unescape(value, value);
            if (has_control(value)) /* it would become another header at whoever takes it out */
                return NULL;
            if (is_dialog_header(headers, name))
                text = translate(home, calls, value, to_pbx, &id);
            text = text ? escape(home, text) : NULL;
            out =
                text ? su_sprintf(home, "%s%s%.*s=%s", out, *out ? "&" : "", (int)name, headers, text) : NULL;
            if (!out)
                return NULL;
        }
        headers += len + (headers[len] == '&');
    }
    return out;
}
