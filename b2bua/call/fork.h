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

/* How many contacts, of those sorted by q, are called at once from `from` on: all of one q if parallel, else
 * one. 0: none is left. */
unsigned kg_fork_round(const uint16_t *q, unsigned from, unsigned count, bool parallel);
/* How many rounds that makes of all. */
unsigned kg_fork_rounds(const uint16_t *q, unsigned count, bool parallel);

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
