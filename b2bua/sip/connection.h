/* Inside of the edge: one connection, between the network and the signalling thread. Edge thread only. */
#ifndef KG_SIP_CONNECTION_H
#define KG_SIP_CONNECTION_H

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdatomic.h>
#include <uthash.h>

#include "b2bua/sip/edge.h"
#include "b2bua/sip/framing.h"

/* Connections are counted by host: an IPv4 address, or an IPv6 /64, which is what one customer gets (RFC
 * 6177). */
struct kg_source {
    uint8_t key[16];
    unsigned connections;
    int64_t banned_until_ms; /* monotonic; 0: is not */
    UT_hash_handle hh;
};

enum kg_connection_state {
    KG_CONNECTION_OPENING,   /* TLS handshake, or our own connect */
    KG_CONNECTION_OPEN,      /* both ways */
    KG_CONNECTION_FLUSH_NET, /* signalling closed: what it wrote still goes out */
    KG_CONNECTION_FLUSH_SIP  /* the peer closed: what it wrote still goes in */
};

struct kg_connection {
    struct kg_edge *edge;
    struct kg_connection *prev, *next;
    enum kg_connection_state state;
    bool outgoing;
    struct kg_edge_stream stream; /* fd: -1 once handed over */
    struct kg_source *source;     /* NULL for outgoing ones */
    struct bufferevent *net;
    struct bufferevent *sip; /* our end of the socketpair; NULL until the first message */
    struct event *deadline;
    struct kg_framing framing;
};

struct kg_edge {
    struct event_base *base;
    struct kg_connection *connections;
    unsigned count;
    struct kg_source *sources;
    typeof(((struct kg_config *)0)->limits) limits;
    SSL_CTX *server, *client;
    kg_edge_offer *offer;
    void *ctx;
    int64_t warned_ms, distrusted_ms; /* when the log was last told of a refusal, of a server's certificate */
    atomic_uint_fast64_t refused;
};

/* An accepted socket, or -1 and stream->fd toward signalling to connect to stream->remote. Owns fd and source
 * from here on, in any case. */
void kg_connection_new(struct kg_edge *edge, int fd, const struct kg_edge_stream *stream,
                       struct kg_source *source);
void kg_connection_free(struct kg_connection *connection);
/* Counts a refusal, and says why in the log, but not more than once in a while. */
void kg_edge_note_refusal(struct kg_edge *edge, const struct kg_addr *remote, const char *why);
void kg_edge_release_source(struct kg_edge *edge, struct kg_source *source);

#endif
