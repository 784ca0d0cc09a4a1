#include "media/socket.h"

#include <errno.h>
#include <netinet/ip.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/clock.h"

/* Attempts at ports that some other program holds, before we call the range full. */
#define TRIES 64
/* Receive buffers; the kernel takes twice the number and counts its own overhead. For audio some 40 packets
 * of 20 ms: what waits longer is of no use to a listener, and a longer queue would only turn an overload into
 * delay. For video about 100 full packets, a large frame. */
#define AUDIO_BUFFER (16 * 1024)
#define OTHER_BUFFER (128 * 1024)

static int open_one(const struct kg_addr *at, int buffer)
{
    int fd = socket(kg_addr_family(at), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (kg_addr_family(at) == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &one, sizeof one);
    } else {
        setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &one, sizeof one);
    }
    if (bind(fd, &at->sa, kg_addr_len(at)) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int open_at(const struct kg_addr *host, uint16_t port, int buffer, int fd[2])
{
    struct kg_addr at = *host;
    kg_addr_set_port(&at, port);
    fd[0] = open_one(&at, buffer);
    if (fd[0] < 0)
        return errno;
    kg_addr_set_port(&at, (uint16_t)(port + 1));
    fd[1] = open_one(&at, buffer);
    if (fd[1] < 0) {
        int saved = errno;
        close(fd[0]);
        fd[0] = -1;
        return saved;
    }
    return 0;
}

static enum kg_media_error error_of(int error)
{
    switch (error) {
    case EADDRINUSE:
        return KG_MEDIA_NO_PORTS;
    case EADDRNOTAVAIL:
    case EACCES:
    case EPERM:
    case EINVAL:
    case EAFNOSUPPORT:
    case ENODEV:
        return KG_MEDIA_BAD_ADDRESS;
    default:
        return KG_MEDIA_NO_SOCKETS;
    }
}

enum kg_media_error kg_socket_open_pair(struct kg_ports *ports, const struct kg_addr *host, bool audio,
                                        uint16_t exactly, int64_t now_ms, int fd[2], uint16_t *port)
{
    int error = EADDRINUSE;
    for (int i = 0; i < TRIES && error == EADDRINUSE; i++) {
        uint16_t even = exactly;
        if (exactly == 0)
            even = kg_ports_take(ports, kg_random_u32(), now_ms);
        else if (kg_ports_take_exactly(ports, exactly) != 0)
            even = 0;
        if (even == 0)
            return KG_MEDIA_NO_PORTS;
        error = open_at(host, even, audio ? AUDIO_BUFFER : OTHER_BUFFER, fd);
        if (error == 0) {
            *port = even;
            return KG_MEDIA_OK;
        }
        kg_ports_release(ports, even, now_ms);
        if (exactly != 0)
            break;
    }
    return error_of(error);
}

int kg_socket_open_again(const struct kg_addr *host, bool audio, uint16_t port, int fd[2])
{
    return open_at(host, port, audio ? AUDIO_BUFFER : OTHER_BUFFER, fd);
}

void kg_socket_close_pair(int fd[2])
{
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
        fd[i] = -1;
    }
}

void kg_socket_set_tos(int fd, bool ipv6, uint8_t tos)
{
    int value = tos;
    if (ipv6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
    else
        setsockopt(fd, IPPROTO_IP, IP_TOS, &value, sizeof value);
}
