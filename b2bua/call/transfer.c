#include "b2bua/call/transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sofia-sip/msg.h>
#include <sofia-sip/sip_extra.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/dialogs.h"
#include "b2bua/call/inquiry.h"
#include "b2bua/call/refer.h"
#include "b2bua/call/talk.h"
#include "conf/log.h"

struct kg_transfer {
    struct kg_call *old, *made; /* the call that is transferred, the one to the target */
    enum kg_side referrer;      /* in old; the other one is sent on */
    bool left;                  /* who refers has hung up */
    bool silent;                /* Refer-Sub: false (RFC 4488): no NOTIFY */
    uint32_t id;                /* of Event; 0: it is the first REFER in its dialog */
};

static void dissolve(struct kg_transfer *transfer)
{
    transfer->old->transfer = transfer->made->transfer = NULL;
    free(transfer);
}

void kg_transfer_forget(struct kg_call *call)
{
    if (call->transfer)
        dissolve(call->transfer);
}

static void hang_up(struct kg_call *call, const char *why)
{
    kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_HANGUP, .why = why});
}

/* ---- what who refers is told ---- */

static void notify(struct kg_transfer *transfer, int status, bool final)
{
    struct kg_leg *leg = &transfer->old->leg[transfer->referrer];
    char route[KG_HOP_URL], buf[KG_CONTACT_URL], event[32] = "refer", body[80];
    sip_contact_t contact[1];
    if (transfer->left || transfer->silent || !kg_leg_is_reachable(leg))
        return;
    if (transfer->id)
        snprintf(event, sizeof event, "refer;id=%u", (unsigned)transfer->id);
    const char *phrase = sip_status_phrase(status);
    snprintf(body, sizeof body, "SIP/2.0 %d %s\r\n", status, phrase ? phrase : "Failed");
    kg_leg_contact(leg, contact, buf);
    nta_outgoing_t *orq = nta_outgoing_tcreate(
        leg->dialog, kg_relay_response, leg, (url_string_t *)kg_leg_route_url(leg, route), SIP_METHOD_NOTIFY,
        NULL, NTATAG_TPORT(leg->flow.tport), SIPTAG_CONTACT(contact), SIPTAG_EVENT_STR(event),
        SIPTAG_SUBSCRIPTION_STATE_STR(final ? "terminated;reason=noresource" : "active;expires=180"),
        SIPTAG_CONTENT_TYPE_STR("message/sipfrag;version=2.0"), SIPTAG_PAYLOAD_STR(body), TAG_END());
    kg_relay_keep(leg, orq);
}

/* Sending may end what it is about: it is no transfer any more by then. */
static void conclude(struct kg_transfer *transfer, int status)
{
    struct kg_transfer told = *transfer;
    dissolve(transfer);
    notify(&told, status, true);
}

/* ---- the call to the target ---- */

/* The same as one would say who does plain RTP: keys are between a phone and one other. malloc'd; NULL: out
 * of memory. */
static char *without_keys(const char *agreed)
{
    char error[160];
    struct kg_media_side side;
    struct kg_sdp_local local[KG_MEDIA_STREAMS_MAX];
    struct kg_sdp_origin origin = {.id = 1, .version = 1};
    const struct kg_sdp_reader reader = {.kind = KG_SDP_LEGACY};
    size_t len;
    struct kg_sdp *sdp = kg_sdp_parse(agreed, strlen(agreed), error, sizeof error);
    char *text = NULL;
    memset(&side, 0, sizeof side);
    memset(local, 0, sizeof local);
    if (sdp && kg_sdp_describe(sdp, &side) == 0) {
        for (uint8_t i = 0; i < side.stream_count; i++) {
            local[i].rtp = side.stream[i].rtp; /* ours come later */
            local[i].rtcp = side.stream[i].rtcp;
            local[i].keys = KG_SDP_KEYS_OURS;
        }
        text = kg_sdp_rewrite_within(sdp, local, KG_MEDIA_STREAMS_MAX, &reader, &origin, 0, NULL, &len);
    }
    kg_sdp_free(sdp);
    return text;
}

