/* Inside of the certificate (dtls.h): the OpenSSL context that associations of one identity share, and who a
 * peer is found to be. */
#ifndef KG_MEDIA_IDENTITY_H
#define KG_MEDIA_IDENTITY_H

#include <openssl/ssl.h>

#include "media/dtls.h"

/* Whom the peer has to be, and whose certificate was seen (RFC 8122). */
struct kg_dtls_peer {
    uint8_t expected_count;
    struct kg_fingerprint expected[KG_FINGERPRINTS_MAX];
    bool seen;
    struct kg_fingerprint digest[KG_FINGERPRINT_SHA512]; /* of what was seen, by each hash: [hash - 1] */
};
/* RFC 8122 5: one of those of the strongest hash among the expected is the certificate's. */
bool kg_dtls_peer_fits(const struct kg_dtls_peer *peer);

/* DTLS 1.2 only, our suites and SRTP profiles in our order, a certificate demanded, no resumption. The app
 * data of each SSL is its struct kg_dtls_peer: the certificate is noted there, and refused if another is
 * expected. */
SSL_CTX *kg_dtls_identity_context(const struct kg_dtls_identity *identity);

#endif
