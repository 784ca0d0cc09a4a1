#include "b2bua/call/fork.h"

unsigned kg_fork_round(const uint16_t *q, unsigned from, unsigned count, bool parallel)
{
    unsigned to = from;
    while (to < count && (to == from || (parallel && q[to] == q[from])))
        to++;
    return to - from;
}

unsigned kg_fork_rounds(const uint16_t *q, unsigned count, bool parallel)
{
    unsigned rounds = 0;
    for (unsigned from = 0; from < count; from += kg_fork_round(q, from, count, parallel))
        rounds++;
    return rounds;
}

/* Smaller is better. */
static int rank(int status)
{
    switch (status) {
    case 401: /* the five that RFC 3261 names: a changed request might do */
    case 407:
    case 415:
    case 420:
    case 484:
        return 41;
    case 408: /* nobody said that */
    case 430:
    case 480:
    case 481:
    case 487:
        return 43;
    case 503: /* of kedge it would be untrue (16.7 step 6) */
        return 59;
    default:
        if (status >= 600)
            return 1;
        return status >= 400 && status < 500 ? 42 : status / 100 * 10;
    }
}

bool kg_fork_is_better(int status, int than)
{
    return than == 0 || rank(status) < rank(than);
}

enum kg_fork_verdict kg_fork_judge(const enum kg_branch_state *state, unsigned count, int status)
{
    if (status >= 600)
        return KG_FORK_STOPS;
    for (unsigned i = 0; i < count; i++)
        if (state[i] != KG_BRANCH_OVER)
            return KG_FORK_GOES_ON;
    return KG_FORK_FAILED;
}
