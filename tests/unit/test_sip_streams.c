/* b2bua/sip: TCP and TLS through the edge: framing, limits, deadlines, flows, a PBX by stream. */
#include "tests/unit/sip_world.h"

/* ---- streams ---- */

static void tcp_pipelined(void **state)
{
    struct world *w = *state;
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < 2; i++) {
        int fd = phone(SOCK_STREAM, hosts[i], first_port());
        char expected[64];
        send_text(fd, "\r\n\r\n");
        assert_string_equal(answer(w, fd), "\r\n"); /* RFC 5626 3.5.1 */
        send_text(fd, request("REGISTER", "TCP", "sip:example.org", ""));
        send_text(fd, request("OPTIONS", "TCP", "sip:example.org", ""));
        send_text(fd, "\r\n\r\n");
        const char *last = request("FOO", "TCP", "sip:example.org", "");
        for (const char *p = last; *p; p++) /* byte by byte */
            assert_int_equal(send(fd, p, 1, MSG_NOSIGNAL), 1);
        const char *text = answers(w, fd, 3);
        assert_has(text, "REGISTER");
        assert_has(text, "OPTIONS");
        assert_has(text, "501 Not Implemented");
        snprintf(expected, sizeof expected, "received=%s;rport=%u", hosts[i], own_port(fd));
        assert_has(text, expected);
        assert_int_equal(w->flow.transport, KG_TCP);
        assert_int_equal(kg_addr_port(&w->flow.remote), own_port(fd)); /* the phone's, not the socketpair's */
        assert_true(kg_flow_is_up(&w->flow));
        unsigned lost = w->lost;
        close(fd);
        assert_true(run_until(w, -1, &w->lost, lost, PATIENCE_MS));
        assert_ptr_equal(w->lost_tport, w->flow.tport);
        assert_false(kg_flow_is_up(&w->flow));
    }
}

/* More than the longest message is waiting when signalling comes to read: a PBX's busy connection, not a long
 * message. */
static void tcp_backlog(void **state)
{
    struct world *w = *state;
    static char extra[2000];
    int fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(fd, request("OPTIONS", "TCP", "sip:example.org", ""));
    assert_has(answers(w, fd, 1), "200 OK");
    snprintf(extra, sizeof extra, "X-Long: %01900d\r\n", 0);
    for (int i = 0; i < 100; i++)
        send_text(fd, request("OPTIONS", "TCP", "sip:example.org", extra));
    const char *text = answers(w, fd, 100);
    unsigned count = 0;
    for (const char *p = text; (p = strstr(p, "200 OK")); p++)
        count++;
    assert_int_equal(count, 100);
    assert_alive(w);
    close(fd);
}

/* A request toward a phone whose stream is gone fails at once: kedge does not connect to it. */
static void gone_stream(void **state)
{
    struct world *w = *state;
    nta_leg_t *leg;
    int fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(fd, request("REGISTER", "TCP", "sip:example.org", ""));
    assert_has(answers(w, fd, 1), "200 OK");
    unsigned lost = w->lost;
    close(fd);
    assert_true(run_until(w, -1, &w->lost, lost, PATIENCE_MS));
    int64_t start = kg_mono_ms();
    nta_outgoing_t *orq = ask(w, &leg, &w->flow, "sip:a@10.9.9.9:5070");
    assert_true(got_answer(w));
    assert_int_equal(w->answer_status, 503);
    assert_true(kg_mono_ms() - start < AT_ONCE_MS);
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
}

/* A client that sends its last message and closes at once is still heard. */
static void tcp_send_and_close(void **state)
{
    struct world *w = *state;
    unsigned before = w->registers;
    int fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(fd, request("REGISTER", "TCP", "sip:example.org", ""));
    close(fd);
    assert_true(run_until(w, -1, &w->registers, before, PATIENCE_MS));
}

struct tls_phone {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void tls_open(struct tls_phone *p)
{
    p->fd = phone(SOCK_STREAM, "127.0.0.1", (uint16_t)(first_port() + 1));
    p->context = SSL_CTX_new(TLS_client_method());
    p->ssl = SSL_new(p->context);
    SSL_set_fd(p->ssl, p->fd);
    assert_int_equal(SSL_connect(p->ssl), 1); /* the edge answers on its own thread */
}

static void tls_close(struct tls_phone *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->context);
    close(p->fd);
}

