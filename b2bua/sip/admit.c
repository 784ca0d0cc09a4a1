/* What nta would answer somewhere else than where the request came from: over UDP, a stranger could aim kedge
 * at a third party with it. It is dropped before nta sees it. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/sip_header.h>

#include "b2bua/sip/hush.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/stack.h"
#include "b2bua/sip/tport_abi.h"

/* nta sends the 505 for another version, and the 400 when the transport in the Via is not the real one, to
 * the host in the Via; and every answer to maddr (RFC 3261 18.2.2), which only multicast needs. */
static bool is_answered_elsewhere(const sip_t *sip)
{
    const sip_via_t *via = sip->sip_via;
    return strcasecmp(sip->sip_request->rq_version, "SIP/2.0") != 0 ||
           (via && (via->v_maddr || strcasecmp(via->v_protocol, "SIP/2.0/UDP") != 0));
}

static void admit(tport_t *tport, msg_t *msg, su_time_t now)
{
    const sip_t *sip = sip_object(msg);
    if (kg_screen_is_malformed(msg, sip))
        kg_screen_fault(msg, "", KG_FAULT_MALFORMED);
    if (sip && sip->sip_request && (is_answered_elsewhere(sip) || kg_is_hushed(sip)))
        msg_destroy(msg);
    else
        tport_base_deliver(tport, msg, now);
}

void kg_sip_admit_stream(tport_t *tport, msg_t *msg, su_time_t now)
{
    const sip_t *sip = sip_object(msg);
    if (sip && kg_is_hushed(sip))
        msg_destroy(msg);
    else
        tport_base_deliver(tport, msg, now);
}

int kg_sip_admit_udp(void)
{
    static struct kg_tport_type type;
    if (type.name)
        return 0;
    if (tport_udp_vtable.primary_size != KG_TPORT_PRIMARY_SIZE ||
        tport_udp_vtable.secondary_size != KG_TPORT_SECONDARY_SIZE ||
        strcmp(tport_udp_vtable.name, "udp") != 0 || tport_udp_vtable.public_kind != 0 ||
        tport_udp_vtable.deliver)
        return ENOSYS;
    type = tport_udp_vtable;
    type.deliver = admit;
    return tport_register_type(&type) == 0 ? 0 : ENOMEM;
}
