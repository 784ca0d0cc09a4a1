/* Text to model (RFC 8866). One pass counts, one allocation, one pass fills. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/model.h"

struct parser {
    struct kg_sdp *sdp;
    struct kg_sdp_media *media; /* the current one; NULL in the session part */
    unsigned number;            /* of the line in the text, from 1 */
    bool fragment;              /* of RFC 8840, not a description */
    char *error;
    size_t size;
};

static bool refuse(const struct parser *p, const char *what)
{
    snprintf(p->error, p->size, "line %u: %s", p->number, what);
    return false;
}

/* Upper bounds for the tables: lines, those of them that begin with m, and those with a=candidate. */
static void count(const char *text, size_t len, size_t *lines, size_t *media, size_t *candidates)
{
    static const char candidate[] = "a=candidate:";
    const char *end = text + len;
    *lines = *media = *candidates = 0;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (*text != '\r' && *text != '\n') {
            ++*lines;
            *media += *text == 'm';
            *candidates += (size_t)(end - text) >= sizeof(candidate) - 1 &&
                           strncasecmp(text, candidate, sizeof(candidate) - 1) == 0;
        }
        text = newline ? newline + 1 : end;
    }
}

/* RFC 8866 5.7: nettype addrtype address[/ttl[/number]] */
static bool connection(struct parser *p, const struct kg_sdp_line *line, struct kg_sdp_connection *out)
{
    const char *s = line->value, *end = s + line->len;
    struct kg_sdp_text net = kg_sdp_word(&s, end);
    kg_sdp_word(&s, end); /* IP4 or IP6: the address itself says it better */
    struct kg_sdp_text host = kg_sdp_word(&s, end);
    char text[KG_ADDR_STR];
    if (host.len == 0)
        return refuse(p, "c= has no address");
    if (out->present)
        return true; /* further layers of a multicast session: the first is the one */
    memset(out, 0, sizeof(*out));
    out->present = true;
    const char *slash = memchr(host.s, '/', host.len);
    size_t len = slash ? (size_t)(slash - host.s) : host.len;
    if (net.len != 2 || strncasecmp(net.s, "IN", 2) != 0 || len >= sizeof(text))
        return true; /* not an Internet address, or a name: describes no address */
    memcpy(text, host.s, len);
    text[len] = '\0';
    if (kg_addr_parse_host(text, 0, &out->host) != 0)
        return true;
    if (kg_addr_is_any(&out->host)) {
        out->unspecified = true;
        memset(&out->host, 0, sizeof(out->host));
    }
    return true;
}

static bool is_tcp(struct kg_sdp_text proto)
{
    return proto.len >= 3 && strncasecmp(proto.s, "TCP", 3) == 0;
}

static bool is_rtp(struct kg_sdp_text proto)
{
    for (unsigned i = 0; i + 4 <= proto.len; i++) {
        if (strncasecmp(proto.s + i, "RTP/", 4) == 0)
            return true;
    }
    return false;
}

/* RFC 8866 5.14: media port[/number] proto fmt ... */
static bool media(struct parser *p, const struct kg_sdp_line *line)
{
    struct kg_sdp *sdp = p->sdp;
    struct kg_sdp_media *m = &sdp->media[sdp->media_count];
    const char *s = line->value, *end = s + line->len;
    uint32_t value;
    memset(m, 0, sizeof(*m));
    m->kind = kg_sdp_word(&s, end);
    struct kg_sdp_text port = kg_sdp_word(&s, end);
    m->proto = kg_sdp_word(&s, end);
    if (m->proto.len == 0)
        return refuse(p, "m= needs a kind, a port and a transport");
    const char *slash = memchr(port.s, '/', port.len);
    size_t digits = slash ? (size_t)(slash - port.s) : port.len;
    if (!kg_sdp_number(port.s, digits, 65535, &value))
        return refuse(p, "m= has no port from 0 to 65535");
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    m->formats = (struct kg_sdp_text){s, (uint16_t)(end - s)};
    m->port = (uint16_t)value;
    m->enabled = m->port != 0 && !is_tcp(m->proto);
    m->rtp = is_rtp(m->proto);
    m->first = (size_t)(line - sdp->line);
    if (p->media)
        p->media->end = m->first;
    else
        sdp->session_end = m->first;
    p->media = m;
    sdp->media_count++;
    return true;
}

