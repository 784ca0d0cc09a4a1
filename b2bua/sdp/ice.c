/* What a description says of ICE (RFC 8839). Nothing here refuses a description: an m-line whose ICE cannot
 * be used does none, and `problem` says why. */
#include <string.h>

#include "b2bua/sdp/model.h"

static struct kg_sdp_text argument(const struct kg_sdp_line *line)
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    return (struct kg_sdp_text){s, (uint16_t)(end - s)};
}

static void credential(const struct kg_sdp_line *line, bool (*is_valid)(const char *, size_t),
                       const char **out, bool *bad)
{
    struct kg_sdp_text text = argument(line);
    if (!is_valid(text.s, text.len))
        *bad = true;
    else if (!*out)
        *out = text.s; /* the line ends with a NUL */
}

/* RFC 8839 5.6 */
static void options(const struct kg_sdp_line *line, struct kg_sdp_ice_level *out)
{
    struct kg_sdp_text word;
    const char *s = line->value + line->argument, *end = line->value + line->len;
    while ((word = kg_sdp_word(&s, end)).len > 0) {
        out->trickle |= kg_sdp_text_equal(word, (struct kg_sdp_text){"trickle", 7});
        out->ice2 |= kg_sdp_text_equal(word, (struct kg_sdp_text){"ice2", 4});
    }
}

/* RFC 8839 5.2: component address port, again for each component. A malformed line is as good as
 * none. */
static void remote_candidates(const struct kg_sdp_line *line, struct kg_addr out[static 2])
{
    const char *s = line->value + line->argument, *end = line->value + line->len;
    struct kg_addr found[2] = {0};
    struct kg_sdp_text component;
    while ((component = kg_sdp_word(&s, end)).len > 0) {
        struct kg_sdp_text host = kg_sdp_word(&s, end), port = kg_sdp_word(&s, end);
        uint32_t component_is, port_is;
        char text[KG_ADDR_STR];
        if (!kg_sdp_number(component.s, component.len, 256, &component_is) || component_is < 1 ||
            !kg_sdp_number(port.s, port.len, 65535, &port_is) || host.len >= sizeof(text))
            return;
        if (component_is > 2)
            continue;
        memcpy(text, host.s, host.len);
        text[host.len] = '\0';
        if (kg_addr_is_set(&found[component_is - 1])) /* baresip: all it knows, and not what it selected */
            return;
        if (strchr(text, '%') || kg_addr_parse_host(text, (uint16_t)port_is, &found[component_is - 1]) != 0)
            return;
    }
    out[0] = found[0];
    out[1] = found[1];
}

void kg_sdp_ice_attribute(struct kg_sdp *sdp, struct kg_sdp_media *m, struct kg_sdp_line *line)
{
    struct kg_sdp_ice_level *level = m ? &m->own : &sdp->ice;
    struct kg_sdp_text text;
    uint32_t number;
    bool says = true;
    switch ((enum kg_sdp_attribute)line->attribute) {
    case KG_SDP_UFRAG:
        credential(line, kg_ice_is_ufrag, &level->ufrag, &level->bad);
        break;
    case KG_SDP_PWD:
        credential(line, kg_ice_is_pwd, &level->pwd, &level->bad);
        break;
    case KG_SDP_OPTIONS:
        options(line, level);
        break;
    case KG_SDP_LITE:
        level->lite = true;
        break;
    case KG_SDP_PACING:
        text = argument(line);
        if (kg_sdp_number(text.s, text.len, UINT16_MAX, &number))
            level->pacing_ms = (uint16_t)number;
        break;
    case KG_SDP_CANDIDATE:
        line->verdict = KG_SDP_NOT_IN_MEDIA; /* until kg_sdp_ice_candidates reads it */
        break;
    case KG_SDP_REMOTE_CANDIDATES:
        if (m)
            remote_candidates(line, m->ice.remote_candidate);
        says = false;
        break;
    case KG_SDP_MISMATCH:
        level->mismatch = true;
        says = false;
        break;
    default:
        level->end_of_candidates = true;
        says = false;
    }
    *(m ? &m->says_ice : &sdp->says_ice) |= says;
}

static bool is_link_local(const struct kg_addr *addr)
{
    if (kg_addr_family(addr) == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr);
    return kg_addr_family(addr) == AF_INET && ntohl(addr->in4.sin_addr.s_addr) >> 16 == 0xa9fe;
}

