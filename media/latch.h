/* Latching (RFC 7362): which source a media socket believes, by rank of proof. Pure; one latch a socket.
 *
 * Invariants:
 *  - a packet is accepted only from `remote`, and remote only changes here;
 *  - remote is set only to a source that the rules rank above KG_PROOF_NONE;
 *  - a locked latch moves only to a source of strictly better proof, or after signalling opened it again.
 * See media/README.md, "Who is believed". */
#ifndef KG_MEDIA_LATCH_H
#define KG_MEDIA_LATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/addr.h"
#include "media/client.h"

/* What signalling makes plausible for one socket. */
struct kg_latch_rules {
    struct kg_addr sdp;      /* where SDP says it receives; none: not known */
    struct kg_addr host;     /* another host that it may send from (its signalling's source); port ignored */
    bool sdp_host_plausible; /* any port of SDP's host ranks as same-address */
    bool first_packets;      /* any source ranks as first-packets */
    bool send_early;         /* SDP's address may be sent to before anything came from there */
};

struct kg_latch_limits {
    uint32_t packets;
    uint32_t window_ms;
};

enum kg_latch_state {
    KG_LATCH_OPEN,     /* nothing learnt; waits for the first packet */
    KG_LATCH_LEARNT,   /* remote set, window running: a better proof moves it */
    KG_LATCH_LOCKED,   /* a strictly better proof moves it */
    KG_LATCH_REOPENED, /* by signalling: remote stays in use until a source of at least its standing moves it
                        */
};

struct kg_latch {
    uint8_t state;         /* enum kg_latch_state */
    uint8_t proof;         /* enum kg_proof: how remote was proven when it was learnt */
    uint8_t standing;      /* the same under the newest rules */
    bool moved_in_sdp;     /* REOPENED: SDP's address changed */
    bool elsewhere;        /* its signalling left the host that remote was believed with */
    uint8_t doubt_packets; /* seen of doubt */
    uint8_t doubt_proof;
    uint16_t packets; /* LEARNT: of remote in the window */
    struct kg_addr remote;
    struct kg_addr doubt;            /* plausible, but a better source may exist: not yet believed */
    int64_t since_ms;                /* window */
    int64_t doubt_ms, doubt_last_ms; /* its first and latest packet */
    int64_t last_ms;                 /* of an accepted packet */
};

enum kg_latch_verdict {
    KG_LATCH_REFUSED,
    KG_LATCH_ACCEPTED,
    KG_LATCH_MOVED /* accepted, and remote is new */
};

/* A source that ranks below what SDP's own host could give waits this long (and the window's packets) before
 * it is believed, so that the rightful sender is heard first even if another port of its host, or a stranger,
 * is faster. */
#define KG_LATCH_DOUBT_MS 100
/* After signalling without a new address: a source of equal rank takes over once the old one was quiet this
 * long. */
#define KG_LATCH_QUIET_MS 200

enum kg_proof kg_latch_rank(const struct kg_latch_rules *rules, const struct kg_addr *source);

/* looks_right: the packet is what signalling promised (valid header, negotiated payload type); only such a
 * packet can move the latch. */
enum kg_latch_verdict kg_latch_packet_slow(struct kg_latch *latch, const struct kg_latch_rules *rules,
                                           const struct kg_latch_limits *limits, const struct kg_addr *source,
                                           bool looks_right, int64_t now_ms);

/* A packet whose keys have proven it, and that is no replay. Only one that is `newest` moves the latch, so
 * that what was delayed on its way from the old place does not bring it back: it is accepted all the same. */
enum kg_latch_verdict kg_latch_genuine(struct kg_latch *latch, const struct kg_latch_limits *limits,
                                       const struct kg_addr *source, bool newest, int64_t now_ms);

/* New rules from signalling. sdp_changed: its media address is another one than before. elsewhere: its
 * signalling comes from another host than before, so that SDP may tell an address that it has no more: once
 * the old source is quiet, one at the new host takes over, even from SDP's exact address. */
void kg_latch_reopen(struct kg_latch *latch, const struct kg_latch_rules *rules, bool sdp_changed,
                     bool elsewhere, int64_t now_ms);
/* Takes over what an earlier engine had proven. */
void kg_latch_restore(struct kg_latch *latch, const struct kg_addr *remote, enum kg_proof proof,
                      int64_t now_ms);
/* Where to send, or NULL: nothing may be sent. */
const struct kg_addr *kg_latch_target(const struct kg_latch *latch, const struct kg_latch_rules *rules);

/* The comparison of the packet path, without a call. */
static inline bool kg_latch_same_source(const struct kg_addr *a, const struct kg_addr *b)
{
    if (a->sa.sa_family == AF_INET)
        return b->sa.sa_family == AF_INET && a->in4.sin_port == b->in4.sin_port &&
               a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
    return kg_addr_equal(a, b);
}

static inline enum kg_latch_verdict kg_latch_packet(struct kg_latch *latch,
                                                    const struct kg_latch_rules *rules,
                                                    const struct kg_latch_limits *limits,
                                                    const struct kg_addr *source, bool looks_right,
                                                    int64_t now_ms)
{
    if (latch->state == KG_LATCH_LOCKED && kg_latch_same_source(&latch->remote, source)) {
        latch->last_ms = now_ms;
        return KG_LATCH_ACCEPTED;
    }
    return kg_latch_packet_slow(latch, rules, limits, source, looks_right, now_ms);
}

#endif
