/* The files of web.root, in memory: what is not in the table is not there, whatever a path says. */
#ifndef KG_SIP_FILES_H
#define KG_SIP_FILES_H

#include "b2bua/sip/http.h"
#include "conf/config.h"

/* A softphone page has a handful. */
#define KG_FILES_MAX       256
#define KG_FILES_BYTES_MAX (32u << 20) /* all together */
#define KG_FILES_DEPTH     4           /* folders within each other */
/* "/", folders and a name */
#define KG_FILE_PATH_MAX 256

struct kg_file {
    char path[KG_FILE_PATH_MAX]; /* as in a request */
    const char *type;
    char etag[20]; /* with its quotes */
    char *data;
    size_t len;
};

struct kg_files; /* immutable, shared by reference; any thread */

/* Reads the folder; without web.root an empty table. NULL and a sentence. */
struct kg_files *kg_files_load(const struct kg_config *config, char *error, size_t size);
struct kg_files *kg_files_ref(struct kg_files *files);
void kg_files_unref(struct kg_files *files); /* takes NULL */
/* NULL: there is none. */
const struct kg_file *kg_files_find(const struct kg_files *files, struct kg_span path);

#endif
