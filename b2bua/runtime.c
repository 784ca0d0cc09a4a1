#include "b2bua/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "b2bua/roles.h"

/* How long an orphaned signalling process may take to write its store and go. */
#define HANDOVER_MS 3000

void kg_beside_control(const char *control, const char *name, char *out, unsigned long size)
{
    const char *slash = strrchr(control, '/');
    if (slash)
        snprintf(out, size, "%.*s/%s", (int)(slash - control), control, name);
    else
        snprintf(out, size, "%s", name);
}

/* mkdir -p of the directory that `path` lies in. */
static int make_parent(const char *path)
{
    char dir[KG_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    for (char *p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(dir, 0755) && errno != EEXIST)
            return errno;
        *p = '/';
    }
    return 0;
}

static int pidfd_open_(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The process that listens on a UNIX socket, if it plays this role of kedge; else 0. */
static pid_t listener(const char *path, int type, const char *role)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    char name[64], cmdline[256] = "", wanted[64];
    pid_t pid = 0;

    if (strlen(path) >= sizeof un.sun_path)
        return 0;
    memcpy(un.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    if (connect(fd, (struct sockaddr *)&un, sizeof un) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        pid = peer.pid;
    close(fd);
    if (!pid)
        return 0;
    snprintf(name, sizeof name, "/proc/%d/cmdline", (int)pid);
    snprintf(wanted, sizeof wanted, "--role=%s", role);
    int cmd = open(name, O_RDONLY | O_CLOEXEC);
    if (cmd < 0)
        return 0;
    ssize_t n = read(cmd, cmdline, sizeof cmdline - 1);
    close(cmd);
    const char *second = memchr(cmdline, '\0', n > 0 ? (size_t)n : 0);
    return second && strcmp(second + 1, wanted) == 0 ? pid : 0;
}

/* Asks an orphaned signalling process to go without ending its calls (the engine holds them), then insists.
 */
static void replace_signalling(pid_t pid)
{
    int pidfd = pidfd_open_(pid);
    if (pidfd < 0)
        return;
    struct pollfd gone = {.fd = pidfd, .events = POLLIN};
    kill(pid, SIGUSR1);
    kill(pid, SIGCONT);
    if (poll(&gone, 1, HANDOVER_MS) == 0) {
        kill(pid, SIGKILL);
        poll(&gone, 1, HANDOVER_MS);
    }
    close(pidfd);
}

int kg_runtime_listen(struct kg_runtime *r)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (r->listen_fd >= 0)
        return 0;
    if (strlen(r->listen_path) >= sizeof un.sun_path)
        return ENAMETOOLONG;
    memcpy(un.sun_path, r->listen_path, strlen(r->listen_path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    unlink(r->listen_path);
    mode_t old = umask(0177);
    int error = bind(fd, (struct sockaddr *)&un, sizeof un) || listen(fd, 16) ? errno : 0;
    umask(old);
    if (error) {
        close(fd);
        return error;
    }
    r->listen_fd = fd;
    return 0;
}

static int fail(int error, char *why, size_t size, const char *what, const char *path, const char *advice)
{
    snprintf(why, size, "%s %s: %s%s", what, path, strerror(error), advice);
    return error;
}

int kg_runtime_open(struct kg_runtime *r, const struct kg_config *config, char *why, size_t size)
{
    char lock_path[KG_PATH_MAX + 32];
    int error;

    if ((error = make_parent(config->store)))
        return fail(error, why, size, "cannot make the directory of the store", config->store,
                    "; set `store` in the configuration");
    if ((error = make_parent(config->control)))
        return fail(error, why, size, "cannot make the directory of the control socket", config->control,
                    "; set `control` in the configuration");
    kg_beside_control(config->control, "kedge.lock", lock_path, sizeof lock_path);
    kg_beside_control(config->control, KG_MEDIA_SOCKET_NAME, r->listen_path, sizeof r->listen_path);

    r->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock_fd < 0)
        return fail(errno, why, size, "cannot write", lock_path,
                    "; start kedge as a user who may, or give it another `control`");
    if (flock(r->lock_fd, LOCK_EX | LOCK_NB)) {
        snprintf(
            why, size,
            "another kedge with the control socket %s is running (it holds %s); stop it, or give this one "
            "another `control`",
            config->control, lock_path);
        return EADDRINUSE;
    }
    pid_t signalling = listener(config->control, SOCK_STREAM, "signalling");
    if (signalling)
        replace_signalling(signalling);
    r->media_pid = listener(r->listen_path, SOCK_SEQPACKET, "media");
    if (r->media_pid && (r->media_pidfd = pidfd_open_(r->media_pid)) < 0)
        r->media_pid = 0;
    if (!r->media_pid && (error = kg_runtime_listen(r)))
        return fail(error, why, size, "cannot make the media control socket", r->listen_path, "");
    return 0;
}

void kg_runtime_close(struct kg_runtime *r)
{
    if (r->listen_fd >= 0) {
        close(r->listen_fd);
        unlink(r->listen_path);
    }
    if (r->media_pidfd >= 0)
        close(r->media_pidfd);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    *r = (struct kg_runtime)KG_RUNTIME_NONE;
}
