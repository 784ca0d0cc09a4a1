/* One component of a steered stream: the two peers do ICE with each other and our two ports are a relay
 * candidate of each. Passes connectivity checks from one to the other after verifying them with the passwords
 * seen in signalling, and thereby learns where each side is. Sans-IO; belongs to the relay's worker.
 *
 * Invariants:
 *  - a source counts as a side's only after a request or response from it carried right integrity under
 * credentials that signalling named for these two sides, and for KG_STEER_PROOF_MS after the latest;
 *  - nothing is sent to an address that is not such a source (our own check of a suspect excepted, see
 * suspect);
 *  - a response goes to the very source that asked. */
#ifndef KG_MEDIA_STEER_H
#define KG_MEDIA_STEER_H

#include "ice/agent/agent.h"
#include "media/client.h"

#define KG_STEER_SOURCES    8     /* of one side: its candidates as seen here, the oldest goes first */
#define KG_STEER_PROOF_MS   30000 /* RFC 7675 5.1: consent expires */
#define KG_STEER_OVERLAP_MS 30000 /* how long the credentials before a restart still count */
#define KG_STEER_PENDING    32    /* requests passed on whose responses may still come */

struct kg_steer;
/* consent_ms: how often each side is asked by a check of ours on the relay path (RFC 7675), 0: never. */
struct kg_steer *kg_steer_new(uint32_t consent_ms, void (*random)(void *ctx, void *out, size_t len),
                              void *random_ctx);
void kg_steer_free(struct kg_steer *steer);
/* What a side said of ICE now. 0 or ENOMEM. component: 1 or 2, for PRIORITY in our own checks. */
int kg_steer_describe(struct kg_steer *steer, enum kg_side side, const struct kg_ice_description *ice,
                      int64_t now_ms);

enum kg_steer_verdict {
    KG_STEER_DROP,    /* not verified, or nowhere to go: counted */
    KG_STEER_FORWARD, /* send it unchanged out of the other side's port to *to */
    KG_STEER_KEPT, /* verified; goes out by kg_steer_poll when the other side is known, or was an answer to us
                    */
};
/* A STUN message from `source` on `side`'s port. *moved: kg_steer_target of that side is another one now. */
enum kg_steer_verdict kg_steer_receive(struct kg_steer *steer, enum kg_side side,
                                       const struct kg_addr *source, const uint8_t *data, size_t len,
                                       int64_t now_ms, const struct kg_addr **to, bool *moved);
/* Media from there is the side's. */
bool kg_steer_is_verified(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                          int64_t now_ms);
/* Valid media came from a verified source: media to that side goes there from now on. True if that is new. */
bool kg_steer_media(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms);
/* Media that looks like the side's (same SSRC, next sequence numbers, the old source silent) came from a
 * source that nothing has proven: asks it by a check with the other side's name, at most once a
 * KG_ICE_CHALLENGE_MS. */
void kg_steer_suspect(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                      int64_t now_ms);
/* Where media to that side goes; NULL: nowhere yet, or proof has expired. */
const struct kg_addr *kg_steer_target(const struct kg_steer *steer, enum kg_side side, int64_t now_ms);
/* True if USE-CANDIDATE was seen to succeed through us: the two have selected the relay. */
bool kg_steer_is_nominated(const struct kg_steer *steer);
/* ms since that side last proved itself; -1: never. */
int64_t kg_steer_silence(const struct kg_steer *steer, enum kg_side side, int64_t now_ms);

struct kg_steer_datagram {
    enum kg_side side; /* out of this side's port */
    struct kg_addr to;
    size_t len;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
};
bool kg_steer_poll(struct kg_steer *steer, int64_t now_ms, struct kg_steer_datagram *out);
int64_t kg_steer_next_ms(const struct kg_steer *steer);
/* Verified sources as pairs with our port (local none: the caller knows it). */
size_t kg_steer_pairs(const struct kg_steer *steer, enum kg_side side, struct kg_ice_pair *out, size_t max);

#endif
