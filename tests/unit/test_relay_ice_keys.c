/* Keys on legs that do ICE: DTLS begins where ICE has proven the way, and only ICE moves it. */
#include "tests/unit/relay_world.h"

struct keys {
    struct kg_dtls_identity *phone;
    struct kg_media_secure secure, clear;
};

static void keys_free(struct keys *k)
{
    kg_dtls_identity_unref(k->phone);
}

/* Phone A does ICE and DTLS, as a browser; B is plain and latched. */
static struct world *browser(struct keys *k, bool active, bool answered)
{
    struct world *w = world_new();
    assert_int_equal(kg_srtp_init(), 0);
    *k = (struct keys){.phone = kg_dtls_identity_new(), .clear = {.use = KG_SECURE_PLAIN}};
    w->identity = kg_dtls_identity_new();
    k->secure = (struct kg_media_secure){.use = KG_SECURE_DTLS,
                                         .feedback = true,
                                         .setup = active ? KG_SETUP_PASSIVE : KG_SETUP_ACTIVE,
                                         .fingerprint_count = 1,
                                         .fingerprint = {*kg_dtls_identity_fingerprint(k->phone)},
                                         .ours = *kg_dtls_identity_fingerprint(w->identity)};
    struct vphone *p = &w->phone[0];
    p->secure = &k->secure;
    w->phone[1].secure = &k->clear;
    p->srtp = kg_srtp_new();
    p->dtls = kg_dtls_new(
        &(struct kg_dtls_settings){.identity = k->phone, .active = active, .secret = w->limits.dtls_secret});
    kg_dtls_expect(p->dtls, kg_dtls_identity_fingerprint(w->identity), 1);
    world_local(w, 0, "kedgeA", !answered);
    phone_ice(w, 0, answered, true, "alice");
    if (answered)
        world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    else
        world_apply(w, -1, KG_ICE_UNUSED, false);
    phone_hears(w, 0, false);
    p->talking = w->phone[1].talking = true;
    return w;
}

static const struct kg_association *association(struct world *w)
{
    return &w->relay->stream[0]->leg[0].secure->dtls->by_component[0];
}

static void assert_talk(struct world *w, unsigned packets)
{
    unsigned before[2] = {w->phone[0].heard, w->phone[1].heard};
    world_run(w, 20 * (int64_t)packets);
    assert_true(w->phone[0].heard >= before[0] + packets - 1);
    assert_true(w->phone[1].heard >= before[1] + packets - 1);
}

static void test_dtls_follows_ice_in_both_roles(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 4; n++) {
        struct keys k;
        struct world *w = browser(&k, n % 2, n < 2);
        if (n >= 2) { /* its checks, and perhaps its handshake, come before its answer */
            world_run(w, 200);
            world_apply(w, KG_ICE_AGENT, -1, true);
        }
        int64_t began = w->now;
        world_until(w, 1000, kg_srtp_can_send(w->phone[0].srtp));
        assert_true(w->now - began <= 300); /* no message was lost and sent again */
        assert_true(association(w)->installed && association(w)->secured);
        world_run(w, 100);
        assert_talk(w, 50);
        assert_int_equal(w->phone[0].garbled, 0);
        assert_int_equal(w->relay->stream[0]->leg[0].rtp.latch.proof, KG_PROOF_ICE);
        world_free(w);
        keys_free(&k);
    }
}

