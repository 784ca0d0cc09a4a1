/* STUN messages of any content. What parses is within its bytes, every getter may be asked, and what is
 * written again from its attributes parses to the same attributes with right integrity and fingerprint. */
#include <stdlib.h>
#include <string.h>

#include "ice/stun/attribute.h"
#include "ice/stun/integrity.h"
#include "ice/stun/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth)
        abort();
}

static int is_seal(uint16_t type)
{
    return type == KG_STUN_MESSAGE_INTEGRITY || type == KG_STUN_MESSAGE_INTEGRITY_SHA256 ||
           type == KG_STUN_FINGERPRINT;
}

static void ask(const struct kg_stun_message *m)
{
    uint16_t unknown[KG_STUN_ATTRIBUTES_MAX];
    const char *reason;
    size_t reason_len;
    int code;

    require(m->count <= KG_STUN_ATTRIBUTES_MAX);
    for (size_t i = 0; i < m->count; i++) {
        const struct kg_stun_value *value = &m->attribute[i];
        struct kg_addr addr;
        uint32_t u32;
        uint64_t u64;

        require(value->data >= m->data + KG_STUN_HEADER && value->data + value->len <= m->data + m->len);
        require(kg_stun_find(m, value->type) != NULL);
        kg_stun_get_u32(m, value->type, &u32);
        kg_stun_get_u64(m, value->type, &u64);
        if (kg_stun_get_address(m, value->type, &addr))
            require(kg_addr_is_set(&addr));
    }
    if (kg_stun_get_error(m, &code, &reason, &reason_len))
        require(code >= 300 && code <= 699 && reason + reason_len <= (const char *)m->data + m->len);
    require(kg_stun_unknown(m, unknown, KG_STUN_ATTRIBUTES_MAX) <= m->count);
    /* Nobody can guess this key. */
    require(kg_stun_check_integrity(m, "a key that no input was made with", 33) != KG_STUN_INTEGRITY_RIGHT);
}

static void write_again(const struct kg_stun_message *m)
{
    static uint8_t buf[1 << 17];
    struct kg_stun_message again;
    struct kg_stun_writer w;
    size_t kept = 0;

    kg_stun_begin(&w, buf, sizeof buf, m->class, m->method, m->id);
    for (size_t i = 0; i < m->count && kept < KG_STUN_ATTRIBUTES_MAX - 3; i++) {
        if (is_seal(m->attribute[i].type))
            continue;
        kg_stun_put(&w, m->attribute[i].type, m->attribute[i].data, m->attribute[i].len);
        kept++;
    }
    kg_stun_put_integrity(&w, "key", 3);
    kg_stun_put_integrity_sha256(&w, "key", 3);
    kg_stun_put_fingerprint(&w);
    if (kg_stun_end(&w) == 0)
        return; /* it was as long as a message can be */
    require(kg_stun_parse(buf, w.len, &again) == KG_STUN_OK);
    require(again.class == m->class && again.method == m->method && memcmp(again.id, m->id, KG_STUN_ID) == 0);
    require(again.count == kept + 3 && again.has_fingerprint);
    require(kg_stun_check_integrity(&again, "key", 3) == KG_STUN_INTEGRITY_RIGHT);
    for (size_t i = 0, j = 0; j < kept; i++) {
        if (is_seal(m->attribute[i].type))
            continue;
        require(again.attribute[j].type == m->attribute[i].type &&
                again.attribute[j].len == m->attribute[i].len);
        require(memcmp(again.attribute[j].data, m->attribute[i].data, again.attribute[j].len) == 0);
        j++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_stun_message m;

    if (kg_stun_parse(data, size, &m) == KG_STUN_OK) {
        require(m.len == size && m.len % 4 == 0);
        ask(&m);
        write_again(&m);
    }
    return 0;
}
