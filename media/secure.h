/* What secures the legs of a relay: SRTP sessions whose keys signalling told (SDES) or DTLS agreed. Sans-IO
 * and the worker's, as the relay is. It hangs off a leg by one pointer, so that a call without pays a branch.
 *
 * Invariants:
 *  - of a leg with SDES or DTLS nothing is learnt (latch, counters, quality) before a packet was opened, and
 *    nothing leaves it unsealed;
 *  - a kg_srtp lives as long as its leg, whatever the leg does in between: keys that come back find their
 * index where it was;
 *  - keys of ours that another engine used never seal a packet here: their index is lost with it;
 *  - DTLS speaks only with whom ICE has proven, or signalling makes plausible, and a handshake with the wrong
 *    certificate costs the right phone nothing but a little time. */
#ifndef KG_MEDIA_SECURE_H
#define KG_MEDIA_SECURE_H

#include "media/demux.h"
#include "media/dtls.h"
#include "media/relay.h"
#include "media/srtp.h"

/* Handshakes that one component begins for one association: with others than the phone, or again. So many at
 * once, and later one in this time: nobody uses them up for the phone. */
#define KG_DTLS_TRIES    8
#define KG_DTLS_AGAIN_MS 2000
/* Sources that failed, and are not heard again for this association. */
#define KG_DTLS_REFUSED 8
/* A handshake gives way to another plausible source when its peer said nothing for so long... */
#define KG_DTLS_STALL_MS 1000
/* ... or, whatever it said, is not done after this. */
#define KG_DTLS_HOLD_MS 3000
/* The active side tries again after a failure. */
#define KG_DTLS_RETRY_MS 1000
/* A failure with a source that may not have been the phone is told when the phone has not come by then. */
#define KG_DTLS_PATIENCE_MS 3000
/* The same where several have tried, or one is at it: somebody may be keeping the phone out. */
#define KG_DTLS_CONTEST_MS 15000

/* One component's DTLS. */
struct kg_association {
    struct kg_dtls *dtls;  /* NULL: not begun */
    struct kg_dtls *rival; /* passive: for another source than peer; takes over once its cookie came back */
    struct kg_addr peer;   /* with whom; of an active one: not before it has answered */
    struct kg_addr rival_peer;
    bool active;
    bool installed; /* its keys are in `keyed` */
    bool untold, secured;
    uint8_t tries, refused_count, refused_at;
    struct kg_addr refused[KG_DTLS_REFUSED];
    const char *reason;
    int64_t heard_ms;  /* its peer */
    int64_t tried_ms;  /* when the latest of `tries` began */
    int64_t retry_ms;  /* active: not before */
    int64_t failed_ms; /* 0: nothing to tell of a failure */
};

/* Keys in use when another engine died. */
struct kg_lost_keys {
    struct kg_srtp_keys send, receive; /* suite KG_SRTP_NONE: others have come since */
};

/* Datagrams of a ClientHello that was faster than the answer which says that there will be one, or than the
 * check that proves its source: of the source that spoke last to the RTP socket. They are heard when both
 * have come. Browsers send more than a kilobyte at once, with keys against quantum computers. */
#define KG_EARLY_MAX 4
struct kg_early_hello {
    struct kg_early_hello *next;
    struct kg_addr source;
    size_t len;
    uint8_t data[];
};

/* What a leg with DTLS has beside its sessions. */
struct kg_leg_dtls {
    uint32_t association; /* number */
    uint8_t fingerprint_count;
    struct kg_fingerprint fingerprint[KG_FINGERPRINTS_MAX], ours;
    struct kg_dtls_identity *identity;     /* NULL: the engine has none that fits `ours` */
    struct kg_association by_component[2]; /* - 1 */
};

struct kg_leg_secure {
    /* of every packet */
    uint8_t use; /* enum kg_secure_use */
    bool sealed, feedback;
    bool rekey_untold;
    uint8_t setup;             /* enum kg_dtls_setup, ours */
    struct kg_srtp *sdes;      /* RTP and RTCP; NULL: never */
    struct kg_srtp *keyed[2];  /* by component - 1: with the keys of DTLS */
    struct kg_lost_keys *lost; /* NULL: none */
    uint64_t unsent;
    /* of descriptions and handshakes */
    struct kg_leg_dtls *dtls;     /* NULL: never */
    struct kg_addr sdp;           /* where SDP was when it last had keys of SDES */
    struct kg_early_hello *early; /* in their order; NULL: none */
};

/* What signalling said beside the descriptions. */
struct kg_secure_change {
    struct kg_dtls_identity *identity[2][KG_MEDIA_STREAMS_MAX]; /* references; NULL: not needed, or gone */
    bool restored;                                              /* the session lived in another engine */
};
void kg_secure_change_free(struct kg_secure_change *change);

/* ---- secure_setup.c ---- */
/* Takes what the descriptions say of keys; after kg_relay_describe, and with kg_relay_change_ice done. change
 * NULL: no identities, not restored. 0, or ENOMEM: the legs concerned carry nothing then. */
int kg_relay_change_secure(struct kg_relay *relay, const struct kg_secure_change *change,
                           struct kg_media_side *const side[2], int64_t now_ms);
void kg_leg_secure_free(struct kg_leg_secure *secure);
void kg_secure_stats(const struct kg_leg *leg, struct kg_media_stats *out);

/* ---- secure.c: packets of legs that have `secure` ---- */
enum kg_opened {
    KG_OPEN,         /* in the clear now, and `genuine` if keys proved it */
    KG_OPEN_REFUSED, /* nothing may be learnt from it */
    KG_OPEN_TAKEN,   /* it was for us */
};
enum kg_opened kg_secure_open(struct kg_flow *in, struct kg_datagram *datagram, enum kg_packet_kind kind,
                              const struct kg_limits *limits, int64_t now_ms);
/* `from`: whose socket it came from; it, out's leg or datagram->to has `secure`. False: it must not be sent;
 * counted. */
bool kg_secure_seal(struct kg_leg *from, struct kg_flow *out, struct kg_datagram *datagram,
                    enum kg_packet_kind kind);

/* ---- secure_dtls.c ---- */
/* Only where the leg has `dtls`. */
static inline struct kg_association *kg_association_of(const struct kg_flow *flow)
{
    return &flow->leg->secure->dtls->by_component[flow->rtcp ? 1 : 0];
}
/* For later. False: not worth keeping. */
bool kg_secure_keep_hello(struct kg_flow *in, const struct kg_datagram *datagram);
void kg_secure_forget_hellos(struct kg_leg_secure *secure);
/* False: nobody whom we hear. */
bool kg_secure_dtls_receive(struct kg_flow *in, const struct kg_datagram *datagram,
                            const struct kg_limits *limits, int64_t now_ms);
/* Begins anew: a new association was agreed. */
void kg_association_reset(struct kg_association *association);
/* The same association; roles or the peer's fingerprints may be others than before. */
void kg_association_described(struct kg_flow *flow, bool other_peer);

struct kg_secure_out {
    struct kg_flow *flow; /* out of this socket */
    struct kg_addr to;
    size_t len;
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
};
/* The next datagram to send now. False: none, and what associations have reached is in the legs. Call until
 * false when the relay is `touched`, and at kg_secure_next_ms. */
bool kg_secure_poll(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms,
                    struct kg_secure_out *out);
int64_t kg_secure_next_ms(const struct kg_relay *relay);
/* The worker shall not read this flow before its other work is done: what waits there is dear. */
bool kg_secure_is_dear(const struct kg_flow *flow);

#endif
