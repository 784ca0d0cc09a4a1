/* ICE phones on loopback sockets against a real engine: notices, reports, timers, restarts of either end, and
 * strangers. What happens on a leg in detail is in test_relay_ice.c and test_relay_steer.c. */
#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "tests/unit/media_fixture.h"

struct ice_phone {
    int fd[2]; /* by component - 1; -1: none */
    struct kg_addr at[2];
    uint8_t components;
    struct kg_ice_agent *agent;
    char ufrag[16], pwd[32];
    struct kg_candidate candidate[2];
    struct kg_ice_description description;
    unsigned heard, checks; /* RTP; STUN */
    uint16_t sequence;
    bool dead; /* reads and answers nothing */
};

static void fill(void *ctx, void *out, size_t len)
{
    (void)ctx;
    kg_random(out, len);
}

static void credentials(struct ice_phone *p)
{
    kg_random_hex(p->ufrag, 8);
    kg_random_hex(p->pwd, 24);
}

static void phone_make(struct ice_phone *p, const char *host, uint8_t components, bool controlling)
{
    struct kg_ice_settings settings = {.controlling = controlling, .random = fill};
    struct kg_addr none = {0};
    *p = (struct ice_phone){.fd = {-1, -1}, .components = components};
    credentials(p);
    p->agent = kg_ice_agent_new(&settings);
    assert_non_null(p->agent);
    assert_int_equal(kg_ice_add_stream(p->agent, 0, components), 0);
    for (uint8_t c = 1; c <= components; c++) {
        p->fd[c - 1] = phone_open(host, &p->at[c - 1]);
        assert_int_equal(kg_ice_add_local(p->agent, 0, c, KG_CANDIDATE_HOST, &p->at[c - 1], &p->at[c - 1],
                                          UINT16_MAX, &none),
                         0);
        p->candidate[c - 1] =
            (struct kg_candidate){.type = KG_CANDIDATE_HOST,
                                  .component = c,
                                  .addr = p->at[c - 1],
                                  .foundation = "1",
                                  .priority = kg_candidate_priority(KG_CANDIDATE_HOST, UINT16_MAX, c)};
    }
    assert_int_equal(kg_ice_set_local(p->agent, p->ufrag, p->pwd), 0);
    assert_int_equal(kg_ice_start(p->agent, kg_mono_ms()), 0);
    p->description = (struct kg_ice_description){.ufrag = p->ufrag,
                                                 .pwd = p->pwd,
                                                 .ice2 = true,
                                                 .end_of_candidates = true,
                                                 .candidate_count = components,
                                                 .candidate = p->candidate};
}

static void phone_end(struct ice_phone *p)
{
    kg_ice_agent_free(p->agent);
    for (int i = 0; i < 2; i++) {
        if (p->fd[i] >= 0)
            close(p->fd[i]);
    }
}

/* kedge's port for this phone is a candidate: of kedge itself, or (with `other`) the other phone's relay. */
static void phone_told(struct ice_phone *p, const struct kg_addr *kedge, const char *ufrag, const char *pwd,
                       const struct ice_phone *other)
{
    struct kg_candidate candidate[4];
    uint8_t count = 0;
    for (uint8_t c = 1; c <= p->components; c++) {
        enum kg_candidate_type type = other ? KG_CANDIDATE_RELAY : KG_CANDIDATE_HOST;
        candidate[count] = (struct kg_candidate){.type = (uint8_t)type,
                                                 .component = c,
                                                 .addr = *kedge,
                                                 .foundation = "k",
                                                 .priority = kg_candidate_priority(type, 1, c)};
        kg_addr_set_port(&candidate[count].addr, (uint16_t)(kg_addr_port(kedge) + c - 1));
        count++;
    }
    struct kg_ice_description d = {.ufrag = ufrag,
                                   .pwd = pwd,
                                   .ice2 = true,
                                   .end_of_candidates = true,
                                   .candidate_count = count,
                                   .candidate = candidate};
    assert_int_equal(kg_ice_set_remote(p->agent, 0, &d, kg_mono_ms()), 0);
}

