"""Reliable provisional responses (RFC 3262) of a call that a PBX forks: an early dialog for each phone, with numbers of its own, in
either direction. INVITEs of a PBX that forks have one Call-ID, From tag and CSeq; what tells their PRACKs apart is the To tag."""
import time

import pytest

from interop.agent import Dialog, Message, token
from interop.hosts import background, until
from interop.pbx import Kamailio
from interop.sipcall import hang_up

KNOWS = ["Allow: INVITE, ACK, CANCEL, BYE, UPDATE, PRACK"]
REQUIRED = ["Require: 100rel", *KNOWS]
DOMAIN = "pbx.test"


@pytest.fixture(scope="module")
def hosts(lab):
    return [lab.public_host(n) for n in ("kedge", "pbx", "one", "two", "caller")]


def reliable(rseq):
    return [f"RSeq: {rseq}", "Require: 100rel", *KNOWS]


# From a PBX to phones behind kedge: two INVITEs, each with a call of its own


class Branch:
    """One of the INVITEs, as the PBX sees it, and the phone that it reaches. here: the PBX's dialog with kedge, there: the phone's."""

    def __init__(self, ring, phone, number):
        self.ring, self.phone = ring, phone
        self.here = Dialog(ring.pbx, ring.stage.rtp(ring.pbx.host, hz=400 + 200 * number))
        self.there = Dialog(phone, ring.stage.rtp(phone.host, hz=500 + 200 * number))
        self.branch = ring.cookie + token()

    def send(self, body):
        self.sent = self.ring.pbx.build("INVITE", self.phone.token, REQUIRED, body, call_id=self.ring.call_id, cseq=7, to=f"<sip:both@{DOMAIN}>",
                                        from_tag=self.ring.tag, branch=self.branch)
        self.ring.pbx.send(self.sent)
        self.invite = self.phone.expect("INVITE")

    def of(self, status):
        """What came with this status, without what came again."""
        mine = [m for m in self.ring.pbx.log if m.status == status and self.branch in m.get("via") and m.cseq[1] == "INVITE"]
        return list({m.get("rseq"): m for m in mine}.values())

    def heard(self, status, count=1):
        assert until(lambda: len(self.of(status)) >= count, 8), f"no {status}: {self.ring.pbx.log}"
        return self.of(status)[count - 1]

    def says(self, status, rseq=None, body=""):
        """The phone's response; reliable ones are PRACKed in their dialog."""
        sent = Message(self.phone.reply(self.invite, status, body, reliable(rseq) if rseq else KNOWS))
        self.there.call_id, self.there.target = sent.get("call-id"), self.invite.contact()
        self.there.local, self.there.remote = sent.get("to"), sent.get("from")
        if rseq:
            prack = self.phone.expect("PRACK")
            assert prack.get("rack") == f"{rseq} {self.invite.cseq[0]} INVITE" and prack.tag("to") == self.invite.our_tag
            self.phone.reply(prack, 200)

    def enter(self, response):
        here = self.here
        here.call_id, here.cseq = response.get("call-id"), max(here.cseq, response.cseq[0])
        here.local, here.remote, here.target = response.get("from"), response.get("to"), response.contact()

    def prack(self, response, body="", rack=None):
        self.enter(response)
        return self.here.request("PRACK", [f"RAck: {rack or response.get('rseq')} {response.cseq[0]} INVITE"], body)

    def answers(self, body=""):
        """The phone, up to the PBX's ACK and the phone's."""
        self.says(200, body=body)
        ok = self.heard(200)
        self.enter(ok)
        self.here.request("ACK", send_only=True, cseq=ok.cseq[0])
        self.phone.expect("ACK")
        for dialog, message in ((self.here, ok), (self.there, self.invite)):
            if not dialog.rtp.to:
                dialog._listen(message)

    def cancelled(self):
        """By the PBX, as it does where somebody else has answered."""
        text = "\r\n".join([f"CANCEL {self.phone.token} SIP/2.0", f"Via: SIP/2.0/UDP {self.ring.pbx.at};rport;branch={self.branch}",
                            "Max-Forwards: 70", "From: " + Message(self.sent).get("from"), f"To: <sip:both@{DOMAIN}>", "Call-ID: " + self.ring.call_id,
                            "CSeq: 7 CANCEL", "Content-Length: 0", "", ""])
        self.ring.pbx.send(text)
        self.phone.reply(self.phone.expect("CANCEL"), 200)
        self.phone.reply(self.invite, 487)
        gone = self.heard(487)
        assert gone.tag("to")
        self.ring.pbx.send("\r\n".join([f"ACK {self.phone.token} SIP/2.0", f"Via: SIP/2.0/UDP {self.ring.pbx.at};branch={self.branch}",
                                        "From: " + gone.get("from"), "To: " + gone.get("to"), "Call-ID: " + self.ring.call_id,
                                        "CSeq: 7 ACK", "Content-Length: 0", "", ""]))


