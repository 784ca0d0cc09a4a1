/* Whether one server answers: what probes and requests tell, and when it is asked again. Pure: now is handed
 * in, in monotonic milliseconds. */
#ifndef KG_ROUTE_HEALTH_H
#define KG_ROUTE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

/* An answer to a probe must come within this: enough for a server far away or busy. */
#define KG_PROBE_LATE_MS 2000
/* While in doubt it is probed so often, whatever is configured; and never more often than this. */
#define KG_PROBE_FAST_MS 500
#define KG_PROBE_MIN_MS  250
/* So many probes in a row without an answer: it is down, 4 s after it fell silent. */
#define KG_PROBES_SILENT_MAX 4
/* Probes under way at once: KG_PROBE_LATE_MS / KG_PROBE_MIN_MS. */
#define KG_PROBES_OPEN_MAX 8
/* The circuit breaker opens after so many requests in a row that failed ... */
#define KG_BREAKER_FAILURES 3
/* ... for this long, and twice as long each time that the request after it fails too. */
#define KG_BREAKER_MIN_MS 2000
#define KG_BREAKER_MAX_MS 60000
/* The one request that tries out a server whose breaker was open has this long to be answered. */
#define KG_TRIAL_MS 5000
/* A longer Retry-After (RFC 3261 21.5.4) is taken for this. */
#define KG_RETRY_AFTER_MAX_S 300
/* Requests to one server that nothing was heard of yet: libsofia walks the list of all that it may have to
 * send again from its beginning. */
#define KG_PEER_UNHEARD_MAX 1000

enum kg_health_state {
    KG_HEALTH_UP,
    KG_HEALTH_DOUBT, /* something was not answered, or it is tried out; it is still asked */
    KG_HEALTH_DOWN
};
/* Why it is down. */
enum kg_health_cause {
    KG_CAUSE_NONE,
    KG_CAUSE_SILENCE, /* no probe was answered */
    KG_CAUSE_BREAKER, /* requests were not answered, though probes are, as far as is known */
    KG_CAUSE_REFUSED, /* requests could not be sent: connection refused or lost, no route */
    KG_CAUSE_BUSY,    /* requests were answered 503 */
    KG_CAUSE_PAUSE,   /* a request was answered 503 with Retry-After */
    KG_CAUSE_ASKED    /* it asked not to be asked: 503 to a probe */
};
/* What became of a request. */
enum kg_outcome {
    KG_OUTCOME_GOOD,        /* any answer but 503 */
    KG_OUTCOME_SILENT,      /* nothing heard in time */
    KG_OUTCOME_UNREACHABLE, /* not sent: connection refused or lost, no route */
    KG_OUTCOME_BUSY         /* 503 */
};
/* Whether a request may go there. */
enum kg_use {
    KG_USE_NOW,
    KG_USE_LAST, /* only if there is nobody else */
    KG_USE_NOT
};

struct kg_probe {
    uint32_t cseq;
    int64_t sent_ms;
    bool open; /* not answered, and not late */
};

struct kg_health {
    enum kg_health_state state;
    enum kg_health_cause cause;
    int64_t since_ms;  /* of the state */
    uint32_t epoch;    /* grows with each doubt: what the server knew before may be lost */
    uint32_t probe_ms; /* 0: it is not probed */
    uint32_t cseq;     /* of the last probe */
    int64_t probe_due_ms;
    struct kg_probe probe[KG_PROBES_OPEN_MAX];
    unsigned silent;   /* probes in a row */
    unsigned failures; /* requests in a row */
    uint32_t open_ms;  /* how long the breaker was open the last time */
    int64_t open_until_ms;
    int64_t trial_until_ms; /* one request is trying it out; 0: nobody */
    bool half_open;         /* the breaker was open, and the next request decides */
    unsigned unheard;       /* requests that nothing was heard of */
    const char *error;      /* the last one, a constant; NULL: none yet */
    int64_t error_ms;
};

void kg_health_init(struct kg_health *health, uint32_t probe_ms, int64_t now_ms);
/* Another interval, from now on. */
void kg_health_set_probe(struct kg_health *health, uint32_t probe_ms, int64_t now_ms);
/* Notes probes that were not answered. True: one is to be sent now, with the number health->cseq. */
bool kg_health_tick(struct kg_health *health, int64_t now_ms);
void kg_health_probe_answered(struct kg_health *health, uint32_t cseq, int status, uint32_t retry_after_s,
                              int64_t now_ms);

enum kg_use kg_health_use(const struct kg_health *health, int64_t now_ms);
/* A request was sent, something was heard of it (or it was given up), and what became of it in the end. */
void kg_health_asked(struct kg_health *health, int64_t now_ms);
void kg_health_heard(struct kg_health *health);
void kg_health_outcome(struct kg_health *health, enum kg_outcome outcome, uint32_t retry_after_s,
                       int64_t now_ms);

const char *kg_health_state_name(enum kg_health_state state);

#endif
