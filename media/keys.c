#include "media/keys.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    uint8_t key_len;
} suites[KG_SRTP_SUITES] = {
    [KG_SRTP_NONE] = {"none", 0},
    [KG_SRTP_AEAD_AES_256_GCM] = {"AEAD_AES_256_GCM", 32 + 12},
    [KG_SRTP_AEAD_AES_128_GCM] = {"AEAD_AES_128_GCM", 16 + 12},
    [KG_SRTP_AES_CM_256_SHA1_80] = {"AES_256_CM_HMAC_SHA1_80", 32 + 14},
    [KG_SRTP_AES_CM_256_SHA1_32] = {"AES_256_CM_HMAC_SHA1_32", 32 + 14},
    [KG_SRTP_AES_CM_128_SHA1_80] = {"AES_CM_128_HMAC_SHA1_80", 16 + 14},
    [KG_SRTP_AES_CM_128_SHA1_32] = {"AES_CM_128_HMAC_SHA1_32", 16 + 14},
};

const char *kg_srtp_suite_name(enum kg_srtp_suite suite)
{
    return suites[suite].name;
}

enum kg_srtp_suite kg_srtp_suite_of(const char *name, size_t len)
{
    for (unsigned i = KG_SRTP_NONE + 1; i < KG_SRTP_SUITES; i++)
        if (strlen(suites[i].name) == len && strncasecmp(suites[i].name, name, len) == 0)
            return (enum kg_srtp_suite)i;
    return KG_SRTP_NONE;
}

size_t kg_srtp_suite_key_len(enum kg_srtp_suite suite)
{
    return suites[suite].key_len;
}

void kg_srtp_keys_clear(struct kg_srtp_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof *keys);
}

static bool key_equal(const struct kg_srtp_key *a, const struct kg_srtp_key *b, size_t len)
{
    return a->mki_len == b->mki_len && memcmp(a->mki, b->mki, a->mki_len) == 0 &&
           CRYPTO_memcmp(a->bytes, b->bytes, len) == 0;
}

bool kg_srtp_keys_equal(const struct kg_srtp_keys *a, const struct kg_srtp_keys *b)
{
    if (a->suite != b->suite || a->count != b->count)
        return false;
    for (uint8_t i = 0; i < a->count; i++)
        if (!key_equal(&a->key[i], &b->key[i], suites[a->suite].key_len))
            return false;
    return true;
}

const char *kg_secure_use_name(enum kg_secure_use use)
{
    static const char *const name[] = {
        [KG_SECURE_PASS] = "end-to-end",
        [KG_SECURE_PLAIN] = "none",
        [KG_SECURE_SDES] = "sdes",
        [KG_SECURE_DTLS] = "dtls",
    };
    return name[use];
}
