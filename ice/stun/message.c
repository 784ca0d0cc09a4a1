#include "ice/stun/message.h"

#include <string.h>

#include "conf/bytes.h"
#include "ice/stun/attribute.h"
#include "ice/stun/integrity.h"

#define ATTRIBUTE_HEADER 4

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

/* ---- reading ---- */

/* RFC 8489 5: class bits C1 C0 stand between the method's. */
static void read_type(uint16_t type, struct kg_stun_message *out)
{
    out->class = (enum kg_stun_class)((type >> 4 & 1) | (type >> 7 & 2));
    out->method = (uint16_t)((type & 0xF) | (type >> 1 & 0x70) | (type >> 2 & 0xF80));
}

static uint16_t write_type(enum kg_stun_class class, uint16_t method)
{
    return (uint16_t)((method & 0xF) | (method & 0x70) << 1 | (method & 0xF80) << 2 | (class & 1) << 4 |
                      (class & 2) << 7);
}

/* Behind MESSAGE-INTEGRITY only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT count (14.5), behind
 * MESSAGE-INTEGRITY-SHA256 only FINGERPRINT (14.6). */
static bool counts(const struct kg_stun_message *message, uint16_t type)
{
    if (type == KG_STUN_FINGERPRINT)
        return true;
    if (message->integrity_sha256 != 0)
        return false;
    return message->integrity == 0 || type == KG_STUN_MESSAGE_INTEGRITY_SHA256;
}

static enum kg_stun_verdict take(struct kg_stun_message *message, const struct kg_stun_value *value,
                                 size_t offset)
{
    const struct kg_stun_attribute_row *row = kg_stun_attribute_row(value->type);

    if (!counts(message, value->type))
        return KG_STUN_OK;
    if ((row != NULL && !kg_stun_attribute_allows(row, value->len)) ||
        message->count == KG_STUN_ATTRIBUTES_MAX)
        return KG_STUN_MALFORMED;
    if (value->type == KG_STUN_MESSAGE_INTEGRITY)
        message->integrity = (uint16_t)offset;
    else if (value->type == KG_STUN_MESSAGE_INTEGRITY_SHA256)
        message->integrity_sha256 = (uint16_t)offset;
    else if (value->type == KG_STUN_FINGERPRINT) {
        if (kg_read32(value->data) != kg_stun_fingerprint(message->data, offset))
            return KG_STUN_NOT_STUN;
        message->has_fingerprint = true;
    }
    message->attribute[message->count++] = *value;
    return KG_STUN_OK;
}

enum kg_stun_verdict kg_stun_parse(const uint8_t *data, size_t len, struct kg_stun_message *out)
{
    if (len < KG_STUN_HEADER || (data[0] & 0xC0) != 0 || kg_read32(data + 4) != KG_STUN_COOKIE)
        return KG_STUN_NOT_STUN;
    if (len % 4 != 0 || kg_read16(data + 2) != len - KG_STUN_HEADER)
        return KG_STUN_NOT_STUN;

    read_type(kg_read16(data), out);
    out->data = data;
    out->len = len;
    out->id = data + 8;
    out->count = 0;
    out->integrity = out->integrity_sha256 = 0;
    out->has_fingerprint = false;

    /* len is a multiple of 4 and every step is one: at least a whole attribute header is left. */
    for (size_t at = KG_STUN_HEADER; at < len;) {
        struct kg_stun_value value = {
            .type = kg_read16(data + at),
            .len = kg_read16(data + at + 2),
            .data = data + at + ATTRIBUTE_HEADER,
        };
        enum kg_stun_verdict verdict;

        if (out->has_fingerprint || padded(value.len) > len - at - ATTRIBUTE_HEADER)
            return KG_STUN_MALFORMED;
        verdict = take(out, &value, at);
        if (verdict != KG_STUN_OK)
            return verdict;
        at += ATTRIBUTE_HEADER + padded(value.len);
    }
    return KG_STUN_OK;
}

const struct kg_stun_value *kg_stun_find(const struct kg_stun_message *message, uint16_t type)
{
    for (size_t i = 0; i < message->count; i++)
        if (message->attribute[i].type == type)
            return &message->attribute[i];
    return NULL;
}

