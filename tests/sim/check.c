#include "tests/sim/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/run.h"

#define TA_MS          50    /* RFC 8445 14.2 */
#define CONSENT_MS     30000 /* RFC 7675 5.1 */
#define CONSENT_SLACK  1000
#define HEARD_MS       1000
#define PROMPT_MS      1000
#define MEDIA_FRESH_MS 4000 /* at the end media must have come within */

static const char *const texts[SIM_PROPERTIES] = {
    [SIM_TERMINATES] = "ends in completed or failed in bounded time, never spins",
    [SIM_AGREES] = "both sides agree on each selected pair",
    [SIM_WORKS] = "never selects a pair that cannot work",
    [SIM_BEST] = "reaches the best path there is",
    [SIM_FAILS_RIGHTLY] = "fails only where no path exists",
    [SIM_PACED] = "no check without pacing over the whole agent",
    [SIM_KNOWN_PLACES] = "nothing to or from places that are neither candidates nor proven",
    [SIM_CONSENT] = "no media 30 s after the last proof",
    [SIM_MEDIA] = "media arrives both ways on the selected pairs",
    [SIM_ROLES] = "one side controls and one is controlled",
    [SIM_EVENTS] = "what changes is told",
    [SIM_RECOVERS] = "media is back after a change of network",
    [SIM_MODEL] = "the model itself holds together",
};

const char *sim_property_text(enum sim_property property)
{
    return texts[property];
}

bool sim_expect(struct sim_run *run, enum sim_property property, bool right, const char *format, ...)
{
    run->checks->looked[property]++;
    if (right)
        return true;
    run->checks->failed[property]++;
    if (run->failure.is && !run->verbose)
        return false;
    char text[sizeof run->failure.text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim_note(run, "BROKEN: %s: %s", texts[property], text);
    if (!run->failure.is) {
        run->failure.is = true;
        run->failure.property = property;
        memcpy(run->failure.text, text, sizeof text);
    }
    return false;
}

static bool is_new_transaction(struct sim_peer *peer, const uint8_t *id)
{
    uint64_t name;
    memcpy(&name, id, sizeof name);
    for (unsigned i = peer->tids; i > 0 && i + SIM_TIDS > peer->tids; i--)
        if (peer->tid[(i - 1) % SIM_TIDS] == name)
            return false;
    peer->tid[peer->tids++ % SIM_TIDS] = name;
    return true;
}

void sim_check_sent(struct sim_run *run, unsigned who, const void *what)
{
    const struct kg_ice_datagram *datagram = what;
    struct sim_peer *peer = &run->peer[who];
    char text[KG_ADDR_STR];
    sim_addr to = sim_from_kg(&datagram->to);
    bool known = false;
    for (unsigned i = 0; i < peer->alloweds && !known; i++)
        known = peer->allowed[i] == to;
    sim_expect(run, SIM_KNOWN_PLACES, known, "%c sends to %s", "AB"[who],
               known ? "" : kg_addr_format(&datagram->to, text));
    bool request = datagram->data[0] == 0 && datagram->data[1] == 1;
    if (run->verbose) {
        char from[KG_ADDR_STR];
        sim_note(run, "%c sends %s %02x%02x%02x%02x from %s to %s, %u bytes", "AB"[who],
                 request                                              ? "request"
                 : (datagram->data[0] == 1 && datagram->data[1] == 1) ? "success"
                                                                      : "error or other",
                 datagram->data[8], datagram->data[9], datagram->data[10], datagram->data[11],
                 kg_addr_format(&datagram->from, from), kg_addr_format(&datagram->to, text),
                 (unsigned)datagram->len);
    }
    if (!request)
        return;
    int64_t clock_ms = sim_peer_clock(peer, run->world.now_ms);
    peer->requests++;
    bool again = !is_new_transaction(peer, datagram->data + 8);
    if (peer->last_request != INT64_MIN && !(again && !peer->side->hasty))
        sim_expect(run, SIM_PACED, clock_ms - peer->last_request >= TA_MS,
                   "%c sends a check %d ms after another", "AB"[who], (int)(clock_ms - peer->last_request));
    if (!again || peer->side->hasty)
        peer->last_request = clock_ms;
}

/* Where a datagram of this end would arrive: the other side's socket or the relay's port. */
static bool would_arrive(struct sim_run *run, unsigned who, uint8_t stream, uint8_t component,
                         const struct sim_end *end, sim_addr *seen, sim_addr *bound)
{
    uint8_t s = 0, c = 0;
    *seen = end->base;
    *bound = end->remote;
    int iface = SIM_NONE;
    for (unsigned i = 0; i < run->layout.bases[who]; i++)
        if (run->layout.base[who][i].host == sim_host(end->base) && run->peer[who].told.exists[i])
            iface = sim_net_probe(&run->world.net, run->layout.base[who][i].iface, seen, bound, true,
                                  run->world.now_ms, false);
    if (iface == SIM_NONE)
        return false;
    switch (run->world.net.iface[iface].owner) {
    case SIM_RELAY:
        return run->scenario.relay && *bound == sim_relay_addr(&run->layout, who, stream, component);
    case SIM_A:
    case SIM_B:
        return run->world.net.iface[iface].owner == !who && sim_peer_socket(run, !who, *bound, &s, &c) &&
               s == stream && c == component;
    default:
        return false;
    }
}

void sim_check_selected(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    char local[KG_ADDR_STR], remote[KG_ADDR_STR];
    struct kg_ice_pair pair;
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++) {
            struct sim_end *end = &peer->end[s][c - 1];
            bool told = peer->tell_selected[s][c - 1];
            peer->tell_selected[s][c - 1] = false;
            if (!kg_ice_selected(peer->agent, s, c, &pair)) {
                sim_expect(run, SIM_EVENTS, !end->has_selected || told,
                           "%c lost the pair of %u.%u and did not tell it", "AB"[who], s, c);
                end->has_selected = false;
                continue;
            }
            sim_addr to = sim_from_kg(&pair.remote.addr);
            sim_addr base =
                sim_from_kg(kg_addr_is_set(&pair.local.related) ? &pair.local.related : &pair.local.addr);
            bool same = end->has_selected && end->remote == to && end->base == base;
            end->local = sim_from_kg(&pair.local.addr);
            if (same)
                continue;
            sim_expect(run, SIM_EVENTS, told, "%c selected another pair for %u.%u and did not tell it",
                       "AB"[who], s, c);
            end->has_selected = true;
            end->base = base;
            end->remote = to;
            sim_note(run, "%c selects for %u.%u: %s (%s) to %s (%s)%s", "AB"[who], s, c,
                     sim_addr_text(end->local, local), kg_candidate_type_name(pair.local.type),
                     sim_addr_text(to, remote), kg_candidate_type_name(pair.remote.type),
                     pair.nominated ? ", nominated" : "");
            sim_addr seen, bound;
            if (run->happened_ms < 0)
                sim_expect(run, SIM_WORKS, would_arrive(run, who, s, c, end, &seen, &bound),
                           "%c selects %s to %s, and nothing can arrive there", "AB"[who],
                           sim_addr_text(base, local), sim_addr_text(to, remote));
        }
}

