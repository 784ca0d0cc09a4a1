/* In front of a PBX: Path (RFC 3327), Service-Route (RFC 3608), GRUU (RFC 5627) and flows (RFC 5626). */
#include "tests/unit/front_world.h"

#define INSTANCE "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""

/* One REGISTER with this Supported, answered by the PBX with these headers of its own. */
static void register_with(struct scene *s, struct phone *p, const char *supported, const char *answer)
{
    char extra[2048];
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};

    snprintf(extra, sizeof extra, "Supported: %s\r\n", supported);
    phone_send(p, phone_request(p, "REGISTER", p->user, 3600, extra));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    snprintf(extra, sizeof extra, "%s%s", answer, strstr(answer, "Contact:") ? "" : granted(s, 600));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", extra);
}

static size_t find_by_route(const struct scene *s, const char *token, struct kg_target *out)
{
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = "alice", .url_host = "10.1.2.3"};
    sip_route_t route[1];

    sip_route_init(route);
    *route->r_url =
        (url_t){.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};
    return kg_registrar_find(s->w->server.registrar, &url, route, out, 1);
}

static const char *path_seen(const struct scene *s)
{
    return token_seen_in(s, "Path");
}

/* registration.path yes: the phone's Contact and our Path reach the PBX; one that does not say that it took
 * the Path is asked again at once. */
static void rfc3327_own_contact_with_path(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[512];
    struct kg_target target;

    s->w->server.config.registration.path = KG_PATH_YES;
    snprintf(answer, sizeof answer, "Contact: %s;expires=600\r\nPath: <sip:x@127.0.0.1;lr>\r\n", a.contact);
    register_with(s, &a, "replaces", answer);
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_non_null(strstr(header(s->seen, "Contact:"), a.contact));
    assert_non_null(strstr(header(s->seen, "Supported:"), "path"));
    assert_non_null(strstr(header(s->seen, "Path:"), ";lr>"));
    assert_null(strstr(a.in, "Path:")); /* the phone said nothing of it */
    assert_int_equal(find_by_route(s, path_seen(s), &target), 1);
    assert_int_equal(kg_addr_port(&target.flow.remote), a.port);
    kg_flow_clear(&target.flow);
    assert_int_equal(find_by_route(s, "0123456789abcdef01234567", &target), 0);
    close(a.fd);
}

static void rfc3327_5_3_pbx_without_path_is_asked_again(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[512], own[160];
    struct kg_target target;

    s->w->server.config.registration.path = KG_PATH_YES;
    snprintf(answer, sizeof answer, "Contact: %s;expires=600\r\n", a.contact);
    register_with(s, &a, "replaces", answer);
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    snprintf(own, sizeof own, "%s;expires=0", a.contact);
    assert_non_null(strstr(s->seen, own));
    assert_null(strstr(s->seen, "Path:"));
    assert_string_equal(phone_receive(&a, QUIET_MS), "");
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", granted(s, 600));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_int_equal(find(s, token_seen(s), &target), 1);
    kg_flow_clear(&target.flow);
    /* From then on with a Contact of ours only. */
    struct phone b = phone_new(s->w, "bob", "secret");
    register_with(s, &b, "replaces", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_null(strstr(s->seen, "Path:"));
    snprintf(own, sizeof own, "%s;expires=0", b.contact);
    assert_non_null(strstr(s->seen, own));
    close(a.fd);
    close(b.fd);
}

static void pbx_that_refuses_path_is_asked_without(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");

    s->w->server.config.registration.path = KG_PATH_YES;
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, ""));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "420 Bad Extension", "Unsupported: path\r\n"));
    assert_non_null(strstr(s->seen, "Path:"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, "420 Bad Extension", "Unsupported: path\r\n"));
    assert_null(strstr(s->seen, "Path:"));
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 420); /* not a third time */
    close(a.fd);
}

static void path_where_the_pbx_says_so(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");

    register_with(s, &a, "replaces", "Supported: path\r\n");
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(s->seen, "Path:"));
    register_with(s, &b, "replaces", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_string_equal(path_seen(s), token_seen(s));
    close(a.fd);
    close(b.fd);
}

/* For that phone and that PBX alone; the phone is not told. */
static void rfc3608_service_route(void **state)
{
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret"), b = phone_new(s->w, "bob", "secret");
    struct kg_target mine, other;
    struct kg_flow elsewhere;
    const struct kg_flow *pbx;

    register_with(s, &a, "path",
                  "Service-Route: <sip:orig@198.51.100.3;lr>\r\nService-Route: <sip:p2.example;lr>\r\n");
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_null(strstr(a.in, "Service-Route"));
    assert_int_equal(find(s, token_seen(s), &mine), 1);
    register_with(s, &b, "path", "");
    assert_int_equal(status_of(phone_receive(&b, PATIENCE_MS)), 200);
    assert_int_equal(find(s, token_seen(s), &other), 1);
    pbx = kg_peers_flow(s->w->server.peers, kg_registrar_pbx_of(s->w->server.registrar, &mine.flow));
    assert_non_null(pbx);
    kg_flow_copy(&elsewhere, pbx);
    kg_addr_set_port(&elsewhere.remote, 4);
    struct kg_registrar *r = s->w->server.registrar;
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "alice", pbx),
                        "<sip:orig@198.51.100.3;lr>, <sip:p2.example;lr>");
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "bob", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &other.flow, "alice", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &other.flow, "bob", pbx), "");
    assert_string_equal(kg_registrar_service_route(r, &mine.flow, "alice", &elsewhere), "");
    kg_flow_clear(&mine.flow);
    kg_flow_clear(&other.flow);
    kg_flow_clear(&elsewhere);
    close(a.fd);
    close(b.fd);
}

