/* kedgectl: the control API on the command line. */
#include <event2/http.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/control/client.h"
#include "b2bua/control/control.h"
#include "b2bua/control/password.h"
#include "b2bua/control/show.h"
#include "conf/log.h"

#define DEFAULT_SOCKET "/run/kedge/control.sock"
#define PATH_ROOM      512 /* bytes of a request's path */

enum exit_status { EXIT_DONE, EXIT_REFUSED, EXIT_USAGE };

enum option_bit { OPT_JSON = 1, OPT_RECENT = 2, OPT_GENERATE = 4, OPT_STDIN = 8 };

struct command {
    const char *socket;
    const char *name; /* the account or call, where the command takes one */
    int options;      /* enum option_bit */
};

static const char usage[] =
    "Usage: kedgectl [-s SOCKET] COMMAND\n"
    "\n"
    "  account add NAME [--generate | --password-stdin]\n"
    "                              make an account; asks for the password on a terminal\n"
    "  account list [--json]       accounts and how many phones each has registered\n"
    "  account remove NAME         the account and its registrations\n"
    "  registrations [--json]      phones that are registered, where, and through which NAT\n"
    "  subscriptions [--json]      who watches whose lamp, mailbox or presence\n"
    "  calls [--json] [--recent]   calls that are up, or the last ones that ended\n"
    "  explain ID [--json]         what happened in a call, in words\n"
    "  hangup ID                   end a call\n"
    "  trunks [--json]             accounts at providers: whether they are registered, and their calls\n"
    "  bans [--json]               addresses and users that are banned, why and for how long\n"
    "  unban ADDRESS               lift every ban of this address\n"
    "  peers [--json]              PBXes and the servers of trunks: where they are, whether they answer\n"
    "  stats [--json]              counters\n"
    "  reload                      read the configuration again\n"
    "  version                     of this program and of the running kedge\n"
    "\n"
    "SOCKET is /run/kedge/control.sock unless the configuration says otherwise (control:).\n"
    "Exit status: 0 done, 1 kedge refused or is not running, 2 wrong usage.\n";

/* What kedge refused, in its words. */
static int refused(const json_t *answer)
{
    const char *sentence = json_string_value(json_object_get(answer, "error"));
    char safe[512];

    kg_log_escape(sentence != NULL ? sentence : "kedge refused without a reason", safe, sizeof safe);
    fprintf(stderr, "kedgectl: %s\n", safe);
    return EXIT_REFUSED;
}

/* Asks, and writes the answer to *out when kedge agreed. The caller drops the reference in any case. */
static int ask(const struct command *command, const char *method, const char *path, const json_t *body,
               json_t **out)
{
    int status = kg_client_ask(command->socket, method, path, body, out);

    if (status < 0)
        return EXIT_REFUSED;
    return status < 300 ? EXIT_DONE : refused(*out);
}

/* "/v1/calls/" and a name, percent-encoded. */
static void path_with(char out[static PATH_ROOM], const char *prefix, const char *name)
{
    char *encoded = evhttp_uriencode(name, -1, 0);

    snprintf(out, PATH_ROOM, "%s%s", prefix, encoded != NULL ? encoded : "");
    free(encoded);
}

/* The common shape: ask, then show the answer as a table or as it is. */
static int show(const struct command *command, const char *path, void (*table)(const json_t *answer))
{
    json_t *answer = NULL;
    int status = ask(command, "GET", path, NULL, &answer);

    if (status == EXIT_DONE && (command->options & OPT_JSON) != 0) {
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
        putchar('\n');
    } else if (status == EXIT_DONE) {
        table(answer);
    }
    json_decref(answer);
    return status;
}

static int get_password(const struct command *command, char out[static KG_PASSWORD_MAX])
{
    if ((command->options & OPT_GENERATE) != 0)
        return kg_password_generate(out);
    if ((command->options & OPT_STDIN) != 0)
        return kg_password_from_stdin(out);
    return kg_password_ask(command->name, out);
}

static int account_add(const struct command *command)
{
    char password[KG_PASSWORD_MAX] = "";
    json_t *body, *answer = NULL;
    int status = EXIT_REFUSED;

    if (get_password(command, password) != 0)
        return EXIT_REFUSED;
    body = json_pack("{s:s, s:s}", "name", command->name, "password", password);
    if (body == NULL)
        fprintf(stderr, "kedgectl: the name and the password must be UTF-8 text\n");
    else
        status = ask(command, "POST", "/v1/accounts", body, &answer);
    if (status == EXIT_DONE) {
        printf("account %s added\n", command->name);
        if ((command->options & OPT_GENERATE) != 0)
            printf("password %s\n", password);
    }
    explicit_bzero(password, sizeof password);
    json_decref(body);
    json_decref(answer);
    return status;
}

static int account_list(const struct command *command)
{
    return show(command, "/v1/accounts", kg_show_accounts);
}

/* A DELETE whose answer says nothing new. */
static int end_named(const struct command *command, const char *prefix, const char *noun, const char *verb)
{
    char path[PATH_ROOM];
    json_t *answer = NULL;
    int status;

    path_with(path, prefix, command->name);
    status = ask(command, "DELETE", path, NULL, &answer);
    if (status == EXIT_DONE)
        printf("%s %s %s\n", noun, command->name, verb);
    json_decref(answer);
    return status;
}

static int account_remove(const struct command *command)
{
    return end_named(command, "/v1/accounts/", "account", "removed");
}

static int hangup(const struct command *command)
{
    return end_named(command, "/v1/calls/", "call", "ends");
}

