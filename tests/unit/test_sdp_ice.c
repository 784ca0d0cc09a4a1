/* b2bua/sdp/: ICE in descriptions (RFC 8839): limits, what a rewrite touches and what not, the order of
 * pruning, restarts, what counts as a new network only. Whole texts are in tests/golden/ice-*. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "b2bua/sdp/sdp.h"

#define HEAD       "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n"
#define CREDS      "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
#define AUDIO      "m=audio 5000 RTP/AVP 0\r\n"
#define HOST       "a=candidate:1 1 UDP 2130706431 192.0.2.5 5000 typ host\r\n"
#define INSTANT_MS 200 /* as in test_sdp.c */

static struct kg_sdp *parse(const char *text)
{
    char error[160] = "";
    struct kg_sdp *sdp = kg_sdp_parse(text, strlen(text), error, sizeof(error));
    if (!sdp)
        fail_msg("refused: %s", error);
    return sdp;
}

static struct kg_sdp_local keep(void)
{
    struct kg_sdp_local local = {.ice = KG_SDP_ICE_KEEP};
    assert_int_equal(kg_addr_parse("203.0.113.1:40000", &local.rtp), 0);
    assert_int_equal(kg_addr_parse("203.0.113.1:40001", &local.rtcp), 0);
    return local;
}

/* Rewritten within a budget, one local for each m-line. */
static char *rewrite(const char *text, struct kg_sdp_local local, size_t budget, struct kg_sdp_pruned *pruned)
{
    struct kg_sdp *sdp = parse(text);
    struct kg_sdp_local all[4] = {local, local, local, local};
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    size_t len;
    char *out = kg_sdp_rewrite_within(sdp, all, 4, NULL, &origin, budget, pruned, &len);
    assert_non_null(out);
    assert_int_equal(strlen(out), len);
    kg_sdp_free(sdp);
    return out;
}

static const struct kg_ice_description *describe(const struct kg_sdp *sdp, unsigned line)
{
    static struct kg_media_side side;
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    return side.stream[line].ice;
}

/* Whether there is ICE, by credentials, candidates and default destination. Each wrong one is no ICE, never a
 * refusal. */
static void test_validity(void **state)
{
    (void)state;
#define LONG_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const struct {
        const char *text;
        bool ice, mismatch, explained;
    } rows[] = {
        {AUDIO CREDS HOST, true, false, false},
        {AUDIO, false, false, false},
        {AUDIO "a=ice-options:trickle\r\n", false, false, false},
        {AUDIO HOST, false, false, true},
        {AUDIO "a=ice-ufrag:abc\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" HOST, false, false, true},
        {AUDIO "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstu\r\n" HOST, false, false, true},
        {AUDIO "a=ice-ufrag:ab-d\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" HOST, false, false, true},
        {AUDIO "a=ice-ufrag:" LONG_64 LONG_64 LONG_64 LONG_64 "\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" HOST,
         true, false, false},
        {AUDIO "a=ice-ufrag:" LONG_64 LONG_64 LONG_64 LONG_64
               "x\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" HOST,
         false, false, true},
        {AUDIO "a=ice-ufrag\r\na=ice-pwd\r\n" HOST, false, false, true},
        {AUDIO "a=ice-ufrag: abcd \r\na=ice-pwd:abcdefghijklmnopqrstuv\t\r\n" HOST, true, false, false},
        {CREDS AUDIO HOST, true, false, false},
        {AUDIO CREDS HOST "a=ice-mismatch\r\n", false, false, true},
        {"m=audio 5002 RTP/AVP 0\r\n" CREDS HOST, false, true, true},
        {AUDIO "c=IN IP4 192.0.2.6\r\n" CREDS HOST, false, true, true},
        /* "No candidate yet", and a name, which may be any of them. */
        {"m=audio 9 RTP/AVP 0\r\n" CREDS HOST, true, false, false},
        {AUDIO "c=IN IP4 0.0.0.0\r\n" CREDS HOST, true, false, false},
        {AUDIO "c=IN IP6 ::\r\n" CREDS HOST, true, false, false},
        {AUDIO "c=IN IP4 phone.example\r\n" CREDS HOST, true, false, false},
        /* The same address in another notation. */
        {AUDIO "c=IN IP6 2001:DB8:0::5\r\n" CREDS "a=candidate:1 1 UDP 9 2001:db8::5 5000 typ host\r\n", true,
         false, false},
        /* RTCP: only where a=rtcp says where it is, and not with rtcp-mux. */
        {AUDIO CREDS HOST "a=candidate:1 2 UDP 5 192.0.2.5 5009 typ host\r\n", true, false, false},
        {AUDIO CREDS HOST "a=candidate:1 2 UDP 5 192.0.2.5 5009 typ host\r\na=rtcp:5009\r\n", true, false,
         false},
        {AUDIO CREDS HOST "a=candidate:1 2 UDP 5 192.0.2.5 5009 typ host\r\na=rtcp:5001\r\n", false, true,
         true},
        {AUDIO CREDS HOST "a=candidate:1 2 UDP 5 192.0.2.5 5009 typ host\r\na=rtcp:9 IN IP4 0.0.0.0\r\n",
         true, false, false},
        {AUDIO CREDS HOST "a=candidate:1 2 UDP 5 192.0.2.5 5009 typ host\r\na=rtcp:5001\r\na=rtcp-mux\r\n",
         true, false, false},
        {AUDIO CREDS HOST "a=rtcp:5001\r\n", true, false, false}, /* no component 2 at all */
        /* No candidates: only with trickle. */
        {AUDIO CREDS, false, false, true},
        {AUDIO CREDS "a=ice-options:ice2 trickle\r\n", true, false, false},
        {"a=ice-options:trickle\r\n" AUDIO CREDS, true, false, false},
        /* The default destination is a candidate that is of no use otherwise. */
        {AUDIO "c=IN IP4 169.254.9.9\r\n" CREDS "a=candidate:1 1 UDP 9 169.254.9.9 5000 typ host\r\n", true,
         false, false},
        {"m=audio 0 RTP/AVP 0\r\n" CREDS HOST, false, false, false},
        {AUDIO "a=rtpmap:0 PCMU/8000\r\n" HOST CREDS, true, false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[2048];
        snprintf(text, sizeof(text), HEAD "%s", rows[i].text);
        struct kg_sdp *sdp = parse(text);
        if ((describe(sdp, 0) != NULL) != rows[i].ice || kg_sdp_ice_is_mismatch(sdp, 0) != rows[i].mismatch ||
            (kg_sdp_ice_problem(sdp, 0) != NULL) != rows[i].explained)
            fail_msg("row %zu: %s", i, text);
        assert_null(kg_sdp_ice_problem(sdp, 1));
        kg_sdp_free(sdp);
    }
}