class Ring:
    """A PBX, played by hand, that rings two phones behind kedge with one call, and requires 100rel."""

    def __init__(self, stage, hosts, offers=True, cookie="z9hG4bK"):
        self.stage, self.cookie = stage, cookie
        self.kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[1].addr}:5060"]})
        at = (self.kedge.host.addr, 5060)
        self.pbx = stage.agent(hosts[1], "both", "", at, DOMAIN, port=5060)
        self.call_id, self.tag = token(), token()
        self.branches = [Branch(self, self.phone(hosts[2 + i], user, at), i) for i, user in enumerate(("one", "two"))]
        for branch in self.branches:
            branch.send(self.branches[0].here.body() if offers else "")

    def phone(self, host, user, at):
        phone = self.stage.agent(host, user, "", at, DOMAIN)
        answer = background(phone.register)
        register = self.pbx.expect("REGISTER")
        self.pbx.reply(register, 200, headers=[f"Contact: <{register.contact()}>;expires=300"])
        assert answer().status == 200
        phone.token = register.contact()
        return phone


@pytest.mark.parametrize("order", ((0, 1), (1, 0)), ids=("first", "second"))
def test_each_phones_prack_is_its_own(stage, hosts, order):
    """Of each phone every 18x, one after the other; whoever is PRACKed first, and whoever answers."""
    ring = Ring(stage, hosts)
    one, two = (ring.branches[i] for i in order)
    for branch in (one, two):
        branch.says(180)
    first, other = one.heard(180), two.heard(180)
    assert first.tag("to") != other.tag("to") and first.get("rseq") and other.get("rseq")
    for branch in (one, two):
        branch.says(183, body=branch.there.body())
    assert two.prack(other).status == 200 and one.prack(first).status == 200
    assert one.prack(one.heard(183)).status == 200
    one.answers()
    assert two.prack(two.heard(183)).status == 200
    two.cancelled()
    assert one.here.rtp.got(ms=100) and one.there.rtp.got(ms=100)
    hang_up(one.here, one.there, ring.kedge)


def test_a_prack_with_the_number_of_the_other_phone(stage, hosts):
    """It is about nothing, and takes nothing from anybody; nor does an INVITE that comes again."""
    ring = Ring(stage, hosts)
    one, two = ring.branches
    for branch in (one, two):
        branch.says(180)
    first, other = one.heard(180), two.heard(180)
    assert one.prack(first, rack=other.get("rseq")).status == 481
    assert two.prack(other, rack=first.get("rseq")).status == 481
    ring.pbx.send(two.sent)
    assert two.prack(other).status == 200 and two.prack(other).status == 481
    assert one.prack(first).status == 200
    assert len(ring.kedge.calls()) == 2 and not one.of(482) and not two.of(482)
    two.answers(two.there.body())
    one.cancelled()
    hang_up(two.here, two.there, ring.kedge)


def test_a_branch_from_before_rfc_3261(stage, hosts):
    """Such an INVITE that comes again is told by its To tag, too (17.2.3), and so is its CANCEL."""
    ring = Ring(stage, hosts, cookie="old")
    for branch in ring.branches:
        branch.says(180)
        branch.heard(180)
        ring.pbx.send(branch.sent)
    assert all(branch.phone.quiet("INVITE", 0.3) for branch in ring.branches) and len(ring.kedge.calls()) == 2
    for branch in ring.branches:
        assert not branch.of(482)
        branch.cancelled()
    ring.kedge.no_calls()


