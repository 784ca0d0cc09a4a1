/* The ICE part of a relay: an agent for each side that has kedge as its ICE peer, a kg_steer for each
 * component of a steered stream. Sans-IO and the worker's, as the relay is.
 *
 * A leg that does ICE has a latch like any other, with rules that rank nobody. So the packet path needs no
 * word of ICE while packets come from where the latch stands; only this file moves such a latch, to what an
 * agent has selected or a kg_steer has verified, and empties it when consent has expired.
 *
 * A latch that something else proved before (another use of ICE, latching, an earlier engine's life) is
 * "borrowed": it stays in use until the new agent or steer knows better, at most for consent's expiry. */
#ifndef KG_MEDIA_RELAY_ICE_H
#define KG_MEDIA_RELAY_ICE_H

#include "media/relay.h"
#include "media/rtp.h"
#include "media/steer.h"

/* A steered stream without RTP for so long flows elsewhere. */
#define KG_PATH_DIRECT_MS 2000
/* A source may only be asked to prove itself when the proven one has been silent for this long ... */
#define KG_CHALLENGE_QUIET_MS 200
/* ... and its sequence number is at most so far ahead. */
#define KG_CHALLENGE_AHEAD 1000

/* What signalling said beside the descriptions. */
struct kg_ice_change {
    struct kg_media_ice_local local[2];            /* by side; ufrag "": none */
    struct kg_addr bound[2][KG_MEDIA_STREAMS_MAX]; /* RTP sockets; RTCP is one port above */
};

enum kg_path { KG_PATH_UNKNOWN, KG_PATH_DIRECT, KG_PATH_RELAYED };

/* One stream that does ICE on a side. */
struct kg_stream_ice {
    struct kg_addr bound[2];
    struct kg_steer *steer[2]; /* by component - 1; NULL: none */
    bool in_agent[2];          /* by side: the agent has this stream */
    bool without_rtcp[2];      /* by side: the agent has component 1 alone */
    bool answers[2];           /* steered, and this side answered a check of ours after ICE was over */
    bool left[2], left_untold[2];
    bool path_untold;
    uint8_t path;            /* enum kg_path */
    int64_t since_ms;        /* steered: the latest description */
    int64_t connected_ms[2]; /* by side; 0: not yet */
    int64_t gap_ms[2];       /* silence before media came from elsewhere than the latch, which may follow */
};

struct kg_relay_ice {
    struct kg_relay *relay;
    struct kg_ice_agent *agent[2];
    struct kg_media_ice_local local[2];
    struct kg_stream_ice *stream[KG_MEDIA_STREAMS_MAX];
    uint32_t expiry_ms;           /* consent's */
    int64_t borrowed_until_ms[2]; /* by side */
    int64_t answered_ms;          /* 0: not yet */
    bool state_untold[2];
    uint8_t state_stream[2];
    const char *state_reason[2];
};

/* Takes what a change says of ICE; after kg_relay_describe. side: what that was called with, or NULL. change
 * NULL: nothing was ever said. Returns 0, or ENOMEM: the legs concerned carry nothing then. */
int kg_relay_change_ice(struct kg_relay *relay, const struct kg_ice_change *change,
                        struct kg_media_side *const side[2], const struct kg_limits *limits, int64_t now_ms);
/* No leg does ICE: kg_relay_ice_free may be called. */
bool kg_relay_ice_is_idle(const struct kg_relay *relay);
void kg_relay_ice_free(struct kg_relay *relay);
/* The latch of this flow was restored from an earlier engine's life: used at once, and asked again. */
void kg_relay_ice_restored(struct kg_flow *flow, int64_t now_ms);

/* ---- packets; of flows with in->ice only, and never on the way of one that comes from the latch ---- */
/* A STUN message. Returns as kg_relay_packet does. */
struct kg_flow *kg_relay_ice_stun(struct kg_flow *in, const uint8_t *data, size_t len,
                                  const struct kg_addr *source, const struct kg_limits *limits,
                                  int64_t now_ms, const struct kg_addr **to);
/* Media from there is the side's. */
bool kg_relay_ice_is_proven(struct kg_flow *in, const struct kg_addr *source, int64_t now_ms);
/* RTP came from a source that nothing has proven: asked for proof if it continues what the side sent. */
void kg_relay_ice_doubt(struct kg_flow *in, const struct kg_rtp *rtp, const struct kg_addr *source,
                        int64_t now_ms);
/* RTCP of that sender, the same: if it is the side's, whose RTP has moved to that host. */
void kg_relay_ice_doubt_rtcp(struct kg_flow *in, uint32_t ssrc, const struct kg_addr *source, int64_t now_ms);

/* ---- what is to be done ---- */
struct kg_ice_out {
    struct kg_flow *flow; /* out of this socket */
    const struct kg_addr *to;
    const uint8_t *data;
    size_t len;
    union {
        struct kg_ice_datagram agent;
        struct kg_steer_datagram steer;
    } held;
};
/* The next datagram to send now. False: none, and agents' events have been taken into the latches. Call until
 * false after each of the calls above and at kg_relay_ice_next_ms. */
bool kg_relay_ice_poll(struct kg_relay *relay, int64_t now_ms, struct kg_ice_out *out);
int64_t kg_relay_ice_next_ms(const struct kg_relay *relay);
/* Twice a second: what has expired, where steered streams flow, who has left. */
void kg_relay_ice_tick(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms);

/* ---- what is known ---- */
enum kg_steered { KG_STEERED_NOT, KG_STEERED_UNASKED /* nobody answered us after ICE */, KG_STEERED_ASKED };
enum kg_steered kg_relay_ice_steered(const struct kg_relay *relay);
void kg_relay_ice_stats(const struct kg_leg *leg, struct kg_media_stats *out);
uint8_t kg_relay_ice_pairs(const struct kg_relay *relay, struct kg_media_pair *out, uint8_t max);

#endif
