/* The guard in virtual time: who gets how much, who is banned, and what a full table does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/guard/guard.h"
#include "b2bua/guard/scanners.h"
#include "b2bua/guard/siphash.h"

static const uint8_t key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const char request[400] = "REGISTER sip:kedge.test SIP/2.0\r\n";
static struct kg_config config;
static int64_t now;
static unsigned made, lifted;
static struct kg_guard_ban last;

static void watch(void *ctx, const struct kg_guard_ban *ban, bool is_lifted)
{
    (void)ctx;
    if (is_lifted)
        lifted++;
    else
        made++;
    last = *ban;
}

static int setup(void **state)
{
    kg_config_defaults(&config);
    now = 1000000;
    made = lifted = 0;
    struct kg_guard *guard = kg_guard_new(key, &config);
    kg_guard_watch(guard, watch, NULL);
    *state = guard;
    return 0;
}

static int teardown(void **state)
{
    kg_guard_free(*state);
    return 0;
}

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static unsigned received(struct kg_guard *guard, const struct kg_addr *from, unsigned count)
{
    unsigned in = 0;
    for (unsigned i = 0; i < count; i++)
        in += kg_guard_receive(guard, from, request, sizeof request, now);
    return in;
}

static unsigned passed(struct kg_guard *guard, const struct kg_addr *from, bool stream, unsigned count)
{
    unsigned in = 0;
    for (unsigned i = 0; i < count; i++)
        in += kg_guard_request(guard, from, stream, "Yealink", NULL, now) == KG_GUARD_PASS;
    return in;
}

/* What the screen does with a challenge of ours and the answer to it. */
static void prove(struct kg_guard *guard, const struct kg_addr *who, const char *nonce)
{
    char text[300];
    snprintf(
        text, sizeof text,
        "SIP/2.0 401 Unauthorized\r\nVia: x\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: Digest realm=\"r\", "
        "nonce=\"%s\"\r\n\r\n",
        nonce);
    kg_guard_receive(guard, who, request, sizeof request, now);
    assert_true(kg_guard_send(guard, who, text, strlen(text), strlen(text), now));
    kg_guard_echoed(guard, who, nonce, now);
}

static void siphash_vectors(void **state)
{
    (void)state;
    uint8_t data[15];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    /* From the paper's appendix, and of the empty text. */
    assert_true(kg_siphash(key, data, 15) == 0xa129ca6149be45e5);
    assert_true(kg_siphash(key, data, 0) == 0x726fdb47dd0e0e31);
}

static void scanners_by_name(void **state)
{
    (void)state;
    assert_true(kg_scanner_matches("friendly-scanner"));
    assert_true(kg_scanner_matches("SIPVicious v0.3"));
    assert_true(kg_scanner_matches("x VaxSIPUserAgent/3.5"));
    assert_false(kg_scanner_matches("Yealink SIP-T46U 108.86.0.20"));
    assert_false(kg_scanner_matches("baresip v1.0.0"));
    assert_false(kg_scanner_matches("friendly-scanne"));
    assert_false(kg_scanner_matches(""));
    assert_false(kg_scanner_matches(NULL));
}

static void strangers_get_little(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060"), port = at("192.0.2.1:9999"), two = at("192.0.2.2:5060");
    assert_int_equal(received(guard, &one, 100), 20); /* two seconds' worth */
    assert_int_equal(received(guard, &port, 10), 0);  /* another port is the same source */
    assert_int_equal(received(guard, &two, 10), 10);
    now += 10000;
    assert_int_equal(received(guard, &one, 100), 20);
    unsigned in = 0;
    for (unsigned i = 0; i < 1000; i++, now += 10)
        in += received(guard, &one, 1);
    assert_in_range(in, 95, 101); /* 10 a second */
}

static void answers_and_acks_always_pass(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060");
    received(guard, &one, 100);
    assert_true(kg_guard_receive(guard, &one, "SIP/2.0 200 OK\r\n", 16, now));
    assert_true(kg_guard_receive(guard, &one, "ACK sip:x SIP/2.0\r\n", 19, now));
    assert_false(kg_guard_receive(guard, &one, "BYE sip:x SIP/2.0\r\n", 19, now));
    assert_false(kg_guard_receive(guard, &one, "\r", 1, now));
}

static void ipv6_counts_by_64(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr a = at("[2001:db8:1:2::1]:5060"), b = at("[2001:db8:1:2:ffff::9]:5060"),
                   c = at("[2001:db8:1:3::1]:5060");
    assert_int_equal(received(guard, &a, 20), 20);
    assert_int_equal(received(guard, &b, 5), 0);
    assert_int_equal(received(guard, &c, 5), 5);
}

