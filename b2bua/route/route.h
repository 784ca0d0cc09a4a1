/* Where an INVITE goes. Pure decision over facts that the caller collected; no lookups, no SIP types. */
#ifndef KG_ROUTE_H
#define KG_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/config.h"

enum kg_route_source { KG_FROM_PHONE, KG_FROM_PBX, KG_FROM_TRUNK };

/* What was looked up so far. */
enum kg_route_looked { KG_LOOKED_NOWHERE, KG_LOOKED_BY_TOKEN, KG_LOOKED_BY_USER };

/* Facts about one INVITE. */
struct kg_route_facts {
    const struct kg_config *config;
    enum kg_route_source source;
    size_t trunk;     /* KG_FROM_TRUNK: its index */
    bool to_us;       /* the request URI's host is one of our addresses or our domain, or it has none (tel) */
    const char *user; /* called: of the request URI, unescaped, as `numbers` made it; "" if none */
    const char *from_user; /* of From, as it came */
    const char *auth_user; /* embedded mode: who authenticated; NULL: not asked yet */
    bool user_exists;      /* embedded mode: an account has the name `user` */
    enum kg_route_looked looked;
    size_t contacts;     /* that were found there */
    bool account_exists; /* embedded mode: an account has the name that was looked for */
};

#define KG_ROUTE_PBX_INDEX (-1)

enum kg_route_verdict {
    KG_ROUTE_AUTHENTICATE, /* ask who is calling, then come again */
    KG_ROUTE_LOOK_UP,      /* look for the contacts of look_by and user, then come again */
    KG_ROUTE_PHONE,        /* to the contacts that were found */
    KG_ROUTE_SERVERS,      /* to the first of `to` that can be reached */
    KG_ROUTE_REFUSE,       /* status and why */
};
struct kg_route_decision {
    enum kg_route_verdict verdict;
    int status;
    const char *why; /* a constant sentence for the log and the call's record */
    enum kg_route_looked look_by;
    const char *user;        /* LOOK_UP: borrowed from the facts or the configuration */
    int to[KG_ROUTE_TO_MAX]; /* SERVERS: KG_ROUTE_PBX_INDEX, or the index of a trunk */
    size_t to_count;
    enum kg_policy policy;   /* of media; KG_POLICY_DEFAULT: as media.policy says */
    enum kg_profile profile; /* toward whom it goes; KG_PROFILE_DEFAULT: as that one's says */
};
struct kg_route_decision kg_route_decide(const struct kg_route_facts *facts);

#endif
