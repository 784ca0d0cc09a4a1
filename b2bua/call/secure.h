/* How the media of each m-line is secured on each side, and why. Pure: no SIP, no SDP, no keys, no clock.
 *
 * Keys stay between the two phones wherever both can do the same (KG_SECURE_PASS); else kedge is the end of
 * each side's security and translates. First half: in which shape a peer is offered media, and in which next
 * if it refuses that. Second half: what each m-line does, from what was offered and answered. */
#ifndef KG_CALL_SECURE_H
#define KG_CALL_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/config.h"
#include "media/client.h"

/* What an m-line shows of security. */
enum kg_shape {
    KG_SHAPE_AS_IT_CAME,    /* what the other side wrote, keys and all; no RTP has no other */
    KG_SHAPE_PLAIN,         /* RTP/AVP or AVPF */
    KG_SHAPE_OPPORTUNISTIC, /* the same with keys or a fingerprint: who knows them uses them (RFC 8643) */
    KG_SHAPE_SDES,          /* RTP/SAVP or SAVPF with keys (RFC 4568) */
    KG_SHAPE_DTLS,          /* UDP/TLS/RTP/SAVP or SAVPF (RFC 5764) */
    KG_SHAPE_WEB,           /* the same as a browser insists on it: SAVPF, ICE, rtcp-mux (RFC 8834, 8827) */
    KG_SHAPE_COUNT
};
const char *kg_shape_name(enum kg_shape shape); /* "RTP", "SDES" ...; constant */
#define KG_SHAPE_BIT(shape) ((uint8_t)(1u << (shape)))
/* Those that are refused or answered with keys. */
#define KG_SHAPES_WITH_KEYS                                                                                  \
    (KG_SHAPE_BIT(KG_SHAPE_SDES) | KG_SHAPE_BIT(KG_SHAPE_DTLS) | KG_SHAPE_BIT(KG_SHAPE_WEB))

/* ---- toward whom which ---- */

struct kg_shape_facts {
    enum kg_profile word;  /* of the configuration */
    bool web;              /* its SIP comes over a WebSocket */
    enum kg_shape offered; /* of the other side's offer */
    uint8_t refused;       /* KG_SHAPE_BIT: what it refused before, and then took something else */
    uint8_t shown;         /* ... what it offers itself */
    uint8_t taken;         /* ... what it took, of those with keys */
    bool feedback; /* the offer's profile is AVPF or SAVPF, which those who know none refuse (RFC 4585) */
};
/* So often one contact is asked, at most. */
#define KG_SHAPE_TRIES 4
/* What it is offered first, and what where it refuses that. Returns how many, at least one. A refusal can be
 * forged: who is known for keys, and offers no media without, is not led into the clear by one if the caller
 * has keys. */
size_t kg_shapes(const struct kg_shape_facts *facts, enum kg_shape out[static KG_SHAPE_TRIES]);
/* The last of these: the caller has keys, and whom he calls is known for them. */
bool kg_shapes_keep_keys(const struct kg_shape_facts *facts);
/* Whether this word rules out media in the clear. */
bool kg_secure_is_demanded(enum kg_profile word);
/* Whether a refusal may be about the shape (RFC 3261 21.4.13, 21.4.26, 21.6.4). */
bool kg_shape_is_refusal(int status);

/* ---- an m-line ---- */

enum kg_secure_why {
    KG_SECURED_UNDECIDED,
    KG_SECURED_NOT, /* RTP on both sides */
    KG_SECURED_END_TO_END,
    KG_SECURED_DIFFERENTLY, /* each side with kedge, in its own way */
    KG_SECURED_HALF,        /* one side only */
    KG_SECURED_ZRTP,        /* RTP in which both phones may agree on keys (RFC 6189) */
    KG_SECURED_COUNT
};
/* A sentence without capital and full stop; constant. */
const char *kg_secure_why_text(enum kg_secure_why why);

struct kg_secure_facts {
    bool enabled[2]; /* the side has described this m-line, and does not reject it */
    uint8_t said[2]; /* enum kg_shape of its newest description */
    uint8_t kind[2]; /* enum kg_secure_use that its newest description permits: PLAIN, SDES, DTLS; PASS: it is
                        no RTP */
    bool zrtp[2];    /* RTP, and it names its ZRTP hello (RFC 6189 8): a=zrtp-hash */
    bool feedback[2]; /* its profile is AVPF or SAVPF (RFC 4585) */
    uint8_t told[2];  /* enum kg_shape of the text that side was sent last */
    uint8_t use[2];   /* enum kg_secure_use as agreed before */
    bool known;       /* ... something was */
    bool demanded;    /* of an offer: whom it is for is never asked for media in the clear */
};
struct kg_secure_line {
    uint8_t use[2];  /* enum kg_secure_use */
    uint8_t text[2]; /* enum kg_shape of what that side is sent next */
    bool sealed;     /* PASS, and what passes is encrypted; with ZRTP, may be */
    enum kg_secure_why why;
};
/* `from` made an offer, which the other side is to get in the shape `want`. ours: kedge's even if that is
 * `from`'s own.
 */
struct kg_secure_line kg_secure_offer(const struct kg_secure_facts *facts, enum kg_side from,
                                      enum kg_shape want, bool ours);
/* `from` answered what told[from] says. */
struct kg_secure_line kg_secure_answer(const struct kg_secure_facts *facts, enum kg_side from);
/* `from` answered an offer of kedge's own; the other side was not asked. */
struct kg_secure_line kg_secure_renewal(const struct kg_secure_facts *facts, enum kg_side from);

#endif
