/* What the other side reads of ICE (RFC 8839): nothing, the writer's with our ports as relay candidates, or
 * ours. Candidates are written from the model, so that nothing else passes in their lines. */
#include <stdio.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

/* A longer a=ice-options is not passed: there are a handful of short words (RFC 8839 5.6). */
#define OPTIONS_MAX 128

enum kg_sdp_ice kg_sdp_ice_mode(const struct kg_sdp_media *m, const struct kg_sdp_local *local)
{
    bool on = (m->enabled || m->bundled) && kg_addr_port(&local->rtp) != 0;
    if (on && local->ice == KG_SDP_ICE_KEEP && m->does_ice)
        return KG_SDP_ICE_KEEP;
    if (on && local->ice == KG_SDP_ICE_OURS && local->ufrag && local->pwd)
        return KG_SDP_ICE_OURS;
    return KG_SDP_ICE_NONE;
}

struct kg_sdp_ice_session kg_sdp_ice_in_session(const struct kg_sdp *sdp, const struct kg_sdp_local *local)
{
    struct kg_sdp_ice_session out = {.shared = true, .trickle = true};
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (!sdp->media[i].enabled || kg_addr_port(&local[i].rtp) == 0)
            continue;
        bool keep = kg_sdp_ice_mode(&sdp->media[i], &local[i]) == KG_SDP_ICE_KEEP;
        out.any |= keep;
        out.shared &= keep;
        out.trickle &= local[i].trickle;
    }
    out.shared &= out.any;
    return out;
}

size_t kg_sdp_ice_candidate_text(const struct kg_candidate *candidate, char out[static KG_CANDIDATE_STR])
{
    struct kg_candidate bare = *candidate;
    memset(&bare.related, 0, sizeof(bare.related));
    return kg_candidate_format(&bare, out);
}

static void put_value(struct kg_sdp_out *out, const char *name, const char *value)
{
    KG_SDP_PUT(out, "a=");
    kg_sdp_put_text(out, name);
    KG_SDP_PUT(out, ":");
    kg_sdp_put_text(out, value);
    KG_SDP_PUT(out, "\r\n");
}

static void put_candidate(struct kg_sdp_out *out, const struct kg_candidate *candidate)
{
    char text[KG_CANDIDATE_STR];
    size_t len = kg_sdp_ice_candidate_text(candidate, text);
    KG_SDP_PUT(out, "a=");
    kg_sdp_put(out, text, len);
    KG_SDP_PUT(out, "\r\n");
}

static void put_pacing(struct kg_sdp_out *out, uint16_t pacing_ms)
{
    KG_SDP_PUT(out, "a=ice-pacing:");
    kg_sdp_put_number(out, pacing_ms);
    KG_SDP_PUT(out, "\r\n");
}

/* Without "trickle" where the reader does not know it, and no line where nothing is left. */
static void put_options(struct kg_sdp_out *out, const struct kg_sdp_line *line, bool trickle)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    const char *before = "a=ice-options:";
    struct kg_sdp_text word;
    if (line->len > OPTIONS_MAX || kg_sdp_holds_address(line->value, line->len))
        return;
    while ((word = kg_sdp_word(&s, end)).len > 0) {
        if (!trickle && kg_sdp_text_equal(word, (struct kg_sdp_text){"trickle", 7}))
            continue;
        kg_sdp_put_text(out, before);
        kg_sdp_put(out, word.s, word.len);
        before = " ";
    }
    if (*before == ' ')
        KG_SDP_PUT(out, "\r\n");
}

/* Whether the model took `value` from this line, and not from another one of the same name. */
static bool is_from(const struct kg_sdp_line *line, const char *value)
{
    return value && value >= line->value && value < line->value + line->len;
}

void kg_sdp_ice_put_session(struct kg_sdp_out *out, const struct kg_sdp *sdp,
                            const struct kg_sdp_ice_session *session, const struct kg_sdp_line *line)
{
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_LITE: /* has no place but this one (RFC 8839 5.3) */
        if (session->any)
            KG_SDP_PUT(out, "a=ice-lite\r\n");
        return;
    case KG_SDP_UFRAG:
        if (session->shared && is_from(line, sdp->ice.ufrag))
            put_value(out, "ice-ufrag", sdp->ice.ufrag);
        return;
    case KG_SDP_PWD:
        if (session->shared && is_from(line, sdp->ice.pwd))
            put_value(out, "ice-pwd", sdp->ice.pwd);
        return;
    case KG_SDP_OPTIONS:
        if (session->shared)
            put_options(out, line, session->trickle);
        return;
    case KG_SDP_PACING:
        if (session->shared && sdp->ice.pacing_ms)
            put_pacing(out, sdp->ice.pacing_ms);
        return;
    case KG_SDP_END_OF_CANDIDATES:
        if (session->shared && session->trickle)
            KG_SDP_PUT(out, "a=end-of-candidates\r\n");
        return;
    default:
        return;
    }
}

