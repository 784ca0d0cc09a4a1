/* The control API: HTTP/JSON on the UNIX socket, by libevent's evhttp on the edge thread; every request is
 * carried out on the signalling thread and answered back (mailbox.h). */
#ifndef KG_CONTROL_H
#define KG_CONTROL_H

#include <stddef.h>

#include "b2bua/server.h"

struct kg_control;
struct event_base;

/* Asks the supervisor to reload; calls done later on the signalling thread with its answer (JSON text). */
typedef void kg_control_reload(void *ctx, void (*done)(void *, const char *json), void *done_ctx);

/* NULL and a sentence in error (socket path taken by a living kedge, not writable ...). */
struct kg_control *kg_control_new(struct kg_server *server, struct event_base *base,
                                  kg_control_reload *reload, void *reload_ctx, char *error, size_t size);
void kg_control_free(struct kg_control *control);

/* `kedgectl`: the same binary under another name (argv[0]). Returns its exit status. */
int kg_kedgectl_main(int argc, char **argv);

#endif
