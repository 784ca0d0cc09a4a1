/* The table of calls, its timer, and what other folders ask of it. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/su_wait.h>
#include <utlist.h>

#include "b2bua/call/talk.h"
#include "b2bua/call/transfer.h"
#include "b2bua/cdr/cdr.h"
#include "b2bua/registrar/registrar.h"
#include "b2bua/route/caps.h"
#include "b2bua/route/trunks.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* Deadlines of the state machines are seconds: looking at all of them this often costs less than a timer
 * each. */
#define TICK_MS 250
/* Calls that were taken over and whose ports are asked of the engine at once: its queue takes 4096 requests.
 */
#define PORTS_A_TICK 500

#define ALLOW "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE"

static void free_memory(struct kg_call *call)
{
    struct kg_calls *calls = call->calls;
    if (calls->walks > 0) {
        call->dead_next = calls->dead;
        calls->dead = call;
        return;
    }
    kg_record_free(call->record);
    for (int side = 0; side < 2; side++)
        OPENSSL_cleanse(&call->leg[side].keys, sizeof call->leg[side].keys);
    free(call);
}

/* While all calls are walked through, what happens to one may end another, as a transfer's two, and that one
 * may be next: the memory stays until the walk is over. */
static void begin_walk(struct kg_calls *calls)
{
    calls->walks++;
}

static void end_walk(struct kg_calls *calls)
{
    if (--calls->walks > 0)
        return;
    while (calls->dead) {
        struct kg_call *call = calls->dead;
        calls->dead = call->dead_next;
        free_memory(call);
    }
}

static void tick_one(struct kg_call *call, int64_t now, unsigned *asked)
{
    struct kg_leg *b = &call->leg[KG_SIDE_B];
    if (b->fork && kg_branch_tick(b, now)) /* it knows better than the state machine who is unheard */
        return;
    if (call->doubt_ms && now >= call->doubt_ms)
        kg_leg_doubt_tick(call, now);
    else if (call->bye_due_ms && now >= call->bye_due_ms)
        kg_bye_tick(call, now);
    else if (now >= call->fsm.deadline_ms)
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_TIMER});
    else if (call->ports_unknown && (*asked)++ < PORTS_A_TICK)
        kg_talk_ask_ports(call);
    else if (now >= call->path.deadline_ms)
        kg_path_tick(call);
    else if (now >= call->session_due_ms)
        kg_session_tick(call);
}

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic;
    struct kg_calls *calls = (struct kg_calls *)arg;
    int64_t now = kg_mono_ms();
    struct kg_call *call, *next;
    unsigned asked = 0;
    begin_walk(calls);
    HASH_ITER(hh, calls->by_id, call, next)
    {
        if (!call->over)
            tick_one(call, now, &asked);
    }
    end_walk(calls);
    su_timer_set_interval(timer, on_tick, arg, TICK_MS);
}

struct kg_calls *kg_calls_new(struct kg_server *server)
{
    struct kg_calls *calls = calloc(1, sizeof *calls);
    if (!calls)
        return NULL;
    calls->server = server;
    calls->agent = kg_sip_agent(server->sip);
    su_home_init(calls->home);
    calls->content_type = sip_content_type_make(calls->home, "application/sdp");
    calls->allow = sip_allow_make(calls->home, ALLOW);
    calls->timer = su_timer_create(su_root_task(server->root), TICK_MS);
    calls->habits = kg_habits_new();
    if (!calls->content_type || !calls->allow || !calls->timer || !calls->habits) {
        kg_calls_free(calls);
        return NULL;
    }
    /* 100 by nta when 200 ms have passed without an answer of ours (RFC 3261 17.2.1). 487 by us, since the
     * other side's 200 may cross the CANCEL of a re-INVITE. 482 by us: nta does not look at the request URI,
     * and a PBX that forks a call to two phones behind kedge would lose one of them. */
    nta_agent_set_params(calls->agent, NTATAG_EXTRA_100(1), NTATAG_CANCEL_487(0), NTATAG_MERGE_482(0),
                         TAG_END());
    su_timer_set_interval(calls->timer, on_tick, (su_timer_arg_t *)calls, TICK_MS);
    return calls;
}

