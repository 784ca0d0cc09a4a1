/* Keepalives: an OPTIONS down the flow of a phone behind a NAT before the NAT forgets it (RFC 5626 4.4 asks
 * this of the phone; few do). Sent without a transaction: one packet, no timers, and any answer at all proves
 * the flow. */
#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"

#define CALL_ID_PREFIX "alive-"

struct kg_learn_bounds kg_keepalive_bounds(const struct kg_registrar *registrar, const struct kg_flow *flow)
{
    const struct kg_config *config = &registrar->server->config;
    bool stream = flow->transport != KG_UDP;

    return (struct kg_learn_bounds){.start_ms = stream ? config->registration.keepalive_stream_ms
                                                       : config->registration.keepalive_udp_ms,
                                    .min_ms = config->registration.keepalive_min_ms,
                                    .max_ms = config->registration.keepalive_max_ms,
                                    .stream = stream};
}

/* --- contacts that come back -------------------------------------------------------------------------------
 */

struct kg_lesson {
    char token[KG_TOKEN_SIZE];
    enum kg_transport transport;
    struct kg_addr remote;
    struct kg_learn learn;
    UT_hash_handle hh; /* oldest first */
};

/* The NAT it sits behind is told by its outer address. */
static bool is_same_place(const struct kg_flow *flow, enum kg_transport transport,
                          const struct kg_addr *remote)
{
    return flow->transport == transport && kg_addr_same_host(&flow->remote, remote);
}

static void forget(struct kg_registrar *registrar, struct kg_lesson *lesson)
{
    HASH_DEL(registrar->lessons, lesson);
    free(lesson);
}

void kg_keepalive_remember(struct kg_registrar *registrar, const struct kg_binding *b)
{
    struct kg_lesson *lesson;

    if (b->learn.proven_ms == 0)
        return;
    HASH_FIND_STR(registrar->lessons, b->token, lesson);
    if (lesson)
        forget(registrar, lesson);
    else if (HASH_COUNT(registrar->lessons) >= KG_LESSONS_MAX)
        forget(registrar, registrar->lessons);
    lesson = calloc(1, sizeof *lesson);
    if (!lesson)
        return;
    memcpy(lesson->token, b->token, sizeof lesson->token);
    lesson->transport = b->flow.transport;
    lesson->remote = b->flow.remote;
    lesson->learn = b->learn;
    HASH_ADD_STR(registrar->lessons, token, lesson);
}

/* True: what was learnt of it before it went is known. */
static bool recall(struct kg_registrar *registrar, struct kg_binding *b)
{
    struct kg_lesson *lesson;
    bool fits;

    HASH_FIND_STR(registrar->lessons, b->token, lesson);
    if (!lesson)
        return false;
    fits = is_same_place(&b->flow, lesson->transport, &lesson->remote);
    if (fits)
        b->learn = lesson->learn;
    forget(registrar, lesson);
    return fits;
}

void kg_keepalive_free(struct kg_registrar *registrar)
{
    while (registrar->lessons)
        forget(registrar, registrar->lessons);
}

/* --- when --------------------------------------------------------------------------------------------------
 */

/* A stream wants one without a NAT, too: one without a byte is closed (limits.stream_idle), here or on the
 * way. A WebSocket has pings of its own (web.ping). */
static bool is_wanted(const struct kg_binding *b)
{
    return b->flow.tport && !kg_transport_is_web(b->flow.transport) &&
           (b->nat || b->flow.transport != KG_UDP);
}

static void set_due(struct kg_registrar *registrar, struct kg_binding *b, int64_t due_ms)
{
    if (!is_wanted(b))
        due_ms = KG_DUE_NEVER;
    if (b->keepalive_ms == due_ms)
        return;
    b->keepalive_ms = due_ms;
    kg_bindings_moved(registrar->bindings, b);
}

/* Anywhere in the second half of the interval: phones that registered together are not asked together. */
static int64_t spread(int64_t now_ms, int64_t due_ms)
{
    int64_t half = (due_ms - now_ms) / 2;

    return half > 0 ? due_ms - kg_random_u32() % (half + 1) : due_ms;
}

