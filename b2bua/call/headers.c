/* Everything that is not in these tables stays on its side: Via, Record-Route, Contact, Call-ID, User-Agent
 * and Server tell of the network they come from. */
#include "b2bua/call/headers.h"

#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/identity.h"

enum {
    PHONE = KG_PEER_PHONE,
    PBX = KG_PEER_PBX,
    TRUNK = KG_PEER_TRUNK,
    SERVER = PBX | TRUNK,
    ANY = PHONE | SERVER,
};

/* What else must hold. */
enum rule {
    FREE,
    FROM_TRUSTED, /* forged, it would name somebody else's identity or bill */
    ASSERTED,     /* from the trust domain; out of it only to phones, and not who is private (RFC 3325 7) */
    PREFERRED,    /* out of the trust domain not who is private */
    HISTORY,      /* FROM_TRUSTED, and out of the domain not with Privacy: history, header (RFC 7044 10.1) */
};

struct row {
    unsigned from, to; /* kinds of peers */
    enum rule rule;
};

static const struct {
    msg_hclass_t *class;
    struct row row;
} known[] = {
    {sip_subject_class, {ANY, ANY, FREE}},
    {sip_priority_class, {ANY, ANY, FREE}},
    {sip_privacy_class, {ANY, ANY, FREE}},
    {sip_date_class, {ANY, ANY, FREE}}, /* signed by Identity (RFC 8224) */
    {sip_accept_language_class, {ANY, ANY, FREE}},
    {sip_reason_class, {ANY, ANY, FREE}},
    {sip_in_reply_to_class, {ANY, ANY, FREE}},
    {sip_organization_class, {SERVER, ANY, FREE}},
    /* RFC 3841 */
    {sip_request_disposition_class, {ANY, SERVER, FREE}},
    {sip_accept_contact_class, {ANY, SERVER, FREE}},
    {sip_reject_contact_class, {ANY, SERVER, FREE}},
    /* Credentials go only to the PBX they are for, challenges only come from it (CVE-2021-41158). A trunk's
     * are kedge's own business. */
    {sip_authorization_class, {PHONE, PBX, FREE}},
    {sip_proxy_authorization_class, {PHONE, PBX, FREE}},
    {sip_www_authenticate_class, {PBX, PHONE, FREE}},
    {sip_proxy_authenticate_class, {PBX, PHONE, FREE}},
    {sip_authentication_info_class, {PBX, PHONE, FREE}},
    {sip_proxy_authentication_info_class, {PBX, PHONE, FREE}},
    /* Phones answer or show what these say: for a PBX to decide, never for another phone. */
    {sip_call_info_class, {PBX, PHONE, FREE}},
    {sip_call_info_class, {PHONE | TRUNK, PBX, FREE}},
    {sip_error_info_class, {SERVER, ANY, FREE}},
    {sip_retry_after_class, {SERVER, ANY, FREE}},
};

/* Headers that libsofia has no class for: one line each, as it came. */
static const struct {
    const char *name;
    struct row row;
} unknown[] = {
    {"Alert-Info", {PBX, PHONE, FREE}}, /* ring tones and automatic answer */
    {"Alert-Info", {PHONE | TRUNK, PBX, FREE}},
    {"Answer-Mode", {PBX, PHONE, FREE}}, /* RFC 5373 */
    {"Answer-Mode", {PHONE, PBX, FREE}},
    {"Priv-Answer-Mode", {PBX, PHONE, FREE}},
    {"Priv-Answer-Mode", {PHONE, PBX, FREE}},
    {"P-Asserted-Identity", {SERVER, ANY, ASSERTED}},
    {"P-Preferred-Identity", {PHONE, PBX, FREE}}, /* whom the PBX shall assert; a trunk: the PBX */
    {"P-Preferred-Identity", {PBX, TRUNK, PREFERRED}},
    {"Remote-Party-ID", {SERVER, ANY, ASSERTED}}, /* what was there before RFC 3325 */
    {"Diversion", {SERVER, ANY, HISTORY}},        /* RFC 5806 */
    {"History-Info", {SERVER, ANY, HISTORY}},     /* RFC 7044 */
    {"Identity", {ANY, ANY, FREE}},               /* signed: proves itself (RFC 8224) */
    {"Identity-Info", {ANY, ANY, FREE}},
    {"Geolocation", {ANY, SERVER, FREE}}, /* RFC 6442: for who routes, not for who answers */
    {"Geolocation-Routing", {ANY, SERVER, FREE}},
    {"Geolocation-Error", {SERVER, ANY, FREE}},
    {"Resource-Priority", {SERVER, ANY, FROM_TRUSTED}}, /* RFC 4412 11: authorised by the domain */
    {"Resource-Priority", {PHONE, PBX, FREE}},
    {"Accept-Resource-Priority", {ANY, ANY, FREE}},
    {"P-Early-Media", {SERVER, SERVER, FROM_TRUSTED}}, /* RFC 5009 */
    {"User-to-User", {ANY, ANY, FREE}},                /* RFC 7433 */
};

bool kg_peer_is_trusted(struct kg_peer peer)
{
    return peer.kind == KG_PEER_PBX || (peer.kind == KG_PEER_TRUNK && peer.trusted);
}

