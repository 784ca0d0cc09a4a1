/* The ICE agent in any order of calls: descriptions, checks with right and wrong integrity, answers to what
 * it sent, time that jumps, challenges, restarts, sockets and lines that come and go. It must never answer a
 * stranger, never send twice in one Ta without need, and always say when it wants to be called again. */
#include <stdlib.h>
#include <string.h>

#include "ice/agent/agent.h"
#include "ice/stun/integrity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PWD "bbbbbbbbbbbbbbbbbbbbbb"

struct input {
    const uint8_t *at, *end;
};

static uint8_t take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void require(int truth)
{
    if (!truth)
        abort();
}

static void count_up(void *ctx, void *out, size_t len)
{
    uint64_t *next = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)((*next += 0x9e3779b97f4a7c15u) >> 40);
}

static struct kg_addr addr(struct input *in, uint16_t port)
{
    struct kg_addr out;
    uint8_t which = take(in);

    require(kg_addr_parse(which & 128 ? "[2001:db8::1]:1" : "192.0.2.1:1", &out) == 0);
    if (which & 64)
        out.in4.sin_addr.s_addr ^= 0x01000000;
    kg_addr_set_port(&out, (uint16_t)(port + (which & 15)));
    return out;
}

struct state {
    struct kg_ice_agent *agent;
    int64_t now_ms;
    struct kg_ice_datagram last; /* the latest request of the agent */
    struct kg_addr avoided;      /* none, or never checked */
};

static void drain(struct state *s)
{
    struct kg_ice_datagram d;
    struct kg_ice_event e;
    int sent = 0;

    while (kg_ice_poll(s->agent, s->now_ms, &d)) {
        struct kg_stun_message m;
        require(++sent < 400);
        require(d.len > 0 && d.len <= sizeof d.data && kg_addr_is_set(&d.from) && kg_addr_is_usable(&d.to));
        require(kg_stun_parse(d.data, d.len, &m) == KG_STUN_OK && m.has_fingerprint);
        if (m.class == KG_STUN_REQUEST) {
            bool query = kg_addr_port(&d.to) >= 7000;
            require(query || !kg_addr_same_host(&d.to, &s->avoided));
            s->last = d;
        }
    }
    for (int events = 0; kg_ice_poll_event(s->agent, &e); events++)
        require(events < 100);
    require(kg_ice_next_ms(s->agent) > s->now_ms);
}

static void describe(struct state *s, struct input *in)
{
    struct kg_candidate list[20] = {0};
    struct kg_ice_description d = {.ufrag = take(in) & 1 ? "bbbb" : "BBBB", .pwd = PWD, .candidate = list};
    uint8_t flags = take(in);

    d.candidate_count = take(in) % 20;
    for (uint8_t i = 0; i < d.candidate_count; i++) {
        list[i] = (struct kg_candidate){.type = take(in) % 4,
                                        .component = take(in) % 4,
                                        .priority = 1u + take(in),
                                        .addr = addr(in, 6000)};
        list[i].foundation[0] = (char)('a' + take(in) % 8);
    }
    d.lite = flags & 1;
    d.trickle = flags & 2;
    d.end_of_candidates = flags & 4;
    d.pacing_ms = flags & 8 ? take(in) : 0;
    if (flags & 16)
        d.remote_candidate[0] = addr(in, 5000);
    kg_ice_set_remote(s->agent, flags >> 6, &d, s->now_ms);
}

static void ask(struct state *s, struct input *in)
{
    struct kg_stun_writer w;
    uint8_t buf[512], id[KG_STUN_ID] = {0}, flags = take(in);
    const char *user = flags & 1 ? "aaaa:bbbb" : "AAAA:BBBB";
    struct kg_addr base = addr(in, 5000), source = addr(in, 6000);

    id[0] = take(in);
    kg_stun_begin(&w, buf, sizeof buf, flags & 2 ? KG_STUN_REQUEST : take(in) % 4, KG_STUN_BINDING, id);
    kg_stun_put(&w, KG_STUN_USERNAME, user, 9);
    if (flags & 4)
        kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, take(in));
    kg_stun_put_u64(&w, flags & 8 ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED,
                    flags & 16 ? UINT64_MAX : 0);
    if (flags & 32)
        kg_stun_put_integrity(&w, PWD, strlen(PWD));
    kg_stun_put_fingerprint(&w);
    require(kg_ice_receive(s->agent, &base, &source, buf, kg_stun_end(&w), s->now_ms) == 0 || flags & 32);
}

