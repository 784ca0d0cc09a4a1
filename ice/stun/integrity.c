#include "ice/stun/integrity.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "conf/bytes.h"

#define ATTRIBUTE_HEADER 4

/* One HMAC context of each hash per thread: setting a key anew allocates nothing, a new context does. */
struct macs {
    EVP_MAC_CTX *ctx[2]; /* by enum kg_stun_hash */
};

static pthread_key_t macs_key;
static pthread_once_t macs_once = PTHREAD_ONCE_INIT;
static _Thread_local struct macs *macs;

static const struct {
    const char *name;
    size_t len;
} hashes[] = {
    [KG_STUN_HASH_SHA1] = {"SHA1", 20},
    [KG_STUN_HASH_SHA256] = {"SHA256", 32},
};

static void free_macs(void *arg)
{
    struct macs *m = arg;

    for (size_t i = 0; i < 2; i++)
        EVP_MAC_CTX_free(m->ctx[i]);
    free(m);
}

static void make_key(void)
{
    if (pthread_key_create(&macs_key, free_macs) != 0)
        abort(); /* only at the first use in a process, and only if 1024 keys are taken */
}

static EVP_MAC_CTX *new_ctx(enum kg_stun_hash hash)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)hashes[hash].name, 0),
        OSSL_PARAM_construct_end(),
    };

    EVP_MAC_free(mac);
    if (ctx != NULL && !EVP_MAC_CTX_set_params(ctx, params)) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

/* NULL without memory. */
static EVP_MAC_CTX *thread_ctx(enum kg_stun_hash hash)
{
    if (macs == NULL) {
        struct macs *m = calloc(1, sizeof *m);

        if (m == NULL)
            return NULL;
        pthread_once(&macs_once, make_key);
        if (pthread_setspecific(macs_key, m) != 0) {
            free(m);
            return NULL;
        }
        macs = m;
    }
    if (macs->ctx[hash] == NULL)
        macs->ctx[hash] = new_ctx(hash);
    return macs->ctx[hash];
}

size_t kg_stun_hash_len(enum kg_stun_hash hash)
{
    return hashes[hash].len;
}

bool kg_stun_hmac(enum kg_stun_hash hash, const void *key, size_t key_len, const struct kg_stun_span *span,
                  size_t spans, uint8_t *out)
{
    /* EVP_MAC_init takes no key for "the key before". */
    EVP_MAC_CTX *ctx = key != NULL && key_len > 0 ? thread_ctx(hash) : NULL;
    size_t len;

    if (ctx == NULL || !EVP_MAC_init(ctx, key, key_len, NULL))
        return false;
    for (size_t i = 0; i < spans; i++)
        if (!EVP_MAC_update(ctx, span[i].data, span[i].len))
            return false;
    return EVP_MAC_final(ctx, out, &len, hashes[hash].len) && len == hashes[hash].len;
}

/* The hash covers what stands before the attribute, with a length in the header as if the attribute were the
 * last (14.5, 14.6). */
static bool is_right(const struct kg_stun_message *message, uint16_t offset, enum kg_stun_hash hash,
                     const void *key, size_t key_len)
{
    const uint8_t *attribute = message->data + offset;
    uint16_t len = kg_read16(attribute + 2);
    uint8_t start[4], expected[32];
    const struct kg_stun_span span[] = {{start, sizeof start}, {message->data + 4, offset - 4u}};

    memcpy(start, message->data, 2);
    kg_write16(start + 2, (uint16_t)(offset - KG_STUN_HEADER + ATTRIBUTE_HEADER + len));
    return kg_stun_hmac(hash, key, key_len, span, 2, expected) && len <= kg_stun_hash_len(hash) &&
           CRYPTO_memcmp(attribute + ATTRIBUTE_HEADER, expected, len) == 0;
}

enum kg_stun_integrity kg_stun_check_integrity(const struct kg_stun_message *message, const void *key,
                                               size_t key_len)
{
    bool right;

    if (message->integrity_sha256 != 0)
        right = is_right(message, message->integrity_sha256, KG_STUN_HASH_SHA256, key, key_len);
    else if (message->integrity != 0)
        right = is_right(message, message->integrity, KG_STUN_HASH_SHA1, key, key_len);
    else
        return KG_STUN_INTEGRITY_NONE;
    return right ? KG_STUN_INTEGRITY_RIGHT : KG_STUN_INTEGRITY_WRONG;
}

/* The reflected polynomial 0xEDB88320, four bits at a time. */
uint32_t kg_stun_fingerprint(const uint8_t *data, size_t len)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    uint32_t crc = 0xFFFFFFFF;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ nibble[crc & 0xF];
        crc = crc >> 4 ^ nibble[crc & 0xF];
    }
    return ~crc ^ 0x5354554E;
}

/* Of the texts joined by colons. Returns the digest's length, 0 on failure. */
static size_t digest(const EVP_MD *md, const char *const *text, size_t count, uint8_t out[static 32])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned len = 0;
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL);

    for (size_t i = 0; ok && i < count; i++)
        ok = (i == 0 || EVP_DigestUpdate(ctx, ":", 1)) && EVP_DigestUpdate(ctx, text[i], strlen(text[i]));
    ok = ok && EVP_DigestFinal_ex(ctx, out, &len);
    EVP_MD_CTX_free(ctx);
    return ok ? len : 0;
}

size_t kg_stun_long_term_key(enum kg_stun_password_algorithm algorithm, const char *user, const char *realm,
                             const char *password, uint8_t out[static KG_STUN_KEY_MAX])
{
    const char *const text[] = {user, realm, password};

    switch (algorithm) {
    case KG_STUN_MD5:
        return digest(EVP_md5(), text, 3, out);
    case KG_STUN_SHA256:
        return digest(EVP_sha256(), text, 3, out);
    }
    return 0;
}

bool kg_stun_userhash(const char *user, const char *realm, uint8_t out[static 32])
{
    const char *const text[] = {user, realm};

    return digest(EVP_sha256(), text, 2, out) == 32;
}