/* Own lines before the session's, both for what is not said twice. */
static void test_levels(void **state)
{
    (void)state;
    struct kg_sdp *sdp =
        parse(HEAD "a=ice-ufrag:sess\r\na=ice-pwd:sessionsessionsessions\r\na=ice-lite\r\n"
                   "a=ice-options:ice2\r\na=ice-pacing:50\r\na=end-of-candidates\r\n" AUDIO HOST
                   "m=video 5002 RTP/AVP 34\r\na=ice-ufrag:vide\r\na=ice-pwd:videovideovideovideovi\r\n"
                   "a=ice-options:trickle\r\na=ice-pacing:20\r\n"
                   "a=candidate:1 1 UDP 5 192.0.2.5 5002 typ host\r\n"
                   "a=remote-candidates:1 198.51.100.1 6000 2 2001:db8::1 6001\r\n");
    const struct kg_ice_description *ice = describe(sdp, 0);
    assert_non_null(ice);
    assert_string_equal(ice->ufrag, "sess");
    assert_string_equal(ice->pwd, "sessionsessionsessions");
    assert_true(ice->lite && ice->ice2 && !ice->trickle && ice->end_of_candidates);
    assert_int_equal(ice->pacing_ms, 50);
    assert_false(kg_addr_is_set(&ice->remote_candidate[0]));
    ice = describe(sdp, 1);
    assert_non_null(ice);
    assert_string_equal(ice->ufrag, "vide");
    assert_string_equal(ice->pwd, "videovideovideovideovi");
    assert_true(ice->lite && ice->ice2 && ice->trickle);
    assert_int_equal(ice->pacing_ms, 20);
    assert_int_equal(ice->candidate_count, 1);
    char text[KG_ADDR_STR];
    assert_string_equal(kg_addr_format(&ice->remote_candidate[0], text), "198.51.100.1:6000");
    assert_string_equal(kg_addr_format(&ice->remote_candidate[1], text), "[2001:db8::1]:6001");
    kg_sdp_free(sdp);
}

/* The first valid a=ice-ufrag counts, and only that one is passed on. */
static void test_twice(void **state)
{
    (void)state;
    char *out = rewrite(HEAD AUDIO CREDS "a=ice-ufrag:second\r\na=ice-pwd:secondsecondsecondsecond\r\n" HOST,
                        keep(), 0, NULL);
    assert_non_null(strstr(out, "a=ice-ufrag:abcd\r\n"));
    assert_null(strstr(out, "second"));
    free(out);
}