static int subscriptions(const struct command *command)
{
    return show(command, "/v1/subscriptions", kg_show_subscriptions);
}

static int registrations(const struct command *command)
{
    return show(command, "/v1/registrations", kg_show_registrations);
}

static int calls(const struct command *command)
{
    return show(command, (command->options & OPT_RECENT) != 0 ? "/v1/calls?recent=1" : "/v1/calls",
                kg_show_calls);
}

static int explain(const struct command *command)
{
    char path[PATH_ROOM];

    path_with(path, "/v1/calls/", command->name);
    return show(command, path, kg_show_explanation);
}

static int trunks(const struct command *command)
{
    return show(command, "/v1/trunks", kg_show_trunks);
}

static int bans(const struct command *command)
{
    return show(command, "/v1/bans", kg_show_bans);
}

static int unban(const struct command *command)
{
    return end_named(command, "/v1/bans/", "address", "is not banned any more");
}

static int peers(const struct command *command)
{
    return show(command, "/v1/peers", kg_show_peers);
}

static int stats(const struct command *command)
{
    return show(command, "/v1/stats", kg_show_stats);
}

/* A file that was refused is an answer (422) with its errors, not an error of ours. */
static int reload(const struct command *command)
{
    json_t *answer = NULL;
    int status = kg_client_ask(command->socket, "POST", "/v1/reload", NULL, &answer);

    if (status > 0 && json_object_get(answer, "ok") == NULL)
        status = refused(answer);
    else if (status > 0)
        status = kg_show_reload(answer) ? EXIT_DONE : EXIT_REFUSED;
    json_decref(answer);
    return status < 0 ? EXIT_REFUSED : status;
}

static int version(const struct command *command)
{
    json_t *answer = NULL;
    int status;

    printf("kedgectl %s\n", KG_VERSION);
    status = ask(command, "GET", "/v1/version", NULL, &answer);
    if (status == EXIT_DONE)
        printf("kedge    %s\n", json_string_value(json_object_get(answer, "version")));
    json_decref(answer);
    return status;
}

static const struct {
    const char *word, *second; /* second: of a two-word command */
    bool named;                /* takes a NAME or ID */
    int options;               /* that it understands */
    int (*run)(const struct command *command);
} commands[] = {
    {"account", "add", true, OPT_GENERATE | OPT_STDIN, account_add},
    {"account", "list", false, OPT_JSON, account_list},
    {"account", "remove", true, 0, account_remove},
    {"registrations", NULL, false, OPT_JSON, registrations},
    {"subscriptions", NULL, false, OPT_JSON, subscriptions},
    {"calls", NULL, false, OPT_JSON | OPT_RECENT, calls},
    {"explain", NULL, true, OPT_JSON, explain},
    {"hangup", NULL, true, 0, hangup},
    {"trunks", NULL, false, OPT_JSON, trunks},
    {"bans", NULL, false, OPT_JSON, bans},
    {"unban", NULL, true, 0, unban},
    {"peers", NULL, false, OPT_JSON, peers},
    {"stats", NULL, false, OPT_JSON, stats},
    {"reload", NULL, false, 0, reload},
    {"version", NULL, false, 0, version},
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {"json", no_argument, NULL, 'j'},
    {"recent", no_argument, NULL, 'r'},
    {"generate", no_argument, NULL, 'g'},
    {"password-stdin", no_argument, NULL, 'p'},
    {NULL, 0, NULL, 0},
};

static int wrong(const char *sentence, const char *what)
{
    fprintf(stderr, "kedgectl: %s%s%s; kedgectl --help lists what there is\n", sentence,
            what[0] != '\0' ? " " : "", what);
    return EXIT_USAGE;
}

/* words: what is left of the command line without options. */
static int run(struct command *command, char **words, int count)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        int used = commands[i].second != NULL ? 2 : 1;
        if (count < used || strcmp(words[0], commands[i].word) != 0 ||
            (used == 2 && strcmp(words[1], commands[i].second) != 0))
            continue;
        if (count < used + commands[i].named || words[count - 1][0] == '\0')
            return wrong("this command needs the name or id it is about:", commands[i].word);
        if (count > used + commands[i].named)
            return wrong("this is too much:", words[used + commands[i].named]);
        if ((command->options & ~commands[i].options) != 0)
            return wrong("this option is not for the command", commands[i].word);
        if ((command->options & (OPT_GENERATE | OPT_STDIN)) == (OPT_GENERATE | OPT_STDIN))
            return wrong("either --generate or --password-stdin, not both", "");
        command->name = commands[i].named ? words[used] : NULL;
        return commands[i].run(command);
    }
    if (count == 0)
        return wrong("a command is missing", "");
    if (strcmp(words[0], "account") == 0)
        return wrong("account needs add, list or remove after it", "");
    return wrong("there is no such command:", words[0]);
}

int kg_kedgectl_main(int argc, char **argv)
{
    struct command command = {.socket = DEFAULT_SOCKET};
    int option;

    while ((option = getopt_long(argc, argv, "s:h", long_options, NULL)) != -1) {
        switch (option) {
        case 's':
            command.socket = strncmp(optarg, "unix:", 5) == 0 ? optarg + 5 : optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_DONE;
        case 'j':
            command.options |= OPT_JSON;
            break;
        case 'r':
            command.options |= OPT_RECENT;
            break;
        case 'g':
            command.options |= OPT_GENERATE;
            break;
        case 'p':
            command.options |= OPT_STDIN;
            break;
        default: /* getopt has said what */
            return EXIT_USAGE;
        }
    }
    return run(&command, argv + optind, argc - optind);
}
