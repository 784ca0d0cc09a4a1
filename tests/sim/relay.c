#include "media/steer.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

/* One component: the real relay of checks, and what the engine does around it. */
struct port {
    struct kg_steer *steer;
    uint16_t sequence[2]; /* of the latest media of each side */
};
struct sim_relay {
    struct sim_random random;
    struct port port[SIM_STREAMS][2];
};

struct sim_relay *sim_relay_new(void)
{
    return calloc(1, sizeof(struct sim_relay));
}

static void free_ports(struct sim_relay *relay)
{
    for (int s = 0; s < SIM_STREAMS; s++)
        for (int c = 0; c < 2; c++) {
            kg_steer_free(relay->port[s][c].steer);
            relay->port[s][c].steer = NULL;
        }
}

void sim_relay_free(struct sim_relay *relay)
{
    if (relay)
        free_ports(relay);
    free(relay);
}

void sim_relay_reset(struct sim_relay *relay, struct sim_run *run)
{
    free_ports(relay);
    relay->random = (struct sim_random){.state = sim_mix(run->scenario.number + 77)};
    for (int s = 0; s < run->scenario.streams && run->scenario.relay; s++)
        for (int c = 0; c < run->scenario.components; c++)
            relay->port[s][c].steer = kg_steer_new(5000, 30000, sim_random_bytes, &relay->random);
}

void sim_relay_describe(struct sim_run *run, unsigned who, const struct kg_ice_description *ice,
                        unsigned stream)
{
    for (int c = 0; c < run->scenario.components; c++)
        kg_steer_describe(run->relay->port[stream][c].steer, (enum kg_side)who, ice, run->world.now_ms);
}

/* Out of the port toward a side. */
static void send_out(struct sim_run *run, unsigned side, unsigned stream, unsigned component,
                     const struct kg_addr *to, bool media, const void *data, size_t len)
{
    sim_addr from = sim_relay_addr(&run->layout, side, stream, component);
    sim_addr where = sim_from_kg(to);
    sim_expect(run, SIM_KNOWN_PLACES, sim_host(where) != run->world.net.iface[run->layout.stranger].host,
               "the relay sends to a stranger");
    sim_world_send(&run->world, sim_is_v6(from) ? run->layout.relay6 : run->layout.relay, from, where, media,
                   data, len);
}

static void relay_media(struct sim_run *run, struct port *port, unsigned side, unsigned stream,
                        unsigned component, const struct sim_packet *packet)
{
    struct kg_addr source = sim_to_kg(packet->source);
    int64_t now_ms = run->world.now_ms;
    if (!kg_steer_is_verified(port->steer, (enum kg_side)side, &source, now_ms)) {
        if (packet->data[1] == side)
            kg_steer_suspect(port->steer, (enum kg_side)side, &source, now_ms);
        return;
    }
    kg_steer_media(port->steer, (enum kg_side)side, &source, now_ms);
    const struct kg_addr *to = kg_steer_target(port->steer, (enum kg_side) !side, now_ms);
    if (to)
        send_out(run, !side, stream, component, to, true, packet->data, packet->len);
}

void sim_relay_receive(struct sim_run *run, const struct sim_packet *packet, int iface)
{
    unsigned n = (unsigned)(sim_port(packet->to) - sim_relay_port(0, 0, 1)), side = n / 100,
             stream = n % 100 / 2;
    unsigned component = n % 2 + 1;
    (void)iface;
    if (side > 1 || stream >= run->scenario.streams || component > run->scenario.components ||
        !run->scenario.relay || packet->to != sim_relay_addr(&run->layout, side, stream, component))
        return;
    struct port *port = &run->relay->port[stream][component - 1];
    if (packet->media) {
        relay_media(run, port, side, stream, component, packet);
        return;
    }
    struct kg_addr source = sim_to_kg(packet->source);
    const struct kg_addr *to = NULL;
    bool moved = false;
    enum kg_steer_verdict verdict = kg_steer_receive(port->steer, (enum kg_side)side, &source, packet->data,
                                                     packet->len, run->world.now_ms, &to, &moved);
    if (run->verbose) {
        char text[KG_ADDR_STR];
        sim_note(
            run, "relay %u.%u gets %02x%02x %02x%02x%02x%02x from %c at %s: %s%s", stream, component,
            packet->data[0], packet->data[1], packet->data[8], packet->data[9], packet->data[10],
            packet->data[11], "AB" [side], sim_addr_text(packet->source, text),
            (const char *const[]) { "drops it", "passes it on", "keeps it" }[verdict],
            moved ? ", moved" : "");
    }
    if (verdict == KG_STEER_FORWARD)
        send_out(run, !side, stream, component, to, false, packet->data, packet->len);
}

int64_t sim_relay_next(const struct sim_run *run)
{
    int64_t next_ms = INT64_MAX;
    for (int s = 0; s < run->scenario.streams && run->scenario.relay; s++)
        for (int c = 0; c < run->scenario.components; c++) {
            int64_t at_ms = kg_steer_next_ms(run->relay->port[s][c].steer);
            next_ms = at_ms < next_ms ? at_ms : next_ms;
        }
    return next_ms;
}

void sim_relay_pump(struct sim_run *run)
{
    static struct kg_steer_datagram datagram;
    for (unsigned s = 0; s < run->scenario.streams && run->scenario.relay; s++)
        for (unsigned c = 0; c < run->scenario.components; c++)
            for (int n = 0; kg_steer_poll(run->relay->port[s][c].steer, run->world.now_ms, &datagram); n++) {
                if (!sim_expect(run, SIM_TERMINATES, n < 64, "the relay sends without end"))
                    break;
                if (run->verbose) {
                    char text[KG_ADDR_STR];
                    sim_note(run, "relay %u.%u sends %02x%02x %02x%02x%02x%02x to %c at %s", s, c + 1,
                             datagram.data[0], datagram.data[1], datagram.data[8], datagram.data[9],
                             datagram.data[10], datagram.data[11], "AB"[datagram.side],
                             kg_addr_format(&datagram.to, text));
                }
                send_out(run, datagram.side, s, c + 1, &datagram.to, false, datagram.data, datagram.len);
            }
}