static void all_strangers_together_are_bounded(void **state)
{
    struct kg_guard *guard = *state;
    unsigned in = 0;
    for (uint32_t i = 0; i < 50000; i++) { /* ten seconds of 5,000 a second, each from somewhere else */
        struct kg_addr from = at("10.0.0.1:5060");
        from.in4.sin_addr.s_addr = htonl(0x0a000000u + i * 7);
        in += received(guard, &from, 1);
        now += i % 5 == 0;
    }
    assert_in_range(in, 20000, 22001);
    assert_true(kg_guard_counts(guard)->strangers > 27000);
}

static void trusted_ones_are_never_limited(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr loop = at("127.0.0.1:5060"), pbx = at("192.0.2.10:5060");
    kg_guard_trust(guard, &pbx, true, now);
    const struct kg_addr *both[] = {&loop, &pbx};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(received(guard, both[i], 5000), 5000);
        assert_int_equal(passed(guard, both[i], false, 5000), 5000);
        for (int k = 0; k < 50; k++)
            kg_guard_fault(guard, both[i], "", KG_FAULT_PASSWORD, now);
        assert_int_equal(kg_guard_request(guard, both[i], false, "sipvicious", NULL, now), KG_GUARD_PASS);
    }
    assert_int_equal(made, 0);
    kg_guard_trust(guard, &pbx, false, now);
    assert_int_equal(received(guard, &pbx, 100), 20);
}

/* Calls come in from a whole network of a provider's. */
static void networks_of_trunks_are_trusted(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr inside = at("198.51.100.77:5060"), outside = at("198.51.101.77:5060");
    config.trunk_count = 1;
    config.trunk[0].match_count = 1;
    assert_int_equal(kg_net_parse("198.51.100.0/24", &config.trunk[0].match[0]), 0);
    kg_guard_configure(guard, &config);
    assert_int_equal(received(guard, &inside, 1000), 1000);
    assert_int_equal(received(guard, &outside, 1000), 20);
}

static void an_echoed_nonce_proves(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060"), two = at("192.0.2.2:5060");
    prove(guard, &one, "secret");
    assert_int_equal(received(guard, &one, 500), 500);
    assert_int_equal(passed(guard, &one, false, 2000), 1000); /* five seconds of guard.requests */
    assert_true(kg_guard_counts(guard)->busy >= 1000);
    /* Somebody else's nonce, or one that a stranger made us repeat in another header, proves nothing. */
    kg_guard_echoed(guard, &two, "secret", now);
    static const char copied[] =
        "SIP/2.0 401 U\r\nFrom: \"nonce=\"mine\"\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: "
        "Digest nonce=\"ours\"\r\n\r\n";
    kg_guard_receive(guard, &two, request, sizeof request, now);
    assert_true(kg_guard_send(guard, &two, copied, sizeof copied - 1, sizeof copied - 1, now));
    kg_guard_echoed(guard, &two, "mine", now);
    assert_int_equal(received(guard, &two, 100), 19);
    now += 3600001;
    assert_int_equal(received(guard, &one, 100), 20); /* a proof grows old */
}

static void strangers_get_no_more_bytes_than_they_sent(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060");
    char text[2000] = "SIP/2.0 401 Unauthorized\r\nCSeq: 1 REGISTER\r\n\r\n";
    size_t in = 0, out = 0;
    srand(1);
    for (int i = 0; i < 2000; i++, now += 100) {
        size_t len = 60 + (size_t)rand() % 340, answer = 100 + (size_t)rand() % 1500;
        if (kg_guard_receive(guard, &one, request, len, now))
            in += len + 28;
        for (int k = 0; k < 3; k++)
            if (kg_guard_send(guard, &one, text, 60, answer, now))
                out += answer + 28;
    }
    assert_true(out * 10 <= in * 13);
    assert_true(out * 10 > in * 11); /* and what is allowed is used */
    /* An accepted INVITE is answered; 100 only where enough is left for its end. */
    assert_true(kg_guard_send(guard, &one, "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n", 32, 9000, now));
    assert_false(kg_guard_send(guard, &one, "SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\n", 33, 9000, now));
    assert_false(kg_guard_send(guard, &one, "SIP/2.0 100 Trying\r\nCSeq: 1 INVITE\r\n", 36, 300, now));
    /* Requests of ours are no answers. */
    assert_true(kg_guard_send(guard, &one, "OPTIONS sip:x SIP/2.0\r\n", 23, 9000, now));
    kg_guard_proved(guard, &one, now);
    assert_true(kg_guard_send(guard, &one, text, 60, 9000, now));
}