/* What the side that is sent on said last, for the target: without ICE and direction, which were about the
 * session that ends. NULL: nothing can be made of it. */
static char *take_over_sdp(su_home_t *home, const char *agreed)
{
    static const char *const left_out[] = {"a=candidate:",         "a=ice-",     "a=end-of-candidates",
                                           "a=remote-candidates:", "a=sendrecv", "a=sendonly",
                                           "a=recvonly",           "a=inactive"};
    if (!agreed)
        return NULL;
    char *out = su_strdup(home, ""), *line = su_strdup(home, agreed), *save = NULL;
    for (line = line ? strtok_r(line, "\r\n", &save) : NULL; line && out;
         line = strtok_r(NULL, "\r\n", &save)) {
        bool out_of_date = false;
        for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++)
            out_of_date |= strncmp(line, left_out[i], strlen(left_out[i])) == 0;
        if (!out_of_date)
            out = su_sprintf(home, "%s%s\r\n", out, line);
    }
    return out;
}

/* "<sip:bob@example.org>" of "Bob <sip:bob@example.org>" */
static const char *bare(su_home_t *home, const char *name_addr)
{
    const sip_from_t *addr = name_addr ? sip_from_make(home, name_addr) : NULL;
    return addr ? su_sprintf(home, "<%s>", url_as_string(home, addr->a_url)) : NULL;
}

struct order {
    const char *target;   /* URI */
    const char *replaces; /* NULL: none */
    const char *by;       /* who refers, "<sip:...>" */
    const char *sdp;
};

/* The INVITE as if `from` had sent it. */
static msg_t *write_invite(su_home_t *home, const struct order *order, const char *from, const char *call_id)
{
    const char *text =
        su_sprintf(home,
                   "INVITE %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK%s\r\nMax-Forwards: "
                   "70\r\nFrom: %s;tag=%s\r\n"
                   "To: <%s>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: %s\r\nReferred-By: %s\r\n%s%s%s"
                   "Content-Type: application/sdp\r\nContent-Length: %zu\r\n\r\n%s",
                   order->target, call_id, from, call_id, order->target, call_id, from, order->by,
                   order->replaces ? "Replaces: " : "", order->replaces ? order->replaces : "",
                   order->replaces ? "\r\nRequire: replaces\r\n" : "", strlen(order->sdp), order->sdp);
    msg_t *msg = text ? msg_make(sip_default_mclass(), 0, text, (ssize_t)strlen(text)) : NULL;
    const sip_t *sip = msg ? sip_object(msg) : NULL;
    if (!sip || !sip->sip_request || !sip->sip_from || !sip->sip_to || !sip->sip_contact ||
        !sip->sip_payload || (order->replaces && !sip->sip_replaces)) {
        msg_destroy(msg);
        return NULL;
    }
    return msg;
}

/* Takes Refer-To apart, as it reads for the other side. */
static int read_order(su_home_t *home, const sip_refer_to_t *refer_to, struct order *out)
{
    url_t url = *refer_to->r_url;
    const char *headers = url.url_headers;
    url.url_headers = NULL;
    out->target = url_as_string(home, &url);
    for (size_t len = 0; headers && *headers; headers += len + (headers[len] == '&')) {
        len = strcspn(headers, "&");
        if (strncasecmp(headers, "Join=", 5) == 0)
            return 501;
        if (strncasecmp(headers, "Replaces=", 9) != 0)
            continue;
        char *value = su_strndup(home, headers + 9, (isize_t)(len - 9));
        url_unescape(value, value);
        out->replaces = value;
    }
    return out->target ? 0 : 500;
}

/* The seat of the side that is sent on shows its name, not that of who refers. */
static void seat(struct kg_call *made, const struct kg_leg *sent_on, su_home_t *home,
                 const struct order *order)
{
    struct kg_leg *leg = &made->leg[KG_SIDE_A];
    struct kg_record *record = made->record;
    const char *from = bare(home, sent_on->remote);
    const char *user = sent_on->call->record->leg[sent_on->side].user;
    msg_t *msg = !made->leg[KG_SIDE_B].pbx && from ? write_invite(home, order, from, record->id) : NULL;
    if (msg) { /* else it goes to a trunk, which wants numbers of the house */
        msg_destroy(leg->made);
        leg->made = msg;
    }
    leg->pbx = sent_on->pbx;
    if (user) {
        free(record->leg[KG_SIDE_A].user);
        record->leg[KG_SIDE_A].user = strdup(user);
    }
    record->leg[KG_SIDE_A].pbx = leg->pbx;
}

