/* The contacts of leg B that are being called. The state machine sees one leg: this says REJECT when all have
 * failed, and ANSWER comes from the first that answers. One branch is in front, its dialog and INVITE are the
 * leg's; the others wait here. Only a call with several contacts has any of this. */
#include "b2bua/call/call.h"

#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "conf/log.h"

/* What of leg B is one contact's. */
struct branch {
    nta_leg_t *dialog;
    nta_outgoing_t *invite;
    struct kg_flow flow;
    char *target, *local, *remote, *call_id;
    struct kg_sdp_origin origin;
    bool lost, allows_update, trickles, nat;
    uint8_t options;
};

struct kg_fork {
    struct branch branch[KG_TARGETS_MAX]; /* of this round; the place of the one in front is empty */
    enum kg_branch_state state[KG_TARGETS_MAX];
    uint8_t count, front;
    int64_t deadline_ms; /* who has said nothing until then is given up; INT64_MAX: that is done */
    /* The best refusal of all rounds; 0: none yet. */
    int best;
    const char *why;
    msg_t *said; /* NULL: nobody's words */
};

/* ---- which one is in front ---- */

static struct branch put_aside(struct kg_leg *leg)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    struct branch branch = {.dialog = leg->dialog,
                            .invite = leg->invite,
                            .flow = leg->flow,
                            .target = leg->target,
                            .local = leg->local,
                            .remote = leg->remote,
                            .call_id = record->call_id,
                            .origin = leg->origin,
                            .lost = leg->lost,
                            .allows_update = leg->allows_update,
                            .trickles = leg->trickles,
                            .options = leg->options,
                            .nat = record->nat};
    return branch;
}

static void bring(struct kg_leg *leg, const struct branch *branch)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    leg->dialog = branch->dialog;
    leg->invite = branch->invite;
    leg->flow = branch->flow;
    leg->target = branch->target;
    leg->local = branch->local;
    leg->remote = branch->remote;
    leg->origin = branch->origin;
    leg->lost = branch->lost;
    leg->allows_update = branch->allows_update;
    leg->trickles = branch->trickles;
    leg->options = branch->options;
    record->call_id = branch->call_id;
    record->nat = branch->nat;
    record->lost = branch->lost;
    record->transport = branch->flow.transport;
    record->remote = branch->flow.remote;
}

static void show(struct kg_leg *leg, unsigned i)
{
    struct kg_fork *fork = leg->fork;
    if (fork->front == i)
        return;
    fork->branch[fork->front] = put_aside(leg);
    bring(leg, &fork->branch[i]);
    fork->branch[i] = (struct branch){0};
    fork->front = (uint8_t)i;
}

bool kg_branch_turn(struct kg_leg *leg, const nta_outgoing_t *invite)
{
    struct kg_fork *fork = leg->fork;
    if (leg->invite == invite)
        return true;
    for (unsigned i = 0; fork && i < fork->count; i++)
        if (fork->branch[i].invite == invite) {
            show(leg, i);
            return true;
        }
    return false;
}

bool kg_branch_turn_dialog(struct kg_leg *leg, const nta_leg_t *dialog)
{
    struct kg_fork *fork = leg->fork;
    if (leg->dialog == dialog)
        return true;
    for (unsigned i = 0; fork && i < fork->count; i++)
        if (fork->branch[i].dialog == dialog) {
            show(leg, i);
            return true;
        }
    return false;
}

bool kg_branch_show(struct kg_leg *leg, unsigned n)
{
    struct kg_fork *fork = leg->fork;
    for (unsigned i = 0; fork && i < fork->count; i++)
        if (fork->state[i] != KG_BRANCH_OVER && n-- == 0) {
            show(leg, i);
            return true;
        }
    return !fork && n == 0;
}

static const char *call_id_of(const struct kg_leg *leg, unsigned i)
{
    return i == leg->fork->front ? leg->call->record->leg[leg->side].call_id : leg->fork->branch[i].call_id;
}

/* An INFO to the callee goes to the early dialog whose description is taken: that one's branch is in front.
 */
