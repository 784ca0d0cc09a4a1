/* STUN messages (RFC 8489): a strict reader that copies nothing, and a writer into a caller's buffer. Pure.
 *
 * Reading: kg_stun_parse checks the header, every attribute's bounds and padding once; afterwards the message
 * is a view into the bytes, which must outlive it. Attributes behind MESSAGE-INTEGRITY are ignored but for
 * MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (14.5), those behind MESSAGE-INTEGRITY-SHA256 but for FINGERPRINT
 * (14.6); those behind FINGERPRINT make the message invalid. What padding holds is ignored (14). Of a
 * repeated attribute the first counts (14). Integrity is not checked by parsing: kg_stun_check_integrity. */
#ifndef KG_ICE_STUN_MESSAGE_H
#define KG_ICE_STUN_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/addr.h"

#define KG_STUN_HEADER         20
#define KG_STUN_COOKIE         0x2112A442u
#define KG_STUN_ID             12 /* bytes of a transaction id */
#define KG_STUN_ATTRIBUTES_MAX 64 /* a message with more is refused */

enum kg_stun_class { KG_STUN_REQUEST = 0, KG_STUN_INDICATION = 1, KG_STUN_SUCCESS = 2, KG_STUN_ERROR = 3 };
/* Methods: RFC 8489 18.2, RFC 8656 (the rest of TURN comes with its issue). */
enum kg_stun_method {
    KG_STUN_BINDING = 0x001,
    KG_STUN_ALLOCATE = 0x003,
    KG_STUN_REFRESH = 0x004,
    KG_STUN_SEND = 0x006,
    KG_STUN_DATA = 0x007,
    KG_STUN_CREATE_PERMISSION = 0x008,
    KG_STUN_CHANNEL_BIND = 0x009,
};

/* IANA numbers. attribute.c has one row for each: name, shape, lengths. */
enum kg_stun_attribute {
    KG_STUN_MAPPED_ADDRESS = 0x0001,
    KG_STUN_CHANGE_REQUEST = 0x0003, /* RFC 5780 */
    KG_STUN_USERNAME = 0x0006,
    KG_STUN_MESSAGE_INTEGRITY = 0x0008,
    KG_STUN_ERROR_CODE = 0x0009,
    KG_STUN_UNKNOWN_ATTRIBUTES = 0x000A,
    KG_STUN_CHANNEL_NUMBER = 0x000C, /* RFC 8656 */
    KG_STUN_LIFETIME = 0x000D,
    KG_STUN_XOR_PEER_ADDRESS = 0x0012,
    KG_STUN_DATA_VALUE = 0x0013,
    KG_STUN_REALM = 0x0014,
    KG_STUN_NONCE = 0x0015,
    KG_STUN_XOR_RELAYED_ADDRESS = 0x0016,
    KG_STUN_REQUESTED_ADDRESS_FAMILY = 0x0017,
    KG_STUN_EVEN_PORT = 0x0018,
    KG_STUN_REQUESTED_TRANSPORT = 0x0019,
    KG_STUN_DONT_FRAGMENT = 0x001A,
    KG_STUN_MESSAGE_INTEGRITY_SHA256 = 0x001C,
    KG_STUN_PASSWORD_ALGORITHM = 0x001D,
    KG_STUN_USERHASH = 0x001E,
    KG_STUN_XOR_MAPPED_ADDRESS = 0x0020,
    KG_STUN_RESERVATION_TOKEN = 0x0022,
    KG_STUN_PRIORITY = 0x0024, /* RFC 8445 16.1 */
    KG_STUN_USE_CANDIDATE = 0x0025,
    KG_STUN_PADDING = 0x0026, /* RFC 5780 */
    KG_STUN_RESPONSE_PORT = 0x0027,
    KG_STUN_PASSWORD_ALGORITHMS = 0x8002,
    KG_STUN_ALTERNATE_DOMAIN = 0x8003,
    KG_STUN_SOFTWARE = 0x8022,
    KG_STUN_ALTERNATE_SERVER = 0x8023,
    KG_STUN_FINGERPRINT = 0x8028,
    KG_STUN_ICE_CONTROLLED = 0x8029,
    KG_STUN_ICE_CONTROLLING = 0x802A,
    KG_STUN_RESPONSE_ORIGIN = 0x802B, /* RFC 5780 */
    KG_STUN_OTHER_ADDRESS = 0x802C,
};
const char *kg_stun_attribute_name(uint16_t type); /* "XOR-MAPPED-ADDRESS"; NULL: not in the table */

