#include "media/quality.h"

#include <strings.h>

/* RFC 3550 A.1: a jump beyond these is a restart of the sender, not loss or reordering. */
enum { MAX_DROPOUT = 3000, MAX_MISORDER = 100 };

static void begin(struct kg_quality *q, uint32_t ssrc, uint16_t sequence)
{
    uint64_t lost = kg_quality_lost(q), expected = kg_quality_expected(q);
    *q = (struct kg_quality){.begun = true,
                             .ssrc = ssrc,
                             .highest = sequence,
                             .base = sequence,
                             .received = 1,
                             .jitter16 = q->jitter16,
                             .clock_rate = q->clock_rate,
                             .lost_before = lost,
                             .expected_before = expected};
}

/* RFC 3550 A.1 update_seq without probation: the latch has proven the source already. */
static void count(struct kg_quality *q, uint32_t ssrc, uint16_t sequence)
{
    if (!q->begun || q->ssrc != ssrc) {
        begin(q, ssrc, sequence);
        return;
    }
    uint16_t step = (uint16_t)(sequence - q->highest);
    if (step < MAX_DROPOUT) {
        if (sequence < q->highest)
            q->cycles += 0x10000;
        q->highest = sequence;
    } else if (step <= 0x10000 - MAX_MISORDER) {
        if (q->resync && q->resync_at == sequence) {
            begin(q, ssrc, sequence);
            return;
        }
        q->resync = true;
        q->resync_at = (uint16_t)(sequence + 1);
        return;
    } /* else: late or duplicate */
    q->resync = false;
    q->received++;
}

/* RFC 3550 A.8; arrival in the stream's own timestamp units, all arithmetic modulo 2^32. */
static void measure(struct kg_quality *q, uint32_t timestamp, uint32_t clock_rate, int64_t now_us)
{
    uint64_t us = (uint64_t)now_us;
    uint32_t arrival = (uint32_t)(us / 1000000 * clock_rate + us % 1000000 * clock_rate / 1000000);
    uint32_t transit = arrival - timestamp;
    if (q->has_transit && q->clock_rate == clock_rate) {
        int32_t d = (int32_t)(transit - q->transit);
        uint32_t distance = d < 0 ? 0u - (uint32_t)d : (uint32_t)d;
        /* More than a second is a new timestamp origin, not jitter. */
        if (distance < clock_rate)
            q->jitter16 += distance - ((q->jitter16 + 8) >> 4);
    } else if (q->clock_rate != clock_rate) {
        q->jitter16 = 0;
        q->clock_rate = clock_rate;
    }
    q->transit = transit;
    q->has_transit = true;
}

void kg_quality_packet(struct kg_quality *q, uint32_t ssrc, uint16_t sequence, uint32_t timestamp,
                       uint32_t clock_rate, int64_t now_us)
{
    count(q, ssrc, sequence);
    if (clock_rate != 0)
        measure(q, timestamp, clock_rate, now_us);
}

static uint64_t run_expected(const struct kg_quality *q)
{
    return q->begun ? (uint64_t)(q->cycles + q->highest - q->base) + 1 : 0;
}

uint64_t kg_quality_expected(const struct kg_quality *q)
{
    return q->expected_before + run_expected(q);
}

uint64_t kg_quality_lost(const struct kg_quality *q)
{
    uint64_t expected = run_expected(q);
    return q->lost_before + (expected > q->received ? expected - q->received : 0);
}

double kg_quality_jitter_ms(const struct kg_quality *q)
{
    return q->clock_rate ? q->jitter16 / 16.0 * 1000.0 / q->clock_rate : 0.0;
}

/* Equipment impairment and robustness to random loss: ITU-T G.113 appendix I where it has the codec; G.722
 * and Opus are wideband codecs rated here on the narrowband scale (estimates: no worse than G.711, Opus
 * conceals loss well). */
static const struct {
    const char *name;
    double ie, bpl;
} impairment[] = {
    {"PCMU", 0, 25.1}, {"PCMA", 0, 25.1},  {"G722", 0, 25.1}, {"opus", 0, 25.1},  {"G729", 11, 19.0},
    {"GSM", 20, 10.0}, {"G723", 15, 16.1}, {"AMR", 5, 10.0},  {"iLBC", 11, 32.0}, {"speex", 11, 20.0},
};
static const double ie_default = 10, bpl_default = 15;

/* The path's delay, the receiver's jitter buffer (twice the jitter) and one 20 ms frame. */
static double mouth_to_ear_ms(double jitter_ms, double rtt_ms)
{
    return (rtt_ms > 0 ? rtt_ms / 2 : 0) + 2 * jitter_ms + 20;
}

double kg_quality_mos(const char *codec, double loss, double jitter_ms, double rtt_ms)
{
    double ie = ie_default, bpl = bpl_default;
    for (unsigned i = 0; i < sizeof impairment / sizeof impairment[0]; i++) {
        if (strcasecmp(impairment[i].name, codec) == 0) {
            ie = impairment[i].ie;
            bpl = impairment[i].bpl;
        }
    }
    /* G.107 (7-8): effective impairment with random loss (BurstR 1), loss in percent. */
    double percent = (loss < 0 ? 0 : loss > 1 ? 1 : loss) * 100;
    double ie_effective = ie + (95 - ie) * percent / (percent + bpl);
    double delay = mouth_to_ear_ms(jitter_ms, rtt_ms);
    double id = 0.024 * delay + (delay > 177.3 ? 0.11 * (delay - 177.3) : 0);
    double r = 93.2 - id - ie_effective;
    if (r <= 0)
        return 1.0;
    if (r > 100)
        r = 100;
    /* G.107 annex B */
    double mos = 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6;
    return mos < 1 ? 1.0 : mos;
}
