/* Clocks and randomness: called at the edges only; the cores get `now` and seeds handed in. */
#ifndef KG_CONF_CLOCK_H
#define KG_CONF_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic time in microseconds or milliseconds: for every timer. */
int64_t kg_mono_us(void);
int64_t kg_mono_ms(void);
/* Milliseconds since 1970: for records shown to people, never for timers. */
int64_t kg_wall_ms(void);

/* Fills buf from the kernel's generator. Aborts if the kernel has none. */
void kg_random(void *buf, size_t len);
uint32_t kg_random_u32(void);
uint16_t kg_random_u16(void);
/* Writes len random lower-case hex digits and a NUL to out (len + 1 bytes). */
void kg_random_hex(char *out, size_t len);

#endif
