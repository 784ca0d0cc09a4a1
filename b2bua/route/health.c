#include "b2bua/route/health.h"

#include <string.h>

static const char *const outcome_error[] = {
    [KG_OUTCOME_SILENT] = "a request was not answered",
    [KG_OUTCOME_UNREACHABLE] = "its connection was refused or lost, or there is no route",
    [KG_OUTCOME_BUSY] = "it answered 503",
};

const char *kg_health_state_name(enum kg_health_state state)
{
    static const char *const name[] = {"up", "doubt", "down"};

    return name[state];
}

void kg_health_init(struct kg_health *h, uint32_t probe_ms, int64_t now_ms)
{
    memset(h, 0, sizeof *h);
    h->since_ms = h->probe_due_ms = now_ms;
    kg_health_set_probe(h, probe_ms, now_ms);
}

void kg_health_set_probe(struct kg_health *h, uint32_t probe_ms, int64_t now_ms)
{
    if (probe_ms != 0 && probe_ms < KG_PROBE_MIN_MS)
        probe_ms = KG_PROBE_MIN_MS;
    if (probe_ms != h->probe_ms)
        h->probe_due_ms = now_ms;
    h->probe_ms = probe_ms;
}

static void become(struct kg_health *h, enum kg_health_state state, enum kg_health_cause cause,
                   int64_t now_ms)
{
    if (h->state != state)
        h->since_ms = now_ms;
    if (h->state == KG_HEALTH_UP && state != KG_HEALTH_UP)
        h->epoch++;
    h->state = state;
    h->cause = cause;
}

static void note_error(struct kg_health *h, const char *error, int64_t now_ms)
{
    h->error = error;
    h->error_ms = now_ms;
}

static void doubt(struct kg_health *h, int64_t now_ms)
{
    if (h->state == KG_HEALTH_UP)
        become(h, KG_HEALTH_DOUBT, KG_CAUSE_NONE, now_ms);
}

static bool has_asked(const struct kg_health *h, enum kg_health_cause how, int64_t now_ms)
{
    return h->state == KG_HEALTH_DOWN && h->cause == how && now_ms < h->open_until_ms;
}

/* Not to be asked for a while, as it said itself. */
static void stand_back(struct kg_health *h, enum kg_health_cause cause, uint32_t retry_after_s,
                       int64_t now_ms)
{
    if (retry_after_s > KG_RETRY_AFTER_MAX_S)
        retry_after_s = KG_RETRY_AFTER_MAX_S;
    h->open_until_ms = now_ms + (int64_t)retry_after_s * 1000;
    h->half_open = false;
    become(h, KG_HEALTH_DOWN, cause, now_ms);
}

/* ---- probes ---- */

static void note_silence(struct kg_health *h, int64_t now_ms)
{
    note_error(h, "a probe (OPTIONS) was not answered", now_ms);
    doubt(h, now_ms);
    if (h->cause == KG_CAUSE_BREAKER) /* then a probe that is answered says enough */
        h->cause = KG_CAUSE_SILENCE;
    if (++h->silent >= KG_PROBES_SILENT_MAX && h->state != KG_HEALTH_DOWN)
        become(h, KG_HEALTH_DOWN, KG_CAUSE_SILENCE, now_ms);
}

static uint32_t interval(const struct kg_health *h)
{
    bool fast = h->state != KG_HEALTH_UP && h->probe_ms > KG_PROBE_FAST_MS;

    return fast ? KG_PROBE_FAST_MS : h->probe_ms;
}

bool kg_health_tick(struct kg_health *h, int64_t now_ms)
{
    if (h->probe_ms == 0)
        return false;
    for (unsigned i = 0; i < KG_PROBES_OPEN_MAX; i++) {
        if (!h->probe[i].open || now_ms - h->probe[i].sent_ms < KG_PROBE_LATE_MS)
            continue;
        h->probe[i].open = false;
        note_silence(h, now_ms);
        if (h->probe_due_ms > now_ms + KG_PROBE_FAST_MS)
            h->probe_due_ms = now_ms; /* it was far off, before there was a doubt */
    }
    if (now_ms < h->probe_due_ms)
        return false;
    h->probe_due_ms = now_ms + interval(h);
    h->cseq++;
    h->probe[h->cseq % KG_PROBES_OPEN_MAX] =
        (struct kg_probe){.cseq = h->cseq, .sent_ms = now_ms, .open = true};
    return true;
}

