/* What a provider or a phone writes and kedge writes anew, by the first byte: 'i' asserted identities
 * (identity.h): outside of the users nothing changes; 'c' a digest challenge (challenge.h), one parameter a
 * line: the answer is one header value; 'n' a number (numbers.h, caps.h): separators get nobody past a
 * prefix. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/call/identity.h"
#include "b2bua/registrar/challenge.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/numbers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what, const char *text)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", what, text);
    abort();
}

static bool anonymous(void *ctx, const char *user, char out[static KG_IDENTITY_USER])
{
    unsigned *count = ctx;
    if (strcmp(user, "#") == 0)
        return false;
    ++*count;
    memcpy(out, "%23", 4);
    return true;
}

static void try_identity(const char *text)
{
    size_t room = 3 * strlen(text) + 4;
    char *out = malloc(room), *again = malloc(room);
    unsigned count = 0, more = 0;
    if (out && again && kg_identity_rewrite(text, anonymous, &count, out, room)) {
        must(count > 0 && strlen(out) < room, "changed without a user", text);
        must(!kg_identity_rewrite(out, anonymous, &more, again, room) && more == 0, "not stable", out);
    }
    free(out);
    free(again);
}

static void try_challenge(char *text)
{
    static const uint8_t secret[32];
    static struct kg_digest *digest;
    const char *params[16];
    size_t count = 0;
    char *rest = text, *line, out[2048];
    struct kg_challenge challenge;
    if (!digest)
        digest = kg_digest_new(secret, 0);
    while ((line = strsep(&rest, "\n")) && count < 15)
        params[count++] = line;
    params[count] = NULL;
    if (!digest || kg_challenge_parse(params, &challenge) != 0 ||
        kg_challenge_answer(digest, &challenge, "user", "word", "INVITE", "sip:a", "0123", out, sizeof out) !=
            0)
        return;
    bool quoted = false;
    for (const char *c = out; *c; c++) {
        must((unsigned char)*c >= ' ' && *c != 0x7f, "a control character", out);
        if (*c == '\\' && quoted && c[1])
            c++;
        else if (*c == '"')
            quoted = !quoted;
    }
    must(!quoted, "an open quote", out);
}

static void try_number(const char *text)
{
    static struct kg_config config;
    static struct kg_caps *caps;
    char plain[KG_NUMBER_SIZE], again[KG_NUMBER_SIZE];
    if (!caps) {
        config.caps_count = 1;
        snprintf(config.caps[0].user, sizeof config.caps[0].user, "*");
        snprintf(config.caps[0].deny[0].text, sizeof config.caps[0].deny[0].text, "00");
        config.caps[0].deny_count = 1;
        caps = kg_caps_new(&config);
    }
    kg_number_plain(text, plain);
    kg_number_plain(plain, again);
    must(strcmp(plain, again) == 0, "not stable", plain);
    must(strncmp(plain, "00", 2) != 0 || !kg_caps_permit(caps, "a", text), "past the prefix", text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = size > 0 && size < 4096 ? strndup((const char *)data + 1, size - 1) : NULL;
    if (text && data[0] == 'i')
        try_identity(text);
    else if (text && data[0] == 'c')
        try_challenge(text);
    else if (text && data[0] == 'n')
        try_number(text);
    free(text);
    return 0;
}
