#include "media/rtp.h"

#include <errno.h>

#include "conf/bytes.h"

int kg_rtp_parse(const uint8_t *data, size_t len, struct kg_rtp *out)
{
    if (len < KG_RTP_HEADER_MIN || data[0] >> 6 != 2)
        return EINVAL;
    size_t header = KG_RTP_HEADER_MIN + 4 * (size_t)(data[0] & 0x0f);
    if (header > len)
        return EINVAL;
    if (data[0] & 0x10) { /* section 5.3.1: 16 bits of profile, 16 bits of length in words */
        if (len - header < 4)
            return EINVAL;
        header += 4 + 4 * (size_t)kg_read16(data + header + 2);
        if (header > len)
            return EINVAL;
    }
    *out = (struct kg_rtp){
        .marker = data[1] >> 7,
        .payload_type = data[1] & 0x7f,
        .sequence = kg_read16(data + 2),
        .timestamp = kg_read32(data + 4),
        .ssrc = kg_read32(data + 8),
        .header_len = header,
    };
    return 0;
}
