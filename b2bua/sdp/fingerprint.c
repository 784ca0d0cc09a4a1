/* a=fingerprint (RFC 8122 5) and a=setup (RFC 4145 4): read and written. */
#include <string.h>

#include "b2bua/sdp/rewrite.h"
#include "conf/digits.h"

static const struct {
    const char *name;
    uint8_t len;
    uint8_t hash;       /* KG_FINGERPRINT_NONE: not taken */
    const char *reason; /* why */
} hashes[] = {
    {"sha-256", 32, KG_FINGERPRINT_SHA256, NULL},
    {"sha-384", 48, KG_FINGERPRINT_SHA384, NULL},
    {"sha-512", 64, KG_FINGERPRINT_SHA512, NULL},
    {"sha-1", 20, KG_FINGERPRINT_NONE, "SHA-1 proves nothing any more"},
    {"sha-224", 28, KG_FINGERPRINT_NONE, "kedge does not take SHA-224"},
    {"md5", 16, KG_FINGERPRINT_NONE, "MD5 proves nothing"},
    {"md2", 16, KG_FINGERPRINT_NONE, "MD2 proves nothing"},
};

/* "4A:AD:..." of exactly len bytes; RFC 8122 5 has upper case, phones have both. */
static bool read_hex(struct kg_sdp_text text, uint8_t *out, size_t len)
{
    if (text.len != 3 * len - 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = kg_hex_digit(text.s[3 * i]), low = kg_hex_digit(text.s[3 * i + 1]);
        if (high < 0 || low < 0 || (i + 1 < len && text.s[3 * i + 2] != ':'))
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

const char *kg_sdp_fingerprint_read(const char *s, const char *end, struct kg_fingerprint *out)
{
    struct kg_sdp_text name = kg_sdp_word(&s, end), value = kg_sdp_word(&s, end);
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        if (!kg_sdp_text_equal(name, (struct kg_sdp_text){hashes[i].name, (uint16_t)strlen(hashes[i].name)}))
            continue;
        if (hashes[i].hash == KG_FINGERPRINT_NONE)
            return hashes[i].reason;
        if (!read_hex(value, out->bytes, hashes[i].len))
            return "it has not as many hexadecimal bytes as its hash";
        out->hash = hashes[i].hash;
        out->len = hashes[i].len;
        return NULL;
    }
    return "kedge does not know its hash";
}

void kg_sdp_put_fingerprint(struct kg_sdp_out *out, const struct kg_fingerprint *fingerprint)
{
    static const char digits[] = "0123456789ABCDEF";
    KG_SDP_PUT(out, "a=fingerprint:");
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
        if (hashes[i].hash == fingerprint->hash && !hashes[i].reason)
            kg_sdp_put_text(out, hashes[i].name);
    for (uint8_t i = 0; i < fingerprint->len && i < sizeof(fingerprint->bytes); i++) {
        char text[3] = {i ? ':' : ' ', digits[fingerprint->bytes[i] >> 4],
                        digits[fingerprint->bytes[i] & 15]};
        kg_sdp_put(out, text, sizeof(text));
    }
    KG_SDP_PUT(out, "\r\n");
}

static const char *const setups[] = {
    [KG_SETUP_ACTPASS] = "actpass",
    [KG_SETUP_ACTIVE] = "active",
    [KG_SETUP_PASSIVE] = "passive",
    [KG_SETUP_HOLDCONN] = "holdconn",
};

enum kg_dtls_setup kg_sdp_setup_read(const char *s, const char *end)
{
    struct kg_sdp_text word = kg_sdp_word(&s, end);
    for (int i = KG_SETUP_ACTPASS; i <= KG_SETUP_HOLDCONN; i++)
        if (kg_sdp_text_equal(word, (struct kg_sdp_text){setups[i], (uint16_t)strlen(setups[i])}))
            return (enum kg_dtls_setup)i;
    return KG_SETUP_NONE;
}

void kg_sdp_put_setup(struct kg_sdp_out *out, enum kg_dtls_setup setup)
{
    if (setup < KG_SETUP_ACTPASS || setup > KG_SETUP_HOLDCONN)
        return;
    KG_SDP_PUT(out, "a=setup:");
    kg_sdp_put_text(out, setups[setup]);
    KG_SDP_PUT(out, "\r\n");
}
