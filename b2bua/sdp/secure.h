/* Keys and profiles in SDP: what a description says of them (RFC 4568, 5763, 8122, 8842, 8643), what kedge
 * writes in their place, and what an answer makes of what was offered. Pure; part of sdp.h.
 *
 * Nothing here is a reason to refuse a description: what cannot be used is left out, and a sentence says why.
 */
#ifndef KG_SDP_SECURE_H
#define KG_SDP_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "media/client.h"

struct kg_sdp;

/* The transport of an m-line. */
enum kg_sdp_profile {
    KG_SDP_NOT_RTP, /* and what RTP profile kedge does not know */
    KG_SDP_AVP,
    KG_SDP_AVPF,
    KG_SDP_SAVP,
    KG_SDP_SAVPF,
    KG_SDP_TLS_SAVP,  /* UDP/TLS/RTP/SAVP */
    KG_SDP_TLS_SAVPF, /* UDP/TLS/RTP/SAVPF */
    KG_SDP_PROFILES
};
const char *kg_sdp_profile_name(enum kg_sdp_profile profile);  /* "RTP/AVP" */
bool kg_sdp_profile_is_secure(enum kg_sdp_profile profile);    /* SRTP is demanded, not only possible */
bool kg_sdp_profile_has_feedback(enum kg_sdp_profile profile); /* AVPF, SAVPF (RFC 4585, 5124) */
bool kg_sdp_profile_is_dtls(enum kg_sdp_profile profile);      /* UDP/TLS/RTP/... */

/* RFC 4568 9.1: tag = 1*9DIGIT */
#define KG_SDP_CRYPTO_TAG_MAX 999999999u
/* Usable a=crypto lines of an m-line that are kept, the first ones: the writer's order is its preference. */
#define KG_SDP_CRYPTO_MAX 8
#define KG_SDP_TLS_ID_MAX 256 /* with NUL; RFC 8842 4: 20 to 255 characters */

struct kg_sdp_crypto {
    uint32_t tag;
    struct kg_srtp_keys keys;
};

/* What one m-line says of keys, its own lines and what it has from the session part. Holds keys: clear it. */
struct kg_sdp_secure {
    uint8_t profile;           /* enum kg_sdp_profile */
    uint8_t setup;             /* enum kg_dtls_setup; KG_SETUP_NONE: not said */
    bool says_sdes, says_dtls; /* a=crypto, a=fingerprint are there, usable or not */
    bool says_zrtp;            /* a=zrtp-hash: the two phones may agree on keys in the media itself */
    bool says_mikey;           /* a=key-mgmt */
    /* What can be done with the writer, the profile considered: both may be, with RTP/SAVP(F). With AVP and
     * AVPF it is opportunistic (RFC 8643): plain RTP is possible too. */
    bool sdes, dtls, plain;
    /* Why neither keys nor plain RTP are possible ("its only a=crypto line ..."); constant. NULL: one is. */
    const char *problem;
    /* The rest is 3 kB, and in most calls unused: beyond the counts and the NUL nothing is set. */
    uint8_t crypto_count, fingerprint_count;
    char tls_id[KG_SDP_TLS_ID_MAX]; /* "": none */
    struct kg_fingerprint fingerprint[KG_FINGERPRINTS_MAX];
    /* Usable ones, in the writer's order: an answer takes the first (RFC 4568 5.1.2). */
    struct kg_sdp_crypto crypto[KG_SDP_CRYPTO_MAX];
};
/* Returns 0, or EINVAL if there is no such m-line. */
int kg_sdp_secure(const struct kg_sdp *sdp, size_t media, struct kg_sdp_secure *out);
void kg_sdp_secure_clear(struct kg_sdp_secure *secure); /* the keys are overwritten */

/* A line that cannot be used, without its keys. */
struct kg_sdp_bad_key {
    char text[64];      /* "crypto:1 AES_CM_128_HMAC_SHA1_80" */
    const char *reason; /* constant: "UNENCRYPTED_SRTP would send media in the clear" */
};
/* Of one m-line and the session part; returns their number, at most max. */
size_t kg_sdp_bad_keys(const struct kg_sdp *sdp, size_t media, struct kg_sdp_bad_key *out, size_t max);

/* What one m-line of the result says of keys, in place of all that its writer says. Nothing but a profile:
 * plain RTP. Crypto lines or a fingerprint with AVP or AVPF: opportunistic. */
struct kg_sdp_our_keys {
    uint8_t profile; /* enum kg_sdp_profile. An answer repeats the offer's (kg_sdp_reader.said), whatever this
                        is */
    /* An offer: several, the preferred first, tags 1, 2, ...; an answer: one, with the tag of the offer's.
     * The first key of each is written. */
    const struct kg_sdp_crypto *crypto;
    uint8_t crypto_count;
    struct kg_fingerprint fingerprint; /* KG_FINGERPRINT_NONE: none, and no a=setup */
    uint8_t setup;                     /* offer: KG_SETUP_ACTPASS; answer: ACTIVE or PASSIVE */
    const char *tls_id;                /* NULL: none */
};

/* What an answer makes of keys that kedge offered. */
struct kg_sdp_agreed {
    uint8_t use; /* KG_SECURE_PLAIN, KG_SECURE_SDES, KG_SECURE_DTLS */
    bool feedback;
    uint8_t ours, theirs; /* SDES: numbers in offered->crypto and answer->crypto */
    uint8_t setup;        /* DTLS: ours: KG_SETUP_ACTIVE or KG_SETUP_PASSIVE */
};
/* For an m-line that both sides have enabled. Returns 0, or EINVAL and a sentence: its profile demands
 * no keys where ours did (other differences are lived with), no keys where one of the two demands them, not
 * exactly one usable a=crypto with tag and suite of ours (RFC 4568 5.1.3), no usable fingerprint (RFC 8122
 * 5), actpass (RFC 5763 5). */
int kg_sdp_check_keys(const struct kg_sdp_our_keys *offered, const struct kg_sdp_secure *answer,
                      struct kg_sdp_agreed *out, char *error, size_t size);

/* RFC 4145 4.1, RFC 5763 5: ours in the answer to an offer of `theirs`. `preferred` where the offerer leaves
 * the choice. KG_SETUP_NONE: none is possible (holdconn). */
enum kg_dtls_setup kg_sdp_answer_setup(enum kg_dtls_setup theirs, enum kg_dtls_setup preferred);

#endif
