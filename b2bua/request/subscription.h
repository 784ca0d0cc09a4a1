/* A subscription (RFC 6665) through kedge: a dialog with the subscriber and one with the notifier. Also what
 * a REFER outside of a call makes (RFC 3515): its NOTIFYs are a subscription's. */
#ifndef KG_REQUEST_SUBSCRIPTION_H
#define KG_REQUEST_SUBSCRIPTION_H

#include "b2bua/request/inside.h"
#include "conf/pace.h"

enum { KG_SUBSCRIBER, KG_NOTIFIER }; /* indices of end[] */

enum kg_subscription_state {
    KG_SUBSCRIPTION_ASKED, /* its SUBSCRIBE has no answer yet */
    KG_SUBSCRIPTION_UP,
    KG_SUBSCRIPTION_ENDING, /* the last NOTIFY is waited for (RFC 6665 4.1.2.3) */
    KG_SUBSCRIPTION_OVER,   /* nothing more is expected */
};

/* Whose subscriptions these are: for the limit, and to find what follows a phone that moves. */
struct kg_subscriber {
    UT_hash_handle hh; /* by name */
    char name[160];
    unsigned count; /* ends in the list */
    struct kg_end *ends;
    char *calls; /* the user's calls as dialog-info, if somebody watches them here; malloc'd */
    size_t calls_len;
};

struct kg_end {
    struct kg_subscription *subscription;
    unsigned index;
    struct kg_peer peer;
    nta_leg_t *dialog;
    struct kg_flow flow;
    bool away;            /* its phone did not answer, or its connection is gone; until it comes back */
    char *target;         /* Request-URI of the request that made the dialog */
    char *local, *remote; /* name-addr of our side and the peer's, without tags */
    char *call_id;
    struct kg_subscriber *user;        /* of a phone */
    struct kg_pace pace, pace_refused; /* of a phone's requests in the dialog */
    struct kg_end *prev, *next;        /* in user->ends */
};

struct kg_subscription {
    UT_hash_handle hh;          /* by id */
    char id[KG_REQUEST_ID + 1]; /* user part of our Contacts */
    struct kg_requests *requests;
    struct kg_end end[2];
    enum kg_subscription_state state;
    char *event;        /* of its package, for people; "refer" */
    char *by, *of;      /* who watches whom, for people */
    char substate[16];  /* as the last NOTIFY says */
    int64_t expires_ms; /* monotonic: the state goes then */
    bool stored;        /* the store has it */
    bool own;           /* kedge is the notifier: end[KG_NOTIFIER] has a user and no dialog */
    bool due;           /* own: a NOTIFY is owed, whatever it says */
    uint64_t told;      /* own: hash of what it said last */
    unsigned version;   /* own: of the last document */
    unsigned transits;  /* requests under way in its dialogs */
    msg_t *kept;        /* the newest NOTIFY that the phone could not be given; NULL: none */
    int64_t retry_ms;   /* when that is tried again, as long as nothing says that the phone is back */
    uint32_t retry_after_ms;
};

/* A new SUBSCRIBE or REFER. Takes irq and way over. */
void kg_subscription_start(struct kg_requests *requests, nta_incoming_t *irq, const sip_t *sip,
                           const struct kg_flow *flow, struct kg_way *way);
void kg_subscription_free(struct kg_subscription *subscription);
/* The answer to a request in it (sip NULL: none came). Returns the status to pass on: another one than
 * `status` is kedge's own answer. */
int kg_subscription_answered(struct kg_subscription *subscription, struct kg_transit *transit, int status,
                             const sip_t *sip);
/* After that answer was passed on: whether it was the last thing. */
bool kg_subscription_is_over(const struct kg_subscription *subscription);
/* A new one of this name, NULL: a fresh one; in the table. NULL: no memory. */
struct kg_subscription *kg_subscription_new(struct kg_requests *requests, const char *id, struct kg_peer from,
                                            struct kg_peer to);
bool kg_subscription_is_fatal(int status);
void kg_subscription_end_soon(struct kg_subscription *subscription);
void kg_subscriptions_tick(struct kg_requests *requests, int64_t now_ms);

/* nta's callback for requests in one of the dialogs. */
int kg_end_request(struct kg_end *end, nta_leg_t *dialog, nta_incoming_t *irq, const sip_t *sip);

/* ---- lamp.c: kedge's own event package `dialog`, where there is no PBX ---- */
/* A new subscription, or a refresh: answers irq; 0, or a status to refuse it with. */
int kg_lamp_subscribed(struct kg_subscription *subscription, nta_incoming_t *irq, const sip_t *sip);
/* The answer to a NOTIFY of it; sip NULL: none came. */
void kg_lamp_answered(struct kg_subscription *subscription, int status, const sip_t *sip);
/* It was read from the store. 0 or ENOMEM. */
int kg_lamp_restored(struct kg_subscription *subscription);
void kg_lamp_expired(struct kg_subscription *subscription);
void kg_lamps_tick(struct kg_requests *requests);

/* ---- persist.c: subscriptions outlive the process ---- */
/* After every change that a restart must know of. */
void kg_subscription_save(const struct kg_subscription *subscription);
void kg_subscription_forget(const struct kg_subscription *subscription);
void kg_subscriptions_load(struct kg_requests *requests);

/* ---- end.c: one dialog of a subscription ---- */
/* Toward the one who is asked: its dialog, made anew for each place that is tried. 0, ENOMEM or ENOBUFS. */
int kg_end_open(struct kg_end *end, const sip_t *sip, struct kg_peer from, const struct kg_target *target);
/* Of the one who asks. 0 or ENOMEM. */
int kg_end_accept(struct kg_end *end, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow);
void kg_end_close(struct kg_end *end);
/* A dialog as it was written down. cseq: the last one that was used. 0 or ENOMEM. */
int kg_end_restore(struct kg_end *end, const char *call_id, const char *tag, const char *remote_tag,
                   uint32_t cseq, uint32_t remote_cseq, const char *routes, const char *target);
/* Which user's phone it is. 0, ENOMEM; EDQUOT: it has too many. */
int kg_end_belongs(struct kg_end *end, const char *name);
const char *kg_end_route_url(const struct kg_end *end, char buf[static KG_HOP_URL]);
void kg_end_contact(const struct kg_end *end, sip_contact_t contact[1], char buf[static KG_CONTACT_URL]);
/* True if a request can be sent to it now. */
bool kg_end_is_reachable(const struct kg_end *end);
void kg_end_move(struct kg_end *end, const struct kg_flow *flow);

#endif
