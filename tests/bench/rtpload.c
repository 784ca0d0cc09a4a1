/* rtpload: a paced RTP load and its measurement, in one thread.
 *
 * Plays both ends of many relayed calls: all ends A share one socket in one network namespace, all ends B one
 * in another, since a relay tells calls apart by its own ports. Each end of each call sends a packet of 172
 * bytes every 20 ms to its port at the relay and counts what comes from there. Payload: call, direction, time
 * of sending. Latency is from just before the send to the kernel's receive time stamp, so the load's own
 * queueing on the receiving side does not count as the relay's.
 *
 * usage: rtpload [-i] [-s] [-r MS,MS,...] NS_A ADDR_A PORT_A NS_B ADDR_B PORT_B SECONDS
 *                [OVERLOAD_SECONDS AFTER_SECONDS]  < calls
 * calls: one line a call: RELAY_A_HOST RELAY_A_PORT RELAY_B_HOST RELAY_B_PORT
 * With -s ends A speak SRTP, and A's port is followed by the suite and the key that the relay sends with
 * (base64, as in SDP); ours is all zeros but its length. What does not authenticate counts as lost. With -r
 * every end sends a packet in so many milliseconds, for SECONDS each, and each step prints a JSON object,
 * until one loses a thousandth. With -i both ends do ICE (ice.h) and each port is followed by the ufrag and
 * pwd that belong to it. Checks are answered from the start, while the calls are still being made. Prints one
 * JSON object. With an overload: SECONDS at the usual pace, then as fast as the thread can, then the usual
 * pace again, and the time after the overload from which on nothing was lost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "media/srtp.h"
#include "tests/bench/ice.h"

enum {
    CALLS_MAX = 10000,
    PTIME_MS = 20,
    PACKET = 172, /* 12 RTP + 160 PCMU, as a phone sends it */
    PACKET_ROOM = PACKET + KG_SRTP_GROWTH + 4 - KG_SRTP_GROWTH % 4,
    BATCH = 64,       /* messages a system call */
    WARMUP_MS = 1500, /* latching and first wake-ups: sent, not measured */
    DRAIN_MS = 500,   /* for the last packets to arrive */
    BUCKET_MS = 20,   /* resolution of "time to zero loss" */
    BUCKETS = 1 << 13,
    LATENCY_MAX_US = 1 << 20,
    OVERLOAD_SEGMENTS = 8,     /* packets a send in an overload */
    RECEIVE_BUFFER = 16 << 20, /* bytes */
    LINE_BYTES = 400,          /* of one call */
    ICE_ROUNDS = 100,          /* of 100 ms, until every relay has answered */
    CONSENT_MS = 5000,         /* RFC 7675 5.1 */
};

struct stamp {        /* after the RTP header */
    uint64_t sent_ns; /* CLOCK_REALTIME, as SO_TIMESTAMPNS */
    uint32_t bucket;  /* of the time of sending; UINT32_MAX: not measured */
    uint32_t call;
    uint32_t side; /* of the sender */
};

struct end {
    struct sockaddr_in relay; /* where it sends to and hears from */
    uint16_t seq;
    uint32_t ssrc;
    struct ice_peer ice;
    struct kg_srtp *srtp; /* NULL: plain RTP */
};

static int fds[2];
static struct end ends[2][CALLS_MAX];
static unsigned calls;
static bool ice, secure;
static unsigned ptime = PTIME_MS; /* of the moment */
static const char *ramp;
static unsigned call_of[2][65536];          /* by the relay's port */
static uint32_t latency_us[LATENCY_MAX_US]; /* histogram */
static uint32_t sent_in[BUCKETS], got_in[BUCKETS];
static uint64_t sent, received, strangers, refused, overload_sent, send_errors;

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

static uint32_t bucket_of(uint64_t now_ns, uint64_t origin_ns)
{
    return (uint32_t)((now_ns - origin_ns) / (BUCKET_MS * 1000000U));
}

static struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
        die(host);
    return at;
}

static int open_side(const char *ns, const char *host, const char *port)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", ns);
    int netns = open(path, O_RDONLY);
    if (netns < 0 || setns(netns, CLONE_NEWNET))
        die(path);
    close(netns);
    struct sockaddr_in at = address(host, port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, size = RECEIVE_BUFFER;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
        die("socket");
    return fd;
}

/* Room for a packet with its tag. Returns its length. */
static size_t write_packet(unsigned side, unsigned call, uint32_t bucket, uint8_t *packet)
{
    struct end *end = &ends[side][call];
    uint16_t seq = htons(end->seq++);
    uint32_t ts = htonl((uint32_t)end->seq * 160U), ssrc = htonl(end->ssrc);
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &seq, 2);
    memcpy(packet + 4, &ts, 4);
    memcpy(packet + 8, &ssrc, 4);
    struct stamp stamp = {clock_ns(CLOCK_REALTIME), bucket, call, side};
    memcpy(packet + 12, &stamp, sizeof stamp);
    size_t len = PACKET;
    if (end->srtp && kg_srtp_protect(end->srtp, packet, &len, PACKET_ROOM) != KG_SRTP_OK)
        send_errors++;
    return len;
}

/* One packet of each call `first`, `first + ptime`, ... of one side. */
static void send_slot(unsigned side, unsigned first, uint32_t bucket)
{
    static _Alignas(4) uint8_t packet[BATCH][PACKET_ROOM];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH];
    for (unsigned call = first; call < calls;) {
        unsigned n = 0;
        for (; n < BATCH && call < calls; n++, call += ptime) {
            iov[n] = (struct iovec){packet[n], write_packet(side, call, bucket, packet[n])};
            msg[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[n],
                                                  .msg_iovlen = 1,
                                                  .msg_name = &ends[side][call].relay,
                                                  .msg_namelen = sizeof ends[side][call].relay}};
        }
        for (unsigned done = 0; done < n;) {
            int r = sendmmsg(fds[side], msg + done, n - done, 0);
            if (r < 0)
                send_errors++;
            done += r > 0 ? (unsigned)r : 1;
            if (r > 0 && bucket != UINT32_MAX) {
                sent += (unsigned)r;
                sent_in[bucket % BUCKETS] += (unsigned)r;
            }
        }
    }
}

static void take_stun(unsigned side, const struct sockaddr_in *from, const uint8_t *packet, unsigned len)
{
    struct kg_stun_message message;
    if (kg_stun_parse(packet, len, &message) != KG_STUN_OK)
        return;
    struct end *end = &ends[side][call_of[side][ntohs(from->sin_port)]];
    if (message.class == KG_STUN_REQUEST) {
        uint8_t out[256];
        size_t size = ice_answer(side, &message, from, out, sizeof out);
        if (sendto(fds[side], out, size, 0, (const struct sockaddr *)from, sizeof *from) < 0)
            send_errors++;
    } else if (message.class == KG_STUN_SUCCESS && end->relay.sin_port == from->sin_port) {
        end->ice.answered = true;
    }
}

static void count(unsigned side, const struct sockaddr_in *from, uint8_t *packet, unsigned size,
                  uint64_t at_ns)
{
    struct stamp stamp;
    size_t len = size;
    if (ice && len && packet[0] < 4) {
        take_stun(side, from, packet, size);
        return;
    }
    struct kg_srtp *srtp = ends[side][call_of[side][ntohs(from->sin_port)]].srtp;
    if (srtp && kg_srtp_unprotect(srtp, packet, &len, 0) != KG_SRTP_OK) {
        refused++;
        return;
    }
    if (len < 12 + sizeof stamp) {
        strangers++;
        return;
    }
    memcpy(&stamp, packet + 12, sizeof stamp);
    if (stamp.call >= calls || stamp.side == side ||
        from->sin_port != ends[side][stamp.call].relay.sin_port) {
        strangers++; /* not what the other end of this call sent */
        return;
    }
    if (stamp.bucket == UINT32_MAX)
        return;
    received++;
    got_in[stamp.bucket % BUCKETS]++;
    uint64_t us = at_ns > stamp.sent_ns ? (at_ns - stamp.sent_ns) / 1000 : 0;
    latency_us[us < LATENCY_MAX_US ? us : LATENCY_MAX_US - 1]++;
}

