/* One session's packet side: who may send, what is counted, where each packet goes. Sans-IO: the worker that
 * owns the relay reads and writes the sockets. Everything here belongs to that worker's thread. */
#ifndef KG_MEDIA_RELAY_H
#define KG_MEDIA_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "media/client.h"
#include "media/deadlines.h"
#include "media/latch.h"
#include "media/quality.h"

struct kg_flow;

/* A datagram on its way through: opened, filtered and sealed in place. */
struct kg_datagram {
    uint8_t *data;
    size_t len;
    size_t room; /* bytes that data may take: KG_SRTP_GROWTH behind the longest that shall pass */
    const struct kg_addr *source;
    struct kg_leg *to; /* the relay's: the leg whose media it is when it leaves */
    bool genuine;      /* the relay's: the keys of that side have authenticated it, and it is no replay */
};

struct kg_limits {
    struct kg_latch_limits latch;
    uint32_t silence_timeout_ms;
    uint32_t hold_timeout_ms;
    uint32_t unanswered_timeout_ms;
    struct kg_ice_settings ice; /* times; the worker adds randomness */
    const uint8_t *dtls_secret; /* 32 bytes of the process, for DTLS cookies */
    /* Sees every RTCP packet that is relayed and not encrypted. NULL: nobody wants to. */
    void (*on_rtcp)(void *ctx, const struct kg_flow *in, const struct kg_addr *source, const uint8_t *data,
                    size_t len);
    void *on_rtcp_ctx;
    bool tell_rtcp; /* the worker is to set on_rtcp */
};

/* A socket: RTP (with muxed RTCP) or RTCP of one leg. */
struct kg_flow {
    struct kg_leg *leg;
    int fd; /* -1: none */
    bool rtcp : 1;
    bool ipv6 : 1;
    bool untold : 1;   /* remote moved and signalling does not know yet */
    bool borrowed : 1; /* ICE: remote was proven by something else than what serves this flow now */
    uint8_t tos;       /* as set on fd: traffic class of the latest packet sent */
    uint8_t ice;       /* enum kg_ice_use; set also before the side has described itself */
    struct kg_latch latch;
    struct kg_latch_rules rules;
};

/* One stream on one side. */
struct kg_leg {
    struct kg_stream *stream;
    struct kg_leg *carrier; /* bundle.h: has sockets, ICE and keys for this one too; NULL: it has its own */
    struct kg_leg_secure *secure; /* secure.h; NULL: PASS, and it was never anything else */
    uint8_t side;                 /* enum kg_side */
    bool described;               /* this side's SDP is known */
    bool enabled;
    bool rtcp_mux;
    bool carries; /* other lines share its transport */
    uint8_t mid_extension;
    char mid[KG_MEDIA_MID_MAX];
    bool any_payload;  /* its SDP names something else than RTP (T.38 over UDPTL) */
    uint8_t direction; /* enum kg_direction */
    uint8_t codec_count;
    uint8_t last_type; /* payload type of the latest packet */
    bool has_type;
    uint32_t clock_rate; /* of last_type; 0: unknown or events */
    uint32_t moves;      /* how often RTP's proven address changed in talk */
    struct kg_media_codec *codec;
    struct kg_flow rtp, rtcp;
    struct kg_quality quality; /* of what arrives from this side */
    uint64_t packets_in, packets_out, bytes_in, bytes_out, dropped;
    int64_t first_packet_ms, last_packet_ms; /* RTP; 0: never */
    int32_t move_gap_ms;                     /* silence before the latest move; -1: none */
    uint32_t sr_ntp_middle;                  /* of the SR last sent to this side, for its round trip */
    int64_t sr_us;
    int64_t rtt_us; /* negative: unknown */
};

struct kg_stream {
    struct kg_relay *relay;
    uint8_t index;
    bool any_payload; /* of either leg */
    char kind[12];
    struct kg_leg leg[2];
};

struct kg_relay {
    uint8_t stream_count;
    bool answered;
    bool on_hold;
    bool silent;                                    /* silence was reported */
    uint8_t reminders;                              /* since then */
    struct kg_stream *stream[KG_MEDIA_STREAMS_MAX]; /* NULL: line without sockets yet */
    int64_t created_ms;
    int64_t alive_ms; /* latest accepted packet of any kind, answer, or change of hold */
    int64_t silent_ms;
    struct kg_bundle *bundle[2];   /* by side; NULL: no lines share a transport there, nor did */
    struct kg_relay_ice *ice;      /* relay_ice.h; NULL: no side ever spoke of ICE */
    struct kg_deadline due;        /* in the worker's heap: when ICE or DTLS has something to do by itself */
    bool secured;                  /* some leg has `secure` */
    bool touched;                  /* ICE or DTLS may have something to send, or another deadline */
    bool untold;                   /* there is news for signalling in `ice` or in a leg's `secure` */
    uint8_t handshakes;            /* datagrams that cost DTLS computations since the worker last looked */
    void *owner;                   /* the control thread's session; opaque here */
    struct kg_relay *next, **prev; /* the worker's list */
};

/* Sockets are the worker's to add and close. Returns NULL without memory. */
struct kg_relay *kg_relay_new(void *owner, int64_t now_ms);
void kg_relay_free(struct kg_relay *relay); /* does not close fds */
struct kg_stream *kg_stream_new(uint8_t index, const char *kind);
void kg_stream_free(struct kg_stream *stream);
void kg_relay_add_stream(struct kg_relay *relay, struct kg_stream *stream);

/* What a side said now: rules, codecs, direction; opens its latches again. 0 or ENOMEM (then the relay is as
 * before). */
int kg_relay_describe(struct kg_relay *relay, enum kg_side side, const struct kg_media_side *what,
                      int64_t now_ms);
void kg_relay_set_answered(struct kg_relay *relay, bool answered, int64_t now_ms);
/* What an earlier engine had proven; after kg_relay_describe. */
void kg_relay_restore(struct kg_flow *flow, const struct kg_addr *remote, enum kg_proof proof,
                      int64_t now_ms);

/* A datagram arrived. Returns the flow to send it from, as it is now, and its address in *to (valid until the
 * next call), or NULL: the packet ends here and is counted. */
struct kg_flow *kg_relay_packet(struct kg_flow *in, struct kg_datagram *datagram,
                                const struct kg_limits *limits, int64_t now_us, const struct kg_addr **to);
/* The datagram was handed to the kernel. to: as kg_relay_packet left it in kg_datagram. */
void kg_relay_sent(struct kg_flow *out, struct kg_leg *to, const uint8_t *data, size_t len);
/* A payload type in SDP is what its author receives (RFC 3264 5.1), and mostly also what it sends: either
 * list names it. NULL: neither. */
const struct kg_media_codec *kg_leg_negotiated(const struct kg_leg *leg, uint8_t payload_type);
/* The latch of this flow moved otherwise than by ICE. */
void kg_relay_moved(struct kg_flow *flow, int64_t now_ms);
/* The flow's proven address became another one after so much silence of its side. */
void kg_relay_count_move(struct kg_flow *flow, int64_t gap_ms);

/* NULL, or why the session is to end: no packet within the limit that applies. Said once until a packet
 * comes. */
const char *kg_relay_silence(struct kg_relay *relay, const struct kg_limits *limits, int64_t now_ms);

void kg_leg_stats(const struct kg_leg *leg, int64_t now_ms, struct kg_media_stats *out); /* without `local` */

#endif
