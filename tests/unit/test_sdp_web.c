/* WebRTC in SDP: BUNDLE, mids, data channels, codecs. What is written for each kind of reader are golden
 * pairs (web-*); here is what several of them together must hold to, and what has to be refused or left
 * alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdp.h"

#define SESSION "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
#define FINGERPRINT                                                                                          \
    "a=fingerprint:sha-256 59:32:B9:96:93:D8:28:8C:D4:9E:89:6A:84:A1:B0:A2:E0:51:28:D9:55:5A:F2:CE:CE:58:"   \
    "B5:CC:9C:1F:BF:49\r\na=setup:actpass\r\n"
#define ICE "a=ice-ufrag:uOXC\r\na=ice-pwd:MVy1RJrNxVbap1KaoIEizuxl\r\na=ice-options:trickle\r\n"

static struct kg_sdp *parse(const char *text)
{
    char error[160] = "";
    struct kg_sdp *sdp = kg_sdp_parse(text, strlen(text), error, sizeof(error));
    if (!sdp)
        fail_msg("%s", error);
    return sdp;
}

static struct kg_sdp *parse_file(const char *name)
{
    static char text[20000];
    char path[128];
    snprintf(path, sizeof(path), "tests/golden/%s.in.sdp", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    return parse(text);
}

static void ports(struct kg_sdp_local *local, size_t count)
{
    memset(local, 0, count * sizeof(*local));
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kg_addr_parse_host("203.0.113.1", (uint16_t)(40000 + 2 * i), &local[i].rtp), 0);
        local[i].rtcp = local[i].rtp;
        local[i].rtcp_mux = true;
    }
}

static void test_is_web(void **state)
{
    static const struct {
        const char *proto, *lines;
        bool web;
    } cases[] = {
        {"UDP/TLS/RTP/SAVPF", ICE FINGERPRINT "a=rtcp-mux\r\na=mid:0\r\n", true},
        {"RTP/SAVPF", ICE FINGERPRINT "a=rtcp-mux\r\na=mid:0\r\n", true},
        {"UDP/TLS/RTP/SAVP", ICE FINGERPRINT "a=rtcp-mux\r\na=mid:0\r\n", false},
        {"UDP/TLS/RTP/SAVPF", FINGERPRINT "a=rtcp-mux\r\na=mid:0\r\n", false},
        {"UDP/TLS/RTP/SAVPF", ICE "a=rtcp-mux\r\na=mid:0\r\n", false},
        {"UDP/TLS/RTP/SAVPF", ICE FINGERPRINT "a=mid:0\r\n", false},
        {"UDP/TLS/RTP/SAVPF", ICE FINGERPRINT "a=rtcp-mux\r\n", false},
        {"RTP/AVP", "", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1000];
        snprintf(text, sizeof(text), SESSION "m=audio 9 %s 0\r\n%s", cases[i].proto, cases[i].lines);
        struct kg_sdp *sdp = parse(text);
        if (kg_sdp_is_web(sdp) != cases[i].web)
            fail_msg("%s %s", cases[i].proto, cases[i].lines);
        kg_sdp_free(sdp);
    }
}

/* RFC 9143: the lines of the group have the first enabled one's transport, and bundle-only ones live by it.
 */
