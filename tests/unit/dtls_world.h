/* Two ends of DTLS and a network between them that loses, doubles, delays and harms, in virtual time. An end
 * is an association of kedge's or plain OpenSSL. Included by one test program each. */
#ifndef KG_TEST_DTLS_WORLD_H
#define KG_TEST_DTLS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/srtp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "media/dtls.h"
#include "media/dtls_hello.h"

/* The clock of OpenSSL's retransmissions is ours: libssl finds this function before libc's. */
static int64_t clock_ms = 1000000, system_clock_behind_ms;
__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = (clock_ms - system_clock_behind_ms) / 1000;
    now->tv_usec = (clock_ms - system_clock_behind_ms) % 1000 * 1000;
    return 0;
}

static const uint8_t secret[KG_DTLS_SECRET] = "this is the secret of a process";
static struct kg_dtls_identity *identity[2];

static int make_identities(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        if (!(identity[i] = kg_dtls_identity_new()))
            return -1;
    return 0;
}

static int free_identities(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        kg_dtls_identity_unref(identity[i]);
    return 0;
}

static uint64_t random_state;
static uint32_t chance(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

/* --- the network --- */

#define FLYING_MAX 256
struct packet {
    int64_t at_ms;
    int to; /* 0 or 1 */
    size_t len;
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
};
static struct packet flying[FLYING_MAX];
static size_t flying_count;
static struct {
    unsigned lose, twice, late; /* of 100 */
} weather;
static unsigned sent; /* datagrams since fair_weather() */
static size_t sent_bytes, largest;
/* May change or lose (false) the datagram with this number as it leaves. */
static bool (*harm)(struct packet *packet, unsigned number);

static bool proven; /* what is made from now on needs no cookies */

static void fair_weather(void)
{
    memset(&weather, 0, sizeof weather);
    flying_count = 0;
    sent = 0;
    sent_bytes = largest = 0;
    harm = NULL;
    proven = false;
    system_clock_behind_ms = 0;
}

static void fly(int to, const uint8_t *data, size_t len, int64_t delay_ms)
{
    if (flying_count == FLYING_MAX)
        return;
    struct packet *packet = &flying[flying_count];
    packet->to = to;
    packet->at_ms = clock_ms + delay_ms;
    packet->len = len;
    memcpy(packet->data, data, len);
    if (!harm || harm(packet, sent))
        flying_count++;
    sent++;
    sent_bytes += len;
    largest = len > largest ? len : largest;
}

static void post(int to, const uint8_t *data, size_t len)
{
    unsigned copies = chance(100) < weather.twice ? 2 : 1;

    while (copies-- > 0) {
        int64_t delay_ms = 10 + (chance(100) < weather.late ? chance(400) : chance(3));
        if (chance(100) >= weather.lose)
            fly(to, data, len, delay_ms);
    }
}

/* --- an end that is plain OpenSSL, as a peer that we do not know would be --- */

struct plain {
    SSL *ssl;
    const uint8_t *in;
    size_t in_len;
    int number;
    int result; /* of its last SSL_do_handshake */
};

static int plain_read(BIO *bio, char *out, int size)
{
    struct plain *plain = BIO_get_data(bio);
    size_t len = plain->in_len;

    BIO_clear_retry_flags(bio);
    if (len == 0 || (size_t)size < len) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, plain->in, len);
    plain->in_len = 0;
    return (int)len;
}

static int plain_write(BIO *bio, const char *data, int len)
{
    struct plain *plain = BIO_get_data(bio);
    post(!plain->number, (const uint8_t *)data, (size_t)len);
    return len;
}

static long plain_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* What a plain end is like; the rest as OpenSSL has it. */
struct plain_settings {
    bool active;
    const char *ciphers, *profiles; /* NULL: OpenSSL's, and no use_srtp at all */
    int rsa_bits;                   /* 0: ECDSA P-256 */
    bool no_certificate;
    int version;  /* 0: DTLS 1.2 */
    long options; /* SSL_OP_... */
    const char *groups;
    unsigned hello_bytes; /* so much is added to a ClientHello */
};

static int any_certificate(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static X509 *plain_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const uint8_t *)"plain", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static struct kg_fingerprint plain_fingerprint; /* of the plain end made last */

