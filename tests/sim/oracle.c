#include "tests/sim/oracle.h"

#include "ice/agent/candidate.h"

#define KNOWN_MAX  24
#define ROUNDS_MAX 8

/* An address that one socket may send to, and how it was learnt. */
struct known {
    sim_addr addr;
    uint8_t base; /* of the peer, which it leads to when it was signalled */
    uint8_t type;
    int8_t only; /* the one socket that learnt it; SIM_NONE: all */
};
struct side {
    uint8_t bases, count;
    sim_addr base[SIM_BASES];
    struct known known[KNOWN_MAX];
};
struct state {
    const struct sim_ends *ends;
    struct sim_net *net;
    unsigned stream, component;
    struct side side[2];
    struct sim_best best;
    bool changed;
};

const char *sim_path_name(enum sim_path path)
{
    static const char *const names[] = {"none", "relay", "direct"};
    return names[path];
}

sim_addr sim_relay_addr(const struct sim_layout *layout, unsigned side, unsigned stream, unsigned component)
{
    bool v4 = false;
    for (unsigned i = 0; i < layout->bases[side]; i++)
        v4 |= !(layout->base[side][i].host & SIM_V6);
    return sim_addr_make(v4 ? SIM_RELAY_HOST : SIM_V6 | SIM_RELAY_HOST,
                         sim_relay_port(side, stream, component));
}

uint64_t sim_path_priority(const struct sim_ends *ends, const uint8_t type[2], const uint8_t base[2],
                           unsigned component)
{
    uint32_t priority[2];
    for (int i = 0; i < 2; i++) {
        bool srflx = ends->coarse && type[i] == KG_CANDIDATE_PRFLX;
        priority[i] = kg_candidate_priority(srflx ? KG_CANDIDATE_SRFLX : type[i],
                                            ends->coarse ? 1 : ends->layout->base[i][base[i]].preference,
                                            (uint8_t)component);
    }
    return kg_pair_priority(priority[ends->controlling], priority[!ends->controlling]);
}

static int find_base(const struct side *side, sim_addr addr)
{
    for (int i = 0; i < side->bases; i++)
        if (side->base[i] == addr)
            return i;
    return SIM_NONE;
}

static void learn(struct state *state, struct side *side, struct known new)
{
    for (unsigned i = 0; i < side->count; i++)
        if (side->known[i].addr == new.addr &&
            (side->known[i].only == SIM_NONE || side->known[i].only == new.only))
            return;
    if (side->count == KNOWN_MAX)
        return;
    side->known[side->count++] = new;
    state->changed = true;
}

/* How `who` is seen by the other side at this address. */
static uint8_t type_seen(const struct state *state, unsigned who, sim_addr addr)
{
    const struct side *other = &state->side[!who];
    for (unsigned i = 0; i < other->count; i++)
        if (other->known[i].addr == addr && other->known[i].only == SIM_NONE)
            return other->known[i].type;
    return KG_CANDIDATE_PRFLX;
}

static void count_path(struct state *state, enum sim_path path, uint64_t priority)
{
    state->best.paths++;
    if (priority > state->best.priority)
        state->best.priority = priority;
    if (path > state->best.path)
        state->best.path = path;
}

/* A check from one socket to one address, and its answer. */
static void try_one(struct state *state, unsigned who, unsigned from, sim_addr to)
{
    struct side *mine = &state->side[who], *other = &state->side[!who];
    const struct sim_layout *layout = state->ends->layout;
    sim_addr seen = mine->base[from], bound = to;
    int iface = sim_net_probe(state->net, layout->base[who][from].iface, &seen, &bound, false, 0, true);
    int at = iface == SIM_NONE ? SIM_NONE : find_base(other, bound);
    if (at == SIM_NONE || layout->base[!who][at].iface != iface)
        return;
    learn(
        state, other,
        (struct known){.addr = seen, .base = (uint8_t)from, .type = KG_CANDIDATE_PRFLX, .only = (int8_t)at});
    sim_addr answer_from = bound, answer_to = seen;
    if (sim_net_probe(state->net, iface, &answer_from, &answer_to, false, 0, true) !=
            layout->base[who][from].iface ||
        answer_from != to || answer_to != mine->base[from])
        return;
    uint8_t type[2], base[2];
    type[who] = type_seen(state, who, seen);
    type[!who] = type_seen(state, !who, to);
    base[who] = (uint8_t)from;
    base[!who] = (uint8_t)at;
    count_path(state, SIM_PATH_DIRECT, sim_path_priority(state->ends, type, base, state->component));
}

