#include <string.h>

#include "tests/sim/run.h"

#define REGATHER_MS 400

/* What this side tells of itself now. Trickle: only what is new, or all of it, at random. */
static void describe(struct sim_run *run, struct sim_peer *peer, struct sim_signal *signal)
{
    memcpy(signal->ufrag, peer->ufrag, sizeof signal->ufrag);
    memcpy(signal->pwd, peer->pwd, sizeof signal->pwd);
    signal->lite = peer->side->lite;
    signal->trickle = peer->side->trickle;
    signal->complete = peer->gathered || !peer->side->trickle;
    peer->told_count = 0;
    for (uint8_t s = 0; s < run->scenario.streams; s++) {
        signal->count[s] = (uint8_t)kg_ice_locals(peer->agent, s, signal->candidate[s], SIM_TOLD);
        peer->told_count = (uint8_t)(peer->told_count + signal->count[s]);
        for (unsigned i = 0; i < signal->count[s]; i++) {
            const struct kg_candidate *candidate = &signal->candidate[s][i];
            for (unsigned b = 0; b < run->layout.bases[peer->who] && candidate->type == KG_CANDIDATE_SRFLX;
                 b++)
                if (run->layout.base[peer->who][b].host == sim_host(sim_from_kg(&candidate->related)))
                    peer->told.srflx[b] |= (uint8_t)(1u << (s * 2 + candidate->component - 1));
        }
    }
}

static unsigned count_locals(const struct sim_run *run, const struct sim_peer *peer)
{
    struct kg_candidate candidate[SIM_TOLD];
    unsigned count = 0;
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        count += (unsigned)kg_ice_locals(peer->agent, s, candidate, SIM_TOLD);
    return count;
}

void sim_signal_send(struct sim_run *run, unsigned who, enum sim_signal_kind kind)
{
    struct sim_peer *peer = &run->peer[who];
    if (peer->gone ||
        !sim_expect(run, SIM_MODEL, run->signals < SIM_SIGNALS, "too many messages of signalling"))
        return;
    struct sim_signal *signal = &run->signal[run->signals];
    signal->kind = (uint8_t)kind;
    signal->from = (uint8_t)who;
    if (kind == SIM_INFO && !peer->gathered && count_locals(run, peer) <= peer->told_count)
        return; /* nothing new */
    if (kind != SIM_PLEASE_RESTART)
        describe(run, peer, signal);
    int64_t at_ms = run->world.now_ms + peer->side->signal_ms;
    if (at_ms < peer->signal_ms)
        at_ms = peer->signal_ms;
    peer->signal_ms = at_ms;
    sim_note(
        run, "%c signals %s: %u candidates%s", "AB" [who],
        (const char *const[]) { "offer", "answer", "INFO", "a wish to restart" }[kind], peer->told_count,
        signal->complete ? ", complete" : "");
    sim_world_schedule(&run->world, at_ms, SIM_DO_SIGNAL, (uint8_t)who, run->signals++);
}

/* kedge on the way: its relay port toward the receiver is one more candidate of the sender. */
static unsigned with_relay(struct sim_run *run, unsigned to, unsigned stream, const struct sim_signal *signal,
                           struct kg_candidate *out)
{
    unsigned count = signal->count[stream];
    memcpy(out, signal->candidate[stream], count * sizeof *out);
    for (uint8_t c = 1; c <= run->scenario.components && run->scenario.relay; c++) {
        out[count] = (struct kg_candidate){.type = KG_CANDIDATE_RELAY,
                                           .component = c,
                                           .priority = kg_candidate_priority(KG_CANDIDATE_RELAY, 0, c),
                                           .foundation = "kedge"};
        out[count++].addr = sim_to_kg(sim_relay_addr(&run->layout, to, stream, c));
    }
    return count;
}

