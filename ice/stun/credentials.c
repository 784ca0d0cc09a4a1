#include "ice/stun/credentials.h"

#include <openssl/crypto.h>
#include <string.h>

#include "conf/bytes.h"

/* ---- the nonce cookie (9.2) ---- */

static const char cookie[9] = "obMatJos2"; /* without NUL */
#define COOKIE_LEN 13                      /* with 24 feature bits in base64 */

/* RFC 8489 18.1: bit 0 is the most significant of the 24. */
#define FEATURE_ALGORITHMS 0x800000u
#define FEATURE_ANONYMITY  0x400000u

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void write_cookie(uint32_t features, char out[static COOKIE_LEN])
{
    memcpy(out, cookie, sizeof cookie);
    for (int i = 0; i < 4; i++)
        out[9 + i] = base64[features >> (18 - 6 * i) & 63];
}

/* 0 for a nonce of an older server. */
static uint32_t features_of(const uint8_t *nonce, size_t len)
{
    uint32_t features = 0;

    if (len < COOKIE_LEN || memcmp(nonce, cookie, sizeof cookie) != 0)
        return 0;
    for (int i = 0; i < 4; i++) {
        const char *digit = nonce[9 + i] != 0 ? strchr(base64, nonce[9 + i]) : NULL;

        if (digit == NULL)
            return 0;
        features = features << 6 | (uint32_t)(digit - base64);
    }
    return features;
}

/* ---- short-term ---- */

static bool is_text(const struct kg_stun_value *value, const char *text)
{
    return value->len == strlen(text) && memcmp(value->data, text, value->len) == 0;
}

static bool has_integrity(const struct kg_stun_message *message)
{
    return message->integrity != 0 || message->integrity_sha256 != 0;
}

int kg_stun_short_term_check(const struct kg_stun_message *message, const char *user, const char *password)
{
    const struct kg_stun_value *name = kg_stun_find(message, KG_STUN_USERNAME);

    if (name == NULL || !has_integrity(message))
        return 400;
    if (!is_text(name, user) ||
        kg_stun_check_integrity(message, password, strlen(password)) != KG_STUN_INTEGRITY_RIGHT)
        return 401;
    return 0;
}

void kg_stun_short_term_put(struct kg_stun_writer *w, const char *user, const char *password)
{
    kg_stun_put(w, KG_STUN_USERNAME, user, strlen(user));
    kg_stun_put_integrity(w, password, strlen(password));
    kg_stun_put_integrity_sha256(w, password, strlen(password));
}

/* ---- server ---- */

/* Cookie, then in hex: when it was made (s, 32 bits), signature (128 bits). */
#define SIGNATURE 16
#define NONCE_LEN (COOKIE_LEN + 2 * (4 + SIGNATURE))
/* In preferential order: SHA-256, MD5, each without parameters (14.11). */
static const uint8_t our_algorithms[] = {0, KG_STUN_SHA256, 0, 0, 0, KG_STUN_MD5, 0, 0};

static void hex(const uint8_t *in, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
}

/* The nonce made at that second for that client. False: OpenSSL failed. */
static bool make_nonce(const struct kg_stun_server *server, const struct kg_addr *client, uint32_t seconds,
                       char out[static NONCE_LEN])
{
    char where[KG_ADDR_STR];
    uint8_t made[4], signature[32];
    const struct kg_stun_span span[] = {
        {out, COOKIE_LEN},
        {made, sizeof made},
        {server->realm, strlen(server->realm) + 1},
        {where, strlen(kg_addr_format(client, where))},
    };

    write_cookie(FEATURE_ALGORITHMS | (server->anonymity ? FEATURE_ANONYMITY : 0), out);
    kg_write32(made, seconds);
    if (!kg_stun_hmac(KG_STUN_HASH_SHA256, server->secret, KG_STUN_SECRET, span, 4, signature))
        return false;
    hex(made, sizeof made, out + COOKIE_LEN);
    hex(signature, SIGNATURE, out + COOKIE_LEN + 8);
    return true;
}

static uint32_t seconds_of(int64_t now_ms)
{
    return (uint32_t)(now_ms / 1000);
}

