"""Late offer (RFC 3261 13.2.1) and third party call control (RFC 3725): an INVITE or re-INVITE without SDP is asked on, the offer
comes in the 2xx, the answer in the ACK. Checked with media, for phones with and without ICE, over UDP, TCP and TLS."""
import os
import re
import signal
import time

import pytest

from interop.agent import Dialog
from interop.hosts import background, until
from interop.icestun import IceRtp
from interop.linphone import Linphone
from interop.phone import Phone
from interop.sipcall import TRANSPORTS, hang_up, lines, listen, listeners, registered
from interop.sipp import Sipp, from_caller, invite, pause, recv, reply, send
from interop.sipp import sdp as sipp_sdp

USERS = ("alice", "bob")


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two", "elsewhere")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], config={"sip": {"listen": listeners(hosts[0])}}, accounts={u: "pw-" + u for u in USERS})


@pytest.fixture
def ends(kedge, hosts, stage):
    """alice's and bob's dialogs, registered; ice: who of the two does ICE."""
    def make(transport="udp", ice=(False, False)):
        made = []
        for i, agent in enumerate(registered(stage, kedge, hosts[1:], USERS, transport)):
            rtp = stage.add(IceRtp(agent.host, hz=400 + 300 * i, controlling=i == 1)) if ice[i] else stage.rtp(agent.host, hz=400 + 300 * i)
            made.append(Dialog(agent, rtp))
        return made
    return make


def accept(dialog, offer):
    """The ACK of a 2xx with an offer."""
    dialog.ok, dialog.cseq = offer, offer.cseq[0]
    dialog.request("ACK", body=lines(dialog), send_only=True, cseq=offer.cseq[0])
    listen(dialog, offer)


def late_call(a, b, **kw):
    """a calls b without SDP; b's 200 has the offer. Returns a's 200 and the ACK that b got."""
    placed = background(a.call, b.agent.user, body="", ack=False, **kw)
    request = b.agent.expect("INVITE")
    assert not request.body and not request.get("content-type"), request.body
    b.agent.reply(request, 180)
    b.answer(request, body=lines(b), ack=False)
    ok = placed()
    assert ok.status == 200 and ok.get("content-type") == "application/sdp", ok
    assert b.agent.quiet("ACK", 0.2), "its ACK has the answer, which is not known yet"
    accept(a, ok)
    ack = b.agent.expect("ACK")
    assert ack.get("content-type") == "application/sdp"
    listen(b, ack)
    return ok, ack


def hear_each_other(a, b):
    since = time.monotonic()
    for dialog in (a, b):
        assert dialog.rtp.got(since, ms=200, timeout=20), f"{dialog.agent.user} hears nothing"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_late_offer(ends, kedge, transport):
    a, b = ends(transport)
    ok, ack = late_call(a, b)
    assert b.agent.ip not in ok.body and ok.media()[0] == kedge.host.addr
    assert a.agent.ip not in ack.body and ack.media()[0] == kedge.host.addr
    hear_each_other(a, b)
    hang_up(a, b, kedge)


def test_an_overheard_late_offer(ends, kedge, hosts, stage):
    """The answer in an ACK from where the phone is not, with the tags and the branch of the phone's own: it would lead the media away.
    It is not believed, and ends the call."""
    a, b = ends()
    placed = background(a.call, "bob", body="", ack=False)
    request = b.agent.expect("INVITE")
    b.answer(request, body=lines(b), ack=False)
    ok = placed()
    thief = stage.agent(hosts[3], "alice", "guessed", (kedge.host.addr, 5060), "kedge.test")
    copy = Dialog(thief, stage.rtp(hosts[3]))
    copy.call_id, copy.local, copy.remote, copy.target, copy.routes = a.call_id, a.local, a.remote, a.target, a.routes
    since = time.monotonic()
    accept(copy, ok)
    ack = b.agent.expect("ACK")
    assert hosts[3].addr not in ack.body
    bye = b.agent.expect("BYE")
    b.agent.reply(bye, 200)
    a.agent.reply(a.agent.expect("BYE"), 200)
    assert "not believed" in kedge.log() and not copy.rtp.got(since, ms=20, timeout=0.3)
    kedge.no_calls()


