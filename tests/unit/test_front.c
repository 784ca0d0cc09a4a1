/* In front of a PBX: which REGISTERs reach it, what they look like there, what comes back. Path,
 * Service-Route and GRUU: test_front_path.c. */
#include "tests/unit/front_world.h"

static void passes_digest_and_hides_the_phone(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char first_call_id[512];
    struct kg_target target;

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    snprintf(first_call_id, sizeof first_call_id, "%s", header(s->seen, "Call-ID:"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    assert_non_null(strstr(a.in, CHALLENGE));
    a.algorithm = KG_DIGEST_MD5;
    enroll(s, &a);
    assert_string_equal(header(s->seen, "Call-ID:"), first_call_id); /* RFC 3261 10.2: one row */
    assert_memory_equal(s->seen, "REGISTER sip:example.org ", 25);
    assert_non_null(strstr(s->seen, "To: <sip:alice@example.org>"));
    assert_non_null(strstr(s->seen, "Authorization: Digest username=\"alice\""));
    assert_non_null(strstr(s->seen, ";expires=600"));
    assert_null(strstr(s->seen, a.call_id));
    assert_null(strstr(s->seen, "tag=t\r"));
    char port[16];
    snprintf(port, sizeof port, ":%u", a.port);
    assert_null(strstr(s->seen, port));
    /* The phone gets its own contact and a short time. */
    assert_non_null(strstr(a.in, a.contact));
    assert_in_range(strtol(strstr(a.in, "expires=") + 8, NULL, 10), 54, 60);
    /* And the PBX's calls find it. */
    assert_int_equal(find(s, token_seen(s), &target), 1);
    assert_string_equal(target.user, "alice");
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    assert_int_equal(find(s, "0123456789abcdef01234567", &target), 0);
    close(a.fd);
}

static void refresh_on_the_flow_is_answered_here(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(refresh(&a, phone_authorization(&a, "Authorization", "REGISTER")), 200);
    assert_int_equal(kg_counters.registers_local, 2);
    assert_false(pbx_serve(s, 0, QUIET_MS, NULL, ""));
    close(a.fd);
}

/* Extension 100 of one company is not extension 100 of another: neither takes the other's contact over, sees
 * it, nor removes it. */
static void the_same_user_part_in_two_domains(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "100", "secret"), b = phone_new(s->w, "100", "secret");
    char token[32], text[4096];
    struct kg_target target;

    enroll(s, &a);
    snprintf(token, sizeof token, "%s", token_seen(s));
    snprintf(b.contact, sizeof b.contact, "%s", a.contact);
    snprintf(text, sizeof text, "%s", phone_request(&b, "REGISTER", "100", 3600, ""));
    for (char *found; (found = strstr(text, "example.org"));)
        memcpy(found, "example.net", 11);
    phone_send(&b, text);
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_non_null(strstr(s->seen, "To: <sip:100@example.net>"));
    assert_string_not_equal(token_seen(s), token);
    struct kg_addr kedge;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    struct sockaddr_storage to = {0};
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", granted(s, 600));
    const char *answer = phone_receive(&b, PATIENCE_MS);
    assert_int_equal(status_of(answer), 200);
    assert_null(strstr(strstr(answer, "Contact:") + 1, "Contact:"));
    assert_null(strchr(header(answer, "Contact:"), ','));
    assert_int_equal(find(s, token, &target), 1);
    assert_string_equal(target.user, "100");
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    close(a.fd);
    close(b.fd);
}

/* Nobody's call follows a REGISTER that the PBX has not believed. */
static void contact_that_moves_is_told_of_when_the_pbx_says_so(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), moved = phone_new(s->w, "alice", "secret");
    struct told told = {0};

    kg_registrar_watch(s->w->server.registrar, on_moved, &told);
    enroll(s, &a);
    memcpy(moved.contact, a.contact, sizeof a.contact);
    phone_send(&moved, phone_request(&moved, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "403 Forbidden", ""));
    assert_int_equal(status_of(phone_receive(&moved, PATIENCE_MS)), 403);
    assert_int_equal(told.times, 0);
    assert_int_equal(told.new, 1);
    enroll(s, &moved);
    assert_int_equal(told.times, 1);
    assert_string_equal(told.user, "alice");
    assert_int_equal(kg_addr_port(&told.before), a.port);
    assert_int_equal(kg_addr_port(&told.after), moved.port);
    close(a.fd);
    close(moved.fd);
}