@pytest.mark.parametrize("winner", (0, 1), ids=("updated", "other"))
def test_descriptions_in_each_early_dialog(stage, hosts, winner):
    """Reliable on both legs: each phone's description is final in its dialog, an UPDATE reaches that phone alone, and the 200 has none."""
    ring = Ring(stage, hosts)
    for number, branch in enumerate(ring.branches):
        branch.says(183, 40 + number, branch.there.body())
        early = branch.heard(183)
        assert early.get("rseq") and branch.prack(early).status == 200
        branch.there.rtp.to, branch.here.rtp.to = branch.invite.media(), early.media()
        assert branch.there.rtp.got(ms=100), "no early media"
    one, two = ring.branches
    answer = background(one.here.update, direction="sendonly")
    update = one.phone.expect("UPDATE")
    assert "a=sendonly" in update.body and update.tag("to") == one.invite.our_tag
    one.phone.reply(update, 200, one.there.body(direction="recvonly"))
    assert answer().status == 200 and "a=recvonly" in answer().body and two.phone.quiet("UPDATE", 0.2)
    wins, loses = ring.branches[winner], ring.branches[1 - winner]
    wins.answers()
    loses.cancelled()
    assert wins.there.rtp.got(time.monotonic(), 100)
    hang_up(wins.here, wins.there, ring.kedge)


def test_both_answer(stage, hosts):
    ring = Ring(stage, hosts)
    for branch in ring.branches:
        branch.says(180, 1)
        branch.heard(180)
        branch.phone.reply(branch.invite, 200, branch.there.body())
    for branch in reversed(ring.branches):
        assert not branch.of(200), "it waits for PRACK"
        assert branch.prack(branch.heard(180)).status == 200
        branch.answers(branch.there.body())
    one, two = ring.branches
    hang_up(two.here, two.there)
    hang_up(one.here, one.there, ring.kedge)


def test_late_offers_of_both_phones(stage, hosts):
    """Each offers in its reliable 183, and is answered in its PRACK."""
    ring = Ring(stage, hosts, offers=False)
    for branch in ring.branches:
        branch.phone.reply(branch.invite, 183, branch.there.body(), reliable(9))
    for branch in reversed(ring.branches):
        assert branch.phone.quiet("PRACK", 0.2), "its PRACK has the answer"
        offer = branch.heard(183)
        assert branch.prack(offer, branch.here.body()).status == 200
        prack = branch.phone.expect("PRACK")
        assert prack.media()[0] == ring.kedge.host.addr and prack.tag("to") == branch.invite.our_tag
        branch.phone.reply(prack, 200)
        branch.there.rtp.to, branch.here.rtp.to = prack.media(), offer.media()
        assert branch.there.rtp.got(ms=100) and branch.here.rtp.got(ms=100)
    one, two = ring.branches
    two.answers()
    one.cancelled()
    hang_up(two.here, two.there, ring.kedge)


# The same with Kamailio


def test_a_caller_beyond_a_pbx_that_forks(lab, stage, hosts):
    """Kamailio forks the INVITE of a phone of its own: each 18x comes in an early dialog, with the routes of it, and so goes its PRACK."""
    pbx_host = lab.public_host("kamailio")
    passwords = {user: "pw-" + user for user in ("caller", "both")}
    stage.add(Kamailio(stage.folder / "pbx", passwords, pbx_host)).start()
    kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{pbx_host.addr}:5060"]})
    caller = stage.agent(hosts[4], "caller", "pw-caller", (pbx_host.addr, 5060), DOMAIN)
    phones = [stage.agent(host, "both", "pw-both", (kedge.host.addr, 5060), DOMAIN) for host in hosts[2:4]]
    assert all(phone.register().status == 200 for phone in phones)
    call, said = Dialog(caller, stage.rtp(caller.host)), []
    placed = background(call.call, "both", headers=REQUIRED, provisional=said, timeout=20)
    ends = [Dialog(phone, stage.rtp(phone.host, hz=500 + 200 * i)) for i, phone in enumerate(phones)]
    invites = [phone.expect("INVITE") for phone in phones]
    for phone, invite, end in zip(phones, invites, ends):
        phone.reply(invite, 183, end.body())

    def early():
        return list({m.tag("to"): m for m in said if m.get("rseq")}.values())
    assert until(lambda: len(early()) == 2, 8), said
    for number, message in enumerate(reversed(early())):
        dialog = Dialog(caller)
        dialog.call_id, dialog.cseq = message.get("call-id"), message.cseq[0] + number
        dialog.local, dialog.remote, dialog.target = message.get("from"), message.get("to"), message.contact()
        dialog.routes = list(reversed(message.all("record-route")))
        assert dialog.routes and dialog.request("PRACK", [f"RAck: {message.get('rseq')} {message.cseq[0]} INVITE"]).status == 200
    ends[1].answer(invites[1])
    ok = placed()
    assert ok.status == 200 and ok.tag("to") in {m.tag("to") for m in early()}
    phones[0].reply(phones[0].expect("CANCEL"), 200)
    phones[0].reply(invites[0], 487)
    assert call.rtp.got(ms=100) and ends[1].rtp.got(ms=100)
    call.cseq += 10
    hang_up(call, ends[1], kedge)


