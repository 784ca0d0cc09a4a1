#include <stdio.h>
#include <string.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "tests/sim/run.h"

#define POLLS_MAX 512 /* datagrams or events at one moment: more is an agent that spins */

int64_t sim_peer_clock(const struct sim_peer *peer, int64_t now_ms)
{
    return peer->side->clock_offset_ms + now_ms + now_ms * peer->side->drift_ppm / 1000000;
}

/* The first moment of the world at which the peer's clock shows clock_ms. */
static int64_t world_time(const struct sim_peer *peer, int64_t clock_ms)
{
    if (clock_ms == INT64_MAX)
        return INT64_MAX;
    int64_t at = (clock_ms - peer->side->clock_offset_ms) * 1000000 / (1000000 + peer->side->drift_ppm) - 2;
    while (sim_peer_clock(peer, at) < clock_ms)
        at++;
    return at;
}

void sim_peer_new_credentials(struct sim_peer *peer)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < sizeof peer->ufrag; i++)
        peer->ufrag[i] = i + 1 < sizeof peer->ufrag ? chars[sim_below(&peer->random, 64)] : 0;
    for (size_t i = 0; i < sizeof peer->pwd; i++)
        peer->pwd[i] = i + 1 < sizeof peer->pwd ? chars[sim_below(&peer->random, 64)] : 0;
}

void sim_peer_allow(struct sim_peer *peer, sim_addr addr)
{
    for (unsigned i = 0; i < peer->alloweds; i++)
        if (peer->allowed[i] == addr)
            return;
    if (peer->alloweds < SIM_ALLOWED)
        peer->allowed[peer->alloweds++] = addr;
}

void sim_peer_add_base(struct sim_run *run, struct sim_peer *peer, const struct sim_base *base)
{
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++) {
            struct kg_addr addr = sim_to_kg(sim_addr_make(base->host, sim_socket_port(peer->who, s, c)));
            kg_ice_add_local(peer->agent, s, c, KG_CANDIDATE_HOST, &addr, &addr, base->preference, NULL);
        }
}

void sim_peer_start(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    const struct sim_side *side = peer->side;
    struct kg_ice_settings settings = {.lite = side->lite,
                                       .no_consent = side->lite,
                                       .controlling = side->controlling,
                                       .rtcp_mux = run->scenario.components == 1,
                                       .random = sim_random_bytes,
                                       .random_ctx = &peer->random};
    peer->agent = kg_ice_agent_new(&settings);
    sim_peer_new_credentials(peer);
    for (uint8_t s = 0; s < run->scenario.streams; s++)
        kg_ice_add_stream(peer->agent, s, run->scenario.components);
    for (unsigned i = 0; i < run->layout.bases[who]; i++) {
        sim_peer_add_base(run, peer, &run->layout.base[who][i]);
        peer->told.exists[i] = true;
    }
    peer->told.lite = side->lite;
    for (int v6 = 0; v6 < 2 && side->stun; v6++) {
        sim_addr server = sim_addr_make((v6 ? SIM_V6 : 0) | SIM_STUN_HOST, SIM_STUN_PORT);
        struct kg_addr addr = sim_to_kg(server);
        kg_ice_add_stun_server(peer->agent, &addr);
        sim_peer_allow(peer, server);
    }
    kg_ice_set_local(peer->agent, peer->ufrag, peer->pwd);
    kg_ice_start(peer->agent, sim_peer_clock(peer, run->world.now_ms));
    peer->started_ms = run->world.now_ms;
}

bool sim_peer_gave_up(const struct sim_peer *peer)
{
    return peer->state == KG_ICE_FAILED || (peer->state == KG_ICE_DISCONNECTED && !peer->was_completed);
}

void sim_peer_free(struct sim_peer *peer)
{
    kg_ice_agent_free(peer->agent);
    peer->agent = NULL;
}

bool sim_peer_socket(const struct sim_run *run, unsigned who, sim_addr bound, uint8_t *stream,
                     uint8_t *component)
{
    unsigned n = (unsigned)(sim_port(bound) - sim_socket_port(who, 0, 1));
    *stream = (uint8_t)(n / 2);
    *component = (uint8_t)(n % 2 + 1);
    return n < 2u * run->scenario.streams && *component <= run->scenario.components;
}

/* The interface that a socket is bound on; SIM_NONE: no such socket. */
static int iface_of(const struct sim_run *run, const struct sim_peer *peer, sim_addr base)
{
    uint8_t stream, component;
    if (!sim_peer_socket(run, peer->who, base, &stream, &component))
        return SIM_NONE;
    for (unsigned i = 0; i < run->layout.bases[peer->who]; i++)
        if (run->layout.base[peer->who][i].host == sim_host(base) && peer->told.exists[i])
            return run->layout.base[peer->who][i].iface;
    return SIM_NONE;
}

