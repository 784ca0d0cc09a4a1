#include "media/bundle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/bytes.h"
#include "media/rtcp.h"

/* RFC 8285: 4.2 and 4.3. */
#define ONE_BYTE_PROFILE  0xbede
#define TWO_BYTE_PROFILE  0x1000
#define TWO_BYTE_MASK     0xfff0
#define ONE_BYTE_RESERVED 15

static struct kg_leg *leg_of(const struct kg_leg *carrier, unsigned stream)
{
    return &carrier->stream->relay->stream[stream]->leg[carrier->side];
}

/* Of this group: the carrier itself, or carried by it. */
static bool is_member(const struct kg_leg *carrier, unsigned stream)
{
    const struct kg_relay *relay = carrier->stream->relay;
    if (stream >= relay->stream_count || relay->stream[stream] == NULL)
        return false;
    const struct kg_leg *leg = leg_of(carrier, stream);
    return leg->enabled && (leg == carrier || leg->carrier == carrier);
}

/* ---- descriptions ---- */

/* The leg whose transport line i has; NULL: its own. */
static struct kg_leg *carrier_of(const struct kg_relay *relay, enum kg_side side,
                                 const struct kg_media_side *what, unsigned i)
{
    unsigned with = what->stream[i].bundle;
    if (!what->stream[i].enabled || with == 0 || with - 1 == i || with > what->stream_count ||
        with > relay->stream_count || relay->stream[with - 1] == NULL || !what->stream[with - 1].enabled ||
        (what->stream[with - 1].bundle != 0 && what->stream[with - 1].bundle != with))
        return NULL;
    return &relay->stream[with - 1]->leg[side];
}

int kg_bundle_describe(struct kg_relay *relay, enum kg_side side, const struct kg_media_side *what)
{
    bool any = false;
    for (unsigned i = 0; i < relay->stream_count && i < what->stream_count; i++)
        any |= relay->stream[i] && carrier_of(relay, side, what, i);
    if (!any && relay->bundle[side] == NULL)
        return 0;
    if (relay->bundle[side] == NULL && (relay->bundle[side] = calloc(1, sizeof *relay->bundle[side])) == NULL)
        return ENOMEM;
    for (unsigned i = 0; i < relay->stream_count; i++) {
        if (relay->stream[i] == NULL)
            continue;
        struct kg_leg *leg = &relay->stream[i]->leg[side];
        leg->carrier = NULL;
        leg->carries = false;
    }
    for (unsigned i = 0; i < relay->stream_count && i < what->stream_count; i++) {
        if (relay->stream[i] == NULL)
            continue;
        struct kg_leg *leg = &relay->stream[i]->leg[side];
        leg->carrier = carrier_of(relay, side, what, i);
        if (leg->carrier)
            leg->carrier->carries = true;
        leg->mid_extension = what->stream[i].mid_extension;
        memcpy(leg->mid, what->stream[i].mid, sizeof leg->mid);
    }
    return 0;
}

/* ---- who sends ---- */

void kg_bundle_heard(struct kg_leg *carrier, uint32_t ssrc, const struct kg_leg *leg)
{
    struct kg_bundle *bundle = carrier->stream->relay->bundle[carrier->side];
    unsigned i = 0;
    while (i < bundle->count && bundle->heard[i].ssrc != ssrc)
        i++;
    if (i == bundle->count && bundle->count < KG_BUNDLE_SSRC_MAX)
        bundle->count++;
    else if (i == bundle->count)
        i = bundle->next++ % KG_BUNDLE_SSRC_MAX;
    bundle->heard[i].ssrc = ssrc;
    bundle->heard[i].stream = leg->stream->index;
}

static struct kg_leg *by_ssrc(const struct kg_leg *carrier, uint32_t ssrc)
{
    const struct kg_bundle *bundle = carrier->stream->relay->bundle[carrier->side];
    for (unsigned i = 0; i < bundle->count; i++)
        if (bundle->heard[i].ssrc == ssrc && is_member(carrier, bundle->heard[i].stream))
            return leg_of(carrier, bundle->heard[i].stream);
    return NULL;
}

