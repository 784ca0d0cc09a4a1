/* Requests outside of dialogs, in the order of RFC 3261 8.2. Refusals and OPTIONS are answered without a
 * transaction: a scanner costs neither memory nor timers. */
#include <string.h>
#include <strings.h>

#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <sofia-sip/sip_util.h>

#include "b2bua/server.h"
#include "b2bua/sip/methods.h"
#include "b2bua/sip/overload.h"
#include "b2bua/sip/screen.h"
#include "b2bua/sip/stack.h"
#include "b2bua/sip/uri.h"
#include "conf/clock.h"

/* Server transactions of all methods live up to 32 s (RFC 3261 timers H, J): more than this many is a flood,
 * and new calls wait, as they do when all that is read is old. Looked at once in LOOK_EVERY INVITEs. */
#define TRANSACTIONS_MAX 262144
#define LOOK_EVERY       64
/* RFC 3261 21.5.4: when to come back. Seconds. */
#define RETRY_AFTER "5"

/* Consumes msg. */
#define reply(stack, msg, ...)                                                                               \
    nta_msg_treply((stack)->agent, msg, __VA_ARGS__, SIPTAG_SERVER_STR(KG_SIP_SERVER), TAG_END())
#define refuse(stack, msg, ...) ((stack)->refused_by_us++, (void)reply(stack, msg, __VA_ARGS__))

static enum kg_method_use use_of(const struct kg_method *method, const sip_t *sip)
{
    /* A To tag names a dialog, and a dialog that exists would have got this. REGISTER has none. */
    if (method->outside != KG_METHOD_DISCARD && sip->sip_to->a_tag &&
        sip->sip_request->rq_method != sip_method_register)
        return KG_METHOD_NO_DIALOG;
    return method->outside;
}

/* RFC 3261 16.6 step 8, 8.1.1.1: our own transaction came back with the Request-URI that we sent: a loop.
 * With another one it is a spiral, as a PBX makes that routes a call back to a phone of ours. */
static bool is_loop(const struct kg_sip *stack, const msg_t *msg, const sip_t *sip)
{
    for (const sip_via_t *via = sip->sip_via; via; via = via->v_next) {
        nta_outgoing_t *ours = nta_outgoing_find(stack->agent, msg, sip, via);
        if (ours && url_cmp(nta_outgoing_request_uri(ours), sip->sip_request->rq_url) == 0)
            return true;
    }
    return false;
}

bool kg_sip_is_encoded(const sip_t *sip)
{
    const sip_content_encoding_t *encoding = sip->sip_content_encoding;
    return encoding && encoding->k_items && encoding->k_items[0] &&
           strcasecmp(encoding->k_items[0], "identity") != 0;
}

static bool has_sound_addresses(const sip_t *sip)
{
    if (!kg_uri_is_sound(sip->sip_from->a_url) || !kg_uri_is_sound(sip->sip_to->a_url))
        return false;
    for (const sip_contact_t *contact = sip->sip_contact; contact; contact = contact->m_next)
        if (!kg_uri_is_sound(contact->m_url))
            return false;
    return true;
}

sip_unsupported_t *kg_sip_unsupported(su_home_t *home, const sip_t *sip, bool ice)
{
    const char *known = ice ? KG_SIP_OPTIONS ", trickle-ice" : KG_SIP_OPTIONS;
    if (sip->sip_request && sip->sip_request->rq_method == sip_method_register)
        known = KG_SIP_REGISTER_OPTIONS;
    return sip_has_unsupported(home, sip_supported_make(home, known), sip->sip_require);
}

/* The same for a request that passes: what is only for the other end is not kedge's to refuse. */
static sip_unsupported_t *unsupported_to_pass(su_home_t *home, const sip_t *sip)
{
    sip_unsupported_t *unknown = NULL;
    for (const sip_require_t *require = sip->sip_require; require; require = require->k_next)
        for (size_t i = 0; require->k_items && require->k_items[i]; i++) {
            if (kg_sip_option_passes(require->k_items[i]))
                continue;
            if (!unknown)
                unknown = sip_unsupported_make(home, require->k_items[i]);
            else
                msg_list_append_items(home, unknown, (msg_param_t const[]){require->k_items[i], NULL});
        }
    return unknown;
}

