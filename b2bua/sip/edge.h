/* The edge: a thread of its own that accepts every TCP, TLS and WebSocket connection, enforces limits and
 * deadlines, encrypts, cuts the stream into messages and passes whole ones through a socketpair to the
 * signalling thread. */
#ifndef KG_SIP_EDGE_H
#define KG_SIP_EDGE_H

#include <openssl/ssl.h>
#include <stdint.h>

#include "conf/config.h"

struct kg_edge;
struct kg_files;
struct event_base;

/* A connection that sent its first whole message. */
struct kg_edge_stream {
    enum kg_transport transport;
    struct kg_addr remote, local;
    char name[KG_DOMAIN_MAX]; /* ours to a server by TLS: who it must prove to be, if verify */
    bool verify;
    int fd; /* our end of the socketpair; the receiver owns it */
};
/* Called on the edge thread. Returns 0, or an errno: the connection is refused and the edge closes the fd. */
typedef int kg_edge_offer(void *ctx, const struct kg_edge_stream *stream);

/* What it is made of beside the configuration. server: for listeners, may be NULL without any (at a reload:
 * the present one stays); client: for our own connections; files: for browsers. */
struct kg_edge_means {
    SSL_CTX *server, *client;
    struct kg_files *files;
};
void kg_edge_means_free(struct kg_edge_means *means);

/* Takes the references over. NULL when out of memory or descriptors. */
struct kg_edge *kg_edge_new(const struct kg_config *config, struct kg_edge_means means, kg_edge_offer *offer,
                            void *ctx);
/* Before kg_edge_start. Fills in a zero port. An address that is listened on already serves this transport,
 * too. 0 or an errno. */
int kg_edge_listen(struct kg_edge *edge, enum kg_transport transport, struct kg_addr *addr);
int kg_edge_start(struct kg_edge *edge);
/* Ends the thread and closes every connection. Takes NULL. */
void kg_edge_free(struct kg_edge *edge);

struct event_base *kg_edge_base(struct kg_edge *edge);
/* Any thread. Connects to stream->remote and relays to stream->fd, which is taken over in any case; a failure
 * shows as its end. 0 or EAGAIN. */
int kg_edge_connect(struct kg_edge *edge, const struct kg_edge_stream *stream);
/* Any thread. For new connections. 0, EAGAIN or ENOMEM: the means are taken over anyhow. */
int kg_edge_reload(struct kg_edge *edge, const struct kg_config *config, struct kg_edge_means means);
/* Any thread. Closes every connection from this source (an IPv6 /64 is one) and accepts none until then; 0
 * lifts it. 0, EAGAIN or ENOMEM. */
int kg_edge_ban(struct kg_edge *edge, const struct kg_addr *source, int64_t until_ms);
struct kg_edge_counts {
    uint64_t refused;            /* connections, by a limit or deadline */
    uint64_t websockets;         /* opened */
    uint64_t handshakes_refused; /* Origin, subprotocol and the like */
};
/* Any thread. */
struct kg_edge_counts kg_edge_counts(const struct kg_edge *edge);

#endif
