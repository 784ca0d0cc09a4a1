/* Keys and integrity of STUN messages (RFC 8489 9, 14.5-14.7). Pure but for OpenSSL's HMAC. */
#ifndef KG_ICE_STUN_INTEGRITY_H
#define KG_ICE_STUN_INTEGRITY_H

#include "ice/stun/message.h"

enum kg_stun_integrity {
    KG_STUN_INTEGRITY_NONE,  /* the message carries none that we could check */
    KG_STUN_INTEGRITY_WRONG, /* it carries one, and it is not made with this key */
    KG_STUN_INTEGRITY_RIGHT,
};
/* SHA256 is checked where it is present (and must then be right), else SHA1. Constant time. The short-term
 * key is the password itself (9.1.1); an empty key proves nothing. A truncated SHA256 (16 to 28 bytes, 14.6)
 * is compared as far as it goes. Allocates only at the first call of a thread. */
enum kg_stun_integrity kg_stun_check_integrity(const struct kg_stun_message *message, const void *key,
                                               size_t key_len);

uint32_t kg_stun_fingerprint(const uint8_t *data, size_t len); /* CRC-32 of ISO 3309, xor 0x5354554e */

/* Long-term keys (9.2.2): user ":" realm ":" password, OpaqueString-prepared by the caller. */
#define KG_STUN_KEY_MAX 32
enum kg_stun_password_algorithm { KG_STUN_MD5 = 1, KG_STUN_SHA256 = 2 };
/* Returns the key's length, 0 on failure. */
size_t kg_stun_long_term_key(enum kg_stun_password_algorithm algorithm, const char *user, const char *realm,
                             const char *password, uint8_t out[static KG_STUN_KEY_MAX]);
bool kg_stun_userhash(const char *user, const char *realm, uint8_t out[static 32]); /* 14.4 */

enum kg_stun_hash { KG_STUN_HASH_SHA1, KG_STUN_HASH_SHA256 };
struct kg_stun_span {
    const void *data;
    size_t len;
};
size_t kg_stun_hash_len(enum kg_stun_hash hash);
/* Of the spans one after another; out takes kg_stun_hash_len bytes. False: no key, or OpenSSL failed. */
bool kg_stun_hmac(enum kg_stun_hash hash, const void *key, size_t key_len, const struct kg_stun_span *span,
                  size_t spans, uint8_t *out);

#endif
