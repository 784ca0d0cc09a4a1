/* Attacks on DTLS associations (shared threat table: ClientHello race, exhaustion, NULL ciphers, spoofed
 * alerts): an attacker can send what he likes in the peer's name, and reads nothing unless it says so. */
#include "dtls_world.h"

#include <malloc.h>

static size_t in_use(void)
{
    return mallinfo2().uordblks;
}

static void tell(int to, const void *data, size_t len, const char *source)
{
    kg_dtls_receive(end[to], data, len, source, strlen(source), clock_ms);
}

/* The ClientHello that a client of ours begins with. */
static size_t first_hello(uint8_t out[static KG_DTLS_DATAGRAM_MAX])
{
    struct kg_dtls *client = make(0, true);
    size_t len;

    kg_dtls_start(client, clock_ms);
    assert_true(kg_dtls_poll(client, clock_ms, out, &len));
    kg_dtls_free(client);
    return len;
}

/* RFC 6347 4.2.1. */
static void spoofed_hellos_cost_no_memory(void **state)
{
    (void)state;
    uint8_t hello[KG_DTLS_DATAGRAM_MAX], out[KG_DTLS_DATAGRAM_MAX];
    size_t len = first_hello(hello), out_len, answers = 0, before = 0;
    char source[32];

    fair_weather();
    end[1] = make(1, false);
    for (unsigned i = 0; i < 100000; i++) {
        memcpy(hello + 27, &i, sizeof i); /* in its random */
        snprintf(source, sizeof source, "198.51.100.%u:%u", i % 256, i / 256 + 1024);
        tell(1, hello, len, source);
        while (kg_dtls_poll(end[1], clock_ms, out, &out_len)) {
            assert_true(out_len < len);
            answers++;
        }
        if (i == 100)
            before = in_use();
    }
    assert_int_equal(answers, 100000);
    assert_true(in_use() <= before);
    assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_IDLE);
    assert_int_equal(kg_dtls_next_ms(end[1]), INT64_MAX);
    /* Answers that nobody fetches do not pile up. */
    for (unsigned i = 0; i < 1000; i++)
        tell(1, hello, len, "198.51.100.1:1");
    assert_true(in_use() < before + 8192);
    free_ends();
}

/* Plays the client's hellos to the server from `source`; says whether the server began. */
static bool begins(uint8_t *verify, const char *asks, const char *answers, int64_t after_ms)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX], hello[KG_DTLS_DATAGRAM_MAX];
    size_t len;

    kg_dtls_start(end[0], clock_ms);
    assert_true(kg_dtls_poll(end[0], clock_ms, hello, &len));
    tell(1, hello, len, asks);
    assert_true(kg_dtls_poll(end[1], clock_ms, verify, &len));
    assert_int_equal(len, KG_DTLS_VERIFY_LEN);
    kg_dtls_receive(end[0], verify, len, "x", 1, clock_ms);
    assert_true(kg_dtls_poll(end[0], clock_ms, hello, &len));
    clock_ms += after_ms;
    tell(1, hello, len, answers);
    bool began = kg_dtls_state(end[1]) == KG_DTLS_HANDSHAKE;
    while (kg_dtls_poll(end[1], clock_ms, out, &len))
        ;
    free_ends();
    return began;
}

static void a_cookie_is_one_address_and_a_short_time(void **state)
{
    (void)state;
    uint8_t verify[KG_DTLS_DATAGRAM_MAX];

    make_ends();
    assert_true(begins(verify, name[0], name[0], 0));
    make_ends();
    assert_true(begins(verify, name[0], name[0], 60000));
    make_ends();
    assert_false(begins(verify, name[0], name[0], 200000));
    make_ends();
    assert_false(begins(verify, name[0], "192.0.2.1:4001", 0));
}