void kg_branch_settle(struct kg_leg *leg)
{
    struct kg_fork *fork = leg->fork;
    const sip_t *early = fork ? kg_early_newest(leg) : NULL;
    if (!fork)
        return;
    for (unsigned i = 0; early && i < fork->count; i++) {
        const char *call_id = call_id_of(leg, i);
        if (fork->state[i] != KG_BRANCH_OVER && call_id && strcmp(call_id, early->sip_call_id->i_id) == 0) {
            show(leg, i);
            return;
        }
    }
    if (fork->state[fork->front] == KG_BRANCH_OVER)
        kg_branch_show(leg, 0);
}

/* ---- giving up ---- */

/* CANCEL follows as soon as it may (RFC 3261 9.1). Whatever is answered afterwards, nta acknowledges a
 * refusal and sip/orphan.c ends a dialog. */
static void cancel(nta_outgoing_t *invite, const sip_reason_t *reason)
{
    if (!invite)
        return;
    nta_outgoing_tcancel(invite, NULL, NULL, TAG_IF(reason, SIPTAG_REASON(reason)), TAG_END());
    nta_outgoing_destroy(invite);
}

static void close_branch(struct branch *branch)
{
    cancel(branch->invite, NULL);
    if (branch->dialog)
        nta_leg_destroy(branch->dialog);
    kg_flow_clear(&branch->flow);
    free(branch->target);
    free(branch->local);
    free(branch->remote);
    free(branch->call_id);
    *branch = (struct branch){0};
}

void kg_branch_drop_others(struct kg_leg *leg, const sip_reason_t *reason)
{
    struct kg_fork *fork = leg->fork;
    if (!fork)
        return;
    for (unsigned i = 0; i < fork->count; i++) {
        cancel(fork->branch[i].invite, reason);
        fork->branch[i].invite = NULL;
        close_branch(&fork->branch[i]);
    }
    msg_destroy(fork->said);
    free(fork);
    leg->fork = NULL;
}

/* RFC 3326; phones that know it list no missed call. */
void kg_branch_win(struct kg_leg *leg)
{
    static const msg_param_t params[] = {"cause=200", "text=\"Call completed elsewhere\"", NULL};
    sip_reason_t reason[1];
    sip_reason_init(reason)->re_protocol = "SIP";
    reason->re_params = params;
    kg_branch_drop_others(leg, reason);
}

/* ---- what became of the one in front ---- */

void kg_branch_heard(struct kg_leg *leg)
{
    if (leg->fork && leg->fork->state[leg->fork->front] == KG_BRANCH_UNHEARD)
        leg->fork->state[leg->fork->front] = KG_BRANCH_HEARD;
}

static void reject(struct kg_leg *leg, int status, const char *why)
{
    uint16_t chance;
    kg_calls_random(leg->call->calls, &chance, sizeof chance);
    kg_call_event(
        leg->call,
        &(struct kg_fsm_event){
            .type = KG_EV_REJECT, .side = leg->side, .status = status, .why = why, .chance = chance});
}

/* In the words of the best refusal. */
static void reject_all(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    struct kg_fork *fork = leg->fork;
    const sip_t *outer = call->cause;
    msg_t *said = fork->said ? msg_ref_create(fork->said) : NULL;
    fork->deadline_ms = INT64_MAX;
    call->holds++;
    call->cause = said ? sip_object(said) : NULL;
    reject(leg, fork->best, fork->why);
    call->cause = outer;
    kg_call_unhold(call);
    msg_destroy(said);
}

static void remember(struct kg_fork *fork, int status, const char *why, nta_outgoing_t *orq)
{
    if (!kg_fork_is_better(status, fork->best))
        return;
    fork->best = status;
    fork->why = why;
    msg_destroy(fork->said);
    fork->said = orq ? nta_outgoing_getresponse(orq) : NULL;
}

/* The one in front is over, others go on. What it said in a 18x is no answer to their INVITEs. */
static void forget(struct kg_leg *leg)
{
    struct kg_fork *fork = leg->fork;
    unsigned over = fork->front;
    const char *call_id = call_id_of(leg, over);
    const sip_t *early = kg_early_newest(leg);
    if (early && call_id && strcmp(early->sip_call_id->i_id, call_id) == 0)
        kg_talk_forget(leg);
    if (call_id)
        kg_early_forget_call(leg, call_id);
    kg_branch_show(leg, 0);
    close_branch(&fork->branch[over]);
    kg_branch_settle(leg);
}

