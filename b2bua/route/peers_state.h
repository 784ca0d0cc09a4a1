/* Inside of route/: what peers_find.c and peers.c keep and peers_show.c shows. */
#ifndef KG_ROUTE_PEERS_STATE_H
#define KG_ROUTE_PEERS_STATE_H

#include "b2bua/route/locate.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/probe.h"
#include "b2bua/route/resolve.h"

/* Addresses of all servers together. */
#define KG_PEERS_MAX 512
#define KG_GROUPS    (KG_TRUNKS_MAX + 1)

/* A server at one address. */
struct kg_peer_state {
    uint32_t id, group;
    unsigned entry; /* of the group */
    struct kg_place place;
    struct kg_server_at at; /* what it was made of */
    char name[KG_ADDR_STR + 8];
    char call_id[KG_PROBE_CALL_ID];
    struct kg_health health;
    struct kg_flow flow; /* tport NULL: not found yet */
    bool wanted;         /* it is where its server is now */
    int64_t retired_ms;
};

/* A server as configured. */
struct kg_peer_entry {
    struct kg_server_at at;
    bool located;   /* at least once */
    bool complains; /* about DNS having nothing: said already */
};

struct kg_peer_group {
    char name[KG_NAME_MAX]; /* "": the PBXes */
    uint32_t probe_ms;
    struct kg_peer_entry entry[KG_PBX_MAX];
    size_t entry_count;
};

struct kg_peers {
    struct kg_server *server;
    struct kg_resolver *resolver;
    su_timer_t *timer;
    struct kg_peer_group group[KG_GROUPS];
    uint32_t group_count;
    struct kg_peer_state *peer[KG_PEERS_MAX]; /* those of a group and an entry in the order that DNS gave */
    size_t count;
    int64_t locate_ms; /* when next */
    bool changed;      /* there are other addresses than the media engine knows */
};

static inline bool kg_peer_is_at(const struct kg_peer_state *peer, enum kg_transport transport,
                                 const struct kg_addr *addr)
{
    return peer->place.at.transport == transport && kg_addr_equal(&peer->place.at.addr, addr);
}

/* ---- peers_find.c ---- */
/* Brings all peers to what is known of their names now. */
void kg_peers_locate(struct kg_peers *peers, int64_t now_ms);
/* Where a server was before the restart, until DNS says more (remember.h). */
bool kg_peers_recalled(void *ctx, const char *server, const struct kg_place *place, size_t count);
void kg_peers_remove(struct kg_peers *peers, size_t index);

/* ---- peers.c ---- */
struct kg_peer_state *kg_peers_find(const struct kg_peers *peers, uint32_t id); /* NULL: none */

#endif
