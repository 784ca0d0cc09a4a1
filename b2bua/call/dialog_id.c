/* Texts that name a dialog. Pure. */
#include "b2bua/call/dialogs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char blank[] = " \t\r\n";

/* The next part of a list separated by semicolons, without blanks around; false at the end. */
static bool next_part(const char **rest, const char **part, size_t *len)
{
    if (!*rest)
        return false;
    const char *start = *rest + strspn(*rest, blank), *end = start + strcspn(start, ";");
    *rest = *end ? end + 1 : NULL;
    while (end > start && strchr(blank, end[-1]))
        end--;
    *part = start;
    *len = (size_t)(end - start);
    return true;
}

/* The parameter's value; NULL if the part is another one. */
static const char *value_of(const char *part, size_t *len, const char *name)
{
    size_t n = strlen(name);
    if (*len <= n || strncasecmp(part, name, n) != 0)
        return NULL;
    const char *value = part + n, *end = part + *len;
    value += strspn(value, blank);
    if (value >= end || *value != '=')
        return NULL;
    value++;
    value += strspn(value, blank);
    *len = value < end ? (size_t)(end - value) : 0;
    return value;
}

static bool is_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 127 || strchr(",;\"", text[i]))
            return false;
    return len > 0 && len < KG_DIALOG_TEXT;
}

/* An unescaped text may hold a line break, which would begin a header. */
static bool is_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127)
            return false;
    return true;
}

/* RFC 3891 6.1: exactly one of each tag. */
static int take(char out[KG_DIALOG_TEXT], const char *value, size_t len)
{
    if (out[0] || !is_text(value, len))
        return EINVAL;
    memcpy(out, value, len);
    out[len] = '\0';
    return 0;
}

int kg_dialog_parse(const char *replaces, struct kg_dialog_id *id)
{
    const char *part, *value;
    size_t len, n;
    int failed = 0;
    memset(id, 0, sizeof *id);
    if (!next_part(&replaces, &part, &len) || take(id->call_id, part, len) != 0)
        return EINVAL;
    while (!failed && next_part(&replaces, &part, &len)) {
        n = len;
        if ((value = value_of(part, &n, "to-tag")))
            failed = take(id->to_tag, value, n);
        else if ((n = len, value = value_of(part, &n, "from-tag")))
            failed = take(id->from_tag, value, n);
    }
    return failed || !id->to_tag[0] || !id->from_tag[0] ? EINVAL : 0;
}

size_t kg_dialog_format(const struct kg_dialog_id *id, const char *like, char *out, size_t size)
{
    const char *part;
    size_t len, n;
    int written = snprintf(out, size, "%s;to-tag=%s;from-tag=%s", id->call_id, id->to_tag, id->from_tag);
    size_t used = written > 0 ? (size_t)written : size;
    if (like)
        next_part(&like, &part, &len); /* the Call-ID */
    while (used < size && next_part(&like, &part, &len)) {
        n = len;
        if (len == 0 || !is_printable(part, len) || value_of(part, &n, "to-tag") ||
            (n = len, value_of(part, &n, "from-tag")))
            continue;
        written = snprintf(out + used, size - used, ";%.*s", (int)len, part);
        used += written > 0 ? (size_t)written : size;
    }
    return used < size ? used : 0;
}

bool kg_dialog_is_tag(const char *a, const char *b)
{
    return a && b && strcasecmp(a, b) == 0;
}
