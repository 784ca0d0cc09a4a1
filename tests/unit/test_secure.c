/* How media is secured: in which shape a peer is offered it, and what each m-line does then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/habits.h"

#define AS    KG_SHAPE_AS_IT_CAME
#define PLAIN KG_SHAPE_PLAIN
#define OPP   KG_SHAPE_OPPORTUNISTIC
#define SDES  KG_SHAPE_SDES
#define DTLS  KG_SHAPE_DTLS
#define WEB   KG_SHAPE_WEB
#define BIT   KG_SHAPE_BIT

/* ---- toward whom which ---- */

static const struct {
    enum kg_profile word;
    bool web;
    enum kg_shape offered;
    uint8_t refused, shown;
    enum kg_shape order[KG_SHAPE_TRIES];
} choices[] = {
    {KG_PROFILE_AUTO, false, PLAIN, 0, 0, {PLAIN, SDES, DTLS, WEB}},
    {KG_PROFILE_AUTO, false, OPP, 0, 0, {OPP, PLAIN, SDES, DTLS}},
    {KG_PROFILE_AUTO, false, SDES, 0, 0, {SDES, OPP, PLAIN, DTLS}},
    {KG_PROFILE_AUTO, false, DTLS, 0, 0, {DTLS, SDES, OPP, PLAIN}},
    {KG_PROFILE_AUTO, false, WEB, 0, 0, {PLAIN, SDES, DTLS, WEB}},
    {KG_PROFILE_AUTO, false, AS, 0, 0, {AS}},
    /* A browser understands nothing else, whatever the word says. */
    {KG_PROFILE_AUTO, true, PLAIN, 0, 0, {WEB, PLAIN}},
    {KG_PROFILE_AUTO, true, WEB, 0, 0, {WEB, PLAIN}},
    {KG_PROFILE_PLAIN, true, SDES, 0, 0, {WEB, PLAIN}},
    {KG_PROFILE_OPPORTUNISTIC, true, SDES, 0, 0, {WEB, PLAIN}},
    /* Whoever refuses that is asked for nothing in the clear where the word demands keys. */
    {KG_PROFILE_SDES, true, SDES, 0, 0, {WEB}},
    {KG_PROFILE_DTLS, true, PLAIN, 0, 0, {WEB}},
    {KG_PROFILE_WEBRTC, true, PLAIN, 0, 0, {WEB}},
    {KG_PROFILE_WEBRTC, true, PLAIN, BIT(WEB), 0, {WEB}},
    /* One word leaves no choice; but keys with RTP/AVP are refused by some who would take it without. */
    {KG_PROFILE_PLAIN, false, SDES, 0, 0, {PLAIN}},
    {KG_PROFILE_SDES, false, PLAIN, 0, 0, {SDES}},
    {KG_PROFILE_DTLS, false, PLAIN, 0, 0, {DTLS}},
    {KG_PROFILE_WEBRTC, false, PLAIN, 0, 0, {WEB}},
    {KG_PROFILE_OPPORTUNISTIC, false, WEB, 0, 0, {OPP, PLAIN}},
    {KG_PROFILE_DEFAULT, false, SDES, 0, 0, {SDES, OPP, PLAIN, DTLS}},
    /* What was refused once comes last: the second call is right at once. */
    {KG_PROFILE_AUTO, false, PLAIN, BIT(PLAIN), 0, {SDES, DTLS, WEB, PLAIN}},
    {KG_PROFILE_AUTO, false, PLAIN, BIT(PLAIN) | BIT(SDES), 0, {DTLS, WEB, PLAIN, SDES}},
    {KG_PROFILE_AUTO, false, SDES, BIT(SDES) | BIT(OPP), 0, {PLAIN, DTLS, SDES, OPP}},
    {KG_PROFILE_OPPORTUNISTIC, false, PLAIN, BIT(OPP), 0, {PLAIN, OPP}},
    /* A phone that offers nothing but SRTP itself is not asked for RTP first; one that offers both is. */
    {KG_PROFILE_AUTO, false, PLAIN, 0, BIT(SDES), {SDES, PLAIN, DTLS, WEB}},
    {KG_PROFILE_AUTO, false, WEB, 0, BIT(DTLS), {DTLS, SDES, WEB}},
    {KG_PROFILE_AUTO, false, OPP, 0, BIT(SDES), {SDES, OPP, PLAIN, DTLS}},
    {KG_PROFILE_AUTO, false, PLAIN, 0, BIT(SDES) | BIT(PLAIN), {PLAIN, SDES, DTLS, WEB}},
    /* Who offers RTP may well take SRTP: end to end is tried. */
    {KG_PROFILE_AUTO, false, SDES, 0, BIT(PLAIN), {SDES, OPP, PLAIN, DTLS}},
    {KG_PROFILE_AUTO, false, DTLS, 0, BIT(OPP), {DTLS, SDES, OPP, PLAIN}},
    /* Who is known for keys is not led into the clear by a refusal, which could be anybody's; unless the
     * caller has no keys either, or the operator's word is another. */
    {KG_PROFILE_AUTO, false, SDES, 0, BIT(SDES), {SDES, DTLS}},
    {KG_PROFILE_AUTO, false, SDES, BIT(SDES), BIT(DTLS), {DTLS, SDES}},
    {KG_PROFILE_DEFAULT, false, DTLS, 0, BIT(SDES), {DTLS, SDES}},
    {KG_PROFILE_AUTO, false, WEB, 0, BIT(SDES), {SDES, DTLS, WEB}},
    {KG_PROFILE_AUTO, false, WEB, BIT(SDES) | BIT(DTLS), BIT(SDES), {WEB, SDES, DTLS}},
    {KG_PROFILE_AUTO, true, WEB, 0, BIT(WEB), {WEB}},
    {KG_PROFILE_AUTO, true, PLAIN, 0, BIT(WEB), {WEB, PLAIN}},
    {KG_PROFILE_OPPORTUNISTIC, false, SDES, 0, BIT(SDES), {OPP, PLAIN}},
};

