"""Reliable provisional responses (RFC 3262), on either leg alone: who wants them from kedge, who sends them to it, loss, repetition,
gaps and silence. The other leg knows nothing of it."""
import re
import time

import pytest

from interop.agent import Dialog, token
from interop.hosts import background, until
from interop.icestun import IceRtp
from interop.sipcall import TRANSPORTS, hang_up, lines, listen, listeners, registered
from interop.sipp import Sipp, from_caller, invite, maybe, pause, recv, recv_invite, reply, reply_again, reply_invite_late
from interop.sipp import sdp as sipp_sdp

USERS = ("alice", "bob")
SUPPORTED, REQUIRED = ["Supported: 100rel"], ["Require: 100rel"]


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "one", "two")]


@pytest.fixture
def kedge(hosts, stage):
    return stage.kedge(hosts[0], config={"sip": {"listen": listeners(hosts[0])}}, accounts={u: "pw-" + u for u in USERS})


class Call:
    """alice's INVITE has reached bob. alice PRACKs what is reliable, unless told otherwise."""

    def __init__(self, stage, hosts, kedge, headers=(), transport="udp", body=None, ice=False):
        self.kedge = kedge
        ends = []
        for i, agent in enumerate(registered(stage, kedge, hosts[1:], USERS, transport)):
            ends.append(Dialog(agent, stage.add(IceRtp(agent.host, controlling=i == 1)) if ice else stage.rtp(agent.host)))
        self.a, self.b = ends
        self.said = []
        self.placed = background(self.a.call, "bob", headers=list(headers), provisional=self.said, body=body, timeout=60)
        self.invite = self.b.agent.expect("INVITE")

    def bob(self, status, rseq=None, body="", **kw):
        headers = [f"RSeq: {rseq}", "Require: 100rel"] if rseq else []
        return self.b.agent.reply(self.invite, status, body, headers, **kw)

    def heard(self, status, count=1):
        """alice's provisional response with this status."""
        assert until(lambda: len(self.of(status)) >= count, 20), f"no {status}: {self.said}"
        return self.of(status)[count - 1]

    def of(self, status):
        return [m for m in self.said if m.status == status]

    def prack(self, response, body="", rack=None, headers=(), timeout=8):
        """alice's PRACK; returns the answer."""
        a = self.a
        a.local, a.remote, a.target = response.get("from"), response.get("to"), response.contact()
        a.cseq = max(a.cseq, response.cseq[0])
        return a.request("PRACK", [f"RAck: {rack or response.get('rseq')} {response.cseq[0]} INVITE", *headers], body, timeout=timeout)

    def answer(self):
        self.b.answer(self.invite)
        ok = self.placed()
        assert ok is not None and ok.status == 200, ok
        return ok

    def end(self):
        self.a.cseq = max(self.a.cseq, 50)
        hang_up(self.a, self.b, self.kedge)


@pytest.fixture
def ring(stage, hosts, kedge):
    return lambda *args, **kw: Call(stage, hosts, kedge, *args, **kw)


def is_reliable(message):
    return bool(message.get("rseq")) and "100rel" in message.get("require")


# Toward the caller


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_caller_that_supports_it(ring, transport):
    """What carries SDP comes reliably, again and again until PRACK; a plain 180 does not."""
    call = ring(SUPPORTED, transport)
    assert "100rel" in call.invite.get("supported")
    call.bob(180)
    assert not is_reliable(call.heard(180))
    call.bob(183, body=call.b.body())
    first = call.heard(183)
    assert is_reliable(first) and first.media()[0] == call.kedge.host.addr
    again = call.heard(183, 3)
    assert again.get("rseq") == first.get("rseq") and again.body == first.body
    # not all at once; what came while this machine stood still was read at one time
    assert until(lambda: any(b.at - a.at > 0.4 for a, b in zip(call.of(183), call.of(183)[1:])), 12), [m.at for m in call.of(183)]
    assert call.prack(first).status == 200

    def copies():  # of the log, for the other thread may not have taken the last one yet
        return sum(m.status == 183 for m in call.a.agent.log)
    count = copies()
    assert not until(lambda: copies() != count, 2.2), "it goes on after PRACK"
    assert call.b.agent.quiet("PRACK", 0.1), "the callee has nothing to do with it"
    call.answer()
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100)
    call.end()


