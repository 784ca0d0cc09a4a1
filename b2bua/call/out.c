/* INVITE, UPDATE, ACK and CANCEL, which kedge sends on a leg. Always down the leg's flow. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/refer.h"
#include "b2bua/call/talk.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "conf/log.h"

/* Points the leg at a contact. */
static int take_target(struct kg_leg *leg, const sip_t *sip, struct kg_call_target *target)
{
    struct kg_call *call = leg->call;
    if (leg->dialog)
        nta_leg_destroy(leg->dialog);
    leg->dialog = NULL;
    leg->allows_update = leg->refuses_refer = leg->trickles = leg->standing = false;
    msg_destroy(leg->offer_18x);
    leg->offer_18x = NULL;
    free(leg->sdp_agreed); /* with another contact, before the answer */
    leg->sdp_agreed = NULL;
    leg->agreed = (struct kg_leg_lines){0};
    leg->keys.asks = (struct kg_leg_asks){0};
    kg_talk_new_keys(leg);
    kg_leg_set_flow(leg, &target->flow);
    leg->peer = target->peer;
    leg->pbx = call->record->leg[leg->side].pbx = target->pbx;
    leg->proofs = leg->rcseq = 0;
    kg_leg_set_trunk(leg, target->trunk);
    free(leg->target);
    leg->target = target->url ? target->url : kg_parties_target(leg, sip);
    target->url = NULL;
    call->record->leg[leg->side].nat = target->nat;
    return leg->target ? kg_parties_open(leg, sip) : ENOMEM;
}

enum offer { FIRST, AGAIN, UPDATE, ASK };

/* Of an INVITE outside of a dialog. */
struct first {
    const char *path;    /* Route; NULL: none */
    const char *history; /* header lines; NULL: none */
};

/* sip: whose headers pass; NULL: nobody's. Returns NULL, or what was wrong. */
static const char *send_offer(struct kg_leg *leg, const sip_t *sip, enum offer offer, struct first first)
{
    struct kg_call *call = leg->call;
    char route[KG_HOP_URL], contact_buf[KG_CONTACT_URL];
    sip_contact_t contact[1];
    sip_max_forwards_t max_forwards[1];
    struct kg_body body;
    struct kg_passed passed;
    struct kg_list list;
    char options[KG_OPTIONS_TEXT], session[KG_SESSION_TEXT], min[16];
    size_t len = 0;
    bool asks = offer == ASK || (offer == FIRST && call->fsm.late);
    char *text = asks ? NULL : kg_talk_text(leg, &len);
    if (!text && !asks)
        return "its SDP could not be written";
    kg_leg_contact(leg, contact, contact_buf);
    sip_max_forwards_init(max_forwards)->mf_count = (unsigned long)call->max_forwards;
    kg_body_begin(&body);
    if (text)
        kg_body_sdp(&body, leg, text, len);
    else if (sip)
        kg_body_pass(&body, sip);
    kg_headers_none(&passed);
    if (sip)
        kg_leg_pass(leg, sip, &passed);
    snprintf(min, sizeof min, "%u", (unsigned)leg->session.min_s);
    kg_list_begin(&list);
    if (offer == FIRST && sip) {
        kg_refer_pass(&list, sip, &call->leg[kg_other_side(leg->side)], leg);
        if (sip_has_feature(sip->sip_require, "replaces")) /* else who does not know it would just ring */
            kg_list_text(&list, sip_require_class, "replaces");
    }
    kg_list_next(&list, passed.tag);
    kg_size_note(leg, sip, kg_body_len(&body));
    leg->asked = asks;
    const struct kg_fork *fork = leg->fork;
    unsigned place = kg_branch_place(leg);
    nta_outgoing_t *invite = nta_outgoing_tcreate(
        leg->dialog, kg_answer_take, leg, (url_string_t *)kg_leg_route_url(leg, route),
        offer == UPDATE ? sip_method_update : sip_method_invite,
        offer == UPDATE ? "UPDATE" : sip_method_name_invite,
        offer == FIRST ? (url_string_t *)leg->target : NULL, NTATAG_TPORT(leg->flow.tport),
        TAG_IF(first.path, SIPTAG_ROUTE_STR(first.path)),
        TAG_IF(first.history, SIPTAG_HEADER_STR(first.history)), SIPTAG_CONTACT(contact),
        SIPTAG_MAX_FORWARDS(max_forwards), SIPTAG_ALLOW(call->calls->allow),
        SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)),
        TAG_IF(kg_session_text(leg, session), SIPTAG_SESSION_EXPIRES_STR(session)),
        TAG_IF(leg->session.min_s, SIPTAG_MIN_SE_STR(min)),
        KG_TRICKLE_TAGS(call->calls->server->config.media.ice), TAG_NEXT(kg_body_tags(&body, list.tag)));
    kg_list_end(&list);
    kg_body_end(&body);
    /* A connection that breaks as it is written to fails whatever waits on it at once: another branch may be
     * in front now, or nobody may want this INVITE any more. */
    if (!kg_branch_return(leg, fork, place)) {
        kg_branch_cancel(invite);
        return NULL;
    }
    leg->invite = invite;
    if (!leg->invite)
        return "the stack refused it";
    if (offer == FIRST && leg->pbx && !call->unheard) {
        call->unheard = true;
        call->asked = leg->peer;
        kg_peers_asked(call->calls->server->peers, leg->peer);
    }
    return NULL;
}

