/* How good a received stream is: loss and jitter (RFC 3550 A.1, A.3, A.8), and an opinion score (ITU-T
 * G.107). Pure. */
#ifndef KG_MEDIA_QUALITY_H
#define KG_MEDIA_QUALITY_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed is a stream that has not begun. */
struct kg_quality {
    bool begun;
    bool resync; /* the packet before jumped: one that continues it is a restart of the sender */
    bool has_transit;
    uint16_t highest; /* sequence */
    uint16_t resync_at;
    uint32_t ssrc;
    uint32_t cycles;      /* of the sequence number, in 65536 */
    uint32_t base;        /* first sequence number of this run */
    uint32_t received;    /* in this run */
    uint32_t transit;     /* timestamp units */
    uint32_t jitter16;    /* timestamp units * 16 */
    uint32_t clock_rate;  /* Hz, of jitter16 */
    uint64_t lost_before; /* in the runs before this one (SSRC changes, restarts) */
    uint64_t expected_before;
};

/* clock_rate 0: jitter is left alone (events and unknown payload types have no sampling instants to compare).
 */
void kg_quality_packet(struct kg_quality *q, uint32_t ssrc, uint16_t sequence, uint32_t timestamp,
                       uint32_t clock_rate, int64_t now_us);
uint64_t kg_quality_expected(const struct kg_quality *q);
uint64_t kg_quality_lost(const struct kg_quality *q); /* duplicates never make it negative */
double kg_quality_jitter_ms(const struct kg_quality *q);

/* loss: 0..1; rtt_ms negative: unknown. 1.0 to 4.5; the codec's name decides its impairment. */
double kg_quality_mos(const char *codec, double loss, double jitter_ms, double rtt_ms);

#endif
