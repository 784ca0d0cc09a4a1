/* A steered call through a relay, in virtual time: two phones do ICE with each other, and the relay sees by
 * their checks which way they took, who moved and who has left. kg_steer's own rules are tested in
 * test_steer.c. */
#include "tests/unit/relay_world.h"

static struct world *steered(bool blocked, bool mux)
{
    struct world *w = world_new();
    w->blocked = blocked;
    phone_ice(w, 0, true, mux, "alice");
    phone_ice(w, 1, false, mux, "bobby");
    world_apply(w, KG_ICE_STEER, -1, false);
    world_apply(w, -1, KG_ICE_STEER, true);
    phone_hears(w, 0, true);
    phone_hears(w, 1, true);
    w->phone[0].talking = w->phone[1].talking = true;
    return w;
}

static void test_steered_over_the_relay(void **state)
{
    (void)state;
    for (int mux = 0; mux < 2; mux++) {
        struct world *w = steered(true, mux);
        world_until(w, 20000,
                    kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED &&
                        kg_ice_state(w->phone[1].agent) == KG_ICE_COMPLETED);
        world_run(w, 2000);
        assert_int_equal(ice(w)->path, KG_PATH_RELAYED);
        assert_true(w->phone[0].heard > 50 && w->phone[1].heard > 50);
        assert_int_equal(w->phone[0].direct + w->phone[1].direct, 0);
        for (unsigned side = 0; side < 2; side++) {
            struct kg_media_stats s = stats(w, side);
            assert_int_equal(s.proof, KG_PROOF_ICE);
            assert_int_equal(s.ice_use, KG_ICE_STEER);
            assert_true(s.ice_connected_ms >= 0);
            assert_true(kg_addr_equal(&s.remote, &w->phone[side].public[0]));
            /* forwarded checks are no media */
            assert_int_equal(s.packets_out, w->phone[side].heard);
        }
        assert_true(mux ? ice(w)->steer[1] == NULL : world_flow(w, 0, 2)->latch.proof == KG_PROOF_ICE);
        struct kg_media_pair pair[KG_MEDIA_PAIRS_MAX];
        assert_true(kg_relay_ice_pairs(w->relay, pair, KG_MEDIA_PAIRS_MAX) >= 2);
        assert_int_equal(w->stray, 0);
        world_free(w);
    }
}

static void test_steered_and_direct(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_run(w, 300); /* the first checks between the two are lost, so the relay is tried as well */
    w->blocked = false;
    world_until(w, 20000, ice(w)->path == KG_PATH_DIRECT);
    world_run(w, 1000);
    assert_true(w->phone[0].direct > 50 && w->phone[1].direct > 50);
    /* A direct call makes no sound here, and goes on for as long as the phones answer our checks. */
    world_run(w, 300000);
    assert_null(w->silence);
    assert_true(ice(w)->answers[0] && ice(w)->answers[1]);
    assert_false(ice(w)->left[0] || ice(w)->left[1]);
    /* one leaves */
    w->phone[0].deaf = true;
    world_until(w, 60000, ice(w)->left[0]);
    assert_false(ice(w)->left[1]);
    assert_null(w->silence);
    /* and the other */
    w->phone[1].deaf = true;
    world_until(w, 120000, w->silence != NULL);
    assert_non_null(strstr(w->silence, "answers checks"));
    assert_true(ice(w)->left[1]);
    world_free(w);
}

static unsigned answers_of_a(struct world *w, unsigned component)
{
    struct kg_ice_pair pair;
    assert_int_equal(kg_steer_pairs(ice(w)->steer[component - 1], KG_SIDE_A, &pair, 1), 1);
    return pair.responses;
}

/* A phone comes from inside to outside of a 1:1 NAT: from where it sees our checks is told by any change. */
static void test_an_advertised_address_learnt_in_talk(void **state)
{
    (void)state;
    for (int told = 0; told < 2; told++) {
        struct world *w = steered(true, false);
        world_local(w, 0, "kedgeA", false);
        world_until(w, 20000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED && w->phone[0].heard > 50);
        w->outside[0] = at("192.0.2.200");
        if (told)
            w->local[0].advertised = w->outside[0];
        world_apply(w, -1, -1, true);
        unsigned before[] = {answers_of_a(w, 1), answers_of_a(w, 2)};
        world_run(w, 20000);
        for (unsigned component = 1; component <= 2; component++)
            assert_in_range(answers_of_a(w, component) - before[component - 1], told ? 3 : 0, told ? 5 : 0);
        world_free(w);
    }
}

/* Both talk directly and never answer on the relay path: that is no reason to end their call. */
static void test_steered_call_that_cannot_be_seen_goes_on(void **state)
{
    (void)state;
    struct world *w = steered(false, true);
    world_run(w, 300);
    w->phone[0].deaf = w->phone[1].deaf = true; /* to everything; their own calls are not ours to model */
    w->phone[0].talking = w->phone[1].talking = false;
    world_run(w, 400000);
    assert_null(w->silence);
    assert_false(ice(w)->left[0] || ice(w)->left[1]);
    world_free(w);
}

