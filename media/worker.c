#include "media/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conf/clock.h"
#include "conf/log.h"
#include "media/batch.h"
#include "media/news.h"
#include "media/relay_ice.h"
#include "media/ring.h"
#include "media/secure.h"
#include "media/socket.h"
#include "media/wire.h"

#define COMMANDS 1024 /* queue lengths */
#define NOTICES  1024
#define EVENTS   256 /* sockets taken from epoll at once */
#define TICK_MS  500
/* A silent session that nobody ends: said again after this, and ended by us after as many reminders. */
#define REMIND_MS   10000
#define REMIND_MAX  3
#define WORKER_NICE (-5)
#define TURNS_MAX   64 /* relays whose ICE and DTLS are served at once by time */
/* Datagrams of DTLS handshakes in one round, 0.1-0.3 ms each: what comes beyond waits in its socket, so that
 * packets of other calls do not wait long. */
#define HANDSHAKES_MAX 8
#define RANDOM_POOL    1024 /* bytes taken from the kernel at once, for transaction ids */

struct kg_worker {
    pthread_t thread;
    unsigned index;
    int epoll_fd, command_fd, wake_fd;
    struct kg_ring command_ring, notice_ring;
    struct kg_command *command[COMMANDS];
    struct kg_notice notice[NOTICES];
    _Atomic uint32_t beat;
    /* The worker thread's alone: */
    bool stopping, notified;
    struct kg_limits limits;
    struct kg_relay *relays;
    struct kg_relay *removed;    /* closed; this round's events may still point to them */
    struct kg_command *finished; /* waiting for room among the notices */
    int64_t next_tick_ms;
    struct kg_deadlines due; /* of struct kg_relay */
    unsigned handshakes;     /* in this round */
    struct kg_batch batch;
    unsigned random_left;
    uint8_t random[RANDOM_POOL];
};

void kg_command_free(struct kg_command *command)
{
    if (command == NULL)
        return;
    kg_media_side_free(command->side[0]);
    kg_media_side_free(command->side[1]);
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        kg_stream_free(command->stream[i]);
    free(command->restore);
    free(command->ice);
    kg_secure_change_free(command->secure);
    free(command);
}

void kg_report_free(struct kg_report *report)
{
    if (report)
        free(report->pair);
    free(report);
}

/* For agents and steers: system calls for 12 bytes each would be the dearest part of a check. */
static void take_random(void *ctx, void *out, size_t len)
{
    struct kg_worker *worker = ctx;
    if (len > RANDOM_POOL) {
        kg_random(out, len);
        return;
    }
    if (worker->random_left < len) {
        kg_random(worker->random, RANDOM_POOL);
        worker->random_left = RANDOM_POOL;
    }
    worker->random_left -= (unsigned)len;
    memcpy(out, worker->random + worker->random_left, len);
}

bool kg_worker_notify(struct kg_worker *worker, const struct kg_notice *notice)
{
    int64_t slot = kg_ring_write_slot(&worker->notice_ring);
    if (slot < 0)
        return false;
    worker->notice[slot] = *notice;
    kg_ring_commit(&worker->notice_ring);
    worker->notified = true;
    return true;
}

/* Of reports as of media: what has no room is lost. */
static void on_rtcp(void *ctx, const struct kg_flow *in, const struct kg_addr *source, const uint8_t *data,
                    size_t len)
{
    const struct kg_stream *stream = in->leg->stream;
    struct kg_notice notice = {.type = KG_NOTICE_RTCP,
                               .owner = stream->relay->owner,
                               .side = in->leg->side,
                               .stream = stream->index,
                               .rtcp = in->rtcp,
                               .addr = *source,
                               .packet_len = (uint8_t)(len < KG_NOTICE_PACKET ? len : KG_NOTICE_PACKET)};
    memcpy(notice.packet, data, notice.packet_len);
    kg_worker_notify(ctx, &notice);
}

static void set_limits(struct kg_worker *worker, const struct kg_limits *limits)
{
    worker->limits = *limits;
    worker->limits.ice.random = take_random;
    worker->limits.ice.random_ctx = worker;
    worker->limits.on_rtcp = limits->tell_rtcp ? on_rtcp : NULL;
    worker->limits.on_rtcp_ctx = worker;
}

