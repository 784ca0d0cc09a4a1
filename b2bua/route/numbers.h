/* Numbers: which pattern one fits, and how it is written on another side. Pure. */
#ifndef KG_ROUTE_NUMBERS_H
#define KG_ROUTE_NUMBERS_H

#include <stdbool.h>

#include "conf/config.h"

/* RFC 3966 5.1.1: "+49 (30) 123-45" without its visual separators. What is no telephone number ("bob-1")
 * stays as it is; what is too long becomes "", which no rule fits. */
void kg_number_plain(const char *number, char out[static KG_NUMBER_SIZE]);
/* A pattern is a whole number, or the beginning of it and "*"; number is plain. */
bool kg_number_fits(const char *pattern, const char *number);

/* What `numbers` of the configuration makes of a number that comes from a side, or goes there: "phone", "pbx"
 * or the name of a trunk. True if it is written otherwise there: out has it. */
enum kg_number_way { KG_NUMBER_FROM, KG_NUMBER_TO };
bool kg_number_rewrite(const struct kg_config *config, enum kg_number_way way, const char *side,
                       enum kg_number_of of, const char *number, char out[static KG_NUMBER_SIZE]);

#endif
