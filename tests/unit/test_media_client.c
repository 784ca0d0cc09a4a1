/* The client against a real engine in this process: requests, restart of either end, survival of sessions. */
#include "tests/unit/media_fixture.h"

struct call {
    struct fixture *f;
    int phone[2];
    struct kg_addr addr[2];
    struct kg_media_side *side[2];
    struct kg_addr local[2];
};

/* A talks from 127.0.0.1, B from 127.0.0.2, both as their SDP says. */
static void call_make(struct call *c, struct fixture *f, const char *id)
{
    static const char *const host[] = {"127.0.0.1", "127.0.0.2"};
    c->f = f;
    for (int i = 0; i < 2; i++) {
        c->phone[i] = phone_open(host[i], &c->addr[i]);
        c->side[i] = describe(&c->addr[i], host[i]);
    }
    assert_int_equal(apply(f, id, c->side[0], c->side[1], true, "snapshot of the call"), KG_MEDIA_OK);
    assert_int_equal(f->reply.stream_count, 1);
    for (int i = 0; i < 2; i++)
        c->local[i] = f->reply.local[i][0].rtp;
}

static void call_end(struct call *c)
{
    for (int i = 0; i < 2; i++) {
        close(c->phone[i]);
        free(c->side[i]);
    }
}

static void talk_both_ways(struct call *c, uint16_t sequence)
{
    uint8_t heard[256];
    for (int i = 0; i < 2; i++) {
        phone_talk(c->phone[i], &c->local[i], sequence, 77 + (uint32_t)i);
        assert_int_equal(phone_hear(c->phone[1 - i], heard, sizeof heard, WAIT_MS), 172);
        assert_int_equal(heard[3], sequence & 0xff);
    }
}

static void test_apply_relays_both_ways_and_counts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "aa01");
    assert_int_equal(kg_addr_port(&c.local[0]) % 2, 0);
    assert_int_equal(kg_addr_port(&f->reply.local[0][0].rtcp), kg_addr_port(&c.local[0]) + 1);
    for (uint16_t i = 0; i < 10; i++)
        talk_both_ways(&c, i);
    query(f, "aa01");
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    for (int i = 0; i < 2; i++) {
        const struct kg_media_stats *s = &f->info.stats[i][0];
        assert_int_equal(s->packets_in, 10);
        assert_int_equal(s->packets_out, 10);
        assert_int_equal(s->bytes_in, 1720);
        assert_int_equal(s->lost, 0);
        assert_int_equal(s->proof, KG_PROOF_SDP);
        assert_true(kg_addr_equal(&s->remote, &c.addr[i]));
        assert_true(kg_addr_equal(&s->local, &c.local[i]));
        assert_string_equal(s->codec, "PCMU");
        assert_true(s->mos > 4.0);
        assert_true(s->first_packet_ms >= 0);
    }
    fixture_until(f, f->events[KG_MEDIA_LATCHED] == 2);
    call_end(&c);
    fixture_free(f);
}

static void test_delete_reports_and_frees_the_ports(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "aa02");
    talk_both_ways(&c, 1);
    int before = f->replies;
    assert_int_equal(kg_media_delete(f->client, "aa02", fixture_done, f), 0);
    fixture_until(f, f->replies > before);
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    assert_int_equal(f->info.stats[0][0].packets_in, 1);
    assert_non_null(f->reply.info);
    query(f, "aa02");
    assert_int_equal(f->reply.error, KG_MEDIA_UNKNOWN);
    int again = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(again, &c.local[0].sa, kg_addr_len(&c.local[0])), 0);
    close(again);
    call_end(&c);
    fixture_free(f);
}

static void test_query_of_all_gives_each_once_then_an_end(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct kg_addr nobody = at("127.0.0.9:9000");
    struct kg_media_side *side = describe(&nobody, "127.0.0.9");
    for (int i = 0; i < 70; i++) {
        char id[16];
        snprintf(id, sizeof id, "bb%02d", i);
        assert_int_equal(apply(f, id, side, NULL, false, NULL), KG_MEDIA_OK);
    }
    f->listed = 0;
    f->replies = 0;
    assert_int_equal(kg_media_query(f->client, NULL, fixture_done, f), 0);
    fixture_until(f, f->replies == 71);
    assert_int_equal(f->listed, 70);
    assert_null(f->reply.info);
    free(side);
    fixture_free(f);
}

static void test_no_ports_is_said_and_leaves_nothing_behind(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct kg_addr nobody = at("127.0.0.9:9000");
    struct kg_media_side *side = describe(&nobody, "127.0.0.9");
    /* 200 pairs, two a call */
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "cc%03d", i);
        assert_int_equal(apply(f, id, side, NULL, false, NULL), KG_MEDIA_OK);
    }
    assert_int_equal(apply(f, "ccfull", side, NULL, false, NULL), KG_MEDIA_NO_PORTS);
    query(f, "ccfull");
    assert_int_equal(f->reply.error, KG_MEDIA_UNKNOWN);
    query(f, "cc000");
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    free(side);
    fixture_free(f);
}

