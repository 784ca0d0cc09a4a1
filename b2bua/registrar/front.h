/* In front of a PBX: what front.c (the rules), forward.c (the way to the PBX and back) and nobody else
 * shares. */
#ifndef KG_FRONT_H
#define KG_FRONT_H

#include "b2bua/registrar/gate.h"
#include "b2bua/registrar/inside.h"
#include "b2bua/route/failover.h"
#include "b2bua/route/peers.h"

/* More REGISTERs than this wait for the PBX: the next one is told to come back (503). */
#define KG_FORWARDS_MAX 4096
/* A refresh is answered here only if the PBX's own registration outlives the phone's by this. */
#define KG_PBX_MARGIN_S 30

/* A forwarded REGISTER leaves transactions of some 8 KB for 64*T1 = 32 s (RFC 3261 timer J). From where no
 * phone is registered only as many pass as b2bua/registrar/gate.h says, in two rows: from addresses that may
 * be forged, and from others. The next ones get 503 without a transaction, and a place in the queue. That
 * bounds the memory at 2 * (2,500 + 32 * 156) * 8 KB = 120 MB; 10,000 phones that all start at once, each
 * asking once as a stranger and then answering its challenge, are in after a minute. */

struct kg_names {
    char token[KG_TOKEN_SIZE];  /* of the binding */
    char device[KG_TOKEN_SIZE]; /* the PBX knows the phone by it */
};

/* What a PBX does with a Path (RFC 3327). */
enum kg_path_at { KG_PATH_UNKNOWN, KG_PATH_TAKEN, KG_PATH_IGNORED };

/* One REGISTER on its way to the PBX. */
struct kg_forward {
    struct kg_front *front;
    nta_incoming_t *irq; /* the phone's */
    nta_outgoing_t *orq; /* ours to the PBX */
    msg_t *request;      /* keeps the phone's headers alive */
    const sip_t *sip;
    struct kg_flow flow;
    struct kg_register wanted;
    struct kg_names names[KG_WISHES_MAX]; /* of each wish */
    bool own_contact;                     /* the PBX gets the phone's own Contact, and us in the Path */
    char auth_user[128];
    uint32_t pbx; /* the one asked now */
    uint32_t choice[KG_FAILOVER_SERVERS];
    size_t choices, choice_next;
    bool waits; /* for the first response of that one */
    int64_t began_ms, give_up_ms;
    struct kg_forward *prev, *next;
};

struct kg_front {
    struct kg_registrar *registrar;
    struct {
        uint32_t pbx;
        enum kg_path_at at;
    } path_at[KG_PBX_MAX];              /* of the PBXes asked last */
    unsigned path_next;                 /* the place that the next new one takes */
    struct kg_forward *forwards, *next; /* next: during a tick, the one that is looked at then */
    unsigned forward_count;
    struct kg_gate strangers, proven; /* from addresses that proved nothing, and from others */
    uint32_t expires_s;               /* asked of the PBX; more than configured after a 423 */
};

/* forward.c. Takes x over. names as in struct kg_forward. */
void kg_forward_start(struct kg_front *front, struct kg_exchange *x, const struct kg_register *wanted,
                      const struct kg_names names[KG_WISHES_MAX], uint32_t preferred_pbx);
/* 503 with that time to come back. */
void kg_forward_put_off(struct kg_exchange *x, uint32_t seconds);
void kg_forward_tick(struct kg_front *front, int64_t now_ms);
void kg_forward_free(struct kg_forward *forward);

/* front.c: the PBX said 200. Brings the bindings up to date; false: no memory. */
bool kg_front_accept(struct kg_front *front, const struct kg_forward *forward, const sip_t *answer,
                     int64_t now_ms);
/* The digest user name in a request, "" if none. */
void kg_front_auth_user(const sip_t *sip, char *out, size_t size);

#endif