/* What an aggressive peer sends (RFC 5245 8.1.1.2): the check with USE-CANDIDATE, signed anew. */
static size_t make_aggressive(const struct sim_peer *peer, const struct kg_ice_datagram *datagram,
                              uint8_t *out)
{
    struct kg_stun_message message;
    struct kg_stun_writer w;
    if (kg_stun_parse(datagram->data, datagram->len, &message) != KG_STUN_OK ||
        message.class != KG_STUN_REQUEST || !kg_stun_find(&message, KG_STUN_ICE_CONTROLLING) ||
        kg_stun_find(&message, KG_STUN_USE_CANDIDATE))
        return 0;
    kg_stun_begin(&w, out, SIM_PACKET_MAX, message.class, message.method, message.id);
    for (unsigned i = 0; i < message.count; i++)
        if (message.attribute[i].type != KG_STUN_MESSAGE_INTEGRITY &&
            message.attribute[i].type != KG_STUN_MESSAGE_INTEGRITY_SHA256 &&
            message.attribute[i].type != KG_STUN_FINGERPRINT)
            kg_stun_put(&w, message.attribute[i].type, message.attribute[i].data, message.attribute[i].len);
    kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_integrity(&w, peer->peer_pwd, strlen(peer->peer_pwd));
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

static void send_datagram(struct sim_run *run, struct sim_peer *peer, const struct kg_ice_datagram *datagram)
{
    uint8_t changed[SIM_PACKET_MAX];
    sim_addr from = sim_from_kg(&datagram->from), to = sim_from_kg(&datagram->to);
    const uint8_t *data = datagram->data;
    size_t len = datagram->len;
    sim_check_sent(run, peer->who, datagram);
    int iface = iface_of(run, peer, from);
    if (iface == SIM_NONE)
        return;
    if (peer->side->aggressive && peer->peer_pwd[0] && peer->state != KG_ICE_COMPLETED) {
        size_t new_len = make_aggressive(peer, datagram, changed);
        if (new_len > 0) {
            data = changed;
            len = new_len;
        }
    }
    sim_world_send(&run->world, iface, from, to, false, data, len);
    if (peer->side->hasty && data[0] == 0 && data[1] == 1) {
        sim_check_sent(run, peer->who, datagram);
        sim_world_send(&run->world, iface, from, to, false, data, len);
    }
}

static void take_events(struct sim_run *run, struct sim_peer *peer)
{
    struct kg_ice_event event;
    enum kg_ice_state was = peer->state;
    for (int n = 0; kg_ice_poll_event(peer->agent, &event); n++) {
        if (!sim_expect(run, SIM_EVENTS, n < POLLS_MAX, "%c tells events without end", "AB"[peer->who]))
            break;
        sim_note(run, "%c event %d state %s stream %u component %u %s", "AB"[peer->who], event.type,
                 kg_ice_state_name(event.state), event.stream, event.component,
                 event.reason ? event.reason : "");
        if (event.type == KG_ICE_EV_SELECTED && event.stream < SIM_STREAMS && event.component - 1u < 2)
            peer->tell_selected[event.stream][event.component - 1] = true;
        else if (event.type == KG_ICE_EV_CONSENT_LOST && event.stream < SIM_STREAMS &&
                 event.component - 1u < 2)
            peer->tell_selected[event.stream][event.component - 1] = true;
        if (event.type == KG_ICE_EV_CONSENT_LOST)
            peer->cut_off = true;
        else if (event.type == KG_ICE_EV_STATE)
            peer->state = event.state;
    }
    enum kg_ice_state state = kg_ice_state(peer->agent);
    peer->cut_off |= state == KG_ICE_DISCONNECTED && was != KG_ICE_DISCONNECTED;
    sim_expect(run, SIM_EVENTS, state == peer->state, "%c is %s and did not tell it", "AB"[peer->who],
               kg_ice_state_name(state));
    peer->state = state;
    int64_t now_ms = run->world.now_ms;
    if (peer->connected_ms < 0 && (state == KG_ICE_CONNECTED || state == KG_ICE_COMPLETED))
        peer->connected_ms = now_ms;
    peer->was_completed |= state == KG_ICE_COMPLETED;
    if (state != KG_ICE_COMPLETED && !sim_peer_gave_up(peer))
        peer->settled_ms = -1;
    else if (peer->settled_ms < 0)
        peer->settled_ms = now_ms;
}

void sim_peer_pump(struct sim_run *run, unsigned who)
{
    static struct kg_ice_datagram datagram;
    struct sim_peer *peer = &run->peer[who];
    int64_t clock_ms = sim_peer_clock(peer, run->world.now_ms);
    if (!peer->agent || peer->gone)
        return;
    for (int n = 0; kg_ice_poll(peer->agent, clock_ms, &datagram); n++) {
        if (!sim_expect(run, SIM_TERMINATES, n < POLLS_MAX, "%c sends without end", "AB"[who]))
            break;
        send_datagram(run, peer, &datagram);
    }
    take_events(run, peer);
    sim_check_selected(run, who);
    int64_t next_ms = kg_ice_next_ms(peer->agent);
    if (!sim_expect(run, SIM_TERMINATES, next_ms > clock_ms,
                    "%c has nothing to do and wants to be called at once", "AB"[who]))
        next_ms = clock_ms + 10;
    peer->wake_ms = world_time(peer, next_ms);
}

/* ---- media ---- */
#define MEDIA_LEN 16

void sim_peer_media(struct sim_run *run, unsigned who)
{
    struct sim_peer *peer = &run->peer[who];
    for (uint8_t s = 0; s < run->scenario.streams && !peer->gone && peer->agent; s++)
        for (uint8_t c = 1; c <= run->scenario.components; c++) {
            struct sim_end *end = &peer->end[s][c - 1];
            int iface = end->has_selected ? iface_of(run, peer, end->base) : SIM_NONE;
            uint16_t n = ++end->sequence;
            uint8_t data[MEDIA_LEN] = {0x80, (uint8_t)who, (uint8_t)(n >> 8), (uint8_t)n};
            if (iface == SIM_NONE)
                continue;
            end->media_out++;
            end->last_out_ms = run->world.now_ms;
            sim_check_media(run, who, s, c);
            sim_world_send(&run->world, iface, end->base, end->remote, true, data, sizeof data);
        }
}

static void receive_media(struct sim_run *run, struct sim_peer *peer, const struct sim_packet *packet,
                          uint8_t stream, uint8_t component)
{
    struct sim_end *end = &peer->end[stream][component - 1];
    struct kg_addr source = sim_to_kg(packet->source), base = sim_to_kg(packet->to);
    int64_t now_ms = run->world.now_ms;
    if (kg_ice_is_valid_source(peer->agent, stream, component, &source)) {
        sim_expect(run, SIM_MEDIA, packet->owner != SIM_STRANGER, "%c takes a stranger's media",
                   "AB"[peer->who]);
        if (run->happened_ms >= 0) {
            int64_t since = end->last_in_ms > run->happened_ms ? end->last_in_ms : run->happened_ms;
            if (now_ms - since > end->longest_gap_ms)
                end->longest_gap_ms = now_ms - since;
        }
        end->media_in++;
        end->last_in_ms = now_ms;
        return;
    }
    end->media_refused++;
    /* As the engine judges: the same SSRC, and the old place is silent. */
    if (packet->data[1] == !peer->who && end->media_in > 0 && now_ms - end->last_in_ms > 150) {
        sim_peer_allow(peer, packet->source);
        kg_ice_challenge(peer->agent, stream, component, &base, &source, sim_peer_clock(peer, now_ms));
    }
}

void sim_peer_receive(struct sim_run *run, unsigned who, int iface, const struct sim_packet *packet)
{
    struct sim_peer *peer = &run->peer[who];
    uint8_t stream, component;
    if (!peer->agent || peer->gone || !sim_peer_socket(run, who, packet->to, &stream, &component) ||
        iface_of(run, peer, packet->to) != iface)
        return;
    if (packet->media) {
        receive_media(run, peer, packet, stream, component);
    } else {
        struct kg_addr base = sim_to_kg(packet->to), source = sim_to_kg(packet->source);
        uint8_t copy[SIM_PACKET_MAX];
        const uint8_t *data = packet->data;
        size_t len = packet->len;
        if (peer->side
                ->deaf) { /* USE-CANDIDATE becomes an unknown optional attribute; the signature is lost */
            memcpy(copy, data, len);
            for (size_t i = KG_STUN_HEADER; i + 4 <= len;
                 i += 4u + ((copy[i + 2] << 8 | copy[i + 3]) + 3u) / 4 * 4)
                if (copy[i] == 0 && copy[i + 1] == KG_STUN_USE_CANDIDATE)
                    return;
        }
        if (packet->owner != SIM_STRANGER)
            sim_peer_allow(peer, packet->source);
        if (stream == 0 && component == 1 && packet->owner != SIM_STRANGER && packet->owner != SIM_STUN &&
            data[0] == 1 && data[1] == 1)
            peer->proven_ms = run->world.now_ms;
        if (run->scenario.stranger && stream == 0 && component == 1)
            sim_stranger_overhear(run, who, packet);
        bool taken =
            kg_ice_receive(peer->agent, &base, &source, data, len, sim_peer_clock(peer, run->world.now_ms));
        sim_expect(run, SIM_KNOWN_PLACES,
                   packet->owner != SIM_STRANGER || !taken || sim_port(packet->source) == SIM_REPLAY_PORT,
                   "%c takes a stranger's STUN message", "AB"[who]);
    }
    sim_peer_pump(run, who);
}