struct kg_stun_value {
    uint16_t type;
    uint16_t len;        /* without padding */
    const uint8_t *data; /* into the message */
};

struct kg_stun_message {
    const uint8_t *data;
    size_t len; /* header and attributes */
    enum kg_stun_class class;
    uint16_t method;
    const uint8_t *id; /* KG_STUN_ID bytes */
    uint8_t count;
    struct kg_stun_value attribute[KG_STUN_ATTRIBUTES_MAX]; /* those that count, in order */
    uint16_t integrity, integrity_sha256;                   /* offset of the attribute in data; 0: none */
    bool has_fingerprint;                                   /* and it is right */
};

enum kg_stun_verdict {
    KG_STUN_OK,
    KG_STUN_NOT_STUN,  /* bits, cookie or length say it is something else: not for us */
    KG_STUN_MALFORMED, /* STUN, but an attribute is broken: 400 or drop */
};
/* Never reads outside [data, data+len). A fingerprint that is present and wrong: KG_STUN_NOT_STUN (14.7). */
enum kg_stun_verdict kg_stun_parse(const uint8_t *data, size_t len, struct kg_stun_message *out);

/* NULL: not there. */
const struct kg_stun_value *kg_stun_find(const struct kg_stun_message *message, uint16_t type);
/* Comprehension-required attributes (0x0000-0x7FFF) that the table does not know, each
 * once. Returns how many were put to out, at most max. */
size_t kg_stun_unknown(const struct kg_stun_message *message, uint16_t *out, size_t max);
/* Each returns false if the attribute is absent or has another shape. XOR-* are unmasked (14.2). */
bool kg_stun_get_address(const struct kg_stun_message *message, uint16_t type, struct kg_addr *out);
bool kg_stun_get_u32(const struct kg_stun_message *message, uint16_t type, uint32_t *out);
bool kg_stun_get_u64(const struct kg_stun_message *message, uint16_t type, uint64_t *out);
/* ERROR-CODE (14.8): 300-699. reason points into the message, may be NULL. */
bool kg_stun_get_error(const struct kg_stun_message *message, int *code, const char **reason,
                       size_t *reason_len);

/* ---- writing ---- */
struct kg_stun_writer {
    uint8_t *data; /* the caller's buffer; kg_stun_begin sets it */
    size_t size, len;
    bool full; /* something did not fit: kg_stun_end returns 0 */
};
void kg_stun_begin(struct kg_stun_writer *w, void *buf, size_t size, enum kg_stun_class class,
                   uint16_t method, const uint8_t id[static KG_STUN_ID]);
void kg_stun_put(struct kg_stun_writer *w, uint16_t type, const void *value, size_t len); /* pads with zero */
void kg_stun_put_u32(struct kg_stun_writer *w, uint16_t type, uint32_t value);
void kg_stun_put_u64(struct kg_stun_writer *w, uint16_t type, uint64_t value);
/* XOR-* types are masked. */
void kg_stun_put_address(struct kg_stun_writer *w, uint16_t type, const struct kg_addr *addr);
void kg_stun_put_error(struct kg_stun_writer *w, int code, const char *reason);
/* key as from integrity.h, not empty. Behind integrity only integrity_sha256 and the fingerprint may follow.
 */
void kg_stun_put_integrity(struct kg_stun_writer *w, const void *key, size_t key_len);        /* HMAC-SHA1 */
void kg_stun_put_integrity_sha256(struct kg_stun_writer *w, const void *key, size_t key_len); /* 32 bytes */
void kg_stun_put_fingerprint(struct kg_stun_writer *w);
size_t kg_stun_end(struct kg_stun_writer *w); /* length; 0: it did not fit */

#endif
