/* SRTP byte for byte: against the vectors of the RFCs, against a second implementation of them (here, over
 * OpenSSL), and against libsrtp2 with the ciphers that it came with (in a child process, before ours are
 * installed). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <srtp2/srtp.h>

#include "media/srtp.h"
#include "tests/unit/srtp_packets.h"

static void unhex(const char *text, uint8_t *out)
{
    for (size_t i = 0; text[2 * i]; i++)
        out[i] = (uint8_t)strtoul((char[]){text[2 * i], text[2 * i + 1], '\0'}, NULL, 16);
}

/* ---- The RFCs once more ---- */

static void counter_mode(const uint8_t *key, bool large, const uint8_t iv[16], uint8_t *data, size_t len)
{
    int done;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(evp, large ? EVP_aes_256_ctr() : EVP_aes_128_ctr(), NULL, key, iv),
                     1);
    assert_int_equal(EVP_EncryptUpdate(evp, data, &done, data, (int)len), 1);
    EVP_CIPHER_CTX_free(evp);
}

static bool is_large(enum kg_srtp_suite suite)
{
    return suite == KG_SRTP_AEAD_AES_256_GCM || suite == KG_SRTP_AES_CM_256_SHA1_80 ||
           suite == KG_SRTP_AES_CM_256_SHA1_32;
}

static bool is_gcm(enum kg_srtp_suite suite)
{
    return suite == KG_SRTP_AEAD_AES_256_GCM || suite == KG_SRTP_AEAD_AES_128_GCM;
}

/* RFC 3711 4.3.1 */
static void derive(enum kg_srtp_suite suite, const uint8_t *master, uint8_t label, uint8_t *out, size_t len)
{
    uint8_t iv[16] = {0};
    size_t key = is_large(suite) ? 32 : 16;
    memcpy(iv, master + key, is_gcm(suite) ? 12 : 14);
    iv[7] ^= label;
    memset(out, 0, len);
    counter_mode(master, is_large(suite), iv, out, len);
}

static size_t header_of(const uint8_t *data)
{
    size_t len = 12 + 4 * (data[0] & 15u);
    return data[0] & 0x10 ? len + 4 + 4 * (size_t)(data[len + 2] << 8 | data[len + 3]) : len;
}

static void seal(bool large, const uint8_t *key, const uint8_t iv[12], const uint8_t *aad, size_t aad_len,
                 const uint8_t *more_aad, size_t more_len, uint8_t *data, size_t len, uint8_t tag[16])
{
    int done;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(evp, large ? EVP_aes_256_gcm() : EVP_aes_128_gcm(), NULL, key, iv),
                     1);
    assert_int_equal(EVP_EncryptUpdate(evp, NULL, &done, aad, (int)aad_len), 1);
    if (more_len)
        assert_int_equal(EVP_EncryptUpdate(evp, NULL, &done, more_aad, (int)more_len), 1);
    assert_int_equal(EVP_EncryptUpdate(evp, data, &done, data, (int)len), 1);
    assert_int_equal(EVP_EncryptFinal_ex(evp, data + len, &done), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
    EVP_CIPHER_CTX_free(evp);
}

/* RFC 7714 8.1: SSRC, then the index of 48 bits */
static void gcm_iv(uint8_t iv[12], const uint8_t salt[12], const uint8_t *ssrc, uint64_t index)
{
    memset(iv, 0, 12);
    memcpy(iv + 2, ssrc, 4);
    for (int i = 0; i < 6; i++)
        iv[6 + i] = (uint8_t)(index >> 8 * (5 - i));
    for (int i = 0; i < 12; i++)
        iv[i] ^= salt[i];
}

/* RFC 3711 4.1.1 */
static void counter_mode_iv(uint8_t iv[16], const uint8_t salt[14], const uint8_t *ssrc, uint64_t index)
{
    memset(iv, 0, 16);
    memcpy(iv + 4, ssrc, 4);
    for (int i = 0; i < 6; i++)
        iv[8 + i] = (uint8_t)(index >> 8 * (5 - i));
    for (int i = 0; i < 14; i++)
        iv[i] ^= salt[i];
}