static void test_media_goes_on_when_signalling_dies_and_the_next_takes_over(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "dd01");
    talk_both_ways(&c, 1);
    /* As kill -9 does: the connection ends, nothing is said. */
    kg_media_client_free(f->client);
    f->client = NULL;
    talk_both_ways(&c, 2);
    fixture_new_client(f);
    assert_int_equal(f->events[KG_MEDIA_RECOVERED], 1);
    assert_string_equal(f->last_snapshot, "snapshot of the call");
    talk_both_ways(&c, 3);
    query(f, "dd01");
    assert_int_equal(f->info.stats[0][0].packets_in, 3);
    /* The new client has a full mirror: it can make the call again in a new engine. */
    int up = f->events[KG_MEDIA_UP];
    fixture_stop_engine(f);
    fixture_start_engine(f);
    fixture_until(f, f->events[KG_MEDIA_UP] > up);
    talk_both_ways(&c, 4);
    call_end(&c);
    fixture_free(f);
}

static void test_engine_restart_keeps_ports_and_latches(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "ee01");
    talk_both_ways(&c, 1);
    fixture_until(f, f->events[KG_MEDIA_LATCHED] == 2);
    int up = f->events[KG_MEDIA_UP];
    fixture_stop_engine(f);
    fixture_start_engine(f);
    fixture_until(f, f->events[KG_MEDIA_UP] > up);
    assert_int_equal(f->events[KG_MEDIA_DOWN], 1);
    assert_int_equal(f->events[KG_MEDIA_LOST], 0);
    assert_int_equal(f->events[KG_MEDIA_RECOVERED], 0);
    /* B hears A before B has sent anything to the new engine. */
    talk_both_ways(&c, 2);
    query(f, "ee01");
    assert_int_equal(f->info.stats[1][0].proof, KG_PROOF_SDP);
    assert_true(kg_addr_equal(&f->info.stats[0][0].local, &c.local[0]));
    call_end(&c);
    fixture_free(f);
}

static void test_session_whose_port_was_taken_meanwhile_is_lost_with_a_reason(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "ef01");
    int up = f->events[KG_MEDIA_UP];
    fixture_stop_engine(f);
    int thief = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(thief, &c.local[0].sa, kg_addr_len(&c.local[0])), 0);
    fixture_start_engine(f);
    fixture_until(f, f->events[KG_MEDIA_UP] > up);
    assert_int_equal(f->events[KG_MEDIA_LOST], 1);
    assert_non_null(strstr(f->last_reason, "ports"));
    close(thief);
    call_end(&c);
    fixture_free(f);
}

static void test_requests_wait_for_the_engine_then_expire(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "ff01");
    fixture_stop_engine(f);
    struct kg_media_change change = {.id = "ff02", .bind = {at(f->host), at(f->host)}, .side = {c.side[0]}};
    int before = f->replies;
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    int64_t now = kg_mono_ms();
    kg_media_client_run(f->client, now);
    assert_int_equal(f->replies, before);
    kg_media_client_run(f->client, now + 1990);
    assert_int_equal(f->replies, before);
    kg_media_client_run(f->client, now + 2001);
    assert_int_equal(f->replies, before + 1);
    assert_int_equal(f->reply.error, KG_MEDIA_GONE);
    kg_media_client_run(f->client, now + 9000);
    assert_int_equal(f->replies, before + 1); /* exactly once */
    call_end(&c);
    fixture_free(f);
}

static void test_expired_delete_reaches_the_engine_later(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct call c;
    call_make(&c, f, "f101");
    fixture_stop_engine(f);
    int64_t now = kg_mono_ms();
    int before = f->replies;
    assert_int_equal(kg_media_delete(f->client, "f101", fixture_done, f), 0);
    kg_media_client_run(f->client, now);
    kg_media_client_run(f->client, now + 2001);
    assert_int_equal(f->replies, before + 1);
    assert_int_equal(f->reply.error, KG_MEDIA_GONE);
    int up = f->events[KG_MEDIA_UP];
    fixture_start_engine(f);
    fixture_until(f, f->events[KG_MEDIA_UP] > up);
    query(f, "f101"); /* not made again */
    assert_int_equal(f->reply.error, KG_MEDIA_UNKNOWN);
    call_end(&c);
    fixture_free(f);
}

static void test_too_big_snapshot_is_refused(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    char *big = calloc(1, KG_MEDIA_SNAPSHOT_MAX + 1);
    struct kg_media_change change = {.id = "a1", .snapshot = big, .snapshot_len = KG_MEDIA_SNAPSHOT_MAX + 1};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), EMSGSIZE);
    free(big);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply_relays_both_ways_and_counts),
        cmocka_unit_test(test_delete_reports_and_frees_the_ports),
        cmocka_unit_test(test_query_of_all_gives_each_once_then_an_end),
        cmocka_unit_test(test_no_ports_is_said_and_leaves_nothing_behind),
        cmocka_unit_test(test_media_goes_on_when_signalling_dies_and_the_next_takes_over),
        cmocka_unit_test(test_engine_restart_keeps_ports_and_latches),
        cmocka_unit_test(test_session_whose_port_was_taken_meanwhile_is_lost_with_a_reason),
        cmocka_unit_test(test_requests_wait_for_the_engine_then_expire),
        cmocka_unit_test(test_expired_delete_reaches_the_engine_later),
        cmocka_unit_test(test_too_big_snapshot_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
