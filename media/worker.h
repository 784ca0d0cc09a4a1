/* A worker: one thread, one epoll set, the relays it owns. The control thread gives it commands through one
 * bounded queue and takes its notices from another; nothing else is shared. */
#ifndef KG_MEDIA_WORKER_H
#define KG_MEDIA_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "media/relay.h"

/* Sockets for one leg. */
struct kg_grant {
    uint8_t stream, side;
    bool ipv6;
    bool moved; /* in place of others, on the same ports */
    int fd[2];  /* RTP, RTCP */
};
#define KG_GRANTS_MAX (2 * KG_MEDIA_STREAMS_MAX)

/* What a latch holds, by side, stream and RTP/RTCP: reported for, or restored from, another engine's life. */
struct kg_latched {
    struct kg_addr addr[2][KG_MEDIA_STREAMS_MAX][2];
    uint8_t proof[2][KG_MEDIA_STREAMS_MAX][2];
};

struct kg_report {
    uint8_t stream_count;
    struct kg_media_stats stats[2][KG_MEDIA_STREAMS_MAX]; /* without `local` */
    struct kg_latched latched;
    uint8_t pair_count;
    struct kg_media_pair *pair; /* owned, KG_MEDIA_PAIRS_MAX; NULL: no ICE */
};
void kg_report_free(struct kg_report *report);

enum kg_command_type {
    KG_COMMAND_CHANGE, /* also the first for a relay: adopts it */
    KG_COMMAND_REMOVE, /* reports, closes its sockets, frees it */
    KG_COMMAND_REPORT,
    KG_COMMAND_LIMITS,
    KG_COMMAND_STOP,
};

/* Heap-allocated by the control thread. The worker frees CHANGE, LIMITS and STOP; REMOVE and REPORT come back
 * in a KG_NOTICE_DONE. */
struct kg_command {
    enum kg_command_type type;
    struct kg_relay *relay;
    bool adopt, answered;
    uint8_t grant_count;
    struct kg_media_side *side[2];                  /* owned (kg_media_side_copy); NULL: as before */
    struct kg_stream *stream[KG_MEDIA_STREAMS_MAX]; /* new ones, owned */
    struct kg_grant grant[KG_GRANTS_MAX];
    struct kg_latched *restore;      /* owned; may be NULL */
    struct kg_ice_change *ice;       /* owned; may be NULL */
    struct kg_secure_change *secure; /* owned; may be NULL */
    struct kg_limits limits;
    struct kg_report *report; /* REPORT, REMOVE: to fill */
    void *ctx;                /* the control thread's */
    struct kg_command *next;
};
void kg_command_free(struct kg_command *command); /* not the relay, not the report */

enum kg_notice_type {
    KG_NOTICE_LATCHED, /* side, stream, rtcp, proof, addr */
    KG_NOTICE_ICE,     /* side, stream, ice_state, addr, reason */
    KG_NOTICE_PATH,    /* stream, relayed, reason */
    KG_NOTICE_LEFT,    /* side, stream, reason */
    KG_NOTICE_RTCP,    /* side, stream, rtcp (a port of its own), addr: its source, packet */
    KG_NOTICE_SECURE,  /* side, stream, rtcp, secured, reason */
    KG_NOTICE_REKEY,   /* side */
    KG_NOTICE_DONE,
    KG_NOTICE_SILENT,
    KG_NOTICE_ABANDONED
};
/* A report and four blocks (RFC 3550 6.4.1); what follows is cut. */
#define KG_NOTICE_PACKET 124
struct kg_notice {
    enum kg_notice_type type;
    struct kg_command *command; /* DONE */
    void *owner;                /* the others: relay->owner */
    uint8_t side, stream, proof, ice_state;
    bool rtcp, relayed, secured;
    struct kg_addr addr;
    const char *reason; /* static */
    uint8_t packet_len;
    uint8_t packet[KG_NOTICE_PACKET];
};

struct kg_worker;
/* wake_fd: an eventfd written when there are notices. Starts the thread. Returns NULL with errno. */
struct kg_worker *kg_worker_new(unsigned index, const struct kg_limits *limits, int wake_fd);
/* Ends the thread after the commands sent so far; notices can still be taken. */
void kg_worker_stop(struct kg_worker *worker);
/* After stop: closes and frees all. */
void kg_worker_free(struct kg_worker *worker);

/* Control thread only. Commands that can still be queued; send needs at least one. A worker looks at its
 * commands whenever packets or its timer wake it; wake makes it look now. */
uint32_t kg_worker_room(const struct kg_worker *worker);
void kg_worker_send(struct kg_worker *worker, struct kg_command *command);
bool kg_worker_has_commands(const struct kg_worker *worker); /* not yet taken */
void kg_worker_wake(struct kg_worker *worker);
bool kg_worker_take_notice(struct kg_worker *worker, struct kg_notice *out);
/* Worker thread only. False: no room, nothing was told. */
bool kg_worker_notify(struct kg_worker *worker, const struct kg_notice *notice);
/* Grows while the worker makes progress. */
uint32_t kg_worker_beat(const struct kg_worker *worker);

#endif
