/* Keepalives: an OPTIONS down the flow of a phone behind a NAT before the NAT forgets it (RFC 5626 4.4 asks
 * this of the phone; few do). Sent without a transaction: one packet, no timers, and any answer at all proves
 * the flow. */
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* So many without an answer, of a phone that used to answer: its flow is gone. With the default of 25 s that
 * is 75 s, about as long as its registration would last anyway; a few lost packets are not enough. */
#define UNANSWERED_MAX 3
#define CALL_ID_PREFIX "alive-"

static int64_t interval_ms(const struct kg_registrar *registrar, const struct kg_binding *b)
{
    const struct kg_config *config = &registrar->server->config;

    return b->flow.transport == KG_UDP ? config->registration.keepalive_udp_ms
                                       : config->registration.keepalive_stream_ms;
}

/* A stream wants one without a NAT, too: one without a byte is closed (limits.stream_idle), here or on the
 * way. */
static bool is_wanted(const struct kg_binding *b)
{
    return b->flow.tport && (b->nat || b->flow.transport != KG_UDP);
}

void kg_keepalive_start(struct kg_registrar *registrar, struct kg_binding *b, int64_t now_ms)
{
    int64_t interval = interval_ms(registrar, b);

    /* Anywhere in the second half: phones that registered together are not pinged together. After a restart
     * the same, though a NAT may then wait for one and a half intervals. */
    b->keepalive_ms =
        is_wanted(b) ? now_ms + interval / 2 + kg_random_u32() % (interval / 2 + 1) : KG_DUE_NEVER;
    kg_bindings_moved(registrar->bindings, b);
}

static int send_options(struct kg_registrar *registrar, struct kg_binding *b)
{
    nta_agent_t *agent = kg_registrar_agent(registrar);
    char route[KG_FLOW_URL], from[KG_CONTACT_URL], from_header[KG_CONTACT_URL + 40], to_header[560],
        call_id[80];
    char cseq[32];
    msg_t *msg = nta_msg_create(agent, 0);
    sip_t *sip = msg ? sip_object(msg) : NULL;
    sip_request_t *request =
        sip ? sip_request_create(msg_home(msg), SIP_METHOD_OPTIONS, URL_STRING_MAKE(b->uri), NULL) : NULL;

    if (!request) {
        msg_destroy(msg);
        return -1;
    }
    sip_header_insert(msg, sip, (sip_header_t *)request);
    kg_flow_contact_url(&registrar->server->config, &b->flow, NULL, from);
    snprintf(from_header, sizeof from_header, "<%s>;tag=%.8s", from, b->token);
    snprintf(to_header, sizeof to_header, "<%s>", b->uri);
    snprintf(call_id, sizeof call_id, CALL_ID_PREFIX "%s", b->token);
    snprintf(cseq, sizeof cseq, "%u OPTIONS", ++registrar->keepalive_cseq);
    /* Consumes msg. */
    return nta_msg_tsend(agent, msg, URL_STRING_MAKE(kg_flow_route_url(&b->flow, route)),
                         NTATAG_TPORT(b->flow.tport), SIPTAG_FROM_STR(from_header), SIPTAG_TO_STR(to_header),
                         SIPTAG_CALL_ID_STR(call_id), SIPTAG_CSEQ_STR(cseq), SIPTAG_MAX_FORWARDS_STR("70"),
                         SIPTAG_USER_AGENT_STR(KG_SIP_SERVER), TAG_END());
}

void kg_keepalive_due(struct kg_registrar *registrar, struct kg_binding *b, int64_t now_ms)
{
    if (b->unanswered >= UNANSWERED_MAX && b->ever_answered) {
        kg_counters.bindings_expired++;
        kg_registrar_drop(registrar, b,
                          "went: it stopped answering keepalives, so the NAT in front of it or the phone "
                          "itself has forgotten the flow. It comes back with its next REGISTER");
        return;
    }
    if (!is_wanted(b)) {
        b->keepalive_ms = KG_DUE_NEVER;
        kg_bindings_moved(registrar->bindings, b);
        return;
    }
    if (send_options(registrar, b) == 0)
        kg_counters.keepalives_sent++;
    /* Only UDP goes away silently; a stream's loss is reported. */
    if (b->flow.transport == KG_UDP)
        b->unanswered++;
    b->keepalive_ms = now_ms + interval_ms(registrar, b);
    kg_bindings_moved(registrar->bindings, b);
}

bool kg_keepalive_answer(struct kg_registrar *registrar, const char *call_id)
{
    struct kg_binding *b;

    if (strncmp(call_id, CALL_ID_PREFIX, sizeof CALL_ID_PREFIX - 1) != 0)
        return false;
    b = kg_bindings_by_token(registrar->bindings, call_id + sizeof CALL_ID_PREFIX - 1);
    if (b) {
        b->unanswered = 0;
        b->ever_answered = true;
    }
    return true;
}