static void five_wrong_passwords_ban(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060");
    prove(guard, &one, "n");
    for (int i = 0; i < 4; i++)
        kg_guard_fault(guard, &one, "100", KG_FAULT_PASSWORD, now);
    kg_guard_good(guard, &one, "100", now); /* not in a row */
    for (int i = 0; i < 4; i++)
        kg_guard_fault(guard, &one, "100", KG_FAULT_PASSWORD, now);
    assert_int_equal(made, 0);
    now += 60001; /* not within a minute */
    kg_guard_fault(guard, &one, "100", KG_FAULT_PASSWORD, now);
    assert_int_equal(made, 0);
    for (int i = 0; i < 4; i++)
        kg_guard_fault(guard, &one, "101", KG_FAULT_PASSWORD, now);
    assert_int_equal(made, 1);
    assert_true(last.proven);
    assert_string_equal(last.user, "");
    assert_int_equal(last.until_ms - now, 300000);
    assert_true(kg_guard_is_banned(guard, &one, now));
    assert_int_equal(received(guard, &one, 1000), 0);
    now += 300000;
    assert_false(kg_guard_is_banned(guard, &one, now));
    assert_int_equal(received(guard, &one, 10), 10);
    /* The next one lasts twice as long, and so on, up to a day; after a day of peace it is the first again.
     */
    for (int64_t expected = 600000; expected < 86400000; expected *= 2) {
        for (int i = 0; i < 5; i++)
            kg_guard_fault(guard, &one, "", KG_FAULT_PASSWORD, now);
        assert_int_equal(last.until_ms - now, expected);
        now = last.until_ms;
        kg_guard_proved(guard, &one, now);
    }
    for (int i = 0; i < 5; i++)
        kg_guard_fault(guard, &one, "", KG_FAULT_PASSWORD, now);
    assert_int_equal(last.until_ms - now, 86400000);
    now = last.until_ms + 86400000;
    kg_guard_proved(guard, &one, now);
    for (int i = 0; i < 5; i++)
        kg_guard_fault(guard, &one, "", KG_FAULT_PASSWORD, now);
    assert_int_equal(last.until_ms - now, 300000);
}

/* One wrong phone, or one that guesses, among 200 behind one address. */
static void an_office_is_never_banned(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr office = at("192.0.2.1:5060");
    kg_guard_registered(guard, &office, now + 120000, now);
    for (int i = 0; i < 5; i++)
        kg_guard_fault(guard, &office, "199", KG_FAULT_PASSWORD, now);
    assert_int_equal(made, 1);
    assert_string_equal(last.user, "199");
    assert_false(kg_guard_is_banned(guard, &office, now));
    assert_true(kg_guard_is_blocked(guard, &office, "199", now));
    assert_false(kg_guard_is_blocked(guard, &office, "198", now));
    struct kg_addr other = at("192.0.2.2:5060");
    assert_false(kg_guard_is_blocked(guard, &other, "199", now)); /* its phone at home still works */
    for (int i = 0; i < 100; i++) {
        kg_guard_fault(guard, &office, "", KG_FAULT_MALFORMED, now);
        kg_guard_request(guard, &office, false, "sipvicious", NULL, now);
    }
    assert_int_equal(made, 1);
    assert_int_equal(received(guard, &office, 5000), 5000);
    assert_int_equal(passed(guard, &office, false, 1000), 1000); /* all phones after a power cut */
    assert_int_equal(kg_guard_unban(guard, &office, now), 1);
    assert_false(kg_guard_is_blocked(guard, &office, "199", now));
}

static void power_returns_to_an_office(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr office = at("192.0.2.1:5060");
    unsigned waiting = 200; /* each sends a REGISTER, and again after 0.5, 1, 2, 4 s ... (RFC 3261 timer E) */
    for (int64_t wait = 500; waiting > 0 && now < 1000000 + 4000; wait = wait < 4000 ? wait * 2 : 4000) {
        unsigned in = received(guard, &office, waiting);
        waiting -= in;
        if (in > 0 && waiting > 0)
            kg_guard_proved(guard, &office, now + 30); /* the first ones answered their challenge */
        now += wait;
    }
    assert_int_equal(waiting, 0);
}

/* Nobody gets a phone locked out by writing its address into a datagram. */
static void a_forged_source_is_not_banned_for_good(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr victim = at("192.0.2.1:5060");
    assert_int_equal(kg_guard_request(guard, &victim, false, "friendly-scanner", NULL, now), KG_GUARD_DROP);
    assert_int_equal(made, 1);
    assert_false(last.proven);
    assert_int_equal(received(guard, &victim, 10), 2); /* a little passes ... */
    now += 3000;
    assert_int_equal(received(guard, &victim, 10), 2);
    assert_int_equal(kg_guard_request(guard, &victim, true, "Yealink", NULL, now), KG_GUARD_PASS);
    kg_guard_good(guard, &victim, "100", now); /* ... enough for a phone to show itself */
    assert_int_equal(lifted, 1);
    kg_guard_registered(guard, &victim, now + 60000, now);
    for (int i = 0; i < 100; i++)
        assert_int_equal(kg_guard_request(guard, &victim, false, "friendly-scanner", NULL, now),
                         KG_GUARD_DROP);
    assert_int_equal(made, 1);
    assert_int_equal(received(guard, &victim, 100), 100);
}

