#include "b2bua/call/notes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kg_notes_put(struct kg_notes *notes, const char *name, const char *value)
{
    if (!value || notes->full)
        return;
    size_t len = strlen(value), room = notes->size - notes->len;
    int head = snprintf(notes->buf + notes->len, room, "%s %zu\n", name, len);
    if (head < 0 || (size_t)head + len + 1 > room) {
        notes->full = true;
        return;
    }
    memcpy(notes->buf + notes->len + head, value, len);
    notes->len += (size_t)head + len;
    notes->buf[notes->len++] = '\n';
}

void kg_notes_put_number(struct kg_notes *notes, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    kg_notes_put(notes, name, text);
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