@pytest.mark.parametrize("ice", ((True, False), (False, True), (True, True)), ids=("caller", "callee", "both"))
def test_late_offer_with_ice(ends, kedge, ice):
    """The callee is the offerer: what it says of ICE decides first."""
    a, b = ends(ice=ice)
    ok, ack = late_call(a, b)
    assert ("a=ice-ufrag" in ok.body) and ("a=ice-ufrag" in ack.body) == ice[1]
    if all(ice):
        assert f"a=ice-ufrag:{b.rtp.ufrag}" in ok.body and f"a=ice-ufrag:{a.rtp.ufrag}" in ack.body
    hear_each_other(a, b)
    path = "direct" if all(ice) else "anchored"
    assert until(lambda: kedge.calls()[0]["path"] == path), kedge.calls()
    hang_up(b, a, kedge)


@pytest.mark.parametrize("sender", (0, 1))
@pytest.mark.parametrize("ice", ((False, False), (True, True)), ids=("plain", "ice"))
def test_reinvite_without_sdp(ends, kedge, sender, ice):
    """As PBXes send it for a transfer or to take a call from hold: the other side makes the offer."""
    both = ends(ice=ice)
    late_call(*both)
    here, there = both[sender], both[1 - sender]
    if sender:
        here.cseq = 10
    again = background(here.request, "INVITE")
    request = there.agent.expect("INVITE")
    assert not request.body and "tag=" in request.get("to")
    there.agent.reply(request, 200, lines(there, direction="sendonly"))
    ok = again()
    assert ok.status == 200 and "a=sendonly" in ok.body
    here.request("ACK", body=lines(here, direction="recvonly"), send_only=True, cseq=ok.cseq[0])
    ack = there.agent.expect("ACK")
    assert "a=recvonly" in ack.body and ack.cseq[0] == request.cseq[0]
    # and the call is free for the next change, from the other side
    if not sender:
        there.cseq = 10
    answer = background(there.reinvite, body=lines(there))
    offer = here.agent.expect("INVITE")
    assert "a=sendrecv" in offer.body
    here.agent.reply(offer, 200, lines(here))
    assert answer().status == 200
    here.agent.expect("ACK")
    hear_each_other(*both)
    hang_up(here, there, kedge)


def test_an_ack_without_answer_ends_the_call(ends, kedge):
    a, b = ends()
    placed = background(a.call, "bob", body="", ack=False)
    b.answer(b.agent.expect("INVITE"), ack=False)
    a.ok = placed()
    a.ack()
    ack = b.agent.expect("ACK")
    assert re.search(r"^m=audio 0 ", ack.body, re.M), "every line is rejected"
    for dialog in (a, b):
        bye = dialog.agent.expect("BYE")
        dialog.agent.reply(bye, 200)
        assert "no answer" in bye.get("reason"), bye.get("reason")
    kedge.no_calls()


def test_an_ack_with_an_unfit_answer_ends_the_call(ends, kedge):
    a, b = ends()
    placed = background(a.call, "bob", body="", ack=False)
    b.answer(b.agent.expect("INVITE"), ack=False)
    a.ok = placed()
    a.request("ACK", body=a.body() + "m=video 4000 RTP/AVP 31\r\n", send_only=True, cseq=a.cseq)
    assert "m=audio 0 " in b.agent.expect("ACK").body
    for dialog in (a, b):
        dialog.agent.reply(dialog.agent.expect("BYE"), 200)
    kedge.no_calls()


def test_a_caller_that_never_acknowledges(ends, kedge):
    """The callee waits with its 200 no longer than kedge lets it; the caller gets BYE when its ACK comes after all."""
    a, b = ends()
    placed = background(a.call, "bob", body="", ack=False)
    b.answer(b.agent.expect("INVITE"), ack=False)
    ok = placed()
    ack = b.agent.expect("ACK", 25)
    assert "m=audio 0 " in ack.body
    b.agent.reply(b.agent.expect("BYE"), 200)
    accept(a, ok)
    a.agent.reply(a.agent.expect("BYE"), 200)
    kedge.no_calls()


def test_a_refused_reinvite_without_sdp_changes_nothing(ends, kedge):
    a, b = ends()
    late_call(a, b)
    again = background(a.request, "INVITE")
    b.agent.reply(b.agent.expect("INVITE"), 491)
    assert again().status == 491
    a.agent._ack_refusal(a.sent, again())
    hear_each_other(a, b)
    hang_up(a, b, kedge)