void kg_calls_free(struct kg_calls *calls)
{
    if (!calls)
        return;
    struct kg_call *call, *next;
    HASH_ITER(hh, calls->by_id, call, next)
    {
        kg_call_end(call);
    }
    struct kg_ending *ending, *later;
    DL_FOREACH_SAFE(calls->endings, ending, later) /* the engine did not answer in time */
    {
        kg_calls_file(ending);
    }
    for (size_t i = 0; i < KG_RECENT_MAX; i++)
        kg_record_free(calls->recent[i]);
    if (calls->timer)
        su_timer_destroy(calls->timer);
    kg_habits_free(calls->habits);
    su_home_deinit(calls->home);
    free(calls);
}

/* ---- one call's life ---- */

/* From a pool, so that the kernel is asked once for many calls. What was given out is wiped. */
void kg_calls_random(struct kg_calls *calls, void *out, size_t len)
{
    if (calls->chance_left < len) {
        kg_random(calls->chance, sizeof calls->chance);
        calls->chance_left = sizeof calls->chance;
    }
    calls->chance_left -= len;
    memcpy(out, calls->chance + calls->chance_left, len);
    memset(calls->chance + calls->chance_left, 0, len);
}

void kg_calls_random_hex(struct kg_calls *calls, char *out, size_t len)
{
    static const char digit[] = "0123456789abcdef";
    uint8_t byte[KG_CALL_ID_HEX];
    kg_calls_random(calls, byte, len);
    for (size_t i = 0; i < len; i++)
        out[i] = digit[byte[i] & 15];
    out[len] = '\0';
}

struct kg_sdp_origin kg_calls_new_origin(struct kg_calls *calls)
{
    uint32_t id;
    kg_calls_random(calls, &id, sizeof id);
    return (struct kg_sdp_origin){.id = id >> 1, .version = 1};
}

struct kg_call *kg_call_new(struct kg_calls *calls, const char *id)
{
    char fresh[KG_CALL_ID_LEN + 1];
    kg_calls_random_hex(calls, fresh, KG_CALL_ID_LEN);
    struct kg_call *call = calloc(1, sizeof *call);
    struct kg_record *record = kg_record_new(id ? id : fresh);
    if (!call || !record) {
        free(call);
        kg_record_free(record);
        return NULL;
    }
    call->calls = calls;
    call->record = record;
    call->policy = KG_POLICY_DEFAULT;
    call->profile = KG_PROFILE_DEFAULT;
    record->started_ms = kg_wall_ms();
    kg_path_init(&call->path);
    call->session_due_ms = INT64_MAX;
    for (int side = 0; side < 2; side++) {
        call->leg[side].call = call;
        call->leg[side].side = (enum kg_side)side;
        call->leg[side].origin = kg_calls_new_origin(calls);
    }
    HASH_ADD_STR(calls->by_id, record->id, call);
    calls->count++;
    return call;
}

static void remember(struct kg_calls *calls, struct kg_record *record)
{
    kg_record_free(calls->recent[calls->recent_next]);
    calls->recent[calls->recent_next] = record;
    calls->recent_next = (calls->recent_next + 1) % KG_RECENT_MAX;
}

struct kg_ending *kg_calls_ending(struct kg_call *call)
{
    struct kg_ending *ending = malloc(sizeof *ending);
    if (!ending)
        return NULL;
    *ending = (struct kg_ending){.calls = call->calls, .record = kg_record_use(call->record)};
    DL_APPEND(call->calls->endings, ending);
    return ending;
}

