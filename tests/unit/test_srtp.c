/* SRTP contexts: replay and reorder, the roll-over counter, many SSRCs, senders that restart. Changes of
 * keys: test_srtp_keys.c. */
#include "tests/unit/srtp_pair.h"

static void test_no_keys(void **state)
{
    (void)state;
    struct kg_srtp *srtp = kg_srtp_new();
    struct packet packet = rtp(SSRC, 1);
    assert_false(kg_srtp_can_send(srtp));
    assert_false(kg_srtp_can_receive(srtp));
    assert_int_equal(kg_srtp_protect(srtp, packet.data, &packet.len, ROOM), KG_SRTP_NO_KEYS);
    assert_int_equal(kg_srtp_unprotect(srtp, packet.data, &packet.len, 0), KG_SRTP_NO_KEYS);
    assert_int_equal(kg_srtp_unprotect_rtcp(srtp, packet.data, &packet.len, 0), KG_SRTP_NO_KEYS);
    assert_int_equal(kg_srtp_protect_rtcp(srtp, packet.data, &packet.len, ROOM), KG_SRTP_NO_KEYS);
    struct kg_srtp_keys keys = keys_of(DEFAULT, 1);
    keys.count = 2; /* without MKI */
    assert_int_equal(kg_srtp_set_send(srtp, &keys, 0), EINVAL);
    assert_int_equal(kg_srtp_set_receive(srtp, &keys, 0), EINVAL);
    keys.suite = KG_SRTP_SUITES;
    assert_int_equal(kg_srtp_set_send(srtp, &keys, 0), EINVAL);
    keys = (struct kg_srtp_keys){.suite = DEFAULT};
    assert_int_equal(kg_srtp_set_receive(srtp, &keys, 0), EINVAL);
    kg_srtp_free(srtp);
    kg_srtp_free(NULL);
}

/* 200 bad tags; the call stays up. */
static void test_bad_tags(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        assert_int_equal(heard(&pair, 100, 0), KG_SRTP_OK);
        for (unsigned i = 0; i < 200; i++) {
            struct packet good = sent(&pair, (uint16_t)(101 + i)), bad = good;
            bad.data[i % bad.len] ^= (uint8_t)(1u << i % 8);
            struct packet kept = bad;
            enum kg_srtp_result result = take(pair.receiver, bad, 0);
            assert_true(result == KG_SRTP_BAD || result == KG_SRTP_REPLAY);
            assert_int_not_equal(kg_srtp_unprotect(pair.receiver, bad.data, &bad.len, 0), KG_SRTP_OK);
            assert_int_equal(bad.len, kept.len);
            assert_memory_equal(bad.data, kept.data, kept.len); /* as it was */
            assert_int_equal(take(pair.receiver, good, 0), KG_SRTP_OK);
        }
        struct kg_srtp_counts counts = kg_srtp_counts(pair.receiver);
        assert_int_equal(counts.bad + counts.replayed, 400);
        end(&pair);
    }
}

/* Lengths that are no SRTP, of every suite; plain RTP and RTCP. */
static void test_no_srtp(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        for (size_t len = 0; len < 60; len++) {
            struct packet packet = rtp_shaped(SSRC, (uint16_t)len, 60, 3, 2);
            struct packet report = rtcp(SSRC, 3);
            packet.len = report.len = len;
            assert_int_equal(take(pair.receiver, packet, 0), KG_SRTP_BAD);
            assert_int_equal(kg_srtp_unprotect_rtcp(pair.receiver, report.data, &report.len, 0), KG_SRTP_BAD);
        }
        for (uint16_t i = 0; i < 200; i++) {
            assert_int_equal(take(pair.receiver, rtp(SSRC, i), 0), KG_SRTP_BAD);
            struct packet report = rtcp(SSRC, 1);
            assert_int_equal(kg_srtp_unprotect_rtcp(pair.receiver, report.data, &report.len, 0), KG_SRTP_BAD);
        }
        assert_int_equal(heard(&pair, 7, 0), KG_SRTP_OK);
        struct packet packet = rtp(SSRC, 9), stun = rtp(SSRC, 9), truncated = rtp_shaped(SSRC, 10, 0, 15, -1);
        stun.data[0] = 0;
        truncated.len = 40;
        assert_int_equal(kg_srtp_protect(pair.sender, packet.data, &packet.len, packet.len + 3), KG_SRTP_BAD);
        assert_int_equal(kg_srtp_protect(pair.sender, stun.data, &stun.len, ROOM), KG_SRTP_BAD);
        assert_int_equal(kg_srtp_protect(pair.sender, truncated.data, &truncated.len, ROOM), KG_SRTP_BAD);
        packet.len = 11;
        assert_int_equal(kg_srtp_protect(pair.sender, packet.data, &packet.len, ROOM), KG_SRTP_BAD);
        assert_int_equal(heard(&pair, 9, 0), KG_SRTP_OK);
        end(&pair);
    }
}

