/* Which way of moving packets is the cheapest in the engine's situation: 4 sockets a call (RTP and RTCP of
 * two sides), 50 packets/s each way on the RTP ones, so that a socket seldom has two packets waiting. Prints
 * CPU-microseconds of the relaying thread per packet. A second thread plays all phones.
 *
 *   bench_io [calls ...]      default 100 500 1000; 3 s for each way and number of calls
 *
 * Figures and what follows from them: media/README.md. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PACKET = 172, SECONDS = 3, INTERVAL_MS = 20, EVENTS = 256, BATCH = 8, PORT = 10000, SINK = 9998 };
enum { RING_ENTRIES = 4096, RING_BUFFERS = 2048, RING_BUFFER_SIZE = 512 };

/* One RTP or RTCP socket of the relay. */
struct flow {
    int fd;
    struct flow *out; /* sends what this one receives */
    struct event *event;
};

static struct flow *flows;
static unsigned flow_count;
static struct sockaddr_in sink_addr;
static _Atomic bool done;
static _Atomic unsigned long received; /* by the phones */
static unsigned long relayed;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in address(unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int64_t now_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- the phones ---- */

static int sink_fd;

static void drain_sink(void)
{
    static uint8_t buffer[64][PACKET];
    static struct mmsghdr msg[64];
    static struct iovec vec[64];
    int count;
    do {
        for (int i = 0; i < 64; i++) {
            vec[i] = (struct iovec){buffer[i], PACKET};
            msg[i].msg_hdr = (struct msghdr){.msg_iov = &vec[i], .msg_iovlen = 1};
        }
        count = recvmmsg(sink_fd, msg, 64, MSG_DONTWAIT, NULL);
        if (count > 0)
            atomic_fetch_add(&received, (unsigned long)count);
    } while (count == 64);
}

/* Every millisecond a twentieth of the RTP sockets get their packet. */
static void *play_phones(void *arg)
{
    (void)arg;
    uint8_t packet[PACKET] = {0x80};
    struct iovec vec = {packet, sizeof packet};
    unsigned rtp_count = flow_count / 2, next = 0;
    struct sockaddr_in *to = calloc(rtp_count, sizeof *to);
    struct mmsghdr *msg = calloc(rtp_count, sizeof *msg);
    if (to == NULL || msg == NULL)
        die("calloc");
    for (unsigned i = 0; i < rtp_count; i++) {
        to[i] = address(PORT + 2 * i);
        msg[i].msg_hdr = (struct msghdr){
            .msg_iov = &vec, .msg_iovlen = 1, .msg_name = &to[i], .msg_namelen = sizeof to[i]};
    }
    int64_t start = now_us(CLOCK_MONOTONIC), sent_ms = 0;
    while (!atomic_load(&done)) {
        int64_t due_ms = (now_us(CLOCK_MONOTONIC) - start) / 1000;
        for (; sent_ms < due_ms; sent_ms++) {
            unsigned count = rtp_count / INTERVAL_MS;
            if (next + count > rtp_count)
                next = 0;
            sendmmsg(sink_fd, msg + next, count, MSG_DONTWAIT);
            next += count;
            drain_sink();
        }
        struct timespec nap = {0, 1000000 - now_us(CLOCK_MONOTONIC) % 1000 * 1000};
        nanosleep(&nap, NULL);
    }
    free(to);
    free(msg);
    return NULL;
}

/* ---- the ways ---- */

static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec vec_in[BATCH], vec_out[BATCH];
static struct sockaddr_in from[BATCH];
static uint8_t packet[BATCH][2048], control[BATCH][32];

static void prepare(bool connected)
{
    for (int i = 0; i < BATCH; i++) {
        vec_in[i] = (struct iovec){packet[i], sizeof packet[i]};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &vec_in[i],
                                        .msg_iovlen = 1,
                                        .msg_name = &from[i],
                                        .msg_namelen = sizeof from[i],
                                        .msg_control = control[i],
                                        .msg_controllen = sizeof control[i]};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &vec_out[i], .msg_iovlen = 1};
        if (!connected) {
            out[i].msg_hdr.msg_name = &sink_addr;
            out[i].msg_hdr.msg_namelen = sizeof sink_addr;
        }
    }
}

