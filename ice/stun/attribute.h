/* The table of STUN attributes: what kedge knows of each. Used by the reader and the writer. */
#ifndef KG_ICE_STUN_ATTRIBUTE_H
#define KG_ICE_STUN_ATTRIBUTE_H

#include <stdbool.h>
#include <stdint.h>

enum kg_stun_shape {
    KG_STUN_OPAQUE, /* bytes or text */
    KG_STUN_FLAG,   /* no value */
    KG_STUN_U32,
    KG_STUN_U64,
    KG_STUN_ADDRESS,     /* family, port, host as they are (RFC 8489 14.1) */
    KG_STUN_XOR_ADDRESS, /* masked (14.2) */
    KG_STUN_ERROR_VALUE, /* class, number, reason (14.8) */
};

struct kg_stun_attribute_row {
    const char *name;
    enum kg_stun_shape shape;
    uint16_t min, max; /* bytes of the value without padding */
    uint8_t step;      /* the length is a multiple of it */
};

/* NULL: not in the table. */
const struct kg_stun_attribute_row *kg_stun_attribute_row(uint16_t type);
bool kg_stun_attribute_allows(const struct kg_stun_attribute_row *row, uint16_t len);

#endif
