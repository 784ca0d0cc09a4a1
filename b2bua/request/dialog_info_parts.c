/* dialog-info in the parts of a multipart body: lists of lamps (RFC 4662). */
#include "b2bua/request/dialog_info.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Lamps in one list; those beyond pass as they are. */
#define PARTS_MAX    256
#define BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */

struct part {
    size_t offset, len; /* of the content in the body */
    char *text;         /* instead */
    size_t text_len;
};

/* Offset of the next delimiter line from `at` on, which is the begin of a line; len: there is none. */
static size_t find_delimiter(const char *body, size_t len, size_t at, const char *boundary)
{
    size_t size = strlen(boundary);
    while (at < len) {
        if (len - at >= size + 2 && memcmp(body + at, "--", 2) == 0 &&
            memcmp(body + at + 2, boundary, size) == 0)
            return at;
        const char *end = memchr(body + at, '\n', len - at);
        if (!end)
            return len;
        at = (size_t)(end - body) + 1;
    }
    return len;
}

static bool begins(const char *line, size_t len, const char *name)
{
    size_t size = strlen(name);
    return len >= size && strncasecmp(line, name, size) == 0;
}

/* Reads the headers of a part. True: it is dialog-info as it is, and nothing of them depends on its length;
 * *at is the content's begin then. */
static bool is_dialog_info(const char *body, size_t end, size_t *at)
{
    bool found = false;
    while (*at < end) {
        const char *line = body + *at, *stop = memchr(line, '\n', end - *at);
        if (!stop)
            return false;
        size_t len = (size_t)(stop - line);
        *at += len + 1;
        if (len == 0 || (len == 1 && line[0] == '\r'))
            return found;
        if (begins(line, len, "Content-Length:") || begins(line, len, "Content-Transfer-Encoding:") ||
            begins(line, len, "Content-Encoding:"))
            return false;
        if (!begins(line, len, "Content-Type:"))
            continue;
        for (line += 13, len -= 13; len > 0 && (*line == ' ' || *line == '\t'); line++, len--)
            ;
        found = begins(line, len, "application/dialog-info+xml");
    }
    return false;
}

/* The line break before a delimiter belongs to it (RFC 2046 5.1.1). */
static size_t without_break(const char *body, size_t begin, size_t end)
{
    if (end > begin && body[end - 1] == '\n')
        end--;
    if (end > begin && body[end - 1] == '\r')
        end--;
    return end;
}

static char *assemble(const char *body, size_t len, const struct part *part, size_t count, size_t *out_len)
{
    size_t size = len + 1, used = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        size += part[i].text_len;
    char *out = malloc(size);
    for (size_t i = 0; out && i < count; i++) {
        memcpy(out + used, body + at, part[i].offset - at);
        used += part[i].offset - at;
        memcpy(out + used, part[i].text, part[i].text_len);
        used += part[i].text_len;
        at = part[i].offset + part[i].len;
    }
    if (!out)
        return NULL;
    memcpy(out + used, body + at, len - at);
    used += len - at;
    out[used] = '\0';
    *out_len = used;
    return out;
}

char *kg_dialog_info_rewrite_parts(const char *body, size_t len, const char *boundary,
                                   const struct kg_dialog_info_words *words, size_t *out_len)
{
    struct part part[PARTS_MAX];
    size_t count = 0, at;
    char *out = NULL;
    if (!*boundary || strlen(boundary) > BOUNDARY_MAX)
        return NULL;
    at = find_delimiter(body, len, 0, boundary);
    while (at < len && count < PARTS_MAX) {
        const char *line_end = memchr(body + at, '\n', len - at);
        size_t begin = line_end ? (size_t)(line_end - body) + 1 : len;
        size_t next = find_delimiter(body, len, begin, boundary);
        at = next;
        if (next == len || !is_dialog_info(body, next, &begin))
            continue;
        struct part *p = &part[count];
        p->offset = begin;
        p->len = without_break(body, begin, next) - begin;
        p->text = kg_dialog_info_rewrite(body + p->offset, p->len, words, &p->text_len);
        count += p->text != NULL;
    }
    if (count > 0)
        out = assemble(body, len, part, count, out_len);
    for (size_t i = 0; i < count; i++)
        free(part[i].text);
    return out;
}