size_t kg_stun_unknown(const struct kg_stun_message *message, uint16_t *out, size_t max)
{
    size_t found = 0;

    for (size_t i = 0; i < message->count && found < max; i++) {
        const struct kg_stun_value *value = &message->attribute[i];
        if (value->type < 0x8000 && kg_stun_attribute_row(value->type) == NULL &&
            kg_stun_find(message, value->type) == value)
            out[found++] = value->type;
    }
    return found;
}

static const struct kg_stun_value *find_sized(const struct kg_stun_message *message, uint16_t type,
                                              size_t len)
{
    const struct kg_stun_value *value = kg_stun_find(message, type);

    return value != NULL && value->len == len ? value : NULL;
}

static bool is_masked(uint16_t type)
{
    const struct kg_stun_attribute_row *row = kg_stun_attribute_row(type);

    return row != NULL && row->shape == KG_STUN_XOR_ADDRESS;
}

/* A host is masked by the cookie and, where it is longer, the transaction id: bytes 4-19 of the header
 * (14.2).
 */
static void mask(uint8_t *host, size_t len, const uint8_t *header)
{
    for (size_t i = 0; i < len; i++)
        host[i] ^= header[4 + i];
}

bool kg_stun_get_address(const struct kg_stun_message *message, uint16_t type, struct kg_addr *out)
{
    const struct kg_stun_value *value = kg_stun_find(message, type);
    struct kg_addr addr = {0};
    uint8_t host[16], *port;
    size_t host_len;

    if (value == NULL || value->len < 4)
        return false;
    host_len = value->len - 4u;
    if (!(value->data[1] == 1 && host_len == 4) && !(value->data[1] == 2 && host_len == 16))
        return false;
    memcpy(host, value->data + 4, host_len);
    if (host_len == 4) {
        addr.in4.sin_family = AF_INET;
        port = (uint8_t *)&addr.in4.sin_port;
    } else {
        addr.in6.sin6_family = AF_INET6;
        port = (uint8_t *)&addr.in6.sin6_port;
    }
    memcpy(port, value->data + 2, 2);
    if (is_masked(type)) {
        mask(port, 2, message->data);
        mask(host, host_len, message->data);
    }
    if (host_len == 4)
        memcpy(&addr.in4.sin_addr, host, 4);
    else
        memcpy(&addr.in6.sin6_addr, host, 16);
    *out = kg_addr_from_sockaddr(&addr.sa);
    return true;
}

bool kg_stun_get_u32(const struct kg_stun_message *message, uint16_t type, uint32_t *out)
{
    const struct kg_stun_value *value = find_sized(message, type, 4);

    if (value == NULL)
        return false;
    *out = kg_read32(value->data);
    return true;
}

bool kg_stun_get_u64(const struct kg_stun_message *message, uint16_t type, uint64_t *out)
{
    const struct kg_stun_value *value = find_sized(message, type, 8);

    if (value == NULL)
        return false;
    *out = kg_read64(value->data);
    return true;
}

bool kg_stun_get_error(const struct kg_stun_message *message, int *code, const char **reason,
                       size_t *reason_len)
{
    const struct kg_stun_value *value = kg_stun_find(message, KG_STUN_ERROR_CODE);
    int class;

    if (value == NULL)
        return false;
    class = value->data[2] & 7;
    if (class < 3 || class > 6 || value->data[3] > 99)
        return false;
    *code = class * 100 + value->data[3];
    if (reason != NULL) {
        *reason = (const char *)value->data + 4;
        *reason_len = value->len - 4u;
    }
    return true;
}

/* ---- writing ---- */

void kg_stun_begin(struct kg_stun_writer *w, void *buf, size_t size, enum kg_stun_class class,
                   uint16_t method, const uint8_t id[static KG_STUN_ID])
{
    *w = (struct kg_stun_writer){.data = buf, .size = size, .full = size < KG_STUN_HEADER};
    if (w->full)
        return;
    kg_write16(w->data, write_type(class, method));
    kg_write16(w->data + 2, 0);
    kg_write32(w->data + 4, KG_STUN_COOKIE);
    memcpy(w->data + 8, id, KG_STUN_ID);
    w->len = KG_STUN_HEADER;
}