# To a PBX that forks: one INVITE of kedge's, an early dialog for each phone behind the PBX


class Forked:
    """A call to a PBX, which answers in the name of several phones, each with a tag, a Contact and routes of its own, and codecs that tell
    whose description it is."""

    CODECS = {"one": (0,), "two": (8,)}

    def __init__(self, stage, hosts, headers):
        self.kedge = stage.kedge(hosts[0], config={"pbx": [f"udp:{hosts[1].addr}:5060"]})
        at = (self.kedge.host.addr, 5060)
        self.pbx = stage.agent(hosts[1], "pbx", "", at, port=5060)
        self.call = Dialog(stage.agent(hosts[4], "caller", "", at), stage.rtp(hosts[4]))
        self.phone = Dialog(self.pbx, stage.rtp(self.pbx.host))
        self.said = []
        self.placed = background(self.call.call, "someone", headers=headers, provisional=self.said, timeout=20)
        self.invite = self.pbx.expect("INVITE")

    def is_in(self, tag, request):
        return (request.tag("to") == tag and request.uri.startswith(f"sip:{tag}@")
                and [r.partition("n=")[2][:1] for r in request.all("route")] == ["2", "1"] and f"t={tag}" in request.get("route"))

    def says(self, tag, status, rseq=None, sdp=True):
        self.pbx.user = tag
        routes = ["Record-Route: <sip:192.0.2.9;lr;n=1>", f"Record-Route: <sip:{self.pbx.at};lr;n=2;t={tag}>"]
        body = self.phone.body(codecs=self.CODECS[tag]) if sdp else ""
        text = self.pbx.reply(self.invite, status, body, [*(reliable(rseq) if rseq else KNOWS), *routes], tag=tag)
        if rseq:
            prack = self.pbx.expect("PRACK")
            assert self.is_in(tag, prack) and prack.get("rack") == f"{rseq} {self.invite.cseq[0]} INVITE"
            self.pbx.reply(prack, 200)
        return Message(text)

    def heard(self, codec, count=1):
        """What the caller was told with this codec, and its PRACK, if it is reliable."""
        def found():
            return list({m.get("rseq"): m for m in self.said if f"RTP/AVP {codec}\r\n" in m.body}.values())
        assert until(lambda: len(found()) >= count, 8), self.said
        message, call = found()[count - 1], self.call
        call.local, call.remote, call.target, call.cseq = message.get("from"), message.get("to"), message.contact(), max(call.cseq, message.cseq[0])
        if message.get("rseq"):
            assert call.request("PRACK", [f"RAck: {message.get('rseq')} {message.cseq[0]} INVITE"]).status == 200
        return message

    def rings(self):
        """The caller was told so, and has PRACKed it, if it is reliable."""
        ringing = until(lambda: next((m for m in self.said if m.status == 180), None), 8)
        if ringing.get("rseq"):
            assert self.call.request("PRACK", [f"RAck: {ringing.get('rseq')} {ringing.cseq[0]} INVITE"]).status == 200

    def update(self, tag):
        """The caller's, which has to come to this phone."""
        answer = background(self.call.update, direction="sendonly")
        update = self.pbx.expect("UPDATE")
        assert self.is_in(tag, update) and "a=sendonly" in update.body
        self.pbx.reply(update, 200, self.phone.body(codecs=self.CODECS[tag], direction="recvonly"))
        assert answer().status == 200 and "a=recvonly" in answer().body

    def wins_with_what_was_agreed(self, winner, codec):
        """Its 200 has no SDP: what holds is what its own early dialog came to."""
        self.says(winner, 200, sdp=False)
        ok = self.placed()
        assert ok.status == 200 and f"RTP/AVP {codec}\r\n" in ok.body, ok.body
        assert self.is_in(winner, self.pbx.expect("ACK"))
        self.end(winner)

    def end(self, tag):
        self.call.cseq += 50
        bye = background(self.call.bye)
        request = self.pbx.expect("BYE")
        assert self.is_in(tag, request)
        self.pbx.reply(request, 200)
        assert bye().status == 200
        self.kedge.no_calls()


