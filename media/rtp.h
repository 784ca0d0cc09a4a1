/* RTP header parsing (RFC 3550 section 5.1). Pure. */
#ifndef KG_MEDIA_RTP_H
#define KG_MEDIA_RTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KG_RTP_HEADER_MIN 12

struct kg_rtp {
    bool marker;
    uint8_t payload_type; /* 0-127 */
    uint16_t sequence;
    uint32_t timestamp;
    uint32_t ssrc;
    size_t header_len; /* with CSRC list and extension; at most the packet's length */
};

/* Returns 0, or EINVAL (and *out untouched) where version, CSRC count or extension do not fit the length.
 * Padding is not looked at: its count is the last octet, which SRTP encrypts or puts a tag behind (RFC 3711
 * 3.1), and browsers pad to find out how much a path carries. */
int kg_rtp_parse(const uint8_t *data, size_t len, struct kg_rtp *out);

#endif
