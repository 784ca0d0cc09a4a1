/* Model to text for the other side. One pass over the lines; the o= line is written last, when the rest is
 * known. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

/* Room for "v=0\r\no=- <20> <20> IN IP6 <45>\r\n" before the rest. */
#define HEAD_MAX 160
#define C_MAX    (sizeof("IN IP6 ") + KG_ADDR_STR)

struct rewrite {
    const struct kg_sdp *sdp;
    const struct kg_sdp_local *local;
    const struct kg_sdp_reader *reader;
    const bool *left_out;                      /* by number in sdp->candidate; NULL: none */
    const struct kg_sdp_types *types_left_out; /* by m-line; NULL: none */
    const uint32_t *crypto_left_out;           /* by m-line, bits by number; NULL: none */
    bool keys_shared;                          /* the session part's lines of keys hold for all m-lines */
    struct kg_sdp_ice_session ice;
    bool bare;           /* without c=, for comparison */
    struct kg_addr host; /* ours for the session part */
    char c[C_MAX];       /* its "IN IP4 192.0.2.1" */
    struct kg_sdp_out out;
};

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
    if (r->bare)
        return;
    if (kg_addr_is_set(host) && !kg_addr_same_host(host, &r->host)) {
        format_connection(host, text);
        c = text;
    }
    KG_SDP_PUT(&r->out, "c=");
    kg_sdp_put_text(&r->out, c);
    KG_SDP_PUT(&r->out, "\r\n");
}

static void put_direction(struct kg_sdp_out *out, enum kg_direction direction)
{
    static const char *const name[] = {"a=inactive\r\n", "a=recvonly\r\n", "a=sendonly\r\n",
                                       "a=sendrecv\r\n"};
    kg_sdp_put(out, name[direction], 12);
}

/* Lines with one treatment in every part. */
static void put_common(struct kg_sdp_out *out, const struct kg_sdp_line *line)
{
    if (line->type == 'a' && line->attribute == KG_SDP_RTPMAP)
        kg_sdp_put_line(out, line);
    else
        kg_sdp_put_harmless(out, line);
}

/* A line that must be there (RFC 8866 5.3, 5.9), with nothing of the writer's network in it. */
static void put_required(struct kg_sdp_out *out, const struct kg_sdp_line *line, const char *otherwise)
{
    if (line->len == 0 || kg_sdp_holds_address(line->value, line->len))
        kg_sdp_put_text(out, otherwise);
    else
        kg_sdp_put_line(out, line);
}

static void put_session_attribute(struct rewrite *r, const struct kg_sdp_line *line)
{
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_OTHER:
    case KG_SDP_RTPMAP:
    case KG_SDP_FMTP:
    case KG_SDP_MID:
    case KG_SDP_GROUP:
    case KG_SDP_EXTMAP:
    case KG_SDP_RTCP_FB:
    case KG_SDP_WEB_ONLY:
        if (kg_sdp_web_passes(line, r->reader->kind))
            put_common(&r->out, line);
        return;
    case KG_SDP_CRYPTO:
    case KG_SDP_FINGERPRINT:
    case KG_SDP_SETUP:
    case KG_SDP_TLS_ID:
    case KG_SDP_KEY_MGMT:
    case KG_SDP_ZRTP_HASH:
    case KG_SDP_KEY_OTHER:
        if (r->keys_shared)
            kg_sdp_keys_put(&r->out, line);
        return;
    case KG_SDP_DROPPED:
    case KG_SDP_DIRECTION:
    case KG_SDP_RTCP:
    case KG_SDP_RTCP_MUX:
    case KG_SDP_RTCP_MUX_ONLY:
    case KG_SDP_BUNDLE_ONLY:
        return;
    default:
        kg_sdp_ice_put_session(&r->out, r->sdp, &r->ice, line);
    }
}

