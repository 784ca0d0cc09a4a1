/* DTLS associations (media/dtls.h) with each other in any weather, their fingerprints, and with plain OpenSSL
 * as the peer. */
#include "dtls_world.h"

static void agrees_on_keys(void **state)
{
    (void)state;
    fair_weather();
    make_ends();
    expect_each_other();
    int64_t begun_ms = clock_ms;
    run();
    assert_keys_fit();
    assert_true(clock_ms - begun_ms < 200); /* nothing waited for a timer */
    assert_true(largest <= 1200);
    unsigned with_cookie = sent;
    free_ends();
    fair_weather();
    proven = true;
    make_ends();
    expect_each_other();
    run();
    assert_keys_fit();
    assert_int_equal(sent, with_cookie - 2); /* a round trip less */
    free_ends();
}

static void agrees_in_any_weather(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 2000; seed++) {
        fair_weather();
        random_state = seed;
        weather.lose = chance(30);
        weather.twice = chance(40);
        weather.late = chance(60);
        proven = seed % 3 == 0;
        make_ends();
        expect_each_other();
        run();
        if (kg_dtls_state(end[0]) != KG_DTLS_ESTABLISHED || kg_dtls_state(end[1]) != KG_DTLS_ESTABLISHED)
            print_message("seed %u: %d %s, %d %s\n", seed, kg_dtls_state(end[0]), kg_dtls_reason(end[0]),
                          kg_dtls_state(end[1]), kg_dtls_reason(end[1]));
        assert_keys_fit();
        free_ends();
    }
}

/* Flights in pieces. */
static void agrees_in_small_datagrams(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 200; seed++) {
        uint16_t mtu = (uint16_t)(256 + seed % 4 * 100);
        fair_weather();
        random_state = seed;
        weather.lose = seed > 10 ? chance(6) : 0;
        weather.late = seed > 10 ? chance(60) : 0;
        end[0] = make_with(0, true, mtu);
        end[1] = make_with(1, false, mtu);
        expect_each_other();
        run();
        if (kg_dtls_state(end[0]) != KG_DTLS_ESTABLISHED || kg_dtls_state(end[1]) != KG_DTLS_ESTABLISHED)
            print_message("seed %u: %d %s, %d %s\n", seed, kg_dtls_state(end[0]), kg_dtls_reason(end[0]),
                          kg_dtls_state(end[1]), kg_dtls_reason(end[1]));
        assert_keys_fit();
        assert_true(largest <= mtu);
        free_ends();
    }
}

static void gives_up_when_nobody_answers(void **state)
{
    (void)state;
    fair_weather();
    weather.lose = 100;
    make_ends();
    int64_t begun_ms = clock_ms;
    run();
    assert_no_keys(end[0], "did not answer");
    assert_true(clock_ms - begun_ms > 20000 && clock_ms - begun_ms <= 30000);
    assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_IDLE);
    free_ends();
}

/* The system's clock is put back by an hour: OpenSSL sends nothing again, the association still ends in time.
 */
static void gives_up_when_the_clock_is_put_back(void **state)
{
    (void)state;
    fair_weather();
    weather.lose = 100;
    make_ends();
    int64_t begun_ms = clock_ms;
    begin_all();
    system_clock_behind_ms = 3600 * 1000;
    run();
    assert_no_keys(end[0], "did not answer");
    assert_true(clock_ms - begun_ms <= 30000);
    free_ends();
}

static bool lose_last_flight(struct packet *packet, unsigned number)
{
    static int lost;

    if (number == 0)
        lost = 0;
    if (packet->to == 0 && packet->data[0] == KG_DTLS_CHANGE_CIPHER_SPEC)
        return lost++ >= 3;
    return true;
}

/* The server is established and its part of OpenSSL is gone; the client asks until it has the last flight. */
static void repeats_its_last_flight(void **state)
{
    (void)state;
    fair_weather();
    make_ends();
    expect_each_other();
    harm = lose_last_flight;
    run();
    assert_keys_fit();
    free_ends();
}

static void both_begin(void **state)
{
    (void)state;
    fair_weather();
    end[0] = make(0, true);
    end[1] = make(1, true);
    expect_each_other();
    run();
    assert_no_keys(end[0], "both sides began");
    assert_no_keys(end[1], "both sides began");
    free_ends();
}