void kg_calls_file(struct kg_ending *ending)
{
    if (!ending)
        return;
    struct kg_cdr *cdr = ending->calls->server->cdr;
    if (kg_cdr_is_on(cdr) && !kg_record_challenged(ending->record)) {
        kg_cdr_write(cdr, kg_record_json(ending->record, kg_call_state_name(KG_CALL_ENDED)));
        kg_counters.cdr_lost = kg_cdr_lost(cdr);
    }
    DL_DELETE(ending->calls->endings, ending);
    kg_record_free(ending->record);
    free(ending);
}

int kg_call_reserve(struct kg_call *call, size_t count)
{
    struct kg_call_target *target = realloc(call->target, count * sizeof *target);
    if (!target)
        return ENOMEM;
    call->target = target;
    return 0;
}

void kg_call_free_targets(struct kg_call *call)
{
    for (uint8_t i = 0; i < call->target_count; i++) {
        free(call->target[i].url);
        free(call->target[i].path);
        free(call->target[i].user);
        kg_trunk_release(call->target[i].trunk);
        kg_flow_clear(&call->target[i].flow);
    }
    free(call->target);
    call->target = NULL;
    call->target_count = 0;
    free(call->called);
    call->called = NULL;
}

void kg_call_end(struct kg_call *call)
{
    struct kg_calls *calls = call->calls;
    if (call->over)
        return;
    call->over = true;
    HASH_DEL(calls->by_id, call);
    if (call->invite_key)
        HASH_DELETE(hh_invite, calls->by_invite, call);
    calls->count--;
    kg_judge_heard(call);
    kg_relay_close_all(call);
    kg_transfer_forget(call);
    kg_call_free_targets(call);
    free(call->called_number);
    free(call->caller_number);
    kg_caps_done(calls->server->caps, call->cap, kg_call_is_refunded(call));
    while (call->divert_caps > 0)
        kg_caps_done(calls->server->caps, call->divert_cap[--call->divert_caps], false);
    for (int side = 0; side < 2; side++) {
        struct kg_leg *leg = &call->leg[side];
        kg_leg_close(leg);
        kg_talk_forget(leg);
        kg_leg_set_trunk(leg, NULL);
        free(leg->target);
        free(leg->local);
        free(leg->remote);
        free(leg->sdp_agreed);
        free(call->local[side]);
    }
    if (call->record->ended_ms && !kg_record_challenged(call->record)) {
        remember(calls, call->record);
        call->record = NULL;
    }
    if (call->holds == 0)
        free_memory(call);
}

void kg_call_unhold(struct kg_call *call)
{
    if (--call->holds == 0 && call->over)
        free_memory(call);
}

enum kg_policy kg_call_policy(const struct kg_call *call)
{
    return call->policy == KG_POLICY_DEFAULT ? call->calls->server->config.media.policy : call->policy;
}

struct kg_call *kg_calls_find(struct kg_calls *calls, const char *id)
{
    struct kg_call *call = NULL;
    HASH_FIND_STR(calls->by_id, id, call);
    return call;
}

/* ---- events from elsewhere ---- */

static void lose(struct kg_leg *leg)
{
    leg->lost = leg->call->record->leg[leg->side].lost = true;
    if (!kg_branch_leave(leg, false, "the callee's connection was lost before the answer"))
        kg_call_event(leg->call, &(struct kg_fsm_event){.type = KG_EV_FLOW_LOST, .side = leg->side});
}

void kg_calls_flow_lost(struct kg_calls *calls, tport_t *tport)
{
    struct kg_call *call, *next;
    begin_walk(calls);
    HASH_ITER(hh, calls->by_id, call, next)
    {
        call->holds++;
        for (int side = 0; side < 2 && !call->over; side++) {
            struct kg_leg *leg = &call->leg[side];
            for (unsigned i = 0; !leg->pbx && kg_branch_show(leg, i); i++)
                if (leg->flow.tport && leg->flow.tport == tport)
                    lose(leg);
            kg_branch_settle(leg);
        }
        kg_call_unhold(call);
    }
    end_walk(calls);
}

/* A phone in a call has registered from another place: everything follows it there, as after a request of its
 * own in the dialog. Only legs of the same user whose flow the contact had: nobody else's call is moved.
 * Walks all calls as the timer does four times a second; a REGISTER that says nothing new never comes here.
 */
