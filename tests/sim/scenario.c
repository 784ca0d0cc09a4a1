#include "tests/sim/scenario.h"

#include <stdio.h>
#include <string.h>

/* Hosts of the Internet; those of sides are made from the side's number. */
#define STRANGER_HOST 0xCB007166u
#define SIDE_PUBLIC   0xC6336400u /* 198.51.100.n */
#define CARRIER_NET   0x64400000u /* 100.64.0.n */
#define HOME_NET      0xC0A80100u /* 192.168.1.n: the same in both homes */

static const char *const dependences[] = {"I", "A", "P"};
static const struct kind {
    const char *name;
    uint8_t place, mapping, filtering, carrier_mapping, carrier_filtering;
} kinds[SIM_KINDS] = {
    {"public", SIM_PUBLIC, 0, 0, 0, 0},         {"firewall", SIM_FIREWALL, 0, 2, 0, 0},
    {"EIM/EIF", SIM_NAT, 0, 0, 0, 0},           {"EIM/ADF", SIM_NAT, 0, 1, 0, 0},
    {"EIM/APDF", SIM_NAT, 0, 2, 0, 0},          {"ADM/EIF", SIM_NAT, 1, 0, 0, 0},
    {"ADM/ADF", SIM_NAT, 1, 1, 0, 0},           {"ADM/APDF", SIM_NAT, 1, 2, 0, 0},
    {"APDM/EIF", SIM_NAT, 2, 0, 0, 0},          {"APDM/ADF", SIM_NAT, 2, 1, 0, 0},
    {"APDM/APDF", SIM_NAT, 2, 2, 0, 0},         {"cgn cone", SIM_CARRIER, 0, 2, 0, 0},
    {"cgn port", SIM_CARRIER, 0, 2, 0, 2},      {"cgn symm", SIM_CARRIER, 0, 2, 2, 2},
    {"relay only", SIM_RELAY_ONLY, 0, 2, 0, 0}, {"no UDP", SIM_UDP_DEAD, 0, 2, 0, 0},
};
static const char *const stories[] = {"call",  "long call", "one vanishes", "NAT rebinds",
                                      "moves", "restart",   "path dies"};

const char *sim_kind_name(unsigned kind)
{
    return kind < SIM_KINDS ? kinds[kind].name : "mixed";
}

const char *sim_story_name(enum sim_story story)
{
    return stories[story];
}

uint16_t sim_socket_port(unsigned side, unsigned stream, unsigned component)
{
    return (uint16_t)(20000 + side * 1000 + stream * 2 + component - 1);
}

uint16_t sim_relay_port(unsigned side, unsigned stream, unsigned component)
{
    return (uint16_t)(30000 + side * 100 + stream * 2 + component - 1);
}

static void set_kind(struct sim_side *side, unsigned index)
{
    const struct kind *kind = &kinds[index];
    side->place = kind->place;
    side->mapping = kind->mapping;
    side->filtering = kind->filtering;
    side->carrier_mapping = kind->carrier_mapping;
    side->carrier_filtering = kind->carrier_filtering;
}

unsigned sim_scenario_kind(const struct sim_side *side)
{
    for (unsigned i = 0; i < SIM_KINDS && !side->second && !side->ipv6 && side->ipv4; i++)
        if (kinds[i].place == side->place &&
            (side->place == SIM_PUBLIC ||
             (kinds[i].mapping == side->mapping && kinds[i].filtering == side->filtering)) &&
            (side->place != SIM_CARRIER || (kinds[i].carrier_mapping == side->carrier_mapping &&
                                            kinds[i].carrier_filtering == side->carrier_filtering)))
            return i;
    return SIM_KINDS;
}

