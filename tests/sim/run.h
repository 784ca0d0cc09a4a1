/* One run: two agents in a world, what they say to each other in signalling, and what is watched. */
#ifndef KG_TESTS_SIM_RUN_H
#define KG_TESTS_SIM_RUN_H

#include "ice/agent/agent.h"
#include "tests/sim/check.h"
#include "tests/sim/oracle.h"

#define SIM_SIGNALS 96
#define SIM_TOLD    24 /* candidates of a stream in one message */
#define SIM_ALLOWED 256
#define SIM_TIDS    256

enum sim_signal_kind { SIM_OFFER, SIM_ANSWER, SIM_INFO, SIM_PLEASE_RESTART };
struct sim_signal {
    uint8_t kind, from;
    bool lite, trickle, complete;
    char ufrag[KG_ICE_OUR_UFRAG], pwd[KG_ICE_OUR_PWD];
    uint8_t count[SIM_STREAMS];
    struct kg_candidate candidate[SIM_STREAMS][SIM_TOLD];
};

/* One component of one stream at one side. */
struct sim_end {
    bool has_selected;
    sim_addr local, base, remote; /* of the selected pair: as seen by the peer, the socket, the peer */
    uint32_t media_out, media_in, media_refused;
    int64_t last_out_ms, last_in_ms, longest_gap_ms;
    uint16_t sequence;
};

struct sim_peer {
    struct kg_ice_agent *agent;
    const struct sim_side *side;
    struct sim_random random;
    uint8_t who;
    bool gone; /* without a word */
    bool gathered;
    bool was_completed;
    bool cut_off;       /* consent was lost: the application has to do something */
    uint8_t told_count; /* candidates in the latest message */
    int64_t wake_ms;
    int64_t signal_ms; /* when its latest message arrives: signalling keeps the order */
    char ufrag[KG_ICE_OUR_UFRAG], pwd[KG_ICE_OUR_PWD];
    char peer_pwd[KG_ICE_OUR_PWD];
    struct sim_told told;
    struct sim_end end[SIM_STREAMS][2];
    /* watched */
    enum kg_ice_state state;
    int64_t started_ms, connected_ms, settled_ms;
    int64_t last_request; /* on its own clock */
    int64_t proven_ms;    /* latest success response that arrived, of the first component */
    uint16_t alloweds, tids;
    bool tell_selected[SIM_STREAMS][2];
    uint32_t requests;
    uint8_t restarts, waits;
    uint64_t tid[SIM_TIDS]; /* these two are not cleared */
    sim_addr allowed[SIM_ALLOWED];
};

struct sim_run {
    struct sim_scenario scenario;
    struct sim_layout layout;
    struct sim_peer peer[2];
    struct sim_relay *relay;
    struct sim_random random;
    struct sim_failure failure;
    struct sim_checks *checks;
    bool verbose, over;
    bool missed;      /* on bad lines: no path was found though there is one, or each side has its own */
    bool worse;       /* on good lines: not the best path */
    bool negotiating; /* an offer is not answered yet: no other one is made (RFC 3261 14.1) */
    int64_t remote_known_ms; /* both descriptions are known to both sides */
    int64_t happened_ms;     /* the story's event; -1: not yet */
    int64_t gap_ms;          /* longest silence of media after it */
    struct sim_best best;
    enum sim_path path; /* what was reached */
    struct {
        uint8_t victim;
        uint16_t len;
        uint8_t data[SIM_PACKET_MAX];
    } overheard; /* a check or answer that arrived at the first component of a side; len 0: none */
    uint16_t signals;
    struct sim_signal signal[SIM_SIGNALS];
    struct sim_world world;
};

enum sim_script {
    SIM_DO_START,
    SIM_DO_GATHERED,
    SIM_DO_TRICKLE,
    SIM_DO_SIGNAL,
    SIM_DO_MEDIA,
    SIM_DO_STRANGER,
    SIM_DO_ARRIVE,
    SIM_DO_RESTART
};

/* run.c */
void sim_run(struct sim_run *run, const struct sim_scenario *scenario, struct sim_checks *checks,
             bool verbose);
__attribute__((format(printf, 2, 3))) void sim_note(const struct sim_run *run, const char *format, ...);

/* peer.c: an agent, its sockets and its clock */
int64_t sim_peer_clock(const struct sim_peer *peer, int64_t now_ms);
void sim_peer_start(struct sim_run *run, unsigned who);
void sim_peer_add_base(struct sim_run *run, struct sim_peer *peer, const struct sim_base *base);
void sim_peer_free(struct sim_peer *peer);
void sim_peer_new_credentials(struct sim_peer *peer);
/* Sends what the agent has to send, looks at what it tells. After each call into the agent. */
void sim_peer_pump(struct sim_run *run, unsigned who);
void sim_peer_receive(struct sim_run *run, unsigned who, int iface, const struct sim_packet *packet);
void sim_peer_media(struct sim_run *run, unsigned who);
/* Failed; or cut off before both sides had ever agreed: the relay vouched for a peer that did not come. */
bool sim_peer_gave_up(const struct sim_peer *peer);
bool sim_peer_socket(const struct sim_run *run, unsigned who, sim_addr bound, uint8_t *stream,
                     uint8_t *component);
void sim_peer_allow(struct sim_peer *peer, sim_addr addr);

/* signal.c: offers, answers and trickled candidates, and what kedge adds to them on the way */
void sim_signal_send(struct sim_run *run, unsigned who, enum sim_signal_kind kind);
void sim_signal_arrive(struct sim_run *run, unsigned index);
void sim_signal_restart(struct sim_run *run, unsigned who);

/* relay.c: kedge's ports in the middle */
struct sim_relay *sim_relay_new(void);
void sim_relay_free(struct sim_relay *relay);
void sim_relay_reset(struct sim_relay *relay, struct sim_run *run);
void sim_relay_describe(struct sim_run *run, unsigned who, const struct kg_ice_description *ice,
                        unsigned stream);
void sim_relay_receive(struct sim_run *run, const struct sim_packet *packet, int iface);
int64_t sim_relay_next(const struct sim_run *run);
void sim_relay_pump(struct sim_run *run);

/* Of the stranger: what comes from the latter carries right integrity. */
#define SIM_FORGER_PORT 6666
#define SIM_REPLAY_PORT 6667

/* stranger.c: forged checks, answers and media; the STUN server */
void sim_stranger_act(struct sim_run *run);
void sim_stranger_overhear(struct sim_run *run, unsigned victim, const struct sim_packet *packet);
void sim_stun_answer(struct sim_run *run, const struct sim_packet *packet, int iface);

#endif
