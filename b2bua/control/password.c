#include "b2bua/control/password.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "conf/clock.h"

/* 32 characters that nobody mistakes for another on a phone's small display; 5 bits each. */
static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
_Static_assert(sizeof letters == 33, "a letter is five random bits");
#define GENERATED 20 /* letters: 100 bits */

int kg_password_generate(char out[static KG_PASSWORD_MAX])
{
    unsigned char random[GENERATED];

    kg_random(random, sizeof random);
    for (size_t i = 0; i < GENERATED; i++)
        out[i] = letters[random[i] & 31];
    out[GENERATED] = '\0';
    return 0;
}

static int read_line(char out[static KG_PASSWORD_MAX])
{
    size_t len;

    if (fgets(out, KG_PASSWORD_MAX, stdin) == NULL)
        out[0] = '\0';
    len = strcspn(out, "\r\n");
    if (len == KG_PASSWORD_MAX - 1) {
        fprintf(stderr, "kedgectl: a password has at most %d bytes\n", KG_PASSWORD_MAX - 2);
        return E2BIG;
    }
    out[len] = '\0';
    if (len == 0) {
        fprintf(stderr, "kedgectl: the password is empty\n");
        return EINVAL;
    }
    return 0;
}

int kg_password_from_stdin(char out[static KG_PASSWORD_MAX])
{
    return read_line(out);
}

static int ask_once(const char *before_name, const char *name, char out[static KG_PASSWORD_MAX])
{
    struct termios before, silent;
    bool quiet = tcgetattr(STDIN_FILENO, &before) == 0;
    int error;

    fprintf(stderr, "%s %s: ", before_name, name);
    if (quiet) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    error = read_line(out);
    if (quiet)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return error;
}

int kg_password_ask(const char *name, char out[static KG_PASSWORD_MAX])
{
    char again[KG_PASSWORD_MAX];
    int error;

    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr,
                "kedgectl: there is no terminal to ask for a password: use --generate or --password-stdin\n");
        return ENOTTY;
    }
    error = ask_once("Password for", name, out);
    if (error == 0)
        error = ask_once("The same again for", name, again);
    if (error == 0 && strcmp(out, again) != 0) {
        fprintf(stderr, "kedgectl: these are two different passwords; nothing was changed\n");
        error = EINVAL;
    }
    explicit_bzero(again, sizeof again);
    return error;
}