/* Every pair of places; the lowest three bits of what is left: hairpin, port preservation, the relay. */
static void make_matrix(struct sim_scenario *scenario, uint64_t number)
{
    set_kind(&scenario->side[0], (unsigned)(number % SIM_KINDS));
    number /= SIM_KINDS;
    set_kind(&scenario->side[1], (unsigned)(number % SIM_KINDS));
    number /= SIM_KINDS;
    for (int i = 0; i < 2; i++) {
        scenario->side[i].stun = true;
        scenario->side[i].hairpin = scenario->side[i].carrier_hairpin = number & 1;
        scenario->side[i].preserve_ports = number >> 1 & 1;
    }
    scenario->relay = !(number >> 2 & 1);
    if ((number & 3) == 3 && scenario->side[0].place == SIM_CARRIER && scenario->side[1].place == SIM_CARRIER)
        scenario->together = SIM_SAME_CARRIER;
    else if ((number & 3) == 3 && scenario->side[0].place == SIM_NAT && scenario->side[1].place == SIM_NAT)
        scenario->together = SIM_LAN_ISOLATED;
}

static void draw_line(struct sim_random *random, struct sim_line *line)
{
    line->loss = sim_chance(random, 70) ? (uint8_t)sim_below(random, 31) : 0;
    line->delay_ms = (uint16_t)(sim_chance(random, 40) ? sim_below(random, 401) : sim_below(random, 60));
    line->jitter_ms = (uint16_t)(sim_chance(random, 50) ? sim_below(random, 100) : 0);
    line->reorder = sim_chance(random, 30) ? (uint8_t)sim_below(random, 20) : 0;
    line->reorder_ms = (uint16_t)(20 + sim_below(random, 100));
    line->duplicate = sim_chance(random, 30) ? (uint8_t)sim_below(random, 20) : 0;
}

static void draw_side(struct sim_random *random, struct sim_side *side)
{
    set_kind(side, sim_below(random, SIM_KINDS));
    if (side->place == SIM_CARRIER) {
        side->mapping = (uint8_t)sim_below(random, 3);
        side->filtering = (uint8_t)sim_below(random, 3);
        side->carrier_mapping = (uint8_t)sim_below(random, 3);
        side->carrier_filtering = (uint8_t)sim_below(random, 3);
    }
    side->hairpin = sim_chance(random, 50);
    side->carrier_hairpin = sim_chance(random, 50);
    side->preserve_ports = sim_chance(random, 50);
    side->inbound_refresh = sim_chance(random, 30);
    side->nat_timeout_ms = sim_chance(random, 20) ? 20000 : 120000;
    side->stun = sim_chance(random, 85);
    side->second = sim_chance(random, 15);
    side->ipv6 = sim_chance(random, 20);
    side->ipv6_open = sim_chance(random, 30);
    side->ipv4 = !side->ipv6 || sim_chance(random, 90);
    side->clock_offset_ms = (int32_t)sim_below(random, 2000000000);
    side->drift_ppm = (int32_t)sim_below(random, 1001) - 500;
    side->trickle = sim_chance(random, 30);
    side->gather_ms = (uint16_t)(50 + sim_below(random, 1200));
    side->signal_ms =
        (uint16_t)(sim_chance(random, 15) ? sim_below(random, 5000) : 5 + sim_below(random, 200));
}