static struct kg_call *place(struct kg_leg *leg, su_home_t *home, struct order *order, int *status)
{
    struct kg_call *old = leg->call;
    const struct kg_leg *sent_on = &old->leg[kg_other_side(leg->side)];
    const char *user = old->record->leg[leg->side].user;
    char call_id[KG_CALL_ID_HEX + 1];
    kg_calls_random_hex(old->calls, call_id, KG_CALL_ID_HEX);
    order->by = su_sprintf(home, "<sip:%s@%s>", user, old->calls->server->config.sip.domain);
    char *plain = sent_on->sdp_agreed ? without_keys(sent_on->sdp_agreed) : NULL;
    order->sdp = take_over_sdp(home, plain);
    free(plain);
    msg_t *msg = order->sdp ? write_invite(home, order, order->by, call_id) : NULL;
    if (!msg) {
        *status = order->sdp ? 400 : 405;
        return NULL;
    }
    struct kg_inquiry in = {
        .calls = old->calls, .made = msg, .sip = sip_object(msg), .flow = &leg->flow, .authorized = user};
    *status = kg_inquiry_place(&in);
    if (*status == 0)
        seat(in.call, sent_on, home, order);
    msg_destroy(msg);
    return in.call;
}

/* ---- dialogs change their calls ---- */

/* Nothing is under way in its dialog that would come back to another call. */
static bool is_quiet(const struct kg_leg *leg)
{
    return leg->dialog && !leg->irq && !leg->arrived && !leg->invite && !leg->update && !leg->bye &&
           !leg->bye_irq;
}

static void forget_requests(struct kg_leg *leg)
{
    if (leg->refresh)
        nta_outgoing_destroy(leg->refresh);
    if (leg->doubt)
        nta_outgoing_destroy(leg->doubt);
    leg->refresh = leg->doubt = NULL;
    if (leg->dialog)
        nta_leg_bind(leg->dialog, kg_leg_request, leg);
    kg_session_restored(leg);
}

#define SWAP(member)                                                                                         \
    do {                                                                                                     \
        __typeof__(a->member) swapped = a->member;                                                           \
        a->member = b->member;                                                                               \
        b->member = swapped;                                                                                 \
    } while (0)

/* Each peer goes into the other one's call, with its dialog, its flow and its name. What media was agreed
 * with the peer before stays, until something else is. */
static void exchange(struct kg_leg *a, struct kg_leg *b)
{
    struct kg_record_leg *of_a = &a->call->record->leg[a->side], *of_b = &b->call->record->leg[b->side];
    struct kg_record_leg record = *of_a;
    kg_relay_close_all(a->call);
    kg_relay_close_all(b->call);
    *of_a = *of_b;
    *of_b = record;
    SWAP(pbx);
    SWAP(trunk);
    SWAP(proofs);
    SWAP(peer);
    SWAP(rcseq);
    SWAP(lost);
    SWAP(dialog);
    SWAP(flow);
    SWAP(target);
    SWAP(local);
    SWAP(remote);
    SWAP(origin);
    SWAP(allows_update);
    SWAP(refuses_refer);
    SWAP(trickles);
    SWAP(options);
    SWAP(session);
    SWAP(pace);
    SWAP(pace_info);
    SWAP(refers[0]);
    SWAP(refers[1]);
    forget_requests(a);
    forget_requests(b);
}

/* ---- REFER ---- */

bool kg_transfer_can_pass(const struct kg_leg *to)
{
    bool ours = to->call->calls->server->config.pbx_count == 0; /* else it could not be done here anyway */
    return !ours || (!to->trunk && !to->refuses_refer);
}