static void finish(struct kg_worker *worker, struct kg_command *command)
{
    command->next = NULL;
    struct kg_command **last = &worker->finished;
    while (*last)
        last = &(*last)->next;
    *last = command;
}

static void flush_finished(struct kg_worker *worker)
{
    while (worker->finished) {
        struct kg_command *command = worker->finished, *next = command->next;
        if (!kg_worker_notify(worker, &(struct kg_notice){.type = KG_NOTICE_DONE, .command = command}))
            return;
        worker->finished = next; /* command is the control thread's from here on */
    }
}

/* ---- what relays do by themselves ---- */

static int64_t next_ms(const struct kg_relay *relay)
{
    int64_t ice = relay->ice ? kg_relay_ice_next_ms(relay) : INT64_MAX, dtls = kg_secure_next_ms(relay);
    return ice < dtls ? ice : dtls;
}

/* After anything that may have given ICE or DTLS something to say or moved its deadline. */
static void settle(struct kg_worker *worker, struct kg_relay *relay, bool more, int64_t now_ms)
{
    if (relay->untold)
        kg_news_tell(worker, relay);
    if (!relay->touched)
        return;
    relay->touched = false;
    int64_t next = more ? now_ms + 1 : next_ms(relay);
    if (next <= now_ms)
        next = now_ms + 1;
    if (kg_deadlines_set(&worker->due, &relay->due, next) != 0)
        relay->touched = true; /* out of memory: the tick comes by */
}

static void serve(struct kg_worker *worker, struct kg_relay *relay, int64_t now_ms)
{
    relay->touched = true;
    bool more = !kg_batch_send_own(relay, &worker->limits, now_ms);
    settle(worker, relay, more, now_ms);
}

static void serve_due(struct kg_worker *worker, int64_t now_ms)
{
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        struct kg_deadline *due = kg_deadlines_first(&worker->due);
        if (due == NULL || due->at_ms > now_ms)
            return;
        struct kg_relay *relay = (void *)((uint8_t *)due - offsetof(struct kg_relay, due));
        kg_deadlines_remove(&worker->due, due);
        serve(worker, relay, now_ms);
    }
}

static int wait_ms(const struct kg_worker *worker)
{
    const struct kg_deadline *due = kg_deadlines_first(&worker->due);
    if (due == NULL)
        return TICK_MS;
    int64_t wait = due->at_ms - kg_mono_ms();
    return wait < 0 ? 0 : wait < TICK_MS ? (int)wait : TICK_MS;
}

/* ---- packets and commands ---- */

static void read_flow(struct kg_worker *worker, struct kg_flow *flow, int64_t now_us)
{
    struct kg_relay *relay = flow->leg->stream->relay;
    if (relay->secured && worker->handshakes >= HANDSHAKES_MAX && kg_secure_is_dear(flow))
        return; /* epoll says so again */
    kg_batch_relay(&worker->batch, flow, &worker->limits, now_us);
    if (relay->touched || relay->untold) {
        worker->handshakes += relay->handshakes;
        relay->handshakes = 0;
        settle(worker, relay, false, now_us / 1000);
    }
    if (flow->untold)
        kg_news_latched(worker, flow);
}

static void grant(struct kg_worker *worker, struct kg_relay *relay, const struct kg_grant *g)
{
    struct kg_leg *leg = &relay->stream[g->stream]->leg[g->side];
    struct kg_flow *flow[2] = {&leg->rtp, &leg->rtcp};
    for (int i = 0; i < 2; i++) {
        if (flow[i]->fd >= 0) /* moved; packets already read go on, what waits in the old one is lost */
            close(flow[i]->fd);
        flow[i]->tos = 0;
        flow[i]->fd = g->fd[i];
        flow[i]->ipv6 = g->ipv6;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow[i]};
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, g->fd[i], &event) != 0)
            kg_error("worker",
                     "a media socket cannot be watched (%s): one stream of a call stays silent; raise "
                     "fs.epoll.max_user_watches",
                     strerror(errno));
    }
}

