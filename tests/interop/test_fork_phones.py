"""Four real phones of one account, of every kind, behind NATs of their own: all ring, each of them may answer, and both sides hear."""
import pytest

from interop.phone import Phone
from natlab import stun

SERVER6 = "2001:db8:0:1::99"
# name: how its phone is; the callee's are all registered as bob
CALLEES = {"ice": {"ice": True}, "ice2": {"ice": True}, "tcp": {"transport": "tcp"}, "six": {"six": True}}


@pytest.fixture(scope="module")
def world(lab, long_stage):
    server = lab.public_host("kedge", ip6=SERVER6)
    servers = lab.public_host("stun", ip4=["203.0.113.100", "203.0.113.101"])
    stun.serve(servers)
    listen = [f"udp:{server.ip4}:5060", f"tcp:{server.ip4}:5060", f"udp:[{SERVER6}]:5060"]
    kedge = long_stage.kedge(server, config={"sip": {"listen": listen}, "media": {"address": "auto"}},
                             accounts={u: "pw-" + u for u in ("alice", "bob", "iris")})
    def phone(name, user, hz, answer, ice=False, transport="udp", six=False):
        host = lab.public_host(name, ip4=False, ip6=True) if six else lab.natted_host(name, nat="port-restricted")
        at, listen = (f"[{SERVER6}]:5060", "[::]:5060") if six else (f"{server.ip4}:5060", None)
        made = Phone(long_stage.folder / name, user, at, hz, host, password="pw-" + user, domain="kedge.test", transport=transport,
                     listen=listen, answer=answer, ice=ice, stun=f"{servers.ip4}:3478" if ice else None)
        return long_stage.add(made).start()
    callers = {"old": phone("alice", "alice", 400, True), "ice": phone("iris", "iris", 500, True, ice=True)}
    callees = {name: phone(name, "bob", 700 + 100 * i, False, **how) for i, (name, how) in enumerate(CALLEES.items())}
    for made in (*callers.values(), *callees.values()):
        made.registered()
    return kedge, callers, callees


@pytest.mark.parametrize("winner", CALLEES)
@pytest.mark.parametrize("caller", ("old", "ice"))
def test_one_of_four_answers(world, caller, winner):
    kedge, callers, callees = world
    a, b = callers[caller], callees[winner]
    marks = {name: p.mark() for name, p in callees.items()}
    b.forget()
    mark = a.dial("bob")
    for name, p in callees.items():
        p.wait("CALL_INCOMING", marks[name])
    b.accept()
    a.wait("CALL_ESTABLISHED", mark)
    for name, p in callees.items():
        if name != winner:
            p.wait("CALL_CLOSED", marks[name])
            assert p.find("CALL_ESTABLISHED", marks[name]) is None
    assert a.hears(b.hz), f"{a.user} does not hear {b.hz} Hz in {a.recording()}"
    assert b.hears(a.hz), f"{winner} does not hear {a.hz} Hz in {b.recording()}"
    mark = a.mark()
    b.hangup()
    a.wait("CALL_CLOSED", mark)
    kedge.no_calls()


def test_nobody_answers(world):
    kedge, callers, callees = world
    a = callers["ice"]
    marks = {name: p.mark() for name, p in callees.items()}
    a.dial("bob")
    for name, p in callees.items():
        p.wait("CALL_INCOMING", marks[name])
    a.hangup()
    for name, p in callees.items():
        p.wait("CALL_CLOSED", marks[name])
    kedge.no_calls()
