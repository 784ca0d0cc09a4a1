#include "b2bua/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "b2bua/check.h"
#include "b2bua/link.h"
#include "b2bua/runtime.h"
#include "conf/clock.h"
#include "conf/log.h"

/* A child sends a heartbeat a second; README.md promises a restart of a hung one within 5 s. */
#define HEARTBEAT_LIMIT_MS 3500
/* For one that is not hung but got no processor: ending it would only add to the load. */
#define STARVED_LIMIT_MS 15000
/* A round of ours waits no longer than this; one that took LATE_MS more was not ours alone: the machine stood
 * still. */
#define ROUND_MS 1000
#define LATE_MS  500
/* Starting may take longer: binding ports, reading the store. */
#define START_LIMIT_MS 20000
/* A child that lived this long starts again at once; one that keeps dying waits longer each time. */
#define STABLE_MS      10000
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
/* What a clean end may take (BYE to every phone) before the rest is killed. */
#define STOP_LIMIT_MS 5000

enum child_state { CHILD_DOWN, CHILD_STARTING, CHILD_UP, CHILD_STOPPING };

struct child {
    const char *role;
    enum child_state state;
    pid_t pid;    /* 0: none */
    bool adopted; /* media of an earlier supervisor: watched through its pidfd, without heartbeats */
    int watch_fd; /* our end of the link; for an adopted one its pidfd; -1: none */
    int64_t started_ms, heard_ms, retry_ms;
    int64_t queued_ms; /* when it was heard last: how long in its life it had waited for a processor */
    int64_t backoff_ms;
    bool was_up; /* once in this supervisor's life */
};

enum { MEDIA, SIGNALLING, CHILDREN };

struct supervisor {
    const char *file;
    struct kg_config config; /* the running one */
    int config_fd[CHILDREN]; /* memfds, read by the children; that of the media process holds no passwords */
    struct kg_runtime runtime;
    int signal_fd;
    sigset_t old_mask;
    struct child child[CHILDREN];
    bool announced, stopping;
    int status;
};

static void print_errors(const char *file, const struct kg_config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        if (errors->item[i].line)
            fprintf(stderr, "%s:%d: %s\n", file, errors->item[i].line, errors->item[i].text);
        else
            fprintf(stderr, "%s: %s\n", file, errors->item[i].text);
    }
}

int kg_supervisor_load(const char *file, struct kg_config *config)
{
    struct kg_config_errors errors;
    int error = kg_config_load(file, config, &errors);
    if (error)
        print_errors(file, &errors);
    return error;
}

/* Writes the running configuration for the children to read. Returns 0 or an errno. */
static int hand_out_config(const struct supervisor *s)
{
    static struct kg_config config;
    int error = kg_link_write_config(s->config_fd[SIGNALLING], &s->config);
    config = s->config;
    kg_config_forget_secrets(&config);
    return error ? error : kg_link_write_config(s->config_fd[MEDIA], &config);
}

static int open_config(struct supervisor *s)
{
    for (int i = 0; i < CHILDREN; i++)
        if ((s->config_fd[i] = memfd_create("kedge-config", MFD_CLOEXEC)) < 0)
            return errno;
    return hand_out_config(s);
}

/* ---- children ---- */

static void exec_child(struct supervisor *s, const struct child *child, int link_fd)
{
    char link[24], config[24], listen[24], role[32];
    snprintf(role, sizeof role, "--role=%s", child->role);
    snprintf(link, sizeof link, "--link-fd=%d", link_fd);
    int config_fd = s->config_fd[child - s->child];
    snprintf(config, sizeof config, "--config-fd=%d", config_fd);
    snprintf(listen, sizeof listen, "--listen-fd=%d", s->runtime.listen_fd);
    bool media = child == &s->child[MEDIA];
    char *argv[] = {"kedge", role, link, config, media ? listen : NULL, NULL};

    fcntl(link_fd, F_SETFD, 0);
    fcntl(config_fd, F_SETFD, 0);
    if (media)
        fcntl(s->runtime.listen_fd, F_SETFD, 0);
    sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
    execv("/proc/self/exe", argv);
    _exit(KG_EXIT_CANNOT_START);
}

