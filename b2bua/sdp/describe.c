/* Model to what the media engine has to know. */
#include <errno.h>
#include <string.h>

#include "b2bua/sdp/model.h"

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

static void describe(const struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_media_stream *out)
{
    out->enabled = true;
    addresses(m, out);
    out->ice = m->does_ice ? &m->ice : NULL;
    if (m->rtp)
        kg_sdp_codecs(sdp, m, out);
}

int kg_sdp_describe(const struct kg_sdp *sdp, struct kg_media_side *out)
{
    if (sdp->media_count > KG_MEDIA_STREAMS_MAX)
        return E2BIG;
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_media *m = &sdp->media[i];
        struct kg_media_stream *stream = &out->stream[i];
        memset(stream, 0, sizeof(*stream));
        kg_sdp_copy(stream->kind, sizeof(stream->kind), m->kind.s, m->kind.len);
        stream->direction = m->direction;
        if (m->mid.len < sizeof(stream->mid)) {
            kg_sdp_copy(stream->mid, sizeof(stream->mid), m->mid.s, m->mid.len);
            stream->mid_extension = m->mid_extension;
        }
        if (m->enabled)
            describe(sdp, m, stream);
    }
    out->stream_count = (uint8_t)sdp->media_count;
    return 0;
}

void kg_sdp_describe_bundle(const struct kg_sdp *sdp, struct kg_media_side *out)
{
    uint8_t line[KG_SDP_MEDIA_MAX];
    size_t count = kg_sdp_bundle_lines(sdp, line);
    const struct kg_media_stream *tag = NULL;
    for (size_t i = 0; i < count && line[i] < out->stream_count; i++) {
        const struct kg_sdp_media *m = &sdp->media[line[i]];
        struct kg_media_stream *stream = &out->stream[line[i]];
        if (!m->enabled && !m->bundled)
            continue;
        if (!tag && m->enabled) {
            tag = stream;
            continue;
        }
        if (!tag)
            continue;
        if (m->bundled)
            describe(sdp, m, stream);
        stream->bundle = (uint8_t)(1 + (tag - out->stream));
        stream->rtp = tag->rtp;
        stream->rtcp = tag->rtcp;
        stream->rtcp_mux = tag->rtcp_mux;
        stream->ice = tag->ice;
    }
}

bool kg_sdp_is_enabled(const struct kg_sdp *sdp, size_t media)
{
    return media < sdp->media_count && sdp->media[media].enabled;
}

const char *kg_sdp_media_kind(const struct kg_sdp *sdp, size_t media, char *out, size_t size)
{
    kg_sdp_copy(out, size, sdp->media[media].kind.s, sdp->media[media].kind.len);
    return out;
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
