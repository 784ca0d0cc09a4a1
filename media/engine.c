#include "media/engine.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conf/clock.h"
#include "conf/log.h"
#include "media/identities.h"
#include "media/link.h"
#include "media/session.h"
#include "media/srtp.h"
#include "media/worker.h"

#define WORKERS_MAX 64 /* the limit of media.workers */
#define WATCHES_MAX 4
#define BEAT_MS     1000

struct kg_media_engine {
    struct event_base *base;
    struct event *wake, *stop, *beat;
    int wake_fd, stop_fd;
    struct kg_worker *worker[WORKERS_MAX];
    uint32_t last_beat[WORKERS_MAX];
    unsigned worker_count;
    struct kg_avoid avoid;
    struct kg_identities identities;
    struct kg_arena *arena;
    struct kg_sessions *sessions;
    struct kg_link *link;
    void (*heartbeat)(void *);
    void *heartbeat_ctx;
    struct watch {
        struct event *event;
        void (*readable)(void *);
        void *ctx;
    } watch[WATCHES_MAX]; /* event NULL: free */
};

static void on_notices(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_media_engine *engine = ctx;
    (void)what;
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
        kg_error("media", "reading the worker eventfd failed: %s", strerror(errno));
    kg_sessions_collect(engine->sessions, kg_link_is_owned(engine->link), kg_mono_ms());
    kg_link_resume(engine->link);
}

static void on_stop(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_media_engine *engine = ctx;
    (void)fd;
    (void)what;
    event_base_loopbreak(engine->base);
}

static void on_beat(evutil_socket_t fd, short what, void *ctx)
{
    struct kg_media_engine *engine = ctx;
    (void)fd;
    (void)what;
    bool all = true;
    if (kg_identities_renew(&engine->identities, kg_mono_ms()))
        kg_link_set_identity(engine->link, kg_identities_fingerprint(&engine->identities));
    for (unsigned i = 0; i < engine->worker_count; i++) {
        uint32_t beat = kg_worker_beat(engine->worker[i]);
        all &= beat != engine->last_beat[i];
        engine->last_beat[i] = beat;
    }
    if (all && engine->heartbeat)
        engine->heartbeat(engine->heartbeat_ctx);
    kg_link_resume(engine->link);
}

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
    const struct watch *watch = ctx;
    (void)fd;
    (void)what;
    watch->readable(watch->ctx);
}

/* Four sockets a call: take all the descriptors that we are allowed. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        kg_warn("media", "cannot raise the limit of open files: %s; fewer calls fit", strerror(errno));
}

/* What the network knows of us; signalling tells of the PBXes and trunks (Configure.avoid). */
static void list_avoided(const struct kg_config *config, struct kg_avoid *out)
{
    for (size_t i = 0; i < config->sip.listen_count; i++)
        kg_avoid_add(out, &config->sip.listen[i].addr);
    kg_avoid_add(out, &config->sip.advertise);
    kg_avoid_add(out, &config->media.address);
    kg_avoid_add(out, &config->media.advertise);
}

static int start_workers(struct kg_media_engine *engine, const struct kg_config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned count = config->media.workers ? config->media.workers : cores > 0 ? (unsigned)cores : 1;
    if (count > WORKERS_MAX)
        count = WORKERS_MAX;
    list_avoided(config, &engine->avoid);
    struct kg_limits limits = {
        .latch = {.packets = config->media.latch_packets, .window_ms = config->media.latch_window_ms},
        .silence_timeout_ms = config->media.silence_timeout_ms,
        .hold_timeout_ms = config->media.hold_timeout_ms,
        .unanswered_timeout_ms = config->media.unanswered_timeout_ms,
        .ice = {.ta_ms = config->ice.pacing_ms,
                .rto_ms = config->ice.rto_ms,
                .patience_ms = config->ice.patience_ms,
                .keepalive_ms = config->ice.keepalive_ms,
                .consent_ms = config->ice.consent_ms,
                .consent_expiry_ms = config->ice.consent_expiry_ms,
                .avoid = engine->avoid.addr,
                .avoid_count = engine->avoid.count},
        .dtls_secret = engine->identities.secret,
    };
    while (engine->worker_count < count) {
        struct kg_worker *worker = kg_worker_new(engine->worker_count, &limits, engine->wake_fd);
        if (worker == NULL)
            return errno;
        engine->worker[engine->worker_count++] = worker;
    }
    return 0;
}

