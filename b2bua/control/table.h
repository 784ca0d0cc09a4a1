/* Inside kedgectl only: JSON as a table for people. */
#ifndef KG_CONTROL_TABLE_H
#define KG_CONTROL_TABLE_H

#include <jansson.h>
#include <stddef.h>

/* How a value is shown; text shows whatever it is. */
enum kg_show { KG_SHOW_TEXT, KG_SHOW_TIME, KG_SHOW_SECONDS };

struct kg_column {
    const char *title;
    const char *key; /* of the row's object */
    enum kg_show show;
};

/* Prints an array of objects to stdout, a line each under a line of titles; columns are as wide as they need
 * to be. What peers sent is escaped. An empty array prints `empty`. */
void kg_table_print(const json_t *rows, const struct kg_column *columns, size_t count, const char *empty);

#endif
