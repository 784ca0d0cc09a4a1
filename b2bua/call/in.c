/* An INVITE that starts a call: who sends it, where it goes, and the call that comes of it. */
#include "b2bua/call/inquiry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/url.h>

#include "b2bua/call/identity.h"
#include "b2bua/call/talk.h"
#include "b2bua/nat/assess.h"
#include "b2bua/route/trunks.h"
#include "conf/log.h"

/* RFC 3261 16.6 step 3: where the request has none. */
#define MAX_FORWARDS 70

void kg_inquiry_refuse(struct kg_inquiry *in, int status, int retry_after)
{
    sip_retry_after_t after[1];
    in->status = status;
    if (!in->irq)
        return;
    sip_retry_after_init(after)->af_delta = (sip_time_t)retry_after;
    nta_incoming_treply(in->irq, status, NULL, TAG_IF(retry_after, SIPTAG_RETRY_AFTER(after)), TAG_END());
    nta_incoming_destroy(in->irq);
}

/* ---- the call ---- */

static void assess(struct kg_inquiry *in, struct kg_record_leg *record, struct kg_addr sdp)
{
    const sip_via_t *via = in->sip->sip_via;
    const url_t *contact = in->sip->sip_contact->m_url;
    struct kg_nat_verdict verdict;
    struct kg_nat_seen seen = {.source = in->flow->remote,
                               .via_host = via->v_host,
                               .via_port = (uint16_t)(via->v_port ? strtoul(via->v_port, NULL, 10) : 0),
                               .contact_host = contact->url_host,
                               .contact_port =
                                   (uint16_t)(contact->url_port ? strtoul(contact->url_port, NULL, 10) : 0),
                               .sdp = sdp,
                               .transport = in->flow->transport};
    kg_nat_assess(&seen, &verdict);
    record->nat = verdict.behind_nat;
    size_t size = verdict.reason_count * (sizeof verdict.reason[0] + 1), used = 0;
    record->nat_reasons = size ? calloc(1, size) : NULL;
    for (unsigned i = 0; record->nat_reasons && i < verdict.reason_count; i++) {
        size_t len = strnlen(verdict.reason[i], sizeof verdict.reason[i]);
        if (i > 0)
            record->nat_reasons[used++] = '\n';
        memcpy(record->nat_reasons + used, verdict.reason[i], len);
        used += len;
    }
}

static int move_targets(struct kg_inquiry *in, struct kg_call *call)
{
    if (kg_call_reserve(call, in->target_count) != 0)
        return ENOMEM;
    for (size_t i = 0; i < in->target_count; i++) {
        struct kg_call_target *target = &call->target[i];
        struct kg_target *from = &in->target[i];
        *target = (struct kg_call_target){.pbx = in->server, .trunk = kg_trunk_hold(in->over[i])};
        target->url = in->server ? NULL : strdup(from->contact);
        target->nat = from->nat;
        target->peer = in->peer[i];
        target->order = (struct kg_fork_contact){
            .q = from->q, .device = call->leg[KG_SIDE_B].pbx ? (uint32_t)i + 1 : from->device};
        target->path = from->path && *from->path ? strdup(from->path) : NULL;
        target->flow = from->flow;
        from->flow = (struct kg_flow){0};
        call->target_count++;
        if (!target->url && !in->server)
            return ENOMEM;
    }
    return 0;
}

static unsigned count_rounds(const struct kg_call *call)
{
    if (call->target_count == 1)
        return 1;
    struct kg_fork_contact contact[KG_TARGETS_MAX];
    for (uint8_t i = 0; i < call->target_count; i++)
        contact[i] = call->target[i].order;
    return kg_fork_rounds(contact, call->target_count, call->parallel);
}

