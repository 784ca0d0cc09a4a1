/* Inside of the edge: one connection, between the network and the signalling thread. Edge thread only. */
#ifndef KG_SIP_CONNECTION_H
#define KG_SIP_CONNECTION_H

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdatomic.h>
#include <uthash.h>

#include "b2bua/sip/edge.h"
#include "b2bua/sip/files.h"
#include "b2bua/sip/framing.h"
#include "b2bua/sip/websocket.h"

/* Connections are counted by host: an IPv4 address, or an IPv6 /64, which is what one customer gets (RFC
 * 6177). */
struct kg_source {
    uint8_t key[16];
    unsigned connections;
    int64_t banned_until_ms; /* monotonic; 0: is not */
    UT_hash_handle hh;
};

enum kg_connection_state {
    KG_CONNECTION_SILENT,    /* its first byte will tell TLS from plain: nothing is read yet */
    KG_CONNECTION_OPENING,   /* TLS handshake, or our own connect */
    KG_CONNECTION_OPEN,      /* both ways */
    KG_CONNECTION_FLUSH_NET, /* signalling closed: what it wrote still goes out */
    KG_CONNECTION_FLUSH_SIP, /* the peer closed: what it wrote still goes in */
    KG_CONNECTION_CLOSING    /* a last word goes out; what comes is thrown away until the peer closes */
};

/* What is spoken on it, below SIP. */
enum kg_wire {
    KG_WIRE_UNKNOWN, /* the first bytes will tell SIP from HTTP */
    KG_WIRE_SIP,
    KG_WIRE_HTTP,
    KG_WIRE_WEBSOCKET
};

/* The transports of a listener, as a set. */
#define KG_TRANSPORT_BIT(transport) (1u << (transport))

struct kg_connection {
    struct kg_edge *edge;
    struct kg_connection *prev, *next;
    enum kg_connection_state state;
    enum kg_wire wire;
    unsigned allowed; /* transports of its listener */
    bool secure;      /* TLS */
    bool outgoing;
    int fd;                       /* while silent; else -1 and net's */
    struct kg_edge_stream stream; /* fd: -1 once handed over */
    struct kg_source *source;     /* NULL for outgoing ones */
    struct bufferevent *net;
    struct bufferevent *sip; /* our end of the socketpair; NULL until the first message */
    struct event *deadline;
    struct event *ping; /* while silent: the first byte; of a WebSocket: when its life is asked for */
    struct kg_framing framing;
    struct kg_websocket *websocket;
    struct kg_framing from_sip; /* messages for the WebSocket */
    bool heard, asked;          /* since the last ping; whether there was one */
    bool said_all;              /* while closing: the last word is out */
};

struct kg_edge {
    struct event_base *base;
    struct kg_connection *connections;
    unsigned count;
    struct kg_source *sources;
    typeof(((struct kg_config *)0)->limits) limits;
    struct kg_web_config web;
    char domain[KG_DOMAIN_MAX];
    struct kg_files *files;
    SSL_CTX *server, *client;
    kg_edge_offer *offer;
    void *ctx;
    int64_t warned_ms, distrusted_ms; /* when the log was last told of a refusal, of a server's certificate */
    atomic_uint_fast64_t refused, websockets, handshakes_refused;
};

/* An accepted socket, or -1 and stream->fd toward signalling to connect to stream->remote. Owns fd and source
 * from here on, in any case. */
void kg_connection_new(struct kg_edge *edge, int fd, const struct kg_edge_stream *stream, unsigned allowed,
                       struct kg_source *source);
void kg_connection_free(struct kg_connection *connection);
/* Counts and frees. */
void kg_connection_refuse(struct kg_connection *connection, const char *why);
/* What waits in net's output is the last word: after that nothing more is said, and nothing is heard. */
void kg_connection_finish(struct kg_connection *connection);
void kg_connection_deadline(struct kg_connection *connection, uint32_t ms);
/* More waits in either direction than should: reading stops until it has gone. */
bool kg_connection_is_full(struct kg_connection *connection);
/* Its first whole message: from now on the signalling thread knows it. 0 or an errno. */
int kg_connection_hand_over(struct kg_connection *connection);
/* Counts a refusal, and says why in the log, but not more than once in a while. */
void kg_edge_note_refusal(struct kg_edge *edge, const struct kg_addr *remote, const char *why);
void kg_edge_release_source(struct kg_edge *edge, struct kg_source *source);

#endif
