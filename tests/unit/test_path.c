/* Which way media goes: each m-line by what the sides said of ICE, and the life of a call's path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/path.h"

/* ---- an m-line ---- */

static const struct kg_path_rules automatic = {.ice = true, .policy = KG_POLICY_AUTO};

enum says { LEGACY, ICE, MISMATCH, REJECTS };

static void say(struct kg_path_facts *facts, enum kg_side side, enum says says)
{
    facts->known[side] = true;
    facts->enabled[side] = says != REJECTS;
    facts->ice[side] = says == ICE;
    facts->mismatch[side] = says == MISMATCH;
}

/* A calls B: the offer, then the answer, as talk_ice.c does it. */
static struct kg_path_line call(const struct kg_path_rules *rules, enum says a, enum says b,
                                struct kg_path_line *offer)
{
    struct kg_path_facts facts = {.known = {false}};
    say(&facts, KG_SIDE_A, a);
    *offer = kg_path_offer(rules, &facts, KG_SIDE_A);
    facts.told[KG_SIDE_B] = offer->text[KG_SIDE_B];
    say(&facts, KG_SIDE_B, b);
    return kg_path_answer(rules, &facts, KG_SIDE_B);
}

#define NONE   KG_SDP_ICE_NONE
#define KEEP   KG_SDP_ICE_KEEP
#define OURS   KG_SDP_ICE_OURS
#define UNUSED KG_ICE_UNUSED
#define AGENT  KG_ICE_AGENT
#define STEER  KG_ICE_STEER

static const struct {
    bool ice;
    enum kg_policy policy;
    bool b_trusted;
    enum says a, b;
    uint8_t offer_use, offer, use_a, use_b, answer; /* A's use at the offer; texts to B and A */
    enum kg_path_why why;
} rows[] = {
    {true, KG_POLICY_AUTO, false, ICE, ICE, STEER, KEEP, STEER, STEER, KEEP, KG_WHY_STEERED},
    {true, KG_POLICY_AUTO, false, ICE, LEGACY, STEER, KEEP, AGENT, UNUSED, OURS, KG_WHY_ONLY_CALLER},
    {true, KG_POLICY_AUTO, false, ICE, MISMATCH, STEER, KEEP, AGENT, UNUSED, OURS, KG_WHY_CALLEE_MISMATCH},
    {true, KG_POLICY_AUTO, false, ICE, REJECTS, STEER, KEEP, UNUSED, UNUSED, NONE, KG_WHY_UNDECIDED},
    {true, KG_POLICY_AUTO, false, LEGACY, ICE, UNUSED, OURS, UNUSED, AGENT, NONE, KG_WHY_ONLY_CALLEE},
    {true, KG_POLICY_AUTO, false, LEGACY, LEGACY, UNUSED, OURS, UNUSED, UNUSED, NONE, KG_WHY_NEITHER},
    {true, KG_POLICY_AUTO, false, MISMATCH, ICE, UNUSED, OURS, UNUSED, AGENT, NONE, KG_WHY_CALLER_MISMATCH},
    {true, KG_POLICY_AUTO, false, REJECTS, REJECTS, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_UNDECIDED},
    /* A PBX is offered ICE only where the phone does it. */
    {true, KG_POLICY_AUTO, true, LEGACY, LEGACY, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_NEITHER},
    {true, KG_POLICY_AUTO, true, LEGACY, ICE, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_NEITHER},
    {true, KG_POLICY_AUTO, true, ICE, ICE, STEER, KEEP, STEER, STEER, KEEP, KG_WHY_STEERED},
    {true, KG_POLICY_AUTO, true, ICE, LEGACY, STEER, KEEP, AGENT, UNUSED, OURS, KG_WHY_ONLY_CALLER},

    {true, KG_POLICY_STEER, false, ICE, ICE, STEER, KEEP, STEER, STEER, KEEP, KG_WHY_STEERED},
    {true, KG_POLICY_STEER, false, ICE, LEGACY, STEER, KEEP, AGENT, UNUSED, OURS, KG_WHY_STEER_ONLY_CALLER},
    {true, KG_POLICY_STEER, false, LEGACY, ICE, UNUSED, OURS, UNUSED, AGENT, NONE, KG_WHY_STEER_ONLY_CALLEE},
    {true, KG_POLICY_STEER, false, LEGACY, LEGACY, UNUSED, OURS, UNUSED, UNUSED, NONE, KG_WHY_STEER_NEITHER},
    {true, KG_POLICY_STEER, false, ICE, MISMATCH, STEER, KEEP, AGENT, UNUSED, OURS, KG_WHY_CALLEE_MISMATCH},

    {true, KG_POLICY_ANCHOR, false, ICE, ICE, UNUSED, OURS, AGENT, AGENT, OURS, KG_WHY_POLICY_ANCHOR},
    {true, KG_POLICY_ANCHOR, false, ICE, LEGACY, UNUSED, OURS, AGENT, UNUSED, OURS, KG_WHY_POLICY_ANCHOR},
    {true, KG_POLICY_ANCHOR, false, LEGACY, ICE, UNUSED, OURS, UNUSED, AGENT, NONE, KG_WHY_POLICY_ANCHOR},
    {true, KG_POLICY_ANCHOR, false, LEGACY, LEGACY, UNUSED, OURS, UNUSED, UNUSED, NONE, KG_WHY_POLICY_ANCHOR},
    {true, KG_POLICY_ANCHOR, true, ICE, ICE, UNUSED, NONE, AGENT, UNUSED, OURS, KG_WHY_POLICY_ANCHOR},

    {true, KG_POLICY_BYPASS, false, ICE, ICE, UNUSED, OURS, AGENT, AGENT, OURS, KG_WHY_POLICY_BYPASS},
    {true, KG_POLICY_BYPASS, false, LEGACY, LEGACY, UNUSED, OURS, UNUSED, UNUSED, NONE, KG_WHY_POLICY_BYPASS},

    {false, KG_POLICY_AUTO, false, ICE, ICE, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_ICE_OFF},
    {false, KG_POLICY_STEER, false, ICE, LEGACY, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_ICE_OFF},
    {false, KG_POLICY_ANCHOR, true, LEGACY, ICE, UNUSED, NONE, UNUSED, UNUSED, NONE, KG_WHY_ICE_OFF},
};

