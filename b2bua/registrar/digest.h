/* Digest access authentication (RFC 7616, RFC 8760): MD5 and SHA-256 with qop=auth, stateless nonces. Pure:
 * the secret and the time are handed in.
 *
 * A nonce says when it was made and proves that we made it, so unanswered challenges cost no memory and a
 * restart does not invalidate them. What is remembered, in a bounded table, is which nonce counts of a nonce
 * were used. */
#ifndef KG_DIGEST_H
#define KG_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kg_digest_algorithm { KG_DIGEST_MD5, KG_DIGEST_SHA256, KG_DIGEST_ALGORITHMS };
#define KG_DIGEST_HEX 65 /* the longest hash in hex, and NUL */
#define KG_NONCE_HEX  65

/* "MD5", "SHA-256": as headers have it. */
const char *kg_digest_algorithm_name(enum kg_digest_algorithm algorithm);
/* A parameter's value, with quotes or without. False: it is none of them. */
bool kg_digest_parse_algorithm(const char *value, enum kg_digest_algorithm *out);

struct kg_digest;

/* Every text bounded: a longer one in a request makes the credentials malformed. */
struct kg_credentials {
    enum kg_digest_algorithm algorithm;
    char username[128];
    char realm[256];
    char nonce[129]; /* longer than ours: it may be another server's */
    char uri[512];
    char response[KG_DIGEST_HEX];
    char cnonce[128];
    char nc_text[9];
    uint32_t nc;
};

enum kg_digest_verdict {
    KG_DIGEST_GOOD,
    KG_DIGEST_REPEATED, /* right, but this nonce count was used: a retransmission or a replay */
    KG_DIGEST_STALE, /* right, but the nonce is too old, forgotten or not ours: challenge with stale=true */
    KG_DIGEST_WRONG, /* wrong password or unknown user; nobody can tell which */
};

/* Two HA1s in lower-case hex: what an account is. */
struct kg_ha1 {
    char hex[KG_DIGEST_ALGORITHMS][KG_DIGEST_HEX];
};

/* now_ms and every other time here is wall clock: a nonce outlives the process. */
struct kg_digest *kg_digest_new(const uint8_t secret[static 32], int64_t now_ms);
void kg_digest_free(struct kg_digest *digest);

/* RFC 7616 3.4.2: H(username:realm:password) by each algorithm. */
void kg_digest_ha1(struct kg_digest *digest, const char *user, const char *realm, const char *password,
                   struct kg_ha1 *out);
void kg_digest_nonce(struct kg_digest *digest, int64_t now_ms, char out[static KG_NONCE_HEX]);
/* The value of a WWW- or Proxy-Authenticate header. */
void kg_digest_challenge(enum kg_digest_algorithm algorithm, const char *realm, const char *nonce, bool stale,
                         char *out, size_t size);

/* From a parsed header's parameters, each `name=value` or `name="value"`, NULL at the end. 0; EINVAL:
 * malformed, no qop=auth, or an algorithm that was not offered (-sess ones too). */
int kg_credentials_parse(const char *const *params, struct kg_credentials *out);

/* Works equally long for ha1 NULL (unknown user). Realm and uri are the caller's to check. lifetime_ms: how
 * long a nonce is good. Looks only; GOOD becomes final, or REPEATED or STALE, by kg_digest_use. */
enum kg_digest_verdict kg_digest_check(struct kg_digest *digest, const struct kg_credentials *cred,
                                       const char *method, const struct kg_ha1 *ha1, int64_t now_ms,
                                       int64_t lifetime_ms);
/* Takes the nonce count of credentials that were GOOD. */
enum kg_digest_verdict kg_digest_use(struct kg_digest *digest, const struct kg_credentials *cred);

/* What a response is made of beside H(A1). cnonce NULL: without qop, as in RFC 2069; nc counts for nothing
 * then. */
struct kg_digest_said {
    const char *method, *uri, *nonce, *nc, *cnonce;
};
/* RFC 7616 3.4.1, in hex; ha1 too. For both sides: challenge.h has the client's. */
void kg_digest_response(struct kg_digest *digest, enum kg_digest_algorithm algorithm, const char *ha1,
                        const struct kg_digest_said *said, char out[static KG_DIGEST_HEX]);
/* A parameter's value without quotes and escapes. False when it does not fit. */
bool kg_digest_unquote(const char *value, char *out, size_t size);

/* After a restart: what a phone used last, so that its next request needs no challenge and a recorded one is
 * a replay. */
void kg_digest_restore(struct kg_digest *digest, const char *nonce, uint32_t nc);

/* H(secret, label, text) in hex: for names that are stable, and nobody else can guess. size - 1 digits, at
 * most 64. */
void kg_digest_name(struct kg_digest *digest, const char *label, const char *text, char *out, size_t size);

#endif
