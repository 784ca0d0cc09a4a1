/* Two agents (or one and a scripted peer) on a network whose delay and rules a test sets; time is a number.
 */
#ifndef KG_TESTS_ICE_WORLD_H
#define KG_TESTS_ICE_WORLD_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ice/agent/agent.h"
#include "ice/stun/integrity.h"
#include "ice/stun/message.h"

static inline struct kg_addr at(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

#define WORLD_FLIGHTS 512
struct flight {
    int64_t arrives_ms;
    struct kg_addr from, to;
    size_t len;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
};

struct peer {
    struct kg_ice_agent *agent;
    const char *ufrag, *pwd;
    struct kg_addr host[2];      /* sockets of component 1 and 2, or two networks */
    int64_t last_new_ms;         /* when the agent last sent a request with a new transaction id */
    uint8_t id[256][KG_STUN_ID]; /* of the latest requests */
    uint32_t ids;
    int closest_ms;     /* least distance of two such */
    uint32_t events[8]; /* by type */
    uint32_t states;    /* bit: state was told */
    uint32_t requests, nominations;
};

struct world {
    int64_t now_ms;
    int delay_ms;
    bool (*blocks)(const struct world *world, const struct kg_addr *from, const struct kg_addr *to);
    struct peer a, b;
    struct flight flight[WORLD_FLIGHTS];
    size_t flights;
    uint64_t seed;
};

static inline void world_random(void *ctx, void *out, size_t len)
{
    struct world *world = ctx;
    uint8_t *byte = out;

    for (size_t i = 0; i < len; i++) { /* splitmix64 */
        uint64_t z = (world->seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        byte[i] = (uint8_t)(z >> 32);
    }
}

static inline void world_send(struct world *world, const struct kg_addr *from, const struct kg_addr *to,
                              const uint8_t *data, size_t len)
{
    if (world->blocks != NULL && world->blocks(world, from, to))
        return;
    assert_true(world->flights < WORLD_FLIGHTS);
    struct flight *f = &world->flight[world->flights++];
    *f = (struct flight){.arrives_ms = world->now_ms + world->delay_ms, .from = *from, .to = *to, .len = len};
    memcpy(f->data, data, len);
}

static inline void peer_watch(struct world *world, struct peer *peer, const struct kg_ice_datagram *d)
{
    struct kg_stun_message m;

    assert_int_equal(kg_stun_parse(d->data, d->len, &m), KG_STUN_OK);
    assert_true(m.has_fingerprint);
    if (m.class != KG_STUN_REQUEST)
        return;
    peer->requests++;
    peer->nominations += kg_stun_find(&m, KG_STUN_USE_CANDIDATE) != NULL;
    for (uint32_t i = 0; i < peer->ids && i < 256; i++)
        if (memcmp(peer->id[i], m.id, KG_STUN_ID) == 0)
            return;
    memcpy(peer->id[peer->ids++ % 256], m.id, KG_STUN_ID);
    if (peer->last_new_ms >= 0 && world->now_ms - peer->last_new_ms < peer->closest_ms)
        peer->closest_ms = (int)(world->now_ms - peer->last_new_ms);
    peer->last_new_ms = world->now_ms;
}

static inline void peer_poll(struct world *world, struct peer *peer)
{
    struct kg_ice_datagram d;
    struct kg_ice_event e;

    if (peer->agent == NULL)
        return;
    for (int i = 0; kg_ice_poll(peer->agent, world->now_ms, &d); i++) {
        assert_true(i < 200);
        peer_watch(world, peer, &d);
        world_send(world, &d.from, &d.to, d.data, d.len);
    }
    while (kg_ice_poll_event(peer->agent, &e)) {
        peer->events[e.type]++;
        if (e.type == KG_ICE_EV_STATE)
            peer->states |= 1u << e.state;
    }
}

static inline bool peer_owns(const struct peer *peer, const struct kg_addr *addr)
{
    return kg_addr_equal(&peer->host[0], addr) || kg_addr_equal(&peer->host[1], addr);
}

static inline void world_deliver(struct world *world)
{
    for (size_t i = 0; i < world->flights;) {
        if (world->flight[i].arrives_ms > world->now_ms) {
            i++;
            continue;
        }
        struct flight f = world->flight[i];
        memmove(&world->flight[i], &world->flight[i + 1], (--world->flights - i) * sizeof f);
        struct peer *to = peer_owns(&world->a, &f.to)   ? &world->a
                          : peer_owns(&world->b, &f.to) ? &world->b
                                                        : NULL;
        if (to != NULL && to->agent != NULL) {
            kg_ice_receive(to->agent, &f.to, &f.from, f.data, f.len, world->now_ms);
            peer_poll(world, to);
        }
    }
}

/* Runs for ms of the world's time, from deadline to deadline. */
static inline void world_run(struct world *world, int64_t ms)
{
    int64_t end = world->now_ms + ms;

    for (int rounds = 0;; rounds++) {
        assert_true(rounds < 100000);
        world_deliver(world);
        peer_poll(world, &world->a);
        peer_poll(world, &world->b);
        int64_t next = end;
        for (size_t i = 0; i < world->flights; i++)
            next = world->flight[i].arrives_ms < next ? world->flight[i].arrives_ms : next;
        struct peer *peers[] = {&world->a, &world->b};
        for (int i = 0; i < 2; i++)
            if (peers[i]->agent != NULL && kg_ice_next_ms(peers[i]->agent) < next)
                next = kg_ice_next_ms(peers[i]->agent);
        if (world->now_ms >= end)
            return;
        world->now_ms = next > world->now_ms ? next : world->now_ms;
    }
}

static inline void peer_new(struct world *world, struct peer *peer, struct kg_ice_settings settings,
                            const char *host, uint8_t components)
{
    bool first = peer == &world->a;

    settings.random = world_random;
    settings.random_ctx = world;
    peer->agent = kg_ice_agent_new(&settings);
    assert_non_null(peer->agent);
    peer->ufrag = first ? "aaaa" : "bbbb";
    peer->pwd = first ? "aaaaaaaaaaaaaaaaaaaaaa" : "bbbbbbbbbbbbbbbbbbbbbb";
    peer->last_new_ms = -1;
    peer->closest_ms = INT32_MAX;
    assert_int_equal(kg_ice_add_stream(peer->agent, 0, components), 0);
    for (uint8_t c = 1; c <= components; c++) {
        struct kg_addr addr = at(host);
        kg_addr_set_port(&addr, (uint16_t)(kg_addr_port(&addr) + c - 1));
        peer->host[c - 1] = addr;
        assert_int_equal(kg_ice_add_local(peer->agent, 0, c, KG_CANDIDATE_HOST, &addr, &addr, 65535, NULL),
                         0);
    }
    assert_int_equal(kg_ice_set_local(peer->agent, peer->ufrag, peer->pwd), 0);
    assert_int_equal(kg_ice_start(peer->agent, world->now_ms), 0);
}

/* Tells `to` what `from` says, with candidates of its own or those given. */
static inline void tell(struct world *world, struct peer *to, const struct peer *from,
                        struct kg_ice_description description)
{
    struct kg_candidate locals[16];

    if (description.candidate == NULL) {
        description.candidate_count = (uint8_t)kg_ice_locals(from->agent, 0, locals, 16);
        description.candidate = locals;
    }
    description.ufrag = from->ufrag;
    description.pwd = from->pwd;
    assert_int_equal(kg_ice_set_remote(to->agent, 0, &description, world->now_ms), 0);
}

static inline struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->now_ms = 1000;
    world->delay_ms = 10;
    world->seed = 1;
    return world;
}

static inline void world_free(struct world *world)
{
    kg_ice_agent_free(world->a.agent);
    kg_ice_agent_free(world->b.agent);
    free(world);
}

#endif
