/* Which RTP port pairs are free: even port for RTP, the odd one above for RTCP. Random choice, quarantine
 * after use. Pure: opens nothing; now and randomness are handed in. */
#ifndef KG_MEDIA_PORTS_H
#define KG_MEDIA_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kg_ports;

/* A pair rests at least so long, and longer (the quarantine) while any other is free: at high call rates a
 * full range would refuse calls for the sake of packets that latching refuses anyway. */
#define KG_PORTS_REST_MIN_MS 1000

/* Ports of [min, max]; quarantine_ms: how long a released pair rests. Returns NULL without memory. */
struct kg_ports *kg_ports_new(uint16_t min, uint16_t max, uint32_t quarantine_ms);
void kg_ports_free(struct kg_ports *ports);
/* Pairs in use stay in use, whether or not the new range has them. */
void kg_ports_configure(struct kg_ports *ports, uint16_t min, uint16_t max, uint32_t quarantine_ms);

/* A random free pair's even port, or 0: all are in use or were released just now. O(1). */
uint16_t kg_ports_take(struct kg_ports *ports, uint32_t random, int64_t now_ms);
/* This very pair, even while it rests or is outside of the range (a session made again after a restart).
 * Returns 0, EADDRINUSE, or EINVAL for an odd port or 0. */
int kg_ports_take_exactly(struct kg_ports *ports, uint16_t port);
void kg_ports_release(struct kg_ports *ports, uint16_t port, int64_t now_ms);

size_t kg_ports_in_use(const struct kg_ports *ports);

#endif