static void restore(struct kg_relay *relay, const struct kg_latched *latched, int64_t now_ms)
{
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < relay->stream_count; i++) {
            if (relay->stream[i] == NULL)
                continue;
            struct kg_leg *leg = &relay->stream[i]->leg[side];
            kg_relay_restore(&leg->rtp, &latched->addr[side][i][0], latched->proof[side][i][0], now_ms);
            kg_relay_restore(&leg->rtcp, &latched->addr[side][i][1], latched->proof[side][i][1], now_ms);
        }
    }
}

static void change(struct kg_worker *worker, struct kg_command *command, int64_t now_ms)
{
    struct kg_relay *relay = command->relay;
    if (command->adopt) {
        relay->next = worker->relays;
        relay->prev = &worker->relays;
        if (relay->next)
            relay->next->prev = &relay->next;
        worker->relays = relay;
    }
    for (unsigned i = 0; i < KG_MEDIA_STREAMS_MAX; i++) {
        if (command->stream[i])
            kg_relay_add_stream(relay, command->stream[i]);
        command->stream[i] = NULL;
    }
    /* Described before the first packet is read. */
    for (unsigned side = 0; side < 2; side++) {
        if (command->side[side] && kg_relay_describe(relay, side, command->side[side], now_ms) != 0)
            kg_error("worker", "out of memory: a change of a call's media was ignored");
    }
    if (kg_relay_change_ice(relay, command->ice, command->side, &worker->limits, now_ms) != 0)
        kg_error("worker", "out of memory: a call's ICE was ignored, and its media stays silent");
    if (kg_relay_change_secure(relay, command->secure, command->side, now_ms) != 0)
        kg_error("worker", "out of memory: the keys of a call were ignored, and its media stays silent");
    kg_relay_set_answered(relay, command->answered, now_ms);
    if (command->restore)
        restore(relay, command->restore, now_ms);
    for (unsigned i = 0; i < command->grant_count; i++)
        grant(worker, relay, &command->grant[i]);
    if (relay->ice && kg_relay_ice_is_idle(relay))
        kg_relay_ice_free(relay);
    if (relay->ice || relay->secured)
        serve(worker, relay, now_ms);
    else
        kg_deadlines_remove(&worker->due, &relay->due);
    kg_command_free(command);
}

static void fill_report(const struct kg_relay *relay, struct kg_report *report, int64_t now_ms)
{
    report->stream_count = relay->stream_count;
    for (unsigned i = 0; i < relay->stream_count; i++) {
        const struct kg_stream *stream = relay->stream[i];
        for (unsigned side = 0; stream && side < 2; side++) {
            const struct kg_leg *leg = &stream->leg[side];
            kg_leg_stats(leg, now_ms, &report->stats[side][i]);
            report->latched.addr[side][i][0] = leg->rtp.latch.remote;
            report->latched.addr[side][i][1] = leg->rtcp.latch.remote;
            report->latched.proof[side][i][0] = leg->rtp.latch.proof;
            report->latched.proof[side][i][1] = leg->rtcp.latch.proof;
        }
    }
}

static void list_pairs(const struct kg_relay *relay, struct kg_report *report)
{
    if (relay->ice)
        report->pair = calloc(KG_MEDIA_PAIRS_MAX, sizeof *report->pair);
    if (report->pair)
        report->pair_count = kg_relay_ice_pairs(relay, report->pair, KG_MEDIA_PAIRS_MAX);
}

static void close_sockets(struct kg_relay *relay)
{
    for (unsigned i = 0; i < relay->stream_count; i++) {
        for (unsigned side = 0; relay->stream[i] && side < 2; side++) {
            struct kg_leg *leg = &relay->stream[i]->leg[side];
            kg_socket_close_pair((int[2]){leg->rtp.fd, leg->rtcp.fd}); /* leaves the epoll set with it */
            leg->rtp.fd = leg->rtcp.fd = -1;
        }
    }
}

