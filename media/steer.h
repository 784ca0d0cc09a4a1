/* One component of a steered stream: the two peers do ICE with each other and our two ports are a relay
 * candidate of each. Passes connectivity checks from one to the other after verifying them with the passwords
 * seen in signalling, and thereby learns where each side is. Sans-IO; belongs to the relay's worker.
 *
 * A request's integrity does not cover its source: whoever overheard one can send it again from elsewhere.
 * So:
 *
 *  - A valid request makes its source a candidate only. It is passed on, the response goes back to the very
 *    source that asked, and that source is asked by a check of our own (an ICE agent's triggered check). One
 *    valid request causes at most one such check, and one more when the other side has answered the request.
 *    What a verified source has asked within KG_STEER_PENDING_MS is dropped when it comes from another one
 *    that is not verified.
 *
 *  - A source is verified, and a side's, when it has answered a check that was sent to it, ours or one passed
 *    on, with right integrity; for proof_ms after the latest such answer.
 *
 *  - Checks are passed on to verified sources only. While the other side has none, the newest request of each
 *    side is kept.
 *
 *  - We vouch for a side that has not come yet: a check is answered by us in its name, once a request, if the
 *    asker is verified, if it uses the present credentials of both and does not nominate, and if
 *    KG_STEER_VOUCH_AFTER_MS brought neither an answer nor the next request of that side; until
 * KG_STEER_VOUCH_MS after the descriptions. Never once that side has answered anything with its present
 * password, be it long ago, nor after a restart before which it did not come in all that time. The request is
 * kept all the same, and what the side itself may answer later is passed back (a response to a transaction
 * that is over is ignored, RFC 8489 6.3). Vouching proves nobody. Why: who checks one pair after another
 * (libre) gives the relay up for the whole call while the other side is still busy with dead pairs. Why not
 * before it falls silent: linphone nominates the relay one second after it became valid, though better pairs
 * are still being checked (seen: two relays in a row instead of its own alone). Nominations pass from end to
 * end, so the relay is selected by both or, where nobody waits for the response (libre), by one whose better
 * pairs have all failed: without us its whole list would have.
 *
 *  - Media goes to the target: the first verified source, then the one nominated last, then any verified one
 *    that media comes from.
 *
 *  - Our own checks change nobody's role: their tie-breaker loses every conflict. They are never taken
 *    back as the other side's, and an answer to one counts only if the peer saw our own port as its source
 *    (XOR-MAPPED-ADDRESS) and not somebody who handed it on; see kg_steer_local.
 *
 * Nothing else is sent anywhere, but for the check of a suspect. */
#ifndef KG_MEDIA_STEER_H
#define KG_MEDIA_STEER_H

#include "ice/agent/agent.h"
#include "media/client.h"

#define KG_STEER_SOURCES    8     /* of one side: the unverified one seen longest ago goes first */
#define KG_STEER_OVERLAP_MS 30000 /* how long the credentials before a restart still count */
#define KG_STEER_PENDING    32    /* requests passed on whose responses may still come */
#define KG_STEER_PENDING_MS 39500 /* RFC 8489 6.2.1: no transaction is longer */
#define KG_STEER_KEPT_MS    10000 /* a kept request older than that is not sent any more */
#define KG_STEER_KEPT_MAX   384   /* bytes; a longer one is not kept: the phone sends it again */
#define KG_STEER_ANSWER_MS  5000  /* how long a check of ours may be answered */
/* libre sends a check for the last time after 700 ms and gives it up after 2.3 s. Who repeats after 200, 400,
 * 800 ms and so on, as others do, is still asking then. */
#define KG_STEER_VOUCH_AFTER_MS 1100
#define KG_STEER_VOUCH_MS       10000 /* four dead pairs of libre's; who has not come by then will not come */
#define KG_STEER_SETTLE_MS      1000 /* after a nomination media from other sources moves nothing: it is late */

struct kg_steer;
/* consent_ms: how often each side's target is asked by a check of ours (RFC 7675 5.1), +-20 %. 0: never, and
 * then proof does not expire. proof_ms: otherwise for how long an answer counts (consent's expiry). */
struct kg_steer *kg_steer_new(uint32_t consent_ms, uint32_t proof_ms,
                              void (*random)(void *ctx, void *out, size_t len), void *random_ctx);
void kg_steer_free(struct kg_steer *steer);
/* What a side said of ICE now; another ufrag or pwd is a restart (or another branch of a forked call). 0 or
 * ENOMEM (then nothing has changed). */
int kg_steer_describe(struct kg_steer *steer, enum kg_side side, const struct kg_ice_description *ice,
                      int64_t now_ms);
/* Where that side sees our port: where it is bound, or that port of another host that candidates tell
 * (advertised; none: as bound). Until it is called, answers are believed without that. */
void kg_steer_local(struct kg_steer *steer, enum kg_side side, const struct kg_addr *bound,
                    const struct kg_addr *advertised);

enum kg_steer_verdict {
    KG_STEER_DROP,    /* not verified, or nowhere to go: counted */
    KG_STEER_FORWARD, /* send it unchanged out of the other side's port to *to */
    KG_STEER_KEPT,    /* verified: goes out by kg_steer_poll when the other side is known, or answered us */
};
/* A STUN message from `source` on `side`'s port. *moved: the target of either side is another one now. */
enum kg_steer_verdict kg_steer_receive(struct kg_steer *steer, enum kg_side side,
                                       const struct kg_addr *source, const uint8_t *data, size_t len,
                                       int64_t now_ms, const struct kg_addr **to, bool *moved);
/* Media from there is the side's. */
bool kg_steer_is_verified(const struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                          int64_t now_ms);
/* Valid media came from a verified source (needs to be told of others than the target only): media to that
 * side goes there from now on. True if that is new. */
bool kg_steer_media(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source, int64_t now_ms);
/* Media that looks like the side's (same SSRC, next sequence numbers, the old source silent) came from a
 * source that nothing has proven: asks it by a check with the other side's name, at most once a
 * KG_ICE_CHALLENGE_MS. Its answer makes it the target. */
void kg_steer_suspect(struct kg_steer *steer, enum kg_side side, const struct kg_addr *source,
                      int64_t now_ms);
/* Where media to that side goes; NULL: nowhere yet, or proof has expired. */
const struct kg_addr *kg_steer_target(const struct kg_steer *steer, enum kg_side side, int64_t now_ms);
/* True if USE-CANDIDATE was seen to succeed through us: the two have selected the relay. */
bool kg_steer_is_nominated(const struct kg_steer *steer);
/* When that side last answered a check of our own; -1: never. */
int64_t kg_steer_answered_ms(const struct kg_steer *steer, enum kg_side side);
/* ms since that side last proved itself; -1: never. */
int64_t kg_steer_silence(const struct kg_steer *steer, enum kg_side side, int64_t now_ms);

struct kg_steer_datagram {
    enum kg_side side; /* out of this side's port */
    struct kg_addr to;
    size_t len;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
};
/* The next datagram to send now; false: none. Call until false after each other call and at next_ms. Targets
 * whose proof has expired are replaced here. */
bool kg_steer_poll(struct kg_steer *steer, int64_t now_ms, struct kg_steer_datagram *out);
int64_t kg_steer_next_ms(const struct kg_steer *steer); /* INT64_MAX: nothing to do */
/* Verified sources as pairs with our port (local none: the caller knows it). */
size_t kg_steer_pairs(const struct kg_steer *steer, enum kg_side side, struct kg_ice_pair *out, size_t max);

#endif
