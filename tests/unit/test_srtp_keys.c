/* SRTP contexts whose keys change: indexes that go on or begin anew, counters that cannot be known, MKIs. */
#include "tests/unit/srtp_pair.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
