/* b2bua/sip: requests over UDP and what is done with each before any handler sees it. */
#include "tests/unit/sip_world.h"

/* ---- shim ---- */

static void shim_is_bound(void **state)
{
    (void)state;
    assert_true(kg_shim_is_bound());
    /* The library's clock is ours: it moves with the monotonic clock. */
    int64_t before_ms = kg_mono_ms();
    su_time_t first = su_now();
    int64_t began_ms = kg_mono_ms();
    while (kg_mono_ms() < began_ms + 5)
        ;
    int64_t ended_ms = kg_mono_ms();
    double passed_ms = su_time_diff(su_now(), first) * 1000;
    assert_true(passed_ms > (double)(ended_ms - began_ms) - 2);
    assert_true(passed_ms < (double)(kg_mono_ms() - before_ms) + 2);
    /* In whole milliseconds: with a finer one the library's loop spins before each timer. */
    for (int i = 0; i < 100; i++)
        assert_int_equal(su_now().tv_usec % 1000, 0);
    /* And names never reach a resolver. */
    su_addrinfo_t *res = NULL;
    int64_t start_ms = kg_mono_ms();
    assert_int_not_equal(su_getaddrinfo("kedge.invalid", "5060", NULL, &res), 0);
    assert_true(kg_mono_ms() - start_ms < AT_ONCE_MS);
}

/* ---- UDP ---- */

static void udp_register(void **state)
{
    struct world *w = *state;
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < 2; i++) {
        char expected[128], contact[KG_CONTACT_URL];
        int fd = phone(SOCK_DGRAM, hosts[i], first_port());
        send_text(fd, request("REGISTER", "UDP", "sip:example.org", ""));
        const char *text = answer(w, fd);
        assert_has(text, "SIP/2.0 200 OK\r\n");
        /* RFC 3581 section 4, and for a phone that did not ask for it, too */
        snprintf(expected, sizeof expected, "received=%s;rport=%u", hosts[i], own_port(fd));
        assert_has(text, expected);
        assert_int_equal(w->flow.transport, KG_UDP);
        assert_int_equal(kg_addr_port(&w->flow.remote), own_port(fd));
        assert_int_equal(kg_addr_port(&w->flow.local), first_port());
        assert_false(kg_addr_is_any(&w->flow.local));
        assert_true(kg_flow_is_up(&w->flow));
        snprintf(expected, sizeof expected, "sip:a%%20b@%s:%u", i ? "[::1]" : "127.0.0.1", first_port());
        assert_string_equal(kg_flow_contact_url(&w->config, &w->flow, "a b", contact), expected);
        close(fd);
    }
}

/* An answer leaves from the address that was asked, on a host with several. */
static void udp_right_source(void **state)
{
    struct world *w = *state;
    struct kg_addr to;
    char from[KG_ADDR_STR];
    struct kg_flow out;
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port()); /* connected: takes packets from there only */
    send_text(fd, request("OPTIONS", "UDP", "sip:example.org", ""));
    assert_has(answer(w, fd), "SIP/2.0 200 OK");
    close(fd);
    assert_int_equal(kg_addr_parse("127.0.0.9:9", &to), 0);
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_UDP, &to, &out), 0);
    assert_string_equal(kg_addr_format_host(&out.local, from), "127.0.0.1");
    assert_non_null(out.tport);
    char url[KG_FLOW_URL];
    assert_string_equal(kg_flow_route_url(&out, url), "sip:127.0.0.9:9;transport=udp");
    kg_flow_clear(&out);
    assert_int_equal(kg_addr_parse("[::1]:9", &to), 0);
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TLS, &to, &out), EHOSTUNREACH);
}

/* ---- dispatch, RFC 3261 8.2 ---- */