/* KG_ICE_CANDIDATES_MAX stay, those of highest priority, in their order; nothing else changes. */
static void test_too_many(void **state)
{
    (void)state;
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof(text), HEAD AUDIO CREDS);
    for (unsigned i = 0; i < 36; i++) /* priorities 1000, 999, 1002, 1001 ...: pairs fall, the list rises */
        n += (size_t)snprintf(text + n, sizeof(text) - n, "a=candidate:1 1 UDP %u 192.0.2.5 %u typ host\r\n",
                              1000 + (i ^ 1), 5000 + i);
    struct kg_sdp *sdp = parse(text);
    struct kg_sdp_unused unused[40];
    const struct kg_ice_description *ice = describe(sdp, 0);
    assert_non_null(ice);
    assert_int_equal(ice->candidate_count, KG_ICE_CANDIDATES_MAX);
    for (unsigned i = 0; i < KG_ICE_CANDIDATES_MAX; i++)
        assert_int_equal(kg_addr_port(&ice->candidate[i].addr), 5004 + i);
    assert_int_equal(kg_sdp_ice_unused(sdp, 0, unused, 40), 4);
    assert_string_equal(unused[3].text, "candidate:1 1 UDP 1002 192.0.2.5 5003 typ host");
    assert_non_null(strstr(unused[3].reason, "too many"));
    assert_int_equal(kg_sdp_ice_unused(sdp, 0, unused, 2), 2);
    assert_int_equal(kg_sdp_ice_unused(sdp, 1, unused, 40), 0);
    kg_sdp_free(sdp);
}

/* Of equal priorities the earlier stay. */
static void test_too_many_equals(void **state)
{
    (void)state;
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof(text), HEAD AUDIO CREDS);
    for (unsigned i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "a=candidate:1 1 UDP 7 192.0.2.5 %u typ host\r\n",
                              5000 + i);
    struct kg_sdp *sdp = parse(text);
    const struct kg_ice_description *ice = describe(sdp, 0);
    assert_int_equal(ice->candidate_count, KG_ICE_CANDIDATES_MAX);
    assert_int_equal(kg_addr_port(&ice->candidate[0].addr), 5000);
    assert_int_equal(kg_addr_port(&ice->candidate[KG_ICE_CANDIDATES_MAX - 1].addr),
                     5000 + KG_ICE_CANDIDATES_MAX - 1);
    kg_sdp_free(sdp);
}

/* What the writer wrote in canonical form reaches the reader byte by byte; only o=, c=, the port and our two
 * candidates differ. */
static void test_untouched(void **state)
{
    (void)state;
    static const char head[] = "v=0\r\n", in_o[] = "o=- 5 5 IN IP4 192.0.2.5\r\n",
                      out_o[] = "o=- 1 1 IN IP4 203.0.113.1\r\n";
    static const char session[] = "s=Talk\r\nb=AS:100\r\nt=0 0\r\na=ice-ufrag:abcd\r\n"
                                  "a=ice-pwd:abcdefghijklmnopqrstuv\r\na=ice-options:ice2 rtp+ecn\r\n"
                                  "a=ice-pacing:20\r\na=ice-lite\r\n";
    static const char ours[] =
        "a=candidate:kedge4 1 UDP 255 203.0.113.1 40000 typ relay raddr 0.0.0.0 rport 9\r\n";
    static const char media[] =
        "a=candidate:Sc0a80132 1 UDP 1862270975 198.51.100.61 4210 typ srflx raddr 0.0.0.0 rport 9\r\n"
        "a=x-unknown:kept\r\na=candidate:Hc0a80132 1 UDP 1694498815 192.168.1.50 4000 typ host\r\n"
        "a=candidate:H6 1 UDP 1694498814 2001:db8::50 4000 typ host\r\n"
        "a=candidate:P6 1 UDP 1694498813 2001:db8::51 4000 typ prflx raddr :: rport 9\r\n"
        "a=remote-candidates:1 192.0.2.7 7000\r\na=ssrc:12 cname:x\r\na=sendrecv\r\na=rtcp-mux\r\n";
    char in[2048], expected[2048];
    snprintf(in, sizeof(in),
             "%s%s%sm=audio 4210 RTP/AVP 0\r\nc=IN IP4 198.51.100.61\r\n"
             "a=rtpmap:0 PCMU/8000\r\n%s",
             head, in_o, session, media);
    snprintf(expected, sizeof(expected),
             "%s%s%sm=audio 40000 RTP/AVP 0\r\nc=IN IP4 203.0.113.1\r\na=rtpmap:0 PCMU/8000\r\n%s%s", head,
             out_o, session, ours, media);
    struct kg_sdp_local local = keep();
    local.rtcp_mux = true;
    struct kg_sdp_pruned pruned;
    char *out = rewrite(in, local, 2000, &pruned);
    assert_string_equal(out, expected);
    assert_int_equal(pruned.candidates + pruned.useless + pruned.too_big, 0);
    free(out);
}

