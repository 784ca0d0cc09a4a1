/* A phone's media with keys on a real UDP socket: kedge's own SRTP and DTLS cores, driven by lines. It plays
 * a tone (PCMU) and tells what it hears. RTCP is muxed.
 *
 * srtp_peer address=HOST [port=0] [hz=400] [sequence=100]
 *
 * in:  remote HOST PORT      where to send
 *      keys send|receive SUITE HEX [MKI]      MKI in hex: it stands in the packets
 *      expect HASH HEX       1: SHA-256 ..., as enum kg_fingerprint_hash; the certificate of the other side
 *      dtls active|passive   begins an association (active: its ClientHello goes out)
 *      play 1|0
 *      raw HEX               this datagram, as it is
 *      report HEX            this RTCP, sealed
 *      seal HEX              this RTP packet, sealed; told by "sealed HEX" and not sent
 *      move                  another port of the same host from now on
 * out: local HOST PORT
 *      fingerprint HEX       SHA-256 of our certificate
 *      dtls STATE [REASON]   as it changes
 *      rtp SEQ SSRC HEX      opened: the payload's first 8 bytes
 *      rtcp HEX              opened
 *      bad FIRST LEN         media that did not open, or came without keys
 *      dtls-in LEN           a DTLS datagram came */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "conf/addr.h"
#include "media/demux.h"
#include "media/dtls.h"
#include "media/srtp.h"
#include "tests/interop/peer_io.h"

#define FRAME    160
#define FRAME_MS 20

