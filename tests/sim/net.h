/* The map: interfaces, realms (address spaces) and the boxes between them; how a packet finds its way. No
 * time passes here: world.c delays packets between the way out and the way in. */
#ifndef KG_TESTS_SIM_NET_H
#define KG_TESTS_SIM_NET_H

#include "tests/sim/nat.h"

#define SIM_IFACES   16
#define SIM_BOXES    10
#define SIM_INTERNET 0
#define SIM_NONE     (-1)

struct sim_iface {
    uint64_t host;   /* unique in its realm */
    uint8_t realm;   /* 0: the Internet; else the inside of box realm - 1 */
    int8_t firewall; /* a box that does not translate; SIM_NONE */
    uint8_t owner;
    bool up;
    bool isolated; /* neighbours of its realm are not reached directly */
};
struct sim_box {
    struct sim_nat nat;
    uint8_t outside; /* realm */
};
struct sim_net {
    uint8_t ifaces, boxes;
    struct sim_iface iface[SIM_IFACES];
    struct sim_box box[SIM_BOXES];
};

void sim_net_init(struct sim_net *net);
/* Both return the index. */
int sim_net_add_box(struct sim_net *net, const struct sim_nat_settings *set, uint8_t outside);
int sim_net_add_iface(struct sim_net *net, uint64_t host, uint8_t realm, int8_t firewall, uint8_t owner);
void sim_net_copy_fresh(struct sim_net *to, const struct sim_net *from); /* without any mapping */

/* From an interface out to the realm where `to` is known: *source is what is seen there. False: dropped. */
bool sim_net_out(struct sim_net *net, int iface, sim_addr *source, sim_addr to, int64_t now_ms, bool commit,
                 uint8_t *realm);
/* From there in. Returns the interface, SIM_NONE when dropped; *to is the address bound there. */
int sim_net_in(struct sim_net *net, uint8_t realm, sim_addr source, sim_addr *to, bool media, int64_t now_ms,
               bool commit);
/* Both at once and without a trace: would it arrive? */
int sim_net_probe(struct sim_net *net, int iface, sim_addr *source, sim_addr *to, bool media, int64_t now_ms,
                  bool commit);

#endif
