/* The ICE agent (RFC 8445, 8838, 7675, 8863, 8421), full or lite. Sans-IO: bytes and now_ms come in;
 * datagrams, events and the next deadline come out. Randomness comes from the `random` function given at the
 * start.
 *
 * One agent serves one peer: one or more streams (m-lines), each with component 1 and perhaps 2. All of its
 * checks are paced together (RFC 8445 14.2). Memory: tables are sized when descriptions come; receiving and
 * polling allocate nothing.
 *
 * Life: new, add_stream for each m-line, add_local for each socket, set_local, set_remote (any order), start.
 * Then feed receive() and poll() until each returns nothing, and call again at kg_ice_next_ms(). */
#ifndef KG_ICE_AGENT_AGENT_H
#define KG_ICE_AGENT_AGENT_H

#include "ice/agent/candidate.h"

#define KG_ICE_STREAMS_MAX    8
#define KG_ICE_COMPONENTS_MAX 2
#define KG_ICE_PAIRS_MAX      100 /* of one agent (RFC 8445 6.1.2.5) */
#define KG_ICE_DATAGRAM_MAX   1280

/* Zero means the default that stands behind it. */
struct kg_ice_settings {
    bool lite;
    bool controlling;     /* the offerer, unless the peer is lite (RFC 8445 6.1.1) */
    bool no_consent;      /* never send consent checks (lite agents do not) */
    bool rtcp_mux;        /* component 2 is not used */
    uint32_t ta_ms;       /* 50: pacing (RFC 8445 14.2) */
    uint32_t rto_ms;      /* 500: least RTO (RFC 8445 14.3) */
    uint32_t patience_ms; /* 39500: before that an empty or failed checklist waits for more (RFC 8863) */
    uint32_t nominate_ms; /* 400: how long a pair better than the best valid one is waited for after it was
                             asked, three times while only a relay works; ten times that after the first valid
                             pair at most. A pair that cannot be beaten is nominated at once */
    uint32_t consent_ms;  /* 5000, +-20 % (RFC 7675 5.1) */
    uint32_t consent_expiry_ms; /* 30000 */
    uint32_t keepalive_ms;      /* 15000 (RFC 8445 11): only where consent is off */
    /* Hosts that are not checked (ice/agent/target.h); outlives the agent. */
    const struct kg_addr *avoid;
    size_t avoid_count;
    /* Fills out with len unpredictable bytes. Must not be NULL. */
    void (*random)(void *ctx, void *out, size_t len);
    void *random_ctx;
};

enum kg_ice_state {
    KG_ICE_NEW, /* no remote description yet */
    KG_ICE_CHECKING,
    KG_ICE_CONNECTED,    /* every component has a valid pair; media may flow on kg_ice_selected */
    KG_ICE_COMPLETED,    /* nominated */
    KG_ICE_DISCONNECTED, /* consent expired on the selected pair of a component, and no other pair took over
                          */
    KG_ICE_FAILED,
};
const char *kg_ice_state_name(enum kg_ice_state state); /* "new", "checking" ... */

enum kg_pair_state {
    KG_PAIR_FROZEN,
    KG_PAIR_WAITING,
    KG_PAIR_IN_PROGRESS,
    KG_PAIR_SUCCEEDED,
    KG_PAIR_FAILED
};
const char *kg_pair_state_name(enum kg_pair_state state);

/* One pair as told to people and to the media engine. */
struct kg_ice_pair {
    uint8_t stream, component;
    uint8_t state; /* enum kg_pair_state */
    bool valid, nominated, selected;
    uint64_t priority;
    struct kg_candidate local,
        remote;     /* local.addr is what the peer sees; local.related its base: send from there */
    int32_t rtt_ms; /* of the latest answered check; -1: none */
    int32_t won_ms; /* from kg_ice_start to its first success; -1 */
    uint16_t requests, responses;
    const char *reason; /* why it failed or was dropped; constant; NULL */
};

enum kg_ice_event_type {
    KG_ICE_EV_STATE,        /* state changed */
    KG_ICE_EV_SELECTED,     /* stream, component: kg_ice_selected is another pair now */
    KG_ICE_EV_CONSENT_LOST, /* stream, component: stop sending at once (RFC 7675 5.1) */
    KG_ICE_EV_ROLE,         /* a role conflict was resolved against us */
    KG_ICE_EV_LOCAL,        /* kg_ice_locals has more (a STUN server answered), or gathering is over */
};
struct kg_ice_event {
    enum kg_ice_event_type type;
    enum kg_ice_state state;
    uint8_t stream, component;
    const char *reason; /* constant; NULL */
};

/* What is to be sent: from the socket bound to `from` (a base given to add_local). */
struct kg_ice_datagram {
    uint8_t stream, component;
    struct kg_addr from, to;
    size_t len;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
};

struct kg_ice_agent;

/* Copies settings. NULL without memory. */
struct kg_ice_agent *kg_ice_agent_new(const struct kg_ice_settings *settings);
void kg_ice_agent_free(struct kg_ice_agent *agent);

