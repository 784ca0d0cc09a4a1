/* Lines that share one transport on a side (RFC 9143): the sockets, ICE, keys and latch of the group's first
 * line, its carrier. Whose packet it is, is found out after it was opened. The worker's, as the relay is. */
#ifndef KG_MEDIA_BUNDLE_H
#define KG_MEDIA_BUNDLE_H

#include "media/relay.h"
#include "media/rtp.h"

/* SSRCs whose line is remembered on a side; the oldest makes room. */
#define KG_BUNDLE_SSRC_MAX 16

struct kg_bundle {
    uint8_t count, next;
    struct {
        uint32_t ssrc;
        uint8_t stream;
    } heard[KG_BUNDLE_SSRC_MAX];
};

/* Takes what a description says of shared transports, after the legs were described. 0, or ENOMEM: as
 * without. */
int kg_bundle_describe(struct kg_relay *relay, enum kg_side side, const struct kg_media_side *what);

/* RFC 9143 9.2: by MID (RFC 8285 header extension), else by an SSRC that was told apart before, else by a
 * payload type that one line alone has. NULL: no line's. Nothing is remembered of it. */
struct kg_leg *kg_bundle_rtp(const struct kg_leg *carrier, const uint8_t *data, const struct kg_rtp *rtp);
/* Its source was believed: that SSRC is `leg`'s. */
void kg_bundle_heard(struct kg_leg *carrier, uint32_t ssrc, const struct kg_leg *leg);
/* By its sender; else by whom it speaks of, which the other side sent. The carrier, if neither is known. */
struct kg_leg *kg_bundle_rtcp(struct kg_leg *carrier, const uint8_t *data, size_t len);

#endif
