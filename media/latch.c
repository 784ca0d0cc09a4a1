#include "media/latch.h"

enum kg_proof kg_latch_rank(const struct kg_latch_rules *rules, const struct kg_addr *source)
{
    if (!kg_addr_is_usable(source))
        return KG_PROOF_NONE;
    if (kg_addr_is_set(&rules->sdp)) {
        if (kg_addr_equal(&rules->sdp, source))
            return KG_PROOF_SDP;
        if (rules->sdp_host_plausible && kg_addr_same_host(&rules->sdp, source))
            return KG_PROOF_SAME_ADDRESS;
    }
    if (kg_addr_is_set(&rules->host) && kg_addr_same_host(&rules->host, source))
        return KG_PROOF_SAME_ADDRESS;
    return rules->first_packets ? KG_PROOF_FIRST_PACKETS : KG_PROOF_NONE;
}

static void settle(struct kg_latch *latch, const struct kg_latch_limits *limits, int64_t now_ms)
{
    if (now_ms - latch->since_ms < limits->window_ms)
        return;
    if (latch->state == KG_LATCH_LEARNT)
        latch->state = KG_LATCH_LOCKED;
    if (latch->state != KG_LATCH_REOPENED)
        return;
    /* A remote that no longer fits the rules, or that fell silent when its phone announced another address,
     * leaves the latch waiting for the next source like an open one. */
    bool quiet = now_ms - latch->last_ms >= KG_LATCH_QUIET_MS;
    if (latch->standing != KG_PROOF_NONE && !((latch->moved_in_sdp || latch->elsewhere) && quiet))
        latch->state = KG_LATCH_LOCKED;
}

static bool may_move(const struct kg_latch *latch, enum kg_proof rank, int64_t now_ms)
{
    switch ((enum kg_latch_state)latch->state) {
    case KG_LATCH_OPEN:
        return rank > KG_PROOF_NONE;
    case KG_LATCH_LEARNT:
    case KG_LATCH_LOCKED:
        return rank > latch->standing;
    case KG_LATCH_REOPENED:
        if (rank == latch->standing && rank > KG_PROOF_NONE)
            return latch->moved_in_sdp || now_ms - latch->last_ms >= KG_LATCH_QUIET_MS;
        return rank > latch->standing;
    }
    return false;
}

/* Could a packet of better proof come from the same phone? Then a lesser one has to wait. */
static bool better_possible(const struct kg_latch_rules *rules, enum kg_proof rank,
                            const struct kg_addr *source)
{
    if (rank >= KG_PROOF_SDP)
        return false;
    return rank == KG_PROOF_FIRST_PACKETS || kg_addr_same_host(&rules->sdp, source);
}

/* True once the doubtful source has sent the window's packets over KG_LATCH_DOUBT_MS. One candidate at a
 * time; it keeps its place against equals until it falls silent. */
static bool doubt_is_over(struct kg_latch *latch, const struct kg_latch_limits *limits, enum kg_proof rank,
                          const struct kg_addr *source, int64_t now_ms)
{
    bool same = kg_addr_is_set(&latch->doubt) && kg_addr_equal(&latch->doubt, source);
    bool stale = now_ms - latch->doubt_last_ms >= KG_LATCH_QUIET_MS;
    if (same || stale || !kg_addr_is_set(&latch->doubt) || rank > latch->doubt_proof)
        latch->doubt_last_ms = now_ms;
    else
        return false;
    if (!same || stale) {
        latch->doubt = *source;
        latch->doubt_proof = (uint8_t)rank;
        latch->doubt_packets = 1;
        latch->doubt_ms = now_ms;
        return limits->packets <= 1;
    }
    if (latch->doubt_packets < UINT8_MAX)
        latch->doubt_packets++;
    return latch->doubt_packets >= limits->packets && now_ms - latch->doubt_ms >= KG_LATCH_DOUBT_MS;
}

static enum kg_latch_verdict move(struct kg_latch *latch, const struct kg_addr *source, enum kg_proof proof,
                                  enum kg_latch_state state, int64_t now_ms)
{
    latch->remote = *source;
    latch->proof = latch->standing = (uint8_t)proof;
    latch->state = (uint8_t)state;
    latch->packets = 1;
    latch->since_ms = latch->last_ms = now_ms;
    latch->moved_in_sdp = latch->elsewhere = false;
    latch->doubt = (struct kg_addr){0};
    return KG_LATCH_MOVED;
}

