/* Which headers pass from one side of kedge to the other: the one allow-list. It knows sides and not calls,
 * so that requests outside of calls go by the same rules. Pure. */
#ifndef KG_CALL_HEADERS_H
#define KG_CALL_HEADERS_H

#include <sofia-sip/sip.h>
#include <sofia-sip/su_tag.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf/config.h"

enum kg_peer_kind { KG_PEER_PHONE = 1, KG_PEER_PBX = 2, KG_PEER_TRUNK = 4 };

/* Who a message comes from, or goes to. */
struct kg_peer {
    enum kg_peer_kind kind;
    bool
        trusted; /* a trunk's `trusted: yes`. A PBX is always in the trust domain (RFC 3324), a phone never */
};
bool kg_peer_is_trusted(struct kg_peer peer);

/* Headers of one message that pass at most. More is a fault or an attack: they are left out and counted, the
 * caller says so. */
#define KG_PASSED_MAX       40
#define KG_PASSED_TEXTS     3
#define KG_PASSED_TEXT_SIZE 512
struct kg_passed {
    tagi_t tag[KG_PASSED_MAX + 1]; /* ends with TAG_END: hand it to nta by TAG_NEXT(passed.tag) */
    sip_unknown_t unknown[KG_PASSED_MAX];
    char text[KG_PASSED_TEXTS][KG_PASSED_TEXT_SIZE]; /* values that were written here */
    unsigned texts;
};
/* The headers of sip that may pass; sip must live as long as the tags. Not here, because they cannot go as
 * they are: Replaces, Refer-To and Referred-By (refer.h), Supported and Require (each leg's own), bodies and
 * their headers. Returns how many were left out, because of their number or control characters. */
size_t kg_headers_pass(const struct kg_config *config, const sip_t *sip, struct kg_peer from,
                       struct kg_peer to, struct kg_passed *out);
/* Nothing passes. */
void kg_headers_none(struct kg_passed *out);

#endif
