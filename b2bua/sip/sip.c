#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/su_log.h>
#include <sofia-sip/tport_tag.h>

#include "b2bua/server.h"
#include "b2bua/sip/capture.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/shim.h"
#include "b2bua/sip/stack.h"
#include "b2bua/sip/streams.h"

/* Counters kept by nta and by the edge thread are copied into kg_counters this often. */
#define TICK_MS 1000
/* nta allocates this much at once for each message: one allocation instead of one a header. */
#define PRELOAD_BYTES 2048

/* nta_agent_create's word for "bind nothing now". */
#define NO_SOCKET_YET ((const url_string_t *)-1)

extern su_log_t nta_log[], tport_log[];

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic;
    struct kg_sip *sip = (struct kg_sip *)arg;
    usize_t malformed = 0;
    nta_agent_get_stats(sip->agent, NTATAG_S_BAD_REQUEST_REF(malformed), TAG_END());
    kg_counters.requests_refused = sip->refused_by_us + malformed;
    kg_screen_count();
    if (sip->streams)
        kg_streams_count(sip->streams);
    su_timer_set_interval(timer, on_tick, arg, TICK_MS);
}

static int make_agent(struct kg_sip *sip)
{
    su_log_set_level(nta_log, 0);
    su_log_set_level(tport_log, 0);
    su_log_set_level(su_log_default, 0);
    sip->agent = nta_agent_create(
        sip->root, NO_SOCKET_YET, kg_sip_dispatch, (nta_agent_magic_t *)sip, NTATAG_UA(1),
        NTATAG_STATELESS(1),    /* what belongs to no dialog goes to kg_sip_dispatch without a transaction */
        NTATAG_SERVER_RPORT(2), /* answer to the source port even when the phone forgot rport (RFC 3581) */
        NTATAG_CLIENT_RPORT(1), NTATAG_USE_NAPTR(0), NTATAG_USE_SRV(0), NTATAG_PRELOAD(PRELOAD_BYTES),
        NTATAG_MAXSIZE(KG_SIP_READ_MAX),
        NTATAG_UDP_MTU(KG_SIP_MESSAGE_MAX), /* never change from UDP to TCP behind the phone's back */
        TAG_END());
    if (!sip->agent)
        return ENOMEM;
    sip->allow = sip_allow_make(sip->home, KG_SIP_ALLOW);
    sip->accept = sip_accept_make(sip->home, "application/sdp");
    return sip->allow && sip->accept ? 0 : ENOMEM;
}

/* Everything that Sofia does for us rests on the shim: without it a single packet could stop or kill the
 * process. */
static int check_shim(struct kg_sip *sip, char *error, size_t size)
{
    msg_t *msg = nta_msg_create(sip->agent, 0);
    msg_destroy(msg);
    su_now();
    if (kg_shim_is_bound())
        return 0;
    snprintf(
        error, size,
        "libsofia-sip-ua does not use kedge's replacements of its unsafe functions: this kedge was linked "
        "without -rdynamic or against another build of the library; build it with its own Makefile.");
    return ENOSYS;
}

struct kg_sip *kg_sip_new(su_root_t *root, const struct kg_config *config,
                          const struct kg_sip_handlers *handlers, char *error, size_t size)
{
    error[0] = '\0';
    if (kg_shim_install() != 0) {
        snprintf(error, size,
                 "libsofia-sip-ua lacks msg_create or su_getaddrinfo: this is not the library that "
                 "kedge is made for; install Debian 12's libsofia-sip-ua0.");
        return NULL;
    }
    struct kg_sip *sip = calloc(1, sizeof *sip);
    if (!sip) {
        snprintf(error, size, "Out of memory while starting the SIP stack.");
        return NULL;
    }
    sip->root = root;
    sip->config = *config;
    sip->handlers = *handlers;
    su_home_init(sip->home);
    int failed = make_agent(sip);
    if (failed)
        snprintf(error, size, "Sofia's SIP agent could not be created: out of memory.");
    failed = failed ? failed : kg_sip_listen(sip, error, size);
    failed = failed ? failed : check_shim(sip, error, size);
    if (!failed) {
        sip->tick = su_timer_create(su_root_task(root), TICK_MS);
        failed =
            sip->tick ? su_timer_set_interval(sip->tick, on_tick, (su_timer_arg_t *)sip, TICK_MS) : ENOMEM;
    }
    if (!failed && sip->streams)
        failed = kg_streams_start(sip->streams);
    if (!failed) {
        kg_screen_start(sip);
        kg_sip_admit_for(sip->agent);
    }
    if (failed) {
        if (error[0] == '\0')
            snprintf(error, size, "The SIP stack could not be started: %s.", strerror(failed));
        kg_sip_free(sip);
        return NULL;
    }
    kg_capture_configure(sip->agent, config);
    return sip;
}

