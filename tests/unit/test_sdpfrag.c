/* b2bua/sdp/sdpfrag.h: candidates in an INFO (RFC 8840 9). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdpfrag.h"

#define CREDS "a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY\r\n"

/* What the sender said before: two lines with a=mid, the second one first. */
static const char offer[] =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nt=0 0\r\na=ice-options:trickle\r\n" CREDS
    "m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\n"
    "m=video 9 RTP/AVP 34\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\n";

static struct kg_sdp *sdp_of(const char *text)
{
    char error[160] = "";
    struct kg_sdp *sdp = kg_sdp_parse(text, strlen(text), error, sizeof(error));
    if (!sdp)
        fail_msg("refused: %s", error);
    return sdp;
}

static struct kg_sdpfrag *parse(const char *text, const struct kg_sdp *sdp)
{
    char error[160] = "";
    struct kg_sdpfrag *frag = kg_sdpfrag_parse(text, strlen(text), sdp, error, sizeof(error));
    if (!frag)
        fail_msg("refused: %s", error);
    return frag;
}

/* As in RFC 8840's examples: credentials once, then m-lines named by mid, in any order. */
static void test_parse(void **state)
{
    (void)state;
    struct kg_sdp *sdp = sdp_of(offer);
    struct kg_sdpfrag *frag = parse(
        CREDS "m=video 9 RTP/AVP 0\r\na=mid:v\r\n"
              "a=candidate:1 1 UDP 1658497328 192.0.2.3 5000 typ host\r\n"
              "a=candidate:2 1 UDP 1658497327 198.51.100.3 5000 typ srflx raddr 192.0.2.3 rport 5000\r\n"
              "a=candidate:3 1 TCP 1658497326 192.0.2.3 9 typ host tcptype active\r\n"
              "a=end-of-candidates\r\n"
              "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=ice-ufrag:other\r\n"
              "a=ice-pwd:otherotherotherotherother\r\n"
              "a=candidate:1 2 UDP 1658497328 192.0.2.3 5003 typ host\r\n",
        sdp);
    assert_int_equal(frag->count, 2);
    assert_false(frag->end_of_candidates);
    const struct kg_sdpfrag_line *video = &frag->line[0], *audio = &frag->line[1];
    assert_int_equal(video->index, 1);
    assert_string_equal(video->ice.ufrag, "8hhY");
    assert_string_equal(video->ice.pwd, "asd88fgpdd777uzjYhagZg");
    assert_true(video->ice.end_of_candidates);
    assert_int_equal(video->ice.candidate_count, 2);
    assert_int_equal(video->ice.candidate[1].type, KG_CANDIDATE_SRFLX);
    assert_int_equal(audio->index, 0);
    assert_string_equal(audio->ice.ufrag, "other");
    assert_false(audio->ice.end_of_candidates);
    assert_int_equal(audio->ice.candidate_count, 1);
    assert_int_equal(audio->ice.candidate[0].component, 2);
    kg_sdpfrag_free(frag);

    /* Said of all of them. */
    frag = parse("a=end-of-candidates\r\n" CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\n", sdp);
    assert_true(frag->end_of_candidates);
    assert_true(frag->line[0].ice.end_of_candidates);
    assert_int_equal(frag->line[0].ice.candidate_count, 0);
    kg_sdpfrag_free(frag);
    kg_sdp_free(sdp);
}

/* By mid; without one by order and kind; otherwise to nobody. */
static void test_index(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        int index[2];
    } rows[] = {
        {"m=audio 9 RTP/AVP 0\r\na=mid:v\r\nm=video 9 RTP/AVP 0\r\na=mid:a\r\n", {1, 0}},
        {"m=audio 9 RTP/AVP 0\r\na=mid:x\r\nm=video 9 RTP/AVP 0\r\na=mid:A\r\n", {-1, -1}},
        {"m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 0\r\n", {0, 1}},
        {"m=video 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 0\r\n", {-1, 1}},
    };
    struct kg_sdp *sdp = sdp_of(offer);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), CREDS "%s", rows[i].lines);
        struct kg_sdpfrag *frag = parse(text, sdp);
        assert_int_equal(frag->line[0].index, rows[i].index[0]);
        assert_int_equal(frag->line[1].index, rows[i].index[1]);
        kg_sdpfrag_free(frag);
    }
    struct kg_sdpfrag *third =
        parse(CREDS "m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 0\r\nm=text 9 RTP/AVP 0\r\n", sdp);
    assert_int_equal(third->line[2].index, -1);
    kg_sdpfrag_free(third);
    kg_sdp_free(sdp);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "the session description is empty"},
        {CREDS, "the fragment has 0 m= lines, not 1 to 8"},
        {"m=audio 9 RTP/AVP 0\r\n", "m= line 1 of the fragment has no valid a=ice-ufrag and a=ice-pwd"},
        {"a=ice-ufrag:8hhY\r\nm=audio 9 RTP/AVP 0\r\n",
         "m= line 1 of the fragment has no valid a=ice-ufrag and a=ice-pwd"},
        {"m=audio 9 RTP/AVP 0\r\n" CREDS "m=video 9 RTP/AVP 0\r\n",
         "m= line 2 of the fragment has no valid a=ice-ufrag and a=ice-pwd"},
        {CREDS "m=audio\r\n", "line 3: m= needs a kind, a port and a transport"},
        {CREDS "candidate\r\n", "line 3: not of the form type=value"},
        {CREDS "m=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a 9 R 0\nm=a "
               "9 R 0\n",
         "the fragment has 9 m= lines, not 1 to 8"},
    };
    struct kg_sdp *sdp = sdp_of(offer);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char error[160] = "";
        assert_null(kg_sdpfrag_parse(rows[i].text, strlen(rows[i].text), sdp, error, sizeof(error)));
        assert_string_equal(error, rows[i].error);
    }
    kg_sdpfrag_free(NULL);
    kg_sdp_free(sdp);
}

