/* SRTP contexts: replay and reorder, the roll-over counter, changes of keys, many SSRCs, senders that
 * restart. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "media/srtp.h"
#include "tests/unit/srtp_packets.h"

enum { SSRC = 0x01020304 };
#define DEFAULT KG_SRTP_AES_CM_128_SHA1_80

static const enum kg_srtp_suite all[] = {KG_SRTP_AEAD_AES_256_GCM,   KG_SRTP_AEAD_AES_128_GCM,
                                         KG_SRTP_AES_CM_256_SHA1_80, KG_SRTP_AES_CM_256_SHA1_32,
                                         KG_SRTP_AES_CM_128_SHA1_80, KG_SRTP_AES_CM_128_SHA1_32};

static bool is_short(enum kg_srtp_suite suite)
{
    return suite == KG_SRTP_AES_CM_256_SHA1_32 || suite == KG_SRTP_AES_CM_128_SHA1_32;
}

static struct kg_srtp *with_keys(const struct kg_srtp_keys *send, const struct kg_srtp_keys *receive)
{
    struct kg_srtp *srtp = kg_srtp_new();
    assert_non_null(srtp);
    if (send)
        assert_int_equal(kg_srtp_set_send(srtp, send, 0), 0);
    if (receive)
        assert_int_equal(kg_srtp_set_receive(srtp, receive, 0), 0);
    return srtp;
}

/* Two sides: what one sends the other receives. */
struct pair {
    struct kg_srtp *sender, *receiver;
};

static struct pair pair_of(enum kg_srtp_suite suite)
{
    struct kg_srtp_keys keys = keys_of(suite, 1);
    return (struct pair){with_keys(&keys, NULL), with_keys(NULL, &keys)};
}

static void end(struct pair *pair)
{
    kg_srtp_free(pair->sender);
    kg_srtp_free(pair->receiver);
}

static struct packet protected(struct kg_srtp *srtp, struct packet packet)
{
    assert_int_equal(kg_srtp_protect(srtp, packet.data, &packet.len, ROOM), KG_SRTP_OK);
    return packet;
}

static enum kg_srtp_result take(struct kg_srtp *srtp, struct packet packet, int64_t now_ms)
{
    return kg_srtp_unprotect(srtp, packet.data, &packet.len, now_ms);
}

static struct packet sent(const struct pair *pair, uint16_t seq)
{
    return protected(pair->sender, rtp(SSRC, seq));
}

static enum kg_srtp_result heard(const struct pair *pair, uint16_t seq, int64_t now_ms)
{
    return take(pair->receiver, sent(pair, seq), now_ms);
}

/* Moves the index of both from one number to another, in leaps. */
static void run(const struct pair *pair, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i += 16000)
        assert_int_equal(heard(pair, (uint16_t)i, 0), KG_SRTP_OK);
    assert_int_equal(heard(pair, (uint16_t)to, 0), KG_SRTP_OK);
}

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

/* What stays the same in SDP changes nothing; new keys do not lose the index. Without it, a receiver that
 * kept its own would hear nothing. */
static void test_index_goes_on(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct kg_srtp_keys first = keys_of(all[s], 1), second = keys_of(all[s], 2);
        struct pair pair = pair_of(all[s]);
        run(&pair, 1, 65536 + 10);
        assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), 0); /* the same again */
        assert_int_equal(kg_srtp_set_receive(pair.receiver, &first, 0), 0);
        assert_int_equal(heard(&pair, 11, 0), KG_SRTP_OK);
        assert_int_equal(kg_srtp_set_send(pair.sender, &(struct kg_srtp_keys){0}, 0), 0); /* held */
        assert_false(kg_srtp_can_send(pair.sender));
        assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), 0);
        assert_int_equal(heard(&pair, 12, 0), KG_SRTP_OK);

        assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
        struct packet with_second = sent(&pair, 13);
        /* A receiver that knows only the new keys finds the counter; one that begins at 0 would not: so it is
         * not 0. */
        struct kg_srtp *stranger = with_keys(NULL, &second);
        assert_int_equal(take(stranger, with_second, 0), KG_SRTP_OK);
        struct packet at_zero = rtp(SSRC, 13);
        struct kg_srtp *zero = with_keys(&second, NULL);
        at_zero = protected(zero, at_zero);
        assert_memory_not_equal(at_zero.data, with_second.data, with_second.len);
        assert_int_equal(take(pair.receiver, with_second, 0), KG_SRTP_BAD);
        assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
        assert_int_equal(take(pair.receiver, with_second, 0), KG_SRTP_OK);
        assert_int_equal(take(pair.receiver, with_second, 0), KG_SRTP_REPLAY);
        kg_srtp_free(stranger);
        kg_srtp_free(zero);
        end(&pair);
    }
}

