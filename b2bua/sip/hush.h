/* Dialogs that are not listened to for a moment: who goes on sending requests although he is told to come
 * later costs a transaction each, which lives for 32 s. */
#ifndef KG_SIP_HUSH_H
#define KG_SIP_HUSH_H

#include <sofia-sip/sip.h>
#include <stdbool.h>
#include <stdint.h>

#include "conf/pace.h"

/* Dialogs at once; another one may take a place before its time. */
#define KG_HUSH_MAX 1024

/* One more request of a dialog was refused for its pace; `refused` is the dialog's own. Where that happens
 * too often, requests with this Call-ID are dropped unread for a second, but for what ends things: ACK, BYE,
 * CANCEL. True: that is so. */
bool kg_hush_refused(struct kg_pace *refused, const sip_call_id_t *call_id, int64_t now_ms);
bool kg_is_hushed(const sip_t *sip);

#endif
