/* Legs with keys: what an attacker gets out of them, alone, behind the same NAT, or with forged addresses;
 * and who is heard before everything is known. */
#include "tests/unit/secure_world.h"

static const char *const elsewhere[] = {"203.0.113.2:40002", "203.0.113.66:9", "192.168.0.2:4000"};

/* Garbage, plain RTP and RTP with other keys, from the phone's own address and others; RTP and RTCP. */
static void test_what_keys_do_not_prove_teaches_nothing(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_apply(w, 0);
    sworld_apply(w, 1);
    phone_talks(w, 0);
    int64_t alive = w->relay->alive_ms;
    struct kg_srtp *other = kg_srtp_new();
    struct kg_srtp_keys keys = some_keys(77, KG_SRTP_AEAD_AES_256_GCM);
    kg_srtp_set_send(other, &keys, w->now);
    unsigned sent = 0;
    for (unsigned n = 0; n < 200; n++) {
        _Alignas(8) uint8_t data[1600];
        struct kg_addr from = n % 4 == 3 ? w->phone[1].rtp : at(elsewhere[n % 4]);
        size_t len = rtp_of(&w->phone[1], data);
        if (n % 3 == 0)
            len = 12 + n % 40;
        if (n % 3 == 1)
            kg_srtp_protect(other, data, &len, sizeof data);
        if (n % 5 == 0)
            data[1] = 200;
        w->now += 20;
        assert_false(to_relay(w, 1, n % 5 == 0 && n % 2, &from, data, len));
        sent++;
    }
    assert_nothing_learnt(w, 1);
    assert_int_equal(leg_of(w, 1)->rtcp.latch.proof, KG_PROOF_NONE);
    assert_int_equal(leg_of(w, 1)->dropped, sent);
    assert_int_equal(w->relay->alive_ms, alive);
    assert_int_equal(w->phone[0].heard + w->phone[0].heard_rtcp + w->stray, 0);
    struct kg_media_stats stats;
    kg_leg_stats(leg_of(w, 1), w->now, &stats);
    assert_in_range(stats.srtp_bad, 150, 200);
    w->phone[1].sequence = 0; /* the phone itself is heard at once */
    assert_true(phone_talks(w, 1));
    assert_int_equal(w->phone[0].heard, 1);
    kg_srtp_free(other);
    sworld_free(w);
}

/* A stranger who records the phone's packets and says them again moves nothing, however fast he is. */
static void test_replayed_packets_move_nothing(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    _Alignas(8) uint8_t data[1600];
    struct sphone *b = &w->phone[1];
    struct kg_addr thief = at("203.0.113.66:9");
    for (unsigned i = 0; i < 20; i++) {
        size_t len = seal(b, false, false, data, rtp_of(b, data));
        assert_true(to_relay(w, 1, false, &b->rtp, data, len));
        assert_false(to_relay(w, 1, false, &thief, data, len));
        assert_false(to_relay(w, 1, false, &b->rtp, data, len));
        assert_true(kg_addr_equal(&leg_of(w, 1)->rtp.latch.remote, &b->rtp));
    }
    struct kg_media_stats stats;
    kg_leg_stats(leg_of(w, 1), w->now, &stats);
    assert_int_equal(stats.srtp_replayed, 40);
    assert_true(phone_talks(w, 0));
    assert_int_equal(w->stray, 0);
    sworld_free(w);
}

/* Somebody else's ClientHello, with the certificate of phone 1. */
static size_t make_hello(struct sworld *w, uint8_t hello[static KG_DTLS_DATAGRAM_MAX])
{
    struct kg_dtls *attacker = kg_dtls_new(&(struct kg_dtls_settings){
        .identity = w->phone[1].identity, .active = true, .secret = sworld_secret});
    size_t len;
    kg_dtls_start(attacker, w->now);
    assert_true(kg_dtls_poll(attacker, w->now, hello, &len));
    kg_dtls_free(attacker);
    return len;
}