static void test_every_combination(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_path_rules rules = {
            .ice = rows[i].ice, .policy = rows[i].policy, .trusted = {false, rows[i].b_trusted}};
        struct kg_path_line offer, line = call(&rules, rows[i].a, rows[i].b, &offer);
        if (offer.use[KG_SIDE_A] != rows[i].offer_use || offer.text[KG_SIDE_B] != rows[i].offer ||
            line.use[KG_SIDE_A] != rows[i].use_a || line.use[KG_SIDE_B] != rows[i].use_b ||
            line.text[KG_SIDE_A] != rows[i].answer || line.why != rows[i].why)
            fail_msg("row %zu: offer %d/%d, answer %d %d/%d, why %d", i, offer.use[0], offer.text[1],
                     line.use[0], line.use[1], line.text[0], line.why);
        assert_int_equal(line.use[KG_SIDE_A] == STEER, line.use[KG_SIDE_B] == STEER); /* both or neither */
    }
}

static void test_every_reason_is_a_sentence(void **state)
{
    (void)state;
    for (int why = 0; why < KG_WHY_COUNT; why++) {
        assert_non_null(kg_path_why_text((enum kg_path_why)why));
        assert_true(strlen(kg_path_why_text((enum kg_path_why)why)) > 10);
    }
}

/* Both known and in talk, with these uses; `from` offers. */
static struct kg_path_line again(const struct kg_path_rules *rules, enum says a, enum says b, uint8_t use_a,
                                 uint8_t use_b, enum kg_side from)
{
    struct kg_path_facts facts = {.use = {use_a, use_b}};
    say(&facts, KG_SIDE_A, a);
    say(&facts, KG_SIDE_B, b);
    return kg_path_offer(rules, &facts, from);
}

