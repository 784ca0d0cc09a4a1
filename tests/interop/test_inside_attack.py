"""Requests inside of a call: how many a peer may send, and what who has overheard the tags can do with them."""
import time

import pytest

from interop.agent import Dialog, talk
from interop.hosts import Stopwatch, background, until
from interop.pbx import Kamailio
from interop.sipcall import hang_up

USERS = ("alice", "bob")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "elsewhere", "pbx")]


@pytest.fixture(params=("embedded", "kamailio"))
def world(request, hosts, stage):
    """kedge, and a function that makes a registered agent of a user on a host."""
    passwords = {u: "pw-" + u for u in USERS}
    if request.param == "kamailio":
        stage.add(Kamailio(stage.folder / "pbx", passwords, hosts[4], domain="kedge.test")).start()
        kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[4].addr}:5060"]})
    else:
        kedge = stage.kedge(hosts[0], accounts=passwords)
    kedge.embedded = request.param == "embedded"

    def make(user, host, register=True, transport="udp"):
        agent = stage.agent(hosts[host], user, "pw-" + user, (kedge.host.addr, 5060), "kedge.test", transport=transport)
        assert not register or agent.register().status == 200
        return agent
    return kedge, make


@pytest.fixture
def in_talk(world, stage):
    def make(**kw):
        a, b = world[1]("alice", 1, **kw), world[1]("bob", 2, **kw)
        return talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    return make


def overheard(dialog, agent):
    """The dialog in the hands of somebody else, who does not know the password."""
    copy = Dialog(agent)
    copy.call_id, copy.local, copy.remote, copy.target = dialog.call_id, dialog.local, dialog.remote, dialog.target
    copy.routes, copy.cseq = dialog.routes, dialog.cseq + 100
    agent.password = "guessed"
    return copy


@pytest.mark.parametrize("method", ("INVITE", "UPDATE", "INFO", "MESSAGE", "REFER"))
def test_a_stranger_is_not_heard(world, in_talk, method):
    """From a host where the user is not registered it takes the password, and before a PBX a REGISTER."""
    kedge, make = world
    da, db = in_talk()
    thief = overheard(da, make("alice", 3, register=False))
    headers = ["Refer-To: <sip:bob@kedge.test>"] if method == "REFER" else ["Content-Type: text/plain"] if method == "MESSAGE" else []
    answer = thief.request(method, headers, "x" if method in ("INFO", "MESSAGE") else da.body())
    assert answer.status == (407 if kedge.embedded else 500), answer
    assert kedge.embedded or answer.get("retry-after")
    assert db.agent.quiet(method, 0.3)
    since = time.monotonic()
    assert da.rtp.got(since, 200) and db.rtp.got(since, 200), "the call goes on where it was"
    hang_up(db, da)
    kedge.no_calls()


def test_a_stranger_cannot_hang_up(world, in_talk):
    """Before a PBX his BYE is answered, but the phone is asked: it is still there."""
    kedge, make = world
    da, db = in_talk()
    thief = overheard(da, make("alice", 3, register=False))
    answer = thief.request("BYE")
    assert answer.status == (407 if kedge.embedded else 200)
    if not kedge.embedded:
        assert until(lambda: any(m.method == "OPTIONS" and "tag=" in m.get("to") for m in da.agent.log), 20), "alice is asked"
        assert until(lambda: "still in the call" in kedge.log(), 20)
    assert db.agent.quiet("BYE", 5), "bob was hung up on"
    assert kedge.calls()
    hang_up(da, db)
    kedge.no_calls()


def test_a_phone_that_changes_networks_and_hangs_up(world, in_talk, stage):
    """It has not registered there yet: its BYE counts all the same, after its password or a few seconds."""
    kedge, make = world
    da, db = in_talk()
    old = da.agent
    old.close()
    da.agent = make("alice", 3, register=False)
    watch = Stopwatch()
    answer = da.request("BYE")
    if kedge.embedded:
        assert answer.status == 407
        answer = background(da.authorized, "BYE", answer)
        db.agent.reply(db.agent.expect("BYE"), 200)
        assert answer().status == 200
    else:
        assert answer.status == 200
        db.agent.reply(db.agent.expect("BYE"), 200)
        assert watch.fair < 10
    kedge.no_calls()


def test_registered_elsewhere_it_is_heard(world, in_talk):
    """The same user from another host where it is registered: another network of the same phone."""
    kedge, make = world
    da, db = in_talk()
    contact = da.agent.contact
    da.agent = make("alice", 3, register=False)
    assert da.agent.register(contact=contact).status == 200
    answer = background(da.request, "INFO", ["Content-Type: application/dtmf-relay"], "Signal=1\r\n")
    db.agent.reply(db.agent.expect("INFO"), 200)
    assert answer().status == 200
    hang_up(da, db)
    kedge.no_calls()


def flood(dialog, method, seconds, body=""):
    """As fast as a datagram can be sent; returns how many."""
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(20):
            dialog.request(method, body=body, send_only=True)
            sent += 1
        time.sleep(0.004)
    return sent


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("transport", ("udp", "tcp"))
@pytest.mark.parametrize("method", ("INVITE", "INFO", "NONSENSE"))
def test_a_flood_inside_of_a_call(hosts, stage, method, transport):
    """A phone gone mad: what it sends costs next to nothing, and its call can still be ended."""
    kedge = stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS})
    a, b = (stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060), transport=transport) for i, u in enumerate(USERS))
    assert a.register().status == 200 and b.register().status == 200
    da, db = talk(a, b, stage.rtp(a.host), stage.rtp(b.host))
    before = resident_kb(kedge.role("signalling"))
    body = da.body() if method == "INVITE" else ""
    sent = flood(da, method, 3, body)
    assert sent > 500
    grown = resident_kb(kedge.role("signalling")) - before
    reached = len({m.transaction for m in b.log if m.method == method})
    assert grown < 20000, f"{sent} requests took {grown} KB"
    assert reached < 150, f"{reached} of {sent} were passed on"
    assert kedge.stats()["requests_hushed"] > sent / 2
    bye = background(da.bye)
    b.reply(b.expect("BYE"), 200)
    assert bye().status == 200
    kedge.no_calls()


def test_key_presses_are_not_slowed_down(world, in_talk):
    """Twenty in a second and a half, by INFO."""
    da, db = in_talk()
    for i in range(20):
        answer = background(da.request, "INFO", ["Content-Type: application/dtmf-relay"], f"Signal={i % 10}\r\n")
        db.agent.reply(db.agent.expect("INFO"), 200)
        assert answer().status == 200
    hang_up(da, db)
