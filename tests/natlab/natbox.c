/* A NAT in a box: one process, one TUN device outside, one for each inside host, straight in the hosts'
 * network namespaces. `natbox` without arguments lists its settings. It speaks on its standard input and
 * output, a line each:
 *
 *   stats            one line of JSON: counters of the box and of every flow
 *   set NAME=VALUE   changes a setting
 *   flush            forgets every mapping, as a NAT that restarts does
 *   advance SECONDS  moves the clock of mappings and filters ahead, so that tests need not wait for a timeout
 *
 * Other answers are "ok" or "error: ...". It ends when its input ends, so it never outlives the test that
 * started it. */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "queue.h"
#include "settings.h"

#define PORTS_MAX     16 /* devices, the outside one included */
#define ADDRESSES_MAX 8  /* of one inside host */
#define BURST         64 /* packets read from one device before the others get their turn */
#define PACKET_MAX    65536

struct port {
    int fd;
    size_t addresses; /* 0: everything not found elsewhere is here */
    struct endpoint address[ADDRESSES_MAX];
};

struct box {
    struct settings settings;
    struct nat *nat;
    struct queue queue;
    struct port port[PORTS_MAX]; /* [0] is outside */
    size_t ports;
    int64_t ahead_us; /* how far "advance" moved the NAT's clock */
    uint64_t line_lost, line_full, switched;
    uint64_t lost_once[1 << 18]; /* hashes of what was lost; a place may be overwritten by another one's */
    struct {
        uint32_t flow;
        int64_t due[2];
    } last[NAT_FLOWS]; /* jitter keeps the order within a flow */
    FILE *log;
    char input[512];
    size_t input_len;
};

static int64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "natbox: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static const char *endpoint_text(const struct endpoint *e, char buf[static 64])
{
    char ip[INET6_ADDRSTRLEN];
    inet_ntop(e->v6 ? AF_INET6 : AF_INET, e->ip, ip, sizeof ip);
    snprintf(buf, 64, e->v6 ? "[%s]:%u" : "%s:%u", ip, e->port);
    return buf;
}
static const char *proto_text(uint8_t proto)
{
    return proto == PROTO_UDP ? "udp" : proto == PROTO_TCP ? "tcp" : "icmp";
}

/* Opens a TUN device in another namespace: the descriptor stays valid after we return to our own. */
static int tun_open(const char *netns, const char *device)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", netns);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET))
        die("cannot enter the namespace %s: %s", netns, strerror(errno));
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        die("cannot make the device %s in %s: %s", device, netns, strerror(errno));
    if (setns(home, CLONE_NEWNET))
        die("cannot return from the namespace %s: %s", netns, strerror(errno));
    close(home);
    close(there);
    return fd;
}

static int parse_ip(const char *text, struct endpoint *out)
{
    *out = (struct endpoint){.v6 = strchr(text, ':') != NULL};
    return inet_pton(out->v6 ? AF_INET6 : AF_INET, text, out->ip) == 1 ? 0 : EINVAL;
}

/* "NAMESPACE/DEVICE" or "NAMESPACE/DEVICE/ADDRESS,ADDRESS" */
static void port_open(struct port *port, char *text)
{
    char *save, *netns = strtok_r(text, "/", &save), *device = strtok_r(NULL, "/", &save);
    char *addresses = strtok_r(NULL, "/", &save), *inner;
    if (!netns || !device)
        die("expected NAMESPACE/DEVICE[/ADDRESS,...], got \"%s\"", text);
    for (char *a = addresses ? strtok_r(addresses, ",", &inner) : NULL; a; a = strtok_r(NULL, ",", &inner)) {
        if (port->addresses == ADDRESSES_MAX || parse_ip(a, &port->address[port->addresses++]))
            die("not an address, or more than %d: %s", ADDRESSES_MAX, a);
    }
    port->fd = tun_open(netns, device);
}

static void log_packet(struct box *box, enum nat_direction direction, const struct packet *before,
                       const struct packet *after, const char *verdict)
{
    char a[64], b[64], c[64], d[64];
    if (!box->log)
        return;
    fprintf(box->log, "%.6f %s %s %s -> %s => %s -> %s %zu %s\n", (double)now_us() / 1e6,
            direction == NAT_UP ? "up" : "down", proto_text(before->proto), endpoint_text(&before->src, a),
            endpoint_text(&before->dst, b), endpoint_text(&after->src, c), endpoint_text(&after->dst, d),
            after->len, verdict);
}

/* Inside: the port that owns this address, else the one that owns none in particular. */
static struct port *port_for(struct box *box, const struct endpoint *dst, bool exact)
{
    for (size_t i = 1; i < box->ports; i++)
        for (size_t k = 0; k < box->port[i].addresses; k++)
            if (nat_same_host(&box->port[i].address[k], dst))
                return &box->port[i];
    for (size_t i = 1; i < box->ports && !exact; i++)
        if (!box->port[i].addresses)
            return &box->port[i];
    return NULL;
}

static void deliver(int fd, const uint8_t *data, size_t len)
{
    /* A full device queue loses the packet, as a line does. */
    if (write(fd, data, len) < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS)
        fprintf(stderr, "natbox: write: %s\n", strerror(errno));
}