/* The right hello, from a place that ICE has not proven: kept at most, answered never. */
static void test_hello_from_an_unproven_place(void **state)
{
    (void)state;
    struct keys k;
    struct world *w = browser(&k, true, true);
    struct kg_dtls *thief = kg_dtls_new(
        &(struct kg_dtls_settings){.identity = k.phone, .active = true, .secret = w->limits.dtls_secret});
    struct kg_addr from = at("203.0.113.66:4000");
    uint8_t hello[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    kg_dtls_start(thief, w->now);
    assert_true(kg_dtls_poll(thief, w->now, hello, &len));
    for (unsigned i = 0; i < 20; i++)
        deliver(w, &from, &w->bound[0][0], hello, len);
    world_drain(w);
    assert_int_equal(w->stray, 0);
    assert_null(association(w)->dtls);
    world_until(w, 1000, kg_srtp_can_send(w->phone[0].srtp));
    deliver(w, &from, &w->bound[0][0], hello, len);
    world_run(w, 100);
    assert_talk(w, 20);
    assert_int_equal(w->stray, 0);
    kg_dtls_free(thief);
    world_free(w);
    keys_free(&k);
}

/* The phone's hello is faster than the check of ours that proves its place: nobody has to say it again. */
static void test_hello_before_our_check(void **state)
{
    (void)state;
    struct keys k;
    struct world *w = browser(&k, true, true);
    uint8_t hello[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    kg_dtls_start(w->phone[0].dtls, w->now);
    assert_true(kg_dtls_poll(w->phone[0].dtls, w->now, hello, &len));
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], hello, len);
    assert_null(association(w)->dtls);
    world_until(w, 1000, kg_srtp_can_send(w->phone[0].srtp));
    assert_talk(w, 20);
    world_free(w);
    keys_free(&k);
}

/* RFC 8842 4: an ICE restart is no new association. */
static void test_ice_restart_keeps_the_keys(void **state)
{
    (void)state;
    struct keys k;
    struct world *w = browser(&k, true, true);
    world_until(w, 1000, kg_srtp_can_send(w->phone[0].srtp));
    world_run(w, 500);
    const struct kg_dtls *dtls = association(w)->dtls;
    world_local(w, 0, "kedgeA2", false);
    phone_credentials(&w->phone[0], "alice2");
    assert_int_equal(kg_ice_restart(w->phone[0].agent, w->phone[0].ufrag, w->phone[0].pwd, w->now), 0);
    world_apply(w, KG_ICE_AGENT, -1, true);
    phone_hears(w, 0, false);
    assert_talk(w, 100);
    assert_int_equal(kg_ice_state(w->phone[0].agent), KG_ICE_COMPLETED);
    assert_ptr_equal(association(w)->dtls, dtls);
    assert_int_equal(w->phone[0].garbled, 0);
    world_free(w);
    keys_free(&k);
}

/* Another port of its NAT: ICE's check proves it, as without keys. A packet with the right keys does not. */
static void test_only_ice_moves_the_leg(void **state)
{
    (void)state;
    struct keys k;
    struct world *w = browser(&k, true, true);
    world_until(w, 1000, kg_srtp_can_send(w->phone[0].srtp));
    world_run(w, 500);
    struct kg_addr before = w->phone[0].public[0], from = at("203.0.113.66:4000");
    _Alignas(8) uint8_t packet[172 + KG_SRTP_GROWTH];
    size_t len = rtp_packet(packet, 8, w->phone[0].sequence++, w->phone[0].ssrc);
    assert_int_equal(kg_srtp_protect(w->phone[0].srtp, packet, &len, sizeof packet), KG_SRTP_OK);
    deliver(w, &from, &w->bound[0][0], packet, len);
    world_run(w, 100);
    assert_true(kg_addr_equal(&w->relay->stream[0]->leg[0].rtp.latch.remote, &before));
    assert_int_equal(w->stray, 0);
    w->phone[0].public[0] = at("198.51.100.9:61234");
    world_until(w, 2000,
                kg_addr_equal(&w->relay->stream[0]->leg[0].rtp.latch.remote, &w->phone[0].public[0]));
    world_run(w, 200);
    assert_talk(w, 20);
    world_free(w);
    keys_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtls_follows_ice_in_both_roles),
        cmocka_unit_test(test_hello_from_an_unproven_place),
        cmocka_unit_test(test_hello_before_our_check),
        cmocka_unit_test(test_ice_restart_keeps_the_keys),
        cmocka_unit_test(test_only_ice_moves_the_leg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