/* RFC 8839 5.2: what the writer calls its peer's candidates. Where it has selected our relay, the reader has
 * selected what is behind it. */
static void put_remote_candidates(struct kg_sdp_out *out, const struct kg_sdp_part *part)
{
    struct kg_addr to[2] = {0};
    const char *before = "a=remote-candidates:";
    for (int c = 0; c < 2; c++) {
        const struct kg_addr *named = &part->media->ice.remote_candidate[c];
        if (!kg_addr_is_set(named))
            continue;
        to[c] = kg_addr_equal(named, &part->local->peer[c].from) ? part->local->peer[c].to : *named;
        if (!kg_addr_is_set(&to[c]))
            return;
    }
    for (int c = 0; c < 2; c++) {
        char host[KG_ADDR_STR], text[KG_ADDR_STR + 32];
        if (!kg_addr_is_set(&to[c]))
            continue;
        kg_addr_format_host(&to[c], host);
        host[strcspn(host, "%")] = '\0';
        snprintf(text, sizeof(text), "%s%d %s %u", before, c + 1, host, kg_addr_port(&to[c]));
        kg_sdp_put_text(out, text);
        before = " ";
    }
    if (*before == ' ')
        KG_SDP_PUT(out, "\r\n");
}

/* "kedge4", or the first of kedge41, kedge42 ... that the writer has not: foundations hold for all m-lines
 * (RFC 8839 5.1). */
static void relay_foundation(const struct kg_sdp *sdp, const struct kg_addr *addr,
                             char out[static KG_ICE_FOUNDATION_MAX + 1])
{
    int family = kg_addr_family(addr) == AF_INET6 ? 6 : 4;
    snprintf(out, KG_ICE_FOUNDATION_MAX + 1, "kedge%d", family);
    for (size_t i = 0, n = 0; i < sdp->candidate_count; i++) {
        if (strcmp(sdp->candidate[i].foundation, out) != 0)
            continue;
        snprintf(out, KG_ICE_FOUNDATION_MAX + 1, "kedge%d%zu", family, ++n);
        i = (size_t)-1; /* and look again from the first */
    }
}

/* Below every candidate of the writer's, also of those left out, so that it does not change with them. Local
 * preference 0 is below what agents give their own relays; where it is not, the highest numbers that are
 * free. */
static uint32_t relay_priority(const struct kg_ice_description *ice, uint8_t component)
{
    uint32_t least = UINT32_MAX, found;
    for (uint8_t i = 0; i < ice->candidate_count; i++)
        least = ice->candidate[i].priority < least ? ice->candidate[i].priority : least;
    uint32_t first = kg_candidate_priority(KG_CANDIDATE_RELAY, 0, 1);
    if (least > 2)
        return (least > first ? first : least - 1) - (component - 1u);
    /* The writer has the two lowest numbers itself: unique, but not below. */
    uint8_t skip = component;
    for (found = 1;; found++) {
        bool taken = false;
        for (uint8_t i = 0; i < ice->candidate_count; i++)
            taken |= ice->candidate[i].priority == found;
        if (!taken && --skip == 0)
            return found;
    }
}

/* RFC 8839 4.2.1.2, RFC 5761 5.1.3: component 2 where RTCP may need a port of its own. */
static bool has_component_2(const struct kg_sdp_part *part)
{
    const struct kg_sdp_media *m = part->media;
    if (!m->rtp || !kg_addr_is_set(&part->local->rtcp))
        return false;
    if (!part->local->rtcp_mux)
        return true;
    if (part->local->mux_agreed || m->rtcp_mux_only || part->reader->kind == KG_SDP_WEB)
        return false;
    for (uint8_t i = 0; part->ice == KG_SDP_ICE_KEEP && i < m->ice.candidate_count; i++) {
        if (m->ice.candidate[i].component == 2)
            return true;
    }
    return part->ice == KG_SDP_ICE_OURS;
}

/* Before the writer's: some phones read the first ten candidates only (linphone did for years), and ours are
 * the path that works in any case. */
