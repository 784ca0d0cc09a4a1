/* The contacts of leg B are called, a round after the other, and what becomes of them is put together: the
 * state machine sees one leg. This says REJECT when all have failed; ANSWER comes from the first that
 * answers. */
#include "b2bua/call/branch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_protos.h>

#include "b2bua/call/talk.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ---- what became of the one in front ---- */

static void remember(struct kg_fork *fork, int status, const char *why, nta_outgoing_t *orq)
{
    if (!kg_fork_is_better(status, fork->best))
        return;
    fork->best = status;
    fork->why = why;
    msg_destroy(fork->said);
    fork->said = orq ? nta_outgoing_getresponse(orq) : NULL;
}

void kg_branch_heard(struct kg_leg *leg)
{
    struct kg_fork *fork = leg->fork;
    if (!fork || fork->state[fork->front] != KG_BRANCH_UNHEARD)
        return;
    fork->state[fork->front] = KG_BRANCH_HEARD;
    fork->deadline_ms[fork->front] = INT64_MAX;
}

/* Its refusal counts should it say nothing more, and it is waited for no longer than at first. */
void kg_branch_asked_again(struct kg_leg *leg, int status, nta_outgoing_t *orq)
{
    struct kg_fork *fork = leg->fork;
    if (!fork)
        return;
    fork->state[fork->front] = KG_BRANCH_UNHEARD;
    fork->deadline_ms[fork->front] = kg_mono_ms() + KG_CALL_UNHEARD_MS;
    remember(fork, status, NULL, orq);
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
    call->holds++;
    call->cause = said ? sip_object(said) : NULL;
    reject(leg, fork->best, fork->why);
    call->cause = outer;
    kg_call_unhold(call);
    msg_destroy(said);
}

/* The one in front is over, others go on. */
static void step_back(struct kg_leg *leg)
{
    struct kg_fork *fork = leg->fork;
    unsigned over = fork->front;
    kg_early_drop(leg);
    kg_branch_show(leg, 0);
    kg_branch_close(&fork->branch[over]);
    kg_branch_settle(leg);
}

static void say_not_called(const struct kg_leg *leg, const char *problem)
{
    kg_warn("call", "call %s: no INVITE to %s: %s", leg->call->record->id,
            leg->call->record->leg[leg->side].user, problem);
}

/* A server's time depends on how many others there are: the state machine has reckoned it. */
static int64_t unheard_until_ms(const struct kg_leg *leg, unsigned n)
{
    const struct kg_call *call = leg->call;
    if (call->target[n].pbx && call->fsm.leg[leg->side] == KG_LEG_INVITING)
        return call->fsm.deadline_ms;
    return kg_mono_ms() + KG_CALL_UNHEARD_MS;
}

/* INVITE to target n, in front. 0, or EHOSTUNREACH. */
static int call_one(struct kg_leg *leg, const sip_t *sip, unsigned n)
{
    struct kg_fork *fork = leg->fork;
    if (fork) {
        fork->state[fork->front] = KG_BRANCH_UNHEARD;
        fork->target[fork->front] = (uint8_t)n;
        fork->deadline_ms[fork->front] = unheard_until_ms(leg, n);
        kg_branch_name(leg, n);
    }
    const char *problem = kg_out_first(leg, sip, n);
    if (leg->call->over)
        return 0;
    leg->call->record->contacts += !problem;
    if (problem)
        say_not_called(leg, problem);
    return problem ? EHOSTUNREACH : 0;
}

/* The phone of the one in front may be reached over another of its flows. True: that is tried. */
static bool try_other_way(struct kg_leg *leg)
{
    struct kg_fork *fork = leg->fork;
    const struct kg_leg *from = &leg->call->leg[kg_other_side(leg->side)];
    msg_t *msg = kg_leg_invite(from);
    bool called = false;
    int n = 0;
    while (msg && !called && n >= 0) {
        n = kg_fork_other_way(fork->contact, leg->call->target_count, fork->target[fork->front]);
        if (n < 0)
            break;
        kg_early_drop(leg);
        kg_info("call", "call %s: %s is tried over another flow of the same phone", leg->call->record->id,
                leg->call->record->leg[leg->side].user);
        called = call_one(leg, sip_object(msg), (unsigned)n) == 0;
    }
    msg_destroy(msg);
    return called;
}

