/* The registrar with its store and a real SIP stack on loopback, and phones that are plain UDP sockets. One
 * thread plays everybody; nothing sleeps: every wait is for a packet and has an end. Included by
 * embedded_world.h and front_world.h. */
#ifndef KG_TEST_REGISTRAR_WORLD_H
#define KG_TEST_REGISTRAR_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sofia-sip/sip_status.h>
#include <sofia-sip/su.h>

#include "b2bua/registrar/digest.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/peers.h"
#include "b2bua/sip/sip.h"
#include "b2bua/store/store.h"
#include "conf/clock.h"
#include "conf/log.h"

#define PATIENCE_MS 15000 /* for what must happen */
#define QUIET_MS    120   /* for what must not */
#define STEP_MAX_MS 50    /* of a longer step the rest is time in which this machine stood still */

struct world {
    struct kg_server server;
    struct kg_digest *hash; /* the phones' */
    char dir[64];
    uint16_t port;
    int64_t ran_ms; /* run_until_readable()'s time */
};

static bool on_answer(void *ctx, msg_t *msg, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;

    return kg_registrar_answer(w->server.registrar, msg, sip, flow);
}

static void on_register(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;

    kg_registrar_register(w->server.registrar, irq, sip, flow);
}

/* Calls: who it is, and 486. */
static void on_invite(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct world *w = ctx;
    char user[128];

    if (kg_registrar_authorize(w->server.registrar, irq, sip, flow, user, sizeof user) != KG_AUTH_OK)
        return;
    nta_incoming_treply(irq, SIP_486_BUSY_HERE, TAG_END());
    nta_incoming_destroy(irq);
}

static void on_lost(void *ctx, tport_t *tport)
{
    struct world *w = ctx;

    kg_registrar_flow_lost(w->server.registrar, tport);
}

static void world_start(struct world *w)
{
    const struct kg_sip_handlers handlers = {.answer = on_answer,
                                             .on_register = on_register,
                                             .on_invite = on_invite,
                                             .on_flow_lost = on_lost,
                                             .ctx = w};
    char error[400] = "";

    w->server.root = su_root_create(NULL);
    w->server.store = kg_store_open(w->server.config.store, error, sizeof error);
    if (w->server.store)
        w->server.sip = kg_sip_new(w->server.root, &w->server.config, &handlers, error, sizeof error);
    if (w->server.sip)
        w->server.peers = kg_peers_new(&w->server);
    if (w->server.peers)
        w->server.registrar = kg_registrar_new(&w->server);
    if (!w->server.registrar)
        fail_msg("%s", error);
}

static void world_stop(struct world *w)
{
    kg_registrar_free(w->server.registrar);
    kg_peers_free(w->server.peers);
    kg_sip_free(w->server.sip);
    kg_store_close(w->server.store);
    su_root_destroy(w->server.root);
    w->server.registrar = NULL;
    w->server.peers = NULL;
    w->server.sip = NULL;
    w->server.store = NULL;
    w->server.root = NULL;
}

static struct world *world_new(void (*adjust)(struct kg_config *))
{
    static const uint8_t secret[32];
    struct world *w = calloc(1, sizeof *w);
    struct kg_config *config = &w->server.config;

    w->port = (uint16_t)(12000 + getpid() % 5000 * 4);
    snprintf(w->dir, sizeof w->dir, "/tmp/kedge-test-registrar-%d", (int)getpid());
    mkdir(w->dir, 0700);
    kg_config_defaults(config);
    snprintf(config->store, sizeof config->store, "%s/kedge.db", w->dir);
    snprintf(config->sip.domain, sizeof config->sip.domain, "example.org");
    config->registration.digest = KG_DIGEST_OFFER_BOTH;
    config->sip.listen_count = 1;
    config->sip.listen[0].transport = KG_UDP;
    assert_int_equal(kg_addr_parse_host("127.0.0.1", w->port, &config->sip.listen[0].addr), 0);
    if (adjust)
        adjust(config);
    w->hash = kg_digest_new(secret, 0);
    memset(&kg_counters, 0, sizeof kg_counters);
    world_start(w);
    return w;
}

static void world_free(struct world *w)
{
    char command[128];

    world_stop(w);
    kg_digest_free(w->hash);
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    if (system(command))
        fail_msg("cannot remove %s", w->dir);
    free(w);
}

/* --- phones -----------------------------------------------------------------------------------------------
 */

struct phone {
    struct world *w;
    int fd;
    uint16_t port;
    const char *user, *password;
    enum kg_digest_algorithm algorithm;
    char realm[64], nonce[129], call_id[64], contact[128];
    const char *via; /* host it believes in */
    unsigned cseq, nc;
    char in[8192];
};

static struct phone phone_new(struct world *w, const char *user, const char *password)
{
    struct phone p = {
        .w = w, .user = user, .password = password, .algorithm = KG_DIGEST_SHA256, .via = "127.0.0.1"};
    struct kg_addr here, server;
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    static unsigned number;

