#include "tests/sim/selftest.h"

#include <stdio.h>
#include <string.h>

static int line_number, failures;

static void tell(bool right, const char *what)
{
    failures += !right;
    printf("%sok %d - model: %s\n", right ? "" : "not ", line_number++, what);
}

static void set_nat(struct sim_side *side, enum sim_dependence mapping, enum sim_dependence filtering)
{
    side->place = SIM_NAT;
    side->mapping = (uint8_t)mapping;
    side->filtering = (uint8_t)filtering;
    side->stun = true;
}

static struct sim_scenario plain(void)
{
    struct sim_scenario scenario;
    sim_scenario_make(&scenario, 0);
    return scenario;
}

static enum sim_path possible(const struct sim_scenario *scenario)
{
    static struct sim_net net;
    static struct sim_layout layout;
    struct sim_ends ends = {.net = &net, .layout = &layout, .relay = true};
    sim_scenario_build(scenario, &net, &layout);
    for (int who = 0; who < 2; who++)
        for (int i = 0; i < layout.bases[who]; i++)
            ends.told[who].exists[i] = true, ends.told[who].srflx[i] = 1;
    return sim_oracle(&ends, 0, 1).path;
}

/* Which of the old kinds of NAT connect: all but symmetric with port-restricted or symmetric. */
static void four_by_four(void)
{
    static const uint8_t nat[4][2] = {{SIM_INDEPENDENT, SIM_INDEPENDENT},
                                      {SIM_INDEPENDENT, SIM_ADDRESS},
                                      {SIM_INDEPENDENT, SIM_ADDRESS_PORT},
                                      {SIM_ADDRESS_PORT, SIM_ADDRESS_PORT}};
    static const char expected[4][5] = {"dddd", "dddd", "dddr", "ddrr"};
    struct sim_scenario scenario = plain();
    bool right = true;
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            set_nat(&scenario.side[0], nat[a][0], nat[a][1]);
            set_nat(&scenario.side[1], nat[b][0], nat[b][1]);
            enum sim_path got = possible(&scenario);
            if (got != (expected[a][b] == 'd' ? SIM_PATH_DIRECT : SIM_PATH_RELAY)) {
                printf("# %d %d: %s\n", a, b, sim_path_name(got));
                right = false;
            }
        }
    tell(right, "full cone, address-restricted, port-restricted and symmetric connect as RFC 4787 has it");
}

/* By hand: a mapping that depends on the peer's address gives it a port that STUN did not tell, so the peer's
 * filter must not look at ports; where neither filter looks at anything, it is enough that one mapping is
 * kept. */
static void mixed_nats(void)
{
    struct sim_scenario scenario = plain();
    bool right = true;
    for (int mapping = SIM_ADDRESS; mapping <= SIM_ADDRESS_PORT; mapping++)
        for (int filtering = 0; filtering < 3; filtering++)
            for (int other = 0; other < 3; other++) {
                set_nat(&scenario.side[0], (enum sim_dependence)mapping, (enum sim_dependence)filtering);
                set_nat(&scenario.side[1], SIM_INDEPENDENT, (enum sim_dependence)other);
                right &=
                    possible(&scenario) == (other == SIM_ADDRESS_PORT ? SIM_PATH_RELAY : SIM_PATH_DIRECT);
            }
    tell(right, "mappings that depend on the peer connect to what filters by address at most");
}

