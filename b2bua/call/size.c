/* How large an INVITE gets, before it is written. */
#include "b2bua/call/call.h"

#include <string.h>

#include <sofia-sip/sip_header.h>

#include "conf/log.h"

/* RFC 3261 18.1.1: a request over UDP stays below this, or goes over TCP. */
#define UDP_BYTES_MAX 1300
/* Even so, that much of a description is written: what a phone needs at least. */
#define SDP_LEAST 200

/* What the stack adds to what is summed up below: the method, versions, names of headers, Via with branch and
 * rport, our tags, Call-ID, CSeq, Max-Forwards, Content-Type, Content-Length, User-Agent, Supported,
 * Session-Expires, Recv-Info.
 */
#define HEADER_BYTES 400

static size_t url_size(const char *url)
{
    return url ? strlen(url) : 0;
}

/* As it would be on the wire. */
static size_t header_size(const msg_header_t *header)
{
    issize_t len = msg_header_e(NULL, 0, header, 0);
    return len > 0 ? (size_t)len : 0;
}

/* About, of an INVITE on this leg. sip: the message whose headers pass; NULL: the other side's INVITE, if
 * there is one. */
static size_t size_of_headers(const struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_leg *other = &leg->call->leg[kg_other_side(leg->side)];
    char contact_buf[KG_CONTACT_URL];
    sip_contact_t contact[1];
    struct kg_passed passed;
    const sip_route_t *route = NULL;
    const sip_contact_t *target = NULL;
    msg_t *msg = !sip ? kg_leg_invite(other) : NULL;
    size_t size = HEADER_BYTES;
    kg_leg_contact(leg, contact, contact_buf);
    if (leg->dialog)
        nta_leg_get_route(leg->dialog, &route, &target);
    size += target ? (size_t)url_len(target->m_url) : url_size(leg->target);
    size += url_size(leg->local) + url_size(leg->remote) + url_size(contact_buf);
    for (; route; route = route->r_next)
        size += header_size((const msg_header_t *)route);
    size += header_size((const msg_header_t *)leg->call->calls->allow);
    kg_headers_none(&passed);
    if (sip || msg)
        kg_headers_pass(&leg->call->calls->server->config, sip ? sip : sip_object(msg), kg_leg_peer(other),
                        kg_leg_peer(leg), &passed);
    for (const tagi_t *tag = passed.tag; tag->t_tag; tag++)
        size += header_size((const msg_header_t *)tag->t_value);
    msg_destroy(msg);
    return size;
}

size_t kg_size_left(const struct kg_leg *leg)
{
    if (leg->flow.transport != KG_UDP)
        return 0;
    size_t headers = size_of_headers(leg, NULL);
    return headers + SDP_LEAST < UDP_BYTES_MAX ? UDP_BYTES_MAX - headers : SDP_LEAST;
}

void kg_size_note(const struct kg_leg *leg, const sip_t *sip, size_t body)
{
    if (leg->flow.transport != KG_UDP)
        return;
    size_t size = body + size_of_headers(leg, sip);
    if (size <= UDP_BYTES_MAX)
        return;
    kg_info("call",
            "call %s: the INVITE to %s has about %zu bytes and goes by UDP all the same: %s. If it does not "
            "arrive, let it use TCP or TLS.",
            leg->call->record->id, leg->call->record->leg[leg->side].user, size,
            leg->pbx ? "that is how the PBX was configured" : "no other way leads back to the phone");
}