/* Nothing rides along in the lines of ICE. */
static void test_no_smuggling(void **state)
{
    (void)state;
    char *out = rewrite(
        HEAD
        "a=ice-options:ice2 10.66.66.1\r\na=ice-pacing:10.66.66.2\r\na=ice-lite:10.66.66.3\r\n" AUDIO CREDS
        "a=candidate:1 1 UDP 2130706431 192.0.2.5 5000 typ host raddr 10.66.66.4 rport 4 x 10.66.66.5\r\n"
        "a=candidate:1 1 TCP 2130706431 10.66.66.6 5000 typ host tcptype passive\r\n"
        "a=candidate:1 1 UDP 2130706431 10.66.66.7 5000 typ what\r\n"
        "a=ice-pwd:10.66.66.8\r\na=remote-candidates:1 10.66.66.9 no\r\n"
        "a=end-of-candidates:10.66.66.10\r\na=ice-mismatched:10.66.66.11\r\n",
        keep(), 0, NULL);
    assert_null(strstr(out, "10.66.66"));
    assert_non_null(strstr(out, "a=candidate:1 1 UDP 2130706431 192.0.2.5 5000 typ host\r\n"));
    free(out);
}

/* Our relay candidates are the last choice of both agents, and the foundation is nobody else's. */
static void test_ours_are_last(void **state)
{
    (void)state;
    static const uint32_t least[] = {2130706431, 16777215, 511, 256, 255, 3};
    for (size_t i = 0; i < sizeof(least) / sizeof(least[0]); i++) {
        char text[1024];
        snprintf(text, sizeof(text),
                 HEAD AUDIO CREDS HOST "a=candidate:kedge4 1 UDP %u 192.0.2.5 5002 typ relay\r\n", least[i]);
        char *out = rewrite(text, keep(), 0, NULL);
        struct kg_sdp *sdp = parse(out);
        const struct kg_ice_description *ice = describe(sdp, 0);
        assert_non_null(ice);
        assert_int_equal(ice->candidate_count, 4);
        const struct kg_candidate *ours = &ice->candidate[0]; /* first in the text */
        for (int c = 0; c < 2; c++) {
            assert_int_equal(ours[c].type, KG_CANDIDATE_RELAY);
            assert_int_equal(ours[c].component, c + 1);
            assert_true(ours[c].priority >= 1 && ours[c].priority < least[i]);
            assert_string_equal(ours[c].foundation, "kedge41");
        }
        assert_true(ours[1].priority < ours[0].priority);
        free(out);
        kg_sdp_free(sdp);
    }
}

/* Whatever the writer's order is. */
static void test_foundation(void **state)
{
    (void)state;
    char *out = rewrite(HEAD AUDIO CREDS HOST "a=candidate:kedge42 1 UDP 7 192.0.2.5 5002 typ relay\r\n"
                                              "a=candidate:kedge41 1 UDP 6 192.0.2.5 5004 typ relay\r\n"
                                              "a=candidate:kedge4 1 UDP 5 192.0.2.5 5006 typ relay\r\n",
                        keep(), 0, NULL);
    assert_non_null(strstr(out, "a=candidate:kedge43 1 UDP 4 203.0.113.1 40000 typ relay"));
    assert_non_null(strstr(out, "a=candidate:kedge43 2 UDP 3 203.0.113.1 40001 typ relay"));
    free(out);
}

/* Component 2 of ours, by rtcp-mux and by what the writer has. */
static void test_component_2(void **state)
{
    (void)state;
    static const struct {
        enum kg_sdp_ice ice;
        bool mux, agreed, writer_2, mux_only, ours_2, writer_2_stays;
    } rows[] = {
        {KG_SDP_ICE_KEEP, false, false, true, false, true, true},
        {KG_SDP_ICE_KEEP, false, false, false, false, true, false},
        {KG_SDP_ICE_KEEP, true, false, true, false, true, true},
        {KG_SDP_ICE_KEEP, true, false, false, false, false, false},
        {KG_SDP_ICE_KEEP, true, true, true, false, false, false},
        {KG_SDP_ICE_KEEP, true, false, true, true, false, true},
        {KG_SDP_ICE_KEEP, false, true, true, false, true, true}, /* there is nothing to agree to */
        {KG_SDP_ICE_OURS, false, false, false, false, true, false},
        {KG_SDP_ICE_OURS, true, false, false, false, true, false},
        {KG_SDP_ICE_OURS, true, true, false, false, false, false},
        {KG_SDP_ICE_OURS, true, false, false, true, false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024];
        snprintf(text, sizeof(text), HEAD AUDIO CREDS HOST "%s%s",
                 rows[i].writer_2 ? "a=candidate:1 2 UDP 2130706430 192.0.2.5 5001 typ host\r\n" : "",
                 rows[i].mux_only ? "a=rtcp-mux\r\na=rtcp-mux-only\r\n" : "");
        struct kg_sdp_local local = keep();
        local.ice = rows[i].ice;
        local.ufrag = "kdge";
        local.pwd = "kdgekdgekdgekdgekdgekd";
        local.rtcp_mux = rows[i].mux;
        local.mux_agreed = rows[i].agreed;
        char *out = rewrite(text, local, 0, NULL);
        if ((strstr(out, " 203.0.113.1 40001 typ") != NULL) != rows[i].ours_2 ||
            (strstr(out, " 192.0.2.5 5001 typ") != NULL) != rows[i].writer_2_stays)
            fail_msg("row %zu:\n%s", i, out);
        free(out);
    }
}

