/* Session timers on the wire (RFC 4028): session_timer.h decides, here its words are read, written and done.
 */
#include "b2bua/call/call.h"

#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/talk.h"
#include "conf/clock.h"
#include "conf/log.h"

static struct kg_session_rules rules_of(const struct kg_calls *calls)
{
    const struct kg_config *config = &calls->server->config;
    return (struct kg_session_rules){.offer_s = config->calls.session_ms / 1000,
                                     .min_s = config->calls.session_min_ms / 1000};
}

/* kedge could not refresh it. */
static bool is_pointless(const struct kg_leg *leg)
{
    return leg->pbx && !leg->trunk && leg->call->calls->pbx_challenges;
}

static struct kg_session_rules rules_for(const struct kg_leg *leg)
{
    struct kg_session_rules rules = rules_of(leg->call->calls);
    if (is_pointless(leg))
        rules.offer_s = 0;
    return rules;
}

static uint32_t seconds(unsigned long value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static struct kg_session_said said(const sip_t *sip)
{
    struct kg_session_said out = {.supported = sip_has_feature(sip->sip_supported, "timer") ||
                                               sip_has_feature(sip->sip_require, "timer")};
    const sip_session_expires_t *expires = sip->sip_session_expires;
    const char *refresher = expires ? expires->x_refresher : NULL;
    if (expires)
        out.expires_s = expires->x_delta ? seconds(expires->x_delta) : 1;
    if (sip->sip_min_se)
        out.min_s = seconds(sip->sip_min_se->min_delta);
    if (refresher && strcasecmp(refresher, "uac") == 0)
        out.refresher = KG_REFRESHER_UAC;
    else if (refresher && strcasecmp(refresher, "uas") == 0)
        out.refresher = KG_REFRESHER_UAS;
    return out;
}

/* The call is looked at again when the first of its two timers is due. */
static void settle(struct kg_call *call)
{
    int64_t a = kg_session_due_ms(&call->leg[KG_SIDE_A].session);
    int64_t b = kg_session_due_ms(&call->leg[KG_SIDE_B].session);
    call->session_due_ms = a < b ? a : b;
}

static void note(struct kg_leg *leg)
{
    struct kg_record_leg *record = &leg->call->record->leg[leg->side];
    int64_t end = kg_session_end_ms(&leg->session);
    record->session_end_ms = end == INT64_MAX ? 0 : end - kg_mono_ms() + kg_wall_ms();
    record->session_ours = leg->session.ours;
    settle(leg->call);
}

void kg_session_restored(struct kg_leg *leg)
{
    note(leg);
}

/* ---- requests of the peer ---- */

bool kg_session_refuse(struct kg_calls *calls, nta_incoming_t *irq, const sip_t *sip)
{
    const struct kg_session_rules rules = rules_of(calls);
    const struct kg_session_said asked = said(sip);
    sip_min_se_t min[1];
    uint32_t least = kg_session_refusal(&asked, &rules);
    if (!least)
        return false;
    sip_min_se_init(min)->min_delta = least;
    nta_incoming_treply(irq, 422, "Session Interval Too Small", SIPTAG_MIN_SE(min), TAG_END());
    return true;
}

void kg_session_ask(struct kg_leg *leg, const sip_t *sip)
{
    leg->session_asked = said(sip);
}

void kg_session_serve(struct kg_leg *leg, char out[static KG_SESSION_TEXT])
{
    const struct kg_session_rules rules = rules_for(leg);
    kg_session_accept(&leg->session, &leg->session_asked, &rules, kg_mono_ms());
    kg_session_response_text(&leg->session, out);
    note(leg);
}

/* ---- requests of ours ---- */

bool kg_session_text(const struct kg_leg *leg, char out[static KG_SESSION_TEXT])
{
    const struct kg_session_rules rules = rules_for(leg);
    return kg_session_request_text(&leg->session, &rules, out);
}

void kg_session_heard(struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_session_rules rules = rules_for(leg);
    const struct kg_session_said answer = said(sip);
    kg_session_accepted(&leg->session, &answer, &rules, kg_mono_ms());
    note(leg);
}

bool kg_session_too_short(struct kg_leg *leg, const sip_t *sip)
{
    const struct kg_session_rules rules = rules_for(leg);
    if (!sip || sip->sip_status->st_status != 422)
        return false;
    const struct kg_session_said answer = said(sip);
    return kg_session_raise(&leg->session, &answer, &rules);
}

/* ---- refreshing ---- */

static void do_without(struct kg_leg *leg)
{
    leg->session = (struct kg_session_timer){.min_s = leg->session.min_s};
    note(leg);
    if (leg->call->fsm.state == KG_CALL_TALK)
        kg_talk_save(leg->call);
}

bool kg_session_challenged(struct kg_leg *leg, int status)
{
    struct kg_calls *calls = leg->call->calls;
    if (!leg->pbx || leg->trunk || (status != 401 && status != 407))
        return false;
    if (!calls->pbx_challenges)
        kg_info(
            "call",
            "call %s: the PBX wants a password (%d) before a session is refreshed, which only phones have: "
            "from now on sessions with it have no timer, and silence alone ends what is left of a call",
            leg->call->record->id, status);
    calls->pbx_challenges = true;
    do_without(leg);
    return true;
}

static int on_refreshed(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    int status = sip ? sip->sip_status->st_status : 408;
    if (status < 200 || orq != leg->refresh)
        return 0;
    if (kg_prove(leg, &leg->refresh, sip, on_refreshed))
        return 0;
    leg->refresh = NULL;
    call->holds++;
    if (status < 300) {
        kg_leg_learn(leg, sip);
        kg_session_heard(leg, sip);
        if (call->fsm.state == KG_CALL_TALK)
            kg_talk_save(call);
    } else if (status == 405 || status == 501) { /* its Allow said otherwise */
        leg->allows_update = false;
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_REFRESH, .side = leg->side});
    } else if (status == 408 || status == 481) { /* RFC 3261 12.2.1.2 */
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_EXPIRED,
                                                   .side = leg->side,
                                                   .why = status == 408
                                                              ? "the other side no longer answers"
                                                              : "the other side no longer knows the call"});
    } else if (kg_session_too_short(leg, sip)) {
        leg->session.retry_ms = 0;
        settle(call);
    } else if (!kg_session_challenged(leg, status)) {
        kg_info("call", "call %s: %s answered %d to a session refresh; it is tried again", call->record->id,
                call->record->leg[leg->side].user, status);
    }
    nta_outgoing_destroy(orq);
    kg_call_unhold(call);
    return 0;
}

