/* Who a request inside of a dialog is from, and how many there may be. Who has overheard a call knows its
 * tags, and could lead its media to himself or end it. */
#include "b2bua/call/call.h"

#include <string.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/registrar/registrar.h"
#include "b2bua/sip/hush.h"
#include "conf/clock.h"
#include "conf/log.h"

/* ---- how many ---- */

/* Requests of one peer in one dialog: at once, and then a second. Key presses come in INFO.
 * Holding and resuming, transfers and candidates of the busiest phones stay far below. */
#define BURST      20
#define RATE       5
#define INFO_BURST 40
#define INFO_RATE  20
/* RFC 3261 20.33: s */
#define RETRY_AFTER "1"

bool kg_leg_is_too_fast(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    int64_t now = kg_mono_ms();
    sip_method_t method = sip->sip_request->rq_method;
    bool info = method == sip_method_info;
    if (method == sip_method_ack || method == sip_method_bye)
        return false;
    if (info ? kg_pace_take(&leg->pace_info, now, INFO_RATE, INFO_BURST)
             : kg_pace_take(&leg->pace, now, RATE, BURST))
        return false;
    if (kg_hush_refused(&leg->pace_refused, sip->sip_call_id, now)) {
        if (!leg->too_fast)
            kg_warn("call", "call %s: %s sends requests faster than any phone has to; they are dropped",
                    leg->call->record->id, leg->call->record->leg[leg->side].user);
        leg->too_fast = true;
    }
    nta_incoming_treply(irq, SIP_500_INTERNAL_SERVER_ERROR, SIPTAG_RETRY_AFTER_STR(RETRY_AFTER), TAG_END());
    return true;
}

/* ---- from whom ---- */

static bool is_registered_at(const struct kg_leg *leg, const struct kg_addr *host)
{
    struct kg_target target[KG_TARGETS_MAX];
    const char *user = leg->call->record->leg[leg->side].user;
    size_t count =
        kg_registrar_lookup(leg->call->calls->server->registrar, user ? user : "", target, KG_TARGETS_MAX);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found |= kg_addr_same_host(&target[i].flow.remote, host);
        kg_flow_clear(&target[i].flow);
    }
    return found;
}

bool kg_leg_knows(const struct kg_leg *leg, const struct kg_flow *flow)
{
    return leg->pbx || kg_addr_same_host(&flow->remote, &leg->flow.remote) ||
           is_registered_at(leg, &flow->remote);
}

/* *flow is to be cleared. */
static bool is_known(struct kg_leg *leg, nta_incoming_t *irq, struct kg_flow *flow)
{
    *flow = (struct kg_flow){0};
    return leg->pbx || kg_flow_of_incoming(leg->call->calls->agent, irq, flow) != 0 ||
           kg_leg_knows(leg, flow);
}

/* The embedded registrar: the user's password does (RFC 3261 22 allows the challenge in a dialog). */
static bool is_without_password(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip,
                                const struct kg_flow *flow)
{
    const char *user = leg->call->record->leg[leg->side].user;
    char named[128] = "";
    if (kg_registrar_authorize(leg->call->calls->server->registrar, irq, sip, flow, named, sizeof named) !=
        KG_AUTH_OK)
        return true;
    if (named[0] && user && strcmp(named, user) == 0)
        return false;
    nta_incoming_treply(irq, SIP_403_FORBIDDEN, TAG_END());
    nta_incoming_destroy(irq);
    return true;
}

/* ---- BYE before a PBX ---- */

/* ms for the phone to say that it is still in the call. */
#define DOUBT_MS 4000

static void believe(struct kg_leg *leg)
{
    leg->call->doubt_ms = 0;
    kg_call_event(leg->call, &(struct kg_fsm_event){.type = KG_EV_BYE, .side = leg->side});
}

static int on_doubt_answered(struct kg_leg *leg, nta_outgoing_t *orq, const sip_t *sip)
{
    struct kg_call *call = leg->call;
    int status = sip ? sip->sip_status->st_status : 408;
    char at[KG_ADDR_STR];
    if (status < 200 || orq != leg->doubt)
        return 0;
    leg->doubt = NULL;
    call->holds++;
    if (!call->doubt_ms) {
        /* it is over already */
    } else if (status == 408 || status == 481 || status == 503 ||
               !sip) { /* 503: nta's, it cannot be reached */
        believe(leg);
    } else {
        call->doubt_ms = 0;
        kg_warn("call", "call %s: a BYE that came from elsewhere is not %s's, who is still in the call at %s",
                call->record->id, call->record->leg[leg->side].user, kg_addr_format(&leg->flow.remote, at));
    }
    nta_outgoing_destroy(orq);
    kg_call_unhold(call);
    return 0;
}

