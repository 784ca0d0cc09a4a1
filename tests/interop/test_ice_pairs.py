"""ICE phones behind every pair of four NATs, behind a carrier's NAT and without UDP call each other through kedge.

Direct means that no RTP passes kedge. What RFC 4787 allows: everything but symmetric with symmetric or port-restricted. baresip 1.0
never checks back to an address that it learnt from a check alone (a peer-reflexive candidate), so that where one NAT is symmetric at
best one direction of it is direct; linphone does, and shows those pairs. For the same reason it is relayed where one phone waits while the
other one checks (Call.out_of_step).
"""
import threading

import pytest

from interop.ear import Ear
from interop.hosts import Stopwatch
from interop.icecall import Call, table
from interop.linphone import Linphone
from interop.phone import Phone
from interop.report import publish
from natlab import netns, stun

NATS = ("full-cone", "address-restricted", "port-restricted", "symmetric")
OPEN_TO_STRANGE_PORTS = ("full-cone", "address-restricted")


def theory(a, b):
    """Whether some pair of mapped addresses works in both directions (RFC 4787 4, 5)."""
    return "symmetric" not in (a, b) or a in OPEN_TO_STRANGE_PORTS or b in OPEN_TO_STRANGE_PORTS


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    servers = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers, ("turner", "turn-word"))
    names = [f"{side}-{nat}" for side in ("caller", "callee") for nat in NATS]
    names += ["mobile", "two-addresses", "tcp-only", *("lin-" + nat for nat in ("full-cone", "address-restricted", "symmetric"))]
    kedge = long_stage.kedge(server, accounts={name: "pw-" + name for name in names})
    return kedge, long_stage.add(Ear(server)), servers.ip4 + ":3478", long_stage


def phone(world, lab, name, hz, host):
    kedge, _, server, stage = world
    return stage.add(Phone(stage.folder / name, name, f"{kedge.host.addr}:5060", hz, host, password="pw-" + name,
                           domain="kedge.test", ice=True, stun=server)).start()


def linphone(world, name, hz, host, **kw):
    kedge, _, server, stage = world
    return stage.add(Linphone(stage.folder / name, name, f"{kedge.host.addr}:5060", hz, host, password="pw-" + name,
                              domain="kedge.test", ice=True, **{"stun": server, **kw})).start()


@pytest.fixture(scope="module")
def phones(world, lab):
    names = [f"{side}-{nat}" for side in ("caller", "callee") for nat in NATS]
    made = {name: phone(world, lab, name, 400 + 100 * i, lab.natted_host(name, nat=name.partition("-")[2]))
            for i, name in enumerate(names)}
    for p in made.values():
        p.registered()
    return made


def make(call, ear, released=None, **kw):
    """Makes a call, and waits until this linphone has none any more; again, if somebody heard nothing and this machine stood still:
    phones go by their own clocks, and baresip has given up a pair for the whole call by then."""
    for _ in range(3):
        watch, mark = Stopwatch(), released and released.mark()
        call.make(ear, **kw)
        if released:
            released.wait("to LinphoneCallReleased", mark, 25)  # closing a TURN connection blocks it for five seconds
        if call.heard == [True, True] or watch.real - watch.fair < 0.4:
            break


