/* Diversion (RFC 5806) and History-Info (RFC 7044): what the INVITE to the next one says of those who were
 * called before. Pure. */
#ifndef KG_CALL_DIVERT_H
#define KG_CALL_DIVERT_H

#include <stddef.h>

/* One hop more than a phone's redirection may make of a call. */
#define KG_DIVERT_STEPS_MAX 6

/* Who was called, in turn. */
struct kg_divert_step {
    const char *user;   /* unescaped; an account or a number */
    const char *reason; /* a token of RFC 5806: why the call did not stay there */
    int cause;          /* the status that moved it on */
};

/* The headers as lines that end in CRLF, but for the last; malloc'd, NULL without memory. step[count - 1] is
 * who is called now. host: of the URIs. history: the last History-Info value of the INVITE that came, NULL:
 * none; count is at least 2 and at most KG_DIVERT_STEPS_MAX. */
char *kg_divert_headers(const struct kg_divert_step *step, size_t count, const char *host,
                        const char *history);

/* The reason parameter of a Diversion value, one of RFC 5806's; "unknown" if it has none that is known. */
const char *kg_divert_reason(const char *diversion);

#endif