static void gather(struct state *state, unsigned who, unsigned stream)
{
    const struct sim_ends *ends = state->ends;
    const struct sim_layout *layout = ends->layout;
    struct side *mine = &state->side[who];
    mine->bases = layout->bases[who];
    mine->count = 0;
    for (uint8_t i = 0; i < mine->bases; i++) {
        const struct sim_base *base = &layout->base[who][i];
        mine->base[i] = ends->told[who].exists[i]
                            ? sim_addr_make(base->host, sim_socket_port(who, stream, state->component))
                            : 0;
    }
}

static void tell(struct state *state, unsigned who)
{
    const struct sim_ends *ends = state->ends;
    for (uint8_t i = 0; i < state->side[who].bases; i++) {
        sim_addr host = state->side[who].base[i];
        if (!host)
            continue;
        learn(state, &state->side[!who],
              (struct known){.addr = host, .base = i, .type = KG_CANDIDATE_HOST, .only = SIM_NONE});
        if (!(ends->told[who].srflx[i] >> (state->stream * 2 + state->component - 1) & 1))
            continue;
        const struct sim_net *net = state->net;
        int server = sim_is_v6(host) ? ends->layout->stun6 : ends->layout->stun;
        sim_addr seen = host, to = sim_addr_make(net->iface[server].host, SIM_STUN_PORT);
        if (sim_net_probe(state->net, ends->layout->base[who][i].iface, &seen, &to, false, 0, true) == server)
            learn(state, &state->side[!who],
                  (struct known){.addr = seen, .base = i, .type = KG_CANDIDATE_SRFLX, .only = SIM_NONE});
    }
}

/* The best socket from which a side can reach the relay; SIM_NONE. */
static int reaches_relay(struct state *state, unsigned who, unsigned stream)
{
    for (int i = 0; i < state->side[who].bases; i++) {
        sim_addr seen = state->side[who].base[i];
        sim_addr to = sim_relay_addr(state->ends->layout, who, stream, state->component);
        if (seen && sim_is_v6(seen) == sim_is_v6(to) &&
            sim_net_probe(state->net, state->ends->layout->base[who][i].iface, &seen, &to, false, 0, true) !=
                SIM_NONE)
            return i;
    }
    return SIM_NONE;
}

struct sim_best sim_oracle(const struct sim_ends *ends, unsigned stream, unsigned component)
{
    static struct sim_net net;
    struct state state = {.ends = ends, .net = &net, .stream = stream, .component = component};
    sim_net_copy_fresh(&net, ends->net);
    for (unsigned who = 0; who < 2; who++)
        gather(&state, who, stream);
    for (unsigned who = 0; who < 2; who++)
        tell(&state, who);
    /* What a round sends opens filters for the next. */
    for (int round = 0; round < 2 || (round < ROUNDS_MAX && state.changed); round++) {
        state.changed = false;
        state.best = (struct sim_best){0}; /* a type may have been seen better by now */
        for (unsigned who = 0; who < 2; who++)
            for (unsigned from = 0; from < state.side[who].bases && !ends->told[who].lite; from++)
                for (unsigned i = 0; i < state.side[who].count; i++) {
                    const struct known *to = &state.side[who].known[i];
                    if (state.side[who].base[from] && (to->only == SIM_NONE || to->only == (int)from) &&
                        sim_is_v6(to->addr) == sim_is_v6(state.side[who].base[from]))
                        try_one(&state, who, from, to->addr);
                }
    }
    int a = reaches_relay(&state, 0, stream), b = reaches_relay(&state, 1, stream);
    /* A lite agent sends no checks: the relay never learns where it is. */
    if (ends->relay && !ends->told[0].lite && !ends->told[1].lite && a != SIM_NONE && b != SIM_NONE)
        count_path(&state, SIM_PATH_RELAY, 0);
    return state.best;
}
