/* rtpload: a paced RTP load and its measurement, in one thread.
 *
 * Plays both ends of many relayed calls: end A lives in one network namespace, end B in another. Each end of
 * each call has a socket of its own, sends a packet of 172 bytes every 20 ms to its address at the relay and
 * counts what arrives. Payload: call, direction, number, time of sending. Latency is from just before the
 * send to the kernel's receive time stamp, so the load's own queueing on the receiving side does not count as
 * the relay's.
 *
 * usage: rtpload NS_A ADDR_A NS_B ADDR_B SECONDS [OVERLOAD_SECONDS AFTER_SECONDS]  < calls
 * calls: one line a call: PORT_A RELAY_A_HOST RELAY_A_PORT PORT_B RELAY_B_HOST RELAY_B_PORT
 * Prints one JSON object. With an overload: SECONDS at the usual pace, then as fast as the thread can, then
 * the usual pace again, and the time after the overload from which on nothing was lost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CALLS_MAX = 4000,
    PTIME_MS = 20,
    PACKET = 172,           /* 12 RTP + 160 PCMU, as a phone sends it */
    WARMUP_MS = 1500,       /* latching and first wake-ups: sent, not measured */
    RECEIVE_BUFFER = 16384, /* bytes a socket, so that what an overload leaves there is quickly read */
    OVERLOAD_BATCH = 8,
    DRAIN_MS = 500, /* for the last packets to arrive */
    BUCKET_MS = 20, /* resolution of "time to zero loss" */
    BUCKETS = 1 << 13,
    LATENCY_MAX_US = 1 << 20,
};

struct stamp {        /* after the RTP header */
    uint64_t sent_ns; /* CLOCK_REALTIME, as SO_TIMESTAMPNS */
    uint32_t bucket;  /* of the time of sending; UINT32_MAX: not measured */
    uint32_t call;
    uint32_t from_b;
};

struct end {
    int fd;
    struct sockaddr_in relay;
    uint16_t seq;
    uint32_t ssrc;
};

static struct end ends[CALLS_MAX * 2]; /* A of call i at 2i, B at 2i + 1 */
static unsigned end_count;
static uint32_t latency_us[LATENCY_MAX_US]; /* histogram */
static uint32_t sent_in[BUCKETS], got_in[BUCKETS];
static uint64_t sent, received, strangers, overload_sent, send_errors;

static void die(const char *what)
{
    fprintf(stderr, "rtpload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void enter(const char *ns)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", ns);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || setns(fd, CLONE_NEWNET))
        die(path);
    close(fd);
}

static int open_end(const char *host, unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
        die(host);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int on = 1, size = RECEIVE_BUFFER;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size))
        die("socket");
    return fd;
}

static void read_calls(const char *ns[2], const char *host[2])
{
    static struct {
        unsigned port[2], relay_port[2];
        char relay[2][64];
    } line[CALLS_MAX];
    unsigned count = 0;
    while (count < CALLS_MAX && scanf("%u %63s %u %u %63s %u", &line[count].port[0], line[count].relay[0],
                                      &line[count].relay_port[0], &line[count].port[1], line[count].relay[1],
                                      &line[count].relay_port[1]) == 6)
        count++;
    for (int side = 0; side < 2; side++) {
        enter(ns[side]);
        for (unsigned i = 0; i < count; i++) {
            struct end *end = &ends[2 * i + (unsigned)side];
            end->fd = open_end(host[side], line[i].port[side]);
            end->ssrc = 0x10000000U * (unsigned)(side + 1) + i;
            end->relay = (struct sockaddr_in){.sin_family = AF_INET,
                                              .sin_port = htons((uint16_t)line[i].relay_port[side])};
            if (inet_pton(AF_INET, line[i].relay[side], &end->relay.sin_addr) != 1)
                die(line[i].relay[side]);
        }
    }
    end_count = count * 2;
}

