/* Dialogs that are not listened to for a moment: who goes on sending requests although he is told to come
 * later costs a transaction each, which lives for 32 s. */
#ifndef KG_SIP_HUSH_H
#define KG_SIP_HUSH_H

#include <sofia-sip/sip.h>
#include <stdbool.h>
#include <stdint.h>

/* Dialogs at once; another one may take a place before its time. */
#define KG_HUSH_MAX 1024

/* Requests with this Call-ID are dropped unread until then, but for what ends things: ACK, BYE, CANCEL. */
void kg_hush(const sip_call_id_t *call_id, int64_t until_ms);
bool kg_is_hushed(const sip_t *sip);

#endif
