/* Reliable provisional responses (RFC 3262), on each leg alone: those that we send to the caller and its
 * PRACKs, and those of the callee, which we PRACK. nta keeps ours until their PRACK comes; it is given one at
 * a time, the state machine holds the rest. */
#include "b2bua/call/call.h"

#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/call/talk.h"
#include "conf/log.h"

/* ---- toward the caller ---- */

enum kg_reliable kg_reliable_of(const struct kg_calls *calls, const sip_t *sip)
{
    if (sip_has_feature(sip->sip_require, "100rel"))
        return KG_RELIABLE_ALL;
    bool known = sip_has_feature(sip->sip_supported, "100rel");
    return known && calls->server->config.calls.reliable == KG_RELIABLE_AUTO ? KG_RELIABLE_SDP
                                                                             : KG_RELIABLE_NONE;
}

static bool take_answer(struct kg_leg *leg, nta_incoming_t *prack, const sip_t *sip)
{
    struct kg_flow flow = {0};
    bool taken = kg_flow_of_incoming(leg->call->calls->agent, prack, &flow) == 0 &&
                 kg_leg_take_answer(leg, sip, &flow);
    kg_flow_clear(&flow);
    return taken;
}

/* nta's callback; sip NULL: it will not come any more. That a time is over nta tells the INVITE's callback.
 */
static int on_prack(struct kg_leg *leg, nta_reliable_t *response, nta_incoming_t *prack, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    nta_reliable_destroy(response);
    leg->unacked = NULL;
    if (!sip)
        return 0;
    call->holds++;
    bool awaited = kg_fsm_awaits_prack(&call->fsm), taken = awaited && take_answer(leg, prack, sip);
    bool offers =
        !awaited && kg_body_has_sdp(sip); /* RFC 3262 5: the INVITE's offer has its answer, or waits for it */
    if (!offers) {
        nta_incoming_treply(prack, SIP_200_OK, TAG_END());
        nta_incoming_destroy(prack);
    }
    kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_PRACK, .side = leg->side, .sdp = taken});
    if (offers)
        kg_leg_pre_offer(leg, prack, sip);
    kg_call_unhold(call);
    return 0;
}

void kg_reliable_reply(struct kg_leg *leg, int status, const tagi_t *tags)
{
    leg->unacked = nta_reliable_treply(leg->irq, on_prack, leg, status, NULL, TAG_NEXT(tags));
    if (!leg->unacked) {
        kg_warn("call", "call %s: %d could not be sent reliably to %s", leg->call->record->id, status,
                leg->call->record->leg[leg->side].user);
        kg_call_event(leg->call, &(struct kg_fsm_event){.type = KG_EV_PRACK,
                                                        .side = leg->side}); /* what follows may go */
    }
}

void kg_reliable_close(struct kg_leg *leg)
{
    if (leg->update)
        nta_outgoing_destroy(leg->update);
    leg->update = NULL;
    if (leg->unacked)
        nta_reliable_destroy(leg->unacked);
    leg->unacked = NULL;
    msg_destroy(leg->offer_18x);
    leg->offer_18x = NULL;
    free(leg->heard);
    leg->heard = NULL;
}

/* ---- from the callee ---- */

/* Early dialogs whose sequence is followed; beyond that the oldest is forgotten, and a retransmission in it
 * PRACKed again. */
#define DIALOGS_MAX 8

struct kg_heard {
    struct {
        uint64_t dialog; /* 0: none */
        uint32_t rseq;   /* of the newest response */
    } of[DIALOGS_MAX];
    uint8_t next;
};

/* Each transaction has a sequence of its own in each dialog. FNV-1a, never 0; a mix-up would drop a ringing
 * tone. */