static int fill_record(struct kg_inquiry *in, struct kg_call *call)
{
    struct kg_record *record = call->record;
    record->from = kg_url_text(in->sip->sip_from->a_url);
    record->to = kg_url_text(in->sip->sip_to->a_url);
    record->leg[KG_SIDE_A].user = strdup(in->caller);
    record->leg[KG_SIDE_A].call_id = strdup(in->sip->sip_call_id->i_id);
    record->leg[KG_SIDE_A].pbx = call->leg[KG_SIDE_A].pbx;
    record->leg[KG_SIDE_B].pbx = call->leg[KG_SIDE_B].pbx;
    record->leg[KG_SIDE_B].user =
        strdup(call->leg[KG_SIDE_B].pbx || !in->target[0].user[0] ? in->user : in->target[0].user);
    record->path = kg_path_name(&call->path);
    record->reason = kg_path_reason(&call->path);
    return record->from && record->to && record->leg[0].user && record->leg[0].call_id && record->leg[1].user
               ? 0
               : ENOMEM;
}

/* In front of a PBX a call passes twice: which of the two this is. Where the other side is a phone: nothing.
 */
static void say_calls(const struct kg_inquiry *in, const struct kg_call *call)
{
    const struct kg_trunk *to = in->over[0];
    kg_info("call", "call %s: %s calls %s%s%s%s%s", call->record->id, in->caller,
            call->record->leg[KG_SIDE_B].user,
            in->trunk                  ? ", from the trunk "
            : call->leg[KG_SIDE_A].pbx ? ", from the PBX"
                                       : "",
            in->trunk ? kg_trunk_config(in->trunk)->name : "",
            to                         ? ", to the trunk "
            : call->leg[KG_SIDE_B].pbx ? ", to the PBX"
                                       : "",
            to ? kg_trunk_config(to)->name : "");
}

