/* A REGISTER as both the embedded registrar and the front of a PBX read it, and the way to answer it. */
#ifndef KG_REQUEST_H
#define KG_REQUEST_H

#include <sofia-sip/nta.h>
#include <sofia-sip/sip.h>
#include <stdbool.h>
#include <stdint.h>

#include "b2bua/registrar/bindings.h"
#include "b2bua/sip/flow.h"

/* A request being answered: with a transaction, or only as a message (cheaper: nothing is kept of it). */
struct kg_exchange {
    nta_agent_t *agent;
    nta_incoming_t *irq; /* or NULL, then: */
    msg_t *msg;
    const sip_t *sip;
    const struct kg_flow *flow;
};

/* Final answers only; takes irq or msg over. A 401 is never retransmitted and 200s to REGISTER need no
 * memory. */
void kg_exchange_reply(struct kg_exchange *x, int status, const char *phrase, tag_type_t tag,
                       tag_value_t value, ...);
/* No answer at all. */
void kg_exchange_drop(struct kg_exchange *x);

/* More in one request is refused: no phone does that. */
#define KG_WISHES_MAX 4
/* Below this a phone would spend its life registering (RFC 3261 10.3 step 7: 423 Interval Too Brief).
 * Seconds. */
#define KG_EXPIRES_MIN      30
#define KG_EXPIRES_MIN_TEXT "30"
/* The preference of a contact that names none: no worse than any other (RFC 2543 6.13; RFC 3261 says
 * nothing). */
#define KG_Q_DEFAULT 1000

/* What the phone asks for one of its contacts. */
struct kg_wish {
    char uri[512];
    char key[512];
    char instance[128];
    bool private_host;
    uint32_t reg_id;
    uint16_t q;        /* thousandths */
    int64_t expires_s; /* -1: it named none */
};

/* An address of record: a user part, and in front of a PBX "@" and the domain, since extension 100 of one
 * company is not extension 100 of another. */
#define KG_AOR_SIZE 384

/* Bytes of a Route header as text. */
#define KG_ROUTE_SIZE 512

struct kg_register {
    char user[KG_AOR_SIZE];           /* of the To: the address of record */
    const char *call_id, *user_agent; /* borrowed from the message */
    char path[KG_ROUTE_SIZE];         /* of the proxies between the phone and kedge (RFC 3327), "" if none */
    bool outbound;                    /* RFC 5626 applies; else no wish has a reg_id */
    bool gruu, knows_path;            /* the phone supports them */
    uint32_t cseq;
    bool all;       /* Contact: *, Expires: 0 */
    unsigned count; /* 0 and not all: a query */
    struct kg_wish wish[KG_WISHES_MAX];
};

/* 0, or the status to refuse it with and its phrase. with_domain: as in front of a PBX. */
int kg_register_parse(const sip_t *sip, bool with_domain, struct kg_register *out, const char **phrase);
struct kg_contact kg_register_contact(const struct kg_register *r, const struct kg_wish *wish,
                                      const struct kg_flow *flow);
/* "<uri>, <uri>" of a Path or Service-Route; 0, E2BIG, EINVAL: not to be used again. */
int kg_route_text(const sip_route_t *list, char *out, size_t size);
/* RFC 3261 10.3 step 7: of one Call-ID only growing CSeqs count. */
bool kg_register_is_late(const struct kg_register *r, const struct kg_binding *binding);

/* What is granted when at most ceiling_s may be: a smaller wish as it is; a cut one up to a tenth shorter, by
 * chance, so that phones that started together do not come back together. Seconds. */
uint32_t kg_register_grant(int64_t wish_s, uint32_t ceiling_s, uint32_t chance);

#endif
