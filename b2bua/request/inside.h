/* Inside of b2bua/request/: what its files share. Nobody else includes this. */
#ifndef KG_REQUEST_INSIDE_H
#define KG_REQUEST_INSIDE_H

/* nta hands these back in its callbacks. Before any header that includes nta.h. */
#define NTA_LEG_MAGIC_T      struct kg_end
#define NTA_OUTGOING_MAGIC_T struct kg_transit

#include <sofia-sip/nta.h>
#include <sofia-sip/nta_tport.h>
#include <sofia-sip/sip.h>
#include <uthash.h>

#include "b2bua/call/headers.h"
#include "b2bua/call/party.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/request/request.h"

/* Contacts of one user that are asked, and PBXes that are tried. */
#define KG_WAY_MAX 8
/* Requests on their way at once; the next one gets 503. Each keeps two transactions of 20 KB. */
#define KG_TRANSITS_MAX 4096
/* Of one subscription: a notifier waits for the answer to its NOTIFY, a subscriber for that to its SUBSCRIBE.
 */
#define KG_TRANSITS_OF_SUBSCRIPTION_MAX 8
/* How long a phone has for its answer before the sender is told 480, a PBX before the next one is asked, and
 * the last PBX before 504. RFC 4320 4.1: nobody is ever sent 408; who waits any longer has given up himself
 * (RFC 3261 timer F: 32 s). */
#define KG_PHONE_ANSWER_MS    10000
#define KG_PBX_ANSWER_MS      4000
#define KG_LAST_PBX_ANSWER_MS 16000
/* A dialog's state outlives its last message by 64*T1, RFC 6665 4.1.2.4 timer N. */
#define KG_TIMER_N_MS 32000

#define KG_NEVER       INT64_MAX
#define KG_REQUEST_TAG 16 /* hex digits of our tags: 64 random bits */
#define KG_REQUEST_ID  24 /* of our Call-IDs, and of a subscription's name */

/* Seconds that a phone must not refresh a subscription with kedge itself more often than. */
#define KG_LAMP_MIN_EXPIRES "30"

struct kg_subscription;

/* How a method goes from one kind of peer to the other. */
enum kg_manner {
    KG_MANNER_REFUSE,
    KG_MANNER_ONE,    /* to one place: the PBX that serves the sender, or the contact that the PBX means */
    KG_MANNER_ALL,    /* to every contact of the user at once: the first 2xx wins (RFC 3261 16.7) */
    KG_MANNER_DIALOG, /* as KG_MANNER_ONE, and a dialog comes of it */
    KG_MANNER_OWN,    /* to nobody: kedge is the notifier */
};

/* Where a request goes. */
struct kg_way {
    struct kg_peer from, to;
    enum kg_manner manner;
    char by[160]; /* the account or registered user that asks; "@address" where no phone is registered */
    char of[160]; /* user part of the request URI; of a token, whose it is */
    struct kg_target target[KG_WAY_MAX]; /* without their paths */
    char *path[KG_WAY_MAX];              /* Route header of a request to there; NULL: none */
    struct kg_trunk *over[KG_WAY_MAX];   /* the trunk that each target is a server of; held; NULL: none */
    size_t count;
    struct kg_trunk *trunk; /* it comes from; held; NULL: none */
    /* As `numbers` made them on their way in; "": as they came. */
    char called[KG_NUMBER_SIZE], caller[KG_NUMBER_SIZE];
};

/* One request on its way through kedge. */
struct kg_transit {
    struct kg_requests *requests;
    struct kg_transit *prev, *next;
    nta_incoming_t *irq; /* NULL: nobody waits for the answer (a NOTIFY that was kept) */
    msg_t *request;      /* NULL: kedge's own NOTIFY */
    const sip_t *sip;    /* of request */
    struct kg_way way;
    size_t next_target;
    unsigned proofs;                 /* that the server asked last was given, of a trunk's password */
    uint32_t tried;                  /* bit n: target n was sent to */
    nta_outgoing_t *orq[KG_WAY_MAX]; /* under way; NULL: answered, or not sent */
    uint32_t lost;                   /* bit n: orq[n] failed while something was being sent */
    msg_t *best;                     /* the refusal that counts so far (RFC 3261 16.7 step 6) */
    int64_t give_up_ms;
    /* in a dialog, or on the way to one; NULL outside */
    struct kg_subscription *subscription;
    unsigned to_end;     /* index of the end that is asked */
    struct kg_flow flow; /* that the request came over: the subscriber is there if it is believed */
};

