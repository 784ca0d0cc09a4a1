/* Big-endian reads for the packet parsers. The caller has checked the length. */
#ifndef KG_MEDIA_BYTES_H
#define KG_MEDIA_BYTES_H

#include <stdint.h>

static inline uint16_t kg_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t kg_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
