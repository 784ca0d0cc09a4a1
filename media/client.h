/* Media control client: what signalling knows of the media engine. The only header of media/ that b2bua/
 * includes.
 *
 * One UNIX seqpacket connection (media/control.proto). Asynchronous, single-threaded, no clock of its own:
 * the owner polls kg_media_client_fd() and calls kg_media_client_run() when it is ready or the deadline has
 * passed.
 *
 * The client mirrors every session it created (last descriptions, local ports, latched addresses). When the
 * engine was restarted it creates them all again on the same ports, so that talk goes on; when signalling was
 * restarted it reads the sessions back from the engine and hands out their snapshots (`recovered`).
 */
#ifndef KG_MEDIA_CLIENT_H
#define KG_MEDIA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"
#include "conf/config.h"
#include "ice/agent/agent.h"
#include "media/keys.h"

#define KG_MEDIA_ID_MAX       32 /* bytes of a session id with NUL: the call's id, hex */
#define KG_MEDIA_STREAMS_MAX  8  /* m-lines */
#define KG_MEDIA_CODECS_MAX   24 /* payload types an m-line */
#define KG_MEDIA_SNAPSHOT_MAX 8192
#define KG_MEDIA_MID_MAX      17 /* with NUL; longer ones are not told apart in packets */

enum kg_side { KG_SIDE_A, KG_SIDE_B }; /* caller, callee */
static inline enum kg_side kg_other_side(enum kg_side side)
{
    return side == KG_SIDE_A ? KG_SIDE_B : KG_SIDE_A;
}

/* From the describing side's view, as in SDP (RFC 8866 6.7): bit 0 it receives, bit 1 it sends. */
enum kg_direction { KG_INACTIVE = 0, KG_RECVONLY = 1, KG_SENDONLY = 2, KG_SENDRECV = 3 };

/* Weakest first; the order is the comparison (README.md, "Who is believed"). */
enum kg_proof {
    KG_PROOF_NONE,
    KG_PROOF_FIRST_PACKETS, /* nothing but arrival within the window; only where permitted */
    KG_PROOF_SAME_ADDRESS,  /* host equals the signalling source or the SDP host */
    KG_PROOF_SDP,           /* host and port as in SDP */
    KG_PROOF_SRTP,          /* SRTP of the right key came from there */
    KG_PROOF_ICE, /* a connectivity check with the right password came from there, or was answered from there
                   */
};
const char *
kg_proof_name(enum kg_proof proof); /* "none", "first-packets", "same-address", "sdp", "srtp", "ice" */

struct kg_media_codec {
    uint8_t payload_type;
    uint32_t clock_rate; /* Hz */
    char name[16];       /* "PCMU" */
};

/* What ICE means for one m-line of one side. */
enum kg_ice_use {
    KG_ICE_UNUSED, /* latching */
    KG_ICE_AGENT,  /* kedge is the ICE peer of this side (full agent) with kg_media_ice_local */
    KG_ICE_STEER,  /* the other side is: our port passes verified checks and media between the two, and is one
                      of their relay candidates. Both sides of the m-line have it, or neither. */
};
const char *kg_ice_use_name(enum kg_ice_use use); /* "none", "agent", "steer" */

/* What one side's SDP says about one m-line. */
struct kg_media_stream {
    bool enabled;        /* port not 0 */
    char kind[12];       /* "audio", "video", "image" ... */
    struct kg_addr rtp;  /* c= and m=; none where the side only reserved the line */
    struct kg_addr rtcp; /* a=rtcp or port + 1; equal to rtp with rtcp-mux */
    bool rtcp_mux;       /* agreed (in an answer) or offered (in an offer) */
    enum kg_direction direction;
    struct kg_media_codec codec[KG_MEDIA_CODECS_MAX];
    uint8_t codec_count;
    uint8_t ice_use; /* enum kg_ice_use */
    /* NULL: the m-line does no ICE. Belongs to whoever made it (a kg_sdp); kg_media_apply copies it. */
    const struct kg_ice_description *ice;
    /* NULL: KG_SECURE_PASS with nothing sealed. Belongs to whoever made it; kg_media_apply copies it. */
    const struct kg_media_secure *secure;
    /* RFC 9143: 1 + number of the m-line whose transport this one shares on this side; 0: it has its own. */
    uint8_t bundle;
    uint8_t mid_extension; /* id of urn:ietf:params:rtp-hdrext:sdes:mid in the packets it sends (RFC 8285); 0:
                              none */
    char mid[KG_MEDIA_MID_MAX]; /* a=mid; "": none */
};