static void child_failed(struct child *child, int64_t now)
{
    child->backoff_ms = now - child->started_ms > STABLE_MS ? 0
                        : child->backoff_ms * 2 > BACKOFF_MAX_MS
                            ? BACKOFF_MAX_MS
                            : (child->backoff_ms ? child->backoff_ms * 2 : BACKOFF_MIN_MS);
    child->state = CHILD_DOWN;
    child->pid = 0;
    child->adopted = false;
    if (child->watch_fd >= 0)
        close(child->watch_fd);
    child->watch_fd = -1;
    child->retry_ms = now + child->backoff_ms;
}

static void start_child(struct supervisor *s, struct child *child, int64_t now)
{
    int pair[2];
    child->started_ms = child->heard_ms = now;
    if ((child == &s->child[MEDIA] && kg_runtime_listen(&s->runtime)) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        kg_error("supervisor", "cannot start the %s process: %s", child->role, strerror(errno));
        child_failed(child, now);
        return;
    }
    pid_t pid = fork();
    if (pid == 0)
        exec_child(s, child, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        kg_error("supervisor", "cannot start the %s process: %s", child->role, strerror(errno));
        close(pair[0]);
        child_failed(child, now);
        return;
    }
    child->pid = pid;
    child->watch_fd = pair[0];
    child->state = CHILD_STARTING;
}

static void stop(struct supervisor *s, int status)
{
    if (!s->stopping)
        s->status = status;
    s->stopping = true;
}

static void child_exited(struct supervisor *s, struct child *child, int wait_status, int64_t now)
{
    bool useless = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == KG_EXIT_CANNOT_START;
    /* A service manager or `timeout` may send SIGTERM to the children, too: then they end in any order. */
    bool expected = child->state == CHILD_STOPPING || (s->stopping && wait_status == 0);
    if (!expected) {
        if (useless && !child->was_up) {
            kg_error("supervisor", "the %s process cannot start (see above); ending", child->role);
            stop(s, 1);
        } else if (WIFSIGNALED(wait_status)) {
            kg_error("supervisor", "the %s process (%d) was ended by signal %d (%s); starting it again",
                     child->role, (int)child->pid, WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
        } else {
            kg_error("supervisor", "the %s process (%d) ended with status %d; starting it again", child->role,
                     (int)child->pid, WEXITSTATUS(wait_status));
        }
    }
    child_failed(child, now);
}

static void reap(struct supervisor *s, int64_t now)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < CHILDREN; i++)
            if (s->child[i].pid == pid && !s->child[i].adopted)
                child_exited(s, &s->child[i], status, now);
    }
}

/* ---- reload ---- */

/* With the files that it names: signalling could only keep its old ones, and the log alone would say so. */
static bool load_whole(const char *file, struct kg_config *config, struct kg_config_errors *errors)
{
    if (kg_config_load(file, config, errors) != 0)
        return false;
    *errors = (struct kg_config_errors){0};
    errors->count = kg_check_files(config, errors->item[0].text, sizeof errors->item[0].text) ? 1 : 0;
    return errors->count == 0;
}

/* What names of files and values cut short have in them need not be UTF-8, as JSON is. */
static json_t *text_json(const char *text)
{
    char safe[1024];
    kg_log_escape(text, safe, sizeof safe);
    return json_string(safe);
}

/* Returns the answer as JSON text, to be freed. A broken file changes nothing. */
static char *reload(struct supervisor *s)
{
    static struct kg_config config;
    struct kg_config_errors errors;
    json_t *list = json_array();
    char rows[1024] = "";
    bool good = load_whole(s->file, &config, &errors);

    if (good) {
        size_t restart = kg_config_restart_rows(&s->config, &config, rows, sizeof rows);
        kg_config_apply_reloadable(&s->config, &config);
        int error = hand_out_config(s);
        if (error)
            kg_error("supervisor", "cannot hand out the new configuration: %s", strerror(error));
        for (int i = 0; i < CHILDREN; i++)
            if (s->child[i].watch_fd >= 0 && !s->child[i].adopted)
                kg_link_send(s->child[i].watch_fd, KG_LINK_CONFIG, NULL);
        kg_log_set_level(kg_log_level_of(s->config.log_level));
        if (restart)
            kg_warn("supervisor", "reloaded %s; these changes need a restart of kedge: %s", s->file, rows);
        else
            kg_info("supervisor", "reloaded %s", s->file);
    } else {
        for (size_t i = 0; i < errors.count; i++) {
            if (errors.item[i].line)
                kg_error("supervisor", "%s:%d: %s", s->file, errors.item[i].line, errors.item[i].text);
            else
                kg_error("supervisor", "%s: %s", s->file, errors.item[i].text);
            json_array_append_new(list, json_pack("{s:i,s:o}", "line", errors.item[i].line, "text",
                                                  text_json(errors.item[i].text)));
        }
        kg_error("supervisor", "%s was not loaded; the old configuration stays in force", s->file);
    }
    json_t *answer = json_pack("{s:b,s:o,s:o,s:s}", "ok", good, "file", text_json(s->file), "errors", list,
                               "restart", rows);
    char *text = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    return text;
}

