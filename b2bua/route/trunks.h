/* The trunks: kedge's accounts at providers. Registers there, knows whose calls come in, and proves itself
 * when a provider asks; nobody else is ever given a proof. Signalling thread only. */
#ifndef KG_ROUTE_TRUNKS_H
#define KG_ROUTE_TRUNKS_H

#include <jansson.h>
#include <sofia-sip/nta.h>
#include <sofia-sip/sip.h>

#include "b2bua/server.h"
#include "b2bua/sip/flow.h"

struct kg_trunks;
struct kg_trunk;

struct kg_trunks *kg_trunks_new(struct kg_server *server); /* after server->sip; NULL: no memory */
void kg_trunks_free(struct kg_trunks *trunks);             /* before server->sip */
/* server->config is new: trunks that are gone unregister, new and changed ones register. */
void kg_trunks_reload(struct kg_trunks *trunks);
/* kedge ends: all unregister. */
void kg_trunks_leave(struct kg_trunks *trunks);
bool kg_trunks_are_gone(const struct kg_trunks *trunks); /* nothing is under way any more */
/* kg_sip_handlers.on_flow_lost */
void kg_trunks_flow_lost(struct kg_trunks *trunks, tport_t *tport);

/* By its number in server->config.trunk, by name, or NULL. */
struct kg_trunk *kg_trunks_at(struct kg_trunks *trunks, size_t index);
struct kg_trunk *kg_trunks_named(struct kg_trunks *trunks, const char *name);
/* Whose a request outside of dialogs is: by the secret in the Contact that was registered, else by where it
 * comes from. NULL: no trunk's. */
struct kg_trunk *kg_trunks_of(struct kg_trunks *trunks, const struct kg_flow *flow, const url_t *request_uri);

/* ---- one of them ---- */
/* A call that goes over it outlives its removal from the configuration: whoever keeps a pointer holds it. */
struct kg_trunk *kg_trunk_hold(struct kg_trunk *trunk); /* NULL stays NULL */
void kg_trunk_release(struct kg_trunk *trunk);          /* NULL is fine */
const struct kg_trunk_config *kg_trunk_config(const struct kg_trunk *trunk);
/* Its number in server->config.trunk; SIZE_MAX: it was removed. */
size_t kg_trunk_index(const struct kg_trunk *trunk);
/* The host part of its address of record, and of what is called through it. */
const char *kg_trunk_domain(const struct kg_trunk *trunk);
/* Whether the user part is the secret one of its Contact, and says nothing of who is called. */
bool kg_trunk_is_line(const struct kg_trunk *trunk, const char *user);
/* The Route header of requests that start something (RFC 3608); NULL: none. */
const char *kg_trunk_service_route(const struct kg_trunk *trunk);

/* The port that a URI of its own needs; NULL: none. */
const char *kg_trunk_port(const struct kg_trunk *trunk);
/* What the number becomes there must be allowed to the user by caps as well. */
bool kg_trunk_permits(const struct kg_trunk *trunk, const char *user, const char *number);
/* Calls over it are counted; each holds it. */
bool kg_trunk_is_full(const struct kg_trunk *trunk);
void kg_trunk_begin_call(struct kg_trunk *trunk);
void kg_trunk_end_call(struct kg_trunk *trunk);

/* Proofs in a row to one request; a server whose every nonce is stale gets no more. */
#define KG_TRUNK_PROOFS_MAX 3
/* Which of a trunk's two accounts: its own at the provider, and that of its calls at the PBX. */
enum kg_trunk_account { KG_ACCOUNT_PROVIDER, KG_ACCOUNT_PBX };
/* response is the 401 or 407 to orq, a request of ours to a server where the account is. Returns the same
 * request once more with the proof, for nta_outgoing_mcreate: with the dialog's next CSeq, or by its own if
 * dialog is NULL. NULL: there is nothing to prove with, it was not enough, or another realm asks. proofs: how
 * many were given in a row. */
msg_t *kg_trunk_prove(struct kg_trunk *trunk, enum kg_trunk_account which, nta_leg_t *dialog,
                      nta_outgoing_t *orq, const sip_t *response, unsigned proofs);

/* [{name, state, server, expires_in, next_in, failures, status, calls, calls_limit, trusted}] */
json_t *kg_trunks_json(const struct kg_trunks *trunks);

#endif
