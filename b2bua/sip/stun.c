/* STUN on a SIP port over UDP: phones that keep their flow open with it (RFC 5626 4.4.2) get their address as
 * answer. Everything else of that kind is dropped unseen: the library's own STUN server would print lines
 * about it, one for each datagram of a stranger. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <sofia-sip/su.h>

#include "b2bua/server.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/stun.h"
#include "conf/bytes.h"
#include "ice/stun/message.h"

/* Found before libsofia's, by libsofia too (README.md, "The shim"). */
#define INTERPOSED __attribute__((visibility("default")))

/* A demultiplexer of protocols takes these first bytes for STUN (RFC 7983 7); no SIP message begins with one.
 */
#define FIRST_BYTE_MAX 3
#define UNKNOWN_MAX    16 /* how many a 420 names */

_Static_assert(sizeof(su_iovec_t) == sizeof(struct iovec) &&
                   offsetof(su_iovec_t, siv_base) == offsetof(struct iovec, iov_base) &&
                   offsetof(su_iovec_t, siv_len) == offsetof(struct iovec, iov_len),
               "libsofia's vectors are the system's");

/* What a request asks for and this server does not do: attributes nobody knows, and those of RFC 5780.
 * Big-endian in out, as a 420 lists them. */
static size_t refused(const struct kg_stun_message *request, uint8_t out[static 2 * UNKNOWN_MAX])
{
    static const uint16_t discovery[] = {KG_STUN_CHANGE_REQUEST, KG_STUN_PADDING, KG_STUN_RESPONSE_PORT};
    uint16_t type[UNKNOWN_MAX];
    size_t count = kg_stun_unknown(request, type, UNKNOWN_MAX);
    for (size_t i = 0; i < sizeof discovery / sizeof *discovery && count < UNKNOWN_MAX; i++)
        if (kg_stun_find(request, discovery[i]))
            type[count++] = discovery[i];
    for (size_t i = 0; i < count; i++)
        kg_write16(out + 2 * i, type[i]);
    return count;
}

size_t kg_sip_stun_answer(const void *data, size_t len, const struct kg_addr *source,
                          uint8_t out[static KG_SIP_STUN_MAX])
{
    struct kg_stun_message request;
    struct kg_stun_writer w;
    uint8_t unknown[2 * UNKNOWN_MAX];
    if (kg_stun_parse(data, len, &request) != KG_STUN_OK || request.class != KG_STUN_REQUEST ||
        request.method != KG_STUN_BINDING)
        return 0;
    size_t count = refused(&request, unknown);
    kg_stun_begin(&w, out, KG_SIP_STUN_MAX, count ? KG_STUN_ERROR : KG_STUN_SUCCESS, KG_STUN_BINDING,
                  request.id);
    if (count) {
        kg_stun_put_error(&w, 420, ""); /* no reason phrase: the answer must stay small */
        kg_stun_put(&w, KG_STUN_UNKNOWN_ATTRIBUTES, unknown, 2 * count);
    } else {
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, source);
    }
    if (request.has_fingerprint)
        kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

static void serve(int socket, const void *data, size_t len, const struct sockaddr *from, socklen_t from_len)
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

/* The library's one function that receives datagrams; streams come through it without an address. The library
 * takes EAGAIN for "nothing there after all". */
INTERPOSED issize_t su_vrecv(su_socket_t socket, su_iovec_t iov[], isize_t iov_len, int flags,
                             su_sockaddr_t *su, socklen_t *sulen)
{
    struct msghdr message = {.msg_name = su,
                             .msg_namelen = su && sulen ? *sulen : 0,
                             .msg_iov = (struct iovec *)iov,
                             .msg_iovlen = iov_len};
    ssize_t n = recvmsg(socket, &message, flags);
    if (n < 0)
        return -1;
    if (sulen)
        *sulen = message.msg_namelen;
    if (!su || n == 0 || iov[0].siv_len == 0)
        return n;
    size_t first = (size_t)n < iov[0].siv_len ? (size_t)n : iov[0].siv_len;
    if (!kg_screen_datagram(&su->su_sa, iov[0].siv_base, first, (size_t)n)) {
        errno = EAGAIN;
        return -1;
    }
    if (*(const uint8_t *)iov[0].siv_base > FIRST_BYTE_MAX)
        return n;
    /* What does not lie in one piece is longer than any Binding request: its first piece does not parse. */
    serve(socket, iov[0].siv_base, first, &su->su_sa, message.msg_namelen);
    errno = EAGAIN;
    return -1;
}
