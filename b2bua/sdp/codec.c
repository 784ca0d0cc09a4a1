/* Codecs: those of an m-line, and what two descriptions have in common. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
    kg_sdp_copy(out->name, sizeof(out->name), encoding.s, (size_t)(slash - encoding.s));
    return true;
}

/* One pass over a=rtpmap into a table by payload type, one over the formats: never lines times formats. A
 * dynamic type without a=rtpmap has no known clock and is left out. */
void kg_sdp_codecs(const struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_media_stream *out)
{
    struct kg_media_codec mapped[PAYLOAD_TYPES];
    bool is_mapped[PAYLOAD_TYPES] = {0};
    for (size_t i = m->first; i < m->end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        struct kg_media_codec codec = {0};
        if (line->type == 'a' && line->attribute == KG_SDP_RTPMAP && rtpmap(line, &codec)) {
            mapped[codec.payload_type] = codec;
            is_mapped[codec.payload_type] = true;
        }
    }
    const char *s = m->formats.s, *end = s + m->formats.len;
    while (out->codec_count < KG_MEDIA_CODECS_MAX) {
        struct kg_sdp_text word = kg_sdp_word(&s, end);
        uint32_t type;
        if (word.len == 0)
            break;
        if (!kg_sdp_number(word.s, word.len, PAYLOAD_TYPES - 1, &type))
            continue;
        if (is_mapped[type]) {
            out->codec[out->codec_count++] = mapped[type];
            continue;
        }
        for (size_t i = 0; i < sizeof(static_types) / sizeof(static_types[0]); i++) {
            if (static_types[i].payload_type == type)
                out->codec[out->codec_count++] = static_types[i];
        }
    }
}

/* What carries no speech or picture of its own. */
static bool is_helper(const struct kg_media_codec *codec)
{
    static const char *const names[] = {"telephone-event", "CN",         "red",    "rtx",
                                        "ulpfec",          "flexfec-03", "flexfec"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(codec->name, names[i]) == 0)
            return true;
    return false;
}

/* All codecs of one kind of media; each once. */
struct list {
    struct kg_media_codec codec[KG_MEDIA_CODECS_MAX];
    uint8_t count;
    bool present; /* an enabled line of that kind is there */
};

static bool is_same(const struct kg_media_codec *a, const struct kg_media_codec *b)
{
    return a->clock_rate == b->clock_rate && strcasecmp(a->name, b->name) == 0;
}

static bool has(const struct list *list, const struct kg_media_codec *codec)
{
    for (uint8_t i = 0; i < list->count; i++)
        if (is_same(&list->codec[i], codec))
            return true;
    return false;
}

static void collect(const struct kg_sdp *sdp, const char *kind, struct list *out)
{
    struct kg_media_stream stream;
    out->count = 0;
    out->present = false;
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_media *m = &sdp->media[i];
        if ((!m->enabled && !m->bundled) || !m->rtp ||
            !kg_sdp_text_equal(m->kind, (struct kg_sdp_text){kind, (uint16_t)strlen(kind)}))
            continue;
        out->present = true;
        stream.codec_count = 0;
        kg_sdp_codecs(sdp, m, &stream);
        for (uint8_t c = 0; c < stream.codec_count && out->count < KG_MEDIA_CODECS_MAX; c++)
            if (!is_helper(&stream.codec[c]) && !has(out, &stream.codec[c]))
                out->codec[out->count++] = stream.codec[c];
    }
}

/* "opus, PCMU": names are a phone's words: others than letters, digits and -_. become "?". */
static size_t put_names(const struct list *list, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (uint8_t i = 0; i < list->count && n < size; i++) {
        char name[sizeof(list->codec[i].name)];
        snprintf(name, sizeof(name), "%s", list->codec[i].name);
        for (char *c = name; *c; c++)
            if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", *c))
                *c = '?';
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", name);
    }
    if (list->count == 0)
        snprintf(out, size, "none that kedge knows");
    return n;
}

size_t kg_sdp_codec_names(const struct kg_sdp *sdp, char *out, size_t size)
{
    struct list list;
    collect(sdp, "audio", &list);
    put_names(&list, out, size);
    return strlen(out);
}

bool kg_sdp_have_common_codec(const struct kg_sdp *first, const char *a, const struct kg_sdp *second,
                              const char *b, char *error, size_t size)
{
    static const char *const kinds[] = {"audio", "video"};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        struct list one, two;
        char names[2][120];
        bool common = false;
        collect(first, kinds[k], &one);
        collect(second, kinds[k], &two);
        for (uint8_t i = 0; i < one.count; i++)
            common |= has(&two, &one.codec[i]);
        if (common || !one.present || !two.present)
            continue;
        put_names(&one, names[0], sizeof(names[0]));
        put_names(&two, names[1], sizeof(names[1]));
        snprintf(error, size, "no common %s codec: %s has %s; %s has %s", kinds[k], a, names[0], b, names[1]);
        return false;
    }
    return true;
}
