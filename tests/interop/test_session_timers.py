"""Session timers (RFC 4028): each leg has its own; who stops refreshing is hung up on."""
import os
import re
import signal
import threading
import time

import pytest

from interop.agent import Dialog, sdp
from interop.hosts import Stopwatch, background, until
from interop.sipcall import dialogs, hang_up, registered

USERS = ("alice", "bob")
TIMER = "Supported: timer"
KNOWS = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], accounts={u: "pw-" + u for u in USERS}, config={"calls": {"session_min": 120}})


@pytest.fixture
def pair(kedge, hosts, stage):
    """A function that makes a call: headers of the INVITE and of the 200. Returns dialogs, what bob saw, what alice got."""
    def make(a=(), b=()):
        agents = registered(stage, kedge, hosts[1:], USERS)
        da, db = dialogs(stage, agents)
        call = background(da.call, "bob", headers=list(a))
        invite = agents[1].expect("INVITE")
        db.answer(invite, headers=list(b))
        agents[1].register(expires=0)  # the next call is for the next pair
        return da, db, invite, call()
    return make


@pytest.mark.parametrize("asks,gets", (((), "1800;refresher=uas"), (("Session-Expires: 600",), "600;refresher=uas"),
                                       (("x: 600;refresher=uac", TIMER), "600;refresher=uac"),
                                       (("Session-Expires: 600;refresher=uas", TIMER, "Require: timer"), "600;refresher=uas")))
def test_as_uas(pair, kedge, asks, gets):
    da, db, _, ok = pair(asks)
    assert ok.get("session-expires") == gets and "timer" in ok.get("supported")
    assert ("timer" in ok.get("require")) == gets.endswith("uac"), "RFC 4028 9"
    hang_up(da, db)
    kedge.no_calls()


def test_too_short(pair, kedge):
    """422 with what would do; RFC 4028 9. Later requests too."""
    da, db, _, _ = pair()
    refused = Dialog(da.agent).call("bob", headers=["Session-Expires: 119", TIMER], body=sdp(da.rtp.ip, da.rtp.port))
    assert refused.status == 422 and refused.get("min-se") == "120"
    answer = da.request("UPDATE", ["Session-Expires: 90", TIMER])
    assert answer.status == 422 and answer.get("min-se") == "120"
    answer = da.request("UPDATE", ["Session-Expires: 120;refresher=uac", TIMER])
    assert answer.status == 200 and answer.get("session-expires") == "120;refresher=uac"
    hang_up(da, db)


@pytest.mark.parametrize("nonsense", ("Session-Expires: -1", "Session-Expires: 99999999999999999999", "Session-Expires: soon",
                                      "Session-Expires: 600;refresher=nobody", "Min-SE: 4294967295", "Session-Expires: 0"))
def test_nonsense(kedge, hosts, stage, nonsense):
    """The call is made, with a timer that makes sense, or refused; kedge lives."""
    da, db = dialogs(stage, registered(stage, kedge, hosts[1:], USERS))
    said = []
    calling = threading.Thread(target=lambda: said.append(da.call("bob", headers=[nonsense])))
    calling.start()
    assert until(lambda: said or not db.agent.requests.empty())
    if not said:
        db.answer(db.agent.expect("INVITE"))
    calling.join()
    if said[0].status == 200:
        assert 120 <= int(re.match(r"\d+", said[0].get("session-expires")).group()) <= 86400
        hang_up(da, db)
    else:
        assert 400 <= said[0].status < 500
    kedge.alive()


def test_as_uac(pair, kedge):
    """What kedge asks of the callee is kedge's business, whatever the caller asked."""
    da, db, invite, ok = pair(["Session-Expires: 600", TIMER], ["Session-Expires: 900;refresher=uas", "Require: timer"])
    assert invite.get("session-expires") == "1800" and "timer" in invite.get("supported")
    assert ok.get("session-expires") == "600;refresher=uas"
    legs = kedge.calls()[0]["legs"]
    assert [leg["session_refresher"] for leg in legs] == ["kedge", "peer"] and legs[1]["session_ends"]
    text = kedge.ctl("explain", kedge.calls()[0]["id"])
    assert re.search(r"The session with bob ends at \d\d:\d\d:\d\d UTC unless its phone refreshes it", text)
    # A later offer that passes keeps the roles (RFC 4028 7.4).
    answer = background(da.reinvite, direction="sendonly")
    seen = db.agent.expect("INVITE")
    assert seen.get("session-expires") == "900;refresher=uas"
    db.answer(seen, headers=["Session-Expires: 900;refresher=uas"])
    assert answer().status == 200 and answer().get("session-expires") == "1800;refresher=uas"
    hang_up(da, db)