static void session(struct rewrite *r)
{
    const struct kg_sdp *sdp = r->sdp;
    struct kg_sdp_out *out = &r->out;
    bool time = sdp->has_time, connection = false, direction = false;
    if (!sdp->has_name) /* phones forget it, and t= */
        KG_SDP_PUT(out, "s=-\r\n");
    for (size_t i = 0; i < sdp->session_end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        if (!time && strchr("rzka", line->type)) {
            time = true;
            KG_SDP_PUT(out, "t=0 0\r\n");
        }
        switch (line->type) {
        case 'v':
        case 'o':
        case 'u': /* who and where the writer is (RFC 8866 5.5, 5.6) */
        case 'e':
        case 'p':
            break;
        case 'k': /* obsolete: a key in the clear (RFC 8866 5.12) */
            if (r->keys_shared)
                put_common(out, line);
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
            } else {
                put_session_attribute(r, line);
            }
            break;
        default:
            put_common(out, line);
        }
    }
    if (!time)
        KG_SDP_PUT(out, "t=0 0\r\n");
    kg_sdp_web_put_group(out, sdp, r->reader, r->local);
}

/* A phone that rejects a data channel writes any format (RFC 3264 6: it is ignored). Firefox takes no line of
 * SCTP without "webrtc-datachannel" (RFC 8841 4.3) and refuses the whole answer: it gets what it offered. */
static void put_formats(struct kg_sdp_out *out, const struct kg_sdp_part *part)
{
    const struct kg_sdp_reader *reader = part->reader;
    const struct kg_sdp_media *m = part->media;
    bool answers = reader->answers && reader->said && part->number < reader->said->media_count;
    if (!part->on && answers && kg_sdp_media_is_data(&reader->said->media[part->number]))
        m = &reader->said->media[part->number];
    if (m->formats.len > 0)
        kg_sdp_put_formats(out, m, &part->types_left_out);
}

static void put_media_line(struct kg_sdp_out *out, const struct kg_sdp_part *part)
{
    const struct kg_sdp_media *m = part->media;
    struct kg_sdp_text proto = kg_sdp_proto(part);
    KG_SDP_PUT(out, "m=");
    kg_sdp_put(out, m->kind.s, m->kind.len);
    KG_SDP_PUT(out, " ");
    kg_sdp_put_number(out, part->on ? kg_addr_port(&part->rtp) : 0);
    KG_SDP_PUT(out, " ");
    kg_sdp_put(out, proto.s, proto.len);
    put_formats(out, part);
    KG_SDP_PUT(out, "\r\n");
}

static void put_media_attribute(struct kg_sdp_out *out, struct kg_sdp_part *part,
                                const struct kg_sdp_line *line)
{
    if (!kg_sdp_web_passes(line, part->reader->kind) || kg_sdp_line_is_left_out(line, &part->types_left_out))
        return;
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_DROPPED:
    case KG_SDP_RTCP:
        return;
    case KG_SDP_DIRECTION:
        if (part->direction)
            put_direction(out, part->way);
        part->direction = false;
        return;
    case KG_SDP_RTCP_MUX:
        if (part->mux)
            KG_SDP_PUT(out, "a=rtcp-mux\r\n");
        part->mux = false;
        return;
    case KG_SDP_RTCP_MUX_ONLY:
        if (part->on && part->local->rtcp_mux)
            KG_SDP_PUT(out, "a=rtcp-mux-only\r\n");
        return;
    case KG_SDP_BUNDLE_ONLY:
        KG_SDP_PUT(out, "a=bundle-only\r\n");
        return;
    case KG_SDP_RTCP_FB:
        if (part->feedback)
            put_common(out, line);
        return;
    case KG_SDP_OTHER:
    case KG_SDP_RTPMAP:
    case KG_SDP_FMTP:
    case KG_SDP_MID:
    case KG_SDP_GROUP:
    case KG_SDP_EXTMAP:
    case KG_SDP_WEB_ONLY:
        put_common(out, line);
        return;
    case KG_SDP_CRYPTO:
    case KG_SDP_FINGERPRINT:
    case KG_SDP_SETUP:
    case KG_SDP_TLS_ID:
    case KG_SDP_KEY_MGMT:
    case KG_SDP_ZRTP_HASH:
    case KG_SDP_KEY_OTHER:
        kg_sdp_keys_put_line(out, part, line);
        return;
    default:
        kg_sdp_ice_put_line(out, part, line);
    }
}