void kg_calls_moved(struct kg_calls *calls, const char *user, const struct kg_flow *before,
                    const struct kg_flow *after)
{
    struct kg_call *call, *next;
    begin_walk(calls);
    HASH_ITER(hh, calls->by_id, call, next)
    {
        call->holds++;
        for (int side = 0; side < 2 && !call->over; side++) {
            struct kg_leg *leg = &call->leg[side];
            const char *name = call->record->leg[side].user;
            if (leg->pbx || !name || strcmp(name, user) != 0)
                continue;
            for (unsigned i = 0; !call->over && kg_branch_show(leg, i); i++)
                if (leg->dialog && kg_flow_same(&leg->flow, before))
                    kg_leg_move(leg, after);
            kg_branch_settle(leg);
        }
        kg_call_unhold(call);
    }
    end_walk(calls);
}

static void recover(struct kg_calls *calls, const struct kg_media_session_info *info)
{
    if (kg_calls_find(calls, info->id))
        return;
    int failed =
        info->snapshot_len ? kg_snapshot_read(calls, info->id, info->snapshot, info->snapshot_len) : 0;
    if (info->snapshot_len && !failed) {
        kg_counters.calls_recovered++;
        kg_secure_recovered(kg_calls_find(calls, info->id), info);
        return;
    }
    if (failed)
        kg_warn("call", "call %s could not be taken over (%s); its media ends", info->id, strerror(failed));
    else
        kg_info("call", "call %s was not answered yet when signalling went down; it ends", info->id);
    kg_media_delete(calls->server->media, info->id, NULL, NULL);
}

static void note_engine_lost(struct kg_calls *calls)
{
    struct kg_call *call, *next;
    HASH_ITER(hh, calls->by_id, call, next)
    kg_record_note(call->record, KG_NOTE_ENGINE_LOST, KG_SIDE_A, NULL);
}

void kg_calls_media_event(struct kg_calls *calls, const struct kg_media_event *event)
{
    if (event->type == KG_MEDIA_RECOVERED) {
        recover(calls, event->info);
        return;
    }
    if (event->type == KG_MEDIA_DOWN) {
        note_engine_lost(calls);
        return;
    }
    struct kg_call *call = event->id ? kg_calls_find(calls, event->id) : NULL;
    if (!call)
        return;
    switch (event->type) {
    case KG_MEDIA_SILENCE:
        kg_counters.calls_silent++;
        kg_info("call", "call %s: %s", call->record->id, event->reason ? event->reason : "no media");
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_SILENCE});
        break;
    case KG_MEDIA_LOST:
        kg_warn("call", "call %s: its media was lost: %s", call->record->id,
                event->reason ? event->reason : "?");
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_MEDIA_LOST});
        break;
    case KG_MEDIA_RTCP:
        kg_rtcp_capture(call, event);
        break;
    case KG_MEDIA_LATCHED:
    case KG_MEDIA_ICE:
    case KG_MEDIA_PATH:
    case KG_MEDIA_LEFT:
        kg_path_media(call, event);
        break;
    case KG_MEDIA_SECURE:
    case KG_MEDIA_REKEY:
        kg_secure_media(call, event);
        break;
    case KG_MEDIA_IDENTITY:
    case KG_MEDIA_RECOVERED:
    case KG_MEDIA_UP:
    case KG_MEDIA_DOWN:
        break;
    }
}

void kg_calls_shutdown(struct kg_calls *calls)
{
    struct kg_call *call, *next;
    begin_walk(calls);
    HASH_ITER(hh, calls->by_id, call, next)
    {
        if (!call->over)
            kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_SHUTDOWN});
    }
    end_walk(calls);
}

bool kg_calls_are_done(const struct kg_calls *calls)
{
    return calls->count == 0 && !calls->endings;
}

size_t kg_calls_count(const struct kg_calls *calls)
{
    return calls->count;
}