static struct plain *make_plain(int number, const struct plain_settings *is)
{
    static BIO_METHOD *method;
    struct plain *plain = calloc(1, sizeof *plain);
    SSL_CTX *context = SSL_CTX_new(DTLS_method());
    EVP_PKEY *key = is->rsa_bits ? EVP_RSA_gen((unsigned)is->rsa_bits) : EVP_EC_gen("P-256");
    X509 *certificate = plain_certificate(key);
    unsigned len = sizeof plain_fingerprint.bytes;

    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "plain");
        BIO_meth_set_read(method, plain_read);
        BIO_meth_set_write(method, plain_write);
        BIO_meth_set_ctrl(method, plain_ctrl);
    }
    X509_digest(certificate, EVP_sha256(), plain_fingerprint.bytes, &len);
    plain_fingerprint.hash = KG_FINGERPRINT_SHA256;
    plain_fingerprint.len = 32;
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_options(context, (uint64_t)is->options | SSL_OP_NO_QUERY_MTU);
    assert_true(SSL_CTX_set_min_proto_version(context, is->version ? is->version : DTLS1_2_VERSION));
    assert_true(SSL_CTX_set_max_proto_version(context, is->version ? is->version : DTLS1_2_VERSION));
    if (is->ciphers)
        assert_true(SSL_CTX_set_cipher_list(context, is->ciphers));
    if (is->profiles)
        assert_int_equal(SSL_CTX_set_tlsext_use_srtp(context, is->profiles), 0);
    if (is->groups)
        assert_true(SSL_CTX_set1_groups_list(context, is->groups));
    if (!is->no_certificate) {
        assert_true(SSL_CTX_use_certificate(context, certificate));
        assert_true(SSL_CTX_use_PrivateKey(context, key));
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, any_certificate);
    plain->ssl = SSL_new(context);
    plain->number = number;
    BIO *bio = BIO_new(method);
    BIO_set_data(bio, plain);
    BIO_set_init(bio, 1);
    SSL_set_bio(plain->ssl, bio, bio);
    if (is->hello_bytes) { /* protocol names (ALPN) of a letter each */
        uint8_t names[4096];
        for (unsigned i = 0; i < is->hello_bytes; i++)
            names[i] = i % 2 ? 'x' : 1;
        assert_int_equal(SSL_set_alpn_protos(plain->ssl, names, is->hello_bytes), 0);
    }
    SSL_set_mtu(plain->ssl, 1200);
    if (is->active)
        SSL_set_connect_state(plain->ssl);
    else
        SSL_set_accept_state(plain->ssl);
    X509_free(certificate);
    EVP_PKEY_free(key);
    SSL_CTX_free(context);
    return plain;
}

static void plain_receive(struct plain *plain, const uint8_t *data, size_t len)
{
    char nothing[64];

    ERR_clear_error();
    plain->in = data;
    plain->in_len = len;
    plain->result = SSL_is_init_finished(plain->ssl) ? SSL_read(plain->ssl, nothing, sizeof nothing) * 0 + 1
                                                     : SSL_do_handshake(plain->ssl);
    plain->in_len = 0;
}

static bool plain_keys(const struct plain *plain, uint8_t *material, size_t len)
{
    return SSL_is_init_finished(plain->ssl) &&
           SSL_export_keying_material(plain->ssl, material, len, "EXTRACTOR-dtls_srtp", 19, NULL, 0, 0) == 1;
}

static void free_plain(struct plain *plain)
{
    if (plain)
        SSL_free(plain->ssl);
    free(plain);
}

/* --- two ends --- */

static const char *const name[2] = {"192.0.2.1:4000", "192.0.2.2:5000"};
static struct kg_dtls *end[2];
static struct plain *plain; /* in the place of end[plain->number] */

static void collect(int i)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX];
    size_t len;

    while (end[i] && kg_dtls_poll(end[i], clock_ms, out, &len))
        post(!i, out, len);
}

static struct kg_dtls *make_with(int i, bool active, uint16_t mtu)
{
    struct kg_dtls_settings settings = {
        .identity = identity[i], .active = active, .proven = proven, .secret = secret, .mtu = mtu};
    struct kg_dtls *dtls = kg_dtls_new(&settings);
    assert_non_null(dtls);
    return dtls;
}

static struct kg_dtls *make(int i, bool active)
{
    return make_with(i, active, 0);
}

static void expect_each_other(void)
{
    for (int i = 0; i < 2; i++)
        kg_dtls_expect(end[i], kg_dtls_identity_fingerprint(identity[!i]), 1);
}

