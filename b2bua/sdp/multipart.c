#include "b2bua/sdp/multipart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */

struct text {
    const char *s;
    size_t len;
};

/* A multipart, or a part of one. */
struct part {
    struct text body; /* between the delimiters, headers included */
    unsigned depth;
    char boundary[BOUNDARY_MAX + 1]; /* of a multipart */
};

/* What the headers of a part say. */
struct head {
    struct text type, disposition, encoding;
    struct text length; /* the whole line */
};

struct reading {
    const char *begin; /* of the whole body */
    struct part todo[KG_MULTIPART_PARTS_MAX + 1];
    unsigned count; /* multiparts found, done ones included; the body itself is the first */
    unsigned parts;
    bool found;
    struct kg_multipart *out;
    const char *wrong; /* the sentence */
};

/* ---- values of headers ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n'; /* the last two: of a folded header */
}

static void skip_blanks(struct text *t)
{
    while (t->len > 0 && is_blank(t->s[0]))
        t->s++, t->len--;
}

/* RFC 2045 5.1 */
static bool is_token(char c)
{
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

static struct text take_token(struct text *t)
{
    struct text token = {t->s, 0};
    while (token.len < t->len && is_token(t->s[token.len]))
        token.len++;
    t->s += token.len;
    t->len -= token.len;
    return token;
}

static bool take(struct text *t, char c)
{
    skip_blanks(t);
    if (t->len == 0 || t->s[0] != c)
        return false;
    t->s++;
    t->len--;
    return true;
}

static bool is(struct text t, const char *word)
{
    return t.len == strlen(word) && strncasecmp(t.s, word, t.len) == 0;
}

/* A token or a quoted string, unquoted. False: neither, or longer than size - 1. */
static bool take_value(struct text *t, char *out, size_t size)
{
    size_t n = 0;
    skip_blanks(t);
    if (t->len > 0 && t->s[0] == '"') {
        size_t i = 1;
        for (; i < t->len && t->s[i] != '"' && n + 1 < size; i++) {
            if (t->s[i] == '\\' && ++i == t->len)
                return false;
            out[n++] = t->s[i];
        }
        if (i >= t->len || t->s[i] != '"')
            return false;
        t->s += i + 1;
        t->len -= i + 1;
    } else {
        struct text token = take_token(t);
        if (token.len == 0 || token.len >= size)
            return false;
        memcpy(out, token.s, n = token.len);
    }
    out[n] = '\0';
    return true;
}

/* RFC 2046 5.1.1 */
static bool is_boundary(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || s[len - 1] == ' ')
        return false;
    for (; *s; s++)
        if (!((*s >= '0' && *s <= '9') || (*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z') ||
              strchr("'()+_,-./:=? ", *s)))
            return false;
    return true;
}

static bool is_multipart(struct text *value)
{
    skip_blanks(value);
    return is(take_token(value), "multipart") && take(value, '/') && take_token(value).len > 0;
}

bool kg_multipart_is(const char *content_type)
{
    struct text value = {content_type, strlen(content_type)};
    return is_multipart(&value);
}

/* Of "multipart/mixed;boundary=x". False: there is none, or several, or it is none. */
static bool take_boundary(struct text value, char out[BOUNDARY_MAX + 1])
{
    char other[KG_MULTIPART_HEADER_MAX];
    unsigned count = 0;
    if (!is_multipart(&value))
        return false;
    while (take(&value, ';')) {
        skip_blanks(&value);
        struct text name = take_token(&value);
        bool boundary = is(name, "boundary");
        count += boundary;
        if (name.len == 0 || !take(&value, '=') ||
            !take_value(&value, boundary ? out : other, boundary ? BOUNDARY_MAX + 1 : sizeof other))
            return false;
    }
    skip_blanks(&value);
    return value.len == 0 && count == 1 && is_boundary(out);
}

/* ---- the lines of a part ---- */

/* The line at *at without its end; *at moves past that. */
static struct text take_line(struct text in, size_t *at)
{
    const char *s = in.s + *at, *eol = memchr(s, '\n', in.len - *at);
    struct text line = {s, eol ? (size_t)(eol - s) : in.len - *at};
    *at += line.len + (eol != NULL);
    return line;
}

static bool remember(struct text *where, struct text value)
{
    bool first = where->s == NULL;
    *where = value;
    return first;
}

/* One header, folded lines included; line: all of it with its end. */
static const char *read_header(struct head *head, struct text line)
{
    struct text value = line, name = take_token(&value);
    if (line.len > KG_MULTIPART_HEADER_MAX)
        return "a header of a part is too long";
    if (name.len == 0 || !take(&value, ':'))
        return "a part has a line that is no header";
    bool once = true;
    if (is(name, "content-type") || is(name, "c"))
        once = remember(&head->type, value);
    else if (is(name, "content-disposition"))
        once = remember(&head->disposition, value);
    else if (is(name, "content-transfer-encoding"))
        once = remember(&head->encoding, value);
    else if (is(name, "content-length") || is(name, "l"))
        once = remember(&head->length, line);
    return once ? NULL : "a part has a header twice";
}

/* Where the content begins; 0 and *wrong: it cannot be told. */
static size_t read_head(struct text part, struct head *head, const char **wrong)
{
    size_t at = 0;
    *head = (struct head){0};
    for (unsigned count = 0; at < part.len; count++) {
        size_t begin = at;
        struct text line = take_line(part, &at);
        if (line.len == 0 || line.s[line.len - 1] != '\r' || part.s[at - 1] != '\n' ||
            memchr(line.s, '\0', line.len)) {
            *wrong = "a header of a part does not end with CRLF";
            return 0;
        }
        if (line.len == 1)
            return at;
        while (at < part.len && (part.s[at] == ' ' || part.s[at] == '\t'))
            take_line(part, &at);
        if (count == KG_MULTIPART_HEADERS_MAX) {
            *wrong = "a part has too many headers";
            return 0;
        }
        if ((*wrong = read_header(head, (struct text){part.s + begin, at - begin})))
            return 0;
    }
    *wrong = "a part has no end of its headers";
    return 0;
}

static bool is_plain(struct text encoding)
{
    if (!encoding.s)
        return true;
    skip_blanks(&encoding);
    struct text word = take_token(&encoding);
    return is(word, "7bit") || is(word, "8bit") || is(word, "binary");
}

static bool is_session(struct text disposition)
{
    if (!disposition.s)
        return true;
    skip_blanks(&disposition);
    struct text word = take_token(&disposition);
    return is(word, "session");
}

static bool is_sdp(struct text type)
{
    skip_blanks(&type);
    return is(take_token(&type), "application") && take(&type, '/') && is(take_token(&type), "sdp");
}

/* One part of a multipart at that depth. */
static void read_part(struct reading *r, struct text body, unsigned depth)
{
    struct head head;
    if (++r->parts > KG_MULTIPART_PARTS_MAX) {
        r->wrong = "it has too many parts";
        return;
    }
    size_t content = read_head(body, &head, &r->wrong);
    if (content == 0)
        return;
    struct text type = head.type;
    if (type.s && is_multipart(&type)) {
        if (depth == KG_MULTIPART_DEPTH_MAX) {
            r->wrong = "its parts are nested too deep";
            return;
        }
        struct part *inner = &r->todo[r->count++]; /* fewer than parts */
        inner->body = (struct text){body.s + content, body.len - content};
        inner->depth = depth + 1;
        if (!take_boundary(head.type, inner->boundary))
            r->wrong = "a multipart in it has no valid boundary";
    } else if (head.type.s && is_sdp(head.type)) {
        if (r->found) {
            r->wrong = "it has more than one session description";
        } else if (!is_session(head.disposition)) {
            r->wrong = "it has a session description for another purpose than the session";
        } else if (!is_plain(head.encoding)) {
            r->wrong = "its session description is encoded";
        } else {
            r->found = true;
            *r->out = (struct kg_multipart){.sdp_at = (size_t)(body.s - r->begin) + content,
                                            .sdp_len = body.len - content};
            if (head.length.s) {
                r->out->length_at = (size_t)(head.length.s - r->begin);
                r->out->length_len = head.length.len;
            }
        }
    }
}

enum delimiter { NO_DELIMITER, DELIMITER, CLOSE_DELIMITER, DOUBTFUL };

/* A line without its LF. What begins like a delimiter and goes on otherwise is one to some (RFC 2046 5.1.1).
 */
static enum delimiter delimiter_of(struct text line, const char *boundary)
{
    size_t len = strlen(boundary);
    if (line.len < len + 2 || memcmp(line.s, "--", 2) != 0 || memcmp(line.s + 2, boundary, len) != 0)
        return NO_DELIMITER;
    struct text rest = {line.s + 2 + len, line.len - 2 - len};
    bool close = rest.len >= 2 && memcmp(rest.s, "--", 2) == 0;
    if (close)
        rest.s += 2, rest.len -= 2;
    while (rest.len > 0 && (rest.s[0] == ' ' || rest.s[0] == '\t'))
        rest.s++, rest.len--;
    if (rest.len == 1 && rest.s[0] == '\r')
        return close ? CLOSE_DELIMITER : DELIMITER;
    return rest.len == 0 && close ? CLOSE_DELIMITER : DOUBTFUL; /* the last line may lack its end */
}

static void read_multipart(struct reading *r, const struct part *multipart)
{
    struct text in = multipart->body;
    size_t at = 0, begin = 0;
    bool inside = false;
    while (at < in.len && !r->wrong) {
        size_t line_at = at;
        enum delimiter what = delimiter_of(take_line(in, &at), multipart->boundary);
        if (what == NO_DELIMITER)
            continue;
        /* The CRLF before it is its own; without headers and content a part may have none. */
        bool crlf = line_at == 0 || (line_at >= 2 && in.s[line_at - 2] == '\r');
        if (what == DOUBTFUL || !crlf) {
            r->wrong = "a delimiter in it is not clear";
        } else {
            size_t end = line_at >= begin + 2 ? line_at - 2 : begin;
            if (inside)
                read_part(r, (struct text){in.s + begin, end - begin}, multipart->depth);
            inside = true;
            begin = at;
        }
        if (what == CLOSE_DELIMITER) { /* what follows is its epilogue, which is for nobody */
            for (; at < in.len && !r->wrong;)
                if (delimiter_of(take_line(in, &at), multipart->boundary) != NO_DELIMITER)
                    r->wrong = "it goes on after its end";
            return;
        }
    }
    if (!r->wrong)
        r->wrong = "it has no end";
}

enum kg_multipart_found kg_multipart_find(const char *content_type, const char *body, size_t len,
                                          struct kg_multipart *out, char *error, size_t size)
{
    struct reading r = {.begin = body, .out = out, .count = 1};
    *out = (struct kg_multipart){0};
    r.todo[0].body = (struct text){body, len};
    r.todo[0].depth = 1;
    if (strlen(content_type) > KG_MULTIPART_HEADER_MAX ||
        !take_boundary((struct text){content_type, strlen(content_type)}, r.todo[0].boundary))
        r.wrong = "its Content-Type has no valid boundary";
    for (unsigned i = 0; i < r.count && !r.wrong; i++)
        read_multipart(&r, &r.todo[i]);
    if (!r.wrong && r.parts == 0)
        r.wrong = "it has no parts";
    if (r.wrong) {
        snprintf(error, size, "the multipart body cannot be read: %s", r.wrong);
        return KG_MULTIPART_BAD;
    }
    return r.found ? KG_MULTIPART_SDP : KG_MULTIPART_NONE;
}

char *kg_multipart_put(const char *body, size_t len, const struct kg_multipart *at, const char *sdp,
                       size_t sdp_len, size_t *out_len)
{
    size_t after = at->sdp_at + at->sdp_len;
    size_t skip =
        at->length_len ? at->length_at : at->sdp_at; /* the headers up to there, and from behind that */
    size_t go_on = skip + at->length_len;
    char *out = malloc(len - at->sdp_len - at->length_len + sdp_len + 1), *end = out;
    if (!out)
        return NULL;
    memcpy(end, body, skip);
    end += skip;
    memcpy(end, body + go_on, at->sdp_at - go_on);
    end += at->sdp_at - go_on;
    memcpy(end, sdp, sdp_len);
    end += sdp_len;
    memcpy(end, body + after, len - after);
    end += len - after;
    *end = '\0';
    *out_len = (size_t)(end - out);
    return out;
}
