/* Lines that share one transport (RFC 9143), added to talk_engine.c and talk_text.c: with a browser whose
 * keys end at kedge. Where they do not, the two phones bundle with each other, and kedge's ports for the
 * lines that share stay unused.
 */
#include "b2bua/call/talk.h"

#include <string.h>

/* The text that it was sent, or is to be sent, makes kedge its peer. */
static bool ends_here(struct kg_leg *leg, const struct kg_sdp *sdp, bool offers)
{
    return kg_talk_reader(leg) == KG_SDP_WEB ||
           (offers && !leg->sdp_agreed && kg_sdp_is_web(sdp) && kg_talk_will_end(leg));
}

/* What carries others must be a line that the other side has not rejected: else each line has its own
 * transport. */
static void keep_carried(const struct kg_leg *leg, struct kg_media_side *side)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    if (!other->sdp && !other->sdp_agreed)
        return;
    bool lost = false;
    for (uint8_t i = 0; i < side->stream_count; i++) {
        uint8_t with = side->stream[i].bundle;
        lost |= with != 0 && side->stream[i].enabled && (other->lines.enabled >> i & 1) &&
                !(other->lines.enabled >> (with - 1) & 1);
    }
    for (uint8_t i = 0; lost && i < side->stream_count; i++)
        side->stream[i].bundle = 0;
}

void kg_talk_bundle(struct kg_leg *leg, const struct kg_sdp *sdp, bool offers, struct kg_media_side *side)
{
    if (!ends_here(leg, sdp, offers))
        return;
    kg_sdp_describe_bundle(sdp, side);
    for (uint8_t i = 0; i < side->stream_count; i++) /* kedge speaks no SCTP, and rejects it */
        if (kg_sdp_is_data(sdp, i))
            side->stream[i].enabled = false;
    keep_carried(leg, side);
}

bool kg_talk_unbundles(const struct kg_leg *leg)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    return kg_talk_reader(other) == KG_SDP_WEB && (other->lines.enabled & ~leg->lines.enabled) != 0;
}

void kg_talk_plan_bundle(struct kg_leg *leg, const struct kg_sdp *sdp, const struct kg_sdp_reader *reader,
                         struct kg_sdp_local *local, size_t count)
{
    struct kg_sdp_local planned[KG_MEDIA_STREAMS_MAX];
    struct kg_media_side side;
    uint8_t agreed[KG_MEDIA_STREAMS_MAX] = {0};
    if (reader->kind != KG_SDP_WEB)
        return;
    memset(&side, 0, sizeof side);
    if (reader->said && kg_sdp_describe(reader->said, &side) == 0) {
        kg_sdp_describe_bundle(reader->said, &side);
        keep_carried(leg, &side);
    }
    for (size_t i = 0; i < side.stream_count && i < count; i++)
        agreed[i] = side.stream[i].bundle;
    memcpy(planned, local, count * sizeof *local);
    kg_sdp_plan_bundle(sdp, reader, agreed, planned, count);
    /* An answer says what the engine was told, or that nothing is shared. */
    for (size_t i = 0; reader->answers && i < count; i++)
        if (planned[i].bundle != 0 && planned[i].bundle != (agreed[i] ? agreed[i] : i + 1))
            return;
    memcpy(local, planned, count * sizeof *local);
}