static struct kg_leg *by_mid(const struct kg_leg *carrier, uint8_t id, const uint8_t *value, size_t len)
{
    for (unsigned i = 0; i < carrier->stream->relay->stream_count; i++) {
        if (!is_member(carrier, i))
            continue;
        struct kg_leg *leg = leg_of(carrier, i);
        if (leg->mid_extension == id && strlen(leg->mid) == len && memcmp(leg->mid, value, len) == 0)
            return leg;
    }
    return NULL;
}

static bool is_mid_extension(const struct kg_leg *carrier, uint8_t id)
{
    for (unsigned i = 0; i < carrier->stream->relay->stream_count; i++)
        if (is_member(carrier, i) && leg_of(carrier, i)->mid_extension == id)
            return true;
    return false;
}

/* The MID in one packet's extension block, which kg_rtp_parse has found whole. NULL: it has none, or one of
 * no line. */
static struct kg_leg *named(const struct kg_leg *carrier, const uint8_t *data, const struct kg_rtp *rtp)
{
    if (!(data[0] & 0x10))
        return NULL;
    size_t at = KG_RTP_HEADER_MIN + 4 * (size_t)(data[0] & 0x0f);
    uint16_t profile = kg_read16(data + at);
    bool two = (profile & TWO_BYTE_MASK) == TWO_BYTE_PROFILE;
    if (!two && profile != ONE_BYTE_PROFILE)
        return NULL;
    for (at += 4; at < rtp->header_len;) {
        uint8_t id = two ? data[at] : data[at] >> 4;
        size_t len = 0;
        if (data[at] == 0) { /* padding */
            at++;
            continue;
        }
        if (!two && id == ONE_BYTE_RESERVED)
            return NULL;
        if (two && at + 1 >= rtp->header_len)
            return NULL;
        len = two ? data[at + 1] : (size_t)(data[at] & 0x0f) + 1;
        at += two ? 2 : 1;
        if (len > rtp->header_len - at)
            return NULL;
        if (is_mid_extension(carrier, id))
            return by_mid(carrier, id, data + at, len);
        at += len;
    }
    return NULL;
}

/* The one line whose description, or the other side's, names that payload type. */
static struct kg_leg *by_type(const struct kg_leg *carrier, uint8_t payload_type)
{
    struct kg_leg *found = NULL;
    for (unsigned i = 0; i < carrier->stream->relay->stream_count; i++) {
        if (!is_member(carrier, i) || !kg_leg_negotiated(leg_of(carrier, i), payload_type))
            continue;
        if (found)
            return NULL;
        found = leg_of(carrier, i);
    }
    return found;
}

struct kg_leg *kg_bundle_rtp(const struct kg_leg *carrier, const uint8_t *data, const struct kg_rtp *rtp)
{
    struct kg_leg *leg = named(carrier, data, rtp);
    if (leg == NULL)
        leg = by_ssrc(carrier, rtp->ssrc);
    return leg ? leg : by_type(carrier, rtp->payload_type);
}

/* The line on which the other side sends with that SSRC. */
static struct kg_leg *by_subject(const struct kg_leg *carrier, uint32_t ssrc)
{
    for (unsigned i = 0; i < carrier->stream->relay->stream_count; i++) {
        if (!is_member(carrier, i))
            continue;
        const struct kg_quality *heard =
            &carrier->stream->relay->stream[i]->leg[kg_other_side(carrier->side)].quality;
        if (heard->begun && heard->ssrc == ssrc)
            return leg_of(carrier, i);
    }
    return NULL;
}

struct kg_leg *kg_bundle_rtcp(struct kg_leg *carrier, const uint8_t *data, size_t len)
{
    struct kg_leg *leg = by_ssrc(carrier, kg_read32(data + 4));
    if (leg)
        return leg;
    /* RFC 3550 6.4.2, RFC 4585 6.1: of a receiver report and of feedback the next word is who is spoken of.
     */
    if (data[1] != 200 && len >= KG_RTCP_HEADER + 4)
        leg = by_subject(carrier, kg_read32(data + KG_RTCP_HEADER));
    return leg ? leg : carrier;
}
