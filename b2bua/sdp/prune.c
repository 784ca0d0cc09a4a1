/* Which candidates go first when a description has to fit into a datagram. Looks at the writer's candidates
 * only, never at the reader: it may be in the same house or behind a carrier's NAT. */
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/rewrite.h"

/* Least useful first. Our own relay candidate stays in any case, so that what is lost is a better path, not
 * the call. */
enum use {
    DUPLICATE,           /* another one of higher priority has the same address */
    SECOND_PRIVATE_HOST, /* there is a better host candidate of the same family in a private network */
    SECOND_RELAY,        /* a better relay of the phone's own of the same family */
    SECOND_PUBLIC,       /* a better one of the same family that the Internet can reach */
    RELAY,               /* UDP gets out (a public one is there), so our relay does as well */
    PRIVATE_HOST,        /* helps only a reader in the same network */
    ONLY_WAY_OUT,        /* a relay where no public one is: UDP may be blocked */
    PUBLIC,              /* the direct path through most NATs */
};

/* All components of one candidate: they go together, since RTP without its RTCP is of little use. */
struct unit {
    const struct kg_sdp_media *media;
    uint32_t members; /* bits by number in media->ice.candidate */
    uint8_t use;      /* enum use */
    uint8_t line;     /* number of the m-line */
    uint8_t first;    /* lowest member */
};

enum kind { PRIVATE_KIND, PUBLIC_KIND, RELAY_KIND };

static enum kind kind_of(const struct kg_candidate *c)
{
    if (c->type == KG_CANDIDATE_RELAY)
        return RELAY_KIND;
    return c->type == KG_CANDIDATE_HOST && kg_addr_is_private(&c->addr) ? PRIVATE_KIND : PUBLIC_KIND;
}

static bool is_one_unit(const struct kg_candidate *a, const struct kg_candidate *b)
{
    return a->type == b->type && kg_addr_same_host(&a->addr, &b->addr) &&
           strcmp(a->foundation, b->foundation) == 0;
}

/* The earlier one of two equal is the better. */
static bool is_better(const struct kg_candidate *a, const struct kg_candidate *b)
{
    return a->priority > b->priority || (a->priority == b->priority && a < b);
}

static bool is_duplicate(const struct kg_ice_description *ice, const struct kg_candidate *c)
{
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        const struct kg_candidate *other = &ice->candidate[i];
        if (other->component == c->component && kg_addr_equal(&other->addr, &c->addr) && is_better(other, c))
            return true;
    }
    return false;
}

/* By its first member. */
static enum use use_of(const struct kg_ice_description *ice, const struct kg_candidate *c)
{
    enum kind kind = kind_of(c);
    bool second = false, public = false;
    if (is_duplicate(ice, c))
        return DUPLICATE;
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        const struct kg_candidate *other = &ice->candidate[i];
        public |= kind_of(other) == PUBLIC_KIND;
        if (other->component == c->component && kind_of(other) == kind && is_better(other, c) &&
            kg_addr_family(&other->addr) == kg_addr_family(&c->addr))
            second = true;
    }
    switch (kind) {
    case PRIVATE_KIND:
        return second ? SECOND_PRIVATE_HOST : PRIVATE_HOST;
    case RELAY_KIND:
        return second ? SECOND_RELAY : public ? RELAY : ONLY_WAY_OUT;
    default:
        return second ? SECOND_PUBLIC : PUBLIC;
    }
}

static size_t units_of(const struct kg_sdp_media *m, uint8_t line, struct unit *out)
{
    const struct kg_ice_description *ice = &m->ice;
    uint32_t taken = 0;
    size_t n = 0;
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        if (taken >> i & 1)
            continue;
        struct unit unit = {.media = m, .line = line, .first = i};
        for (uint8_t j = i; j < ice->candidate_count; j++) {
            if (!(taken >> j & 1) && is_one_unit(&ice->candidate[i], &ice->candidate[j]))
                unit.members |= 1u << j;
        }
        taken |= unit.members;
        unit.use = (uint8_t)use_of(ice, &ice->candidate[i]);
        out[n++] = unit;
    }
    return n;
}

/* Least useful, then lowest priority, then the last m-line, then the last in the text. */
static int compare(const void *a, const void *b)
{
    const struct unit *x = a, *y = b;
    uint32_t p = x->media->ice.candidate[x->first].priority, q = y->media->ice.candidate[y->first].priority;
    if (x->use != y->use)
        return x->use < y->use ? -1 : 1;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->line != y->line)
        return x->line > y->line ? -1 : 1;
    return x->first > y->first ? -1 : x->first < y->first;
}

/* Whether another candidate of its component stays. */
static bool can_go(const struct kg_ice_description *ice, uint8_t candidate, const bool *left_out)
{
    for (uint8_t i = 0; i < ice->candidate_count; i++) {
        if (i != candidate && !left_out[i] &&
            ice->candidate[i].component == ice->candidate[candidate].component)
            return true;
    }
    return false;
}

size_t kg_sdp_prune(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t excess, bool *left_out)
{
    struct unit *unit = calloc(sdp->candidate_count + 1, sizeof(*unit));
    size_t count = 0, saved = 0, n = 0;
    if (!unit)
        return 0;
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (kg_sdp_ice_mode(&sdp->media[i], &local[i]) == KG_SDP_ICE_KEEP)
            count += units_of(&sdp->media[i], (uint8_t)i, unit + count);
    }
    qsort(unit, count, sizeof(*unit), compare);
    for (size_t u = 0; u < count && saved < excess; u++) {
        const struct kg_ice_description *ice = &unit[u].media->ice;
        bool *out = left_out + (ice->candidate - sdp->candidate);
        for (uint8_t i = 0; i < ice->candidate_count; i++) {
            char text[KG_CANDIDATE_STR];
            if (!(unit[u].members >> i & 1) || out[i] || !can_go(ice, i, out))
                continue;
            out[i] = true;
            n++;
            saved += kg_sdp_ice_candidate_text(&ice->candidate[i], text) + sizeof("a=\r\n") - 1;
        }
    }
    free(unit);
    return n;
}

static bool is_useless(const struct kg_candidate *c, const struct kg_sdp_local *local)
{
    if (c->component == 2 && local->rtcp_mux && local->mux_agreed) /* RFC 5761 5.1.1 */
        return true;
    if (kg_addr_equal(&c->addr, &local->rtp) || kg_addr_equal(&c->addr, &local->rtcp))
        return true;
    return local->apart && kg_addr_is_private(&c->addr);
}

size_t kg_sdp_leave_out(const struct kg_sdp *sdp, const struct kg_sdp_local *local, bool *left_out)
{
    size_t n = 0;
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_ice_description *ice = &sdp->media[i].ice;
        if (kg_sdp_ice_mode(&sdp->media[i], &local[i]) != KG_SDP_ICE_KEEP)
            continue;
        for (uint8_t c = 0; c < ice->candidate_count; c++) {
            if (is_useless(&ice->candidate[c], &local[i])) {
                left_out[ice->candidate - sdp->candidate + c] = true;
                n++;
            }
        }
    }
    return n;
}
