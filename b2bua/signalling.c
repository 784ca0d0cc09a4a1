/* The signalling process: makes its parts, ties their descriptors and timers to one su_root, and ends them in
 * order. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <sofia-sip/su.h>
#include <sofia-sip/su_wait.h>

#include "b2bua/call/calls.h"
#include "b2bua/cdr/cdr.h"
#include "b2bua/control/control.h"
#include "b2bua/guard/guard.h"
#include "b2bua/link.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/request/request.h"
#include "b2bua/roles.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/peers.h"
#include "b2bua/route/trunks.h"
#include "b2bua/server.h"
#include "b2bua/sip/sip.h"
#include "b2bua/store/store.h"
#include "conf/clock.h"
#include "conf/log.h"
#include "media/client.h"

#define HEARTBEAT_MS 1000
/* At SIGTERM: how long phones have to answer their BYE. */
#define GOODBYE_MS     2000
#define ENDING_TICK_MS 50
/* The media client's own deadlines are served at least this often. */
#define MEDIA_TICK_MS 200

enum role_state { ROLE_SERVING, ROLE_ENDING };

struct role {
    struct kg_server server;
    struct kg_control *control;
    int link_fd, config_fd, signal_fd;
    enum role_state state;
    int64_t end_by_ms;
    su_timer_t *heartbeat, *media_timer;
    su_wait_t media_wait;
    int media_index, media_fd; /* su_root's index of the media socket; 0 and -1: not registered */
    bool media_writes;
    bool recovered; /* the engine has told of all its calls once: those of a process that died are taken over
                     */
    void (*reload_done)(void *, const char *);
    void *reload_ctx;
};

/* ---- media control connection ---- */

static int on_media_ready(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg);
static void on_media_timer(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg);

/* The socket changes with each reconnect; between two there is a moment with none, so its number tells them
 * apart. */
static void media_watch(struct role *role)
{
    int fd = kg_media_client_fd(role->server.media);
    bool writes = kg_media_client_wants_write(role->server.media);
    if (fd == role->media_fd && writes == role->media_writes)
        return;
    if (role->media_index > 0)
        su_root_deregister(role->server.root, role->media_index);
    role->media_index = 0;
    role->media_fd = fd;
    role->media_writes = writes;
    if (fd < 0)
        return;
    su_wait_create(&role->media_wait, fd, SU_WAIT_IN | (writes ? SU_WAIT_OUT : 0));
    role->media_index =
        su_root_register(role->server.root, &role->media_wait, on_media_ready, (su_wakeup_arg_t *)role, 0);
}

static void media_run(struct role *role)
{
    int64_t next = kg_media_client_run(role->server.media, kg_mono_ms());
    media_watch(role);
    next = next < 1 ? 1 : next > MEDIA_TICK_MS ? MEDIA_TICK_MS : next;
    su_timer_set_interval(role->media_timer, on_media_timer, (su_timer_arg_t *)role, (su_duration_t)next);
}

static int on_media_ready(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    (void)magic;
    (void)wait;
    media_run((struct role *)arg);
    return 0;
}

static void on_media_timer(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic;
    (void)timer;
    media_run((struct role *)arg);
}

static void on_media_event(void *ctx, const struct kg_media_event *event)
{
    struct role *role = ctx;
    role->recovered |= event->type == KG_MEDIA_UP;
    kg_calls_media_event(role->server.calls, event);
}

/* ---- requests from the SIP stack ---- */

static bool on_answer(void *ctx, msg_t *msg, const sip_t *sip, const struct kg_flow *flow)
{
    struct role *role = ctx;
    int method = sip->sip_request->rq_method;
    if ((method == sip_method_invite || method == sip_method_message) &&
        kg_trunks_of(role->server.trunks, flow, sip->sip_request->rq_url))
        return false; /* a provider is known by other things than a password */
    return kg_registrar_answer(role->server.registrar, msg, sip, flow);
}

static void on_register(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct role *role = ctx;
    kg_registrar_register(role->server.registrar, irq, sip, flow);
}

static void on_invite(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct role *role = ctx;
    kg_calls_invite(role->server.calls, irq, sip, flow);
}

static void on_request(void *ctx, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    struct role *role = ctx;
    kg_requests_serve(role->server.requests, irq, sip, flow);
}

static bool pass_options(void *ctx, const sip_t *sip, const struct kg_flow *flow)
{
    struct role *role = ctx;
    return kg_requests_pass_options(role->server.requests, sip, flow);
}

static bool knows_dialogs(void *ctx)
{
    const struct role *role = ctx;
    return role->recovered;
}