void sim_check_media(struct sim_run *run, unsigned who, uint8_t stream, uint8_t component)
{
    const struct sim_peer *peer = &run->peer[who];
    if (stream == 0 && component == 1 && !peer->side->lite)
        sim_expect(run, SIM_CONSENT, run->world.now_ms - peer->proven_ms <= CONSENT_MS + CONSENT_SLACK,
                   "%c sends media %d ms after the peer's last answer", "AB"[who],
                   (int)(run->world.now_ms - peer->proven_ms));
}

bool sim_is_settled(const struct sim_run *run)
{
    return run->peer[0].settled_ms >= 0 && run->peer[1].settled_ms >= 0;
}

/* ---- once it is over ---- */
static bool agree(const struct sim_run *run, uint8_t s, uint8_t c)
{
    const struct sim_end *a = &run->peer[0].end[s][c - 1], *b = &run->peer[1].end[s][c - 1];
    if (!a->has_selected || !b->has_selected)
        return false;
    /* Through the relay each side sees the relay's port toward it. */
    bool relayed = run->scenario.relay && a->remote == sim_relay_addr(&run->layout, 0, s, c);
    if (relayed != (run->scenario.relay && b->remote == sim_relay_addr(&run->layout, 1, s, c)))
        return false;
    return relayed || (a->local == b->remote && b->local == a->remote);
}

bool sim_agree(const struct sim_run *run)
{
    bool aggressive = run->peer[0].side->aggressive || run->peer[1].side->aggressive, all = true;
    int64_t since_ms = run->world.now_ms - HEARD_MS;
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++)
            all &= aggressive ? run->peer[0].end[s][c - 1].last_in_ms > since_ms &&
                                    run->peer[1].end[s][c - 1].last_in_ms > since_ms
                              : agree(run, s, c);
    return all;
}

static void check_agreement(struct sim_run *run, uint8_t s, uint8_t c)
{
    const struct sim_end *a = &run->peer[0].end[s][c - 1], *b = &run->peer[1].end[s][c - 1];
    char text[4][KG_ADDR_STR];
    sim_expect(run, SIM_AGREES, agree(run, s, c), "%u.%u: A %s - %s, B %s - %s", s, c,
               sim_addr_text(a->local, text[0]), sim_addr_text(a->remote, text[1]),
               sim_addr_text(b->local, text[2]), sim_addr_text(b->remote, text[3]));
}

