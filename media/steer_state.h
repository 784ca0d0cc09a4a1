/* What a kg_steer is made of; for media/steer*.c alone. */
#ifndef KG_MEDIA_STEER_STATE_H
#define KG_MEDIA_STEER_STATE_H

#include "ice/stun/message.h"
#include "media/steer.h"

#define KG_STEER_NONE (-1)

/* Of credentials: BEFORE are those before the latest restart. */
enum kg_steer_generation { KG_STEER_NOW, KG_STEER_BEFORE, KG_STEER_GENERATIONS };

struct kg_steer_credentials {
    char *ufrag, *pwd; /* one allocation, ufrag's; NULL: none */
    size_t ufrag_len, pwd_len;
    int64_t until_ms; /* KG_STEER_BEFORE: when they stop to count */
};

/* Under which credentials a request was made: of the side that sent it, and of the other one. */
struct kg_steer_names {
    uint8_t own, other; /* enum kg_steer_generation */
};

enum kg_steer_role { KG_STEER_ROLE_UNKNOWN, KG_STEER_CONTROLLING, KG_STEER_CONTROLLED };

enum kg_steer_source_state {
    KG_STEER_FREE,
    KG_STEER_SEEN,     /* a valid request or suspicious media came from there */
    KG_STEER_VERIFIED, /* it has answered a check; for how long that counts: proven_ms */
};

struct kg_steer_source {
    struct kg_addr addr;
    uint8_t state; /* enum kg_steer_source_state */
    bool suspect;  /* media came from there: its first answer makes it the target */
    bool nominated;
    bool waiting, again;         /* for the answer to our check; asked again after a role conflict */
    uint8_t claimed;             /* enum kg_steer_role: ours in that check */
    uint8_t unanswered;          /* checks of ours in a row; a repeated one counts once */
    struct kg_steer_names names; /* of its latest valid request */
    uint8_t id[KG_STUN_ID];
    uint16_t requests, responses; /* of ours to it, and its answers */
    int32_t rtt_ms;
    int64_t seen_ms, proven_ms;
    int64_t begun_ms;         /* our check: when it got its id */
    int64_t asked_ms, ask_ms; /* when it was sent last; when to send the next (INT64_MAX: none) */
};

/* A request that waits for the other side to be known. */
struct kg_steer_kept {
    struct kg_addr source;
    uint16_t len;  /* 0: none */
    bool unplaced; /* its own side has not been described: not verified as a whole */
    int64_t ms;
    uint8_t data[KG_STEER_KEPT_MAX];
};

/* What we shall answer in the other side's name, as nothing has come from that yet. */
struct kg_steer_vouch {
    struct kg_addr source;
    uint8_t id[KG_STUN_ID];
    bool owed; /* the newest request is unanswered */
    int64_t at_ms;
};

struct kg_steer_peer {
    struct kg_steer_credentials credentials[KG_STEER_GENERATIONS];
    struct kg_steer_source source[KG_STEER_SOURCES];
    struct kg_steer_kept kept;
    struct kg_steer_vouch vouch; /* for the other side, to this one */
    struct kg_addr bound, advertised;
    bool missed;  /* it came not once under credentials that counted for long enough: no vouching for it */
    bool came;    /* it has answered a check with its present password */
    int target;   /* KG_STEER_NONE, or index of source */
    uint8_t role; /* enum kg_steer_role, as in its latest request */
    int64_t described_ms; /* its present credentials */
    int64_t proven_ms, suspect_ms, nominated_ms;
    int64_t answered_ms; /* latest answer to a check of our own; -1: none */
    int64_t consent_ms;  /* when the target is asked next */
};

/* A request of sources[side][from], passed on to sources[other][to]. */
struct kg_steer_pending {
    uint8_t id[KG_STUN_ID];
    uint8_t side, from, to;
    uint8_t owed; /* responses that may still come; 0: known only as a guard against replays */
    bool nominates;
    int64_t ms; /* 0: free */
};

struct kg_steer {
    struct kg_steer_peer peer[2];
    struct kg_steer_pending pending[KG_STEER_PENDING];
    uint32_t consent_ms, proof_ms;
    void (*random)(void *ctx, void *out, size_t len);
    void *random_ctx;
};

static inline bool kg_steer_counts(const struct kg_steer_credentials *c, int64_t now_ms)
{
    return c->ufrag != NULL && now_ms < c->until_ms;
}

static inline bool kg_steer_is_described(const struct kg_steer_peer *peer)
{
    return peer->credentials[KG_STEER_NOW].ufrag != NULL;
}

/* ---- steer_source.c: a side's sources by index, KG_STEER_NONE: there is none ---- */

/* Verified, and its proof has not expired. */
bool kg_steer_is_live(const struct kg_steer *steer, const struct kg_steer_source *source, int64_t now_ms);
int kg_steer_find(const struct kg_steer_peer *peer, const struct kg_addr *addr);
/* The place of the least worthy one if it is new; never the target's. */
int kg_steer_find_or_add(struct kg_steer *steer, enum kg_side side, const struct kg_addr *addr);
/* A check of ours as soon as the last one is KG_ICE_CHALLENGE_MS old. */
void kg_steer_ask(struct kg_steer_source *source, int64_t now_ms);
/* The same, unless the last one is not: repeated requests do not add up. */
void kg_steer_ask_if_quiet(struct kg_steer_source *source, int64_t now_ms);
/* When to ask the target next. */
int64_t kg_steer_consent_at(struct kg_steer *steer, int64_t now_ms);
/* These return true if the target is another one than before. */
bool kg_steer_aim(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int64_t now_ms);
/* Media goes to no target whose proof has expired, but to the next best. */
bool kg_steer_replace_expired(struct kg_steer *steer, struct kg_steer_peer *peer, int64_t now_ms);
/* The source has answered, with the password of that generation. */
bool kg_steer_prove(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int generation,
                    int64_t now_ms);
/* USE-CANDIDATE from or to that source succeeded. Agents that nominate aggressively do so for several; media
 * tells which they mean. */
bool kg_steer_nominate(struct kg_steer *steer, struct kg_steer_peer *peer, int at, int64_t now_ms);

#endif
