/* Keys in SDP: b2bua/sdp/secure.h. The texts that kedge writes are golden pairs (secure-*, web-*). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/sdp/sdp.h"

#define KEY  "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
#define KEY2 "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj"

#define SHA256                                                                                               \
    "59:32:B9:96:93:D8:28:8C:D4:9E:89:6A:84:A1:B0:A2:E0:51:28:D9:55:5A:F2:CE:CE:58:B5:CC:9C:1F:BF:49"
#define SHA1 "4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB"

static struct kg_sdp *parse(const char *proto, const char *session, const char *lines)
{
    static char text[70000];
    char error[160] = "";
    snprintf(text, sizeof(text),
             "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n%s"
             "m=audio 5004 %s 0\r\n%s",
             session, proto, lines);
    struct kg_sdp *sdp = kg_sdp_parse(text, strlen(text), error, sizeof(error));
    if (!sdp)
        fail_msg("%s: %s", lines, error);
    return sdp;
}

static void read_keys(const char *proto, const char *session, const char *lines, struct kg_sdp_secure *out)
{
    struct kg_sdp *sdp = parse(proto, session, lines);
    assert_int_equal(kg_sdp_secure(sdp, 0, out), 0);
    assert_int_not_equal(kg_sdp_secure(sdp, 1, out), 0);
    assert_int_equal(kg_sdp_secure(sdp, 0, out), 0);
    kg_sdp_free(sdp);
}

/* RFC 4568 4.1, 6.1, 9.1 and RFC 7714 14.2, 6188 4 */
static void test_crypto_lines(void **state)
{
    static const struct {
        const char *line;
        enum kg_srtp_suite suite;
        uint32_t tag;
        uint8_t first, last; /* bytes of the key */
        const char *mki;
    } cases[] = {
        {"1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32",
         KG_SRTP_AES_CM_128_SHA1_80, 1, 0x3d, 0x51,
         "0000000000000000000000000000000000000000000000000000000000000001"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^20|1:4", KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23,
         "00000001"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:4", KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23,
         "00000001"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^48", KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23, ""},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1048576", KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23, ""},
        {"999999999 aes_cm_128_hmac_sha1_32 INLINE:" KEY, KG_SRTP_AES_CM_128_SHA1_32, 999999999, 0x77, 0x23,
         ""},
        {"0 AES_CM_128_HMAC_SHA1_32 inline:" KEY "  WSH=60 -EXT=1 -x", KG_SRTP_AES_CM_128_SHA1_32, 0, 0x77,
         0x23, ""},
        {"3 AES_256_CM_HMAC_SHA1_80 inline:mxL5XrHeqOaOGerUldP4/b9ziJ5Xhpydj6sy+zdPSERpYDongfThIW+tPL/hbQ==",
         KG_SRTP_AES_CM_256_SHA1_80, 3, 0x9b, 0x6d, ""},
        {"4 AES_256_CM_HMAC_SHA1_32 inline:mxL5XrHeqOaOGerUldP4/b9ziJ5Xhpydj6sy+zdPSERpYDongfThIW+tPL/hbQ",
         KG_SRTP_AES_CM_256_SHA1_32, 4, 0x9b, 0x6d, ""},
        {"1 AEAD_AES_256_GCM inline:2OZkIwjv15+Ln2WFokHMl78I2C1bPBrmMGf3wMoH77QoYpIc5TzyjIvoxHc",
         KG_SRTP_AEAD_AES_256_GCM, 1, 0xd8, 0x77, ""},
        {"2 AEAD_AES_128_GCM inline:NasaAvo7cRTKPATnqXCH38+ZjWMiU42BHouM+Q==", KG_SRTP_AEAD_AES_128_GCM, 2,
         0x35, 0xf9, ""},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^20|66051:16", KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23,
         "00000000000000000000000000010203"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|340282366920938463463374607431768211455:16",
         KG_SRTP_AES_CM_128_SHA1_80, 1, 0x77, 0x23, "ffffffffffffffffffffffffffffffff"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[256], mki[2 * KG_SRTP_MKI_MAX + 1] = "";
        struct kg_sdp_secure secure;
        snprintf(line, sizeof(line), "a=crypto:%s\r\n", cases[i].line);
        read_keys("RTP/SAVP", "", line, &secure);
        assert_true(secure.says_sdes);
        if (cases[i].suite == KG_SRTP_NONE) {
            assert_int_equal(secure.crypto_count, 0);
            continue;
        }
        if (secure.crypto_count != 1)
            fail_msg("not taken: %s", cases[i].line);
        const struct kg_srtp_keys *keys = &secure.crypto[0].keys;
        assert_int_equal(keys->suite, cases[i].suite);
        assert_int_equal(keys->count, 1);
        assert_int_equal(secure.crypto[0].tag, cases[i].tag);
        assert_int_equal(keys->key[0].bytes[0], cases[i].first);
        assert_int_equal(keys->key[0].bytes[kg_srtp_suite_key_len(cases[i].suite) - 1], cases[i].last);
        for (uint8_t m = 0; m < keys->key[0].mki_len; m++)
            snprintf(mki + 2 * m, 3, "%02x", keys->key[0].mki[m]);
        assert_string_equal(mki, cases[i].mki);
        assert_true(secure.sdes && !secure.plain && !secure.dtls && !secure.problem);
    }
}

