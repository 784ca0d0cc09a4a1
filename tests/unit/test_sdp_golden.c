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
    struct kg_sdp_reader reader;   /* reader: like, legacy, web; answers or said: NAME of what it said */
    char said[64];
    char keys[32];    /* keys: keep, ours; for each line, as ice */
    char profile[24]; /* profile: RTP/SAVP ... */
    char crypto[64];  /* crypto: numbers of suites (enum kg_srtp_suite), by commas */
    uint32_t tag;     /* tag: of the first of them */
    char setup[12];   /* setup: actpass, active, passive; with a fingerprint */
    char tls_id[32];  /* tls-id */
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

/* NAME.in.sdp, beside stem. */
static void read_said(const char *stem, struct args *args, const char *name, bool answers)
{
    char path[512], text[TEXT_MAX], error[160];
    const char *slash = strrchr(stem, '/');
    snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash + 1 - stem) : 0, stem, name);
    long len = read_file(path, ".in.sdp", text);
    assert_true(len > 0);
    args->reader.answers = answers;
    args->reader.said = kg_sdp_parse(text, (size_t)len, error, sizeof(error));
    assert_non_null(args->reader.said);
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
        else if (strcmp(word, "reader") == 0)
            args->reader.kind = strcmp(value, "web") == 0      ? KG_SDP_WEB
                                : strcmp(value, "legacy") == 0 ? KG_SDP_LEGACY
                                                               : KG_SDP_LIKE_WRITER;
        else if (strcmp(word, "answers") == 0 || strcmp(word, "said") == 0)
            read_said(stem, args, value, word[0] == 'a');
        else if (strcmp(word, "keys") == 0)
            snprintf(args->keys, sizeof(args->keys), "%.31s", value);
        else if (strcmp(word, "profile") == 0)
            snprintf(args->profile, sizeof(args->profile), "%.23s", value);
        else if (strcmp(word, "crypto") == 0)
            snprintf(args->crypto, sizeof(args->crypto), "%.63s", value);
        else if (strcmp(word, "tag") == 0)
            args->tag = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(word, "setup") == 0)
            snprintf(args->setup, sizeof(args->setup), "%.11s", value);
        else if (strcmp(word, "tls-id") == 0)
            snprintf(args->tls_id, sizeof(args->tls_id), "%.31s", value);
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

/* What is known of a line's keys. */
static size_t keys_text(const struct kg_sdp *sdp, unsigned line, char *out, size_t size)
{
    static const char *const setup[] = {"no setup", "actpass", "active", "passive", "holdconn"};
    static const char *const hash[] = {"", "sha-256", "sha-384", "sha-512"};
    struct kg_sdp_secure secure;
    struct kg_sdp_bad_key bad[8];
    size_t n = 0, count = kg_sdp_bad_keys(sdp, line, bad, 8);
    assert_int_equal(kg_sdp_secure(sdp, line, &secure), 0);
    out[0] = '\0';
    if (!secure.says_sdes && !secure.says_dtls && !secure.says_zrtp && !secure.says_mikey && !secure.problem)
        return 0;
    n +=
        (size_t)snprintf(out + n, size - n, "  keys %s:%s%s%s%s%s%s%s\n",
                         kg_sdp_profile_name((enum kg_sdp_profile)secure.profile), secure.sdes ? " sdes" : "",
                         secure.dtls ? " dtls" : "", secure.plain ? " plain" : "",
                         secure.says_zrtp ? " zrtp" : "", secure.says_mikey ? " mikey" : "",
                         secure.problem ? " problem: " : "", secure.problem ? secure.problem : "");
    for (unsigned i = 0; i < secure.crypto_count; i++) {
        const struct kg_srtp_keys *keys = &secure.crypto[i].keys;
        n += (size_t)snprintf(out + n, size - n, "    %u %s", secure.crypto[i].tag,
                              kg_srtp_suite_name((enum kg_srtp_suite)keys->suite));
        for (unsigned k = 0; k < keys->count; k++) {
            n += (size_t)snprintf(
                out + n, size - n, " %02x..%02x", keys->key[k].bytes[0],
                keys->key[k].bytes[kg_srtp_suite_key_len((enum kg_srtp_suite)keys->suite) - 1]);
            for (unsigned b = 0; b < keys->key[k].mki_len; b++)
                n += (size_t)snprintf(out + n, size - n, "%s%02x", b ? "" : " mki ", keys->key[k].mki[b]);
        }
        n += (size_t)snprintf(out + n, size - n, "\n");
    }
    for (unsigned i = 0; i < secure.fingerprint_count; i++)
        n += (size_t)snprintf(out + n, size - n, "    %s %02X..%02X %s%s%s\n",
                              hash[secure.fingerprint[i].hash], secure.fingerprint[i].bytes[0],
                              secure.fingerprint[i].bytes[secure.fingerprint[i].len - 1], setup[secure.setup],
                              secure.tls_id[0] ? " tls-id " : "", secure.tls_id);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(out + n, size - n, "    unused %s: %s\n", bad[i].text, bad[i].reason);
    kg_sdp_secure_clear(&secure);
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
        if (s->mid[0])
            n += (size_t)snprintf(out + n, size - n, "  mid %s extension %u", s->mid, s->mid_extension);
        if (s->mid[0] && s->bundle)
            n += (size_t)snprintf(out + n, size - n, " in the bundle of line %u", s->bundle);
        if (s->mid[0])
            n += (size_t)snprintf(out + n, size - n, "\n");
        n += keys_text(sdp, i, out + n, size - n);
        n += ice_text(sdp, i, s->ice, out + n, size - n);
    }
    if (kg_sdp_is_web(sdp))
        snprintf(out + n, size - n, "WebRTC\n");
}