static uint8_t type_told(const struct sim_run *run, unsigned who, uint8_t stream, sim_addr addr,
                         unsigned *base)
{
    (void)base;
    for (unsigned i = 0; i < run->signals; i++) {
        const struct sim_signal *signal = &run->signal[i];
        if (signal->from != who || signal->kind == SIM_PLEASE_RESTART)
            continue;
        for (unsigned k = 0; k < signal->count[stream]; k++)
            if (sim_from_kg(&signal->candidate[stream][k].addr) == addr)
                return signal->candidate[stream][k].type;
    }
    return KG_CANDIDATE_PRFLX;
}

static unsigned base_index(const struct sim_run *run, unsigned who, sim_addr base)
{
    for (unsigned i = 0; i < run->layout.bases[who]; i++)
        if (run->layout.base[who][i].host == sim_host(base))
            return i;
    return 0;
}

/* Priority of the path that was selected, by where packets really go. */
static uint64_t selected_priority(struct sim_run *run, const struct sim_ends *ends, uint8_t s, uint8_t c)
{
    const struct sim_end *a = &run->peer[0].end[s][c - 1];
    sim_addr seen, bound;
    if (!would_arrive(run, 0, s, c, a, &seen, &bound) || run->path == SIM_PATH_RELAY)
        return 0;
    uint8_t type[2] = {type_told(run, 0, s, seen, NULL), type_told(run, 1, s, a->remote, NULL)};
    uint8_t base[2] = {(uint8_t)base_index(run, 0, a->base), (uint8_t)base_index(run, 1, bound)};
    return sim_path_priority(ends, type, base, c);
}

static void check_component(struct sim_run *run, const struct sim_ends *ends, uint8_t s, uint8_t c)
{
    int64_t now_ms = run->world.now_ms;
    /* The aggressive peer is ours with USE-CANDIDATE added: unlike a real one it does not take the best of
     * what it so nominated, so that only media tells whether it is understood. */
    bool aggressive = run->peer[0].side->aggressive || run->peer[1].side->aggressive;
    /* On bad lines each may have found the other elsewhere, and both ways work: main.c has the limit. */
    if (run->happened_ms >= 0 && !run->scenario.lossless)
        run->missed |= !aggressive && !agree(run, s, c);
    else if (!aggressive)
        check_agreement(run, s, c);
    for (unsigned who = 0; who < 2; who++) {
        struct sim_end *end = &run->peer[who].end[s][c - 1];
        sim_addr seen, bound;
        sim_expect(run, SIM_WORKS, end->has_selected && would_arrive(run, who, s, c, end, &seen, &bound),
                   "what %c sends for %u.%u arrives nowhere", "AB"[who], s, c);
        sim_expect(run, run->happened_ms >= 0 ? SIM_RECOVERS : SIM_MEDIA,
                   end->media_in > 0 && now_ms - end->last_in_ms <= MEDIA_FRESH_MS,
                   "%c hears nothing on %u.%u (heard %u, refused %u, last %d ms ago)", "AB"[who], s, c,
                   end -> media_in, end -> media_refused, (int)(now_ms - end->last_in_ms));
        if (run->happened_ms >= 0 && end->longest_gap_ms > run->gap_ms)
            run->gap_ms = end->longest_gap_ms;
    }
    run->path = run->peer[0].end[s][c - 1].remote == sim_relay_addr(&run->layout, 0, s, c) ? SIM_PATH_RELAY
                                                                                           : SIM_PATH_DIRECT;
    struct sim_best best = sim_oracle(ends, s, c);
    if (run->happened_ms >= 0 || !run->scenario.lossless || aggressive)
        return;
    /* Who nominates before the other side has the answer, or long before it comes, cannot know better. */
    bool prompt = run->peer[0].side->controlling != run->peer[1].side->controlling &&
                  run->peer[0].side->signal_ms <= PROMPT_MS && run->peer[1].side->signal_ms <= PROMPT_MS;
    bool right = run->path == best.path;
    if (prompt)
        sim_expect(run, SIM_BEST, right, "%u.%u goes %s, could go %s", s, c, sim_path_name(run->path),
                   sim_path_name(best.path));
    if (right && best.path == SIM_PATH_DIRECT) {
        uint64_t got = selected_priority(run, ends, s, c);
        right = got >= best.priority;
        if (!ends->coarse)
            sim_expect(run, SIM_BEST, right, "%u.%u is on a pair of priority %llx, best of %u is %llx", s, c,
                       (unsigned long long)got, best.paths, (unsigned long long)best.priority);
    }
    run->worse |= !right;
}