static void test_bad_crypto_lines(void **state)
{
    static const struct {
        const char *line, *text, *reason;
    } cases[] = {
        {"1 F8_128_HMAC_SHA1_80 inline:" KEY, "crypto:1 F8_128_HMAC_SHA1_80",
         "kedge does not have its suite"},
        {"1 NULL_HMAC_SHA1_80 inline:" KEY, "crypto:1 NULL_HMAC_SHA1_80", "kedge does not have its suite"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " UNENCRYPTED_SRTP", "crypto:1 AES_CM_128_HMAC_SHA1_80",
         "UNENCRYPTED_SRTP would send media in the clear"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " WSH=60 UNENCRYPTED_SRTCP", NULL,
         "UNENCRYPTED_SRTCP would send reports in the clear"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " unauthenticated_srtp", NULL,
         "UNAUTHENTICATED_SRTP would let anybody inject media"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " KDR=4", NULL, "KDR: kedge derives session keys once"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " FEC_ORDER=FEC_SRTP", NULL,
         "FEC_ORDER: kedge does no forward error correction of its own"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " FEC_KEY=inline:" KEY2, NULL,
         "FEC_KEY: kedge does no forward error correction of its own"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " EXT=1", NULL,
         "it has a session parameter that kedge does not know"},
        {"1000000000 AES_CM_128_HMAC_SHA1_80 inline:" KEY, "crypto:1000000000 AES_CM_128_HMAC_SHA1_80",
         "its tag is not a number of up to 9 digits"},
        {"99999999999999999999 AES_CM_128_HMAC_SHA1_80 inline:" KEY, "crypto",
         "its tag is not a number of up to 9 digits"},
        {"inline:" KEY, "crypto", "its tag is not a number of up to 9 digits"},
        {"1 inline:" KEY, "crypto:1", "kedge does not have its suite"},
        {"1 " KEY, "crypto:1", "kedge does not have its suite"},
        {"1 AES_CM_128_HMAC_SHA1_80", NULL, "it has no key"},
        {"1 AES_CM_128_HMAC_SHA1_80 " KEY, NULL, "its key is not inline"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "A", NULL,
         "its key is not base64 of as many bytes as its suite needs"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJS*j", NULL,
         "its key is not base64 of as many bytes as its suite needs"},
        {"1 AES_256_CM_HMAC_SHA1_80 inline:" KEY, NULL,
         "its key is not base64 of as many bytes as its suite needs"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^49", NULL,
         "the lifetime of its key is not a number of packets up to 2^48"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|x", NULL,
         "the lifetime of its key is not a number of packets up to 2^48"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|0", NULL,
         "the lifetime of its key is not a number of packets up to 2^48"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^20|2^20", NULL,
         "the lifetime of its key is not a number of packets up to 2^48"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:4|1:4", NULL, "it has two MKIs"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|256:1", NULL, "its MKI needs more bytes than it says"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:0", NULL,
         "its MKI is not VALUE:LENGTH with a length from 1 to 128"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:129", NULL,
         "its MKI is not VALUE:LENGTH with a length from 1 to 128"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:33", NULL,
         "its MKI is longer than the 32 bytes that kedge takes"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|a:4", NULL, "its MKI is not a decimal number"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY ";inline:" KEY2, NULL,
         "it has several keys that no MKI tells apart"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:4;inline:" KEY2 "|2:2", NULL,
         "it has several keys that no MKI tells apart"},
        {"1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:4;inline:" KEY2 "|1:4", NULL,
         "it has several keys that no MKI tells apart"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[256];
        struct kg_sdp_secure secure;
        struct kg_sdp_bad_key bad[2];
        snprintf(line, sizeof(line), "a=crypto:%s\r\n", cases[i].line);
        struct kg_sdp *sdp = parse("RTP/SAVP", "", line);
        assert_int_equal(kg_sdp_secure(sdp, 0, &secure), 0);
        if (secure.crypto_count != 0)
            fail_msg("taken: %s", cases[i].line);
        assert_string_equal(secure.problem, "none of its a=crypto lines can be used");
        assert_int_equal(kg_sdp_bad_keys(sdp, 0, bad, 2), 1);
        assert_string_equal(bad[0].reason, cases[i].reason);
        if (cases[i].text)
            assert_string_equal(bad[0].text, cases[i].text);
        assert_null(strstr(bad[0].text, "d0Rm"));
        assert_int_equal(kg_sdp_bad_keys(sdp, 0, bad, 0), 0);
        assert_int_equal(kg_sdp_bad_keys(sdp, 9, bad, 2), 0);
        kg_sdp_free(sdp);
    }
}

/* RFC 4568 6.1: several keys, told apart by MKI. */
static void test_several_keys(void **state)
{
    (void)state;
    struct kg_sdp_secure secure;
    read_keys("RTP/SAVP", "",
              "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|2^20|1:4;inline:" KEY2 "|2^20|2:4\r\n",
              &secure);
    assert_int_equal(secure.crypto_count, 1);
    assert_int_equal(secure.crypto[0].keys.count, 2);
    assert_int_equal(secure.crypto[0].keys.key[1].mki[3], 2);
    assert_int_equal(secure.crypto[0].keys.key[1].bytes[0], '7');
    read_keys("RTP/SAVP", "",
              "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "|1:1;inline:" KEY "|2:1;inline:" KEY
              "|3:1;inline:" KEY "|4:1;inline:" KEY "|5:1\r\n",
              &secure);
    assert_int_equal(secure.crypto_count, 0);
    kg_sdp_secure_clear(&secure);
    assert_int_equal(secure.says_sdes, 0);
}

/* threats.md: 65 crypto lines; a tag twice; one in the session part. */
static void test_many_crypto_lines(void **state)
{
    static char lines[20000];
    struct kg_sdp_secure secure;
    struct kg_sdp_bad_key bad[100];
    size_t n = 0;
    (void)state;
    for (int i = 1; i <= 65; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n,
                              "a=crypto:%d AES_CM_128_HMAC_SHA1_80 inline:" KEY "\r\n", i);
    struct kg_sdp *sdp = parse("RTP/SAVP", "a=crypto:70 AES_CM_128_HMAC_SHA1_80 inline:" KEY "\r\n", lines);
    assert_int_equal(kg_sdp_secure(sdp, 0, &secure), 0);
    assert_int_equal(secure.crypto_count, KG_SDP_CRYPTO_MAX);
    assert_int_equal(secure.crypto[7].tag, 8);
    assert_int_equal(kg_sdp_bad_keys(sdp, 0, bad, 100), 65 - 8 + 1);
    assert_string_equal(bad[0].reason, "before the first m= line it belongs to none (RFC 4568 5)");
    assert_string_equal(bad[1].text, "crypto:9 AES_CM_128_HMAC_SHA1_80");
    assert_string_equal(bad[1].reason, "kedge looks at 8 usable ones");
    kg_sdp_free(sdp);
    read_keys("RTP/SAVP", "",
              "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY
              "\r\na=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:" KEY2 "\r\n",
              &secure);
    assert_int_equal(secure.crypto_count, 1);
    assert_int_equal(secure.crypto[0].keys.suite, KG_SRTP_AES_CM_128_SHA1_80);
}

/* RFC 8122 5, RFC 4145 4, RFC 8842 4 */
static void test_fingerprints(void **state)
{
    static char lines[12000];
    struct kg_sdp_secure secure;
    struct kg_sdp_bad_key bad[4];
    (void)state;
    read_keys("UDP/TLS/RTP/SAVP", "a=fingerprint:SHA-256 " SHA256 "\r\na=setup:actpass\r\n", "", &secure);
    assert_true(secure.dtls && !secure.sdes && !secure.plain);
    assert_int_equal(secure.fingerprint_count, 1);
    assert_int_equal(secure.fingerprint[0].hash, KG_FINGERPRINT_SHA256);
    assert_int_equal(secure.fingerprint[0].len, 32);
    assert_int_equal(secure.fingerprint[0].bytes[0], 0x59);
    assert_int_equal(secure.fingerprint[0].bytes[31], 0x49);
    assert_int_equal(secure.setup, KG_SETUP_ACTPASS);
    /* One of its own: the session's does not count. Lower case. */
    read_keys("UDP/TLS/RTP/SAVPF", "a=fingerprint:sha-256 " SHA256 "\r\na=setup:actpass\r\n",
              "a=fingerprint:sha-1 " SHA1 "\r\na=setup:active\r\na=tls-id:abc3de65cddef001be82\r\n", &secure);
    assert_int_equal(secure.fingerprint_count, 0);
    assert_int_equal(secure.setup, KG_SETUP_ACTIVE);
    assert_string_equal(secure.tls_id, "abc3de65cddef001be82");
    assert_string_equal(secure.problem, "none of its a=fingerprint lines can be used");
    read_keys("UDP/TLS/RTP/SAVPF", "", "a=fingerprint:sha-1 " SHA1 "\r\na=fingerprint:sha-256 " SHA256 "\r\n",
              &secure);
    assert_int_equal(secure.fingerprint_count, 1);
    assert_true(secure.dtls);
    assert_int_equal(secure.setup, KG_SETUP_NONE);
    /* Five: the fifth is too many. Ten thousand characters. */
    size_t n = 0;
    for (int i = 0; i < 5; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "a=fingerprint:sha-256 " SHA256 "\r\n");
    n += (size_t)snprintf(lines + n, sizeof(lines) - n, "a=fingerprint:sha-512 ");
    for (int i = 0; i < 3333; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "%sAB", i ? ":" : "");
    struct kg_sdp *sdp = parse("UDP/TLS/RTP/SAVPF", "", lines);
    assert_int_equal(kg_sdp_secure(sdp, 0, &secure), 0);
    assert_int_equal(secure.fingerprint_count, KG_FINGERPRINTS_MAX);
    assert_int_equal(kg_sdp_bad_keys(sdp, 0, bad, 4), 2);
    assert_string_equal(bad[1].text, "fingerprint:sha-512");
    assert_string_equal(bad[1].reason, "it has not as many hexadecimal bytes as its hash");
    kg_sdp_free(sdp);
    memset(lines, 'x', 400);
    memcpy(lines, "a=tls-id:", 9);
    memcpy(lines + 400, "\r\n", 3);
    read_keys("UDP/TLS/RTP/SAVPF", "", lines, &secure);
    assert_string_equal(secure.tls_id, "");
}

static void test_what_can_be_done(void **state)
{
    static const char crypto[] = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY "\r\n";
    static const char fingerprint[] = "a=fingerprint:sha-256 " SHA256 "\r\na=setup:actpass\r\n";
    static const struct {
        const char *proto, *crypto, *fingerprint;
        bool sdes, dtls, plain, problem;
    } cases[] = {
        {"RTP/AVP", "", "", false, false, true, false},
        {"RTP/AVP", crypto, "", true, false, true, false}, /* RFC 8643 */
        {"RTP/AVPF", "", fingerprint, false, true, true, false},
        {"RTP/AVP", crypto, fingerprint, true, true, true, false},
        {"RTP/SAVP", "", "", false, false, false, true},
        {"RTP/SAVP", crypto, "", true, false, false, false},
        {"rtp/savpf", crypto, fingerprint, true, true, false, false},
        {"RTP/SAVP", "", fingerprint, false, true, false, false},
        {"UDP/TLS/RTP/SAVP", crypto, fingerprint, false, true, false, false},
        {"UDP/TLS/RTP/SAVPF", crypto, "", false, false, false, true},
        {"udptl", "", "", false, false, false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char lines[512];
        struct kg_sdp_secure secure;
        snprintf(lines, sizeof(lines), "%s%s", cases[i].crypto, cases[i].fingerprint);
        read_keys(cases[i].proto, "", lines, &secure);
        if (secure.sdes != cases[i].sdes || secure.dtls != cases[i].dtls || secure.plain != cases[i].plain ||
            (secure.problem != NULL) != cases[i].problem)
            fail_msg("%s %s", cases[i].proto, lines);
    }
}

/* An answer to what kedge offered. */
static void test_answers(void **state)
{
    static const struct {
        enum kg_sdp_profile offered; /* with a=crypto 1 and 2 unless it is a TLS profile */
        const char *proto, *lines;
        int failed;
        enum kg_secure_use use;
        bool feedback;
        const char *says;
    } cases[] = {
        {KG_SDP_SAVP, "RTP/SAVP", "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:" KEY, 0, KG_SECURE_SDES, false,
         NULL},
        {KG_SDP_SAVPF, "RTP/SAVPF", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 0, KG_SECURE_SDES, true,
         NULL},
        {KG_SDP_SAVPF, "RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 0, KG_SECURE_SDES, false,
         NULL},
        {KG_SDP_SAVP, "RTP/AVP", "", 1, 0, false, "RTP/AVP where RTP/SAVP was offered"},
        {KG_SDP_SAVP, "RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 1, 0, false,
         "RTP/AVP where"},
        {KG_SDP_SAVP, "RTP/SAVP", "", 1, 0, false, "neither a=crypto nor a=fingerprint"},
        {KG_SDP_SAVP, "RTP/SAVP", "a=fingerprint:sha-256 " SHA256, 1, 0, false,
         "a=fingerprint where a=crypto"},
        {KG_SDP_SAVP, "RTP/SAVP", "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 1, 0, false, "tag 3"},
        {KG_SDP_SAVP, "RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:" KEY, 1, 0, false,
         "offered as"},
        {KG_SDP_SAVP, "RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY " KDR=1", 1, 0, false,
         "0 usable"},
        {KG_SDP_SAVP, "RTP/SAVP",
         "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY
         "\r\na=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:" KEY,
         1, 0, false, "2 usable"},
        {KG_SDP_AVP, "RTP/AVP", "", 0, KG_SECURE_PLAIN, false, NULL},
        {KG_SDP_AVP, "RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 0, KG_SECURE_SDES, false,
         NULL},
        {KG_SDP_AVP, "RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" KEY, 0, KG_SECURE_SDES, false,
         NULL},
        {KG_SDP_AVP, "RTP/SAVP", "", 1, 0, false, "neither"},
        {KG_SDP_AVP, "udptl", "", 1, 0, false, "not RTP"},
        {KG_SDP_TLS_SAVPF, "UDP/TLS/RTP/SAVPF", "a=setup:active\r\na=fingerprint:sha-256 " SHA256, 0,
         KG_SECURE_DTLS, true, NULL},
        {KG_SDP_TLS_SAVPF, "RTP/SAVPF", "a=setup:active\r\na=fingerprint:sha-256 " SHA256, 0, KG_SECURE_DTLS,
         true, NULL},
        {KG_SDP_TLS_SAVPF, "UDP/TLS/RTP/SAVPF", "a=setup:actpass\r\na=fingerprint:sha-256 " SHA256, 1, 0,
         false, "a=setup"},
        {KG_SDP_TLS_SAVPF, "UDP/TLS/RTP/SAVPF", "a=setup:holdconn\r\na=fingerprint:sha-256 " SHA256, 1, 0,
         false, "a=setup"},
        {KG_SDP_TLS_SAVPF, "UDP/TLS/RTP/SAVPF", "a=setup:active", 1, 0, false, "no a=fingerprint"},
        {KG_SDP_TLS_SAVPF, "UDP/TLS/RTP/SAVPF", "a=setup:active\r\na=fingerprint:md5 AB:CD", 1, 0, false,
         "none of its a=fingerprint"},
        {KG_SDP_TLS_SAVPF, "RTP/AVP", "a=setup:active\r\na=fingerprint:sha-256 " SHA256, 1, 0, false,
         "RTP/AVP where"},
    };
    struct kg_sdp_crypto crypto[2] = {{.tag = 1, .keys.suite = KG_SRTP_AES_CM_128_SHA1_80},
                                      {.tag = 2, .keys.suite = KG_SRTP_AES_CM_128_SHA1_32}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kg_sdp_our_keys offered = {
            .profile = (uint8_t)cases[i].offered, .crypto = crypto, .crypto_count = 2};
        struct kg_sdp_secure answer;
        struct kg_sdp_agreed agreed;
        char lines[512], error[200] = "";
        if (kg_sdp_profile_is_dtls(cases[i].offered)) {
            offered.crypto_count = 0;
            offered.fingerprint.hash = KG_FINGERPRINT_SHA256;
            offered.setup = KG_SETUP_ACTPASS;
        }
        snprintf(lines, sizeof(lines), "%s\r\n", cases[i].lines);
        read_keys(cases[i].proto, "", lines, &answer);
        int failed = kg_sdp_check_keys(&offered, &answer, &agreed, error, sizeof(error));
        if ((failed != 0) != cases[i].failed || (failed && !strstr(error, cases[i].says)))
            fail_msg("%s %s: %d %s", cases[i].proto, lines, failed, error);
        if (failed)
            continue;
        assert_int_equal(agreed.use, cases[i].use);
        assert_int_equal(agreed.feedback, cases[i].feedback);
        if (agreed.use == KG_SECURE_SDES)
            assert_int_equal(crypto[agreed.ours].tag, answer.crypto[agreed.theirs].tag);
        if (agreed.use == KG_SECURE_DTLS)
            assert_int_equal(agreed.setup, KG_SETUP_PASSIVE);
    }
}

/* RFC 4145 4.1, RFC 5763 5 */
static void test_setup(void **state)
{
    (void)state;
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_ACTPASS, KG_SETUP_PASSIVE), KG_SETUP_PASSIVE);
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_ACTPASS, KG_SETUP_ACTIVE), KG_SETUP_ACTIVE);
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_ACTIVE, KG_SETUP_ACTIVE), KG_SETUP_PASSIVE);
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_PASSIVE, KG_SETUP_PASSIVE), KG_SETUP_ACTIVE);
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_HOLDCONN, KG_SETUP_PASSIVE), KG_SETUP_NONE);
    assert_int_equal(kg_sdp_answer_setup(KG_SETUP_NONE, KG_SETUP_ACTIVE), KG_SETUP_PASSIVE);
}