static void phone_pump(struct ice_phone *p)
{
    int64_t now = kg_mono_ms();
    struct kg_ice_datagram d;
    struct kg_ice_event event;
    for (unsigned c = 0; p->agent && !p->dead && c < p->components; c++) {
        uint8_t data[1500];
        struct kg_addr from;
        socklen_t len = sizeof from;
        ssize_t n;
        while ((n = recvfrom(p->fd[c], data, sizeof data, MSG_DONTWAIT, &from.sa, &len)) > 0) {
            if (data[0] <= 3) {
                p->checks++;
                kg_ice_receive(p->agent, &p->at[c], &from, data, (size_t)n, now);
            } else {
                p->heard++;
            }
            while (kg_ice_poll(p->agent, now, &d))
                sendto(p->fd[d.component - 1], d.data, d.len, 0, &d.to.sa, kg_addr_len(&d.to));
        }
    }
    while (!p->dead && kg_ice_poll(p->agent, now, &d))
        sendto(p->fd[d.component - 1], d.data, d.len, 0, &d.to.sa, kg_addr_len(&d.to));
    while (kg_ice_poll_event(p->agent, &event))
        ;
}

static void phone_speak(struct ice_phone *p)
{
    struct kg_ice_pair pair;
    if (kg_ice_selected(p->agent, 0, 1, &pair))
        phone_talk(p->fd[0], &pair.remote.addr, p->sequence++, 0x77);
}

struct scene {
    struct fixture *f;
    struct ice_phone phone[2];
    int legacy; /* B's socket in scenes without ICE there */
    struct kg_addr legacy_at;
    struct kg_media_side *side[2];
    struct kg_media_ice_local ice[2];
    struct kg_addr to[2]; /* the engine's ports */
    uint16_t sequence;    /* B's */
};

/* A turn of everyone: at most 5 ms. */
static void turn(struct scene *s)
{
    struct pollfd p = {.fd = kg_media_client_fd(s->f->client), .events = POLLIN};
    poll(&p, 1, 5);
    kg_media_client_run(s->f->client, kg_mono_ms());
    for (int i = 0; i < 2; i++) {
        if (s->phone[i].agent)
            phone_pump(&s->phone[i]);
    }
}

#define scene_until(s, condition)                                                                            \
    do {                                                                                                     \
        int64_t end_ = kg_mono_ms() + WAIT_MS;                                                               \
        while (!(condition) && kg_mono_ms() < end_)                                                          \
            turn(s);                                                                                         \
        assert_true(condition);                                                                              \
    } while (0)

static void scene_apply(struct scene *s, bool a, bool b, bool answered)
{
    struct kg_media_change change = {.id = "ice",
                                     .bind = {at(s->f->host), at(s->f->host)},
                                     .ice = {s->ice[0], s->ice[1]},
                                     .side = {a ? s->side[0] : NULL, b ? s->side[1] : NULL},
                                     .answered = answered};
    int before = s->f->replies;
    assert_int_equal(kg_media_apply(s->f->client, &change, fixture_done, s->f), 0);
    fixture_until(s->f, s->f->replies > before);
    assert_int_equal(s->f->reply.error, KG_MEDIA_OK);
    for (int i = 0; i < 2; i++)
        s->to[i] = s->f->reply.local[i][0].rtp;
}

static void local_credentials(struct kg_media_ice_local *local, bool controlling)
{
    kg_random_hex(local->ufrag, 8);
    kg_random_hex(local->pwd, 24);
    local->controlling = controlling;
}

static struct kg_media_side *ice_side(struct ice_phone *p, const char *host, enum kg_ice_use use)
{
    struct kg_media_side *side = describe(&p->at[0], host);
    side->stream[0].ice_use = (uint8_t)use;
    side->stream[0].ice = &p->description;
    if (p->components == 1) {
        side->stream[0].rtcp = side->stream[0].rtp;
        side->stream[0].rtcp_mux = true;
    }
    return side;
}

/* A phone with ICE that offered, and one without. */
static void half(struct scene *s, struct fixture *f, uint8_t components, bool kedge_controls)
{
    *s = (struct scene){.f = f};
    phone_make(&s->phone[0], "127.0.0.1", components, !kedge_controls);
    s->legacy = phone_open("127.0.0.2", &s->legacy_at);
    s->side[0] = ice_side(&s->phone[0], "127.0.0.1", KG_ICE_AGENT);
    s->side[1] = describe(&s->legacy_at, "127.0.0.2");
    local_credentials(&s->ice[0], kedge_controls);
    scene_apply(s, true, true, true);
    phone_told(&s->phone[0], &s->to[0], s->ice[0].ufrag, s->ice[0].pwd, NULL);
}

static void steered(struct scene *s, struct fixture *f)
{
    static const char *const host[] = {"127.0.0.1", "127.0.0.2"};
    *s = (struct scene){.f = f, .legacy = -1};
    for (int i = 0; i < 2; i++) {
        phone_make(&s->phone[i], host[i], 1, i == 0);
        s->side[i] = ice_side(&s->phone[i], host[i], KG_ICE_STEER);
        local_credentials(&s->ice[i], false);
    }
    scene_apply(s, true, false, false);
    scene_apply(s, false, true, true);
    for (int i = 0; i < 2; i++)
        phone_told(&s->phone[i], &s->to[i], s->phone[1 - i].ufrag, s->phone[1 - i].pwd, &s->phone[1 - i]);
}

