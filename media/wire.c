#include "media/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *arena_alloc(void *arena, size_t size)
{
    return kg_arena_take(arena, size);
}

static void arena_free(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer; /* all at once, by reset */
}

struct kg_arena *kg_arena_new(void)
{
    struct kg_arena *arena = malloc(sizeof *arena); /* untouched pages cost nothing */
    if (arena) {
        arena->used = 0;
        arena->allocator = (ProtobufCAllocator){arena_alloc, arena_free, arena};
    }
    return arena;
}

/* Messages may carry keys. explicit_bzero here, and wherever a whole message is overwritten: as sure as
 * OPENSSL_cleanse, which goes byte by byte, and each call sends some. */
void kg_arena_reset(struct kg_arena *arena)
{
    explicit_bzero(arena->bytes, arena->used);
    arena->used = 0;
}

void kg_arena_free(struct kg_arena *arena)
{
    if (arena)
        kg_arena_reset(arena);
    free(arena);
}

void *kg_arena_take(struct kg_arena *arena, size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > sizeof arena->bytes - arena->used)
        return NULL;
    void *p = arena->bytes + arena->used;
    arena->used += rounded;
    return memset(p, 0, rounded);
}

char *kg_arena_text(struct kg_arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = kg_arena_take(arena, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

Kg__Message *kg_wire_parse(struct kg_arena *arena, const uint8_t *data, size_t len)
{
    kg_arena_reset(arena);
    return kg__message__unpack(&arena->allocator, len, data);
}

Kg__Address *kg_wire_from_addr(struct kg_arena *arena, const struct kg_addr *addr)
{
    Kg__Address *out = kg_addr_is_set(addr) ? kg_arena_take(arena, sizeof *out) : NULL;
    if (out == NULL)
        return NULL;
    kg__address__init(out);
    bool six = kg_addr_family(addr) == AF_INET6;
    size_t len = six ? sizeof addr->in6.sin6_addr : sizeof addr->in4.sin_addr;
    out->host.data = kg_arena_take(arena, len);
    if (out->host.data == NULL)
        return NULL;
    memcpy(out->host.data, six ? (const void *)&addr->in6.sin6_addr : &addr->in4.sin_addr, len);
    out->host.len = len;
    out->port = kg_addr_port(addr);
    out->scope = six ? addr->in6.sin6_scope_id : 0;
    return out;
}

struct kg_addr kg_wire_to_addr(const Kg__Address *address)
{
    struct kg_addr out;
    memset(&out, 0, sizeof out);
    if (address == NULL || address->port > UINT16_MAX)
        return out;
    if (address->host.len == 4) {
        out.in4.sin_family = AF_INET;
        memcpy(&out.in4.sin_addr, address->host.data, 4);
    } else if (address->host.len == 16) {
        out.in6.sin6_family = AF_INET6;
        out.in6.sin6_scope_id = address->scope;
        memcpy(&out.in6.sin6_addr, address->host.data, 16);
    } else {
        return out;
    }
    kg_addr_set_port(&out, (uint16_t)address->port);
    return out;
}

static Kg__Codec *from_codec(struct kg_arena *arena, const struct kg_media_codec *codec)
{
    Kg__Codec *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__codec__init(out);
    out->payload_type = codec->payload_type;
    out->clock_rate = codec->clock_rate;
    out->name = kg_arena_text(arena, codec->name);
    return out->name ? out : NULL;
}

static Kg__Line *from_line(struct kg_arena *arena, const struct kg_media_stream *line)
{
    Kg__Line *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__line__init(out);
    out->enabled = line->enabled;
    out->kind = kg_arena_text(arena, line->kind);
    out->rtp = kg_wire_from_addr(arena, &line->rtp);
    out->rtcp = kg_wire_from_addr(arena, &line->rtcp);
    out->rtcp_mux = line->rtcp_mux;
    out->direction = (uint32_t)line->direction;
    out->ice_use = line->ice_use;
    out->bundle = line->bundle;
    out->mid_extension = line->mid_extension;
    out->mid = kg_arena_text(arena, line->mid);
    if ((line->ice && (out->ice = kg_wire_from_ice(arena, line->ice)) == NULL) || out->mid == NULL ||
        (line->secure && (out->secure = kg_wire_from_secure(arena, line->secure)) == NULL))
        return NULL;
    out->codec = kg_arena_take(arena, KG_MEDIA_CODECS_MAX * sizeof *out->codec);
    if (out->kind == NULL || out->codec == NULL)
        return NULL;
    for (; out->n_codec < line->codec_count && out->n_codec < KG_MEDIA_CODECS_MAX; out->n_codec++) {
        out->codec[out->n_codec] = from_codec(arena, &line->codec[out->n_codec]);
        if (out->codec[out->n_codec] == NULL)
            return NULL;
    }
    return out;
}

Kg__Side *kg_wire_from_side(struct kg_arena *arena, const struct kg_media_side *side)
{
    Kg__Side *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__side__init(out);
    out->signalling = kg_wire_from_addr(arena, &side->signalling);
    out->trusted = side->trusted;
    out->first_packets = side->first_packets;
    out->line = kg_arena_take(arena, KG_MEDIA_STREAMS_MAX * sizeof *out->line);
    if (out->line == NULL)
        return NULL;
    for (; out->n_line < side->stream_count && out->n_line < KG_MEDIA_STREAMS_MAX; out->n_line++) {
        out->line[out->n_line] = from_line(arena, &side->stream[out->n_line]);
        if (out->line[out->n_line] == NULL)
            return NULL;
    }
    return out;
}

static int to_line(struct kg_arena *arena, const Kg__Line *line, struct kg_media_stream *out)
{
    if (line->n_codec > KG_MEDIA_CODECS_MAX)
        return E2BIG;
    if (line->bundle > KG_MEDIA_STREAMS_MAX || line->mid_extension > UINT8_MAX ||
        (line->secure && (out->secure = kg_wire_to_secure(arena, line->secure)) == NULL))
        return EINVAL;
    out->bundle = (uint8_t)line->bundle;
    out->mid_extension = (uint8_t)line->mid_extension;
    snprintf(out->mid, sizeof out->mid, "%s", line->mid);
    out->enabled = line->enabled;
    snprintf(out->kind, sizeof out->kind, "%s", line->kind);
    out->rtp = kg_wire_to_addr(line->rtp);
    out->rtcp = kg_wire_to_addr(line->rtcp);
    out->rtcp_mux = line->rtcp_mux;
    out->direction = (enum kg_direction)(line->direction & KG_SENDRECV);
    out->ice = line->ice ? kg_wire_to_ice(arena, line->ice) : NULL;
    out->ice_use = out->ice && line->ice_use <= KG_ICE_STEER ? (uint8_t)line->ice_use : KG_ICE_UNUSED;
    for (; out->codec_count < line->n_codec; out->codec_count++) {
        const Kg__Codec *from = line->codec[out->codec_count];
        struct kg_media_codec *codec = &out->codec[out->codec_count];
        if (from->payload_type > 127)
            return EINVAL;
        codec->payload_type = (uint8_t)from->payload_type;
        codec->clock_rate = from->clock_rate;
        snprintf(codec->name, sizeof codec->name, "%s", from->name);
    }
    return 0;
}

int kg_wire_to_side(struct kg_arena *arena, const Kg__Side *side, struct kg_media_side *out)
{
    if (side->n_line > KG_MEDIA_STREAMS_MAX)
        return E2BIG;
    memset(out, 0, sizeof *out);
    out->signalling = kg_wire_to_addr(side->signalling);
    out->trusted = side->trusted;
    out->first_packets = side->first_packets;
    for (; out->stream_count < side->n_line; out->stream_count++) {
        int error = to_line(arena, side->line[out->stream_count], &out->stream[out->stream_count]);
        if (error != 0)
            return error;
    }
    return 0;
}

Kg__Stats *kg_wire_from_stats(struct kg_arena *arena, const struct kg_media_stats *stats)
{
    Kg__Stats *out = kg_arena_take(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    kg__stats__init(out);
    out->kind = kg_arena_text(arena, stats->kind);
    out->codec = kg_arena_text(arena, stats->codec);
    if (out->kind == NULL || out->codec == NULL)
        return NULL;
    out->local = kg_wire_from_addr(arena, &stats->local);
    out->remote = kg_wire_from_addr(arena, &stats->remote);
    out->proof = (uint32_t)stats->proof;
    out->packets_in = stats->packets_in;
    out->packets_out = stats->packets_out;
    out->bytes_in = stats->bytes_in;
    out->bytes_out = stats->bytes_out;
    out->dropped = stats->dropped;
    out->lost = stats->lost;
    out->jitter_ms = stats->jitter_ms;
    out->rtt_ms = stats->rtt_ms;
    out->mos = stats->mos;
    out->last_packet_ms_ago = stats->last_packet_ms_ago;
    out->first_packet_ms = stats->first_packet_ms;
    out->ice_use = stats->ice_use;
    out->ice_state = stats->ice_state;
    out->ice_connected_ms = stats->ice_connected_ms;
    out->moves = stats->moves;
    out->move_gap_ms = stats->move_gap_ms;
    out->secure_use = stats->secure_use;
    out->suite = stats->suite;
    out->srtp_bad = stats->srtp_bad;
    out->srtp_replayed = stats->srtp_replayed;
    out->unsent = stats->unsent;
    out->wants_keys = stats->wants_keys;
    return out;
}

void kg_wire_to_stats(const Kg__Stats *stats, struct kg_media_stats *out)
{
    *out = (struct kg_media_stats){
        .local = kg_wire_to_addr(stats->local),
        .remote = kg_wire_to_addr(stats->remote),
        .proof = stats->proof <= KG_PROOF_ICE ? (enum kg_proof)stats->proof : KG_PROOF_NONE,
        .packets_in = stats->packets_in,
        .packets_out = stats->packets_out,
        .bytes_in = stats->bytes_in,
        .bytes_out = stats->bytes_out,
        .dropped = stats->dropped,
        .lost = stats->lost,
        .jitter_ms = stats->jitter_ms,
        .rtt_ms = stats->rtt_ms,
        .mos = stats->mos,
        .last_packet_ms_ago = stats->last_packet_ms_ago,
        .first_packet_ms = stats->first_packet_ms,
        .ice_use = stats->ice_use <= KG_ICE_STEER ? (uint8_t)stats->ice_use : KG_ICE_UNUSED,
        .ice_state = stats->ice_state <= KG_ICE_FAILED ? (uint8_t)stats->ice_state : KG_ICE_NEW,
        .ice_connected_ms = stats->ice_connected_ms,
        .moves = stats->moves,
        .move_gap_ms = stats->move_gap_ms,
        .secure_use = stats->secure_use <= KG_SECURE_DTLS ? (uint8_t)stats->secure_use : KG_SECURE_PASS,
        .suite = stats->suite < KG_SRTP_SUITES ? (uint8_t)stats->suite : KG_SRTP_NONE,
        .srtp_bad = stats->srtp_bad,
        .srtp_replayed = stats->srtp_replayed,
        .unsent = stats->unsent,
        .wants_keys = stats->wants_keys,
    };
    snprintf(out->kind, sizeof out->kind, "%s", stats->kind);
    snprintf(out->codec, sizeof out->codec, "%s", stats->codec);
}

int kg_blob_set(struct kg_blob *blob, const void *data, size_t len)
{
    uint8_t *copy = NULL;
    if (len > 0) {
        copy = malloc(len);
        if (copy == NULL)
            return ENOMEM;
        memcpy(copy, data, len);
    }
    kg_wire_free(blob->data, blob->len);
    *blob = (struct kg_blob){len, copy};
    return 0;
}

void kg_blob_clear(struct kg_blob *blob)
{
    kg_wire_free(blob->data, blob->len);
    *blob = (struct kg_blob){0};
}