void kg_headers_none(struct kg_passed *out)
{
    out->tag[0] = (tagi_t){NULL, 0};
    out->texts = 0;
}

/* One message on its way. */
struct passage {
    struct kg_peer from, to;
    struct kg_privacy privacy;
};

/* RFC 3325 7 asks it of `id` alone; but who wants to be anonymous in From (RFC 3323 5.3) would be named here.
 */
static bool is_private(const struct passage *p)
{
    return p->privacy.id || p->privacy.user || p->privacy.header;
}

static bool is_allowed(const struct row *row, const struct passage *p)
{
    bool domain = kg_peer_is_trusted(p->to);
    if (!(row->from & p->from.kind) || !(row->to & p->to.kind))
        return false;
    switch (row->rule) {
    case FREE:
        return true;
    case FROM_TRUSTED:
        return kg_peer_is_trusted(p->from);
    case ASSERTED:
        return kg_peer_is_trusted(p->from) && (domain || (p->to.kind == KG_PEER_PHONE && !is_private(p)));
    case PREFERRED:
        return domain || !is_private(p);
    case HISTORY:
        return kg_peer_is_trusted(p->from) && (domain || !(p->privacy.history || p->privacy.header));
    }
    return false;
}

static bool is_clean(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* A value folded over lines is the same on one (RFC 3261 7.3.1), where no careless reader takes its second
 * line for another header. In place: the message is ours. */
static void unfold(const char *value)
{
    for (char *at = (char *)value; at && *at; at++)
        if ((*at == '\r' || *at == '\n') && at[strspn(at, "\r\n")])
            *at = ' ';
}

/* What libsofia has parsed may still hold control characters in its texts, which a terminal or a log obeys.
 * Longer than this no header of the table is. */
#define KNOWN_MAX 4096

static bool is_fit(const msg_header_t *header)
{
    char text[KNOWN_MAX];
    const msg_hclass_t *class = header->sh_class;
    if (class == sip_subject_class || class == sip_organization_class) /* the rest is made of tokens */
        unfold(((const msg_generic_t *)header)->g_string);
    for (; header; header = header->sh_next) {
        issize_t len = msg_header_field_e(text, sizeof text, header, 0);
        if (len < 0 || (size_t)len >= sizeof text || !is_clean(text, (size_t)len))
            return false;
    }
    return true;
}

/* "X-*" stands for every name that begins so. */
static bool matches(const char *pattern, const char *name)
{
    size_t len = strlen(pattern);
    if (len > 0 && pattern[len - 1] == '*')
        return strncasecmp(pattern, name, len - 1) == 0;
    return strcasecmp(pattern, name) == 0;
}

/* Some ask for privacy inside of themselves: Remote-Party-ID, each Diversion (RFC 5806), each URI of
 * History-Info (RFC 7044 10.1: "?Privacy=history"). */
static bool is_private_entry(const sip_unknown_t *header, const struct passage *p)
{
    static const char *const names[] = {"Remote-Party-ID", "Diversion", "History-Info"};
    const char *asked = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !asked; i++)
        if (strcasecmp(header->un_name, names[i]) == 0)
            asked = strcasestr(header->un_value, "privacy=");
    return asked && strncasecmp(asked + 8, "off", 3) != 0 && strncasecmp(asked + 8, "none", 4) != 0 &&
           !kg_peer_is_trusted(p->to);
}

static bool may_pass(const struct kg_config *config, const sip_unknown_t *header, const struct passage *p)
{
    bool listed = false;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        if (strcasecmp(header->un_name, unknown[i].name) != 0)
            continue;
        listed = true; /* the configuration cannot open what this table closes */
        if (is_allowed(&unknown[i].row, p))
            return !is_private_entry(header, p);
    }
    for (size_t i = 0; !listed && i < config->sip.pass_headers_count; i++)
        if (matches(config->sip.pass_headers[i].text, header->un_name))
            return true;
    return false;
}

size_t kg_headers_pass(const struct kg_config *config, const sip_t *sip, struct kg_peer from,
                       struct kg_peer to, struct kg_passed *out)
{
    struct passage p = {.from = from, .to = to, .privacy = kg_privacy_of(sip)};
    size_t count = 0, left_out = 0;
    out->texts = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const msg_header_t *header =
            is_allowed(&known[i].row, &p) ? msg_header_access((const msg_pub_t *)sip, known[i].class) : NULL;
        if (header && is_fit(header))
            out->tag[count++] = (tagi_t){siptag_header, (tag_value_t)header};
        else
            left_out += header != NULL;
    }
    for (const sip_unknown_t *header = sip->sip_unknown; header; header = header->un_next) {
        if (!may_pass(config, header, &p))
            continue;
        unfold(header->un_value);
        if (count == KG_PASSED_MAX || !is_clean(header->un_value, strlen(header->un_value))) {
            left_out++;
            continue;
        }
        sip_unknown_t *copy = &out->unknown[count]; /* alone: nta would take the rest of the list too */
        *copy = *header;
        copy->un_next = NULL;
        out->tag[count++] = (tagi_t){siptag_header, (tag_value_t)copy};
    }
    out->tag[count] = (tagi_t){NULL, 0};
    return left_out;
}
_Static_assert(sizeof known / sizeof known[0] < KG_PASSED_MAX, "the known ones always fit");