static bool one(struct flow *flow)
{
    in[0].msg_hdr.msg_namelen = sizeof from[0];
    in[0].msg_hdr.msg_controllen = sizeof control[0];
    ssize_t len = recvmsg(flow->fd, &in[0].msg_hdr, MSG_DONTWAIT);
    if (len < 0)
        return false;
    sendto(flow->out->fd, packet[0], (size_t)len, MSG_DONTWAIT, out[0].msg_hdr.msg_name,
           out[0].msg_hdr.msg_namelen);
    relayed++;
    return true;
}

static void relay_one(struct flow *flow)
{
    one(flow);
}

static void relay_until_empty(struct flow *flow)
{
    while (one(flow))
        ;
}

static void relay_batch(struct flow *flow)
{
    int count = recvmmsg(flow->fd, in, BATCH, MSG_DONTWAIT, NULL);
    if (count <= 0)
        return;
    for (int i = 0; i < count; i++) {
        vec_out[i] = (struct iovec){packet[i], in[i].msg_len};
        in[i].msg_hdr.msg_namelen = sizeof from[i];
        in[i].msg_hdr.msg_controllen = sizeof control[i];
    }
    relayed += (unsigned long)count;
    if (count == 1)
        sendto(flow->out->fd, packet[0], vec_out[0].iov_len, MSG_DONTWAIT, out[0].msg_hdr.msg_name,
               out[0].msg_hdr.msg_namelen);
    else
        sendmmsg(flow->out->fd, out, (unsigned)count, MSG_DONTWAIT);
}

static void by_epoll(void (*relay)(struct flow *), unsigned nap_us)
{
    int set = epoll_create1(0);
    for (unsigned i = 0; i < flow_count; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &flows[i]};
        if (epoll_ctl(set, EPOLL_CTL_ADD, flows[i].fd, &e) != 0)
            die("epoll_ctl");
    }
    struct epoll_event event[EVENTS];
    while (!atomic_load(&done)) {
        int count = epoll_wait(set, event, EVENTS, 100);
        for (int i = 0; i < count; i++)
            relay(event[i].data.ptr);
        if (nap_us && count < EVENTS)
            nanosleep(&(struct timespec){0, (long)nap_us * 1000}, NULL);
    }
    close(set);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    relay_batch(arg);
}

static void by_libevent(void)
{
    struct event_base *base = event_base_new();
    for (unsigned i = 0; i < flow_count; i++) {
        flows[i].event = event_new(base, flows[i].fd, EV_READ | EV_PERSIST, on_event, &flows[i]);
        event_add(flows[i].event, NULL);
    }
    while (!atomic_load(&done)) {
        struct timeval limit = {0, 100000};
        event_base_loopexit(base, &limit);
        event_base_dispatch(base);
    }
    for (unsigned i = 0; i < flow_count; i++)
        event_free(flows[i].event);
    event_base_free(base);
}

/* io_uring: one multishot recvmsg a socket into shared buffers, sends queued and submitted together with the
 * wait. */
static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static uint8_t *buffer_memory;
static struct msghdr shape = {.msg_namelen = sizeof(struct sockaddr_in), .msg_controllen = 32};
static struct {
    struct msghdr msg;
    struct iovec vec;
} sending[RING_BUFFERS];

static uint8_t *ring_buffer(unsigned id)
{
    return buffer_memory + (size_t)id * RING_BUFFER_SIZE;
}

static void give_back(unsigned id)
{
    io_uring_buf_ring_add(buffers, ring_buffer(id), RING_BUFFER_SIZE, (unsigned short)id,
                          io_uring_buf_ring_mask(RING_BUFFERS), 0);
    io_uring_buf_ring_advance(buffers, 1);
}

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe == NULL) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void arm(unsigned index)
{
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_recvmsg_multishot(sqe, flows[index].fd, &shape, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, index);
}

