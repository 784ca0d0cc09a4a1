/* kedge as an ICE peer on a relay's leg, in virtual time: who may send, who is sent to, what moves a latch.
 * The agent's own rules are tested in test_ice_agent.c, steered calls in test_relay_steer.c. */
#include "tests/unit/relay_world.h"

/* Phone A does ICE and offered; B does not and is latched. */
static struct world *half(bool mux)
{
    struct world *w = world_new();
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, mux, "alice");
    world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    phone_hears(w, 0, false);
    w->phone[0].talking = w->phone[1].talking = true;
    return w;
}

static void test_agent_toward_the_caller_latch_toward_the_callee(void **state)
{
    for (int mux = 0; mux < 2; mux++) {
        (void)state;
        struct world *w = half(mux);
        world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
        world_run(w, 1000);
        assert_int_equal(kg_ice_state(w->relay->ice->agent[0]), KG_ICE_COMPLETED);
        assert_true(w->phone[0].heard > 40 && w->phone[1].heard > 40);
        struct kg_media_stats a = stats(w, 0), b = stats(w, 1);
        assert_int_equal(a.proof, KG_PROOF_ICE);
        assert_int_equal(a.ice_use, KG_ICE_AGENT);
        assert_int_equal(a.ice_state, KG_ICE_COMPLETED);
        assert_true(a.ice_connected_ms >= 0 && a.ice_connected_ms < 1000);
        assert_int_equal(a.move_gap_ms, -1);
        assert_true(kg_addr_equal(&a.remote, &w->phone[0].public[0]));
        assert_int_equal(b.proof, KG_PROOF_SDP);
        assert_int_equal(b.ice_use, KG_ICE_UNUSED);
        assert_int_equal(world_flow(w, 0, 2)->latch.proof, mux ? KG_PROOF_NONE : KG_PROOF_ICE);
        struct kg_media_pair pair[KG_MEDIA_PAIRS_MAX];
        assert_int_equal(kg_relay_ice_pairs(w->relay, pair, KG_MEDIA_PAIRS_MAX), mux ? 1 : 2);
        assert_true(pair[0].pair.selected && pair[0].side == 0);
        assert_int_equal(w->stray, 0);
        world_free(w);
    }
}

static void test_kedge_controls_where_it_offered(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_local(w, 1, "kedgeB", true);
    phone_ice(w, 1, false, true, "bobby");
    world_apply(w, KG_ICE_UNUSED, -1, false);
    world_apply(w, -1, KG_ICE_AGENT, true);
    phone_hears(w, 1, false);
    w->phone[0].talking = w->phone[1].talking = true;
    world_until(w, 3000, kg_ice_state(w->phone[1].agent) == KG_ICE_COMPLETED);
    assert_true(kg_ice_is_controlling(w->relay->ice->agent[1]));
    world_run(w, 200);
    assert_true(w->phone[0].heard > 5 && w->phone[1].heard > 5);
    world_free(w);
}

/* RTCP of a phone with two components flows on its own, proven port. */
static void test_rtcp_component(void **state)
{
    (void)state;
    struct world *w = half(false);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 100);
    static const uint8_t report[] = {0x80, 201, 0, 1, 0, 0, 0, 9};
    deliver(w, &w->phone[1].public[1], &w -> bound[1][1], report, sizeof report);
    assert_int_equal(w->phone[0].heard_rtcp, 1);
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], report, sizeof report);
    assert_int_equal(w->phone[1].heard_rtcp, 1);
    struct kg_addr other_port = at("198.51.100.1:4009"); /* the same host is no proof here */
    deliver(w, &other_port, &w->bound[0][1], report, sizeof report);
    assert_int_equal(w->phone[1].heard_rtcp, 1);
    world_free(w);
}

