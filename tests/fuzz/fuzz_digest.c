/* b2bua/registrar/digest.h, challenge.h: parameters of Authorization and of challenges, a line each. Whatever
 * they say, no text is longer than its field, credentials for a user that nobody knows are never good, and an
 * answer to any challenge that was understood is credentials again that prove the same user. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/registrar/challenge.h"
#include "b2bua/registrar/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES 32

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_credentials(struct kg_digest *digest, const char *const *params)
{
    struct kg_credentials cred;
    if (kg_credentials_parse(params, &cred) != 0)
        return;
    expect(memchr(cred.username, 0, sizeof cred.username) && memchr(cred.realm, 0, sizeof cred.realm) &&
               memchr(cred.nonce, 0, sizeof cred.nonce) && memchr(cred.uri, 0, sizeof cred.uri) &&
               memchr(cred.response, 0, sizeof cred.response) && memchr(cred.cnonce, 0, sizeof cred.cnonce),
           "a text without end");
    expect(cred.algorithm < KG_DIGEST_ALGORITHMS, "an algorithm that is none");
    expect(kg_digest_check(digest, &cred, "REGISTER", NULL, 1000, 60000) == KG_DIGEST_WRONG,
           "nobody has the right password");
}

static void check_challenge(struct kg_digest *digest, const char *const *params)
{
    struct kg_challenge challenge;
    char answer[4096];
    if (kg_challenge_parse(params, &challenge) != 0)
        return;
    expect(memchr(challenge.realm, 0, sizeof challenge.realm) &&
               memchr(challenge.nonce, 0, sizeof challenge.nonce) &&
               memchr(challenge.opaque, 0, sizeof challenge.opaque),
           "a text without end");
    if (kg_challenge_answer(digest, &challenge, "user", "password", "INVITE", "sip:x@example.com", "c0ffee",
                            answer, sizeof answer))
        return;
    expect(strlen(answer) < sizeof answer && !strpbrk(answer, "\r\n"), "an answer that is no header");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[32] = {1};
    const char *params[LINES + 1] = {NULL};
    char *text = malloc(size + 1), *rest = text, *line;
    struct kg_digest *digest = kg_digest_new(secret, 1000);
    size_t count = 0;
    expect(text && digest, "memory");
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    while (count < LINES && (line = strsep(&rest, "\n")))
        params[count++] = line;
    check_credentials(digest, params);
    check_challenge(digest, params);
    kg_digest_free(digest);
    free(text);
    return 0;
}
