/* What the other side reads of WebRTC (RFC 8829): as it was written, nothing, or what a browser has to find.
 */
#include <stdio.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

bool kg_sdp_web_is_on(const struct kg_sdp_part *part)
{
    const struct kg_sdp_media *m = part->media;
    enum kg_sdp_kind kind = part->reader->kind;
    if (kg_addr_port(&part->local->rtp) == 0)
        return false;
    if (kg_sdp_media_is_data(m) && (kind != KG_SDP_LIKE_WRITER || part->local->keys == KG_SDP_KEYS_OURS))
        return false;
    if (kind == KG_SDP_WEB && !m->rtp)
        return false;
    return m->enabled || (m->bundled && kind != KG_SDP_LIKE_WRITER);
}

/* RFC 3264 6.1. Phones answer sendrecv to whoever holds them; a browser refuses the whole answer then. */
enum kg_direction kg_sdp_web_direction(const struct kg_sdp_part *part)
{
    const struct kg_sdp_reader *reader = part->reader;
    unsigned way = part->media->direction, offered;
    if (reader->kind != KG_SDP_WEB || !reader->answers || !reader->said ||
        part->number >= reader->said->media_count)
        return (enum kg_direction)way;
    offered = reader->said->media[part->number].direction;
    if (!(offered & KG_SENDONLY))
        way &= ~(unsigned)KG_RECVONLY;
    if (!(offered & KG_RECVONLY))
        way &= ~(unsigned)KG_SENDONLY;
    return (enum kg_direction)way;
}

/* In packets they are the writer's names, which the reader does not know (RFC 8852, 9143 15.2). */
static bool is_mid_or_rid(const struct kg_sdp_line *line)
{
    static const char prefix[] = "urn:ietf:params:rtp-hdrext:sdes:";
    const char *s = line->value + line->argument, *end = line->value + line->len;
    kg_sdp_word(&s, end);
    struct kg_sdp_text uri = kg_sdp_word(&s, end);
    return uri.len > sizeof(prefix) - 1 && memcmp(uri.s, prefix, sizeof(prefix) - 1) == 0;
}

/* It needs the transport-wide sequence numbers of an a=extmap. */
static bool is_transport_cc(const struct kg_sdp_line *line)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    kg_sdp_word(&s, end);
    return kg_sdp_text_equal(kg_sdp_word(&s, end), (struct kg_sdp_text){"transport-cc", 12});
}

bool kg_sdp_feedback_passes(const struct kg_sdp_part *part)
{
    if (part->reader->kind == KG_SDP_LIKE_WRITER && part->local->keys == KG_SDP_KEYS_KEEP)
        return true;
    enum kg_sdp_profile profile = kg_sdp_profile_of(kg_sdp_proto(part));
    return profile == KG_SDP_NOT_RTP || kg_sdp_profile_has_feedback(profile);
}

bool kg_sdp_web_passes(const struct kg_sdp_line *line, enum kg_sdp_kind kind)
{
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_GROUP:
    case KG_SDP_MID: /* written anew */
    case KG_SDP_BUNDLE_ONLY:
        return kind == KG_SDP_LIKE_WRITER;
    case KG_SDP_EXTMAP:
        return kind == KG_SDP_LIKE_WRITER || (kind == KG_SDP_WEB && !is_mid_or_rid(line));
    case KG_SDP_RTCP_FB:
        return kind != KG_SDP_LEGACY || !is_transport_cc(line);
    case KG_SDP_WEB_ONLY:
    case KG_SDP_RTCP_MUX_ONLY:
        return kind != KG_SDP_LEGACY;
    default:
        return true;
    }
}

static bool is_taken(const struct kg_sdp *said, struct kg_sdp_text mid)
{
    for (size_t i = 0; said && i < said->media_count; i++)
        if (said->media[i].mid.len == mid.len && memcmp(said->media[i].mid.s, mid.s, mid.len) == 0)
            return true;
    return false;
}

#define MID_ROOM 24 /* digits of a size_t, a letter */

/* The reader's name for an m-line; empty: none. May be in `room`. RFC 8829 5.2.2: an mid stays with its
 * m-line; one whose line was rejected is not used again, also if the line is. New ones are the number of the
 * line, with a letter where the reader has that one already. */
static struct kg_sdp_text mid_of(const struct kg_sdp_reader *reader, size_t number,
                                 char room[static MID_ROOM])
{
    const struct kg_sdp *said = reader->said;
    if (said && number < said->media_count) {
        const struct kg_sdp_media *m = &said->media[number];
        if (reader->answers || (m->mid.len > 0 && (m->port != 0 || m->bundle_only)))
            return m->mid;
    }
    if (reader->answers || reader->kind != KG_SDP_WEB)
        return (struct kg_sdp_text){0};
    struct kg_sdp_text mid = {.s = room};
    mid.len = (uint16_t)snprintf(room, MID_ROOM, "%zu", number);
    for (char letter = 'a'; is_taken(said, mid) && letter <= 'z'; letter++)
        mid.len = (uint16_t)snprintf(room, MID_ROOM, "%zu%c", number, letter);
    return mid;
}

void kg_sdp_web_put_mid(struct kg_sdp_out *out, const struct kg_sdp_part *part)
{
    char room[MID_ROOM];
    if (part->reader->kind == KG_SDP_LIKE_WRITER)
        return;
    struct kg_sdp_text mid = mid_of(part->reader, part->number, room);
    if (mid.len == 0)
        return;
    KG_SDP_PUT(out, "a=mid:");
    kg_sdp_put(out, mid.s, mid.len);
    KG_SDP_PUT(out, "\r\n");
}

/* RFC 9143 7: the line that has the transport stands first. */
void kg_sdp_web_put_group(struct kg_sdp_out *out, const struct kg_sdp *sdp,
                          const struct kg_sdp_reader *reader, const struct kg_sdp_local *local)
{
    bool begun = false;
    if (reader->kind != KG_SDP_WEB)
        return;
    for (int sharing = 0; sharing < 2; sharing++) {
        for (size_t i = 0; i < sdp->media_count; i++) {
            char room[MID_ROOM];
            struct kg_sdp_part part = {.media = &sdp->media[i], .local = &local[i], .reader = reader};
            bool shares = local[i].bundle != i + 1;
            if (local[i].bundle == 0 || shares != sharing || !kg_sdp_web_is_on(&part))
                continue;
            struct kg_sdp_text mid = mid_of(reader, i, room);
            if (mid.len == 0)
                continue;
            if (!begun)
                KG_SDP_PUT(out, "a=group:BUNDLE");
            begun = true;
            KG_SDP_PUT(out, " ");
            kg_sdp_put(out, mid.s, mid.len);
        }
    }
    if (begun)
        KG_SDP_PUT(out, "\r\n");
}