static uint64_t dialog_of(const sip_t *sip)
{
    const char *const text[] = {sip->sip_call_id->i_id, sip->sip_to->a_tag};
    uint64_t hash = 0xcbf29ce484222325u ^ sip->sip_cseq->cs_seq;
    for (size_t i = 0; i < 2; i++)
        for (const char *c = text[i]; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash ? hash : 1;
}

/* RFC 3262 4: the first of a dialog, or the next one. */
static bool is_in_order(struct kg_leg *leg, uint64_t dialog, uint32_t rseq)
{
    if (!leg->heard && !(leg->heard = calloc(1, sizeof *leg->heard)))
        return false;
    struct kg_heard *heard = leg->heard;
    for (int i = 0; i < DIALOGS_MAX; i++)
        if (heard->of[i].dialog == dialog) {
            bool next = rseq == heard->of[i].rseq + 1;
            heard->of[i].rseq += next;
            return next;
        }
    heard->of[heard->next].dialog = dialog;
    heard->of[heard->next].rseq = rseq;
    heard->next = (uint8_t)((heard->next + 1) % DIALOGS_MAX);
    return true;
}

/* Nobody waits for its answer: nta sends it again until there is one; a trunk may want a proof. */
static void send_prack(struct kg_leg *leg, const sip_t *sip, char *sdp, size_t len)
{
    struct kg_body body;
    char route[KG_HOP_URL];
    sip_rack_t rack[1];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    su_home_init(home);
    const sip_route_t *known = NULL;
    const sip_contact_t *target = NULL;
    kg_body_begin(&body);
    if (sdp)
        kg_body_sdp(&body, leg, sdp, len);
    sip_rack_init(rack);
    rack->ra_response = sip->sip_rseq->rs_response;
    rack->ra_cseq = sip->sip_cseq->cs_seq;
    rack->ra_method = sip->sip_cseq->cs_method;
    rack->ra_method_name = sip->sip_cseq->cs_method_name;
    /* The early dialog's route, unless there is a dialog that has one (RFC 3261 12.2.1.1). */
    bool stands = nta_leg_get_route(leg->dialog, &known, &target) >= 0 && target;
    sip_route_t *routes = stands ? NULL : sip_route_reverse(home, sip->sip_record_route);
    const url_string_t *url = stands             ? NULL
                              : sip->sip_contact ? (url_string_t *)sip->sip_contact->m_url
                                                 : (url_string_t *)leg->target;
    nta_outgoing_t *orq = nta_outgoing_tcreate(
        leg->dialog, kg_relay_response, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_PRACK,
        url, NTATAG_TPORT(leg->flow.tport), SIPTAG_RACK(rack), SIPTAG_TO(sip->sip_to),
        TAG_IF(routes, SIPTAG_ROUTE(routes)), TAG_NEXT(kg_body_tags(&body, NULL)));
    kg_relay_keep(leg, orq);
    kg_body_end(&body);
    su_home_deinit(home);
}

bool kg_reliable_is(const sip_t *sip)
{
    return sip->sip_rseq && sip_has_feature(sip->sip_require, "100rel") && sip->sip_to->a_tag;
}

bool kg_reliable_take(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    size_t len = 0;
    char *refusal = NULL;
    if (!kg_reliable_is(sip))
        return true;
    if (!is_in_order(leg, dialog_of(sip), sip->sip_rseq->rs_response))
        return false;
    bool offers = leg->call->fsm.late && kg_body_has_sdp(sip);
    if (offers && kg_fsm_takes_18x(&leg->call->fsm) && !leg->offer_18x) {
        leg->offer_18x = nta_outgoing_getresponse(orq);
        return true;
    }
    if (offers) /* of another phone that the PBX rings: one caller can answer one */
        refusal = kg_talk_refusal(leg, sip, &len);
    send_prack(leg, sip, refusal, len);
    return true;
}

void kg_reliable_answer(struct kg_leg *leg)
{
    size_t len = 0;
    if (!leg->offer_18x)
        return;
    const sip_t *sip = sip_object(leg->offer_18x);
    char *text = kg_talk_answer(leg, sip, &len);
    send_prack(leg, sip, text, len);
    msg_destroy(leg->offer_18x);
    leg->offer_18x = NULL;
    leg->asked = false; /* its 2xx has none */
    leg->mux_offered = leg->lines.mux;
}