static void remove_relay(struct kg_worker *worker, struct kg_relay *relay)
{
    close_sockets(relay);
    kg_deadlines_remove(&worker->due, &relay->due);
    *relay->prev = relay->next;
    if (relay->next)
        relay->next->prev = relay->prev;
    relay->next = worker->removed;
    worker->removed = relay;
}

static void free_removed(struct kg_worker *worker)
{
    while (worker->removed) {
        struct kg_relay *relay = worker->removed;
        worker->removed = relay->next;
        kg_relay_free(relay);
    }
}

static void execute(struct kg_worker *worker, struct kg_command *command, int64_t now_ms)
{
    switch (command->type) {
    case KG_COMMAND_CHANGE:
        change(worker, command, now_ms);
        return;
    case KG_COMMAND_REMOVE:
        fill_report(command->relay, command->report, now_ms);
        list_pairs(command->relay, command->report);
        remove_relay(worker, command->relay);
        finish(worker, command);
        return;
    case KG_COMMAND_REPORT:
        fill_report(command->relay, command->report, now_ms);
        list_pairs(command->relay, command->report);
        finish(worker, command);
        return;
    case KG_COMMAND_LIMITS:
        set_limits(worker, &command->limits);
        break;
    case KG_COMMAND_STOP:
        worker->stopping = true;
        break;
    }
    kg_command_free(command);
}

static void run_commands(struct kg_worker *worker, int64_t now_ms)
{
    int64_t slot;
    while ((slot = kg_ring_read_slot(&worker->command_ring)) >= 0) {
        struct kg_command *command = worker->command[slot];
        kg_ring_done(&worker->command_ring);
        execute(worker, command, now_ms);
    }
}

static void tick(struct kg_worker *worker, int64_t now_ms)
{
    worker->next_tick_ms = now_ms + TICK_MS;
    for (struct kg_relay *relay = worker->relays; relay; relay = relay->next) {
        kg_news_latches(worker, relay);
        if (relay->ice)
            kg_relay_ice_tick(relay, &worker->limits, now_ms);
        settle(worker, relay, false, now_ms);
        struct kg_notice notice = {.type = KG_NOTICE_SILENT, .owner = relay->owner};
        notice.reason = kg_relay_silence(relay, &worker->limits, now_ms);
        if (notice.reason == NULL && relay->silent && now_ms - relay->silent_ms >= REMIND_MS) {
            relay->silent_ms = now_ms;
            notice.reason = "still no packet, and signalling did not end the call";
            if (++relay->reminders >= REMIND_MAX)
                notice.type = KG_NOTICE_ABANDONED;
        }
        if (notice.reason && !kg_worker_notify(worker, &notice))
            relay->silent = false; /* no room: say it at the next tick */
        if (!relay->silent)
            relay->reminders = 0;
    }
}

