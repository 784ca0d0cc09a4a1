/* What one run is about: where the two sides are, how bad the lines are, what happens during the call. Made
 * from the number of the run alone: the first SIM_MATRIX enumerate every pair of places without impairments,
 * the rest are drawn by hashing the number. */
#ifndef KG_TESTS_SIM_SCENARIO_H
#define KG_TESTS_SIM_SCENARIO_H

#include "tests/sim/world.h"

#define SIM_BASES   4 /* sockets a component has at most on one side */
#define SIM_STREAMS 3

enum sim_place {
    SIM_PUBLIC,
    SIM_FIREWALL, /* public address, stateful firewall */
    SIM_NAT,      /* home router: mapping and filtering of the side */
    SIM_CARRIER,  /* home router behind a carrier's NAT */
    SIM_RELAY_ONLY,
    SIM_UDP_DEAD,
    SIM_PLACES,
};
enum sim_together { SIM_APART, SIM_LAN, SIM_LAN_ISOLATED, SIM_SAME_CARRIER, SIM_TOGETHERS };
enum sim_story {
    SIM_CALL,      /* connect, a second of media */
    SIM_LONG,      /* 40 s of media */
    SIM_VANISH,    /* one side is gone without a word */
    SIM_REBIND,    /* a side's NAT forgets and gives other ports */
    SIM_MOVE,      /* a side is in another network and restarts ICE */
    SIM_RESTART,   /* restart, nobody moved */
    SIM_DEAD_PATH, /* a side's firewall now lets nothing pass but to the relay */
    SIM_STORIES,
};

struct sim_side {
    uint8_t place;
    uint8_t mapping, filtering, carrier_mapping, carrier_filtering;
    bool hairpin, carrier_hairpin, preserve_ports, inbound_refresh;
    int32_t nat_timeout_ms;
    bool stun;   /* asks the public STUN server */
    bool second; /* a second interface, cellular: behind a symmetric carrier */
    bool ipv4, ipv6;
    bool ipv6_open; /* without a firewall */
    bool lite, aggressive, trickle;
    bool deaf;  /* broken on purpose: ignores USE-CANDIDATE */
    bool hasty; /* broken on purpose: sends each check twice */
    bool controlling;
    int32_t clock_offset_ms, drift_ppm;
    uint16_t gather_ms, signal_ms; /* how long it gathers, how long its signalling takes to the other side */
    struct sim_line line;
};
struct sim_scenario {
    uint64_t number;
    struct sim_side side[2];
    uint8_t together, story;
    uint8_t subject; /* the side that something happens to */
    uint8_t streams, components;
    bool relay;    /* kedge offers its relay ports */
    bool stranger; /* an attacker sends forged checks and media */
    bool lossless; /* nothing lost or late: outcomes are exact */
    bool nat_lies; /* broken on purpose: side A's NAT filters more than it says */
    bool nat_eats; /* broken on purpose: it lets only STUN pass */
};

#define SIM_STUN_HOST  0xCB007103u /* 203.0.113.3; over IPv6 2001:db8::203.0.113.3 */
#define SIM_STUN_PORT  3478
#define SIM_RELAY_HOST 0xCB007105u

/* The sockets of a side: one of these and the port of the stream and component. */
struct sim_base {
    int8_t iface;
    uint16_t preference;
    uint64_t host;
};
struct sim_layout {
    uint8_t bases[2];
    struct sim_base base[2][SIM_BASES];
    struct sim_base elsewhere;                   /* where the subject moves */
    int8_t stun, stun6, relay, relay6, stranger; /* interfaces */
    int8_t box[2], carrier[2];                   /* of each side; SIM_NONE */
};

#define SIM_KINDS  16 /* of places in the matrix, see scenario.c */
#define SIM_MATRIX (SIM_KINDS * SIM_KINDS * 8u)
const char *sim_kind_name(unsigned kind);
void sim_scenario_make(struct sim_scenario *scenario, uint64_t number);
unsigned sim_scenario_kind(const struct sim_side *side); /* its row in the matrix; SIM_KINDS: a mixture */
void sim_scenario_build(const struct sim_scenario *scenario, struct sim_net *net, struct sim_layout *layout);
void sim_scenario_print(const struct sim_scenario *scenario);
const char *sim_story_name(enum sim_story story);

/* Ports: of a side's socket, and of the relay toward a side. */
uint16_t sim_socket_port(unsigned side, unsigned stream, unsigned component);
uint16_t sim_relay_port(unsigned side, unsigned stream, unsigned component);

#endif