/* RFC 3605 2.1: port [nettype addrtype address]. A malformed one is as good as none. */
static void rtcp(struct kg_sdp_media *m, const struct kg_sdp_line *line)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    struct kg_sdp_text port = kg_sdp_word(&s, end);
    uint32_t value;
    char text[KG_ADDR_STR];
    if (!kg_sdp_number(port.s, port.len, 65535, &value))
        return;
    m->rtcp_port = (uint16_t)value;
    kg_sdp_word(&s, end);
    kg_sdp_word(&s, end);
    struct kg_sdp_text host = kg_sdp_word(&s, end);
    if (host.len == 0 || host.len >= sizeof(text))
        return;
    memcpy(text, host.s, host.len);
    text[host.len] = '\0';
    if (kg_addr_parse_host(text, 0, &m->rtcp_host) != 0 || kg_addr_is_any(&m->rtcp_host))
        memset(&m->rtcp_host, 0, sizeof(m->rtcp_host));
}

/* RFC 8285 5: ID["/"direction] URI */
static void extmap(struct kg_sdp_media *m, const struct kg_sdp_line *line)
{
    static const char mid[] = "urn:ietf:params:rtp-hdrext:sdes:mid";
    const char *s = line->value + line->argument, *end = line->value + line->len;
    struct kg_sdp_text id = kg_sdp_word(&s, end), uri = kg_sdp_word(&s, end);
    const char *slash = memchr(id.s, '/', id.len);
    uint32_t value;
    if (uri.len == sizeof(mid) - 1 && memcmp(uri.s, mid, uri.len) == 0 &&
        kg_sdp_number(id.s, slash ? (size_t)(slash - id.s) : id.len, 255, &value))
        m->mid_extension = (uint8_t)value;
}

static void attribute(struct parser *p, struct kg_sdp_line *line)
{
    struct kg_sdp_media *m = p->media;
    const char *colon = memchr(line->value, ':', line->len);
    size_t name = colon ? (size_t)(colon - line->value) : line->len;
    const struct kg_sdp_attribute_row *row = kg_sdp_attribute_find(line->value, name);
    line->attribute = row->attribute;
    line->argument = (uint16_t)(colon ? name + 1 : name);
    if (row->attribute == KG_SDP_DIRECTION) {
        *(m ? &m->direction : &p->sdp->direction) = row->direction;
        if (m)
            m->has_direction = true;
    } else if (row->attribute >= KG_SDP_UFRAG) {
        kg_sdp_ice_attribute(p->sdp, m, line);
    } else if (m && row->attribute == KG_SDP_RTCP) {
        rtcp(m, line);
    } else if (m && row->attribute == KG_SDP_RTCP_MUX) {
        m->rtcp_mux = true;
    } else if (m && row->attribute == KG_SDP_RTCP_MUX_ONLY) {
        m->rtcp_mux_only = true;
    } else if (m && row->attribute == KG_SDP_BUNDLE_ONLY) {
        m->bundle_only = true;
    } else if (m && row->attribute == KG_SDP_EXTMAP) {
        extmap(m, line);
    } else if (row->attribute == KG_SDP_CRYPTO || row->attribute == KG_SDP_KEY_OTHER) {
        p->sdp->has_keys = true;
    } else if (m && row->attribute == KG_SDP_MID && !kg_sdp_holds_address(line->value, line->len)) {
        const char *s = line->value + line->argument; /* one with an address never reaches the other side */
        m->mid = kg_sdp_word(&s, line->value + line->len);
    }
}

/* [s, end) is one line without its end and trailing blanks, not empty. */
static bool one_line(struct parser *p, const char *s, const char *end)
{
    struct kg_sdp *sdp = p->sdp;
    if (end - s < 2 || s[1] != '=')
        return refuse(p, "not of the form type=value");
    for (const char *c = s; c < end; c++) {
        if ((unsigned char)*c < ' ' && *c != '\t')
            return refuse(p, "a control character");
    }
    struct kg_sdp_line *line = &sdp->line[sdp->line_count];
    *line = (struct kg_sdp_line){.type = s[0], .value = s + 2, .len = (uint16_t)(end - s - 2)};
    if (sdp->line_count == 0 && !p->fragment &&
        (line->type != 'v' || line->len != 1 || line->value[0] != '0'))
        return refuse(p, "a session description begins with v=0");
    sdp->line_count++;
    switch (line->type) {
    case 'a':
        attribute(p, line);
        return true;
    case 'c':
        if (p->media)
            p->media->has_connection = true;
        return connection(p, line, p->media ? &p->media->connection : &sdp->connection);
    case 'm':
        return media(p, line);
    case 's':
        sdp->has_name |= !p->media;
        return true;
    case 't':
        sdp->has_time |= !p->media;
        return true;
    default:
        return true;
    }
}

