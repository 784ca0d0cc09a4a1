#include "b2bua/control/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S   30           /* longer than kedge's own limit for an answer */
#define ANSWER_MAX   (256u << 20) /* bytes: a list of every call of a large kedge is far below */
#define ANSWER_FIRST 65536

static int connect_to(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd, error;

    if (strlen(path) >= sizeof un.sun_path) {
        fprintf(stderr, "kedgectl: %s is too long for a socket's path\n", path);
        return -1;
    }
    memcpy(un.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof un) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        return fd;
    }
    error = errno;
    if (fd >= 0)
        close(fd);
    if (error == EACCES || error == EPERM)
        fprintf(stderr, "kedgectl: may not use %s: run it as root or as kedge's own user\n", path);
    else
        fprintf(
            stderr,
            "kedgectl: kedge is not running or its control socket is elsewhere (then give -s SOCKET): cannot "
            "connect to %s: %s\n",
            path, strerror(error));
    return -1;
}

static int send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return errno;
        if (sent > 0) {
            text += sent;
            len -= (size_t)sent;
        }
    }
    return 0;
}

/* HTTP/1.0: the answer ends where the connection does. */
static int send_request(int fd, const char *method, const char *path, const json_t *body)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    size_t len = text != NULL ? strlen(text) : 0;
    char head[1024];
    int error, used;

    used = snprintf(head, sizeof head, "%s %s HTTP/1.0\r\nHost: kedge\r\nContent-Length: %zu\r\n\r\n", method,
                    path, len);
    if (used < 0 || (size_t)used >= sizeof head)
        error = ENAMETOOLONG;
    else
        error = send_all(fd, head, (size_t)used);
    if (error == 0 && len > 0)
        error = send_all(fd, text, len);
    free(text);
    return error;
}

/* Everything up to the end of the connection, NUL-terminated; NULL and errno. */
static char *receive_all(int fd, size_t *out_len)
{
    size_t room = ANSWER_FIRST, len = 0;
    char *text = malloc(room);
    ssize_t got = 1;

    while (text != NULL && got != 0) {
        got = recv(fd, text + len, room - len - 1, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || len + (size_t)got >= ANSWER_MAX) {
            errno = got < 0 ? errno : EFBIG;
            free(text);
            return NULL;
        }
        len += (size_t)got;
        if (room - len < ANSWER_FIRST / 2) {
            char *more = realloc(text, room *= 2);
            if (more == NULL)
                free(text);
            text = more;
        }
    }
    if (text != NULL)
        text[len] = '\0';
    *out_len = len;
    return text;
}

/* The status of the first line, or -1 if this is not an HTTP answer. */
static int read_status(const char *text)
{
    int status = 0;
    const char *at = strchr(text, ' ');

    if (strncmp(text, "HTTP/1.", 7) != 0 || at == NULL)
        return -1;
    for (int i = 1; i <= 3; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        status = status * 10 + (at[i] - '0');
    }
    return status;
}

int kg_client_ask(const char *socket_path, const char *method, const char *path, const json_t *body,
                  json_t **out)
{
    int fd = connect_to(socket_path), error, status = -1;
    char *text = NULL;
    const char *content;
    size_t len = 0;

    *out = NULL;
    if (fd < 0)
        return -1;
    error = send_request(fd, method, path, body);
    if (error == 0 && (text = receive_all(fd, &len)) == NULL)
        error = errno;
    close(fd);
    if (error != 0 || text == NULL) {
        fprintf(stderr, "kedgectl: kedge did not answer on %s: %s\n", socket_path,
                error == EAGAIN ? "it took too long" : strerror(error));
        free(text);
        return -1;
    }
    status = read_status(text);
    content = strstr(text, "\r\n\r\n");
    if (status >= 0 && content != NULL)
        *out = json_loadb(content + 4, len - (size_t)(content + 4 - text), 0, NULL);
    if (status < 0 || *out == NULL) {
        fprintf(stderr, "kedgectl: what answers on %s is not kedge, or it ended while answering\n",
                socket_path);
        status = -1;
    }
    free(text);
    return status;
}
