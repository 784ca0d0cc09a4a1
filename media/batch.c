#include "media/batch.h"

#include <errno.h>
#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "media/relay_ice.h"
#include "media/secure.h"
#include "media/socket.h"

#define SLOTS 8
/* RTP over Ethernet and a little more; longer datagrams are dropped. */
#define PACKET_MAX 2048
/* They may leave with tags and keys' names behind them. libsrtp reads whole words, so slots begin at such. */
#define PACKET_ROOM ((PACKET_MAX + KG_SRTP_GROWTH + 15) / 16 * 16)
/* The DSCP is kept, the two ECN bits are not ours to echo (RFC 6679 needs negotiation). */
#define DSCP_MASK 0xfc

struct kg_batch_slots {
    struct mmsghdr in[SLOTS], out[SLOTS];
    struct iovec in_vec[SLOTS], out_vec[SLOTS];
    struct kg_addr from[SLOTS], to[SLOTS];
    struct kg_leg *leg[SLOTS]; /* whose media goes out */
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control[SLOTS];
    _Alignas(16) uint8_t packet[SLOTS][PACKET_ROOM];
};

int kg_batch_init(struct kg_batch *batch)
{
    struct kg_batch_slots *s = calloc(1, sizeof *s);
    if (s == NULL)
        return ENOMEM;
    for (int i = 0; i < SLOTS; i++) {
        s->in_vec[i] = (struct iovec){s->packet[i], PACKET_MAX};
        s->in[i].msg_hdr = (struct msghdr){.msg_iov = &s->in_vec[i],
                                           .msg_iovlen = 1,
                                           .msg_name = &s->from[i],
                                           .msg_namelen = sizeof s->from[i],
                                           .msg_control = &s->control[i],
                                           .msg_controllen = sizeof s->control[i]};
        s->out[i].msg_hdr =
            (struct msghdr){.msg_iov = &s->out_vec[i], .msg_iovlen = 1, .msg_name = &s->to[i]};
    }
    batch->slots = s;
    return 0;
}

void kg_batch_free(struct kg_batch *batch)
{
    free(batch->slots);
}

static uint8_t traffic_class(struct msghdr *header)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    if (c == NULL)
        return 0;
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
        return *CMSG_DATA(c) & DSCP_MASK;
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
        int value;
        memcpy(&value, CMSG_DATA(c), sizeof value);
        return (uint8_t)value & DSCP_MASK;
    }
    return 0;
}

/* What the kernel does not take now is dropped: late media is worth nothing. */
static void send_out(struct kg_batch_slots *s, struct kg_flow *out, unsigned count)
{
    unsigned done = 0;
    while (done < count) {
        int sent;
        if (count - done == 1) {
            const struct msghdr *h = &s->out[done].msg_hdr;
            ssize_t n = sendto(out->fd, h->msg_iov->iov_base, h->msg_iov->iov_len, MSG_DONTWAIT, h->msg_name,
                               h->msg_namelen);
            sent = n < 0 ? -1 : 1;
        } else {
            sent = sendmmsg(out->fd, s->out + done, count - done, MSG_DONTWAIT);
        }
        if (sent <= 0) {
            done++; /* the first of them failed; the rest may pass */
            continue;
        }
        for (int i = 0; i < sent; i++)
            kg_relay_sent(out, s->leg[done + (unsigned)i], s->out_vec[done + (unsigned)i].iov_base,
                          s->out_vec[done + (unsigned)i].iov_len);
        done += (unsigned)sent;
    }
}

static void set_traffic_class(struct kg_flow *out, uint8_t tos)
{
    if (out->tos == tos)
        return;
    kg_socket_set_tos(out->fd, out->ipv6, tos);
    out->tos = tos;
}

/* A lost check is sent again by its transaction, a lost handshake message by DTLS. */
static void send_own(const struct kg_flow *flow, const struct kg_addr *to, const uint8_t *data, size_t len)
{
    if (flow->fd >= 0 && kg_addr_family(to) == (flow->ipv6 ? AF_INET6 : AF_INET))
        sendto(flow->fd, data, len, MSG_DONTWAIT, &to->sa, kg_addr_len(to));
}

bool kg_batch_send_own(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms)
{
    struct kg_ice_out check;
    struct kg_secure_out handshake;
    for (unsigned i = 0; i < KG_OWN_BURST; i++) {
        if (kg_relay_ice_poll(relay, now_ms, &check))
            send_own(check.flow, check.to, check.data, check.len);
        else if (kg_secure_poll(relay, limits, now_ms, &handshake))
            send_own(handshake.flow, &handshake.to, handshake.data, handshake.len);
        else
            return true;
    }
    return false;
}

void kg_batch_relay(struct kg_batch *batch, struct kg_flow *flow, const struct kg_limits *limits,
                    int64_t now_us)
{
    struct kg_batch_slots *s = batch->slots;
    int count = recvmmsg(flow->fd, s->in, SLOTS, MSG_DONTWAIT, NULL);
    struct kg_relay *relay = flow->leg->stream->relay;
    struct kg_flow *out = NULL;
    unsigned queued = 0;
    for (int i = 0; i < count; i++) {
        struct msghdr *header = &s->in[i].msg_hdr;
        struct kg_datagram datagram = {.data = s->packet[i],
                                       .len = s->in[i].msg_len,
                                       .room = sizeof s->packet[i],
                                       .source = &s->from[i]};
        uint8_t tos = traffic_class(header);
        bool whole = !(header->msg_flags & MSG_TRUNC);
        header->msg_namelen = sizeof s->from[i];
        header->msg_controllen = sizeof s->control[i];
        const struct kg_addr *to;
        struct kg_flow *next = whole ? kg_relay_packet(flow, &datagram, limits, now_us, &to) : NULL;
        if (next == NULL) {
            if (relay->touched)
                kg_batch_send_own(relay, limits, now_us / 1000);
            continue;
        }
        if (queued > 0 && (next != out || next->tos != tos)) {
            send_out(s, out, queued);
            queued = 0;
        }
        out = next;
        set_traffic_class(out, tos);
        s->to[queued] = *to;
        s->leg[queued] = datagram.to;
        s->out_vec[queued] = (struct iovec){datagram.data, datagram.len};
        s->out[queued++].msg_hdr.msg_namelen = kg_addr_len(to);
    }
    if (queued > 0)
        send_out(s, out, queued);
}
