/* The guard's place in the stack: what it hears of, and what it may stop (b2bua/guard/guard.h). Without a
 * guard everything passes. Signalling thread only. */
#ifndef KG_SIP_SCREEN_H
#define KG_SIP_SCREEN_H

#include "b2bua/guard/guard.h"
#include "b2bua/sip/stack.h"

/* Uses stack->handlers.guard, and tells people and the edge of its bans. */
void kg_screen_start(struct kg_sip *stack);
void kg_screen_stop(void);
void kg_screen_configure(const struct kg_config *config);
/* Its counts into kg_counters. */
void kg_screen_count(void);

/* False: nobody is to look at this datagram. data: its first piece. */
bool kg_screen_datagram(const struct sockaddr *from, const void *data, size_t piece, size_t len);
enum kg_guard_verdict kg_screen_request(struct kg_sip *stack, msg_t *msg, const sip_t *sip);
/* A message that the library could not parse as a whole, or that is no SIP. */
bool kg_screen_is_malformed(const msg_t *msg, const sip_t *sip);
void kg_screen_fault(msg_t *msg, const char *user, enum kg_guard_fault fault);

#endif
