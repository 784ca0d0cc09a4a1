#include "b2bua/cdr/cdr.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "b2bua/cdr/file.h"
#include "conf/clock.h"
#include "conf/log.h"

/* A file that could not be written is tried again after this. */
#define RETRY_MS 1000
/* At the end, how long what waits may take. */
#define GOODBYE_MS 2000

struct line {
    json_t *record;
    struct line *prev, *next;
};

struct kg_cdr {
    pthread_t thread;
    pthread_mutex_t lock; /* guards everything down to `waiting` */
    pthread_cond_t woken;
    struct kg_cdr_settings settings;
    bool changed, ending;
    struct line *waiting; /* oldest first */
    size_t count;
    uint64_t lost;
    bool on;                 /* signalling thread only */
    struct kg_cdr_file file; /* the writer's only */
    bool failing;
};

static struct kg_cdr_settings settings_of(const struct kg_config *config)
{
    struct kg_cdr_settings settings = {.max_bytes = (uint64_t)config->cdr.rotate_megabytes << 20,
                                       .max_age_ms = config->cdr.rotate_every_ms,
                                       .keep = config->cdr.keep};
    snprintf(settings.path, sizeof settings.path, "%s", config->cdr.file);
    return settings;
}

static void line_free(struct line *line)
{
    json_decref(line->record);
    free(line);
}

/* ---- the writer's thread ---- */

/* One line, or why not. Jansson escapes control characters; ASCII alone leaves nothing that a terminal would
 * obey. */
static int write_line(struct kg_cdr *cdr, const struct line *line)
{
    char *text = json_dumps(line->record, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text)
        return 0; /* not writable in any file: there is no use in trying again */
    int error = kg_cdr_file_append(&cdr->file, text, kg_wall_ms());
    free(text);
    return error;
}

static void say(struct kg_cdr *cdr, int error)
{
    if (error && !cdr->failing)
        kg_error("cdr",
                 "cannot write call records to %s: %s; they wait (at most %d), free space or mend cdr.file",
                 cdr->file.settings.path, strerror(error), KG_CDR_WAITING_MAX);
    else if (!error && cdr->failing)
        kg_info("cdr", "call records are written to %s again", cdr->file.settings.path);
    cdr->failing = error != 0;
}

static void give_back(struct kg_cdr *cdr, struct line *batch)
{
    size_t count;
    struct line *line;
    DL_COUNT(batch, line, count);
    pthread_mutex_lock(&cdr->lock);
    DL_CONCAT(batch, cdr->waiting);
    cdr->waiting = batch;
    cdr->count += count;
    pthread_mutex_unlock(&cdr->lock);
}

/* Writes as much as goes. */
static int write_batch(struct kg_cdr *cdr, struct line **batch)
{
    struct line *line, *next;
    int error = 0;
    DL_FOREACH_SAFE(*batch, line, next)
    {
        error = write_line(cdr, line);
        if (error)
            break;
        DL_DELETE(*batch, line);
        line_free(line);
    }
    say(cdr, error);
    return error;
}

static struct timespec in_ms(int64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + ms % 1000 * 1000000;
    return (struct timespec){.tv_sec = at.tv_sec + ms / 1000 + ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static void *run(void *arg)
{
    struct kg_cdr *cdr = arg;
    int error = 0;
    for (;;) {
        struct timespec again = in_ms(RETRY_MS);
        pthread_mutex_lock(&cdr->lock);
        while (!cdr->changed && !cdr->ending && (!cdr->waiting || error))
            if (pthread_cond_timedwait(&cdr->woken, &cdr->lock, &again) == ETIMEDOUT)
                break;
        struct line *batch = cdr->waiting;
        bool ending = cdr->ending, changed = cdr->changed;
        struct kg_cdr_settings settings = cdr->settings;
        cdr->waiting = NULL;
        cdr->count = 0;
        cdr->changed = false;
        pthread_mutex_unlock(&cdr->lock);
        if (changed)
            kg_cdr_file_configure(&cdr->file, &settings);
        error = batch ? write_batch(cdr, &batch) : 0;
        if (batch)
            give_back(cdr, batch);
        if (ending)
            break; /* one attempt: a dead disk must not hold the process */
    }
    kg_cdr_file_close(&cdr->file);
    return NULL;
}

/* ---- the signalling thread ---- */

struct kg_cdr *kg_cdr_new(const struct kg_config *config)
{
    struct kg_cdr *cdr = calloc(1, sizeof *cdr);
    pthread_condattr_t monotonic;
    sigset_t all, before;
    if (!cdr)
        return NULL;
    cdr->settings = settings_of(config);
    cdr->on = cdr->settings.path[0] != '\0';
    cdr->changed = true;
    kg_cdr_file_init(&cdr->file);
    pthread_mutex_init(&cdr->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&cdr->woken, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&cdr->thread, NULL, run, cdr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(cdr);
        return NULL;
    }
    return cdr;
}

void kg_cdr_free(struct kg_cdr *cdr)
{
    struct line *line, *next;
    if (!cdr)
        return;
    pthread_mutex_lock(&cdr->lock);
    cdr->ending = true;
    pthread_cond_signal(&cdr->woken);
    pthread_mutex_unlock(&cdr->lock);
    struct timespec by;
    clock_gettime(CLOCK_REALTIME, &by);
    by.tv_sec += GOODBYE_MS / 1000;
    if (pthread_timedjoin_np(cdr->thread, NULL, &by)) {
        kg_error("cdr", "the disk under %s does not answer; %zu call records are lost", cdr->settings.path,
                 cdr->count);
        return; /* the thread still uses it; the process ends now */
    }
    if (cdr->count > 0)
        kg_error("cdr", "%zu call records could not be written to %s and are lost", cdr->count,
                 cdr->settings.path);
    DL_FOREACH_SAFE(cdr->waiting, line, next)
    {
        line_free(line);
    }
    pthread_cond_destroy(&cdr->woken);
    pthread_mutex_destroy(&cdr->lock);
    free(cdr);
}

void kg_cdr_configure(struct kg_cdr *cdr, const struct kg_config *config)
{
    struct kg_cdr_settings settings = settings_of(config);
    pthread_mutex_lock(&cdr->lock);
    cdr->settings = settings;
    cdr->changed = true;
    pthread_cond_signal(&cdr->woken);
    pthread_mutex_unlock(&cdr->lock);
    cdr->on = settings.path[0] != '\0';
}

bool kg_cdr_is_on(const struct kg_cdr *cdr)
{
    return cdr && cdr->on;
}

void kg_cdr_write(struct kg_cdr *cdr, json_t *record)
{
    struct line *line = malloc(sizeof *line);
    pthread_mutex_lock(&cdr->lock);
    if (line && record && cdr->count < KG_CDR_WAITING_MAX) {
        line->record = record;
        DL_APPEND(cdr->waiting, line);
        cdr->count++;
        line = NULL;
        record = NULL;
        pthread_cond_signal(&cdr->woken);
    } else {
        cdr->lost++;
    }
    pthread_mutex_unlock(&cdr->lock);
    free(line);
    json_decref(record);
}

uint64_t kg_cdr_lost(struct kg_cdr *cdr)
{
    pthread_mutex_lock(&cdr->lock);
    uint64_t lost = cdr->lost;
    pthread_mutex_unlock(&cdr->lock);
    return lost;
}
