/* b2bua/sip: the whole stack on loopback, spoken to by plain sockets. One thread plays phone and signalling,
 * the edge has its own. Nothing sleeps: every wait is for an event and has an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/su.h>
#include <sofia-sip/su_time.h>

#include "b2bua/server.h"
#include "b2bua/sip/shim.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

#define PATIENCE_MS 5000 /* for what must happen */
#define QUIET_MS    150  /* for what must not */

struct world {
    su_root_t *root;
    struct kg_sip *sip;
    struct kg_config config;
    char dir[64];
    unsigned registers, invites, lost;
    struct kg_flow flow; /* of the last REGISTER */
    tport_t *lost_tport;
    int answer_status; /* of our own request; 0: none yet */
};

/* ---- the world ---- */

static void on_register(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;
    struct kg_flow again;
    w->registers++;
    assert_int_equal(kg_flow_of_incoming(kg_sip_agent(w->sip), irq, &again), 0);
    assert_true(kg_flow_same(&again, flow));
    kg_flow_clear(&again);
    kg_flow_clear(&w->flow);
    kg_flow_copy(&w->flow, flow);
    nta_incoming_treply(irq, SIP_200_OK, TAG_END());
    nta_incoming_destroy(irq);
    assert_non_null(sip->sip_from); /* still there after the irq is gone */
}

static void on_invite(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;
    (void)sip;
    (void)flow;
    w->invites++;
    nta_incoming_treply(irq, SIP_486_BUSY_HERE, TAG_END());
    nta_incoming_destroy(irq);
}

static void on_lost(void *ctx, tport_t *tport)
{
    struct world *w = ctx;
    w->lost++;
    w->lost_tport = tport;
}

static uint16_t first_port(void)
{
    return (uint16_t)(20000 + getpid() % 3000 * 4);
}

static void listen_at(struct kg_config *config, enum kg_transport transport, const char *host, uint16_t port)
{
    struct kg_endpoint *at = &config->sip.listen[config->sip.listen_count++];
    at->transport = transport;
    assert_int_equal(kg_addr_parse_host(host, port, &at->addr), 0);
}

static struct world *world_new(void (*adjust)(struct kg_config *))
{
    struct world *w = calloc(1, sizeof *w);
    char error[400];
    assert_non_null(w);
    uint16_t port = first_port();
    snprintf(w->dir, sizeof w->dir, "/tmp/kedge-test-sip-%d", (int)getpid());
    mkdir(w->dir, 0700);
    kg_config_defaults(&w->config);
    snprintf(w->config.store, sizeof w->config.store, "%s/kedge.db", w->dir);
    snprintf(w->config.sip.domain, sizeof w->config.sip.domain, "example.org");
    w->config.sip.listen_count = 0;
    listen_at(&w->config, KG_UDP, "0.0.0.0", port);
    listen_at(&w->config, KG_UDP, "::1", port);
    listen_at(&w->config, KG_TCP, "0.0.0.0", port);
    listen_at(&w->config, KG_TCP, "::1", port);
    listen_at(&w->config, KG_TLS, "127.0.0.1", (uint16_t)(port + 1));
    if (adjust)
        adjust(&w->config);
    const struct kg_sip_handlers handlers = {
        .on_register = on_register, .on_invite = on_invite, .on_flow_lost = on_lost, .ctx = w};
    w->root = su_root_create(NULL);
    w->sip = kg_sip_new(w->root, &w->config, &handlers, error, sizeof error);
    if (!w->sip)
        fail_msg("%s", error);
    return w;
}