static void on_moved(void *ctx, const char *user, const struct kg_flow *before, const struct kg_flow *after)
{
    struct role *role = ctx;
    if (kg_addr_is_set(&before->remote))
        kg_calls_moved(role->server.calls, user, before, after);
    kg_requests_moved(role->server.requests, user, before, after);
}

static void on_flow_lost(void *ctx, tport_t *tport)
{
    struct role *role = ctx;
    kg_calls_flow_lost(role->server.calls, tport);
    kg_registrar_flow_lost(role->server.registrar, tport);
    kg_trunks_flow_lost(role->server.trunks, tport);
}

static bool on_connect(void *ctx, enum kg_transport transport, const struct kg_addr *remote,
                       const char **name, bool *verify)
{
    struct role *role = ctx;
    return kg_peers_may_connect(role->server.peers, transport, remote, name, verify);
}

/* ---- supervisor ---- */

#define SUPERVISOR_GONE                                                                                      \
    "{\"ok\":false,\"errors\":[{\"line\":0,\"text\":\"the supervisor is gone: start kedge again, it takes "  \
    "the "                                                                                                   \
    "calls over and reads the new configuration\"}]}"

static void answer_reload(struct role *role, const char *text)
{
    void (*done)(void *, const char *) = role->reload_done;
    role->reload_done = NULL;
    if (done)
        done(role->reload_ctx, text);
}

static void on_reload_request(void *ctx, void (*done)(void *, const char *), void *done_ctx)
{
    struct role *role = ctx;
    if (role->reload_done) {
        done(done_ctx, "{\"ok\":false,\"errors\":[{\"line\":0,\"text\":\"another reload is under way\"}]}");
        return;
    }
    if (kg_link_send(role->link_fd, KG_LINK_RELOAD, NULL)) {
        done(done_ctx, SUPERVISOR_GONE);
        return;
    }
    role->reload_done = done;
    role->reload_ctx = done_ctx;
}

static void take_new_config(struct role *role)
{
    static struct kg_config config;
    char why[512];
    int error = kg_link_read_config(role->config_fd, &config);
    if (error) {
        kg_error("signalling", "cannot read the new configuration: %s", strerror(error));
        return;
    }
    role->server.config = config;
    kg_log_set_level(kg_log_level_of(config.log_level));
    if (kg_sip_reload(role->server.sip, &role->server.config, why, sizeof why))
        kg_error("signalling", "%s", why);
    kg_peers_reload(role->server.peers);
    kg_media_configure(role->server.media, &role->server.config);
    kg_cdr_configure(role->server.cdr, &role->server.config);
    kg_trunks_reload(role->server.trunks);
}

static int on_link(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    (void)magic;
    static char text[KG_LINK_TEXT_MAX];
    struct role *role = (struct role *)arg;
    int kind = kg_link_receive(role->link_fd, text);
    if (kind == KG_LINK_CONFIG) {
        take_new_config(role);
    } else if (kind == KG_LINK_RELOAD_ANSWER) {
        answer_reload(role, text);
    } else if (kind < 0) {
        kg_warn("signalling",
                "the supervisor is gone; serving on without a watchdog, start kedge again to take over");
        su_root_unregister(role->server.root, wait, on_link, arg);
        answer_reload(role, SUPERVISOR_GONE);
    }
    return 0;
}

/* At SIGTERM: everybody has heard that kedge goes. */
static bool is_done(const struct role *role)
{
    return kg_calls_are_done(role->server.calls) && kg_trunks_are_gone(role->server.trunks);
}

static void on_heartbeat(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic;
    struct role *role = (struct role *)arg;
    bool ending = role->state == ROLE_ENDING;
    su_timer_set_interval(timer, on_heartbeat, arg, ending ? ENDING_TICK_MS : HEARTBEAT_MS);
    kg_link_send(role->link_fd, KG_LINK_HEARTBEAT, NULL);
    if (role->state == ROLE_ENDING && (is_done(role) || kg_mono_ms() >= role->end_by_ms))
        su_root_break(role->server.root);
}

