/* STUN on a SIP port over UDP: phones that keep their flow open with it (RFC 5626 4.4.2) get their address as
 * answer. */
#include "b2bua/sip/stun.h"

#include "conf/bytes.h"
#include "ice/stun/message.h"

#define UNKNOWN_MAX 16 /* how many a 420 names */

/* What a request asks for and this server does not do: attributes nobody knows, and those of RFC 5780.
 * Big-endian in out, as a 420 lists them. */
static size_t refused(const struct kg_stun_message *request, uint8_t out[static 2 * UNKNOWN_MAX])
{
    static const uint16_t discovery[] = {KG_STUN_CHANGE_REQUEST, KG_STUN_PADDING, KG_STUN_RESPONSE_PORT};
    uint16_t type[UNKNOWN_MAX];
    size_t count = kg_stun_unknown(request, type, UNKNOWN_MAX);
    for (size_t i = 0; i < sizeof discovery / sizeof *discovery && count < UNKNOWN_MAX; i++)
        if (kg_stun_find(request, discovery[i]))
            type[count++] = discovery[i];
    for (size_t i = 0; i < count; i++)
        kg_write16(out + 2 * i, type[i]);
    return count;
}

size_t kg_sip_stun_answer(const void *data, size_t len, const struct kg_addr *source,
                          uint8_t out[static KG_SIP_STUN_MAX])
{
    struct kg_stun_message request;
    struct kg_stun_writer w;
    uint8_t unknown[2 * UNKNOWN_MAX];
    if (kg_stun_parse(data, len, &request) != KG_STUN_OK || request.class != KG_STUN_REQUEST ||
        request.method != KG_STUN_BINDING)
        return 0;
    size_t count = refused(&request, unknown);
    kg_stun_begin(&w, out, KG_SIP_STUN_MAX, count ? KG_STUN_ERROR : KG_STUN_SUCCESS, KG_STUN_BINDING,
                  request.id);
    if (count) {
        kg_stun_put_error(&w, 420, ""); /* no reason phrase: the answer must stay small */
        kg_stun_put(&w, KG_STUN_UNKNOWN_ATTRIBUTES, unknown, 2 * count);
    } else {
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, source);
    }
    if (request.has_fingerprint)
        kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}
