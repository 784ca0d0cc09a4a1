/* Model to text for the other side. One pass over the lines; the o= line is written last, when the rest is
 * known. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/model.h"

/* Room for "v=0\r\no=- <20> <20> IN IP6 <45>\r\n" before, and for what a part can gain: per media its port,
 * c=, a=rtcp, direction, a=rtcp-mux; per line a CR. Twice what they can need. */
#define HEAD_MAX 160
#define GAIN_MAX 384
#define C_MAX    (sizeof("IN IP6 ") + KG_ADDR_STR)

struct out {
    char *s;
    size_t len, size;
    bool full;
};

struct rewrite {
    const struct kg_sdp *sdp;
    const struct kg_sdp_local *local;
    struct kg_addr host; /* ours for the session part */
    char c[C_MAX];       /* its "IN IP4 192.0.2.1" */
    struct out out;
};

static void put(struct out *out, const char *s, size_t len)
{
    if (len > out->size - out->len) {
        out->full = true;
        return;
    }
    memcpy(out->s + out->len, s, len);
    out->len += len;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static void put_number(struct out *out, unsigned value)
{
    char text[12];
    char *s = text + sizeof(text);
    do
        *--s = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    put(out, s, (size_t)(text + sizeof(text) - s));
}

/* One line as it was. */
static void put_line(struct out *out, const struct kg_sdp_line *line)
{
    char head[2] = {line->type, '='};
    put(out, head, 2);
    put(out, line->value, line->len);
    PUT(out, "\r\n");
}

/* "IN IP4 192.0.2.1"; a zone (fe80::1%eth0) means nothing to the reader. */
static void format_connection(const struct kg_addr *host, char out[static C_MAX])
{
    char text[KG_ADDR_STR];
    if (!kg_addr_is_set(host)) {
        snprintf(out, C_MAX, "IN IP4 0.0.0.0");
        return;
    }
    kg_addr_format_host(host, text);
    text[strcspn(text, "%")] = '\0';
    snprintf(out, C_MAX, "IN IP%d %s", kg_addr_family(host) == AF_INET6 ? 6 : 4, text);
}

static void put_connection(struct rewrite *r, const struct kg_addr *host)
{
    char text[C_MAX];
    const char *c = r->c;
    if (kg_addr_is_set(host) && !kg_addr_same_host(host, &r->host)) {
        format_connection(host, text);
        c = text;
    }
    PUT(&r->out, "c=");
    put(&r->out, c, strlen(c));
    PUT(&r->out, "\r\n");
}

static void put_direction(struct out *out, enum kg_direction direction)
{
    static const char *const name[] = {"a=inactive\r\n", "a=recvonly\r\n", "a=sendonly\r\n",
                                       "a=sendrecv\r\n"};
    put(out, name[direction], 12);
}

/* Lines with one treatment in every part. */
static void put_common(struct out *out, const struct kg_sdp_line *line)
{
    bool untouched =
        line->type == 'a' && (line->attribute == KG_SDP_UNTOUCHED || line->attribute == KG_SDP_RTPMAP);
    if (untouched || !kg_sdp_holds_address(line->value, line->len))
        put_line(out, line);
}

/* A line that must be there (RFC 8866 5.3, 5.9), with nothing of the writer's network in it. */
static void put_required(struct out *out, const struct kg_sdp_line *line, const char *otherwise)
{
    if (line->len == 0 || kg_sdp_holds_address(line->value, line->len))
        put(out, otherwise, strlen(otherwise));
    else
        put_line(out, line);
}

static void session(struct rewrite *r)
{
    const struct kg_sdp *sdp = r->sdp;
    struct out *out = &r->out;
    bool time = sdp->has_time, connection = false, direction = false;
    if (!sdp->has_name) /* phones forget it, and t= */
        PUT(out, "s=-\r\n");
    for (size_t i = 0; i < sdp->session_end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        if (!time && strchr("rzka", line->type)) {
            time = true;
            PUT(out, "t=0 0\r\n");
        }
        switch (line->type) {
        case 'v':
        case 'o':
        case 'u': /* who and where the writer is (RFC 8866 5.5, 5.6) */
        case 'e':
        case 'p':
            break;
        case 's':
            put_required(out, line, "s=-\r\n");
            break;
        case 't':
            put_required(out, line, "t=0 0\r\n");
            break;
        case 'c':
            if (!connection)
                put_connection(r, &r->host);
            connection = true;
            break;
        case 'a':
            if (line->attribute == KG_SDP_DIRECTION && !direction) {
                put_direction(out, sdp->direction);
                direction = true;
            } else if (line->attribute == KG_SDP_OTHER || line->attribute == KG_SDP_UNTOUCHED ||
                       line->attribute == KG_SDP_RTPMAP) {
                put_common(out, line);
            }
            break;
        default:
            put_common(out, line);
        }
    }
    if (!time)
        PUT(out, "t=0 0\r\n");
}

/* What is still to be written of one media part. */
struct part {
    const struct kg_sdp_media *media;
    const struct kg_sdp_local *local;
    bool on;                         /* not rejected, neither by its writer nor by us */
    bool connection, direction, mux; /* not yet written */
};

static void put_media_line(struct out *out, const struct part *part)
{
    const struct kg_sdp_media *m = part->media;
    PUT(out, "m=");
    put(out, m->kind.s, m->kind.len);
    PUT(out, " ");
    put_number(out, part->on ? kg_addr_port(&part->local->rtp) : 0);
    PUT(out, " ");
    put(out, m->proto.s, m->proto.len);
    if (m->formats.len > 0) {
        PUT(out, " ");
        put(out, m->formats.s, m->formats.len);
    }
    PUT(out, "\r\n");
}

static void put_media_attribute(struct out *out, struct part *part, const struct kg_sdp_line *line)
{
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_DROPPED:
    case KG_SDP_ICE:
    case KG_SDP_RTCP:
        return;
    case KG_SDP_DIRECTION:
        if (part->direction)
            put_direction(out, part->media->direction);
        part->direction = false;
        return;
    case KG_SDP_RTCP_MUX:
        if (part->mux)
            PUT(out, "a=rtcp-mux\r\n");
        part->mux = false;
        return;
    case KG_SDP_RTCP_MUX_ONLY:
        if (part->on && part->local->rtcp_mux)
            PUT(out, "a=rtcp-mux-only\r\n");
        return;
    case KG_SDP_BUNDLE_ONLY:
        PUT(out, "a=bundle-only\r\n");
        return;
    default:
        put_common(out, line);
    }
}

