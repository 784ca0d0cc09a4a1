#include "media/dtls_hello.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define HANDSHAKE_HEADER  12
#define CLIENT_HELLO      1
#define HELLO_VERIFY      3
#define SESSION_ID_MAX    32
#define SOURCE_MAX        64
#define COOKIE_SLOT_SHIFT 16 /* 65.5 s: a cookie is taken in its slot and in the next */

static uint32_t be24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static void put48(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 6; i++)
        p[i] = (uint8_t)(value >> (40 - 8 * i));
}

bool kg_dtls_record_next(const uint8_t **data, size_t *len, struct kg_dtls_record *record)
{
    const uint8_t *p = *data;

    /* RFC 6347 4.1: the version's first byte is 254 in each DTLS there is. */
    if (*len < KG_DTLS_RECORD_HEADER || p[0] < KG_DTLS_CHANGE_CIPHER_SPEC ||
        p[0] > KG_DTLS_APPLICATION_DATA || p[1] != 0xfe)
        return false;
    size_t body = (size_t)p[11] << 8 | p[12];
    if (body == 0 || body > *len - KG_DTLS_RECORD_HEADER)
        return false;
    *record = (struct kg_dtls_record){.data = p,
                                      .len = KG_DTLS_RECORD_HEADER + body,
                                      .type = p[0],
                                      .epoch = (uint16_t)(p[3] << 8 | p[4]),
                                      .sequence = (uint64_t)be24(p + 5) << 24 | be24(p + 8)};
    *data += record->len;
    *len -= record->len;
    return true;
}

void kg_dtls_record_renumber(uint8_t *record, uint64_t sequence)
{
    put48(record + 5, sequence);
}

bool kg_dtls_is_whole(const struct kg_dtls_record *record)
{
    const uint8_t *p = record->data + KG_DTLS_RECORD_HEADER, *end = record->data + record->len;

    while (p < end) {
        if (end - p < HANDSHAKE_HEADER)
            return false;
        uint32_t len = be24(p + 1), offset = be24(p + 6), here = be24(p + 9);
        p += HANDSHAKE_HEADER;
        if (here > (size_t)(end - p) || offset > len || here > len - offset)
            return false;
        p += here;
    }
    return true;
}

bool kg_dtls_is_hello(const struct kg_dtls_record *record)
{
    return record->type == KG_DTLS_HANDSHAKE_MESSAGE && record->epoch == 0 &&
           record->data[KG_DTLS_RECORD_HEADER] == CLIENT_HELLO;
}

bool kg_dtls_hello_read(const struct kg_dtls_record *record, struct kg_dtls_hello *hello)
{
    const uint8_t *p = record->data + KG_DTLS_RECORD_HEADER;
    size_t len = record->len - KG_DTLS_RECORD_HEADER;

    if (!kg_dtls_is_hello(record) || len < HANDSHAKE_HEADER + KG_DTLS_PARAMETERS + 2 || be24(p + 6) != 0)
        return false;
    *hello = (struct kg_dtls_hello){.sequence = record->sequence,
                                    .message = (uint16_t)(p[4] << 8 | p[5]),
                                    .parameters = p + HANDSHAKE_HEADER};
    if (be24(p + 9) != len - HANDSHAKE_HEADER || be24(p + 1) < be24(p + 9))
        return false;
    p += HANDSHAKE_HEADER + KG_DTLS_PARAMETERS;
    len -= HANDSHAKE_HEADER + KG_DTLS_PARAMETERS;
    size_t session_id = p[0];
    if (session_id > SESSION_ID_MAX || len < 1 + session_id + 1)
        return false;
    p += 1 + session_id;
    len -= 1 + session_id;
    hello->cookie_len = p[0];
    hello->cookie = p + 1;
    return len >= 1u + hello->cookie_len;
}

/* RFC 6347 4.2.1: HMAC(Secret, Client-IP, Client-Parameters). */
static bool cookie_of(const struct kg_dtls_hello *hello, const uint8_t *secret, const void *source,
                      size_t source_len, int64_t slot, uint8_t out[static KG_DTLS_COOKIE])
{
    uint8_t text[8 + 1 + SOURCE_MAX + KG_DTLS_PARAMETERS] = {0};
    unsigned len = KG_DTLS_COOKIE;

    if (source_len > SOURCE_MAX)
        return false;
    memcpy(text, &slot, sizeof slot);
    text[8] = (uint8_t)source_len;
    memcpy(text + 9, source, source_len);
    memcpy(text + 9 + SOURCE_MAX, hello->parameters, KG_DTLS_PARAMETERS);
    return HMAC(EVP_sha256(), secret, KG_DTLS_SECRET, text, sizeof text, out, &len) != NULL;
}

bool kg_dtls_cookie_right(const struct kg_dtls_hello *hello, const uint8_t secret[static KG_DTLS_SECRET],
                          const void *source, size_t source_len, int64_t now_ms)
{
    uint8_t expected[KG_DTLS_COOKIE];

    if (hello->cookie_len != KG_DTLS_COOKIE)
        return false;
    for (int64_t age = 0; age < 2; age++)
        if (cookie_of(hello, secret, source, source_len, (now_ms >> COOKIE_SLOT_SHIFT) - age, expected) &&
            CRYPTO_memcmp(expected, hello->cookie, KG_DTLS_COOKIE) == 0)
            return true;
    return false;
}

bool kg_dtls_hello_verify(const struct kg_dtls_hello *hello, const uint8_t secret[static KG_DTLS_SECRET],
                          const void *source, size_t source_len, int64_t now_ms,
                          uint8_t out[static KG_DTLS_VERIFY_LEN])
{
    /* RFC 6347 4.2.1: in DTLS 1.0's name whatever is agreed later, with the number of the ClientHello's
     * record. */
    static const uint8_t head[] = {22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12 + 3 + KG_DTLS_COOKIE};
    static const uint8_t message[] = {HELLO_VERIFY,       0,    0,    3 + KG_DTLS_COOKIE, 0, 0, 0, 0, 0, 0, 0,
                                      3 + KG_DTLS_COOKIE, 0xfe, 0xff, KG_DTLS_COOKIE};

    memcpy(out, head, sizeof head);
    kg_dtls_record_renumber(out, hello->sequence);
    memcpy(out + sizeof head, message, sizeof message);
    return cookie_of(hello, secret, source, source_len, now_ms >> COOKIE_SLOT_SHIFT,
                     out + sizeof head + sizeof message);
}

void kg_dtls_opener(uint8_t out[static KG_DTLS_OPENER_LEN])
{
    const uint8_t body = KG_DTLS_OPENER_LEN - KG_DTLS_RECORD_HEADER - HANDSHAKE_HEADER;
    uint8_t *p = out;

    memset(out, 0, KG_DTLS_OPENER_LEN); /* a random of zeros, no session, no cookie, number 0 */
    p[0] = KG_DTLS_HANDSHAKE_MESSAGE;
    p[1] = 0xfe, p[2] = 0xfd;
    p[12] = (uint8_t)(HANDSHAKE_HEADER + body);
    p += KG_DTLS_RECORD_HEADER;
    p[0] = CLIENT_HELLO;
    p[3] = p[11] = body;
    p += HANDSHAKE_HEADER;
    p[0] = 0xfe, p[1] = 0xfd;
    p += KG_DTLS_PARAMETERS + 1 + 1;
    p[1] = 2, p[2] = 0xc0, p[3] = 0x2b; /* one suite: TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
    p[4] = 1;                           /* one compression method: null */
}
