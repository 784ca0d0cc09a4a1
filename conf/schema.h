/* Inside conf/ only: the rows of the configuration and the types of their values. */
#ifndef KG_CONF_SCHEMA_H
#define KG_CONF_SCHEMA_H

#include "conf/config.h"

struct kg_conf_row;

/* A list of records: each item of the YAML list is a mapping of these rows, filled into one element of an
 * array. The rows' offsets are in the element; they have no section, hold no records, and a change of any is
 * a change of the list. */
struct kg_conf_record {
    const struct kg_conf_row *rows;
    size_t count;    /* of rows; at most KG_CONF_RECORD_ROWS */
    size_t element;  /* bytes */
    const char *key; /* the row that tells the elements apart: needed, never twice; or the first, if: */
    bool ordered;    /* elements are told apart by their order alone */
    /* What only several rows together can get wrong: 0, or EINVAL and a sentence in why. NULL: nothing. */
    int (*check)(const void *element, char *why, size_t size);
};
#define KG_CONF_RECORD_ROWS 48
extern const struct kg_conf_record kg_conf_trunk, kg_conf_route, kg_conf_number, kg_conf_cap;

/* What kind of value a row takes: text to field and back. Stateless. */
struct kg_conf_type {
    const char *name;         /* in the reference */
    bool list;                /* `set` appends one item */
    const char *const *names; /* of an enum's values, then NULL */
    bool secret;              /* the value is never shown, not even in an error */
    /* base: struct kg_config, or the element of a record. Returns 0, or EINVAL and the rest of a sentence
     * that begins with the row's name: "must be ...". */
    int (*set)(const struct kg_conf_row *row, void *base, const char *text, char *why, size_t size);
    /* One value as it could stand in the file; index counts items of a list. False past the last. */
    bool (*format)(const struct kg_conf_row *row, const void *base, size_t index, char *out, size_t size);
};

extern const struct kg_conf_type kg_conf_address, kg_conf_place, kg_conf_listen, kg_conf_dns_servers,
    kg_conf_domain, kg_conf_path, kg_conf_socket, kg_conf_ports, kg_conf_policy, kg_conf_digest,
    kg_conf_path_use, kg_conf_fork, kg_conf_redirect, kg_conf_reliable, kg_conf_yes, kg_conf_level,
    kg_conf_headers, kg_conf_methods, kg_conf_seconds, kg_conf_count, kg_conf_servers, kg_conf_name,
    kg_conf_text, kg_conf_texts, kg_conf_secret, kg_conf_secret_file, kg_conf_nets, kg_conf_own_policy,
    kg_conf_profile, kg_conf_own_profile, kg_conf_caller_id, kg_conf_number_of, kg_conf_origins;

/* One setting. Names have at most two parts: "section.name" or "name". */
struct kg_conf_row {
    const char *name;
    const struct kg_conf_type *type;
    const char *
        preset; /* the default as text; items of a list are separated by a blank; "" leaves the field empty */
    const struct kg_conf_record *record; /* lists of records only */
    size_t offset;                       /* of the field in struct kg_config, or in the element of a record */
    size_t size;                         /* of the field, in bytes */
    size_t count_offset;                 /* lists: of the size_t that counts the items */
    uint32_t min, max;                   /* seconds, a count, or the items of a list */
    bool reloadable;                     /* takes effect on reload; else it needs a restart */
    bool or_none;  /* ... except where it leads from an empty list to another, or back */
    bool with_pbx; /* ... except together with such a change of `pbx`: what it may say depends on that */
    bool required; /* in a record: every element has it */
    const char *doc;
};

extern const struct kg_conf_row kg_conf_rows[];
extern const size_t kg_conf_row_count;

static inline void *kg_conf_field(const struct kg_conf_row *row, void *base)
{
    return (char *)base + row->offset;
}
static inline size_t *kg_conf_list_count(const struct kg_conf_row *row, void *base)
{
    return (size_t *)((char *)base + row->count_offset);
}
/* The same for `format`. */
static inline const void *kg_conf_value(const struct kg_conf_row *row, const void *base)
{
    return (const char *)base + row->offset;
}
static inline size_t kg_conf_items(const struct kg_conf_row *row, const void *base)
{
    return *(const size_t *)(const void *)((const char *)base + row->count_offset);
}
/* The list has no room for one more, which why says then. */
bool kg_conf_is_full(const struct kg_conf_row *row, size_t count, char *why, size_t size);
/* A value that `set` does not take: "MUST, not TEXT" in why. Returns EINVAL. */
int kg_conf_refuse(char *why, size_t size, const char *text, const char *must);
/* RFC 1123 2.1 as far as characters go; "192.0.2.1" passes too. */
bool kg_conf_is_host_name(const char *text);
/* What the lists of records must agree on: names that exist. Says what does not, at the lines given. */
struct kg_conf_lists {
    int routes, numbers;
};
void kg_conf_check_lists(const struct kg_config *config, const struct kg_conf_lists *line,
                         struct kg_config_errors *errors);
/* Clears the struct that the rows describe and gives it their defaults. */
void kg_conf_defaults(const struct kg_conf_row *rows, size_t count, void *base, size_t size);

#endif
