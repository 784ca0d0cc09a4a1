/* Keys through the whole engine on loopback: the control protocol, workers, sockets, events; its death. */
#include "tests/unit/media_fixture.h"

#include "media/dtls.h"
#include "media/srtp.h"

static const uint8_t secret[32] = {9};

/* A plain phone, and one with keys. */
struct talk {
    struct fixture *f;
    int plain, keyed;
    struct kg_addr plain_at, keyed_at, to_plain, to_keyed;
    struct kg_media_side *plain_side, *keyed_side;
    struct kg_media_secure clear, secure;
    struct kg_srtp *srtp;
    struct kg_dtls_identity *identity;
    struct kg_dtls *dtls;
    uint16_t sequence;
};

static struct kg_srtp_keys some_keys(uint8_t seed)
{
    struct kg_srtp_keys keys = {.suite = KG_SRTP_AES_CM_128_SHA1_80, .count = 1};
    memset(keys.key[0].bytes, seed, kg_srtp_suite_key_len(KG_SRTP_AES_CM_128_SHA1_80));
    return keys;
}

static void talk_open(struct talk *t, enum kg_secure_use use)
{
    *t = (struct talk){.f = fixture_new()};
    t->plain = phone_open("127.0.0.1", &t->plain_at);
    t->keyed = phone_open("127.0.0.2", &t->keyed_at);
    t->plain_side = describe(&t->plain_at, "127.0.0.1");
    t->keyed_side = describe(&t->keyed_at, "127.0.0.2");
    t->keyed_side->stream[0].rtcp_mux = true;
    t->keyed_side->stream[0].rtcp = t->keyed_side->stream[0].rtp;
    t->clear.use = KG_SECURE_PLAIN;
    t->secure.use = (uint8_t)use;
    t->plain_side->stream[0].secure = &t->clear;
    t->keyed_side->stream[0].secure = &t->secure;
    t->srtp = kg_srtp_new();
    t->identity = kg_dtls_identity_new();
    t->secure.fingerprint_count = 1;
    t->secure.fingerprint[0] = *kg_dtls_identity_fingerprint(t->identity);
    t->secure.setup = KG_SETUP_PASSIVE;
}

static void talk_call(struct talk *t)
{
    assert_int_equal(apply(t->f, "keys", t->plain_side, t->keyed_side, true, NULL), KG_MEDIA_OK);
    t->to_plain = t->f->reply.local[0][0].rtp;
    t->to_keyed = t->f->reply.local[1][0].rtp;
}

static void talk_close(struct talk *t)
{
    close(t->plain);
    close(t->keyed);
    free(t->plain_side);
    free(t->keyed_side);
    kg_srtp_free(t->srtp);
    kg_dtls_free(t->dtls);
    kg_dtls_identity_unref(t->identity);
    fixture_free(t->f);
}

static void sdes_keys(struct talk *t, uint8_t ours, uint8_t theirs)
{
    t->secure.send = some_keys(ours);
    t->secure.receive = some_keys(theirs);
    kg_srtp_set_send(t->srtp, &t->secure.receive, kg_mono_ms());
    kg_srtp_set_receive(t->srtp, &t->secure.send, kg_mono_ms());
}

/* One packet each way, byte for byte. */
static void talk_both_ways(struct talk *t)
{
    _Alignas(8) uint8_t sent[256], heard[256], clear[172];
    size_t len = rtp_packet(clear, 0, t->sequence, 7);
    memcpy(sent, clear, len);
    assert_int_equal(kg_srtp_protect(t->srtp, sent, &len, sizeof sent), KG_SRTP_OK);
    phone_send(t->keyed, &t->to_keyed, sent, len);
    assert_int_equal(phone_hear(t->plain, heard, sizeof heard, WAIT_MS), 172);
    assert_memory_equal(heard, clear, 172);
    rtp_packet(clear, 0, t->sequence++, 8);
    phone_send(t->plain, &t->to_plain, clear, 172);
    ssize_t got = phone_hear(t->keyed, heard, sizeof heard, WAIT_MS);
    assert_true(got > 172);
    assert_memory_not_equal(heard + 12, clear + 12, 160);
    len = (size_t)got;
    assert_int_equal(kg_srtp_unprotect(t->srtp, heard, &len, kg_mono_ms()), KG_SRTP_OK);
    assert_int_equal(len, 172);
    assert_memory_equal(heard, clear, 172);
}

