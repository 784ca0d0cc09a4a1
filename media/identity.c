#include "media/identity.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/srtp.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "conf/digits.h"

#define VALID_BEFORE_S (24 * 3600)      /* clocks of peers differ */
#define VALID_AFTER_S  (42 * 24 * 3600) /* an engine makes a new one long before */
#define STRENGTH_BITS  112              /* of the peer's key: RSA 2048 and more */
#define CHAIN_MAX      16384 /* bytes of a peer's certificates; they are kept until one was verified */

struct kg_dtls_identity {
    atomic_uint references;
    SSL_CTX *context;
    struct kg_fingerprint fingerprint;
};

/* Forward secrecy always, AEAD first; CBC for old phones. No suite with NULL, RC4 or an anonymous peer. */
static const char suites[] =
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA";
static const char groups[] = "X25519:P-256:P-384";
static const char signatures[] =
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:"
    "RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";
/* RFC 5764 4.1.2, RFC 7714 14.2; as a server the first of ours that the peer has is taken. */
static const char profiles[] =
    "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80:SRTP_AES128_CM_SHA1_32";

static const EVP_MD *digest_of(uint8_t hash)
{
    switch (hash) {
    case KG_FINGERPRINT_SHA256:
        return EVP_sha256();
    case KG_FINGERPRINT_SHA384:
        return EVP_sha384();
    case KG_FINGERPRINT_SHA512:
        return EVP_sha512();
    default:
        return NULL;
    }
}

static bool fingerprint_of(const X509 *certificate, uint8_t hash, struct kg_fingerprint *out)
{
    unsigned len = sizeof out->bytes;

    *out = (struct kg_fingerprint){.hash = hash};
    if (!X509_digest(certificate, digest_of(hash), out->bytes, &len))
        return false;
    out->len = (uint8_t)len;
    return true;
}

bool kg_dtls_peer_fits(const struct kg_dtls_peer *peer)
{
    uint8_t strongest = KG_FINGERPRINT_NONE;

    for (uint8_t i = 0; i < peer->expected_count; i++)
        if (peer->expected[i].hash > strongest && peer->expected[i].hash <= KG_FINGERPRINT_SHA512)
            strongest = peer->expected[i].hash;
    if (strongest == KG_FINGERPRINT_NONE || !peer->seen)
        return false;
    const struct kg_fingerprint *is = &peer->digest[strongest - 1];
    for (uint8_t i = 0; i < peer->expected_count; i++)
        if (peer->expected[i].hash == strongest && peer->expected[i].len == is->len &&
            CRYPTO_memcmp(peer->expected[i].bytes, is->bytes, is->len) == 0)
            return true;
    return false;
}

/* In the place of OpenSSL's verification: who signed a certificate means nothing (RFC 8122 7), whose it is
 * all. */
static int verify(X509_STORE_CTX *store, void *argument)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    struct kg_dtls_peer *peer = SSL_get_app_data(ssl);

    (void)argument;
    if (certificate && EVP_PKEY_get_security_bits(X509_get0_pubkey(certificate)) < STRENGTH_BITS) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_EE_KEY_TOO_SMALL);
        return 0;
    }
    peer->seen = certificate != NULL;
    for (uint8_t hash = KG_FINGERPRINT_SHA256; peer->seen && hash <= KG_FINGERPRINT_SHA512; hash++)
        peer->seen = fingerprint_of(certificate, hash, &peer->digest[hash - 1]);
    if (peer->seen && (peer->expected_count == 0 || kg_dtls_peer_fits(peer)))
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* Cookies are made and verified before OpenSSL sees a datagram (dtls_hello.h). */
static int cookie_any(SSL *ssl, unsigned char *cookie, unsigned *len)
{
    (void)ssl;
    cookie[0] = 0;
    *len = 1;
    return 1;
}

static int cookie_verified(SSL *ssl, const unsigned char *cookie, unsigned len)
{
    (void)ssl;
    (void)cookie;
    (void)len;
    return 1;
}

static SSL_CTX *make_context(X509 *certificate, EVP_PKEY *key)
{
    SSL_CTX *context = SSL_CTX_new(DTLS_method());

    if (!context)
        return NULL;
    SSL_CTX_set_options(context, SSL_OP_COOKIE_EXCHANGE | SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_security_level(context, 2);
    SSL_CTX_set_max_cert_list(context, CHAIN_MAX);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(context, verify, NULL);
    SSL_CTX_set_cookie_generate_cb(context, cookie_any);
    SSL_CTX_set_cookie_verify_cb(context, cookie_verified);
    /* SSL_CTX_set_tlsext_use_srtp answers 0 for success. */
    if (SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION) &&
        SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION) && SSL_CTX_set_cipher_list(context, suites) &&
        SSL_CTX_set1_groups_list(context, groups) && SSL_CTX_set1_sigalgs_list(context, signatures) &&
        SSL_CTX_set_tlsext_use_srtp(context, profiles) == 0 &&
        SSL_CTX_use_certificate(context, certificate) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1)
        return context;
    SSL_CTX_free(context);
    return NULL;
}

/* Self-signed; serial and name are random and tell nothing of the host. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    uint8_t random[16];
    char name[2 * sizeof random + 1];

    if (!certificate)
        return NULL;
    if (RAND_bytes(random, sizeof random) != 1)
        goto failed;
    kg_hex(name, random, sizeof random);
    X509_NAME *subject = X509_get_subject_name(certificate);
    BIGNUM *serial = BN_new();
    /* RFC 5280 4.1.2.2: positive, at most 20 bytes. */
    bool numbered = serial && BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
                    BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate));
    BN_free(serial);
    if (numbered && X509_set_version(certificate, X509_VERSION_3) &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0) &&
        X509_set_issuer_name(certificate, subject) &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -VALID_BEFORE_S) &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_AFTER_S) &&
        X509_set_pubkey(certificate, key) && X509_sign(certificate, key, EVP_sha256()))
        return certificate;
failed:
    X509_free(certificate);
    return NULL;
}

struct kg_dtls_identity *kg_dtls_identity_new(void)
{
    struct kg_dtls_identity *identity = calloc(1, sizeof *identity);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key ? make_certificate(key) : NULL;

    if (identity && certificate && fingerprint_of(certificate, KG_FINGERPRINT_SHA256, &identity->fingerprint))
        identity->context = make_context(certificate, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    if (!identity || !identity->context) {
        free(identity);
        ERR_clear_error();
        return NULL;
    }
    atomic_init(&identity->references, 1);
    return identity;
}

struct kg_dtls_identity *kg_dtls_identity_ref(struct kg_dtls_identity *identity)
{
    atomic_fetch_add_explicit(&identity->references, 1, memory_order_relaxed);
    return identity;
}

void kg_dtls_identity_unref(struct kg_dtls_identity *identity)
{
    if (!identity || atomic_fetch_sub_explicit(&identity->references, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(identity->context); /* clears the private key */
    free(identity);
}

const struct kg_fingerprint *kg_dtls_identity_fingerprint(const struct kg_dtls_identity *identity)
{
    return &identity->fingerprint;
}

SSL_CTX *kg_dtls_identity_context(const struct kg_dtls_identity *identity)
{
    return identity->context;
}