/* a=rtcp (RFC 3605) where a reader would not guess the port. */
static void put_rtcp(struct rewrite *r, const struct kg_sdp_part *part)
{
    const struct kg_addr *rtp = &part->rtp, *rtcp = &part->rtcp;
    char text[C_MAX];
    if (!part->on || !part->media->rtp || part->local->rtcp_mux || !kg_addr_is_set(rtcp))
        return;
    bool elsewhere = !kg_addr_same_host(rtp, rtcp);
    if (!elsewhere && kg_addr_port(rtcp) == kg_addr_port(rtp) + 1)
        return;
    KG_SDP_PUT(&r->out, "a=rtcp:");
    kg_sdp_put_number(&r->out, kg_addr_port(rtcp));
    if (elsewhere) {
        format_connection(rtcp, text);
        KG_SDP_PUT(&r->out, " ");
        kg_sdp_put_text(&r->out, text);
    }
    KG_SDP_PUT(&r->out, "\r\n");
}

/* The candidate of that component at that address is passed on. */
static bool is_passed(const struct kg_sdp_part *part, uint8_t component, const struct kg_addr *addr)
{
    const struct kg_ice_description *ice = &part->media->ice;
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        if (ice->candidate[i].component == component && kg_addr_equal(&ice->candidate[i].addr, addr) &&
            !(part->left_out && part->left_out[i]))
            return true;
    }
    return false;
}

/* The writer's one candidate of a component that is not a relay's; NULL: none, or several. */
static const struct kg_addr *only_passed(const struct kg_sdp_part *part, uint8_t component)
{
    const struct kg_ice_description *ice = &part->media->ice;
    const struct kg_addr *only = NULL;
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        const struct kg_candidate *c = &ice->candidate[i];
        if (c->component != component || c->type == KG_CANDIDATE_RELAY ||
            (part->left_out && part->left_out[i]))
            continue;
        if (only)
            return NULL;
        only = &c->addr;
    }
    return only;
}

/* c=, m= and a=rtcp of the result: ours, or the writer's as kg_sdp_local.selected says. */
static void set_default(struct kg_sdp_part *part)
{
    const struct kg_sdp_media *m = part->media;
    struct kg_addr rtp = m->connection.host, rtcp = rtp;
    part->rtp = part->local->rtp;
    part->rtcp = part->local->rtcp;
    if (!part->on || part->ice != KG_SDP_ICE_KEEP || !part->local->selected || !kg_addr_is_set(&rtp))
        return;
    if (m->rtcp_port != 0 && kg_addr_is_set(&m->rtcp_host))
        rtcp = m->rtcp_host;
    kg_addr_set_port(&rtp, m->port);
    kg_addr_set_port(&rtcp, m->rtcp_port ? m->rtcp_port : (uint16_t)(m->port + 1));
    /* The writer has selected our relay and the reader has not: it sends to the one address left. */
    const struct kg_addr *only[2] = {only_passed(part, 1), only_passed(part, 2)};
    if (!is_passed(part, 1, &rtp) && only[0] && (only[1] || part->local->rtcp_mux)) {
        rtp = *only[0];
        rtcp = only[1] ? *only[1] : rtp;
    }
    if (!is_passed(part, 1, &rtp) || (!part->local->rtcp_mux && !is_passed(part, 2, &rtcp)))
        return;
    part->rtp = rtp;
    part->rtcp = rtcp;
}