static const char *tls_answer(struct world *w, struct tls_phone *p, const char *until)
{
    static char text[20000];
    size_t n = 0;
    text[0] = '\0';
    while (!strstr(text, until)) {
        if (!SSL_pending(p->ssl) && !run_until(w, p->fd, NULL, 0, PATIENCE_MS))
            break;
        /* a TLS record that is no data (a session ticket) makes SSL_read wait for more: don't */
        fcntl(p->fd, F_SETFL, O_NONBLOCK);
        int got = SSL_read(p->ssl, text + n, (int)(sizeof text - 1 - n));
        if (got <= 0 && SSL_get_error(p->ssl, got) != SSL_ERROR_WANT_READ)
            break;
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
    }
    return text;
}

static void tls_register(void **state)
{
    struct world *w = *state;
    struct tls_phone p;
    struct stat st;
    char path[128], contact[KG_CONTACT_URL], expected[64];
    tls_open(&p);
    const char *text = request("REGISTER", "TLS", "sip:example.org", "");
    assert_int_equal(SSL_write(p.ssl, text, (int)strlen(text)), (int)strlen(text));
    assert_has(tls_answer(w, &p, "\r\n\r\n"), "SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 10.9.9.9:5070");
    assert_int_equal(w->flow.transport, KG_TLS);
    assert_int_equal(kg_addr_port(&w->flow.remote), own_port(p.fd));
    snprintf(expected, sizeof expected, "sip:127.0.0.1:%u;transport=tls", first_port() + 1);
    assert_string_equal(kg_flow_contact_url(&w->config, &w->flow, NULL, contact), expected);
    X509 *cert = SSL_get1_peer_certificate(p.ssl);
    assert_int_equal(X509_check_host(cert, "example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(cert, "127.0.0.1", 0), 1);
    X509_free(cert);
    snprintf(path, sizeof path, "%s/kedge-key.pem", w->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    tls_close(&p);
}

/* ---- down a flow ---- */

static void request_down_the_flow(void **state)
{
    struct world *w = *state;
    static const struct {
        int type;
        const char *transport, *host;
    } rows[] = {
        {SOCK_DGRAM, "UDP", "127.0.0.1"}, {SOCK_DGRAM, "UDP", "::1"}, {SOCK_STREAM, "TCP", "127.0.0.1"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char expected[96];
        nta_leg_t *leg;
        int fd = phone(rows[i].type, rows[i].host, first_port());
        send_text(fd, request("REGISTER", rows[i].transport, "sip:example.org", ""));
        assert_has(answer(w, fd), "200 OK");
        /* The phone's Contact is behind its NAT: the request still comes to the source of the REGISTER. */
        nta_outgoing_t *orq = ask(w, &leg, &w->flow, "sip:a@10.9.9.9:5070");
        assert_non_null(orq);
        const char *text = answer(w, fd);
        assert_has(text, "OPTIONS sip:a@10.9.9.9:5070 SIP/2.0\r\n");
        const char *open = strchr(rows[i].host, ':') ? "[" : "", *shut = *open ? "]" : "";
        snprintf(expected, sizeof expected, "Via: SIP/2.0/%s %s%s%s:%u", rows[i].transport, open,
                 rows[i].host, shut, first_port());
        assert_has(text, expected);
        assert_null(strchr(text, '(')); /* no transport name as a comment in the Via */
        answer_ok(fd, text);
        assert_true(got_answer(w));
        assert_int_equal(w->answer_status, 200);
        nta_outgoing_destroy(orq);
        nta_leg_destroy(leg);
        close(fd);
    }
}

/* ---- a PBX by TCP and TLS ---- */

static int pbx_socket = -1;

static void with_pbx(struct kg_config *config)
{
    (void)config;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pbx_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(pbx_socket, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(pbx_socket, 5), 0);
}

/* The world lets kedge connect to anybody on this machine; TLS to ourselves, a TLS server that is at hand. */
static struct kg_addr server_addr(uint16_t port)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", port, &addr), 0);
    return addr;
}

static void pbx_by_stream(void **state)
{
    struct world *w = world_new(with_pbx);
    struct kg_addr tcp = server_addr(own_port(pbx_socket)), tls = server_addr((uint16_t)(first_port() + 1));
    struct kg_flow flow;
    nta_leg_t *leg;
    (void)state;
    w->connects = true;
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TCP, &tcp, &flow), 0);
    nta_outgoing_t *orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    assert_true(run_until(w, pbx_socket, NULL, 0, PATIENCE_MS));
    int fd = accept(pbx_socket, NULL, NULL);
    const char *text = answers(w, fd, 1);
    assert_has(text, "OPTIONS sip:pbx.example.org SIP/2.0\r\n");
    assert_has(text, "Via: SIP/2.0/TCP 127.0.0.1");
    answer_ok(fd, text);
    assert_true(got_answer(w));
    assert_int_equal(w->answer_status, 200);
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    /* The second request uses the connection that is there. */
    orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    text = answers(w, fd, 1);
    assert_has(text, "OPTIONS sip:pbx.example.org SIP/2.0\r\n");
    answer_ok(fd, text);
    assert_true(got_answer(w));
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    unsigned lost = w->lost;
    close(fd);
    assert_true(run_until(w, -1, &w->lost, lost, PATIENCE_MS));
    /* Nobody listens any more: an error comes back, soon. */
    close(pbx_socket);
    orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    assert_true(got_answer(w));
    assert_int_equal(w->answer_status, 503);
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    kg_flow_clear(&flow);

    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TLS, &tls, &flow), 0);
    orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    assert_true(got_answer(w));
    assert_int_equal(w->answer_status, 482); /* a loop: it came and its answer went through TLS both ways */
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    kg_flow_clear(&flow);
    world_free(w);
}

