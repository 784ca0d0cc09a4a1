/* dialog-info of kedge's own calls. */
#include "b2bua/request/dialog_info.h"

#include <stdio.h>
#include <string.h>

/* A text on its way into a buffer; `full` once something did not fit. */
struct text {
    char *out;
    size_t size, used;
    bool full;
};

static void put(struct text *t, const char *raw, size_t len)
{
    if (t->full || len >= t->size - t->used) {
        t->full = true;
        return;
    }
    memcpy(t->out + t->used, raw, len);
    t->used += len;
    t->out[t->used] = '\0';
}

static void put_text(struct text *t, const char *text)
{
    put(t, text, strlen(text));
}

/* As character data or in an attribute. What is neither ASCII nor printable becomes a question mark:
 * identifiers of SIP are ASCII, and bytes that are no UTF-8 would make the whole document unreadable. */
static void put_escaped(struct text *t, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        const char *as = c == '&'   ? "&amp;"
                         : c == '<' ? "&lt;"
                         : c == '>' ? "&gt;"
                         : c == '"' ? "&quot;"
                                    : NULL;
        if (as)
            put_text(t, as);
        else if (c < ' ' || c > '~')
            put(t, "?", 1);
        else
            put(t, text, 1);
    }
}

static void put_attribute(struct text *t, const char *name, const char *value)
{
    put_text(t, " ");
    put_text(t, name);
    put_text(t, "=\"");
    put_escaped(t, value);
    put_text(t, "\"");
}

static void put_side(struct text *t, const char *side, const char *uri)
{
    put_text(t, "<");
    put_text(t, side);
    put_text(t, "><identity>");
    put_escaped(t, uri);
    put_text(t, "</identity><target");
    put_attribute(t, "uri", uri);
    put_text(t, "/></");
    put_text(t, side);
    put_text(t, ">");
}

size_t kg_dialog_info_append(char *out, size_t size, size_t used, const struct kg_dialog_info_entry *entry)
{
    struct text t = {out, size, used, false};
    put_text(&t, "<dialog");
    put_attribute(&t, "id", entry->id);
    if (entry->named) {
        put_attribute(&t, "call-id", entry->dialog.call_id);
        put_attribute(&t, "local-tag", entry->dialog.local_tag);
        put_attribute(&t, "remote-tag", entry->dialog.remote_tag);
    }
    put_attribute(&t, "direction", entry->initiator ? "initiator" : "recipient");
    put_text(&t, "><state>");
    put_text(&t, entry->state);
    put_text(&t, "</state>");
    put_side(&t, "local", entry->local);
    put_side(&t, "remote", entry->remote);
    put_text(&t, "</dialog>\r\n");
    if (!t.full)
        return t.used;
    out[used] = '\0';
    return used;
}

size_t kg_dialog_info_document(char *out, size_t size, const char *entity, unsigned version, const char *id,
                               const char *inside)
{
    struct text t = {out, size, 0, false};
    char number[16];
    snprintf(number, sizeof number, "%u", version);
    put_text(&t, "<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\"");
    put_attribute(&t, "version", number);
    put_attribute(&t, "state", "full");
    put_attribute(&t, "entity", entity);
    put_text(&t, ">\r\n");
    put_text(&t, inside);
    if (!*inside) { /* many phones put a lamp out at this, and not when they are told of no dialog */
        put_text(&t, "<dialog");
        put_attribute(&t, "id", id);
        put_text(&t, "><state>terminated</state></dialog>\r\n");
    }
    put_text(&t, "</dialog-info>\r\n");
    return t.full ? 0 : t.used;
}