static void test_later_offers(void **state)
{
    (void)state;
    /* A restart on a steered line passes, both ways. */
    struct kg_path_line line = again(&automatic, ICE, ICE, STEER, STEER, KG_SIDE_B);
    assert_int_equal(line.text[KG_SIDE_A], KEEP);
    assert_int_equal(line.use[KG_SIDE_A], STEER);
    assert_int_equal(line.use[KG_SIDE_B], STEER);
    /* On an anchored one each side goes on with kedge; the text for the offerer is there for an absorbed one.
     */
    line = again(&automatic, ICE, ICE, AGENT, AGENT, KG_SIDE_A);
    assert_int_equal(line.text[KG_SIDE_B], OURS);
    assert_int_equal(line.text[KG_SIDE_A], OURS);
    assert_int_equal(line.use[KG_SIDE_A], AGENT);
    assert_int_equal(line.use[KG_SIDE_B], AGENT);
    line = again(&automatic, ICE, LEGACY, AGENT, UNUSED, KG_SIDE_A);
    assert_int_equal(line.text[KG_SIDE_B], NONE);
    assert_int_equal(line.use[KG_SIDE_A], AGENT);
    line = again(&automatic, ICE, LEGACY, AGENT, UNUSED, KG_SIDE_B);
    assert_int_equal(line.text[KG_SIDE_A], OURS);
    assert_int_equal(line.use[KG_SIDE_A], AGENT);
    /* A steered side stops doing ICE: the other one has kedge left. */
    line = again(&automatic, LEGACY, ICE, STEER, STEER, KG_SIDE_A);
    assert_int_equal(line.text[KG_SIDE_B], OURS);
    assert_int_equal(line.use[KG_SIDE_A], UNUSED);
    assert_int_equal(line.use[KG_SIDE_B], AGENT);
    /* An m-line that is new in talk is as in a new call. */
    struct kg_path_facts fresh = {.known = {true, true}, .enabled = {true}, .ice = {true}};
    assert_int_equal(kg_path_offer(&automatic, &fresh, KG_SIDE_A).text[KG_SIDE_B], KEEP);
    struct kg_path_rules apart = automatic;
    apart.apart = true;
    assert_int_equal(kg_path_offer(&apart, &fresh, KG_SIDE_A).text[KG_SIDE_B], OURS);
}

static void test_upgrade(void **state)
{
    (void)state;
    struct kg_path_rules rules = automatic;
    rules.apart = rules.upgrade = true;
    struct kg_path_facts facts = {.use = {AGENT, AGENT}};
    say(&facts, KG_SIDE_A, ICE);
    say(&facts, KG_SIDE_B, ICE);
    struct kg_path_line line = kg_path_offer(&rules, &facts, KG_SIDE_A);
    assert_int_equal(line.text[KG_SIDE_B], KEEP);
    assert_int_equal(line.use[KG_SIDE_A], AGENT); /* make before break */
    assert_int_equal(line.use[KG_SIDE_B], AGENT);
    facts.told[KG_SIDE_B] = line.text[KG_SIDE_B];
    line = kg_path_answer(&rules, &facts, KG_SIDE_B);
    assert_int_equal(line.use[KG_SIDE_A], STEER);
    assert_int_equal(line.use[KG_SIDE_B], STEER);
    assert_int_equal(line.text[KG_SIDE_A], KEEP);
}

static void test_renewal(void **state)
{
    (void)state;
    struct kg_path_rules rules = automatic;
    rules.apart = true;
    struct kg_path_facts facts = {.use = {STEER, STEER}, .told = {OURS, KEEP}};
    say(&facts, KG_SIDE_A, ICE);
    say(&facts, KG_SIDE_B, ICE);
    struct kg_path_line line = kg_path_renewal(&rules, &facts, KG_SIDE_A); /* the first of a fallback */
    assert_int_equal(line.use[KG_SIDE_A], AGENT);
    assert_int_equal(line.use[KG_SIDE_B], AGENT);
    assert_int_equal(line.why, KG_WHY_FELL_BACK);
    facts = (struct kg_path_facts){.use = {AGENT, UNUSED}, .told = {OURS, NONE}};
    say(&facts, KG_SIDE_A, ICE);
    say(&facts, KG_SIDE_B, LEGACY);
    line = kg_path_renewal(&automatic, &facts, KG_SIDE_A);
    assert_int_equal(line.use[KG_SIDE_A], AGENT);
    assert_int_equal(line.use[KG_SIDE_B], UNUSED);
    assert_int_equal(line.why, KG_WHY_ONLY_CALLER);
}

/* ---- a call ---- */

static struct kg_path path;
static int64_t now;

static struct kg_path_action run(struct kg_path_event event)
{
    return kg_path_run(&path, &event, now);
}

#define RUN(...) run((struct kg_path_event){__VA_ARGS__})