static void dispatch(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *method, *uri, *extra, *expected[2];
    } rows[] = {
        {"OPTIONS", "sip:example.org", "", {"200 OK", "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER"}},
        {"OPTIONS", "sip:example.org", "", {"Accept: application/sdp", "Server: kedge"}},
        {"FOO", "sip:example.org", "", {"501 Not Implemented", "Allow: INVITE"}},
        /* The library alone drops these: they begin like methods that it knows. */
        {"SERVICE", "sip:example.org", "", {"501 Not Implemented", "Allow: INVITE"}},
        {"PING", "sip:example.org", "", {"501 Not Implemented", ""}},
        {"INV", "sip:example.org", "", {"501 Not Implemented", ""}},
        {"A", "sip:example.org", "", {"501 Not Implemented", ""}},
        {"BYEBYE", "sip:example.org", "", {"501 Not Implemented", ""}},
        {"invite", "sip:example.org", "", {"501 Not Implemented", ""}},
        {"MESSAGE", "sip:b@example.org", "", {"202", ""}},
        {"SUBSCRIBE", "sip:b@example.org", "Require: eventlist\r\nContent-Encoding: gzip\r\n", {"202", ""}},
        {"PUBLISH",
         "sip:b@example.org",
         "Require: eventlist, foo, bar\r\n",
         {"420", "Unsupported: foo, bar"}},
        {"MESSAGE", "tel:+1555", "", {"416", ""}},
        {"BYE", "sip:b@example.org", "", {"481", ""}},
        {"CANCEL", "sip:b@example.org", "", {"481", ""}},
        {"NOTIFY", "sip:b@example.org", "", {"202", ""}},
        {"INVITE",
         "sip:b@example.org",
         "Require: foo, bar\r\n",
         {"420 Bad Extension", "Unsupported: foo, bar"}},
        {"INVITE", "sip:b@example.org", "Content-Encoding: gzip\r\n", {"415", "Accept-Encoding: identity"}},
        {"INVITE", "http://example.org/", "", {"416", ""}},
        {"INVITE", "sip:b@example.org", "", {"486 Busy Here", ""}},
    };
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        send_text(fd, request(rows[i].method, "UDP", rows[i].uri, rows[i].extra));
        const char *text = answer(w, fd);
        while (strstr(text, "100 Trying"))
            text = answer(w, fd);
        assert_has(text, rows[i].expected[0]);
        assert_has(text, rows[i].expected[1]);
    }
    close(fd);
}

/* What comes before the calls of a process that died are taken over: over UDP it comes again. */
static void dialogs_of_another_process(void **state)
{
    struct world *w = *state;
    char *bye = strdup(request("BYE", "UDP", "sip:b@example.org", ""));
    int udp = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    int tcp = phone(SOCK_STREAM, "127.0.0.1", first_port());
    w->takes_over = true;
    send_text(udp, bye);
    send_text(udp, request("REGISTER", "UDP", "sip:example.org", ""));
    assert_has(answer(w, udp), "SIP/2.0 200 OK"); /* the first thing that it hears */
    send_text(tcp, request("BYE", "TCP", "sip:b@example.org", ""));
    assert_has(answers(w, tcp, 1), "SIP/2.0 481");
    w->takes_over = false;
    send_text(udp, bye);
    assert_has(answer(w, udp), "SIP/2.0 481");
    free(bye);
    close(udp);
    close(tcp);
}

/* Sends the form with every # replaced by a fresh number. */
static void send_form(int fd, const char *form)
{
    char text[2048];
    serial++;
    fill_in(form, serial, text, sizeof text);
    send_text(fd, text);
}

#define HEADERS                                                                                              \
    "Via: SIP/2.0/UDP 10.9.9.9:5070;branch=z9hG4bKh#\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: " \
    "h#\r\n"

/* Nothing in a request can send its answer to a third party. */
static void no_reflection(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *version, *via, *cseq; /* # is the third party's port */
    } rows[] = {
        {"SIP/7.0", "SIP/2.0/UDP 127.0.0.1:#", "1 INVITE"},
        {"SIP/2.0", "SIP/2.0/TCP 127.0.0.1:#", "x"},
        {"SIP/2.0", "SIP/2.0/UDP 127.0.0.1:#;maddr=127.0.0.1", "1 INVITE"},
        {"SIP/2.0", "SIP/2.0/UDP 127.0.0.1:#;received=127.0.0.1", "x"},
        {"SIP/2.0", "SIP/2.0/UDP 127.0.0.1:#", "x"},
    };
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    int third = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[600], via[100];
        fill_in(rows[i].via, own_port(third), via, sizeof via);
        snprintf(
            text, sizeof text,
            "INVITE sip:b@c %s\r\nVia: %s;branch=z9hG4bKv%zu\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
            "Call-ID: v%zu\r\nCSeq: %s\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n",
            rows[i].version, via, i, i, rows[i].cseq);
        send_text(fd, text);
        if (run_until(w, third, NULL, 0, QUIET_MS))
            fail_msg("row %zu: %s", i, answer(w, third));
    }
    close(fd);
    close(third);
    assert_alive(w);
}

