/* Legs with keys: every combination of plain RTP, SDES and DTLS, changes in talk, another engine's life. */
#include "tests/unit/secure_world.h"

static const uint8_t report[] = {0x80, 200, 0, 6, 0, 0, 0x10, 0, 1, 2, 3, 4, 5, 6,
                                 7,    8,   0, 0, 0, 1, 0,    0, 0, 2, 0, 0, 0, 3};

static void talk_and_report(struct sworld *w)
{
    phone_reports(w, 1, report, sizeof report); /* from now on it is known where B hears RTCP */
    for (unsigned side = 0; side < 2; side++) {
        struct sphone *to = &w->phone[1 - side];
        unsigned before = to->heard;
        for (unsigned i = 0; i < 10; i++)
            assert_true(phone_talks(w, side));
        assert_int_equal(to->heard, before + 10);
        assert_true(phone_reports(w, side, report, sizeof report));
        assert_int_equal(to->last_rtcp_len, sizeof report);
        assert_memory_equal(to->last_rtcp, report, sizeof report);
        assert_int_equal(to->garbled, 0);
    }
    assert_int_equal(w->stray, 0);
}

static void test_nine_combinations(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 9 * 4; n++) {
        enum kg_secure_use use[2] = {KG_SECURE_PLAIN + n % 3, KG_SECURE_PLAIN + n / 3 % 3};
        struct sworld *w = sworld_new(use[0], use[1]);
        w->phone[0].mux = n / 9 & 1;
        w->phone[1].mux = n / 18 & 1;
        w->phone[0].active = n % 2; /* A is public: kedge may begin toward it */
        sworld_connect(w);
        talk_and_report(w);
        for (unsigned side = 0; side < 2; side++) {
            struct kg_media_stats stats;
            kg_leg_stats(leg_of(w, side), w->now, &stats);
            assert_int_equal(stats.secure_use, use[side]);
            assert_int_equal(stats.suite != KG_SRTP_NONE, use[side] != KG_SECURE_PLAIN);
            assert_int_equal(stats.proof >= KG_PROOF_SRTP, use[side] != KG_SECURE_PLAIN);
            assert_int_equal(stats.srtp_bad + stats.srtp_replayed, 0);
            assert_int_equal(leg_of(w, side)->dropped, 0);
        }
        sworld_free(w);
    }
}

/* The NAT gives the phone another port, or another host, in mid-call: its next packet is followed. Those that
 * were late on their way from the old place are relayed, and move nothing back. */
static void test_rebinding_is_followed_at_once(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 4; n++) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, n % 2 ? KG_SECURE_DTLS : KG_SECURE_SDES);
        w->phone[1].mux = true;
        sworld_connect(w);
        struct sphone *b = &w->phone[1];
        _Alignas(8) uint8_t late[1600];
        size_t late_len = seal(b, false, false, late, rtp_of(b, late));
        struct kg_addr old = b->rtp;
        b->rtp = b->rtcp = n / 2 ? at("198.18.0.9:555") : at("203.0.113.2:50000");
        unsigned heard = w->phone[0].heard;
        assert_true(phone_talks(w, 1));
        assert_true(kg_addr_equal(&leg_of(w, 1)->rtp.latch.remote, &b->rtp));
        assert_int_equal(leg_of(w, 1)->rtp.latch.proof, KG_PROOF_SRTP);
        assert_true(to_relay(w, 1, false, &old, late, late_len));
        assert_true(kg_addr_equal(&leg_of(w, 1)->rtp.latch.remote, &b->rtp));
        assert_int_equal(w->phone[0].heard, heard + 2);
        assert_int_equal(leg_of(w, 1)->moves, 1);
        assert_true(leg_of(w, 1)->rtp.untold);
        heard = b->heard;
        assert_true(phone_talks(w, 0));
        assert_int_equal(b->heard, heard + 1);
        assert_int_equal(w->stray, 0);
        sworld_free(w);
    }
}

/* Who only listens reports: on the muxed port, its reports say where it is once the old place is quiet. */
static void test_reports_of_a_listener_are_followed(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    w->phone[1].mux = true;
    sworld_connect(w);
    w->phone[1].rtp = w->phone[1].rtcp = at("203.0.113.2:50000");
    assert_true(phone_reports(w, 1, report, sizeof report));
    assert_false(kg_addr_equal(&leg_of(w, 1)->rtp.latch.remote, &w->phone[1].rtp));
    w->now += KG_LATCH_QUIET_MS;
    assert_true(phone_reports(w, 1, report, sizeof report));
    assert_true(kg_addr_equal(&leg_of(w, 1)->rtp.latch.remote, &w->phone[1].rtp));
    sworld_free(w);
}

