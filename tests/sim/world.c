#include "tests/sim/world.h"

#include <string.h>

#define HOP_MS 1 /* inside of a home */

void sim_world_init(struct sim_world *world, uint64_t seed)
{
    world->seed = seed;
    world->now_ms = 0;
    world->events = 0;
    world->order = 0;
    world->run++;
    world->sent = world->lost = world->dropped = world->delivered = 0;
    world->overflow = false;
    world->free_packets = SIM_PACKETS;
    world->has_taken = false;
    for (uint16_t i = 0; i < SIM_PACKETS; i++)
        world->free_packet[i] = (uint16_t)(SIM_PACKETS - 1 - i);
    sim_net_init(&world->net);
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void push(struct sim_world *world, struct sim_event event)
{
    if (world->events == 2 * SIM_PACKETS) {
        world->overflow = true;
        return;
    }
    event.order = world->order++;
    uint32_t i = world->events++;
    while (i > 0 && before(&event, &world->event[(i - 1) / 2])) {
        world->event[i] = world->event[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    world->event[i] = event;
}

static struct sim_event pop(struct sim_world *world)
{
    struct sim_event first = world->event[0], last = world->event[--world->events];
    uint32_t i = 0;
    for (uint32_t child = 1; child < world->events; child = 2 * i + 1) {
        if (child + 1 < world->events && before(&world->event[child + 1], &world->event[child]))
            child++;
        if (!before(&world->event[child], &last))
            break;
        world->event[i] = world->event[child];
        i = child;
    }
    world->event[i] = last;
    return first;
}

/* Number of this packet in its flow, counted from 0. */
static uint32_t count_in_flow(struct sim_world *world, uint8_t owner, sim_addr source, sim_addr to)
{
    for (uint32_t i = (uint32_t)sim_hash(owner, source, to, 0), n = 0; n < SIM_FLOWS; i++, n++) {
        struct sim_flow *flow = &world->flow[i % SIM_FLOWS];
        if (flow->run != world->run)
            *flow = (struct sim_flow){.run = world->run, .owner = owner, .source = source, .to = to};
        if (flow->owner == owner && flow->source == source && flow->to == to)
            return flow->packets++;
    }
    world->overflow = true;
    return 0;
}

static void put_under_way(struct sim_world *world, struct sim_packet head, const void *data, int64_t delay_ms)
{
    if (world->free_packets == 0) {
        world->overflow = true;
        return;
    }
    uint16_t index = world->free_packet[--world->free_packets];
    struct sim_packet *packet = &world->packet[index];
    memcpy(packet, &head, offsetof(struct sim_packet, data));
    memcpy(packet->data, data, head.len);
    push(world,
         (struct sim_event){.at_ms = world->now_ms + delay_ms, .packet = index, .kind = SIM_EV_PACKET});
}

void sim_world_send(struct sim_world *world, int iface, sim_addr source, sim_addr to, bool media,
                    const void *data, size_t len)
{
    struct sim_packet head = {.source = source, .to = to, .len = (uint16_t)len, .media = media};
    const struct sim_iface *from = &world->net.iface[iface];
    head.owner = from->owner;
    world->sent++;
    if (len > SIM_PACKET_MAX ||
        !sim_net_out(&world->net, iface, &head.source, to, world->now_ms, true, &head.realm)) {
        world->dropped++;
        return;
    }
    const struct sim_line *line = &world->line[from->owner];
    /* The flow is named by what the sender knows, so that the same packets are lost whatever ports a NAT
     * gives. */
    uint64_t dice =
        sim_hash(world->seed, from->owner, source ^ to << 17, count_in_flow(world, from->owner, source, to));
    if (dice % 100 < line->loss) {
        world->lost++;
        return;
    }
    int64_t delay_ms = HOP_MS;
    if (head.realm != from->realm || head.realm == SIM_INTERNET) {
        delay_ms += line->delay_ms + (int64_t)((dice >> 8) % (line->jitter_ms + 1u));
        if ((dice >> 24) % 100 < line->reorder)
            delay_ms += line->reorder_ms;
        if ((dice >> 40) % 100 < line->duplicate)
            put_under_way(world, head, data, delay_ms + (int64_t)((dice >> 48) % 50));
    }
    put_under_way(world, head, data, delay_ms);
}

void sim_world_schedule(struct sim_world *world, int64_t at_ms, uint8_t code, uint8_t who, uint16_t what)
{
    push(world,
         (struct sim_event){.at_ms = at_ms, .kind = SIM_EV_SCRIPT, .code = code, .who = who, .what = what});
}

int64_t sim_world_next(const struct sim_world *world)
{
    return world->events ? world->event[0].at_ms : INT64_MAX;
}

bool sim_world_take(struct sim_world *world, struct sim_event *event, struct sim_packet **packet, int *iface)
{
    if (world->has_taken)
        world->free_packet[world->free_packets++] = world->taken;
    world->has_taken = false;
    if (world->events == 0 || world->event[0].at_ms > world->now_ms)
        return false;
    *event = pop(world);
    *packet = NULL;
    *iface = SIM_NONE;
    if (event->kind == SIM_EV_SCRIPT)
        return true;
    *packet = &world->packet[event->packet];
    world->taken = event->packet;
    world->has_taken = true;
    *iface = sim_net_in(&world->net, (*packet)->realm, (*packet)->source, &(*packet)->to, (*packet)->media,
                        world->now_ms, true);
    if (*iface == SIM_NONE)
        world->dropped++;
    else
        world->delivered++;
    return true;
}
