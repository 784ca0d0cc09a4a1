/* URIs from the network. Pure. */
#ifndef KG_SIP_URI_H
#define KG_SIP_URI_H

#include <sofia-sip/url.h>
#include <stdbool.h>

/* Bytes of a URI in the request line, From, To and Contact of a request that starts something. */
#define KG_SIP_URI_MAX 511

/* Written out and read again, is it still the same URI? The library reads some that it then writes in a way
 * that it reads differently or not at all; a request made of such a text would end the process. */
bool kg_uri_is_sound(const url_t *url);
/* The user part, or the number of a tel URI, unescaped. "": none, one that does not fit, or one with an
 * escaped NUL, behind which anything could hide. */
void kg_uri_user(const url_t *url, char *out, size_t size);
/* A user as it may stand in a URI (RFC 3261 25.1), cut off where out is full. */
void kg_uri_escape_user(const char *user, char *out, size_t size);

#endif
