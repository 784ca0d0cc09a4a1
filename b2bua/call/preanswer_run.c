/* Offers before the answer: carries out what preanswer.c decides. The request that waits is leg->arrived,
 * ours is leg->update. */
#include "b2bua/call/call.h"

#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/call/talk.h"
#include "conf/log.h"

bool kg_pre_can_pass(const struct kg_leg *from)
{
    const struct kg_call *call = from->call;
    const struct kg_leg *to = &call->leg[kg_other_side(from->side)];
    return to->allows_update && !call->leg[KG_SIDE_B].fork;
}

static int on_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    int status = sip ? sip->sip_status->st_status : 408;
    char error[160];
    if (status < 200 || orq != leg->update)
        return 0;
    struct kg_call *call = leg->call;
    bool wanted = call->fsm.pre == KG_PRE_SENT && call->fsm.pre_from != leg->side;
    if (kg_prove(leg, &leg->update, sip, on_response))
        return 0;
    leg->update = NULL;
    call->holds++;
    if (status < 300) {
        enum kg_sdp_found found = wanted ? kg_talk_take(leg, sip, error, sizeof error) : KG_SDP_NONE;
        if (found == KG_SDP_BAD)
            kg_warn("call", "call %s: the SDP of %s's answer cannot be understood: %s", call->record->id,
                    call->record->leg[leg->side].user, error);
        kg_leg_tell(leg, KG_EV_PRE_ANSWER, status, found == KG_SDP_OK);
    } else {
        kg_leg_tell(leg, KG_EV_PRE_REJECT, status, false);
    }
    nta_outgoing_destroy(orq);
    kg_call_unhold(call);
    return 0;
}

void kg_pre_update(struct kg_leg *leg)
{
    char route[KG_HOP_URL], contact_buf[KG_CONTACT_URL], options[KG_OPTIONS_TEXT];
    sip_contact_t contact[1];
    struct kg_body body;
    su_home_t home[1] = {SU_HOME_INIT(home)};
    size_t len;
    /* The caller's dialog stands since its INVITE; the callee's is that of its 18x. */
    const sip_t *early = leg->side == KG_SIDE_B ? kg_early_newest(leg) : NULL;
    char *text =
        kg_leg_is_reachable(leg) && (early || leg->side == KG_SIDE_A) ? kg_talk_text(leg, &len) : NULL;
    if (leg->update)
        nta_outgoing_destroy(leg->update);
    leg->update = NULL;
    if (!text) {
        kg_leg_tell(leg, KG_EV_PRE_REJECT, 480, false);
        return;
    }
    su_home_init(home);
    sip_route_t *routes = early ? sip_route_reverse(home, early->sip_record_route) : NULL;
    kg_leg_contact(leg, contact, contact_buf);
    kg_body_begin(&body);
    kg_body_sdp(&body, leg, text, len);
    leg->update = nta_outgoing_tcreate(
        leg->dialog, on_response, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_UPDATE,
        early && early->sip_contact ? (url_string_t *)early->sip_contact->m_url : NULL,
        NTATAG_TPORT(leg->flow.tport), TAG_IF(early, SIPTAG_TO(early ? early->sip_to : NULL)),
        TAG_IF(routes, SIPTAG_ROUTE(routes)), SIPTAG_CONTACT(contact), SIPTAG_ALLOW(leg->call->calls->allow),
        SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)), TAG_NEXT(kg_body_tags(&body, NULL)));
    leg->update = kg_out_keep(leg, leg->update);
    kg_body_end(&body);
    su_home_deinit(home);
    if (!leg->update)
        kg_leg_tell(leg, KG_EV_PRE_REJECT, 500, false);
}

void kg_pre_answer(struct kg_leg *leg)
{
    char contact_buf[KG_CONTACT_URL], options[KG_OPTIONS_TEXT];
    sip_contact_t contact[1];
    struct kg_body body;
    size_t len;
    char *text = kg_talk_text(leg, &len);
    nta_incoming_t *irq = leg->arrived;
    leg->arrived = NULL;
    kg_leg_contact(leg, contact, contact_buf);
    kg_body_begin(&body);
    if (text)
        kg_body_sdp(&body, leg, text, len);
    msg_t *offer = irq && leg->side == KG_SIDE_B ? nta_incoming_getrequest(irq) : NULL;
    if (offer)
        kg_early_speaks(leg, sip_object(offer));
    msg_destroy(offer);
    if (irq) {
        nta_incoming_treply(
            irq, text ? 200 : 500, NULL, SIPTAG_CONTACT(contact), SIPTAG_ALLOW(leg->call->calls->allow),
            SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)), TAG_NEXT(kg_body_tags(&body, NULL)));
        nta_incoming_destroy(irq);
    }
    kg_body_end(&body);
}
