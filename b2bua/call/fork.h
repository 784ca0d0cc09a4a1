/* A callee's contacts: which of them are called at once, and what their answers mean together (RFC 3261 16.6,
 * 16.7). Pure: no SIP types, no clock, no allocation. */
#ifndef KG_CALL_FORK_H
#define KG_CALL_FORK_H

#include <stdbool.h>
#include <stdint.h>

/* Contacts of one callee that a call tries. */
#define KG_TARGETS_MAX 10

/* One contact that is being called. */
enum kg_branch_state {
    KG_BRANCH_UNHEARD, /* INVITE sent, no response of any kind */
    KG_BRANCH_HEARD,
    KG_BRANCH_OVER, /* it has failed, or was given up */
};

struct kg_fork_contact {
    uint32_t device; /* contacts of one number are ways to the same phone: one at a time (RFC 5626 5.3) */
    uint16_t q;      /* thousandths (RFC 3261 20.10) */
    bool taken;      /* it has been called, or another way to its phone was good enough */
};

/* The contacts that are called next, at once: of the highest q that is left one way to each phone if
 * parallel, else one. They are taken then. Returns how many; 0: none is left. */
unsigned kg_fork_round(struct kg_fork_contact *contact, unsigned count, bool parallel,
                       uint8_t out[static KG_TARGETS_MAX]);
/* How many rounds all of them are at most. */
unsigned kg_fork_rounds(const struct kg_fork_contact *contact, unsigned count, bool parallel);
/* Another way to the phone of contact `at`, which could not be reached; taken then. -1: there is none. */
int kg_fork_other_way(struct kg_fork_contact *contact, unsigned count, unsigned at);
/* The phone of contact `at` was reached: the other ways to it are of no use any more. */
void kg_fork_reached(struct kg_fork_contact *contact, unsigned count, unsigned at);
/* Whether a refusal says that this way leads nowhere (RFC 5626 5.3.1), and nothing of the phone. said: it
 * came from the network. */
bool kg_fork_is_lost_way(int status, bool said);

/* Whether the caller should rather hear `status` than `than`, both final and not 2xx; 0: nothing yet (RFC
 * 3261 16.7 step 6). A 6xx first; then the lowest class; in it what the caller could act upon, then what a
 * phone said, and last that a phone was not there. */
bool kg_fork_is_better(int status, int than);

enum kg_fork_verdict {
    KG_FORK_GOES_ON, /* others may still answer */
    KG_FORK_FAILED,  /* that was the last one */
    KG_FORK_STOPS,   /* 6xx: the callee wants this call nowhere, the others are cancelled (16.7 step 5) */
};
/* After one of the contacts, whose state is OVER now, was refused with `status`. */
enum kg_fork_verdict kg_fork_judge(const enum kg_branch_state *state, unsigned count, int status);

#endif