static int build(struct kg_media_engine *engine, const struct kg_config *config, int listen_fd)
{
    engine->base = event_base_new();
    engine->arena = kg_arena_new();
    engine->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    engine->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (engine->base == NULL || engine->arena == NULL)
        return ENOMEM;
    if (engine->wake_fd < 0 || engine->stop_fd < 0)
        return errno;
    int error = kg_srtp_init();
    if (error != 0)
        return error;
    engine->identities.lifetime_ms = config->media.certificate_lifetime_ms;
    if (!kg_identities_renew(&engine->identities, kg_mono_ms()))
        return ENOMEM;
    error = start_workers(engine, config);
    if (error != 0)
        return error;
    uint64_t instance;
    kg_random(&instance, sizeof instance);
    engine->link = kg_link_new(engine->base, listen_fd, instance, engine->arena);
    struct kg_sessions_handlers handlers = {kg_link_report, kg_link_event, kg_link_wake_soon, engine->link};
    engine->sessions = kg_sessions_new(config, engine->worker, engine->worker_count, &handlers, engine->arena,
                                       &engine->avoid, &engine->identities);
    engine->wake = event_new(engine->base, engine->wake_fd, EV_READ | EV_PERSIST, on_notices, engine);
    engine->stop = event_new(engine->base, engine->stop_fd, EV_READ | EV_PERSIST, on_stop, engine);
    engine->beat = event_new(engine->base, -1, EV_PERSIST, on_beat, engine);
    if (engine->link == NULL || engine->sessions == NULL || engine->wake == NULL || engine->stop == NULL ||
        engine->beat == NULL)
        return ENOMEM;
    struct timeval every = {BEAT_MS / 1000, BEAT_MS % 1000 * 1000};
    if (event_add(engine->wake, NULL) != 0 || event_add(engine->stop, NULL) != 0 ||
        event_add(engine->beat, &every) != 0)
        return ENOMEM;
    kg_link_set_identity(engine->link, kg_identities_fingerprint(&engine->identities));
    kg_link_serve(engine->link, engine->sessions);
    return 0;
}

struct kg_media_engine *kg_media_engine_new(const struct kg_config *config, int listen_fd,
                                            void (*heartbeat)(void *), void *ctx)
{
    raise_descriptor_limit();
    struct kg_media_engine *engine = calloc(1, sizeof *engine);
    int error = ENOMEM;
    if (engine) {
        engine->wake_fd = engine->stop_fd = -1;
        engine->heartbeat = heartbeat;
        engine->heartbeat_ctx = ctx;
        error = build(engine, config, listen_fd);
    }
    if (error != 0) {
        kg_error("media", "the media engine cannot start: %s", strerror(error));
        kg_media_engine_free(engine);
        return NULL;
    }
    return engine;
}

void kg_media_engine_run(struct kg_media_engine *engine)
{
    event_base_dispatch(engine->base);
}

void kg_media_engine_stop(struct kg_media_engine *engine)
{
    if (write(engine->stop_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        abort(); /* an eventfd takes 2^64 - 2 of these */
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

void kg_media_engine_free(struct kg_media_engine *engine)
{
    if (engine == NULL)
        return;
    for (unsigned i = 0; i < engine->worker_count; i++)
        kg_worker_stop(engine->worker[i]);
    if (engine->sessions)
        kg_sessions_collect(engine->sessions, false, kg_mono_ms());
    kg_link_free(engine->link);
    for (unsigned i = 0; i < engine->worker_count; i++)
        kg_worker_free(engine->worker[i]);
    kg_sessions_free(engine->sessions);
    kg_identities_clear(&engine->identities);
    for (unsigned i = 0; i < WATCHES_MAX; i++)
        free_event(engine->watch[i].event);
    free_event(engine->wake);
    free_event(engine->stop);
    free_event(engine->beat);
    if (engine->base)
        event_base_free(engine->base);
    kg_arena_free(engine->arena);
    if (engine->wake_fd >= 0)
        close(engine->wake_fd);
    if (engine->stop_fd >= 0)
        close(engine->stop_fd);
    free(engine);
}

int kg_media_engine_watch(struct kg_media_engine *engine, int fd, void (*readable)(void *), void *ctx)
{
    struct watch *watch = engine->watch;
    while (watch < engine->watch + WATCHES_MAX && watch->event)
        watch++;
    if (watch == engine->watch + WATCHES_MAX)
        return ENOSPC;
    watch->readable = readable;
    watch->ctx = ctx;
    watch->event = event_new(engine->base, fd, EV_READ | EV_PERSIST, on_watch, watch);
    if (watch->event && event_add(watch->event, NULL) == 0)
        return 0;
    free_event(watch->event);
    watch->event = NULL;
    return ENOMEM;
}

void kg_media_engine_unwatch(struct kg_media_engine *engine, int fd)
{
    for (unsigned i = 0; i < WATCHES_MAX; i++) {
        struct watch *watch = &engine->watch[i];
        if (watch->event == NULL || event_get_fd(watch->event) != fd)
            continue;
        event_free(watch->event);
        watch->event = NULL;
    }
}

bool kg_media_engine_has_owner(const struct kg_media_engine *engine)
{
    return kg_link_is_owned(engine->link);
}

unsigned kg_media_engine_sessions(const struct kg_media_engine *engine)
{
    return kg_sessions_count(engine->sessions);
}