/* Loopback and link-local candidates mean another machine, or none, on the reader's side; unless the writer
 * lives there altogether, as in tests. */
static uint8_t usefulness(const struct kg_candidate *candidate, const struct kg_addr *host)
{
    if (kg_addr_is_loopback(&candidate->addr) && !kg_addr_is_loopback(host))
        return KG_SDP_LOOPBACK;
    if (is_link_local(&candidate->addr) && !is_link_local(host))
        return KG_SDP_LINK_LOCAL;
    return KG_CANDIDATE_OK;
}

/* RFC 8839 4.2.5: the default destination must be among the candidates. */
struct defaults {
    struct kg_addr addr[2]; /* by component - 1; none: not to be found */
    bool seen, found[2], any[2];
};

static void set_default(struct kg_addr *out, const struct kg_addr *host, uint16_t port)
{
    if (!kg_addr_is_set(host) || port == 0 || port == 9) /* port 9: "no candidate yet" (RFC 8840 4.1.1) */
        return;
    *out = *host;
    kg_addr_set_port(out, port);
}

/* RTCP is looked for only where a=rtcp names its port: phones leave a=rtcp out though their RTCP candidate
 * has not the next port. With rtcp-mux component 2 may be absent. */
static void defaults(const struct kg_sdp_media *m, struct defaults *out)
{
    set_default(&out->addr[0], &m->connection.host, m->port);
    if (!m->rtcp_mux)
        set_default(&out->addr[1], kg_addr_is_set(&m->rtcp_host) ? &m->rtcp_host : &m->connection.host,
                    m->rtcp_port);
}

static bool is_mismatch(const struct defaults *defaults)
{
    if (!defaults->seen)
        return false;
    for (int i = 0; i < 2; i++) {
        bool required = kg_addr_is_set(&defaults->addr[i]) && (i == 0 || defaults->any[i]);
        if (required && !defaults->found[i])
            return true;
    }
    return false;
}

/* Keeps KG_ICE_CANDIDATES_MAX of the n, which are more, from `list` on: those of highest priority, the
 * earlier one of two equal.
 */
static size_t keep_best(struct kg_sdp *sdp, const struct kg_sdp_media *m, struct kg_candidate *list, size_t n)
{
    size_t best[KG_ICE_CANDIDATES_MAX] = {0}, count = 0, kept = 0, i = 0;
    for (size_t c = 0; c < n; c++) {
        size_t at = count;
        while (at > 0 && list[best[at - 1]].priority < list[c].priority)
            at--;
        if (at == KG_ICE_CANDIDATES_MAX)
            continue;
        count += count < KG_ICE_CANDIDATES_MAX;
        memmove(&best[at + 1], &best[at], (count - 1 - at) * sizeof(best[0]));
        best[at] = c;
    }
    size_t last = best[KG_ICE_CANDIDATES_MAX - 1];
    uint32_t least = list[last].priority;
    for (size_t l = m->first; l < m->end; l++) {
        struct kg_sdp_line *line = &sdp->line[l];
        if (line->type != 'a' || line->attribute != KG_SDP_CANDIDATE || line->verdict != KG_CANDIDATE_OK)
            continue;
        if (list[i].priority > least || (list[i].priority == least && i <= last))
            list[kept++] = list[i];
        else
            line->verdict = KG_SDP_TOO_MANY;
        i++;
    }
    return kept;
}

void kg_sdp_ice_candidates(struct kg_sdp *sdp, struct kg_sdp_media *m, const struct kg_addr *host)
{
    struct kg_candidate *list = sdp->candidate + sdp->candidate_count;
    struct defaults check = {0};
    size_t n = 0;
    m->problem = NULL;
    defaults(m, &check);
    for (size_t l = m->first; l < m->end; l++) {
        struct kg_sdp_line *line = &sdp->line[l];
        if (line->type != 'a' || line->attribute != KG_SDP_CANDIDATE)
            continue;
        struct kg_sdp_text text = argument(line);
        struct kg_candidate candidate;
        check.seen = true;
        line->verdict = (uint8_t)kg_candidate_parse(text.s, text.len, &candidate);
        if (line->verdict != KG_CANDIDATE_OK)
            continue;
        int c = candidate.component - 1;
        check.any[c] = true;
        check.found[c] |= kg_addr_equal(&candidate.addr, &check.addr[c]);
        line->verdict = usefulness(&candidate, host);
        if (line->verdict == KG_CANDIDATE_OK)
            list[n++] = candidate;
    }
    if (n > KG_ICE_CANDIDATES_MAX)
        n = keep_best(sdp, m, list, n);
    sdp->candidate_count += n;
    m->ice.candidate = list;
    m->ice.candidate_count = (uint8_t)n;
    m->mismatch = m->enabled && is_mismatch(&check);
    if (m->enabled && !check.seen && kg_addr_is_set(&check.addr[0]) && !m->own.trickle && !sdp->ice.trickle)
        m->problem = "it has no candidates";
}

