/* What signalling says of ICE, through the control protocol and back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/mirror.h"
#include "media/wire.h"

static struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

static struct kg_candidate candidate(unsigned n)
{
    struct kg_candidate c = {
        .type = (uint8_t)(n % 4), .component = (uint8_t)(1 + n % 2), .priority = 1000 + n};
    snprintf(c.foundation, sizeof c.foundation, "foundation%u", n);
    c.addr = n % 2 ? at("[2001:db8::1]:4000") : at("192.0.2.1:4000");
    if (n % 3)
        c.related = at("10.0.0.1:9");
    return c;
}

static void assert_candidate(const struct kg_candidate *a, const struct kg_candidate *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->component, b->component);
    assert_int_equal(a->priority, b->priority);
    assert_string_equal(a->foundation, b->foundation);
    assert_true(kg_addr_equal(&a->addr, &b->addr));
    assert_true(kg_addr_equal(&a->related, &b->related));
}

static struct kg_candidate all[KG_ICE_CANDIDATES_MAX];
static const struct kg_ice_description full = {.ufrag = "abcd",
                                               .pwd = "0123456789012345678901",
                                               .lite = true,
                                               .trickle = true,
                                               .ice2 = true,
                                               .end_of_candidates = true,
                                               .pacing_ms = 70,
                                               .candidate_count = KG_ICE_CANDIDATES_MAX,
                                               .candidate = all};

static const struct kg_media_secure keys = {
    .use = KG_SECURE_SDES,
    .sealed = true,
    .feedback = true,
    .send = {.suite = KG_SRTP_AEAD_AES_256_GCM, .count = 1, .key = {{.bytes = {1, 2, 3, [43] = 9}}}},
    .receive = {.suite = KG_SRTP_AES_CM_128_SHA1_80,
                .count = 2,
                .key = {{.mki_len = 2, .mki = {0, 1}, .bytes = {4, [29] = 5}},
                        {.mki_len = 2, .mki = {0, 2}, .bytes = {6, [29] = 7}}}},
    .setup = KG_SETUP_ACTPASS,
    .fingerprint_count = 2,
    .fingerprint = {{.hash = KG_FINGERPRINT_SHA256, .len = 32, .bytes = {7, [31] = 8}},
                    {.hash = KG_FINGERPRINT_SHA512, .len = 64, .bytes = {9, [63] = 1}}},
    .ours = {.hash = KG_FINGERPRINT_SHA256, .len = 32, .bytes = {3}},
    .association = 7};

static struct kg_media_side side_with_ice(void)
{
    for (unsigned i = 0; i < KG_ICE_CANDIDATES_MAX; i++)
        all[i] = candidate(i);
    struct kg_media_side side = {.stream_count = 2};
    for (unsigned i = 0; i < 2; i++) {
        side.stream[i].enabled = true;
        strcpy(side.stream[i].kind, "audio");
        side.stream[i].rtp = at("192.0.2.1:4000");
    }
    side.stream[1].ice = &full;
    side.stream[1].ice_use = KG_ICE_STEER;
    side.stream[1].secure = &keys;
    side.stream[1].bundle = 1;
    side.stream[1].mid_extension = 4;
    strcpy(side.stream[1].mid, "video");
    return side;
}

static void assert_secure(const struct kg_media_secure *s)
{
    assert_non_null(s);
    assert_int_equal(s->use, KG_SECURE_SDES);
    assert_true(s->sealed && s->feedback);
    assert_true(kg_srtp_keys_equal(&s->send, &keys.send));
    assert_true(kg_srtp_keys_equal(&s->receive, &keys.receive));
    assert_int_equal(s->receive.key[1].mki_len, 2);
    assert_int_equal(s->setup, KG_SETUP_ACTPASS);
    assert_int_equal(s->fingerprint_count, 2);
    assert_memory_equal(s->fingerprint, keys.fingerprint, sizeof keys.fingerprint);
    assert_memory_equal(&s->ours, &keys.ours, sizeof keys.ours);
    assert_int_equal(s->association, 7);
}

static void assert_side(const struct kg_media_side *side)
{
    assert_int_equal(side->stream_count, 2);
    assert_null(side->stream[0].ice);
    assert_int_equal(side->stream[0].ice_use, KG_ICE_UNUSED);
    assert_int_equal(side->stream[1].ice_use, KG_ICE_STEER);
    assert_null(side->stream[0].secure);
    assert_secure(side->stream[1].secure);
    assert_int_equal(side->stream[1].bundle, 1);
    assert_int_equal(side->stream[1].mid_extension, 4);
    assert_string_equal(side->stream[1].mid, "video");
    const struct kg_ice_description *ice = side->stream[1].ice;
    assert_non_null(ice);
    assert_string_equal(ice->ufrag, full.ufrag);
    assert_string_equal(ice->pwd, full.pwd);
    assert_true(ice->lite && ice->trickle && ice->ice2 && ice->end_of_candidates);
    assert_int_equal(ice->pacing_ms, 70);
    assert_int_equal(ice->candidate_count, KG_ICE_CANDIDATES_MAX);
    for (unsigned i = 0; i < KG_ICE_CANDIDATES_MAX; i++)
        assert_candidate(&ice->candidate[i], &all[i]);
}

static void test_description_survives_the_wire_and_a_copy(void **state)
{
    (void)state;
    struct kg_arena *out = kg_arena_new(), *in = kg_arena_new();
    struct kg_media_side side = side_with_ice(), back;
    Kg__Side *wire = kg_wire_from_side(out, &side);
    assert_non_null(wire);
    uint8_t *packed = malloc(kg__side__get_packed_size(wire));
    size_t len = kg__side__pack(wire, packed);
    Kg__Side *parsed = kg__side__unpack(&in->allocator, len, packed);
    assert_int_equal(kg_wire_to_side(in, parsed, &back), 0);
    assert_side(&back);
    struct kg_media_side *copy = kg_media_side_copy(&back);
    memset(in->bytes, 0xa5, sizeof in->bytes); /* the copy points nowhere else */
    assert_side(copy);
    kg_media_side_free(copy);
    free(packed);
    kg_arena_free(out);
    kg_arena_free(in);
}

