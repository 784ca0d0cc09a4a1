/* What can be reached at all: both sides send from every socket to every address they could know, without
 * loss and as often as it takes, through NATs as described. Not an ICE agent: no states, no STUN, no time. */
#ifndef KG_TESTS_SIM_ORACLE_H
#define KG_TESTS_SIM_ORACLE_H

#include "tests/sim/scenario.h"

enum sim_path { SIM_PATH_NONE, SIM_PATH_RELAY, SIM_PATH_DIRECT };
const char *sim_path_name(enum sim_path path);

/* What each side has told of itself in signalling. */
struct sim_told {
    uint8_t srflx[SIM_BASES]; /* bit stream * 2 + component - 1 */
    bool lite;
    bool exists[SIM_BASES]; /* this socket is in use */
};
struct sim_best {
    enum sim_path path;
    uint64_t priority; /* of the best path's pair, RFC 8445 6.1.2.3 */
    unsigned paths;    /* how many work */
};
struct sim_ends {
    const struct sim_net *net; /* mappings in it do not count */
    const struct sim_layout *layout;
    struct sim_told told[2];
    bool relay;
    unsigned controlling; /* side */
    bool coarse;          /* priorities tell host from reflexive addresses and no more */
};
struct sim_best sim_oracle(const struct sim_ends *ends, unsigned stream, unsigned component);
/* Priority of the path whose ends these are: how each side's address is seen by the other (host, srflx,
 * prflx: enum kg_candidate_type), from which socket. */
uint64_t sim_path_priority(const struct sim_ends *ends, const uint8_t type[2], const uint8_t base[2],
                           unsigned component);
/* The address of the relay's port toward a side; 0: it has no interface of that family. */
sim_addr sim_relay_addr(const struct sim_layout *layout, unsigned side, unsigned stream, unsigned component);

#endif