/* SIGTERM: calls end with BYE. SIGUSR1: a new supervisor takes over, the calls stay in the engine. */
static int on_signal(su_root_magic_t *magic, su_wait_t *wait, su_wakeup_arg_t *arg)
{
    (void)magic;
    (void)wait;
    struct role *role = (struct role *)arg;
    struct signalfd_siginfo info;
    if (read(role->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    if (info.ssi_signo == SIGUSR1) {
        su_root_break(role->server.root);
    } else if (role->state == ROLE_SERVING) {
        role->state = ROLE_ENDING;
        role->end_by_ms = kg_mono_ms() + GOODBYE_MS;
        kg_calls_shutdown(role->server.calls);
        kg_trunks_leave(role->server.trunks);
        if (is_done(role))
            su_root_break(role->server.root);
        else
            su_timer_set_interval(role->heartbeat, on_heartbeat, (su_timer_arg_t *)role, ENDING_TICK_MS);
    }
    return 0;
}

/* ---- making and ending ---- */

static int watch(struct role *role, int fd, su_wakeup_f callback)
{
    su_wait_t wait;
    if (su_wait_create(&wait, fd, SU_WAIT_IN) ||
        su_root_register(role->server.root, &wait, callback, (su_wakeup_arg_t *)role, 0) < 0)
        return errno ? errno : ENOMEM;
    return 0;
}

static int watch_signals(struct role *role)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the whole group; the supervisor ends us in order */
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before the edge's thread exists: it inherits the mask */
    role->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return role->signal_fd < 0 ? errno : watch(role, role->signal_fd, on_signal);
}

static void free_parts(struct role *role)
{
    struct kg_server *server = &role->server;
    kg_control_free(role->control);
    kg_requests_free(server->requests);
    kg_calls_free(server->calls);
    kg_registrar_free(server->registrar);
    kg_trunks_free(server->trunks);
    kg_peers_free(server->peers);
    kg_sip_free(server->sip);
    kg_guard_free(server->guard);
    kg_store_close(server->store);
    kg_caps_free(server->caps);
    kg_media_client_free(server->media);
    kg_cdr_free(server->cdr); /* last: the calls that end with us have records too */
    su_timer_destroy(role->heartbeat);
    su_timer_destroy(role->media_timer);
    if (server->root)
        su_root_destroy(server->root);
}

/* Returns 0, or an errno after saying why. */
static int make_parts(struct role *role)
{
    struct kg_server *server = &role->server;
    struct kg_sip_handlers handlers = {.answer = on_answer,
                                       .on_register = on_register,
                                       .on_invite = on_invite,
                                       .on_request = on_request,
                                       .pass_options = pass_options,
                                       .knows_dialogs = knows_dialogs,
                                       .on_flow_lost = on_flow_lost,
                                       .on_connect = on_connect,
                                       .ctx = role};
    uint8_t guard_key[16];
    char why[512] = "out of memory", media_path[KG_PATH_MAX + 32];

    kg_beside_control(server->config.control, KG_MEDIA_SOCKET_NAME, media_path, sizeof media_path);
    server->started_ms = kg_wall_ms();
    kg_random(guard_key, sizeof guard_key);
    if (!(server->root = su_root_create(NULL)) || watch_signals(role) ||
        watch(role, role->link_fd, on_link) ||
        !(role->heartbeat = su_timer_create(su_root_task(server->root), HEARTBEAT_MS)) ||
        !(role->media_timer = su_timer_create(su_root_task(server->root), MEDIA_TICK_MS)) ||
        !(server->media = kg_media_client_new(media_path, on_media_event, role)) ||
        !(server->store = kg_store_open(server->config.store, why, sizeof why)) ||
        !(server->caps = kg_caps_new(&server->config)) ||
        !(server->guard = handlers.guard = kg_guard_new(guard_key, &server->config)) ||
        !(server->sip = kg_sip_new(server->root, &server->config, &handlers, why, sizeof why)) ||
        !(server->peers = kg_peers_new(server)) || !(server->trunks = kg_trunks_new(server)) ||
        !(server->cdr = kg_cdr_new(&server->config)) || !(server->registrar = kg_registrar_new(server)) ||
        !(server->calls = kg_calls_new(server)) || !(server->requests = kg_requests_new(server)) ||
        !(role->control = kg_control_new(server, kg_sip_edge_base(server->sip), on_reload_request, role, why,
                                         sizeof why))) {
        kg_error("signalling", "cannot start: %s", why);
        return EINVAL;
    }
    kg_registrar_watch(server->registrar, on_moved, role);
    kg_media_configure(server->media, &server->config);
    su_timer_set_interval(role->heartbeat, on_heartbeat, (su_timer_arg_t *)role, HEARTBEAT_MS);
    media_run(role);
    return 0;
}

int kg_signalling_main(int link_fd, int config_fd)
{
    static struct role role;
    role = (struct role){.link_fd = link_fd, .config_fd = config_fd, .signal_fd = -1, .media_fd = -1};
    if (kg_link_read_config(config_fd, &role.server.config))
        return KG_EXIT_CANNOT_START;
    kg_log_init("signalling", kg_log_level_of(role.server.config.log_level));
    su_init();
    int error = make_parts(&role);
    if (!error) {
        kg_link_send(link_fd, KG_LINK_STARTED, NULL);
        su_root_run(role.server.root);
    }
    free_parts(&role);
    su_deinit();
    return error ? KG_EXIT_CANNOT_START : 0;
}