/* Its answer is on the way; its checks are faster (RFC 8445 7.3). */
static void test_checks_before_the_answer(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_local(w, 1, "kedgeB", true);
    world_apply(w, KG_ICE_UNUSED, -1, false);
    assert_null(w->relay->ice->agent[1]); /* costs nothing until a check comes */
    static const uint8_t nonsense[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    spoof(w, 1, "203.0.113.9:1", nonsense, sizeof nonsense);
    assert_null(w->relay->ice->agent[1]);
    phone_ice(w, 1, false, true, "bobby");
    phone_hears(w, 1, false);
    world_run(w, 200);
    assert_non_null(w->relay->ice->agent[1]);
    assert_int_equal(world_flow(w, 1, 1)->latch.proof, KG_PROOF_NONE);
    world_apply(w, -1, KG_ICE_AGENT, true);
    world_until(w, 500, world_flow(w, 1, 1)->latch.proof == KG_PROOF_ICE);
    world_free(w);
}

static void test_no_ice_at_all_leaves_nothing(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_local(w, 0, "kedgeA", false);
    world_local(w, 1, "kedgeB", true);
    world_apply(w, KG_ICE_UNUSED, -1, false);
    assert_non_null(w->relay->ice); /* B was offered ICE */
    world_apply(w, -1, KG_ICE_UNUSED, true);
    assert_true(kg_relay_ice_is_idle(w->relay));
    kg_relay_ice_free(w->relay);
    w->phone[0].talking = w->phone[1].talking = true;
    world_run(w, 200);
    assert_true(w->phone[0].heard > 5 && w->phone[1].heard > 5);
    world_free(w);
}

/* Neither SDP's address nor the signalling host is proof on a leg with ICE. */
static void test_nothing_but_a_check_is_proof(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->phone[0].deaf = true; /* checks do not succeed */
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, true, "alice");
    world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    phone_hears(w, 0, false);
    w->phone[1].talking = true;
    for (uint16_t i = 0; i < 20; i++) {
        spoof_rtp(w, 0, "198.51.100.1:4000", i, 0x1000);
        world_run(w, 20);
    }
    assert_int_equal(w->phone[1].heard, 0);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_NONE);
    assert_int_equal(stats(w, 0).packets_out, 0);
    assert_true(stats(w, 0).dropped >= 20);
    world_free(w);
}

/* The caller's offer was described before it was clear that kedge is its ICE peer: what latched until then
 * counts for nothing once it is. */
static void test_latching_before_the_answer_is_forgotten(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_local(w, 0, "kedgeA", false);
    w->phone[0].deaf = true;
    phone_ice(w, 0, true, true, "alice");
    world_apply(w, KG_ICE_UNUSED, -1, false);
    for (uint16_t i = 0; i < 10; i++)
        spoof_rtp(w, 0, "198.51.100.1:4008", i, 0xbad);
    world_run(w, KG_LATCH_DOUBT_MS);
    for (uint16_t i = 10; i < 20; i++)
        spoof_rtp(w, 0, "198.51.100.1:4008", i, 0xbad);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_SAME_ADDRESS);
    world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_NONE);
    w->phone[1].talking = true;
    world_run(w, 200);
    spoof_rtp(w, 0, "198.51.100.1:4008", 20, 0xbad);
    assert_int_equal(w->phone[1].heard, 0);
    assert_int_equal(w->stray, 0);
    world_free(w);
}

static void test_strangers_get_nothing(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    /* a check of his own making: right user name, wrong password */
    struct kg_stun_writer writer;
    uint8_t check[256];
    kg_stun_begin(&writer, check, sizeof check, KG_STUN_REQUEST, KG_STUN_BINDING,
                  (const uint8_t *)"0123456789ab");
    kg_stun_put(&writer, KG_STUN_USERNAME, "kedgeA:alice", 12);
    kg_stun_put_u32(&writer, KG_STUN_PRIORITY, 1);
    kg_stun_put_u64(&writer, KG_STUN_ICE_CONTROLLING, 1);
    kg_stun_put_integrity(&writer, "not the password at all", 23);
    kg_stun_put_fingerprint(&writer);
    size_t len = kg_stun_end(&writer);
    assert_true(len > 0);
    for (uint16_t i = 0; i < 50; i++) {
        spoof(w, 0, "203.0.113.66:6666", check, len);
        spoof_rtp(w, 0, "203.0.113.66:6666", (uint16_t)(w->phone[0].sequence + 1), 0xbad); /* another SSRC */
        spoof_rtp(w, 0, "203.0.113.66:6666", (uint16_t)(w->phone[0].sequence + 1),
                  0x1000); /* right SSRC, but A talks */
        spoof_rtp(w, 1, "203.0.113.66:6666", i, 0xbad);
        world_run(w, 20);
    }
    assert_int_equal(w->stray, 0);
    unsigned heard = w->phone[1].heard;
    assert_true(heard >= 90 && heard <= w->phone[0].sequence);
    assert_true(sent_to(w, 0));
    world_free(w);
}

/* The phone's NAT gives it another port; the phone notices nothing. Its RTP is challenged, its answer proves.
 */
