/* Dialog identifiers (RFC 3891, RFC 4538): as text, and which leg they name. */
#include "b2bua/call/call.h" /* first: it names nta's magic types */

#include "sip_world.h"

#include <sofia-sip/sip_header.h>

#include "b2bua/call/dialogs.h"
#include "media/client.h"

static void test_texts(void **state)
{
    (void)state;
    struct kg_dialog_id id;
    char out[200];
    assert_int_equal(kg_dialog_parse("a@b;to-tag=1;from-tag=2", &id), 0);
    assert_string_equal(id.call_id, "a@b");
    assert_string_equal(id.to_tag, "1");
    assert_string_equal(id.from_tag, "2");
    /* RFC 3891 6.1: any order, blanks, other parameters, which stay */
    const char *wild = " a@b ;\tFROM-TAG = 2 ; early-only;x=\"y\" ;To-Tag=1 ";
    assert_int_equal(kg_dialog_parse(wild, &id), 0);
    assert_string_equal(id.from_tag, "2");
    assert_true(kg_dialog_format(&id, wild, out, sizeof out) > 0);
    assert_string_equal(out, "a@b;to-tag=1;from-tag=2;early-only;x=\"y\"");
    assert_true(kg_dialog_format(&id, NULL, out, sizeof out) > 0);
    assert_string_equal(out, "a@b;to-tag=1;from-tag=2");
    assert_int_equal(kg_dialog_format(&id, NULL, out, 23), 0);
    assert_int_equal(kg_dialog_format(&id, NULL, out, 24), 23);
    assert_int_equal(kg_dialog_format(&id, wild, out, 30), 0);
}

static void test_what_is_no_dialog(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ";",
                                      ";to-tag=1;from-tag=2",
                                      "a",
                                      "a;to-tag=1",
                                      "a;from-tag=2",
                                      "a;to-tag=;from-tag=2",
                                      "a;to-tag;from-tag=2",
                                      "a;to-tag=1;to-tag=3;from-tag=2", /* RFC 3891 3: 400 */
                                      "a b;to-tag=1;from-tag=2",
                                      "a;to-tag=1\r\nX: y;from-tag=2",
                                      "a;to-tag=\"1\";from-tag=2",
                                      "a,b;to-tag=1;from-tag=2"};
    struct kg_dialog_id id;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(kg_dialog_parse(bad[i], &id), EINVAL);
    char text[600];
    memset(text, 'a', sizeof text);
    snprintf(text + KG_DIALOG_TEXT, 40, ";to-tag=1;from-tag=2");
    assert_int_equal(kg_dialog_parse(text, &id), EINVAL);
    assert_int_equal(kg_dialog_parse(text + 1, &id), 0);
}

/* ---- which leg ---- */

static void ignore(void *ctx, const struct kg_media_event *event)
{
    (void)ctx;
    (void)event;
}

struct scene {
    struct world *world;
    struct kg_server server;
    su_home_t home[1];
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
    su_home_init(s->home);
    assert_non_null(s->server.calls);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    su_home_deinit(s->home);
    kg_calls_free(s->server.calls);
    kg_media_client_free(s->server.media);
    world_free(s->world);
    free(s);
    return 0;
}

/* A leg that we opened; rtag NULL: its peer has not answered. */
static void open_leg(struct scene *s, struct kg_leg *leg, bool pbx, const char *rtag)
{
    leg->pbx = pbx;
    assert_int_equal(kg_leg_open(leg, sip_from_make(s->home, "<sip:us@example.org>"),
                                 sip_to_make(s->home, "<sip:them@example.org>")),
                     0);
    if (rtag)
        nta_leg_rtag(leg->dialog, rtag);
}

static struct kg_call *make_call(struct scene *s, bool pbx_a, bool pbx_b)
{
    struct kg_call *call = kg_call_new(s->server.calls, NULL);
    open_leg(s, &call->leg[KG_SIDE_A], pbx_a, "peer-a");
    open_leg(s, &call->leg[KG_SIDE_B], pbx_b, "peer-b");
    return call;
}

static struct kg_dialog_id id_of(const struct kg_leg *leg, enum kg_dialog_place place)
{
    struct kg_dialog_id id;
    const char *local = nta_leg_get_tag(leg->dialog), *remote = nta_leg_get_rtag(leg->dialog);
    snprintf(id.call_id, sizeof id.call_id, "%s", leg->call->record->leg[leg->side].call_id);
    snprintf(id.to_tag, sizeof id.to_tag, "%s", place == KG_DIALOG_NEAR ? local : remote);
    snprintf(id.from_tag, sizeof id.from_tag, "%s", place == KG_DIALOG_NEAR ? remote : local);
    return id;
}

static void assert_id(const struct kg_dialog_id *id, const struct kg_leg *leg, enum kg_dialog_place place)
{
    struct kg_dialog_id want = id_of(leg, place);
    assert_string_equal(id->call_id, want.call_id);
    assert_string_equal(id->to_tag, want.to_tag);
    assert_string_equal(id->from_tag, want.from_tag);
}

