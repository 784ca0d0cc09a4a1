/* A media engine in a thread of this process, a client, and phones on loopback addresses. Bounded waits, no
 * sleeping for its own sake: each wait ends with the event it waits for. */
#ifndef KG_TESTS_MEDIA_FIXTURE_H
#define KG_TESTS_MEDIA_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "conf/clock.h"
#include "conf/log.h"
#include "media/client.h"
#include "media/engine.h"

#define WAIT_MS 15000

struct fixture {
    char dir[64], path[96];
    char host[20]; /* the engine's loopback address, of this process alone: others may run at the same time */
    struct kg_config config;
    int listen_fd;
    struct kg_media_engine *engine;
    pthread_t thread;
    struct kg_media_client *client;
    int64_t wait_ms; /* the client's wish */
    _Atomic int beats;
    /* what the callbacks saw */
    int events[KG_MEDIA_DOWN + 1];
    struct kg_media_event last[KG_MEDIA_DOWN + 1];
    char last_snapshot[64], last_reason[160];
    int replies, listed;
    struct kg_media_reply reply;
    struct kg_media_session_info info;
};

static inline void fixture_event(void *ctx, const struct kg_media_event *event)
{
    struct fixture *f = ctx;
    f->events[event->type]++;
    f->last[event->type] = *event;
    if (event->reason)
        snprintf(f->last_reason, sizeof f->last_reason, "%s", event->reason);
    if (event->info && event->info->snapshot && event->info->snapshot_len < sizeof f->last_snapshot) {
        memcpy(f->last_snapshot, event->info->snapshot, event->info->snapshot_len);
        f->last_snapshot[event->info->snapshot_len] = '\0';
    }
}

static inline void fixture_done(void *ctx, const struct kg_media_reply *reply)
{
    struct fixture *f = ctx;
    f->reply = *reply;
    if (reply->info) {
        f->info = *reply->info;
        f->listed++;
    }
    f->replies++;
}

static inline void fixture_beat(void *ctx)
{
    ((struct fixture *)ctx)->beats++;
}

static inline void *fixture_run(void *engine)
{
    kg_media_engine_run(engine);
    return NULL;
}

static inline void fixture_start_engine(struct fixture *f)
{
    f->engine = kg_media_engine_new(&f->config, f->listen_fd, fixture_beat, f);
    assert_non_null(f->engine);
    assert_int_equal(pthread_create(&f->thread, NULL, fixture_run, f->engine), 0);
}

static inline void fixture_stop_engine(struct fixture *f)
{
    kg_media_engine_stop(f->engine);
    pthread_join(f->thread, NULL);
    kg_media_engine_free(f->engine);
    f->engine = NULL;
}

/* One turn of the client: until there is something to do, at most 20 ms, then doing it. */
static inline void fixture_turn(struct fixture *f)
{
    struct pollfd p = {.fd = kg_media_client_fd(f->client), .events = POLLIN};
    poll(&p, 1, f->wait_ms < 20 ? (int)f->wait_ms : 20);
    f->wait_ms = kg_media_client_run(f->client, kg_mono_ms());
}

#define fixture_until(f, condition)                                                                          \
    do {                                                                                                     \
        int64_t end_ = kg_mono_ms() + WAIT_MS;                                                               \
        while (!(condition) && kg_mono_ms() < end_)                                                          \
            fixture_turn(f);                                                                                 \
        assert_true(condition);                                                                              \
    } while (0)

static inline void fixture_new_client(struct fixture *f)
{
    f->client = kg_media_client_new(f->path, fixture_event, f);
    assert_non_null(f->client);
    int before = f->events[KG_MEDIA_UP];
    f->wait_ms = 0;
    fixture_until(f, f->events[KG_MEDIA_UP] > before);
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/kedge-media-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/media.sock", f->dir);
    kg_log_init("test", KG_LOG_ERROR);
    kg_config_defaults(&f->config);
    unsigned pid = (unsigned)getpid();
    snprintf(f->host, sizeof f->host, "127.%u.%u.%u", 64 + (pid >> 16) % 64, pid >> 8 & 255, pid & 255);
    /* below the ports that the kernel gives to phones */
    f->config.media.port_min = 17000;
    f->config.media.port_max = 17399;
    f->config.media.workers = 2;
    f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", f->path);
    assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(f->listen_fd, 8), 0);
    fixture_start_engine(f);
    fixture_new_client(f);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    kg_media_client_free(f->client);
    if (f->engine)
        fixture_stop_engine(f);
    close(f->listen_fd);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
}