static void scene_end(struct scene *s)
{
    for (int i = 0; i < 2; i++) {
        if (s->phone[i].agent)
            phone_end(&s->phone[i]);
        free(s->side[i]);
    }
    if (s->legacy >= 0)
        close(s->legacy);
    fixture_free(s->f);
}

static bool completed(const struct scene *s, int phone)
{
    return kg_ice_state(s->phone[phone].agent) == KG_ICE_COMPLETED;
}

/* The phone with ICE and the one without hear each other. */
static void talk_half(struct scene *s)
{
    uint8_t heard[256];
    unsigned before = s->phone[0].heard;
    phone_talk(s->legacy, &s->to[1], s->sequence++, 0x99);
    scene_until(s, s->phone[0].heard > before);
    phone_speak(&s->phone[0]);
    assert_int_equal(phone_hear(s->legacy, heard, sizeof heard, WAIT_MS), 172);
}

static void talk_steered(struct scene *s)
{
    for (int i = 0; i < 2; i++) {
        unsigned before = s->phone[1 - i].heard;
        phone_speak(&s->phone[i]);
        scene_until(s, s->phone[1 - i].heard > before);
    }
}

static void test_agent_both_roles_one_and_two_components(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        struct fixture *f = fixture_new();
        struct scene s;
        uint8_t components = variant % 2 ? 2 : 1;
        half(&s, f, components, variant / 2);
        scene_until(&s, completed(&s, 0));
        scene_until(&s, f->events[KG_MEDIA_ICE] > 0 && f->last[KG_MEDIA_ICE].ice_state == KG_ICE_COMPLETED);
        assert_int_equal(f->last[KG_MEDIA_ICE].side, KG_SIDE_A);
        assert_true(kg_addr_equal(&f->last[KG_MEDIA_ICE].addr, &s.phone[0].at[0]));
        talk_half(&s);
        talk_half(&s);
        query(f, "ice");
        const struct kg_media_stats *a = &f->info.stats[0][0];
        assert_int_equal(a->proof, KG_PROOF_ICE);
        assert_int_equal(a->ice_use, KG_ICE_AGENT);
        assert_int_equal(a->ice_state, KG_ICE_COMPLETED);
        assert_true(a->ice_connected_ms >= 0);
        assert_int_equal(a->packets_in, 2);
        assert_int_equal(f->info.stats[1][0].proof, KG_PROOF_SDP);
        assert_int_equal(f->info.pair_count, components);
        scene_end(&s);
    }
}

static struct kg_media_pair pairs[KG_MEDIA_PAIRS_MAX];
static void keep_pairs(void *ctx, const struct kg_media_reply *reply)
{
    fixture_done(ctx, reply);
    if (reply->info)
        memcpy(pairs, reply->info->pair, reply->info->pair_count * sizeof pairs[0]);
}

static void test_steered_over_the_relay(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct scene s;
    steered(&s, f);
    scene_until(&s, completed(&s, 0) && completed(&s, 1));
    talk_steered(&s);
    scene_until(&s, f->events[KG_MEDIA_PATH] > 0);
    assert_true(f->last[KG_MEDIA_PATH].relayed);
    scene_until(&s, f->events[KG_MEDIA_LATCHED] >= 2);
    assert_int_equal(f->last[KG_MEDIA_LATCHED].proof, KG_PROOF_ICE);
    int before = f->replies;
    assert_int_equal(kg_media_query(f->client, "ice", keep_pairs, f), 0);
    fixture_until(f, f->replies > before);
    assert_int_equal(f->info.stats[0][0].ice_use, KG_ICE_STEER);
    assert_true(f->info.pair_count >= 2);
    for (unsigned i = 0; i < f->info.pair_count; i++) {
        assert_true(kg_addr_equal(&pairs[i].pair.local.addr, &s.to[pairs[i].side]));
        assert_true(kg_addr_equal(&pairs[i].pair.remote.addr, &s.phone[pairs[i].side].at[0]));
    }
    /* nothing passes any more, and both are there: so they talk elsewhere */
    scene_until(&s, f->events[KG_MEDIA_PATH] > 1);
    assert_false(f->last[KG_MEDIA_PATH].relayed);
    assert_int_equal(f->events[KG_MEDIA_LEFT] + f->events[KG_MEDIA_SILENCE], 0);
    before = f->replies;
    assert_int_equal(kg_media_delete(f->client, "ice", fixture_done, f), 0);
    fixture_until(f, f->replies > before);
    assert_true(f->info.pair_count >= 2); /* the last report has them, too */
    scene_end(&s);
}