/* A flood of REGISTERs takes no memory: beyond so many from where no phone is registered, 503 without a
 * transaction. Registered phones do not count. */
static void strangers_beyond_the_limit(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");
    struct kg_front *front = s->w->server.registrar->front;

    enroll(s, &a);
    front->strangers = (struct kg_gate){.at_ms = kg_mono_ms() + PATIENCE_MS};
    assert_int_equal(refresh(&b, ""), 503);
    assert_non_null(strstr(b.in, "Retry-After: 1\r\n"));
    assert_false(pbx_serve(s, 0, QUIET_MS, NULL, ""));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 0, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    front->strangers = (struct kg_gate){0};
    phone_send(&b, phone_request(&b, "REGISTER", "bob", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    close(a.fd);
    close(b.fd);
}

/* Who writes into a refresh another way to the phone, or another preference, needs the password. */
static void changed_path_goes_to_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, "Path: <sip:thief@192.0.2.9;lr>\r\n"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    snprintf(a.contact + strlen(a.contact), sizeof a.contact - strlen(a.contact), ";q=0.1");
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

/* OpenSIPS #3193, #2368: nothing but the authenticated flow is answered here. Each of these goes to the PBX.
 */
static void everybody_else_goes_to_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), thief = phone_new(s->w, "alice", "?"), changed;
    unsigned local;

    enroll(s, &a);
    local = (unsigned)kg_counters.registers_local;

    /* Another flow that copies all of a's REGISTER. */
    snprintf(thief.contact, sizeof thief.contact, "%s", a.contact);
    snprintf(thief.call_id, sizeof thief.call_id, "%s", a.call_id);
    thief.cseq = a.cseq + 10;
    phone_send(&thief, phone_request(&thief, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_int_equal(status_of(phone_receive(&thief, PATIENCE_MS)), 401);

    /* The same flow: another contact, another Call-ID, another digest user, another address of record. */
    changed = a;
    snprintf(changed.contact, sizeof changed.contact, "<sip:alice@127.0.0.1:9>");
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    snprintf(changed.call_id, sizeof changed.call_id, "another@phone");
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    changed.cseq += 20;
    changed.user = "mallory";
    phone_send(&changed, phone_request(&changed, "REGISTER", "alice", 3600,
                                       phone_authorization(&changed, "Authorization", "REGISTER")));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    changed = a;
    changed.cseq += 25;
    phone_send(&changed, phone_request(&changed, "REGISTER", "bob", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    assert_int_equal(kg_counters.registers_local, local);

    /* And a itself is as it was. */
    a.cseq += 30;
    assert_int_equal(refresh(&a, ""), 200);
    close(a.fd);
    close(thief.fd);
}

/* The PBX's own time runs out: the refresh goes through. */
static void refresh_goes_through_when_the_pbx_expires(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    s->w->server.config.registration.phone_expires_lan_ms = 3600000; /* longer than the PBX grants */
    enroll(s, &a);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", "Expires: 600\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_int_equal(kg_counters.registers_local, 0);
    close(a.fd);
}

static void unregistering_reaches_the_pbx(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char token[32];
    struct kg_target target;

    enroll(s, &a);
    snprintf(token, sizeof token, "%s", token_seen(s));
    phone_send(
        &a, phone_request(&a, "REGISTER", "alice", 0, phone_authorization(&a, "Authorization", "REGISTER")));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", ""));
    assert_string_equal(token_seen(s), token);
    assert_non_null(strstr(s->seen, ";expires=0"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(a.in, "Contact:"));
    assert_int_equal(find(s, token, &target), 0);

    /* It comes back under the same name: to the PBX the same contact. */
    enroll(s, &a);
    assert_string_equal(token_seen(s), token);
    close(a.fd);
}

static void refusals_pass_as_they_are(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "403 Not You", ""));
    assert_memory_equal(phone_receive(&a, PATIENCE_MS), "SIP/2.0 403 Not You\r\n", 21);
    /* 423: the phone is told, and the next one asks for more. */
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "423 Interval Too Brief", "Min-Expires: 1800\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 423);
    assert_non_null(strstr(a.in, "Min-Expires: 1800"));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "302 Elsewhere", "Contact: <sip:10.0.0.1>\r\n"));
    assert_non_null(strstr(s->seen, ";expires=1800"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 503);
    assert_null(strstr(a.in, "10.0.0.1"));
    close(a.fd);
}

static void silent_pbx_then_the_next(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    int64_t start = kg_mono_ms(), ran = s->w->ran_ms;

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_true(pbx_serve(s, 1, 2 * PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    assert_true(kg_mono_ms() - start >= 1900);
    assert_true(s->w->ran_ms - ran < 3900); /* another one is there: not the whole 4 s */
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 401);
    close(a.fd);
}

static void unavailable_pbx_then_the_next(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "503 Service Unavailable", ""));
    assert_true(pbx_serve(s, 1, PATIENCE_MS, "503 Service Unavailable", "Retry-After: 77\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 503);
    assert_non_null(strstr(a.in, "Retry-After: 77"));
    close(a.fd);
}

/* No PBX answers its probes: refreshes are no longer vouched for, and phones are told when to come back. When
 * it answers again it may have lost everything: the next REGISTER goes through to it. */
static void pbx_restart_is_noticed(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    int64_t end = kg_mono_ms() + 4 * PATIENCE_MS;

    enroll(s, &a);
    assert_int_equal(refresh(&a, ""), 200);
    close(s->pbx[0]);
    close(s->pbx[1]);
    do
        phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    while (status_of(phone_receive(&a, 2 * PATIENCE_MS)) == 200 && kg_mono_ms() < end);
    assert_int_equal(status_of(a.in), 503);
    assert_non_null(strstr(a.in, "Retry-After:"));
    s->pbx[0] = open_pbx(0);
    s->pbx[1] = open_pbx(1);
    pbx_serve(s, 0, 2500, NULL, ""); /* its probe */
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "401 Unauthorized", CHALLENGE));
    phone_receive(&a, PATIENCE_MS);
    close(a.fd);
}

/* A PBX that is gone for half a second has forgotten its registrations: the refresh after it is not vouched
 * for. */
static void short_pbx_restart_is_noticed(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    enroll(s, &a);
    close(s->pbx[0]);
    pbx_serve(s, 1, 600, NULL, "");
    s->pbx[0] = open_pbx(0);
    assert_false(pbx_serve(s, 0, 2500, NULL, ""));
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", "Expires: 600\r\n"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    /* And once is enough. */
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

/* A restart of kedge: the phone is reachable by its token at once, its refresh needs no PBX. */
static void restart_of_kedge(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    struct kg_target target;

    enroll(s, &a);
    world_stop(s->w);
    world_start(s->w);
    assert_int_equal(find(s, token_seen(s), &target), 1);
    kg_flow_clear(&target.flow);
    assert_int_equal(refresh(&a, ""), 200);
    assert_int_equal(kg_counters.registers_local, 1);
    close(a.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(passes_digest_and_hides_the_phone, setup, teardown),
        cmocka_unit_test_setup_teardown(refresh_on_the_flow_is_answered_here, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_user_part_in_two_domains, setup, teardown),
        cmocka_unit_test_setup_teardown(contact_that_moves_is_told_of_when_the_pbx_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_beyond_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(everybody_else_goes_to_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_path_goes_to_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(refresh_goes_through_when_the_pbx_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(unregistering_reaches_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_pass_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_pbx_then_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(unavailable_pbx_then_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(pbx_restart_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(short_pbx_restart_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(restart_of_kedge, setup, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