/* What a media part does not say itself it has from the session (RFC 8866 5.7, 6.7). */
static void inherit(struct kg_sdp *sdp)
{
    for (size_t i = 0; i < sdp->media_count; i++) {
        struct kg_sdp_media *m = &sdp->media[i];
        m->says_ice |= sdp->says_ice;
        if (!m->has_connection)
            m->connection = sdp->connection;
        if (!m->has_direction)
            m->direction = sdp->direction;
        /* RFC 3264 8.4, hold as in RFC 2543: nothing may be sent to it. With ICE 0.0.0.0 only says "no
         * candidate yet" (RFC 8840 4.1.1). */
        if (m->connection.unspecified && !m->says_ice)
            m->direction &= ~(unsigned)KG_RECVONLY;
        kg_sdp_ice_candidates(sdp, m, &m->connection.host);
        kg_sdp_ice_finish(sdp, m);
    }
    kg_sdp_bundle_finish(sdp);
}

static bool fill(struct parser *p, char *text, size_t len)
{
    struct kg_sdp *sdp = p->sdp;
    char *end = text + len;
    while (text < end) {
        char *newline = memchr(text, '\n', (size_t)(end - text));
        char *stop = newline ? newline : end;
        p->number++;
        while (stop > text && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        *stop = '\0';
        if (stop > text && !one_line(p, text, stop))
            return false;
        text = newline ? newline + 1 : end;
    }
    if (sdp->line_count == 0) {
        snprintf(p->error, p->size, "the session description is empty");
        return false;
    }
    if (p->media)
        p->media->end = sdp->line_count;
    else
        sdp->session_end = sdp->line_count;
    inherit(sdp);
    return true;
}

static struct kg_sdp *parse(const char *text, size_t len, bool fragment, char *error, size_t size)
{
    struct parser p = {.fragment = fragment, .error = error, .size = size};
    size_t lines, medias, candidates;
    if (len > KG_SDP_BYTES_MAX) {
        snprintf(error, size, "the session description is longer than %d bytes", KG_SDP_BYTES_MAX);
        return NULL;
    }
    count(text, len, &lines, &medias, &candidates);
    if (lines > KG_SDP_LINES_MAX || medias > KG_SDP_MEDIA_MAX) {
        snprintf(error, size, "the session description has more than %d %s",
                 lines > KG_SDP_LINES_MAX ? KG_SDP_LINES_MAX : KG_SDP_MEDIA_MAX,
                 lines > KG_SDP_LINES_MAX ? "lines" : "m= lines");
        return NULL;
    }
    struct kg_sdp *sdp = malloc(sizeof(*sdp) + medias * sizeof(*sdp->media) + lines * sizeof(*sdp->line) +
                                candidates * sizeof(*sdp->candidate) + len + 1);
    if (!sdp) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    memset(sdp, 0, sizeof(*sdp));
    sdp->direction = KG_SENDRECV;
    sdp->media = (struct kg_sdp_media *)(sdp + 1);
    sdp->line = (struct kg_sdp_line *)(sdp->media + medias);
    sdp->candidate = (struct kg_candidate *)(sdp->line + lines);
    char *copy = (char *)(sdp->candidate + candidates);
    memcpy(copy, text, len);
    copy[len] = '\0';
    sdp->text = copy;
    sdp->text_len = len;
    p.sdp = sdp;
    if (!fill(&p, copy, len)) {
        kg_sdp_free(sdp);
        return NULL;
    }
    return sdp;
}

struct kg_sdp *kg_sdp_parse(const char *text, size_t len, char *error, size_t size)
{
    return parse(text, len, false, error, size);
}

struct kg_sdp *kg_sdp_parse_fragment(const char *text, size_t len, char *error, size_t size)
{
    return parse(text, len, true, error, size);
}

void kg_sdp_free(struct kg_sdp *sdp)
{
    if (sdp && sdp->has_keys)
        OPENSSL_cleanse(sdp->text, sdp->text_len);
    free(sdp);
}