static void put_our_candidates(struct kg_sdp_out *out, struct kg_sdp_part *part)
{
    const struct kg_addr *addr[2] = {&part->local->rtp, &part->local->rtcp};
    bool keep = part->ice == KG_SDP_ICE_KEEP;
    int count = part->ours ? 0 : has_component_2(part) ? 2 : 1;
    part->ours = true;
    for (int c = 0; c < count; c++) {
        struct kg_candidate ours = {.type = keep ? KG_CANDIDATE_RELAY : KG_CANDIDATE_HOST,
                                    .component = (uint8_t)(c + 1),
                                    .addr = *addr[c]};
        if (keep) {
            relay_foundation(part->sdp, addr[c], ours.foundation);
            ours.priority = relay_priority(&part->media->ice, ours.component);
        } else {
            snprintf(ours.foundation, sizeof(ours.foundation), "host%d",
                     kg_addr_family(addr[c]) == AF_INET6 ? 6 : 4);
            ours.priority = kg_candidate_priority(KG_CANDIDATE_HOST, UINT16_MAX, ours.component);
        }
        put_candidate(out, &ours);
    }
}

/* Ours are before it. */
static void put_end_of_candidates(struct kg_sdp_out *out, struct kg_sdp_part *part)
{
    if (!part->local->trickle || part->end_of_candidates)
        return;
    put_our_candidates(out, part);
    KG_SDP_PUT(out, "a=end-of-candidates\r\n");
    part->end_of_candidates = true;
}

void kg_sdp_ice_put_line(struct kg_sdp_out *out, struct kg_sdp_part *part, const struct kg_sdp_line *line)
{
    const struct kg_sdp_ice_level *own = &part->media->own;
    if (part->ice != KG_SDP_ICE_KEEP)
        return;
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_UFRAG:
        if (is_from(line, own->ufrag))
            put_value(out, "ice-ufrag", own->ufrag);
        return;
    case KG_SDP_PWD:
        if (is_from(line, own->pwd))
            put_value(out, "ice-pwd", own->pwd);
        return;
    case KG_SDP_OPTIONS:
        put_options(out, line, part->local->trickle);
        return;
    case KG_SDP_LITE:
        KG_SDP_PUT(out, "a=ice-lite\r\n");
        return;
    case KG_SDP_PACING:
        if (own->pacing_ms)
            put_pacing(out, own->pacing_ms);
        return;
    case KG_SDP_CANDIDATE:
        put_our_candidates(out, part);
        if (line->verdict == KG_CANDIDATE_OK) {
            uint8_t n = part->next_candidate++;
            if (!part->left_out || !part->left_out[n])
                put_candidate(out, &part->media->ice.candidate[n]);
        }
        return;
    case KG_SDP_REMOTE_CANDIDATES:
        put_remote_candidates(out, part);
        return;
    case KG_SDP_END_OF_CANDIDATES:
        put_end_of_candidates(out, part);
        return;
    default:
        return;
    }
}

/* What the session part says no more, since it does not hold for every m-line of the result. */
static void put_inherited(struct kg_sdp_out *out, struct kg_sdp_part *part)
{
    const struct kg_sdp *sdp = part->sdp;
    const struct kg_sdp_ice_level *own = &part->media->own;
    if (!own->ufrag)
        put_value(out, "ice-ufrag", part->media->ice.ufrag);
    if (!own->pwd)
        put_value(out, "ice-pwd", part->media->ice.pwd);
    for (size_t i = 0; i < sdp->session_end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        if (line->type == 'a' && line->attribute == KG_SDP_OPTIONS)
            put_options(out, line, part->local->trickle);
    }
    if (!own->pacing_ms && sdp->ice.pacing_ms)
        put_pacing(out, sdp->ice.pacing_ms);
    if (sdp->ice.end_of_candidates)
        put_end_of_candidates(out, part);
}

void kg_sdp_ice_put_end(struct kg_sdp_out *out, const struct kg_sdp_ice_session *session,
                        struct kg_sdp_part *part)
{
    const struct kg_sdp_local *local = part->transport;
    switch (part->ice) {
    case KG_SDP_ICE_KEEP:
        if (!session->shared)
            put_inherited(out, part);
        put_our_candidates(out, part);
        return;
    case KG_SDP_ICE_OURS:
        if (!part->on)
            return;
        put_value(out, "ice-ufrag", local->ufrag);
        put_value(out, "ice-pwd", local->pwd);
        put_value(out, "ice-options", local->trickle ? "trickle ice2" : "ice2");
        if (part->shares)
            return;
        put_our_candidates(out, part);
        put_end_of_candidates(out, part);
        return;
    case KG_SDP_ICE_NONE:
        if (part->on && part->local->mismatch)
            KG_SDP_PUT(out, "a=ice-mismatch\r\n");
        return;
    }
}
