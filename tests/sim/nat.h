/* A NAT box or a stateful firewall, by RFC 4787's words. One table of sessions says it all: a mapping is what
 * sessions of one inside address share, the filter asks which sessions exist. Pure. */
#ifndef KG_TESTS_SIM_NAT_H
#define KG_TESTS_SIM_NAT_H

#include "tests/sim/sim.h"

enum sim_dependence { SIM_INDEPENDENT, SIM_ADDRESS, SIM_ADDRESS_PORT }; /* RFC 4787 4.1, 5 */
enum sim_block { SIM_OPEN, SIM_ONLY_RELAY, SIM_NO_UDP };

#define SIM_SESSIONS 512

struct sim_nat_settings {
    uint8_t mapping, filtering; /* enum sim_dependence */
    uint8_t block;              /* enum sim_block */
    bool translate;             /* false: a firewall, addresses stay */
    bool hairpin;
    bool preserve_ports;
    bool inbound_refresh;
    bool eats_media; /* broken on purpose: only STUN passes inbound */
    int32_t timeout_ms;
    uint64_t host;    /* outside */
    uint64_t allowed; /* the relay's host, for SIM_ONLY_RELAY */
    uint64_t seed;
};
struct sim_session {
    sim_addr inside, remote;
    int64_t last_ms; /* latest outbound packet */
    uint16_t port;   /* outside */
};
struct sim_nat {
    bool lies; /* broken on purpose: filters by address and port whatever it says */
    struct sim_nat_settings set;
    uint32_t epoch; /* counts the ports given out: rebinding finds others */
    uint16_t count;
    struct sim_session session[SIM_SESSIONS];
};

/* The source as the outside sees it; 0: dropped. Without commit nothing is remembered: 0 then also means that
 * no mapping exists yet. */
sim_addr sim_nat_outbound(struct sim_nat *nat, sim_addr source, sim_addr to, int64_t now_ms, bool commit);
/* Where inside it goes; 0: dropped. */
sim_addr sim_nat_inbound(struct sim_nat *nat, sim_addr source, sim_addr to, int64_t now_ms, bool commit);
void sim_nat_flush(struct sim_nat *nat); /* all mappings are forgotten */

#endif
