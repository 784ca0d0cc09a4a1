/* What people are told of a call, while it lasts and afterwards. No SIP types. */
#ifndef KG_CALL_RECORD_H
#define KG_CALL_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "b2bua/sdp/sdp.h"
#include "media/client.h"

#define KG_CALL_ID_LEN 16 /* hex digits */

/* A candidate as its phone's SDP names it. */
struct kg_record_candidate {
    uint8_t type, component, line; /* enum kg_candidate_type; m-line */
    struct kg_addr addr;
};
#define KG_RECORD_CANDIDATES_MAX 16 /* a leg; the first m-line's come first */
/* Why some of the others are not used. */
struct kg_record_unused {
    const char *reason; /* constant */
    uint8_t count;
};
#define KG_RECORD_UNUSED_MAX 4

/* A pair of candidates that kedge saw, compact. */
struct kg_record_pair {
    uint8_t side, stream, component, state; /* enum kg_side, enum kg_pair_state */
    uint8_t local_type, remote_type;        /* enum kg_candidate_type */
    bool selected, nominated;
    struct kg_addr local, remote; /* ours, the phone's as seen here */
    int32_t rtt_ms, won_ms;       /* -1: none */
    char reason[64];              /* why it failed; "" */
};

/* What happened to a call's path, in the order of time. */
enum kg_note {
    KG_NOTE_TCP,          /* side: offers a line over TCP, which was rejected */
    KG_NOTE_CONNECTED,    /* side, addr: kedge's agent has a pair with it */
    KG_NOTE_CONSENT_LOST, /* side */
    KG_NOTE_FAILED,       /* side: no pair of kedge's agent works */
    KG_NOTE_LEFT,         /* side: answers no check on the relay's path */
    KG_NOTE_MOVED,        /* side, addr: its SIP comes from there now */
    KG_NOTE_MEDIA_MOVED,  /* side, addr: its media does */
    KG_NOTE_RESTART,      /* side: its phone restarts ICE */
    KG_NOTE_RENEW,        /* side: kedge restarts ICE with it */
    KG_NOTE_RENEW_REFUSED,
    KG_NOTE_PLAIN,     /* side: ICE came to nothing, it is offered media without */
    KG_NOTE_FALL_BACK, /* side: whose path made it necessary */
    KG_NOTE_UPGRADE,   /* side: asked first */
    KG_NOTE_UPGRADED,
    KG_NOTE_NOT_UPGRADED,
    KG_NOTE_RELAYED,
    KG_NOTE_DIRECT,
    KG_NOTE_NO_PATH,     /* side */
    KG_NOTE_TAKEN_OVER,  /* by a restarted signalling process */
    KG_NOTE_REFERRED,    /* side: asks the other one to call somebody else */
    KG_NOTE_ENGINE_LOST, /* the media process; its successor makes the session again */
    KG_NOTE_SECURED,     /* side: a DTLS association stands */
    KG_NOTE_NOT_SECURED, /* side: none does */
    KG_NOTE_REKEY,    /* side: is offered new keys, since the media process lost the index of the old ones */
    KG_NOTE_RESHAPED, /* side: refused media in one shape, and was asked for another */
    KG_NOTE_COUNT
};
struct kg_record_event {
    uint8_t note, side;
    uint8_t refused, asked; /* KG_NOTE_RESHAPED: enum kg_shape */
    int64_t after_ms;       /* the INVITE */
    struct kg_addr addr;
};
#define KG_RECORD_EVENTS_MAX   28
#define KG_RECORD_EVENTS_FIRST 8 /* when there are more, these and the latest are kept */

/* A diversion that kedge followed. */
struct kg_record_diversion {
    char *from, *to; /* users */
    int status;
    int64_t after_ms; /* the INVITE */
};
#define KG_RECORD_DIVERSIONS_MAX 8

struct kg_record_leg {
    char *user;    /* account, or what the other side dialled; never NULL once the leg exists */
    char *call_id; /* Call-ID header of this leg; NULL before it exists */
    enum kg_transport transport;
    struct kg_addr remote; /* packet source of its signalling */
    bool nat;
    char *nat_reasons; /* sentences, one a line; NULL: none */
    bool pbx;
    bool lost;              /* its connection is gone */
    uint8_t secure;         /* enum kg_secure_use of its first m-line in use */
    bool sealed;            /* PASS: and what passes is encrypted */
    bool zrtp;              /* ... if the phones agreed on keys in the media itself */
    bool session_ours;      /* kedge refreshes its session, else the peer (RFC 4028) */
    int64_t session_end_ms; /* wall clock: when it ends unless somebody refreshes it; 0: it does not */
    char *trunk;            /* its name; NULL: none */
    struct kg_record_candidate *candidate; /* usable ones of its newest SDP */
    uint8_t candidate_count;
    struct kg_record_unused unused[KG_RECORD_UNUSED_MAX]; /* ends with reason NULL, or full */
    const char *ice_problem; /* constant: why its ICE cannot be used; NULL: it can, or there is none */
    uint8_t useless;         /* not told to the other side, which could never use them */
    uint8_t pruned;          /* left out so that an INVITE fits into a datagram */
    bool too_big;            /* it does not fit even so */
};

