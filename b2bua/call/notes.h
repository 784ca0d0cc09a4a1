/* Named values in a compact text: "name length\nvalue\n", again and again. Pure. */
#ifndef KG_CALL_NOTES_H
#define KG_CALL_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kg_notes {
    char *buf;
    size_t size, len;
    bool full;   /* something did not fit: the whole is useless */
    char prefix; /* 'a': names are written as "a.name"; 0: as they are */
};

void kg_notes_put(struct kg_notes *notes, const char *name, const char *value); /* NULL: nothing is written */
void kg_notes_put_number(struct kg_notes *notes, const char *name, uint64_t value); /* 0: likewise */

/* The value of the first note of this name, malloc'd and NUL-terminated; NULL: none, or the text is damaged.
 */
char *kg_notes_get(const char *text, size_t len, const char *name);
uint64_t kg_notes_get_number(const char *text, size_t len, const char *name); /* 0: none */

#endif
