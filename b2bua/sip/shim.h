/* Four symbols of libsofia-sip-ua that kedge replaces or hooks for the whole process; README.md says why. */
#ifndef KG_SIP_SHIM_H
#define KG_SIP_SHIM_H

#include <stdbool.h>

/* The longest SIP message that kedge parses, on any transport. */
#define KG_SIP_MESSAGE_MAX 65535
/* The library reads at once all that waits on a stream, into one message's buffer: the beginning of the
 * longest message, and what a socketpair to the edge can hold. (Linux doubles SO_SNDBUF, and takes one more
 * write of up to half of that.) That no single message is longer than the former is the edge's doing. */
#define KG_SIP_PAIR_BYTES 65536
#define KG_SIP_READ_MAX   (KG_SIP_MESSAGE_MAX + 3 * KG_SIP_PAIR_BYTES)

/* Finds the library's own functions and sets the clock hook. Idempotent. Returns 0 or ENOSYS. */
int kg_shim_install(void);
/* True once the library itself was seen to call msg_create, su_getaddrinfo and the clock: kg_sip_new asks
 * after its first socket was bound. */
bool kg_shim_is_bound(void);

#endif
