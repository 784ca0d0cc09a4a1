/* What a restarted signalling process takes over: a call is written down, forgotten, and read again. */
#include "b2bua/call/talk.h" /* first: it names nta's magic types */

#include "sip_world.h"

#include <sofia-sip/sip_header.h>

#include "conf/clock.h"
#include "media/client.h"

static void ignore(void *ctx, const struct kg_media_event *event)
{
    (void)ctx;
    (void)event;
}

/* The SIP stack, a media client whose engine never comes, and a table of calls. */
struct scene {
    struct world *world;
    struct kg_server server;
};

static int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    s->world = world_new(NULL);
    s->server.root = s->world->root;
    s->server.sip = s->world->sip;
    s->server.config = s->world->config;
    s->server.media = kg_media_client_new("/nonexistent/media.sock", ignore, NULL);
    s->server.calls = kg_calls_new(&s->server);
    assert_non_null(s->server.calls);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    kg_calls_free(s->server.calls);
    kg_media_client_free(s->server.media);
    world_free(s->world);
    free(s);
    return 0;
}

static const char sdp[] = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"
                          "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 4000 RTP/AVP 0\r\n"
                          "a=candidate:1 1 UDP 2130706431 192.0.2.7 4000 typ host\r\n";

static void fill_leg(struct kg_leg *leg, const char *user, const char *tag)
{
    su_home_t home[1] = {SU_HOME_INIT(home)};
    struct kg_flow flow = {0};
    struct kg_addr at;
    su_home_init(home);
    assert_int_equal(kg_addr_parse("127.0.0.1:5070", &at), 0);
    assert_int_equal(kg_flow_to(leg->call->calls->agent, KG_UDP, &at, &flow), 0);
    kg_leg_set_flow(leg, &flow);
    kg_flow_clear(&flow);
    leg->call->record->leg[leg->side].user = strdup(user);
    assert_int_equal(kg_leg_open(leg, sip_from_make(home, "<sip:us@example.org>"),
                                 sip_to_make(home, "<sip:them@example.org>")),
                     0);
    nta_leg_rtag(leg->dialog, tag);
    su_home_deinit(home);
}

static struct kg_call *make_call(struct scene *s)
{
    struct kg_call *call = kg_call_new(s->server.calls, NULL);
    call->record->from = strdup("sip:alice@example.org");
    call->record->to = strdup("sip:bob@example.org");
    call->record->answered_ms = call->record->started_ms + 5;
    kg_fsm_init_talk(&call->fsm);
    fill_leg(&call->leg[KG_SIDE_A], "alice", "tag-a");
    fill_leg(&call->leg[KG_SIDE_B], "bob", "tag-b");
    return call;
}

/* m-line 0 of both legs. */
static void agree(struct kg_call *call, enum kg_ice_use a, enum kg_ice_use b, enum kg_path_why why)
{
    const enum kg_ice_use use[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        struct kg_leg *leg = &call->leg[i];
        leg->lines = (struct kg_leg_lines){.enabled = 1, .mux = (uint8_t)!i, .ice = 1, .flows = 1};
        leg->lines.use[0] = (uint8_t)use[i];
        leg->sdp_agreed = strdup(sdp);
        kg_talk_credentials(leg, false, i == KG_SIDE_B);
        leg->agreed = leg->lines;
    }
    call->why = why;
    kg_path_agreed(call);
}

/* Written, gone, read again. */
static struct kg_call *restart(struct scene *s, struct kg_call *call)
{
    char text[KG_MEDIA_SNAPSHOT_MAX], id[KG_CALL_ID_LEN + 1];
    size_t len = kg_snapshot_write(call, text, sizeof text);
    assert_true(len > 0);
    memcpy(id, call->record->id, sizeof id);
    kg_call_end(call);
    assert_null(kg_calls_find(s->server.calls, id));
    assert_int_equal(kg_snapshot_read(s->server.calls, id, text, len), 0);
    return kg_calls_find(s->server.calls, id);
}