struct peer {
    int fd;
    struct kg_addr local, remote;
    struct kg_srtp *srtp;
    struct kg_dtls_identity *identity;
    struct kg_dtls *dtls;
    enum kg_dtls_state told;
    struct kg_fingerprint expected;
    uint8_t secret[32];
    bool playing;
    uint16_t sequence;
    uint32_t ssrc;
    int64_t due_ms;
    uint8_t frame[FRAME];
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static size_t from_hex(const char *text, uint8_t *out, size_t room)
{
    size_t len = 0;
    unsigned byte;
    while (len < room && sscanf(text + 2 * len, "%2x", &byte) == 1)
        out[len++] = (uint8_t)byte;
    return len;
}

static const char *to_hex(const uint8_t *data, size_t len)
{
    static char text[2 * 2048 + 1];
    text[0] = '\0';
    for (size_t i = 0; i < len && i < 2048; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    return text;
}

/* G.711 mu-law of one sample. */
static uint8_t ulaw(int sample)
{
    int sign = sample < 0 ? 0x80 : 0, value = (sample < 0 ? -sample : sample) + 132, exponent = 7;
    while (exponent > 0 && !(value & 0x4000 >> (7 - exponent)))
        exponent--;
    return (uint8_t) ~(sign | exponent << 4 | (value >> (exponent + 3) & 15));
}

static int open_socket(struct peer *p, const char *host, int port)
{
    socklen_t len;
    if (kg_addr_parse_host(host, (uint16_t)port, &p->local) != 0)
        return EINVAL;
    len = kg_addr_len(&p->local);
    p->fd = socket(kg_addr_family(&p->local), SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (p->fd < 0 || bind(p->fd, &p->local.sa, len) != 0 || getsockname(p->fd, &p->local.sa, &len) != 0)
        return errno;
    say("local %s %u", host, (unsigned)ntohs(p->local.in4.sin_port));
    return 0;
}

static void post(struct peer *p, const uint8_t *data, size_t len)
{
    if (kg_addr_is_set(&p->remote))
        (void)!sendto(p->fd, data, len, 0, &p->remote.sa, kg_addr_len(&p->remote));
}

static size_t build(struct peer *p, uint8_t *out)
{
    uint8_t header[12] = {0x80, 0};
    uint32_t timestamp = (uint32_t)p->sequence * FRAME;
    header[2] = (uint8_t)(p->sequence >> 8), header[3] = (uint8_t)p->sequence;
    for (int i = 0; i < 4; i++) {
        header[4 + i] = (uint8_t)(timestamp >> (24 - 8 * i));
        header[8 + i] = (uint8_t)(p->ssrc >> (24 - 8 * i));
    }
    p->sequence++;
    memcpy(out, header, sizeof header);
    memcpy(out + sizeof header, p->frame, FRAME);
    return sizeof header + FRAME;
}

static void play(struct peer *p)
{
    uint8_t data[12 + FRAME + KG_SRTP_GROWTH + 4] __attribute__((aligned(4)));
    while (p->playing && now_ms() >= p->due_ms) {
        p->due_ms = p->due_ms > now_ms() - 100 ? p->due_ms + FRAME_MS : now_ms() + FRAME_MS;
        size_t len = build(p, data);
        if (kg_srtp_protect(p->srtp, data, &len, sizeof data) == KG_SRTP_OK)
            post(p, data, len);
    }
}

static void look_at_dtls(struct peer *p)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    while (p->dtls && kg_dtls_poll(p->dtls, now_ms(), out, &len))
        post(p, out, len);
    if (!p->dtls || kg_dtls_state(p->dtls) == p->told)
        return;
    static const char *const names[] = {"idle", "handshake", "unverified", "established", "failed"};
    p->told = kg_dtls_state(p->dtls);
    struct kg_srtp_keys send, receive;
    if (kg_dtls_keys(p->dtls, &send, &receive)) {
        kg_srtp_begin_anew(p->srtp);
        kg_srtp_set_send(p->srtp, &send, now_ms());
        kg_srtp_set_receive(p->srtp, &receive, now_ms());
        say("suite %s", kg_srtp_suite_name(send.suite));
    }
    const char *reason = kg_dtls_reason(p->dtls);
    say("dtls %s %s", names[p->told], reason ? reason : "");
}

static void hear(struct peer *p)
{
    uint8_t data[2048] __attribute__((aligned(4)));
    struct kg_addr source = {0};
    socklen_t source_len = sizeof source;
    ssize_t got;
    while ((got = recvfrom(p->fd, data, sizeof data - 64, 0, &source.sa, &source_len)) >= 0) {
        size_t len = (size_t)got;
        enum kg_packet_kind kind = kg_demux(data, len);
        if (kind == KG_PACKET_DTLS) {
            say("dtls-in %zu", len);
            if (p->dtls)
                kg_dtls_receive(p->dtls, data, len, &source, source_len, now_ms());
            look_at_dtls(p);
        } else if (kind == KG_PACKET_RTP && kg_srtp_unprotect(p->srtp, data, &len, now_ms()) == KG_SRTP_OK) {
            say("rtp %u %u %s", data[2] << 8 | data[3],
                (unsigned)data[8] << 24 | data[9] << 16 | data[10] << 8 | data[11],
                to_hex(data + 12, len >= 20 ? 8 : len - 12));
        } else if (kind == KG_PACKET_RTCP &&
                   kg_srtp_unprotect_rtcp(p->srtp, data, &len, now_ms()) == KG_SRTP_OK) {
            say("rtcp %s", to_hex(data, len));
        } else if (kind == KG_PACKET_RTP || kind == KG_PACKET_RTCP) {
            say("bad %u %zu", data[0], (size_t)got);
        }
        source_len = sizeof source;
    }
}

static void take_keys(struct peer *p, char *line)
{
    const char *which = word(&line), *suite = word(&line);
    struct kg_srtp_keys keys = {.suite = (uint8_t)kg_srtp_suite_of(suite, strlen(suite)), .count = 1};
    from_hex(word(&line), keys.key[0].bytes, sizeof keys.key[0].bytes);
    keys.key[0].mki_len = (uint8_t)from_hex(word(&line), keys.key[0].mki, sizeof keys.key[0].mki);
    int error = strcmp(which, "send") == 0 ? kg_srtp_set_send(p->srtp, &keys, now_ms())
                                           : kg_srtp_set_receive(p->srtp, &keys, now_ms());
    if (error)
        say("error keys %s: %s", which, strerror(error));
}

static void begin_dtls(struct peer *p, bool active)
{
    kg_dtls_free(p->dtls);
    p->dtls = kg_dtls_new(
        &(struct kg_dtls_settings){.identity = p->identity, .active = active, .secret = p->secret});
    p->told = KG_DTLS_IDLE;
    if (p->dtls && p->expected.hash)
        kg_dtls_expect(p->dtls, &p->expected, 1);
    if (p->dtls)
        kg_dtls_start(p->dtls, now_ms());
    look_at_dtls(p);
}

static void obey(struct peer *p, char *line)
{
    uint8_t data[2048] __attribute__((aligned(4)));
    const char *what = word(&line);
    if (strcmp(what, "remote") == 0) {
        const char *host = word(&line);
        if (kg_addr_parse_host(host, (uint16_t)strtoul(word(&line), NULL, 10), &p->remote) != 0)
            say("error remote");
    } else if (strcmp(what, "keys") == 0) {
        take_keys(p, line);
    } else if (strcmp(what, "expect") == 0) {
        p->expected.hash = (uint8_t)strtoul(word(&line), NULL, 10);
        p->expected.len = (uint8_t)from_hex(word(&line), p->expected.bytes, sizeof p->expected.bytes);
        if (p->dtls)
            kg_dtls_expect(p->dtls, &p->expected, 1);
        look_at_dtls(p);
    } else if (strcmp(what, "dtls") == 0) {
        begin_dtls(p, strcmp(word(&line), "active") == 0);
    } else if (strcmp(what, "play") == 0) {
        p->playing = strcmp(word(&line), "1") == 0;
        p->due_ms = now_ms();
    } else if (strcmp(what, "raw") == 0) {
        post(p, data, from_hex(word(&line), data, sizeof data));
    } else if (strcmp(what, "report") == 0) {
        size_t len = from_hex(word(&line), data, sizeof data - 64);
        if (kg_srtp_protect_rtcp(p->srtp, data, &len, sizeof data) == KG_SRTP_OK)
            post(p, data, len);
    } else if (strcmp(what, "seal") == 0) {
        size_t len = from_hex(word(&line), data, sizeof data - 64);
        enum kg_srtp_result result = kg_srtp_protect(p->srtp, data, &len, sizeof data);
        say("sealed %s", result == KG_SRTP_OK ? to_hex(data, len) : "-");
    } else if (strcmp(what, "move") == 0) {
        char host[KG_ADDR_STR];
        close(p->fd);
        kg_addr_format_host(&p->local, host);
        open_socket(p, host, 0);
    }
}

static int loop(struct peer *p)
{
    char buffer[8192];
    size_t used = 0;
    for (;;) {
        int64_t next = p->dtls ? kg_dtls_next_ms(p->dtls) : INT64_MAX;
        if (p->playing && p->due_ms < next)
            next = p->due_ms;
        int64_t wait = next == INT64_MAX ? 1000 : next - now_ms();
        struct pollfd fds[] = {{.fd = 0, .events = POLLIN}, {.fd = p->fd, .events = POLLIN}};
        poll(fds, 2, wait < 0 ? 0 : wait > 1000 ? 1000 : (int)wait);
        if (fds[0].revents) {
            ssize_t got = read(0, buffer + used, sizeof buffer - 1 - used);
            if (got <= 0)
                return 0;
            used += (size_t)got;
            buffer[used] = '\0';
            char *begin = buffer, *end;
            while ((end = strchr(begin, '\n')) != NULL) {
                *end = '\0';
                obey(p, begin);
                begin = end + 1;
            }
            used -= (size_t)(begin - buffer);
            memmove(buffer, begin, used);
        }
        hear(p);
        look_at_dtls(p);
        play(p);
    }
}

int main(int argc, char **argv)
{
    struct peer p = {.told = KG_DTLS_IDLE};
    double hz = number(argc, argv, "hz", 400);
    if (kg_srtp_init() != 0 || !(p.srtp = kg_srtp_new()) || !(p.identity = kg_dtls_identity_new()) ||
        getrandom(p.secret, sizeof p.secret, 0) < 0 || getrandom(&p.ssrc, sizeof p.ssrc, 0) < 0)
        return 1;
    p.sequence = (uint16_t)number(argc, argv, "sequence", 100);
    for (int i = 0; i < FRAME; i++) /* hz: a multiple of 50 */
        p.frame[i] = ulaw((int)(8000 * sin(2 * M_PI * hz * i / 8000)));
    const struct kg_fingerprint *ours = kg_dtls_identity_fingerprint(p.identity);
    say("fingerprint %s", to_hex(ours->bytes, ours->len));
    if (open_socket(&p, option(argc, argv, "address", "127.0.0.1"), number(argc, argv, "port", 0)) != 0)
        return 1;
    return loop(&p);
}
