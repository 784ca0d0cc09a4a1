/* Which protocol a datagram on a media port belongs to, by its first bytes (RFC 7983 section 7, RFC 5761
 * section 4). */
#ifndef KG_MEDIA_DEMUX_H
#define KG_MEDIA_DEMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kg_packet_kind {
    KG_PACKET_OTHER, /* empty, or a first byte that RFC 7983 assigns to nobody */
    KG_PACKET_STUN,
    KG_PACKET_ZRTP,
    KG_PACKET_DTLS,
    KG_PACKET_TURN_CHANNEL,
    KG_PACKET_RTP,
    KG_PACKET_RTCP,
};

/* Says what the bytes claim to be, not that they are valid. */
enum kg_packet_kind kg_demux(const uint8_t *data, size_t len);
/* KG_PACKET_DTLS, KG_PACKET_ZRTP: begins as a record of RFC 6347 4.1, a packet of RFC 6189 5. */
bool kg_demux_is_handshake(const uint8_t *data, size_t len, enum kg_packet_kind kind);

#endif