/* Returns 0, ENOMEM or ENOSPC. Streams are numbered by the caller, 0..KG_ICE_STREAMS_MAX-1. */
int kg_ice_add_stream(struct kg_ice_agent *agent, uint8_t stream, uint8_t components);
/* A socket: `base` is where it is bound, `addr` what the peer is told (1:1 NAT), mostly the same. type is
 * HOST, SRFLX or RELAY (base then: of the host candidate, or the relayed address itself); preference by RFC
 * 8421, see kg_network_preferences. server: STUN or TURN server, for the foundation; none for host. */
int kg_ice_add_local(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                     enum kg_candidate_type type, const struct kg_addr *addr, const struct kg_addr *base,
                     uint16_t preference, const struct kg_addr *server);
/* Queries a STUN server from every host candidate of that family when started or added to; the srflx
 * candidates found become local ones (and are told by kg_ice_locals). */
int kg_ice_add_stun_server(struct kg_ice_agent *agent, const struct kg_addr *server);
/* A STUN server has not answered yet. */
bool kg_ice_is_gathering(const struct kg_ice_agent *agent);
int kg_ice_set_local(struct kg_ice_agent *agent, const char *ufrag, const char *pwd);
/* Where the peer's signalling comes from: of what it describes later, only what target.h allows is checked.
 * Without it: everything. */
void kg_ice_set_peer(struct kg_ice_agent *agent, const struct kg_addr *signalling);
/* The peer's description of a stream. Another ufrag/pwd than before is its ICE restart (RFC 8445 9): the
 * checklist starts anew with the local credentials set last, and the pair selected before stays in use until
 * the new one is. The same again adds candidates (trickle, peer's updated offer) and takes end_of_candidates
 * over. Returns 0, EINVAL or ENOMEM (the agent is then as before). */
int kg_ice_set_remote(struct kg_ice_agent *agent, uint8_t stream, const struct kg_ice_description *remote,
                      int64_t now_ms);
int kg_ice_start(struct kg_ice_agent *agent, int64_t now_ms);
/* A new local ufrag and pwd; checks start again when the peer's new description comes (set_remote). STUN
 * servers are asked again: describe once kg_ice_is_gathering says no. */
int kg_ice_restart(struct kg_ice_agent *agent, const char *ufrag, const char *pwd, int64_t now_ms);
/* Drops component 2 (rtcp-mux was agreed), or a stream that was rejected. */
void kg_ice_drop_component(struct kg_ice_agent *agent, uint8_t stream, uint8_t component);
void kg_ice_drop_stream(struct kg_ice_agent *agent, uint8_t stream);
/* Local sockets of `base` are gone (interface down): its pairs fail, consent moves to the next best valid
 * pair. */
void kg_ice_remove_local(struct kg_ice_agent *agent, const struct kg_addr *base, int64_t now_ms);

/* A datagram that demux calls STUN, received on the socket bound to `base`. Returns true if it was for this
 * agent (authenticated, or an answer to one of our transactions); false: not ours, or refused (and counted).
 */
bool kg_ice_receive(struct kg_ice_agent *agent, const struct kg_addr *base, const struct kg_addr *source,
                    const uint8_t *data, size_t len, int64_t now_ms);
/* The next datagram to send now; false: none. Call until false after each other call and at next_ms. */
bool kg_ice_poll(struct kg_ice_agent *agent, int64_t now_ms, struct kg_ice_datagram *out);
bool kg_ice_poll_event(struct kg_ice_agent *agent, struct kg_ice_event *out);
int64_t kg_ice_next_ms(const struct kg_ice_agent *agent); /* INT64_MAX: nothing to do */

/* Media (RTP) came from `source`, which no check has proven, but looks like the peer that moved (same SSRC,
 * next sequence number, the old place silent: the caller judges). Sends a check there, at most one a
 * KG_ICE_CHALLENGE_MS; if it is answered with integrity, the pair is valid and selected at once, unless the
 * peer sees another host of ours there than on the pair before (somebody between us passes our checks on):
 * then the pair before is asked first. */
#define KG_ICE_CHALLENGE_MS 200
void kg_ice_challenge(struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                      const struct kg_addr *base, const struct kg_addr *source, int64_t now_ms);

enum kg_ice_state kg_ice_state(const struct kg_ice_agent *agent);
bool kg_ice_is_controlling(const struct kg_ice_agent *agent);
/* The pair media is sent on: nominated, else the best valid one (RFC 8445 12.1.1). False: none (also after
 * consent was lost). */
bool kg_ice_selected(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                     struct kg_ice_pair *out);
/* True for a source that a valid pair with live consent stands for: media from there is the peer's. */
bool kg_ice_is_valid_source(const struct kg_ice_agent *agent, uint8_t stream, uint8_t component,
                            const struct kg_addr *source);
/* Local candidates for the description; returns their number. */
size_t kg_ice_locals(const struct kg_ice_agent *agent, uint8_t stream, struct kg_candidate *out, size_t max);
/* Every pair, best first; returns their number. */
size_t kg_ice_pairs(const struct kg_ice_agent *agent, struct kg_ice_pair *out, size_t max);

struct kg_ice_counters {
    uint32_t requests_in, responses_in, bad_integrity, unknown_user, role_conflicts, malformed;
    uint32_t requests_out, responses_out;
    uint32_t
        replays; /* requests with right integrity that had come from another source before: not answered */
};
const struct kg_ice_counters *kg_ice_counters(const struct kg_ice_agent *agent);

#endif