static void open_fork(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    if (leg->fork || !(leg->fork = calloc(1, sizeof *leg->fork)))
        return;
    if (!call->called)
        call->called = strdup(call->record->leg[leg->side].user);
    for (uint8_t i = 0; i < call->target_count; i++)
        leg->fork->contact[i] = call->target[i].order;
}

/* Where an INVITE to a further contact has its place: one that is over, or a new one. */
static unsigned free_place(struct kg_fork *fork)
{
    for (unsigned i = 0; i < fork->count; i++)
        if (fork->state[i] == KG_BRANCH_OVER)
            return i;
    return fork->count++; /* there are as many as contacts */
}

/* The contacts from `first` on were named by the one in front, which is over: they are called now, while
 * others ring, but for those of a lower q, whose turn comes later. */
static void call_instead(struct kg_leg *leg, unsigned first)
{
    struct kg_call *call = leg->call;
    struct kg_fork *fork = leg->fork;
    const struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    uint8_t place[KG_TARGETS_MAX];
    msg_t *msg = kg_leg_invite(from);
    for (unsigned i = first; i < call->target_count; i++)
        fork->contact[i] = call->target[i].order;
    unsigned count = kg_fork_round(fork->contact + first, call->target_count - first, call->parallel, place);
    kg_fsm_set_rounds(&call->fsm, kg_fork_rounds(fork->contact, call->target_count, call->parallel));
    kg_early_drop(leg);
    fork->state[fork->front] = KG_BRANCH_OVER;
    call->holds++;
    /* None may look like the last one before all were called. */
    for (unsigned i = 0; i < count; i++) {
        unsigned at = i == 0 ? fork->front : free_place(fork);
        fork->state[at] = KG_BRANCH_UNHEARD;
        fork->deadline_ms[at] = INT64_MAX;
        fork->target[at] = (uint8_t)(first + place[i]);
        place[i] = (uint8_t)at;
    }
    for (unsigned i = 0; i < count && leg->fork == fork; i++) {
        kg_branch_bring(leg, place[i]);
        if (!msg || call_one(leg, sip_object(msg), fork->target[place[i]]) != 0)
            kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
    }
    kg_branch_settle(leg);
    kg_call_unhold(call);
    msg_destroy(msg);
}

static bool is_calling(const struct kg_leg *leg)
{
    enum kg_leg_state state = leg->call->fsm.leg[leg->side];
    return leg->side == KG_SIDE_B && leg->call->fsm.state == KG_CALL_CALLING &&
           (state == KG_LEG_INVITING || state == KG_LEG_RINGING);
}

/* The status to go on with; 0: others were called instead. */
static int redirect(struct kg_leg *leg, int status, nta_outgoing_t *orq, const char **why)
{
    struct kg_call *call = leg->call;
    msg_t *msg = nta_outgoing_getresponse(orq);
    unsigned first = call->target_count;
    open_fork(leg);
    if (!leg->fork || !msg) {
        status = 480;
    } else {
        if (leg->fork->count == 0) { /* it was the only contact */
            leg->fork->count = 1;
            leg->fork->contact[0].taken = true;
            leg->fork->state[0] = KG_BRANCH_HEARD;
            leg->fork->deadline_ms[0] = INT64_MAX;
        }
        status = kg_redirect(leg, leg->fork->target[leg->fork->front], sip_object(msg), why);
    }
    msg_destroy(msg);
    if (status != 0)
        return status;
    kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_PROVISIONAL, .side = leg->side, .status = 181});
    if (leg->fork)
        call_instead(leg, first);
    return 0;
}

