/* Who somebody says to be, and who may know it: privacy (RFC 3323) and asserted identity within a trust
 * domain (RFC 3325). kedge, its PBXes and the trunks with `trusted: yes` are the domain. Pure. */
#ifndef KG_CALL_IDENTITY_H
#define KG_CALL_IDENTITY_H

#include <sofia-sip/sip.h>
#include <stdbool.h>

#include "b2bua/call/headers.h"

/* What a message's Privacy header asks for; all false: nothing, or `none`. */
struct kg_privacy {
    bool id;      /* RFC 3325: P-Asserted-Identity stays in the trust domain */
    bool user;    /* RFC 3323 4.2: names of the user: From */
    bool header;  /* the same for what the user cannot hide itself: Via, Contact: always ours; and From */
    bool session; /* media addresses: the call is anchored */
    bool history; /* RFC 7044: History-Info */
    bool unmet;   /* critical, with something that kedge does not know: 500 (RFC 3323 5) */
};
struct kg_privacy kg_privacy_of(const sip_t *sip);
/* Whether From must not name the caller toward this peer. Inside of the trust domain it may: who takes the
 * call out of the domain hides it. */
bool kg_privacy_hides_caller(struct kg_privacy privacy, struct kg_peer to);

/* Writes the user or number of each URI in the value of P-Asserted-Identity (RFC 3325 9.1) otherwise: number
 * gets it unescaped, and returns true if it wrote another one, escaped. False: nothing was changed, or the
 * whole does not fit into out. */
#define KG_IDENTITY_USER 392 /* 128 bytes, each escaped, and NUL */
typedef bool kg_identity_number(void *ctx, const char *user, char out[static KG_IDENTITY_USER]);
bool kg_identity_rewrite(const char *value, kg_identity_number *number, void *ctx, char *out, size_t size);

/* Whether From hides who calls already (RFC 3323 4.1.1.3). */
bool kg_identity_is_anonymous(const url_t *from);

/* RFC 3323 4.1.1.3 */
#define KG_ANONYMOUS_DISPLAY "\"Anonymous\""
#define KG_ANONYMOUS_USER    "anonymous"
#define KG_ANONYMOUS_HOST    "anonymous.invalid"

#endif
