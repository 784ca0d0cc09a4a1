#include "b2bua/registrar/digest.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "b2bua/registrar/nonces.h"
#include "conf/clock.h"
#include "conf/digits.h"

/* A nonce from a moment further ahead than this was made before the clock was set back: ask again. */
#define NONCE_AHEAD_MS 60000
/* In a nonce: 8 bytes when, 8 bytes number, 16 bytes proof. */
#define NONCE_BYTES 32
#define PROOF_AT    16

struct kg_digest {
    EVP_MD *md[KG_DIGEST_ALGORITHMS];
    EVP_MD_CTX *ctx;
    EVP_MAC *hmac;
    EVP_MAC_CTX *keyed;   /* HMAC-SHA-256 with the store's secret */
    uint64_t number;      /* makes nonces of one millisecond differ */
    struct kg_ha1 nobody; /* what unknown users are checked against */
    struct kg_nonces *used;
};

static const struct {
    const char *name; /* in the header */
    const char *evp;
    size_t hex;
} algorithms[KG_DIGEST_ALGORITHMS] = {
    [KG_DIGEST_MD5] = {"MD5", "MD5", 32},
    [KG_DIGEST_SHA256] = {"SHA-256", "SHA2-256", 64},
};

static bool from_hex(const char *hex, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = kg_hex_digit(hex[2 * i]), low = high < 0 ? -1 : kg_hex_digit(hex[2 * i + 1]);

        if (low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return hex[2 * len] == '\0';
}

/* H(part:part:...) in hex. An OpenSSL that cannot hash is an installation that cannot run. */
static void hash_parts(struct kg_digest *d, enum kg_digest_algorithm algorithm, const char *const *parts,
                       size_t count, char out[static KG_DIGEST_HEX])
{
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int ok = EVP_DigestInit_ex2(d->ctx, d->md[algorithm], NULL);

    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            ok &= EVP_DigestUpdate(d->ctx, ":", 1);
        ok &= EVP_DigestUpdate(d->ctx, parts[i], strlen(parts[i]));
    }
    ok &= EVP_DigestFinal_ex(d->ctx, md, &len);
    if (!ok)
        abort();
    kg_hex(out, md, len);
}

static void hmac(struct kg_digest *d, const void *a, size_t a_len, const void *b, size_t b_len,
                 uint8_t out[static 32])
{
    size_t len = 0;

    /* No key given: the one of kg_digest_new again. */
    if (!EVP_MAC_init(d->keyed, NULL, 0, NULL) || !EVP_MAC_update(d->keyed, a, a_len) ||
        !EVP_MAC_update(d->keyed, b, b_len) || !EVP_MAC_final(d->keyed, out, &len, 32))
        abort();
}

struct kg_digest *kg_digest_new(const uint8_t secret[static 32], int64_t now_ms)
{
    char sha256[] = "SHA2-256";
    const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string("digest", sha256, sizeof sha256 - 1), OSSL_PARAM_END};
    struct kg_digest *d = calloc(1, sizeof *d);
    char unguessable[33];

    if (!d)
        return NULL;
    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++)
        d->md[i] = EVP_MD_fetch(NULL, algorithms[i].evp, NULL);
    d->ctx = EVP_MD_CTX_new();
    d->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    d->keyed = d->hmac ? EVP_MAC_CTX_new(d->hmac) : NULL;
    d->used = kg_nonces_new(now_ms);
    if (!d->md[KG_DIGEST_MD5] || !d->md[KG_DIGEST_SHA256] || !d->ctx || !d->keyed || !d->used ||
        !EVP_MAC_init(d->keyed, secret, 32, params)) {
        kg_digest_free(d);
        return NULL;
    }
    kg_random(&d->number, sizeof d->number);
    kg_random_hex(unguessable, 32);
    kg_digest_ha1(d, "nobody", "nowhere", unguessable, &d->nobody);
    return d;
}

void kg_digest_free(struct kg_digest *d)
{
    if (!d)
        return;
    kg_nonces_free(d->used);
    EVP_MAC_CTX_free(d->keyed);
    EVP_MAC_free(d->hmac);
    EVP_MD_CTX_free(d->ctx);
    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++)
        EVP_MD_free(d->md[i]);
    free(d);
}

void kg_digest_ha1(struct kg_digest *d, const char *user, const char *realm, const char *password,
                   struct kg_ha1 *out)
{
    const char *parts[] = {user, realm, password};

    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++)
        hash_parts(d, (enum kg_digest_algorithm)i, parts, 3, out->hex[i]);
}

