#include "conf/fill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_SHOWN 48
/* "trunks.password_file" */
#define LABEL_MAX (2 * NAME_MAX_SHOWN)

void kg_conf_say(struct kg_config_errors *errors, int line, const char *format, ...)
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
    /* a list that is too long says so for each entry beyond */
    if (errors->count > 1 && error[-1].line == line && strcmp(error[-1].text, error->text) == 0)
        errors->count--;
}

int kg_conf_line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

const char *kg_conf_text_of(const yaml_node_t *node)
{
    const char *text;

    if (node->type != YAML_SCALAR_NODE)
        return NULL;
    text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

bool kg_conf_is_empty(const yaml_node_t *node)
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

bool kg_conf_is_section(const struct kg_conf_scope *scope, const char *name)
{
    for (size_t i = 0; name[0] != '\0' && i < scope->count; i++)
        if (within(&scope->rows[i], name) != NULL)
            return true;
    return false;
}

static const struct kg_conf_row *find_row(const struct kg_conf_scope *scope, const char *section,
                                          const char *key)
{
    for (size_t i = 0; i < scope->count; i++) {
        const char *name = within(&scope->rows[i], section);
        if (name != NULL && strcmp(name, key) == 0)
            return &scope->rows[i];
    }
    return NULL;
}

/* The row's name as a person would say it: "media.ports", "trunks.server". Returns out. */
static const char *label(const struct kg_conf_scope *scope, const struct kg_conf_row *row,
                         char out[static LABEL_MAX])
{
    snprintf(out, LABEL_MAX, "%s%s%s", scope->list != NULL ? scope->list : "", scope->list != NULL ? "." : "",
             row->name);
    return out;
}

/* The existing name that was probably meant, or NULL: the same name elsewhere, or the nearest in this section
 * (at the top level also the sections themselves). */
static const char *suggestion(const struct kg_conf_scope *scope, const char *section, const char *key,
                              char out[static NAME_MAX_SHOWN])
{
    size_t best = strlen(key) > 3 ? 3 : 2; /* edits: below this it is a slip of the finger */
    bool found = false;

    for (size_t i = 0; i < scope->count; i++) {
        const char *name = scope->rows[i].name, *dot = strchr(name, '.');
        const char *candidate = within(&scope->rows[i], section);
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

static void unknown_key(struct kg_conf_fill *fill, const struct kg_conf_scope *scope, int line,
                        const char *section, const char *key)
{
    char meant[NAME_MAX_SHOWN];
    const char *before = scope->list != NULL ? scope->list : section, *dot = before[0] != '\0' ? "." : "";

    if (suggestion(scope, section, key, meant) != NULL)
        kg_conf_say(fill->errors, line, "there is no setting %s%s%.60s; did you mean %s?", before, dot, key,
                    meant);
    else
        kg_conf_say(fill->errors, line, "there is no setting %s%s%.60s; conf/README.md lists all", before,
                    dot, key);
}

/* ---- values ---- */

/* The first line of a file, for a password. Returns 0, or EINVAL and the rest of a sentence. */
static int read_password(const char *path, char *out, size_t out_size, char *why, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    struct stat status = {0};
    ssize_t got = -1;
    int error = EINVAL;

    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        got = read(fd, out, out_size - 1);
    if (fd >= 0 && !S_ISREG(status.st_mode)) {
        snprintf(why, size, "names %.80s, which is not a file", path);
    } else if (got < 0) {
        snprintf(why, size, "names %.80s, which cannot be read: %s%s", path, strerror(errno),
                 errno == EACCES
                     ? ". Give it to kedge's group, or as a service use LoadCredential= (kedge.service)"
                     : "");
    } else if ((status.st_mode & S_IROTH) != 0) {
        snprintf(why, size, "names %.80s, which everybody can read: chmod o= that file", path);
    } else {
        out[got] = '\0';
        out[strcspn(out, "\r\n")] = '\0';
        error = 0;
    }
    if (fd >= 0)
        close(fd);
    return error;
}

static int set_from_file(const struct kg_conf_fill *fill, const struct kg_conf_row *row, void *base,
                         const char *path, char *why, size_t size)
{
    char text[KG_SECRET_MAX + 2] = "";
    int error = 0;

    if (path[0] != '/') {
        snprintf(why, size, "must be the whole path of a file, beginning with /");
        return EINVAL;
    }
    if (fill->reads_files)
        error = read_password(path, text, sizeof text, why, size);
    if (error == 0 && fill->reads_files)
        error = row->type->set(row, base, text, why, size);
    explicit_bzero(text, sizeof text);
    return error;
}

static void set_item(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                     const struct kg_conf_row *row, const yaml_node_t *node)
{
    const char *text = kg_conf_text_of(node);
    char why[200], name[LABEL_MAX];
    int error;

    if (text == NULL) {
        kg_conf_say(fill->errors, kg_conf_line_of(node), "%s %s", label(scope, row, name),
                    node->type == YAML_SCALAR_NODE ? "has a NUL byte in it"
                                                   : "takes plain texts in its list");
        return;
    }
    error = row->type == &kg_conf_secret_file ? set_from_file(fill, row, scope->base, text, why, sizeof why)
                                              : row->type->set(row, scope->base, text, why, sizeof why);
    if (error != 0)
        kg_conf_say(fill->errors, kg_conf_line_of(node), "%s %s", label(scope, row, name), why);
}

static void set_list(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                     const struct kg_conf_row *row, const yaml_node_t *node)
{
    size_t *count = kg_conf_list_count(row, scope->base);
    size_t errors = fill->errors->count;
    char name[LABEL_MAX];

    *count = 0;
    if (node->type == YAML_SCALAR_NODE) {
        set_item(fill, scope, row, node); /* one item needs no brackets */
    } else {
        /* An item of its own line each; stops early, since aliases could make a short file say very much. */
        const yaml_node_item_t *item = node->data.sequence.items.start;
        for (; item < node->data.sequence.items.top && fill->errors->count < errors + 4; item++)
            set_item(fill, scope, row, yaml_document_get_node(fill->document, *item));
    }
    if (fill->errors->count == errors && *count < row->min)
        kg_conf_say(fill->errors, kg_conf_line_of(node), "%s needs at least %u entry",
                    label(scope, row, name), row->min);
}

static void set_value(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                      const struct kg_conf_row *row, const yaml_node_t *value)
{
    int line = kg_conf_line_of(value);
    char name[LABEL_MAX];

    if (value->type == YAML_MAPPING_NODE)
        kg_conf_say(fill->errors, line, "%s takes %s, not settings of its own", label(scope, row, name),
                    row->type->list ? "a list" : "one value");
    else if (row->type->list)
        set_list(fill, scope, row, value);
    else if (value->type == YAML_SEQUENCE_NODE)
        kg_conf_say(fill->errors, line, "%s takes one value, not a list", label(scope, row, name));
    else
        set_item(fill, scope, row, value);
}

/* Notes where a row is set. False, and an error, if it was before or has no value. */
static bool begin_row(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                      const struct kg_conf_row *row, const yaml_node_t *key, const yaml_node_t *value)
{
    int line = kg_conf_line_of(key);
    char name[LABEL_MAX], other[LABEL_MAX];

    for (size_t i = 0; i < scope->count; i++) {
        const struct kg_conf_row *twin = &scope->rows[i];
        int seen = scope->line_of[i];
        if (twin->offset != row->offset || seen == 0)
            continue;
        if (twin == row)
            kg_conf_say(fill->errors, line, "%s is set twice; the first time in line %d",
                        label(scope, row, name), seen);
        else
            kg_conf_say(fill->errors, line, "%s and %s in line %d are one setting: keep one of them",
                        label(scope, row, name), label(scope, twin, other), seen);
        return false;
    }
    scope->line_of[row - scope->rows] = line;
    if (!kg_conf_is_empty(value))
        return true;
    kg_conf_say(fill->errors, line, "%s has no value; remove the line to get the default",
                label(scope, row, name));
    return false;
}

/* The row that a pair sets and its value, or NULL after saying what is wrong. */
static const struct kg_conf_row *take_pair(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                                           const char *section, const yaml_node_pair_t *pair,
                                           const yaml_node_t **value)
{
    const yaml_node_t *key = yaml_document_get_node(fill->document, pair->key);
    const char *name = kg_conf_text_of(key);
    const struct kg_conf_row *row = name != NULL ? find_row(scope, section, name) : NULL;

    *value = yaml_document_get_node(fill->document, pair->value);
    if (name == NULL)
        kg_conf_say(fill->errors, kg_conf_line_of(key), "the name of a setting must be plain text");
    else if (row == NULL)
        unknown_key(fill, scope, kg_conf_line_of(key), section, name);
    return row != NULL && begin_row(fill, scope, row, key, *value) ? row : NULL;
}

/* ---- records ---- */

static const char *key_of(const struct kg_conf_record *record, const void *element)
{
    for (size_t i = 0; i < record->count; i++)
        if (strcmp(record->rows[i].name, record->key) == 0)
            return (const char *)element + record->rows[i].offset;
    return "";
}

/* The element is filled; what it lacks, or has in common with the earlier ones. */
static void check_element(struct kg_conf_fill *fill, const struct kg_conf_scope *scope,
                          const struct kg_conf_row *list, const char *elements, size_t index, int line)
{
    const struct kg_conf_record *record = list->record;
    const char *element = elements + index * record->element, *key = key_of(record, element);
    char why[200];

    for (size_t i = 0; i < scope->count; i++)
        if (scope->rows[i].required && scope->line_of[i] == 0)
            kg_conf_say(fill->errors, line, "this entry of %s needs a %s", list->name, scope->rows[i].name);
    for (size_t i = 0; key[0] != '\0' && !record->ordered && i < index; i++)
        if (strcmp(key_of(record, elements + i * record->element), key) == 0)
            kg_conf_say(fill->errors, line, "a second entry of %s has the %s %s", list->name, record->key,
                        key);
    if (record->check != NULL && record->check(element, why, sizeof why) != 0)
        kg_conf_say(fill->errors, line, "%s", why);
}

static void fill_element(struct kg_conf_fill *fill, const struct kg_conf_row *list, void *config,
                         size_t index, const yaml_node_t *node)
{
    const struct kg_conf_record *record = list->record;
    int line_of_row[KG_CONF_RECORD_ROWS] = {0}, line = kg_conf_line_of(node);
    char *elements = kg_conf_field(list, config);
    struct kg_conf_scope scope = {record->rows, record->count, elements + index * record->element,
                                  line_of_row, list->name};
    size_t errors = fill->errors->count;
    const yaml_node_t *value;

    kg_conf_defaults(record->rows, record->count, scope.base, record->element);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const struct kg_conf_row *row = take_pair(fill, &scope, "", pair, &value);
        if (row != NULL)
            set_value(fill, &scope, row, value);
    }
    if (fill->errors->count == errors)
        check_element(fill, &scope, list, elements, index, line);
}

static void set_records(struct kg_conf_fill *fill, const struct kg_conf_row *list, void *config,
                        const yaml_node_t *value)
{
    size_t *count = kg_conf_list_count(list, config);
    const yaml_node_item_t *item;

    *count = 0;
    if (value->type != YAML_SEQUENCE_NODE) {
        kg_conf_say(fill->errors, kg_conf_line_of(value),
                    "%s is a list: begin each entry with \"- %s: ...\" and write the rest below it",
                    list->name, list->record->key);
        return;
    }
    for (item = value->data.sequence.items.start; item < value->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(fill->document, *item);
        int line = kg_conf_line_of(node);

        if (*count >= list->max) {
            kg_conf_say(fill->errors, line, "%s has more than %u entries", list->name, list->max);
            return;
        }
        if (node->type == YAML_MAPPING_NODE)
            fill_element(fill, list, config, (*count)++, node);
        else
            kg_conf_say(fill->errors, line, "an entry of %s is made of lines such as \"%s: ...\"", list->name,
                        list->record->key);
        if (fill->errors->count >= KG_CONFIG_ERRORS_MAX)
            return;
    }
}

void kg_conf_fill_pair(struct kg_conf_fill *fill, const struct kg_conf_scope *scope, const char *section,
                       const yaml_node_pair_t *pair)
{
    const yaml_node_t *value;
    const struct kg_conf_row *row = take_pair(fill, scope, section, pair, &value);

    if (row != NULL && row->record != NULL)
        set_records(fill, row, scope->base, value);
    else if (row != NULL)
        set_value(fill, scope, row, value);
}
