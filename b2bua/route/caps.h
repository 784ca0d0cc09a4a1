/* What each user may call, how often and how much at once: against toll fraud with a stolen password or a
 * phone taken over. Pure: the time is handed in. Whoever makes a call on a user's behalf asks: the INVITE of
 * a phone, the target of its REFER, the contact of its redirection. */
#ifndef KG_ROUTE_CAPS_H
#define KG_ROUTE_CAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/config.h"

/* Users that are remembered at once: those with calls, and those that called within the last minute. When all
 * of them are in use the next one is refused. */
#define KG_CAPS_USERS_MAX 16384
/* A refused user is logged once in so many ms, with the number of refusals in between. */
#define KG_CAPS_SAY_MS 60000

struct kg_caps;
struct kg_caps_user;

enum kg_caps_verdict {
    KG_CAPS_OK,
    KG_CAPS_CALLS,  /* too many at once */
    KG_CAPS_RATE,   /* too many in a minute */
    KG_CAPS_NUMBER, /* not to this number */
    KG_CAPS_FULL,   /* KG_CAPS_USERS_MAX */
};

struct kg_caps_answer {
    enum kg_caps_verdict verdict;
    struct kg_caps_user
        *user;       /* OK: give it back by kg_caps_done when the call ends; NULL: nothing to give back */
    unsigned status; /* else: what to answer, 403 or 503 ... */
    unsigned retry_after_s; /* ... with this; 0: none */
    bool say;               /* log it, with: */
    unsigned held_back;     /* refusals of this user since it was logged last */
};

/* config->caps may change behind the pointer (reload). NULL: no memory. */
struct kg_caps *kg_caps_new(const struct kg_config *config);
void kg_caps_free(struct kg_caps *caps);

/* For a number that cannot be read: no list allows it. */
#define KG_CAPS_UNREADABLE "\x7f"

/* May the user call this number now? On OK the call counts. number: as dialled, unescaped; separators ("-",
 * ".", "(", ")") do not matter. NULL: a user's call that is there already (taken over after a restart): it
 * counts whatever the caps say. */
struct kg_caps_answer kg_caps_ask(struct kg_caps *caps, const char *name, const char *number, int64_t now_ms);
/* Likewise for what is over at once, a message: it counts for the rate, and user of the answer is NULL. */
struct kg_caps_answer kg_caps_ask_once(struct kg_caps *caps, const char *name, const char *number,
                                       int64_t now_ms);
/* The call has ended. refund: it never was one (challenged), and does not count for the rate. */
void kg_caps_done(struct kg_caps *caps, struct kg_caps_user *user, bool refund);
/* The name that was asked for, for a snapshot. */
const char *kg_caps_name(const struct kg_caps_user *user);

/* Whether the user may call this number; nothing is counted. For what a number has become by rewriting. */
bool kg_caps_permit(const struct kg_caps *caps, const char *user, const char *number);
/* "too many calls at once" */
const char *kg_caps_why(enum kg_caps_verdict verdict);

#endif