/* Refer-Sub: false (RFC 4488 4) */
static bool is_silent(const sip_t *sip)
{
    const msg_header_t *header = msg_header_access((const msg_pub_t *)sip, sip_refer_sub_class);
    const char *value = header ? ((const sip_refer_sub_t *)header)->rs_value : NULL;
    return value && strcasecmp(value, "false") == 0;
}

static bool is_idle(const struct kg_call *call)
{
    return call->fsm.state == KG_CALL_TALK && call->fsm.re == KG_RE_NONE && !call->transfer;
}

static void say_accepted(struct kg_leg *leg, nta_incoming_t *irq, bool silent)
{
    sip_contact_t contact[1];
    char buf[KG_CONTACT_URL];
    kg_leg_contact(leg, contact, buf);
    nta_incoming_treply(irq, SIP_202_ACCEPTED, SIPTAG_CONTACT(contact),
                        TAG_IF(silent, SIPTAG_HEADER_STR("Refer-Sub: false")), TAG_END());
    nta_incoming_destroy(irq);
}

/* ---- attended: both calls are there ---- */

/* The leg of the party that Replaces names, if it is in another call of the same phone. */
static struct kg_leg *find_consulted(const struct kg_leg *leg, const char *replaces)
{
    struct kg_dialog_id id;
    struct kg_leg *found = NULL;
    if (kg_dialog_parse(replaces, &id) != 0 ||
        kg_dialog_find(leg->call->calls, &id, &found) != KG_DIALOG_FAR || found->call == leg->call)
        return NULL;
    const struct kg_call *call = found->call;
    const struct kg_leg *mine = &call->leg[kg_other_side(found->side)];
    const char *user = call->record->leg[mine->side].user, *same = leg->call->record->leg[leg->side].user;
    return !mine->pbx && user && same && strcmp(user, same) == 0 ? found : NULL;
}

/* Who is sent on takes the phone's place in its other call, and is offered what the party there agreed to;
 * then that one hears what came of it. The phone's two dialogs end together. */
static int join(struct kg_leg *leg, struct kg_leg *consulted, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *old = leg->call, *other = consulted->call;
    struct kg_leg *sent_on = &old->leg[kg_other_side(leg->side)];
    struct kg_leg *seat = &other->leg[kg_other_side(consulted->side)];
    su_home_t home[1] = {SU_HOME_INIT(home)};
    if (!is_idle(other) || !is_quiet(seat) || !is_quiet(sent_on))
        return 491;
    su_home_init(home);
    char *sdp = take_over_sdp(home, consulted->sdp_agreed);
    char *copy = sdp && other->stream_count > 0 ? strdup(sdp) : NULL;
    su_home_deinit(home);
    if (!copy)
        return 405;
    struct kg_transfer told = {.old = old, .made = other, .referrer = leg->side, .silent = is_silent(sip)};
    told.id = leg->refers[0].in ? sip->sip_cseq->cs_seq : 0;
    kg_info("call", "call %s: %s leaves %s to %s, in call %s", old->record->id,
            old->record->leg[leg->side].user, old->record->leg[sent_on->side].user,
            other->record->leg[consulted->side].user, other->record->id);
    free(consulted->sdp_agreed);
    consulted->sdp_agreed = copy;
    kg_talk_seat(seat, sent_on);
    old->holds++;
    other->holds++;
    say_accepted(leg, irq, told.silent);
    exchange(sent_on, seat);
    notify(&told, 200, true);
    other->joining = (uint8_t)(1 + consulted->side);
    hang_up(old, "its two ends were joined by transfer");
    kg_call_event(other, &(struct kg_fsm_event){.type = KG_EV_REFRESH, .side = seat->side});
    kg_call_unhold(other);
    kg_call_unhold(old);
    return 0;
}