static void world_free(struct world *w)
{
    char path[128];
    kg_flow_clear(&w->flow);
    kg_sip_free(w->sip);
    su_root_destroy(w->root);
    snprintf(path, sizeof path, "%s/kedge-cert.pem", w->dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/kedge-key.pem", w->dir);
    unlink(path);
    rmdir(w->dir);
    free(w);
}

static int setup(void **state)
{
    *state = world_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* Runs signalling until fd is readable; false after `ms`. fd -1: until *counter changes from `was`. */
static bool run_until(struct world *w, int fd, const unsigned *counter, unsigned was, int64_t ms)
{
    int64_t end = kg_mono_ms() + ms;
    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        su_root_step(w->root, 2);
        if (fd >= 0 && poll(&p, 1, 0) > 0)
            return true;
        if (counter && *counter != was)
            return true;
    } while (kg_mono_ms() < end);
    return false;
}

/* ---- the phone ---- */

static int phone(int type, const char *host, uint16_t port)
{
    struct kg_addr to;
    int fd;
    assert_int_equal(kg_addr_parse_host(host, port, &to), 0);
    fd = socket(kg_addr_family(&to), type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &to.sa, kg_addr_len(&to)), 0);
    return fd;
}

static uint16_t own_port(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    struct kg_addr addr = kg_addr_from_sockaddr((struct sockaddr *)&at);
    return kg_addr_port(&addr);
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static unsigned serial;

/* Copies text with every # replaced by the number. */
static void fill_in(const char *text, unsigned number, char *out, size_t size)
{
    size_t n = 0;
    for (; *text && n + 12 < size; text++)
        if (*text == '#')
            n += (size_t)snprintf(out + n, size - n, "%u", number);
        else
            out[n++] = *text;
    out[n] = '\0';
}

/* A well-formed request; extra headers each end in CRLF. */
static const char *request(const char *method, const char *transport, const char *uri, const char *extra)
{
    static char text[70000];
    serial++;
    snprintf(
        text, sizeof text,
        "%s %s SIP/2.0\r\nVia: SIP/2.0/%s 10.9.9.9:5070;branch=z9hG4bK%u\r\nMax-Forwards: 70\r\n"
        "From: <sip:a@example.org>;tag=f%u\r\nTo: <sip:a@example.org>\r\nCall-ID: c%u@test\r\nCSeq: %u %s\r\n"
        "Contact: <sip:a@10.9.9.9:5070>\r\n%sContent-Length: 0\r\n\r\n",
        method, uri, transport, serial, serial, serial, serial, method, extra);
    return text;
}

/* Everything received until nothing more comes at once; "" when nothing came at all. */
static const char *answer(struct world *w, int fd)
{
    static char text[70000];
    size_t n = 0;
    text[0] = '\0';
    if (!run_until(w, fd, NULL, 0, PATIENCE_MS))
        return text;
    ssize_t got = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    n = got > 0 ? (size_t)got : 0;
    text[n] = '\0';
    return text;
}

/* Until `count` whole answers came over the stream (none of ours has a body). */
static const char *answers(struct world *w, int fd, unsigned count)
{
    static char text[70000];
    size_t n = 0;
    for (;;) {
        unsigned have = 0;
        text[n] = '\0';
        for (const char *p = text; (p = strstr(p, "\r\n\r\n")); p += 4)
            have++;
        if (have >= count || !run_until(w, fd, NULL, 0, PATIENCE_MS))
            return text;
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, MSG_DONTWAIT);
        if (got <= 0)
            return text;
        n += (size_t)got;
    }
}

