/* What nta would answer somewhere else than where the request came from: over UDP, a stranger could aim kedge
 * at a third party with it. It never reaches nta. Another version is refused here, toward the source. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include <sofia-sip/msg_addr.h>
#include <sofia-sip/msg_header.h>
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/sip/hush.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/stack.h"
#include "b2bua/sip/tport_abi.h"

/* The library calls admit() without a context; there is one stack a process. */
static nta_agent_t *agent;

void kg_sip_admit_for(nta_agent_t *used)
{
    agent = used;
}

/* nta sends the 505 for another version, and the 400 when the transport in the Via is not the real one, to
 * the host in the Via; and every answer to maddr, which only multicast needs. */
static bool is_answered_elsewhere(const sip_t *sip)
{
    const sip_via_t *via = sip->sip_via;
    return strcasecmp(sip->sip_request->rq_version, "SIP/2.0") != 0 ||
           (via && (via->v_maddr || strcasecmp(via->v_protocol, "SIP/2.0/UDP") != 0));
}

/* RFC 3581 4, whether the phone asked for it or not. 0 or ENOMEM. */
static int turn_back(msg_t *msg, sip_via_t *via, const struct kg_addr *source)
{
    char host[KG_ADDR_STR];
    su_home_t *home = msg_home(msg);
    const char *received = su_sprintf(home, "received=%s", kg_addr_format_host(source, host));
    const char *rport = su_sprintf(home, "rport=%u", (unsigned)kg_addr_port(source));
    if (!received || !rport || msg_header_replace_param(home, via->v_common, received) < 0 ||
        msg_header_replace_param(home, via->v_common, rport) < 0)
        return ENOMEM;
    return via->v_received && via->v_rport ? 0 : ENOMEM;
}

/* Consumes msg. RFC 3261 21.5.6; nothing is answered that might be an ACK (17.1.1.3). */
static void refuse(tport_t *tport, msg_t *msg, sip_t *sip)
{
    if (sip->sip_via)
        sip->sip_via->v_protocol = sip_transport_udp; /* the library knows no other version's */
    struct kg_addr source = kg_addr_from_sockaddr(&msg_addr(msg)->su_sa);
    const char *version = sip->sip_request->rq_version;
    bool is_version = strncasecmp(version, "SIP/", 4) == 0 && strcasecmp(version, "SIP/2.0") != 0;
    if (!agent || !is_version || !sip->sip_via || sip->sip_via->v_maddr || !sip->sip_from || !sip->sip_to ||
        !sip->sip_call_id || !sip->sip_cseq || sip->sip_cseq->cs_method == sip_method_ack ||
        !kg_addr_is_set(&source) || turn_back(msg, sip->sip_via, &source) != 0) {
        msg_destroy(msg);
        return;
    }
    nta_msg_treply(agent, msg, SIP_505_VERSION_NOT_SUPPORTED, NTATAG_TPORT(tport),
                   SIPTAG_SERVER_STR(KG_SIP_SERVER), TAG_END());
}

static void admit(tport_t *tport, msg_t *msg, su_time_t now)
{
    sip_t *sip = sip_object(msg);
    if (kg_screen_is_malformed(msg, sip))
        kg_screen_fault(msg, "", KG_FAULT_MALFORMED);
    if (sip && sip->sip_request && is_answered_elsewhere(sip))
        refuse(tport, msg, sip);
    else if (sip && sip->sip_request && kg_is_hushed(sip))
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