/* ---- loop ---- */

/* How long the process's main thread was ready to run and did not (proc(5), schedstat); 0 if that cannot be
 * read. */
static int64_t queued_ms(pid_t pid)
{
    char path[64], text[96];
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    const char *second = strchr(text, ' ');
    return second ? (int64_t)(strtoull(second, NULL, 10) / 1000000) : 0;
}

static void on_message(struct supervisor *s, struct child *child, int64_t now)
{
    static char text[KG_LINK_TEXT_MAX];
    int kind;
    while (child->watch_fd >= 0 && (kind = kg_link_receive(child->watch_fd, text)) != 0) {
        child->heard_ms = now;
        child->queued_ms = queued_ms(child->pid);
        if (kind == KG_LINK_STARTED) {
            child->state = child->state == CHILD_STARTING ? CHILD_UP : child->state;
            child->was_up = true;
            kg_info("supervisor", "the %s process (%d) is up", child->role, (int)child->pid);
        } else if (kind == KG_LINK_RELOAD) {
            char *answer = reload(s);
            kg_link_send(child->watch_fd, KG_LINK_RELOAD_ANSWER, answer ? answer : "{\"ok\":false}");
            free(answer);
        } else if (kind < 0) { /* it is dying; SIGCHLD tells more */
            close(child->watch_fd);
            child->watch_fd = -1;
        }
    }
}

static void on_signal(struct supervisor *s, int64_t now)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            free(reload(s));
        else if (info.ssi_signo == SIGCHLD)
            reap(s, now);
        else
            stop(s, 0);
    }
}

static int64_t patience_ms(const struct child *child, int64_t silent_ms)
{
    if (child->state != CHILD_UP)
        return START_LIMIT_MS;
    bool starved = silent_ms > HEARTBEAT_LIMIT_MS && queued_ms(child->pid) - child->queued_ms > silent_ms / 2;
    return starved ? STARVED_LIMIT_MS : HEARTBEAT_LIMIT_MS;
}

static void watch(struct supervisor *s, struct child *child, int64_t now)
{
    if (child->state == CHILD_DOWN && now >= child->retry_ms) {
        start_child(s, child, now);
    } else if ((child->state == CHILD_UP || child->state == CHILD_STARTING) && !child->adopted &&
               now - child->heard_ms > patience_ms(child, now - child->heard_ms)) {
        kg_error("supervisor", "the %s process (%d) has not moved for %lld ms; ending it", child->role,
                 (int)child->pid, (long long)(now - child->heard_ms));
        kill(child->pid, SIGKILL);
        child->heard_ms = now;
    }
}

/* Time in which we stood still ourselves (a virtual machine that is moved, a disk that does not answer) says
 * nothing about the children, who had none either. */
static void forgive(struct supervisor *s, int64_t before, int64_t now)
{
    int64_t lost = now - before - ROUND_MS;
    for (int i = 0; i < CHILDREN && lost > LATE_MS; i++)
        s->child[i].heard_ms += lost;
}

static void poll_once(struct supervisor *s, int timeout_ms)
{
    struct pollfd fds[1 + CHILDREN] = {{.fd = s->signal_fd, .events = POLLIN}};
    for (int i = 0; i < CHILDREN; i++)
        fds[1 + i] = (struct pollfd){.fd = s->child[i].watch_fd, .events = POLLIN};
    if (poll(fds, 1 + CHILDREN, timeout_ms) < 0)
        return;
    int64_t now = kg_mono_ms();
    for (int i = 0; i < CHILDREN; i++) {
        struct child *child = &s->child[i];
        if (!fds[1 + i].revents)
            continue;
        if (child->adopted) {
            if (child->state != CHILD_STOPPING)
                kg_error("supervisor", "the adopted %s process (%d) ended; starting a new one", child->role,
                         (int)child->pid);
            child_failed(child, now);
        } else {
            on_message(s, child, now);
        }
    }
    if (fds[0].revents)
        on_signal(s, now);
}