static void media(struct rewrite *r, size_t index)
{
    const struct kg_sdp *sdp = r->sdp;
    const struct kg_sdp_media *m = &sdp->media[index];
    struct kg_sdp_out *out = &r->out;
    struct kg_sdp_part part = {
        .sdp = sdp, .media = m, .local = &r->local[index], .reader = r->reader, .number = index};
    part.on = kg_sdp_web_is_on(&part);
    part.shares = r->reader->kind == KG_SDP_WEB && part.local->bundle && part.local->bundle != index + 1;
    part.transport = part.shares ? &r->local[part.local->bundle - 1] : part.local;
    part.feedback = kg_sdp_feedback_passes(&part);
    part.way = kg_sdp_web_direction(&part);
    if (r->types_left_out)
        part.types_left_out = r->types_left_out[index];
    if (r->crypto_left_out)
        part.crypto_left_out = r->crypto_left_out[index];
    part.mux = part.on && m->rtp && part.local->rtcp_mux;
    part.direction = true;
    part.ice = kg_sdp_ice_mode(m, part.local);
    if (r->left_out)
        part.left_out = r->left_out + (m->ice.candidate - sdp->candidate);
    set_default(&part);
    part.connection = m->has_connection ||
                      (part.on && (!sdp->connection.present || !kg_addr_same_host(&part.rtp, &r->host)));
    put_media_line(out, &part);
    for (size_t i = m->first + 1; i < m->end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        /* RFC 8866 9: i= stands before c=. */
        if (part.connection && line->type != 'i') {
            put_connection(r, &part.rtp);
            part.connection = false;
        }
        if (line->type == 'a')
            put_media_attribute(out, &part, line);
        else if (!strchr("cuepvo", line->type) && (line->type != 'k' || part.local->keys == KG_SDP_KEYS_KEEP))
            put_common(out, line);
    }
    if (part.connection)
        put_connection(r, &part.rtp);
    if (part.direction && part.way != sdp->direction)
        put_direction(out, part.way);
    if (part.mux)
        KG_SDP_PUT(out, "a=rtcp-mux\r\n");
    put_rtcp(r, &part);
    kg_sdp_web_put_mid(out, &part);
    kg_sdp_keys_put_end(out, &part, r->keys_shared);
    kg_sdp_ice_put_end(out, &r->ice, &part);
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
static char *put_head(struct rewrite *r, struct kg_sdp_origin *origin)
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

/* HEAD_MAX bytes of room, then all but v= and o=; not NUL-terminated. False without memory. */
static bool put_body(struct rewrite *r)
{
    char room[HEAD_MAX] = "";
    r->out = (struct kg_sdp_out){0};
    kg_sdp_put(&r->out, room, sizeof(room));
    r->host = session_host(r->sdp, r->local);
    format_connection(&r->host, r->c);
    r->ice = kg_sdp_ice_in_session(r->sdp, r->local);
    r->keys_shared = kg_sdp_keys_are_shared(r->sdp, r->local);
    session(r);
    for (size_t i = 0; i < r->sdp->media_count; i++)
        media(r, i);
    if (!r->out.failed)
        return true;
    kg_sdp_out_clear(&r->out);
    return false;
}

/* One text with what is left out now; origin is brought up to date. */
static char *write_once(struct rewrite *r, struct kg_sdp_origin *origin, size_t *len)
{
    if (!put_body(r))
        return NULL;
    char *begin = put_head(r, origin);
    *len = (size_t)(r->out.s + r->out.len - begin);
    kg_sdp_put(&r->out, "", 1); /* may move the text */
    if (r->out.failed) {
        kg_sdp_out_clear(&r->out);
        return NULL;
    }
    memmove(r->out.s, r->out.s + r->out.len - 1 - *len, *len + 1);
    return r->out.s;
}

/* Candidate lines of kept m-lines that the parser found no use for. */
static size_t count_useless(const struct kg_sdp *sdp, const struct kg_sdp_local *local)
{
    struct kg_sdp_unused unused[UINT8_MAX];
    size_t n = 0;
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (kg_sdp_ice_mode(&sdp->media[i], &local[i]) == KG_SDP_ICE_KEEP)
            n += kg_sdp_ice_unused(sdp, i, unused, UINT8_MAX);
    }
    return n;
}

/* What a reader without WebRTC gets of the payload types. */
static void leave_out_types(const struct kg_sdp *sdp, const struct kg_sdp_local *local,
                            const struct kg_sdp_reader *reader,
                            struct kg_sdp_types out[static KG_SDP_MEDIA_MAX])
{
    for (size_t i = 0; i < sdp->media_count && reader->kind == KG_SDP_LEGACY; i++) {
        struct kg_sdp_part part = {
            .sdp = sdp, .media = &sdp->media[i], .local = &local[i], .reader = reader, .number = i};
        if (part.media->rtp && !kg_sdp_feedback_passes(&part))
            kg_sdp_formats_leave_out(sdp, part.media, &out[i]);
    }
}

static size_t prune_types(const struct kg_sdp *sdp, const struct kg_sdp_reader *reader, size_t excess,
                          struct kg_sdp_types out[static KG_SDP_MEDIA_MAX])
{
    size_t saved = 0, n = 0;
    for (size_t i = sdp->media_count; i-- > 0 && saved < excess && reader->kind == KG_SDP_LEGACY;)
        if (sdp->media[i].rtp)
            n += kg_sdp_formats_prune(sdp, &sdp->media[i], excess, &saved, &out[i]);
    return n;
}

static uint8_t saturated(size_t n)
{
    return n > UINT8_MAX ? UINT8_MAX : (uint8_t)n;
}

static const struct kg_sdp_reader like_writer = {.kind = KG_SDP_LIKE_WRITER};

