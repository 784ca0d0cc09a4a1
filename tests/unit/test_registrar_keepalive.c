/* The embedded registrar: OPTIONS down the flows of phones, and what is learnt of their NATs. */
#include "tests/unit/embedded_world.h"

static void quick_keepalives(struct kg_config *config)
{
    config->registration.keepalive_udp_ms = 150;
}

static int setup_keepalive(void **state)
{
    *state = world_new(quick_keepalives);
    add_accounts(*state);
    return 0;
}

static struct phone phone_behind_nat(struct world *w)
{
    struct phone a = phone_new(w, "alice", "secret");

    a.via = "192.168.77.5";
    snprintf(a.contact, sizeof a.contact, "<sip:alice@192.168.77.5:5060>");
    return a;
}

/* What a phone says to OPTIONS: any answer will do. */
static void answer_options(struct phone *p)
{
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "SIP/2.0 481 Nothing\r\n");

    for (char *line = strtok(p->in, "\r\n"); line; line = strtok(NULL, "\r\n"))
        if (!strncmp(line, "Via:", 4) || !strncmp(line, "From:", 5) || !strncmp(line, "To:", 3) ||
            !strncmp(line, "Call-ID:", 8) || !strncmp(line, "CSeq:", 5))
            n += (size_t)snprintf(text + n, sizeof text - n, "%s\r\n", line);
    snprintf(text + n, sizeof text - n, "Content-Length: 0\r\n\r\n");
    phone_send(p, text);
}

static void phone_that_stops_answering_goes(void **state)
{
    struct phone a = phone_behind_nat(*state);
    unsigned asked = 0;

    assert_int_equal(enroll(&a, 3600), 200);
    for (int i = 0; i < 5; i++) {
        assert_memory_equal(phone_receive(&a, PATIENCE_MS), "OPTIONS sip:alice@192.168.77.5:5060 ", 36);
        answer_options(&a);
    }
    assert_int_equal(contacts_of(*state, "alice"), 1);
    while (strncmp(phone_receive(&a, 600), "OPTIONS", 7) == 0)
        asked++;
    assert_int_equal(asked, 6); /* three times at once, three times more */
    assert_int_equal(contacts_of(*state, "alice"), 0);
    assert_int_equal(kg_counters.bindings_expired, 1);
    close(a.fd);
}

static const char *learnt(struct world *w, const char *field)
{
    static char value[64];
    json_t *json = kg_registrar_json(w->server.registrar);

    snprintf(
        value, sizeof value, "%s",
        json_string_value(json_object_get(json_object_get(json_array_get(json, 0), "keepalive"), field)));
    json_decref(json);
    return value;
}

static void what_was_learnt_survives_a_restart(void **state)
{
    struct world *w = *state;
    struct phone a = phone_behind_nat(w);

    assert_int_equal(enroll(&a, 3600), 200);
    assert_string_equal(learnt(w, "state"), "waiting");
    assert_memory_equal(phone_receive(&a, PATIENCE_MS), "OPTIONS", 7);
    answer_options(&a);
    assert_memory_equal(phone_receive(&a, PATIENCE_MS), "OPTIONS", 7);
    assert_string_equal(learnt(w, "state"), "growing");
    assert_int_equal(enroll(&a, 3600), 200);
    world_stop(w);
    world_start(w);
    assert_string_equal(learnt(w, "state"), "growing");
    assert_memory_equal(phone_receive(&a, PATIENCE_MS), "OPTIONS", 7);
    close(a.fd);
}

static void phone_that_never_answers_stays(void **state)
{
    struct phone a = phone_behind_nat(*state);

    assert_int_equal(enroll(&a, 3600), 200);
    for (int i = 0; i < 6; i++)
        assert_memory_equal(phone_receive(&a, PATIENCE_MS), "OPTIONS", 7);
    assert_int_equal(contacts_of(*state, "alice"), 1);
    close(a.fd);
}

static void phone_without_nat_is_left_alone(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret");

    assert_int_equal(enroll(&a, 3600), 200);
    assert_string_equal(phone_receive(&a, 400), "");
    assert_int_equal(kg_counters.keepalives_sent, 0);
    close(a.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(phone_that_stops_answering_goes, setup_keepalive, teardown),
        cmocka_unit_test_setup_teardown(what_was_learnt_survives_a_restart, setup_keepalive, teardown),
        cmocka_unit_test_setup_teardown(phone_that_never_answers_stays, setup_keepalive, teardown),
        cmocka_unit_test_setup_teardown(phone_without_nat_is_left_alone, setup_keepalive, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