/* The phone begins. Until keys stand there and here. */
static void shake_hands(struct talk *t)
{
    const struct kg_fingerprint *engine = kg_media_fingerprint(t->f->client);
    uint8_t data[KG_DTLS_DATAGRAM_MAX];
    size_t len;
    kg_dtls_free(t->dtls);
    t->dtls =
        kg_dtls_new(&(struct kg_dtls_settings){.identity = t->identity, .active = true, .secret = secret});
    kg_dtls_expect(t->dtls, engine, 1);
    kg_dtls_start(t->dtls, kg_mono_ms());
    int before = t->f->events[KG_MEDIA_SECURE];
    int64_t end = kg_mono_ms() + WAIT_MS;
    while (kg_dtls_state(t->dtls) == KG_DTLS_HANDSHAKE && kg_mono_ms() < end) {
        while (kg_dtls_poll(t->dtls, kg_mono_ms(), data, &len))
            phone_send(t->keyed, &t->to_keyed, data, len);
        ssize_t got = phone_hear(t->keyed, data, sizeof data, 50);
        if (got > 0 && data[0] < 64)
            kg_dtls_receive(t->dtls, data, (size_t)got, &t->to_keyed, kg_addr_len(&t->to_keyed),
                            kg_mono_ms());
    }
    struct kg_srtp_keys send, receive;
    assert_true(kg_dtls_keys(t->dtls, &send, &receive));
    kg_srtp_begin_anew(t->srtp);
    kg_srtp_set_send(t->srtp, &send, kg_mono_ms());
    kg_srtp_set_receive(t->srtp, &receive, kg_mono_ms());
    fixture_until(t->f, t->f->events[KG_MEDIA_SECURE] > before);
    const struct kg_media_event *event = &t->f->last[KG_MEDIA_SECURE];
    assert_true(event->secured && event->side == KG_SIDE_B && event->stream == 0 && !event->rtcp);
}

static void assert_stats(struct talk *t, enum kg_secure_use use)
{
    query(t->f, "keys");
    const struct kg_media_stats *stats = &t->f->info.stats[KG_SIDE_B][0];
    assert_int_equal(stats->secure_use, use);
    assert_int_not_equal(stats->suite, KG_SRTP_NONE);
    assert_int_equal(stats->proof, KG_PROOF_SRTP);
    assert_int_equal(t->f->info.stats[KG_SIDE_A][0].secure_use, KG_SECURE_PLAIN);
    assert_false(stats->wants_keys);
}

static void test_sdes(void **state)
{
    (void)state;
    struct talk t;
    talk_open(&t, KG_SECURE_SDES);
    sdes_keys(&t, 1, 2);
    talk_call(&t);
    for (unsigned i = 0; i < 5; i++)
        talk_both_ways(&t);
    assert_stats(&t, KG_SECURE_SDES);
    sdes_keys(&t, 3, 4);
    talk_call(&t);
    for (unsigned i = 0; i < 5; i++)
        talk_both_ways(&t);
    talk_close(&t);
}

static void test_dtls(void **state)
{
    (void)state;
    struct talk t;
    talk_open(&t, KG_SECURE_DTLS);
    assert_non_null(kg_media_fingerprint(t.f->client));
    t.secure.ours = *kg_media_fingerprint(t.f->client);
    talk_call(&t);
    shake_hands(&t);
    for (unsigned i = 0; i < 5; i++)
        talk_both_ways(&t);
    assert_stats(&t, KG_SECURE_DTLS);
    talk_close(&t);
}

/* The engine is killed: it has another certificate, says that keys are lost, and sends nothing with the old
 * ones until signalling has told new ones. */
static void test_engine_killed_in_talk(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 2; n++) {
        struct talk t;
        talk_open(&t, n ? KG_SECURE_DTLS : KG_SECURE_SDES);
        struct kg_fingerprint before = *kg_media_fingerprint(t.f->client);
        t.secure.ours = before;
        if (n == 0)
            sdes_keys(&t, 1, 2);
        talk_call(&t);
        if (n == 1)
            shake_hands(&t);
        talk_both_ways(&t);
        fixture_until(t.f, t.f->events[KG_MEDIA_LATCHED] >= 2);
        int ups = t.f->events[KG_MEDIA_UP], identities = t.f->events[KG_MEDIA_IDENTITY];
        fixture_stop_engine(t.f);
        fixture_start_engine(t.f);
        fixture_until(t.f, t.f->events[KG_MEDIA_UP] > ups && t.f->events[KG_MEDIA_REKEY] == 1);
        assert_int_equal(t.f->last[KG_MEDIA_REKEY].side, KG_SIDE_B);
        assert_int_equal(t.f->events[KG_MEDIA_IDENTITY], identities + 1);
        assert_memory_not_equal(&before, kg_media_fingerprint(t.f->client), sizeof before);
        phone_talk(t.plain, &t.to_plain, t.sequence++, 8);
        query(t.f, "keys");
        query(t.f, "keys"); /* the packet went before */
        uint8_t heard[256];
        assert_int_equal(phone_hear(t.keyed, heard, sizeof heard, 0), -1);
        assert_int_equal(t.f->info.stats[KG_SIDE_B][0].unsent, 1);
        assert_true(t.f->info.stats[KG_SIDE_B][0].wants_keys); /* for the next signalling, if this one dies */
        assert_false(t.f->info.stats[KG_SIDE_A][0].wants_keys);
        t.secure.ours = *kg_media_fingerprint(t.f->client);
        t.secure.association++;
        if (n == 0)
            sdes_keys(&t, 5, 6);
        talk_call(&t);
        if (n == 1)
            shake_hands(&t);
        talk_both_ways(&t);
        assert_stats(&t, n ? KG_SECURE_DTLS : KG_SECURE_SDES);
        talk_close(&t);
    }
}

