/* Packets and keys for the tests of SRTP. */
#ifndef KG_TESTS_SRTP_PACKETS_H
#define KG_TESTS_SRTP_PACKETS_H

#include <stdint.h>
#include <string.h>

#include "media/keys.h"

enum { ROOM = 1600 };

struct packet {
    uint32_t align;
    uint8_t data[ROOM];
    size_t len;
};

static inline uint32_t random32(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static inline void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

/* payload bytes follow the header; csrc of CSRCs, extension words of 4 bytes (-1: none). */
static inline struct packet rtp_shaped(uint32_t ssrc, uint16_t seq, size_t payload, unsigned csrc,
                                       int extension)
{
    struct packet packet = {0};
    uint64_t state = (uint64_t)ssrc << 16 | seq;
    size_t len = 12 + 4 * csrc;
    packet.data[0] = (uint8_t)(0x80 | csrc | (extension >= 0 ? 0x10 : 0));
    put16(packet.data + 2, seq);
    put32(packet.data + 4, 160u * seq);
    put32(packet.data + 8, ssrc);
    if (extension >= 0) {
        put16(packet.data + len, 0xbede);
        put16(packet.data + len + 2, (uint32_t)extension);
        len += 4 + 4 * (size_t)extension;
    }
    for (size_t i = 0; i < payload; i++)
        packet.data[len + i] = (uint8_t)random32(&state);
    packet.len = len + payload;
    return packet;
}

static inline struct packet rtp(uint32_t ssrc, uint16_t seq)
{
    return rtp_shaped(ssrc, seq, 160, 0, -1);
}

/* A receiver report with blocks report blocks. */
static inline struct packet rtcp(uint32_t ssrc, unsigned blocks)
{
    struct packet packet = {.len = 8 + 24 * blocks};
    uint64_t state = ssrc;
    packet.data[0] = (uint8_t)(0x80 | blocks);
    packet.data[1] = 201;
    put16(packet.data + 2, (uint32_t)(packet.len / 4 - 1));
    put32(packet.data + 4, ssrc);
    for (size_t i = 8; i < packet.len; i++)
        packet.data[i] = (uint8_t)random32(&state);
    return packet;
}

static inline struct kg_srtp_keys keys_of(enum kg_srtp_suite suite, uint64_t seed)
{
    struct kg_srtp_keys keys = {.suite = (uint8_t)suite, .count = 1};
    for (size_t i = 0; i < kg_srtp_suite_key_len(suite); i++)
        keys.key[0].bytes[i] = (uint8_t)random32(&seed);
    return keys;
}

#endif
