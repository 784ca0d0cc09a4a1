/* Whether servers answer, whose turn it is, and whose an address is. */
#include "b2bua/route/peers_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/route/remember.h"
#include "b2bua/server.h"
#include "b2bua/sip/sip.h"
#include "conf/clock.h"
#include "conf/log.h"

#define TICK_MS 100

_Static_assert(KG_WEIGHTED_MAX >= KG_PBX_MAX + KG_PLACES_MAX,
               "kg_order takes the servers of a group, and the addresses of one");

struct kg_peer_state *kg_peers_find(const struct kg_peers *peers, uint32_t id)
{
    for (size_t i = 0; i < peers->count; i++)
        if (peers->peer[i]->id == id)
            return peers->peer[i];
    return NULL;
}

/* ---- whether they answer ---- */

/* What a person should know of a change. */
static void tell(const struct kg_peers *peers, const struct kg_peer_state *peer, enum kg_health_state before)
{
    static const char *const why[] = {
        [KG_CAUSE_NONE] = "",
        [KG_CAUSE_SILENCE] = "it does not answer OPTIONS; is it up, and does it take SIP from kedge?",
        [KG_CAUSE_BREAKER] = "it does not answer requests",
        [KG_CAUSE_REFUSED] =
            "nothing can be sent to it: the connection is refused or lost, or there is no way",
        [KG_CAUSE_BUSY] = "it answers requests 503",
        [KG_CAUSE_PAUSE] =
            "it answered a request 503 and asked for a pause (asked all the same if there is no other)",
        [KG_CAUSE_ASKED] = "it answered 503 and asked for a pause",
    };
    const char *group = peers->group[peer->group].name;

    if (before != KG_HEALTH_DOWN && peer->health.state == KG_HEALTH_DOWN)
        kg_error("route", "the %s%s at %s is not asked for now: %s", group[0] != '\0' ? "trunk " : "PBX",
                 group, peer->name, why[peer->health.cause]);
    else if (before == KG_HEALTH_DOWN && peer->health.state != KG_HEALTH_DOWN)
        kg_warn("route", "the %s%s at %s answers again", group[0] != '\0' ? "trunk " : "PBX", group,
                peer->name);
}

static void probe(struct kg_peers *peers, struct kg_peer_state *peer)
{
    const struct kg_flow *flow = kg_peers_flow(peers, peer->id);

    if (flow != NULL)
        kg_probe_send(kg_sip_agent(peers->server->sip), &peers->server->config, flow, peer->call_id,
                      peer->health.cseq);
}

static void on_tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    struct kg_peers *peers = (struct kg_peers *)arg;
    int64_t now_ms = kg_mono_ms();

    (void)magic;
    (void)timer;
    if (now_ms >= peers->locate_ms)
        kg_peers_locate(peers, now_ms);
    for (size_t i = 0; i < peers->count; i++) {
        struct kg_peer_state *peer = peers->peer[i];
        enum kg_health_state before = peer->health.state;
        if (!peer->wanted)
            continue;
        if (kg_health_tick(&peer->health, now_ms))
            probe(peers, peer);
        tell(peers, peer, before);
    }
}

static uint32_t retry_after_of(const sip_t *sip)
{
    return sip->sip_retry_after != NULL ? (uint32_t)sip->sip_retry_after->af_delta : 0;
}

bool kg_peers_answer(struct kg_peers *peers, const sip_t *sip)
{
    if (sip == NULL || sip->sip_status == NULL || sip->sip_call_id == NULL || sip->sip_cseq == NULL)
        return false;
    for (size_t i = 0; i < peers->count; i++) {
        struct kg_peer_state *peer = peers->peer[i];
        enum kg_health_state before = peer->health.state;
        if (strcmp(peer->call_id, sip->sip_call_id->i_id) != 0)
            continue;
        kg_health_probe_answered(&peer->health, (uint32_t)sip->sip_cseq->cs_seq, sip->sip_status->st_status,
                                 retry_after_of(sip), kg_mono_ms());
        tell(peers, peer, before);
        return true;
    }
    return false;
}

void kg_peers_asked(struct kg_peers *peers, uint32_t id)
{
    struct kg_peer_state *peer = kg_peers_find(peers, id);

    if (peer != NULL)
        kg_health_asked(&peer->health, kg_mono_ms());
}

void kg_peers_heard(struct kg_peers *peers, uint32_t id)
{
    struct kg_peer_state *peer = kg_peers_find(peers, id);

    if (peer != NULL)
        kg_health_heard(&peer->health);
}

