/* Where the configured servers are: the addresses that DNS names become peers, others cease to be. */
#include "b2bua/route/peers_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/guard/guard.h"
#include "b2bua/route/remember.h"
#include "b2bua/server.h"
#include "conf/clock.h"
#include "conf/log.h"
#include "media/client.h"

/* The answers of DNS are looked at so often, and those that have run out renewed. */
#define LOCATE_MS 1000
/* An address that DNS names no more is known for what it was so long: its calls go on, and it may still call.
 */
#define LINGER_MS 600000

/* ---- peers come and go ---- */

/* FNV-1a of the group's name and the address: the same after a restart, when registrations remember it. */
static uint32_t id_of(const struct kg_peers *peers, const char *group, const char *name)
{
    const char *const text[] = {group, name};
    uint32_t hash = 0x811c9dc5u;

    for (size_t i = 0; i < 2; i++) {
        for (const char *at = text[i]; *at != '\0'; at++)
            hash = (hash ^ (unsigned char)*at) * 0x01000193u;
        hash = (hash ^ 0xff) * 0x01000193u;
    }
    while (hash == KG_PEER_NONE || kg_peers_find(peers, hash) != NULL)
        hash++;
    return hash;
}

static void free_peer(struct kg_peer_state *peer)
{
    kg_flow_clear(&peer->flow);
    free(peer);
}

/* Servers are neither limited nor banned. */
static void trust(const struct kg_peers *peers, const struct kg_addr *addr, bool trusted)
{
    if (peers->server->guard != NULL)
        kg_guard_trust(peers->server->guard, addr, trusted, kg_mono_ms());
}

void kg_peers_remove(struct kg_peers *peers, size_t index)
{
    struct kg_addr addr = peers->peer[index]->place.at.addr;

    free_peer(peers->peer[index]);
    peers->count--;
    peers->changed = true;
    trust(peers, &addr, false); /* another one at that host is trusted again by the next look */
    memmove(&peers->peer[index], &peers->peer[index + 1], (peers->count - index) * sizeof peers->peer[0]);
}

static struct kg_peer_state *find_place(const struct kg_peers *peers, uint32_t group,
                                        const struct kg_place *place)
{
    for (size_t i = 0; i < peers->count; i++) {
        struct kg_peer_state *peer = peers->peer[i];
        if (peer->group == group && kg_peer_is_at(peer, place->at.transport, &place->at.addr))
            return peer;
    }
    return NULL;
}

static struct kg_peer_state *add_peer(struct kg_peers *peers, uint32_t group, const struct kg_place *place,
                                      int64_t now_ms)
{
    struct kg_peer_state *peer = peers->count < KG_PEERS_MAX ? calloc(1, sizeof *peer) : NULL;
    char addr[KG_ADDR_STR];

    if (peer == NULL) {
        kg_error("route", "the addresses of more than %d servers cannot be kept in mind", KG_PEERS_MAX);
        return NULL;
    }
    snprintf(peer->name, sizeof peer->name, "%s %s", kg_transport_name(place->at.transport),
             kg_addr_format(&place->at.addr, addr));
    peer->id = id_of(peers, peers->group[group].name, peer->name);
    peer->group = group;
    kg_probe_call_id(peer->call_id);
    kg_health_init(&peer->health, peers->group[group].probe_ms, now_ms);
    peers->peer[peers->count++] = peer;
    peers->changed = true;
    return peer;
}

static void retire(struct kg_peer_state *peer, int64_t now_ms)
{
    peer->wanted = false;
    peer->retired_ms = now_ms;
}

static void forget_retired(struct kg_peers *peers, int64_t now_ms)
{
    for (size_t i = peers->count; i-- > 0;)
        if (!peers->peer[i]->wanted && now_ms - peers->peer[i]->retired_ms > LINGER_MS)
            kg_peers_remove(peers, i);
}

/* ---- as DNS says ---- */

struct question {
    struct kg_peers *peers;
    int64_t now_ms;
};

static const struct kg_dns_answer *ask(void *ctx, enum kg_dns_type type, const char *name)
{
    const struct question *question = ctx;

    return kg_resolver_ask(question->peers->resolver, type, name, question->now_ms);
}

static struct kg_reach reach_of(const struct kg_config *config)
{
    struct kg_reach reach = {.transport = {[KG_TCP] = true, [KG_TLS] = true}};