void kg_keepalive_registered(struct kg_registrar *registrar, struct kg_binding *b,
                             const struct kg_flow *before, int64_t now_ms)
{
    const struct kg_learn_bounds bounds = kg_keepalive_bounds(registrar, &b->flow);
    bool moved = kg_addr_is_set(&before->remote) && !kg_flow_same(before, &b->flow);
    bool first = b->learn.interval_ms == 0 || b->keepalive_ms == KG_DUE_NEVER;
    int64_t due_ms;

    if (b->learn.interval_ms == 0)
        moved = recall(registrar, b);
    if (b->learn.interval_ms == 0 || (moved && kg_addr_is_set(&before->remote) &&
                                      !is_same_place(&b->flow, before->transport, &before->remote)))
        kg_learn_start(&b->learn, &bounds);
    due_ms = kg_learn_registered(&b->learn, &bounds, moved, (uint32_t)(b->expires_ms - now_ms), now_ms,
                                 kg_wall_ms());
    set_due(registrar, b, first ? spread(now_ms, due_ms) : due_ms);
}

/* A NAT may have to wait one and a half intervals for this one. */
void kg_keepalive_restored(struct kg_registrar *registrar, struct kg_binding *b, int64_t now_ms)
{
    set_due(registrar, b, spread(now_ms, now_ms + b->learn.interval_ms));
}

void kg_keepalive_closed(struct kg_registrar *registrar, struct kg_binding *b)
{
    const struct kg_learn_bounds bounds = kg_keepalive_bounds(registrar, &b->flow);

    kg_learn_closed(&b->learn, &bounds, kg_mono_ms(), kg_wall_ms());
}

/* --- asking ------------------------------------------------------------------------------------------------
 */

static int send_options(struct kg_registrar *registrar, struct kg_binding *b)
{
    nta_agent_t *agent = kg_registrar_agent(registrar);
    char from[KG_CONTACT_URL], from_header[KG_CONTACT_URL + 40], to_header[560], call_id[80];
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
    if (sip_add_tl(msg, sip, SIPTAG_FROM_STR(from_header), SIPTAG_TO_STR(to_header),
                   TAG_IF(b->path[0], SIPTAG_ROUTE_STR(b->path)), SIPTAG_CALL_ID_STR(call_id),
                   SIPTAG_CSEQ_STR(cseq), SIPTAG_MAX_FORWARDS_STR("70"), SIPTAG_USER_AGENT_STR(KG_SIP_SERVER),
                   TAG_END()) < 0) {
        msg_destroy(msg);
        return -1;
    }
    return kg_flow_send_once(&b->flow, agent, msg);
}

void kg_keepalive_due(struct kg_registrar *registrar, struct kg_binding *b, int64_t now_ms)
{
    const struct kg_learn_bounds bounds = kg_keepalive_bounds(registrar, &b->flow);

    if (kg_learn_is_gone(&b->learn, &bounds)) {
        kg_counters.bindings_expired++;
        kg_registrar_fail_over(registrar, b);
        kg_registrar_drop(registrar, b,
                          "went: it stopped answering keepalives, so the NAT in front of it or the phone "
                          "itself has forgotten the flow. It comes back with its next REGISTER");
        return;
    }
    if (is_wanted(b) && send_options(registrar, b) == 0)
        kg_counters.keepalives_sent++;
    set_due(registrar, b, kg_learn_ask(&b->learn, &bounds, now_ms));
}

bool kg_keepalive_answer(struct kg_registrar *registrar, const char *call_id)
{
    struct kg_learn_bounds bounds;
    struct kg_binding *b;

    if (strncmp(call_id, CALL_ID_PREFIX, sizeof CALL_ID_PREFIX - 1) != 0)
        return false;
    b = kg_bindings_by_token(registrar->bindings, call_id + sizeof CALL_ID_PREFIX - 1);
    if (b) {
        bounds = kg_keepalive_bounds(registrar, &b->flow);
        set_due(registrar, b, kg_learn_answered(&b->learn, &bounds, kg_mono_ms(), kg_wall_ms()));
    }
    return true;
}