/* RFC 4028 7.4: UPDATE without SDP is best, it concerns nothing else that may be under way. */
static void send_update(struct kg_leg *leg)
{
    char route[KG_HOP_URL], buf[KG_CONTACT_URL], text[KG_SESSION_TEXT], options[KG_OPTIONS_TEXT], min[16];
    sip_contact_t contact[1];
    kg_leg_contact(leg, contact, buf);
    kg_session_text(leg, text);
    snprintf(min, sizeof min, "%u", (unsigned)leg->session.min_s);
    leg->refresh = nta_outgoing_tcreate(
        leg->dialog, on_refreshed, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_UPDATE, NULL,
        NTATAG_TPORT(leg->flow.tport), SIPTAG_CONTACT(contact), SIPTAG_SESSION_EXPIRES_STR(text),
        TAG_IF(leg->session.min_s, SIPTAG_MIN_SE_STR(min)), SIPTAG_ALLOW(leg->call->calls->allow),
        SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options)), TAG_END());
    leg->refresh = kg_out_keep(leg, leg->refresh);
}

static void refresh(struct kg_leg *leg)
{
    bool ready = leg->allows_update || leg->call->stream_count > 0; /* else it is not known what to offer */
    if (leg->refresh || !ready ||
        !kg_leg_is_reachable(leg)) /* a phone that comes back in time is refreshed then */
        return;
    if (leg->allows_update)
        send_update(leg);
    else
        kg_call_event(leg->call, &(struct kg_fsm_event){.type = KG_EV_REFRESH, .side = leg->side});
}

static const char *why_expired(const struct kg_leg *leg)
{
    static const char *const why[2][2] = {
        {"the caller's side no longer refreshed the session (RFC 4028)",
         "the callee's side no longer refreshed the session (RFC 4028)"},
        {"the caller's side answered no session refresh of kedge's (RFC 4028)",
         "the callee's side answered no session refresh of kedge's (RFC 4028)"},
    };
    return why[leg->session.ours][leg->side];
}

void kg_session_tick(struct kg_call *call)
{
    int64_t now = kg_mono_ms();
    call->holds++;
    for (int side = 0; side < 2 && !call->over; side++) {
        struct kg_leg *leg = &call->leg[side];
        if (call->fsm.state != KG_CALL_TALK) { /* it ends, or the answer is on its way */
            call->session_due_ms = call->fsm.state == KG_CALL_ENDING ? INT64_MAX : now + 1000;
            break;
        }
        enum kg_session_step step = kg_session_step(&leg->session, now);
        if (step != KG_SESSION_WAIT && is_pointless(leg)) {
            do_without(leg);
            continue;
        }
        switch (step) {
        case KG_SESSION_WAIT:
            break;
        case KG_SESSION_REFRESH:
            refresh(leg);
            break;
        case KG_SESSION_EXPIRED:
            kg_call_event(call, &(struct kg_fsm_event){
                                    .type = KG_EV_EXPIRED, .side = leg->side, .why = why_expired(leg)});
            break;
        }
    }
    if (!call->over && call->fsm.state == KG_CALL_TALK)
        settle(call);
    kg_call_unhold(call);
}

void kg_session_follow(struct kg_leg *leg)
{
    kg_out_again(leg, &leg->refresh, on_refreshed);
}
