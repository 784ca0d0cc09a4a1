/* b2bua/sdp/: any input is refused or parses; what parses and is written for the other side, with each way to
 * treat ICE, reads the same there, does ICE as was asked for, and does not hold the writer's address but in
 * kept candidates. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sdp/sdp.h"

#define LINES_MAX 2000 /* of an input; a rewrite adds a few */

#define OUR_HOST  "203.0.113.201"
#define OUR_UFRAG "kdge"
#define OUR_PWD   "kdgekdgekdgekdgekdgekd"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void compare(const struct kg_media_stream *a, const struct kg_media_stream *b,
                    const struct kg_sdp_local *local)
{
    expect(strcmp(a->kind, b->kind) == 0, "kind differs");
    expect(a->enabled == b->enabled, "enabled differs");
    if (!a->enabled)
        return;
    expect(a->direction == b->direction, "direction differs");
    expect(kg_addr_equal(&b->rtp, &local->rtp), "rtp is not ours");
    struct kg_addr next = local->rtp;
    kg_addr_set_port(&next, (uint16_t)(kg_addr_port(&next) + 1));
    if (b->rtcp_mux)
        expect(kg_addr_equal(&b->rtcp, &b->rtp), "rtcp-mux means one port");
    else if (a->codec_count > 0) /* certainly RTP, so a=rtcp is written */
        expect(kg_addr_equal(&b->rtcp, &local->rtcp), "rtcp is not ours");
    else
        expect(kg_addr_equal(&b->rtcp, &local->rtcp) || kg_addr_equal(&b->rtcp, &next), "rtcp is not ours");
    expect(a->codec_count == b->codec_count && memcmp(a->codec, b->codec, sizeof(a->codec)) == 0,
           "codecs differ");
}

/* m= and keys are opaque; a digit, dot or colon beside it makes another number of it; and unspecific hosts
 * ("::1") are in anything. */
static bool leaks(const char *line, size_t len, const char *host)
{
    size_t host_len = strlen(host);
    if (strncmp(line, "m=", 2) == 0 || strncasecmp(line, "a=crypto", 8) == 0 ||
        strncasecmp(line, "a=fing", 6) == 0 || strncasecmp(line, "a=rtpmap", 8) == 0 ||
        strncasecmp(line, "a=setup", 7) == 0 || strncasecmp(line, "a=tls-id", 8) == 0 ||
        strncasecmp(line, "a=key-mgmt", 10) == 0 || strncasecmp(line, "a=zrtp-hash", 11) == 0)
        return false;
    for (size_t i = 1; i + host_len <= len; i++) {
        if (memcmp(line + i, host, host_len) == 0 && !strchr("0123456789.", line[i - 1]) &&
            !strchr("0123456789.", line[i + host_len]))
            return true;
    }
    return false;
}

static bool is_kept_candidate(const char *line)
{
    return strncmp(line, "a=candidate:", 12) == 0 || strncmp(line, "a=remote-candidates:", 20) == 0;
}

static void check_leak(const struct kg_sdp *sdp, const char *text, enum kg_sdp_ice ice)
{
    char host[KG_ADDR_STR];
    struct kg_addr addr = kg_sdp_host(sdp);
    if (kg_addr_family(&addr) != AF_INET)
        return;
    kg_addr_format_host(&addr, host);
    if (strcmp(host, OUR_HOST) == 0)
        return;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        size_t len = strcspn(line, "\n");
        if (!(ice == KG_SDP_ICE_KEEP && is_kept_candidate(line)) && leaks(line, len, host)) {
            fprintf(stderr, "%.*s\n", (int)len, line);
            expect(false, "holds the writer's address");
        }
    }
}

/* What the reader of one m-line finds of ICE. */
static void check_ice(const struct kg_ice_description *a, const struct kg_ice_description *b,
                      const struct kg_sdp_local *local)
{
    enum kg_sdp_ice ice = local->ice == KG_SDP_ICE_KEEP && !a ? KG_SDP_ICE_NONE : local->ice;
    unsigned ours = 0;
    if (ice == KG_SDP_ICE_NONE) {
        expect(b == NULL, "ICE where there should be none");
        return;
    }
    expect(b != NULL, "no ICE, or the default destination is not a candidate");
    expect(strcmp(b->ufrag, ice == KG_SDP_ICE_KEEP ? a->ufrag : OUR_UFRAG) == 0, "ufrag");
    expect(strcmp(b->pwd, ice == KG_SDP_ICE_KEEP ? a->pwd : OUR_PWD) == 0, "pwd");
    for (unsigned i = 0; i < b->candidate_count; i++) {
        const struct kg_candidate *c = &b->candidate[i];
        expect(!kg_addr_is_set(&c->related), "a related address");
        ours += kg_addr_same_host(&c->addr, &local->rtp);
    }
    expect(ours >= 1 || b->candidate_count == KG_ICE_CANDIDATES_MAX, "our candidate is missing");
    expect(ice == KG_SDP_ICE_KEEP || ours == b->candidate_count, "a candidate of the writer's");
}

