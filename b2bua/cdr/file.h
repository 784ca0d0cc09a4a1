/* A file of lines that rotates: PATH is renamed to PATH.20261121-180000 when it is too large or too old, and
 * the oldest of those are removed. Used by one thread. */
#ifndef KG_CDR_FILE_H
#define KG_CDR_FILE_H

#include <stdint.h>

#include "conf/config.h"

struct kg_cdr_settings {
    char path[KG_PATH_MAX]; /* "": lines are thrown away */
    uint64_t max_bytes;
    int64_t max_age_ms; /* of the first line in it; 0: any */
    uint32_t keep;      /* renamed files that stay; 0: all */
};

struct kg_cdr_file {
    struct kg_cdr_settings settings;
    int fd; /* -1: to be opened by the next line */
    uint64_t bytes;
    int64_t since_ms; /* wall clock: when it was begun */
};

void kg_cdr_file_init(struct kg_cdr_file *file);
void kg_cdr_file_close(struct kg_cdr_file *file);
/* Closes the file; the next line opens it anew. */
void kg_cdr_file_configure(struct kg_cdr_file *file, const struct kg_cdr_settings *settings);
/* Appends text and a newline: whole, or not at all. 0 or an errno. */
int kg_cdr_file_append(struct kg_cdr_file *file, const char *text, int64_t wall_ms);

#endif