/* Signalling first, so that phones get their BYE while media still runs. */
static void stop_child(struct supervisor *s, struct child *child)
{
    int64_t deadline = kg_mono_ms() + STOP_LIMIT_MS;
    if (!child->pid)
        return;
    child->state = CHILD_STOPPING;
    kill(child->pid, SIGTERM);
    kill(child->pid, SIGCONT);
    while (child->pid && kg_mono_ms() < deadline)
        poll_once(s, 100);
    if (child->pid) {
        kg_warn("supervisor", "the %s process (%d) did not end in time; killing it", child->role,
                (int)child->pid);
        kill(child->pid, SIGKILL);
        deadline = kg_mono_ms() + STOP_LIMIT_MS;
        while (child->pid && kg_mono_ms() < deadline)
            poll_once(s, 100);
    }
}

static int block_signals(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, &s->old_mask);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd < 0 ? errno : 0;
}

/* Four sockets a call: the default soft limit of 1024 would end at 250 calls. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    rlim_t want = limit.rlim_max < 262144 ? 262144 : limit.rlim_max;
    struct rlimit higher = {want, want};
    if (setrlimit(RLIMIT_NOFILE, &higher)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* To the service manager, where one started us (sd_notify(3)): serving, and the loop still turns. */
static void tell_manager(struct supervisor *s)
{
    if (!s->announced && s->child[MEDIA].state == CHILD_UP && s->child[SIGNALLING].state == CHILD_UP)
        s->announced = sd_notify(0, "READY=1") >= 0;
    sd_notify(0, "WATCHDOG=1");
}

static void run(struct supervisor *s)
{
    struct child *media = &s->child[MEDIA], *signalling = &s->child[SIGNALLING];
    int64_t before = kg_mono_ms();
    while (!s->stopping) {
        tell_manager(s);
        int64_t now = kg_mono_ms();
        forgive(s, before, now);
        before = now;
        watch(s, media, now);
        if (media->was_up || media->adopted) /* its first connect finds an engine */
            watch(s, signalling, now);
        poll_once(s, media->state == CHILD_DOWN || signalling->state == CHILD_DOWN ? 50 : ROUND_MS);
    }
    sd_notify(0, "STOPPING=1");
    stop_child(s, signalling);
    stop_child(s, media);
}

int kg_supervisor_main(const char *file)
{
    static struct supervisor s;
    char why[512];
    s = (struct supervisor){.file = file,
                            .config_fd = {-1, -1},
                            .runtime = KG_RUNTIME_NONE,
                            .signal_fd = -1,
                            .child = {[MEDIA] = {.role = "media", .watch_fd = -1},
                                      [SIGNALLING] = {.role = "signalling", .watch_fd = -1}}};

    if (kg_supervisor_load(file, &s.config))
        return 1;
    kg_log_init("supervisor", kg_log_level_of(s.config.log_level));
    umask(0027);
    s.status = 1;
    raise_descriptor_limit();
    if (kg_runtime_open(&s.runtime, &s.config, why, sizeof why)) {
        kg_error("supervisor", "%s", why);
        goto out;
    }
    int error = open_config(&s);
    if (error || (error = block_signals(&s))) {
        kg_error("supervisor", "cannot start: %s", strerror(error));
        goto out;
    }
    if (s.runtime.media_pid) {
        kg_info("supervisor", "taking over the media process (%d) that an earlier supervisor left",
                (int)s.runtime.media_pid);
        s.child[MEDIA].pid = s.runtime.media_pid;
        s.child[MEDIA].watch_fd = s.runtime.media_pidfd;
        s.child[MEDIA].adopted = true;
        s.child[MEDIA].state = CHILD_UP;
        s.runtime.media_pidfd = -1;
    }
    s.status = 0;
    run(&s);
    kg_info("supervisor", "ended");
out:
    kg_runtime_close(&s.runtime);
    for (int i = 0; i < CHILDREN; i++)
        if (s.config_fd[i] >= 0)
            close(s.config_fd[i]);
    if (s.signal_fd >= 0)
        close(s.signal_fd);
    return s.status;
}
