/* Datagrams before the library sees them: what the guard lets in, STUN, and how long they have waited. The
 * library's own STUN server would print lines about it, one for each datagram of a stranger. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <sofia-sip/su.h>

#include "b2bua/server.h"
#include "b2bua/sip/overload.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/stun.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Found before libsofia's, by libsofia too (README.md, "The shim"). */
#define INTERPOSED __attribute__((visibility("default")))

/* A demultiplexer of protocols takes these first bytes for STUN (RFC 7983 7); no SIP message begins with one.
 */
#define STUN_FIRST_BYTE_MAX 3
#define QUEUES_MAX          64

_Static_assert(sizeof(su_iovec_t) == sizeof(struct iovec) &&
                   offsetof(su_iovec_t, siv_base) == offsetof(struct iovec, iov_base) &&
                   offsetof(su_iovec_t, siv_len) == offsetof(struct iovec, iov_len),
               "libsofia's vectors are the system's");

/* The library calls su_vrecv() without a context; there is one stack a process. */
static struct kg_overload overload;
/* Of the sockets in use; more of them than this share the last one. */
static struct {
    int socket;
    struct kg_overload_queue queue;
} queues[QUEUES_MAX];
static size_t queue_count;

bool kg_sip_is_late(const sip_t *sip)
{
    uint32_t transaction = (uint32_t)sip->sip_call_id->i_hash ^ sip->sip_cseq->cs_seq * UINT32_C(2654435761);
    return kg_overload_refuses(&overload, transaction, kg_mono_ms());
}

static void answer_stun(int socket, const void *data, size_t len, const struct sockaddr *from,
                        socklen_t from_len)
{
    struct kg_addr source = kg_addr_from_sockaddr(from);
    uint8_t answer[KG_SIP_STUN_MAX];
    size_t size = kg_addr_is_set(&source) ? kg_sip_stun_answer(data, len, &source, answer) : 0;
    if (size > 0 &&
        sendto(socket, answer, size, MSG_DONTWAIT | MSG_NOSIGNAL, from, from_len) == (ssize_t)size)
        kg_counters.stun_answered++;
    else
        kg_counters.stun_dropped++;
}

/* How long it was in the socket's queue, by the kernel's time of its arrival: that is on the wall clock. The
 * first datagram of a socket has none, and turns it on. */
static int64_t waited_ms(int socket, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct timespec at;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS ||
            c->cmsg_len < CMSG_LEN(sizeof at))
            continue;
        memcpy(&at, CMSG_DATA(c), sizeof at);
        return kg_wall_ms() - ((int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000);
    }
    (void)setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    return 0;
}

static struct kg_overload_queue *queue_of(int socket)
{
    size_t i = 0;
    while (i < queue_count && queues[i].socket != socket)
        i++;
    if (i == queue_count && queue_count < QUEUES_MAX)
        queues[queue_count++].socket = socket;
    return &queues[i < QUEUES_MAX ? i : QUEUES_MAX - 1].queue;
}

static void note_wait(int socket, int64_t waited)
{
    if (!kg_overload_read(&overload, queue_of(socket), waited, kg_mono_ms()))
        return;
    if (overload.is_on)
        kg_warn("sip",
                "overloaded: for a second all that came to a port had waited longer than %d ms. Calls that "
                "wait so long get 503",
                KG_OVERLOAD_LATE_MS);
    else
        kg_info("sip", "no longer overloaded: no call has waited long for %d s", KG_OVERLOAD_OVER_MS / 1000);
}

/* The library's one function that receives datagrams; streams come through it without an address. The library
 * takes EAGAIN for "nothing there after all". */
INTERPOSED issize_t su_vrecv(su_socket_t socket, su_iovec_t iov[], isize_t iov_len, int flags,
                             su_sockaddr_t *su, socklen_t *sulen)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec))];
    struct msghdr message = {.msg_name = su,
                             .msg_namelen = su && sulen ? *sulen : 0,
                             .msg_iov = (struct iovec *)iov,
                             .msg_iovlen = iov_len,
                             .msg_control = su ? control : NULL,
                             .msg_controllen = su ? sizeof control : 0};
    ssize_t n = recvmsg(socket, &message, flags);
    if (n < 0)
        return -1;
    if (sulen)
        *sulen = message.msg_namelen;
    if (!su || n == 0 || iov[0].siv_len == 0) {
        overload.is_late = false; /* TCP slows down who sends */
        return n;
    }
    note_wait(socket, waited_ms(socket, &message));
    size_t first = (size_t)n < iov[0].siv_len ? (size_t)n : iov[0].siv_len;
    if (!kg_screen_datagram(&su->su_sa, iov[0].siv_base, first, (size_t)n)) {
        errno = EAGAIN;
        return -1;
    }
    if (*(const uint8_t *)iov[0].siv_base > STUN_FIRST_BYTE_MAX)
        return n;
    /* What does not lie in one piece is longer than any Binding request: its first piece does not parse. */
    answer_stun(socket, iov[0].siv_base, first, &su->su_sa, message.msg_namelen);
    errno = EAGAIN;
    return -1;
}