static void restart_engine(struct scene *s)
{
    struct fixture *f = s->f;
    int up = f->events[KG_MEDIA_UP];
    fixture_stop_engine(f);
    fixture_start_engine(f);
    scene_until(s, f->events[KG_MEDIA_UP] > up);
    assert_int_equal(f->events[KG_MEDIA_LOST], 0);
}

/* Same ports, same credentials, the latch as it was: media at once, and proof again soon. */
static void test_engine_killed_and_made_again(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct scene s;
    half(&s, f, 2, false);
    scene_until(&s, completed(&s, 0));
    talk_half(&s);
    int events = f->events[KG_MEDIA_ICE];
    restart_engine(&s);
    talk_half(&s);
    scene_until(&s, f->events[KG_MEDIA_ICE] > events && f->last[KG_MEDIA_ICE].ice_state >= KG_ICE_CONNECTED);
    query(f, "ice");
    assert_int_equal(f->info.stats[0][0].proof, KG_PROOF_ICE);
    assert_true(kg_addr_equal(&f->info.stats[0][0].local, &s.to[0]));
    talk_half(&s);
    /* and once more, by a client that knows it only from the engine */
    kg_media_client_free(f->client);
    fixture_new_client(f);
    assert_int_equal(f->events[KG_MEDIA_RECOVERED], 1);
    events = f->events[KG_MEDIA_ICE];
    restart_engine(&s);
    talk_half(&s);
    scene_until(&s, f->events[KG_MEDIA_ICE] > events && f->last[KG_MEDIA_ICE].ice_state >= KG_ICE_CONNECTED);
    scene_end(&s);
}

static void test_steered_engine_killed_and_made_again(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct scene s;
    steered(&s, f);
    scene_until(&s, completed(&s, 0) && completed(&s, 1));
    talk_steered(&s);
    scene_until(&s, f->events[KG_MEDIA_LATCHED] >= 2);
    restart_engine(&s);
    talk_steered(&s);
    scene_end(&s);
}

/* The phone's NAT changes its port; the phone goes on as if nothing had happened. */
static void test_rebinding_is_followed(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct scene s;
    half(&s, f, 1, false);
    scene_until(&s, completed(&s, 0));
    talk_half(&s);
    close(s.phone[0].fd[0]);
    struct kg_addr moved;
    s.phone[0].fd[0] = phone_open("127.0.0.3", &moved);
    int64_t end = kg_mono_ms() + WAIT_MS;
    do { /* as a phone does: a packet every 20 ms */
        phone_speak(&s.phone[0]);
        for (int64_t next = kg_mono_ms() + 20; kg_mono_ms() < next;)
            turn(&s);
        query(f, "ice");
    } while (!kg_addr_equal(&f->info.stats[0][0].remote, &moved) && kg_mono_ms() < end);
    assert_true(kg_addr_equal(&f->info.stats[0][0].remote, &moved));
    assert_int_equal(f->info.stats[0][0].moves, 1);
    assert_true(f->info.stats[0][0].move_gap_ms >= 200);
    uint8_t heard[256];
    while (phone_hear(s.legacy, heard, sizeof heard, 0) > 0)
        ;
    talk_half(&s);
    scene_end(&s);
}

static void test_consent_expires_and_nothing_is_sent(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    f->config.ice.consent_ms = 100;
    f->config.ice.consent_expiry_ms = 1500; /* longer than this machine may let the phone stand still */
    assert_int_equal(kg_media_configure(f->client, &f->config), 0);
    struct scene s;
    half(&s, f, 1, false);
    scene_until(&s, completed(&s, 0));
    talk_half(&s);
    s.phone[0].dead = true;
    scene_until(&s, f->events[KG_MEDIA_ICE] > 0 && f->last[KG_MEDIA_ICE].ice_state == KG_ICE_DISCONNECTED);
    uint8_t heard[1500];
    while (phone_hear(s.phone[0].fd[0], heard, sizeof heard, 0) > 0)
        ;
    uint64_t before = f->info.stats[1][0].packets_in;
    for (int i = 0; i < 20; i++)
        phone_talk(s.legacy, &s.to[1], s.sequence++, 0x99);
    do
        query(f, "ice");
    while (f->info.stats[1][0].packets_in < before + 20);
    while (phone_hear(s.phone[0].fd[0], heard, sizeof heard, 0) > 0)
        assert_true(heard[0] <= 3); /* at most a check, no media */
    assert_int_equal(f->info.stats[0][0].proof, KG_PROOF_NONE);
    scene_end(&s);
}

