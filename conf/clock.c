#include "conf/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

int64_t kg_mono_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t kg_mono_ms(void)
{
    return kg_mono_us() / 1000;
}

int64_t kg_wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void kg_random(void *buf, size_t len)
{
    uint8_t *at = buf;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* a guessable nonce or tag would be worse */
        at += got;
        len -= (size_t)got;
    }
}

uint32_t kg_random_u32(void)
{
    uint32_t value;

    kg_random(&value, sizeof value);
    return value;
}

uint16_t kg_random_u16(void)
{
    return (uint16_t)kg_random_u32();
}

void kg_random_hex(char *out, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t raw[32];

    for (size_t i = 0; i < len; i++) {
        if (i % sizeof raw == 0)
            kg_random(raw, sizeof raw);
        out[i] = digits[raw[i % sizeof raw] & 0xf];
    }
    out[len] = '\0';
}