/* --- fingerprints (RFC 8122) --- */

static struct kg_fingerprint digest_of(const X509 *certificate, uint8_t hash)
{
    static const char *const digest[] = {"none", "SHA256", "SHA384", "SHA512"};
    struct kg_fingerprint fingerprint = {.hash = hash};
    unsigned len = sizeof fingerprint.bytes;

    assert_true(X509_digest(certificate, EVP_get_digestbyname(digest[hash]), fingerprint.bytes, &len));
    fingerprint.len = (uint8_t)len;
    return fingerprint;
}

static struct kg_fingerprint other_than(struct kg_fingerprint fingerprint)
{
    fingerprint.bytes[fingerprint.len - 1] ^= 1;
    return fingerprint;
}

static void wrong_certificate_makes_no_keys(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        struct kg_fingerprint wrong = other_than(*kg_dtls_identity_fingerprint(identity[!who]));
        fair_weather();
        make_ends();
        expect_each_other();
        kg_dtls_expect(end[who], &wrong, 1);
        run();
        assert_no_keys(end[who], "fingerprint");
        if (who == 1)
            assert_no_keys(end[0], "did not answer"); /* the alert proves nothing to it */
        free_ends();
    }
}

static const struct plain_settings gcm_client = {.active = true, .profiles = "SRTP_AEAD_AES_256_GCM"};

static void every_hash_counts_and_the_strongest_decides(void **state)
{
    (void)state;
    fair_weather();
    make_end_and_plain(&gcm_client);
    const X509 *certificate = SSL_get_certificate(plain->ssl);
    struct kg_fingerprint sha256 = digest_of(certificate, KG_FINGERPRINT_SHA256);
    struct kg_fingerprint sha384 = digest_of(certificate, KG_FINGERPRINT_SHA384);
    struct kg_fingerprint sha512 = digest_of(certificate, KG_FINGERPRINT_SHA512);
    const struct {
        struct kg_fingerprint fingerprint[KG_FINGERPRINTS_MAX];
        size_t count;
        bool fits;
    } cases[] = {
        {{sha256}, 1, true},
        {{sha384}, 1, true},
        {{sha512}, 1, true},
        {{other_than(sha384)}, 1, false},
        {{sha256, other_than(sha512)}, 2, false},
        {{other_than(sha256), sha512}, 2, true},
        {{other_than(sha512), sha512, sha256}, 3, true},
        {{other_than(sha512), sha384, other_than(sha512), sha256}, 4, false},
        {{{.hash = KG_FINGERPRINT_NONE, .len = 16}}, 1, false}, /* what MD5 becomes */
        {{{.hash = KG_FINGERPRINT_NONE}, sha256}, 2, true},
        {{{.hash = KG_FINGERPRINT_SHA256, .len = 0}}, 1, false},
        {{{.hash = 77, .len = 32}}, 1, false},
    };
    kg_dtls_free(end[1]);
    end[1] = make(1, false); /* expects nobody yet */
    run();
    assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_UNVERIFIED);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* known after the handshake, and before it */
        for (int before = 0; before < 2; before++) {
            free_ends();
            fair_weather();
            make_end_and_plain(&gcm_client);
            kg_dtls_free(end[1]);
            end[1] = make(1, false);
            struct kg_fingerprint now[KG_FINGERPRINTS_MAX];
            const X509 *is = SSL_get_certificate(plain->ssl);
            for (size_t k = 0; k < cases[i].count; k++) {
                now[k] = cases[i].fingerprint[k];
                /* the plain end has a new certificate each time: the right ones are made right again */
                if (now[k].hash >= KG_FINGERPRINT_SHA256 && now[k].hash <= KG_FINGERPRINT_SHA512 &&
                    now[k].len > 0) {
                    const struct kg_fingerprint *of[] = {NULL, &sha256, &sha384, &sha512};
                    bool right = memcmp(now[k].bytes, of[now[k].hash]->bytes, now[k].len) == 0;
                    now[k] = digest_of(is, now[k].hash);
                    now[k] = right ? now[k] : other_than(now[k]);
                }
            }
            if (before)
                kg_dtls_expect(end[1], now, cases[i].count);
            run();
            if (!before) {
                assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_UNVERIFIED);
                struct kg_srtp_keys send, receive;
                assert_false(kg_dtls_keys(end[1], &send, &receive));
                kg_dtls_expect(end[1], now, 0);
                assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_UNVERIFIED);
                kg_dtls_expect(end[1], now, cases[i].count);
            }
            if (cases[i].fits)
                assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_ESTABLISHED);
            else
                assert_no_keys(end[1], "fingerprint");
        }
    }
    free_ends();
}

