/* Call detail records: one line of JSON a call, in a file that rotates. The signalling thread hands records
 * over; a thread of this module's own writes, so that a slow disk never holds a call up. */
#ifndef KG_CDR_H
#define KG_CDR_H

#include <jansson.h>
#include <stdint.h>

#include "conf/config.h"

struct kg_cdr;

/* Records that wait for the disk; more are lost, the newest first, and counted. About 3 kB each. */
#define KG_CDR_WAITING_MAX 10000

/* Starts the writer. cdr.file "": it throws everything away until a reload names a file. NULL: no memory, no
 * thread. */
struct kg_cdr *kg_cdr_new(const struct kg_config *config);
/* Writes what waits, for at most two seconds, and ends. NULL is fine. */
void kg_cdr_free(struct kg_cdr *cdr);
/* After a reload: other limits, perhaps another file. The file is opened again in any case, so that a tool
 * that renames it (logrotate) works with `kedgectl reload`. */
void kg_cdr_configure(struct kg_cdr *cdr, const struct kg_config *config);
/* True if records are wanted: else there is no use in making one. */
bool kg_cdr_is_on(const struct kg_cdr *cdr);
/* Takes the reference over. */
void kg_cdr_write(struct kg_cdr *cdr, json_t *record);
/* Records lost since the start, because the file could not be written for long. */
uint64_t kg_cdr_lost(struct kg_cdr *cdr);

#endif
