/* The opening handshake of a WebSocket (RFC 6455 4.2), and whose page may speak to kedge. Pure. */
#ifndef KG_SIP_HANDSHAKE_H
#define KG_SIP_HANDSHAKE_H

#include "b2bua/sip/http.h"
#include "conf/config.h"

/* Base64 of a SHA-1, and NUL */
#define KG_HANDSHAKE_ACCEPT 29

/* An upgrade with GET: 101, or the status of its refusal and *why. secure: it came over TLS. domain: our SIP
 * domain. */
int kg_handshake_judge(const struct kg_http_request *request, bool secure, const struct kg_web_config *web,
                       const char *domain, const char **why);
/* Sec-WebSocket-Accept for a key. 0 or ENOMEM. */
int kg_handshake_accept(struct kg_span key, char out[static KG_HANDSHAKE_ACCEPT]);

#endif
