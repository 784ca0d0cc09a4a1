#include "tests/sim/nat.h"

static bool is_alive(const struct sim_nat *nat, const struct sim_session *session, int64_t now_ms)
{
    return now_ms - session->last_ms < nat->set.timeout_ms;
}

static bool depends(enum sim_dependence dependence, sim_addr a, sim_addr b)
{
    switch (dependence) {
    case SIM_INDEPENDENT:
        return true;
    case SIM_ADDRESS:
        return sim_host(a) == sim_host(b);
    case SIM_ADDRESS_PORT:
        break;
    }
    return a == b;
}

static bool is_port_taken(const struct sim_nat *nat, uint16_t port, int64_t now_ms)
{
    for (unsigned i = 0; i < nat->count; i++)
        if (nat->session[i].port == port && is_alive(nat, &nat->session[i], now_ms))
            return true;
    return false;
}

static uint16_t choose_port(struct sim_nat *nat, sim_addr source, int64_t now_ms)
{
    if (!nat->set.translate)
        return sim_port(source);
    if (nat->set.preserve_ports && nat->epoch == 0 && !is_port_taken(nat, sim_port(source), now_ms))
        return sim_port(source);
    for (uint64_t n = nat->count;; n += SIM_SESSIONS) {
        uint16_t port = (uint16_t)(1024 + sim_hash(nat->set.seed, nat->epoch, source, n) % 64512);
        if (!is_port_taken(nat, port, now_ms))
            return port;
    }
}

static struct sim_session *new_session(struct sim_nat *nat)
{
    if (nat->count < SIM_SESSIONS)
        return &nat->session[nat->count++];
    struct sim_session *oldest = nat->session;
    for (unsigned i = 1; i < SIM_SESSIONS; i++)
        if (nat->session[i].last_ms < oldest->last_ms)
            oldest = &nat->session[i];
    return oldest;
}

sim_addr sim_nat_outbound(struct sim_nat *nat, sim_addr source, sim_addr to, int64_t now_ms, bool commit)
{
    struct sim_session *mapped = NULL, *same = NULL;
    if (nat->set.block == SIM_NO_UDP ||
        (nat->set.block == SIM_ONLY_RELAY && sim_host(to) != nat->set.allowed))
        return 0;
    for (unsigned i = 0; i < nat->count && !same; i++) {
        struct sim_session *session = &nat->session[i];
        if (session->inside != source || !is_alive(nat, session, now_ms))
            continue;
        if (session->remote == to)
            same = session;
        if (!mapped && depends(nat->set.mapping, session->remote, to))
            mapped = session;
    }
    if (!commit)
        return mapped || !nat->set.translate
                   ? sim_addr_make(nat->set.translate ? nat->set.host : sim_host(source),
                                   mapped ? mapped->port : sim_port(source))
                   : 0;
    if (!same) {
        uint16_t port = mapped ? mapped->port : choose_port(nat, source, now_ms);
        same = new_session(nat);
        *same = (struct sim_session){.inside = source, .remote = to, .port = port};
    }
    same->last_ms = now_ms;
    return sim_addr_make(nat->set.translate ? nat->set.host : sim_host(source), same->port);
}

sim_addr sim_nat_inbound(struct sim_nat *nat, sim_addr source, sim_addr to, int64_t now_ms, bool commit)
{
    if (nat->set.block == SIM_NO_UDP ||
        (nat->set.block == SIM_ONLY_RELAY && sim_host(source) != nat->set.allowed))
        return 0;
    if (!nat->set.translate && nat->set.filtering == SIM_INDEPENDENT)
        return to;
    enum sim_dependence filtering = nat->lies ? SIM_ADDRESS_PORT : nat->set.filtering;
    sim_addr inside = 0;
    for (unsigned i = 0; i < nat->count; i++) {
        struct sim_session *session = &nat->session[i];
        if (session->port != sim_port(to) || !is_alive(nat, session, now_ms) ||
            (!nat->set.translate && session->inside != to))
            continue;
        if (!depends(filtering, session->remote, source))
            continue;
        inside = session->inside;
        if (commit && nat->set.inbound_refresh)
            session->last_ms = now_ms;
        break;
    }
    return inside;
}

void sim_nat_flush(struct sim_nat *nat)
{
    nat->count = 0;
    nat->epoch++;
}
