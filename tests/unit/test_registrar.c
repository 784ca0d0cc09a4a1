/* The embedded registrar over a real stack: RFC 3261 10.3 and 22, restarts. Outbound, Path and GRUU:
 * test_registrar_outbound.c; keepalives: test_registrar_keepalive.c. */
#include "tests/unit/embedded_world.h"

#include <limits.h>

#include "b2bua/registrar/request.h"

static void both_algorithms_register(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret"), b = phone_new(*state, "alice", "secret");
    const char *sha, *md5;

    b.algorithm = KG_DIGEST_MD5;
    ask(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_int_equal(status_of(a.in), 401);
    sha = strstr(a.in, "algorithm=SHA-256");
    md5 = strstr(a.in, "algorithm=MD5");
    assert_true(sha && md5 && sha < md5); /* RFC 8760 2.4: the better one first */
    assert_int_equal(enroll(&a, 3600), 200);
    assert_non_null(strstr(a.in, a.contact));
    assert_int_equal(enroll(&b, 3600), 200);
    assert_non_null(strstr(b.in, a.contact)); /* 10.3 step 8: all of them */
    assert_non_null(strstr(b.in, b.contact));
    assert_int_equal(contacts_of(*state, "alice"), 2);
    assert_int_equal(kg_counters.registers_ok, 2);
    close(a.fd);
    close(b.fd);
}

/* What is offered is a setting; what is taken is not. */
static void md5_alone_takes_sha256_too(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret");

    w->server.config.registration.digest = KG_DIGEST_OFFER_MD5;
    a.algorithm = KG_DIGEST_MD5;
    ask(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_null(strstr(a.in, "SHA-256"));
    phone_learn(&a, a.in);
    a.algorithm = KG_DIGEST_SHA256;
    assert_int_equal(enroll(&a, 3600), 200);
    w->server.config.registration.digest = KG_DIGEST_OFFER_SHA256;
    ask(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_null(strstr(a.in, "MD5"));
    close(a.fd);
}

/* threats.md: the same bytes for a wrong password and for a user that does not exist. */
static void wrong_and_unknown_look_alike(void **state)
{
    struct phone a = phone_new(*state, "alice", "wrong"), n = phone_new(*state, "nobody", "wrong");

    assert_int_equal(enroll(&a, 3600), 403);
    assert_int_equal(enroll(&n, 3600), 403);
    assert_int_equal(contacts_of(*state, "alice"), 0);
    assert_int_equal(kg_counters.auth_failures, 2);
    /* The headers that do not repeat the request are the same. */
    assert_string_equal(strstr(a.in, "Server:"), strstr(n.in, "Server:"));
    assert_memory_equal(a.in, n.in, strlen("SIP/2.0 403 Forbidden\r\n"));
    close(a.fd);
    close(n.fd);
}

static void only_ones_own_address(void **state)
{
    struct phone b = phone_new(*state, "bob", "secret2");

    ask(&b, phone_request(&b, "REGISTER", "alice", 3600, ""));
    phone_learn(&b, b.in);
    ask(&b,
        phone_request(&b, "REGISTER", "alice", 3600, phone_authorization(&b, "Authorization", "REGISTER")));
    assert_int_equal(status_of(b.in), 403);
    assert_int_equal(contacts_of(*state, "alice"), 0);
    close(b.fd);
}

/* A copy of a good request from somewhere else changes nothing, whatever its Contact; from the same place it
 * is a retransmission and gets the same answer. */
static void what_is_cut_ends_at_different_times(void **state)
{
    struct phone p = phone_new(*state, "alice", "secret");
    unsigned long least = ULONG_MAX, most = 0;
    for (int i = 0; i < 40; i++) {
        assert_int_equal(enroll(&p, 3600), 200);
        unsigned long granted = strtoul(strstr(p.in, "expires=") + strlen("expires="), NULL, 10);
        assert_in_range(granted, 540, 600); /* registration.phone_expires_lan */
        least = granted < least ? granted : least;
        most = granted > most ? granted : most;
    }
    assert_true(most - least > 10); /* by chance: 40 times nearly the same in one of 10^25 worlds */
    assert_int_equal(kg_register_grant(300, 600, 7), 300);
    assert_int_equal(kg_register_grant(3600, 31, 2), 31); /* nothing is left to cut */
    for (uint32_t chance = 0; chance < 200; chance++)
        assert_in_range(kg_register_grant(601, 600, chance), 540, 600);
}

static void replay_is_refused_retransmission_is_not(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret"), thief = phone_new(*state, "alice", "?");
    char recorded[4096], stolen[4096];
    char *contact;

    assert_int_equal(enroll(&a, 3600), 200);
    snprintf(
        recorded, sizeof recorded, "%s",
        phone_request(&a, "REGISTER", "alice", 3600, phone_authorization(&a, "Authorization", "REGISTER")));
    assert_int_equal(status_of(ask(&a, recorded)), 200);
    assert_int_equal(status_of(ask(&a, recorded)), 200);
    assert_int_equal(contacts_of(*state, "alice"), 1);

    assert_int_equal(status_of(ask(&thief, recorded)), 401);
    assert_true(phone_learn(&thief, thief.in));
    snprintf(stolen, sizeof stolen, "%s", recorded);
    contact = strstr(stolen, "Contact: <sip:alice") + strlen("Contact: <sip:");
    memcpy(contact, "thief", 5);
    assert_int_equal(status_of(ask(&thief, stolen)), 401);
    assert_int_equal(status_of(ask(&a, stolen)), 401);
    assert_int_equal(contacts_of(*state, "alice"), 1);
    close(a.fd);
    close(thief.fd);
}

static void rfc3261_10_3_order_and_removal(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret"), b = phone_new(*state, "alice", "secret");

    assert_int_equal(enroll(&a, 3600), 200);
    assert_int_equal(enroll(&b, 3600), 200);
    a.cseq -= 2;
    assert_int_equal(enroll(&a, 3600), 500); /* step 7: an older CSeq of the same Call-ID */
    a.cseq += 2;
    assert_int_equal(enroll(&a, 20), 423);
    assert_non_null(strstr(a.in, "Min-Expires: 30"));
    assert_int_equal(enroll(&a, 0), 200);
    assert_null(strstr(a.in, a.contact));
    assert_non_null(strstr(a.in, b.contact));
    snprintf(a.contact, sizeof a.contact, "*");
    assert_int_equal(enroll(&a, 3600), 400); /* step 6: * only to remove */
    assert_int_equal(contacts_of(*state, "alice"), 1);
    assert_int_equal(enroll(&a, 0), 200);
    assert_int_equal(contacts_of(*state, "alice"), 0);
    close(a.fd);
    close(b.fd);
}

/* Escapes in a user part hide nothing from the log, the store or the PBX. */
static void control_characters_are_refused(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret");

    ask(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    phone_learn(&a, a.in);
    ask(&a, phone_request(&a, "REGISTER", "alice%0d%0aX:y", 3600,
                          phone_authorization(&a, "Authorization", "REGISTER")));
    assert_int_equal(status_of(a.in), 400);
    close(a.fd);
}

static void few_contacts(struct kg_config *config)
{
    config->registration.contacts_per_user = 2;
}

static int setup_few(void **state)
{
    *state = world_new(few_contacts);
    add_accounts(*state);
    return 0;
}

static void oldest_contact_makes_room(void **state)
{
    struct phone p[3];

    for (int i = 0; i < 3; i++) {
        p[i] = phone_new(*state, "alice", "secret");
        assert_int_equal(enroll(&p[i], 3600), 200);
    }
    assert_null(strstr(p[2].in, p[0].contact));
    assert_non_null(strstr(p[2].in, p[1].contact));
    assert_non_null(strstr(p[2].in, p[2].contact));
    for (int i = 0; i < 3; i++)
        close(p[i].fd);
}

static size_t all_contacts(struct world *w)
{
    json_t *list = kg_registrar_json(w->server.registrar);
    size_t count = json_array_size(list);

    json_decref(list);
    return count;
}

/* A contact of an account is nothing that a PBX knows: after that change it must come anew. */
static void none_come_back_in_front_of_a_pbx(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret");

    assert_int_equal(enroll(&a, 3600), 200);
    world_stop(w);
    world_start(w);
    assert_int_equal(all_contacts(w), 1);
    world_stop(w);
    w->server.config.pbx[0] = (struct kg_server_at){.host = "127.0.0.1", .port = 9, .transport = KG_UDP};
    w->server.config.pbx_count = 1;
    world_start(w);
    assert_int_equal(all_contacts(w), 0);
    close(a.fd);
}

/* No 401 after a restart: the phone's next nonce count is taken, a recorded request is not. */
static void restart_without_a_challenge(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret");
    struct kg_target target;
    char recorded[4096];

    assert_int_equal(enroll(&a, 3600), 200);
    snprintf(
        recorded, sizeof recorded, "%s",
        phone_request(&a, "REGISTER", "alice", 3600, phone_authorization(&a, "Authorization", "REGISTER")));
    assert_int_equal(status_of(ask(&a, recorded)), 200);
    world_stop(w);
    world_start(w);
    assert_int_equal(kg_registrar_lookup(w->server.registrar, "alice", &target, 1), 1);
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    assert_non_null(target.flow.tport);
    kg_flow_clear(&target.flow);
    assert_int_equal(status_of(ask(&a, recorded)), 200); /* still a retransmission of that phone's */
    assert_int_equal(enroll(&a, 3600), 200);
    {
        struct phone thief = phone_new(w, "alice", "?");

        assert_int_equal(status_of(ask(&thief, recorded)), 401);
        close(thief.fd);
    }
    close(a.fd);
}

/* An INVITE is challenged once, without a transaction that would send the 407 again. */
static void invite_is_challenged_once(void **state)
{
    struct phone b = phone_new(*state, "bob", "secret2");

    ask(&b, phone_request(&b, "INVITE", "alice", -1, ""));
    assert_int_equal(status_of(b.in), 407);
    phone_learn(&b, b.in);
    assert_string_equal(phone_receive(&b, 700), ""); /* T1 is 500 ms */
    ask(&b,
        phone_request(&b, "INVITE", "alice", -1, phone_authorization(&b, "Proxy-Authorization", "INVITE")));
    while (status_of(b.in) == 100)
        phone_receive(&b, PATIENCE_MS);
    assert_int_equal(status_of(b.in), 486);
    b.password = "wrong";
    ask(&b,
        phone_request(&b, "INVITE", "alice", -1, phone_authorization(&b, "Proxy-Authorization", "INVITE")));
    /* the 486 is sent again, for want of an ACK */
    while (status_of(b.in) == 486)
        phone_receive(&b, PATIENCE_MS);
    assert_int_equal(status_of(b.in), 403);
    close(b.fd);
}

/* Calls follow it (b2bua/call/calls.c). A refresh, another contact, or a REGISTER that is refused says
 * nothing. */
static void contact_that_moves_is_told_of_once(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret"), moved = phone_new(w, "alice", "secret"),
                 wrong = phone_new(w, "alice", "wrong"), other = phone_new(w, "alice", "secret"),
                 bob = phone_new(w, "bob", "secret2");
    struct told told = {0};

    kg_registrar_watch(w->server.registrar, on_moved, &told);
    memcpy(moved.contact, a.contact, sizeof a.contact);
    memcpy(wrong.contact, a.contact, sizeof a.contact);
    memcpy(bob.contact, a.contact, sizeof a.contact);
    assert_int_equal(enroll(&a, 3600), 200);
    assert_int_equal(enroll(&a, 3600), 200);
    assert_int_equal(enroll(&other, 3600), 200);
    assert_int_equal(enroll(&bob, 3600), 200);
    assert_int_equal(enroll(&wrong, 3600), 403);
    assert_int_equal(status_of(ask(&moved, phone_request(&moved, "REGISTER", "alice", 3600, ""))), 401);
    assert_int_equal(told.times, 0);
    assert_int_equal(told.new, 3); /* a, other, bob */
    assert_int_equal(enroll(&moved, 3600), 200);
    assert_int_equal(told.times, 1);
    assert_string_equal(told.user, "alice");
    assert_int_equal(kg_addr_port(&told.before), a.port);
    assert_int_equal(kg_addr_port(&told.after), moved.port);
    assert_int_equal(enroll(&moved, 3600), 200);
    assert_int_equal(enroll(&moved, 0), 200);
    assert_int_equal(told.times, 1);
    close(a.fd);
    close(moved.fd);
    close(wrong.fd);
    close(other.fd);
    close(bob.fd);
}

static void lookups(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret");
    struct kg_target found;
    json_t *json, *accounts;

    assert_int_equal(enroll(&a, 3600), 200);
    assert_int_equal(kg_registrar_lookup(w->server.registrar, "alice", &found, 1), 1);
    json = kg_registrar_json(w->server.registrar);
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 0), "user")), "alice");
    json_decref(json);
    accounts = kg_registrar_accounts_json(w->server.registrar);
    assert_int_equal(json_array_size(accounts), 2);
    json_decref(accounts);
    kg_flow_clear(&found.flow);
    assert_int_equal(kg_registrar_account_remove(w->server.registrar, "alice"), 0);
    assert_int_equal(contacts_of(w, "alice"), 0);
    assert_int_equal(kg_registrar_account_remove(w->server.registrar, "alice"), ENOENT);
    assert_int_equal(kg_registrar_account_add(w->server.registrar, "bob", "x"), EEXIST);
    assert_int_equal(kg_registrar_account_add(w->server.registrar, "b\"b", "x"), EINVAL);
    assert_int_equal(kg_registrar_account_add(w->server.registrar, "carol", ""), EINVAL);
    close(a.fd);
}

