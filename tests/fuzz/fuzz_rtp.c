/* Datagrams of any content on both sockets of a latched leg, from the proven source and from a stranger. */
#include <stdlib.h>
#include <string.h>

#include "media/demux.h"
#include "media/relay.h"
#include "media/rtp.h"

static const struct kg_limits limits = {.latch = {.packets = 4, .window_ms = 3000}};

static struct kg_relay *make_relay(void)
{
    struct kg_relay *relay = kg_relay_new(NULL, 0);
    struct kg_stream *stream = kg_stream_new(0, "audio");
    if (relay == NULL || stream == NULL)
        abort();
    kg_relay_add_stream(relay, stream);
    for (unsigned i = 0; i < 2; i++) {
        struct kg_media_side side = {.stream_count = 1};
        struct kg_media_stream *line = &side.stream[0];
        line->enabled = true;
        line->direction = KG_SENDRECV;
        line->codec_count = 1;
        line->codec[0] = (struct kg_media_codec){.payload_type = 0, .clock_rate = 8000, .name = "PCMU"};
        kg_addr_parse("198.51.100.1:4000", &line->rtp);
        kg_addr_parse("198.51.100.1:4001", &line->rtcp);
        side.signalling = line->rtp;
        stream->leg[i].rtp.fd = stream->leg[i].rtcp.fd = 1000;
        if (kg_relay_describe(relay, i, &side, 0) != 0)
            abort();
    }
    return relay;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_rtp rtp;
    if (kg_rtp_parse(data, size, &rtp) == 0 && rtp.header_len > size)
        abort();
    kg_demux(data, size);

    struct kg_relay *relay = make_relay();
    struct kg_leg *leg = &relay->stream[0]->leg[0];
    struct kg_addr source[3];
    kg_addr_parse("198.51.100.1:4000", &source[0]);
    kg_addr_parse("198.51.100.1:4001", &source[1]);
    kg_addr_parse("203.0.113.66:4000", &source[2]);
    for (unsigned i = 0; i < 3; i++) {
        const struct kg_addr *to;
        for (unsigned rtcp = 0; rtcp < 2; rtcp++) {
            struct kg_datagram d = {
                .data = malloc(size + 1), .len = size, .room = size, .source = &source[i]};
            if (d.data == NULL)
                abort();
            memcpy(d.data, data, size);
            struct kg_flow *in = rtcp ? &leg->rtcp : &leg->rtp;
            if (kg_relay_packet(in, &d, &limits, 20000 * (int64_t)i, &to) && i == 2)
                abort(); /* a stranger was relayed */
            free(d.data);
        }
    }
    struct kg_media_stats stats;
    kg_leg_stats(leg, 100, &stats);
    kg_relay_free(relay);
    return 0;
}