static void test_each_peer_is_asked_for_what_it_likely_takes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        struct kg_shape_facts facts = {.word = choices[i].word,
                                       .web = choices[i].web,
                                       .offered = choices[i].offered,
                                       .refused = choices[i].refused,
                                       .shown = choices[i].shown};
        enum kg_shape out[KG_SHAPE_TRIES];
        size_t want = 1, count = kg_shapes(&facts, out);
        while (want < KG_SHAPE_TRIES && choices[i].order[want] != AS)
            want++;
        if (count != want || memcmp(out, choices[i].order, count * sizeof out[0]) != 0)
            fail_msg("row %zu: %zu shapes, the first %s", i, count, kg_shape_name(out[0]));
    }
}

/* What it took once counts as what it offers; but it stays the second choice where the caller has no keys. */
static void test_who_took_keys_is_known_for_them(void **state)
{
    (void)state;
    struct kg_shape_facts facts = {.offered = DTLS, .taken = BIT(SDES), .refused = BIT(DTLS) | BIT(SDES)};
    enum kg_shape out[KG_SHAPE_TRIES];
    assert_int_equal(kg_shapes(&facts, out), 2);
    assert_memory_equal(out, ((enum kg_shape[]){DTLS, SDES}), 2 * sizeof out[0]);
    assert_true(kg_shapes_keep_keys(&facts));
    facts = (struct kg_shape_facts){.offered = PLAIN, .taken = BIT(SDES)};
    assert_int_equal(kg_shapes(&facts, out), 4);
    assert_memory_equal(out, ((enum kg_shape[]){PLAIN, SDES, DTLS, WEB}), sizeof out);
    assert_false(kg_shapes_keep_keys(&facts));
    facts = (struct kg_shape_facts){.offered = SDES, .taken = BIT(SDES), .shown = BIT(PLAIN)};
    assert_int_equal(kg_shapes(&facts, out), 4);
    assert_false(kg_shapes_keep_keys(&facts));
}

#define HOUR INT64_C(3600000)