/* What the PBX gives passes to the phone that asked, also when kedge answers by itself. */
static void rfc5627_gruu_of_the_pbx(void **state)
{
    static const char gruus[] = ";pub-gruu=\"sip:alice@example.org;gr=urn:uuid:1\""
                                ";temp-gruu=\"sip:t.7@example.org;gr\"";
    struct scene *s = *state;
    struct phone a = phone_new(s->w, "alice", "secret");
    char answer[1024];

    snprintf(a.contact, sizeof a.contact, "<sip:alice@127.0.0.1:%u>;" INSTANCE, a.port);
    phone_send(&a, phone_request(&a, "REGISTER", "alice", 3600, "Supported: gruu\r\n"));
    assert_true(pbx_serve(s, 0, PATIENCE_MS, NULL, ""));
    assert_non_null(strstr(header(s->seen, "Contact:"), INSTANCE));
    assert_non_null(strstr(header(s->seen, "Supported:"), "gruu"));
    snprintf(answer, sizeof answer, "%.*s%s\r\n", (int)strcspn(granted(s, 600), "\r"), granted(s, 600),
             gruus);
    struct kg_addr kedge;
    struct sockaddr_storage to = {0};
    assert_int_equal(kg_addr_parse_host("127.0.0.1", s->w->port, &kedge), 0);
    memcpy(&to, &kedge.sa, kg_addr_len(&kedge));
    pbx_answer(s->pbx[0], s->seen, &to, kg_addr_len(&kedge), "200 OK", answer);
    assert_int_equal(status_of(phone_receive(&a, PATIENCE_MS)), 200);
    assert_non_null(strstr(header(a.in, "Contact:"), gruus));
    assert_non_null(strstr(header(a.in, "Contact:"), INSTANCE));
    assert_int_equal(refresh(&a, "Supported: gruu\r\n"), 200);
    assert_non_null(strstr(header(a.in, "Contact:"), gruus));
    assert_int_equal(refresh(&a, ""), 200);
    assert_null(strstr(a.in, "gruu="));
    assert_int_equal(kg_counters.registers_local, 2);
    close(a.fd);
}

/* Two flows of one phone are one contact to the PBX; it goes with the last of them. */
static void rfc5626_two_flows_are_one_contact(void **state)
{
    struct scene *s = *state;
    struct phone one = phone_new(s->w, "alice", "secret"), two = phone_new(s->w, "alice", "secret");
    struct kg_target target[3];
    char token[32];
    url_t url = {.url_type = url_sip, .url_scheme = "sip", .url_user = token, .url_host = "127.0.0.1"};

    snprintf(one.contact, sizeof one.contact, "<sip:alice@127.0.0.1:%u>;reg-id=1;" INSTANCE, one.port);
    snprintf(two.contact, sizeof two.contact, "<sip:alice@127.0.0.1:%u>;reg-id=2;" INSTANCE, two.port);
    register_with(s, &one, "outbound, path", "");
    assert_int_equal(status_of(phone_receive(&one, PATIENCE_MS)), 200);
    assert_non_null(strstr(one.in, "Require: outbound"));
    snprintf(token, sizeof token, "%s", token_seen(s));
    register_with(s, &two, "outbound, path", "");
    assert_int_equal(status_of(phone_receive(&two, PATIENCE_MS)), 200);
    assert_string_equal(token_seen(s), token);
    assert_null(strstr(header(s->seen, "Contact:"), "reg-id"));
    assert_int_equal(kg_registrar_find(s->w->server.registrar, &url, NULL, target, 3), 2);
    assert_int_equal(kg_addr_port(&target[0].flow.remote), two.port);
    assert_int_equal(target[0].device, target[1].device);
    kg_flow_clear(&target[0].flow);
    kg_flow_clear(&target[1].flow);
    for (int left = 1; left >= 0; left--) {
        struct phone *p = left ? &one : &two;

        phone_send(p, phone_request(p, "REGISTER", "alice", 0, "Supported: outbound, path\r\n"));
        assert_true(pbx_serve(s, 0, PATIENCE_MS, "200 OK", granted(s, left ? 600 : 0)));
        assert_int_equal(strstr(header(s->seen, "Contact:"), "expires=0") != NULL, !left);
        assert_int_equal(status_of(phone_receive(p, PATIENCE_MS)), 200);
        assert_int_equal(kg_registrar_find(s->w->server.registrar, &url, NULL, target, 3), left);
        if (left)
            kg_flow_clear(&target[0].flow);
    }
    close(one.fd);
    close(two.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rfc3327_own_contact_with_path, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3327_5_3_pbx_without_path_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(pbx_that_refuses_path_is_asked_without, setup, teardown),
        cmocka_unit_test_setup_teardown(path_where_the_pbx_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc3608_service_route, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5627_gruu_of_the_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(rfc5626_two_flows_are_one_contact, setup, teardown),
    };

    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