/* a=remote-candidates (RFC 8839 5.2): ours become what is behind us, the reader's own stay. */
static void test_remote_candidates(void **state)
{
    (void)state;
    static const struct {
        const char *in, *to[2], *out;
    } rows[] = {
        {"1 203.0.113.9 41000 2 203.0.113.9 41001",
         {"192.0.2.7:1", "192.0.2.7:2"},
         "1 192.0.2.7 1 2 192.0.2.7 2"},
        {"2 203.0.113.9 41001 1 203.0.113.9 41000",
         {"192.0.2.7:1", "192.0.2.7:2"},
         "1 192.0.2.7 1 2 192.0.2.7 2"},
        {"1 203.0.113.9 41000 2 198.51.100.4 6", {"192.0.2.7:1", NULL}, "1 192.0.2.7 1 2 198.51.100.4 6"},
        {"1 203.0.113.9 41000 2 203.0.113.9 41001", {"192.0.2.7:1", NULL}, NULL},
        {"1 203.0.113.9 41000", {NULL, NULL}, NULL},
        {"1 203.0.113.9 41000", {"[2001:db8::7]:1", NULL}, "1 2001:db8::7 1"},
        {"1 203.0.113.9 41002", {"192.0.2.7:1", NULL}, "1 203.0.113.9 41002"},
        {"1 203.0.113.9", {"192.0.2.7:1", NULL}, NULL},
        {"1 phone.example 41000", {"192.0.2.7:1", NULL}, NULL},
        {"", {NULL, NULL}, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024], line[256];
        snprintf(text, sizeof(text), HEAD AUDIO CREDS HOST "a=remote-candidates:%s\r\n", rows[i].in);
        struct kg_sdp_local local = keep();
        for (int c = 0; c < 2; c++) {
            kg_addr_parse_host("203.0.113.9", (uint16_t)(41000 + c), &local.peer[c].from);
            if (rows[i].to[c])
                assert_int_equal(kg_addr_parse(rows[i].to[c], &local.peer[c].to), 0);
        }
        char *out = rewrite(text, local, 0, NULL);
        snprintf(line, sizeof(line), "a=remote-candidates:%s\r\n", rows[i].out ? rows[i].out : "");
        if ((strstr(out, "remote-candidates") != NULL) != (rows[i].out != NULL) ||
            (rows[i].out && !strstr(out, line)))
            fail_msg("row %zu:\n%s", i, out);
        free(out);
    }
}