static void test_nat_rebinding_is_followed_by_proof(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    w->phone[0].public[0] = at("198.51.100.9:61234");
    int64_t changed = w->now;
    unsigned before = w->phone[0].heard;
    world_until(w, 2000, sent_to(w, 0));
    assert_true(w->now - changed < 1500);
    world_run(w, 200);
    assert_true(w->phone[0].heard > before + 5);
    assert_int_equal(stats(w, 0).moves, 1);
    assert_true(stats(w, 0).move_gap_ms >= KG_CHALLENGE_QUIET_MS && stats(w, 0).move_gap_ms < 1500);
    /* what went to the old address while nothing was known of the new one */
    assert_true(w->stray < 100);
    world_free(w);
}

/* The same with RTCP on a port of its own, whose reports say nothing of silence. */
static void test_rtcp_is_asked_where_rtp_has_gone(void **state)
{
    (void)state;
    struct world *w = half(false);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1500);
    uint8_t report[] = {0x80, 201, 0, 1, 0, 0, 0x10, 0}, other[] = {0x80, 201, 0, 1, 0, 0, 0, 9};
    assert_int_equal(w->phone[0].ssrc, 0x1000);
    w->phone[0].public[1] = at("198.51.100.9:61235");
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], report, sizeof report);
    world_run(w, 100);
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], report, sizeof report);
    assert_int_equal(w->phone[1].heard_rtcp, 0); /* RTP is where it was */
    w->phone[0].public[0] = at("198.51.100.9:61234");
    world_until(w, 2000, sent_to(w, 0));
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], other, sizeof other);
    world_run(w, 100);
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], report, sizeof report);
    assert_int_equal(w->phone[1].heard_rtcp, 0); /* the first was somebody else's, the second is asked now */
    world_run(w, 100);
    deliver(w, &w->phone[0].public[1], &w -> bound[0][1], report, sizeof report);
    assert_int_equal(w->phone[1].heard_rtcp, 1);
    unsigned heard = w->phone[0].heard_rtcp;
    deliver(w, &w->phone[1].public[1], &w -> bound[1][1], report, sizeof report); /* and the other way */
    assert_int_equal(w->phone[0].heard_rtcp, heard + 1);
    world_free(w);
}

static void test_only_what_continues_the_silent_phone_is_challenged(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    uint16_t next = w->phone[0].sequence;
    spoof_rtp(w, 0, "203.0.113.66:6666", next, 0x1000); /* A talks */
    w->phone[0].talking = false;
    world_run(w, 300);
    spoof_rtp(w, 0, "203.0.113.66:6666", next, 0x1001);
    spoof_rtp(w, 0, "203.0.113.66:6666", (uint16_t)(next + KG_CHALLENGE_AHEAD), 0x1000);
    spoof_rtp(w, 0, "203.0.113.66:6666", (uint16_t)(next - 1), 0x1000);
    world_run(w, 100);
    assert_int_equal(w->stray, 0);
    spoof_rtp(w, 0, "203.0.113.66:6666", next, 0x1000); /* he has listened to it */
    world_run(w, 5000);
    assert_true(w->stray > 0 && w->stray < 10); /* checks, and no media */
    assert_true(sent_to(w, 0));
    world_free(w);
}

/* A re-INVITE without change on a phone behind a NAT: its SDP address still proves nothing. */
static void test_describing_again_makes_nothing_plausible(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->phone[0].public[0] = at("198.51.100.9:61234");
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, true, "alice");
    world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    phone_hears(w, 0, false);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_apply(w, KG_ICE_AGENT, -1, true);
    for (uint16_t i = 0; i < 20; i++) {
        spoof_rtp(w, 0, "198.51.100.1:4000", i, 0xbad);
        world_run(w, 20);
    }
    assert_int_equal(stats(w, 0).packets_in, 0);
    assert_true(sent_to(w, 0));
    world_free(w);
}

static void test_consent_expires(void **state)
{
    (void)state;
    struct world *w = half(true);
    w->limits.silence_timeout_ms = 0;
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    w->phone[0].deaf = true; /* and it goes on sending */
    world_run(w, 20000);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_ICE);
    world_run(w, 20000);
    assert_int_equal(stats(w, 0).ice_state, KG_ICE_DISCONNECTED);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_NONE);
    uint64_t in = stats(w, 0).packets_in, out = stats(w, 0).packets_out;
    world_run(w, 5000);
    assert_int_equal(stats(w, 0).packets_in, in);
    assert_int_equal(stats(w, 0).packets_out, out);
    world_free(w);
}