#define IS_SEND (1ull << 32)

static void on_completion(const struct io_uring_cqe *cqe, bool connected)
{
    uint64_t data = cqe->user_data;
    if (data & IS_SEND) {
        give_back((unsigned)(data & 0xffffffff));
        return;
    }
    unsigned index = (unsigned)data;
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm(index);
    if (cqe->res < 0 || !(cqe->flags & IORING_CQE_F_BUFFER))
        return;
    unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    struct io_uring_recvmsg_out *o = io_uring_recvmsg_validate(ring_buffer(id), cqe->res, &shape);
    if (o == NULL) {
        give_back(id);
        return;
    }
    sending[id].vec.iov_base = io_uring_recvmsg_payload(o, &shape);
    sending[id].vec.iov_len = io_uring_recvmsg_payload_length(o, cqe->res, &shape);
    sending[id].msg = (struct msghdr){.msg_iov = &sending[id].vec,
                                      .msg_iovlen = 1,
                                      .msg_name = connected ? NULL : &sink_addr,
                                      .msg_namelen = connected ? 0 : sizeof sink_addr};
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_sendmsg(sqe, flows[index].out->fd, &sending[id].msg, 0);
    io_uring_sqe_set_data64(sqe, IS_SEND | id);
    relayed++;
}

static int by_io_uring(bool connected)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN,
                                     .cq_entries = 4 * RING_ENTRIES};
    if (io_uring_queue_init_params(RING_ENTRIES, &ring, &params) != 0)
        return -1;
    size_t size = RING_BUFFERS * sizeof(struct io_uring_buf);
    buffers = aligned_alloc(4096, size);
    buffer_memory = malloc((size_t)RING_BUFFERS * RING_BUFFER_SIZE);
    if (buffers == NULL || buffer_memory == NULL)
        die("malloc");
    memset(buffers, 0, size);
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)buffers, .ring_entries = RING_BUFFERS};
    if (io_uring_register_buf_ring(&ring, &reg, 0) != 0)
        return -1;
    io_uring_buf_ring_init(buffers);
    for (unsigned i = 0; i < RING_BUFFERS; i++)
        give_back(i);
    for (unsigned i = 0; i < flow_count; i++)
        arm(i);
    while (!atomic_load(&done)) {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec limit = {.tv_nsec = 100000000};
        io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &limit, NULL);
        unsigned head, count = 0;
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            on_completion(cqe, connected);
            count++;
        }
        io_uring_cq_advance(&ring, count);
    }
    io_uring_queue_exit(&ring);
    free(buffers);
    free(buffer_memory);
    return 0;
}

/* ---- measuring ---- */

enum way {
    LIBEVENT_BATCH,
    EPOLL_ONE,
    EPOLL_UNTIL_EMPTY,
    EPOLL_BATCH,
    EPOLL_BATCH_CONNECTED,
    EPOLL_ONE_NAP,
    EPOLL_BATCH_NAP,
    EPOLL_BATCH_CONNECTED_NAP,
    IO_URING,
    IO_URING_CONNECTED,
    WAYS
};
static const struct {
    const char *name;
    bool connected;
} way_info[WAYS] = {
    [LIBEVENT_BATCH] = {"libevent, recvmmsg/sendmmsg", false},
    [EPOLL_ONE] = {"epoll, one recvmsg + sendto", false},
    [EPOLL_UNTIL_EMPTY] = {"epoll, recvmsg until empty + sendto", false},
    [EPOLL_BATCH] = {"epoll, recvmmsg/sendmmsg", false},
    [EPOLL_BATCH_CONNECTED] = {"epoll, recvmmsg/sendmmsg, connected", true},
    [EPOLL_ONE_NAP] = {"epoll, one recvmsg + sendto, 0.5 ms naps", false},
    [EPOLL_BATCH_NAP] = {"epoll, recvmmsg/sendmmsg, 0.5 ms naps", false},
    [EPOLL_BATCH_CONNECTED_NAP] = {"epoll, recvmmsg/sendmmsg, connected, naps", true},
    [IO_URING] = {"io_uring, multishot", false},
    [IO_URING_CONNECTED] = {"io_uring, multishot, connected", true},
};