static void check_vanished(struct sim_run *run)
{
    unsigned left = !run->scenario.subject;
    const struct sim_peer *peer = &run->peer[left];
    if (peer->side->lite)
        return;
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 0; c < run->scenario.components; c++)
            sim_expect(run, SIM_CONSENT, !peer->end[s][c].has_selected,
                       "%c still sends to a peer that is gone for %d ms", "AB"[left],
                       (int)(run->world.now_ms - run->happened_ms));
    sim_expect(run, SIM_CONSENT, peer->state == KG_ICE_DISCONNECTED || peer->state == KG_ICE_FAILED,
               "%c is %s though the peer is gone", "AB"[left], kg_ice_state_name(peer->state));
}

static void print_pairs(struct sim_run *run)
{
    static struct kg_ice_pair pair[KG_ICE_PAIRS_MAX];
    char local[KG_ADDR_STR], remote[KG_ADDR_STR];
    for (unsigned who = 0; who < 2; who++) {
        if (!run->peer[who].agent)
            continue;
        sim_note(run, "%c is %s, %s", "AB"[who], kg_ice_state_name(kg_ice_state(run->peer[who].agent)),
                 kg_ice_is_controlling(run->peer[who].agent) ? "controlling" : "controlled");
        size_t count = kg_ice_pairs(run->peer[who].agent, pair, KG_ICE_PAIRS_MAX);
        for (size_t i = 0; i < count; i++)
            sim_note(run, "  %u.%u %s to %s (%s-%s): %s%s%s%s, %u sent, %u answered %s", pair[i].stream,
                     pair[i].component, kg_addr_format(&pair[i].local.addr, local),
                     kg_addr_format(&pair[i].remote.addr, remote), kg_candidate_type_name(pair[i].local.type),
                     kg_candidate_type_name(pair[i].remote.type), kg_pair_state_name(pair[i].state),
                     pair[i].valid ? " valid" : "", pair[i].nominated ? " nominated" : "",
                     pair[i].selected ? " selected" : "", pair[i].requests, pair[i].responses,
                     pair[i].reason ? pair[i].reason : "");
    }
}

void sim_check_end(struct sim_run *run)
{
    if (run->verbose)
        print_pairs(run);
    const struct sim_peer *a = &run->peer[0], *b = &run->peer[1];
    struct sim_ends ends = {.net = &run->world.net,
                            .layout = &run->layout,
                            .told = {a->told, b->told},
                            .relay = run->scenario.relay,
                            .coarse = run->scenario.number >= SIM_MATRIX,
                            .controlling = a->agent && kg_ice_is_controlling(a->agent) ? 0 : 1};
    sim_expect(run, SIM_MODEL, !run->world.overflow, "a table of the simulation was too small");
    if (run->happened_ms >= 0 && run->scenario.story == SIM_VANISH) {
        check_vanished(run);
        return;
    }
    /* Possible for all: as good as for the component that has it worst. */
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++) {
            struct sim_best best = sim_oracle(&ends, s, c);
            if ((s == 0 && c == 1) || best.path < run->best.path)
                run->best = best;
        }
    bool lite = (a->side->lite && a->state == KG_ICE_CHECKING && sim_peer_gave_up(b)) ||
                (b->side->lite && b->state == KG_ICE_CHECKING && sim_peer_gave_up(a)); /* it cannot know */
    bool dead = run->happened_ms >= 0 && run->best.path == SIM_PATH_NONE;
    if (!dead && !lite)
        sim_expect(run, SIM_TERMINATES, sim_is_settled(run), "after %d ms A is %s and B is %s",
                   (int)run->world.now_ms, kg_ice_state_name(a->state),
                   b->agent ? kg_ice_state_name(b->state) : "not there");
    if (!a->agent || !b->agent)
        return;
    if (a->state != KG_ICE_COMPLETED || b->state != KG_ICE_COMPLETED) {
        /* With a third of all packets lost, now and then all requests of the only pair are: main.c has the
         * limit. */
        run->missed = !run->scenario.lossless && run->best.path != SIM_PATH_NONE;
        if (run->missed)
            return;
        sim_expect(run, SIM_AGREES, (sim_peer_gave_up(a) && sim_peer_gave_up(b)) || dead || lite,
                   "A is %s and B is %s", kg_ice_state_name(a->state), kg_ice_state_name(b->state));
        sim_expect(run, run->happened_ms >= 0 ? SIM_RECOVERS : SIM_FAILS_RIGHTLY,
                   run->best.path == SIM_PATH_NONE, "A is %s and B is %s, could go %s",
                   kg_ice_state_name(a->state), kg_ice_state_name(b->state), sim_path_name(run->best.path));
        return;
    }
    sim_expect(run, SIM_ROLES, kg_ice_is_controlling(a->agent) != kg_ice_is_controlling(b->agent),
               "both sides think alike of their roles");
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++)
            check_component(run, &ends, s, c);
}