static void reference_protect(const struct kg_srtp_keys *keys, struct packet *packet, uint32_t roc)
{
    enum kg_srtp_suite suite = (enum kg_srtp_suite)keys->suite;
    uint8_t key[32], salt[14], auth[20], iv[16], tag[20];
    size_t header = header_of(packet->data), tag_len = 10;
    uint64_t index = (uint64_t)roc << 16 | (uint64_t)packet->data[2] << 8 | packet->data[3];
    derive(suite, keys->key[0].bytes, 0, key, is_large(suite) ? 32 : 16);
    derive(suite, keys->key[0].bytes, 2, salt, is_gcm(suite) ? 12 : 14);
    if (is_gcm(suite)) {
        gcm_iv(iv, salt, packet->data + 8, index);
        seal(is_large(suite), key, iv, packet->data, header, NULL, 0, packet->data + header,
             packet->len - header, tag);
        tag_len = 16;
    } else {
        counter_mode_iv(iv, salt, packet->data + 8, index);
        counter_mode(key, is_large(suite), iv, packet->data + header, packet->len - header);
        derive(suite, keys->key[0].bytes, 1, auth, sizeof auth);
        put32(packet->data + packet->len, roc);
        HMAC(EVP_sha1(), auth, sizeof auth, packet->data, packet->len + 4, tag, NULL);
        if (suite == KG_SRTP_AES_CM_128_SHA1_32 || suite == KG_SRTP_AES_CM_256_SHA1_32)
            tag_len = 4;
    }
    memcpy(packet->data + packet->len, tag, tag_len);
    packet->len += tag_len;
}

static void reference_protect_rtcp(const struct kg_srtp_keys *keys, struct packet *packet, uint32_t index)
{
    enum kg_srtp_suite suite = (enum kg_srtp_suite)keys->suite;
    uint8_t key[32], salt[14], auth[20], iv[16], tag[20], trailer[4];
    put32(trailer, 0x80000000u | index);
    derive(suite, keys->key[0].bytes, 3, key, is_large(suite) ? 32 : 16);
    derive(suite, keys->key[0].bytes, 5, salt, is_gcm(suite) ? 12 : 14);
    if (is_gcm(suite)) { /* the tag stands before the index (RFC 7714 9.2) */
        gcm_iv(iv, salt, packet->data + 4, index);
        seal(is_large(suite), key, iv, packet->data, 8, trailer, 4, packet->data + 8, packet->len - 8, tag);
        memcpy(packet->data + packet->len, tag, 16);
        memcpy(packet->data + packet->len + 16, trailer, 4);
        packet->len += 20;
    } else {
        counter_mode_iv(iv, salt, packet->data + 4, index);
        counter_mode(key, is_large(suite), iv, packet->data + 8, packet->len - 8);
        derive(suite, keys->key[0].bytes, 4, auth, sizeof auth);
        memcpy(packet->data + packet->len, trailer, 4);
        HMAC(EVP_sha1(), auth, sizeof auth, packet->data, packet->len + 4, tag, NULL);
        memcpy(packet->data + packet->len + 4, tag, 10);
        packet->len += 14;
    }
}

/* ---- Vectors ---- */

static void expect_derived(enum kg_srtp_suite suite, const char *master, const char *key, const char *salt,
                           const char *auth)
{
    uint8_t from[46], got[32], expected[32];
    unhex(master, from);
    const char *parts[] = {key, auth, salt};
    for (uint8_t label = 0; label < 3; label++) {
        size_t len = strlen(parts[label]) / 2;
        unhex(parts[label], expected);
        derive(suite, from, label, got, len);
        assert_memory_equal(got, expected, len);
    }
}

/* RFC 3711 B.3 and RFC 6188 7.2: the reference derives what they say, so what agrees with it does too. */
static void test_derivation(void **state)
{
    (void)state;
    expect_derived(KG_SRTP_AES_CM_128_SHA1_80, "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
                   "c61e7a93744f39ee10734afe3ff7a087", "30cbbc08863d8c85d49db34a9ae1",
                   "cebe321f6ff7716b6fd4ab49af256a156d38baa4");
    expect_derived(KG_SRTP_AES_CM_256_SHA1_80,
                   "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"
                   "3b04803de51ee7c96423ab5b78d2",
                   "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
                   "fa31791685ca444a9e07c6c64e93", "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05");
}