char *kg_sdp_rewrite_within(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                            const struct kg_sdp_reader *reader, struct kg_sdp_origin *origin, size_t budget,
                            struct kg_sdp_pruned *pruned, size_t *len)
{
    struct kg_sdp_origin now = *origin;
    uint32_t crypto_left_out[KG_SDP_MEDIA_MAX] = {0};
    struct kg_sdp_types types_left_out[KG_SDP_MEDIA_MAX] = {0};
    if (count < sdp->media_count)
        return NULL;
    bool *left_out = calloc(sdp->candidate_count + 1, sizeof(*left_out));
    if (!left_out)
        return NULL;
    struct rewrite r = {.sdp = sdp,
                        .local = local,
                        .reader = reader ? reader : &like_writer,
                        .left_out = left_out,
                        .types_left_out = types_left_out,
                        .crypto_left_out = crypto_left_out};
    size_t useless = kg_sdp_leave_out(sdp, local, left_out) + count_useless(sdp, local);
    size_t candidates = 0, crypto = 0, codecs = 0;
    leave_out_types(sdp, local, r.reader, types_left_out);
    char *text = write_once(&r, &now, len);
    /* More than once only if the version has got another digit meanwhile. */
    while (text && budget && *len > budget) {
        size_t excess = *len - budget,
               keys = kg_sdp_keys_prune(sdp, local, r.reader, excess, crypto_left_out);
        size_t types = keys ? 0 : prune_types(sdp, r.reader, excess, types_left_out);
        size_t removed = keys + types ? 0 : kg_sdp_prune(sdp, local, excess, left_out);
        if (keys + types + removed == 0)
            break;
        crypto += keys;
        codecs += types;
        candidates += removed;
        now = *origin;
        kg_sdp_out_clear(&r.out);
        text = write_once(&r, &now, len);
    }
    free(left_out);
    if (!text)
        return NULL;
    *origin = now;
    if (pruned)
        *pruned = (struct kg_sdp_pruned){.candidates = saturated(candidates),
                                         .useless = saturated(useless),
                                         .crypto = saturated(crypto),
                                         .codecs = saturated(codecs),
                                         .too_big = budget && *len > budget};
    return text;
}

char *kg_sdp_rewrite(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                     struct kg_sdp_origin *origin, size_t *len)
{
    return kg_sdp_rewrite_within(sdp, local, count, NULL, origin, 0, NULL, len);
}

/* Both written for one and the same reader, without ICE, o= and c=, on ports that are ours. */
static bool is_same(const struct kg_sdp *a, const struct kg_sdp *b, enum kg_sdp_keys keys,
                    enum kg_sdp_kind kind)
{
    const struct kg_sdp *sdp[2] = {a, b};
    const struct kg_sdp_reader reader = {.kind = kind};
    struct kg_sdp_local local[KG_SDP_MEDIA_MAX];
    struct rewrite r[2];
    bool same = a->media_count == b->media_count;
    for (int i = 0; i < 2; i++) {
        memset(local, 0, sizeof(local));
        for (size_t m = 0; m < sdp[i]->media_count; m++) {
            kg_addr_parse("192.0.2.1:2", &local[m].rtp);
            kg_addr_parse("192.0.2.1:3", &local[m].rtcp);
            local[m].rtcp_mux = sdp[i]->media[m].rtcp_mux && sdp[i]->media[m].rtp;
            local[m].keys = keys;
        }
        r[i] = (struct rewrite){.sdp = sdp[i], .local = local, .reader = &reader, .bare = true};
        if (!put_body(&r[i])) {
            if (i > 0)
                kg_sdp_out_clear(&r[0].out);
            return false;
        }
    }
    same = same && r[0].out.len == r[1].out.len && memcmp(r[0].out.s, r[1].out.s, r[0].out.len) == 0;
    kg_sdp_out_clear(&r[0].out);
    kg_sdp_out_clear(&r[1].out);
    return same;
}

bool kg_sdp_same_but_transport(const struct kg_sdp *a, const struct kg_sdp *b)
{
    return is_same(a, b, KG_SDP_KEYS_KEEP, KG_SDP_LIKE_WRITER);
}

bool kg_sdp_same_but_keys(const struct kg_sdp *a, const struct kg_sdp *b, enum kg_sdp_kind reader)
{
    return is_same(a, b, KG_SDP_KEYS_OURS, reader);
}