/* ---- who a server by TLS must be ---- */

static void with_own_ca(struct kg_config *config)
{
    const char *slash = strrchr(config->store, '/');
    snprintf(config->tls.ca, sizeof config->tls.ca, "%.*s/kedge-cert.pem", (int)(slash - config->store),
             config->store);
}

static int ask_over_tls(struct world *w, const char *name, bool verify)
{
    struct kg_addr tls = server_addr((uint16_t)(first_port() + 1));
    struct kg_flow flow;
    nta_leg_t *leg;
    w->server_name = name;
    w->verify = verify;
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TLS, &tls, &flow), 0);
    nta_outgoing_t *orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    assert_true(got_answer(w));
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    kg_flow_clear(&flow);
    return w->answer_status;
}

static void certificate_of_a_server(void **state)
{
    struct world *w = world_new(with_own_ca);
    (void)state;
    w->connects = false;
    assert_int_equal(ask_over_tls(w, "127.0.0.1", false), 503); /* nobody of ours: not connected to at all */
    w->connects = true;
    assert_int_equal(ask_over_tls(w, "pbx.example.org", true), 503); /* the certificate is for another name */
    assert_int_equal(ask_over_tls(w, "192.0.2.1", true), 503);
    assert_int_equal(ask_over_tls(w, "127.0.0.1", true), 482); /* a loop: it arrived */
    world_free(w);
    /* The same certificate where nobody vouches for it. */
    w = world_new(NULL);
    w->connects = true;
    assert_int_equal(ask_over_tls(w, "127.0.0.1", true), 503);
    assert_int_equal(ask_over_tls(w, "127.0.0.1", false), 482);
    world_free(w);
}

/* ---- limits and deadlines ---- */

static void with_short_deadlines(struct kg_config *config)
{
    config->limits.stream_message_ms = 200;
    config->limits.handshake_ms = 250;
    config->limits.stream_idle_ms = 6000;
    config->limits.streams_per_source = 4;
    config->limits.streams = 5;
}

static void deadlines(void **state)
{
    struct world *w = world_new(with_short_deadlines);
    (void)state;
    int64_t start = kg_mono_ms();
    int slow = phone(SOCK_STREAM, "127.0.0.1", first_port());
    int silent_tls = phone(SOCK_STREAM, "127.0.0.1", (uint16_t)(first_port() + 1));
    int idle = phone(SOCK_STREAM, "127.0.0.1", first_port());
    int neighbour = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(slow, "OPTIONS sip:x SIP/2.0\r\nVia: ");
    assert_true(is_closed(w, slow));
    int64_t took = kg_mono_ms() - start;
    assert_true(took >= 190 && took < 5500);
    assert_true(is_closed(w, silent_tls));
    send_text(neighbour, request("OPTIONS", "TCP", "sip:example.org", "")); /* is unaffected */
    assert_has(answers(w, neighbour, 1), "200 OK");
    assert_true(is_closed(w, idle));
    assert_true(kg_mono_ms() - start >= 5990);
    close(slow);
    close(silent_tls);
    close(idle);
    close(neighbour);
    assert_alive(w);
    world_free(w);
}