/* Returns where the value goes, its padding zeroed and the header's length counting it; NULL: it does not
 * fit.
 */
static uint8_t *append(struct kg_stun_writer *w, uint16_t type, size_t len)
{
    size_t whole = ATTRIBUTE_HEADER + padded(len);
    uint8_t *at;

    if (w->full || len > UINT16_MAX || whole > w->size - w->len ||
        w->len + whole > KG_STUN_HEADER + UINT16_MAX) {
        w->full = true;
        return NULL;
    }
    at = w->data + w->len;
    kg_write16(at, type);
    kg_write16(at + 2, (uint16_t)len);
    memset(at + ATTRIBUTE_HEADER + len, 0, padded(len) - len);
    w->len += whole;
    kg_write16(w->data + 2, (uint16_t)(w->len - KG_STUN_HEADER));
    return at + ATTRIBUTE_HEADER;
}

void kg_stun_put(struct kg_stun_writer *w, uint16_t type, const void *value, size_t len)
{
    uint8_t *at = append(w, type, len);

    if (at != NULL && len > 0)
        memcpy(at, value, len);
}

void kg_stun_put_u32(struct kg_stun_writer *w, uint16_t type, uint32_t value)
{
    uint8_t *at = append(w, type, 4);

    if (at != NULL)
        kg_write32(at, value);
}

void kg_stun_put_u64(struct kg_stun_writer *w, uint16_t type, uint64_t value)
{
    uint8_t *at = append(w, type, 8);

    if (at != NULL)
        kg_write64(at, value);
}

void kg_stun_put_address(struct kg_stun_writer *w, uint16_t type, const struct kg_addr *addr)
{
    bool is4 = kg_addr_family(addr) == AF_INET;
    size_t host_len = is4 ? 4 : 16;
    uint8_t *at;

    if (!kg_addr_is_set(addr)) {
        w->full = true;
        return;
    }
    at = append(w, type, 4 + host_len);
    if (at == NULL)
        return;
    at[0] = 0;
    at[1] = is4 ? 1 : 2;
    kg_write16(at + 2, kg_addr_port(addr));
    if (is4)
        memcpy(at + 4, &addr->in4.sin_addr, 4);
    else
        memcpy(at + 4, &addr->in6.sin6_addr, 16);
    if (is_masked(type)) {
        mask(at + 2, 2, w->data);
        mask(at + 4, host_len, w->data);
    }
}

void kg_stun_put_error(struct kg_stun_writer *w, int code, const char *reason)
{
    size_t len = strlen(reason);
    uint8_t *at = append(w, KG_STUN_ERROR_CODE, 4 + len);

    if (at == NULL)
        return;
    at[0] = at[1] = 0;
    at[2] = (uint8_t)(code / 100);
    at[3] = (uint8_t)(code % 100);
    memcpy(at + 4, reason, len);
}

/* The header's length already counts the attribute, as 14.5 and 14.6 want; its value is not hashed. */
static void put_hmac(struct kg_stun_writer *w, uint16_t type, enum kg_stun_hash hash, const void *key,
                     size_t key_len)
{
    size_t before = w->len;
    uint8_t *at = append(w, type, kg_stun_hash_len(hash));
    struct kg_stun_span span = {w->data, before};

    if (at != NULL && !kg_stun_hmac(hash, key, key_len, &span, 1, at))
        w->full = true;
}

void kg_stun_put_integrity(struct kg_stun_writer *w, const void *key, size_t key_len)
{
    put_hmac(w, KG_STUN_MESSAGE_INTEGRITY, KG_STUN_HASH_SHA1, key, key_len);
}

void kg_stun_put_integrity_sha256(struct kg_stun_writer *w, const void *key, size_t key_len)
{
    put_hmac(w, KG_STUN_MESSAGE_INTEGRITY_SHA256, KG_STUN_HASH_SHA256, key, key_len);
}

void kg_stun_put_fingerprint(struct kg_stun_writer *w)
{
    size_t before = w->len;
    uint8_t *at = append(w, KG_STUN_FINGERPRINT, 4);

    if (at != NULL)
        kg_write32(at, kg_stun_fingerprint(w->data, before));
}

size_t kg_stun_end(struct kg_stun_writer *w)
{
    return w->full ? 0 : w->len;
}
