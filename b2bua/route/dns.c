#include "b2bua/route/dns.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "conf/bytes.h"

#define HEADER_BYTES 12
/* RFC 1035 4.1.1 */
#define FLAG_RESPONSE  0x8000
#define FLAG_TRUNCATED 0x0200
#define RCODE_MASK     0x000f
enum { NO_ERROR = 0, NO_SUCH_NAME = 3 };
/* RFC 1035 3.2.2, 3.2.4 */
#define TYPE_SOA 6
#define CLASS_IN 1
/* RFC 1035 2.3.4 */
#define LABEL_MAX 63
/* RFC 1035 4.1.4: each pointer must lead further back, so that so many are more than any honest name has. */
#define POINTERS_MAX 32
/* Where the answer without records does not say. */
#define NEGATIVE_TTL_S 60

/* What is left of the message. */
struct reader {
    const uint8_t *message;
    size_t len, at;
    bool bad; /* something did not fit; everything read since is zero */
};

static const uint8_t *take(struct reader *r, size_t len)
{
    static const uint8_t nothing[16];
    const uint8_t *at = r->message + r->at;

    if (r->bad || len > r->len - r->at) {
        r->bad = true;
        return nothing;
    }
    r->at += len;
    return at;
}

static uint16_t take16(struct reader *r)
{
    return kg_read16(take(r, 2));
}

static uint32_t take32(struct reader *r)
{
    return kg_read32(take(r, 4));
}

/* Letters, digits, "-" and "_": the only names that may stand in a URI or be asked for again. */
static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* A name as text without the last dot, "" for the root. *plain: every character of it can be used. */
static void take_name(struct reader *r, char out[static KG_DOMAIN_MAX], bool *plain)
{
    size_t used = 0, at = r->at, pointers = 0;

    *plain = true;
    out[0] = '\0';
    while (!r->bad) {
        if (at >= r->len)
            break;
        size_t len = r->message[at];
        if ((len & 0xc0) == 0xc0 && at + 1 < r->len) {
            size_t target = (size_t)kg_read16(r->message + at) & 0x3fff;
            if (pointers++ == 0)
                r->at = at + 2;
            if (target >= at || pointers > POINTERS_MAX)
                break;
            at = target;
            continue;
        }
        if (len > LABEL_MAX || len > r->len - at - 1 || used + len + 2 > KG_DOMAIN_MAX)
            break;
        if (len == 0) {
            if (pointers == 0)
                r->at = at + 1;
            return;
        }
        if (used > 0)
            out[used++] = '.';
        for (size_t i = 0; i < len; i++) {
            *plain = *plain && is_plain(r->message[at + 1 + i]);
            out[used++] = (char)r->message[at + 1 + i];
        }
        out[used] = '\0';
        at += 1 + len;
    }
    r->bad = true;
}

/* RFC 1035 3.3: <character-string>. Longer ones than fit are of no known kind, and become "". */
static void take_text(struct reader *r, char *out, size_t size)
{
    size_t len = take(r, 1)[0];
    const uint8_t *text = take(r, len);

    if (r->bad || len >= size)
        len = 0;
    memcpy(out, text, len);
    out[len] = '\0';
}

static bool take_address(struct reader *r, enum kg_dns_type type, struct kg_addr *out)
{
    *out = (struct kg_addr){0};
    if (type == KG_DNS_A) {
        out->in4.sin_family = AF_INET;
        memcpy(&out->in4.sin_addr, take(r, 4), 4);
    } else {
        out->in6.sin6_family = AF_INET6;
        memcpy(&out->in6.sin6_addr, take(r, 16), 16);
    }
    return true;
}

static bool take_srv(struct reader *r, struct kg_dns_srv *out)
{
    bool plain;

    out->priority = take16(r);
    out->weight = take16(r);
    out->port = take16(r);
    take_name(r, out->target, &plain);
    return plain;
}

static bool take_naptr(struct reader *r, struct kg_dns_naptr *out)
{
    char regexp[KG_DOMAIN_MAX];
    bool plain;

    out->order = take16(r);
    out->preference = take16(r);
    take_text(r, out->flags, sizeof out->flags);
    take_text(r, out->service, sizeof out->service);
    take_text(r, regexp, sizeof regexp);
    take_name(r, out->replacement, &plain);
    return plain && out->replacement[0] != '\0';
}

/* One record's data into the next place of out; a record that kedge cannot use takes none. */
static void take_record(struct reader *r, size_t len, struct kg_dns_answer *out)
{
    struct reader data = {.message = r->message, .len = r->at + len, .at = r->at};
    bool useful = false;

    switch (out->type) {
    case KG_DNS_A:
    case KG_DNS_AAAA:
        useful = take_address(&data, out->type, &out->addr[out->count]);
        break;
    case KG_DNS_SRV:
        useful = take_srv(&data, &out->srv[out->count]);
        break;
    case KG_DNS_NAPTR:
        useful = take_naptr(&data, &out->naptr[out->count]);
        break;
    }
    if (data.bad)
        r->bad = true;
    else
        out->count += useful;
}

/* The answer section; then, if it has nothing, what the authority says of how long that holds (RFC 2308 5).
 */
static void take_sections(struct reader *r, unsigned answers, unsigned authorities, struct kg_dns_answer *out)
{
    char name[KG_DOMAIN_MAX];
    uint32_t ttl_s = UINT32_MAX;
    bool plain;

    for (unsigned i = 0; i < answers + authorities && !r->bad; i++) {
        take_name(r, name, &plain);
        unsigned type = take16(r), class = take16(r);
        uint32_t ttl = take32(r);
        size_t len = take16(r), data = r->at;
        if (r->bad || len > r->len - r->at) {
            r->bad = true;
            return;
        }
        /* Records of other types in the answer are the CNAMEs on the way (RFC 1034 3.6.2): they count for the
         * time. */
        if (i < answers && class == CLASS_IN && ttl < ttl_s)
            ttl_s = ttl;
        if (i < answers && class == CLASS_IN && type == (unsigned)out->type &&
            out->count < KG_DNS_RECORDS_MAX)
            take_record(r, len, out);
        if (i >= answers && out->count == 0 && type == TYPE_SOA && len >= 4) {
            uint32_t minimum = kg_read32(r->message + data + len - 4);
            ttl_s = ttl < minimum ? ttl : minimum;
        }
        r->at = data + len;
    }
    out->ttl_s = ttl_s != UINT32_MAX ? ttl_s : NEGATIVE_TTL_S;
}

int kg_dns_parse(const uint8_t *message, size_t len, enum kg_dns_type type, struct kg_dns_answer *out)
{
    struct reader r = {.message = message, .len = len};
    char name[KG_DOMAIN_MAX];
    bool plain;

    memset(out, 0, sizeof *out);
    out->type = type;
    if (len < HEADER_BYTES)
        return EPROTO;
    unsigned flags = kg_read16(message + 2), questions = kg_read16(message + 4);
    unsigned answers = kg_read16(message + 6), authorities = kg_read16(message + 8);
    if (!(flags & FLAG_RESPONSE) || (flags & FLAG_TRUNCATED) != 0)
        return EPROTO;
    if ((flags & RCODE_MASK) != NO_ERROR && (flags & RCODE_MASK) != NO_SUCH_NAME)
        return EAGAIN;
    r.at = HEADER_BYTES;
    for (unsigned i = 0; i < questions && !r.bad; i++) {
        take_name(&r, name, &plain);
        take(&r, 4);
    }
    take_sections(&r, answers, authorities, out);
    return r.bad ? EPROTO : 0;
}