/* ---- changes in talk ---- */

/* A re-INVITE with new keys on both sides: packets of the old ones that are on their way are heard, and none
 * is lost when the phone changes. */
static void test_new_keys_in_talk(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    struct sphone *b = &w->phone[1];
    unsigned heard[2] = {w->phone[0].heard, b->heard};
    for (unsigned n = 0; n < 3; n++) {
        b->ours = some_keys((uint8_t)(50 + n), KG_SRTP_AES_CM_128_SHA1_80);
        b->theirs = some_keys((uint8_t)(150 + n), KG_SRTP_AES_CM_256_SHA1_80);
        kg_srtp_set_receive(b->srtp[0], &b->theirs, w->now); /* its offer's, or our answer's */
        sworld_apply(w, 1);
        for (unsigned i = 0; i < 5; i++)
            assert_true(phone_talks(w, 1) && phone_talks(w, 0));
        kg_srtp_set_send(b->srtp[0], &b->ours, w->now);
        for (unsigned i = 0; i < 5; i++)
            assert_true(phone_talks(w, 1) && phone_talks(w, 0));
        w->now += 3000;
    }
    assert_int_equal(w->phone[0].heard, heard[0] + 30);
    assert_int_equal(b->heard, heard[1] + 30);
    assert_int_equal(b->garbled, 0);
    sworld_free(w);
}

/* The phone, or another in its place, is elsewhere and has new keys: so have we, and our index begins with
 * it. Keys that were used are not used again from there: signalling is asked for others. */
static void test_new_keys_at_another_address_begin_anew(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    struct sphone *b = &w->phone[1];
    w->phone[0].sequence = 40000; /* its roll-over counter will be 1 */
    for (unsigned i = 0; i < 400; i++) {
        assert_true(phone_talks(w, 0));
        w->phone[0].sequence = (uint16_t)(w->phone[0].sequence + 99);
    }
    b->told = at("192.168.0.77:4000");
    b->rtp = at("203.0.113.2:40100");
    kg_srtp_free(b->srtp[0]); /* another device */
    b->srtp[0] = b->srtp[1] = kg_srtp_new();
    struct kg_srtp_keys before = b->theirs;
    phone_keys(w, 1, 30);
    unsigned heard = b->heard;
    sworld_apply(w, 1);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0) && phone_talks(w, 0));
    assert_int_equal(b->heard, heard + 2);
    assert_int_equal(b->garbled, 0);
    assert_false(leg_of(w, 1)->secure->rekey_untold);
    b->told = at("192.168.0.78:4000");
    b->theirs = before;
    sworld_apply(w, 1);
    assert_true(leg_of(w, 1)->secure->rekey_untold);
    assert_false(phone_talks(w, 0));
    assert_true(phone_talks(w, 1));
    sworld_free(w);
}

/* Told again, told without, told as before: the index is where it was, so the phone takes each packet and no
 * keystream is used twice. */
static void test_keys_that_come_back_go_on(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    struct sphone *b = &w->phone[1];
    static const struct kg_media_secure between[] = {{.use = KG_SECURE_PLAIN}, {.use = KG_SECURE_PASS}};
    for (unsigned n = 0; n < 4; n++) {
        if (n > 0)
            sworld_tell(w, 1, n < 3 ? &between[n - 1] : NULL, false);
        sworld_apply(w, 1);
        unsigned heard = b->heard;
        for (unsigned i = 0; i < 5; i++)
            assert_true(phone_talks(w, 0) && phone_talks(w, 1));
        assert_int_equal(b->heard, heard + 5);
        assert_int_equal(b->garbled, 0);
    }
    assert_int_equal(kg_srtp_counts(b->srtp[0]).replayed, 0);
    sworld_free(w);
}

/* RFC 8842: signalling wants a new association, or names another certificate: the old keys serve until it
 * stands. */
