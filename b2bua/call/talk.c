/* What a leg's peer says in SDP: taken from a message, checked against the offer, agreed or forgotten. */
#include "b2bua/call/talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kg_talk_forget(struct kg_leg *leg)
{
    kg_sdp_free(leg->sdp);
    free(leg->sdp_pending);
    free(leg->frame);
    leg->sdp = NULL;
    leg->sdp_pending = NULL;
    leg->frame = NULL;
}

enum kg_side kg_talk_offerer(const struct kg_call *call)
{
    if (call->fsm.re != KG_RE_NONE)
        return call->fsm.re_from;
    if (call->fsm.pre != KG_PRE_NONE)
        return call->fsm.pre_from;
    return call->fsm.late ? KG_SIDE_B : KG_SIDE_A;
}

const struct kg_sdp *kg_talk_said(const struct kg_leg *leg, struct kg_sdp **made)
{
    char error[160];
    *made = NULL;
    if (leg->sdp)
        return leg->sdp;
    if (leg->sdp_agreed)
        *made = kg_sdp_parse(leg->sdp_agreed, strlen(leg->sdp_agreed), error, sizeof error);
    return *made;
}

void kg_talk_recall(struct kg_leg *leg)
{
    struct kg_sdp *made;
    struct kg_media_side side;
    const struct kg_sdp *sdp = kg_talk_said(leg, &made);
    memset(&side, 0, sizeof side);
    if (sdp && kg_sdp_describe(sdp, &side) == 0)
        kg_record_set_candidates(leg->call->record, leg->side, sdp, &side);
    kg_sdp_free(made);
}

/* RFC 3264 6: the answer fits the offer, be it the other side's or, in kedge's name, what that one said
 * before. */
static int check_answer(struct kg_leg *leg, const struct kg_sdp *answer, char *error, size_t size)
{
    struct kg_sdp *made;
    const struct kg_sdp *offer = kg_talk_said(&leg->call->leg[kg_other_side(leg->side)], &made);
    int failed = offer ? kg_sdp_check_answer(offer, answer, error, size) : 0;
    if (offer && !failed &&
        !kg_sdp_have_common_codec(offer, "the other side", answer, "this one", error, size))
        failed = EINVAL;
    kg_sdp_free(made);
    if (failed)
        return failed;
    leg->bad_keys = kg_talk_check_keys(leg, answer, true, error, size) != 0;
    return leg->bad_keys ? EINVAL : 0;
}

struct kg_sdp *kg_talk_parse(const sip_t *sip, char *error, size_t size)
{
    struct kg_multipart at;
    if (!sip || kg_body_find(sip, &at, error, size) != KG_SDP_OK)
        return NULL;
    return kg_sdp_parse(sip->sip_payload->pl_data + at.sdp_at, at.sdp_len, error, size);
}

enum kg_sdp_found kg_talk_take(struct kg_leg *leg, const sip_t *sip, char *error, size_t size)
{
    leg->bad_keys = false;
    struct kg_multipart at;
    struct kg_frame *frame = NULL;
    enum kg_sdp_found found = kg_body_find(sip, &at, error, size);
    if (found != KG_SDP_OK)
        return found;
    const char *body = sip->sip_payload->pl_data + at.sdp_at;
    struct kg_sdp *sdp = kg_sdp_parse(body, at.sdp_len, error, size);
    if (!sdp)
        return KG_SDP_BAD;
    bool may_offer =
        sip->sip_request && sip->sip_request->rq_method != sip_method_ack &&
        sip->sip_request->rq_method != sip_method_prack; /* of who offered, it is one all the same */
    bool is_answer = !may_offer && kg_talk_offerer(leg->call) != leg->side;
    if (is_answer ? check_answer(leg, sdp, error, size) != 0
                  : kg_talk_check_keys(leg, sdp, false, error, size) != 0) {
        kg_sdp_free(sdp);
        return KG_SDP_BAD;
    }
    char *text = strndup(body, at.sdp_len);
    if (!text || kg_body_keep(sip, &at, &frame) != 0) {
        free(text);
        kg_sdp_free(sdp);
        snprintf(error, size, "out of memory");
        return KG_SDP_BAD;
    }
    kg_talk_forget(leg);
    leg->sdp = sdp;
    leg->sdp_pending = text;
    leg->frame = frame;
    return KG_SDP_OK;
}

bool kg_talk_is_empty(const struct kg_leg *leg)
{
    for (size_t i = 0; leg->sdp && i < KG_MEDIA_STREAMS_MAX; i++)
        if (kg_sdp_is_enabled(leg->sdp, i))
            return false;
    return leg->sdp;
}

bool kg_talk_take_agreed(struct kg_leg *leg)
{
    char error[160];
    char *text = leg->sdp_agreed ? strdup(leg->sdp_agreed) : NULL;
    struct kg_sdp *sdp = text ? kg_sdp_parse(text, strlen(text), error, sizeof error) : NULL;
    if (!sdp) {
        free(text);
        return false;
    }
    kg_talk_forget(leg);
    leg->sdp = sdp;
    leg->sdp_pending = text;
    return true;
}

void kg_talk_commit(struct kg_call *call)
{
    struct kg_leg *a = &call->leg[KG_SIDE_A], *b = &call->leg[KG_SIDE_B];
    uint8_t before = a->agreed.enabled & b->agreed.enabled, now = a->lines.enabled & b->lines.enabled;
    for (int side = 0; side < 2; side++) {
        struct kg_leg *leg = &call->leg[side];
        kg_talk_end_associations(leg, before & (uint8_t)~now);
        if (leg->sdp_pending) {
            free(leg->sdp_agreed);
            leg->sdp_agreed = leg->sdp_pending;
            leg->sdp_pending = NULL;
        }
        leg->agreed = leg->lines;
        leg->placed = (struct kg_addr){0};
        kg_talk_forget(leg);
    }
    if (call->fsm.state == KG_CALL_CALLING)
        kg_early_agree(b);
    kg_path_agreed(call);
}

void kg_talk_abandon(struct kg_call *call)
{
    for (int side = 0; side < 2; side++) {
        kg_talk_forget(&call->leg[side]);
        call->leg[side].lines = call->leg[side].agreed;
    }
}
