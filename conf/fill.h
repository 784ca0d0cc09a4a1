/* Inside conf/ only: YAML mappings into the structs that rows describe, with a line for every error. */
#ifndef KG_CONF_FILL_H
#define KG_CONF_FILL_H

#include <yaml.h>

#include "conf/schema.h"

/* One reading of one file. */
struct kg_conf_fill {
    yaml_document_t *document;
    struct kg_config_errors *errors;
    bool reads_files; /* of passwords */
};

/* Rows and the struct they fill. */
struct kg_conf_scope {
    const struct kg_conf_row *rows;
    size_t count;
    void *base;
    int *line_of;     /* where each row was set; 0: not yet */
    const char *list; /* of records: stands before the rows' names in errors; NULL: these are the settings
                         themselves */
};

void kg_conf_say(struct kg_config_errors *errors, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int kg_conf_line_of(const yaml_node_t *node);
/* The text of a scalar, or NULL (not a scalar, or with a NUL byte inside). */
const char *kg_conf_text_of(const yaml_node_t *node);
/* `name:` with nothing behind it. */
bool kg_conf_is_empty(const yaml_node_t *node);

/* Whether rows begin with "name.". */
bool kg_conf_is_section(const struct kg_conf_scope *scope, const char *name);
/* What one "name: value" says; section "" at the top. An unknown name is an error, with what was probably
 * meant. */
void kg_conf_fill_pair(struct kg_conf_fill *fill, const struct kg_conf_scope *scope, const char *section,
                       const yaml_node_pair_t *pair);

#endif
