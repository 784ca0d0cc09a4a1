#include "ice/stun/attribute.h"

#include <stddef.h>

#include "ice/stun/message.h"

/* Texts of fewer than 128 characters, at most 6 bytes each (RFC 8489 14.8, 14.9, 14.10, 14.14). */
#define TEXT_MAX 763
/* RFC 8489 14.3 says fewer than 509 bytes, but two ICE ufrags of 256 and a colon (RFC 8839 5.4) are a valid
 * name. */
#define USERNAME_MAX 513
#define ANY_MAX      65535

/* Numbers lie in 0x0000-0x003F or 0x8000-0x803F; the table is indexed by the six low bits and the top one. */
#define INDEX(type) (((type)&0x8000) >> 9 | ((type)&0x3F))
#define OUTSIDE     0x7FC0

static const struct kg_stun_attribute_row table[128] = {
    [INDEX(KG_STUN_MAPPED_ADDRESS)] = {"MAPPED-ADDRESS", KG_STUN_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_CHANGE_REQUEST)] = {"CHANGE-REQUEST", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_USERNAME)] = {"USERNAME", KG_STUN_OPAQUE, 0, USERNAME_MAX, 1},
    [INDEX(KG_STUN_MESSAGE_INTEGRITY)] = {"MESSAGE-INTEGRITY", KG_STUN_OPAQUE, 20, 20, 1},
    [INDEX(KG_STUN_ERROR_CODE)] = {"ERROR-CODE", KG_STUN_ERROR_VALUE, 4, 4 + TEXT_MAX, 1},
    [INDEX(KG_STUN_UNKNOWN_ATTRIBUTES)] = {"UNKNOWN-ATTRIBUTES", KG_STUN_OPAQUE, 0, ANY_MAX, 2},
    [INDEX(KG_STUN_CHANNEL_NUMBER)] = {"CHANNEL-NUMBER", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_LIFETIME)] = {"LIFETIME", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_XOR_PEER_ADDRESS)] = {"XOR-PEER-ADDRESS", KG_STUN_XOR_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_DATA_VALUE)] = {"DATA", KG_STUN_OPAQUE, 0, ANY_MAX, 1},
    [INDEX(KG_STUN_REALM)] = {"REALM", KG_STUN_OPAQUE, 0, TEXT_MAX, 1},
    [INDEX(KG_STUN_NONCE)] = {"NONCE", KG_STUN_OPAQUE, 0, TEXT_MAX, 1},
    [INDEX(KG_STUN_XOR_RELAYED_ADDRESS)] = {"XOR-RELAYED-ADDRESS", KG_STUN_XOR_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_REQUESTED_ADDRESS_FAMILY)] = {"REQUESTED-ADDRESS-FAMILY", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_EVEN_PORT)] = {"EVEN-PORT", KG_STUN_OPAQUE, 1, 1, 1},
    [INDEX(KG_STUN_REQUESTED_TRANSPORT)] = {"REQUESTED-TRANSPORT", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_DONT_FRAGMENT)] = {"DONT-FRAGMENT", KG_STUN_FLAG, 0, 0, 1},
    [INDEX(KG_STUN_MESSAGE_INTEGRITY_SHA256)] = {"MESSAGE-INTEGRITY-SHA256", KG_STUN_OPAQUE, 16, 32, 4},
    [INDEX(KG_STUN_PASSWORD_ALGORITHM)] = {"PASSWORD-ALGORITHM", KG_STUN_OPAQUE, 4, ANY_MAX, 1},
    [INDEX(KG_STUN_USERHASH)] = {"USERHASH", KG_STUN_OPAQUE, 32, 32, 1},
    [INDEX(KG_STUN_XOR_MAPPED_ADDRESS)] = {"XOR-MAPPED-ADDRESS", KG_STUN_XOR_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_RESERVATION_TOKEN)] = {"RESERVATION-TOKEN", KG_STUN_U64, 8, 8, 1},
    [INDEX(KG_STUN_PRIORITY)] = {"PRIORITY", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_USE_CANDIDATE)] = {"USE-CANDIDATE", KG_STUN_FLAG, 0, 0, 1},
    [INDEX(KG_STUN_PADDING)] = {"PADDING", KG_STUN_OPAQUE, 0, ANY_MAX, 1},
    /* RFC 5780 7.5: two bytes; some count the two behind them. */
    [INDEX(KG_STUN_RESPONSE_PORT)] = {"RESPONSE-PORT", KG_STUN_OPAQUE, 2, 4, 2},
    [INDEX(KG_STUN_PASSWORD_ALGORITHMS)] = {"PASSWORD-ALGORITHMS", KG_STUN_OPAQUE, 4, ANY_MAX, 4},
    [INDEX(KG_STUN_ALTERNATE_DOMAIN)] = {"ALTERNATE-DOMAIN", KG_STUN_OPAQUE, 0, 255, 1},
    [INDEX(KG_STUN_SOFTWARE)] = {"SOFTWARE", KG_STUN_OPAQUE, 0, TEXT_MAX, 1},
    [INDEX(KG_STUN_ALTERNATE_SERVER)] = {"ALTERNATE-SERVER", KG_STUN_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_FINGERPRINT)] = {"FINGERPRINT", KG_STUN_U32, 4, 4, 1},
    [INDEX(KG_STUN_ICE_CONTROLLED)] = {"ICE-CONTROLLED", KG_STUN_U64, 8, 8, 1},
    [INDEX(KG_STUN_ICE_CONTROLLING)] = {"ICE-CONTROLLING", KG_STUN_U64, 8, 8, 1},
    [INDEX(KG_STUN_RESPONSE_ORIGIN)] = {"RESPONSE-ORIGIN", KG_STUN_ADDRESS, 8, 20, 4},
    [INDEX(KG_STUN_OTHER_ADDRESS)] = {"OTHER-ADDRESS", KG_STUN_ADDRESS, 8, 20, 4},
};

const struct kg_stun_attribute_row *kg_stun_attribute_row(uint16_t type)
{
    const struct kg_stun_attribute_row *row = &table[INDEX(type)];

    return (type & OUTSIDE) != 0 || row->name == NULL ? NULL : row;
}

bool kg_stun_attribute_allows(const struct kg_stun_attribute_row *row, uint16_t len)
{
    return len >= row->min && len <= row->max && len % row->step == 0;
}

const char *kg_stun_attribute_name(uint16_t type)
{
    const struct kg_stun_attribute_row *row = kg_stun_attribute_row(type);

    return row != NULL ? row->name : NULL;
}