static bool is_closed(struct world *w, int fd)
{
    char byte[512];
    int64_t end = kg_mono_ms() + PATIENCE_MS;
    while (kg_mono_ms() < end && run_until(w, fd, NULL, 0, PATIENCE_MS)) {
        ssize_t n = recv(fd, byte, sizeof byte, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
        if (n < 0)
            return false;
    }
    return false;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in:\n%s", part, text);
}

/* Good requests are served over UDP and TCP. */
static void assert_alive(struct world *w)
{
    int udp = phone(SOCK_DGRAM, "127.0.0.1", first_port());
    int tcp = phone(SOCK_STREAM, "127.0.0.1", first_port());
    send_text(udp, request("REGISTER", "UDP", "sip:example.org", ""));
    assert_has(answer(w, udp), "SIP/2.0 200 OK");
    send_text(tcp, request("REGISTER", "TCP", "sip:example.org", ""));
    assert_has(answers(w, tcp, 1), "SIP/2.0 200 OK");
    close(udp);
    close(tcp);
}

/* ---- shim ---- */

static void shim_is_bound(void **state)
{
    (void)state;
    assert_true(kg_shim_is_bound());
    /* The library's clock is ours: it moves with the monotonic clock. */
    int64_t before_ms = kg_mono_ms();
    su_time_t first = su_now();
    while (kg_mono_ms() < before_ms + 5)
        ;
    double passed = su_time_diff(su_now(), first);
    assert_true(passed > 0.001 && passed < 1.0);
    /* In whole milliseconds: with a finer one the library's loop spins before each timer. */
    for (int i = 0; i < 100; i++)
        assert_int_equal(su_now().tv_usec % 1000, 0);
    /* And names never reach a resolver. */
    su_addrinfo_t *res = NULL;
    int64_t start_ms = kg_mono_ms();
    assert_int_not_equal(su_getaddrinfo("kedge.invalid", "5060", NULL, &res), 0);
    assert_true(kg_mono_ms() - start_ms < 100);
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
        {"MESSAGE", "sip:b@example.org", "", {"405 Method Not Allowed", "Allow: INVITE"}},
        {"SUBSCRIBE", "sip:b@example.org", "", {"405", "Allow:"}},
        {"BYE", "sip:b@example.org", "", {"481", ""}},
        {"CANCEL", "sip:b@example.org", "", {"481", ""}},
        {"NOTIFY", "sip:b@example.org", "", {"481", ""}},
        {"INVITE",
         "sip:b@example.org",
         "Require: foo, 100rel\r\n",
         {"420 Bad Extension", "Unsupported: foo, 100rel"}},
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
        {"INVITE sip:b@c SIP/7.0\r\n" HEADERS "CSeq: 1 INVITE\r\nMax-Forwards: 9\r\nl: 0\r\n\r\n", NULL},
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

/* ---- requests of ours ---- */

static int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip)
{
    struct world *w = (struct world *)magic;
    if (nta_outgoing_status(orq) >= 200 && sip)
        w->answer_status = nta_outgoing_status(orq);
    return 0;
}

static nta_outgoing_t *ask(struct world *w, nta_leg_t **leg, const struct kg_flow *flow, const char *uri)
{
    char url[KG_FLOW_URL];
    w->answer_status = 0;
    *leg = nta_leg_tcreate(kg_sip_agent(w->sip), NULL, NULL, SIPTAG_FROM_STR("<sip:kedge@example.org>"),
                           SIPTAG_TO_STR("<sip:a@example.org>"), TAG_END());
    assert_non_null(*leg);
    nta_leg_tag(*leg, NULL);
    return nta_outgoing_tcreate(*leg, on_answer, (nta_outgoing_magic_t *)w,
                                (const url_string_t *)kg_flow_route_url(flow, url), SIP_METHOD_OPTIONS,
                                (const url_string_t *)uri, NTATAG_TPORT(flow->tport), TAG_END());
}

static void copy_header(const char *from, const char *name, char *to, size_t size)
{
    const char *line = strstr(from, name);
    assert_non_null(line);
    size_t used = strlen(to);
    snprintf(to + used, size - used, "%.*s\r\n", (int)strcspn(line, "\r"), line);
}

/* 200 OK to a request that kedge sent. */
static void answer_ok(int fd, const char *asked)
{
    char text[2000] = "SIP/2.0 200 OK\r\n";
    static const char *const names[] = {"Via:", "From:", "To:", "Call-ID:", "CSeq:"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        copy_header(asked, names[i], text, sizeof text);
    strncat(text, "Content-Length: 0\r\n\r\n", sizeof text - strlen(text) - 1);
    send_text(fd, text);
}

static bool got_answer(struct world *w)
{
    for (int64_t end = kg_mono_ms() + PATIENCE_MS; !w->answer_status && kg_mono_ms() < end;)
        su_root_step(w->root, 2);
    return w->answer_status != 0;
}

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
    assert_true(kg_mono_ms() - start < 1000);
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
}

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

/* ---- a PBX by TCP and TLS ---- */

static int pbx_socket = -1;

static void with_pbx(struct kg_config *config)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pbx_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(pbx_socket, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(pbx_socket, 5), 0);
    config->pbx_count = 2;
    config->pbx[0].transport = KG_TCP;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", own_port(pbx_socket), &config->pbx[0].addr), 0);
    config->pbx[1].transport = KG_TLS; /* ourselves: a TLS server that is at hand */
    assert_int_equal(kg_addr_parse_host("127.0.0.1", (uint16_t)(first_port() + 1), &config->pbx[1].addr), 0);
}