static void too_many(void **state)
{
    struct world *w = world_new(with_short_deadlines);
    int fds[6];
    char extra[16];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        fds[i] = phone(SOCK_STREAM, "127.0.0.1", first_port());
    fds[4] = phone(SOCK_STREAM, "127.0.0.1", first_port());
    int64_t start = kg_mono_ms();
    assert_true(is_closed(w, fds[4])); /* streams_per_source */
    close(fds[4]);
    fds[4] = phone(SOCK_STREAM, "::1", first_port());
    send_text(fds[4], request("OPTIONS", "TCP", "sip:example.org", ""));
    assert_has(answers(w, fds[4], 1), "200 OK"); /* another source is served */
    fds[5] = phone(SOCK_STREAM, "::1", first_port());
    assert_true(is_closed(w, fds[5]));        /* streams */
    assert_true(kg_mono_ms() - start < 5500); /* at once, not at some deadline */
    assert_int_equal(recv(fds[0], extra, sizeof extra, MSG_DONTWAIT), -1);
    for (size_t i = 0; i < 6; i++)
        close(fds[i]);
    assert_true(run_until(w, -1, NULL, 0, 0) || true);
    for (int64_t end = kg_mono_ms() + PATIENCE_MS; kg_counters.streams_refused < 2 && kg_mono_ms() < end;)
        su_root_step(w->root, 10);
    assert_true(kg_counters.streams_refused >= 2);
    world_free(w);
}

/* No descriptors: the loop does not spin, and goes on when there are some again. */
static void no_descriptors(void **state)
{
    struct world *w = *state;
    struct rlimit before, none;
    struct timespec start, end;
    struct kg_addr to;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(kg_addr_parse_host("127.0.0.1", first_port(), &to), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd + 1; /* fd is the lowest free number, so every one below is taken */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(dup(fd), -1);
    assert_int_equal(connect(fd, &to.sa, kg_addr_len(&to)), 0); /* the kernel completes it, accept cannot */
    send_text(fd, request("OPTIONS", "TCP", "sip:example.org", ""));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    assert_false(run_until(w, fd, NULL, 0, 500));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    int64_t cpu_ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    assert_true(cpu_ms < 200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_has(answers(w, fd, 1), "200 OK");
    close(fd);
}

/* ---- what used to be dangerous ---- */

static void hostile_streams(void **state)
{
    struct world *w = *state;
    static const char *const lengths[] = {"-1", "2147483648", "4294967295", "9999999999", "99999"};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char text[4000];
        int fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
        /* A good message and the bad one behind it, in one packet. */
        int n = snprintf(text, sizeof text, "%s", request("OPTIONS", "TCP", "sip:example.org", ""));
        snprintf(
            text + n, sizeof text - (size_t)n,
            "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKq\r\nContent-Length: %s\r\n\r\nbody",
            lengths[i]);
        send_text(fd, text);
        assert_true(is_closed(w, fd));
        close(fd);
    }
    static const char *const others[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02", "\n\n\n\n"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int fd = phone(SOCK_STREAM, "127.0.0.1", first_port());
        send_text(fd, others[i]);
        assert_true(is_closed(w, fd));
        close(fd);
    }
    assert_alive(w);
}

/* ---- starting and reloading ---- */

static void reload(void **state)
{
    struct world *w = *state;
    struct kg_config config = w->config;
    char error[400], path[128];
    snprintf(config.tls.certificate, sizeof config.tls.certificate, "%s/none.pem", w->dir);
    snprintf(config.tls.key, sizeof config.tls.key, "%s/none.pem", w->dir);
    assert_int_equal(kg_sip_reload(w->sip, &config, error, sizeof error), EINVAL);
    assert_has(error, "none.pem");

    /* Another certificate beside the store: the old connection stays, a new one sees it. */
    struct tls_phone old, new;
    tls_open(&old);
    X509 *before = SSL_get1_peer_certificate(old.ssl);
    snprintf(path, sizeof path, "%s/kedge-cert.pem", w->dir);
    unlink(path);
    assert_int_equal(kg_sip_reload(w->sip, &w->config, error, sizeof error), 0);
    bool changed = false;
    for (int64_t end = kg_mono_ms() + PATIENCE_MS; !changed && kg_mono_ms() < end;) {
        tls_open(&new);
        X509 *after = SSL_get1_peer_certificate(new.ssl);
        changed = X509_cmp(before, after) != 0;
        X509_free(after);
        tls_close(&new);
    }
    assert_true(changed);
    X509_free(before);
    const char *text = request("OPTIONS", "TLS", "sip:example.org", "");
    assert_int_equal(SSL_write(old.ssl, text, (int)strlen(text)), (int)strlen(text));
    assert_has(tls_answer(w, &old, "\r\n\r\n"), "200 OK");
    tls_close(&old);
}

int main(void)
{
    kg_log_init("test", KG_LOG_ERROR);
    su_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tcp_pipelined, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_backlog, setup, teardown),
        cmocka_unit_test_setup_teardown(gone_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_send_and_close, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_register, setup, teardown),
        cmocka_unit_test_setup_teardown(request_down_the_flow, setup, teardown),
        cmocka_unit_test(pbx_by_stream),
        cmocka_unit_test(certificate_of_a_server),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(too_many),
        cmocka_unit_test_setup_teardown(no_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(reload, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
