"""An ICE phone and one that has never heard of ICE understand each other, both directions, four NATs on either side; and linphone
with ICE talks to baresip with and without.

baresip with ICE sends nothing at all before its checks have succeeded: that it is heard shows that kedge was its ICE peer.
"""
import re
import threading

import pytest

from interop.ear import Ear
from interop.hosts import until
from interop.icecall import Call, table
from interop.linphone import Linphone
from interop.phone import Phone
from interop.report import publish
from natlab import stun

NATS = ("full-cone", "address-restricted", "port-restricted", "symmetric")


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge")
    servers = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers)
    names = [f"{kind}-{nat}" for kind in ("ice", "old") for nat in NATS] + ["lin"]
    kedge = long_stage.kedge(server, accounts={name: "pw-" + name for name in names})
    phones = {}
    for i, name in enumerate(names):
        kind, _, nat = name.partition("-")
        host = lab.natted_host(name, nat=nat or "symmetric")
        common = dict(user=name, server=f"{server.addr}:5060", hz=400 + 100 * i, host=host, password="pw-" + name,
                      domain="kedge.test")
        server_of = f"{servers.ip4}:3478"
        if kind == "lin":
            phones[name] = Linphone(long_stage.folder / name, ice=True, stun=server_of, **common)
        else:
            phones[name] = Phone(long_stage.folder / name, ice=kind == "ice", stun=server_of, **common)
        long_stage.add(phones[name]).start()
    for phone in phones.values():
        phone.registered()
    return kedge, long_stage.add(Ear(server)), phones


@pytest.fixture(scope="module")
def calls(world):
    """{(caller, callee): Call}, every ICE phone with every old one in both directions, four at a time."""
    kedge, ear, phones = world
    made = {}
    for kinds in (("ice", "old"), ("old", "ice")):
        for shift in range(len(NATS)):
            row = {}
            for i, nat in enumerate(NATS):
                a, b = f"{kinds[0]}-{nat}", f"{kinds[1]}-{NATS[(i + shift) % len(NATS)]}"
                row[a, b] = Call(kedge, phones[a], phones[b])
            threads = [threading.Thread(target=c.make, args=(ear,)) for c in row.values()]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            made.update(row)
    publish("ice-legacy", table("baresip with ICE and baresip without", made.values()))
    return made


@pytest.mark.parametrize("old", NATS)
@pytest.mark.parametrize("new", NATS)
@pytest.mark.parametrize("direction", ("ice calls old", "old calls ice"))
def test_pair(calls, direction, new, old):
    names = ("ice-" + new, "old-" + old)
    call = calls[names if direction == "ice calls old" else names[::-1]]
    assert call.heard == [True, True], call.row()
    assert call.path == "anchored" and call.shown["reason"], call.row()
    ice, other = call.shown["legs"] if direction == "ice calls old" else call.shown["legs"][::-1]
    assert ice["media"][0]["proof"] == "ice", ice
    assert other["media"][0]["proof"] not in ("ice", "none"), other


@pytest.mark.parametrize("other", ("ice-port-restricted", "old-port-restricted"))
@pytest.mark.parametrize("linphone_calls", (True, False))
def test_linphone(world, other, linphone_calls):
    """linphone behind a symmetric NAT; the re-INVITE of the caller's after ICE (RFC 8839 4.4.1.2.2) is understood and answered."""
    kedge, ear, phones = world
    lin = phones["lin"]
    pair = (lin, phones[other])
    call, mark = Call(kedge, *(pair if linphone_calls else pair[::-1])), lin.mark()
    try:
        call.make(ear, keep=True)
        publish("ice-legacy", table("linphone with ICE", [call]))
        assert call.heard == [True, True], call.row()
        assert call.path == ("anchored" if other.startswith("old") else "relayed by kedge"), call.row()
        again = linphone_calls or other.startswith("ice")  # baresip without ICE has no reason for one
        assert until(lambda: answers(lin, mark) == ["200"] * (1 + again), 15, 0.1), answers(lin, mark)
    finally:
        call.end()


def answers(lin, mark):
    """The final responses to linphone's INVITEs and its own since then, each once, but for those that ask for a password."""
    seen = re.findall(r"^SIP/2\.0 ([2-6]\d\d) (?:(?!\r?\n\r?\n).)*?^CSeq: (\d+) INVITE\r?$", lin.log()[mark:], re.M | re.S)
    return [status for status, _ in dict.fromkeys(seen) if status not in ("401", "407")]