static void give_up(struct kg_leg *leg, const char *what)
{
    kg_bye_leave(leg);
    kg_warn("call", "call %s: no INVITE or UPDATE to %s: %s", leg->call->record->id,
            leg->call->record->leg[leg->side].user, what);
    kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
}

/* Of kedge's own accord, or because of the other side's request, whose headers then pass. */
static void offer_again(struct kg_leg *leg, enum offer offer)
{
    struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    enum kg_re_kind kind = leg->call->fsm.re_kind;
    bool passes = (kind == KG_RE_PASSES || kind == KG_RE_LATE) && from->irq;
    msg_t *msg = passes ? nta_incoming_getrequest(from->irq) : NULL;
    const char *problem = "its connection is gone";
    if (kg_leg_is_reachable(leg))
        problem = send_offer(leg, msg ? sip_object(msg) : NULL, offer, (struct first){0});
    if (problem)
        give_up(leg, problem);
    msg_destroy(msg);
}

static const char *send_first(struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    const struct kg_call_target *target = &leg->call->target[n];
    char *history = target->diverted ? kg_redirect_headers(leg, sip, n) : NULL;
    const char *service_route = leg->trunk ? kg_trunk_service_route(leg->trunk) : NULL; /* RFC 3608 */
    struct first first = {service_route ? service_route : target->path, history};
    kg_talk_aim(leg);
    const char *problem = send_offer(leg, sip, FIRST, first);
    free(history);
    return problem;
}

static const char *send_again(struct kg_leg *leg)
{
    kg_talk_aim(leg);
    return send_offer(leg, NULL, AGAIN, (struct first){0});
}

void kg_out_inside(struct kg_leg *leg)
{
    const char *problem = send_again(leg);
    if (problem)
        give_up(leg, problem);
}

/* The same once more: its session was too short for the peer (RFC 4028 7.3), or its shape was refused. */
void kg_out_anew(struct kg_leg *leg, nta_outgoing_t *refused)
{
    struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    msg_t *sent = nta_outgoing_getrequest(refused);
    const char *problem = "the other side's INVITE is gone";
    if (leg->call->fsm.state == KG_CALL_TALK) {
        bool update = nta_outgoing_method(refused) == sip_method_update;
        bool empty = sent && !sip_object(sent)->sip_payload;
        offer_again(leg, update ? UPDATE : empty ? ASK : AGAIN);
        problem = NULL;
    } else {
        msg_t *msg = kg_leg_invite(from);
        if (leg->standing)
            problem = send_again(leg);
        else if (msg)
            problem = send_first(leg, sip_object(msg), kg_branch_target(leg));
        msg_destroy(msg);
    }
    if (problem)
        give_up(leg, problem);
    msg_destroy(sent);
}

const char *kg_out_first(struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    struct kg_call_target *target = &leg->call->target[n];
    if (take_target(leg, sip, target) != 0)
        return "out of memory";
    if (!kg_leg_is_reachable(leg))
        return "its connection is gone";
    return send_first(leg, sip, n);
}

void kg_out_invite(struct kg_leg *leg)
{
    if (leg->call->fsm.state == KG_CALL_TALK)
        offer_again(leg, AGAIN);
    else
        kg_branch_call(leg);
}

void kg_out_update(struct kg_leg *leg)
{
    offer_again(leg, leg->allows_update ? UPDATE : AGAIN);
}

void kg_out_ask(struct kg_leg *leg)
{
    offer_again(leg, ASK);
}

/* ---- ACK and CANCEL ---- */

/* Before ACK the INVITE's transaction must be there still: nta takes the branch from it. */
static void send_ack(struct kg_leg *leg, bool answer)
{
    char route[KG_HOP_URL];
    sip_cseq_t cseq[1];
    struct kg_body body;
    size_t len = 0;
    msg_t *ok = leg->asked ? nta_outgoing_getresponse(leg->invite) : NULL;
    char *text = !ok      ? NULL
                 : answer ? kg_talk_answer(leg, sip_object(ok), &len)
                          : kg_talk_refusal(leg, sip_object(ok), &len);
    msg_destroy(ok);
    kg_body_begin(&body);
    if (text)
        kg_body_sdp(&body, leg, text, len);
    sip_cseq_init(cseq)->cs_seq = nta_outgoing_cseq(leg->invite);
    cseq->cs_method = sip_method_ack;
    cseq->cs_method_name = sip_method_name_ack;
    nta_outgoing_t *ack = nta_outgoing_tcreate(
        leg->dialog, NULL, NULL, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_ACK, NULL,
        NTATAG_TPORT(leg->flow.tport), SIPTAG_CSEQ(cseq), TAG_NEXT(kg_body_tags(&body, NULL)));
    if (ack)
        nta_outgoing_destroy(ack); /* nta keeps it to answer retransmissions of the 2xx */
    kg_body_end(&body);
}

