/* Inside control/ only: the UNIX socket that the API is served on. */
#ifndef KG_CONTROL_SOCKET_H
#define KG_CONTROL_SOCKET_H

#include <stddef.h>

/* Listens on path, mode 0600. The file a dead kedge left behind is replaced, one that somebody serves is not.
 * Returns 0, or an errno and a sentence. */
int kg_control_socket_open(const char *path, int *out, char *error, size_t size);

#endif
