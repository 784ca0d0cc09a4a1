/* What one m-line says of keys. */
#include "b2bua/sdp/secure.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

static const char *argument(const struct kg_sdp_line *line)
{
    return line->value + line->argument;
}

static const char *end_of(const struct kg_sdp_line *line)
{
    return line->value + line->len;
}

static bool has_tag(const struct kg_sdp_secure *secure, uint32_t tag)
{
    for (uint8_t i = 0; i < secure->crypto_count; i++)
        if (secure->crypto[i].tag == tag)
            return true;
    return false;
}

static const char *take_crypto(const struct kg_sdp_line *line, bool in_media, struct kg_sdp_secure *out)
{
    struct kg_sdp_crypto read;
    const char *bad = in_media ? NULL : "before the first m= line it belongs to none (RFC 4568 5)";
    if (!bad)
        bad = kg_sdp_crypto_read(argument(line), end_of(line), &read);
    if (!bad && has_tag(out, read.tag))
        bad = "its tag is there twice";
    if (!bad && out->crypto_count == KG_SDP_CRYPTO_MAX)
        bad = "kedge looks at 8 usable ones";
    if (!bad)
        out->crypto[out->crypto_count++] = read;
    OPENSSL_cleanse(&read, sizeof(read));
    return bad;
}

static const char *take_fingerprint(const struct kg_sdp_line *line, struct kg_sdp_secure *out)
{
    struct kg_fingerprint read;
    const char *bad = kg_sdp_fingerprint_read(argument(line), end_of(line), &read);
    if (!bad && out->fingerprint_count == KG_FINGERPRINTS_MAX)
        bad = "kedge looks at 4 usable ones";
    if (!bad)
        out->fingerprint[out->fingerprint_count++] = read;
    return bad;
}

/* RFC 8842 4: 20*255(tls-id-char), which are letters, digits and "+/-_". Another one is taken as well. */
static void take_tls_id(const struct kg_sdp_line *line, struct kg_sdp_secure *out)
{
    const char *s = argument(line);
    struct kg_sdp_text word = kg_sdp_word(&s, end_of(line));
    if (word.len >= sizeof(out->tls_id))
        return;
    memcpy(out->tls_id, word.s, word.len);
    out->tls_id[word.len] = '\0';
}

/* One line; why it cannot be used, NULL if it can or is none of keys. */
static const char *take(const struct kg_sdp_line *line, bool in_media, struct kg_sdp_secure *out)
{
    if (line->type != 'a')
        return NULL;
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_CRYPTO:
        out->says_sdes = true;
        return take_crypto(line, in_media, out);
    case KG_SDP_FINGERPRINT:
        out->says_dtls = true;
        return take_fingerprint(line, out);
    case KG_SDP_SETUP:
        out->setup = (uint8_t)kg_sdp_setup_read(argument(line), end_of(line));
        return NULL;
    case KG_SDP_TLS_ID:
        take_tls_id(line, out);
        return NULL;
    case KG_SDP_ZRTP_HASH:
        out->says_zrtp = true;
        return NULL;
    case KG_SDP_KEY_MGMT:
        out->says_mikey = true;
        return NULL;
    default:
        return NULL;
    }
}

static bool has_own_fingerprint(const struct kg_sdp *sdp, const struct kg_sdp_media *m)
{
    for (size_t i = m->first; i < m->end; i++)
        if (sdp->line[i].type == 'a' && sdp->line[i].attribute == KG_SDP_FINGERPRINT)
            return true;
    return false;
}

/* Name, hash or tag, and suite, as far as they are that: no keys, wherever they stand in a line that is
 * wrong. */
