/* Responses to an INVITE or UPDATE that a leg's peer sent. Phrases are ours: the other side's words stay
 * there. */
#include "b2bua/call/call.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>

#include "b2bua/call/talk.h"
#include "conf/log.h"

/* Headers of the response that this one follows from, if one is being handled. */
static void pass(struct kg_leg *leg, struct kg_passed *passed)
{
    const sip_t *cause = leg->call->cause;
    kg_headers_none(passed);
    if (cause && cause->sip_status)
        kg_leg_pass(leg, cause, passed);
}

/* sdp is taken over; NULL: none, then a body of the response that this one follows from passes. */
static void reply(struct kg_leg *leg, int status, char *sdp, size_t len, bool reliable)
{
    struct kg_calls *calls = leg->call->calls;
    struct kg_passed passed;
    sip_contact_t contact[1];
    struct kg_body body;
    char buf[KG_CONTACT_URL], options[KG_OPTIONS_TEXT], session[KG_SESSION_TEXT] = "";
    kg_leg_contact(leg, contact, buf);
    pass(leg, &passed);
    if (status >= 200 && status < 300)
        kg_session_serve(leg, session);
    kg_body_begin(&body);
    if (sdp)
        kg_body_sdp(&body, leg, sdp, len);
    else if (leg->call->cause && leg->call->cause->sip_status && !kg_body_has_sdp(leg->call->cause))
        kg_body_pass(&body, leg->call->cause);
    tagi_t tags[] = {{SIPTAG_CONTACT(contact)},
                     {TAG_IF(status >= 200 || reliable, SIPTAG_ALLOW(calls->allow))},
                     {TAG_IF(session[0], SIPTAG_SESSION_EXPIRES_STR(session))},
                     {TAG_IF(session[0] && !leg->session.ours, SIPTAG_REQUIRE_STR("timer"))},
                     {SIPTAG_SUPPORTED_STR(kg_options_supported(leg, options))},
                     {KG_TRICKLE_TAGS(calls->server->config.media.ice)},
                     {TAG_NEXT(kg_body_tags(&body, passed.tag))}};
    if (reliable)
        kg_reliable_reply(leg, status, tags);
    else
        nta_incoming_treply(leg->irq, status, NULL, TAG_NEXT(tags));
    kg_body_end(&body);
}

void kg_reply_progress(struct kg_leg *leg, int status, bool sdp, bool reliable)
{
    size_t len = 0;
    char *text = sdp ? kg_talk_text(leg, &len) : NULL;
    if (leg->irq)
        reply(leg, status, text, len, reliable);
    else
        free(text);
}

void kg_reply_answer(struct kg_leg *leg, bool sdp)
{
    size_t len = 0;
    char *text = sdp ? kg_talk_text(leg, &len) : NULL;
    if (!leg->irq || (sdp && !text)) {
        /* Out of memory in the one place where both sides wait: the ACK timer ends the call. */
        kg_error("call", "call %s: the answer could not be written; the call ends when its ACK timer does",
                 leg->call->record->id);
        free(text);
    } else {
        reply(leg, 200, text, len, false);
    }
    if (leg->irq && nta_incoming_method(leg->irq) != sip_method_invite) { /* UPDATE: no ACK follows */
        nta_incoming_destroy(leg->irq);
        leg->irq = NULL;
    }
}

/* RFC 3261 20.43: code 399 is a sentence for a person. It may quote the peer's SDP. */
static void write_warning(const char *why, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "399 kedge \"");
    for (; *why && n + 2 < size; why++)
        out[n++] = iscntrl((unsigned char)*why) || *why == '"' || *why == '\\' ? ' ' : *why;
    out[n++] = '"';
    out[n] = '\0';
}

void kg_reply_refuse(nta_incoming_t *irq, struct kg_leg *leg, const struct kg_fsm_action *action)
{
    struct kg_passed passed;
    struct kg_body body;
    char warning[256] = "";
    sip_retry_after_t retry_after[1];
    if (!irq)
        return;
    const sip_t *cause = leg->call->cause;
    bool redirects = action->status >= 300 && action->status < 400 && cause && cause->sip_status;
    pass(leg, &passed);
    kg_body_begin(&body);
    if (cause && cause->sip_status && cause->sip_status->st_status >= 300)
        kg_body_pass_foreign(&body, cause);
    sip_retry_after_init(retry_after)->af_delta = (sip_time_t)action->retry_after;
    if (action->why && action->status == 488)
        write_warning(action->why, warning, sizeof warning);
    nta_incoming_treply(irq, action->status, NULL,
                        TAG_IF(action->retry_after > 0, SIPTAG_RETRY_AFTER(retry_after)),
                        TAG_IF(warning[0], SIPTAG_WARNING_STR(warning)),
                        TAG_IF(redirects, SIPTAG_CONTACT(redirects ? cause->sip_contact : NULL)),
                        TAG_IF(action->status == 405, SIPTAG_ALLOW(leg->call->calls->allow)),
                        TAG_NEXT(kg_body_tags(&body, passed.tag)));
    kg_body_end(&body);
    nta_incoming_destroy(irq);
}