static void write_packet(struct end *end, unsigned index, uint32_t bucket, uint8_t *packet)
{
    uint16_t seq = htons(end->seq++);
    uint32_t ts = htonl((uint32_t)end->seq * 160U), ssrc = htonl(end->ssrc);
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &seq, 2);
    memcpy(packet + 4, &ts, 4);
    memcpy(packet + 8, &ssrc, 4);
    struct stamp stamp = {clock_ns(CLOCK_REALTIME), bucket, index / 2, index & 1};
    memcpy(packet + 12, &stamp, sizeof stamp);
}

static void send_one(unsigned index, uint32_t bucket)
{
    struct end *end = &ends[index];
    uint8_t packet[PACKET] = {0};
    write_packet(end, index, bucket, packet);
    if (sendto(end->fd, packet, sizeof packet, 0, (struct sockaddr *)&end->relay, sizeof end->relay) < 0) {
        send_errors++;
        return;
    }
    if (bucket != UINT32_MAX) {
        sent++;
        sent_in[bucket % BUCKETS]++;
    }
}

static void count(unsigned index, const uint8_t *packet, ssize_t len, uint64_t at_ns)
{
    struct stamp stamp;
    if (len < (ssize_t)(12 + sizeof stamp)) {
        strangers++;
        return;
    }
    memcpy(&stamp, packet + 12, sizeof stamp);
    if (stamp.call != index / 2 || stamp.from_b == (index & 1)) {
        strangers++; /* somebody else's packet */
        return;
    }
    if (stamp.bucket == UINT32_MAX)
        return;
    received++;
    got_in[stamp.bucket % BUCKETS]++;
    uint64_t us = at_ns > stamp.sent_ns ? (at_ns - stamp.sent_ns) / 1000 : 0;
    latency_us[us < LATENCY_MAX_US ? us : LATENCY_MAX_US - 1]++;
}

static void receive(unsigned index)
{
    enum { BATCH = 8 };
    static uint8_t packet[BATCH][512], control[BATCH][64];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){packet[i], sizeof packet[i]};
        msg[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i],
                                              .msg_iovlen = 1,
                                              .msg_control = control[i],
                                              .msg_controllen = sizeof control[i]}};
    }
    int got = recvmmsg(ends[index].fd, msg, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) {
        struct timespec at = {0};
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg[i].msg_hdr); c; c = CMSG_NXTHDR(&msg[i].msg_hdr, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS)
                memcpy(&at, CMSG_DATA(c), sizeof at);
        count(index, packet[i], msg[i].msg_len, (uint64_t)at.tv_sec * 1000000000U + (uint64_t)at.tv_nsec);
    }
}

static void poll_ends(int epoll, int timeout_ms)
{
    struct epoll_event ready[512];
    int n = epoll_wait(epoll, ready, 512, timeout_ms);
    for (int i = 0; i < n; i++)
        receive(ready[i].data.u32);
}

/* The usual pace: every end sends once in 20 ms, spread evenly over the milliseconds. */
static void paced(int epoll, uint64_t origin_ns, double seconds, bool measured)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC), end = start + (uint64_t)(seconds * 1e9), step = 0;
    for (;;) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (now >= end)
            return;
        while (start + step * 1000000U <= now) {
            uint32_t bucket = measured ? (uint32_t)((now - origin_ns) / (BUCKET_MS * 1000000U)) : UINT32_MAX;
            for (unsigned i = (unsigned)(step % PTIME_MS); i < end_count; i += PTIME_MS)
                send_one(i, bucket);
            step++;
        }
        poll_ends(epoll, 1);
    }
}

/* As fast as one thread can send, eight packets a call (UDP_SEGMENT); nobody listens, as nobody has the time.
 */
static void overload(double seconds)
{
    static uint8_t packets[OVERLOAD_BATCH * PACKET];
    int segment = PACKET;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < end_count; i++)
        if (setsockopt(ends[i].fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))
            die("UDP_SEGMENT");
    while (clock_ns(CLOCK_MONOTONIC) < end)
        for (unsigned i = 0; i < end_count; i++) {
            for (unsigned k = 0; k < OVERLOAD_BATCH; k++)
                write_packet(&ends[i], i, UINT32_MAX, packets + k * PACKET);
            if (sendto(ends[i].fd, packets, sizeof packets, 0, (struct sockaddr *)&ends[i].relay,
                       sizeof ends[i].relay) < 0)
                send_errors++;
            else
                overload_sent += OVERLOAD_BATCH;
        }
    segment = 0;
    for (unsigned i = 0; i < end_count; i++)
        setsockopt(ends[i].fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
}