static void start(struct kg_inquiry *in)
{
    char error[160] = "";
    struct kg_call *call = kg_call_new(in->calls, NULL);
    if (!call) {
        kg_inquiry_refuse(in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    struct kg_leg *a = &call->leg[KG_SIDE_A];
    a->pbx = in->facts.source != KG_FROM_PHONE;
    kg_leg_set_trunk(a, in->trunk);
    call->leg[KG_SIDE_B].pbx = in->server;
    call->policy = kg_privacy_of(in->sip).session ? KG_POLICY_ANCHOR : in->policy; /* RFC 3323 4.2 */
    call->profile = in->profile;
    call->called_number = in->rewritten ? strdup(in->user) : NULL;
    call->caller_number = in->shown[0] ? strdup(in->shown) : NULL;
    call->cap = in->cap;
    in->cap = NULL;
    call->claimed = in->claimed;
    call->max_forwards =
        in->sip->sip_max_forwards ? (int)in->sip->sip_max_forwards->mf_count - 1 : MAX_FORWARDS - 1;
    if (fill_record(in, call) != 0 || move_targets(in, call) != 0 ||
        (in->irq && kg_leg_accept(a, in->irq, in->sip, in->flow) != 0)) {
        a->irq = NULL;
        kg_call_end(call);
        kg_inquiry_refuse(in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    if (in->made) {
        a->made = msg_ref_create(in->made);
        kg_leg_set_flow(a, in->flow);
        in->call = call;
    }
    enum kg_sdp_found found = kg_talk_take(a, in->sip, error, sizeof error);
    if (found == KG_SDP_BAD) {
        kg_info("call", "%s cannot call %s: its SDP cannot be used: %s", in->caller, in->user, error);
        a->irq = NULL;
        in->call = NULL;
        in->status = 488;
        kg_reply_refuse(in->irq, a, &(struct kg_fsm_action){.status = 488, .why = error});
        kg_call_end(call);
        return;
    }
    call->invite_key = in->key;
    if (in->key)
        HASH_ADD(hh_invite, in->calls->by_invite, invite_key, sizeof call->invite_key, call);
    kg_counters.calls_started++;
    if (!a->pbx)
        assess(in, &call->record->leg[KG_SIDE_A], a->sdp ? kg_sdp_host(a->sdp) : (struct kg_addr){0});
    say_calls(in, call);
    call->parallel = !call->leg[KG_SIDE_B].pbx && in->calls->server->config.calls.fork == KG_FORK_PARALLEL;
    kg_fsm_init(&call->fsm, count_rounds(call), call->leg[KG_SIDE_B].pbx);
    call->fsm.reliable = kg_reliable_of(in->calls, in->sip);
    /* Of several contacts the one that sends early media need not be the one that answers, and the
     * description in a reliable response is final (RFC 3262 5). A PBX is near: it gains nothing from a PRACK
     * on each leg of a call that passes it, and a 2xx that waits for them. Who insists gets what it wants. */
    if ((a->pbx || call->target_count > 1) && call->fsm.reliable == KG_RELIABLE_SDP)
        call->fsm.reliable = KG_RELIABLE_NONE;
    call->holds++; /* it may be over at once: the media engine takes nothing more */
    kg_call_event(call,
                  &(struct kg_fsm_event){.type = KG_EV_INVITE, .side = KG_SIDE_A, .sdp = found == KG_SDP_OK});
    if (call->over)
        in->call = NULL;
    kg_call_unhold(call);
}

/* RFC 3261 8.2.2.2: what makes two INVITEs the same one that came over two paths. With the request URI: two
 * phones behind kedge are two UASes. FNV-1a over the four texts; 0 is never returned. */
static uint64_t invite_key(const sip_t *sip)
{
    char cseq[16];
    snprintf(cseq, sizeof cseq, "%u", (unsigned)sip->sip_cseq->cs_seq);
    const url_t *url = sip->sip_request->rq_url;
    const char *const text[] = {sip->sip_call_id->i_id, sip->sip_from->a_tag, cseq, url->url_user,
                                url->url_host};
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        for (const char *c = text[i] ? text[i] : ""; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        hash = (hash ^ 0xff) * 0x100000001b3u; /* between two texts */
    }
    return hash ? hash : 1;
}

static void finish(struct kg_inquiry *in)
{
    if (kg_inquiry_route(in) == 0)
        start(in);
    kg_caps_done(in->calls->server->caps, in->cap,
                 false); /* no call came of it, but who dials many numbers wants one */
    for (size_t i = 0; i < in->target_count; i++)
        kg_flow_clear(&in->target[i].flow);
}

void kg_calls_invite(struct kg_calls *calls, nta_incoming_t *irq, const sip_t *sip,
                     const struct kg_flow *flow)
{
    struct kg_inquiry in = {.calls = calls, .irq = irq, .sip = sip, .flow = flow};
    if (!sip->sip_contact || sip->sip_contact->m_url->url_type == url_any) {
        kg_inquiry_refuse(&in, 400, 0); /* RFC 3261 8.1.1.8 */
        return;
    }
    if (kg_privacy_of(sip).unmet) { /* RFC 3323 5 */
        kg_inquiry_refuse(&in, 500, 0);
        return;
    }
    if (calls->count >= calls->server->config.limits.calls) {
        kg_counters.calls_refused++;
        kg_inquiry_refuse(&in, 503, KG_CALL_RETRY_AFTER);
        return;
    }
    if (kg_session_refuse(calls, irq, sip)) { /* RFC 4028 9 */
        nta_incoming_destroy(irq);
        return;
    }
    struct kg_call *merged = NULL;
    in.key = invite_key(sip);
    HASH_FIND(hh_invite, calls->by_invite, &in.key, sizeof in.key, merged);
    if (merged) {
        kg_inquiry_refuse(&in, 482, 0);
        return;
    }
    finish(&in);
}

int kg_inquiry_place(struct kg_inquiry *in)
{
    struct kg_calls *calls = in->calls;
    if (calls->count >= calls->server->config.limits.calls)
        return 503;
    finish(in);
    return in->call ? 0 : in->status ? in->status : 500;
}
