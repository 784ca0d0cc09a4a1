/* Three symbols of libsofia-sip-ua that kedge replaces or hooks for the whole process; README.md says why. */
#ifndef KG_SIP_SHIM_H
#define KG_SIP_SHIM_H

#include <stdbool.h>

/* The longest SIP message that kedge parses, on any transport. */
#define KG_SIP_MESSAGE_MAX 65535

/* Finds the library's own functions and sets the clock hook. Idempotent. Returns 0 or ENOSYS. */
int kg_shim_install(void);
/* True once the library itself was seen to call all three: kg_sip_new asks after its first socket was bound.
 */
bool kg_shim_is_bound(void);

#endif
