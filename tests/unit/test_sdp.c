/* b2bua/sdp/: limits, bookkeeping of o=, answers against offers, hostile input. What a description looks like
 * on the other side is in tests/golden/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "b2bua/sdp/sdp.h"

#define HEAD      "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n"
#define BYTES_MAX 65535
/* CPU time for one hostile description, under sanitizers on a slow machine; a quadratic parser needs seconds.
 */
#define INSTANT_MS 200

static struct kg_sdp *parse(const char *text)
{
    char error[160] = "";
    struct kg_sdp *sdp = kg_sdp_parse(text, strlen(text), error, sizeof(error));
    if (!sdp)
        fail_msg("refused: %s", error);
    return sdp;
}

static void refused(const char *text, size_t len, const char *why)
{
    char error[160] = "";
    assert_null(kg_sdp_parse(text, len, error, sizeof(error)));
    assert_string_equal(error, why);
}

static struct kg_sdp_local local_at(const char *host, uint16_t port)
{
    struct kg_sdp_local local = {0};
    assert_int_equal(kg_addr_parse_host(host, port, &local.rtp), 0);
    local.rtcp = local.rtp;
    kg_addr_set_port(&local.rtcp, (uint16_t)(port + 1));
    return local;
}

/* head, then line n times; the caller frees. */
static char *repeat(const char *head, const char *line, size_t n)
{
    size_t head_len = strlen(head), line_len = strlen(line);
    char *text = malloc(head_len + n * line_len + 1);
    assert_non_null(text);
    memcpy(text, head, head_len);
    for (size_t i = 0; i < n; i++)
        memcpy(text + head_len + i * line_len, line, line_len);
    text[head_len + n * line_len] = '\0';
    return text;
}

static void test_limits(void **state)
{
    (void)state;
    struct kg_media_side side;
    char *text = repeat(HEAD, "m=audio 5004 RTP/AVP 0\r\n", 64);
    struct kg_sdp *sdp = parse(text);
    memset(&side, 0x5a, sizeof(side));
    assert_int_equal(kg_sdp_describe(sdp, &side), E2BIG);
    assert_int_equal(side.stream_count, 0x5a);
    kg_sdp_free(sdp);
    free(text);

    text = repeat(HEAD, "m=audio 5004 RTP/AVP 0\r\n", 65);
    refused(text, strlen(text), "the session description has more than 64 m= lines");
    free(text);
    text = repeat(HEAD, "m=audio 5004 RTP/AVP 0\r\n", KG_MEDIA_STREAMS_MAX);
    sdp = parse(text);
    assert_int_equal(kg_sdp_describe(sdp, &side), 0);
    assert_int_equal(side.stream_count, KG_MEDIA_STREAMS_MAX);
    kg_sdp_free(sdp);
    free(text);

    text = repeat(HEAD, "a=x\n", 2000 - 5);
    kg_sdp_free(parse(text));
    free(text);
    text = repeat(HEAD, "a=x\n", 2000 - 4);
    refused(text, strlen(text), "the session description has more than 2000 lines");
    free(text);

    text = repeat(HEAD "a=", "x", BYTES_MAX - strlen(HEAD "a="));
    kg_sdp_free(parse(text));
    free(text);
    text = repeat(HEAD "a=", "x", BYTES_MAX + 1 - strlen(HEAD "a="));
    refused(text, strlen(text), "the session description is longer than 65535 bytes");
    free(text);
}

static void test_error_may_be_short(void **state)
{
    (void)state;
    char error[8];
    assert_null(kg_sdp_parse("x", 1, error, sizeof(error)));
    assert_string_equal(error, "line 1:");
    assert_null(kg_sdp_parse("x", 1, NULL, 0));
}

static void test_host(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
    } rows[] = {
        {HEAD "m=audio 5004 RTP/AVP 0\r\n", "192.0.2.5"},
        {HEAD "m=audio 0 RTP/AVP 0\r\nc=IN IP4 192.0.2.6\r\nm=video 9 RTP/AVP 34\r\nc=IN IP6 2001:db8::7\r\n",
         "2001:db8::7"},
        {HEAD "m=audio 0 RTP/AVP 0\r\n", "none"},
        {HEAD, "none"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\nc=IN IP4 phone.example\r\n", "none"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", "none"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\nc=ATM NSAP 47.0091\r\n", "none"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char buf[KG_ADDR_STR];
        struct kg_sdp *sdp = parse(rows[i].text);
        struct kg_addr host = kg_sdp_host(sdp);
        assert_int_equal(kg_addr_port(&host), 0);
        assert_string_equal(kg_addr_is_set(&host) ? kg_addr_format_host(&host, buf) : "none", rows[i].host);
        kg_sdp_free(sdp);
    }
}