/* In every moment of a handshake something is said in the peer's name, to both sides. */
static void say_in_each_moment(const uint8_t *data, size_t len)
{
    fair_weather();
    make_ends();
    expect_each_other();
    begin_all();
    do {
        tell(0, data, len, name[1]);
        tell(1, data, len, name[0]);
    } while (step(clock_ms + 20000));
    assert_keys_fit();
    tell(0, data, len, name[1]);
    tell(1, data, len, name[0]);
    assert_keys_fit();
    free_ends();
}

static void alerts_without_proof_kill_nothing(void **state)
{
    (void)state;
    for (unsigned description = 0; description < 120; description++) {
        uint8_t fatal[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, (uint8_t)description};
        say_in_each_moment(fatal, sizeof fatal);
        fatal[13] = 1;
        say_in_each_moment(fatal, sizeof fatal);
    }
}

static void noise_kills_nothing(void **state)
{
    (void)state;
    static const uint8_t change[] = {20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 1, 1};
    static const uint8_t data[] = {23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 98, 0, 3, 'a', 'b', 'c'};
    static const uint8_t new_version[] = {22, 0x03, 0x03, 0, 0, 0, 0, 0, 0, 0, 97, 0, 1, 1};
    static const uint8_t unified[] = {0x2f, 0, 1, 0, 4, 1, 2, 3, 4}; /* DTLS 1.3 */
    static const uint8_t empty[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 96, 0, 0};
    static const uint8_t short_message[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 95, 0, 1, 1};
    say_in_each_moment(change, sizeof change);
    say_in_each_moment(data, sizeof data);
    say_in_each_moment(new_version, sizeof new_version);
    say_in_each_moment(unified, sizeof unified);
    say_in_each_moment(empty, sizeof empty);
    static const uint8_t too_long[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 94, 0, 13,
                                       11, 0,    0,    9, 0, 1, 0, 0, 5, 0, 0,  5, 7};
    say_in_each_moment(short_message, sizeof short_message);
    say_in_each_moment(too_long, sizeof too_long);
    say_in_each_moment(short_message, 0);
    /* Of epochs whose keys nobody else has. */
    for (uint8_t type = 20; type <= 23; type++)
        for (uint8_t epoch = 1; epoch <= 3; epoch++)
            for (uint8_t number = 0; number < 200; number += 50) {
                uint8_t record[13 + 64] = {type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, number, 0, 64, 20};
                say_in_each_moment(record, sizeof record);
            }
    for (unsigned seed = 0; seed < 200; seed++) {
        uint8_t garbage[200];
        random_state = seed;
        for (size_t i = 0; i < sizeof garbage; i++)
            garbage[i] = (uint8_t)chance(256);
        garbage[0] = (uint8_t)(23 + chance(41));
        say_in_each_moment(garbage, 1 + chance(sizeof garbage));
    }
}

/* Who sees the network can spoil a handshake, not more. */
static unsigned harm_at;
static size_t harm_byte;
static bool harm_seen;
static bool cut(struct packet *packet, unsigned number)
{
    if (number == harm_at && harm_byte < packet->len) {
        packet->len = harm_byte;
        harm_seen = true;
    }
    return true;
}

static bool flip(struct packet *packet, unsigned number)
{
    if (number == harm_at && harm_byte < packet->len) {
        packet->data[harm_byte] ^= 0x11;
        harm_seen = true;
    }
    return true;
}

/* Runs once for each byte of each datagram of a handshake. */
static void harm_each(bool (*how)(struct packet *, unsigned), void (*judge)(void))
{
    unsigned datagrams = 0;

    for (harm_at = 0;; harm_at++) {
        for (harm_byte = 0;; harm_byte++) {
            fair_weather();
            make_ends();
            expect_each_other();
            harm = how;
            harm_seen = false;
            run();
            if (harm_seen)
                judge();
            free_ends();
            if (!harm_seen)
                break;
        }
        if (harm_byte == 0)
            break;
        datagrams++;
    }
    assert_true(datagrams >= 6); /* two hellos, the request to verify, three flights */
}