static void walls(void)
{
    struct sim_scenario scenario = plain();
    set_nat(&scenario.side[0], SIM_INDEPENDENT, SIM_ADDRESS_PORT);
    scenario.side[1].place = SIM_FIREWALL;
    bool right = possible(&scenario) == SIM_PATH_DIRECT;
    scenario.side[1] = scenario.side[0];
    scenario.side[1].place = SIM_RELAY_ONLY;
    right &= possible(&scenario) == SIM_PATH_RELAY;
    scenario.side[1].place = SIM_UDP_DEAD;
    right &= possible(&scenario) == SIM_PATH_NONE;
    tell(right, "firewalls are punched, blocked UDP leaves the relay or nothing");
    scenario.side[1].place = SIM_NAT;
    scenario.together = SIM_LAN;
    right = possible(&scenario) == SIM_PATH_DIRECT;
    scenario.together = SIM_LAN_ISOLATED;
    right &= possible(&scenario) == SIM_PATH_RELAY;
    scenario.side[0].hairpin = true;
    right &= possible(&scenario) == SIM_PATH_DIRECT;
    tell(right, "one LAN is direct, isolated hosts need hairpin");
    scenario.together = SIM_SAME_CARRIER;
    for (int i = 0; i < 2; i++) {
        scenario.side[i].place = SIM_CARRIER;
        scenario.side[i].carrier_filtering = SIM_ADDRESS_PORT;
        scenario.side[i].hairpin = false;
    }
    right = possible(&scenario) == SIM_PATH_RELAY;
    scenario.side[0].carrier_hairpin = true;
    right &= possible(&scenario) == SIM_PATH_DIRECT;
    scenario.together = SIM_APART;
    right &= possible(&scenario) == SIM_PATH_DIRECT;
    tell(right, "homes behind one carrier need its hairpin, behind two they do not");
}

/* Mappings time out, are kept by packets, and come back elsewhere after a flush. */
static void mappings(void)
{
    static struct sim_nat nat;
    sim_addr inside = sim_addr_make(1, 1000), peer = sim_addr_make(2, 2000), other = sim_addr_make(2, 2001);
    nat.set = (struct sim_nat_settings){
        .filtering = SIM_ADDRESS_PORT, .translate = true, .timeout_ms = 30000, .host = 9, .seed = 5};
    sim_addr first = sim_nat_outbound(&nat, inside, peer, 0, true);
    bool right = sim_nat_outbound(&nat, inside, other, 20000, true) == first;
    right &= sim_nat_inbound(&nat, peer, first, 29999, true) == inside;
    right &= sim_nat_inbound(&nat, peer, first, 30000, true) == 0;
    right &= sim_nat_inbound(&nat, other, first, 30000, true) == inside;
    right &= sim_nat_inbound(&nat, other, first, 60000, true) == 0;
    right &= sim_nat_outbound(&nat, inside, peer, 60000, true) != first || nat.count > 2;
    sim_nat_flush(&nat);
    right &= sim_nat_outbound(&nat, inside, peer, 60001, true) != first;
    tell(right, "mappings and their filters last as long as packets go out");
}

/* The checker must see what is broken on purpose. */
static void must_report(struct sim_run *run, const struct sim_scenario *scenario, enum sim_property property,
                        const char *what)
{
    static struct sim_checks checks;
    memset(&checks, 0, sizeof checks);
    sim_run(run, scenario, &checks, false);
    tell(checks.failed[property] > 0, what);
}

static void broken_on_purpose(struct sim_run *run)
{
    struct sim_scenario scenario = plain();
    for (int i = 0; i < 2; i++)
        set_nat(&scenario.side[i], SIM_INDEPENDENT, SIM_INDEPENDENT);
    static struct sim_checks checks;
    scenario.relay = true;
    sim_run(run, &scenario, &checks, false);
    tell(!run->failure.is && run->path == SIM_PATH_DIRECT, "nothing is reported when nothing is broken");
    scenario.side[1].deaf = true;
    must_report(run, &scenario, SIM_TERMINATES, "a peer that ignores nominations is reported");
    scenario.side[1].deaf = false;
    scenario.side[0].hasty = true;
    must_report(run, &scenario, SIM_PACED, "a peer that sends checks twice is reported");
    scenario.side[0].hasty = false;
    scenario.nat_eats = true;
    must_report(run, &scenario, SIM_MEDIA, "a NAT that lets checks pass but not media is reported");
    scenario.nat_eats = false;
    set_nat(&scenario.side[1], SIM_ADDRESS_PORT, SIM_ADDRESS_PORT);
    scenario.nat_lies = true;
    must_report(run, &scenario, SIM_BEST,
                "a NAT that filters more than it says is reported: direct was possible");
    scenario.relay = false;
    must_report(run, &scenario, SIM_FAILS_RIGHTLY, "the same without a relay: it need not have failed");
}

int sim_selftest(struct sim_run *run, int line)
{
    line_number = line;
    failures = 0;
    four_by_four();
    mixed_nats();
    walls();
    mappings();
    broken_on_purpose(run);
    return failures;
}
