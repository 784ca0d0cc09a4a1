#include "b2bua/control/table.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conf/log.h"

#define CELL_MAX    256
#define COLUMNS_MAX 16

static void escape(const char *text, char out[static CELL_MAX])
{
    kg_log_escape(text, out, CELL_MAX);
}

static void show_time(json_int_t ms, char out[static CELL_MAX])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm local;

    if (localtime_r(&seconds, &local) == NULL || strftime(out, CELL_MAX, "%Y-%m-%d %H:%M:%S", &local) == 0)
        snprintf(out, CELL_MAX, "-");
}

/* "2026-11-21T12:10:11.123Z" without what nobody reads in a table. */
static void show_stamp(const char *text, char out[static CELL_MAX])
{
    escape(text, out);
    if (strlen(out) >= 19 && out[10] == 'T') {
        out[10] = ' ';
        out[19] = '\0';
    }
}

static void join(const json_t *array, char out[static CELL_MAX])
{
    size_t used = 0, index;
    json_t *item;
    char cell[CELL_MAX];

    snprintf(out, CELL_MAX, "-");
    json_array_foreach(array, index, item)
    {
        escape(json_is_string(item) ? json_string_value(item) : "?", cell);
        used += (size_t)snprintf(out + used, CELL_MAX - used, "%s%s", used > 0 ? ", " : "", cell);
        if (used >= CELL_MAX)
            break;
    }
}

static void format_cell(const json_t *value, enum kg_show show, char out[static CELL_MAX])
{
    if (json_is_string(value) && show == KG_SHOW_TIME)
        show_stamp(json_string_value(value), out);
    else if (json_is_string(value) && json_string_length(value) > 0)
        escape(json_string_value(value), out);
    else if (json_is_integer(value) && show == KG_SHOW_TIME)
        show_time(json_integer_value(value), out);
    else if (json_is_integer(value))
        snprintf(out, CELL_MAX, "%lld%s", (long long)json_integer_value(value),
                 show == KG_SHOW_SECONDS ? " s" : "");
    else if (json_is_real(value))
        snprintf(out, CELL_MAX, "%.1f", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(out, CELL_MAX, "%s", json_is_true(value) ? "yes" : "no");
    else if (json_is_array(value))
        join(value, out);
    else
        snprintf(out, CELL_MAX, "-");
}

/* Characters, not bytes: continuation bytes take no room. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* Two blanks between columns, none behind the last. */
static void print_cell(const char *text, size_t width, int last)
{
    printf("%s%*s", text, last ? 0 : (int)(width - width_of(text)) + 2, "");
}

void kg_table_print(const json_t *rows, const struct kg_column *columns, size_t count, const char *empty)
{
    size_t width[COLUMNS_MAX], index;
    char cell[CELL_MAX];
    json_t *row;

    if (json_array_size(rows) == 0 || count > COLUMNS_MAX) {
        puts(empty);
        return;
    }
    for (size_t i = 0; i < count; i++)
        width[i] = width_of(columns[i].title);
    json_array_foreach(rows, index, row)
    {
        for (size_t i = 0; i < count; i++) {
            format_cell(json_object_get(row, columns[i].key), columns[i].show, cell);
            if (width_of(cell) > width[i])
                width[i] = width_of(cell);
        }
    }
    for (size_t i = 0; i < count; i++)
        print_cell(columns[i].title, width[i], i + 1 == count);
    putchar('\n');
    json_array_foreach(rows, index, row)
    {
        for (size_t i = 0; i < count; i++) {
            format_cell(json_object_get(row, columns[i].key), columns[i].show, cell);
            print_cell(cell, width[i], i + 1 == count);
        }
        putchar('\n');
    }
}