/* Time passes; asked until nothing more is to be done. Returns the last action that was one. */
static struct kg_path_action later(int64_t ms, bool ready)
{
    struct kg_path_action last = {.what = KG_PATH_NOTHING};
    now += ms;
    for (int i = 0; i < 5; i++) {
        struct kg_path_action action = RUN(.type = KG_PATH_EV_TICK, .ready = ready);
        if (action.what == KG_PATH_NOTHING)
            return last;
        last = action;
        if (action.what == KG_PATH_RENEW || action.what == KG_PATH_UPGRADE)
            ready = false; /* the dialog is busy with it */
    }
    fail_msg("does not come to rest");
    return last;
}

static void start(bool steered)
{
    now = 1000000;
    kg_path_init(&path);
    RUN(.type = KG_PATH_EV_AGREED, .steered = steered, .why = steered ? KG_WHY_STEERED : KG_WHY_ONLY_CALLER);
}

static void find_pair(enum kg_side side)
{
    RUN(.type = KG_PATH_EV_ICE, .side = side, .ice = KG_ICE_CONNECTED);
}

static void test_names(void **state)
{
    (void)state;
    start(true);
    assert_string_equal(kg_path_name(&path), "direct");
    RUN(.type = KG_PATH_EV_RELAYED, .relayed = true);
    assert_string_equal(kg_path_name(&path), "relayed by kedge");
    assert_non_null(strstr(kg_path_reason(&path), "no better path"));
    start(false);
    RUN(.type = KG_PATH_EV_RELAYED, .relayed = true); /* nonsense, of an anchored call */
    assert_string_equal(kg_path_name(&path), "anchored");
    assert_true(path.deadline_ms == INT64_MAX);
}

static void test_consent_lost_restarts_the_leg(void **state)
{
    (void)state;
    start(false);
    find_pair(KG_SIDE_A);
    assert_int_equal(RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_DISCONNECTED).what,
                     KG_PATH_NOTHING);
    assert_int_equal(later(0, false).what, KG_PATH_NOTHING); /* an offer of somebody else's is under way */
    struct kg_path_action action = later(250, true);
    assert_int_equal(action.what, KG_PATH_RENEW);
    assert_int_equal(action.side, KG_SIDE_A);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
    find_pair(KG_SIDE_A);
    assert_int_equal(later(KG_PATH_CONNECT_MS * 2, true).what, KG_PATH_NOTHING);
    assert_true(path.deadline_ms == INT64_MAX);
}

/* An engine that was killed: its successor has a pair before anybody could offer the phone new keys. */
static void test_keys_are_offered_whatever_ice_finds(void **state)
{
    (void)state;
    start(false);
    find_pair(KG_SIDE_A);
    assert_int_equal(RUN(.type = KG_PATH_EV_REKEY, .side = KG_SIDE_A).what, KG_PATH_NOTHING);
    find_pair(KG_SIDE_A);
    struct kg_path_action action = later(0, true);
    assert_int_equal(action.what, KG_PATH_RENEW);
    assert_int_equal(action.side, KG_SIDE_A);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
    assert_int_equal(later(KG_PATH_CONNECT_MS * 2, true).what, KG_PATH_NOTHING);
    assert_false(path.leg[KG_SIDE_A].rekey);
    assert_int_equal(path.leg[KG_SIDE_A].health, KG_PATH_FINE);
    /* It dies while that phone looks for another path. */
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_DISCONNECTED);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
    assert_int_equal(path.leg[KG_SIDE_A].health, KG_PATH_MENDING);
    RUN(.type = KG_PATH_EV_REKEY, .side = KG_SIDE_A);
    find_pair(KG_SIDE_A);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
}

static void test_nobody_answers_the_restart(void **state)
{
    (void)state;
    start(false);
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_B, .ice = KG_ICE_DISCONNECTED);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
    assert_int_equal(later(KG_PATH_ANSWER_MS - 1, false).what, KG_PATH_NOTHING);
    struct kg_path_action action = later(1, false);
    assert_int_equal(action.what, KG_PATH_END);
    assert_int_equal(action.side, KG_SIDE_B);
    assert_non_null(action.why);
}