static void malformed(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *form, *expected; /* NULL: nothing comes back */
    } rows[] = {
        {"INVITE sip:b@c SIP/2.0\r\n" HEADERS "CSeq: 1 INVITE\r\nMax-Forwards: 0\r\nl: 0\r\n\r\n", "483"},
        {"INVITE sip:b@c SIP/2.0\r\n" HEADERS "CSeq: 1 BYE\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n", "400"},
        {"INVITE sip:b@c SIP/2.0\r\n" HEADERS "Max-Forwards: 9\r\nl: 0\r\n\r\n", "400"},
        {"INVITE sip:b@c SIP/2.0\r\n" HEADERS "CSeq: 99999999999 INVITE\r\nl: 0\r\n\r\n", "400"},
        {"INVITE sip:b@c SIP/7.0\r\n" HEADERS "CSeq: 1 INVITE\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n", "505"},
        {"INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK#\r\nCall-ID: #\r\n\r\n", NULL},
        {"\r\n\r\n", NULL},
        {"hello", NULL},
        {"SIP/2.0 200 OK\r\n" HEADERS "CSeq: 1 INVITE\r\nl: 0\r\n\r\n", NULL},
        {"ACK sip:b@c SIP/2.0\r\n" HEADERS "CSeq: 1 ACK\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n", NULL},
    };
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        send_form(fd, rows[i].form);
        if (rows[i].expected)
            assert_has(answer(w, fd), rows[i].expected);
        else if (run_until(w, fd, NULL, 0, QUIET_MS))
            fail_msg("row %zu was answered: %s", i, answer(w, fd));
    }
    close(fd);
    assert_alive(w);
}

static void is_us(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *url;
        bool us;
    } rows[] = {
        {"sip:a@example.org", true},     {"sip:a@EXAMPLE.org:9999", true}, {"sip:127.0.0.1:#", true},
        {"sip:a@127.0.0.1", true},       {"sip:a@127.0.0.1:1", false},     {"sip:a@[::1]:#", true},
        {"sip:a@198.51.100.1:#", false}, {"sip:a@example.com", false},     {"sip:a@example.org.evil", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        su_home_t home[1] = {SU_HOME_INIT(home)};
        fill_in(rows[i].url, first_port(), text, sizeof text);
        su_home_init(home);
        if (kg_sip_is_us(w->sip, url_make(home, text)) != rows[i].us)
            fail_msg("%s", text);
        su_home_deinit(home);
    }
}

/* ---- streams ---- */

/* A PBX rings two phones behind us: alike but for Request-URI and branch, and both are served. */
static void forked_by_pbx(void **state)
{
    struct world *w = *state;
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    for (unsigned i = 0; i < 2; i++) {
        char text[800];
        unsigned before = w->invites;
        snprintf(
            text, sizeof text,
            "INVITE sip:token%u@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKfork%u\r\n"
            "From: <sip:a@b>;tag=1\r\nTo: <sip:c@b>\r\nCall-ID: fork\r\nCSeq: 1 INVITE\r\nMax-Forwards: "
            "70\r\n"
            "Contact: <sip:a@b>\r\nContent-Length: 0\r\n\r\n",
            i, i);
        send_text(fd, text);
        assert_true(run_until(w, -1, &w->invites, before, PATIENCE_MS));
    }
    close(fd);
}

/* ---- down a flow ---- */

/* RFC 3261 16.3 step 4: the same request back is a loop; with another Request-URI it is a spiral and goes on.
 */
