#include "tests/sim/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS    1800  /* after both are done */
#define LIMIT_MS     90000 /* for both to be done (patience of RFC 8863 is 39.5 s) */
#define MEDIA_MS     100
#define STRANGER_MS  170
#define MOVING_MS    100   /* without any network */
#define RESTARTED_MS 45000 /* consent may have been lost to bad lines just before the end */
#define AGREED_MS    45000 /* on bad lines the last answers may take all their retransmissions */
#define RETRY_MS     300   /* of an offer that had to wait */
#define WAITS_MAX    10    /* for what a STUN server says after a restart */
#define SETTLED_MS   6000  /* so that media has had time */

/* How long is watched after the story's event. */
static const int32_t after_ms[SIM_STORIES] = {
    [SIM_CALL] = 0,     [SIM_LONG] = 30000,    [SIM_VANISH] = 42000,    [SIM_REBIND] = 55000,
    [SIM_MOVE] = 15000, [SIM_RESTART] = 12000, [SIM_DEAD_PATH] = 70000,
};

void sim_note(const struct sim_run *run, const char *format, ...)
{
    if (!run->verbose)
        return;
    va_list args;
    va_start(args, format);
    printf("%8d ", (int)run->world.now_ms);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void begin(struct sim_run *run, const struct sim_scenario *scenario)
{
    run->scenario = *scenario;
    run->failure.is = run->missed = run->worse = run->over = run->negotiating = false;
    run->remote_known_ms = run->happened_ms = -1;
    run->gap_ms = 0;
    run->signals = 0;
    run->overheard.len = 0;
    run->path = SIM_PATH_NONE;
    run->random.state = sim_mix(scenario->number + 99);
    sim_world_init(&run->world, scenario->number);
    for (int i = 0; i < 2; i++)
        run->world.line[i] = scenario->side[i].line;
    for (int i = 2; i < SIM_OWNERS; i++)
        run->world.line[i] = (struct sim_line){.delay_ms = 10};
    sim_scenario_build(scenario, &run->world.net, &run->layout);
    if (scenario->nat_lies && run->layout.box[0] != SIM_NONE)
        run->world.net.box[run->layout.box[0]].nat.lies = true;
    if (scenario->nat_eats && run->layout.box[0] != SIM_NONE)
        run->world.net.box[run->layout.box[0]].nat.set.eats_media = true;
    for (uint8_t who = 0; who < 2; who++) {
        struct sim_peer *peer = &run->peer[who];
        memset(peer, 0, offsetof(struct sim_peer, tid));
        peer->who = who;
        peer->side = &run->scenario.side[who];
        peer->random.state = sim_mix(scenario->number * 2 + who);
        peer->wake_ms = INT64_MAX;
        peer->connected_ms = peer->settled_ms = -1;
        peer->last_request = INT64_MIN;
    }
    sim_relay_reset(run->relay, run);
    sim_world_schedule(&run->world, 0, SIM_DO_START, 0, 0);
    sim_world_schedule(&run->world, MEDIA_MS, SIM_DO_MEDIA, 0, 0);
    if (scenario->stranger)
        sim_world_schedule(&run->world, STRANGER_MS, SIM_DO_STRANGER, 0, 0);
}

/* ---- the story ---- */
static void for_boxes(struct sim_run *run, unsigned who, bool flush)
{
    int boxes[2 + SIM_BASES], count = 0;
    boxes[count++] = run->layout.box[who];
    boxes[count++] = run->layout.carrier[who];
    for (unsigned i = 0; i < run->layout.bases[who]; i++) {
        const struct sim_iface *iface = &run->world.net.iface[run->layout.base[who][i].iface];
        boxes[count++] = iface->firewall != SIM_NONE    ? iface->firewall
                         : iface->realm != SIM_INTERNET ? iface->realm - 1
                                                        : SIM_NONE;
    }
    for (int i = 0; i < count; i++) {
        if (boxes[i] == SIM_NONE)
            continue;
        struct sim_nat *nat = &run->world.net.box[boxes[i]].nat;
        if (flush) {
            sim_nat_flush(nat);
        } else if (nat->set.block == SIM_OPEN) {
            nat->set.block = SIM_ONLY_RELAY;
            nat->set.allowed = SIM_RELAY_HOST;
        }
    }
}

static void leave_networks(struct sim_run *run, unsigned who, bool tell)
{
    struct sim_peer *peer = &run->peer[who];
    for (unsigned i = 0; i < run->layout.bases[who]; i++) {
        run->world.net.iface[run->layout.base[who][i].iface].up = false;
        peer->told.exists[i] = false;
        for (uint8_t s = 0; s < run->scenario.streams && tell; s++)
            for (uint8_t c = 1; c <= run->scenario.components; c++) {
                struct kg_addr base =
                    sim_to_kg(sim_addr_make(run->layout.base[who][i].host, sim_socket_port(who, s, c)));
                kg_ice_remove_local(peer->agent, &base, sim_peer_clock(peer, run->world.now_ms));
            }
    }
    sim_peer_pump(run, who);
}

static void happen(struct sim_run *run)
{
    unsigned who = run->scenario.subject;
    run->happened_ms = run->world.now_ms;
    sim_note(run, "now: %s (%c)", sim_story_name(run->scenario.story), "AB"[who]);
    switch ((enum sim_story)run->scenario.story) {
    case SIM_CALL:
    case SIM_LONG:
    case SIM_STORIES:
        break;
    case SIM_VANISH:
        leave_networks(run, who, false);
        run->peer[who].gone = true;
        run->peer[who].wake_ms = INT64_MAX;
        break;
    case SIM_REBIND:
        for_boxes(run, who, true);
        break;
    case SIM_MOVE:
        leave_networks(run, who, true);
        sim_world_schedule(&run->world, run->world.now_ms + MOVING_MS, SIM_DO_ARRIVE, (uint8_t)who, 0);
        break;
    case SIM_RESTART:
        sim_signal_restart(run, who);
        break;
    case SIM_DEAD_PATH:
        for_boxes(run, who, false);
        break;
    }
}

static void arrive_elsewhere(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    unsigned n = run->layout.bases[who]++;
    run->layout.base[who][n] = run->layout.elsewhere;
    run->world.net.iface[run->layout.elsewhere.iface].up = true;
    peer->told.exists[n] = true;
    sim_peer_add_base(run, peer, &run->layout.elsewhere);
    sim_peer_pump(run, who);
    sim_world_schedule(&run->world, run->world.now_ms, SIM_DO_RESTART, (uint8_t)who, 0);
}

static void gathered(struct sim_run *run, unsigned who, unsigned what)
{
    struct sim_peer *peer = &run->peer[who];
    if (peer->restarts > 0 && kg_ice_is_gathering(peer->agent) && peer->waits++ < WAITS_MAX) {
        sim_world_schedule(&run->world, run->world.now_ms + RETRY_MS, SIM_DO_GATHERED, (uint8_t)who,
                           (uint16_t)what);
        return;
    }
    peer->waits = 0;
    peer->gathered = true;
    sim_signal_send(run, who, (enum sim_signal_kind)what);
}

static void start(struct sim_run *run)
{
    struct sim_peer *peer = &run->peer[0];
    sim_peer_start(run, 0);
    sim_peer_pump(run, 0);
    peer->gathered = !peer->side->stun;
    if (peer->gathered || peer->side->trickle)
        sim_signal_send(run, 0, SIM_OFFER);
    if (!peer->gathered)
        sim_world_schedule(&run->world, peer->side->gather_ms, SIM_DO_GATHERED, 0,
                           peer->side->trickle ? SIM_INFO : SIM_OFFER);
    if (!peer->gathered && peer->side->trickle)
        sim_world_schedule(&run->world, 20, SIM_DO_TRICKLE, 0, 0);
}

static void script(struct sim_run *run, const struct sim_event *event)
{
    int64_t now_ms = run->world.now_ms;
    switch ((enum sim_script)event->code) {
    case SIM_DO_START:
        start(run);
        break;
    case SIM_DO_GATHERED:
        gathered(run, event->who, event->what);
        break;
    case SIM_DO_TRICKLE:
        sim_signal_send(run, event->who, SIM_INFO);
        if (!run->peer[event->who].gathered)
            sim_world_schedule(&run->world, now_ms + 20, SIM_DO_TRICKLE, event->who, 0);
        break;
    case SIM_DO_SIGNAL:
        sim_signal_arrive(run, event->what);
        break;
    case SIM_DO_MEDIA:
        sim_peer_media(run, 0);
        sim_peer_media(run, 1);
        sim_world_schedule(&run->world,
                           now_ms +
                               (run->happened_ms >= 0 && now_ms > run->happened_ms + 4000 ? 4 : 1) * MEDIA_MS,
                           SIM_DO_MEDIA, 0, 0);
        break;
    case SIM_DO_STRANGER:
        sim_stranger_act(run);
        sim_world_schedule(&run->world, now_ms + STRANGER_MS, SIM_DO_STRANGER, 0, 0);
        break;
    case SIM_DO_RESTART:
        if (run->negotiating)
            sim_world_schedule(&run->world, now_ms + RETRY_MS, SIM_DO_RESTART, event->who, 0);
        else
            sim_signal_restart(run, event->who);
        break;
    case SIM_DO_ARRIVE:
        arrive_elsewhere(run, event->who);
        break;
    }
}

/* What the application around an agent does when it is cut off: A offers a restart, B asks A for one. */
static void react(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    bool cut_off = peer->cut_off;
    peer->cut_off = false;
    if (!cut_off || !peer->was_completed || run->scenario.story == SIM_VANISH || peer->gone)
        return;
    if (who == 0)
        sim_signal_restart(run, 0);
    else
        sim_signal_send(run, 1, SIM_PLEASE_RESTART);
}

static void judge_time(struct sim_run *run)
{
    int64_t now_ms = run->world.now_ms, known_ms = run->remote_known_ms;
    if (run->happened_ms >= 0) {
        int64_t end_ms = run->happened_ms + after_ms[run->scenario.story];
        bool settled = (sim_is_settled(run) && (run->scenario.lossless || sim_agree(run)) &&
                        now_ms >= run->peer[0].settled_ms + SETTLED_MS &&
                        now_ms >= run->peer[1].settled_ms + SETTLED_MS) ||
                       run->scenario.story == SIM_VANISH;
        run->over = now_ms >= end_ms + (settled ? 0 : RESTARTED_MS);
        return;
    }
    bool lite_waits = (run->peer[0].side->lite && sim_peer_gave_up(&run->peer[1])) ||
                      (run->peer[1].side->lite && sim_peer_gave_up(&run->peer[0]));
    if (!sim_is_settled(run) && !lite_waits) {
        run->over = now_ms > LIMIT_MS + (known_ms > 0 ? known_ms : 15000);
        return;
    }
    int64_t settled_ms =
        run->peer[0].settled_ms > run->peer[1].settled_ms ? run->peer[0].settled_ms : run->peer[1].settled_ms;
    bool failed = sim_peer_gave_up(&run->peer[0]) || sim_peer_gave_up(&run->peer[1]);
    if (now_ms < settled_ms + SETTLE_MS ||
        (!run->scenario.lossless && !failed && !sim_agree(run) && now_ms < settled_ms + AGREED_MS))
        return;
    if (run->scenario.story == SIM_CALL || failed)
        run->over = true;
    else
        happen(run);
}

static void deliver(struct sim_run *run, const struct sim_packet *packet, int iface)
{
    uint8_t owner = run->world.net.iface[iface].owner;
    switch ((enum sim_owner)owner) {
    case SIM_A:
    case SIM_B:
        sim_peer_receive(run, owner, iface, packet);
        break;
    case SIM_RELAY:
        sim_relay_receive(run, packet, iface);
        sim_relay_pump(run);
        break;
    case SIM_STUN:
        sim_stun_answer(run, packet, iface);
        break;
    case SIM_STRANGER:
        sim_expect(run, SIM_KNOWN_PLACES, false, "a stranger was sent something");
        break;
    case SIM_OWNERS:
        break;
    }
}

void sim_run(struct sim_run *run, const struct sim_scenario *scenario, struct sim_checks *checks,
             bool verbose)
{
    run->checks = checks;
    run->verbose = verbose;
    begin(run, scenario);
    struct sim_world *world = &run->world;
    while (!run->over) {
        int64_t next_ms = sim_world_next(world);
        for (unsigned who = 0; who < 2; who++)
            if (run->peer[who].wake_ms < next_ms)
                next_ms = run->peer[who].wake_ms;
        if (sim_relay_next(run) < next_ms)
            next_ms = sim_relay_next(run);
        if (next_ms > world->now_ms)
            world->now_ms = next_ms;
        struct sim_event event;
        struct sim_packet *packet;
        int iface;
        while (sim_world_take(world, &event, &packet, &iface)) {
            if (event.kind == SIM_EV_SCRIPT)
                script(run, &event);
            else if (iface != SIM_NONE)
                deliver(run, packet, iface);
        }
        for (unsigned who = 0; who < 2; who++) {
            if (run->peer[who].wake_ms <= world->now_ms)
                sim_peer_pump(run, who);
            react(run, who);
        }
        if (sim_relay_next(run) <= world->now_ms)
            sim_relay_pump(run);
        judge_time(run);
    }
    sim_check_end(run);
    for (int i = 0; i < 2; i++)
        sim_peer_free(&run->peer[i]);
}