static void cut_datagrams_come_again(void **state)
{
    (void)state;
    harm_each(cut, assert_keys_fit);
}

static unsigned spoilt, recovered;
static void judge_flipped(void)
{
    struct kg_srtp_keys send[2], receive[2];
    bool keys[2];

    for (int i = 0; i < 2; i++) {
        keys[i] = kg_dtls_keys(end[i], &send[i], &receive[i]);
        enum kg_dtls_state is = kg_dtls_state(end[i]);
        assert_true(is == KG_DTLS_ESTABLISHED || is == KG_DTLS_FAILED || (i == 1 && is == KG_DTLS_IDLE));
    }
    assert_int_equal(keys[0], keys[1]);
    /* Never keys of one side alone, or others. */
    if (keys[0]) {
        assert_keys_fit();
        recovered++;
    } else {
        spoilt++;
    }
}

static void flipped_bytes_make_no_other_keys(void **state)
{
    (void)state;
    spoilt = recovered = 0;
    harm_each(flip, judge_flipped);
    assert_true(spoilt > 100 && recovered > 100);
}

/* A client begins and is gone; another at the same address (it was restarted) is served. */
static void another_client_takes_over_a_handshake(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        fair_weather();
        proven = way == 1; /* even then it has to prove that it is there */
        make_ends();
        expect_each_other();
        begin_all();
        while (kg_dtls_state(end[1]) != KG_DTLS_HANDSHAKE)
            assert_true(step(clock_ms + 1000));
        kg_dtls_free(end[0]);
        flying_count = 0;
        end[0] = make(0, true);
        expect_each_other();
        run();
        assert_keys_fit();
        free_ends();
    }
}

/* Hellos in the name of a proven peer do not disturb the handshake that it has begun. */
static void spoofed_hellos_disturb_no_handshake(void **state)
{
    (void)state;
    uint8_t hello[KG_DTLS_DATAGRAM_MAX];
    size_t len = first_hello(hello);

    for (int way = 0; way < 2; way++) {
        fair_weather();
        proven = way == 1;
        make_ends();
        expect_each_other();
        begin_all();
        do {
            hello[40]++;
            if (kg_dtls_state(end[1]) != KG_DTLS_IDLE)
                tell(1, hello, len, name[0]);
        } while (step(clock_ms + 20000));
        assert_keys_fit();
        free_ends();
    }
}

/* A new ClientHello, with a right cookie too, changes nothing that is established: signalling says when (RFC
 * 8842). */
static void an_established_association_stays(void **state)
{
    (void)state;
    struct kg_srtp_keys before[2], after[2];

    fair_weather();
    make_ends();
    expect_each_other();
    run();
    assert_keys_fit();
    kg_dtls_keys(end[1], &before[0], &before[1]);
    struct kg_dtls *first = end[0];
    sent = 0;
    end[0] = make(0, true);
    for (int i = 0; i < 20; i++) {
        begin_all();
        step(clock_ms + 5000);
    }
    assert_true(sent > 3);
    assert_int_equal(kg_dtls_state(end[0]), KG_DTLS_HANDSHAKE);
    assert_true(kg_dtls_keys(end[1], &after[0], &after[1]));
    assert_true(kg_srtp_keys_equal(&before[0], &after[0]) && kg_srtp_keys_equal(&before[1], &after[1]));
    kg_dtls_free(first);
    free_ends();
}

/* A peer that is who it says: application data, a new handshake in the old one, its close_notify. */
static void nothing_is_heard_afterwards(void **state)
{
    (void)state;
    uint8_t material[88];
    struct kg_srtp_keys send, receive;

    fair_weather();
    make_end_and_plain(&(struct plain_settings){.active = true, .profiles = "SRTP_AEAD_AES_256_GCM"});
    run();
    assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_ESTABLISHED);
    assert_true(plain_keys(plain, material, sizeof material));
    assert_true(SSL_write(plain->ssl, "hello", 5) == 5);
    SSL_renegotiate(plain->ssl);
    SSL_do_handshake(plain->ssl);
    SSL_shutdown(plain->ssl);
    sent = 0;
    while (step(clock_ms + 20000) && sent < 100)
        ;
    assert_int_equal(kg_dtls_state(end[1]), KG_DTLS_ESTABLISHED);
    assert_true(kg_dtls_keys(end[1], &send, &receive));
    assert_memory_equal(receive.key[0].bytes, material, 32);
    free_ends();
}