    for (size_t i = 0; i < config->sip.listen_count; i++) {
        const struct kg_endpoint *at = &config->sip.listen[i];
        reach.transport[KG_UDP] |= at->transport == KG_UDP;
        reach.v4 |= kg_addr_family(&at->addr) == AF_INET;
        reach.v6 |= kg_addr_family(&at->addr) == AF_INET6;
    }
    return reach;
}

/* Brings the peers of one entry to what DNS says now. */
static void settle(struct kg_peers *peers, uint32_t group, unsigned index, const struct kg_place *place,
                   size_t count, int64_t now_ms)
{
    struct kg_peer_entry *entry = &peers->group[group].entry[index];
    bool changed = false;

    for (size_t i = 0; i < peers->count; i++) {
        struct kg_peer_state *peer = peers->peer[i];
        bool stays = false;
        for (size_t k = 0; k < count; k++)
            stays = stays || (kg_peer_is_at(peer, place[k].at.transport, &place[k].at.addr));
        if (peer->group == group && peer->entry == index && peer->wanted && !stays) {
            kg_info("route", "%s is no longer at %s", entry->at.host, peer->name);
            retire(peer, now_ms);
            changed = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct kg_peer_state *peer = find_place(peers, group, &place[i]);
        bool is_new = peer == NULL;
        if (peer != NULL && peer->wanted && peer->entry != index)
            continue; /* another entry leads there too */
        if (is_new && (peer = add_peer(peers, group, &place[i], now_ms)) == NULL)
            return;
        if (!peer->wanted && !is_new)
            kg_info("route", "%s is at %s again", entry->at.host, peer->name);
        changed = changed || !peer->wanted || peer->place.priority != place[i].priority ||
                  peer->place.weight != place[i].weight;
        peer->wanted = true;
        peer->entry = index;
        peer->place = place[i];
        peer->at = entry->at;
        trust(peers, &place[i].at.addr, true);
    }
    if (changed)
        kg_remember(peers->server->store, &entry->at, place, count);
}

static void locate_entry(struct kg_peers *peers, uint32_t group, unsigned index, const struct kg_reach *reach,
                         int64_t now_ms)
{
    struct kg_peer_entry *entry = &peers->group[group].entry[index];
    struct question question = {peers, now_ms};
    struct kg_place place[KG_PLACES_MAX];
    size_t count;

    if (kg_locate(&entry->at, reach, ask, &question, place, &count) != 0)
        return;
    if (count == 0) {
        /* Where it was is a better guess than nowhere: an answer without addresses never takes one away. */
        if (!entry->complains)
            kg_error("route", "DNS has no address for %s that kedge could use%s", entry->at.host,
                     entry->located ? "; the last ones are kept" : "");
        entry->complains = true;
        return;
    }
    entry->located = true;
    entry->complains = false;
    settle(peers, group, index, place, count, now_ms);
}

/* Of every server. Returns how many. */
static size_t addresses(const struct kg_peers *peers, struct kg_addr *out, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < peers->count && count < max; i++)
        out[count++] = peers->peer[i]->place.at.addr;
    return count;
}

/* Whatever candidate a phone names, the engine sends no ICE check to a server. */
static void tell_media(struct kg_peers *peers)
{
    struct kg_addr addr[KG_MEDIA_AVOID_MAX];

    if (peers->changed && peers->server->media != NULL)
        kg_media_avoid(peers->server->media, addr, addresses(peers, addr, KG_MEDIA_AVOID_MAX));
    peers->changed = false;
}

void kg_peers_locate(struct kg_peers *peers, int64_t now_ms)
{
    struct kg_reach reach = reach_of(&peers->server->config);

    peers->locate_ms = now_ms + LOCATE_MS;
    for (uint32_t group = 0; group < peers->group_count; group++)
        for (unsigned i = 0; i < peers->group[group].entry_count; i++)
            locate_entry(peers, group, i, &reach, now_ms);
    forget_retired(peers, now_ms);
    tell_media(peers);
}

/* Where a server was before the restart, until DNS says more. */
bool kg_peers_recalled(void *ctx, const char *server, const struct kg_place *place, size_t count)
{
    struct kg_peers *peers = ctx;
    char key[KG_REMEMBER_KEY];
    bool known = false;

    for (uint32_t group = 0; group < peers->group_count; group++) {
        for (unsigned i = 0; i < peers->group[group].entry_count; i++) {
            struct kg_peer_entry *entry = &peers->group[group].entry[i];
            if (!kg_remember_key(&entry->at, key) || strcmp(key, server) != 0)
                continue;
            known = true;
            entry->located = count > 0;
            settle(peers, group, i, place, count, kg_mono_ms());
        }
    }
    return known;
}
