/* A transfer that kedge carries out itself (RFC 3515, RFC 5589), because the side that is sent on takes no
 * REFER: a trunk, or a phone that refuses it. kedge calls the target in its stead, on behalf and on the
 * account of who refers, and when that answers the other side is given a new session with it. Embedded
 * registrar only: before a PBX nobody here has the password for such a call. Signalling thread only. */
#ifndef KG_CALL_TRANSFER_H
#define KG_CALL_TRANSFER_H

#include "b2bua/call/call.h"

/* Whether a REFER can go to leg's peer, as far as is known. */
bool kg_transfer_can_pass(const struct kg_leg *to);
/* Carries out the REFER of leg's peer. Returns 0: irq is answered, and gone; else the status to answer with.
 */
int kg_transfer_begin(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip);
/* The target has answered, and is in talk with the seat that is kept for the other side. */
void kg_transfer_answered(struct kg_call *made);
/* Who refers hangs up before that. True: his side is gone, the call stays. */
bool kg_transfer_left(struct kg_leg *leg);
/* Either call is over. status: why. */
void kg_transfer_over(struct kg_call *call, int status);

/* leg's peer was offered what the other side had agreed to, in a call that was joined. */
void kg_transfer_refreshed(struct kg_call *call, const struct kg_leg *leg, bool ok);
/* The call goes without having ended: kedge does. */
void kg_transfer_forget(struct kg_call *call);

#endif