def test_a_caller_that_requires_it(ring):
    """Each 18x, one after the other, with rising RSeq; what comes in between is held, and so is the 200."""
    call = ring(REQUIRED)
    call.bob(180)
    first = call.heard(180)
    assert is_reliable(first) and not first.body
    call.bob(181)
    call.bob(183, body=call.b.body())
    time.sleep(0.7)
    assert not call.of(181) and not call.of(183)
    assert call.prack(first).status == 200
    second = call.heard(183)
    assert int(second.get("rseq")) == int(first.get("rseq")) + 1 and second.media() and not call.of(181)
    call.b.answer(call.invite)
    time.sleep(0.3)
    assert call.a.ok is None, "the 200 waits for PRACK (RFC 3262 3)"
    assert call.prack(second).status == 200
    assert call.placed().status == 200
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100)
    call.end()


def test_a_caller_that_never_pracks(ring):
    """RFC 3262 3: 5xx after 64*T1; the callee's phone stops ringing."""
    call = ring(REQUIRED)
    call.bob(180)
    first = call.heard(180)
    cancel = call.b.agent.expect("CANCEL", 40)
    assert time.monotonic() - first.at > 25
    call.b.agent.reply(cancel, 200)
    call.bob(487)
    assert call.placed().status == 504
    call.kedge.no_calls()


def test_a_caller_that_cancels_instead(ring):
    call = ring(REQUIRED)
    call.bob(183, body=call.b.body())
    first = call.heard(183)
    call.b.answer(call.invite)  # held
    a = call.a
    text = "\r\n".join([f"CANCEL sip:bob@{a.agent.domain} SIP/2.0", "Via: " + first.get("via"), "Max-Forwards: 70",
                        "From: " + first.get("from"), f"To: <sip:bob@{a.agent.domain}>", "Call-ID: " + first.get("call-id"),
                        f"CSeq: {first.cseq[0]} CANCEL", "Content-Length: 0", "", ""])
    a.agent.send(text)
    call.b.agent.reply(call.b.agent.expect("BYE"), 200)
    assert call.placed().status == 487
    call.kedge.no_calls()


def test_pracks_of_nothing(ring):
    call = ring(REQUIRED)
    call.bob(180)
    first = call.heard(180)
    assert call.prack(first, rack="1").status == 481
    assert call.prack(first, rack=str(int(first.get("rseq")) + 1)).status == 481
    assert call.prack(first).status == 200
    assert call.prack(first).status == 481, "once is enough; a retransmission has the CSeq of the first"
    call.answer()
    call.end()


def test_an_offer_in_prack_that_cannot_pass(ring):
    """The callee's 18x was not reliable: it has no early dialog with an answer that could be changed. The call goes on."""
    call = ring(REQUIRED)
    call.bob(183, body=call.b.body())
    assert call.prack(call.heard(183), call.a.body(codecs=(8,))).status == 488
    call.answer()
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100)
    call.end()


def test_never_is_for_who_insists(hosts, stage):
    kedge = stage.kedge(hosts[0], config={"calls": {"reliable": "never"}}, accounts={u: "pw-" + u for u in USERS})
    call = Call(stage, hosts, kedge, SUPPORTED)
    assert "100rel" not in call.invite.get("supported")
    call.bob(183, body=call.b.body())
    assert not is_reliable(call.heard(183))
    call.answer()
    call.end()


