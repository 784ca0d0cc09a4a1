/* Headers that speak of other dialogs and of who is behind kedge's other side: Refer-To and Referred-By (RFC
 * 3515, 3892), Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538), and the Event of NOTIFY that a
 * REFER asked for. Each is written as it has to read on the other side. kedge keeps no state of a transfer:
 * the two phones have it. */
#ifndef KG_CALL_REFER_H
#define KG_CALL_REFER_H

#include "b2bua/call/call.h"

#define KG_LIST_MAX 32
/* Tags for nta, and the memory that they point into. */
struct kg_list {
    tagi_t tag[KG_LIST_MAX + 1]; /* always ends with TAG_END */
    size_t count;
    su_home_t home[1];
};
void kg_list_begin(struct kg_list *list);
void kg_list_end(struct kg_list *list); /* gives the memory back */
/* header: of any class; what follows it in the message does not go along. NULL and what finds no room are
 * left out. */
void kg_list_add(struct kg_list *list, const msg_header_t *header);
void kg_list_text(struct kg_list *list, msg_hclass_t *class, const char *value);
/* more: a list that follows; nothing can be added then. */
void kg_list_next(struct kg_list *list, const tagi_t *more);

/* Adds what of `sip`, a request of from's peer, goes to `to`. Returns 0, or the status to refuse it with. */
int kg_refer_pass(struct kg_list *list, const sip_t *sip, const struct kg_leg *from, const struct kg_leg *to);
/* Refer-To of a REFER of from's peer as it reads for `to`'s; in list's memory. NULL: *status says why not. */
const sip_refer_to_t *kg_refer_to_for(struct kg_list *list, const sip_t *sip, const struct kg_leg *from,
                                      const struct kg_leg *to, int *status);
/* Whether caps let from's peer call this number. Another one will call it in its own name; but who may not
 * call a number himself may not have it called either. */
bool kg_refer_permits(const struct kg_leg *from, const url_t *target);
/* The REFER with this CSeq of leg's peer went on with that one: NOTIFY may name it (RFC 3515 2.4.6). */
void kg_refer_sent(struct kg_leg *leg, uint32_t in, uint32_t out);

#endif
