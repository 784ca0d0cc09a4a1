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
    size_t header_len;  /* with CSRC list and extension */
    size_t payload_len; /* without padding; may be 0 */
};

/* Returns 0, or EINVAL (and *out untouched) where version, CSRC count, extension or padding do not fit the
 * length. */
int kg_rtp_parse(const uint8_t *data, size_t len, struct kg_rtp *out);

#endif