/* All that one side said, and what signalling knows of it. */
struct kg_media_side {
    struct kg_addr signalling; /* packet source of its SIP; port ignored */
    bool trusted;              /* a configured PBX: its SDP address may be sent to before it sent anything */
    bool first_packets;        /* a source of any address may latch within the window */
    uint8_t stream_count;
    struct kg_media_stream stream[KG_MEDIA_STREAMS_MAX];
};

/* What a side was, or will be, told of kedge as an ICE agent. Given before the side has described itself, so
 * that its first checks are answered. */
struct kg_media_ice_local {
    char ufrag[KG_ICE_OUR_UFRAG],
        pwd[KG_ICE_OUR_PWD];   /* ufrag "": as before. Others than before: a restart */
    bool controlling;          /* we made the offer that started this ICE session (RFC 8445 6.1.1) */
    struct kg_addr advertised; /* host of our candidate as told; none: as bound. Port ignored */
};

/* A change of a session; created if the id is new. Either side may be NULL ("as before"). */
struct kg_media_change {
    char id[KG_MEDIA_ID_MAX];
    struct kg_addr bind[2]; /* local host for each side (port 0); used when a stream is first allocated, and
                               before the answer to move it there, ports and all */
    struct kg_media_ice_local ice[2];
    const struct kg_media_side *side[2];
    bool answered;        /* the call is in talk: silence and hold timeouts apply */
    const void *snapshot; /* NULL: as before */
    size_t snapshot_len;  /* at most KG_MEDIA_SNAPSHOT_MAX */
};

struct kg_media_local {
    struct kg_addr rtp, rtcp; /* bound here; rtcp is always rtp + 1 */
};

/* One stream on one side, as counted by the engine. */
struct kg_media_stats {
    char kind[12];
    char codec[16];               /* last seen payload type's name, "" before any packet */
    struct kg_addr local, remote; /* remote: where we send; none until proven */
    enum kg_proof proof;
    uint64_t packets_in, packets_out, bytes_in, bytes_out; /* RTP, bytes of UDP payload */
    uint64_t dropped;                                      /* arrived from an unproven source, or not RTP */
    uint64_t lost;              /* of what this side sent us, by sequence numbers */
    double jitter_ms;           /* RFC 3550 6.4.1 */
    double rtt_ms;              /* from RTCP; negative: unknown */
    double mos;                 /* E-model (G.107); 0: unknown */
    int64_t last_packet_ms_ago; /* -1: never */
    int64_t first_packet_ms;    /* after the session was created; -1: never */
    uint8_t ice_use;            /* enum kg_ice_use */
    uint8_t ice_state;          /* enum kg_ice_state; of KG_ICE_AGENT */
    int64_t ice_connected_ms;   /* after the session was created: the first valid pair; -1: none (yet) */
    uint32_t moves;             /* how often its proven address changed in talk */
    int64_t move_gap_ms;        /* silence before the latest move; -1: never moved */
    uint8_t secure_use;         /* enum kg_secure_use */
    uint8_t suite;              /* enum kg_srtp_suite with which we send; of SDES and DTLS */
    uint64_t srtp_bad;          /* packets whose tag did not fit */
    uint64_t srtp_replayed;
    uint64_t unsent; /* of the other side, dropped since there were no keys to send them with */
    bool wants_keys; /* as KG_MEDIA_REKEY says, until others have come */
};

/* One candidate pair that kedge saw. AGENT: of its own agent. STEER: between this side and our relay
 * candidate. */
struct kg_media_pair {
    uint8_t side;
    struct kg_ice_pair pair;
};
#define KG_MEDIA_PAIRS_MAX 48 /* of a session; the best of each side */

struct kg_media_session_info {
    char id[KG_MEDIA_ID_MAX];
    uint8_t stream_count;
    struct kg_media_stats stats[2][KG_MEDIA_STREAMS_MAX];
    const struct kg_media_pair *pair;
    uint8_t pair_count;
    const void *snapshot;
    size_t snapshot_len;
};

enum kg_media_error {
    KG_MEDIA_OK,
    KG_MEDIA_NO_PORTS,    /* every port of the range is in use or in quarantine */
    KG_MEDIA_NO_SOCKETS,  /* out of file descriptors or memory */
    KG_MEDIA_BAD_ADDRESS, /* cannot bind there */
    KG_MEDIA_UNKNOWN,     /* no such session */
    KG_MEDIA_TOO_BIG,     /* more streams than KG_MEDIA_STREAMS_MAX */
    KG_MEDIA_GONE,        /* the engine is not there and did not come back in time */
};
const char *kg_media_error_text(enum kg_media_error error); /* a sentence */

