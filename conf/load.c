/* YAML to struct kg_config by the rows of schema.c: the file, its shape, and what only rows together can get
 * wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "conf/fill.h"

#define DEPTH_MAX 5   /* setting, record, its setting, its list; and one to say what is wrong */
#define ROWS_MAX  128 /* more than schema.c has; checked when loading */

struct load {
    struct kg_conf_fill fill;
    struct kg_conf_scope scope;
    struct kg_config config;
    int line_of[ROWS_MAX];
};

/* The line of an earlier pair with this name, or 0. */
static int line_before(const struct load *load, const yaml_node_t *root, const yaml_node_pair_t *last,
                       const char *name)
{
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < last; pair++) {
        const yaml_node_t *key = yaml_document_get_node(load->fill.document, pair->key);
        const char *text = kg_conf_text_of(key);
        if (text != NULL && strcmp(text, name) == 0)
            return kg_conf_line_of(key);
    }
    return 0;
}

static void load_section(struct load *load, const yaml_node_t *root, const yaml_node_pair_t *pair,
                         const char *name)
{
    const yaml_node_t *value = yaml_document_get_node(load->fill.document, pair->value);
    int line = kg_conf_line_of(yaml_document_get_node(load->fill.document, pair->key));
    int before = line_before(load, root, pair, name);

    if (before != 0)
        kg_conf_say(load->fill.errors, line, "%s begins twice; the first time in line %d", name, before);
    if (value->type == YAML_MAPPING_NODE) {
        const yaml_node_pair_t *inner = value->data.mapping.pairs.start;
        for (; inner < value->data.mapping.pairs.top; inner++)
            kg_conf_fill_pair(&load->fill, &load->scope, name, inner);
    } else if (!kg_conf_is_empty(value)) { /* a section with every line commented out is fine */
        kg_conf_say(load->fill.errors, kg_conf_line_of(value),
                    "%s is a group of settings: write them below it, indented", name);
    }
}

static void load_top(struct load *load, const yaml_node_t *root)
{
    const yaml_node_pair_t *pair = root->data.mapping.pairs.start;

    for (; pair < root->data.mapping.pairs.top && load->fill.errors->count < KG_CONFIG_ERRORS_MAX; pair++) {
        const char *name = kg_conf_text_of(yaml_document_get_node(load->fill.document, pair->key));

        if (name != NULL && kg_conf_is_section(&load->scope, name))
            load_section(load, root, pair, name);
        else
            kg_conf_fill_pair(&load->fill, &load->scope, "", pair);
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

    if (config->ice.consent_ms >= config->ice.consent_expiry_ms && load->fill.errors->count == 0) {
        int line = row_line(load, "ice.consent");
        kg_conf_say(
            load->fill.errors, line != 0 ? line : row_line(load, "ice.consent_expiry"),
            "ice.consent must be shorter than ice.consent_expiry, several times: a phone that is not asked "
            "in time cannot say yes");
    }
    kg_conf_check_lists(config, &(struct kg_conf_lists){row_line(load, "routes"), row_line(load, "numbers")},
                        load->fill.errors);
    if ((config->tls.certificate[0] == '\0') == (config->tls.key[0] == '\0'))
        return;
    if (config->tls.key[0] == '\0')
        kg_conf_say(load->fill.errors, row_line(load, "tls.certificate"),
                    "tls.certificate needs its tls.key");
    else
        kg_conf_say(load->fill.errors, row_line(load, "tls.key"), "tls.key needs its tls.certificate");
}

static void say_syntax(struct kg_config_errors *errors, const yaml_parser_t *parser)
{
    const yaml_mark_t *mark = parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";

    if (parser->error == YAML_MEMORY_ERROR)
        kg_conf_say(errors, 0, "not enough memory to read it");
    else
        kg_conf_say(
            errors, (int)mark->line + 1,
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
        kg_conf_say(errors, line, "brackets or indentation go deeper than any setting");
    if (*documents > 1)
        kg_conf_say(errors, line, "a second YAML document begins here; a configuration is one");
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
        kg_conf_say(errors, 0, "not enough memory to read it");
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

    if (!yaml_parser_load(parser, load->fill.document)) {
        say_syntax(load->fill.errors, parser);
        return;
    }
    root = yaml_document_get_root_node(load->fill.document);
    if (root != NULL && root->type == YAML_MAPPING_NODE)
        load_top(load, root);
    else if (root != NULL && !kg_conf_is_empty(root))
        kg_conf_say(load->fill.errors, kg_conf_line_of(root),
                    "a configuration is made of lines such as \"store: /path\"");
    check_together(load);
    yaml_document_delete(load->fill.document);
}

static int parse(const char *text, size_t len, bool reads_files, struct kg_config *out,
                 struct kg_config_errors *errors)
{
    yaml_parser_t parser;
    yaml_document_t document;
    struct load load = {.fill = {.document = &document, .errors = errors, .reads_files = reads_files}};

    errors->count = 0;
    if (len > KG_CONFIG_FILE_MAX || kg_conf_row_count > ROWS_MAX) {
        kg_conf_say(errors, 0, "it is larger than %d bytes, the most a configuration may have",
                    KG_CONFIG_FILE_MAX);
        return EINVAL;
    }
    check_shape(text, len, errors);
    if (errors->count > 0)
        return EINVAL;
    if (!yaml_parser_initialize(&parser)) {
        kg_conf_say(errors, 0, "not enough memory to read it");
        return EINVAL;
    }
    start(&parser, text, len);
    load.scope = (struct kg_conf_scope){kg_conf_rows, kg_conf_row_count, &load.config, load.line_of, NULL};
    kg_config_defaults(&load.config);
    load_document(&load, &parser);
    yaml_parser_delete(&parser);
    if (errors->count > 0)
        return EINVAL;
    *out = load.config;
    return 0;
}

int kg_config_parse(const char *text, size_t len, struct kg_config *out, struct kg_config_errors *errors)
{
    return parse(text, len, false, out, errors);
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
        kg_conf_say(errors, 0, "not enough memory to read it");
    else if (fd < 0 || got < 0)
        kg_conf_say(errors, 0, "cannot be read: %s", strerror(errno));
    else
        error = parse(text, len, true, out, errors);
    if (fd >= 0)
        close(fd);
    free(text);
    return error;
}