/* The ladder: restart, the same without ICE, the end. */
static void test_the_restart_finds_nothing(void **state)
{
    (void)state;
    for (int how = 0; how < 3;
         how++) { /* said by the agent, by time, or by an answer that restarts nothing */
        start(false);
        RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_DISCONNECTED);
        assert_int_equal(later(0, true).what, KG_PATH_RENEW);
        assert_false(path.leg[KG_SIDE_A].plain);
        RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true, .stubborn = how == 2);
        if (how == 0)
            RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_FAILED);
        later(how == 1 ? KG_PATH_CONNECT_MS : 0, false);
        assert_int_equal(later(0, true).what, KG_PATH_RENEW);
        assert_true(path.leg[KG_SIDE_A].plain);
        if (how == 0) { /* it goes on by latching */
            RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true, .stubborn = true);
            assert_true(path.deadline_ms == INT64_MAX);
            RUN(.type = KG_PATH_EV_RESTARTED, .side = KG_SIDE_A);
            assert_false(path.leg[KG_SIDE_A].plain); /* it does ICE again */
        } else {
            assert_int_equal(later(KG_PATH_ANSWER_MS, false).what, KG_PATH_END);
        }
    }
}

static void test_a_refused_restart_is_tried_once_more(void **state)
{
    (void)state;
    start(false);
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_FAILED);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
    assert_int_equal(RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A).what, KG_PATH_NOTHING);
    assert_int_equal(later(KG_PATH_AGAIN_MS - 1, true).what, KG_PATH_NOTHING);
    assert_int_equal(later(1, true).what, KG_PATH_RENEW);
    assert_int_equal(RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A).what, KG_PATH_END);
}

static void test_the_phone_restarts_itself(void **state)
{
    (void)state;
    start(false);
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_DISCONNECTED);
    RUN(.type = KG_PATH_EV_RESTARTED, .side = KG_SIDE_A);
    assert_int_equal(later(250, true).what, KG_PATH_NOTHING);
    find_pair(KG_SIDE_A);
    assert_int_equal(later(KG_PATH_CONNECT_MS, true).what, KG_PATH_NOTHING);

    start(true);
    RUN(.type = KG_PATH_EV_MOVED, .side = KG_SIDE_B);
    RUN(.type = KG_PATH_EV_RESTARTED, .side = KG_SIDE_B);
    assert_int_equal(later(KG_PATH_GRACE_MS * 2, true).what, KG_PATH_NOTHING);
}

/* A page that comes back over another WebSocket is asked at once; one whose restart had to wait as well. */
static void test_a_page_comes_back(void **state)
{
    (void)state;
    start(false);
    find_pair(KG_SIDE_A);
    RUN(.type = KG_PATH_EV_RETURNED, .side = KG_SIDE_A);
    struct kg_path_action action = later(0, true);
    assert_int_equal(action.what, KG_PATH_RENEW);
    assert_int_equal(action.side, KG_SIDE_A);
    RUN(.type = KG_PATH_EV_RETURNED, .side = KG_SIDE_A); /* and again: one offer is under way */
    assert_int_equal(later(0, true).what, KG_PATH_NOTHING);

    start(false);
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_A, .ice = KG_ICE_DISCONNECTED);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .unreachable = true);
    assert_int_equal(later(1, true).what, KG_PATH_NOTHING);
    RUN(.type = KG_PATH_EV_RETURNED, .side = KG_SIDE_A);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);

    start(true);
    RUN(.type = KG_PATH_EV_RETURNED, .side = KG_SIDE_B);
    assert_int_equal(later(KG_PATH_GRACE_MS - 1, true).what, KG_PATH_NOTHING);
    assert_int_equal(later(1, true).what, KG_PATH_RENEW);
    assert_true(path.fell_back);
}

/* Moved or left: the same. */
static void test_fallback(void **state)
{
    (void)state;
    for (int moved = 0; moved < 2; moved++) {
        start(true);
        RUN(.type = moved ? KG_PATH_EV_MOVED : KG_PATH_EV_LEFT, .side = KG_SIDE_B);
        assert_int_equal(later(KG_PATH_GRACE_MS - 1, true).what, KG_PATH_NOTHING);
        now += 1;
        struct kg_path_action action = RUN(.type = KG_PATH_EV_TICK, .ready = true);
        assert_int_equal(action.what, KG_PATH_FALL_BACK);
        assert_int_equal(action.side, KG_SIDE_B);
        action = later(0, true);
        assert_int_equal(action.what, KG_PATH_RENEW);
        assert_int_equal(action.side, KG_SIDE_B); /* who needs it most */
        RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_FELL_BACK, .both = true);
        RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_B, .ok = true);
        action = later(250, true);
        assert_int_equal(action.what, KG_PATH_RENEW);
        assert_int_equal(action.side, KG_SIDE_A);
        RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_FELL_BACK, .both = true);
        RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
        find_pair(KG_SIDE_A);
        find_pair(KG_SIDE_B);
        assert_string_equal(kg_path_name(&path), "anchored");
        assert_non_null(strstr(kg_path_reason(&path), "was lost"));
        assert_true(path.fell_back);
        assert_int_equal(later(9000, true).what, KG_PATH_NOTHING);
    }
}

