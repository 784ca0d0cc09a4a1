/* Numbers and bytes as digits, without printf: for the texts that each call costs. */
#ifndef KG_CONF_DIGITS_H
#define KG_CONF_DIGITS_H

#include <stddef.h>
#include <stdint.h>

#define KG_DECIMAL_MAX 20 /* digits of UINT64_MAX */

/* Returns how many digits were written, at most KG_DECIMAL_MAX; no NUL. */
static inline size_t kg_decimal(char *out, uint64_t value)
{
    char digits[KG_DECIMAL_MAX];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    for (size_t i = 0; i < count; i++)
        out[i] = digits[count - 1 - i];
    return count;
}

/* Two lower-case digits a byte, and NUL: 2 * len + 1 characters. Returns out. */
static inline char *kg_hex(char *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

/* 0 to 15, in either case; -1: it is no such digit. */
static inline int kg_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

#endif