static void test_replay(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        struct packet kept[200];
        for (uint16_t i = 0; i < 200; i++) {
            kept[i] = sent(&pair, (uint16_t)(65500 + i)); /* across a wrap */
            if (i != 71 && i != 72 && i != 135)
                assert_int_equal(take(pair.receiver, kept[i], 0), KG_SRTP_OK);
        }
        for (uint16_t i = 0; i < 200; i++) {
            enum kg_srtp_result expected = i == 72 || i == 135 ? KG_SRTP_OK : KG_SRTP_REPLAY;
            assert_int_equal(take(pair.receiver, kept[i], 0),
                             expected); /* 135: index -65; 72: -127; 71: -128 */
            assert_int_equal(take(pair.receiver, kept[i], 0), KG_SRTP_REPLAY);
        }
        assert_int_equal(kg_srtp_counts(pair.receiver).replayed, 398);
        end(&pair);
    }
}

/* Every packet comes 64 later than sent, or not. */
static void test_reorder(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    struct packet late[64];
    for (unsigned block = 0; block < 40; block++) { /* across the wrap */
        for (unsigned i = 0; i < 64; i++)
            late[i] = sent(&pair, (uint16_t)(64000 + 64 * block + i));
        for (unsigned i = 0; i < 64; i++)
            assert_int_equal(take(pair.receiver, late[63 - i], 0), KG_SRTP_OK);
    }
    end(&pair);
}

/* Three wraps; a late packet from before each comes after it, sent late as well. */
static void test_wrap(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        for (unsigned roc = 0; roc < 3; roc++) {
            run(&pair, roc * 65536 + 100, roc * 65536 + 65530);
            struct packet late = sent(&pair, 65533);
            assert_int_equal(heard(&pair, 65535, 0), KG_SRTP_OK);
            assert_int_equal(heard(&pair, 2, 0), KG_SRTP_OK);
            assert_int_equal(take(pair.receiver, late, 0), KG_SRTP_OK);
            assert_int_equal(heard(&pair, 65534, 0), KG_SRTP_OK); /* protected after the wrap too */
            assert_int_equal(heard(&pair, 1, 0), KG_SRTP_OK);
        }
        end(&pair);
    }
}

/* A random network of loss, reorder and duplicates between two contexts; what arrives is what was sent, once.
 */
static void test_random_network(void **state)
{
    (void)state;
    enum { COUNT = 10000, HELD = 20 };
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        uint64_t chance = 5 + s;
        struct packet held[HELD];
        unsigned at[HELD], count = 0, arrived = 0, lost = 0;
        uint8_t *seen = calloc(1, COUNT);
        assert_non_null(seen);
        for (unsigned i = 0; i < COUNT; i++) {
            uint32_t fate = random32(&chance) % 100;
            held[count] = sent(&pair, (uint16_t)(60000 + i));
            at[count] = i;
            if (fate < 10)
                lost++;
            else
                count++;
            if (fate > 90 && count < HELD) { /* duplicated */
                held[count] = held[count - 1];
                at[count] = at[count - 1];
                count++;
            }
            while (count == HELD || (count > 0 && random32(&chance) % 3 == 0)) {
                unsigned which = random32(&chance) % count;
                unsigned index = at[which];
                struct packet got = held[which], plain = rtp(SSRC, (uint16_t)(60000 + index));
                enum kg_srtp_result result = kg_srtp_unprotect(pair.receiver, got.data, &got.len, 0);
                assert_int_equal(result == KG_SRTP_OK && seen[index], false);
                if (result == KG_SRTP_OK) {
                    assert_int_equal(got.len, plain.len);
                    assert_memory_equal(got.data, plain.data, plain.len);
                    seen[index] = 1;
                    arrived++;
                } else {
                    assert_int_equal(result, KG_SRTP_REPLAY);
                }
                held[which] = held[--count];
                at[which] = at[count];
            }
        }
        assert_true(arrived + lost + HELD > COUNT - 100); /* only what waited for very long was too old */
        free(seen);
        end(&pair);
    }
}

