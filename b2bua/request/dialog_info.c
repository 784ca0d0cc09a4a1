#include "b2bua/request/dialog_info.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dialog-info, dialog, local, target, param: real documents have five levels, and some extensions. */
#define DEPTH_MAX 16
/* Places that are changed in one body: five a dialog. */
#define SPLICES_MAX 1024

/* text stands for len bytes of the body from offset on. */
struct splice {
    size_t offset, len;
    char *text;
};

enum place { OUTSIDE, IN_INFO, IN_DIALOG, IN_SIDE, IN_IDENTITY };

struct reading {
    XML_Parser parser;
    const char *body;
    size_t len;
    const struct kg_dialog_info_words *words;
    struct splice splice[SPLICES_MAX];
    size_t count;
    enum place place;
    unsigned depth;
    bool failed;
    /* of the <local> or <remote> being read */
    char name[KG_DIALOG_INFO_URI], uri[KG_DIALOG_INFO_URI];
    size_t name_len;
    struct splice target; /* where its URI stands; len 0: none */
};

static void give_up(struct reading *r)
{
    r->failed = true;
    XML_StopParser(r->parser, XML_FALSE);
}

/* ---- bytes ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Where the value of an attribute stands between its quotes, in the start tag that expat has just found to be
 * well-formed. False: it has none. */
static bool find_attribute(const struct reading *r, const char *name, size_t *offset, size_t *len)
{
    size_t at = (size_t)XML_GetCurrentByteIndex(r->parser);
    size_t end = at + (size_t)XML_GetCurrentByteCount(r->parser);
    if (end > r->len)
        return false;
    while (at < end && !is_blank(r->body[at])) /* its own name */
        at++;
    while (at < end) {
        size_t start, stop;
        while (at < end && is_blank(r->body[at]))
            at++;
        start = at;
        while (at < end && r->body[at] != '=' && !is_blank(r->body[at]))
            at++;
        stop = at;
        while (at < end && r->body[at] != '"' && r->body[at] != '\'')
            at++;
        if (at >= end)
            return false;
        const char *close = memchr(r->body + at + 1, r->body[at], end - at - 1);
        if (!close)
            return false;
        *offset = at + 1;
        *len = (size_t)(close - r->body) - *offset;
        at = *offset + *len + 1;
        if (stop - start == strlen(name) && memcmp(r->body + start, name, stop - start) == 0)
            return true;
    }
    return false;
}