@pytest.mark.parametrize("winner,codec", (("one", 0), ("two", 8)))
@pytest.mark.parametrize("headers", (KNOWS, REQUIRED), ids=("plain", "required"))
def test_reliable_descriptions_of_two_forks(stage, hosts, headers, winner, codec):
    """The 200 has no SDP: that of its own 18x holds. Who answers too is ended."""
    call = Forked(stage, hosts, headers)
    call.says("one", 183, 10)
    call.heard(0)
    call.says("two", 183, 10)
    call.heard(8)
    call.says("one", 180, 11, sdp=False)
    call.rings()
    call.says(winner, 200, sdp=False)
    ok = call.placed()
    assert ok.status == 200 and f"RTP/AVP {codec}\r\n" in ok.body, ok.body
    assert call.is_in(winner, call.pbx.expect("ACK"))
    loser = "two" if winner == "one" else "one"
    call.says(loser, 200, sdp=False)
    bye = call.pbx.expect("BYE")
    assert bye.tag("to") == loser
    call.pbx.reply(bye, 200)
    call.end(winner)


@pytest.mark.parametrize("winner,codec", (("two", 8), ("one", 0)), ids=("updated", "other"))
def test_update_in_one_early_dialog(stage, hosts, winner, codec):
    """It goes to the phone whose description holds. If another one answers, that one's own description is taken."""
    call = Forked(stage, hosts, REQUIRED)
    call.says("one", 183, 10)
    call.heard(0)
    call.says("two", 183, 20)
    call.heard(8)
    call.update("two")
    call.wins_with_what_was_agreed(winner, codec)


@pytest.mark.parametrize("winner,codec", (("one", 0), ("two", 8)), ids=("updated", "other"))
def test_update_of_a_phone_in_its_early_dialog(stage, hosts, winner, codec):
    """Of the phone that was not heard last: from then on it is the one whose description holds."""
    call = Forked(stage, hosts, REQUIRED)
    first = call.says("one", 183, 10)
    call.heard(0)
    call.says("two", 183, 20)
    call.heard(8)
    phone, call.pbx.user = call.phone, "one"
    phone.call_id, phone.target, phone.cseq = first.get("call-id"), call.invite.contact(), 50
    phone.local, phone.remote = first.get("to"), first.get("from")
    answer = background(phone.update, codecs=(0,), direction="sendonly")
    update = call.call.agent.expect("UPDATE")
    assert "RTP/AVP 0\r\n" in update.body and "a=sendonly" in update.body
    call.call.agent.reply(update, 200, call.call.body(codecs=(0,), direction="recvonly"))
    assert answer().status == 200 and answer().tag("from") == "one"
    call.says("two", 180, 21, sdp=False)
    call.rings()
    call.update("one")
    call.wins_with_what_was_agreed(winner, codec)


def test_a_reliable_18x_behind_the_answer_of_another_phone(stage, hosts):
    """It crosses our ACK: nobody waits for that phone any more, and the call is not disturbed."""
    call = Forked(stage, hosts, KNOWS)
    call.says("one", 200)
    assert call.placed().status == 200
    call.pbx.reply(call.invite, 183, call.phone.body(), reliable(5), tag="two")
    assert call.pbx.quiet("PRACK", 0.7) and len(call.kedge.calls()) == 1
    call.end("one")