/* Who muxes RTCP is agreed between the two: it leaves by the component it came on, whatever only one of them
 * said. */
static void test_steered_rtcp_keeps_its_component(void **state)
{
    (void)state;
    static const uint8_t report[] = {0x80, 201, 0, 1, 0, 0, 0, 9};
    struct world *w = steered(true, false);
    world_until(w, 20000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED && w->phone[0].heard > 50);
    w->relay->stream[0]->leg[0].rtcp_mux = true;     /* offered, and not taken */
    w->phone[0].public[0] = at("198.51.100.1:4444"); /* only its RTCP port hears what is sent to that */
    unsigned stray = w->stray;
    deliver(w, &w->phone[1].public[1], &w -> bound[1][1], report, sizeof report);
    assert_int_equal(w->phone[0].heard_rtcp, 1);
    assert_int_equal(w->stray, stray);
    world_free(w);
}

/* They answered while they did ICE, and never afterwards. */
static void test_answers_during_ice_promise_nothing(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_run(w, 600);
    assert_true(kg_steer_silence(ice(w)->steer[0], KG_SIDE_A, w->now) >= 0);
    assert_true(kg_steer_silence(ice(w)->steer[0], KG_SIDE_B, w->now) >= 0);
    w->phone[0].deaf = w->phone[1].deaf = true;
    w->phone[0].talking = w->phone[1].talking = false;
    world_run(w, 400000);
    assert_null(w->silence);
    assert_false(ice(w)->left[0] || ice(w)->left[1]);
    world_free(w);
}

static void cut(struct world *w, unsigned side)
{
    w->phone[side].deaf = true;
    w->phone[side].talking = false;
}