# From the callee


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_callee_that_sends_them(ring, transport):
    """Each is PRACKed once, in its early dialog; the caller, who knows nothing of it, gets each once."""
    call = ring((), transport)
    tag, numbers = token(), []
    for rseq, (status, body) in enumerate(((180, ""), (183, call.b.body()), (180, "")), 7):
        for _ in range(3):  # it sends again until PRACK, and this one is impatient
            call.bob(status, rseq, body, tag=tag)
        prack = call.b.agent.expect("PRACK")
        assert prack.get("rack") == f"{rseq} {call.invite.cseq[0]} INVITE" and prack.tag("to") == tag
        assert prack.tag("from") == call.invite.tag("from") and prack.get("call-id") == call.invite.get("call-id")
        assert prack.uri == call.b.agent.contact.strip("<>") and not prack.body
        numbers.append(prack.cseq[0])
        call.b.agent.reply(prack, 200)
    assert numbers == sorted(set(numbers)) and numbers[0] > call.invite.cseq[0]
    assert until(lambda: len([m for m in call.said if m.status > 100]) >= 3, 20)
    assert call.b.agent.quiet("PRACK", 0.7)
    assert [m.status for m in call.said if m.status > 100] == [180, 183, 180] and not any(map(is_reliable, call.said))
    call.answer()
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100)
    call.end()


def test_ringing_right_behind_early_media(ring):
    """The engine takes a moment for the 183's description: the 180 does not overtake it."""
    call = ring()
    tag = token()
    for _ in range(5):
        count = len(call.of(180))
        call.bob(183, body=call.b.body(), tag=tag)
        call.bob(180, tag=tag)
        call.heard(180, count + 1)
    said = [m.status for m in call.said if m.status > 100]
    assert said[0] == 183 and said[-1] == 180 and (180, 180) not in zip(said, said[1:]), said
    call.answer()
    call.end()


def test_gaps_are_not_acknowledged(ring):
    """RFC 3262 4: what does not follow the one before is neither PRACKed nor used."""
    call = ring()
    tag = token()
    call.bob(180, 100, tag=tag)
    call.b.agent.reply(call.b.agent.expect("PRACK"), 200)
    call.bob(182, 102, tag=tag)
    call.bob(181, 99, tag=tag)
    assert call.b.agent.quiet("PRACK", 0.7) and not call.of(182) and not call.of(181)
    call.bob(183, 101, call.b.body(), tag=tag)
    call.b.agent.reply(call.b.agent.expect("PRACK"), 200)
    assert call.heard(183).media()
    call.answer()
    call.end()


def test_each_fork_of_the_callee_counts_for_itself(hosts, stage):
    kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[2].addr}:5060"]})
    caller = stage.agent(hosts[1], "caller", "", (kedge.host.addr, 5060))
    pbx = stage.agent(hosts[2], "callee", "", (kedge.host.addr, 5060), port=5060)
    a, b = Dialog(caller, stage.rtp(caller.host)), Dialog(pbx, stage.rtp(pbx.host))
    placed = background(a.call, "someone")
    request = pbx.expect("INVITE")
    for tag, rseq in (("one", 50), ("two", 900), ("one", 51), ("two", 901)):
        routes = [f"Record-Route: <sip:{pbx.at};lr;n=1>", f"Record-Route: <sip:192.0.2.9;lr;n=2;t={tag}>"]
        pbx.reply(request, 183, b.body(), [f"RSeq: {rseq}", "Require: 100rel", *routes], tag=tag)
        prack = pbx.expect("PRACK")
        assert prack.tag("to") == tag and prack.get("rack").startswith(f"{rseq} ")
        assert [r.partition("n=")[2][0] for r in prack.all("route")] == ["2", "1"], prack.all("route")
        pbx.reply(prack, 200)
    request.our_tag = "two"
    b.answer(request)
    assert placed().status == 200
    a.bye_ = background(a.bye)
    bye = pbx.expect("BYE")
    assert bye.tag("to") == "two" and bye.cseq[0] > 4, "the numbers go on after the PRACKs"
    pbx.reply(bye, 200)
    assert a.bye_().status == 200
    kedge.no_calls()


def test_both_legs_at_once(ring):
    call = ring(REQUIRED)
    tag = token()
    call.bob(183, 1, call.b.body(), tag=tag)
    call.b.agent.reply(call.b.agent.expect("PRACK"), 200)
    assert call.prack(call.heard(183)).status == 200
    assert call.b.agent.quiet("PRACK", 0.3)
    call.answer()
    call.end()