static void test_describe_bundle(void **state)
{
    struct kg_media_side side;
    (void)state;
    struct kg_sdp *sdp = parse_file("web-firefox-bundle-only");
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    assert_false(side.stream[1].enabled);
    assert_string_equal(side.stream[1].mid, "1");
    assert_int_equal(side.stream[1].mid_extension, 3);
    kg_sdp_describe_bundle(sdp, &side);
    assert_int_equal(side.stream[0].bundle, 0);
    assert_int_equal(side.stream[1].bundle, 1);
    assert_true(side.stream[1].enabled);
    assert_true(kg_addr_equal(&side.stream[0].rtp, &side.stream[1].rtp));
    assert_ptr_equal(side.stream[0].ice, side.stream[1].ice);
    assert_int_equal(side.stream[1].codec_count, 4);
    kg_sdp_free(sdp);

    /* The first of the group is rejected, one name is no line's, one is there twice. */
    sdp = parse(SESSION "a=group:LS 1 2\r\na=group:BUNDLE 0 x 2 2 1\r\nm=audio 0 RTP/AVP 0\r\na=mid:0\r\n"
                        "m=audio 6000 RTP/AVP 0\r\na=mid:1\r\nm=audio 7000 RTP/AVP 0\r\na=mid:2\r\n"
                        "m=audio 8000 RTP/AVP 0\r\na=mid:2\r\n");
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    kg_sdp_describe_bundle(sdp, &side);
    assert_int_equal(side.stream[0].bundle, 0);
    assert_int_equal(side.stream[1].bundle, 3);
    assert_int_equal(kg_addr_port(&side.stream[1].rtp), 7000);
    assert_int_equal(side.stream[2].bundle, 0);
    assert_int_equal(side.stream[3].bundle, 0);
    assert_int_equal(kg_addr_port(&side.stream[3].rtp), 8000);
    kg_sdp_free(sdp);

    /* bundle-only without a group, or in one that is rejected as a whole, stays rejected. */
    sdp = parse(SESSION "a=group:BUNDLE 0 1\r\nm=audio 0 RTP/AVP 0\r\na=mid:0\r\n"
                        "m=audio 0 RTP/AVP 0\r\na=mid:1\r\na=bundle-only\r\n");
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    kg_sdp_describe_bundle(sdp, &side);
    assert_false(side.stream[0].enabled || side.stream[1].enabled);
    kg_sdp_free(sdp);
}

static void expect_plan(const struct kg_sdp *sdp, const struct kg_sdp_reader *reader, const uint8_t *agreed,
                        struct kg_sdp_local *local, size_t count, const char *expected)
{
    char is[32] = "";
    kg_sdp_plan_bundle(sdp, reader, agreed, local, count);
    for (size_t i = 0; i < count; i++)
        snprintf(is + strlen(is), sizeof(is) - strlen(is), "%u", local[i].bundle);
    assert_string_equal(is, expected);
}

static void test_plan(void **state)
{
    static const char phone[] = SESSION "m=audio 6000 RTP/AVP 0 96\r\nm=video 6002 RTP/AVP 97\r\n"
                                        "m=video 6004 RTP/AVP 96\r\nm=image 6006 udptl t38\r\n";
    struct kg_sdp_local local[4];
    struct kg_sdp *sdp = parse(phone), *browser = parse_file("web-chromium-av-data");
    struct kg_sdp_reader offer = {.kind = KG_SDP_WEB}, answer = {KG_SDP_WEB, true, browser};
    (void)state;
    /* The third one's payload type is the first one's, and T.38 is no RTP. */
    ports(local, 4);
    expect_plan(sdp, &offer, NULL, local, 4, "1200");
    /* Once agreed they share, with our port too. */
    expect_plan(sdp, &offer, (const uint8_t[]){1, 1, 1, 0}, local, 4, "1100");
    assert_int_equal(kg_addr_port(&local[1].rtp), 40000);
    assert_int_equal(kg_addr_port(&local[2].rtp), 40004);
    /* Rejected by us: not in the group; what shared with it has its own transport again. */
    ports(local, 4);
    local[0].rtp = (struct kg_addr){0};
    expect_plan(sdp, &offer, (const uint8_t[]){1, 1, 1, 0}, local, 4, "0230");
    /* An answer: only what the browser offered to bundle; its third line is a data channel. */
    ports(local, 4);
    expect_plan(sdp, &answer, NULL, local, 4, "1110");
    kg_sdp_free(sdp);
    sdp = parse(SESSION "m=audio 0 RTP/AVP 0\r\nm=video 6002 RTP/AVP 97\r\nm=application 0 x y\r\n");
    ports(local, 4);
    expect_plan(sdp, &answer, NULL, local, 3, "020");
    expect_plan(sdp, &(struct kg_sdp_reader){.kind = KG_SDP_LEGACY}, NULL, local, 3, "000");
    expect_plan(sdp, &(struct kg_sdp_reader){.kind = KG_SDP_WEB, .answers = true}, NULL, local, 3, "000");
    kg_sdp_free(sdp);
    kg_sdp_free(browser);
}

/* A call with a browser: what is offered to it, what it said, and what is offered next. The mids of a line
 * stay as long as the line lives (RFC 8829 5.2.2). */