static struct kg_shape_facts recall(struct kg_habits *habits, enum kg_transport transport, int64_t now_ms)
{
    struct kg_addr phone;
    struct kg_shape_facts facts = {.refused = 0xff, .shown = 0xff, .taken = 0xff};
    assert_int_equal(kg_addr_parse("192.0.2.7:5060", &phone), 0);
    kg_habits_recall(habits, transport, &phone, now_ms, &facts);
    return facts;
}

/* A refusal that was forged once makes no day of calls in the clear. */
static void test_what_a_refusal_is_remembered_for(void **state)
{
    (void)state;
    struct kg_habits *habits = kg_habits_new();
    struct kg_addr phone;
    assert_non_null(habits);
    assert_int_equal(kg_addr_parse("192.0.2.7:5060", &phone), 0);
    kg_habits_took(habits, KG_UDP, &phone, 0, BIT(DTLS) | BIT(SDES), PLAIN);
    assert_int_equal(recall(habits, KG_UDP, HOUR - 1).refused, BIT(DTLS) | BIT(SDES));
    assert_int_equal(recall(habits, KG_UDP, HOUR).refused, 0);
    assert_int_equal(recall(habits, KG_TCP, 0).refused, 0); /* that may be another phone */
    /* Nobody forges that over TLS; and what led to keys does no harm. */
    kg_habits_took(habits, KG_TLS, &phone, 0, BIT(DTLS) | BIT(SDES), PLAIN);
    assert_int_equal(recall(habits, KG_TLS, 24 * HOUR - 1).refused, BIT(DTLS) | BIT(SDES));
    assert_int_equal(recall(habits, KG_TLS, 24 * HOUR).refused, 0);
    kg_habits_took(habits, KG_TCP, &phone, 0, BIT(PLAIN), SDES);
    assert_int_equal(recall(habits, KG_TCP, 24 * HOUR - 1).refused, BIT(PLAIN));
    assert_int_equal(recall(habits, KG_TCP, 24 * HOUR - 1).taken, BIT(SDES));
    assert_int_equal(recall(habits, KG_TCP, 24 * HOUR).taken, 0);
    /* Refusals do not make a memory of keys last for ever; keys do. */
    kg_habits_took(habits, KG_WSS, &phone, 0, 0, SDES);
    kg_habits_took(habits, KG_WSS, &phone, 20 * HOUR, BIT(SDES), DTLS);
    kg_habits_took(habits, KG_WSS, &phone, 30 * HOUR, BIT(DTLS), PLAIN);
    assert_int_equal(recall(habits, KG_WSS, 44 * HOUR - 1).taken, BIT(SDES) | BIT(DTLS));
    assert_int_equal(recall(habits, KG_WSS, 44 * HOUR).taken, 0);
    kg_habits_took(habits, KG_WS, &phone, 0, 0, PLAIN); /* says nothing */
    assert_int_equal(recall(habits, KG_WS, 0).taken, 0);
    kg_habits_free(habits);
}

/* Thousands of others make it forget what protects nobody. */
static void test_who_is_known_for_keys_is_not_forgotten_for_who_is_not(void **state)
{
    (void)state;
    struct kg_habits *habits = kg_habits_new();
    struct kg_addr phone, other;
    char text[32];
    assert_non_null(habits);
    assert_int_equal(kg_addr_parse("192.0.2.7:5060", &phone), 0);
    kg_habits_took(habits, KG_UDP, &phone, 0, 0, SDES);
    for (int i = 0; i < 4 * KG_HABITS_MAX; i++) {
        snprintf(text, sizeof text, "198.51.100.%d:%d", 1 + i % 200, 1024 + i / 200);
        assert_int_equal(kg_addr_parse(text, &other), 0);
        kg_habits_shown(habits, KG_UDP, &other, HOUR, PLAIN);
    }
    assert_int_equal(recall(habits, KG_UDP, 24 * HOUR - 1).taken, BIT(SDES));
    kg_habits_shown(habits, KG_UDP, &other, HOUR, SDES);
    struct kg_shape_facts facts = {0};
    kg_habits_recall(habits, KG_UDP, &other, HOUR, &facts);
    assert_int_equal(facts.shown, BIT(PLAIN) | BIT(SDES)); /* the last of them has a place, and one alone */
    kg_habits_free(habits);
}