/* CVE-2023-49786: a ClientHello from another address than signalling names. */
static void test_hello_from_elsewhere_is_ignored(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    sworld_apply(w, 0);
    sworld_apply(w, 1);
    uint8_t hello[KG_DTLS_DATAGRAM_MAX];
    size_t len = make_hello(w, hello);
    for (unsigned i = 0; i < 50; i++) {
        struct kg_addr from = at(i % 2 ? "203.0.113.66:40000" : "192.168.0.2:4001");
        to_relay(w, 1, i % 4 == 3, &from, hello, len);
    }
    assert_int_equal(w->stray, 0);
    assert_int_equal(leg_of(w, 1)->dropped, 50);
    assert_null(leg_of(w, 1)->secure->dtls->by_component[0].dtls);
    assert_int_equal(w->relay->handshakes, 0);
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

/* Forged sources at the phone's host cost no more than a cookie each. */
static void test_many_hellos_cost_nothing_but_cookies(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    sworld_apply(w, 0);
    sworld_apply(w, 1);
    uint8_t hello[KG_DTLS_DATAGRAM_MAX];
    size_t len = make_hello(w, hello);
    for (unsigned i = 0; i < 5000; i++) {
        struct kg_addr from = w->phone[1].rtp;
        kg_addr_set_port(&from, (uint16_t)(1024 + i));
        to_relay(w, 1, false, &from, hello, len);
    }
    assert_int_equal(w->stray, 5000); /* one answer each, shorter than the question */
    assert_int_equal(w->relay->handshakes, 0);
    assert_int_equal(leg_of(w, 1)->secure->dtls->by_component[0].tries, 0);
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

/* Somebody behind the same NAT: shakes hands as far as `steps` datagrams of his go. */
static void neighbour(struct sworld *w, struct kg_dtls_identity *identity, unsigned port, unsigned steps)
{
    struct kg_addr from = w->phone[1].rtp, real = w->phone[1].rtp;
    kg_addr_set_port(&from, (uint16_t)port);
    struct kg_dtls *before = w->phone[1].dtls[0];
    struct kg_dtls *dtls = kg_dtls_new(
        &(struct kg_dtls_settings){.identity = identity, .active = true, .secret = sworld_secret});
    kg_dtls_start(dtls, w->now);
    w->phone[1].rtp = from; /* what is sent there reaches him */
    w->phone[1].dtls[0] = dtls;
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    while (steps > 0 && kg_dtls_poll(dtls, w->now, data, &len)) {
        to_relay(w, 1, false, &from, data, len);
        steps--;
    }
    w->phone[1].rtp = real;
    w->phone[1].dtls[0] = before;
    kg_dtls_free(dtls);
}

static void test_a_neighbour_does_not_keep_the_phone_out(void **state)
{
    (void)state;
    struct kg_dtls_identity *identity = kg_dtls_identity_new();
    for (unsigned steps = 2; steps <= 10; steps += 4) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
        w->phone[1].mux = true;
        sworld_apply(w, 0);
        sworld_apply(w, 1);
        const struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
        for (unsigned i = 0; i < KG_DTLS_TRIES / 2; i++) {
            neighbour(w, identity, 50000 + i, steps);
            w->now += KG_DTLS_STALL_MS;
        }
        assert_in_range(a->tries, 1, KG_DTLS_TRIES / 2);
        assert_false(kg_srtp_can_send(leg_of(w, 1)->secure->keyed[0]));
        assert_int_equal(leg_of(w, 1)->rtp.latch.proof, KG_PROOF_NONE);
        phone_dtls(w, 1);
        shake_hands(w);
        assert_true(a->installed && a->untold && a->secured);
        assert_true(phone_talks(w, 1) && phone_talks(w, 0));
        sworld_free(w);
    }
    kg_dtls_identity_unref(identity);
}

/* Phone 1 speaks DTLS-SRTP over one port, phone 0 in the clear; nothing was sent yet. */
static struct sworld *dtls_call(void)
{
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    w->phone[1].mux = true;
    sworld_apply(w, 0);
    sworld_apply(w, 1);
    return w;
}

/* With many ports, and faster as often as he likes: what he uses up comes back, and the call goes on. */
static void test_a_neighbour_uses_nothing_up_for_the_phone(void **state)
{
    (void)state;
    struct kg_dtls_identity *identity = kg_dtls_identity_new();
    struct sworld *w = dtls_call();
    const struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
    for (unsigned i = 0; i < 3 * KG_DTLS_TRIES; i++)
        neighbour(w, identity, 50000 + i, 10);
    assert_int_equal(a->tries, KG_DTLS_TRIES);
    assert_int_equal(w->relay->handshakes > 0, true);
    w->now += KG_DTLS_PATIENCE_MS;
    sworld_drain(w);
    assert_false(a->untold); /* it would end the call */
    assert_true(kg_secure_next_ms(w->relay) > w->now);
    neighbour(w, identity, 50000, 10); /* and a port of his that failed is not heard again soon */
    neighbour(w, identity, 50001, 10);
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(a->installed && a->untold && a->secured);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
    kg_dtls_identity_unref(identity);
}

/* With one port, and a handshake that he begins and talks on in without end. */
static void test_a_neighbour_does_not_hold_the_place(void **state)
{
    (void)state;
    static const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 90};
    struct kg_dtls_identity *identity = kg_dtls_identity_new();
    struct sworld *w = dtls_call();
    const struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
    struct kg_addr from = w->phone[1].rtp;
    kg_addr_set_port(&from, 50000);
    neighbour(w, identity, 50000, 2);
    int64_t began = w->now;
    phone_dtls(w, 1);
    shake_hands(w);
    assert_false(a->installed);
    for (; w->now < began + KG_DTLS_HOLD_MS; w->now += KG_DTLS_STALL_MS / 4) {
        to_relay(w, 1, false, &from, alert, sizeof alert);
        sworld_drain(w);
    }
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(a->installed && a->secured);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
    kg_dtls_identity_unref(identity);
}

