#include "media/demux.h"

#include "conf/bytes.h"

enum kg_packet_kind kg_demux(const uint8_t *data, size_t len)
{
    if (len == 0)
        return KG_PACKET_OTHER;
    uint8_t first = data[0];
    if (first >= 128 && first <= 191) {
        /* RFC 5761 section 4: RTCP packet types 192-223 are RTP payload types 64-95 with the marker set. */
        if (len >= 2 && data[1] >= 192 && data[1] <= 223)
            return KG_PACKET_RTCP;
        return KG_PACKET_RTP;
    }
    if (first <= 3)
        return KG_PACKET_STUN;
    if (first >= 16 && first <= 19)
        return KG_PACKET_ZRTP;
    if (first >= 20 && first <= 63)
        return KG_PACKET_DTLS;
    if (first >= 64 && first <= 79)
        return KG_PACKET_TURN_CHANNEL;
    return KG_PACKET_OTHER;
}

bool kg_demux_is_handshake(const uint8_t *data, size_t len, enum kg_packet_kind kind)
{
    enum { RECORD_HEADER = 13, HANDSHAKE = 22, ZRTP_HEADER = 12 };
    if (kind == KG_PACKET_DTLS)
        return len > RECORD_HEADER && data[0] == HANDSHAKE && data[1] == 0xfe &&
               (size_t)kg_read16(data + 11) <= len - RECORD_HEADER;
    return kind == KG_PACKET_ZRTP && len > ZRTP_HEADER && kg_read32(data + 4) == 0x5a525450; /* "ZRTP" */
}