/* RFC 8445 9: media goes on where it went until the new pair is there. */
static void test_restart_of_one_leg(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    uint64_t before = stats(w, 0).packets_out;
    world_local(w, 0, "kedgeA2", false);
    phone_credentials(&w->phone[0], "alice2");
    assert_int_equal(kg_ice_restart(w->phone[0].agent, w->phone[0].ufrag, w->phone[0].pwd, w->now), 0);
    world_apply(w, KG_ICE_AGENT, -1, true);
    world_run(w, 300); /* our 200 is on the way: the phone has not heard of our new password */
    assert_true(stats(w, 0).packets_out >= before + 14);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_ICE);
    phone_hears(w, 0, false);
    before = stats(w, 0).packets_out;
    unsigned heard = w->phone[0].heard;
    world_run(w, 3000);
    assert_int_equal(kg_ice_state(w->phone[0].agent), KG_ICE_COMPLETED);
    assert_int_equal(kg_ice_state(w->relay->ice->agent[0]), KG_ICE_COMPLETED);
    assert_true(stats(w, 0).packets_out >= before + 149);
    assert_true(w->phone[0].heard >= heard + 149);
    assert_int_equal(w->stray, 0);
    world_free(w);
}

/* Another engine's life: same ports, same credentials, the latch as it was. */
static void test_restored_leg_talks_at_once_and_is_proven_again(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    world_run(w, 1000);
    struct kg_addr was[2] = {world_flow(w, 0, 1)->latch.remote, world_flow(w, 1, 1)->latch.remote};
    world_new_relay(w);
    world_apply(w, KG_ICE_AGENT, KG_ICE_UNUSED, true);
    kg_relay_restore(world_flow(w, 0, 1), &was[0], KG_PROOF_ICE, w->now);
    kg_relay_restore(world_flow(w, 1, 1), &was[1], KG_PROOF_SDP, w->now);
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    world_run(w, 60);
    assert_int_equal(w->phone[0].heard - heard[0], 3);
    assert_int_equal(w->phone[1].heard - heard[1], 3);
    world_until(w, 1000, !world_flow(w, 0, 1)->borrowed);
    assert_true(sent_to(w, 0));
    world_run(w, 60000);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_ICE);
    assert_true(stats(w, 0).ice_state == KG_ICE_CONNECTED || stats(w, 0).ice_state == KG_ICE_COMPLETED);
    world_free(w);
}

static void test_restored_latch_that_nothing_proves_again_ends(void **state)
{
    (void)state;
    struct world *w = half(true);
    w->phone[0].deaf = true;
    w->phone[0].talking = false;
    kg_relay_restore(world_flow(w, 0, 1), &w->phone[0].public[0], KG_PROOF_ICE, w -> now);
    world_run(w, 20000);
    assert_true(stats(w, 0).packets_out > 900);
    world_run(w, 15000);
    uint64_t out = stats(w, 0).packets_out;
    world_run(w, 5000);
    assert_int_equal(stats(w, 0).packets_out, out);
    world_free(w);
}

/* A leg that was latched and does ICE after a re-INVITE is not silent in between, and back. */
static void test_latched_leg_that_begins_ice_and_ends_it(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_apply(w, KG_ICE_UNUSED, KG_ICE_UNUSED, true);
    w->phone[0].talking = w->phone[1].talking = true;
    world_run(w, 500);
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, true, "alice");
    w->phone[0].talking = false; /* until its ICE has a pair */
    unsigned heard = w->phone[0].heard;
    world_apply(w, KG_ICE_AGENT, -1, true);
    world_run(w, 200);
    assert_int_equal(w->phone[0].heard - heard, 10);
    phone_hears(w, 0, false);
    w->phone[0].talking = true;
    world_until(w, 2000, stats(w, 0).proof == KG_PROOF_ICE);
    kg_ice_agent_free(w->phone[0].agent);
    w->phone[0].agent = NULL;
    w->phone[0].ice = false;
    world_apply(w, KG_ICE_UNUSED, -1, true);
    assert_true(kg_relay_ice_is_idle(w->relay));
    kg_relay_ice_free(w->relay);
    heard = w->phone[0].heard;
    world_run(w, 200);
    assert_int_equal(w->phone[0].heard - heard, 10);
    world_free(w);
}

