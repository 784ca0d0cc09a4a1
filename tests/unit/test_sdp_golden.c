/* Every pair of tests/golden/: NAME.in.sdp is what a phone wrote, NAME.side what the media engine is told of
 * it, NAME.out.sdp what the other phone reads; or NAME.refused, the sentence with which the parser refuses
 * it. With KG_GOLDEN_WRITE=1 in the environment the results are written instead of compared: review them with
 * git diff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdp.h"

#define TEXT_MAX 66000

/* NAME.args, a "word value" a line: what kedge offers there. */
struct args {
    char host[KG_ADDR_STR]; /* host */
    char mux[8];            /* mux: yes, no; as offered without */
    int rtcp;               /* rtcp: port of the first line */
    int reject;             /* reject: number of the line, from 1 */
    char ice[32];           /* ice: none, keep, ours; for each line, the last one for all others too */
    bool trickle, agreed, mismatch;
    int budget;
    struct kg_addr from[2], to[2]; /* from1, to1, from2, to2: what remote-candidates are translated by */
};

/* Returns the length, or -1 without such a file. NUL-terminated. */
static long read_file(const char *stem, const char *suffix, char *out)
{
    char path[512];
    snprintf(path, sizeof(path), "%s%s", stem, suffix);
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    size_t n = fread(out, 1, TEXT_MAX - 1, file);
    fclose(file);
    out[n] = '\0';
    return (long)n;
}

static void check(const char *stem, const char *suffix, const char *text)
{
    static char expected[TEXT_MAX];
    char path[512];
    if (getenv("KG_GOLDEN_WRITE")) {
        snprintf(path, sizeof(path), "%s%s", stem, suffix);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        return;
    }
    if (read_file(stem, suffix, expected) < 0)
        fail_msg("%s%s is missing; the result is:\n%s", stem, suffix, text);
    if (strcmp(expected, text) != 0)
        fail_msg("%s%s differs; the result is:\n%s", stem, suffix, text);
}

static void read_args(const char *stem, struct args *args)
{
    char text[TEXT_MAX], *save = NULL;
    *args = (struct args){.host = "203.0.113.1"};
    if (read_file(stem, ".args", text) < 0)
        return;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char word[16], value[KG_ADDR_STR];
        assert_int_equal(sscanf(line, "%15s %79s", word, value), 2);
        if (strcmp(word, "host") == 0)
            snprintf(args->host, sizeof(args->host), "%s", value);
        else if (strcmp(word, "mux") == 0)
            snprintf(args->mux, sizeof(args->mux), "%.7s", value);
        else if (strcmp(word, "rtcp") == 0)
            args->rtcp = (int)strtol(value, NULL, 10);
        else if (strcmp(word, "reject") == 0)
            args->reject = (int)strtol(value, NULL, 10);
        else if (strcmp(word, "ice") == 0)
            snprintf(args->ice, sizeof(args->ice), "%.31s", value);
        else if (strcmp(word, "trickle") == 0)
            args->trickle = strcmp(value, "yes") == 0;
        else if (strcmp(word, "agreed") == 0)
            args->agreed = strcmp(value, "yes") == 0;
        else if (strcmp(word, "mismatch") == 0)
            args->mismatch = strcmp(value, "yes") == 0;
        else if (strcmp(word, "budget") == 0)
            args->budget = (int)strtol(value, NULL, 10);
        else if (strncmp(word, "from", 4) == 0)
            assert_int_equal(kg_addr_parse(value, &args->from[word[4] == '2']), 0);
        else if (strncmp(word, "to", 2) == 0)
            assert_int_equal(kg_addr_parse(value, &args->to[word[2] == '2']), 0);
        else
            fail_msg("%s.args: unknown word %s", stem, word);
    }
}