/* A re-INVITE that changes the fingerprint and nothing else. */
static void keys_go_when_the_fingerprint_changes(void **state)
{
    (void)state;
    fair_weather();
    make_ends();
    expect_each_other();
    run();
    assert_keys_fit();
    expect_each_other();
    assert_keys_fit();
    kg_dtls_expect(end[0], kg_dtls_identity_fingerprint(identity[0]), 1);
    assert_no_keys(end[0], "fingerprint");
    expect_each_other(); /* too late */
    assert_no_keys(end[0], "fingerprint");
    free_ends();
}

/* --- plain OpenSSL as the peer --- */

static void assert_same_as_plain(uint8_t suite)
{
    struct kg_srtp_keys send, receive;
    uint8_t material[2 * KG_SRTP_KEY_MAX];
    size_t len = kg_srtp_suite_key_len(suite), salt = suite <= KG_SRTP_AEAD_AES_128_GCM ? 12 : 14,
           key = len - salt;

    if (kg_dtls_state(end[1]) == KG_DTLS_FAILED)
        fail_msg("%s", kg_dtls_reason(end[1]));
    assert_true(kg_dtls_keys(end[1], &send, &receive));
    assert_int_equal(send.suite, suite);
    assert_int_equal(receive.suite, suite);
    assert_int_equal(send.count, 1);
    assert_int_equal(send.key[0].mki_len, 0);
    assert_true(plain_keys(plain, material, 2 * len));
    bool server = SSL_is_server(plain->ssl);
    const struct kg_srtp_keys *client_keys = server ? &send : &receive,
                              *server_keys = server ? &receive : &send;
    assert_memory_equal(client_keys->key[0].bytes, material, key);
    assert_memory_equal(server_keys->key[0].bytes, material + key, key);
    assert_memory_equal(client_keys->key[0].bytes + key, material + 2 * key, salt);
    assert_memory_equal(server_keys->key[0].bytes + key, material + 2 * key + salt, salt);
}