void kg_peers_outcome(struct kg_peers *peers, uint32_t id, enum kg_outcome outcome, uint32_t retry_after_s)
{
    struct kg_peer_state *peer = kg_peers_find(peers, id);
    enum kg_health_state before;

    if (peer == NULL)
        return;
    before = peer->health.state;
    kg_health_outcome(&peer->health, outcome, retry_after_s, kg_mono_ms());
    /* The kernel may choose another of our addresses now. */
    if (outcome == KG_OUTCOME_SILENT || outcome == KG_OUTCOME_UNREACHABLE)
        kg_flow_clear(&peer->flow);
    tell(peers, peer, before);
}

/* ---- whose turn it is ---- */

static uint32_t any_number(void *ctx)
{
    (void)ctx;
    return kg_random_u32();
}

/* One group's peers in the order of RFC 2782: of the configured servers, and of each one's addresses in turn.
 */
static size_t in_order(const struct kg_peers *peers, uint32_t group, struct kg_peer_state **out, size_t max)
{
    const struct kg_peer_group *g = &peers->group[group];
    struct kg_weighted entry[KG_WEIGHTED_MAX], place[KG_WEIGHTED_MAX];
    uint8_t order[KG_WEIGHTED_MAX], inner[KG_WEIGHTED_MAX];
    struct kg_peer_state *found[KG_WEIGHTED_MAX];
    size_t total = 0;

    for (size_t i = 0; i < g->entry_count; i++)
        entry[i] = (struct kg_weighted){g->entry[i].at.priority, g->entry[i].at.weight};
    kg_order(entry, g->entry_count, any_number, NULL, order);
    for (size_t i = 0; i < g->entry_count; i++) {
        size_t count = 0;
        for (size_t k = 0; k < peers->count && count < KG_WEIGHTED_MAX; k++) {
            struct kg_peer_state *peer = peers->peer[k];
            if (peer->group != group || peer->entry != order[i] || !peer->wanted)
                continue;
            place[count] = (struct kg_weighted){peer->place.priority, peer->place.weight};
            found[count++] = peer;
        }
        kg_order(place, count, any_number, NULL, inner);
        for (size_t k = 0; k < count && total < max; k++)
            out[total++] = found[inner[k]];
    }
    return total;
}

size_t kg_peers_pick(struct kg_peers *peers, uint32_t group, uint32_t preferred, uint32_t *out, size_t max)
{
    struct kg_peer_state *list[KG_PBX_MAX * KG_PLACES_MAX];
    size_t count = 0, total;
    int64_t now_ms = kg_mono_ms();

    if (group >= peers->group_count)
        return 0;
    total = in_order(peers, group, list, sizeof list / sizeof list[0]);
    for (size_t i = 0; i < total && count < max; i++)
        if (list[i]->id == preferred && kg_health_use(&list[i]->health, now_ms) == KG_USE_NOW)
            out[count++] = preferred;
    for (size_t i = 0; i < total && count < max; i++)
        if ((count == 0 || list[i]->id != out[0]) && kg_health_use(&list[i]->health, now_ms) == KG_USE_NOW)
            out[count++] = list[i]->id;
    for (size_t i = 0; i < total && count == 0 && max > 0; i++)
        if (kg_health_use(&list[i]->health, now_ms) == KG_USE_LAST)
            out[count++] = list[i]->id;
    return count;
}

const struct kg_flow *kg_peers_flow(struct kg_peers *peers, uint32_t id)
{
    struct kg_peer_state *peer = kg_peers_find(peers, id);

    if (peer == NULL)
        return NULL;
    /* A stream needs a transport of its kind, also where no listener has it. */
    if (peer->flow.tport == NULL)
        kg_sip_provide(peers->server->sip, peer->place.at.transport, &peer->place.at.addr);
    if (peer->flow.tport == NULL && kg_flow_to(kg_sip_agent(peers->server->sip), peer->place.at.transport,
                                               &peer->place.at.addr, &peer->flow) != 0)
        return NULL;
    return &peer->flow;
}

/* ---- who they are ---- */

uint32_t kg_peers_source(const struct kg_peers *peers, const struct kg_addr *source)
{
    for (size_t i = 0; i < peers->count; i++)
        if (kg_addr_same_host(&peers->peer[i]->place.at.addr, source))
            return peers->peer[i]->group;
    return KG_GROUP_NONE;
}

bool kg_peers_is_up(const struct kg_peers *peers, uint32_t id)
{
    const struct kg_peer_state *peer = kg_peers_find(peers, id);

    return peer != NULL && peer->wanted && peer->health.state != KG_HEALTH_DOWN;
}

uint32_t kg_peers_epoch(const struct kg_peers *peers, uint32_t id)
{
    const struct kg_peer_state *peer = kg_peers_find(peers, id);

    return peer != NULL ? peer->health.epoch : 0;
}

const char *kg_peers_name(const struct kg_peers *peers, uint32_t id)
{
    const struct kg_peer_state *peer = kg_peers_find(peers, id);

    return peer != NULL ? peer->name : "(gone)";
}

