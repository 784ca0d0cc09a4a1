/* The whole SIP stack on loopback, spoken to by plain sockets. One thread plays phone and signalling, the
 * edge has its own. Nothing sleeps: every wait is for an event and has an end. Included by the test_sip_*.c
 * programs alone. */
#ifndef KG_TESTS_SIP_WORLD_H
#define KG_TESTS_SIP_WORLD_H

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

#define PATIENCE_MS 15000 /* for what must happen */
#define AT_ONCE_MS  4000  /* a resolver that nobody answers takes 5 s, a connection longer */
#define QUIET_MS    150   /* for what must not */

struct world {
    su_root_t *root;
    struct kg_sip *sip;
    struct kg_config config;
    char dir[64];
    unsigned registers, invites, lost;
    struct kg_flow flow; /* of the last REGISTER */
    tport_t *lost_tport;
    bool connects, verify; /* streams may be opened; TLS: to whom alone */
    const char *server_name;
    int answer_status; /* of our own request; 0: none yet */
    bool takes_over;   /* dialogs of another process */
};

/* ---- the world ---- */

static inline void on_register(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
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

static inline void on_invite(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;
    (void)sip;
    (void)flow;
    w->invites++;
    nta_incoming_treply(irq, SIP_486_BUSY_HERE, TAG_END());
    nta_incoming_destroy(irq);
}

static inline void on_request(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    (void)ctx;
    (void)sip;
    (void)flow;
    nta_incoming_treply(irq, SIP_202_ACCEPTED, TAG_END());
    nta_incoming_destroy(irq);
}

static inline void on_lost(void *ctx, tport_t *tport)
{
    struct world *w = ctx;
    w->lost++;
    w->lost_tport = tport;
}

static inline bool on_connect(void *ctx, enum kg_transport transport, const struct kg_addr *remote,
                              const char **name, bool *verify)
{
    struct world *w = ctx;
    (void)transport;
    (void)remote;
    *name = w->server_name ? w->server_name : "";
    *verify = w->verify;
    return w->connects;
}

static inline bool knows_dialogs(void *ctx)
{
    const struct world *w = ctx;
    return !w->takes_over;
}

static inline uint16_t first_port(void)
{
    return (uint16_t)(20000 + getpid() % 3000 * 4);
}

static inline void listen_at(struct kg_config *config, enum kg_transport transport, const char *host,
                             uint16_t port)
{
    struct kg_endpoint *at = &config->sip.listen[config->sip.listen_count++];
    at->transport = transport;
    assert_int_equal(kg_addr_parse_host(host, port, &at->addr), 0);
}

static inline struct world *world_new(void (*adjust)(struct kg_config *))
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
    const struct kg_sip_handlers handlers = {.on_register = on_register,
                                             .on_invite = on_invite,
                                             .on_request = on_request,
                                             .knows_dialogs = knows_dialogs,
                                             .on_flow_lost = on_lost,
                                             .on_connect = on_connect,
                                             .ctx = w};
    w->root = su_root_create(NULL);
    w->sip = kg_sip_new(w->root, &w->config, &handlers, error, sizeof error);
    if (!w->sip)
        fail_msg("%s", error);
    return w;
}

static inline void world_free(struct world *w)
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

static inline int setup(void **state)
{
    *state = world_new(NULL);
    return 0;
}

static inline int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* Runs signalling until fd is readable; false after `ms`. fd -1: until *counter changes from `was`. */
static inline bool run_until(struct world *w, int fd, const unsigned *counter, unsigned was, int64_t ms)
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

static inline int phone(int type, const char *host, uint16_t port)
{
    struct kg_addr to;
    int fd;
    assert_int_equal(kg_addr_parse_host(host, port, &to), 0);
    fd = socket(kg_addr_family(&to), type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &to.sa, kg_addr_len(&to)), 0);
    return fd;
}

static inline uint16_t own_port(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    struct kg_addr addr = kg_addr_from_sockaddr((struct sockaddr *)&at);
    return kg_addr_port(&addr);
}

static inline void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static unsigned serial;

/* Copies text with every # replaced by the number. */
static inline void fill_in(const char *text, unsigned number, char *out, size_t size)
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
static inline const char *request(const char *method, const char *transport, const char *uri,
                                  const char *extra)
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
static inline const char *answer(struct world *w, int fd)
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
static inline const char *answers(struct world *w, int fd, unsigned count)
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

static inline bool is_closed(struct world *w, int fd)
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

static inline void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in:\n%s", part, text);
}

/* Good requests are served over UDP and TCP. */
static inline void assert_alive(struct world *w)
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

/* ---- requests of ours ---- */

static inline int on_answer(nta_outgoing_magic_t *magic, nta_outgoing_t *orq, const sip_t *sip)
{
    struct world *w = (struct world *)magic;
    if (nta_outgoing_status(orq) >= 200 && sip)
        w->answer_status = nta_outgoing_status(orq);
    return 0;
}

static inline nta_outgoing_t *ask(struct world *w, nta_leg_t **leg, const struct kg_flow *flow,
                                  const char *uri)
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

static inline void copy_header(const char *from, const char *name, char *to, size_t size)
{
    const char *line = strstr(from, name);
    assert_non_null(line);
    size_t used = strlen(to);
    snprintf(to + used, size - used, "%.*s\r\n", (int)strcspn(line, "\r"), line);
}

/* 200 OK to a request that kedge sent. */
static inline void answer_ok(int fd, const char *asked)
{
    char text[2000] = "SIP/2.0 200 OK\r\n";
    static const char *const names[] = {"Via:", "From:", "To:", "Call-ID:", "CSeq:"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        copy_header(asked, names[i], text, sizeof text);
    strncat(text, "Content-Length: 0\r\n\r\n", sizeof text - strlen(text) - 1);
    send_text(fd, text);
}

static inline bool got_answer(struct world *w)
{
    for (int64_t end = kg_mono_ms() + PATIENCE_MS; !w->answer_status && kg_mono_ms() < end;)
        su_root_step(w->root, 2);
    return w->answer_status != 0;
}

#endif
