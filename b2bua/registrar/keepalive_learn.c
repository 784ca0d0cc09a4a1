#include "b2bua/registrar/keepalive_learn.h"

#include <stdio.h>

/* The next length tried: longer by a quarter, so that one too long is little too long. */
#define GROWTH_NUM 5
#define GROWTH_DEN 4
/* Less than this part of the interval more is not worth a trial. */
#define WORTH 16
/* So many trials of a length must succeed before it is used. */
#define TRIALS 2
/* A trial ends so long before the REGISTER that would repair what it breaks. */
#define TRIAL_MARGIN_MS 4000
/* The part of a length that broke the mapping which is never exceeded again for a day, in percent. */
#define MARGIN_PERCENT 80
#define REMEMBER_MS    (24 * 3600 * 1000LL)
/* Over UDP an OPTIONS may be lost: so many, so far apart, before the phone counts as silent. */
#define TRIES    3
#define RETRY_MS 1000
/* A silent phone is asked so many times more before its contact goes: with the start value of 25 s that is
 * 75 s, about as long as its registration would last anyway. */
#define ROUNDS 3

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t tries(const struct kg_learn_bounds *b)
{
    return b->stream ? 1 : TRIES;
}

/* The start value may be configured outside of the bounds: it is one then. */
static uint32_t lowest(const struct kg_learn_bounds *b)
{
    return smaller(b->min_ms, b->start_ms);
}

static uint32_t highest(const struct kg_learn *l, const struct kg_learn_bounds *b)
{
    uint32_t max = b->max_ms > b->start_ms ? b->max_ms : b->start_ms;
    uint32_t safe = (uint32_t)((uint64_t)l->broken_ms * MARGIN_PERCENT / 100);

    if (l->broken_ms == 0 || safe > max)
        return max;
    return safe > lowest(b) ? safe : lowest(b);
}

void kg_learn_start(struct kg_learn *l, const struct kg_learn_bounds *b)
{
    *l = (struct kg_learn){.interval_ms = b->start_ms};
}

void kg_learn_restore(struct kg_learn *l, const struct kg_learn_bounds *b, uint32_t interval_ms,
                      uint32_t proven_ms, uint32_t broken_ms, int64_t broken_at_ms, int64_t wall_ms)
{
    kg_learn_start(l, b);
    if (broken_ms > 0 && wall_ms - broken_at_ms < REMEMBER_MS && broken_at_ms <= wall_ms) {
        l->broken_ms = broken_ms;
        l->broken_at_ms = broken_at_ms;
    }
    if (proven_ms == 0)
        return;
    l->state = KG_LEARN_GROWING;
    l->proven_ms = proven_ms;
    l->interval_ms = smaller(interval_ms, highest(l, b));
    if (l->interval_ms < lowest(b))
        l->interval_ms = lowest(b);
}

/* --- when to ask ------------------------------------------------------------------------------------------
 */

static uint32_t next_length(const struct kg_learn *l, const struct kg_learn_bounds *b)
{
    return smaller((uint32_t)((uint64_t)l->interval_ms * GROWTH_NUM / GROWTH_DEN), highest(l, b));
}

/* The phone was just heard. */
static int64_t next_due(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms)
{
    uint32_t length = next_length(l, b);
    int64_t rest_ms = l->registered_ms + l->rhythm_ms - now_ms - TRIAL_MARGIN_MS - length;

    l->trial_ms = 0;
    if (l->state == KG_LEARN_WAITING)
        return now_ms + b->start_ms;
    l->state = length > l->interval_ms + l->interval_ms / WORTH ? KG_LEARN_GROWING : KG_LEARN_SETTLED;
    if (l->state == KG_LEARN_SETTLED || l->rhythm_ms == 0 || rest_ms < 0 || rest_ms > l->interval_ms)
        return now_ms + l->interval_ms;
    if (rest_ms >
        RETRY_MS) /* from where the trial ends in time, and a little earlier: the answer takes time */
        return now_ms + rest_ms - RETRY_MS / 2;
    l->trial_ms = length;
    return now_ms + length;
}

int64_t kg_learn_ask(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms)
{
    bool used_to_answer = l->state == KG_LEARN_GROWING || l->state == KG_LEARN_SETTLED;

    if (used_to_answer && l->unanswered >= tries(b)) {
        l->state = KG_LEARN_SILENT;
        used_to_answer = false;
    }
    if (l->unanswered++ == 0)
        l->asked_ms = now_ms;
    if (used_to_answer && !b->stream)
        return now_ms + smaller(RETRY_MS, l->interval_ms / 8);
    return now_ms + smaller(b->start_ms, l->interval_ms);
}

/* --- what follows -----------------------------------------------------------------------------------------
 */

/* A silence was too long. A much shorter one than the phone has survived before says that the phone was away,
 * not that the NAT forgot it. */
