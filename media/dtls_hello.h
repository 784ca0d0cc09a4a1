/* What of DTLS is read before there is an association: records (RFC 6347 4.1), the beginning of a
 * ClientHello, and the stateless answer to it (4.2.1). Pure. */
#ifndef KG_MEDIA_DTLS_HELLO_H
#define KG_MEDIA_DTLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kg_dtls_content {
    KG_DTLS_CHANGE_CIPHER_SPEC = 20,
    KG_DTLS_ALERT = 21,
    KG_DTLS_HANDSHAKE_MESSAGE = 22,
    KG_DTLS_APPLICATION_DATA = 23,
};

#define KG_DTLS_RECORD_HEADER 13
struct kg_dtls_record {
    const uint8_t *data; /* with its header */
    size_t len;
    uint8_t type;
    uint16_t epoch;
    uint64_t sequence; /* 48 bits */
};
/* Takes the next record off a datagram. False: there is none, or what follows is none. */
bool kg_dtls_record_next(const uint8_t **data, size_t *len, struct kg_dtls_record *record);
void kg_dtls_record_renumber(uint8_t *record, uint64_t sequence);
/* A record of handshake messages without encryption: is it made of whole fragments (RFC 6347 4.2.2)? */
bool kg_dtls_is_whole(const struct kg_dtls_record *record);

#define KG_DTLS_RANDOM 32
struct kg_dtls_hello {
    uint64_t sequence;         /* of its record */
    uint16_t message;          /* number of the handshake message: 0, or 1 with a cookie */
    const uint8_t *parameters; /* client_version and random */
    const uint8_t *cookie;
    uint8_t cookie_len;
};
#define KG_DTLS_PARAMETERS (2 + KG_DTLS_RANDOM)
/* Is it a ClientHello without encryption? */
bool kg_dtls_is_hello(const struct kg_dtls_record *record);
/* The first fragment of a ClientHello, as far as its cookie. */
bool kg_dtls_hello_read(const struct kg_dtls_record *record, struct kg_dtls_hello *hello);

/* A cookie says: who sent this hello receives what is sent to `source`, and did so within the last minutes.
 */
#define KG_DTLS_SECRET 32
#define KG_DTLS_COOKIE 32
bool kg_dtls_cookie_right(const struct kg_dtls_hello *hello, const uint8_t secret[static KG_DTLS_SECRET],
                          const void *source, size_t source_len, int64_t now_ms);
#define KG_DTLS_VERIFY_LEN (KG_DTLS_RECORD_HEADER + 12 + 3 + KG_DTLS_COOKIE) /* less than any ClientHello */
/* The HelloVerifyRequest. False: OpenSSL has no memory. */
bool kg_dtls_hello_verify(const struct kg_dtls_hello *hello, const uint8_t secret[static KG_DTLS_SECRET],
                          const void *source, size_t source_len, int64_t now_ms,
                          uint8_t out[static KG_DTLS_VERIFY_LEN]);

/* A ClientHello of no client, without a cookie: it brings OpenSSL's state machine to where it waits for the
 * one with the cookie, which was verified here. */
#define KG_DTLS_OPENER_LEN (KG_DTLS_RECORD_HEADER + 12 + KG_DTLS_PARAMETERS + 1 + 1 + 4 + 2)
void kg_dtls_opener(uint8_t out[static KG_DTLS_OPENER_LEN]);

#endif
