/* Inside of b2bua/sip/: the stack object that its files share. Nobody else includes this. */
#ifndef KG_SIP_STACK_H
#define KG_SIP_STACK_H

#include "b2bua/sip/sip.h"

struct kg_streams;

/* Listeners x local addresses x transports. */
#define KG_SIP_LOCALS_MAX 256
/* "k255" */
#define KG_SIP_IDENT 8

/* One nta transport: a local address that kedge has and may speak from. */
struct kg_local {
    enum kg_transport transport;
    struct kg_addr addr;
    tport_t *tport; /* the primary; owned by the agent */
};

struct kg_sip {
    su_root_t *root;
    nta_agent_t *agent;
    struct kg_config config; /* our copy: reload replaces it */
    struct kg_sip_handlers handlers;
    struct kg_local locals[KG_SIP_LOCALS_MAX];
    size_t local_count;
    struct kg_streams *streams; /* NULL when no listener and no PBX needs one */
    su_timer_t *tick;
    uint64_t refused_by_us; /* requests that dispatch.c refused; nta counts the malformed ones */
    su_home_t home[1];      /* the headers below */
    sip_allow_t *allow;
    sip_accept_t *accept;
    unsigned invites; /* since the last look at the transaction table */
    bool overloaded;
};

/* All listeners of the configuration. 0 or an errno and a sentence. */
int kg_sip_listen(struct kg_sip *sip, char *error, size_t size);
/* The transport for this local address, else one of the same family; NULL if there is none. */
struct kg_local *kg_sip_local(struct kg_sip *sip, enum kg_transport transport, const struct kg_addr *addr);

/* Makes the library use our own UDP transport type from now on (admit.c). 0, ENOSYS or ENOMEM. */
int kg_sip_admit_udp(void);
/* The same, for messages of streams. */
void kg_sip_admit_stream(tport_t *tport, msg_t *msg, su_time_t now);
/* Whose refusals admit.c sends from now on; NULL: nobody's. */
void kg_sip_admit_for(nta_agent_t *used);
/* nta's message callback: everything that belongs to no dialog and no transaction. */
int kg_sip_dispatch(nta_agent_magic_t *magic, nta_agent_t *agent, msg_t *msg, sip_t *sip);

#endif
