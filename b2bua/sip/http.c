#include "b2bua/sip/http.h"

#include <string.h>
#include <strings.h>

/* Browsers send some twenty. */
#define HEADERS_MAX 64

bool kg_span_is(struct kg_span span, const char *text)
{
    return span.at && strlen(text) == span.len && memcmp(span.at, text, span.len) == 0;
}

bool kg_span_is_like(struct kg_span span, const char *text)
{
    return span.at && strlen(text) == span.len && strncasecmp(span.at, text, span.len) == 0;
}

const char *kg_http_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } known[] = {{101, "Switching Protocols"},
                 {200, "OK"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {426, "Upgrade Required"},
                 {431, "Request Header Fields Too Large"},
                 {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].status == status)
            return known[i].phrase;
    return "Error";
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *at, size_t len)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < len; i++) {
        char c = at[i], letter = (char)(c | 0x20);
        if (!(letter >= 'a' && letter <= 'z') && !(c >= '0' && c <= '9') && (!c || !strchr(marks, c)))
            return false;
    }
    return len > 0;
}

/* Printable, and blanks. */
static bool is_text(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)at[i] < ' ' && at[i] != '\t') || at[i] == 0x7f)
            return false;
    return true;
}

static struct kg_span trim(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct kg_span){at, (size_t)(end - at)};
}

/* Whether this is among the items of a list separated by commas. */
static bool has_item(struct kg_span list, const char *item)
{
    const char *at = list.at, *end = list.at + list.len;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        if (kg_span_is_like(trim(at, comma ? comma : end), item))
            return true;
        at = comma ? comma + 1 : end;
    }
    return false;
}

/* The request line. 0, or the status of its refusal. */
static int read_start(const char *line, size_t len, struct kg_http_request *out)
{
    const char *end = line + len, *space = memchr(line, ' ', len);
    if (!space || !is_token(line, (size_t)(space - line)) || !is_text(line, len))
        return 400;
    const char *target = space + 1, *last = memchr(target, ' ', (size_t)(end - target));
    if (!last || last == target || *target != '/')
        return 400; /* the other forms (RFC 9112 3.2.2) are for proxies */
    struct kg_span method = {line, (size_t)(space - line)}, version = {last + 1, (size_t)(end - last - 1)};
    if (!kg_span_is(version, "HTTP/1.1"))
        return version.len == 8 && memcmp(version.at, "HTTP/", 5) == 0 ? 505 : 400;
    out->method = kg_span_is(method, "GET")    ? KG_HTTP_GET
                  : kg_span_is(method, "HEAD") ? KG_HTTP_HEAD
                                               : KG_HTTP_OTHER;
    const char *query = memchr(target, '?', (size_t)(last - target));
    out->path = (struct kg_span){target, (size_t)((query ? query : last) - target)};
    return 0;
}

/* What is collected over all headers until upgrades is known. */
struct seen {
    bool websocket, connection;
};

/* One header. 0, or the status of its refusal. */
static int read_header(const char *line, size_t len, struct kg_http_request *out, struct seen *seen)
{
    const char *colon = memchr(line, ':', len);
    if (!colon || !is_token(line, (size_t)(colon - line)) || !is_text(line, len))
        return 400; /* a folded line begins with a blank: no token either */
    struct kg_span name = {line, (size_t)(colon - line)}, value = trim(colon + 1, line + len);
    const struct {
        const char *name;
        struct kg_span *to;
    } single[] = {{"host", &out->host},
                  {"origin", &out->origin},
                  {"sec-websocket-key", &out->key},
                  {"sec-websocket-version", &out->version},
                  {"if-none-match", &out->none_match}};
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++) {
        if (!kg_span_is_like(name, single[i].name))
            continue;
        if (single[i].to->at)
            return 400;
        *single[i].to = value;
        return 0;
    }
    if (kg_span_is_like(name, "upgrade"))
        seen->websocket |= has_item(value, "websocket");
    else if (kg_span_is_like(name, "connection")) {
        seen->connection |= has_item(value, "upgrade");
        out->closes |= has_item(value, "close");
    } else if (kg_span_is_like(name, "sec-websocket-protocol"))
        out->offers_sip |= has_item(value, "sip");
    else if (kg_span_is_like(name, "transfer-encoding") ||
             (kg_span_is_like(name, "content-length") && !kg_span_is(value, "0")))
        return 400; /* nothing that is served here takes a body */
    return 0;
}

enum kg_http_parsed kg_http_parse(const char *data, size_t len, struct kg_http_request *out, size_t *used,
                                  int *status)
{
    size_t window = len < KG_HTTP_HEAD_MAX ? len : KG_HTTP_HEAD_MAX;
    const char *end = window ? memmem(data, window, "\r\n\r\n", 4) : NULL;
    struct seen seen = {0};
    *out = (struct kg_http_request){.method = KG_HTTP_OTHER};
    *used = 0;
    *status = 431;
    if (!end)
        return len < KG_HTTP_HEAD_MAX ? KG_HTTP_MORE : KG_HTTP_BAD;
    *status = 400;
    int headers = 0;
    for (const char *line = data; line <= end; headers++) {
        const char *next = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        size_t n = (size_t)(next - line);
        int wrong = headers == 0            ? read_start(line, n, out)
                    : headers > HEADERS_MAX ? 431
                                            : read_header(line, n, out, &seen);
        if (wrong) {
            *status = wrong;
            return KG_HTTP_BAD;
        }
        line = next + 2;
    }
    if (!out->host.at || out->host.len == 0) /* RFC 9112 3.2 */
        return KG_HTTP_BAD;
    out->upgrades = seen.websocket && seen.connection;
    *used = (size_t)(end + 4 - data);
    return KG_HTTP_REQUEST;
}