uint32_t kg_peers_of_flow(const struct kg_peers *peers, const struct kg_flow *flow)
{
    for (size_t i = 0; i < peers->count; i++)
        if (kg_peer_is_at(peers->peer[i], flow->transport, &flow->remote))
            return peers->peer[i]->id;
    return KG_PEER_NONE;
}

bool kg_peers_may_connect(const struct kg_peers *peers, enum kg_transport transport,
                          const struct kg_addr *addr, const char **name, bool *verify)
{
    bool found = false;

    *verify = false;
    for (size_t i = 0; i < peers->count; i++) {
        const struct kg_peer_state *peer = peers->peer[i];
        /* Of several at one address the one that asks for more decides. */
        if (!kg_peer_is_at(peer, transport, addr) || *verify)
            continue;
        found = true;
        *name = peer->at.host;
        *verify = !peer->at.unverified;
    }
    return found;
}

/* ---- the object ---- */

static void fill_group(struct kg_peer_group *group, const char *name, const struct kg_server_at *at,
                       size_t count, uint32_t probe_ms)
{
    snprintf(group->name, sizeof group->name, "%s", name);
    group->probe_ms = probe_ms;
    group->entry_count = count;
    for (size_t i = 0; i < count; i++)
        group->entry[i].at = at[i];
}

static void read_groups(struct kg_peers *peers)
{
    const struct kg_config *config = &peers->server->config;

    memset(peers->group, 0, sizeof peers->group);
    fill_group(&peers->group[KG_GROUP_PBX], "", config->pbx, config->pbx_count, config->pbx_probe_ms);
    for (size_t i = 0; i < config->trunk_count; i++) {
        const struct kg_trunk_config *trunk = &config->trunk[i];
        fill_group(&peers->group[i + 1], trunk->name, trunk->server, trunk->server_count, trunk->probe_ms);
    }
    peers->group_count = (uint32_t)config->trunk_count + 1;
}

/* The peer's place in the groups that were just read; false: its group or its server is gone. */
static bool move_peer(struct kg_peers *peers, struct kg_peer_state *peer, const char *group_name)
{
    for (uint32_t g = 0; g < peers->group_count; g++) {
        struct kg_peer_group *group = &peers->group[g];
        if (strcmp(group->name, group_name) != 0)
            continue;
        peer->group = g;
        kg_health_set_probe(&peer->health, group->probe_ms, kg_mono_ms());
        for (unsigned i = 0; i < group->entry_count; i++) {
            if (!kg_server_at_same(&group->entry[i].at, &peer->at))
                continue;
            peer->entry = i;
            peer->at = group->entry[i].at;
            group->entry[i].located = true;
            return true;
        }
        return false;
    }
    return false;
}

void kg_peers_reload(struct kg_peers *peers)
{
    char name[KG_GROUPS][KG_NAME_MAX];
    const struct kg_config *config = &peers->server->config;
    int64_t now_ms = kg_mono_ms();

    for (uint32_t i = 0; i < KG_GROUPS; i++)
        memcpy(name[i], peers->group[i].name, sizeof name[i]);
    read_groups(peers);
    kg_resolver_set_servers(peers->resolver, config->dns.server, config->dns.server_count);
    for (size_t i = peers->count; i-- > 0;) {
        struct kg_peer_state *peer = peers->peer[i];
        if (!move_peer(peers, peer, name[peer->group]))
            kg_peers_remove(peers, i); /* whoever was taken out of the configuration is a stranger at once */
    }
    kg_peers_locate(peers, now_ms);
}

static void on_news(void *ctx)
{
    kg_peers_locate(ctx, kg_mono_ms());
}

struct kg_peers *kg_peers_new(struct kg_server *server)
{
    struct kg_peers *peers = calloc(1, sizeof *peers);

    if (peers == NULL)
        return NULL;
    peers->server = server;
    read_groups(peers);
    peers->resolver = kg_resolver_new(server->root, server->config.dns.server,
                                      server->config.dns.server_count, on_news, peers);
    peers->timer = su_timer_create(su_root_task(server->root), TICK_MS);
    if (peers->resolver == NULL || peers->timer == NULL) {
        kg_peers_free(peers);
        return NULL;
    }
    kg_recall(server->store, kg_peers_recalled, peers);
    kg_peers_locate(peers, kg_mono_ms());
    su_timer_set_for_ever(peers->timer, on_tick, (su_timer_arg_t *)peers);
    return peers;
}

void kg_peers_free(struct kg_peers *peers)
{
    if (peers == NULL)
        return;
    kg_resolver_free(peers->resolver);
    if (peers->timer != NULL)
        su_timer_destroy(peers->timer);
    while (peers->count > 0)
        kg_peers_remove(peers, peers->count - 1);
    free(peers);
}