def together(calls, ear):
    """Makes these calls at the same time."""
    threads = [threading.Thread(target=call.make, args=(ear,)) for call in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@pytest.fixture(scope="module")
def pairs(world, phones):
    """{(caller's NAT, callee's NAT): Call} of all sixteen, four at a time."""
    kedge, ear = world[:2]
    made = {}
    for shift in range(len(NATS)):
        row = {(a, NATS[(i + shift) % len(NATS)]): None for i, a in enumerate(NATS)}
        for a, b in row:
            row[a, b] = Call(kedge, phones["caller-" + a], phones["callee-" + b], a, b)
        together(row.values(), ear)
        made.update(row)
    publish("ice-pairs", table("baresip with ICE to baresip with ICE", [made[a, b] for a in NATS for b in NATS]))
    return made


@pytest.mark.parametrize("b", NATS)
@pytest.mark.parametrize("a", NATS)
def test_pair(pairs, a, b):
    call = pairs[a, b]
    assert call.heard == [True, True], call.row()
    if "symmetric" not in (a, b) and not call.out_of_step:
        assert call.ways == ["direct", "direct"] and call.path == "direct" and call.relayed == 0, call.row()
    elif "symmetric" in (a, b) and not theory(a, b):
        assert call.ways == ["relay", "relay"] and call.path == "relayed by kedge", call.row()
    else:
        assert "none" not in call.ways and (call.path == "direct") == (call.relayed == 0), call.row()


def test_pairs_are_explained(pairs):
    for call in pairs.values():
        assert call.path.split()[0] in call.explained and call.shown["reason"], call.explained


def test_behind_a_carriers_nat(world, lab, phones):
    """A home router behind a carrier's symmetric NAT: nobody configures anything, and it works both ways."""
    kedge, ear = world[:2]
    mobile = phone(world, lab, "mobile", 1300, lab.natted_host("mobile", nat="port-restricted", carrier="symmetric"))
    mobile.registered()
    calls = [Call(kedge, mobile, phones["callee-port-restricted"], "carrier", "port-restricted"),
             Call(kedge, phones["caller-port-restricted"], mobile, "port-restricted", "carrier")]
    for call in calls:
        call.make(ear)
    publish("ice-pairs", table("behind a carrier's symmetric NAT and a port-restricted one", calls))
    for call in calls:
        assert call.heard == [True, True] and call.ways == ["relay", "relay"], call.row()
        assert call.path == "relayed by kedge", call.row()


def test_out_of_step(world, lab, phones):
    """The caller has an address more than the callee. baresip checks one pair after another, so it comes to kedge's port 2.3 s later for
    each component, and the callee would have given that pair up by then, and with it all that it could say in the whole call."""
    kedge, ear = world[:2]
    host = lab.natted_host("two-addresses", nat="symmetric")
    netns.ip(host.ns, "addr add 10.99.0.1/32 dev eth0")
    more = phone(world, lab, "two-addresses", 1500, host)
    more.registered()
    calls = [Call(kedge, more, phones["callee-port-restricted"], "two addresses", "port-restricted"),
             Call(kedge, phones["caller-port-restricted"], more, "port-restricted", "two addresses")]
    for call in calls:
        make(call, ear, timeout=24)
    publish("ice-pairs", table("one phone has an address more than the other", calls))
    for call in calls:
        assert call.heard == [True, True] and call.ways == ["relay", "relay"], call.row()
        assert max(call.ms) > 6000, call.row()  # or they were not out of step


def test_what_theory_allows_and_baresip_does_not_do(world, lab):
    """Symmetric to the two NATs that let strange ports in: linphone checks back to the address it learnt."""
    kedge, ear = world[:2]
    made = {nat: linphone(world, "lin-" + nat, 500 + 200 * i, lab.natted_host("lin-" + nat, nat=nat))
            for i, nat in enumerate(("full-cone", "address-restricted", "symmetric"))}
    for p in made.values():
        p.registered()
    calls = [Call(kedge, made[a], made[b], a, b)
             for a, b in (("symmetric", "full-cone"), ("address-restricted", "symmetric"))]
    for call in calls:
        call.make(ear)
    publish("ice-pairs", table("linphone with ICE to linphone with ICE", calls))
    for call in calls:
        assert call.heard == [True, True], call.row()
        assert call.ways == ["direct", "direct"] and call.path == "direct" and call.relayed == 0, call.row()


def test_without_udp_on_one_side(world, lab, phones):
    """linphone in a network where UDP is blocked: SIP over TCP, its own relay over TCP (TURN, coturn). Both ways; baresip has no
    TURN over TCP, and kedge is no TURN server yet."""
    kedge, ear, server, _ = world
    blocked = linphone(world, "tcp-only", 1400, lab.natted_host("tcp-only", nat="port-restricted", block_udp=True),
                       transport="tcp", stun=None, turn=(server.rpartition(":")[0], "turner", "turn-word", "tcp"))
    blocked.registered()
    calls = [Call(kedge, blocked, phones["callee-port-restricted"], "no UDP", "port-restricted"),
             Call(kedge, phones["caller-port-restricted"], blocked, "port-restricted", "no UDP")]
    for call in calls:
        make(call, ear, timeout=14, released=blocked)
    publish("ice-pairs", table("without UDP on one side, by a TURN server over TCP", calls))
    for call in calls:
        assert call.heard == [True, True], call.row()