#define CROWD 24

struct crowd {
    int fd[CROWD];
    struct kg_addr to[CROWD];
    struct kg_dtls *dtls[CROWD];
};

static void crowd_call(struct talk *t, struct crowd *c, unsigned i)
{
    char id[16];
    snprintf(id, sizeof id, "crowd%u", i);
    struct kg_addr at_phone;
    c->fd[i] = phone_open("127.0.0.2", &at_phone);
    struct kg_media_side *side = describe(&at_phone, "127.0.0.2");
    side->stream[0].rtcp_mux = true;
    side->stream[0].rtcp = side->stream[0].rtp;
    side->stream[0].secure = &t->secure;
    assert_int_equal(apply(t->f, id, t->plain_side, side, true, NULL), KG_MEDIA_OK);
    c->to[i] = t->f->reply.local[1][0].rtp;
    c->dtls[i] =
        kg_dtls_new(&(struct kg_dtls_settings){.identity = t->identity, .active = true, .secret = secret});
    kg_dtls_expect(c->dtls[i], kg_media_fingerprint(t->f->client), 1);
    free(side);
}

/* More phones begin at once than one round of a worker takes: each has its turn. */
static void test_many_handshakes_at_once(void **state)
{
    (void)state;
    struct talk t;
    struct crowd c;
    talk_open(&t, KG_SECURE_DTLS);
    t.secure.ours = *kg_media_fingerprint(t.f->client);
    for (unsigned i = 0; i < CROWD; i++)
        crowd_call(&t, &c, i);
    unsigned established = 0;
    int64_t end = kg_mono_ms() + WAIT_MS;
    for (unsigned i = 0; i < CROWD; i++)
        kg_dtls_start(c.dtls[i], kg_mono_ms());
    while (established < CROWD && kg_mono_ms() < end) {
        uint8_t data[KG_DTLS_DATAGRAM_MAX];
        size_t len;
        established = 0;
        for (unsigned i = 0; i < CROWD; i++) {
            while (kg_dtls_poll(c.dtls[i], kg_mono_ms(), data, &len))
                phone_send(c.fd[i], &c.to[i], data, len);
            established += kg_dtls_state(c.dtls[i]) == KG_DTLS_ESTABLISHED;
        }
        for (unsigned i = 0; i < CROWD; i++) {
            ssize_t got = phone_hear(c.fd[i], data, sizeof data, i == 0 ? 1 : 0);
            if (got > 0)
                kg_dtls_receive(c.dtls[i], data, (size_t)got, &c.to[i], kg_addr_len(&c.to[i]), kg_mono_ms());
        }
    }
    assert_int_equal(established, CROWD);
    fixture_until(t.f, t.f->events[KG_MEDIA_SECURE] == CROWD);
    assert_true(t.f->last[KG_MEDIA_SECURE].secured);
    for (unsigned i = 0; i < CROWD; i++) {
        close(c.fd[i]);
        kg_dtls_free(c.dtls[i]);
    }
    talk_close(&t);
}

/* Signalling is restarted: media goes on, and the next one's description finds the index where it was. */
static void test_signalling_restarted(void **state)
{
    (void)state;
    struct talk t;
    talk_open(&t, KG_SECURE_SDES);
    sdes_keys(&t, 1, 2);
    talk_call(&t);
    talk_both_ways(&t);
    kg_media_client_free(t.f->client);
    t.sequence++;
    talk_both_ways(&t);
    fixture_new_client(t.f);
    assert_int_equal(t.f->events[KG_MEDIA_RECOVERED], 1);
    talk_call(&t);
    t.sequence++;
    talk_both_ways(&t);
    assert_int_equal(t.f->events[KG_MEDIA_REKEY], 0);
    assert_int_equal(kg_srtp_counts(t.srtp).replayed, 0);
    talk_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sdes),
        cmocka_unit_test(test_dtls),
        cmocka_unit_test(test_engine_killed_in_talk),
        cmocka_unit_test(test_many_handshakes_at_once),
        cmocka_unit_test(test_signalling_restarted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
