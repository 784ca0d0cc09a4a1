#include "b2bua/call/notes.h"

#include <stdlib.h>
#include <string.h>

#include "conf/digits.h"

static void append(struct kg_notes *notes, const char *bytes, size_t len)
{
    if (len > notes->size - notes->len)
        notes->full = true;
    if (notes->full)
        return;
    memcpy(notes->buf + notes->len, bytes, len);
    notes->len += len;
}

static void put(struct kg_notes *notes, const char *name, const char *value, size_t len)
{
    char head[KG_DECIMAL_MAX + 2] = " ";
    size_t before = notes->len, head_len = 1 + kg_decimal(head + 1, len);
    head[head_len++] = '\n';
    if (notes->prefix)
        append(notes, (const char[]){notes->prefix, '.'}, 2);
    append(notes, name, strlen(name));
    append(notes, head, head_len);
    append(notes, value, len);
    append(notes, "\n", 1);
    if (notes->full)
        notes->len = before;
}

void kg_notes_put(struct kg_notes *notes, const char *name, const char *value)
{
    if (value)
        put(notes, name, value, strlen(value));
}

void kg_notes_put_number(struct kg_notes *notes, const char *name, uint64_t value)
{
    char text[KG_DECIMAL_MAX];
    if (value)
        put(notes, name, text, kg_decimal(text, value));
}

char *kg_notes_get(const char *text, size_t len, const char *name)
{
    const char *at = text, *end = text + len;
    size_t name_len = strlen(name);
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        const char *space = line_end ? memchr(at, ' ', (size_t)(line_end - at)) : NULL;
        if (!space)
            return NULL;
        size_t value_len = 0;
        for (const char *c = space + 1; c < line_end; c++) {
            if (*c < '0' || *c > '9' || value_len > len)
                return NULL;
            value_len = value_len * 10 + (size_t)(*c - '0');
        }
        const char *value = line_end + 1;
        if (value_len >= (size_t)(end - value) || value[value_len] != '\n')
            return NULL;
        if ((size_t)(space - at) == name_len && memcmp(at, name, name_len) == 0)
            return strndup(value, value_len);
        at = value + value_len + 1;
    }
    return NULL;
}

uint64_t kg_notes_get_number(const char *text, size_t len, const char *name)
{
    char *value = kg_notes_get(text, len, name);
    uint64_t number = value ? strtoull(value, NULL, 10) : 0;
    free(value);
    return number;
}
