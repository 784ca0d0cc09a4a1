/* SipHash-2-4 (Aumasson, Bernstein): a keyed hash for tables that strangers fill. Who does not know the key
 * cannot aim at one place of the table. */
#ifndef KG_GUARD_SIPHASH_H
#define KG_GUARD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t kg_siphash(const uint8_t key[static 16], const void *data, size_t len);

#endif