def test_a_late_offer_waits_for_the_2xx(ring):
    """A reliable 18x would bring the offer, and the answer would be due in PRACK, which this caller does not know."""
    call = ring(body="")
    assert "100rel" not in call.invite.get("supported") and not call.invite.body
    call.bob(180)
    call.b.answer(call.invite, ack=False)
    ok = call.placed()
    assert ok.status == 200 and ok.media()
    assert re.search("^m=audio 0", call.b.agent.expect("ACK").body, re.M)
    for dialog in (call.b, call.a):
        dialog.agent.reply(dialog.agent.expect("BYE"), 200)
    call.kedge.no_calls()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("repeats", (False, True), ids=("", "repeated"))
def test_a_late_offer_in_a_reliable_183(ring, transport, repeats):
    """The offer in 183, the answer in PRACK: early media before anybody answers. The 200 says nothing more to the caller."""
    call = ring(SUPPORTED, transport, body="")
    assert "100rel" in call.invite.get("supported") and not call.invite.body
    tag = token()
    call.bob(183, 30, call.b.body(), tag=tag)
    offer = call.heard(183)
    assert is_reliable(offer) and offer.media()[0] == call.kedge.host.addr
    assert call.b.agent.quiet("PRACK", 0.3), "its PRACK has the answer, which is not known yet"
    assert call.prack(offer, call.a.body()).status == 200
    prack = call.b.agent.expect("PRACK")
    assert prack.get("rack").startswith("30 ") and prack.media()[0] == call.kedge.host.addr and call.a.agent.ip not in prack.body
    call.b.agent.reply(prack, 200)
    call.a.rtp.to, call.b.rtp.to = offer.media(), prack.media()
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100), "no early media"
    call.bob(200, body=call.b.body() if repeats else "", tag=tag)
    ok = call.placed()
    assert ok.status == 200 and not ok.body, ok.body
    assert not call.b.agent.expect("ACK").body
    since = time.monotonic()
    assert call.a.rtp.got(since, ms=200) and call.b.rtp.got(since, ms=200)
    assert call.kedge.calls()[0]["state"] == "talk"
    call.a.cseq = 60
    again = background(call.a.reinvite)
    request = call.b.agent.expect("INVITE")
    call.b.agent.reply(request, 200, call.b.body())
    assert again().status == 200
    call.b.agent.expect("ACK")
    call.end()


def test_a_late_offer_with_ice_in_a_reliable_183(ring):
    """Steered before the answer, and still after it."""
    call = ring(SUPPORTED, body="", ice=True)
    tag = token()
    call.bob(183, 30, lines(call.b), tag=tag)
    offer = call.heard(183)
    assert f"a=ice-ufrag:{call.b.rtp.ufrag}" in offer.body
    assert call.prack(offer, lines(call.a)).status == 200
    prack = call.b.agent.expect("PRACK")
    assert f"a=ice-ufrag:{call.a.rtp.ufrag}" in prack.body
    call.b.agent.reply(prack, 200)
    listen(call.a, offer)
    listen(call.b, prack)
    assert call.a.rtp.got(ms=100) and call.b.rtp.got(ms=100), "no early media"
    call.bob(200, tag=tag)
    assert call.placed().status == 200
    call.b.agent.expect("ACK")
    since = time.monotonic()
    assert call.a.rtp.got(since, ms=200) and call.b.rtp.got(since, ms=200)
    assert until(lambda: call.kedge.calls()[0]["path"] == "direct")
    call.end()


def test_a_late_offer_in_183_that_is_not_answered(ring):
    call = ring(REQUIRED, body="")
    call.bob(183, 30, call.b.body())
    assert call.prack(call.heard(183)).status == 200
    call.b.agent.reply(call.b.agent.expect("CANCEL"), 200)
    call.bob(487)
    assert call.placed().status == 488
    call.kedge.no_calls()


