/* The engine as a whole on loopback: address families, rtcp-mux, traffic class, silence, settings, watchdog.
 */
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "tests/unit/media_fixture.h"

static void test_ipv4_to_ipv6(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct kg_addr four, six;
    int a = phone_open("127.0.0.1", &four), b = phone_open("::1", &six);
    struct kg_media_side *side_a = describe(&four, "127.0.0.1"), *side_b = describe(&six, "::1");
    struct kg_media_change change = {
        .id = "v6", .bind = {at(f->host), at("::1")}, .side = {side_a, side_b}, .answered = true};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 1);
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    uint8_t heard[256];
    for (uint16_t i = 0; i < 5; i++) {
        phone_talk(a, &f->reply.local[0][0].rtp, i, 1);
        assert_int_equal(phone_hear(b, heard, sizeof heard, WAIT_MS), 172);
        phone_talk(b, &f->reply.local[1][0].rtp, i, 2);
        assert_int_equal(phone_hear(a, heard, sizeof heard, WAIT_MS), 172);
    }
    close(a);
    close(b);
    free(side_a);
    free(side_b);
    fixture_free(f);
}

/* The offer went out for an IPv4 contact; one with IPv6 answers: the ports are the same there. In talk they
 * stay where they are. */
static void test_the_answer_comes_from_the_other_family(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct kg_addr four, six;
    int a = phone_open("127.0.0.1", &four), b = phone_open("::1", &six);
    struct kg_media_side *side_a = describe(&four, "127.0.0.1"), *side_b = describe(&six, "::1");
    struct kg_media_change change = {
        .id = "move", .bind = {at(f->host), at(f->host)}, .side = {side_a, NULL}};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 1);
    struct kg_addr before = f->reply.local[1][0].rtp, a_at = f->reply.local[0][0].rtp;
    assert_int_equal(kg_addr_family(&before), AF_INET);
    change = (struct kg_media_change){
        .id = "move", .bind = {{{{0}}}, at("::1")}, .side = {NULL, side_b}, .answered = true};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 2);
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    struct kg_addr after = f->reply.local[1][0].rtp;
    assert_int_equal(kg_addr_family(&after), AF_INET6);
    assert_int_equal(kg_addr_port(&after), kg_addr_port(&before));
    uint8_t heard[256];
    for (uint16_t i = 0; i < 5; i++) {
        phone_talk(a, &a_at, i, 1);
        assert_int_equal(phone_hear(b, heard, sizeof heard, WAIT_MS), 172);
        phone_talk(b, &after, i, 2);
        assert_int_equal(phone_hear(a, heard, sizeof heard, WAIT_MS), 172);
    }
    change = (struct kg_media_change){.id = "move", .bind = {{{{0}}}, at(f->host)}, .answered = true};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 3);
    assert_true(kg_addr_equal(&f->reply.local[1][0].rtp, &after));
    close(a);
    close(b);
    free(side_a);
    free(side_b);
    fixture_free(f);
}

/* The answer has a line more than there are ports for: it is refused as a whole, and what was there stays
 * where it is. */
static void test_a_change_that_is_refused_moves_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct kg_addr four, six;
    int a = phone_open("127.0.0.1", &four), b = phone_open("::1", &six);
    struct kg_media_side *side_a = describe(&four, "127.0.0.1"), *side_b = describe(&six, "::1");
    side_b->stream[1] = side_b->stream[0];
    side_b->stream_count = 2;
    f->config.media.port_min = 17400;
    f->config.media.port_max = 17405; /* three pairs */
    assert_int_equal(kg_media_configure(f->client, &f->config), 0);
    assert_int_equal(apply(f, "full", side_a, NULL, false, NULL), KG_MEDIA_OK);
    struct kg_addr before = f->reply.local[1][0].rtp;
    struct kg_media_change change = {
        .id = "full", .bind = {{{{0}}}, at("::1")}, .side = {NULL, side_b}, .answered = true};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 2);
    assert_int_equal(f->reply.error, KG_MEDIA_NO_PORTS);
    query(f, "full");
    assert_true(kg_addr_equal(&f->info.stats[1][0].local, &before));
    close(a);
    close(b);
    free(side_a);
    free(side_b);
    fixture_free(f);
}

struct pair {
    struct fixture *f;
    int a, b;
    struct kg_addr a_at, b_at, to_a, to_b;
    struct kg_media_side *side_a, *side_b;
};

static void pair_open(struct pair *p, struct fixture *f)
{
    p->f = f;
    p->a = phone_open("127.0.0.1", &p->a_at);
    p->b = phone_open("127.0.0.2", &p->b_at);
    p->side_a = describe(&p->a_at, "127.0.0.1");
    p->side_b = describe(&p->b_at, "127.0.0.2");
}