/* The order of prune.c, found by making the budget one byte smaller than what has just fitted. */
static void test_pruning_order(void **state)
{
    (void)state;
    static const char text[] = HEAD AUDIO CREDS "a=candidate:pub 1 UDP 1000 192.0.2.5 5000 typ host\r\n"
                                                "a=candidate:lan 1 UDP 2000 192.168.1.5 5000 typ host\r\n"
                                                "a=candidate:bridge 1 UDP 1900 172.17.0.1 5000 typ host\r\n"
                                                "a=candidate:bridge2 1 UDP 1800 172.18.0.1 5000 typ host\r\n"
                                                "a=candidate:ula 1 UDP 1700 fd00::5 5000 typ host\r\n"
                                                "a=candidate:again 1 UDP 900 192.0.2.5 5000 typ srflx\r\n"
                                                "a=candidate:srflx2 1 UDP 800 198.51.100.5 5000 typ srflx\r\n"
                                                "a=candidate:turn 1 UDP 200 198.51.100.8 5000 typ relay\r\n"
                                                "a=candidate:turn2 1 UDP 100 198.51.100.9 5000 typ relay\r\n"
                                                "a=candidate:turn6 1 UDP 90 2001:db8::9 5000 typ relay\r\n"
                                                "a=candidate:pub6 1 UDP 70 2001:db8::5 5000 typ host\r\n";
    static const char *const order[] = {"again", "bridge2", "bridge", "turn2", "srflx2",
                                        "turn6", "turn",    "ula",    "lan",   "pub6"};
    struct kg_sdp_local local = keep();
    struct kg_sdp_pruned pruned;
    char *out = rewrite(text, local, 0, &pruned);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        size_t budget = strlen(out) - 1;
        free(out);
        out = rewrite(text, local, budget, &pruned);
        assert_int_equal(pruned.candidates, i + 1);
        assert_false(pruned.too_big);
        assert_true(strlen(out) <= budget);
        char *same = rewrite(text, local, strlen(out), &pruned); /* just fits */
        assert_string_equal(same, out);
        free(same);
        for (size_t j = 0; j < sizeof(order) / sizeof(order[0]); j++) {
            char name[32];
            snprintf(name, sizeof(name), "candidate:%s ", order[j]);
            if ((strstr(out, name) == NULL) != (j <= i))
                fail_msg("after %zu, %s is %s:\n%s", i + 1, order[j], j <= i ? "still there" : "gone", out);
        }
    }
    /* The last of the component and ours stay whatever the budget is. */
    free(out);
    out = rewrite(text, local, 1, &pruned);
    assert_true(pruned.too_big);
    assert_int_equal(pruned.candidates, 10);
    assert_non_null(strstr(out, "candidate:pub "));
    assert_non_null(strstr(out, "candidate:kedge4 1 "));
    assert_non_null(strstr(out, "candidate:kedge4 2 "));
    free(out);
}

/* Where UDP may be blocked the phone's relay is its only way out, and goes after its host candidate. */
static void test_pruning_keeps_the_only_way_out(void **state)
{
    (void)state;
    static const char text[] =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n" AUDIO CREDS
        "a=candidate:lan 1 UDP 2000 10.0.0.5 5000 typ host\r\n"
        "a=candidate:turn 1 UDP 200 198.51.100.8 5000 typ relay\r\n";
    struct kg_sdp_pruned pruned;
    char *out = rewrite(text, keep(), 1, &pruned);
    assert_int_equal(pruned.candidates, 1);
    assert_null(strstr(out, "candidate:lan"));
    assert_non_null(strstr(out, "candidate:turn"));
    free(out);
}

/* Both components of one candidate go together; the last candidate of a component stays though its like goes.
 */
static void test_pruning_by_component(void **state)
{
    (void)state;
    static const char text[] = HEAD AUDIO CREDS HOST "a=candidate:b 1 UDP 900 10.0.0.1 5000 typ host\r\n"
                                                     "a=candidate:b 2 UDP 899 10.0.0.1 5001 typ host\r\n"
                                                     "a=candidate:c 1 UDP 800 10.0.0.2 5000 typ host\r\n"
                                                     "a=candidate:c 2 UDP 799 10.0.0.2 5001 typ host\r\n";
    struct kg_sdp_pruned pruned;
    char *out = rewrite(text, keep(), 0, &pruned);
    size_t whole = strlen(out);
    free(out);
    out = rewrite(text, keep(), whole - 1, &pruned);
    assert_int_equal(pruned.candidates, 2);
    assert_null(strstr(out, "candidate:c "));
    free(out);
    out = rewrite(text, keep(), 1, &pruned); /* "b 2" is the last of its component now */
    assert_int_equal(pruned.candidates, 3);
    assert_null(strstr(out, "candidate:b 1 "));
    assert_non_null(strstr(out, "192.0.2.5 5000"));
    assert_non_null(strstr(out, "candidate:b 2 "));
    free(out);
}

/* The text is as long as the budget at most also when the version in o= gets another digit by pruning. */
static void test_budget_and_version(void **state)
{
    (void)state;
    static const char text[] = HEAD AUDIO CREDS HOST "a=candidate:b 1 UDP 900 10.0.0.1 5000 typ host\r\n";
    struct kg_sdp *sdp = parse(text);
    struct kg_sdp_local local = keep();
    struct kg_sdp_origin origin = {.id = 1, .version = 9}, before;
    size_t len, shorter;
    free(kg_sdp_rewrite(sdp, &local, 1, &origin, &len));
    assert_int_equal(origin.version, 9);
    before = origin;
    free(kg_sdp_rewrite_within(sdp, &local, 1, NULL, &origin, len - 1, NULL, &shorter));
    assert_int_equal(origin.version, 10); /* once, though it was written twice */
    assert_true(shorter < len);
    origin = before;
    struct kg_sdp_pruned pruned;
    size_t again;
    free(kg_sdp_rewrite_within(sdp, &local, 1, NULL, &origin, shorter - 1, &pruned, &again));
    assert_true(pruned.too_big);
    assert_int_equal(again, shorter);
    kg_sdp_free(sdp);
}