static void draw(struct sim_scenario *scenario, struct sim_random *random)
{
    for (int i = 0; i < 2; i++)
        draw_side(random, &scenario->side[i]);
    scenario->lossless = sim_chance(random, 40);
    for (int i = 0; i < SIM_OWNERS && !scenario->lossless; i++)
        if (i < 2)
            draw_line(random, &scenario->side[i].line);
    if (sim_chance(random, 12))
        scenario->together = (uint8_t)(1 + sim_below(random, SIM_TOGETHERS - 1));
    if (sim_chance(random, 35))
        scenario->story = (uint8_t)(1 + sim_below(random, SIM_STORIES - 1));
    scenario->subject = (uint8_t)sim_below(random, 2);
    scenario->relay = sim_chance(random, 85);
    scenario->stranger = sim_chance(random, 15);
    scenario->streams = (uint8_t)(sim_chance(random, 80) ? 1 : 2 + sim_below(random, SIM_STREAMS - 1));
    scenario->components = sim_chance(random, 25) ? 2 : 1;
    unsigned variant = sim_below(random, 100), who = sim_below(random, 2);
    struct sim_side *side = &scenario->side[who];
    if (variant < 6 && scenario->together == SIM_APART) {
        /* A lite agent sits on a public address (RFC 8445 2.5), as a gateway does. */
        set_kind(side, 0);
        side->lite = true;
        side->second = side->trickle = side->stun = false;
        side->controlling = false;
        scenario->side[!who].controlling = true;
    } else if (variant < 16) {
        side->aggressive = true;
    } else if (variant < 26) {
        scenario->side[0].controlling = scenario->side[1].controlling = variant & 1;
    }
}

void sim_scenario_make(struct sim_scenario *scenario, uint64_t number)
{
    struct sim_random random = {.state = sim_mix(number)};
    memset(scenario, 0, sizeof *scenario);
    scenario->number = number;
    scenario->streams = scenario->components = 1;
    scenario->lossless = true;
    for (int i = 0; i < 2; i++)
        scenario->side[i] = (struct sim_side){
            .ipv4 = true, .nat_timeout_ms = 120000, .gather_ms = 300, .signal_ms = 50, .controlling = i == 0};
    for (int i = 0; i < 2; i++)
        scenario->side[i].line.delay_ms = (uint16_t)(5 + sim_below(&random, 40));
    if (number < SIM_MATRIX)
        make_matrix(scenario, number);
    else
        draw(scenario, &random);
}

/* ---- building ---- */
static struct sim_nat_settings router(const struct sim_scenario *scenario, unsigned who, uint64_t host)
{
    const struct sim_side *side = &scenario->side[who];
    return (struct sim_nat_settings){.mapping = side->mapping,
                                     .filtering = side->filtering,
                                     .translate = true,
                                     .hairpin = side->hairpin,
                                     .preserve_ports = side->preserve_ports,
                                     .inbound_refresh = side->inbound_refresh,
                                     .timeout_ms = side->nat_timeout_ms,
                                     .host = host,
                                     .allowed = SIM_RELAY_HOST,
                                     .seed = sim_hash(scenario->number, who, host, 1)};
}

static struct sim_nat_settings firewall(const struct sim_scenario *scenario, unsigned who)
{
    struct sim_nat_settings set = router(scenario, who, 0);
    set.mapping = SIM_INDEPENDENT;
    set.filtering = SIM_ADDRESS_PORT;
    set.translate = false;
    return set;
}

static void add_base(struct sim_layout *layout, unsigned who, int iface, const struct sim_net *net)
{
    unsigned n = layout->bases[who]++;
    layout->base[who][n] = (struct sim_base){
        .iface = (int8_t)iface, .preference = (uint16_t)(65535 - n), .host = net->iface[iface].host};
}

static uint8_t carrier_realm(const struct sim_scenario *scenario, struct sim_net *net,
                             struct sim_layout *layout, unsigned who)
{
    if (who == 1 && scenario->together == SIM_SAME_CARRIER && layout->carrier[0] != SIM_NONE) {
        layout->carrier[1] = layout->carrier[0];
    } else {
        const struct sim_side *side = &scenario->side[who];
        struct sim_nat_settings set = router(scenario, who, SIDE_PUBLIC + 10 + who);
        set.mapping = side->carrier_mapping;
        set.filtering = side->carrier_filtering;
        set.hairpin = side->carrier_hairpin;
        layout->carrier[who] = (int8_t)sim_net_add_box(net, &set, SIM_INTERNET);
    }
    return (uint8_t)(layout->carrier[who] + 1);
}

