#include "b2bua/registrar/pbx.h"

#include <sofia-sip/nta_stateless.h>
#include <sofia-sip/nta_tag.h>
#include <sofia-sip/sip_protos.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/sip_tag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/registrar/inside.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

/* An OPTIONS so often. A PBX that is restarted closes its socket for a moment; a probe that falls into it is
 * lost, and that is how kedge learns of the restart. */
#define PROBE_MS 500
/* An answer must come before so many later probes have been sent: 2 s, for a PBX far away or busy. */
#define LATE_PROBES 4
/* So many probes in a row without an answer: it is down, 4 s after it fell silent. Until then requests go to
 * it. */
#define UNANSWERED_MAX 4
#define CALL_ID_PREFIX "probe-"

enum state { PBX_UP, PBX_DOUBTFUL, PBX_DOWN };

struct pbx {
    struct kg_endpoint endpoint;
    char name[KG_ADDR_STR + 8];
    struct kg_flow flow; /* tport NULL: not found yet */
    char call_id[40];    /* of the probes: nobody can guess it */
    enum state state;
    uint32_t cseq;     /* of the last probe */
    uint32_t answered; /* bit n: the probe n before that was */
    uint32_t unanswered, epoch;
    int64_t probe_ms; /* when the next is due */
};

struct kg_pbxes {
    struct kg_registrar *registrar;
    struct pbx pbx[KG_PBX_MAX];
    uint32_t count;
};

struct kg_pbxes *kg_pbxes_new(struct kg_registrar *registrar)
{
    const struct kg_config *config = &registrar->server->config;
    struct kg_pbxes *pbxes = calloc(1, sizeof *pbxes);

    if (!pbxes)
        return NULL;
    pbxes->registrar = registrar;
    pbxes->count = (uint32_t)config->pbx_count;
    for (uint32_t i = 0; i < pbxes->count; i++) {
        struct pbx *pbx = &pbxes->pbx[i];
        char addr[KG_ADDR_STR], random[25];

        pbx->endpoint = config->pbx[i];
        pbx->answered = UINT32_MAX;
        kg_random_hex(random, 24);
        snprintf(pbx->call_id, sizeof pbx->call_id, CALL_ID_PREFIX "%s", random);
        snprintf(pbx->name, sizeof pbx->name, "%s %s", kg_transport_name(pbx->endpoint.transport),
                 kg_addr_format(&pbx->endpoint.addr, addr));
    }
    return pbxes;
}

void kg_pbxes_free(struct kg_pbxes *pbxes)
{
    if (!pbxes)
        return;
    for (uint32_t i = 0; i < pbxes->count; i++)
        kg_flow_clear(&pbxes->pbx[i].flow);
    free(pbxes);
}

/* --- health -----------------------------------------------------------------------------------------------
 */

static void doubt(struct pbx *pbx)
{
    if (pbx->state == PBX_UP) {
        pbx->state = PBX_DOUBTFUL;
        pbx->epoch++;
    }
}

static void note_answer(struct pbx *pbx, uint32_t cseq)
{
    if (pbx->cseq - cseq < 32)
        pbx->answered |= 1u << (pbx->cseq - cseq);
    if (pbx->state == PBX_DOWN)
        kg_warn("registrar", "the PBX at %s answers again: each phone's next REGISTER goes through to it",
                pbx->name);
    pbx->state = PBX_UP;
    pbx->unanswered = 0;
}

static void note_silence(struct pbx *pbx)
{
    doubt(pbx);
    if (++pbx->unanswered < UNANSWERED_MAX || pbx->state == PBX_DOWN)
        return;
    pbx->state = PBX_DOWN;
    kg_error("registrar",
             "the PBX at %s does not answer: phones are registered with another one, or get 503 if there is "
             "none. Check that it runs, and that it accepts SIP from kedge's address",
             pbx->name);
}