/* The same contents between the same ports were lost before: lose-once. */
static bool is_second_loss(struct box *box, enum nat_direction direction, const struct packet *p)
{
    uint64_t hash = nat_mix((uint64_t)direction + 1);
    for (size_t i = 0; i < p->l4_len; i++)
        hash = nat_mix(hash ^ p->l4[i]);
    uint64_t *place = &box->lost_once[hash % (sizeof box->lost_once / sizeof *box->lost_once)];
    bool again = *place == hash;
    *place = hash;
    return again;
}

/* Puts a translated packet on the line. */
static void transmit(struct box *box, const struct nat_result *r, int fd, const uint8_t *data, size_t len,
                     const struct packet *before, const struct packet *after)
{
    const struct impair_config *line = &box->settings.line[r->direction];
    struct impair_decision d = {.delay_us = line->delay_us};
    struct nat_flow *f = r->flow;
    if (f)
        d = impair_decide(line, box->settings.nat.seed, r->direction, f->number, f->packets[r->direction]);
    if (d.lost && !(line->lose_once && is_second_loss(box, r->direction, after))) {
        f->lost[r->direction]++;
        box->line_lost++;
        log_packet(box, r->direction, before, after, "lost");
        return;
    }
    log_packet(box, r->direction, before, after, nat_verdict_name[r->verdict]);
    if (!d.delay_us && !box->queue.count) {
        for (int copies = d.duplicated ? 2 : 1; copies; copies--)
            deliver(fd, data, len);
        return;
    }
    int64_t due = now_us() + d.delay_us;
    if (f) {
        uint32_t slot = (uint32_t)(f - box->nat->flows);
        int64_t *last = &box->last[slot].due[r->direction];
        if (box->last[slot].flow != f->number)
            memset(&box->last[slot], 0, sizeof box->last[slot]);
        box->last[slot].flow = f->number;
        if (due < *last)
            due = *last;
        if (!d.reordered)
            *last = due;
    }
    for (int copies = d.duplicated ? 2 : 1; copies; copies--)
        if (queue_push(&box->queue, due, fd, data, len))
            box->line_full++;
}

static void handle_packet(struct box *box, struct port *from, uint8_t *data, size_t len)
{
    bool inside = from != &box->port[0];
    struct packet before, after;
    if (packet_parse(&before, data, len, false) == 0 && inside) {
        struct port *neighbour = port_for(box, &before.dst, true);
        if (neighbour) { /* the home's own switch: not the NAT's business */
            box->switched++;
            deliver(neighbour->fd, data, len);
            return;
        }
    }
    struct nat_result r = nat_packet(box->nat, inside, data, len, now_us() + box->ahead_us, &after);
    struct port *to = r.verdict == NAT_TO_OUTSIDE  ? &box->port[0]
                      : r.verdict == NAT_TO_INSIDE ? port_for(box, &after.dst, false)
                                                   : NULL;
    if (to)
        transmit(box, &r, to->fd, data, len, &before, &after);
    else
        log_packet(box, r.direction, &before, &after, nat_verdict_name[r.verdict]);
}

static void print_flow(const struct box *box, const struct nat_flow *f)
{
    const struct nat_mapping *m = &box->nat->mappings[f->mapping];
    char inside[64], external[64], remote[64];
    printf(
        "{\"flow\":%u,\"proto\":\"%s\",\"inside\":\"%s\",\"external\":\"%s\",\"remote\":\"%s\","
        "\"up\":%llu,\"up_bytes\":%llu,\"up_lost\":%llu,\"down\":%llu,\"down_bytes\":%llu,\"down_lost\":%llu,"
        "\"filtered\":%llu,\"alive\":%s}",
        f->number, proto_text(m->proto), endpoint_text(&m->inside, inside),
        endpoint_text(&m->external, external), endpoint_text(&f->remote, remote),
        (unsigned long long)f->packets[NAT_UP], (unsigned long long)f->bytes[NAT_UP],
        (unsigned long long)f->lost[NAT_UP], (unsigned long long)f->packets[NAT_DOWN],
        (unsigned long long)f->bytes[NAT_DOWN], (unsigned long long)f->lost[NAT_DOWN],
        (unsigned long long)f->filtered,
        m->alive && !nat_expired(box->nat, m, now_us() + box->ahead_us) ? "true" : "false");
}

static void print_stats(const struct box *box)
{
    printf("{\"verdicts\":{");
    for (int i = 0; i < NAT_VERDICTS; i++)
        printf("%s\"%s\":%llu", i ? "," : "", nat_verdict_name[i], (unsigned long long)box->nat->verdicts[i]);
    printf("},\"lost\":%llu,\"overflow\":%llu,\"switched\":%llu,\"queued\":%u,\"flows\":[",
           (unsigned long long)box->line_lost, (unsigned long long)box->line_full,
           (unsigned long long)box->switched, box->queue.count);
    bool first = true;
    for (uint32_t i = 0; i < box->nat->flow_top; i++) {
        if (!box->nat->flows[i].used)
            continue;
        if (!first)
            printf(",");
        first = false;
        print_flow(box, &box->nat->flows[i]);
    }
    printf("]}\n");
}

