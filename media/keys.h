/* What secures the media of one m-line on one side: words shared by signalling, which negotiates them in SDP,
 * and the engine, which uses them. Values only; part of client.h. */
#ifndef KG_MEDIA_KEYS_H
#define KG_MEDIA_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order in which kedge offers them. */
enum kg_srtp_suite {
    KG_SRTP_NONE,
    KG_SRTP_AEAD_AES_256_GCM, /* RFC 7714 */
    KG_SRTP_AEAD_AES_128_GCM,
    KG_SRTP_AES_CM_256_SHA1_80, /* RFC 6188 */
    KG_SRTP_AES_CM_256_SHA1_32,
    KG_SRTP_AES_CM_128_SHA1_80, /* RFC 3711, 4568 */
    KG_SRTP_AES_CM_128_SHA1_32,
    KG_SRTP_SUITES
};

#define KG_SRTP_KEY_MAX 46 /* master key 32 and master salt 14 bytes */
/* Bytes of a master key identifier that are accepted: those of the examples of RFC 4568, which allows 128. */
#define KG_SRTP_MKI_MAX  32
#define KG_SRTP_KEYS_MAX 4 /* master keys of one direction, told apart by MKI */

/* Facts of a suite; constant. "AES_CM_128_HMAC_SHA1_80" as in SDP (RFC 4568 6.2, 6188 4, 7714 14.2). */
const char *kg_srtp_suite_name(enum kg_srtp_suite suite);
enum kg_srtp_suite kg_srtp_suite_of(const char *name, size_t len); /* KG_SRTP_NONE: unknown; case ignored */
size_t kg_srtp_suite_key_len(enum kg_srtp_suite suite);            /* master key and salt, bytes */

/* One master key with its salt, in the suite that its direction has. */
struct kg_srtp_key {
    uint8_t mki_len; /* 0: no MKI in the packets */
    uint8_t mki[KG_SRTP_MKI_MAX];
    uint8_t bytes[KG_SRTP_KEY_MAX]; /* kg_srtp_suite_key_len of them: key, then salt */
};

/* The keys of one direction. */
struct kg_srtp_keys {
    uint8_t suite; /* enum kg_srtp_suite; KG_SRTP_NONE: none */
    uint8_t count; /* at most KG_SRTP_KEYS_MAX; the first is used for sending */
    struct kg_srtp_key key[KG_SRTP_KEYS_MAX];
};
void kg_srtp_keys_clear(struct kg_srtp_keys *keys); /* the bytes are overwritten */
bool kg_srtp_keys_equal(const struct kg_srtp_keys *a, const struct kg_srtp_keys *b);

/* RFC 8122. Others than these are not taken: MD5 and SHA-1 prove nothing. */
enum kg_fingerprint_hash {
    KG_FINGERPRINT_NONE,
    KG_FINGERPRINT_SHA256,
    KG_FINGERPRINT_SHA384,
    KG_FINGERPRINT_SHA512
};
#define KG_FINGERPRINTS_MAX 4
struct kg_fingerprint {
    uint8_t hash; /* enum kg_fingerprint_hash */
    uint8_t len;  /* 32, 48 or 64 */
    uint8_t bytes[64];
};

/* Who begins the handshake (RFC 4145 4, RFC 5763 5). */
enum kg_dtls_setup { KG_SETUP_NONE, KG_SETUP_ACTPASS, KG_SETUP_ACTIVE, KG_SETUP_PASSIVE, KG_SETUP_HOLDCONN };

/* What is done with the packets of one m-line on one side. */
enum kg_secure_use {
    KG_SECURE_PASS,  /* nothing: keys, if there are any, are between the two phones. Both sides have it, or
                        neither */
    KG_SECURE_PLAIN, /* RTP in the clear with this side */
    KG_SECURE_SDES,  /* SRTP with keys that SDP told */
    KG_SECURE_DTLS,  /* SRTP with keys of a DTLS association between this side and kedge */
};
const char *kg_secure_use_name(enum kg_secure_use use); /* "end-to-end", "none", "sdes", "dtls" */

/* What signalling decided for one m-line of one side. */
struct kg_media_secure {
    uint8_t use;   /* enum kg_secure_use */
    bool sealed;   /* PASS: what passes is encrypted: SRTCP is opaque, and DTLS passes as well */
    bool feedback; /* not PASS: this side's profile is AVPF or SAVPF: it may be sent RTCP feedback (RFC 4585)
                    */
    /* SDES */
    struct kg_srtp_keys send,
        receive; /* ours, theirs. Others than before: changed without loss of index. receive may be
                    empty as long as they have not answered: nothing is accepted then */
    /* DTLS */
    uint8_t setup; /* ours: KG_SETUP_ACTIVE, KG_SETUP_PASSIVE; KG_SETUP_ACTPASS: not agreed yet, both are
                      possible: a ClientHello is answered (on a validated path, RFC 5763 5), none is sent */
    uint8_t
        fingerprint_count; /* 0: not known yet: a handshake may run, no keys are installed until one fits */
    struct kg_fingerprint fingerprint[KG_FINGERPRINTS_MAX]; /* theirs: the certificate must match one of the
                                                               strongest hash (RFC 8122 5) */
    struct kg_fingerprint ours; /* as this side was told: says which of the engine's certificates serves */
    uint32_t association; /* grows when a new DTLS association is wanted (RFC 8842 4): until it stands the old
                             keys serve */
};

#endif
