/* One DTLS 1.2 association for SRTP keys (RFC 5763, 5764), over OpenSSL with memory BIOs. Sans-IO: datagrams
 * in, datagrams out, time handed in; who may speak to it (a validated path) is the caller's to know. */
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
    KG_DTLS_ESTABLISHED, /* keys can be taken */
    KG_DTLS_FAILED,      /* kg_dtls_reason; a new kg_dtls may try again */
    KG_DTLS_CLOSED,      /* the peer said close_notify: its keys hold on (RFC 5764 5.1.2 is about media, RFC
                            5763 6.6) */
};

struct kg_dtls_settings {
    struct kg_dtls_identity *identity; /* a reference is taken */
    bool active;                       /* we begin */
    uint16_t mtu;                      /* bytes of a datagram at most; 0: 1200 */
    const uint8_t *secret;             /* 32 bytes of the process, for cookies (RFC 6347 4.2.1) */
};
struct kg_dtls *kg_dtls_new(const struct kg_dtls_settings *settings); /* NULL without memory */
void kg_dtls_free(struct kg_dtls *dtls);

/* Whom the peer's certificate has to be (RFC 8122 5: of the strongest hash that is there). Before or after
 * the handshake; count 0: not known. */
void kg_dtls_expect(struct kg_dtls *dtls, const struct kg_fingerprint *fingerprint, size_t count);
/* Active: sends the first ClientHello. Harmless otherwise. */
void kg_dtls_start(struct kg_dtls *dtls, int64_t now_ms);
/* A datagram whose first byte is 20 to 63, from `source` (for the cookie; nothing is remembered before it
 * came back). Whatever is wrong with it changes nothing but, perhaps, the state. */
void kg_dtls_receive(struct kg_dtls *dtls, const uint8_t *data, size_t len, const void *source,
                     size_t source_len, int64_t now_ms);
/* The next datagram to send now. False: none. Call until false after each of the calls above and at
 * kg_dtls_next_ms. */
#define KG_DTLS_DATAGRAM_MAX 1500
bool kg_dtls_poll(struct kg_dtls *dtls, int64_t now_ms, uint8_t out[static KG_DTLS_DATAGRAM_MAX],
                  size_t *len);
int64_t kg_dtls_next_ms(const struct kg_dtls *dtls); /* INT64_MAX: nothing is due */

enum kg_dtls_state kg_dtls_state(const struct kg_dtls *dtls);
const char *kg_dtls_reason(const struct kg_dtls *dtls); /* FAILED: a constant sentence */
/* ESTABLISHED or CLOSED after it: RFC 5764 4.2, for kg_srtp_set_send and kg_srtp_set_receive. */
bool kg_dtls_keys(const struct kg_dtls *dtls, struct kg_srtp_keys *send, struct kg_srtp_keys *receive);

#endif
