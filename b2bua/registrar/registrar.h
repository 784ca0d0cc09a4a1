/* Registrations: the embedded registrar, or the front of a PBX's. Signalling thread only. */
#ifndef KG_REGISTRAR_H
#define KG_REGISTRAR_H

#include <jansson.h>
#include <sofia-sip/sip.h>

#include "b2bua/server.h"
#include "b2bua/sip/flow.h"

struct kg_registrar;

/* What a caller may do with a request that needs a user. */
enum kg_auth { KG_AUTH_OK, KG_AUTH_CHALLENGE, KG_AUTH_STALE, KG_AUTH_DENIED };

struct kg_registrar *kg_registrar_new(struct kg_server *server);
void kg_registrar_free(struct kg_registrar *registrar);
/* kg_sip_handlers.on_register */
void kg_registrar_register(struct kg_registrar *registrar, nta_incoming_t *irq, const sip_t *sip,
                           const struct kg_flow *flow);
/* Before a transaction is made of a request: answers what needs none, so that it costs no memory and is never
 * retransmitted (RFC 3261 17.2: a transaction would live 32 s): every REGISTER in embedded mode, local
 * refreshes in PBX mode, challenges to all that is not OPTIONS, what strangers start beyond
 * limits.unregistered_calls. True: answered, msg
 * is gone. False: untouched; make a transaction and go on. */
bool kg_registrar_answer(struct kg_registrar *registrar, msg_t *msg, const sip_t *sip,
                         const struct kg_flow *flow);
/* In front of a PBX: what it answered to a phone's INVITE tells whether the phone's password was right. */
void kg_registrar_judge(struct kg_registrar *registrar, const struct kg_flow *flow, nta_incoming_t *irq,
                        const sip_t *answer);
/* kg_sip_handlers.on_flow_lost: contacts that were reachable only over it go. */
void kg_registrar_flow_lost(struct kg_registrar *registrar, tport_t *tport);

/* A contact that was on the flow `before` has registered over `after`, with credentials: its phone is in
 * another place; or that flow has failed, and the phone has another one (RFC 5626). user: the user part.
 * `before` all zero: the contact is new. One watcher. */
typedef void kg_registrar_moved(void *ctx, const char *user, const struct kg_flow *before,
                                const struct kg_flow *after);
void kg_registrar_watch(struct kg_registrar *registrar, kg_registrar_moved *moved, void *ctx);

/* Embedded mode: checks the digest of an INVITE (407). On OK writes the user name. On CHALLENGE, STALE and
 * DENIED it has answered the irq (407 or 403) and destroyed it. */
enum kg_auth kg_registrar_authorize(struct kg_registrar *registrar, nta_incoming_t *irq, const sip_t *sip,
                                    const struct kg_flow *flow, char *user, size_t size);

/* One way to reach a phone. */
struct kg_target {
    char user[128];
    char contact[512]; /* the phone's own Contact URI as it registered it: the request URI toward it */
    const char
        *path; /* Route header of a request to there (RFC 3327), "" if none; the registrar's: copy it */
    struct kg_flow flow;
    bool nat;        /* its Contact or Via showed a NAT in between */
    uint16_t q;      /* what the phone prefers, in thousandths; 1000 where it says nothing */
    uint32_t device; /* targets of one number are flows of one phone (RFC 5626 5.3): one of them at a time,
                        the next only when that one is silent, closed, or answers 430 */
};
/* The user's contacts: highest q first, among equals most recently registered first; in PBX mode none if the
 * user part stands in more than one domain. The caller clears each target's flow. Returns how many. */
size_t kg_registrar_lookup(struct kg_registrar *registrar, const char *user, struct kg_target *out,
                           size_t max);
/* The contacts that a request outside of dialogs is for, ordered as above. PBX mode, for requests from the
 * PBX: the phone whose token (see README.md) stands in the topmost Route or else in the Request-URI. Embedded
 * mode: the user of the URI, and only the one phone that a GRUU (gr parameter, RFC 5627) names. route may be
 * NULL. */
size_t kg_registrar_find(struct kg_registrar *registrar, const url_t *url, const sip_route_t *route,
                         struct kg_target *out, size_t max);

/* The phone that is registered over this flow; where several share it, the one of this user if there is one.
 * The caller clears its flow. 0 or ENOENT. */
int kg_registrar_by_flow(struct kg_registrar *registrar, const struct kg_flow *flow, const char *user,
                         struct kg_target *out);

/* PBX mode: the number (route/peers.h) of the PBX that a phone on this flow is registered with, 0: none. */
uint32_t kg_registrar_pbx_of(const struct kg_registrar *registrar, const struct kg_flow *phone);
/* Whether a phone of this user is registered over this very flow. */
bool kg_registrar_is_at(const struct kg_registrar *registrar, const char *user, const struct kg_flow *flow);

/* PBX mode: the Route header (RFC 3608) of a request outside of dialogs that this user sends from there to
 * this PBX, "" if none. It goes to the PBX's address whatever it names. The registrar's: copy what is kept.
 */
const char *kg_registrar_service_route(const struct kg_registrar *registrar, const struct kg_flow *phone,
                                       const char *user, const struct kg_flow *pbx);

/* [{user, contact, transport, remote, local, nat, nat_reasons[], user_agent, expires_in, registered,
 * keepalive_s, reachable, unanswered, keepalive{state, words, interval_ms, proven_ms, broken_ms, min_ms,
 * max_ms} (only where keepalives are sent)}], in PBX mode also domain, token and pbx_expires_in. registered
 * is in ms since 1970. */
json_t *kg_registrar_json(const struct kg_registrar *registrar);

/* Accounts. Return 0, EEXIST, ENOENT, EINVAL (name), EIO (store not writable: see log), ENOTSUP (in front of
 * a PBX: the accounts are the PBX's). */
int kg_registrar_account_add(struct kg_registrar *registrar, const char *name, const char *password);
int kg_registrar_account_remove(struct kg_registrar *registrar, const char *name); /* its contacts go too */
/* Embedded mode: an account has this name. For callers that were authenticated only. */
bool kg_registrar_has_account(const struct kg_registrar *registrar, const char *name);
json_t *kg_registrar_accounts_json(const struct kg_registrar *registrar); /* [{name, contacts, created}] */

#endif