void kg_branch_fail(struct kg_leg *leg, int status, const char *why, nta_outgoing_t *orq)
{
    if (status >= 300 && status < 400 && orq && is_calling(leg)) {
        status = redirect(leg, status, orq, &why);
        if (status == 0)
            return;
    }
    struct kg_fork *fork = leg->fork;
    if (!fork) {
        reject(leg, status, why);
        return;
    }
    if (!kg_fork_is_lost_way(status, orq != NULL))
        kg_fork_reached(fork->contact, leg->call->target_count, fork->target[fork->front]);
    else if (try_other_way(leg))
        return;
    fork->state[fork->front] = KG_BRANCH_OVER;
    fork->deadline_ms[fork->front] = INT64_MAX;
    bool redirects = status >= 300 && status < 400;
    remember(fork, redirects ? status : kg_fsm_map_status(status, leg->pbx), why, orq);
    switch (kg_fork_judge(fork->state, fork->count, status)) {
    case KG_FORK_GOES_ON:
        step_back(leg);
        break;
    case KG_FORK_STOPS:
        for (unsigned i = 0; i < fork->count; i++) {
            kg_branch_close(&fork->branch[i]);
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
        kg_branch_cancel(leg->invite);
    leg->invite = NULL;
}

bool kg_branch_leave(struct kg_leg *leg, bool by_phone, const char *why)
{
    struct kg_fork *fork = leg->fork;
    if (!fork)
        return false;
    if (by_phone)
        kg_fork_reached(fork->contact, leg->call->target_count, fork->target[fork->front]);
    drop(leg);
    kg_branch_fail(leg, 480, why, NULL);
    return true;
}

bool kg_branch_tick(struct kg_leg *leg, int64_t now_ms)
{
    struct kg_call *call = leg->call;
    struct kg_fork *fork = leg->fork;
    bool waits = false;
    call->holds++;
    /* The last one may begin another round, whose deadlines are later, or end the call. */
    for (unsigned i = 0; leg->fork && i < fork->count; i++) {
        waits |= fork->deadline_ms[i] != INT64_MAX;
        if (now_ms < fork->deadline_ms[i])
            continue;
        kg_branch_bring(leg, i);
        kg_info("call", "call %s: %s at %s says nothing and is given up", call->record->id,
                call->record->leg[leg->side].user, leg->target ? leg->target : "?");
        kg_judge_heard(call);
        kg_judge(leg, KG_OUTCOME_SILENT, 0);
        drop(leg);
        kg_branch_fail(leg, leg->pbx ? 503 : 408,
                       leg->pbx ? "the PBX does not answer" : "the callee's phone does not answer", NULL);
    }
    kg_branch_settle(leg);
    kg_call_unhold(call);
    return waits;
}

/* ---- a round ---- */

static void begin_round(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    struct kg_fork *fork = leg->fork;
    fork->front = 0;
    fork->branch[0] = (struct kg_branch){0};
    fork->count = (uint8_t)kg_fork_round(fork->contact, call->target_count, call->parallel, fork->target);
    for (unsigned i = 0; i < fork->count; i++) {
        fork->state[i] = KG_BRANCH_UNHEARD;
        fork->deadline_ms[i] = INT64_MAX;
    }
}

static void call_round(struct kg_leg *leg, const sip_t *sip)
{
    unsigned count = leg->fork ? leg->fork->count : 1;
    const struct kg_fork *fork = leg->fork;
    for (unsigned i = 0; i < count && leg->fork == fork && !leg->call->over; i++) {
        if (leg->fork)
            kg_branch_bring(leg, i);
        if (call_one(leg, sip, leg->fork ? leg->fork->target[i] : 0) != 0)
            kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
    }
    kg_branch_settle(leg);
}

void kg_branch_call(struct kg_leg *leg)
{
    struct kg_call *call = leg->call;
    const struct kg_leg *from = &call->leg[kg_other_side(leg->side)];
    msg_t *msg = kg_leg_invite(from);
    bool again = leg->fork != NULL, several = call->target_count > 1;
    if (several)
        open_fork(leg);
    if (!msg || (several && !leg->fork)) {
        say_not_called(leg, msg ? "out of memory" : "the other side's INVITE is gone");
        kg_branch_fail(leg, leg->pbx ? 503 : 480, NULL, NULL);
    } else {
        kg_early_forget(leg);
        kg_talk_forget(leg);
        if (again)
            kg_talk_next_contact(leg);
        if (leg->fork)
            begin_round(leg);
        if (leg->fork && leg->fork->count == 0)
            reject_all(leg); /* other ways to the same phones, which were of no use any more */
        else
            call_round(leg, sip_object(msg));
    }
    msg_destroy(msg);
}