def test_signalling_of_a_callee_that_vanishes(ring):
    """Its PRACK finds nobody: the INVITE's own time decides, and nothing is left over."""
    call = ring()
    call.bob(180, 5)
    assert call.heard(180)
    call.b.agent.expect("PRACK")
    call.bob(486)
    assert call.placed().status == 486
    call.kedge.no_calls()


@pytest.mark.parametrize("transport", ("tcp", "tls"))
def test_a_caller_whose_connection_breaks_before_prack(ring, stage, hosts, transport):
    """The call ends as any that rings does; its PRACK from elsewhere is about nothing, and kedge is there still."""
    call = ring(REQUIRED, transport)
    call.bob(183, body=call.b.body())
    call.bob(180)
    first = call.heard(183)
    before = call.a.agent
    before.close()
    call.b.agent.reply(call.b.agent.expect("CANCEL"), 200)
    call.bob(487)
    call.a.agent = stage.agent(hosts[1], "alice", "pw-alice", before.server, transport=transport)
    assert call.prack(first).status == 481
    call.kedge.no_calls()
    assert call.kedge.deaths() == 0


# Offers before the answer


KNOWS = ["Allow: INVITE, ACK, CANCEL, BYE, UPDATE, PRACK"]


@pytest.fixture
def settled(ring):
    """The first exchange is complete, by reliable responses on both legs; RTP flows. b: alice's and bob's headers."""
    def make(a=KNOWS, b=KNOWS, transport="udp"):
        call = ring([*SUPPORTED, *a], transport)
        call.tag = token()
        call.b.agent.reply(call.invite, 183, call.b.body(), ["RSeq: 1", "Require: 100rel", *b], tag=call.tag)
        call.b.agent.reply(call.b.agent.expect("PRACK"), 200)
        call.first = call.heard(183)
        assert call.prack(call.first).status == 200
        call.b.call_id, call.b.target = call.invite.get("call-id"), call.invite.contact()
        call.b.local, call.b.remote = call.invite.get("to") + ";tag=" + call.tag, call.invite.get("from")
        call.b.cseq = 100
        return call
    return make


def serve_update(dialog, **kw):
    request = dialog.agent.expect("UPDATE")
    dialog.agent.reply(request, 200, dialog.body(**kw))
    return request


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_update_before_the_answer(settled, transport):
    """Either way, as UPDATE in the early dialog; then the 200 without SDP means what was agreed last."""
    call = settled(transport=transport)
    answer = background(call.a.update, direction="sendonly")
    request = serve_update(call.b, direction="recvonly")
    assert "a=sendonly" in request.body and request.tag("to") == call.tag and call.a.agent.ip not in request.body
    assert request.uri == call.b.agent.contact.strip("<>")
    assert answer().status == 200 and "a=recvonly" in answer().body and call.b.agent.ip not in answer().body
    answer = background(call.b.update, codecs=(8,))
    request = serve_update(call.a, codecs=(8,))
    assert "RTP/AVP 8\r\n" in request.body and request.tag("from") == call.first.tag("to")
    assert answer().status == 200
    call.b.agent.reply(call.invite, 200, "", [], tag=call.tag)
    ok = call.placed()
    assert ok.status == 200 and "RTP/AVP 8\r\n" in ok.body and "a=sendrecv" in ok.body
    call.b.agent.expect("ACK")
    call.a.cseq = 60
    again = background(call.a.reinvite)
    request = call.b.agent.expect("INVITE")
    call.b.agent.reply(request, 200, call.b.body())
    assert again().status == 200
    call.b.agent.expect("ACK")
    call.end()


def test_an_offer_in_prack(settled):
    """It passes as UPDATE; its answer is in the 200 to PRACK."""
    call = settled()
    call.b.agent.reply(call.invite, 183, call.b.body(), ["RSeq: 2", "Require: 100rel"], tag=call.tag)
    call.b.agent.reply(call.b.agent.expect("PRACK"), 200)
    answer = background(call.prack, call.heard(183, 2), call.a.body(direction="sendonly"))
    request = serve_update(call.b, direction="recvonly")
    assert "a=sendonly" in request.body
    assert answer().status == 200 and "a=recvonly" in answer().body and answer().cseq[1] == "PRACK"
    call.bob(200, body=call.b.body(), tag=call.tag)
    assert call.placed().status == 200
    call.b.agent.expect("ACK")
    call.end()


