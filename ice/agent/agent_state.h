/* What the files of the agent share; private to ice/agent/.
 *
 * Tables are arrays of slots, referred to by index: they grow only when descriptions come (set_remote,
 * add_local, start), so receiving and polling allocate nothing; what peers cause (peer-reflexive candidates
 * and their pairs) uses the KG_ICE_SPARE slots that are always kept, the least useful one making room.
 *
 * A pair stands for its five-tuple: base of the local candidate and address of the remote one. The valid pair
 * that a check constructs (RFC 8445 7.2.5.3.2) has the same five-tuple, so it is the same slot: `seen` is
 * then the local candidate that the peer saw. */
#ifndef KG_ICE_AGENT_AGENT_STATE_H
#define KG_ICE_AGENT_AGENT_STATE_H

#include "ice/agent/agent.h"
#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "ice/stun/transaction.h"

#define KG_ICE_SPARE 6 /* slots for what peers cause: of locals, remotes and pairs, for each component */
/* Two NATs that map by destination and filter nothing let each triggered check come from a new port, which
 * triggers another, without end: after so many new addresses in a row that did not answer, further ones are
 * only answered. */
#define KG_ICE_UNPROVEN    10
#define KG_ICE_EARLY       8  /* checks remembered before the description they belong to */
#define KG_ICE_REPLIES     4  /* responses between two polls */
#define KG_ICE_SEEN        64 /* requests remembered against replays */
#define KG_ICE_CONSENT_IDS 4  /* consent checks whose answers still count */
#define KG_ICE_STUN_MAX    4  /* servers */
#define KG_ICE_NONE        UINT16_MAX

/* ufrag and pwd of one side in one allocation, shared by those who keep it. */
struct kg_ice_credentials {
    uint16_t keepers;
    const char *ufrag, *pwd; /* into text */
    char text[];
};

/* Credentials of an ICE session (RFC 8445 9: new ones are a new session). Owned. */
struct kg_ice_session {
    struct kg_ice_credentials *local, *remote; /* both NULL: there is none */
};

struct kg_ice_local {
    struct kg_candidate candidate; /* related: the base */
    uint8_t stream;
    bool used;
    bool gone; /* by remove_local: only told, no longer used */
};

struct kg_ice_remote {
    struct kg_candidate candidate;
    uint8_t stream;
    bool used;
    bool old; /* belongs to the session before the restart */
};

struct kg_ice_entry { /* one pair */
    uint16_t local, remote, seen;
    uint16_t group; /* same number: same foundation (RFC 8445 6.1.2.6) */
    uint8_t stream, component;
    uint8_t state; /* enum kg_pair_state */
    bool used;
    bool old;            /* of the session before the restart: kept while it is selected */
    bool valid;          /* a round trip succeeded */
    bool nominated;      /* both sides know that it is chosen */
    bool inherited;      /* nominated in place of a demoted pair, not by the peer */
    bool peer_nominates; /* USE-CANDIDATE came before the pair succeeded (RFC 8445 7.3.1.5) */
    bool nominate;       /* the next check carries USE-CANDIDATE */
    bool demoted;        /* does not answer while the peer was found elsewhere: not to be selected */
    bool refused;        /* not to be checked: reason (target.h) */
    bool expired;        /* consent expired: not used again in this session (RFC 7675 5.1) */
    bool challenged;     /* the check is a challenge: few and quick requests */
    bool sends;   /* media came from there while the selected place was silent: followed when it answers */
    bool roaming; /* came up after the selection, by the peer's doing: raises doubt when it succeeds */
    bool running; /* check is under way */
    bool check_nominates, check_controlling; /* what the running check said */
    uint32_t ticket;                         /* place in the triggered-check queue; 0: not in it */
    uint64_t priority;
    struct kg_stun_transaction check;
    int64_t proven_ms; /* the latest answer; INT64_MIN: never */
    int32_t rtt_ms, won_ms;
    uint16_t requests, responses;
    const char *reason;
};

