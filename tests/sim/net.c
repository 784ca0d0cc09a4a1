#include "tests/sim/net.h"

void sim_net_init(struct sim_net *net)
{
    net->ifaces = net->boxes = 0;
}

int sim_net_add_box(struct sim_net *net, const struct sim_nat_settings *set, uint8_t outside)
{
    struct sim_box *box = &net->box[net->boxes];
    box->nat.set = *set;
    box->nat.lies = false;
    box->nat.epoch = 0;
    box->nat.count = 0;
    box->outside = outside;
    return net->boxes++;
}

int sim_net_add_iface(struct sim_net *net, uint64_t host, uint8_t realm, int8_t firewall, uint8_t owner)
{
    net->iface[net->ifaces] =
        (struct sim_iface){.host = host, .realm = realm, .firewall = firewall, .owner = owner, .up = true};
    return net->ifaces++;
}

void sim_net_copy_fresh(struct sim_net *to, const struct sim_net *from)
{
    sim_net_init(to);
    for (int i = 0; i < from->boxes; i++)
        sim_net_add_box(to, &from->box[i].nat.set, from->box[i].outside);
    for (int i = 0; i < from->ifaces; i++)
        to->iface[i] = from->iface[i];
    to->ifaces = from->ifaces;
}

static int find_iface(const struct sim_net *net, uint8_t realm, uint64_t host)
{
    for (int i = 0; i < net->ifaces; i++)
        if (net->iface[i].host == host && net->iface[i].realm == realm && net->iface[i].up)
            return i;
    return SIM_NONE;
}

static int find_box(const struct sim_net *net, uint8_t realm, uint64_t host)
{
    for (int i = 0; i < net->boxes; i++)
        if (net->box[i].nat.set.translate && net->box[i].outside == realm && net->box[i].nat.set.host == host)
            return i;
    return SIM_NONE;
}

bool sim_net_out(struct sim_net *net, int iface, sim_addr *source, sim_addr to, int64_t now_ms, bool commit,
                 uint8_t *realm)
{
    const struct sim_iface *from = &net->iface[iface];
    if (!from->up)
        return false;
    *realm = from->realm;
    int neighbour = find_iface(net, *realm, sim_host(to));
    if (neighbour != SIM_NONE && *realm != SIM_INTERNET)
        return neighbour == iface || !from->isolated;
    if (from->firewall != SIM_NONE &&
        (neighbour == SIM_NONE || net->iface[neighbour].firewall != from->firewall)) {
        *source = sim_nat_outbound(&net->box[from->firewall].nat, *source, to, now_ms, commit);
        if (!*source)
            return false;
    }
    while (find_iface(net, *realm, sim_host(to)) == SIM_NONE &&
           find_box(net, *realm, sim_host(to)) == SIM_NONE) {
        if (*realm == SIM_INTERNET)
            return false;
        struct sim_box *box = &net->box[*realm - 1];
        *source = sim_nat_outbound(&box->nat, *source, to, now_ms, commit);
        if (!*source)
            return false;
        *realm = box->outside;
    }
    return true;
}

int sim_net_in(struct sim_net *net, uint8_t realm, sim_addr source, sim_addr *to, bool media, int64_t now_ms,
               bool commit)
{
    for (;;) {
        int iface = find_iface(net, realm, sim_host(*to));
        if (iface != SIM_NONE) {
            int firewall = net->iface[iface].firewall;
            int from = find_iface(net, realm, sim_host(source));
            if (firewall == SIM_NONE || (from != SIM_NONE && net->iface[from].firewall == firewall))
                return iface;
            return sim_nat_inbound(&net->box[firewall].nat, source, to[0], now_ms, commit) ? iface : SIM_NONE;
        }
        int box = find_box(net, realm, sim_host(*to));
        if (box == SIM_NONE)
            return SIM_NONE;
        struct sim_nat *nat = &net->box[box].nat;
        if ((sim_host(source) == nat->set.host && !nat->set.hairpin) || (media && nat->set.eats_media))
            return SIM_NONE;
        *to = sim_nat_inbound(nat, source, *to, now_ms, commit);
        if (!*to)
            return SIM_NONE;
        realm = (uint8_t)(box + 1);
    }
}

int sim_net_probe(struct sim_net *net, int iface, sim_addr *source, sim_addr *to, bool media, int64_t now_ms,
                  bool commit)
{
    uint8_t realm;
    if (!sim_net_out(net, iface, source, *to, now_ms, commit, &realm))
        return SIM_NONE;
    return sim_net_in(net, realm, *source, to, media, now_ms, commit);
}