static void test_mids_over_time(void **state)
{
    static const struct {
        const char *said;     /* mids of the browser's lines; "-1": rejected, "" : nothing said yet */
        const char *expected; /* mids of an offer of three lines */
    } cases[] = {
        {"", "0 1 2"},      {"0 1", "0 1 2"}, {"audio video", "audio video 2"}, {"0 -1", "0 1a 2"},
        {"0 -1a", "0 1 2"}, {"2", "2 1 2a"},  {"0 -1 1a", "0 1b 1a"},           {"2 0 1", "2 0 1"},
    };
    (void)state;
    struct kg_sdp *sdp =
        parse(SESSION "m=audio 6000 RTP/AVP 0\r\nm=video 6002 RTP/AVP 97\r\nm=video 6004 RTP/AVP 98\r\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char said[500] = SESSION, copy[64], *save = NULL, group[64];
        struct kg_sdp_local local[3];
        struct kg_sdp_reader reader = {.kind = KG_SDP_WEB};
        struct kg_sdp_origin origin = {.id = 1, .version = 1};
        size_t len;
        snprintf(copy, sizeof(copy), "%s", cases[i].said);
        for (char *mid = strtok_r(copy, " ", &save); mid; mid = strtok_r(NULL, " ", &save))
            snprintf(said + strlen(said), sizeof(said) - strlen(said), "m=audio %d RTP/AVP 0\r\na=mid:%s\r\n",
                     *mid == '-' ? 0 : 9, *mid == '-' ? mid + 1 : mid);
        struct kg_sdp *before = parse(said);
        reader.said = *cases[i].said ? before : NULL;
        ports(local, 3);
        kg_sdp_plan_bundle(sdp, &reader, NULL, local, 3);
        for (int twice = 0; twice < 2; twice++) { /* an offer that is sent again is the same */
            char *text = kg_sdp_rewrite_within(sdp, local, 3, &reader, &origin, 0, NULL, &len);
            snprintf(group, sizeof(group), "a=group:BUNDLE %s\r\n", cases[i].expected);
            if (!strstr(text, group))
                fail_msg("after \"%s\" there is no %s:\n%s", cases[i].said, group, text);
            free(text);
        }
        assert_int_equal(origin.version, 1);
        kg_sdp_free(before);
    }
    kg_sdp_free(sdp);
}