static void test_many_ssrcs(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    struct kg_srtp_keys keys = keys_of(DEFAULT, 1);
    struct packet first = protected(pair.sender, rtp(1, 1)), last;
    assert_int_equal(take(pair.receiver, first, 0), KG_SRTP_OK);
    for (uint32_t ssrc = 2; ssrc <= KG_SRTP_SSRC_MAX; ssrc++) {
        last = protected(pair.sender, rtp(ssrc, 1));
        assert_int_equal(take(pair.receiver, last, 0), KG_SRTP_OK);
    }
    struct packet more = rtp(KG_SRTP_SSRC_MAX + 1, 1), report = rtcp(KG_SRTP_SSRC_MAX + 1, 0);
    assert_int_equal(kg_srtp_protect(pair.sender, more.data, &more.len, ROOM), KG_SRTP_BAD);
    assert_int_equal(kg_srtp_protect_rtcp(pair.sender, report.data, &report.len, ROOM), KG_SRTP_BAD);
    struct kg_srtp *other = with_keys(&keys, NULL);
    assert_int_equal(take(pair.receiver, protected(other, more), 0), KG_SRTP_BAD);
    /* The others go on, and are not replayed. */
    assert_int_equal(take(pair.receiver, first, 0), KG_SRTP_REPLAY);
    assert_int_equal(take(pair.receiver, last, 0), KG_SRTP_REPLAY);
    assert_int_equal(take(pair.receiver, protected(pair.sender, rtp(1, 2)), 0), KG_SRTP_OK);
    kg_srtp_free(other);

    /* What is not genuine takes no place. */
    struct kg_srtp *quiet = with_keys(NULL, &keys);
    for (uint32_t ssrc = 1; ssrc < 1000; ssrc++)
        assert_int_equal(take(quiet, rtp(ssrc, 1), 0), KG_SRTP_BAD);
    assert_int_equal(take(quiet, first, 0), KG_SRTP_OK);
    kg_srtp_free(quiet);
    end(&pair);
}

/* Both sides use one SSRC, with the same keys even. */
static void test_collision(void **state)
{
    (void)state;
    struct kg_srtp_keys keys = keys_of(KG_SRTP_AEAD_AES_128_GCM, 1);
    struct kg_srtp *a = with_keys(&keys, &keys), *b = with_keys(&keys, &keys);
    for (uint16_t i = 0; i < 10; i++) {
        assert_int_equal(take(b, protected(a, rtp(SSRC, i)), 0), KG_SRTP_OK);
        assert_int_equal(take(a, protected(b, rtp(SSRC, (uint16_t)(5 + i))), 0), KG_SRTP_OK);
    }
    kg_srtp_free(a);
    kg_srtp_free(b);
}

/* The relay passes on duplicates, reordered packets and what an attacker writes: an index is sent once. */
static void test_sent_once(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    for (uint16_t i = 0; i < 300; i++) {
        if (i % 3 == 2)
            assert_int_equal(heard(&pair, (uint16_t)(65400 + i - 1), 0), KG_SRTP_OK); /* late */
        if (i % 3 != 1)
            assert_int_equal(heard(&pair, (uint16_t)(65400 + i), 0), KG_SRTP_OK);
        struct packet again = rtp(SSRC, (uint16_t)(65400 + i - (i % 3 == 1)));
        again.data[30] ^= 1; /* with another text */
        assert_int_equal(kg_srtp_protect(pair.sender, again.data, &again.len, ROOM), KG_SRTP_REPLAY);
    }
    end(&pair);
}

