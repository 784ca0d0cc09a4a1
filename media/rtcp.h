/* RTCP validation and the two facts we take from it: sender reports and report blocks (RFC 3550 section 6.4).
 * Pure. */
#ifndef KG_MEDIA_RTCP_H
#define KG_MEDIA_RTCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Report blocks kept of one compound packet; the rest is validated and skipped. */
#define KG_RTCP_REPORTS_MAX 4
#define KG_RTCP_HEADER      8 /* and the sender's SSRC */

struct kg_rtcp_report {
    uint32_t ssrc;     /* whose stream is reported on */
    uint8_t fraction;  /* lost since the last report, 1/256 */
    int32_t lost;      /* cumulative, 24 bit signed */
    uint32_t highest;  /* extended sequence number */
    uint32_t jitter;   /* timestamp units */
    uint32_t last_sr;  /* middle 32 bits of the NTP time of the last SR; 0: none */
    uint32_t since_sr; /* 1/65536 s between that SR's arrival and this report */
};

struct kg_rtcp {
    bool starts_with_report; /* SR or RR first, as RFC 3550 6.1 wants of a compound packet */
    bool has_sr;
    uint32_t sr_ssrc;
    uint32_t sr_ntp_middle;
    bool has_bye;
    uint8_t reports;
    struct kg_rtcp_report report[KG_RTCP_REPORTS_MAX];
};

/* Returns 0, or EINVAL (and *out untouched) unless every packet of the compound is whole: version 2, a type
 * of RFC 5761's range, lengths that add up to len exactly, counts that fit, padding only in the last packet.
 * A reduced-size packet (RFC 5506) is valid with starts_with_report false. */
int kg_rtcp_parse(const uint8_t *data, size_t len, struct kg_rtcp *out);

/* Takes feedback (RFC 4585 6: NACK, PLI, FIR, REMB, transport-cc ...) out of a valid compound, for a side
 * whose profile knows none; it must ignore other types that it does not know (RFC 3550 6). Returns what is
 * left in bytes; 0: nothing that may be sent to such a side, which knows no reduced-size RTCP either (RFC
 * 5506 4.1). */
size_t kg_rtcp_without_feedback(uint8_t *data, size_t len);

#endif
