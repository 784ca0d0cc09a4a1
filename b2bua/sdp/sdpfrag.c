/* application/trickle-ice-sdpfrag (RFC 8840 9): a description without v=, o=, s=, t=, c=, so our parser and
 * model serve it too. */
#include "b2bua/sdp/sdpfrag.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

/* By a=mid; without it, the n-th m= line is the n-th, if it is of that kind. */
static int find_line(const struct kg_sdp *sdp, const struct kg_sdp_media *m, size_t n)
{
    if (m->mid.len == 0)
        return n < sdp->media_count && kg_sdp_text_equal(sdp->media[n].kind, m->kind) ? (int)n : -1;
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_text *mid = &sdp->media[i].mid;
        if (mid->len == m->mid.len && memcmp(mid->s, m->mid.s, mid->len) == 0)
            return i < KG_MEDIA_STREAMS_MAX ? (int)i : -1;
    }
    return -1;
}

static bool take_line(struct kg_sdpfrag *frag, struct kg_sdp *text, const struct kg_sdp *sdp, char *error,
                      size_t size)
{
    struct kg_sdpfrag_line *line = &frag->line[frag->count];
    struct kg_sdp_media *m = &text->media[frag->count];
    struct kg_addr nowhere = {0};
    line->index = find_line(sdp, m, frag->count);
    kg_sdp_ice_candidates(text, m, line->index >= 0 ? &sdp->media[line->index].connection.host : &nowhere);
    line->ice = m->ice;
    frag->count++;
    if (m->ice.ufrag && m->ice.pwd)
        return true;
    snprintf(error, size, "m= line %u of the fragment has no valid a=ice-ufrag and a=ice-pwd", frag->count);
    return false;
}

struct kg_sdpfrag *kg_sdpfrag_parse(const char *text, size_t len, const struct kg_sdp *sdp, char *error,
                                    size_t size)
{
    struct kg_sdp *parsed = kg_sdp_parse_fragment(text, len, error, size);
    if (!parsed)
        return NULL;
    struct kg_sdpfrag *frag = NULL;
    if (parsed->media_count == 0 || parsed->media_count > KG_MEDIA_STREAMS_MAX) {
        snprintf(error, size, "the fragment has %zu m= lines, not 1 to %d", parsed->media_count,
                 KG_MEDIA_STREAMS_MAX);
        goto refused;
    }
    frag = calloc(1, sizeof(*frag));
    if (!frag) {
        snprintf(error, size, "out of memory");
        goto refused;
    }
    frag->memory = parsed;
    frag->end_of_candidates = parsed->ice.end_of_candidates;
    parsed->candidate_count = 0; /* read again, knowing where the writer lives */
    while (frag->count < parsed->media_count) {
        if (!take_line(frag, parsed, sdp, error, size))
            goto refused;
    }
    return frag;
refused:
    free(frag);
    kg_sdp_free(parsed);
    return NULL;
}

void kg_sdpfrag_free(struct kg_sdpfrag *frag)
{
    if (frag)
        kg_sdp_free(frag->memory);
    free(frag);
}

/* Credentials and end-of-candidates pass as they are; what else of ICE is there has no meaning here. */
static void put_attribute(struct kg_sdp_out *out, const struct kg_sdp_line *line)
{
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_END_OF_CANDIDATES:
        KG_SDP_PUT(out, "a=end-of-candidates\r\n");
        return;
    case KG_SDP_UFRAG:
    case KG_SDP_PWD:
    case KG_SDP_OPTIONS:
    case KG_SDP_LITE:
    case KG_SDP_PACING:
    case KG_SDP_MID:
    case KG_SDP_OTHER:
    case KG_SDP_RTCP_MUX:
    case KG_SDP_RTCP_MUX_ONLY:
        kg_sdp_put_harmless(out, line);
        return;
    default:
        return;
    }
}

/* The port means nothing here (RFC 8840 9.2). */
static void put_media_line(struct kg_sdp_out *out, const struct kg_sdp_media *m)
{
    KG_SDP_PUT(out, "m=");
    kg_sdp_put(out, m->kind.s, m->kind.len);
    KG_SDP_PUT(out, " 9 ");
    kg_sdp_put(out, m->proto.s, m->proto.len);
    if (m->formats.len > 0) {
        KG_SDP_PUT(out, " ");
        kg_sdp_put(out, m->formats.s, m->formats.len);
    }
    KG_SDP_PUT(out, "\r\n");
}

/* apart: as in kg_sdp_local. */
static bool passes(const struct kg_candidate *candidate, bool apart)
{
    return !apart || !kg_addr_is_private(&candidate->addr);
}

static bool has_candidates(const struct kg_ice_description *ice, bool apart)
{
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        if (passes(&ice->candidate[i], apart))
            return true;
    }
    return false;
}

static void put_media(struct kg_sdp_out *out, const struct kg_sdp *text, const struct kg_sdp_media *m,
                      bool apart)
{
    uint8_t next = 0;
    put_media_line(out, m);
    for (size_t i = m->first + 1; i < m->end; i++) {
        const struct kg_sdp_line *line = &text->line[i];
        if (line->type != 'a')
            continue;
        if (line->attribute != KG_SDP_CANDIDATE) {
            put_attribute(out, line);
        } else if (line->verdict == KG_CANDIDATE_OK) {
            char candidate[KG_CANDIDATE_STR];
            const struct kg_candidate *told = &m->ice.candidate[next++];
            if (!passes(told, apart))
                continue;
            size_t len = kg_sdp_ice_candidate_text(told, candidate);
            KG_SDP_PUT(out, "a=");
            kg_sdp_put(out, candidate, len);
            KG_SDP_PUT(out, "\r\n");
        }
    }
}

/* Lines without a=mid are told by their place (find_line): then none may be left out. */
static bool all_have_mid(const struct kg_sdp *text)
{
    for (size_t i = 0; i < text->media_count; i++) {
        if (text->media[i].mid.len == 0)
            return false;
    }
    return true;
}

char *kg_sdpfrag_rewrite(const struct kg_sdpfrag *frag, bool apart, size_t *len)
{
    const struct kg_sdp *text = frag->memory;
    struct kg_sdp_out out = {0};
    bool says = false, by_place = !all_have_mid(text);
    for (size_t i = 0; i < text->session_end; i++) {
        if (text->line[i].type == 'a')
            put_attribute(&out, &text->line[i]);
    }
    for (uint8_t i = 0; i < frag->count; i++) {
        const struct kg_sdp_media *m = &text->media[i];
        bool has_news =
            frag->line[i].index >= 0 && (has_candidates(&m->ice, apart) || m->ice.end_of_candidates);
        if (has_news || by_place)
            put_media(&out, text, m, apart);
        says |= has_news;
    }
    *len = out.len;
    kg_sdp_put(&out, "", 1);
    if (!says || out.failed) {
        free(out.s);
        return NULL;
    }
    return out.s;
}
