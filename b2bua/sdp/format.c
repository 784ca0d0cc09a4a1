/* Payload types that a reader without WebRTC does not get: browsers offer thirty for a camera, most of them
 * for repair that needs RTCP feedback, or one codec in many profiles, and the text has to fit into a
 * datagram. */
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/rewrite.h"

#define TYPES 128

/* What an m-line says of one payload type. */
struct format {
    struct kg_sdp_text name; /* of its a=rtpmap; empty: none */
    bool baseline;           /* H264: constrained baseline, which all phones with video have (RFC 6184 8.1) */
    size_t bytes;            /* of all its lines */
};

static bool is(const struct format *format, const char *name)
{
    return format->name.len == strlen(name) && strncasecmp(format->name.s, name, format->name.len) == 0;
}

static bool contains(const struct kg_sdp_line *line, const char *what)
{
    return memmem(line->value, line->len, what, strlen(what)) != NULL;
}

/* a=rtpmap, a=fmtp and a=rtcp-fb begin with it; TYPES: this line does not. */
static uint32_t type_of(const struct kg_sdp_line *line)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    uint32_t type;
    if (line->type != 'a' || (line->attribute != KG_SDP_RTPMAP && line->attribute != KG_SDP_FMTP &&
                              line->attribute != KG_SDP_RTCP_FB))
        return TYPES;
    struct kg_sdp_text word = kg_sdp_word(&s, end);
    return kg_sdp_number(word.s, word.len, TYPES - 1, &type) ? type : TYPES;
}

static void read_formats(const struct kg_sdp *sdp, const struct kg_sdp_media *m,
                         struct format out[static TYPES])
{
    memset(out, 0, TYPES * sizeof(*out));
    for (size_t i = m->first; i < m->end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        uint32_t type = type_of(line);
        if (type == TYPES)
            continue;
        out[type].bytes += line->len + sizeof("a=\r\n") - 1u;
        out[type].baseline |=
            contains(line, "profile-level-id=42e0") || contains(line, "profile-level-id=42E0");
        if (line->attribute != KG_SDP_RTPMAP)
            continue;
        const char *s = line->value + line->argument, *end = line->value + line->len;
        kg_sdp_word(&s, end);
        out[type].name = kg_sdp_word(&s, end);
        const char *slash = memchr(out[type].name.s, '/', out[type].name.len);
        if (slash)
            out[type].name.len = (uint16_t)(slash - out[type].name.s);
    }
}

static bool has_type(const struct kg_sdp_types *types, uint32_t type)
{
    return type < TYPES && (types->bit[type / 64] >> type % 64 & 1);
}

/* The payload types of the m= line, in its order; each once. */
static size_t listed(const struct kg_sdp_media *m, uint8_t out[static TYPES])
{
    const char *s = m->formats.s, *end = s + m->formats.len;
    struct kg_sdp_types seen = {0};
    struct kg_sdp_text word;
    uint32_t type;
    size_t n = 0;
    while ((word = kg_sdp_word(&s, end)).len > 0) {
        if (!kg_sdp_number(word.s, word.len, TYPES - 1, &type) || has_type(&seen, type))
            continue;
        seen.bit[type / 64] |= 1ull << type % 64;
        out[n++] = (uint8_t)type;
    }
    return n;
}

static void leave_out(struct kg_sdp_types *types, uint32_t type)
{
    types->bit[type / 64] |= 1ull << type % 64;
}

static bool is_video(const struct kg_sdp_media *m)
{
    return kg_sdp_text_equal(m->kind, (struct kg_sdp_text){"video", 5});
}

/* Repair that nobody asks for without feedback: RFC 4588, 5109, 8627, and RFC 2198 around it. */
static bool is_repair(const struct format *format, bool video)
{
    return is(format, "rtx") || is(format, "ulpfec") || is(format, "flexfec-03") || is(format, "flexfec") ||
           (video && is(format, "red"));
}

void kg_sdp_formats_leave_out(const struct kg_sdp *sdp, const struct kg_sdp_media *m,
                              struct kg_sdp_types *out)
{
    struct format format[TYPES];
    uint8_t type[TYPES];
    size_t n = listed(m, type), left = n;
    memset(out, 0, sizeof(*out));
    read_formats(sdp, m, format);
    for (size_t i = 0; i < n; i++) {
        if (is_repair(&format[type[i]], is_video(m))) {
            leave_out(out, type[i]);
            left--;
        }
    }
    if (left == 0)
        memset(out, 0, sizeof(*out));
}

/* Another one that stays and does instead: of one codec the first, of H264 those of constrained baseline. */
static bool has_better(const struct format *format, const uint8_t *type, size_t n, size_t i,
                       const struct kg_sdp_types *out)
{
    const struct format *it = &format[type[i]];
    for (size_t j = 0; j < n; j++) {
        const struct format *other = &format[type[j]];
        if (j == i || has_type(out, type[j]) || !kg_sdp_text_equal(it->name, other->name))
            continue;
        if (it->baseline ? false : other->baseline || j < i)
            return true;
    }
    return false;
}

static bool is_common(const struct format *format)
{
    return is(format, "H264") || is(format, "VP8");
}

static bool has_common(const struct format *format, const uint8_t *type, size_t n,
                       const struct kg_sdp_types *out)
{
    for (size_t i = 0; i < n; i++)
        if (!has_type(out, type[i]) && is_common(&format[type[i]]))
            return true;
    return false;
}

size_t kg_sdp_formats_prune(const struct kg_sdp *sdp, const struct kg_sdp_media *m, size_t excess,
                            size_t *saved, struct kg_sdp_types *out)
{
    struct format format[TYPES];
    uint8_t type[TYPES];
    size_t n = listed(m, type), removed = 0;
    if (!is_video(m))
        return 0;
    read_formats(sdp, m, format);
    for (int tier = 0; tier < 2; tier++) {
        for (size_t i = n; i-- > 0 && *saved < excess;) {
            const struct format *it = &format[type[i]];
            if (it->name.len == 0 || has_type(out, type[i]))
                continue;
            if (tier == 0 ? !has_better(format, type, n, i, out)
                          : is_common(it) || !has_common(format, type, n, out))
                continue;
            leave_out(out, type[i]);
            *saved += it->bytes + (type[i] > 99 ? 4 : type[i] > 9 ? 3 : 2);
            removed++;
        }
    }
    return removed;
}

void kg_sdp_put_formats(struct kg_sdp_out *out, const struct kg_sdp_media *m,
                        const struct kg_sdp_types *left_out)
{
    const char *s = m->formats.s, *end = s + m->formats.len;
    struct kg_sdp_text word;
    uint32_t type;
    if (!left_out->bit[0] && !left_out->bit[1]) {
        KG_SDP_PUT(out, " ");
        kg_sdp_put(out, m->formats.s, m->formats.len);
        return;
    }
    while ((word = kg_sdp_word(&s, end)).len > 0) {
        if (kg_sdp_number(word.s, word.len, TYPES - 1, &type) && has_type(left_out, type))
            continue;
        KG_SDP_PUT(out, " ");
        kg_sdp_put(out, word.s, word.len);
    }
}

bool kg_sdp_line_is_left_out(const struct kg_sdp_line *line, const struct kg_sdp_types *left_out)
{
    return (left_out->bit[0] || left_out->bit[1]) && has_type(left_out, type_of(line));
}