/* What is known of a line's ICE: credentials' name, candidates, and what cannot be used with its reason. */
static size_t ice_text(const struct kg_sdp *sdp, unsigned line, const struct kg_ice_description *ice,
                       char *out, size_t size)
{
    struct kg_sdp_unused unused[64];
    const char *problem = kg_sdp_ice_problem(sdp, line);
    size_t n = 0, count = kg_sdp_ice_unused(sdp, line, unused, 64);
    out[0] = '\0';
    if (problem)
        n += (size_t)snprintf(out + n, size - n, "  no ice: %s\n", problem);
    if (ice) {
        n += (size_t)snprintf(out + n, size - n, "  ice %s %zu%s%s%s%s", ice->ufrag, strlen(ice->pwd),
                              ice->lite ? " lite" : "", ice->trickle ? " trickle" : "",
                              ice->ice2 ? " ice2" : "", ice->end_of_candidates ? " complete" : "");
        n += (size_t)snprintf(out + n, size - n, ice->pacing_ms ? " pacing %u\n" : "\n", ice->pacing_ms);
    }
    for (unsigned i = 0; ice && i < 2; i++) {
        char addr[KG_ADDR_STR];
        if (kg_addr_is_set(&ice->remote_candidate[i]))
            n += (size_t)snprintf(out + n, size - n, "    selected %u %s\n", i + 1,
                                  kg_addr_format(&ice->remote_candidate[i], addr));
    }
    for (unsigned i = 0; ice && i < ice->candidate_count; i++) {
        const struct kg_candidate *c = &ice->candidate[i];
        char addr[KG_ADDR_STR], related[KG_ADDR_STR];
        n += (size_t)snprintf(out + n, size - n, "    %s %u %u %s %s from %s\n", c->foundation, c->component,
                              c->priority, kg_candidate_type_name(c->type), kg_addr_format(&c->addr, addr),
                              kg_addr_format(&c->related, related));
    }
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(out + n, size - n, "    unused %s: %s\n", unused[i].text, unused[i].reason);
    return n;
}

static void side_text(const struct kg_sdp *sdp, const struct kg_media_side *side, char *out, size_t size)
{
    static const char *const direction[] = {"inactive", "recvonly", "sendonly", "sendrecv"};
    char rtp[KG_ADDR_STR], rtcp[KG_ADDR_STR];
    size_t n = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < side->stream_count; i++) {
        const struct kg_media_stream *s = &side->stream[i];
        if (!s->enabled) {
            n += (size_t)snprintf(out + n, size - n, "%s rejected\n", s->kind);
            continue;
        }
        n += (size_t)snprintf(out + n, size - n, "%s %s rtcp %s%s %s\n", s->kind,
                              kg_addr_format(&s->rtp, rtp), kg_addr_format(&s->rtcp, rtcp),
                              s->rtcp_mux ? " mux" : "", direction[s->direction]);
        for (unsigned j = 0; j < s->codec_count; j++)
            n += (size_t)snprintf(out + n, size - n, "  %u %s %u\n", s->codec[j].payload_type,
                                  s->codec[j].name, s->codec[j].clock_rate);
        n += ice_text(sdp, i, s->ice, out + n, size - n);
    }
}

static enum kg_sdp_ice ice_of(const struct args *args, unsigned line)
{
    const char *word = args->ice;
    for (; line > 0 && strchr(word, ','); line--)
        word = strchr(word, ',') + 1;
    return strncmp(word, "keep", 4) == 0   ? KG_SDP_ICE_KEEP
           : strncmp(word, "ours", 4) == 0 ? KG_SDP_ICE_OURS
                                           : KG_SDP_ICE_NONE;
}

static void fill_local(const struct args *args, const struct kg_media_side *side, struct kg_sdp_local *local)
{
    for (unsigned i = 0; i < side->stream_count; i++) {
        if ((int)i + 1 == args->reject)
            continue;
        assert_int_equal(kg_addr_parse_host(args->host, (uint16_t)(40000 + 2 * i), &local[i].rtp), 0);
        local[i].rtcp = local[i].rtp;
        kg_addr_set_port(&local[i].rtcp, (uint16_t)(i == 0 && args->rtcp ? args->rtcp : 40001 + 2 * (int)i));
        local[i].rtcp_mux = args->mux[0] ? strcmp(args->mux, "yes") == 0 : side->stream[i].rtcp_mux;
        local[i].mux_agreed = args->agreed;
        local[i].trickle = args->trickle;
        local[i].mismatch = args->mismatch;
        local[i].ice = ice_of(args, i);
        local[i].ufrag = "kdgeUfrg";
        local[i].pwd = "kedgePasswordOf24Chars+/";
        for (int c = 0; c < 2; c++) {
            local[i].peer[c].from = args->from[c];
            local[i].peer[c].to = args->to[c];
        }
    }
}

/* No host that the input names in o=, c=, a=rtcp or a=candidate is in the output, but for the lines of
 * candidates that are kept. */