/* Which of "keep,ours,ours" is for that line; the last one for all others too. */
static const char *nth(const char *words, unsigned line)
{
    for (; line > 0 && strchr(words, ','); line--)
        words = strchr(words, ',') + 1;
    return words;
}

/* One and the same for all lines. */
static const struct kg_sdp_our_keys *our_keys(const struct args *args)
{
    static struct kg_sdp_crypto crypto[KG_SDP_CRYPTO_MAX];
    static struct kg_sdp_our_keys ours;
    static char tls_id[32];
    memset(crypto, 0, sizeof(crypto));
    ours = (struct kg_sdp_our_keys){.profile = KG_SDP_AVP, .crypto = crypto};
    for (int i = KG_SDP_AVP; i < KG_SDP_PROFILES; i++)
        if (strcmp(args->profile, kg_sdp_profile_name((enum kg_sdp_profile)i)) == 0)
            ours.profile = (uint8_t)i;
    for (const char *p = args->crypto; *p; p += strcspn(p, ",") + (strchr(p, ',') != NULL)) {
        struct kg_sdp_crypto *c = &crypto[ours.crypto_count];
        c->tag = (args->tag ? args->tag : 1) + ours.crypto_count++;
        c->keys.suite = (uint8_t)strtoul(p, NULL, 10);
        c->keys.count = 1;
        for (unsigned i = 0; i < KG_SRTP_KEY_MAX; i++)
            c->keys.key[0].bytes[i] = (uint8_t)(16 * c->tag + i);
    }
    if (args->setup[0]) {
        ours.fingerprint = (struct kg_fingerprint){.hash = KG_FINGERPRINT_SHA256, .len = 32};
        for (uint8_t i = 0; i < 32; i++)
            ours.fingerprint.bytes[i] = (uint8_t)(0xa0 + i);
        ours.setup = strcmp(args->setup, "actpass") == 0  ? KG_SETUP_ACTPASS
                     : strcmp(args->setup, "active") == 0 ? KG_SETUP_ACTIVE
                                                          : KG_SETUP_PASSIVE;
    }
    snprintf(tls_id, sizeof(tls_id), "%s", args->tls_id);
    if (tls_id[0])
        ours.tls_id = tls_id;
    return &ours;
}

