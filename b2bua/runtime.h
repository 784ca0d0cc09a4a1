/* What kedge keeps beside its control socket while it runs: a lock against a second kedge, and the media
 * control socket. Children that outlived their supervisor (kill -9) are found here: the media process is
 * adopted with its calls, the signalling process is replaced. */
#ifndef KG_RUNTIME_H
#define KG_RUNTIME_H

#include <stddef.h>
#include <sys/types.h>

#include "conf/config.h"

struct kg_runtime {
    int lock_fd;
    int listen_fd;   /* media control; -1 while an adopted engine serves it */
    pid_t media_pid; /* 0: none to adopt */
    int media_pidfd;
    char listen_path[KG_PATH_MAX + 32];
};
#define KG_RUNTIME_NONE                                                                                      \
    {                                                                                                        \
        .lock_fd = -1, .listen_fd = -1, .media_pidfd = -1                                                    \
    }

/* Makes the directories of the store and the control socket, takes the lock. Returns 0, or an errno and a
 * sentence. */
int kg_runtime_open(struct kg_runtime *runtime, const struct kg_config *config, char *why, size_t size);
/* Binds a new media control socket when there is none (the adopted engine is gone). Returns 0 or an errno. */
int kg_runtime_listen(struct kg_runtime *runtime);
void kg_runtime_close(struct kg_runtime *runtime);

#endif