static void test_lines_come_and_go(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct kg_stream *video = kg_stream_new(1, "video");
    kg_relay_add_stream(w->relay, video);
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, true, "alice");
    struct kg_media_side side = world_side(w, 0, KG_ICE_AGENT), *const told[2] = {&side, NULL};
    side.stream[1] = side.stream[0];
    side.stream_count = 2;
    struct kg_ice_change change = {.local = {w->local[0]},
                                   .bound = {{w->bound[0][0], at("192.0.2.1:22000")}}};
    static const uint8_t expected[] = {2, 1, 2};
    for (unsigned i = 0; i < 3; i++) {
        side.stream[1].enabled = i != 1;
        assert_int_equal(kg_relay_describe(w->relay, KG_SIDE_A, &side, w->now), 0);
        assert_int_equal(kg_relay_change_ice(w->relay, &change, told, &w->limits, w->now), 0);
        world_drain(w);
        struct kg_media_pair pair[KG_MEDIA_PAIRS_MAX];
        uint8_t count = kg_relay_ice_pairs(w->relay, pair, KG_MEDIA_PAIRS_MAX), of_video = 0;
        for (unsigned n = 0; n < count; n++)
            of_video += pair[n].pair.stream == 1;
        assert_int_equal(count, expected[i]);
        assert_int_equal(of_video, expected[i] - 1);
        assert_int_equal(video->leg[0].rtp.ice, i == 1 ? KG_ICE_UNUSED : KG_ICE_AGENT);
    }
    world_free(w);
}

/* A line that was rejected from the beginning has nothing in the engine. */
static void test_a_line_that_never_was(void **state)
{
    (void)state;
    struct world *w = world_new();
    kg_relay_add_stream(w->relay, kg_stream_new(2, "video"));
    world_local(w, 0, "kedgeA", false);
    phone_ice(w, 0, true, true, "alice");
    struct kg_media_side side = world_side(w, 0, KG_ICE_AGENT), *const told[2] = {&side, NULL};
    side.stream[1] = side.stream[2] = side.stream[0];
    side.stream[1].enabled = false;
    side.stream_count = 3;
    struct kg_ice_change change = {.local = {w->local[0]},
                                   .bound = {{w->bound[0][0], at("0.0.0.0:0"), at("192.0.2.1:22000")}}};
    assert_int_equal(kg_relay_describe(w->relay, KG_SIDE_A, &side, w->now), 0);
    assert_int_equal(kg_relay_change_ice(w->relay, &change, told, &w->limits, w->now), 0);
    assert_int_equal(w->relay->stream[2]->leg[0].rtp.ice, KG_ICE_AGENT);
    world_drain(w);
    world_run(w, 500);
    world_free(w);
}

/* UDPTL may look like anything: checks are told from it by their cookie. */
static void test_fax_and_checks_on_one_port(void **state)
{
    (void)state;
    struct world *w = half(true);
    world_until(w, 3000, kg_ice_state(w->phone[0].agent) == KG_ICE_COMPLETED);
    w->phone[0].talking = w->phone[1].talking = false;
    w->relay->stream[0]->any_payload = true;
    uint8_t udptl[] = {0, 1, 4, 0xff, 0xc0, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    uint64_t before = stats(w, 0).packets_in;
    deliver(w, &w->phone[0].public[0], &w -> bound[0][0], udptl, sizeof udptl);
    assert_int_equal(stats(w, 0).packets_in, before + 1);
    spoof(w, 0, "203.0.113.66:6666", udptl, sizeof udptl);
    assert_int_equal(stats(w, 0).packets_in, before + 1);
    world_run(w, 20000); /* consent */
    assert_int_equal(stats(w, 0).packets_in, before + 1);
    assert_int_equal(stats(w, 0).proof, KG_PROOF_ICE);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_toward_the_caller_latch_toward_the_callee),
        cmocka_unit_test(test_kedge_controls_where_it_offered),
        cmocka_unit_test(test_rtcp_component),
        cmocka_unit_test(test_checks_before_the_answer),
        cmocka_unit_test(test_no_ice_at_all_leaves_nothing),
        cmocka_unit_test(test_nothing_but_a_check_is_proof),
        cmocka_unit_test(test_latching_before_the_answer_is_forgotten),
        cmocka_unit_test(test_strangers_get_nothing),
        cmocka_unit_test(test_nat_rebinding_is_followed_by_proof),
        cmocka_unit_test(test_rtcp_is_asked_where_rtp_has_gone),
        cmocka_unit_test(test_only_what_continues_the_silent_phone_is_challenged),
        cmocka_unit_test(test_describing_again_makes_nothing_plausible),
        cmocka_unit_test(test_consent_expires),
        cmocka_unit_test(test_restart_of_one_leg),
        cmocka_unit_test(test_restored_leg_talks_at_once_and_is_proven_again),
        cmocka_unit_test(test_restored_latch_that_nothing_proves_again_ends),
        cmocka_unit_test(test_latched_leg_that_begins_ice_and_ends_it),
        cmocka_unit_test(test_lines_come_and_go),
        cmocka_unit_test(test_a_line_that_never_was),
        cmocka_unit_test(test_fax_and_checks_on_one_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