/* The realm behind a side's home router. */
static uint8_t home_realm(const struct sim_scenario *scenario, struct sim_net *net, struct sim_layout *layout,
                          unsigned who)
{
    const struct sim_side *side = &scenario->side[who];
    uint8_t outside = side->place == SIM_CARRIER ? carrier_realm(scenario, net, layout, who) : SIM_INTERNET;
    uint64_t host = (outside == SIM_INTERNET ? SIDE_PUBLIC : CARRIER_NET) + 20 + who;
    struct sim_nat_settings set = router(scenario, who, host);
    if (side->place == SIM_RELAY_ONLY)
        set.block = SIM_ONLY_RELAY;
    else if (side->place == SIM_UDP_DEAD)
        set.block = SIM_NO_UDP;
    layout->box[who] = (int8_t)sim_net_add_box(net, &set, outside);
    return (uint8_t)(layout->box[who] + 1);
}

static int add_host(struct sim_net *net, uint64_t host, unsigned realm, int firewall_box, unsigned who)
{
    return sim_net_add_iface(net, host, (uint8_t)realm, (int8_t)firewall_box, (uint8_t)who);
}

static void build_side(const struct sim_scenario *scenario, struct sim_net *net, struct sim_layout *layout,
                       unsigned who)
{
    const struct sim_side *side = &scenario->side[who];
    bool shares = who == 1 && (scenario->together == SIM_LAN || scenario->together == SIM_LAN_ISOLATED) &&
                  layout->box[0] != SIM_NONE;
    struct sim_nat_settings wall = firewall(scenario, who);
    if (side->ipv6) {
        int box = SIM_NONE;
        /* One home has one firewall also for IPv6. */
        if (!side->ipv6_open || side->place >= SIM_RELAY_ONLY) {
            wall.block = side->place == SIM_RELAY_ONLY ? SIM_ONLY_RELAY
                         : side->place == SIM_UDP_DEAD ? SIM_NO_UDP
                                                       : SIM_OPEN;
            wall.allowed = SIM_V6 | SIM_RELAY_HOST;
            box = sim_net_add_box(net, &wall, SIM_INTERNET);
        }
        add_base(layout, who, add_host(net, SIM_V6 | (SIDE_PUBLIC + 40 + who), SIM_INTERNET, box, who), net);
    }
    wall = firewall(scenario, who);
    if (side->ipv4) {
        int iface;
        if (side->place == SIM_PUBLIC)
            iface = add_host(net, SIDE_PUBLIC + 30 + who, SIM_INTERNET, SIM_NONE, who);
        else if (side->place == SIM_FIREWALL)
            iface = add_host(net, SIDE_PUBLIC + 30 + who, SIM_INTERNET,
                             sim_net_add_box(net, &wall, SIM_INTERNET), who);
        else if (shares)
            iface = add_host(net, HOME_NET + 10 + who, (unsigned)layout->box[0] + 1, SIM_NONE, who);
        else /* half of the homes use the very same addresses */
            iface = add_host(net, HOME_NET + 10 + (who && scenario->number & 1),
                             home_realm(scenario, net, layout, who), SIM_NONE, who);
        if (shares)
            layout->box[1] = layout->box[0];
        net->iface[iface].isolated = scenario->together == SIM_LAN_ISOLATED;
        add_base(layout, who, iface, net);
    }
    if (side->second) {
        struct sim_nat_settings set = router(scenario, who, SIDE_PUBLIC + 50 + who);
        set.mapping = set.filtering = SIM_ADDRESS_PORT;
        int box = sim_net_add_box(net, &set, SIM_INTERNET);
        add_base(layout, who, add_host(net, CARRIER_NET + 50 + who, (unsigned)box + 1, SIM_NONE, who), net);
    }
}