/* Nobody else but he comes: the call is told, but not before the phone had time. */
static void test_a_phone_that_is_kept_out_is_told_of(void **state)
{
    (void)state;
    struct kg_dtls_identity *identity = kg_dtls_identity_new();
    struct sworld *w = dtls_call();
    const struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
    int64_t began = w->now;
    for (unsigned i = 0; !a->untold && i < 100; i++) {
        neighbour(w, identity, 50000 + i, 10);
        w->now += KG_DTLS_STALL_MS / 2;
        sworld_drain(w);
    }
    assert_true(a->untold && !a->secured);
    assert_in_range(w->now - began, KG_DTLS_CONTEST_MS, KG_DTLS_CONTEST_MS + KG_DTLS_STALL_MS);
    sworld_free(w);
    kg_dtls_identity_unref(identity);
}

/* Nor does he take a handshake over that gets on, or one that waits for signalling to name the certificate.
 */
static void test_a_neighbour_does_not_take_over(void **state)
{
    (void)state;
    struct kg_dtls_identity *identity = kg_dtls_identity_new();
    for (unsigned n = 0; n < 2; n++) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
        w->phone[1].mux = true;
        struct kg_media_secure unnamed = secure_of(w, 1);
        unnamed.fingerprint_count = 0;
        sworld_apply(w, 0);
        sworld_tell(w, 1, &unnamed, false);
        const struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
        phone_dtls(w, 1);
        if (n == 1)
            shake_hands(w);
        uint8_t data[KG_DTLS_DATAGRAM_MAX];
        size_t len;
        for (unsigned i = 0; n == 0 && i < 2 && kg_dtls_poll(w->phone[1].dtls[0], w->now, data, &len); i++)
            to_relay(w, 1, false, &w->phone[1].rtp, data, len);
        assert_int_equal(kg_dtls_state(a->dtls), n ? KG_DTLS_UNVERIFIED : KG_DTLS_HANDSHAKE);
        w->now += n ? 10 * KG_DTLS_STALL_MS : KG_DTLS_STALL_MS / 2;
        for (unsigned i = 0; i < 5; i++)
            neighbour(w, identity, 50000 + i, 10);
        shake_hands(w);
        sworld_apply(w, 1);
        assert_true(a->installed && a->tries == 1);
        assert_true(phone_talks(w, 1) && phone_talks(w, 0));
        sworld_free(w);
    }
    kg_dtls_identity_unref(identity);
}

/* A message that does not fit, from somebody who forges the phone's address, breaks the handshake. The phone
 * may come again, from the same place. */
static void test_a_forged_message_does_not_bar_the_phone(void **state)
{
    (void)state;
    static const uint8_t forged[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 12, /* record */
                                     14, 0,    0,    0, 0, 2, 0, 0, 0, 0, 0, 0};    /* ServerHelloDone */
    struct sworld *w = dtls_call();
    struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
    for (unsigned n = 0; n < 3; n++) {
        uint8_t data[KG_DTLS_DATAGRAM_MAX];
        size_t len;
        phone_dtls(w, 1);
        for (unsigned i = 0; i < 2 && kg_dtls_poll(w->phone[1].dtls[0], w->now, data, &len); i++)
            to_relay(w, 1, false, &w->phone[1].rtp, data, len);
        assert_int_equal(kg_dtls_state(a->dtls), KG_DTLS_HANDSHAKE);
        to_relay(w, 1, false, &w->phone[1].rtp, forged, sizeof forged);
        assert_null(a->dtls);
        assert_false(a->untold);
    }
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(a->installed && a->untold && a->secured);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

/* The phone itself shows another certificate than its SDP says: no keys, and the call is told why. */
static void test_wrong_fingerprint(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 2; n++) {
        unsigned side = n;
        struct sworld *w =
            sworld_new(n ? KG_SECURE_PLAIN : KG_SECURE_DTLS, n ? KG_SECURE_DTLS : KG_SECURE_PLAIN);
        struct kg_media_secure secure = secure_of(w, side);
        secure.fingerprint[0].bytes[31] ^= 1;
        sworld_apply(w, 1 - side);
        sworld_tell(w, side, &secure, false);
        phone_dtls(w, side);
        shake_hands(w);
        struct kg_association *a = &leg_of(w, side)->secure->dtls->by_component[0];
        assert_false(a->installed || kg_srtp_can_send(leg_of(w, side)->secure->keyed[0]) ||
                     kg_srtp_can_receive(leg_of(w, side)->secure->keyed[0]));
        if (side == 1) { /* it may have been a neighbour of B's: said when B has not come */
            assert_false(a->untold);
            assert_true(kg_secure_next_ms(w->relay) <= w->now + KG_DTLS_PATIENCE_MS);
            w->now += KG_DTLS_PATIENCE_MS;
            sworld_drain(w);
        }
        assert_true(a->untold && !a->secured && w->relay->untold);
        assert_non_null(strstr(a->reason, "fingerprint"));
        assert_true(kg_secure_next_ms(w->relay) > w->now);
        unsigned heard = w->phone[1 - side].heard;
        phone_talks(w, 1 - side);
        assert_int_equal(w->phone[side].heard + w->phone[side].garbled, 0);
        assert_int_equal(w->phone[1 - side].heard, heard);
        assert_int_equal(leg_of(w, side)->secure->unsent,
                         side == 0); /* of B it is not even known where it is */
        sworld_free(w);
    }
}