void kg_sdp_ice_finish(struct kg_sdp *sdp, struct kg_sdp_media *m)
{
    const struct kg_sdp_ice_level *own = &m->own, *session = &sdp->ice;
    struct kg_ice_description *ice = &m->ice;
    ice->ufrag = own->ufrag ? own->ufrag : session->ufrag;
    ice->pwd = own->pwd ? own->pwd : session->pwd;
    ice->lite = own->lite || session->lite;
    ice->trickle = own->trickle || session->trickle;
    ice->ice2 = own->ice2 || session->ice2;
    ice->end_of_candidates = own->end_of_candidates || session->end_of_candidates;
    ice->pacing_ms = own->pacing_ms ? own->pacing_ms : session->pacing_ms;
    bool bad = own->bad || session->bad;
    if (own->mismatch || session->mismatch)
        m->problem = "it says a=ice-mismatch: somebody between changed the addresses of the description that "
                     "it read, a SIP ALG perhaps";
    else if (!ice->ufrag || !ice->pwd)
        m->problem = bad ? "its a=ice-ufrag or a=ice-pwd is too short, too long or has other characters than "
                           "RFC 8839 allows"
                     : ice->ufrag || ice->pwd || ice->candidate_count > 0
                         ? "a=ice-ufrag or a=ice-pwd is missing"
                         : NULL;
    else if (m->mismatch)
        m->problem =
            "the address in c=, m= or a=rtcp is none of its candidates: somebody between changed it, a "
            "SIP ALG perhaps (RFC 8839 4.2.5)";
    m->does_ice = m->enabled && ice->ufrag && ice->pwd && !m->problem;
}

static const char *reason(uint8_t verdict)
{
    switch (verdict) {
    case KG_SDP_LOOPBACK:
        return "a loopback address: another machine for everybody else";
    case KG_SDP_LINK_LOCAL:
        return "a link-local address: it holds on its own link only";
    case KG_SDP_TOO_MANY:
        return "too many candidates, and this one's priority is low";
    case KG_SDP_NOT_IN_MEDIA:
        return "before the first m= line it belongs to none";
    default:
        return kg_candidate_verdict_text((enum kg_candidate_verdict)verdict);
    }
}

size_t kg_sdp_ice_unused(const struct kg_sdp *sdp, size_t media, struct kg_sdp_unused *out, size_t max)
{
    size_t n = 0;
    if (media >= sdp->media_count)
        return 0;
    const struct kg_sdp_media *m = &sdp->media[media];
    for (size_t l = m->first; l < m->end && n < max; l++) {
        const struct kg_sdp_line *line = &sdp->line[l];
        if (line->type == 'a' && line->attribute == KG_SDP_CANDIDATE && line->verdict != KG_CANDIDATE_OK)
            out[n++] = (struct kg_sdp_unused){line->value, reason(line->verdict)};
    }
    return n;
}

const char *kg_sdp_ice_problem(const struct kg_sdp *sdp, size_t media)
{
    return media < sdp->media_count && sdp->media[media].enabled ? sdp->media[media].problem : NULL;
}

bool kg_sdp_ice_is_mismatch(const struct kg_sdp *sdp, size_t media)
{
    return media < sdp->media_count && sdp->media[media].mismatch;
}

bool kg_sdp_is_ice_restart(const struct kg_sdp *before, const struct kg_sdp *after)
{
    size_t count = before->media_count < after->media_count ? before->media_count : after->media_count;
    for (size_t i = 0; i < count; i++) {
        const struct kg_sdp_media *b = &before->media[i], *a = &after->media[i];
        if (!b->enabled || !a->enabled || !b->ice.ufrag || !b->ice.pwd || !a->ice.ufrag || !a->ice.pwd)
            continue;
        if (strcmp(b->ice.ufrag, a->ice.ufrag) != 0 || strcmp(b->ice.pwd, a->ice.pwd) != 0)
            return true;
    }
    return false;
}