void kg_out_ack(struct kg_leg *leg, bool answer)
{
    if (!leg->invite)
        return;
    if (nta_outgoing_method(leg->invite) == sip_method_invite)
        send_ack(leg, answer);
    nta_outgoing_destroy(leg->invite);
    leg->invite = NULL;
    leg->asked = false;
}

/* nta holds it back until the first provisional response (RFC 3261 9.1). The reason of a caller's CANCEL
 * passes: a PBX that rings several phones says by it which of them missed no call (RFC 3326). */
void kg_out_cancel(struct kg_leg *leg)
{
    const sip_t *cause = leg->call->cause;
    const sip_reason_t *passed = cause && cause->sip_request ? cause->sip_reason : NULL;
    kg_branch_drop_others(leg, passed);
    if (leg->invite)
        nta_outgoing_tcancel(leg->invite, NULL, NULL, TAG_IF(passed, SIPTAG_REASON(passed)), TAG_END());
}

/* A phone that wakes up late must not ring: CANCEL follows its first response. A PBX that is dead is not
 * retransmitted to any more. */
void kg_out_drop(struct kg_leg *leg)
{
    kg_judge_heard(leg->call);
    kg_judge(leg, KG_OUTCOME_SILENT, 0);
    kg_branch_drop_others(leg, NULL);
    kg_bye_leave(leg);
    if (!leg->invite)
        return;
    if (!leg->pbx)
        nta_outgoing_cancel(leg->invite);
    nta_outgoing_destroy(leg->invite);
    leg->invite = NULL;
}

/* ---- any request ---- */

nta_outgoing_t *kg_out_keep(const struct kg_leg *leg, nta_outgoing_t *orq)
{
    if (!leg->call->over)
        return orq;
    if (orq)
        nta_outgoing_destroy(orq);
    return NULL;
}

static bool is_unheard(const nta_outgoing_t *orq)
{
    return orq && nta_outgoing_status(orq) < 100;
}

bool kg_out_instead(struct kg_leg *leg, nta_outgoing_t **orq, msg_t *msg, const char *branch,
                    nta_response_f *on_answer)
{
    struct kg_call *call = leg->call;
    const struct kg_fork *fork = leg->fork;
    unsigned place = kg_branch_place(leg);
    nta_outgoing_t *before = *orq;
    char route[KG_HOP_URL];
    call->holds++;
    nta_outgoing_t *made = nta_outgoing_mcreate(
        call->calls->agent, on_answer, leg, (url_string_t *)kg_leg_route_url(leg, route), msg,
        NTATAG_TPORT(leg->flow.tport), TAG_IF(branch, NTATAG_BRANCH_KEY(branch)), TAG_END());
    if (!made)
        msg_destroy(msg); /* else it is nta's */
    bool there = kg_branch_return(leg, fork, place) && *orq == before;
    if (made && there) {
        nta_outgoing_destroy(before);
        *orq = made;
    } else if (made && nta_outgoing_method(made) == sip_method_invite) {
        kg_branch_cancel(made);
    } else if (made) {
        nta_outgoing_destroy(made);
    }
    kg_call_unhold(call);
    return made || !there;
}

/* An INVITE keeps its branch: should the first one have arrived after all, to its peer this is a
 * retransmission and not an INVITE that meets another one (RFC 3261 14.1). */
void kg_out_again(struct kg_leg *leg, nta_outgoing_t **orq, nta_response_f *on_answer)
{
    if (!is_unheard(*orq))
        return;
    msg_t *sent = nta_outgoing_getrequest(*orq), *msg = sent ? msg_copy(sent) : NULL;
    sip_t *sip = msg ? sip_object(msg) : NULL;
    if (sip && sip->sip_via) {
        bool invite = nta_outgoing_method(*orq) == sip_method_invite;
        const char *branch = sip->sip_via->v_branch;
        msg_header_remove(msg, (msg_pub_t *)sip, (msg_header_t *)sip->sip_via);
        kg_out_instead(leg, orq, msg, invite ? branch : NULL, on_answer); /* else it ends by itself */
    } else {
        msg_destroy(msg);
    }
    msg_destroy(sent);
}

void kg_out_follow(struct kg_leg *leg)
{
    const struct kg_fsm *fsm = &leg->call->fsm;
    bool cancelled = fsm->re_cancelled || fsm->leg[leg->side] == KG_LEG_CANCELLING; /* better unheard */
    bool offer = is_unheard(leg->invite) && !cancelled;
    if (leg->pbx || !kg_leg_is_reachable(leg))
        return;
    kg_relay_follow(leg);
    kg_session_follow(leg);
    if (!offer && !is_unheard(leg->bye))
        return;
    kg_info("call", "call %s: what %s has not answered is sent to its new place", leg->call->record->id,
            leg->call->record->leg[leg->side].user);
    if (offer)
        kg_out_again(leg, &leg->invite, kg_answer_take);
    kg_bye_follow(leg);
}