    assert_int_equal(kg_addr_parse("127.0.0.1:0", &here), 0);
    assert_int_equal(kg_addr_parse_host("127.0.0.1", w->port, &server), 0);
    p.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p.fd, &here.sa, kg_addr_len(&here)), 0);
    assert_int_equal(connect(p.fd, &server.sa, kg_addr_len(&server)), 0);
    assert_int_equal(getsockname(p.fd, (struct sockaddr *)&at, &len), 0);
    here = kg_addr_from_sockaddr((struct sockaddr *)&at);
    p.port = kg_addr_port(&here);
    snprintf(p.call_id, sizeof p.call_id, "call-%u@phone", ++number);
    snprintf(p.contact, sizeof p.contact, "<sip:%s@127.0.0.1:%u>", user, p.port);
    return p;
}

static bool run_until_readable(struct world *w, int fd, int64_t ms)
{
    int64_t now = kg_mono_ms(), end = now + ms;

    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        su_root_step(w->server.root, 2);
        int64_t took = kg_mono_ms() - now;
        w->ran_ms += took < STEP_MAX_MS ? took : STEP_MAX_MS;
        now += took;
        if (poll(&p, 1, 0) > 0)
            return true;
    } while (kg_mono_ms() < end);
    return false;
}

/* The next packet, "" when none comes in time. */
static const char *phone_receive(struct phone *p, int64_t ms)
{
    ssize_t n = 0;

    if (run_until_readable(p->w, p->fd, ms))
        n = recv(p->fd, p->in, sizeof p->in - 1, MSG_DONTWAIT);
    p->in[n > 0 ? n : 0] = '\0';
    return p->in;
}

static void phone_send(struct phone *p, const char *text)
{
    assert_int_equal(send(p->fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static int status_of(const char *answer)
{
    return strncmp(answer, "SIP/2.0 ", 8) == 0 ? (int)strtol(answer + 8, NULL, 10) : 0;
}

/* A request; extra headers each end in CRLF. The Contact is left out with expires < 0. */
static const char *phone_request(struct phone *p, const char *method, const char *to, int expires,
                                 const char *extra)
{
    static char text[4096];
    static unsigned branch;
    char contact[200] = "";

    if (expires >= 0)
        snprintf(contact, sizeof contact, "Contact: %s\r\nExpires: %d\r\n", p->contact, expires);
    snprintf(text, sizeof text,
             "%s sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP "
             "%s:%u;branch=z9hG4bK%d.%u;rport\r\nMax-Forwards: 70\r\n"
             "From: <sip:%s@example.org>;tag=t\r\nTo: <sip:%s@example.org>\r\nCall-ID: %s\r\nCSeq: %u %s\r\n"
             "%s%sContent-Length: 0\r\n\r\n",
             method, p->via, p->port, (int)getpid(), ++branch, p->user, to, p->call_id, ++p->cseq, method,
             contact, extra);
    return text;
}

/* Takes realm and nonce from a challenge by the phone's algorithm. True: stale. */
static bool phone_learn(struct phone *p, const char *answer)
{
    char mark[32];
    const char *line = answer, *nonce, *realm;

    snprintf(mark, sizeof mark, "algorithm=%s,", p->algorithm == KG_DIGEST_MD5 ? "MD5" : "SHA-256");
    while ((line = strstr(line, "-Authenticate: "))) {
        const char *end = strchr(line, '\r'), *found = strstr(line, mark);

        if (found && found < end) {
            nonce = strstr(line, "nonce=\"") + 7;
            realm = strstr(line, "realm=\"") + 7;
            snprintf(p->nonce, sizeof p->nonce, "%.*s", (int)strcspn(nonce, "\""), nonce);
            snprintf(p->realm, sizeof p->realm, "%.*s", (int)strcspn(realm, "\""), realm);
            p->nc = 0;
            found = strstr(line, "stale=true");
            return found && found < end;
        }
        line = end;
    }
    fail_msg("no challenge by %s in %s", mark, answer);
    return false;
}

/* RFC 7616 3.4.1, computed by H(a:b:c) alone, which is what kg_digest_ha1 is. */
static const char *phone_authorization(struct phone *p, const char *header, const char *method)
{
    static char text[1024];
    struct kg_ha1 ha1, ha2, response;
    char rest[256];

    p->nc++;
    kg_digest_ha1(p->w->hash, p->user, p->realm, p->password, &ha1);
    kg_digest_ha1(p->w->hash, method, "sip", "example.org", &ha2);
    snprintf(rest, sizeof rest, "%08x:cn:auth:%s", p->nc, ha2.hex[p->algorithm]);
    kg_digest_ha1(p->w->hash, ha1.hex[p->algorithm], p->nonce, rest, &response);
    snprintf(
        text, sizeof text,
        "%s: Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"sip:example.org\", response=\"%s\", "
        "algorithm=%s, cnonce=\"cn\", qop=auth, nc=%08x\r\n",
        header, p->user, p->realm, p->nonce, response.hex[p->algorithm],
        p->algorithm == KG_DIGEST_MD5 ? "MD5" : "SHA-256", p->nc);
    return text;
}

/* --- kg_registrar_watch --- */

struct told {
    int times, new;
    char user[128];
    struct kg_addr before, after;
};

static inline void on_moved(void *ctx, const char *user, const struct kg_flow *before,
                            const struct kg_flow *after)
{
    struct told *told = ctx;

    if (!kg_addr_is_set(&before->remote)) {
        told->new ++;
        return;
    }
    told->times++;
    snprintf(told->user, sizeof told->user, "%s", user);
    told->before = before->remote;
    told->after = after->remote;
}

#endif
