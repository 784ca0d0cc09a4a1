/* Where an INVITE goes. Pure decision over facts that the caller collected; no lookups, no SIP types. */
#ifndef KG_ROUTE_H
#define KG_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/addr.h"
#include "conf/config.h"

enum kg_route_source { KG_FROM_PHONE, KG_FROM_PBX };

/* Facts about one INVITE. */
struct kg_route_facts {
    bool has_pbx; /* a PBX is configured */
    enum kg_route_source source;
    bool to_us;            /* the request URI's host is one of our addresses or our domain */
    const char *user;      /* of the request URI, unescaped; "" if none */
    const char *from_user; /* of From */
    const char *auth_user; /* embedded mode: who authenticated; NULL: not asked yet */
    bool user_exists;      /* embedded mode: an account has this name */
    size_t contacts;       /* registered contacts of `user`, or of the token when from the PBX */
};

enum kg_route_verdict {
    KG_ROUTE_AUTHENTICATE, /* ask who is calling, then come again */
    KG_ROUTE_PHONE,        /* to the registered contacts */
    KG_ROUTE_PBX,          /* to the first PBX */
    KG_ROUTE_REFUSE,       /* status and why */
};
struct kg_route_decision {
    enum kg_route_verdict verdict;
    int status;
    const char *why; /* a constant sentence for the log and the call's record */
};
struct kg_route_decision kg_route_decide(const struct kg_route_facts *facts);

#endif