static bool read_hex32(const uint8_t *text, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 8; i++) {
        uint8_t c = text[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *out = *out << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* Made by us for this client, not too long ago: made again, it must be the same. */
static bool is_fresh(const struct kg_stun_server *server, const struct kg_addr *client, int64_t now_ms,
                     const struct kg_stun_value *nonce)
{
    char expected[NONCE_LEN];
    uint32_t made;

    if (nonce->len != NONCE_LEN || !read_hex32(nonce->data + COOKIE_LEN, &made))
        return false;
    return make_nonce(server, client, made, expected) &&
           CRYPTO_memcmp(expected, nonce->data, NONCE_LEN) == 0 &&
           (uint32_t)(seconds_of(now_ms) - made) < KG_STUN_NONCE_MS / 1000;
}

/* What PASSWORD-ALGORITHM(S) of the request mean under that nonce; 0: 400. */
static int chosen_algorithm(const struct kg_stun_message *request, const struct kg_stun_value *nonce,
                            bool *named)
{
    const struct kg_stun_value *list = kg_stun_find(request, KG_STUN_PASSWORD_ALGORITHMS);
    const struct kg_stun_value *one = kg_stun_find(request, KG_STUN_PASSWORD_ALGORITHM);

    *named = false;
    if (!(features_of(nonce->data, nonce->len) & FEATURE_ALGORITHMS) || (list == NULL && one == NULL))
        return KG_STUN_MD5;
    if (list == NULL || one == NULL || list->len != sizeof our_algorithms ||
        memcmp(list->data, our_algorithms, sizeof our_algorithms) != 0 || one->len != 4)
        return 0;
    *named = true;
    for (size_t i = 0; i < sizeof our_algorithms; i += 4)
        if (memcmp(one->data, our_algorithms + i, 4) == 0)
            return kg_read16(one->data);
    return 0;
}

/* The checks of 9.2.4 in their order. */
void kg_stun_server_check(const struct kg_stun_server *server, const struct kg_stun_message *request,
                          const struct kg_addr *client, int64_t now_ms, kg_stun_find_key *find_key, void *ctx,
                          struct kg_stun_authorization *out)
{
    const struct kg_stun_value *name = kg_stun_find(request, KG_STUN_USERNAME);
    const struct kg_stun_value *hash = kg_stun_find(request, KG_STUN_USERHASH);
    const struct kg_stun_value *realm = kg_stun_find(request, KG_STUN_REALM);
    const struct kg_stun_value *nonce = kg_stun_find(request, KG_STUN_NONCE);
    bool known, right;
    int algorithm;

    *out = (struct kg_stun_authorization){.code = 401};
    if (!has_integrity(request))
        return;

    out->code = 400;
    if ((name == NULL && hash == NULL) || realm == NULL || nonce == NULL)
        return;
    algorithm = chosen_algorithm(request, nonce, &out->sha256);
    if (algorithm == 0)
        return;

    out->code = 401;
    if (hash != NULL)
        out->user.hash = hash->data;
    else
        out->user = (struct kg_stun_user){.name = (const char *)name->data, .name_len = name->len};
    out->key_len = find_key(ctx, &out->user, (enum kg_stun_password_algorithm)algorithm, out->key);
    known = out->key_len != 0;
    if (!known) { /* somebody's key all the same, so that it takes as long */
        memcpy(out->key, server->secret, KG_STUN_KEY_MAX);
        out->key_len = KG_STUN_KEY_MAX;
    }
    right = kg_stun_check_integrity(request, out->key, out->key_len) == KG_STUN_INTEGRITY_RIGHT;
    if (!known || !right || !is_text(realm, server->realm)) {
        OPENSSL_cleanse(out->key, sizeof out->key);
        out->key_len = 0;
        return;
    }

    out->code = is_fresh(server, client, now_ms, nonce) ? 0 : 438;
}

void kg_stun_server_refuse(const struct kg_stun_server *server, const struct kg_addr *client, int64_t now_ms,
                           int code, struct kg_stun_writer *w)
{
    char nonce[NONCE_LEN];

    kg_stun_put_error(w, code, code == 401 ? "Unauthenticated" : code == 438 ? "Stale Nonce" : "Bad Request");
    if (code != 401 && code != 438)
        return;
    if (!make_nonce(server, client, seconds_of(now_ms), nonce)) {
        w->full = true;
        return;
    }
    kg_stun_put(w, KG_STUN_REALM, server->realm, strlen(server->realm));
    kg_stun_put(w, KG_STUN_NONCE, nonce, NONCE_LEN);
    kg_stun_put(w, KG_STUN_PASSWORD_ALGORITHMS, our_algorithms, sizeof our_algorithms);
}

void kg_stun_server_seal(const struct kg_stun_authorization *authorization, struct kg_stun_writer *w)
{
    if (authorization->sha256)
        kg_stun_put_integrity_sha256(w, authorization->key, authorization->key_len);
    else
        kg_stun_put_integrity(w, authorization->key, authorization->key_len);
}

/* ---- client ---- */

void kg_stun_client_start(struct kg_stun_client *client, const char *user, const char *password)
{
    *client = (struct kg_stun_client){.user = user, .password = password};
}

void kg_stun_client_put(const struct kg_stun_client *client, struct kg_stun_writer *w)
{
    uint8_t hash[32];

    if (client->state == KG_STUN_UNCHALLENGED)
        return;
    if (!client->anonymity)
        kg_stun_put(w, KG_STUN_USERNAME, client->user, strlen(client->user));
    else if (kg_stun_userhash(client->user, client->realm, hash))
        kg_stun_put(w, KG_STUN_USERHASH, hash, sizeof hash);
    else
        w->full = true;
    kg_stun_put(w, KG_STUN_REALM, client->realm, strlen(client->realm));
    kg_stun_put(w, KG_STUN_NONCE, client->nonce, strlen(client->nonce));
    if (client->algorithms_len == 0) {
        kg_stun_put_integrity(w, client->key, client->key_len);
        return;
    }
    kg_stun_put(w, KG_STUN_PASSWORD_ALGORITHMS, client->algorithms, client->algorithms_len);
    kg_stun_put_u32(w, KG_STUN_PASSWORD_ALGORITHM, (uint32_t)client->algorithm << 16); /* no parameters */
    kg_stun_put_integrity_sha256(w, client->key, client->key_len);
}

/* The first algorithm of the list that we know; 0: none. */
static int first_known(const struct kg_stun_value *list)
{
    for (size_t at = 0; at + 4 <= list->len;) {
        int algorithm = kg_read16(list->data + at);
        size_t parameters = kg_read16(list->data + at + 2);

        if ((algorithm == KG_STUN_MD5 || algorithm == KG_STUN_SHA256) && parameters == 0)
            return algorithm;
        at += 4 + ((parameters + 3) & ~(size_t)3);
    }
    return 0;
}

/* False: too long, or not text. */
static bool copy_text(const struct kg_stun_value *value, char out[static KG_STUN_TEXT_MAX])
{
    if (value->len >= KG_STUN_TEXT_MAX || memchr(value->data, 0, value->len) != NULL)
        return false;
    memcpy(out, value->data, value->len);
    out[value->len] = 0;
    return true;
}

/* A 401 or 438 (9.2.5). */
static enum kg_stun_reply take_challenge(struct kg_stun_client *client,
                                         const struct kg_stun_message *response, bool stale)
{
    const struct kg_stun_value *realm = kg_stun_find(response, KG_STUN_REALM);
    const struct kg_stun_value *nonce = kg_stun_find(response, KG_STUN_NONCE);
    const struct kg_stun_value *list = kg_stun_find(response, KG_STUN_PASSWORD_ALGORITHMS);
    uint32_t features = nonce != NULL ? features_of(nonce->data, nonce->len) : 0;
    int algorithm = list != NULL ? first_known(list) : KG_STUN_MD5;

    if (nonce == NULL || ((features & FEATURE_ALGORITHMS) && list == NULL))
        return KG_STUN_REPLY_REFUSED;
    if (algorithm == 0 || (list != NULL && list->len > sizeof client->algorithms))
        return KG_STUN_REPLY_REFUSED;
    if (client->state == KG_STUN_UNCHALLENGED) {
        if (stale || realm == NULL || !copy_text(realm, client->realm))
            return KG_STUN_REPLY_REFUSED;
    } else {
        /* The same credentials again are pointless (401), another realm is a trap, and a server that could do
         * better a moment ago still can. */
        if (!stale || (realm != NULL && !is_text(realm, client->realm)) ||
            client->stale == KG_STUN_STALE_MAX || (client->algorithms_len > 0 && list == NULL) ||
            (client->anonymity && !(features & FEATURE_ANONYMITY)) || algorithm < (int)client->algorithm)
            return KG_STUN_REPLY_REFUSED;
        client->stale++;
    }
    if (!copy_text(nonce, client->nonce))
        return KG_STUN_REPLY_REFUSED;
    client->algorithms_len = list != NULL ? list->len : 0;
    if (list != NULL)
        memcpy(client->algorithms, list->data, list->len);
    client->anonymity = features & FEATURE_ANONYMITY;
    client->algorithm = (enum kg_stun_password_algorithm)algorithm;
    client->key_len =
        kg_stun_long_term_key(client->algorithm, client->user, client->realm, client->password, client->key);
    client->state = KG_STUN_CHALLENGED;
    return client->key_len != 0 ? KG_STUN_REPLY_RETRY : KG_STUN_REPLY_REFUSED;
}

enum kg_stun_reply kg_stun_client_take(struct kg_stun_client *client, const struct kg_stun_message *response)
{
    const struct kg_stun_value *nonce = kg_stun_find(response, KG_STUN_NONCE);
    int code = 0;

    if (response->class == KG_STUN_ERROR && !kg_stun_get_error(response, &code, NULL, NULL))
        return KG_STUN_REPLY_IGNORE;
    if (code == 401 || code == 438)
        return take_challenge(client, response, code == 438);
    if (nonce != NULL && (features_of(nonce->data, nonce->len) & FEATURE_ALGORITHMS) &&
        kg_stun_find(response, KG_STUN_PASSWORD_ALGORITHMS) == NULL)
        return KG_STUN_REPLY_IGNORE;
    if (code == 400 && !has_integrity(response))
        return KG_STUN_REPLY_IGNORE;
    if (client->state == KG_STUN_UNCHALLENGED)
        return KG_STUN_REPLY_GENUINE; /* a server that asks nothing of us */
    if (kg_stun_check_integrity(response, client->key, client->key_len) != KG_STUN_INTEGRITY_RIGHT ||
        (client->algorithms_len > 0 && response->integrity_sha256 == 0))
        return KG_STUN_REPLY_IGNORE;
    client->state = KG_STUN_KNOWN;
    client->stale = 0;
    return KG_STUN_REPLY_GENUINE;
}
