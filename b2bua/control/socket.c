#include "b2bua/control/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 32

static int fail(int code, char *error, size_t size, const char *path, const char *what)
{
    snprintf(error, size, "cannot serve the control socket %s: %s", path, what);
    return code;
}

/* Removes what a dead kedge left. Whoever answers there, or what is no socket, stays. */
static int clear_way(const struct sockaddr_un *un, char *error, size_t size)
{
    struct stat st;
    int fd, refused = 0;

    if (lstat(un->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : fail(errno, error, size, un->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(EEXIST, error, size, un->sun_path, "there is a file of that name that is not a socket");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(errno, error, size, un->sun_path, strerror(errno));
    if (connect(fd, (const struct sockaddr *)un, sizeof *un) != 0)
        refused = errno;
    close(fd);
    if (refused != ECONNREFUSED && refused != ENOENT)
        return fail(EADDRINUSE, error, size, un->sun_path,
                    "another process serves it; is kedge running already?");
    if (unlink(un->sun_path) != 0 && errno != ENOENT)
        return fail(errno, error, size, un->sun_path, strerror(errno));
    return 0;
}

int kg_control_socket_open(const char *path, int *out, char *error, size_t size)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd, code;

    if (strlen(path) >= sizeof un.sun_path)
        return fail(ENAMETOOLONG, error, size, path, "its path is too long");
    memcpy(un.sun_path, path, strlen(path) + 1);
    code = clear_way(&un, error, size);
    if (code != 0)
        return code;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the descriptor becomes the mode of the file (unix(7)): at no moment is it open to others.
     */
    if (fd < 0 || fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&un, sizeof un) != 0 ||
        listen(fd, BACKLOG) != 0) {
        code = fail(errno, error, size, path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return code;
    }
    *out = fd;
    return 0;
}