static void pair_call(struct pair *p, bool answered)
{
    assert_int_equal(apply(p->f, "pair", p->side_a, p->side_b, answered, NULL), KG_MEDIA_OK);
    p->to_a = p->f->reply.local[0][0].rtp;
    p->to_b = p->f->reply.local[1][0].rtp;
}

static void pair_close(struct pair *p)
{
    close(p->a);
    close(p->b);
    free(p->side_a);
    free(p->side_b);
}

/* DSCP is kept, also when it changes in mid-stream; ECN bits are not copied. */
static void test_dscp_is_kept(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    pair_call(&p, true);
    int one = 1;
    setsockopt(p.b, IPPROTO_IP, IP_RECVTOS, &one, sizeof one);
    static const int sent[] = {0xb8, 0xb8, 0, 0x88, 0xb9};
    static const int expected[] = {0xb8, 0xb8, 0, 0x88, 0xb8};
    for (unsigned i = 0; i < 5; i++) {
        setsockopt(p.a, IPPROTO_IP, IP_TOS, &sent[i], sizeof sent[i]);
        phone_talk(p.a, &p.to_a, (uint16_t)i, 1);
        struct pollfd ready = {.fd = p.b, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
        uint8_t data[256], control[64];
        struct iovec vec = {data, sizeof data};
        struct msghdr m = {
            .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        assert_int_equal(recvmsg(p.b, &m, 0), 172);
        assert_non_null(CMSG_FIRSTHDR(&m));
        assert_int_equal(*CMSG_DATA(CMSG_FIRSTHDR(&m)), expected[i]);
    }
    pair_close(&p);
    fixture_free(f);
}

static void test_rtcp_from_mux_to_a_port_of_its_own_and_back(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    /* B's RTCP socket, wherever the kernel put it; A muxes */
    struct kg_addr rtcp_at;
    int rtcp = phone_open("127.0.0.2", &rtcp_at);
    p.side_b->stream[0].rtcp = rtcp_at;
    p.side_a->stream[0].rtcp = p.a_at;
    p.side_a->stream[0].rtcp_mux = true;
    pair_call(&p, true);
    struct kg_addr to_b_rtcp = f->reply.local[1][0].rtcp;
    static const uint8_t report[] = {0x80, 201, 0, 1, 0, 0, 0, 9};
    uint8_t heard[256];
    phone_talk(p.a, &p.to_a, 1, 1);
    assert_int_equal(phone_hear(p.b, heard, sizeof heard, WAIT_MS), 172);
    phone_send(p.a, &p.to_a, report, sizeof report);
    assert_int_equal(phone_hear(rtcp, heard, sizeof heard, WAIT_MS), 8);
    phone_send(rtcp, &to_b_rtcp, report, sizeof report);
    assert_int_equal(phone_hear(p.a, heard, sizeof heard, WAIT_MS), 8);
    assert_memory_equal(heard, report, sizeof report); /* SSRC untouched */
    close(rtcp);
    pair_close(&p);
    fixture_free(f);
}

static void test_silence_is_told_and_signalling_decides(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    f->config.media.silence_timeout_ms = 50; /* a changed setting reaches the running engine */
    assert_int_equal(kg_media_configure(f->client, &f->config), 0);
    pair_call(&p, true);
    fixture_until(f, f->events[KG_MEDIA_SILENCE] == 1);
    assert_string_equal(f->last_reason, "no packet from either side");
    query(f, "pair"); /* it is signalling that ends the call */
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    pair_close(&p);
    fixture_free(f);
}

static void test_engine_ends_a_silent_call_that_nobody_owns(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    f->config.media.unanswered_timeout_ms = 50;
    assert_int_equal(kg_media_configure(f->client, &f->config), 0);
    query(f, "none"); /* the setting has arrived */
    pair_call(&p, false);
    kg_media_client_free(f->client);
    struct kg_addr freed = p.to_a;
    int probe = -1;
    int64_t end = kg_mono_ms() + WAIT_MS;
    for (int failed = 1; failed && kg_mono_ms() < end;) { /* until its port can be bound again */
        probe = socket(AF_INET, SOCK_DGRAM, 0);
        failed = bind(probe, &freed.sa, kg_addr_len(&freed));
        close(probe);
        if (failed)
            poll(NULL, 0, 10);
    }
    fixture_new_client(f);
    assert_int_equal(f->events[KG_MEDIA_RECOVERED], 0);
    query(f, "pair");
    assert_int_equal(f->reply.error, KG_MEDIA_UNKNOWN);
    pair_close(&p);
    fixture_free(f);
}

static void test_second_stream_later_and_rejected_line(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    pair_call(&p, true);
    p.side_a->stream_count = p.side_b->stream_count = 3;
    p.side_a->stream[1] = p.side_b->stream[1] =
        (struct kg_media_stream){.kind = "video"}; /* port 0 on both */
    p.side_a->stream[2] = p.side_a->stream[0];
    p.side_b->stream[2] = p.side_b->stream[0];
    assert_int_equal(apply(f, "pair", p.side_a, p.side_b, true, NULL), KG_MEDIA_OK);
    assert_int_equal(f->reply.stream_count, 3);
    assert_true(kg_addr_equal(&f->reply.local[0][0].rtp, &p.to_a)); /* the first keeps its ports */
    assert_false(kg_addr_is_set(&f->reply.local[0][1].rtp));
    assert_true(kg_addr_is_set(&f->reply.local[1][2].rtp));
    uint8_t heard[256];
    phone_talk(p.a, &f->reply.local[0][2].rtp, 1, 1);
    assert_int_equal(phone_hear(p.b, heard, sizeof heard, WAIT_MS), 172);
    pair_close(&p);
    fixture_free(f);
}

static void test_bad_local_address(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    struct kg_media_change change = {
        .id = "bad", .bind = {at("192.0.2.1"), at("127.0.0.1")}, .side = {p.side_a, p.side_b}};
    assert_int_equal(kg_media_apply(f->client, &change, fixture_done, f), 0);
    fixture_until(f, f->replies == 1);
    assert_int_equal(f->reply.error, KG_MEDIA_BAD_ADDRESS);
    pair_close(&p);
    fixture_free(f);
}

/* threats.md: a new call is refused, established calls are untouched. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    pair_call(&p, true);
    struct rlimit all, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    few = all;
    few.rlim_cur = (rlim_t)p.b + 8; /* what is open now, give or take one socket */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    enum kg_media_error error = KG_MEDIA_OK;
    for (int i = 0; i < 16 && error == KG_MEDIA_OK; i++) {
        char id[16];
        snprintf(id, sizeof id, "more%d", i);
        error = apply(f, id, p.side_a, p.side_b, false, NULL);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_int_equal(error, KG_MEDIA_NO_SOCKETS);
    uint8_t heard[256];
    phone_talk(p.a, &p.to_a, 1, 1);
    assert_int_equal(phone_hear(p.b, heard, sizeof heard, WAIT_MS), 172);
    assert_int_equal(apply(f, "after", p.side_a, p.side_b, false, NULL), KG_MEDIA_OK);
    pair_close(&p);
    fixture_free(f);
}

static int watched_reads;
static void on_watched(void *ctx)
{
    uint64_t count;
    if (read(*(int *)ctx, &count, sizeof count) == sizeof count)
        watched_reads++;
}

static void test_heartbeat_and_watch(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    fixture_until(f, f->beats > 0);
    assert_false(kg_media_engine_sessions(f->engine) != 0);
    fixture_stop_engine(f);
    /* On an engine that does not run yet, so that its control thread is ours. */
    f->engine = kg_media_engine_new(&f->config, f->listen_fd, fixture_beat, f);
    int fd = eventfd(1, EFD_NONBLOCK);
    assert_int_equal(kg_media_engine_watch(f->engine, fd, on_watched, &fd), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, fixture_run, f->engine), 0);
    fixture_until(f, kg_media_client_is_up(f->client));
    fixture_stop_engine(f);
    assert_int_equal(watched_reads, 1);
    close(fd);
    fixture_free(f);
}

/* A peer on the control socket that talks nonsense is cut off; the sessions stay. */
static void test_nonsense_on_the_control_socket(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct pair p;
    pair_open(&p, f);
    pair_call(&p, true);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, f->path, strlen(f->path));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(fd, "\xff\xff\xff", 3, MSG_NOSIGNAL), 3);
    char rest[256];
    ssize_t len;
    do
        len = recv(fd, rest, sizeof rest, 0);
    while (len > 0); /* Hello, then the end */
    close(fd);
    fixture_until(f, f->events[KG_MEDIA_UP] == 2); /* our client was replaced, and came back */
    query(f, "pair");
    assert_int_equal(f->reply.error, KG_MEDIA_OK);
    assert_int_equal(f->events[KG_MEDIA_LOST] + f->events[KG_MEDIA_RECOVERED], 0);
    pair_close(&p);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4_to_ipv6),
        cmocka_unit_test(test_the_answer_comes_from_the_other_family),
        cmocka_unit_test(test_a_change_that_is_refused_moves_nothing),
        cmocka_unit_test(test_dscp_is_kept),
        cmocka_unit_test(test_rtcp_from_mux_to_a_port_of_its_own_and_back),
        cmocka_unit_test(test_silence_is_told_and_signalling_decides),
        cmocka_unit_test(test_engine_ends_a_silent_call_that_nobody_owns),
        cmocka_unit_test(test_second_stream_later_and_rejected_line),
        cmocka_unit_test(test_bad_local_address),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_heartbeat_and_watch),
        cmocka_unit_test(test_nonsense_on_the_control_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