static void test_a_refused_fallback_changes_nothing(void **state)
{
    (void)state;
    start(true);
    RUN(.type = KG_PATH_EV_LEFT, .side = KG_SIDE_A);
    later(KG_PATH_GRACE_MS, true);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A);
    assert_int_equal(later(KG_PATH_AGAIN_MS, true).what, KG_PATH_RENEW);
    assert_int_equal(RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A).what, KG_PATH_NOTHING);
    assert_string_equal(kg_path_name(&path), "direct");
    assert_false(path.fell_back);
    assert_true(path.deadline_ms == INT64_MAX);
}

/* `side`'s re-INVITEs fail at once from now on, until the path ends. Returns after how many ms. */
static int64_t unreachable_until_end(enum kg_side side)
{
    int64_t since = now;
    for (int tries = 0; tries < 20; tries++) {
        if (RUN(.type = KG_PATH_EV_RENEWED, .side = side, .unreachable = true).what == KG_PATH_END)
            return now - since;
        assert_true(path.deadline_ms > now && path.deadline_ms - now <= KG_PATH_AGAIN_MS);
        struct kg_path_action action = later(path.deadline_ms - now, true);
        assert_int_equal(action.what, KG_PATH_RENEW);
        assert_int_equal(action.side, side);
    }
    fail_msg("does not end");
    return 0;
}

/* Neither leg of a fallback, nor one that lost consent, stays silent for ever. */
static void test_a_phone_that_cannot_be_reached_ends_the_call(void **state)
{
    (void)state;
    start(true); /* the first leg of a fallback: still steered */
    RUN(.type = KG_PATH_EV_LEFT, .side = KG_SIDE_A);
    assert_int_equal(later(KG_PATH_GRACE_MS, true).what, KG_PATH_RENEW);
    assert_int_equal(unreachable_until_end(KG_SIDE_A), KG_PATH_ANSWER_MS);
    assert_true(path.deadline_ms == INT64_MAX);

    start(true); /* the second */
    RUN(.type = KG_PATH_EV_LEFT, .side = KG_SIDE_A);
    assert_int_equal(later(KG_PATH_GRACE_MS, true).what, KG_PATH_RENEW);
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_FELL_BACK, .both = true);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
    assert_int_equal(later(0, true).side, KG_SIDE_B);
    assert_int_equal(unreachable_until_end(KG_SIDE_B), KG_PATH_ANSWER_MS);

    start(false);
    RUN(.type = KG_PATH_EV_ICE, .side = KG_SIDE_B, .ice = KG_ICE_DISCONNECTED);
    assert_int_equal(later(0, true).what, KG_PATH_RENEW);
    assert_int_equal(unreachable_until_end(KG_SIDE_B), KG_PATH_ANSWER_MS);
}

/* Its REGISTER comes from elsewhere in time. */
static void test_a_phone_that_can_be_reached_again_goes_on(void **state)
{
    (void)state;
    start(true);
    RUN(.type = KG_PATH_EV_LEFT, .side = KG_SIDE_A);
    assert_int_equal(later(KG_PATH_GRACE_MS, true).what, KG_PATH_RENEW);
    for (int tries = 0; tries < 6; tries++) {
        assert_int_equal(RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .unreachable = true).what,
                         KG_PATH_NOTHING);
        assert_int_equal(later(KG_PATH_AGAIN_MS, true).what, KG_PATH_RENEW);
    }
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_FELL_BACK, .both = true);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_A, .ok = true);
    find_pair(KG_SIDE_A);
    assert_int_equal(later(0, true).side, KG_SIDE_B);
    RUN(.type = KG_PATH_EV_RENEWED, .side = KG_SIDE_B, .ok = true);
    find_pair(KG_SIDE_B);
    assert_int_equal(later(9000, true).what, KG_PATH_NOTHING);
    assert_string_equal(kg_path_name(&path), "anchored");
}