def test_the_callee_wants_more(kedge, hosts, stage):
    """422: the INVITE is sent again with what it wants (RFC 4028 7.3); not for ever."""
    alice, bob = (stage.agent(hosts[i + 1], u, "pw-" + u, (kedge.host.addr, 5060)) for i, u in enumerate(USERS))
    assert alice.register().status == 200 and bob.register().status == 200
    da, db = Dialog(alice, stage.rtp(alice.host)), Dialog(bob, stage.rtp(bob.host))
    call = background(da.call, "bob")
    first = bob.expect("INVITE")
    bob.reply(first, 422, headers=["Min-SE: 3600"])
    second = bob.expect("INVITE")
    assert second.get("session-expires") == "3600" and second.get("min-se") == "3600"
    assert second.get("call-id") == first.get("call-id") and second.cseq[0] == first.cseq[0] + 1
    db.answer(second)
    assert call().status == 200
    hang_up(da, db)
    call = background(Dialog(alice, da.rtp).call, "bob")
    bob.reply(bob.expect("INVITE"), 422, headers=["Min-SE: 3600"])
    bob.reply(bob.expect("INVITE"), 422, headers=["Min-SE: 3600"])
    assert call().status == 500
    kedge.no_calls()


def test_an_offer_that_changes_nothing(pair, kedge):
    """Some phones refresh by the same re-INVITE again: the other side's session is another one (RFC 4028 7.4)."""
    da, db, _, _ = pair(["Session-Expires: 600;refresher=uac", TIMER], ["Session-Expires: 900;refresher=uac"])
    body = da.agent.sent.partition("\r\n\r\n")[2]
    for dialog, other in ((da, db), (db, da)):
        text = body if dialog is da else sdp(db.rtp.ip, db.rtp.port, version=db.version)
        first = dialog.reinvite(body=text)
        again = dialog.reinvite(body=text)
        assert first.status == again.status == 200 and first.body == again.body and first.body
        assert other.agent.quiet("INVITE", 0.2)
    assert da.rtp.got(time.monotonic(), 200) and db.rtp.got(time.monotonic(), 200)
    hang_up(da, db)