/* A peer that begins its counter anew with new keys (a new crypto context) is heard as well. */
static void test_peer_resets(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        run(&pair, 1, 2 * 65536 + 10);
        struct kg_srtp_keys second = keys_of(all[s], 2);
        struct kg_srtp *anew = with_keys(&second, NULL);
        assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
        assert_int_equal(take(pair.receiver, protected(anew, rtp(SSRC, 11)), 0), KG_SRTP_OK);
        assert_int_equal(take(pair.receiver, protected(anew, rtp(SSRC, 12)), 0), KG_SRTP_OK);
        kg_srtp_free(anew);
        end(&pair);
    }
}

/* The counter passes a wrap while the keys change. */
static void test_keys_change_at_the_wrap(void **state)
{
    (void)state;
    for (uint16_t next = 65534; next != 5; next++) {
        struct pair pair = pair_of(DEFAULT);
        run(&pair, 60000, 3 * 65536 + 65533);
        struct kg_srtp_keys second = keys_of(DEFAULT, 2);
        assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
        assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
        assert_int_equal(heard(&pair, next, 0), KG_SRTP_OK);
        assert_int_equal(heard(&pair, (uint16_t)(next + 7), 0), KG_SRTP_OK);
        end(&pair);
    }
}

static void test_overlap(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    struct kg_srtp_keys first = keys_of(DEFAULT, 1), second = keys_of(KG_SRTP_AEAD_AES_256_GCM, 2);
    assert_int_equal(heard(&pair, 1, 0), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 1000), 0);
    assert_int_equal(heard(&pair, 2, 20000), KG_SRTP_OK); /* their offer is not answered yet */
    struct packet late = sent(&pair, 3), later = sent(&pair, 4), replayed = sent(&pair, 2 + 3);
    assert_int_equal(take(pair.receiver, replayed, 20000), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
    assert_int_equal(heard(&pair, 6, 21000), KG_SRTP_OK);
    assert_int_equal(take(pair.receiver, replayed, 21100), KG_SRTP_REPLAY);
    assert_int_equal(take(pair.receiver, late, 21000 + KG_SRTP_OVERLAP_MS - 1), KG_SRTP_OK);
    assert_int_equal(take(pair.receiver, later, 21000 + KG_SRTP_OVERLAP_MS), KG_SRTP_BAD);
    assert_int_equal(heard(&pair, 7, 24000), KG_SRTP_OK);

    /* No packet with the new keys: the old ones end with the transaction. */
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &first, 30000), 0);
    assert_int_equal(heard(&pair, 8, 30000 + KG_SRTP_REKEY_MS - 1), KG_SRTP_OK);
    assert_int_equal(heard(&pair, 9, 30000 + KG_SRTP_REKEY_MS), KG_SRTP_BAD);
    end(&pair);
}

/* A re-INVITE with new keys is refused, both sides return to the old ones: no index is used twice. */
static void test_change_taken_back(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    struct kg_srtp_keys first = keys_of(DEFAULT, 1), second = keys_of(DEFAULT, 2);
    struct packet old = sent(&pair, 10);
    assert_int_equal(take(pair.receiver, old, 0), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &second, 0), 0);
    assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
    struct packet unused = sent(&pair, 11);
    assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), 0);
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &first, 0), 0);
    assert_int_equal(take(pair.receiver, old, 0), KG_SRTP_REPLAY); /* still */
    assert_int_equal(take(pair.receiver, unused, 0), KG_SRTP_OK);
    struct packet again = rtp(SSRC, 10);
    again.data[20] ^= 1;
    assert_int_equal(kg_srtp_protect(pair.sender, again.data, &again.len, ROOM), KG_SRTP_REPLAY);
    assert_int_equal(heard(&pair, 12, 0), KG_SRTP_OK);

    /* Three offers in a row, none of them used: what they still use is not forgotten. */
    for (uint64_t i = 10; i < 13; i++) {
        struct kg_srtp_keys other = keys_of(DEFAULT, i);
        assert_int_equal(kg_srtp_set_receive(pair.receiver, &other, 100), 0);
    }
    assert_int_equal(heard(&pair, 13, 200), KG_SRTP_OK);
    end(&pair);
}

