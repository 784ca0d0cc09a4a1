/* DTLS associations (media/dtls.h) with each other and with plain OpenSSL, over a network in virtual time
 * that loses, doubles, delays, cuts and flips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/srtp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "media/dtls.h"
#include "media/dtls_hello.h"

/* The clock of OpenSSL's retransmissions is ours: libssl finds this function before libc's. */
static int64_t clock_ms = 1000000;
__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = clock_ms / 1000;
    now->tv_usec = clock_ms % 1000 * 1000;
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
/* A packet with this number is changed by `harm`. */
static unsigned sent, harm_number;
static void (*harm)(struct packet *packet);

static void fair_weather(void)
{
    memset(&weather, 0, sizeof weather);
    flying_count = 0;
    sent = 0;
    harm = NULL;
}

static void fly(int to, const uint8_t *data, size_t len, int64_t delay_ms)
{
    if (flying_count == FLYING_MAX)
        return;
    struct packet *packet = &flying[flying_count++];
    packet->to = to;
    packet->at_ms = clock_ms + delay_ms;
    packet->len = len;
    memcpy(packet->data, data, len);
}

static void post(int to, const uint8_t *data, size_t len)
{
    unsigned copies = chance(100) < weather.twice ? 2 : 1;

    assert_true(len <= 1200);
    while (copies-- > 0) {
        int64_t delay_ms = 10 + (chance(100) < weather.late ? chance(400) : chance(3));
        if (chance(100) < weather.lose)
            continue;
        fly(to, data, len, delay_ms);
        if (harm && sent == harm_number)
            harm(&flying[flying_count - 1]);
        sent++;
    }
}

/* One end: an association of kedge's. */
static const char *const name[2] = {"192.0.2.1:4000", "192.0.2.2:5000"};
static struct kg_dtls *end[2];

static void collect(int i)
{
    uint8_t out[KG_DTLS_DATAGRAM_MAX];
    size_t len;

    while (kg_dtls_poll(end[i], clock_ms, out, &len))
        post(!i, out, len);
}

static struct kg_dtls *make(int i, bool active)
{
    struct kg_dtls_settings settings = {.identity = identity[i], .active = active, .secret = secret};
    struct kg_dtls *dtls = kg_dtls_new(&settings);
    assert_non_null(dtls);
    return dtls;
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

static void free_ends(void)
{
    kg_dtls_free(end[0]);
    kg_dtls_free(end[1]);
}

static size_t earliest(void)
{
    size_t best = 0;
    for (size_t i = 1; i < flying_count; i++)
        if (flying[i].at_ms < flying[best].at_ms)
            best = i;
    return best;
}

/* Until nothing flies and nobody waits, or for a minute. */
static void run(void)
{
    int64_t until_ms = clock_ms + 60000;

    kg_dtls_start(end[0], clock_ms);
    kg_dtls_start(end[1], clock_ms);
    collect(0);
    collect(1);
    while (clock_ms < until_ms) {
        int64_t next_ms = until_ms;
        for (int i = 0; i < 2; i++)
            if (kg_dtls_next_ms(end[i]) < next_ms)
                next_ms = kg_dtls_next_ms(end[i]);
        size_t which = earliest();
        if (flying_count > 0 && flying[which].at_ms <= next_ms) {
            struct packet packet = flying[which];
            flying[which] = flying[--flying_count];
            clock_ms = packet.at_ms > clock_ms ? packet.at_ms : clock_ms;
            kg_dtls_receive(end[packet.to], packet.data, packet.len, name[!packet.to],
                            strlen(name[!packet.to]), clock_ms);
        } else if (next_ms == until_ms) {
            return;
        } else {
            clock_ms = next_ms > clock_ms ? next_ms : clock_ms;
        }
        collect(0);
        collect(1);
    }
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
    assert_non_null(strstr(kg_dtls_reason(dtls), reason));
    assert_false(kg_dtls_keys(dtls, &send, &receive));
    assert_int_equal(send.suite, KG_SRTP_NONE);
    assert_int_equal(receive.suite, KG_SRTP_NONE);
}

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
    free_ends();
}

static void agrees_in_any_weather(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 1000; seed++) {
        fair_weather();
        random_state = seed;
        weather.lose = chance(30);
        weather.twice = chance(40);
        weather.late = chance(60);
        make_ends();
        expect_each_other();
        run();
        if (kg_dtls_state(end[0]) != KG_DTLS_ESTABLISHED || kg_dtls_state(end[1]) != KG_DTLS_ESTABLISHED)
            print_message("seed %u: lose %u twice %u late %u: %d %s, %d %s\n", seed, weather.lose,
                          weather.twice, weather.late, kg_dtls_state(end[0]), kg_dtls_reason(end[0]),
                          kg_dtls_state(end[1]), kg_dtls_reason(end[1]));
        assert_keys_fit();
        free_ends();
    }
}

static void wrong_certificate_makes_no_keys(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        fair_weather();
        make_ends();
        expect_each_other();
        kg_dtls_expect(end[who], kg_dtls_identity_fingerprint(identity[who]),
                       1); /* its own is the wrong one */
        run();
        assert_no_keys(end[who], "fingerprint");
        free_ends();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_keys),
        cmocka_unit_test(agrees_in_any_weather),
        cmocka_unit_test(wrong_certificate_makes_no_keys),
    };
    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