/* Somebody else behind the peer's NAT was faster, with the peer's very address: he gets no keys and the peer
 * is served by the association that takes the place of the failed one. */
static void who_wins_the_race_without_the_certificate_wins_nothing(void **state)
{
    (void)state;
    fair_weather();
    make_end_and_plain(&(struct plain_settings){.active = true, .profiles = "SRTP_AEAD_AES_256_GCM"});
    struct kg_fingerprint peers = *kg_dtls_identity_fingerprint(identity[0]);
    kg_dtls_expect(end[1], &peers, 1);
    run();
    assert_no_keys(end[1], "fingerprint");
    free_ends();
    fair_weather();
    make_ends();
    expect_each_other();
    run();
    assert_keys_fit();
    free_ends();
}

/* Who imitates the peer's last flight gets ours again: few bytes, few times. */
static void the_last_flight_is_no_amplifier(void **state)
{
    (void)state;
    uint8_t finished[13 + 40] = {22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 40}, out[KG_DTLS_DATAGRAM_MAX];
    size_t len, answers = 0;

    fair_weather();
    make_ends();
    expect_each_other();
    run();
    for (int i = 0; i < 100000; i++) {
        tell(1, finished, sizeof finished, name[0]);
        tell(0, finished, sizeof finished, name[1]);
        clock_ms++;
        while (kg_dtls_poll(end[1], clock_ms, out, &len)) {
            assert_true(len < 128);
            answers++;
        }
        assert_false(kg_dtls_poll(end[0], clock_ms, out, &len)); /* the client has nothing to repeat */
    }
    assert_in_range(answers, 2, 40);
    assert_keys_fit();
    free_ends();
}

/* What an established association holds, and a failed one. */
static void little_stays(void **state)
{
    (void)state;
    enum { MANY = 50 };
    struct kg_dtls *kept[2][MANY];
    size_t before = 0;

    for (int i = -5; i < MANY; i++) { /* OpenSSL's own tables first */
        if (i == 0)
            before = in_use();
        fair_weather();
        make_ends();
        expect_each_other();
        run();
        assert_keys_fit();
        if (i < 0)
            free_ends();
        for (int who = 0; i >= 0 && who < 2; who++)
            kept[who][i] = end[who];
    }
    assert_in_range(in_use() - before, 0, 2 * MANY * 1280);
    for (int i = 0; i < MANY; i++)
        for (int who = 0; who < 2; who++)
            kg_dtls_free(kept[who][i]);
    end[0] = end[1] = NULL;
    assert_in_range(in_use(), 0, before + 4096); /* OpenSSL has its caches */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spoofed_hellos_cost_no_memory),
        cmocka_unit_test(a_cookie_is_one_address_and_a_short_time),
        cmocka_unit_test(alerts_without_proof_kill_nothing),
        cmocka_unit_test(noise_kills_nothing),
        cmocka_unit_test(cut_datagrams_come_again),
        cmocka_unit_test(flipped_bytes_make_no_other_keys),
        cmocka_unit_test(another_client_takes_over_a_handshake),
        cmocka_unit_test(spoofed_hellos_disturb_no_handshake),
        cmocka_unit_test(an_established_association_stays),
        cmocka_unit_test(nothing_is_heard_afterwards),
        cmocka_unit_test(who_wins_the_race_without_the_certificate_wins_nothing),
        cmocka_unit_test(the_last_flight_is_no_amplifier),
        cmocka_unit_test(little_stays),
    };
    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