void kg_health_probe_answered(struct kg_health *h, uint32_t cseq, int status, uint32_t retry_after_s,
                              int64_t now_ms)
{
    struct kg_probe *probe = &h->probe[cseq % KG_PROBES_OPEN_MAX];

    if (probe->cseq == cseq)
        probe->open = false;
    h->silent = 0;
    if (status == 503) {
        note_error(h, "it answered a probe 503", now_ms);
        stand_back(h, KG_CAUSE_ASKED, retry_after_s, now_ms);
        return;
    }
    if (h->state != KG_HEALTH_DOWN) {
        if (!h->half_open)
            become(h, KG_HEALTH_UP, KG_CAUSE_NONE, now_ms);
        return;
    }
    for (unsigned i = 0; i < KG_PROBES_OPEN_MAX; i++)
        h->probe[i].open = false; /* those of before are no news */
    if (now_ms < h->open_until_ms)
        return;
    if (h->cause == KG_CAUSE_BREAKER || h->cause == KG_CAUSE_BUSY) {
        h->half_open = true;
        become(h, KG_HEALTH_DOUBT, KG_CAUSE_NONE, now_ms);
    } else {
        h->failures = 0;
        become(h, KG_HEALTH_UP, KG_CAUSE_NONE, now_ms);
    }
}

/* ---- requests ---- */

enum kg_use kg_health_use(const struct kg_health *h, int64_t now_ms)
{
    bool over = now_ms >= h->open_until_ms && h->probe_ms == 0; /* nobody but a request can tell */

    if (h->unheard >= KG_PEER_UNHEARD_MAX || now_ms < h->trial_until_ms)
        return KG_USE_NOT;
    if (h->state != KG_HEALTH_DOWN || over)
        return KG_USE_NOW;
    /* A 503 to a request is often about one callee, and may be a callee's own: it takes nobody's only server
     * away. */
    return h->cause == KG_CAUSE_BUSY || h->cause == KG_CAUSE_PAUSE ? KG_USE_LAST : KG_USE_NOT;
}

void kg_health_asked(struct kg_health *h, int64_t now_ms)
{
    h->unheard++;
    if (h->half_open || (h->state == KG_HEALTH_DOWN && h->probe_ms == 0 && now_ms >= h->open_until_ms)) {
        h->half_open = true;
        h->trial_until_ms = now_ms + KG_TRIAL_MS;
    }
}

void kg_health_heard(struct kg_health *h)
{
    if (h->unheard > 0)
        h->unheard--;
}

static void open_breaker(struct kg_health *h, enum kg_outcome outcome, int64_t now_ms)
{
    h->open_ms = h->open_ms == 0 ? KG_BREAKER_MIN_MS : h->open_ms * 2;
    if (h->open_ms > KG_BREAKER_MAX_MS)
        h->open_ms = KG_BREAKER_MAX_MS;
    h->open_until_ms = now_ms + h->open_ms;
    h->half_open = false;
    become(h, KG_HEALTH_DOWN,
           outcome == KG_OUTCOME_BUSY          ? KG_CAUSE_BUSY
           : outcome == KG_OUTCOME_UNREACHABLE ? KG_CAUSE_REFUSED
                                               : KG_CAUSE_BREAKER,
           now_ms);
}

static void close_breaker(struct kg_health *h, int64_t now_ms)
{
    h->failures = h->silent = 0;
    h->open_ms = 0;
    h->half_open = false;
    /* What it asked for holds, whatever it answers to requests of before, or to those it gets all the same.
     */
    if (!has_asked(h, KG_CAUSE_ASKED, now_ms) && !has_asked(h, KG_CAUSE_PAUSE, now_ms))
        become(h, KG_HEALTH_UP, KG_CAUSE_NONE, now_ms);
}

void kg_health_outcome(struct kg_health *h, enum kg_outcome outcome, uint32_t retry_after_s, int64_t now_ms)
{
    h->trial_until_ms = 0;
    if (outcome == KG_OUTCOME_GOOD) {
        close_breaker(h, now_ms);
        return;
    }
    note_error(h, outcome_error[outcome], now_ms);
    doubt(h, now_ms);
    h->failures++;
    if (retry_after_s > 0 && !has_asked(h, KG_CAUSE_ASKED, now_ms)) /* which says more */
        stand_back(h, KG_CAUSE_PAUSE, retry_after_s, now_ms);
    else if (h->half_open || (h->failures >= KG_BREAKER_FAILURES && h->state != KG_HEALTH_DOWN))
        open_breaker(h, outcome, now_ms);
}