struct kg_media_reply {
    enum kg_media_error error;
    uint8_t stream_count;
    struct kg_media_local local[2][KG_MEDIA_STREAMS_MAX]; /* by side */
    const struct kg_media_session_info *info;             /* delete and query only */
};
/* Called exactly once for each request, never from inside the requesting call. */
typedef void kg_media_done(void *ctx, const struct kg_media_reply *reply);

enum kg_media_event_type {
    KG_MEDIA_LATCHED, /* side, stream, rtcp, proof, addr */
    KG_MEDIA_ICE,  /* side, stream, ice_state, addr (selected remote, or none), reason: kedge's agent of that
                      side changed state. DISCONNECTED: consent expired and no other pair took over */
    KG_MEDIA_PATH, /* stream, relayed, reason: a steered stream began to flow through the relay, or stopped to
                      while both sides still answer our checks (they talk directly) */
    KG_MEDIA_LEFT, /* side, stream, reason: steered, and that side answers no more checks on the relay path */
    KG_MEDIA_RTCP, /* side, stream, addr (its source), local, packet: a report was relayed; only with
                      hep.server */
    KG_MEDIA_SECURE, /* side, stream, secured, reason: a DTLS association stands, or why it does not */
    KG_MEDIA_REKEY, /* side: the index of keys of ours was lost with an engine; nothing is sent there until it
                       is offered new ones */
    KG_MEDIA_IDENTITY, /* kg_media_fingerprint is another one now. No id. */
    KG_MEDIA_SILENCE,  /* no packet within the timeout that applied: `reason` says which */
    KG_MEDIA_LOST, /* the session is gone: the restarted engine could not make it again, or it ended a silent
                      one that nobody deleted: `reason` */
    KG_MEDIA_RECOVERED, /* signalling was restarted: the engine holds this session (info with snapshot) */
    KG_MEDIA_UP,        /* connected; all sessions recovered or made again. No id. */
    KG_MEDIA_DOWN,      /* connection lost; requests wait. No id. */
};
struct kg_media_event {
    enum kg_media_event_type type;
    const char *id;
    enum kg_side side;
    uint8_t stream;
    bool rtcp;
    enum kg_proof proof;
    struct kg_addr addr;
    enum kg_ice_state ice_state;
    bool relayed;
    bool secured;
    const char *reason;
    const struct kg_media_session_info *info;
    struct kg_addr local;
    const uint8_t *packet; /* an SR or RR with up to four blocks; what follows may be cut */
    size_t packet_len;
};
typedef void kg_media_on_event(void *ctx, const struct kg_media_event *event);

struct kg_media_client;

/* path: the engine's socket. Does not connect yet: run does. Returns NULL without memory. */
struct kg_media_client *kg_media_client_new(const char *path, kg_media_on_event *on_event, void *ctx);
void kg_media_client_free(struct kg_media_client *client);

/* The fd to poll, -1 while not connected. It changes on reconnect: ask after every run. */
int kg_media_client_fd(const struct kg_media_client *client);
bool kg_media_client_wants_write(const struct kg_media_client *client);
bool kg_media_client_is_up(const struct kg_media_client *client);
/* Of the certificate with which the engine does DTLS from now on; NULL: not connected yet. An association
 * goes on with the one it began with. */
const struct kg_fingerprint *kg_media_fingerprint(const struct kg_media_client *client);
/* Reads, writes, (re)connects, expires requests; calls back. Returns ms until it wants to run again. */
int64_t kg_media_client_run(struct kg_media_client *client, int64_t now_ms);

/* Sends nothing itself (run does, or the write at once when the socket takes it). Returns 0 or
 * ENOMEM/EMSGSIZE/ENOBUFS (queue full: refuse the call); then done is not called. done may be NULL. */
int kg_media_apply(struct kg_media_client *client, const struct kg_media_change *change, kg_media_done *done,
                   void *ctx);
/* Ends the session; the reply carries its last statistics. */
int kg_media_delete(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx);
/* One session, or with id NULL every one: done is called for each, and last with info NULL. */
int kg_media_query(struct kg_media_client *client, const char *id, kg_media_done *done, void *ctx);
/* Servers whose hosts are never sent an ICE check, whatever candidate a phone names: part of the settings
 * below, and sent with them. At most KG_MEDIA_AVOID_MAX count. */
#define KG_MEDIA_AVOID_MAX 64
void kg_media_avoid(struct kg_media_client *client, const struct kg_addr *addr, size_t count);
/* Tells the engine changed settings (ports, timeouts); sent again after each reconnect. */
int kg_media_configure(struct kg_media_client *client, const struct kg_config *config);

#endif