/* Up to one batch; returns how many came. */
static int receive(unsigned side)
{
    static uint8_t packet[BATCH][512], control[BATCH][64];
    static struct sockaddr_in from[BATCH];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){packet[i], sizeof packet[i]};
        msg[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i],
                                              .msg_iovlen = 1,
                                              .msg_name = &from[i],
                                              .msg_namelen = sizeof from[i],
                                              .msg_control = control[i],
                                              .msg_controllen = sizeof control[i]}};
    }
    int got = recvmmsg(fds[side], msg, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) {
        struct timespec at = {0};
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg[i].msg_hdr); c; c = CMSG_NXTHDR(&msg[i].msg_hdr, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS)
                memcpy(&at, CMSG_DATA(c), sizeof at);
        count(side, &from[i], packet[i], msg[i].msg_len,
              (uint64_t)at.tv_sec * 1000000000U + (uint64_t)at.tv_nsec);
    }
    return got;
}

/* Sleeps until `until_ns` (monotonic) and reads what has come: once a millisecond is enough, as arrival times
 * are the kernel's, and the relay's core is not disturbed by a wake-up of ours for each packet. */
static void receive_until(uint64_t until_ns)
{
    for (unsigned side = 0; side < 2; side++)
        while (receive(side) == BATCH)
            ;
    struct timespec at = {.tv_sec = (time_t)(until_ns / 1000000000U),
                          .tv_nsec = (long)(until_ns % 1000000000U)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void send_check(unsigned side, unsigned call)
{
    uint8_t out[256];
    size_t size = ice_check(side, &ends[side][call].ice, out, sizeof out);
    if (sendto(fds[side], out, size, 0, (struct sockaddr *)&ends[side][call].relay,
               sizeof ends[side][call].relay) < 0)
        send_errors++;
}

static struct kg_srtp *srtp_of(const char *suite, const char *text)
{
    struct kg_srtp_keys send = {.suite = (uint8_t)kg_srtp_suite_of(suite, strlen(suite)), .count = 1},
                        receive = send;
    uint8_t bytes[72];
    size_t len = strlen(text);
    struct kg_srtp *srtp = kg_srtp_new();
    if (len > 64 || EVP_DecodeBlock(bytes, (const uint8_t *)text, (int)len) < KG_SRTP_KEY_MAX - 18)
        die("key");
    memcpy(receive.key[0].bytes, bytes, KG_SRTP_KEY_MAX);
    if (!srtp || kg_srtp_set_send(srtp, &send, 0) || kg_srtp_set_receive(srtp, &receive, 0))
        die("SRTP");
    return srtp;
}

static void add_call(const char *line)
{
    char host[2][64], port[2][8], suite[64], key[128];
    struct ice_peer peer[2] = {0};
    int words = ice ? sscanf(line, "%63s %7s %63s %63s %63s %7s %63s %63s", host[0], port[0], peer[0].ufrag,
                             peer[0].pwd, host[1], port[1], peer[1].ufrag, peer[1].pwd)
                : secure ? sscanf(line, "%63s %7s %63s %127s %63s %7s", host[0], port[0], suite, key, host[1],
                                  port[1])
                         : sscanf(line, "%63s %7s %63s %7s", host[0], port[0], host[1], port[1]);
    if (words != (ice ? 8 : secure ? 6 : 4) || calls == CALLS_MAX)
        return;
    for (unsigned side = 0; side < 2; side++) {
        ends[side][calls] = (struct end){.relay = address(host[side], port[side]),
                                         .ssrc = 0x10000000U * (side + 1) + calls,
                                         .ice = peer[side],
                                         .srtp = secure && side == 0 ? srtp_of(suite, key) : NULL};
        call_of[side][ntohs(ends[side][calls].relay.sin_port)] = calls;
    }
    calls++;
}

/* Answers checks until the list of calls has come. */
static void read_calls(void)
{
    static char buf[CALLS_MAX * LINE_BYTES];
    size_t have = 0;
    for (;;) {
        struct pollfd in[3] = {{0, POLLIN, 0}, {fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
        if (poll(in, 3, -1) < 0)
            die("poll");
        for (unsigned side = 0; side < 2; side++)
            if (in[side + 1].revents)
                receive(side);
        if (!in[0].revents)
            continue;
        ssize_t got = read(0, buf + have, sizeof buf - 1 - have);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    for (char *next = buf, *line; (line = strsep(&next, "\n"));)
        add_call(line);
}

/* Asks every relay until it has answered. Returns how many have not. */
static unsigned establish(void)
{
    unsigned silent = 0;
    for (unsigned round = 0; round < ICE_ROUNDS; round++) {
        silent = 0;
        for (unsigned call = 0; call < calls; call++)
            for (unsigned side = 0; side < 2; side++)
                if (!ends[side][call].ice.answered) {
                    send_check(side, call);
                    silent++;
                }
        if (!silent)
            break;
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        for (unsigned ms = 1; ms <= 100; ms++)
            receive_until(now + ms * 1000000ULL);
    }
    return silent;
}

/* The usual pace: every end sends once in 20 ms, spread evenly over the milliseconds. */
static void paced(uint64_t origin_ns, double seconds, bool measured)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC), end = start + (uint64_t)(seconds * 1e9), step = 0;
    while (start + step * 1000000U < end) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        for (; start + step * 1000000U <= now && start + step * 1000000U < end; step++)
            for (unsigned side = 0; side < 2; side++) {
                send_slot(side, (unsigned)(step % ptime), measured ? bucket_of(now, origin_ns) : UINT32_MAX);
                for (unsigned call = (unsigned)(step % CONSENT_MS); ice && call < calls; call += CONSENT_MS)
                    send_check(side, call);
            }
        receive_until(start + step * 1000000U);
    }
}

/* As fast as one thread can send, eight packets a call (UDP_SEGMENT); what arrives meanwhile is lost in our
 * buffers. */
static void overload(double seconds)
{
    static _Alignas(4) uint8_t packets[OVERLOAD_SEGMENTS * PACKET_ROOM], packet[PACKET_ROOM];
    int segment;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
    for (unsigned side = 0; side < 2; side++) {
        segment = (int)write_packet(side, 0, UINT32_MAX, packet);
        if (setsockopt(fds[side], IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))
            die("UDP_SEGMENT");
    }
    for (unsigned i = 0; clock_ns(CLOCK_MONOTONIC) < end; i++) {
        unsigned side = i & 1, call = i / 2 % calls;
        size_t len = 0;
        for (unsigned k = 0; k < OVERLOAD_SEGMENTS; k++) {
            size_t size = write_packet(side, call, UINT32_MAX, packet);
            memcpy(packets + len, packet, size);
            len += size;
        }
        if (sendto(fds[side], packets, len, 0, (struct sockaddr *)&ends[side][call].relay,
                   sizeof ends[side][call].relay) < 0)
            send_errors++;
        else
            overload_sent += OVERLOAD_SEGMENTS;
    }
    segment = 0;
    for (unsigned side = 0; side < 2; side++)
        setsockopt(fds[side], IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
}

static void drain(unsigned ms)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (unsigned i = 1; i <= ms; i++)
        receive_until(start + i * 1000000ULL);
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

/* Faster and faster, until a thousandth is lost. */
static void run_ramp(uint64_t origin, double seconds)
{
    for (const char *step = ramp; step; step = strchr(step, ',') ? strchr(step, ',') + 1 : NULL) {
        ptime = (unsigned)strtoul(step, NULL, 10);
        if (ptime == 0)
            return;
        sent = received = 0;
        memset(latency_us, 0, sizeof latency_us);
        uint64_t start = clock_ns(CLOCK_MONOTONIC);
        paced(origin, seconds, true);
        double took = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
        drain(DRAIN_MS);
        uint64_t lost = sent > received ? sent - received : 0;
        printf("{\"ptime\": %u, \"rate\": %.0f, \"sent\": %llu, \"lost\": %llu, \"p99_us\": %u}\n", ptime,
               (double)sent / took, (unsigned long long)sent, (unsigned long long)lost, percentile(0.99));
        fflush(stdout);
        if (lost * 1000 > sent)
            return;
    }
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "isr:")) != -1;) {
        ice |= option == 'i';
        secure |= option == 's';
        if (option == 'r')
            ramp = optarg;
    }
    argv += optind - 1;
    argc -= optind - 1;
    if (argc < 8) {
        fprintf(stderr,
                "usage: rtpload [-i] [-s] [-r MS,MS,...] NS_A ADDR_A PORT_A NS_B ADDR_B PORT_B SECONDS "
                "[OVERLOAD AFTER] < calls\n");
        return 2;
    }
    if (secure && kg_srtp_init() != 0)
        return 1;
    fds[0] = open_side(argv[1], argv[2], argv[3]);
    fds[1] = open_side(argv[4], argv[5], argv[6]);
    read_calls();
    unsigned silent = ice ? establish() : 0;
    if (silent) {
        fprintf(stderr, "rtpload: %u of %u ends got no answer to their checks\n", silent, calls * 2);
        return 1;
    }
    uint64_t origin = clock_ns(CLOCK_MONOTONIC);
    paced(origin, WARMUP_MS / 1000.0, false);
    if (ramp) {
        run_ramp(origin, strtod(argv[7], NULL));
        return 0;
    }
    puts("measuring"); /* whoever samples the relay's CPU starts now ... */
    fflush(stdout);
    paced(origin, strtod(argv[7], NULL), true);
    puts("measured"); /* ... and stops here */
    fflush(stdout);
    drain(DRAIN_MS);
    uint64_t steady_sent = sent, steady_lost = sent > received ? sent - received : 0;
    unsigned p50 = percentile(0.50), p99 = percentile(0.99), recovered = 0;
    uint64_t after_sent = 0, after_lost = 0;
    if (argc > 9) {
        uint64_t before = received;
        overload(strtod(argv[8], NULL));
        uint32_t from = bucket_of(clock_ns(CLOCK_MONOTONIC), origin);
        for (unsigned side = 0; side < 2; side++) /* what the overload left in our own buffers */
            for (unsigned i = 0; i < RECEIVE_BUFFER / (BATCH * 512U) && receive(side) == BATCH; i++)
                ;
        paced(origin, strtod(argv[9], NULL), true);
        uint32_t to = bucket_of(clock_ns(CLOCK_MONOTONIC), origin);
        drain(DRAIN_MS);
        after_sent = sent - steady_sent;
        after_lost = after_sent - (received - before);
        recovered = recovery_ms(from, to + 1);
    }
    printf("{\"calls\": %u, \"sent\": %llu, \"lost\": %llu, \"p50_us\": %u, \"p99_us\": %u, \"strangers\": "
           "%llu, \"refused\": %llu, "
           "\"send_errors\": %llu, \"overload_sent\": %llu, \"after_sent\": %llu, \"after_lost\": %llu, "
           "\"recovery_ms\": %u}\n",
           calls, (unsigned long long)steady_sent, (unsigned long long)steady_lost, p50, p99,
           (unsigned long long)strangers, (unsigned long long)refused, (unsigned long long)send_errors,
           (unsigned long long)overload_sent, (unsigned long long)after_sent, (unsigned long long)after_lost,
           recovered);
    return 0;
}