/* RFC 7714 16.1.1 and 17.1: session keys 00 01 .. and the salt "Quid pro quo". */
static void test_gcm_vectors(void **state)
{
    (void)state;
    uint8_t key[16], packet[60], iv[12], expected_iv[12], expected[54], report[56], expected_report[52],
        tag[16];
    for (uint8_t i = 0; i < sizeof key; i++)
        key[i] = i;
    unhex("8040f17b8041f8d35501a0b2", packet);
    memcpy(packet + 12, "Gallia est omnis divisa in partes tres", 38);
    gcm_iv(iv, (const uint8_t *)"Quid pro quo", packet + 8, 0xf17b);
    unhex("51753c6580c2726f20718414", expected_iv);
    assert_memory_equal(iv, expected_iv, 12);
    seal(false, key, iv, packet, 12, NULL, 0, packet + 12, 38, tag);
    unhex("f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf"
          "765ee4390cce",
          expected);
    assert_memory_equal(packet + 12, expected, 38);
    assert_memory_equal(tag, expected + 38, 16);
    unhex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefde"
          "adbeef",
          report);
    gcm_iv(iv, (const uint8_t *)"Quid pro quo", report + 4, 0x5d4);
    uint8_t trailer[] = {0x80, 0, 0x05, 0xd4};
    seal(false, key, iv, report, 8, trailer, 4, report + 8, 44, tag);
    unhex("63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b",
          expected_report);
    assert_memory_equal(report + 8, expected_report, 44);
}

static const enum kg_srtp_suite all[] = {KG_SRTP_AEAD_AES_256_GCM,   KG_SRTP_AEAD_AES_128_GCM,
                                         KG_SRTP_AES_CM_256_SHA1_80, KG_SRTP_AES_CM_256_SHA1_32,
                                         KG_SRTP_AES_CM_128_SHA1_80, KG_SRTP_AES_CM_128_SHA1_32};
enum { SUITES = sizeof all / sizeof *all };

/* The i-th packet of a run: every length from 12 to 1400, with CSRCs, with extensions, across a wrap. */
static struct packet shaped(unsigned i)
{
    unsigned csrc = i % 7 == 0 ? i % 16 : 0;
    int extension = i % 5 == 0 ? (int)(i % 4) : -1;
    return rtp_shaped(0x11223344, (uint16_t)(65000 + i), i, csrc, extension);
}
enum { RUN = 1389 };

static struct kg_srtp *sender(const struct kg_srtp_keys *keys)
{
    struct kg_srtp *srtp = kg_srtp_new();
    assert_non_null(srtp);
    assert_int_equal(kg_srtp_set_send(srtp, keys, 0), 0);
    assert_int_equal(kg_srtp_set_receive(srtp, keys, 0), 0);
    return srtp;
}

static void test_reference(void **state)
{
    (void)state;
    for (size_t s = 0; s < SUITES; s++) {
        struct kg_srtp_keys keys = keys_of(all[s], 7 + s);
        struct kg_srtp *srtp = sender(&keys), *other = sender(&keys);
        for (unsigned i = 0; i < RUN; i++) {
            struct packet plain = shaped(i), ours = plain, theirs = plain;
            assert_int_equal(kg_srtp_protect(srtp, ours.data, &ours.len, ROOM), KG_SRTP_OK);
            reference_protect(&keys, &theirs, i < 536 ? 0 : 1);
            assert_int_equal(ours.len, theirs.len);
            assert_memory_equal(ours.data, theirs.data, theirs.len);
            assert_int_equal(kg_srtp_unprotect(other, ours.data, &ours.len, 0), KG_SRTP_OK);
            assert_int_equal(ours.len, plain.len);
            assert_memory_equal(ours.data, plain.data, plain.len);
        }
        for (unsigned i = 0; i < 32; i++) {
            struct packet plain = rtcp(0x11223344, i), ours = plain, theirs = plain;
            assert_int_equal(kg_srtp_protect_rtcp(srtp, ours.data, &ours.len, ROOM), KG_SRTP_OK);
            reference_protect_rtcp(&keys, &theirs, i + 1);
            assert_int_equal(ours.len, theirs.len);
            assert_memory_equal(ours.data, theirs.data, theirs.len);
            assert_int_equal(kg_srtp_unprotect_rtcp(other, ours.data, &ours.len, 0), KG_SRTP_OK);
            assert_int_equal(ours.len, plain.len);
            assert_memory_equal(ours.data, plain.data, plain.len);
        }
        kg_srtp_free(srtp);
        kg_srtp_free(other);
    }
}

/* ---- The ciphers that libsrtp2 came with ---- */

static int stock; /* what the child wrote */
static pid_t child;

static void send_packet(int to, const struct packet *packet)
{
    uint16_t len = (uint16_t)packet->len;
    if (write(to, &len, sizeof len) != sizeof len || write(to, packet->data, len) != len)
        _exit(3);
}