/* Reads what an overload left in our own sockets, so that it does not push out what is measured next. */
static void discard(void)
{
    for (unsigned i = 0; i < end_count; i++)
        receive(i), receive(i), receive(i), receive(i), receive(i), receive(i);
}

static void drain(int epoll, unsigned ms)
{
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + ms * 1000000ULL;
    while (clock_ns(CLOCK_MONOTONIC) < end)
        poll_ends(epoll, 5);
}

static unsigned percentile(double share)
{
    uint64_t want = (uint64_t)((double)received * share), sum = 0;
    for (unsigned us = 0; us < LATENCY_MAX_US; us++) {
        sum += latency_us[us];
        if (sum > want)
            return us;
    }
    return 0;
}

/* Milliseconds after `from` (a bucket) until the last bucket that lost something ended; 0: nothing was lost.
 */
static unsigned recovery_ms(uint32_t from, uint32_t to)
{
    unsigned last = 0;
    for (uint32_t b = from; b < to; b++)
        if (got_in[b % BUCKETS] < sent_in[b % BUCKETS])
            last = (b - from + 1) * BUCKET_MS;
    return last;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: %s NS_A ADDR_A NS_B ADDR_B SECONDS [OVERLOAD AFTER] < calls\n", argv[0]);
        return 2;
    }
    struct rlimit files = {2 * CALLS_MAX + 64, 2 * CALLS_MAX + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    read_calls((const char *[]){argv[1], argv[3]}, (const char *[]){argv[2], argv[4]});
    int epoll = epoll_create1(0);
    for (unsigned i = 0; i < end_count; i++) {
        struct epoll_event want = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, ends[i].fd, &want))
            die("epoll");
    }
    uint64_t origin = clock_ns(CLOCK_MONOTONIC);
    paced(epoll, origin, WARMUP_MS / 1000.0, false);
    puts("measuring"); /* whoever samples the relay's CPU starts now ... */
    fflush(stdout);
    paced(epoll, origin, strtod(argv[5], NULL), true);
    puts("measured"); /* ... and stops here */
    fflush(stdout);
    uint64_t steady_sent = sent;
    drain(epoll, DRAIN_MS);
    uint64_t steady_lost = sent > received ? sent - received : 0;
    unsigned p50 = percentile(0.50), p99 = percentile(0.99);
    unsigned recovered = 0;
    uint64_t after_sent = 0, after_lost = 0;
    if (argc > 7) {
        overload(strtod(argv[6], NULL));
        uint32_t from = (uint32_t)((clock_ns(CLOCK_MONOTONIC) - origin) / (BUCKET_MS * 1000000U));
        uint64_t before = received;
        discard();
        paced(epoll, origin, strtod(argv[7], NULL), true);
        uint32_t to = (uint32_t)((clock_ns(CLOCK_MONOTONIC) - origin) / (BUCKET_MS * 1000000U));
        drain(epoll, DRAIN_MS);
        after_sent = sent - steady_sent;
        after_lost = after_sent - (received - before);
        recovered = recovery_ms(from, to + 1);
    }
    printf("{\"calls\": %u, \"sent\": %llu, \"lost\": %llu, \"p50_us\": %u, \"p99_us\": %u, \"strangers\": "
           "%llu, "
           "\"send_errors\": %llu, \"overload_sent\": %llu, \"after_sent\": %llu, \"after_lost\": %llu, "
           "\"recovery_ms\": %u}\n",
           end_count / 2, (unsigned long long)steady_sent, (unsigned long long)steady_lost, p50, p99,
           (unsigned long long)strangers, (unsigned long long)send_errors, (unsigned long long)overload_sent,
           (unsigned long long)after_sent, (unsigned long long)after_lost, recovered);
    return 0;
}