static void test_data_channel(void **state)
{
    struct kg_sdp_local local[3];
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    struct kg_sdp *sdp = parse_file("web-chromium-av-data");
    size_t len;
    (void)state;
    assert_false(kg_sdp_is_data(sdp, 1));
    assert_true(kg_sdp_is_data(sdp, 2));
    assert_false(kg_sdp_is_data(sdp, 3));
    ports(local, 3);
    /* Between two browsers with keys of their own it passes. */
    char *text = kg_sdp_rewrite(sdp, local, 3, &origin, &len);
    assert_non_null(strstr(text, "m=application 40004 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert_non_null(strstr(text, "a=sctp-port:5000\r\n"));
    free(text);
    for (int i = 0; i < 3; i++)
        local[i].keys = KG_SDP_KEYS_OURS;
    text = kg_sdp_rewrite(sdp, local, 3, &origin, &len);
    assert_non_null(strstr(text, "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    free(text);
    kg_sdp_free(sdp);
}

static void test_common_codec(void **state)
{
    static const struct {
        const char *a, *b, *says; /* NULL: they have one */
    } cases[] = {
        {"m=audio 9 RTP/AVP 96 0\r\na=rtpmap:96 opus/48000/2\r\n", "m=audio 9 RTP/AVP 8 0\r\n", NULL},
        {"m=audio 9 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n",
         "m=audio 9 RTP/AVP 107\r\na=rtpmap:107 OPUS/48000/2\r\n", NULL},
        {"m=audio 9 RTP/AVP 96 0 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n",
         "m=audio 9 RTP/AVP 18 101\r\na=rtpmap:101 telephone-event/8000\r\n",
         "no common audio codec: the browser has opus, PCMU; the phone has G729"},
        {"m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
         "m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n",
         "no common video codec: the browser has VP8; the phone has H264"},
        {"m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
         "m=audio 9 RTP/AVP 0\r\nm=video 0 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n", NULL},
        {"m=audio 9 RTP/AVP 111\r\n",
         "m=audio 9 RTP/AVP 96\r\na=rtpmap:96 a\x1b"
         "b/8000\r\n",
         "refused"},
        {"m=audio 9 RTP/AVP 111\r\n", "m=audio 9 RTP/AVP 96\r\na=rtpmap:96 a%n\"b/8000\r\n",
         "no common audio codec: the browser has none that kedge knows; the phone has a?n?b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char a[500], b[500], error[200] = "";
        snprintf(a, sizeof(a), SESSION "%s", cases[i].a);
        snprintf(b, sizeof(b), SESSION "%s", cases[i].b);
        if (cases[i].says && strcmp(cases[i].says, "refused") == 0) { /* no control character comes so far */
            assert_null(kg_sdp_parse(b, strlen(b), error, sizeof(error)));
            continue;
        }
        struct kg_sdp *first = parse(a), *second = parse(b);
        bool common =
            kg_sdp_have_common_codec(first, "the browser", second, "the phone", error, sizeof(error));
        assert_int_equal(common, cases[i].says == NULL);
        assert_string_equal(error, cases[i].says ? cases[i].says : "");
        kg_sdp_free(first);
        kg_sdp_free(second);
    }
}

/* What an offer of one side changes for the other side of a call that ends at kedge. */
static void test_same_but_keys(void **state)
{
#define AUDIO(proto, port, more) SESSION "m=audio " port " " proto " 0\r\n" more
    static const char crypto[] =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    static const struct {
        const char *after;
        bool same;
    } cases[] = {
        {AUDIO("RTP/SAVP", "7000",
               "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n"),
         true},
        {AUDIO("UDP/TLS/RTP/SAVPF", "6000",
               FINGERPRINT "a=mid:0\r\na=ssrc:1 cname:x\r\na=rtcp-fb:* nack\r\n"),
         true},
        {AUDIO("RTP/AVP", "6000", ""), true},
        {AUDIO("RTP/SAVP", "6000", "a=sendonly\r\n"), false},
        {AUDIO("RTP/SAVP", "6000", "a=ptime:20\r\n"), false},
        {AUDIO("RTP/SAVP", "0", ""), false},
        {SESSION "m=audio 6000 RTP/SAVP 0 8\r\n", false},
        {SESSION "m=audio 6000 RTP/SAVP 0\r\nm=video 6002 RTP/AVP 96\r\n", false},
    };
    char text[500];
    (void)state;
    snprintf(text, sizeof(text), AUDIO("RTP/SAVP", "6000", "%s"), crypto);
    struct kg_sdp *before = parse(text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kg_sdp *after = parse(cases[i].after);
        if (kg_sdp_same_but_keys(before, after, KG_SDP_LEGACY) != cases[i].same)
            fail_msg("%s", cases[i].after);
        kg_sdp_free(after);
    }
    kg_sdp_free(before);
}

/* A group with thousands of names, a thousand equal mids. */
static void test_hostile(void **state)
{
    static char text[65000];
    struct kg_media_side side;
    size_t n = 0;
    (void)state;
    n += (size_t)snprintf(text + n, sizeof(text) - n, SESSION "a=group:BUNDLE");
    for (int i = 0; i < 20000; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, " %d", i % 10);
    n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
    for (int i = 0; i < 8; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "m=audio 0 RTP/AVP 0\r\na=bundle-only\r\na=mid:%d\r\na=mid:%d\r\n", i, i / 2);
    struct kg_sdp *sdp = parse(text);
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    kg_sdp_describe_bundle(sdp, &side);
    for (int i = 0; i < 8; i++)
        assert_false(side.stream[i].enabled);
    kg_sdp_free(sdp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_web),        cmocka_unit_test(test_describe_bundle),
        cmocka_unit_test(test_plan),          cmocka_unit_test(test_mids_over_time),
        cmocka_unit_test(test_data_channel),  cmocka_unit_test(test_common_codec),
        cmocka_unit_test(test_same_but_keys), cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests_name("sdp web", tests, NULL, NULL);
}
