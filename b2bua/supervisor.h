/* The supervisor: reads the configuration, starts the media and the signalling process, restarts the one that
 * dies or hangs, carries out reloads. It parses nothing that comes from the network. */
#ifndef KG_SUPERVISOR_H
#define KG_SUPERVISOR_H

#include "conf/config.h"

/* Reads and checks the file; prints "FILE:LINE: sentence" for each error on stderr. Returns 0 or EINVAL. */
int kg_supervisor_load(const char *file, struct kg_config *config);
/* Runs until SIGTERM or SIGINT. Returns the exit status. */
int kg_supervisor_main(const char *file);

#endif
