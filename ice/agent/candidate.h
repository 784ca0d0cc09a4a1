/* Candidates as values (RFC 8445 5.1, RFC 8839 5.1) and what one description says of ICE. Pure. */
#ifndef KG_ICE_AGENT_CANDIDATE_H
#define KG_ICE_AGENT_CANDIDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

enum kg_candidate_type { KG_CANDIDATE_HOST, KG_CANDIDATE_SRFLX, KG_CANDIDATE_PRFLX, KG_CANDIDATE_RELAY };
const char *kg_candidate_type_name(enum kg_candidate_type type); /* "host", "srflx", "prflx", "relay" */

#define KG_ICE_FOUNDATION_MAX 32 /* RFC 8839 5.1 */
#define KG_ICE_UFRAG_MIN      4
#define KG_ICE_PWD_MIN        22
#define KG_ICE_CREDENTIAL_MAX 256 /* of both (RFC 8839 5.4) */
/* Of ours: 24 and 128 bits of randomness at least (RFC 8839 5.4), in ice-chars, with NUL. */
#define KG_ICE_OUR_UFRAG 9
#define KG_ICE_OUR_PWD   25

struct kg_candidate {
    uint8_t type;      /* enum kg_candidate_type */
    uint8_t component; /* 1 RTP, 2 RTCP */
    uint32_t priority; /* 1..2^31-1; a higher number is better */
    char foundation[KG_ICE_FOUNDATION_MAX + 1];
    struct kg_addr addr;
    struct kg_addr related; /* base, or mapped address of a relayed one; none where it is not told */
};

/* RFC 8445 5.1.2.1; preferences of 5.1.2.2: host 126, prflx 110, srflx 100, relay 0. */
uint32_t kg_candidate_priority(enum kg_candidate_type type, uint16_t local_preference, uint8_t component);
/* RFC 8445 6.1.2.3 */
uint64_t kg_pair_priority(uint32_t controlling, uint32_t controlled);
/* Same type, base host, protocol and server give the same text (RFC 8445 5.1.1.3); server may be none. */
void kg_candidate_foundation(enum kg_candidate_type type, const struct kg_addr *base,
                             const struct kg_addr *server, char out[static KG_ICE_FOUNDATION_MAX + 1]);
bool kg_ice_is_ufrag(const char *text, size_t len); /* length and ice-chars */
bool kg_ice_is_pwd(const char *text, size_t len);

/* Why a candidate of a description is not used; the text is for people. */
enum kg_candidate_verdict {
    KG_CANDIDATE_OK,
    KG_CANDIDATE_BAD,     /* does not follow the grammar */
    KG_CANDIDATE_NOT_UDP, /* ICE-TCP is not spoken yet */
    KG_CANDIDATE_MDNS,    /* a ".local" name: only its own network can resolve it */
    KG_CANDIDATE_NAME,    /* another host name */
    KG_CANDIDATE_UNKNOWN_TYPE,
    KG_CANDIDATE_COMPONENT, /* neither 1 nor 2 */
    KG_CANDIDATE_UNUSABLE,  /* unspecified, multicast, port 0 */
};
const char *kg_candidate_verdict_text(enum kg_candidate_verdict verdict);
/* The value of an a=candidate line, without "candidate:". */
enum kg_candidate_verdict kg_candidate_parse(const char *text, size_t len, struct kg_candidate *out);
/* Longest "candidate:..." line and NUL. */
#define KG_CANDIDATE_STR 240
/* "candidate:F 1 UDP 2130706431 192.0.2.1 5000 typ host" without "a=". srflx and relay without `related` get
 * "raddr 0.0.0.0 rport 9" (RFC 8839 5.1: privacy). Returns its length. */
size_t kg_candidate_format(const struct kg_candidate *candidate, char out[static KG_CANDIDATE_STR]);

/* What one m-line (with the session's lines where it has none of its own) says of ICE. Pointers belong to
 * whoever made it and live as long as that. */
struct kg_ice_description {
    const char *ufrag, *pwd; /* NUL-terminated, valid by kg_ice_is_* */
    bool lite;
    bool trickle; /* a=ice-options:trickle */
    bool ice2;    /* a=ice-options:ice2 (RFC 8445 10) */
    bool end_of_candidates;
    uint16_t pacing_ms; /* a=ice-pacing; 0: none */
    uint8_t candidate_count;
    const struct kg_candidate *candidate;
    struct kg_addr remote_candidate[2]; /* a=remote-candidates by component - 1; none: not there */
};
#define KG_ICE_CANDIDATES_MAX 32 /* of one m-line; the rest is dropped, lowest priority first */

#endif
