/* How long the NAT in front of one phone may be left in silence, learnt by trying. Pure: times are handed in.
 *
 * A mapping lives as long as the phone sends (RFC 4787 REQ-5, REQ-6: only packets from inside need refresh
 * it), so what counts is the silence between two packets of the phone: its REGISTERs and its answers to
 * OPTIONS. An OPTIONS that is answered after a silence proves that length; when also its repetitions are lost
 * and the phone then has to register anew, that length was too long.
 *
 * A phone whose mapping is gone cannot be called until its next REGISTER. So a longer silence is only tried
 * shortly before that is due (phones keep their own rhythm): a trial that fails costs what it was too long
 * by, no more. */
#ifndef KG_KEEPALIVE_LEARN_H
#define KG_KEEPALIVE_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kg_learn_bounds {
    uint32_t start_ms, min_ms, max_ms;
    bool stream; /* repeats lost packets by itself */
};

enum kg_learn_state {
    KG_LEARN_WAITING, /* it has never answered: the start value for ever */
    KG_LEARN_GROWING, /* it answers: longer ones are tried */
    KG_LEARN_SETTLED, /* the longest allowed, or just below one that was too long */
    KG_LEARN_SILENT,  /* it used to answer, and does not */
};

/* All zero but by kg_learn_start. */
struct kg_learn {
    enum kg_learn_state state;
    uint32_t interval_ms;
    uint32_t proven_ms;   /* the longest silence after which it answered; 0: none */
    uint32_t broken_ms;   /* one that was too long, for a day; 0: none */
    int64_t broken_at_ms; /* wall clock */

    /* Monotonic, of this process. */
    int64_t heard_ms;      /* the phone's last packet that we know of; 0: unknown */
    int64_t asked_ms;      /* the first OPTIONS after it */
    int64_t registered_ms; /* the last REGISTER; 0: unknown */
    uint32_t granted_ms;   /* for so long */
    uint32_t rhythm_ms;    /* until the next one, as the phone has it; 0: unknown */
    uint32_t unanswered;   /* OPTIONS since it was heard */
    uint32_t trial_ms;     /* the silence being tried; 0: no trial */
    uint32_t trials;       /* of the next length, successful, in a row */
};

/* A phone about which nothing is known. */
void kg_learn_start(struct kg_learn *l, const struct kg_learn_bounds *b);
/* What is remembered of it, in another process; SILENT is forgotten. 0: none. */
void kg_learn_restore(struct kg_learn *l, const struct kg_learn_bounds *b, uint32_t interval_ms,
                      uint32_t proven_ms, uint32_t broken_ms, int64_t broken_at_ms, int64_t wall_ms);

/* Something happened. Each returns when the next OPTIONS is due. wall_ms: for what is remembered a day. */

/* An OPTIONS is being sent. */
int64_t kg_learn_ask(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms);
int64_t kg_learn_answered(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms,
                          int64_t wall_ms);
/* moved: over another port or connection than before. Phones in another network (another host) start anew.
 * granted_ms: for how long; phones register anew after the same part of it each time. */
int64_t kg_learn_registered(struct kg_learn *l, const struct kg_learn_bounds *b, bool moved,
                            uint32_t granted_ms, int64_t now_ms, int64_t wall_ms);
/* Its connection was closed. */
void kg_learn_closed(struct kg_learn *l, const struct kg_learn_bounds *b, int64_t now_ms, int64_t wall_ms);

/* So many OPTIONS in a row say that the phone is gone. */
bool kg_learn_is_gone(const struct kg_learn *l, const struct kg_learn_bounds *b);
/* For people: "every 49 s; longer ones are being tried". */
void kg_learn_words(const struct kg_learn *l, const struct kg_learn_bounds *b, char *out, size_t size);
const char *kg_learn_state_name(enum kg_learn_state state);

#endif