void kg_digest_response(struct kg_digest *d, enum kg_digest_algorithm algorithm, const char *ha1,
                        const struct kg_digest_said *said, char out[static KG_DIGEST_HEX])
{
    const char *a2[] = {said->method, said->uri};
    char ha2[KG_DIGEST_HEX];
    const char *with_qop[] = {ha1, said->nonce, said->nc, said->cnonce, "auth", ha2};
    const char *without[] = {ha1, said->nonce, ha2};

    hash_parts(d, algorithm, a2, 2, ha2);
    if (said->cnonce)
        hash_parts(d, algorithm, with_qop, 6, out);
    else
        hash_parts(d, algorithm, without, 3, out);
}

void kg_digest_name(struct kg_digest *d, const char *label, const char *text, char *out, size_t size)
{
    uint8_t mac[32];
    char hex[65];

    hmac(d, label, strlen(label) + 1, text, strlen(text), mac);
    kg_hex(hex, mac, sizeof mac);
    snprintf(out, size, "%s", hex);
}

/* --- nonces -----------------------------------------------------------------------------------------------
 */

static void put_u64(uint8_t *p, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        p[i] = (uint8_t)value;
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

static void prove(struct kg_digest *d, const uint8_t *nonce, uint8_t out[static 32])
{
    hmac(d, "nonce", 6, nonce, PROOF_AT, out);
}

void kg_digest_nonce(struct kg_digest *d, int64_t now_ms, char out[static KG_NONCE_HEX])
{
    uint8_t bytes[NONCE_BYTES], proof[32];

    put_u64(bytes, (uint64_t)now_ms);
    put_u64(bytes + 8, d->number++);
    prove(d, bytes, proof);
    memcpy(bytes + PROOF_AT, proof, NONCE_BYTES - PROOF_AT);
    kg_hex(out, bytes, sizeof bytes);
}

/* True for a nonce of ours; then its identity and its time are written. */
static bool open_nonce(struct kg_digest *d, const char *nonce, uint64_t *id, int64_t *made_ms)
{
    uint8_t bytes[NONCE_BYTES], proof[32];

    if (!from_hex(nonce, bytes, sizeof bytes))
        return false;
    prove(d, bytes, proof);
    if (CRYPTO_memcmp(proof, bytes + PROOF_AT, NONCE_BYTES - PROOF_AT) != 0)
        return false;
    *id = get_u64(bytes + PROOF_AT);
    *made_ms = (int64_t)get_u64(bytes);
    return true;
}

void kg_digest_challenge(enum kg_digest_algorithm algorithm, const char *realm, const char *nonce, bool stale,
                         char *out, size_t size)
{
    snprintf(out, size, "Digest realm=\"%s\", nonce=\"%s\", algorithm=%s, qop=\"auth\"%s", realm, nonce,
             algorithms[algorithm].name, stale ? ", stale=true" : "");
}

void kg_digest_restore(struct kg_digest *d, const char *nonce, uint32_t nc)
{
    uint64_t id;
    int64_t made_ms;

    if (open_nonce(d, nonce, &id, &made_ms))
        kg_nonces_restore(d->used, id, made_ms, nc);
}

/* --- credentials ------------------------------------------------------------------------------------------
 */

bool kg_digest_unquote(const char *value, char *out, size_t size)
{
    size_t n = 0;
    bool quoted = *value == '"';

    for (value += quoted; *value && !(quoted && *value == '"'); value++) {
        if (quoted && *value == '\\' && value[1])
            value++;
        if (n + 1 >= size)
            return false;
        out[n++] = *value;
    }
    out[n] = '\0';
    return true;
}

const char *kg_digest_algorithm_name(enum kg_digest_algorithm algorithm)
{
    return algorithms[algorithm].name;
}

bool kg_digest_parse_algorithm(const char *value, enum kg_digest_algorithm *out)
{
    char name[24];

    if (!kg_digest_unquote(value, name, sizeof name))
        return false;
    for (int i = 0; i < KG_DIGEST_ALGORITHMS; i++) {
        if (strcasecmp(name, algorithms[i].name) == 0) {
            *out = (enum kg_digest_algorithm)i;
            return true;
        }
    }
    return false;
}

static bool parse_nc(const char *value, struct kg_credentials *out)
{
    if (!kg_digest_unquote(value, out->nc_text, sizeof out->nc_text) || strlen(out->nc_text) != 8)
        return false;
    out->nc = 0;
    for (const char *p = out->nc_text; *p; p++) {
        int digit = kg_hex_digit(*p);

        if (digit < 0)
            return false;
        out->nc = out->nc << 4 | (uint32_t)digit;
    }
    return out->nc > 0;
}

static bool parse_response(const char *value, struct kg_credentials *out)
{
    if (!kg_digest_unquote(value, out->response, sizeof out->response))
        return false;
    for (char *p = out->response; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return true;
}

static bool parse_qop(const char *value)
{
    char qop[16];

    return kg_digest_unquote(value, qop, sizeof qop) && strcasecmp(qop, "auth") == 0;
}

int kg_credentials_parse(const char *const *params, struct kg_credentials *out)
{
    struct kg_credentials cred = {.algorithm = KG_DIGEST_MD5}; /* RFC 7616 3.3: MD5 when absent */
    bool qop = false, ok = true;

    for (; params && *params && ok; params++) {
        const char *value = strchr(*params, '=');
        size_t len = value ? (size_t)(value - *params) : 0;
        const struct {
            const char *name;
            char *out;
            size_t size;
        } texts[] = {
            {"username", cred.username, sizeof cred.username}, {"realm", cred.realm, sizeof cred.realm},
            {"nonce", cred.nonce, sizeof cred.nonce},          {"uri", cred.uri, sizeof cred.uri},
            {"cnonce", cred.cnonce, sizeof cred.cnonce},
        };
        size_t i;

        if (!value)
            continue;
        value++;
#define IS(word) (len == sizeof(word) - 1 && strncasecmp(*params, word, len) == 0)
        if (IS("algorithm"))
            ok = kg_digest_parse_algorithm(value, &cred.algorithm);
        else if (IS("nc"))
            ok = parse_nc(value, &cred);
        else if (IS("response"))
            ok = parse_response(value, &cred);
        else if (IS("qop"))
            ok = qop = parse_qop(value);
#undef IS
        for (i = 0; i < sizeof texts / sizeof *texts && ok; i++)
            if (strlen(texts[i].name) == len && strncasecmp(*params, texts[i].name, len) == 0)
                ok = kg_digest_unquote(value, texts[i].out, texts[i].size);
    }
    if (!ok || !qop || !cred.nc || !cred.username[0] || !cred.nonce[0] || !cred.uri[0] || !cred.cnonce[0] ||
        strlen(cred.response) != algorithms[cred.algorithm].hex)
        return EINVAL;
    *out = cred;
    return 0;
}

enum kg_digest_verdict kg_digest_check(struct kg_digest *d, const struct kg_credentials *cred,
                                       const char *method, const struct kg_ha1 *ha1, int64_t now_ms,
                                       int64_t lifetime_ms)
{
    const struct kg_ha1 *secret = ha1 ? ha1 : &d->nobody;
    const struct kg_digest_said said = {method, cred->uri, cred->nonce, cred->nc_text, cred->cnonce};
    char expected[KG_DIGEST_HEX];
    uint64_t id = 0;
    int64_t made_ms = 0;
    bool ours = open_nonce(d, cred->nonce, &id, &made_ms);

    kg_digest_response(d, cred->algorithm, secret->hex[cred->algorithm], &said, expected);
    if (CRYPTO_memcmp(expected, cred->response, algorithms[cred->algorithm].hex) != 0 || !ha1)
        return KG_DIGEST_WRONG;
    /* RFC 7616 3.3: stale only for credentials that would have been right. */
    if (!ours || now_ms - made_ms > lifetime_ms || made_ms - now_ms > NONCE_AHEAD_MS)
        return KG_DIGEST_STALE;
    return KG_DIGEST_GOOD;
}

enum kg_digest_verdict kg_digest_use(struct kg_digest *d, const struct kg_credentials *cred)
{
    uint64_t id;
    int64_t made_ms;

    if (!open_nonce(d, cred->nonce, &id, &made_ms))
        return KG_DIGEST_STALE;
    switch (kg_nonces_use(d->used, id, made_ms, cred->nc)) {
    case KG_NONCE_FRESH:
        return KG_DIGEST_GOOD;
    case KG_NONCE_SEEN:
        return KG_DIGEST_REPEATED;
    case KG_NONCE_FORGOTTEN:
        break;
    }
    return KG_DIGEST_STALE;
}
