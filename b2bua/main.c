/* kedge: one binary. As `kedge` it supervises (or plays one child's role), as `kedgectl` it is the control
 * client. */
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/check.h"
#include "b2bua/control/control.h"
#include "b2bua/roles.h"
#include "b2bua/supervisor.h"
#include "conf/config.h"
#include "conf/log.h"

/* For jemalloc (absent from debug builds): memory of finished transactions goes back to the system within
 * seconds. */
extern const char *malloc_conf;
__attribute__((visibility("default"))) const char *malloc_conf =
    "dirty_decay_ms:2000,muzzy_decay_ms:0,narenas:4";
extern int mallctl(const char *name, void *old, size_t *old_len, void *value, size_t len)
    __attribute__((weak));

/* The same in a role that is idle, by a thread of jemalloc's. Not in main itself: where a process ends at
 * once, that thread begins while the exit takes away what it needs, and jemalloc complains on stderr. */
static void give_back_when_idle(void)
{
    bool on = true;
    if (mallctl)
        mallctl("background_thread", NULL, NULL, &on, sizeof on);
}

static const char usage[] =
    "Usage: kedge -c FILE        run in the foreground; SIGTERM ends, SIGHUP reloads\n"
    "       kedge -t -c FILE     check the configuration: exit status 0, or 1 with file, line and a "
    "sentence\n"
    "       kedge --config-reference | --version | --help\n"
    "\n"
    "kedgectl talks to the running kedge: see `kedgectl --help`.\n";

struct options {
    const char *file;
    bool test;
    const char *role;
    int link_fd, config_fd, listen_fd;
};

enum { OPT_ROLE = 256, OPT_LINK, OPT_CONFIG, OPT_LISTEN, OPT_REFERENCE, OPT_VERSION };

/* The role options are the supervisor's own, passed with inherited descriptors; they are not for people. */
static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"test", no_argument, NULL, 't'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {"config-reference", no_argument, NULL, OPT_REFERENCE},
    {"role", required_argument, NULL, OPT_ROLE},
    {"link-fd", required_argument, NULL, OPT_LINK},
    {"config-fd", required_argument, NULL, OPT_CONFIG},
    {"listen-fd", required_argument, NULL, OPT_LISTEN},
    {NULL, 0, NULL, 0},
};

static int parse_fd(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (*end || fd < 3 || fd > 1024) {
        fprintf(stderr, "kedge: %s is not a file descriptor that a supervisor would pass\n", text);
        exit(2);
    }
    return (int)fd;
}

/* Exits by itself where the option says so. */
static struct options parse_options(int argc, char **argv)
{
    struct options o = {.link_fd = -1, .config_fd = -1, .listen_fd = -1};
    int c;
    while ((c = getopt_long(argc, argv, "c:th", long_options, NULL)) != -1) {
        switch (c) {
        case 'c':
            o.file = optarg;
            break;
        case 't':
            o.test = true;
            break;
        case OPT_ROLE:
            o.role = optarg;
            break;
        case OPT_LINK:
            o.link_fd = parse_fd(optarg);
            break;
        case OPT_CONFIG:
            o.config_fd = parse_fd(optarg);
            break;
        case OPT_LISTEN:
            o.listen_fd = parse_fd(optarg);
            break;
        case OPT_REFERENCE:
            kg_config_print_reference();
            exit(0);
        case OPT_VERSION:
            puts("kedge " KG_VERSION);
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kedge: unexpected argument %s\n%s", argv[optind], usage);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    if (strcmp(name ? name + 1 : argv[0], "kedgectl") == 0)
        return kg_kedgectl_main(argc, argv);

    struct options o = parse_options(argc, argv);
    if (o.role && strcmp(o.role, "signalling") == 0 && o.link_fd >= 0 && o.config_fd >= 0) {
        give_back_when_idle();
        return kg_signalling_main(o.link_fd, o.config_fd);
    }
    if (o.role && strcmp(o.role, "media") == 0 && o.link_fd >= 0 && o.config_fd >= 0 && o.listen_fd >= 0) {
        give_back_when_idle();
        return kg_media_main(o.link_fd, o.config_fd, o.listen_fd);
    }
    if (o.role || !o.file) {
        fputs(usage, stderr);
        return 2;
    }
    if (o.test) {
        struct kg_config config;
        char error[400];
        if (kg_supervisor_load(o.file, &config))
            return 1;
        if (kg_check_machine(&config, error, sizeof error)) {
            fprintf(stderr, "%s: %s\n", o.file, error);
            return 1;
        }
        printf("%s: good\n", o.file);
        return 0;
    }
    return kg_supervisor_main(o.file);
}