/* End 0 begins, end 1 waits. */
static void make_ends(void)
{
    end[0] = make(0, true);
    end[1] = make(1, false);
}

/* End 0 is plain, end 1 kedge's. */
static void make_end_and_plain(const struct plain_settings *settings)
{
    plain = make_plain(0, settings);
    end[0] = NULL;
    end[1] = make(1, !settings->active);
    kg_dtls_expect(end[1], &plain_fingerprint, 1);
}

static void free_ends(void)
{
    for (int i = 0; i < 2; i++) {
        kg_dtls_free(end[i]);
        end[i] = NULL;
    }
    free_plain(plain);
    plain = NULL;
}

static size_t earliest(void)
{
    size_t best = 0;
    for (size_t i = 1; i < flying_count; i++)
        if (flying[i].at_ms < flying[best].at_ms)
            best = i;
    return best;
}

static void hand_over(const struct packet *packet)
{
    if (end[packet->to])
        kg_dtls_receive(end[packet->to], packet->data, packet->len, name[!packet->to],
                        strlen(name[!packet->to]), clock_ms);
    else if (plain)
        plain_receive(plain, packet->data, packet->len);
}

static int64_t next_deadline(int64_t until_ms)
{
    struct timeval left;

    for (int i = 0; i < 2; i++)
        if (end[i] && kg_dtls_next_ms(end[i]) < until_ms)
            until_ms = kg_dtls_next_ms(end[i]);
    if (plain && plain->result != 1 && DTLSv1_get_timeout(plain->ssl, &left)) {
        int64_t at_ms = clock_ms + left.tv_sec * 1000 + (left.tv_usec + 999) / 1000;
        return at_ms < until_ms ? at_ms : until_ms;
    }
    return until_ms;
}

/* Lets everybody begin who may. */
static void begin_all(void)
{
    for (int i = 0; i < 2; i++) {
        if (end[i])
            kg_dtls_start(end[i], clock_ms);
        collect(i);
    }
    if (plain)
        plain_receive(plain, NULL, 0);
}

/* One datagram arrives or one timer runs out. False: nothing happens any more, or until_ms came. */
static bool step(int64_t until_ms)
{
    int64_t next_ms = next_deadline(until_ms);
    size_t which = earliest();

    if (flying_count > 0 && flying[which].at_ms <= next_ms) {
        struct packet packet = flying[which];
        flying[which] = flying[--flying_count];
        clock_ms = packet.at_ms > clock_ms ? packet.at_ms : clock_ms;
        hand_over(&packet);
    } else if (next_ms >= until_ms) {
        return false;
    } else {
        clock_ms = next_ms > clock_ms ? next_ms : clock_ms;
        if (plain)
            DTLSv1_handle_timeout(plain->ssl);
    }
    collect(0);
    collect(1);
    return true;
}

static void run(void)
{
    int64_t until_ms = clock_ms + 60000;

    begin_all();
    for (unsigned steps = 0; steps < 10000 && step(until_ms); steps++)
        ;
}

static void assert_keys_fit(void)
{
    struct kg_srtp_keys send[2], receive[2];

    for (int i = 0; i < 2; i++) {
        assert_int_equal(kg_dtls_state(end[i]), KG_DTLS_ESTABLISHED);
        assert_null(kg_dtls_reason(end[i]));
        assert_true(kg_dtls_keys(end[i], &send[i], &receive[i]));
        assert_int_equal(kg_dtls_next_ms(end[i]), INT64_MAX);
    }
    assert_true(kg_srtp_keys_equal(&send[0], &receive[1]));
    assert_true(kg_srtp_keys_equal(&send[1], &receive[0]));
    assert_false(kg_srtp_keys_equal(&send[0], &send[1]));
    assert_int_equal(send[0].suite, KG_SRTP_AEAD_AES_256_GCM);
}

static void assert_no_keys(struct kg_dtls *dtls, const char *reason)
{
    struct kg_srtp_keys send, receive;

    assert_int_equal(kg_dtls_state(dtls), KG_DTLS_FAILED);
    if (!strstr(kg_dtls_reason(dtls), reason))
        fail_msg("\"%s\" does not say \"%s\"", kg_dtls_reason(dtls), reason);
    assert_false(kg_dtls_keys(dtls, &send, &receive));
    assert_int_equal(send.suite, KG_SRTP_NONE);
    assert_int_equal(receive.suite, KG_SRTP_NONE);
}

#endif
