/* The embedded registrar: outbound (RFC 5626), Path (RFC 3327), GRUU (RFC 5627). */
#include "tests/unit/embedded_world.h"

#define INSTANCE "urn:uuid:00000000-0000-1000-8000-000a95a0e12"

/* RFC 5627 5.1: a GRUU names one phone of the user. */
static void rfc5627_gruu_names_one_phone(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret"), b = phone_new(*state, "alice", "secret");
    struct kg_target found[4];

    enroll_as(&a, ";+sip.instance=\"<" INSTANCE "8>\"");
    enroll_as(&b, ";+sip.instance=\"<" INSTANCE "9>\"");
    assert_int_equal(find(*state, "sip:alice@example.org;gr=" INSTANCE "8", found, 4), 1);
    assert_int_equal(kg_addr_port(&found[0].flow.remote), a.port);
    kg_flow_clear(&found[0].flow);
    assert_int_equal(
        find(*state, "sip:alice@example.org;gr=urn%3auuid%3a00000000-0000-1000-8000-000a95a0e129", found, 4),
        1);
    assert_int_equal(kg_addr_port(&found[0].flow.remote), b.port);
    kg_flow_clear(&found[0].flow);
    assert_int_equal(find(*state, "sip:alice@example.org;gr=" INSTANCE, found, 4), 0);
    assert_int_equal(find(*state, "sip:alice@example.org", found, 1), 1);
    kg_flow_clear(&found[0].flow);
    close(a.fd);
    close(b.fd);
}

/* --- outbound, Path, GRUU ---------------------------------------------------------------------------------
 */

static int enroll_with(struct phone *p, const char *headers)
{
    char extra[2048];

    phone_learn(p, ask(p, phone_request(p, "REGISTER", p->user, 3600, headers)));
    snprintf(extra, sizeof extra, "%s%s", headers, phone_authorization(p, "Authorization", "REGISTER"));
    return status_of(ask(p, phone_request(p, "REGISTER", p->user, 3600, extra)));
}

static void rfc5626_flows_of_one_phone(void **state)
{
    struct world *w = *state;
    struct phone one = phone_new(w, "alice", "secret"), two = phone_new(w, "alice", "secret"),
                 three = phone_new(w, "alice", "secret");
    struct kg_target found[4];

    snprintf(one.contact, sizeof one.contact,
             "<sip:alice@192.0.2.1;ob>;reg-id=1;+sip.instance=\"<" INSTANCE "8>\"");
    snprintf(two.contact, sizeof two.contact,
             "<sip:alice@192.0.2.1;ob>;reg-id=2;+sip.instance=\"<" INSTANCE "8>\"");
    assert_int_equal(enroll_with(&one, "Supported: path, outbound\r\n"), 200);
    assert_non_null(strstr(one.in, "Require: outbound\r\n"));
    assert_non_null(strstr(one.in, "Flow-Timer: 25\r\n"));
    assert_non_null(strstr(one.in, ";reg-id=1"));
    assert_int_equal(enroll_with(&two, "Supported: path, outbound\r\n"), 200);
    assert_int_equal(find(w, "sip:alice@example.org", found, 4), 2);
    assert_int_equal(kg_addr_port(&found[0].flow.remote), two.port);
    assert_int_equal(found[0].device, found[1].device);
    kg_flow_clear(&found[0].flow);
    kg_flow_clear(&found[1].flow);
    /* The same reg-id again, over another flow: in the first one's place. */
    memcpy(three.contact, one.contact, sizeof one.contact);
    assert_int_equal(enroll_with(&three, "Supported: path, outbound\r\n"), 200);
    assert_int_equal(find(w, "sip:alice@example.org", found, 4), 2);
    assert_int_equal(kg_addr_port(&found[0].flow.remote), three.port);
    assert_int_equal(kg_addr_port(&found[1].flow.remote), two.port);
    kg_flow_clear(&found[0].flow);
    kg_flow_clear(&found[1].flow);
    close(one.fd);
    close(two.fd);
    close(three.fd);
}