static void test_begin_anew(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    run(&pair, 1, 65536 + 10);
    struct kg_srtp_keys first = keys_of(DEFAULT, 1), second = keys_of(DEFAULT, 2);
    kg_srtp_begin_anew(pair.sender);
    assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), 0); /* the same: still nothing changes */
    assert_int_equal(heard(&pair, 11, 0), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), 0);
    struct kg_srtp *fresh = with_keys(&second, NULL);
    struct packet ours = sent(&pair, 12), theirs = protected(fresh, rtp(SSRC, 12));
    assert_memory_equal(ours.data, theirs.data, theirs.len); /* index 12 */
    kg_srtp_begin_anew(pair.sender);
    assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), EINVAL);
    assert_true(kg_srtp_can_send(pair.sender)); /* with what it had */
    struct kg_srtp_keys third = keys_of(DEFAULT, 3);
    assert_int_equal(kg_srtp_set_send(pair.sender, &third, 0), 0);
    assert_int_equal(kg_srtp_set_send(pair.sender, &first, 0), EINVAL); /* not even with the index going on */
    assert_int_equal(kg_srtp_set_send(pair.sender, &second, 0), EINVAL);
    assert_int_equal(kg_srtp_set_send(pair.sender, &third, 0), 0);
    struct kg_srtp_keys fourth = keys_of(DEFAULT, 4);
    assert_int_equal(kg_srtp_set_send(pair.sender, &fourth, 0), 0);
    assert_int_equal(kg_srtp_set_send(pair.sender, &third, 0), 0); /* one context: it may come back */
    kg_srtp_free(fresh);
    end(&pair);
}

/* The engine was killed: its successor hears a phone whose counter it cannot know, whatever comes first. */
static void test_unknown_counter(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        for (unsigned first_rtcp = 0; first_rtcp < 2; first_rtcp++) {
            struct pair pair = pair_of(all[s]);
            run(&pair, 60000, 20 * 65536 + 40000);
            struct kg_srtp_keys keys = keys_of(all[s], 1);
            struct kg_srtp *successor = with_keys(NULL, &keys);
            struct packet report = rtcp(SSRC, 1);
            assert_int_equal(kg_srtp_protect_rtcp(pair.sender, report.data, &report.len, ROOM), KG_SRTP_OK);
            if (first_rtcp)
                assert_int_equal(kg_srtp_unprotect_rtcp(successor, report.data, &report.len, 0), KG_SRTP_OK);
            unsigned tries = 0;
            while (take(successor, sent(&pair, (uint16_t)(40001 + tries)), 0) != KG_SRTP_OK)
                assert_true(++tries < KG_SRTP_ROC_TRIED);
            for (unsigned i = 40001 + tries + 1; i < 140000; i += 10000)
                assert_int_equal(take(successor, sent(&pair, (uint16_t)i), 0), KG_SRTP_OK);
            kg_srtp_free(successor);
            end(&pair);
        }
    }
}

/* The first packets, around a wrap, were lost; or an attacker replays an old one to a successor. */
static void test_first_packets(void **state)
{
    (void)state;
    struct pair pair = pair_of(DEFAULT);
    struct packet old = sent(&pair, 65530);
    for (unsigned i = 65531; i < 65536 + 3; i++)
        sent(&pair, (uint16_t)i);
    assert_int_equal(heard(&pair, 3, 0), KG_SRTP_OK);
    assert_int_equal(heard(&pair, 4, 0), KG_SRTP_OK);
    run(&pair, 65536 + 5, 3 * 65536);
    struct kg_srtp_keys keys = keys_of(DEFAULT, 1);
    struct kg_srtp *successor = with_keys(NULL, &keys);
    assert_int_equal(take(successor, old, 0), KG_SRTP_OK);
    assert_int_equal(take(successor, sent(&pair, 1), 100), KG_SRTP_BAD);
    unsigned tries = 0;
    while (take(successor, sent(&pair, (uint16_t)(2 + tries)), KG_SRTP_LOST_MS + 1) != KG_SRTP_OK)
        assert_true(++tries < KG_SRTP_ROC_TRIED);
    assert_int_not_equal(take(successor, old, 5000), KG_SRTP_OK);
    kg_srtp_free(successor);
    end(&pair);
}

/* Forged packets after a pause are searched for, and leave nothing behind. */
static void test_forged_after_pause(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct pair pair = pair_of(all[s]);
        assert_int_equal(heard(&pair, 65530, 0), KG_SRTP_OK);
        for (uint16_t i = 0; i < 100; i++)
            assert_int_not_equal(take(pair.receiver, rtp(SSRC, (uint16_t)(65530 + i)), 60000), KG_SRTP_OK);
        assert_int_equal(heard(&pair, 65531, 60000), KG_SRTP_OK);
        assert_int_equal(heard(&pair, 5, 60000), KG_SRTP_OK);
        end(&pair);
    }
}

