/* One DTLS 1.2 association for SRTP keys (RFC 5763, 5764): OpenSSL behind a BIO of datagrams. Sans-IO:
 * datagrams in, datagrams out, time handed in; who may speak to it (a validated path) is the caller's to
 * know. OpenSSL's part is freed when the handshake is over: what stays are the keys, the digests of the
 * peer's certificate and the bytes of our last flight. */
#ifndef KG_MEDIA_DTLS_H
#define KG_MEDIA_DTLS_H

#include <stdint.h>

#include "media/keys.h"

/* Our certificate (ECDSA P-256, self-signed, random name) with its key; counted, since associations outlive a
 * rotation. */
struct kg_dtls_identity;
struct kg_dtls_identity *kg_dtls_identity_new(void); /* NULL without memory */
struct kg_dtls_identity *kg_dtls_identity_ref(struct kg_dtls_identity *identity);
void kg_dtls_identity_unref(struct kg_dtls_identity *identity); /* any thread */
const struct kg_fingerprint *
kg_dtls_identity_fingerprint(const struct kg_dtls_identity *identity); /* SHA-256 */

struct kg_dtls;
enum kg_dtls_state {
    KG_DTLS_IDLE, /* waits: for the peer's ClientHello (passive), or to be started (active) */
    KG_DTLS_HANDSHAKE,
    KG_DTLS_UNVERIFIED,  /* the handshake is done, the peer's fingerprint is not known yet: no keys until then
                          */
    KG_DTLS_ESTABLISHED, /* keys can be taken. What the peer says from now on changes nothing: no new
                            handshake, no close_notify (RFC 5763 6.6: signalling says when keys end) */
    KG_DTLS_FAILED,      /* kg_dtls_reason; there are no keys. A new kg_dtls may try again */
};

struct kg_dtls_settings {
    struct kg_dtls_identity *identity; /* a reference is taken */
    bool active;                       /* we begin */
    bool proven;           /* whoever is heard has proven its address (ICE): its first ClientHello needs
                              no cookie, and a round trip less */
    uint16_t mtu;          /* bytes of a datagram at most, 256 to KG_DTLS_DATAGRAM_MAX; 0: 1200 */
    const uint8_t *secret; /* KG_DTLS_SECRET bytes for cookies (RFC 6347 4.2.1), one of the process: not
                              copied. Passive only */
};
struct kg_dtls *kg_dtls_new(const struct kg_dtls_settings *settings); /* NULL without memory */
void kg_dtls_free(struct kg_dtls *dtls);                              /* keys are overwritten; NULL is fine */

/* Whom the peer's certificate has to be (RFC 8122 5: of the strongest hash that is there). At any time: an
 * established association whose peer is none of them fails. count 0: not known; nothing changes. */
void kg_dtls_expect(struct kg_dtls *dtls, const struct kg_fingerprint *fingerprint, size_t count);
/* Active: sends the first ClientHello. Harmless otherwise. */
void kg_dtls_start(struct kg_dtls *dtls, int64_t now_ms);
/* A datagram whose first byte is 20 to 63, from `source` (for the cookie; at most 64 bytes that say no more
 * than the address). Passive: nothing is remembered of it before its cookie came back. Alerts that prove
 * nothing, application data and garbage are ignored; a handshake message that OpenSSL does not understand
 * ends the association. */
void kg_dtls_receive(struct kg_dtls *dtls, const uint8_t *data, size_t len, const void *source,
                     size_t source_len, int64_t now_ms);
/* The next datagram to send now. False: none. Call until false after each of the calls above and at
 * kg_dtls_next_ms; after FAILED it may hold an alert for the peer. */
#define KG_DTLS_DATAGRAM_MAX 1500
bool kg_dtls_poll(struct kg_dtls *dtls, int64_t now_ms, uint8_t out[static KG_DTLS_DATAGRAM_MAX],
                  size_t *len);
/* INT64_MAX: nothing is due. The wait for a retransmission is measured by OpenSSL, on the system's clock. */
int64_t kg_dtls_next_ms(const struct kg_dtls *dtls);

enum kg_dtls_state kg_dtls_state(const struct kg_dtls *dtls);
const char *kg_dtls_reason(const struct kg_dtls *dtls); /* FAILED: a constant sentence; NULL otherwise */
/* FAILED since the peer has another certificate than was expected: no accident, and no forged message. */
bool kg_dtls_is_stranger(const struct kg_dtls *dtls);
/* ESTABLISHED: RFC 5764 4.2, for kg_srtp_set_send and kg_srtp_set_receive. False otherwise: both empty. */
bool kg_dtls_keys(const struct kg_dtls *dtls, struct kg_srtp_keys *send, struct kg_srtp_keys *receive);

#endif