static void test_steered_phone_leaves(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    f->config.ice.consent_ms = 100;
    /* Longer than this machine may let both phones stand still: the engine would miss the wrong one. */
    f->config.ice.consent_expiry_ms = 3000;
    f->config.media.silence_timeout_ms = 6000;
    assert_int_equal(kg_media_configure(f->client, &f->config), 0);
    struct scene s;
    steered(&s, f);
    scene_until(&s, completed(&s, 0) && completed(&s, 1));
    scene_until(&s, f->events[KG_MEDIA_PATH] > 0 && !f->last[KG_MEDIA_PATH].relayed);
    s.phone[1].dead = true;
    scene_until(&s, f->events[KG_MEDIA_LEFT] > 0);
    assert_int_equal(f->last[KG_MEDIA_LEFT].side, KG_SIDE_B);
    assert_int_equal(f->events[KG_MEDIA_SILENCE], 0);
    s.phone[0].dead = true;
    scene_until(&s, f->events[KG_MEDIA_SILENCE] > 0);
    scene_end(&s);
}

/* Checks with right names and wrong passwords, checks that name nobody, RTP: to every port of the range. */
static void spray(struct scene *s, int fd)
{
    uint8_t check[256], rtp[172];
    char user[40];
    const struct ice_phone *a = &s->phone[0], *b = &s->phone[1];
    const char *names[][2] = {
        {s->ice[0].ufrag, a->ufrag}, {a->ufrag, b->agent ? b->ufrag : "none"}, {"x", "y"}};
    for (unsigned port = s->f->config.media.port_min; port <= s->f->config.media.port_max; port++) {
        struct kg_addr to = at(s->f->host);
        kg_addr_set_port(&to, (uint16_t)port);
        for (unsigned i = 0; i < 3; i++) {
            struct kg_stun_writer w;
            kg_stun_begin(&w, check, sizeof check, KG_STUN_REQUEST, KG_STUN_BINDING,
                          (const uint8_t *)"0123456789ab");
            int len = snprintf(user, sizeof user, "%s:%s", names[i][0], names[i][1]);
            kg_stun_put(&w, KG_STUN_USERNAME, user, (size_t)len);
            kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1);
            kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
            kg_stun_put_u64(&w, KG_STUN_ICE_CONTROLLING, UINT64_MAX);
            kg_stun_put_integrity(&w, "a guess of twenty-two b", 23);
            kg_stun_put_fingerprint(&w);
            sendto(fd, check, kg_stun_end(&w), 0, &to.sa, kg_addr_len(&to));
        }
        sendto(fd, rtp, rtp_packet(rtp, 0, (uint16_t)port, 0xdeadbeef), 0, &to.sa, kg_addr_len(&to));
    }
}

static void test_strangers_hear_nothing_and_are_not_heard(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        struct fixture *f = fixture_new();
        struct scene s;
        struct kg_addr stranger_at;
        int stranger = phone_open("127.0.0.66", &stranger_at);
        if (mode == 0)
            half(&s, f, 2, false);
        else
            steered(&s, f);
        spray(&s, stranger); /* while they check */
        scene_until(&s, completed(&s, 0) && (mode == 0 || completed(&s, 1)));
        for (int i = 0; i < 3; i++) {
            spray(&s, stranger);
            if (mode == 0)
                talk_half(&s);
            else
                talk_steered(&s);
        }
        uint8_t heard[1500];
        assert_int_equal(phone_hear(stranger, heard, sizeof heard, 0), -1);
        query(f, "ice");
        assert_int_equal(f->info.stats[0][0].packets_in, 3);
        assert_int_equal(f->info.stats[1][0].packets_in, 3);
        assert_true(f->info.stats[0][0].dropped > 0);
        assert_true(kg_addr_equal(&f->info.stats[0][0].remote, &s.phone[0].at[0]));
        close(stranger);
        scene_end(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_both_roles_one_and_two_components),
        cmocka_unit_test(test_steered_over_the_relay),
        cmocka_unit_test(test_engine_killed_and_made_again),
        cmocka_unit_test(test_steered_engine_killed_and_made_again),
        cmocka_unit_test(test_rebinding_is_followed),
        cmocka_unit_test(test_consent_expires_and_nothing_is_sent),
        cmocka_unit_test(test_steered_phone_leaves),
        cmocka_unit_test(test_strangers_hear_nothing_and_are_not_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