static void test_who_refuses_feedback_is_asked_without(void **state)
{
    (void)state;
    struct kg_shape_facts facts = {.offered = SDES, .feedback = true};
    enum kg_shape out[KG_SHAPE_TRIES];
    assert_int_equal(kg_shapes(&facts, out), 4);
    assert_memory_equal(out, ((enum kg_shape[]){SDES, SDES, OPP, PLAIN}), sizeof out);
    facts.offered = WEB; /* what is not as it came has none */
    assert_int_equal(kg_shapes(&facts, out), 4);
    assert_memory_equal(out, ((enum kg_shape[]){PLAIN, SDES, DTLS, WEB}), sizeof out);
    facts.word = KG_PROFILE_PLAIN;
    facts.offered = PLAIN;
    assert_int_equal(kg_shapes(&facts, out), 2);
    assert_memory_equal(out, ((enum kg_shape[]){PLAIN, PLAIN}), 2 * sizeof out[0]);
}

static void test_a_refusal_of_the_shape_is_told_from_others(void **state)
{
    (void)state;
    for (int status = 300; status < 700; status++)
        assert_int_equal(kg_shape_is_refusal(status), status == 415 || status == 488 || status == 606);
}

/* ---- an m-line ---- */

static uint8_t kind_of(enum kg_shape shape)
{
    static const uint8_t kind[] = {
        [AS] = KG_SECURE_PASS,   [PLAIN] = KG_SECURE_PLAIN, [OPP] = KG_SECURE_SDES,
        [SDES] = KG_SECURE_SDES, [DTLS] = KG_SECURE_DTLS,   [WEB] = KG_SECURE_DTLS,
    };
    return kind[shape];
}

static void say(struct kg_secure_facts *facts, enum kg_side side, enum kg_shape shape)
{
    facts->enabled[side] = true;
    facts->said[side] = shape;
    facts->kind[side] = kind_of(shape);
    facts->feedback[side] = shape == WEB;
}

/* A calls B, who takes `answer`. */
static struct kg_secure_line call(enum kg_shape offered, enum kg_shape want, enum kg_shape answer,
                                  struct kg_secure_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    say(facts, KG_SIDE_A, offered);
    struct kg_secure_line line = kg_secure_offer(facts, KG_SIDE_A, want, false);
    facts->told[KG_SIDE_B] = line.text[KG_SIDE_B];
    say(facts, KG_SIDE_B, answer);
    return kg_secure_answer(facts, KG_SIDE_B);
}

#define P KG_SECURE_PASS
#define N KG_SECURE_PLAIN
#define S KG_SECURE_SDES
#define D KG_SECURE_DTLS

static const struct {
    enum kg_shape offered, want, answer;
    enum kg_shape told; /* toward B */
    uint8_t a, b;
    bool sealed;
    enum kg_secure_why why;
} rows[] = {
    /* The nine pairs of RTP, SDES and DTLS. */
    {PLAIN, PLAIN, PLAIN, AS, P, P, false, KG_SECURED_NOT},
    {PLAIN, SDES, SDES, SDES, N, S, false, KG_SECURED_HALF},
    {PLAIN, DTLS, DTLS, DTLS, N, D, false, KG_SECURED_HALF},
    {SDES, PLAIN, PLAIN, PLAIN, S, N, false, KG_SECURED_HALF},
    {SDES, SDES, SDES, AS, P, P, true, KG_SECURED_END_TO_END},
    {SDES, DTLS, DTLS, DTLS, S, D, false, KG_SECURED_DIFFERENTLY},
    {DTLS, PLAIN, PLAIN, PLAIN, D, N, false, KG_SECURED_HALF},
    {DTLS, SDES, SDES, SDES, D, S, false, KG_SECURED_DIFFERENTLY},
    {DTLS, DTLS, DTLS, AS, P, P, true, KG_SECURED_END_TO_END},
    /* Browsers. */
    {WEB, WEB, WEB, AS, P, P, true, KG_SECURED_END_TO_END},
    {WEB, PLAIN, PLAIN, PLAIN, D, N, false, KG_SECURED_HALF},
    {WEB, SDES, SDES, SDES, D, S, false, KG_SECURED_DIFFERENTLY},
    {WEB, DTLS, DTLS, DTLS, D, D, false, KG_SECURED_DIFFERENTLY},
    {PLAIN, WEB, WEB, WEB, N, D, false, KG_SECURED_HALF},
    {SDES, WEB, WEB, WEB, S, D, false, KG_SECURED_DIFFERENTLY},
    {DTLS, WEB, WEB, WEB, D, D, false, KG_SECURED_DIFFERENTLY},
    /* Opportunistic: the answer decides. */
    {OPP, OPP, OPP, AS, P, P, true, KG_SECURED_END_TO_END},
    {OPP, OPP, PLAIN, AS, P, P, false, KG_SECURED_NOT},
    {OPP, PLAIN, PLAIN, PLAIN, S, N, false, KG_SECURED_HALF},
    {PLAIN, OPP, PLAIN, OPP, P, P, false, KG_SECURED_NOT},
    {PLAIN, OPP, OPP, OPP, N, S, false, KG_SECURED_HALF},
    {WEB, OPP, OPP, OPP, D, S, false, KG_SECURED_DIFFERENTLY},
    {WEB, OPP, PLAIN, OPP, D, N, false, KG_SECURED_HALF},
    {AS, AS, AS, AS, P, P, false, KG_SECURED_UNDECIDED}, /* no RTP: as it came */
};