static void check_leaks(const char *stem, const char *in, const char *text, bool kept)
{
    static char out[TEXT_MAX];
    const char *p = text;
    size_t n = 0;
    for (; *p; p = strchr(p, '\n') + 1) {
        size_t len = strcspn(p, "\n") + 1;
        if (kept && (strncmp(p, "a=candidate:", 12) == 0 || strncmp(p, "a=remote-candidates:", 20) == 0))
            continue;
        memcpy(out + n, p, len);
        n += len;
    }
    out[n] = '\0';
    p = in;
    while ((p = strpbrk(p, "0123456789abcdefABCDEF:"))) {
        size_t len = strspn(p, "0123456789abcdefABCDEF:.");
        char token[64];
        struct kg_addr addr;
        if (len >= 7 && len < sizeof(token)) {
            memcpy(token, p, len);
            token[len] = '\0';
            if (kg_addr_parse_host(token, 0, &addr) == 0 && strstr(out, token))
                fail_msg("%s: the output holds the writer's %s", stem, token);
        }
        p += len;
    }
}

/* What is written again reads the same, but for addresses. */
static void check_again(const char *stem, const char *text, size_t len, const struct kg_media_side *side,
                        const struct kg_sdp_local *local)
{
    char error[160] = "";
    struct kg_media_side again = {0};
    struct kg_sdp *sdp = kg_sdp_parse(text, len, error, sizeof(error));
    if (!sdp)
        fail_msg("%s.out.sdp does not parse: %s", stem, error);
    assert_int_equal(kg_sdp_describe(sdp, &again), 0);
    assert_int_equal(again.stream_count, side->stream_count);
    for (unsigned i = 0; i < side->stream_count; i++) {
        const struct kg_media_stream *a = &side->stream[i], *b = &again.stream[i];
        assert_string_equal(a->kind, b->kind);
        assert_int_equal(b->enabled, a->enabled && kg_addr_is_set(&local[i].rtp));
        if (!b->enabled)
            continue;
        assert_int_equal(a->direction, b->direction);
        assert_true(kg_addr_equal(&b->rtp, &local[i].rtp));
        assert_int_equal(a->codec_count, b->codec_count);
        assert_memory_equal(a->codec, b->codec, sizeof(a->codec));
        /* Its default destination is one of its candidates, or there would be no b->ice. */
        bool kept = local[i].ice == KG_SDP_ICE_KEEP && a->ice;
        assert_int_equal(b->ice != NULL, kept || local[i].ice == KG_SDP_ICE_OURS);
        if (b->ice) {
            assert_string_equal(b->ice->ufrag, kept ? a->ice->ufrag : local[i].ufrag);
            assert_string_equal(b->ice->pwd, kept ? a->ice->pwd : local[i].pwd);
        }
    }
    kg_sdp_free(sdp);
}

static void run_pair(const char *stem)
{
    static char in[TEXT_MAX], side_is[16384];
    char error[160] = "";
    struct args args;
    struct kg_media_side side = {0};
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX] = {0};
    struct kg_sdp_origin origin = {.id = 1000, .version = 1};
    struct kg_sdp_pruned pruned;
    long len = read_file(stem, ".in.sdp", in);
    size_t out_len = 0;
    struct kg_sdp *sdp = kg_sdp_parse(in, (size_t)len, error, sizeof(error));
    if (!sdp) {
        strncat(error, "\n", sizeof(error) - strlen(error) - 1);
        check(stem, ".refused", error);
        return;
    }
    read_args(stem, &args);
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    side_text(sdp, &side, side_is, sizeof(side_is));
    fill_local(&args, &side, local);
    char *out =
        kg_sdp_rewrite_within(sdp, local, side.stream_count, NULL, &origin, (size_t)args.budget, &pruned, &out_len);
    assert_non_null(out);
    if (args.budget) {
        size_t n = strlen(side_is);
        snprintf(side_is + n, sizeof(side_is) - n, "%zu bytes of %d: %u candidates left out, %u useless%s\n",
                 out_len, args.budget, pruned.candidates, pruned.useless, pruned.too_big ? ", too big" : "");
        assert_int_equal(pruned.too_big, out_len > (size_t)args.budget);
    }
    check(stem, ".side", side_is);
    assert_int_equal(strlen(out), out_len);
    check(stem, ".out.sdp", out);
    check_leaks(stem, in, out, strstr(args.ice, "keep") != NULL);
    check_again(stem, out, out_len, &side, local);
    free(out);
    kg_sdp_free(sdp);
}

static void test_pairs(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("tests/golden/*.in.sdp", 0, NULL, &found), 0); /* run from the root of the tree */
    assert_true(found.gl_pathc >= 25);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char stem[256];
        snprintf(stem, sizeof(stem), "%.*s", (int)(strlen(found.gl_pathv[i]) - strlen(".in.sdp")),
                 found.gl_pathv[i]);
        run_pair(stem);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs)};
    return cmocka_run_group_tests_name("sdp golden pairs", tests, NULL, NULL);
}