def test_cancelled_before_the_offer(ends, kedge):
    a, b = ends()
    placed = background(a.call, "bob", body="", ack=False)
    request = b.agent.expect("INVITE")
    b.agent.reply(request, 180)
    assert until(lambda: a.agent.log[-1].status == 180, 20)
    invite_ = [m for m in a.agent.log if m.status == 180][-1]
    text = "\r\n".join([f"CANCEL sip:bob@{a.agent.domain} SIP/2.0", "Via: " + invite_.get("via"), "Max-Forwards: 70",
                        "From: " + invite_.get("from"), f"To: <sip:bob@{a.agent.domain}>", "Call-ID: " + invite_.get("call-id"),
                        f"CSeq: {invite_.cseq[0]} CANCEL", "Content-Length: 0", "", ""])
    a.agent.send(text)
    b.agent.reply(b.agent.expect("CANCEL"), 200)
    b.agent.reply(request, 487)
    assert placed().status == 487
    kedge.no_calls()


def test_signalling_dies_in_talk(ends, kedge):
    """What was agreed in an ACK survives as well."""
    a, b = ends()
    late_call(a, b)
    hear_each_other(a, b)
    old = kedge.role("signalling")
    os.kill(old, signal.SIGKILL)
    assert until(lambda: kedge.role("signalling") not in (None, old), 20)
    kedge.ready()
    hear_each_other(a, b)
    again = background(a.request, "INVITE")
    request = b.agent.expect("INVITE")
    b.agent.reply(request, 200, b.body())
    ok = again()
    assert ok.status == 200
    a.request("ACK", body=a.body(), send_only=True, cseq=ok.cseq[0])
    assert b.agent.expect("ACK").body
    hang_up(a, b, kedge)


# SIPp on both sides, kedge in front of a PBX


@pytest.fixture
def trunk(hosts, stage, tmp_path):
    kedge = stage.kedge(hosts[0], name="trunk", config={"pbx": [f"udp:{hosts[2].addr}:5060"], "pbx_probe": 0, "limits": {"unregistered_calls": 100000}})
    tool = stage.add(Sipp(tmp_path))
    return kedge, lambda caller, callee, **kw: tool.run(hosts[1], hosts[2], f"{kedge.host.addr}:5060", caller, callee, **kw)


def test_many_late_offers(trunk):
    """The first pause is longer than what kedge waits for an ACK: SIPp takes a 200 that comes again for the answer to its re-INVITE."""
    kedge, run = trunk
    caller = [invite(""), recv("100", optional="true"), recv("180", optional="true"), recv("200", rrs="true"),
              from_caller("ACK", 1, sipp_sdp(port=20002)), pause(1000), from_caller("INVITE", 2, ""), recv("100", optional="true"),
              recv("200", rrs="true"), from_caller("ACK", 2, sipp_sdp(port=20002, version=1)), pause(100),
              from_caller("BYE", 3), recv("200")]
    callee = [recv("INVITE", rrs="true"), reply("180"), reply("200", sipp_sdp(), retrans="500"), recv("ACK"),
              recv("INVITE"), send("SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
                                   "Contact: <sip:callee@[local_ip]:[local_port]>\n\n" + sipp_sdp(version=1), retrans="500"),
              recv("ACK"), recv("BYE"), send("SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\n")]
    run(caller, callee, calls=50, rate=25)
    kedge.no_calls()


# Real phones make the offer


def softphone(stage, host, kedge, kind, ice):
    options = {"password": "pw-bob", "domain": "kedge.test", "ice": ice}
    make = Phone if kind == "baresip" else Linphone
    made = stage.add(make(stage.folder / kind, "bob", f"{kedge.host.addr}:5060", 700, host, **options)).start()
    made.registered()
    return made


@pytest.mark.parametrize("ice", (False, True), ids=("plain", "ice"))
@pytest.mark.parametrize("kind", ("baresip", "linphone"))
def test_a_phone_makes_the_offer(kedge, hosts, stage, kind, ice):
    """Called without SDP, and again in talk, as a PBX does it that connects two parties itself."""
    agent = stage.agent(hosts[1], "alice", "pw-alice", (kedge.host.addr, 5060))
    assert agent.register().status == 200
    phone = softphone(stage, hosts[2], kedge, kind, ice)
    a = Dialog(agent, stage.rtp(agent.host, hz=400))
    ok = a.call("bob", body="", ack=False)
    assert ok.status == 200 and ok.media()[0] == kedge.host.addr and (ice or hosts[2].addr not in ok.body)
    accept(a, ok)
    assert phone.hears(400) and a.rtp.got(ms=200)
    again = a.request("INVITE")
    assert again.status == 200 and again.media()
    a.request("ACK", body=lines(a), send_only=True, cseq=again.cseq[0])
    since = time.monotonic()
    assert a.rtp.got(since, ms=400, timeout=8)
    assert kedge.calls() and a.bye().status == 200
    kedge.no_calls()