static void test_each_pair_of_offer_and_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_secure_facts facts;
        struct kg_secure_line line = call(rows[i].offered, rows[i].want, rows[i].answer, &facts);
        if (facts.told[KG_SIDE_B] != rows[i].told || line.use[0] != rows[i].a || line.use[1] != rows[i].b ||
            line.sealed != rows[i].sealed || line.why != rows[i].why)
            fail_msg("row %zu: told %d, use %d %d, sealed %d, why %d", i, facts.told[KG_SIDE_B], line.use[0],
                     line.use[1], line.sealed, line.why);
    }
}

static void test_zrtp_passes_where_both_phones_have_it(void **state)
{
    (void)state;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            struct kg_secure_facts facts;
            call(PLAIN, PLAIN, PLAIN, &facts);
            facts.zrtp[KG_SIDE_A] = a;
            facts.zrtp[KG_SIDE_B] = b;
            struct kg_secure_line line = kg_secure_offer(&facts, KG_SIDE_A, PLAIN, false);
            assert_int_equal(line.sealed, a);
            struct kg_secure_line answered[] = {kg_secure_answer(&facts, KG_SIDE_B),
                                                kg_secure_renewal(&facts, KG_SIDE_B)};
            for (int i = 0; i < 2; i++) {
                assert_int_equal(answered[i].use[KG_SIDE_A], KG_SECURE_PASS);
                assert_int_equal(answered[i].sealed, a && b);
                assert_int_equal(answered[i].why, a && b ? KG_SECURED_ZRTP : KG_SECURED_NOT);
            }
        }
    /* Keys in SDP on one side, ZRTP on the other: they have none in common. */
    struct kg_secure_facts facts;
    call(OPP, OPP, PLAIN, &facts);
    facts.zrtp[KG_SIDE_B] = true;
    struct kg_secure_line line = kg_secure_answer(&facts, KG_SIDE_B);
    assert_false(line.sealed);
    assert_int_equal(line.why, KG_SECURED_NOT);
}

static void test_rtcp_feedback_is_kept_from_who_did_not_offer_it(void **state)
{
    (void)state;
    struct kg_secure_facts facts;
    memset(&facts, 0, sizeof facts);
    say(&facts, KG_SIDE_A, PLAIN);
    facts.feedback[KG_SIDE_A] = true;
    facts.told[KG_SIDE_B] = OPP;
    say(&facts, KG_SIDE_B, PLAIN);
    struct kg_secure_line line = kg_secure_answer(&facts, KG_SIDE_B);
    assert_int_equal(line.use[KG_SIDE_A], KG_SECURE_PLAIN);
    assert_int_equal(line.use[KG_SIDE_B], KG_SECURE_PLAIN);
}

