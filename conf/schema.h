/* Inside conf/ only: the rows of the configuration and the types of their values. */
#ifndef KG_CONF_SCHEMA_H
#define KG_CONF_SCHEMA_H

#include "conf/config.h"

struct kg_conf_row;

/* What kind of value a row takes: text to field and back. Stateless. */
struct kg_conf_type {
    const char *name; /* in the reference */
    bool list;        /* `set` appends one item */
    /* Returns 0, or EINVAL and the rest of a sentence that begins with the row's name: "must be ...". */
    int (*set)(const struct kg_conf_row *row, struct kg_config *config, const char *text, char *why,
               size_t size);
    /* One value as it could stand in the file; index counts items of a list. False past the last. */
    bool (*format)(const struct kg_conf_row *row, const struct kg_config *config, size_t index, char *out,
                   size_t size);
};

extern const struct kg_conf_type kg_conf_address, kg_conf_listen, kg_conf_peers, kg_conf_domain, kg_conf_path,
    kg_conf_socket, kg_conf_ports, kg_conf_policy, kg_conf_digest, kg_conf_yes, kg_conf_level,
    kg_conf_headers, kg_conf_seconds, kg_conf_count;

/* One setting. Names have at most two parts: "section.name" or "name". */
struct kg_conf_row {
    const char *name;
    const struct kg_conf_type *type;
    const char *
        preset; /* the default as text; items of a list are separated by a blank; "" leaves the field empty */
    size_t offset;       /* of the field in struct kg_config */
    size_t size;         /* of the field, in bytes */
    size_t count_offset; /* lists: of the size_t that counts the items */
    uint32_t min, max;   /* seconds, a count, or the items of a list */
    bool reloadable;     /* takes effect on reload; else it needs a restart */
    const char *doc;
};

extern const struct kg_conf_row kg_conf_rows[];
extern const size_t kg_conf_row_count;

static inline void *kg_conf_field(const struct kg_conf_row *row, struct kg_config *config)
{
    return (char *)config + row->offset;
}
static inline size_t *kg_conf_list_count(const struct kg_conf_row *row, struct kg_config *config)
{
    return (size_t *)((char *)config + row->count_offset);
}

#endif
