/* Model to what the media engine has to know. */
#include <errno.h>
#include <string.h>

#include "b2bua/sdp/model.h"

#define PAYLOAD_TYPES 128 /* 7 bits (RFC 3550 5.1) */

/* RFC 3551 6, tables 4 and 5. */
static const struct kg_media_codec static_types[] = {
    {0, 8000, "PCMU"},   {3, 8000, "GSM"},   {4, 8000, "G723"},   {5, 8000, "DVI4"},   {6, 16000, "DVI4"},
    {7, 8000, "LPC"},    {8, 8000, "PCMA"},  {9, 8000, "G722"},   {10, 44100, "L16"},  {11, 44100, "L16"},
    {12, 8000, "QCELP"}, {13, 8000, "CN"},   {14, 90000, "MPA"},  {15, 8000, "G728"},  {16, 11025, "DVI4"},
    {17, 22050, "DVI4"}, {18, 8000, "G729"}, {25, 90000, "CelB"}, {26, 90000, "JPEG"}, {28, 90000, "nv"},
    {31, 90000, "H261"}, {32, 90000, "MPV"}, {33, 90000, "MP2T"}, {34, 90000, "H263"},
};

static void copy_text(char *out, size_t size, const char *s, size_t len)
{
    if (len >= size)
        len = size - 1;
    memcpy(out, s, len);
    out[len] = '\0';
}

/* "96 opus/48000/2" (RFC 8866 6.6). Returns false if it is not that. */
static bool rtpmap(const struct kg_sdp_line *line, struct kg_media_codec *out)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    struct kg_sdp_text type = kg_sdp_word(&s, end), encoding = kg_sdp_word(&s, end);
    uint32_t number;
    if (!kg_sdp_number(type.s, type.len, PAYLOAD_TYPES - 1, &number) || encoding.len == 0)
        return false;
    const char *slash = memchr(encoding.s, '/', encoding.len);
    if (!slash || slash == encoding.s)
        return false;
    const char *rate = slash + 1, *stop = encoding.s + encoding.len;
    const char *channels = memchr(rate, '/', (size_t)(stop - rate));
    size_t digits = (size_t)((channels ? channels : stop) - rate);
    if (!kg_sdp_number(rate, digits, UINT32_MAX, &out->clock_rate) || out->clock_rate == 0)
        return false;
    out->payload_type = (uint8_t)number;
    copy_text(out->name, sizeof(out->name), encoding.s, (size_t)(slash - encoding.s));
    return true;
}

/* One pass over a=rtpmap into a table by payload type, one over the formats: never lines times formats. A
 * dynamic type without a=rtpmap has no known clock and is left out. */
static void codecs(const struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_media_stream *out)
{
    const struct kg_sdp_line *map[PAYLOAD_TYPES] = {0};
    struct kg_media_codec codec;
    for (size_t i = m->first; i < m->end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        if (line->type == 'a' && line->attribute == KG_SDP_RTPMAP && rtpmap(line, &codec))
            map[codec.payload_type] = line;
    }
    const char *s = m->formats.s, *end = s + m->formats.len;
    while (out->codec_count < KG_MEDIA_CODECS_MAX) {
        struct kg_sdp_text word = kg_sdp_word(&s, end);
        uint32_t type;
        if (word.len == 0)
            break;
        if (!kg_sdp_number(word.s, word.len, PAYLOAD_TYPES - 1, &type))
            continue;
        if (map[type]) {
            rtpmap(map[type], &out->codec[out->codec_count++]);
            continue;
        }
        for (size_t i = 0; i < sizeof(static_types) / sizeof(static_types[0]); i++) {
            if (static_types[i].payload_type == type)
                out->codec[out->codec_count++] = static_types[i];
        }
    }
}

/* RFC 5761 5.1.1: with mux one port; RFC 3605: a=rtcp; else RFC 3550 11: the next port. */
static void addresses(const struct kg_sdp_media *m, struct kg_media_stream *out)
{
    struct kg_addr host = m->connection.host;
    out->rtcp_mux = m->rtcp_mux && m->rtp;
    if (!kg_addr_is_set(&host))
        return;
    kg_addr_set_port(&host, m->port);
    out->rtp = host;
    if (out->rtcp_mux) {
        out->rtcp = out->rtp;
    } else if (m->rtcp_port != 0) {
        out->rtcp = kg_addr_is_set(&m->rtcp_host) ? m->rtcp_host : host;
        kg_addr_set_port(&out->rtcp, m->rtcp_port);
    } else if (m->port < 65535) {
        out->rtcp = host;
        kg_addr_set_port(&out->rtcp, (uint16_t)(m->port + 1));
    }
}

int kg_sdp_describe(const struct kg_sdp *sdp, struct kg_media_side *out)
{
    if (sdp->media_count > KG_MEDIA_STREAMS_MAX)
        return E2BIG;
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_media *m = &sdp->media[i];
        struct kg_media_stream *stream = &out->stream[i];
        memset(stream, 0, sizeof(*stream));
        copy_text(stream->kind, sizeof(stream->kind), m->kind.s, m->kind.len);
        stream->enabled = m->enabled;
        stream->direction = m->direction;
        if (!m->enabled)
            continue;
        addresses(m, stream);
        stream->ice = m->does_ice ? &m->ice : NULL;
        if (m->rtp)
            codecs(sdp, m, stream);
    }
    out->stream_count = (uint8_t)sdp->media_count;
    return 0;
}

bool kg_sdp_offers_tcp(const struct kg_sdp *sdp)
{
    for (size_t i = 0; i < sdp->media_count; i++)
        if (!sdp->media[i].enabled && sdp->media[i].port != 0)
            return true;
    return false;
}

struct kg_addr kg_sdp_host(const struct kg_sdp *sdp)
{
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (sdp->media[i].enabled)
            return sdp->media[i].connection.host;
    }
    return (struct kg_addr){0};
}