static void loop_and_spiral(void **state)
{
    struct world *w = *state;
    struct kg_flow flow;
    struct kg_addr to;
    nta_leg_t *leg;
    char uri[64];
    assert_int_equal(kg_addr_parse_host("127.0.0.1", first_port(), &to), 0);
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_UDP, &to, &flow), 0);
    snprintf(uri, sizeof uri, "sip:b@127.0.0.1:%u", first_port());
    nta_outgoing_t *orq = ask(w, &leg, &flow, uri);
    assert_true(got_answer(w));
    kg_flow_clear(&flow);
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    assert_int_equal(w->answer_status, 482);

    int pbx = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    assert_int_equal(kg_addr_parse_host("127.0.0.1", own_port(pbx), &to), 0);
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_UDP, &to, &flow), 0);
    leg = nta_leg_tcreate(kg_sip_agent(w->sip), NULL, NULL, SIPTAG_FROM_STR("<sip:kedge@example.org>"),
                          SIPTAG_TO_STR("<sip:a@example.org>"), TAG_END());
    nta_leg_tag(leg, NULL);
    char url[KG_FLOW_URL];
    orq = nta_outgoing_tcreate(
        leg, on_answer, (nta_outgoing_magic_t *)w, (const url_string_t *)kg_flow_route_url(&flow, url),
        SIP_METHOD_INVITE, (const url_string_t *)"sip:b@example.org", NTATAG_TPORT(flow.tport), TAG_END());
    char asked[4000];
    snprintf(asked, sizeof asked, "%s", answer(w, pbx));
    assert_has(asked, "INVITE sip:b@example.org SIP/2.0\r\n");
    char back[6000] = "";
    static const char *const names[] = {"Via:", "From:", "To:", "Call-ID:", "CSeq:"};
    snprintf(back, sizeof back,
             "INVITE sip:token@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%u;branch=z9hG4bKs\r\n",
             own_port(pbx));
    for (size_t k = 0; k < 5; k++)
        copy_header(asked, names[k], back, sizeof back);
    strncat(back, "Max-Forwards: 60\r\nContent-Length: 0\r\n\r\n", sizeof back - strlen(back) - 1);
    send_text(pbx, back);
    const char *text = answer(w, pbx);
    while (strstr(text, "100 Trying") || strncmp(text, "INVITE", 6) == 0) /* ours repeats itself */
        text = answer(w, pbx);
    assert_has(text, "486 Busy Here");
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    kg_flow_clear(&flow);
    close(pbx);
}

/* ---- behind a 1:1 NAT ---- */

static void with_advertise(struct kg_config *config)
{
    assert_int_equal(kg_addr_parse("203.0.113.5", &config->sip.advertise), 0);
}

static void advertise(void **state)
{
    struct world *w = world_new(with_advertise);
    char contact[KG_CONTACT_URL], expected[64];
    struct kg_flow flow = {.transport = KG_UDP};
    su_home_t home[1] = {SU_HOME_INIT(home)};
    (void)state;
    assert_int_equal(kg_addr_parse("192.168.77.1:5060", &flow.local), 0);
    assert_int_equal(kg_addr_parse("198.51.100.9:4444", &flow.remote), 0);
    assert_string_equal(kg_flow_contact_url(&w->config, &flow, "x", contact), "sip:x@203.0.113.5:5060");
    assert_int_equal(kg_addr_parse("127.0.0.9:4444", &flow.remote),
                     0); /* a network of ours: no NAT between */
    assert_string_equal(kg_flow_contact_url(&w->config, &flow, "x", contact), "sip:x@192.168.77.1:5060");
    assert_int_equal(kg_addr_parse("[2001:db8::2]:5060", &flow.local), 0);
    assert_int_equal(kg_addr_parse("[2001:db8:1::9]:4444", &flow.remote), 0); /* IPv6 has no 1:1 NAT */
    assert_string_equal(kg_flow_contact_url(&w->config, &flow, NULL, contact), "sip:[2001:db8::2]:5060");
    snprintf(expected, sizeof expected, "sip:203.0.113.5:%u", first_port());
    su_home_init(home);
    assert_true(kg_sip_is_us(w->sip, url_make(home, expected)));
    su_home_deinit(home);
    assert_alive(w);
    world_free(w);
}

/* ---- what used to be dangerous ---- */

/* A host name in a Via or maddr is never looked up: the loop answers the next request at once. */
static void no_name_lookup(void **state)
{
    struct world *w = *state;
    static const char *const forms[] = {
        "OPTIONS sip:b@c SIP/3.0\r\nVia: SIP/2.0/UDP host.example.com:5070;branch=z9hG4bKn#\r\n"
        "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: n#\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n",
        "OPTIONS sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP "
        "10.9.9.9:5070;branch=z9hG4bKn#;maddr=host.example.com\r\n"
        "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: n#\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n",
    };
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    int64_t start = kg_mono_ms();
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        send_form(fd, forms[i]);
    close(fd);
    assert_alive(w);
    assert_true(kg_mono_ms() - start < AT_ONCE_MS);
}