static int go(enum way way)
{
    switch (way) {
    case LIBEVENT_BATCH:
        by_libevent();
        return 0;
    case EPOLL_ONE:
        by_epoll(relay_one, 0);
        return 0;
    case EPOLL_ONE_NAP:
        by_epoll(relay_one, 500);
        return 0;
    case EPOLL_UNTIL_EMPTY:
        by_epoll(relay_until_empty, 0);
        return 0;
    case EPOLL_BATCH:
    case EPOLL_BATCH_CONNECTED:
        by_epoll(relay_batch, 0);
        return 0;
    case EPOLL_BATCH_NAP:
    case EPOLL_BATCH_CONNECTED_NAP:
        by_epoll(relay_batch, 500);
        return 0;
    default:
        return by_io_uring(way == IO_URING_CONNECTED);
    }
}

static void *stop_later(void *arg)
{
    (void)arg;
    sleep(SECONDS);
    atomic_store(&done, true);
    return NULL;
}

static int open_socket(unsigned port, int buffer)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in at = address(port);
    for (int tries = 0; fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0; tries++) {
        if (fd < 0 || errno != EADDRINUSE ||
            tries == 200) /* a closed ring lets its sockets go a little later */
            die("bind");
        usleep(10000);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    return fd;
}

static void measure(enum way way, unsigned calls)
{
    flow_count = 4 * calls;
    flows = calloc(flow_count, sizeof *flows);
    if (flows == NULL)
        die("calloc");
    sink_fd = open_socket(SINK, 4 << 20);
    sink_addr = address(SINK);
    for (unsigned i = 0; i < flow_count; i++) {
        flows[i].fd = open_socket(PORT + i, 32768);
        flows[i].out = &flows[i ^ 2]; /* RTP A, RTCP A, RTP B, RTCP B */
        if (way_info[way].connected &&
            connect(flows[i].fd, (struct sockaddr *)&sink_addr, sizeof sink_addr) != 0)
            die("connect");
    }
    prepare(way_info[way].connected);
    atomic_store(&done, false);
    atomic_store(&received, 0);
    relayed = 0;
    pthread_t phones, timer;
    pthread_create(&timer, NULL, stop_later, NULL);
    pthread_create(&phones, NULL, play_phones, NULL);
    int64_t cpu = now_us(CLOCK_THREAD_CPUTIME_ID);
    int failed = go(way);
    cpu = now_us(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(timer, NULL);
    pthread_join(phones, NULL);
    if (failed)
        printf("%5u calls  %-42s  not possible here\n", calls, way_info[way].name);
    else
        printf("%5u calls  %-42s  %5.2f us/packet  %7lu packets/s\n", calls, way_info[way].name,
               relayed ? (double)cpu / (double)relayed : 0, relayed / SECONDS);
    fflush(stdout);
    for (unsigned i = 0; i < flow_count; i++)
        close(flows[i].fd);
    close(sink_fd);
    free(flows);
}

int main(int argc, char **argv)
{
    static const unsigned usual[] = {100, 500, 1000};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (int i = 0; i < (argc > 1 ? argc - 1 : 3); i++) {
        unsigned calls = argc > 1 ? (unsigned)strtoul(argv[i + 1], NULL, 10) : usual[i];
        if (calls == 0 || calls > 5000) {
            fprintf(stderr, "usage: bench_io [calls ...], 1 to 5000 each\n");
            return 2;
        }
        for (int way = 0; way < WAYS; way++)
            measure((enum way)way, calls);
    }
    return 0;
}