/* What left out first does not depend on the order, and the one that all phones have stays. */
static void test_budget(void **state)
{
    struct kg_sdp_crypto crypto[7];
    struct kg_sdp *sdp = parse("RTP/AVP", "", "");
    struct kg_sdp_our_keys ours = {.profile = KG_SDP_SAVP, .crypto = crypto, .crypto_count = 6};
    struct kg_sdp_local local = {.keys = KG_SDP_KEYS_OURS, .ours = &ours};
    size_t whole = 0, len;
    (void)state;
    memset(crypto, 0, sizeof(crypto));
    for (uint8_t i = 0; i < 6; i++) {
        crypto[i].tag = i + 1u;
        crypto[i].keys.suite = (uint8_t)(KG_SRTP_NONE + 1 + i);
    }
    assert_int_equal(kg_addr_parse("203.0.113.1:40000", &local.rtp), 0);
    for (int left_out = 0; left_out <= 5; left_out++) {
        struct kg_sdp_origin origin = {.id = 1, .version = 1};
        struct kg_sdp_pruned pruned;
        char *text =
            kg_sdp_rewrite_within(sdp, &local, 1, NULL, &origin, whole ? whole - 1 : 0, &pruned, &len);
        assert_non_null(text);
        assert_int_equal(pruned.crypto, left_out);
        assert_int_equal(pruned.too_big, false);
        assert_non_null(strstr(text, "a=crypto:5 AES_CM_128_HMAC_SHA1_80 "));
        assert_int_equal(strstr(text, "a=crypto:4 ") != NULL, left_out < 1);
        whole = len;
        free(text);
    }
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    struct kg_sdp_pruned pruned;
    char *text = kg_sdp_rewrite_within(sdp, &local, 1, NULL, &origin, whole - 1, &pruned, &len);
    assert_true(pruned.too_big);
    free(text);
    kg_sdp_free(sdp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crypto_lines), cmocka_unit_test(test_bad_crypto_lines),
        cmocka_unit_test(test_several_keys), cmocka_unit_test(test_many_crypto_lines),
        cmocka_unit_test(test_fingerprints), cmocka_unit_test(test_what_can_be_done),
        cmocka_unit_test(test_answers),      cmocka_unit_test(test_setup),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests_name("sdp keys", tests, NULL, NULL);
}