/* What the other side reads: NULL where nothing is left to say. */
static void test_rewrite(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {CREDS "a=x-unknown:kept\r\nm=audio 5000 RTP/AVP 0\r\na=mid:a\r\n"
               "a=candidate:1 1 udp 1658497328 192.0.2.3 5000 typ host generation 0 ufrag 8hhY\r\n"
               "a=candidate:2 1 udp 1658497327 198.51.100.3 5000 typ srflx raddr 10.0.0.3 rport 5000\r\n"
               "a=candidate:3 1 tcp 1658497326 10.0.0.4 9 typ host tcptype active\r\n"
               "a=x-where:10.0.0.5\r\na=rtcp:9 IN IP4 10.0.0.6\r\na=end-of-candidates\r\n",
         CREDS "a=x-unknown:kept\r\nm=audio 9 RTP/AVP 0\r\na=mid:a\r\n"
               "a=candidate:1 1 UDP 1658497328 192.0.2.3 5000 typ host\r\n"
               "a=candidate:2 1 UDP 1658497327 198.51.100.3 5000 typ srflx raddr 0.0.0.0 rport 9\r\n"
               "a=end-of-candidates\r\n"},
        /* A line without news, and one that nobody knows, go. */
        {CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\n"
               "a=candidate:3 1 UDP 5 x.local 5000 typ host\r\n"
               "m=video 9 RTP/AVP 0\r\na=mid:v\r\na=candidate:1 1 UDP 5 192.0.2.3 5002 typ host\r\n"
               "m=video 9 RTP/AVP 0\r\na=mid:x\r\na=candidate:1 1 UDP 5 192.0.2.3 5004 typ host\r\n",
         CREDS "m=video 9 RTP/AVP 0\r\na=mid:v\r\na=candidate:1 1 UDP 5 192.0.2.3 5002 typ host\r\n"},
        {CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:3 1 UDP 5 x.local 5000 typ host\r\n", NULL},
        {CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:3 1 UDP 5 127.0.0.1 5000 typ host\r\n", NULL},
        {CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\n", NULL},
        {CREDS "m=audio 9 RTP/AVP 0\r\na=mid:x\r\na=end-of-candidates\r\n", NULL},
        {CREDS "a=end-of-candidates\r\nm=audio 9 RTP/AVP 0\r\na=mid:a\r\n",
         CREDS "a=end-of-candidates\r\nm=audio 9 RTP/AVP 0\r\na=mid:a\r\n"},
        /* Without a=mid the place counts, so a line without news stays. */
        {CREDS "m=audio 9 RTP/AVP 0\r\na=candidate:3 1 UDP 5 x.local 5000 typ host\r\n"
               "m=video 9 RTP/AVP 0\r\na=candidate:1 1 UDP 5 192.0.2.3 5002 typ host\r\n",
         CREDS "m=audio 9 RTP/AVP 0\r\n"
               "m=video 9 RTP/AVP 0\r\na=candidate:1 1 UDP 5 192.0.2.3 5002 typ host\r\n"},
        /* Bare LF, and lines that have no place in a fragment. */
        {"v=0\no=- 1 1 IN IP4 10.0.0.1\nc=IN IP4 "
         "10.0.0.1\na=ice-pwd:asd88fgpdd777uzjYhagZg\na=ice-ufrag:8hhY\n"
         "m=audio 9 RTP/AVP 0\nc=IN IP4 10.0.0.1\na=mid:a\na=end-of-candidates",
         CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=end-of-candidates\r\n"},
    };
    struct kg_sdp *sdp = sdp_of(offer);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kg_sdpfrag *frag = parse(rows[i].in, sdp);
        size_t len;
        char *out = kg_sdpfrag_rewrite(frag, false, &len);
        if (rows[i].out) {
            assert_non_null(out);
            assert_string_equal(out, rows[i].out);
            assert_int_equal(len, strlen(out));
        } else if (out) {
            fail_msg("row %zu: %s", i, out);
        }
        free(out);
        kg_sdpfrag_free(frag);
    }
    kg_sdp_free(sdp);
}

/* Who is in another network hears of no private address, whatever type it is said to be of. */
static void test_apart(void **state)
{
    (void)state;
    struct kg_sdp *sdp = sdp_of(offer);
    struct kg_sdpfrag *frag =
        parse(CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:1 1 UDP 9 10.0.0.77 5060 typ host\r\n"
                    "a=candidate:2 1 UDP 8 10.0.0.78 5060 typ srflx raddr 0.0.0.0 rport 9\r\n"
                    "a=candidate:3 1 UDP 7 192.0.2.3 5002 typ host\r\n",
              sdp);
    size_t len;
    char *out = kg_sdpfrag_rewrite(frag, true, &len);
    assert_non_null(out);
    assert_null(strstr(out, "10.0.0."));
    assert_non_null(strstr(out, "192.0.2.3 5002"));
    free(out);
    kg_sdpfrag_free(frag);
    frag = parse(CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:1 1 UDP 9 10.0.0.77 5060 typ host\r\n",
                 sdp);
    assert_null(kg_sdpfrag_rewrite(frag, true, &len));
    kg_sdpfrag_free(frag);
    kg_sdp_free(sdp);
}

/* Loopback candidates are of use where the sender lives there, as its description said. */
static void test_loopback(void **state)
{
    (void)state;
    struct kg_sdp *sdp = sdp_of("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                                "m=audio 5000 RTP/AVP 0\r\na=mid:a\r\n");
    struct kg_sdpfrag *frag = parse(
        CREDS "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:3 1 UDP 5 127.0.0.1 5000 typ host\r\n", sdp);
    assert_int_equal(frag->line[0].ice.candidate_count, 1);
    kg_sdpfrag_free(frag);
    kg_sdp_free(sdp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),   cmocka_unit_test(test_index), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rewrite), cmocka_unit_test(test_apart), cmocka_unit_test(test_loopback),
    };
    return cmocka_run_group_tests_name("sdpfrag", tests, NULL, NULL);
}
