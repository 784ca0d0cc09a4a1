/* The lines that ice_peer and nice_peer speak on their standard input and output; one a line, words by one
 * space.
 *
 * in:  remote UFRAG PWD [lite]   the peer's credentials; others than before are its restart
 *      candidate ...             the value of a=candidate (RFC 8839 5.1)
 *      end                       no more of them
 *      restart                   new credentials here: told by "local" and all that follows it again
 *      send COMPONENT WORD       a datagram over the selected pair, as media would go
 * out: local UFRAG PWD, candidate ..., end
 *      state NAME                of the agent (ice_peer) or of a component (nice_peer: state COMPONENT NAME)
 *      selected COMPONENT LOCAL REMOTE
 *      role controlling|controlled   after a role conflict (ice_peer)
 *      lost COMPONENT            consent is gone
 *      data COMPONENT WORD       a datagram that is not STUN came from a valid source */
#ifndef KG_TESTS_INTEROP_PEER_IO_H
#define KG_TESTS_INTEROP_PEER_IO_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_LEN 1024

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* "name=value" among the arguments, or fallback. */
static const char *option(int argc, char **argv, const char *name, const char *fallback)
{
    size_t len = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=')
            return argv[i] + len + 1;
    return fallback;
}

static int number(int argc, char **argv, const char *name, int fallback)
{
    const char *text = option(argc, argv, name, NULL);
    return text ? (int)strtol(text, NULL, 10) : fallback;
}

/* The next word of *line, or "". */
static char *word(char **line)
{
    char *w = strsep(line, " ");
    return w ? w : "";
}

#endif