/* RFC 5626 6: reg-id means nothing without the option, and not behind a proxy that does not do outbound. */
static void rfc5626_6_reg_id_alone_means_nothing(void **state)
{
    struct phone one = phone_new(*state, "alice", "secret"), two = phone_new(*state, "alice", "secret");
    static const char *const headers[] = {
        "", "Supported: outbound\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n",
        "Supported: outbound\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nPath: "
        "<sip:p@192.0.2.9;lr>\r\n"};

    snprintf(one.contact, sizeof one.contact,
             "<sip:alice@192.0.2.1>;reg-id=1;+sip.instance=\"<" INSTANCE "8>\"");
    snprintf(two.contact, sizeof two.contact,
             "<sip:alice@192.0.2.1>;reg-id=2;+sip.instance=\"<" INSTANCE "8>\"");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(enroll_with(&one, headers[i]), 200);
        assert_null(strstr(one.in, "Require:"));
        assert_int_equal(enroll_with(&two, headers[i]), 200);
        assert_int_equal(contacts_of(*state, "alice"), 1);
    }
    assert_int_equal(enroll_with(&one, "Supported: outbound\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n"
                                       "Path: <sip:q@192.0.2.8;lr>, <sip:p@192.0.2.9;lr;ob>\r\n"),
                     200);
    assert_non_null(strstr(one.in, "Require: outbound"));
    close(one.fd);
    close(two.fd);
}

/* Of the proxy in front of kedge: kept, told back to who understands it, and the way to the phone. */
static void rfc3327_path_of_a_proxy_before_kedge(void **state)
{
    struct world *w = *state;
    struct phone a = phone_new(w, "alice", "secret");
    struct kg_target found;
    char many[1200] = "Path: <sip:a@192.0.2.9;lr>";

    assert_int_equal(enroll_with(&a, "Require: path\r\nPath: <sip:edge@192.0.2.9:5070;lr>\r\n"), 200);
    assert_non_null(strstr(a.in, "Path: <sip:edge@192.0.2.9:5070;lr>\r\n"));
    assert_int_equal(find(w, "sip:alice@example.org", &found, 1), 1);
    assert_string_equal(found.path, "<sip:edge@192.0.2.9:5070;lr>");
    kg_flow_clear(&found.flow);
    world_stop(w);
    world_start(w);
    assert_int_equal(find(w, "sip:alice@example.org", &found, 1), 1);
    assert_string_equal(found.path, "<sip:edge@192.0.2.9:5070;lr>");
    kg_flow_clear(&found.flow);
    assert_int_equal(enroll_with(&a, "Path: <sip:edge@192.0.2.9:5070;lr>\r\n"), 200);
    assert_null(strstr(a.in, "Path:"));
    assert_int_equal(enroll_with(&a, ""), 200);
    assert_int_equal(find(w, "sip:alice@example.org", &found, 1), 1);
    assert_string_equal(found.path, "");
    kg_flow_clear(&found.flow);
    for (size_t i = 0; i < 30; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ", <sip:a@192.0.2.9;lr>");
    snprintf(many + strlen(many), sizeof many - strlen(many), "\r\n");
    assert_int_equal(enroll_with(&a, many), 400);
    assert_int_equal(enroll_with(&a, "Path: <tel:+49301234567>\r\n"), 400);
    assert_int_equal(contacts_of(w, "alice"), 1);
    close(a.fd);
}

static void rfc5627_gruu_is_given(void **state)
{
    struct phone a = phone_new(*state, "alice", "secret");
    const char *gruu;
    char url[128];
    struct kg_target found;

    enroll_as(&a, ";+sip.instance=\"<" INSTANCE "8>\"");
    assert_null(strstr(a.in, "gruu="));
    assert_int_equal(enroll_with(&a, "Supported: gruu\r\n"), 200);
    gruu = strstr(a.in, "pub-gruu=\"");
    assert_non_null(gruu);
    snprintf(url, sizeof url, "%.*s", (int)strcspn(gruu + 10, "\""), gruu + 10);
    assert_string_equal(url, "sip:alice@example.org;gr=" INSTANCE "8");
    assert_int_equal(find(*state, url, &found, 1), 1);
    kg_flow_clear(&found.flow);
    close(a.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rfc5627_gruu_names_one_phone, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5626_flows_of_one_phone, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5626_6_reg_id_alone_means_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3327_path_of_a_proxy_before_kedge, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5627_gruu_is_given, setup, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