void kg_branch_fail(struct kg_leg *leg, int status, const char *why, nta_outgoing_t *orq)
{
    struct kg_fork *fork = leg->fork;
    if (!fork) {
        reject(leg, status, why);
        return;
    }
    fork->state[fork->front] = KG_BRANCH_OVER;
    remember(fork, kg_fsm_map_status(status, leg->pbx), why, orq);
    switch (kg_fork_judge(fork->state, fork->count, status)) {
    case KG_FORK_GOES_ON:
        forget(leg);
        break;
    case KG_FORK_STOPS:
        for (unsigned i = 0; i < fork->count; i++) {
            close_branch(&fork->branch[i]);
            fork->state[i] = KG_BRANCH_OVER;
        }
        reject_all(leg);
        break;
    case KG_FORK_FAILED:
        reject_all(leg);
        break;
    }
}

/* Nothing more is expected of the one in front: should it wake up, it is told not to ring. A PBX that is dead
 * is not retransmitted to any more. */
static void drop(struct kg_leg *leg)
{
    if (leg->pbx && leg->invite)
        nta_outgoing_destroy(leg->invite);
    else
        cancel(leg->invite, NULL);
    leg->invite = NULL;
}

bool kg_branch_leave(struct kg_leg *leg, const char *why)
{
    struct kg_fork *fork = leg->fork;
    unsigned going_on = 0;
    for (unsigned i = 0; fork && i < fork->count; i++)
        going_on += fork->state[i] != KG_BRANCH_OVER;
    if (going_on < 2)
        return false;
    drop(leg);
    kg_branch_fail(leg, 480, why, NULL);
    return true;
}

bool kg_branch_tick(struct kg_leg *leg, int64_t now_ms)
{
    struct kg_call *call = leg->call;
    struct kg_fork *fork = leg->fork;
    if (now_ms < fork->deadline_ms)
        return false;
    fork->deadline_ms = INT64_MAX;
    call->holds++;
    /* The last one may begin another round, which has a deadline, or end the call. */
    for (unsigned i = 0; leg->fork && fork->deadline_ms == INT64_MAX && i < fork->count; i++) {
        if (fork->state[i] != KG_BRANCH_UNHEARD)
            continue;
        show(leg, i);
        kg_info("call", "call %s: %s at %s says nothing and is given up", call->record->id,
                call->record->leg[leg->side].user, leg->target ? leg->target : "?");
        drop(leg);
        kg_branch_fail(leg, leg->pbx ? 503 : 408,
                       leg->pbx ? "the PBX does not answer" : "the callee's phone does not answer", NULL);
    }
    kg_branch_settle(leg);
    kg_call_unhold(call);
    return true;
}

/* ---- a round ---- */

/* Returns how many contacts it has. */
static unsigned begin_round(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    uint16_t q[KG_TARGETS_MAX];
    for (uint8_t i = 0; i < call->target_count; i++)
        q[i] = call->target[i].q;
    unsigned count = kg_fork_round(q, call->target_next, call->target_count, call->parallel);
    struct kg_fork *fork = leg->fork;
    fork->branch[0] = (struct branch){0};
    fork->count = (uint8_t)count;
    fork->front = 0;
    fork->deadline_ms = call->fsm.deadline_ms;
    for (unsigned i = 0; i < count; i++)
        fork->state[i] = KG_BRANCH_UNHEARD;
    return count;
}

static void not_called(struct kg_leg *leg, const char *problem)
{
    kg_warn("call", "call %s: no INVITE to %s: %s", leg->call->record->id,
            leg->call->record->leg[leg->side].user, problem);
    kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
}

static void call_round(struct kg_leg *leg, const sip_t *sip, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (leg->fork)
            show(leg, i);
        const char *problem = kg_out_first(leg, sip);
        if (problem)
            not_called(leg, problem);
    }
    kg_branch_settle(leg);
}

void kg_branch_call(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    const struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    msg_t *msg = from->irq ? nta_incoming_getrequest(from->irq) : NULL;
    bool several = call->target_count > 1;
    if (several && !leg->fork)
        leg->fork = calloc(1, sizeof *leg->fork);
    if (!msg || (several && !leg->fork)) {
        not_called(leg, msg ? "out of memory" : "the other side's INVITE is gone");
    } else {
        kg_early_forget(leg);
        kg_talk_forget(leg);
        if (call->target_next > 0)
            kg_talk_next_contact(leg);
        call_round(leg, sip_object(msg), several ? begin_round(leg) : 1);
    }
    msg_destroy(msg);
}
