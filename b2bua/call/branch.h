/* What branch.c and round.c share: the contacts of leg B that are being called. */
#ifndef KG_CALL_BRANCH_H
#define KG_CALL_BRANCH_H

#include "b2bua/call/call.h"

/* What of leg B is one contact's. */
struct kg_branch {
    nta_leg_t *dialog;
    nta_outgoing_t *invite;
    struct kg_flow flow;
    struct kg_addr placed;
    char *target, *local, *remote, *call_id;
    struct kg_sdp_origin origin;
    uint32_t peer, rcseq;
    bool pbx, lost, allows_update, refuses_refer, trickles, nat;
    struct kg_trunk *trunk;
    unsigned proofs;
    uint8_t options;
    uint8_t mux_offered, told[KG_MEDIA_STREAMS_MAX];
    struct kg_leg_keys keys;
};

struct kg_fork {
    struct kg_branch branch[KG_TARGETS_MAX]; /* of this round; the place of the one in front is empty */
    enum kg_branch_state state[KG_TARGETS_MAX];
    uint8_t target[KG_TARGETS_MAX];      /* which contact it calls: call->target[] */
    int64_t deadline_ms[KG_TARGETS_MAX]; /* UNHEARD: it is given up then */
    uint8_t count, front;
    struct kg_fork_contact contact[KG_TARGETS_MAX]; /* as call->target[].order, and which were taken */
    /* The best refusal of all rounds; 0: none yet. */
    int best;
    const char *why;
    msg_t *said; /* NULL: nobody's words */
};

/* Brings branch i to the front. */
void kg_branch_bring(struct kg_leg *leg, unsigned i);
/* The record, and so To, has whom this target is. */
void kg_branch_name(struct kg_leg *leg, unsigned target);
void kg_branch_close(struct kg_branch *branch);

#endif