def test_over_a_minute(hosts, stage):
    """The shortest session there is, 90 s: refreshed by kedge after 45, given up after 60. Several calls at once."""
    kedge = stage.kedge(hosts[0], accounts={f"{u}{i}": "pw" for u in "ab" for i in range(6)},
                        config={"calls": {"session_expires": 0}})

    def call(i, a=(), b=()):
        agents = [stage.agent(hosts[k + 1], f"{u}{i}", "pw", (kedge.host.addr, 5060)) for k, u in enumerate("ab")]
        assert all(agent.register().status == 200 for agent in agents)
        da, db = (Dialog(agent, stage.rtp(agent.host)) for agent in agents)
        placed = background(da.call, f"b{i}", headers=list(a))
        invite = agents[1].expect("INVITE")
        assert not invite.get("session-expires"), "session_expires is 0"
        db.answer(invite, headers=list(b))
        assert placed().status == 200
        return da, db

    start, watch = time.monotonic(), Stopwatch()  # before the first of the calls; `made` is after the last one
    none = call(0)                                                                    # no timer at all
    forgets = call(1, ["Session-Expires: 90;refresher=uac", TIMER])                   # says it would, and does not
    by_update = call(2, ["Session-Expires: 90;refresher=uas", TIMER, KNOWS])
    by_invite = call(3, b=["Session-Expires: 90;refresher=uac", "Require: timer"])    # nobody asked; a UAS may even so
    keeps = call(4, ["Session-Expires: 90;refresher=uac", TIMER])
    dead = call(5, ["Session-Expires: 90;refresher=uas", TIMER, KNOWS])
    made = Stopwatch()

    until(lambda: time.monotonic() > start + 30, 40)
    answer = keeps[0].request("UPDATE", ["Session-Expires: 90;refresher=uac", TIMER])
    assert answer.status == 200 and answer.get("session-expires") == "90;refresher=uac"
    # kedge dies in between: the timers live on with the calls.
    pid = kedge.role("signalling")
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, pid), 30)
    kedge.ready()
    assert until(lambda: len(kedge.calls()) == 6, 30)

    update = by_update[0].agent.expect("UPDATE", 30)
    assert watch.real > 40 and made.fair < 50
    assert update.get("session-expires") == "90;refresher=uac" and not update.body
    by_update[0].agent.reply(update, 200, headers=["Session-Expires: 90;refresher=uac", "Require: timer"])
    invite = by_invite[1].agent.expect("INVITE", 20)
    assert invite.get("session-expires") == "90;refresher=uac" and invite.body
    by_invite[1].answer(invite, headers=["Session-Expires: 90;refresher=uac"])
    assert by_invite[0].agent.quiet("INVITE", 0.1) and by_update[1].agent.quiet("UPDATE", 0.1)

    dead[0].agent.close()
    bye = forgets[1].agent.expect("BYE", 25)
    assert watch.real > 56 and made.fair < 66
    assert "the caller's side no longer refreshed the session" in bye.get("reason")
    forgets[1].agent.reply(bye, 200)
    forgets[0].agent.reply(forgets[0].agent.expect("BYE"), 200)
    bye = dead[1].agent.expect("BYE", 30)
    dead[1].agent.reply(bye, 200)
    assert made.fair < 90
    until(lambda: time.monotonic() > start + 68, 20)
    assert until(lambda: len(kedge.calls()) <= 4) and len(kedge.calls()) == 4
    for da, db in (none, by_update, by_invite, keeps):
        hang_up(da, db)


class Challenging:
    """A PBX, with kedge in front of it, that wants a password for everything in a dialog, and its calls."""

    def __init__(self, stage, host, behind, phones, port, knows):
        self.stage, self.phones = stage, phones
        self.pbx = stage.agent(behind, "pbx", domain="pbx.test", port=port)
        self.kedge = stage.kedge(host, f"kedge{port}", config={"pbx": [f"udp:{self.pbx.at}"], "pbx_probe": 0, "calls": {"session_expires": 90}})
        self.headers = ["Session-Expires: 90;refresher=uac", "Require: timer", *knows]
        self.talks = []

    def call(self):
        """Returns what kedge asks of the PBX."""
        phone = self.stage.agent(self.phones, f"p{len(self.talks)}", "", (self.kedge.host.addr, 5060), "pbx.test")
        a, b = Dialog(phone, self.stage.rtp(phone.host)), Dialog(self.pbx, self.stage.rtp(self.pbx.host))
        placed = background(a.call, "1234", headers=["Session-Expires: 1800;refresher=uac", TIMER])
        invite = self.pbx.expect("INVITE")
        b.answer(invite, headers=self.headers)
        assert placed().status == 200
        self.talks.append(a)
        return invite.get("session-expires")

    def finish(self):
        for a in self.talks:
            over = background(a.bye)
            self.pbx.reply(self.pbx.expect("BYE"), 200)
            assert over().status == 200
        self.kedge.no_calls()


def test_a_pbx_that_challenges_a_refresh(hosts, stage):
    """Only the phone has the password. The call goes on without a timer, and so do those that come."""
    one, pbx, two = hosts
    worlds = {"UPDATE": Challenging(stage, one, pbx, two, 5060, [KNOWS]), "INVITE": Challenging(stage, two, pbx, one, 5062, [])}
    for world in worlds.values():
        assert world.call() == "90"
    for method, world in worlds.items():
        request = world.pbx.expect(method, 60)
        world.pbx.reply(request, 407, headers=['Proxy-Authenticate: Digest realm="pbx.test", nonce="1", qop="auth"'])
        assert until(lambda: all(c["legs"][1]["session_ends"] is None for c in world.kedge.calls())), world.kedge.calls()
        assert world.kedge.log().count("wants a password (407)") == 1
        assert not world.call() and len(world.kedge.calls()) == 2
        world.finish()