struct kg_ice_component {
    bool active;
    bool tell_selected; /* events to come */
    bool tell_lost;
    bool lost;        /* consent was lost and nothing took over */
    uint8_t unproven; /* peer-reflexive remotes since one of them answered, KG_ICE_UNPROVEN at most */
    uint8_t repeats;  /* of the latest consent check */
    uint8_t doubts, doubts_max; /* questions asked since doubt_ms, and how many there will be */
    uint16_t selected;          /* pair; KG_ICE_NONE */
    uint16_t found;             /* pair that raised the latest doubt */
    uint16_t asked;             /* pair that the latest consent checks went to */
    uint8_t next_id;
    uint8_t id[KG_ICE_CONSENT_IDS][KG_STUN_ID]; /* of the latest consent checks */
    int64_t sent_ms[KG_ICE_CONSENT_IDS];        /* -1: answered, or none */
    int64_t first_valid_ms;                     /* INT64_MAX: none yet */
    int64_t nominated_ms; /* the first nomination of this session; INT64_MAX: none yet */
    int64_t consent_ms;   /* when to ask again, or to send a keepalive */
    int64_t repeat_ms;    /* when the latest consent check is sent again; INT64_MAX: not */
    int64_t doubt_ms;     /* when the peer was found elsewhere; INT64_MIN: no doubt */
    int64_t challenge_ms; /* the latest */
};

struct kg_ice_stream {
    bool used;
    uint8_t number;
    bool described; /* set_remote was called */
    bool remote_lite, trickle, ended;
    bool heard;                            /* a check of the peer came in this session */
    struct kg_ice_session session, before; /* before: until the new selection */
    int64_t since_ms;                      /* this checklist began, or was added to (patience) */
    int64_t moved_ms;                      /* a component was followed to another place; INT64_MIN */
    struct kg_ice_component component[KG_ICE_COMPONENTS_MAX];
};

/* A check that came before the description it belongs to (RFC 8445 7.3: answered, then remembered). */
struct kg_ice_early {
    uint8_t stream, component; /* component 0: free */
    bool use_candidate;
    uint16_t local;
    uint32_t priority;
    uint32_t peer; /* hash of the peer's ufrag: which of the descriptions to come it belongs to */
    struct kg_addr source;
};

/* An authenticated request. */
struct kg_ice_seen {
    uint32_t id, source; /* hashes */
};

/* A response to be sent. */
struct kg_ice_reply {
    uint8_t stream, component;
    uint16_t code; /* 0: success */
    uint16_t unknown;
    uint8_t id[KG_STUN_ID];
    struct kg_addr base, to;
    const struct kg_ice_credentials *local; /* whose pwd signs */
};

enum kg_ice_query_state { KG_ICE_QUERY_WAITING, KG_ICE_QUERY_RUNNING, KG_ICE_QUERY_DONE };
/* One query of a STUN server from one local candidate. */
struct kg_ice_query {
    uint16_t local;
    uint8_t server;
    uint8_t state;  /* enum kg_ice_query_state */
    uint16_t found; /* local candidate that came of it; KG_ICE_NONE */
    struct kg_stun_transaction transaction;
};

struct kg_ice_agent {
    struct kg_ice_settings settings;
    bool started, controlling;
    bool thaw; /* pair states changed: look for frozen pairs to wake */
    bool tell_state, tell_role, tell_local;
    uint8_t state;    /* enum kg_ice_state */
    uint8_t refusals; /* 487 received in this session */
    uint8_t turn;     /* stream whose checklist is next (RFC 8445 6.1.4.2) */
    uint16_t next_group;
    uint32_t next_ticket, prflx_count;
    uint64_t tie_breaker;
    struct kg_addr peer; /* host of its signalling; none: unknown */
    uint32_t ta_ms;      /* the larger of both sides' */
    int64_t start_ms, now_ms;
    int64_t slot_ms; /* no new transaction before this */
    int64_t due_ms;  /* kg_ice_next_ms */
    const char *reason;
    struct kg_ice_credentials *local_credentials; /* set last */
    struct kg_ice_local *local;
    struct kg_ice_remote *remote;
    struct kg_ice_entry *pair;
    struct kg_ice_stream *stream;
    struct kg_ice_query *query;
    uint16_t local_size, remote_size, pair_size, stream_size, query_size;
    uint8_t server_count, reply_first, reply_count, seen_next, seen_count;
    struct kg_addr server[KG_ICE_STUN_MAX];
    struct kg_ice_early early[KG_ICE_EARLY];
    struct kg_ice_reply reply[KG_ICE_REPLIES];
    struct kg_ice_seen seen[KG_ICE_SEEN];
    struct kg_ice_counters counters;
};

/* The pair after that one, from NULL to NULL. */
static inline struct kg_ice_entry *kg_ice_pair_next(const struct kg_ice_agent *agent,
                                                    const struct kg_ice_entry *pair)
{
    for (uint16_t i = pair == NULL ? 0 : (uint16_t)(pair - agent->pair + 1); i < agent->pair_size; i++)
        if (agent->pair[i].used)
            return &agent->pair[i];
    return NULL;
}

