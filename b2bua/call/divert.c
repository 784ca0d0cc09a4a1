#include "b2bua/call/divert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* RFC 7044 10.1.1: digits and dots. One that came longer than this is not gone on with. */
#define INDEX_MAX 64

const char *kg_divert_reason(const char *diversion)
{
    static const char *const known[] = {
        "user-busy",      "no-answer",  "unavailable", "unconditional",  "time-of-day",
        "do-not-disturb", "deflection", "follow-me",   "out-of-service", "away"};
    const char *at = diversion ? strcasestr(diversion, ";reason=") : NULL;
    if (at) {
        at += strlen(";reason=");
        at += *at == '"';
        size_t len = strcspn(at, "\"; \t,");
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (len == strlen(known[i]) && strncasecmp(at, known[i], len) == 0)
                return known[i];
    }
    return "unknown";
}

/* "1.2" of the last entry; "" if there is none that can be read. */
static void last_index(const char *history, char out[static INDEX_MAX])
{
    const char *at = NULL;
    for (const char *p = history; p && (p = strcasestr(p, ";index=")); p += strlen(";index="))
        at = p + strlen(";index=");
    size_t len = at ? strspn(at, "0123456789.") : 0;
    if (len >= INDEX_MAX - 2 * KG_DIVERT_STEPS_MAX)
        len = 0;
    memcpy(out, at ? at : "", len);
    out[len] = '\0';
}

/* Everything but unreserved characters is escaped: more than RFC 3261 25.1 needs, and never wrong. */
static void put_user(FILE *out, const char *user)
{
    for (; *user; user++) {
        unsigned char c = (unsigned char)*user;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-_.!~*'()+", c))
            fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

static void put_uri(FILE *out, const struct kg_divert_step *step, const char *host)
{
    fputs("<sip:", out);
    put_user(out, step->user);
    fprintf(out, "@%s", host);
}

char *kg_divert_headers(const struct kg_divert_step *step, size_t count, const char *host,
                        const char *history)
{
    char *text = NULL, index[INDEX_MAX];
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    for (size_t i = count - 1; i-- > 0;) { /* the newest stands on top (RFC 5806 5.2.1) */
        fputs("Diversion: ", out);
        put_uri(out, &step[i], host);
        fprintf(out, ">;reason=%s;counter=1\r\n", step[i].reason);
    }
    last_index(history, index);
    fputs("History-Info: ", out);
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(index);
        snprintf(index + used, sizeof index - used, used ? ".1" : "1");
        put_uri(out, &step[i], host);
        if (i + 1 < count) /* RFC 7044 9.3: why it did not stay there */
            fprintf(out, "?Reason=SIP%%3Bcause%%3D%d", step[i].cause);
        fprintf(out, ">;index=%s", index);
        if (i > 0) { /* mp: another user than the entry before named, which was that one */
            index[strlen(index) - 2] = '\0';
            fprintf(out, ";mp=%s", index);
            memcpy(index + strlen(index), ".1", 3);
        }
        fputs(i + 1 < count ? ", " : "", out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
