/* Inside of b2bua/registrar/: what its files share. Nobody else includes this. */
#ifndef KG_REGISTRAR_INSIDE_H
#define KG_REGISTRAR_INSIDE_H

#include "b2bua/nat/assess.h"
#include "b2bua/registrar/accounts.h"
#include "b2bua/registrar/bindings.h"
#include "b2bua/registrar/digest.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/registrar/request.h"

struct kg_front;

struct kg_registrar {
    struct kg_server *server;
    struct kg_bindings *bindings;
    struct kg_digest *digest;
    struct kg_accounts *accounts; /* embedded mode */
    struct kg_front *front;       /* PBX mode; NULL: embedded */
    nta_outgoing_t *strays;       /* gets the answers to keepalives */
    uint32_t keepalive_cseq;
    struct kg_lesson *lessons; /* keepalive.c */
    struct kg_departed *departed;
    su_timer_t *timer;
    kg_registrar_moved *moved; /* NULL: nobody watches */
    void *moved_ctx;
    struct {
        int64_t second;
        unsigned count, held_back;
    } complaints; /* limits what strangers can make us log */
    struct {
        int64_t second;
        uint32_t calls, others;
    } strangers; /* what comes from where no phone is registered: INVITEs, and all other methods */
};

/* --- registrar.c --- */
nta_agent_t *kg_registrar_agent(const struct kg_registrar *registrar);
/* Notes what the binding's REGISTER shows of a NAT. */
void kg_registrar_assess(struct kg_binding *binding, const sip_t *sip);
bool kg_registrar_is_behind_nat(const sip_t *sip, const struct kg_flow *flow, struct kg_nat_verdict *verdict);
/* Is this the user part of its address of record? */
bool kg_registrar_is_user(const struct kg_registrar *registrar, const struct kg_binding *b, const char *user);
/* Bytes of a binding's address of record that are the user part. */
size_t kg_registrar_user_part(const struct kg_registrar *registrar, const struct kg_binding *b);
/* The most a phone is granted over this flow, in seconds. */
uint32_t kg_registrar_ceiling(const struct kg_registrar *registrar, const struct kg_flow *flow, bool nat);
/* A contact goes, here and in the store. why: for the log, after "the contact of ..."; NULL: it left by
 * itself. */
void kg_registrar_drop(struct kg_registrar *registrar, struct kg_binding *binding, const char *why);
/* Makes room for contacts_per_user: the one refreshed least recently goes. Not a 403: a phone that comes back
 * after a crash with another port would lock its own user out until the old contact expires. */
void kg_registrar_limit(struct kg_registrar *registrar, const char *user);
/* A fresh token, and the name of the phone toward the PBX: stable for (user, contact), so that a phone that
 * comes back is the same contact to the PBX. The flows of one phone (RFC 5626) are one contact to it. */
void kg_registrar_name(const struct kg_registrar *registrar, const struct kg_contact *contact,
                       char token[static KG_TOKEN_SIZE], char device[static KG_TOKEN_SIZE]);
/* Logs at most a few lines a second of what anybody can cause. */
void kg_registrar_complain(struct kg_registrar *registrar, const char *what, const char *user,
                           const struct kg_flow *flow);

/* After kg_bindings_put: tells the watcher if the binding was on another flow before. Gives `before` back
 * (all zero: the binding is new). */
void kg_registrar_tell_moved(struct kg_registrar *registrar, const struct kg_binding *binding,
                             struct kg_flow *before);
/* Its flow has failed. RFC 5626 5.3: its phone is where its other flow leads, if it has one; the watcher is
 * told. False: it has none.
 */
bool kg_registrar_fail_over(struct kg_registrar *registrar, const struct kg_binding *binding);
bool kg_registrar_is_reachable(const struct kg_binding *binding);
/* The same of a binding that is new. */
void kg_registrar_tell_new(struct kg_registrar *registrar, const struct kg_binding *binding);

/* --- departed.c --- */
/* Its connection closed, and it has no other. */
void kg_departed_note(struct kg_registrar *registrar, const struct kg_binding *binding);
/* A new binding: where the phone was when its connection closed, if that is not long ago. The caller clears
 * before. */
bool kg_departed_take(struct kg_registrar *registrar, const struct kg_binding *binding,
                      struct kg_flow *before);
