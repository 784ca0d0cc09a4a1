#include "media/rtcp.h"

#include <errno.h>
#include <string.h>

#include "conf/bytes.h"

enum { SR = 200, RR = 201, SDES = 202, BYE = 203, RTPFB = 205, PSFB = 206 };
enum { HEADER = 4, SSRC = 4, SENDER_INFO = 20, REPORT_BLOCK = 24 };

static void take_reports(struct kg_rtcp *out, const uint8_t *block, unsigned count)
{
    for (unsigned i = 0; i < count && out->reports < KG_RTCP_REPORTS_MAX; i++, block += REPORT_BLOCK) {
        uint32_t lost = kg_read32(block + 4) & 0xffffff;
        out->report[out->reports++] = (struct kg_rtcp_report){
            .ssrc = kg_read32(block),
            .fraction = block[4],
            .lost = lost & 0x800000 ? (int32_t)lost - 0x1000000 : (int32_t)lost,
            .highest = kg_read32(block + 8),
            .jitter = kg_read32(block + 12),
            .last_sr = kg_read32(block + 16),
            .since_sr = kg_read32(block + 20),
        };
    }
}

/* One packet of the compound, whole: size bytes with its header, padding already taken off. */
static int take_packet(struct kg_rtcp *out, const uint8_t *p, size_t size)
{
    unsigned count = p[0] & 0x1f;
    size_t need = HEADER;
    switch (p[1]) {
    case SR:
        need += SSRC + SENDER_INFO + (size_t)count * REPORT_BLOCK;
        break;
    case RR:
        need += SSRC + (size_t)count * REPORT_BLOCK;
        break;
    case SDES: /* a chunk is at least an SSRC and a terminating word */
        need += (size_t)count * 8;
        break;
    case BYE:
        need += (size_t)count * SSRC;
        break;
    default: /* APP, feedback, XR: all begin with an SSRC */
        need += SSRC;
        break;
    }
    if (size < need)
        return EINVAL;
    if (p[1] == SR) {
        out->has_sr = true;
        out->sr_ssrc = kg_read32(p + 4);
        out->sr_ntp_middle = (uint32_t)kg_read16(p + 10) << 16 | kg_read16(p + 12);
        take_reports(out, p + HEADER + SSRC + SENDER_INFO, count);
    } else if (p[1] == RR) {
        take_reports(out, p + HEADER + SSRC, count);
    } else if (p[1] == BYE) {
        out->has_bye = true;
    }
    return 0;
}

int kg_rtcp_parse(const uint8_t *data, size_t len, struct kg_rtcp *out)
{
    struct kg_rtcp found = {0};
    if (len < HEADER + SSRC)
        return EINVAL;
    for (size_t at = 0; at < len;) {
        const uint8_t *p = data + at;
        if (len - at < HEADER || p[0] >> 6 != 2 || p[1] < 192 || p[1] > 223)
            return EINVAL;
        size_t size = 4 * ((size_t)kg_read16(p + 2) + 1);
        if (size > len - at)
            return EINVAL;
        size_t used = size;
        if (p[0] & 0x20) { /* RFC 3550 6.4.1: only the last packet may be padded, in whole words */
            uint8_t padding = p[size - 1];
            if (at + size != len || padding == 0 || padding % 4 != 0 || padding > size - HEADER)
                return EINVAL;
            used -= padding;
        }
        if (at == 0)
            found.starts_with_report = p[1] == SR || p[1] == RR;
        if (take_packet(&found, p, used) != 0)
            return EINVAL;
        at += size;
    }
    *out = found;
    return 0;
}

size_t kg_rtcp_without_feedback(uint8_t *data, size_t len)
{
    size_t kept = 0;
    for (size_t at = 0; at + HEADER <= len;) {
        size_t size = 4 * ((size_t)kg_read16(data + at + 2) + 1);
        if (size > len - at)
            return 0;
        if (data[at + 1] != RTPFB && data[at + 1] != PSFB) {
            if (kept != at)
                memmove(data + kept, data + at, size);
            kept += size;
        }
        at += size;
    }
    return kept > 0 && (data[1] == SR || data[1] == RR) ? kept : 0;
}
