"""Reliable provisional responses (RFC 3262) of a call that a PBX forks: an early dialog for each phone, with numbers of its own, in
either direction. INVITEs of a PBX that forks have one Call-ID, From tag and CSeq; what tells their PRACKs apart is the To tag."""
import pytest

from interop.agent import Dialog, sdp, token
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
        self.branch = "z9hG4bK" + token()

    def send(self, body):
        text = self.ring.pbx.build("INVITE", self.phone.token, REQUIRED, body, call_id=self.ring.call_id, cseq=7, to=f"<sip:both@{DOMAIN}>",
                                   from_tag=self.ring.tag, branch=self.branch)
        self.ring.pbx.send(text)
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
        self.phone.reply(self.invite, status, body, reliable(rseq) if rseq else KNOWS)
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

    def answer(self):
        """Up to the PBX's ACK, and audio both ways."""
        self.there.answer(self.invite)
        ok = self.heard(200)
        self.enter(ok)
        self.here.request("ACK", send_only=True, cseq=ok.cseq[0])
        self.here._listen(ok)
        return ok

    def cancelled(self):
        """By the PBX, as it does where somebody else has answered."""
        text = "\r\n".join([f"CANCEL {self.phone.token} SIP/2.0", f"Via: SIP/2.0/UDP {self.ring.pbx.at};rport;branch={self.branch}",
                            "Max-Forwards: 70", "From: " + self.here.local, f"To: <sip:both@{DOMAIN}>", "Call-ID: " + self.ring.call_id,
                            "CSeq: 7 CANCEL", "Content-Length: 0", "", ""])
        self.ring.pbx.send(text)
        self.phone.reply(self.phone.expect("CANCEL"), 200)
        self.phone.reply(self.invite, 487)
        gone = self.heard(487)
        self.ring.pbx.send("\r\n".join([f"ACK {self.phone.token} SIP/2.0", f"Via: SIP/2.0/UDP {self.ring.pbx.at};branch={self.branch}",
                                        "From: " + gone.get("from"), "To: " + gone.get("to"), "Call-ID: " + self.ring.call_id,
                                        "CSeq: 7 ACK", "Content-Length: 0", "", ""]))


class Ring:
    """A PBX, played by hand, that rings two phones behind kedge with one call, and requires 100rel."""

    def __init__(self, stage, hosts, offers=True):
        self.stage = stage
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
    one.answer()
    assert two.prack(two.heard(183)).status == 200
    two.cancelled()
    assert one.here.rtp.got(ms=100) and one.there.rtp.got(ms=100)
    hang_up(one.here, one.there, ring.kedge)
