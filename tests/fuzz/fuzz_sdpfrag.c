/* b2bua/sdp/sdpfrag.h: any fragment is refused or parses; what is written for the other side parses to the
 * same candidates there, and holds no other address. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdpfrag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* Two lines, as in the seeds. */
static const char offer[] = "v=0\no=- 1 1 IN IP4 192.0.2.5\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\n"
                            "m=audio 9 RTP/AVP 0\na=mid:a\nm=video 9 RTP/AVP 34\na=mid:v\n";

static void check_line(const struct kg_sdpfrag_line *a, const struct kg_sdpfrag_line *b)
{
    expect(a->index == b->index, "another m-line");
    expect(strcmp(a->ice.ufrag, b->ice.ufrag) == 0 && strcmp(a->ice.pwd, b->ice.pwd) == 0,
           "credentials differ");
    expect(a->ice.end_of_candidates == b->ice.end_of_candidates, "end-of-candidates differs");
    expect(a->ice.candidate_count == b->ice.candidate_count, "number of candidates differs");
    for (unsigned i = 0; i < a->ice.candidate_count; i++) {
        const struct kg_candidate *x = &a->ice.candidate[i], *y = &b->ice.candidate[i];
        expect(x->type == y->type && x->component == y->component && x->priority == y->priority &&
                   strcmp(x->foundation, y->foundation) == 0 && kg_addr_equal(&x->addr, &y->addr),
               "a candidate differs");
        expect(!kg_addr_is_set(&y->related), "a related address");
    }
}

/* Lines without news may be left out, if a=mid tells which the others are. */
static void check_rewrite(const struct kg_sdpfrag *frag, const struct kg_sdp *sdp)
{
    char error[160] = "";
    size_t len;
    char *text = kg_sdpfrag_rewrite(frag, false, &len);
    if (!text)
        return;
    expect(strlen(text) == len, "a NUL inside");
    struct kg_sdpfrag *read = kg_sdpfrag_parse(text, len, sdp, error, sizeof(error));
    if (!read)
        fprintf(stderr, "%s\n%s\n", error, text);
    expect(read != NULL, "what was written is refused");
    unsigned j = 0;
    for (unsigned i = 0; i < frag->count; i++) {
        const struct kg_sdpfrag_line *line = &frag->line[i];
        bool news = line->index >= 0 && (line->ice.candidate_count > 0 || line->ice.end_of_candidates);
        if (read->count < frag->count && !news)
            continue;
        expect(j < read->count, "a line is missing");
        check_line(line, &read->line[j++]);
    }
    expect(j == read->count, "a line too much");
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        expect(strncmp(line, "a=", 2) == 0 || strncmp(line, "m=", 2) == 0, "a line of another kind");
    kg_sdpfrag_free(read);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[160];
    if (size > 60000)
        return 0;
    struct kg_sdp *sdp = kg_sdp_parse(offer, sizeof(offer) - 1, error, sizeof(error));
    struct kg_sdpfrag *frag = kg_sdpfrag_parse((const char *)data, size, sdp, error, sizeof(error));
    if (frag) {
        check_rewrite(frag, sdp);
        kg_sdpfrag_free(frag);
    }
    kg_sdp_free(sdp);
    return 0;
}
