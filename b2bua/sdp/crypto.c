/* a=crypto lines (RFC 4568, 6188, 7714): read and written. */
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/rewrite.h"

static bool is_word(struct kg_sdp_text text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.s, word, text.len) == 0;
}

static bool starts_with(struct kg_sdp_text text, const char *word)
{
    size_t len = strlen(word);
    return text.len >= len && strncasecmp(text.s, word, len) == 0;
}

/* [*s, end) up to `stop`, which is skipped. */
static struct kg_sdp_text until(const char **s, const char *end, char stop)
{
    struct kg_sdp_text out = {.s = *s};
    const char *at = memchr(*s, stop, (size_t)(end - *s));
    out.len = (uint16_t)((at ? at : end) - *s);
    *s = at ? at + 1 : end;
    return out;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Exactly len bytes; "=" at the end may be missing, as with some phones. */
static bool base64(struct kg_sdp_text text, uint8_t *out, size_t len)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;
    while (text.len > 0 && text.s[text.len - 1] == '=')
        text.len--;
    if (text.len != (len * 8 + 5) / 6)
        return false;
    for (uint16_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.s[i]);
        if (digit < 0)
            return false;
        bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
        have += 6;
        if (have >= 8 && n < len) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == len;
}

/* RFC 4568 6.1: "2^20" or decimal; at most 2^48 packets (RFC 3711 9.2). It is not counted: at 50 packets a
 * second even 2^31 lasts a year. */
static bool is_lifetime(struct kg_sdp_text text)
{
    uint32_t value;
    if (text.len > 2 && memcmp(text.s, "2^", 2) == 0)
        return kg_sdp_number(text.s + 2, text.len - 2u, 48, &value);
    while (text.len > 0 && *text.s == '0') {
        text.s++;
        text.len--;
    }
    if (text.len == 0 || text.len > 15)
        return false;
    return strspn(text.s, "0123456789") >= text.len;
}

/* RFC 4568 6.1: "value:length", decimal; the value goes into that many bytes, big-endian. */
static const char *read_mki(struct kg_sdp_text text, struct kg_srtp_key *out)
{
    const char *s = text.s, *end = text.s + text.len;
    struct kg_sdp_text value = until(&s, end, ':');
    uint32_t len;
    if (value.len == 0 || !kg_sdp_number(s, (size_t)(end - s), 128, &len) || len == 0)
        return "its MKI is not VALUE:LENGTH with a length from 1 to 128";
    if (len > KG_SRTP_MKI_MAX)
        return "its MKI is longer than the 32 bytes that kedge takes";
    memset(out->mki, 0, sizeof(out->mki));
    out->mki_len = (uint8_t)len;
    for (uint16_t i = 0; i < value.len; i++) {
        unsigned carry = (unsigned)(value.s[i] - '0');
        if (carry > 9)
            return "its MKI is not a decimal number";
        for (uint32_t b = len; b-- > 0;) {
            carry += out->mki[b] * 10u;
            out->mki[b] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry)
            return "its MKI needs more bytes than it says";
    }
    return NULL;
}

/* One of key-params: inline:KEY[|LIFETIME][|MKI:LENGTH] */
static const char *read_key(struct kg_sdp_text text, enum kg_srtp_suite suite, struct kg_srtp_key *out)
{
    const char *s = text.s, *end = text.s + text.len;
    bool lifetime = false, mki = false;
    if (!starts_with(text, "inline:"))
        return "its key is not inline";
    s += strlen("inline:");
    memset(out, 0, sizeof(*out));
    if (!base64(until(&s, end, '|'), out->bytes, kg_srtp_suite_key_len(suite)))
        return "its key is not base64 of as many bytes as its suite needs";
    while (s < end) {
        struct kg_sdp_text part = until(&s, end, '|');
        const char *bad = NULL;
        if (memchr(part.s, ':', part.len)) {
            bad = mki ? "it has two MKIs" : read_mki(part, out);
            mki = true;
        } else if (lifetime || mki || !is_lifetime(part)) {
            bad = "the lifetime of its key is not a number of packets up to 2^48";
        }
        lifetime = true;
        if (bad)
            return bad;
    }
    return NULL;
}

