/* dtlsload: DTLS-SRTP handshakes with many calls of a relay, a number of them at once, and how long they
 * take. It is the client of each; all share one socket.
 *
 * usage: dtlsload NS ADDR PORT AT_ONCE  < calls
 * Prints its certificate's fingerprint, then reads one line a call: RELAY_HOST RELAY_PORT FINGERPRINT
 * (SHA-256, as in SDP), makes all handshakes, "measuring" before and "measured" after, and prints one JSON
 * object. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "media/dtls.h"

enum { CALLS_MAX = 10000, PATIENCE_MS = 10000, BUFFER = 8 << 20 };

struct call {
    struct sockaddr_in relay;
    struct kg_fingerprint fingerprint;
    struct kg_dtls *dtls; /* NULL: not begun, or over */
    double began_ms;
};

static struct call call[CALLS_MAX];
static unsigned calls, begun, running, done, failed;
static unsigned call_of[65536]; /* by the relay's port, + 1 */
static double took_ms[CALLS_MAX];
static int fd;
static struct kg_dtls_identity *identity;

static void die(const char *what)
{
    fprintf(stderr, "dtlsload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void open_socket(const char *ns, const char *host, const char *port)
{
    char path[256];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    int size = BUFFER;
    snprintf(path, sizeof path, "/run/netns/%s", ns);
    int netns = open(path, O_RDONLY);
    if (netns < 0 || setns(netns, CLONE_NEWNET))
        die(path);
    close(netns);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        die("socket");
}

static void add_call(const char *line)
{
    char host[64], port[8], digest[3 * 32];
    struct call *new = &call[calls];
    if (calls == CALLS_MAX || sscanf(line, "%63s %7s %95s", host, port, digest) != 3)
        return;
    new->relay =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    new->fingerprint = (struct kg_fingerprint){.hash = KG_FINGERPRINT_SHA256, .len = 32};
    for (unsigned i = 0; i < 32; i++)
        new->fingerprint.bytes[i] = (uint8_t)strtoul(digest + 3 * i, NULL, 16);
    if (inet_pton(AF_INET, host, &new->relay.sin_addr) != 1)
        die(host);
    call_of[ntohs(new->relay.sin_port)] = ++calls;
}

/* Sends what is due; what is over is counted and freed. */
static void serve(struct call *one)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    while (kg_dtls_poll(one->dtls, (int64_t)now_ms(), out, &len))
        if (sendto(fd, out, len, 0, (struct sockaddr *)&one->relay, sizeof one->relay) < 0 && errno != EAGAIN)
            die("send");
    enum kg_dtls_state state = kg_dtls_state(one->dtls);
    bool late = now_ms() - one->began_ms > PATIENCE_MS;
    if (state == KG_DTLS_ESTABLISHED)
        took_ms[done++] = now_ms() - one->began_ms;
    else if (state == KG_DTLS_FAILED || late)
        failed++;
    else
        return;
    if (state != KG_DTLS_ESTABLISHED && failed == 1)
        fprintf(stderr, "dtlsload: %s\n", late ? "no answer" : kg_dtls_reason(one->dtls));
    kg_dtls_free(one->dtls);
    one->dtls = NULL;
    running--;
}

static void begin(struct call *one)
{
    one->dtls = kg_dtls_new(&(struct kg_dtls_settings){.identity = identity, .active = true});
    if (!one->dtls)
        die("DTLS");
    one->began_ms = now_ms();
    running++;
    kg_dtls_expect(one->dtls, &one->fingerprint, 1);
    kg_dtls_start(one->dtls, (int64_t)now_ms());
    serve(one);
}

static void receive(void)
{
    uint8_t data[2048];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    for (ssize_t len; (len = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &from_len)) > 0;) {
        unsigned which = call_of[ntohs(from.sin_port)];
        if (which == 0 || !call[which - 1].dtls || data[0] < 20 || data[0] > 63)
            continue;
        kg_dtls_receive(call[which - 1].dtls, data, (size_t)len, &from, sizeof from, (int64_t)now_ms());
        serve(&call[which - 1]);
    }
}

static void run(unsigned at_once)
{
    double checked = now_ms();
    while (begun < calls || running) {
        while (begun < calls && running < at_once)
            begin(&call[begun++]);
        poll(&(struct pollfd){fd, POLLIN, 0}, 1, 20);
        receive();
        for (unsigned i = 0; now_ms() - checked > 50 && i < begun; i++)
            if (call[i].dtls)
                serve(&call[i]);
        if (now_ms() - checked > 50)
            checked = now_ms();
    }
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    char line[512];
    if (argc < 5) {
        fprintf(stderr, "usage: dtlsload NS ADDR PORT AT_ONCE < calls\n");
        return 2;
    }
    open_socket(argv[1], argv[2], argv[3]);
    identity = kg_dtls_identity_new();
    if (!identity)
        die("certificate");
    const struct kg_fingerprint *ours = kg_dtls_identity_fingerprint(identity);
    for (unsigned i = 0; i < ours->len; i++)
        printf("%02X%s", ours->bytes[i], i + 1 < ours->len ? ":" : "\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        add_call(line);
    puts("measuring");
    fflush(stdout);
    double start = now_ms();
    run((unsigned)strtoul(argv[4], NULL, 10));
    double seconds = (now_ms() - start) / 1e3;
    puts("measured");
    qsort(took_ms, done, sizeof *took_ms, by_time);
    printf(
        "{\"calls\": %u, \"done\": %u, \"failed\": %u, \"rate\": %.0f, \"p50_ms\": %.1f, \"p99_ms\": %.1f}\n",
        calls, done, failed, done / seconds, done ? took_ms[done / 2] : 0,
        done ? took_ms[done * 99 / 100] : 0);
    kg_dtls_identity_unref(identity);
    return 0;
}
