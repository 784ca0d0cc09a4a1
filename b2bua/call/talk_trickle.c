/* Candidates that come one after the other (RFC 8838). They are written into the description that they
 * complete, so that everything made of it later has them: the engine, the next offer to the other side, the
 * snapshot, explain. */
#include "b2bua/call/talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdpfrag.h"
#include "conf/log.h"

/* A description grows no further: a phone that goes on and on is not believed. Bytes. */
#define DESCRIPTION_MAX 16384

/* The text that is complemented: of the offer/answer under way, else the agreed one. */
static char **text_of(struct kg_leg *leg)
{
    return leg->sdp_pending ? &leg->sdp_pending : &leg->sdp_agreed;
}

/* The end of m-line `index` in text: where the next one begins. NULL: there is no such line. */
static const char *end_of_line(const char *text, int index)
{
    int line = -1;
    for (const char *p = text; *p;) {
        if (strncmp(p, "m=", 2) == 0 && line++ == index)
            return p;
        p += strcspn(p, "\n");
        p += *p == '\n';
    }
    return line == index ? text + strlen(text) : NULL;
}

/* True if the text has the line already. */
static bool has_line(const char *text, const char *line, size_t len)
{
    for (const char *p = strstr(text, line); p; p = strstr(p + 1, line))
        if (p[len] == '\r' || p[len] == '\n' || p[len] == '\0')
            return true;
    return false;
}

/* Returns 0, also where there is nothing to add or no room, or ENOMEM. */
static int add_line(char **text, int index, const char *line)
{
    size_t len = strlen(line), size = strlen(*text);
    const char *at = end_of_line(*text, index);
    if (!at || has_line(*text, line, len) || size + len + 3 > DESCRIPTION_MAX)
        return 0;
    size_t before = (size_t)(at - *text);
    const char *gap = before > 0 && at[-1] != '\n' ? "\r\n" : "";
    char *longer = malloc(size + len + 5);
    if (!longer)
        return ENOMEM;
    memcpy(longer, *text, before);
    char *p = stpcpy(longer + before, gap);
    p = stpcpy(p, line);
    p = stpcpy(p, "\r\n");
    memcpy(p, at, size - before + 1);
    free(*text);
    *text = longer;
    return 0;
}

/* Of the generation that the description is of (RFC 8840 4.4: others are discarded). */
static bool is_current(const struct kg_ice_description *ice, const struct kg_ice_description *trickled)
{
    return ice && (!trickled->ufrag || strcmp(trickled->ufrag, ice->ufrag) == 0) &&
           (!trickled->pwd || strcmp(trickled->pwd, ice->pwd) == 0);
}

static int add_candidates(char **text, const struct kg_sdpfrag_line *line, bool end)
{
    int failed = 0;
    for (uint8_t i = 0; i < line->ice.candidate_count && !failed; i++) {
        char attribute[KG_CANDIDATE_STR + 2] = "a=";
        kg_candidate_format(&line->ice.candidate[i], attribute + 2);
        failed = add_line(text, line->index, attribute);
    }
    if (!failed && (end || line->ice.end_of_candidates))
        failed = add_line(text, line->index, "a=end-of-candidates");
    return failed;
}

static struct kg_sdpfrag *parse(const struct kg_leg *leg, const char *body, size_t len, struct kg_sdp **made,
                                const struct kg_sdp **said)
{
    char error[160];
    *said = kg_talk_said(leg, made);
    struct kg_sdpfrag *frag = *said ? kg_sdpfrag_parse(body, len, *said, error, sizeof error) : NULL;
    if (*said && !frag)
        kg_info("call", "call %s: candidates in an INFO of %s cannot be understood: %s",
                leg->call->record->id, leg->call->record->leg[leg->side].user, error);
    return frag;
}

void kg_talk_trickle(struct kg_leg *leg, const char *body, size_t len)
{
    struct kg_sdp *made;
    const struct kg_sdp *said;
    struct kg_media_side side;
    char **text = text_of(leg), error[160];
    struct kg_sdpfrag *frag = parse(leg, body, len, &made, &said);
    memset(&side, 0, sizeof side);
    if (frag && kg_sdp_describe(said, &side) == 0) {
        size_t before = strlen(*text);
        for (uint8_t i = 0; i < frag->count; i++) {
            const struct kg_sdpfrag_line *line = &frag->line[i];
            if (line->index >= 0 && line->index < side.stream_count &&
                is_current(side.stream[line->index].ice, &line->ice))
                add_candidates(text, line, frag->end_of_candidates);
        }
        /* Each INFO repeats what was told before (RFC 8840 4.4), and so may a phone that wants to keep us
         * busy. */
        bool news = strlen(*text) != before;
        struct kg_sdp *sdp =
            news && leg->sdp ? kg_sdp_parse(*text, strlen(*text), error, sizeof error) : NULL;
        if (sdp) {
            kg_sdp_free(leg->sdp);
            leg->sdp = sdp;
        }
        if (news)
            kg_talk_tell(leg);
    }
    kg_sdpfrag_free(frag);
    kg_sdp_free(made);
}

char *kg_talk_trickle_text(struct kg_leg *from, const char *body, size_t len, size_t *out_len)
{
    struct kg_sdp *made;
    const struct kg_sdp *said;
    const struct kg_leg *to = &from->call->leg[kg_other_side(from->side)];
    bool steered = false;
    for (int i = 0; i < KG_MEDIA_STREAMS_MAX; i++)
        steered |= from->lines.use[i] == KG_ICE_STEER && to->told[i] == KG_SDP_ICE_KEEP;
    if (!steered)
        return NULL;
    struct kg_sdpfrag *frag = parse(from, body, len, &made, &said);
    char *text = frag ? kg_sdpfrag_rewrite(frag, kg_talk_are_apart(from, to), out_len) : NULL;
    kg_sdpfrag_free(frag);
    kg_sdp_free(made);
    return text;
}