/* A reader in another network gets no private host candidate, however much room there is; nobody gets our own
 * port back as a candidate of the writer's. */
static void test_apart(void **state)
{
    (void)state;
    const char *text =
        "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n" AUDIO CREDS
        "a=candidate:1 1 UDP 2130706431 192.168.1.5 5000 typ host\r\n"
        "a=candidate:2 1 UDP 1694498815 198.51.100.9 5000 typ srflx raddr 192.168.1.5 rport 5000\r\n"
        "a=candidate:3 1 UDP 1862270975 203.0.113.1 40000 typ prflx raddr 192.168.1.5 rport 5000\r\n"
        "a=candidate:4 1 UDP 1694498814 10.0.0.77 161 typ srflx raddr 0.0.0.0 rport 9\r\n"
        "a=candidate:5 1 UDP 16777215 10.0.0.77 162 typ relay raddr 0.0.0.0 rport 9\r\n";
    struct kg_sdp_local local = keep();
    char *out = rewrite(text, local, 0, NULL);
    assert_non_null(strstr(out, "10.0.0.77 161"));
    assert_non_null(strstr(out, "192.168.1.5 5000 typ host"));
    assert_non_null(strstr(out, "203.0.113.1 40000 typ relay"));
    assert_null(strstr(out, "typ prflx"));
    free(out);
    local.apart = true;
    out = rewrite(text, local, 0, NULL);
    assert_null(strstr(out, "192.168.1.5"));
    assert_null(strstr(out, "10.0.0.77")); /* whatever it says it is */
    assert_non_null(strstr(out, "198.51.100.9 5000 typ srflx"));
    free(out);
}

/* After the selection the writer's default destination is its end of the pair, and stays if the reader can
 * know it; before that, and where it is not one of the candidates that pass, ours is. */
static void test_selected(void **state)
{
    (void)state;
    static const struct {
        const char *c;
        bool selected, stays;
    } rows[] = {
        {"198.51.100.9", true, true},
        {"198.51.100.9", false, false},
        {"203.0.113.1", true, true}, /* the relay, which only the writer has selected */
        {"203.0.113.1", false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024];
        struct kg_sdp_local local = keep();
        local.selected = rows[i].selected;
        local.apart = true;
        snprintf(
            text, sizeof(text),
            "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %u RTP/AVP 0\r\n" CREDS
            "a=candidate:1 1 UDP 2130706431 192.168.1.5 5000 typ host\r\n"
            "a=candidate:1 2 UDP 2130706430 192.168.1.5 5001 typ host\r\n"
            "a=candidate:2 1 UDP 1694498815 198.51.100.9 5000 typ srflx raddr 192.168.1.5 rport 5000\r\n"
            "a=candidate:2 2 UDP 1694498814 198.51.100.9 5001 typ srflx raddr 192.168.1.5 rport 5001\r\n"
            "a=candidate:3 1 UDP 1862270975 203.0.113.1 40000 typ prflx raddr 192.168.1.5 rport 5000\r\n",
            rows[i].c, strcmp(rows[i].c, "203.0.113.1") ? 5000u : 40000u);
        char *out = rewrite(text, local, 0, NULL);
        assert_non_null(strstr(out, rows[i].stays ? "m=audio 5000 " : "m=audio 40000 "));
        assert_non_null(strstr(out, rows[i].stays ? "c=IN IP4 198.51.100.9" : "c=IN IP4 203.0.113.1"));
        free(out);
    }
}

/* RFC 8839 4.4.1.1.1 */
static void test_restart(void **state)
{
    (void)state;
    static const char base[] = HEAD AUDIO CREDS HOST;
    static const struct {
        const char *text;
        bool restart;
    } rows[] = {
        {HEAD AUDIO CREDS HOST, false},
        {HEAD AUDIO CREDS HOST "a=candidate:2 1 UDP 5 192.0.2.5 5002 typ host\r\n", false},
        {HEAD AUDIO "a=ice-ufrag:abce\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" HOST, true},
        {HEAD AUDIO "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuw\r\n" HOST, true},
        {HEAD CREDS AUDIO HOST, false}, /* the same, said once for all */
        {HEAD AUDIO, false},            /* no ICE any more */
        {HEAD "m=audio 0 RTP/AVP 0\r\na=ice-ufrag:abce\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n", false},
        {HEAD AUDIO CREDS HOST "m=video 6 RTP/AVP 34\r\n" CREDS HOST, false}, /* a new line */
    };
    struct kg_sdp *before = parse(base);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kg_sdp *after = parse(rows[i].text);
        if (kg_sdp_is_ice_restart(before, after) != rows[i].restart)
            fail_msg("row %zu", i);
        kg_sdp_free(after);
    }
    kg_sdp_free(before);
}