/* Cut off soon after the call began: known as soon as its last answer has expired, and of that side alone. */
static void test_who_is_cut_off_early_has_left(void **state)
{
    (void)state;
    static const struct {
        bool direct;
        int64_t after_ms;
    } rows[] = {{false, 2000}, {false, 3000}, {false, 7000}, {true, 10000}, {true, 15000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = steered(true, true);
        int64_t since = w->now;
        world_run(w, 300); /* the first checks between the two are lost, so the relay is tried as well */
        w->blocked = !rows[i].direct;
        world_run(w, rows[i].after_ms - 300);
        assert_int_equal(ice(w)->path, rows[i].direct ? KG_PATH_DIRECT : KG_PATH_RELAYED);
        cut(w, 0);
        world_run(w, 22000); /* its last answer is 7 s old at most */
        assert_false(ice(w)->left[0]);
        world_until(w, since + rows[i].after_ms + 31000 - w->now, ice(w)->left[0]);
        assert_true(ice(w)->left_untold[0]);
        assert_false(ice(w)->left[1]);
        assert_null(w->silence);
        world_free(w);
    }
}

/* Its ICE is over, and it answers nothing on the relay path; the other one does. */
static void test_a_direct_phone_that_never_answers_us_stays(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_run(w, 300);
    w->blocked = false;
    world_until(w, 3500, ice(w)->path == KG_PATH_DIRECT); /* it answered during ICE, as all do */
    assert_true(kg_steer_silence(ice(w)->steer[0], KG_SIDE_A, w->now) >= 0);
    w->phone[0].retired = true;
    world_run(w, 400000);
    assert_int_equal(ice(w)->path, KG_PATH_DIRECT);
    assert_false(ice(w)->left[0] || ice(w)->left[1]);
    assert_false(ice(w)->answers[0]);
    assert_true(ice(w)->answers[1]);
    assert_null(w->silence);
    world_free(w);
}

/* Silence on hold says nothing of the path. */
static void test_hold_is_not_direct(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_until(w, 20000, ice(w)->path == KG_PATH_RELAYED && w->phone[0].heard > 50);
    w->relay->on_hold = true;
    w->phone[0].talking = w->phone[1].talking = false;
    world_run(w, 20000);
    assert_int_equal(ice(w)->path, KG_PATH_RELAYED);
    w->relay->on_hold = false;
    world_run(w, 3000);
    assert_int_equal(ice(w)->path, KG_PATH_DIRECT);
    world_free(w);
}

/* A phone that found the direct path before it came to us; what the other one sent us until then went
 * nowhere.
 */
static void test_early_media_that_went_nowhere_is_not_relayed(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    w->phone[0].retired = true;
    w->phone[0].talking = w->phone[1].talking = false;
    world_until(w, 5000, kg_steer_silence(ice(w)->steer[0], KG_SIDE_B, w->now) >= 0);
    for (uint16_t i = 0; i < 200; i++) {
        uint8_t packet[172];
        size_t len = rtp_packet(packet, 8, i, 0x2000);
        deliver(w, &w->phone[1].public[0], &w -> bound[1][0], packet, len);
        world_run(w, 20);
    }
    assert_int_equal(stats(w, 1).packets_in, 200);
    assert_int_equal(ice(w)->path, KG_PATH_RELAYED); /* it still comes here: that is no direct call */
    world_run(w, 3000);
    assert_true(kg_steer_silence(ice(w)->steer[0], KG_SIDE_A, w->now) < 0);
    assert_int_equal(ice(w)->path, KG_PATH_DIRECT);
    world_free(w);
}

static void test_steered_phone_that_moves_is_followed_by_proof(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_until(w, 20000, w->phone[1].heard > 50);
    w->phone[0].public[0] = at("198.51.100.9:61234");
    int64_t changed = w->now;
    world_until(w, 2000, sent_to(w, 0));
    assert_true(w->now - changed < 1500);
    assert_int_equal(stats(w, 0).moves, 1);
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    world_run(w, 1000);
    assert_true(w->phone[0].heard > heard[0] + 40 && w->phone[1].heard > heard[1] + 40);
    world_free(w);
}

/* The steered call falls back to the relay: both legs become agents' while media goes on. */
static void test_fallback_from_steered_to_agents(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_until(w, 20000, w->phone[0].heard > 50 && w->phone[1].heard > 50);
    world_local(w, 0, "kedgeA", true);
    world_local(w, 1, "kedgeB", true);
    static const char *const ufrag[] = {"alice2", "bobby2"};
    for (unsigned side = 0; side < 2; side++) {
        phone_credentials(&w->phone[side], ufrag[side]);
        assert_int_equal(
            kg_ice_restart(w->phone[side].agent, w->phone[side].ufrag, w->phone[side].pwd, w->now), 0);
    }
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    world_apply(w, KG_ICE_AGENT, KG_ICE_AGENT, true);
    world_run(w, 200);
    assert_true(w->phone[0].heard >= heard[0] + 9 && w->phone[1].heard >= heard[1] + 9);
    phone_hears(w, 0, false);
    phone_hears(w, 1, false);
    world_until(w, 5000,
                stats(w, 0).ice_state == KG_ICE_COMPLETED && stats(w, 1).ice_state == KG_ICE_COMPLETED);
    heard[0] = w->phone[0].heard;
    heard[1] = w->phone[1].heard;
    world_run(w, 60000);
    assert_true(w->phone[0].heard >= heard[0] + 2990 && w->phone[1].heard >= heard[1] + 2990);
    world_free(w);
}

/* Upgrade: both phones did ICE with kedge and now do it with each other; media goes on while they check. */
static void test_upgrade_from_agents_to_steered(void **state)
{
    (void)state;
    struct world *w = world_new();
    static const char *const ufrag[] = {"alice", "bobby"}, *const next[] = {"alice2", "bobby2"};
    world_local(w, 0, "kedgeA", false);
    world_local(w, 1, "kedgeB", true);
    for (unsigned side = 0; side < 2; side++)
        phone_ice(w, side, side == 0, true, ufrag[side]);
    world_apply(w, KG_ICE_AGENT, KG_ICE_AGENT, true);
    for (unsigned side = 0; side < 2; side++) {
        phone_hears(w, side, false);
        w->phone[side].talking = true;
    }
    world_until(w, 20000,
                stats(w, 0).ice_state == KG_ICE_COMPLETED && stats(w, 1).ice_state == KG_ICE_COMPLETED);
    world_run(w, 1000);
    for (unsigned side = 0; side < 2; side++) {
        struct vphone *p = &w->phone[side];
        phone_credentials(p, next[side]);
        assert_int_equal(kg_ice_restart(p->agent, p->ufrag, p->pwd, w->now), 0);
    }
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    int64_t since = w->now;
    world_apply(w, KG_ICE_STEER, KG_ICE_STEER, true);
    w->blocked = true;
    world_run(w, 200); /* B has our offer, its answer is on the way to A */
    phone_hears(w, 1, true);
    world_run(w, 200);
    phone_hears(w, 0, true);
    world_run(w, 300); /* the first checks between the two are lost, so the relay is tried as well */
    w->blocked = false;
    world_until(w, 20000, ice(w)->path == KG_PATH_DIRECT);
    for (unsigned side = 0; side < 2; side++)
        assert_true(w->phone[side].heard - heard[side] >= (w->now - since) / 20 - 2);
    assert_null(w->relay->ice->agent[0]);
    assert_null(w->relay->ice->agent[1]);
    assert_int_equal(w->stray, 0);
    world_free(w);
}

/* A steered phone restarts: the new passwords pass end to end, and the old ones still count for a while. */
static void test_restart_of_a_steered_call(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    static const char *const next[] = {"alice2", "bobby2"};
    world_until(w, 20000, w->phone[0].heard > 50 && w->phone[1].heard > 50);
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    int64_t since = w->now;
    for (unsigned side = 0; side < 2; side++) { /* the offer, the answer */
        struct vphone *p = &w->phone[side];
        phone_credentials(p, next[side]);
        assert_int_equal(kg_ice_restart(p->agent, p->ufrag, p->pwd, w->now), 0);
        world_apply(w, side == 0 ? KG_ICE_STEER : -1, side == 1 ? KG_ICE_STEER : -1, true);
        if (side == 1)
            phone_hears(w, 1, true);
        world_run(w, 100);
    }
    phone_hears(w, 0, true);
    world_run(w, 40000);
    for (unsigned side = 0; side < 2; side++) {
        assert_int_equal(kg_ice_state(w->phone[side].agent), KG_ICE_COMPLETED);
        assert_true(w->phone[side].heard - heard[side] >= (w->now - since) / 20 - 2);
    }
    assert_int_equal(ice(w)->path, KG_PATH_RELAYED);
    world_free(w);
}

/* Keys are between the two phones: their handshake and what it protects pass, from proven sources alone. */
static void test_steered_dtls_and_srtcp(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    static const uint8_t hello[40] = {22, 0xfe, 0xfd}, srtcp[38] = {0x80, 200, 0, 6, 0, 0, 0, 9, 0x5a, 0x5a};
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], hello, sizeof hello);
    assert_int_equal(w->phone[1].heard, 0);
    world_until(w, 20000, w->phone[1].heard > 50);
    unsigned heard = w->phone[1].heard;
    uint64_t out = stats(w, 1).packets_out;
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], hello, sizeof hello);
    assert_int_equal(w->phone[1].heard, heard + 1);
    assert_int_equal(stats(w, 1).packets_out, out); /* no RTP */
    uint8_t padded[300];
    size_t len = rtp_packet(padded, 8, w->phone[0].sequence, w->phone[0].ssrc);
    padded[0] |= 0x20;
    padded[len - 1] = 0xff; /* no count of padding: it is encrypted (RFC 3711 3.1) */
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], padded, len);
    assert_int_equal(stats(w, 1).packets_out, out + 1);
    assert_int_equal(w->phone[1].heard, heard + 2);
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], srtcp, sizeof srtcp);
    assert_int_equal(w->phone[1].heard_rtcp, 1);
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], srtcp, 7);
    spoof(w, 0, "203.0.113.66:6666", hello, sizeof hello);
    spoof(w, 0, "203.0.113.66:6666", srtcp, sizeof srtcp);
    assert_int_equal(w->phone[1].heard, heard + 2);
    assert_int_equal(w->phone[1].heard_rtcp, 1);
    assert_int_equal(w->stray, 0);
    world_free(w);
}

