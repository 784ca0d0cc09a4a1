/* Inside of in.c and way.c: one INVITE on its way to becoming a call. */
#ifndef KG_CALL_INQUIRY_H
#define KG_CALL_INQUIRY_H

#include "b2bua/call/call.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/route.h"

struct kg_inquiry {
    struct kg_calls *calls;
    nta_incoming_t *irq;
    const sip_t *sip;
    const struct kg_flow *flow;
    struct kg_route_facts facts;
    uint64_t key;   /* of what makes two INVITEs the same one */
    char user[128]; /* called, as `numbers` made it; "" if none */
    char from_user[128];
    char caller[128];           /* account of the caller */
    char shown[KG_NUMBER_SIZE]; /* what `numbers` made of the caller's; "": as it came */
    bool rewritten;             /* user is not the request URI's any more */
    enum kg_policy policy;
    enum kg_profile profile;
    struct kg_trunk *trunk; /* it comes from; NULL: none. Borrowed */
    struct kg_target target[KG_TARGETS_MAX];
    struct kg_trunk *over[KG_TARGETS_MAX]; /* the trunk of each target; NULL: none. Borrowed */
    uint32_t peer[KG_TARGETS_MAX];         /* a target that is a server: its number in route/peers.h */
    size_t target_count;
    bool server;              /* the targets are servers: PBXes or trunks */
    msg_t *made;              /* instead of irq: the INVITE that kedge made, of which sip is */
    const char *authorized;   /* then: the account in whose name */
    struct kg_call *call;     /* then: the call that came of it */
    int status;               /* then: why none did */
    struct kg_caps_user *cap; /* counts the call; NULL: nobody's */
    bool claimed;             /* its name is proven by nothing yet but the PBX's answer */
};

/* in.c: makes a call of an INVITE that nobody sent. 0, or a status. */
int kg_inquiry_place(struct kg_inquiry *in);
/* Answers the INVITE. retry_after in seconds; 0: none. */
void kg_inquiry_refuse(struct kg_inquiry *in, int status, int retry_after);
/* way.c: who calls, and where that goes. Returns 0 with targets, or an errno when the INVITE was answered. */
int kg_inquiry_route(struct kg_inquiry *in);
/* payer.c: may whoever calls (now, and this number)? Returns 0, or an errno when the INVITE was answered. */
int kg_inquiry_pay(struct kg_inquiry *in);

#endif
