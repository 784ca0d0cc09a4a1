/* The small STUN server on SIP ports: Binding requests, no more (RFC 8489 6.3.1). Pure. */
#ifndef KG_SIP_STUN_H
#define KG_SIP_STUN_H

#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

#define KG_SIP_STUN_MAX 128

/* The answer to a datagram, or 0: it gets none. A request for what is not known here gets 420. With IP and
 * UDP headers counted, the answer is smaller than twice the request: a forged source gains nothing. */
size_t kg_sip_stun_answer(const void *data, size_t len, const struct kg_addr *source,
                          uint8_t out[static KG_SIP_STUN_MAX]);

#endif
