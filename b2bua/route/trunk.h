/* Inside of trunks.c, trunk.c: one trunk at work. Nobody else includes this. */
#ifndef KG_ROUTE_TRUNK_H
#define KG_ROUTE_TRUNK_H

#include "b2bua/registrar/challenge.h"
#include "b2bua/route/enrol.h"
#include "b2bua/route/failover.h"
#include "b2bua/route/trunks.h"
#include "b2bua/store/store.h"

/* A server that says nothing at all for so long gives way to the next one: nobody waits for this as for a
 * call. */
#define KG_TRUNK_ANSWER_MS 4000
/* In place of a status: nobody could be asked. */
#define KG_TRUNK_UNASKED (-1)

struct kg_trunk {
    struct kg_trunk *prev, *next;
    struct kg_trunks *trunks;
    unsigned refs;
    struct kg_trunk_config config;
    size_t index; /* in server->config.trunk; SIZE_MAX: removed */
    struct kg_enrol enrol;
    bool leaving;              /* removed, and kept until it has unregistered */
    char line[25];             /* user part and line parameter of its Contact: who knows it is the provider */
    char call_id[33], tag[17]; /* of its REGISTERs (RFC 3261 10.2) */
    uint32_t cseq;
    nta_outgoing_t *orq;                 /* the REGISTER in flight */
    int64_t give_up_ms;                  /* unless something was heard */
    struct kg_flow flow;                 /* where it goes */
    uint32_t peer;                       /* that server's number (peers.h) */
    uint32_t epoch;                      /* of that server when it registered us */
    uint32_t tried[KG_FAILOVER_SERVERS]; /* servers, since it was due */
    unsigned tried_count;
    bool unheard;                            /* peers.h waits to hear of it */
    char domain[KG_DOMAIN_MAX + 2], port[8]; /* of URIs of its own */
    char realm[256];                         /* the first one that asked, where none is configured */
    char pbx_realm[256];                     /* likewise at the PBX */
    char *service_route;                     /* of the last 200 */
    uint32_t calls;
    int said;     /* the status that the log has last told of, or KG_TRUNK_UNASKED; 0: none */
    bool unasked; /* no REGISTER went out: no server has an address, or each is down */
};

struct kg_trunks {
    struct kg_server *server;
    struct kg_trunk *list;
    struct kg_digest *digest;
    su_timer_t *timer;
};

void kg_trunk_tick(struct kg_trunk *trunk, int64_t now_ms);
/* The REGISTER in flight, if any, is nobody's any more. */
void kg_trunk_drop(struct kg_trunk *trunk);
/* Unregisters, if there is anything to. */
void kg_trunk_leave(struct kg_trunk *trunk);

#endif