enum kg_latch_verdict kg_latch_packet_slow(struct kg_latch *latch, const struct kg_latch_rules *rules,
                                           const struct kg_latch_limits *limits, const struct kg_addr *source,
                                           bool looks_right, int64_t now_ms)
{
    settle(latch, limits, now_ms);
    if (latch->proof != KG_PROOF_NONE && kg_addr_equal(&latch->remote, source)) {
        latch->last_ms = now_ms;
        if (latch->state == KG_LATCH_LEARNT && ++latch->packets >= limits->packets)
            latch->state = KG_LATCH_LOCKED;
        return KG_LATCH_ACCEPTED;
    }
    if (!looks_right)
        return KG_LATCH_REFUSED;
    enum kg_proof rank = kg_latch_rank(rules, source);
    if (!may_move(latch, rank, now_ms))
        return KG_LATCH_REFUSED;
    if (better_possible(rules, rank, source) && !doubt_is_over(latch, limits, rank, source, now_ms))
        return KG_LATCH_REFUSED;
    enum kg_latch_state state = limits->packets <= 1 ? KG_LATCH_LOCKED : KG_LATCH_LEARNT;
    return move(latch, source, rank, state, now_ms);
}

enum kg_latch_verdict kg_latch_genuine(struct kg_latch *latch, const struct kg_latch_limits *limits,
                                       const struct kg_addr *source, bool newest, int64_t now_ms)
{
    settle(latch, limits, now_ms);
    bool known = latch->proof != KG_PROOF_NONE;
    if (known && kg_latch_same_source(&latch->remote, source)) {
        latch->last_ms = now_ms;
        latch->proof = latch->standing = KG_PROOF_SRTP;
        /* A description that names another address may be ahead of the phone's packets. */
        if (latch->state != KG_LATCH_REOPENED || now_ms - latch->since_ms >= limits->window_ms)
            latch->state = KG_LATCH_LOCKED;
        return KG_LATCH_ACCEPTED;
    }
    if (known && !newest)
        return KG_LATCH_ACCEPTED;
    if (!kg_addr_is_usable(source))
        return KG_LATCH_REFUSED;
    return move(latch, source, KG_PROOF_SRTP, KG_LATCH_LOCKED, now_ms);
}

void kg_latch_reopen(struct kg_latch *latch, const struct kg_latch_rules *rules, bool sdp_changed,
                     bool elsewhere, int64_t now_ms)
{
    latch->doubt = (struct kg_addr){0};
    if (latch->state == KG_LATCH_OPEN)
        return;
    latch->state = KG_LATCH_REOPENED;
    latch->standing = (uint8_t)kg_latch_rank(rules, &latch->remote);
    latch->moved_in_sdp = sdp_changed && latch->standing < KG_PROOF_SDP;
    /* Until a source has moved the latch: the next description may come before its packets do. */
    latch->elsewhere = (elsewhere || latch->elsewhere) && !kg_addr_same_host(&rules->host, &latch->remote);
    if (latch->elsewhere && latch->standing > KG_PROOF_SAME_ADDRESS)
        latch->standing = KG_PROOF_SAME_ADDRESS;
    latch->since_ms = now_ms;
}

void kg_latch_restore(struct kg_latch *latch, const struct kg_addr *remote, enum kg_proof proof,
                      int64_t now_ms)
{
    if (proof == KG_PROOF_NONE || !kg_addr_is_usable(remote))
        return;
    *latch = (struct kg_latch){.state = KG_LATCH_LOCKED,
                               .proof = (uint8_t)proof,
                               .standing = (uint8_t)proof,
                               .remote = *remote,
                               .since_ms = now_ms,
                               .last_ms = now_ms};
}

const struct kg_addr *kg_latch_target(const struct kg_latch *latch, const struct kg_latch_rules *rules)
{
    bool early = rules->send_early && kg_addr_is_usable(&rules->sdp);
    /* The phone has just told us a new address that we may use before it is proven: it listens there now. */
    bool newer = latch->state == KG_LATCH_REOPENED && latch->moved_in_sdp && early;
    if (latch->proof != KG_PROOF_NONE && !newer)
        return &latch->remote;
    return early ? &rules->sdp : NULL;
}