/* A sender of plain RTP sets its numbers back, by much, in mid-call: after a few packets it is heard again,
 * with numbers that go on. Duplicates of old packets do not look like that. */
static void test_sender_restarts(void **state)
{
    (void)state;
    static const uint16_t again_at[] = {100, 5000, 19000, 40000};
    for (size_t s = 0; s < sizeof again_at / sizeof *again_at; s++) {
        struct pair pair = pair_of(DEFAULT);
        run(&pair, 65000, 65536 + 20000);
        for (uint16_t i = 1; i < 200; i++) { /* each old packet alone */
            struct packet old = rtp(SSRC, (uint16_t)(19000 + 2 * i));
            assert_int_equal(kg_srtp_protect(pair.sender, old.data, &old.len, ROOM), KG_SRTP_REPLAY);
        }
        unsigned lost = 0, heard_again = 0;
        for (unsigned i = 0; i < 70000; i++) {
            struct packet packet = rtp(SSRC, (uint16_t)(again_at[s] + i));
            if (kg_srtp_protect(pair.sender, packet.data, &packet.len, ROOM) != KG_SRTP_OK) {
                lost++;
                continue;
            }
            assert_int_equal(kg_srtp_unprotect(pair.receiver, packet.data, &packet.len, 0), KG_SRTP_OK);
            heard_again++;
            if (again_at[s] < 20000)
                assert_int_equal(packet.data[2] << 8 | packet.data[3], (uint16_t)(20000 + heard_again));
        }
        assert_true(lost < 5);
        end(&pair);
    }

    /* Just after other keys, when what was sent with them is not known any more. */
    struct pair pair = pair_of(DEFAULT);
    run(&pair, 1, 20000);
    struct kg_srtp_keys second = keys_of(DEFAULT, 2);
    assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
    unsigned lost = 0;
    for (uint16_t i = 100; i < 300; i++) {
        struct packet packet = rtp(SSRC, i);
        if (kg_srtp_protect(pair.sender, packet.data, &packet.len, ROOM) == KG_SRTP_OK)
            assert_int_equal(take(pair.receiver, packet, 0), KG_SRTP_OK);
        else
            lost++;
    }
    assert_int_equal(lost, 3);
    end(&pair);
}

static void test_rtcp(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        struct kg_srtp_keys second = keys_of(all[s], 2);
        struct packet kept[150];
        for (unsigned i = 0; i < 150; i++) {
            if (i == 100) { /* the index goes on */
                assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
                assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
            }
            kept[i] = rtcp(SSRC, 2);
            assert_int_equal(kg_srtp_protect_rtcp(pair.sender, kept[i].data, &kept[i].len, ROOM), KG_SRTP_OK);
            size_t trailer = kept[i].len - (all[s] < KG_SRTP_AES_CM_256_SHA1_80 ? 4 : 14);
            assert_int_equal(kept[i].data[trailer], 0x80);
            assert_int_equal(kept[i].data[trailer + 3], i + 1);
            struct packet copy = kept[i], plain = rtcp(SSRC, 2), bad = kept[i];
            bad.data[20] ^= 1;
            assert_int_equal(kg_srtp_unprotect_rtcp(pair.receiver, bad.data, &bad.len, 0), KG_SRTP_BAD);
            assert_int_equal(kg_srtp_unprotect_rtcp(pair.receiver, copy.data, &copy.len, 0), KG_SRTP_OK);
            assert_int_equal(copy.len, plain.len);
            assert_memory_equal(copy.data, plain.data, plain.len);
        }
        for (unsigned i = 0; i < 150; i++)
            assert_int_equal(kg_srtp_unprotect_rtcp(pair.receiver, kept[i].data, &kept[i].len, 0),
                             KG_SRTP_REPLAY);
        end(&pair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_keys),         cmocka_unit_test(test_bad_tags),
        cmocka_unit_test(test_no_srtp),         cmocka_unit_test(test_replay),
        cmocka_unit_test(test_reorder),         cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_random_network),  cmocka_unit_test(test_many_ssrcs),
        cmocka_unit_test(test_collision),       cmocka_unit_test(test_sent_once),
        cmocka_unit_test(test_sender_restarts), cmocka_unit_test(test_rtcp),
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