void kg_departed_free(struct kg_registrar *registrar);

/* --- standing.c: the binding lasts until it expires; the credentials were right, or not --- */
void kg_standing_registered(struct kg_registrar *registrar, const struct kg_binding *binding);
void kg_standing_good(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user);
void kg_standing_wrong(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user);
/* Right or wrong, by what a PBX answered. */
void kg_standing_judge(struct kg_registrar *registrar, const struct kg_flow *flow, const sip_t *asked,
                       const sip_t *answer);
/* It is where it says it is. */
bool kg_standing_is_proven(struct kg_registrar *registrar, const struct kg_flow *flow);
/* Too many wrong passwords of this user from there: it gets no answer, right or wrong. */
bool kg_standing_is_blocked(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user);

/* --- authorize.c --- */
enum kg_check {
    KG_CHECK_OK,
    KG_CHECK_REPEATED,
    KG_CHECK_CHALLENGE,
    KG_CHECK_STALE,
    KG_CHECK_DENIED,
    KG_CHECK_BLOCKED, /* see kg_standing_is_blocked */
};
/* Looks for credentials of our realm in the list. use: take the nonce count. cred is written unless
 * CHALLENGE. */
enum kg_check kg_authorize_check(struct kg_registrar *registrar, const sip_authorization_t *list,
                                 const sip_t *sip, const struct kg_flow *flow, bool use,
                                 struct kg_credentials *cred);
/* 401 or 407 with one header an algorithm. */
void kg_authorize_challenge(struct kg_registrar *registrar, struct kg_exchange *x, int status, bool stale);

/* --- embedded.c, front.c --- */
void kg_embedded_register(struct kg_registrar *registrar, struct kg_exchange *x);

/* --- answer.c --- */
/* 200 with the user's contacts. info: NULL or what the PBX said. */
void kg_register_ok(const struct kg_registrar *registrar, struct kg_exchange *x, const struct kg_register *r,
                    const sip_authentication_info_t *info, int64_t now_ms);

/* See front.h. */
struct kg_front *kg_front_new(struct kg_registrar *registrar);
void kg_front_free(struct kg_front *front);
void kg_front_register(struct kg_front *front, struct kg_exchange *x);
/* True when it was dropped: see kg_standing_is_blocked. */
bool kg_front_is_blocked(struct kg_front *front, struct kg_exchange *x);
/* True when it was answered from what is known, without the PBX. */
bool kg_front_refresh(struct kg_front *front, struct kg_exchange *x);
/* True when it was refused, because too many strangers ask: see gate.h. */
bool kg_front_turn_away(struct kg_front *front, struct kg_exchange *x);
void kg_front_tick(struct kg_front *front, int64_t now_ms);

/* --- keepalive.c --- */
/* A REGISTER was accepted; before: the flow until then, all zero if it is the same or there was none. */
void kg_keepalive_registered(struct kg_registrar *registrar, struct kg_binding *binding,
                             const struct kg_flow *before, int64_t now_ms);
/* It came back from the store, with what was learnt. */
void kg_keepalive_restored(struct kg_registrar *registrar, struct kg_binding *binding, int64_t now_ms);
/* Its connection was closed. */
void kg_keepalive_closed(struct kg_registrar *registrar, struct kg_binding *binding);
/* It goes, and may come back: what was learnt is kept, for the last KG_LESSONS_MAX such. */
#define KG_LESSONS_MAX 4096
void kg_keepalive_remember(struct kg_registrar *registrar, const struct kg_binding *binding);
struct kg_learn_bounds kg_keepalive_bounds(const struct kg_registrar *registrar, const struct kg_flow *flow);
void kg_keepalive_due(struct kg_registrar *registrar, struct kg_binding *binding, int64_t now_ms);
/* An answer without a transaction; true if it was to a keepalive. */
bool kg_keepalive_answer(struct kg_registrar *registrar, const char *call_id);
void kg_keepalive_free(struct kg_registrar *registrar);

/* --- persist.c --- */
void kg_persist_put(struct kg_registrar *registrar, const struct kg_binding *binding);
void kg_persist_delete(struct kg_registrar *registrar, const struct kg_binding *binding);
void kg_persist_load(struct kg_registrar *registrar);

#endif