/* What breaks RFC 8839's grammar is no ICE, and no error either: the line is one without. */
static void test_invalid_description_is_left_out(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"abc", "0123456789012345678901"}, {"abcd", "short"}, {"ab d", "0123456789012345678901"}};
    for (unsigned i = 0; i < 3; i++) {
        struct kg_arena *arena = kg_arena_new();
        struct kg_media_side side = side_with_ice(), back;
        struct kg_ice_description ice = full;
        ice.ufrag = bad[i][0];
        ice.pwd = bad[i][1];
        side.stream[1].ice = &ice;
        assert_int_equal(kg_wire_to_side(arena, kg_wire_from_side(arena, &side), &back), 0);
        assert_null(back.stream[1].ice);
        assert_int_equal(back.stream[1].ice_use, KG_ICE_UNUSED);
        kg_arena_free(arena);
    }
}

/* What is not understood of keys is an error: a line that should be encrypted must not become one in the
 * clear. */
static void test_invalid_keys_refuse_the_whole_side(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct kg_arena *arena = kg_arena_new();
        struct kg_media_side side = side_with_ice(), back;
        Kg__Side *wire = kg_wire_from_side(arena, &side);
        Kg__Secure *secure = wire->line[1]->secure;
        switch (i) {
        case 0:
            secure->use = 4;
            break;
        case 1:
            secure->send->suite = KG_SRTP_SUITES;
            break;
        case 2:
            secure->send->key[0]->bytes.len--;
            break;
        case 3:
            secure->receive->key[1]->mki.len = KG_SRTP_MKI_MAX + 1;
            break;
        case 4:
            secure->receive->n_key = 0;
            break;
        case 5:
            secure->fingerprint[1]->bytes.len = 63;
            break;
        case 6:
            secure->ours->hash = 4;
            break;
        case 7:
            secure->setup = 6;
            break;
        }
        assert_int_equal(kg_wire_to_side(arena, wire, &back), EINVAL);
        kg_arena_free(arena);
    }
}