static void answer(struct state *s, struct input *in)
{
    struct kg_stun_message m;
    struct kg_stun_writer w;
    uint8_t buf[512], flags = take(in);
    struct kg_addr mapped = addr(in, 5000), source = flags & 1 ? s->last.to : addr(in, 6000);

    if (s->last.len == 0 || kg_stun_parse(s->last.data, s->last.len, &m) != KG_STUN_OK)
        return;
    kg_stun_begin(&w, buf, sizeof buf, flags & 2 ? KG_STUN_SUCCESS : KG_STUN_ERROR, KG_STUN_BINDING, m.id);
    if (flags & 2)
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, flags & 4 ? &s->last.from : &mapped);
    else
        kg_stun_put_error(&w, flags & 8 ? 487 : 400, "no");
    if (flags & 16)
        kg_stun_put_integrity(&w, PWD, strlen(PWD));
    kg_stun_put_fingerprint(&w);
    kg_ice_receive(s->agent, &s->last.from, &source, buf, kg_stun_end(&w), s->now_ms);
}

static void step(struct state *s, struct input *in)
{
    struct kg_ice_pair pairs[KG_ICE_PAIRS_MAX];
    struct kg_addr one, two;
    uint8_t what = take(in), stream = take(in) % 3, component = (uint8_t)(1 + take(in) % 2);

    switch (what % 14) {
    case 0:
        describe(s, in);
        break;
    case 1:
    case 2:
        ask(s, in);
        break;
    case 3:
    case 4:
    case 5:
        answer(s, in);
        break;
    case 6:
        s->now_ms += take(in);
        break;
    case 7: {
        int64_t next = kg_ice_next_ms(s->agent);
        s->now_ms = next == INT64_MAX ? s->now_ms + 10000 : next;
        break;
    }
    case 8:
        kg_ice_restart(s->agent, what & 128 ? "AAAA" : "aaaa", PWD, s->now_ms);
        break;
    case 9:
        one = addr(in, 5000);
        two = addr(in, 6000);
        kg_ice_challenge(s->agent, stream, component, &one, &two, s->now_ms);
        break;
    case 10:
        one = addr(in, 5000);
        kg_ice_remove_local(s->agent, &one, s->now_ms);
        break;
    case 11:
        if (what & 128)
            kg_ice_drop_stream(s->agent, stream);
        else
            kg_ice_drop_component(s->agent, stream, component);
        break;
    case 12:
        one = addr(in, 5000);
        two = what & 128 ? addr(in, 5000) : one;
        kg_ice_add_stream(s->agent, stream, component);
        kg_ice_add_local(s->agent, stream, component, what & 64 ? KG_CANDIDATE_RELAY : KG_CANDIDATE_HOST,
                         &two, &one, take(in), NULL);
        break;
    case 13:
        one = addr(in, 7000);
        kg_ice_add_stun_server(s->agent, &one);
        break;
    }
    drain(s);
    require(kg_ice_pairs(s->agent, pairs, KG_ICE_PAIRS_MAX) <= KG_ICE_PAIRS_MAX);
    two = addr(in, 6000);
    kg_ice_is_valid_source(s->agent, stream, component, &two);
    if (kg_ice_selected(s->agent, stream, component, pairs))
        require(pairs[0].valid && pairs[0].selected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint64_t random = 1;
    uint8_t flags = take(&in);
    struct kg_ice_settings settings = {
        .lite = flags & 1,
        .controlling = flags & 2,
        .no_consent = flags & 4,
        .rtcp_mux = flags & 8,
        .random = count_up,
        .random_ctx = &random,
    };
    struct kg_addr host = addr(&in, 5000), avoided = addr(&in, 0), elsewhere;
    settings.avoid = &avoided;
    settings.avoid_count = 1;
    struct state s = {.agent = kg_ice_agent_new(&settings), .now_ms = 1000};

    if (s.agent == NULL)
        return 0;
    if (flags & 32 && kg_addr_parse("198.51.100.1", &elsewhere) == 0) {
        s.avoided = avoided;
        kg_ice_set_peer(s.agent, &elsewhere);
    }
    kg_ice_set_local(s.agent, "aaaa", PWD);
    kg_ice_add_stream(s.agent, 0, flags & 16 ? 2 : 1);
    kg_ice_add_local(s.agent, 0, 1, KG_CANDIDATE_HOST, &host, &host, 65535, NULL);
    kg_ice_start(s.agent, s.now_ms);
    while (in.at < in.end)
        step(&s, &in);
    kg_ice_agent_free(s.agent);
    return 0;
}
