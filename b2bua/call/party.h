/* How a party is written on the other side of kedge: its number, its name, its asserted identity. Knows sides
 * and not calls, so that requests outside of calls write it likewise. */
#ifndef KG_CALL_PARTY_H
#define KG_CALL_PARTY_H

#include "b2bua/call/headers.h"
#include "b2bua/call/identity.h"
#include "b2bua/route/numbers.h"
#include "b2bua/route/trunks.h"

struct kg_party_side {
    enum kg_peer_kind kind;
    const struct kg_trunk *trunk; /* of KG_PEER_TRUNK */
};
/* What is being passed on goes from one to the other. */
struct kg_party_passage {
    const struct kg_config *config;
    struct kg_party_side from, to;
};

struct kg_peer kg_party_peer(struct kg_party_side side);
/* As `numbers` calls it: "phone", "pbx", or the name of a trunk. */
const char *kg_party_side_name(struct kg_party_side side);

/* The user as it is written where it goes. own: what it was made on its way in; NULL: url has it. Returns a
 * text that is escaped as in a URI: url's own, or out. */
const char *kg_party_user(const struct kg_party_passage *p, enum kg_number_of of, const char *own,
                          const url_t *url, char out[static KG_IDENTITY_USER]);
/* A URI of plain SIP with this user and host. */
url_t kg_party_url(const char *user, const char *host);
/* The host in From and To toward a phone: a numeric one would show an address of the other side's network,
 * and one of a provider could not be called back. own: kedge's address there. */
const char *kg_party_shown_host(const struct kg_party_passage *p, const url_t *url, const char *own);
/* From and To of a request to a trunk, on behalf of sip's sender. */
void kg_party_to_trunk(const struct kg_trunk *trunk, const sip_t *sip, const char *caller, const char *called,
                       sip_from_t *from, sip_to_t *to);
/* Takes the name out of From where its owner wants that (RFC 3323). */
void kg_party_hide(const struct kg_party_passage *p, const sip_t *sip, sip_from_t *from);
/* Numbers in the asserted identities that pass; and the identity of `account`, which kedge itself has
 * authenticated (RFC 3325 5), if there is one and the other side may rely on it. */
void kg_party_identify(const struct kg_party_passage *p, const sip_t *sip, const char *account,
                       struct kg_passed *passed);

#endif