/* Nobody here knows the phone's password, and who changes networks and hangs up before it registers there has
 * hung up. So the phone is asked where it was: if it answers from within the call, it did not hang up. */
static void doubt(struct kg_leg *leg)
{
    char route[KG_HOP_URL];
    if (leg->doubt || leg->call->fsm.state != KG_CALL_TALK)
        return;
    if (kg_leg_is_reachable(leg))
        leg->doubt = kg_out_keep(leg, nta_outgoing_tcreate(leg->dialog, on_doubt_answered, leg,
                                                           (url_string_t *)kg_leg_route_url(leg, route),
                                                           SIP_METHOD_OPTIONS, NULL,
                                                           NTATAG_TPORT(leg->flow.tport), TAG_END()));
    leg->call->doubt_ms = kg_mono_ms() + (leg->doubt ? DOUBT_MS : 0);
    leg->call->doubt_side = leg->side;
}

void kg_leg_doubt_tick(struct kg_call *call, int64_t now_ms)
{
    if (call->doubt_ms && now_ms >= call->doubt_ms)
        believe(&call->leg[call->doubt_side]);
}

/* ---- all in all ---- */

static void send_away(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip, const struct kg_flow *flow)
{
    char at[KG_ADDR_STR];
    if (sip->sip_request->rq_method == sip_method_bye) {
        nta_incoming_treply(irq, SIP_200_OK, TAG_END());
        doubt(leg);
    } else {
        kg_info("call", "call %s: %s from %s has to wait until %s registers from there",
                leg->call->record->id, sip->sip_request->rq_method_name, kg_addr_format(&flow->remote, at),
                leg->call->record->leg[leg->side].user);
        nta_incoming_treply(irq, SIP_500_INTERNAL_SERVER_ERROR, SIPTAG_RETRY_AFTER_STR(RETRY_AFTER),
                            TAG_END());
    }
    nta_incoming_destroy(irq);
}

/* nta has taken the stranger's CSeq for the phone's, whose next request would come out of order (RFC 3261
 * 12.2.2): the dialog is made anew as it was. */
static void take_back_cseq(struct kg_leg *leg)
{
    const sip_route_t *route = NULL;
    const sip_contact_t *contact = NULL;
    sip_record_route_t *routes = NULL, **next = &routes;
    su_home_t home[1] = {SU_HOME_INIT(home)};
    const char *call_id = leg->call->record->leg[leg->side].call_id;
    const char *rtag = nta_leg_get_rtag(leg->dialog);
    if (leg->call->fsm.state != KG_CALL_TALK || !rtag || !call_id || leg->fork)
        return;
    su_home_init(home);
    nta_leg_get_route(leg->dialog, &route, &contact);
    for (; route; route = route->r_next) {
        *next = sip_record_route_format(home, "<%s>", url_as_string(home, route->r_url));
        if (!*next)
            break;
        next = &(*next)->r_next;
    }
    nta_leg_t *made = nta_leg_tcreate(
        leg->call->calls->agent, kg_leg_request, leg, SIPTAG_CALL_ID_STR(call_id),
        SIPTAG_FROM_STR(su_sprintf(home, "%s;tag=%s", leg->local, nta_leg_get_tag(leg->dialog))),
        SIPTAG_TO_STR(su_sprintf(home, "%s;tag=%s", leg->remote, rtag)),
        SIPTAG_CSEQ_STR(su_sprintf(home, "%u", (unsigned)nta_leg_get_seq(leg->dialog))),
        NTATAG_REMOTE_CSEQ(leg->rcseq), TAG_END());
    if (made && nta_leg_server_route(made, routes, contact) == 0) {
        nta_leg_destroy(leg->dialog);
        leg->dialog = made;
    } else if (made) {
        nta_leg_destroy(made);
    }
    su_home_deinit(home);
}

bool kg_leg_is_stranger(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_flow flow;
    bool stranger = !is_known(leg, irq, &flow);
    if (stranger && leg->call->calls->server->config.pbx_count == 0)
        stranger = is_without_password(leg, irq, sip, &flow);
    else if (stranger)
        send_away(leg, irq, sip, &flow);
    kg_flow_clear(&flow);
    if (stranger)
        take_back_cseq(leg);
    else
        leg->rcseq = sip->sip_cseq->cs_seq;
    return stranger;
}