static void test_a_steered_call(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s);
    agree(call, KG_ICE_STEER, KG_ICE_STEER, KG_WHY_STEERED);
    kg_addr_parse("198.51.100.1:40000", &call->leg[KG_SIDE_A].seen[0]);
    call->leg[KG_SIDE_B].trickles = true;
    call->leg[KG_SIDE_A].options = 5;
    call->leg[KG_SIDE_A].refuses_refer = true;
    call->leg[KG_SIDE_A].session = (struct kg_session_timer){
        .expires_s = 600, .min_s = 90, .ours = true, .since_ms = kg_mono_ms() - 100000};
    const struct kg_media_ice_local ice = call->leg[KG_SIDE_B].ice;
    kg_path_event(call, &(struct kg_path_event){.type = KG_PATH_EV_RELAYED, .relayed = true});
    call = restart(s, call);
    assert_non_null(call);
    assert_string_equal(call->record->path, "relayed by kedge");
    assert_int_equal(call->leg[KG_SIDE_A].agreed.use[0], KG_ICE_STEER);
    assert_int_equal(call->leg[KG_SIDE_B].lines.use[0], KG_ICE_STEER);
    assert_int_equal(call->leg[KG_SIDE_A].agreed.mux, 1);
    assert_int_equal(call->leg[KG_SIDE_B].agreed.mux, 0);
    assert_string_equal(call->leg[KG_SIDE_B].ice.ufrag, ice.ufrag);
    assert_string_equal(call->leg[KG_SIDE_B].ice.pwd, ice.pwd);
    assert_true(call->leg[KG_SIDE_B].ice.controlling);
    assert_false(call->leg[KG_SIDE_A].ice.controlling);
    assert_true(call->leg[KG_SIDE_B].trickles);
    assert_false(call->leg[KG_SIDE_A].trickles);
    assert_int_equal(kg_addr_port(&call->leg[KG_SIDE_A].seen[0]), 40000);
    assert_string_equal(call->leg[KG_SIDE_A].sdp_agreed, sdp);
    const struct kg_session_timer *session = &call->leg[KG_SIDE_A].session;
    assert_int_equal(session->expires_s, 600);
    assert_true(session->ours && session->min_s == 90);
    assert_true(kg_mono_ms() - session->since_ms >= 100000 && kg_mono_ms() - session->since_ms < 105000);
    assert_true(call->session_due_ms < INT64_MAX);
    assert_int_equal(call->leg[KG_SIDE_A].options, 5);
    assert_true(call->leg[KG_SIDE_A].refuses_refer && !call->leg[KG_SIDE_B].refuses_refer);
    assert_int_equal(call->leg[KG_SIDE_B].session.expires_s, 0);
    assert_int_equal(call->record->leg[KG_SIDE_A].candidate_count, 1); /* for explain */
    kg_call_end(call);
}

static void test_a_call_that_fell_back(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s);
    agree(call, KG_ICE_AGENT, KG_ICE_AGENT, KG_WHY_FELL_BACK);
    call->path.fell_back = true;
    call->path.upgrades = 2;
    call = restart(s, call);
    assert_string_equal(call->record->path, "anchored");
    assert_string_equal(call->record->reason, kg_path_why_text(KG_WHY_FELL_BACK));
    assert_true(call->path.fell_back);
    assert_int_equal(call->path.upgrades, 2);
    assert_true(call->path.upgrade_ms < INT64_MAX); /* the third try is still to come */
    kg_call_end(call);
}

static void test_one_side_with_ice(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s);
    agree(call, KG_ICE_AGENT, KG_ICE_UNUSED, KG_WHY_ONLY_CALLER);
    call = restart(s, call);
    assert_int_equal(call->leg[KG_SIDE_A].agreed.use[0], KG_ICE_AGENT);
    assert_int_equal(call->leg[KG_SIDE_B].agreed.use[0], KG_ICE_UNUSED);
    assert_string_equal(call->record->reason, kg_path_why_text(KG_WHY_ONLY_CALLER));
    assert_true(call->path.deadline_ms == INT64_MAX);
    kg_call_end(call);
}

/* Of another version of kedge, or of nobody at all: refused, nothing is left behind. */
static void test_damaged_snapshots(void **state)
{
    struct scene *s = *state;
    char text[KG_MEDIA_SNAPSHOT_MAX];
    struct kg_call *call = make_call(s);
    agree(call, KG_ICE_STEER, KG_ICE_STEER, KG_WHY_STEERED);
    size_t len = kg_snapshot_write(call, text, sizeof text);
    kg_call_end(call);
    assert_int_equal(kg_snapshot_read(s->server.calls, "0123456789abcdef", "version 1\n1\n", 12), EINVAL);
    for (size_t cut = 0; cut < len; cut += 7) { /* whatever is missing: a call, or none */
        int failed = kg_snapshot_read(s->server.calls, "0123456789abcdef", text, cut);
        call = kg_calls_find(s->server.calls, "0123456789abcdef");
        assert_int_equal(failed != 0, call == NULL);
        if (call)
            kg_call_end(call);
    }
    assert_int_equal(kg_calls_count(s->server.calls), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_steered_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_call_that_fell_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_side_with_ice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_snapshots, set_up, tear_down),
    };
    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    su_deinit();
    return failed;
}
