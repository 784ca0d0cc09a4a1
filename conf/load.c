/* YAML to struct kg_config by the rows of schema.c, with a line for every error. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "conf/schema.h"

#define DEPTH_MAX      4  /* group, setting, list; and one to say what is wrong */
#define ROWS_MAX       64 /* more than schema.c has; checked when loading */
#define NAME_MAX_SHOWN 48

struct load {
    yaml_document_t *document;
    struct kg_config config;
    struct kg_config_errors *errors;
    int line_of[ROWS_MAX]; /* where each row was set; 0: not yet */
};

static void say(struct kg_config_errors *errors, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct kg_config_errors *errors, int line, const char *format, ...)
{
    struct kg_config_error *error;
    va_list args;

    if (errors->count >= KG_CONFIG_ERRORS_MAX)
        return;
    error = &errors->item[errors->count++];
    error->line = line;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    for (char *at = error->text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

static int line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

/* The text of a scalar, or NULL (not a scalar, or with a NUL byte inside). */
static const char *text_of(const yaml_node_t *node)
{
    const char *text;

    if (node->type != YAML_SCALAR_NODE)
        return NULL;
    text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

/* `name:` with nothing behind it. */
static bool is_empty(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (node->data.scalar.length == 0 || strcmp((char *)node->data.scalar.value, "~") == 0);
}

/* Edits (insert, delete, replace) between two short names; more than the longest name counts as far away. */
static size_t distance(const char *a, const char *b)
{
    size_t len_a = strlen(a), len_b = strlen(b), row[NAME_MAX_SHOWN + 1];

    if (len_a > NAME_MAX_SHOWN || len_b > NAME_MAX_SHOWN)
        return NAME_MAX_SHOWN;
    for (size_t j = 0; j <= len_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len_b];
}

/* "media.ports" begins with section "media"; "store" is in section "". Gives what follows, or NULL. */
static const char *within(const struct kg_conf_row *row, const char *section)
{
    const char *dot = strchr(row->name, '.');
    size_t len = strlen(section);

    if (dot == NULL)
        return len == 0 ? row->name : NULL;
    return (size_t)(dot - row->name) == len && memcmp(row->name, section, len) == 0 ? dot + 1 : NULL;
}

static bool is_section(const char *name)
{
    if (name[0] == '\0')
        return false;
    for (size_t i = 0; i < kg_conf_row_count; i++)
        if (within(&kg_conf_rows[i], name) != NULL)
            return true;
    return false;
}

static const struct kg_conf_row *find_row(const char *section, const char *key)
{
    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const char *name = within(&kg_conf_rows[i], section);
        if (name != NULL && strcmp(name, key) == 0)
            return &kg_conf_rows[i];
    }
    return NULL;
}

/* The existing name that was probably meant, or NULL: the same name elsewhere, or the nearest in this section
 * (at the top level also the sections themselves). */
static const char *suggestion(const char *section, const char *key, char out[static NAME_MAX_SHOWN])
{
    size_t best = strlen(key) > 3 ? 3 : 2; /* edits: below this it is a slip of the finger */
    bool found = false;

    for (size_t i = 0; i < kg_conf_row_count; i++) {
        const char *name = kg_conf_rows[i].name, *dot = strchr(name, '.');
        const char *candidate = within(&kg_conf_rows[i], section);
        char top[NAME_MAX_SHOWN];

        if (strcmp(dot != NULL ? dot + 1 : name, key) == 0) {
            snprintf(out, NAME_MAX_SHOWN, "%s", name);
            return out;
        }
        if (candidate == NULL && section[0] == '\0') {
            snprintf(top, sizeof top, "%.*s", (int)(dot - name), name);
            candidate = top;
        }
        if (candidate != NULL && distance(key, candidate) < best) {
            best = distance(key, candidate);
            snprintf(out, NAME_MAX_SHOWN, "%s", candidate);
            found = true;
        }
    }
    return found ? out : NULL;
}

static void unknown_key(struct load *load, int line, const char *section, const char *key)
{
    char meant[NAME_MAX_SHOWN];
    const char *dot = section[0] != '\0' ? "." : "";

    if (suggestion(section, key, meant) != NULL)
        say(load->errors, line, "there is no setting %s%s%.60s; did you mean %s?", section, dot, key, meant);
    else
        say(load->errors, line, "there is no setting %s%s%.60s; conf/README.md lists all", section, dot, key);
}

static void set_item(struct load *load, const struct kg_conf_row *row, const yaml_node_t *node)
{
    const char *text = text_of(node);
    char why[200];

    if (text == NULL)
        say(load->errors, line_of(node), "%s %s", row->name,
            node->type == YAML_SCALAR_NODE ? "has a NUL byte in it" : "takes plain texts in its list");
    else if (row->type->set(row, &load->config, text, why, sizeof why) != 0)
        say(load->errors, line_of(node), "%s %s", row->name, why);
}

static void set_list(struct load *load, const struct kg_conf_row *row, const yaml_node_t *node)
{
    size_t *count = kg_conf_list_count(row, &load->config);
    size_t errors = load->errors->count;

    *count = 0;
    if (node->type == YAML_SCALAR_NODE) {
        set_item(load, row, node); /* one item needs no brackets */
    } else {
        /* An item of its own line each; stops early, since aliases could make a short file say very much. */
        const yaml_node_item_t *item = node->data.sequence.items.start;
        for (; item < node->data.sequence.items.top && load->errors->count < errors + 4; item++)
            set_item(load, row, yaml_document_get_node(load->document, *item));
    }
    if (load->errors->count == errors && *count < row->min)
        say(load->errors, line_of(node), "%s needs at least %u entry", row->name, row->min);
}

static void set_row(struct load *load, const struct kg_conf_row *row, const yaml_node_t *key,
                    const yaml_node_t *value)
{
    int *seen = &load->line_of[row - kg_conf_rows];

    if (*seen != 0) {
        say(load->errors, line_of(key), "%s is set twice; the first time in line %d", row->name, *seen);
        return;
    }
    *seen = line_of(key);
    if (is_empty(value))
        say(load->errors, line_of(key), "%s has no value; remove the line to get the default", row->name);
    else if (value->type == YAML_MAPPING_NODE)
        say(load->errors, line_of(value), "%s takes %s, not settings of its own", row->name,
            row->type->list ? "a list" : "one value");
    else if (row->type->list)
        set_list(load, row, value);
    else if (value->type == YAML_SEQUENCE_NODE)
        say(load->errors, line_of(value), "%s takes one value, not a list", row->name);
    else
        set_item(load, row, value);
}

static void load_section(struct load *load, const char *section, const yaml_node_t *node)
{
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start;

    for (; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(load->document, pair->key);
        const char *name = text_of(key);
        const struct kg_conf_row *row = name != NULL ? find_row(section, name) : NULL;

        if (name == NULL)
            say(load->errors, line_of(key), "the name of a setting must be plain text");
        else if (row == NULL)
            unknown_key(load, line_of(key), section, name);
        else
            set_row(load, row, key, yaml_document_get_node(load->document, pair->value));
    }
}

/* The line of an earlier pair with this name, or 0. */
static int line_before(const struct load *load, const yaml_node_t *root, const yaml_node_pair_t *last,
                       const char *name)
{
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < last; pair++) {
        const yaml_node_t *key = yaml_document_get_node(load->document, pair->key);
        const char *text = text_of(key);
        if (text != NULL && strcmp(text, name) == 0)
            return line_of(key);
    }
    return 0;
}

static void load_group(struct load *load, const yaml_node_t *root, const yaml_node_pair_t *pair,
                       const char *name)
{
    const yaml_node_t *value = yaml_document_get_node(load->document, pair->value);
    int line = line_of(yaml_document_get_node(load->document, pair->key));
    int before = line_before(load, root, pair, name);

    if (before != 0)
        say(load->errors, line, "%s begins twice; the first time in line %d", name, before);
    if (value->type == YAML_MAPPING_NODE)
        load_section(load, name, value);
    else if (!is_empty(value)) /* a group with every line commented out is fine */
        say(load->errors, line_of(value), "%s is a group of settings: write them below it, indented", name);
}

static void load_top(struct load *load, const yaml_node_t *root)
{
    const yaml_node_pair_t *pair = root->data.mapping.pairs.start;

    for (; pair < root->data.mapping.pairs.top && load->errors->count < KG_CONFIG_ERRORS_MAX; pair++) {
        const yaml_node_t *key = yaml_document_get_node(load->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(load->document, pair->value);
        const char *name = text_of(key);
        const struct kg_conf_row *row = name != NULL ? find_row("", name) : NULL;

        if (name == NULL)
            say(load->errors, line_of(key), "the name of a setting must be plain text");
        else if (row != NULL)
            set_row(load, row, key, value);
        else if (is_section(name))
            load_group(load, root, pair, name);
        else
            unknown_key(load, line_of(key), "", name);
    }
}

static int row_line(const struct load *load, const char *name)
{
    for (size_t i = 0; i < kg_conf_row_count; i++)
        if (strcmp(kg_conf_rows[i].name, name) == 0)
            return load->line_of[i];
    return 0;
}

/* What only several rows together can get wrong. */
static void check_together(struct load *load)
{
    const struct kg_config *config = &load->config;

    if (config->ice.consent_ms >= config->ice.consent_expiry_ms && load->errors->count == 0) {
        int line = row_line(load, "ice.consent");
        say(load->errors, line != 0 ? line : row_line(load, "ice.consent_expiry"),
            "ice.consent must be shorter than ice.consent_expiry, several times: a phone that is not asked "
            "in time cannot say yes");
    }
    if ((config->tls.certificate[0] == '\0') == (config->tls.key[0] == '\0'))
        return;
    if (config->tls.key[0] == '\0')
        say(load->errors, row_line(load, "tls.certificate"), "tls.certificate needs its tls.key");
    else
        say(load->errors, row_line(load, "tls.key"), "tls.key needs its tls.certificate");
}

static void say_syntax(struct kg_config_errors *errors, const yaml_parser_t *parser)
{
    const yaml_mark_t *mark = parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";

    if (parser->error == YAML_MEMORY_ERROR)
        say(errors, 0, "not enough memory to read it");
    else
        say(errors, (int)mark->line + 1,
            "this is not YAML: %s (check indentation, brackets, and quotes around texts that contain a "
            "colon)",
            problem);
}

static void start(yaml_parser_t *parser, const char *text, size_t len)
{
    yaml_parser_set_input_string(parser, (const unsigned char *)text, len);
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
}

/* Is one event fit to be loaded? Counts depth and documents. */
static bool fits(const yaml_event_t *event, int *depth, int *documents, struct kg_config_errors *errors)
{
    int line = (int)event->start_mark.line + 1;

    if (event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT)
        ++*depth;
    else if (event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT)
        --*depth;
    else if (event->type == YAML_DOCUMENT_START_EVENT)
        ++*documents;
    if (*depth > DEPTH_MAX)
        say(errors, line, "brackets or indentation go deeper than any setting");
    if (*documents > 1)
        say(errors, line, "a second YAML document begins here; a configuration is one");
    return errors->count == 0;
}

/* A pass over the events before the document is loaded: libyaml takes quadratic time for deep nesting, and
 * would leave a second document unread. */
static void check_shape(const char *text, size_t len, struct kg_config_errors *errors)
{
    yaml_parser_t parser;
    yaml_event_t event;
    int depth = 0, documents = 0;
    bool more = true;

    if (!yaml_parser_initialize(&parser)) {
        say(errors, 0, "not enough memory to read it");
        return;
    }
    start(&parser, text, len);
    while (more) {
        if (!yaml_parser_parse(&parser, &event)) {
            say_syntax(errors, &parser);
            break;
        }
        more = fits(&event, &depth, &documents, errors) && event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
}

static void load_document(struct load *load, yaml_parser_t *parser)
{
    const yaml_node_t *root;

    if (!yaml_parser_load(parser, load->document)) {
        say_syntax(load->errors, parser);
        return;
    }
    root = yaml_document_get_root_node(load->document);
    if (root != NULL && root->type == YAML_MAPPING_NODE)
        load_top(load, root);
    else if (root != NULL && !is_empty(root))
        say(load->errors, line_of(root), "a configuration is made of lines such as \"store: /path\"");
    check_together(load);
    yaml_document_delete(load->document);
}

int kg_config_parse(const char *text, size_t len, struct kg_config *out, struct kg_config_errors *errors)
{
    yaml_parser_t parser;
    yaml_document_t document;
    struct load load = {.document = &document, .errors = errors};

    errors->count = 0;
    if (len > KG_CONFIG_FILE_MAX || kg_conf_row_count > ROWS_MAX) {
        say(errors, 0, "it is larger than %d bytes, the most a configuration may have", KG_CONFIG_FILE_MAX);
        return EINVAL;
    }
    check_shape(text, len, errors);
    if (errors->count > 0)
        return EINVAL;
    if (!yaml_parser_initialize(&parser)) {
        say(errors, 0, "not enough memory to read it");
        return EINVAL;
    }
    start(&parser, text, len);
    kg_config_defaults(&load.config);
    load_document(&load, &parser);
    yaml_parser_delete(&parser);
    if (errors->count > 0)
        return EINVAL;
    *out = load.config;
    return 0;
}

int kg_config_load(const char *path, struct kg_config *out, struct kg_config_errors *errors)
{
    char *text = malloc(KG_CONFIG_FILE_MAX + 1);
    size_t len = 0;
    ssize_t got = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = EINVAL;

    errors->count = 0;
    while (fd >= 0 && text != NULL && len <= KG_CONFIG_FILE_MAX &&
           (got = read(fd, text + len, KG_CONFIG_FILE_MAX + 1 - len)) > 0)
        len += (size_t)got;
    if (text == NULL)
        say(errors, 0, "not enough memory to read it");
    else if (fd < 0 || got < 0)
        say(errors, 0, "cannot be read: %s", strerror(errno));
    else
        error = kg_config_parse(text, len, out, errors);
    if (fd >= 0)
        close(fd);
    free(text);
    return error;
}