/* True when the request was refused, and msg is gone. */
static bool refuse_by_headers(struct kg_sip *stack, msg_t *msg, const sip_t *sip)
{
    const sip_request_t *request = sip->sip_request;
    signed char scheme = request->rq_url->url_type;
    bool is_call = request->rq_method == sip_method_invite;
    bool is_register = request->rq_method == sip_method_register;
    sip_unsupported_t *unsupported = is_call || is_register
                                         ? kg_sip_unsupported(msg_home(msg), sip, stack->config.media.ice)
                                         : unsupported_to_pass(msg_home(msg), sip);
    /* 19.1.5: a Request-URI has no headers. The library would make headers of ours of them. */
    if (!kg_uri_is_sound(request->rq_url) || request->rq_url->url_headers) { /* 21.4.1, 21.4.11 */
        refuse(stack, msg, 400, "Bad Request-URI");
    } else if (!has_sound_addresses(sip)) {
        refuse(stack, msg, 400, "Bad Address");
    } else if (scheme != url_sip && scheme != url_sips && !(is_call && scheme == url_tel)) { /* 8.2.2.1 */
        refuse(stack, msg, SIP_416_UNSUPPORTED_URI);
    } else if (unsupported) { /* 8.2.2.3 */
        refuse(stack, msg, SIP_420_BAD_EXTENSION, SIPTAG_UNSUPPORTED(unsupported));
    } else if ((is_call || is_register) &&
               kg_sip_is_encoded(sip)) { /* 8.2.3; other bodies pass as they are */
        refuse(stack, msg, SIP_415_UNSUPPORTED_MEDIA, SIPTAG_ACCEPT_ENCODING_STR("identity"));
    } else if (sip->sip_max_forwards && sip->sip_max_forwards->mf_count == 0 &&
               request->rq_method != sip_method_options) { /* 16.3 step 3 */
        refuse(stack, msg, SIP_483_TOO_MANY_HOPS);
    } else if (is_loop(stack, msg, sip)) { /* 16.3 step 4 */
        refuse(stack, msg, SIP_482_LOOP_DETECTED);
    } else {
        return false;
    }
    return true;
}

static bool is_overloaded(struct kg_sip *stack, const sip_t *sip)
{
    if (stack->invites++ % LOOK_EVERY == 0) {
        usize_t transactions = 0;
        nta_agent_get_stats(stack->agent, NTATAG_S_IRQ_HASH_USED_REF(transactions), TAG_END());
        stack->overloaded = transactions > TRANSACTIONS_MAX;
    }
    return stack->overloaded || kg_sip_is_late(sip);
}

/* nta finds the INVITE that a PRACK is about by Call-ID, From tag, CSeq and the To tag that the INVITE had
 * when its transaction was made. Those that a proxy forks differ in nothing else: they get our tag here, or
 * each PRACK would be looked for at one of them. A branch from before RFC 3261 leaves nta the To tag alone to
 * tell copies by: hands off. */
static bool needs_tag(const sip_t *sip)
{
    const char *branch = sip->sip_via->v_branch;
    return branch && strncasecmp(branch, "z9hG4bK", 7) == 0 &&
           (sip_has_feature(sip->sip_require, "100rel") || sip_has_feature(sip->sip_supported, "100rel"));
}

/* Consumes msg. sip stays as it came. */
static nta_incoming_t *begin_invite(struct kg_sip *stack, msg_t *msg, sip_t *sip)
{
    char tag[KG_TAG_LEN + 1];
    sip_to_t *asked = sip->sip_to, *ours = needs_tag(sip) ? sip_to_dup(msg_home(msg), asked) : NULL;
    if (ours) {
        kg_random_hex(tag, KG_TAG_LEN);
        if (sip_to_tag(msg_home(msg), ours, tag) == 0)
            sip->sip_to = ours;
    }
    nta_incoming_t *irq = nta_incoming_create(stack->agent, NULL, msg, sip, TAG_END());
    sip->sip_to = asked; /* the caller keeps the message */
    return irq;
}