/* RFC 3264 6 */
static void test_answer(void **state)
{
    (void)state;
    static const struct {
        const char *offer, *answer, *why;
    } rows[] = {
        {"m=audio 4 RTP/AVP 0\n", "m=audio 6 RTP/AVP 0\n", NULL},
        {"m=audio 4 RTP/AVP 0\n", "m=audio 0 RTP/AVP 0\n", NULL},
        {"m=audio 4 RTP/AVP 0\nm=video 6 RTP/AVP 34\n", "m=audio 4 RTP/AVP 0\nm=video 0 RTP/AVP 34\n", NULL},
        {"m=audio 4 RTP/AVP 0\nm=video 6 RTP/AVP 34\n", "m=audio 4 RTP/AVP 0\n",
         "the answer has 1 m= lines, the offer has 2"},
        {"m=audio 4 RTP/AVP 0\nm=video 6 RTP/AVP 34\n", "m=video 4 RTP/AVP 34\nm=audio 6 RTP/AVP 0\n",
         "m= line 1 of the answer is video, the offer's is audio"},
        {"m=audio 0 RTP/AVP 0\n", "m=audio 6 RTP/AVP 0\n",
         "m= line 1 was offered with port 0 and answered with port 6"},
        {"m=audio 0 RTP/AVP 0\na=bundle-only\n", "m=audio 6 RTP/AVP 0\n", NULL},
        {"m=message 7 TCP/MSRP *\n", "m=message 0 TCP/MSRP *\n", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512], error[160] = "";
        snprintf(text, sizeof(text), "%s%s", HEAD, rows[i].offer);
        struct kg_sdp *offer = parse(text);
        snprintf(text, sizeof(text), "%s%s", HEAD, rows[i].answer);
        struct kg_sdp *answer = parse(text);
        assert_int_equal(kg_sdp_check_answer(offer, answer, error, sizeof(error)), rows[i].why ? EINVAL : 0);
        assert_string_equal(error, rows[i].why ? rows[i].why : "");
        kg_sdp_free(offer);
        kg_sdp_free(answer);
    }
}

static void rewrite(const char *text, const char *host, uint16_t port, struct kg_sdp_origin *origin, char *o,
                    size_t size)
{
    struct kg_sdp *sdp = parse(text);
    struct kg_sdp_local local = local_at(host, port);
    size_t len;
    char *out = kg_sdp_rewrite(sdp, &local, 1, origin, &len);
    assert_non_null(out);
    assert_int_equal(strlen(out), len);
    snprintf(o, size, "%.*s", (int)strcspn(strstr(out, "o="), "\r"), strstr(out, "o="));
    free(out);
    kg_sdp_free(sdp);
}

