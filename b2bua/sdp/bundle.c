/* BUNDLE (RFC 9143): which m-lines share a transport. */
#include <string.h>

#include "b2bua/sdp/model.h"

static int line_of(const struct kg_sdp *sdp, struct kg_sdp_text mid)
{
    for (size_t i = 0; i < sdp->media_count; i++) {
        const struct kg_sdp_text *its = &sdp->media[i].mid;
        if (its->len == mid.len && memcmp(its->s, mid.s, mid.len) == 0)
            return (int)i;
    }
    return -1;
}

static const struct kg_sdp_line *bundle_line(const struct kg_sdp *sdp)
{
    for (size_t i = 0; i < sdp->session_end; i++) {
        const struct kg_sdp_line *line = &sdp->line[i];
        if (line->type != 'a' || line->attribute != KG_SDP_GROUP)
            continue;
        const char *s = line->value + line->argument;
        if (kg_sdp_text_equal(kg_sdp_word(&s, line->value + line->len), (struct kg_sdp_text){"BUNDLE", 6}))
            return line;
    }
    return NULL;
}

size_t kg_sdp_bundle_lines(const struct kg_sdp *sdp, uint8_t out[static KG_SDP_MEDIA_MAX])
{
    const struct kg_sdp_line *line = bundle_line(sdp);
    bool taken[KG_SDP_MEDIA_MAX] = {false};
    struct kg_sdp_text mid;
    size_t n = 0;
    if (!line)
        return 0;
    const char *s = line->value + line->argument, *end = line->value + line->len;
    kg_sdp_word(&s, end);
    /* Names that are no m-line's count as well: a group has no more of them than a description m-lines. */
    for (int words = 0; words < KG_SDP_MEDIA_MAX && (mid = kg_sdp_word(&s, end)).len > 0; words++) {
        int i = line_of(sdp, mid);
        if (i < 0 || taken[i])
            continue;
        taken[i] = true;
        out[n++] = (uint8_t)i;
    }
    return n;
}

void kg_sdp_bundle_finish(struct kg_sdp *sdp)
{
    uint8_t line[KG_SDP_MEDIA_MAX];
    bool bundle_only = false, enabled = false;
    for (size_t i = 0; i < sdp->media_count; i++)
        bundle_only |= sdp->media[i].bundle_only;
    size_t count = bundle_only ? kg_sdp_bundle_lines(sdp, line) : 0;
    for (size_t i = 0; i < count; i++)
        enabled |= sdp->media[line[i]].enabled;
    for (size_t i = 0; i < count && enabled; i++) {
        struct kg_sdp_media *m = &sdp->media[line[i]];
        m->bundled = m->bundle_only && m->port == 0 && m->rtp;
    }
}

/* Dynamic payload types of two lines that share a transport must be one codec's (RFC 9143 9.1): here, differ.
 */
static void mark_formats(const struct kg_sdp_media *m, bool used[static 128], bool *collides)
{
    const char *s = m->formats.s, *end = m->formats.s + m->formats.len;
    struct kg_sdp_text word;
    uint32_t type;
    *collides = false;
    while ((word = kg_sdp_word(&s, end)).len > 0)
        if (kg_sdp_number(word.s, word.len, 127, &type))
            *collides |= used[type];
    s = m->formats.s;
    while (!*collides && (word = kg_sdp_word(&s, end)).len > 0)
        if (kg_sdp_number(word.s, word.len, 127, &type))
            used[type] = true;
}

static void share(struct kg_sdp_local *local, size_t i, size_t with)
{
    local[i].bundle = (uint8_t)(with + 1);
    local[i].rtp = local[with].rtp;
    local[i].rtcp = local[with].rtcp;
}

static bool is_on(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t i, size_t count)
{
    return i < count && i < sdp->media_count && (sdp->media[i].enabled || sdp->media[i].bundled) &&
           sdp->media[i].rtp && kg_addr_port(&local[i].rtp) != 0;
}

/* RFC 9143 7.3: a subset of what was offered, the first of which has the transport. */
static void plan_answer(const struct kg_sdp *sdp, const struct kg_sdp *offer, struct kg_sdp_local *local,
                        size_t count)
{
    uint8_t line[KG_SDP_MEDIA_MAX];
    size_t n = kg_sdp_bundle_lines(offer, line), tag = KG_SDP_MEDIA_MAX;
    for (size_t i = 0; i < n; i++) {
        if (!is_on(sdp, local, line[i], count) ||
            (!offer->media[line[i]].enabled && !offer->media[line[i]].bundled))
            continue;
        if (tag == KG_SDP_MEDIA_MAX)
            tag = line[i];
        share(local, line[i], tag);
    }
}

static void plan_offer(const struct kg_sdp *sdp, const uint8_t *agreed, struct kg_sdp_local *local,
                       size_t count)
{
    bool used[128] = {false}, collides;
    for (size_t i = 0; i < count && i < sdp->media_count; i++) {
        if (!is_on(sdp, local, i, count))
            continue;
        mark_formats(&sdp->media[i], used, &collides);
        if (collides)
            continue;
        size_t tag = agreed && agreed[i] ? agreed[i] - 1u : i;
        /* What it shared is rejected now, or stands behind it: then it has its own. */
        if (tag >= i || local[tag].bundle != tag + 1)
            tag = i;
        share(local, i, tag);
    }
}

void kg_sdp_plan_bundle(const struct kg_sdp *sdp, const struct kg_sdp_reader *reader, const uint8_t *agreed,
                        struct kg_sdp_local *local, size_t count)
{
    for (size_t i = 0; i < count; i++)
        local[i].bundle = 0;
    if (reader->kind != KG_SDP_WEB)
        return;
    if (!reader->answers)
        plan_offer(sdp, agreed, local, count);
    else if (reader->said)
        plan_answer(sdp, reader->said, local, count);
}