static void test_found(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s, false, false);
    struct kg_leg *a = &call->leg[KG_SIDE_A], *found;
    struct kg_dialog_id id = id_of(a, KG_DIALOG_NEAR);
    assert_int_equal(kg_dialog_find(s->server.calls, &id, &found), KG_DIALOG_NEAR);
    assert_ptr_equal(found, a);
    id = id_of(a, KG_DIALOG_FAR);
    assert_int_equal(kg_dialog_find(s->server.calls, &id, &found), KG_DIALOG_FAR);
    assert_ptr_equal(found, a);
    /* Nothing but the whole of it: a Call-ID and the peer's tag are known to more people. */
    static const char *const wrong[] = {"", "%", "0", "peer-b"};
    for (size_t i = 0; i < 4; i++) {
        id = id_of(a, KG_DIALOG_NEAR);
        snprintf(id.to_tag, sizeof id.to_tag, "%s", wrong[i]);
        assert_int_equal(kg_dialog_find(s->server.calls, &id, &found), KG_DIALOG_FOREIGN);
        id = id_of(a, KG_DIALOG_NEAR);
        snprintf(id.from_tag, sizeof id.from_tag, "%s", wrong[i]);
        assert_int_equal(kg_dialog_find(s->server.calls, &id, &found), KG_DIALOG_FOREIGN);
    }
    id = id_of(a, KG_DIALOG_NEAR);
    kg_call_end(call);
    assert_int_equal(kg_dialog_find(s->server.calls, &id, &found), KG_DIALOG_FOREIGN);
    assert_false(kg_dialog_translate(s->server.calls, &id, false));
}

/* Phone P (A) of a call with Y (B) names it in REFER: Y's leg is what the phone that gets it has to name, and
 * what then comes from there is right as it is. */
static void test_two_phones(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s, false, false);
    struct kg_dialog_id id = id_of(&call->leg[KG_SIDE_A], KG_DIALOG_NEAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, false));
    assert_id(&id, &call->leg[KG_SIDE_B], KG_DIALOG_FAR);
    assert_false(kg_dialog_translate(s->server.calls, &id, false));
    assert_id(&id, &call->leg[KG_SIDE_B], KG_DIALOG_FAR);
    kg_call_end(call);
}

/* The same before a PBX that is a B2BUA: it hears of its own leg, where its own tag is meant. And what it
 * says to a phone about that leg names the phone's. */
static void test_before_a_pbx(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = make_call(s, false, true);
    struct kg_leg *phone = &call->leg[KG_SIDE_A], *pbx = &call->leg[KG_SIDE_B];
    struct kg_dialog_id id = id_of(phone, KG_DIALOG_NEAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, true));
    assert_id(&id, pbx, KG_DIALOG_FAR);
    assert_false(kg_dialog_translate(s->server.calls, &id, true));
    id = id_of(phone, KG_DIALOG_FAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, true));
    assert_id(&id, pbx, KG_DIALOG_NEAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, false));
    assert_id(&id, phone, KG_DIALOG_FAR);
    kg_call_end(call);
}

/* Before a PBX that is a proxy, P's call with Y is two calls of ours, and the dialog between them is one of
 * our legs at either end. */
static void test_before_a_proxy(void **state)
{
    struct scene *s = *state;
    struct kg_call *first = make_call(s, false, true), *second = kg_call_new(s->server.calls, NULL);
    struct kg_leg *in = &second->leg[KG_SIDE_A];
    struct kg_dialog_id middle = id_of(&first->leg[KG_SIDE_B], KG_DIALOG_FAR);
    in->pbx = true;
    second->record->leg[KG_SIDE_A].call_id = strdup(middle.call_id);
    sip_from_t *us = sip_from_format(s->home, "<sip:y@example.org>;tag=peer-b");
    sip_to_t *them = sip_to_format(s->home, "<sip:p@example.org>;tag=%s", middle.from_tag);
    in->dialog =
        nta_leg_tcreate(s->server.calls->agent, kg_leg_request, in, SIPTAG_CALL_ID_STR(middle.call_id),
                        SIPTAG_FROM(us), SIPTAG_TO(them), TAG_END());
    assert_non_null(in->dialog);
    open_leg(s, &second->leg[KG_SIDE_B], false, "peer-y");
    struct kg_dialog_id id = id_of(&first->leg[KG_SIDE_A], KG_DIALOG_NEAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, true)); /* P's REFER, to the PBX */
    assert_string_equal(id.to_tag, "peer-b");
    assert_false(kg_dialog_translate(s->server.calls, &id, true));
    assert_true(kg_dialog_translate(s->server.calls, &id, false)); /* from the PBX to the phone X */
    assert_id(&id, &second->leg[KG_SIDE_B], KG_DIALOG_FAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, true)); /* X's INVITE, to the PBX */
    assert_id(&id, in, KG_DIALOG_NEAR);
    assert_true(kg_dialog_translate(s->server.calls, &id, false)); /* to Y */
    assert_id(&id, &second->leg[KG_SIDE_B], KG_DIALOG_FAR);
    kg_call_end(first);
    kg_call_end(second);
}

/* The other leg has no peer yet: nothing that could be named. */
static void test_no_other_leg(void **state)
{
    struct scene *s = *state;
    struct kg_call *call = kg_call_new(s->server.calls, NULL);
    open_leg(s, &call->leg[KG_SIDE_A], false, "peer-a");
    struct kg_dialog_id id = id_of(&call->leg[KG_SIDE_A], KG_DIALOG_NEAR), before = id;
    assert_false(kg_dialog_translate(s->server.calls, &id, false));
    open_leg(s, &call->leg[KG_SIDE_B], false, NULL);
    assert_false(kg_dialog_translate(s->server.calls, &id, false));
    assert_memory_equal(&id, &before, sizeof id);
    kg_call_end(call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_what_is_no_dialog),
        cmocka_unit_test_setup_teardown(test_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_phones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_before_a_pbx, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_before_a_proxy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_other_leg, set_up, tear_down),
    };
    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    su_deinit();
    return failed;
}