void sim_scenario_build(const struct sim_scenario *scenario, struct sim_net *net, struct sim_layout *layout)
{
    memset(layout, 0, sizeof *layout);
    memset(layout->box, SIM_NONE, sizeof layout->box);
    memset(layout->carrier, SIM_NONE, sizeof layout->carrier);
    sim_net_init(net);
    layout->stun = (int8_t)add_host(net, SIM_STUN_HOST, SIM_INTERNET, SIM_NONE, SIM_STUN);
    layout->stun6 = (int8_t)add_host(net, SIM_V6 | SIM_STUN_HOST, SIM_INTERNET, SIM_NONE, SIM_STUN);
    layout->relay = (int8_t)add_host(net, SIM_RELAY_HOST, SIM_INTERNET, SIM_NONE, SIM_RELAY);
    layout->relay6 = (int8_t)add_host(net, SIM_V6 | SIM_RELAY_HOST, SIM_INTERNET, SIM_NONE, SIM_RELAY);
    layout->stranger = (int8_t)add_host(net, STRANGER_HOST, SIM_INTERNET, SIM_NONE, SIM_STRANGER);
    for (unsigned who = 0; who < 2; who++)
        build_side(scenario, net, layout, who);
    if (scenario->story != SIM_MOVE)
        return;
    struct sim_nat_settings set = router(scenario, scenario->subject, SIDE_PUBLIC + 60);
    set.mapping = SIM_INDEPENDENT;
    set.filtering = SIM_ADDRESS_PORT;
    int box = sim_net_add_box(net, &set, SIM_INTERNET);
    int iface = add_host(net, HOME_NET + 77, (unsigned)box + 1, SIM_NONE, scenario->subject);
    net->iface[iface].up = false;
    layout->elsewhere =
        (struct sim_base){.iface = (int8_t)iface, .preference = 65535, .host = net->iface[iface].host};
}

void sim_scenario_print(const struct sim_scenario *scenario)
{
    static const char *const places[] = {"public", "firewall", "nat", "carrier nat", "relay only", "no UDP"};
    static const char *const togethers[] = {"apart", "one LAN", "one isolated LAN", "one carrier"};
    printf("run %llu: %s of %s, %s, %u streams, %u components%s%s%s\n", (unsigned long long)scenario->number,
           stories[scenario->story], scenario->subject ? "B" : "A", togethers[scenario->together],
           scenario->streams, scenario->components, scenario->relay ? ", relay" : ", no relay",
           scenario->stranger ? ", a stranger" : "", scenario->lossless ? "" : ", bad lines");
    for (int i = 0; i < 2; i++) {
        const struct sim_side *s = &scenario->side[i];
        printf(
            "  %c: %s %sM/%sF carrier %sM/%sF%s%s%s timeout %d ms,%s%s%s%s%s%s%s%s%s%s, gathers %u ms, "
            "signals in %u ms, clock %+d ms %+d ppm, line: %u ms + %u, loss %u %%, reorder %u %% by %u ms, "
            "duplicate %u %%\n",
            "AB"[i], places[s->place], dependences[s->mapping], dependences[s->filtering],
            dependences[s->carrier_mapping], dependences[s->carrier_filtering],
            s -> hairpin ? " hairpin" : "", s->carrier_hairpin ? " carrier-hairpin" : "",
            s->preserve_ports ? " preserving" : "", (int)s->nat_timeout_ms,
            s->controlling ? " controlling" : " controlled", s->stun ? " stun" : "",
            s->second ? " second" : "", s->ipv4 ? " v4" : "", s->ipv6 ? " v6" : "",
            s->ipv6_open ? " v6-open" : "", s->lite ? " lite" : "", s->aggressive ? " aggressive" : "",
            s->trickle ? " trickle" : "", s->deaf ? " deaf" : "", s->gather_ms, s->signal_ms,
            (int)s->clock_offset_ms, (int)s->drift_ppm, s->line.delay_ms, s->line.jitter_ms, s->line.loss,
            s->line.reorder, s->line.reorder_ms, s->line.duplicate);
    }
}