static void empty_command_fd(const struct kg_worker *worker)
{
    uint64_t count;
    if (read(worker->command_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        kg_error("worker", "reading the command eventfd failed: %s", strerror(errno));
}

static void *work(void *arg)
{
    struct kg_worker *worker = arg;
    struct epoll_event event[EVENTS];
    /* On a busy machine a packet is more urgent than a log line or a registration. Linux gives each thread
     * its own nice value; without the right to raise it we go on as we are. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
    while (!worker->stopping) {
        int count = epoll_wait(worker->epoll_fd, event, EVENTS, wait_ms(worker));
        int64_t now_us = kg_mono_us();
        worker->handshakes = 0;
        /* Commands first: a packet that came with them is judged by the newest description. */
        run_commands(worker, now_us / 1000);
        for (int i = 0; i < count; i++) {
            if (event[i].data.ptr == NULL)
                empty_command_fd(worker);
            else
                read_flow(worker, event[i].data.ptr, now_us);
        }
        serve_due(worker, now_us / 1000);
        free_removed(worker);
        if (now_us / 1000 >= worker->next_tick_ms)
            tick(worker, now_us / 1000);
        flush_finished(worker);
        if (worker->notified) {
            worker->notified = false;
            if (write(worker->wake_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno != EAGAIN)
                kg_error("worker", "cannot wake the control thread: %s", strerror(errno));
        }
        atomic_fetch_add_explicit(&worker->beat, 1, memory_order_relaxed);
    }
    return NULL;
}

static void discard(struct kg_worker *worker)
{
    int64_t slot;
    while ((slot = kg_ring_read_slot(&worker->command_ring)) >= 0) {
        struct kg_command *command = worker->command[slot];
        kg_ring_done(&worker->command_ring);
        for (unsigned i = 0; i < command->grant_count; i++)
            kg_socket_close_pair(command->grant[i].fd);
        if (command->type == KG_COMMAND_CHANGE && command->adopt)
            kg_relay_free(command->relay);
        kg_report_free(command->report);
        kg_command_free(command);
    }
    struct kg_notice notice;
    while (kg_worker_take_notice(worker, &notice)) {
        if (notice.type != KG_NOTICE_DONE)
            continue;
        kg_report_free(notice.command->report);
        kg_command_free(notice.command);
    }
    while (worker->finished) {
        struct kg_command *command = worker->finished;
        worker->finished = command->next;
        kg_report_free(command->report);
        kg_command_free(command);
    }
    while (worker->relays)
        remove_relay(worker, worker->relays);
    free_removed(worker);
}

static void destroy(struct kg_worker *worker)
{
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    if (worker->command_fd >= 0)
        close(worker->command_fd);
    kg_batch_free(&worker->batch);
    kg_deadlines_clear(&worker->due);
    free(worker);
}

struct kg_worker *kg_worker_new(unsigned index, const struct kg_limits *limits, int wake_fd)
{
    struct kg_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        return NULL;
    worker->index = index;
    set_limits(worker, limits);
    worker->wake_fd = wake_fd;
    worker->command_ring.capacity = COMMANDS;
    worker->notice_ring.capacity = NOTICES;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->command_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int error = 0;
    if (worker->epoll_fd < 0 || worker->command_fd < 0 ||
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->command_fd, &event) != 0)
        error = errno;
    if (error == 0)
        error = kg_batch_init(&worker->batch);
    if (error == 0)
        error = pthread_create(&worker->thread, NULL, work, worker);
    if (error != 0) {
        destroy(worker);
        errno = error;
        return NULL;
    }
    char name[16];
    snprintf(name, sizeof name, "kedge-media-%u", index % 1000);
    pthread_setname_np(worker->thread, name);
    return worker;
}

void kg_worker_stop(struct kg_worker *worker)
{
    struct kg_command *stop = calloc(1, sizeof *stop);
    if (stop == NULL || kg_worker_room(worker) == 0)
        abort(); /* the thread still uses what we would free */
    stop->type = KG_COMMAND_STOP;
    kg_worker_send(worker, stop);
    kg_worker_wake(worker);
    pthread_join(worker->thread, NULL);
}

void kg_worker_free(struct kg_worker *worker)
{
    if (worker == NULL)
        return;
    discard(worker);
    destroy(worker);
}

uint32_t kg_worker_room(const struct kg_worker *worker)
{
    return kg_ring_room(&worker->command_ring);
}

void kg_worker_send(struct kg_worker *worker, struct kg_command *command)
{
    int64_t slot = kg_ring_write_slot(&worker->command_ring);
    if (slot < 0)
        abort(); /* the caller asked for room before */
    worker->command[slot] = command;
    kg_ring_commit(&worker->command_ring);
}

bool kg_worker_has_commands(const struct kg_worker *worker)
{
    return kg_ring_room(&worker->command_ring) < COMMANDS;
}

void kg_worker_wake(struct kg_worker *worker)
{
    if (write(worker->command_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno != EAGAIN)
        kg_error("worker", "cannot wake worker %u: %s", worker->index, strerror(errno));
}

bool kg_worker_take_notice(struct kg_worker *worker, struct kg_notice *out)
{
    int64_t slot = kg_ring_read_slot(&worker->notice_ring);
    if (slot < 0)
        return false;
    *out = worker->notice[slot];
    kg_ring_done(&worker->notice_ring);
    return true;
}

uint32_t kg_worker_beat(const struct kg_worker *worker)
{
    return atomic_load_explicit(&worker->beat, memory_order_relaxed);
}