static void test_strangers_of_a_steered_call_get_nothing(void **state)
{
    (void)state;
    struct world *w = steered(true, true);
    world_until(w, 20000, w->phone[0].heard > 50 && w->phone[1].heard > 50);
    static const uint8_t plain[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    for (uint16_t i = 0; i < 50; i++) {
        spoof(w, i % 2, "203.0.113.66:6666", plain, sizeof plain);
        spoof_rtp(w, i % 2, "203.0.113.66:6666", i, 0xbad);
        spoof_rtp(w, 0, "203.0.113.66:6666", (uint16_t)(w->phone[0].sequence + 1), 0x1000);
        world_run(w, 20);
    }
    assert_int_equal(w->stray, 0);
    assert_true(w->phone[1].heard <= w->phone[0].sequence);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steered_over_the_relay),
        cmocka_unit_test(test_steered_and_direct),
        cmocka_unit_test(test_an_advertised_address_learnt_in_talk),
        cmocka_unit_test(test_steered_call_that_cannot_be_seen_goes_on),
        cmocka_unit_test(test_steered_rtcp_keeps_its_component),
        cmocka_unit_test(test_answers_during_ice_promise_nothing),
        cmocka_unit_test(test_who_is_cut_off_early_has_left),
        cmocka_unit_test(test_a_direct_phone_that_never_answers_us_stays),
        cmocka_unit_test(test_hold_is_not_direct),
        cmocka_unit_test(test_early_media_that_went_nowhere_is_not_relayed),
        cmocka_unit_test(test_steered_phone_that_moves_is_followed_by_proof),
        cmocka_unit_test(test_fallback_from_steered_to_agents),
        cmocka_unit_test(test_upgrade_from_agents_to_steered),
        cmocka_unit_test(test_restart_of_a_steered_call),
        cmocka_unit_test(test_steered_dtls_and_srtcp),
        cmocka_unit_test(test_strangers_of_a_steered_call_get_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