/* a=rtcp (RFC 3605) where a reader would not guess the port. */
static void put_rtcp(struct rewrite *r, const struct part *part)
{
    const struct kg_addr *rtp = &part->local->rtp, *rtcp = &part->local->rtcp;
    char text[C_MAX];
    if (!part->on || !part->media->rtp || part->local->rtcp_mux || !kg_addr_is_set(rtcp))
        return;
    bool elsewhere = !kg_addr_same_host(rtp, rtcp);
    if (!elsewhere && kg_addr_port(rtcp) == kg_addr_port(rtp) + 1)
        return;
    PUT(&r->out, "a=rtcp:");
    put_number(&r->out, kg_addr_port(rtcp));
    if (elsewhere) {
        format_connection(rtcp, text);
        PUT(&r->out, " ");
        put(&r->out, text, strlen(text));
    }
    PUT(&r->out, "\r\n");
}

static void media(struct rewrite *r, size_t index)
{
    const struct kg_sdp *sdp = r->sdp;
    const struct kg_sdp_media *m = &sdp->media[index];
    struct out *out = &r->out;
    struct part part = {.media = m, .local = &r->local[index]};
    part.on = m->enabled && kg_addr_port(&part.local->rtp) != 0;
    part.mux = part.on && m->rtp && part.local->rtcp_mux;
    part.direction = true;
    part.connection =
        m->has_connection ||
        (part.on && (!sdp->connection.present || !kg_addr_same_host(&part.local->rtp, &r->host)));
    put_media_line(out, &part);
    for (size_t i = m->first + 1; i < m->end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        /* RFC 8866 9: i= stands before c=. */
        if (part.connection && line->type != 'i') {
            put_connection(r, &part.local->rtp);
            part.connection = false;
        }
        if (line->type == 'a')
            put_media_attribute(out, &part, line);
        else if (!strchr("cuepvo", line->type))
            put_common(out, line);
    }
    if (part.connection)
        put_connection(r, &part.local->rtp);
    if (part.direction && m->direction != sdp->direction)
        put_direction(out, m->direction);
    if (part.mux)
        PUT(out, "a=rtcp-mux\r\n");
    put_rtcp(r, &part);
}

/* Tells whether a text changed; not a defence against anyone. Never 0. */
static uint64_t hash(const char *s, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u ^ len, word;
    for (; len > 0; s += sizeof(word)) {
        size_t n = len < sizeof(word) ? len : sizeof(word);
        word = 0;
        memcpy(&word, s, n);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
        len -= n;
    }
    return h ? h : 1;
}

/* RFC 3264 8: the id stays, the version grows by one when anything else changed. Moves the head right before
 * the body. Returns where the text begins. */
static char *finish(struct rewrite *r, struct kg_sdp_origin *origin)
{
    char head[HEAD_MAX];
    uint64_t now = hash(r->out.s + HEAD_MAX, r->out.len - HEAD_MAX);
    if (origin->hash != 0 && origin->hash != now)
        origin->version++;
    origin->hash = now;
    int n = snprintf(head, sizeof(head), "v=0\r\no=- %" PRIu64 " %" PRIu64 " %s\r\n", origin->id,
                     origin->version, r->c);
    char *begin = r->out.s + HEAD_MAX - n;
    memcpy(begin, head, (size_t)n);
    return begin;
}

/* Ours for the session part: that of the first line that has one. */
static struct kg_addr session_host(const struct kg_sdp *sdp, const struct kg_sdp_local *local)
{
    struct kg_addr host = {0};
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (kg_addr_is_set(&local[i].rtp) && (sdp->media[i].enabled || !kg_addr_is_set(&host))) {
            host = local[i].rtp;
            if (sdp->media[i].enabled)
                break;
        }
    }
    kg_addr_set_port(&host, 0);
    return host;
}

char *kg_sdp_rewrite(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                     struct kg_sdp_origin *origin, size_t *len)
{
    struct rewrite r = {.sdp = sdp, .local = local};
    if (count < sdp->media_count)
        return NULL;
    r.out.size = HEAD_MAX + sdp->text_len + 2 * sdp->line_count + (sdp->media_count + 1) * GAIN_MAX;
    r.out.s = malloc(r.out.size);
    if (!r.out.s)
        return NULL;
    r.out.len = HEAD_MAX;
    r.host = session_host(sdp, local);
    format_connection(&r.host, r.c);
    session(&r);
    for (size_t i = 0; i < sdp->media_count; i++)
        media(&r, i);
    put(&r.out, "", 1);
    if (r.out.full) {
        free(r.out.s);
        return NULL;
    }
    r.out.len--; /* the hash is of the text without its NUL */
    char *begin = finish(&r, origin);
    *len = (size_t)(r.out.s + r.out.len - begin);
    memmove(r.out.s, begin, *len + 1);
    return r.out.s;
}