/* Sentences about one call that are no constants. */
#define KG_RECORD_KEPT_MAX 4

struct kg_record {
    char id[KG_CALL_ID_LEN + 1];
    char *from, *to;                                       /* URIs */
    int64_t started_ms, ringing_ms, answered_ms, ended_ms; /* wall clock; 0: not (yet) */
    unsigned uses;       /* who keeps it: the call, the list of recent ones, a question to the engine */
    int status;          /* sent to the caller, or that it would have got; 0 while the call lasts */
    const char *why;     /* it ended; constant; NULL: by a failure of the other side with `status` */
    const char *path;    /* "anchored", "direct", "relayed by kedge"; constant */
    const char *reason;  /* for the path; constant */
    const char *secured; /* who has keys with whom, and why; constant; NULL: not known yet */
    char *kept[KG_RECORD_KEPT_MAX]; /* what `why` points to, where it is no constant */
    struct kg_record_leg leg[2];
    uint8_t stream_count;
    struct kg_media_stats *stats[2]; /* last known, stream_count each; NULL: none */
    struct kg_record_pair *pair;     /* last known */
    uint8_t pair_count;
    uint8_t contacts;                      /* of the callee that were called */
    struct kg_record_diversion *diversion; /* in the order of time */
    uint8_t diversion_count;
    struct kg_record_event *event;
    uint8_t event_count;
    unsigned events_lost;   /* behind the first ones */
    struct kg_addr told[2]; /* the selected pair as a phone told it in an updated offer; none: it did not */
};

struct kg_record *kg_record_new(const char *id); /* used once */
struct kg_record *kg_record_use(struct kg_record *record);
/* One use less; frees it with the last. NULL is fine. */
void kg_record_free(struct kg_record *record);
/* The PBX has asked for the phone's password: no call yet. The INVITE that brings it is the one that counts.
 */
bool kg_record_challenged(const struct kg_record *record);
/* Why an ended call ended, as the rest of a sentence: "the PBX answered 404". Returns `why` or `out`. */
#define KG_RECORD_WHY_SIZE 120
const char *kg_record_why(const struct kg_record *record, char out[static KG_RECORD_WHY_SIZE]);
/* A sentence that is good for `why`: as long as the record lives. NULL: there are too many, or no memory. */
const char *kg_record_keep(struct kg_record *record, const char *sentence);
/* "none", "end-to-end", "zrtp", "sdes AES_CM_128_HMAC_SHA1_80", "dtls AEAD_AES_128_GCM", "dtls": not yet.
 * Returns out. */
#define KG_RECORD_SECURE_SIZE 48
const char *kg_record_secure(const struct kg_record *record, enum kg_side side,
                             char out[static KG_RECORD_SECURE_SIZE]);
void kg_record_divert(struct kg_record *record, const char *from, const char *to, int status);
/* Keeps a copy of the engine's figures. */
void kg_record_set_stats(struct kg_record *record, const struct kg_media_session_info *info);

/* ---- record_ice.c ---- */
/* addr NULL: none. */
void kg_record_note(struct kg_record *record, enum kg_note note, enum kg_side side,
                    const struct kg_addr *addr);
void kg_record_note_reshaped(struct kg_record *record, enum kg_side side, uint8_t refused, uint8_t asked);
/* The candidates of what a side said. */
void kg_record_set_candidates(struct kg_record *record, enum kg_side side, const struct kg_sdp *sdp,
                              const struct kg_media_side *described);
/* How the NAT in front of a side maps ports (RFC 4787 4.1), from the address that a STUN server told its
 * phone and the one from which it came to kedge. */
enum kg_mapping {
    KG_MAPPING_UNKNOWN,
    KG_MAPPING_NONE, /* no NAT */
    KG_MAPPING_CONE, /* endpoint-independent */
    KG_MAPPING_SYMMETRIC,
};
enum kg_mapping kg_record_mapping(const struct kg_record *record, enum kg_side side);
/* For the JSON of a leg and of a call. An address that is not set, and a time below 0, are null. */
json_t *kg_record_addr_json(const struct kg_addr *addr);
json_t *kg_record_ms_json(int64_t ms);
void kg_record_add_leg_ice(json_t *json, const struct kg_record *record, enum kg_side side);
void kg_record_add_ice(json_t *json, const struct kg_record *record);
void kg_record_set_pairs(struct kg_record *record, const struct kg_media_session_info *info);

/* One row of `calls --json`. state: kg_call_state_name. */
json_t *kg_record_json(const struct kg_record *record, const char *state);
/* Plain sentences: who called whom, over what, which media path and why, who hears whom and if not, why not.
 */
json_t *kg_record_explain(const struct kg_record *record, const char *state);

#endif