static void test_new_association_in_talk(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 3; n++) {
        struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
        w->phone[1].mux = true;
        sworld_connect(w);
        struct sphone *b = &w->phone[1];
        for (unsigned side = 0; side < 2; side++) { /* the roll-over counters are not 0 any more */
            w->phone[side].sequence = 65500;
            for (unsigned i = 0; i < 60; i++)
                assert_true(phone_talks(w, side));
        }
        struct kg_dtls_identity *before = b->identity;
        if (n == 1)
            b->identity = kg_dtls_identity_new();
        else
            b->association++;
        if (n == 2) { /* roles, too; kedge knows where B is by now */
            b->active = false;
        }
        unsigned heard[2] = {w->phone[0].heard, b->heard};
        struct kg_media_secure same = secure_of(w, 1);
        struct kg_association *a = &leg_of(w, 1)->secure->dtls->by_component[0];
        a->untold = false;
        if (n < 2) {
            sworld_tell(w, 1, &same, false);
            assert_false(a->untold || a->installed || a->failed_ms); /* that is no failure */
        }
        for (unsigned i = 0; i < 3; i++)
            assert_true(phone_talks(w, 0) && phone_talks(w, 1));
        phone_dtls(w, 1);
        if (n == 2)
            sworld_tell(w, 1, &same, false);
        shake_hands(w);
        assert_true(leg_of(w, 1)->secure->dtls->by_component[0].installed);
        for (unsigned i = 0; i < 3; i++)
            assert_true(phone_talks(w, 0) && phone_talks(w, 1));
        assert_int_equal(w->phone[0].heard, heard[0] + 6);
        assert_int_equal(b->heard, heard[1] + 6);
        if (n == 1)
            kg_dtls_identity_unref(before);
        sworld_free(w);
    }
}

/* The same description again, with ICE or without: nothing begins anew. */
static void test_the_same_association_stays(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    w->phone[1].mux = true;
    sworld_connect(w);
    const struct kg_dtls *dtls = leg_of(w, 1)->secure->dtls->by_component[0].dtls;
    for (unsigned i = 0; i < 3; i++) {
        sworld_apply(w, 1);
        assert_ptr_equal(leg_of(w, 1)->secure->dtls->by_component[0].dtls, dtls);
        assert_true(phone_talks(w, 0) && phone_talks(w, 1));
    }
    sworld_free(w);
}

/* ---- another engine's life ---- */

static void sworld_restart(struct sworld *w, unsigned side)
{
    struct kg_addr was = leg_of(w, side)->rtp.latch.remote;
    enum kg_proof proof = (enum kg_proof)leg_of(w, side)->rtp.latch.proof;
    struct kg_addr other = leg_of(w, 1 - side)->rtp.latch.remote;
    enum kg_proof other_proof = (enum kg_proof)leg_of(w, 1 - side)->rtp.latch.proof;
    struct kg_media_secure secure = secure_of(w, side);
    kg_dtls_identity_unref(w->identity);
    w->identity = kg_dtls_identity_new();
    sworld_new_relay(w);
    sworld_tell(w, side, &secure, true);
    sworld_apply(w, 1 - side);
    kg_relay_restore(&leg_of(w, side)->rtp, &was, proof, w->now);
    kg_relay_restore(&leg_of(w, 1 - side)->rtp, &other, other_proof, w->now);
}

