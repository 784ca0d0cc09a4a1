/* BYE: kedge's own, and that of a phone toward a PBX. */
#include "b2bua/call/call.h"

#include <stdio.h>

#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "conf/clock.h"

/* ---- kedge's own ---- */

static int on_response(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    if ((sip && sip->sip_status->st_status < 200) || orq != leg->bye)
        return 0;
    if (kg_prove(leg, &leg->bye, sip, on_response))
        return 0;
    leg->bye = NULL;
    nta_outgoing_destroy(orq);
    kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
    return 0;
}

void kg_bye_send(struct kg_leg *leg, int status, const char *why)
{
    char route[KG_HOP_URL], reason[160] = "";
    if (leg->bye) /* passed on from the other side: its answer is awaited already */
        return;
    if (leg->bye_answered || !kg_leg_is_reachable(leg)) {
        kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
        return;
    }
    const sip_t *cause = leg->call->cause;
    const sip_reason_t *passed = cause && cause->sip_request ? cause->sip_reason : NULL;
    struct kg_body body;
    kg_body_begin(&body);
    if (cause && cause->sip_request && cause->sip_request->rq_method == sip_method_bye)
        kg_body_pass_foreign(&body, cause);
    if (why && !passed) /* RFC 3326 */
        snprintf(reason, sizeof reason, "SIP;cause=%d;text=\"%s\"", status, why);
    leg->bye = nta_outgoing_tcreate(
        leg->dialog, on_response, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_BYE, NULL,
        NTATAG_TPORT(leg->flow.tport), TAG_IF(reason[0], SIPTAG_REASON_STR(reason)),
        TAG_IF(passed, SIPTAG_REASON(passed)), TAG_NEXT(kg_body_tags(&body, NULL)));
    kg_body_end(&body);
    leg->bye = kg_out_keep(leg, leg->bye);
    if (!leg->bye)
        kg_leg_tell(leg, KG_EV_BYE_DONE, 0, false);
}

void kg_bye_follow(struct kg_leg *leg)
{
    kg_out_again(leg, &leg->bye, on_response);
}

void kg_bye_leave(struct kg_leg *leg)
{
    char route[KG_HOP_URL];
    if (!leg->standing || !leg->dialog)
        return;
    leg->standing = false;
    nta_outgoing_t *bye =
        nta_outgoing_tcreate(leg->dialog, NULL, NULL, (url_string_t *)kg_leg_route_url(leg, route),
                             SIP_METHOD_BYE, NULL, NTATAG_TPORT(leg->flow.tport), TAG_END());
    if (bye)
        nta_outgoing_destroy(bye); /* nta goes on sending it */
}

/* ---- a phone's toward a PBX ---- */

/* A PBX may want a password even for BYE (407, RFC 3261 22.3), and only the phone has it: so its BYE is
 * answered when the PBX has answered ours, and a challenge goes back to the phone while the call goes on. */

/* ms for the PBX to answer; then the phone is told that it is done. Its transaction would last 32 s, its
 * patience does not. */
#define ANSWER_MS 2000
/* ms for a challenged phone to come with its password. Phones that do not are gone: they have hung up. */
#define PASSWORD_MS 4000

static void end_call(struct kg_call *call)
{
    call->bye_due_ms = 0;
    kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_BYE, .side = call->bye_from});
}

void kg_bye_settle(struct kg_call *call)
{
    struct kg_leg *leg = &call->leg[call->bye_from];
    call->bye_due_ms = 0;
    if (!leg->bye_irq)
        return;
    nta_incoming_treply(leg->bye_irq, SIP_200_OK, TAG_END());
    nta_incoming_destroy(leg->bye_irq);
    leg->bye_irq = NULL;
}

static void challenge(struct kg_leg *leg, const sip_t *sip)
{
    struct kg_passed passed;
    kg_leg_pass(leg, sip, &passed);
    nta_incoming_treply(leg->bye_irq, sip->sip_status->st_status, NULL, TAG_NEXT(passed.tag));
    nta_incoming_destroy(leg->bye_irq);
    leg->bye_irq = NULL;
    leg->call->bye_due_ms = kg_mono_ms() + PASSWORD_MS;
}

static int on_answer(struct kg_leg *to, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = to->call;
    struct kg_leg *leg = &call->leg[kg_other_side(to->side)];
    int status = sip ? sip->sip_status->st_status : 408;
    if (status < 200 || orq != to->bye)
        return 0;
    call->holds++;
    to->bye = NULL;
    if (!leg->bye_irq) { /* the phone had its answer, and the call is ending */
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_BYE_DONE, .side = to->side});
    } else if (status == 401 || status == 407) {
        challenge(leg, sip);
    } else {
        to->bye_answered = true;
        kg_bye_settle(call);
        end_call(call);
    }
    nta_outgoing_destroy(orq);
    kg_call_unhold(call);
    return 0;
}

bool kg_bye_pass(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    struct kg_leg *to = &call->leg[kg_other_side(leg->side)];
    struct kg_passed passed;
    struct kg_body body;
    char route[KG_HOP_URL];
    if (leg->pbx || !to->pbx || to->trunk || call->fsm.state != KG_CALL_TALK || leg->bye_irq || to->bye ||
        !kg_leg_is_reachable(to))
        return false;
    kg_leg_pass(to, sip, &passed);
    kg_body_begin(&body);
    kg_body_pass_foreign(&body, sip);
    to->bye = nta_outgoing_tcreate(to->dialog, on_answer, to, (url_string_t *)kg_leg_route_url(to, route),
                                   SIP_METHOD_BYE, NULL, NTATAG_TPORT(to->flow.tport),
                                   TAG_NEXT(kg_body_tags(&body, passed.tag)));
    to->bye = kg_out_keep(to, to->bye);
    kg_body_end(&body);
    if (!to->bye)
        return false;
    leg->bye_irq = irq;
    call->bye_from = leg->side;
    call->bye_due_ms = kg_mono_ms() + ANSWER_MS;
    return true;
}

void kg_bye_tick(struct kg_call *call, int64_t now_ms)
{
    if (!call->bye_due_ms || now_ms < call->bye_due_ms)
        return;
    kg_bye_settle(call);
    end_call(call);
}