static void test_same_but_transport(void **state)
{
    (void)state;
#define LINES "a=rtpmap:0 PCMU/8000\r\na=fingerprint:sha-256 AA:BB\r\n"
    static const char base[] = HEAD AUDIO CREDS HOST LINES;
    static const struct {
        const char *text;
        bool same;
    } rows[] = {
        {HEAD AUDIO CREDS HOST LINES, true},
        {"v=0\r\no=- 1 2 IN IP4 198.51.100.5\r\ns=-\r\nt=0 0\r\nm=audio 7000 RTP/AVP 0\r\n"
         "c=IN IP4 "
         "198.51.100.5\r\na=rtcp:7009\r\na=ice-ufrag:newnew\r\na=ice-pwd:newnewnewnewnewnewnewnew\r\n"
         "a=candidate:5 1 UDP 5 198.51.100.5 7000 typ host\r\na=ice-options:trickle\r\n" LINES
         "a=end-of-candidates\r\n",
         true},
        {HEAD AUDIO LINES, true}, /* even without ICE */
        {HEAD AUDIO CREDS HOST LINES "a=sendrecv\r\n", false},
        {HEAD AUDIO CREDS HOST LINES "a=sendonly\r\n", false},
        {"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n" AUDIO LINES,
         false}, /* hold */
        {HEAD "m=audio 0 RTP/AVP 0\r\n" LINES, false},
        {HEAD "m=audio 5000 RTP/AVP 0 8\r\n" CREDS HOST LINES, false},
        {HEAD "m=audio 5000 RTP/SAVP 0\r\n" CREDS HOST LINES, false},
        {HEAD AUDIO CREDS HOST LINES "a=rtcp-mux\r\n", false},
        {HEAD AUDIO CREDS HOST "a=rtpmap:0 PCMU/8000\r\na=fingerprint:sha-256 AA:BC\r\n", false},
        {HEAD AUDIO CREDS HOST LINES "m=video 6 RTP/AVP 34\r\n", false},
        {HEAD AUDIO CREDS HOST LINES "a=ptime:20\r\n", false},
    };
    struct kg_sdp *before = parse(base);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kg_sdp *after = parse(rows[i].text);
        if (kg_sdp_same_but_transport(before, after) != rows[i].same ||
            kg_sdp_same_but_transport(after, before) != rows[i].same)
            fail_msg("row %zu", i);
        kg_sdp_free(after);
    }
    kg_sdp_free(before);
}

/* 1900 candidates, each a longest one: handled at once. */
static void test_hostile(void **state)
{
    (void)state;
    static const char *const line[] = {
        "a=candidate:1 1 UDP %u 1.2.3.4 %u typ host\r\n",
        "a=candidate:%u 2 UDP 7 1::%x typ srflx raddr 1.2.3.4 rport 5\r\n",
        "a=candidate:0123456789abcdef0123456789abcdef %u UDP 5 %u\r\n",
        "a=candidate:kedge4%u 1 UDP 5 192.0.2.5 %u typ relay\r\n",
        "a=ice-options:%u %u trickle\r\n",
        "a=remote-candidates:%u 1.2.3.4 %u\r\n",
        "a=ice-ufrag:abcd%u%u\r\n",
    };
    static char text[65536];
    for (size_t i = 0; i < sizeof(line) / sizeof(line[0]); i++) {
        size_t n = (size_t)snprintf(text, sizeof(text), HEAD AUDIO CREDS HOST);
        for (unsigned c = 1; c < 1900 && n < sizeof(text) - 200; c++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            n += (size_t)snprintf(text + n, sizeof(text) - n, line[i], c, 1 + c);
#pragma GCC diagnostic pop
        }
        clock_t start = clock();
        struct kg_sdp_pruned pruned;
        char *out = rewrite(text, keep(), 1300, &pruned);
        free(out);
        struct kg_sdp *sdp = parse(text);
        assert_true(kg_sdp_is_ice_restart(sdp, sdp) == false);
        assert_true(kg_sdp_same_but_transport(sdp, sdp));
        kg_sdp_free(sdp);
        assert_true((clock() - start) * 1000 / CLOCKS_PER_SEC < INSTANT_MS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_too_many_equals),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_no_smuggling),
        cmocka_unit_test(test_ours_are_last),
        cmocka_unit_test(test_foundation),
        cmocka_unit_test(test_component_2),
        cmocka_unit_test(test_remote_candidates),
        cmocka_unit_test(test_pruning_order),
        cmocka_unit_test(test_pruning_keeps_the_only_way_out),
        cmocka_unit_test(test_pruning_by_component),
        cmocka_unit_test(test_budget_and_version),
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_selected),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_same_but_transport),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests_name("ice in sdp", tests, NULL, NULL);
}
