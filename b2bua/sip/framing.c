#include "b2bua/sip/framing.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "b2bua/sip/shim.h"

static enum kg_frame bad(const char *reason, const char **why)
{
    *why = reason;
    return KG_FRAME_BAD;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The value of a header line with this name or its compact form (both lower case, RFC 3261 7.3.3), or NULL
 * when the line is another header. */
static const char *value_of(const char *name, char compact, const char *line, const char *end)
{
    size_t n = strlen(name);
    if ((size_t)(end - line) > n && strncasecmp(line, name, n) == 0)
        line += n;
    else if (line < end && (*line | 0x20) == compact)
        line++;
    else
        return NULL;
    while (line < end && is_blank(*line))
        line++;
    return line < end && *line == ':' ? line + 1 : NULL;
}

static bool parse_body_length(const char *text, const char *end, size_t *out)
{
    size_t value = 0;
    while (text < end && is_blank(*text))
        text++;
    if (text == end)
        return false;
    for (; text < end && *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (size_t)(*text - '0');
        if (value > KG_SIP_MESSAGE_MAX)
            return false;
    }
    while (text < end && is_blank(*text))
        text++;
    *out = value;
    return text == end;
}

/* One line of the head, without its CRLF. Returns NULL or what is wrong with it. */
static const char *read_line(struct kg_framing *framing, const char *line, const char *end)
{
    size_t n = (size_t)(end - line);
    if (memchr(line, '\r', n) || memchr(line, '\0', n))
        return "a control character in a header";
    if (is_blank(*line)) /* continues the line before it, RFC 3261 7.3.1 */
        return framing->after_body_length ? "a folded Content-Length" : NULL;
    framing->after_body_length = false;
    const char *value = value_of("content-length", 'l', line, end);
    if (!value)
        return NULL;
    if (framing->has_body_length)
        return "two Content-Length headers";
    if (!parse_body_length(value, end, &framing->body))
        return "an impossible Content-Length";
    framing->has_body_length = framing->after_body_length = true;
    return NULL;
}

/* Reads lines until the empty one. */
static enum kg_frame read_head(struct kg_framing *framing, const char *data, size_t len, const char **why)
{
    for (;;) {
        const char *from = data + framing->scanned;
        const char *newline = len > framing->scanned ? memchr(from, '\n', len - framing->scanned) : NULL;
        if (!newline) {
            framing->scanned = len;
            return len > KG_SIP_MESSAGE_MAX ? bad("a message over 64 KB", why) : KG_FRAME_MORE;
        }
        const char *line = data + framing->line, *end = newline - 1;
        if (end < line || *end != '\r')
            return bad("a line that does not end in CRLF", why);
        framing->line = framing->scanned = (size_t)(newline + 1 - data);
        if (end == line)
            break;
        const char *wrong = read_line(framing, line, end);
        if (wrong)
            return bad(wrong, why);
    }
    framing->length = framing->line + framing->body;
    return framing->length > KG_SIP_MESSAGE_MAX ? bad("a message over 64 KB", why) : KG_FRAME_MESSAGE;
}

/* A method or "SIP/2.0": a letter. Anything else is another protocol. */
static bool begins(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

enum kg_frame kg_framing_next(struct kg_framing *framing, const char *data, size_t len, size_t *used,
                              const char **why)
{
    *used = 0;
    if (len == 0)
        return KG_FRAME_MORE;
    if (framing->length == 0) {
        if (data[0] == '\r' && framing->line == 0) {
            if (len == 1)
                return KG_FRAME_MORE;
            if (data[1] != '\n')
                return bad("a line that does not end in CRLF", why);
            bool second = framing->pinged;
            *framing = (struct kg_framing){.pinged = !second};
            *used = 2;
            return second ? KG_FRAME_PING : KG_FRAME_BLANK;
        }
        if (!begins(data[0]))
            return bad("no SIP", why);
        enum kg_frame head = read_head(framing, data, len, why);
        if (head != KG_FRAME_MESSAGE)
            return head;
        if (!framing->has_body_length) /* RFC 3261 18.3: it must be there on a stream */
            return bad("no Content-Length", why);
    }
    if (len < framing->length)
        return KG_FRAME_MORE;
    *used = framing->length;
    *framing = (struct kg_framing){0};
    return KG_FRAME_MESSAGE;
}

int kg_framing_whole(const char *data, size_t len, bool *has_length, size_t *headers_end, const char **why)
{
    struct kg_framing framing = {0};
    enum kg_frame head =
        len > 0 && begins(data[0]) ? read_head(&framing, data, len, why) : bad("no SIP", why);
    if (head == KG_FRAME_MORE)
        head = bad("an incomplete message", why);
    else if (head == KG_FRAME_MESSAGE && framing.has_body_length && framing.length != len)
        head = bad("a Content-Length that is not the body's", why);
    *has_length = framing.has_body_length;
    *headers_end = framing.line - 2;
    return head == KG_FRAME_MESSAGE ? 0 : EBADMSG;
}

const char *kg_framing_via_transport(const char *data, size_t len, size_t *transport_len)
{
    const char *line = data, *end, *value = NULL;
    *transport_len = 0;
    while (!value && (end = memmem(line, len - (size_t)(line - data), "\r\n", 2)) && end > line) {
        value = value_of("via", 'v', line, end);
        line = end + 2;
    }
    if (!value)
        return NULL;
    /* RFC 3261 25.1: sent-protocol = protocol-name SLASH protocol-version SLASH transport */
    for (int slashes = 0; slashes < 2; slashes++) {
        value = memchr(value, '/', (size_t)(end - value));
        if (!value)
            return NULL;
        value++;
    }
    while (value < end && is_blank(*value))
        value++;
    while (value + *transport_len < end && !is_blank(value[*transport_len]))
        ++*transport_len;
    return value;
}