/* The handshake overtakes the answer: no keys before signalling has named the certificate. */
static void test_fingerprint_comes_after_the_handshake(void **state)
{
    (void)state;
    for (unsigned right = 0; right < 2; right++) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
        struct kg_media_secure secure = secure_of(w, 1);
        secure.fingerprint_count = 0;
        secure.setup = KG_SETUP_ACTPASS;
        sworld_apply(w, 0);
        sworld_tell(w, 1, &secure, false);
        phone_dtls(w, 1);
        shake_hands(w);
        struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
        assert_int_equal(kg_dtls_state(a->dtls), KG_DTLS_UNVERIFIED);
        assert_false(phone_talks(w, 1));
        assert_nothing_learnt(w, 1);
        secure = secure_of(w, 1);
        secure.fingerprint[0].bytes[0] ^= !right;
        sworld_tell(w, 1, &secure, false);
        assert_int_equal(a->installed, right);
        assert_int_equal(phone_talks(w, 1), right);
        sworld_free(w);
    }
}

/* The phone's ClientHello is faster than its answer; a stranger's is the latest of all, and changes nothing.
 */
static void test_hello_before_the_answer(void **state)
{
    (void)state;
    for (unsigned stranger = 0; stranger < 2; stranger++) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
        sworld_apply(w, 0);
        phone_dtls(w, 1);
        shake_hands(w);
        assert_int_equal(kg_dtls_state(w->phone[1].dtls[0]), KG_DTLS_HANDSHAKE);
        assert_non_null(leg_of(w, 1)->secure->early);
        struct kg_addr from = at("203.0.113.66:9");
        uint8_t hello[KG_DTLS_DATAGRAM_MAX] = {22, 0xfe, 0xfd};
        if (stranger)
            to_relay(w, 1, false, &from, hello, 900);
        sworld_apply(w, 1);
        assert_null(leg_of(w, 1)->secure->early);
        shake_hands(w);
        assert_int_equal(leg_of(w, 1)->secure->dtls->by_component[0].installed, !stranger);
        assert_int_equal(w->stray, 0);
        sworld_free(w);
    }
}

/* Its answer says no word of DTLS. */
static void test_hello_of_a_plain_phone(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    sworld_apply(w, 0);
    phone_dtls(w, 1);
    shake_hands(w);
    w->phone[1].use = KG_SECURE_PLAIN;
    sworld_tell(w, 1, NULL, false);
    assert_null(leg_of(w, 1)->secure->early);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    assert_int_equal(w->phone[1].heard, 1);
    sworld_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_keys_do_not_prove_teaches_nothing),
        cmocka_unit_test(test_replayed_packets_move_nothing),
        cmocka_unit_test(test_hello_from_elsewhere_is_ignored),
        cmocka_unit_test(test_many_hellos_cost_nothing_but_cookies),
        cmocka_unit_test(test_a_neighbour_does_not_keep_the_phone_out),
        cmocka_unit_test(test_a_neighbour_uses_nothing_up_for_the_phone),
        cmocka_unit_test(test_a_neighbour_does_not_hold_the_place),
        cmocka_unit_test(test_a_phone_that_is_kept_out_is_told_of),
        cmocka_unit_test(test_a_neighbour_does_not_take_over),
        cmocka_unit_test(test_a_forged_message_does_not_bar_the_phone),
        cmocka_unit_test(test_wrong_fingerprint),
        cmocka_unit_test(test_fingerprint_comes_after_the_handshake),
        cmocka_unit_test(test_hello_before_the_answer),
        cmocka_unit_test(test_hello_of_a_plain_phone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