void kg_sip_free(struct kg_sip *sip)
{
    if (!sip)
        return;
    if (sip->tick)
        su_timer_destroy(sip->tick);
    kg_sip_admit_for(NULL);
    kg_screen_stop();
    kg_streams_stop(sip->streams); /* the edge thread ends before the transports that it feeds */
    if (sip->agent)
        nta_agent_destroy(sip->agent);
    kg_streams_free(sip->streams);
    su_home_deinit(sip->home);
    free(sip);
}

struct kg_sip_gauges kg_sip_gauges(const struct kg_sip *sip)
{
    usize_t dialogs = 0, in = 0, out = 0;
    nta_agent_get_stats(sip->agent, NTATAG_S_LEG_HASH_USED_REF(dialogs), NTATAG_S_IRQ_HASH_USED_REF(in),
                        NTATAG_S_ORQ_HASH_USED_REF(out), TAG_END());
    return (struct kg_sip_gauges){.dialogs = dialogs, .transactions_in = in, .transactions_out = out};
}

nta_agent_t *kg_sip_agent(struct kg_sip *sip)
{
    return sip->agent;
}

struct event_base *kg_sip_edge_base(struct kg_sip *sip)
{
    return sip->streams ? kg_streams_base(sip->streams) : NULL;
}

int kg_sip_reload(struct kg_sip *sip, const struct kg_config *config, char *error, size_t size)
{
    error[0] = '\0';
    int failed = sip->streams ? kg_streams_reload(sip->streams, config, error, size) : 0;
    if (failed)
        return EINVAL;
    sip->config = *config;
    kg_capture_configure(sip->agent, config);
    kg_screen_configure(config);
    return 0;
}

static bool is_our_port(const struct kg_sip *sip, const char *port)
{
    if (!port || !*port)
        return true;
    for (size_t i = 0; i < sip->local_count; i++) {
        char ours[8];
        snprintf(ours, sizeof ours, "%u", (unsigned)kg_addr_port(&sip->locals[i].addr));
        if (strcmp(ours, port) == 0)
            return true;
    }
    return false;
}

bool kg_sip_is_us(const struct kg_sip *sip, const url_t *url)
{
    if (!url->url_host)
        return false;
    if (sip->config.sip.domain[0] && strcasecmp(url->url_host, sip->config.sip.domain) == 0)
        return true;
    struct kg_addr host;
    if (kg_addr_parse_host(url->url_host, 0, &host) != 0 || !is_our_port(sip, url->url_port))
        return false;
    if (kg_addr_is_set(&sip->config.sip.advertise) && kg_addr_same_host(&host, &sip->config.sip.advertise))
        return true;
    for (size_t i = 0; i < sip->local_count; i++)
        if (kg_addr_same_host(&host, &sip->locals[i].addr))
            return true;
    return false;
}

void kg_sip_mean_server(const struct kg_sip *sip, url_t *url, const struct kg_addr *server,
                        struct kg_sip_host *text)
{
    char host[KG_ADDR_STR];
    struct kg_addr numeric;
    if (!url->url_host || kg_addr_parse_host(url->url_host, 0, &numeric) != 0 || !kg_sip_is_us(sip, url))
        return;
    kg_addr_format_host(server, host);
    snprintf(text->host, sizeof text->host, strchr(host, ':') ? "[%s]" : "%s", host);
    snprintf(text->port, sizeof text->port, "%u", (unsigned)kg_addr_port(server));
    url->url_host = text->host;
    url->url_port = url->url_user ? NULL : text->port;
    url->url_params = NULL;
}