static void broke(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t silence_ms, int64_t wall_ms)
{
    if (l->heard_ms == 0 || silence_ms < l->proven_ms / 2 || silence_ms < lowest(b))
        return;
    if (l->broken_ms == 0 || silence_ms < l->broken_ms)
        l->broken_ms = (uint32_t)silence_ms;
    l->broken_at_ms = wall_ms;
    l->interval_ms = smaller(l->interval_ms, highest(l, b));
    l->proven_ms = smaller(l->proven_ms, l->interval_ms);
    l->trials = 0;
}

static void forget_old(struct kg_learn *l, int64_t wall_ms)
{
    if (wall_ms - l->broken_at_ms >= REMEMBER_MS)
        l->broken_ms = 0;
}

static void trial_succeeded(struct kg_learn *l)
{
    if (++l->trials < TRIALS)
        return;
    l->trials = 0;
    l->interval_ms = l->trial_ms;
}

int64_t kg_learn_answered(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms,
                          int64_t wall_ms)
{
    int64_t silence_ms = l->heard_ms > 0 ? l->asked_ms - l->heard_ms : 0;

    forget_old(l, wall_ms);
    /* Also out of SILENT: without a REGISTER in between the mapping was there all the time. The network was
     * away, or the phone. */
    if (l->state == KG_LEARN_WAITING || l->state == KG_LEARN_SILENT)
        l->state = KG_LEARN_GROWING;
    else if (l->unanswered > 0 && l->trial_ms > 0 && silence_ms >= l->trial_ms)
        trial_succeeded(l);
    if (l->unanswered > 0 && silence_ms > l->proven_ms)
        l->proven_ms = (uint32_t)smaller((uint32_t)silence_ms, highest(l, b));
    if (l->proven_ms == 0)
        l->proven_ms = 1; /* it answers, whatever the silence was */
    l->heard_ms = now_ms;
    l->unanswered = 0;
    return next_due(l, b, now_ms);
}

/* The phone took so much of what it had been granted; it will take as much of this. */
static uint32_t expected_ms(const struct kg_learn *l, uint32_t granted_ms, int64_t now_ms)
{
    int64_t gap_ms = now_ms - l->registered_ms;

    if (l->registered_ms == 0 || l->granted_ms == 0 || gap_ms > l->granted_ms)
        return 0;
    return (uint32_t)(gap_ms * granted_ms / l->granted_ms);
}

int64_t kg_learn_registered(struct kg_learn *l, const struct kg_learn_bounds *b, bool moved,
                            uint32_t granted_ms, int64_t now_ms, int64_t wall_ms)
{
    bool answers = l->proven_ms > 0;

    forget_old(l, wall_ms);
    if (answers && ((!b->stream && l->unanswered >= TRIES) || (moved && l->unanswered > 0)))
        broke(l, b, l->asked_ms - l->heard_ms, wall_ms);
    else if (answers && moved && now_ms - l->heard_ms > l->proven_ms)
        broke(l, b, now_ms - l->heard_ms, wall_ms);
    l->rhythm_ms = expected_ms(l, granted_ms, now_ms);
    l->granted_ms = granted_ms;
    l->registered_ms = l->heard_ms = now_ms;
    l->unanswered = 0;
    l->state = answers ? KG_LEARN_GROWING : KG_LEARN_WAITING;
    return next_due(l, b, now_ms);
}

void kg_learn_closed(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms, int64_t wall_ms)
{
    (void)now_ms;
    if (l->proven_ms > 0 && l->unanswered > 0)
        broke(l, b, l->asked_ms - l->heard_ms, wall_ms);
    l->unanswered = 0;
    l->heard_ms = 0;
}

bool kg_learn_is_gone(const struct kg_learn *l, const struct kg_learn_bounds *b)
{
    return !b->stream && l->state == KG_LEARN_SILENT && l->unanswered >= TRIES + ROUNDS;
}

/* --- for people -------------------------------------------------------------------------------------------
 */

const char *kg_learn_state_name(enum kg_learn_state state)
{
    static const char *const names[] = {"waiting", "growing", "settled", "silent"};

    return names[state];
}

void kg_learn_words(const struct kg_learn *l, const struct kg_learn_bounds *b, char *out, size_t size)
{
    unsigned every = (l->interval_ms + 500) / 1000;

    switch (l->state) {
    case KG_LEARN_WAITING:
        snprintf(out, size, "every %u s; the phone has never answered one, so it stays at that", every);
        break;
    case KG_LEARN_GROWING:
        snprintf(out, size, "every %u s; longer ones are tried, up to %u s", every,
                 (highest(l, b) + 500) / 1000);
        break;
    case KG_LEARN_SETTLED:
        if (l->broken_ms > 0)
            snprintf(out, size, "every %u s; after %u s of silence the NAT had forgotten the phone", every,
                     (l->broken_ms + 500) / 1000);
        else
            snprintf(out, size, "every %u s, the longest allowed", every);
        break;
    case KG_LEARN_SILENT:
        snprintf(out, size, "%u unanswered; it used to answer", l->unanswered);
        break;
    }
}
