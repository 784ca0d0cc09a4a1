#include "b2bua/call/fork.h"

#include <string.h>

static bool is_in(const struct kg_fork_contact *contact, const uint8_t *list, unsigned count, uint32_t device)
{
    for (unsigned i = 0; i < count; i++)
        if (contact[list[i]].device == device)
            return true;
    return false;
}

unsigned kg_fork_round(struct kg_fork_contact *contact, unsigned count, bool parallel,
                       uint8_t out[static KG_TARGETS_MAX])
{
    unsigned found = 0, q = 0;
    for (unsigned i = 0; i < count; i++)
        if (!contact[i].taken && contact[i].q > q)
            q = contact[i].q;
    for (unsigned i = 0; i < count && (parallel || found == 0); i++) {
        if (contact[i].taken || contact[i].q != q || is_in(contact, out, found, contact[i].device))
            continue;
        out[found++] = (uint8_t)i;
        contact[i].taken = true;
    }
    return found;
}

unsigned kg_fork_rounds(const struct kg_fork_contact *contact, unsigned count, bool parallel)
{
    struct kg_fork_contact copy[KG_TARGETS_MAX];
    uint8_t out[KG_TARGETS_MAX];
    unsigned rounds = 0;
    memcpy(copy, contact, count * sizeof copy[0]);
    for (unsigned found; (found = kg_fork_round(copy, count, parallel, out)) > 0; rounds++)
        for (unsigned i = 0; i < found; i++)
            kg_fork_reached(copy, count, out[i]);
    return rounds;
}

int kg_fork_other_way(struct kg_fork_contact *contact, unsigned count, unsigned at)
{
    for (unsigned i = 0; i < count; i++)
        if (!contact[i].taken && contact[i].device == contact[at].device) {
            contact[i].taken = true;
            return (int)i;
        }
    return -1;
}

void kg_fork_reached(struct kg_fork_contact *contact, unsigned count, unsigned at)
{
    for (unsigned i = 0; i < count; i++)
        contact[i].taken |= contact[i].device == contact[at].device;
}

bool kg_fork_is_lost_way(int status, bool said)
{
    return !said || status == 430 || status == 503; /* nta says 503 of a place that refuses packets */
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
