/* Big-endian numbers in messages. The caller has checked the length. */
#ifndef KG_CONF_BYTES_H
#define KG_CONF_BYTES_H

#include <stdint.h>

static inline uint16_t kg_read16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t kg_read32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t kg_read64(const uint8_t *p)
{
    return (uint64_t)kg_read32(p) << 32 | kg_read32(p + 4);
}

static inline void kg_write16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void kg_write32(uint8_t *p, uint32_t value)
{
    kg_write16(p, (uint16_t)(value >> 16));
    kg_write16(p + 2, (uint16_t)value);
}

static inline void kg_write64(uint8_t *p, uint64_t value)
{
    kg_write32(p, (uint32_t)(value >> 32));
    kg_write32(p + 4, (uint32_t)value);
}

#endif