static void describe_bad(const struct kg_sdp_line *line, char *out, size_t size)
{
    const char *s = argument(line), *end = end_of(line);
    struct kg_sdp_text first = kg_sdp_word(&s, end), suite = kg_sdp_word(&s, end);
    uint32_t tag;
    if (line->attribute == KG_SDP_FINGERPRINT) {
        snprintf(out, size, "fingerprint:%.*s", first.len > 16 ? 16 : first.len, first.s);
        return;
    }
    size_t n = (size_t)snprintf(out, size, "crypto");
    if (!kg_sdp_number(first.s, first.len, UINT32_MAX, &tag))
        return;
    n += (size_t)snprintf(out + n, size - n, ":%u", tag);
    if (suite.len <= 32 && strspn(suite.s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") >= suite.len)
        snprintf(out + n, size - n, " %.*s", suite.len, suite.s);
}

static void set_empty(struct kg_sdp_secure *out)
{
    memset(out, 0, offsetof(struct kg_sdp_secure, tls_id) + 1);
}

/* Every line that holds for m, the session's first: what the media part says of a=setup and a=tls-id takes
 * their place, and with a fingerprint of its own the session's do not count (RFC 8122 5). Bad ones go to
 * `bad`. */
static size_t collect(const struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_sdp_secure *out,
                      struct kg_sdp_bad_key *bad, size_t max)
{
    bool own = has_own_fingerprint(sdp, m);
    size_t n = 0, i = sdp->session_end ? 0 : m->first;
    set_empty(out);
    while (i < m->end) {
        const struct kg_sdp_line *line = &sdp->line[i];
        bool in_media = i >= m->first;
        bool overridden = !in_media && own && line->type == 'a' && line->attribute == KG_SDP_FINGERPRINT;
        const char *reason = overridden ? NULL : take(line, in_media, out);
        if (reason && n < max) {
            describe_bad(line, bad[n].text, sizeof(bad[n].text));
            bad[n++].reason = reason;
        }
        i = i + 1 == sdp->session_end ? m->first : i + 1;
    }
    return n;
}

/* RFC 4568 7, RFC 5763 5, RFC 8643 3.1 */
static void judge(struct kg_sdp_secure *out)
{
    enum kg_sdp_profile profile = (enum kg_sdp_profile)out->profile;
    bool rtp = profile != KG_SDP_NOT_RTP;
    out->sdes = rtp && !kg_sdp_profile_is_dtls(profile) && out->crypto_count > 0;
    out->dtls = rtp && out->fingerprint_count > 0;
    out->plain = rtp && !kg_sdp_profile_is_secure(profile);
    if (!rtp || out->sdes || out->dtls || out->plain)
        return;
    if (kg_sdp_profile_is_dtls(profile))
        out->problem = out->says_dtls ? "none of its a=fingerprint lines can be used"
                                      : "it demands DTLS-SRTP and has no a=fingerprint";
    else if (out->says_sdes)
        out->problem = "none of its a=crypto lines can be used";
    else if (out->says_dtls)
        out->problem = "none of its a=fingerprint lines can be used";
    else if (out->says_mikey)
        out->problem = "it demands SRTP with keys by MIKEY, which kedge does not read";
    else
        out->problem = "it demands SRTP and has neither a=crypto nor a=fingerprint";
}

int kg_sdp_secure(const struct kg_sdp *sdp, size_t media, struct kg_sdp_secure *out)
{
    if (media >= sdp->media_count)
        return EINVAL;
    collect(sdp, &sdp->media[media], out, NULL, 0);
    out->profile = (uint8_t)kg_sdp_profile_of(sdp->media[media].proto);
    judge(out);
    return 0;
}

void kg_sdp_secure_clear(struct kg_sdp_secure *secure)
{
    OPENSSL_cleanse(secure->crypto, secure->crypto_count * sizeof(*secure->crypto));
    set_empty(secure);
}

size_t kg_sdp_bad_keys(const struct kg_sdp *sdp, size_t media, struct kg_sdp_bad_key *out, size_t max)
{
    struct kg_sdp_secure secure;
    if (media >= sdp->media_count)
        return 0;
    size_t n = collect(sdp, &sdp->media[media], &secure, out, max);
    kg_sdp_secure_clear(&secure);
    return n;
}