/* ---- phones ---- */

static inline struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

/* A UDP socket; port 0 lets the kernel choose. Fills *addr with what was bound. */
static inline int phone_open(const char *host, struct kg_addr *addr)
{
    assert_int_equal(kg_addr_parse_host(host, 0, addr), 0);
    int fd = socket(kg_addr_family(addr), SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &addr->sa, kg_addr_len(addr)), 0);
    socklen_t len = sizeof *addr;
    assert_int_equal(getsockname(fd, &addr->sa, &len), 0);
    return fd;
}

static inline size_t rtp_packet(uint8_t *out, uint8_t payload_type, uint16_t sequence, uint32_t ssrc)
{
    memset(out, 0, 172);
    out[0] = 0x80;
    out[1] = payload_type;
    out[2] = (uint8_t)(sequence >> 8);
    out[3] = (uint8_t)sequence;
    uint32_t timestamp = htonl(160u * sequence), id = htonl(ssrc);
    memcpy(out + 4, &timestamp, 4);
    memcpy(out + 8, &id, 4);
    return 172;
}

static inline void phone_send(int fd, const struct kg_addr *to, const void *data, size_t len)
{
    assert_int_equal(sendto(fd, data, len, 0, &to->sa, kg_addr_len(to)), (ssize_t)len);
}

static inline void phone_talk(int fd, const struct kg_addr *to, uint16_t sequence, uint32_t ssrc)
{
    uint8_t packet[172];
    phone_send(fd, to, packet, rtp_packet(packet, 0, sequence, ssrc));
}

/* Bytes of the next packet within ms, or -1. */
static inline ssize_t phone_hear(int fd, void *buf, size_t size, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0)
        return -1;
    return recv(fd, buf, size, MSG_DONTWAIT);
}

/* A one-line audio description: PCMU and telephone-event at rtp, RTCP one port above, SIP from `signalling`.
 */
static inline struct kg_media_side *describe(const struct kg_addr *rtp, const char *signalling)
{
    struct kg_media_side *side = calloc(1, sizeof *side);
    assert_non_null(side);
    side->signalling = at(signalling);
    side->stream_count = 1;
    struct kg_media_stream *s = &side->stream[0];
    s->enabled = true;
    strcpy(s->kind, "audio");
    s->rtp = s->rtcp = *rtp;
    kg_addr_set_port(&s->rtcp, (uint16_t)(kg_addr_port(rtp) + 1));
    s->direction = KG_SENDRECV;
    s->codec_count = 2;
    s->codec[0] = (struct kg_media_codec){.payload_type = 0, .clock_rate = 8000, .name = "PCMU"};
    s->codec[1] = (struct kg_media_codec){.payload_type = 101, .clock_rate = 8000, .name = "telephone-event"};
    return side;
}

/* Applies and waits for the reply. Sides may be NULL. */
static inline enum kg_media_error apply(struct fixture *f, const char *id, const struct kg_media_side *a,
                                        const struct kg_media_side *b, bool answered, const char *snapshot)
{
    struct kg_media_change change = {
        .bind = {at(f->host), at(f->host)}, .side = {a, b}, .answered = answered};
    snprintf(change.id, sizeof change.id, "%s", id);
    change.snapshot = snapshot;
    change.snapshot_len = snapshot ? strlen(snapshot) : 0;
    int before = f->replies;
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    assert_int_equal(f->replies, before); /* never from inside */
    fixture_until(f, f->replies > before);
    return f->reply.error;
}

static inline void query(struct fixture *f, const char *id)
{
    int before = f->replies;
    assert_int_equal(kg_media_query(f->client, id, fixture_done, f), 0);
    fixture_until(f, f->replies > before);
}

#endif
