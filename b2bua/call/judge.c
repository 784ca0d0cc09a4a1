/* What a response to the first INVITE says of the server that was asked, and of who calls. */
#include "b2bua/call/call.h"

#include "b2bua/registrar/registrar.h"

void kg_judge_heard(struct kg_call *call)
{
    if (!call->unheard)
        return;
    call->unheard = false;
    kg_peers_heard(call->calls->server->peers, call->asked);
}

void kg_judge(struct kg_leg *leg, enum kg_outcome outcome, uint32_t retry_after_s)
{
    if (leg->side == KG_SIDE_B && leg->peer != KG_PEER_NONE && leg->call->fsm.state == KG_CALL_CALLING)
        kg_peers_outcome(leg->call->calls->server->peers, leg->peer, outcome, retry_after_s);
}

/* What a response to the first INVITE says of the server that was asked. */
static void judge_server(struct kg_leg *leg, const sip_t *sip, int status)
{
    bool own = !sip || nta_sip_is_internal(sip); /* nta's words for a request that it could not send */
    uint32_t retry_after_s = sip && sip->sip_retry_after ? (uint32_t)sip->sip_retry_after->af_delta : 0;
    if (own && status == 408)
        kg_judge(leg, KG_OUTCOME_SILENT, 0);
    else if (own)
        kg_judge(leg, KG_OUTCOME_UNREACHABLE, 0);
    else if (status == 503)
        kg_judge(leg, KG_OUTCOME_BUSY, retry_after_s);
    else if (status > 100) /* 100 is said by the stack of a server that has not looked at it yet */
        kg_judge(leg, KG_OUTCOME_GOOD, 0);
}

/* A PBX checks the password of who calls. */
static void judge_caller(struct kg_call *call, const struct kg_leg *leg, const sip_t *sip, int status)
{
    const struct kg_leg *caller = &call->leg[KG_SIDE_A];
    if (status >= 200 && sip && !nta_sip_is_internal(sip) && leg->side == KG_SIDE_B && leg->pbx &&
        !leg->trunk && caller->irq && !caller->pbx && nta_incoming_method(caller->irq) == sip_method_invite)
        kg_registrar_judge(call->calls->server->registrar, &caller->flow, caller->irq, sip);
}

void kg_judge_response(struct kg_leg *leg, const sip_t *sip, int status)
{
    struct kg_call *call = leg->call;
    if (leg->peer == call->asked)
        kg_judge_heard(call);
    judge_server(leg, sip, status);
    judge_caller(call, leg, sip, status);
}