def test_update_before_the_answer_that_is_refused(settled):
    call = settled()
    answer = background(call.a.update, codecs=(9,))
    call.b.agent.reply(call.b.agent.expect("UPDATE"), 488)
    assert answer().status == 488
    answer = background(call.a.update, direction="sendonly")
    serve_update(call.b, direction="recvonly")
    assert answer().status == 200
    call.bob(200, body=call.b.body(), tag=call.tag)
    assert call.placed().status == 200
    call.b.agent.expect("ACK")
    call.end()


def test_update_to_a_callee_that_knows_none(settled):
    call = settled(b=["Allow: INVITE, ACK, CANCEL, BYE, PRACK"])
    answer = call.a.update(direction="sendonly")
    assert answer.status == 488 and "before the call is answered" in answer.get("warning")
    assert call.b.agent.quiet("UPDATE", 0.2)
    call.bob(200, body=call.b.body(), tag=call.tag)
    assert call.placed().status == 200
    call.b.agent.expect("ACK")
    call.end()


def test_two_updates_meet_and_the_answer_comes_in_between(settled):
    call = settled()
    answer = background(call.a.update, direction="sendonly")
    request = call.b.agent.expect("UPDATE")
    assert call.b.update(direction="sendonly").status == 491
    call.a.version += 1
    second = call.a.update(direction="inactive")
    assert second.status == 500 and second.get("retry-after")
    call.bob(200, body=call.b.body(), tag=call.tag)
    assert answer().status == 500 and answer().get("retry-after")
    ok = call.placed()
    assert ok.status == 200 and "a=sendrecv" in ok.body
    call.b.agent.reply(request, 200, call.b.body(direction="recvonly"))
    call.b.agent.expect("ACK")
    call.end()


def test_update_before_the_first_exchange_is_complete(ring):
    """RFC 3311 5.1: a 183 that is not reliable completes nothing."""
    call = ring([*SUPPORTED, *KNOWS])
    call.b.agent.reply(call.invite, 183, call.b.body(), KNOWS)
    first = call.heard(183)
    assert call.prack(first).status == 200
    answer = call.a.update(direction="sendonly")
    assert answer.status == 500 and answer.get("retry-after")
    assert call.b.agent.quiet("UPDATE", 0.2)
    call.answer()
    call.end()


# SIPp


def test_many_on_both_legs(hosts, stage, tmp_path):
    """Both sides use it, each with kedge: the caller's numbers are kedge's, the callee's are its own."""
    kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[2].addr}:5060"], "pbx_probe": 0, "limits": {"unregistered_calls": 100000}})
    tool = stage.add(Sipp(tmp_path))
    rseq = '><action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" assign_to="via"/></action></recv>'
    caller = [invite().replace("CSeq: 1 INVITE\n", "CSeq: 1 INVITE\nRequire: 100rel\n"), maybe("100"),
              recv("183", rrs="true").replace("/>", rseq),
              from_caller("PRACK", 2).replace("CSeq: 2 PRACK\n", "CSeq: 2 PRACK\nRAck: [$via] 1 INVITE\n"),
              recv("200"), recv("200", rrs="true"), from_caller("ACK", 1), pause(50), from_caller("BYE", 3), recv("200")]
    callee = [recv_invite(), reply("183", sipp_sdp()).replace("[last_CSeq:]\n", "[last_CSeq:]\nRSeq: 17\nRequire: 100rel\n"),
              recv("PRACK"), reply_again("200"), pause(300), reply_invite_late("200"), recv("ACK"), recv("BYE"), reply_again("200")]
    tool.run(hosts[1], hosts[2], f"{kedge.host.addr}:5060", caller, callee, calls=50, rate=25)
    kedge.no_calls()