static void check_budget(const struct kg_sdp *sdp, const struct kg_sdp_local *local, size_t count,
                         size_t whole)
{
    struct kg_sdp_pruned pruned;
    for (size_t budget = whole; budget > 0; budget /= 2) {
        struct kg_sdp_origin origin = {.id = 1, .version = 1};
        size_t len;
        char *text = kg_sdp_rewrite_within(sdp, local, count, NULL, &origin, budget, &pruned, &len);
        expect(text && strlen(text) == len, "not written within a budget");
        expect(pruned.too_big == (len > budget), "too_big");
        expect(pruned.candidates > 0 || len == whole, "shorter, and nothing was left out");
        free(text);
        if (pruned.too_big)
            break;
    }
}

static void check_rewrite(const struct kg_sdp *sdp, const struct kg_media_side *side,
                          struct kg_sdp_local *local, enum kg_sdp_ice ice)
{
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    struct kg_media_side again = {0};
    char error[160] = "";
    size_t len, len2;
    for (unsigned i = 0; i < side->stream_count; i++)
        local[i].ice = ice;
    char *text = kg_sdp_rewrite(sdp, local, side->stream_count, &origin, &len);
    expect(text != NULL, "not rewritten");
    expect(strlen(text) == len, "a NUL inside");
    check_leak(sdp, text, ice);
    struct kg_sdp *read = kg_sdp_parse(text, len, error, sizeof(error));
    if (!read)
        fprintf(stderr, "%s\n%s\n", error, text);
    expect(read != NULL, "what was written is refused");
    expect(kg_sdp_describe(read, &again) == 0, "what was written is not described");
    expect(again.stream_count == side->stream_count, "count differs");
    for (unsigned i = 0; i < side->stream_count; i++) {
        compare(&side->stream[i], &again.stream[i], &local[i]);
        if (side->stream[i].enabled)
            check_ice(side->stream[i].ice, again.stream[i].ice, &local[i]);
    }
    expect(kg_sdp_check_answer(sdp, read, error, sizeof(error)) == 0, "does not match itself");
    expect(kg_sdp_same_but_transport(sdp, read), "differs in more than transport");
    if (ice == KG_SDP_ICE_KEEP) {
        expect(!kg_sdp_is_ice_restart(sdp, read), "an ICE restart");
        check_budget(sdp, local, side->stream_count, len);
    } else {
        /* Written again, it is the same text: nothing is added or lost twice. */
        char *twice = kg_sdp_rewrite(read, local, again.stream_count, &origin, &len2);
        expect(twice && len == len2 && memcmp(text, twice, len) == 0, "a second rewrite differs");
        expect(origin.version == 1, "the version grew without a change");
        free(twice);
    }
    free(text);
    kg_sdp_free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kg_media_side side = {0};
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX] = {0};
    char error[160];
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    struct kg_sdp *sdp = kg_sdp_parse((const char *)data, size, error, sizeof(error));
    if (!sdp)
        return 0;
    if (lines < LINES_MAX - 200 && size < 60000 && kg_sdp_describe(sdp, &side) == 0) {
        for (unsigned i = 0; i < side.stream_count; i++) {
            kg_addr_parse_host(OUR_HOST, (uint16_t)(40000 + 2 * i), &local[i].rtp);
            local[i].rtcp = local[i].rtp;
            kg_addr_set_port(&local[i].rtcp, (uint16_t)(40001 + 2 * i + (size & 1)));
            local[i].rtcp_mux = side.stream[i].rtcp_mux;
            local[i].ufrag = OUR_UFRAG;
            local[i].pwd = OUR_PWD;
            local[i].trickle = size & 2;
            local[i].mux_agreed = size & 4;
            local[i].apart = size & 8;
            if (!side.stream[i].enabled)
                kg_addr_set_port(&local[i].rtp, 0);
        }
        check_rewrite(sdp, &side, local, KG_SDP_ICE_NONE);
        check_rewrite(sdp, &side, local, KG_SDP_ICE_OURS);
        check_rewrite(sdp, &side, local, KG_SDP_ICE_KEEP);
    }
    kg_sdp_free(sdp);
    return 0;
}