/* agent.c */
void kg_ice_touch(struct kg_ice_agent *agent); /* something changed: poll has work */
int kg_ice_session_new(struct kg_ice_agent *agent, struct kg_ice_session *session,
                       const struct kg_ice_description *remote);
/* The peer has been heard to use the local credentials set last with its own of this session. */
void kg_ice_session_renew(struct kg_ice_agent *agent, struct kg_ice_session *session);
void kg_ice_session_free(struct kg_ice_agent *agent, struct kg_ice_session *session);

/* table.c: slots of candidates */
int kg_ice_reserve(struct kg_ice_agent *agent, size_t locals, size_t remotes, size_t pairs);
size_t kg_ice_count_bases(const struct kg_ice_agent *agent, uint8_t stream); /* local candidates that pair */
size_t kg_ice_count_remotes(const struct kg_ice_agent *agent, uint8_t stream);
struct kg_ice_stream *kg_ice_stream_find(const struct kg_ice_agent *agent, uint8_t stream);
struct kg_ice_component *kg_ice_component_find(const struct kg_ice_agent *agent, uint8_t stream,
                                               uint8_t component);
/* Index or KG_ICE_NONE. By what the peer sees (addr), or by the base of a host or relay candidate. */
uint16_t kg_ice_local_by_addr(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                              const struct kg_addr *addr, const struct kg_addr *base);
uint16_t kg_ice_local_by_base(const struct kg_ice_agent *agent, const struct kg_addr *base);
/* Finds or makes the peer-reflexive remote candidate. */
uint16_t kg_ice_remote_prflx(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                             const struct kg_addr *source, uint32_t priority);
uint16_t kg_ice_local_put(struct kg_ice_agent *agent, uint8_t stream, const struct kg_candidate *candidate);
uint16_t kg_ice_remote_find(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                            const struct kg_addr *addr);
/* Into a free slot, or the one of an unused peer-reflexive candidate. KG_ICE_NONE: full of useful ones. */
uint16_t kg_ice_remote_put(struct kg_ice_agent *agent, uint8_t stream, const struct kg_candidate *candidate);
/* Of the peer-reflexive candidate that a check from this local candidate would reveal (RFC 8445 7.1.1). */
uint32_t kg_ice_prflx_priority(const struct kg_ice_agent *agent, uint16_t local);

/* checklist.c: pairs */
void kg_ice_form_pairs(struct kg_ice_agent *agent, struct kg_ice_stream *stream);
struct kg_ice_entry *kg_ice_pair_put(struct kg_ice_agent *agent, uint16_t local, uint16_t remote);
void kg_ice_pair_drop(struct kg_ice_agent *agent, struct kg_ice_entry *pair);
void kg_ice_pair_fail(struct kg_ice_agent *agent, struct kg_ice_entry *pair, const char *reason);
void kg_ice_prioritize(struct kg_ice_agent *agent); /* again, after a change of role or of priorities */
void kg_ice_thaw(struct kg_ice_agent *agent);
/* Priority of the pair as the peer sees it: with the candidate it saw. */
uint64_t kg_ice_pair_value(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair);
/* Valid, and answered within consent's life: may be sent to, media from there is the peer's. */
bool kg_ice_pair_alive(const struct kg_ice_agent *agent, const struct kg_ice_entry *pair);
/* An authenticated check of the peer's came on this pair. False: even so it is not to be checked. */
bool kg_ice_pair_admit(const struct kg_ice_agent *agent, struct kg_ice_entry *pair);
/* Into the triggered-check queue (RFC 8445 7.3.1.4). */
void kg_ice_trigger(struct kg_ice_agent *agent, struct kg_ice_entry *pair);

/* check.c: client side, sending. Again: retransmissions, which Ta does not pace. */
bool kg_ice_poll_again(struct kg_ice_agent *agent, struct kg_ice_datagram *out);
bool kg_ice_poll_check(struct kg_ice_agent *agent, struct kg_ice_datagram *out);
void kg_ice_check_afresh(struct kg_ice_agent *agent, uint8_t stream);
void kg_ice_expire_checks(struct kg_ice_agent *agent);
int64_t kg_ice_checks_due(const struct kg_ice_agent *agent);
void kg_ice_check_stop(struct kg_ice_entry *pair);

/* compose.c: datagrams */
void kg_ice_compose_check(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                          const uint8_t id[static KG_STUN_ID], bool controlling, bool nominate,
                          struct kg_ice_datagram *out);
void kg_ice_compose_keepalive(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                              struct kg_ice_datagram *out);
void kg_ice_compose_query(struct kg_ice_agent *agent, const struct kg_ice_query *query,
                          struct kg_ice_datagram *out);