static void stock_suite(int to, enum kg_srtp_suite suite, struct kg_srtp_keys *keys)
{
    static void (*const policies[KG_SRTP_SUITES][2])(srtp_crypto_policy_t *) = {
        [KG_SRTP_AEAD_AES_256_GCM] = {srtp_crypto_policy_set_aes_gcm_256_16_auth,
                                      srtp_crypto_policy_set_aes_gcm_256_16_auth},
        [KG_SRTP_AEAD_AES_128_GCM] = {srtp_crypto_policy_set_aes_gcm_128_16_auth,
                                      srtp_crypto_policy_set_aes_gcm_128_16_auth},
        [KG_SRTP_AES_CM_256_SHA1_80] = {srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80,
                                        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80},
        [KG_SRTP_AES_CM_256_SHA1_32] = {srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32,
                                        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80},
        [KG_SRTP_AES_CM_128_SHA1_80] = {srtp_crypto_policy_set_rtp_default,
                                        srtp_crypto_policy_set_rtcp_default},
        [KG_SRTP_AES_CM_128_SHA1_32] = {srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32,
                                        srtp_crypto_policy_set_rtcp_default},
    };
    srtp_policy_t policy = {.ssrc.type = ssrc_any_outbound, .key = keys->key[0].bytes};
    policies[suite][0](&policy.rtp);
    policies[suite][1](&policy.rtcp);
    srtp_t session;
    if (srtp_create(&session, &policy) != srtp_err_status_ok)
        _exit(1);
    for (unsigned i = 0; i < RUN + 32; i++) {
        struct packet packet = i < RUN ? shaped(i) : rtcp(0x11223344, i - RUN);
        int len = (int)packet.len;
        if ((i < RUN ? srtp_protect(session, packet.data, &len)
                     : srtp_protect_rtcp(session, packet.data, &len)) != srtp_err_status_ok)
            _exit(2);
        packet.len = (size_t)len;
        send_packet(to, &packet);
    }
    srtp_dealloc(session);
}

static int start_stock(void **state)
{
    (void)state;
    int pipe_fd[2];
    if (pipe(pipe_fd) != 0)
        return -1;
    child = fork();
    if (child == 0) {
        close(pipe_fd[0]);
        if (srtp_init() != srtp_err_status_ok)
            _exit(4);
        for (size_t s = 0; s < SUITES; s++) {
            struct kg_srtp_keys keys = keys_of(all[s], 99 + s);
            stock_suite(pipe_fd[1], all[s], &keys);
        }
        _exit(0);
    }
    close(pipe_fd[1]);
    stock = pipe_fd[0];
    return child < 0 ? -1 : kg_srtp_init();
}

static void take(void *into, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t more = read(stock, (uint8_t *)into + got, len - got);
        assert_true(more > 0);
        got += (size_t)more;
    }
}

static void test_stock(void **state)
{
    (void)state;
    for (size_t s = 0; s < SUITES; s++) {
        struct kg_srtp_keys keys = keys_of(all[s], 99 + s);
        struct kg_srtp *srtp = sender(&keys);
        for (unsigned i = 0; i < RUN + 32; i++) {
            struct packet plain = i < RUN ? shaped(i) : rtcp(0x11223344, i - RUN), ours = plain, theirs = {0};
            uint16_t len;
            take(&len, sizeof len);
            theirs.len = len;
            take(theirs.data, len);
            assert_int_equal(i < RUN ? kg_srtp_protect(srtp, ours.data, &ours.len, ROOM)
                                     : kg_srtp_protect_rtcp(srtp, ours.data, &ours.len, ROOM),
                             KG_SRTP_OK);
            assert_int_equal(ours.len, theirs.len);
            assert_memory_equal(ours.data, theirs.data, theirs.len);
            assert_int_equal(i < RUN ? kg_srtp_unprotect(srtp, theirs.data, &theirs.len, 0)
                                     : kg_srtp_unprotect_rtcp(srtp, theirs.data, &theirs.len, 0),
                             KG_SRTP_OK);
            assert_int_equal(theirs.len, plain.len);
            assert_memory_equal(theirs.data, plain.data, plain.len);
        }
        kg_srtp_free(srtp);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derivation),
        cmocka_unit_test(test_gcm_vectors),
        cmocka_unit_test(test_stock),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, start_stock, NULL);
}