static void test_stats(void **state)
{
    (void)state;
    struct kg_arena *arena = kg_arena_new();
    struct kg_media_stats stats = {.kind = "audio",
                                   .secure_use = KG_SECURE_DTLS,
                                   .suite = KG_SRTP_AEAD_AES_128_GCM,
                                   .srtp_bad = 3,
                                   .srtp_replayed = 4,
                                   .unsent = 5},
                          back;
    kg_wire_to_stats(kg_wire_from_stats(arena, &stats), &back);
    assert_int_equal(back.secure_use, KG_SECURE_DTLS);
    assert_int_equal(back.suite, KG_SRTP_AEAD_AES_128_GCM);
    assert_int_equal(back.srtp_bad, 3);
    assert_int_equal(back.srtp_replayed, 4);
    assert_int_equal(back.unsent, 5);
    kg_arena_free(arena);
}

static void test_pair(void **state)
{
    (void)state;
    struct kg_arena *arena = kg_arena_new();
    struct kg_media_pair pair = {.side = KG_SIDE_B,
                                 .pair = {.stream = 2,
                                          .component = 2,
                                          .state = KG_PAIR_SUCCEEDED,
                                          .valid = true,
                                          .nominated = true,
                                          .selected = true,
                                          .priority = UINT64_MAX - 5,
                                          .local = candidate(1),
                                          .remote = candidate(2),
                                          .rtt_ms = -1,
                                          .won_ms = 44,
                                          .requests = 3,
                                          .responses = 2,
                                          .reason = "because"}},
                         back;
    Kg__Pair *wire = kg_wire_from_pair(arena, &pair);
    assert_non_null(wire);
    kg_wire_to_pair(wire, &back);
    assert_int_equal(back.side, KG_SIDE_B);
    assert_int_equal(back.pair.stream, 2);
    assert_int_equal(back.pair.component, 2);
    assert_int_equal(back.pair.state, KG_PAIR_SUCCEEDED);
    assert_true(back.pair.valid && back.pair.nominated && back.pair.selected);
    assert_true(back.pair.priority == UINT64_MAX - 5);
    assert_candidate(&back.pair.local, &pair.pair.local);
    assert_candidate(&back.pair.remote, &pair.pair.remote);
    assert_int_equal(back.pair.rtt_ms, -1);
    assert_int_equal(back.pair.won_ms, 44);
    assert_int_equal(back.pair.requests, 3);
    assert_int_equal(back.pair.responses, 2);
    assert_string_equal(back.pair.reason, "because");
    pair.pair.reason = NULL;
    kg_wire_to_pair(kg_wire_from_pair(arena, &pair), &back);
    assert_null(back.pair.reason);
    kg_arena_free(arena);
}

static void test_mirror_keeps_our_credentials_until_told_others(void **state)
{
    (void)state;
    struct kg_arena *arena = kg_arena_new();
    struct kg_mirror mirror = {0};
    struct kg_mirror_session *session = kg_mirror_get(&mirror, "aa");
    struct kg_media_ice_local local = {.ufrag = "kedge1",
                                       .pwd = "our-password-012345678",
                                       .controlling = true,
                                       .advertised = at("192.0.2.9:0")};
    Kg__Apply apply = KG__APPLY__INIT;
    apply.ice_b = kg_wire_from_ice_local(arena, &local);
    assert_int_equal(kg_mirror_take_apply(session, &apply), 0);
    apply.ice_b = NULL;
    assert_int_equal(kg_mirror_take_apply(session, &apply), 0); /* as before */
    const Kg__Apply *again = kg_mirror_apply(session, arena);
    assert_null(again->ice_a);
    assert_string_equal(again->ice_b->ufrag, "kedge1");
    assert_string_equal(again->ice_b->pwd, "our-password-012345678");
    assert_true(again->ice_b->controlling);
    struct kg_addr advertised = kg_wire_to_addr(again->ice_b->advertised);
    assert_true(kg_addr_equal(&advertised, &local.advertised));
    snprintf(local.ufrag, sizeof local.ufrag, "kedge2");
    apply.ice_b = kg_wire_from_ice_local(arena, &local);
    assert_int_equal(kg_mirror_take_apply(session, &apply), 0);
    assert_string_equal(kg_mirror_apply(session, arena)->ice_b->ufrag, "kedge2");
    kg_mirror_clear(&mirror);
    kg_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description_survives_the_wire_and_a_copy),
        cmocka_unit_test(test_invalid_description_is_left_out),
        cmocka_unit_test(test_invalid_keys_refuse_the_whole_side),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_mirror_keeps_our_credentials_until_told_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