static void test_mki(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        struct kg_srtp_keys many = keys_of(all[s], 1), one[3];
        many.count = 3;
        for (uint8_t i = 0; i < 3; i++) {
            one[i] = keys_of(all[s], 10u + i);
            one[i].key[0].mki_len = 4;
            memcpy(one[i].key[0].mki, (uint8_t[]){0, 0, 1, i}, 4);
            many.key[i] = one[i].key[0];
        }
        struct kg_srtp *receiver = with_keys(NULL, &many);
        for (uint8_t i = 0; i < 3; i++) {
            if (i < 2 && is_short(all[s]))
                continue; /* README: of these suites, only the first key's RTCP */
            struct kg_srtp *sender = with_keys(&one[2 - i], NULL);
            struct packet plain = rtp(SSRC + i, 5), packet = protected(sender, plain),
                          report = rtcp(SSRC + i, 1);
            assert_int_equal(kg_srtp_unprotect(receiver, packet.data, &packet.len, 0), KG_SRTP_OK);
            assert_int_equal(packet.len, plain.len);
            assert_memory_equal(packet.data, plain.data, plain.len);
            assert_int_equal(kg_srtp_protect_rtcp(sender, report.data, &report.len, ROOM), KG_SRTP_OK);
            assert_int_equal(kg_srtp_unprotect_rtcp(receiver, report.data, &report.len, 0), KG_SRTP_OK);
            packet = protected(sender, rtp(SSRC + i, 6));
            packet.data[packet.len - (all[s] < KG_SRTP_AES_CM_256_SHA1_80 ? 1 : 5)] ^=
                0x40; /* no such MKI, or tag */
            assert_int_equal(take(receiver, packet, 0), KG_SRTP_BAD);
            kg_srtp_free(sender);
        }
        struct kg_srtp_keys bare = one[0];
        bare.key[0].mki_len = 0;
        struct kg_srtp *without = with_keys(&bare, NULL);
        assert_int_equal(take(receiver, protected(without, rtp(SSRC, 9)), 0), KG_SRTP_BAD);
        kg_srtp_free(without);
        kg_srtp_free(receiver);
    }
}

/* A change between keys with and without MKI: tags and MKIs lie elsewhere. */
static void test_mki_changes(void **state)
{
    (void)state;
    struct pair pair = pair_of(KG_SRTP_AES_CM_128_SHA1_32);
    struct kg_srtp_keys marked = keys_of(KG_SRTP_AEAD_AES_128_GCM, 2);
    marked.key[0].mki_len = 16;
    assert_int_equal(heard(&pair, 1, 0), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_receive(pair.receiver, &marked, 0), 0);
    struct packet smallest =
        protected(pair.sender, rtp_shaped(SSRC, 2, 0, 0, -1)); /* shorter than a tag of the new */
    assert_int_equal(take(pair.receiver, smallest, 0), KG_SRTP_OK);
    assert_int_equal(kg_srtp_set_send(pair.sender, &marked, 0), 0);
    struct packet tight = rtp(SSRC, 3);
    assert_int_equal(kg_srtp_protect(pair.sender, tight.data, &tight.len, tight.len + 31), KG_SRTP_BAD);
    assert_int_equal(kg_srtp_protect(pair.sender, tight.data, &tight.len, tight.len + 32), KG_SRTP_OK);
    assert_int_equal(take(pair.receiver, tight, 0), KG_SRTP_OK);
    end(&pair);
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

static int install(void **state)
{
    (void)state;
    return kg_srtp_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_keys),
        cmocka_unit_test(test_bad_tags),
        cmocka_unit_test(test_no_srtp),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_reorder),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_random_network),
        cmocka_unit_test(test_index_goes_on),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_keys_change_at_the_wrap),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_change_taken_back),
        cmocka_unit_test(test_begin_anew),
        cmocka_unit_test(test_unknown_counter),
        cmocka_unit_test(test_first_packets),
        cmocka_unit_test(test_forged_after_pause),
        cmocka_unit_test(test_mki),
        cmocka_unit_test(test_mki_changes),
        cmocka_unit_test(test_many_ssrcs),
        cmocka_unit_test(test_collision),
        cmocka_unit_test(test_sent_once),
        cmocka_unit_test(test_sender_restarts),
        cmocka_unit_test(test_rtcp),
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
