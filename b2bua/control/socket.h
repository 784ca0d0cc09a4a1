/* Inside control/ only: the UNIX socket that the API is served on. */
#ifndef KG_CONTROL_SOCKET_H
#define KG_CONTROL_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

struct kg_control_socket {
    int fd;
    dev_t device; /* of the file we made: only that one is removed again */
    ino_t inode;
};

/* Listens on path, mode 0600. The file a dead kedge left behind is replaced, one that somebody serves is not.
 * Returns 0, or an errno and a sentence. */
int kg_control_socket_open(const char *path, struct kg_control_socket *out, char *error, size_t size);
/* Removes the file; the descriptor belongs to evhttp by then. */
void kg_control_socket_remove(const char *path, const struct kg_control_socket *socket);

#endif
