/* One ICE agent against a peer that a test plays, message by message; the agent is `a` of a world. */
#ifndef KG_TESTS_ICE_PLAY_H
#define KG_TESTS_ICE_PLAY_H

#include "ice_world.h"

#define US     "192.0.2.1:5000"
#define PEER   "198.51.100.1:6000"
#define OTHER  "198.51.100.1:6002"
#define THIRD  "203.0.113.66:7000"
#define OURS   "aaaaaaaaaaaaaaaaaaaaaa" /* pwd */
#define THEIRS "bbbbbbbbbbbbbbbbbbbbbb"

/* What the played peer puts into a request. */
struct ask {
    const char *user, *pwd;
    bool controlling, use_candidate, no_priority, no_integrity, unknown;
    uint64_t tie_breaker;
    uint8_t id;
};

struct play {
    struct world *w; /* only a is an agent */
    struct kg_ice_datagram sent[16];
    size_t count;
};

static inline void collect(struct play *p)
{
    p->count = 0;
    while (p->count < 16 && kg_ice_poll(p->w->a.agent, p->w->now_ms, &p->sent[p->count]))
        p->count++;
}

static inline void pass(struct play *p, int ms)
{
    p->w->now_ms += ms;
    collect(p);
}

static inline struct play start(struct kg_ice_settings settings)
{
    struct play p = {.w = world_new()};

    peer_new(p.w, &p.w->a, settings, US, 1);
    return p;
}

static inline void describe(struct play *p, const char *const *addr, uint8_t count)
{
    struct kg_candidate list[16] = {0};

    for (uint8_t i = 0; i < count; i++) {
        list[i] = (struct kg_candidate){.component = 1, .priority = 2130706431u - i, .addr = at(addr[i])};
        snprintf(list[i].foundation, sizeof list[i].foundation, "%u", i);
    }
    struct kg_ice_description d = {
        .ufrag = "bbbb", .pwd = THEIRS, .candidate = list, .candidate_count = count};
    assert_int_equal(kg_ice_set_remote(p->w->a.agent, 0, &d, p->w->now_ms), 0);
}

static inline size_t write_request(struct ask ask, uint8_t out[static KG_ICE_DATAGRAM_MAX])
{
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];
    const char *user = ask.user != NULL ? ask.user : "aaaa:bbbb";
    const char *pwd = ask.pwd != NULL ? ask.pwd : OURS;

    memset(id, ask.id + 1, sizeof id);
    kg_stun_begin(&w, out, KG_ICE_DATAGRAM_MAX, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    kg_stun_put(&w, KG_STUN_USERNAME, user, strlen(user));
    if (!ask.no_priority)
        kg_stun_put_u32(&w, KG_STUN_PRIORITY, 1862270975);
    kg_stun_put_u64(&w, ask.controlling ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED, ask.tie_breaker);
    if (ask.use_candidate)
        kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    if (ask.unknown)
        kg_stun_put_u32(&w, 0x7eee, 0);
    if (!ask.no_integrity)
        kg_stun_put_integrity(&w, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

/* The agent hears the request and says all it wants to. True: it was taken. */
static inline bool hear(struct play *p, const char *source, struct ask ask)
{
    uint8_t data[KG_ICE_DATAGRAM_MAX];
    size_t len = write_request(ask, data);
    struct kg_addr us = at(US), from = at(source);

    bool taken = kg_ice_receive(p->w->a.agent, &us, &from, data, len, p->w->now_ms);
    collect(p);
    return taken;
}

static inline void read_sent(const struct play *p, size_t i, struct kg_stun_message *m)
{
    assert_true(i < p->count);
    assert_int_equal(kg_stun_parse(p->sent[i].data, p->sent[i].len, m), KG_STUN_OK);
}

/* The only datagram sent now is a check to `to`. */
static inline void assert_check(const struct play *p, size_t i, const char *to, struct kg_stun_message *m)
{
    char text[KG_ADDR_STR];

    read_sent(p, i, m);
    assert_int_equal(m->class, KG_STUN_REQUEST);
    assert_string_equal(kg_addr_format(&p->sent[i].to, text), to);
}

static inline void assert_reply(const struct play *p, size_t i, const char *to, int code)
{
    struct kg_stun_message m;
    struct kg_addr mapped;
    char text[KG_ADDR_STR];
    int got = 0;

    read_sent(p, i, &m);
    assert_string_equal(kg_addr_format(&p->sent[i].to, text), to);
    assert_int_equal(m.class, code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR);
    assert_int_equal(kg_stun_check_integrity(&m, OURS, strlen(OURS)), KG_STUN_INTEGRITY_RIGHT);
    assert_true(m.has_fingerprint);
    if (code == 0) {
        assert_true(kg_stun_get_address(&m, KG_STUN_XOR_MAPPED_ADDRESS, &mapped));
        assert_string_equal(kg_addr_format(&mapped, text), to);
        return;
    }
    assert_true(kg_stun_get_error(&m, &got, NULL, NULL));
    assert_int_equal(got, code);
}

/* The peer answers the i-th datagram sent, from `source`, having seen us at `mapped`. code 0: success. */
static inline bool answer_as(struct play *p, size_t i, const char *source, const char *mapped, int code,
                             const char *pwd)
{
    struct kg_stun_message m;
    struct kg_stun_writer w;
    uint8_t data[KG_ICE_DATAGRAM_MAX];
    struct kg_addr us = at(US), from = at(source), seen = at(mapped);

    read_sent(p, i, &m);
    kg_stun_begin(&w, data, sizeof data, code == 0 ? KG_STUN_SUCCESS : KG_STUN_ERROR, KG_STUN_BINDING, m.id);
    if (code == 0)
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &seen);
    else
        kg_stun_put_error(&w, code, "no");
    if (pwd != NULL)
        kg_stun_put_integrity(&w, pwd, strlen(pwd));
    kg_stun_put_fingerprint(&w);
    bool taken = kg_ice_receive(p->w->a.agent, &us, &from, data, kg_stun_end(&w), p->w->now_ms);
    collect(p);
    return taken;
}

static inline bool answer(struct play *p, size_t i)
{
    char text[KG_ADDR_STR];

    return answer_as(p, i, kg_addr_format(&p->sent[i].to, text), US, 0, THEIRS);
}

static inline size_t pairs(const struct play *p, struct kg_ice_pair *out)
{
    return kg_ice_pairs(p->w->a.agent, out, KG_ICE_PAIRS_MAX);
}

static inline enum kg_pair_state state_of(const struct play *p, const char *remote)
{
    struct kg_ice_pair list[KG_ICE_PAIRS_MAX];
    struct kg_addr addr = at(remote);

    for (size_t i = 0, n = pairs(p, list); i < n; i++)
        if (kg_addr_equal(&list[i].remote.addr, &addr))
            return (enum kg_pair_state)list[i].state;
    return (enum kg_pair_state)99;
}

static inline void end(struct play *p)
{
    world_free(p->w);
}

#endif