/* Who is banned on suspicion and then proves to be where he is, and guesses on, is banned for good. */
static void suspicion_becomes_certainty(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060");
    kg_guard_request(guard, &one, false, "friendly-scanner", NULL, now);
    assert_false(last.proven);
    kg_guard_proved(guard, &one, now);
    for (int i = 0; i < 5; i++)
        kg_guard_fault(guard, &one, "100", KG_FAULT_PASSWORD, now);
    assert_int_equal(made, 2);
    assert_true(last.proven);
    assert_int_equal(received(guard, &one, 100), 0);
}

static void scanners_are_banned_and_can_be_let_in(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr one = at("192.0.2.1:5060"), two = at("192.0.2.2:5060");
    assert_int_equal(kg_guard_request(guard, &one, true, "sipcli/v1.8", NULL, now), KG_GUARD_DROP);
    assert_true(last.proven);
    assert_int_equal(kg_guard_request(guard, &one, true, "Yealink", NULL, now), KG_GUARD_DROP);
    assert_int_equal(kg_guard_request(guard, &two, true, "x", "sipvicious", now), KG_GUARD_DROP);
    config.guard.scanners = false;
    kg_guard_configure(guard, &config);
    struct kg_addr three = at("192.0.2.3:5060");
    assert_int_equal(kg_guard_request(guard, &three, true, "sipcli/v1.8", NULL, now), KG_GUARD_PASS);
    struct kg_guard_ban bans[10];
    assert_int_equal(kg_guard_bans(guard, now, bans, 10), 2);
    assert_int_equal(kg_guard_unban(guard, &one, now), 1);
    assert_int_equal(kg_guard_unban(guard, &one, now), 0);
    assert_int_equal(kg_guard_bans(guard, now, bans, 10), 1);
    assert_int_equal(lifted, 1);
}

static void a_flood_does_not_push_out_phones(void **state)
{
    struct kg_guard *guard = *state;
    enum { PHONES = 2000 };
    struct kg_addr from = at("10.0.0.1:5060");
    for (uint32_t i = 0; i < PHONES; i++) {
        from.in4.sin_addr.s_addr = htonl(0xc6120000u + i);
        kg_guard_registered(guard, &from, now + 3600000, now);
    }
    for (uint32_t i = 0; i < 400000; i++) {
        from.in4.sin_addr.s_addr = htonl(0x0a000000u + i);
        received(guard, &from, 1);
        now += i % 100 == 0;
    }
    for (uint32_t i = 0; i < PHONES; i++) {
        from.in4.sin_addr.s_addr = htonl(0xc6120000u + i);
        assert_int_equal(received(guard, &from, 30), 30);
    }
}

static void bans_are_bounded(void **state)
{
    struct kg_guard *guard = *state;
    struct kg_addr from = at("10.0.0.1:5060");
    static struct kg_guard_ban bans[2 * KG_GUARD_BANS];
    for (uint32_t i = 0; i < 3 * KG_GUARD_BANS; i++) {
        from.in4.sin_addr.s_addr = htonl(0x0a000000u + i);
        kg_guard_request(guard, &from, true, "sipvicious", NULL, now++);
        assert_true(kg_guard_is_banned(guard, &from, now)); /* the newest is in force */
    }
    size_t count = kg_guard_bans(guard, now, bans, 2 * KG_GUARD_BANS);
    assert_in_range(count, KG_GUARD_BANS / 2, KG_GUARD_BANS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_vectors),
        cmocka_unit_test(scanners_by_name),
        cmocka_unit_test_setup_teardown(strangers_get_little, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_and_acks_always_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(ipv6_counts_by_64, setup, teardown),
        cmocka_unit_test_setup_teardown(all_strangers_together_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(trusted_ones_are_never_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(networks_of_trunks_are_trusted, setup, teardown),
        cmocka_unit_test_setup_teardown(an_echoed_nonce_proves, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_get_no_more_bytes_than_they_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(five_wrong_passwords_ban, setup, teardown),
        cmocka_unit_test_setup_teardown(an_office_is_never_banned, setup, teardown),
        cmocka_unit_test_setup_teardown(power_returns_to_an_office, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forged_source_is_not_banned_for_good, setup, teardown),
        cmocka_unit_test_setup_teardown(suspicion_becomes_certainty, setup, teardown),
        cmocka_unit_test_setup_teardown(scanners_are_banned_and_can_be_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_does_not_push_out_phones, setup, teardown),
        cmocka_unit_test_setup_teardown(bans_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