static void apply(struct sim_run *run, unsigned to, const struct sim_signal *signal)
{
    struct sim_peer *peer = &run->peer[to];
    struct kg_candidate candidate[SIM_TOLD + 2];
    memcpy(peer->peer_pwd, signal->pwd, sizeof peer->peer_pwd);
    for (uint8_t s = 0; s < run->scenario.streams; s++) {
        struct kg_ice_description ice = {.ufrag = signal->ufrag,
                                         .pwd = signal->pwd,
                                         .lite = signal->lite,
                                         .trickle = signal->trickle,
                                         .ice2 = true,
                                         .end_of_candidates = signal->complete,
                                         .candidate = candidate};
        ice.candidate_count = (uint8_t)with_relay(run, to, s, signal, candidate);
        for (unsigned i = 0; i < ice.candidate_count; i++)
            sim_peer_allow(peer, sim_from_kg(&candidate[i].addr));
        int error = kg_ice_set_remote(peer->agent, s, &ice, sim_peer_clock(peer, run->world.now_ms));
        sim_expect(run, SIM_MODEL, error == 0, "%c: kg_ice_set_remote says %d", "AB"[to], error);
    }
}

static void arrive_at_relay(struct sim_run *run, const struct sim_signal *signal)
{
    for (uint8_t s = 0; s < run->scenario.streams && run->scenario.relay; s++) {
        struct kg_ice_description ice = {.ufrag = signal->ufrag,
                                         .pwd = signal->pwd,
                                         .lite = signal->lite,
                                         .candidate_count = signal->count[s],
                                         .candidate = signal->candidate[s]};
        sim_relay_describe(run, signal->from, &ice, s);
    }
}

static void answer_later(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    if (!peer->side->stun || peer->gathered)
        peer->gathered = true;
    if (peer->gathered || peer->side->trickle)
        sim_signal_send(run, who, SIM_ANSWER);
    if (!peer->gathered)
        sim_world_schedule(&run->world, run->world.now_ms + peer->side->gather_ms, SIM_DO_GATHERED,
                           (uint8_t)who, peer->side->trickle ? SIM_INFO : SIM_ANSWER);
    if (!peer->gathered && peer->side->trickle)
        sim_world_schedule(&run->world, run->world.now_ms + 20, SIM_DO_TRICKLE, (uint8_t)who, 0);
}

/* After a restart the STUN server is asked again. */
static void regather(struct sim_run *run, unsigned who, enum sim_signal_kind kind)
{
    if (kg_ice_is_gathering(run->peer[who].agent))
        sim_world_schedule(&run->world, run->world.now_ms + REGATHER_MS, SIM_DO_GATHERED, (uint8_t)who, kind);
    else
        sim_signal_send(run, who, kind);
}

void sim_signal_arrive(struct sim_run *run, unsigned index)
{
    const struct sim_signal *signal = &run->signal[index];
    unsigned to = !signal->from;
    struct sim_peer *peer = &run->peer[to];
    if (peer->gone)
        return;
    if (signal->kind == SIM_PLEASE_RESTART) {
        sim_signal_restart(run, to);
        return;
    }
    arrive_at_relay(run, signal);
    switch ((enum sim_signal_kind)signal->kind) {
    case SIM_OFFER:
        if (!peer->agent) {
            sim_peer_start(run, to);
            apply(run, to, signal);
            sim_peer_pump(run, to);
            answer_later(run, to);
            return;
        }
        peer->restarts++;
        sim_peer_new_credentials(peer);
        kg_ice_restart(peer->agent, peer->ufrag, peer->pwd, sim_peer_clock(peer, run->world.now_ms));
        apply(run, to, signal);
        sim_peer_pump(run, to);
        regather(run, to, SIM_ANSWER);
        return;
    case SIM_ANSWER:
        apply(run, to, signal);
        run->negotiating = false;
        run->remote_known_ms = run->happened_ms < 0 ? run->world.now_ms : run->remote_known_ms;
        break;
    default:
        apply(run, to, signal);
        break;
    }
    sim_peer_pump(run, to);
}

void sim_signal_restart(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    if (run->negotiating || peer->restarts++ > 5 || peer->gone)
        return;
    run->negotiating = true;
    sim_note(run, "%c restarts", "AB"[who]);
    sim_peer_new_credentials(peer);
    kg_ice_restart(peer->agent, peer->ufrag, peer->pwd, sim_peer_clock(peer, run->world.now_ms));
    sim_peer_pump(run, who);
    regather(run, who, SIM_OFFER);
}
