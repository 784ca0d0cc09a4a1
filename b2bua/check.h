/* What a configuration says about this machine, for kedge -t and reloads: files that can be read, addresses
 * that are here. */
#ifndef KG_CHECK_H
#define KG_CHECK_H

#include <stddef.h>

#include "conf/config.h"

/* 0; or EINVAL and a sentence on the first thing that would keep kedge from starting or from carrying calls.
 * Makes no file and takes no port. */
int kg_check_machine(const struct kg_config *config, char *error, size_t size);
/* The same for the files alone, which a reload reads anew. */
int kg_check_files(const struct kg_config *config, char *error, size_t size);

#endif