static void test_a_rejected_line_has_nothing(void **state)
{
    (void)state;
    struct kg_secure_facts facts;
    call(SDES, PLAIN, PLAIN, &facts);
    facts.enabled[KG_SIDE_B] = false;
    struct kg_secure_line line = kg_secure_answer(&facts, KG_SIDE_B);
    assert_int_equal(line.use[KG_SIDE_A], KG_SECURE_PASS);
    assert_int_equal(line.why, KG_SECURED_UNDECIDED);
}

/* What was agreed goes on: the wish of the moment does not count any more. */
static void test_offers_in_talk_keep_what_was_agreed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kg_secure_facts facts;
        struct kg_secure_line line = call(rows[i].offered, rows[i].want, rows[i].answer, &facts);
        bool passes = line.use[0] == KG_SECURE_PASS;
        memcpy(facts.use, line.use, sizeof facts.use);
        facts.told[KG_SIDE_A] = line.text[KG_SIDE_A];
        facts.known = true;
        for (int side = 0; side < 2; side++) {
            int other = 1 - side;
            struct kg_secure_line offer = kg_secure_offer(&facts, (enum kg_side)side, WEB, false);
            assert_int_equal(offer.text[other], passes ? AS : facts.told[other]);
            assert_int_equal(offer.use[side], passes ? P : facts.use[side]);
            struct kg_secure_line answer = kg_secure_renewal(&facts, (enum kg_side)side);
            if (!passes) {
                assert_int_equal(answer.use[0], facts.use[0]);
                assert_int_equal(answer.use[1], facts.use[1]);
                assert_int_equal(answer.why, rows[i].why);
            }
        }
    }
}

/* One phone cannot lead the other one into the clear where the operator's word demands keys. */
static void test_an_offer_in_the_clear_passes_to_nobody_who_needs_keys(void **state)
{
    (void)state;
    struct kg_secure_facts facts;
    struct kg_secure_line line = call(SDES, SDES, SDES, &facts);
    memcpy(facts.use, line.use, sizeof facts.use);
    facts.known = true;
    say(&facts, KG_SIDE_A, PLAIN);
    line = kg_secure_offer(&facts, KG_SIDE_A, SDES, false);
    assert_int_equal(line.text[KG_SIDE_B], AS);
    facts.demanded = true;
    line = kg_secure_offer(&facts, KG_SIDE_A, SDES, false);
    assert_int_equal(line.text[KG_SIDE_B], SDES);
    assert_int_equal(line.use[KG_SIDE_A], N);
    say(&facts, KG_SIDE_A, SDES);
    line = kg_secure_offer(&facts, KG_SIDE_A, SDES, false);
    assert_int_equal(line.text[KG_SIDE_B], AS);
}

static void test_every_reason_is_a_sentence(void **state)
{
    (void)state;
    for (int why = 0; why < KG_SECURED_COUNT; why++)
        assert_true(strlen(kg_secure_why_text((enum kg_secure_why)why)) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_peer_is_asked_for_what_it_likely_takes),
        cmocka_unit_test(test_who_took_keys_is_known_for_them),
        cmocka_unit_test(test_what_a_refusal_is_remembered_for),
        cmocka_unit_test(test_who_is_known_for_keys_is_not_forgotten_for_who_is_not),
        cmocka_unit_test(test_who_refuses_feedback_is_asked_without),
        cmocka_unit_test(test_a_refusal_of_the_shape_is_told_from_others),
        cmocka_unit_test(test_each_pair_of_offer_and_answer),
        cmocka_unit_test(test_zrtp_passes_where_both_phones_have_it),
        cmocka_unit_test(test_rtcp_feedback_is_kept_from_who_did_not_offer_it),
        cmocka_unit_test(test_a_rejected_line_has_nothing),
        cmocka_unit_test(test_offers_in_talk_keep_what_was_agreed),
        cmocka_unit_test(test_an_offer_in_the_clear_passes_to_nobody_who_needs_keys),
        cmocka_unit_test(test_every_reason_is_a_sentence),
    };
    return cmocka_run_group_tests_name("secure", tests, NULL, NULL);
}
