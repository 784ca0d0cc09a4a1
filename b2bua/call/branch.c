/* Which contact of leg B is the leg now: the branch in front, whose dialog and INVITE are the leg's; the
 * others wait here. Only a call with several contacts has any of this. */
#include "b2bua/call/branch.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/talk.h"
#include "b2bua/route/trunks.h"

void kg_branch_name(struct kg_leg *leg, unsigned target)
{
    const char *user = leg->call->target[target].user ? leg->call->target[target].user : leg->call->called;
    char **name = &leg->call->record->leg[leg->side].user;
    if (!user || (*name && strcmp(*name, user) == 0))
        return;
    char *copy = strdup(user);
    if (!copy)
        return;
    free(*name);
    *name = copy;
}

static struct kg_branch put_aside(struct kg_leg *leg)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    struct kg_branch branch = {.dialog = leg->dialog,
                               .invite = leg->invite,
                               .flow = leg->flow,
                               .placed = leg->placed,
                               .target = leg->target,
                               .local = leg->local,
                               .remote = leg->remote,
                               .call_id = record->call_id,
                               .origin = leg->origin,
                               .peer = leg->peer,
                               .rcseq = leg->rcseq,
                               .pbx = leg->pbx,
                               .trunk = leg->trunk,
                               .proofs = leg->proofs,
                               .lost = leg->lost,
                               .allows_update = leg->allows_update,
                               .refuses_refer = leg->refuses_refer,
                               .trickles = leg->trickles,
                               .options = leg->options,
                               .nat = record->nat,
                               .mux_offered = leg->mux_offered,
                               .keys = leg->keys};
    memcpy(branch.told, leg->told, sizeof branch.told);
    return branch;
}

static void bring(struct kg_leg *leg, const struct kg_branch *branch)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    leg->dialog = branch->dialog;
    leg->invite = branch->invite;
    leg->flow = branch->flow;
    leg->placed = branch->placed;
    leg->target = branch->target;
    leg->local = branch->local;
    leg->remote = branch->remote;
    leg->origin = branch->origin;
    leg->peer = branch->peer;
    leg->rcseq = branch->rcseq;
    leg->pbx = record->pbx = branch->pbx;
    leg->trunk = branch->trunk;
    leg->proofs = branch->proofs;
    kg_leg_name_trunk(leg);
    leg->lost = branch->lost;
    leg->allows_update = branch->allows_update;
    leg->refuses_refer = branch->refuses_refer;
    leg->trickles = branch->trickles;
    leg->options = branch->options;
    leg->mux_offered = branch->mux_offered;
    leg->keys = branch->keys;
    memcpy(leg->told, branch->told, sizeof leg->told);
    record->call_id = branch->call_id;
    record->nat = branch->nat;
    record->lost = branch->lost;
    record->transport = branch->flow.transport;
    record->remote = branch->flow.remote;
}

void kg_branch_bring(struct kg_leg *leg, unsigned i)
{
    struct kg_fork *fork = leg->fork;
    if (fork->front == i)
        return;
    fork->branch[fork->front] = put_aside(leg);
    bring(leg, &fork->branch[i]);
    kg_branch_name(leg, fork->target[i]);
    fork->branch[i] = (struct kg_branch){0};
    fork->front = (uint8_t)i;
}

bool kg_branch_turn(struct kg_leg *leg, const nta_outgoing_t *invite)
{
    struct kg_fork *fork = leg->fork;
    if (leg->invite == invite)
        return true;
    for (unsigned i = 0; fork && i < fork->count; i++)
        if (fork->branch[i].invite == invite) {
            kg_branch_bring(leg, i);
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
            kg_branch_bring(leg, i);
            return true;
        }
    return false;
}

bool kg_branch_show(struct kg_leg *leg, unsigned n)
{
    struct kg_fork *fork = leg->fork;
    for (unsigned i = 0; fork && i < fork->count; i++)
        if (fork->state[i] != KG_BRANCH_OVER && n-- == 0) {
            kg_branch_bring(leg, i);
            return true;
        }
    return !fork && n == 0;
}

unsigned kg_branch_target(const struct kg_leg *leg)
{
    return leg->fork ? leg->fork->target[leg->fork->front] : 0;
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
            kg_branch_bring(leg, i);
            return;
        }
    }
    if (fork->state[fork->front] == KG_BRANCH_OVER)
        kg_branch_show(leg, 0);
}

unsigned kg_branch_place(const struct kg_leg *leg)
{
    return leg->fork ? leg->fork->front : 0;
}

bool kg_branch_return(struct kg_leg *leg, const struct kg_fork *fork, unsigned place)
{
    if (leg->call->over || leg->fork != fork ||
        (fork && (place >= fork->count || fork->state[place] == KG_BRANCH_OVER)))
        return false;
    if (fork)
        kg_branch_bring(leg, place);
    return true;
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

void kg_branch_cancel(nta_outgoing_t *invite)
{
    cancel(invite, NULL);
}

void kg_branch_close(struct kg_branch *branch)
{
    if (branch->trunk)
        kg_trunk_end_call(branch->trunk);
    cancel(branch->invite, NULL);
    if (branch->dialog)
        nta_leg_destroy(branch->dialog);
    kg_flow_clear(&branch->flow);
    free(branch->target);
    free(branch->local);
    free(branch->remote);
    free(branch->call_id);
    OPENSSL_cleanse(&branch->keys, sizeof branch->keys);
    *branch = (struct kg_branch){0};
}

void kg_branch_drop_others(struct kg_leg *leg, const sip_reason_t *reason)
{
    struct kg_fork *fork = leg->fork;
    if (!fork)
        return;
    for (unsigned i = 0; i < fork->count; i++) {
        cancel(fork->branch[i].invite, reason);
        fork->branch[i].invite = NULL;
        kg_branch_close(&fork->branch[i]);
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
    kg_call_free_targets(leg->call);
}