/* Gives the request a transaction and hands it to its handler. */
static void serve(struct kg_sip *stack, msg_t *msg, sip_t *sip)
{
    int method = sip->sip_request->rq_method;
    bool is_call = method == sip_method_invite, is_register = method == sip_method_register;
    struct kg_flow flow;
    if (is_call && is_overloaded(stack, sip)) {
        kg_counters.calls_refused++;
        refuse(stack, msg, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR(RETRY_AFTER));
        return;
    }
    if (kg_flow_of_message(stack->agent, msg, &flow) != 0) {
        nta_msg_discard(stack->agent, msg);
        return;
    }
    if (is_register)
        kg_counters.registers_in++;
    if (stack->handlers.answer && stack->handlers.answer(stack->handlers.ctx, msg, sip, &flow)) {
        kg_flow_clear(&flow);
        return;
    }
    msg_t *kept = msg_ref(msg); /* the handler may destroy the irq before it has finished with sip */
    nta_incoming_t *irq = is_call ? begin_invite(stack, msg, sip)
                                  : nta_incoming_create(stack->agent, NULL, msg, sip, TAG_END());
    if (!irq) {
        /* nta has freed the message: out of memory */
    } else if (is_call) {
        stack->handlers.on_invite(stack->handlers.ctx, irq, sip, &flow);
    } else if (is_register) {
        stack->handlers.on_register(stack->handlers.ctx, irq, sip, &flow);
    } else {
        stack->handlers.on_request(stack->handlers.ctx, irq, sip, &flow);
    }
    msg_unref(kept);
    kg_flow_clear(&flow);
}

/* An OPTIONS that asks kedge itself. */
static bool is_for_us(struct kg_sip *stack, msg_t *msg, const sip_t *sip)
{
    struct kg_flow flow;
    if (sip->sip_request->rq_method != sip_method_options)
        return false;
    if (!stack->handlers.pass_options || kg_flow_of_message(stack->agent, msg, &flow) != 0)
        return true;
    bool passes = stack->handlers.pass_options(stack->handlers.ctx, sip, &flow);
    kg_flow_clear(&flow);
    return !passes;
}

static bool may_come_again(const struct kg_sip *stack, const sip_t *sip)
{
    const struct kg_sip_handlers *handlers = &stack->handlers;
    return handlers->knows_dialogs && !handlers->knows_dialogs(handlers->ctx) &&
           strcasecmp(sip->sip_via->v_protocol, sip_transport_udp) == 0;
}

int kg_sip_dispatch(nta_agent_magic_t *magic, nta_agent_t *agent, msg_t *msg, sip_t *sip)
{
    struct kg_sip *stack = (struct kg_sip *)magic;
    if (!sip->sip_request) { /* an answer to nothing that we asked */
        nta_msg_discard(agent, msg);
        return 0;
    }
    kg_counters.requests_in++;
    switch (kg_screen_request(stack, msg, sip)) {
    case KG_GUARD_PASS:
        break;
    case KG_GUARD_BUSY:
        refuse(stack, msg, SIP_503_SERVICE_UNAVAILABLE, SIPTAG_RETRY_AFTER_STR(RETRY_AFTER));
        return 0;
    case KG_GUARD_DROP:
        nta_msg_discard(agent, msg);
        return 0;
    }
    const struct kg_method *method = kg_method_of(sip);
    if (!method)
        method = kg_method_listed(&stack->config, sip);
    if (!method) {
        refuse(stack, msg, SIP_501_NOT_IMPLEMENTED, SIPTAG_ALLOW(stack->allow));
        return 0;
    }
    switch (use_of(method, sip)) {
    case KG_METHOD_DISCARD:
        nta_msg_discard(agent, msg);
        break;
    case KG_METHOD_REFUSE:
        refuse(stack, msg, SIP_405_METHOD_NOT_ALLOWED, SIPTAG_ALLOW(stack->allow));
        break;
    case KG_METHOD_NO_DIALOG:
        if (may_come_again(stack, sip))
            nta_msg_discard(agent, msg);
        else
            refuse(stack, msg, SIP_481_NO_TRANSACTION);
        break;
    case KG_METHOD_SERVE:
    case KG_METHOD_PASS:
        if (refuse_by_headers(stack, msg, sip))
            break;
        if (is_for_us(stack, msg, sip)) /* 11.2 */
            reply(stack, msg, SIP_200_OK, SIPTAG_ALLOW(stack->allow), SIPTAG_ACCEPT(stack->accept),
                  SIPTAG_ACCEPT_ENCODING_STR("identity"), SIPTAG_ALLOW_EVENTS_STR(KG_ALLOW_EVENTS));
        else
            serve(stack, msg, sip);
        break;
    }
    return 0;
}