static void understands_openssl(void **state)
{
    (void)state;
    static const struct {
        const char *profiles;
        uint8_t suite;
    } cases[] = {
        /* As a server ours is the order, and a plain server's order is the same. */
        {"SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80", KG_SRTP_AEAD_AES_256_GCM},
        {"SRTP_AES128_CM_SHA1_32:SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM", KG_SRTP_AEAD_AES_128_GCM},
        {"SRTP_AES128_CM_SHA1_80", KG_SRTP_AES_CM_128_SHA1_80},
        {"SRTP_AES128_CM_SHA1_32", KG_SRTP_AES_CM_128_SHA1_32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int active = 0; active < 2; active++)
            for (int rsa = 0; rsa < 2; rsa++) {
                if (i == 1 && !active)
                    continue; /* there the plain server's order decides */
                fair_weather();
                make_end_and_plain(&(struct plain_settings){
                    .active = active, .profiles = cases[i].profiles, .rsa_bits = rsa ? 2048 : 0});
                run();
                assert_same_as_plain(cases[i].suite);
                free_ends();
            }
}

static void understands_old_openssl(void **state)
{
    (void)state;
    static const struct plain_settings cases[] = {
        {.ciphers = "ECDHE-ECDSA-AES128-SHA", .profiles = "SRTP_AEAD_AES_256_GCM"},
        {.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256", .profiles = "SRTP_AEAD_AES_256_GCM"},
        {.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305",
         .profiles = "SRTP_AEAD_AES_256_GCM",
         .groups = "P-384:P-256"},
        {.profiles = "SRTP_AEAD_AES_256_GCM", .options = (long)SSL_OP_NO_EXTENDED_MASTER_SECRET},
        {.ciphers = "ECDHE-RSA-AES128-SHA", .profiles = "SRTP_AEAD_AES_256_GCM", .rsa_bits = 2048},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int active = 0; active < 2; active++) {
            struct plain_settings is = cases[i];
            if (is.rsa_bits && active)
                continue; /* our certificate is none of RSA's */
            is.active = active;
            fair_weather();
            make_end_and_plain(&is);
            harm = lose_last_flight;
            run();
            assert_same_as_plain(KG_SRTP_AEAD_AES_256_GCM);
            free_ends();
        }
}

static void refuses_weak_peers_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        struct plain_settings is;
        const char *client, *server; /* what is said of such a client, and of such a server */
    } cases[] = {
        {{.version = DTLS1_VERSION, .profiles = "SRTP_AEAD_AES_256_GCM", .ciphers = "ALL:@SECLEVEL=0"},
         "does not speak DTLS 1.2",
         "does not speak DTLS 1.2"},
        {{.profiles = NULL}, "use_srtp", "use_srtp"},
        {{.ciphers = "eNULL:@SECLEVEL=0", .profiles = "SRTP_AEAD_AES_256_GCM"},
         "no cipher suite that is allowed",
         "did not answer"},
        {{.ciphers = "aNULL:@SECLEVEL=0", .profiles = "SRTP_AEAD_AES_256_GCM"},
         "no cipher suite that is allowed",
         "did not answer"},
        {{.ciphers = "AES128-SHA", .profiles = "SRTP_AEAD_AES_256_GCM", .rsa_bits = 2048},
         "no cipher suite that is allowed",
         "did not answer"},
        {{.no_certificate = true, .profiles = "SRTP_AEAD_AES_256_GCM"},
         "showed no certificate",
         "did not answer"},
        {{.rsa_bits = 1024, .profiles = "SRTP_AEAD_AES_256_GCM"}, "too small", "too small"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int active = 0; active < 2; active++) {
            struct plain_settings is = cases[i].is;
            is.active = active;
            fair_weather();
            make_end_and_plain(&is);
            run();
            assert_no_keys(end[1], active ? cases[i].client : cases[i].server);
            free_ends();
        }
}

static bool lose_first(struct packet *packet, unsigned number)
{
    (void)packet;
    return number != 0;
}

/* The first ClientHello is lost. Since our records' numbers go on from the HelloVerifyRequest's (RFC
 * 6347 4.2.1), the client takes none of them for a replay: one timer of its, a second, is all that it costs.
 */
static void a_lost_hello_costs_one_wait(void **state)
{
    (void)state;
    fair_weather();
    make_end_and_plain(&(struct plain_settings){.active = true, .profiles = "SRTP_AEAD_AES_256_GCM"});
    harm = lose_first;
    int64_t begun_ms = clock_ms;
    begin_all();
    while (!SSL_is_init_finished(plain->ssl) && step(begun_ms + 5000))
        ;
    assert_same_as_plain(KG_SRTP_AEAD_AES_256_GCM);
    assert_in_range(clock_ms - begun_ms, 1000, 1150);
    free_ends();
}

/* A ClientHello of two datagrams: the first has the cookie, whichever comes first. */
static void understands_a_long_hello(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 50; seed++) {
        fair_weather();
        random_state = seed;
        weather.late = seed > 0 ? 50 : 0;
        proven = seed % 3 == 0;
        weather.twice = seed > 0 ? 30 : 0;
        make_end_and_plain(&(struct plain_settings){
            .active = true, .profiles = "SRTP_AEAD_AES_256_GCM", .hello_bytes = seed % 2 ? 1500 : 4000});
        run();
        assert_same_as_plain(KG_SRTP_AEAD_AES_256_GCM);
        free_ends();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_keys),
        cmocka_unit_test(agrees_in_any_weather),
        cmocka_unit_test(agrees_in_small_datagrams),
        cmocka_unit_test(gives_up_when_nobody_answers),
        cmocka_unit_test(gives_up_when_the_clock_is_put_back),
        cmocka_unit_test(repeats_its_last_flight),
        cmocka_unit_test(both_begin),
        cmocka_unit_test(wrong_certificate_makes_no_keys),
        cmocka_unit_test(every_hash_counts_and_the_strongest_decides),
        cmocka_unit_test(keys_go_when_the_fingerprint_changes),
        cmocka_unit_test(understands_openssl),
        cmocka_unit_test(understands_old_openssl),
        cmocka_unit_test(a_lost_hello_costs_one_wait),
        cmocka_unit_test(understands_a_long_hello),
        cmocka_unit_test(refuses_weak_peers_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