static void test_upgrades_are_tried_three_times(void **state)
{
    (void)state;
    static const int64_t delay[] = {10000, 60000, 300000};
    start(false);
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_FELL_BACK, .both = true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(later(delay[i] - 1, true).what, KG_PATH_NOTHING);
        assert_int_equal(later(1, true).what, KG_PATH_UPGRADE);
        RUN(.type = KG_PATH_EV_UPGRADED);
    }
    assert_true(path.deadline_ms == INT64_MAX);
    assert_int_equal(later(10000000, true).what, KG_PATH_NOTHING);
}

static void test_an_upgrade_waits_for_the_end_of_hold(void **state)
{
    (void)state;
    start(false);
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_BOTH_APART, .both = true);
    now += 10000;
    assert_int_equal(RUN(.type = KG_PATH_EV_TICK, .ready = true, .held = true).what, KG_PATH_NOTHING);
    assert_int_equal(later(KG_PATH_HELD_MS - 1, true).what, KG_PATH_NOTHING);
    assert_int_equal(later(1, true).what, KG_PATH_UPGRADE);
    path.fell_back = true;
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_STEERED, .steered = true);
    RUN(.type = KG_PATH_EV_UPGRADED, .ok = true);
    assert_string_equal(kg_path_name(&path), "direct");
    assert_false(path.fell_back); /* later offers are steered again */
    assert_true(path.deadline_ms == INT64_MAX);
}

static void test_no_upgrade_where_a_side_does_no_ice(void **state)
{
    (void)state;
    start(false);
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_BOTH_APART, .both = true);
    RUN(.type = KG_PATH_EV_AGREED, .why = KG_WHY_ONLY_CALLER); /* the other one stopped */
    assert_true(path.deadline_ms == INT64_MAX);
}

/* Whatever comes in whatever order: it comes to rest, and never does anything with a busy dialog. */
static void test_any_events(void **state)
{
    (void)state;
    uint32_t seed = 1;
    start(true);
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1664525u + 1013904223u;
        struct kg_path_event event = {.type = (enum kg_path_event_type)(seed >> 8) % (KG_PATH_EV_TICK + 1),
                                      .side = (enum kg_side)(seed >> 12 & 1),
                                      .ice = (enum kg_ice_state)((seed >> 13) % (KG_ICE_FAILED + 1)),
                                      .steered = seed >> 17 & 1,
                                      .relayed = seed >> 18 & 1,
                                      .ok = seed >> 19 & 1,
                                      .both = seed >> 20 & 1,
                                      .unreachable = seed >> 22 & 1,
                                      .ready = seed >> 21 & 1};
        event.both &= !event.steered;
        now += seed >> 22;
        struct kg_path_action action = run(event);
        bool acts = action.what == KG_PATH_RENEW || action.what == KG_PATH_UPGRADE ||
                    action.what == KG_PATH_FALL_BACK;
        assert_false(acts && !event.ready);
        assert_non_null(kg_path_reason(&path));
        assert_true(path.upgrades <= KG_PATH_UPGRADES_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_every_reason_is_a_sentence),
        cmocka_unit_test(test_later_offers),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_consent_lost_restarts_the_leg),
        cmocka_unit_test(test_keys_are_offered_whatever_ice_finds),
        cmocka_unit_test(test_nobody_answers_the_restart),
        cmocka_unit_test(test_the_restart_finds_nothing),
        cmocka_unit_test(test_a_refused_restart_is_tried_once_more),
        cmocka_unit_test(test_the_phone_restarts_itself),
        cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_a_refused_fallback_changes_nothing),
        cmocka_unit_test(test_a_phone_that_cannot_be_reached_ends_the_call),
        cmocka_unit_test(test_a_phone_that_can_be_reached_again_goes_on),
        cmocka_unit_test(test_upgrades_are_tried_three_times),
        cmocka_unit_test(test_an_upgrade_waits_for_the_end_of_hold),
        cmocka_unit_test(test_no_upgrade_where_a_side_does_no_ice),
        cmocka_unit_test(test_a_page_comes_back),
        cmocka_unit_test(test_any_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
