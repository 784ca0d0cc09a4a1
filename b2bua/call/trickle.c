/* Candidates that come one after the other, in INFO (RFC 8840; RFC 6086 for the package). */
#include "b2bua/call/talk.h"

#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#define PACKAGE      "trickle-ice"
#define CONTENT_TYPE "application/trickle-ice-sdpfrag"
/* Each INFO repeats all candidates of its generation (RFC 8840 4.4): a few tens of 100 bytes each. */
#define BODY_MAX 8192

static const char *header(const sip_t *sip, const char *name)
{
    for (const sip_unknown_t *h = sip->sip_unknown; h; h = h->un_next)
        if (strcasecmp(h->un_name, name) == 0)
            return h->un_value ? h->un_value : "";
    return NULL;
}

/* Whether a comma-separated list of tokens with parameters has the package. */
static bool names_package(const char *list)
{
    while (list && *list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, " \t,;");
        if (len == strlen(PACKAGE) && strncasecmp(list, PACKAGE, len) == 0)
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

/* a=ice-options:trickle (RFC 8840 4.1.1), at either level of an SDP. */
static bool has_option(const sip_t *sip)
{
    static const char name[] = "a=ice-options:", word[] = "trickle";
    const sip_payload_t *body = sip->sip_payload;
    const char *p = body ? body->pl_data : NULL, *end = p ? p + body->pl_len : NULL;
    while (p && (p = memmem(p, (size_t)(end - p), name, sizeof name - 1))) {
        p += sizeof name - 1;
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((eol ? eol : end) - p);
        const char *at = memmem(p, len, word, sizeof word - 1);
        if (at && (at == p || at[-1] == ' ')) {
            at += sizeof word - 1;
            if (at == p + len || *at == ' ' || *at == '\r')
                return true;
        }
    }
    return false;
}

bool kg_trickle_is_announced(const sip_t *sip)
{
    return sip_has_feature(sip->sip_supported, PACKAGE) || names_package(header(sip, "Recv-Info")) ||
           has_option(sip);
}

static bool is_sdpfrag(const sip_t *sip)
{
    const sip_content_type_t *type = sip->sip_content_type;
    return type && type->c_type && strcasecmp(type->c_type, CONTENT_TYPE) == 0;
}

/* RFC 6086 4.2.2: the refusal says which packages would do. */
static int refuse_package(nta_incoming_t *irq, bool ice)
{
    nta_incoming_treply(irq, 469, "Bad Info Package",
                        SIPTAG_HEADER_STR(ice ? "Recv-Info: " PACKAGE : "Recv-Info: nil"), TAG_END());
    return 469;
}

/* To each of the callee's phones that ring: any of them may answer. 0: irq is answered when the first of them
 * has; else nobody was sent it. */
static int pass_on(struct kg_leg *from, struct kg_leg *to, nta_incoming_t *irq, const sip_t *sip)
{
    const sip_payload_t *body = sip->sip_payload;
    int failed = 480;
    for (unsigned n = 0; kg_branch_show(to, n); n++) {
        size_t len = 0;
        char *text = to->trickles ? kg_talk_trickle_text(from, body->pl_data, body->pl_len, &len) : NULL;
        if (text && kg_relay_info(to, failed ? irq : NULL, PACKAGE, sip->sip_content_type, text, len) == 0)
            failed = 0;
        free(text);
    }
    kg_branch_settle(to);
    return failed;
}

static int serve(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_leg *to = &call->leg[kg_other_side(leg->side)];
    const sip_payload_t *body = sip->sip_payload;
    if (!body || body->pl_len == 0)
        return 200;
    if (body->pl_len > BODY_MAX)
        return 413;
    if (call->fsm.state == KG_CALL_ENDING || call->fsm.state == KG_CALL_ENDED)
        return 481;
    leg->trickles = true;
    kg_talk_trickle(leg, body->pl_data, body->pl_len);
    return pass_on(leg, to, irq, sip) ? 200 : 0; /* what cannot go on has reached kedge all the same */
}

bool kg_trickle_request(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, int *status)
{
    const char *package = header(sip, "Info-Package");
    bool ice = leg->call->calls->server->config.media.ice;
    if (!package && !is_sdpfrag(sip))
        return false; /* INFO as it was before packages: relay.c */
    if (!ice || (package && !names_package(package))) {
        *status = refuse_package(irq, ice);
    } else if (sip->sip_payload && !is_sdpfrag(sip)) {
        nta_incoming_treply(irq, SIP_415_UNSUPPORTED_MEDIA, SIPTAG_ACCEPT_STR(CONTENT_TYPE), TAG_END());
        *status = 415;
    } else {
        *status = serve(leg, irq, sip);
    }
    return true;
}