static void test_restarted_engine_uses_no_old_keys(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    struct sphone *b = &w->phone[1];
    _Alignas(8) uint8_t recorded[1600];
    size_t len = seal(b, false, false, recorded, rtp_of(b, recorded));
    assert_true(to_relay(w, 1, false, &b->rtp, recorded, len));
    sworld_restart(w, 1);
    assert_true(leg_of(w, 1)->secure->rekey_untold && w->relay->untold);
    unsigned heard[2] = {w->phone[0].heard, b->heard};
    for (unsigned i = 0; i < 3; i++) {
        assert_false(phone_talks(w, 0)); /* nothing is sent with keys whose index is lost */
        assert_true(phone_talks(w, 1));  /* what it sends can be read on */
    }
    assert_int_equal(b->heard + b->garbled, heard[1]);
    assert_int_equal(w->phone[0].heard, heard[0] + 3);
    assert_int_equal(leg_of(w, 1)->secure->unsent, 3);
    struct kg_addr thief = at("203.0.113.66:9"); /* the replay window is lost as well */
    assert_false(to_relay(w, 1, false, &thief, recorded, len));
    sworld_apply(w, 1); /* the same again: still not */
    assert_false(phone_talks(w, 0));
    b->theirs.suite = KG_SRTP_AES_CM_256_SHA1_80; /* and the key by another name: neither */
    sworld_apply(w, 1);
    assert_false(phone_talks(w, 0));
    b->theirs = some_keys(200, KG_SRTP_AEAD_AES_256_GCM);
    kg_srtp_set_receive(b->srtp[0], &b->theirs, w->now);
    sworld_apply(w, 1);
    assert_true(phone_talks(w, 0) && phone_talks(w, 1));
    assert_int_equal(b->heard, heard[1] + 1);
    /* The phone keeps its keys: recordings of them are still no proof. It changes them: they are heard no
     * more. */
    assert_false(to_relay(w, 1, false, &thief, recorded, len));
    b->ours = some_keys(201, KG_SRTP_AEAD_AES_256_GCM);
    kg_srtp_set_send(b->srtp[0], &b->ours, w->now);
    sworld_apply(w, 1);
    assert_false(to_relay(w, 1, false, &thief, recorded, len));
    assert_false(to_relay(w, 1, false, &b->rtp, recorded, len));
    assert_null(leg_of(w, 1)->secure->lost);
    b->rtp = at("203.0.113.2:50000");
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

static void test_restarted_engine_has_another_certificate(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_DTLS);
    w->phone[1].mux = true;
    sworld_connect(w);
    struct sphone *b = &w->phone[1];
    struct kg_media_secure old = secure_of(w, 1);
    sworld_restart(w, 1); /* describes with the new certificate: as signalling does after REKEY */
    sworld_new_relay(w);
    sworld_apply(w, 0);
    sworld_tell(w, 1, &old, true);
    assert_true(leg_of(w, 1)->secure->rekey_untold && w->relay->untold);
    phone_dtls(w, 1); /* even if it began by itself */
    shake_hands(w);
    assert_false(phone_talks(w, 0));
    leg_of(w, 1)->secure->rekey_untold = false;
    b->association++;
    sworld_apply(w, 1);
    assert_false(leg_of(w, 1)->secure->rekey_untold);
    phone_dtls(w, 1);
    shake_hands(w);
    assert_true(phone_talks(w, 0) && phone_talks(w, 1));
    sworld_free(w);
}

/* ---- feedback, sealed lines, lines without RTP ---- */

static const uint8_t with_feedback[] = {0x80, 201, 0, 1, 0, 0, 0x10, 0, /* RR without blocks */
                                        0x81, 205, 0, 3, 0, 0, 0x10, 0, 0, 0, 0, 9, 0, 1, 0, 0, /* NACK */
                                        0x81, 202, 0, 2, 0, 0, 0x10, 0, 0, 0, 0, 0,             /* SDES */
                                        0x81, 206, 0, 2, 0, 0, 0x10, 0, 0, 0, 0, 9};            /* PLI */

static void test_feedback_only_where_it_was_offered(void **state)
{
    (void)state;
    static const uint8_t pli[] = {0x81, 206, 0, 2, 0, 0, 0x10, 0, 0, 0, 0, 9};
    for (unsigned n = 0; n < 8; n++) {
        struct sworld *w =
            sworld_new(n & 1 ? KG_SECURE_SDES : KG_SECURE_PLAIN, n & 2 ? KG_SECURE_SDES : KG_SECURE_PLAIN);
        bool offered = n & 4;
        w->phone[0].mux = w->phone[1].mux = true;
        w->phone[1].feedback = true;
        w->phone[0].feedback = offered;
        sworld_connect(w);
        const struct sphone *a = &w->phone[0];
        assert_true(phone_reports(w, 1, with_feedback, sizeof with_feedback));
        assert_int_equal(a->last_rtcp_len, offered ? sizeof with_feedback : 8 + 12);
        assert_int_equal(a->last_rtcp[1], 201);
        assert_int_equal(phone_reports(w, 1, pli, sizeof pli), offered); /* reduced-size */
        assert_int_equal(a->heard_rtcp, offered ? 2 : 1);
        assert_true(phone_reports(w, 0, with_feedback, sizeof with_feedback));
        assert_int_equal(w->phone[1].last_rtcp_len, sizeof with_feedback);
        sworld_free(w);
    }
}