static const char *read_keys(struct kg_sdp_text text, struct kg_srtp_keys *out)
{
    const char *s = text.s, *end = text.s + text.len;
    while (s < end) {
        if (out->count == KG_SRTP_KEYS_MAX)
            return "it has more than 4 keys";
        struct kg_srtp_key *key = &out->key[out->count++];
        const char *bad = read_key(until(&s, end, ';'), (enum kg_srtp_suite)out->suite, key);
        if (bad)
            return bad;
        /* RFC 4568 6.1: told apart by their MKIs, all of one length. */
        for (uint8_t i = 0; i + 1 < out->count; i++)
            if (key->mki_len == 0 || key->mki_len != out->key[i].mki_len ||
                memcmp(key->mki, out->key[i].mki, key->mki_len) == 0)
                return "it has several keys that no MKI tells apart";
    }
    return out->count ? NULL : "it has no key";
}

/* RFC 4568 6.3. What changes the packets is not supported; WSH is only advice; an unknown one must be
 * understood unless it begins with "-" (6.3.7). */
static const char *read_parameter(struct kg_sdp_text text)
{
    static const struct {
        const char *name, *reason;
    } known[] = {
        {"KDR=", "KDR: kedge derives session keys once"},
        {"UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP would send media in the clear"},
        {"UNENCRYPTED_SRTCP", "UNENCRYPTED_SRTCP would send reports in the clear"},
        {"UNAUTHENTICATED_SRTP", "UNAUTHENTICATED_SRTP would let anybody inject media"},
        {"FEC_ORDER=", "FEC_ORDER: kedge does no forward error correction of its own"},
        {"FEC_KEY=", "FEC_KEY: kedge does no forward error correction of its own"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        bool takes_value = strchr(known[i].name, '=') != NULL;
        if (takes_value ? starts_with(text, known[i].name) : is_word(text, known[i].name))
            return known[i].reason;
    }
    return *text.s == '-' || starts_with(text, "WSH=")
               ? NULL
               : "it has a session parameter that kedge does not know";
}

const char *kg_sdp_crypto_read(const char *s, const char *end, struct kg_sdp_crypto *out)
{
    struct kg_sdp_text tag = kg_sdp_word(&s, end), suite = kg_sdp_word(&s, end), keys = kg_sdp_word(&s, end),
                       parameter;
    memset(out, 0, sizeof(*out));
    if (!kg_sdp_number(tag.s, tag.len, KG_SDP_CRYPTO_TAG_MAX, &out->tag))
        return "its tag is not a number of up to 9 digits";
    out->keys.suite = (uint8_t)kg_srtp_suite_of(suite.s, suite.len);
    if (out->keys.suite == KG_SRTP_NONE)
        return "kedge does not have its suite";
    const char *bad = read_keys(keys, &out->keys);
    while (!bad && (parameter = kg_sdp_word(&s, end)).len > 0)
        bad = read_parameter(parameter);
    if (bad)
        kg_srtp_keys_clear(&out->keys);
    return bad;
}

void kg_sdp_put_crypto(struct kg_sdp_out *out, const struct kg_sdp_crypto *crypto)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = kg_srtp_suite_key_len((enum kg_srtp_suite)crypto->keys.suite);
    const uint8_t *key = crypto->keys.key[0].bytes;
    char text[(KG_SRTP_KEY_MAX + 2) / 3 * 4];
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)key[i] << 16 | (i + 1 < len ? (uint32_t)key[i + 1] << 8 : 0) |
                        (i + 2 < len ? key[i + 2] : 0);
        text[n++] = digits[bits >> 18];
        text[n++] = digits[bits >> 12 & 63];
        text[n++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        text[n++] = i + 2 < len ? digits[bits & 63] : '=';
    }
    KG_SDP_PUT(out, "a=crypto:");
    kg_sdp_put_number(out, crypto->tag);
    KG_SDP_PUT(out, " ");
    kg_sdp_put_text(out, kg_srtp_suite_name((enum kg_srtp_suite)crypto->keys.suite));
    KG_SDP_PUT(out, " inline:");
    kg_sdp_put(out, text, n);
    KG_SDP_PUT(out, "\r\n");
    OPENSSL_cleanse(text, sizeof(text));
}