bool kg_ice_compose_reply(struct kg_ice_agent *agent, struct kg_ice_datagram *out);
void kg_ice_id(struct kg_ice_agent *agent, uint8_t out[static KG_STUN_ID]);

/* respond.c: server side; early.c */
bool kg_ice_respond(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                    const struct kg_stun_message *message);
void kg_ice_heard(struct kg_ice_agent *agent, struct kg_ice_stream *stream, uint16_t local,
                  const struct kg_addr *source, uint32_t priority, bool use_candidate);
void kg_ice_early_put(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                      uint32_t priority, bool use_candidate, const char *peer, size_t peer_len);
void kg_ice_early_replay(struct kg_ice_agent *agent, struct kg_ice_stream *stream);
void kg_ice_switch_role(struct kg_ice_agent *agent, bool controlling);

/* replay.c. True: an authenticated request of that id came from another source before. */
bool kg_ice_is_replayed(struct kg_ice_agent *agent, uint16_t local, const struct kg_addr *source,
                        const uint8_t id[static KG_STUN_ID]);
uint32_t kg_ice_hash(const void *data, size_t len);

/* answer.c: client side, receiving */
bool kg_ice_answer(struct kg_ice_agent *agent, const struct kg_addr *base, const struct kg_addr *source,
                   const struct kg_stun_message *message);
/* The local candidate that the peer saw; a new one where it is none of ours (7.2.5.3.1). */
uint16_t kg_ice_seen_as(struct kg_ice_agent *agent, const struct kg_ice_entry *pair,
                        const struct kg_addr *mapped);

/* consent.c */
bool kg_ice_poll_consent(struct kg_ice_agent *agent, struct kg_ice_datagram *out);
bool kg_ice_poll_keepalive(struct kg_ice_agent *agent, struct kg_ice_datagram *out);
void kg_ice_expire_consent(struct kg_ice_agent *agent);
int64_t kg_ice_consent_due(const struct kg_ice_agent *agent);
void kg_ice_consent_begin(struct kg_ice_agent *agent, struct kg_ice_component *component);
bool kg_ice_consent_answer(struct kg_ice_agent *agent, const struct kg_addr *base,
                           const struct kg_addr *source, const struct kg_stun_message *message);
/* The peer was found on another pair: ask it on the selected one whether it is still there. */
/* moved: it nominated that pair, or was not seen there before. */
void kg_ice_doubt(struct kg_ice_agent *agent, struct kg_ice_entry *found, bool moved);

/* follow.c. The peer is found on that pair and no more on the selected one, which is given up at once; false:
 * that must not be believed yet. */
bool kg_ice_follow(struct kg_ice_agent *agent, struct kg_ice_entry *found);
/* The stream's other component was followed to that host. */
bool kg_ice_follows(const struct kg_ice_agent *agent, const struct kg_ice_entry *found);
/* The pair does not answer while the peer was found elsewhere. */
void kg_ice_demote(struct kg_ice_agent *agent, struct kg_ice_entry *pair, struct kg_ice_entry *found);

/* gather.c */
int kg_ice_gather(struct kg_ice_agent *agent);
bool kg_ice_poll_gather(struct kg_ice_agent *agent, bool may_start, struct kg_ice_datagram *out);
int64_t kg_ice_gather_due(const struct kg_ice_agent *agent);
void kg_ice_gather_again(struct kg_ice_agent *agent);
bool kg_ice_gather_answer(struct kg_ice_agent *agent, const struct kg_addr *source,
                          const struct kg_stun_message *message);

/* lite.c. heard: a check of the peer on that pair; pairs: of two lite agents. */
void kg_ice_lite_heard(struct kg_ice_agent *agent, struct kg_ice_entry *pair, bool use_candidate);
void kg_ice_lite_pairs(struct kg_ice_agent *agent, struct kg_ice_stream *stream);

/* nominate.c */
void kg_ice_nominated(struct kg_ice_agent *agent, struct kg_ice_entry *pair);
/* A demoted pair has answered: the peer is there still. */
void kg_ice_pair_revive(struct kg_ice_agent *agent, struct kg_ice_entry *pair);
void kg_ice_nominate(struct kg_ice_agent *agent);
int64_t kg_ice_nominate_due(const struct kg_ice_agent *agent);
/* Chooses again, where anything changed, the pair media is sent on; then the agent's state. */
void kg_ice_select(struct kg_ice_agent *agent);
void kg_ice_end_session(struct kg_ice_agent *agent, struct kg_ice_stream *stream);

#endif