/* Keys between the two phones: the engine passes what it cannot read, from where the rules allow. */
static void test_sealed_lines_pass(void **state)
{
    (void)state;
    static const uint8_t hello[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0};
    static const uint8_t zrtp[] = {0x10, 0, 0, 1, 0x5a, 0x52, 0x54, 0x50, 0, 0, 0, 9, 0x50, 0x5a};
    static const uint8_t srtcp[] = {0x80, 201, 0, 1, 0, 0, 0x10, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    for (unsigned sealed = 0; sealed < 2; sealed++) {
        struct sworld *w = sworld_new(KG_SECURE_PASS, KG_SECURE_PASS);
        w->phone[0].sealed = w->phone[1].sealed = sealed;
        sworld_apply(w, 0);
        sworld_apply(w, 1);
        struct kg_addr stranger = at("203.0.113.66:9");
        assert_false(to_relay(w, 1, false, &stranger, hello, sizeof hello));
        assert_int_equal(to_relay(w, 1, false, &w->phone[1].rtp, hello, sizeof hello), sealed);
        assert_int_equal(leg_of(w, 1)->rtp.latch.proof, sealed ? KG_PROOF_SAME_ADDRESS : KG_PROOF_NONE);
        assert_int_equal(to_relay(w, 0, false, &w->phone[0].rtp, zrtp, sizeof zrtp), sealed);
        assert_int_equal(to_relay(w, 1, true, &w->phone[1].rtcp, srtcp, sizeof srtcp), sealed);
        assert_int_equal(to_relay(w, 0, true, &w->phone[0].rtcp, srtcp, sizeof srtcp), sealed);
        assert_false(to_relay(w, 0, false, &stranger, zrtp, sizeof zrtp));
        assert_false(to_relay(w, 0, true, &stranger, srtcp, sizeof srtcp));
        assert_int_equal(leg_of(w, 1)->packets_in + leg_of(w, 1)->packets_out, 0);
        sworld_free(w);
    }
}

/* UDPTL has no keys: an image line of a leg that must have some carries nothing, either way. */
static void test_image_lines_have_no_keys(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    struct kg_media_secure secure = secure_of(w, 0);
    struct kg_media_side fax = side_of(w, 0, &secure);
    strcpy(fax.stream[0].kind, "image");
    assert_int_equal(kg_relay_describe(w->relay, KG_SIDE_A, &fax, w->now), 0);
    for (unsigned i = 0; i < 256; i++) {
        uint8_t data[40] = {(uint8_t)i, 200};
        assert_false(to_relay(w, i % 2, false, &w->phone[i % 2].rtp, data, sizeof data));
    }
    assert_false(phone_talks(w, 1));
    sworld_free(w);
}

/* Signalling forgot to say that the other side is in the clear: then it is not. */
static void test_keys_on_one_side_only(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_connect(w);
    sworld_tell(w, 0, NULL, false);
    unsigned heard[2] = {w->phone[0].heard, w->phone[1].heard};
    assert_false(phone_talks(w, 1));
    assert_false(phone_talks(w, 0));
    assert_int_equal(w->phone[0].heard + w->phone[0].garbled, heard[0]);
    assert_int_equal(w->phone[1].heard + w->phone[1].garbled, heard[1]);
    sworld_apply(w, 0);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

/* Not answered yet: our keys are in the offer, theirs are not known. */
static void test_nothing_is_heard_before_their_keys(void **state)
{
    (void)state;
    struct sworld *w = sworld_new(KG_SECURE_PLAIN, KG_SECURE_SDES);
    sworld_apply(w, 0);
    struct kg_media_secure secure = secure_of(w, 1);
    secure.receive = (struct kg_srtp_keys){.suite = KG_SRTP_NONE};
    sworld_tell(w, 1, &secure, false);
    assert_false(phone_talks(w, 1));
    assert_nothing_learnt(w, 1);
    sworld_apply(w, 1);
    assert_true(phone_talks(w, 1) && phone_talks(w, 0));
    sworld_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nine_combinations),
        cmocka_unit_test(test_rebinding_is_followed_at_once),
        cmocka_unit_test(test_reports_of_a_listener_are_followed),
        cmocka_unit_test(test_new_keys_in_talk),
        cmocka_unit_test(test_new_keys_at_another_address_begin_anew),
        cmocka_unit_test(test_keys_that_come_back_go_on),
        cmocka_unit_test(test_new_association_in_talk),
        cmocka_unit_test(test_the_same_association_stays),
        cmocka_unit_test(test_restarted_engine_uses_no_old_keys),
        cmocka_unit_test(test_restarted_engine_has_another_certificate),
        cmocka_unit_test(test_feedback_only_where_it_was_offered),
        cmocka_unit_test(test_sealed_lines_pass),
        cmocka_unit_test(test_image_lines_have_no_keys),
        cmocka_unit_test(test_keys_on_one_side_only),
        cmocka_unit_test(test_nothing_is_heard_before_their_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
