/* Digest access authentication as a client (RFC 7616): what a server asks, and the proof that it is given.
 * Pure. */
#ifndef KG_CHALLENGE_H
#define KG_CHALLENGE_H

#include "b2bua/registrar/digest.h"

struct kg_challenge {
    enum kg_digest_algorithm algorithm;
    char realm[256];
    char nonce[512], opaque[512]; /* as quoted: escapes are given back as they came */
    bool qop;                     /* auth is offered; else RFC 2069's way */
    bool stale;
};

/* From a parsed header's parameters, each `name=value` or `name="value"`, NULL at the end. 0; EINVAL: no
 * digest that kedge can answer (another algorithm, auth-int alone), or larger than any server needs. */
int kg_challenge_parse(const char *const *params, struct kg_challenge *out);

/* The value of the Authorization or Proxy-Authorization header. cnonce: random and new, of characters that
 * need no quoting; it is used once, so nc is 1. Returns 0, or ENOSPC. */
int kg_challenge_answer(struct kg_digest *digest, const struct kg_challenge *challenge, const char *user,
                        const char *password, const char *method, const char *uri, const char *cnonce,
                        char *out, size_t size);

#endif