static void large_and_nested(void **state)
{
    struct world *w = *state;
    static char extra[64000];
    size_t n = (size_t)snprintf(extra, sizeof extra, "Supported: a");
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    while (n + 4 < 50000)
        n += (size_t)snprintf(extra + n, sizeof extra - n, ",a");
    snprintf(extra + n, sizeof extra - n, "\r\n");
    send_text(fd, request("OPTIONS", "UDP", "sip:example.org", extra));
    assert_has(answer(w, fd), "SIP/2.0 ");
    close(fd);

    /* Over a stream it may try more: it is cut off at 64 KB. */
    fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(fd, "OPTIONS sip:x SIP/2.0\r\nSupported: a");
    for (int i = 0; i < 40; i++) {
        static const char items[] =
            ",a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a";
        for (int k = 0; k < 60; k++)
            if (send(fd, items, sizeof items - 1, MSG_NOSIGNAL) < 0)
                break;
    }
    assert_true(is_closed(w, fd));
    close(fd);
    assert_alive(w);
}

/* Bodies are not the stack's business: it reads neither SDP nor MIME. */
static void bodies(void **state)
{
    struct world *w = *state;
    static const char sdp[] = "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nt=0 0\r\nm=application 32416 udp \xe2"
                              "b\r\n";
    static const char mime[] = "--x\r\nContent-Type: \r\n\r\n--x\r\n--x--";
    static const struct {
        const char *type, *body, *expected;
    } rows[] = {
        {"application/sdp", sdp, "486"}, {"multipart/mixed;boundary=x", mime, "486"}, {"x", mime, "4"}};
    int fd = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[3000];
        serial++;
        snprintf(text, sizeof text,
                 "INVITE sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/UDP "
                 "10.9.9.9;branch=z9hG4bKb%u\r\nMax-Forwards: 70\r\n"
                 "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: b%u\r\nCSeq: 1 INVITE\r\nContact: "
                 "<sip:a@b>\r\n"
                 "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                 serial, serial, rows[i].type, strlen(rows[i].body), rows[i].body);
        send_text(fd, text);
        char call_id[40];
        snprintf(call_id, sizeof call_id, "Call-ID: b%u\r\n", serial);
        const char *back = answer(w, fd);
        while (*back && (strstr(back, "100 Trying") || !strstr(back, call_id))) /* of the one before, again */
            back = answer(w, fd);
        assert_has(back, rows[i].expected);
    }
    close(fd);
    assert_alive(w);
}

/* ---- starting and reloading ---- */

static void port_in_use(void **state)
{
    struct world *w = *state;
    static const enum kg_transport transports[] = {KG_UDP, KG_TCP};
    for (size_t i = 0; i < 2; i++) {
        struct kg_config config = w->config;
        struct kg_sip_handlers handlers = {.ctx = w};
        char error[400];
        config.sip.listen_count = 0;
        listen_at(&config, transports[i], "127.0.0.1", first_port());
        assert_null(kg_sip_new(w->root, &config, &handlers, error, sizeof error));
        assert_has(error, "in use");
        assert_has(error, i ? "tcp:127.0.0.1:" : "udp:127.0.0.1:");
        config.sip.listen_count = 0;
        listen_at(&config, transports[i], "198.51.100.77", first_port());
        assert_null(kg_sip_new(w->root, &config, &handlers, error, sizeof error));
        assert_has(error, "does not have that address");
    }
    assert_alive(w);
}

int main(void)
{
    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shim_is_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(udp_register, setup, teardown),
        cmocka_unit_test_setup_teardown(udp_right_source, setup, teardown),
        cmocka_unit_test_setup_teardown(dispatch, setup, teardown),
        cmocka_unit_test_setup_teardown(dialogs_of_another_process, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(no_reflection, setup, teardown),
        cmocka_unit_test_setup_teardown(is_us, setup, teardown),
        cmocka_unit_test_setup_teardown(forked_by_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(loop_and_spiral, setup, teardown),
        cmocka_unit_test(advertise),
        cmocka_unit_test_setup_teardown(no_name_lookup, setup, teardown),
        cmocka_unit_test_setup_teardown(large_and_nested, setup, teardown),
        cmocka_unit_test_setup_teardown(bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(port_in_use, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
