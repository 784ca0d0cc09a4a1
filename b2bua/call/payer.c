/* Whose call an INVITE is, and whether caps let it be made. */
#include "b2bua/call/inquiry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sofia-sip/msg_header.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/url.h>

#include "b2bua/registrar/digest.h"
#include "conf/clock.h"
#include "conf/log.h"

/* In front of a PBX: the user whose password the INVITE claims to have, "" if none. It proves nothing here,
 * but the PBX lets nobody through whose password is another. False: two users, or one too long. */
static bool read_claim(const sip_t *sip, char out[static 128])
{
    const sip_authorization_t *const list[] = {sip->sip_authorization, sip->sip_proxy_authorization};
    char name[128];
    out[0] = '\0';
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        for (const sip_authorization_t *cred = list[i]; cred; cred = cred->au_next) {
            const char *value = cred->au_params ? msg_params_find(cred->au_params, "username=") : NULL;
            if (!value)
                continue;
            if (!kg_digest_unquote(value, name, sizeof name) || (out[0] && strcmp(out, name) != 0))
                return false;
            snprintf(out, 128, "%s", name);
        }
    return true;
}

/* In front of a PBX From alone proves nothing: what a phone is registered as over the very flow does, which
 * is the claimed user, or the one in From, or else any. Who calls from where no phone is registered pays as
 * the user that he claims to be; without a claim, which the PBX will ask for, the source counts. */
static void name_payer(struct kg_inquiry *in, const char *claim, char out[static 128])
{
    struct kg_registrar *registrar = in->calls->server->registrar;
    struct kg_target phone;
    char host[KG_ADDR_STR];
    const char *name = kg_registrar_is_at(registrar, claim, in->flow) ? claim : in->from_user;
    if (kg_registrar_by_flow(registrar, in->flow, name, &phone) == 0) {
        snprintf(out, 128, "%s", phone.user);
        kg_flow_clear(&phone.flow);
    } else if (claim[0]) {
        snprintf(out, 128, "%s", claim);
        in->claimed = true;
    } else {
        snprintf(out, 128, "stranger at %s", kg_addr_format_host(&in->flow->remote, host));
    }
}

int kg_inquiry_pay(struct kg_inquiry *in)
{
    const struct kg_server *server = in->calls->server;
    char payer[128], claim[128];
    if (server->config.caps_count == 0 || in->facts.source != KG_FROM_PHONE)
        return 0;
    if (in->facts.auth_user) {
        snprintf(payer, sizeof payer, "%s", in->facts.auth_user);
    } else if (read_claim(in->sip, claim)) {
        name_payer(in, claim, payer);
    } else {
        kg_info("call", "%s cannot call %s: 403, its credentials name two users, or a name that is too long",
                in->caller, in->user);
        kg_inquiry_refuse(in, 403, 0);
        return EPERM;
    }
    /* A user part that is longer than any number, or has a NUL in it, could hide one from the caps. */
    const url_t *url = in->sip->sip_request->rq_url;
    bool says = url->url_type == url_tel || url->url_user;
    const char *number = in->user[0] || !says ? in->user : KG_CAPS_UNREADABLE;
    struct kg_caps_answer answer = kg_caps_ask(server->caps, payer, number, kg_mono_ms());
    if (answer.verdict == KG_CAPS_OK) {
        in->cap = answer.user;
        return 0;
    }
    kg_counters.calls_capped++;
    char more[80] = "";
    if (answer.held_back > 0)
        snprintf(more, sizeof more, "; %u more of its calls were refused since the last such line",
                 answer.held_back);
    if (answer.say)
        kg_warn("call", "%s cannot call %s: %d, %s (caps%s)", payer, in->user, (int)answer.status,
                kg_caps_why(answer.verdict), more);
    kg_inquiry_refuse(in, (int)answer.status, (int)answer.retry_after_s);
    return EPERM;
}

bool kg_call_is_refunded(const struct kg_call *call)
{
    const struct kg_record *record = call->record;
    return kg_record_challenged(record) || (call->claimed && !record->answered_ms && record->status == 403);
}

const char *kg_leg_payer(const struct kg_leg *leg)
{
    const struct kg_call *call = leg->call;
    bool front = call->calls->server->config.pbx_count > 0;
    return front && leg->side == KG_SIDE_A && call->cap ? kg_caps_name(call->cap)
                                                        : call->record->leg[leg->side].user;
}