/* As it can stand in an attribute's value. NULL: no memory. */
static char *escape(const char *text)
{
    static const struct {
        char c;
        const char *as;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&apos;"}};
    char *out = malloc(6 * strlen(text) + 1);
    size_t n = 0;
    for (; out && *text; text++) {
        const char *as = NULL;
        for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
            if (*text == escapes[i].c)
                as = escapes[i].as;
        size_t len = as ? strlen(as) : 1;
        memcpy(out + n, as ? as : text, len);
        n += len;
    }
    if (out)
        out[n] = '\0';
    return out;
}

/* In the order of the body. */
static void replace(struct reading *r, size_t offset, size_t len, const char *text)
{
    char *escaped = r->count < SPLICES_MAX ? escape(text) : NULL;
    if (!escaped) {
        give_up(r);
        return;
    }
    r->splice[r->count++] = (struct splice){offset, len, escaped};
}

/* ---- elements ---- */

/* Whatever prefix the document has for the namespace. */
static bool is_named(const char *element, const char *name)
{
    const char *colon = strrchr(element, ':');
    return strcmp(colon ? colon + 1 : element, name) == 0;
}

static const char *attribute(const char **attributes, const char *name)
{
    for (; attributes[0]; attributes += 2)
        if (strcmp(attributes[0], name) == 0)
            return attributes[1];
    return "";
}

static void on_dialog(struct reading *r, const char **attributes)
{
    static const char *const name[] = {"call-id", "local-tag", "remote-tag"};
    struct kg_dialog_info_id id, now;
    char *const field[] = {id.call_id, id.local_tag, id.remote_tag};
    const char *const made[] = {now.call_id, now.local_tag, now.remote_tag};
    struct splice found[3];
    size_t count = 0;
    for (size_t i = 0; i < 3; i++)
        if ((size_t)snprintf(field[i], KG_DIALOG_INFO_TEXT, "%s", attribute(attributes, name[i])) >=
            KG_DIALOG_INFO_TEXT)
            return;
    now = id;
    if (!r->words->dialog(r->words->ctx, &now))
        return;
    for (size_t i = 0; i < 3; i++) {
        struct splice s = {.text = (char *)made[i]};
        if (strcmp(field[i], made[i]) == 0 || !find_attribute(r, name[i], &s.offset, &s.len))
            continue;
        size_t at = count++;
        for (; at > 0 && found[at - 1].offset > s.offset; at--)
            found[at] = found[at - 1];
        found[at] = s;
    }
    for (size_t i = 0; i < count && !r->failed; i++)
        replace(r, found[i].offset, found[i].len, found[i].text);
}

static void on_target(struct reading *r, const char **attributes)
{
    const char *uri = attribute(attributes, "uri");
    if (!*uri || strlen(uri) >= sizeof r->uri || r->target.len)
        return;
    if (find_attribute(r, "uri", &r->target.offset, &r->target.len))
        snprintf(r->uri, sizeof r->uri, "%s", uri);
}

/* </local> or </remote>: its identity is known whichever came first. */
static void on_side_end(struct reading *r)
{
    char out[KG_DIALOG_INFO_URI] = "";
    r->name[r->name_len] = '\0';
    if (r->target.len && r->words->target(r->words->ctx, r->uri, r->name, out, sizeof out))
        replace(r, r->target.offset, r->target.len, out);
}

static void on_start(void *ctx, const char *element, const char **attributes)
{
    struct reading *r = ctx;
    if (++r->depth > DEPTH_MAX) {
        give_up(r);
    } else if (r->depth == 1) {
        if (is_named(element, "dialog-info"))
            r->place = IN_INFO;
        else
            give_up(r);
    } else if (r->depth == 2 && r->place == IN_INFO && is_named(element, "dialog")) {
        r->place = IN_DIALOG;
        on_dialog(r, attributes);
    } else if (r->depth == 3 && r->place == IN_DIALOG &&
               (is_named(element, "local") || is_named(element, "remote"))) {
        r->place = IN_SIDE;
        r->name_len = 0;
        r->target = (struct splice){0};
    } else if (r->depth == 4 && r->place == IN_SIDE && is_named(element, "identity")) {
        r->place = IN_IDENTITY;
        r->name_len = 0;
    } else if (r->depth == 4 && r->place == IN_SIDE && is_named(element, "target")) {
        on_target(r, attributes);
    }
}

static void on_end(void *ctx, const char *element)
{
    struct reading *r = ctx;
    (void)element;
    if (r->depth == 4 && r->place == IN_IDENTITY) {
        r->place = IN_SIDE;
    } else if (r->depth == 3 && r->place == IN_SIDE) {
        on_side_end(r);
        r->place = IN_DIALOG;
    } else if (r->depth == 2 && r->place == IN_DIALOG) {
        r->place = IN_INFO;
    }
    r->depth--;
}

static void on_text(void *ctx, const char *text, int len)
{
    struct reading *r = ctx;
    for (int i = 0; i < len && r->place == IN_IDENTITY && r->depth == 4; i++)
        if (!is_blank(text[i]) && r->name_len + 1 < sizeof r->name)
            r->name[r->name_len++] = text[i];
}

/* Entities are declared there, and nothing that anybody sends has one. */
static void on_doctype(void *ctx, const char *name, const char *system, const char *public, int internal)
{
    (void)name;
    (void)system;
    (void)public;
    (void)internal;
    give_up(ctx);
}

/* ---- the whole ---- */

static char *assemble(const struct reading *r, size_t *out_len)
{
    size_t size = r->len + 1, used = 0, at = 0;
    for (size_t i = 0; i < r->count; i++)
        size += strlen(r->splice[i].text);
    char *out = malloc(size);
    for (size_t i = 0; out && i < r->count; i++) {
        const struct splice *s = &r->splice[i];
        size_t len = strlen(s->text);
        memcpy(out + used, r->body + at, s->offset - at);
        used += s->offset - at;
        memcpy(out + used, s->text, len);
        used += len;
        at = s->offset + s->len;
    }
    if (!out)
        return NULL;
    memcpy(out + used, r->body + at, r->len - at);
    used += r->len - at;
    out[used] = '\0';
    *out_len = used;
    return out;
}

char *kg_dialog_info_rewrite(const char *body, size_t len, const struct kg_dialog_info_words *words,
                             size_t *out_len)
{
    struct reading *r = calloc(1, sizeof *r);
    char *out = NULL;
    if (!r)
        return NULL;
    r->body = body;
    r->len = len;
    r->words = words;
    r->parser = XML_ParserCreate("UTF-8"); /* whatever it declares: offsets are bytes of this one */
    if (r->parser) {
        XML_SetUserData(r->parser, r);
        XML_SetElementHandler(r->parser, on_start, on_end);
        XML_SetCharacterDataHandler(r->parser, on_text);
        XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
        bool good = len < INT32_MAX && XML_Parse(r->parser, body, (int)len, XML_TRUE) == XML_STATUS_OK;
        if (good && !r->failed && r->count > 0)
            out = assemble(r, out_len);
        XML_ParserFree(r->parser);
    }
    for (size_t i = 0; i < r->count; i++)
        free(r->splice[i].text);
    free(r);
    return out;
}