static enum kg_sdp_ice ice_of(const struct args *args, unsigned line)
{
    const char *word = nth(args->ice, line);
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
        local[i].keys = strncmp(nth(args->keys, i), "ours", 4) == 0 ? KG_SDP_KEYS_OURS : KG_SDP_KEYS_KEEP;
        local[i].ours = our_keys(args);
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

static void check_fewer_codecs(const char *stem, const struct kg_media_stream *a,
                               const struct kg_media_stream *b)
{
    assert_true(b->codec_count > 0 && b->codec_count <= a->codec_count);
    for (unsigned i = 0, j = 0; i < b->codec_count; i++, j++) {
        while (j < a->codec_count && memcmp(&a->codec[j], &b->codec[i], sizeof(a->codec[0])) != 0)
            j++;
        if (j == a->codec_count && a->codec_count < KG_MEDIA_CODECS_MAX)
            fail_msg("%s: a codec that was not there, or another order", stem);
    }
}

/* What is written again reads the same, but for addresses. */
static void check_again(const char *stem, const char *text, size_t len, const struct kg_sdp *in,
                        const struct args *args, const struct kg_media_side *side,
                        const struct kg_sdp_local *local)
{
    char error[160] = "";
    struct kg_media_side again = {0};
    struct kg_sdp *sdp = kg_sdp_parse(text, len, error, sizeof(error));
    if (!sdp)
        fail_msg("%s.out.sdp does not parse: %s", stem, error);
    assert_int_equal(kg_sdp_describe(sdp, &again), 0);
    if (args->reader.answers)
        kg_sdp_describe_bundle(sdp, &again);
    assert_int_equal(again.stream_count, side->stream_count);
    if (args->reader.answers) {
        if (kg_sdp_check_answer(args->reader.said, sdp, error, sizeof(error)) != 0)
            fail_msg("%s.out.sdp: %s", stem, error);
    }
    for (unsigned i = 0; i < side->stream_count; i++) {
        const struct kg_media_stream *a = &side->stream[i], *b = &again.stream[i];
        bool passes =
            args->reader.kind == KG_SDP_LIKE_WRITER ||
            (!kg_sdp_is_data(in, i) && (args->reader.kind != KG_SDP_WEB || strcmp(a->kind, "image") != 0));
        assert_string_equal(a->kind, b->kind);
        assert_int_equal(b->enabled, a->enabled && passes && kg_addr_is_set(&local[i].rtp));
        if (!b->enabled)
            continue;
        /* To a browser no direction that its offer excludes (RFC 3264 6.1). */
        if (args->reader.kind != KG_SDP_WEB || !args->reader.answers)
            assert_int_equal(a->direction, b->direction);
        assert_true(kg_addr_equal(&b->rtp, &local[i].rtp));
        if (args->reader.kind == KG_SDP_LEGACY) /* some of a browser's go */
            check_fewer_codecs(stem, a, b);
        else
            assert_true(a->codec_count == b->codec_count &&
                        memcmp(a->codec, b->codec, sizeof(a->codec)) == 0);
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
    if (args.reader.kind != KG_SDP_LIKE_WRITER)
        kg_sdp_describe_bundle(sdp, &side);
    side_text(sdp, &side, side_is, sizeof(side_is));
    fill_local(&args, &side, local);
    kg_sdp_plan_bundle(sdp, &args.reader, NULL, local, side.stream_count);
    char *out = kg_sdp_rewrite_within(sdp, local, side.stream_count, &args.reader, &origin,
                                      (size_t)args.budget, &pruned, &out_len);
    assert_non_null(out);
    if (args.budget) {
        size_t n = strlen(side_is);
        snprintf(side_is + n, sizeof(side_is) - n, "%zu bytes of %d: %u candidates left out, %u useless%s\n",
                 out_len, args.budget, pruned.candidates, pruned.useless, pruned.too_big ? ", too big" : "");
        if (pruned.codecs)
            snprintf(side_is + strlen(side_is), sizeof(side_is) - strlen(side_is), "%u codecs left out\n",
                     pruned.codecs);
        if (pruned.crypto)
            snprintf(side_is + strlen(side_is), sizeof(side_is) - strlen(side_is), "%u a=crypto left out\n",
                     pruned.crypto);
        assert_int_equal(pruned.too_big, out_len > (size_t)args.budget);
    }
    check(stem, ".side", side_is);
    assert_int_equal(strlen(out), out_len);
    check(stem, ".out.sdp", out);
    check_leaks(stem, in, out, strstr(args.ice, "keep") != NULL);
    check_again(stem, out, out_len, sdp, &args, &side, local);
    free(out);
    kg_sdp_free((struct kg_sdp *)args.reader.said);
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