static void command(struct box *box, const char *line)
{
    double seconds;
    if (strcmp(line, "stats") == 0) {
        if (box->log)
            fflush(box->log);
        print_stats(box);
        return;
    }
    int err = 0;
    if (strcmp(line, "flush") == 0)
        nat_flush(box->nat);
    else if (strncmp(line, "advance ", 8) == 0 && !(err = setting_number(line + 8, 1e7, &seconds)))
        box->ahead_us += (int64_t)(seconds * 1e6);
    else if (strncmp(line, "set ", 4) == 0 && !(err = settings_apply(&box->settings, line + 4)))
        box->nat->config = box->settings.nat;
    else
        err = EINVAL;
    if (err)
        printf("error: cannot do \"%s\"\n", line);
    else
        printf("ok\n");
}

/* False at the end of input. */
static bool read_commands(struct box *box)
{
    ssize_t got = read(STDIN_FILENO, box->input + box->input_len, sizeof box->input - 1 - box->input_len);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    box->input_len += (size_t)got;
    for (;;) {
        char *end = memchr(box->input, '\n', box->input_len);
        if (!end)
            break;
        *end = 0;
        command(box, box->input);
        size_t used = (size_t)(end + 1 - box->input);
        box->input_len -= used;
        memmove(box->input, end + 1, box->input_len);
    }
    fflush(stdout);
    return box->input_len < sizeof box->input - 1;
}

static void send_due(struct box *box)
{
    struct queued item;
    while (queue_pop(&box->queue, now_us(), &item)) {
        deliver(item.fd, item.data, item.len);
        free(item.data);
    }
}

static void run(struct box *box)
{
    static uint8_t buffer[PACKET_MAX];
    struct pollfd fds[PORTS_MAX + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
    for (size_t i = 0; i < box->ports; i++)
        fds[i + 1] = (struct pollfd){.fd = box->port[i].fd, .events = POLLIN};
    for (;;) {
        struct timespec wait, *timeout = NULL;
        if (box->queue.count) {
            int64_t us = box->queue.heap[0].due - now_us();
            us = us > 0 ? us : 0;
            wait = (struct timespec){us / 1000000, us % 1000000 * 1000};
            timeout = &wait;
        }
        if (ppoll(fds, box->ports + 1, timeout, NULL) < 0 && errno != EINTR)
            die("poll: %s", strerror(errno));
        send_due(box);
        if (fds[0].revents && !read_commands(box))
            return;
        for (size_t i = 0; i < box->ports; i++) {
            for (int burst = 0; fds[i + 1].revents && burst < BURST; burst++) {
                ssize_t got = read(box->port[i].fd, buffer, sizeof buffer);
                if (got <= 0)
                    break;
                handle_packet(box, &box->port[i], buffer, (size_t)got);
            }
        }
    }
}

static void usage(void)
{
    fprintf(stderr,
            "usage: natbox outside=NAMESPACE/DEVICE inside=NAMESPACE/DEVICE[/ADDRESS,...] ... [log=FILE] "
            "[SETTING=VALUE ...]\n");
    for (size_t i = 0; i < sizeof settings_table / sizeof *settings_table; i++) {
        const struct setting *row = &settings_table[i];
        static const char *const unit[] = {"", "0|1", "s", "ms", "%", "number", "a.b.c.d"};
        fprintf(stderr, "  %s%-16s %s", row->line ? "[up-|down-]" : "           ", row->name,
                unit[row->kind]);
        for (int k = 0; k < 4 && row->values[k]; k++)
            fprintf(stderr, "%s%s", k ? "|" : "", row->values[k]);
        fprintf(stderr, "  (%s)\n", row->doc);
    }
    exit(2);
}

int main(int argc, char **argv)
{
    static struct box box;
    if (argc < 3)
        usage();
    signal(SIGPIPE, SIG_IGN);
    settings_defaults(&box.settings);
    box.ports = 1;
    box.port[0].fd = -1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "outside=", 8) == 0) {
            port_open(&box.port[0], argv[i] + 8);
        } else if (strncmp(argv[i], "inside=", 7) == 0) {
            if (box.ports == PORTS_MAX)
                die("more than %d inside hosts", PORTS_MAX - 1);
            port_open(&box.port[box.ports++], argv[i] + 7);
        } else if (strncmp(argv[i], "log=", 4) == 0) {
            box.log = fopen(argv[i] + 4, "we");
            if (!box.log)
                die("cannot write %s: %s", argv[i] + 4, strerror(errno));
        } else if (settings_apply(&box.settings, argv[i])) {
            die("cannot understand \"%s\"", argv[i]);
        }
    }
    if (box.port[0].fd < 0 || box.ports < 2)
        usage();
    box.nat = nat_new(&box.settings.nat);
    if (!box.nat)
        die("out of memory");
    printf("ready\n");
    fflush(stdout);
    run(&box);
    if (box.log)
        fclose(box.log);
    nat_free(box.nat);
    return 0;
}