struct kg_requests {
    struct kg_server *server;
    nta_agent_t *agent;
    su_timer_t *timer;
    unsigned ticks;
    bool closing;
    size_t lamps; /* subscriptions whose notifier is kedge */
    struct kg_transit *transits;
    size_t transit_count;
    unsigned sending; /* a connection that breaks meanwhile fails whatever waits on it at once: not now */
    struct kg_subscription *subscriptions; /* hash by id */
    struct kg_subscriber *subscribers;     /* hash by name */
};

/* ---- way.c ---- */
/* 0 with a way whose targets are to be cleared; else the request was answered, and irq is gone. */
int kg_way_find(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                const struct kg_flow *flow, struct kg_way *way);
void kg_way_clear(struct kg_way *way);
/* Moves what way holds. */
void kg_way_move(struct kg_way *to, struct kg_way *from);
/* Answers and destroys. retry_after in seconds, 0: none. */
void kg_request_refuse(nta_incoming_t *irq, int status, const char *phrase, unsigned retry_after);

/* ---- number.c ---- */
/* As kg_way_find, where way->from and way->trunk, of a phone also way->by, say who sends it. */
int kg_way_by_number(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                     const struct kg_flow *flow, struct kg_way *way);

/* ---- transit.c ---- */
/* Takes irq and the way over. flow: where it came from. */
void kg_transit_start(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                      const struct kg_flow *flow, struct kg_way *way, struct kg_subscription *subscription);
/* A request of one end of a subscription goes to the other end; irq may be NULL. 0, or a status to refuse it
 * with. */
int kg_transit_inside(struct kg_subscription *subscription, unsigned to_end, nta_incoming_t *irq,
                      msg_t *request, const struct kg_flow *flow);
/* A NOTIFY of kedge's own. 0, or a status: it was not sent. */
int kg_transit_notify(struct kg_subscription *subscription, const char *state, const char *type,
                      const char *body, size_t len);
void kg_transit_free(struct kg_transit *transit);
void kg_transits_tick(struct kg_requests *requests, int64_t now_ms);

/* ---- compose.c ---- */
/* A message for the other side: what of its headers and body passes. Lives until kg_compose_done. */
#define KG_COMPOSED_MAX 28
struct kg_composed {
    su_home_t home[1];
    struct kg_passed passed;
    tagi_t tag[KG_COMPOSED_MAX + 1]; /* then TAG_NEXT(passed.tag) */
};
void kg_compose(struct kg_composed *out, const struct kg_requests *requests, const sip_t *sip,
                struct kg_peer from, struct kg_peer to);
void kg_compose_done(struct kg_composed *composed);
/* ---- body.c ---- */
/* The body for the other side: sip's own, or on home one in which dialogs are named as that side knows them.
 */
const sip_payload_t *kg_body_translate(su_home_t *home, const struct kg_requests *requests, const sip_t *sip,
                                       struct kg_peer to);
/* A URI of a message that goes over this flow, on home: toward a PBX as the sender wrote it, but for an
 * address of kedge, by which a phone means the PBX; toward a phone without addresses of the other side's
 * network. user NULL: the one in url. */
url_t *kg_compose_uri(su_home_t *home, const struct kg_requests *requests, const url_t *url, const char *user,
                      struct kg_peer from, struct kg_peer to, const struct kg_flow *flow);
/* From, To and Request-URI of way's request sip for target i, on home. False: no memory. */
struct kg_addressed {
    const char *from, *to; /* name-addr, without tags */
    url_t *where;
};
bool kg_compose_addresses(su_home_t *home, const struct kg_requests *requests, const sip_t *sip,
                          const struct kg_way *way, size_t i, struct kg_addressed *out);
/* "\"Alice\" <sip:alice@example.org>", on home. */
char *kg_compose_name(su_home_t *home, const char *display, const url_t *url);
char *kg_compose_text(const url_t *url); /* malloc'd */
void kg_requests_random_hex(char *out, size_t len);

#endif