static void pbx_by_stream(void **state)
{
    struct world *w = world_new(with_pbx);
    struct kg_flow flow;
    nta_leg_t *leg;
    (void)state;
    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TCP, &w->config.pbx[0].addr, &flow), 0);
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

    assert_int_equal(kg_flow_to(kg_sip_agent(w->sip), KG_TLS, &w->config.pbx[1].addr, &flow), 0);
    orq = ask(w, &leg, &flow, "sip:pbx.example.org");
    assert_true(got_answer(w));
    assert_int_equal(w->answer_status, 482); /* a loop: it came and its answer went through TLS both ways */
    nta_outgoing_destroy(orq);
    nta_leg_destroy(leg);
    kg_flow_clear(&flow);
    world_free(w);
}

/* ---- limits and deadlines ---- */

static void with_short_deadlines(struct kg_config *config)
{
    config->limits.stream_message_ms = 200;
    config->limits.handshake_ms = 250;
    config->limits.stream_idle_ms = 600;
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
    assert_true(took >= 190 && took < 2000);
    assert_true(is_closed(w, silent_tls));
    send_text(neighbour, request("OPTIONS", "TCP", "sip:example.org", "")); /* is unaffected */
    assert_has(answers(w, neighbour, 1), "200 OK");
    assert_true(is_closed(w, idle));
    assert_true(kg_mono_ms() - start >= 590);
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
    assert_true(is_closed(w, fds[5]));       /* streams */
    assert_true(kg_mono_ms() - start < 500); /* at once, not at some deadline */
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
    assert_true(kg_mono_ms() - start < 1000);
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
        {"application/sdp", sdp, "486"}, {"multipart/mixed;boundary=x", mime, "415"}, {"x", mime, "4"}};
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
        const char *back = answer(w, fd);
        while (strstr(back, "100 Trying") || (i && strstr(back, "486")))
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
        cmocka_unit_test_setup_teardown(shim_is_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(udp_register, setup, teardown),
        cmocka_unit_test_setup_teardown(udp_right_source, setup, teardown),
        cmocka_unit_test_setup_teardown(dispatch, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(no_reflection, setup, teardown),
        cmocka_unit_test_setup_teardown(is_us, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_pipelined, setup, teardown),
        cmocka_unit_test_setup_teardown(gone_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(forked_by_pbx, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_send_and_close, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_register, setup, teardown),
        cmocka_unit_test_setup_teardown(request_down_the_flow, setup, teardown),
        cmocka_unit_test_setup_teardown(loop_and_spiral, setup, teardown),
        cmocka_unit_test(pbx_by_stream),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(too_many),
        cmocka_unit_test_setup_teardown(no_descriptors, setup, teardown),
        cmocka_unit_test(advertise),
        cmocka_unit_test_setup_teardown(hostile_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(no_name_lookup, setup, teardown),
        cmocka_unit_test_setup_teardown(large_and_nested, setup, teardown),
        cmocka_unit_test_setup_teardown(bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(port_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(reload, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