/* RFC 3264 8: same id, the version grows by one exactly when the description changed. */
static void test_origin(void **state)
{
    (void)state;
    struct kg_sdp_origin origin = {.id = 77, .version = 5};
    char o[128];
    rewrite(HEAD "m=audio 5004 RTP/AVP 0\r\n", "203.0.113.1", 4000, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 5 IN IP4 203.0.113.1");
    /* Only the writer's own numbers changed: for the reader it is the same. */
    rewrite("v=0\no=z 9 9 IN IP4 192.0.2.6\ns=-\nc=IN IP4 192.0.2.6\nt=0 0\nm=audio 5008 RTP/AVP 0\n",
            "203.0.113.1", 4000, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 5 IN IP4 203.0.113.1");
    rewrite(HEAD "m=audio 5004 RTP/AVP 0\r\na=sendonly\r\n", "203.0.113.1", 4000, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 6 IN IP4 203.0.113.1");
    rewrite(HEAD "m=audio 5004 RTP/AVP 0\r\na=sendonly\r\n", "203.0.113.1", 4002, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 7 IN IP4 203.0.113.1");
    rewrite(HEAD "m=audio 5004 RTP/AVP 0\r\na=sendonly\r\n", "2001:db8::1", 4002, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 8 IN IP6 2001:db8::1");
    rewrite(HEAD "m=audio 5004 RTP/AVP 0\r\na=sendonly\r\n", "2001:db8::1", 4002, &origin, o, sizeof(o));
    assert_string_equal(o, "o=- 77 8 IN IP6 2001:db8::1");
}

static void test_rewrite_count(void **state)
{
    (void)state;
    struct kg_sdp *sdp = parse(HEAD "m=audio 5004 RTP/AVP 0\r\n");
    struct kg_sdp_local local[2] = {local_at("203.0.113.1", 4000), local_at("203.0.113.1", 4002)};
    struct kg_sdp_origin origin = {.id = 1};
    size_t len;
    assert_null(kg_sdp_rewrite(sdp, local, 0, &origin, &len));
    assert_int_equal(origin.hash, 0);
    /* One port more than lines: an offer with another line was refused before this one. */
    char *text = kg_sdp_rewrite(sdp, local, 2, &origin, &len);
    assert_non_null(text);
    assert_non_null(strstr(text, "m=audio 4000 "));
    assert_null(strstr(text, "4002"));
    free(text);
    kg_sdp_free(sdp);
}

/* Every line rejected, but the address is known: it stands in o= and c=. Lines on two hosts each have their
 * c=. A zone is not written. RTCP on another host is. */
static void test_rewrite_hosts(void **state)
{
    (void)state;
    struct kg_sdp_origin origin = {.id = 1};
    size_t len;
    struct kg_sdp *sdp = parse(HEAD "m=audio 0 RTP/AVP 0\r\n");
    struct kg_sdp_local one = local_at("203.0.113.1", 0);
    char *out = kg_sdp_rewrite(sdp, &one, 1, &origin, &len);
    assert_string_equal(out, "v=0\r\no=- 1 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n"
                             "m=audio 0 RTP/AVP 0\r\n");
    free(out);
    kg_sdp_free(sdp);

    sdp = parse(HEAD "m=audio 1 RTP/AVP 0\r\nm=video 3 RTP/AVP 34\r\nb=AS:1\r\n");
    struct kg_sdp_local two[2] = {local_at("fe80::1%2", 4000), local_at("203.0.113.2", 4002)};
    two[1].rtcp = local_at("203.0.113.3", 4003).rtp;
    origin = (struct kg_sdp_origin){.id = 1};
    out = kg_sdp_rewrite(sdp, two, 2, &origin, &len);
    assert_string_equal(
        out, "v=0\r\no=- 1 0 IN IP6 fe80::1\r\ns=-\r\nc=IN IP6 fe80::1\r\nt=0 0\r\n"
             "m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 34\r\nc=IN IP4 203.0.113.2\r\nb=AS:1\r\n"
             "a=rtcp:4003 IN IP4 203.0.113.3\r\n");
    free(out);
    kg_sdp_free(sdp);
}

/* What an address looks like inside a text, and what only resembles one. */
static void test_addresses_in_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool dropped;
    } rows[] = {
        {"192.168.1.5", true},
        {"a:192.168.1.5:5060", true},
        {"u@192.168.1.5;x", true},
        {"v1.2.3", false},
        {"1.2.3.4.5", false},
        {"1.2.3.256", false},
        {"at 10.0.0.1.", true},
        {"1.2.3.", false},
        {"fd00::1", true},
        {"x:2001:db8::9", true},
        {"[fe80::1]:9", true},
        {"12:30:45", false},
        {"00:1a:2b:3c:4d:5e", false},
        {"std::vector", false},
        {"std::ab", false},
        {"name:fd00::1", true},
        {"x::2001:db8::1", true},
        {"1:2:3:4:5:6:7:8", true},
        {"::", false},
        {"::ffff:10.0.0.1", true},
        {"0001.2.3.4", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        struct kg_sdp_origin origin = {.id = 1};
        struct kg_sdp_local local = local_at("203.0.113.1", 4000);
        size_t len;
        snprintf(text, sizeof(text), "%sm=audio 5004 RTP/AVP 0\r\na=x-mark:%s\r\n", HEAD, rows[i].text);
        struct kg_sdp *sdp = parse(text);
        char *out = kg_sdp_rewrite(sdp, &local, 1, &origin, &len);
        if ((strstr(out, "x-mark") == NULL) != rows[i].dropped)
            fail_msg("a=x-mark:%s was %s", rows[i].text, rows[i].dropped ? "kept" : "dropped");
        free(out);
        kg_sdp_free(sdp);
    }
}

/* Each of these made some SDP parser hang, overflow or crawl. Handled or refused, and at once. */
static void hostile(const char *text, size_t len)
{
    char error[160];
    struct kg_media_side side = {0};
    struct kg_sdp_local local[64] = {0};
    struct kg_sdp_origin origin = {.id = 1};
    clock_t start = clock();
    struct kg_sdp *sdp = kg_sdp_parse(text, len, error, sizeof(error));
    if (sdp) {
        size_t count = 0, out_len;
        if (kg_sdp_describe(sdp, &side) == 0)
            count = side.stream_count;
        for (size_t i = 0; i < count; i++)
            local[i] = local_at("203.0.113.1", 4000);
        free(kg_sdp_rewrite(sdp, local, count, &origin, &out_len));
        kg_sdp_check_answer(sdp, sdp, error, sizeof(error));
        kg_sdp_free(sdp);
    }
    assert_true((clock() - start) * 1000 / CLOCKS_PER_SEC < INSTANT_MS);
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *head, *line;
    } rows[] = {
        {HEAD "m=application 32416 udp ", "\xe2"},
        {HEAD "m=audio 5004 RTP/AVP ", "0 "},
        {HEAD "m=audio 5004 RTP/AVP ", "127 "},
        {HEAD "m=audio 5004 RTP/AVP 4294967295 ", "99999999999999999999 "},
        {HEAD "m=audio 5004/", "9"},
        {HEAD "m=audio ", " "},
        {HEAD "m=", "m"},
        {HEAD "a=", ":"},
        {HEAD "a=", "1:"},
        {HEAD "a=", "::1 "},
        {HEAD "a=", "1:2::3 "},
        {HEAD "a=", "1.2.3."},
        {HEAD "a=", "1.2.3.999 "},
        {HEAD "a=", "255.255.255.2555"},
        {HEAD "c=IN IP6 ", "a:"},
        {HEAD "c=IN IP4 ", "1"},
        {HEAD "c=", " "},
        {HEAD "m=audio 5004 RTP/AVP 0\r\na=rtcp:", "1"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\na=rtcp:1 IN IP4 ", "1"},
        {HEAD, "m=a 1 RTP/AVP 0\n"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\n", "a=rtpmap:0 x/8000\n"},
        {HEAD "m=audio 5004 RTP/AVP 0\r\n", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\n"},
        {HEAD, "c=IN IP4 1.2.3.4\n"},
        {HEAD, "\n"},
        {HEAD, "\r\n"},
        {HEAD, "\r"},
        {HEAD, "a="},
        {HEAD, "="},
        {"", "v=0\n"},
        {"", "("},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t room = BYTES_MAX - strlen(rows[i].head);
        char *text = repeat(rows[i].head, rows[i].line, room / strlen(rows[i].line));
        hostile(text, strlen(text));
        free(text);
    }
    hostile(HEAD "m=application 32416 udp \xe2"
                 "b\r\n",
            strlen(HEAD "m=application 32416 udp \xe2"
                        "b\r\n"));
    hostile("", 0);
    /* Every beginning of a description, in a buffer of just that size so that sanitizers see a read beyond
     * it. */
    const char *whole =
        HEAD "m=audio 5004/2 RTP/AVP 0 96\r\na=rtpmap:96 x/8000/2\r\na=rtcp:7 IN IP6 ::1\r\na=sendonly\r\n";
    for (size_t n = 0; n < strlen(whole); n++) {
        char *text = malloc(n ? n : 1);
        assert_non_null(text);
        memcpy(text, whole, n);
        hostile(text, n);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_error_may_be_short),
        cmocka_unit_test(test_host),          cmocka_unit_test(test_answer),
        cmocka_unit_test(test_origin),        cmocka_unit_test(test_rewrite_count),
        cmocka_unit_test(test_rewrite_hosts), cmocka_unit_test(test_addresses_in_text),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests_name("sdp", tests, NULL, NULL);
}