/* RFC 3261 10.2.1.2: the order is the phone's wish, then the newest. */
static void rfc3261_10_2_1_2_preferred_first(void **state)
{
    static const char *const q[] = {";q=0.5", ";q=0.75", "", ";q=0", ";q=1.5", ";q=0.751"};
    static const uint16_t order[] = {1000, 1000, 751, 750, 500, 0};
    struct phone p[6];
    struct kg_target found[8];

    for (unsigned i = 0; i < 6; i++) {
        p[i] = phone_new(*state, "alice", "secret");
        enroll_as(&p[i], q[i]);
    }
    assert_int_equal(find(*state, "sip:alice@example.org", found, 8), 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(found[i].q, order[i]);
        assert_int_equal(found[i].device, i);
        kg_flow_clear(&found[i].flow);
    }
    /* The best of them where there is no room for all. */
    assert_int_equal(find(*state, "sip:alice@example.org", found, 3), 3);
    assert_int_equal(kg_addr_port(&found[0].flow.remote), p[4].port);
    assert_int_equal(kg_addr_port(&found[1].flow.remote), p[2].port);
    assert_int_equal(kg_addr_port(&found[2].flow.remote), p[5].port);
    for (unsigned i = 0; i < 6; i++) {
        close(p[i].fd);
        if (i < 3)
            kg_flow_clear(&found[i].flow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_algorithms_register, setup, teardown),
        cmocka_unit_test_setup_teardown(md5_alone_takes_sha256_too, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_and_unknown_look_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(only_ones_own_address, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_cut_ends_at_different_times, setup, teardown),
        cmocka_unit_test_setup_teardown(replay_is_refused_retransmission_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3261_10_3_order_and_removal, setup, teardown),
        cmocka_unit_test_setup_teardown(control_characters_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(oldest_contact_makes_room, setup_few, teardown),
        cmocka_unit_test_setup_teardown(restart_without_a_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(none_come_back_in_front_of_a_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(invite_is_challenged_once, setup, teardown),
        cmocka_unit_test_setup_teardown(contact_that_moves_is_told_of_once, setup, teardown),
        cmocka_unit_test_setup_teardown(lookups, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3261_10_2_1_2_preferred_first, setup, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
