/* The world of one run: the map, the clock, packets under way, bad lines. */
#ifndef KG_TESTS_SIM_WORLD_H
#define KG_TESTS_SIM_WORLD_H

#include "tests/sim/net.h"

#define SIM_PACKET_MAX 1280
#define SIM_PACKETS    4096
#define SIM_FLOWS      1024

enum sim_owner { SIM_A, SIM_B, SIM_RELAY, SIM_STUN, SIM_STRANGER, SIM_OWNERS };

/* What happens to packets that this owner sends. Which packet it happens to is a hash of (seed, direction,
 * flow, number of the packet in its flow). */
struct sim_line {
    uint16_t delay_ms, jitter_ms;     /* jitter may reorder */
    uint16_t reorder_ms;              /* the extra delay of reordered packets */
    uint8_t loss, reorder, duplicate; /* per cent */
};

struct sim_packet {
    sim_addr source, to; /* in `realm` */
    uint16_t len;
    uint8_t realm, owner;
    bool media;
    uint8_t data[SIM_PACKET_MAX];
};
enum sim_event_kind { SIM_EV_PACKET, SIM_EV_SCRIPT };
struct sim_event {
    int64_t at_ms;
    uint32_t order; /* of scheduling, among events of one millisecond */
    uint16_t packet;
    uint8_t kind, code, who;
    uint16_t what;
};
struct sim_flow {
    uint32_t run;
    uint32_t packets;
    uint8_t owner;
    sim_addr source, to;
};

struct sim_world {
    uint64_t seed;
    int64_t now_ms;
    struct sim_line line[SIM_OWNERS];
    struct sim_net net;
    uint32_t order, run;
    uint32_t events, free_packets;
    uint64_t sent, lost, dropped, delivered;
    bool has_taken; /* the packet that sim_world_take gave last is not free yet */
    uint16_t taken;
    bool overflow; /* a table was too small: the run does not count */
    struct sim_event event[2 * SIM_PACKETS];
    uint16_t free_packet[SIM_PACKETS];
    struct sim_flow flow[SIM_FLOWS];
    struct sim_packet packet[SIM_PACKETS];
};

void sim_world_init(struct sim_world *world, uint64_t seed);
/* From the socket bound to `source` on an interface. */
void sim_world_send(struct sim_world *world, int iface, sim_addr source, sim_addr to, bool media,
                    const void *data, size_t len);
void sim_world_schedule(struct sim_world *world, int64_t at_ms, uint8_t code, uint8_t who, uint16_t what);
int64_t sim_world_next(const struct sim_world *world); /* INT64_MAX: nothing under way */
/* The next event up to now_ms; false: none. For a packet that is lost or dropped kind is SIM_EV_PACKET and
 * *iface SIM_NONE; else *packet is what arrives at *iface, to->to the address bound there, valid until the
 * next call. */
bool sim_world_take(struct sim_world *world, struct sim_event *event, struct sim_packet **packet, int *iface);

#endif