int kg_transfer_begin(struct kg_leg *leg, nta_incoming_t *irq, const sip_t *sip)
{
    struct kg_call *old = leg->call;
    struct kg_leg *sent_on = &old->leg[kg_other_side(leg->side)];
    struct kg_list list;
    struct order order = {0};
    int status = 405;
    if (leg->pbx || old->calls->server->config.pbx_count > 0 || !old->record->leg[leg->side].user)
        return 405;
    if (!is_idle(old))
        return 491;
    struct kg_transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer)
        return 500;
    kg_list_begin(&list);
    /* As it reads for the phone itself, which could dial it. */
    const sip_refer_to_t *refer_to = kg_refer_to_for(&list, sip, leg, leg, &status);
    status = refer_to ? read_order(list.home, refer_to, &order) : status;
    struct kg_leg *consulted = status == 0 && order.replaces ? find_consulted(leg, order.replaces) : NULL;
    struct kg_call *made = NULL;
    if (consulted)
        status = join(leg, consulted, irq, sip);
    else if (status == 0)
        made = place(leg, list.home, &order, &status);
    if (made) {
        *transfer = (struct kg_transfer){.old = old, .made = made, .referrer = leg->side};
        transfer->silent = is_silent(sip);
        transfer->id = leg->refers[0].in ? sip->sip_cseq->cs_seq : 0;
        old->transfer = made->transfer = transfer;
        kg_refer_sent(leg, sip->sip_cseq->cs_seq, 0);
        kg_info("call", "call %s: %s sends %s on to %s; kedge makes call %s for that", old->record->id,
                old->record->leg[leg->side].user, old->record->leg[sent_on->side].user,
                made->record->leg[KG_SIDE_B].user, made->record->id);
        say_accepted(leg, irq, transfer->silent);
        if (old->transfer == transfer) /* what was just made may have come to nothing */
            notify(transfer, 100, false);
    } else {
        free(transfer);
    }
    kg_list_end(&list);
    return status;
}

/* ---- the end ---- */

void kg_transfer_answered(struct kg_call *made)
{
    struct kg_transfer *transfer = made->transfer;
    struct kg_call *old = transfer ? transfer->old : NULL;
    struct kg_leg *to = &made->leg[KG_SIDE_A], *from = old ? &old->leg[!transfer->referrer] : NULL;
    msg_destroy(to->made);
    to->made = NULL;
    /* In the middle of something else with its old peer it cannot be given to another one. */
    if (!old || old->fsm.state != KG_CALL_TALK || old->fsm.re != KG_RE_NONE || !is_quiet(from)) {
        hang_up(made, "the transfer came too late");
        return;
    }
    old->holds++;
    made->holds++;
    kg_talk_seat(to, from);
    exchange(from, to);
    made->joining = 1 + KG_SIDE_A;
    conclude(transfer, 200);
    hang_up(old, "its other side was transferred");
    kg_call_event(made, &(struct kg_fsm_event){.type = KG_EV_REFRESH, .side = KG_SIDE_A});
    kg_call_unhold(old);
    kg_call_unhold(made);
}

bool kg_transfer_left(struct kg_leg *leg)
{
    struct kg_transfer *transfer = leg->call->transfer;
    if (!transfer || transfer->old != leg->call || transfer->referrer != leg->side)
        return false;
    transfer->left = true;
    nta_leg_destroy(leg->dialog); /* in its callback: nta goes on with the transaction alone */
    leg->dialog = NULL;
    return true;
}

void kg_transfer_over(struct kg_call *call, int status)
{
    struct kg_transfer *transfer = call->transfer;
    if (!transfer)
        return;
    struct kg_call *old = transfer->old, *made = transfer->made;
    if (call == old) { /* who is sent on, or both, are gone */
        dissolve(transfer);
        kg_call_event(made, &(struct kg_fsm_event){.type = KG_EV_CANCEL, .side = KG_SIDE_A});
        return;
    }
    bool left = transfer->left;
    old->holds++;
    conclude(transfer, status >= 300 ? status : 500);
    if (left) /* nobody is left whom it could go back to */
        hang_up(old, "the transfer failed, and who asked for it had hung up");
    kg_call_unhold(old);
}

void kg_transfer_refreshed(struct kg_call *call, const struct kg_leg *leg, bool ok)
{
    int next = call->joining - 1;
    if (next < 0)
        return;
    call->joining = 0;
    if (!ok)
        hang_up(call, "who was transferred refused the new session");
    else if (next != (int)leg->side)
        kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_REFRESH, .side = (enum kg_side)next});
}