static void send_probe(struct kg_pbxes *pbxes, struct pbx *pbx, const struct kg_flow *flow)
{
    struct kg_registrar *registrar = pbxes->registrar;
    nta_agent_t *agent = kg_registrar_agent(registrar);
    char route[KG_FLOW_URL], from[KG_CONTACT_URL], from_header[KG_CONTACT_URL + 40],
        to_header[KG_FLOW_URL + 2];
    char cseq[32];
    msg_t *msg = nta_msg_create(agent, 0);
    sip_t *sip = msg ? sip_object(msg) : NULL;
    sip_request_t *request;

    kg_flow_route_url(flow, route);
    request = sip ? sip_request_create(msg_home(msg), SIP_METHOD_OPTIONS, (url_string_t *)route, NULL) : NULL;
    if (!request) {
        msg_destroy(msg);
        return;
    }
    sip_header_insert(msg, sip, (sip_header_t *)request);
    kg_flow_contact_url(&registrar->server->config, flow, NULL, from);
    snprintf(from_header, sizeof from_header, "<%s>;tag=%.8s", from, pbx->call_id + sizeof CALL_ID_PREFIX);
    snprintf(to_header, sizeof to_header, "<%s>", route);
    snprintf(cseq, sizeof cseq, "%u OPTIONS", pbx->cseq);
    nta_msg_tsend(agent, msg, (url_string_t *)route, NTATAG_TPORT(flow->tport), SIPTAG_FROM_STR(from_header),
                  SIPTAG_TO_STR(to_header), SIPTAG_CALL_ID_STR(pbx->call_id), SIPTAG_CSEQ_STR(cseq),
                  SIPTAG_MAX_FORWARDS_STR("70"), SIPTAG_USER_AGENT_STR(KG_SIP_SERVER), TAG_END());
}

void kg_pbxes_tick(struct kg_pbxes *pbxes, int64_t now_ms)
{
    for (uint32_t i = 0; i < pbxes->count; i++) {
        struct pbx *pbx = &pbxes->pbx[i];
        const struct kg_flow *flow;

        if (now_ms < pbx->probe_ms)
            continue;
        if (!(pbx->answered >> (LATE_PROBES - 1) & 1))
            note_silence(pbx);
        pbx->probe_ms = now_ms + PROBE_MS;
        pbx->answered <<= 1;
        pbx->cseq++;
        flow = kg_pbxes_flow(pbxes, i);
        if (flow)
            send_probe(pbxes, pbx, flow);
    }
}

bool kg_pbxes_answer(struct kg_pbxes *pbxes, const char *call_id, uint32_t cseq)
{
    for (uint32_t i = 0; i < pbxes->count; i++) {
        if (strcmp(pbxes->pbx[i].call_id, call_id) != 0)
            continue;
        note_answer(&pbxes->pbx[i], cseq);
        return true;
    }
    return false;
}

/* --- choosing ---------------------------------------------------------------------------------------------
 */

uint32_t kg_pbxes_pick(const struct kg_pbxes *pbxes, uint32_t preferred, uint32_t tried)
{
    if (preferred < pbxes->count && !(tried >> preferred & 1) && kg_pbxes_is_up(pbxes, preferred))
        return preferred;
    for (uint32_t i = 0; i < pbxes->count; i++)
        if (!(tried >> i & 1) && kg_pbxes_is_up(pbxes, i))
            return i;
    return KG_PBX_NONE;
}

bool kg_pbxes_is_up(const struct kg_pbxes *pbxes, uint32_t index)
{
    return index < pbxes->count && pbxes->pbx[index].state != PBX_DOWN;
}

uint32_t kg_pbxes_epoch(const struct kg_pbxes *pbxes, uint32_t index)
{
    return index < pbxes->count ? pbxes->pbx[index].epoch : 0;
}

void kg_pbxes_failed(struct kg_pbxes *pbxes, uint32_t index)
{
    struct pbx *pbx = &pbxes->pbx[index];

    doubt(pbx);
    /* The kernel may choose another of our addresses now. */
    kg_flow_clear(&pbx->flow);
}

const struct kg_flow *kg_pbxes_flow(struct kg_pbxes *pbxes, uint32_t index)
{
    struct pbx *pbx = &pbxes->pbx[index];

    if (!pbx->flow.tport && kg_flow_to(kg_registrar_agent(pbxes->registrar), pbx->endpoint.transport,
                                       &pbx->endpoint.addr, &pbx->flow))
        return NULL;
    return &pbx->flow;
}

const char *kg_pbxes_name(const struct kg_pbxes *pbxes, uint32_t index)
{
    return pbxes->pbx[index].name;
}
