#include "b2bua/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int kg_link_send(int fd, enum kg_link_kind kind, const char *text)
{
    char byte = (char)kind;
    struct iovec part[2] = {{&byte, 1}, {(void *)(uintptr_t)text, text ? strlen(text) : 0}};
    struct msghdr msg = {.msg_iov = part, .msg_iovlen = 2};
    if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno;
    return 0;
}

int kg_link_receive(int fd, char text[static KG_LINK_TEXT_MAX])
{
    char byte = 0;
    struct iovec part[2] = {{&byte, 1}, {text, KG_LINK_TEXT_MAX - 1}};
    struct msghdr msg = {.msg_iov = part, .msg_iovlen = 2};
    ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0)
        return -1;
    text[n - 1] = '\0';
    return (unsigned char)byte;
}

int kg_link_write_config(int fd, const struct kg_config *config)
{
    ssize_t n = pwrite(fd, config, sizeof *config, 0);
    return n == (ssize_t)sizeof *config ? 0 : n < 0 ? errno : EIO;
}

int kg_link_read_config(int fd, struct kg_config *config)
{
    ssize_t n = pread(fd, config, sizeof *config, 0);
    return n == (ssize_t)sizeof *config ? 0 : n < 0 ? errno : EIO;
}
