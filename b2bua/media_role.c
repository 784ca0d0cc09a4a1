/* The media process: the engine of media/ under the supervisor's watch. */
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "b2bua/link.h"
#include "b2bua/roles.h"
#include "conf/clock.h"
#include "conf/log.h"
#include "media/engine.h"

struct role {
    int link_fd;
    bool orphan; /* the supervisor is gone */
    int64_t idle_since_ms;
    struct kg_media_engine *engine;
};

/* An engine without supervisor serves its calls to their end, and waits this long for a new supervisor. */
#define ORPHAN_IDLE_MS 60000

static struct kg_media_engine *signalled_engine; /* for the signal handler alone */

static void on_signal(int number)
{
    (void)number;
    kg_media_engine_stop(signalled_engine);
}

static void heartbeat(void *ctx)
{
    struct role *role = ctx;
    if (!role->orphan) {
        kg_link_send(role->link_fd, KG_LINK_HEARTBEAT, NULL);
        return;
    }
    int64_t now = kg_mono_ms();
    if (kg_media_engine_sessions(role->engine) || kg_media_engine_has_owner(role->engine))
        role->idle_since_ms = now;
    else if (now - role->idle_since_ms > ORPHAN_IDLE_MS)
        kg_media_engine_stop(role->engine);
}

static void on_link(void *ctx)
{
    struct role *role = ctx;
    char text[KG_LINK_TEXT_MAX];
    /* New settings come from signalling (kg_media_configure), which an adopted engine hears too. */
    if (kg_link_receive(role->link_fd, text) < 0) {
        role->orphan = true;
        role->idle_since_ms = kg_mono_ms();
        kg_warn("media",
                "the supervisor is gone; calls keep their media, start kedge again to take them over");
        kg_media_engine_unwatch(role->engine, role->link_fd);
    }
}

int kg_media_main(int link_fd, int config_fd, int listen_fd)
{
    static struct kg_config config;
    struct role role = {.link_fd = link_fd};
    if (kg_link_read_config(config_fd, &config))
        return KG_EXIT_CANNOT_START;
    kg_log_init("media", kg_log_level_of(config.log_level));
    /* Again, in this process: whoever connects learns our process id from the socket (SO_PEERCRED). */
    if (listen(listen_fd, 16)) {
        kg_error("media", "cannot listen on the control socket");
        return KG_EXIT_CANNOT_START;
    }
    role.engine = kg_media_engine_new(&config, listen_fd, heartbeat, &role);
    if (!role.engine)
        return KG_EXIT_CANNOT_START;
    signalled_engine = role.engine;
    signal(SIGTERM, on_signal);
    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the whole group; the supervisor ends us in order */
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (kg_media_engine_watch(role.engine, link_fd, on_link, &role)) {
        kg_media_engine_free(role.engine);
        return KG_EXIT_CANNOT_START;
    }
    kg_link_send(link_fd, KG_LINK_STARTED, NULL);
    kg_media_engine_run(role.engine);
    signal(SIGTERM, SIG_IGN);
    kg_media_engine_free(role.engine);
    return 0;
}
