#include <string.h>

#include "ice/stun/integrity.h"
#include "ice/stun/message.h"
#include "tests/sim/run.h"

/* The public STUN server: answers every Binding request with what it saw. */
void sim_stun_answer(struct sim_run *run, const struct sim_packet *packet, int iface)
{
    uint8_t out[SIM_PACKET_MAX];
    struct kg_stun_message message;
    struct kg_stun_writer w;
    struct kg_addr source = sim_to_kg(packet->source);
    if (packet->media || sim_port(packet->to) != SIM_STUN_PORT ||
        kg_stun_parse(packet->data, packet->len, &message) != KG_STUN_OK || message.class != KG_STUN_REQUEST)
        return;
    kg_stun_begin(&w, out, sizeof out, KG_STUN_SUCCESS, KG_STUN_BINDING, message.id);
    kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &source);
    kg_stun_put_fingerprint(&w);
    sim_world_send(&run->world, iface, packet->to, packet->source, false, out, kg_stun_end(&w));
}

static size_t forge_request(struct sim_run *run, unsigned victim, uint8_t *out)
{
    const struct sim_peer *peer = &run->peer[victim];
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];
    char user[2 * KG_ICE_OUR_UFRAG];
    size_t len = strlen(peer->ufrag);
    sim_random_bytes(&run->random, id, sizeof id);
    memcpy(user, peer->ufrag, len);
    user[len++] = ':';
    memcpy(user + len, run->peer[!victim].ufrag, strlen(run->peer[!victim].ufrag));
    len += strlen(run->peer[!victim].ufrag);
    kg_stun_begin(&w, out, SIM_PACKET_MAX, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    kg_stun_put(&w, KG_STUN_USERNAME, user, len);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 0x7EFFFFFF);
    kg_stun_put_u64(&w, sim_chance(&run->random, 50) ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED,
                    UINT64_MAX);
    kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_integrity(&w, "not the password of anybody", 27);
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

static size_t forge_response(struct sim_run *run, const struct kg_addr *mapped, bool conflict, uint8_t *out)
{
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];
    sim_random_bytes(&run->random, id, sizeof id);
    kg_stun_begin(&w, out, SIM_PACKET_MAX, conflict ? KG_STUN_ERROR : KG_STUN_SUCCESS, KG_STUN_BINDING, id);
    if (conflict)
        kg_stun_put_error(&w, 487, "Role Conflict");
    else
        kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, mapped);
    kg_stun_put_integrity(&w, "not the password of anybody", 27);
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

void sim_stranger_overhear(struct sim_run *run, unsigned victim, const struct sim_packet *packet)
{
    if (packet->owner == SIM_STRANGER || packet->owner == SIM_STUN)
        return;
    run->overheard.victim = (uint8_t)victim;
    run->overheard.len = packet->len;
    memcpy(run->overheard.data, packet->data, packet->len);
}

enum attack { FORGED_REQUEST, FORGED_ANSWER, FORGED_CONFLICT, MEDIA, REPLAY, ATTACKS };

/* To a side, or to the relay's port toward it. */
void sim_stranger_act(struct sim_run *run)
{
    uint8_t out[SIM_PACKET_MAX] = {0x80, 9, 0, 1};
    unsigned victim = sim_below(&run->random, 2), what = sim_below(&run->random, ATTACKS);
    const struct sim_peer *peer = &run->peer[victim];
    sim_addr from = sim_addr_make(run->world.net.iface[run->layout.stranger].host,
                                  what == REPLAY ? SIM_REPLAY_PORT : SIM_FORGER_PORT);
    sim_addr to = peer->end[0][0].local;
    size_t len = 16; /* of media */
    if (!to || sim_host(to) == SIM_RELAY_HOST)
        to = sim_addr_make(run->layout.base[victim][0].host, sim_socket_port(victim, 0, 1));
    if (what != REPLAY && sim_chance(&run->random, 30))
        to = sim_relay_addr(&run->layout, victim, 0, 1);
    struct kg_addr mapped = sim_to_kg(from);
    switch ((enum attack)what) {
    case FORGED_REQUEST:
        len = forge_request(run, victim, out);
        break;
    case FORGED_ANSWER:
        len = forge_response(run, &mapped, false, out);
        break;
    case FORGED_CONFLICT:
        len = forge_response(run, &mapped, true, out);
        break;
    case MEDIA:
        break;
    case REPLAY:
        if (run->overheard.len == 0 || run->overheard.victim != victim)
            return;
        len = run->overheard.len;
        memcpy(out, run->overheard.data, len);
        break;
    case ATTACKS:
        return;
    }
    if (!sim_is_v6(to))
        sim_world_send(&run->world, run->layout.stranger, from, to, what == MEDIA, out, len);
}
